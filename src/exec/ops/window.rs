//! Window functions over sorted input.
//!
//! The input comes sorted by partition and order, so one partition at a time is held. Frames are
//! found with two indexes that only move forward; an aggregate over a frame that only grows keeps
//! its state from row to row, any other frame is aggregated anew.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use meridian_sql::rel::{FrameExclude, FrameUnit};
use meridian_types::registry::AggregateKernel;
use meridian_types::{CallInfo, Datum, PgError, PgType, Result, SqlState};

use super::basic::{batch_of, column, selected};
use super::hashing::{grow, reservation};
use super::{Batches, Operator, generate, input};
use crate::error::from_arrow;
use crate::expr::{Eval, Function};
use crate::keys::Keyer;
use crate::shared::{Cx, Shared};
use crate::values;

/// A frame bound.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    UnboundedPreceding,
    Preceding(Eval),
    CurrentRow,
    Following(Eval),
    UnboundedFollowing,
}

/// What a window call computes.
#[derive(Clone, Debug)]
pub(crate) enum WindowFn {
    RowNumber,
    Rank,
    DenseRank,
    PercentRank,
    CumeDist,
    Ntile,
    Lag,
    Lead,
    FirstValue,
    LastValue,
    NthValue,
    Aggregate(AggregateKernel),
}

impl WindowFn {
    pub(crate) fn named(prosrc: &str) -> Option<WindowFn> {
        Some(match prosrc {
            "window_row_number" => WindowFn::RowNumber,
            "window_rank" => WindowFn::Rank,
            "window_dense_rank" => WindowFn::DenseRank,
            "window_percent_rank" => WindowFn::PercentRank,
            "window_cume_dist" => WindowFn::CumeDist,
            "window_ntile" => WindowFn::Ntile,
            "window_first_value" => WindowFn::FirstValue,
            "window_last_value" => WindowFn::LastValue,
            "window_nth_value" => WindowFn::NthValue,
            other if other.starts_with("window_lag") => WindowFn::Lag,
            other if other.starts_with("window_lead") => WindowFn::Lead,
            _ => return None,
        })
    }
}

/// One call over the window.
#[derive(Clone, Debug)]
pub(crate) struct WindowFunction {
    pub(crate) kind: WindowFn,
    pub(crate) args: Vec<Eval>,
    pub(crate) filter: Option<Eval>,
    pub(crate) ty: PgType,
}

/// ((position, type), desc, nulls first)
pub(crate) type OrderKey = ((usize, PgType), bool, bool);

/// See the module's text.
#[derive(Clone, Debug)]
pub(crate) struct WindowOp {
    pub(crate) partition: Vec<(usize, PgType)>,
    pub(crate) order: Vec<OrderKey>,
    pub(crate) unit: FrameUnit,
    pub(crate) start: Bound,
    pub(crate) end: Bound,
    pub(crate) exclude: FrameExclude,
    pub(crate) in_range: Option<Function>,
    pub(crate) functions: Arc<Vec<WindowFunction>>,
    pub(crate) schema: SchemaRef,
    pub(crate) shared: Arc<Shared>,
}

/// The order of two values by one sort key.
pub(crate) fn ordering(
    a: &Datum,
    b: &Datum,
    ty: PgType,
    desc: bool,
    nulls_first: bool,
) -> Ordering {
    match (a.is_null(), b.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) if nulls_first => Ordering::Less,
        (true, false) => Ordering::Greater,
        (false, true) if nulls_first => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if desc => values::compare(b, a, ty),
        (false, false) => values::compare(a, b, ty),
    }
}

impl Operator for WindowOp {
    fn name(&self) -> &'static str {
        "WindowAgg"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let mut rows = input(&children[0], task.clone())?;
        let op = self.clone();
        Ok(generate(|mut out| async move {
            let memory = reservation("WindowAgg", &task);
            let keyer = Keyer::new(&op.partition)?;
            let mut held: Vec<RecordBatch> = vec![];
            let mut current: Option<Vec<u8>> = None;
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let keys = keyer.keys(&batch)?;
                let mut first = 0;
                for row in 0..batch.num_rows() {
                    if current.as_deref() == Some(keys.get(row)) {
                        continue;
                    }
                    if row > first {
                        held.push(batch.slice(first, row - first));
                    }
                    first = row;
                    if !held.is_empty() {
                        let done = op.partition(&std::mem::take(&mut held)).await?;
                        memory.free();
                        out.send(done).await;
                    }
                    current = Some(keys.get(row).to_vec());
                }
                grow(&memory, batch.get_array_memory_size())?;
                held.push(batch.slice(first, batch.num_rows() - first));
            }
            if !held.is_empty() {
                out.send(op.partition(&held).await?).await;
            }
            Ok(())
        }))
    }
}

