//! What a store, its transactions and its background tasks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_base::Hlc;
use meridian_kv::api::Timestamp;
use meridian_storage::GcHandle;

use crate::advisory::AdvisoryCounts;
use crate::commit::CommitPipeline;
use crate::config::StoreConfig;
use crate::counters::CounterCache;
use crate::locking::LockManager;
use crate::read::ReadPath;
use crate::snapshots::ActiveSnapshots;
use crate::stats::Counters;

/// The shared parts of one store. Order of locks, where two are held: commit pipeline, then nothing.
pub(crate) struct Core {
    pub(crate) config: StoreConfig,
    pub(crate) hlc: Hlc,
    pub(crate) read: ReadPath,
    pub(crate) locks: LockManager,
    pub(crate) advisory: AdvisoryCounts,
    pub(crate) snapshots: ActiveSnapshots,
    pub(crate) pipeline: CommitPipeline,
    pub(crate) counters: CounterCache,
    pub(crate) stats: Counters,
    pub(crate) gc: GcHandle,
    /// Everything up to here is applied: the newest snapshot.
    applied: AtomicU64,
    next_txn: AtomicU64,
}

/// The parts that differ from store to store.
pub(crate) struct CoreParts {
    pub(crate) config: StoreConfig,
    pub(crate) hlc: Hlc,
    pub(crate) read: ReadPath,
    pub(crate) gc: GcHandle,
    pub(crate) applied: Timestamp,
}

impl Core {
    pub(crate) fn new(parts: CoreParts) -> Arc<Core> {
        let CoreParts { config, hlc, read, gc, applied } = parts;
        Arc::new(Core {
            hlc,
            read,
            locks: LockManager::new(config.deadlock_check_delay),
            advisory: AdvisoryCounts::default(),
            snapshots: ActiveSnapshots::new(),
            pipeline: CommitPipeline::new(applied, config.recent_writes_len),
            counters: CounterCache::default(),
            stats: Counters::default(),
            gc,
            applied: AtomicU64::new(applied.0),
            // PostgreSQL's first ordinary transaction id is 3; nobody depends on it.
            next_txn: AtomicU64::new(3),
            config,
        })
    }

    /// The newest snapshot.
    #[inline]
    pub(crate) fn applied(&self) -> Timestamp {
        Timestamp(self.applied.load(Ordering::Acquire))
    }

    /// Moves the newest snapshot; only the apply path calls this, after the engine has the writes.
    pub(crate) fn set_applied(&self, ts: Timestamp) {
        let before = self.applied.swap(ts.0, Ordering::AcqRel);
        debug_assert!(before < ts.0, "applied in order");
    }

    pub(crate) fn next_txn_id(&self) -> u64 {
        self.next_txn.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets garbage collection proceed to what retention and running transactions allow.
    pub(crate) fn advance_gc(&self) -> Timestamp {
        let ttl = u64::try_from(self.config.gc_ttl.as_micros()).unwrap_or(u64::MAX);
        let now = self.hlc.now();
        let keep_from = Timestamp::from_micros(now.micros().saturating_sub(ttl));
        let oldest = self.snapshots.close(keep_from.min(self.applied()));
        let bound = self.pipeline.advance_gc(keep_from, oldest);
        self.gc.advance(bound, 0, None);
        bound
    }
}
