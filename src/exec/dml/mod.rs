//! INSERT, UPDATE and DELETE.
//!
//! A statement's writes are gathered in [`Writes`] and go to the transaction when the statement has
//! succeeded: all parts of it, common table expressions included, read the snapshot that it began
//! with, and a statement that fails leaves only its locks behind. Checks come in PostgreSQL's order:
//! generated columns, NOT NULL, CHECK, unique indexes, and at the end of the statement (or of the
//! transaction, when deferred) foreign keys. A unique key that an UPDATE finds taken is looked at again
//! at the end of the statement, so that rows may take each other's places.
//!
//! A row is locked before it is changed. When its newest version is above the snapshot, READ
//! COMMITTED runs the whole statement again at a new snapshot, keeping its locks.

mod bulk;
mod describe;
mod foreign;
mod indexes;
mod modify;
mod rules;
mod table;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use meridian_cluster::Locked;
use meridian_cluster::Txn;
use meridian_kv::api::{Isolation, KvError, RetryReason, Strength, WaitPolicy};
use meridian_types::PgError;

use crate::context::StatementContext;
use crate::error::{ExecError, from_kv, retry};

pub(crate) use bulk::{Bulk, RUN_BYTES};
pub(crate) use foreign::Event;
pub use foreign::{Deferred, check_deferred};
pub(crate) use modify::ModifySpec;
pub(crate) use table::TableWriter;

/// A unique key that was taken when its row was written. It may be free when the statement has
/// ended, as in `UPDATE t SET i = i + 1`.
#[derive(Debug)]
pub(crate) struct Late {
    key: Bytes,
    value: Bytes,
    /// What is wrong when it is not.
    error: PgError,
}

/// What a statement has written so far.
#[derive(Default, Debug)]
pub(crate) struct Writes {
    pub(crate) rows: HashMap<Bytes, Option<Bytes>>,
    /// Keys of rows that this statement inserted or changed.
    pub(crate) touched: HashSet<Bytes>,
    /// Foreign keys to be checked when the statement has ended.
    pub(crate) events: Vec<Event>,
    /// New rows in bulk, by table.
    pub(crate) bulk: Vec<Bulk>,
    /// Unique keys that wait for the statement's end.
    pub(crate) late: Vec<Late>,
}

/// The newest state of a key that this statement has locked.
pub(crate) struct Newest {
    pub(crate) row: Option<Bytes>,
    /// Its committed version is above the statement's snapshot.
    pub(crate) changed: bool,
}

impl Writes {
    pub(crate) fn put(&mut self, key: Bytes, row: Bytes) {
        self.rows.insert(key, Some(row));
    }

    pub(crate) fn delete(&mut self, key: Bytes) {
        self.rows.insert(key, None);
    }

    /// Locks a key and reads its newest state, this statement's writes first.
    pub(crate) async fn lock(
        &self,
        txn: &mut Txn,
        key: &[u8],
        strength: Strength,
    ) -> Result<Newest, PgError> {
        let locked = txn.lock(key, strength, WaitPolicy::Block).await.map_err(from_kv)?;
        if let Some(own) = self.rows.get(key) {
            return Ok(Newest { row: own.clone(), changed: false });
        }
        if let Some(own) = self.bulk.iter().find_map(|bulk| bulk.has(key)) {
            return Ok(Newest { row: Some(own), changed: false });
        }
        match locked {
            Locked::Held { newest, changed } => {
                Ok(Newest { row: newest.map(|(_, row)| row), changed })
            }
            Locked::Skipped => {
                Err(PgError::internal("a lock was skipped that was to be waited for"))
            }
        }
    }

    /// The new rows in bulk of a table.
    pub(crate) fn bulk_of(&mut self, writer: &Arc<TableWriter>) -> &mut Bulk {
        let table = writer.table.desc.oid;
        let at = self.bulk.iter().position(|bulk| bulk.table() == table).unwrap_or_else(|| {
            self.bulk.push(Bulk::new(writer.clone()));
            self.bulk.len() - 1
        });
        &mut self.bulk[at]
    }

    /// Has this table new rows in bulk?
    pub(crate) fn has_bulk(&self, table: u32) -> bool {
        self.bulk.iter().any(|bulk| bulk.table() == table)
    }

    /// Locks and looks up the new rows in bulk: those of full runs, or all.
    pub(crate) async fn seal(
        &mut self,
        all: bool,
        txn: &mut Txn,
        ctx: &StatementContext,
    ) -> Result<(), PgError> {
        for bulk in self.bulk.iter_mut().filter(|bulk| all || bulk.is_full()) {
            bulk.seal(&self.rows, txn, ctx).await?;
            self.events.append(&mut bulk.events);
        }
        Ok(())
    }

    /// Writes a unique key that another row holds, unless it still does at the statement's end.
    pub(crate) fn put_late(&mut self, key: Bytes, value: Bytes, error: PgError) {
        self.late.push(Late { key, value, error });
    }

    /// The statement has ended: keys that waited must be free now.
    pub(crate) fn settle(&mut self) -> Result<(), PgError> {
        for Late { key, value, error } in std::mem::take(&mut self.late) {
            match self.rows.get(&key) {
                Some(None) => self.put(key, value),
                _ => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands everything to the transaction.
    pub(crate) fn flush(&mut self, txn: &mut Txn) {
        self.bulk.drain(..).for_each(|mut bulk| bulk.flush(txn));
        for (key, row) in self.rows.drain() {
            match row {
                Some(row) => txn.put(key, row),
                None => txn.delete(key),
            }
        }
        self.touched.clear();
    }
}

/// The row was changed by somebody else after the statement's snapshot.
pub(crate) fn changed(txn: &Txn) -> PgError {
    refused(txn, RetryReason::ConcurrentUpdate)
}

/// The row that is to be written was changed, or deleted, after the statement's snapshot.
pub(crate) fn overtaken(txn: &Txn, newest: &Newest) -> PgError {
    let gone = newest.row.is_none();
    refused(txn, if gone { RetryReason::ConcurrentDelete } else { RetryReason::ConcurrentUpdate })
}

fn refused(txn: &Txn, reason: RetryReason) -> PgError {
    match txn.isolation() {
        Isolation::ReadCommitted => retry(),
        _ => from_kv(KvError::Retry { reason }),
    }
}

/// Ends a statement: its writes go to the transaction, then foreign keys are checked.
pub(crate) async fn finish(
    mut writes: Writes,
    txn: &mut Txn,
    ctx: &Arc<StatementContext>,
) -> Result<(), ExecError> {
    writes.seal(true, txn, ctx).await?;
    writes.settle()?;
    let events = std::mem::take(&mut writes.events);
    if events.is_empty() {
        writes.flush(txn);
        return Ok(());
    }
    let savepoint = txn.savepoint();
    writes.flush(txn);
    match foreign::run(events, txn, ctx, false).await {
        Ok(()) => {
            txn.release(savepoint);
            Ok(())
        }
        Err(e) => {
            txn.rollback_to(savepoint);
            txn.release(savepoint);
            Err(e.into())
        }
    }
}
