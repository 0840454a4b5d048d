//! Sub-queries in conditions and select lists become `Apply`.
//!
//! `EXISTS` and `IN` as conjuncts of WHERE are semi joins, `NOT EXISTS` an anti join. A correlated
//! scalar sub-query that gives at most one row is a left `Apply`. Others stay expressions: one that
//! is not correlated is run once; `NOT IN` knows a NULL that no join knows.

use meridian_types::Datum;

use super::{Optimiser, keys};
use crate::expr::{Expr, ExprKind, Quantifier, Subquery};
use crate::rel::{JoinKind, Rel};
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
        other => other,
    }
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
        ExprKind::Case { .. } | ExprKind::NullIf { .. } | ExprKind::Quantified { .. } => {}
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
