//! Priority of the threads on which everything else waits.
//!
//! On a saturated machine a thread that wakes up may wait a scheduler tick (4 ms) for its turn,
//! forty times as long as the fsync it waited for. A short EEVDF slice would cure that without
//! privilege, but `sched_setattr` is not exposed by any safe crate and `unsafe` is denied here, so
//! the thread asks for a better nice value, which needs CAP_SYS_NICE (or an rlimit) and otherwise
//! changes nothing.

/// Marks the calling thread as latency-critical. Best effort: a refusal is not an error, the thread
/// then competes like any other.
pub fn latency_critical() {
    #[cfg(target_os = "linux")]
    {
        // On Linux "the current process" of setpriority is the calling thread.
        let _ = rustix::process::setpriority_process(None, -10);
    }
}

/// Marks the calling thread as background work: it gives way to all others.
pub fn background() {
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::process::setpriority_process(None, 10);
    }
}
