//! The local store of one node: an ordered engine, versions in it, a cache over it, and the raft log.
//!
//! * [`engine`]: what the layers above need of a key-value engine, and nothing more: an atomic batch of
//!   blind writes over three keyspaces, reads, consistent snapshots, a durability checkpoint.
//!   [`MemEngine`] (ordered maps that can crash on purpose) and [`FjallEngine`] (LSM trees) are mirrored
//!   in every test.
//! * [`mvcc`]: versions of a key: the newest in `cur`, superseded ones in `hist`.
//! * [`barren`]: which spans hold nothing but tombstones, for scans to pass over.
//! * [`RecordCache`]: newest versions in memory; only the apply path writes it.
//! * [`gc`]: which versions nobody can read any more.
//! * [`log`]: one segmented, group-committed log for all raft groups of the node.
//!
//! **Invariants**
//! * The engine is never fsynced on the write path: the raft log is what makes a commit durable, and
//!   is purged only up to what a checkpoint made durable in the engine.
//! * Every write is blind and may be applied again (redo after a crash): no operation reads.
//! * A data directory belongs to one process ([`DataDirLock`]).

pub mod barren;
pub mod cache;
mod dir_lock;
pub mod engine;
mod error;
pub mod fjall_engine;
mod fjall_ingest;
pub mod gc;
mod gc_filter;
mod journal;
pub mod log;
mod mem;
pub mod mvcc;
mod space;

#[cfg(test)]
mod engine_tests;

pub use barren::Barren;
pub use cache::{Load, RecordCache};
pub use dir_lock::DataDirLock;
pub use engine::{Engine, Ingest, Keyspace, KvIter, Op, Pressure, Reader, WriteBatch};
pub use error::StorageError;
pub use fjall_engine::{FjallConfig, FjallEngine};
pub use gc::GcHandle;
pub use log::{LogConfig, LogWrite, RaftLog, SegLog, Slot};
pub use mem::MemEngine;
pub use space::Space;
