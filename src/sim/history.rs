//! What the clients of a run did and saw.

use std::collections::BTreeMap;

use meridian_kv::api::{Isolation, KvError};

/// One observation or effect inside a transaction, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Appended a value, unique over the run, to a list.
    Append {
        /// Which list.
        list: u8,
        /// What.
        value: u32,
    },
    /// Appended a value and rolled it back to a savepoint: nobody may ever see it.
    Undone {
        /// Which list.
        list: u8,
        /// What.
        value: u32,
    },
    /// Read a list.
    Read {
        /// Which list.
        list: u8,
        /// Its values, oldest first.
        values: Vec<u32>,
    },
    /// Replaced a register's value, having read the previous one under the lock.
    Write {
        /// Which register.
        register: u8,
        /// What it held; 0 = nothing yet.
        previous: u32,
        /// The new value, unique over the run.
        value: u32,
    },
    /// Summed up all bank accounts.
    Total(i64),
}

/// How a transaction ended, as far as its client knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged.
    Committed,
    /// Told that it failed, or crashed before it asked to commit: none of it may ever be seen.
    Aborted,
    /// Refused with an error: as aborted.
    Failed(KvError),
    /// The node crashed while the commit was on its way.
    Unknown,
}

/// One transaction.
#[derive(Clone, Debug)]
pub struct TxnRecord {
    /// Its level.
    pub isolation: Isolation,
    /// The step at which it began.
    pub began: u64,
    /// The step at which its client learned the outcome; `None` = never.
    pub ended: Option<u64>,
    /// What it did and saw.
    pub events: Vec<Event>,
    /// How it ended.
    pub outcome: Outcome,
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Transactions in the order in which they ended.
    pub txns: Vec<TxnRecord>,
    /// The lists at the end, read when all was quiet.
    pub lists: BTreeMap<u8, Vec<u32>>,
    /// The registers at the end.
    pub registers: BTreeMap<u8, u32>,
    /// The bank's money at the beginning.
    pub money: i64,
    /// The bank's money at the end.
    pub money_at_end: i64,
    /// Transactions or waits that never came to an end.
    pub stuck: Vec<String>,
    /// Broken invariants of a machine, seen while it ran.
    pub broken_machines: Vec<String>,
    /// Several nodes: commits in different single ranges have no order by real time (see
    /// `meridian_kv::range::reading`); that reads are recent is judged by `stale_reads`.
    pub clustered: bool,
    /// A leaseholder went with the locks in its memory.
    pub locks_lost: bool,
    /// Reads that missed what had been acknowledged before their snapshot was chosen.
    pub stale_reads: Vec<String>,
    /// Transactions with two outcomes.
    pub contradictions: Vec<String>,
    /// Prepared transactions that could not be committed.
    pub broken_promises: Vec<String>,
    /// What copies have served that wasn't so.
    pub wrong_copies: Vec<String>,
    /// How often power was lost.
    pub crashes: u32,
}

impl TxnRecord {
    /// Must all of it be there?
    pub fn committed(&self) -> bool {
        self.outcome == Outcome::Committed
    }

    /// May some of it be there?
    pub fn may_have_committed(&self) -> bool {
        matches!(self.outcome, Outcome::Committed | Outcome::Unknown)
    }
}
