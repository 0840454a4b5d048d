//! One type for several expressions: UNION, CASE, VALUES, ARRAY, IN.

use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, PgType, Result};

use super::{CoercionContext, mismatch};
use crate::bind::Binder;
use crate::expr::Expr;

impl Binder<'_> {
    /// The one type for all of these, as UNION, CASE, VALUES, ARRAY choose it; `what` is the word
    /// for `{what} types integer and text cannot be matched` (42804). Each expression comes with
    /// its position. Nothing is coerced yet: see [`Binder::coerce_to_common`].
    pub fn select_common_type(&self, exprs: &[(&Expr, Option<u32>)], what: &str) -> Result<PgType> {
        let Some((first, _)) = exprs.first() else {
            return Err(PgError::internal("no expressions"));
        };
        let same = exprs.iter().all(|(e, _)| e.ty.oid == first.ty.oid);
        if same && first.ty.oid != oid::UNKNOWN {
            let typmod = match exprs.iter().all(|(e, _)| e.ty.typmod == first.ty.typmod) {
                true => first.ty.typmod,
                false => -1,
            };
            return Ok(PgType::with_typmod(first.ty.oid, typmod));
        }
        let types: Vec<Oid> = exprs.iter().map(|(e, _)| e.ty.oid).collect();
        match self.choose_common(&types) {
            Ok(ty) => Ok(PgType::new(ty)),
            Err((i, chosen)) => {
                let text = format!(
                    "{what} types {} and {} cannot be matched",
                    self.display_type(chosen),
                    self.display_type(types[i])
                );
                Err(mismatch(text, exprs[i].1))
            }
        }
    }

    /// The common type of types alone.
    pub(crate) fn common_of_oids(&self, types: &[Oid]) -> Option<Oid> {
        let first = *types.first()?;
        if first != oid::UNKNOWN && types.iter().all(|t| *t == first) {
            return Some(first);
        }
        let ty = self.choose_common(types).ok()?;
        let all = types.iter().all(|t| self.can_coerce(&[*t], &[ty], CoercionContext::Implicit));
        all.then_some(ty)
    }

    /// The choice, or which type did not fit what had been chosen before it.
    fn choose_common(&self, types: &[Oid]) -> Result<Oid, (usize, Oid)> {
        let mut chosen = self.base_type(types[0]);
        let mut info = self.type_info(chosen);
        for (i, &ty) in types.iter().enumerate().skip(1) {
            let ty = self.base_type(ty);
            if ty == oid::UNKNOWN || ty == chosen {
                continue;
            }
            let next = self.type_info(ty);
            if chosen == oid::UNKNOWN {
                (chosen, info) = (ty, next);
                continue;
            }
            if next.category != info.category {
                return Err((i, chosen));
            }
            let implicit = CoercionContext::Implicit;
            if !info.preferred
                && self.can_coerce(&[chosen], &[ty], implicit)
                && !self.can_coerce(&[ty], &[chosen], implicit)
            {
                (chosen, info) = (ty, next);
            }
        }
        Ok(if chosen == oid::UNKNOWN { oid::TEXT } else { chosen })
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
        let source = expr.ty.oid;
        if source != ty.oid && !self.can_coerce(&[source], &[ty.oid], CoercionContext::Implicit) {
            let text = format!(
                "{what} could not convert type {} to {}",
                self.display_type(source),
                self.display_type(ty.oid)
            );
            return Err(PgError::new(meridian_types::SqlState::CANNOT_COERCE, text).at(position));
        }
        let target = if source == ty.oid { ty } else { PgType::new(ty.oid) };
        self.coerce_to(expr, target, CoercionContext::Implicit, position)
    }
}
