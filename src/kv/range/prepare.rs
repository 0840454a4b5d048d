//! A range's side of a commit over several ranges.
//!
//! ```text
//!              prepare ──▶ record, ts p ──┬─ resolve Committed(T) ─▶ writes at T, marker ─┐
//!   nothing ──┤                           └─ resolve Aborted ──────▶ marker ──────────────┼─ collect ─▶ nothing
//!              query, resolve Aborted ───▶ marker Aborted: prepare is refused ────────────┘
//! ```
//! The rule that everything rests on: **a transaction is committed exactly when each of its
//! participants has a durable record; it is aborted exactly when one of them has a marker that was
//! written where no record was.** Both can't be: a range goes from nothing to one of the two, once, in
//! the order of its log, and a record goes only when its transaction has been decided. So whoever asks
//! every participant finds the same outcome, and `T = max p` besides, because a `p` is in the record.
//!
//! What might go wrong, and why it doesn't:
//! * *A prepare is repeated, or comes late.* While there is a record it answers the same `p`; after
//!   that the marker refuses it; after the marker has been collected the deadline does: a marker goes
//!   only in an entry whose timestamp is not below deadline and expiry, the range sequences above that
//!   entry for ever (the next lease begins above all that this one gave out), and nothing is prepared at
//!   or above its deadline. No clock takes part in this.
//! * *A prepare is refused and a copy of it succeeds later.* The refusal decides nothing. Whoever wants
//!   to abort asks first (`query`), which writes the marker.
//! * *Recovery sees a marker gone and takes a committed transaction for aborted.* A marker of a commit
//!   is collected only when it is *settled*: no participant has a record any more. Who asks later hears
//!   [`Status::Forgotten`], which ends no record and tells no client anything.
//! * *Two participants find themselves in one range*, since ranges have merged. Records and markers belong
//!   to a participant, not to a range: the range holds both, and they don't stand in each other's way.
//! * *The lease changes between prepare and resolve.* The record is in the log; the new leaseholder
//!   applies all of it before it serves, and takes the record's locks.
//! * *Waiting in a circle.* A prepare waits for one thing only: a SERIALIZABLE record that has read what
//!   is to be written. A SERIALIZABLE prepare never waits, it is refused; so every record gets its
//!   outcome without waiting for another transaction's locks or records. A one-phase commit may wait
//!   for records, since it is none.
//!
//! What all this asks of the shell:
//! * entries are proposed in the order in which the machine gave them; [`Sequencer::landed`] is told of
//!   each, [`Sequencer::lost`] of one that certainly isn't in the log; after an unknown end of a
//!   proposal the machine is thrown away with the lease;
//! * a prepare, a question, an outcome are answered when their entry has been applied;
//! * what doesn't lie in the range (`is_within`) is refused before the machine sees it;
//! * the node's clock is raised to what comes in (r, T) and to [`Sequencer::last`] after each call, and
//!   the machine knows how far the lease reaches ([`Sequencer::lease`]);
//! * a transaction's locks are released when its end has landed and [`Sequencer::is_open`] says no; a
//!   new leaseholder first takes the locks of [`Sequencer::records`].

use super::entry::{Collect, LogEntry, Resolve};
use super::prepared::Kept;
use super::record::{Header, Marker, Outcome, Record, Verify};
use super::{Newest, Refused, Sequencer};
use crate::api::{Isolation, Key, KvError, Span, Timestamp, TxnId};
use crate::txn::{ReadSet, Write};

/// One range's part of a transaction that is to be committed.
#[derive(Clone, Debug)]
pub struct PrepareRequest {
    /// The transaction.
    pub header: Header,
    /// Which participant this range is.
    pub own: usize,
    /// Its level.
    pub isolation: Isolation,
    /// Its (newest) snapshot: it commits above it.
    pub read_ts: Timestamp,
    /// Its writes here, in key order.
    pub writes: Vec<Write>,
    /// What it has locked here and doesn't write.
    pub verify: Vec<Verify>,
    /// What it has read here (SERIALIZABLE). A range where it only read takes part all the same.
    pub reads: ReadSet,
    /// The hold in whose name it writes.
    pub behalf: Option<TxnId>,
    /// This copy is prepared below this timestamp, or not at all; the next one may have longer. That says nothing
    /// of the transaction's end, as the header's deadline does.
    pub before: Timestamp,
}

impl PrepareRequest {
    /// Is all of it the business of a range with these bounds? As
    /// [`CommitRequest::is_within`](super::CommitRequest::is_within).
    pub fn is_within(&self, bounds: &Span) -> bool {
        let written = self.writes.iter().map(|write| &write.key);
        let mut keys = written.chain(self.verify.iter().map(|verify| &verify.key));
        keys.all(|key| bounds.contains(key)) && self.reads.is_within(bounds)
    }
}