/// A partition: its rows, their peers, and the frame's constant offsets.
struct Partition {
    rows: usize,
    /// Peer group of each row, and the rows of each group.
    group: Vec<usize>,
    groups: Vec<Range<usize>>,
    /// Values of the first order key, for RANGE with offsets.
    keys: Vec<Datum>,
    start: Datum,
    end: Datum,
}

impl WindowOp {
    async fn partition(&self, batches: &[RecordBatch]) -> Result<RecordBatch> {
        let all = concat_batches(&batches[0].schema(), batches).map_err(from_arrow)?;
        let part = self.prepare(&all).await?;
        let frames = self.shared.eval(|cx| self.frames(&part, cx))?;
        let mut columns = all.columns().to_vec();
        for function in self.functions.iter() {
            let mut args = vec![];
            for arg in &function.args {
                args.push(column(arg, &all, &self.shared).await?);
            }
            let keep: Option<Vec<bool>> = match &function.filter {
                Some(filter) => {
                    let keep = selected(filter, &all, &self.shared).await?;
                    Some(keep.iter().map(|k| k == Some(true)).collect())
                }
                None => None,
            };
            let run = Run { op: self, function, part: &part, frames: &frames, args, keep };
            let values = self.shared.eval(|cx| run.all(cx))?;
            columns.push(values);
        }
        batch_of(&self.schema, columns, all.num_rows())
    }

    async fn prepare(&self, all: &RecordBatch) -> Result<Partition> {
        let order: Vec<(usize, PgType)> = self.order.iter().map(|o| o.0).collect();
        let keys = Keyer::new(&order)?.keys(all)?;
        let (mut group, mut groups): (Vec<usize>, Vec<Range<usize>>) = (vec![], vec![]);
        for row in 0..all.num_rows() {
            if row == 0 || keys.get(row) != keys.get(row - 1) {
                groups.push(row..row);
            }
            if let Some(last) = groups.last_mut() {
                last.end = row + 1;
            }
            group.push(groups.len() - 1);
        }
        let keys = match (&self.in_range, self.order.first()) {
            (Some(_), Some(((at, ty), _, _))) => {
                (0..all.num_rows()).map(|row| values::datum_at(all.column(*at), row, *ty)).collect()
            }
            _ => vec![],
        };
        let start = self.offset(&self.start, "starting").await?;
        let end = self.offset(&self.end, "ending").await?;
        Ok(Partition { rows: all.num_rows(), group, groups, keys, start, end })
    }

    async fn offset(&self, bound: &Bound, which: &str) -> Result<Datum> {
        let (Bound::Preceding(e) | Bound::Following(e)) = bound else { return Ok(Datum::Null) };
        let none: Vec<Datum> = vec![];
        let value = self.shared.eval_async(|cx| e.row(&none, cx)).await?;
        if value.is_null() {
            return Err(PgError::new(
                SqlState::NULL_VALUE_NOT_ALLOWED,
                format!("frame {which} offset must not be null"),
            ));
        }
        if self.unit != FrameUnit::Range && value.as_i64().is_some_and(|v| v < 0) {
            return Err(PgError::new(
                SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE,
                format!("frame {which} offset must not be negative"),
            ));
        }
        Ok(value)
    }

    /// The frame of each row, exclusions aside.
    fn frames(&self, part: &Partition, cx: &Cx<'_>) -> Result<Vec<Range<usize>>> {
        let mut out = Vec::with_capacity(part.rows);
        let (mut head, mut tail) = (0, 0);
        for row in 0..part.rows {
            head = self.edge(part, row, true, head, cx)?;
            tail = self.edge(part, row, false, tail, cx)?;
            out.push(head..tail.max(head));
        }
        Ok(out)
    }

