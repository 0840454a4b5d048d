//! Running statements: prepared plans, cursors, and the loop that serves operators' jobs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::record_batch::RecordBatch;
use datafusion_execution::SendableRecordBatchStream;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use meridian_catalog::Catalog;
use meridian_cluster::Txn;
use meridian_sql::explain::Actuals;
use meridian_sql::expr::Expr;
use meridian_sql::plan::Query;
use meridian_sql::rel::Column;
use meridian_types::{Datum, EvalContext, PgError};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::context::StatementContext;
use crate::dml::{self, Writes};
use crate::error::{ExecError, from_datafusion};
use crate::expr::{Flat, compile};
use crate::lower::{self, Lowered};
use crate::shared::{Cx, Driver, Frame, Job, JobSender, Shared};
use crate::values;

/// Takes the rows of a statement.
pub trait RowSink: Send {
    /// A batch whose columns are these, in order.
    fn batch(&mut self, batch: &RecordBatch, columns: &[Column]) -> Result<(), PgError>;

    /// One row.
    fn row(&mut self, values: &[Datum]) -> Result<(), PgError>;
}

/// A plan ready to run.
pub(crate) struct Lower {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) shared: Arc<Shared>,
    /// Positions of the client's columns.
    pub(crate) output: Vec<usize>,
}

/// Plans kept per prepared statement; one serves one execution at a time.
const KEPT_PLANS_MAX: usize = 4;

/// A bound statement with its lowered plans, to be run many times.
pub struct Prepared {
    query: Arc<Query>,
    kept: Mutex<Vec<Lower>>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("command", &self.query.command).finish_non_exhaustive()
    }
}

impl Prepared {
    /// Wraps a bound statement; it is lowered at its first execution.
    pub fn new(query: Arc<Query>) -> Prepared {
        Prepared { query, kept: Mutex::new(vec![]) }
    }

    /// The statement.
    pub fn query(&self) -> &Arc<Query> {
        &self.query
    }

    fn take(&self, ctx: &StatementContext) -> Result<Lower, PgError> {
        if let Some(kept) = self.kept.lock().pop() {
            return Ok(kept);
        }
        lower_query(&self.query, &ctx.node, &ctx.catalog, false)
    }

    fn put_back(&self, plan: Lower) {
        plan.shared.end();
        let mut kept = self.kept.lock();
        if kept.len() < KEPT_PLANS_MAX {
            kept.push(plan);
        }
    }
}

/// Lowers a statement.
pub(crate) fn lower_query(
    query: &Query,
    node: &Arc<crate::context::Node>,
    catalog: &Arc<Catalog>,
    measured: bool,
) -> Result<Lower, PgError> {
    if let Some(error) = &query.fails {
        return Err(error.clone());
    }
    let shared = Arc::new(Shared::default());
    let mut lowerer = lower::Lowerer::new(shared.clone(), node.clone(), catalog.clone());
    if measured {
        lowerer.measure(&query.rel);
    }
    let Lowered { plan, cols } = lowerer.query(&query.rel)?;
    let mut output = Vec::with_capacity(query.output.len());
    for column in &query.output {
        let at = cols.iter().position(|(id, _)| *id == column.id).ok_or_else(|| {
            PgError::internal(format!("the plan lacks the output column {}", column.name))
        })?;
        output.push(at);
    }
    Ok(Lower { plan, shared, output })
}

