//! Which columns a condition refuses when they are NULL.
//!
//! A condition that is not true whenever all columns of one side are NULL never accepts a padded
//! row of an outer join, which can then be an inner one.

use crate::expr::{ColumnId, Expr, ExprKind, Quantifier, TruthTest};
use crate::walk::ColumnSet;

/// True when the condition is never true while all of `columns` are NULL.
pub(super) fn refuses_null(condition: &Expr, columns: &ColumnSet) -> bool {
    match &condition.kind {
        ExprKind::And(args) => args.iter().any(|e| refuses_null(e, columns)),
        ExprKind::Or(args) => args.iter().all(|e| refuses_null(e, columns)),
        ExprKind::IsNotNull(arg) => null_gives_null(arg, columns),
        ExprKind::Truth(TruthTest::IsTrue | TruthTest::IsFalse | TruthTest::IsNotUnknown, arg) => {
            null_gives_null(arg, columns)
        }
        // With an empty array ANY is false, which is no more true than NULL; ALL would be true.
        ExprKind::ArrayCompare { func, left, quantifier: Quantifier::Any, right } => {
            func.strict && (null_gives_null(left, columns) || null_gives_null(right, columns))
        }
        _ => null_gives_null(condition, columns),
    }
}

/// True when the value is NULL whenever all of `columns` are.
pub(super) fn null_gives_null(e: &Expr, columns: &ColumnSet) -> bool {
    let any = |args: &[Expr]| args.iter().any(|a| null_gives_null(a, columns));
    let all = |args: &[Expr]| args.iter().all(|a| null_gives_null(a, columns));
    match &e.kind {
        ExprKind::Column(id) => contains(columns, *id),
        ExprKind::Const(d) => d.is_null(),
        ExprKind::Call { func, args } => func.strict && any(args),
        ExprKind::Not(a) | ExprKind::Relabel(a) | ExprKind::ViaText { arg: a } => {
            null_gives_null(a, columns)
        }
        ExprKind::And(args) | ExprKind::Or(args) => !args.is_empty() && all(args),
        ExprKind::Coalesce(args) | ExprKind::MinMax { args, .. } => !args.is_empty() && all(args),
        ExprKind::ArrayCoerce { arg, .. } => null_gives_null(arg, columns),
        _ => false,
    }
}

fn contains(columns: &ColumnSet, id: ColumnId) -> bool {
    columns.contains(&id)
}
