//! One range becomes two, or two one.
//!
//! Both happen at a quiet moment: the range is frozen (new commits, prepares and questions are told to
//! come again), what is in flight lands, records get their outcome. Then the state is simple: numbers,
//! markers by their key, and memories of which both halves keep what concerns them. Rejected: to split
//! records, too. A record would have to become two with one decision, and lists of participants that
//! other ranges have stored would be wrong; an outcome takes milliseconds.

use super::{Sequencer, prepared::Prepared};
use crate::api::{Key, TxnId};

/// What a frozen range still waits for before it may split or merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Busy {
    /// It isn't frozen.
    NotFrozen,
    /// For what is in flight.
    InFlight,
    /// For the outcome of these.
    Records(Vec<TxnId>),
    /// For the left range's lease to reach beyond what the right one has done.
    Lease,
}

impl Sequencer {
    /// Is there something here that may stay for as long as its owner likes? Then it does not split.
    pub fn has_holds(&self) -> bool {
        !self.prepared.holds.is_empty()
    }

    /// While frozen, nothing is sequenced.
    pub fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Is it frozen?
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// May it split or merge now?
    pub fn quiet(&self) -> Result<(), Busy> {
        if !self.frozen {
            return Err(Busy::NotFrozen);
        }
        if !self.prepared.is_empty() || !self.prepared.holds.is_empty() {
            let records = self.prepared.records().map(|(txn, _)| txn);
            let holds = self.prepared.holds.parts().map(|(txn, _)| *txn);
            return Err(Busy::Records(records.chain(holds).collect()));
        }
        let marks = self.prepared.markers.values().any(|kept| !kept.durable);
        match marks || !self.in_flight.is_empty() {
            true => Err(Busy::InFlight),
            false => Ok(()),
        }
    }

    /// Keeps what lies below `at`, thaws, and answers the machine of the rest.
    ///
    /// # Panics
    /// When the range isn't quiet.
    pub fn split(&mut self, at: &Key) -> Sequencer {
        assert_eq!(self.quiet(), Ok(()), "a range splits when it is quiet");
        self.frozen = false;
        let mut right = self.clone();
        self.recent.retain(|key| key < at);
        right.recent.retain(|key| key >= at);
        let markers = std::mem::take(&mut self.prepared.markers);
        let (below, rest): (Vec<_>, Vec<_>) =
            markers.into_iter().partition(|(_, kept)| kept.header.participants[kept.own] < *at);
        self.prepared.markers = below.into_iter().collect();
        right.prepared = Prepared::default();
        right.prepared.markers = rest.into_iter().collect();
        right
    }

    /// May this range take its right neighbour over? Both are led by one node. From then on the lease of
    /// this one counts for both: the next leaseholder may begin where it ends, so all that the right one
    /// has given out or read at must lie below.
    pub fn may_merge(&self, right: &Sequencer) -> Result<(), Busy> {
        self.quiet()?;
        right.quiet()?;
        match right.floor.max(right.last) < self.until {
            true => Ok(()),
            false => Err(Busy::Lease),
        }
    }

    /// One range of this one and its right neighbour.
    ///
    /// # Panics
    /// When they may not merge.
    pub fn merge(self, right: Sequencer) -> Sequencer {
        assert_eq!(self.may_merge(&right), Ok(()), "quiet ranges merge");
        let mut prepared = self.prepared;
        prepared.markers.extend(right.prepared.markers);
        Sequencer {
            last: self.last.max(right.last),
            applied: self.applied.max(right.applied),
            // What either has collected is collected.
            gc: self.gc.max(right.gc),
            floor: self.floor.max(right.floor),
            until: self.until,
            recent: self.recent.merge(right.recent),
            outcomes: self.outcomes.merge(right.outcomes),
            prepared,
            ..Sequencer::new(crate::api::Timestamp::MIN, 0)
        }
    }
}
