//! A plan does one thing to a range, and nothing to one that is being changed. Merges take two.

use std::collections::BTreeSet;

use meridian_kv::placement::{Act, Plan};

use super::World;

pub(super) fn check(world: &World, plan: &Plan) -> Option<String> {
    let mut taken: BTreeSet<_> = world.jobs.iter().map(|job| job.running.range).collect();
    for action in &plan.actions {
        let other = match action.act {
            Act::Merge { right } => Some(right),
            _ => None,
        };
        for range in other.into_iter().chain([action.range]) {
            if !taken.insert(range) {
                return Some(format!("{range} has two things done to it: {:?}", action.cause));
            }
        }
    }
    None
}
