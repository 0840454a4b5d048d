//! Where the copies and leases of ranges go: the planner's plan, and this node's part in it.
//!
//! Every node reads all ranges and all nodes, each second, and the planner is a pure function of them. So
//! each node plans for all, and carries out what concerns the ranges that it leads: nobody has to be
//! elected for it, told, or asked. What another node knows some moments later makes its plan differ a
//! little for as long; no range suffers from that, since only its leaseholder changes it, from members
//! that it knows.
//!
//! ```text
//! plan ─▶ targets: range → voters      survey ─▶ next_step: learners ─ counted by the lease ─▶ voters
//! ```
//! A target stands until it is reached, or for [`TARGET_MAX`]. Sizes and loads are reported by leaseholders
//! (`remote/reports.rs`). Left out: merges, which the shell cannot do; sizes of disks, which nobody reports; cells,
//! which are not kept in the register yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meridian_base::{Instant, NodeId, RangeId};
use meridian_kv::api::Key;
use meridian_kv::placement::{
    self, Act, Action, Cause, Locality, Node, Range, Running, Settings, View, Zone,
};
use meridian_replication::Members;
use parking_lot::Mutex;

use super::NodeRow;
use crate::split::FIRST_SPLIT_KEY;

/// How long a change is tried before it is planned anew.
const TARGET_MAX: Duration = Duration::from_secs(300);
/// How often leases are moved for evenness: a move costs its range's clients some milliseconds.
const LEASE_EVERY: Duration = Duration::from_secs(30);
/// With more ranges than this plans are made less often.
const FEW_RANGES: usize = 1_000;
/// Then this often.
const PLAN_EVERY: Duration = Duration::from_secs(10);

/// A change of members that this node is bringing about.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    voters: BTreeSet<NodeId>,
    since: Instant,
}

/// This node's part in placing copies.
pub(crate) struct Placing {
    settings: Mutex<Settings>,
    targets: Mutex<BTreeMap<RangeId, Target>>,
    planned: Mutex<Option<Instant>>,
    lease_moved: Mutex<Instant>,
}

/// A lease to be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handover {
    pub(crate) range: RangeId,
    pub(crate) to: NodeId,
}

/// What is to be done at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) moves: Vec<Handover>,
    /// Keys at which ranges are to begin.
    pub(crate) splits: Vec<Key>,
}

/// The nodes as the planner takes them, at `now`, in microseconds of any clock.
pub(crate) fn nodes(
    known: &BTreeMap<NodeId, NodeRow>,
    away: &BTreeMap<NodeId, Instant>,
    now: u64,
) -> Vec<Node> {
    let since = |id: &NodeId| {
        let for_long = away.get(id)?.elapsed();
        Some(now.saturating_sub(u64::try_from(for_long.as_micros()).unwrap_or(u64::MAX)))
    };
    let node = |(id, row): (&NodeId, &NodeRow)| Node {
        id: *id,
        away_since: since(id),
        leaving: row.leaving,
        draining: row.draining,
        // What can't be read is nowhere.
        locality: Locality::parse(&row.locality).unwrap_or_default(),
        ..Node::default()
    };
    known.iter().map(node).collect()
}

impl Placing {
    /// `range_bytes_max`: 0 = a range may be as large as it likes; `split_load`: requests per second of a range.
    pub(crate) fn new(range_bytes_max: u64, split_load: u64) -> Placing {
        let range_bytes_max = if range_bytes_max == 0 { u64::MAX } else { range_bytes_max };
        Placing {
            settings: Mutex::new(Settings {
                cell_max: usize::MAX,
                range_bytes_max,
                split_load,
                ..Settings::default()
            }),
            targets: Mutex::default(),
            planned: Mutex::default(),
            lease_moved: Mutex::new(Instant::now()),
        }
    }

    /// What holds for all keys, and from which keys on something else does.
    pub(crate) fn set_zones(&self, usual: Zone, zones: BTreeMap<Key, Zone>) {
        let mut settings = self.settings.lock();
        (settings.default_zone, settings.zones) = (usual, zones);
    }

