//! DECLARE, FETCH, MOVE, CLOSE.
//!
//! A cursor reads its query as rows are asked for, and keeps what it has read, so that it can go
//! back. A cursor WITH HOLD reads all of it when its transaction commits.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use meridian_exec::Cursor;
use meridian_sql::ast;
use meridian_sql::parse::statement::{DeclareCursor, Direction};
use meridian_types::{EvalContext, PgError, Result, SqlState};

use crate::Fault;
use crate::block::needs_block;
use crate::client::{Client, ResultColumn};
use crate::extended::with_formats;
use crate::past::Past;
use crate::run::{self, Running, no_retry, no_transaction};
use crate::session::Session;
use crate::statements::PreparedStatement;

/// Rows read at once when a cursor goes forward.
const READ_ROWS: usize = 1024;

/// A cursor made by DECLARE.
pub(crate) struct SqlCursor {
    columns: Arc<[ResultColumn]>,
    eval: EvalContext,
    /// `None` when all rows are in `rows`.
    source: Option<Box<Cursor>>,
    /// The transaction that its query reads in, if not the session's.
    past: Past,
    rows: Vec<RecordBatch>,
    /// Rows in `rows`.
    read: usize,
    /// Place of the current row, from 1; 0 is before the first, `read + 1` after the last.
    at: usize,
    scroll: bool,
    hold: bool,
    /// Number of savepoints when it was made: ROLLBACK TO an older one closes it.
    depth: usize,
    pub(crate) held: bool,
    /// The error that its query has come to behind the rows read.
    error: Option<PgError>,
    /// That error was given: there is no going on.
    failed: bool,
}

impl SqlCursor {
    pub(crate) fn columns(&self) -> Arc<[ResultColumn]> {
        Arc::clone(&self.columns)
    }

    /// Is it to outlive the transaction that is still open?
    pub(crate) fn is_to_be_held(&self) -> bool {
        self.hold && !self.held
    }

    /// The row at a place from 1, as a batch of one.
    fn row(&self, place: usize) -> Option<RecordBatch> {
        let mut left = place.checked_sub(1)?;
        for batch in &self.rows {
            if left < batch.num_rows() {
                return Some(batch.slice(left, 1));
            }
            left -= batch.num_rows();
        }
        None
    }
}

