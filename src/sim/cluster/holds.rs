//! Transactions that users prepare, as the cluster's shell has them: holds in each range, a row in the first one,
//! and somebody who ends them, their client or an operator.
//!
//! ```text
//! holds ──all made──▶ row ──committed──▶ finish: writes, row goes ──▶ holds end
//!   └──refused──▶ holds end                 (or roll back: row goes) ──▶ holds end
//! hold without a row, found by its leaseholder ──▶ an empty row in its place ──▶ holds end, row goes
//! ```
//! The real thing is in `meridian_kv::range::holds`; what is modelled here is in `src/cluster/twophase`. That a
//! prepared transaction can be committed, whatever happens in between, is an invariant of its own.

use std::sync::Arc;

use meridian_kv::api::{
    Isolation, Key, KvError, Row, Span, Strength, Timestamp, TxnId, WaitPolicy,
};
use meridian_kv::commit::{Answer, Commit, Message, Verdict, plan, requests};
use meridian_kv::locks::{Acquire, WaiterId};
use meridian_kv::range::{
    Gateway, Header, Newest, Outcome as Decision, PrepareAnswer, PrepareRequest, Record, Refused,
    Sequencer, Verify,
};
use meridian_kv::txn::{ReadSet, VersionTag, Write};
use meridian_storage::MemEngine;

use super::Bug;
use super::gateway::{DEADLINE, PATIENCE, gateway_of, header_of};
use super::net::{Address, Packet, Reply, Request};
use super::node::{Job, Machine};
use super::range::{Leader, owner_of};
use super::world::World;
use crate::history::Outcome;
use crate::node::{InEngine, below};

/// How often holds are asked for before they are given up.
const TICKS_MAX: u32 = 12;

/// Tells a hold's number from its transaction's.
const HOLD_BIT: u64 = 1 << 40;

/// The transaction that a hold belongs to.
pub(super) fn base_of(hold: TxnId) -> TxnId {
    TxnId(hold.0 & !HOLD_BIT)
}

/// The row that says that a transaction is prepared. It lies in the first range.
fn row_key(hold: TxnId) -> Key {
    Key::from([&[5_u8][..], &hold.0.to_be_bytes()].concat())
}

/// What a commit is about, beside a client's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The row: the transaction is prepared.
    Row,
    /// Its writes, and the row goes.
    Finish,
    /// The row goes.
    RollBack,
    /// An empty row, so that none comes.
    Prevent,
    /// That one goes.
    Forget,
}

/// A commit for a hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand {
    pub(super) hold: TxnId,
    pub(super) what: What,
}

/// A transaction that is being prepared, or is; what its rows would say.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    header: Header,
    writes: Vec<Write>,
    /// All that have been tried to end it.
    attempts: Vec<TxnId>,
    /// The row's, if that has been told.
    row_ts: Timestamp,
}

/// The holds of a transaction on their way.
#[derive(Debug)]
pub(super) struct Holds {
    requests: Vec<Arc<PrepareRequest>>,
    made: Vec<bool>,
    ticks: u32,
}

/// What a running transaction leaves when it is prepared.
pub(super) struct Left {
    pub(super) isolation: Isolation,
    pub(super) read_ts: Timestamp,
    pub(super) writes: Vec<Write>,
    pub(super) locks: Vec<Verify>,
    pub(super) reads: ReadSet,
}

impl World {
    fn spans(&self) -> Vec<Span> {
        self.ranges.iter().map(|range| range.span.clone()).collect()
    }

    /// The client's transaction is to be prepared: its holds first.
    pub(super) fn prepare(&mut self, node: usize, txn: TxnId, left: Left) {
        let hold = TxnId(txn.0 | HOLD_BIT);
        let Left { isolation, read_ts, writes, locks, reads } = left;
        let parts = plan(Vec::new(), locks, &reads, &self.spans());
        let deadline = Timestamp(self.nodes[node].now(self.wall).0 + DEADLINE);
        let header = header_of(hold, Gateway::OWNER, deadline, &parts);
        let requests = requests(&header, isolation, read_ts, parts);
        let requests: Vec<_> = requests.into_iter().map(Arc::new).collect();
        self.prepared.insert(
            hold,
            Prepared {
                header: header.clone(),
                writes,
                attempts: Vec::new(),
                row_ts: Timestamp::MIN,
            },
        );
        let (made, client, id) = (vec![false; requests.len()], self.stepping, self.next_job());
        let machine = Machine::Holds(Box::new(Holds { requests, made, ticks: 0 }));
        let job = Job { txn: hold, client, machine, errand: None };
        self.nodes[node].jobs.insert(id, job);
        self.ask_for_holds(node, id);
    }

