//! The engine on disk: fjall, an LSM tree with a journal.
//!
//! How it is used, and why:
//!
//! * **No fsync on the write path.** The raft log makes commits durable; [`Engine::persist`] runs every few
//!   seconds on a helper thread. It flushes fjall's buffer (short, under fjall's journal lock), then syncs
//!   the journal files through descriptors of our own, so that writers are not held up by the disk.
//! * **Reads that need atomicity use a snapshot.** fjall's plain reads may see half of a batch. A plain
//!   `get` of the newest version is fine: batches put `hist` before `cur`.
//! * **Back-pressure before fjall's own.** fjall puts the calling thread to sleep for 10–100 ms when it is
//!   behind; the apply thread asks [`Engine::would_stall`] first and lets proposals wait instead.
//! * **Journals are kept short**, since opening replays them at about 100 MB/s and one thread. fjall begins
//!   a new journal when a memtable is flushed while the current one is above 64 MB, and removes an old one
//!   when every keyspace has flushed what was in memory at that moment. Left alone, both may take hundreds
//!   of megabytes; so [`FjallEngine::tend_journals`] flushes when the journal is full, and once more when
//!   a new one has begun: the second flush is small, and lets the old journal go at once.
//! * **Torn journals are repaired or refused** ([`super::journal`]).

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use fjall::config::{
    BlockSizePolicy, CompressionPolicy, FilterPolicy, HashRatioPolicy, PinningPolicy,
    RestartIntervalPolicy,
};
use fjall::{
    AbstractTree, CompressionType, Database, KeyspaceCreateOptions, PersistMode, Readable,
};
use meridian_base::Span;

use crate::engine::{Engine, Ingest, Keyspace, KvIter, Pressure, Reader, Snapshot, WriteBatch};
use crate::fjall_ingest::FjallIngest;
use crate::gc::GcHandle;
use crate::space::SpaceGauge;
use crate::{Space, StorageError, gc_filter, journal};

/// How the engine is opened.
#[derive(Clone, Debug)]
pub struct FjallConfig {
    /// Directory of the database; created if missing.
    pub dir: PathBuf,
    /// Bytes of decompressed blocks kept in memory (25 % of the machine's memory is a good value; the
    /// record cache in front takes the hottest rows).
    pub block_cache_bytes: u64,
    /// Bytes of a memtable. Twice as much halves the flushes and doubles what a restart replays.
    pub memtable_bytes: u64,
    /// Threads for flushes and compactions. With more than one, fjall's first leaves compactions to the
    /// others, and passes the request for one round and round while they are busy: that took 7 % of
    /// the CPU of a single-row UPDATE on two cores.
    pub worker_threads: usize,
}

impl FjallConfig {
    /// Defaults for a directory: 256 MiB of blocks, 32 MiB memtables, 1 worker.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            block_cache_bytes: 256 << 20,
            memtable_bytes: 32 << 20,
            worker_threads: 1,
        }
    }
}

/// A journal above this is replaced at the next flush: fjall's constant, and a little more.
const JOURNAL_FULL_BYTES: u64 = 65 << 20;
/// Applied bytes between two looks at the journals.
const TEND_EVERY_BYTES: u64 = 1 << 20;
/// What a write costs in the journal beside key and value.
const JOURNAL_ITEM_BYTES: usize = 21;

/// Journal bytes after which fjall flushes the memtables that keep old journals alive: bounds what a
/// restart has to replay.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// An [`Engine`] over fjall.
#[derive(Clone)]
pub struct FjallEngine {
    db: Database,
    keyspaces: [fjall::Keyspace; 3],
    dir: PathBuf,
    journals: Arc<JournalGauge>,
    space: Arc<SpaceGauge>,
}

/// The journals' size as last looked at: asking costs a lock and a system call.
#[derive(Default)]
struct JournalGauge {
    calls: AtomicU32,
    bytes: AtomicU64,
    /// Bytes applied since the last look.
    since_look: AtomicU64,
    /// Bytes applied since the current journal began, about.
    current: AtomicU64,
    /// Journals that there were at the last look.
    count: AtomicUsize,
}

/// Calls of [`Engine::pressure`] between two looks at the journals.
const GAUGE_EVERY: u32 = 64;

