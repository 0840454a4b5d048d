//! Bulk insertion, for COPY FROM.
//!
//! The session binds `INSERT INTO t (a, b) VALUES ($1, $2)` with the columns' own types as those of
//! the parameters; a row of data is then the parameters of one more execution. So COPY has the
//! defaults, checks and foreign keys of INSERT, without planning anything for a row.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_cluster::Txn;
use meridian_sql::expr::{ColumnId, Expr};
use meridian_sql::plan::Query;
use meridian_types::{Datum, PgError};

use crate::context::StatementContext;
use crate::dml::{self, Bulk, TableWriter, Writes};
use crate::error::ExecError;
use crate::expr::{Eval, Flat, Node, compile};
use crate::keypath::KeyPlan;
use crate::shared::Cx;

/// Where a column's value comes from.
#[derive(Debug)]
enum Place {
    /// From the data as it is.
    Param(usize),
    /// Computed.
    Expr(Eval),
}

/// Inserts rows. They reach the transaction run by run: the session ends a failed COPY by rolling
/// back, to a savepoint or altogether.
#[derive(Debug)]
pub struct CopyInserter {
    writer: Arc<TableWriter>,
    ctx: Arc<StatementContext>,
    /// VALUES, when a column is computed from it.
    source: Vec<Eval>,
    places: Vec<Place>,
    /// WHERE, over the new row.
    filter: Option<Eval>,
    writes: Writes,
    /// Rows that came, and those that were inserted.
    taken: u64,
    rows: u64,
    failed: Option<u64>,
    new: Vec<Datum>,
}

impl CopyInserter {
    /// An inserter by a bound `INSERT … VALUES ($1, …)`.
    pub fn new(query: &Query, ctx: Arc<StatementContext>) -> Result<CopyInserter, PgError> {
        let unsupported = || {
            PgError::unsupported(
                "COPY to a table with such defaults or indexes is not supported yet",
            )
        };
        let plan = KeyPlan::compile(query, &ctx.catalog).ok_or_else(unsupported)?;
        let (writer, source, values) = plan.inserts_one().ok_or_else(unsupported)?;
        let place = |value: &Eval| match &value.node {
            Node::Input(at) => match source.get(*at).map(|e| &e.node) {
                Some(Node::Param(param)) => Place::Param(*param),
                _ => Place::Expr(value.clone()),
            },
            _ => Place::Expr(value.clone()),
        };
        let places: Vec<Place> = values.iter().map(place).collect();
        let constant = |place: &Place| match place {
            Place::Param(_) => true,
            Place::Expr(e) => matches!(e.node, Node::Const(_)),
        };
        let source = if places.iter().all(constant) { vec![] } else { source.to_vec() };
        let writer = writer.clone();
        let (writes, new) = (Writes::default(), vec![]);
        let filter = None;
        let (taken, rows, failed) = (0, 0, None);
        Ok(CopyInserter { writer, ctx, source, places, filter, writes, taken, rows, failed, new })
    }

    /// Rows for which this is not true, over the row's columns by these ids, are left out.
    pub fn only(&mut self, condition: &Expr, columns: &[ColumnId]) -> Result<(), PgError> {
        let map: HashMap<ColumnId, usize> =
            columns.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        self.filter = Some(compile(condition, &mut Flat(&map))?);
        Ok(())
    }

    /// Takes a row of the columns that were bound.
    pub fn row(&mut self, params: &mut [Datum]) -> Result<(), PgError> {
        let cx = Cx::with_params(&self.ctx, &[]);
        let number = self.taken;
        self.taken += 1;
        self.new.clear();
        if self.source.is_empty() {
            for place in &self.places {
                self.new.push(match place {
                    Place::Param(at) => std::mem::replace(&mut params[*at], Datum::Null),
                    Place::Expr(e) => e.row(&self.new, &cx)?,
                });
            }
        } else {
            let with = Cx::with_params(&self.ctx, params);
            let none: Vec<Datum> = vec![];
            let source: Result<Vec<Datum>, PgError> =
                self.source.iter().map(|e| e.row(&none, &with)).collect();
            let source = source?;
            for place in &self.places {
                self.new.push(match place {
                    Place::Param(at) => params[*at].clone(),
                    Place::Expr(e) => e.row(&source, &with)?,
                });
            }
        }
        if let Some(filter) = &self.filter
            && filter.row(&self.new, &cx)? != Datum::Bool(true)
        {
            return Ok(());
        }
        self.writer.check_row(&mut self.new, &cx, &self.ctx)?;
        self.writes.bulk_of(&self.writer).push(&self.new, number)?;
        self.rows += 1;
        Ok(())
    }

    /// Is it time for [`CopyInserter::seal`]?
    pub fn is_full(&self) -> bool {
        self.writes.bulk.iter().any(Bulk::is_full)
    }

    /// Hands what has come to the transaction.
    pub async fn seal(&mut self, txn: &mut Txn) -> Result<(), PgError> {
        let sealed = self.writes.seal(true, txn, &self.ctx).await;
        self.failed = self.writes.bulk.first().and_then(Bulk::failed);
        sealed?;
        self.writes.bulk.iter_mut().for_each(|bulk| bulk.flush(txn));
        Ok(())
    }

    /// How many rows came before the one that was refused when it was handed over.
    pub fn failed(&self) -> Option<u64> {
        self.failed
    }

    /// Checks what is to be checked at the end; the answer is the number of rows.
    pub async fn finish(&mut self, txn: &mut Txn) -> Result<u64, ExecError> {
        dml::finish(std::mem::take(&mut self.writes), txn, &self.ctx).await?;
        Ok(self.rows)
    }
}