    fn ask_for_holds(&mut self, node: usize, id: u64) {
        let Some(Job { machine: Machine::Holds(holds), .. }) = self.nodes[node].jobs.get(&id)
        else {
            return;
        };
        let left: Vec<_> =
            holds.requests.iter().zip(&holds.made).filter(|(_, made)| !**made).collect();
        let left: Vec<_> = left.into_iter().map(|(request, _)| Arc::clone(request)).collect();
        for request in left {
            let key = request.header.participants[request.own].clone();
            let from = Address { node, job: id, part: request.own };
            let request = Request::Part(request.header.clone(), Message::Prepare(request));
            self.net.send(&mut self.rng, self.step, Packet::ToRange { key, from, request });
        }
    }

    /// Time passes for who makes holds.
    pub(super) fn tick_holds(&mut self, node: usize, id: u64) {
        let Some(Job { machine: Machine::Holds(holds), .. }) = self.nodes[node].jobs.get_mut(&id)
        else {
            return;
        };
        holds.ticks += 1;
        match holds.ticks > TICKS_MAX {
            true => {
                let reason = "a range has no leaseholder".into();
                self.give_up_holds(node, id, KvError::Unavailable { reason });
            }
            false => self.ask_for_holds(node, id),
        }
    }

    /// A range has answered.
    pub(super) fn hear_of_hold(&mut self, to: Address, answer: Answer) {
        let (node, id) = (to.node, to.job);
        let Some(Job { machine: Machine::Holds(holds), .. }) = self.nodes[node].jobs.get_mut(&id)
        else {
            return;
        };
        match answer {
            Answer::Prepared(ts) => {
                holds.made[to.part] = true;
                let all = holds.made.iter().all(|made| *made);
                self.nodes[node].hears(ts);
                if all && let Some(job) = self.nodes[node].jobs.remove(&id) {
                    self.commit_for(node, job.txn, What::Row, job.client);
                }
            }
            Answer::Refused(
                refused @ (Refused::Error(_) | Refused::Decided(_) | Refused::Expired),
            ) => self.give_up_holds(node, id, refused.into()),
            _ => {}
        }
    }

    fn give_up_holds(&mut self, node: usize, id: u64, error: KvError) {
        let Some(job) = self.nodes[node].jobs.remove(&id) else { return };
        self.end_holds(node, job.txn);
        if let Some(at) = job.client {
            self.end(at, Outcome::Failed(error));
        }
    }

    /// The holds of a transaction end, which is prepared no longer, or never was.
    fn end_holds(&mut self, node: usize, hold: TxnId) {
        let Some(Prepared { header, .. }) = self.prepared.get(&hold).cloned() else { return };
        let (mut out, id) = (Vec::new(), self.next_job());
        let commit = Commit::finish(header.clone(), Decision::Aborted, PATIENCE, &mut out);
        let machine = Machine::Parts(Box::new(commit));
        self.nodes[node].jobs.insert(id, Job { txn: hold, client: None, machine, errand: None });
        self.act_parts(node, id, &header, out);
    }

    /// Commits what is to be for a hold.
    fn commit_for(&mut self, node: usize, hold: TxnId, what: What, client: Option<usize>) {
        let Some(Prepared { header, writes, row_ts, .. }) = self.prepared.get(&hold).cloned()
        else {
            return;
        };
        let row = |value| Some(Row::from_static(value));
        let key = row_key(hold);
        let seen = InEngine(&self.engine).newest(&key).expect("memory");
        let seen = VersionTag::Newest(seen.map_or(row_ts, |version| version.ts.max(row_ts)));
        let never = VersionTag::Newest(Timestamp::MIN);
        let (value, expect) = match what {
            What::Row => (row(b"prepared"), never),
            What::Prevent => (row(b""), never),
            What::Finish | What::RollBack | What::Forget => (None, seen),
        };
        let mut all = match what {
            What::Finish => writes,
            _ => Vec::new(),
        };
        all.push(Write { key, value, expect });
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let parts = plan(all, Vec::new(), &ReadSet::default(), &self.spans());
        let errand = Errand { hold, what };
        let txn = TxnId(((node as u64 + 1) << 48) | self.number());
        if let Some(prepared) = self.prepared.get_mut(&hold) {
            prepared.attempts.push(txn);
        }
        let until = if what == What::Row { header.deadline } else { Timestamp::MAX };
        self.coordinate_errand(node, txn, parts, until, (client, errand));
    }

