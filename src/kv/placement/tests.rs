//! Small clusters, plan by plan. What must hold of many is the simulator's to show.

use super::*;
use meridian_base::Span;

const MIB: u64 = 1 << 20;
const MINUTE: u64 = 60_000_000;

fn node(id: u64, locality: &str) -> Node {
    let locality = Locality::parse(locality).expect("a locality");
    Node { id: NodeId(id), capacity: 1 << 40, locality, cell: Some(0), ..Node::default() }
}

fn key(at: u64) -> Key {
    Key::copy_from_slice(&at.to_be_bytes())
}

/// Ranges `0..count`, each on these nodes in turn, and led by them in turn.
fn cluster(nodes: Vec<Node>, count: u64, replicas: u64) -> View {
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    let at = |i: u64| ids[usize::try_from(i).expect("small") % ids.len()];
    let range = |i: u64| Range {
        id: RangeId(i + 1),
        span: Span::new(key(i), if i + 1 == count { Key::new() } else { key(i + 1) }),
        voters: (i..i + replicas).map(at).collect(),
        leaseholder: Some(at(i)),
        bytes: 256 * MIB,
        load: 10,
        ..Range::default()
    };
    View { ranges: (0..count).map(range).collect(), nodes, running: Vec::new() }
}

/// Carries a plan out at once. Copies that were made.
fn carry_out(view: &mut View, plan: &Plan) -> usize {
    let mut copies = 0;
    for (id, cell) in &plan.cells {
        let node = view.nodes.iter_mut().find(|node| node.id == *id).expect("a node");
        node.cell = Some(*cell);
    }
    for action in &plan.actions {
        let at = view.ranges.iter().position(|range| range.id == action.range).expect("a range");
        let range = &mut view.ranges[at];
        match &action.act {
            Act::Change { add, remove } => {
                copies += add.len();
                range.voters.retain(|node| !remove.contains(node));
                range.voters.extend(add.iter().copied());
                range.learners.clear();
            }
            Act::MoveLease { to, .. } => range.leaseholder = Some(*to),
            Act::Split { .. } | Act::Merge { .. } => {}
        }
    }
    copies
}

/// Plans until nothing is left to plan. Copies that were made.
fn settle(view: &mut View, settings: &Settings, now: u64) -> usize {
    let mut copies = 0;
    for _ in 0..2_000 {
        let plan = plan(view, settings, now);
        if plan.is_empty() {
            return copies;
        }
        copies += carry_out(view, &plan);
    }
    panic!("planning doesn't end: {:?}", plan(view, settings, now).actions.first());
}

fn copies_on(view: &View, id: u64) -> usize {
    view.ranges.iter().filter(|range| range.voters.contains(&NodeId(id))).count()
}

fn leases_on(view: &View, id: u64) -> usize {
    view.ranges.iter().filter(|range| range.leaseholder == Some(NodeId(id))).count()
}

#[test]
fn a_fourth_node_takes_a_quarter_with_the_fewest_moves() {
    let nodes = (1..=3).map(|id| node(id, "")).collect();
    let mut view = cluster(nodes, 400, 3);
    let settings = Settings::default();
    assert!(plan(&view, &settings, 0).is_empty(), "all is even");
    view.nodes.push(Node { cell: None, ..node(4, "") });
    let moves = settle(&mut view, &settings, 0);
    // It needs 95 of 100 of a quarter of 1200 copies, and no move brings it more than one.
    let least = 1_200 / 4 * 95 / 100;
    assert!(moves >= least && moves <= least * 110 / 100, "{moves} moves, at least {least}");
    let (copies, leases) = (copies_on(&view, 4), leases_on(&view, 4));
    assert!((285..=300).contains(&copies), "{copies} of 1200 copies");
    assert!((90..=110).contains(&leases), "{leases} of 400 leases");
}

