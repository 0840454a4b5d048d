//! Statements that change the catalog.
//!
//! A statement works on the transaction's [`Overlay`]: it takes locks, looks its names up again
//! (a lock may have been waited for), changes descriptors, moves rows where it must, and at its end
//! writes the changed descriptors into the transaction. Rows are moved by building new storage (a
//! new `storage_id` or `index_id`), so that nothing has to be undone when it fails.

mod alter;
mod alter_column;
mod constraints;
mod create_index;
mod create_table;
mod create_table_as;
mod database;
mod depend;
mod drop;
pub(crate) mod expressions;
mod fill;
mod grant;
mod internal;
mod misc;
mod names;
mod rename;
mod role;
mod schema;
mod scram;
pub(crate) mod sequence;
#[cfg(test)]
mod tests;
mod types;
mod view;

use std::sync::Arc;

use meridian_catalog::{Catalog, Descriptor, Overlay, Relation, SchemaDesc, TableDesc};
use meridian_cluster::{TableLockMode, Txn};
use meridian_sql::ddl::{Ddl, Name, TextSpan};
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result, SqlState};

use crate::catalog_store::{self, SessionCatalog, SessionIdentity, kv};
use crate::context::{Node, StatementContext};
use crate::error::ExecError;

pub(crate) use grant::{PUBLIC_ROLE, privilege_letter};
pub(crate) use names::kind_word;
pub use sequence::{Position, SequenceState};
pub(crate) use types::resolve_type;

/// What a DDL statement runs with.
pub struct DdlContext<'a> {
    /// Node, settings, parameters, backend. Its catalog is replaced by the overlay's.
    pub statement: Arc<StatementContext>,
    /// The transaction.
    pub txn: &'a mut Txn,
    /// The transaction's catalog. After an error the caller puts back the one from before.
    pub overlay: &'a mut Overlay,
    /// The session.
    pub identity: Arc<SessionIdentity>,
    /// The text that the statement was parsed from.
    pub text: &'a str,
    /// The query of `CREATE TABLE … AS EXECUTE`; its parameters are the statement's.
    pub execute: Option<Box<meridian_sql::plan::Query>>,
    /// Notices for the client: the state says how they are marked (`01…` is a warning).
    pub notices: &'a mut Vec<PgError>,
    /// The statement stands in a transaction block.
    pub in_block: bool,
}

impl std::fmt::Debug for DdlContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DdlContext")
    }
}

/// The role whose members may do CHECKPOINT.
const PG_CHECKPOINT: meridian_types::oid::Oid = 4544;

/// Runs a statement; the answer is its command tag.
pub async fn execute(ddl: &Ddl, mut cx: DdlContext<'_>) -> Result<String, ExecError> {
    cx.refresh();
    let tag = cx.dispatch(ddl).await?;
    catalog_store::write_changes(cx.txn, cx.overlay)?;
    Ok(tag)
}

