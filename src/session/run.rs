//! Runs a portal: locks its tables, takes the snapshot, and runs it again where READ COMMITTED asks
//! for it.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use meridian_cluster::{Isolation, TableLockMode};
use meridian_exec::keypath::{Format, KeyPlan};
use meridian_exec::virtuals::SessionInfo;
use meridian_exec::{Cursor, ExecError, StatementContext, from_kv};
use meridian_sql::plan::{Command, Query, TableLock};
use meridian_types::{Datum, EvalContext, PgError, Result, SqlState};

use smallvec::SmallVec;

use crate::Fault;
use crate::client::{Client, ResultColumn};
use crate::extended::{Params, Portal};
use crate::output;
use crate::past::Past;
use crate::session::Session;
use crate::statements::Plan;

/// Rows that are written before the buffer is looked at.
const ROWS_BETWEEN_FLUSHES: usize = 256;

/// How far a portal has come.
pub(crate) enum Running {
    /// It has not been executed.
    NotStarted,
    /// Its rows are read as they are asked for.
    Streaming(Box<Cursor>, EvalContext, Past),
    /// All its rows are here: those of a statement that writes, or of a suspended portal when
    /// another statement was run. Behind them may stand an error.
    Stored {
        batches: Vec<RecordBatch>,
        at: usize,
        eval: EvalContext,
        rows: u64,
        error: Option<PgError>,
    },
    /// It has given its last row.
    Done,
}

/// Result formats as the key path takes them.
pub(crate) fn wire_formats(formats: &[i16]) -> SmallVec<[Format; 4]> {
    formats.iter().map(|f| if *f == 1 { Format::Binary } else { Format::Text }).collect()
}

/// The KV layer's name for a table lock.
pub(crate) fn lock_mode(lock: TableLock) -> TableLockMode {
    match lock {
        TableLock::AccessShare => TableLockMode::AccessShare,
        TableLock::RowShare => TableLockMode::RowShare,
        TableLock::RowExclusive => TableLockMode::RowExclusive,
        TableLock::ShareUpdateExclusive => TableLockMode::ShareUpdateExclusive,
        TableLock::Share => TableLockMode::Share,
        TableLock::ShareRowExclusive => TableLockMode::ShareRowExclusive,
        TableLock::Exclusive => TableLockMode::Exclusive,
        TableLock::AccessExclusive => TableLockMode::AccessExclusive,
    }
}

impl Session {
    /// Runs a portal, or goes on with it, up to `rows_max` rows (0: all).
    pub(crate) async fn run_portal<C: Client>(
        &mut self,
        portal: &mut Portal,
        rows_max: usize,
        client: &mut C,
    ) -> Result<(), Fault> {
        self.shared.active(&portal.text, self.statement_time, self.block.started);
        self.interrupt.begin();
        let timeout = self.hot().statement_timeout_ms;
        let guard = self.interrupt.start_timeout(timeout);
        let outcome = self.run_portal_guarded(portal, rows_max, client).await;
        drop(guard);
        self.interrupt.end();
        self.shared.idle(self.block.status());
        outcome.map_err(|fault| match fault {
            Fault::Error(error) => Fault::Error(self.interrupt.explain(error)),
            Fault::Disconnected => Fault::Disconnected,
        })
    }

    async fn run_portal_guarded<C: Client>(
        &mut self,
        portal: &mut Portal,
        rows_max: usize,
        client: &mut C,
    ) -> Result<(), Fault> {
        if matches!(portal.running, Running::NotStarted) {
            self.ensure_transaction();
            if self.has_open_portals() {
                self.pin_cursors().await?;
            }
            let plan = self.lock_tables(portal).await?;
            let past = self.enter_past(&plan, &portal.params).await?;
            if let Some(key) = plan.key.as_ref().filter(|key| rows_max == 0 || key.gives_one()) {
                let formats = wire_formats(&portal.formats);
                let rows = self.run_key(&plan, key, &portal.params, &formats, client).await?;
                output::command_complete(client.buffer(), plan.query().command, rows);
                portal.running = Running::Done;
                return Ok(());
            }
            self.start(portal, &plan, past).await?;
        }
        self.give_rows(portal, rows_max, client).await
    }

    /// Locks the tables of the portal's plan; binds anew when the catalog has changed meanwhile.
    async fn lock_tables(&mut self, portal: &mut Portal) -> Result<Arc<Plan>> {
        loop {
            let view = self.view();
            let plan = match portal.plan.take() {
                Some(plan) if Arc::ptr_eq(&plan.view, &view) => plan,
                _ => self.plan(&portal.statement)?,
            };
            self.refuse_writes(plan.query())?;
            self.limit_locks();
            if let Some(txn) = &mut self.block.txn {
                for (table, lock) in &plan.query().tables {
                    txn.lock_table(table.oid, lock_mode(*lock), false).await.map_err(from_kv)?;
                }
            }
            let view = self.view();
            portal.plan = Some(Arc::clone(&plan));
            if Arc::ptr_eq(&plan.view, &view) {
                return Ok(plan);
            }
        }
    }

