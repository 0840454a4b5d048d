//! Where copies and leases of ranges should be: a pure function from what is to what to do next.
//!
//! ```text
//! nodes, ranges ─┐
//! what is under ─┼─▶ plan(view, settings, now) ─▶ actions, most urgent first, each with its reason
//! way, settings ─┘          all of which may begin at once
//! ```
//! | what | why, in the order of urgency |
//! |---|---|
//! | a lease | its node is to be stopped |
//! | a change of members | a dead node, one that leaves, too few copies, too many, a place that is forbidden, another cell ([`cells`]), nodes that share a zone |
//! | a split | a border of zones, size, load |
//! | a merge | two small neighbours on the same nodes |
//! | a lease, a change of members | uneven load, uneven bytes |
//!
//! # What holds of every plan
//! * At most one action on a range, and none on one that is being changed.
//! * A node receives no more than [`Settings::snapshots_max`] copies at a time and sends no more, what
//!   is under way included.
//! * A change leaves a range with a quorum of live voters, and nothing changes where there is none. New
//!   voters come in the same joint change in which old ones go, so that the number never drops between.
//! * An action that was carried out leaves less to do: fewer troubles, or nodes that share less, or the
//!   same of these and a smaller sum of squares of loads ([`balance`]). So for a world that stands still
//!   plans end.
//!
//! A plan looks at all ranges anew and keeps nothing between: 100,000 ranges on 100 nodes cost some
//! 10 ms of CPU, so that once in ten seconds it costs a thousandth of a core of one node. Rejected: an
//! index kept up to date by changes, which would be faster where that does not matter, and would have to
//! be right after each of them on a node that has just become the one that plans.
//!
//! # For the shell
//! One task plans: on the node that has the lease of the first range, every ten seconds and when a node
//! comes or goes. It needs
//!
//! | field | from where |
//! |---|---|
//! | [`Node::id`], `leaving`, `draining`, `locality`, `cell` | the node's row in the register; `cell` is written there when [`Plan::cells`] says so, before anything else of the plan |
//! | [`Node::away_since`] | when the node's own liveness layer ceased to support it (`Register::away`); with more than one cell, from what the leaseholders that are its partners report |
//! | [`Node::capacity`], `used` | reported by each node every ten seconds: size and use of the file system of its data |
//! | [`Range::id`], `span`, `split_at`, `pinned` | the range's descriptor |
//! | [`Range::voters`], `learners` | `RaftGroup::members` of its leaseholder; a joint configuration is one under way: put it into `running` |
//! | [`Range::bytes`], `load`, `keys` | reported by its leaseholder: sizes from the engine, [`Meter`] |
//! | [`View::running`] | changes sent to leaseholders and not yet answered; after a restart of the planner those that reports show to be joint or with learners, for a minute |
//! | [`Settings`] | the catalog, see [`settings`] |
//!
//! and carries out, by a call to the range's leaseholder:
//!
//! | action | call |
//! |---|---|
//! | [`Act::Change`] | `group.change_members(&members, voters − remove + add, &[], timeout)`, with the members that the view had, so that it is refused when they are others by now. Before that, learners first: `change_members(&members, voters, add)`, until the lease counts on them (`Keeper::counted`) |
//! | with neither `add` nor `remove` | `change_members(&members, voters, &[])`: learners that were left over go |
//! | [`Act::MoveLease`] | drain, `group.transfer_leader(to)` |
//! | [`Act::Split`] | freeze, `Sequencer::split` at the key, or in the middle of the engine's sizes; the key is moved up to the beginning of a row |
//! | [`Act::Merge`] | move the right range's lease to the left one's leaseholder, freeze both, `Sequencer::merge` |
//!
//! An action that fails or is refused is forgotten: the next plan has it again if it is still right.
//! `SHOW REBALANCE PLAN` plans and carries nothing out; [`Action::columns`] are its rows.
//!
//! Left out: choosing nodes by CPU, placing leases near their clients, aligning neighbours so that they
//! can merge.

mod balance;
pub mod cells;
mod index;
mod load;
mod repair;
mod seats;
pub mod settings;
mod shape;
#[cfg(test)]
mod tests;
mod view;

use std::cell::Cell;
use std::collections::BTreeMap;

use meridian_base::{NodeId, RangeId};

use crate::api::Key;
use index::Index;
pub use load::Meter;
use seats::Seats;
pub use settings::{Placement, REPLICAS_MAX, Rule, Settings, Zone};
pub use view::{Locality, Node, Nodes, Range, Running, View};

