//! Sequences: definitions, and the values that sessions take from them.
//!
//! A sequence's value is a durable counter of the store, under a name made of its `storage_id`. It
//! counts *steps*: step 1 is the sequence's START. `setval` and RESTART set the counter; a sequence
//! that was altered keeps its counter and adjusts its base.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_catalog::{Descriptor, Relation, SequenceDesc};
use meridian_cluster::{Store, TableLockMode};
use meridian_sql::ast::DataType;
use meridian_sql::ddl::{Name, SequenceOptions};
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, PgType, Result, SqlState};
use parking_lot::Mutex;

use super::DdlContext;
use super::names::undefined_column;
use crate::catalog_store::kv;

fn invalid(text: impl Into<String>) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, text)
}

/// A descriptor from options; with `old`, what ALTER SEQUENCE makes of it.
pub(crate) fn describe(
    options: &SequenceOptions,
    default_type: PgType,
    old: Option<&SequenceDesc>,
    resolve: &dyn Fn(&DataType) -> Result<PgType>,
) -> Result<SequenceDesc> {
    let ty = match &options.data_type {
        Some(data_type) => PgType::new(resolve(data_type)?.oid),
        None => old.map_or(default_type, |o| o.ty),
    };
    let (type_min, type_max) = match ty.oid {
        oid::INT2 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        oid::INT4 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        oid::INT8 => (i64::MIN, i64::MAX),
        _ => return Err(invalid("sequence type must be smallint, integer, or bigint")),
    };
    let increment = options.increment.or(old.map(|o| o.increment)).unwrap_or(1);
    if increment == 0 {
        return Err(invalid("INCREMENT must not be zero"));
    }
    let up = increment > 0;
    let retyped = old.is_some_and(|o| o.ty != ty);
    let kept = |value: Option<i64>| value.filter(|_| !retyped);
    let min = match options.min {
        Some(given) => given,
        None => kept(old.map(|o| o.min)),
    };
    let max = match options.max {
        Some(given) => given,
        None => kept(old.map(|o| o.max)),
    };
    let min = min.unwrap_or(if up { 1 } else { type_min });
    let max = max.unwrap_or(if up { type_max } else { -1 });
    for (value, word) in [(max, "MAXVALUE"), (min, "MINVALUE")] {
        if value < type_min || value > type_max {
            let name = meridian_types::builtin::format_type(ty.oid, -1);
            return Err(invalid(format!(
                "{word} ({value}) is out of range for sequence data type {name}"
            )));
        }
    }
    if min >= max {
        return Err(invalid(format!("MINVALUE ({min}) must be less than MAXVALUE ({max})")));
    }
    let start = options.start.or(old.map(|o| o.start)).unwrap_or(if up { min } else { max });
    if start < min {
        return Err(invalid(format!("START value ({start}) cannot be less than MINVALUE ({min})")));
    }
    if start > max {
        return Err(invalid(format!(
            "START value ({start}) cannot be greater than MAXVALUE ({max})"
        )));
    }
    let cache = options.cache.or(old.map(|o| o.cache)).unwrap_or(1);
    if cache < 1 {
        return Err(invalid(format!("CACHE ({cache}) must be greater than zero")));
    }
    let base = old.cloned().unwrap_or(SequenceDesc {
        oid: 0,
        database: 0,
        schema: 0,
        name: String::new(),
        owner: 0,
        storage_id: 0,
        ty,
        start,
        increment,
        min,
        max,
        cache,
        cycle: false,
        owned_by: None,
        temp_session: None,
        acl: Vec::new(),
        comment: None,
    });
    let cycle = options.cycle.unwrap_or(base.cycle);
    Ok(SequenceDesc { ty, start, increment, min, max, cache, cycle, ..base })
}

