//! A range: what has landed, and the leader with all that it has in memory.

use std::collections::VecDeque;

use meridian_base::keys::txn_span;
use meridian_base::{Rng, Span};
use meridian_kv::api::{Isolation, Key, KvError, Strength, Timestamp, TxnId, WaitPolicy};
use meridian_kv::commit::{Answer, Message, OnePhaseAnswer};
use meridian_kv::locks::{Acquire, Grant, LockTable, Owner, WaiterId};
use meridian_kv::range::{
    Command, CommitRequest, Header, LogEntry, Outcome, OutcomeAnswer, Outcomes, PrepareAnswer,
    QueryAnswer, Refused, Sequencer, Status, Stored,
};
use meridian_storage::MemEngine;
use meridian_storage::engine::{Engine, Keyspace, Reader, WriteBatch};

use super::Bug;
use super::holds::records_of_holds;
use super::net::{Address, Reply, Request, Whole};
use crate::node::{InEngine, below};

/// Few, so that runs meet the rings' ends.
const RING_LEN: usize = 200;
const OUTCOMES_LEN: usize = 25;

/// How long a lease reaches ahead, in units of the simulated time.
pub(super) const LEASE: u64 = 200;

/// An entry on its way into the log, and whom to answer when it has landed.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) entry: LogEntry,
    answer: Option<(Address, Reply)>,
}

/// The leaseholder's memory.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) node: usize,
    pub(super) seq: Sequencer,
    pub(super) locks: LockTable<Key, Strength>,
    pub(super) tail: VecDeque<Proposal>,
    pub(super) until: Timestamp,
    /// Since when it is frozen.
    pub(super) frozen: Option<u64>,
}

/// One range.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) span: Span,
    /// The number of its log.
    pub(super) log: usize,
    /// What has landed since followers were told last.
    pub(super) fresh: Vec<LogEntry>,
    pub(super) applied: Timestamp,
    pub(super) outcomes: Outcomes,
    pub(super) leader: Option<Leader>,
    /// While there is no leader: when the last one's lease is over.
    pub(super) vacant_until: Timestamp,
}

/// What came of an entry's landing.
pub(super) struct Landed {
    pub(super) entry: LogEntry,
    pub(super) answer: Option<(Address, Reply)>,
    pub(super) grants: Vec<Grant<Key>>,
}

impl Range {
    pub(super) fn new(span: Span, log: usize) -> Range {
        let (applied, vacant_until) = (Timestamp::MIN, Timestamp::MIN);
        let outcomes = Outcomes::new(applied, OUTCOMES_LEN);
        let fresh = Vec::new();
        Range { span, log, fresh, applied, outcomes, leader: None, vacant_until }
    }

    /// What the engine holds of transactions over several ranges.
    fn stored(&self, engine: &MemEngine) -> Vec<Stored> {
        let entries = engine.range(Keyspace::Cur, &txn_span(&self.span), false);
        entries.map(|entry| Stored::decode(entry.expect("memory").1).expect("own bytes")).collect()
    }

    /// A new lease begins; `young` = the replica has just been started and remembers nothing.
    pub(super) fn elect(
        &mut self,
        node: usize,
        now: Timestamp,
        engine: &MemEngine,
        young: bool,
        bug: Option<Bug>,
    ) {
        let start = now.max(self.vacant_until);
        if young {
            self.outcomes = Outcomes::new(self.applied, OUTCOMES_LEN);
        }
        let mut stored = self.stored(engine);
        stored.retain(|stored| match (bug, stored) {
            (Some(Bug::LeaseForgetsRecords), _) => false,
            (Some(Bug::LeaseForgetsHolds), Stored::Record(record)) => !record.header.is_hold(),
            _ => true,
        });
        let seq = Sequencer::load(self.applied, RING_LEN, start, self.outcomes.clone(), stored);
        let mut locks = LockTable::default();
        // Holds first: what is prepared in their name needs no locks of its own.
        for record in records_of_holds(&seq).chain(seq.records()) {
            let owner = owner_of(record.header.txn);
            for (key, strength) in record.locks() {
                locks.acquire(key, owner, strength, WaitPolicy::NoWait, WaiterId(0));
            }
        }
        let (tail, until, frozen) = (VecDeque::new(), Timestamp::MIN, None);
        self.leader = Some(Leader { node, seq, locks, tail, until, frozen });
    }

