//! AS OF SYSTEM TIME: reading the past, by statement or by transaction.
//!
//! A statement that names a time reads in a transaction of its own at that time, beside the session's,
//! whose uncommitted changes it doesn't see. A transaction that names one is read-only. Names are bound in
//! the catalog of now; a table that has another form now than it had then is refused, since its rows can't
//! be read by a form that they don't have. Views and privileges are those of now.
//!
//! A time is a `timestamptz`, a distance from now as an interval (`'-10s'`), or a timestamp of the store as
//! a decimal number: nanoseconds since 1970, and behind the point the count within a microsecond, in ten
//! digits.
//!
//! With `follower_reads` each read-only transaction is such a one, at a time that this node's copies of all
//! ranges serve by themselves; so it asks no other node. `follower_read_timestamp()` is that time.

use std::sync::Arc;
use std::time::Duration;

use meridian_cluster::{Isolation, Timestamp, Txn, TxnOptions};
use meridian_exec::catalog_store::same_form_then;
use meridian_exec::{evaluate, evaluate_in, from_kv};
use meridian_sql::bind::Binder;
use meridian_sql::parse::Source;
use meridian_sql::parse::statement::TransactionModes;
use meridian_types::registry::{self, CallInfo};
use meridian_types::{Datum, EvalContext, PgError, PgType, Result, SqlState, io, oid};

use crate::session::Session;
use crate::statements::Plan;

/// The transaction in which a statement reads the past; `None`: it reads in the session's.
pub(crate) type Past = Option<Box<Txn>>;

/// From PostgreSQL's epoch back to Unix' one.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

impl Session {
    /// The time that a transaction is to read at, if its modes say so.
    pub(crate) fn time_of_modes(
        &mut self,
        modes: &TransactionModes,
        text: &Arc<str>,
    ) -> Result<Option<Timestamp>> {
        let Some(time) = &modes.as_of else { return Ok(None) };
        let late = |message: &str| PgError::new(SqlState::ACTIVE_SQL_TRANSACTION, message);
        if modes.read_only == Some(false) {
            return Err(not_writable());
        }
        if self.block.depth() > 0 {
            return Err(late("AS OF SYSTEM TIME must not be set in a subtransaction"));
        }
        if self.block.used {
            return Err(late("AS OF SYSTEM TIME must be set before any query"));
        }
        let (view, eval) = (self.view(), self.eval());
        let source = Source { text: Arc::clone(text), visible: true };
        let time = Binder::new(&*view, &eval, &source, &[], false).bind_time(time)?;
        self.timestamp(&evaluate(&time, &eval)?, &eval).map(Some)
    }

    /// Takes the session's transaction at a time; it has done nothing yet.
    pub(crate) fn begin_at(&mut self, time: Timestamp) -> Result<()> {
        let txn = self.past_txn(time)?;
        if let Some(mut before) = self.block.txn.replace(txn) {
            before.rollback();
        }
        (self.block.as_of, self.block.read_only) = (Some(time), true);
        self.block.follows = false;
        Ok(())
    }

    /// When a transaction reads that may read what this node's copies have.
    pub(crate) fn follower_time(&mut self) -> Option<Timestamp> {
        let settings = self.hot();
        if !settings.follower_reads || !self.block.read_only {
            return None;
        }
        let staleness = Duration::from_millis(settings.follower_read_staleness_ms);
        Some(self.node.store().follower_timestamp(staleness))
    }

    fn past_txn(&mut self, time: Timestamp) -> Result<Txn> {
        let options = TxnOptions {
            isolation: Isolation::RepeatableRead,
            read_only: true,
            backend: self.shared.backend(),
            database: self.shared.identity().database,
        };
        let mut txn = self.node.store().begin_as_of(options, time).map_err(from_kv)?;
        txn.set_cancel(self.interrupt.token());
        Ok(txn)
    }

    /// Before a statement reads: a transaction at its own time, if it names one. Whether it or the session's
    /// transaction reads the past, its tables must have been then what they are now.
    pub(crate) async fn enter_past(&mut self, plan: &Plan, params: &[Datum]) -> Result<Past> {
        let query = plan.query();
        let Some(time) = &query.as_of else {
            if self.block.as_of.is_some()
                && let Some(txn) = &mut self.block.txn
            {
                for (table, _) in &query.tables {
                    same_form_then(txn, table).await?;
                }
            }
            return Ok(None);
        };
        let ctx = self.statement_context(plan, params);
        let time = self.timestamp(&evaluate_in(time, &ctx)?, &ctx.eval)?;
        let mut txn = self.past_txn(time)?;
        for (table, _) in &query.tables {
            same_form_then(&mut txn, table).await?;
        }
        Ok(Some(Box::new(txn)))
    }

