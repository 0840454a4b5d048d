//! What a node costs in clusters of different sizes: the figures of `compat-tests/results/placement.md`.
//!
//! A thousand ranges a node, three copies each, are put anywhere within the cells; the planner settles
//! that. Who shares a range then sends each other heartbeats: the real machines of
//! [`meridian_kv::liveness`] do that for some seconds, and each node works out its leases every 50 ms
//! ([`meridian_kv::lease`]), once for each set of voters that it leads. A node dies and its copies are
//! replaced; a node joins and gets its share. Changes of members happen at once here: what is counted
//! are plans and copies.
//!
//! ```text
//! cargo run --release -p meridian-sim --example placement
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use meridian_base::{Instant, NodeId, RangeId, Rng, Span, Timestamp};
use meridian_kv::lease::{Leadership, Voters};
use meridian_kv::liveness::{Effect, Event, Liveness, Message, Now, Persisted, TICK};
use meridian_kv::placement::{Act, Node, Plan, Range, Settings, View, cells, plan};

use super::world::{MIB, key};

const REPLICAS: u64 = 3;
/// Simulated time of heartbeats, of all nodes together: what Linux counts as CPU comes in steps.
const NODE_SECONDS: u64 = 600;
/// Between two looks at the leases, as the shell does it.
const LOOK_MS: u64 = 50;

/// What a cluster of some size costs.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Nodes.
    pub nodes: u64,
    /// Ranges.
    pub ranges: u64,
    /// Most nodes that a node shares a range with.
    pub partners: usize,
    /// Messages that a node sends in a second, in the mean.
    pub messages: f64,
    /// Their bytes.
    pub bytes: f64,
    /// Messages of the planner's node beside those, received and sent: reports every ten seconds.
    pub reports: f64,
    /// CPU of a node for heartbeats and leases, µs in a second.
    pub cpu_us: f64,
    /// A plan when nothing is to be done, ms.
    pub plan_ms: f64,
    /// The longest plan of all, ms.
    pub plan_max_ms: f64,
    /// A node died: copies made, and those that it had.
    pub replaced: (usize, usize),
    /// A node joined: copies moved, and how many it needs at least.
    pub joined: (usize, usize),
    /// The fullest node then, in parts of the mean.
    pub fullest: f64,
}

/// CPU that this thread has used, as Linux counts it; elsewhere the time.
fn cpu() -> Duration {
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = counted.and_then(|text| text.split(' ').next()?.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_else(|| Instant::now().as_nanos()))
}

struct Cluster {
    view: View,
    settings: Settings,
    now: u64,
    plan_max: Duration,
}

impl Cluster {
    fn new(nodes: u64, ranges: u64) -> Cluster {
        let (view, settings) = (View::default(), Settings::default());
        let mut cluster = Cluster { view, settings, now: 1, plan_max: Duration::ZERO };
        (1..=nodes).for_each(|id| cluster.join(id));
        let mut members: BTreeMap<Option<u32>, Vec<NodeId>> = BTreeMap::new();
        for node in &cluster.view.nodes {
            members.entry(node.cell).or_default().push(node.id);
        }
        let mut rng = Rng::seeded(nodes);
        for at in 0..ranges {
            let first = cluster.view.nodes[usize::try_from(at % nodes).unwrap_or(0)].clone();
            let mut voters = vec![first.id];
            let cell = &members[&first.cell];
            while voters.len() < usize::try_from(REPLICAS).unwrap_or(3) {
                let other = cell[usize::try_from(rng.below(cell.len() as u64)).unwrap_or(0)];
                if !voters.contains(&other) {
                    voters.push(other);
                }
            }
            cluster.view.ranges.push(Range {
                id: RangeId(at + 1),
                span: Span::new(key(at), key(at + 1)),
                voters: voters.iter().copied().collect(),
                leaseholder: Some(first.id),
                bytes: 256 * MIB,
                load: 10,
                ..Range::default()
            });
        }
        cluster
    }

    fn join(&mut self, id: u64) {
        self.view.nodes.push(Node { id: NodeId(id), ..Node::default() });
        let moved = cells::regroup(&self.view.nodes, self.settings.cell_max, |_| true);
        self.put_into_cells(&moved);
    }

