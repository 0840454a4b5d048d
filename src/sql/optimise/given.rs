//! What a plan computes from parameters alone.
//!
//! With constants in the place of parameters these expressions are folded while the plan is made, and
//! an error among them ends the statement, whichever way it runs. A plan with parameters computes them
//! when a row comes to them, and hides an error behind a NULL or a CASE. So a plan whose parameters
//! stand for a text's literals must not run where one of these expressions would fail:
//! [`Given::hold`] tries them.

use meridian_types::{Datum, EvalContext};

use super::fold;
use crate::expr::{Expr, ExprKind};
use crate::rel::Rel;
use crate::walk;

/// Expressions of parameters and constants that might fail, each as large as it gets.
#[derive(Clone, Debug, Default)]
pub struct Given(Vec<Expr>);

impl Given {
    pub(super) fn of(rel: &Rel) -> Given {
        let mut found = vec![];
        relation(rel, &mut found);
        Given(found)
    }

    /// Whether all of them fold to values with these parameters.
    pub fn hold(&self, params: &[Datum]) -> bool {
        let ctx = EvalContext::bare();
        self.0.iter().all(|e| {
            let (mut e, mut failing) = (e.clone(), false);
            walk::rewrite(&mut e, &mut |e| {
                if let ExprKind::Param(n) = e.kind {
                    let value = params.get(n as usize).cloned().unwrap_or(Datum::Null);
                    *e = Expr::constant(value, e.ty);
                }
                fold::node(e, &ctx, &mut failing);
            });
            !failing && !may_fail(&e)
        })
    }
}

fn relation(rel: &Rel, found: &mut Vec<Expr>) {
    walk::each_expr(rel, &mut |e| {
        if is_given(e, found) {
            keep(e, found);
        }
    });
    walk::each_input(rel, &mut |input| relation(input, found));
}

/// Whether it reads nothing but parameters and constants; if not, those operands that do are kept.
fn is_given(e: &Expr, found: &mut Vec<Expr>) -> bool {
    let mut operands = vec![];
    walk::each_operand(e, &mut |operand| operands.push((operand, is_given(operand, found))));
    if let Some(subquery) = walk::subquery_of(e) {
        relation(&subquery.plan, found);
    }
    let here = match &e.kind {
        ExprKind::Column(_) | ExprKind::SqlValue(_) | ExprKind::Default => false,
        ExprKind::Call { func, args } => func.volatility != b'v' && !args.is_empty(),
        _ => walk::subquery_of(e).is_none(),
    };
    if here && operands.iter().all(|(_, given)| *given) {
        return true;
    }
    operands.iter().filter(|(_, given)| *given).for_each(|(operand, _)| keep(operand, found));
    false
}

fn keep(e: &Expr, found: &mut Vec<Expr>) {
    let mut parameters = false;
    walk::visit(e, &mut |e| parameters |= matches!(e.kind, ExprKind::Param(_)));
    if parameters && may_fail(e) {
        found.push(e.clone());
    }
}

/// Whether something is called in it but conversions of `int4` that serve all its values.
fn may_fail(e: &Expr) -> bool {
    let mut found = false;
    walk::visit(e, &mut |e| {
        found |= match &e.kind {
            ExprKind::Call { func, .. } => {
                !matches!(&*func.prosrc, "int48" | "int4_numeric" | "i4tod" | "i4tof" | "int4um")
            }
            ExprKind::ViaText { .. } | ExprKind::ArrayCoerce { .. } => true,
            _ => false,
        };
    });
    found
}
