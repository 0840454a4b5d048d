//! A leaseholder's side of commits over several ranges, and what readers wait for because of them.
//!
//! ```text
//! prepare, query, resolve ─▶ machine ─▶ queue ─▶ log ─▶ landed ─▶ locks go, who waits is told
//!                              │ known already
//!                              └────────────────────────────────▶ answer
//! ```
//! The machine ([`meridian_kv::range::prepare`]) says what each message comes to; here an answer is kept
//! back until its entry has been applied. A record has the locks of its transaction: they leave it with the
//! prepare, go when its end has landed, and a new leaseholder takes them before it serves anybody.
//!
//! **Readers** ask the machine what stands in their way ([`meridian_kv::range::reading`]), and look again
//! when something has moved. If that is a record whose coordinator is gone, they have it ended.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use meridian_kv::api::{Key, KvError, Span, Timestamp, TxnId, WaitPolicy};
use meridian_kv::commit::{Answer, Message};
use meridian_kv::locks::{LockMode, Owner};
use meridian_kv::range::{
    Header, LogEntry, Outcome as Decided, PrepareAnswer, PrepareRequest, QueryAnswer, Record,
    Refused, Snapshot, Stored, Target, Verify,
};
use meridian_kv::txn::LockedKey;
use tokio::sync::oneshot;

use crate::commit::{CommitError, CommitPipeline, Locks, Ordered, Prefetched};
use crate::core::Core;
use crate::locking::Acquired;
use crate::range::Range;
use crate::relock::Regained;
use crate::twophase;

/// What a message to a part comes to.
#[derive(Debug)]
pub(crate) enum Reply {
    /// This.
    Answer(Answer),
    /// The part lies in several ranges now, or somebody else has got a lock that it had lost: it has to be
    /// planned anew.
    Split,
    /// Nothing can be said here and now: ask again, perhaps somebody else.
    Later,
    /// The range takes no more writes here.
    Closed,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply::Answer(answer)
    }
}

type Replied = Result<Reply, CommitError>;

/// A part of a transaction: ranges that have merged may hold several.
type Part = (TxnId, usize);

/// An entry has landed, or won't, or nobody here knows.
type Told = Result<(), CommitError>;

/// The row locks of who prepares, as the leaseholder knows them.
pub(crate) trait Holder: Sync {
    /// Who holds them.
    fn owner(&self) -> Owner;
    /// Is this key certainly locked?
    fn holds(&self, key: &[u8]) -> bool;
    /// Gives the locks away that lie here.
    fn take(&self, bounds: &Span) -> Locks;
}

/// What a pipeline keeps of transactions over several ranges beside the machine.
#[derive(Default)]
pub(crate) struct Parts {
    waiting: BTreeMap<Part, Vec<oneshot::Sender<Told>>>,
    locks: BTreeMap<TxnId, Vec<(Owner, Locks)>>,
}

impl Parts {
    /// Takes the row locks of records, as a new leaseholder: what is asked for is what they had.
    pub(crate) fn lock_records(core: &Core, stored: &[Stored]) -> Parts {
        let mut parts = Parts::default();
        for stored in stored {
            let Stored::Record(record) = stored else { continue };
            let txn = record.header.txn;
            let owner = owner_of(txn);
            let mut locks = Locks::default();
            for (key, strength) in record.locks() {
                if record.header.is_hold() {
                    // Under it versions don't change: nobody else's lock may be left.
                    core.locks.seize_row(key, owner, strength);
                    let locked = LockedKey { modes: strength.bit(), newest: Timestamp::MIN };
                    locks.rows.insert(key.clone(), locked);
                    continue;
                }
                // A lock that is worth nothing any more may stand in the way; the version of the row
                // will tell its owner so.
                let taken = core.locks.try_row(key, owner, strength, WaitPolicy::NoWait);
                if matches!(taken, Ok(Acquired::Granted { .. })) {
                    let locked = LockedKey { modes: strength.bit(), newest: Timestamp::MIN };
                    locks.rows.insert(key.clone(), locked);
                }
            }
            parts.locks.entry(txn).or_default().push((owner, locks));
        }
        parts
    }

    fn wait(&mut self, part: Part) -> oneshot::Receiver<Told> {
        let (teller, told) = oneshot::channel();
        let waiting = self.waiting.entry(part).or_default();
        waiting.retain(|teller| !teller.is_closed());
        waiting.push(teller);
        told
    }

