//! The single-range sequencer: puts commits in one order and checks that each may join it.
//!
//! A commit gets `T = max(now, last + 1)` and is proposed at once, so log order is timestamp order.
//! A snapshot is the timestamp up to which everything has been *applied*:
//!
//! ```text
//!      applied      last
//! ───────●────○───○──●───▶ T         ● ≤ applied: visible to new snapshots, acknowledged
//!             in flight              ○ proposed: its outcome is the log's, nobody reads it yet
//! ```
//! A reader therefore never meets a write whose fate is open, never waits, and sees every commit
//! that was acknowledged before its snapshot was taken.
//!
//! What can refuse a commit, all before the proposal (an entry in the log always applies):
//! * a **version tag**: the key's newest version, in-flight ones included, isn't the one that the
//!   write was derived from;
//! * the **snapshot** (REPEATABLE READ and above): a written key's newest version is above it;
//! * the **reads** (SERIALIZABLE): a key or span that was read was written in `(read_ts, T]`. The
//!   recent writes are remembered in a ring; a transaction older than the ring can't be judged and
//!   is refused.
//!
//! Why that is serializable: a committed writer's reads are unchanged from its snapshot up to `T`,
//! so it might as well have run at `T` alone. A transaction that wrote nothing ran at its snapshot.
//!
//! Invariants (see [`Sequencer::check`]): `gc ≤ applied ≤ last`; timestamps in flight ascend and lie
//! in `(applied, last]`; every key in flight has its newest in-flight value in `pending`.

mod command;
mod pieces;
mod ring;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::run::Run;

use crate::api::{Isolation, Key, KvError, RetryReason, Timestamp};
use crate::txn::{ReadSet, VersionTag, Write};
pub(crate) use command::put_new_row;
pub use command::{Command, CommandError, CommandWrite};
pub use meridian_storage::mvcc::Version;
pub use pieces::Pieces;
pub use ring::RecentWrites;
pub use snapshots::Snapshots;

/// Where the sequencer looks up what has been applied.
pub trait Newest {
    /// The newest applied version of `key`, tombstones included.
    fn newest(&self, key: &[u8]) -> Result<Option<Version>, KvError>;
}

/// What a transaction asks when it commits.
#[derive(Debug)]
pub struct CommitRequest<'a> {
    /// Its level.
    pub isolation: Isolation,
    /// Its snapshot.
    pub read_ts: Timestamp,
    /// Its writes, in key order.
    pub writes: Vec<Write>,
    /// New rows in bulk, whose keys were found to be free while they were locked.
    pub runs: Vec<Arc<Run>>,
    /// What it read (SERIALIZABLE).
    pub reads: Option<&'a ReadSet>,
}

/// A commit between its sequencing and its application.
#[derive(Clone, Debug)]
struct Flying {
    ts: Timestamp,
    keys: Vec<Key>,
    runs: Vec<Arc<Run>>,
}

/// The order of commits of one range.
#[derive(Clone, Debug)]
pub struct Sequencer {
    last: Timestamp,
    applied: Timestamp,
    gc: Timestamp,
    in_flight: VecDeque<Flying>,
    pending: BTreeMap<Key, Version>,
    recent: RecentWrites,
}

impl Sequencer {
    /// A sequencer over a range whose newest applied commit is `applied`. `ring_len` is how many
    /// recent writes are remembered for SERIALIZABLE.
    pub fn new(applied: Timestamp, ring_len: usize) -> Sequencer {
        Sequencer {
            last: applied,
            applied,
            gc: Timestamp::MIN,
            in_flight: VecDeque::new(),
            pending: BTreeMap::new(),
            recent: RecentWrites::new(applied, ring_len),
        }
    }

    /// The sequencer of a leader that takes over: nothing gets a timestamp at or below `floor`, where
    /// earlier leaders may have read, and garbage collection stands where they left it.
    pub fn leading(
        applied: Timestamp,
        floor: Timestamp,
        gc: Timestamp,
        ring_len: usize,
    ) -> Sequencer {
        let last = applied.max(floor);
        Sequencer { last, gc, ..Sequencer::new(applied, ring_len) }
    }

    /// The newest snapshot.
    pub fn applied(&self) -> Timestamp {
        self.applied
    }

    /// The newest timestamp given out.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// Commits on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The newest version of a key, in-flight ones included.
    fn newest(&self, key: &Key, source: &impl Newest) -> Result<Option<Version>, KvError> {
        let single = self.pending.get(key).cloned();
        let bulk = self.newest_in_runs(key);
        match single.into_iter().chain(bulk).max_by_key(|version| version.ts) {
            None => source.newest(key),
            version => Ok(version),
        }
    }

    /// The newest version of a key in the runs on their way.
    fn newest_in_runs(&self, key: &Key) -> Option<Version> {
        self.in_flight.iter().rev().find_map(|flying| {
            let found = flying.runs.iter().find_map(|run| Some(run.row(run.find(key)?)));
            found.map(|row| Version { ts: flying.ts, row: Some(row) })
        })
    }

    /// Is a row of these runs on its way already? The locks see to it that it isn't.
    fn has_in_flight(&self, runs: &[Arc<Run>]) -> bool {
        let single = |run: &Run| {
            let span = (Bound::Included(run.first()), Bound::Included(run.last()));
            self.pending.range::<[u8], _>(span).any(|(key, _)| run.find(key).is_some())
        };
        let double = |run: &Run| {
            self.in_flight
                .iter()
                .flat_map(|flying| &flying.runs)
                .any(|other| run.clash(other).is_some())
        };
        runs.iter().any(|run| single(run) || double(run))
    }

