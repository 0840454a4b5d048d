//! Receiving a snapshot and putting it in the place of what a replica had.
//!
//! Blocks are written to the node's own keyspace as they come, so that nothing of the replica changes until
//! all of them are there. Then a flag is made durable, the old content is removed, the new one written with
//! the applied markers, and when that is durable the flag is removed:
//!
//! ```text
//! cur    R ‖ range ‖ "installing"   → stage:u8 │ log id │ parts      1 announced, 2 begun
//! node   S ‖ range ‖ 0              → the announcement               S ‖ range ‖ 1 ‖ number:u32  → block
//! ```
//! A crash in between is found at the next opening. From the second stage on there is nothing left to keep:
//! the replica comes back blank, with its vote, and asks again. That loses no acknowledged entry: the
//! leader had purged what this replica lacked, so a quorum without it has all of that. In the first stage
//! the log tells whether openraft had accepted the snapshot: it has then purged up to it.

use std::sync::Arc;

use bytes::Bytes;
use meridian_base::{RangeId, Span, keys};
use meridian_storage::{
    Engine, Keyspace, LogWrite, Op, RaftLog, Reader, Slot, StorageError, WriteBatch,
};
use openraft::storage::{Snapshot, SnapshotMeta};

use crate::codec::{self, LOG_ID_BYTES};
use crate::group::Group;
use crate::message;
use crate::node::{HandleError, Node};
use crate::open::write_through;
use crate::receive::stopped;
use crate::snapshot::{self, Begin, Block, Part, Position, RangeSnapshot};
use crate::state_machine::{self, Applied, Applier, StateMachine};
use crate::types::{LogId, Vote};

const ANNOUNCED: u8 = 1;
const BEGUN: u8 = 2;

/// Keys that one batch removes.
const REMOVE_STEP: usize = 2048;

/// A snapshot that is arriving.
pub(crate) struct Incoming {
    begin: Begin,
    position: Position,
}

