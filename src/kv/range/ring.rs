//! The recent writes of a range: answers "was anything of this written since?" from memory.

use std::collections::VecDeque;

use crate::api::{Key, Timestamp};
use crate::txn::ReadSet;

/// The last writes in commit order, up to a fixed number.
#[derive(Clone, Debug)]
pub struct RecentWrites {
    writes: VecDeque<(Timestamp, Key)>,
    len_max: usize,
    /// Everything written above this is in the ring.
    floor: Timestamp,
}

impl RecentWrites {
    /// An empty ring that knows nothing about writes at or below `floor`.
    pub fn new(floor: Timestamp, len_max: usize) -> RecentWrites {
        RecentWrites { writes: VecDeque::new(), len_max, floor }
    }

    /// Adds a write; timestamps never descend.
    pub fn push(&mut self, ts: Timestamp, key: Key) {
        if ts <= self.floor {
            return;
        }
        debug_assert!(self.writes.back().is_none_or(|(last, _)| *last <= ts), "in commit order");
        self.writes.push_back((ts, key));
        self.shorten();
    }

    /// Adds a write of the past: of a transaction whose commit timestamp was fixed by other ranges.
    pub fn insert(&mut self, ts: Timestamp, key: Key) {
        if ts <= self.floor {
            return;
        }
        let at = self.writes.partition_point(|(other, _)| *other <= ts);
        self.writes.insert(at, (ts, key));
        self.shorten();
    }

    /// Two neighbours' writes in one ring, which knows what both know.
    pub fn merge(self, other: RecentWrites) -> RecentWrites {
        let mut merged = RecentWrites::new(self.floor.max(other.floor), self.len_max);
        let mut writes: Vec<_> = self.writes.into_iter().chain(other.writes).collect();
        writes.sort_by_key(|(ts, _)| *ts);
        writes.into_iter().for_each(|(ts, key)| merged.push(ts, key));
        merged
    }

    /// Forgets the writes of keys that the range has lost.
    pub fn retain(&mut self, mut stays: impl FnMut(&Key) -> bool) {
        self.writes.retain(|(_, key)| stays(key));
    }

    fn shorten(&mut self) {
        while self.writes.len() > self.len_max {
            let (evicted, _) = self.writes.pop_front().expect("longer than a limit");
            self.floor = self.floor.max(evicted);
        }
    }

    /// Adds writes at one timestamp; none when they are more than the ring would keep.
    pub fn push_all(&mut self, ts: Timestamp, keys: impl Iterator<Item = Key>) {
        if ts > self.floor {
            keys.for_each(|key| self.push(ts, key));
        }
    }

    /// Announces `count` writes at `ts`: when they exceed the ring, what they would drive out goes at once.
    pub fn skip(&mut self, ts: Timestamp, count: usize) {
        if count > self.len_max {
            self.writes.clear();
            self.floor = self.floor.max(ts);
        }
    }

    /// May a write after `since` have touched what was read? True when the ring is too short to
    /// tell.
    pub fn may_touch(&self, reads: &ReadSet, since: Timestamp) -> bool {
        if since < self.floor {
            return true;
        }
        let start = self.writes.partition_point(|(ts, _)| *ts <= since);
        self.writes.range(start..).any(|(_, key)| reads.contains(key))
    }
}
