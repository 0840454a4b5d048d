//! Deterministic simulation: many transactions on a simulated node, or on several ([`cluster`]), from
//! one seed.
//!
//! The machines of `kv` are the real ones; around them stand models: a log of which the synced prefix
//! survives a crash (and perhaps a part of the rest), an engine in memory that keeps each keyspace at
//! its own point ([`meridian_storage::MemEngine::crash`]), clients that run scripts. A scheduler with
//! a seeded generator decides at every step who moves: a client by one step, the batcher, the log's
//! sync, the applier, the checkpoint, garbage collection, a deadlock check, the wall clock (backwards,
//! too), or the power.
//!
//! What the clients saw is a [`history::History`]; [`invariants`] judge it, among them the isolation
//! levels through an Elle-style checker ([`checker`]). A seed that fails is repeated with
//!
//! ```text
//! MERIDIAN_SIM_SEED=17 cargo test -p meridian-sim one_seed -- --nocapture
//! ```
//! [`Bug`]s can be planted to show that every invariant fires; nothing else uses them.
//!
//! [`leases`] is another world: many nodes that keep each other alive and lead ranges. [`placement`] is
//! a third: where copies of ranges go when nodes come and die; [`fences`] a small one, of definitions and
//! statements that race.
//!
//! Not simulated yet: torn pages below the engine's contract, raft itself.

pub mod checker;
mod client;
pub mod cluster;
pub mod fences;
pub mod history;
pub mod invariants;
pub mod leases;
mod node;
pub mod placement;
mod script;
mod world;

pub use world::{Bug, Options, Report, run};

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod tests;
