//! What happens at a gateway: coordinators, recoveries, and what they tell.

use meridian_base::NodeId;
use meridian_kv::api::{Isolation, Key, Timestamp, TxnId};
use meridian_kv::commit::{
    Action, Answer, Commit, Message, OnePhase, OnePhaseAction, Part, Patience, Verdict, requests,
};
use meridian_kv::range::{Gateway, Header, Origin, Outcome as Decision, Refused, Status};

use super::Bug;
use super::net::{Address, Packet, Reply, Request, Whole};
use super::node::{Job, Machine};
use super::range::validated;
use super::world::World;
use crate::history::{Event, Outcome};
use crate::node::below;

pub(super) const PATIENCE: Patience = Patience { prepare: 6, ask: 40 };

/// How long after the gateway's clock a commit may still get a timestamp.
pub(super) const DEADLINE: u64 = 2_500;

/// How long after that the outcome is remembered.
const MEMORY: u64 = 2_500;

/// Nodes are numbered from one, as in a cluster.
pub(super) fn gateway_of(node: usize) -> Gateway {
    Gateway { node: NodeId(node as u64 + 1), epoch: 0 }
}

/// What is said of a transaction that is prepared until the deadline, if at all.
pub(super) fn header_of(
    txn: TxnId,
    gateway: Gateway,
    deadline: Timestamp,
    parts: &[Part],
) -> Header {
    let participants = parts.iter().map(|part| part.key.clone()).collect::<Vec<Key>>().into();
    Header { txn, gateway, deadline, expiry: Timestamp(deadline.0 + MEMORY), participants }
}

impl World {
    /// Hands a transaction over to a coordinator.
    pub(super) fn coordinate(
        &mut self,
        node: usize,
        txn: TxnId,
        isolation: Isolation,
        read_ts: Timestamp,
        parts: Vec<Part>,
    ) {
        let sent = self.nodes[node].now(self.wall);
        let (life, memory) = match self.options.bug {
            Some(Bug::MarkersGoEarly) => (150, 0),
            _ => (DEADLINE, MEMORY),
        };
        let deadline = Timestamp(sent.0 + life);
        let expiry = Timestamp(deadline.0 + memory);
        let header = Header { expiry, ..header_of(txn, gateway_of(node), deadline, &parts) };
        let client = self.client_of(txn);
        let id = self.next_job();
        if parts.len() == 1 {
            let Part { writes, verify, reads, .. } = parts.into_iter().next().expect("one part");
            let reads = Some(reads).filter(|reads| validated(isolation, Some(reads)));
            let origin = Origin { txn, sent, deadline, verify };
            let whole = Whole { isolation, read_ts, writes, reads, origin, header };
            let mut out = Vec::new();
            let machine = Machine::Whole(OnePhase::begin(PATIENCE, &mut out), Box::new(whole));
            self.nodes[node].jobs.insert(id, Job { txn, client, machine, errand: None });
            return self.act_whole(node, id, out);
        }
        let mut out = Vec::new();
        let prepares = requests(&header, isolation, read_ts, parts);
        let commit = Commit::begin(prepares, PATIENCE, &mut out);
        let machine = Machine::Parts(Box::new(commit));
        self.nodes[node].jobs.insert(id, Job { txn, client, machine, errand: None });
        self.act_parts(node, id, &header, out);
    }

    /// Somebody takes care of what has been waiting at a leader for long.
    pub(super) fn recover(&mut self, range: usize) {
        if self.options.bug == Some(Bug::NoRecovery) {
            return;
        }
        let Some(leader) = &self.ranges[range].leader else { return };
        let node = leader.node;
        let patience = self.rng.below(400);
        let since = Timestamp(self.wall.saturating_sub(patience));
        let overdue: Vec<_> = leader.seq.overdue(since).collect();
        if overdue.is_empty() {
            return;
        }
        let (header, _, outcome) = overdue[below(&mut self.rng, overdue.len())].clone();
        let txn = header.txn;
        if self.nodes[node].jobs.values().any(|job| job.txn == txn) {
            return;
        }
        self.figures.recoveries += 1;
        let mut out = Vec::new();
        let commit = match outcome {
            None => Commit::recover(header.clone(), PATIENCE, &mut out),
            Some(outcome) => Commit::finish(header.clone(), outcome, PATIENCE, &mut out),
        };
        let id = self.next_job();
        let machine = Machine::Parts(Box::new(commit));
        self.nodes[node].jobs.insert(id, Job { txn, client: None, machine, errand: None });
        self.act_parts(node, id, &header, out);
    }

