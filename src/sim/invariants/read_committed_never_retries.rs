//! READ COMMITTED never answers 40001: conflicts run the statement again, as PostgreSQL's users
//! expect of its default level. Except that a leaseholder which goes takes its locks along.

use meridian_kv::api::{Isolation, KvError};

use crate::history::{History, Outcome};

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    if history.locks_lost {
        return;
    }
    for (at, txn) in history.txns.iter().enumerate() {
        if txn.isolation == Isolation::ReadCommitted
            && let Outcome::Failed(error @ (KvError::Retry { .. } | KvError::StatementRetry)) =
                &txn.outcome
        {
            found.push(format!("T{at} failed with {error}"));
        }
    }
}
