//! The scheduler of the cluster: draws who moves next, until all clients are through and all is quiet.

use std::collections::BTreeMap;

use meridian_base::{Rng, Span};
use meridian_kv::api::{Isolation, Key, Row, Timestamp, TxnId};
use meridian_kv::deadlock::cluster::Cycle;
use meridian_kv::locks::{Grant, WaiterId};
use meridian_kv::range::{CommitRequest, LogEntry, Newest, Outcome as Decision};
use meridian_kv::txn::{VersionTag, Write};
use meridian_storage::MemEngine;

use super::client::{Client, Running, Standing, Step};
use super::followers::Followers;
use super::holds::Prepared;
use super::net::Net;
use super::node::{Node, OFFSET_MAX};
use super::range::{Landed, Range, is_settled};
use super::{Bug, Figures, Options};
use crate::client::{list, number};
use crate::history::{History, Outcome};
use crate::invariants::{self, Violation};
use crate::node::{InEngine, below};
use crate::script::{
    ACCOUNTS, Author, LISTS, REGISTERS, START_BALANCE, account_key, list_key, register_key,
};

/// After this the world heals, if clients are still at work.
const CHAOS_STEPS_MAX: u64 = 12_000;

/// Steps after which a run that isn't done counts as stuck.
const STEPS_MAX: u64 = 60_000;

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What was seen.
    pub history: History,
    /// What must not have been.
    pub violations: Vec<Violation>,
    /// What happened.
    pub figures: Figures,
}

/// Everything there is.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) options: Options,
    pub(super) wall: u64,
    pub(super) step: u64,
    pub(super) nodes: Vec<Node>,
    /// By key, without gaps.
    pub(super) ranges: Vec<Range>,
    /// What has landed, of all ranges.
    pub(super) engine: MemEngine,
    pub(super) net: Net,
    pub(super) clients: Vec<Client>,
    /// The client whose step it is; its transaction isn't in its place.
    pub(super) stepping: Option<usize>,
    pub(super) suspects: Vec<Cycle>,
    pub(super) history: History,
    pub(super) figures: Figures,
    pub(super) followers: Followers,
    /// Appends that clients were told are committed: when, which list, what.
    pub(super) acknowledged: Vec<(u64, u8, u32)>,
    decisions: BTreeMap<TxnId, Decision>,
    author: Author,
    next: u64,
    pub(super) prepared: BTreeMap<TxnId, Prepared>,
}

/// Runs one seed to its end and judges it.
pub fn run(options: Options) -> Report {
    let mut world = World::new(options);
    world.fill_accounts();
    while world.busy() && world.step < STEPS_MAX {
        world.step += 1;
        world.wall += world.rng.below(3);
        world.advance();
        world.follow();
        if world.step.is_multiple_of(4) {
            world.check_machines();
        }
    }
    world.finish();
    let violations = invariants::check(&world.history);
    Report { history: world.history, violations, figures: world.figures }
}

impl World {
    fn new(options: Options) -> World {
        let mut rng = Rng::seeded(options.seed);
        let nodes = (0..options.nodes).map(|_| Node::new(rng.below(OFFSET_MAX))).collect();
        let bounds = [account_key(2), list_key(0), list_key(2), register_key(0)];
        let starts = std::iter::once(Key::new()).chain(bounds.clone());
        let ends = bounds.into_iter().chain([Key::new()]);
        let spans: Vec<Span> = starts.zip(ends).map(|(start, end)| Span { start, end }).collect();
        let followers = Followers::new(options.seed, options.nodes, spans.iter().cloned());
        let ranges = spans.into_iter().enumerate().map(|(log, span)| Range::new(span, log));
        let ranges = ranges.collect();
        let clients = (0..options.clients).map(|n| Client {
            gateway: n % options.nodes,
            left: options.txns_per_client,
            running: None,
        });
        let money = START_BALANCE * i64::from(ACCOUNTS);
        World {
            rng,
            options,
            wall: 1_000,
            step: 0,
            nodes,
            ranges,
            engine: MemEngine::new(),
            net: Net::default(),
            clients: clients.collect(),
            stepping: None,
            suspects: Vec::new(),
            history: History { money, clustered: true, ..History::default() },
            figures: Figures::default(),
            followers,
            acknowledged: Vec::new(),
            decisions: BTreeMap::new(),
            author: Author::new(options.isolation),
            next: 1,
            prepared: BTreeMap::new(),
        }
    }

