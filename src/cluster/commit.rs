//! The way of a commit: sequenced, queued, proposed in batches, applied, acknowledged.
//!
//! One mutex guards the sequencer and the queue, so queue order is timestamp order. One task takes
//! what the queue holds, makes one log entry of it and waits for it; what arrives meanwhile becomes
//! the next entry. So the number of syncs adapts to the load without a timer: one commit alone waits
//! for nobody, and a hundred share a sync.
//!
//! The pipeline accepts commits only while this node leads the range. When it stops leading, what has
//! not been proposed is certainly not committed ([`CommitError::Moved`]); of what has been, only the
//! next leaseholder can tell ([`CommitError::Unknown`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_base::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use meridian_kv::api::TxnId;
use meridian_kv::api::{Key, KvError, Span, Timestamp};
use meridian_kv::locks::Owner;
use meridian_kv::range::{
    Blockers, CommitRequest, Header, LogEntry, Newest, Outcome as Decided, OutcomeAnswer, Outcomes,
    Refused, Sequencer, Stored, Target, Version,
};
use meridian_kv::run::Run;
use meridian_kv::txn::LockedKey;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::core::Core;
use crate::load::Load;
use crate::parts::{Ends, Parts};
use crate::range::Range;

/// The row locks of a commit.
#[derive(Clone, Default)]
pub(crate) struct Locks {
    pub(crate) rows: BTreeMap<Key, LockedKey>,
    pub(crate) runs: Vec<Arc<Run>>,
}

impl Locks {
    pub(crate) fn release(&self, core: &Core, owner: Owner) {
        // A run goes first: what it has shown in the table may lie above a lock of its own.
        for run in &self.runs {
            core.locks.release_run(owner, run);
        }
        for key in self.rows.keys() {
            core.locks.release_row(key, owner, 0);
        }
    }
}

/// Why a commit was not made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommitError {
    /// It was refused, for good.
    Refused(KvError),
    /// This node doesn't lead the range: it is certainly not committed, and may be tried elsewhere.
    Moved,
    /// It was proposed, and this node can't tell what came of it.
    Unknown(String),
}

impl From<Refused> for CommitError {
    fn from(refused: Refused) -> CommitError {
        match refused {
            Refused::Error(error) => CommitError::Refused(error),
            Refused::Wait(_)
            | Refused::Decided(Decided::Aborted)
            | Refused::Expired
            | Refused::Busy
            | Refused::NoLease => CommitError::Moved,
            Refused::Decided(Decided::Committed(_))
            | Refused::InFlight(_)
            | Refused::Forgotten(_) => CommitError::Unknown("it was asked for before".into()),
        }
    }
}

impl From<KvError> for CommitError {
    fn from(error: KvError) -> CommitError {
        CommitError::Refused(error)
    }
}

/// How a commit ends.
pub(crate) type Outcome = Result<Timestamp, CommitError>;

/// A commit between its sequencing and its end.
pub(crate) struct Flight {
    ts: Timestamp,
    owner: Owner,
    locks: Locks,
    done: oneshot::Sender<Outcome>,
}

impl Flight {
    /// Gives the locks back, then tells the committing task. A task that has gone away (its client
    /// disconnected) changes nothing about the commit.
    pub(crate) fn finish(self, core: &Core, outcome: Result<(), CommitError>) {
        self.locks.release(core, self.owner);
        let _ = self.done.send(outcome.map(|()| self.ts));
    }
}

/// What the pipeline's mutex guards.
pub(crate) struct Ordered {
    pub(crate) sequencer: Sequencer,
    /// Commits with a name that were applied here, whoever led: what this node tells of them when it leads.
    pub(crate) outcomes: Outcomes,
    pub(crate) queue: VecDeque<LogEntry>,
    flights: VecDeque<Flight>,
    /// Who waits for parts of transactions over several ranges, and what they have locked.
    pub(crate) parts: Parts,
    /// Where the range lies: nothing else is sequenced here.
    pub(crate) bounds: Span,
    /// When this node's lease began.
    begun: Timestamp,
    /// The term in which this node leads; proposals are good in no other.
    pub(crate) term: u64,
    /// Why no commit is accepted now.
    pub(crate) closed: Option<CommitError>,
}

