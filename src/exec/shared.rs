//! What the operators of one statement share while it runs.
//!
//! Operators are DataFusion streams: they are `'static` and cannot borrow the transaction. The
//! task that runs the statement owns it; an operator that needs it sends a *job*, a closure over
//! the [`Driver`], and waits for the answer. All of it happens in one task, so a job costs a queue
//! push and a poll. The rest here is what expressions read: parameters, the current outer row, the
//! rows of sub-queries and common table expressions.
//!
//! A lowered plan owns one `Shared` for good; each execution sets a new [`Frame`].

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::record_batch::RecordBatch;
use datafusion_execution::TaskContext;
use datafusion_execution::memory_pool::MemoryReservation;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::execution_plan::reset_plan_states;
use futures::StreamExt;
use futures::future::BoxFuture;
use meridian_cluster::Txn;
use meridian_sql::explain::{Actual, Actuals};
use meridian_types::{Datum, EvalContext, PgError, PgType, Result, SqlState};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};

use crate::context::StatementContext;
use crate::dml::Writes;
use crate::error::{NEED, from_datafusion, need};
use crate::ops::hashing::{grow, reservation};
use crate::ops::spool::Spool;
use crate::values;

/// The owner of the transaction while a statement runs.
pub(crate) struct Driver<'t> {
    pub(crate) txn: &'t mut Txn,
    pub(crate) writes: &'t mut Writes,
    pub(crate) ctx: &'t Arc<StatementContext>,
}

/// Work that needs the transaction.
pub(crate) type Job = Box<dyn for<'a, 't> FnOnce(&'a mut Driver<'t>) -> BoxFuture<'a, ()> + Send>;

/// One execution of a plan.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) ctx: Arc<StatementContext>,
    pub(crate) task: Arc<TaskContext>,
    pub(crate) jobs: JobSender,
}

/// Where jobs go.
pub(crate) struct JobSender(pub(crate) mpsc::UnboundedSender<Job>);

impl std::fmt::Debug for JobSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobSender")
    }
}

/// A lowered sub-query of an expression.
#[derive(Debug)]
pub(crate) struct SubPlan {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    /// Slots of the outer columns that it reads.
    pub(crate) outer: Vec<usize>,
    /// Positions and types of its output columns.
    pub(crate) output: Vec<(usize, PgType)>,
    /// Rows after which it need not go on.
    pub(crate) enough: usize,
}

/// Rows of a sub-query.
pub(crate) type Rows = Arc<Found>;

/// See [`Rows`].
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) rows: Vec<Vec<Datum>>,
    members: OnceLock<Members>,
}

/// Fingerprints of the values of a sub-query's one column.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) values: HashSet<Vec<u8>>,
    /// There is a NULL besides.
    pub(crate) null: bool,
}

impl Found {
    pub(crate) fn members(&self) -> &Members {
        self.members.get_or_init(|| {
            let mut members = Members::default();
            for value in self.rows.iter().filter_map(|row| row.first()) {
                match value {
                    Datum::Null => members.null = true,
                    value => _ = members.values.insert(fingerprint(std::slice::from_ref(value))),
                }
            }
            members
        })
    }
}

/// Results of correlated sub-queries kept per statement; above it the memory starts afresh.
const CACHED_ROWS_MAX: usize = 10_000;

