//! One node's store: the engine with its log, and the background tasks on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
#[cfg(test)]
use meridian_base::RangeId;
use meridian_base::{Hlc, Instant, NodeId, SystemClock, limits};
use meridian_kv::api::{Bytes, Key, KvError, Span, Timestamp};
use meridian_kv::locks::Owner;
use meridian_kv::placement::Zone;
use meridian_replication::{Alone, MultiRaft, NodeRaftConfig};
use meridian_storage::engine::{Engine, Keyspace};
use meridian_storage::mvcc::MvccScan;
use meridian_storage::{
    DataDirLock, FjallConfig, FjallEngine, GcHandle, LogConfig, MemEngine, RaftLog, RecordCache,
    SegLog, StorageError,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::advisory::Level;
use crate::apply::{EntryApplier, FIRST, recovered_commit_ts};
use crate::config::{StoreConfig, StoreError};
use crate::coordinator::run_recovery;
use crate::core::{Core, CoreParts};
use crate::lease::Home;
use crate::locking::LockInfo;
use crate::member::{Among, NodeRow};
use crate::proposer::{Logged, Proposer, Unlogged};
use crate::range::{Range, Shape};
use crate::read::ReadPath;
use crate::replicas::{Ground, Replica, Replicas};
use crate::sizes::run_splitter;
use crate::stats::StoreStats;
use crate::txn::{Txn, TxnOptions, advisory};
use crate::{counters, read};

/// A store, open for transactions.
pub struct Store {
    core: Arc<Core>,
    proposer: Arc<dyn Proposer>,
    pub(crate) stop: Arc<Notify>,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
    /// The replicas of this node's ranges.
    pub(crate) replicas: Arc<Replicas>,
    /// The other nodes, if there may be others.
    pub(crate) among: Option<Among>,
}

impl Store {
    /// Why this store does not take writes, if so; a sentence for `/health/ready`.
    pub fn failure(&self) -> Option<String> {
        self.proposer.failure()
    }

    /// Opens a store: locks the data directory, recovers, starts the background tasks.
    pub async fn open(config: StoreConfig) -> Result<Arc<Store>, StoreError> {
        config.validate()?;
        let opened = tokio::task::spawn_blocking(move || match config.data_dir.clone() {
            None => open_in_memory(config),
            Some(dir) => open_directory(config, &dir),
        });
        let (core, first, ground) =
            opened.await.map_err(|panic| StorageError::Stopped(panic.to_string()))??;
        let replicas = Replicas::new(Arc::clone(&core), ground);
        let store = Store::start(core, replicas, first, None);
        store.replicas.open_stored().await?;
        Ok(store)
    }

    /// Waits until some node leads the range.
    pub async fn await_leaseholder(&self, limit: Duration) -> Result<(), StoreError> {
        let started = Instant::now();
        loop {
            match self.core.first().lease.home(self.core.node, &self.core.hlc) {
                Home::Nowhere if started.elapsed() < limit => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Home::Nowhere => {
                    let why =
                        "no node leads the range: a majority of its replicas cannot be reached";
                    return Err(StorageError::Stopped(why.into()).into());
                }
                _ => return Ok(()),
            }
        }
    }

    /// The nodes of the cluster as this one knows them; none when it is alone.
    pub fn nodes(&self) -> Vec<NodeRow> {
        self.among.as_ref().map_or_else(Vec::new, |among| among.register.nodes())
    }

    /// What is to be done so that copies and leases are where they should be, as this node sees it: range,
    /// action, from node, to node, reason.
    pub fn rebalance_plan(&self) -> Vec<[String; 5]> {
        self.among.as_ref().map_or_else(Vec::new, |among| among.register.rebalance_plan())
    }

    /// From a key on until the next one copies of ranges are to be as each zone says; before the first, as is
    /// `usual`.
    pub fn set_zones(&self, usual: Zone, zones: BTreeMap<Key, Zone>) {
        if let Some(among) = &self.among {
            among.register.set_zones(usual, zones);
        }
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.core.node
    }

    /// May there be other nodes?
    pub fn has_peers(&self) -> bool {
        self.among.is_some()
    }

    /// Tells these nodes that the catalog has changed (all that live, if none are named), and waits until
    /// they have heard it or will read the catalog before they use it.
    pub async fn announce(&self, change: Bytes, nodes: Option<Vec<NodeId>>) {
        if let Some(among) = &self.among {
            let nodes = nodes.unwrap_or_else(|| among.cluster.live());
            among.cluster.announce(change, nodes).await;
        }
    }

    /// The catalog has been read again, and is another one: what was begun by the old one is over, since
    /// nobody has asked for its locks.
    pub fn catalog_was_old(&self) {
        self.core.fence.catalog_was_old();
    }

    /// Waits until everything is applied that any leaseholder had begun to commit before, known or not.
    ///
    /// # Errors
    /// No leaseholder can be found.
    pub async fn settle(&self) -> Result<(), KvError> {
        // A commit, behind all others; as a counter, which nodes may set that may write nothing else.
        self.set_counter(SETTLED, 0).await
    }

    /// Hears of changes to the catalog that other nodes announce (empty: there may be some). What `heard`
    /// answers ends when they are known here.
    pub fn on_announcement(
        &self,
        heard: impl Fn(Bytes) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        if let Some(among) = &self.among {
            among.cluster.on_catalog_change(Box::new(heard));
        }
    }

    /// Starts the background tasks of a store over any log.
    pub(crate) fn start(
        core: Arc<Core>,
        replicas: Arc<Replicas>,
        (first, proposer): First,
        among: Option<Among>,
    ) -> Arc<Store> {
        let stop = Arc::new(Notify::new());
        let is_replica = core.first().replicates();
        replicas.add(first, Arc::clone(&proposer));
        core.first().set_replicates(is_replica);
        let housekeeping =
            run_housekeeping(Arc::clone(&core), Arc::clone(&proposer), Arc::clone(&stop));
        let splitting = stopped(run_splitter(Arc::clone(&core)), Arc::clone(&stop));
        let tasks = Mutex::new(vec![tokio::spawn(housekeeping), tokio::spawn(splitting)]);
        Arc::new(Store { core, proposer, stop, tasks, replicas, among })
    }

    /// Begins a transaction at the newest snapshot.
    pub fn begin(self: &Arc<Self>, options: TxnOptions) -> Txn {
        Txn::begin(Arc::clone(&self.core), options)
    }

    /// Begins a transaction that reads what was there at `ts`, and writes nothing. [`KvError::SnapshotTooOld`]
    /// when that may be gone: [`StoreConfig::gc_ttl`]. What is to come can't be read: `ts` is at most now.
    pub fn begin_as_of(
        self: &Arc<Self>,
        options: TxnOptions,
        ts: Timestamp,
    ) -> Result<Txn, KvError> {
        Txn::begin_as_of(&self.core, options, ts)
    }

    /// A timestamp above all that were given out.
    pub fn now(&self) -> Timestamp {
        self.core.hlc.now()
    }

    /// The newest snapshot.
    pub fn applied(&self) -> Timestamp {
        self.core.applied()
    }

    /// Adds `by` to a durable counter outside transactions and answers the new value; a counter that
    /// was never set is 0, and `by` = 0 reads it. After a crash a counter may have skipped up to
    /// [`StoreConfig::counter_block`] steps, and never repeats one.
    pub async fn increment(&self, key: &[u8], by: i64) -> Result<i64, KvError> {
        counters::increment(&self.core, key, by).await
    }

    /// Sets a counter, so that the next increment starts from `value`.
    pub async fn set_counter(&self, key: &[u8], value: i64) -> Result<(), KvError> {
        counters::set(&self.core, key, value).await
    }

    /// Writes one row in a transaction of its own.
    pub async fn put_raw(&self, key: Key, value: Bytes) -> Result<Timestamp, KvError> {
        let mut txn = Txn::begin(Arc::clone(&self.core), TxnOptions::default());
        txn.put(key, value);
        txn.commit().await
    }

    /// Gives back a session-level advisory lock; false when the session doesn't hold it.
    pub fn advisory_unlock(
        &self,
        backend: u32,
        database: u32,
        key: (u32, u32, u32),
        shared: bool,
    ) -> bool {
        let (key, mode) = advisory(database, key, shared);
        let owner = Owner::on_node(self.core.node, 0, backend).session_level();
        self.core.give_back_advisory(owner, key, mode, Level::Session)
    }

    /// Gives back all session-level advisory locks of a session that ends (or runs DISCARD ALL).
    pub fn advisory_unlock_all(&self, backend: u32) {
        let owner = Owner::on_node(self.core.node, 0, backend).session_level();
        for (key, mode, times) in self.core.advisory.of_session(owner) {
            for _ in 0..times {
                self.core.give_back_advisory(owner, key, mode, Level::Session);
            }
        }
    }

    /// Everything that is locked or waited for, as `pg_locks` shows it.
    pub fn lock_view(&self) -> Vec<LockInfo> {
        self.core.locks.view()
    }

    /// Counters since the store was opened.
    pub fn stats(&self) -> StoreStats {
        let (core, load) =
            (&self.core, |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed));
        let cache = core.read.cache.stats();
        StoreStats {
            commits: load(&core.stats.commits),
            commits_refused: load(&core.stats.refused),
            batches: load(&core.stats.batches),
            batch_commits_max: load(&core.stats.batch_commits_max),
            batch_bytes: load(&core.stats.batch_bytes),
            fsyncs: self.proposer.fsyncs(),
            deadlocks: load(&core.locks.deadlocks),
            cache_hits: cache.hits,
            cache_misses: cache.misses,
            cache_bytes: cache.bytes as u64,
            disk_bytes: core.read.engine.disk_bytes(),
            applied: core.applied(),
            gc: core.first().pipeline.gc(),
            oldest_snapshot: core.snapshots.oldest(),
        }
    }

    /// Declares spans dead: their content is removed in the background. Nothing may ever be written
    /// there again. Not remembered over a restart: whoever knows the catalog says it again.
    pub fn bury(&self, spans: impl IntoIterator<Item = Span>) {
        self.core.gc.bury(spans);
    }

    /// The first key of a span that this node's engine holds, of any age, deleted or not.
    pub fn first_key(&self, span: &Span) -> Result<Option<Key>, KvError> {
        let mut found = self.core.read.engine.range(Keyspace::Cur, &span.physical(), false);
        let first = found.next().transpose().map_err(read::storage_error)?;
        Ok(first.map(|(physical, _)| physical.slice(1..)))
    }

    /// Counts rows of a span and their bytes, as this node has them, up to about `rows_max`; the last
    /// answer says whether these were all.
    pub fn sample(&self, span: &Span, rows_max: usize) -> Result<(usize, u64, bool), KvError> {
        let applied = self.core.newest();
        let _protection = self.core.snapshots.guard(applied);
        let mut scan = MvccScan::new(self.core.read.engine.snapshot(), span, false, applied);
        let (mut rows, mut bytes, mut batch) = (0, 0, Vec::new());
        while rows < rows_max {
            batch.clear();
            let more = scan.next_batch(1024, &mut batch).map_err(read::storage_error)?;
            rows += batch.len();
            bytes += batch.iter().map(|(key, row)| (key.len() + row.len()) as u64).sum::<u64>();
            if !more || batch.is_empty() {
                return Ok((rows, bytes, true));
            }
        }
        Ok((rows, bytes, false))
    }

    /// Collects garbage and makes the engine durable now; otherwise this happens by itself.
    pub async fn checkpoint(&self) -> Result<(), KvError> {
        checkpoint(&self.core, &self.proposer).await
    }

    /// Removes garbage and dead spans from the engine's files now; otherwise this happens by itself,
    /// file by file, as data is written.
    pub async fn compact(&self) -> Result<(), KvError> {
        self.core.advance_gc();
        let core = Arc::clone(&self.core);
        blocking(move || core.read.engine.compact()).await
    }

    /// A store in memory whose log is what the test makes of the usual one.
    #[cfg(test)]
    pub(crate) fn over(log: impl FnOnce(Arc<dyn Proposer>) -> Arc<dyn Proposer>) -> Arc<Store> {
        let (core, (first, unlogged), ground) =
            open_in_memory(StoreConfig::in_memory()).expect("opens");
        let replicas = Replicas::new(Arc::clone(&core), ground);
        Store::start(core, replicas, (first, log(unlogged)), None)
    }

    /// Ends as a crash does: nothing more is sent, written or answered.
    #[cfg(test)]
    pub(crate) async fn kill(&self) {
        // Others must not hear how the tasks end.
        if let Some(among) = &self.among {
            among.switchboard.unplug();
            among.rpc.shutdown();
            among.liveness.shutdown();
        }
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks.into_iter().chain(self.replicas.end()) {
            task.abort();
            let _ = task.await;
        }
        self.proposer.abort();
    }

    #[cfg(test)]
    pub(crate) async fn register_node(&self, row: NodeRow) {
        let among = self.among.as_ref().expect("a member");
        among.register.put(row).await.expect("writes");
    }

    #[cfg(test)]
    pub(crate) fn forget_guests_of(&self, node: NodeId) {
        let among = self.among.as_ref().expect("a member");
        let _ = among.cluster.guests.end_of_node(&self.core, node);
    }

    #[cfg(test)]
    pub(crate) async fn hand_over(&self) {
        self.among.as_ref().expect("a member").register.hand_over().await;
    }

    /// Reaches no other node any more, and is reached by none, but lives.
    #[cfg(test)]
    pub(crate) fn cut_off(&self) {
        let among = self.among.as_ref().expect("a member");
        among.switchboard.unplug();
        among.rpc.shutdown();
    }

    /// How many nodes vote; none while that is being changed.
    #[cfg(test)]
    pub(crate) fn voters(&self, range: RangeId) -> usize {
        let group = self.replicas.get(range).and_then(|replica| replica.group.clone());
        let members = group.map(|group| group.members());
        let settled = members.filter(|members| members.voters.len() == 1);
        settled.map_or(0, |members| members.all_voters().len())
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Ends in order: no new commits, those in flight finish, the engine is made durable. Transactions
    /// that are still open get [`KvError::Stopping`] at commit.
    pub async fn shutdown(&self) -> Result<(), KvError> {
        let flushed = match self.core.first().lease.here(&self.core.hlc) {
            Some(_) => counters::flush(&self.core).await,
            None => Ok(()),
        };
        self.core.coordinators.rest(REST).await;
        if let Some(among) = &self.among {
            among.register.hand_over().await;
        }
        let batchers = self.replicas.end();
        if !self.replicas.drain().await {
            batchers.iter().for_each(JoinHandle::abort);
        }
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for mut task in tasks.into_iter().chain(batchers) {
            // A task that panicked has logged it; shutting down goes on. One that was busy is told again.
            self.stop.notify_waiters();
            while tokio::time::timeout(STOP_AGAIN, &mut task).await.is_err() {
                self.stop.notify_waiters();
            }
        }
        if let Some(among) = &self.among {
            among.switchboard.unplug();
            among.rpc.shutdown();
            among.liveness.shutdown();
        }
        let proposer = Arc::clone(&self.proposer);
        blocking(move || proposer.close()).await?;
        flushed
    }
}

/// How long shutting down waits for commits over several ranges to be resolved; the next leaseholders can do
/// that, too.
const REST: Duration = Duration::from_secs(2);

/// The counter of [`Store::settle`].
pub(crate) const SETTLED: &[u8] = b"settled";

/// How often a task that is busy is told to stop.
const STOP_AGAIN: Duration = Duration::from_millis(20);
/// How long opening may take: redo of the log included.
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(120);

/// The replica of the first range, with its way into the log.
pub(crate) type First = (Replica, Arc<dyn Proposer>);

type Opened = (Arc<Core>, First, Ground);

fn new_core(
    config: StoreConfig,
    (node, alone): (NodeId, bool),
    hlc: Arc<Hlc>,
    engine: Arc<dyn Engine>,
    gc: GcHandle,
) -> Result<Arc<Core>, StoreError> {
    let applied = recovered_commit_ts(engine.as_ref(), FIRST)?;
    let shape = Shape { span: Span::all(), generation: 1 };
    let first = Arc::new(Range::new(FIRST, shape, applied, config.recent_writes_len));
    let cache = RecordCache::new(config.record_cache_bytes);
    let read = ReadPath { engine, cache, barren: Arc::default() };
    let core = Core::new(CoreParts { node, alone, config, hlc, read, gc, first });
    core.restore_ranges()?;
    Ok(core)
}

/// A clock that follows no other node's.
fn own_clock() -> Arc<Hlc> {
    let offset = Duration::from_millis(limits::CLOCK_OFFSET_MS_MAX);
    Arc::new(Hlc::new(Arc::new(SystemClock), offset))
}

fn open_in_memory(config: StoreConfig) -> Result<Opened, StoreError> {
    let engine = Arc::new(MemEngine::new());
    let core = new_core(config, ALONE, own_clock(), engine, GcHandle::new())?;
    let range = Arc::clone(core.first());
    let applier = EntryApplier::new(Arc::clone(&core), Arc::clone(&range))?;
    let holds = Arc::clone(&applier.holds);
    let proposer = Arc::new(Unlogged { core: Arc::clone(&core), applier });
    core.lead(&range, 1, None)?;
    Ok((core, (Replica::new(range, holds, None), proposer), Ground::Memory))
}

/// The node of a database without others.
const ALONE: (NodeId, bool) = (NodeId(1), true);

/// What a directory holds, open.
pub(crate) struct Parts {
    pub(crate) core: Arc<Core>,
    pub(crate) log: Arc<SegLog>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) lock: DataDirLock,
    pub(crate) dir: PathBuf,
    pub(crate) interval: Duration,
}

