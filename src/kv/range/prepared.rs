//! The transactions over several ranges that a leaseholder knows: records that wait for an outcome, and
//! markers of those that have one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use smallvec::SmallVec;

use super::Refused;
use super::holds::Holds;
use super::record::{Header, Marker, Outcome, Record};
use crate::api::{Key, Span, Timestamp, TxnId};
use crate::txn::ReadSet;

/// A participant: the transaction and which part of it. Ranges that have merged may hold several.
pub(super) type Part = (TxnId, usize);

/// What somebody wants to read.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// One key.
    Key(&'a [u8]),
    /// All keys of a span.
    Span(&'a Span),
}

/// A record and how far it has come.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) record: Record,
    /// It has been applied.
    pub(super) durable: bool,
    /// Known, but not yet applied.
    pub(super) outcome: Option<Outcome>,
    /// Its resolution is on its way through the log.
    pub(super) resolving: bool,
}

/// A marker and what else is known.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) header: Header,
    pub(super) own: usize,
    pub(super) outcome: Outcome,
    pub(super) durable: bool,
    /// No participant has a record any more.
    pub(super) settled: bool,
}

/// Records and markers.
#[derive(Clone, Debug, Default)]
pub(super) struct Prepared {
    records: BTreeMap<Part, Held>,
    /// What those records keep away that wait for their owner.
    pub(super) holds: Holds,
    /// Which record writes a key. One at a time does.
    keys: BTreeMap<Key, Part>,
    /// Records with reads.
    readers: BTreeSet<Part>,
    pub(super) markers: BTreeMap<Part, Kept>,
}

impl Kept {
    /// The answer to who wants to commit.
    pub(super) fn refusal(&self) -> Refused {
        match self.durable {
            true => Refused::Decided(self.outcome),
            false => Refused::Busy,
        }
    }
}

impl Held {
    /// May it still turn out to have happened at or below `ts`?
    fn open_at(&self, ts: Timestamp) -> bool {
        self.record.ts <= ts
            && match self.outcome {
                None => true,
                // Decided, but its writes can't be read yet.
                Some(Outcome::Committed(at)) => at <= ts,
                Some(Outcome::Aborted) => false,
            }
    }
}

impl Prepared {
    /// Nothing prepared that waits for a coordinator: the usual state.
    pub(super) fn is_empty(&self) -> bool {
        self.records.len() == self.holds.len()
    }

    pub(super) fn get(&self, part: Part) -> Option<&Held> {
        self.records.get(&part)
    }

    pub(super) fn get_mut(&mut self, part: Part) -> Option<&mut Held> {
        self.records.get_mut(&part)
    }

    /// Has this transaction a record here?
    pub(super) fn has(&self, txn: TxnId) -> bool {
        self.records.range((txn, 0)..=(txn, usize::MAX)).next().is_some()
    }

    /// The records that wait for a coordinator.
    pub(super) fn records(&self) -> impl Iterator<Item = (TxnId, &Held)> {
        let records = self.records.iter().map(|((txn, _), held)| (*txn, held));
        records.filter(|(_, held)| !held.record.header.is_hold())
    }

    /// Are there writes without an outcome under the locks of this hold?
    pub(super) fn is_in_use(&self, hold: Part) -> bool {
        let held = self.records.get(&hold).filter(|held| held.record.header.is_hold());
        held.is_some_and(|held| held.record.locks().any(|(key, _)| self.writer(key).is_some()))
    }

    pub(super) fn durable_holds(&self) -> impl Iterator<Item = &Header> {
        let held = self.holds.parts().filter_map(|part| self.records.get(part));
        held.filter(|held| held.durable).map(|held| &held.record.header)
    }

    pub(super) fn insert(&mut self, record: Record, durable: bool) {
        let part = (record.header.txn, record.own);
        self.keys.extend(record.writes.iter().map(|(key, _)| (key.clone(), part)));
        if record.header.is_hold() {
            self.holds.insert(part, &record);
        } else if !record.reads.is_empty() {
            self.readers.insert(part);
        }
        let held = Held { record, durable, outcome: None, resolving: false };
        self.records.insert(part, held);
    }

