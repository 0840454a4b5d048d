//! Statements that change the catalog, and what the session does around them.

use std::sync::Arc;

use meridian_catalog::search_path::temp_schema_name;
use meridian_catalog::{Relation, TableDesc};
use meridian_cluster::KvError;
use meridian_exec::ddl::{DdlContext, execute};
use meridian_exec::virtuals::SessionInfo;
use meridian_exec::{ExecError, StatementContext};
use meridian_sql::ddl::{AsQuery, Ddl};
use meridian_sql::parse::Statement;
use meridian_sql::plan::{Command, Query, TableLock};
use meridian_types::{PgError, Result, SqlState};

use crate::client::{NoClient, Severity};
use crate::run::read_only;
use crate::session::Session;
use crate::statements::PreparedStatement;

impl Session {
    /// Runs a statement that changes the catalog: its command tag.
    pub(crate) async fn ddl(
        &mut self,
        prepared: &PreparedStatement,
        statement: &Statement,
        several: bool,
    ) -> Result<String> {
        let Some(parsed) = &prepared.parsed else {
            return Err(PgError::internal("a definition without a text"));
        };
        let ddl = meridian_sql::ddl::bind(statement, &prepared.text, parsed.range.clone())?;
        if self.block.as_of.is_some() || (self.block.read_only && !ddl.is_read_only()) {
            return Err(read_only(ddl.command()));
        }
        let in_block = self.block.is_explicit() || several;
        loop {
            self.begin_statement();
            let mut context = self.ddl_statement_context();
            let mut executed = None;
            if let Ddl::CreateTableAs(create) = &ddl
                && let AsQuery::Execute(name, args) = &create.query
            {
                let (plan, params) = self.executed(prepared, name, args)?;
                if plan.query().command != Command::Select {
                    return Err(not_a_select());
                }
                Arc::make_mut(&mut context).params = Arc::from(&params[..]);
                executed = Some(Box::new(plan.query().clone()));
            }
            let newest = self.node.catalog();
            let before = self.block.overlay(&newest).clone();
            let identity = self.shared.identity();
            let mut notices = Vec::new();
            let (Some(txn), Some(overlay)) = (&mut self.block.txn, &mut self.block.overlay) else {
                return Err(crate::run::no_transaction());
            };
            let outcome = execute(
                &ddl,
                DdlContext {
                    statement: context,
                    txn,
                    overlay,
                    identity,
                    text: &prepared.text,
                    execute: executed,
                    notices: &mut notices,
                    in_block,
                },
            )
            .await;
            match outcome {
                Ok(tag) => {
                    notices.into_iter().for_each(|notice| self.ddl_notice(notice));
                    return Ok(tag);
                }
                Err(error) => {
                    self.block.overlay = Some(before);
                    match error {
                        ExecError::StatementRetry => {}
                        ExecError::Pg(error) => return Err(error),
                    }
                }
            }
        }
    }

    fn ddl_notice(&self, notice: PgError) {
        let warning = notice.state().as_str().starts_with("01");
        let severity = if warning { Severity::Warning } else { Severity::Notice };
        self.notice(severity, notice);
    }

    fn ddl_statement_context(&mut self) -> Arc<StatementContext> {
        let catalog = self.catalog();
        Arc::new(StatementContext {
            eval: self.eval(),
            params: Arc::from([]),
            node: Arc::clone(&self.node),
            catalog,
            memory_bytes: meridian_exec::STATEMENT_MEMORY_BYTES,
            cancel: self.interrupt.token(),
            session: Arc::clone(&self.shared) as Arc<dyn SessionInfo>,
            deferred: Arc::clone(&self.block.deferred),
            read_committed: self.block.isolation == meridian_cluster::Isolation::ReadCommitted,
            backend: self.shared.pid,
        })
    }

    /// Drops the session's temporary tables.
    pub(crate) async fn drop_temporary(&mut self) -> Result<()> {
        let name = temp_schema_name(self.shared.pid);
        let database = self.shared.identity().database;
        if self.node.catalog().schema_by_name(database, &name).is_none() {
            return Ok(());
        }
        let mut client = NoClient::default();
        let text = format!("DROP SCHEMA IF EXISTS {name} CASCADE");
        let _ = Box::pin(self.simple_query(&text, &mut client)).await;
        client.into_result()
    }

    /// Checks the constraints that wait for the commit.
    pub(crate) async fn check_deferred(&mut self) -> Result<()> {
        loop {
            self.begin_statement();
            let context = self.ddl_statement_context();
            let txn = self.block.txn.as_mut().ok_or_else(crate::run::no_transaction)?;
            match meridian_exec::check_deferred(&context, txn).await {
                Ok(()) => return Ok(()),
                Err(ExecError::StatementRetry) => {}
                Err(ExecError::Pg(error)) => return Err(error),
            }
        }
    }

