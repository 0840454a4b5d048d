//! Counters of a store.

use std::sync::atomic::{AtomicU64, Ordering};

use meridian_kv::api::Timestamp;

/// What a store has done since it was opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreStats {
    /// Transactions that wrote something and committed.
    pub commits: u64,
    /// Transactions that were refused at commit (40001).
    pub commits_refused: u64,
    /// Log entries proposed; each carries the commits that were ready by then.
    pub batches: u64,
    /// The most commits in one entry.
    pub batch_commits_max: u64,
    /// Bytes proposed.
    pub batch_bytes: u64,
    /// Syncs of the log.
    pub fsyncs: u64,
    /// Deadlocks found.
    pub deadlocks: u64,
    /// Point reads answered by the record cache.
    pub cache_hits: u64,
    /// Point reads that had to go to the engine.
    pub cache_misses: u64,
    /// Bytes in the record cache.
    pub cache_bytes: u64,
    /// Bytes of the engine on disk.
    pub disk_bytes: u64,
    /// The newest snapshot.
    pub applied: Timestamp,
    /// Versions superseded at or before this may be gone.
    pub gc: Timestamp,
    /// The oldest snapshot in use.
    pub oldest_snapshot: Option<Timestamp>,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) batch_commits_max: AtomicU64,
    pub(crate) batch_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn batch(&self, commits: usize, bytes: usize) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.commits.fetch_add(commits as u64, Ordering::Relaxed);
        self.batch_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.batch_commits_max.fetch_max(commits as u64, Ordering::Relaxed);
    }
}