/// The answer to a prepare that isn't refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrepareAnswer {
    /// To be proposed; the range is prepared when it has been applied.
    Propose(LogEntry),
    /// That happens already, at this timestamp: answer when it has been applied.
    InFlight(Timestamp),
    /// That has happened already, at this timestamp.
    Durable(Timestamp),
}

/// What a range knows of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has a durable record with this timestamp.
    Prepared(Timestamp),
    /// It has ended.
    Ended(Outcome),
    /// No record, and a marker may have been collected: never prepared here, or ended long ago. If it
    /// was committed, no participant has a record any more; if any has one, it was aborted.
    Forgotten,
}

/// The answer to a question about a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryAnswer {
    /// What there is.
    Known(Status),
    /// It is on its way through the log: ask again when this has been applied.
    InFlight,
    /// Nothing was known. Propose this; applied, it makes the answer [`Outcome::Aborted`].
    Prevent(LogEntry),
}

/// What a one-phase commit came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutcomeAnswer {
    /// It happened, or never will.
    Ended(Outcome),
    /// It is on its way at this timestamp: ask again when that has been applied.
    InFlight(Timestamp),
    /// It hasn't happened. Propose this; applied, it makes sure that it never will.
    Prevent(LogEntry),
    /// So long ago that the range doesn't remember.
    Unknown,
}

impl Sequencer {
    /// Gives the range's part a timestamp and a record, or refuses it and changes nothing.
    pub fn prepare(
        &mut self,
        now: Timestamp,
        request: PrepareRequest,
        source: &impl Newest,
    ) -> Result<PrepareAnswer, Refused> {
        let part = (request.header.txn, request.own);
        if let Some(held) = self.prepared.get(part) {
            let ts = held.record.ts;
            return Ok(match held.durable {
                true => PrepareAnswer::Durable(ts),
                false => PrepareAnswer::InFlight(ts),
            });
        }
        if let Some(kept) = self.prepared.markers.get(&part) {
            return Err(kept.refusal());
        }
        let ts = self.place(now, request.read_ts, request.header.deadline.min(request.before))?;
        self.stands_clear(&request)?;
        if self.recent.may_touch(&request.reads, request.read_ts) && !request.reads.is_empty() {
            return Err(KvError::READ_WRITE_DEPENDENCY.into());
        }
        self.verify(&request.verify, source)?;
        let PrepareRequest { header, own, isolation, read_ts, writes, verify, reads, .. } = request;
        let writes = self.supersede(isolation, read_ts, writes, source)?;
        let writes = writes.into_iter().map(|write| (write.key, write.value)).collect();
        let locks = verify.into_iter().map(|verify| (verify.key, verify.strength)).collect();
        let record = Record { header, own, ts, writes, locks, reads };
        self.last = ts;
        self.fly(ts);
        self.prepared.insert(record.clone(), false);
        Ok(PrepareAnswer::Propose(LogEntry::Prepare(record)))
    }

    /// Does a record stand in the way of a prepare? See this module's text for who may wait.
    fn stands_clear(&self, request: &PrepareRequest) -> Result<(), Refused> {
        self.prepared.holds.admit(request)?;
        if self.prepared.is_empty() {
            return Ok(());
        }
        let keys = || request.writes.iter().map(|write| &write.key[..]);
        let verified = request.verify.iter().map(|verify| &verify.key[..]);
        // Locks keep these away, unless a change of lease has lost them.
        match keys().chain(verified).find_map(|key| self.prepared.writer(key)) {
            None => {}
            // A hold keeps all others away: this is an earlier attempt to end it, which is being ended itself.
            Some(attempt) if request.behalf.is_some() => return Err(Refused::Wait(attempt)),
            Some(_) => return Err(KvError::CONCURRENT_UPDATE.into()),
        }
        let own = Some(request.header.txn);
        if self.prepared.writes_into(own, &request.reads).is_some() {
            return Err(KvError::READ_WRITE_DEPENDENCY.into());
        }
        match self.prepared.reader(own, keys()) {
            None => Ok(()),
            Some(_) if request.isolation == Isolation::Serializable => {
                Err(KvError::READ_WRITE_DEPENDENCY.into())
            }
            Some(reader) => Err(Refused::Wait(reader)),
        }
    }

