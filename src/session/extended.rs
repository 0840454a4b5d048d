//! The extended protocol: Parse, Bind, Describe, Execute, Close, Sync.

use std::sync::Arc;

use meridian_exec::virtuals::PreparedRow;
use meridian_sql::parse::{self, Statement};
use meridian_sql::plan::Command;
use meridian_types::io;
use meridian_types::{Datum, EvalContext, PgError, PgType, Result, SqlState};
use smallvec::SmallVec;

use crate::Fault;
use crate::block::{self, State};
use crate::client::{Client, ResultColumn};
use crate::run::Running;
use crate::session::{Session, now_micros};
use crate::statements::{Plan, PreparedStatement};

/// What a Bind message says.
#[derive(Clone, Copy, Debug)]
pub struct BindRequest<'a> {
    /// Name of the portal; empty for the unnamed one.
    pub portal: &'a str,
    /// Name of the prepared statement; empty for the unnamed one.
    pub statement: &'a str,
    /// Parameter formats: none (all text), one (for all), or one each; 1 is binary.
    pub formats: &'a [i16],
    /// Parameters; `None` is NULL.
    pub params: &'a [Option<&'a [u8]>],
    /// Result formats, in the same manner.
    pub result_formats: &'a [i16],
}

/// Parameters of one execution.
pub(crate) type Params = SmallVec<[Datum; 4]>;

/// A statement with its parameters, ready to run or under way.
pub(crate) struct Portal {
    /// What `pg_stat_activity` shows: the client's text.
    pub(crate) text: Arc<str>,
    pub(crate) statement: Arc<PreparedStatement>,
    /// Set for queries.
    pub(crate) plan: Option<Arc<Plan>>,
    pub(crate) params: Params,
    pub(crate) formats: SmallVec<[i16; 4]>,
    pub(crate) running: Running,
}

impl Portal {
    /// Output columns with their formats.
    pub(crate) fn columns(&self) -> Option<Arc<[ResultColumn]>> {
        let columns = &self.plan.as_ref()?.columns;
        Some(with_formats(columns, &self.formats))
    }
}

/// The format of the i-th item of a list given by the protocol's rule.
fn format_at(formats: &[i16], i: usize) -> bool {
    match formats {
        [] => false,
        [one] => *one == 1,
        many => many.get(i) == Some(&1),
    }
}

/// Columns marked with the formats that the client asked for.
pub(crate) fn with_formats(columns: &Arc<[ResultColumn]>, formats: &[i16]) -> Arc<[ResultColumn]> {
    if formats.iter().all(|f| *f == 0) {
        return Arc::clone(columns);
    }
    let marked = columns.iter().enumerate();
    marked.map(|(i, c)| ResultColumn { binary: format_at(formats, i), ..c.clone() }).collect()
}

impl Session {
    /// Parse: makes a prepared statement.
    pub fn parse<C: Client>(
        &mut self,
        name: &str,
        text: &str,
        types: &[u32],
        client: &mut C,
    ) -> Result<(), Fault> {
        self.statement_time = now_micros();
        if !name.is_empty() && self.statements.contains_key(name) {
            return Err(duplicate_statement(name).into());
        }
        let mut parsed = parse::parse(text)?;
        if parsed.len() > 1 {
            return Err(PgError::new(
                SqlState::SYNTAX_ERROR,
                "cannot insert multiple commands into a prepared statement",
            )
            .into());
        }
        let given = types.iter().map(|oid| PgType::new(*oid)).collect();
        let statement = PreparedStatement::new(text.into(), parsed.pop(), given);
        let statement = Arc::new(statement);
        self.refuse_when_failed(statement.statement())?;
        if let Some(Statement::Query(_)) = statement.statement() {
            self.ensure_transaction();
            self.plan(&statement)?;
        }
        self.tell(client);
        if name.is_empty() {
            self.unnamed = Some(statement);
        } else {
            self.keep_statement(name, statement, false);
        }
        Ok(())
    }

    /// Keeps a prepared statement under its name.
    pub(crate) fn keep_statement(
        &mut self,
        name: &str,
        statement: Arc<PreparedStatement>,
        from_sql: bool,
    ) {
        let types = match statement.statement() {
            Some(Statement::Query(_)) => self.plan(&statement).ok(),
            _ => None,
        };
        let types = types.iter().flat_map(|plan| &plan.query().params).map(|ty| ty.oid);
        let row = PreparedRow {
            name: name.to_owned(),
            text: Arc::clone(&statement.text),
            time: self.statement_time,
            types: types.collect(),
            from_sql,
        };
        self.shared.prepared.lock().insert(name.to_owned(), row);
        self.statements.insert(name.to_owned(), statement);
    }

