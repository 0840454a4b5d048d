//! The order of versions of each list, as the reads tell it, and reads that make no sense.

use std::collections::BTreeMap;

use super::anomaly::{Anomaly, AnomalyKind};
use crate::history::{Event, History};

/// Who wrote what, and in which order.
#[derive(Debug, Default)]
pub(super) struct Versions {
    orders: BTreeMap<u8, Vec<u32>>,
    writers: BTreeMap<u32, Writer>,
}

#[derive(Clone, Copy, Debug)]
struct Writer {
    txn: usize,
    may_be_seen: bool,
    /// Did the same transaction append to the same list again?
    intermediate: bool,
}

impl Versions {
    /// Infers the orders; what contradicts itself is reported.
    pub(super) fn of(history: &History, found: &mut Vec<Anomaly>) -> Versions {
        let mut versions = Versions { orders: history.lists.clone(), ..Versions::default() };
        for (at, txn) in history.txns.iter().enumerate() {
            let mut last: BTreeMap<u8, u32> = BTreeMap::new();
            for event in &txn.events {
                let (list, value, seen) = match event {
                    Event::Append { list, value } => (*list, *value, txn.may_have_committed()),
                    Event::Undone { list, value } => (*list, *value, false),
                    _ => continue,
                };
                let writer = Writer { txn: at, may_be_seen: seen, intermediate: false };
                versions.writers.insert(value, writer);
                if matches!(event, Event::Append { .. })
                    && let Some(before) = last.insert(list, value)
                    && let Some(writer) = versions.writers.get_mut(&before)
                {
                    writer.intermediate = true;
                }
            }
        }
        for (list, values) in &history.lists {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
                let what = format!("list {list} has a value twice: {values:?}");
                found.push(Anomaly::new(AnomalyKind::IncompatibleOrder, what));
            }
        }
        for (at, txn) in history.txns.iter().enumerate().filter(|(_, txn)| txn.committed()) {
            versions.judge_reads(at, &txn.events, found);
        }
        versions
    }

    fn judge_reads(&mut self, at: usize, events: &[Event], found: &mut Vec<Anomaly>) {
        let mut own: BTreeMap<u8, u32> = BTreeMap::new();
        for event in events {
            let (list, values) = match event {
                Event::Append { list, value } => {
                    own.insert(*list, *value);
                    continue;
                }
                Event::Read { list, values } => (*list, values),
                Event::Undone { .. } | Event::Write { .. } | Event::Total(_) => continue,
            };
            let mut report = |kind, what: String| found.push(Anomaly::new(kind, what));
            if own.get(&list).is_some_and(|value| values.last() != Some(value)) {
                let what = format!("T{at} read {values:?} of list {list} after its own append");
                report(AnomalyKind::OwnWriteMissing, what);
            }
            for value in values {
                let writer = self.writers.get(value);
                if writer.is_none_or(|writer| !writer.may_be_seen) {
                    let what = format!("T{at} read {value} of list {list}, which was rolled back");
                    report(AnomalyKind::G1a, what);
                }
            }
            let last = values.last().and_then(|value| self.writers.get(value));
            if last.is_some_and(|writer| writer.intermediate && writer.txn != at) {
                let what = format!("T{at} read {values:?} of list {list}, an intermediate state");
                report(AnomalyKind::G1b, what);
            }
            let order = self.orders.entry(list).or_default();
            if !order.starts_with(values) {
                match values.starts_with(order) {
                    true => order.clone_from(values),
                    false => {
                        let what = format!("list {list} is {order:?}; T{at} read {values:?}");
                        report(AnomalyKind::IncompatibleOrder, what);
                    }
                }
            }
        }
    }

    pub(super) fn orders(&self) -> impl Iterator<Item = &Vec<u32>> {
        self.orders.values()
    }

    pub(super) fn writer(&self, value: u32) -> Option<usize> {
        self.writers.get(&value).map(|writer| writer.txn)
    }

    pub(super) fn position(&self, list: u8, value: u32) -> Option<usize> {
        self.orders.get(&list)?.iter().position(|known| *known == value)
    }

    /// The version that came after what was read.
    pub(super) fn after(&self, list: u8, read: &[u32]) -> Option<u32> {
        let order = self.orders.get(&list)?;
        order.starts_with(read).then(|| order.get(read.len()).copied()).flatten()
    }
}