/// Prefix of what this node keeps of snapshots.
fn staging_key(group: RangeId, rest: &[u8]) -> Vec<u8> {
    let mut key = vec![b'S'];
    key.extend_from_slice(&group.0.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

fn block_key(group: RangeId, number: u32) -> Vec<u8> {
    let mut rest = vec![1];
    rest.extend_from_slice(&number.to_be_bytes());
    staging_key(group, &rest)
}

pub(crate) fn flag_key(group: RangeId) -> Vec<u8> {
    keys::range_state_key(group, b"installing")
}

/// Was the content of a replica being replaced when the node stopped? Then nothing in the engine says any
/// more what it was, and the next opening removes what is left of it.
///
/// # Errors
/// I/O.
pub fn is_half_installed(engine: &dyn Reader, group: RangeId) -> Result<bool, StorageError> {
    let flag = engine.get(Keyspace::Cur, &flag_key(group))?;
    Ok(flag.is_some_and(|flag| flag.first() == Some(&BEGUN)))
}

fn flag(stage: u8, last: &LogId, parts: &[Part]) -> Vec<u8> {
    let mut out = vec![stage];
    codec::put_log_id(&mut out, last);
    snapshot::put_parts(&mut out, parts);
    out
}

fn put_flag(engine: &dyn Engine, group: RangeId, value: Vec<u8>) -> Result<(), StorageError> {
    let mut batch = WriteBatch::default();
    batch.put(Keyspace::Cur, flag_key(group), value);
    engine.apply(batch)
}

fn drop_flag(engine: &dyn Engine, group: RangeId) -> Result<(), StorageError> {
    let mut batch = WriteBatch::default();
    batch.delete(Keyspace::Cur, flag_key(group));
    engine.apply(batch)
}

/// Makes the engine durable without holding up the raft thread.
pub(crate) async fn persist(engine: &Arc<dyn Engine>) -> Result<(), StorageError> {
    let engine = Arc::clone(engine);
    let persisted = tokio::task::spawn_blocking(move || engine.persist()).await;
    persisted.map_err(|e| StorageError::Stopped(e.to_string()))?
}

/// Removes the keys of a span, step by step.
async fn remove_span(
    engine: &dyn Engine,
    keyspace: Keyspace,
    span: &Span,
    keep: impl Fn(&[u8]) -> bool,
) -> Result<(), StorageError> {
    let mut rest = span.clone();
    loop {
        let mut batch = WriteBatch::default();
        let (mut seen, mut last) = (0, None);
        for pair in engine.range(keyspace, &rest, false).take(REMOVE_STEP) {
            let (key, _) = pair?;
            seen += 1;
            if !keep(&key) {
                batch.delete(keyspace, key.clone());
            }
            last = Some(key);
        }
        if !batch.is_empty() {
            engine.apply(batch)?;
        }
        match last {
            Some(key) if seen == REMOVE_STEP => rest.start = keys::next_key(&key).into(),
            _ => return Ok(()),
        }
        tokio::task::yield_now().await;
    }
}

/// Removes a range's content; replication's own keys stay.
pub(crate) async fn remove_content(
    engine: &dyn Engine,
    group: RangeId,
    parts: &[Part],
) -> Result<(), StorageError> {
    for (keyspace, span) in parts {
        let own = |key: &[u8]| state_machine::is_own_key(group, key);
        remove_span(engine, *keyspace, span, own).await?;
    }
    Ok(())
}

pub(crate) async fn drop_staged(engine: &dyn Engine, group: RangeId) -> Result<(), StorageError> {
    let all = Span::prefix(&staging_key(group, &[]));
    remove_span(engine, Keyspace::Node, &all, |_| false).await
}

/// Removes content, markers and log of a replica; its vote stays.
async fn blank(
    engine: &Arc<dyn Engine>,
    log: &dyn RaftLog,
    group: RangeId,
    parts: &[Part],
) -> Result<(), StorageError> {
    remove_content(engine.as_ref(), group, parts).await?;
    let mut batch = WriteBatch::default();
    state_machine::delete_markers(group, &mut batch);
    engine.apply(batch)?;
    persist(engine).await?;
    let vote = log.slot(group, Slot::Vote).map(|vote| LogWrite::Slot(Slot::Vote, vote));
    write_through(log, group, std::iter::once(LogWrite::Forget).chain(vote).collect()).await?;
    drop_flag(engine.as_ref(), group)?;
    persist(engine).await
}

/// Puts in order what a crash during an installation left.
pub(crate) async fn clear_interrupted(
    node: &Node,
    group: RangeId,
    applier: &dyn Applier,
) -> Result<(), StorageError> {
    let (engine, log) = (&node.engine, node.log.as_ref());
    let Some(mut value) = engine.get(Keyspace::Cur, &flag_key(group))? else { return Ok(()) };
    let damaged = || StorageError::Corruption(format!("the installation flag of {group}"));
    if value.len() <= LOG_ID_BYTES {
        return Err(damaged());
    }
    let stage = value.split_to(1)[0];
    let last = codec::take_log_id(&mut value).ok_or_else(damaged)?;
    let mut parts = snapshot::take_parts(&mut value).ok_or_else(damaged)?;
    let purged = log.slot(group, Slot::Purged);
    let purged = purged.and_then(|bytes| codec::decode_log_id(&bytes));
    if stage == ANNOUNCED && purged < Some(last) {
        return drop_flag(engine.as_ref(), group);
    }
    tracing::warn!(%group, "the installation of a snapshot was interrupted: the replica begins anew");
    parts.extend(applier.content().unwrap_or_default());
    let (engine, log, runtime) = (Arc::clone(engine), Arc::clone(&node.log), &node.runtime);
    let work = async move { blank(&engine, log.as_ref(), group, &parts).await };
    let done = runtime.spawn(work).await;
    done.map_err(|e| StorageError::Stopped(e.to_string()))?
}

impl Group {
    fn engine(&self) -> &dyn Engine {
        self.node.engine.as_ref()
    }

    /// A snapshot is announced: answers what is here of it.
    pub(crate) async fn begin_snapshot(&self, begin: Begin) -> Result<Bytes, HandleError> {
        let mine = self.vote();
        if mine > begin.vote {
            return Ok(message::begin_refused(&mine));
        }
        self.check_free(&begin.parts)?;
        self.promise(begin.vote.leader_id);
        let mut incoming = self.incoming.lock().await;
        let known = incoming.as_ref().is_some_and(|known| known.begin.id == begin.id);
        let stored = || self.stored_position(begin.id).map_err(stopped);
        let position = match incoming.take() {
            Some(known_one) if known => known_one.position,
            _ => match stored()? {
                Some(position) => position,
                None => {
                    drop_staged(self.engine(), self.id).await.map_err(stopped)?;
                    let mut batch = WriteBatch::default();
                    let id = begin.id.to_le_bytes();
                    batch.put(Keyspace::Node, staging_key(self.id, &[0]), id.to_vec());
                    self.engine().apply(batch).map_err(stopped)?;
                    Position::default()
                }
            },
        };
        let reply = message::begin_reply(&position);
        *incoming = Some(Incoming { begin, position });
        Ok(reply)
    }

    /// Nothing of these parts may be another range's here: a view from before a split would take the place
    /// of what has been split off.
    fn check_free(&self, parts: &[Part]) -> Result<(), HandleError> {
        match self.node.holder(self.id, parts) {
            None => Ok(()),
            Some(other) => Err(stopped(format!("{other} has keys of the snapshot here"))),
        }
    }

    /// What an earlier run of this node has of a snapshot.
    fn stored_position(&self, id: u64) -> Result<Option<Position>, StorageError> {
        let announced = self.engine().get(Keyspace::Node, &staging_key(self.id, &[0]))?;
        if announced.as_deref() != Some(&id.to_le_bytes()[..]) {
            return Ok(None);
        }
        let mut blocks = 0;
        while self.engine().get(Keyspace::Node, &block_key(self.id, blocks))?.is_some() {
            blocks += 1;
        }
        let Some(last) = blocks.checked_sub(1) else { return Ok(Some(Position::default())) };
        let bytes = self.engine().get(Keyspace::Node, &block_key(self.id, last))?;
        Ok(bytes.and_then(Block::decode).and_then(|block| position_after(&block, blocks)))
    }

    pub(crate) async fn take_block(
        &self,
        id: u64,
        number: u32,
        bytes: Bytes,
    ) -> Result<Bytes, HandleError> {
        let mut incoming = self.incoming.lock().await;
        let unexpected = || HandleError::Stopped("the block belongs to no snapshot here".into());
        let expected = incoming.as_mut().filter(|known| known.begin.id == id);
        let expected = expected.ok_or_else(unexpected)?;
        if number < expected.position.blocks {
            return Ok(message::done()); // sent again: its acknowledgement was lost
        }
        let sent = bytes.clone();
        let after = move || position_after(&Block::decode(sent)?, number + 1);
        let after = tokio::task::spawn_blocking(after).await.map_err(stopped)?;
        let after = after.ok_or(HandleError::Malformed)?;
        if number != expected.position.blocks {
            return Err(unexpected());
        }
        while self.engine().would_stall() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let mut batch = WriteBatch::default();
        batch.put(Keyspace::Node, block_key(self.id, number), bytes);
        self.engine().apply(batch).map_err(stopped)?;
        expected.position = after;
        Ok(message::done())
    }

    /// All blocks are here: openraft decides whether they take the place of what this replica has.
    pub(crate) async fn finish_snapshot(&self, vote: Vote, id: u64) -> Result<Bytes, HandleError> {
        let mut incoming = self.incoming.lock().await;
        let Some(Incoming { begin, .. }) = incoming.take().filter(|known| known.begin.id == id)
        else {
            return Err(HandleError::Stopped("the snapshot is not complete here".into()));
        };
        self.check_free(&begin.parts)?;
        *self.shared.claimed.lock() = begin.parts.clone();
        let installed = self.offer(vote, begin).await;
        self.shared.claimed.lock().clear();
        installed
    }

    /// Offers openraft what has been received.
    async fn offer(&self, vote: Vote, begin: Begin) -> Result<Bytes, HandleError> {
        self.promise(vote.leader_id);
        let (engine, last) = (&self.node.engine, begin.last);
        let announced = flag(ANNOUNCED, &last, &begin.parts);
        put_flag(self.engine(), self.id, announced).map_err(stopped)?;
        persist(engine).await.map_err(stopped)?;
        let meta = SnapshotMeta { last_log_id: Some(last), last_membership: begin.membership };
        let snapshot = Snapshot { meta, snapshot: RangeSnapshot::Received };
        *self.shared.receiving.lock() = Some(begin.parts);
        let response = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        // Still announced: openraft had no use for it.
        let refused = self.shared.receiving.lock().take().is_some();
        if refused {
            drop_flag(self.engine(), self.id).map_err(stopped)?;
        }
        drop_staged(self.engine(), self.id).await.map_err(stopped)?;
        Ok(message::finish_reply(&response.vote))
    }
}

fn position_after(block: &Block, blocks: u32) -> Option<Position> {
    let (key, _) = block.pairs.last()?;
    Some(Position { blocks, span: block.span, key: key.clone() })
}

impl StateMachine {
    /// Puts the received blocks in the place of the content.
    pub(crate) async fn install(
        &mut self,
        meta: &openraft::alias::SnapshotMetaOf<crate::types::Types>,
    ) -> Result<(), StorageError> {
        let nothing = || StorageError::Stopped("there is no snapshot to install".into());
        let parts = self.shared.receiving.lock().take().ok_or_else(nothing)?;
        let last = meta.last_log_id.ok_or_else(nothing)?;
        let engine = Arc::clone(&self.engine);
        let mut old = parts.clone();
        old.extend(snapshot::parts_of(self.group, self.applier.content().unwrap_or_default()));
        self.applier.leaving();
        put_flag(engine.as_ref(), self.group, flag(BEGUN, &last, &old))?;
        persist(&engine).await?;
        self.pieces = crate::pieces::Pieces::default();
        self.late = None;
        remove_content(engine.as_ref(), self.group, &old).await?;
        let target = self.target();
        let mut number = 0;
        while let Some(ops) = read_block(&engine, self.group, number).await? {
            target.room().await;
            engine.apply(WriteBatch { ops })?;
            number += 1;
        }
        let mut batch = WriteBatch::default();
        let marker = codec::encode_log_id(&last);
        let membership = meta.last_membership.clone();
        state_machine::put_markers(self.group, marker.clone(), Some(&membership), &mut batch);
        engine.apply(batch)?;
        persist(&engine).await?;
        // Not before both keyspaces have it all, and gone for good before the log grows over it.
        drop_flag(engine.as_ref(), self.group)?;
        persist(&engine).await?;
        *self.shared.applied.lock() = Applied::new(last, membership);
        *self.shared.durable.lock() = Some(last);
        let slot = LogWrite::Slot(Slot::DurableApplied, marker);
        self.log.submit(self.group, vec![slot], None)?;
        self.applier.installed()?;
        self.applier.reached(last.index());
        Ok(())
    }
}

/// What a received block writes; read and decompressed beside the raft thread.
async fn read_block(
    engine: &Arc<dyn Engine>,
    group: RangeId,
    number: u32,
) -> Result<Option<Vec<Op>>, StorageError> {
    let engine = Arc::clone(engine);
    let reading = tokio::task::spawn_blocking(move || {
        let Some(bytes) = engine.get(Keyspace::Node, &block_key(group, number))? else {
            return Ok(None);
        };
        let damaged = || StorageError::Corruption("a received block is damaged".into());
        let Block { keyspace, pairs, .. } = Block::decode(bytes).ok_or_else(damaged)?;
        let ops = pairs.into_iter().map(|(key, value)| Op::put(keyspace, key, value));
        Ok(Some(ops.collect()))
    });
    reading.await.map_err(|e| StorageError::Stopped(e.to_string()))?
}