    /// A commit for a hold has ended.
    pub(super) fn errand_ended(
        &mut self,
        node: usize,
        (client, Errand { hold, what }): (Option<usize>, Errand),
        txn: TxnId,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Committed(ts) => {
                self.nodes[node].hears(ts);
                self.decided(txn, Decision::Committed(ts), "it was told");
                if what == What::Row
                    && let Some(prepared) = self.prepared.get_mut(&hold)
                {
                    prepared.row_ts = ts;
                }
                self.errand_done(node, client, hold, what);
            }
            Verdict::Failed(error) => {
                self.decided(txn, Decision::Aborted, "it was told");
                match what {
                    What::Row => {
                        self.end_holds(node, hold);
                        self.client_ends(client, Outcome::Failed(error));
                    }
                    What::Finish => self.finish_failed(node, client, (hold, txn), &error),
                    What::RollBack | What::Prevent | What::Forget => {}
                }
            }
            Verdict::Ambiguous => self.client_ends(client, Outcome::Unknown),
        }
    }

    fn errand_done(&mut self, node: usize, client: Option<usize>, hold: TxnId, what: What) {
        match what {
            What::Row => {
                self.figures.prepared += 1;
                // Perhaps its client goes away, and somebody else ends it.
                match client.filter(|_| self.rng.below(3) > 0) {
                    None => self.client_ends(client, Outcome::Unknown),
                    Some(_) => self.commit_for(node, hold, What::Finish, client),
                }
            }
            What::Finish => {
                self.end_holds(node, hold);
                self.acknowledge(client);
                self.client_ends(client, Outcome::Committed);
            }
            What::RollBack => self.end_holds(node, hold),
            What::Prevent => {
                self.end_holds(node, hold);
                self.commit_for(node, hold, What::Forget, None);
            }
            What::Forget => {}
        }
    }

    /// Has another attempt to end it left something that is open still, or ended it?
    fn is_being_ended(&self, hold: TxnId, own: TxnId) -> bool {
        let row = InEngine(&self.engine).newest(&row_key(hold)).expect("memory");
        let gone = row.is_none_or(|version| version.row.is_none());
        let mut others = self.prepared[&hold].attempts.iter().filter(|other| **other != own);
        let open = |txn: &TxnId| {
            let leaders = self.ranges.iter().map(|range| range.leader.as_ref());
            leaders.into_iter().any(|leader| leader.is_none_or(|leader| leader.seq.is_open(*txn)))
        };
        gone || others.any(open)
    }

    /// What is prepared can be committed: only who looks for it in the wrong place, gets no answer, or meets
    /// another attempt, tries again.
    fn finish_failed(
        &mut self,
        node: usize,
        client: Option<usize>,
        (hold, own): (TxnId, TxnId),
        error: &KvError,
    ) {
        let again = matches!(error, KvError::Unavailable { .. }) || self.is_being_ended(hold, own);
        if !again {
            let (txn, step) = (base_of(hold), self.step);
            let what = format!("step {step}: {txn} is prepared, and its commit fails with {error}");
            self.history.broken_promises.push(what);
            return self.client_ends(client, Outcome::Unknown);
        }
        // Otherwise the next operator will.
        if client.is_some() {
            self.commit_for(node, hold, What::Finish, client);
        }
    }

    fn client_ends(&mut self, client: Option<usize>, outcome: Outcome) {
        if let Some(at) = client {
            self.end(at, outcome);
        }
    }

    /// A leaseholder looks after its holds, and an operator after what is prepared.
    pub(super) fn look_after_holds(&mut self) {
        let index = below(&mut self.rng, self.ranges.len());
        let Some(leader) = &self.ranges[index].leader else { return };
        let (node, holds) = (leader.node, leader.seq.holds().map(|header| header.txn));
        let holds: Vec<TxnId> = holds.collect();
        if holds.is_empty() {
            return;
        }
        let hold = holds[below(&mut self.rng, holds.len())];
        let about =
            |job: &Job| job.txn == hold || job.errand.is_some_and(|errand| errand.hold == hold);
        // Nobody knows of another node's, but a prevention may fail who is being prepared.
        let calm = self.options.calm;
        let looked = self.nodes.iter().enumerate().filter(|(at, _)| calm || *at == node);
        if looked.flat_map(|(_, node)| node.jobs.values()).any(about) {
            return;
        }
        let row = InEngine(&self.engine).newest(&row_key(hold)).expect("memory");
        match row.map(|version| version.row) {
            Some(Some(row)) if !row.is_empty() => self.operate(node, hold),
            Some(_) => self.end_holds(node, hold),
            None => self.commit_for(node, hold, What::Prevent, None),
        }
    }

    /// Ends a prepared transaction whose client has gone.
    fn operate(&mut self, node: usize, hold: TxnId) {
        let running = self.clients.iter().filter_map(|client| client.running.as_ref());
        let claimed = self.nodes.iter().flat_map(|node| node.jobs.values());
        // Who ends it has locked its row.
        let ends = |what| matches!(what, What::Finish | What::RollBack);
        let mut claims = claimed.filter_map(|job| job.errand);
        if claims.any(|errand| errand.hold == hold && ends(errand.what))
            || running.map(|running| running.id).any(|id| id == base_of(hold))
        {
            return;
        }
        self.figures.operated += 1;
        let what = if self.rng.below(3) == 0 { What::RollBack } else { What::Finish };
        self.commit_for(node, hold, what, None);
    }

    /// Hands a commit for a hold over to a coordinator; a hold's is always one of parts.
    fn coordinate_errand(
        &mut self,
        node: usize,
        txn: TxnId,
        parts: Vec<meridian_kv::commit::Part>,
        until: Timestamp,
        (client, errand): (Option<usize>, Errand),
    ) {
        let sent = self.nodes[node].now(self.wall);
        let deadline = Timestamp(sent.0 + DEADLINE).min(until);
        let header = header_of(txn, gateway_of(node), deadline, &parts);
        let mut prepares = requests(&header, Isolation::ReadCommitted, sent, parts);
        if errand.what == What::Finish && self.options.bug != Some(Bug::FinishForgetsHold) {
            prepares.iter_mut().for_each(|request| request.behalf = Some(errand.hold));
        }
        let (mut out, id) = (Vec::new(), self.next_job());
        let machine = Machine::Parts(Box::new(Commit::begin(prepares, PATIENCE, &mut out)));
        self.nodes[node].jobs.insert(id, Job { txn, client, machine, errand: Some(errand) });
        self.act_parts(node, id, &header, out);
    }
}

