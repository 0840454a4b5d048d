//! Bulk insertion, for COPY FROM.
//!
//! The session binds `INSERT INTO t (a, b) VALUES ($1, $2)` with the columns' own types as those of
//! the parameters; a row of data is then the parameters of one more execution. So COPY has the
//! defaults, checks and foreign keys of INSERT, without planning anything for a row.

use std::sync::Arc;

use meridian_cluster::Txn;
use meridian_sql::plan::Query;
use meridian_types::{Datum, PgError};

use crate::context::StatementContext;
use crate::dml::{self, Event, Writes};
use crate::error::ExecError;
use crate::keypath::KeyPlan;
use crate::shared::Cx;

/// Inserts rows, batch by batch. Its writes reach the transaction with each batch: the session ends
/// a failed COPY by rolling back, to a savepoint or altogether.
#[derive(Debug)]
pub struct CopyInserter {
    plan: KeyPlan,
    ctx: Arc<StatementContext>,
    /// Foreign keys, checked at the end.
    events: Vec<Event>,
    rows: u64,
}

impl CopyInserter {
    /// An inserter by a bound `INSERT … VALUES ($1, …)`.
    pub fn new(query: &Query, ctx: Arc<StatementContext>) -> Result<CopyInserter, PgError> {
        let plan =
            KeyPlan::compile(query, &ctx.catalog).filter(KeyPlan::inserts).ok_or_else(|| {
                PgError::unsupported(
                    "COPY to a table with such defaults or indexes is not supported yet",
                )
            })?;
        Ok(CopyInserter { plan, ctx, events: vec![], rows: 0 })
    }

    /// Inserts rows of the columns that were bound.
    pub async fn push(&mut self, txn: &mut Txn, rows: Vec<Vec<Datum>>) -> Result<(), ExecError> {
        let mut writes = Writes::default();
        for params in rows {
            let cx = Cx::with_params(&self.ctx, &params);
            self.plan.insert_row(&cx, &self.ctx, txn, &mut writes).await?;
            self.rows += 1;
        }
        self.events.append(&mut writes.events);
        writes.flush(txn);
        Ok(())
    }

    /// Checks what is to be checked at the end; the answer is the number of rows.
    pub async fn finish(&mut self, txn: &mut Txn) -> Result<u64, ExecError> {
        let events = std::mem::take(&mut self.events);
        let writes = Writes { events, ..Writes::default() };
        dml::finish(writes, txn, &self.ctx).await?;
        Ok(self.rows)
    }
}
