//! A statement with a transaction of its own that has lost a race is run again, unseen by its client.
//!
//! Who begins a transaction above READ COMMITTED expects `40001` and knows what to do about it. Who sends
//! one statement does not, least of all at READ COMMITTED, where PostgreSQL never says so; but here a lease
//! may move between a statement's lock and its commit, or its node be given up for a moment. The statement is
//! all there is to its transaction, so nothing else has to be remembered to run it again: what has to hold is
//! that none of its answer has been sent yet.
//!
//! The same goes for the first statement of a block at READ COMMITTED: nothing has happened in it before.
//!
//! That is looked for in two places: when the statement fails, and when its transaction's commit does, which
//! in the extended protocol comes with a later message (Sync).

use std::time::Duration;

use meridian_exec::Deferred;
use meridian_types::{PgError, SqlState};
use tokio::time::Instant;

use crate::Fault;
use crate::block::State;
use crate::client::Client;
use crate::extended::Portal;
use crate::run::Running;
use crate::session::Session;

/// A statement that has met others for so long tells its client.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// A statement that may be run again: where its answer begins.
pub(crate) struct Again {
    start: usize,
    flushes: u64,
    /// The constraints that were deferred before.
    deferred: Deferred,
    /// The catalog by which it began.
    catalog: u64,
    /// Since it has first failed.
    since: Option<Instant>,
    pause: Duration,
}

/// The unnamed portal has been executed, and may be again until Sync.
pub(crate) struct Executed {
    again: Again,
    /// Where its answer ends.
    end: usize,
    rows_max: usize,
}

impl Again {
    fn from<C: Client>(client: &mut C, deferred: Deferred, catalog: u64) -> Again {
        let (start, flushes) = (client.buffer().len(), client.flushes());
        Again { start, flushes, deferred, catalog, since: None, pause: PAUSE_MIN }
    }
}

impl Session {
    /// What is run next, if that is the first and maybe only statement of its transaction.
    pub(crate) fn may_run_again<C: Client>(&self, client: &mut C) -> Option<Again> {
        let first = match self.block.state {
            State::Explicit => self.block.is_untouched(),
            State::Failed => false,
            State::Idle | State::Implicit => !self.block.ran,
        };
        let alone = first && self.portals.is_empty() && self.cursors.is_empty();
        alone.then(|| {
            Again::from(client, self.block.deferred.lock().clone(), self.node.catalog_epoch())
        })
    }

    /// Whether a statement is to be run again, which has been taken back then.
    pub(crate) async fn runs_again<C: Client>(
        &mut self,
        outcome: &Result<(), Fault>,
        again: &mut Option<Again>,
        client: &mut C,
    ) -> bool {
        match (outcome, again) {
            (Err(Fault::Error(error)), Some(again)) => self.take_back(error, again, client).await,
            _ => false,
        }
    }

    /// A statement has failed: takes it back, with all that was said about it, if it is to be run again.
    async fn take_back<C: Client>(
        &mut self,
        error: &PgError,
        again: &mut Again,
        client: &mut C,
    ) -> bool {
        let lost = error.state() == SqlState::SERIALIZATION_FAILURE
            || self.has_learned(error, &mut again.catalog).await;
        let timeout = match self.hot().statement_timeout_ms {
            0 => PATIENCE,
            ms => PATIENCE.min(Duration::from_millis(ms)),
        };
        let explicit = self.block.state == State::Explicit;
        let ended = explicit || matches!(self.block.state, State::Implicit | State::Idle);
        let unsent = client.flushes() == again.flushes;
        if !lost || !ended || !unsent {
            return false;
        }
        let since = *again.since.get_or_insert_with(Instant::now);
        if since.elapsed() + again.pause >= timeout {
            return false;
        }
        tracing::debug!(%error, "a statement is run again");
        if explicit {
            self.begin_anew(again.deferred.clone())
        } else {
            self.fail()
        }
        // Notices about what has not happened.
        self.tell(client);
        client.buffer().truncate(again.start);
        tokio::time::sleep(again.pause).await;
        again.pause = (again.pause * 2).min(PAUSE_MAX);
        true
    }

    /// Something that a statement names isn't known here: perhaps the others had given this node up when they
    /// defined it ([`Session::learn`]).
    pub fn may_lack(&self, error: &PgError) -> bool {
        let unknown = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN];
        unknown.contains(&error.state()) && self.node.store().has_peers()
    }

    /// Waits until this node knows what the others know; whether it didn't.
    pub async fn learn(&mut self) -> bool {
        self.node.store().catch_up().await
    }

    async fn has_learned(&mut self, error: &PgError, catalog: &mut u64) -> bool {
        if !self.may_lack(error) {
            return false;
        }
        let waited = self.learn().await;
        let before = std::mem::replace(catalog, self.node.catalog_epoch());
        waited || before != *catalog
    }

    /// A block whose first statement has failed gets another transaction, in which nothing has happened.
    fn begin_anew(&mut self, deferred: Deferred) {
        if let Some(mut txn) = self.block.txn.take() {
            txn.rollback();
        }
        self.shared.advisory.lock().end();
        self.block.forget(deferred);
        self.block.txn = Some(self.new_txn());
    }

    /// Execute has ended: whether that portal is all of its transaction so far.
    pub(crate) fn note_executed<C: Client>(
        &mut self,
        again: Option<Again>,
        rows_max: usize,
        client: &mut C,
    ) {
        let done =
            |portal: &Portal| portal.plan.is_none() || matches!(portal.running, Running::Done);
        let repeatable = self.block.state == State::Implicit
            && self.unnamed_portal.as_ref().is_some_and(done)
            && again.is_some();
        self.executed = again.filter(|_| repeatable).map(|again| Executed {
            again,
            end: client.buffer().len(),
            rows_max,
        });
    }

    /// Commits at Sync; a portal that was all of the transaction is executed again if it has to be.
    pub(crate) async fn commit_executed<C: Client>(
        &mut self,
        client: &mut C,
    ) -> meridian_types::Result<()> {
        let executed = self.executed.take().zip(self.unnamed_portal.take());
        let Some((mut executed, mut portal)) = executed else { return self.commit().await };
        loop {
            let Err(mut error) = self.commit().await else { return Ok(()) };
            let end = executed.end.min(client.buffer().len());
            let after = client.buffer().split_off(end);
            loop {
                if !self.take_back(&error, &mut executed.again, client).await {
                    client.buffer().extend_from_slice(&after);
                    return Err(error);
                }
                portal.running = Running::NotStarted;
                match self.execute_portal(&mut portal, executed.rows_max, client).await {
                    Ok(()) => break,
                    Err(Fault::Error(failed)) => error = failed,
                    Err(Fault::Disconnected) => {
                        self.fail();
                        return Err(error);
                    }
                }
            }
            executed.end = client.buffer().len();
            client.buffer().extend_from_slice(&after);
        }
    }
}