/// Named commits that a node remembers: what a range does in some seconds, so that a gateway that has lost
/// its connection still gets an answer. Twice this is a megabyte more.
const OUTCOMES_MAX: usize = 20_000;

/// Sequencer, queue and the commits in flight.
pub(crate) struct CommitPipeline {
    pub(crate) ordered: Mutex<Ordered>,
    pub(crate) ring_len: usize,
    /// What it is asked.
    pub(crate) load: Load,
    /// Something has been queued.
    pub(crate) work: Notify,
    drained: Notify,
    /// Something has been applied, or won't be: for who waits to read.
    pub(crate) moved: Notify,
    /// How often something has been applied.
    landings: AtomicU64,
}

/// The newest versions of the written keys, looked up before the sequencer is locked. They are good as long as
/// nothing has been applied since; what is on its way the sequencer knows.
pub(crate) struct Prefetched<'a>(pub(crate) &'a [(Key, Option<Version>)]);

impl Newest for Prefetched<'_> {
    fn newest(&self, key: &[u8]) -> Result<Option<Version>, KvError> {
        let at = self.0.binary_search_by(|(known, _)| known[..].cmp(key));
        Ok(at.ok().and_then(|at| self.0[at].1.clone()))
    }
}

/// A commit as the transaction hands it over.
pub(crate) struct Submission<'a> {
    pub(crate) request: CommitRequest<'a>,
    pub(crate) owner: Owner,
}

/// A commit that was not sequenced.
pub(crate) struct NotTaken<'a> {
    /// Why.
    pub(crate) error: CommitError,
    /// The commit, if it lies elsewhere.
    pub(crate) submission: Option<Box<Submission<'a>>>,
}

impl<E: Into<CommitError>> From<E> for NotTaken<'_> {
    fn from(error: E) -> Self {
        NotTaken { error: error.into(), submission: None }
    }
}

impl CommitPipeline {
    /// A pipeline that takes no commits before [`CommitPipeline::lead`].
    pub(crate) fn new(applied: Timestamp, ring_len: usize, bounds: Span) -> CommitPipeline {
        let sequencer = Sequencer::new(applied, ring_len);
        let (queue, flights) = (VecDeque::new(), VecDeque::new());
        let closed = Some(CommitError::Moved);
        let outcomes = Outcomes::new(applied, OUTCOMES_MAX);
        let ordered = Ordered {
            sequencer,
            outcomes,
            queue,
            flights,
            parts: Parts::default(),
            bounds,
            begun: applied,
            term: 0,
            closed,
        };
        CommitPipeline {
            ordered: Mutex::new(ordered),
            ring_len,
            load: Load::default(),
            work: Notify::new(),
            drained: Notify::new(),
            moved: Notify::new(),
            landings: AtomicU64::new(0),
        }
    }

    /// This node leads from `start` on, up to `until`, and has applied all that earlier leaders have
    /// committed; `stored` is what the range holds of transactions. Those leaders may have read up to
    /// `start`. Does nothing while this node leads already.
    pub(crate) fn lead(
        &self,
        core: &Core,
        term: u64,
        start: Timestamp,
        until: Timestamp,
        stored: Vec<Stored>,
    ) {
        if self.ordered.lock().closed != Some(CommitError::Moved) {
            return;
        }
        let parts = Parts::lock_records(core, &stored);
        let mut ordered = self.ordered.lock();
        let (applied, gc) = (ordered.sequencer.applied(), ordered.sequencer.gc());
        let outcomes = ordered.outcomes.clone();
        let mut sequencer = Sequencer::load(applied, self.ring_len, start, outcomes, stored);
        sequencer.advance_gc(gc, None);
        sequencer.lease(until);
        (ordered.sequencer, ordered.term, ordered.closed) = (sequencer, term, None);
        (ordered.begun, ordered.parts) = (start, parts);
    }

    /// The range lies here from now on. Nothing may be in flight that lies elsewhere.
    pub(crate) fn set_bounds(&self, bounds: Span) {
        self.ordered.lock().bounds = bounds;
    }

