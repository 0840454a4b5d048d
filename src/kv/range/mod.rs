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
//! Several ranges take part in one commit through *prepared records* ([`prepare`]), are read at one
//! timestamp through the *floor* ([`reading`]), and split when they are quiet ([`split`]). A record
//! without a coordinator is a *hold* ([`holds`]).
//!
//! Invariants (see [`Sequencer::check`]): `gc ≤ applied ≤ last`; timestamps in flight ascend and lie
//! in `(applied, last]`; every key in flight has its newest in-flight value in `pending`; every
//! timestamp given out is above `last`, `floor`, the asking transaction's snapshot, and below the end
//! of the lease; a transaction has a record or a marker, never both.

mod command;
mod descriptor;
mod entry;
pub mod holds;
mod outcomes;
mod pieces;
pub mod prepare;
mod prepared;
pub mod reading;
mod record;
mod ring;
mod snapshots;
pub mod split;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::run::Run;

use crate::api::{Isolation, Key, KvError, RetryReason, Span, Timestamp, TxnId};
use crate::txn::{ReadSet, VersionTag, Write};
pub(crate) use command::put_new_row;
pub use command::{Command, CommandError, CommandWrite};
pub use descriptor::{Descriptor, Split};
pub use entry::{Collect, LogEntry, Resolve};
pub use meridian_storage::mvcc::Version;
pub use outcomes::Outcomes;
pub use pieces::Pieces;
pub use prepare::{OutcomeAnswer, PrepareAnswer, PrepareRequest, QueryAnswer, Status};
use prepared::Prepared;
pub use prepared::Target;
pub use reading::{Blockers, Snapshot};
pub use record::{Gateway, Header, Marker, Outcome, Record, Stored, Verify};
pub use ring::RecentWrites;
pub use snapshots::Snapshots;
pub use split::Busy;

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
    /// Where it comes from, when that is another node or may have to be asked for later.
    pub origin: Option<Origin>,
}

impl CommitRequest<'_> {
    /// Is all of it the business of a range with these bounds, reads included? If not, the range has
    /// split since the commit was planned: it has to be planned anew, and must not be sequenced.
    pub fn is_within(&self, bounds: &Span) -> bool {
        let written = self.writes.iter().map(|write| &write.key[..]);
        let rows = self.runs.iter().flat_map(|run| [run.first(), run.last()]);
        let verified = self.origin.iter().flat_map(|origin| &origin.verify);
        let mut keys = written.chain(rows).chain(verified.map(|verify| &verify.key[..]));
        keys.all(|key| bounds.contains(key))
            && self.reads.is_none_or(|reads| reads.is_within(bounds))
    }
}

/// What makes a one-phase commit happen at most once, whatever becomes of messages and leases.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The transaction.
    pub txn: TxnId,
    /// The gateway's clock when it asked: the commit is later.
    pub sent: Timestamp,
    /// The commit is earlier than this.
    pub deadline: Timestamp,
    /// What it has locked and doesn't write.
    pub verify: Vec<Verify>,
}

/// Why a commit or a part of one isn't sequenced now; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The transaction fails.
    Error(KvError),
    /// Ask again when this record has been resolved and that has been applied.
    Wait(TxnId),
    /// This transaction has ended already.
    Decided(Outcome),
    /// This very commit is in flight: its outcome is that of this timestamp.
    InFlight(Timestamp),
    /// Asked for before this, where what the range remembers begins: an earlier copy may have succeeded.
    Forgotten(Timestamp),
    /// Its deadline has passed.
    Expired,
    /// Ask again soon: the range is about to split or merge (find out where the keys are), or what would
    /// be the answer isn't durable yet.
    Busy,
    /// The lease doesn't reach that far.
    NoLease,
}

impl From<KvError> for Refused {
    fn from(error: KvError) -> Refused {
        Refused::Error(error)
    }
}

impl From<Refused> for KvError {
    /// For who can't do anything better about it than to give up.
    fn from(refused: Refused) -> KvError {
        let reason = match refused {
            Refused::Error(error) => return error,
            Refused::Forgotten(_)
            | Refused::InFlight(_)
            | Refused::Decided(Outcome::Committed(_)) => {
                return KvError::Ambiguous;
            }
            Refused::Wait(_) => "a row belongs to a transaction whose outcome isn't known yet",
            Refused::Decided(Outcome::Aborted) => "the transaction has been aborted",
            Refused::Expired => "the commit took too long",
            Refused::Busy => "the range is being split",
            Refused::NoLease => "the range has no leaseholder",
        };
        KvError::Unavailable { reason: reason.into() }
    }
}