    /// The leader is gone. Some of what it proposed lands all the same; it answers nobody any more.
    pub(super) fn depose(&mut self, rng: &mut Rng, engine: &MemEngine) -> Vec<LogEntry> {
        let Some(leader) = self.leader.take() else { return Vec::new() };
        self.vacant_until = leader.until;
        let kept = below(rng, leader.tail.len() + 1);
        let survived = leader.tail.into_iter().take(kept).map(|proposal| proposal.entry);
        survived.inspect(|entry| self.apply(entry, engine)).collect()
    }

    fn apply(&mut self, entry: &LogEntry, engine: &MemEngine) {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let decoded = LogEntry::decode(&mut bytes.into()).expect("own bytes");
        let mut batch = WriteBatch::default();
        decoded.ops(&mut batch.ops);
        engine.apply(batch).expect("memory");
        self.applied = self.applied.max(decoded.ts().unwrap_or(Timestamp::MIN));
        if let LogEntry::Commit(Command { txn: Some(txn), ts, .. }) = &decoded {
            self.outcomes.note(*txn, *ts);
        }
        self.fresh.push(decoded);
    }

    /// The oldest proposal lands.
    pub(super) fn land(&mut self, engine: &MemEngine) -> Option<Landed> {
        let Proposal { entry, answer } = self.leader.as_mut()?.tail.pop_front()?;
        self.apply(&entry, engine);
        let leader = self.leader.as_mut()?;
        leader.seq.landed(&entry);
        let ended = match &entry {
            LogEntry::Commit(command) => command.txn,
            LogEntry::Resolve(resolve) => Some(resolve.marker.header.txn),
            LogEntry::Mark(marker) => Some(marker.header.txn),
            LogEntry::Prepare(_) | LogEntry::Collect(_) | LogEntry::Split(_) => None,
        };
        let mut grants = Vec::new();
        if let Some(txn) = ended {
            leader.release(txn, &mut grants);
        }
        Some(Landed { entry, answer, grants })
    }
}

/// The owner of a transaction's locks: sessions are numbered like their transactions.
pub(super) fn owner_of(txn: TxnId) -> Owner {
    Owner { id: txn.0, session: txn.0 }
}

impl Leader {
    pub(super) fn propose(&mut self, entry: LogEntry, answer: Option<(Address, Reply)>) {
        self.tail.push_back(Proposal { entry, answer });
    }

    /// Gives back all locks of a transaction, unless its fate is still open here.
    pub(super) fn release(&mut self, txn: TxnId, grants: &mut Vec<Grant<Key>>) {
        let flying = self
            .tail
            .iter()
            .any(|p| matches!(&p.entry, LogEntry::Commit(command) if command.txn == Some(txn)));
        if self.seq.is_open(txn) || flying {
            return;
        }
        let owner = owner_of(txn);
        let held = self.locks.entries().filter(|(key, ..)| self.locks.held_by(key, owner) != 0);
        let held: Vec<Key> = held.map(|(key, ..)| key.clone()).collect();
        for key in held {
            self.locks.restore(&key, owner, 0, grants);
        }
    }