    /// Nothing will be sequenced at or below `now` any more, if this node leads the range; a range without
    /// work has then been applied up to there.
    pub(crate) fn close(&self, range: &Range, now: Timestamp) {
        let mut ordered = self.ordered.lock();
        if ordered.closed.is_none() && ordered.sequencer.read_at(now).is_ok() {
            let closed = ordered.sequencer.closed();
            if ordered.flights.is_empty() && closed > range.applied() {
                ordered.sequencer.applied_to(closed);
                range.set_applied(closed);
            }
        }
    }

    /// How far the range is closed, if nothing is sequenced up to `now` any more; `None` when this node can't
    /// promise that.
    pub(crate) fn promise(&self, now: Timestamp) -> Option<Timestamp> {
        let mut ordered = self.ordered.lock();
        match ordered.closed {
            None => ordered.sequencer.close(now),
            Some(_) => None,
        }
    }

    /// What a reader at `r` has to wait for here. See [`Range::await_readable`].
    pub(crate) fn blockers(
        &self,
        target: Target<'_>,
        r: Timestamp,
        whole: bool,
    ) -> Result<Blockers, CommitError> {
        self.load.note_read(target);
        let mut ordered = self.ordered.lock();
        // A pipeline that takes no commits any more may still be read.
        if ordered.closed == Some(CommitError::Moved) {
            return Err(CommitError::Moved);
        }
        let inside = match target {
            Target::Key(key) => ordered.bounds.contains(key),
            Target::Span(span) => ordered.bounds.covers(span),
        };
        if !inside {
            return Err(CommitError::Moved);
        }
        if r < ordered.sequencer.gc() {
            return Err(KvError::SnapshotTooOld.into());
        }
        if !whole && r < ordered.begun {
            return Err(KvError::StatementRetry.into());
        }
        ordered.sequencer.read_at(r)?;
        Ok(ordered.sequencer.blockers(target, r))
    }

    /// A snapshot has taken the place of what was applied here. What it holds was committed by others.
    pub(crate) fn installed(&self, applied: Timestamp) {
        let mut ordered = self.ordered.lock();
        ordered.sequencer = Sequencer::new(applied, self.ring_len);
        ordered.outcomes = Outcomes::new(applied, OUTCOMES_MAX);
    }

    /// Does nothing wait here, and is nothing in flight?
    pub(crate) fn is_idle(&self) -> bool {
        let ordered = self.ordered.lock();
        let closed = ordered.closed == Some(CommitError::Moved);
        closed && ordered.flights.is_empty() && ordered.queue.is_empty()
    }

    /// Does this node lead in this term?
    pub(crate) fn leads(&self, term: u64) -> bool {
        let ordered = self.ordered.lock();
        ordered.term == term && ordered.closed.is_none()
    }

    /// The lease lasts longer.
    pub(crate) fn extend(&self, term: u64, until: Timestamp) {
        let mut ordered = self.ordered.lock();
        if ordered.term == term {
            ordered.sequencer.lease(until);
        }
    }

    /// How often something has been applied so far.
    pub(crate) fn landings(&self) -> u64 {
        self.landings.load(Ordering::Acquire)
    }

    /// This node no longer leads in `term`.
    pub(crate) fn leave(&self, core: &Core, term: u64) {
        let commit = |entry: &LogEntry| match entry {
            LogEntry::Commit(command) => Some(command.ts),
            _ => None,
        };
        let (flights, ends) = {
            let mut ordered = self.ordered.lock();
            if ordered.term != term || ordered.closed.is_some() {
                return;
            }
            ordered.closed = Some(CommitError::Moved);
            let first = ordered.queue.iter().find_map(commit);
            ordered.queue.clear();
            // What has been proposed is the batcher's to finish.
            let keep = match first {
                None => ordered.flights.len(),
                Some(ts) => ordered.flights.partition_point(|flight| flight.ts < ts),
            };
            (ordered.flights.split_off(keep), ordered.parts.give_up(&CommitError::Moved))
        };
        for flight in flights {
            flight.finish(core, Err(CommitError::Moved));
        }
        ends.finish(core);
        self.moved.notify_waiters();
    }