    fn tell(&mut self, part: Part, told: &Told, ends: &mut Ends) {
        let waiting = self.waiting.remove(&part).unwrap_or_default();
        ends.told.extend(waiting.into_iter().map(|teller| (teller, told.clone())));
    }

    fn release(&mut self, txn: TxnId, ends: &mut Ends) {
        ends.locks.extend(self.locks.remove(&txn).unwrap_or_default());
    }

    /// This node doesn't lead any more.
    pub(crate) fn give_up(&mut self, error: &CommitError) -> Ends {
        let Parts { waiting, locks } = std::mem::take(self);
        let told = waiting.into_values().flatten().map(|teller| (teller, Err(error.clone())));
        Ends { locks: locks.into_values().flatten().collect(), told: told.collect() }
    }
}

/// What is to be done when the pipeline's mutex is free again: locks go, then tasks are told.
#[derive(Default)]
#[must_use]
pub(crate) struct Ends {
    locks: Vec<(Owner, Locks)>,
    told: Vec<(oneshot::Sender<Told>, Told)>,
}

impl Ends {
    pub(crate) fn finish(self, core: &Core) {
        for (owner, locks) in self.locks {
            locks.release(core, owner);
        }
        for (teller, told) in self.told {
            // Who asked may have given up.
            let _ = teller.send(told);
        }
    }
}

impl Ordered {
    /// An entry of a part has landed.
    pub(crate) fn part_landed(&mut self, entry: &LogEntry, ends: &mut Ends) {
        let Some(part) = entry.part() else { return };
        if !self.sequencer.is_open(part.0) {
            self.parts.release(part.0, ends);
        }
        self.parts.tell(part, &Ok(()), ends);
    }

    /// An entry of a part is certainly not in the log, or that can't be told.
    pub(crate) fn part_lost(&mut self, entry: &LogEntry, error: &CommitError, ends: &mut Ends) {
        let Some(part) = entry.part() else { return };
        if !self.sequencer.is_open(part.0) {
            self.parts.release(part.0, ends);
        }
        self.parts.tell(part, &Err(error.clone()), ends);
    }

    fn is_open(&self) -> Result<(), CommitError> {
        self.closed.as_ref().map_or(Ok(()), |reason| Err(reason.clone()))
    }

    /// Fails unless this node leads and the part is this range's.
    fn admits(&self, header: &Header, own: usize) -> Result<(), CommitError> {
        self.is_open()?;
        let key = header.participants.get(own).ok_or(CommitError::Moved)?;
        self.bounds.contains(key).then_some(()).ok_or(CommitError::Moved)
    }
}

/// What came of waiting for an entry.
/// Who has the locks of what is prepared under this number, when that is no session.
pub(crate) fn owner_of(txn: TxnId) -> Owner {
    Owner::transaction(txn.0, 0)
}

async fn landed(wait: oneshot::Receiver<Told>) -> Told {
    wait.await.unwrap_or_else(|_| Err(CommitError::Unknown("cut off".into())))
}

/// What a prepare is told whose entry is on its way.
async fn prepared(wait: oneshot::Receiver<Told>, ts: Timestamp) -> Replied {
    match landed(wait).await {
        Ok(()) => Ok(Answer::Prepared(ts).into()),
        Err(CommitError::Refused(error)) => Ok(Answer::Refused(Refused::Error(error)).into()),
        Err(CommitError::Moved | CommitError::Unknown(_)) => Ok(Reply::Later),
    }
}

impl CommitPipeline {
    /// Answers a message to a part of a transaction, which lies in this range.
    pub(crate) async fn part(
        &self,
        core: &Core,
        header: &Header,
        own: usize,
        message: Message,
        holder: Option<&dyn Holder>,
    ) -> Replied {
        match message {
            Message::Prepare(request) => {
                self.prepare(core, Arc::unwrap_or_clone(request), holder).await
            }
            Message::Query => self.query(core, header, own).await,
            Message::Resolve(outcome) => self.resolve(core, header, own, outcome).await,
            Message::Settle => {
                self.settle(header.txn);
                Ok(Answer::Resolved.into())
            }
        }
    }

