//! Projection, filter, VALUES, LIMIT, UNION ALL: operators that hold nothing between batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use meridian_sql::expr::{Expr, ExprKind};
use meridian_sql::walk;
use meridian_types::{Datum, PgError, PgType, SqlState};

use super::{BATCH_ROWS, Batches, Operator, generate, input};
use crate::error::{from_arrow, from_datafusion};
use crate::expr::{BatchRow, Eval};
use crate::keys::Keyer;
use crate::shared::Shared;
use crate::values;

/// A batch, also one without columns.
pub(crate) fn batch_of(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, PgError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(from_arrow)
}

/// These rows of a batch, also of one without columns.
pub(crate) fn take_rows(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch, PgError> {
    let count = rows.len();
    if batch.num_columns() == 0 {
        return batch_of(&batch.schema(), vec![], count);
    }
    take_record_batch(batch, &UInt32Array::from(rows)).map_err(from_arrow)
}

/// A column of an expression's values, sub-queries run as needed.
pub(crate) async fn column(
    eval: &Eval,
    batch: &RecordBatch,
    shared: &Shared,
) -> Result<ArrayRef, PgError> {
    if !eval.correlated {
        return shared.eval_async(|cx| eval.array(batch, cx)).await;
    }
    let mut builder = values::Builder::new(eval.ty, batch.num_rows());
    for row in 0..batch.num_rows() {
        let value = shared.eval_async(|cx| eval.row(&BatchRow { batch, row }, cx)).await?;
        builder.push(&value)?;
    }
    Ok(builder.finish())
}

/// Rows for which the condition is true.
pub(crate) async fn selected(
    predicate: &Eval,
    batch: &RecordBatch,
    shared: &Shared,
) -> Result<BooleanArray, PgError> {
    if !predicate.correlated {
        return shared.eval_async(|cx| predicate.selection(batch, cx)).await;
    }
    let mut keep = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let value = shared.eval_async(|cx| predicate.row(&BatchRow { batch, row }, cx)).await?;
        keep.push(value == Datum::Bool(true));
    }
    Ok(BooleanArray::from(keep))
}

/// The rows that satisfy all predicates, applied in order.
pub(crate) async fn filter(
    predicates: &[Eval],
    mut batch: RecordBatch,
    shared: &Shared,
) -> Result<RecordBatch, PgError> {
    for predicate in predicates {
        if batch.num_rows() == 0 {
            break;
        }
        let keep = selected(predicate, &batch, shared).await?;
        batch = filter_record_batch(&batch, &keep).map_err(from_arrow)?;
    }
    Ok(batch)
}

/// In which steps a projection is worked out, where that could be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A column of a batch after the other.
    Batch,
    /// Row after row: its volatile calls may depend on each other, as in `nextval('s'), currval('s')`.
    Row,
    /// Row after row, and none before it is asked for: what a LIMIT cuts off is not called.
    Lazy,
}

impl Pace {
    /// The pace that these expressions ask for, below a LIMIT or not.
    pub(crate) fn of<'a>(exprs: impl IntoIterator<Item = &'a Expr>, limited: bool) -> Pace {
        let mut calls = 0;
        for e in exprs {
            walk::visit(e, &mut |e| {
                let volatile =
                    matches!(&e.kind, ExprKind::Call { func, .. } if func.volatility == b'v');
                calls += usize::from(volatile);
            });
        }
        match calls {
            0 => Pace::Batch,
            _ if limited => Pace::Lazy,
            1 => Pace::Batch,
            _ => Pace::Row,
        }
    }
}

#[derive(Debug)]
pub(crate) struct ProjectOp {
    pub(crate) exprs: Vec<Eval>,
    pub(crate) pace: Pace,
    pub(crate) schema: SchemaRef,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for ProjectOp {
    fn name(&self) -> &'static str {
        "Projection"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let mut rows = input(&children[0], task)?;
        let (exprs, pace) = (self.exprs.clone(), self.pace);
        let (schema, shared) = (self.schema.clone(), self.shared.clone());
        Ok(generate(|mut out| async move {
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                if pace == Pace::Row {
                    let columns = rows_of(&exprs, &batch, &shared).await?;
                    out.send(batch_of(&schema, columns, batch.num_rows())?).await;
                    continue;
                }
                let step = if pace == Pace::Lazy { 1 } else { batch.num_rows().max(1) };
                for from in (0..batch.num_rows().max(1)).step_by(step) {
                    let part = batch.slice(from, step.min(batch.num_rows() - from));
                    let mut columns = Vec::with_capacity(exprs.len());
                    for expr in &exprs {
                        columns.push(column(expr, &part, &shared).await?);
                    }
                    out.send(batch_of(&schema, columns, part.num_rows())?).await;
                }
            }
            Ok(())
        }))
    }
}

/// Columns of the expressions' values, worked out a row at a time.
async fn rows_of(
    exprs: &[Eval],
    batch: &RecordBatch,
    shared: &Shared,
) -> Result<Vec<ArrayRef>, PgError> {
    let mut builders: Vec<_> =
        exprs.iter().map(|e| values::Builder::new(e.ty, batch.num_rows())).collect();
    for row in 0..batch.num_rows() {
        for (builder, expr) in builders.iter_mut().zip(exprs) {
            let value = shared.eval_async(|cx| expr.row(&BatchRow { batch, row }, cx)).await?;
            builder.push(&value)?;
        }
    }
    Ok(builders.into_iter().map(values::Builder::finish).collect())
}

