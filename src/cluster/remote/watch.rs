//! The messages about sessions and what they wait for.
//!
//! Names of modes travel as they are shown; a node that doesn't know one leaves that line out.

use bytes::Bytes;
use meridian_base::NodeId;
use meridian_kv::api::{Strength, TableLockMode, Timestamp};
use meridian_kv::deadlock::cluster::{NodeWait, Report};
use meridian_kv::deadlock::{Target, Wait};
use meridian_kv::locks::{AdvisoryKey, AdvisoryMode, LockMode, Owner, WaiterId};

use super::messages::{Empty, Op, Who};
use crate::advisory::Holding;
use crate::locking::{LockInfo, LockTarget};

/// A question about sessions, or something to be done to one.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Watch {
    #[prost(oneof = "Question", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) question: Option<Question>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Question {
    /// Who waits there, and whose requests are elsewhere?
    #[prost(message, tag = "1")]
    Waits(Empty),
    /// What is locked there?
    #[prost(message, tag = "2")]
    Locks(Empty),
    /// A deadlock has been found.
    #[prost(message, tag = "3")]
    Decide(Decision),
    /// For a session there.
    #[prost(message, tag = "4")]
    Signal(WireSignal),
    /// Are the advisory locks of the sender's sessions known, under this lease?
    #[prost(message, tag = "5")]
    Keep(Keep),
    /// A new leaseholder asks which advisory locks sessions hold.
    #[prost(fixed64, tag = "6")]
    Roll(u64),
}

impl Question {
    pub(crate) fn op(self) -> Op {
        Op::Watch(Watch { question: Some(self) })
    }
}

/// What becomes of a wait, if it is still there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Decision {
    #[prost(uint64, tag = "1")]
    pub(crate) waiter: u64,
    #[prost(message, required, tag = "2")]
    pub(crate) who: Who,
    /// It fails, and this is the report; absent: it may pass those that are ahead of it.
    #[prost(string, optional, tag = "3")]
    pub(crate) detail: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Keep {
    /// The lease under which they were said or granted; 0: there are none yet.
    #[prost(fixed64, tag = "1")]
    pub(crate) epoch: u64,
    /// Names this start of the sender.
    #[prost(fixed64, tag = "2")]
    pub(crate) start: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct WireSignal {
    #[prost(uint32, tag = "1")]
    pub(crate) process: u32,
    #[prost(bool, tag = "2")]
    pub(crate) terminate: bool,
    #[prost(fixed32, optional, tag = "3")]
    pub(crate) secret: Option<u32>,
}

/// The answer to a [`Watch`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Watched {
    #[prost(message, repeated, tag = "1")]
    pub(crate) waits: Vec<WireWait>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) away: Vec<WireAway>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) locks: Vec<WireLock>,
    /// There was such a session, or such a wait; it is so.
    #[prost(bool, tag = "4")]
    pub(crate) found: bool,
    #[prost(message, repeated, tag = "5")]
    holdings: Vec<WireHolding>,
    /// Names this start of the node that answers.
    #[prost(fixed64, tag = "6")]
    pub(crate) start: u64,
}

/// An advisory lock that a session holds.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WireHolding {
    #[prost(message, required, tag = "1")]
    who: Who,
    #[prost(uint32, repeated, tag = "2")]
    key: Vec<u32>,
    #[prost(bool, tag = "3")]
    shared: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WireWait {
    #[prost(uint64, tag = "1")]
    waiter: u64,
    #[prost(message, required, tag = "2")]
    who: Who,
    #[prost(fixed64, tag = "3")]
    began: u64,
    #[prost(message, required, tag = "4")]
    target: WireTarget,
    #[prost(string, tag = "5")]
    mode: String,
    #[prost(message, repeated, tag = "6")]
    blockers: Vec<WireBlocker>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct WireBlocker {
    #[prost(message, required, tag = "1")]
    who: Who,
    #[prost(bool, tag = "2")]
    holds: bool,
}

/// A session's request is at another node.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct WireAway {
    #[prost(fixed64, tag = "1")]
    session: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
}

/// What is locked: a row, a table by its database and oid, an advisory lock by its four numbers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WireTarget {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(uint32, repeated, tag = "2")]
    numbers: Vec<u32>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WireLock {
    #[prost(message, required, tag = "1")]
    target: WireTarget,
    #[prost(string, tag = "2")]
    mode: String,
    #[prost(bool, tag = "3")]
    granted: bool,
    #[prost(fixed64, tag = "4")]
    transaction: u64,
    #[prost(uint32, tag = "5")]
    process: u32,
}

fn who(owner: Owner) -> Who {
    Who { txn: owner.id, session: owner.session }
}

pub(crate) fn owner(who: &Who) -> Owner {
    Owner { id: who.txn, session: who.session }
}

