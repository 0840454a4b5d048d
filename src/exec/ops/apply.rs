//! Nested loops that run the right side anew for each left row: LATERAL, lookups, and joins whose
//! condition holds sub-queries.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::SchemaRef;
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_execution::memory_pool::MemoryReservation;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use meridian_sql::rel::JoinKind;
use meridian_types::{PgError, PgType};

use super::basic::{batch_of, selected};
use super::hashing::{grow, reservation};
use super::scan::{Output, ScanSpec};
use super::{BATCH_ROWS, Batches, Operator, Yielder, generate, input};
use crate::error::{from_arrow, from_datafusion};
use crate::expr::Eval;
use crate::shared::Shared;
use crate::values;

/// The right side.
#[derive(Clone, Debug)]
pub(crate) enum Right {
    /// The second child.
    Child,
    /// A scan, run without a stream of its own.
    Scan(Arc<ScanSpec>),
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(crate) struct ApplyOp {
    pub(crate) kind: JoinKind,
    pub(crate) right: Right,
    pub(crate) right_schema: SchemaRef,
    /// (slot, position in the left row, type) of the left columns that the right side reads.
    pub(crate) outer: Vec<(usize, usize, PgType)>,
    /// Over the left columns, then the right ones.
    pub(crate) on: Vec<Eval>,
    /// Left columns, then right ones.
    pub(crate) joined: SchemaRef,
    pub(crate) shared: Arc<Shared>,
}

/// Left rows gathered with their right rows.
#[derive(Default)]
struct Pairs {
    left: Vec<u32>,
    right: Vec<RecordBatch>,
}

impl Operator for ApplyOp {
    fn name(&self) -> &'static str {
        "Apply"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let memory = reservation("Apply", &task);
        let mut left = input(&children[0], task)?;
        let right = children.get(1).cloned();
        let op = self.clone();
        Ok(generate(|mut out| async move {
            let mut kept: Option<Vec<RecordBatch>> = None;
            while let Some(batch) = left.next().await {
                let batch = batch?;
                let mut pairs = Pairs::default();
                let mut first = 0;
                for row in 0..batch.num_rows() {
                    for (slot, at, ty) in &op.outer {
                        let value = values::datum_at(batch.column(*at), row, *ty);
                        op.shared.set_outer(*slot, value);
                    }
                    let found = match &kept {
                        Some(rows) => rows.clone(),
                        None => op.rows(right.as_ref(), &memory).await?,
                    };
                    if op.outer.is_empty() && matches!(op.right, Right::Child) && kept.is_none() {
                        kept = Some(found.clone());
                    }
                    let rows: usize = found.iter().map(RecordBatch::num_rows).sum();
                    let index = u32::try_from(row).unwrap_or(u32::MAX);
                    pairs.left.extend(std::iter::repeat_n(index, rows));
                    pairs.right.extend(found);
                    if pairs.left.len() >= BATCH_ROWS {
                        let done = std::mem::take(&mut pairs);
                        op.flush(&batch, first..row + 1, done, &mut out).await?;
                        first = row + 1;
                        if kept.is_none() {
                            memory.free();
                        }
                    }
                }
                op.flush(&batch, first..batch.num_rows(), pairs, &mut out).await?;
            }
            Ok(())
        }))
    }
}

impl ApplyOp {
    async fn rows(
        &self,
        child: Option<&Arc<dyn ExecutionPlan>>,
        memory: &MemoryReservation,
    ) -> Result<Vec<RecordBatch>, PgError> {
        let mut out = vec![];
        match (&self.right, child) {
            (Right::Scan(spec), _) => spec.read(&self.shared, Output::Keep(&mut out)).await?,
            (Right::Child, Some(child)) => {
                let mut stream = self.shared.start(child)?;
                while let Some(batch) = stream.next().await {
                    let batch = batch.map_err(|e| from_datafusion(&e))?;
                    grow(memory, batch.get_array_memory_size())?;
                    out.push(batch);
                }
            }
            (Right::Child, None) => return Err(PgError::internal("an apply lacks its right side")),
        }
        Ok(out)
    }

    async fn flush(
        &self,
        left: &RecordBatch,
        rows: std::ops::Range<usize>,
        pairs: Pairs,
        out: &mut Yielder,
    ) -> Result<(), PgError> {
        let right = concat_batches(&self.right_schema, &pairs.right).map_err(from_arrow)?;
        let mut matches: Vec<(u32, u32)> = vec![];
        let keep = self.matching(left, &pairs.left, &right).await?;
        for (i, (at, keep)) in pairs.left.iter().zip(keep.iter()).enumerate() {
            if keep == Some(true) {
                matches.push((*at, u32::try_from(i).unwrap_or(u32::MAX)));
            }
        }
        match self.kind {
            JoinKind::Semi | JoinKind::Anti => {
                let mut matched = vec![false; left.num_rows()];
                matches.iter().for_each(|(at, _)| matched[*at as usize] = true);
                let wanted = self.kind == JoinKind::Semi;
                let keep: BooleanArray = (0..left.num_rows())
                    .map(|r| Some(rows.contains(&r) && matched[r] == wanted))
                    .collect();
                out.send(filter_record_batch(left, &keep).map_err(from_arrow)?).await;
            }
            _ => {
                let (mut at_left, mut at_right) = (vec![], vec![]);
                let mut next = 0;
                for row in rows {
                    let row = u32::try_from(row).unwrap_or(u32::MAX);
                    let begin = next;
                    while matches.get(next).is_some_and(|m| m.0 == row) {
                        at_left.push(row);
                        at_right.push(Some(matches[next].1));
                        next += 1;
                    }
                    if next == begin && self.kind == JoinKind::Left {
                        at_left.push(row);
                        at_right.push(None);
                    }
                }
                out.send(self.join(left, at_left, &right, at_right)?).await;
            }
        }
        Ok(())
    }

    fn join(
        &self,
        left: &RecordBatch,
        at_left: Vec<u32>,
        right: &RecordBatch,
        at_right: Vec<Option<u32>>,
    ) -> Result<RecordBatch, PgError> {
        let rows = at_left.len();
        let (at_left, at_right) = (UInt32Array::from(at_left), UInt32Array::from(at_right));
        let mut columns = Vec::with_capacity(self.joined.fields().len());
        for column in left.columns() {
            columns.push(take(column, &at_left, None).map_err(from_arrow)?);
        }
        for column in right.columns() {
            columns.push(take(column, &at_right, None).map_err(from_arrow)?);
        }
        batch_of(&self.joined, columns, rows)
    }

    async fn matching(
        &self,
        left: &RecordBatch,
        at_left: &[u32],
        right: &RecordBatch,
    ) -> Result<BooleanArray, PgError> {
        if self.on.is_empty() || at_left.is_empty() {
            return Ok(BooleanArray::from(vec![true; at_left.len()]));
        }
        let all = (0..u32::try_from(at_left.len()).unwrap_or(u32::MAX)).map(Some).collect();
        let joined = self.join(left, at_left.to_vec(), right, all)?;
        let mut keep: Option<BooleanArray> = None;
        for predicate in &self.on {
            let next = selected(predicate, &joined, &self.shared).await?;
            keep = Some(match keep {
                None => next,
                Some(keep) => arrow::compute::and_kleene(&keep, &next).map_err(from_arrow)?,
            });
        }
        Ok(keep.unwrap_or_else(|| BooleanArray::from(vec![true; at_left.len()])))
    }
}
