//! Only the columns that somebody reads are carried; projections that only rename are dropped.

use std::collections::BTreeMap;

use crate::expr::{ColumnId, Expr, ExprKind};
use crate::plan::Query;
use crate::rel::{JoinKind, Rel, SetOpKind};
use crate::walk::{self, ColumnSet};

/// Prunes a relation of which `needed` is read.
pub(super) fn relation(mut rel: Rel, needed: &ColumnSet) -> Rel {
    prune(&mut rel, needed);
    rel
}

fn uses<'e>(exprs: impl IntoIterator<Item = &'e Expr>, into: &mut ColumnSet) {
    exprs.into_iter().for_each(|e| into.extend(walk::expr_columns(e)));
}

fn prune(rel: &mut Rel, needed: &ColumnSet) {
    walk::with_stack(|| prune_node(rel, needed));
}

fn prune_node(rel: &mut Rel, needed: &ColumnSet) {
    match rel {
        Rel::Scan { columns, filter, .. } => {
            let mut keep = needed.clone();
            uses(&*filter, &mut keep);
            columns.retain(|(c, _)| keep.contains(&c.id));
        }
        Rel::Virtual { columns, filter, .. } => {
            let mut keep = needed.clone();
            uses(&*filter, &mut keep);
            columns.retain(|(c, _)| keep.contains(&c.id));
        }
        Rel::Values { columns, rows } => {
            let keep: Vec<bool> = (0..columns.len())
                .map(|i| {
                    needed.contains(&columns[i].id)
                        || rows.iter().any(|r| r.get(i).is_some_and(walk::is_volatile))
                })
                .collect();
            if keep.iter().all(|k| *k) {
                return;
            }
            retain(columns, &keep);
            rows.iter_mut().for_each(|r| retain(r, &keep));
        }
        Rel::Project { input, exprs } => {
            exprs.retain(|(c, e)| needed.contains(&c.id) || walk::is_volatile(e));
            let mut below = ColumnSet::new();
            uses(exprs.iter().map(|(_, e)| e), &mut below);
            prune(input, &below);
            let made = walk::output_set(input);
            let passes = exprs.iter().all(
                |(c, e)| matches!(e.kind, ExprKind::Column(id) if id == c.id && made.contains(&id)),
            );
            if passes {
                *rel = walk::take(input);
            }
        }
        Rel::Window { input, calls, .. } => {
            calls.retain(|(c, _)| needed.contains(&c.id));
            if calls.is_empty() {
                let mut inner = walk::take(input);
                prune(&mut inner, needed);
                *rel = inner;
                return;
            }
            generic(rel, needed);
        }
        Rel::Aggregate { input, aggregates, grouping, group_by, .. } => {
            aggregates.retain(|(c, _)| needed.contains(&c.id));
            if grouping.as_ref().is_some_and(|c| !needed.contains(&c.id)) {
                *grouping = None;
            }
            let mut below: ColumnSet = group_by.iter().copied().collect();
            for (_, call) in aggregates {
                uses(&call.args, &mut below);
                uses(&call.filter, &mut below);
                uses(call.order_by.iter().map(|(e, _, _)| e), &mut below);
            }
            prune(input, &below);
        }
        Rel::Join { kind, left, right, on, .. } => {
            let mut below = side(*kind, needed);
            let mut on_left = needed.clone();
            uses(&*on, &mut below);
            uses(&*on, &mut on_left);
            prune(left, &on_left);
            prune(right, &below);
        }
        Rel::Apply { kind, left, right, on } => {
            let mut below = side(*kind, needed);
            let mut on_left = needed.clone();
            uses(&*on, &mut below);
            uses(&*on, &mut on_left);
            prune(right, &below);
            on_left.extend(walk::free_columns(right));
            prune(left, &on_left);
        }
        Rel::SetOp { kind: SetOpKind::Union, all: true, columns, left, right } => {
            let keep: Vec<bool> = columns.iter().map(|c| needed.contains(&c.id)).collect();
            retain(columns, &keep);
            for (rel, ids) in [left, right] {
                retain(ids, &keep);
                prune(rel, &ids.iter().copied().collect());
            }
        }
        Rel::SetOp { left, right, .. } => {
            for (rel, ids) in [left, right] {
                prune(rel, &ids.iter().copied().collect());
            }
        }
        Rel::With { ctes, body } => {
            for cte in ctes {
                prune(&mut cte.plan, &cte.columns.iter().map(|c| c.id).collect());
                if let Some((r, ids)) = &mut cte.recursive {
                    prune(r, &ids.iter().copied().collect());
                }
            }
            prune(body, needed);
        }
        _ => generic(rel, needed),
    }
}