    /// An answer has arrived.
    pub(super) fn receive(&mut self, to: Address, reply: Reply) {
        let (node, id) = (to.node, to.job);
        let Some(job) = self.nodes[node].jobs.get_mut(&id) else { return };
        match (&mut job.machine, reply) {
            (Machine::Whole(machine, _), Reply::Whole(answer)) => {
                let mut out = Vec::new();
                machine.answer(answer, &mut out);
                self.act_whole(node, id, out);
            }
            (Machine::Parts(machine), Reply::Part(answer)) => {
                let mut out = Vec::new();
                let refused = matches!(&answer, Answer::Refused(Refused::Error(_)));
                machine.answer(to.part, answer, &mut out);
                if refused && self.options.bug == Some(Bug::RefusalIsAbort) {
                    out.clear();
                    let aborted = Answer::Status(Status::Ended(Decision::Aborted));
                    machine.answer(to.part, aborted, &mut out);
                    out.truncate(1);
                    out.push(Action::Done);
                }
                let header = machine.header().clone();
                self.act_parts(node, id, &header, out);
            }
            (Machine::Holds(_), Reply::Part(answer)) => self.hear_of_hold(to, answer),
            _ => unreachable!("a range answers what it was asked"),
        }
    }

    /// Time passes for one coordinator.
    pub(super) fn tick(&mut self, node: usize) {
        let jobs: Vec<u64> = self.nodes[node].jobs.keys().copied().collect();
        if jobs.is_empty() {
            return;
        }
        let id = jobs[below(&mut self.rng, jobs.len())];
        let job = self.nodes[node].jobs.get_mut(&id).expect("it was listed");
        match &mut job.machine {
            Machine::Whole(machine, _) => {
                let mut out = Vec::new();
                machine.tick(&mut out);
                self.act_whole(node, id, out);
            }
            Machine::Parts(machine) => {
                let mut out = Vec::new();
                machine.tick(&mut out);
                let header = machine.header().clone();
                self.act_parts(node, id, &header, out);
            }
            Machine::Holds(_) => self.tick_holds(node, id),
        }
    }

    fn act_whole(&mut self, node: usize, id: u64, actions: Vec<OnePhaseAction>) {
        let wall = self.wall;
        if let [OnePhaseAction::CommitAnew(floor)] = actions[..] {
            self.nodes[node].hears(floor);
            let now = self.nodes[node].now(wall);
            if let Some(Job { machine: Machine::Whole(_, whole), .. }) =
                self.nodes[node].jobs.get_mut(&id)
            {
                whole.origin.sent = now;
            }
        }
        let Some(Job { machine: Machine::Whole(_, whole), txn, client, .. }) =
            self.nodes[node].jobs.get(&id)
        else {
            return;
        };
        let (whole, txn, client) = (whole.clone(), *txn, *client);
        let from = Address { node, job: id, part: 0 };
        let key = whole.header.participants[0].clone();
        for action in actions {
            let request = match action {
                OnePhaseAction::Commit | OnePhaseAction::CommitAnew(_) => {
                    Request::Commit(whole.clone())
                }
                OnePhaseAction::Ask => Request::Outcome(whole.clone()),
                OnePhaseAction::Tell(verdict) => {
                    if matches!(verdict, Verdict::Committed(_)) {
                        self.figures.one_phase += 1;
                    }
                    self.nodes[node].jobs.remove(&id);
                    self.tell(node, client, txn, verdict);
                    continue;
                }
            };
            let packet = Packet::ToRange { key: key.clone(), from, request };
            self.net.send(&mut self.rng, self.step, packet);
        }
    }