    /// Prepares a part; answers when that is durable.
    async fn prepare(
        &self,
        core: &Core,
        mut request: PrepareRequest,
        holder: Option<&dyn Holder>,
    ) -> Replied {
        if request.header.is_hold() {
            return self.hold(core, request, holder).await;
        }
        let holds = |key: &Key| holder.is_some_and(|holder| holder.holds(key));
        for locked in &mut request.verify {
            if holds(&locked.key) {
                locked.seen = Verify::HELD;
            }
        }
        let held = |verify: &Verify| verify.seen == Verify::HELD;
        let locked =
            request.writes.iter().all(|write| holds(&write.key)) && request.verify.iter().all(held);
        // What isn't locked may change until the machine looks at it, and must not from then on.
        let landings = self.landings();
        let (olds, regained) = match locked {
            true => {
                let keys = request.writes.iter().map(|write| &write.key);
                (self.newest_of(core, keys)?, None)
            }
            false => match self.lock_again(core, &request, holder) {
                Some(regained) => (Vec::new(), Some(regained)),
                None => return Ok(Reply::Split),
            },
        };
        if let Some(key) = request.header.participants.get(request.own) {
            self.load.note(key);
        }
        let part = (request.header.txn, request.own);
        let now = core.hlc.now();
        let (wait, ts) = {
            let mut ordered = self.ordered.lock();
            let ordered = &mut *ordered;
            ordered.admits(&request.header, request.own)?;
            if !request.is_within(&ordered.bounds) {
                return Ok(Reply::Split);
            }
            let answer = match locked && self.landings() == landings {
                true => ordered.sequencer.prepare(now, request, &Prefetched(&olds)),
                false => ordered.sequencer.prepare(now, request, &core.read),
            };
            core.hlc.raise(ordered.sequencer.last());
            match answer {
                Err(refused) => return Ok(Answer::Refused(refused).into()),
                Ok(PrepareAnswer::Durable(ts)) => return Ok(Answer::Prepared(ts).into()),
                Ok(PrepareAnswer::InFlight(ts)) => (ordered.parts.wait(part), ts),
                Ok(PrepareAnswer::Propose(entry)) => {
                    let ts = entry.ts().expect("a record has a timestamp");
                    ordered.queue.push_back(entry);
                    let locks = ordered.parts.locks.entry(part.0).or_default();
                    locks.extend(regained.map(Regained::keep));
                    locks.extend(
                        holder.map(|holder| (holder.owner(), holder.take(&ordered.bounds))),
                    );
                    (ordered.parts.wait(part), ts)
                }
            }
        };
        self.work.notify_one();
        prepared(wait, ts).await
    }

    /// Makes a hold: its locks are its own from here on. Answers when it is durable.
    async fn hold(
        &self,
        core: &Core,
        mut request: PrepareRequest,
        holder: Option<&dyn Holder>,
    ) -> Replied {
        {
            let ordered = self.ordered.lock();
            ordered.admits(&request.header, request.own)?;
            if !request.is_within(&ordered.bounds) {
                return Ok(Reply::Split);
            }
        }
        let part = (request.header.txn, request.own);
        let owner = owner_of(part.0);
        let locks = match twophase::take_over(core, &mut request, holder) {
            Ok(locks) => locks,
            Err(error) => return Ok(Answer::Refused(Refused::Error(error)).into()),
        };
        let now = core.hlc.now();
        let asked = {
            let mut ordered = self.ordered.lock();
            let ordered = &mut *ordered;
            let is_here = ordered.admits(&request.header, request.own);
            let answer = match is_here {
                Err(moved) => Err(Err(moved)),
                Ok(()) if !request.is_within(&ordered.bounds) => Err(Ok(Reply::Split)),
                Ok(()) => ordered
                    .sequencer
                    .prepare(now, request, &core.read)
                    .map_err(|refused| Ok(Answer::Refused(refused).into())),
            };
            core.hlc.raise(ordered.sequencer.last());
            answer.map(|answer| match answer {
                PrepareAnswer::Durable(ts) => (None, ts),
                PrepareAnswer::InFlight(ts) => (Some(ordered.parts.wait(part)), ts),
                PrepareAnswer::Propose(entry) => {
                    let ts = entry.ts().expect("a record has a timestamp");
                    ordered.queue.push_back(entry);
                    ordered.parts.locks.entry(part.0).or_default().push((owner, locks.clone()));
                    (Some(ordered.parts.wait(part)), ts)
                }
            })
        };
        let (wait, ts) = match asked {
            Ok(asked) => asked,
            Err(refused) => {
                locks.release(core, owner);
                return refused;
            }
        };
        self.work.notify_one();
        match wait {
            None => Ok(Answer::Prepared(ts).into()),
            Some(wait) => prepared(wait, ts).await,
        }
    }

