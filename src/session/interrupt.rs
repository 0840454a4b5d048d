//! What can stop a statement or a session from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use meridian_cluster::CancelToken;
use meridian_types::{PgError, SqlState};
use tokio::sync::Notify;

const BY_USER: u8 = 0;
const BY_TIMEOUT: u8 = 1;
const BY_END: u8 = 2;

/// What a client is told whose session is ended by somebody else.
pub const TERMINATED: &str = "terminating connection due to administrator command";

/// Shared by a session and those who may interrupt it: a cancel request, `pg_cancel_backend`,
/// `statement_timeout`, shutdown.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Wakes lock waits.
    token: CancelToken,
    cause: AtomicU8,
    /// A statement runs: only then does a cancel request mean anything.
    running: AtomicBool,
    terminated: AtomicBool,
    /// It ends when no transaction is open.
    retired: AtomicBool,
    notify: Notify,
}

impl Interrupt {
    /// Stops the statement that runs, if one does.
    pub fn cancel(&self) {
        self.stop(BY_USER);
    }

    fn stop(&self, cause: u8) {
        if self.0.running.load(Ordering::SeqCst) {
            self.0.cause.store(cause, Ordering::SeqCst);
            self.0.token.cancel();
        }
    }

    /// Ends the session, and the statement that it runs.
    pub fn terminate(&self) {
        self.0.terminated.store(true, Ordering::SeqCst);
        self.stop(BY_END);
        self.0.notify.notify_waiters();
    }

    /// Ends the session when it has no transaction open.
    pub fn retire(&self) {
        self.0.retired.store(true, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }

    /// The session is to end.
    pub fn is_terminated(&self) -> bool {
        self.0.terminated.load(Ordering::SeqCst)
    }

    /// Waits until the session is to end; `rests`: it has no transaction open meanwhile.
    pub async fn ended(&self, rests: bool) {
        loop {
            // Registered before the flags are read, so that nothing in between is missed.
            let notified = self.0.notify.notified();
            if self.is_terminated() || (rests && self.0.retired.load(Ordering::SeqCst)) {
                return;
            }
            notified.await;
        }
    }

    /// A statement begins: what was asked for before does not concern it.
    pub(crate) fn begin(&self) {
        self.0.token.reset();
        self.0.running.store(true, Ordering::SeqCst);
        if self.is_terminated() {
            self.stop(BY_END);
        }
    }

    /// The statement has ended.
    pub(crate) fn end(&self) {
        self.0.running.store(false, Ordering::SeqCst);
    }

    /// For lock waits, and for operators between batches.
    pub(crate) fn token(&self) -> CancelToken {
        self.0.token.clone()
    }

    /// The statement has been asked to stop.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// `57014` in the words for who did it, `57P01` if the session is to end; anything else is passed on.
    pub(crate) fn explain(&self, error: PgError) -> PgError {
        if error.state() != SqlState::QUERY_CANCELED {
            return error;
        }
        let canceled = |by: &str| PgError::new(SqlState::QUERY_CANCELED, by);
        match self.0.cause.load(Ordering::SeqCst) {
            BY_TIMEOUT => canceled("canceling statement due to statement timeout"),
            BY_END => PgError::new(SqlState::ADMIN_SHUTDOWN, TERMINATED),
            _ => canceled("canceling statement due to user request"),
        }
    }

    /// Starts `statement_timeout`; it is given up when the guard is dropped.
    pub(crate) fn start_timeout(&self, millis: u64) -> Option<TimeoutGuard> {
        if millis == 0 {
            return None;
        }
        let interrupt = self.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            interrupt.stop(BY_TIMEOUT);
        });
        Some(TimeoutGuard(task))
    }
}

/// Keeps a statement's time-out running.
#[derive(Debug)]
pub(crate) struct TimeoutGuard(tokio::task::JoinHandle<()>);

impl Drop for TimeoutGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How long a session may do nothing, and what it is told then.
#[derive(Clone, Debug)]
pub struct IdleLimit(pub(crate) Option<(Duration, PgError)>);

impl IdleLimit {
    /// Waits until the limit has passed; for ever when there is none.
    pub async fn expired(self) -> PgError {
        match self.0 {
            Some((limit, error)) => {
                tokio::time::sleep(limit).await;
                error
            }
            None => std::future::pending().await,
        }
    }
}