#[derive(Default)]
struct Cache {
    results: HashMap<(usize, Vec<u8>), Rows>,
    rows: usize,
    /// Memory of results that go when there are many, and of those that stay.
    bytes: Option<MemoryReservation>,
    kept_bytes: Option<MemoryReservation>,
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct Shared {
    frame: RwLock<Option<Arc<Frame>>>,
    outers: RwLock<Arc<Vec<Datum>>>,
    subplans: OnceLock<Vec<SubPlan>>,
    cache: Mutex<Cache>,
    pending: Mutex<Option<(usize, Vec<Datum>)>>,
    /// Rows of materialised common table expressions, and working tables of recursive ones.
    ctes: Mutex<HashMap<u32, Arc<Vec<RecordBatch>>>>,
    /// Rows kept for the runs of inner plans.
    spools: Mutex<HashMap<usize, Spool>>,
    /// Rows that the root `Modify` wrote.
    pub(crate) affected: AtomicU64,
    /// Counters of EXPLAIN ANALYZE, by relation.
    actuals: Mutex<Actuals>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// What an evaluation reads besides its row.
pub(crate) struct Cx<'a> {
    pub(crate) eval: &'a EvalContext,
    pub(crate) params: &'a [Datum],
    pub(crate) outers: &'a [Datum],
    pub(crate) locals: &'a [Datum],
    shared: Option<&'a Shared>,
}

impl<'a> Cx<'a> {
    /// A context without sub-queries, for DML and key plans.
    pub(crate) fn plain(ctx: &'a StatementContext) -> Cx<'a> {
        let (eval, params) = (&ctx.eval, &ctx.params[..]);
        Cx { eval, params, outers: &[], locals: &[], shared: None }
    }

    /// A context with parameters of its own.
    pub(crate) fn with_params(ctx: &'a StatementContext, params: &'a [Datum]) -> Cx<'a> {
        Cx { eval: &ctx.eval, params, outers: &[], locals: &[], shared: None }
    }

    /// A context of kernels alone.
    pub(crate) fn bare(eval: &'a EvalContext) -> Cx<'a> {
        Cx { eval, params: &[], outers: &[], locals: &[], shared: None }
    }

    pub(crate) fn with_locals<'b>(&self, locals: &'b [Datum]) -> Cx<'b>
    where
        'a: 'b,
    {
        let (eval, params) = (self.eval, self.params);
        Cx { eval, params, outers: self.outers, locals, shared: self.shared }
    }

    pub(crate) fn outer(&self, slot: usize) -> Datum {
        self.outers.get(slot).cloned().unwrap_or(Datum::Null)
    }

    pub(crate) fn param(&self, index: usize) -> Result<Datum> {
        self.params.get(index).cloned().ok_or_else(|| {
            PgError::new(
                SqlState::UNDEFINED_PARAMETER,
                format!("there is no parameter ${}", index + 1),
            )
        })
    }

    /// Rows of a sub-query for these outer values, or the private error that asks for them.
    pub(crate) fn subquery(&self, plan: usize, outer: &[Datum]) -> Result<Rows> {
        let shared = self
            .shared
            .ok_or_else(|| PgError::unsupported("a sub-query is not supported here yet"))?;
        let key = (plan, fingerprint(outer));
        if let Some(rows) = shared.cache.lock().results.get(&key) {
            return Ok(rows.clone());
        }
        *shared.pending.lock() = Some((plan, outer.to_vec()));
        Err(need())
    }

    pub(crate) fn subquery_type(&self, plan: usize) -> PgType {
        self.shared
            .and_then(|s| s.subplans.get())
            .and_then(|p| p.get(plan))
            .and_then(|p| p.output.first())
            .map_or(PgType::new(0), |(_, ty)| *ty)
    }
}

/// Bytes that are equal only for equal representations.
pub(crate) fn fingerprint(values: &[Datum]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() * 10);
    for value in values {
        match value {
            Datum::Null => out.push(0),
            Datum::Bool(v) => out.extend([1, u8::from(*v)]),
            Datum::Int2(v) => fixed(&mut out, 2, &v.to_be_bytes()),
            Datum::Int4(v) => fixed(&mut out, 3, &v.to_be_bytes()),
            Datum::Int8(v) => fixed(&mut out, 4, &v.to_be_bytes()),
            Datum::Oid(v) => fixed(&mut out, 5, &v.to_be_bytes()),
            Datum::Timestamp(v) | Datum::TimestampTz(v) => fixed(&mut out, 6, &v.to_be_bytes()),
            Datum::Text(s) => {
                out.push(7);
                out.extend((s.len() as u64).to_be_bytes());
                out.extend(s.as_bytes());
            }
            Datum::Uuid(v) => fixed(&mut out, 8, v),
            other => {
                let text = format!("{other:?}");
                out.push(9);
                out.extend((text.len() as u64).to_be_bytes());
                out.extend(text.as_bytes());
            }
        }
    }
    out
}