    /// Forgets a prepared statement; whether there was one.
    pub(crate) fn forget_statement(&mut self, name: &str) -> bool {
        self.shared.prepared.lock().remove(name);
        self.statements.remove(name).is_some()
    }

    fn find_statement(&self, name: &str) -> Result<Arc<PreparedStatement>> {
        let found = if name.is_empty() { self.unnamed.as_ref() } else { self.statements.get(name) };
        found.cloned().ok_or_else(|| no_statement(name))
    }

    /// Bind: makes a portal.
    pub fn bind(&mut self, request: BindRequest<'_>) -> Result<()> {
        let statement = self.find_statement(request.statement)?;
        self.statement_time = now_micros();
        self.refuse_when_failed(statement.statement())?;
        let plan = match statement.statement() {
            Some(Statement::Query(_)) => {
                self.ensure_transaction();
                Some(self.plan(&statement)?)
            }
            _ => None,
        };
        let types: &[PgType] = plan.as_ref().map_or(&[], |plan| &plan.query().params);
        if request.params.len() != types.len() {
            return Err(PgError::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                    request.params.len(),
                    request.statement,
                    types.len()
                ),
            ));
        }
        let params = if types.is_empty() {
            Params::new()
        } else {
            read_params(&request, types, &self.eval())?
        };
        let portal = Portal {
            text: Arc::clone(&statement.text),
            statement,
            plan,
            params,
            formats: SmallVec::from_slice(request.result_formats),
            running: Running::NotStarted,
        };
        self.put_portal(request.portal, portal)?;
        Ok(())
    }

    fn put_portal(&mut self, name: &str, portal: Portal) -> Result<()> {
        if name.is_empty() {
            self.unnamed_portal = Some(portal);
            return Ok(());
        }
        if self.portals.contains_key(name) || self.cursors.contains_key(name) {
            return Err(PgError::new(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{name}\" already exists"),
            ));
        }
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    /// Describe of a prepared statement.
    pub fn describe_statement<C: Client>(
        &mut self,
        name: &str,
        client: &mut C,
    ) -> Result<(), Fault> {
        let statement = self.find_statement(name)?;
        self.refuse_when_failed(statement.statement())?;
        if let Some(Statement::Query(_)) = statement.statement() {
            self.ensure_transaction();
            let plan = self.plan(&statement)?;
            let params: Vec<u32> = plan.query().params.iter().map(|p| p.oid).collect();
            client.parameter_description(&params);
            describe(&plan, &plan.columns, client);
            return Ok(());
        }
        client.parameter_description(&[]);
        match self.utility_columns(&statement)? {
            Some(columns) => client.row_description(&columns),
            None => client.no_data(),
        }
        Ok(())
    }

    /// Describe of a portal.
    pub fn describe_portal<C: Client>(&mut self, name: &str, client: &mut C) -> Result<(), Fault> {
        // A cursor made by DECLARE is a portal, too.
        if let Some(cursor) = self.cursors.get(name) {
            client.row_description(&cursor.columns());
            return Ok(());
        }
        let portal = self.find_portal(name)?;
        if let (Some(columns), Some(plan)) = (portal.columns(), &portal.plan) {
            describe(plan, &columns, client);
            return Ok(());
        }
        let statement = Arc::clone(&portal.statement);
        let formats = portal.formats.clone();
        match self.utility_columns(&statement)? {
            Some(columns) => client.row_description(&with_formats(&columns, &formats)),
            None => client.no_data(),
        }
        Ok(())
    }

    fn find_portal(&mut self, name: &str) -> Result<&mut Portal> {
        let found = match name {
            "" => self.unnamed_portal.as_mut(),
            name => self.portals.get_mut(name),
        };
        found.ok_or_else(|| no_portal(name))
    }

    /// Execute: runs a portal, or goes on with it; 0 rows means all.
    pub async fn execute<C: Client>(
        &mut self,
        name: &str,
        rows_max: usize,
        client: &mut C,
    ) -> Result<(), Fault> {
        let taken = match name {
            "" => self.unnamed_portal.take(),
            name => self.portals.remove(name),
        };
        let mut portal = taken.ok_or_else(|| no_portal(name))?;
        self.shared.set_simple(false);
        self.executed = None;
        let new = matches!(portal.running, Running::NotStarted);
        let mut again = if new { self.may_run_again(client) } else { None };
        let outcome = loop {
            let outcome = self.execute_portal(&mut portal, rows_max, client).await;
            if !self.runs_again(&outcome, &mut again, client).await {
                break outcome;
            }
            portal.running = Running::NotStarted;
        };
        self.tell(client);
        if name.is_empty() {
            self.unnamed_portal = Some(portal);
            self.note_executed(again.filter(|_| outcome.is_ok()), rows_max, client);
        } else if self.block.state != State::Idle {
            self.portals.insert(name.to_owned(), portal);
        }
        outcome
    }

    pub(crate) async fn execute_portal<C: Client>(
        &mut self,
        portal: &mut Portal,
        rows_max: usize,
        client: &mut C,
    ) -> Result<(), Fault> {
        let statement = Arc::clone(&portal.statement);
        self.block.ran = true;
        let Some(parsed) = &statement.parsed else {
            client.empty_query();
            return Ok(());
        };
        self.refuse_when_failed(Some(&parsed.statement))?;
        if portal.plan.is_some() {
            return self.run_portal(portal, rows_max, client).await;
        }
        let formats = portal.formats.clone();
        self.run_utility(&statement, &parsed.statement, &formats, false, client).await
    }

    /// Inside a failed block only its end is let through.
    pub(crate) fn refuse_when_failed(&self, statement: Option<&Statement>) -> Result<()> {
        if self.block.state == State::Failed
            && let Some(statement) = statement
            && !crate::utility::ends_block(statement)
        {
            return Err(block::aborted());
        }
        Ok(())
    }

    /// Close of a prepared statement; one that is not there is no error.
    pub fn close_statement(&mut self, name: &str) {
        if name.is_empty() {
            self.unnamed = None;
        } else {
            self.forget_statement(name);
        }
    }

    /// Close of a portal; one that is not there is no error.
    pub fn close_portal(&mut self, name: &str) {
        if name.is_empty() {
            self.unnamed_portal = None;
        } else {
            self.portals.remove(name);
            self.cursors.remove(name);
        }
    }

    /// Sync: ends the transaction that was opened implicitly.
    pub async fn sync<C: Client>(&mut self, client: &mut C) -> Result<()> {
        let outcome = match self.block.state {
            State::Implicit => self.commit_executed(client).await,
            _ => Ok(()),
        };
        self.block.ran = false;
        self.tell(client);
        outcome
    }
}