    /// What is known of a part; from now on it is not prepared any more if it isn't.
    async fn query(&self, core: &Core, header: &Header, own: usize) -> Replied {
        loop {
            let wait = {
                let mut ordered = self.ordered.lock();
                ordered.admits(header, own)?;
                match ordered.sequencer.query(header, own) {
                    QueryAnswer::Known(status) => return Ok(Answer::Status(status).into()),
                    // Nothing is on its way; the range is about to split.
                    QueryAnswer::InFlight if ordered.sequencer.is_frozen() => {
                        return Ok(Reply::Later);
                    }
                    QueryAnswer::InFlight => {}
                    QueryAnswer::Prevent(entry) => ordered.queue.push_back(entry),
                }
                core.hlc.raise(ordered.sequencer.last());
                ordered.parts.wait((header.txn, own))
            };
            self.work.notify_one();
            if landed(wait).await.is_err() {
                return Ok(Reply::Later);
            }
        }
    }

    /// Ends a part as has been decided; answers when that has been applied.
    async fn resolve(&self, core: &Core, header: &Header, own: usize, outcome: Decided) -> Replied {
        if let Decided::Committed(ts) = outcome {
            core.hlc.raise(ts);
        }
        let part = (header.txn, own);
        let record = |ordered: &Ordered| {
            let keys = |record: &Record| record.writes.iter().map(|(key, _)| key.clone()).collect();
            ordered.sequencer.record(part).map(keys)
        };
        let keys: Option<Vec<Key>> = {
            let ordered = self.ordered.lock();
            ordered.admits(header, own)?;
            record(&ordered)
        };
        // While there is a record, nobody else writes its keys.
        let olds = keys.map(|keys| self.newest_of(core, keys.iter())).transpose()?;
        let wait = {
            let mut ordered = self.ordered.lock();
            let ordered = &mut *ordered;
            ordered.admits(header, own)?;
            let entry = match &olds {
                Some(olds) => ordered.sequencer.resolve(header, own, outcome, &Prefetched(olds)),
                None => ordered.sequencer.resolve(header, own, outcome, &core.read),
            };
            core.hlc.raise(ordered.sequencer.last());
            match entry? {
                Some(entry) => ordered.queue.push_back(entry),
                None if ordered.sequencer.is_in_use(part) => return Ok(Reply::Later),
                None if ordered.sequencer.is_part_open(part) => {}
                None => return Ok(Answer::Resolved.into()),
            }
            ordered.parts.wait(part)
        };
        self.work.notify_one();
        match landed(wait).await {
            Ok(()) => Ok(Answer::Resolved.into()),
            Err(_) => Ok(Reply::Later),
        }
    }

    fn settle(&self, txn: TxnId) {
        self.ordered.lock().sequencer.settle(txn);
    }

    /// Queues the collection of markers that nobody needs any more.
    pub(crate) fn collect(&self, core: &Core) {
        let now = core.hlc.now();
        let mut ordered = self.ordered.lock();
        if ordered.closed.is_some() {
            return;
        }
        if let Some(entry) = ordered.sequencer.collect(now, COLLECT_MAX) {
            core.hlc.raise(ordered.sequencer.last());
            ordered.queue.push_back(entry);
            self.work.notify_one();
        }
    }

    /// What has waited for an outcome since before this, or for being settled.
    pub(crate) fn overdue(&self, since: Timestamp) -> Vec<(Header, Option<Decided>)> {
        let ordered = self.ordered.lock();
        if ordered.closed.is_some() {
            return Vec::new();
        }
        let overdue = ordered.sequencer.overdue(since);
        overdue.map(|(header, _, outcome)| (header, outcome)).collect()
    }

    /// The holds here.
    pub(crate) fn holds(&self) -> Vec<Header> {
        let ordered = self.ordered.lock();
        match ordered.closed {
            None => ordered.sequencer.holds().cloned().collect(),
            Some(_) => Vec::new(),
        }
    }

    /// Is there a hold here? Then the range doesn't split.
    pub(crate) fn has_holds(&self) -> bool {
        self.ordered.lock().sequencer.has_holds()
    }

    /// The transactions that have records here, of all or of these.
    pub(crate) fn records(&self, of: Option<&[TxnId]>) -> Vec<Header> {
        let ordered = self.ordered.lock();
        let records = ordered.sequencer.records().map(|record| &record.header);
        let wanted = |header: &&Header| of.is_none_or(|txns| txns.contains(&header.txn));
        records.filter(wanted).cloned().collect()
    }