    /// The timestamp that a value of AS OF SYSTEM TIME stands for.
    fn timestamp(&self, value: &Datum, eval: &EvalContext) -> Result<Timestamp> {
        let time = read(value, self.statement_time, eval)?;
        if time > self.node.store().now() {
            let text = "AS OF SYSTEM TIME: the time is in the future";
            return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, text));
        }
        Ok(time)
    }
}

/// `25006` for a transaction that is to read the past and to write.
pub(crate) fn not_writable() -> PgError {
    let text = "a transaction AS OF SYSTEM TIME cannot be set to read-write mode";
    PgError::new(SqlState::READ_ONLY_SQL_TRANSACTION, text)
}

fn read(value: &Datum, now: i64, eval: &EvalContext) -> Result<Timestamp> {
    match value {
        Datum::TimestampTz(micros) => Ok(at(*micros)),
        Datum::Interval(_) => {
            let add = registry::scalar("timestamptz_pl_interval")
                .ok_or_else(|| PgError::internal("times cannot be added to"))?;
            let call = CallInfo { ctx: eval, args: &[], ret: PgType::new(oid::TIMESTAMPTZ) };
            match add(&call, &[Datum::TimestampTz(now), value.clone()])? {
                Datum::TimestampTz(micros) => Ok(at(micros)),
                _ => Err(PgError::internal("a time and an interval make a time")),
            }
        }
        Datum::Text(text) => read_text(text.trim(), now, eval),
        Datum::Null => {
            let text = "AS OF SYSTEM TIME must not be null";
            Err(PgError::new(SqlState::NULL_VALUE_NOT_ALLOWED, text))
        }
        _ => Err(PgError::internal("a time of another type")),
    }
}

fn read_text(text: &str, now: i64, eval: &EvalContext) -> Result<Timestamp> {
    if text.starts_with(|c: char| c.is_ascii_digit())
        && let Some(time) = decimal(text)
    {
        return Ok(time);
    }
    // `-1h` would be a time zone to timestamps.
    let distance = text.starts_with(['-', '+']);
    if !distance && let Ok(time) = io::text_in(oid::TIMESTAMPTZ, -1, text, eval) {
        return read(&time, now, eval);
    }
    match io::text_in(oid::INTERVAL, -1, text, eval) {
        Ok(interval) => read(&interval, now, eval),
        Err(_) => {
            let text = format!("AS OF SYSTEM TIME: invalid value: \"{text}\"");
            Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, text)
                .hint("It takes a time, an interval such as '-10s', or a timestamp as a decimal."))
        }
    }
}

/// Nanoseconds, and behind the point the count within a microsecond.
fn decimal(text: &str) -> Option<Timestamp> {
    let (nanos, count) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !digits(nanos) || !digits(count) || count.len() > 10 || nanos.len() < 12 {
        return None;
    }
    let micros = nanos.parse::<u64>().ok()? / 1000;
    let count: u64 = format!("{count:0<10}").parse().ok()?;
    Some(Timestamp(Timestamp::from_micros(micros).0 | count.min(0xFFF)))
}

/// The timestamp of a `timestamptz`.
fn at(micros: i64) -> Timestamp {
    let unix = micros.saturating_add(EPOCH_MICROS).max(0).cast_unsigned();
    Timestamp::from_micros(unix.min(u64::MAX >> 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_their_forms() {
        let eval = EvalContext::bare();
        // 2026-01-01 00:00:00 UTC
        let now = 820_540_800_000_000_i64;
        let unix = now.cast_unsigned() + EPOCH_MICROS.cast_unsigned();
        let text =
            |text: &str| read(&Datum::text(text), now, &eval).map(|ts| (ts.micros(), ts.logical()));
        assert_eq!(text("-1s"), Ok((unix - 1_000_000, 0)));
        assert_eq!(text("-00:00:00.5"), Ok((unix - 500_000, 0)));
        assert_eq!(text(" -1 hour "), Ok((unix - 3_600_000_000, 0)));
        assert_eq!(text("2026-01-01 00:00:00+00"), Ok((unix, 0)));
        assert_eq!(text("1767225600000001000"), Ok((unix + 1, 0)));
        assert_eq!(text("1767225600000001000.0000000007"), Ok((unix + 1, 7)));
        for wrong in ["", "soon", "-infinity"] {
            let error = text(wrong).expect_err("no time");
            assert_eq!(error.state(), SqlState::INVALID_PARAMETER_VALUE, "{wrong}");
        }
    }
}
