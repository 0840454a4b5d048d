//! In the end no two copies are in one zone where there are zones enough. (The narrowest tier here.)

use std::collections::BTreeSet;

use super::World;
use meridian_kv::placement::{Node, cells::CELL_MAX};

fn zone(node: &Node) -> &str {
    node.locality.get("zone").unwrap_or_default()
}

pub(super) fn check(world: &World) -> Option<String> {
    // In smaller cells zones may be missing.
    if world.nodes.len() > CELL_MAX {
        return None;
    }
    world.ranges.iter().find_map(|range| {
        let able = world.eligible(range);
        let free = able.iter().filter(|node| node.away_since.is_none() && !node.draining);
        let zones: BTreeSet<&str> = free.map(|node| zone(node)).collect();
        let used: BTreeSet<&str> =
            range.voters.iter().filter_map(|id| world.node(*id)).map(zone).collect();
        let wanted = world.zone_of(range).replicas;
        if zones.len() < wanted || zones.contains("") || !world.quorum(&range.voters) {
            return None;
        }
        (used.len() < wanted).then(|| format!("{}: {:?} share zones", range.id, range.voters))
    })
}
