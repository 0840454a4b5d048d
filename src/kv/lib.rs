//! What one range and one transaction do, as pure machines.
//!
//! | module | machine |
//! |---|---|
//! | [`api`] | the words shared with the SQL side: keys, modes, isolation, errors |
//! | [`locks`] | lock table: holders and FIFO queues for rows, tables, advisory locks |
//! | [`deadlock`] | cycle search in the wait-for graph, with PostgreSQL's report |
//! | [`txn`] | one transaction: write buffer, savepoints, version tags, read set |
//! | [`range`] | the sequencer: commit order, validation, commands for the log |
//! | [`closed`] | what followers may read by themselves, and how they hear of it |
//! | [`commit`] | the coordinator of a commit, and the recovery of one whose coordinator is gone |
//! | [`fence`] | which nodes may use their catalog, and what definitions wait for |
//! | [`run`] | many new rows in one piece of memory |
//! | [`liveness`] | which nodes support which, in epochs that end after their time |
//! | [`lease`] | leases of ranges out of that support; who votes and campaigns when |
//! | [`placement`] | where copies and leases should be, and what to do next for it |
//!
//! Nothing here waits, sends, reads a clock or draws a random number: state and an event go in,
//! effects come out, and the caller (the async shell in `cluster`, or the simulator) carries them
//! out. Collections are ordered, so the same events always give the same effects.
//!
//! **Invariant:** no tokio, no clock, no rng in this crate; every machine is `Clone + Debug`.

pub mod api;
pub mod closed;
pub mod commit;
pub mod deadlock;
pub mod fence;
pub mod lease;
pub mod liveness;
pub mod locks;
pub mod placement;
pub mod range;
pub mod run;
pub mod txn;

#[cfg(test)]
mod scripts;