    /// Sequences and queues a commit. On success the row locks belong to the commit; on failure they
    /// stay with the transaction. What doesn't lie in this range, or not for long, is given back.
    pub(crate) fn submit<'a>(
        &self,
        core: &Core,
        submission: Submission<'a>,
        take_locks: impl FnOnce() -> Locks,
    ) -> Result<oneshot::Receiver<Outcome>, NotTaken<'a>> {
        let landings = self.landings();
        let writes = submission.request.writes.iter();
        let olds = writes
            .map(|write| Ok((write.key.clone(), core.read.newest(&write.key)?)))
            .collect::<Result<Vec<_>, KvError>>()?;
        let now = core.hlc.now();
        let (done, outcome) = oneshot::channel();
        {
            let mut ordered = self.ordered.lock();
            if let Some(reason) = &ordered.closed {
                return Err(reason.clone().into());
            }
            if ordered.sequencer.is_frozen() || !submission.request.is_within(&ordered.bounds) {
                let submission = Some(Box::new(submission));
                return Err(NotTaken { error: CommitError::Moved, submission });
            }
            let Submission { request, owner } = submission;
            if let Some(write) = request.writes.first().filter(|_| !core.alone) {
                self.load.note(&write.key);
            }
            let sequenced = match self.landings() == landings {
                true => ordered.sequencer.sequence(now, request, &Prefetched(&olds)),
                false => ordered.sequencer.sequence(now, request, &core.read),
            };
            let command = match sequenced {
                Ok(command) => command,
                Err(Refused::Decided(Decided::Committed(ts))) => {
                    // Nobody can have dropped the other end yet.
                    let _ = done.send(Ok(ts));
                    return Ok(outcome);
                }
                Err(refused) => {
                    core.stats.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(CommitError::from(refused).into());
                }
            };
            if command.ts > now {
                core.hlc.raise(command.ts);
            }
            let flight = Flight { ts: command.ts, owner, locks: take_locks(), done };
            ordered.flights.push_back(flight);
            ordered.queue.push_back(LogEntry::Commit(command));
        }
        self.work.notify_one();
        Ok(outcome)
    }

    /// Takes the next entry's commands off the queue, with the term that they are good in.
    pub(crate) fn next_batch(&self) -> (u64, Vec<LogEntry>) {
        let mut ordered = self.ordered.lock();
        let (mut commands, mut bytes) = (Vec::new(), 0);
        while let Some(next) = ordered.queue.front() {
            bytes += next.size();
            if !commands.is_empty()
                && (bytes > ENTRY_BYTES_MAX || commands.len() >= ENTRY_COMMANDS_MAX)
            {
                break;
            }
            commands.push(ordered.queue.pop_front().expect("front was there"));
        }
        (ordered.term, commands)
    }

    /// The apply path has made these commits visible in the engine and the cache: moves the snapshot and
    /// hands back what is to be finished. Not all need be of this node.
    pub(crate) fn applied(&self, range: &Range, entries: &[Landed]) -> (Vec<Flight>, Ends) {
        let mut ordered = self.ordered.lock();
        let ordered = &mut *ordered;
        self.landings.fetch_add(1, Ordering::Release);
        let mut ends = Ends::default();
        let mut landed = Vec::with_capacity(ordered.flights.len().min(entries.len()));
        let mut newest = None;
        for entry in entries {
            let (ts, txn) = match entry {
                Landed::Commit(ts, txn) => (*ts, *txn),
                Landed::Other(entry) => {
                    ordered.sequencer.landed(entry);
                    ordered.part_landed(entry, &mut ends);
                    continue;
                }
            };
            newest = Some(ts);
            if let Some(txn) = txn {
                ordered.outcomes.note(txn, ts);
            }
            // In order, unless an earlier one's fate is still open.
            let Ok(at) = ordered.flights.binary_search_by_key(&ts, |flight| flight.ts) else {
                continue;
            };
            landed.extend(ordered.flights.remove(at));
        }
        if let Some(newest) = newest {
            ordered.sequencer.applied_to(newest);
        }
        let applied = ordered.sequencer.applied();
        if applied > range.applied() {
            range.set_applied(applied);
        }
        self.moved.notify_waiters();
        (landed, ends)
    }

    /// What became of a commit that was asked for at `sent`, if it hasn't happened and never will. `None`:
    /// ask again soon.
    pub(crate) fn outcome(
        &self,
        header: &Header,
        sent: Timestamp,
    ) -> Result<Option<Decided>, CommitError> {
        let mut ordered = self.ordered.lock();
        if let Some(reason) = &ordered.closed {
            return Err(reason.clone());
        }
        match ordered.sequencer.outcome(header, sent) {
            OutcomeAnswer::Ended(outcome) => Ok(Some(outcome)),
            OutcomeAnswer::InFlight(_) => Ok(None),
            OutcomeAnswer::Unknown => Err(CommitError::Unknown("too long ago".into())),
            OutcomeAnswer::Prevent(entry) => {
                ordered.queue.push_back(entry);
                drop(ordered);
                self.work.notify_one();
                Ok(None)
            }
        }
    }

    /// These entries of a term did not get into the log, or nobody here knows.
    pub(crate) fn abandon(
        &self,
        core: &Core,
        term: u64,
        entries: &[LogEntry],
        error: &CommitError,
    ) {
        let (flights, ends) = {
            let mut ordered = self.ordered.lock();
            let (mut flights, mut ends) = (Vec::new(), Ends::default());
            for entry in entries {
                // The machine of a later term has never heard of them.
                if ordered.term == term {
                    ordered.sequencer.lost(entry);
                    ordered.part_lost(entry, error, &mut ends);
                }
                let LogEntry::Commit(command) = entry else { continue };
                let at = ordered.flights.iter().position(|flight| flight.ts == command.ts);
                flights.extend(at.and_then(|at| ordered.flights.remove(at)));
            }
            (flights, ends)
        };
        for flight in flights {
            flight.finish(core, Err(error.clone()));
        }
        ends.finish(core);
        self.moved.notify_waiters();
    }

    /// Accepts no commits any more; those in flight end with `in_flight`.
    pub(crate) fn poison(&self, core: &Core, in_flight: &KvError, from_now_on: KvError) {
        let error = CommitError::from(from_now_on);
        let (flights, ends) = {
            let mut ordered = self.ordered.lock();
            // Who drains has a better reason.
            if ordered.closed != Some(KvError::Stopping.into()) {
                ordered.closed = Some(error);
            }
            ordered.queue.clear();
            let ends = ordered.parts.give_up(&CommitError::Unknown(in_flight.to_string()));
            (std::mem::take(&mut ordered.flights), ends)
        };
        for flight in flights {
            flight.finish(core, Err(in_flight.clone().into()));
        }
        ends.finish(core);
    }

    /// Accepts no commits any more and waits until those in flight have ended.
    pub(crate) async fn drain(&self) {
        loop {
            let drained = self.drained.notified();
            {
                let mut ordered = self.ordered.lock();
                if matches!(ordered.closed, None | Some(CommitError::Moved)) {
                    ordered.closed = Some(KvError::Stopping.into());
                }
                if ordered.flights.is_empty() {
                    break;
                }
            }
            drained.await;
        }
        self.work.notify_one();
    }

    pub(crate) fn advance_gc(&self, keep_from: Timestamp, oldest: Option<Timestamp>) -> Timestamp {
        self.ordered.lock().sequencer.advance_gc(keep_from, oldest)
    }

    pub(crate) fn gc(&self) -> Timestamp {
        self.ordered.lock().sequencer.gc()
    }

    pub(crate) fn finished(&self) -> bool {
        let ordered = self.ordered.lock();
        if ordered.flights.is_empty() {
            self.drained.notify_waiters();
        }
        let ended = matches!(ordered.closed, Some(CommitError::Refused(_)));
        ended && ordered.flights.is_empty() && ordered.queue.is_empty()
    }
}

/// A part of an entry that has been applied.
pub(crate) enum Landed {
    Commit(Timestamp, Option<TxnId>),
    Other(LogEntry),
}
