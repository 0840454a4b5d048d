//! Shipping a range's content to a replica that cannot be served from the log.
//!
//! A snapshot is a frozen view of the engine and the log id up to which it is applied. Its keys and values
//! travel in blocks of up to 1 MiB, compressed, keyspace by keyspace in key order; the receiver writes them
//! down as they come, and says at the beginning up to which key it has them: an interrupted snapshot goes
//! on there, from the very same view, as long as the sender keeps it (five minutes).
//!
//! ```text
//! block   span:u8 │ keyspace:u8 │ LZ4 of n × (len:u32 │ key │ len:u32 │ value)
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use meridian_base::clock::Instant;
use meridian_base::{RangeId, Span, keys, rng};
use meridian_storage::engine::Snapshot;
use meridian_storage::{Engine, Keyspace, KvIter, StorageError};
use openraft::storage::SnapshotMeta;
use parking_lot::Mutex;

use crate::codec::{
    decode_stored_membership, encode_stored_membership, put_log_id, put_vote, take_log_id,
    take_vote,
};
use crate::message;
use crate::network::Client;
use crate::node::Class;
use crate::state_machine::{self, Applied, Applier};
use crate::types::{LogId, StoredMembership, Vote};

/// A part of a range's content: a span of physical keys of one keyspace.
pub type Part = (Keyspace, Span);

/// Bytes of keys and values in a block.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes that a block may have at the receiver: one more pair than that fits.
const BLOCK_BYTES_MAX: usize = 256 << 20;
/// How long a view is kept for those who come again.
const KEPT: Duration = Duration::from_secs(300);
/// How long a block may take on its way.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the receiver may take to install.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// What openraft carries around as a snapshot.
pub(crate) enum RangeSnapshot {
    /// The engine itself, as of its last checkpoint: it tells openraft up to where the log may be purged.
    Logical,
    /// To be sent.
    View(Arc<View>),
    /// Received; its blocks are in this node's keyspace.
    Received,
}

/// A frozen view of a range.
pub(crate) struct View {
    pub(crate) id: u64,
    pub(crate) last: LogId,
    pub(crate) membership: StoredMembership,
    parts: Vec<Part>,
    engine: Snapshot,
    made: Instant,
}

/// How a snapshot is announced.
pub(crate) struct Begin {
    pub(crate) vote: Vote,
    pub(crate) id: u64,
    pub(crate) last: LogId,
    pub(crate) membership: StoredMembership,
    pub(crate) parts: Vec<Part>,
}

/// Up to where a receiver has a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Blocks that it has.
    pub(crate) blocks: u32,
    /// Part of the last one's keys.
    pub(crate) span: u8,
    /// The last key.
    pub(crate) key: Bytes,
}

/// The state of a range beside its data: `R ‖ range ‖ …` in both keyspaces.
fn state_parts(group: RangeId) -> [Part; 2] {
    let span = Span::prefix(&keys::range_state_key(group, b""));
    [(Keyspace::Cur, span.clone()), (Keyspace::Hist, span)]
}

/// All that belongs to a range, and the state beside it.
pub(crate) fn parts_of(group: RangeId, content: Vec<Part>) -> Vec<Part> {
    let mut parts = content;
    parts.extend(state_parts(group));
    parts.sort_by(|a, b| (a.0, &a.1.start).cmp(&(b.0, &b.1.start)));
    parts
}

impl View {
    /// The view of what is applied, or the one that was made before if it is still good.
    pub(crate) fn of(
        group: RangeId,
        engine: &dyn Engine,
        applier: &dyn Applier,
        applied: &Applied,
        kept: &mut Option<Arc<Self>>,
        purged: Option<u64>,
    ) -> Option<Arc<Self>> {
        let parts = parts_of(group, applier.content()?);
        // What has been split off belongs to others.
        let good = |view: &&mut Arc<Self>| {
            view.made.elapsed() < KEPT
                && purged.is_none_or(|index| index <= view.last.index())
                && view.parts == parts
        };
        if let Some(view) = kept.as_mut().filter(good) {
            return Some(Arc::clone(view));
        }
        applied.membership.log_id().as_ref()?;
        let view = Arc::new(Self {
            id: rng::Rng::from_os().next_u64(),
            last: applied.log_id?,
            membership: applied.membership.clone(),
            parts,
            engine: engine.snapshot(),
            made: Instant::now(),
        });
        *kept = Some(Arc::clone(&view));
        Some(view)
    }

    pub(crate) fn is_old(&self) -> bool {
        self.made.elapsed() >= KEPT
    }

    pub(crate) fn meta(&self) -> openraft::alias::SnapshotMetaOf<crate::types::Types> {
        SnapshotMeta { last_log_id: Some(self.last), last_membership: self.membership.clone() }
    }
}

/// Blocks of a view, from a position on.
struct Blocks {
    view: Arc<View>,
    group: RangeId,
    span: usize,
    after: Bytes,
    iter: Option<KvIter>,
}

impl Blocks {
    fn new(view: Arc<View>, group: RangeId, from: &Position) -> Self {
        let (span, after) = (usize::from(from.span), from.key.clone());
        Self { view, group, span, after, iter: None }
    }

