//! In the end nodes of a cell have the same bytes, and lead as much, within a tenth or what two of their
//! ranges weigh: where every node may have every range.

use std::collections::BTreeMap;

use meridian_kv::placement::Node;

use super::super::world::MIB;
use super::World;

/// What a lease weighs to the planner beside its load, and a range beside its bytes.
const LEASE: u64 = 10;

pub(super) fn check(world: &World) -> Option<String> {
    let alike = |node: &Node| {
        node.locality.0.is_empty() && !node.leaving && node.away_since.is_none() && !node.draining
    };
    if !world.settings.zones.is_empty() || !world.nodes.iter().all(alike) {
        return None;
    }
    let mut cells: BTreeMap<Option<u32>, Vec<&Node>> = BTreeMap::new();
    for node in &world.nodes {
        cells.entry(node.cell).or_default().push(node);
    }
    cells.values().find_map(|nodes| uneven(world, nodes))
}

fn uneven(world: &World, nodes: &[&Node]) -> Option<String> {
    let bytes = |node: &&Node| -> u64 {
        let on = world.ranges.iter().filter(|range| range.voters.contains(&node.id));
        on.map(|range| range.bytes + MIB).sum()
    };
    let load = |node: &&Node| -> u64 {
        let led = world.ranges.iter().filter(|range| range.leaseholder == Some(node.id));
        led.map(|range| range.load + LEASE).sum()
    };
    let here = |range: &&meridian_kv::placement::Range| {
        range.voters.iter().any(|id| nodes.iter().any(|node| node.id == *id))
    };
    let ranges = || world.ranges.iter().filter(here);
    let largest = ranges().map(|range| range.bytes + MIB).max().unwrap_or(0);
    let busiest = ranges().map(|range| range.load + LEASE).max().unwrap_or(0);
    let out = |what: &str, amounts: Vec<u64>, grain: u64| {
        let even = amounts.iter().sum::<u64>() / amounts.len().max(1) as u64;
        let slack = (even / 10).max(2 * grain);
        let bad = amounts.iter().any(|amount| amount.abs_diff(even) > slack);
        bad.then(|| format!("{what}: {amounts:?}, even would be {even}"))
    };
    out("bytes", nodes.iter().map(bytes).collect(), largest)
        .or_else(|| out("load", nodes.iter().map(load).collect(), busiest))
}
