//! Queries that DDL runs for itself: to check rows against a new constraint, to compute new values
//! of a column, to fill an index.

use std::sync::Arc;

use meridian_catalog::TableDesc;
use meridian_sql::bind::{Binder, Clause, Scope, ScopeColumn, ScopeItem};
use meridian_sql::expr::Expr;
use meridian_sql::optimise::Given;
use meridian_sql::parse::{Source, parse_expression, parse_query};
use meridian_sql::plan::{Command, Query};
use meridian_sql::rel::{Access, Column, Rel};
use meridian_sql::resolve::CoercionContext;
use meridian_types::{Datum, EvalContext, PgError, PgType, Result, oid};

use super::DdlContext;
use crate::context::StatementContext;
use crate::error::ExecError;
use crate::run::{Cursor, Prepared, datums};
use crate::virtuals::CatalogHost;

/// Rows asked for at a time.
const BATCH_ROWS: usize = 1024;

/// What to read from each row of a table.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// The row's key, as bytea.
    Key,
    /// A column.
    Column(i16),
    /// An expression over the table's columns, coerced to a type when one is given.
    Sql(String, Option<PgType>),
}

/// A table's columns, ready for expressions over them.
pub(crate) struct TableScope {
    pub(crate) key: Column,
    pub(crate) columns: Vec<(Column, i16)>,
}

/// Opens a scope with the table's columns; hidden ones can't be named.
pub(crate) fn enter_table(binder: &mut Binder<'_>, table: &TableDesc) -> TableScope {
    let key = binder.new_column("", PgType::new(oid::BYTEA));
    let mut columns = Vec::new();
    let mut named = Vec::new();
    for column in table.columns.iter().filter(|c| !c.dropped) {
        let made = binder.new_column(column.name.as_str(), column.ty);
        if !column.hidden {
            named.push(ScopeColumn::new(column.name.as_str(), made.id, column.ty));
        }
        columns.push((made, column.attnum));
    }
    let item = ScopeItem::new(Some(Arc::from(table.name.as_str())), named);
    binder.scopes.push(Scope::with_items(vec![item]));
    TableScope { key, columns }
}

impl DdlContext<'_> {
    /// Runs a query and hands its rows over, a batch at a time.
    pub(crate) async fn run_query(&mut self, query: Query) -> Result<Rows, ExecError> {
        self.run_planned(meridian_sql::optimise::optimise(query)).await
    }

    /// Runs a query that has been optimised.
    pub(crate) async fn run_planned(&mut self, query: Query) -> Result<Rows, ExecError> {
        self.txn.begin_statement();
        let query = Arc::new(query);
        // Functions see what the transaction has made so far, a new sequence for instance.
        let host = CatalogHost {
            view: Arc::new(self.view()),
            node: Arc::clone(self.node()),
            session: Arc::clone(&self.statement.session),
        };
        let ctx = Arc::new(StatementContext {
            catalog: Arc::clone(self.overlay.catalog()),
            eval: EvalContext { host: Arc::new(host), ..self.statement.eval.clone() },
            params: Arc::clone(&self.statement.params),
            ..StatementContext::clone(&self.statement)
        });
        let prepared = Arc::new(Prepared::new(query));
        Ok(Rows { cursor: Cursor::open(&prepared, ctx)? })
    }

    /// Binds a query given as text.
    pub(crate) fn bind_text(&self, text: &str) -> Result<Query> {
        let query = parse_query(text)?;
        self.bind_ast(&query, &Source::default())
    }

    /// Binds a query.
    pub(crate) fn bind_ast(
        &self,
        query: &meridian_sql::ast::Query,
        source: &Source,
    ) -> Result<Query> {
        let view = self.view();
        let mut binder = Binder::new(&view, &self.statement.eval, source, &[], false);
        let bound = binder.bind_query(query)?;
        let next_column = binder.new_column_id().0;
        Ok(Query {
            fails: None,
            as_of: None,
            given: Given::default(),
            rel: bound.rel,
            output: bound.columns,
            params: vec![],
            command: Command::Select,
            writes: false,
            origins: bound.origins,
            tables: binder.tables,
            next_column,
            aliases: meridian_sql::plan::Aliases::new(),
            trusted: std::collections::BTreeSet::new(),
        })
    }

    /// The source that positions in errors refer to.
    pub(crate) fn source(&self) -> Source {
        Source { text: Arc::from(self.text), visible: true }
    }

    /// A query over all rows of a table that satisfy the conditions.
    pub(crate) fn table_query(
        &self,
        table: &Arc<TableDesc>,
        items: &[Item],
        conditions: &[String],
    ) -> Result<Query> {
        let view = self.view();
        let source = Source::default();
        let mut binder = Binder::new(&view, &self.statement.eval, &source, &[], false);
        let scope = enter_table(&mut binder, table);
        let mut predicates = Vec::new();
        for condition in conditions {
            predicates.push(binder.bind_condition(&parse_expression(condition)?, Clause::Where)?);
        }
        let mut exprs = Vec::new();
        for item in items {
            let expr = match item {
                Item::Key => Expr::column(scope.key.id, scope.key.ty),
                Item::Column(attnum) => {
                    let found = scope.columns.iter().find(|(_, a)| a == attnum);
                    let (column, _) =
                        found.ok_or_else(|| PgError::internal(format!("no column {attnum}")))?;
                    Expr::column(column.id, column.ty)
                }
                Item::Sql(text, ty) => {
                    let expr = binder.bind_expr(&parse_expression(text)?, Clause::SelectTarget)?;
                    match ty {
                        Some(ty) => {
                            binder.coerce_to(expr, *ty, CoercionContext::Assignment, None)?
                        }
                        None => binder.resolve_unknown(expr, None)?,
                    }
                }
            };
            exprs.push((binder.new_column("", expr.ty), expr));
        }
        let mut columns = scope.columns;
        columns.push((scope.key, 0));
        let scan =
            Rel::Scan { table: table.clone(), columns, filter: predicates, access: Access::Full };
        let output = exprs.iter().map(|(c, _)| c.clone()).collect::<Vec<Column>>();
        Ok(Query {
            fails: None,
            as_of: None,
            given: Given::default(),
            rel: Rel::Project { input: Box::new(scan), exprs },
            origins: vec![None; output.len()],
            output,
            params: vec![],
            command: Command::Select,
            writes: false,
            tables: vec![],
            next_column: binder.new_column_id().0,
            aliases: meridian_sql::plan::Aliases::new(),
            trusted: std::collections::BTreeSet::new(),
        })
    }
}

/// Rows of a query of ours.
pub(crate) struct Rows {
    cursor: Cursor,
}

impl Rows {
    /// The next rows; `None` at the end.
    pub(crate) async fn next(
        &mut self,
        txn: &mut meridian_cluster::Txn,
    ) -> Result<Option<Vec<Vec<Datum>>>, ExecError> {
        let Some(batch) = self.cursor.next(txn, BATCH_ROWS).await? else { return Ok(None) };
        Ok(Some(datums(&batch, self.cursor.columns())))
    }
}
