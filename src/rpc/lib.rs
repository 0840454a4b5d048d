//! Transport between nodes: calls with an answer and one-way messages, over framed TCP.
//!
//! ```text
//! caller ─▶ Link (queue) ─▶ connection's task ══ TCP, mutual TLS ══▶ connection's task ─▶ Handler
//! ```
//! A node dials one connection for each peer and [`Class`] that it has something to say to; answers
//! come back on the connection of the question. One task owns a connection: it writes all frames
//! that are queued at once, reads, and polls a handler's future where it stands. Only a handler that
//! has to wait gets a task of its own, so a call that finds what it needs costs no hop.
//!
//! | module | idea |
//! |---|---|
//! | [`frame`] | the bytes: `length, kind, service, stream, clock, body` |
//! | [`greeting`] | the handshake: who may talk to whom, and why not |
//! | [`tls`] | certificates: only nodes of this cluster |
//! | [`link`] | calls on their way out; what became of them when the connection went |
//! | [`dial`] | connecting and reconnecting |
//! | [`accept`] | connections that others made; running handlers |
//! | [`memory`] | the same traits without sockets, with faults, for tests |
//!
//! **Invariant:** a call ends in [`CallError::NotSent`] only if the peer cannot have seen it.
//!
//! Every frame carries the sender's clock and the receiver follows it, which is what orders writes
//! of different nodes. A clock that is too far off ends the connection.

mod accept;
mod dial;
mod frame;
mod greeting;
mod link;
pub mod memory;
mod peers;
mod rpc;
mod stream;
mod tls;

#[cfg(test)]
mod transport_tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_base::NodeId;

pub use greeting::Version;
pub use memory::MemNetwork;
pub use rpc::{Rpc, RpcConfig};
pub use tls::{Tls, TlsError};

/// The service that a node without an id may call; all others are for members.
pub const JOIN: u8 = 0;

/// Node 0: not a member of the cluster yet.
pub const NOBODY: NodeId = NodeId(0);

/// What a connection carries, so that nothing waits behind something less urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Raft's messages.
    Raft,
    /// Reads, locks, commits.
    Kv,
    /// Snapshots and other large transfers.
    Bulk,
    /// Heartbeats.
    Liveness,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::Raft, Self::Kv, Self::Bulk, Self::Liveness];

    fn from_u8(n: u8) -> Option<Self> {
        Self::ALL.get(usize::from(n)).copied()
    }
}

/// A handler's "no": the call was looked at and had no effect, or the effect that the body tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal, in the words of the service; [`Refusal::TRANSPORT`] is the transport's.
    pub code: u16,
    /// What the service has to say about it.
    pub body: Bytes,
}

impl Refusal {
    /// Refused by the transport itself: the caller may not call this service.
    pub const TRANSPORT: u16 = 0;

    /// A refusal with a text.
    pub fn text(code: u16, text: impl Into<String>) -> Self {
        Self { code, body: Bytes::from(text.into()) }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Surely not executed: the peer cannot have seen it.
    NotSent(Arc<str>),
    /// May have been executed, or may still be.
    Unknown(Arc<str>),
    /// The handler said no.
    Refused(Refusal),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) => write!(f, "not sent: {why}"),
            Self::Unknown(why) => write!(f, "sent, but without an answer: {why}"),
            Self::Refused(refusal) => {
                write!(f, "refused ({}): {}", refusal.code, refusal.body.escape_ascii())
            }
        }
    }
}

impl std::error::Error for CallError {}

/// The receiving side of a node.
pub trait Handler: Send + Sync + 'static {
    /// Answers a call. The future is polled on the connection's task first and gets a task of its
    /// own only if it has to wait. It is dropped when the caller cancels or its connection goes.
    fn call(
        self: Arc<Self>,
        from: NodeId,
        service: u8,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>>;

    /// Takes a one-way message; must not block.
    fn message(&self, from: NodeId, service: u8, body: Bytes);

    /// A connection to this peer was made. A hint, for each connection.
    fn peer_up(&self, _peer: NodeId) {}

    /// A connection to this peer was lost. A hint, for each connection.
    fn peer_down(&self, _peer: NodeId) {}
}

/// The sending side of a node.
pub trait Transport: Send + Sync + 'static {
    /// Calls a service of a node. Frames are queued by the time this returns, in order; dropping
    /// the future tells the other side to stop. A call to the node itself runs in the caller.
    ///
    /// There is no deadline: a call ends by its answer, by being dropped, or with its connection,
    /// which the system gives up when data stays unacknowledged for some seconds.
    fn call(
        &self,
        to: NodeId,
        class: Class,
        service: u8,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;

    /// Sends a one-way message, if the queue has room and the connection lasts.
    fn send(&self, to: NodeId, class: Class, service: u8, body: Bytes);
}
