//! Walking over the algebra: children, own expressions, columns made and columns used.
//!
//! Column ids are unique in a statement, so the free columns of any tree are the ones it uses less
//! the ones it makes, wherever in the tree that happens. Rules lean on this: an expression may be
//! moved anywhere below which its columns are made, without renumbering.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::expr::{ColumnId, Expr, ExprKind, Subquery};
use crate::plan::{Modify, ModifyKind};
use crate::rel::{AggregateCall, FrameBound, FunctionCall, Rel, WindowCall};

mod columns;

pub use columns::*;

/// Stands for the element in [`ExprKind::ArrayCoerce`].
pub const ELEMENT: ColumnId = ColumnId(u32::MAX);

/// A set of columns.
pub type ColumnSet = BTreeSet<ColumnId>;

/// Runs a step of a recursion over a tree, on more stack where little is left: what a client sends
/// may nest hundreds of relations.
pub fn with_stack<T>(f: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(256 << 10, 4 << 20, f)
}

/// Calls `f` on each operand. Sub-queries are not entered; the test of a quantified one is.
pub fn each_operand<'a>(expr: &'a Expr, f: &mut dyn FnMut(&'a Expr)) {
    match &expr.kind {
        ExprKind::Const(_)
        | ExprKind::Column(_)
        | ExprKind::Param(_)
        | ExprKind::SqlValue(_)
        | ExprKind::ScalarSubquery(_)
        | ExprKind::Exists(_)
        | ExprKind::ArraySubquery(_)
        | ExprKind::Default => {}
        ExprKind::Call { args, .. }
        | ExprKind::And(args)
        | ExprKind::Or(args)
        | ExprKind::Coalesce(args)
        | ExprKind::MinMax { args, .. }
        | ExprKind::Array { elements: args, .. }
        | ExprKind::Row(args) => args.iter().for_each(f),
        ExprKind::Not(e)
        | ExprKind::IsNull(e)
        | ExprKind::IsNotNull(e)
        | ExprKind::Truth(_, e)
        | ExprKind::Field(e, _)
        | ExprKind::Relabel(e)
        | ExprKind::ViaText { arg: e } => f(e),
        ExprKind::Distinct { left, right, .. } | ExprKind::ArrayCompare { left, right, .. } => {
            f(left);
            f(right);
        }
        ExprKind::Case { whens, default } => {
            for (condition, result) in whens {
                f(condition);
                f(result);
            }
            default.iter().for_each(|e| f(e));
        }
        ExprKind::RowCompare { pairs, .. } => {
            for (left, right) in pairs {
                f(left);
                f(right);
            }
        }
        ExprKind::NullIf { left, right, result, .. } => {
            f(left);
            f(right);
            f(result);
        }
        ExprKind::Subscript { base, indexes, .. } => {
            indexes.iter().flat_map(|(l, u)| l.iter().chain(u)).for_each(&mut *f);
            f(base);
        }
        ExprKind::ArrayCoerce { arg, element } => {
            f(arg);
            f(element);
        }
        ExprKind::Quantified { test, .. } => f(test),
    }
}

