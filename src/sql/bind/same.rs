//! Whether two bound expressions are the same, as GROUP BY, ORDER BY and DISTINCT ask.
//!
//! Two are the same when they are the same tree over the same columns. A sub-query is the same only
//! as itself.

use std::sync::Arc;

use crate::expr::{Expr, ExprKind, FuncRef};
use crate::walk;

/// The same tree over the same columns.
pub(crate) fn same(a: &Expr, b: &Expr) -> bool {
    a.ty == b.ty && same_node(&a.kind, &b.kind) && same_operands(a, b)
}

/// Both lists, pairwise.
pub(crate) fn same_all(a: &[Expr], b: &[Expr]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// The same function.
pub(crate) fn same_func(a: &FuncRef, b: &FuncRef) -> bool {
    a.oid == b.oid && a.prosrc == b.prosrc
}

fn same_operands(a: &Expr, b: &Expr) -> bool {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    walk::each_operand(a, &mut |e| left.push(e));
    walk::each_operand(b, &mut |e| right.push(e));
    left.len() == right.len() && left.iter().zip(&right).all(|(a, b)| same(a, b))
}

/// The same but for the operands.
fn same_node(a: &ExprKind, b: &ExprKind) -> bool {
    use ExprKind as K;
    if std::mem::discriminant(a) != std::mem::discriminant(b) {
        return false;
    }
    match (a, b) {
        (K::Const(a), K::Const(b)) => a == b,
        (K::Column(a), K::Column(b)) => a == b,
        (K::Param(a), K::Param(b)) => a == b,
        (K::SqlValue(a), K::SqlValue(b)) => a == b,
        (K::Call { func: a, .. }, K::Call { func: b, .. })
        | (K::Distinct { eq: a, .. }, K::Distinct { eq: b, .. })
        | (K::NullIf { eq: a, .. }, K::NullIf { eq: b, .. }) => same_func(a, b),
        (K::Truth(a, _), K::Truth(b, _)) => a == b,
        (K::Case { whens: a, default: c }, K::Case { whens: b, default: d }) => {
            a.len() == b.len() && c.is_some() == d.is_some()
        }
        (K::RowCompare { decides: a, .. }, K::RowCompare { decides: b, .. }) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_func(a, b))
        }
        (K::MinMax { greatest: a, .. }, K::MinMax { greatest: b, .. }) => a == b,
        (
            K::ArrayCompare { func: a, quantifier: p, .. },
            K::ArrayCompare { func: b, quantifier: q, .. },
        ) => same_func(a, b) && p == q,
        (K::Array { nested: a, .. }, K::Array { nested: b, .. }) => a == b,
        (K::Field(_, a), K::Field(_, b)) => a == b,
        (K::Subscript { indexes: a, slice: c, .. }, K::Subscript { indexes: b, slice: d, .. }) => {
            let shape = |(l, u): &(Option<Expr>, Option<Expr>)| (l.is_some(), u.is_some());
            c == d && a.iter().map(shape).eq(b.iter().map(shape))
        }
        (K::ScalarSubquery(a), K::ScalarSubquery(b))
        | (K::Exists(a), K::Exists(b))
        | (K::ArraySubquery(a), K::ArraySubquery(b)) => Arc::ptr_eq(&a.plan, &b.plan),
        (K::Quantified { subquery: a, .. }, K::Quantified { subquery: b, .. }) => {
            Arc::ptr_eq(&a.plan, &b.plan)
        }
        _ => true,
    }
}
