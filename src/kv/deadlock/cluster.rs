//! Deadlocks across nodes.
//!
//! Each leaseholder knows who waits in its own lock tables. A node where somebody has been waiting for a
//! while gathers the waits of all nodes and looks for cycles. The nodes answer one after the other, so
//! a cycle may be put together from waits that never were there at once; therefore the waits are
//! gathered a second time, and a cycle counts if all its waits are the same requests, still blocked by
//! the same owners. A request that was there in both gatherings was there all the time in between, so
//! at the moment between the two all of them were: and then they wait for ever, as nobody in a cycle
//! can let go.
//!
//! ```text
//! node 1: s7 waits for s9 (row)                gather, gather again: s7 → s9 → s7 both times
//! node 2: s9 waits for s7 (table)              victim: the younger of the two, everywhere
//! ```
//! Not all nodes are asked ([`Gathering`]): a session's home is the node that its client is connected
//! to, and knows where its requests are. So from each session that is in somebody's way the search goes
//! to its home, and on to where it waits. If all who are in the way are at home here and none of their
//! requests is elsewhere, nobody is asked at all.
//!
//! A wait of a session whose home is elsewhere counts only if the home says that the request is there
//! still: a client may have given up, and its cancel may be on its way.
//!
//! Which cycles are found and who is the victim depends on nothing but the waits, so that detectors that
//! have gathered the same agree. When two disagree, which takes waits that came in between, there are
//! two victims: safe, and rare.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use meridian_base::NodeId;

use super::{Hop, Verdict, Wait, describe, find_cycle};
use crate::api::Timestamp;
use crate::locks::{Owner, WaiterId, home_of};

/// A wait, as one node reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWait {
    /// Whose lock table it is in.
    pub node: NodeId,
    /// When the waiting transaction began; it came with its request.
    pub began: Timestamp,
    /// The wait. Owners and sessions are unique in the cluster, waiters on their node.
    pub wait: Wait,
}

/// What one node knows of waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Those in its own lock tables.
    pub waits: Vec<NodeWait>,
    /// Sessions at home there that have requests at other nodes: where.
    pub away: Vec<(u64, NodeId)>,
}

/// What a search has heard, and whom it has to ask next.
#[derive(Debug)]
pub struct Gathering {
    starts: Vec<u64>,
    /// `None`: the node did not answer.
    reports: BTreeMap<NodeId, Option<Report>>,
}

impl Gathering {
    /// A search at node `me`, whose own report is at hand, because `starts` have been waiting there.
    pub fn new(me: NodeId, own: Report, starts: impl IntoIterator<Item = u64>) -> Gathering {
        let reports = BTreeMap::from([(me, Some(own))]);
        Gathering { starts: starts.into_iter().collect(), reports }
    }

    /// The nodes to be asked now; none when all that matters is known.
    pub fn next(&self) -> BTreeSet<NodeId> {
        let mut ask = BTreeSet::new();
        for session in self.in_the_way() {
            ask.insert(home_of(session));
            ask.extend(self.places(session));
        }
        ask.retain(|node| !self.reports.contains_key(node));
        ask
    }

    /// A node has answered, or has not.
    pub fn heard(&mut self, node: NodeId, report: Option<Report>) {
        self.reports.insert(node, report);
    }

    /// Was anybody asked?
    pub fn is_local(&self) -> bool {
        self.reports.len() == 1
    }

    /// The waits that their sessions' homes know of.
    pub fn waits(&self) -> Vec<NodeWait> {
        let known = |wait: &&NodeWait| {
            let session = wait.wait.owner.session;
            home_of(session) == wait.node || self.places(session).any(|node| node == wait.node)
        };
        self.all().filter(known).cloned().collect()
    }

    fn all(&self) -> impl Iterator<Item = &NodeWait> {
        self.reports.values().flatten().flat_map(|report| &report.waits)
    }

    /// Where a session's requests are, as its home says.
    fn places(&self, session: u64) -> impl Iterator<Item = NodeId> {
        let home = self.reports.get(&home_of(session)).and_then(Option::as_ref);
        let away = home.into_iter().flat_map(|report| &report.away);
        away.filter_map(move |(whose, node)| (*whose == session).then_some(*node))
    }

    /// The sessions that the starting ones wait for, directly or by way of others.
    fn in_the_way(&self) -> BTreeSet<u64> {
        let mut blockers: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for NodeWait { wait, .. } in self.all() {
            let those = wait.blockers.iter().map(|(blocker, _)| blocker.session);
            let others = those.filter(|session| *session != wait.owner.session);
            blockers.entry(wait.owner.session).or_default().extend(others);
        }
        let (mut found, mut open) = (BTreeSet::new(), self.starts.clone());
        while let Some(session) = open.pop() {
            for blocker in blockers.get(&session).into_iter().flatten() {
                if found.insert(*blocker) {
                    open.push(*blocker);
                }
            }
        }
        found
    }
}

