//! In the end every range that can has as many copies as its zone wants, on nodes that stay and that the
//! zone allows.

use super::World;

pub(super) fn check(world: &World) -> Option<String> {
    world.ranges.iter().find_map(|range| {
        let able = world.eligible(range);
        let takers = able.iter().filter(|n| n.away_since.is_none() && !n.draining).count();
        let wanted = world.zone_of(range).replicas;
        let drains = |id| world.node(id).is_some_and(|node| node.draining);
        // With too few nodes some copies stay where they are, and where nobody else may lead, too.
        let stuck = range.voters.iter().any(|id| drains(*id));
        if takers < wanted || stuck || !world.quorum(&range.voters) {
            return None;
        }
        let ids: Vec<_> = able.iter().map(|node| node.id).collect();
        let right = range.voters.iter().all(|id| ids.contains(id));
        let wrong = range.voters.len() != wanted || !right || !range.learners.is_empty();
        wrong.then(|| {
            format!(
                "{}: {:?} of {wanted} among {ids:?}, learners {:?}",
                range.id, range.voters, range.learners
            )
        })
    })
}
