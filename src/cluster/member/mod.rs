//! A node of a cluster of several: who it is, what keeps it one of them.
//!
//! ```text
//! Switchboard ◀── rpc ──▶ other nodes
//!   ├─ raft ────▶ MultiRaft ◀── asks who may vote ── NodeLiveness
//!   ├─ kv ──────▶ remote::Cluster (serve)
//!   ├─ liveness ▶ NodeLiveness ── support ──▶ Keeper: lease of the range, campaigns
//!   └─ join ────▶ Register: ids and addresses of nodes, rows of the database itself
//! ```
//! The keeper turns a raft leader with a quorum's support into a leaseholder, and campaigns when the
//! leader is gone. The register is read by every node from its own copy.

mod drain;
mod figures;
mod fresh;
mod keeper;
mod network;
mod open;
mod operator;
mod placing;
mod refused;
mod register;
mod retire;
mod switchboard;

use std::sync::Arc;

use meridian_base::{Hlc, NodeId};
pub use meridian_rpc::{CallError, NOBODY, Refusal, Rpc, RpcConfig, Tls, Version};

pub use register::{JoinReply, JoinRequest, NodeRow};
pub use switchboard::{Founding, REFUSED, Switchboard};

pub(crate) use keeper::Keeper;
pub(crate) use network::RaftNetwork;
pub(crate) use open::Among;
pub(crate) use register::{Register, registered};
pub(crate) use switchboard::Parts as SwitchParts;

/// What a store needs to be one of several.
#[derive(Clone)]
pub struct Membership {
    /// The cluster's name.
    pub cluster: u128,
    /// This node.
    pub node: NodeId,
    /// Was the cluster founded by this node? Then it creates the range.
    pub founder: bool,
    /// How others reach this node, `host:port`.
    pub address: String,
    /// Where its clients connect, for `node status`.
    pub sql_address: String,
    /// The clock that the transport follows.
    pub hlc: Arc<Hlc>,
    /// The way to the others.
    pub rpc: Arc<Rpc>,
    /// Where their requests arrive.
    pub switchboard: Arc<Switchboard>,
}

/// Numbers of the services of a node.
pub mod service {
    /// Becoming a member; the only one for strangers.
    pub const JOIN: u8 = meridian_rpc::JOIN;
    /// Raft's messages.
    pub const RAFT: u8 = 1;
    /// Requests about keys.
    pub const KV: u8 = crate::remote::SERVICE;
    /// Heartbeats.
    pub const LIVENESS: u8 = crate::liveness::LIVENESS;
}
