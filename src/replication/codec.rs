//! Bytes of what the log and the markers hold.
//!
//! ```text
//! log id      term:u64 │ node:u64 │ index:u64                       (little-endian, as everything here)
//! vote        term:u64 │ node:u64 │ committed:u8
//! entry       log id │ kind:u8 │ payload            kind 0 blank, 1 command, 2 membership,
//!                                                  3 piece, 4 last piece: number:u32 │ payload
//!                                                  5 piece in LZ4: number:u32 │ size:u32 │ payload
//! membership  n │ n × (m │ m × node:u64) │ k │ k × (node:u64 │ len │ address)       counts are u32
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes};
use openraft::{BasicNode, EntryPayload};

use crate::types::{Entry, LeaderId, LogId, Membership, Part, Payload, StoredMembership, Vote};

/// Bytes of a log id.
pub(crate) const LOG_ID_BYTES: usize = 24;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;
const PIECE: u8 = 3;
const LAST_PIECE: u8 = 4;
const PACKED_PIECE: u8 = 5;

pub(crate) fn put_log_id(out: &mut Vec<u8>, id: &LogId) {
    out.put_u64_le(id.committed_leader_id().term);
    out.put_u64_le(id.committed_leader_id().node_id);
    out.put_u64_le(id.index());
}

pub(crate) fn take_log_id(input: &mut impl Buf) -> Option<LogId> {
    if input.remaining() < LOG_ID_BYTES {
        return None;
    }
    let (term, node_id) = (input.get_u64_le(), input.get_u64_le());
    Some(LogId::new(LeaderId { term, node_id }, input.get_u64_le()))
}

pub(crate) fn encode_log_id(id: &LogId) -> Bytes {
    let mut out = Vec::with_capacity(LOG_ID_BYTES);
    put_log_id(&mut out, id);
    out.into()
}

pub(crate) fn decode_log_id(mut bytes: &[u8]) -> Option<LogId> {
    take_log_id(&mut bytes)
}

/// Bytes of a vote.
pub(crate) const VOTE_BYTES: usize = 17;

pub(crate) fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.put_u64_le(vote.leader_id.term);
    out.put_u64_le(vote.leader_id.node_id);
    out.put_u8(u8::from(vote.committed));
}

pub(crate) fn take_vote(input: &mut impl Buf) -> Option<Vote> {
    if input.remaining() < VOTE_BYTES {
        return None;
    }
    let (term, node_id) = (input.get_u64_le(), input.get_u64_le());
    Some(Vote { leader_id: LeaderId { term, node_id }, committed: input.get_u8() == 1 })
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = Vec::with_capacity(VOTE_BYTES);
    put_vote(&mut out, vote);
    out.into()
}

pub(crate) fn decode_vote(mut bytes: &[u8]) -> Option<Vote> {
    take_vote(&mut bytes)
}

fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    let count = |n: usize| u32::try_from(n).expect("a group has few members");
    let configs = membership.get_joint_config();
    out.put_u32_le(count(configs.len()));
    for config in configs {
        out.put_u32_le(count(config.len()));
        config.iter().for_each(|node| out.put_u64_le(*node));
    }
    let nodes: Vec<_> = membership.nodes().collect();
    out.put_u32_le(count(nodes.len()));
    for (id, node) in nodes {
        out.put_u64_le(*id);
        out.put_u32_le(count(node.addr.len()));
        out.put_slice(node.addr.as_bytes());
    }
}

fn take_membership(input: &mut Bytes) -> Option<Membership> {
    let u32_ = |input: &mut Bytes| input.try_get_u32_le().ok();
    let mut configs = Vec::new();
    for _ in 0..u32_(input)? {
        let members = u32_(input)?;
        let nodes: Option<BTreeSet<u64>> =
            (0..members).map(|_| input.try_get_u64_le().ok()).collect();
        configs.push(nodes?);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..u32_(input)? {
        let id = input.try_get_u64_le().ok()?;
        let len = u32_(input)? as usize;
        if input.remaining() < len {
            return None;
        }
        let addr = String::from_utf8(input.split_to(len).to_vec()).ok()?;
        nodes.insert(id, BasicNode { addr });
    }
    Membership::new(configs, nodes).ok()
}

/// A membership with the log id that set it, for the marker in `cur`.
pub(crate) fn encode_stored_membership(stored: &StoredMembership) -> Bytes {
    let mut out = Vec::new();
    let id = stored.log_id().expect("an applied membership came from an entry");
    put_log_id(&mut out, &id);
    put_membership(&mut out, stored.membership());
    out.into()
}

pub(crate) fn decode_stored_membership(mut bytes: Bytes) -> Option<StoredMembership> {
    let id = take_log_id(&mut bytes)?;
    Some(StoredMembership::new(Some(id), take_membership(&mut bytes)?))
}

pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let payload = match &entry.payload {
        EntryPayload::Normal(payload) => 4 + payload.bytes.len(),
        EntryPayload::Membership(_) => 64,
        EntryPayload::Blank => 0,
    };
    let mut out = Vec::with_capacity(LOG_ID_BYTES + 1 + payload);
    put_entry(&mut out, entry);
    out.into()
}

pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_log_id(out, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => out.put_u8(BLANK),
        EntryPayload::Normal(Payload { bytes, part, packed }) => {
            let (kind, number) = match part {
                Part::Whole => (COMMAND, None),
                Part::Piece(number) if *packed => (PACKED_PIECE, Some(*number)),
                Part::Piece(number) => (PIECE, Some(*number)),
                Part::Last(number) => (LAST_PIECE, Some(*number)),
            };
            out.put_u8(kind);
            if let Some(number) = number {
                out.put_u32_le(number);
            }
            out.put_slice(bytes);
        }
        EntryPayload::Membership(membership) => {
            out.put_u8(MEMBERSHIP);
            put_membership(out, membership);
        }
    }
}

/// The log id of an encoded entry.
pub(crate) fn peek_entry(mut bytes: &[u8]) -> Option<LogId> {
    take_log_id(&mut bytes)
}

/// An entry; its payload shares the memory of `bytes`.
pub(crate) fn decode_entry(mut bytes: Bytes) -> Option<Entry> {
    let log_id = take_log_id(&mut bytes)?;
    let payload = match bytes.try_get_u8().ok()? {
        BLANK => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(Payload::plain(bytes, Part::Whole)),
        kind @ (PIECE | PACKED_PIECE | LAST_PIECE) => {
            let number = bytes.try_get_u32_le().ok()?;
            let part = if kind == LAST_PIECE { Part::Last(number) } else { Part::Piece(number) };
            EntryPayload::Normal(Payload { bytes, part, packed: kind == PACKED_PIECE })
        }
        MEMBERSHIP => EntryPayload::Membership(take_membership(&mut bytes)?),
        _ => return None,
    };
    Some(Entry { log_id, payload })
}
