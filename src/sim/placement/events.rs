//! What happens to the world beside what is planned.

use meridian_base::{NodeId, RangeId, Span};
use meridian_kv::api::Key;
use meridian_kv::placement::Zone;

use super::world::{MIB, STEP, World, key, number};

/// Nodes that may be dead at a time; more would be a disaster, of which there is one in a few seeds.
const DEAD_MAX: usize = 1;

impl World {
    /// What goes wrong, and what people do, in ten seconds.
    pub(super) fn trouble(&mut self) {
        let at = self.rng.below(self.nodes.len() as u64);
        let at = usize::try_from(at).unwrap_or(0);
        let dead = self.nodes.iter().filter(|node| node.away_since.is_some()).count();
        let leaving = self.nodes.iter().filter(|node| node.leaving).count();
        let disaster = self.options.seed % 5 == 4;
        match self.rng.below(24) {
            0 | 1 if dead < DEAD_MAX + usize::from(disaster) => {
                self.nodes[at].away_since.get_or_insert(self.now);
                self.report.deaths += 1;
            }
            2..=4 => {
                // One comes back, sometimes when nobody expects it any more.
                let back = self.nodes.iter_mut().find(|node| node.away_since.is_some());
                if let Some(node) = back
                    && self.rng.chance(0.2)
                {
                    node.away_since = None;
                }
            }
            5 if self.nodes.len() < 36 => self.join(),
            6 if leaving < 2 && self.nodes.len() > 4 => self.nodes[at].leaving = true,
            7 => self.nodes[at].draining = true,
            8 | 9 => self.nodes.iter_mut().for_each(|node| node.draining = false),
            10 => self.rezone(),
            _ => {}
        }
        self.grow();
        self.forget_the_gone();
    }

    /// An operator changes the copies, or the places, of some keys.
    fn rezone(&mut self) {
        let first = self.rng.below(self.options.ranges) << 32 | (1 << 31);
        let replicas = ["1", "3", "5"][usize::try_from(self.rng.below(3)).unwrap_or(0)];
        let placement = if self.rng.chance(0.5) { "-zone=z0" } else { "" };
        self.settings.zones.clear();
        if let Ok(zone) = Zone::default().with(Some(replicas), Some(placement)) {
            self.settings.zones.insert(key(first), zone);
            self.settings.zones.insert(key(first + (3 << 32)), Zone::default());
        }
    }

    fn grow(&mut self) {
        let hot = self.rng.below(self.ranges.len() as u64 * 2);
        for (at, range) in self.ranges.iter_mut().enumerate() {
            let more = self.rng.below(8 * MIB);
            range.bytes = match self.rng.chance(0.005) {
                true => MIB,
                false => range.bytes + more,
            };
            range.load = (range.load * 7 + self.rng.below(120)) / 8;
            if at as u64 == hot {
                range.load += self.rng.below(5_000);
            }
            let start = number(&range.span.start[..]);
            let start = if range.span.start.is_empty() { 0 } else { start };
            range.keys.clear();
            if range.load > 1_000 {
                let width = match number(&range.span.end[..]) {
                    _ if range.span.end.is_empty() => 1 << 32,
                    end => end.saturating_sub(start).max(1),
                };
                range.keys.extend((0..32).map(|_| key(start + self.rng.below(width))));
            }
        }
    }

    /// Nodes that have left, and have no copy any more, are struck off the register.
    fn forget_the_gone(&mut self) {
        let holds = |id: NodeId| {
            self.ranges.iter().any(|r| r.voters.contains(&id) || r.learners.contains(&id))
                || self.jobs.iter().any(|job| job.running.add.contains(&id))
        };
        let gone: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|node| node.leaving && !holds(node.id))
            .map(|node| node.id)
            .collect();
        self.nodes.retain(|node| !gone.contains(&node.id));
    }

    /// The end of the trouble: who is dead stays dead, unless a range would be lost by it.
    pub(super) fn calm(&mut self) {
        self.quiet = true;
        let lost = self.ranges.iter().any(|range| !self.quorum(&range.voters));
        for node in &mut self.nodes {
            if lost {
                node.away_since = None;
            } else if let Some(since) = &mut node.away_since {
                *since = since.saturating_sub(60 * STEP);
            }
        }
    }

    pub(super) fn split(&mut self, at: usize, at_key: Option<Key>) {
        if !self.may_reshape(at) {
            return;
        }
        let range = &mut self.ranges[at];
        let start = if range.span.start.is_empty() { 0 } else { number(&range.span.start[..]) };
        let end = if range.span.end.is_empty() { u64::MAX } else { number(&range.span.end[..]) };
        let middle = at_key.unwrap_or_else(|| key(start + (end - start) / 2));
        if middle <= range.span.start || (!range.span.end.is_empty() && middle >= range.span.end) {
            return;
        }
        let mut right = range.clone();
        right.id = RangeId(self.next_range);
        right.span = Span::new(middle.clone(), range.span.end.clone());
        range.span = Span::new(range.span.start.clone(), middle);
        for half in [&mut *range, &mut right] {
            half.bytes /= 2;
            half.load /= 2;
            half.keys.clear();
            half.split_at = Some(self.now);
        }
        self.next_range += 1;
        self.report.reshaped += 1;
        self.ranges.insert(at + 1, right);
    }

    pub(super) fn merge(&mut self, at: usize, right: RangeId) {
        let fits = self.ranges.get(at + 1).is_some_and(|other| other.id == right);
        if !fits || !self.may_reshape(at) || !self.may_reshape(at + 1) {
            return;
        }
        let right = self.ranges.remove(at + 1);
        let left = &mut self.ranges[at];
        left.span = Span::new(left.span.start.clone(), right.span.end);
        left.bytes += right.bytes;
        left.load += right.load;
        self.report.reshaped += 1;
    }

    fn may_reshape(&self, at: usize) -> bool {
        let range = &self.ranges[at];
        let changing = self.jobs.iter().any(|job| job.running.range == range.id);
        !changing && range.leaseholder.is_some()
    }
}