    pub(super) fn remove(&mut self, part: Part) {
        let Some(held) = self.records.remove(&part) else { return };
        for (key, _) in &held.record.writes {
            self.keys.remove(key);
        }
        self.readers.remove(&part);
        self.holds.remove(part, &held.record);
    }

    pub(super) fn keep(&mut self, marker: &Marker, durable: bool) {
        let Marker { header, own, outcome } = marker.clone();
        let settled = outcome == Outcome::Aborted;
        self.markers.insert((header.txn, own), Kept { header, own, outcome, durable, settled });
    }

    /// Who writes this key.
    pub(super) fn writer(&self, key: &[u8]) -> Option<TxnId> {
        self.keys.get(key).map(|(txn, _)| *txn)
    }

    /// A prepared writer of a key in `[first, last]`.
    pub(super) fn writer_within(&self, first: &[u8], last: &[u8]) -> Option<TxnId> {
        let span = (Bound::Included(first), Bound::Included(last));
        self.keys.range::<[u8], _>(span).map(|(_, (txn, _))| *txn).next()
    }

    /// The records whose writes a reader at `ts` must know the outcome of, and be able to read.
    pub(super) fn open(&self, target: Target<'_>, ts: Timestamp) -> SmallVec<[TxnId; 2]> {
        let mut found = SmallVec::new();
        let mut add = |part: &Part| {
            if self.records[part].open_at(ts) && !found.contains(&part.0) {
                found.push(part.0);
            }
        };
        match target {
            Target::Key(key) => self.keys.get(key).into_iter().for_each(add),
            Target::Span(span) if span.is_empty() => {}
            Target::Span(span) => {
                let end = match span.end.is_empty() {
                    true => Bound::Unbounded,
                    false => Bound::Excluded(&span.end[..]),
                };
                let span = (Bound::Included(&span.start[..]), end);
                self.keys.range::<[u8], _>(span).for_each(|(_, part)| add(part));
            }
        }
        found
    }

    /// Another transaction's record without an outcome that has read a key of those to be written.
    pub(super) fn reader<'a>(
        &self,
        own: Option<TxnId>,
        mut keys: impl Iterator<Item = &'a [u8]>,
    ) -> Option<TxnId> {
        if self.readers.is_empty() {
            return None;
        }
        // Once the outcome is known the range sequences above it: the read was before the write.
        let others = self.readers.iter().filter(|(txn, _)| Some(*txn) != own);
        let others = others.map(|part| (part.0, &self.records[part]));
        let open: Vec<_> = others.filter(|(_, held)| held.outcome.is_none()).collect();
        let read = |key| open.iter().find(|(_, held)| held.record.reads.contains(key));
        keys.find_map(|key| read(key).map(|(txn, _)| *txn))
    }

    /// Another transaction's record without an outcome that writes what was read. The writes of a decided
    /// one are in the ring of recent writes.
    pub(super) fn writes_into(&self, own: Option<TxnId>, reads: &ReadSet) -> Option<TxnId> {
        let others = self.records().filter(|(txn, _)| Some(*txn) != own);
        let writes = |held: &Held| held.record.writes.iter().any(|(key, _)| reads.contains(key));
        let mut open = others.filter(|(_, held)| held.outcome.is_none());
        open.find(|(_, held)| writes(held)).map(|(txn, _)| txn)
    }

    /// Verifies that the indexes say what the records say.
    pub(super) fn check(&self, last: Timestamp) -> Result<(), String> {
        let written: usize = self.records.values().map(|held| held.record.writes.len()).sum();
        if written != self.keys.len() {
            return Err(format!("{written} keys prepared, {} known", self.keys.len()));
        }
        for (part @ (txn, _), held) in &self.records {
            if held.record.ts > last {
                return Err(format!("{txn} is prepared at {}, above {last}", held.record.ts));
            }
            let marker = self.markers.get(part);
            if let Some(kept) = marker {
                return Err(format!("{txn} is prepared and {:?} at once", kept.outcome));
            }
            if let Some((key, _)) =
                held.record.writes.iter().find(|(key, _)| self.keys.get(key) != Some(part))
            {
                return Err(format!("{key:?} isn't known to be prepared by {txn}"));
            }
        }
        Ok(())
    }
}
