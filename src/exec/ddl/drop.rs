//! DROP.

use std::sync::Arc;

use meridian_catalog::{Descriptor, Relation, TableDesc};
use meridian_cluster::TableLockMode;
use meridian_sql::ddl::{Name, ObjectKind};
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result, SqlState};

use super::DdlContext;
use super::depend::Dependent;
use super::names::{kind_word, undefined_schema};

fn matches_kind(kind: ObjectKind, relation: &Relation) -> bool {
    kind.word() == kind_word(relation)
}

/// 42809 with the statement that would have been right.
fn wrong_kind(kind: ObjectKind, relation: &Relation) -> PgError {
    let article = if kind == ObjectKind::Index { "an" } else { "a" };
    let text = format!("\"{}\" is not {article} {}", relation.name(), kind.word());
    let right = kind_word(relation);
    let article = if right == "index" { "an" } else { "a" };
    PgError::new(SqlState::WRONG_OBJECT_TYPE, text)
        .hint(format!("Use DROP {} to remove {article} {right}.", right.to_uppercase()))
}

impl DdlContext<'_> {
    pub(super) async fn drop_objects(
        &mut self,
        kind: ObjectKind,
        names: &[Name],
        if_exists: bool,
        cascade: bool,
    ) -> Result<&'static str> {
        let tag = match kind {
            ObjectKind::Table => "DROP TABLE",
            ObjectKind::Index => "DROP INDEX",
            ObjectKind::Sequence => "DROP SEQUENCE",
            ObjectKind::View => "DROP VIEW",
            ObjectKind::Schema => return self.drop_schemas(names, if_exists, cascade).await,
            _ => return self.drop_unknown(kind, names, if_exists),
        };
        let mut found = Vec::new();
        for name in names {
            if let Some(relation) = self.droppable(kind, name, if_exists).await? {
                found.push(relation);
            }
        }
        if kind == ObjectKind::Index {
            for relation in found {
                self.drop_index(&relation, cascade)?;
            }
            return Ok(tag);
        }
        let dependents = self.closure(&found);
        let what = match &found[..] {
            [one] => self.shown(one),
            _ => "desired object(s)".to_owned(),
        };
        self.settle(&what, &dependents, cascade)?;
        for (dependent, _) in dependents {
            self.remove_dependent(&dependent);
        }
        for relation in found {
            self.remove_relation(&relation);
        }
        Ok(tag)
    }

    /// Kinds of objects that can't exist yet: IF EXISTS is fulfilled, else 42704.
    fn drop_unknown(
        &mut self,
        kind: ObjectKind,
        names: &[Name],
        if_exists: bool,
    ) -> Result<&'static str> {
        for name in names {
            let word = kind.word();
            let text = format!("{word} \"{name}\" does not exist");
            if !if_exists {
                let state = match kind {
                    ObjectKind::MaterializedView => SqlState::UNDEFINED_TABLE,
                    _ => SqlState::UNDEFINED_OBJECT,
                };
                return Err(PgError::new(state, text));
            }
            self.notice(SqlState::from_code("00000"), format!("{text}, skipping"));
        }
        Ok(match kind {
            ObjectKind::MaterializedView => "DROP MATERIALIZED VIEW",
            ObjectKind::Other("extension") => "DROP EXTENSION",
            ObjectKind::Other("collation") => "DROP COLLATION",
            _ => "DROP TYPE",
        })
    }

    async fn droppable(
        &mut self,
        kind: ObjectKind,
        name: &Name,
        if_exists: bool,
    ) -> Result<Option<Relation>> {
        loop {
            let view = self.view();
            let found = view.catalog.lookup(&view.path, name.schema.as_deref(), &name.name);
            let Some(relation) = found else {
                let schema_gone = name
                    .schema
                    .as_deref()
                    .filter(|s| view.catalog.named_schema(&view.path, s).is_none());
                let error = match schema_gone {
                    Some(schema) => undefined_schema(schema),
                    None => {
                        let state = match kind {
                            ObjectKind::Index => SqlState::UNDEFINED_OBJECT,
                            _ => SqlState::UNDEFINED_TABLE,
                        };
                        PgError::new(state, format!("{} \"{name}\" does not exist", kind.word()))
                    }
                };
                if !if_exists {
                    return Err(error);
                }
                let text = format!("{}, skipping", error.fields().message);
                self.notice(SqlState::from_code("00000"), text);
                return Ok(None);
            };
            if !matches_kind(kind, &relation) {
                return Err(wrong_kind(kind, &relation));
            }
            self.must_own(&relation)?;
            let locked = match &relation {
                Relation::Index(table, _) => table.oid,
                other => other.oid(),
            };
            self.lock_table(locked, TableLockMode::AccessExclusive).await?;
            let again = self.relation(name).ok();
            if again.as_ref().is_some_and(|r| r.oid() == relation.oid()) {
                return Ok(again);
            }
        }
    }

    fn drop_index(&mut self, relation: &Relation, cascade: bool) -> Result<()> {
        let Relation::Index(table, index_id) = relation else { return Ok(()) };
        let mut table = TableDesc::clone(&*self.table_now(table.oid)?);
        let Some(index) = table.index(*index_id).cloned() else { return Ok(()) };
        let owner = table.constraints.iter().find(|c| {
            use meridian_catalog::ConstraintKind::{PrimaryKey, Unique};
            matches!(c.kind, PrimaryKey { index_id: i } | Unique { index_id: i } if i == *index_id)
        });
        if let Some(owner) = owner {
            let on = self.shown(&Relation::Table(table.clone().into()));
            let text = format!(
                "cannot drop index {} because constraint {} on {on} requires it",
                index.name, owner.name
            );
            return Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, text)
                .hint(format!("You can drop constraint {} on {on} instead.", owner.name)));
        }
        let keys = self.foreign_keys_by(&table, *index_id);
        let what = format!("index {}", index.name);
        self.settle(&what, &keys, cascade)?;
        for (dependent, _) in keys {
            self.remove_dependent(&dependent);
        }
        table.indexes.retain(|i| i.index_id != *index_id);
        self.put_table(table);
        Ok(())
    }

    /// Foreign keys that rely on this index of the table.
    pub(crate) fn foreign_keys_by(
        &self,
        table: &TableDesc,
        index_id: u16,
    ) -> Vec<(Dependent, String)> {
        use meridian_catalog::ConstraintKind::ForeignKey;
        let mut out = Vec::new();
        let name = table.index(index_id).map_or("", |i| i.name.as_str());
        for other in self.catalog().referencing_tables(table.oid) {
            for constraint in &other.constraints {
                if matches!(constraint.kind, ForeignKey { ref_table, ref_index_id, .. }
                    if ref_table == table.oid && ref_index_id == index_id)
                {
                    let key = Dependent::ForeignKey(Arc::clone(other), constraint.name.clone());
                    out.push((key, format!("index {name}")));
                }
            }
        }
        out
    }

    /// Removes what went with something else.
    pub(crate) fn remove_dependent(&mut self, dependent: &Dependent) {
        match dependent {
            Dependent::View(view) => self.remove_relation(&Relation::View(Arc::clone(view))),
            Dependent::Relation(relation) => self.remove_relation(relation),
            Dependent::ForeignKey(table, name) => {
                if let Ok(table) = self.table_now(table.oid) {
                    let mut table = TableDesc::clone(&table);
                    table.constraints.retain(|c| c.name != *name);
                    self.put_table(table);
                }
            }
            Dependent::Default(table, attnum) => {
                if let Ok(table) = self.table_now(table.oid) {
                    let mut table = TableDesc::clone(&table);
                    let at = usize::try_from(*attnum - 1).unwrap_or(0);
                    table.columns[at].default = None;
                    table.columns[at].sequence = None;
                    self.put_table(table);
                }
            }
        }
    }

    /// Removes a relation with what belongs to it. Its rows become unreachable.
    pub(crate) fn remove_relation(&mut self, relation: &Relation) {
        match relation {
            Relation::Table(table) => {
                let owned: Vec<Relation> = self
                    .catalog()
                    .relations()
                    .filter(|r| {
                        matches!(r, Relation::Sequence(s)
                        if s.owned_by.is_some_and(|(owner, _)| owner == table.oid))
                    })
                    .cloned()
                    .collect();
                self.overlay.remove(Descriptor::Table(Arc::clone(table)).id());
                for sequence in owned {
                    self.remove_relation(&sequence);
                }
            }
            Relation::Sequence(sequence) => {
                self.overlay.remove(Descriptor::Sequence(Arc::clone(sequence)).id());
            }
            Relation::View(view) => {
                self.overlay.remove(Descriptor::View(Arc::clone(view)).id());
            }
            Relation::Virtual(_) | Relation::Index(..) => {}
        }
    }

    async fn drop_schemas(
        &mut self,
        names: &[Name],
        if_exists: bool,
        cascade: bool,
    ) -> Result<&'static str> {
        for name in names {
            let database = self.identity.database;
            let Some(schema) = self.catalog().schema_by_name(database, &name.name).cloned() else {
                let error = undefined_schema(&name.name);
                if !if_exists {
                    return Err(error);
                }
                let text = format!("{}, skipping", error.fields().message);
                self.notice(SqlState::from_code("00000"), text);
                continue;
            };
            if schema.database == meridian_catalog::builtin::EVERY_DATABASE {
                let text = format!(
                    "cannot drop schema {} because it is required by the database system",
                    schema.name
                );
                return Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, text));
            }
            let own_temp = self.temp_session(schema.oid).is_some();
            if !own_temp && !self.owns(schema.owner) {
                let text = format!("must be owner of schema {}", schema.name);
                return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
            }
            self.lock_name(database, &schema.name).await?;
            let inside = self.schema_members(schema.oid);
            for relation in &inside {
                self.lock_table(relation.oid(), TableLockMode::AccessExclusive).await?;
            }
            let on = format!("schema {}", schema.name);
            let mut dependents: Vec<(Dependent, String)> =
                inside.iter().map(|r| (Dependent::Relation(r.clone()), on.clone())).collect();
            for (dependent, by) in self.closure(&inside) {
                dependents.push((dependent, by));
            }
            self.settle(&on, &dependents, cascade)?;
            for (dependent, _) in dependents {
                self.remove_dependent(&dependent);
            }
            self.overlay.remove(Descriptor::Schema(schema).id());
        }
        Ok("DROP SCHEMA")
    }

    /// Relations of a schema that stand for themselves, by oid.
    fn schema_members(&self, schema: Oid) -> Vec<Relation> {
        let mut inside: Vec<Relation> = self
            .catalog()
            .relations_in(schema)
            .filter(|r| match r {
                Relation::Index(..) => false,
                Relation::Sequence(s) => s.owned_by.is_none(),
                _ => true,
            })
            .cloned()
            .collect();
        inside.sort_by_key(Relation::oid);
        inside
    }
}
