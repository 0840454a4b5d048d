//! Applying the log: blind writes into the engine, then the cache, the snapshot, the locks, the tasks.
//!
//! The order is what makes reads right. The engine has the new versions before the cache, the cache
//! before the snapshot moves, the snapshot before a lock is released: whoever gets the lock reads the
//! version that the lock protected, and its next statement's snapshot contains it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use meridian_base::keys::{range_state_key, txn_span};
use meridian_base::{RangeId, Span, Timestamp};
use meridian_kv::api::{Bytes, Key};
use meridian_kv::range::{Command, Descriptor, LogEntry};
use meridian_replication::{Applier, Part, Publish, is_half_installed};
use meridian_storage::engine::{Keyspace, Op, Reader, WriteBatch};
use meridian_storage::{Load, StorageError, mvcc};
use parking_lot::RwLock;

use crate::commit::Landed;
use crate::core::Core;
use crate::range::{Range, Shape};
use crate::split;

/// The first range of a store, and the only one until it splits.
pub(crate) const FIRST: RangeId = RangeId(1);

/// Where a range's newest applied commit's timestamp is kept, in the same batch as its writes.
pub(crate) fn commit_ts_key(range: RangeId) -> Vec<u8> {
    range_state_key(range, b"commit_ts")
}

fn commit_ts_op(range: RangeId, ts: Timestamp) -> Op {
    let ts = Bytes::copy_from_slice(&ts.0.to_le_bytes());
    Op::put(Keyspace::Cur, commit_ts_key(range), ts)
}

/// The newest commit of a range that an engine holds.
pub(crate) fn recovered_commit_ts(
    engine: &dyn Reader,
    range: RangeId,
) -> Result<Timestamp, StorageError> {
    let Some(value) = engine.get(Keyspace::Cur, &commit_ts_key(range))? else {
        return Ok(Timestamp::MIN);
    };
    let bytes: [u8; 8] = value[..]
        .try_into()
        .map_err(|_| StorageError::Corruption("the newest commit's timestamp is damaged".into()))?;
    Ok(Timestamp(u64::from_le_bytes(bytes)))
}

/// What a replica holds: the keys that its own log and its own engine speak of, whatever the directory has
/// heard. `None`: nothing yet.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    shape: RwLock<Option<Shape>>,
    /// Bytes that the log has brought in this run.
    written: AtomicU64,
}

impl Holds {
    /// What the engine has of a range.
    pub(crate) fn read(engine: &dyn Reader, id: RangeId) -> Result<Option<Shape>, StorageError> {
        let damaged = |_| StorageError::Corruption(format!("the descriptor of {id}"));
        if let Some(value) = engine.get(Keyspace::Cur, &Descriptor::key(id))? {
            return Descriptor::decode(value).map(|it| Some(Shape::of(&it))).map_err(damaged);
        }
        let state = Span::prefix(&range_state_key(id, b""));
        let begun = |keyspace| engine.range(keyspace, &state, false).next().transpose();
        let begun = begun(Keyspace::Cur)?.is_some() || begun(Keyspace::Hist)?.is_some();
        let going = is_half_installed(engine, id)?;
        // The first one needs none before it splits.
        Ok((begun && !going && id == FIRST).then(|| Shape::of(&Descriptor::first(id))))
    }

    pub(crate) fn get(&self) -> Option<Shape> {
        self.shape.read().clone()
    }

    pub(crate) fn set(&self, shape: Option<Shape>) {
        *self.shape.write() = shape;
    }

    fn is_empty(&self) -> bool {
        self.shape.read().is_none()
    }

    /// Bytes that the log has brought in this run: how fast the range may have grown.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Is this form, or a later one, applied here?
    pub(crate) fn has_reached(&self, generation: u64) -> bool {
        self.shape.read().as_ref().is_some_and(|shape| shape.generation >= generation)
    }
}

/// The spans of physical keys of a range.
pub(crate) fn parts_of(span: &Span) -> Vec<Part> {
    vec![
        (Keyspace::Cur, span.physical()),
        (Keyspace::Cur, txn_span(span)),
        (Keyspace::Hist, span.physical()),
    ]
}

/// The state machine behind the log.
pub(crate) struct EntryApplier {
    core: Arc<Core>,
    range: Arc<Range>,
    pub(crate) holds: Arc<Holds>,
    loads: Loads,
    /// The newest timestamp that any entry has brought.
    newest: AtomicU64,
}

