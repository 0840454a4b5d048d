//! TRUNCATE, COMMENT, ANALYZE.

use std::sync::Arc;

use meridian_catalog::{
    DatabaseDesc, Descriptor, Relation, SchemaDesc, SequenceDesc, TableDesc, ViewDesc,
};
use meridian_cluster::TableLockMode;
use meridian_sql::ddl::{Name, ObjectKind, SequenceOptions};
use meridian_types::{Datum, PgError, Result, SqlState};

use super::DdlContext;
use super::internal::Item;
use super::names::{undefined_column, undefined_schema};
use crate::error::ExecError;

impl DdlContext<'_> {
    pub(super) async fn truncate(
        &mut self,
        names: &[Name],
        restart_identity: bool,
        cascade: bool,
    ) -> Result<&'static str> {
        let mut tables: Vec<Arc<TableDesc>> = Vec::new();
        for name in names {
            let mode = TableLockMode::AccessExclusive;
            if let Some(table) = self.truncatable(name, mode).await?
                && tables.iter().all(|t| t.oid != table.oid)
            {
                tables.push(table);
            }
        }
        let mut at = 0;
        while at < tables.len() {
            let oid = tables[at].oid;
            let referencing: Vec<Arc<TableDesc>> =
                self.catalog().referencing_tables(oid).cloned().collect();
            for other in referencing {
                if tables.iter().any(|t| t.oid == other.oid) {
                    continue;
                }
                if !cascade {
                    let text = "cannot truncate a table referenced in a foreign key constraint";
                    let detail =
                        format!("Table \"{}\" references \"{}\".", other.name, tables[at].name);
                    let hint = format!(
                        "Truncate table \"{}\" at the same time, or use TRUNCATE ... CASCADE.",
                        other.name
                    );
                    return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, text)
                        .detail(detail)
                        .hint(hint));
                }
                self.lock_table(other.oid, TableLockMode::AccessExclusive).await?;
                let text = format!("truncate cascades to table \"{}\"", other.name);
                self.notice(SqlState::from_code("00000"), text);
                tables.push(self.table_now(other.oid)?);
            }
            at += 1;
        }
        for table in tables {
            let mut table = TableDesc::clone(&*self.table_now(table.oid)?);
            table.storage_id = self.oids(1).await?;
            table.row_estimate = None;
            let table = self.put_table(table);
            if restart_identity {
                let owned: Vec<Arc<SequenceDesc>> = table
                    .columns
                    .iter()
                    .filter_map(|c| self.catalog().sequence(c.sequence?).cloned())
                    .collect();
                for sequence in owned {
                    let options =
                        SequenceOptions { restart: Some(None), ..SequenceOptions::default() };
                    self.change_sequence(&sequence, &options).await?;
                }
            }
        }
        Ok("TRUNCATE TABLE")
    }

    async fn truncatable(
        &mut self,
        name: &Name,
        mode: TableLockMode,
    ) -> Result<Option<Arc<TableDesc>>> {
        let relation = self.relation(name)?;
        if let Relation::Table(table) = &relation
            && !self.owns(table.owner)
            && !self.has_privilege(table, 'D')
        {
            let text = format!("permission denied for table {}", table.name);
            return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
        }
        match relation {
            Relation::Table(table) => {
                self.lock_table(table.oid, mode).await?;
                Ok(self.catalog().table(table.oid).cloned())
            }
            other => {
                let text = format!("\"{}\" is not a table", other.name());
                Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text))
            }
        }
    }

    fn has_privilege(&self, table: &Arc<TableDesc>, letter: char) -> bool {
        crate::virtuals::privileges::table_privilege(
            self.catalog(),
            self.identity.user,
            table,
            letter,
        )
    }

    pub(super) async fn comment(
        &mut self,
        kind: ObjectKind,
        name: &Name,
        sub: Option<&str>,
        text: Option<String>,
    ) -> Result<&'static str> {
        match kind {
            ObjectKind::Schema => {
                let database = self.identity.database;
                let found = self.catalog().schema_by_name(database, &name.name).cloned();
                let old = found.ok_or_else(|| undefined_schema(&name.name))?;
                let new = SchemaDesc { comment: text, ..SchemaDesc::clone(&old) };
                self.overlay.put(Descriptor::Schema(new.into()));
            }
            ObjectKind::Database => {
                let found = self.catalog().database_by_name(&name.name).cloned();
                let Some(old) = found else {
                    let text = format!("database \"{}\" does not exist", name.name);
                    return Err(PgError::new(SqlState::INVALID_CATALOG_NAME, text));
                };
                let new = DatabaseDesc { comment: text, ..DatabaseDesc::clone(&old) };
                self.overlay.put(Descriptor::Database(new.into()));
            }
            ObjectKind::Role => {
                self.role_oid(&name.name)?;
                return Err(PgError::unsupported("COMMENT ON ROLE is not supported yet"));
            }
            _ => {
                let mode = TableLockMode::ShareUpdateExclusive;
                let relation = self.locked_relation(name, false, mode).await?;
                if let Some(relation) = relation {
                    self.comment_relation(kind, &relation, sub, text)?;
                }
            }
        }
        Ok("COMMENT")
    }

    fn comment_relation(
        &mut self,
        kind: ObjectKind,
        relation: &Relation,
        sub: Option<&str>,
        text: Option<String>,
    ) -> Result<()> {
        let word = super::names::kind_word(relation);
        if sub.is_none() && kind.word() != word {
            let article = if kind == ObjectKind::Index { "an" } else { "a" };
            let text = format!("\"{}\" is not {article} {}", relation.name(), kind.word());
            return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text));
        }
        match relation {
            Relation::Table(old) => {
                let mut table = TableDesc::clone(old);
                match (kind, sub) {
                    (ObjectKind::Column, Some(column)) => {
                        let found = table
                            .columns
                            .iter_mut()
                            .find(|c| c.name == column && !c.dropped && !c.hidden);
                        let found = found.ok_or_else(|| undefined_column(&old.name, column))?;
                        found.comment = text;
                    }
                    (ObjectKind::Constraint, Some(name)) => {
                        let found = table.constraints.iter_mut().find(|c| c.name == name);
                        let missing = || {
                            let text = format!(
                                "constraint \"{name}\" for table \"{}\" does not exist",
                                old.name
                            );
                            PgError::new(SqlState::UNDEFINED_OBJECT, text)
                        };
                        found.ok_or_else(missing)?.comment = text;
                    }
                    _ => table.comment = text,
                }
                self.put_table(table);
            }
            Relation::Index(table, index_id) => {
                let mut table = TableDesc::clone(&*self.table_now(table.oid)?);
                if let Some(index) = table.indexes.iter_mut().find(|i| i.index_id == *index_id) {
                    index.comment = text;
                }
                self.put_table(table);
            }
            Relation::View(old) if sub.is_none() => {
                let new = ViewDesc { comment: text, ..ViewDesc::clone(old) };
                self.overlay.put(Descriptor::View(new.into()));
            }
            Relation::Sequence(old) if sub.is_none() => {
                let new = SequenceDesc { comment: text, ..SequenceDesc::clone(old) };
                self.overlay.put(Descriptor::Sequence(new.into()));
            }
            _ => {
                return Err(PgError::unsupported(
                    "comments on columns of this kind of relation are not supported yet",
                ));
            }
        }
        Ok(())
    }

    /// Locks a table for VACUUM or ANALYZE; one of somebody else's is left out with a warning.
    pub(super) async fn table_to_tend(
        &mut self,
        name: &Name,
        word: &str,
    ) -> Result<Option<Arc<TableDesc>>> {
        let Relation::Table(table) = self.relation(name)? else { return Ok(None) };
        if !self.owns(table.owner) {
            let text = format!(
                "skipping \"{}\" --- only table or database owner can {word} it",
                table.name
            );
            self.notice(SqlState::from_code("01000"), text);
            return Ok(None);
        }
        self.lock_table(table.oid, TableLockMode::ShareUpdateExclusive).await?;
        Ok(Some(table))
    }

    pub(super) async fn analyze(
        &mut self,
        tag: &'static str,
        names: &[Name],
    ) -> Result<&'static str, ExecError> {
        let mut tables = Vec::new();
        for name in names {
            let word = if tag == "VACUUM" { "vacuum" } else { "analyze" };
            tables.extend(self.table_to_tend(name, word).await?);
        }
        if names.is_empty() {
            let database = self.identity.database;
            let own = |r: &Relation| match r {
                Relation::Table(t) if t.database == database && self.owns(t.owner) => {
                    Some(Arc::clone(t))
                }
                _ => None,
            };
            tables = self.catalog().relations().filter_map(own).collect();
        }
        for table in tables {
            self.lock_table(table.oid, TableLockMode::ShareUpdateExclusive).await?;
            let Some(table) = self.catalog().table(table.oid).cloned() else { continue };
            let query = self.table_query(&table, &[Item::Key], &[])?;
            let mut rows = self.run_query(query).await?;
            let mut count = 0_usize;
            while let Some(batch) = rows.next(self.txn).await? {
                count += batch.iter().filter(|r: &&Vec<Datum>| !r.is_empty()).count();
            }
            let mut table = TableDesc::clone(&table);
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let estimate = count as f64;
            table.row_estimate = Some(estimate);
            self.put_table(table);
        }
        Ok(tag)
    }
}
