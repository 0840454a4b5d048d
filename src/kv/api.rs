//! The words that the SQL side and the KV side share: keys, spans, lock modes, isolation, errors.
//!
//! Everything here is plain data without behaviour of its own. The error type names the *remedy*,
//! not the place where something went wrong: a session matches [`KvError`] exhaustively and knows
//! from the variant alone what to do next (run the statement again, tell the client 40001, …).

use std::fmt;

pub use bytes::Bytes;
pub use meridian_base::{Span, Timestamp};

/// A logical key: `0x10 ‖ storage_id ‖ index_id ‖ columns…`, compared byte by byte.
pub type Key = Bytes;

/// The encoded row of a key, without any MVCC header.
pub type Row = Bytes;

/// A transaction. Unique in the cluster and for all time: the node that began it in the high 16 bits
/// (of which the lock table's owners leave it 14), what that node never uses twice below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId(pub u64);

impl TxnId {
    /// The node that began it.
    pub fn node(self) -> u64 {
        self.0 >> 48
    }
}

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node(), self.0 & ((1 << 48) - 1))
    }
}

/// PostgreSQL's four row-lock strengths, weakest first. Each one conflicts with all that the weaker
/// ones conflict with, so the strength that a transaction holds is the strongest it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strength {
    /// `FOR KEY SHARE`: a foreign key's parent; others may update all but the key columns.
    KeyShare,
    /// `FOR SHARE`.
    Share,
    /// `FOR NO KEY UPDATE`: what an UPDATE that leaves the key columns alone takes.
    NoKeyUpdate,
    /// `FOR UPDATE`: DELETE, and UPDATE of key columns; also the claim on an absent key.
    Update,
}

/// What to do when a lock isn't free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WaitPolicy {
    /// Wait for it, in FIFO order.
    #[default]
    Block,
    /// `NOWAIT`: fail with 55P03 at once.
    NoWait,
    /// `SKIP LOCKED`: answer that the row was skipped.
    Skip,
}

/// Isolation levels. READ UNCOMMITTED behaves as READ COMMITTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Isolation {
    /// A new snapshot for every statement; a conflict runs the statement again, never 40001.
    #[default]
    ReadCommitted,
    /// One snapshot for the transaction (snapshot isolation); write conflicts are 40001.
    RepeatableRead,
    /// As REPEATABLE READ, and what was read must still be current at commit, else 40001.
    Serializable,
}

/// PostgreSQL's eight table-lock modes, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableLockMode {
    /// SELECT.
    AccessShare,
    /// SELECT FOR UPDATE/SHARE.
    RowShare,
    /// INSERT, UPDATE, DELETE.
    RowExclusive,
    /// VACUUM, ANALYZE, CREATE INDEX CONCURRENTLY.
    ShareUpdateExclusive,
    /// CREATE INDEX.
    Share,
    /// CREATE TRIGGER and some forms of ALTER TABLE.
    ShareRowExclusive,
    /// REFRESH MATERIALIZED VIEW CONCURRENTLY.
    Exclusive,
    /// DROP, TRUNCATE, most forms of ALTER TABLE.
    AccessExclusive,
}

impl TableLockMode {
    /// All modes, weakest first.
    pub const ALL: [TableLockMode; 8] = [
        TableLockMode::AccessShare,
        TableLockMode::RowShare,
        TableLockMode::RowExclusive,
        TableLockMode::ShareUpdateExclusive,
        TableLockMode::Share,
        TableLockMode::ShareRowExclusive,
        TableLockMode::Exclusive,
        TableLockMode::AccessExclusive,
    ];

    /// The name in `pg_locks.mode` and in deadlock reports.
    pub fn name(self) -> &'static str {
        match self {
            TableLockMode::AccessShare => "AccessShareLock",
            TableLockMode::RowShare => "RowShareLock",
            TableLockMode::RowExclusive => "RowExclusiveLock",
            TableLockMode::ShareUpdateExclusive => "ShareUpdateExclusiveLock",
            TableLockMode::Share => "ShareLock",
            TableLockMode::ShareRowExclusive => "ShareRowExclusiveLock",
            TableLockMode::Exclusive => "ExclusiveLock",
            TableLockMode::AccessExclusive => "AccessExclusiveLock",
        }
    }
}

/// Why a transaction must be run again from its start (40001).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// REPEATABLE READ or above met a row whose newest version is above its snapshot.
    ConcurrentUpdate,
    /// The same, and that newest version is a deletion.
    ConcurrentDelete,
    /// SERIALIZABLE: something that was read has been written since.
    ReadWriteDependency,
}