    fn snapshot(&self, key: &[u8]) -> Result<Snapshot, CommitError> {
        let ordered = self.ordered.lock();
        // A pipeline that takes no commits any more may still be read.
        if ordered.closed == Some(CommitError::Moved) {
            return Err(CommitError::Moved);
        }
        Ok(ordered.sequencer.snapshot(Some(&Span::point(key))))
    }

    /// The newest versions of keys in ascending order, for [`Prefetched`].
    fn newest_of<'a>(
        &self,
        core: &Core,
        keys: impl Iterator<Item = &'a Key>,
    ) -> Result<Vec<(Key, Option<meridian_kv::range::Version>)>, KvError> {
        use meridian_kv::range::Newest;
        keys.map(|key| Ok((key.clone(), core.read.newest(key)?))).collect()
    }
}

/// Markers that one entry collects, every few seconds: a few hundred kilobytes of keys. Half of it, and a
/// range that commits with others a thousand times a second has more and more of them.
const COLLECT_MAX: usize = 10_000;

/// How often who waits for a record looks whether its coordinator is still there.
const LOOK_AFTER: Duration = Duration::from_millis(100);

impl Range {
    /// Waits until `target` can be read at `r` in this node's replica, which leads: nothing will happen there
    /// at or below `r` any more, and what did has been applied. [`CommitError::Moved`]: ask the leaseholder.
    /// `whole`: the clocks of all nodes were asked for `r`; otherwise a lease that began after it may have
    /// been preceded by one under which more was committed.
    pub(crate) async fn await_readable(
        &self,
        core: &Arc<Core>,
        target: Target<'_>,
        r: Timestamp,
        whole: bool,
    ) -> Result<(), CommitError> {
        if self.pipeline.blockers(target, r, whole)?.is_empty() {
            return Ok(());
        }
        loop {
            let mut moved = pin!(self.pipeline.moved.notified());
            moved.as_mut().enable();
            let blockers = self.pipeline.blockers(target, r, whole)?;
            if blockers.is_empty() {
                return Ok(());
            }
            self.look_after(core, &blockers.records);
            let _ = tokio::time::timeout(LOOK_AFTER, moved).await;
        }
    }

    /// The newest snapshot of this range alone, for who reads this key only; it has to pass
    /// [`Range::await_readable`] like any other. Every commit that was acknowledged before is at or below it.
    pub(crate) async fn await_snapshot(
        &self,
        core: &Arc<Core>,
        key: &[u8],
    ) -> Result<Timestamp, CommitError> {
        self.pipeline.load.note(key);
        let mut records = match self.pipeline.snapshot(key)? {
            Snapshot::At(applied) => return Ok(applied),
            Snapshot::Await(records) => records,
        };
        loop {
            let mut moved = pin!(self.pipeline.moved.notified());
            moved.as_mut().enable();
            {
                let ordered = self.pipeline.ordered.lock();
                ordered.is_open()?;
                records.retain(|txn| ordered.sequencer.is_open(*txn));
                if records.is_empty() {
                    return Ok(ordered.sequencer.applied());
                }
            }
            self.look_after(core, &records);
            let _ = tokio::time::timeout(LOOK_AFTER, moved).await;
        }
    }

    /// Ends what stands in somebody's way and has nobody any more that would.
    fn look_after(&self, core: &Arc<Core>, records: &[TxnId]) {
        if !records.is_empty() {
            for header in self.pipeline.records(Some(records)) {
                core.coordinators.recover_if_dead(core, header);
            }
        }
    }
}

impl Locks {
    /// The locks that lie within these bounds; the others stay.
    pub(crate) fn take_within(&mut self, bounds: &Span) -> Locks {
        let (rows, rest) =
            std::mem::take(&mut self.rows).into_iter().partition(|(key, _)| bounds.contains(key));
        self.rows = rest;
        let within = |run: &&Arc<meridian_kv::run::Run>| {
            bounds.contains(run.first()) && bounds.contains(run.last())
        };
        let runs = self.runs.iter().filter(within).cloned().collect();
        self.runs.retain(|run| !within(&run));
        Locks { rows, runs }
    }

    /// Is this key locked strongly enough to be written?
    pub(crate) fn hold(&self, key: &[u8]) -> bool {
        let row = self.rows.get(key).is_some_and(|locked| locked.modes != 0);
        row || self.runs.iter().any(|run| run.find(key).is_some())
    }
}
