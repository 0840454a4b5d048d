//! UNION, INTERSECT, EXCEPT.
//!
//! Column types are decided pairwise up the tree. A literal of no type takes the other side's;
//! names come from the leftmost query.

use meridian_types::oid::{TEXT, UNKNOWN};
use meridian_types::{PgError, PgType, Result, SqlState};

use super::query::{Tail, push_key, refuse_locks, sort_key};
use super::values::common_typmod;
use super::{Binder, BoundQuery};
use crate::ast;
use crate::expr::Expr;
use crate::rel::{Rel, SetOpKind};

impl Binder<'_> {
    /// Binds a set operation with what follows it.
    pub(crate) fn bind_set_operation(
        &mut self,
        body: &ast::SetExpr,
        tail: &Tail<'_>,
        resolve: bool,
    ) -> Result<BoundQuery> {
        let mut bound = self.bind_set_tree(body, resolve)?;
        refuse_locks(tail, "UNION/INTERSECT/EXCEPT")?;
        let mut keys = Vec::new();
        for item in tail.order_by {
            let Some(at) = self.output_position(&item.expr, &bound.columns, "ORDER BY")? else {
                return Err(self.order_by_expression(&item.expr, &bound));
            };
            push_key(&mut keys, sort_key(bound.columns[at].id, &item.options));
        }
        if !keys.is_empty() {
            bound.rel = Rel::Sort { input: Box::new(bound.rel), keys: keys.clone() };
        }
        bound.rel = self.bind_limit(bound.rel, tail, &keys, vec![])?;
        Ok(bound)
    }

    fn order_by_expression(&mut self, e: &ast::Expr, bound: &BoundQuery) -> PgError {
        let position = self.position(e);
        // A name that is nowhere is reported as such.
        let columns = bound
            .columns
            .iter()
            .map(|c| super::ScopeColumn::new(c.name.clone(), c.id, c.ty))
            .collect();
        let item = super::ScopeItem::new(None, columns);
        self.scopes.push(super::Scope::with_items(vec![item]));
        let tried = self.bind_expr(e, super::Clause::OrderBy);
        self.scopes.pop();
        match tried {
            Err(error) => error,
            Ok(_) => PgError::unsupported("invalid UNION/INTERSECT/EXCEPT ORDER BY clause")
                .detail("Only result column names can be used, not expressions or functions.")
                .hint(
                    "Add the expression/function to every SELECT, or move the UNION into a FROM clause.",
                )
                .at(position),
        }
    }

    fn bind_set_tree(&mut self, body: &ast::SetExpr, resolve: bool) -> Result<BoundQuery> {
        match body {
            ast::SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let all = match set_quantifier {
                    ast::SetQuantifier::All => true,
                    ast::SetQuantifier::Distinct | ast::SetQuantifier::None => false,
                    _ => {
                        let text = "syntax error at or near \"BY\"";
                        return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
                    }
                };
                let kind = match op {
                    ast::SetOperator::Union => SetOpKind::Union,
                    ast::SetOperator::Intersect => SetOpKind::Intersect,
                    ast::SetOperator::Except | ast::SetOperator::Minus => SetOpKind::Except,
                };
                let bound_left = self.bind_set_tree(left, false)?;
                let bound_right = self.bind_set_tree(right, false)?;
                let positions = [self.first_position(left), self.first_position(right)];
                let sides = [bound_left, bound_right];
                self.combine(kind, all, sides, resolve, positions)
            }
            ast::SetExpr::Query(inner) if inner.with.is_none() && Tail::of(inner)?.is_empty() => {
                self.bind_set_tree(&inner.body, resolve)
            }
            ast::SetExpr::Query(inner) => self.bind_query_as(inner, resolve),
            leaf => {
                let query = leaf_query(leaf);
                self.bind_query_as(&query, resolve)
            }
        }
    }

    /// Position of the first output column of a query, for errors.
    pub(crate) fn first_position(&self, body: &ast::SetExpr) -> Vec<Option<u32>> {
        match body {
            ast::SetExpr::Select(s) => s
                .projection
                .iter()
                .map(|item| match item {
                    ast::SelectItem::UnnamedExpr(e)
                    | ast::SelectItem::ExprWithAlias { expr: e, .. } => self.position(e),
                    _ => None,
                })
                .collect(),
            ast::SetExpr::Values(v) => v
                .rows
                .first()
                .map(|r| r.content.iter().map(|e| self.position(e)).collect())
                .unwrap_or_default(),
            ast::SetExpr::Query(q) => self.first_position(&q.body),
            ast::SetExpr::SetOperation { left, .. } => self.first_position(left),
            _ => Vec::new(),
        }
    }

    /// One set operation over two bound sides.
    pub(crate) fn combine(
        &mut self,
        kind: SetOpKind,
        all: bool,
        sides: [BoundQuery; 2],
        resolve: bool,
        positions: [Vec<Option<u32>>; 2],
    ) -> Result<BoundQuery> {
        let name = kind_name(kind);
        let [left, right] = sides;
        let [left_at, right_at] = positions;
        let at = |i: usize| right_at.get(i).copied().flatten();
        if left.columns.len() != right.columns.len() {
            let text = format!("each {name} query must have the same number of columns");
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(at(0)));
        }
        let mut types = Vec::with_capacity(left.columns.len());
        for (i, (l, r)) in left.columns.iter().zip(&right.columns).enumerate() {
            let (le, re) = (Expr::column(l.id, l.ty), Expr::column(r.id, r.ty));
            let ty = self.select_common_type(&[(&le, None), (&re, at(i))], name)?;
            let ty = common_typmod(ty, [l.ty, r.ty].into_iter());
            // Types of the first pair decide before a third query is looked at: two literals of no
            // type are text, unless something above may still decide.
            types.push(if ty.oid == UNKNOWN && resolve { PgType::new(TEXT) } else { ty });
        }
        let left = self.side(left, &types, name, &left_at)?;
        let right = self.side(right, &types, name, &right_at)?;
        let columns: Vec<_> = left
            .columns
            .iter()
            .zip(&types)
            .map(|(c, ty)| self.new_column(c.name.clone(), *ty))
            .collect();
        let ids = |b: &BoundQuery| b.columns.iter().map(|c| c.id).collect();
        let origins = vec![None; columns.len()];
        let (left_ids, right_ids) = (ids(&left), ids(&right));
        let rel = Rel::SetOp {
            kind,
            all,
            columns: columns.clone(),
            left: (Box::new(left.rel), left_ids),
            right: (Box::new(right.rel), right_ids),
        };
        Ok(BoundQuery { rel, columns, origins })
    }

    fn side(
        &mut self,
        side: BoundQuery,
        types: &[PgType],
        name: &str,
        positions: &[Option<u32>],
    ) -> Result<BoundQuery> {
        self.coerce_columns(side, types, positions, &mut |binder, i, e| {
            if e.ty.oid == types[i].oid || types[i].oid == UNKNOWN {
                return Ok(e);
            }
            let position = positions.get(i).copied().flatten();
            binder.coerce_to_common(e, PgType::new(types[i].oid), name, position)
        })
    }
}

/// The word that errors name the operation by.
pub(crate) fn kind_name(kind: SetOpKind) -> &'static str {
    match kind {
        SetOpKind::Union => "UNION",
        SetOpKind::Intersect => "INTERSECT",
        SetOpKind::Except => "EXCEPT",
    }
}

/// A bare body as a query.
pub(crate) fn leaf_query(body: &ast::SetExpr) -> ast::Query {
    ast::Query {
        with: None,
        body: Box::new(body.clone()),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}
