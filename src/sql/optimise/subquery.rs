//! Sub-queries in conditions and select lists become `Apply`.
//!
//! `EXISTS` and `IN` as conjuncts of WHERE are semi joins, `NOT EXISTS` an anti join. A correlated
//! scalar sub-query that gives at most one row is a left `Apply`. Others stay expressions: one that
//! is not correlated is run once; `NOT IN` knows a NULL that no join knows.

use meridian_types::Datum;

use super::{Optimiser, keys};
use crate::expr::{Expr, ExprKind, Quantifier, Subquery};
use crate::rel::{Column, JoinKind, Rel};
use crate::walk;

/// Removes sub-queries, bottom up.
pub(super) fn remove(mut rel: Rel, optimiser: &mut Optimiser) -> Rel {
    walk::each_input_mut(&mut rel, &mut |r| {
        let taken = walk::take(r);
        *r = remove(taken, optimiser);
    });
    match rel {
        Rel::Filter { input, predicates } => filter(*input, predicates, optimiser),
        Rel::Project { mut input, mut exprs } => {
            for (_, e) in &mut exprs {
                scalars(e, &mut input, optimiser);
            }
            Rel::Project { input, exprs }
        }
        Rel::Join { kind, left, right, on, lookup } if on.iter().any(walk::has_subquery) => {
            join(kind, (*left, *right), on, lookup, optimiser)
        }
        other => other,
    }
}

/// Sub-queries in a join's condition. Those of an inner join are conditions on its result, those
/// that read the padded side alone are conditions on that side; any other sub-query that reads
/// just one side becomes a column of it.
fn join(
    kind: JoinKind,
    (mut left, mut right): (Rel, Rel),
    on: Vec<Expr>,
    lookup: bool,
    optimiser: &mut Optimiser,
) -> Rel {
    let (l, r) = (walk::output_set(&left), walk::output_set(&right));
    let touches =
        |e: &Expr, side: &walk::ColumnSet| walk::expr_columns(e).iter().any(|c| side.contains(c));
    let (mut above, mut to_left, mut to_right, mut rest) = (vec![], vec![], vec![], vec![]);
    for e in on {
        if !walk::has_subquery(&e) || walk::is_volatile(&e) {
            rest.push(e);
            continue;
        }
        match kind {
            JoinKind::Inner => above.push(e),
            JoinKind::Left if !touches(&e, &l) => to_right.push(e),
            JoinKind::Right if !touches(&e, &r) => to_left.push(e),
            _ => rest.push(e),
        }
    }
    left = filter(left, to_left, optimiser);
    right = filter(right, to_right, optimiser);
    let mut made: [Vec<(Column, Expr)>; 2] = [vec![], vec![]];
    for e in &mut rest {
        walk::rewrite_outermost(e, &mut |e| {
            if walk::subquery_of(e).is_none() || walk::is_volatile(e) {
                return false;
            }
            let (in_l, in_r) = (touches(e, &l), touches(e, &r));
            if in_l && in_r {
                return false;
            }
            let column = Column { id: optimiser.fresh(), name: "subquery".into(), ty: e.ty };
            let seen = Expr::column(column.id, e.ty);
            made[usize::from(!in_l)].push((column, std::mem::replace(e, seen)));
            true
        });
    }
    let [of_left, of_right] = made;
    left = with_columns(left, of_left, optimiser);
    right = with_columns(right, of_right, optimiser);
    let joined = Rel::Join { kind, left: Box::new(left), right: Box::new(right), on: rest, lookup };
    filter(joined, above, optimiser)
}

/// The relation with more columns, whose sub-queries are removed in turn.
fn with_columns(rel: Rel, columns: Vec<(Column, Expr)>, optimiser: &mut Optimiser) -> Rel {
    if columns.is_empty() {
        return rel;
    }
    let passed = walk::output(&rel).into_iter().map(|c| {
        let e = Expr::column(c.id, c.ty);
        (c, e)
    });
    let mut exprs: Vec<_> = passed.collect();
    let mut input = Box::new(rel);
    for (column, mut e) in columns {
        scalars(&mut e, &mut input, optimiser);
        exprs.push((column, e));
    }
    Rel::Project { input, exprs }
}

fn filter(mut input: Rel, predicates: Vec<Expr>, optimiser: &mut Optimiser) -> Rel {
    let mut rest = Vec::with_capacity(predicates.len());
    for mut predicate in predicates {
        match semi(&predicate) {
            Some((kind, sub, on)) => {
                let right = remove(Rel::clone(&sub.plan), optimiser);
                input = apply(kind, input, right, on);
            }
            None => {
                scalars(&mut predicate, &mut input, optimiser);
                rest.push(predicate);
            }
        }
    }
    walk::filtered(input, rest)
}

fn apply(kind: JoinKind, left: Rel, right: Rel, on: Vec<Expr>) -> Rel {
    Rel::Apply { kind, left: Box::new(left), right: Box::new(right), on }
}

/// A condition that is a semi or anti join.
fn semi(predicate: &Expr) -> Option<(JoinKind, &Subquery, Vec<Expr>)> {
    let (kind, sub, on) = match &predicate.kind {
        ExprKind::Exists(sub) if !sub.outer.is_empty() => (JoinKind::Semi, sub, vec![]),
        ExprKind::Not(inner) => match &inner.kind {
            ExprKind::Exists(sub) if !sub.outer.is_empty() => (JoinKind::Anti, sub, vec![]),
            _ => return None,
        },
        ExprKind::Quantified { subquery, quantifier: Quantifier::Any, test } => {
            let mut on = Vec::new();
            walk::conjuncts((**test).clone(), &mut on);
            (JoinKind::Semi, subquery, on)
        }
        _ => return None,
    };
    let pure = !walk::rel_is_volatile(&sub.plan)
        && on.iter().all(|e| !walk::is_volatile(e) && !walk::has_subquery(e));
    pure.then_some((kind, sub, on))
}

/// Correlated scalar sub-queries that are evaluated whenever the expression is.
fn scalars(e: &mut Expr, input: &mut Rel, optimiser: &mut Optimiser) {
    if let ExprKind::ScalarSubquery(sub) = &e.kind {
        let made = walk::output_set(input);
        let mine = sub.outer.iter().any(|c| made.contains(c));
        let pure = !walk::rel_is_volatile(&sub.plan);
        if mine && pure && sub.output.len() == 1 && keys::at_most_one_row(&sub.plan) {
            let right = remove(Rel::clone(&sub.plan), optimiser);
            if walk::output_set(&right).contains(&sub.output[0]) {
                let left = walk::take(input);
                *input = apply(JoinKind::Left, left, right, vec![]);
                *e = Expr::column(sub.output[0], e.ty);
            }
        }
        return;
    }
    match &mut e.kind {
        // Branches that may not be evaluated must not raise errors.
        ExprKind::Case { .. }
        | ExprKind::RowCompare { .. }
        | ExprKind::NullIf { .. }
        | ExprKind::Quantified { .. } => {}
        ExprKind::Coalesce(args) => {
            if let Some(first) = args.first_mut() {
                scalars(first, input, optimiser);
            }
        }
        _ => walk::each_operand_mut(e, &mut |operand| scalars(operand, input, optimiser)),
    }
}

/// A constant row count of one.
pub(super) fn is_one(e: &Expr) -> bool {
    matches!(e.kind, ExprKind::Const(Datum::Int8(0 | 1)))
}