    fn put_into_cells(&mut self, moved: &[(NodeId, u32)]) {
        for (id, cell) in moved {
            if let Some(node) = self.view.nodes.iter_mut().find(|node| node.id == *id) {
                node.cell = Some(*cell);
            }
        }
    }

    fn plan(&mut self) -> (Plan, Duration) {
        let start = cpu();
        let plan = plan(&self.view, &self.settings, self.now);
        let took = cpu().saturating_sub(start);
        self.plan_max = self.plan_max.max(took);
        (plan, took)
    }

    /// Plans and does, until nothing is left. Copies made.
    fn settle(&mut self) -> usize {
        let mut copies = 0;
        loop {
            let (plan, _) = self.plan();
            if plan.is_empty() {
                return copies;
            }
            self.put_into_cells(&plan.cells);
            for action in plan.actions {
                // Ids were given in the order of the keys.
                let at = usize::try_from(action.range.0 - 1).unwrap_or(usize::MAX);
                let Some(range) = self.view.ranges.get_mut(at) else { continue };
                match action.act {
                    Act::Change { add, remove } => {
                        copies += add.len();
                        range.voters.retain(|id| !remove.contains(id));
                        range.voters.extend(add);
                    }
                    Act::MoveLease { to, .. } => range.leaseholder = Some(to),
                    Act::Split { .. } | Act::Merge { .. } => {}
                }
            }
        }
    }

    fn partners(&self) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
        let mut partners: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for range in &self.view.ranges {
            for id in &range.voters {
                let others = range.voters.iter().copied().filter(|other| other != id);
                partners.entry(*id).or_default().extend(others);
            }
        }
        partners
    }

    /// By node: the sets of voters that it leads.
    fn electorates(&self) -> BTreeMap<NodeId, BTreeSet<Vec<NodeId>>> {
        let mut led: BTreeMap<NodeId, BTreeSet<Vec<NodeId>>> = BTreeMap::new();
        for range in &self.view.ranges {
            let mut voters: Vec<NodeId> = range.voters.to_vec();
            voters.sort_unstable();
            if let Some(leader) = range.leaseholder {
                led.entry(leader).or_default().insert(voters);
            }
        }
        led
    }

    /// A node dies for good. Copies made, and those that it had.
    fn lose(&mut self, dead: NodeId) -> (usize, usize) {
        let had = self.copies_on(dead);
        self.now = 3_600_000_000;
        for node in self.view.nodes.iter_mut().filter(|node| node.id == dead) {
            node.away_since = Some(1);
        }
        for range in self.view.ranges.iter_mut().filter(|r| r.leaseholder == Some(dead)) {
            range.leaseholder = range.voters.iter().copied().find(|id| *id != dead);
        }
        (self.settle(), had)
    }

    fn copies_on(&self, id: NodeId) -> usize {
        self.view.ranges.iter().filter(|range| range.voters.contains(&id)).count()
    }
}

