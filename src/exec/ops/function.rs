//! Functions in FROM and set-returning functions in the select list.

use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use meridian_types::registry::SetKernel;
use meridian_types::{CallInfo, Datum, PgError, PgType};

use super::basic::batch_of;
use super::{BATCH_ROWS, Batches, Operator, generate, input};
use crate::error::from_arrow;
use crate::expr::{BatchRow, Eval, Function, RowInput, eval_args};
use crate::shared::{Cx, Shared};
use crate::values;

/// What kind of function a call runs.
#[derive(Clone, Debug)]
pub(crate) enum CallKind {
    Scalar,
    Set(SetKernel),
    /// A set that only the session's host can give, as an array of its rows.
    Host,
}

/// A call that gives rows.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) function: Function,
    pub(crate) kind: CallKind,
    pub(crate) args: Vec<Eval>,
    pub(crate) columns: usize,
    pub(crate) expand: bool,
}

impl Call {
    /// All rows of one call; each value is one column's or a record's.
    fn rows(&self, row: &dyn RowInput, cx: &Cx<'_>) -> Result<Vec<Datum>, PgError> {
        let args = eval_args(&self.args, row, cx)?;
        let null = self.function.strict && args.iter().any(Datum::is_null);
        match &self.kind {
            CallKind::Scalar => Ok(vec![self.function.call(cx, &args)?]),
            _ if null => Ok(vec![]),
            CallKind::Set(kernel) => {
                let info = &self.function.info;
                kernel(&CallInfo { ctx: cx.eval, args: &info.args, ret: info.ret }, &args)
            }
            CallKind::Host => match self.function.call(cx, &args)? {
                Datum::Array(array) => Ok(array.elements.clone()),
                Datum::Null => Ok(vec![]),
                one => Ok(vec![one]),
            },
        }
    }

    /// Appends one row's columns; `None` pads a call that ran out.
    fn push(&self, value: Option<&Datum>, out: &mut [values::Builder]) -> Result<(), PgError> {
        match value {
            Some(Datum::Record(fields)) if self.expand || self.columns > 1 => {
                for (i, builder) in out.iter_mut().enumerate() {
                    builder.push(fields.get(i).unwrap_or(&Datum::Null))?;
                }
            }
            Some(value) if self.columns == 1 => out[0].push(value)?,
            _ => out.iter_mut().try_for_each(|b| b.push(&Datum::Null))?,
        }
        Ok(())
    }
}

/// Appends row `n` of all calls, in lockstep.
fn push_row(
    calls: &[Call],
    sets: &[Vec<Datum>],
    n: usize,
    builders: &mut [values::Builder],
) -> Result<(), PgError> {
    let mut rest = builders;
    for (call, set) in calls.iter().zip(sets) {
        let (mine, others) = rest.split_at_mut(call.columns);
        call.push(set.get(n), mine)?;
        rest = others;
    }
    Ok(())
}

fn builders(types: &[PgType]) -> Vec<values::Builder> {
    types.iter().map(|ty| values::Builder::new(*ty, 64)).collect()
}

/// ROWS FROM (…), perhaps WITH ORDINALITY.
#[derive(Clone, Debug)]
pub(crate) struct FunctionOp {
    pub(crate) calls: Arc<Vec<Call>>,
    pub(crate) types: Vec<PgType>,
    pub(crate) ordinality: bool,
    pub(crate) schema: SchemaRef,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for FunctionOp {
    fn name(&self) -> &'static str {
        "Function Scan"
    }

    fn execute(&self, _: &[Arc<dyn ExecutionPlan>], _: Arc<TaskContext>) -> DfResult<Batches> {
        let op = self.clone();
        Ok(generate(|mut out| async move {
            let none: Vec<Datum> = vec![];
            let mut sets = vec![];
            for call in op.calls.iter() {
                sets.push(op.shared.eval_async(|cx| call.rows(&none, cx)).await?);
            }
            let total = sets.iter().map(Vec::len).max().unwrap_or(0);
            for first in (0..total).step_by(BATCH_ROWS) {
                let end = total.min(first + BATCH_ROWS);
                let mut columns = builders(&op.types);
                for n in first..end {
                    push_row(&op.calls, &sets, n, &mut columns)?;
                    if op.ordinality
                        && let Some(last) = columns.last_mut()
                    {
                        last.push(&Datum::Int8(i64::try_from(n + 1).unwrap_or(i64::MAX)))?;
                    }
                }
                let arrays = columns.into_iter().map(values::Builder::finish).collect();
                out.send(batch_of(&op.schema, arrays, end - first)?).await;
            }
            Ok(())
        }))
    }
}

/// Set-returning functions of a select list.
#[derive(Clone, Debug)]
pub(crate) struct ProjectSetOp {
    pub(crate) calls: Arc<Vec<Call>>,
    /// Types of the added columns.
    pub(crate) types: Vec<PgType>,
    pub(crate) schema: SchemaRef,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for ProjectSetOp {
    fn name(&self) -> &'static str {
        "ProjectSet"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let mut rows = input(&children[0], task)?;
        let op = self.clone();
        Ok(generate(|mut out| async move {
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let mut at: Vec<u32> = vec![];
                let mut added = builders(&op.types);
                for row in 0..batch.num_rows() {
                    let input = BatchRow { batch: &batch, row };
                    let mut sets = vec![];
                    for call in op.calls.iter() {
                        sets.push(op.shared.eval_async(|cx| call.rows(&input, cx)).await?);
                    }
                    let total = sets.iter().map(Vec::len).max().unwrap_or(0);
                    for n in 0..total {
                        at.push(u32::try_from(row).unwrap_or(u32::MAX));
                        push_row(&op.calls, &sets, n, &mut added)?;
                    }
                }
                let count = at.len();
                let at = UInt32Array::from(at);
                let mut columns = Vec::with_capacity(op.schema.fields().len());
                for column in batch.columns() {
                    columns.push(take(column, &at, None).map_err(from_arrow)?);
                }
                columns.extend(added.into_iter().map(values::Builder::finish));
                out.send(batch_of(&op.schema, columns, count)?).await;
            }
            Ok(())
        }))
    }
}