impl DdlContext<'_> {
    async fn dispatch(&mut self, ddl: &Ddl) -> Result<String, ExecError> {
        let tag = match ddl {
            Ddl::CreateTable(create) => self.create_table(create).await?,
            Ddl::CreateTableAs(create) => return self.create_table_as(create).await,
            Ddl::CreateIndex(create) => self.create_index(create).await?,
            Ddl::CreateView(create) => self.create_view(create).await?,
            Ddl::CreateSequence { name, temp, if_not_exists, options } => {
                self.create_sequence(name, *temp, *if_not_exists, options).await?
            }
            Ddl::AlterSequence { name, if_exists, options } => {
                self.alter_sequence(name, *if_exists, options).await?
            }
            Ddl::CreateSchema { name, owner, if_not_exists } => {
                self.create_schema(name.as_deref(), owner.as_deref(), *if_not_exists).await?
            }
            Ddl::CreateDatabase { name, options } => self.create_database(name, options).await?,
            Ddl::DropDatabase { name, if_exists } => self.drop_database(name, *if_exists)?,
            Ddl::AlterDatabaseSet { name, setting } => self.alter_database_set(name, setting)?,
            Ddl::AlterDatabaseOptions { name, options } => {
                self.alter_database_options(name, options)?
            }
            Ddl::AlterPlacement { database, set, reset } => {
                self.alter_placement(database.as_deref(), set, reset)?
            }
            Ddl::CreateRole { name, user, options } => {
                self.create_role(name, *user, options).await?
            }
            Ddl::AlterRole { name, options } => self.alter_role(name, options)?,
            Ddl::AlterRoleSet { name, setting } => self.alter_role_set(name, setting)?,
            Ddl::DropRole { names, if_exists } => self.drop_role(names, *if_exists)?,
            Ddl::GrantRole { grant, roles, members, admin, by } => {
                self.grant_role(*grant, roles, members, *admin, by.as_ref())?
            }
            Ddl::Grant(grant) => self.grant(grant)?,
            Ddl::Drop { kind, names, if_exists, cascade } => {
                self.drop_objects(*kind, names, *if_exists, *cascade).await?
            }
            Ddl::AlterTable { name, if_exists, actions } => {
                self.alter_table(name, *if_exists, actions).await?
            }
            Ddl::Rename { kind, name, if_exists, to } => {
                self.rename(*kind, name, *if_exists, to).await?
            }
            Ddl::RenameColumn { kind, name, if_exists, column, to } => {
                self.rename_column(*kind, name, *if_exists, column, to).await?
            }
            Ddl::RenameConstraint { name, if_exists, constraint, to } => {
                self.rename_constraint(name, *if_exists, constraint, to).await?
            }
            Ddl::SetSchema { kind, name, if_exists, schema } => {
                self.set_schema(*kind, name, *if_exists, schema).await?
            }
            Ddl::Owner { kind, name, if_exists, owner } => {
                self.set_owner(*kind, name, *if_exists, owner).await?
            }
            Ddl::Truncate { names, restart_identity, cascade } => {
                self.truncate(names, *restart_identity, *cascade).await?
            }
            Ddl::Comment { kind, name, sub, text } => {
                self.comment(*kind, name, sub.as_deref(), text.clone()).await?
            }
            Ddl::Maintain { tag, names } => self.maintain(tag, names).await?,
            Ddl::Analyze { tag, names } => self.analyze(tag, names).await?,
            Ddl::Unsupported(what) => {
                return Err(PgError::unsupported(format!("{what} is not supported yet")).into());
            }
        };
        Ok(tag.to_owned())
    }

    async fn maintain(
        &mut self,
        tag: &'static str,
        names: &[Name],
    ) -> Result<&'static str, ExecError> {
        for name in names {
            match tag {
                "VACUUM" => drop(self.table_to_tend(name, "vacuum").await?),
                "CLUSTER" => {
                    self.locked_relation(name, false, TableLockMode::AccessExclusive).await?;
                }
                _ => drop(self.locked_relation(name, false, TableLockMode::Share).await?),
            }
        }
        if tag == "CHECKPOINT" {
            self.checkpoint().await?;
        }
        Ok(tag)
    }

    /// CHECKPOINT: what this node has applied is durable in its engine, and its log is purged.
    async fn checkpoint(&self) -> Result<(), ExecError> {
        if !self.catalog().is_member(self.identity.user, PG_CHECKPOINT) {
            let text = "must be superuser or have privileges of pg_checkpoint to do CHECKPOINT";
            return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text).into());
        }
        Ok(self.node().store().checkpoint().await?)
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.statement.node
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        self.overlay.catalog()
    }

    /// Puts the transaction's changes on the newest catalog.
    pub(crate) fn refresh(&mut self) {
        let newest = self.statement.node.catalog();
        self.overlay.rebase(&newest);
    }

    /// The catalog with the session's names.
    pub(crate) fn view(&self) -> SessionCatalog {
        SessionCatalog::new(Arc::clone(self.overlay.catalog()), Arc::clone(&self.identity))
    }

    pub(crate) fn piece(&self, span: TextSpan) -> String {
        span.of(self.text)
    }

    pub(crate) async fn oids(&self, n: u32) -> Result<Oid> {
        catalog_store::take_oids(self.node().store(), n).await
    }

    pub(crate) fn notice(&mut self, state: SqlState, message: impl Into<String>) {
        self.notices.push(PgError::new(state, message));
    }

    pub(crate) async fn lock_table(&mut self, oid: Oid, mode: TableLockMode) -> Result<()> {
        self.txn.lock_table(oid, mode, false).await.map_err(kv)?;
        self.refresh();
        Ok(())
    }

    /// Keeps everybody else from making an object of this name: names of objects that don't exist
    /// yet have no descriptor to lock. Their locks share a space above all oids given out.
    pub(crate) async fn lock_name(&mut self, space: Oid, name: &str) -> Result<()> {
        let hash = name
            .bytes()
            .chain(space.to_be_bytes())
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        self.lock_table(hash | 0x8000_0000, TableLockMode::AccessExclusive).await
    }

    pub(crate) fn put_table(&mut self, table: TableDesc) -> Arc<TableDesc> {
        let table = Arc::new(table);
        self.overlay.put(Descriptor::Table(Arc::clone(&table)));
        table
    }

    pub(crate) fn schema_of(&self, oid: Oid) -> Result<Arc<SchemaDesc>> {
        self.catalog()
            .schema(oid)
            .cloned()
            .ok_or_else(|| PgError::internal(format!("there is no schema with oid {oid}")))
    }

    /// Whether the current role may act as this owner.
    pub(crate) fn owns(&self, owner: Oid) -> bool {
        let catalog = self.catalog();
        catalog.is_member(self.identity.user, owner)
            || (owner == meridian_catalog::builtin::PG_DATABASE_OWNER
                && catalog
                    .database(self.identity.database)
                    .is_some_and(|d| catalog.is_member(self.identity.user, d.owner)))
    }

    pub(crate) fn is_superuser(&self) -> bool {
        self.catalog().role(self.identity.user).is_some_and(|r| r.superuser)
    }

    /// 42501 unless the current role owns the relation.
    pub(crate) fn must_own(&self, relation: &Relation) -> Result<()> {
        let system = matches!(relation, Relation::Virtual(_));
        if system {
            return Err(PgError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied: \"{}\" is a system catalog", relation.name()),
            ));
        }
        if self.owns(relation.owner()) {
            return Ok(());
        }
        let word = names::kind_word(relation);
        Err(PgError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("must be owner of {word} {}", relation.name()),
        ))
    }

    /// The relation of this name, or 42P01.
    pub(crate) fn relation(&self, name: &Name) -> Result<Relation> {
        let view = self.view();
        view.catalog
            .lookup(&view.path, name.schema.as_deref(), &name.name)
            .ok_or_else(|| names::undefined(&view, name))
    }

    /// The relation of this name after its lock was taken; `None` when it is gone and may be.
    pub(crate) async fn locked_relation(
        &mut self,
        name: &Name,
        if_exists: bool,
        mode: TableLockMode,
    ) -> Result<Option<Relation>> {
        loop {
            let found = match self.relation(name) {
                Ok(found) => found,
                Err(e) if if_exists && e.state() != SqlState::INVALID_SCHEMA_NAME => {
                    let text = format!("relation \"{}\" does not exist, skipping", name.name);
                    self.notice(SqlState::from_code("00000"), text);
                    return Ok(None);
                }
                Err(e) if if_exists => {
                    let text = format!("{}, skipping", e.fields().message);
                    self.notice(SqlState::from_code("00000"), text);
                    return Ok(None);
                }
                Err(e) => return Err(e),
            };
            self.must_own(&found)?;
            let locked = match &found {
                Relation::Index(table, _) => table.oid,
                other => other.oid(),
            };
            self.lock_table(locked, mode).await?;
            if self.relation(name).is_ok_and(|again| again.oid() == found.oid()) {
                return self.relation(name).map(Some);
            }
        }
    }

    /// The table of this name, locked; 42809 when it is something else.
    pub(crate) async fn locked_table(
        &mut self,
        name: &Name,
        if_exists: bool,
        mode: TableLockMode,
    ) -> Result<Option<Arc<TableDesc>>> {
        match self.locked_relation(name, if_exists, mode).await? {
            None => Ok(None),
            Some(Relation::Table(table)) => Ok(Some(table)),
            Some(_) => Err(PgError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a table", name.name),
            )),
        }
    }

    /// The table with this oid as the transaction sees it now.
    pub(crate) fn table_now(&self, oid: Oid) -> Result<Arc<TableDesc>> {
        self.catalog()
            .table(oid)
            .cloned()
            .ok_or_else(|| PgError::internal(format!("there is no table with oid {oid}")))
    }
}