    pub(super) fn act_parts(
        &mut self,
        node: usize,
        id: u64,
        header: &Header,
        actions: Vec<Action>,
    ) {
        let Some(job) = self.nodes[node].jobs.get(&id) else { return };
        let (txn, client, errand) = (job.txn, job.client, job.errand);
        for action in actions {
            match action {
                Action::Send { to, message } => {
                    let (from, key) =
                        (Address { node, job: id, part: to }, header.participants[to].clone());
                    let request = Request::Part(header.clone(), message);
                    self.net.send(&mut self.rng, self.step, Packet::ToRange { key, from, request });
                }
                Action::Tell(verdict) => match errand {
                    Some(errand) => {
                        // Its client waits for the next one.
                        self.nodes[node].jobs.entry(id).and_modify(|job| job.client = None);
                        self.errand_ended(node, (client, errand), txn, verdict);
                    }
                    None => {
                        if matches!(verdict, Verdict::Committed(_)) {
                            self.figures.distributed += 1;
                        }
                        self.tell(node, client, txn, verdict);
                    }
                },
                Action::Done => {
                    self.nodes[node].jobs.remove(&id);
                }
            }
        }
    }

    /// The client learns how its transaction ended.
    fn tell(&mut self, node: usize, client: Option<usize>, txn: TxnId, verdict: Verdict) {
        let Some(at) = client else { return };
        let outcome = match verdict {
            Verdict::Committed(ts) => {
                self.nodes[node].hears(ts);
                self.decided(txn, Decision::Committed(ts), "the client was told");
                Outcome::Committed
            }
            Verdict::Failed(error) => {
                self.decided(txn, Decision::Aborted, "the client was told");
                Outcome::Failed(error)
            }
            Verdict::Ambiguous => {
                self.figures.unknown += 1;
                Outcome::Unknown
            }
        };
        let running = self.clients[at].running.as_ref().filter(|running| running.id == txn);
        assert!(running.is_some(), "a client waits for its commit");
        if outcome == Outcome::Committed {
            self.acknowledge(client);
        }
        self.end(at, outcome);
    }

    /// A client is told that its transaction is committed: what it has appended must be seen from now on.
    pub(super) fn acknowledge(&mut self, client: Option<usize>) {
        let running = client.and_then(|at| self.clients[at].running.as_ref());
        for event in running.iter().flat_map(|running| &running.record.events) {
            if let Event::Append { list, value } = event {
                self.acknowledged.push((self.step, *list, *value));
            }
        }
    }

    /// The client of a transaction, if it still waits for it.
    fn client_of(&self, txn: TxnId) -> Option<usize> {
        let of = |running: &super::client::Running| running.id == txn;
        let waiting = self.clients.iter().position(|c| c.running.as_ref().is_some_and(of));
        waiting.or(self.stepping)
    }

    /// Delivers one message that has arrived.
    pub(super) fn deliver(&mut self) {
        match self.net.arrived(&mut self.rng, self.step) {
            Some(Packet::ToJob { to, reply }) if self.nodes[to.node].alive => {
                self.receive(to, reply);
            }
            None | Some(Packet::ToJob { .. }) => {}
            Some(Packet::ToRange { key, from, request }) => {
                let index = self.range_index(&key);
                self.renew_lease(index);
                let (bug, wall) = (self.options.bug, self.wall);
                let range = &mut self.ranges[index];
                let Some(leader) = &mut range.leader else { return };
                let node = leader.node;
                if let Request::Part(_, Message::Resolve(Decision::Committed(ts))) = &request {
                    self.nodes[node].hears(*ts);
                }
                let now = self.nodes[node].now(wall);
                let reply = leader.handle(now, &range.span, from, request, &self.engine, bug);
                let last = leader.seq.last();
                self.nodes[node].hears(last);
                if let Some(reply) = reply {
                    self.answer(from, reply);
                }
            }
        }
    }

    pub(super) fn answer(&mut self, to: Address, reply: Reply) {
        self.net.send(&mut self.rng, self.step, Packet::ToJob { to, reply });
    }
}