pub(crate) fn engine_error(doing: &str, error: fjall::Error) -> StorageError {
    match error {
        fjall::Error::Io(e) => StorageError::io(doing, e),
        fjall::Error::Storage(fjall::LsmError::Io(e)) => StorageError::io(doing, e),
        fjall::Error::Poisoned => {
            StorageError::Stopped("the engine failed before and takes no more writes".into())
        }
        other => StorageError::Corruption(format!("could not {doing}: {other:?}")),
    }
}

impl FjallEngine {
    /// Opens (or creates) the database; compactions ask `gc` what is garbage.
    ///
    /// # Errors
    /// I/O, or damage that cannot be repaired from the raft log.
    pub fn open(config: &FjallConfig, gc: &GcHandle) -> Result<Self, StorageError> {
        let db = match open_database(config, gc) {
            Err(fjall::Error::JournalRecovery(why)) => {
                tracing::warn!(
                    ?why,
                    "the engine's journal is torn; cutting it at the last whole batch"
                );
                journal::repair(&config.dir)?;
                open_database(config, gc)
            }
            other => other,
        };
        let db = db.map_err(|error| match error {
            fjall::Error::Locked => StorageError::Locked { path: config.dir.clone(), pid: None },
            error => engine_error("open the engine", error),
        })?;
        let open = |keyspace: Keyspace| {
            db.keyspace(keyspace.name(), || options(keyspace, config.memtable_bytes))
                .map_err(|e| engine_error("open a keyspace", e))
        };
        let keyspaces = [open(Keyspace::Cur)?, open(Keyspace::Hist)?, open(Keyspace::Node)?];
        let journals = JournalGauge::default();
        journals.count.store(db.journal_count(), Ordering::Relaxed);
        let journals = Arc::new(journals);
        let space = Arc::new(SpaceGauge::open(&config.dir)?);
        let engine = Self { db, keyspaces, dir: config.dir.clone(), journals, space };
        engine.journals.current.store(engine.look_at_journals(), Ordering::Relaxed);
        Ok(engine)
    }

    fn keyspace(&self, keyspace: Keyspace) -> &fjall::Keyspace {
        &self.keyspaces[keyspace as usize]
    }

    /// Bytes of journals, which the next opening has to replay.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.db.journal_disk_space().unwrap_or(0)
    }

    fn look_at_journals(&self) -> u64 {
        let bytes = self.journal_bytes();
        self.journals.bytes.store(bytes, Ordering::Relaxed);
        bytes
    }

    /// After a batch: flushes when the journal is full, and again when a new one has begun. Without
    /// waiting, on the only thread that writes.
    fn tend_journals(&self, applied_bytes: usize) -> Result<(), StorageError> {
        let gauge = &self.journals;
        let applied = applied_bytes as u64;
        let since = gauge.since_look.fetch_add(applied, Ordering::Relaxed) + applied;
        if since < TEND_EVERY_BYTES {
            return Ok(());
        }
        gauge.since_look.store(0, Ordering::Relaxed);
        self.look_at_journals();
        let current = gauge.current.fetch_add(since, Ordering::Relaxed) + since;
        let count = self.db.journal_count();
        let begun = count > gauge.count.swap(count, Ordering::Relaxed);
        if begun || current >= JOURNAL_FULL_BYTES {
            gauge.current.store(0, Ordering::Relaxed);
            self.rotate_memtables()?;
        }
        Ok(())
    }

    fn rotate_memtables(&self) -> Result<(), StorageError> {
        for keyspace in &self.keyspaces {
            keyspace.rotate_memtable().map_err(|e| engine_error("flush a memtable", e))?;
        }
        Ok(())
    }

    /// Lets old journals go by flushing what keeps them alive, without waiting for it. A keyspace that is
    /// rarely written would otherwise hold on to every journal since its last write.
    fn shorten_journals(&self) -> Result<(), StorageError> {
        if self.look_at_journals() > JOURNAL_BYTES_MAX && !self.pressure().would_stall() {
            self.rotate_memtables()?;
        }
        Ok(())
    }

    /// Flushes memtables to tables and waits; for tests of what survives a crash.
    ///
    /// # Errors
    /// I/O.
    pub fn flush(&self, keyspace: Keyspace) -> Result<(), StorageError> {
        self.keyspace(keyspace)
            .rotate_memtable_and_wait()
            .map_err(|e| engine_error("flush a memtable", e))
    }
}

