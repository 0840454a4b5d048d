//! ALTER TABLE … SPLIT AT VALUES, and the same of an index: has a range begin at a key.

use std::sync::Arc;

use meridian_catalog::{IndexCodec, Relation, TableDesc};
use meridian_cluster::{KvError, TableLockMode};
use meridian_exec::virtuals::KeyNames;
use meridian_exec::{evaluate, from_kv};
use meridian_sql::bind::{Binder, Clause};
use meridian_sql::parse::Source;
use meridian_sql::parse::statement::SplitAt;
use meridian_sql::resolve::CoercionContext;
use meridian_types::{Datum, PgError, PgType, Result, SqlState, oid};

use crate::Fault;
use crate::block::refuses_block;
use crate::client::{Client, ResultColumn};
use crate::extended::with_formats;
use crate::output;
use crate::run::no_transaction;
use crate::session::Session;
use crate::statements::PreparedStatement;

/// The key of each split, as bytes and for people.
pub(crate) fn columns() -> Arc<[ResultColumn]> {
    let column = |name: &str, ty| ResultColumn {
        name: name.into(),
        ty: PgType::new(ty),
        origin: None,
        binary: false,
    };
    [column("key", oid::BYTEA), column("pretty", oid::TEXT)].into()
}

/// A range that can't be split now is no reason to end the session.
pub(crate) fn refused(error: KvError) -> PgError {
    match error {
        KvError::Unavailable { reason } => {
            PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, reason)
        }
        other => from_kv(other),
    }
}

/// What is split: a table and one of its indexes.
type Target = (Arc<TableDesc>, u16);

impl Session {
    /// Splits at all keys, one after the other; those that are done stay when one fails.
    pub(crate) async fn split<C: Client>(
        &mut self,
        outer: &PreparedStatement,
        split: &SplitAt,
        several: bool,
        formats: &[i16],
        client: &mut C,
    ) -> Result<String, Fault> {
        let tag = if split.index { "ALTER INDEX" } else { "ALTER TABLE" };
        if self.block.is_explicit() || several {
            return Err(refuses_block(&format!("{tag} SPLIT AT")).into());
        }
        let source = Source { text: Arc::clone(&outer.text), visible: true };
        let (table, index) = self.lock_split(split, &source).await?;
        let keys = self.split_keys(split, &source, &(table, index))?;
        let view = self.view();
        let eval = self.eval();
        let names = KeyNames::new(&view, &eval);
        let columns = with_formats(&columns(), formats);
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            rows.push(vec![Datum::Bytea(key.clone().into()), Datum::text(names.pretty(&key))]);
            self.node.store().split_at(key.into()).await.map_err(refused)?;
        }
        if self.shared.simple() {
            client.row_description(&columns);
        }
        for row in &rows {
            output::put_row(client.buffer(), row, &columns, &eval)?;
        }
        Ok(tag.to_owned())
    }

    /// Finds the table, and has it stay as it is.
    async fn lock_split(&mut self, split: &SplitAt, source: &Source) -> Result<Target> {
        loop {
            let found = self.find_split(split, source)?;
            let txn = self.block.txn.as_mut().ok_or_else(no_transaction)?;
            let locked = txn.lock_table(found.0.oid, TableLockMode::AccessShare, false).await;
            locked.map_err(from_kv)?;
            let again = self.find_split(split, source)?;
            if Arc::ptr_eq(&again.0, &found.0) {
                return Ok(found);
            }
        }
    }

    fn find_split(&mut self, split: &SplitAt, source: &Source) -> Result<Target> {
        let (schema, name) = crate::copy::split_name(&split.name)?;
        let view = self.view();
        let wrong = |what: &str| {
            let text = format!("\"{name}\" is not {what}");
            Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text))
        };
        let found = match view.catalog.lookup(&view.path, schema.as_deref(), &name) {
            Some(Relation::Table(table)) if !split.index => {
                let primary = table.primary().index_id;
                (table, primary)
            }
            Some(Relation::Index(table, id)) if split.index => (table, id),
            Some(_) => return wrong(if split.index { "an index" } else { "a table" }),
            None => {
                let shown = schema.map_or_else(|| name.clone(), |s| format!("{s}.{name}"));
                let text = format!("relation \"{shown}\" does not exist");
                let at = source.position(split.span.start);
                return Err(PgError::new(SqlState::UNDEFINED_TABLE, text).at(at));
            }
        };
        if !view.catalog.is_member(view.identity.user, found.0.owner) {
            let text = format!("must be owner of table {}", found.0.name);
            return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
        }
        Ok(found)
    }

    /// The keys that the values stand for.
    fn split_keys(
        &mut self,
        split: &SplitAt,
        source: &Source,
        (table, index_id): &Target,
    ) -> Result<Vec<Vec<u8>>> {
        let (view, eval) = (self.view(), self.eval());
        let mut binder = Binder::new(&*view, &eval, source, &[], false);
        let index = table.index(*index_id);
        let index = index.ok_or_else(|| PgError::internal("an index has no descriptor"))?;
        let codec = IndexCodec::new(table, index);
        let mut keys = Vec::with_capacity(split.rows.len());
        for row in &split.rows {
            if let Some(extra) = row.get(codec.len()) {
                let text =
                    format!("SPLIT AT has more expressions than key columns ({})", codec.len());
                let at = binder.position(extra);
                return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(at));
            }
            let mut values = Vec::with_capacity(row.len());
            for (expr, column) in row.iter().zip(&index.columns) {
                let at = binder.position(expr);
                let bound = binder.bind_expr(expr, Clause::Values)?;
                let bound = binder.coerce_to(bound, column.ty, CoercionContext::Assignment, at)?;
                let value = evaluate(&bound, &eval)?;
                if value.is_null() && index.primary {
                    let text = "SPLIT AT of a primary key does not take NULL";
                    return Err(PgError::new(SqlState::NULL_VALUE_NOT_ALLOWED, text).at(at));
                }
                values.push(value);
            }
            keys.push(codec.key(&values)?);
        }
        Ok(keys)
    }
}