    /// Brings an outcome. The answer is to be proposed, if there is something to do that isn't being
    /// done. From now on nothing is sequenced at or below the timestamp of a commit.
    ///
    /// Only who has seen all records, or a marker, may call it (with what follows from that). Fails when
    /// that can't be.
    pub fn resolve(
        &mut self,
        header: &Header,
        own: usize,
        outcome: Outcome,
        source: &impl Newest,
    ) -> Result<Option<LogEntry>, KvError> {
        let part = (header.txn, own);
        let Some(held) = self.prepared.get(part) else {
            let known = self.prepared.markers.contains_key(&part);
            // A prepare that is still under way is to find the marker.
            let late = self.last >= header.deadline || self.frozen;
            if known || late || outcome != Outcome::Aborted {
                return Ok(None);
            }
            return Ok(Some(self.mark(header, own)));
        };
        debug_assert!(held.outcome.is_none_or(|known| known == outcome), "decided once");
        if held.resolving || self.prepared.is_in_use(part) {
            return Ok(None);
        }
        let mut writes = Vec::new();
        if let Outcome::Committed(at) = outcome {
            if !held.durable || at < held.record.ts {
                let reason = format!("{} cannot have been committed at {at}", header.txn);
                return Err(KvError::Storage { reason });
            }
            for (key, value) in &held.record.writes {
                let old = source.newest(key)?;
                writes.push(super::CommandWrite { key: key.clone(), value: value.clone(), old });
            }
        }
        let fresh = held.outcome.is_none();
        let marker = Marker { header: held.record.header.clone(), own: held.record.own, outcome };
        if let Outcome::Committed(at) = outcome
            && fresh
        {
            self.last = self.last.max(at);
            writes.iter().for_each(|write| self.recent.insert(at, write.key.clone()));
        }
        let held = self.prepared.get_mut(part).expect("it was there");
        (held.outcome, held.resolving) = (Some(outcome), true);
        Ok(Some(LogEntry::Resolve(Resolve { marker, writes })))
    }

    fn mark(&mut self, header: &Header, own: usize) -> LogEntry {
        let marker = Marker { header: header.clone(), own, outcome: Outcome::Aborted };
        self.prepared.keep(&marker, false);
        LogEntry::Mark(marker)
    }

    /// What is known of a transaction; if nothing is, it won't be prepared here any more.
    pub fn query(&mut self, header: &Header, own: usize) -> QueryAnswer {
        if let Some(held) = self.prepared.get((header.txn, own)) {
            return match (held.durable, held.outcome) {
                (true, None) => QueryAnswer::Known(Status::Prepared(held.record.ts)),
                (true, Some(outcome)) => QueryAnswer::Known(Status::Ended(outcome)),
                (false, _) => QueryAnswer::InFlight,
            };
        }
        match self.prepared.markers.get(&(header.txn, own)) {
            Some(kept) if kept.durable => QueryAnswer::Known(Status::Ended(kept.outcome)),
            Some(_) => QueryAnswer::InFlight,
            None if self.last >= header.expiry => QueryAnswer::Known(Status::Forgotten),
            // Too late to prepare, too early for a marker to be gone.
            None if self.last >= header.deadline => {
                QueryAnswer::Known(Status::Ended(Outcome::Aborted))
            }
            None if self.frozen => QueryAnswer::InFlight,
            None => QueryAnswer::Prevent(self.mark(header, own)),
        }
    }

    /// What became of a one-phase commit that was asked for at `sent`; if it hasn't happened, it won't.
    /// `header` has this range as its one participant.
    pub fn outcome(&mut self, header: &Header, sent: Timestamp) -> OutcomeAnswer {
        if let Some(ts) = self.outcomes.get(header.txn) {
            return OutcomeAnswer::Ended(Outcome::Committed(ts));
        }
        if let Some(flying) = self.in_flight.iter().find(|f| f.txn == Some(header.txn)) {
            return OutcomeAnswer::InFlight(flying.ts);
        }
        if sent < self.outcomes.floor() {
            return OutcomeAnswer::Unknown;
        }
        match self.query(header, 0) {
            QueryAnswer::Known(Status::Ended(outcome)) => OutcomeAnswer::Ended(outcome),
            QueryAnswer::Known(Status::Forgotten) => OutcomeAnswer::Ended(Outcome::Aborted),
            QueryAnswer::Known(Status::Prepared(ts)) => OutcomeAnswer::InFlight(ts),
            QueryAnswer::InFlight => OutcomeAnswer::InFlight(self.last),
            QueryAnswer::Prevent(entry) => OutcomeAnswer::Prevent(entry),
        }
    }

    /// No participant of this transaction has a record any more: its marker may be collected in time.
    pub fn settle(&mut self, txn: TxnId) {
        let parts = self.prepared.markers.range_mut((txn, 0)..=(txn, usize::MAX));
        parts.for_each(|(_, kept)| kept.settled = true);
    }