/// Calls `f` on each operand, to change it. Sub-queries are not entered.
pub fn each_operand_mut(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    match &mut expr.kind {
        ExprKind::Const(_)
        | ExprKind::Column(_)
        | ExprKind::Param(_)
        | ExprKind::SqlValue(_)
        | ExprKind::ScalarSubquery(_)
        | ExprKind::Exists(_)
        | ExprKind::ArraySubquery(_)
        | ExprKind::Default => {}
        ExprKind::Call { args, .. }
        | ExprKind::And(args)
        | ExprKind::Or(args)
        | ExprKind::Coalesce(args)
        | ExprKind::MinMax { args, .. }
        | ExprKind::Array { elements: args, .. }
        | ExprKind::Row(args) => args.iter_mut().for_each(f),
        ExprKind::Not(e)
        | ExprKind::IsNull(e)
        | ExprKind::IsNotNull(e)
        | ExprKind::Truth(_, e)
        | ExprKind::Field(e, _)
        | ExprKind::Relabel(e)
        | ExprKind::ViaText { arg: e } => f(e),
        ExprKind::Distinct { left, right, .. } | ExprKind::ArrayCompare { left, right, .. } => {
            f(left);
            f(right);
        }
        ExprKind::Case { whens, default } => {
            for (condition, result) in whens {
                f(condition);
                f(result);
            }
            default.iter_mut().for_each(|e| f(e));
        }
        ExprKind::RowCompare { pairs, .. } => {
            for (left, right) in pairs {
                f(left);
                f(right);
            }
        }
        ExprKind::NullIf { left, right, result, .. } => {
            f(left);
            f(right);
            f(result);
        }
        ExprKind::Subscript { base, indexes, .. } => {
            indexes.iter_mut().flat_map(|(l, u)| l.iter_mut().chain(u)).for_each(&mut *f);
            f(base);
        }
        ExprKind::ArrayCoerce { arg, element } => {
            f(arg);
            f(element);
        }
        ExprKind::Quantified { test, .. } => f(test),
    }
}

/// The sub-query that this node itself holds.
pub fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match &expr.kind {
        ExprKind::ScalarSubquery(s)
        | ExprKind::Exists(s)
        | ExprKind::ArraySubquery(s)
        | ExprKind::Quantified { subquery: s, .. } => Some(s),
        _ => None,
    }
}

/// The sub-query that this node itself holds, to change it.
pub fn subquery_of_mut(expr: &mut Expr) -> Option<&mut Subquery> {
    match &mut expr.kind {
        ExprKind::ScalarSubquery(s)
        | ExprKind::Exists(s)
        | ExprKind::ArraySubquery(s)
        | ExprKind::Quantified { subquery: s, .. } => Some(s),
        _ => None,
    }
}

/// Calls `f` on each input of a relation.
pub fn each_input<'a>(rel: &'a Rel, f: &mut dyn FnMut(&'a Rel)) {
    with_stack(|| inputs(rel, f));
}

fn inputs<'a>(rel: &'a Rel, f: &mut dyn FnMut(&'a Rel)) {
    match rel {
        Rel::Scan { .. }
        | Rel::Virtual { .. }
        | Rel::Values { .. }
        | Rel::Function { .. }
        | Rel::CteScan { .. } => {}
        Rel::Project { input, .. }
        | Rel::ProjectSet { input, .. }
        | Rel::Filter { input, .. }
        | Rel::Aggregate { input, .. }
        | Rel::Window { input, .. }
        | Rel::Sort { input, .. }
        | Rel::Limit { input, .. }
        | Rel::Distinct { input, .. }
        | Rel::LockRows { input, .. } => f(input),
        Rel::Join { left, right, .. } | Rel::Apply { left, right, .. } => {
            f(left);
            f(right);
        }
        Rel::SetOp { left, right, .. } => {
            f(&left.0);
            f(&right.0);
        }
        Rel::With { ctes, body } => {
            for cte in ctes {
                f(&cte.plan);
                cte.recursive.iter().for_each(|(r, _)| f(r));
            }
            f(body);
        }
        Rel::Modify(modify) => f(&modify.source),
    }
}

/// Calls `f` on each input of a relation, to change it.
pub fn each_input_mut(rel: &mut Rel, f: &mut dyn FnMut(&mut Rel)) {
    with_stack(|| inputs_mut(rel, f));
}

