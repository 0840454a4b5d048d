//! No change of members takes a range its quorum of live voters, or makes its voters fewer than its zone
//! wants: what is removed has been replaced before. (Raft, Ongaro and Ousterhout 2014, section 6.)

use super::{Change, World};

pub(super) fn check(world: &World, change: &Change) -> Option<String> {
    let Change { range, before, after, wanted, .. } = change;
    if world.quorum(before) && !world.quorum(after) {
        return Some(format!("{range}: {before:?} had a quorum alive, {after:?} has not"));
    }
    let known = world.ranges.iter().find(|other| other.id == *range)?;
    let able = world.eligible(known).len();
    let now = world.zone_of(known).replicas.min(able.saturating_sub(1) / 2 * 2 + 1);
    let wanted = now.min(*wanted);
    let fewer = after.len() < before.len() && after.len() < wanted;
    fewer.then(|| format!("{range}: {before:?} became {after:?}, of {wanted} voters wanted"))
}
