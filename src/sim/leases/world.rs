//! Time, the network, and what goes wrong.

use std::collections::BTreeMap;

use meridian_base::{NodeId, RangeId, Rng, Timestamp};
use meridian_kv::liveness::Persisted;

use super::checks::Checks;
use super::node::{MAX_OFFSET, Node, Packet, Wish};
use super::{LeaseBug, LeaseOptions, LeaseReport, Trouble};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// Everything is healed.
const HEALED: u64 = 7 * SECOND;
/// By then somebody leads every range: the longest support and its bound have passed (4 s, and 3 s
/// more for clocks that were ahead), an election has been held.
const LEADS_AGAIN: u64 = HEALED + 7 * SECOND;
const END: u64 = LEADS_AGAIN + SECOND;
/// Without faults, everybody is up by then.
const SETTLED: u64 = 3 * SECOND;

enum What {
    Tick(u64),
    Deliver {
        from: NodeId,
        clock: Timestamp,
        packet: Packet,
    },
    LivenessSynced(u64),
    VotesSynced(u64),
    /// With a bug: this gets to disk only now.
    Behind(u64, Persisted),
    Late {
        boot: u64,
        to: NodeId,
        range: RangeId,
        term: u64,
    },
    Resume,
    Restart,
    LogRecovers(u64),
}

pub(super) struct World {
    options: LeaseOptions,
    rng: Rng,
    time: u64,
    next: u64,
    /// By time and order of making: for which node.
    events: BTreeMap<(u64, u64), (NodeId, What)>,
    nodes: BTreeMap<NodeId, Node>,
    /// What a paused node has not got yet.
    held: BTreeMap<NodeId, Vec<What>>,
    cut: BTreeMap<(NodeId, NodeId), u64>,
    loss: f64,
    delay: u64,
    next_fault: u64,
    healed: bool,
    last_usable: BTreeMap<RangeId, u64>,
    checks: Checks,
}

impl World {
    pub(super) fn new(options: LeaseOptions) -> Self {
        let ids = (1..=options.nodes).map(NodeId);
        let nodes = ids.map(|id| (id, Node::new(id, options.nodes, options.bug)));
        Self {
            options,
            rng: Rng::seeded(options.seed),
            time: 0,
            next: 0,
            events: BTreeMap::new(),
            nodes: nodes.collect(),
            held: BTreeMap::new(),
            cut: BTreeMap::new(),
            loss: 0.0,
            delay: 3 * MS,
            next_fault: SECOND,
            healed: false,
            last_usable: BTreeMap::new(),
            checks: Checks::default(),
        }
    }

    pub(super) fn run(mut self) -> LeaseReport {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in &ids {
            self.set_clock(*id);
            self.start(*id);
        }
        let mut elections = 0;
        while let Some(((time, _), (node, what))) = self.events.pop_first() {
            self.time = time;
            if time >= END {
                break;
            }
            if self.options.trouble.is_harmless() && time >= SETTLED && elections == 0 {
                elections = self.checks.report.elections;
            }
            self.faults();
            self.checks.report.steps += 1;
            self.happens(node, what);
            self.look();
        }
        self.judge(elections);
        self.checks.report
    }

    fn judge(&mut self, elections: u64) {
        let held = self.checks.report.elections;
        if self.options.trouble.is_harmless() && held != elections {
            let what = format!("{} elections more than at the beginning", held - elections);
            self.checks.broken("no_needless_failover", what);
        }
        for range in 1..=self.options.ranges {
            let last = self.last_usable.get(&RangeId(range)).copied().unwrap_or(0);
            if last + SECOND < END {
                let state: Vec<_> =
                    self.nodes.values().map(|n| n.describe(self.time, range)).collect();
                let what = format!("nobody leads r{range} since {} ms: {state:#?}", last / MS);
                self.checks.broken("somebody_leads", what);
            }
        }
    }

    fn at(&mut self, time: u64, node: NodeId, what: What) {
        self.next += 1;
        self.events.insert((time, self.next), (node, what));
    }

    fn start(&mut self, id: NodeId) {
        let (time, ranges) = (self.time, self.options.ranges);
        let node = self.node(id);
        node.start(time, ranges);
        let boot = node.boots;
        self.at(time + 1, id, What::Tick(boot));
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("nodes stay")
    }

