//! Many nodes that keep each other alive and lead ranges, from one seed.
//!
//! The machines are the real ones ([`meridian_kv::liveness`], [`meridian_kv::lease`]); around them a
//! stub of raft that only votes: a term, a vote on disk, appends that carry nothing but `LeaseStart`.
//! The network delays, loses, repeats and partitions (one way, too); nodes pause, crash and start
//! again without what wasn't synced; log devices stall; clocks jump, within the allowed bound or far
//! beyond. After some seconds everything is healed and somebody must lead soon.
//!
//! | invariant | checked |
//! |---|---|
//! | `one_usable_lease` | after every step, if clocks are within the bound |
//! | `served_below_start` | whatever an old leaseholder served is below the `start_ts` of the next, with any clocks |
//! | `one_leader_per_term` | the stub keeps raft's own promise, or nothing here would mean anything |
//! | `somebody_leads` | some time after healing |
//! | `no_needless_failover` | without faults, and when all nodes stall together |
//!
//! ```text
//! MERIDIAN_SIM_SEED=17 cargo test -p meridian-sim one_lease_seed -- --nocapture
//! ```

mod checks;
mod node;
mod range;
#[cfg(test)]
mod tests;
mod world;

use crate::invariants::Violation;

/// Faults that can be planted to show that an invariant notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseBug {
    /// Votes are given whatever was promised.
    IgnoresPromises,
    /// After a restart votes are given at once.
    VotesBeforeTheBound,
    /// The bound on disk is lost in a restart.
    ForgetsTheBound,
    /// A restart doesn't raise the epochs.
    KeepsEpochsOverRestart,
    /// The epoch that goes with an acknowledgement is read after the append.
    ReadsEpochLate,
    /// An epoch without support is reported.
    ReportsEpochWithoutSupport,
    /// Withdrawals are acted on before they are on disk.
    ActsBeforeSync,
    /// Support is withdrawn before it has run out.
    WithdrawsEarly,
    /// Leases are used to their last moment.
    NoStasis,
    /// Votes don't carry the voter's clock.
    VotesWithoutClock,
    /// A candidate that has lost doesn't try again.
    GivesUp,
    /// Who slept blames the others.
    Impatient,
}

/// What a run consists of.
#[derive(Clone, Copy, Debug)]
pub struct LeaseOptions {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Nodes, all of them voters of every range.
    pub nodes: u64,
    /// Ranges.
    pub ranges: u64,
    /// Clocks differ by no more than the bound.
    pub good_clocks: bool,
    /// What goes wrong.
    pub trouble: Trouble,
    /// A fault, in tests of the invariants.
    pub bug: Option<LeaseBug>,
}

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing; and nobody may lose its lease.
    Nothing,
    /// All nodes stall for a second together, which must not matter either.
    AllStall,
    /// Everything, for seven seconds.
    Everything,
    /// Two of three nodes hear nothing of each other and compete for the third, which restarts.
    SharedVoter,
}

impl Trouble {
    /// Nobody has a reason to lose a lease.
    fn is_harmless(self) -> bool {
        matches!(self, Self::Nothing | Self::AllStall)
    }
}

impl LeaseOptions {
    /// A usual run.
    pub fn seeded(seed: u64) -> Self {
        let nodes = if seed.is_multiple_of(3) { 5 } else { 3 };
        let good_clocks = !seed.is_multiple_of(4);
        Self { seed, nodes, ranges: 2, good_clocks, trouble: Trouble::Everything, bug: None }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseReport {
    /// What must not have been.
    pub violations: Vec<Violation>,
    /// Leaders elected.
    pub elections: u64,
    /// Reads and writes that leaseholders served.
    pub served: u64,
    /// Crashes.
    pub crashes: u64,
    /// Steps.
    pub steps: u64,
    /// The longest time that a range was without a usable lease after healing, in milliseconds.
    pub recovery_ms: u64,
}

/// Runs one seed to its end.
pub fn run(options: LeaseOptions) -> LeaseReport {
    world::World::new(options).run()
}
