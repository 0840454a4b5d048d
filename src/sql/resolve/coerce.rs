//! Coercions.

use meridian_types::{PgError, PgType, Result};

use super::CoercionContext;
use crate::bind::Binder;
use crate::expr::Expr;

impl Binder<'_> {
    /// Makes `expr` a value of type `ty`, its modifier included. A literal of type `unknown` is
    /// read as `ty` (error at `position`), a parameter without a type gets it.
    /// Error 42846 when there is no way.
    pub fn coerce_to(
        &mut self,
        expr: Expr,
        ty: PgType,
        context: CoercionContext,
        position: Option<u32>,
    ) -> Result<Expr> {
        let _ = (ty, context);
        if expr.ty == ty {
            return Ok(expr);
        }
        Err(PgError::unsupported("coercions are not supported yet").at(position))
    }

    /// A value of type `unknown` becomes `text`; others stay. For select lists.
    pub fn resolve_unknown(&mut self, expr: Expr, position: Option<u32>) -> Result<Expr> {
        let _ = position;
        Ok(expr)
    }

    /// The one type for all of these, as UNION, CASE, VALUES, ARRAY choose it; `what` is the word
    /// for `{what} types integer and text cannot be matched` (42804). Each expression comes with
    /// its position. Nothing is coerced yet: see [`Binder::coerce_to_common`].
    pub fn select_common_type(&self, exprs: &[(&Expr, Option<u32>)], what: &str) -> Result<PgType> {
        let _ = what;
        exprs.first().map(|(e, _)| e.ty).ok_or_else(|| PgError::internal("no expressions"))
    }

    /// Coerces to a type that [`Binder::select_common_type`] chose; error 42846
    /// `{what} could not convert type integer to text`.
    pub fn coerce_to_common(
        &mut self,
        expr: Expr,
        ty: PgType,
        what: &str,
        position: Option<u32>,
    ) -> Result<Expr> {
        let _ = what;
        self.coerce_to(expr, ty, CoercionContext::Implicit, position)
    }
}
