//! No node receives more than two copies at a time, or sends more: a snapshot reads and writes a whole
//! range, and clients are to notice nothing of it. Leaseholders are those that the planner was told.

use std::collections::BTreeMap;

use meridian_base::{NodeId, RangeId};
use meridian_kv::placement::{Act, Plan, View};

const MOST: usize = 2;

pub(super) fn check(view: &View, plan: &Plan) -> Option<String> {
    let leaders: BTreeMap<RangeId, Option<NodeId>> =
        view.ranges.iter().map(|range| (range.id, range.leaseholder)).collect();
    let (mut receives, mut sends) = (BTreeMap::new(), BTreeMap::new());
    let mut count = |range: RangeId, add: &[NodeId]| {
        for id in add {
            *receives.entry(*id).or_insert(0) += 1;
        }
        if let Some(Some(leader)) = leaders.get(&range) {
            // It sends them one after another.
            *sends.entry(*leader).or_insert(0) += add.len().min(MOST);
        }
    };
    for action in &plan.actions {
        if let Act::Change { add, .. } = &action.act
            && !add.is_empty()
        {
            view.running.iter().for_each(|job| count(job.range, &job.add));
            break;
        }
    }
    for action in &plan.actions {
        if let Act::Change { add, .. } = &action.act {
            count(action.range, add);
        }
    }
    let too_many = |what: &str, counts: &BTreeMap<NodeId, usize>, new: &dyn Fn(&NodeId) -> bool| {
        let over = counts.iter().find(|(id, n)| **n > MOST && new(id));
        over.map(|(id, n)| format!("{id} {what} {n} copies at a time"))
    };
    let adds = |id: &NodeId| {
        plan.actions.iter().any(|action| match &action.act {
            Act::Change { add, .. } => add.contains(id),
            _ => false,
        })
    };
    let sends_new = |id: &NodeId| {
        plan.actions.iter().any(|action| match &action.act {
            Act::Change { add, .. } => {
                !add.is_empty() && leaders.get(&action.range) == Some(&Some(*id))
            }
            _ => false,
        })
    };
    too_many("receives", &receives, &adds).or(too_many("sends", &sends, &sends_new))
}