fn open_database(config: &FjallConfig, gc: &GcHandle) -> Result<Database, fjall::Error> {
    Database::builder(&config.dir)
        .cache_size(config.block_cache_bytes)
        .worker_threads(config.worker_threads)
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .manual_journal_persist(true)
        .with_compaction_filter_factories(gc_filter::assigner(gc))
        .open()
}

/// Options of design chapter 1.1; they are stored with the keyspace when it is created.
fn options(keyspace: Keyspace, memtable_bytes: u64) -> KeyspaceCreateOptions {
    let base = KeyspaceCreateOptions::default().manual_journal_persist(true);
    match keyspace {
        Keyspace::Cur => base
            .max_memtable_size(memtable_bytes)
            .expect_point_read_hits(true)
            .data_block_size_policy(BlockSizePolicy::all(4 << 10))
            .data_block_hash_ratio_policy(HashRatioPolicy::all(1.0))
            .data_block_restart_interval_policy(RestartIntervalPolicy::all(4))
            .index_block_pinning_policy(PinningPolicy::all(true))
            .filter_block_pinning_policy(PinningPolicy::all(true))
            .data_block_compression_policy(CompressionPolicy::new([
                CompressionType::None,
                CompressionType::None,
                CompressionType::Lz4,
            ])),
        Keyspace::Hist => base
            .max_memtable_size(memtable_bytes)
            .data_block_size_policy(BlockSizePolicy::all(16 << 10))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
            .filter_policy(FilterPolicy::disabled()),
        Keyspace::Node => base.max_memtable_size(4 << 20),
    }
}

/// As fjall wants it. Its slices hold up to 20 bytes themselves, and so most keys: comparing them in a
/// memtable fetches one cache line instead of two, which halves what an insert costs. (With its feature
/// `bytes_1` they would be `Bytes`, and nothing would have to be copied, here and in scans.)
pub(crate) fn slice(bytes: &Bytes) -> fjall::Slice {
    fjall::Slice::from(&bytes[..])
}

fn copied(found: Option<fjall::Slice>) -> Option<Bytes> {
    found.map(|value| Bytes::copy_from_slice(&value))
}

/// Copies what a scan finds into memory that neighbours share.
#[derive(Default)]
struct Arena {
    free: BytesMut,
    next: usize,
}

/// Of the first and of the largest piece of memory: a scan may end after one row.
const ARENA_BYTES: (usize, usize) = (256, 16 << 10);

impl Arena {
    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if self.free.capacity() < bytes.len() {
            self.next = (self.next * 4).clamp(ARENA_BYTES.0, ARENA_BYTES.1);
            self.free = BytesMut::with_capacity(self.next.max(bytes.len()));
        }
        self.free.extend_from_slice(bytes);
        self.free.split().freeze()
    }
}

fn iterate(iter: fjall::Iter, reverse: bool) -> KvIter {
    let mut arena = Arena::default();
    let pair = move |guard: fjall::Guard| {
        let (key, value) = guard.into_inner().map_err(|e| engine_error("scan the engine", e))?;
        Ok((arena.copy(&key), arena.copy(&value)))
    };
    if reverse { Box::new(iter.rev().map(pair)) } else { Box::new(iter.map(pair)) }
}

/// fjall's snapshot with the keyspaces to read it in.
struct FjallSnapshot {
    snapshot: fjall::Snapshot,
    keyspaces: [fjall::Keyspace; 3],
}

impl Reader for FjallSnapshot {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let found = self.snapshot.get(&self.keyspaces[keyspace as usize], key);
        found.map(copied).map_err(|e| engine_error("read the engine", e))
    }

    fn range(&self, keyspace: Keyspace, span: &Span, reverse: bool) -> KvIter {
        let keyspace = &self.keyspaces[keyspace as usize];
        if span.is_empty() {
            return Box::new(std::iter::empty());
        }
        let iter = match span.end.is_empty() {
            true => self.snapshot.range(keyspace, span.start.as_ref()..),
            false => self.snapshot.range(keyspace, span.start.as_ref()..span.end.as_ref()),
        };
        iterate(iter, reverse)
    }
}