    /// What is to be done for all ranges, and not being done yet; nothing of it is begun.
    pub(crate) fn plan(&self, nodes: Vec<Node>, ranges: Vec<Range>, now: u64) -> Vec<Action> {
        let running = {
            let targets = self.targets.lock();
            let change = |range: &Range| {
                let target = targets.get(&range.id)?;
                let new = target.voters.iter().filter(|node| !range.voters.contains(node));
                let old = range.voters.iter().filter(|node| !target.voters.contains(node));
                let (add, remove) = (new.copied().collect(), old.copied().collect());
                Some(Running { range: range.id, add, remove })
            };
            ranges.iter().filter_map(change).collect()
        };
        let view = View { nodes, ranges, running };
        let settings = self.settings.lock().clone();
        placement::plan(&view, &settings, now).actions
    }

    /// Who is to lead the ranges instead of nodes that are to be stopped.
    pub(crate) fn heirs(
        &self,
        nodes: Vec<Node>,
        ranges: Vec<Range>,
        now: u64,
    ) -> BTreeMap<RangeId, NodeId> {
        let heir = |action: Action| match action.act {
            Act::MoveLease { to, .. } if action.cause == Cause::DrainLease => {
                Some((action.range, to))
            }
            _ => None,
        };
        self.plan(nodes, ranges, now).into_iter().filter_map(heir).collect()
    }

    /// Plans, if it is time, and takes on what concerns the ranges that this node leads: the `led`. What is to
    /// be done now.
    pub(crate) fn take_on(
        &self,
        nodes: Vec<Node>,
        ranges: Vec<Range>,
        led: &BTreeSet<RangeId>,
        now: u64,
    ) -> Begun {
        let pause = if ranges.len() > FEW_RANGES { PLAN_EVERY } else { Duration::ZERO };
        {
            let mut planned = self.planned.lock();
            if planned.is_some_and(|last| last.elapsed() < pause) {
                return Begun::default();
            }
            *planned = Some(Instant::now());
        }
        self.targets
            .lock()
            .retain(|id, target| led.contains(id) && target.since.elapsed() < TARGET_MAX);
        let voters: BTreeMap<RangeId, BTreeSet<NodeId>> = ranges
            .iter()
            .filter(|range| led.contains(&range.id))
            .map(|range| (range.id, range.voters.iter().copied().collect()))
            .collect();
        let mut begun = Begun::default();
        for action in self.plan(nodes, ranges, now) {
            let Some(voters) = voters.get(&action.range) else { continue };
            match &action.act {
                Act::Change { add, remove } => {
                    let mut voters = voters.clone();
                    voters.retain(|node| !remove.contains(node));
                    voters.extend(add.iter().copied());
                    tracing::info!(range = %action.range, ?add, ?remove, "{}", action.reason);
                    let target = Target { voters, since: Instant::now() };
                    self.targets.lock().insert(action.range, target);
                }
                // Its node hands it over when transactions have ended ([`super::drain`]).
                Act::MoveLease { .. } if action.cause == Cause::DrainLease => {}
                Act::MoveLease { to, .. } if self.may_move_lease(action.cause) => {
                    tracing::info!(range = %action.range, %to, "the lease moves: {}", action.reason);
                    begun.moves.push(Handover { range: action.range, to: *to });
                }
                Act::Split { key: Some(key) } if key[..] >= FIRST_SPLIT_KEY[..] => {
                    tracing::info!(range = %action.range, "the range is split: {}", action.reason);
                    begun.splits.push(key.clone());
                }
                // Who has measured a range splits it by size; ranges cannot merge.
                Act::MoveLease { .. } | Act::Split { .. } | Act::Merge { .. } => {}
            }
        }
        begun
    }