    fn fill_accounts(&mut self) {
        while self.ranges.iter().any(|range| range.leader.is_none()) {
            self.elect();
        }
        for account in 0..ACCOUNTS {
            let key = account_key(account);
            let index = self.range_index(&key);
            let value = Some(Row::copy_from_slice(&START_BALANCE.to_le_bytes()));
            let writes = vec![Write { key, value, expect: VersionTag::Newest(Timestamp::MIN) }];
            let (isolation, read_ts) = (Isolation::ReadCommitted, Timestamp::MIN);
            let (runs, reads, origin) = (Vec::new(), None, None);
            let request = CommitRequest { isolation, read_ts, writes, runs, reads, origin };
            let leader = self.ranges[index].leader.as_mut().expect("all have been elected");
            let now = self.nodes[leader.node].now(self.wall);
            let command = leader.seq.sequence(now, request, &InEngine(&self.engine));
            leader.propose(LogEntry::Commit(command.expect("nothing was there")), None);
            self.ranges[index].land(&self.engine);
        }
    }

    fn busy(&self) -> bool {
        let at_work = |client: &Client| client.left > 0 || client.running.is_some();
        let open = |range: &Range| range.leader.as_ref().is_none_or(|leader| !is_settled(leader));
        self.clients.iter().any(at_work)
            || self.ranges.iter().any(open)
            || self.nodes.iter().any(|node| !node.jobs.is_empty())
            || !self.net.is_empty()
    }

    fn advance(&mut self) {
        let over = self.clients.iter().all(|client| client.left == 0 && client.running.is_none());
        if !self.net.healed && (over || self.step > CHAOS_STEPS_MAX) {
            self.net.healed = true;
            self.restart();
        }
        let chaos = !self.net.healed;
        match self.rng.below(200) {
            0..=79 => self.step_client(),
            80..=129 => self.deliver(),
            130..=161 if !self.options.slow_log || self.rng.below(5) == 0 => self.land(),
            162..=171 => {
                let node = below(&mut self.rng, self.nodes.len());
                self.tick(node);
            }
            172..=175 => {
                let range = below(&mut self.rng, self.ranges.len());
                self.recover(range);
            }
            176 | 177 => self.collect(),
            178 => self.look_after_holds(),
            179..=184 => self.elect(),
            185..=189 => self.check_deadlocks(),
            190..=194 => self.reshape(),
            195 if chaos && self.rng.below(3) == 0 => self.move_lease(),
            196 if chaos
                && !self.options.calm
                && self.rng.below(10) == 0
                && self.figures.crashes < self.options.crashes_max =>
            {
                self.crash();
            }
            197 if self.rng.below(3) == 0 => self.restart(),
            198 if chaos && !self.options.calm && self.rng.below(4) == 0 => self.lose_coordinator(),
            _ => {}
        }
    }

    fn step_client(&mut self) {
        let at = below(&mut self.rng, self.clients.len());
        let gateway = self.clients[at].gateway;
        if !self.nodes[gateway].alive {
            return;
        }
        let Some(mut running) = self.clients[at].running.take() else {
            if self.clients[at].left > 0 {
                self.clients[at].left -= 1;
                let id = TxnId(((gateway as u64 + 1) << 48) | self.number());
                let script = self.author.script(&mut self.rng);
                self.clients[at].running = Some(Running::new(id, script, self.step));
            }
            return;
        };
        let mut step = Step::Goes;
        if running.standing == Standing::Ready {
            self.stepping = Some(at);
            step = self.run_client(gateway, &mut running);
            self.stepping = None;
        }
        self.clients[at].running = Some(running);
        if let Step::Ends(outcome) = step {
            self.end(at, outcome);
        }
    }

    /// A transaction is over for its client. Locks stay where its fate is open.
    pub(super) fn end(&mut self, at: usize, outcome: Outcome) {
        let Some(running) = self.clients[at].running.take() else { return };
        let mut grants = Vec::new();
        for leader in self.ranges.iter_mut().filter_map(|range| range.leader.as_mut()) {
            if let Standing::Waits { key, waiter } = &running.standing {
                leader.locks.cancel(key, *waiter, &mut grants);
            }
            leader.release(running.id, &mut grants);
        }
        let mut record = running.record;
        record.ended = (outcome != Outcome::Unknown).then_some(self.step);
        record.outcome = outcome;
        self.history.txns.push(record);
        self.hand_on(grants);
    }

