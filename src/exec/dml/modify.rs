//! The rows of a `Modify`: from the source's batches to writes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use bytes::Bytes;
use meridian_catalog::TableDesc;
use meridian_sql::expr::ColumnId;
use meridian_sql::plan::{Modify, ModifyKind};
use meridian_types::{Datum, PgError, PgType, Result, SqlState};

use super::table::TableWriter;
use crate::context::StatementContext;
use crate::error::{NEED, from_arrow};
use crate::expr::{Eval, Flat, compile};
use crate::lower::{Lowered, Lowerer};
use crate::ops::basic::Pace;
use crate::ops::scan::row_of;
use crate::shared::{Cx, Driver, Shared};
use crate::values;

/// What DO UPDATE sets, and its condition.
type ConflictSet = (Vec<(i16, Eval)>, Option<Eval>);
/// What UPDATE reads of its source: the key's place, the old row's places, the new values' places.
type UpdatePlaces<'a> = (usize, &'a [(usize, PgType)], &'a [(i16, usize, PgType)]);

/// ON CONFLICT, compiled.
#[derive(Debug)]
struct Conflict {
    arbiters: Option<Vec<u16>>,
    /// (attnum, value) over the existing row followed by the excluded one; DO NOTHING when `None`.
    update: Option<ConflictSet>,
}

#[derive(Debug)]
enum Kind {
    /// Positions and types of the new row's columns.
    Insert {
        values: Vec<(usize, PgType)>,
        conflict: Option<Conflict>,
    },
    /// Position of the key, the old row, and (attnum, position, type) of the new values.
    Update {
        key: usize,
        old: Vec<(usize, PgType)>,
        set: Vec<(i16, usize, PgType)>,
    },
    Delete {
        key: usize,
        old: Vec<(usize, PgType)>,
    },
}

/// Rows of a batch from which on they are written in bulk.
const BULK_ROWS: usize = 64;

/// A compiled `Modify` over the columns of its (extended) source.
#[derive(Debug)]
pub(crate) struct ModifySpec {
    pub(crate) writer: Arc<TableWriter>,
    kind: Kind,
    /// WITH CHECK OPTION of views: (view, condition over the new row).
    view_checks: Vec<(String, Eval)>,
    returning: bool,
}

/// What was done with the rows of a batch.
pub(crate) struct Applied {
    /// Rows written.
    pub(crate) count: u64,
    /// For RETURNING, the source's columns followed by the table's.
    pub(crate) columns: Option<Vec<arrow::array::ArrayRef>>,
    /// The row at which to go on once the pending sub-query has been run.
    pub(crate) stopped_at: Option<usize>,
}

/// The rows written by one batch: which source row each came from, and the row.
#[derive(Default)]
struct Written {
    source: Vec<u32>,
    rows: Vec<Vec<Datum>>,
}

impl Lowerer {
    /// The source of a `Modify` with its values computed behind its columns, and its spec.
    pub(crate) fn modify(&mut self, modify: &Modify) -> Result<(Lowered, ModifySpec)> {
        let source = self.rel(&modify.source)?;
        let first = source.cols.len();
        let (extra, kind) = match &modify.kind {
            ModifyKind::Insert { values, on_conflict } => {
                let evals = self.exprs(values, &source)?;
                let at = evals.iter().enumerate().map(|(i, e)| (first + i, e.ty)).collect();
                let conflict = match on_conflict {
                    None => None,
                    Some(c) => Some(self.conflict(modify, c)?),
                };
                (evals, Kind::Insert { values: at, conflict })
            }
            ModifyKind::Update { key, old, set } => {
                let evals = self.exprs(set.iter().map(|(_, e)| e), &source)?;
                let set = set
                    .iter()
                    .zip(&evals)
                    .enumerate()
                    .map(|(i, ((attnum, _), e))| (*attnum, first + i, e.ty))
                    .collect();
                let old: Result<Vec<_>> = old.iter().map(|c| source.key(*c)).collect();
                let key = source.at(*key)?;
                (evals, Kind::Update { key, old: old?, set })
            }
            ModifyKind::Delete { key, old } => {
                let old: Result<Vec<_>> = old.iter().map(|c| source.key(*c)).collect();
                (vec![], Kind::Delete { key: source.at(*key)?, old: old? })
            }
        };
        let pace = match &modify.kind {
            ModifyKind::Insert { values, .. } => Pace::of(values, false),
            ModifyKind::Update { set, .. } => Pace::of(set.iter().map(|(_, e)| e), false),
            ModifyKind::Delete { .. } => Pace::Batch,
        };
        let source = self.extend_at(source, extra, pace);
        let writer = Arc::new(self.writer(modify)?);
        let returning = !modify.returning.is_empty();
        let map = modify.new_columns.iter().enumerate().map(|(i, c)| (*c, i)).collect();
        let types = modify.table.columns.iter().map(|c| c.ty);
        self.note_ids(modify.new_columns.iter().copied().zip(types));
        let mut view_checks = vec![];
        for (view, condition) in &modify.view_checks {
            view_checks.push((view.clone(), self.over(condition, &map)?));
        }
        Ok((source, ModifySpec { writer, kind, view_checks, returning }))
    }

