//! The entry: a statement that gives or writes rows, to a [`Query`].

use std::sync::Arc;

use meridian_types::{EvalContext, PgError, PgType, Result, SqlState, oid};

use super::scope::Scope;
use super::{Binder, BoundQuery, CatalogView, Clause};
use crate::ast;
use crate::expr::Expr;
use crate::optimise::Given;
use crate::parse::Source;
use crate::plan::{Command, Query};
use crate::rel::Rel;
use crate::resolve::CoercionContext;
use crate::walk;

/// Binds a query and makes it cheap to run. `params` are the types that the client gave; with
/// `open`, parameters beyond them may be named and are inferred.
pub fn bind_query_statement(
    catalog: &dyn CatalogView,
    eval: &EvalContext,
    source: &Source,
    query: &ast::Query,
    params: &[PgType],
    open: bool,
) -> Result<Query> {
    bind_only(catalog, eval, source, query, params, open).map(crate::optimise::optimise)
}

/// The same for a query that may say at which time it reads.
pub fn bind_query_as_of(
    catalog: &dyn CatalogView,
    eval: &EvalContext,
    source: &Source,
    (query, as_of): (&ast::Query, Option<&ast::Expr>),
    params: &[PgType],
    open: bool,
) -> Result<Query> {
    let mut binder = Binder::new(catalog, eval, source, params, open);
    let bound = binder.bind_query(query)?;
    let as_of = as_of.map(|time| binder.bind_time(time)).transpose()?;
    let query = binder.finish_query(bound, command(&query.body))?;
    Ok(crate::optimise::optimise(Query { as_of, ..query }))
}

/// Binds a query without optimising it.
pub fn bind_only(
    catalog: &dyn CatalogView,
    eval: &EvalContext,
    source: &Source,
    query: &ast::Query,
    params: &[PgType],
    open: bool,
) -> Result<Query> {
    let mut binder = Binder::new(catalog, eval, source, params, open);
    let bound = binder.bind_query(query)?;
    binder.finish_query(bound, command(&query.body))
}

/// Binds a bare statement (the body of a rule or a `Statement` that is not wrapped in a query).
pub fn bind_modify_only(
    catalog: &dyn CatalogView,
    eval: &EvalContext,
    source: &Source,
    statement: &ast::Statement,
) -> Result<Query> {
    let command = match statement {
        ast::Statement::Insert(_) => Command::Insert,
        ast::Statement::Update(_) => Command::Update,
        ast::Statement::Delete(_) => Command::Delete,
        _ => return Err(PgError::internal("not a data-modifying statement")),
    };
    let mut binder = Binder::new(catalog, eval, source, &[], false);
    let bound = binder.bind_modify_statement(statement)?;
    binder.finish_query(bound, command)
}

impl Binder<'_> {
    /// The time of AS OF SYSTEM TIME, as text, `timestamptz` or `interval`.
    pub fn bind_time(&mut self, time: &ast::Expr) -> Result<Expr> {
        let position = self.position(time);
        // It sees no column.
        self.scopes.push(Scope::default());
        let bound = self.bind_expr(time, Clause::AsOf);
        self.scopes.pop();
        let bound = bound?;
        let to = match bound.ty.oid {
            oid::TIMESTAMPTZ | oid::INTERVAL => return Ok(bound),
            oid::TIMESTAMP | oid::DATE => oid::TIMESTAMPTZ,
            oid::UNKNOWN | oid::TEXT | oid::VARCHAR | oid::BPCHAR => oid::TEXT,
            oid::NUMERIC | oid::INT8 | oid::INT4 | oid::INT2 => oid::TEXT,
            other => {
                let text = format!(
                    "argument of AS OF SYSTEM TIME must be a time, an interval, a number or text, \
                     not type {}",
                    self.display_type(other)
                );
                return Err(PgError::new(SqlState::DATATYPE_MISMATCH, text).at(position));
            }
        };
        self.coerce_to(bound, PgType::new(to), CoercionContext::Assignment, position)
    }

    /// A bound query as a plan. Ends the binder's work.
    pub fn finish_query(&mut self, bound: BoundQuery, command: Command) -> Result<Query> {
        let params = self.finish_params()?;
        let mut tables = std::mem::take(&mut self.tables);
        tables.sort_by_key(|(t, _)| t.oid);
        Ok(Query {
            fails: None,
            as_of: None,
            given: Given::default(),
            writes: writes(&bound.rel),
            rel: bound.rel,
            output: bound.columns,
            params,
            command,
            origins: bound.origins,
            tables: tables.into_iter().map(|(t, lock)| (Arc::clone(&t), lock)).collect(),
            next_column: self.next_column,
            aliases: std::mem::take(&mut self.aliases),
            trusted: std::mem::take(&mut self.trusted),
        })
    }
}

/// The word of the command tag.
fn command(body: &ast::SetExpr) -> Command {
    match body {
        ast::SetExpr::Insert(_) => Command::Insert,
        ast::SetExpr::Update(_) => Command::Update,
        ast::SetExpr::Delete(_) => Command::Delete,
        _ => Command::Select,
    }
}

/// Whether running it takes row locks or writes.
fn writes(rel: &Rel) -> bool {
    if matches!(rel, Rel::Modify(_) | Rel::LockRows { .. }) {
        return true;
    }
    let mut found = false;
    walk::each_input(rel, &mut |r| found |= writes(r));
    walk::each_expr(rel, &mut |e| {
        walk::visit(e, &mut |e| {
            found |= walk::subquery_of(e).is_some_and(|s| writes(&s.plan));
        });
    });
    found
}