/// Inputs give what is needed above and what the node itself reads.
fn generic(rel: &mut Rel, needed: &ColumnSet) {
    let mut below = needed.clone();
    walk::named_columns(rel, &mut below);
    walk::each_expr(rel, &mut |e| below.extend(walk::expr_columns(e)));
    walk::each_input_mut(rel, &mut |r| prune(r, &below));
}

fn side(kind: JoinKind, needed: &ColumnSet) -> ColumnSet {
    if matches!(kind, JoinKind::Semi | JoinKind::Anti) { ColumnSet::new() } else { needed.clone() }
}

fn retain<T>(list: &mut Vec<T>, keep: &[bool]) {
    let mut i = 0;
    list.retain(|_| {
        i += 1;
        keep.get(i - 1).copied().unwrap_or(true)
    });
}

/// Projections that only give columns new ids are undone: the old ids are used everywhere.
///
/// This is what makes a view or a sub-query in FROM transparent to all other rules.
pub(super) fn renames(query: &mut Query) {
    let mut map: BTreeMap<ColumnId, ColumnId> = BTreeMap::new();
    collect(&query.rel, &mut map);
    if map.is_empty() {
        return;
    }
    let resolve = |mut id: ColumnId| {
        while let Some(to) = map.get(&id) {
            id = *to;
        }
        id
    };
    rename(&mut query.rel, &resolve);
    query.output.iter_mut().for_each(|c| c.id = resolve(c.id));
}

fn collect(rel: &Rel, map: &mut BTreeMap<ColumnId, ColumnId>) {
    if let Rel::Project { input, exprs } = rel {
        let made = walk::output_set(input);
        for (c, e) in exprs {
            if let ExprKind::Column(id) = e.kind
                && id != c.id
                && made.contains(&id)
                && e.ty.oid == c.ty.oid
            {
                map.insert(c.id, id);
            }
        }
    }
    walk::each_input(rel, &mut |r| collect(r, map));
    walk::each_expr(rel, &mut |e| collect_expr(e, map));
}

fn collect_expr(e: &Expr, map: &mut BTreeMap<ColumnId, ColumnId>) {
    if let Some(sub) = walk::subquery_of(e) {
        collect(&sub.plan, map);
    }
    walk::each_operand(e, &mut |e| collect_expr(e, map));
}

fn rename(rel: &mut Rel, to: &dyn Fn(ColumnId) -> ColumnId) {
    walk::each_input_mut(rel, &mut |r| rename(r, to));
    walk::each_expr_mut(rel, &mut |e| rename_expr(e, to));
    walk::each_named_mut(rel, &mut |id| *id = to(*id));
    if let Rel::Project { exprs, .. } = rel {
        exprs.iter_mut().for_each(|(c, _)| c.id = to(c.id));
        let mut seen = ColumnSet::new();
        exprs.retain(|(c, _)| seen.insert(c.id));
    }
    if let Rel::With { ctes, .. } = rel {
        ctes.iter_mut().flat_map(|c| &mut c.columns).for_each(|c| c.id = to(c.id));
    }
}

fn rename_expr(e: &mut Expr, to: &dyn Fn(ColumnId) -> ColumnId) {
    walk::each_operand_mut(e, &mut |e| rename_expr(e, to));
    if let ExprKind::Column(id) = &mut e.kind {
        *id = to(*id);
    }
    if let Some(sub) = walk::subquery_of_mut(e) {
        sub.output.iter_mut().chain(&mut sub.outer).for_each(|id| *id = to(*id));
        rename(std::sync::Arc::make_mut(&mut sub.plan), to);
    }
}
