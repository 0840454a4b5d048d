//! Advisory locks of a transaction.
//!
//! Functions take them while the transaction runs a query and cannot be reached, so a second, small
//! transaction of the same session holds them; it ends, and goes back to savepoints, with the first.
//! Locks belong to the session, so the two don't wait for each other.

use std::sync::Arc;

use meridian_cluster::{AdvisoryLock, SavepointId, Store, Txn, TxnOptions};

/// The small transaction, once it is needed.
#[derive(Default)]
pub(crate) struct AdvisoryLocks {
    txn: Option<Txn>,
    /// One for each savepoint of the block; `None` where it came before the small transaction.
    marks: Vec<Option<SavepointId>>,
}

impl std::fmt::Debug for AdvisoryLocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdvisoryLocks").field("open", &self.txn.is_some()).finish()
    }
}

impl AdvisoryLocks {
    /// The small transaction.
    pub(crate) fn txn(&mut self, store: &Arc<Store>, backend: u32, database: u32) -> &mut Txn {
        self.txn.get_or_insert_with(|| {
            store.begin(TxnOptions { backend, database, ..TxnOptions::default() })
        })
    }

    /// What the transaction holds.
    pub(crate) fn held(&self) -> Vec<AdvisoryLock> {
        self.txn.as_ref().map_or_else(Vec::new, Txn::advisory_locks)
    }

    /// SAVEPOINT
    pub(crate) fn savepoint(&mut self) {
        let mark = self.txn.as_mut().map(Txn::savepoint);
        self.marks.push(mark);
    }

    /// RELEASE of the savepoint at this depth, from 1, and those after it.
    pub(crate) fn release(&mut self, depth: usize) {
        let at = depth.saturating_sub(1);
        if let (Some(txn), Some(Some(mark))) = (&mut self.txn, self.marks.get(at)) {
            txn.release(*mark);
        }
        self.marks.truncate(at);
    }

    /// ROLLBACK TO the savepoint at this depth, from 1, which stays.
    pub(crate) fn rollback_to(&mut self, depth: usize) {
        let mark = depth.checked_sub(1).and_then(|at| self.marks.get(at)).copied().flatten();
        match (&mut self.txn, mark) {
            (Some(txn), Some(mark)) => txn.rollback_to(mark),
            _ => self.drop_txn(),
        }
        self.marks.truncate(depth);
    }

    /// The transaction has ended.
    pub(crate) fn end(&mut self) {
        self.drop_txn();
        self.marks.clear();
    }

    fn drop_txn(&mut self) {
        if let Some(mut txn) = self.txn.take() {
            txn.rollback();
            txn.release_locks();
        }
    }
}
