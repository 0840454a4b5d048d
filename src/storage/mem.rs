//! An engine in memory that can lose power.
//!
//! Each key keeps its values with the number of the batch that wrote them, newest last; a snapshot is a
//! batch number, and a read takes the last value at or below it. [`MemEngine::crash`] builds the engine
//! that a restart would find: what [`Engine::persist`] made durable, plus, per keyspace, as many of the
//! later batches as the test says made it to disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use meridian_base::Span;
use parking_lot::{Mutex, RwLock};

use crate::engine::{Engine, Keyspace, KvIter, Op, Pressure, Reader, Snapshot, WriteBatch};
use crate::{Space, StorageError};

type Versions = Vec<(u64, Option<Bytes>)>;
type Map = BTreeMap<Bytes, Versions>;

/// Entries that one step of a scan reads under the lock.
const SCAN_STEP: usize = 256;

#[derive(Default)]
struct State {
    maps: [Map; 3],
    /// Number of the newest batch.
    seq: u64,
    /// Batches since the last persist, oldest first.
    unpersisted: Vec<Vec<Op>>,
    durable: [BTreeMap<Bytes, Bytes>; 3],
}

#[derive(Default)]
struct Shared {
    state: RwLock<State>,
    /// Batch numbers that live snapshots read at, with how many there are of each.
    pinned: Mutex<BTreeMap<u64, usize>>,
    space: Mutex<Space>,
}

/// An [`Engine`] of ordered maps.
#[derive(Clone, Default)]
pub struct MemEngine {
    shared: Arc<Shared>,
}

impl MemEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The engine after a power failure: everything persisted, plus the first `kept[keyspace]` of the
    /// batches applied since. `self` goes on unharmed.
    #[must_use]
    pub fn crash(&self, kept: [usize; 3]) -> Self {
        let state = self.shared.state.read();
        let mut durable = state.durable.clone();
        for (n, ops) in state.unpersisted.iter().enumerate() {
            for op in ops.iter().filter(|op| n < kept[op.keyspace as usize]) {
                write_plain(&mut durable, op);
            }
        }
        let maps = durable
            .clone()
            .map(|map| map.into_iter().map(|(key, value)| (key, vec![(0, Some(value))])).collect());
        let state = State { maps, seq: 0, unpersisted: Vec::new(), durable };
        let shared = Shared { state: RwLock::new(state), ..Shared::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Pretends that the disk has so much room.
    pub fn set_space(&self, space: Space) {
        *self.shared.space.lock() = space;
    }

    /// How many batches the last persist did not cover.
    #[must_use]
    pub fn unpersisted(&self) -> usize {
        self.shared.state.read().unpersisted.len()
    }
}

fn write_plain(maps: &mut [BTreeMap<Bytes, Bytes>; 3], op: &Op) {
    let map = &mut maps[op.keyspace as usize];
    match &op.value {
        Some(value) => drop(map.insert(op.key.clone(), value.clone())),
        None => drop(map.remove(&op.key)),
    }
}

fn visible(versions: &Versions, seq: u64) -> Option<&Bytes> {
    versions.iter().rev().find(|(at, _)| *at <= seq).and_then(|(_, value)| value.as_ref())
}

impl Shared {
    fn get(&self, keyspace: Keyspace, key: &[u8], seq: u64) -> Option<Bytes> {
        let state = self.state.read();
        state.maps[keyspace as usize].get(key).and_then(|v| visible(v, seq)).cloned()
    }

    /// The next entries of a span; `span` is cut to what remains.
    fn step(&self, keyspace: Keyspace, span: &mut Span, reverse: bool, seq: u64) -> Step {
        if span.is_empty() {
            return Step { entries: Vec::new(), done: true };
        }
        let state = self.state.read();
        let upper = match span.end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(span.end.clone()),
        };
        let range =
            state.maps[keyspace as usize].range((Bound::Included(span.start.clone()), upper));
        let mut entries = Vec::new();
        let mut take = |(key, versions): (&Bytes, &Versions)| {
            entries.extend(visible(versions, seq).map(|value| (key.clone(), value.clone())));
            key.clone()
        };
        let (seen, last) = if reverse {
            range
                .rev()
                .take(SCAN_STEP)
                .map(&mut take)
                .fold((0, None), |(n, _), key| (n + 1, Some(key)))
        } else {
            range.take(SCAN_STEP).map(&mut take).fold((0, None), |(n, _), key| (n + 1, Some(key)))
        };
        if let Some(last) = last {
            match reverse {
                true => span.end = last,
                false => span.start = meridian_base::keys::next_key(&last).into(),
            }
        }
        Step { entries, done: seen < SCAN_STEP }
    }
}

struct Step {
    entries: Vec<(Bytes, Bytes)>,
    done: bool,
}

/// A scan that takes the lock once per [`SCAN_STEP`] entries.
struct MemIter {
    view: MemSnapshot,
    keyspace: Keyspace,
    span: Span,
    reverse: bool,
    buffered: std::vec::IntoIter<(Bytes, Bytes)>,
    done: bool,
}

impl Iterator for MemIter {
    type Item = Result<(Bytes, Bytes), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.buffered.next() {
                return Some(Ok(entry));
            }
            if self.done {
                return None;
            }
            let seq = self.view.seq;
            let step = self.view.shared.step(self.keyspace, &mut self.span, self.reverse, seq);
            self.done = step.done;
            self.buffered = step.entries.into_iter();
        }
    }
}

