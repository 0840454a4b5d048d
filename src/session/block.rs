//! The transaction block: which state it is in, its savepoints, its catalog overlay.
//!
//! ```text
//!            statement                    BEGIN
//!   Idle ───────────────▶ Implicit ───────────────▶ Explicit ──error──▶ Failed
//!    ▲                       │ end of message           │ COMMIT             │ ROLLBACK, COMMIT
//!    └───────────────────────┴──────────────────────────┴────────────────────┘
//!                                 Explicit ◀──ROLLBACK TO── Failed
//! ```

use std::sync::Arc;

use meridian_catalog::{Catalog, Overlay};
use meridian_cluster::{Isolation, SavepointId, Timestamp, Txn};
use meridian_exec::Deferred;
use meridian_types::{PgError, SqlState};
use parking_lot::Mutex;

/// The state of a session's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// None is open.
    Idle,
    /// One was opened by a statement, and ends with its message.
    Implicit,
    /// One was opened by BEGIN.
    Explicit,
    /// The same, after an error.
    Failed,
}

/// A savepoint with all that ROLLBACK TO goes back to.
struct Savepoint {
    name: String,
    id: SavepointId,
    overlay: Overlay,
    deferred: Deferred,
    read_only: bool,
}

/// A session's transaction.
pub(crate) struct Block {
    pub(crate) state: State,
    /// The transaction, while the state is not idle. A failed block keeps it for its savepoints.
    pub(crate) txn: Option<Txn>,
    pub(crate) isolation: Isolation,
    pub(crate) read_only: bool,
    pub(crate) deferrable: bool,
    /// It reads at this time.
    pub(crate) as_of: Option<Timestamp>,
    /// That time was not said, but chosen for `follower_reads`.
    pub(crate) follows: bool,
    /// `now()`, microseconds since 2000-01-01 UTC.
    pub(crate) started: i64,
    /// Something was read or written, so the isolation level is fixed.
    pub(crate) used: bool,
    /// A portal has been executed in it.
    pub(crate) ran: bool,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) deferred: Arc<Mutex<Deferred>>,
    savepoints: Vec<Savepoint>,
}

impl Block {
    /// No transaction.
    pub(crate) fn idle() -> Block {
        Block {
            state: State::Idle,
            txn: None,
            isolation: Isolation::ReadCommitted,
            read_only: false,
            deferrable: false,
            as_of: None,
            follows: false,
            started: 0,
            used: false,
            ran: false,
            overlay: None,
            deferred: Arc::default(),
            savepoints: vec![],
        }
    }

    /// Back to no transaction.
    pub(crate) fn end(&mut self) {
        // Nothing is left in it once its transaction has committed; else it belongs to that one.
        let deferred = std::mem::take(&mut self.deferred);
        let reusable = deferred.lock().is_empty();
        *self = Block::idle();
        if reusable {
            self.deferred = deferred;
        }
    }

    /// Is it a block at READ COMMITTED in which nothing has happened yet?
    pub(crate) fn is_untouched(&self) -> bool {
        !self.used
            && (self.as_of.is_none() || self.follows)
            && self.isolation == Isolation::ReadCommitted
            && self.savepoints.is_empty()
            && self.overlay.is_none()
            && self.deferred.lock().is_empty()
    }

    /// What has happened in it has not; only constraints may have been deferred before.
    pub(crate) fn forget(&mut self, deferred: Deferred) {
        (self.used, self.overlay) = (false, None);
        *self.deferred.lock() = deferred;
    }

    /// The byte of ReadyForQuery.
    pub(crate) fn status(&self) -> u8 {
        match self.state {
            State::Idle | State::Implicit => b'I',
            State::Explicit => b'T',
            State::Failed => b'E',
        }
    }

    /// Inside BEGIN … COMMIT.
    pub(crate) fn is_explicit(&self) -> bool {
        matches!(self.state, State::Explicit | State::Failed)
    }

    /// Number of savepoints; settings remember theirs by depth, the block's start being 0.
    pub(crate) fn depth(&self) -> usize {
        self.savepoints.len()
    }

    /// The catalog with this transaction's own changes.
    pub(crate) fn overlay(&mut self, newest: &Arc<Catalog>) -> &mut Overlay {
        let overlay = self.overlay.get_or_insert_with(|| Overlay::new(Arc::clone(newest)));
        overlay.rebase(newest);
        overlay
    }

    /// SAVEPOINT
    pub(crate) fn savepoint(&mut self, name: String, newest: &Arc<Catalog>) {
        let overlay = self.overlay(newest).clone();
        let deferred = self.deferred.lock().clone();
        if let Some(txn) = &mut self.txn {
            let (id, read_only) = (txn.savepoint(), self.read_only);
            self.savepoints.push(Savepoint { name, id, overlay, deferred, read_only });
        }
    }

    fn find(&self, name: &str) -> Result<usize, PgError> {
        self.savepoints.iter().rposition(|s| s.name == name).ok_or_else(|| {
            PgError::new(
                SqlState::INVALID_SAVEPOINT_SPECIFICATION,
                format!("savepoint \"{name}\" does not exist"),
            )
        })
    }

    /// RELEASE; the depth that settings forget.
    pub(crate) fn release(&mut self, name: &str) -> Result<usize, PgError> {
        let at = self.find(name)?;
        if let Some(txn) = &mut self.txn {
            txn.release(self.savepoints[at].id);
        }
        self.read_only = self.savepoints[at].read_only;
        self.savepoints.truncate(at);
        Ok(at + 1)
    }

    /// ROLLBACK TO; the depth that settings go back to. The savepoint stays.
    pub(crate) fn rollback_to(&mut self, name: &str) -> Result<usize, PgError> {
        let at = self.find(name)?;
        let savepoint = &self.savepoints[at];
        if let Some(txn) = &mut self.txn {
            txn.rollback_to(savepoint.id);
        }
        self.overlay = Some(savepoint.overlay.clone());
        *self.deferred.lock() = savepoint.deferred.clone();
        self.read_only = savepoint.read_only;
        self.savepoints.truncate(at + 1);
        self.state = State::Explicit;
        Ok(at + 1)
    }
}

/// `25P02`
pub(crate) fn aborted() -> PgError {
    PgError::new(
        SqlState::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// `25P01`, for what makes sense in a block only.
pub(crate) fn needs_block(what: &str) -> PgError {
    PgError::new(
        SqlState::NO_ACTIVE_SQL_TRANSACTION,
        format!("{what} can only be used in transaction blocks"),
    )
}

/// `25001`, for what cannot be rolled back.
pub(crate) fn refuses_block(what: &str) -> PgError {
    PgError::new(
        SqlState::ACTIVE_SQL_TRANSACTION,
        format!("{what} cannot run inside a transaction block"),
    )
}
