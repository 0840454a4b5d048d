//! Splits and merges.

use super::load;
use super::{Act, Cause, Planner};
use crate::api::Key;

impl Planner<'_> {
    /// Why a range should be split, and where.
    pub(super) fn should_split(&self, range: usize) -> Option<(Cause, Option<Key>)> {
        let index = &self.index;
        let known = &index.view.ranges[range];
        if let Some(border) = self.border_in(range) {
            return Some((Cause::SplitByZone, Some(border)));
        }
        if known.bytes > index.settings.range_bytes_max {
            return Some((Cause::SplitBySize, None));
        }
        if known.load > index.settings.split_load && self.takers > 1 {
            let key = load::middle(&known.span.start, &known.keys)?;
            return Some((Cause::SplitByLoad, Some(key)));
        }
        None
    }

    /// The first key in a range at which another zone begins.
    fn border_in(&self, range: usize) -> Option<Key> {
        let index = &self.index;
        if index.settings.zones.is_empty() {
            return None;
        }
        let span = &index.view.ranges[range].span;
        let after = (std::ops::Bound::Excluded(&span.start), std::ops::Bound::Unbounded);
        let (border, _) = index.settings.zones.range::<Key, _>(after).next()?;
        (span.end.is_empty() || *border < span.end).then(|| border.clone())
    }

    pub(super) fn split(&mut self, range: usize, cause: Cause, key: Option<Key>) {
        let known = &self.index.view.ranges[range];
        let why = match cause {
            Cause::SplitByZone => "another zone begins in it".to_owned(),
            Cause::SplitBySize => format!("it has {} MiB", known.bytes >> 20),
            _ => format!("it gets {} requests per second", known.load),
        };
        self.plan_for(range, Act::Split { key }, cause, why);
    }

    /// Whether a range and the one behind it should be one: neighbours on the same nodes, in one zone,
    /// so small and quiet that together they are far from being split.
    pub(super) fn should_merge(&self, left: usize) -> bool {
        let index = &self.index;
        let (settings, right) = (index.settings, left + 1);
        let Some(b) = index.view.ranges.get(right) else { return false };
        let a = &index.view.ranges[left];
        let settled = |at: Option<u64>| {
            at.is_none_or(|at| index.now.saturating_sub(at) >= settings.merge_after)
        };
        a.bytes.saturating_add(b.bytes) < settings.range_bytes_max / 4
            && a.load.saturating_add(b.load) < settings.split_load / 2
            && !b.pinned
            && !index.busy[left]
            && !index.busy[right]
            && index.zone_of[left] == index.zone_of[right]
            && settled(a.split_at)
            && settled(b.split_at)
            && a.learners.is_empty()
            && b.learners.is_empty()
            && a.leaseholder.is_some()
            && b.leaseholder.is_some()
            && a.span.end == b.span.start
            && index.seats[left].sorted() == index.seats[right].sorted()
            && index.seats[left].iter().all(|slot| index.place(slot).live)
            && !settings.zones.contains_key(&b.span.start)
    }

    pub(super) fn merge(&mut self, left: usize) {
        let (a, b) = (&self.index.view.ranges[left], &self.index.view.ranges[left + 1]);
        let (right, mib) = (b.id, (a.bytes + b.bytes) >> 20);
        let why = format!("with its right neighbour {right} it has {mib} MiB");
        self.plan_for(left, Act::Merge { right }, Cause::Merge, why);
        self.index.busy[left + 1] = true;
    }
}