/// Bytes of loads under way that the cache is to remember: as much as it has room for.
#[derive(Default)]
struct Loads(Arc<AtomicUsize>);

/// A part of them.
struct Kept(Arc<AtomicUsize>, usize);

impl Loads {
    fn keep(&self, bytes: usize, room: usize) -> Option<Kept> {
        if self.0.load(Ordering::Relaxed) + bytes > room {
            return None;
        }
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Some(Kept(Arc::clone(&self.0), bytes))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Entries that have become engine writes, to be published after the engine has them.
struct Prepared {
    /// Logical keys with what `cur` holds for them now.
    records: Vec<(Key, Bytes)>,
    /// The newest commit among them.
    newest: Option<Timestamp>,
    /// What they were, in order.
    landed: Vec<Landed>,
}

impl EntryApplier {
    pub(crate) fn new(core: Arc<Core>, range: Arc<Range>) -> Result<EntryApplier, StorageError> {
        let holds = Holds::default();
        holds.set(Holds::read(core.read.engine.as_ref(), range.id)?);
        let newest = AtomicU64::new(range.applied().0);
        let (holds, loads) = (Arc::new(holds), Loads::default());
        Ok(EntryApplier { core, range, holds, loads, newest })
    }

    /// The first entries of a log that is played from its beginning: only the first range has such a one.
    fn begin(&self) -> Result<(), StorageError> {
        let id = self.range.id;
        let others = self.core.replicas().is_some_and(|replicas| replicas.has_content_beside(id));
        if id != FIRST || others {
            let why = format!("the log of {id} begins before what is here");
            return Err(StorageError::Corruption(why));
        }
        self.holds.set(Some(Shape::of(&Descriptor::first(id))));
        Ok(())
    }

    /// Turns entries into engine writes.
    fn decode(&self, entries: Vec<Bytes>, ops: &mut Vec<Op>) -> Result<Prepared, StorageError> {
        let mut prepared = Prepared { records: Vec::new(), newest: None, landed: Vec::new() };
        let bytes: usize = entries.iter().map(Bytes::len).sum();
        self.holds.written.fetch_add(bytes as u64, Ordering::Relaxed);
        for mut entry in entries {
            while !entry.is_empty() {
                let entry = LogEntry::decode(&mut entry)
                    .map_err(|error| StorageError::Corruption(error.to_string()))?;
                let (ts, writes) = entry.writes().unwrap_or((Timestamp::MIN, &[]));
                for write in writes {
                    let (old, new) = (write.old.as_ref(), write.value.as_deref());
                    let before = ops.len();
                    mvcc::write_ops(&write.key, old, new, ts, ops);
                    // The last of a key's writes is the one in `cur`; a deletion of nothing has none.
                    let cur = ops[before..].last().and_then(|op| op.value.clone());
                    prepared.records.extend(cur.map(|value| (write.key.clone(), value)));
                }
                entry.state_ops(ops);
                if let LogEntry::Split(split) = &entry {
                    ops.push(commit_ts_op(split.right.id, split.applied));
                }
                prepared.newest = prepared.newest.max(entry.ts());
                prepared.landed.push(match entry {
                    LogEntry::Commit(command) => Landed::Commit(command.ts, command.txn),
                    other => Landed::Other(other),
                });
            }
        }
        // The end of a transaction over several ranges may be older than what came before it here.
        if let Some(newest) = &mut prepared.newest {
            *newest = Timestamp(self.newest.fetch_max(newest.0, Ordering::Relaxed)).max(*newest);
        }
        Ok(prepared)
    }

    /// The write that says up to which commit the engine has everything.
    fn mark(&self, prepared: &Prepared, ops: &mut Vec<Op>) {
        if let Some(newest) = prepared.newest {
            ops.push(commit_ts_op(self.range.id, newest));
        }
    }

    /// The engine has the writes: shows them to readers and lets the commits finish.
    fn publish(core: &Core, range: &Arc<Range>, holds: &Holds, prepared: &Prepared) {
        for (key, value) in &prepared.records {
            core.read.cache.applied(key, Some(value));
        }
        core.read.barren.written(prepared.records.iter().map(|(key, _)| &key[..]));
        // After a restart the log repeats what the engine already holds: nothing to announce.
        let applied = range.applied();
        let old = |landed: &Landed| matches!(landed, Landed::Commit(ts, _) if *ts <= applied);
        let known = prepared.landed.iter().take_while(|landed| old(landed)).count();
        let show = |landed: &[Landed]| {
            let (flights, ends) = range.pipeline.applied(range, landed);
            for flight in flights {
                flight.finish(core, Ok(()));
            }
            ends.finish(core);
        };
        let is_split = |landed: &Landed| matches!(landed, Landed::Other(LogEntry::Split(_)));
        let mut rest = &prepared.landed[known..];
        while let Some(at) = rest.iter().position(is_split) {
            // The right half remembers what came before; the left one thaws when all is said.
            show(&rest[..at]);
            if let Landed::Other(LogEntry::Split(split)) = &rest[at] {
                split::landed(core, range, holds, split);
            }
            show(&rest[at..=at]);
            rest = &rest[at + 1..];
        }
        show(rest);
    }

    /// Applies entries from start to end, without a log.
    pub(crate) fn apply(&self, entries: Vec<Bytes>) -> Result<(), StorageError> {
        if self.holds.is_empty() {
            self.begin()?;
        }
        let mut batch = WriteBatch::default();
        let prepared = self.decode(entries, &mut batch.ops)?;
        self.mark(&prepared, &mut batch.ops);
        self.core.read.engine.apply(batch)?;
        EntryApplier::publish(&self.core, &self.range, &self.holds, &prepared);
        Ok(())
    }
}

impl Applier for EntryApplier {
    fn prepare_piece(&self, mut piece: Bytes, ops: &mut Vec<Op>) -> Result<Publish, StorageError> {
        if self.holds.is_empty() {
            self.begin()?;
        }
        // What makes a commit of it (its timestamp) comes with the last piece.
        let core = Arc::clone(&self.core);
        self.holds.written.fetch_add(piece.len() as u64, Ordering::Relaxed);
        let kept = self.loads.keep(piece.len(), core.read.cache.room());
        let mut load = Load::default();
        let mut reach: Option<(Bytes, Bytes)> = None;
        while !piece.is_empty() {
            let command = Command::decode(&mut piece)
                .map_err(|error| StorageError::Corruption(error.to_string()))?;
            let before = ops.len();
            command.bulk_ops(ops);
            for op in ops[before..].iter().filter(|op| op.keyspace == Keyspace::Cur) {
                let value = op.value.as_ref().filter(|_| kept.is_some());
                let fresh = value.map(|value| (op.key.slice(1..), value.clone()));
                core.read.cache.note(&op.key[1..], fresh, &mut load);
                let key = op.key.slice(1..);
                reach = Some(match reach {
                    None => (key.clone(), key),
                    Some((first, last)) => (first.min(key.clone()), last.max(key)),
                });
            }
        }
        Ok(Box::new(move || {
            core.read.cache.loaded(load);
            if let Some((first, last)) = &reach {
                core.read.barren.written_between(first, last);
            }
            drop(kept);
        }))
    }

    fn content(&self) -> Option<Vec<Part>> {
        // What the directory has heard of doesn't count: others may hold that.
        Some(self.holds.get().map_or_else(Vec::new, |shape| parts_of(&shape.span)))
    }

    fn reached(&self, index: u64) {
        self.range.copy.apply(index);
    }

    fn leaving(&self) {
        self.range.copy.lose();
    }

    fn installed(&self) -> Result<(), StorageError> {
        let core = &self.core;
        core.read.cache.clear();
        core.read.barren.clear();
        let applied = recovered_commit_ts(core.read.engine.as_ref(), self.range.id)?;
        self.newest.store(applied.0, Ordering::Relaxed);
        self.range.pipeline.installed(applied);
        self.range.reset_applied(applied);
        let shape = Holds::read(core.read.engine.as_ref(), self.range.id)?;
        self.holds.set(shape.clone());
        if let Some(shape) = shape {
            core.ranges.put(vec![(Arc::clone(&self.range), shape)]);
        }
        Ok(())
    }

    fn prepare(&self, entries: Vec<Bytes>, ops: &mut Vec<Op>) -> Result<Publish, StorageError> {
        if self.holds.is_empty() {
            self.begin()?;
        }
        let prepared = self.decode(entries, ops)?;
        self.mark(&prepared, ops);
        let (core, range) = (Arc::clone(&self.core), Arc::clone(&self.range));
        let holds = Arc::clone(&self.holds);
        Ok(Box::new(move || EntryApplier::publish(&core, &range, &holds, &prepared)))
    }
}
