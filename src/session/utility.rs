//! Statements that give no rows of tables: the choice of what each is done by, and transaction
//! control.

use std::sync::Arc;

use meridian_cluster::{Isolation, Timestamp};
use meridian_sql::parse::Statement;
use meridian_sql::parse::statement::{IsolationLevel, Transaction, TransactionModes};
use meridian_types::{PgError, Result, SqlState};

use crate::Fault;
use crate::block::{self, State, needs_block};
use crate::client::{Client, ResultColumn, Severity};
use crate::past::not_writable;
use crate::session::Session;
use crate::statements::PreparedStatement;

/// A failed block lets this statement through.
pub(crate) fn ends_block(statement: &Statement) -> bool {
    use Transaction::{Commit, Prepare, Rollback, RollbackTo};
    matches!(
        statement,
        Statement::Transaction(Commit { .. } | Rollback { .. } | RollbackTo(_) | Prepare(_))
    )
}

impl Session {
    /// Runs a statement that is not a query. `several` says that its text has more statements.
    pub(crate) async fn run_utility<C: Client>(
        &mut self,
        prepared: &Arc<PreparedStatement>,
        statement: &Statement,
        formats: &[i16],
        several: bool,
        client: &mut C,
    ) -> Result<(), Fault> {
        if let Statement::Transaction(transaction) = statement {
            let tag = self.transaction(transaction, &prepared.text, several).await?;
            client.command_complete(&tag);
            return Ok(());
        }
        self.ensure_transaction();
        self.shared.active(&prepared.text, self.statement_time, self.block.started);
        self.interrupt.begin();
        let timeout = self.hot().statement_timeout_ms;
        let guard = self.interrupt.start_timeout(timeout);
        let outcome = Box::pin(self.dispatch(prepared, statement, formats, several, client)).await;
        drop(guard);
        self.interrupt.end();
        self.shared.idle(self.block.status());
        match outcome {
            Ok(Some(tag)) => {
                client.command_complete(&tag);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(Fault::Error(error)) => Err(self.interrupt.explain(error).into()),
            Err(Fault::Disconnected) => Err(Fault::Disconnected),
        }
    }

    /// The command tag, unless the statement has sent it.
    async fn dispatch<C: Client>(
        &mut self,
        prepared: &Arc<PreparedStatement>,
        statement: &Statement,
        formats: &[i16],
        several: bool,
        client: &mut C,
    ) -> Result<Option<String>, Fault> {
        let tag = match statement {
            Statement::Set(set) => self.set(set)?,
            Statement::Reset(name) => self.reset(name.as_deref())?,
            Statement::Show(name) => self.show(name.as_deref(), formats, client)?,
            Statement::SetConstraints { names, deferred } => {
                self.set_constraints(names, *deferred).await?
            }
            Statement::Prepare { name, types, statement } => {
                self.sql_prepare(prepared, name, types, statement)?
            }
            Statement::Execute { name, args } => {
                return self
                    .sql_execute(prepared, name, args, formats, client)
                    .await
                    .map(|()| None);
            }
            Statement::Deallocate(name) => self.deallocate(name.as_ref())?,
            Statement::Declare(declare) => self.declare(prepared, declare).await?,
            Statement::Fetch { cursor, direction, only_move } => {
                self.fetch(&cursor.value, *direction, *only_move, formats, client).await?
            }
            Statement::Close(name) => self.close_cursor(name.as_ref())?,
            Statement::Copy(copy) => self.copy(prepared, copy, client).await?,
            Statement::Explain { options, statement } => {
                self.pin_cursors().await?;
                self.explain(prepared, options, statement, formats, client).await?
            }
            Statement::Discard(what) => self.discard(what, several).await?,
            Statement::Lock { .. } if !self.block.is_explicit() => {
                return Err(needs_block("LOCK TABLE").into());
            }
            Statement::Lock { tables, mode, nowait } => {
                self.lock_named(tables, *mode, *nowait).await?
            }
            Statement::SplitAt(split) => {
                self.split(prepared, split, several, formats, client).await?
            }
            Statement::RelocateLease { range, node } => {
                self.relocate((*range, *node), several).await?
            }
            // Nothing can be listened to, so there is nothing to end.
            Statement::Unlisten(_) => "UNLISTEN".to_owned(),
            Statement::Listen(_) | Statement::Notify(..) => {
                return Err(PgError::unsupported("LISTEN and NOTIFY are not supported yet").into());
            }
            Statement::Do { .. } => {
                return Err(PgError::unsupported("DO is not supported yet").into());
            }
            Statement::Call(_) => {
                return Err(PgError::unsupported("procedures are not supported yet").into());
            }
            Statement::Load(_) => {
                return Err(PgError::unsupported("loadable modules are not supported").into());
            }
            ddl => {
                self.pin_cursors().await?;
                self.ddl(prepared, ddl, several).await?
            }
        };
        Ok(Some(tag))
    }

    /// Columns of a utility statement's rows, for Describe.
    pub(crate) fn utility_columns(
        &mut self,
        prepared: &PreparedStatement,
    ) -> Result<Option<Arc<[ResultColumn]>>> {
        match prepared.statement() {
            Some(Statement::Show(name)) => self.show_columns(name.as_deref()).map(Some),
            Some(Statement::Explain { options, .. }) => Ok(Some(crate::explain::columns(options))),
            Some(Statement::SplitAt(_)) => Ok(Some(crate::split::columns())),
            Some(Statement::Fetch { cursor, only_move: false, .. }) => {
                Ok(self.cursors.get(&cursor.value).map(|cursor| cursor.columns()))
            }
            Some(Statement::Execute { name, .. }) => {
                let Some(target) = self.statements.get(&name.value).cloned() else {
                    return Ok(None);
                };
                match target.statement() {
                    Some(Statement::Query(_)) => {
                        let columns = Arc::clone(&self.plan(&target)?.columns);
                        Ok((!columns.is_empty()).then_some(columns))
                    }
                    _ => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// BEGIN, COMMIT and so on: the command tag.
    async fn transaction(
        &mut self,
        transaction: &Transaction,
        text: &Arc<str>,
        several: bool,
    ) -> Result<String> {
        match transaction {
            Transaction::Begin { modes, start } => {
                self.begin(modes, text)?;
                Ok(if *start { "START TRANSACTION" } else { "BEGIN" }.to_owned())
            }
            Transaction::Commit { chain } => self.end_block(true, *chain).await,
            Transaction::Rollback { chain } => self.end_block(false, *chain).await,
            Transaction::Savepoint(name) => {
                self.require_block("SAVEPOINT")?;
                let newest = self.node.catalog();
                self.block.savepoint(name.clone(), &newest);
                self.shared.settings.lock().push(self.block.depth());
                self.shared.advisory.lock().savepoint();
                Ok("SAVEPOINT".to_owned())
            }
            Transaction::Release(name) => {
                self.require_block("RELEASE SAVEPOINT")?;
                let depth = self.block.release(name)?;
                self.shared.settings.lock().forget(depth);
                self.shared.advisory.lock().release(depth);
                self.show_modes();
                Ok("RELEASE".to_owned())
            }
            Transaction::RollbackTo(name) => {
                self.require_block("ROLLBACK TO SAVEPOINT")?;
                let depth = self.block.rollback_to(name)?;
                self.shared.settings.lock().restore(depth);
                self.shared.advisory.lock().rollback_to(depth);
                self.show_modes();
                self.close_portals_newer_than(depth);
                Ok("ROLLBACK".to_owned())
            }
            Transaction::Set { modes, session: false } => {
                self.ensure_transaction();
                let time = self.time_of_modes(modes, text)?;
                self.set_modes(modes, time)?;
                Ok("SET".to_owned())
            }
            Transaction::Set { modes, session: true } => {
                self.ensure_transaction();
                self.set_session_modes(modes)?;
                Ok("SET".to_owned())
            }
            Transaction::Snapshot(_) => {
                Err(PgError::unsupported("importing a snapshot is not supported yet"))
            }
            Transaction::Prepare(gid) => Box::pin(self.prepare_transaction(gid)).await,
            Transaction::CommitPrepared(gid) => {
                Box::pin(self.finish_prepared(gid, true, several)).await
            }
            Transaction::RollbackPrepared(gid) => {
                Box::pin(self.finish_prepared(gid, false, several)).await
            }
        }
    }

    fn require_block(&self, what: &str) -> Result<()> {
        if self.block.is_explicit() { Ok(()) } else { Err(needs_block(what)) }
    }

    fn begin(&mut self, modes: &TransactionModes, text: &Arc<str>) -> Result<()> {
        match self.block.state {
            State::Explicit | State::Failed => {
                self.warn(
                    SqlState::ACTIVE_SQL_TRANSACTION,
                    "there is already a transaction in progress",
                );
                let time = self.time_of_modes(modes, text)?;
                self.set_modes(modes, time)
            }
            State::Idle | State::Implicit => {
                // BEGIN inside a longer text makes a block of what the text has done so far.
                self.ensure_transaction();
                if let Some(time) = self.time_of_modes(modes, text)? {
                    self.begin_at(time)?;
                }
                self.block.state = State::Explicit;
                self.set_modes(modes, None)
            }
        }
    }

    pub(crate) async fn end_block(&mut self, commit: bool, chain: bool) -> Result<String> {
        if chain && !self.block.is_explicit() {
            let what = if commit { "COMMIT AND CHAIN" } else { "ROLLBACK AND CHAIN" };
            return Err(needs_block(what));
        }
        let modes = (self.block.isolation, self.block.read_only, self.block.deferrable);
        let commits = commit && self.block.state != State::Failed;
        if !self.block.is_explicit() {
            self.warn(SqlState::NO_ACTIVE_SQL_TRANSACTION, "there is no transaction in progress");
        }
        let outcome = if commits {
            self.commit().await
        } else {
            self.rollback();
            Ok(())
        };
        if chain {
            self.block.state = State::Explicit;
            (self.block.isolation, self.block.read_only, self.block.deferrable) = modes;
            self.block.started = self.statement_time;
            self.begin_txn();
            self.show_modes();
        }
        outcome?;
        Ok(if commits { "COMMIT" } else { "ROLLBACK" }.to_owned())
    }

    fn warn(&self, state: SqlState, message: &str) {
        self.notice(Severity::Warning, PgError::new(state, message));
    }

    /// SET TRANSACTION, and the modes of BEGIN.
    pub(crate) fn set_modes(
        &mut self,
        modes: &TransactionModes,
        time: Option<Timestamp>,
    ) -> Result<()> {
        if let Some(level) = modes.isolation {
            let level = isolation(level);
            if level != self.block.isolation {
                if self.block.depth() > 0 {
                    return Err(late(
                        "SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction",
                    ));
                }
                if self.block.used {
                    return Err(late(
                        "SET TRANSACTION ISOLATION LEVEL must be called before any query",
                    ));
                }
                self.block.isolation = level;
                self.restart_txn()?;
            }
        }
        if let Some(time) = time {
            self.begin_at(time)?;
        }
        if let Some(read_only) = modes.read_only {
            if !read_only && self.block.as_of.is_some() && !self.block.follows {
                return Err(not_writable());
            }
            if !read_only && self.block.read_only {
                if self.block.depth() > 0 {
                    return Err(late(
                        "cannot set transaction read-write mode inside a read-only transaction",
                    ));
                }
                if self.block.used {
                    return Err(late("transaction read-write mode must be set before any query"));
                }
            }
            let changes = std::mem::replace(&mut self.block.read_only, read_only) != read_only;
            let follows = self.block.follows || self.hot().follower_reads;
            if changes && follows && !self.block.used && self.block.depth() == 0 {
                self.restart_txn()?;
            }
        }
        if let Some(deferrable) = modes.deferrable {
            if self.block.used {
                return Err(late(
                    "SET TRANSACTION [NOT] DEFERRABLE must be called before any query",
                ));
            }
            self.block.deferrable = deferrable;
        }
        self.show_modes();
        Ok(())
    }

    /// Takes the transaction at another level; it has done nothing yet.
    fn restart_txn(&mut self) -> Result<()> {
        if let Some(time) = self.block.as_of.filter(|_| !self.block.follows) {
            return self.begin_at(time);
        }
        if let Some(mut txn) = self.block.txn.take() {
            txn.rollback();
        }
        self.begin_txn();
        Ok(())
    }

    /// `transaction_isolation` and its kin tell of the block.
    fn show_modes(&self) {
        let mut settings = self.shared.settings.lock();
        let on = |b: bool| if b { "on" } else { "off" };
        let level = match self.block.isolation {
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        };
        settings.set_for_transaction("transaction_isolation", level);
        settings.set_for_transaction("transaction_read_only", on(self.block.read_only));
        settings.set_for_transaction("transaction_deferrable", on(self.block.deferrable));
    }

    fn set_session_modes(&mut self, modes: &TransactionModes) -> Result<()> {
        let on = |b: bool| if b { "on" } else { "off" };
        let mut settings = self.shared.settings.lock();
        if let Some(level) = modes.isolation {
            let name = match level {
                IsolationLevel::ReadUncommitted => "read uncommitted",
                IsolationLevel::ReadCommitted => "read committed",
                IsolationLevel::RepeatableRead => "repeatable read",
                IsolationLevel::Serializable => "serializable",
            };
            settings.set("default_transaction_isolation", name, false, true)?;
        }
        if let Some(read_only) = modes.read_only {
            settings.set("default_transaction_read_only", on(read_only), false, true)?;
        }
        if let Some(deferrable) = modes.deferrable {
            settings.set("default_transaction_deferrable", on(deferrable), false, true)?;
        }
        Ok(())
    }

    /// DISCARD
    async fn discard(&mut self, what: &str, several: bool) -> Result<String> {
        match what {
            "all" => {
                if self.block.is_explicit() || several {
                    return Err(block::refuses_block("DISCARD ALL"));
                }
                self.cursors.clear();
                self.portals.clear();
                self.statements.clear();
                self.shared.prepared.lock().clear();
                self.texts.clear();
                self.shapes.clear();
                self.shared.settings.lock().reset_all()?;
                self.shared.reset_role();
                self.shared.sequences.clear();
                self.node.store().advisory_unlock_all(self.shared.backend());
                self.drop_temporary().await?;
                Ok("DISCARD ALL".to_owned())
            }
            "plans" => {
                self.texts.clear();
                self.shapes.clear();
                Ok("DISCARD PLANS".to_owned())
            }
            "sequences" => {
                self.shared.sequences.clear();
                Ok("DISCARD SEQUENCES".to_owned())
            }
            _ => {
                self.drop_temporary().await?;
                Ok("DISCARD TEMP".to_owned())
            }
        }
    }
}

fn isolation(level: IsolationLevel) -> Isolation {
    match level {
        IsolationLevel::ReadUncommitted | IsolationLevel::ReadCommitted => Isolation::ReadCommitted,
        IsolationLevel::RepeatableRead => Isolation::RepeatableRead,
        IsolationLevel::Serializable => Isolation::Serializable,
    }
}

fn late(message: &str) -> PgError {
    PgError::new(SqlState::ACTIVE_SQL_TRANSACTION, message)
}
