//! Queries: WITH, the body, and what follows it (ORDER BY, LIMIT, FOR UPDATE).
//!
//! A query is bound to a [`BoundQuery`]: a relation and, of its columns, those that are seen from
//! outside, in order. The same column may be seen twice under two names; columns that are carried
//! for sorting or locking are not seen at all.

use std::sync::Arc;

use meridian_types::oid::{INT8, Oid};
use meridian_types::{PgError, PgType, Result, SqlState};

use super::{Binder, BoundQuery, Clause, Scope, ScopeItem};
use crate::ast;
use crate::expr::Expr;
use crate::parse::lock_clause;
use crate::rel::{Column, LockWait, Rel, SortKey};
use crate::resolve::CoercionContext;
use crate::walk;

/// Deepest nesting of queries and views that is bound.
const MAX_DEPTH: usize = 200;

/// What the binder of relations remembers while it walks a statement.
#[derive(Debug, Default)]
pub struct RelationState {
    /// CTEs in sight, the innermost last.
    pub(crate) ctes: Vec<CteName>,
    /// Next CTE id.
    pub(crate) next_cte: u32,
    /// Views being expanded, to stop at a view that reads itself.
    pub(crate) views: Vec<Oid>,
    /// Their owners, in whose name the relations inside are read.
    pub(crate) view_owners: Vec<Oid>,
    /// Query levels entered.
    pub(crate) depth: usize,
    /// A data-modifying statement in WITH may only stand at the top level.
    pub(crate) below_top: bool,
}

/// A CTE that can be named.
#[derive(Clone, Debug)]
pub(crate) struct CteName {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// `Cte::id`
    pub(crate) id: u32,
    /// Its columns.
    pub(crate) columns: Vec<Column>,
    /// How many of them, at the end, `*` leaves out: what SEARCH and CYCLE add, seen from inside.
    pub(crate) hidden: usize,
    /// Table columns that they are.
    pub(crate) origins: Vec<Option<(Oid, i16)>>,
    /// Why it cannot be read here, if so.
    pub(crate) refusal: Option<Refusal>,
}

/// Why a CTE cannot be read.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// Its non-recursive term is being bound.
    NonRecursiveTerm,
    /// It modifies data and has no RETURNING.
    NoReturning,
}

/// ORDER BY and what follows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail<'q> {
    /// ORDER BY
    pub(crate) order_by: &'q [ast::OrderByExpr],
    /// LIMIT or FETCH FIRST
    pub(crate) limit: Option<&'q ast::Expr>,
    /// OFFSET
    pub(crate) offset: Option<&'q ast::Expr>,
    /// WITH TIES
    pub(crate) with_ties: bool,
    /// FETCH FIRST ROW ONLY, without a count.
    pub(crate) one_row: bool,
    /// FOR UPDATE and its kin
    pub(crate) locks: &'q [ast::LockClause],
}

