//! CancelRequest: a connection of its own that names a backend and proves it with a secret.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use meridian_base::rng::os_bytes;
use meridian_session::{Interrupt, PROCESSES_MAX, Signal};
use parking_lot::Mutex;

/// The backends of this process, by the ids that clients know them by.
#[derive(Debug)]
pub struct CancelRegistry {
    /// Begins anywhere: what a session of an earlier start has locked on other nodes isn't this start's.
    next: AtomicU32,
    backends: Mutex<BTreeMap<i32, (u32, Interrupt)>>,
}

/// A backend's place in the registry; it is given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<CancelRegistry>,
    pub(crate) pid: i32,
    pub(crate) secret: u32,
}

impl Default for CancelRegistry {
    fn default() -> CancelRegistry {
        let mut first = [0; 4];
        os_bytes(&mut first);
        let next = AtomicU32::new(u32::from_be_bytes(first));
        CancelRegistry { next, backends: Mutex::default() }
    }
}

impl CancelRegistry {
    /// Enters a backend: gives it a process id, which `pid_of` makes of a number, and a secret.
    pub(crate) fn register(
        self: &Arc<Self>,
        interrupt: Interrupt,
        pid_of: impl Fn(u32) -> i32,
    ) -> Registration {
        let mut secret = [0; 4];
        os_bytes(&mut secret);
        let secret = u32::from_be_bytes(secret);
        let mut backends = self.backends.lock();
        // There are fewer connections than numbers.
        let pid = loop {
            let pid = pid_of(1 + self.next.fetch_add(1, Ordering::Relaxed) % (PROCESSES_MAX - 1));
            if !backends.contains_key(&pid) {
                break pid;
            }
        };
        backends.insert(pid, (secret, interrupt));
        Registration { registry: Arc::clone(self), pid, secret }
    }

    /// Interrupts a backend, if the secret is right or none is asked for; false when there is no such
    /// backend here. A client that cancels is never told which it was.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let Ok(pid) = i32::try_from(signal.process) else { return false };
        let backends = self.backends.lock();
        let Some((expected, interrupt)) = backends.get(&pid) else { return false };
        if signal.secret.is_none_or(|secret| secret == *expected) {
            if signal.terminate { interrupt.terminate() } else { interrupt.cancel() }
        }
        true
    }

    /// Ends every session: their clients get `57P01`.
    pub fn terminate_all(&self) {
        self.backends.lock().values().for_each(|(_, interrupt)| interrupt.terminate());
    }

    /// Ends every session when it has no transaction open.
    pub fn retire_all(&self) {
        self.backends.lock().values().for_each(|(_, interrupt)| interrupt.retire());
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
