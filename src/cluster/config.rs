//! What a store is opened with.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use meridian_kv::placement::Locality;
use meridian_storage::StorageError;

/// Configuration of a store. Defaults suit a machine that runs little else.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data directory, created when missing and locked against a second process. `None` keeps
    /// everything in memory: for tests and throw-away databases.
    pub data_dir: Option<PathBuf>,
    /// Bytes of the record cache. Default 256 MiB; a quarter of memory is a good value. With half of
    /// what the hot rows need, every second point read descends into the engine (1.5–6 µs more).
    pub record_cache_bytes: usize,
    /// Bytes of the engine's block cache. Default 128 MiB; serves scans and cold point reads.
    pub block_cache_bytes: usize,
    /// How long superseded versions stay for snapshots that nobody holds yet. Default 60 s. Twice
    /// this keeps twice the history of hot rows on disk; running transactions are safe with any.
    pub gc_ttl: Duration,
    /// How often garbage is looked for and the engine made durable, which bounds the log to be
    /// replayed after a crash. Default 5 s.
    pub checkpoint_interval: Duration,
    /// Writes remembered for SERIALIZABLE. Default 65 536, about 4 MiB: a serializable transaction
    /// that lives through more writes than this is refused with 40001.
    pub recent_writes_len: usize,
    /// Wait before the first look for a deadlock that arose after the wait began; then every ten
    /// times this. Default 50 ms.
    pub deadlock_check_delay: Duration,
    /// In a cluster, a range that is larger is split in two. Default 512 MiB; 0 = never. With half of it moving
    /// a range takes half as long, and there are twice as many.
    pub range_bytes_max: u64,
    /// In a cluster, a range that gets more requests per second is split in two. Default 100,000, more than two
    /// cores serve; less, and transactions that one range would have served have to do with several.
    pub range_load_max: u64,
    /// Where this node is, from the widest tier to the narrowest: `region=eu,zone=a`. Copies of a range
    /// are spread over different values. Default empty.
    pub locality: String,
    /// Numbers that a counter takes from the log at once, in units of the increment. Default 32, as
    /// PostgreSQL's sequences: a crash skips up to this many.
    pub counter_block: i64,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            data_dir: None,
            record_cache_bytes: 256 << 20,
            block_cache_bytes: 128 << 20,
            gc_ttl: Duration::from_secs(60),
            checkpoint_interval: Duration::from_secs(5),
            recent_writes_len: 65_536,
            deadlock_check_delay: Duration::from_millis(50),
            counter_block: 32,
            range_bytes_max: 512 << 20,
            range_load_max: 100_000,
            locality: String::new(),
        }
    }
}

impl StoreConfig {
    /// A store in memory with small caches.
    pub fn in_memory() -> StoreConfig {
        StoreConfig {
            record_cache_bytes: 16 << 20,
            block_cache_bytes: 8 << 20,
            ..StoreConfig::default()
        }
    }

    /// A store in a directory.
    pub fn at(data_dir: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig { data_dir: Some(data_dir.into()), ..StoreConfig::default() }
    }

    /// Says what is wrong, in a sentence.
    pub fn validate(&self) -> Result<(), StoreError> {
        let wrong = |what: &str| Err(StoreError::Config(what.to_owned()));
        if self.counter_block < 1 {
            return wrong("counter_block must be at least 1");
        }
        if self.checkpoint_interval < Duration::from_millis(10) {
            return wrong("checkpoint_interval must be at least 10 ms");
        }
        if self.deadlock_check_delay.is_zero() {
            return wrong("deadlock_check_delay must be more than 0");
        }
        Locality::parse(&self.locality).map(drop).map_err(StoreError::Config)
    }
}

/// Why a store can't be opened.
#[derive(Debug)]
pub enum StoreError {
    /// The configuration makes no sense.
    Config(String),
    /// The directory is in use, unreadable or damaged.
    Storage(StorageError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Config(what) => f.write_str(what),
            StoreError::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> StoreError {
        StoreError::Storage(error)
    }
}