impl DdlContext<'_> {
    pub(super) async fn create_sequence(
        &mut self,
        name: &Name,
        temp: bool,
        if_not_exists: bool,
        options: &SequenceOptions,
    ) -> Result<&'static str> {
        let schema = self.creation_schema(name, temp).await?;
        if !self.claim_name(schema, &name.name, if_not_exists).await? {
            return Ok("CREATE SEQUENCE");
        }
        let resolve = |d: &DataType| super::types::resolve_type(&self.view(), d);
        let mut desc = describe(options, PgType::new(oid::INT8), None, &resolve)?;
        desc.oid = self.oids(1).await?;
        desc.storage_id = desc.oid;
        desc.database = self.identity.database;
        desc.schema = schema;
        desc.name.clone_from(&name.name);
        desc.owner = self.identity.user;
        desc.temp_session = self.temp_session(schema);
        desc.owned_by = self.owned_by(options)?.unwrap_or_default();
        self.overlay.put(Descriptor::Sequence(desc.into()));
        Ok("CREATE SEQUENCE")
    }

    fn owned_by(&self, options: &SequenceOptions) -> Result<Option<Option<(Oid, i16)>>> {
        match &options.owned_by {
            None => Ok(None),
            Some(None) => Ok(Some(None)),
            Some(Some((table, column))) => {
                let Relation::Table(table) = self.relation(table)? else {
                    let text = format!("sequence cannot be owned by relation \"{}\"", table.name);
                    return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text));
                };
                let found = table.column_by_name(column);
                let attnum =
                    found.map(|c| c.attnum).ok_or_else(|| undefined_column(&table.name, column))?;
                Ok(Some(Some((table.oid, attnum))))
            }
        }
    }

    pub(super) async fn alter_sequence(
        &mut self,
        name: &Name,
        if_exists: bool,
        options: &SequenceOptions,
    ) -> Result<&'static str> {
        let mode = TableLockMode::ShareRowExclusive;
        let Some(relation) = self.locked_relation(name, if_exists, mode).await? else {
            return Ok("ALTER SEQUENCE");
        };
        let Relation::Sequence(old) = relation else {
            let text = format!("\"{}\" is not a sequence", name.name);
            return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text));
        };
        self.change_sequence(&old, options).await?;
        Ok("ALTER SEQUENCE")
    }

    /// Applies options to a sequence that exists.
    pub(crate) async fn change_sequence(
        &mut self,
        old: &Arc<SequenceDesc>,
        options: &SequenceOptions,
    ) -> Result<()> {
        let resolve = |d: &DataType| super::types::resolve_type(&self.view(), d);
        let mut new = describe(options, old.ty, Some(old), &resolve)?;
        if let Some(owned_by) = self.owned_by(options)? {
            new.owned_by = owned_by;
        }
        let store = Arc::clone(self.node().store());
        let restart = options.restart.map(|value| value.unwrap_or(new.start));
        if let Some(value) = restart {
            if value < new.min || value > new.max {
                let (word, bound) = if value < new.min {
                    ("less than MINVALUE", new.min)
                } else {
                    ("greater than MAXVALUE", new.max)
                };
                return Err(invalid(format!("RESTART value ({value}) cannot be {word} ({bound})")));
            }
            // New storage, so that a rollback leaves the old value.
            new.storage_id = self.oids(1).await?;
            Position::before(value).save(&store, new.storage_id).await?;
        } else if new.increment != old.increment || new.start != old.start {
            let at = Position::load(&store, old).await?;
            new.storage_id = self.oids(1).await?;
            at.save(&store, new.storage_id).await?;
        }
        self.overlay.put(Descriptor::Sequence(new.into()));
        Ok(())
    }
}

/// Where a sequence stands: its last value, and whether that was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// `last_value`
    pub last: i64,
    /// `is_called`
    pub called: bool,
}

fn value_key(storage_id: u32) -> Vec<u8> {
    [b"seq".as_slice(), &storage_id.to_be_bytes()].concat()
}

fn state_key(storage_id: u32) -> Vec<u8> {
    [b"seqc".as_slice(), &storage_id.to_be_bytes()].concat()
}

impl Position {
    /// The next value is this one.
    pub(crate) fn before(value: i64) -> Position {
        Position { last: value, called: false }
    }

