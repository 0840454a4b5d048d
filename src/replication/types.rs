//! openraft's type parameters, chosen once.

use std::fmt;

use bytes::Bytes;

/// A proposal as openraft sees it: bytes that only the applier understands.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) part: Part,
}

/// Which part of a proposal an entry is. One that is too large for an entry travels as several; none of
/// them is applied before the last one is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// The piece with this number, from 0; more follow.
    Piece(u32),
    /// The last piece, with its number.
    Last(u32),
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes ({:?})", self.bytes.len(), self.part)
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

openraft::declare_raft_types!(
    /// Meridian's choice of types: numbers for nodes and terms, terms shared by no two leaders' logs.
    pub(crate) Types:
        D = Payload,
        R = (),
        NodeId = u64,
        Node = openraft::BasicNode,
);

pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type LeaderId = openraft::alias::LeaderIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, openraft::BasicNode>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type IoFlushed = openraft::storage::IOFlushed<Types>;