impl Session {
    /// DECLARE
    pub(crate) async fn declare(
        &mut self,
        outer: &PreparedStatement,
        declare: &DeclareCursor,
    ) -> Result<String> {
        if !declare.hold && !self.block.is_explicit() {
            return Err(needs_block("DECLARE CURSOR"));
        }
        let name = &declare.name.value;
        if self.cursors.contains_key(name) {
            return Err(PgError::new(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{name}\" already exists"),
            ));
        }
        let view = self.view();
        let query = (&*declare.query, declare.as_of.as_deref());
        let plan = Arc::new(self.bind_query(view, &outer.text, query, &[], false)?);
        self.limit_locks();
        if let Some(txn) = &mut self.block.txn {
            for (table, lock) in &plan.query().tables {
                let locked = txn.lock_table(table.oid, run::lock_mode(*lock), false).await;
                locked.map_err(meridian_exec::from_kv)?;
            }
        }
        let past = self.enter_past(&plan, &[]).await?;
        self.pin_cursors().await?;
        self.begin_statement();
        let ctx = self.statement_context(&plan, &[]);
        let eval = ctx.eval.clone();
        let source = Cursor::open(&plan.prepared, ctx).map_err(no_retry)?;
        let columns = if declare.binary {
            with_formats(&plan.columns, &[1])
        } else {
            Arc::clone(&plan.columns)
        };
        let cursor = SqlCursor {
            columns,
            eval,
            source: Some(Box::new(source)),
            past,
            rows: vec![],
            read: 0,
            at: 0,
            scroll: declare.scroll != Some(false),
            hold: declare.hold,
            depth: self.block.depth(),
            held: false,
            error: None,
            failed: false,
        };
        self.cursors.insert(name.clone(), cursor);
        Ok("DECLARE CURSOR".to_owned())
    }

    /// FETCH and MOVE: the command tag.
    pub(crate) async fn fetch<C: Client>(
        &mut self,
        name: &str,
        direction: Direction,
        only_move: bool,
        formats: &[i16],
        client: &mut C,
    ) -> Result<String, Fault> {
        let mut cursor = self.cursors.remove(name).ok_or_else(|| {
            PgError::new(SqlState::INVALID_CURSOR_NAME, format!("cursor \"{name}\" does not exist"))
        })?;
        if cursor.failed {
            self.cursors.insert(name.to_owned(), cursor);
            return Err(PgError::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("portal \"{name}\" cannot be run"),
            )
            .into());
        }
        let outcome = self.fetch_from(&mut cursor, direction, only_move, formats, client).await;
        self.cursors.insert(name.to_owned(), cursor);
        outcome
    }

    async fn fetch_from<C: Client>(
        &mut self,
        cursor: &mut SqlCursor,
        direction: Direction,
        only_move: bool,
        formats: &[i16],
        client: &mut C,
    ) -> Result<String, Fault> {
        let columns = with_formats(&cursor.columns, formats);
        if !only_move && self.shared.simple() {
            client.row_description(&columns);
        }
        let places = self.move_cursor(cursor, direction).await?;
        if !only_move {
            for place in &places {
                if let Some(row) = cursor.row(*place) {
                    run::send(&row, &columns, &cursor.eval, client).await?;
                }
            }
        }
        let word = if only_move { "MOVE" } else { "FETCH" };
        Ok(format!("{word} {}", places.len()))
    }

    /// Moves a cursor: the places of the rows that it passes, in order.
    async fn move_cursor(
        &mut self,
        cursor: &mut SqlCursor,
        direction: Direction,
    ) -> Result<Vec<usize>> {
        let here = cursor.at;
        let backward = |n: usize| -> (usize, Vec<usize>) {
            let to = here.saturating_sub(n);
            (to, (to.max(1)..here).rev().collect())
        };
        let count = |n: i64| usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
        let (at, places) = match direction {
            Direction::ForwardAll => {
                self.read_to(cursor, usize::MAX).await?;
                (cursor.read + 1, (here + 1..=cursor.read).collect())
            }
            Direction::Forward(0) | Direction::Backward(0) | Direction::Relative(0) => {
                let on_row = here >= 1 && here <= cursor.read;
                (here, if on_row { vec![here] } else { vec![] })
            }
            Direction::Forward(n) if n > 0 => {
                let last = here.saturating_add(count(n));
                self.read_to(cursor, last).await?;
                let end = last.min(cursor.read);
                let at = if last > cursor.read { cursor.read + 1 } else { last };
                (at, (here + 1..=end).collect())
            }
            Direction::Backward(n) if n < 0 => {
                return Box::pin(self.move_cursor(cursor, Direction::Forward(-n))).await;
            }
            Direction::Forward(n) | Direction::Backward(n) => backward(count(n)),
            Direction::BackwardAll => backward(usize::MAX),
            Direction::Absolute(n) => {
                let place = self.absolute(cursor, n).await?;
                (place, if (1..=cursor.read).contains(&place) { vec![place] } else { vec![] })
            }
            Direction::Relative(n) => {
                let place = i64::try_from(here).unwrap_or(i64::MAX).saturating_add(n).max(0);
                let place = self.absolute(cursor, place).await?;
                (place, if (1..=cursor.read).contains(&place) { vec![place] } else { vec![] })
            }
        };
        if at < here && !cursor.scroll {
            return Err(PgError::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "cursor can only scan forward",
            )
            .hint("Declare it with SCROLL option to enable backward scan."));
        }
        cursor.at = at;
        Ok(places)
    }

    /// The place of the n-th row, from the end when negative; 0 or one past the last when outside.
    async fn absolute(&mut self, cursor: &mut SqlCursor, n: i64) -> Result<usize> {
        let wanted = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
        if n >= 0 {
            self.read_to(cursor, wanted).await?;
            return Ok(wanted.min(cursor.read + 1));
        }
        self.read_to(cursor, usize::MAX).await?;
        Ok((cursor.read + 1).saturating_sub(wanted))
    }

    /// Reads until the cursor has this many rows, or all.
    async fn read_to(&mut self, cursor: &mut SqlCursor, rows: usize) -> Result<()> {
        while cursor.read < rows {
            if let Some(error) = cursor.error.take() {
                (cursor.failed, cursor.source) = (true, None);
                return Err(error);
            }
            let Some(source) = &mut cursor.source else { return Ok(()) };
            let txn = cursor.past.as_deref_mut().or(self.block.txn.as_mut());
            let txn = txn.ok_or_else(no_transaction)?;
            let want = (rows - cursor.read).min(READ_ROWS);
            let next = source.next(txn, want).await.map_err(no_retry);
            match next {
                Err(error) => cursor.error = Some(error),
                Ok(Some(batch)) => {
                    cursor.read += batch.num_rows();
                    cursor.rows.push(batch);
                }
                Ok(None) => cursor.source = None,
            }
        }
        Ok(())
    }

    /// Whether anything may have to be pinned. The portal that is being executed is not among them.
    pub(crate) fn has_open_portals(&self) -> bool {
        !self.cursors.is_empty() || !self.portals.is_empty() || self.unnamed_portal.is_some()
    }

    /// Suspended portals read the rest of their rows, too.
    async fn pin_portals(&mut self) -> Result<()> {
        let Some(txn) = &mut self.block.txn else { return Ok(()) };
        for portal in self.portals.values_mut().chain(&mut self.unnamed_portal) {
            // Who reads the past goes on seeing it.
            let Running::Streaming(cursor, eval, None) = &mut portal.running else { continue };
            let (mut batches, mut error) = (vec![], None);
            loop {
                match cursor.next(txn, usize::MAX).await.map_err(no_retry) {
                    Ok(Some(batch)) => batches.push(batch),
                    Ok(None) => break,
                    Err(e) if e.state() == SqlState::QUERY_CANCELED => return Err(e),
                    Err(e) => {
                        error = Some(e);
                        break;
                    }
                }
            }
            let (eval, rows) = (eval.clone(), cursor.row_count());
            portal.running = Running::Stored { batches, at: 0, eval, rows, error };
        }
        Ok(())
    }

    /// Before a statement that may write or takes a new snapshot: open cursors read the rest of
    /// their rows, for they show the data as of DECLARE. An error is told when a FETCH gets there.
    pub(crate) async fn pin_cursors(&mut self) -> Result<()> {
        self.pin_portals().await?;
        if self.cursors.values().all(|c| c.source.is_none() || c.error.is_some()) {
            return Ok(());
        }
        let mut cursors = std::mem::take(&mut self.cursors);
        let mut outcome = Ok(());
        for cursor in cursors.values_mut().filter(|cursor| cursor.past.is_none()) {
            while let Some(source) = cursor.source.as_mut().filter(|_| cursor.error.is_none()) {
                let Some(txn) = &mut self.block.txn else { break };
                match source.next(txn, READ_ROWS).await.map_err(no_retry) {
                    Ok(Some(batch)) => {
                        cursor.read += batch.num_rows();
                        cursor.rows.push(batch);
                    }
                    Ok(None) => cursor.source = None,
                    Err(error) if error.state() == SqlState::QUERY_CANCELED => {
                        outcome = Err(error);
                        break;
                    }
                    Err(error) => cursor.error = Some(error),
                }
            }
        }
        self.cursors = cursors;
        outcome
    }

    /// CLOSE
    pub(crate) fn close_cursor(&mut self, name: Option<&ast::Ident>) -> Result<String> {
        match name {
            None => {
                self.cursors.clear();
                Ok("CLOSE CURSOR ALL".to_owned())
            }
            Some(name) => match self.cursors.remove(&name.value) {
                Some(_) => Ok("CLOSE CURSOR".to_owned()),
                None => Err(PgError::new(
                    SqlState::INVALID_CURSOR_NAME,
                    format!("cursor \"{}\" does not exist", name.value),
                )),
            },
        }
    }

    /// Before the commit: cursors WITH HOLD read the rest of their rows.
    pub(crate) async fn hold_cursors(&mut self) -> Result<()> {
        let names: Vec<String> = self.cursors.keys().cloned().collect();
        for name in names {
            let Some(mut cursor) = self.cursors.remove(&name) else { continue };
            if cursor.hold && !cursor.held {
                self.read_to(&mut cursor, usize::MAX).await?;
                cursor.held = true;
            }
            self.cursors.insert(name, cursor);
        }
        Ok(())
    }

    /// The transaction has ended: its portals and cursors are closed, held ones stay.
    pub(crate) fn close_portals_at_end(&mut self, committed: bool) {
        self.portals.clear();
        self.unnamed_portal = None;
        self.cursors.retain(|_, cursor| {
            let stays = cursor.held && (committed || cursor.depth == usize::MAX);
            if stays {
                cursor.depth = usize::MAX;
            }
            stays
        });
    }

    /// ROLLBACK TO: what was opened after the savepoint is closed.
    pub(crate) fn close_portals_newer_than(&mut self, depth: usize) {
        self.cursors.retain(|_, cursor| cursor.depth < depth || cursor.depth == usize::MAX);
    }
}
