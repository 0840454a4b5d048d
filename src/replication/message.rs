//! What nodes say to each other about their groups.
//!
//! ```text
//! request   kind:u8 │ group:u64 │ body
//!   append    vote │ log id? │ log id? │ n:u32 │ n × (len:u32 │ entry)      previous; committed
//!   vote      vote │ log id? │ transfer:u8
//!   transfer  vote │ to:u64 │ log id?
//!   ping      (group 0)
//!   begin     vote │ id:u64 │ log id │ len:u32 │ membership │ spans          a snapshot, see `snapshot`
//!   block     id:u64 │ number:u32 │ bytes
//!   finish    vote │ id:u64
//! reply     0 │ body  or  1 │ group:u64 (not here)  or  2 │ sentence
//!   append    epoch:u64 │ 0  or 1 (conflict)  or 2 │ vote
//!   vote      vote │ granted:u8 │ log id?
//!   begin     0 │ blocks:u32 │ span:u8 │ key   (what of it is here already)   or 2 │ vote
//!   finish    vote
//! ```
//! Little-endian; `?` is a byte that says whether the rest follows.

use bytes::{Buf, BufMut, Bytes};
use meridian_base::RangeId;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use crate::codec::{
    VOTE_BYTES, decode_entry, put_entry, put_log_id, put_vote, take_log_id, take_vote,
};
use crate::snapshot::{Begin, Position};
use crate::types::{Entry, LogId, Types, Vote};

/// A request as it arrived.
pub(crate) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    Transfer(TransferLeaderRequest<Types>),
    Ping,
    Begin(Begin),
    Block { id: u64, number: u32, bytes: Bytes },
    Finish { vote: Vote, id: u64 },
}

const APPEND: u8 = 1;
const VOTE: u8 = 2;
const TRANSFER: u8 = 3;
const PING: u8 = 4;
const BEGIN: u8 = 5;
const BLOCK: u8 = 6;
const FINISH: u8 = 7;

/// First byte of a reply.
const OK: u8 = 0;
const NO_GROUP: u8 = 1;
const FAILED: u8 = 2;

const SUCCESS: u8 = 0;
const CONFLICT: u8 = 1;
const HIGHER_VOTE: u8 = 2;

pub(crate) fn put_option(out: &mut Vec<u8>, id: Option<&LogId>) {
    out.put_u8(u8::from(id.is_some()));
    if let Some(id) = id {
        put_log_id(out, id);
    }
}

pub(crate) fn take_option(input: &mut Bytes) -> Option<Option<LogId>> {
    match input.try_get_u8().ok()? {
        0 => Some(None),
        _ => take_log_id(input).map(Some),
    }
}

fn request(kind: u8, group: RangeId, room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + room);
    out.put_u8(kind);
    out.put_u64_le(group.0);
    out
}

pub(crate) fn append(group: RangeId, rpc: &AppendEntriesRequest<Types>) -> Bytes {
    let room = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(payload) => 40 + payload.bytes.len(),
        _ => 128,
    };
    let room: usize = rpc.entries.iter().map(room).sum();
    let mut out = request(APPEND, group, 80 + room);
    put_vote(&mut out, &rpc.vote);
    put_option(&mut out, rpc.prev_log_id.as_ref());
    put_option(&mut out, rpc.leader_commit.as_ref());
    out.put_u32_le(u32::try_from(rpc.entries.len()).expect("a request has few entries"));
    for entry in &rpc.entries {
        let at = out.len();
        out.put_u32_le(0);
        put_entry(&mut out, entry);
        let len = u32::try_from(out.len() - at - 4).expect("an entry is far below 4 GiB");
        out[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }
    out.into()
}

pub(crate) fn vote(group: RangeId, rpc: &VoteRequest<Types>) -> Bytes {
    let mut out = request(VOTE, group, 48);
    put_vote(&mut out, &rpc.vote);
    put_option(&mut out, rpc.last_log_id.as_ref());
    out.put_u8(u8::from(rpc.leadership_transfer));
    out.into()
}

pub(crate) fn transfer(group: RangeId, rpc: &TransferLeaderRequest<Types>) -> Bytes {
    let mut out = request(TRANSFER, group, 56);
    put_vote(&mut out, rpc.from_leader());
    out.put_u64_le(*rpc.to_node_id());
    put_option(&mut out, rpc.last_log_id());
    out.into()
}

pub(crate) fn ping() -> Bytes {
    request(PING, RangeId(0), 0).into()
}

pub(crate) fn begin(group: RangeId, begin: &Begin) -> Bytes {
    let mut out = request(BEGIN, group, 256);
    begin.encode(&mut out);
    out.into()
}

pub(crate) fn block(group: RangeId, id: u64, number: u32, bytes: &[u8]) -> Bytes {
    let mut out = request(BLOCK, group, 12 + bytes.len());
    out.put_u64_le(id);
    out.put_u32_le(number);
    out.put_slice(bytes);
    out.into()
}

pub(crate) fn finish(group: RangeId, vote: &Vote, id: u64) -> Bytes {
    let mut out = request(FINISH, group, VOTE_BYTES + 8);
    put_vote(&mut out, vote);
    out.put_u64_le(id);
    out.into()
}

