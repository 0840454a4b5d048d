//! UNION, INTERSECT, EXCEPT.
//!
//! Column types are decided pairwise up the tree. A literal of no type takes the other side's;
//! names come from the leftmost query.

use meridian_types::oid::{Oid, TEXT, UNKNOWN};
use meridian_types::{PgError, PgType, Result, SqlState};

use super::query::{Tail, push_key, refuse_locks, sort_key};
use super::values::common_typmod;
use super::{Binder, BoundQuery};
use crate::ast;
use crate::expr::{ColumnId, Expr};
use crate::rel::{Column, Rel, SetOpKind};

/// INTERSECTs and EXCEPTs one after the other, at most: they make a deep tree.
const MAX_DEPTH: usize = 500;

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

    /// A tree of set operations. The left spine, which is what `a UNION b UNION c …` makes, is walked
    /// in a loop: generated statements have thousands of arms.
    fn bind_set_tree(&mut self, body: &ast::SetExpr, resolve: bool) -> Result<BoundQuery> {
        crate::walk::with_stack(|| {
            let (mut at, mut spine) = (body, Vec::new());
            let mut query = None;
            loop {
                match at {
                    ast::SetExpr::SetOperation { left, op, set_quantifier, right } => {
                        spine.push((operation(*op, *set_quantifier)?, &**right));
                        at = left;
                    }
                    ast::SetExpr::Query(q) if q.with.is_none() && Tail::of(q)?.is_empty() => {
                        at = &q.body;
                    }
                    ast::SetExpr::Query(inner) => {
                        query = Some(self.bind_query_as(inner, resolve && spine.is_empty())?);
                        break;
                    }
                    _ => break,
                }
            }
            let first = match query {
                Some(query) => query,
                None => self.bind_bare(at, resolve && spine.is_empty())?,
            };
            if spine.iter().filter(|((kind, _), _)| *kind != SetOpKind::Union).count() > MAX_DEPTH {
                return Err(crate::parse::too_deep());
            }
            let left_at = self.first_position(at);
            let mut arms = Arms::one(first);
            while let Some(((kind, all), right)) = spine.pop() {
                let right_at = self.first_position(right);
                let right = self.bind_set_tree(right, false)?;
                let resolve = resolve && spine.is_empty();
                arms = self.combine(kind, all, (arms, &left_at), (right, &right_at), resolve)?;
            }
            Ok(self.joined(arms))
        })
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

    /// One set operation more over what is there.
    fn combine(
        &mut self,
        kind: SetOpKind,
        all: bool,
        (left, left_at): (Arms, &[Option<u32>]),
        (right, right_at): (BoundQuery, &[Option<u32>]),
        resolve: bool,
    ) -> Result<Arms> {
        let name = kind_name(kind);
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
        let fits = left.columns.iter().zip(&types).all(|(c, ty)| c.ty.oid == ty.oid);
        let grows = left.rels.len() > 1 && kind == SetOpKind::Union && fits && (left.all || !all);
        let mut arms = if grows {
            left
        } else {
            let left = self.joined(left);
            let mut arms = Arms::one(self.side(left, &types, name, left_at)?);
            for (column, ty) in arms.columns.iter_mut().zip(&types) {
                *column = self.new_column(column.name.clone(), *ty);
            }
            arms
        };
        let right = self.side(right, &types, name, right_at)?;
        arms.columns.iter_mut().zip(types).for_each(|(c, ty)| c.ty = ty);
        arms.origins.fill(None);
        arms.all = all;
        arms.rels.push((right.rel, right.columns.iter().map(|c| c.id).collect()));
        if kind == SetOpKind::Union {
            return Ok(arms);
        }
        let rel = self.tree(kind, all, arms.rels, arms.columns.clone());
        Ok(Arms::one(BoundQuery { rel, columns: arms.columns, origins: arms.origins }))
    }

    /// The arms as one query.
    fn joined(&mut self, mut arms: Arms) -> BoundQuery {
        let rel = match arms.rels.pop() {
            Some((rel, _)) if arms.rels.is_empty() => rel,
            last => {
                arms.rels.extend(last);
                self.tree(SetOpKind::Union, arms.all, arms.rels, arms.columns.clone())
            }
        };
        BoundQuery { rel, columns: arms.columns, origins: arms.origins }
    }

    /// A balanced tree, so that many arms do not make a deep one. Duplicates are removed at its top.
    fn tree(
        &mut self,
        kind: SetOpKind,
        all: bool,
        mut arms: Vec<(Rel, Vec<ColumnId>)>,
        columns: Vec<Column>,
    ) -> Rel {
        let right = arms.split_off(arms.len().div_ceil(2));
        let [left, right] = [arms, right].map(|mut half| match half.len() {
            1 => half.swap_remove(0),
            _ => {
                let own: Vec<Column> =
                    columns.iter().map(|c| self.new_column(c.name.clone(), c.ty)).collect();
                let ids = own.iter().map(|c| c.id).collect();
                (self.tree(kind, true, half, own), ids)
            }
        });
        let [left, right] = [left, right].map(|(rel, ids)| (Box::new(rel), ids));
        Rel::SetOp { kind, all, columns, left, right }
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

/// Queries that a run of UNIONs puts together, not yet a tree.
struct Arms {
    rels: Vec<(Rel, Vec<ColumnId>)>,
    /// Duplicates stay.
    all: bool,
    /// What comes out: of a single arm its own columns.
    columns: Vec<Column>,
    origins: Vec<Option<(Oid, i16)>>,
}

impl Arms {
    fn one(query: BoundQuery) -> Arms {
        let ids = query.columns.iter().map(|c| c.id).collect();
        let BoundQuery { rel, columns, origins } = query;
        Arms { rels: vec![(rel, ids)], all: true, columns, origins }
    }
}

fn operation(op: ast::SetOperator, quantifier: ast::SetQuantifier) -> Result<(SetOpKind, bool)> {
    let all = match quantifier {
        ast::SetQuantifier::All => true,
        ast::SetQuantifier::Distinct | ast::SetQuantifier::None => false,
        _ => return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"BY\"")),
    };
    let kind = match op {
        ast::SetOperator::Union => SetOpKind::Union,
        ast::SetOperator::Intersect => SetOpKind::Intersect,
        ast::SetOperator::Except | ast::SetOperator::Minus => SetOpKind::Except,
    };
    Ok((kind, all))
}

/// The word that errors name the operation by.
pub(crate) fn kind_name(kind: SetOpKind) -> &'static str {
    match kind {
        SetOpKind::Union => "UNION",
        SetOpKind::Intersect => "INTERSECT",
        SetOpKind::Except => "EXCEPT",
    }
}
