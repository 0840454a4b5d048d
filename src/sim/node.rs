//! The simulated node: the real machines of `kv` over a log and an engine that can lose power.

use std::collections::VecDeque;

use meridian_base::keys::range_state_key;
use meridian_base::{RangeId, Rng, Span};
use meridian_kv::api::{Bytes, Key, KvError, Row, Strength, Timestamp};
use meridian_kv::locks::LockTable;
use meridian_kv::range::{Command, Newest, Sequencer, Snapshots, Version};
use meridian_storage::engine::{Engine, Keyspace, Reader, WriteBatch};
use meridian_storage::gc::Fate;
use meridian_storage::{GcHandle, MemEngine, mvcc};

use crate::world::Bug;

/// Writes remembered for SERIALIZABLE: few, so that runs also meet the ring's end.
const RING_LEN: usize = 200;

/// A log of which the synced prefix survives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Bytes>,
    pub(crate) synced: usize,
    /// Entries below this are gone: the engine has them durably.
    pub(crate) purged: usize,
}

/// One node.
pub(crate) struct Node {
    pub(crate) engine: MemEngine,
    pub(crate) locks: LockTable<Key, Strength>,
    pub(crate) sequencer: Sequencer,
    pub(crate) snapshots: Snapshots,
    pub(crate) queue: VecDeque<Command>,
    pub(crate) log: Log,
    /// Entries that the engine has.
    pub(crate) applied: usize,
    gc: GcHandle,
}

/// Lookups of the newest version in the engine.
pub(crate) struct InEngine<'a>(pub(crate) &'a MemEngine);

impl Newest for InEngine<'_> {
    fn newest(&self, key: &[u8]) -> Result<Option<Version>, KvError> {
        Ok(mvcc::newest(self.0, key).expect("memory"))
    }
}

fn marker_key() -> Vec<u8> {
    range_state_key(RangeId(1), b"applied")
}

fn marker(engine: &MemEngine, keyspace: Keyspace) -> usize {
    let value = engine.get(keyspace, &marker_key()).expect("memory");
    value.map_or(0, |v| u32::from_le_bytes(v[..].try_into().expect("four bytes")) as usize)
}

impl Node {
    pub(crate) fn new() -> Node {
        Node::start(MemEngine::new(), Log::default(), 0, Timestamp::MIN)
    }

    fn start(engine: MemEngine, log: Log, applied: usize, newest: Timestamp) -> Node {
        Node {
            engine,
            locks: LockTable::default(),
            sequencer: Sequencer::new(newest, RING_LEN),
            snapshots: Snapshots::default(),
            queue: VecDeque::new(),
            log,
            applied,
            gc: GcHandle::new(),
        }
    }

    /// Moves everything that is queued into one log entry.
    pub(crate) fn propose(&mut self) {
        let mut entry = Vec::new();
        for command in self.queue.drain(..) {
            match command.runs.is_empty() {
                true => command.encode(&mut entry),
                // Pieces as small as can be.
                false => command.pieces(32).for_each(|piece| entry.extend_from_slice(&piece)),
            }
        }
        self.log.entries.push(entry.into());
    }

    /// Applies the next synced entry; answers its commits.
    pub(crate) fn apply_next(&mut self, bug: Option<Bug>) -> Vec<Timestamp> {
        let commits = apply(&self.engine, &self.log, self.applied, bug);
        self.applied += 1;
        for ts in &commits {
            self.sequencer.applied_to(*ts);
        }
        commits
    }

    /// Makes the engine durable and drops the log that it makes superfluous.
    pub(crate) fn checkpoint(&mut self) {
        self.engine.persist().expect("memory");
        self.log.purged = self.applied;
    }

    /// Drops versions that no snapshot needs.
    pub(crate) fn collect_garbage(&mut self, keep_from: Timestamp, bug: Option<Bug>) {
        let oldest = self.snapshots.oldest().filter(|_| bug != Some(Bug::GcIgnoresSnapshots));
        let bound = self.sequencer.advance_gc(keep_from, oldest);
        // The storage's bound has microsecond steps and here time is small: ask it directly.
        self.gc.advance(bound, 0, None);
        let mut batch = WriteBatch::default();
        for entry in self.engine.range(Keyspace::Hist, &Span::all(), false) {
            let (key, value) = entry.expect("memory");
            let over = mvcc::hist_end(&value).is_some_and(|end| end <= bound);
            let fate = self.gc.load().fate(Keyspace::Hist, &key, &value);
            if key.first() == Some(&meridian_base::keys::DATA) && (over || fate == Fate::Destroy) {
                batch.delete(Keyspace::Hist, key);
            }
        }
        if !batch.is_empty() {
            self.engine.apply(batch).expect("memory");
        }
    }

    /// Power goes and comes back: what was synced is there, some of the rest may be.
    pub(crate) fn crash(&self, rng: &mut Rng, bug: Option<Bug>) -> Node {
        let mut log = self.log.clone();
        let unsynced = log.entries.len() - log.synced;
        log.entries.truncate(log.synced + below(rng, unsynced + 1));
        log.synced = log.entries.len();
        let kept = [(); 3].map(|()| below(rng, self.engine.unpersisted() + 1));
        let engine = self.engine.crash(kept);
        let (cur, hist) = (marker(&engine, Keyspace::Cur), marker(&engine, Keyspace::Hist));
        let from = match bug {
            Some(Bug::RedoFromTheNewerMarker) => cur.max(hist),
            _ => cur.min(hist),
        };
        assert!(from >= log.purged, "the log was purged beyond what the engine has");
        let mut newest = Timestamp::MIN;
        // The newest commit may lie in an entry that needs no redo.
        for index in 0..log.entries.len() {
            let mut entry = log.entries[index].clone();
            while !entry.is_empty() {
                newest = newest.max(Command::decode(&mut entry).expect("own log").ts);
            }
            if index >= from {
                apply(&engine, &log, index, None);
            }
        }
        let applied = log.entries.len();
        Node::start(engine, log, applied, newest)
    }

    /// The row of a key at a snapshot.
    pub(crate) fn get(&self, key: &[u8], read_ts: Timestamp) -> Option<Row> {
        mvcc::get(&self.engine, key, read_ts).expect("memory")
    }
}

pub(crate) fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).expect("below a usize")
}

fn apply(engine: &MemEngine, log: &Log, index: usize, bug: Option<Bug>) -> Vec<Timestamp> {
    let mut batch = WriteBatch::default();
    let mut commits = Vec::new();
    let mut entry = log.entries[index].clone();
    while !entry.is_empty() {
        let command = Command::decode(&mut entry).expect("own log");
        command.ops(&mut batch.ops);
        // Pieces of one commit have one timestamp.
        if commits.last() != Some(&command.ts) {
            commits.push(command.ts);
        }
    }
    let applied = u32::try_from(index + 1).expect("short runs").to_le_bytes();
    if bug == Some(Bug::TornApply) {
        // The marker first, the writes one by one: a crash in between loses the rest for good.
        let mut marked = WriteBatch::default();
        for keyspace in [Keyspace::Cur, Keyspace::Hist] {
            marked.put(keyspace, marker_key(), applied.to_vec());
        }
        engine.apply(marked).expect("memory");
        for op in batch.ops {
            engine.apply(WriteBatch { ops: vec![op] }).expect("memory");
        }
        return commits;
    }
    for keyspace in [Keyspace::Cur, Keyspace::Hist] {
        batch.put(keyspace, marker_key(), applied.to_vec());
    }
    engine.apply(batch).expect("memory");
    commits
}