    /// Gives the commit its timestamp and its place, or refuses it and changes nothing.
    pub fn sequence(
        &mut self,
        now: Timestamp,
        request: CommitRequest<'_>,
        source: &impl Newest,
    ) -> Result<Command, KvError> {
        let empty = request.writes.is_empty() && request.runs.is_empty();
        assert!(!empty, "a commit without writes has no place in the log");
        self.validate_reads(&request)?;
        if self.has_in_flight(&request.runs) {
            return Err(KvError::CONCURRENT_UPDATE);
        }
        let mut writes = Vec::with_capacity(request.writes.len());
        for write in request.writes {
            let old = self.newest(&write.key, source)?;
            let newest = old.as_ref().map_or(Timestamp::MIN, |version| version.ts);
            let unexpected = match write.expect {
                VersionTag::Blind => false,
                // A tombstone that garbage collection has removed meanwhile is still "nothing".
                VersionTag::Newest(expected) => {
                    expected != newest && !(old.is_none() && expected <= self.gc)
                }
            };
            let too_new = request.isolation != Isolation::ReadCommitted && newest > request.read_ts;
            if unexpected || too_new {
                let deleted = old.is_some_and(|version| version.row.is_none());
                let reason = match deleted {
                    true => RetryReason::ConcurrentDelete,
                    false => RetryReason::ConcurrentUpdate,
                };
                return Err(KvError::Retry { reason });
            }
            writes.push(CommandWrite { key: write.key, value: write.value, old });
        }
        let ts = now.max(self.last.next());
        self.last = ts;
        let mut keys = Vec::with_capacity(writes.len());
        let rows: usize = request.runs.iter().map(|run| run.len()).sum();
        self.recent.skip(ts, writes.len() + rows);
        for run in &request.runs {
            self.recent.push_all(ts, (0..run.len()).map(|at| run.shared_key(at)));
        }
        for write in &writes {
            self.recent.push(ts, write.key.clone());
            keys.push(write.key.clone());
        }
        let version = |write: &CommandWrite| Version { ts, row: write.value.clone() };
        let versions = writes.iter().map(|write| (write.key.clone(), version(write)));
        if writes.len() > 64 && writes.len() > self.pending.len() {
            // The keys come in order: trees are merged in one pass.
            self.pending.append(&mut versions.collect());
        } else {
            self.pending.extend(versions);
        }
        let runs = request.runs;
        self.in_flight.push_back(Flying { ts, keys, runs: runs.clone() });
        Ok(Command { ts, writes, runs })
    }

    fn validate_reads(&self, request: &CommitRequest<'_>) -> Result<(), KvError> {
        let Some(reads) = request.reads.filter(|reads| !reads.is_empty()) else { return Ok(()) };
        if self.recent.may_touch(reads, request.read_ts) {
            return Err(KvError::READ_WRITE_DEPENDENCY);
        }
        Ok(())
    }

    /// The command at the head of the flight has been applied. Called in log order.
    pub fn applied_to(&mut self, ts: Timestamp) {
        assert!(ts > self.applied, "commits are applied in ascending order, once");
        while let Some(flying) = self.in_flight.front() {
            if flying.ts > ts {
                break;
            }
            let Flying { ts: at, keys, .. } = self.in_flight.pop_front().expect("front was there");
            // Of a commit that is most of what is pending, one pass is cheaper than a search for each key.
            if keys.len() > 64 && keys.len() * 2 > self.pending.len() {
                self.pending.retain(|_, version| version.ts != at);
                continue;
            }
            for key in keys {
                if self.pending.get(&key).is_some_and(|version| version.ts == at) {
                    self.pending.remove(&key);
                }
            }
        }
        self.applied = ts;
        self.last = self.last.max(ts);
    }

    /// The command never got into the log: it is as if it had not been asked for. Whoever was
    /// sequenced after it must not have built on its keys, which its locks see to.
    pub fn abandon(&mut self, ts: Timestamp) {
        let Some(at) = self.in_flight.iter().position(|flying| flying.ts == ts) else {
            return;
        };
        let Flying { keys, .. } =
            self.in_flight.remove(at).expect("position was found in this queue");
        for key in keys {
            if self.pending.get(&key).is_some_and(|version| version.ts == ts) {
                self.pending.remove(&key);
            }
        }
    }

    /// Versions superseded at or before this may be collected. Never goes back.
    pub fn gc(&self) -> Timestamp {
        self.gc
    }

    /// Raises the garbage collection's bound to what neither `keep_from` (now − retention) nor the
    /// oldest snapshot in use still needs, and answers it.
    pub fn advance_gc(&mut self, keep_from: Timestamp, oldest: Option<Timestamp>) -> Timestamp {
        let bound = oldest.unwrap_or(Timestamp::MAX).min(keep_from).min(self.applied);
        self.gc = self.gc.max(bound);
        self.gc
    }

    /// Verifies the invariants in this module's text.
    pub fn check(&self) -> Result<(), String> {
        if !(self.gc <= self.applied && self.applied <= self.last) {
            return Err(format!("gc {} ≤ applied {} ≤ last {}", self.gc, self.applied, self.last));
        }
        let mut before = self.applied;
        for Flying { ts, keys, .. } in &self.in_flight {
            if *ts <= before || *ts > self.last {
                return Err(format!("in flight {ts} after {before}, last {}", self.last));
            }
            before = *ts;
            if let Some(key) =
                keys.iter().find(|key| self.pending.get(*key).is_none_or(|v| v.ts < *ts))
            {
                return Err(format!("{key:?} is in flight at {ts} but not pending"));
            }
        }
        if self.in_flight.is_empty() && !self.pending.is_empty() {
            return Err("pending versions without a flight".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
