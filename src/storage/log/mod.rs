//! One log for all raft groups of a node.
//!
//! A log per group would cost an fsync per group and round; here everything queued since the last fsync,
//! from all groups, becomes one *frame*, written and synced at once by one thread. There is no timer: while
//! one frame is on its way to the disk the next one gathers (natural group commit).
//!
//! ```text
//! 00000007.seg   header │ frame 912 │ frame 913 │ … │ zeros, or the garbage of a recycled file
//! frame          magic │ len │ crc32c │ n │ seq:u64 │ n × (kind │ group │ index │ len │ bytes) │ pad to 64
//! kinds          entry · truncate from · purge up to · slot (a small named value: vote, committed, …)
//!                · forget the group
//! ```
//! Segments are zeroed ahead of use and recycled, so that an append changes no file metadata.
//!
//! # Recovery
//! Frames are numbered without gaps, and a frame is written only after the one before it is durable. The
//! first frame that does not check therefore ends the log, and nothing valid with a higher number may lie
//! behind it. If something does, acknowledged data has been damaged and the log refuses to open: a replica
//! that forgot votes or entries must not take part again. (Damage to the very last frame cannot be told
//! from a torn write.)
//!
//! Each opening begins a new segment; each segment begins with all slots and purge marks, so that an old
//! segment may go as soon as its entries are purged.
//!
//! # In memory
//! All entries that are not purged. The owner purges after each checkpoint of the engine, which bounds the
//! memory (and the time of a restart).
//!
//! Not here: rewriting the few live entries of a lagging group in order to free its segments.

mod frame;
mod memory;
mod recover;
mod segment;
mod writer;

use bytes::Bytes;
use meridian_base::RangeId;

use crate::StorageError;

pub use writer::{LogConfig, OnFatal, SegLog};

/// One write to a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogWrite {
    /// Appends the entry at `index`, which must follow the last one.
    Entry {
        /// Its position.
        index: u64,
        /// Its content, opaque here.
        data: Bytes,
    },
    /// Removes all entries from an index on.
    TruncateFrom(u64),
    /// Removes all entries up to and including an index.
    PurgeTo(u64),
    /// Sets a slot.
    Slot(Slot, Bytes),
    /// Removes everything of the group. Writes after it begin a new one.
    Forget,
}

impl LogWrite {
    /// Bytes of an entry; the others are small.
    fn data_len(&self) -> usize {
        match self {
            Self::Entry { data, .. } => data.len(),
            _ => 0,
        }
    }
}

/// A small value that a group keeps beside its entries; the last write wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Slot {
    /// Term and candidate that this node voted for.
    Vote = 0,
    /// Last log id known to be committed.
    Committed = 1,
    /// Log id of the last purged entry.
    Purged = 2,
    /// Applied index that the engine has made durable.
    DurableApplied = 3,
}

impl Slot {
    /// How many there are.
    pub const COUNT: usize = 4;

    fn from_index(index: u64) -> Option<Self> {
        [Self::Vote, Self::Committed, Self::Purged, Self::DurableApplied]
            .get(usize::try_from(index).ok()?)
            .copied()
    }
}

/// Called on the log's thread once the writes are durable; must be quick and must not wait.
pub type Durable = Box<dyn FnOnce() + Send>;

/// A durable, ordered log of many groups.
pub trait RaftLog: Send + Sync + 'static {
    /// Queues writes of one group, in order. They are readable on return and durable when `done` is
    /// called; writes that were queued earlier (of any group) are durable by then as well.
    ///
    /// # Errors
    /// The log has been closed. A failure of the disk never comes back here: it ends the process.
    fn submit(
        &self,
        group: RangeId,
        writes: Vec<LogWrite>,
        done: Option<Durable>,
    ) -> Result<(), StorageError>;

    /// Writes and syncs what is queued, unless the log's own thread is at it or it is much. For one thread
    /// that calls this whenever it has nothing else to do: what it submits does not wake the log's thread.
    fn flush_here(&self);

    /// The entries with indexes in `[from, to)` that exist, in order, with their indexes.
    fn entries(&self, group: RangeId, from: u64, to: u64) -> Vec<(u64, Bytes)>;

    /// First and last index, if the group has entries.
    fn bounds(&self, group: RangeId) -> Option<(u64, u64)>;

    /// A slot's value.
    fn slot(&self, group: RangeId, slot: Slot) -> Option<Bytes>;

    /// The groups that have ever written.
    fn groups(&self) -> Vec<RangeId>;

    /// Whether the disk has no room for another segment: refuse proposals (53100), keep purging.
    fn disk_full(&self) -> bool;

    /// Counters.
    fn stats(&self) -> LogStats;
}

/// Counters since opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Frames written = fsyncs made.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Segments in use.
    pub segments: u64,
}

#[cfg(test)]
mod tests;