#[derive(Debug)]
pub(crate) struct FilterOp {
    pub(crate) predicates: Vec<Eval>,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for FilterOp {
    fn name(&self) -> &'static str {
        "Filter"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let mut rows = input(&children[0], task)?;
        let (predicates, shared) = (self.predicates.clone(), self.shared.clone());
        Ok(generate(|mut out| async move {
            while let Some(batch) = rows.next().await {
                out.send(filter(&predicates, batch?, &shared).await?).await;
            }
            Ok(())
        }))
    }
}

#[derive(Debug)]
pub(crate) struct ValuesOp {
    pub(crate) rows: Arc<Vec<Vec<Eval>>>,
    pub(crate) types: Vec<PgType>,
    pub(crate) schema: SchemaRef,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for ValuesOp {
    fn name(&self) -> &'static str {
        "Values"
    }

    fn execute(&self, _: &[Arc<dyn ExecutionPlan>], _: Arc<TaskContext>) -> DfResult<Batches> {
        let (rows, types, schema, shared) =
            (self.rows.clone(), self.types.clone(), self.schema.clone(), self.shared.clone());
        Ok(generate(|mut out| async move {
            let none: Vec<Datum> = vec![];
            for chunk in rows.chunks(BATCH_ROWS) {
                let mut builders: Vec<_> =
                    types.iter().map(|ty| values::Builder::new(*ty, chunk.len())).collect();
                for row in chunk {
                    for (builder, expr) in builders.iter_mut().zip(row) {
                        builder.push(&shared.eval_async(|cx| expr.row(&none, cx)).await?)?;
                    }
                }
                let columns = builders.into_iter().map(values::Builder::finish).collect();
                out.send(batch_of(&schema, columns, chunk.len())?).await;
            }
            Ok(())
        }))
    }
}

#[derive(Debug)]
pub(crate) struct LimitOp {
    pub(crate) limit: Option<Eval>,
    pub(crate) offset: Option<Eval>,
    /// Positions and types of the keys that tie.
    pub(crate) with_ties: Option<Vec<(usize, PgType)>>,
    pub(crate) shared: Arc<Shared>,
}

async fn row_count(
    expr: Option<&Eval>,
    shared: &Shared,
    negative: (SqlState, &str),
) -> Result<Option<usize>, PgError> {
    let Some(expr) = expr else { return Ok(None) };
    let none: Vec<Datum> = vec![];
    match shared.eval_async(|cx| expr.row(&none, cx)).await?.as_i64() {
        None => Ok(None),
        Some(n) => match usize::try_from(n) {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(PgError::new(negative.0, format!("{} must not be negative", negative.1))),
        },
    }
}

impl Operator for LimitOp {
    fn name(&self) -> &'static str {
        "Limit"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let child = children[0].clone();
        let (limit, offset, ties, shared) =
            (self.limit.clone(), self.offset.clone(), self.with_ties.clone(), self.shared.clone());
        Ok(generate(|mut out| async move {
            let state = SqlState::INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE;
            let mut skip =
                row_count(offset.as_ref(), &shared, (state, "OFFSET")).await?.unwrap_or(0);
            let state = SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE;
            let limit = row_count(limit.as_ref(), &shared, (state, "LIMIT")).await?;
            let mut left = limit.unwrap_or(usize::MAX);
            if left == 0 {
                return Ok(());
            }
            let keyer = ties.map(|columns| Keyer::new(&columns)).transpose()?;
            let mut last: Option<Vec<u8>> = None;
            let mut rows = input(&child, task).map_err(|e| from_datafusion(&e))?;
            while let Some(batch) = rows.next().await {
                let mut batch = batch?;
                let skipped = skip.min(batch.num_rows());
                skip -= skipped;
                batch = batch.slice(skipped, batch.num_rows() - skipped);
                let taken = left.min(batch.num_rows());
                left -= taken;
                let mut end = taken;
                if let Some(keyer) = &keyer
                    && batch.num_rows() > 0
                {
                    let keys = keyer.keys(&batch)?;
                    if left == 0 && taken > 0 {
                        last = Some(keys.get(taken - 1).to_vec());
                    }
                    while left == 0
                        && end < batch.num_rows()
                        && last.as_deref() == Some(keys.get(end))
                    {
                        end += 1;
                    }
                }
                let more = left > 0 || (keyer.is_some() && end == batch.num_rows());
                out.send(batch.slice(0, end)).await;
                if !more {
                    break;
                }
            }
            Ok(())
        }))
    }
}

/// Hands on what its child gives: an operator of DataFusion's under it gives way as ours do.
#[derive(Debug)]
pub(crate) struct PassOp;

impl Operator for PassOp {
    fn name(&self) -> &'static str {
        "Pass"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let rows = children[0].execute(0, task)?;
        Ok(Box::pin(rows.map(|item| item.map_err(|e| from_datafusion(&e)))))
    }
}

/// UNION ALL: the children one after the other, their columns put in order.
#[derive(Debug)]
pub(crate) struct UnionOp {
    /// Positions of the output columns in each child.
    pub(crate) columns: Vec<Vec<usize>>,
    pub(crate) schema: SchemaRef,
}

impl Operator for UnionOp {
    fn name(&self) -> &'static str {
        "Append"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let children = children.to_vec();
        let (columns, schema) = (self.columns.clone(), self.schema.clone());
        Ok(generate(|mut out| async move {
            for (child, columns) in children.iter().zip(&columns) {
                let mut rows = input(child, task.clone()).map_err(|e| from_datafusion(&e))?;
                while let Some(batch) = rows.next().await {
                    let batch = batch?;
                    let arrays = columns.iter().map(|c| batch.column(*c).clone()).collect();
                    out.send(batch_of(&schema, arrays, batch.num_rows())?).await;
                }
            }
            Ok(())
        }))
    }
}