    /// The first row of the frame (`head`) or the row after its last; `from` is the last row's.
    fn edge(
        &self,
        part: &Partition,
        row: usize,
        head: bool,
        from: usize,
        cx: &Cx<'_>,
    ) -> Result<usize> {
        let bound = if head { &self.start } else { &self.end };
        let value = if head { &part.start } else { &part.end };
        let offset = || {
            let n = value.as_i64().unwrap_or(0);
            let n = isize::try_from(n).unwrap_or(isize::MAX / 4).min(isize::MAX / 4);
            if matches!(bound, Bound::Preceding(_)) { -n } else { n }
        };
        let signed = |v: usize| isize::try_from(v).unwrap_or(isize::MAX / 4);
        let clamp = |v: isize, max: usize| usize::try_from(v.max(0)).unwrap_or(0).min(max);
        Ok(match (bound, self.unit) {
            (Bound::UnboundedPreceding, _) => 0,
            (Bound::UnboundedFollowing, _) => part.rows,
            (Bound::CurrentRow, FrameUnit::Rows) => row + usize::from(!head),
            (Bound::CurrentRow, _) => {
                let group = &part.groups[part.group[row]];
                if head { group.start } else { group.end }
            }
            (_, FrameUnit::Rows) => clamp(signed(row) + offset() + isize::from(!head), part.rows),
            (_, FrameUnit::Groups) => {
                let at = signed(part.group[row]) + offset();
                let count = part.groups.len();
                match (head, usize::try_from(at)) {
                    (true, Err(_)) | (false, Err(_)) => 0,
                    (true, Ok(g)) if g < count => part.groups[g].start,
                    (false, Ok(g)) if g < count => part.groups[g].end,
                    _ => part.rows,
                }
            }
            (_, FrameUnit::Range) => self.range_edge(part, row, head, from, cx)?,
        })
    }

    fn range_edge(
        &self,
        part: &Partition,
        row: usize,
        head: bool,
        from: usize,
        cx: &Cx<'_>,
    ) -> Result<usize> {
        let (Some(function), Some((_, desc, nulls_first))) = (&self.in_range, self.order.first())
        else {
            return Err(PgError::unsupported(
                "RANGE with offset is not supported yet for this type",
            ));
        };
        let bound = if head { &self.start } else { &self.end };
        let offset = if head { &part.start } else { &part.end };
        let (mut sub, mut less) = (matches!(bound, Bound::Preceding(_)), !head);
        if *desc {
            (sub, less) = (!sub, !less);
        }
        let current = &part.keys[row];
        let mut at = from;
        while at < part.rows {
            let value = &part.keys[at];
            if value.is_null() || current.is_null() {
                let advance = match (head, nulls_first) {
                    (true, true) => value.is_null() && !current.is_null(),
                    (true, false) => !value.is_null() && current.is_null(),
                    (false, true) => value.is_null() || !current.is_null(),
                    (false, false) => !value.is_null() || current.is_null(),
                };
                if !advance {
                    return Ok(at);
                }
            } else {
                let args = [
                    value.clone(),
                    current.clone(),
                    offset.clone(),
                    Datum::Bool(sub),
                    Datum::Bool(less),
                ];
                let within = function.call(cx, &args)? == Datum::Bool(true);
                if within == head {
                    return Ok(at);
                }
            }
            at += 1;
        }
        Ok(at)
    }
}

/// One function over one partition.
struct Run<'a> {
    op: &'a WindowOp,
    function: &'a WindowFunction,
    part: &'a Partition,
    frames: &'a [Range<usize>],
    args: Vec<ArrayRef>,
    keep: Option<Vec<bool>>,
}