/// A query without output columns still gives rows; INSERT and its kin without RETURNING do not.
fn describe<C: Client>(plan: &Plan, columns: &[ResultColumn], client: &mut C) {
    if columns.is_empty() && plan.query().command != Command::Select {
        client.no_data();
    } else {
        client.row_description(columns);
    }
}

fn read_params(request: &BindRequest<'_>, types: &[PgType], eval: &EvalContext) -> Result<Params> {
    let mut params = Params::with_capacity(types.len());
    for (i, (value, ty)) in request.params.iter().zip(types).enumerate() {
        let datum = match value {
            None => Datum::Null,
            Some(bytes) if format_at(request.formats, i) => {
                io::binary_recv(ty.oid, -1, bytes, eval)?
            }
            Some(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| bad_text())?;
                if text.contains('\0') {
                    return Err(bad_text());
                }
                io::text_in(ty.oid, -1, text, eval)?
            }
        };
        params.push(datum);
    }
    Ok(params)
}

fn bad_text() -> PgError {
    PgError::new(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        "invalid byte sequence for encoding \"UTF8\"",
    )
}

/// `26000`
pub(crate) fn no_statement(name: &str) -> PgError {
    let message = if name.is_empty() {
        "unnamed prepared statement does not exist".to_owned()
    } else {
        format!("prepared statement \"{name}\" does not exist")
    };
    PgError::new(SqlState::INVALID_SQL_STATEMENT_NAME, message)
}

/// `42P05`
pub(crate) fn duplicate_statement(name: &str) -> PgError {
    PgError::new(
        SqlState::DUPLICATE_PREPARED_STATEMENT,
        format!("prepared statement \"{name}\" already exists"),
    )
}

fn no_portal(name: &str) -> PgError {
    PgError::new(SqlState::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}