    /// Reads where a sequence stands.
    pub async fn load(store: &Store, sequence: &SequenceDesc) -> Result<Position> {
        let state = store.increment(&state_key(sequence.storage_id), 0).await.map_err(kv)?;
        if state == 0 {
            return Ok(Position::before(sequence.start));
        }
        let last = store.increment(&value_key(sequence.storage_id), 0).await.map_err(kv)?;
        Ok(Position { last, called: state == 2 })
    }

    /// Writes where a sequence stands.
    pub(crate) async fn save(self, store: &Store, storage_id: u32) -> Result<()> {
        store.set_counter(&value_key(storage_id), self.last).await.map_err(kv)?;
        let state = if self.called { 2 } else { 1 };
        store.set_counter(&state_key(storage_id), state).await.map_err(kv)
    }
}

/// What a session remembers of the sequences it has used.
#[derive(Debug, Default)]
pub struct SequenceState {
    current: Mutex<(BTreeMap<Oid, i64>, Option<Oid>)>,
}

/// One step at a time per process: `called` and the value belong together.
static STEP: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl SequenceState {
    /// `nextval`
    pub async fn next(&self, store: &Store, sequence: &SequenceDesc) -> Result<i64> {
        let value = self.step(store, sequence).await?;
        let mut current = self.current.lock();
        current.0.insert(sequence.oid, value);
        current.1 = Some(sequence.oid);
        Ok(value)
    }

    async fn step(&self, store: &Store, sequence: &SequenceDesc) -> Result<i64> {
        let _guard = STEP.lock().await;
        let at = Position::load(store, sequence).await?;
        if !at.called {
            Position { last: at.last, called: true }.save(store, sequence.storage_id).await?;
            return Ok(at.last);
        }
        let next = at.last.checked_add(sequence.increment);
        if let Some(next) = next.filter(|n| (sequence.min..=sequence.max).contains(n)) {
            let key = value_key(sequence.storage_id);
            store.increment(&key, sequence.increment).await.map_err(kv)?;
            return Ok(next);
        }
        let up = sequence.increment > 0;
        if !sequence.cycle {
            let (word, bound) =
                if up { ("maximum", sequence.max) } else { ("minimum", sequence.min) };
            return Err(PgError::new(
                SqlState::from_code("2200H"),
                format!(
                    "nextval: reached {word} value of sequence \"{}\" ({bound})",
                    sequence.name
                ),
            ));
        }
        let value = if up { sequence.min } else { sequence.max };
        Position { last: value, called: true }.save(store, sequence.storage_id).await?;
        Ok(value)
    }

    /// DISCARD SEQUENCES
    pub fn clear(&self) {
        *self.current.lock() = (BTreeMap::new(), None);
    }

    /// `currval`
    pub fn current(&self, sequence: &SequenceDesc) -> Result<i64> {
        self.current.lock().0.get(&sequence.oid).copied().ok_or_else(|| {
            PgError::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!(
                    "currval of sequence \"{}\" is not yet defined in this session",
                    sequence.name
                ),
            )
        })
    }

    /// `lastval`
    pub fn last(&self) -> Result<(Oid, i64)> {
        let current = self.current.lock();
        let found = current.1.and_then(|oid| Some((oid, *current.0.get(&oid)?)));
        found.ok_or_else(|| {
            PgError::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "lastval is not yet defined in this session",
            )
        })
    }

    /// `setval`
    pub async fn set(
        &self,
        store: &Store,
        sequence: &SequenceDesc,
        value: i64,
        called: bool,
    ) -> Result<()> {
        if !(sequence.min..=sequence.max).contains(&value) {
            return Err(PgError::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                format!(
                    "setval: value {value} is out of bounds for sequence \"{}\" ({}..{})",
                    sequence.name, sequence.min, sequence.max
                ),
            ));
        }
        let _guard = STEP.lock().await;
        Position { last: value, called }.save(store, sequence.storage_id).await?;
        if called {
            self.current.lock().0.insert(sequence.oid, value);
        }
        Ok(())
    }

    /// DISCARD SEQUENCES
    pub fn discard(&self) {
        *self.current.lock() = (BTreeMap::new(), None);
    }
}
