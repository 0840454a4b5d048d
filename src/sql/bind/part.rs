//! Assignment to a part of a column: an element or a slice of an array, a member of a jsonb value.
//!
//! `SET a[1] = x` becomes `a = assign_element(a, x, 1)`; a second assignment to the same column takes
//! the first one's result for the old value.

use std::sync::Arc;

use meridian_catalog::ColumnDesc;
use meridian_types::oid::{INT4, JSONB};
use meridian_types::{Datum, PgError, PgType, Result, SqlState};
use sqlparser::ast::Subscript;

use super::{Binder, Clause};
use crate::ast;
use crate::expr::{Expr, ExprKind, FuncRef};
use crate::resolve::CoercionContext;

impl Binder<'_> {
    /// The column of the row that is changed, which is the scope's first item.
    pub(super) fn old_value(&mut self, column: &ColumnDesc) -> Result<Expr> {
        let found = self.scope().items.first().and_then(|item| {
            item.columns.iter().find(|c| *c.name == *column.name).map(|c| c.expr.clone())
        });
        found.ok_or_else(|| PgError::internal("an assignment without a row"))
    }

    /// The column's new value when this part of it is set.
    pub(super) fn bind_part(
        &mut self,
        column: &ColumnDesc,
        base: Expr,
        subscripts: &[Subscript],
        value: &ast::Expr,
        position: Option<u32>,
    ) -> Result<Expr> {
        if super::values::is_default(value) {
            let text = "cannot set an array element to DEFAULT";
            return Err(PgError::unsupported(text).at(position));
        }
        let refs: Vec<&Subscript> = subscripts.iter().collect();
        // What reading the part would give is what is to be assigned; errors are the same.
        let part = self.subscript(base.clone(), &refs, position, Clause::UpdateSource)?;
        let ExprKind::Subscript { indexes, slice, .. } = part.kind else {
            return Err(PgError::internal("a subscript"));
        };
        let bound = self.bind_expr(value, Clause::UpdateSource)?;
        let from = bound.ty.oid;
        let assignment = CoercionContext::Assignment;
        let bound = self.coerce_to(bound, part.ty, assignment, position).map_err(|error| {
            let cannot =
                matches!(error.state(), SqlState::CANNOT_COERCE | SqlState::DATATYPE_MISMATCH);
            if !cannot || from == meridian_types::oid::UNKNOWN {
                return error;
            }
            let text = format!(
                "subscripted assignment to \"{}\" requires type {} but expression is of type {}",
                column.name,
                self.display_type(part.ty.oid),
                self.display_type(from)
            );
            PgError::new(SqlState::DATATYPE_MISMATCH, text)
                .hint("You will need to rewrite or cast the expression.")
                .at(position)
        })?;
        let int = |value: i32| Expr::constant(Datum::Int4(value), PgType::new(INT4));
        let mut args = vec![base, bound];
        let name = if slice {
            // `a[2]` among slices means `a[1:2]`.
            let indexes = indexes.into_iter().zip(subscripts).map(|((lower, upper), written)| {
                let single = matches!(written, Subscript::Index { .. });
                (if single { Some(int(1)) } else { lower }, upper)
            });
            let bounds: Vec<Option<Expr>> = indexes.flat_map(|(l, u)| [l, u]).collect();
            let given = bounds.iter().enumerate();
            let given = given.map(|(i, b)| i32::from(b.is_some()) << i).sum();
            args.push(int(given));
            args.extend(bounds.into_iter().map(|b| b.unwrap_or_else(|| int(0))));
            "assign_slice"
        } else {
            args.extend(indexes.into_iter().filter_map(|(_, index)| index));
            if part.ty.oid == JSONB && column.ty.oid == JSONB {
                "assign_member"
            } else {
                "assign_element"
            }
        };
        let func = FuncRef {
            oid: 0,
            name: Arc::from(name),
            prosrc: Arc::from(name),
            strict: false,
            volatility: b'i',
            operator: None,
        };
        Ok(Expr { kind: ExprKind::Call { func, args }, ty: column.ty })
    }
}
