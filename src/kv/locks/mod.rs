//! The lock table: who may touch a key, and who waits for it in which order.
//!
//! One machine serves three kinds of lock, which differ only in key and mode: rows (four strengths),
//! tables (eight modes) and advisory locks (two). A mode is one bit; what an owner holds on a key is
//! a set of bits; whether two modes conflict is a mask test ([`LockMode::conflicts`]).
//!
//! ```text
//! key "a"   holders: t1 {KeyShare}  t2 {KeyShare}
//!           queue:   t3 wants Update   ← blocked by the holders t1, t2        (hard)
//!                    t4 wants KeyShare ← blocked by nobody but t3, ahead of it (soft)
//! ```
//!
//! Rules:
//! * A newcomer waits when it conflicts with a holder *or with somebody ahead of it in the queue*,
//!   so a writer isn't starved by a stream of readers.
//! * An owner that holds the key already (an upgrade) waits for holders only, and ahead of those
//!   who hold nothing: making it queue behind them would be a deadlock by construction.
//! * What is covered by what the owner holds is granted at once, whoever waits (re-entrancy).
//! * A key needs no row behind it: a unique check locks the absent key.
//!
//! Invariants (see [`LockTable::check`]): no two owners hold conflicting modes; nobody waits who
//! could be granted (no lost wake-up); a key without holders and waiters isn't in the table;
//! `contended` is exactly the set of keys with a queue.
//!
//! Not here: time, tasks and wake-ups. A release answers with the [`Grant`]s it caused, and the
//! shell wakes the tasks. Which locks a transaction holds is written in the transaction
//! ([`crate::txn`]), not here: nothing in this table is searched by owner.

mod modes;
mod table;

use meridian_base::NodeId;

pub use modes::{AdvisoryKey, AdvisoryMode, LockMode, ModeSet};
pub use table::{Acquire, Grant, Held, LockTable, Queued, WaiterId};

/// Where a transaction's number says which node began it.
pub const NODE_SHIFT: u32 = 48;

/// Who holds or waits. Two requests belong together when `id` is equal; `session` says whose task
/// stands still while it waits, which is what a deadlock is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The transaction's number; for session-level advisory locks, the session's with a mark bit.
    pub id: u64,
    /// The session: the client's process id in the low 32 bits, or a private number.
    pub session: u64,
}

impl Owner {
    const SESSION_LEVEL: u64 = 1 << 62;
    const NAMELESS: u64 = 1 << 63;

    /// A transaction of the session with this process id; 0 = a transaction without a session,
    /// which then is a session of its own.
    pub fn transaction(id: u64, process: u32) -> Owner {
        let session = if process == 0 { Owner::NAMELESS | id } else { u64::from(process) };
        Owner { id, session }
    }

    /// As [`Owner::transaction`], for a session of this node. Process ids are a node's own, so the node
    /// tells sessions of different nodes apart; those of the first node carry no mark.
    pub fn on_node(node: NodeId, id: u64, process: u32) -> Owner {
        let mut owner = Owner::transaction(id, process);
        if process != 0 {
            owner.session |= node.0.saturating_sub(1) << 32;
        }
        owner
    }

    /// The owner of the advisory locks of this owner's session: they outlive transactions, and a
    /// session never conflicts with itself.
    pub fn session_level(self) -> Owner {
        Owner { id: Owner::SESSION_LEVEL | self.session, session: self.session }
    }

    /// The process id of its session; 0 when it has none.
    pub fn process_of_session(self) -> u32 {
        if self.session & Owner::NAMELESS == 0 { self.process() } else { 0 }
    }

    /// The process id that PostgreSQL would show.
    pub fn process(self) -> u32 {
        u32::try_from(self.session & u64::from(u32::MAX)).expect("masked to 32 bits")
    }
}

/// The node where a session is: it knows what the session waits for.
pub fn home_of(session: u64) -> NodeId {
    match session & Owner::NAMELESS {
        0 => NodeId((session >> 32) + 1),
        _ => NodeId(((session & !Owner::NAMELESS) >> NODE_SHIFT) + 1),
    }
}

#[cfg(test)]
mod tests;
