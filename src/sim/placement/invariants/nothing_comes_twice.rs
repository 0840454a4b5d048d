//! In a world that stands still, no node gets a copy of a range a second time: each step of the planner
//! leads nearer to its end. (It may get back what it has given up: bytes are evened out after zones.)

use super::{Change, World};

pub(super) fn check(world: &World, change: &Change) -> Option<String> {
    let twice = change.add.iter().find(|id| world.taken.contains(&(change.range, **id)));
    twice.map(|id| format!("{}: {id} gets a copy for the second time", change.range))
}
