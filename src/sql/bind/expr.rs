//! Scalar expressions.

use meridian_types::oid::{self};
use meridian_types::{PgError, PgType, Result};

use super::{Binder, Clause};
use crate::ast;
use crate::expr::Expr;
use crate::resolve::CoercionContext;

impl Binder<'_> {
    /// Binds an expression of `clause`. A literal or parameter whose type nothing decided yet has
    /// type `unknown`: [`Binder::resolve_unknown`] or [`Binder::coerce_to`] gives it one.
    pub fn bind_expr(&mut self, expr: &ast::Expr, clause: Clause) -> Result<Expr> {
        let _ = (expr, clause);
        Err(PgError::unsupported("expressions are not supported yet"))
    }

    /// Binds a condition: coerced to boolean, or `argument of WHERE must be type boolean, not …`.
    pub fn bind_condition(&mut self, expr: &ast::Expr, clause: Clause) -> Result<Expr> {
        let position = self.position(expr);
        let bound = self.bind_expr(expr, clause)?;
        self.coerce_to_boolean(bound, clause.name(), position)
    }

    /// Coerces a condition to boolean; `what` names the clause.
    pub fn coerce_to_boolean(
        &mut self,
        expr: Expr,
        what: &str,
        position: Option<u32>,
    ) -> Result<Expr> {
        let _ = what;
        self.coerce_to(expr, PgType::new(oid::BOOL), CoercionContext::Assignment, position)
    }

    /// Where the expression begins in the text.
    pub fn position(&self, expr: &ast::Expr) -> Option<u32> {
        use sqlparser::ast::Spanned;
        self.source.position(expr.span().start)
    }
}
