//! Which columns a relation makes, uses, and gives.

use std::collections::BTreeMap;

use super::{ColumnSet, ELEMENT, each_expr, each_input, each_operand, subquery_of};
use crate::expr::{ColumnId, Expr, ExprKind};
use crate::plan::ModifyKind;
use crate::rel::{Column, JoinKind, Rel};

/// Columns that the expression uses and does not make, sub-queries included.
pub fn expr_columns(expr: &Expr) -> ColumnSet {
    let (mut used, mut made) = (ColumnSet::new(), ColumnSet::new());
    collect_expr(expr, &mut used, &mut made);
    used.retain(|c| !made.contains(c));
    used
}

/// Columns of enclosing queries that a relation uses.
pub fn free_columns(rel: &Rel) -> ColumnSet {
    let (mut used, mut made) = (ColumnSet::new(), ColumnSet::new());
    collect_rel(rel, &mut used, &mut made);
    used.retain(|c| !made.contains(c));
    used
}

/// Adds the columns that the expression uses, those of its sub-queries included.
pub fn collect_expr(expr: &Expr, used: &mut ColumnSet, made: &mut ColumnSet) {
    if let ExprKind::Column(id) = expr.kind
        && id != ELEMENT
    {
        used.insert(id);
    }
    if let Some(sub) = subquery_of(expr) {
        collect_rel(&sub.plan, used, made);
        used.extend(&sub.output);
    }
    each_operand(expr, &mut |e| collect_expr(e, used, made));
}

/// Adds the columns used and made anywhere in the tree.
pub fn collect_rel(rel: &Rel, used: &mut ColumnSet, made: &mut ColumnSet) {
    each_expr(rel, &mut |e| collect_expr(e, used, made));
    named_columns(rel, used);
    made_columns(rel, made);
    each_input(rel, &mut |r| collect_rel(r, used, made));
}

/// Columns that a node names outside expressions: sort keys, groups, and so on.
pub fn named_columns(rel: &Rel, used: &mut ColumnSet) {
    match rel {
        Rel::Aggregate { group_by, .. } => used.extend(group_by),
        Rel::Window { spec, .. } => {
            used.extend(&spec.partition_by);
            used.extend(spec.order_by.iter().map(|k| k.column));
        }
        Rel::Sort { keys, .. } => used.extend(keys.iter().map(|k| k.column)),
        Rel::Limit { with_ties: Some(keys), .. } => used.extend(keys.iter().map(|k| k.column)),
        Rel::Distinct { on, .. } => used.extend(on),
        Rel::SetOp { left, right, .. } => used.extend(left.1.iter().chain(&right.1)),
        Rel::LockRows { locks, .. } => used.extend(locks.iter().map(|l| l.key)),
        Rel::With { ctes, .. } => {
            for cte in ctes {
                used.extend(cte.columns.iter().map(|c| c.id));
                used.extend(cte.recursive.iter().flat_map(|(_, columns)| columns));
            }
        }
        Rel::Modify(modify) => match &modify.kind {
            ModifyKind::Update { key, old, .. } | ModifyKind::Delete { key, old } => {
                used.insert(*key);
                used.extend(old);
            }
            ModifyKind::Insert { .. } => {}
        },
        _ => {}
    }
}

/// Calls `f` on each column id that a node names outside expressions, to change it.
pub fn each_named_mut(rel: &mut Rel, f: &mut dyn FnMut(&mut ColumnId)) {
    match rel {
        Rel::Aggregate { group_by, .. } => group_by.iter_mut().for_each(f),
        Rel::Window { spec, .. } => {
            spec.partition_by.iter_mut().for_each(&mut *f);
            spec.order_by.iter_mut().for_each(|k| f(&mut k.column));
        }
        Rel::Sort { keys, .. } | Rel::Limit { with_ties: Some(keys), .. } => {
            keys.iter_mut().for_each(|k| f(&mut k.column));
        }
        Rel::Distinct { on, .. } => on.iter_mut().for_each(f),
        Rel::SetOp { left, right, .. } => left.1.iter_mut().chain(&mut right.1).for_each(f),
        Rel::LockRows { locks, .. } => locks.iter_mut().for_each(|l| f(&mut l.key)),
        Rel::With { ctes, .. } => {
            ctes.iter_mut().filter_map(|c| c.recursive.as_mut()).flat_map(|(_, c)| c).for_each(f);
        }
        Rel::Modify(modify) => match &mut modify.kind {
            ModifyKind::Update { key, old, .. } | ModifyKind::Delete { key, old } => {
                f(key);
                old.iter_mut().for_each(f);
            }
            ModifyKind::Insert { .. } => {}
        },
        _ => {}
    }
}