    /// `25006` for what a read-only transaction may not do.
    pub(crate) fn refuse_writes(&self, query: &Query) -> Result<()> {
        let past = query.as_of.is_some() || self.block.as_of.is_some();
        if !(self.block.read_only || past) || !query.writes {
            return Ok(());
        }
        // Temporary tables may be written.
        let only_temporary = query
            .tables
            .iter()
            .filter(|(_, lock)| *lock == TableLock::RowExclusive)
            .all(|(table, _)| table.temp_session.is_some());
        if only_temporary && !past && query.command != Command::Select {
            return Ok(());
        }
        let what = match query.command {
            Command::Select => "SELECT FOR UPDATE",
            Command::Insert => "INSERT",
            Command::Update => "UPDATE",
            Command::Delete => "DELETE",
        };
        Err(read_only(what))
    }

    /// What a statement of this session runs with.
    pub(crate) fn statement_context(
        &mut self,
        plan: &Plan,
        params: &[Datum],
    ) -> Arc<StatementContext> {
        let (memory, eval) = (self.hot().work_mem_bytes, self.eval());
        Arc::new(StatementContext {
            eval,
            params: params.into(),
            node: Arc::clone(&self.node),
            catalog: Arc::clone(&plan.view.catalog),
            memory_bytes: usize::try_from(memory).unwrap_or(usize::MAX),
            cancel: self.interrupt.token(),
            session: Arc::clone(&self.shared) as Arc<dyn SessionInfo>,
            deferred: Arc::clone(&self.block.deferred),
            read_committed: self.block.isolation == Isolation::ReadCommitted,
            backend: self.shared.pid,
        })
    }

    /// The same for a short statement: the last one's context with what has changed since.
    pub(crate) fn short_context(&mut self, plan: &Plan, params: &[Datum]) -> Arc<StatementContext> {
        let Some(mut spare) = self.spare.take() else {
            return self.statement_context(plan, params);
        };
        let Some(ctx) = Arc::get_mut(&mut spare) else {
            return self.statement_context(plan, params);
        };
        self.fill_eval(&mut ctx.eval);
        match Arc::get_mut(&mut ctx.params) {
            Some(kept) if kept.len() == params.len() => kept.clone_from_slice(params),
            _ => ctx.params = params.into(),
        }
        replace_if_other(&mut ctx.catalog, &plan.view.catalog);
        replace_if_other(&mut ctx.deferred, &self.block.deferred);
        ctx.memory_bytes = usize::try_from(self.hot().work_mem_bytes).unwrap_or(usize::MAX);
        ctx.read_committed = self.block.isolation == Isolation::ReadCommitted;
        spare
    }

    /// Starts the operators. A statement that writes or locks rows runs to its end here, again and
    /// again until it has met no row newer than its snapshot.
    async fn start(&mut self, portal: &mut Portal, plan: &Arc<Plan>, past: Past) -> Result<()> {
        loop {
            self.begin_statement();
            let ctx = self.statement_context(plan, &portal.params);
            let eval = ctx.eval.clone();
            let mut cursor = match Cursor::open(&plan.prepared, ctx) {
                Ok(cursor) => cursor,
                Err(ExecError::StatementRetry) => continue,
                Err(ExecError::Pg(error)) => return Err(error),
            };
            if !plan.query().writes {
                portal.running = Running::Streaming(Box::new(cursor), eval, past);
                return Ok(());
            }
            match self.drain(&mut cursor, &mut None).await {
                Ok(batches) => {
                    let rows = cursor.row_count();
                    portal.running = Running::Stored { batches, at: 0, eval, rows, error: None };
                    return Ok(());
                }
                Err(ExecError::StatementRetry) => {}
                Err(ExecError::Pg(error)) => return Err(error),
            }
        }
    }

    /// All rows of a cursor.
    pub(crate) async fn drain(
        &mut self,
        cursor: &mut Cursor,
        past: &mut Past,
    ) -> Result<Vec<RecordBatch>, ExecError> {
        let txn = past.as_deref_mut().or(self.block.txn.as_mut()).ok_or_else(no_transaction)?;
        let mut batches = Vec::new();
        while let Some(batch) = cursor.next(txn, usize::MAX).await? {
            batches.push(batch);
        }
        Ok(batches)
    }

