//! `Apply` becomes `Join`.
//!
//! Correlated conditions are pulled out of the right side into the join condition. Through a scalar
//! aggregate this works when they are equalities: the aggregate is grouped by the inner side, the
//! join is a left one, and `count` of a row without partner is 0. What cannot be pulled leaves the
//! `Apply` as it was.

use std::collections::BTreeMap;

use meridian_types::Datum;

use super::{Optimiser, keys};
use crate::expr::{ColumnId, Expr, ExprKind};
use crate::rel::{Column, JoinKind, Rel};
use crate::walk::{self, ColumnSet};

/// Decorrelates bottom up, in sub-queries that stayed expressions not at all.
pub(super) fn relation(mut rel: Rel, optimiser: &mut Optimiser) -> Rel {
    walk::each_input_mut(&mut rel, &mut |r| {
        let taken = walk::take(r);
        *r = relation(taken, optimiser);
    });
    match rel {
        Rel::Apply { kind, left, right, on } => apply(kind, *left, *right, on, optimiser),
        other => other,
    }
}

fn apply(kind: JoinKind, left: Rel, right: Rel, on: Vec<Expr>, optimiser: &mut Optimiser) -> Rel {
    let outer = walk::output_set(&left);
    if !reads(&right, &outer) {
        return join(kind, left, right, on);
    }
    if walk::rel_is_volatile(&right) {
        return Rel::Apply { kind, left: Box::new(left), right: Box::new(right), on };
    }
    if matches!(kind, JoinKind::Semi | JoinKind::Anti)
        && on.is_empty()
        && let Some(simpler) = existence(&right)
    {
        return apply(kind, left, simpler, on, optimiser);
    }
    if matches!(kind, JoinKind::Left | JoinKind::Inner) && on.is_empty() {
        if let Rel::Project { input, exprs } = &right
            && exactly_one_row(input)
        {
            // Never padded: the projection may be done above.
            let mut above = passed(&left);
            above.extend(exprs.iter().cloned());
            let input = apply(kind, left, (**input).clone(), on, optimiser);
            return Rel::Project { input: Box::new(input), exprs: above };
        }
        if let Rel::Aggregate { group_by, grouping_sets: None, grouping: None, .. } = &right
            && group_by.is_empty()
            && let Some(done) = scalar_aggregate(&left, &right, &outer, optimiser)
        {
            return done;
        }
    }
    let mut pulled = Vec::new();
    let mut candidate = right.clone();
    pull(&mut candidate, &outer, &mut pulled);
    if reads(&candidate, &outer) {
        if kind == JoinKind::Inner {
            return inner(left, right, on, &outer, optimiser);
        }
        return Rel::Apply { kind, left: Box::new(left), right: Box::new(right), on };
    }
    let mut on = on;
    on.extend(pulled);
    join(kind, left, candidate, on)
}

/// An inner `Apply` whose right side reads `outer` in more than its conditions: what need not be
/// run anew for each left row is taken out of it.
fn inner(
    left: Rel,
    right: Rel,
    mut on: Vec<Expr>,
    outer: &ColumnSet,
    optimiser: &mut Optimiser,
) -> Rel {
    match right {
        Rel::Filter { input, predicates } => {
            on.extend(predicates);
            walk::filtered(apply(JoinKind::Inner, left, *input, vec![], optimiser), on)
        }
        Rel::Project { input, exprs } => {
            let mut above = passed(&left);
            above.extend(exprs);
            let input = Box::new(apply(JoinKind::Inner, left, *input, vec![], optimiser));
            walk::filtered(Rel::Project { input, exprs: above }, on)
        }
        Rel::Values { columns, mut rows } if rows.len() == 1 => {
            let mut above = passed(&left);
            above.extend(columns.into_iter().zip(rows.remove(0)));
            walk::filtered(Rel::Project { input: Box::new(left), exprs: above }, on)
        }
        Rel::Join { kind: JoinKind::Inner, left: a, right: b, on: mut both, lookup: false } => {
            let (a_reads, b_reads) = (reads(&a, outer), reads(&b, outer));
            on.append(&mut both);
            let (first, second) = if a_reads { (*a, *b) } else { (*b, *a) };
            let applied = apply(JoinKind::Inner, left, first, vec![], optimiser);
            match a_reads && b_reads {
                true => apply(JoinKind::Inner, applied, second, on, optimiser),
                false => join(JoinKind::Inner, applied, second, on),
            }
        }
        right => {
            let (left, right) = (Box::new(left), Box::new(right));
            Rel::Apply { kind: JoinKind::Inner, left, right, on }
        }
    }
}

fn join(kind: JoinKind, left: Rel, right: Rel, on: Vec<Expr>) -> Rel {
    if on.is_empty()
        && matches!(kind, JoinKind::Inner | JoinKind::Left)
        && matches!(&right, Rel::Values { columns, rows } if columns.is_empty() && rows.len() == 1)
    {
        return left;
    }
    Rel::Join { kind, left: Box::new(left), right: Box::new(right), on, lookup: false }
}

fn reads(rel: &Rel, outer: &ColumnSet) -> bool {
    walk::free_columns(rel).iter().any(|c| outer.contains(c))
}

fn passed(rel: &Rel) -> Vec<(Column, Expr)> {
    walk::output(rel)
        .into_iter()
        .map(|c| {
            let e = Expr::column(c.id, c.ty);
            (c, e)
        })
        .collect()
}

