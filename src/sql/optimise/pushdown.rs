//! Predicates move towards the tables.
//!
//! A predicate stops where a column it reads is made, at a LIMIT, at a window or aggregate whose
//! groups it would split, and at the side of an outer join that is padded. On the way it turns an
//! outer join whose padded rows it refuses into an inner one. A volatile predicate does not move,
//! nor is it overtaken. Predicates with sub-queries stay above scans.

use std::collections::BTreeMap;

use super::strict::refuses_null;
use crate::expr::{ColumnId, Expr};
use crate::rel::{JoinKind, Rel};
use crate::walk::{self, ColumnSet};

/// Pushes all predicates of a tree.
pub(super) fn relation(rel: Rel) -> Rel {
    push(rel, vec![])
}

fn within(e: &Expr, columns: &ColumnSet) -> bool {
    walk::expr_columns(e).iter().all(|c| columns.contains(c))
}

fn touches(e: &Expr, columns: &ColumnSet) -> bool {
    walk::expr_columns(e).iter().any(|c| columns.contains(c))
}

/// The relation with `predicates` applied as far down as they go.
fn push(rel: Rel, predicates: Vec<Expr>) -> Rel {
    walk::with_stack(|| push_into(rel, predicates))
}

fn push_into(rel: Rel, predicates: Vec<Expr>) -> Rel {
    match rel {
        Rel::Filter { input, predicates: mine } => {
            if mine.iter().any(walk::is_volatile) {
                return walk::filtered(
                    Rel::Filter { input: boxed(*input), predicates: mine },
                    predicates,
                );
            }
            let mut all = mine;
            all.extend(predicates);
            push(*input, all)
        }
        Rel::Project { input, exprs } => project(*input, exprs, predicates),
        Rel::Join { kind, left, right, on, lookup } => {
            let (left, right) = (*left, *right);
            join(kind, left, right, on, predicates, &mut |kind, left, right, on| Rel::Join {
                kind,
                left: Box::new(left),
                right: Box::new(right),
                on,
                lookup,
            })
        }
        Rel::Apply { kind, left, right, on } => {
            let (left, right) = (*left, *right);
            join(kind, left, right, on, predicates, &mut |kind, left, right, on| Rel::Apply {
                kind,
                left: Box::new(left),
                right: Box::new(right),
                on,
            })
        }
        Rel::Scan { table, columns, mut filter, access } => {
            let (here, above) = split_subqueries(predicates);
            filter.extend(here);
            walk::filtered(Rel::Scan { table, columns, filter, access }, above)
        }
        Rel::Virtual { table, columns, mut filter } => {
            let (here, above) = split_subqueries(predicates);
            filter.extend(here);
            walk::filtered(Rel::Virtual { table, columns, filter }, above)
        }
        Rel::Aggregate { input, group_by, grouping_sets, aggregates, grouping } => {
            let groups: ColumnSet = group_by.iter().copied().collect();
            let allowed = grouping_sets.is_none() && !groups.is_empty();
            let made: ColumnSet =
                aggregates.iter().map(|(c, _)| c.id).chain(grouping.iter().map(|c| c.id)).collect();
            let inner = walk::output_set(&input);
            let (down, above) = predicates.into_iter().partition(|e| {
                let used = walk::expr_columns(e);
                allowed
                    && !walk::is_volatile(e)
                    && used
                        .iter()
                        .all(|c| !made.contains(c) && (groups.contains(c) || !inner.contains(c)))
            });
            let input = Box::new(push(*input, down));
            let rel = Rel::Aggregate { input, group_by, grouping_sets, aggregates, grouping };
            walk::filtered(rel, above)
        }
        Rel::Window { input, spec, calls } => {
            let parts: ColumnSet = spec.partition_by.iter().copied().collect();
            let (down, above) = predicates
                .into_iter()
                .partition(|e| !walk::is_volatile(e) && !parts.is_empty() && within(e, &parts));
            walk::filtered(Rel::Window { input: Box::new(push(*input, down)), spec, calls }, above)
        }
        Rel::Sort { input, keys } => {
            let (down, above) = pure(predicates);
            walk::filtered(Rel::Sort { input: Box::new(push(*input, down)), keys }, above)
        }
        Rel::LockRows { input, locks } => {
            let (down, above) = pure(predicates);
            walk::filtered(Rel::LockRows { input: Box::new(push(*input, down)), locks }, above)
        }
        Rel::Distinct { input, on } => {
            let on_set: ColumnSet = on.iter().copied().collect();
            let inner = walk::output_set(&input);
            let (down, above) = predicates.into_iter().partition(|e| {
                let used = walk::expr_columns(e);
                !walk::is_volatile(e)
                    && used.iter().all(|c| on_set.contains(c) || !inner.contains(c))
            });
            walk::filtered(Rel::Distinct { input: Box::new(push(*input, down)), on }, above)
        }
        Rel::SetOp { kind, all, columns, left, right } => {
            let (down, above): (Vec<Expr>, Vec<Expr>) = predicates
                .into_iter()
                .partition(|e| !walk::is_volatile(e) && !walk::has_subquery(e));
            let side = |(rel, ids): (Box<Rel>, Vec<ColumnId>)| {
                let types: BTreeMap<ColumnId, _> =
                    walk::output(&rel).into_iter().map(|c| (c.id, c.ty)).collect();
                let map: BTreeMap<ColumnId, Expr> = columns
                    .iter()
                    .zip(&ids)
                    .map(|(c, id)| {
                        (c.id, Expr::column(*id, types.get(id).copied().unwrap_or(c.ty)))
                    })
                    .collect();
                let mut mine = down.clone();
                mine.iter_mut().for_each(|e| walk::substitute(e, &map));
                (Box::new(push(*rel, mine)), ids)
            };
            let (left, right) = (side(left), side(right));
            walk::filtered(Rel::SetOp { kind, all, columns, left, right }, above)
        }
        Rel::With { mut ctes, body } => {
            for cte in &mut ctes {
                cte.plan = push(walk::take(&mut cte.plan), vec![]);
                if let Some((r, _)) = &mut cte.recursive {
                    *r = push(walk::take(r), vec![]);
                }
            }
            Rel::With { ctes, body: Box::new(push(*body, predicates)) }
        }
        mut other => {
            walk::each_input_mut(&mut other, &mut |r| {
                let taken = walk::take(r);
                *r = push(taken, vec![]);
            });
            walk::filtered(other, predicates)
        }
    }
}