#[test]
fn nodes_that_are_dead_or_leave_are_replaced_and_those_that_drain_lead_nothing() {
    let nodes = (1..=5).map(|id| node(id, "")).collect();
    let mut view = cluster(nodes, 50, 3);
    let settings = Settings::default();
    settle(&mut view, &settings, 0);
    view.nodes[0].away_since = Some(MINUTE);
    for range in view.ranges.iter_mut().filter(|range| range.leaseholder == Some(NodeId(1))) {
        range.leaseholder = range.voters.iter().copied().find(|node| *node != NodeId(1));
    }
    let early = plan(&view, &settings, 5 * MINUTE);
    assert!(early.actions.iter().all(|action| action.cause == Cause::BalanceLeases), "{early:?}");
    let late = plan(&view, &settings, 7 * MINUTE);
    assert_eq!(late.actions[0].cause, Cause::ReplaceDead);
    assert_eq!(late.actions[0].columns()[1..3], ["move replica", "1"]);
    assert_eq!(late.actions[0].reason, "n1 has been away for too long");
    settle(&mut view, &settings, 7 * MINUTE);
    assert_eq!(copies_on(&view, 1), 0);
    view.nodes[2].draining = true;
    settle(&mut view, &settings, 7 * MINUTE);
    assert!(leases_on(&view, 3) == 0 && copies_on(&view, 3) > 30, "it will be back soon");
    view.nodes[2].draining = false;
    view.nodes[1].leaving = true;
    settle(&mut view, &settings, 7 * MINUTE);
    assert_eq!((copies_on(&view, 2), leases_on(&view, 2)), (0, 0));
    assert!(view.ranges.iter().all(|range| range.voters.len() == 3));
    view.nodes[3].leaving = true;
    assert!(plan(&view, &settings, 7 * MINUTE).is_empty(), "there is nobody to take its copies");
}

#[test]
fn copies_follow_zones_and_localities() {
    let place = |id: u64| {
        node(id, ["region=eu,zone=a", "region=eu,zone=b", "region=us,zone=c"][(id % 3) as usize])
    };
    let mut view = cluster((1..=9).map(place).collect(), 90, 3);
    for range in &mut view.ranges {
        range.voters = [3, 6, 9].map(NodeId).into_iter().collect();
        range.leaseholder = Some(NodeId(3));
    }
    let mut settings = Settings::default();
    let eu = Zone::default().with(Some("5"), Some("+region=eu, -zone=nowhere")).expect("a zone");
    assert_eq!(eu.placement.to_string(), "+region=eu, -zone=nowhere");
    settings.zones.insert(key(80), eu);
    settings.zones.insert(key(85), Zone::default());
    settle(&mut view, &settings, 0);
    let zone_of = |id: &NodeId| id.0 % 3;
    for (at, range) in view.ranges.iter().enumerate() {
        let zones: std::collections::BTreeSet<u64> = range.voters.iter().map(zone_of).collect();
        match (80..85).contains(&at) {
            true => assert!(range.voters.len() == 5 && !zones.contains(&2), "{range:?}"),
            false => assert!(range.voters.len() == 3 && zones.len() == 3, "{range:?}"),
        }
    }
    let errors = [Zone::default().with(Some("9"), None), Zone::default().with(None, Some("eu"))];
    for error in errors {
        let error = error.expect_err("no zone");
        assert!(error.contains("between 1 and 7") || error.contains("+key=value"), "{error}");
    }
}

#[test]
fn a_single_node_grows_to_three_copies_at_once_and_never_has_two() {
    let mut view = cluster(vec![node(1, "")], 4, 1);
    let settings = Settings::default();
    assert!(plan(&view, &settings, 0).is_empty());
    view.nodes.push(node(2, ""));
    assert!(plan(&view, &settings, 0).is_empty(), "two are worse than one");
    view.nodes.push(node(3, ""));
    let first = plan(&view, &settings, 0);
    assert_eq!(first.actions.len(), 1, "a node sends two copies at a time: {first:?}");
    assert_eq!(
        first.actions[0].columns(),
        ["1", "add replica", "", "2, 3", "it has 1 of 3 copies"]
    );
    view.running.push(Running {
        range: RangeId(1),
        add: [NodeId(2), NodeId(3)].into_iter().collect(),
        remove: Nodes::new(),
    });
    assert!(plan(&view, &settings, 0).is_empty(), "it is still at it");
    view.running.clear();
    settle(&mut view, &settings, 0);
    assert!(view.ranges.iter().all(|range| range.voters.len() == 3));
    let single =
        Settings { default_zone: Zone { replicas: 1, ..Zone::default() }, ..Settings::default() };
    settle(&mut view, &single, 0);
    assert!(view.ranges.iter().all(|range| range.voters.len() == 1));
    assert!(view.ranges.iter().all(|range| range.leaseholder == Some(range.voters[0])));
}