fn inputs_mut(rel: &mut Rel, f: &mut dyn FnMut(&mut Rel)) {
    match rel {
        Rel::Scan { .. }
        | Rel::Virtual { .. }
        | Rel::Values { .. }
        | Rel::Function { .. }
        | Rel::CteScan { .. } => {}
        Rel::Project { input, .. }
        | Rel::ProjectSet { input, .. }
        | Rel::Filter { input, .. }
        | Rel::Aggregate { input, .. }
        | Rel::Window { input, .. }
        | Rel::Sort { input, .. }
        | Rel::Limit { input, .. }
        | Rel::Distinct { input, .. }
        | Rel::LockRows { input, .. } => f(input),
        Rel::Join { left, right, .. } | Rel::Apply { left, right, .. } => {
            f(left);
            f(right);
        }
        Rel::SetOp { left, right, .. } => {
            f(&mut left.0);
            f(&mut right.0);
        }
        Rel::With { ctes, body } => {
            for cte in ctes {
                f(&mut cte.plan);
                cte.recursive.iter_mut().for_each(|(r, _)| f(r));
            }
            f(body);
        }
        Rel::Modify(modify) => f(&mut modify.source),
    }
}

/// Calls `f` on each expression that the node itself holds.
pub fn each_expr<'a>(rel: &'a Rel, f: &mut dyn FnMut(&'a Expr)) {
    match rel {
        Rel::Scan { filter, access, .. } => {
            filter.iter().for_each(&mut *f);
            if let crate::rel::Access::Index { spans, .. } = access {
                for span in spans {
                    span.prefix.iter().for_each(&mut *f);
                    span.lower.iter().chain(span.upper.iter()).for_each(|(e, _)| f(e));
                }
            }
        }
        Rel::Virtual { filter, .. } => filter.iter().for_each(f),
        Rel::Values { rows, .. } => rows.iter().flatten().for_each(f),
        Rel::Project { exprs, .. } => exprs.iter().for_each(|(_, e)| f(e)),
        Rel::ProjectSet { calls, .. } | Rel::Function { calls, .. } => {
            calls.iter().flat_map(|c: &'a FunctionCall| c.args.iter()).for_each(f);
        }
        Rel::Filter { predicates: on, .. } | Rel::Join { on, .. } | Rel::Apply { on, .. } => {
            on.iter().for_each(f);
        }
        Rel::Aggregate { aggregates, .. } => {
            aggregates.iter().for_each(|(_, call)| aggregate_exprs(call, f));
        }
        Rel::Window { spec, calls, .. } => {
            for (_, WindowCall { args, filter, .. }) in calls {
                args.iter().chain(filter).for_each(&mut *f);
            }
            for bound in [&spec.start, &spec.end] {
                if let FrameBound::Preceding(e) | FrameBound::Following(e) = bound {
                    f(e);
                }
            }
        }
        Rel::Limit { limit, offset, .. } => limit.iter().chain(offset).for_each(f),
        Rel::Modify(modify) => modify_exprs(modify, f),
        Rel::Sort { .. }
        | Rel::Distinct { .. }
        | Rel::SetOp { .. }
        | Rel::With { .. }
        | Rel::CteScan { .. }
        | Rel::LockRows { .. } => {}
    }
}

fn aggregate_exprs<'a>(call: &'a AggregateCall, f: &mut dyn FnMut(&'a Expr)) {
    call.args.iter().for_each(&mut *f);
    call.order_by.iter().for_each(|(e, _, _)| f(e));
    call.filter.iter().for_each(f);
}

fn modify_exprs<'a>(modify: &'a Modify, f: &mut dyn FnMut(&'a Expr)) {
    match &modify.kind {
        ModifyKind::Insert { values, on_conflict } => {
            values.iter().for_each(&mut *f);
            if let Some(update) = on_conflict.as_ref().and_then(|c| c.update.as_ref()) {
                update.set.iter().for_each(|(_, e)| f(e));
                update.filter.iter().for_each(&mut *f);
            }
        }
        ModifyKind::Update { set, .. } => set.iter().for_each(|(_, e)| f(e)),
        ModifyKind::Delete { .. } => {}
    }
    modify.returning.iter().for_each(|(_, e)| f(e));
    modify.checks.iter().chain(&modify.view_checks).for_each(|(_, e)| f(e));
    modify.generated.iter().for_each(|(_, e)| f(e));
}

/// Calls `f` on each expression that the node itself holds, to change it.
pub fn each_expr_mut(rel: &mut Rel, f: &mut dyn FnMut(&mut Expr)) {
    match rel {
        Rel::Scan { filter, access, .. } => {
            filter.iter_mut().for_each(&mut *f);
            if let crate::rel::Access::Index { spans, .. } = access {
                for span in spans {
                    span.prefix.iter_mut().for_each(&mut *f);
                    span.lower.iter_mut().chain(span.upper.iter_mut()).for_each(|(e, _)| f(e));
                }
            }
        }
        Rel::Virtual { filter, .. } => filter.iter_mut().for_each(f),
        Rel::Values { rows, .. } => rows.iter_mut().flatten().for_each(f),
        Rel::Project { exprs, .. } => exprs.iter_mut().for_each(|(_, e)| f(e)),
        Rel::ProjectSet { calls, .. } | Rel::Function { calls, .. } => {
            calls.iter_mut().flat_map(|c: &mut FunctionCall| c.args.iter_mut()).for_each(f);
        }
        Rel::Filter { predicates: on, .. } | Rel::Join { on, .. } | Rel::Apply { on, .. } => {
            on.iter_mut().for_each(f);
        }
        Rel::Aggregate { aggregates, .. } => {
            aggregates.iter_mut().for_each(|(_, call)| aggregate_exprs_mut(call, f));
        }
        Rel::Window { spec, calls, .. } => {
            for (_, WindowCall { args, filter, .. }) in calls {
                args.iter_mut().chain(filter).for_each(&mut *f);
            }
            for bound in [&mut spec.start, &mut spec.end] {
                if let FrameBound::Preceding(e) | FrameBound::Following(e) = bound {
                    f(e);
                }
            }
        }
        Rel::Limit { limit, offset, .. } => limit.iter_mut().chain(offset).for_each(f),
        Rel::Modify(modify) => modify_exprs_mut(modify, f),
        Rel::Sort { .. }
        | Rel::Distinct { .. }
        | Rel::SetOp { .. }
        | Rel::With { .. }
        | Rel::CteScan { .. }
        | Rel::LockRows { .. } => {}
    }
}

fn aggregate_exprs_mut(call: &mut AggregateCall, f: &mut dyn FnMut(&mut Expr)) {
    call.args.iter_mut().for_each(&mut *f);
    call.order_by.iter_mut().for_each(|(e, _, _)| f(e));
    call.filter.iter_mut().for_each(f);
}

fn modify_exprs_mut(modify: &mut Modify, f: &mut dyn FnMut(&mut Expr)) {
    match &mut modify.kind {
        ModifyKind::Insert { values, on_conflict } => {
            values.iter_mut().for_each(&mut *f);
            if let Some(update) = on_conflict.as_mut().and_then(|c| c.update.as_mut()) {
                update.set.iter_mut().for_each(|(_, e)| f(e));
                update.filter.iter_mut().for_each(&mut *f);
            }
        }
        ModifyKind::Update { set, .. } => set.iter_mut().for_each(|(_, e)| f(e)),
        ModifyKind::Delete { .. } => {}
    }
    modify.returning.iter_mut().for_each(|(_, e)| f(e));
    modify.checks.iter_mut().chain(&mut modify.view_checks).for_each(|(_, e)| f(e));
    modify.generated.iter_mut().for_each(|(_, e)| f(e));
}

/// Calls `f` on every node of the expression, sub-queries' own trees not entered.
pub fn visit<'a>(expr: &'a Expr, f: &mut dyn FnMut(&'a Expr)) {
    f(expr);
    each_operand(expr, &mut |e| visit(e, f));
}

/// Offers an expression to `f`, then, where it was not taken, its operands.
pub fn rewrite_outermost(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr) -> bool) {
    if !f(expr) {
        each_operand_mut(expr, &mut |e| rewrite_outermost(e, f));
    }
}

