//! One transaction: its snapshot, its buffered writes, its locks, its savepoints.
//!
//! Nothing that a transaction writes leaves it before commit. Reads look into the buffer first, so a
//! transaction sees its own writes at once and nobody else sees them at all. What must be undone by
//! ROLLBACK TO is written in one undo log, and a savepoint is a position in it:
//!
//! ```text
//! put a=1           buffer a=1@0      undo []
//! SAVEPOINT s       generation 1      undo []                  s = position 0
//! put a=2           buffer a=2@1      undo [a was 1@0]
//! lock b Update     locks b           undo [a was 1@0, b held nothing]
//! ROLLBACK TO s     buffer a=1@0      undo []                  b is released
//! ```
//! An entry remembers in which generation (savepoint) it was last written, so writing a row a
//! million times after one savepoint keeps one old value, and without savepoints nothing is logged.
//!
//! **Version tags.** When a key is locked, the newest version is read under the lock and remembered.
//! A write of that key carries it as [`VersionTag`]; the sequencer refuses the commit if the newest
//! version is another one by then. The lock makes that impossible in one process; the tag makes it
//! harmless anywhere.
//!
//! Invariants: undo entries exist only while a savepoint does; a key in `buffer` that is to be
//! committed has a tag or is blind; `read_ts` never goes back.

mod reads;

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::api::{Isolation, Key, KvError, Row, Span, Strength, Timestamp};
use crate::locks::{LockMode, ModeSet, Owner};
pub use reads::ReadSet;

/// What a write was derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionTag {
    /// Nothing was looked at: the write replaces whatever is there.
    Blind,
    /// The newest version that was seen under the lock; [`Timestamp::MIN`] = no version at all.
    Newest(Timestamp),
}

/// A write on its way to the sequencer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Key,
    /// The row; `None` deletes.
    pub value: Option<Row>,
    /// What it was derived from.
    pub expect: VersionTag,
}

/// A key that the transaction has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedKey {
    /// Modes held, as in the lock table.
    pub modes: ModeSet,
    /// Newest version when it was last locked; [`Timestamp::MIN`] = none.
    pub newest: Timestamp,
}

/// Names a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SavepointId(pub u32);

#[derive(Clone, Debug)]
struct Buffered {
    value: Option<Row>,
    generation: u32,
}

#[derive(Clone, Debug)]
enum Undo {
    Write { key: Key, before: Option<Buffered> },
    Lock { key: Key, before: ModeSet },
}

#[derive(Clone, Copy, Debug)]
struct Savepoint {
    id: SavepointId,
    undo_len: usize,
}

/// The state of one transaction.
#[derive(Clone, Debug)]
pub struct TxnState {
    owner: Owner,
    isolation: Isolation,
    read_ts: Timestamp,
    buffer: BTreeMap<Key, Buffered>,
    buffer_bytes: usize,
    buffer_bytes_max: usize,
    locks: BTreeMap<Key, LockedKey>,
    undo: Vec<Undo>,
    savepoints: Vec<Savepoint>,
    generation: u32,
    reads: Option<Box<ReadSet>>,
}

/// What a write costs in the log beside its bytes: lengths, kinds, a timestamp.
const ENTRY_OVERHEAD_BYTES: usize = 22;

impl TxnState {
    /// A transaction that reads at `read_ts`.
    pub fn new(owner: Owner, isolation: Isolation, read_ts: Timestamp) -> TxnState {
        TxnState {
            owner,
            isolation,
            read_ts,
            buffer: BTreeMap::new(),
            buffer_bytes: 0,
            buffer_bytes_max: meridian_base::limits::COMMAND_BYTES_MAX,
            locks: BTreeMap::new(),
            undo: Vec::new(),
            savepoints: Vec::new(),
            generation: 0,
            reads: (isolation == Isolation::Serializable).then(Box::default),
        }
    }

    /// Who this is in the lock table.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The isolation level.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// The current snapshot.
    pub fn read_ts(&self) -> Timestamp {
        self.read_ts
    }

