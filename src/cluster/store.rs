//! One node's store: the engine with its log, and the background tasks on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_base::{Hlc, Instant, NodeId, SystemClock, limits};
use meridian_kv::api::{Bytes, Key, KvError, Span, Timestamp};
use meridian_kv::locks::Owner;
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
use crate::commit::run_batcher;
use crate::config::{StoreConfig, StoreError};
use crate::core::{Core, CoreParts};
use crate::lease::Home;
use crate::locking::LockInfo;
use crate::member::{Among, NodeRow};
use crate::proposer::{Logged, Proposer, Unlogged};
use crate::range::{Range, Shape};
use crate::read::ReadPath;
use crate::stats::StoreStats;
use crate::txn::{Txn, TxnOptions, advisory};
use crate::{counters, read};

/// A store, open for transactions.
pub struct Store {
    core: Arc<Core>,
    proposer: Arc<dyn Proposer>,
    pub(crate) stop: Arc<Notify>,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
    /// The other nodes, if there may be others.
    among: Option<Among>,
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
        let (core, proposer) =
            opened.await.map_err(|panic| StorageError::Stopped(panic.to_string()))??;
        Ok(Store::start(core, proposer))
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

    /// This node.
    pub fn node(&self) -> NodeId {
        self.core.node
    }

    /// May there be other nodes?
    pub fn has_peers(&self) -> bool {
        self.among.is_some()
    }

    /// Tells the other nodes that the catalog has changed, and waits until all that live have heard it.
    pub async fn announce(&self, change: Bytes) {
        if let Some(among) = &self.among {
            among.cluster.announce(change).await;
        }
    }

    /// This node begins to read the whole catalog. What it answers is to be handed to
    /// [`Store::catalog_read`] when that is done.
    pub fn begin_catalog(&self) -> BTreeMap<NodeId, u64> {
        self.among.as_ref().map(|among| among.register.epochs()).unwrap_or_default()
    }

    /// The whole catalog has been read: the leaseholder may let this node write.
    pub fn catalog_read(&self, begun: BTreeMap<NodeId, u64>) {
        if let Some(among) = &self.among {
            among.cluster.catalog_read(begun);
        }
    }

    /// Hears of changes to the catalog that other nodes announce.
    pub fn on_announcement(&self, heard: impl Fn(Bytes) + Send + Sync + 'static) {
        if let Some(among) = &self.among {
            among.cluster.on_catalog_change(Box::new(heard));
        }
    }

    /// Starts the background tasks of a store over any log.
    fn start(core: Arc<Core>, proposer: Arc<dyn Proposer>) -> Arc<Store> {
        Store::start_among(core, proposer, None)
    }

    pub(crate) fn start_among(
        core: Arc<Core>,
        proposer: Arc<dyn Proposer>,
        among: Option<Among>,
    ) -> Arc<Store> {
        let stop = Arc::new(Notify::new());
        let (first, workers) = (Arc::clone(core.first()), Handle::current());
        let batcher = run_batcher(Arc::clone(&core), first, Arc::clone(&proposer), workers);
        let tasks = vec![
            proposer.start(Box::pin(batcher)),
            tokio::spawn(run_housekeeping(
                Arc::clone(&core),
                Arc::clone(&proposer),
                Arc::clone(&stop),
            )),
        ];
        Arc::new(Store { core, proposer, stop, tasks: Mutex::new(tasks), among })
    }

    /// Begins a transaction at the newest snapshot.
    pub fn begin(self: &Arc<Self>, options: TxnOptions) -> Txn {
        Txn::begin(Arc::clone(&self.core), options)
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
        loop {
            if self.core.first().lease.here(&self.core.hlc).is_some() {
                return counters::increment(&self.core, key, by).await;
            }
            if let Some(number) = self.ask_counter(key, by, None).await? {
                return Ok(number);
            }
        }
    }

    /// Asks the leaseholder for a counter; `None` when that is this node now.
    async fn ask_counter(
        &self,
        name: &[u8],
        by: i64,
        set: Option<i64>,
    ) -> Result<Option<i64>, KvError> {
        let Some(cluster) = self.core.cluster() else {
            return Err(KvError::Unavailable { reason: "the store is shutting down".into() });
        };
        cluster.counter(name, by, set).await
    }

