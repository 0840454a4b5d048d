//! Coercions: the expression that makes a value one of another type.

use meridian_types::builtin;
use meridian_types::io;
use meridian_types::oid::{self, Oid};
use meridian_types::{Datum, PgError, PgType, Result, SqlState};

use super::{CoercionContext, Pathway, func_ref, is_polymorphic, is_record, mismatch, proc_row};
use crate::bind::Binder;
use crate::expr::{ColumnId, Expr, ExprKind};

/// The column by which the element conversion of an `ArrayCoerce` reads one element.
const ELEMENT: ColumnId = ColumnId(u32::MAX);

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
        if expr.ty == ty {
            return Ok(expr);
        }
        if !self.can_coerce(&[expr.ty.oid], &[ty.oid], context) {
            let text = format!(
                "cannot cast type {} to {}",
                self.display_type(expr.ty.oid),
                self.display_type(ty.oid)
            );
            return Err(PgError::new(SqlState::CANNOT_COERCE, text).at(position));
        }
        let expr = self.coerce_type(expr, ty, context, position)?;
        self.coerce_typmod(expr, ty, context)
    }

    /// A value of type `unknown` becomes `text`; others stay. For select lists.
    pub fn resolve_unknown(&mut self, expr: Expr, position: Option<u32>) -> Result<Expr> {
        if expr.ty.oid != oid::UNKNOWN {
            return Ok(expr);
        }
        self.coerce_to(expr, PgType::new(oid::TEXT), CoercionContext::Implicit, position)
    }

    /// Coerces a condition to boolean; `what` names the clause.
    pub fn coerce_to_boolean(
        &mut self,
        expr: Expr,
        what: &str,
        position: Option<u32>,
    ) -> Result<Expr> {
        let source = expr.ty.oid;
        let boolean = PgType::new(oid::BOOL);
        self.coerce_to(expr, boolean, CoercionContext::Assignment, position).map_err(|e| {
            if e.state() != SqlState::CANNOT_COERCE {
                return e;
            }
            let name = self.display_type(source);
            let text = format!("argument of {what} must be type boolean, not type {name}");
            mismatch(text, position)
        })
    }

    /// The change of type, without the modifier unless the function that does it takes one.
    fn coerce_type(
        &mut self,
        expr: Expr,
        ty: PgType,
        context: CoercionContext,
        position: Option<u32>,
    ) -> Result<Expr> {
        let source = expr.ty.oid;
        if source == ty.oid || ty.oid == oid::ANY || is_polymorphic(ty.oid) {
            return Ok(expr);
        }
        if source == oid::UNKNOWN {
            return self.coerce_unknown(expr, ty, position);
        }
        let base = self.base_type(ty.oid);
        if base != ty.oid {
            let inner = PgType::with_typmod(base, self.type_info(ty.oid).base.typmod);
            let expr = self.coerce_to(expr, inner, context, position)?;
            return Ok(relabel(expr, PgType::new(ty.oid)));
        }
        let target = PgType::new(ty.oid);
        match self.pathway(source, ty.oid, context) {
            Some(Pathway::Relabel) => Ok(relabel(expr, target)),
            Some(Pathway::Function(func)) => self.cast_call(func, expr, ty, context),
            Some(Pathway::ViaText) => {
                Ok(Expr { kind: ExprKind::ViaText { arg: Box::new(expr) }, ty: target })
            }
            Some(Pathway::Array) => self.coerce_array(expr, ty, context, position),
            None => self.coerce_row(expr, ty, context, position),
        }
    }

    fn cast_call(
        &self,
        func: Oid,
        expr: Expr,
        ty: PgType,
        context: CoercionContext,
    ) -> Result<Expr> {
        let row = proc_row(func)?;
        let mut args = vec![expr];
        let mut result = PgType::new(ty.oid);
        if row.argtypes.len() > 1 {
            args.push(Expr::constant(Datum::Int4(ty.typmod), PgType::new(oid::INT4)));
            result = ty;
        }
        if row.argtypes.len() > 2 {
            let explicit = context == CoercionContext::Explicit;
            args.push(Expr::constant(Datum::Bool(explicit), PgType::new(oid::BOOL)));
        }
        let func = func_ref(row, None);
        // Some casts go by way of a function to a type of the same representation: int2 to oid.
        if matches!(row.rettype, oid::INT4 | oid::INT8) && row.rettype != ty.oid {
            let ty = PgType::new(row.rettype);
            return Ok(relabel(Expr { kind: ExprKind::Call { func, args }, ty }, result));
        }
        Ok(Expr { kind: ExprKind::Call { func, args }, ty: result })
    }

    fn coerce_array(
        &mut self,
        expr: Expr,
        ty: PgType,
        context: CoercionContext,
        position: Option<u32>,
    ) -> Result<Expr> {
        let source = self.type_info(self.base_type(expr.ty.oid)).element;
        let target = self.type_info(ty.oid).element;
        let element = Expr::column(ELEMENT, PgType::new(source));
        let element = self.coerce_to(element, PgType::new(target), context, position)?;
        let kind = ExprKind::ArrayCoerce { arg: Box::new(expr), element: Box::new(element) };
        Ok(Expr { kind, ty: PgType::new(ty.oid) })
    }

    /// A row constructor to a named row type, field by field; or any row to `record`.
    fn coerce_row(
        &mut self,
        expr: Expr,
        ty: PgType,
        context: CoercionContext,
        position: Option<u32>,
    ) -> Result<Expr> {
        let info = self.type_info(ty.oid);
        let fields = self.composite_fields(ty.oid);
        let (Some(fields), ExprKind::Row(_)) = (fields, &expr.kind) else {
            return match is_record(&info, ty.oid) || info.element != 0 {
                true => Ok(relabel(expr, ty)),
                false => Err(PgError::internal("no conversion between these types")),
            };
        };
        let ExprKind::Row(values) = expr.kind else { unreachable!("it was matched above") };
        let name = self.display_type(ty.oid);
        let wrong = |detail: String| {
            let text = format!("cannot cast type record to {name}");
            PgError::new(SqlState::CANNOT_COERCE, text).detail(detail).at(position)
        };
        if values.len() < fields.len() {
            return Err(wrong("Input has too few columns.".into()));
        }
        if values.len() > fields.len() {
            return Err(wrong("Input has too many columns.".into()));
        }
        let mut out = Vec::with_capacity(values.len());
        for (i, (value, (_, field))) in values.into_iter().zip(fields).enumerate() {
            let source = value.ty.oid;
            if !self.can_coerce(&[source], &[field.oid], context) {
                let (from, to) = (self.display_type(source), self.display_type(field.oid));
                return Err(wrong(format!("Cannot cast type {from} to {to} in column {}.", i + 1)));
            }
            out.push(self.coerce_to(value, field, context, position)?);
        }
        Ok(Expr { kind: ExprKind::Row(out), ty })
    }

    fn coerce_unknown(&mut self, expr: Expr, ty: PgType, position: Option<u32>) -> Result<Expr> {
        match expr.kind {
            ExprKind::Const(Datum::Null) => {
                Ok(Expr::constant(Datum::Null, PgType::with_typmod(ty.oid, ty.typmod)))
            }
            ExprKind::Const(Datum::Text(ref text)) => self.read_literal(text, ty, position),
            ExprKind::Param(n) => self.infer_param(n, ty.oid, position),
            kind => {
                let text = Expr { kind, ty: PgType::new(oid::TEXT) };
                let kind = ExprKind::ViaText { arg: Box::new(text) };
                Ok(Expr { kind, ty: PgType::new(ty.oid) })
            }
        }
    }

    /// Reads a literal as a type. Only `interval` needs its modifier for that: `'1' MINUTE`.
    fn read_literal(&self, text: &str, ty: PgType, position: Option<u32>) -> Result<Expr> {
        let base = self.base_type(ty.oid);
        if builtin::type_by_oid(base).is_none() {
            let text = Expr::constant(Datum::text(text), PgType::new(oid::TEXT));
            let kind = ExprKind::ViaText { arg: Box::new(text) };
            return Ok(Expr { kind, ty: PgType::new(ty.oid) });
        }
        let typmod = if base == oid::INTERVAL { ty.typmod } else { -1 };
        let value = io::text_in(base, typmod, text, self.eval).map_err(|e| e.at(position))?;
        Ok(Expr::constant(value, PgType::with_typmod(ty.oid, typmod)))
    }

    fn infer_param(&mut self, n: u32, ty: Oid, position: Option<u32>) -> Result<Expr> {
        let slot = &mut self.params[n as usize];
        if slot.oid == oid::UNKNOWN {
            *slot = PgType::new(ty);
        } else if slot.oid != ty {
            let known = slot.oid;
            let text = format!("inconsistent types deduced for parameter ${}", n + 1);
            let (a, b) = (self.display_type(known), self.display_type(ty));
            return Err(PgError::new(SqlState::AMBIGUOUS_PARAMETER, text)
                .detail(format!("{a} versus {b}"))
                .at(position));
        }
        Ok(Expr { kind: ExprKind::Param(n), ty: PgType::new(ty) })
    }

    /// Applies a modifier by the type's cast to itself.
    fn coerce_typmod(&mut self, expr: Expr, ty: PgType, context: CoercionContext) -> Result<Expr> {
        if expr.ty.oid != ty.oid || expr.ty.typmod == ty.typmod {
            return Ok(expr);
        }
        if let ExprKind::Const(Datum::Null) = expr.kind {
            return Ok(Expr::constant(Datum::Null, ty));
        }
        if ty.typmod < 0 {
            return Ok(match context {
                CoercionContext::Explicit => relabel(expr, ty),
                _ => expr,
            });
        }
        let element = self.type_info(ty.oid).element;
        let scalar = if element == 0 { ty.oid } else { element };
        let Some(cast) = builtin::cast(scalar, scalar).filter(|c| c.func != 0) else {
            return Ok(relabel(expr, ty));
        };
        if element == 0 {
            return self.cast_call(cast.func, expr, ty, context);
        }
        let item = Expr::column(ELEMENT, PgType::new(element));
        let item_type = PgType::with_typmod(element, ty.typmod);
        let converted = self.coerce_typmod(item, item_type, context)?;
        let kind = ExprKind::ArrayCoerce { arg: Box::new(expr), element: Box::new(converted) };
        Ok(Expr { kind, ty })
    }
}

/// The same value under another type. A constant just changes its type; between int4 and oid the
/// bits stay and the representation changes.
fn relabel(expr: Expr, ty: PgType) -> Expr {
    match expr.kind {
        ExprKind::Const(Datum::Int4(v)) if ty.oid != oid::INT4 => {
            Expr::constant(Datum::Oid(v.cast_unsigned()), ty)
        }
        ExprKind::Const(Datum::Oid(v)) if ty.oid == oid::INT4 => {
            Expr::constant(Datum::Int4(v.cast_signed()), ty)
        }
        ExprKind::Const(value) => Expr::constant(value, ty),
        ExprKind::Relabel(inner) if inner.ty == ty => *inner,
        kind => {
            // A row keeps what is known of its fields.
            let shaped = ty.oid == oid::RECORD && ty.typmod < 0;
            let ty = if shaped { PgType::with_typmod(ty.oid, expr.ty.typmod) } else { ty };
            let inner = Expr { kind, ty: expr.ty };
            Expr { kind: ExprKind::Relabel(Box::new(inner)), ty }
        }
    }
}
