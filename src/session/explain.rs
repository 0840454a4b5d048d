//! `EXPLAIN [ANALYZE]`

use std::sync::Arc;

use meridian_base::clock::Instant;
use meridian_catalog::key;
use meridian_cluster::{RangeInfo, Span, Spread};
use meridian_exec::{Cursor, ExecError};
use meridian_sql::explain::{self, Options, Run};
use meridian_sql::parse::{Parsed, Statement};
use meridian_sql::plan::{Command, Query, TableLock};
use meridian_types::io::chars::parse_bool;
use meridian_types::{Datum, PgError, PgType, Result, SqlState, oid};

use crate::Fault;
use crate::client::{Client, ResultColumn};
use crate::extended::{Params, with_formats};
use crate::output;
use crate::run::lock_mode;
use crate::session::Session;
use crate::statements::PreparedStatement;

/// An option as written.
type Given = (String, Option<String>);

/// The column of EXPLAIN's answer.
pub(crate) fn columns(options: &[Given]) -> Arc<[ResultColumn]> {
    let json =
        options.iter().any(|(name, value)| name == "format" && value.as_deref() == Some("json"));
    let ty = PgType::new(if json { oid::JSON } else { oid::TEXT });
    [ResultColumn { name: "QUERY PLAN".into(), ty, origin: None, binary: false }].into()
}

fn read_options(given: &[Given]) -> Result<Options> {
    let mut options = Options::default();
    let mut summary = None;
    let mut timing = None;
    for (name, value) in given {
        let flag = || match value {
            None => Ok(true),
            Some(text) => parse_bool(text).ok_or_else(|| {
                PgError::new(SqlState::SYNTAX_ERROR, format!("{name} requires a Boolean value"))
            }),
        };
        match name.as_str() {
            "analyze" => options.analyze = flag()?,
            "verbose" => options.verbose = flag()?,
            "costs" => options.costs = flag()?,
            "distributed" => options.distributed = flag()?,
            "timing" => timing = Some(flag()?),
            "summary" => summary = Some(flag()?),
            "buffers" | "wal" | "settings" => {
                flag()?;
            }
            "format" => match value.as_deref() {
                Some("text") => options.json = false,
                Some("json") => options.json = true,
                Some(other @ ("xml" | "yaml")) => {
                    return Err(PgError::unsupported(format!(
                        "EXPLAIN in format {other} is not supported yet"
                    )));
                }
                other => {
                    return Err(PgError::new(
                        SqlState::INVALID_PARAMETER_VALUE,
                        format!(
                            "unrecognized value for EXPLAIN option \"format\": \"{}\"",
                            other.unwrap_or_default()
                        ),
                    ));
                }
            },
            other => {
                return Err(PgError::new(
                    SqlState::SYNTAX_ERROR,
                    format!("unrecognized EXPLAIN option \"{other}\""),
                ));
            }
        }
    }
    if timing == Some(true) && !options.analyze {
        return Err(PgError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "EXPLAIN option TIMING requires ANALYZE",
        ));
    }
    options.timing = timing.unwrap_or(options.analyze);
    options.summary = summary.unwrap_or(options.analyze);
    Ok(options)
}

impl Session {
    /// How the writes of a statement will be committed: after ANALYZE those of the transaction so far, else
    /// as far as its tables tell.
    fn commit_line(&self, query: &Query, options: Options) -> Option<String> {
        if query.command == Command::Select
            || !(options.distributed || (options.analyze && options.summary))
        {
            return None;
        }
        let one = || Some("one-phase (one range)".to_owned());
        if !options.analyze {
            return match ranges_of(query, &self.node.store().ranges()) {
                0 | 1 => one(),
                n => Some(format!("one-phase or parallel, by rows (the tables lie in {n} ranges)")),
            };
        }
        let Spread { written, others } = self.block.txn.as_ref()?.spread();
        match (written, others) {
            (0, _) => Some("none (nothing is written)".to_owned()),
            (1, 0) => one(),
            (n, 0) => Some(format!("parallel over {n} ranges (rows are written in {n})")),
            (n, others) => Some(format!(
                "parallel over {} ranges (rows are written in {n}, locked or read in {others} more)",
                n + others
            )),
        }
    }

    /// EXPLAIN: sends the plan, and with ANALYZE runs the statement first.
    pub(crate) async fn explain<C: Client>(
        &mut self,
        outer: &PreparedStatement,
        given: &[Given],
        statement: &Parsed,
        formats: &[i16],
        client: &mut C,
    ) -> Result<String, Fault> {
        let options = read_options(given)?;
        let view = self.view();
        let started = Instant::now();
        let mut params = Params::new();
        let plan = match &statement.statement {
            Statement::Query(query) => {
                let query = (&**query, statement.as_of.as_deref());
                Arc::new(self.bind_query(view, &outer.text, query, &[], false)?)
            }
            Statement::Execute { name, args } => {
                let (plan, given) = self.executed(outer, name, args)?;
                params = given;
                plan
            }
            Statement::Declare(declare) => {
                let query = (&*declare.query, declare.as_of.as_deref());
                Arc::new(self.bind_query(view, &outer.text, query, &[], false)?)
            }
            _ => {
                return Err(
                    PgError::unsupported("EXPLAIN of this statement is not supported yet").into()
                );
            }
        };
        let mut run = Run { planning_ms: millis(started), ..Run::default() };
        if options.analyze {
            let started = Instant::now();
            self.refuse_writes(plan.query())?;
            self.limit_locks();
            if let Some(txn) = &mut self.block.txn {
                for (table, lock) in &plan.query().tables {
                    let locked = txn.lock_table(table.oid, lock_mode(*lock), false).await;
                    locked.map_err(meridian_exec::from_kv)?;
                }
            }
            let mut past = self.enter_past(&plan, &[]).await?;
            loop {
                self.begin_statement();
                let ctx = self.statement_context(&plan, &params);
                let mut cursor = match Cursor::open(&plan.prepared, ctx) {
                    Ok(cursor) => cursor,
                    Err(ExecError::StatementRetry) => continue,
                    Err(ExecError::Pg(error)) => return Err(error.into()),
                };
                cursor
                    .count_actuals()
                    .map_err(|_| PgError::internal("the plan cannot be counted"))?;
                match self.drain(&mut cursor, &mut past).await {
                    Ok(_) => {
                        run.actuals = cursor.actuals();
                        break;
                    }
                    Err(ExecError::StatementRetry) => {}
                    Err(ExecError::Pg(error)) => return Err(error.into()),
                }
            }
            run.execution_ms = millis(started);
        }
        let commit = self.commit_line(plan.query(), options);
        let lines = explain::explain(plan.query(), options, Some(&run), commit.as_deref());
        let columns = with_formats(&columns(given), formats);
        if self.shared.simple() {
            client.row_description(&columns);
        }
        let eval = self.eval();
        for line in lines {
            output::put_row(client.buffer(), &[Datum::text(line)], &columns, &eval)?;
        }
        Ok("EXPLAIN".to_owned())
    }
}

/// How many of the ranges hold some of the tables that a query writes.
fn ranges_of(query: &Query, ranges: &[RangeInfo]) -> usize {
    let written = query.tables.iter().filter(|(_, lock)| *lock == TableLock::RowExclusive);
    let spans: Vec<Span> = written
        .map(|(table, _)| {
            let (start, end) = key::table_span(table.storage_id);
            Span { start: start.into(), end: end.into() }
        })
        .collect();
    ranges.iter().filter(|range| spans.iter().any(|span| range.span.overlaps(span))).count()
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