/// Columns that a node itself makes.
fn made_columns(rel: &Rel, made: &mut ColumnSet) {
    match rel {
        Rel::Scan { columns, .. } => made.extend(columns.iter().map(|(c, _)| c.id)),
        Rel::Virtual { columns, .. } => made.extend(columns.iter().map(|(c, _)| c.id)),
        Rel::Values { columns, .. } | Rel::SetOp { columns, .. } | Rel::CteScan { columns, .. } => {
            made.extend(columns.iter().map(|c| c.id));
        }
        // A column that is passed on under its own id is made further down, or is an outer one.
        Rel::Project { exprs, .. } => made.extend(
            exprs
                .iter()
                .filter(|(c, e)| !matches!(e.kind, ExprKind::Column(id) if id == c.id))
                .map(|(c, _)| c.id),
        ),
        Rel::ProjectSet { calls, .. } => {
            made.extend(calls.iter().flat_map(|c| &c.columns).map(|c| c.id));
        }
        Rel::Function { calls, ordinality } => {
            made.extend(calls.iter().flat_map(|c| &c.columns).chain(ordinality).map(|c| c.id));
        }
        Rel::Aggregate { aggregates, grouping, .. } => {
            made.extend(aggregates.iter().map(|(c, _)| c.id).chain(grouping.iter().map(|c| c.id)));
        }
        Rel::Window { calls, .. } => made.extend(calls.iter().map(|(c, _)| c.id)),
        Rel::With { ctes, .. } => {
            made.extend(ctes.iter().flat_map(|c| &c.columns).map(|c| c.id));
        }
        Rel::Modify(modify) => {
            made.extend(
                modify.new_columns.iter().chain(modify.returning.iter().map(|(c, _)| &c.id)),
            );
            if let ModifyKind::Insert { on_conflict: Some(c), .. } = &modify.kind
                && let Some(update) = &c.update
            {
                made.extend(update.existing.iter().chain(&update.excluded));
            }
        }
        _ => {}
    }
}

/// The columns that a relation gives.
pub fn output(rel: &Rel) -> Vec<Column> {
    match rel {
        Rel::Scan { columns, .. } => columns.iter().map(|(c, _)| c.clone()).collect(),
        Rel::Virtual { columns, .. } => columns.iter().map(|(c, _)| c.clone()).collect(),
        Rel::Values { columns, .. } | Rel::SetOp { columns, .. } | Rel::CteScan { columns, .. } => {
            columns.clone()
        }
        Rel::Project { exprs, .. } => exprs.iter().map(|(c, _)| c.clone()).collect(),
        Rel::ProjectSet { input, calls } => {
            let mut columns = output(input);
            columns.extend(calls.iter().flat_map(|c| c.columns.iter().cloned()));
            columns
        }
        Rel::Filter { input, .. }
        | Rel::Sort { input, .. }
        | Rel::Limit { input, .. }
        | Rel::Distinct { input, .. }
        | Rel::LockRows { input, .. } => output(input),
        Rel::Join { kind, left, right, .. } | Rel::Apply { kind, left, right, .. } => {
            let mut columns = output(left);
            if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
                columns.extend(output(right));
            }
            columns
        }
        Rel::Aggregate { input, group_by, aggregates, grouping, .. } => {
            let inner: BTreeMap<ColumnId, Column> =
                output(input).into_iter().map(|c| (c.id, c)).collect();
            let groups = group_by.iter().filter_map(|id| inner.get(id).cloned());
            groups
                .chain(aggregates.iter().map(|(c, _)| c.clone()))
                .chain(grouping.iter().cloned())
                .collect()
        }
        Rel::Window { input, calls, .. } => {
            let mut columns = output(input);
            columns.extend(calls.iter().map(|(c, _)| c.clone()));
            columns
        }
        Rel::Function { calls, ordinality } => {
            calls.iter().flat_map(|c| &c.columns).chain(ordinality).cloned().collect()
        }
        Rel::With { body, .. } => output(body),
        Rel::Modify(modify) => modify.returning.iter().map(|(c, _)| c.clone()).collect(),
    }
}

/// The ids of the columns that a relation gives.
pub fn output_set(rel: &Rel) -> ColumnSet {
    output(rel).into_iter().map(|c| c.id).collect()
}
