//! A flag that stops a statement, and wakes it where it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Shared between a statement and whoever may stop it (a cancel request, a statement timeout). It can
/// be used again after [`CancelToken::reset`].
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    notify: Notify,
}

impl CancelToken {
    /// A token that nobody has fired.
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Stops the statement.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::SeqCst);
        self.shared.notify.notify_waiters();
    }

    /// Makes the token ready for the next statement.
    pub fn reset(&self) {
        self.shared.cancelled.store(false, Ordering::SeqCst);
    }

    /// Has it fired? Cheap enough to ask once per batch of rows.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Relaxed)
    }

    /// Waits until it fires.
    pub async fn cancelled(&self) {
        loop {
            // Registered before the flag is read, so that a cancel in between isn't missed.
            let notified = self.shared.notify.notified();
            if self.is_cancelled() {
                return;
            }
            notified.await;
        }
    }
}