    /// Leases move for evenness one at a time, and rarely; for a reason at once.
    fn may_move_lease(&self, cause: Cause) -> bool {
        if cause != Cause::BalanceLeases {
            return true;
        }
        let mut moved = self.lease_moved.lock();
        let may = moved.elapsed() >= LEASE_EVERY;
        if may {
            *moved = Instant::now();
        }
        may
    }

    /// The next step of a range to its target: voters and learners. `counted` are the learners that the
    /// lease has been counting on, which it must before they vote.
    pub(crate) fn next_step(
        &self,
        range: RangeId,
        members: &Members,
        live: &[NodeId],
        counted: &BTreeSet<NodeId>,
    ) -> Option<(Vec<NodeId>, Vec<NodeId>)> {
        let voters = members.all_voters();
        let mut targets = self.targets.lock();
        let target = targets.get(&range)?.voters.clone();
        let new: BTreeSet<NodeId> = target.difference(&voters).copied().collect();
        if target == voters && members.learners.is_empty() {
            targets.remove(&range);
            return None;
        }
        let list = |nodes: &BTreeSet<NodeId>| nodes.iter().copied().collect::<Vec<_>>();
        if !new.iter().all(|node| live.contains(node)) {
            targets.remove(&range);
            return (!members.learners.is_empty()).then(|| (list(&voters), Vec::new()));
        }
        if !new.is_subset(&members.learners) {
            return Some((list(&voters), list(&new)));
        }
        new.is_subset(counted).then(|| (list(&target), Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(voters: &[u64], learners: &[u64]) -> Members {
        let set = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect();
        let mut members = Members::default();
        (members.voters, members.learners) = (vec![set(voters)], set(learners));
        members
    }

    fn range(voters: &[u64], leader: u64) -> Range {
        Range {
            id: RangeId(1),
            voters: voters.iter().map(|id| NodeId(*id)).collect(),
            leaseholder: Some(NodeId(leader)),
            ..Range::default()
        }
    }

    #[test]
    fn a_copy_is_learner_then_voter_and_a_lease_goes_before_its_node_does() {
        let rows = (1..=4).map(|id| (NodeId(id), NodeRow { id, ..NodeRow::default() }));
        let mut rows: BTreeMap<NodeId, NodeRow> = rows.collect();
        let (placing, away) = (Placing::new(0, 100_000), BTreeMap::new());
        let led = BTreeSet::from([RangeId(1)]);
        let live: Vec<NodeId> = (1..=4).map(NodeId).collect();
        let none = BTreeSet::new();
        let take_on = |rows: &BTreeMap<NodeId, NodeRow>, range: Range| {
            placing.take_on(nodes(rows, &away, 1), vec![range], &led, 1)
        };
        assert_eq!(take_on(&rows, range(&[1], 1)), Begun::default());
        let next = |members: &Members, counted: &BTreeSet<NodeId>| {
            placing.next_step(RangeId(1), members, &live, counted)
        };
        let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
        assert_eq!(next(&members(&[1], &[]), &none), Some((ids(&[1]), ids(&[2, 3]))));
        assert!(placing.plan(nodes(&rows, &away, 1), vec![range(&[1], 1)], 1).is_empty());
        assert_eq!(next(&members(&[1], &[2, 3]), &none), None, "the lease doesn't count on them");
        let counted = ids(&[2, 3]).into_iter().collect();
        let both = members(&[1], &[2, 3]);
        assert_eq!(next(&both, &counted), Some((ids(&[1, 2, 3]), Vec::new())));
        assert_eq!(next(&members(&[1, 2, 3], &[]), &none), None);
        rows.insert(NodeId(1), NodeRow { id: 1, leaving: true, ..NodeRow::default() });
        let moved = take_on(&rows, range(&[1, 2, 3], 1));
        assert_eq!(moved.moves, [Handover { range: RangeId(1), to: NodeId(2) }]);
        assert_eq!(take_on(&rows, range(&[1, 2, 3], 2)), Begun::default());
        let next = next(&members(&[1, 2, 3], &[]), &none);
        assert_eq!(next, Some((ids(&[1, 2, 3]), ids(&[4]))));
    }
}
