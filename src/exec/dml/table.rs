//! Writing rows of one table: checks, index entries, the row itself.

use std::sync::Arc;

use bytes::Bytes;
use meridian_catalog::{Catalog, ConstraintKind, TableDesc};
use meridian_cluster::Txn;
use meridian_kv::api::Strength;
use meridian_types::{Datum, EvalContext, PgError, Result};

use super::indexes::IndexExprs;
use super::{Event, Writes, describe, overtaken};
use crate::codecs::{Table, column};
use crate::context::StatementContext;
use crate::error::from_kv;
use crate::expr::Eval;
use crate::shared::Cx;

/// Everything that writing a row of a table involves.
#[derive(Debug)]
pub(crate) struct TableWriter {
    pub(crate) table: Arc<Table>,
    /// CHECK constraints over the row, by attnum − 1.
    pub(crate) checks: Vec<(String, Eval)>,
    /// Generated columns over the row.
    pub(crate) generated: Vec<(i16, Eval)>,
    /// Foreign keys of this table: positions in its constraints.
    foreign: Vec<usize>,
    /// Foreign keys that refer to this table.
    referencing: Vec<(Arc<TableDesc>, usize)>,
    /// What each index computes.
    exprs: Vec<IndexExprs>,
    /// For index expressions, which are immutable.
    eval: EvalContext,
}

impl TableWriter {
    pub(crate) fn new(
        table: Arc<Table>,
        checks: Vec<(String, Eval)>,
        generated: Vec<(i16, Eval)>,
        catalog: &Catalog,
    ) -> Result<TableWriter> {
        let desc = &table.desc;
        let exprs: Result<Vec<IndexExprs>> =
            desc.indexes.iter().map(|i| IndexExprs::new(desc, i, catalog)).collect();
        let (exprs, eval) = (exprs?, EvalContext::bare());
        let is_foreign = |c: &ConstraintKind| matches!(c, ConstraintKind::ForeignKey { .. });
        let foreign = (0..desc.constraints.len())
            .filter(|i| is_foreign(&desc.constraints[*i].kind))
            .collect();
        let mut referencing = vec![];
        for child in catalog.referencing_tables(desc.oid) {
            for (i, constraint) in child.constraints.iter().enumerate() {
                if matches!(&constraint.kind,
                    ConstraintKind::ForeignKey { ref_table, .. } if *ref_table == desc.oid)
                {
                    referencing.push((child.clone(), i));
                }
            }
        }
        Ok(TableWriter { table, checks, generated, foreign, referencing, exprs, eval })
    }

    /// Foreign keys of this table: positions in its constraints.
    pub(super) fn foreign(&self) -> &[usize] {
        &self.foreign
    }

    /// Values of an index's columns in a row; `None` when the row is not in the index.
    #[expect(clippy::ptr_arg, reason = "a row is evaluated over as the trait object of a `Vec`")]
    pub(super) fn entry_values(&self, at: usize, row: &Vec<Datum>) -> Result<Option<Vec<Datum>>> {
        self.exprs[at].values(&self.table.desc.indexes[at], row, &self.eval)
    }

    /// Computes generated columns, then checks NOT NULL and CHECK.
    pub(crate) fn check_row(
        &self,
        row: &mut [Datum],
        cx: &Cx<'_>,
        ctx: &StatementContext,
    ) -> Result<()> {
        crate::rowid::fill(&self.table.desc, row);
        let desc = &self.table.desc;
        for (attnum, eval) in &self.generated {
            let value = eval.row(&&*row, cx)?;
            if let Some(cell) = usize::try_from(attnum - 1).ok().and_then(|at| row.get_mut(at)) {
                *cell = value;
            }
        }
        for (at, column) in desc.columns.iter().enumerate() {
            if column.not_null && !column.dropped && row[at].is_null() {
                return Err(describe::not_null(desc, at, row, &ctx.catalog, &ctx.eval));
            }
        }
        for (name, condition) in &self.checks {
            if condition.row(&&*row, cx)? == Datum::Bool(false) {
                return Err(describe::check(desc, name, row, &ctx.catalog, &ctx.eval));
            }
        }
        Ok(())
    }