    /// An entry that collects at most `count` markers, when some may go.
    pub fn collect(&mut self, now: Timestamp, count: usize) -> Option<LogEntry> {
        let ts = self.place(now, Timestamp::MIN, Timestamp::MAX).ok()?;
        let over = |header: &Header| header.deadline.max(header.expiry) <= ts;
        let ripe = self.prepared.markers.values();
        let ripe = ripe.filter(|kept| kept.durable && kept.settled && over(&kept.header));
        let key = |kept: &Kept| kept.header.participants[kept.own].clone();
        let markers: Vec<(Key, TxnId)> =
            ripe.take(count).map(|kept| (key(kept), kept.header.txn)).collect();
        if markers.is_empty() {
            return None;
        }
        self.last = ts;
        self.fly(ts);
        Some(LogEntry::Collect(Collect { ts, markers }))
    }

    /// Records that have been waiting since before `since`, and markers of commits that nobody has
    /// settled by the deadline: somebody should finish them ([`crate::commit`]).
    pub fn overdue(
        &self,
        since: Timestamp,
    ) -> impl Iterator<Item = (Header, usize, Option<Outcome>)> {
        let records = self.prepared.records();
        let records = records.filter(move |(_, held)| held.durable && held.record.ts <= since);
        let records =
            records.map(|(_, held)| (held.record.header.clone(), held.record.own, held.outcome));
        let markers = self.prepared.markers.values();
        let markers = markers
            .filter(move |kept| kept.durable && !kept.settled && kept.header.deadline <= since)
            .map(|kept| (kept.header.clone(), kept.own, Some(kept.outcome)));
        records.chain(markers)
    }

    /// The record of a part, once it has been applied.
    pub fn record(&self, part: (TxnId, usize)) -> Option<&Record> {
        self.prepared.get(part).filter(|held| held.durable).map(|held| &held.record)
    }

    /// Has something been prepared in the name of this hold that has no outcome yet? It has no locks but the
    /// hold's, so the hold doesn't end before: [`Sequencer::resolve`] answers nothing then.
    pub fn is_in_use(&self, hold: (TxnId, usize)) -> bool {
        self.prepared.is_in_use(hold)
    }

    /// The holds here, which have been applied.
    pub fn holds(&self) -> impl Iterator<Item = &Header> {
        self.prepared.durable_holds()
    }

    /// The records that wait for a coordinator: their locks, and those of holds, are the first that a new
    /// leaseholder takes.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.prepared.records().map(|(_, held)| &held.record)
    }

    /// Takes note that an entry has been applied. Called in log order, for every entry; entries are
    /// proposed in the order in which this machine gave them, commits among them.
    pub fn landed(&mut self, entry: &LogEntry) {
        match entry {
            LogEntry::Commit(command) => self.applied_to(command.ts),
            LogEntry::Prepare(record) => {
                if let Some(held) = self.prepared.get_mut((record.header.txn, record.own)) {
                    held.durable = true;
                }
                self.applied_to(record.ts);
            }
            LogEntry::Mark(marker) => self.prepared.keep(marker, true),
            LogEntry::Resolve(Resolve { marker, .. }) => {
                self.prepared.remove((marker.header.txn, marker.own));
                self.prepared.keep(marker, true);
                if let Outcome::Committed(ts) = marker.outcome {
                    // What was sequenced up to there is ahead in the log, what comes is above.
                    self.applied_to(ts);
                }
            }
            LogEntry::Collect(collect) => {
                let gone = |kept: &Kept| {
                    let key = &kept.header.participants[kept.own];
                    collect.markers.iter().any(|(k, txn)| (k, *txn) == (key, kept.header.txn))
                };
                self.prepared.markers.retain(|_, kept| !gone(kept));
                self.applied_to(collect.ts);
            }
            // The right half is loaded anew by whoever comes to lead it.
            LogEntry::Split(split) if self.quiet().is_ok() => {
                drop(self.split(&split.right.span.start));
            }
            LogEntry::Split(_) => {}
        }
    }

    /// An entry certainly never got into the log.
    pub fn lost(&mut self, entry: &LogEntry) {
        match entry {
            LogEntry::Commit(command) => self.abandon(command.ts),
            LogEntry::Collect(collect) => self.abandon(collect.ts),
            LogEntry::Prepare(record) => {
                self.prepared.remove((record.header.txn, record.own));
                self.abandon(record.ts);
            }
            LogEntry::Mark(marker) => {
                let part = (marker.header.txn, marker.own);
                if self.prepared.markers.get(&part).is_some_and(|kept| !kept.durable) {
                    self.prepared.markers.remove(&part);
                }
            }
            LogEntry::Resolve(resolve) => {
                let part = (resolve.marker.header.txn, resolve.marker.own);
                if let Some(held) = self.prepared.get_mut(part) {
                    held.resolving = false;
                }
            }
            LogEntry::Split(_) => self.freeze(false),
        }
    }
}
