//! Reading tables: spans from expressions, entries to rows, rows to columns.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_physical_plan::ExecutionPlan;
use meridian_catalog::PRIMARY_INDEX_ID;
use meridian_catalog::key::{IndexCodec, prefix_end};
use meridian_kv::api::Span;
use meridian_types::{Datum, PgError, PgType, oid};
use smallvec::{SmallVec, smallvec};

use super::basic::{batch_of, filter};
use super::{Batches, Operator, Yielder, generate};
use crate::codecs::Table;
use crate::error::from_kv;
use crate::expr::{BatchRow, Eval, RowInput};
use crate::shared::{Cx, Shared};
use crate::values;

/// A span whose bounds are expressions over parameters and outer columns.
#[derive(Clone, Debug)]
pub(crate) struct SpanExprs {
    pub(crate) prefix: Vec<Eval>,
    /// Position in `prefix` of an array that stands for its elements, one span for each.
    pub(crate) each: Option<usize>,
    pub(crate) lower: Option<(Eval, bool)>,
    pub(crate) upper: Option<(Eval, bool)>,
}

/// How a table is read.
#[derive(Debug)]
pub(crate) enum Path {
    Full,
    Index { at: usize, spans: Vec<SpanExprs>, reverse: bool },
}

/// A scan of a table.
#[derive(Debug)]
pub(crate) struct ScanSpec {
    pub(crate) table: Arc<Table>,
    /// Type and attnum of the output columns; attnum 0 is the row's key.
    pub(crate) columns: Vec<(PgType, i16)>,
    pub(crate) schema: SchemaRef,
    pub(crate) filter: Vec<Eval>,
    pub(crate) path: Path,
}

/// What to read.
pub(crate) enum Range {
    /// At most one row.
    Point(Vec<u8>),
    Span(Span),
}

/// An integer as another integer type; `None` when it does not fit.
pub(crate) fn fit(value: Datum, ty: PgType) -> Option<Datum> {
    match (ty.oid, &value) {
        (oid::INT2, Datum::Int4(_) | Datum::Int8(_)) => {
            value.as_i64().and_then(|v| i16::try_from(v).ok()).map(Datum::Int2)
        }
        (oid::INT4, Datum::Int2(_) | Datum::Int8(_)) => {
            value.as_i64().and_then(|v| i32::try_from(v).ok()).map(Datum::Int4)
        }
        (oid::INT8, Datum::Int2(_) | Datum::Int4(_)) => value.as_i64().map(Datum::Int8),
        (_, Datum::Null) => None,
        _ => Some(value),
    }
}

/// One bound of a range.
enum Bound {
    Open,
    At(Datum, bool),
    /// No row satisfies it.
    Never,
}

fn bound(
    expr: Option<&(Eval, bool)>,
    ty: PgType,
    lower: bool,
    row: &dyn RowInput,
    cx: &Cx<'_>,
) -> Result<Bound, PgError> {
    let Some((expr, inclusive)) = expr else { return Ok(Bound::Open) };
    let value = expr.row(row, cx)?;
    if value.is_null() {
        return Ok(Bound::Never);
    }
    let negative = value.as_i64().is_some_and(|v| v < 0);
    Ok(match fit(value, ty) {
        Some(value) => Bound::At(value, *inclusive),
        // Beyond what the column can hold: either every row satisfies it or none.
        None if negative == lower => Bound::Open,
        None => Bound::Never,
    })
}

/// The keys of a span; nothing when it is empty for sure. An array's elements come in key order,
/// or against it when the scan runs in reverse.
pub(crate) fn ranges(
    codec: &IndexCodec,
    (unique, reverse): (bool, bool),
    exprs: &SpanExprs,
    cx: &Cx<'_>,
    out: &mut SmallVec<[Range; 1]>,
) -> Result<(), PgError> {
    let none: Vec<Datum> = vec![];
    let Some(at) = exprs.each else {
        out.extend(range(codec, unique, exprs, None, &none, cx)?);
        return Ok(());
    };
    let Some(Datum::Array(array)) = exprs.prefix.get(at).map(|e| e.row(&none, cx)).transpose()?
    else {
        return Ok(());
    };
    let ty = codec.column(at).0;
    let mut elements: Vec<Datum> =
        array.elements.iter().filter_map(|e| fit(e.clone(), ty)).collect();
    elements.sort_by(|a, b| values::compare(a, b, ty));
    elements.dedup_by(|a, b| values::compare(a, b, ty).is_eq());
    let descending = codec.value_tag(at).is_some_and(|t| t & 0x80 != 0);
    if descending != reverse {
        elements.reverse();
    }
    for element in &elements {
        out.extend(range(codec, unique, exprs, Some((at, element)), &none, cx)?);
    }
    Ok(())
}

