//! One node's store: the engine with its log, and the background tasks on them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_base::{Hlc, SystemClock, limits};
use meridian_kv::api::{Bytes, Key, KvError, Timestamp};
use meridian_kv::locks::Owner;
use meridian_storage::engine::Engine;
use meridian_storage::{GcHandle, MemEngine, RecordCache};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::apply::{Applier, recovered_commit_ts};
use crate::commit::run_batcher;
use crate::config::{StoreConfig, StoreError};
use crate::core::{Core, CoreParts};
use crate::locking::LockInfo;
use crate::proposer::{Proposer, Unlogged};
use crate::read::ReadPath;
use crate::stats::StoreStats;
use crate::txn::{Txn, TxnOptions, advisory};
use crate::{counters, read};

/// A store, open for transactions.
pub struct Store {
    core: Arc<Core>,
    stop: Arc<Notify>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Store {
    /// Opens a store: locks the data directory, recovers, starts the background tasks.
    pub async fn open(config: StoreConfig) -> Result<Arc<Store>, StoreError> {
        config.validate()?;
        if config.data_dir.is_some() {
            let what = "a store in a directory is not supported yet";
            return Err(StoreError::Config(what.into()));
        }
        let gc = GcHandle::new();
        let engine: Arc<dyn Engine> = Arc::new(MemEngine::new());
        let applied = recovered_commit_ts(engine.as_ref())?;
        let offset = Duration::from_millis(limits::CLOCK_OFFSET_MS_MAX);
        let hlc = Hlc::new(Arc::new(SystemClock), offset);
        hlc.raise(applied);
        let cache = RecordCache::new(config.record_cache_bytes);
        let read = ReadPath { engine, cache };
        let core = Core::new(CoreParts { config, hlc, read, gc, applied });
        let applier = Arc::new(Applier::new(Arc::clone(&core)));
        let proposer: Arc<dyn Proposer> = Arc::new(Unlogged { applier });
        let stop = Arc::new(Notify::new());
        let tasks = vec![
            tokio::spawn(run_batcher(Arc::clone(&core), proposer)),
            tokio::spawn(run_housekeeping(Arc::clone(&core), Arc::clone(&stop))),
        ];
        Ok(Arc::new(Store { core, stop, tasks: Mutex::new(tasks) }))
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
        let owner = Owner::transaction(0, backend).session_level();
        let level = crate::advisory::Level::Session;
        self.core.advisory.remove(&self.core.locks, owner, key, mode, level)
    }

    /// Gives back all session-level advisory locks of a session that ends (or runs DISCARD ALL).
    pub fn advisory_unlock_all(&self, backend: u32) {
        let owner = Owner::transaction(0, backend).session_level();
        self.core.advisory.remove_session(&self.core.locks, owner);
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
            fsyncs: 0,
            deadlocks: load(&core.locks.deadlocks),
            cache_hits: cache.hits,
            cache_misses: cache.misses,
            cache_bytes: cache.bytes as u64,
            disk_bytes: core.read.engine.disk_bytes(),
            applied: core.applied(),
            gc: core.pipeline.gc(),
            oldest_snapshot: core.snapshots.oldest(),
        }
    }

    /// Collects garbage and makes the engine durable now; otherwise this happens by itself.
    pub async fn checkpoint(&self) -> Result<(), KvError> {
        checkpoint(&self.core).await
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Ends in order: no new commits, those in flight finish, the engine is made durable. Transactions
    /// that are still open get [`KvError::Unavailable`] at commit.
    pub async fn shutdown(&self) -> Result<(), KvError> {
        let flushed = counters::flush(&self.core).await;
        self.core.pipeline.drain().await;
        self.stop.notify_one();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            // A task that panicked has logged it; shutting down goes on.
            let _ = task.await;
        }
        checkpoint(&self.core).await?;
        flushed
    }
}

async fn checkpoint(core: &Arc<Core>) -> Result<(), KvError> {
    core.advance_gc();
    let core = Arc::clone(core);
    let persisted = tokio::task::spawn_blocking(move || core.read.engine.persist()).await;
    match persisted {
        Ok(result) => result.map_err(read::storage_error),
        Err(error) => Err(KvError::Storage { reason: error.to_string() }),
    }
}

async fn run_housekeeping(core: Arc<Core>, stop: Arc<Notify>) {
    loop {
        tokio::select! {
            () = stop.notified() => return,
            () = tokio::time::sleep(core.config.checkpoint_interval) => {}
        }
        if let Err(error) = checkpoint(&core).await {
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