fn fixed(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

impl Shared {
    /// Begins an execution: nothing of the last one remains.
    pub(crate) fn begin(&self, frame: Arc<Frame>) {
        *self.frame.write() = Some(frame);
        *self.cache.lock() = Cache::default();
        *self.pending.lock() = None;
        self.ctes.lock().clear();
        self.spools.lock().clear();
        self.affected.store(0, Ordering::Relaxed);
    }

    /// Ends an execution, so that a kept plan holds nothing of it.
    pub(crate) fn end(&self) {
        *self.frame.write() = None;
        *self.cache.lock() = Cache::default();
        self.ctes.lock().clear();
        self.spools.lock().clear();
    }

    pub(crate) fn set_subplans(&self, plans: Vec<SubPlan>) {
        let _ = self.subplans.set(plans);
    }

    /// The execution under way.
    pub(crate) fn frame(&self) -> Result<Arc<Frame>> {
        self.frame.read().clone().ok_or_else(|| PgError::internal("the plan is not running"))
    }

    /// Evaluates something that holds no sub-query, or none that is not known yet.
    pub(crate) fn eval<T>(&self, f: impl FnOnce(&Cx<'_>) -> Result<T>) -> Result<T> {
        let frame = self.frame()?;
        let outers = self.outers.read().clone();
        let (eval, params) = (&frame.ctx.eval, &frame.ctx.params[..]);
        f(&Cx { eval, params, outers: &outers, locals: &[], shared: Some(self) })
    }

    /// Evaluates something, running sub-queries as it turns out to need them.
    pub(crate) async fn eval_async<T>(&self, mut f: impl FnMut(&Cx<'_>) -> Result<T>) -> Result<T> {
        loop {
            match self.eval(&mut f) {
                Err(e) if e.state() == NEED => self.run_pending().await?,
                result => return result,
            }
        }
    }

    /// Sets a slot of the outer row.
    pub(crate) fn set_outer(&self, slot: usize, value: Datum) {
        let mut outers = self.outers.write();
        let outers = Arc::make_mut(&mut outers);
        if outers.len() <= slot {
            outers.resize(slot + 1, Datum::Null);
        }
        outers[slot] = value;
    }

    /// What DML evaluates with. It runs inside a job, which cannot serve the jobs of a sub-query: an
    /// evaluation that fails for want of one is made again after [`Shared::run_pending`].
    pub(crate) fn cx<'a>(&'a self, ctx: &'a StatementContext) -> Cx<'a> {
        Cx { shared: Some(self), ..Cx::plain(ctx) }
    }

    /// Runs the sub-query that an evaluation has asked for.
    pub(crate) fn run_pending(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let Some((plan, outer)) = self.pending.lock().take() else {
                return Err(PgError::internal("no sub-query is pending"));
            };
            let mut memory = reservation("sub-query", &self.frame()?.task);
            let rows = self.run_subplan(plan, &outer, &memory).await?;
            let rows = Arc::new(Found { rows, members: OnceLock::new() });
            let mut cache = self.cache.lock();
            let cache = &mut *cache;
            let bytes = if outer.is_empty() { &mut cache.kept_bytes } else { &mut cache.bytes };
            match bytes {
                Some(bytes) => {
                    let more = memory.take().size();
                    bytes.grow(more);
                }
                None => *bytes = Some(memory),
            }
            if cache.rows > CACHED_ROWS_MAX {
                // Results of sub-queries without outer columns are kept: they are not run twice.
                cache.results.retain(|(_, key), _| key.is_empty());
                cache.rows = 0;
                cache.bytes = None;
            }
            if !outer.is_empty() {
                cache.rows += rows.rows.len() + 1;
            }
            cache.results.insert((plan, fingerprint(&outer)), rows);
            Ok(())
        })
    }

    async fn run_subplan(
        &self,
        plan: usize,
        outer: &[Datum],
        memory: &MemoryReservation,
    ) -> Result<Vec<Vec<Datum>>> {
        let subplan = self
            .subplans
            .get()
            .and_then(|p| p.get(plan))
            .ok_or_else(|| PgError::internal("unknown sub-plan"))?;
        for (slot, value) in subplan.outer.iter().zip(outer) {
            self.set_outer(*slot, value.clone());
        }
        let mut rows = Vec::new();
        let mut stream = self.start(&subplan.plan)?;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|e| from_datafusion(&e))?;
            let mut bytes = 0;
            for row in 0..batch.num_rows() {
                let values = subplan
                    .output
                    .iter()
                    .map(|(at, ty)| values::datum_at(batch.column(*at), row, *ty));
                let values: Vec<Datum> = values.collect();
                bytes += 24 + values.iter().map(|v| 32 + values::heap_bytes(v)).sum::<usize>();
                rows.push(values);
                if rows.len() >= subplan.enough {
                    return Ok(rows);
                }
            }
            grow(memory, bytes)?;
        }
        Ok(rows)
    }

    /// Starts a plan of this statement anew.
    pub(crate) fn start(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
    ) -> Result<datafusion_execution::SendableRecordBatchStream> {
        let plan = reset_plan_states(plan.clone()).map_err(|e| from_datafusion(&e))?;
        let task = self.frame()?.task.clone();
        plan.execute(0, task).map_err(|e| from_datafusion(&e))
    }

    /// Runs a job on the transaction's owner.
    pub(crate) async fn job<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a, 't> FnOnce(&'a mut Driver<'t>) -> BoxFuture<'a, Result<T>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |driver| {
            Box::pin(async move {
                let _ = reply.send(f(driver).await);
            })
        });
        let gone = || PgError::new(SqlState::QUERY_CANCELED, "the statement has ended");
        self.frame()?.jobs.0.send(job).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Adds to a relation's counters: finished loops, rows, and the milliseconds of one loop.
    pub(crate) fn count(
        &self,
        relation: usize,
        loops: u64,
        rows: u64,
        startup_ms: f64,
        total_ms: f64,
    ) {
        let mut actuals = self.actuals.lock();
        let actual: &mut Actual = actuals.entry(relation).or_default();
        actual.rows += rows;
        if loops > 0 {
            #[expect(clippy::cast_precision_loss, reason = "an average for people to read")]
            let n = actual.loops as f64;
            actual.startup_ms = (actual.startup_ms * n + startup_ms) / (n + 1.0);
            actual.total_ms = (actual.total_ms * n + total_ms) / (n + 1.0);
            actual.loops += loops;
        }
    }

    /// What was counted.
    pub(crate) fn actuals(&self) -> Actuals {
        let mut actuals = self.actuals.lock().clone();
        // A loop that a LIMIT cut short has begun, too.
        actuals.values_mut().for_each(|a| a.loops = a.loops.max(1));
        actuals
    }

    pub(crate) fn cte(&self, id: u32) -> Option<Arc<Vec<RecordBatch>>> {
        self.ctes.lock().get(&id).cloned()
    }

    pub(crate) fn spool(&self, id: usize) -> Option<Spool> {
        self.spools.lock().get(&id).cloned()
    }

    pub(crate) fn set_spool(&self, id: usize, spool: Spool) {
        self.spools.lock().insert(id, spool);
    }

    pub(crate) fn set_cte(&self, id: u32, rows: Arc<Vec<RecordBatch>>) {
        self.ctes.lock().insert(id, rows);
    }
}