fn range(
    codec: &IndexCodec,
    unique: bool,
    exprs: &SpanExprs,
    element: Option<(usize, &Datum)>,
    row: &dyn RowInput,
    cx: &Cx<'_>,
) -> Result<Option<Range>, PgError> {
    // Room for a few numbers; texts grow it.
    let mut key = Vec::with_capacity(64);
    key.extend_from_slice(codec.prefix());
    for (i, expr) in exprs.prefix.iter().enumerate() {
        let value = match element {
            Some((at, element)) if at == i => element.clone(),
            _ => expr.row(row, cx)?,
        };
        let Some(value) = fit(value, codec.column(i).0) else { return Ok(None) };
        codec.push_column(&mut key, i, &value)?;
    }
    let at = exprs.prefix.len();
    if at == codec.len() {
        let span = || Span::new(key.clone(), prefix_end(&key));
        return Ok(Some(if unique { Range::Point(key) } else { Range::Span(span()) }));
    }
    let ty = codec.column(at).0;
    let (lower, upper) = (
        bound(exprs.lower.as_ref(), ty, true, row, cx)?,
        bound(exprs.upper.as_ref(), ty, false, row, cx)?,
    );
    // The tag of values that are not NULL says whether the column descends.
    let tag = codec.value_tag(at);
    let descending = tag.is_some_and(|t| t & 0x80 != 0);
    let (first, last) = if descending { (upper, lower) } else { (lower, upper) };
    let bounded = !matches!((&first, &last), (Bound::Open, Bound::Open));
    let encode = |value: &Datum| -> Result<Vec<u8>, PgError> {
        let mut out = key.clone();
        codec.push_column(&mut out, at, value)?;
        Ok(out)
    };
    let mut not_null = key.clone();
    if let Some(tag) = tag.filter(|_| bounded) {
        not_null.push(tag);
    }
    let start = match first {
        Bound::Never => return Ok(None),
        Bound::Open => not_null.clone(),
        Bound::At(value, true) => encode(&value)?,
        Bound::At(value, false) => prefix_end(&encode(&value)?),
    };
    let end = match last {
        Bound::Never => return Ok(None),
        Bound::Open => prefix_end(&not_null),
        Bound::At(value, true) => prefix_end(&encode(&value)?),
        Bound::At(value, false) => encode(&value)?,
    };
    let span = Span::new(start, end);
    Ok((!span.is_empty()).then_some(Range::Span(span)))
}

/// Rows read at first; batches grow from there, so that a LIMIT reads little.
const FIRST_ROWS: usize = 32;
const SCAN_ROWS_MAX: usize = 2048;

impl ScanSpec {
    fn ranges(&self, cx: &Cx<'_>) -> Result<SmallVec<[Range; 1]>, PgError> {
        match &self.path {
            Path::Full => {
                let (start, end) = self.table.codec.primary().span();
                Ok(smallvec![Range::Span(Span::new(start, end))])
            }
            Path::Index { at, spans, reverse } => {
                let index = &self.table.desc.indexes[*at];
                let primary = index.index_id == PRIMARY_INDEX_ID;
                let mut out = SmallVec::new();
                for span in spans {
                    // A unique secondary entry holds the row's key in its value.
                    let unique = primary || (index.unique && !index.nulls_not_distinct);
                    let codec = &self.table.indexes[*at];
                    ranges(codec, (unique, *reverse), span, cx, &mut out)?;
                }
                Ok(out)
            }
        }
    }

    fn secondary(&self) -> Option<usize> {
        match &self.path {
            Path::Index { at, .. } if self.table.desc.indexes[*at].index_id != PRIMARY_INDEX_ID => {
                Some(*at)
            }
            _ => None,
        }
    }