impl RetryReason {
    /// PostgreSQL's primary message.
    pub fn message(self) -> &'static str {
        match self {
            RetryReason::ConcurrentUpdate => "could not serialize access due to concurrent update",
            RetryReason::ConcurrentDelete => "could not serialize access due to concurrent delete",
            RetryReason::ReadWriteDependency => {
                "could not serialize access due to read/write dependencies among transactions"
            }
        }
    }
}

/// What can come back from the KV layer, by what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvError {
    /// Roll back and run the whole transaction again: 40001 with [`RetryReason::message`].
    Retry {
        /// Why.
        reason: RetryReason,
    },
    /// READ COMMITTED: take a new snapshot (`begin_statement`) and run the statement again, keeping
    /// the locks. Never shown to a client.
    StatementRetry,
    /// Roll back; 40P01 "deadlock detected" with this DETAIL and the HINT
    /// "See server log for query details.".
    Deadlock {
        /// One line per process of the cycle, in PostgreSQL's words.
        detail: String,
    },
    /// `NOWAIT` met a conflicting lock: 55P03; the statement knows the relation for its message.
    LockNotAvailable,
    /// `lock_timeout` ran out: 55P03 "canceling statement due to lock timeout".
    LockTimeout,
    /// The cancel token fired: 57014; the session knows by whom (user, statement timeout).
    Cancelled,
    /// The snapshot is older than what garbage collection keeps: 72000 "snapshot too old".
    SnapshotTooOld,
    /// The transaction's buffered writes outgrew their limit: 53200.
    TransactionTooLarge {
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// No space for the log: 53100. The node stays up and serves reads.
    DiskFull,
    /// The commit was proposed but its outcome isn't known: 40003. Do not retry blindly.
    Ambiguous,
    /// It can't be done now (no leader, no outcome in time): 58000. Nothing was written, and the session goes on.
    Unavailable {
        /// A sentence for people.
        reason: String,
    },
    /// This node is shutting down: 57P01, with which the session ends. Nothing was written; another node may
    /// do it.
    Stopping,
    /// Storage failed or holds impossible bytes: XX001. Needs a person.
    Storage {
        /// What the engine said.
        reason: String,
    },
}

impl KvError {
    /// 40001 for a write conflict.
    pub const CONCURRENT_UPDATE: KvError = KvError::Retry { reason: RetryReason::ConcurrentUpdate };
    /// 40001 for a failed read validation.
    pub const READ_WRITE_DEPENDENCY: KvError =
        KvError::Retry { reason: RetryReason::ReadWriteDependency };
    /// The hint that goes with every deadlock report.
    pub const DEADLOCK_HINT: &'static str = "See server log for query details.";

    /// The five characters that a client sees as SQLSTATE.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            KvError::Retry { .. } | KvError::StatementRetry => "40001",
            KvError::Deadlock { .. } => "40P01",
            KvError::LockNotAvailable | KvError::LockTimeout => "55P03",
            KvError::Cancelled => "57014",
            KvError::SnapshotTooOld => "72000",
            KvError::TransactionTooLarge { .. } => "53200",
            KvError::DiskFull => "53100",
            KvError::Ambiguous => "40003",
            KvError::Unavailable { .. } => "58000",
            KvError::Stopping => "57P01",
            KvError::Storage { .. } => "XX001",
        }
    }
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvError::Retry { reason } => f.write_str(reason.message()),
            KvError::StatementRetry => f.write_str("statement must run again at a new snapshot"),
            KvError::Deadlock { .. } => f.write_str("deadlock detected"),
            KvError::LockNotAvailable => f.write_str("could not obtain lock"),
            KvError::LockTimeout => f.write_str("canceling statement due to lock timeout"),
            KvError::Cancelled => f.write_str("canceling statement due to user request"),
            KvError::SnapshotTooOld => f.write_str("snapshot too old"),
            KvError::TransactionTooLarge { limit_bytes } => {
                write!(f, "transaction has buffered more than {limit_bytes} bytes of writes")
            }
            KvError::DiskFull => f.write_str("could not extend the log: no space left on device"),
            KvError::Ambiguous => f.write_str("the outcome of the commit is unknown"),
            KvError::Unavailable { reason } | KvError::Storage { reason } => f.write_str(reason),
            KvError::Stopping => f.write_str("the node is shutting down"),
        }
    }
}

impl std::error::Error for KvError {}
