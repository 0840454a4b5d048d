//! The world: what is, what is under way, and one step after another.

use std::collections::{BTreeMap, BTreeSet};

use meridian_base::{NodeId, RangeId, Rng, Span};
use meridian_kv::api::Key;
use meridian_kv::placement::{
    Act, Action, Locality, Node, Nodes, Plan, Range, Running, Settings, View, plan,
};

use super::invariants::{self, Change};
use super::{PlacementBug, PlacementOptions, PlacementReport};
use crate::invariants::Violation;

pub(super) const STEP: u64 = 10_000_000;
pub(super) const MIB: u64 = 1 << 20;
/// Steps in which the planner must have come to an end.
const SETTLE_MAX: u64 = 500;

/// A change of members under way.
pub(super) struct Job {
    pub(super) running: Running,
    /// The members that it was planned for.
    from: Nodes,
    wanted: usize,
    left: u64,
    /// Planned when the world stood still already.
    since_calm: bool,
}

pub(super) struct World {
    pub(super) options: PlacementOptions,
    pub(super) rng: Rng,
    pub(super) settings: Settings,
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) ranges: Vec<Range>,
    pub(super) jobs: Vec<Job>,
    pub(super) report: PlacementReport,
    pub(super) next_node: u64,
    pub(super) next_range: u64,
    pub(super) quiet: bool,
    /// Who got a copy of what, since the world stands still.
    pub(super) taken: BTreeSet<(RangeId, NodeId)>,
}

pub(super) fn key(at: u64) -> Key {
    Key::copy_from_slice(&at.to_be_bytes())
}

pub(super) fn number(key: &[u8]) -> u64 {
    key.try_into().map_or(u64::MAX, u64::from_be_bytes)
}

impl World {
    pub(super) fn new(options: PlacementOptions) -> World {
        let mut world = World {
            options,
            rng: Rng::seeded(options.seed),
            // Its loads are smaller than real ones.
            settings: Settings { split_load: 2_500, ..Settings::default() },
            now: 3_600_000_000,
            nodes: Vec::new(),
            ranges: Vec::new(),
            jobs: Vec::new(),
            report: PlacementReport::default(),
            next_node: 1,
            next_range: 1,
            quiet: false,
            taken: BTreeSet::new(),
        };
        for _ in 0..options.nodes {
            world.join();
        }
        let replicas = world.settings.default_zone.replicas as u64;
        for at in 0..options.ranges {
            world.found(at, replicas);
        }
        if options.bug == Some(PlacementBug::NoThrottle) {
            world.settings.snapshots_max = 100;
        }
        world
    }

    pub(super) fn join(&mut self) {
        let id = self.next_node;
        self.next_node += 1;
        // A world has zones or none, and then all nodes have.
        let text = match self.options.seed % 3 {
            0 => format!("region=r{},zone=z{}", id % 2, id % 4),
            1 => format!("zone=z{}", id % 3),
            _ => String::new(),
        };
        let locality = Locality::parse(&text).unwrap_or_default();
        self.nodes.push(Node { id: NodeId(id), capacity: 1 << 40, locality, ..Node::default() });
    }

    fn found(&mut self, at: u64, replicas: u64) {
        let first = self.rng.below(self.options.nodes);
        let node = |i: u64| NodeId((first + i) % self.options.nodes + 1);
        let end = if at + 1 == self.options.ranges { Key::new() } else { key((at + 1) << 32) };
        let id = RangeId(self.next_range);
        self.next_range += 1;
        let voters: Nodes = (0..replicas).map(node).collect();
        self.ranges.push(Range {
            id,
            span: Span::new(if at == 0 { Key::new() } else { key(at << 32) }, end),
            leaseholder: voters.first().copied(),
            voters,
            bytes: (16 + self.rng.below(450)) * MIB,
            load: self.rng.below(100),
            ..Range::default()
        });
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    pub(super) fn live(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|node| node.away_since.is_none())
    }

    pub(super) fn quorum(&self, voters: &[NodeId]) -> bool {
        voters.iter().filter(|id| self.live(**id)).count() > voters.len() / 2
    }