impl Reader for FjallEngine {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let found = self.keyspace(keyspace).get(key);
        found.map(copied).map_err(|e| engine_error("read the engine", e))
    }

    fn range(&self, keyspace: Keyspace, span: &Span, reverse: bool) -> KvIter {
        self.snapshot().range(keyspace, span, reverse)
    }
}

impl Engine for FjallEngine {
    fn apply(&self, batch: WriteBatch) -> Result<(), StorageError> {
        let bytes: usize = batch.ops.iter().map(|op| op.size() + JOURNAL_ITEM_BYTES).sum();
        let mut write = fjall::OwnedWriteBatch::with_capacity(self.db.clone(), batch.ops.len());
        // Superseded versions first: see the trait.
        let (hist, rest): (Vec<_>, Vec<_>) =
            batch.ops.into_iter().partition(|op| op.keyspace == Keyspace::Hist);
        for op in hist.into_iter().chain(rest) {
            let keyspace = self.keyspace(op.keyspace);
            match op.value {
                Some(value) => write.insert(keyspace, slice(&op.key), slice(&value)),
                None => write.remove(keyspace, slice(&op.key)),
            }
        }
        write.commit().map_err(|e| engine_error("write the engine", e))?;
        self.tend_journals(bytes)
    }

    fn ingest(&self) -> Result<Option<Box<dyn Ingest>>, StorageError> {
        let ingest = FjallIngest::start(self.keyspace(Keyspace::Cur).clone())?;
        Ok(Some(Box::new(ingest)))
    }

    fn snapshot(&self) -> Snapshot {
        let keyspaces = self.keyspaces.clone();
        Arc::new(FjallSnapshot { snapshot: self.db.snapshot(), keyspaces })
    }

    fn pressure(&self) -> Pressure {
        let mut pressure = Pressure::default();
        for keyspace in &self.keyspaces[..2] {
            let tree = &keyspace.tree;
            pressure.sealed_memtables = pressure.sealed_memtables.max(tree.sealed_memtable_count());
            pressure.l0_runs = pressure.l0_runs.max(tree.l0_run_count());
        }
        // While writes wait for shorter journals this is called every few milliseconds, so that a look is
        // due soon enough.
        if self.journals.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(GAUGE_EVERY) {
            self.look_at_journals();
        }
        pressure.journal_bytes = self.journals.bytes.load(Ordering::Relaxed);
        pressure
    }

    fn space(&self) -> Space {
        self.space.look()
    }

    fn persist(&self) -> Result<(), StorageError> {
        self.db.persist(PersistMode::Buffer).map_err(|e| engine_error("flush the journal", e))?;
        // A journal that fjall sealed or removed meanwhile was synced by it before.
        for path in journal::files(&self.dir)? {
            match File::open(&path) {
                Ok(file) => rustix::fs::fdatasync(file.as_fd())
                    .map_err(|e| StorageError::file("sync", &path, e.into()))?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(StorageError::file("open", &path, e)),
            }
        }
        self.shorten_journals()
    }

    fn drop_span(&self, span: &Span) -> Result<(), StorageError> {
        let span = span.physical();
        if span.is_empty() {
            return Ok(());
        }
        for keyspace in [Keyspace::Cur, Keyspace::Hist] {
            let tree = &self.keyspace(keyspace).tree;
            let dropped = tree.drop_range(span.start.as_ref()..span.end.as_ref());
            dropped.map_err(|e| engine_error("drop a span", e.into()))?;
        }
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.db.disk_space().unwrap_or(0)
    }

    fn compact(&self) -> Result<(), StorageError> {
        for keyspace in [Keyspace::Cur, Keyspace::Hist] {
            self.flush(keyspace)?;
            let compacted = self.keyspace(keyspace).major_compact();
            compacted.map_err(|e| engine_error("compact a keyspace", e))?;
        }
        Ok(())
    }
}

/// Whether a directory holds a database.
#[must_use]
pub fn exists(dir: &Path) -> bool {
    dir.join("version").exists() || dir.join("keyspaces").exists()
}
