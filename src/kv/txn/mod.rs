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
//! **Runs.** New rows in bulk don't go through the buffer but come as whole [`Run`]s. Whoever adds one
//! has made sure that its keys are free and stay so. The buffer lies above the runs: a row of a run that
//! is changed later is in both.
//!
//! Invariants: a key that two runs share is in the buffer, too; undo entries exist only while a savepoint does; a key in `buffer` that is to be
//! committed has a tag or is blind; `read_ts` never goes back.

mod reads;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use meridian_base::limits::BULK_BYTES_MAX;

use crate::api::{Isolation, Key, KvError, Row, Span, Strength, Timestamp};
use crate::locks::{LockMode, ModeSet, Owner};
use crate::range::Verify;
use crate::run::Run;
pub use reads::ReadSet;

/// What a write was derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionTag {
    /// Nothing was looked at: the write replaces whatever is there.
    Blind,
    /// There was no row, deleted or not.
    Absent,
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
    /// It comes from a run: its key was claimed, not locked by itself.
    claimed: bool,
}

#[derive(Clone, Debug)]
enum Undo {
    Write {
        key: Key,
        before: Option<Buffered>,
    },
    Lock {
        key: Key,
        before: ModeSet,
    },
    /// A run was added.
    Run,
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
    /// Has a statement begun, or something been read? From then on only READ COMMITTED moves its
    /// snapshot.
    begun: bool,
    buffer: BTreeMap<Key, Buffered>,
    buffer_bytes: usize,
    buffer_bytes_max: usize,
    locks: BTreeMap<Key, LockedKey>,
    runs: Vec<Arc<Run>>,
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
            begun: false,
            buffer: BTreeMap::new(),
            buffer_bytes: 0,
            buffer_bytes_max: meridian_base::limits::COMMAND_BYTES_MAX,
            locks: BTreeMap::new(),
            runs: Vec::new(),
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

    /// Will all further statements read at the snapshot of now?
    pub fn keeps_snapshot(&self) -> bool {
        self.begun && self.isolation != Isolation::ReadCommitted
    }

    /// Starts a statement: READ COMMITTED moves to the newest snapshot, the others do so at their first
    /// statement only; not at BEGIN, since what others commit before that statement may be seen. One
    /// range's snapshot may be below that of an earlier statement over several: it never goes back.
    pub fn begin_statement(&mut self, newest: Timestamp) {
        if !self.keeps_snapshot() {
            self.begun = true;
            self.read_ts = newest.max(self.read_ts);
        }
    }

    /// Fixes the snapshot, which could not be known when the transaction or its statement began.
    pub fn fix_snapshot(&mut self, ts: Timestamp) {
        debug_assert!(ts >= self.read_ts, "snapshots never go back");
        self.begun = true;
        self.read_ts = ts.max(self.read_ts);
    }

    /// The keys that are locked and not written, with what is needed to see at the commit, should their
    /// locks have been lost, that they are as they were.
    pub fn locked_only(&self) -> Vec<Verify> {
        let only = self.locks.iter().filter(|(key, _)| !self.buffer.contains_key(*key));
        only.map(seen_under).collect()
    }

    /// The same of all keys that are locked.
    pub fn locked_all(&self) -> Vec<Verify> {
        self.locks.iter().map(seen_under).collect()
    }

    /// Has nothing been written?
    pub fn is_read_only(&self) -> bool {
        self.buffer.is_empty() && self.runs.is_empty()
    }

    /// Has nothing been written or locked?
    #[inline]
    pub fn is_untouched(&self) -> bool {
        self.is_read_only() && self.locks.is_empty()
    }