    pub(super) fn broken(&mut self, found: Vec<(&'static str, String)>) {
        for (invariant, what) in found {
            if self.report.violations.len() < 5 {
                self.report.violations.push(Violation { invariant, what });
            }
        }
    }

    pub(super) fn run(mut self) -> PlacementReport {
        for _ in 0..self.options.trouble {
            self.step();
        }
        self.calm();
        let mut empty = 0;
        for step in 0..SETTLE_MAX {
            let idle = self.step();
            empty = if idle { empty + 1 } else { 0 };
            if empty == 3 || !self.report.violations.is_empty() {
                self.report.settled_after = step;
                break;
            }
        }
        if empty < 3 && self.report.violations.is_empty() {
            let what = format!("after {SETTLE_MAX} steps there is still something to do");
            self.broken(vec![("plan_ends", what)]);
        }
        if self.report.violations.is_empty() {
            let found = invariants::at_the_end(&self);
            self.broken(found);
        }
        self.report
    }

    /// Ten seconds. Whether nothing was to be done.
    fn step(&mut self) -> bool {
        self.now += STEP;
        let view = self.view();
        if !self.quiet {
            self.trouble();
        }
        self.elect();
        let plan = plan(&view, &self.settings, self.now);
        self.report.plans += 1;
        let found = invariants::of_a_plan(self, &view, &plan);
        self.broken(found);
        let idle = plan.is_empty() && self.jobs.is_empty();
        self.begin(plan, &view);
        self.go_on();
        idle
    }

    /// What the planner is told.
    fn view(&mut self) -> View {
        let mut view = View {
            nodes: self.nodes.clone(),
            ranges: self.ranges.clone(),
            running: self.jobs.iter().map(|job| job.running.clone()).collect(),
        };
        for node in &mut view.nodes {
            match self.options.bug {
                Some(PlacementBug::MissesDead) => node.away_since = None,
                Some(PlacementBug::MissesLeaving) => node.leaving = false,
                Some(PlacementBug::MissesDraining) => node.draining = false,
                Some(PlacementBug::NoLocality) => node.locality = Locality::default(),
                _ => {}
            }
        }
        for range in &mut view.ranges {
            match self.options.bug {
                Some(PlacementBug::NoisySizes) => {
                    range.bytes = range.bytes / 2 + self.rng.below(range.bytes + 1);
                }
                Some(PlacementBug::SizesUpsideDown) => {
                    range.bytes = (512 * MIB).saturating_sub(range.bytes);
                }
                _ => {}
            }
        }
        if self.options.bug == Some(PlacementBug::ForgetsRunning) {
            view.running.clear();
        }
        view
    }

    /// Ranges whose leaseholder is gone get another, if they can.
    fn elect(&mut self) {
        for at in 0..self.ranges.len() {
            let range = &self.ranges[at];
            let can = self.quorum(&range.voters);
            let kept = range.leaseholder.filter(|id| can && self.live(*id));
            let next = range.voters.iter().copied().find(|id| can && self.live(*id));
            self.ranges[at].leaseholder = kept.or(next);
        }
    }

    fn begin(&mut self, plan: Plan, view: &View) {
        for (id, cell) in plan.cells {
            if let Some(node) = self.nodes.iter_mut().find(|node| node.id == id) {
                node.cell = Some(cell);
            }
        }
        let planned: BTreeMap<RangeId, &Range> = view.ranges.iter().map(|r| (r.id, r)).collect();
        for action in plan.actions {
            if let Some(from) = planned.get(&action.range) {
                self.begin_one(action, &from.voters);
            }
        }
    }

    fn begin_one(&mut self, action: Action, from: &Nodes) {
        let Some(at) = self.ranges.iter().position(|range| range.id == action.range) else {
            return;
        };
        if self.ranges[at].leaseholder.is_none() {
            return;
        }
        match action.act {
            Act::Change { mut add, remove } => {
                if self.options.bug == Some(PlacementBug::SecondCopy) && !add.is_empty() {
                    add[0] = from[0];
                }
                if add.is_empty() && remove.is_empty() {
                    return self.ranges[at].learners.clear();
                }
                self.ranges[at].learners.extend(add.iter().copied());
                let left = 1 + self.rng.below(3) * u64::from(!add.is_empty());
                let running = Running { range: action.range, add, remove };
                let wanted = self.zone_of(&self.ranges[at]).replicas;
                let (from, since_calm) = (from.clone(), self.quiet);
                self.jobs.push(Job { running, from, wanted, left, since_calm });
            }
            Act::MoveLease { to, .. } => {
                if self.live(to) && self.ranges[at].voters.contains(&to) {
                    self.report.leases += 1;
                    self.ranges[at].leaseholder = Some(to);
                }
            }
            Act::Split { key } => self.split(at, key),
            Act::Merge { right } => self.merge(at, right),
        }
    }

    /// Changes under way come nearer to their end.
    fn go_on(&mut self) {
        let mut jobs = std::mem::take(&mut self.jobs);
        for job in &mut jobs {
            job.left -= 1;
            let halfway = job.left == 1 && self.options.bug == Some(PlacementBug::RemovesFirst);
            if job.left == 0 || halfway {
                self.finish(job, halfway);
            }
        }
        jobs.retain(|job| job.left > 0);
        self.jobs = jobs;
    }

    fn finish(&mut self, job: &mut Job, remove_only: bool) {
        let Running { range, add, remove } = job.running.clone();
        let Some(at) = self.ranges.iter().position(|other| other.id == range) else { return };
        let before = self.ranges[at].voters.clone();
        let mut after: Nodes = before.iter().copied().filter(|id| !remove.contains(id)).collect();
        if !remove_only {
            let new = add.iter().copied().filter(|id| !before.contains(id));
            after.extend(new);
            if self.options.bug == Some(PlacementBug::SecondCopy) {
                after.extend(add.iter().copied());
            }
        }
        let forced = self.options.bug == Some(PlacementBug::RemovesTheLiving);
        let arrived = add.iter().all(|id| self.live(*id));
        let led = self.ranges[at].leaseholder.is_some_and(|leader| !remove.contains(&leader));
        let agreed = self.quorum(&before) && self.quorum(&after) && arrived && led;
        let same = before == job.from;
        if !(forced || (same && agreed)) {
            // Whoever began to be one may stay a learner: that is for the planner to clean up.
            if self.rng.chance(0.5) {
                self.ranges[at].learners.clear();
            }
            return;
        }
        if remove_only {
            job.from = after.clone();
        } else {
            self.ranges[at].learners.clear();
            self.report.copies += add.len() as u64;
        }
        let change = Change { range, before, after: after.clone(), add, wanted: job.wanted };
        self.ranges[at].voters = after;
        let found = invariants::of_a_change(self, &change);
        self.broken(found);
        if self.quiet && job.since_calm {
            self.taken.extend(change.add.iter().map(|id| (range, *id)));
        }
    }
}