    /// Starts a statement: READ COMMITTED moves to the newest snapshot, the others stay.
    pub fn begin_statement(&mut self, applied: Timestamp) {
        if self.isolation == Isolation::ReadCommitted {
            debug_assert!(applied >= self.read_ts, "snapshots never go back");
            self.read_ts = applied.max(self.read_ts);
        }
    }

    /// Has nothing been written?
    pub fn is_read_only(&self) -> bool {
        self.buffer.is_empty()
    }

    /// How many bytes are buffered, about.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Fails when the buffer has outgrown what one command may carry.
    pub fn check_size(&self) -> Result<(), KvError> {
        if self.buffer_bytes > self.buffer_bytes_max {
            return Err(KvError::TransactionTooLarge { limit_bytes: self.buffer_bytes_max });
        }
        Ok(())
    }

    /// Buffers a write; `None` deletes.
    pub fn put(&mut self, key: Key, value: Option<Row>) {
        let bytes = |entry: &Option<Row>| entry.as_ref().map_or(0, Row::len);
        let added = key.len() + bytes(&value) + ENTRY_OVERHEAD_BYTES;
        let generation = self.generation;
        self.buffer_bytes += added;
        if self.savepoints.is_empty() {
            if let Some(old) = self.buffer.insert(key.clone(), Buffered { value, generation }) {
                self.buffer_bytes -= key.len() + bytes(&old.value) + ENTRY_OVERHEAD_BYTES;
            }
            return;
        }
        let before = self.buffer.insert(key.clone(), Buffered { value, generation });
        match before {
            Some(old) if old.generation == generation => {
                self.buffer_bytes -= key.len() + bytes(&old.value) + ENTRY_OVERHEAD_BYTES;
            }
            before => self.undo.push(Undo::Write { key, before }),
        }
    }

    /// The transaction's own value of a key: `Some(None)` = deleted here, `None` = not written here.
    #[inline]
    pub fn own(&self, key: &[u8]) -> Option<Option<&Row>> {
        if self.buffer.is_empty() {
            return None;
        }
        self.buffer.get(key).map(|buffered| buffered.value.as_ref())
    }