    /// How many bytes are buffered, about.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes + self.runs.iter().map(|run| run.size()).sum::<usize>()
    }

    /// Fails when the buffer has outgrown what one command may carry.
    pub fn check_size(&self) -> Result<(), KvError> {
        if self.buffer_bytes > self.buffer_bytes_max {
            return Err(KvError::TransactionTooLarge { limit_bytes: self.buffer_bytes_max });
        }
        self.check_room(0)
    }

    /// Fails when so many bytes more in bulk would be too many.
    pub fn check_room(&self, bytes: usize) -> Result<(), KvError> {
        let bulk: usize = self.runs.iter().map(|run| run.size()).sum();
        if bulk + bytes > BULK_BYTES_MAX {
            return Err(KvError::TransactionTooLarge { limit_bytes: BULK_BYTES_MAX });
        }
        Ok(())
    }

    /// Buffers a write; `None` deletes.
    pub fn put(&mut self, key: Key, value: Option<Row>) {
        let bytes = |entry: &Option<Row>| entry.as_ref().map_or(0, Row::len);
        let added = key.len() + bytes(&value) + ENTRY_OVERHEAD_BYTES;
        let (generation, claimed) = (self.generation, false);
        self.buffer_bytes += added;
        if self.savepoints.is_empty() {
            if let Some(old) =
                self.buffer.insert(key.clone(), Buffered { value, generation, claimed })
            {
                self.buffer_bytes -= key.len() + bytes(&old.value) + ENTRY_OVERHEAD_BYTES;
            }
            return;
        }
        let before = self.buffer.insert(key.clone(), Buffered { value, generation, claimed });
        match before {
            Some(old) if old.generation == generation => {
                self.buffer_bytes -= key.len() + bytes(&old.value) + ENTRY_OVERHEAD_BYTES;
            }
            before => self.undo.push(Undo::Write { key, before }),
        }
    }

    /// Adds rows in bulk, after [`TxnState::clash`] has found nothing.
    pub fn put_run(&mut self, run: Arc<Run>) {
        // Rows that were deleted here before come back above the deletion.
        let span = (Bound::Included(run.first()), Bound::Included(run.last()));
        let buffered = self.buffer.range::<[u8], _>(span).map(|(key, _)| key);
        let again: Vec<(Key, Row)> =
            buffered.filter_map(|key| Some((key.clone(), run.row(run.find(key)?)))).collect();
        self.runs.push(run);
        if !self.savepoints.is_empty() {
            self.undo.push(Undo::Run);
        }
        for (key, row) in again {
            self.put(key, Some(row));
        }
    }

    /// The first row of a run whose key has a row of this transaction already.
    pub fn clash(&self, run: &Run) -> Option<usize> {
        let in_runs = self.runs.iter().filter_map(|own| {
            let at = run.clash(own)?;
            // A row of that run may have been deleted since: then look at each.
            let mut all = (at..run.len()).filter(|at| own.find(run.key(*at)).is_some());
            all.find(|at| {
                !matches!(self.buffer.get(run.key(*at)), Some(Buffered { value: None, .. }))
            })
        });
        let span = (Bound::Included(run.first()), Bound::Included(run.last()));
        let mut buffered = self.buffer.range::<[u8], _>(span);
        let single = buffered.find_map(|(key, b)| b.value.as_ref().and_then(|_| run.find(key)));
        in_runs.chain(single).min()
    }

    /// The transaction's own value of a key: `Some(None)` = deleted here, `None` = not written here.
    #[inline]
    pub fn own(&self, key: &[u8]) -> Option<Option<Row>> {
        if self.is_read_only() {
            return None;
        }
        match self.buffer.get(key) {
            Some(buffered) => Some(buffered.value.clone()),
            None => self.runs.iter().find_map(|run| Some(Some(run.row(run.find(key)?)))),
        }
    }

    /// The transaction's own writes in a span, in key order.
    pub fn own_span(&self, span: &Span) -> Vec<(Key, Option<Row>)> {
        if span.is_empty() || self.is_read_only() {
            return Vec::new();
        }
        let mut own = Vec::new();
        for run in &self.runs {
            let to = match span.end.is_empty() {
                true => run.len(),
                false => run.lower_bound(0, &span.end),
            };
            let from = run.lower_bound(0, &span.start);
            own.extend((from..to).map(|at| (run.shared_key(at), Some(run.row(at)))));
        }
        let end = match span.end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(&span.end[..]),
        };
        let buffered = self.buffer.range::<[u8], _>((Bound::Included(&span.start[..]), end));
        own.extend(buffered.map(|(key, buffered)| (key.clone(), buffered.value.clone())));
        if !self.runs.is_empty() {
            // Stable, so that of two entries the buffer's comes last and stays.
            own.sort_by(|a, b| a.0.cmp(&b.0));
            own.reverse();
            own.dedup_by(|later, kept| later.0 == kept.0);
            own.reverse();
        }
        own
    }

    /// Notes a point read (SERIALIZABLE only).
    #[inline]
    pub fn note_read(&mut self, key: &[u8]) {
        self.begun = true;
        if let Some(reads) = &mut self.reads {
            reads.add_point(key);
        }
    }

    /// Notes a scan (SERIALIZABLE only): also of the keys that weren't there.
    pub fn note_scan(&mut self, span: &Span) {
        self.begun = true;
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
        // Unless the lock was lost with a lease and has been taken again elsewhere, or was granted just when
        // the range moved, so that the answer was another.
        let known = before & locked.modes == locked.modes;
        debug_assert!(before == 0 || known, "the table knows what the transaction knows");
        locked.modes |= before | strength.bit();
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
                Undo::Run => {
                    self.runs.pop();
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
                    None if buffered.claimed => VersionTag::Absent,
                    None => VersionTag::Blind,
                };
                Write { key, value: buffered.value, expect }
            })
            .collect()
    }

    /// The runs for the sequencer; none are left. Runs of less than `bytes_min` bytes altogether become
    /// single writes: call it when all locks have been taken, and before [`TxnState::take_writes`].
    pub fn take_runs(&mut self, bytes_min: usize) -> Vec<Arc<Run>> {
        let runs = std::mem::take(&mut self.runs);
        if runs.iter().map(|run| run.size()).sum::<usize>() >= bytes_min {
            return runs;
        }
        for run in runs {
            for at in 0..run.len() {
                let (value, generation) = (Some(run.row(at)), self.generation);
                let write = Buffered { value, generation, claimed: true };
                self.buffer.entry(run.shared_key(at)).or_insert(write);
            }
        }
        Vec::new()
    }

    /// The locks are the transaction's again: its commit was not sequenced.
    pub fn put_back(&mut self, locks: BTreeMap<Key, LockedKey>) {
        self.locks = locks;
    }

    /// The locked keys, to be released; the transaction holds none afterwards.
    pub fn take_locks(&mut self) -> BTreeMap<Key, LockedKey> {
        std::mem::take(&mut self.locks)
    }

    /// Forgets all writes and savepoints (ROLLBACK).
    pub fn discard_writes(&mut self) {
        self.buffer.clear();
        self.runs.clear();
        self.undo.clear();
        self.savepoints.clear();
        self.buffer_bytes = 0;
    }
}

#[cfg(test)]
mod tests;

/// How a key is locked, and what was seen of it.
fn seen_under((key, locked): (&Key, &LockedKey)) -> Verify {
    let held = |strength: &&Strength| locked.modes & strength.bit() != 0;
    let strength = Strength::all().iter().rev().find(held).copied();
    let strength = strength.unwrap_or(Strength::KeyShare);
    Verify { key: key.clone(), strength, seen: locked.newest }
}