/// The records of holds that a new leaseholder finds.
pub(super) fn records_of_holds(seq: &Sequencer) -> impl Iterator<Item = &Record> {
    seq.holds().flat_map(|header| {
        (0..header.participants.len()).filter_map(|own| seq.record((header.txn, own)))
    })
}

impl Leader {
    /// Makes a hold: the locks that its transaction has here are handed over, others taken if they are free.
    pub(super) fn hold(
        &mut self,
        now: Timestamp,
        from: Address,
        mut request: PrepareRequest,
        engine: &MemEngine,
    ) -> Option<Answer> {
        let txn = request.header.txn;
        let (session, owner) = (owner_of(base_of(txn)), owner_of(txn));
        let (mut handed, mut taken, mut free) = (Vec::new(), Vec::new(), true);
        if !self.seq.is_part_open((txn, request.own)) {
            for locked in &mut request.verify {
                if self.locks.hand_over(&locked.key, session, owner) != 0 {
                    handed.push(locked.key.clone());
                    locked.seen = Verify::HELD;
                    continue;
                }
                let (policy, waiter) = (WaitPolicy::NoWait, WaiterId(0));
                match self.locks.acquire(&locked.key, owner, locked.strength, policy, waiter) {
                    Acquire::Granted { before: 0 } => taken.push(locked.key.clone()),
                    Acquire::Granted { .. } | Acquire::Reentrant => {}
                    Acquire::Unavailable | Acquire::Queued => free = false,
                }
            }
        }
        let made = match free {
            true => self.seq.prepare(now, request, &InEngine(engine)),
            false => Err(KvError::CONCURRENT_UPDATE.into()),
        };
        match made {
            Err(refused) => {
                self.give_back(txn, taken);
                for key in handed {
                    self.locks.hand_over(&key, owner, session);
                }
                Some(Answer::Refused(refused))
            }
            Ok(PrepareAnswer::Durable(ts)) => Some(Answer::Prepared(ts)),
            Ok(PrepareAnswer::InFlight(_)) => None,
            Ok(PrepareAnswer::Propose(entry)) => {
                let answer = Answer::Prepared(entry.ts().expect("a record has one"));
                self.propose(entry, Some((from, Reply::Part(answer))));
                None
            }
        }
    }

    /// Has the hold in whose name a part is written this key's lock?
    pub(super) fn is_covered(&self, behalf: Option<TxnId>, key: &Key) -> bool {
        behalf.is_some_and(|hold| self.locks.held_by(key, owner_of(hold)) != 0)
    }
}

/// What a transaction has locked, so that holds can keep it.
pub(super) fn lock_of(key: Key, seen: Timestamp) -> Verify {
    Verify { key, strength: Strength::Update, seen }
}