pub(crate) fn open_dir(
    config: StoreConfig,
    dir: &Path,
    who: (NodeId, bool),
    hlc: Arc<Hlc>,
) -> Result<Parts, StoreError> {
    let lock = DataDirLock::acquire(dir)?;
    let gc = GcHandle::new();
    let fjall = FjallConfig {
        block_cache_bytes: config.block_cache_bytes as u64,
        ..FjallConfig::new(dir.join("engine"))
    };
    let engine: Arc<dyn Engine> = Arc::new(FjallEngine::open(&fjall, &gc)?);
    let log = Arc::new(SegLog::open(LogConfig::new(dir.join("log")))?);
    let interval = config.checkpoint_interval;
    let core = new_core(config, who, hlc, Arc::clone(&engine), gc)?;
    Ok(Parts { core, log, engine, lock, dir: dir.to_owned(), interval })
}

/// Opens log and engine, and the raft group over them, which redoes what the engine has lost.
fn open_directory(config: StoreConfig, dir: &Path) -> Result<Opened, StoreError> {
    let Parts { core, log, engine, lock, interval, .. } =
        open_dir(config, dir, ALONE, own_clock())?;
    let raft_config = NodeRaftConfig {
        checkpoint_interval: interval,
        sync_when_idle: true,
        ..NodeRaftConfig::new(ALONE.0)
    };
    let range = Arc::clone(core.first());
    let applier = Arc::new(EntryApplier::new(Arc::clone(&core), Arc::clone(&range))?);
    let holds = Arc::clone(&applier.holds);
    let raft_log: Arc<dyn RaftLog> = Arc::clone(&log) as _;
    let (network, authority) = (Arc::new(Alone), Arc::new(Alone));
    let raft = MultiRaft::start(raft_config, raft_log, engine, network, authority)?;
    let group = futures::executor::block_on(raft.open_alone(FIRST, applier, OPEN_TIMEOUT))?;
    let term = group.role().borrow().term;
    core.lead(&range, term, None)?;
    let dir = Arc::new(lock);
    let ground =
        Ground::Raft { raft: Arc::clone(&raft), log: Arc::clone(&log), dir: Arc::clone(&dir) };
    let replica = Replica::new(range, holds, Some(group.clone()));
    let workers = Handle::current();
    let logged = Logged { raft, group, log, workers, _dir: dir };
    Ok((core, (replica, Arc::new(logged)), ground))
}