/// A commit between its sequencing and its application.
#[derive(Clone, Debug)]
struct Flying {
    ts: Timestamp,
    /// Whose commit it is, if it has a name.
    txn: Option<TxnId>,
    /// In key order.
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
    floor: Timestamp,
    until: Timestamp,
    frozen: bool,
    prepared: Prepared,
    outcomes: Outcomes,
}

/// How many named commits a range remembers: what it does in some seconds, so that a gateway that has
/// lost its connection still gets an answer. Twice this is a megabyte more.
const OUTCOMES_MAX: usize = 20_000;

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
            floor: Timestamp::MIN,
            until: Timestamp::MAX,
            frozen: false,
            prepared: Prepared::default(),
            outcomes: Outcomes::new(applied, OUTCOMES_MAX),
        }
    }

    /// The machine of a new leaseholder, which has applied all of the log: `stored` is what the range
    /// holds of transactions over several ranges, `outcomes` what its replica has noted, and `start`
    /// the lease's beginning, above every timestamp that an earlier leaseholder gave out or read at.
    pub fn load(
        applied: Timestamp,
        ring_len: usize,
        start: Timestamp,
        outcomes: Outcomes,
        stored: impl IntoIterator<Item = Stored>,
    ) -> Sequencer {
        let mut sequencer =
            Sequencer { floor: start, outcomes, ..Sequencer::new(applied, ring_len) };
        for stored in stored {
            match stored {
                Stored::Record(record) => {
                    sequencer.last = sequencer.last.max(record.ts);
                    sequencer.prepared.insert(record, true);
                }
                Stored::Marker(marker) => sequencer.prepared.keep(&marker, true),
            }
        }
        sequencer
    }

    /// How far the lease reaches: nothing is given out or read at or above it.
    pub fn lease(&mut self, until: Timestamp) {
        self.until = until;
    }

    /// The next timestamp for a transaction that has seen the world up to `above`.
    fn place(
        &self,
        now: Timestamp,
        above: Timestamp,
        deadline: Timestamp,
    ) -> Result<Timestamp, Refused> {
        if self.frozen {
            return Err(Refused::Busy);
        }
        let ts = now.max(self.last.max(self.floor).max(above).next());
        match ts {
            ts if ts >= self.until => Err(Refused::NoLease),
            ts if ts >= deadline => Err(Refused::Expired),
            ts => Ok(ts),
        }
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
    ) -> Result<Command, Refused> {
        let empty = request.writes.is_empty() && request.runs.is_empty();
        assert!(!empty, "a commit without writes has no place in the log");
        let (mut above, mut deadline) = (request.read_ts, Timestamp::MAX);
        if let Some(origin) = &request.origin {
            self.is_new(origin)?;
            (above, deadline) = (above.max(origin.sent), origin.deadline);
        }
        let ts = self.place(now, above, deadline)?;
        self.prepared.holds.admit_commit(&request)?;
        self.await_records(&request)?;
        self.validate_reads(&request)?;
        if self.has_in_flight(&request.runs) {
            return Err(KvError::CONCURRENT_UPDATE.into());
        }
        if let Some(origin) = &request.origin {
            self.verify(&origin.verify, source)?;
        }
        let CommitRequest { isolation, read_ts, writes, runs, origin, .. } = request;
        let writes = self.supersede(isolation, read_ts, writes, source)?;
        self.last = ts;
        let mut keys = Vec::with_capacity(writes.len());
        let rows: usize = runs.iter().map(|run| run.len()).sum();
        self.recent.skip(ts, writes.len() + rows);
        for run in &runs {
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
        let txn = origin.map(|origin| origin.txn);
        self.in_flight.push_back(Flying { ts, txn, keys, runs: runs.clone() });
        Ok(Command { txn, ts, writes, runs })
    }

    /// Fails when this commit has been asked for before.
    fn is_new(&self, origin: &Origin) -> Result<(), Refused> {
        if let Some(ts) = self.outcomes.get(origin.txn) {
            return Err(Refused::Decided(Outcome::Committed(ts)));
        }
        if let Some(flying) = self.in_flight.iter().find(|f| f.txn == Some(origin.txn)) {
            return Err(Refused::InFlight(flying.ts));
        }
        if let Some(kept) = self.prepared.markers.get(&(origin.txn, 0)) {
            return Err(kept.refusal());
        }
        match self.outcomes.floor() {
            floor if origin.sent >= floor => Ok(()),
            floor => Err(Refused::Forgotten(floor)),
        }
    }

    /// A commit in one range is no record itself: it may wait for any.
    fn await_records(&self, request: &CommitRequest<'_>) -> Result<(), Refused> {
        if self.prepared.is_empty() {
            return Ok(());
        }
        let verified = request.origin.iter().flat_map(|origin| &origin.verify);
        let written = || request.writes.iter().map(|write| &write.key[..]);
        let mut keys = written().chain(verified.map(|verify| &verify.key[..]));
        let mut runs = request.runs.iter();
        let rows = request.runs.iter().flat_map(|run| (0..run.len()).map(|at| run.key(at)));
        let found = keys
            .find_map(|key| self.prepared.writer(key))
            .or_else(|| runs.find_map(|run| self.prepared.writer_within(run.first(), run.last())))
            .or_else(|| self.prepared.reader(None, written().chain(rows)))
            .or_else(|| request.reads.and_then(|reads| self.prepared.writes_into(None, reads)));
        found.map_or(Ok(()), |txn| Err(Refused::Wait(txn)))
    }

    /// The writes with the versions that they supersede, if those are the expected ones.
    fn supersede(
        &self,
        isolation: Isolation,
        read_ts: Timestamp,
        writes: Vec<Write>,
        source: &impl Newest,
    ) -> Result<Vec<CommandWrite>, KvError> {
        let mut checked = Vec::with_capacity(writes.len());
        for write in writes {
            let old = self.newest(&write.key, source)?;
            let newest = old.as_ref().map_or(Timestamp::MIN, |version| version.ts);
            let unexpected = match write.expect {
                VersionTag::Blind => false,
                VersionTag::Absent => old.as_ref().is_some_and(|old| old.row.is_some()),
                VersionTag::Newest(expected) => self.changed(old.as_ref(), expected),
            };
            let too_new = isolation != Isolation::ReadCommitted && newest > read_ts;
            if unexpected || too_new {
                return Err(conflict(old.as_ref()));
            }
            checked.push(CommandWrite { key: write.key, value: write.value, old });
        }
        Ok(checked)
    }

    /// Is the newest version another one than was seen?
    fn changed(&self, newest: Option<&Version>, seen: Timestamp) -> bool {
        match newest {
            Some(version) => version.ts != seen,
            // A tombstone that garbage collection has removed meanwhile is still "nothing".
            None => seen != Timestamp::MIN && seen > self.gc,
        }
    }

    /// Locked keys must be as they were when they were locked: the lock may have been lost.
    fn verify(&self, locked: &[Verify], source: &impl Newest) -> Result<(), KvError> {
        for Verify { key, seen, .. } in locked.iter().filter(|lock| lock.seen != Verify::HELD) {
            let newest = self.newest(key, source)?;
            if self.changed(newest.as_ref(), *seen) {
                return Err(conflict(newest.as_ref()));
            }
        }
        Ok(())
    }

    fn fly(&mut self, ts: Timestamp) {
        self.in_flight.push_back(Flying { ts, txn: None, keys: Vec::new(), runs: Vec::new() });
    }

    fn validate_reads(&self, request: &CommitRequest<'_>) -> Result<(), KvError> {
        let Some(reads) = request.reads.filter(|reads| !reads.is_empty()) else { return Ok(()) };
        if self.recent.may_touch(reads, request.read_ts) {
            return Err(KvError::READ_WRITE_DEPENDENCY);
        }
        Ok(())
    }

    /// Everything up to here has been applied. Says nothing new when a resolution behind it in the log,
    /// whose timestamp may be later, was told of first.
    pub fn applied_to(&mut self, ts: Timestamp) {
        if ts <= self.applied {
            return;
        }
        while let Some(flying) = self.in_flight.front() {
            if flying.ts > ts {
                break;
            }
            let Flying { ts: at, txn, keys, .. } =
                self.in_flight.pop_front().expect("front was there");
            if let Some(txn) = txn {
                self.outcomes.note(txn, at);
            }
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
        self.prepared.check(self.last)
    }
}

fn conflict(newest: Option<&Version>) -> KvError {
    let deleted = newest.is_some_and(|version| version.row.is_none());
    let reason = match deleted {
        true => RetryReason::ConcurrentDelete,
        false => RetryReason::ConcurrentUpdate,
    };
    KvError::Retry { reason }
}

#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod prepare_tests;
#[cfg(test)]
mod tests;