    /// Locks a unique key and looks what holds it. `expected` says that it may well be taken: then one
    /// that the snapshot shows is only kept from going away, and nobody is waited for who merely locks
    /// that row.
    async fn holder(
        key: &Bytes,
        expected: bool,
        txn: &mut Txn,
        writes: &Writes,
    ) -> Result<Option<Bytes>> {
        if expected && txn.get(key).await.map_err(from_kv)?.is_some() {
            let found = writes.lock(txn, key, Strength::KeyShare).await?.row;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(writes.lock(txn, key, Strength::Update).await?.row)
    }

    /// A row that contradicts the new one in one of these indexes (all unique ones when `None`):
    /// the index and the row's key. The keys are locked either way.
    pub(crate) async fn conflict(
        &self,
        row: &Vec<Datum>,
        arbiters: Option<&[u16]>,
        expected: bool,
        txn: &mut Txn,
        writes: &Writes,
    ) -> Result<Option<(usize, Bytes)>> {
        for (at, index) in self.table.desc.indexes.iter().enumerate() {
            let primary = at == 0;
            if arbiters.is_some_and(|a| !a.contains(&index.index_id)) {
                continue;
            }
            if primary {
                let key = Bytes::from(self.table.codec.row_key(row)?);
                if Self::holder(&key, expected, txn, writes).await?.is_some() {
                    return Ok(Some((at, key)));
                }
                continue;
            }
            if !index.unique {
                continue;
            }
            let Some(values) = self.entry_values(at, row)? else { continue };
            let codec = &self.table.indexes[at];
            if !codec.is_unique_for(&values) {
                continue;
            }
            let key = Bytes::from(codec.key(&values)?);
            if let Some(found) = Self::holder(&key, expected, txn, writes).await? {
                let row_key = codec.row_key(&self.table.desc, &key, &found)?;
                return Ok(Some((at, Bytes::from(row_key))));
            }
        }
        Ok(None)
    }

    /// 23505 for a conflict that was found.
    pub(crate) fn duplicate(&self, at: usize, row: &Vec<Datum>, ctx: &StatementContext) -> PgError {
        let values = self.entry_values(at, row).ok().flatten().unwrap_or_default();
        let index = &self.table.desc.indexes[at];
        describe::unique(&self.table.desc, index, &values, &ctx.catalog, &ctx.eval)
    }

    /// Writes a new row whose unique keys are known to be free.
    pub(crate) fn insert_unchecked(&self, row: &Vec<Datum>, writes: &mut Writes) -> Result<()> {
        let key = Bytes::from(self.table.codec.row_key(row)?);
        for at in 1..self.table.indexes.len() {
            let Some(values) = self.entry_values(at, row)? else { continue };
            let (entry, value) = self.table.indexes[at].entry(&values, &key)?;
            writes.put(entry.into(), value.into());
        }
        writes.put(key.clone(), self.table.codec.encode(row)?.into());
        writes.touched.insert(key);
        for constraint in &self.foreign {
            writes.events.push(Event::child(&self.table.desc, *constraint, row));
        }
        Ok(())
    }

    /// Writes a new row, after `check_row`.
    pub(crate) async fn insert(
        &self,
        row: &Vec<Datum>,
        txn: &mut Txn,
        writes: &mut Writes,
        ctx: &StatementContext,
    ) -> Result<()> {
        if let Some((at, _)) = self.conflict(row, None, false, txn, writes).await? {
            return Err(self.duplicate(at, row, ctx));
        }
        self.insert_unchecked(row, writes)
    }

    /// The lock that changing the row from `old` to `new` needs.
    pub(crate) fn strength(&self, old: &[Datum], new: &[Datum]) -> Strength {
        if self.table.same_key(old, new) { Strength::NoKeyUpdate } else { Strength::Update }
    }

    /// Locks the row to be changed; it must be as the snapshot has it.
    pub(crate) async fn lock_row(
        &self,
        key: &Bytes,
        strength: Strength,
        txn: &mut Txn,
        writes: &Writes,
    ) -> Result<bool> {
        let newest = writes.lock(txn, key, strength).await?;
        if newest.changed {
            return Err(overtaken(txn, &newest));
        }
        Ok(newest.row.is_some())
    }

    /// Replaces a row that is locked, after `check_row` of the new one.
    pub(crate) async fn update(
        &self,
        key: &Bytes,
        old: &Vec<Datum>,
        new: &Vec<Datum>,
        txn: &mut Txn,
        writes: &mut Writes,
        ctx: &StatementContext,
    ) -> Result<()> {
        let new_key = Bytes::from(self.table.codec.row_key(new)?);
        let moved = new_key != *key;
        let taken = moved && writes.lock(txn, &new_key, Strength::Update).await?.row.is_some();
        for at in 1..self.table.indexes.len() {
            let codec = &self.table.indexes[at];
            let (before, after) = (self.entry_values(at, old)?, self.entry_values(at, new)?);
            if before == after && !moved {
                continue;
            }
            let before = before.map(|v| codec.entry(&v, key)).transpose()?.map(|e| e.0);
            let entry = after.as_ref().map(|v| codec.entry(v, &new_key)).transpose()?;
            let same = entry.as_ref().map(|e| &e.0) == before.as_ref();
            let unique = !same && after.as_ref().is_some_and(|v| codec.is_unique_for(v));
            let entry_taken = match &entry {
                Some((entry, _)) if unique => {
                    writes.lock(txn, entry, Strength::Update).await?.row.is_some()
                }
                _ => false,
            };
            if let (Some(before), false) = (before, same) {
                writes.delete(before.into());
            }
            match entry {
                Some((entry, value)) if entry_taken => {
                    writes.put_late(entry.into(), value.into(), self.duplicate(at, new, ctx));
                }
                Some((entry, value)) => writes.put(entry.into(), value.into()),
                None => {}
            }
        }
        if moved {
            writes.delete(key.clone());
        }
        writes.touched.insert(key.clone());
        let row = self.table.codec.encode(new)?.into();
        if taken {
            writes.put_late(new_key, row, self.duplicate(0, new, ctx));
        } else {
            writes.put(new_key.clone(), row);
            writes.touched.insert(new_key);
        }
        self.note_update(old, new, writes);
        Ok(())
    }

    fn note_update(&self, old: &[Datum], new: &[Datum], writes: &mut Writes) {
        let differs = |columns: &[i16]| columns.iter().any(|a| column(old, *a) != column(new, *a));
        for at in &self.foreign {
            if let ConstraintKind::ForeignKey { columns, .. } =
                &self.table.desc.constraints[*at].kind
                && differs(columns)
            {
                writes.events.push(Event::child(&self.table.desc, *at, new));
            }
        }
        for (child, at) in &self.referencing {
            if let ConstraintKind::ForeignKey { ref_columns, .. } = &child.constraints[*at].kind
                && differs(ref_columns)
            {
                writes.events.push(Event::parent(&self.table.desc, child, *at, old, Some(new)));
            }
        }
    }

    /// Removes a row that is locked.
    pub(crate) fn delete(&self, key: &Bytes, old: &Vec<Datum>, writes: &mut Writes) -> Result<()> {
        for at in 1..self.table.indexes.len() {
            let Some(values) = self.entry_values(at, old)? else { continue };
            let (entry, _) = self.table.indexes[at].entry(&values, key)?;
            writes.delete(entry.into());
        }
        writes.delete(key.clone());
        writes.touched.insert(key.clone());
        for (child, at) in &self.referencing {
            writes.events.push(Event::parent(&self.table.desc, child, *at, old, None));
        }
        Ok(())
    }
}
