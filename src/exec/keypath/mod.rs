//! The short way: statements about one row, or a few, by key.
//!
//! A point SELECT, an INSERT of VALUES, an UPDATE or DELETE by primary key needs no operators. A
//! [`KeyPlan`] goes from parameters to key bytes, and from the stored row to the fields of a DataRow
//! message, with nothing in between; one that only reads never suspends.
//!
//! An UPDATE or DELETE locks the row first and then looks at its newest version, which is what READ
//! COMMITTED would come to after running again; so a hot row costs a wait, never a second run.
//!
//! [`KeyPlan::compile`] answers `None` for everything else, which the operators then run.

mod compile;
mod fields;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use meridian_cluster::Txn;
use meridian_types::{Datum, PgError, PgType};
use smallvec::SmallVec;

pub use meridian_types::arrow::Format;

use crate::codecs::Table;
use crate::context::StatementContext;
use crate::dml::TableWriter;
use crate::error::{ExecError, from_kv};
use crate::expr::Eval;
use crate::ops::scan::{Range, SpanExprs, ranges};
use crate::shared::Cx;

pub use fields::{put_datum, put_row};

/// A compiled statement about rows by key.
#[derive(Debug)]
pub struct KeyPlan {
    table: Arc<Table>,
    kind: Kind,
    /// The client's columns: position in the table's row and type.
    output: Vec<(usize, PgType)>,
}

/// The value of LIMIT or OFFSET; `None` = not given, or NULL.
fn count(given: Option<&Eval>, word: &str, cx: &Cx) -> Result<Option<u64>, PgError> {
    let Some(given) = given else { return Ok(None) };
    let none: Vec<Datum> = vec![];
    match given.row(&none, cx)?.as_i64() {
        None => Ok(None),
        Some(n) => u64::try_from(n).map(Some).map_err(|_| {
            let code = if word == "LIMIT" { "2201W" } else { "2201X" };
            let code = meridian_types::SqlState::from_code(code);
            PgError::new(code, format!("{word} must not be negative"))
        }),
    }
}

/// Rows found by key.
#[derive(Debug)]
struct Read {
    /// Position of the index.
    index: usize,
    spans: Vec<SpanExprs>,
    reverse: bool,
    /// Conditions over the scan's columns, which are these of the table.
    filter: Vec<Eval>,
    columns: Vec<usize>,
    limit: Option<Eval>,
    offset: Option<Eval>,
}

#[derive(Debug)]
enum Kind {
    Read(Box<Read>),
    Write(Box<write::Write>),
}