    /// Sends rows; says whether the portal is done, or suspended.
    async fn give_rows<C: Client>(
        &mut self,
        portal: &mut Portal,
        rows_max: usize,
        client: &mut C,
    ) -> Result<(), Fault> {
        let columns = portal.columns().unwrap_or_default();
        let command = portal.plan.as_ref().map_or(Command::Select, |plan| plan.query().command);
        let mut left = if rows_max == 0 { usize::MAX } else { rows_max };
        let mut given = 0u64;
        loop {
            if left == 0 {
                client.portal_suspended();
                return Ok(());
            }
            let Some((batch, eval)) = self.next_batch(portal, left).await? else { break };
            left -= batch.num_rows();
            given += batch.num_rows() as u64;
            send(&batch, &columns, &eval, client).await?;
        }
        let rows = match &portal.running {
            Running::Stored { rows, .. } if command != Command::Select => *rows,
            _ => given,
        };
        portal.running = Running::Done;
        output::command_complete(client.buffer(), command, rows);
        Ok(())
    }

    /// The next rows of a portal, at most this many.
    async fn next_batch(
        &mut self,
        portal: &mut Portal,
        rows_max: usize,
    ) -> Result<Option<(RecordBatch, EvalContext)>> {
        match &mut portal.running {
            Running::Streaming(cursor, eval, past) => {
                let txn = past.as_deref_mut().or(self.block.txn.as_mut());
                let txn = txn.ok_or_else(no_transaction)?;
                match cursor.next(txn, rows_max).await {
                    Ok(batch) => Ok(batch.map(|batch| (batch, eval.clone()))),
                    // Nobody has seen anything of it yet.
                    Err(ExecError::StatementRetry) if cursor.row_count() == 0 && past.is_none() => {
                        let plan = portal.plan.clone().ok_or_else(no_transaction)?;
                        self.start(portal, &plan, None).await?;
                        Box::pin(self.next_batch(portal, rows_max)).await
                    }
                    Err(error) => Err(no_retry(error)),
                }
            }
            Running::Stored { batches, at, eval, error, .. } => {
                let Some(first) = batches.first().cloned() else {
                    return error.take().map_or(Ok(None), Err);
                };
                let n = (first.num_rows() - *at).min(rows_max);
                let piece = first.slice(*at, n);
                *at += n;
                if *at == first.num_rows() {
                    batches.remove(0);
                    *at = 0;
                }
                Ok(Some((piece, eval.clone())))
            }
            Running::NotStarted | Running::Done => Ok(None),
        }
    }

    /// Runs the short way: one or a few keys, no operators.
    async fn run_key<C: Client>(
        &mut self,
        plan: &Arc<Plan>,
        key: &KeyPlan,
        params: &Params,
        formats: &[Format],
        client: &mut C,
    ) -> Result<u64> {
        let ctx = self.short_context(plan, params);
        loop {
            self.begin_statement();
            let txn = self.block.txn.as_mut().ok_or_else(no_transaction)?;
            let out = client.buffer();
            let start = out.len();
            match key.run(&ctx, txn, formats, out).await {
                Ok(rows) => {
                    self.spare = Some(ctx);
                    return Ok(rows);
                }
                Err(ExecError::StatementRetry) => client.buffer().truncate(start),
                Err(ExecError::Pg(error)) => {
                    client.buffer().truncate(start);
                    return Err(error);
                }
            }
        }
    }
}

/// Shares `new`, unless this is it: most often it is, and nothing is counted.
pub(crate) fn replace_if_other<T: ?Sized>(old: &mut Arc<T>, new: &Arc<T>) {
    if !Arc::ptr_eq(old, new) {
        *old = Arc::clone(new);
    }
}

/// Sends the rows of a batch.
pub(crate) async fn send<C: Client>(
    batch: &RecordBatch,
    columns: &[ResultColumn],
    eval: &EvalContext,
    client: &mut C,
) -> Result<(), Fault> {
    let mut from = 0;
    while from < batch.num_rows() {
        let to = (from + ROWS_BETWEEN_FLUSHES).min(batch.num_rows());
        output::put_rows(client.buffer(), batch, (from, to), columns, eval)?;
        client.flush_if_full().await?;
        from = to;
    }
    Ok(())
}

/// `25006`
pub(crate) fn read_only(what: &str) -> PgError {
    PgError::new(
        SqlState::READ_ONLY_SQL_TRANSACTION,
        format!("cannot execute {what} in a read-only transaction"),
    )
}

/// The error of a statement that only reads, and has given rows before it was asked to run again: it read
/// from a range that has got a new leaseholder meanwhile.
pub(crate) fn no_retry(error: ExecError) -> PgError {
    match error {
        ExecError::Pg(error) => error,
        ExecError::StatementRetry => {
            let text = "could not serialize access: a range has a new leaseholder";
            PgError::new(SqlState::SERIALIZATION_FAILURE, text)
        }
    }
}

/// A statement runs in a transaction, always.
pub(crate) fn no_transaction() -> PgError {
    PgError::internal("there is no transaction")
}
