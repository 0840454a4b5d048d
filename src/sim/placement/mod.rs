//! A cluster that is planned for: the real planner ([`meridian_kv::placement`]) over nodes that come,
//! die, leave, drain and fill, and ranges that grow, split, merge and are asked unevenly, from one seed.
//!
//! There are no raft groups: a change of members takes some steps and happens if both sets of voters
//! have a quorum alive then, as raft would have it; a range without a leaseholder gets one when a quorum
//! is alive. The planner sees the world as it was at the beginning of a step of ten seconds; what
//! happens then comes first, and a change that was planned for other members is refused.
//!
//! After the trouble nothing changes any more, and the planner has to come to an end.
//!
//! | invariant ([`invariants`]) | checked |
//! |---|---|
//! | `keeps_quorum`, `one_copy_a_node`, `goes_to_the_living` | after every change |
//! | `one_action_a_range`, `throttled` | of every plan |
//! | `plan_ends`, `nothing_comes_twice` | when the world stands still |
//! | `counts_converge`, `spread`, `balanced`, `drained_leads_nothing` | at the end |
//!
//! ```text
//! MERIDIAN_SIM_SEED=17 cargo test -p meridian-sim one_placement_seed -- --nocapture
//! ```

mod events;
mod invariants;
pub mod scale;

#[cfg(test)]
mod tests;
mod world;

use crate::invariants::Violation;

/// Faults that can be planted to show that an invariant notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlacementBug {
    /// What is under way is not told.
    ForgetsRunning,
    /// Any number of copies at a time.
    NoThrottle,
    /// A copy is removed before the new one is there.
    RemovesFirst,
    /// Nobody notices that a node is dead.
    MissesDead,
    /// Nodes that leave are taken for others.
    MissesLeaving,
    /// Nodes that drain are taken for others.
    MissesDraining,
    /// Localities are not told.
    NoLocality,
    /// A copy goes to a node that has one.
    SecondCopy,
    /// Sizes are told with an error of up to a half.
    NoisySizes,
    /// The largest range is told as the smallest.
    SizesUpsideDown,
    /// Whatever the plan says of quorums, changes are forced through.
    RemovesTheLiving,
}

/// What a run consists of.
#[derive(Clone, Copy, Debug)]
pub struct PlacementOptions {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Nodes at the beginning.
    pub nodes: u64,
    /// Ranges at the beginning.
    pub ranges: u64,
    /// Steps of ten seconds with trouble.
    pub trouble: u64,
    /// A fault, in tests of the invariants.
    pub bug: Option<PlacementBug>,
}

impl PlacementOptions {
    /// A usual run.
    pub fn seeded(seed: u64) -> Self {
        // Now and then more than a cell.
        let nodes = if seed % 8 == 7 { 20 + seed % 12 } else { 3 + seed % 9 };
        Self { seed, nodes, ranges: 20 + seed % 60, trouble: 60, bug: None }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementReport {
    /// What must not have been.
    pub violations: Vec<Violation>,
    /// Plans made.
    pub plans: u64,
    /// Copies that were moved or made.
    pub copies: u64,
    /// Leases that were moved.
    pub leases: u64,
    /// Splits and merges.
    pub reshaped: u64,
    /// Nodes that died, for a while or for good.
    pub deaths: u64,
    /// Steps until the world was in order after the trouble.
    pub settled_after: u64,
}

/// Runs one seed to its end.
pub fn run(options: PlacementOptions) -> PlacementReport {
    world::World::new(options).run()
}
