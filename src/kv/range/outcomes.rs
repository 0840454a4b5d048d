//! Which one-phase commits happened lately: the answer for a gateway whose connection broke.
//!
//! Every replica keeps one and feeds it while it applies, so a new leaseholder knows what the old one
//! did. What isn't in it and was sent after `floor` didn't happen.

use std::collections::{BTreeMap, VecDeque};

use crate::api::{Timestamp, TxnId};

/// The last named commits of a range, up to a fixed number.
#[derive(Clone, Debug)]
pub struct Outcomes {
    commits: BTreeMap<TxnId, Timestamp>,
    order: VecDeque<(Timestamp, TxnId)>,
    len_max: usize,
    floor: Timestamp,
}

impl Outcomes {
    /// Knows nothing about commits at or below `floor`: what the engine held when the replica started.
    pub fn new(floor: Timestamp, len_max: usize) -> Outcomes {
        Outcomes { commits: BTreeMap::new(), order: VecDeque::new(), len_max, floor }
    }

    /// A commit was applied; repeating one changes nothing.
    pub fn note(&mut self, txn: TxnId, ts: Timestamp) {
        if self.commits.insert(txn, ts).is_some() {
            return;
        }
        self.order.push_back((ts, txn));
        while self.order.len() > self.len_max {
            let (ts, txn) = self.order.pop_front().expect("longer than a limit");
            self.commits.remove(&txn);
            self.floor = self.floor.max(ts);
        }
    }

    /// When it was committed, if that is remembered.
    pub fn get(&self, txn: TxnId) -> Option<Timestamp> {
        self.commits.get(&txn).copied()
    }

    /// A commit that was asked for at this or later, and therefore has a later timestamp, is here if it
    /// happened.
    pub fn floor(&self) -> Timestamp {
        self.floor
    }

    /// What two neighbours remember together.
    pub fn merge(self, other: Outcomes) -> Outcomes {
        let mut merged = Outcomes::new(self.floor.max(other.floor), self.len_max);
        let mut order: Vec<_> = self.order.into_iter().chain(other.order).collect();
        order.sort_unstable();
        order.into_iter().for_each(|(ts, txn)| merged.note(txn, ts));
        merged
    }
}