impl KeyPlan {
    /// Whether it only reads: then [`KeyPlan::read`] runs it.
    pub fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Read(_))
    }

    /// Whether it gives one row at most, so that no limit on rows can cut its result.
    pub fn gives_one(&self) -> bool {
        let Read { index, spans, .. } = match &self.kind {
            Kind::Read(read) => &**read,
            Kind::Write(write) => return write.gives_one(),
        };
        let keys = self.table.indexes[*index].len();
        self.is_unique(*index)
            && spans.len() <= 1
            && spans.iter().all(|span| span.each.is_none() && span.prefix.len() == keys)
    }

    /// Whether a full key of the index finds one entry at most.
    fn is_unique(&self, index: usize) -> bool {
        let desc = &self.table.desc.indexes[index];
        index == 0 || (desc.unique && !desc.nulls_not_distinct)
    }

    /// Runs a plan that only reads, appending a DataRow message for each row; the answer is their
    /// number. `formats` has one entry, or one for each column; none means text. `None`: it would have to
    /// wait for another node, which [`KeyPlan::run`] does.
    pub fn read(
        &self,
        ctx: &StatementContext,
        txn: &mut Txn,
        formats: &[Format],
        out: &mut Vec<u8>,
    ) -> Option<Result<u64, ExecError>> {
        if !txn.reads_here() {
            return None;
        }
        let rows = self.rows(ctx, txn, formats, out).now_or_never()?;
        txn.is_confirmed().then_some(rows)
    }

    async fn rows(
        &self,
        ctx: &StatementContext,
        txn: &mut Txn,
        formats: &[Format],
        out: &mut Vec<u8>,
    ) -> Result<u64, ExecError> {
        let Kind::Read(read) = &self.kind else {
            return Err(PgError::internal("a key plan that writes was asked to read").into());
        };
        let cx = Cx::plain(ctx);
        let mut skip = count(read.offset.as_ref(), "OFFSET", &cx)?.unwrap_or(0);
        let limit = count(read.limit.as_ref(), "LIMIT", &cx)?.unwrap_or(u64::MAX);
        let mut rows = 0;
        let codec = &self.table.indexes[read.index];
        let unique = self.is_unique(read.index);
        let mut wanted = SmallVec::new();
        for span in &read.spans {
            ranges(codec, (unique, read.reverse), span, &cx, &mut wanted)?;
        }
        let alone = wanted.len() == 1 && read.index == 0;
        for range in wanted {
            if rows >= limit {
                break;
            }
            match range {
                Range::Point(key) => {
                    let value = if alone { txn.get_alone(&key).await } else { txn.get(&key).await };
                    let Some(value) = value.map_err(from_kv)? else { continue };
                    if read.index == 0 {
                        rows += self.give(read, &key, &value, &mut skip, &cx, ctx, formats, out)?;
                    } else if let Some((key, value)) = self.behind(read, &key, &value, txn).await? {
                        rows += self.give(read, &key, &value, &mut skip, &cx, ctx, formats, out)?;
                    }
                }
                Range::Span(span) => {
                    let mut scan = txn.scan(span, read.reverse).await.map_err(from_kv)?;
                    let mut found: Vec<(Bytes, Bytes)> = vec![];
                    loop {
                        found.clear();
                        let want = usize::try_from(limit - rows).unwrap_or(256).clamp(1, 256);
                        let more = scan.next_batch(want, &mut found).await.map_err(from_kv)?;
                        for (key, value) in &found {
                            if rows >= limit {
                                break;
                            }
                            if read.index == 0 {
                                rows +=
                                    self.give(read, key, value, &mut skip, &cx, ctx, formats, out)?;
                            } else if let Some((key, value)) =
                                self.behind(read, key, value, txn).await?
                            {
                                rows += self
                                    .give(read, &key, &value, &mut skip, &cx, ctx, formats, out)?;
                            }
                        }
                        if !more || rows >= limit {
                            break;
                        }
                        ctx.check_cancel()?;
                    }
                }
            }
        }
        Ok(rows)
    }

    /// Runs any plan; see [`KeyPlan::read`].
    pub async fn run(
        &self,
        ctx: &Arc<StatementContext>,
        txn: &mut Txn,
        formats: &[Format],
        out: &mut Vec<u8>,
    ) -> Result<u64, ExecError> {
        let rows = match &self.kind {
            Kind::Read(_) => self.rows(ctx, txn, formats, out).await,
            Kind::Write(write) => write.run(&self.output, ctx, txn, formats, out).await,
        };
        txn.confirm().await?;
        rows
    }

    /// What inserts one row of VALUES: the writer, the expressions of VALUES, and over them those of the
    /// table's row.
    pub(crate) fn inserts_one(&self) -> Option<(&Arc<TableWriter>, &[Eval], &[Eval])> {
        let Kind::Write(write) = &self.kind else { return None };
        match &write.what {
            write::What::Insert { rows, values } if rows.len() == 1 => {
                Some((&write.writer, &rows[0], values))
            }
            _ => None,
        }
    }

    /// The row behind an entry of a secondary index, with its key.
    async fn behind(
        &self,
        read: &Read,
        key: &[u8],
        value: &[u8],
        txn: &mut Txn,
    ) -> Result<Option<(Vec<u8>, Bytes)>, PgError> {
        let codec = &self.table.indexes[read.index];
        let row_key = codec.row_key(&self.table.desc, key, value)?;
        Ok(txn.get(&row_key).await.map_err(from_kv)?.map(|row| (row_key, row)))
    }

    #[expect(clippy::too_many_arguments, reason = "everything that one row takes, once per row")]
    fn give(
        &self,
        read: &Read,
        key: &[u8],
        value: &[u8],
        skip: &mut u64,
        cx: &Cx<'_>,
        ctx: &StatementContext,
        formats: &[Format],
        out: &mut Vec<u8>,
    ) -> Result<u64, PgError> {
        let row = self.table.codec.row(key, value)?;
        if !read.filter.is_empty() {
            let mut values = Vec::with_capacity(read.columns.len());
            for at in &read.columns {
                values.push(row.get(*at)?.into_datum());
            }
            for predicate in &read.filter {
                if predicate.row(&values, cx)? != Datum::Bool(true) {
                    return Ok(0);
                }
            }
        }
        if *skip > 0 {
            *skip -= 1;
            return Ok(0);
        }
        fields::data_row(&row, &self.output, &ctx.eval, formats, out)?;
        Ok(1)
    }
}