/// What matters of a relation when only its emptiness does.
fn existence(rel: &Rel) -> Option<Rel> {
    match rel {
        Rel::Project { input, exprs } if exprs.iter().all(|(_, e)| !walk::has_subquery(e)) => {
            Some((**input).clone())
        }
        Rel::Sort { input, .. } | Rel::Distinct { input, .. } => Some((**input).clone()),
        Rel::Limit { input, limit, offset: None, .. } => {
            let some = match limit.as_ref().map(|e| &e.kind) {
                None => true,
                Some(ExprKind::Const(Datum::Int8(n))) => *n > 0,
                Some(_) => false,
            };
            some.then(|| (**input).clone())
        }
        _ => None,
    }
}

/// Exactly one row, whatever the tables hold.
fn exactly_one_row(rel: &Rel) -> bool {
    match rel {
        Rel::Aggregate { group_by, grouping_sets: None, .. } => group_by.is_empty(),
        Rel::Values { rows, .. } => rows.len() == 1,
        Rel::Project { input, .. } => exactly_one_row(input),
        _ => false,
    }
}

/// Takes the conditions that read `outer` out of the relation, keeping the columns that they need.
fn pull(rel: &mut Rel, outer: &ColumnSet, out: &mut Vec<Expr>) {
    let wanted = |e: &Expr| {
        walk::expr_columns(e).iter().any(|c| outer.contains(c))
            && !walk::is_volatile(e)
            && !walk::has_subquery(e)
    };
    match rel {
        Rel::Filter { input, predicates } => {
            let (mine, rest): (Vec<Expr>, Vec<Expr>) =
                std::mem::take(predicates).into_iter().partition(wanted);
            out.extend(mine);
            pull(input, outer, out);
            let input = walk::take(input);
            *rel = walk::filtered(input, rest);
        }
        Rel::Join { kind: JoinKind::Inner, left, right, on, .. } => {
            let (mine, rest): (Vec<Expr>, Vec<Expr>) =
                std::mem::take(on).into_iter().partition(wanted);
            out.extend(mine);
            *on = rest;
            pull(left, outer, out);
            pull(right, outer, out);
        }
        Rel::Join { kind: JoinKind::Left | JoinKind::Semi | JoinKind::Anti, left, .. } => {
            pull(left, outer, out);
        }
        Rel::Project { input, exprs } => {
            let first = out.len();
            pull(input, outer, out);
            let below: BTreeMap<ColumnId, Column> =
                walk::output(input).into_iter().map(|c| (c.id, c)).collect();
            for id in out[first..].iter().flat_map(walk::expr_columns) {
                if let Some(column) = below.get(&id)
                    && exprs.iter().all(|(c, _)| c.id != id)
                {
                    exprs.push((column.clone(), Expr::column(id, column.ty)));
                }
            }
        }
        Rel::Sort { input, .. } => pull(input, outer, out),
        _ => {}
    }
}

/// `Apply(left, Aggregate(σ[inner = outer](R)))` → `left ⟕ Aggregate[inner](R)`.
fn scalar_aggregate(
    left: &Rel,
    right: &Rel,
    outer: &ColumnSet,
    optimiser: &mut Optimiser,
) -> Option<Rel> {
    let Rel::Aggregate { input, aggregates, .. } = right else { return None };
    let mut input = (**input).clone();
    let mut pulled = Vec::new();
    pull(&mut input, outer, &mut pulled);
    if pulled.is_empty() || reads(&input, outer) {
        return None;
    }
    let clean = aggregates.iter().all(|(_, a)| {
        let all = a.args.iter().chain(&a.filter).chain(a.order_by.iter().map(|(e, _, _)| e));
        all.flat_map(walk::expr_columns).all(|c| !outer.contains(&c))
    });
    if !clean {
        return None;
    }
    let inner = walk::output_set(&input);
    let mut group_by: Vec<ColumnId> = Vec::new();
    for e in &pulled {
        let (l, r) = keys::equality(e)?;
        let column = [(l, r), (r, l)].into_iter().find_map(|(a, b)| {
            let ExprKind::Column(id) = a.kind else { return None };
            let other = walk::expr_columns(b);
            (inner.contains(&id) && other.iter().all(|c| !inner.contains(c))).then_some(id)
        })?;
        if !group_by.contains(&column) {
            group_by.push(column);
        }
    }
    let mut above = passed(left);
    let mut calls = Vec::with_capacity(aggregates.len());
    for (column, call) in aggregates {
        if &*call.func.name == "count" || &*call.func.name == "regr_count" {
            let inner = Column { id: optimiser.fresh(), ..column.clone() };
            let zero = Expr::constant(Datum::Int8(0), column.ty);
            let args = vec![Expr::column(inner.id, inner.ty), zero];
            above.push((column.clone(), Expr { kind: ExprKind::Coalesce(args), ty: column.ty }));
            calls.push((inner, call.clone()));
        } else {
            above.push((column.clone(), Expr::column(column.id, column.ty)));
            calls.push((column.clone(), call.clone()));
        }
    }
    let grouped = Rel::Aggregate {
        input: Box::new(input),
        group_by,
        grouping_sets: None,
        aggregates: calls,
        grouping: None,
    };
    let joined = join(JoinKind::Left, left.clone(), grouped, pulled);
    Some(Rel::Project { input: Box::new(joined), exprs: above })
}