impl<'q> Tail<'q> {
    /// The tail as written.
    pub(crate) fn of(query: &'q ast::Query) -> Result<Tail<'q>> {
        let mut tail = Tail { locks: &query.locks, ..Tail::default() };
        if let Some(order_by) = &query.order_by {
            match &order_by.kind {
                ast::OrderByKind::Expressions(exprs) => tail.order_by = exprs,
                ast::OrderByKind::All(_) => {
                    return Err(PgError::new(
                        SqlState::SYNTAX_ERROR,
                        "syntax error at or near \"ALL\"",
                    ));
                }
            }
        }
        match &query.limit_clause {
            Some(ast::LimitClause::LimitOffset { limit, offset, .. }) => {
                tail.limit = limit.as_ref();
                tail.offset = offset.as_ref().map(|o| &o.value);
            }
            Some(ast::LimitClause::OffsetCommaLimit { .. }) => {
                let hint = "Use separate LIMIT and OFFSET clauses.";
                let text = "LIMIT #,# syntax is not supported";
                return Err(PgError::new(SqlState::SYNTAX_ERROR, text).hint(hint));
            }
            None => {}
        }
        if let Some(fetch) = &query.fetch {
            if fetch.percent {
                return Err(PgError::new(
                    SqlState::SYNTAX_ERROR,
                    "syntax error at or near \"PERCENT\"",
                ));
            }
            tail.with_ties = fetch.with_ties;
            tail.limit = fetch.quantity.as_ref();
            tail.one_row = fetch.quantity.is_none();
        }
        Ok(tail)
    }

    /// Nothing follows the body.
    pub(crate) fn is_empty(&self) -> bool {
        self.order_by.is_empty() && !self.limits() && self.locks.is_empty()
    }

    fn limits(&self) -> bool {
        self.limit.is_some() || self.offset.is_some() || self.one_row
    }

    /// `(SELECT … ORDER BY a) LIMIT 1`: what is outside the parentheses is added to what is inside.
    fn around(self, inner: Tail<'q>) -> Result<Tail<'q>> {
        let twice = |what: &str| {
            let text = format!("multiple {what} clauses not allowed");
            Err(PgError::new(SqlState::SYNTAX_ERROR, text))
        };
        if !self.order_by.is_empty() && !inner.order_by.is_empty() {
            return twice("ORDER BY");
        }
        if self.offset.is_some() && inner.offset.is_some() {
            return twice("OFFSET");
        }
        if (self.limit.is_some() || self.one_row) && (inner.limit.is_some() || inner.one_row) {
            return twice("LIMIT");
        }
        Ok(Tail {
            order_by: if self.order_by.is_empty() { inner.order_by } else { self.order_by },
            limit: self.limit.or(inner.limit),
            offset: self.offset.or(inner.offset),
            with_ties: self.with_ties || inner.with_ties,
            one_row: self.one_row || inner.one_row,
            locks: if self.locks.is_empty() { inner.locks } else { self.locks },
        })
    }
}

impl Binder<'_> {
    /// Binds a query. On return the stack of scopes is as it was before.
    pub fn bind_query(&mut self, query: &ast::Query) -> Result<BoundQuery> {
        self.bind_query_as(query, true)
    }

    /// Binds a query; literals of no type in its select list become text when `resolve`, else they
    /// stay for the one who reads them to decide (INSERT, UNION).
    pub(crate) fn bind_query_as(
        &mut self,
        query: &ast::Query,
        resolve: bool,
    ) -> Result<BoundQuery> {
        self.bind_query_tail(query.with.as_ref(), &query.body, Tail::of(query)?, resolve)
    }

    /// Binds a body with nothing around it: an arm of a set operation, a term of a recursive query.
    pub(crate) fn bind_bare(&mut self, body: &ast::SetExpr, resolve: bool) -> Result<BoundQuery> {
        self.bind_query_tail(None, body, Tail::default(), resolve)
    }

    fn bind_query_tail(
        &mut self,
        with: Option<&ast::With>,
        body: &ast::SetExpr,
        tail: Tail<'_>,
        resolve: bool,
    ) -> Result<BoundQuery> {
        if self.relations.depth >= MAX_DEPTH {
            let text = "stack depth limit exceeded";
            return Err(PgError::new(SqlState::STATEMENT_TOO_COMPLEX, text));
        }
        self.relations.depth += 1;
        let mark = self.relations.ctes.len();
        let ctes = match with {
            Some(with) => self.bind_with(with)?,
            None => Vec::new(),
        };
        let below = std::mem::replace(&mut self.relations.below_top, true);
        let bound = stacker::maybe_grow(1 << 20, 8 << 20, || self.bind_body(body, tail, resolve));
        self.relations.below_top = below;
        self.relations.ctes.truncate(mark);
        self.relations.depth -= 1;
        let mut bound = bound?;
        if !ctes.is_empty() {
            bound.rel = Rel::With { ctes, body: Box::new(bound.rel) };
        }
        Ok(bound)
    }

    fn bind_body(
        &mut self,
        body: &ast::SetExpr,
        tail: Tail<'_>,
        resolve: bool,
    ) -> Result<BoundQuery> {
        match body {
            ast::SetExpr::Select(select) => self.bind_select(select, &tail, resolve),
            ast::SetExpr::Query(inner) => {
                let merged = tail.around(Tail::of(inner)?)?;
                self.bind_query_tail(inner.with.as_ref(), &inner.body, merged, resolve)
            }
            ast::SetExpr::SetOperation { .. } => self.bind_set_operation(body, &tail, resolve),
            ast::SetExpr::Values(values) => {
                refuse_locks(&tail, "VALUES")?;
                let bound = self.bind_values(values, resolve)?;
                self.bind_value_tail(bound, &tail)
            }
            ast::SetExpr::Table(table) => {
                let select = table_command(table);
                self.bind_body(&select, tail, resolve)
            }
            ast::SetExpr::Insert(s)
            | ast::SetExpr::Update(s)
            | ast::SetExpr::Delete(s)
            | ast::SetExpr::Merge(s) => self.bind_modify_statement(s),
        }
    }

    /// ORDER BY and LIMIT over a relation whose output columns are all that can be named.
    pub(crate) fn bind_value_tail(
        &mut self,
        mut bound: BoundQuery,
        tail: &Tail<'_>,
    ) -> Result<BoundQuery> {
        let mut keys = Vec::new();
        for item in tail.order_by {
            let at = self.output_position(&item.expr, &bound.columns, "ORDER BY")?;
            let Some(at) = at else {
                return Err(PgError::unsupported(
                    "ORDER BY over VALUES by an expression is not supported yet",
                )
                .at(self.position(&item.expr)));
            };
            push_key(&mut keys, sort_key(bound.columns[at].id, &item.options));
        }
        if !keys.is_empty() {
            bound.rel = Rel::Sort { input: Box::new(bound.rel), keys: keys.clone() };
        }
        bound.rel = self.bind_limit(bound.rel, tail, &keys, vec![])?;
        Ok(bound)
    }

    /// The output column that an ordinal or a name means.
    pub(crate) fn output_position(
        &mut self,
        expr: &ast::Expr,
        columns: &[Column],
        clause: &str,
    ) -> Result<Option<usize>> {
        let position = self.position(expr);
        if let ast::Expr::Identifier(ident) = expr {
            let mut found: Option<usize> = None;
            for (i, column) in columns.iter().enumerate() {
                if *column.name == *ident.value {
                    if found.is_some_and(|f| columns[f].id != column.id) {
                        let text = format!("{clause} \"{}\" is ambiguous", ident.value);
                        return Err(PgError::new(SqlState::AMBIGUOUS_COLUMN, text).at(position));
                    }
                    found = found.or(Some(i));
                }
            }
            return Ok(found);
        }
        match ordinal(expr) {
            Some(Ok(n)) => {
                match usize::try_from(n).ok().filter(|n| (1..=columns.len()).contains(n)) {
                    Some(n) => Ok(Some(n - 1)),
                    None => {
                        let text = format!("{clause} position {n} is not in select list");
                        Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, text).at(position))
                    }
                }
            }
            Some(Err(())) => {
                let text = format!("non-integer constant in {clause}");
                Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position))
            }
            None => Ok(None),
        }
    }

    /// LIMIT and OFFSET on top of `rel`, which is sorted by `keys`. The query's own level must not
    /// be on the stack any more.
    pub(crate) fn bind_limit(
        &mut self,
        rel: Rel,
        tail: &Tail<'_>,
        keys: &[SortKey],
        own: Vec<ScopeItem>,
    ) -> Result<Rel> {
        if !tail.limits() {
            return Ok(rel);
        }
        let offset = match tail.offset {
            Some(e) => Some(self.bind_count(e, Clause::Offset, &own)?),
            None => None,
        };
        let limit = match tail.limit {
            Some(e) if !is_null_literal(e) => Some(self.bind_count(e, Clause::Limit, &own)?),
            None if tail.one_row => {
                Some(Expr::constant(meridian_types::Datum::Int8(1), PgType::new(INT8)))
            }
            _ => None,
        };
        if tail.with_ties && keys.is_empty() {
            let text = "WITH TIES cannot be specified without ORDER BY clause";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
        }
        if tail.with_ties
            && tail.locks.iter().any(|lock| lock_clause(lock).2 == LockWait::SkipLocked)
        {
            let text = "SKIP LOCKED and WITH TIES options cannot be used together";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
        }
        let with_ties = tail.with_ties.then(|| keys.to_vec());
        Ok(Rel::Limit { input: Box::new(rel), limit, offset, with_ties })
    }

    fn bind_count(&mut self, e: &ast::Expr, clause: Clause, own: &[ScopeItem]) -> Result<Expr> {
        let position = self.position(e);
        // It sees no column of its own query.
        self.scopes.push(Scope::default());
        let bound = self.bind_expr(e, clause);
        self.scopes.pop();
        let bound = bound.map_err(|error| self.names_own_column(e, clause, own, error))?;
        self.coerce_to(bound, PgType::new(INT8), CoercionContext::Assignment, position).map_err(
            |e| {
                if e.state() == SqlState::CANNOT_COERCE || e.state() == SqlState::DATATYPE_MISMATCH
                {
                    let text = format!("argument of {} must be type bigint", clause.name());
                    PgError::new(SqlState::DATATYPE_MISMATCH, text).at(position)
                } else {
                    e
                }
            },
        )
    }

    /// `LIMIT a` where `a` is a column of the query has a message of its own.
    fn names_own_column(
        &mut self,
        e: &ast::Expr,
        clause: Clause,
        own: &[ScopeItem],
        error: PgError,
    ) -> PgError {
        if error.state() != SqlState::UNDEFINED_COLUMN && error.state() != SqlState::UNDEFINED_TABLE
        {
            return error;
        }
        self.scopes.push(Scope::with_items(own.to_vec()));
        let found = self.bind_expr(e, clause);
        self.scopes.pop();
        if found.is_err() {
            return error;
        }
        let text = format!("argument of {} must not contain variables", clause.name());
        PgError::new(SqlState::INVALID_COLUMN_REFERENCE, text).at(error.fields().position)
    }
}

