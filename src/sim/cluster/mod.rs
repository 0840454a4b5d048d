//! A simulated cluster: transactions over several ranges on several nodes.
//!
//! Real are the machines: sequencers with their records, lock tables, transactions, coordinators,
//! recoveries, the deadlock search. Models stand for the rest:
//!
//! * **raft**: a range has one leader, whose proposals land one by one. When the leader goes (crash,
//!   lease move), some first part of what it had proposed still lands and nobody is told; the rest is
//!   lost, with locks, floor and all else that was in its memory. The next one begins when the lease is
//!   over. Replicas aren't told apart: what has landed is what each of them has.
//! * **network**: messages of the commit protocol are delayed, lost, doubled (but for one-phase commits,
//!   which a transport delivers at most once) and reordered. Reads and locks go straight to the leader, since what can go wrong with them
//!   is that it changes.
//! * **clocks**: each node's is ahead by its own part of the allowed offset.
//! * **splits and merges**, when the range is quiet.
//! * **prepared transactions** of users: see [`holds`].
//! * **copies** that followers serve closed timestamps from: see [`followers`].
//!
//! After some time, or when all clients are through, the world heals: no more faults, and everything
//! must come to an end. A failing seed is repeated with
//!
//! ```text
//! MERIDIAN_SIM_SEED=17 cargo test -p meridian-sim one_cluster_seed -- --nocapture
//! ```

mod client;
mod faults;
mod followers;
mod gateway;
mod holds;
mod net;
mod node;
mod range;
mod world;

use meridian_kv::api::Isolation;

pub use world::{Report, run};

/// Faults that can be planted to show that an invariant notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A snapshot over several ranges is the gateway's own clock.
    SnapshotOfOwnClock,
    /// One range's snapshot is its applied timestamp, whatever is prepared.
    SnapshotIgnoresRecords,
    /// Readers don't wait for prepared transactions.
    ReadersIgnoreRecords,
    /// Readers don't raise the floor.
    NoFloor,
    /// A new leaseholder doesn't load prepared records.
    LeaseForgetsRecords,
    /// A refused prepare is taken for an aborted transaction, of which nobody needs to hear.
    RefusalIsAbort,
    /// Who asks about an unknown transaction leaves no marker.
    QueryDoesNotPrevent,
    /// Each range applies its part at the timestamp that it prepared at.
    CommitAtOwnTimestamp,
    /// A prepare is answered when it is proposed.
    AnswerBeforeItIsDurable,
    /// SERIALIZABLE validates only in ranges that it writes.
    ReadsOnlyWhereWritten,
    /// Markers of commits go before all participants have resolved.
    MarkersGoEarly,
    /// Nobody recovers.
    NoRecovery,
    /// Nobody looks for deadlocks.
    NoDeadlockCheck,
    /// What is prepared doesn't keep a range from being closed.
    CloseIgnoresRecords,
    /// A leaseholder closes its range ahead of its clock, and goes on below.
    CloseWithoutFloor,
    /// A copy serves what is closed before it has applied it.
    CopyIgnoresIndex,
    /// A commit in the name of a hold doesn't say so.
    FinishForgetsHold,
    /// A new leaseholder doesn't know of holds.
    LeaseForgetsHolds,
    /// The right half of a split begins as far closed as the left one is after the split.
    HalfBeginsAsLeftIs,
}

/// What a run consists of.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Everybody's level; `None` = a mixture.
    pub isolation: Option<Isolation>,
    /// Nodes, each a gateway too.
    pub nodes: usize,
    /// Clients at a time.
    pub clients: usize,
    /// Transactions of each.
    pub txns_per_client: usize,
    /// At most this many nodes fail.
    pub crashes_max: u32,
    /// No node fails and leases move with their locks: then nobody in READ COMMITTED may fail for it.
    pub calm: bool,
    /// Entries take long to land: much is in flight when a leader goes.
    pub slow_log: bool,
    /// A fault, in tests of the invariants.
    pub bug: Option<Bug>,
}

impl Options {
    /// A usual run; the seed decides the level, too.
    pub fn seeded(seed: u64) -> Options {
        let isolation = match seed % 4 {
            0 => Some(Isolation::ReadCommitted),
            1 => Some(Isolation::RepeatableRead),
            2 => Some(Isolation::Serializable),
            _ => None,
        };
        let (nodes, clients, txns_per_client, crashes_max) = (3, 6, 6, 2);
        let (calm, slow_log) = (seed % 5 == 4, seed % 3 == 2);
        Options {
            seed,
            isolation,
            nodes,
            clients,
            txns_per_client,
            crashes_max,
            calm,
            slow_log,
            bug: None,
        }
    }
}

/// What happened, to show that runs aren't tame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Commits over several ranges that were acknowledged.
    pub distributed: u32,
    /// Commits in one range that were acknowledged.
    pub one_phase: u32,
    /// Transactions that somebody else than their coordinator ended.
    pub recoveries: u32,
    /// Outcomes that no client could be told.
    pub unknown: u32,
    /// Lease changes, crashes included.
    pub leases: u32,
    /// Crashes.
    pub crashes: u32,
    /// Coordinators that vanished alone.
    pub coordinators: u32,
    /// Splits and merges.
    pub splits: u32,
    /// Deadlocks broken.
    pub deadlocks: u32,
    /// Markers collected.
    pub collected: u32,
    /// Times that a reader had to wait for a record.
    pub waits: u32,
    /// Transactions that were prepared by their users.
    pub prepared: u32,
    /// Those that somebody else has ended, or tried to.
    pub operated: u32,
    /// Reads that copies have served.
    pub follower_reads: u32,
}