    pub(super) fn hand_on(&mut self, grants: Vec<Grant<Key>>) {
        for grant in grants {
            for running in self.clients.iter_mut().filter_map(|c| c.running.as_mut()) {
                if matches!(&running.standing, Standing::Waits { waiter, .. } if *waiter == grant.waiter)
                {
                    running.granted(&grant.key);
                }
            }
        }
    }

    /// The oldest proposal of some range lands.
    fn land(&mut self) {
        let waiting = |range: &Range| range.leader.as_ref().is_some_and(|l| !l.tail.is_empty());
        let ranges: Vec<usize> =
            (0..self.ranges.len()).filter(|at| waiting(&self.ranges[*at])).collect();
        if ranges.is_empty() {
            return;
        }
        let index = ranges[below(&mut self.rng, ranges.len())];
        let landed = self.ranges[index].land(&self.engine);
        let Landed { entry, answer, grants } = landed.expect("something was proposed");
        if let LogEntry::Resolve(resolve) = &entry
            && self.options.bug == Some(Bug::MarkersGoEarly)
            && let Some(leader) = &mut self.ranges[index].leader
        {
            leader.seq.settle(resolve.marker.header.txn);
        }
        self.note_landed(&entry);
        self.hand_on(grants);
        if let Some((to, reply)) = answer {
            self.answer(to, reply);
        }
    }

    fn collect(&mut self) {
        let index = below(&mut self.rng, self.ranges.len());
        self.renew_lease(index);
        let wall = self.wall;
        let Some(leader) = &mut self.ranges[index].leader else { return };
        let now = self.nodes[leader.node].now(wall);
        if let Some(entry) = leader.seq.collect(now, 5) {
            leader.propose(entry, None);
        }
    }

    /// Takes note of an outcome, which must be the only one that the transaction has.
    pub(super) fn decided(&mut self, txn: TxnId, outcome: Decision, how: &str) {
        let known = *self.decisions.entry(txn).or_insert(outcome);
        if known != outcome {
            let step = self.step;
            let what = format!("{txn}: {known:?}, but at step {step} {how}: {outcome:?}");
            self.history.contradictions.push(what);
        }
    }

    fn check_machines(&mut self) {
        let leaders = self.ranges.iter().filter_map(|range| range.leader.as_ref());
        for leader in leaders {
            let checks = [leader.seq.check(), leader.locks.check()];
            for error in checks.into_iter().filter_map(Result::err) {
                self.history.broken_machines.push(format!("step {}: {error}", self.step));
            }
        }
    }

    fn finish(&mut self) {
        for client in &mut self.clients {
            if let Some(running) = client.running.take() {
                self.history.stuck.push(format!("{} {:?}", running.id, running.standing));
                self.history.txns.push(running.record);
            }
        }
        for range in &self.ranges {
            let open = range.leader.iter().flat_map(|leader| leader.seq.records());
            let open: Vec<TxnId> = open.map(|record| record.header.txn).collect();
            if !open.is_empty() {
                self.history.stuck.push(format!("{:?} has records of {open:?}", range.span));
            }
            let locked = range.leader.as_ref().is_some_and(|leader| !leader.locks.is_empty());
            if self.history.stuck.is_empty() && locked {
                self.history.stuck.push(format!("{:?}: locks are held by nobody", range.span));
            }
        }
        let newest = |key: &[u8]| {
            let version = InEngine(&self.engine).newest(key).expect("memory");
            version.and_then(|version| version.row)
        };
        self.history.lists = (0..LISTS).map(|l| (l, list(newest(&list_key(l)).as_ref()))).collect();
        self.history.registers = (0..REGISTERS)
            .map(|r| {
                let value = number(newest(&register_key(r)).as_ref());
                (r, u32::try_from(value).expect("values are small"))
            })
            .collect();
        let balances = (0..ACCOUNTS).map(|a| number(newest(&account_key(a)).as_ref()));
        self.history.money_at_end = balances.sum();
        self.judge_followers();
    }

    pub(super) fn range_index(&self, key: &[u8]) -> usize {
        self.ranges.partition_point(|range| range.span.start[..] <= *key).max(1) - 1
    }

    pub(super) fn range_of(&self, key: &[u8]) -> &Range {
        &self.ranges[self.range_index(key)]
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn next_waiter(&mut self) -> WaiterId {
        WaiterId(self.number())
    }

    pub(super) fn next_job(&mut self) -> u64 {
        self.number()
    }
}