/// Why something is done; the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The leaseholder's node is to be stopped.
    DrainLease,
    /// A node has been away for too long.
    ReplaceDead,
    /// A node leaves for good.
    DrainDecommissioning,
    /// Too few copies.
    AddReplica,
    /// Too many copies, or one that was begun and not finished.
    RemoveReplica,
    /// A copy is where the zone forbids it.
    FixPlacement,
    /// A copy is in another cell than the others.
    FixCell,
    /// Copies share a zone though they need not.
    FixDiversity,
    /// A zone begins within the range.
    SplitByZone,
    /// It is too large.
    SplitBySize,
    /// It is asked too much.
    SplitByLoad,
    /// Two small neighbours.
    Merge,
    /// Leases are uneven.
    BalanceLeases,
    /// Bytes are uneven.
    MoveReplica,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// One change of members. With both empty: learners that nobody waits for any more go.
    Change {
        /// Become voters.
        add: Nodes,
        /// Are none any more.
        remove: Nodes,
    },
    /// The lease is handed over.
    MoveLease {
        /// By whom.
        from: NodeId,
        /// To whom.
        to: NodeId,
    },
    /// The range becomes two.
    Split {
        /// The first key of the right one; `None` = half of the bytes.
        key: Option<Key>,
    },
    /// It takes its right neighbour over.
    Merge {
        /// The neighbour.
        right: RangeId,
    },
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// To which range.
    pub range: RangeId,
    /// What.
    pub act: Act,
    /// Why.
    pub cause: Cause,
    /// Why, for a person.
    pub reason: String,
}

impl Action {
    /// A row of `SHOW REBALANCE PLAN`: range_id, action, from node, to node, reason.
    pub fn columns(&self) -> [String; 5] {
        let list = |nodes: &[NodeId]| {
            nodes.iter().map(|node| node.0.to_string()).collect::<Vec<_>>().join(", ")
        };
        let none = String::new;
        let (action, from, to) = match &self.act {
            Act::Change { add, remove } if add.is_empty() => {
                ("remove replica", list(remove), none())
            }
            Act::Change { add, remove } if remove.is_empty() => ("add replica", none(), list(add)),
            Act::Change { add, remove } => ("move replica", list(remove), list(add)),
            Act::MoveLease { from, to } => ("move lease", list(&[*from]), list(&[*to])),
            Act::Split { .. } => ("split", none(), none()),
            Act::Merge { .. } => ("merge", none(), none()),
        };
        [self.range.0.to_string(), action.to_owned(), from, to, self.reason.clone()]
    }
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The most urgent first; all may begin at once.
    pub actions: Vec<Action>,
    /// Nodes that are put into (another) cell.
    pub cells: Vec<(NodeId, u32)>,
    /// What cannot be put right, for the log: some of it, if it is much.
    pub notes: Vec<(RangeId, &'static str)>,
}

impl Plan {
    /// Whether all is as it should be, as far as it can be.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.cells.is_empty()
    }
}

/// Notes that a plan keeps.
const NOTES_MAX: usize = 100;

/// A plan in the making.
struct Planner<'a> {
    index: Index<'a>,
    plan: Plan,
    /// Nodes that could take something.
    takers: usize,
    /// By zone and copies: whether another node would make them share less.
    spreadable: BTreeMap<(u16, Seats), bool>,
    /// Ranges that may still be looked at for evenness.
    budget: Cell<usize>,
}

/// Plans. See the module's documentation.
pub fn plan(view: &View, settings: &Settings, now: u64) -> Plan {
    let index = Index::new(view, settings, now);
    let takers = index.places.iter().filter(|place| place.takes).count();
    let cells = index.regrouped.clone();
    let plan = Plan { cells, ..Plan::default() };
    let mut planner =
        Planner { index, plan, takers, spreadable: BTreeMap::new(), budget: Cell::new(0) };
    let troubled = planner.ranges();
    planner.balance_leases();
    // What is put right moves bytes anyway: they are evened out afterwards. Troubles that nobody can help
    // don't count.
    let changes = |action: &Action| matches!(action.act, Act::Change { .. });
    let mending = planner.plan.actions.iter().any(changes) || !view.running.is_empty();
    if troubled == 0 || !mending {
        planner.balance_cells();
        if !planner.plan.actions.iter().any(changes) {
            planner.balance_bytes();
        }
    }
    planner.plan
}

impl Planner<'_> {
    /// What each range needs for itself. How many copies or leases are not where they should be.
    fn ranges(&mut self) -> usize {
        let mut troubled: Vec<(Cause, usize)> = Vec::new();
        let mut splits = Vec::new();
        for range in 0..self.index.seats.len() {
            if self.index.busy[range] {
                continue;
            }
            if let Some(cause) = self.trouble(range) {
                troubled.push((cause, range));
            } else if let Some((cause, key)) = self.should_split(range) {
                splits.push((cause, range, key));
            }
        }
        troubled.sort_unstable();
        // None of them is moved for balance, even if its turn doesn't come this time.
        troubled.iter().for_each(|(_, range)| self.index.busy[*range] = true);
        let count = troubled.len();
        for (cause, range) in troubled {
            self.repair(range, cause);
        }
        splits.sort_by_key(|(cause, range, _)| (*cause, *range));
        for (cause, range, key) in splits {
            self.split(range, cause, key);
        }
        for left in 0..self.index.seats.len() {
            if self.should_merge(left) {
                self.merge(left);
            }
        }
        count
    }

    fn note(&mut self, range: usize, what: &'static str) {
        if self.plan.notes.len() < NOTES_MAX {
            self.plan.notes.push((self.index.view.ranges[range].id, what));
        }
    }
}