    fn writer(&mut self, modify: &Modify) -> Result<TableWriter> {
        let map: HashMap<ColumnId, usize> =
            modify.new_columns.iter().enumerate().map(|(i, c)| (*c, i)).collect();
        let mut checks = vec![];
        for (name, condition) in &modify.checks {
            checks.push((name.clone(), compile(condition, &mut Flat(&map))?));
        }
        checks.sort_by(|a, b| a.0.cmp(&b.0));
        let mut generated = vec![];
        for (attnum, value) in &modify.generated {
            generated.push((*attnum, compile(value, &mut Flat(&map))?));
        }
        let table = self.node.table(&modify.table)?;
        TableWriter::new(table, checks, generated, &self.catalog)
    }

    fn conflict(
        &mut self,
        modify: &Modify,
        conflict: &meridian_sql::plan::OnConflict,
    ) -> Result<Conflict> {
        let arbiters = (!conflict.arbiters.is_empty()).then(|| conflict.arbiters.clone());
        let Some(update) = &conflict.update else { return Ok(Conflict { arbiters, update: None }) };
        let width = modify.table.columns.len();
        let mut map: HashMap<ColumnId, usize> = HashMap::new();
        map.extend(update.existing.iter().enumerate().map(|(i, c)| (*c, i)));
        map.extend(update.excluded.iter().enumerate().map(|(i, c)| (*c, width + i)));
        for ids in [&update.existing, &update.excluded] {
            self.note_ids(ids.iter().copied().zip(modify.table.columns.iter().map(|c| c.ty)));
        }
        let mut set = vec![];
        for (attnum, value) in &update.set {
            set.push((*attnum, self.over(value, &map)?));
        }
        let filter = update.filter.as_ref().map(|f| self.over(f, &map)).transpose()?;
        Ok(Conflict { arbiters, update: Some((set, filter)) })
    }
}

impl ModifySpec {
    pub(crate) fn table(&self) -> &Arc<TableDesc> {
        &self.writer.table.desc
    }

    /// Writes the rows of a batch from this one on, until one needs a sub-query that was not run.
    pub(crate) async fn apply(
        &self,
        batch: &RecordBatch,
        from: usize,
        shared: &Shared,
        driver: &mut Driver<'_>,
    ) -> Result<Applied> {
        let ctx = driver.ctx.clone();
        let cx = shared.cx(&ctx);
        if self.is_bulk(batch, driver) {
            return self.insert_bulk(batch, &cx, driver).await;
        }
        // Rows in bulk become visible to lookups of this statement.
        driver.writes.seal(true, driver.txn, &ctx).await?;
        let mut written = Written::default();
        let mut count = 0;
        let mut stopped_at = None;
        for row in from..batch.num_rows() {
            let result = match &self.kind {
                Kind::Insert { values, conflict } => {
                    let new = row_of(batch, row, values);
                    self.insert(new, conflict.as_ref(), &cx, driver).await
                }
                Kind::Update { key, old, set } => {
                    self.update(batch, row, (*key, old, set), &cx, driver).await
                }
                Kind::Delete { key, old } => self.delete(batch, row, (*key, old), driver).await,
            };
            if matches!(&result, Err(e) if e.state() == NEED) {
                // Sub-queries stand where nothing of the row has been written yet.
                stopped_at = Some(row);
                break;
            }
            if let Some(values) = result? {
                count += 1;
                if self.returning {
                    written.source.push(u32::try_from(row).unwrap_or(u32::MAX));
                    written.rows.push(values);
                }
            }
        }
        let columns = self.returning.then(|| self.columns(batch, written)).transpose()?;
        Ok(Applied { count, columns, stopped_at })
    }