    fn happens(&mut self, id: NodeId, what: What) {
        let time = self.time;
        if self.node(id).paused && !matches!(what, What::Resume | What::Restart) {
            return self.held.entry(id).or_default().push(what);
        }
        let boot = self.node(id).boots;
        let running = self.node(id).process.is_some();
        let wishes = match what {
            What::Tick(of) if of == boot && running => {
                let jitter = self.rng.below(2 * MS);
                self.at(time + 20 * MS + jitter, id, What::Tick(boot));
                let serves = self.rng.chance(0.3);
                self.node(id).tick(time, serves)
            }
            What::Deliver { from, clock, packet } if running => {
                self.node(id).receive(time, from, clock, packet)
            }
            What::LivenessSynced(of) if of == boot && running => {
                self.node(id).liveness_synced(time)
            }
            What::VotesSynced(of) if of == boot && running => self.node(id).votes_synced(),
            What::Behind(of, persisted) if of == boot && running => {
                self.node(id).sync_behind(persisted);
                Vec::new()
            }
            What::Late { boot: of, to, range, term } if of == boot && running => {
                self.node(id).late(to, range, term)
            }
            What::Resume => return self.resume(id),
            What::Restart if !running => return self.start(id),
            What::LogRecovers(of) if of == boot => self.node(id).log_stalled(time, false),
            _ => Vec::new(),
        };
        for wish in wishes {
            self.grant(id, boot, wish);
        }
    }

    /// What came meanwhile is read first, then the process notices what time it is.
    fn resume(&mut self, id: NodeId) {
        self.node(id).paused = false;
        let mut held = self.held.remove(&id).unwrap_or_default();
        held.sort_by_key(|what| matches!(what, What::Tick(_)));
        for what in held {
            self.happens(id, what);
        }
    }

