//! Grouping and aggregates by hashing.
//!
//! Each row's group is found by the bytes of its key, once per grouping set; then every aggregate
//! takes the whole batch with the groups of its rows. Counting, and sums, minima and maxima of
//! integers, run over Arrow's arrays; all other aggregates are the types crate's states, one for
//! each group. Rows of groups for which there is no memory are put aside on disk.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, Int64Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use futures::future::BoxFuture;
use meridian_types::registry::{AggregateKernel, AggregateState};
use meridian_types::{CallInfo, Datum, EvalContext, PgError, PgType, Result, oid};

use super::aside::{Aside, Budget};
use super::basic::{batch_of, column, selected};
use super::hashing::ENTRY_BYTES;
use super::hypothetical::Place;
use super::{BATCH_ROWS, Batches, Operator, Yielder, generate, input};
use crate::expr::Eval;
use crate::keys::Keyer;
use crate::shared::{Shared, fingerprint};
use crate::values::{self, heap_bytes};

/// What a call does with its arguments.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    /// `count(*)`
    CountAll,
    /// `count(x)`
    Count,
    /// `sum(int2)`, `sum(int4)`, which give int8
    Sum,
    /// `min` or `max` of integers
    Extreme(bool),
    /// A hypothetical row's place.
    Place(Place),
    /// By the types crate's state.
    State,
}

/// An aggregate call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    form: Form,
    kernel: Option<AggregateKernel>,
    args: Vec<Eval>,
    types: Vec<PgType>,
    ret: PgType,
    distinct: bool,
    order: Vec<(Eval, bool, bool)>,
    /// WITHIN GROUP: the ordered values are arguments too.
    within: bool,
    filter: Option<Eval>,
    /// Its state holds what it was given.
    holds: bool,
}

/// Aggregates whose states grow with their rows.
const GROWING: [&str; 10] = [
    "array_agg",
    "string_agg",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "range_agg",
    "percentile_cont",
    "percentile_disc",
    "mode",
];

impl Call {
    pub(crate) fn new(
        name: &str,
        kernel: Result<AggregateKernel>,
        args: Vec<Eval>,
        types: Vec<PgType>,
        ret: PgType,
    ) -> Result<Call> {
        let arg = args.first().map(|a| a.ty.oid);
        let integer = matches!(arg, Some(oid::INT2 | oid::INT4 | oid::INT8));
        let form = match (name, args.len()) {
            ("count", 0) => Form::CountAll,
            ("count", 1) => Form::Count,
            ("sum", 1) if matches!(arg, Some(oid::INT2 | oid::INT4)) => Form::Sum,
            ("min", 1) if integer => Form::Extreme(false),
            ("max", 1) if integer => Form::Extreme(true),
            _ => Place::named(name).map_or(Form::State, Form::Place),
        };
        let kernel = match form {
            Form::State => Some(kernel?),
            _ => kernel.ok(),
        };
        let (distinct, order, filter) = (false, vec![], None);
        let holds = GROWING.contains(&name);
        Ok(Call { form, kernel, args, types, ret, distinct, order, within: false, filter, holds })
    }

    pub(crate) fn with(
        mut self,
        distinct: bool,
        order: Vec<(Eval, bool, bool)>,
        within: bool,
        filter: Option<Eval>,
    ) -> Call {
        (self.distinct, self.order, self.within, self.filter) = (distinct, order, within, filter);
        self
    }

    /// Whether a group's memory grows with its rows.
    fn grows(&self) -> bool {
        self.holds || self.distinct || !self.order.is_empty()
    }

    fn info<'a>(&'a self, ctx: &'a EvalContext) -> CallInfo<'a> {
        CallInfo { ctx, args: &self.types, ret: self.ret }
    }
}

/// Rows gathered for DISTINCT or ORDER BY: sort values, then arguments.
type Gathered = Vec<(Vec<Datum>, Vec<Datum>)>;

/// The state of one call over all groups.
enum Accumulator {
    Counts(Vec<i64>),
    Integers(Vec<Option<i64>>),
    States(Vec<Box<dyn AggregateState>>),
    Gathering { rows: Vec<Gathered>, seen: HashSet<(usize, Vec<u8>)> },
}

