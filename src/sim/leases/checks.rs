//! What must hold of leases; told by the world as things happen.

use std::collections::BTreeMap;

use meridian_base::{NodeId, RangeId, Timestamp};

use super::LeaseReport;
use crate::invariants::Violation;

#[derive(Default)]
pub(super) struct Checks {
    pub(super) report: LeaseReport,
    /// By range and term: the highest timestamp served.
    served: BTreeMap<(RangeId, u64), Timestamp>,
    /// By range and term: who was elected and from when on it serves.
    starts: BTreeMap<(RangeId, u64), (NodeId, Timestamp)>,
}

impl Checks {
    pub(super) fn broken(&mut self, invariant: &'static str, what: String) {
        if self.report.violations.len() < 5 {
            self.report.violations.push(Violation { invariant, what });
        }
    }

    pub(super) fn elected(&mut self, range: RangeId, term: u64, node: NodeId, start: Timestamp) {
        self.report.elections += 1;
        if let Some((other, _)) = self.starts.insert((range, term), (node, start)) {
            let what = format!("{node} and {other} both lead {range} in term {term}");
            self.broken("one_leader_per_term", what);
        }
        let before = self.served.range((range, 0)..(range, term)).map(|((_, t), ts)| (*t, *ts));
        let before: Vec<_> = before.filter(|(_, served)| *served >= start).collect();
        for (old, served) in before {
            let what = format!(
                "{range}: {node} starts term {term} at {start}, term {old} has served {served}"
            );
            self.broken("served_below_start", what);
        }
    }

    pub(super) fn serves(&mut self, range: RangeId, term: u64, at: Timestamp) {
        self.report.served += 1;
        let highest = self.served.entry((range, term)).or_default();
        *highest = at.max(*highest);
        let later = self.starts.range((range, term + 1)..=(range, u64::MAX));
        let later = later.map(|((_, t), (_, start))| (*t, *start)).find(|(_, start)| *start <= at);
        if let Some((next, start)) = later {
            let what =
                format!("{range}: term {term} serves {at}, term {next} has started at {start}");
            self.broken("served_below_start", what);
        }
    }
}
