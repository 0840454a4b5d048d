//! The async shell around the pure machines: a [`Store`] and the transactions on it.
//!
//! ```text
//! Txn ──reads──▶ ReadPath: record cache ▶ engine                      never waits
//!  │──locks───▶ LockManager: kv::locks, wake-ups, timeouts, deadlocks waits for other transactions
//!  └─commit───▶ CommitPipeline: kv::range sequences, a batcher proposes ▶ log ▶ Applier
//!                                 Applier: engine, cache, snapshot, locks, then the committing task
//! ```
//! A transaction's writes stay in its buffer until [`Txn::commit`]. The commit's order in time is the
//! order in the log; a snapshot is the timestamp up to which the log has been applied, so a reader
//! never meets a write in flight.
//!
//! **Invariants**
//! * What was acknowledged is in the log, synced.
//! * A row lock taken by a transaction that commits is released after its writes are visible and
//!   before its task wakes; of one that rolls back, at once. A commit over several ranges
//!   ([`coordinator`]) wakes its task when it has been decided, and the next to lock a row finds its write.
//! * No lock of this crate is held across an await.
//!
//! In a cluster the leaseholder may be another node: [`member`] keeps nodes one of several, and what only
//! the leaseholder can do goes there ([`remote`]). Keys belong to ranges ([`range`]), each with a pipeline of
//! its own.

mod advisory;
mod apply;
mod batcher;
mod bulk;
mod cancel;
mod closed;
mod commit;
mod config;
mod coordinator;
mod core;
mod counters;
mod directory;
mod fence;
mod lease;
pub mod liveness;
mod load;
mod locking;
pub mod member;
mod parts;
mod proposer;
mod range;
mod read;
pub mod recover;
mod relocate;
mod relock;
mod remote;
mod replicas;
mod scan;
mod sessions;
mod sizes;
mod snapshots;
mod split;
mod stats;
mod store;
mod twophase;
mod txn;

pub use cancel::CancelToken;
pub use config::{StoreConfig, StoreError};
pub use locking::{LockInfo, LockTarget};
pub use meridian_kv::api::{
    Bytes, Isolation, Key, KvError, RetryReason, Span, Strength, TableLockMode, Timestamp,
    WaitPolicy,
};
pub use meridian_kv::placement::Zone;
pub use meridian_kv::run::{Run, RunBuilder, Twice};
pub use meridian_kv::txn::SavepointId;
pub use scan::Scan;
pub use sessions::{PROCESSES_MAX, Signal, home_of_process, process_id};
pub use split::RangeInfo;
pub use stats::StoreStats;
pub use store::Store;
pub use twophase::{AdvisoryLock, Claimed, NewPrepared, PrepareError, PreparedTxn};
pub use txn::{Locked, Spread, Txn, TxnOptions};

#[cfg(test)]
mod advisory_tests;
#[cfg(test)]
mod bulk_tests;
#[cfg(test)]
mod deadlock_tests;
#[cfg(test)]
mod drain_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod fence_tests;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod follower_tests;
#[cfg(test)]
mod liveness_tests;
#[cfg(test)]
mod member_tests;
#[cfg(test)]
mod parts_member_tests;
#[cfg(test)]
mod parts_tests;
#[cfg(test)]
mod past_tests;
#[cfg(test)]
mod placing_tests;
#[cfg(test)]
mod recover_tests;
#[cfg(test)]
mod regain_tests;
#[cfg(test)]
mod split_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twophase_tests;