impl Accumulator {
    fn new(call: &Call) -> Accumulator {
        if call.distinct || !call.order.is_empty() {
            return Accumulator::Gathering { rows: vec![], seen: HashSet::new() };
        }
        match call.form {
            Form::CountAll | Form::Count => Accumulator::Counts(vec![]),
            Form::Sum | Form::Extreme(_) => Accumulator::Integers(vec![]),
            Form::State | Form::Place(_) => Accumulator::States(vec![]),
        }
    }

    fn resize(&mut self, groups: usize, call: &Call, ctx: &EvalContext) {
        match self {
            Accumulator::Counts(v) => v.resize(groups, 0),
            Accumulator::Integers(v) => v.resize(groups, None),
            Accumulator::Gathering { rows, .. } => rows.resize_with(groups, Vec::new),
            Accumulator::States(v) => {
                if let Some(kernel) = call.kernel {
                    v.resize_with(groups, || kernel(&call.info(ctx)));
                }
            }
        }
    }
}

/// GROUP BY with aggregates.
#[derive(Clone, Debug)]
pub(crate) struct AggregateOp {
    pub(crate) keys: Vec<(usize, PgType)>,
    pub(crate) sets: Vec<Vec<usize>>,
    pub(crate) calls: Arc<Vec<Call>>,
    pub(crate) grouping: bool,
    pub(crate) schema: SchemaRef,
    pub(crate) shared: Arc<Shared>,
}

/// The groups of one grouping set.
struct Groups {
    keyer: Keyer,
    set: Vec<usize>,
    index: HashMap<Box<[u8]>, usize>,
    /// The first row's values of the grouping columns; NULL for those not in the set.
    values: Vec<Vec<Datum>>,
    accumulators: Vec<Accumulator>,
    /// Rows whose groups had no room.
    aside: Option<Aside>,
}

/// The group of a row that was put aside.
const LATER: usize = usize::MAX;

impl Groups {
    fn new(op: &AggregateOp, set: &[usize], ctx: &EvalContext) -> Result<Groups> {
        let columns: Vec<(usize, PgType)> = set.iter().map(|i| op.keys[*i]).collect();
        let mut groups = Groups {
            keyer: Keyer::new(&columns)?,
            set: set.to_vec(),
            index: HashMap::new(),
            values: vec![],
            accumulators: op.calls.iter().map(Accumulator::new).collect(),
            aside: None,
        };
        if set.is_empty() {
            // The group of all rows is there even when there are none.
            groups.index.insert(Box::default(), 0);
            groups.values.push(vec![Datum::Null; op.keys.len()]);
            groups.resize(op, ctx);
        }
        Ok(groups)
    }

    fn resize(&mut self, op: &AggregateOp, ctx: &EvalContext) {
        for (accumulator, call) in self.accumulators.iter_mut().zip(op.calls.iter()) {
            accumulator.resize(self.values.len(), call, ctx);
        }
    }

    /// The group of every row, [`LATER`] for those that were put aside.
    fn assign(
        &mut self,
        op: &AggregateOp,
        batch: &RecordBatch,
        run: &Run,
        budget: &mut Budget,
    ) -> Result<Vec<usize>> {
        if self.set.is_empty() {
            return Ok(vec![0; batch.num_rows()]);
        }
        let keys = self.keyer.keys(batch)?;
        let mut out = Vec::with_capacity(batch.num_rows());
        let mut later = vec![];
        for row in 0..batch.num_rows() {
            let key = keys.get(row);
            if let Some(group) = self.index.get(key) {
                out.push(*group);
                continue;
            }
            let bytes = key.len() + ENTRY_BYTES + (op.keys.len() + 4 * op.calls.len()) * 24;
            let full = self.aside.is_some() || budget.size() > run.groups_bytes;
            if full || !budget.take(bytes) {
                if self.aside.is_none() {
                    self.aside = Some(Aside::new(&run.task, batch.schema(), run.level)?);
                }
                later.push(u32::try_from(row).unwrap_or(u32::MAX));
                out.push(LATER);
                continue;
            }
            let group = self.values.len();
            self.index.insert(key.into(), group);
            let mut values = vec![Datum::Null; op.keys.len()];
            for i in &self.set {
                let (at, ty) = op.keys[*i];
                values[*i] = values::datum_at(batch.column(at), row, ty);
            }
            self.values.push(values);
            out.push(group);
        }
        if let Some(aside) = &mut self.aside {
            aside.put(batch, &keys, &later)?;
        }
        Ok(out)
    }
}