    /// Locks what a transaction has lost, with a lease or with its gateway: its message comes late. `None`:
    /// somebody else has one of the locks.
    fn lock_again<'a>(
        &mut self,
        part: (TxnId, usize),
        keys: impl Iterator<Item = &'a Key>,
    ) -> Option<Vec<Key>> {
        let txn = part.0;
        let (owner, mut taken) = (owner_of(txn), Vec::new());
        if self.seq.is_part_open(part) {
            return Some(taken);
        }
        for key in keys {
            let (policy, waiter) = (WaitPolicy::NoWait, WaiterId(0));
            match self.locks.acquire(key, owner, Strength::Update, policy, waiter) {
                Acquire::Granted { before: 0 } => taken.push(key.clone()),
                Acquire::Granted { .. } | Acquire::Reentrant => {}
                Acquire::Unavailable | Acquire::Queued => {
                    self.give_back(txn, taken);
                    return None;
                }
            }
        }
        Some(taken)
    }

    /// Nobody can wait for one of these: they were taken in this step.
    pub(super) fn give_back(&mut self, txn: TxnId, taken: Vec<Key>) {
        let mut grants = Vec::new();
        for key in taken {
            self.locks.restore(&key, owner_of(txn), 0, &mut grants);
        }
        debug_assert!(grants.is_empty(), "a lock that was free has no queue");
    }

    /// Answers a message at once (the answer is returned) or when its entry has landed.
    pub(super) fn handle(
        &mut self,
        now: Timestamp,
        span: &Span,
        from: Address,
        request: Request,
        engine: &MemEngine,
        bug: Option<Bug>,
    ) -> Option<Reply> {
        match request {
            Request::Commit(whole) => self.commit(now, span, from, *whole, engine),
            Request::Outcome(whole) => self.outcome(from, &whole),
            Request::Part(header, message) => {
                let answer = self.part(now, span, from, &header, message, engine, bug);
                answer.map(Reply::Part)
            }
        }
    }

    fn commit(
        &mut self,
        now: Timestamp,
        span: &Span,
        from: Address,
        whole: Whole,
        engine: &MemEngine,
    ) -> Option<Reply> {
        let refused = |refused| Some(Reply::Whole(OnePhaseAnswer::Refused(refused)));
        let Whole { isolation, read_ts, writes, reads, origin, .. } = whole;
        let (runs, reads) = (Vec::new(), reads.as_ref());
        let request =
            CommitRequest { isolation, read_ts, writes, runs, reads, origin: Some(origin.clone()) };
        if !request.is_within(span) {
            return refused(moved());
        }
        let txn = origin.txn;
        let Some(regained) =
            self.lock_again((txn, 0), request.writes.iter().map(|write| &write.key))
        else {
            return refused(moved());
        };
        match self.seq.sequence(now, request, &InEngine(engine)) {
            Err(reason) => {
                self.give_back(txn, regained);
                refused(reason)
            }
            Ok(command) => {
                let ended = OnePhaseAnswer::Ended(Outcome::Committed(command.ts));
                self.propose(LogEntry::Commit(command), Some((from, Reply::Whole(ended))));
                None
            }
        }
    }

    fn outcome(&mut self, from: Address, whole: &Whole) -> Option<Reply> {
        let ended = |outcome| Reply::Whole(OnePhaseAnswer::Ended(outcome));
        match self.seq.outcome(&whole.header, whole.origin.sent) {
            OutcomeAnswer::Ended(outcome) => Some(ended(outcome)),
            OutcomeAnswer::InFlight(_) => None,
            OutcomeAnswer::Unknown => Some(Reply::Whole(OnePhaseAnswer::Unknown)),
            OutcomeAnswer::Prevent(entry) => {
                self.propose(entry, Some((from, ended(Outcome::Aborted))));
                None
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "it is what a message comes with")]
    fn part(
        &mut self,
        now: Timestamp,
        span: &Span,
        from: Address,
        header: &Header,
        message: Message,
        engine: &MemEngine,
        bug: Option<Bug>,
    ) -> Option<Answer> {
        match message {
            Message::Prepare(request) => {
                if !request.is_within(span) {
                    return Some(Answer::Refused(moved()));
                }
                let request = (*request).clone();
                if header.is_hold() {
                    return self.hold(now, from, request, engine);
                }
                let written = request.writes.iter().map(|write| &write.key);
                let locked = request.verify.iter().map(|locked| &locked.key);
                let keys = written.chain(locked);
                let keys: Vec<&Key> =
                    keys.filter(|key| !self.is_covered(request.behalf, key)).collect();
                let Some(regained) = self.lock_again((header.txn, request.own), keys.into_iter())
                else {
                    return Some(Answer::Refused(moved()));
                };
                match self.seq.prepare(now, request, &InEngine(engine)) {
                    Err(refused) => {
                        self.give_back(header.txn, regained);
                        Some(Answer::Refused(refused))
                    }
                    Ok(PrepareAnswer::Durable(ts)) => Some(Answer::Prepared(ts)),
                    Ok(PrepareAnswer::InFlight(_)) => None,
                    Ok(PrepareAnswer::Propose(entry)) => {
                        let answer = Answer::Prepared(entry.ts().expect("a record has one"));
                        self.propose(entry, Some((from, Reply::Part(answer.clone()))));
                        (bug == Some(Bug::AnswerBeforeItIsDurable)).then_some(answer)
                    }
                }
            }
            Message::Query => match self.seq.query(header, from.part) {
                QueryAnswer::Known(status) => Some(Answer::Status(status)),
                QueryAnswer::InFlight => None,
                QueryAnswer::Prevent(entry) => {
                    let answer = Answer::Status(Status::Ended(Outcome::Aborted));
                    if bug == Some(Bug::QueryDoesNotPrevent) {
                        self.seq.lost(&entry);
                        return Some(answer);
                    }
                    self.propose(entry, Some((from, Reply::Part(answer))));
                    None
                }
            },
            Message::Resolve(outcome) => self.resolve(from, header, outcome, engine, bug),
            Message::Settle => {
                self.seq.settle(header.txn);
                None
            }
        }
    }

    fn resolve(
        &mut self,
        from: Address,
        header: &Header,
        mut outcome: Outcome,
        engine: &MemEngine,
        bug: Option<Bug>,
    ) -> Option<Answer> {
        if bug == Some(Bug::CommitAtOwnTimestamp)
            && outcome != Outcome::Aborted
            && let Some(record) = self.seq.records().find(|r| r.header.txn == header.txn)
        {
            outcome = Outcome::Committed(record.ts);
        }
        // With a planted bug, participants may be told different things: the first one counts, and what
        // becomes of the others shows it.
        let own = |r: &meridian_kv::range::Record| (r.header.txn, r.own) == (header.txn, from.part);
        if bug.is_some() && self.seq.records().any(own) {
            match self.seq.query(header, from.part) {
                QueryAnswer::Known(Status::Prepared(_)) => {}
                QueryAnswer::Known(Status::Ended(known)) if known == outcome => {}
                _ => return None,
            }
        }
        let entry = self.seq.resolve(header, from.part, outcome, &InEngine(engine));
        match entry.expect("memory") {
            Some(entry) => {
                self.propose(entry, Some((from, Reply::Part(Answer::Resolved))));
                None
            }
            // Under way: whoever asked first is told, the others ask again.
            None if self.seq.is_part_open((header.txn, from.part)) => None,
            None => Some(Answer::Resolved),
        }
    }
}

fn moved() -> Refused {
    Refused::Error(KvError::Unavailable { reason: "the keys are in several ranges now".into() })
}

/// Is there nothing left that waits for an outcome?
pub(super) fn is_settled(leader: &Leader) -> bool {
    let records = leader.seq.records().next().is_some() || leader.seq.holds().next().is_some();
    leader.tail.is_empty() && !records
}

/// Reads below SERIALIZABLE aren't validated.
pub(super) fn validated(isolation: Isolation, reads: Option<&meridian_kv::txn::ReadSet>) -> bool {
    isolation == Isolation::Serializable && reads.is_some_and(|reads| !reads.is_empty())
}