    /// Sets a counter, so that the next increment starts from `value`.
    pub async fn set_counter(&self, key: &[u8], value: i64) -> Result<(), KvError> {
        loop {
            if self.core.first().lease.here(&self.core.hlc).is_some() {
                return counters::set(&self.core, key, value).await;
            }
            if self.ask_counter(key, 0, Some(value)).await?.is_some() {
                return Ok(());
            }
        }
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
        let (core, unlogged) = open_in_memory(StoreConfig::in_memory()).expect("opens");
        Store::start(core, log(unlogged))
    }

    /// Ends as a crash does: nothing more is sent, written or answered.
    #[cfg(test)]
    pub(crate) async fn kill(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        if let Some(among) = &self.among {
            among.switchboard.unplug();
            among.rpc.shutdown();
            among.liveness.shutdown();
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
        among.cluster.guests.end_of_node(&self.core, node);
    }

    #[cfg(test)]
    pub(crate) fn voters(&self) -> usize {
        self.among.as_ref().expect("a member").register.voters()
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Ends in order: no new commits, those in flight finish, the engine is made durable. Transactions
    /// that are still open get [`KvError::Unavailable`] at commit.
    pub async fn shutdown(&self) -> Result<(), KvError> {
        let flushed = match self.core.first().lease.here(&self.core.hlc) {
            Some(_) => counters::flush(&self.core).await,
            None => Ok(()),
        };
        if let Some(among) = &self.among {
            among.register.hand_over().await;
        }
        let drained = async {
            for range in self.core.ranges.all() {
                range.pipeline.drain().await;
            }
        };
        if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
            // As on a full disk. They are in the log; the next start applies them.
            tracing::warn!("some commits were not applied in time");
            self.tasks.lock().iter().for_each(JoinHandle::abort);
        }
        // Each of the tasks takes one.
        self.stop.notify_waiters();
        self.stop.notify_one();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            // A task that panicked has logged it; shutting down goes on.
            let _ = task.await;
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

/// How long commits that are on their way may take when the store is closed.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long opening may take: redo of the log included.
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);

type Opened = (Arc<Core>, Arc<dyn Proposer>);

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
    let read = ReadPath { engine, cache };
    Ok(Core::new(CoreParts { node, alone, config, hlc, read, gc, first }))
}

/// A clock that follows no other node's.
fn own_clock() -> Arc<Hlc> {
    let offset = Duration::from_millis(limits::CLOCK_OFFSET_MS_MAX);
    Arc::new(Hlc::new(Arc::new(SystemClock), offset))
}

fn open_in_memory(config: StoreConfig) -> Result<Opened, StoreError> {
    let engine = Arc::new(MemEngine::new());
    let core = new_core(config, ALONE, own_clock(), engine, GcHandle::new())?;
    let applier = EntryApplier::new(Arc::clone(&core), Arc::clone(core.first()));
    let proposer = Arc::new(Unlogged { core: Arc::clone(&core), applier });
    core.lead(core.first(), 1, None)?;
    Ok((core, proposer))
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
    let applier = Arc::new(EntryApplier::new(Arc::clone(&core), Arc::clone(core.first())));
    let raft_log: Arc<dyn RaftLog> = Arc::clone(&log) as _;
    let (network, authority) = (Arc::new(Alone), Arc::new(Alone));
    let raft = MultiRaft::start(raft_config, raft_log, engine, network, authority)?;
    let group = futures::executor::block_on(raft.open_alone(FIRST, applier, OPEN_TIMEOUT))?;
    let term = group.role().borrow().term;
    core.lead(core.first(), term, None)?;
    Ok((core, Arc::new(Logged { raft, group, log, _dir: lock })))
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

async fn run_housekeeping(core: Arc<Core>, proposer: Arc<dyn Proposer>, stop: Arc<Notify>) {
    loop {
        tokio::select! {
            () = stop.notified() => return,
            () = tokio::time::sleep(core.config.checkpoint_interval) => {}
        }
        if let Err(error) = checkpoint(&core, &proposer).await {
            tracing::error!(%error, "checkpoint failed");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}