/// One pass over an input: the operator's own, or rows that were put aside.
struct Run {
    sets: Vec<Vec<usize>>,
    level: u32,
    /// What the table of groups may take, so that states which grow find room.
    groups_bytes: usize,
    task: Arc<TaskContext>,
}

/// The arguments of a call for one batch.
struct Arguments {
    args: Vec<ArrayRef>,
    order: Vec<ArrayRef>,
    /// Rows that pass FILTER.
    keep: Option<arrow::array::BooleanArray>,
}

impl Operator for AggregateOp {
    fn name(&self) -> &'static str {
        "Aggregate"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let rows = input(&children[0], task.clone())?;
        let op = self.clone();
        let budget = Budget::new("Aggregate", &task);
        Ok(generate(|mut out| async move {
            let groups_bytes = match op.calls.iter().any(Call::grows) {
                true => op.shared.frame()?.ctx.memory_bytes() / 4,
                false => usize::MAX,
            };
            let run = Run { sets: op.sets.clone(), level: 0, groups_bytes, task };
            op.run(rows, run, budget, &mut out).await
        }))
    }
}

fn update(
    accumulator: &mut Accumulator,
    call: &Call,
    groups: &[usize],
    arguments: &Arguments,
    ctx: &EvalContext,
) -> Result<usize> {
    let kept = |row: usize| {
        groups[row] != LATER
            && arguments.keep.as_ref().is_none_or(|k| k.is_valid(row) && k.value(row))
    };
    match accumulator {
        Accumulator::Counts(counts) => {
            let nulls = arguments.args.first().and_then(|a| a.logical_nulls());
            for (row, group) in groups.iter().enumerate() {
                if kept(row) && nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
                    counts[*group] += 1;
                }
            }
            Ok(0)
        }
        Accumulator::Integers(integers) => {
            let value = values::integer_reader(&arguments.args[0]);
            for (row, group) in groups.iter().enumerate() {
                let Some(value) = kept(row).then(|| value(row)).flatten() else { continue };
                let slot = &mut integers[*group];
                *slot = Some(match (call.form, *slot) {
                    (_, None) => value,
                    (Form::Extreme(true), Some(old)) => old.max(value),
                    (Form::Extreme(false), Some(old)) => old.min(value),
                    (_, Some(old)) => old.checked_add(value).ok_or_else(|| {
                        PgError::new(
                            meridian_types::SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                            "bigint out of range",
                        )
                    })?,
                });
            }
            Ok(0)
        }
        Accumulator::States(states) => {
            let info = call.info(ctx);
            let mut args = vec![Datum::Null; arguments.args.len()];
            let mut bytes = 0;
            for (row, group) in groups.iter().enumerate() {
                if kept(row) {
                    read_row(&arguments.args, &call.args, row, &mut args);
                    let state = &mut states[*group];
                    let before = state.size();
                    state.update(&info, &args)?;
                    bytes += state.size().saturating_sub(before);
                    bytes += if call.holds { args.iter().map(heap_bytes).sum() } else { 0 };
                }
            }
            Ok(bytes)
        }
        Accumulator::Gathering { rows, seen } => {
            let at = groups.iter().enumerate().filter(|(row, _)| kept(*row));
            gather(rows, seen, call, at, arguments)
        }
    }
}