/// One wait of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    node: NodeId,
    waiter: WaiterId,
    owner: Owner,
    blocker: Owner,
    hard: bool,
}

/// A circle of waits; its first one is the victim's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    links: Vec<Link>,
    /// The node of the wait that the verdict is about.
    pub node: NodeId,
    /// The waiter that it is about: to be promoted, or to fail.
    pub waiter: WaiterId,
    /// Whose that is.
    pub owner: Owner,
    /// What is to be done, once the cycle is confirmed.
    pub verdict: Verdict,
}

impl Cycle {
    /// Is all of it still there, in waits that were gathered after this cycle had been found?
    pub fn is_confirmed_by(&self, waits: &[NodeWait]) -> bool {
        let same = |link: &Link, w: &NodeWait| {
            (w.node, w.wait.waiter, w.wait.owner) == (link.node, link.waiter, link.owner)
                && w.wait.blockers.contains(&(link.blocker, link.hard))
        };
        self.links.iter().all(|link| waits.iter().any(|wait| same(link, wait)))
    }
}

/// The cycles in what was gathered, such that none is left when each verdict is carried out.
pub fn cycles(gathered: &[NodeWait]) -> Vec<Cycle> {
    let mut rest: Vec<&NodeWait> = gathered.iter().collect();
    rest.sort_by_key(|wait| (wait.wait.owner.session, wait.node, wait.wait.waiter));
    rest.dedup();
    let mut found = Vec::new();
    while let Some(cycle) = first_cycle(&rest) {
        let decided = (cycle.node, cycle.waiter);
        rest.retain(|wait| (wait.node, wait.wait.waiter) != decided);
        found.push(cycle);
    }
    found
}