fn mode_named(name: &str) -> Option<&'static str> {
    let rows = Strength::all().iter().map(|mode| mode.name());
    let tables = TableLockMode::all().iter().map(|mode| LockMode::name(*mode));
    let advisory = AdvisoryMode::all().iter().map(|mode| mode.name());
    rows.chain(tables).chain(advisory).find(|known| *known == name)
}

fn numbered(numbers: &[u32]) -> WireTarget {
    WireTarget { numbers: numbers.to_vec(), ..WireTarget::default() }
}

impl WireWait {
    fn of(wait: NodeWait) -> WireWait {
        let NodeWait { began, wait, .. } = wait;
        let blocker =
            |(owner, holds): &(Owner, bool)| WireBlocker { who: who(*owner), holds: *holds };
        WireWait {
            waiter: wait.waiter.0,
            who: who(wait.owner),
            began: began.0,
            target: match wait.target {
                Target::Row => WireTarget::default(),
                Target::Relation { database, relation } => numbered(&[database, relation]),
                Target::Advisory { key } => numbered(&key),
            },
            mode: wait.mode.to_owned(),
            blockers: wait.blockers.iter().map(blocker).collect(),
        }
    }

    fn at(&self, node: NodeId) -> Option<NodeWait> {
        let target = match self.target.numbers[..] {
            [] => Target::Row,
            [database, relation] => Target::Relation { database, relation },
            [database, classid, objid, objsubid] => {
                Target::Advisory { key: [database, classid, objid, objsubid] }
            }
            _ => return None,
        };
        let blocker = |blocker: &WireBlocker| (owner(&blocker.who), blocker.holds);
        let wait = Wait {
            waiter: WaiterId(self.waiter),
            owner: owner(&self.who),
            target,
            mode: mode_named(&self.mode)?,
            blockers: self.blockers.iter().map(blocker).collect(),
        };
        Some(NodeWait { node, began: Timestamp(self.began), wait })
    }
}

impl Watched {
    pub(crate) fn of_report(report: Report) -> Watched {
        let away = |(session, node): (u64, NodeId)| WireAway { session, node: node.0 };
        Watched {
            waits: report.waits.into_iter().map(WireWait::of).collect(),
            away: report.away.into_iter().map(away).collect(),
            ..Watched::default()
        }
    }

    pub(crate) fn report(&self, node: NodeId) -> Report {
        let away = |away: &WireAway| (away.session, NodeId(away.node));
        Report {
            waits: self.waits.iter().filter_map(|wait| wait.at(node)).collect(),
            away: self.away.iter().map(away).collect(),
        }
    }

    pub(crate) fn of_locks(locks: Vec<LockInfo>) -> Watched {
        let line = |lock: LockInfo| WireLock {
            target: match lock.target {
                LockTarget::Row(key) => WireTarget { key, numbers: Vec::new() },
                LockTarget::Table(table) => numbered(&[table]),
                LockTarget::Advisory(key) => numbered(&key),
            },
            mode: lock.mode.to_owned(),
            granted: lock.granted,
            transaction: lock.transaction,
            process: lock.process,
        };
        Watched { locks: locks.into_iter().map(line).collect(), ..Watched::default() }
    }

    pub(crate) fn locks(self) -> Vec<LockInfo> {
        let info = |line: WireLock| {
            let target = match line.target.numbers[..] {
                [] => LockTarget::Row(line.target.key),
                [table] => LockTarget::Table(table),
                [a, b, c, d] => LockTarget::Advisory([a, b, c, d]),
                _ => return None,
            };
            Some(LockInfo {
                target,
                mode: mode_named(&line.mode)?,
                granted: line.granted,
                transaction: line.transaction,
                process: line.process,
            })
        };
        self.locks.into_iter().filter_map(info).collect()
    }

    pub(crate) fn of_holdings(held: Vec<Holding>, start: u64) -> Watched {
        let line = |(owner, key, mode): Holding| WireHolding {
            who: who(owner),
            key: vec![key.database, key.classid, key.objid, key.objsubid],
            shared: mode == AdvisoryMode::Shared,
        };
        let holdings = held.into_iter().map(line).collect();
        Watched { holdings, start, found: true, ..Watched::default() }
    }

    pub(crate) fn holdings(&self) -> Vec<Holding> {
        let holding = |line: &WireHolding| {
            let [database, classid, objid, objsubid] = line.key[..] else { return None };
            let key = AdvisoryKey { database, classid, objid, objsubid };
            let shared = if line.shared { AdvisoryMode::Shared } else { AdvisoryMode::Exclusive };
            Some((owner(&line.who), key, shared))
        };
        self.holdings.iter().filter_map(holding).collect()
    }

    pub(crate) fn found(found: bool) -> Watched {
        Watched { found, ..Watched::default() }
    }
}