/// A request and its group; `None` when it cannot be understood.
pub(crate) fn decode(mut input: Bytes) -> Option<(RangeId, Request)> {
    let kind = input.try_get_u8().ok()?;
    let group = RangeId(input.try_get_u64_le().ok()?);
    let request = match kind {
        APPEND => Request::Append(take_append(&mut input)?),
        VOTE => {
            let mut rpc = VoteRequest::new(take_vote(&mut input)?, take_option(&mut input)?);
            rpc.leadership_transfer = input.try_get_u8().ok()? == 1;
            Request::Vote(rpc)
        }
        TRANSFER => {
            let (vote, to) = (take_vote(&mut input)?, input.try_get_u64_le().ok()?);
            Request::Transfer(TransferLeaderRequest::new(vote, to, take_option(&mut input)?))
        }
        PING => Request::Ping,
        BEGIN => Request::Begin(Begin::decode(&mut input)?),
        BLOCK => Request::Block {
            id: input.try_get_u64_le().ok()?,
            number: input.try_get_u32_le().ok()?,
            bytes: input,
        },
        FINISH => {
            Request::Finish { vote: take_vote(&mut input)?, id: input.try_get_u64_le().ok()? }
        }
        _ => return None,
    };
    Some((group, request))
}

fn take_append(input: &mut Bytes) -> Option<AppendEntriesRequest<Types>> {
    let (vote, prev_log_id) = (take_vote(input)?, take_option(input)?);
    let leader_commit = take_option(input)?;
    let count = input.try_get_u32_le().ok()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let len = input.try_get_u32_le().ok()? as usize;
        if input.remaining() < len {
            return None;
        }
        entries.push(decode_entry(input.split_to(len))?);
    }
    Some(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

fn reply(room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + room);
    out.put_u8(OK);
    out
}

pub(crate) fn done() -> Bytes {
    reply(0).into()
}

/// What the node answers that does not have the group.
pub(crate) fn no_group(group: RangeId) -> Bytes {
    let mut out = vec![NO_GROUP];
    out.put_u64_le(group.0);
    out.into()
}

pub(crate) fn failed(why: &str) -> Bytes {
    let mut out = vec![FAILED];
    out.put_slice(why.as_bytes());
    out.into()
}

/// The body of a reply, or why there is none.
pub(crate) fn open_reply(mut reply: Bytes) -> Result<Bytes, String> {
    match reply.try_get_u8() {
        Ok(OK) => Ok(reply),
        Ok(NO_GROUP) => Err("the range is not on that node".into()),
        Ok(FAILED) => Err(String::from_utf8_lossy(&reply).into_owned()),
        _ => Err("the reply cannot be understood".into()),
    }
}

pub(crate) fn append_reply(epoch: u64, response: &AppendEntriesResponse<Types>) -> Bytes {
    let mut out = reply(9 + VOTE_BYTES);
    out.put_u64_le(epoch);
    match response {
        AppendEntriesResponse::HigherVote(vote) => {
            out.put_u8(HIGHER_VOTE);
            put_vote(&mut out, vote);
        }
        AppendEntriesResponse::Conflict => out.put_u8(CONFLICT),
        // Our side never answers a part of a request.
        _ => out.put_u8(SUCCESS),
    }
    out.into()
}

pub(crate) fn take_append_reply(mut body: Bytes) -> Option<(u64, AppendEntriesResponse<Types>)> {
    let epoch = body.try_get_u64_le().ok()?;
    let response = match body.try_get_u8().ok()? {
        SUCCESS => AppendEntriesResponse::Success,
        CONFLICT => AppendEntriesResponse::Conflict,
        HIGHER_VOTE => AppendEntriesResponse::HigherVote(take_vote(&mut body)?),
        _ => return None,
    };
    Some((epoch, response))
}

pub(crate) fn vote_reply(response: &VoteResponse<Types>) -> Bytes {
    let mut out = reply(48);
    put_vote(&mut out, &response.vote);
    out.put_u8(u8::from(response.vote_granted));
    put_option(&mut out, response.last_log_id.as_ref());
    out.into()
}

pub(crate) fn take_vote_reply(mut body: Bytes) -> Option<VoteResponse<Types>> {
    let (vote, granted) = (take_vote(&mut body)?, body.try_get_u8().ok()? == 1);
    Some(VoteResponse::new(vote, take_option(&mut body)?, granted))
}

/// The answer to the beginning of a snapshot: what is here of it.
pub(crate) fn begin_reply(position: &Position) -> Bytes {
    let mut out = reply(8 + position.key.len());
    out.put_u8(SUCCESS);
    out.put_u32_le(position.blocks);
    out.put_u8(position.span);
    out.put_slice(&position.key);
    out.into()
}

/// The answer to a leader that is none any more.
pub(crate) fn begin_refused(vote: &Vote) -> Bytes {
    let mut out = reply(1 + VOTE_BYTES);
    out.put_u8(HIGHER_VOTE);
    put_vote(&mut out, vote);
    out.into()
}

pub(crate) fn take_begin_reply(mut body: Bytes) -> Option<Result<Position, Vote>> {
    match body.try_get_u8().ok()? {
        SUCCESS => Some(Ok(Position {
            blocks: body.try_get_u32_le().ok()?,
            span: body.try_get_u8().ok()?,
            key: body,
        })),
        _ => Some(Err(take_vote(&mut body)?)),
    }
}

pub(crate) fn finish_reply(vote: &Vote) -> Bytes {
    let mut out = reply(VOTE_BYTES);
    put_vote(&mut out, vote);
    out.into()
}

pub(crate) fn take_finish_reply(mut body: Bytes) -> Option<Vote> {
    take_vote(&mut body)
}
