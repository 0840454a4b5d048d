//! Making the engine durable, and the log shorter.
//!
//! Every few seconds, or after so many bytes, a helper thread asks the engine to persist what it has,
//! records in the log up to where that is (`DurableApplied`), and lets openraft purge that part. The
//! apply path goes on meanwhile. The interval bounds two things: the memory of the log, and what a restart
//! has to apply again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meridian_base::{RangeId, sched};
use meridian_storage::{Engine, LogWrite, RaftLog, Slot, StorageError};
use parking_lot::{Condvar, Mutex};

use crate::codec;
use crate::state_machine::{Shared, StateMachine};
use crate::types::{LogId, Types};

pub(crate) type Raft = openraft::Raft<Types, StateMachine>;

/// Everything that a checkpoint touches.
pub(crate) struct Checkpointer {
    pub(crate) group: RangeId,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) log: Arc<dyn RaftLog>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) raft: Raft,
    /// The raft thread's runtime; alive until `stop` is set.
    pub(crate) runtime: tokio::runtime::Handle,
    /// One at a time.
    pub(crate) running: Mutex<()>,
    pub(crate) stop: Mutex<bool>,
    pub(crate) wake: Condvar,
    /// The disk was full when the engine was to be made durable; no checkpoint is made any more.
    pub(crate) failed: AtomicBool,
}

/// How often the thread looks whether enough has been written.
const POLL: Duration = Duration::from_millis(100);
/// How long openraft may take to note a snapshot and to purge.
const PURGE_TIMEOUT: Duration = Duration::from_secs(10);

impl Checkpointer {
    /// Persists the engine and purges the log up to there. Blocks for as long as the disk takes.
    pub(crate) fn checkpoint(&self) -> Result<(), StorageError> {
        let _one = self.running.lock();
        if self.failed.load(Ordering::Relaxed) {
            return Err(StorageError::DiskFull);
        }
        let Some(applied) = self.shared.applied.lock().log_id else { return Ok(()) };
        if *self.shared.durable.lock() == Some(applied) {
            return Ok(());
        }
        self.shared.dirty_bytes.store(0, Ordering::Relaxed);
        self.engine.persist().inspect_err(|error| self.persist_failed(error))?;
        // Recorded before the purge, so that a purged log always knows what the engine must have.
        let slot = LogWrite::Slot(Slot::DurableApplied, codec::encode_log_id(&applied));
        self.log.submit(self.group, vec![slot], None)?;
        *self.shared.durable.lock() = Some(applied);
        if !*self.stop.lock()
            && let Err(why) = self.runtime.block_on(self.purge(applied))
        {
            // The log stays longer; the next checkpoint tries again.
            tracing::warn!(%why, group = %self.group, "the log was not purged");
        }
        Ok(())
    }

    /// A failed sync must not be tried again: the kernel may have dropped what it could not write, and the
    /// next attempt would report success. The log still has everything, so the node ends and redoes it.
    /// Only on a full disk does it stay, for reads and for the operator; writes are refused.
    fn persist_failed(&self, error: &StorageError) {
        self.failed.store(true, Ordering::Relaxed);
        tracing::error!(%error, group = %self.group, "the engine cannot be made durable");
        if !matches!(error, StorageError::DiskFull) {
            std::process::abort();
        }
    }

    /// Has openraft take note of the snapshot that the engine now is, and drop the log up to it.
    async fn purge(&self, upto: LogId) -> Result<(), String> {
        let trigger = self.raft.trigger();
        trigger.snapshot().await.map_err(|e| e.to_string())?;
        let wait = self.raft.wait(Some(PURGE_TIMEOUT));
        let built = wait.metrics(|m| m.snapshot >= Some(upto), "snapshot").await;
        built.map_err(|e| e.to_string())?;
        trigger.purge_log(upto.index()).await.map_err(|e| e.to_string())?;
        let purged = wait.metrics(|m| m.purged >= Some(upto), "purge").await;
        purged.map(drop).map_err(|e| e.to_string())
    }

    /// The thread's loop.
    pub(crate) fn run(&self, interval: Duration, bytes_max: u64) {
        sched::background();
        let mut waited = Duration::ZERO;
        let mut stop = self.stop.lock();
        while !*stop {
            self.wake.wait_for(&mut stop, POLL);
            waited += POLL;
            let dirty = self.shared.dirty_bytes.load(Ordering::Relaxed);
            if *stop || (waited < interval && dirty < bytes_max) {
                continue;
            }
            waited = Duration::ZERO;
            drop(stop);
            if let Err(error) = self.checkpoint() {
                tracing::error!(%error, group = %self.group, "a checkpoint failed");
            }
            stop = self.stop.lock();
        }
    }
}