async fn blocking(
    work: impl FnOnce() -> Result<(), StorageError> + Send + 'static,
) -> Result<(), KvError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(read::storage_error),
        Err(panic) => Err(KvError::Storage { reason: panic.to_string() }),
    }
}

async fn checkpoint(core: &Arc<Core>, proposer: &Arc<dyn Proposer>) -> Result<(), KvError> {
    core.advance_gc();
    let proposer = Arc::clone(proposer);
    blocking(move || proposer.checkpoint()).await
}

/// Runs until `stop`.
async fn stopped(what: impl Future<Output = ()>, stop: Arc<Notify>) {
    tokio::select! {
        () = stop.notified() => {}
        () = what => {}
    }
}

async fn run_housekeeping(core: Arc<Core>, proposer: Arc<dyn Proposer>, stop: Arc<Notify>) {
    tokio::select! {
        () = run_checkpoints(&core, &proposer, &stop) => {}
        () = run_recovery(&core) => {}
    }
}

async fn run_checkpoints(core: &Arc<Core>, proposer: &Arc<dyn Proposer>, stop: &Notify) {
    loop {
        tokio::select! {
            () = stop.notified() => return,
            () = tokio::time::sleep(core.config.checkpoint_interval) => {}
        }
        if let Err(error) = checkpoint(core, proposer).await {
            tracing::error!(%error, "checkpoint failed");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..).chain(self.replicas.end()) {
            task.abort();
        }
    }
}
