//! Consensus: the raft groups of a node, behind handles of ours.
//!
//! openraft does the thinking; this crate gives it a log (the node's shared [`RaftLog`]), a state machine
//! (blind writes into the [`Engine`]), a thread of its own, and hides it: no type of openraft leaves here,
//! so that it can be replaced or upgraded in one place.
//!
//! # The life of a proposal
//! ```text
//! propose(bytes) ─► raft thread: append ─► log-writer: frame, fdatasync ─► raft thread: committed
//!    ▲                                                                        │ prepare → ONE engine batch
//!    └─────────────── resolved ◄── publish (cache, snapshot, locks) ◄─────────┘   incl. the applied marker
//! ```
//! While one entry is being synced, the caller gathers the next one: two thread hops and one fsync per
//! *entry*, however many commits it carries. On a node alone the raft thread does the log-writer's work
//! when it has nothing else to do, and there are no hops.
//!
//! # After a restart
//! The engine is not synced on this path. What it lost is applied again from the log, from the older of
//! two markers: each batch writes the applied log id both to `cur` and to `hist`, since a crash may leave
//! the two keyspaces at different points ([`state_machine`]). The log is purged only up to what a
//! checkpoint made durable ([`checkpoint`]); if the engine comes back *below* that, it has lost data that
//! nothing can restore, and the group refuses to open.
//!
//! # Several nodes
//! A node has many groups and two threads for all of them ([`node`]). openraft's clock is off: it elects
//! when it is told to, and it asks our liveness layer ([`Authority`]) whether it may vote. Requests go to
//! other nodes through a [`Network`] ([`network`], [`pipeline`]), and a node that does not answer is
//! watched in one place ([`peers`]). A replica that the log cannot serve any more gets the range's content
//! ([`snapshot`], [`install`]).
//!
//! [`RaftLog`]: meridian_storage::RaftLog
//! [`Engine`]: meridian_storage::Engine

mod checkpoint;
mod codec;
mod group;
mod install;
mod log_store;
mod members;
mod message;
mod network;
mod node;
mod open;
mod peers;
mod pieces;
mod pipeline;
mod receive;
mod recover;
mod remove;
mod role;
mod snapshot;
mod state_machine;
mod types;

pub use group::{FollowerProgress, GroupStats, ProposeError, RaftGroup};
pub use install::is_half_installed;
pub use members::{ChangeError, Members};
pub use node::{
    Alone, Authority, Class, HandleError, MultiRaft, Network, NetworkError, NodeRaftConfig,
};
pub use recover::{Survivor, make_sole_voter, survivors};
pub use role::Role;
pub use snapshot::Part;
pub use state_machine::{Applier, Publish};

#[cfg(test)]
mod suite_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world_tests;
