//! CancelRequest: a connection of its own that names a backend and proves it with a secret.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use meridian_base::rng::os_bytes;
use meridian_session::Interrupt;
use parking_lot::Mutex;

/// The backends of this process, by the ids that clients know them by.
#[derive(Debug, Default)]
pub struct CancelRegistry {
    next: AtomicI32,
    backends: Mutex<BTreeMap<i32, (u32, Interrupt)>>,
}

/// A backend's place in the registry; it is given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<CancelRegistry>,
    pub(crate) pid: i32,
    pub(crate) secret: u32,
}

impl CancelRegistry {
    /// Enters a backend: gives it a process id and a secret.
    pub(crate) fn register(self: &Arc<Self>, interrupt: Interrupt) -> Registration {
        let pid = 1 + self.next.fetch_add(1, Ordering::Relaxed).rem_euclid(i32::MAX - 1);
        let mut secret = [0; 4];
        os_bytes(&mut secret);
        let secret = u32::from_be_bytes(secret);
        self.backends.lock().insert(pid, (secret, interrupt));
        Registration { registry: Arc::clone(self), pid, secret }
    }

    /// Interrupts the statement that this backend runs, if the secret is right. The client is never
    /// told which it was.
    pub(crate) fn cancel(&self, pid: i32, secret: u32) {
        if let Some((expected, interrupt)) = self.backends.lock().get(&pid)
            && *expected == secret
        {
            interrupt.cancel();
        }
    }

    /// Ends every session: their clients get `57P01`.
    pub fn terminate_all(&self) {
        self.backends.lock().values().for_each(|(_, interrupt)| interrupt.terminate());
    }

    /// Sessions that are open.
    pub fn len(&self) -> usize {
        self.backends.lock().len()
    }

    /// No session is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.backends.lock().remove(&self.pid);
    }
}
