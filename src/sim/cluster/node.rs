//! A node: a clock, and the coordinators that run there.

use std::collections::BTreeMap;

use meridian_kv::api::{Timestamp, TxnId};
use meridian_kv::commit::{Commit, OnePhase};

use super::holds::{Errand, Holds, base_of};
use super::net::Whole;

/// How far clocks may be apart, in units of the simulated time.
pub(super) const OFFSET_MAX: u64 = 200;

/// A coordinator or a recovery.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) txn: TxnId,
    /// The client that waits for the verdict.
    pub(super) client: Option<usize>,
    pub(super) machine: Machine,
    /// What a commit for a hold is about.
    pub(super) errand: Option<Errand>,
}

impl Job {
    /// The client's transaction that it is for.
    pub(super) fn of_client(&self) -> TxnId {
        base_of(self.errand.map_or(self.txn, |errand| errand.hold))
    }
}

#[derive(Debug)]
pub(super) enum Machine {
    Whole(OnePhase, Box<Whole>),
    Parts(Box<Commit>),
    Holds(Box<Holds>),
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) alive: bool,
    skew: u64,
    hlc: Timestamp,
    /// While it is down: all that it gave out lies below this.
    pub(super) support_end: Timestamp,
    pub(super) jobs: BTreeMap<u64, Job>,
}

impl Node {
    pub(super) fn new(skew: u64) -> Node {
        let (hlc, support_end, jobs) = (Timestamp::MIN, Timestamp::MIN, BTreeMap::new());
        Node { alive: true, skew, hlc, support_end, jobs }
    }

    /// A new reading of its clock.
    pub(super) fn now(&mut self, wall: u64) -> Timestamp {
        self.hlc = Timestamp(wall + self.skew).max(self.hlc.next());
        self.hlc
    }

    /// It hears of a timestamp.
    pub(super) fn hears(&mut self, ts: Timestamp) {
        self.hlc = self.hlc.max(ts);
    }
}