/// Notes the rows of a call with DISTINCT or ORDER BY; bytes taken.
fn gather<'a>(
    rows: &mut [Gathered],
    seen: &mut HashSet<(usize, Vec<u8>)>,
    call: &Call,
    at: impl Iterator<Item = (usize, &'a usize)>,
    arguments: &Arguments,
) -> Result<usize> {
    let mut bytes = 0;
    let order: Vec<Eval> = call.order.iter().map(|o| o.0.clone()).collect();
    for (row, group) in at {
        let mut args = vec![Datum::Null; arguments.args.len()];
        read_row(&arguments.args, &call.args, row, &mut args);
        if call.distinct && !seen.insert((*group, distinct_key(&args, call)?)) {
            continue;
        }
        let mut sort = vec![Datum::Null; order.len()];
        read_row(&arguments.order, &order, row, &mut sort);
        bytes += (args.len() + sort.len()) * 40 + ENTRY_BYTES;
        bytes += args.iter().chain(&sort).map(heap_bytes).sum::<usize>();
        rows[*group].push((sort, args));
    }
    Ok(bytes)
}

fn read_row(arrays: &[ArrayRef], evals: &[Eval], row: usize, out: &mut [Datum]) {
    for ((value, array), eval) in out.iter_mut().zip(arrays).zip(evals) {
        *value = values::datum_at(array, row, eval.ty);
    }
}

fn distinct_key(args: &[Datum], call: &Call) -> Result<Vec<u8>> {
    if call.args.iter().all(|a| values::is_native(a.ty)) {
        return Ok(fingerprint(args));
    }
    let mut out = vec![];
    for (value, eval) in args.iter().zip(&call.args) {
        out.push(u8::from(value.is_null()));
        if !value.is_null() {
            values::sort_key(value, eval.ty, &mut out)?;
        }
    }
    Ok(out)
}

/// Sorts by these keys' directions; the values are in the same order.
fn sort_rows(rows: &mut Gathered, keys: &[(PgType, bool, bool)], by_args: bool) {
    rows.sort_by(|a, b| {
        let (a, b) = if by_args { (&a.1, &b.1) } else { (&a.0, &b.0) };
        for ((x, y), (ty, desc, nulls_first)) in a.iter().zip(b).zip(keys) {
            let order = super::window::ordering(x, y, *ty, *desc, *nulls_first);
            if order.is_ne() {
                return order;
            }
        }
        std::cmp::Ordering::Equal
    });
}

impl AggregateOp {
    fn run<'a>(
        &'a self,
        mut rows: Batches,
        run: Run,
        mut budget: Budget,
        out: &'a mut Yielder,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let frame = self.shared.frame()?;
            let ctx = &frame.ctx.eval;
            let mut tables = vec![];
            for set in &run.sets {
                tables.push(Groups::new(self, set, ctx)?);
            }
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let mut arguments = vec![];
                for call in self.calls.iter() {
                    arguments.push(self.arguments(call, &batch).await?);
                }
                for groups in &mut tables {
                    let at = groups.assign(self, &batch, &run, &mut budget)?;
                    groups.resize(self, ctx);
                    let accumulators = groups.accumulators.iter_mut();
                    for ((accumulator, call), arguments) in
                        accumulators.zip(self.calls.iter()).zip(&arguments)
                    {
                        budget.need(update(accumulator, call, &at, arguments, ctx)?)?;
                    }
                }
            }
            let mut later = vec![];
            for mut groups in tables {
                for batch in self.finish(&mut groups, ctx)? {
                    out.send(batch).await;
                }
                let parts = groups.aside.map(Aside::finish).transpose()?;
                later.extend(parts.into_iter().flatten().map(|part| (part, groups.set.clone())));
            }
            budget.free();
            for (part, set) in later {
                let (level, task) = (run.level + 1, run.task.clone());
                let budget = Budget::new("Aggregate", &task);
                let run = Run { sets: vec![set], level, groups_bytes: run.groups_bytes, task };
                self.run(part, run, budget, out).await?;
            }
            Ok(())
        })
    }

    async fn arguments(&self, call: &Call, batch: &RecordBatch) -> Result<Arguments> {
        let keep = match &call.filter {
            Some(filter) => Some(selected(filter, batch, &self.shared).await?),
            None => None,
        };
        let (mut args, mut order) = (vec![], vec![]);
        for arg in &call.args {
            args.push(column(arg, batch, &self.shared).await?);
        }
        for (key, _, _) in &call.order {
            order.push(column(key, batch, &self.shared).await?);
        }
        Ok(Arguments { args, order, keep })
    }

    fn finish(&self, groups: &mut Groups, ctx: &EvalContext) -> Result<Vec<RecordBatch>> {
        let total = groups.values.len();
        let mut results = vec![];
        for (accumulator, call) in groups.accumulators.iter_mut().zip(self.calls.iter()) {
            results.push(finish_call(accumulator, call, total, ctx)?);
        }
        let mask = (0..self.keys.len())
            .filter(|i| !groups.set.contains(i))
            .fold(0_i32, |mask, i| mask | 1 << (self.keys.len() - 1 - i).min(30));
        let mut out = vec![];
        for first in (0..total).step_by(BATCH_ROWS) {
            let range = first..total.min(first + BATCH_ROWS);
            let mut columns = vec![];
            for (i, (_, ty)) in self.keys.iter().enumerate() {
                let mut builder = values::Builder::new(*ty, range.len());
                for values in &groups.values[range.clone()] {
                    builder.push(&values[i])?;
                }
                columns.push(builder.finish());
            }
            columns.extend(results.iter().map(|r| r.slice(first, range.len())));
            if self.grouping {
                columns.push(Arc::new(Int32Array::from(vec![mask; range.len()])));
            }
            out.push(batch_of(&self.schema, columns, range.len())?);
        }
        Ok(out)
    }
}

