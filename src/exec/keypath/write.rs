//! INSERT of VALUES, UPDATE and DELETE by primary key.

use std::sync::Arc;

use bytes::Bytes;
use meridian_cluster::Txn;
use meridian_kv::api::{Isolation, Strength};
use meridian_types::arrow::Format;
use meridian_types::{Datum, PgType};
use smallvec::SmallVec;

use super::fields;
use crate::context::StatementContext;
use crate::dml::{self, TableWriter, Writes};
use crate::error::ExecError;
use crate::expr::Eval;
use crate::ops::scan::{Range, SpanExprs, ranges};
use crate::shared::Cx;

/// A statement that writes rows found by key, or given.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) writer: Arc<TableWriter>,
    pub(super) what: What,
    /// RETURNING over the row written, by attnum − 1.
    pub(super) returning: Vec<Eval>,
}

#[derive(Debug)]
pub(super) enum What {
    /// Rows of VALUES; then each row of the table over one of them.
    Insert {
        rows: Vec<Vec<Eval>>,
        values: Vec<Eval>,
    },
    Update {
        target: Target,
        set: Vec<(usize, Eval)>,
    },
    Delete {
        target: Target,
    },
}

/// Rows by primary key, with conditions over columns of the table.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) spans: Vec<SpanExprs>,
    pub(super) filter: Vec<Eval>,
}

impl Write {
    /// Whether RETURNING gives one row at most.
    pub(super) fn gives_one(&self) -> bool {
        let one = match &self.what {
            What::Insert { rows, .. } => rows.len() <= 1,
            What::Update { target, .. } | What::Delete { target } => {
                target.spans.len() <= 1 && target.spans.iter().all(|span| span.each.is_none())
            }
        };
        one || self.returning.is_empty()
    }

    pub(super) async fn run(
        &self,
        output: &[(usize, PgType)],
        ctx: &Arc<StatementContext>,
        txn: &mut Txn,
        formats: &[Format],
        out: &mut Vec<u8>,
    ) -> Result<u64, ExecError> {
        let mut writes = Writes::default();
        let mut written = vec![];
        let count = match &self.what {
            What::Insert { rows, values } => {
                let cx = Cx::plain(ctx);
                for row in rows {
                    let new = self.insert_row(row, values, &cx, ctx, txn, &mut writes).await?;
                    self.note(new, &mut written);
                }
                rows.len() as u64
            }
            What::Update { target, set } => {
                self.change(target, Some(set), ctx, txn, &mut writes, &mut written).await?
            }
            What::Delete { target } => {
                self.change(target, None, ctx, txn, &mut writes, &mut written).await?
            }
        };
        dml::finish(writes, txn, ctx).await?;
        let cx = Cx::plain(ctx);
        for row in written {
            let mut values = Vec::with_capacity(self.returning.len());
            for e in &self.returning {
                values.push(e.row(&row, &cx)?);
            }
            fields::put_row(&values, output.iter().map(|o| o.1), &ctx.eval, formats, out)?;
        }
        Ok(count)
    }

    /// Inserts one row of VALUES.
    pub(super) async fn insert_row(
        &self,
        row: &[Eval],
        values: &[Eval],
        cx: &Cx<'_>,
        ctx: &StatementContext,
        txn: &mut Txn,
        writes: &mut Writes,
    ) -> Result<Vec<Datum>, ExecError> {
        let none: Vec<Datum> = vec![];
        let mut source = Vec::with_capacity(row.len());
        for e in row {
            source.push(e.row(&none, cx)?);
        }
        let mut new = Vec::with_capacity(values.len());
        for e in values {
            new.push(e.row(&source, cx)?);
        }
        self.writer.check_row(&mut new, cx, ctx)?;
        self.writer.insert(&new, txn, writes, ctx).await?;
        Ok(new)
    }

    fn note(&self, row: Vec<Datum>, written: &mut Vec<Vec<Datum>>) {
        if !self.returning.is_empty() {
            written.push(row);
        }
    }

    async fn change(
        &self,
        target: &Target,
        set: Option<&Vec<(usize, Eval)>>,
        ctx: &Arc<StatementContext>,
        txn: &mut Txn,
        writes: &mut Writes,
        written: &mut Vec<Vec<Datum>>,
    ) -> Result<u64, ExecError> {
        let cx = Cx::plain(ctx);
        let codec = &self.writer.table.indexes[0];
        let (mut count, mut points) = (0, SmallVec::new());
        for span in &target.spans {
            ranges(codec, (true, false), span, &cx, &mut points)?;
        }
        for point in points {
            let Range::Point(key) = point else { continue };
            let key = Bytes::from(key);
            if writes.touched.contains(&key) {
                continue;
            }
            // An absent row is not locked, as in PostgreSQL.
            if txn.get(&key).await.map_err(crate::error::from_kv)?.is_none()
                && txn.isolation() != Isolation::ReadCommitted
            {
                continue;
            }
            let strength = if set.is_some() { Strength::NoKeyUpdate } else { Strength::Update };
            let newest = writes.lock(txn, &key, strength).await?;
            if newest.changed && txn.isolation() != Isolation::ReadCommitted {
                return Err(dml::overtaken(txn, &newest).into());
            }
            let Some(stored) = newest.row else { continue };
            let old = self.writer.table.codec.decode(&key, &stored)?;
            let mut passes = true;
            for predicate in &target.filter {
                passes &= predicate.row(&old, &cx)? == Datum::Bool(true);
                if !passes {
                    break;
                }
            }
            if !passes {
                continue;
            }
            count += 1;
            let Some(set) = set else {
                self.writer.delete(&key, &old, writes)?;
                self.note(old, written);
                continue;
            };
            let mut new = old.clone();
            for (at, value) in set {
                new[*at] = value.row(&old, &cx)?;
            }
            let stronger = self.writer.strength(&old, &new);
            if stronger != strength {
                writes.lock(txn, &key, stronger).await?;
            }
            self.writer.check_row(&mut new, &cx, ctx)?;
            self.writer.update(&key, &old, &new, txn, writes, ctx).await?;
            self.note(new, written);
        }
        Ok(count)
    }
}