    fn grant(&mut self, id: NodeId, boot: u64, wish: Wish) {
        let sync = self.time + 100 + self.rng.below(if self.healed { 5 } else { 30 } * MS);
        match wish {
            Wish::Send(to, packet) => self.send(id, to, packet),
            Wish::SyncLiveness if self.options.bug == Some(LeaseBug::ActsBeforeSync) => {
                let wanted = self.node(id).wanted().expect("it is running");
                self.at(sync + 1_500 * MS, id, What::Behind(boot, wanted));
            }
            Wish::SyncLiveness => self.at(sync, id, What::LivenessSynced(boot)),
            Wish::SyncVotes => self.at(sync, id, What::VotesSynced(boot)),
            Wish::AcknowledgeLate(to, range, term) => {
                let late = self.time + self.rng.below(1_500 * MS);
                self.at(late, id, What::Late { boot, to, range, term });
            }
            Wish::Elected(range, term, start) => self.checks.elected(range, term, id, start),
            Wish::Served(range, term, at) => self.checks.serves(range, term, at),
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, packet: Packet) {
        let until = self.cut.get(&(from, to)).copied().unwrap_or(0);
        if self.time < until || self.rng.chance(self.loss) {
            return;
        }
        let time = self.time;
        let clock = self.node(from).hlc(time);
        let copies = if self.rng.chance(0.02) { 2 } else { 1 };
        for _ in 0..copies {
            let mut arrives = time + 50 + self.rng.below(self.delay);
            if !self.healed && self.options.trouble == Trouble::Everything && self.rng.chance(0.01)
            {
                arrives += self.rng.below(SECOND);
            }
            self.at(arrives, to, What::Deliver { from, clock, packet: packet.clone() });
        }
    }

    fn any_node(&mut self) -> NodeId {
        NodeId(1 + self.rng.below(self.options.nodes))
    }

    fn set_clock(&mut self, id: NodeId) {
        let bound = u64::try_from(MAX_OFFSET.as_micros()).expect("short");
        let range = if self.options.good_clocks || self.healed { bound } else { 6 * SECOND };
        let offset = i64::try_from(self.rng.below(range)).expect("short");
        self.node(id).offset = offset - i64::try_from(range / 2).expect("short");
    }

    fn faults(&mut self) {
        if self.time < self.next_fault || self.healed {
            return;
        }
        match self.options.trouble {
            Trouble::Nothing => self.next_fault = END,
            Trouble::AllStall => {
                self.next_fault = if self.time < 5 * SECOND { 5 * SECOND } else { END };
                if self.next_fault == END {
                    let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
                    for id in ids {
                        let jitter = self.rng.below(20 * MS);
                        self.pause(id, SECOND + jitter);
                    }
                }
            }
            Trouble::Everything | Trouble::SharedVoter if self.time >= HEALED => self.heal(),
            Trouble::SharedVoter => {
                self.next_fault = self.time + 1_900 * MS + self.rng.below(900 * MS);
                self.tempt();
            }
            Trouble::Everything => {
                self.next_fault = self.time + self.rng.below(700 * MS);
                self.fault();
            }
        }
    }

    fn fault(&mut self) {
        let (node, other) = (self.any_node(), self.any_node());
        let until = self.time + self.rng.below(3 * SECOND);
        match self.rng.below(9) {
            0 | 1 => {
                self.checks.report.crashes += 1;
                self.node(node).process = None;
                let restart = self.time + self.rng.below(1_500 * MS);
                self.at(restart, node, What::Restart);
            }
            2 => {
                let pause = self.rng.below(2_500 * MS);
                self.pause(node, pause);
            }
            3 => drop(self.cut.insert((node, other), until)),
            4 => self.cut.extend([((node, other), until), ((other, node), until)]),
            5 => {
                // Cut off from all, in one direction or both.
                let directions = self.rng.below(3);
                for id in (1..=self.options.nodes).map(NodeId) {
                    if directions != 0 {
                        self.cut.insert((node, id), until);
                    }
                    if directions != 1 {
                        self.cut.insert((id, node), until);
                    }
                }
            }
            6 => self.set_clock(node),
            7 => {
                self.log_stalled(node, true);
                let boot = self.node(node).boots;
                self.at(until, node, What::LogRecovers(boot));
            }
            _ => {
                self.loss = [0.0, 0.0, 0.1, 0.3][usize::try_from(self.rng.below(4)).expect("few")];
                self.delay = [MS, 5 * MS, 50 * MS, 150 * MS]
                    [usize::try_from(self.rng.below(4)).expect("few")];
            }
        }
    }

    fn log_stalled(&mut self, id: NodeId, stalled: bool) {
        let time = self.time;
        let node = self.node(id);
        let (boot, wishes) = (node.boots, node.log_stalled(time, stalled));
        for wish in wishes {
            self.grant(id, boot, wish);
        }
    }

    /// Two that would lead hear nothing of each other, and what they share forgets, or one of them
    /// is out of breath for a while.
    fn tempt(&mut self) {
        let (one, two, shared) = (NodeId(1), NodeId(2), NodeId(3));
        self.cut.extend([((one, two), END), ((two, one), END)]);
        let victim = if self.rng.chance(0.5) { one } else { two };
        let until = self.time + 1_500 * MS + self.rng.below(1_000 * MS);
        if self.rng.chance(0.5) {
            self.node(shared).process = None;
            let restart = self.time + self.rng.below(300 * MS);
            self.at(restart, shared, What::Restart);
            self.cut.extend([((victim, shared), until), ((shared, victim), until)]);
        } else {
            self.log_stalled(victim, true);
            let boot = self.node(victim).boots;
            self.at(until, victim, What::LogRecovers(boot));
        }
    }

    fn pause(&mut self, node: NodeId, length: u64) {
        self.node(node).paused = true;
        self.at(self.time + length, node, What::Resume);
    }

    fn heal(&mut self) {
        self.healed = true;
        self.cut.clear();
        (self.loss, self.delay) = (0.0, 3 * MS);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.set_clock(id);
            self.log_stalled(id, false);
            if self.node(id).process.is_none() {
                self.start(id);
            }
            self.resume(id);
        }
    }

    /// Who holds a usable lease at this very moment.
    fn look(&mut self) {
        let mut all = Vec::new();
        for (id, node) in self.nodes.iter().filter(|(_, node)| node.leads()) {
            let Some((around, ranges)) = node.around(self.time) else { continue };
            let usable = ranges.iter().filter(|r| r.lead.is_some() && r.usable(&around));
            all.extend(usable.map(|range| (range.id, *id)));
        }
        for (range, _) in &all {
            let holders: Vec<_> = all.iter().filter(|(r, _)| r == range).map(|(_, n)| n).collect();
            let range = *range;
            if self.healed {
                let since = self.last_usable.get(&range).copied().unwrap_or(0).max(HEALED);
                let gap = (self.time - since) / MS;
                self.checks.report.recovery_ms = self.checks.report.recovery_ms.max(gap);
            }
            self.last_usable.insert(range, self.time);
            if holders.len() > 1 && self.options.good_clocks {
                let what = format!("{range} at {} ms: {holders:?}", self.time / MS);
                self.checks.broken("one_usable_lease", what);
            }
        }
    }
}
