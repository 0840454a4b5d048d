//! The transactions over several ranges that a leaseholder knows: records that wait for an outcome, and
//! markers of those that have one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use smallvec::SmallVec;

use super::Refused;
use super::record::{Header, Marker, Outcome, Record};
use crate::api::{Key, Span, Timestamp, TxnId};
use crate::txn::ReadSet;

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
    records: BTreeMap<TxnId, Held>,
    /// Which record writes a key. One at a time does.
    keys: BTreeMap<Key, TxnId>,
    /// Records with reads.
    readers: BTreeSet<TxnId>,
    pub(super) markers: BTreeMap<TxnId, Kept>,
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
    /// Nothing prepared: the usual state.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn get(&self, txn: TxnId) -> Option<&Held> {
        self.records.get(&txn)
    }

    pub(super) fn get_mut(&mut self, txn: TxnId) -> Option<&mut Held> {
        self.records.get_mut(&txn)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = (TxnId, &Held)> {
        self.records.iter().map(|(txn, held)| (*txn, held))
    }

    pub(super) fn insert(&mut self, record: Record, durable: bool) {
        let txn = record.header.txn;
        self.keys.extend(record.writes.iter().map(|(key, _)| (key.clone(), txn)));
        if !record.reads.is_empty() {
            self.readers.insert(txn);
        }
        let held = Held { record, durable, outcome: None, resolving: false };
        self.records.insert(txn, held);
    }

    pub(super) fn remove(&mut self, txn: TxnId) -> Option<Held> {
        let held = self.records.remove(&txn)?;
        for (key, _) in &held.record.writes {
            self.keys.remove(key);
        }
        self.readers.remove(&txn);
        Some(held)
    }

    pub(super) fn keep(&mut self, marker: &Marker, durable: bool) {
        let Marker { header, own, outcome } = marker.clone();
        let settled = outcome == Outcome::Aborted;
        self.markers.insert(header.txn, Kept { header, own, outcome, durable, settled });
    }

    /// Who writes this key.
    pub(super) fn writer(&self, key: &[u8]) -> Option<TxnId> {
        self.keys.get(key).copied()
    }

    /// A prepared writer of a key in `[first, last]`.
    pub(super) fn writer_within(&self, first: &[u8], last: &[u8]) -> Option<TxnId> {
        let span = (Bound::Included(first), Bound::Included(last));
        self.keys.range::<[u8], _>(span).map(|(_, txn)| *txn).next()
    }

    /// The records whose writes a reader at `ts` must know the outcome of, and be able to read.
    pub(super) fn open(&self, target: Target<'_>, ts: Timestamp) -> SmallVec<[TxnId; 2]> {
        let mut found = SmallVec::new();
        let mut add = |txn: TxnId| {
            if self.records[&txn].open_at(ts) && !found.contains(&txn) {
                found.push(txn);
            }
        };
        match target {
            Target::Key(key) => self.keys.get(key).into_iter().for_each(|txn| add(*txn)),
            Target::Span(span) if span.is_empty() => {}
            Target::Span(span) => {
                let end = match span.end.is_empty() {
                    true => Bound::Unbounded,
                    false => Bound::Excluded(&span.end[..]),
                };
                let span = (Bound::Included(&span.start[..]), end);
                self.keys.range::<[u8], _>(span).for_each(|(_, txn)| add(*txn));
            }
        }
        found
    }

    /// A record without an outcome that has read a key of those to be written.
    pub(super) fn reader<'a>(&self, mut keys: impl Iterator<Item = &'a [u8]>) -> Option<TxnId> {
        if self.readers.is_empty() {
            return None;
        }
        // Once the outcome is known the range sequences above it: the read was before the write.
        let open = self.readers.iter().filter(|txn| self.records[*txn].outcome.is_none());
        let open: Vec<&TxnId> = open.collect();
        keys.find_map(|key| {
            open.iter().find(|txn| self.records[**txn].record.reads.contains(key)).map(|txn| **txn)
        })
    }

    /// A record without an outcome that writes what was read. The writes of a decided one are in the
    /// ring of recent writes.
    pub(super) fn writes_into(&self, reads: &ReadSet) -> Option<TxnId> {
        let mut open = self.records.iter().filter(|(_, held)| held.outcome.is_none());
        let writes = |held: &Held| held.record.writes.iter().any(|(key, _)| reads.contains(key));
        open.find(|(_, held)| writes(held)).map(|(txn, _)| *txn)
    }

    /// Verifies that the indexes say what the records say.
    pub(super) fn check(&self, last: Timestamp) -> Result<(), String> {
        let written: usize = self.records.values().map(|held| held.record.writes.len()).sum();
        if written != self.keys.len() {
            return Err(format!("{written} keys prepared, {} known", self.keys.len()));
        }
        for (txn, held) in &self.records {
            if held.record.ts > last {
                return Err(format!("{txn} is prepared at {}, above {last}", held.record.ts));
            }
            let marker = self.markers.get(txn);
            if let Some(kept) = marker {
                return Err(format!("{txn} is prepared and {:?} at once", kept.outcome));
            }
            if let Some((key, _)) =
                held.record.writes.iter().find(|(key, _)| self.keys.get(key) != Some(txn))
            {
                return Err(format!("{key:?} isn't known to be prepared by {txn}"));
            }
        }
        Ok(())
    }
}