    /// Are the rows of this batch better written together?
    fn is_bulk(&self, batch: &RecordBatch, driver: &Driver<'_>) -> bool {
        let plain = matches!(&self.kind, Kind::Insert { conflict: None, .. })
            && !self.returning
            && self.view_checks.is_empty();
        let many = batch.num_rows() >= BULK_ROWS;
        plain && (many || driver.writes.has_bulk(self.table().oid))
    }

    async fn insert_bulk(
        &self,
        batch: &RecordBatch,
        cx: &Cx<'_>,
        driver: &mut Driver<'_>,
    ) -> Result<Applied> {
        let Kind::Insert { values, .. } = &self.kind else {
            return Err(PgError::internal("only new rows are written in bulk"));
        };
        let ctx = driver.ctx.clone();
        for row in 0..batch.num_rows() {
            let mut new = row_of(batch, row, values);
            self.writer.check_row(&mut new, cx, &ctx)?;
            driver.writes.bulk_of(&self.writer).push(&new, 0)?;
        }
        driver.writes.seal(false, driver.txn, &ctx).await?;
        Ok(Applied { count: batch.num_rows() as u64, columns: None, stopped_at: None })
    }

    fn columns(
        &self,
        batch: &RecordBatch,
        written: Written,
    ) -> Result<Vec<arrow::array::ArrayRef>> {
        let at = UInt32Array::from(written.source);
        let source = take_record_batch(batch, &at).map_err(from_arrow)?;
        let mut columns = source.columns().to_vec();
        for (i, column) in self.table().columns.iter().enumerate() {
            let mut builder = values::Builder::new(column.ty, written.rows.len());
            for row in &written.rows {
                builder.push(&row[i])?;
            }
            columns.push(builder.finish());
        }
        Ok(columns)
    }

    /// A row written through a view with a check option must be one that the view shows.
    fn check_views(&self, row: &[Datum], cx: &Cx<'_>, ctx: &StatementContext) -> Result<()> {
        for (view, condition) in &self.view_checks {
            if condition.row(&row, cx)? != Datum::Bool(true) {
                let text = format!("new row violates check option for view \"{view}\"");
                let detail = super::describe::failing_row(self.table(), row, &ctx.eval);
                let state = SqlState::WITH_CHECK_OPTION_VIOLATION;
                return Err(PgError::new(state, text).detail(detail));
            }
        }
        Ok(())
    }

    async fn insert(
        &self,
        mut new: Vec<Datum>,
        conflict: Option<&Conflict>,
        cx: &Cx<'_>,
        driver: &mut Driver<'_>,
    ) -> Result<Option<Vec<Datum>>> {
        let ctx = driver.ctx.clone();
        self.writer.check_row(&mut new, cx, &ctx)?;
        let Some(conflict) = conflict else {
            self.check_views(&new, cx, &ctx)?;
            self.writer.insert(&new, driver.txn, driver.writes, &ctx).await?;
            return Ok(Some(new));
        };
        let arbiters = conflict.arbiters.as_deref();
        let found = self.writer.conflict(&new, arbiters, true, driver.txn, driver.writes).await?;
        match (found, &conflict.update) {
            (None, _) => {
                self.check_views(&new, cx, &ctx)?;
                let writer = &self.writer;
                let again = writer.conflict(&new, None, false, driver.txn, driver.writes).await?;
                match again {
                    None => writer.insert_unchecked(&new, driver.writes)?,
                    // It was free just now: its lock was lost with a lease, and somebody has come.
                    Some((at, _)) if self.is_arbiter(at, arbiters) => {
                        return Err(super::changed(driver.txn));
                    }
                    Some((at, _)) => return Err(writer.duplicate(at, &new, &ctx)),
                }
                Ok(Some(new))
            }
            (Some((_, key)), None) => {
                if !ctx.read_committed {
                    self.must_see(&key, driver).await?;
                }
                Ok(None)
            }
            (Some((_, key)), Some((set, filter))) => {
                self.update_conflicting(key, new, set, filter.as_ref(), cx, driver).await
            }
        }
    }

    fn is_arbiter(&self, at: usize, arbiters: Option<&[u16]>) -> bool {
        arbiters.is_none_or(|all| all.contains(&self.table().indexes[at].index_id))
    }

    /// A row that is a reason to do nothing has to be in the snapshot, or of this transaction.
    async fn must_see(&self, key: &Bytes, driver: &mut Driver<'_>) -> Result<()> {
        let strength = meridian_kv::api::Strength::KeyShare;
        match driver.writes.lock(driver.txn, key, strength).await?.changed {
            true => Err(super::changed(driver.txn)),
            false => Ok(()),
        }
    }