/// Messages and bytes that a node sends in a second, and its CPU in µs, in the mean.
fn heartbeats(cluster: &Cluster) -> (f64, f64, f64) {
    let mut machines: BTreeMap<NodeId, Liveness> = BTreeMap::new();
    for (id, peers) in cluster.partners() {
        let mut machine = Liveness::new(id, Persisted::default(), Duration::from_millis(250));
        machine.set_peers(peers);
        machines.insert(id, machine);
    }
    let led = cluster.electorates();
    let tick = u64::try_from(TICK.as_micros()).unwrap_or(20_000);
    let (mut messages, mut bytes, mut spent) = (0u64, 0usize, Duration::ZERO);
    let mut wire: VecDeque<(NodeId, NodeId, Vec<u8>)> = VecDeque::new();
    let seconds = (NODE_SECONDS / (machines.len() as u64).max(1)).max(3);
    // The first second is for getting to know each other.
    for at in 0..(seconds + 1) * 1_000_000 / tick {
        let micros = 1_000_000 + at * tick;
        let now = Now { hlc: Timestamp::from_micros(micros), mono: micros };
        let counted = at * tick >= 1_000_000;
        let start = cpu();
        let arrived = std::mem::take(&mut wire);
        let mut run = |id: NodeId, event: Event| {
            let Some(machine) = machines.get_mut(&id) else { return };
            let mut effects: VecDeque<Effect> = machine.step(now, event).into();
            while let Some(effect) = effects.pop_front() {
                match effect {
                    Effect::Send(to, message) => {
                        let encoded = message.encode().to_vec();
                        messages += u64::from(counted);
                        bytes += if counted { encoded.len() } else { 0 };
                        wire.push_back((id, to, encoded));
                    }
                    Effect::Persist(_) => effects.extend(machine.step(now, Event::Persisted)),
                    Effect::Withdrawn(..) => {}
                }
            }
        };
        for (from, to, encoded) in arrived {
            if let Some(message) = Message::decode(&encoded) {
                run(to, Event::Received(from, message));
            }
        }
        for node in &cluster.view.nodes {
            run(node.id, Event::Tick);
        }
        if (at * tick).is_multiple_of(LOOK_MS * 1_000) {
            look_at_leases(&machines, &led);
        }
        spent += if counted { cpu().saturating_sub(start) } else { Duration::ZERO };
    }
    let per_node = (machines.len() as u64 * seconds) as f64;
    (messages as f64 / per_node, bytes as f64 / per_node, spent.as_secs_f64() * 1e6 / per_node)
}

/// Until when each set of voters lets its leader serve.
fn look_at_leases(
    machines: &BTreeMap<NodeId, Liveness>,
    led: &BTreeMap<NodeId, BTreeSet<Vec<NodeId>>>,
) {
    for (id, machine) in machines {
        for voters in led.get(id).into_iter().flatten() {
            let mut leadership = Leadership::new(0);
            for voter in voters.iter().filter(|voter| *voter != id) {
                leadership.acknowledged(*voter, 1, Some(machine.support_from(*voter).epoch));
            }
            let voters = Voters::simple(voters.iter().copied());
            let until = leadership.expiration(*id, &voters, |node| machine.support_from(node));
            std::hint::black_box(until);
        }
    }
}

/// The heartbeats of a cluster: most partners of a node, messages of a node in a second.
pub fn messages(nodes: u64, ranges_each: u64) -> (usize, f64) {
    let mut cluster = Cluster::new(nodes, nodes * ranges_each);
    cluster.settle();
    let most = cluster.partners().values().map(BTreeSet::len).max().unwrap_or(0);
    (most, heartbeats(&cluster).0)
}

/// All figures of a cluster of so many nodes.
pub fn measure(nodes: u64, ranges_each: u64) -> Row {
    let ranges = nodes * ranges_each;
    let mut cluster = Cluster::new(nodes, ranges);
    cluster.settle();
    let (sent, bytes, cpu_us) = heartbeats(&cluster);
    let partners = cluster.partners().values().map(BTreeSet::len).max().unwrap_or(0);
    let plans = 10 + 200 / u32::try_from(nodes).unwrap_or(200);
    let idle: Duration = (0..plans).map(|_| cluster.plan().1).sum();
    let reports = 2.0 * (nodes - 1) as f64 / 10.0;
    let mut row =
        Row { nodes, ranges, partners, messages: sent, bytes, reports, cpu_us, ..Row::default() };
    row.plan_ms = idle.as_secs_f64() * 1e3 / f64::from(plans);
    let copies = usize::try_from(ranges * REPLICAS).unwrap_or(usize::MAX);
    let mut other = Cluster::new(nodes, ranges);
    other.settle();
    cluster.join(nodes + 1);
    let share = copies / usize::try_from(nodes + 1).unwrap_or(1);
    row.joined = (cluster.settle(), share * 95 / 100);
    let of = |node: &Node| cluster.copies_on(node.id) as f64;
    row.fullest = cluster.view.nodes.iter().map(of).fold(0.0, f64::max) / share as f64;
    if nodes > 3 {
        row.replaced = other.lose(NodeId(2));
    }
    row.plan_max_ms = cluster.plan_max.max(other.plan_max).as_secs_f64() * 1e3;
    row
}
