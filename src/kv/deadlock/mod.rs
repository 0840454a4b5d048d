//! Deadlocks: cycles in the graph of who waits for whom.
//!
//! A node of the graph is a *session*: it does one thing at a time, so all that it holds stays held
//! while it waits, whether it was taken by its transaction or by itself (advisory locks). An edge
//! leads from a waiting session to each one that blocks it, by holding (hard) or by standing ahead
//! in the queue (soft).
//!
//! The graph isn't kept: it is gathered from the lock tables when a waiter asks, which happens when
//! a wait begins beside other waiters and again after a while. The verdict is about the cycle that
//! goes through the asking session. If one of its waits is soft only, the queue's order is to blame
//! and that waiter may pass ([`Verdict::Promote`]); else the asking session is the victim, as in
//! PostgreSQL, where whoever's check finds the cycle gets 40P01.
//!
//! ```text
//! s1 ─waits for a─▶ s2 ─waits for b─▶ s1      check(s1): Deadlock [s1, s2]
//! ```

pub mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::locks::{Owner, WaiterId};

/// What a session waits for, as the report names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A row. PostgreSQL waits for the transaction that holds it, and so says the report.
    Row,
    /// A table.
    Relation {
        /// Oid of its database.
        database: u32,
        /// Its own oid.
        relation: u32,
    },
    /// An advisory lock.
    Advisory {
        /// Database, and the three numbers of the key.
        key: [u32; 4],
    },
}

/// One wait: a request in a queue and those in its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Names the request.
    pub waiter: WaiterId,
    /// Whose it is.
    pub owner: Owner,
    /// On what.
    pub target: Target,
    /// The mode's name, for tables and advisory locks.
    pub mode: &'static str,
    /// Who blocks it; `true` = by holding.
    pub blockers: Vec<(Owner, bool)>,
}

/// What to do about a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No cycle through this session.
    Wait,
    /// Let this waiter pass those ahead of it (no holder is in its way), then look again.
    Promote(WaiterId),
    /// The asking session is in a cycle that only an abort can break; DETAIL of the report.
    Deadlock {
        /// One line per process.
        detail: String,
    },
}

/// One step of a cycle: this wait is blocked by that owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hop {
    wait: usize,
    blocker: Owner,
    hard: bool,
}

/// Judges the wait of `session` among all current `waits`.
pub fn check(waits: &[Wait], session: u64) -> Verdict {
    let mut by_session: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (at, wait) in waits.iter().enumerate() {
        by_session.entry(wait.owner.session).or_default().push(at);
    }
    let Some(cycle) = find_cycle(waits, &by_session, session) else { return Verdict::Wait };
    for hop in &cycle {
        let wait = &waits[hop.wait];
        if !hop.hard && !wait.blockers.iter().any(|(_, hard)| *hard) {
            return Verdict::Promote(wait.waiter);
        }
    }
    Verdict::Deadlock { detail: describe(waits, &cycle) }
}

/// Depth-first search for a way from `start` back to `start`. Explores each session once: a session
/// from which the start can't be reached need not be looked at again.
fn find_cycle(
    waits: &[Wait],
    by_session: &BTreeMap<u64, Vec<usize>>,
    start: u64,
) -> Option<Vec<Hop>> {
    let hops_of = |session: u64| -> Vec<Hop> {
        let mut hops = Vec::new();
        for &wait in by_session.get(&session).map_or(&[][..], Vec::as_slice) {
            for &(blocker, hard) in &waits[wait].blockers {
                if blocker.session != session {
                    hops.push(Hop { wait, blocker, hard });
                }
            }
        }
        hops
    };
    let mut seen = BTreeSet::from([start]);
    let mut path: Vec<Hop> = Vec::new();
    let mut open: Vec<Vec<Hop>> = vec![hops_of(start)];
    while let Some(hops) = open.last_mut() {
        let Some(hop) = hops.pop() else {
            open.pop();
            path.pop();
            continue;
        };
        if hop.blocker.session == start {
            path.push(hop);
            return Some(path);
        }
        if seen.insert(hop.blocker.session) {
            path.push(hop);
            open.push(hops_of(hop.blocker.session));
        }
    }
    None
}

fn describe(waits: &[Wait], cycle: &[Hop]) -> String {
    let mut detail = String::new();
    for hop in cycle {
        let wait = &waits[hop.wait];
        if !detail.is_empty() {
            detail.push('\n');
        }
        let process = wait.owner.process();
        let blocker = hop.blocker.process();
        let target = match wait.target {
            Target::Row => format!("ShareLock on transaction {}", hop.blocker.id),
            Target::Relation { database, relation } => {
                format!("{} on relation {relation} of database {database}", wait.mode)
            }
            Target::Advisory { key: [database, classid, objid, objsubid] } => {
                format!("{} on advisory lock [{database},{classid},{objid},{objsubid}]", wait.mode)
            }
        };
        write!(detail, "Process {process} waits for {target}; blocked by process {blocker}.")
            .expect("writing to a String cannot fail");
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(session: u32, blockers: &[(u32, bool)]) -> Wait {
        Wait {
            waiter: WaiterId(u64::from(session)),
            owner: Owner::transaction(u64::from(session) + 700, session),
            target: Target::Row,
            mode: "Update",
            blockers: blockers
                .iter()
                .map(|&(b, hard)| (Owner::transaction(u64::from(b) + 700, b), hard))
                .collect(),
        }
    }

    #[test]
    fn three_in_a_ring_are_reported_in_postgresqls_words() {
        let waits =
            [wait(1, &[(2, true)]), wait(2, &[(9, true), (3, true)]), wait(3, &[(1, true)])];
        let Verdict::Deadlock { detail } = check(&waits, 1) else { panic!("no cycle found") };
        assert_eq!(
            detail,
            "Process 1 waits for ShareLock on transaction 702; blocked by process 2.\n\
             Process 2 waits for ShareLock on transaction 703; blocked by process 3.\n\
             Process 3 waits for ShareLock on transaction 701; blocked by process 1."
        );
    }

    #[test]
    fn a_cycle_elsewhere_is_not_this_sessions_business() {
        let waits = [wait(1, &[(2, true)]), wait(2, &[(3, true)]), wait(3, &[(2, true)])];
        assert_eq!(check(&waits, 1), Verdict::Wait);
        assert!(matches!(check(&waits, 2), Verdict::Deadlock { .. }));
    }

    #[test]
    fn a_cycle_made_by_the_queue_is_broken_without_a_victim() {
        let waits = [wait(1, &[(3, true)]), wait(2, &[(1, true)]), wait(3, &[(2, false)])];
        assert_eq!(check(&waits, 1), Verdict::Promote(WaiterId(3)));
    }
}