fn boxed(input: Rel) -> Box<Rel> {
    Box::new(push(input, vec![]))
}

fn pure(predicates: Vec<Expr>) -> (Vec<Expr>, Vec<Expr>) {
    predicates.into_iter().partition(|e| !walk::is_volatile(e))
}

fn split_subqueries(predicates: Vec<Expr>) -> (Vec<Expr>, Vec<Expr>) {
    predicates.into_iter().partition(|e| !walk::has_subquery(e) && !walk::is_volatile(e))
}

fn project(input: Rel, exprs: Vec<(crate::rel::Column, Expr)>, predicates: Vec<Expr>) -> Rel {
    let fixed: ColumnSet = exprs
        .iter()
        .filter(|(_, e)| walk::is_volatile(e) || walk::has_subquery(e))
        .map(|(c, _)| c.id)
        .collect();
    let (mut down, above): (Vec<Expr>, Vec<Expr>) =
        predicates.into_iter().partition(|e| !walk::is_volatile(e) && !touches(e, &fixed));
    let map: BTreeMap<ColumnId, Expr> = exprs.iter().map(|(c, e)| (c.id, e.clone())).collect();
    down.iter_mut().for_each(|e| walk::substitute(e, &map));
    walk::filtered(Rel::Project { input: Box::new(push(input, down)), exprs }, above)
}

fn join(
    kind: JoinKind,
    left: Rel,
    right: Rel,
    on: Vec<Expr>,
    predicates: Vec<Expr>,
    make: &mut dyn FnMut(JoinKind, Rel, Rel, Vec<Expr>) -> Rel,
) -> Rel {
    let (l, r) = (walk::output_set(&left), walk::output_set(&right));
    let kind = reduced(kind, &predicates, &l, &r);
    let (mut to_left, mut to_right, mut keep, mut above) = (vec![], vec![], vec![], vec![]);
    for e in predicates {
        let (in_l, in_r) = (touches(&e, &l), touches(&e, &r));
        if walk::is_volatile(&e) {
            above.push(e);
            continue;
        }
        match kind {
            JoinKind::Inner if in_l && in_r => keep.push(e),
            JoinKind::Inner if in_r => to_right.push(e),
            JoinKind::Inner => to_left.push(e),
            JoinKind::Left | JoinKind::Semi | JoinKind::Anti if !in_r => to_left.push(e),
            JoinKind::Right if !in_l => to_right.push(e),
            _ => above.push(e),
        }
    }
    for e in on {
        let (in_l, in_r) = (touches(&e, &l), touches(&e, &r));
        if walk::is_volatile(&e) {
            keep.push(e);
            continue;
        }
        match kind {
            JoinKind::Inner | JoinKind::Semi if in_l && !in_r => to_left.push(e),
            JoinKind::Inner | JoinKind::Semi | JoinKind::Left | JoinKind::Anti if in_r && !in_l => {
                to_right.push(e);
            }
            JoinKind::Right if in_l && !in_r => to_left.push(e),
            _ => keep.push(e),
        }
    }
    let rel = make(kind, push(left, to_left), push(right, to_right), keep);
    walk::filtered(rel, above)
}

/// The kind of join when padded rows are refused above.
fn reduced(kind: JoinKind, predicates: &[Expr], left: &ColumnSet, right: &ColumnSet) -> JoinKind {
    let refuses = |side: &ColumnSet| predicates.iter().any(|e| refuses_null(e, side));
    match kind {
        JoinKind::Left if refuses(right) => JoinKind::Inner,
        JoinKind::Right if refuses(left) => JoinKind::Inner,
        JoinKind::Full => match (refuses(left), refuses(right)) {
            (true, true) => JoinKind::Inner,
            (true, false) => JoinKind::Left,
            (false, true) => JoinKind::Right,
            (false, false) => JoinKind::Full,
        },
        kind => kind,
    }
}
