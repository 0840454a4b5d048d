//! Rows kept for the runs of an inner plan.
//!
//! The inner side of a nested loop, a correlated sub-query and a recursive term run many times. A
//! part of them that reads nothing of the outer row gives the same rows each time: it is a *spool*.
//! Its first run passes the rows through, since there may be no second one. The second keeps them,
//! filed under the values that the outer row is compared with, so that each later run is one look
//! into a hash table. Rows that would take too much of the statement's memory are not kept; then
//! each run reads them anew.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_execution::memory_pool::MemoryReservation;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use meridian_types::{Datum, PgError};

use super::basic::{column, filter};
use super::hashing::{ENTRY_BYTES, reservation};
use super::{Batches, Operator, Yielder, generate, input};
use crate::error::{from_arrow, from_datafusion};
use crate::expr::Eval;
use crate::shared::Shared;
use crate::values;

/// The share of a statement's memory that one spool may take.
const MEMORY_SHARE: usize = 4;

/// See the module's text.
#[derive(Clone, Debug)]
pub(crate) struct SpoolOp {
    /// Its place in [`Shared`].
    pub(crate) id: usize,
    /// Equalities: over the child's columns, over the outer row; in comparable form.
    pub(crate) keys: Vec<(Eval, Eval)>,
    /// The same equalities as conditions.
    pub(crate) conditions: Vec<Eval>,
    pub(crate) schema: SchemaRef,
    pub(crate) shared: Arc<Shared>,
}

/// What is known of a spool in one execution of the statement.
#[derive(Clone)]
pub(crate) enum Spool {
    /// It ran once.
    Ran,
    /// It takes too much memory.
    TooBig,
    Kept(Arc<Kept>),
}

/// The rows of a spool.
pub(crate) struct Kept {
    /// One batch if there is an index.
    batches: Vec<RecordBatch>,
    index: Option<Index>,
    _memory: MemoryReservation,
}

/// Row numbers by key; rows with a NULL in the key equal nothing.
struct Index {
    converter: RowConverter,
    rows: HashMap<Box<[u8]>, Vec<u32>>,
}

impl Operator for SpoolOp {
    fn name(&self) -> &'static str {
        "Spool"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let child = children[0].clone();
        let op = self.clone();
        Ok(generate(|mut out| async move {
            match op.shared.spool(op.id) {
                Some(Spool::Kept(kept)) => op.give(&kept, &mut out).await,
                Some(Spool::Ran) => op.keep(&child, task, &mut out).await,
                Some(Spool::TooBig) => op.pass(&child, task, &mut out).await,
                None => {
                    op.shared.set_spool(op.id, Spool::Ran);
                    op.pass(&child, task, &mut out).await
                }
            }
        }))
    }
}

impl SpoolOp {
    async fn pass(
        &self,
        child: &Arc<dyn ExecutionPlan>,
        task: Arc<TaskContext>,
        out: &mut Yielder,
    ) -> Result<(), PgError> {
        let mut rows = input(child, task).map_err(|e| from_datafusion(&e))?;
        while let Some(batch) = rows.next().await {
            out.send(filter(&self.conditions, batch?, &self.shared).await?).await;
        }
        Ok(())
    }

    /// Reads all rows and keeps them, as long as there is room.
    async fn keep(
        &self,
        child: &Arc<dyn ExecutionPlan>,
        task: Arc<TaskContext>,
        out: &mut Yielder,
    ) -> Result<(), PgError> {
        let memory = reservation("Spool", &task);
        let room = self.shared.frame()?.ctx.memory_bytes() / MEMORY_SHARE;
        let mut rows = input(child, task).map_err(|e| from_datafusion(&e))?;
        let mut batches = vec![];
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let entries = if self.keys.is_empty() { 0 } else { batch.num_rows() * ENTRY_BYTES };
            let bytes = batch.get_array_memory_size() + entries;
            batches.push(batch);
            if memory.size() + bytes > room || memory.try_grow(bytes).is_err() {
                self.shared.set_spool(self.id, Spool::TooBig);
                for batch in batches {
                    out.send(filter(&self.conditions, batch, &self.shared).await?).await;
                }
                memory.free();
                while let Some(batch) = rows.next().await {
                    out.send(filter(&self.conditions, batch?, &self.shared).await?).await;
                }
                return Ok(());
            }
        }
        let mut index = None;
        if !self.keys.is_empty() {
            let whole = concat_batches(&self.schema, &batches).map_err(from_arrow)?;
            index = Some(self.index(&whole).await?);
            batches = vec![whole];
        }
        let kept = Arc::new(Kept { batches, index, _memory: memory });
        self.shared.set_spool(self.id, Spool::Kept(kept.clone()));
        self.give(&kept, out).await
    }

    async fn index(&self, rows: &RecordBatch) -> Result<Index, PgError> {
        let mut arrays = Vec::with_capacity(self.keys.len());
        for (inner, _) in &self.keys {
            arrays.push(column(inner, rows, &self.shared).await?);
        }
        let fields = arrays.iter().map(|a| SortField::new(a.data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(from_arrow)?;
        let keys = converter.convert_columns(&arrays).map_err(from_arrow)?;
        let nulls: Vec<_> = arrays.iter().filter_map(|a| a.logical_nulls()).collect();
        let mut found: HashMap<Box<[u8]>, Vec<u32>> = HashMap::new();
        for row in 0..rows.num_rows() {
            if nulls.iter().any(|n| n.is_null(row)) {
                continue;
            }
            let at = u32::try_from(row).unwrap_or(u32::MAX);
            let key = keys.row(row);
            match found.get_mut(key.data()) {
                Some(rows) => rows.push(at),
                None => {
                    found.insert(key.data().into(), vec![at]);
                }
            }
        }
        Ok(Index { converter, rows: found })
    }

    /// The kept rows that equal the outer row.
    async fn give(&self, kept: &Kept, out: &mut Yielder) -> Result<(), PgError> {
        let (Some(index), [rows]) = (&kept.index, &kept.batches[..]) else {
            for batch in &kept.batches {
                out.send(batch.clone()).await;
            }
            return Ok(());
        };
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let none: Vec<Datum> = vec![];
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.keys.len());
        for (_, outer) in &self.keys {
            let value = self.shared.eval_async(|cx| outer.row(&none, cx)).await?;
            if value.is_null() {
                return Ok(());
            }
            arrays.push(values::repeat(&value, outer.ty, 1)?);
        }
        let key = index.converter.convert_columns(&arrays).map_err(from_arrow)?;
        if let Some(found) = index.rows.get(key.row(0).data()) {
            let found = UInt32Array::from(found.clone());
            out.send(take_record_batch(rows, &found).map_err(from_arrow)?).await;
        }
        Ok(())
    }
}
