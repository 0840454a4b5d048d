//! openraft's type parameters, chosen once.

use std::fmt;

use bytes::Bytes;

/// A proposal as openraft sees it: bytes that only the applier understands.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) part: Part,
    /// The bytes are compressed; only pieces that are not the last.
    pub(crate) packed: bool,
}

impl Payload {
    /// Bytes as they are.
    pub(crate) const fn plain(bytes: Bytes, part: Part) -> Self {
        Self { bytes, part, packed: false }
    }

    /// A piece, compressed if that makes it smaller: bulk loads would otherwise spend most of their time
    /// on the log's disk.
    pub(crate) fn piece(bytes: Bytes, number: u32) -> Self {
        let packed = lz4_flex::compress_prepend_size(&bytes);
        let part = Part::Piece(number);
        match packed.len() < bytes.len() / 8 * 7 {
            true => Self { bytes: packed.into(), part, packed: true },
            false => Self::plain(bytes, part),
        }
    }

    /// What was proposed; `None` when the bytes are damaged.
    pub(crate) fn unpacked(self) -> Option<Bytes> {
        if !self.packed {
            return Some(self.bytes);
        }
        lz4_flex::decompress_size_prepended(&self.bytes).ok().map(Bytes::from)
    }
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
pub(crate) type Raft = openraft::Raft<Types, crate::state_machine::StateMachine>;
pub(crate) type ServerMetrics =
    openraft::alias::WatchReceiverOf<Types, openraft::metrics::RaftServerMetrics<Types>>;
