//! What a store, its transactions and its background tasks share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use meridian_base::keys::txn_span;
use meridian_base::{Hlc, NodeId};
use meridian_kv::api::{KvError, Timestamp};
use meridian_kv::locks::{AdvisoryKey, AdvisoryMode, LockMode, Owner};
use meridian_kv::range::Stored;
use meridian_replication::{ChangeError, RaftGroup};
use meridian_storage::engine::Keyspace;
use meridian_storage::{GcHandle, StorageError};

use crate::advisory::{AdvisoryCounts, Level};
use crate::config::StoreConfig;
use crate::coordinator::Coordinators;
use crate::counters::CounterCache;
use crate::directory::Directory;
use crate::fence::Fence;
use crate::lease::epoch_of;
use crate::locking::LockManager;
use crate::range::{Found, Range, Ranges};
use crate::read::ReadPath;
use crate::remote::Cluster;
use crate::replicas::Replicas;
use crate::snapshots::ActiveSnapshots;
use crate::stats::Counters;
use crate::twophase;

/// Where a transaction's number says which node began it.
pub(crate) use meridian_kv::locks::NODE_SHIFT as TXN_NODE_SHIFT;

/// How long the next leaseholder may take to be elected.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// The shared parts of one store. Order of locks, where two are held: what a range has left, commit pipeline.
pub(crate) struct Core {
    pub(crate) node: NodeId,
    /// A database of one node: whatever happens to it, nobody else can tell more.
    pub(crate) alone: bool,
    pub(crate) ranges: Ranges,
    pub(crate) config: StoreConfig,
    pub(crate) hlc: Arc<Hlc>,
    pub(crate) read: ReadPath,
    pub(crate) locks: LockManager,
    pub(crate) advisory: AdvisoryCounts,
    pub(crate) snapshots: ActiveSnapshots,
    pub(crate) counters: CounterCache,
    pub(crate) coordinators: Coordinators,
    pub(crate) stats: Counters,
    pub(crate) gc: GcHandle,
    next_txn: AtomicU64,
    /// Whether this node's catalog is the newest.
    pub(crate) fence: Fence,
    /// The other nodes, unless there are none. The store owns it.
    cluster: OnceLock<Weak<Cluster>>,
    /// The replicas of this node. The store owns them.
    replicas: OnceLock<Weak<Replicas>>,
    /// What the directory's rows say.
    pub(crate) directory: Directory,
}