fn int8(v: usize) -> Datum {
    Datum::Int8(i64::try_from(v).unwrap_or(i64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "as PostgreSQL computes these ratios")]
fn ratio(a: usize, b: usize) -> Datum {
    Datum::Float8(a as f64 / b as f64)
}

impl Run<'_> {
    fn all(&self, cx: &Cx<'_>) -> Result<ArrayRef> {
        let mut builder = values::Builder::new(self.function.ty, self.part.rows);
        if let WindowFn::Aggregate(kernel) = &self.function.kind {
            self.aggregate(*kernel, cx, &mut builder)?;
        } else {
            for row in 0..self.part.rows {
                builder.push(&self.value(row)?)?;
            }
        }
        Ok(builder.finish())
    }

    fn arg(&self, n: usize, row: usize) -> Datum {
        match (self.args.get(n), self.function.args.get(n)) {
            (Some(array), Some(eval)) => values::datum_at(array, row, eval.ty),
            _ => Datum::Null,
        }
    }

    fn value(&self, row: usize) -> Result<Datum> {
        let part = self.part;
        let group = &part.groups[part.group[row]];
        Ok(match &self.function.kind {
            WindowFn::RowNumber => int8(row + 1),
            WindowFn::Rank => int8(group.start + 1),
            WindowFn::DenseRank => int8(part.group[row] + 1),
            WindowFn::PercentRank if part.rows <= 1 => Datum::Float8(0.0),
            WindowFn::PercentRank => ratio(group.start, part.rows - 1),
            WindowFn::CumeDist => ratio(group.end, part.rows),
            WindowFn::Ntile => self.ntile(row)?,
            WindowFn::Lag => self.neighbour(row, -1),
            WindowFn::Lead => self.neighbour(row, 1),
            WindowFn::FirstValue => self.framed(row).next().map_or(Datum::Null, |r| self.arg(0, r)),
            WindowFn::LastValue => {
                self.framed(row).next_back().map_or(Datum::Null, |r| self.arg(0, r))
            }
            WindowFn::NthValue => match self.arg(1, row).as_i64() {
                None => Datum::Null,
                Some(n) if n < 1 => {
                    return Err(PgError::new(
                        SqlState::INVALID_ARGUMENT_FOR_NTH_VALUE,
                        "argument of nth_value must be greater than zero",
                    ));
                }
                Some(n) => {
                    let n = usize::try_from(n - 1).unwrap_or(usize::MAX);
                    self.framed(row).nth(n).map_or(Datum::Null, |r| self.arg(0, r))
                }
            },
            WindowFn::Aggregate(_) => Datum::Null,
        })
    }

    fn ntile(&self, row: usize) -> Result<Datum> {
        // The argument is taken from the partition's first row.
        let Some(buckets) = self.arg(0, 0).as_i64() else { return Ok(Datum::Null) };
        let Some(buckets) = usize::try_from(buckets).ok().filter(|b| *b > 0) else {
            return Err(PgError::new(
                SqlState::INVALID_ARGUMENT_FOR_NTILE_FUNCTION,
                "argument of ntile must be greater than zero",
            ));
        };
        let (size, larger) = (self.part.rows / buckets, self.part.rows % buckets);
        let boundary = larger * (size + 1);
        let bucket =
            if row < boundary { row / (size + 1) } else { larger + (row - boundary) / size.max(1) };
        Ok(Datum::Int4(i32::try_from(bucket + 1).unwrap_or(i32::MAX)))
    }

    fn neighbour(&self, row: usize, direction: i64) -> Datum {
        let offset = match self.args.len() {
            0 | 1 => 1,
            _ => match self.arg(1, row).as_i64() {
                Some(n) => n,
                None => return Datum::Null,
            },
        };
        let at = i64::try_from(row).unwrap_or(i64::MAX).saturating_add(direction * offset);
        match usize::try_from(at) {
            Ok(at) if at < self.part.rows => self.arg(0, at),
            _ => self.arg(2, row),
        }
    }

    /// The rows of a row's frame, exclusions left out.
    fn framed(&self, row: usize) -> impl DoubleEndedIterator<Item = usize> + use<'_> {
        let group = self.part.groups[self.part.group[row]].clone();
        let exclude = self.op.exclude;
        self.frames[row].clone().filter(move |r| match exclude {
            FrameExclude::NoOthers => true,
            FrameExclude::CurrentRow => *r != row,
            FrameExclude::Group => !group.contains(r),
            FrameExclude::Ties => *r == row || !group.contains(r),
        })
    }

    fn aggregate(
        &self,
        kernel: AggregateKernel,
        cx: &Cx<'_>,
        out: &mut values::Builder,
    ) -> Result<()> {
        let types: Vec<PgType> = self.function.args.iter().map(|a| a.ty).collect();
        let info = CallInfo { ctx: cx.eval, args: &types, ret: self.function.ty };
        let kept = |row: usize| self.keep.as_ref().is_none_or(|k| k[row]);
        let mut state = kernel(&info);
        let mut taken: Option<Range<usize>> = None;
        let mut last = Datum::Null;
        for row in 0..self.part.rows {
            let frame = self.frames[row].clone();
            let plain = self.op.exclude == FrameExclude::NoOthers;
            if plain && taken.as_ref() == Some(&frame) {
                out.push(&last)?;
                continue;
            }
            let grows = plain
                && taken.as_ref().is_some_and(|t| t.start == frame.start && t.end <= frame.end);
            let from = match (&taken, grows) {
                (Some(taken), true) => taken.end,
                _ => {
                    state = kernel(&info);
                    frame.start
                }
            };
            let rows: Vec<usize> = match plain {
                true => (from..frame.end).collect(),
                false => self.framed(row).collect(),
            };
            for r in rows.into_iter().filter(|r| kept(*r)) {
                let args: Vec<Datum> = (0..self.args.len()).map(|n| self.arg(n, r)).collect();
                state.update(&info, &args)?;
            }
            last = state.finish(&info)?;
            taken = plain.then_some(frame);
            out.push(&last)?;
        }
        Ok(())
    }
}