/// Calls `f` on every node, operands first, sub-queries' own trees not entered.
pub fn rewrite(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    each_operand_mut(expr, &mut |e| rewrite(e, f));
    f(expr);
}

/// Calls `f` on every expression node in the relation, sub-queries' trees included.
pub fn rewrite_rel(rel: &mut Rel, f: &mut dyn FnMut(&mut Expr)) {
    each_input_mut(rel, &mut |r| rewrite_rel(r, f));
    each_expr_mut(rel, &mut |e| rewrite_deep(e, f));
}

/// Calls `f` on every node, operands first, sub-queries' trees included.
pub fn rewrite_deep(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    each_operand_mut(expr, &mut |e| rewrite_deep(e, f));
    if let Some(sub) = subquery_of_mut(expr) {
        rewrite_rel(Arc::make_mut(&mut sub.plan), f);
    }
    f(expr);
}

/// Replaces columns by expressions, in sub-queries too (their `outer` lists are kept right).
pub fn substitute(expr: &mut Expr, map: &BTreeMap<ColumnId, Expr>) {
    if map.is_empty() {
        return;
    }
    rewrite_deep(expr, &mut |e| substitute_node(e, map));
}

/// Replaces columns by expressions in a whole relation.
pub fn substitute_rel(rel: &mut Rel, map: &BTreeMap<ColumnId, Expr>) {
    if !map.is_empty() {
        rewrite_rel(rel, &mut |e| substitute_node(e, map));
    }
}

