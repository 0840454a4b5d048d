//! What a store, its transactions and its background tasks share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use meridian_base::keys::txn_span;
use meridian_base::{Hlc, NodeId, Span};
use meridian_kv::api::Timestamp;
use meridian_kv::locks::{AdvisoryKey, AdvisoryMode, LockMode, Owner};
use meridian_kv::range::Stored;
use meridian_storage::engine::Keyspace;
use meridian_storage::{GcHandle, StorageError};

use crate::advisory::{AdvisoryCounts, Level};
use crate::commit::CommitPipeline;
use crate::config::StoreConfig;
use crate::counters::CounterCache;
use crate::lease::{Lease, epoch_of};
use crate::locking::LockManager;
use crate::read::ReadPath;
use crate::remote::Cluster;
use crate::snapshots::ActiveSnapshots;
use crate::stats::Counters;

/// Where a transaction's number says which node began it.
pub(crate) use meridian_kv::locks::NODE_SHIFT as TXN_NODE_SHIFT;

/// The shared parts of one store. Order of locks, where two are held: commit pipeline, then nothing.
pub(crate) struct Core {
    pub(crate) node: NodeId,
    /// A database of one node: whatever happens to it, nobody else can tell more.
    pub(crate) alone: bool,
    pub(crate) lease: Lease,
    pub(crate) config: StoreConfig,
    pub(crate) hlc: Arc<Hlc>,
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
    replica: AtomicBool,
    /// The other nodes, unless there are none. The store owns it.
    cluster: OnceLock<Weak<Cluster>>,
}

/// The parts that differ from store to store.
pub(crate) struct CoreParts {
    pub(crate) node: NodeId,
    pub(crate) alone: bool,
    pub(crate) config: StoreConfig,
    pub(crate) hlc: Arc<Hlc>,
    pub(crate) read: ReadPath,
    pub(crate) gc: GcHandle,
    pub(crate) applied: Timestamp,
}

/// The number of a node's first transaction after a start. In a cluster outcomes are remembered by number,
/// so that none may come again, be it after a restart: nodes differ in the high bits, starts by the time,
/// in milliseconds since 2020 with room for 256 transactions in each.
fn first_txn(node: NodeId, alone: bool, micros: u64) -> u64 {
    // PostgreSQL's first ordinary transaction id; nobody depends on it.
    const FIRST: u64 = 3;
    const MILLIS_2020: u64 = 1_577_836_800_000;
    if alone {
        return FIRST;
    }
    let since = (micros / 1_000).saturating_sub(MILLIS_2020);
    let within = (since << 8) & ((1 << TXN_NODE_SHIFT) - 1);
    (node.0.saturating_sub(1) << TXN_NODE_SHIFT) | (within + FIRST)
}

impl Core {
    pub(crate) fn new(parts: CoreParts) -> Arc<Core> {
        let CoreParts { node, alone, config, hlc, read, gc, applied } = parts;
        let first = first_txn(node, alone, hlc.reading());
        Arc::new(Core {
            node,
            alone,
            lease: Lease::nobodys(),
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
            next_txn: AtomicU64::new(first),
            replica: AtomicBool::new(false),
            cluster: OnceLock::new(),
            config,
        })
    }

    /// The newest snapshot.
    #[inline]
    pub(crate) fn applied(&self) -> Timestamp {
        Timestamp(self.applied.load(Ordering::Acquire))
    }

    /// Has this node a copy of the range?
    pub(crate) fn replicates(&self) -> bool {
        self.alone || self.replica.load(Ordering::Relaxed)
    }

    /// Notes whether this node has a copy of the range, or gets one.
    pub(crate) fn set_replicates(&self, has: bool) {
        self.replica.store(has, Ordering::Relaxed);
    }

    /// Moves the newest snapshot; only the apply path calls this, after the engine has the writes.
    pub(crate) fn set_applied(&self, ts: Timestamp) {
        let before = self.applied.swap(ts.0, Ordering::AcqRel);
        debug_assert!(before < ts.0, "applied in order");
    }

    /// The other nodes; `None` when there are none, or the store is being closed.
    pub(crate) fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.get()?.upgrade()
    }

    pub(crate) fn join(&self, cluster: &Arc<Cluster>) {
        let first = self.cluster.set(Arc::downgrade(cluster)).is_ok();
        debug_assert!(first, "a store joins one cluster");
    }

    /// Gives one advisory lock back, wherever it is; false when the session doesn't hold it.
    pub(crate) fn give_back_advisory(
        &self,
        owner: Owner,
        key: AdvisoryKey,
        mode: AdvisoryMode,
        level: Level,
    ) -> bool {
        self.advisory.remove(owner, key, mode, level, || {
            let held = self.locks.advisory_held(key, owner);
            self.locks.release_advisory(key, owner, held & !mode.bit());
            if held & mode.bit() == 0
                && let Some(cluster) = self.cluster()
            {
                cluster.unlock_advisory(owner, key, mode);
            }
        })
    }

    /// This node leads in `term`, alone or with a quorum's support until `until` (µs of the clock), and
    /// has applied what earlier leaders committed. Said again with a later `until`, it extends the lease.
    pub(crate) fn lead(&self, term: u64, until: Option<u64>) -> Result<(), StorageError> {
        let epoch = epoch_of(term, self.node);
        let end = until.map_or(Timestamp::MAX, Timestamp::from_micros);
        if !self.pipeline.leads(term) {
            self.hlc.raise(self.applied());
            // Other leaders may have counted on meanwhile.
            self.counters.forget();
            let stored = self.stored_transactions()?;
            self.pipeline.lead(term, self.hlc.now(), end, stored);
            self.lease.note_leader(Some(self.node));
        } else {
            self.pipeline.extend(term, end);
        }
        match until {
            None => self.lease.grant_for_ever(epoch),
            Some(until) => self.lease.extend(epoch, until),
        }
        Ok(())
    }

    /// What the range holds of transactions over several ranges, or of those that were prevented.
    fn stored_transactions(&self) -> Result<Vec<Stored>, StorageError> {
        let span = txn_span(&Span::all());
        let found = self.read.engine.range(Keyspace::Cur, &span, false);
        let damaged = |_| StorageError::Corruption("a transaction's record is damaged".into());
        found.map(|entry| Stored::decode(entry?.1).map_err(damaged)).collect()
    }

    /// This node does not lead in `term`, or not any more: somebody else may.
    pub(crate) fn lost_lease(&self, term: u64) {
        self.lease.end();
        self.pipeline.leave(self, term);
        if let Some(cluster) = self.cluster() {
            cluster.lease_lost();
        }
    }

    /// A snapshot has brought everything up to here, and nothing else.
    pub(crate) fn reset_applied(&self, ts: Timestamp) {
        self.applied.store(ts.0, Ordering::Release);
    }

    pub(crate) fn next_txn_id(&self) -> u64 {
        self.next_txn.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets garbage collection proceed to what retention and running transactions allow.
    pub(crate) fn advance_gc(&self) -> Timestamp {
        let ttl = u64::try_from(self.config.gc_ttl.as_micros()).unwrap_or(u64::MAX);
        let now = self.hlc.now();
        let keep_from = Timestamp::from_micros(now.micros().saturating_sub(ttl));
        let elsewhere = self.cluster().and_then(|cluster| cluster.oldest_elsewhere());
        let keep_from = keep_from.min(elsewhere.unwrap_or(Timestamp::MAX));
        let oldest = self.snapshots.close(keep_from.min(self.applied()));
        let bound = self.pipeline.advance_gc(keep_from, oldest);
        self.gc.advance(bound, 0, None);
        bound
    }
}
