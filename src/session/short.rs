//! The short way through a session: a row, or a few, read by key, with nothing to wait for.
//!
//! Most messages of most clients are of this kind. They are answered by plain calls, without the
//! state of a task around them: that state has room for everything a statement may come to wait for,
//! and moving it about takes longer than reading a row.
//!
//! Each function here may answer that it cannot; then nothing has happened that the long way does
//! not do again.

use std::sync::Arc;

use meridian_exec::ExecError;
use meridian_exec::keypath::KeyPlan;
use meridian_types::Result;

use crate::block::State;
use crate::client::Client;
use crate::extended::{Params, Portal};
use crate::output;
use crate::run::{Running, lock_mode, wire_formats};
use crate::session::{Session, now_micros};
use crate::statements::Plan;

impl Session {
    /// Execute of the unnamed portal. `None`: [`Session::execute`] has to do it.
    pub fn execute_short<C: Client>(
        &mut self,
        rows_max: usize,
        client: &mut C,
    ) -> Option<Result<()>> {
        let mut portal = self.unnamed_portal.take()?;
        let outcome = self.read_portal(&mut portal, rows_max, client);
        self.unnamed_portal = Some(portal);
        if outcome.is_some() {
            self.tell(client);
        }
        outcome
    }

    fn read_portal<C: Client>(
        &mut self,
        portal: &mut Portal,
        rows_max: usize,
        client: &mut C,
    ) -> Option<Result<()>> {
        if !matches!(portal.running, Running::NotStarted) {
            return None;
        }
        let plan = portal.plan.as_ref()?;
        let key = readable(plan).filter(|key| rows_max == 0 || key.gives_one())?;
        self.shared.set_simple(false);
        self.shared.active(&portal.text, self.statement_time, self.block.started);
        let outcome = self.read_by_key(plan, key, &portal.params, &portal.formats, client)?;
        portal.running = Running::Done;
        Some(outcome)
    }

    /// A text of the simple protocol. False: [`Session::simple_query`] has to do it.
    pub fn simple_short<C: Client>(&mut self, text: &str, client: &mut C) -> bool {
        if !matches!(self.block.state, State::Idle | State::Explicit) {
            return false;
        }
        self.statement_time = now_micros();
        self.shared.set_simple(true);
        let (plan, params) = match self.shaped(text) {
            Some((_, plan, params)) if readable(&plan).is_some() => (plan, params),
            // The long way, which is next, begins with what is known by now.
            shaped => {
                self.shaped_ahead = Some(shaped);
                return false;
            }
        };
        let Some(key) = readable(&plan) else { return false };
        self.unnamed = None;
        self.unnamed_portal = None;
        self.shared.active(&text.into(), self.statement_time, self.block.started);
        let start = client.buffer().len();
        client.row_description(&plan.columns);
        // What is wrong is found, and said, once more by the long way.
        let read = matches!(self.read_by_key(&plan, key, &params, &[], client), Some(Ok(())));
        if !read || (self.block.state == State::Implicit && !self.commit_short()) {
            client.buffer().truncate(start);
            return false;
        }
        self.tell(client);
        true
    }

    fn read_by_key<C: Client>(
        &mut self,
        plan: &Arc<Plan>,
        key: &KeyPlan,
        params: &Params,
        formats: &[i16],
        client: &mut C,
    ) -> Option<Result<()>> {
        let waits = self.block.state == State::Failed
            || self.block.as_of.is_some()
            || !self.cursors.is_empty()
            || self.hot().statement_timeout_ms > 0;
        if waits {
            return None;
        }
        self.interrupt.begin();
        self.ensure_transaction();
        let txn = self.block.txn.as_mut()?;
        for (table, lock) in &plan.query().tables {
            // An error says that the lock isn't free.
            if !txn.try_lock_table(table.oid, lock_mode(*lock)) {
                return None;
            }
        }
        // Looked at under the locks: no DDL can make the plan old now.
        if !Arc::ptr_eq(&plan.view, &self.view()) {
            return None;
        }
        let ctx = self.short_context(plan, params);
        self.begin_statement();
        let txn = self.block.txn.as_mut()?;
        let out = client.buffer();
        let start = out.len();
        let Some(read) = key.read(&ctx, txn, &wire_formats(formats), out) else {
            out.truncate(start);
            return None;
        };
        let outcome = match read {
            Ok(rows) => {
                output::command_complete(out, plan.query().command, rows);
                Ok(())
            }
            Err(ExecError::Pg(error)) => {
                out.truncate(start);
                Err(self.interrupt.explain(error))
            }
            Err(ExecError::StatementRetry) => {
                out.truncate(start);
                return None;
            }
        };
        self.spare = Some(ctx);
        self.interrupt.end();
        self.shared.idle(self.block.status());
        Some(outcome)
    }

    /// Sync. False: [`Session::sync`] has to do it.
    pub fn sync_short<C: Client>(&mut self, client: &mut C) -> bool {
        if self.block.state == State::Implicit && !self.commit_short() {
            return false;
        }
        self.tell(client);
        true
    }

    /// Commits a transaction that has only read.
    fn commit_short(&mut self) -> bool {
        let block = &mut self.block;
        let nothing_to_do =
            self.cursors.is_empty() && block.overlay.is_none() && block.deferred.lock().is_empty();
        let Some(txn) = block.txn.as_mut().filter(|_| nothing_to_do) else { return false };
        if !txn.finish_reading() {
            return false;
        }
        self.end_transaction(true);
        true
    }
}

/// The key plan of a query that only reads.
fn readable(plan: &Plan) -> Option<&KeyPlan> {
    plan.key.as_ref().filter(|key| key.is_read())
}
