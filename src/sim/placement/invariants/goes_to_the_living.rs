//! Nobody who is dead or leaves gets a copy, as far as was known when it was planned: some steps ago.

use super::super::world::STEP;
use super::{Change, World};

pub(super) fn check(world: &World, change: &Change) -> Option<String> {
    let long = |since: u64| world.now.saturating_sub(since) > 5 * STEP;
    let dead = change
        .add
        .iter()
        .find(|id| world.node(**id).is_none_or(|node| node.away_since.is_some_and(long)));
    dead.map(|id| format!("{}: {id} gets a copy, and has been dead for long", change.range))
}