/// A statement under way: gives rows as they are asked for.
pub struct Cursor {
    prepared: Arc<Prepared>,
    plan: Option<Lower>,
    stream: SendableRecordBatchStream,
    jobs: mpsc::UnboundedReceiver<Job>,
    writes: Writes,
    ctx: Arc<StatementContext>,
    /// Rows of the last batch that have not been asked for yet.
    rest: Option<RecordBatch>,
    rows: u64,
    done: bool,
    measured: Option<Arc<Shared>>,
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Cursor {
    /// Starts a statement. Nothing is read before the first row is asked for.
    pub fn open(prepared: &Arc<Prepared>, ctx: Arc<StatementContext>) -> Result<Cursor, ExecError> {
        let plan = prepared.take(&ctx)?;
        let (sender, jobs) = mpsc::unbounded_channel();
        let frame = Frame {
            ctx: ctx.clone(),
            task: ctx.node.task(ctx.memory_bytes()),
            jobs: JobSender(sender),
        };
        plan.shared.begin(Arc::new(frame));
        let stream = plan.shared.start(&plan.plan)?;
        Ok(Cursor {
            prepared: prepared.clone(),
            plan: Some(plan),
            stream,
            jobs,
            writes: Writes::default(),
            ctx,
            rest: None,
            rows: 0,
            done: false,
            measured: None,
        })
    }

    /// EXPLAIN ANALYZE: from now on rows and times are counted. Before the first row only.
    pub fn count_actuals(&mut self) -> Result<(), ExecError> {
        let plan = lower_query(&self.prepared.query, &self.ctx.node, &self.ctx.catalog, true)?;
        let frame = self.plan.as_ref().map(|p| p.shared.frame()).transpose()?;
        if let Some(frame) = frame {
            plan.shared.begin(frame);
        }
        self.stream = plan.shared.start(&plan.plan)?;
        self.measured = Some(plan.shared.clone());
        self.plan = Some(plan);
        Ok(())
    }

    /// What was counted, by relation.
    pub fn actuals(&self) -> Actuals {
        self.measured.as_ref().map(|s| s.actuals()).unwrap_or_default()
    }

    /// The client's columns.
    pub fn columns(&self) -> &[Column] {
        &self.prepared.query.output
    }

    /// The next rows, at most this many; `None` at the end, when all writes are in the transaction.
    pub async fn next(
        &mut self,
        txn: &mut Txn,
        rows_max: usize,
    ) -> Result<Option<RecordBatch>, ExecError> {
        if let Some(batch) = self.rest.take() {
            return Ok(Some(self.give(batch, rows_max)));
        }
        if self.done {
            return Ok(None);
        }
        loop {
            let item = {
                let mut driver =
                    Driver { txn: &mut *txn, writes: &mut self.writes, ctx: &self.ctx };
                tokio::select! {
                    biased;
                    Some(job) = self.jobs.recv() => {
                        job(&mut driver).await;
                        continue;
                    }
                    item = self.stream.next() => item,
                    () = self.ctx.cancel.cancelled() => {
                        self.done = true;
                        self.ctx.check_cancel()?;
                        continue;
                    }
                }
            };
            match item {
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => {
                    self.ctx.check_cancel()?;
                    txn.confirm().await?;
                    let plan = self.plan.as_ref().expect("the plan is put back at the end");
                    let batch = batch.project(&plan.output).map_err(crate::error::from_arrow)?;
                    return Ok(Some(self.give(batch, rows_max)));
                }
                Some(Err(e)) => {
                    self.done = true;
                    return Err(from_datafusion(&e).into());
                }
                None => {
                    self.done = true;
                    self.finish(txn).await?;
                    txn.confirm().await?;
                    return Ok(None);
                }
            }
        }
    }

    fn give(&mut self, batch: RecordBatch, rows_max: usize) -> RecordBatch {
        let batch = if batch.num_rows() > rows_max {
            self.rest = Some(batch.slice(rows_max, batch.num_rows() - rows_max));
            batch.slice(0, rows_max)
        } else {
            batch
        };
        self.rows += batch.num_rows() as u64;
        batch
    }

    async fn finish(&mut self, txn: &mut Txn) -> Result<(), ExecError> {
        let writes = std::mem::take(&mut self.writes);
        dml::finish(writes, txn, &self.ctx).await?;
        if let Some(plan) = self.plan.take() {
            if self.prepared.query.command != meridian_sql::plan::Command::Select {
                self.rows = plan.shared.affected.load(Ordering::Relaxed);
            }
            if self.measured.is_none() {
                self.prepared.put_back(plan);
            }
        }
        Ok(())
    }

    /// Rows for the command tag: written ones for DML, given ones otherwise.
    pub fn row_count(&self) -> u64 {
        self.rows
    }
}

/// Runs a statement to its end; the answer is the number of rows for its command tag.
///
/// Its writes reach the transaction only when all went well, so a statement that fails or is to be
/// run again has changed nothing.
pub async fn run(
    prepared: &Arc<Prepared>,
    ctx: Arc<StatementContext>,
    txn: &mut Txn,
    sink: &mut dyn RowSink,
) -> Result<u64, ExecError> {
    let mut cursor = Cursor::open(prepared, ctx)?;
    // RETURNING rows must not leave before the statement is sure not to run again.
    let hold = prepared.query.writes;
    let mut held = vec![];
    while let Some(batch) = cursor.next(txn, usize::MAX).await? {
        if hold {
            held.push(batch);
        } else {
            sink.batch(&batch, cursor.columns())?;
        }
    }
    for batch in held {
        sink.batch(&batch, cursor.columns())?;
    }
    Ok(cursor.row_count())
}

/// The rows of a batch as values.
pub fn datums(batch: &RecordBatch, columns: &[Column]) -> Vec<Vec<Datum>> {
    (0..batch.num_rows())
        .map(|row| {
            let cells = columns.iter().enumerate();
            cells.map(|(i, c)| values::datum_at(batch.column(i), row, c.ty)).collect()
        })
        .collect()
}

/// The value of an expression without columns, parameters or sub-queries.
pub fn evaluate(expr: &Expr, eval: &EvalContext) -> Result<Datum, PgError> {
    let compiled = compile(expr, &mut Flat(&HashMap::new()))?;
    compiled.row(&Vec::<Datum>::new(), &Cx::bare(eval))
}

/// The value of an expression without columns or sub-queries, with a statement's parameters.
pub fn evaluate_in(expr: &Expr, ctx: &StatementContext) -> Result<Datum, PgError> {
    let compiled = compile(expr, &mut Flat(&HashMap::new()))?;
    compiled.row(&Vec::<Datum>::new(), &Cx::plain(ctx))
}