    /// The transaction's own writes in a span, in key order.
    pub fn own_span(&self, span: &Span) -> impl DoubleEndedIterator<Item = (&Key, Option<&Row>)> {
        let start = Bound::Included(&span.start[..]);
        let end = match span.end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(&span.end[..]),
        };
        let range = (!span.is_empty()).then(|| self.buffer.range::<[u8], _>((start, end)));
        range.into_iter().flatten().map(|(key, buffered)| (key, buffered.value.as_ref()))
    }

    /// Notes a point read (SERIALIZABLE only).
    #[inline]
    pub fn note_read(&mut self, key: &[u8]) {
        if let Some(reads) = &mut self.reads {
            reads.add_point(key);
        }
    }

    /// Notes a scan (SERIALIZABLE only): also of the keys that weren't there.
    pub fn note_scan(&mut self, span: &Span) {
        if let Some(reads) = &mut self.reads {
            reads.add_span(span.clone());
        }
    }

    /// What was read; `None` below SERIALIZABLE.
    pub fn reads(&self) -> Option<&ReadSet> {
        self.reads.as_deref()
    }

    /// The lock that is held on a key.
    pub fn locked(&self, key: &[u8]) -> Option<LockedKey> {
        self.locks.get(key).copied()
    }

    /// Notes a granted lock; `before` is what the table said was held before.
    pub fn note_lock(&mut self, key: &Key, strength: Strength, before: ModeSet) {
        let locked =
            self.locks.entry(key.clone()).or_insert(LockedKey { modes: 0, newest: Timestamp::MIN });
        debug_assert_eq!(locked.modes, before, "table and transaction agree on what is held");
        locked.modes = before | strength.bit();
        if !self.savepoints.is_empty() {
            self.undo.push(Undo::Lock { key: key.clone(), before });
        }
    }

    /// Notes the newest version as read under the lock: the tag of a later write.
    pub fn note_newest(&mut self, key: &[u8], newest: Timestamp) {
        if let Some(locked) = self.locks.get_mut(key) {
            // A tombstone may be collected meanwhile: then there is none.
            let gone = newest == Timestamp::MIN;
            debug_assert!(gone || newest >= locked.newest, "versions of a key only grow");
            locked.newest = newest;
        }
    }

    /// Must a locked key's newest version abort the transaction?
    pub fn conflicts_with(&self, newest: Timestamp) -> bool {
        self.isolation != Isolation::ReadCommitted && newest > self.read_ts
    }

    /// Sets a savepoint.
    pub fn savepoint(&mut self) -> SavepointId {
        self.generation += 1;
        let id = SavepointId(self.generation);
        self.savepoints.push(Savepoint { id, undo_len: self.undo.len() });
        id
    }

    /// Undoes all since the savepoint, which stays. `release` receives the locks to give back, with
    /// what is to remain of each. False when there is no such savepoint.
    pub fn rollback_to(&mut self, id: SavepointId, mut release: impl FnMut(&Key, ModeSet)) -> bool {
        let Some(at) = self.savepoints.iter().position(|savepoint| savepoint.id == id) else {
            return false;
        };
        self.savepoints.truncate(at + 1);
        self.generation += 1;
        for undo in self.undo.drain(self.savepoints[at].undo_len..).rev() {
            match undo {
                Undo::Write { key, before: Some(before) } => {
                    self.buffer.insert(key, before);
                }
                Undo::Write { key, before: None } => {
                    self.buffer.remove(&key);
                }
                Undo::Lock { key, before } => {
                    release(&key, before);
                    match self.locks.get_mut(&key) {
                        Some(locked) if before != 0 => locked.modes = before,
                        _ => {
                            self.locks.remove(&key);
                        }
                    }
                }
            }
        }
        self.buffer_bytes = self
            .buffer
            .iter()
            .map(|(key, b)| key.len() + b.value.as_ref().map_or(0, Row::len) + ENTRY_OVERHEAD_BYTES)
            .sum();
        true
    }

    /// Forgets a savepoint and those set after it; what was done since stays. False when there is no
    /// such savepoint.
    pub fn release(&mut self, id: SavepointId) -> bool {
        let Some(at) = self.savepoints.iter().position(|savepoint| savepoint.id == id) else {
            return false;
        };
        self.savepoints.truncate(at);
        if self.savepoints.is_empty() {
            self.undo.clear();
        }
        true
    }

    /// Keys that are written but not locked strongly enough to commit; in key order, so that
    /// transactions that lock them all now can't deadlock among themselves.
    pub fn unlocked_writes(&self) -> Vec<Key> {
        let enough = Strength::NoKeyUpdate.bit();
        self.buffer
            .keys()
            .filter(|key| self.locks.get(*key).is_none_or(|locked| locked.modes < enough))
            .cloned()
            .collect()
    }

    /// The writes for the sequencer, in key order; the buffer is empty afterwards.
    pub fn take_writes(&mut self) -> Vec<Write> {
        self.undo.clear();
        self.savepoints.clear();
        self.buffer_bytes = 0;
        std::mem::take(&mut self.buffer)
            .into_iter()
            .map(|(key, buffered)| {
                let expect = match self.locks.get(&key) {
                    Some(locked) => VersionTag::Newest(locked.newest),
                    None => VersionTag::Blind,
                };
                Write { key, value: buffered.value, expect }
            })
            .collect()
    }

    /// The locked keys, to be released; the transaction holds none afterwards.
    pub fn take_locks(&mut self) -> BTreeMap<Key, LockedKey> {
        std::mem::take(&mut self.locks)
    }

    /// Forgets all writes and savepoints (ROLLBACK).
    pub fn discard_writes(&mut self) {
        self.buffer.clear();
        self.undo.clear();
        self.savepoints.clear();
        self.buffer_bytes = 0;
    }
}

#[cfg(test)]
mod tests;
