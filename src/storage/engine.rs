//! The seam to a key-value engine.
//!
//! The trait is as small as it is so that another engine (an LSM tree without a journal, say) can take
//! fjall's place: batches, reads, snapshots, a checkpoint, and the two numbers that tell whether a write
//! would have to wait.
//!
//! ```text
//! cur    newest version of every key, and all other replicated state (locks, range-local state)
//! hist   superseded versions
//! node   what this node keeps for itself, unreplicated
//! ```
//! A crash may leave the keyspaces at *different* points of the sequence of batches, each one at least
//! at the last [`Engine::persist`]. Within one keyspace a batch is there whole or not at all.

use std::sync::Arc;

use bytes::Bytes;
use meridian_base::Span;

use crate::{Space, StorageError};

/// One of the engine's three keyspaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keyspace {
    /// Newest versions and replicated state.
    Cur,
    /// Superseded versions.
    Hist,
    /// Unreplicated state of this node.
    Node,
}

impl Keyspace {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Cur, Self::Hist, Self::Node];

    /// Its name in the engine.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cur => "cur",
            Self::Hist => "hist",
            Self::Node => "node",
        }
    }
}

/// A blind write of one physical key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Where.
    pub keyspace: Keyspace,
    /// Physical key.
    pub key: Bytes,
    /// New value; `None` deletes.
    pub value: Option<Bytes>,
}

impl Op {
    /// Sets a key.
    pub fn put(keyspace: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { keyspace, key: key.into(), value: Some(value.into()) }
    }

    /// Removes a key; removing one that is not there is fine.
    pub fn delete(keyspace: Keyspace, key: impl Into<Bytes>) -> Self {
        Self { keyspace, key: key.into(), value: None }
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Writes that become visible together. Of two writes to one key the later wins.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// The writes, in order.
    pub ops: Vec<Op>,
}

impl WriteBatch {
    /// An empty batch with room for `n` writes.
    #[must_use]
    pub fn with_capacity(n: usize) -> Self {
        Self { ops: Vec::with_capacity(n) }
    }

    /// Adds a put.
    pub fn put(&mut self, keyspace: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push(Op::put(keyspace, key, value));
    }

    /// Adds a delete.
    pub fn delete(&mut self, keyspace: Keyspace, key: impl Into<Bytes>) {
        self.ops.push(Op::delete(keyspace, key));
    }

    /// Whether nothing would be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// Keys and values of a range scan, in order (or in reverse order).
pub type KvIter = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StorageError>> + Send>;

/// Reads. On an [`Engine`] itself each call sees the newest state, and two calls (or the steps of one
/// scan) may see different batches; on a snapshot all calls see the same one.
pub trait Reader: Send + Sync {
    /// The value of a physical key.
    ///
    /// # Errors
    /// I/O or corruption; the node cannot serve from this store.
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// The physical keys of a span with their values; an empty end is no bound.
    fn range(&self, keyspace: Keyspace, span: &Span, reverse: bool) -> KvIter;
}

/// A consistent, frozen view of all keyspaces. Holding one delays the engine's own garbage collection.
pub type Snapshot = Arc<dyn Reader>;

/// How far the engine is behind with its background work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Full memtables that wait to be written to disk (the larger of `cur` and `hist`).
    pub sealed_memtables: usize,
    /// Sorted runs in level 0 (the larger of `cur` and `hist`).
    pub l0_runs: usize,
    /// Bytes of journals, which a restart has to replay.
    pub journal_bytes: u64,
}

/// Journals may grow to this while flushes are behind; twice as much doubles the longest restart.
const JOURNAL_BYTES_STALL: u64 = 144 << 20;

impl Pressure {
    /// From here on fjall would put the calling thread to sleep (at 4 memtables or 20 runs); stopping
    /// short of that keeps the apply thread awake to run raft. Long journals stall too: they are what a
    /// restart waits for.
    #[must_use]
    pub const fn would_stall(self) -> bool {
        self.sealed_memtables >= 3
            || self.l0_runs >= 15
            || self.journal_bytes >= JOURNAL_BYTES_STALL
    }
}

/// Called with the outcome of [`Ingest::finish`], on a thread of the engine.
pub type Ingested = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// New content of `cur` in bulk, written straight into sorted files: no journal, no memtable, no later
/// flush. Nothing of it is visible before the end; dropped without an end, it never was.
pub trait Ingest: Send + Sync {
    /// Takes puts of `cur`; keys ascend over all calls.
    ///
    /// # Errors
    /// Keys that don't ascend, or a failure of the disk.
    fn write(&mut self, ops: Vec<Op>) -> Result<(), StorageError>;

    /// Bytes that were taken and are still to be written.
    fn backlog(&self) -> usize;

    /// Everything becomes visible at once, and durable, before `done` is called.
    fn finish(self: Box<Self>, done: Ingested);
}

/// An ordered, atomic, snapshot-capable key-value engine.
pub trait Engine: Reader + 'static {
    /// Makes a batch visible, atomically for snapshots. Not durable until [`Engine::persist`]. Within
    /// the batch, `hist` must be written before `cur` by the implementation, so that a reader without a
    /// snapshot that meets a new version in `cur` finds the one it superseded.
    ///
    /// Called only on the apply thread. An error is fatal to the node: the replica's state is unknown.
    ///
    /// # Errors
    /// I/O, or a poisoned engine.
    fn apply(&self, batch: WriteBatch) -> Result<(), StorageError>;

    /// Begins a bulk write, if the engine has a better way for it than batches. Until it is finished, its
    /// keys must not be written otherwise.
    ///
    /// # Errors
    /// I/O.
    fn ingest(&self) -> Result<Option<Box<dyn Ingest>>, StorageError> {
        Ok(None)
    }

    /// A view of everything applied so far.
    fn snapshot(&self) -> Snapshot;

    /// State of the background work.
    fn pressure(&self) -> Pressure;

    /// Whether [`Engine::apply`] would have to wait now.
    fn would_stall(&self) -> bool {
        self.pressure().would_stall()
    }

    /// How much room the disk has. Asked for before each batch.
    fn space(&self) -> Space {
        Space::Enough
    }

    /// Makes every batch applied before the call durable. Slow (milliseconds); called on a helper thread
    /// and must not hold up `apply` for as long as the disk takes.
    ///
    /// # Errors
    /// A failed fsync: what is on disk is unknown, the node must stop.
    fn persist(&self) -> Result<(), StorageError>;

    /// Frees the space of a span of logical keys that nobody will read or write again, as far as that is
    /// cheap (whole files); the rest goes with later compactions if the span is also buried in the
    /// garbage thresholds.
    ///
    /// # Errors
    /// I/O.
    fn drop_span(&self, span: &Span) -> Result<(), StorageError>;

    /// Bytes on disk, journals included.
    fn disk_bytes(&self) -> u64;

    /// Compacts everything at once, running the garbage collection over all of it. Blocks for as long
    /// as it takes; for tests and operators.
    ///
    /// # Errors
    /// I/O.
    fn compact(&self) -> Result<(), StorageError>;
}