    /// Keys and values to a batch.
    fn decode(&self, rows: &[(Bytes, Bytes)]) -> Result<RecordBatch, PgError> {
        let mut builders: Vec<values::Builder> =
            self.columns.iter().map(|(ty, _)| values::Builder::new(*ty, rows.len())).collect();
        for (key, value) in rows {
            let row = self.table.codec.row(key, value)?;
            for (builder, (_, attnum)) in builders.iter_mut().zip(&self.columns) {
                match usize::try_from(*attnum - 1) {
                    Ok(at) => builder.push_ref(row.get(at)?)?,
                    Err(_) => builder.push_bytes(key)?,
                }
            }
        }
        let columns = builders.into_iter().map(values::Builder::finish).collect();
        batch_of(&self.schema, columns, rows.len())
    }

    /// The rows behind entries of a secondary index.
    async fn look_up(
        &self,
        at: usize,
        entries: &[(Bytes, Bytes)],
        shared: &Shared,
    ) -> Result<Vec<(Bytes, Bytes)>, PgError> {
        let codec = &self.table.indexes[at];
        let mut keys = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            keys.push(Bytes::from(codec.row_key(&self.table.desc, key, value)?));
        }
        shared
            .job(move |driver| {
                Box::pin(async move {
                    let mut rows = Vec::with_capacity(keys.len());
                    for key in keys {
                        if let Some(row) = driver.txn.get(&key).await.map_err(from_kv)? {
                            rows.push((key, row));
                        }
                    }
                    Ok(rows)
                })
            })
            .await
    }

    async fn give(
        &self,
        entries: &[(Bytes, Bytes)],
        shared: &Shared,
        out: &mut Output<'_>,
    ) -> Result<(), PgError> {
        let batch = match self.secondary() {
            Some(at) => self.decode(&self.look_up(at, entries, shared).await?)?,
            None => self.decode(entries)?,
        };
        let batch = filter(&self.filter, batch, shared).await?;
        match out {
            Output::Stream(yielder) => yielder.send(batch).await,
            Output::Keep(batches) if batch.num_rows() > 0 => batches.push(batch),
            Output::Keep(_) => {}
        }
        Ok(())
    }

    /// Reads all spans.
    pub(crate) async fn read(&self, shared: &Shared, mut out: Output<'_>) -> Result<(), PgError> {
        let ranges = shared.eval_async(|cx| self.ranges(cx)).await?;
        let reverse = matches!(self.path, Path::Index { reverse: true, .. });
        let mut rows_max = FIRST_ROWS;
        for range in ranges {
            let span = match range {
                Range::Point(key) => {
                    let key = Bytes::from(key);
                    let asked = key.clone();
                    let found = shared
                        .job(move |driver| {
                            Box::pin(async move { driver.txn.get(&asked).await.map_err(from_kv) })
                        })
                        .await?;
                    if let Some(value) = found {
                        self.give(&[(key, value)], shared, &mut out).await?;
                    }
                    continue;
                }
                Range::Span(span) => span,
            };
            let mut scan = shared
                .job(move |driver| {
                    Box::pin(async move { driver.txn.scan(span, reverse).await.map_err(from_kv) })
                })
                .await?;
            let mut entries = Vec::with_capacity(rows_max);
            loop {
                entries.clear();
                let more = scan.next_batch(rows_max, &mut entries).await.map_err(from_kv)?;
                shared.frame()?.ctx.check_cancel()?;
                if !entries.is_empty() {
                    self.give(&entries, shared, &mut out).await?;
                }
                if !more {
                    break;
                }
                rows_max = (rows_max * 4).min(SCAN_ROWS_MAX);
            }
        }
        Ok(())
    }
}

/// Where a scan's rows go.
pub(crate) enum Output<'a> {
    Stream(&'a mut Yielder),
    Keep(&'a mut Vec<RecordBatch>),
}

#[derive(Debug)]
pub(crate) struct ScanOp {
    pub(crate) spec: Arc<ScanSpec>,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for ScanOp {
    fn name(&self) -> &'static str {
        "Scan"
    }

    fn execute(&self, _: &[Arc<dyn ExecutionPlan>], _: Arc<TaskContext>) -> DfResult<Batches> {
        let (spec, shared) = (self.spec.clone(), self.shared.clone());
        Ok(generate(|mut out| async move { spec.read(&shared, Output::Stream(&mut out)).await }))
    }
}

/// One row of a batch, as values.
pub(crate) fn row_of(batch: &RecordBatch, row: usize, columns: &[(usize, PgType)]) -> Vec<Datum> {
    let input = BatchRow { batch, row };
    columns.iter().map(|(at, ty)| input.datum(*at, *ty)).collect()
}
