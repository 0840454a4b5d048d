//! Statements that change the catalog, and what the session does around them.

use std::sync::Arc;

use meridian_catalog::TableDesc;
use meridian_catalog::search_path::temp_schema_name;
use meridian_exec::ddl::{DdlContext, execute};
use meridian_exec::virtuals::SessionInfo;
use meridian_exec::{ExecError, StatementContext};
use meridian_sql::parse::Statement;
use meridian_sql::plan::{Query, TableLock};
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
        if self.block.read_only && !ddl.is_read_only() {
            return Err(read_only(ddl.command()));
        }
        let in_block = self.block.is_explicit() || several;
        loop {
            self.begin_statement();
            let context = self.ddl_statement_context();
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
        let warning =
            notice.state().as_str().starts_with("01") && notice.state() == SqlState::WARNING;
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