    /// `42501` unless the role may do with each table what the query does.
    pub(crate) fn check_privileges(&mut self, query: &Query) -> Result<()> {
        if self.shared.is_superuser() {
            return Ok(());
        }
        for (table, lock) in &query.tables {
            let privilege = match (query.command, lock) {
                // Checked when the name was bound, as the owner of the view that it stands in.
                (_, TableLock::AccessShare) => continue,
                (_, TableLock::RowExclusive) if query.trusted.contains(&table.oid) => continue,
                (meridian_sql::plan::Command::Insert, _) => 'a',
                (meridian_sql::plan::Command::Delete, _) => 'd',
                _ => 'w',
            };
            self.check_table(table, privilege)?;
        }
        Ok(())
    }

    /// `42501` unless the role may insert into this table.
    pub(crate) fn check_insert(&mut self, table: &TableDesc) -> Result<()> {
        if self.shared.is_superuser() { Ok(()) } else { self.check_table(table, 'a') }
    }

    /// LOCK TABLE
    pub(crate) async fn lock_named(
        &mut self,
        names: &[meridian_sql::ast::ObjectName],
        mode: TableLock,
        nowait: bool,
    ) -> Result<String> {
        if self.block.read_only
            && !matches!(
                mode,
                TableLock::AccessShare | TableLock::RowShare | TableLock::RowExclusive
            )
        {
            return Err(read_only("LOCK TABLE"));
        }
        for name in names {
            let (schema, name) = crate::copy::split_name(name)?;
            let view = self.view();
            let table = match view.catalog.lookup(&view.path, schema.as_deref(), &name) {
                Some(Relation::Table(table)) => table,
                Some(Relation::View(_) | Relation::Virtual(_)) => {
                    return Err(PgError::unsupported("LOCK TABLE of a view is not supported yet"));
                }
                Some(_) => {
                    return Err(PgError::new(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("\"{name}\" is not a table or view"),
                    ));
                }
                None => {
                    let shown = schema.map_or_else(|| name.clone(), |s| format!("{s}.{name}"));
                    return Err(PgError::new(
                        SqlState::UNDEFINED_TABLE,
                        format!("relation \"{shown}\" does not exist"),
                    ));
                }
            };
            self.check_lock(&table, mode)?;
            self.begin_lock();
            if let Some(txn) = &mut self.block.txn {
                let locked = txn.lock_table(table.oid, crate::run::lock_mode(mode), nowait).await;
                locked.map_err(|e| lock_error(e, &name))?;
            }
        }
        Ok("LOCK TABLE".to_owned())
    }

    /// Takes the lock time-out, but no snapshot: one that LOCK TABLE waits for comes after it.
    fn begin_lock(&mut self) {
        let millis = self.hot().lock_timeout_ms;
        if let Some(txn) = &mut self.block.txn {
            txn.set_lock_timeout((millis > 0).then(|| std::time::Duration::from_millis(millis)));
        }
    }

    /// Any of the privileges that the mode asks for.
    fn check_lock(&mut self, table: &TableDesc, mode: TableLock) -> Result<()> {
        if self.shared.is_superuser() {
            return Ok(());
        }
        let letters = if mode == TableLock::AccessShare { "rwdD" } else { "wdD" };
        let mut outcome = Ok(());
        for letter in letters.chars() {
            outcome = self.check_table(table, letter);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn check_table(&mut self, table: &TableDesc, privilege: char) -> Result<()> {
        let user = self.shared.identity().user;
        let catalog = self.catalog();
        let owns = table.owner == user || catalog.is_member(user, table.owner);
        let granted = table.acl.iter().any(|(grantee, letters, _)| {
            (*grantee == 0 || *grantee == user || catalog.is_member(user, *grantee))
                && letters.contains(privilege)
        });
        if owns || granted {
            return Ok(());
        }
        Err(PgError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for table {}", table.name),
        ))
    }
}

fn not_a_select() -> PgError {
    PgError::new(SqlState::WRONG_OBJECT_TYPE, "prepared statement is not a SELECT")
}

/// Names the relation that could not be locked at once.
fn lock_error(error: KvError, name: &str) -> PgError {
    match error {
        KvError::LockNotAvailable => PgError::new(
            SqlState::LOCK_NOT_AVAILABLE,
            format!("could not obtain lock on relation \"{name}\""),
        ),
        other => meridian_exec::from_kv(other),
    }
}