fn is_null_literal(e: &ast::Expr) -> bool {
    matches!(e, ast::Expr::Value(v) if matches!(v.value, ast::Value::Null))
}

/// `FOR UPDATE` where no table's row can be meant.
pub(crate) fn refuse_locks(tail: &Tail<'_>, what: &str) -> Result<()> {
    match tail.locks.first() {
        None => Ok(()),
        Some(lock) => {
            let clause = super::lock::clause_name(lock);
            let text = if what == "VALUES" {
                format!("{clause} cannot be applied to VALUES")
            } else {
                format!("{clause} is not allowed with {what}")
            };
            Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, text))
        }
    }
}

/// The integer that a bare literal is: `None` when it is no literal, `Err` when no integer.
pub(crate) fn ordinal(expr: &ast::Expr) -> Option<std::result::Result<i64, ()>> {
    match expr {
        ast::Expr::Value(v) => match &v.value {
            ast::Value::Number(n, _) => Some(n.parse::<i32>().map(i64::from).map_err(|_| ())),
            ast::Value::SingleQuotedString(_)
            | ast::Value::EscapedStringLiteral(_)
            | ast::Value::DollarQuotedString(_)
            | ast::Value::Boolean(_)
            | ast::Value::Null => Some(Err(())),
            _ => None,
        },
        _ => None,
    }
}