fn substitute_node(e: &mut Expr, map: &BTreeMap<ColumnId, Expr>) {
    if let ExprKind::Column(id) = &e.kind
        && let Some(to) = map.get(id)
    {
        *e = to.clone();
    }
    if let Some(sub) = subquery_of_mut(e)
        && sub.outer.iter().any(|c| map.contains_key(c))
    {
        sub.outer = free_columns(&sub.plan).into_iter().collect();
    }
}

/// Whether evaluating it twice, or not at all, could be noticed.
pub fn is_volatile(expr: &Expr) -> bool {
    let mut found = false;
    visit(expr, &mut |e| {
        found |= match &e.kind {
            ExprKind::Call { func, .. } => func.volatility == b'v',
            ExprKind::Default => true,
            _ => subquery_of(e).is_some_and(|s| rel_is_volatile(&s.plan)),
        }
    });
    found
}

/// Whether the relation holds a volatile function, takes locks or writes.
pub fn rel_is_volatile(rel: &Rel) -> bool {
    let mut found = match rel {
        Rel::Modify(_) | Rel::LockRows { .. } => true,
        Rel::Function { calls, .. } | Rel::ProjectSet { calls, .. } => {
            calls.iter().any(|c| c.func.volatility == b'v')
        }
        _ => false,
    };
    each_expr(rel, &mut |e| found |= is_volatile(e));
    each_input(rel, &mut |r| found |= rel_is_volatile(r));
    found
}

/// Whether the expression holds a sub-query.
pub fn has_subquery(expr: &Expr) -> bool {
    let mut found = false;
    visit(expr, &mut |e| found |= subquery_of(e).is_some());
    found
}

/// A relation with these predicates on top; none leaves it as it is.
pub fn filtered(input: Rel, predicates: Vec<Expr>) -> Rel {
    if predicates.is_empty() {
        return input;
    }
    match input {
        Rel::Filter { input, predicates: mut inner } => {
            inner.extend(predicates);
            Rel::Filter { input, predicates: inner }
        }
        input => Rel::Filter { input: Box::new(input), predicates },
    }
}

/// Takes the relation out, leaving an empty one.
pub fn take(rel: &mut Rel) -> Rel {
    std::mem::replace(rel, Rel::Values { columns: vec![], rows: vec![] })
}

/// The conjuncts of a condition.
pub fn conjuncts(expr: Expr, out: &mut Vec<Expr>) {
    match expr.kind {
        ExprKind::And(args) => args.into_iter().for_each(|e| conjuncts(e, out)),
        kind => out.push(Expr { kind, ty: expr.ty }),
    }
}