#[test]
fn ranges_split_where_their_load_is_halved_and_merge_when_nothing_is_left_of_it() {
    let mut view = cluster((1..=3).map(|id| node(id, "")).collect(), 3, 3);
    let settings = Settings::default();
    let mut meter = Meter::default();
    meter.close(1);
    for i in 0..160_000u64 {
        meter.note(&key((1 << 32) + (i * 2_654_435_761) % 1_000), i * 40_503);
    }
    meter.close(1 + 10_000_000);
    assert_eq!(meter.rate(), 128_000, "half of 16 × 160000 in 10 s, as it was idle before");
    (view.ranges[1].load, view.ranges[1].keys) = (meter.rate(), meter.keys().to_vec());
    let hot = plan(&view, &settings, 0);
    let Act::Split { key: Some(at) } = &hot.actions[0].act else { panic!("{hot:?}") };
    let at = u64::from_be_bytes(at[..].try_into().expect("eight bytes")) - (1 << 32);
    assert!((250..750).contains(&at), "{at}");
    assert_eq!(hot.actions[0].reason, "it gets 128000 requests per second");
    view.ranges[1].keys = vec![key(9); 32];
    let stuck = plan(&view, &settings, 0);
    assert!(stuck.actions.iter().all(|action| action.cause != Cause::SplitByLoad), "one hot key");
    view.ranges[1].bytes = 600 * MIB;
    view.ranges[1].load = 10;
    assert_eq!(plan(&view, &settings, 0).actions[0].reason, "it has 600 MiB");
    view.ranges[0].bytes = 10 * MIB;
    view.ranges[1].bytes = 20 * MIB;
    view.ranges[1].split_at = Some(0);
    assert!(plan(&view, &settings, 9 * MINUTE).is_empty(), "they have just been split");
    let merge = plan(&view, &settings, 10 * MINUTE);
    assert_eq!(merge.actions[0].columns()[4], "with its right neighbour r2 it has 30 MiB");
    view.ranges[1].pinned = true;
    assert!(plan(&view, &settings, 10 * MINUTE).is_empty(), "an operator wanted it so");
}

#[test]
fn cells_split_when_they_have_doubled_and_keep_their_zones() {
    let mut nodes: Vec<Node> = Vec::new();
    for id in 1..=100u64 {
        let zone = ["zone=a", "zone=b", "zone=c"][(id % 3) as usize];
        nodes.push(Node { cell: None, ..node(id, zone) });
        let changes = cells::regroup(&nodes, cells::CELL_MAX, |_| true);
        for (id, cell) in changes {
            let node = nodes.iter_mut().find(|node| node.id == id).expect("a node");
            node.cell = Some(cell);
        }
        assert!(cells::regroup(&nodes, cells::CELL_MAX, |_| true).is_empty(), "nobody moves twice");
    }
    let mut cells: BTreeMap<u32, BTreeMap<String, usize>> = BTreeMap::new();
    for node in &nodes {
        let cell = cells.entry(node.cell.expect("a cell")).or_default();
        *cell.entry(node.locality.to_string()).or_default() += 1;
    }
    for zones in cells.values() {
        let size: usize = zones.values().sum();
        assert!((cells::CELL_MAX / 2..=cells::CELL_MAX).contains(&size), "{cells:?}");
        assert!(zones.len() == 3 && zones.values().all(|n| *n * 5 >= size), "{cells:?}");
    }
    let few = |node: &Node| node.id.0.is_multiple_of(10);
    let joined = cells::regroup(&nodes, cells::CELL_MAX, few);
    assert!(!joined.is_empty(), "cells that have shrunk join");
}

#[test]
fn zones_of_different_sizes_are_even_within() {
    let place = |id: u64| node(id, ["zone=a", "zone=b", "zone=c", "zone=c"][(id - 1) as usize]);
    let mut view = cluster((1..=3).map(place).collect(), 90, 3);
    view.nodes.push(place(4));
    settle(&mut view, &Settings::default(), 0);
    let copies = [1, 2, 3, 4].map(|id| copies_on(&view, id));
    assert_eq!(copies[..2], [90, 90], "one copy in each zone");
    assert!((41..=49).contains(&copies[3]), "{copies:?}");
}