/// A pinned batch number.
struct MemSnapshot {
    shared: Arc<Shared>,
    seq: u64,
}

impl MemSnapshot {
    fn new(shared: &Arc<Shared>) -> Self {
        let state = shared.state.read();
        *shared.pinned.lock().entry(state.seq).or_default() += 1;
        Self { shared: Arc::clone(shared), seq: state.seq }
    }

    fn same(&self) -> Self {
        *self.shared.pinned.lock().entry(self.seq).or_default() += 1;
        Self { shared: Arc::clone(&self.shared), seq: self.seq }
    }
}

impl Drop for MemSnapshot {
    fn drop(&mut self) {
        let mut pinned = self.shared.pinned.lock();
        if let Some(count) = pinned.get_mut(&self.seq) {
            *count -= 1;
            if *count == 0 {
                pinned.remove(&self.seq);
            }
        }
    }
}

impl Reader for MemSnapshot {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.shared.get(keyspace, key, self.seq))
    }

    fn range(&self, keyspace: Keyspace, span: &Span, reverse: bool) -> KvIter {
        let buffered = Vec::new().into_iter();
        let (view, span) = (self.same(), span.clone());
        Box::new(MemIter { view, keyspace, span, reverse, buffered, done: false })
    }
}

impl Reader for MemEngine {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.shared.get(keyspace, key, u64::MAX))
    }

    fn range(&self, keyspace: Keyspace, span: &Span, reverse: bool) -> KvIter {
        self.snapshot().range(keyspace, span, reverse)
    }
}

impl Engine for MemEngine {
    fn apply(&self, batch: WriteBatch) -> Result<(), StorageError> {
        let mut state = self.shared.state.write();
        let state = &mut *state;
        state.seq += 1;
        let oldest = self.shared.pinned.lock().keys().next().copied().unwrap_or(u64::MAX);
        for op in &batch.ops {
            let map = &mut state.maps[op.keyspace as usize];
            let versions = map.entry(op.key.clone()).or_default();
            versions.push((state.seq, op.value.clone()));
            // Drop what no snapshot can see: everything before the last version at or below the oldest.
            let newest = versions.len() - 1;
            let keep = versions.iter().rposition(|(at, _)| *at <= oldest.min(state.seq));
            versions.drain(..keep.unwrap_or(0).min(newest));
            if versions.len() == 1 && versions[0].1.is_none() {
                map.remove(&op.key);
            }
        }
        state.unpersisted.push(batch.ops);
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        Arc::new(MemSnapshot::new(&self.shared))
    }

    fn pressure(&self) -> Pressure {
        Pressure::default()
    }

    fn space(&self) -> Space {
        *self.shared.space.lock()
    }

    fn persist(&self) -> Result<(), StorageError> {
        let mut state = self.shared.state.write();
        let state = &mut *state;
        for op in state.unpersisted.drain(..).flatten() {
            write_plain(&mut state.durable, &op);
        }
        Ok(())
    }

    fn drop_span(&self, span: &Span) -> Result<(), StorageError> {
        let mut batch = WriteBatch::default();
        for keyspace in [Keyspace::Hist, Keyspace::Cur] {
            for entry in self.range(keyspace, &span.physical(), false) {
                batch.delete(keyspace, entry?.0);
            }
        }
        self.apply(batch)
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn compact(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A power failure keeps each keyspace at its own point, never before the persisted one.
    #[test]
    fn crash_keeps_a_prefix_per_keyspace() {
        let engine = MemEngine::new();
        for n in 0..4u8 {
            let mut batch = WriteBatch::default();
            batch.put(Keyspace::Cur, vec![b'k'], vec![n]);
            batch.put(Keyspace::Hist, vec![b'h', n], vec![n]);
            engine.apply(batch).expect("memory");
            if n == 0 {
                engine.persist().expect("memory");
            }
        }
        let after = engine.crash([1, 3, 0]);
        assert_eq!(after.get(Keyspace::Cur, b"k").expect("memory").as_deref(), Some(&[1][..]));
        assert_eq!(after.range(Keyspace::Hist, &Span::all(), false).count(), 4);
        assert_eq!(engine.crash([0; 3]).range(Keyspace::Hist, &Span::all(), true).count(), 1);
    }

    /// A snapshot stays as it was while keys change and vanish, across the steps of a long scan.
    #[test]
    fn snapshots_are_frozen() {
        let engine = MemEngine::new();
        let write = |value: Option<u8>| {
            let mut batch = WriteBatch::default();
            for n in 0..1000u16 {
                let key = n.to_be_bytes().to_vec();
                match value {
                    Some(v) => batch.put(Keyspace::Cur, key, vec![v]),
                    None => batch.delete(Keyspace::Cur, key),
                }
            }
            engine.apply(batch).expect("memory");
        };
        write(Some(1));
        let snapshot = engine.snapshot();
        let mut scan = snapshot.range(Keyspace::Cur, &Span::all(), false);
        scan.next();
        write(Some(2));
        write(None);
        assert!(scan.all(|e| e.expect("memory").1[0] == 1));
        assert_eq!(snapshot.range(Keyspace::Cur, &Span::all(), true).count(), 1000);
        assert_eq!(engine.range(Keyspace::Cur, &Span::all(), false).count(), 0);
    }
}