fn finish_call(
    accumulator: &mut Accumulator,
    call: &Call,
    total: usize,
    ctx: &EvalContext,
) -> Result<ArrayRef> {
    let mut builder = values::Builder::new(call.ret, total);
    let info = call.info(ctx);
    match accumulator {
        Accumulator::Counts(counts) => {
            return Ok(Arc::new(Int64Array::from(std::mem::take(counts))));
        }
        Accumulator::Integers(integers) => {
            for value in integers {
                let value = match (*value, call.ret.oid) {
                    (None, _) => Datum::Null,
                    (Some(v), oid::INT2) => Datum::Int2(i16::try_from(v).unwrap_or_default()),
                    (Some(v), oid::INT4) => Datum::Int4(i32::try_from(v).unwrap_or_default()),
                    (Some(v), _) => Datum::Int8(v),
                };
                builder.push(&value)?;
            }
        }
        Accumulator::States(states) => {
            for state in states {
                builder.push(&state.finish(&info)?)?;
            }
        }
        Accumulator::Gathering { rows, .. } => {
            for group in rows {
                builder.push(&finish_gathered(group, call, &info)?)?;
            }
        }
    }
    Ok(builder.finish())
}

fn finish_gathered(rows: &mut Gathered, call: &Call, info: &CallInfo<'_>) -> Result<Datum> {
    if call.order.is_empty() {
        let keys: Vec<_> = call.args.iter().map(|a| (a.ty, false, false)).collect();
        sort_rows(rows, &keys, true);
    } else {
        let keys: Vec<_> =
            call.order.iter().map(|(e, desc, nulls)| (e.ty, *desc, *nulls)).collect();
        sort_rows(rows, &keys, false);
    }
    if matches!(call.form, Form::CountAll | Form::Count) {
        let counted = rows.iter().filter(|(_, args)| !args.iter().any(Datum::is_null)).count();
        return Ok(Datum::Int8(i64::try_from(counted).unwrap_or(i64::MAX)));
    }
    if let Form::Place(place) = call.form {
        let keys: Vec<_> = call.order.iter().map(|(e, d, n)| (e.ty, *d, *n)).collect();
        let row = rows.first().map(|(_, args)| args.clone()).unwrap_or_default();
        return Ok(place.of(&row, rows.iter().map(|(sort, _)| &sort[..]), &keys));
    }
    let Some(kernel) = call.kernel else {
        return Err(PgError::unsupported("this aggregate with DISTINCT is not supported yet"));
    };
    let mut state = kernel(info);
    for (sort, args) in rows {
        let mut args = args.clone();
        if call.within {
            args.extend(sort.iter().cloned());
        }
        state.update(info, &args)?;
    }
    state.finish(info)
}