/// A sort key with PostgreSQL's defaults: NULLS LAST, or FIRST when descending.
pub(crate) fn sort_key(column: crate::expr::ColumnId, options: &ast::OrderByOptions) -> SortKey {
    let desc = options.asc == Some(false);
    SortKey { column, desc, nulls_first: options.nulls_first.unwrap_or(desc) }
}

/// A column that is sorted by already says nothing more.
pub(crate) fn push_key(keys: &mut Vec<SortKey>, key: SortKey) {
    if keys.iter().all(|k| k.column != key.column) {
        keys.push(key);
    }
}

/// `TABLE t` is `SELECT * FROM t`.
fn table_command(table: &ast::Table) -> ast::SetExpr {
    use sqlparser::ast::helpers::attached_token::AttachedToken;
    let parts = table.schema_name.iter().chain(&table.table_name);
    let name = ast::ObjectName(
        parts.map(|p| ast::ObjectNamePart::Identifier(ast::Ident::with_quote('"', p))).collect(),
    );
    let relation = ast::TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    };
    ast::SetExpr::Select(Box::new(ast::Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: vec![ast::SelectItem::Wildcard(ast::WildcardAdditionalOptions::default())],
        exclude: None,
        into: None,
        from: vec![ast::TableWithJoins { relation, joins: vec![] }],
        lateral_views: vec![],
        prewhere: None,
        selection: None,
        connect_by: vec![],
        group_by: ast::GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: ast::SelectFlavor::Standard,
    }))
}

/// Gives `rel` more columns, which pass on all that it has.
pub(crate) fn extended(rel: Rel, extra: Vec<(Column, Expr)>) -> Rel {
    if extra.is_empty() {
        return rel;
    }
    let mut exprs: Vec<(Column, Expr)> = walk::output(&rel)
        .into_iter()
        .map(|c| {
            let e = Expr::column(c.id, c.ty);
            (c, e)
        })
        .collect();
    exprs.extend(extra);
    Rel::Project { input: Box::new(rel), exprs }
}

/// One row without columns.
pub(crate) fn one_row() -> Rel {
    Rel::Values { columns: vec![], rows: vec![vec![]] }
}
