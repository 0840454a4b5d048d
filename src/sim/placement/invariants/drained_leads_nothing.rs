//! In the end a node that is to be stopped leads no range that another of its voters could lead.

use super::World;

pub(super) fn check(world: &World) -> Option<String> {
    let free = |node: &&meridian_kv::placement::Node| {
        node.away_since.is_none() && !node.leaving && !node.draining
    };
    world.ranges.iter().find_map(|range| {
        let leader = world.node(range.leaseholder?)?;
        let heir = range.voters.iter().filter_map(|id| world.node(*id)).find(free)?;
        let stays = leader.draining && world.quorum(&range.voters);
        stays.then(|| format!("{}: {} leads, {} could", range.id, leader.id, heir.id))
    })
}
