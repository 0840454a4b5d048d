//! Functions in FROM and set-returning functions in the select list.

use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
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
    fn rows(&self, row: &dyn RowInput, cx: &Cx<'_>) -> Result<Rows, PgError> {
        let args = eval_args(&self.args, row, cx)?;
        let null = self.function.strict && args.iter().any(Datum::is_null);
        if let (false, Some(series)) = (null, Series::of(&self.function.prosrc, &args)) {
            return Ok(Rows::Series(series));
        }
        self.list(null, &args, cx).map(|rows| Rows::List(rows.into_iter()))
    }

    fn list(&self, null: bool, args: &[Datum], cx: &Cx<'_>) -> Result<Vec<Datum>, PgError> {
        match &self.kind {
            CallKind::Scalar => Ok(vec![self.function.call(cx, args)?]),
            _ if null => Ok(vec![]),
            CallKind::Set(kernel) => {
                let info = &self.function.info;
                kernel(&CallInfo { ctx: cx.eval, args: &info.args, ret: info.ret }, args)
            }
            CallKind::Host => match self.function.call(cx, args)? {
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

/// The rows of one call, as they are asked for.
enum Rows {
    List(std::vec::IntoIter<Datum>),
    Series(Series),
}

impl Iterator for Rows {
    type Item = Datum;

    fn next(&mut self) -> Option<Datum> {
        match self {
            Rows::List(rows) => rows.next(),
            Rows::Series(series) => series.next(),
        }
    }
}

/// `generate_series` of integers, which may be longer than memory.
struct Series {
    at: Option<i64>,
    stop: i64,
    step: i64,
    short: bool,
}

impl Series {
    /// A step of zero is left to the kernel, which refuses it.
    fn of(prosrc: &str, args: &[Datum]) -> Option<Series> {
        let short = match prosrc {
            "generate_series_int4" | "generate_series_step_int4" => true,
            "generate_series_int8" | "generate_series_step_int8" => false,
            _ => return None,
        };
        let (at, stop) = (args.first()?.as_i64()?, args.get(1)?.as_i64()?);
        let step = args.get(2).map_or(Some(1), Datum::as_i64).filter(|step| *step != 0)?;
        Some(Series { at: Some(at), stop, step, short })
    }
}

impl Iterator for Series {
    type Item = Datum;

    fn next(&mut self) -> Option<Datum> {
        let up = self.step > 0;
        let at = self.at.filter(|at| if up { *at <= self.stop } else { *at >= self.stop })?;
        self.at = at.checked_add(self.step);
        // Between two int4 bounds every value is one.
        Some(match self.short {
            true => Datum::Int4(i32::try_from(at).unwrap_or_default()),
            false => Datum::Int8(at),
        })
    }
}

/// Appends the next row of all calls, in lockstep; false when all have ended.
fn push_row(
    calls: &[Call],
    sets: &mut [Rows],
    builders: &mut [values::Builder],
) -> Result<bool, PgError> {
    let values: Vec<Option<Datum>> = sets.iter_mut().map(Iterator::next).collect();
    if values.iter().all(Option::is_none) {
        return Ok(false);
    }
    let mut rest = builders;
    for (call, value) in calls.iter().zip(&values) {
        let (mine, others) = rest.split_at_mut(call.columns);
        call.push(value.as_ref(), mine)?;
        rest = others;
    }
    Ok(true)
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
            let mut given = 0;
            loop {
                let first = given;
                let mut columns = builders(&op.types);
                while given - first < BATCH_ROWS && push_row(&op.calls, &mut sets, &mut columns)? {
                    given += 1;
                    if op.ordinality
                        && let Some(last) = columns.last_mut()
                    {
                        last.push(&Datum::Int8(i64::try_from(given).unwrap_or(i64::MAX)))?;
                    }
                }
                let arrays = columns.into_iter().map(values::Builder::finish).collect();
                out.send(batch_of(&op.schema, arrays, given - first)?).await;
                if given - first < BATCH_ROWS {
                    break;
                }
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
                    while push_row(&op.calls, &mut sets, &mut added)? {
                        at.push(u32::try_from(row).unwrap_or(u32::MAX));
                        if at.len() >= BATCH_ROWS {
                            let added = std::mem::replace(&mut added, builders(&op.types));
                            out.send(op.joined(&batch, std::mem::take(&mut at), added)?).await;
                        }
                    }
                }
                out.send(op.joined(&batch, at, added)?).await;
            }
            Ok(())
        }))
    }
}

impl ProjectSetOp {
    /// The input's rows at these places, with the added columns.
    fn joined(
        &self,
        batch: &RecordBatch,
        at: Vec<u32>,
        added: Vec<values::Builder>,
    ) -> Result<RecordBatch, PgError> {
        let rows = at.len();
        let at = UInt32Array::from(at);
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for column in batch.columns() {
            columns.push(take(column, &at, None).map_err(from_arrow)?);
        }
        columns.extend(added.into_iter().map(values::Builder::finish));
        batch_of(&self.schema, columns, rows)
    }
}
