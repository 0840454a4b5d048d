//! Which snapshots are in use, so that garbage collection keeps what they can still read.

use std::collections::BTreeMap;

use crate::api::Timestamp;

/// The read timestamps of running transactions, with how many share each.
#[derive(Clone, Debug, Default)]
pub struct Snapshots {
    in_use: BTreeMap<Timestamp, u32>,
}

impl Snapshots {
    /// A transaction reads at `ts` from now on.
    pub fn protect(&mut self, ts: Timestamp) {
        *self.in_use.entry(ts).or_default() += 1;
    }

    /// It doesn't any more.
    pub fn unprotect(&mut self, ts: Timestamp) {
        let Some(count) = self.in_use.get_mut(&ts) else {
            debug_assert!(false, "unprotected a snapshot that nobody protected");
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.in_use.remove(&ts);
        }
    }

    /// The oldest one in use.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.in_use.keys().next().copied()
    }

    /// How many are in use.
    pub fn len(&self) -> usize {
        self.in_use.values().map(|count| *count as usize).sum()
    }

    /// Is none in use?
    pub fn is_empty(&self) -> bool {
        self.in_use.is_empty()
    }
}