/// The parts that differ from store to store.
pub(crate) struct CoreParts {
    pub(crate) node: NodeId,
    pub(crate) alone: bool,
    pub(crate) config: StoreConfig,
    pub(crate) hlc: Arc<Hlc>,
    pub(crate) read: ReadPath,
    pub(crate) gc: GcHandle,
    /// The range of the system's keys, and of all others until it splits.
    pub(crate) first: Arc<Range>,
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
        let CoreParts { node, alone, config, hlc, read, gc, first } = parts;
        first.set_replicates(alone);
        let ranges = Ranges::new(first);
        let next_txn = first_txn(node, alone, hlc.reading());
        let coordinators = Coordinators::new(first_txn(node, false, hlc.reading()));
        Arc::new(Core {
            node,
            alone,
            ranges,
            hlc,
            read,
            locks: LockManager::new(config.deadlock_check_delay),
            advisory: AdvisoryCounts::default(),
            snapshots: ActiveSnapshots::new(),
            counters: CounterCache::default(),
            coordinators,
            stats: Counters::default(),
            gc,
            next_txn: AtomicU64::new(next_txn),
            fence: Fence::new(alone),
            cluster: OnceLock::new(),
            replicas: OnceLock::new(),
            directory: Directory::default(),
            config,
        })
    }

    /// The range that a key lies in.
    #[inline]
    pub(crate) fn range_of(&self, key: &[u8]) -> Found<'_> {
        self.ranges.of(key)
    }

    /// The range of the system's keys.
    #[inline]
    pub(crate) fn first(&self) -> &Arc<Range> {
        self.ranges.first()
    }

    /// The newest snapshot of the first range, which is that of everything while there is no other.
    #[inline]
    pub(crate) fn applied(&self) -> Timestamp {
        self.first().applied()
    }

    /// A snapshot that nobody needs to be asked for: of one range what has been applied, of several the time.
    #[inline]
    pub(crate) fn newest(&self) -> Timestamp {
        if self.ranges.is_single() { self.applied() } else { self.hlc.now() }
    }

    /// The other nodes; `None` when there are none, or the store is being closed.
    pub(crate) fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.get()?.upgrade()
    }

    /// The same, for who can't do without.
    pub(crate) fn among_others(&self) -> Result<Arc<Cluster>, KvError> {
        self.cluster().ok_or(KvError::Stopping)
    }

    /// The replicas of this node; `None` before the store is open, and when it is being closed.
    pub(crate) fn replicas(&self) -> Option<Arc<Replicas>> {
        self.replicas.get()?.upgrade()
    }

    pub(crate) fn keep(&self, replicas: &Arc<Replicas>) {
        let first = self.replicas.set(Arc::downgrade(replicas)).is_ok();
        debug_assert!(first, "a store has one set of replicas");
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
        let holding = (owner, key, mode);
        let Some(last) = self.advisory.remove(&holding, level) else { return false };
        match self.cluster() {
            Some(cluster) if last => cluster.unlock_advisory(holding),
            None if last => {
                let held = self.locks.advisory_held(key, owner);
                self.locks.release_advisory(key, owner, held & !mode.bit());
            }
            _ => {}
        }
        true
    }

    /// This node leads a range in `term`, alone or with a quorum's support until `until` (µs of the clock),
    /// and has applied what earlier leaders committed. Said again with a later `until`, it extends the lease.
    pub(crate) fn lead(
        &self,
        range: &Range,
        term: u64,
        until: Option<u64>,
    ) -> Result<(), StorageError> {
        // Whoever gives it away has it stay so.
        let left = range.left.lock();
        if until.is_some() && term <= *left {
            return Ok(());
        }
        let epoch = epoch_of(term, self.node);
        let end = until.map_or(Timestamp::MAX, Timestamp::from_micros);
        if !range.pipeline.leads(term) {
            self.hlc.raise(range.applied());
            if range.id == self.first().id {
                // Other leaders may have counted on meanwhile.
                self.counters.forget();
                twophase::regain_tables(self)?;
            }
            let stored = self.stored_transactions(range)?;
            range.pipeline.lead(self, term, self.hlc.now(), end, stored);
            range.lease.note_leader(Some(self.node));
        } else {
            range.pipeline.extend(term, end);
        }
        match until {
            None => range.lease.grant_for_ever(epoch),
            Some(until) => range.lease.extend(epoch, until),
        }
        Ok(())
    }

    /// What a range holds of transactions over several ranges, or of those that were prevented.
    fn stored_transactions(&self, range: &Range) -> Result<Vec<Stored>, StorageError> {
        let span = txn_span(&range.span());
        let found = self.read.engine.range(Keyspace::Cur, &span, false);
        let damaged = |_| StorageError::Corruption("a transaction's record is damaged".into());
        found.map(|entry| Stored::decode(entry?.1).map_err(damaged)).collect()
    }

    /// Hands a range's lease over, which ends before anybody else can have it.
    pub(crate) async fn hand_over(
        self: &Arc<Self>,
        range: &Arc<Range>,
        group: &RaftGroup,
        to: NodeId,
    ) -> Result<(), ChangeError> {
        let (core, given) = (Arc::clone(self), Arc::clone(range));
        let left = move |term| {
            *given.left.lock() = term;
            core.lost_lease(&given, term);
        };
        group.transfer_leader(to, HANDOVER_TIMEOUT, left).await
    }

    /// This node does not lead a range in `term`, or not any more: somebody else may.
    pub(crate) fn lost_lease(&self, range: &Range, term: u64) {
        range.lease.end();
        range.pipeline.leave(self, term);
        if let Some(cluster) = self.cluster() {
            cluster.lease_lost(&range.span());
        }
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
        let ranges = self.ranges.all();
        if let [range] = &ranges[..] {
            let oldest = self.snapshots.close(keep_from.min(range.applied()));
            let bound = range.pipeline.advance_gc(keep_from, oldest);
            self.gc.advance(bound, 0, None);
            return bound;
        }
        // What nobody has written since then is the same at any later time.
        ranges.iter().for_each(|range| range.pipeline.close(range, now));
        let oldest = self.snapshots.close(keep_from);
        let bound = keep_from.min(oldest.unwrap_or(Timestamp::MAX));
        for range in &ranges {
            range.pipeline.advance_gc(bound, None);
        }
        self.gc.advance(bound, 0, None);
        bound
    }
}
