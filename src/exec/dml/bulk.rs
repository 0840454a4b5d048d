//! Many new rows of one table: encoded as they come, locked and looked up run by run.
//!
//! INSERT from a query, COPY and the like write rows that nobody has seen. Here such a row costs its
//! encoding and little more; what a single row pays for locks, lookups and buffers is paid once for a run of
//! some ten thousand (see `meridian_kv::run`). What can be wrong with a row by itself has been checked when
//! it comes; whether its keys are free is found out when its run is full, so that an error of that kind comes
//! a little later than PostgreSQL's would, and names the same row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use meridian_catalog::value::push_tagged;
use meridian_cluster::{Run, RunBuilder, Twice, Txn};
use meridian_types::{Datum, PgError, Result};

use super::{Event, TableWriter};
use crate::context::StatementContext;
use crate::error::from_kv;

/// Bytes of rows after which a run is made.
pub(crate) const RUN_BYTES: usize = 2 << 20;

/// The new entries of one index.
#[derive(Default)]
struct Part {
    builder: RunBuilder,
    /// The number of each entry's row.
    numbers: Vec<u64>,
    /// Runs whose keys are free and locked, on their way to the transaction.
    sealed: Vec<Arc<Run>>,
}

/// New rows of one table on their way to the transaction.
pub(crate) struct Bulk {
    writer: Arc<TableWriter>,
    /// One for each index, the rows themselves first.
    parts: Vec<Part>,
    rows: u64,
    /// Foreign keys to be checked; each combination of values once.
    pub(super) events: Vec<Event>,
    referenced: HashSet<Vec<u8>>,
    /// The number of the row that contradicts another one.
    failed: Option<u64>,
    key: Vec<u8>,
    row: Vec<u8>,
}

impl std::fmt::Debug for Bulk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bulk({} rows of {})", self.rows, self.writer.table.desc.name)
    }
}

impl Bulk {
    pub(crate) fn new(writer: Arc<TableWriter>) -> Bulk {
        let parts = writer.table.indexes.iter().map(|_| Part::default()).collect();
        let (key, row) = (vec![], vec![]);
        let (events, referenced) = (vec![], HashSet::new());
        Bulk { writer, parts, rows: 0, events, referenced, failed: None, key, row }
    }

    /// The table that the rows belong to.
    pub(crate) fn table(&self) -> u32 {
        self.writer.table.desc.oid
    }

    /// The number of the row that [`Bulk::seal`] has refused.
    pub(crate) fn failed(&self) -> Option<u64> {
        self.failed
    }

    /// Is it time for [`Bulk::seal`]?
    pub(crate) fn is_full(&self) -> bool {
        self.parts.iter().any(|part| part.builder.size() >= RUN_BYTES)
    }

    /// Takes a row, after `check_row`. `number` is its name if [`Bulk::seal`] refuses it.
    pub(crate) fn push(&mut self, row: &Vec<Datum>, number: u64) -> Result<()> {
        let table = &self.writer.table;
        table.codec.row_key_into(row, &mut self.key)?;
        table.codec.encode_into(row, &mut self.row)?;
        for (at, part) in self.parts.iter_mut().enumerate().skip(1) {
            let Some(values) = self.writer.entry_values(at, row)? else { continue };
            let (entry, value) = table.indexes[at].entry(&values, &self.key)?;
            part.builder.push(&entry, &value);
            part.numbers.push(number);
        }
        self.parts[0].builder.push(&self.key, &self.row);
        self.parts[0].numbers.push(number);
        self.rows += 1;
        for constraint in self.writer.foreign() {
            let event = Event::child(&table.desc, *constraint, row);
            let mut values = constraint.to_le_bytes().to_vec();
            event.child_values().iter().try_for_each(|value| push_tagged(&mut values, value))?;
            if self.referenced.insert(values) {
                self.events.push(event);
            }
        }
        Ok(())
    }

    /// Makes runs of what has come: locks their keys and looks whether they are free. `others` are the
    /// statement's single rows.
    pub(crate) async fn seal(
        &mut self,
        others: &HashMap<Bytes, Option<Bytes>>,
        txn: &mut Txn,
        ctx: &StatementContext,
    ) -> Result<()> {
        for at in 0..self.parts.len() {
            let part = &mut self.parts[at];
            if part.builder.is_empty() {
                continue;
            }
            let numbers = std::mem::take(&mut part.numbers);
            let (run, order) = match std::mem::take(&mut part.builder).build() {
                Ok((run, order)) => (Arc::new(run), order),
                Err(Twice { number, key, row }) => {
                    self.failed = numbers.get(number).copied();
                    return Err(self.duplicate(at, &key, &row, txn, ctx).await);
                }
            };
            // The entries of other indexes belong to rows whose keys are locked, and hold these.
            if at == 0 || self.writer.table.desc.indexes[at].unique {
                let taken = txn.claim_run(&run).await.map_err(from_kv)?;
                let sealed = part.sealed.iter().filter_map(|sealed| run.clash(sealed));
                let single = others.iter().filter(|(_, row)| row.is_some());
                let single = single.filter_map(|(key, _)| run.find(key));
                if let Some(taken) = taken.into_iter().chain(sealed).chain(single).min() {
                    let number = order.map_or(taken, |order| order[taken] as usize);
                    self.failed = numbers.get(number).copied();
                    let (key, row) = (run.shared_key(taken), run.row(taken));
                    return Err(self.duplicate(at, &key, &row, txn, ctx).await);
                }
            }
            part.sealed.push(run);
        }
        Ok(())
    }

    /// 23505 for an entry of an index that is there already.
    async fn duplicate(
        &self,
        at: usize,
        key: &Bytes,
        value: &Bytes,
        txn: &mut Txn,
        ctx: &StatementContext,
    ) -> PgError {
        let table = &self.writer.table;
        let row = if at == 0 {
            table.codec.decode(key, value)
        } else {
            match table.indexes[at].row_key(&table.desc, key, value) {
                Ok(key) => self.row_behind(&key, txn).await,
                Err(error) => Err(error),
            }
        };
        match row {
            Ok(row) => self.writer.duplicate(at, &row, ctx),
            Err(error) => error,
        }
    }

    /// A row of the table by its key, among those to be written or among those that are there.
    async fn row_behind(&self, key: &[u8], txn: &mut Txn) -> Result<Vec<Datum>> {
        let mut sealed = self.parts[0].sealed.iter();
        let row = match sealed.find_map(|run| Some(run.row(run.find(key)?))) {
            Some(row) => Some(row),
            None => txn.get(key).await.map_err(from_kv)?,
        };
        self.writer.table.codec.decode(key, &row.unwrap_or_default())
    }

    /// Does one of the finished runs have this key?
    pub(crate) fn has(&self, key: &[u8]) -> Option<Bytes> {
        let mut runs = self.parts.iter().flat_map(|part| &part.sealed);
        runs.find_map(|run| Some(run.row(run.find(key)?)))
    }

    /// Hands the finished runs to the transaction.
    pub(crate) fn flush(&mut self, txn: &mut Txn) {
        for part in &mut self.parts {
            part.sealed.drain(..).for_each(|run| txn.put_run(run));
        }
    }
}
