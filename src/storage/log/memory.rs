//! What the log holds in memory: per group the entries that are not purged, and the slots.
//!
//! Invariants: a group's entries have consecutive indexes starting at `first`; `first` is above every
//! purged index.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use meridian_base::RangeId;

use super::{LogWrite, Slot};

/// One group.
#[derive(Debug, Default)]
pub(super) struct GroupLog {
    first: u64,
    entries: VecDeque<Bytes>,
    slots: [Option<Bytes>; Slot::COUNT],
    purged: Option<u64>,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) map: BTreeMap<RangeId, GroupLog>,
    /// Purged entries, to be freed by whoever holds the lock after letting go of it.
    pub(super) garbage: Vec<Bytes>,
}

impl GroupLog {
    /// Applies a write; a sentence when it does not fit.
    fn apply(&mut self, write: &LogWrite, garbage: &mut Vec<Bytes>) -> Result<(), String> {
        match write {
            LogWrite::Entry { index, data } => self.append(*index, data)?,
            LogWrite::TruncateFrom(index) => {
                let keep = index.saturating_sub(self.first);
                self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
            }
            LogWrite::PurgeTo(index) => self.purge(*index, garbage),
            LogWrite::Slot(slot, value) => self.slots[*slot as usize] = Some(value.clone()),
            LogWrite::Forget => garbage.extend(std::mem::take(self).entries),
        }
        Ok(())
    }

    fn append(&mut self, index: u64, data: &Bytes) -> Result<(), String> {
        if self.purged.is_some_and(|purged| index <= purged) {
            return Ok(()); // replaying an entry whose purge mark was read first
        }
        if self.entries.is_empty() {
            self.first = index;
        }
        let next = self.first + self.entries.len() as u64;
        if index != next {
            return Err(format!("entry {index} was appended where {next} was due"));
        }
        self.entries.push_back(data.clone());
        Ok(())
    }

    fn purge(&mut self, index: u64, garbage: &mut Vec<Bytes>) {
        self.purged = self.purged.max(Some(index));
        let gone = (index + 1).saturating_sub(self.first).min(self.entries.len() as u64);
        garbage.extend(self.entries.drain(..usize::try_from(gone).unwrap_or(usize::MAX)));
        self.first += gone;
    }

    pub(super) fn bounds(&self) -> Option<(u64, u64)> {
        let count = self.entries.len() as u64;
        (count > 0).then(|| (self.first, self.first + count - 1))
    }

    pub(super) fn slot(&self, slot: Slot) -> Option<Bytes> {
        self.slots[slot as usize].clone()
    }

    pub(super) const fn purged(&self) -> Option<u64> {
        self.purged
    }

    pub(super) fn entries(&self, from: u64, to: u64) -> Vec<(u64, Bytes)> {
        let Some((first, last)) = self.bounds() else { return Vec::new() };
        let (from, to) = (from.max(first), to.min(last + 1));
        let at = |index: u64| usize::try_from(index - first).unwrap_or(usize::MAX);
        if from >= to {
            return Vec::new();
        }
        (from..to).zip(self.entries.range(at(from)..at(to)).cloned()).collect()
    }
}

impl Groups {
    pub(super) fn apply(&mut self, group: RangeId, write: &LogWrite) -> Result<(), String> {
        let outcome = self.map.entry(group).or_default().apply(write, &mut self.garbage);
        if matches!(write, LogWrite::Forget) {
            self.map.remove(&group);
        }
        outcome
    }

    /// Everything that a new segment must repeat: slots and purge marks.
    pub(super) fn heads(&self) -> Vec<(RangeId, LogWrite)> {
        let mut out = Vec::new();
        for (id, group) in &self.map {
            out.extend(group.purged.map(|index| (*id, LogWrite::PurgeTo(index))));
            for slot in [Slot::Vote, Slot::Committed, Slot::Purged, Slot::DurableApplied] {
                out.extend(group.slot(slot).map(|value| (*id, LogWrite::Slot(slot, value))));
            }
        }
        out
    }
}