fn first_cycle(waits: &[&NodeWait]) -> Option<Cycle> {
    let plain: Vec<Wait> = waits.iter().map(|wait| wait.wait.clone()).collect();
    let mut by_session: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (at, wait) in plain.iter().enumerate() {
        by_session.entry(wait.owner.session).or_default().push(at);
    }
    let mut hops = by_session.keys().find_map(|start| find_cycle(&plain, &by_session, *start))?;
    // The youngest transaction dies; ids decide between those that began at once.
    let age = |hop: &Hop| (waits[hop.wait].began, plain[hop.wait].owner.id);
    let youngest = (0..hops.len()).min_by_key(|at| Reverse(age(&hops[*at])))?;
    hops.rotate_left(youngest);
    let soft = |hop: &&Hop| !hop.hard && !plain[hop.wait].blockers.iter().any(|(_, hard)| *hard);
    let promoted = hops.iter().find(soft).map(|hop| hop.wait);
    let about = waits[promoted.unwrap_or(hops[0].wait)];
    let verdict = match promoted {
        Some(_) => Verdict::Promote(about.wait.waiter),
        None => Verdict::Deadlock { detail: describe(&plain, &hops) },
    };
    let link = |hop: &Hop| {
        let NodeWait { node, wait, .. } = waits[hop.wait];
        let (waiter, owner) = (wait.waiter, wait.owner);
        Link { node: *node, waiter, owner, blocker: hop.blocker, hard: hop.hard }
    };
    let (waiter, owner) = (about.wait.waiter, about.wait.owner);
    Some(Cycle { links: hops.iter().map(link).collect(), node: about.node, waiter, owner, verdict })
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::*;

    fn wait(node: u64, session: u32, began: u64, blockers: &[(u32, bool)]) -> NodeWait {
        let owner = |session: u32| {
            Owner::transaction((node_of(session) << 48) | u64::from(session), session)
        };
        let wait = Wait {
            waiter: WaiterId(u64::from(session)),
            owner: owner(session),
            target: Target::Row,
            mode: "Update",
            blockers: blockers.iter().map(|&(session, hard)| (owner(session), hard)).collect(),
        };
        NodeWait { node: NodeId(node), began: Timestamp(began), wait }
    }

    fn node_of(session: u32) -> u64 {
        u64::from(session % 2) + 1
    }

    #[test]
    fn detectors_agree_on_the_youngest_whatever_the_order_of_the_answers() {
        let waits = [
            wait(1, 1, 30, &[(2, true)]),
            wait(2, 2, 50, &[(3, true)]),
            wait(1, 3, 40, &[(1, true)]),
            wait(3, 4, 99, &[(1, true)]),
        ];
        let found = cycles(&waits);
        let [cycle] = &found[..] else { panic!("{found:?}") };
        assert_eq!((cycle.node, cycle.owner.process()), (NodeId(2), 2));
        let Verdict::Deadlock { detail } = &cycle.verdict else { panic!("{cycle:?}") };
        let id = |session: u32| (node_of(session) << 48) | u64::from(session);
        assert_eq!(
            *detail,
            format!(
                "Process 2 waits for ShareLock on transaction {}; blocked by process 3.\n\
                 Process 3 waits for ShareLock on transaction {}; blocked by process 1.\n\
                 Process 1 waits for ShareLock on transaction {}; blocked by process 2.",
                id(3),
                id(1),
                id(2)
            )
        );
        let mut other = waits.to_vec();
        other.reverse();
        other.push(waits[0].clone());
        assert_eq!(cycles(&other), found);
        assert!(cycle.is_confirmed_by(&other));
    }

    #[test]
    fn a_cycle_that_was_never_there_at_once_is_not_confirmed() {
        let first = [wait(1, 1, 30, &[(2, true)]), wait(2, 2, 50, &[(1, true)])];
        let cycle = cycles(&first).remove(0);
        assert!(cycle.is_confirmed_by(&first));
        // The same session waits again, in another request.
        let mut again = first.to_vec();
        again[0].wait.waiter = WaiterId(77);
        assert!(!cycle.is_confirmed_by(&again));
        // The same request, behind somebody else now.
        let moved = [wait(1, 1, 30, &[(5, true)]), first[1].clone()];
        assert!(!cycle.is_confirmed_by(&moved));
    }

    /// A session of a node, in its cluster-wide form.
    fn session(node: u64, process: u32) -> Owner {
        Owner::on_node(NodeId(node), (node - 1) << 48 | u64::from(process), process)
    }

    fn at(node: u64, who: Owner, blocker: Owner) -> NodeWait {
        let wait = Wait {
            waiter: WaiterId(u64::from(who.process())),
            owner: who,
            target: Target::Row,
            mode: "Update",
            blockers: vec![(blocker, true)],
        };
        NodeWait { node: NodeId(node), began: Timestamp(1), wait }
    }

    #[test]
    fn only_those_in_the_way_lead_to_other_nodes() {
        let (a, b, guest) = (session(1, 10), session(1, 11), session(2, 20));
        let starts = [a.session];
        let own = |away: &[(u64, NodeId)]| Report {
            waits: vec![at(1, a, b), at(1, guest, b)],
            away: away.to_vec(),
        };
        let local = Gathering::new(NodeId(1), own(&[]), starts);
        assert!(
            local.next().is_empty() && local.is_local(),
            "b runs; the guest is nobody's matter"
        );
        let waiting_guest = Gathering::new(NodeId(1), own(&[]), [guest.session]);
        assert!(waiting_guest.next().is_empty(), "who waits for one that runs is in no circle");
        let mut search = Gathering::new(NodeId(1), own(&[(b.session, NodeId(3))]), starts);
        assert_eq!(search.next(), BTreeSet::from([NodeId(3)]), "b waits there");
        let third = Report { waits: vec![at(3, b, guest)], away: Vec::new() };
        search.heard(NodeId(3), Some(third));
        assert_eq!(search.next(), BTreeSet::from([NodeId(2)]), "the guest's home");
        search.heard(NodeId(2), None);
        assert!(search.next().is_empty(), "a node that doesn't answer is not asked again");
    }

    #[test]
    fn a_wait_that_its_home_does_not_know_any_more_is_none() {
        let (a, guest) = (session(1, 10), session(2, 20));
        let own = Report { waits: vec![at(1, guest, a)], away: vec![(a.session, NodeId(2))] };
        let theirs =
            |away: &[(u64, NodeId)]| Report { waits: vec![at(2, a, guest)], away: away.to_vec() };
        let mut search = Gathering::new(NodeId(1), own.clone(), [guest.session]);
        search.heard(NodeId(2), Some(theirs(&[(guest.session, NodeId(1))])));
        assert_eq!(cycles(&search.waits()).len(), 1);
        let mut search = Gathering::new(NodeId(1), own, [guest.session]);
        search.heard(NodeId(2), Some(theirs(&[])));
        assert_eq!(search.waits().len(), 1);
        assert!(cycles(&search.waits()).is_empty(), "its client has given up");
    }

    #[test]
    fn two_circles_have_two_victims_and_a_queues_order_has_none() {
        let two = [
            wait(1, 1, 1, &[(2, true), (3, true)]),
            wait(2, 2, 2, &[(1, true)]),
            wait(2, 3, 3, &[(1, true)]),
        ];
        let victims: Vec<u32> = cycles(&two).iter().map(|cycle| cycle.owner.process()).collect();
        assert_eq!(victims.len(), 2);
        assert!(victims.contains(&2) && victims.contains(&3));
        let queue = [
            wait(1, 1, 9, &[(3, true)]),
            wait(2, 2, 1, &[(1, true)]),
            wait(3, 3, 5, &[(2, false)]),
        ];
        let cycle = cycles(&queue).remove(0);
        assert_eq!((cycle.node, &cycle.verdict), (NodeId(3), &Verdict::Promote(WaiterId(3))));
    }
}