    /// The next block; `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        let mut pairs = Vec::new();
        while let Some((keyspace, span)) = self.view.parts.get(self.span) {
            let iter = self.iter.get_or_insert_with(|| {
                let mut rest = span.clone();
                if !self.after.is_empty() {
                    rest.start = keys::next_key(&self.after).into();
                }
                self.view.engine.range(*keyspace, &rest, false)
            });
            for pair in iter {
                let (key, value) = pair?;
                if state_machine::is_own_key(self.group, &key) {
                    continue;
                }
                put_bytes(&mut pairs, &key);
                put_bytes(&mut pairs, &value);
                if pairs.len() >= BLOCK_BYTES {
                    break;
                }
            }
            if !pairs.is_empty() {
                let mut block = vec![self.span as u8, *keyspace as u8];
                block.extend(lz4_flex::compress_prepend_size(&pairs));
                if pairs.len() < BLOCK_BYTES {
                    self.next_span();
                }
                return Ok(Some(block));
            }
            self.next_span();
        }
        Ok(None)
    }

    fn next_span(&mut self) {
        self.span += 1;
        self.after = Bytes::new();
        self.iter = None;
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("a value is far below 4 GiB"));
    out.put_slice(bytes);
}

fn take_bytes(input: &mut Bytes) -> Option<Bytes> {
    let len = input.try_get_u32_le().ok()? as usize;
    (input.remaining() >= len).then(|| input.split_to(len))
}

/// A block as it is received.
pub(crate) struct Block {
    pub(crate) span: u8,
    pub(crate) keyspace: Keyspace,
    pub(crate) pairs: Vec<(Bytes, Bytes)>,
}

impl Block {
    /// `None` when it is damaged.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        let (span, keyspace) = (bytes.try_get_u8().ok()?, bytes.try_get_u8().ok()?);
        let keyspace = *Keyspace::ALL.get(usize::from(keyspace))?;
        let size = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        if size > BLOCK_BYTES_MAX {
            return None;
        }
        let mut content = Bytes::from(lz4_flex::decompress_size_prepended(&bytes).ok()?);
        let mut pairs = Vec::new();
        while !content.is_empty() {
            pairs.push((take_bytes(&mut content)?, take_bytes(&mut content)?));
        }
        Some(Self { span, keyspace, pairs })
    }
}

pub(crate) fn put_parts(out: &mut Vec<u8>, parts: &[Part]) {
    out.put_u8(u8::try_from(parts.len()).expect("a range has few parts"));
    for (keyspace, span) in parts {
        out.put_u8(*keyspace as u8);
        put_bytes(out, &span.start);
        put_bytes(out, &span.end);
    }
}

pub(crate) fn take_parts(input: &mut Bytes) -> Option<Vec<Part>> {
    let count = input.try_get_u8().ok()?;
    let part = |input: &mut Bytes| {
        let keyspace = *Keyspace::ALL.get(usize::from(input.try_get_u8().ok()?))?;
        Some((keyspace, Span::new(take_bytes(input)?, take_bytes(input)?)))
    };
    (0..count).map(|_| part(input)).collect()
}

impl Begin {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_vote(out, &self.vote);
        out.put_u64_le(self.id);
        put_log_id(out, &self.last);
        put_bytes(out, &encode_stored_membership(&self.membership));
        put_parts(out, &self.parts);
    }

    pub(crate) fn decode(input: &mut Bytes) -> Option<Self> {
        let vote = take_vote(input)?;
        let id = input.try_get_u64_le().ok()?;
        let last = take_log_id(input)?;
        let membership = decode_stored_membership(take_bytes(input)?)?;
        Some(Self { vote, id, last, membership, parts: take_parts(input)? })
    }
}

/// Spreads the blocks of all snapshots of a node over time.
pub(crate) struct Throttle {
    rate: u64,
    next: Mutex<Instant>,
}

impl Throttle {
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), next: Mutex::new(Instant::default()) }
    }

    /// Waits for the turn of so many bytes.
    async fn turn(&self, bytes: usize) {
        let now = Instant::now();
        let wait = {
            let mut next = self.next.lock();
            let begin = (*next).max(now);
            *next = begin + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
            begin.since(now)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Sends a snapshot and has it installed; the receiver's vote.
pub(crate) async fn send(
    client: &Client,
    vote: Vote,
    snapshot: openraft::alias::SnapshotOf<crate::types::Types, RangeSnapshot>,
) -> Result<Vote, String> {
    let RangeSnapshot::View(view) = snapshot.snapshot else {
        return Err("this range cannot be shipped".into());
    };
    let (node, group) = (&client.node, client.group);
    let call = |body, timeout| node.call_when_up(&client.peer, body, Class::Bulk, timeout);
    let begin = Begin {
        vote,
        id: view.id,
        last: view.last,
        membership: view.membership.clone(),
        parts: view.parts.clone(),
    };
    let garbled = || "the reply cannot be understood".to_owned();
    let reply = call(message::begin(group, &begin), BLOCK_TIMEOUT).await?;
    let position = match message::take_begin_reply(reply).ok_or_else(garbled)? {
        Ok(position) => position,
        Err(higher) => return Ok(higher),
    };
    let mut number = position.blocks;
    let mut blocks = Blocks::new(Arc::clone(&view), group, &position);
    loop {
        // The raft thread has better things to do than to read and to compress.
        let making = tokio::task::spawn_blocking(move || {
            let block = blocks.next();
            (blocks, block)
        });
        let (rest, block) = making.await.map_err(|error| error.to_string())?;
        blocks = rest;
        let Some(block) = block.map_err(|error| error.to_string())? else { break };
        node.throttle.turn(block.len()).await;
        call(message::block(group, view.id, number, &block), BLOCK_TIMEOUT).await?;
        number += 1;
    }
    let reply = call(message::finish(group, &vote, view.id), INSTALL_TIMEOUT).await?;
    message::take_finish_reply(reply).ok_or_else(garbled)
}