    async fn update_conflicting(
        &self,
        key: Bytes,
        excluded: Vec<Datum>,
        set: &[(i16, Eval)],
        filter: Option<&Eval>,
        cx: &Cx<'_>,
        driver: &mut Driver<'_>,
    ) -> Result<Option<Vec<Datum>>> {
        if driver.writes.touched.contains(&key) {
            return Err(PgError::new(
                SqlState::CARDINALITY_VIOLATION,
                "ON CONFLICT DO UPDATE command cannot affect row a second time",
            )
            .hint(
                "Ensure that no rows proposed for insertion within the same command have \
                 duplicate constrained values.",
            ));
        }
        let ctx = driver.ctx.clone();
        let strength = meridian_kv::api::Strength::NoKeyUpdate;
        let newest = driver.writes.lock(driver.txn, &key, strength).await?;
        let Some(stored) = newest.row else {
            // The entry's row went away with it: nothing is in the way any more.
            self.writer.insert(&excluded, driver.txn, driver.writes, &ctx).await?;
            return Ok(Some(excluded));
        };
        if newest.changed && !ctx.read_committed {
            return Err(super::changed(driver.txn));
        }
        let existing = self.writer.table.codec.decode(&key, &stored)?;
        let mut both = existing.clone();
        both.extend(excluded);
        if let Some(filter) = filter
            && filter.row(&both, cx)? != Datum::Bool(true)
        {
            return Ok(None);
        }
        let mut new = existing.clone();
        for (attnum, value) in set {
            assign(&mut new, *attnum, value.row(&both, cx)?);
        }
        self.writer.check_row(&mut new, cx, &ctx)?;
        self.check_views(&new, cx, &ctx)?;
        let strength = self.writer.strength(&existing, &new);
        driver.writes.lock(driver.txn, &key, strength).await?;
        self.writer.update(&key, &existing, &new, driver.txn, driver.writes, &ctx).await?;
        Ok(Some(new))
    }

    async fn update(
        &self,
        batch: &RecordBatch,
        row: usize,
        (key, old, set): UpdatePlaces<'_>,
        cx: &Cx<'_>,
        driver: &mut Driver<'_>,
    ) -> Result<Option<Vec<Datum>>> {
        let Some(key) = key_at(batch, row, key) else { return Ok(None) };
        if driver.writes.touched.contains(&key) {
            return Ok(None);
        }
        let old = row_of(batch, row, old);
        let mut new = old.clone();
        for (attnum, at, ty) in set {
            assign(&mut new, *attnum, values::datum_at(batch.column(*at), row, *ty));
        }
        let ctx = driver.ctx.clone();
        let strength = self.writer.strength(&old, &new);
        if !self.writer.lock_row(&key, strength, driver.txn, driver.writes).await? {
            return Ok(None);
        }
        self.writer.check_row(&mut new, cx, &ctx)?;
        self.check_views(&new, cx, &ctx)?;
        self.writer.update(&key, &old, &new, driver.txn, driver.writes, &ctx).await?;
        Ok(Some(new))
    }

    async fn delete(
        &self,
        batch: &RecordBatch,
        row: usize,
        (key, old): (usize, &[(usize, PgType)]),
        driver: &mut Driver<'_>,
    ) -> Result<Option<Vec<Datum>>> {
        let Some(key) = key_at(batch, row, key) else { return Ok(None) };
        if driver.writes.touched.contains(&key) {
            return Ok(None);
        }
        let old = row_of(batch, row, old);
        let strength = meridian_kv::api::Strength::Update;
        if !self.writer.lock_row(&key, strength, driver.txn, driver.writes).await? {
            return Ok(None);
        }
        self.writer.delete(&key, &old, driver.writes)?;
        Ok(Some(old))
    }
}

fn assign(row: &mut [Datum], attnum: i16, value: Datum) {
    if let Some(cell) = usize::try_from(attnum - 1).ok().and_then(|at| row.get_mut(at)) {
        *cell = value;
    }
}

fn key_at(batch: &RecordBatch, row: usize, at: usize) -> Option<Bytes> {
    let ty = PgType::new(meridian_types::oid::BYTEA);
    match values::datum_at(batch.column(at), row, ty) {
        Datum::Bytea(key) => Some(key),
        _ => None,
    }
}
