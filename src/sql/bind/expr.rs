//! Scalar expressions: what each kind of syntax means.
//!
//! A literal or parameter whose type nothing has decided yet has type `unknown`; its surroundings
//! give it one. Errors carry PostgreSQL's positions: an operator's is the operator's own, which the
//! syntax tree does not keep; it is looked for in the text only when there is an error to report.

use meridian_types::io;
use meridian_types::oid;
use meridian_types::{Datum, PgError, PgType, Result, SqlState};
use sqlparser::ast::{BinaryOperator, UnaryOperator, Value};

use super::{Binder, Clause};
use crate::ast;
use crate::expr::{Expr, ExprKind, Quantifier, TruthTest};
use crate::parse::operators::binary_name;
use crate::parse::source::{end_of, start_of};
use crate::resolve::CoercionContext;

/// Deepest nesting of bound expressions, views and sub-queries included: above the parser's limit,
/// so that what was parsed alone can be bound.
const MAX_DEPTH: u32 = 2500;

impl Binder<'_> {
    /// Binds an expression of `clause`. A literal or parameter whose type nothing decided yet has
    /// type `unknown`: [`Binder::resolve_unknown`] or [`Binder::coerce_to`] gives it one.
    pub fn bind_expr(&mut self, expr: &ast::Expr, clause: Clause) -> Result<Expr> {
        if self.depth >= MAX_DEPTH {
            return Err(crate::parse::too_deep());
        }
        self.depth += 1;
        let bound =
            stacker::maybe_grow(512 * 1024, 4 * 1024 * 1024, || self.any_expr(expr, clause));
        self.depth -= 1;
        bound
    }

    /// Binds a condition: coerced to boolean, or `argument of WHERE must be type boolean, not …`.
    pub fn bind_condition(&mut self, expr: &ast::Expr, clause: Clause) -> Result<Expr> {
        self.bind_boolean(expr, clause, clause.name())
    }

    /// Where the expression begins in the text.
    pub fn position(&self, expr: &ast::Expr) -> Option<u32> {
        self.source.position(start_of(expr))
    }

    pub(super) fn bind_boolean(
        &mut self,
        expr: &ast::Expr,
        clause: Clause,
        what: &str,
    ) -> Result<Expr> {
        let bound = self.bind_expr(expr, clause)?;
        if bound.ty.oid == oid::BOOL {
            return Ok(bound);
        }
        let position = self.position(expr);
        self.coerce_to_boolean(bound, what, position)
    }

    fn any_expr(&mut self, expr: &ast::Expr, clause: Clause) -> Result<Expr> {
        match expr {
            ast::Expr::Nested(inner) => self.bind_expr(inner, clause),
            ast::Expr::Identifier(ident) => self.bind_name(std::slice::from_ref(ident)),
            ast::Expr::CompoundIdentifier(parts) => self.bind_name(parts),
            ast::Expr::Value(value) => self.literal(&value.value, self.position(expr)),
            ast::Expr::TypedString(typed) => self.typed_string(typed),
            ast::Expr::BinaryOp { left, op, right } => self.binary(expr, left, op, right, clause),
            ast::Expr::UnaryOp { op, expr } => self.unary(op, expr, clause),
            ast::Expr::Cast { expr: inner, data_type, .. } => {
                self.cast(expr, inner, data_type, clause)
            }
            ast::Expr::Function(call) => self.bind_call(call, clause),
            ast::Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), clause)
            }
            ast::Expr::Between { expr, negated, low, high } => {
                self.between(expr, *negated, low, high, clause)
            }
            ast::Expr::InList { expr, list, negated } => {
                self.bind_in_list(expr, list, *negated, clause)
            }
            ast::Expr::InSubquery { .. }
            | ast::Expr::AnyOp { .. }
            | ast::Expr::AllOp { .. }
            | ast::Expr::Exists { .. }
            | ast::Expr::Subquery(_) => self.bind_subquery_expr(expr, clause),
            ast::Expr::Array(array) => self.bind_array(array, None, clause),
            ast::Expr::Tuple(fields) => self.bind_row(fields, clause),
            ast::Expr::Prefixed { value, .. } => match value.as_ref() {
                ast::Expr::Tuple(fields) => self.bind_row(fields, clause),
                other => self.bind_expr(other, clause),
            },
            ast::Expr::QualifiedWildcard(name, _) => self.bind_whole_row(name),
            ast::Expr::CompoundFieldAccess { root, access_chain } => {
                self.bind_access(root, access_chain, clause)
            }
            ast::Expr::Collate { expr, collation } => self.collate(expr, collation, clause),
            other => self.is_test(other, clause),
        }
    }

    fn is_test(&mut self, expr: &ast::Expr, clause: Clause) -> Result<Expr> {
        let (test, what, inner) = match expr {
            ast::Expr::IsNull(e) | ast::Expr::IsNotNull(e) => {
                let position = self.position(e);
                let bound = self.bind_expr(e, clause)?;
                let arg = Box::new(self.resolve_unknown(bound, position)?);
                let kind = match expr {
                    ast::Expr::IsNull(_) => ExprKind::IsNull(arg),
                    _ => ExprKind::IsNotNull(arg),
                };
                return Ok(boolean(kind));
            }
            ast::Expr::IsDistinctFrom(l, r) => return self.distinct(l, r, false, clause),
            ast::Expr::IsNotDistinctFrom(l, r) => return self.distinct(l, r, true, clause),
            ast::Expr::IsTrue(e) => (TruthTest::IsTrue, "IS TRUE", e),
            ast::Expr::IsNotTrue(e) => (TruthTest::IsNotTrue, "IS NOT TRUE", e),
            ast::Expr::IsFalse(e) => (TruthTest::IsFalse, "IS FALSE", e),
            ast::Expr::IsNotFalse(e) => (TruthTest::IsNotFalse, "IS NOT FALSE", e),
            ast::Expr::IsUnknown(e) => (TruthTest::IsUnknown, "IS UNKNOWN", e),
            ast::Expr::IsNotUnknown(e) => (TruthTest::IsNotUnknown, "IS NOT UNKNOWN", e),
            other => {
                let position = self.position(other);
                let text = format!("this expression is not supported yet: {other}");
                return Err(PgError::unsupported(text).at(position));
            }
        };
        let arg = self.bind_boolean(inner, clause, what)?;
        Ok(boolean(ExprKind::Truth(test, Box::new(arg))))
    }

    fn literal(&mut self, value: &Value, position: Option<u32>) -> Result<Expr> {
        let unknown = |s: &str| Ok(Expr::constant(Datum::text(s), PgType::new(oid::UNKNOWN)));
        match value {
            Value::Number(text, _) => self.number(text, position),
            Value::SingleQuotedString(s) => unknown(s),
            Value::NationalStringLiteral(s) => {
                Ok(Expr::constant(Datum::text(s), PgType::new(oid::BPCHAR)))
            }
            Value::SingleQuotedByteStringLiteral(s) => self.bits(&format!("b{s}"), position),
            Value::HexStringLiteral(s) => self.bits(&format!("x{s}"), position),
            Value::Boolean(b) => Ok(Expr::constant(Datum::Bool(*b), PgType::new(oid::BOOL))),
            Value::Null => Ok(Expr::constant(Datum::Null, PgType::new(oid::UNKNOWN))),
            Value::Placeholder(name) => self.parameter(name, position),
            other => Err(PgError::unsupported(format!("literal {other}")).at(position)),
        }
    }

    fn bits(&self, text: &str, position: Option<u32>) -> Result<Expr> {
        let value = io::text_in(oid::BIT, -1, text, self.eval).map_err(|e| e.at(position))?;
        Ok(Expr::constant(value, PgType::new(oid::BIT)))
    }

    /// The smallest of int4, int8 and numeric that holds the literal.
    fn number(&self, text: &str, position: Option<u32>) -> Result<Expr> {
        if let Ok(v) = text.parse::<i32>() {
            return Ok(Expr::constant(Datum::Int4(v), PgType::new(oid::INT4)));
        }
        if let Ok(v) = text.parse::<i64>() {
            return Ok(Expr::constant(Datum::Int8(v), PgType::new(oid::INT8)));
        }
        let value = io::text_in(oid::NUMERIC, -1, text, self.eval).map_err(|e| e.at(position))?;
        Ok(Expr::constant(value, PgType::new(oid::NUMERIC)))
    }

    fn parameter(&mut self, name: &str, position: Option<u32>) -> Result<Expr> {
        let number = name.trim_start_matches('$').parse::<usize>().unwrap_or(0);
        let known = number >= 1 && number <= self.params.len();
        if !known && (!self.params_open || number < 1 || number > usize::from(u16::MAX)) {
            let text = format!("there is no parameter {name}");
            return Err(PgError::new(SqlState::UNDEFINED_PARAMETER, text).at(position));
        }
        while self.params.len() < number {
            self.params.push(PgType::new(oid::UNKNOWN));
        }
        let index = u32::try_from(number - 1).unwrap_or(u32::MAX);
        Ok(Expr { kind: ExprKind::Param(index), ty: self.params[number - 1] })
    }

    fn typed_string(&mut self, typed: &ast::TypedString) -> Result<Expr> {
        let ty = self.resolve_type(&typed.data_type)?;
        let position = self.source.position(typed.value.span.start);
        let literal = self.literal(&typed.value.value, position)?;
        self.coerce_to(literal, ty, CoercionContext::Explicit, position)
    }

    fn cast(
        &mut self,
        whole: &ast::Expr,
        inner: &ast::Expr,
        data_type: &ast::DataType,
        clause: Clause,
    ) -> Result<Expr> {
        let ty = self.resolve_type(data_type)?;
        if let ast::Expr::Array(array) = unnest(inner) {
            let bound = self.bind_array(array, Some(ty), clause)?;
            return self.coerce_to(bound, ty, CoercionContext::Explicit, self.position(inner));
        }
        let bound = self.bind_expr(inner, clause)?;
        let literal = bound.ty.oid == oid::UNKNOWN;
        let position = if literal { self.position(inner) } else { None };
        self.coerce_to(bound, ty, CoercionContext::Explicit, position)
            .map_err(|e| self.cast_error(e, whole, inner))
    }

    /// PostgreSQL points at the `::`, or at the word CAST.
    fn cast_error(&self, error: PgError, whole: &ast::Expr, inner: &ast::Expr) -> PgError {
        if error.fields().position.is_some() || error.state() != SqlState::CANNOT_COERCE {
            return error;
        }
        let position = match whole {
            ast::Expr::Cast { kind: ast::CastKind::DoubleColon, .. } => {
                self.source.find_after(end_of(inner), &["::"])
            }
            _ => self.source.find_before(start_of(whole), "cast"),
        };
        error.at(position.or_else(|| self.position(inner)))
    }

    fn unary(&mut self, op: &UnaryOperator, operand: &ast::Expr, clause: Clause) -> Result<Expr> {
        if matches!(op, UnaryOperator::Not) {
            let arg = self.bind_boolean(operand, clause, "NOT")?;
            return Ok(boolean(ExprKind::Not(Box::new(arg))));
        }
        let position = self.position(operand);
        let bound = self.bind_expr(operand, clause)?;
        let name = op.to_string();
        self.make_operator(&name, None, (bound, position), None)
            .map_err(|e| e.at(self.source.find_before(start_of(operand), &name)))
    }

    fn binary(
        &mut self,
        whole: &ast::Expr,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        clause: Clause,
    ) -> Result<Expr> {
        match op {
            BinaryOperator::And => return self.junction(whole, true, clause),
            BinaryOperator::Or => return self.junction(whole, false, clause),
            _ => {}
        }
        let (_, name) = binary_name(op);
        if let (Some(l), Some(r)) = (row_fields(left), row_fields(right)) {
            return self.compare_rows(left, l, &name, r, clause);
        }
        let l = (self.bind_expr(left, clause)?, self.position(left));
        let r = (self.bind_expr(right, clause)?, self.position(right));
        self.make_operator(&name, Some(l), r, None).map_err(|e| self.operator_error(e, left, &name))
    }

    /// Gives an operator's error the operator's position.
    pub(super) fn operator_error(&self, error: PgError, left: &ast::Expr, name: &str) -> PgError {
        if error.fields().position.is_some() {
            return error;
        }
        let words: &[&str] = match name {
            "~~" | "!~~" => &["like", "not"],
            "~~*" | "!~~*" => &["ilike", "not"],
            "~" | "!~" => &["similar", "not"],
            "=" | "<>" => &["in", "not", "between"],
            _ => &["between", "not"],
        };
        let mut wanted = vec![name];
        if name == "<>" {
            wanted.push("!=");
        }
        wanted.extend(words);
        error.at(self.source.find_after(end_of(left), &wanted))
    }

    /// AND or OR with its whole chain, flat.
    fn junction(&mut self, whole: &ast::Expr, and: bool, clause: Clause) -> Result<Expr> {
        let mut terms = Vec::new();
        let mut stack = vec![whole];
        while let Some(e) = stack.pop() {
            match e {
                ast::Expr::BinaryOp { left, op, right }
                    if *op == if and { BinaryOperator::And } else { BinaryOperator::Or } =>
                {
                    stack.push(right);
                    stack.push(left);
                }
                other => {
                    let what = if and { "AND" } else { "OR" };
                    terms.push(self.bind_boolean(other, clause, what)?);
                }
            }
        }
        Ok(boolean(if and { ExprKind::And(terms) } else { ExprKind::Or(terms) }))
    }

    fn between(
        &mut self,
        expr: &ast::Expr,
        negated: bool,
        low: &ast::Expr,
        high: &ast::Expr,
        clause: Clause,
    ) -> Result<Expr> {
        let (first, second) = if negated { ("<", ">") } else { (">=", "<=") };
        let mut sides = Vec::with_capacity(2);
        for (op, bound) in [(first, low), (second, high)] {
            let value = (self.bind_expr(expr, clause)?, self.position(expr));
            let bound = (self.bind_expr(bound, clause)?, self.position(bound));
            let side = self.make_operator(op, Some(value), bound, None);
            sides.push(side.map_err(|e| self.operator_error(e, expr, op))?);
        }
        Ok(boolean(if negated { ExprKind::Or(sides) } else { ExprKind::And(sides) }))
    }

    fn distinct(
        &mut self,
        left: &ast::Expr,
        right: &ast::Expr,
        negated: bool,
        clause: Clause,
    ) -> Result<Expr> {
        if let (Some(l), Some(r)) = (row_fields(left), row_fields(right)) {
            self.same_length(l.len(), r.len(), left, "is")?;
            let mut parts = Vec::with_capacity(l.len());
            for (a, b) in l.iter().zip(r) {
                parts.push(self.distinct(a, b, negated, clause)?);
            }
            return Ok(boolean(match negated {
                false => ExprKind::Or(parts),
                true => ExprKind::And(parts),
            }));
        }
        let l = self.bind_expr(left, clause)?;
        let r = self.bind_expr(right, clause)?;
        let is_null =
            |e: &Expr| e.ty.oid == oid::UNKNOWN && matches!(e.kind, ExprKind::Const(Datum::Null));
        if is_null(&l) || is_null(&r) {
            let (arg, at) = if is_null(&r) { (l, left) } else { (r, right) };
            let arg = Box::new(self.resolve_unknown(arg, self.position(at))?);
            return Ok(boolean(match negated {
                false => ExprKind::IsNotNull(arg),
                true => ExprKind::IsNull(arg),
            }));
        }
        let (lp, rp) = (self.position(left), self.position(right));
        let eq = self.make_operator("=", Some((l, lp)), (r, rp), None);
        let eq = eq.map_err(|e| e.at(self.source.find_after(end_of(left), &["is"])))?;
        let (eq, left, right) = into_comparison(eq)?;
        let distinct =
            boolean(ExprKind::Distinct { eq, left: Box::new(left), right: Box::new(right) });
        Ok(if negated { boolean(ExprKind::Not(Box::new(distinct))) } else { distinct })
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        else_result: Option<&ast::Expr>,
        clause: Clause,
    ) -> Result<Expr> {
        let operand = match operand {
            None => None,
            Some(e) => {
                let position = self.position(e);
                let bound = self.bind_expr(e, clause)?;
                Some((self.resolve_unknown(bound, position)?, position, e))
            }
        };
        let mut whens = Vec::with_capacity(conditions.len());
        for when in conditions {
            let condition = match &operand {
                None => self.bind_boolean(&when.condition, clause, "CASE/WHEN")?,
                Some((value, position, at)) => {
                    let value = (value.clone(), *position);
                    let other =
                        (self.bind_expr(&when.condition, clause)?, self.position(&when.condition));
                    let eq = self.make_operator("=", Some(value), other, None);
                    let eq = eq.map_err(|e| e.at(self.position(&when.condition)))?;
                    self.coerce_to_boolean(eq, "CASE/WHEN", self.position(at))?
                }
            };
            let result = self.bind_expr(&when.result, clause)?;
            whens.push((condition, result, self.position(&when.result)));
        }
        let default = match else_result {
            Some(e) => (self.bind_expr(e, clause)?, self.position(e)),
            None => (Expr::constant(Datum::Null, PgType::new(oid::UNKNOWN)), None),
        };
        let mut all = vec![(&default.0, default.1)];
        all.extend(whens.iter().map(|(_, result, position)| (result, *position)));
        let ty = self.select_common_type(&all, "CASE")?;
        let mut out = Vec::with_capacity(whens.len());
        for (condition, result, position) in whens {
            out.push((condition, self.coerce_to_common(result, ty, "CASE/WHEN", position)?));
        }
        let default = match else_result {
            Some(_) => {
                let (value, position) = default;
                Some(Box::new(self.coerce_to_common(value, ty, "CASE/ELSE", position)?))
            }
            None => None,
        };
        Ok(Expr { kind: ExprKind::Case { whens: out, default }, ty })
    }

    fn collate(
        &mut self,
        expr: &ast::Expr,
        collation: &ast::ObjectName,
        clause: Clause,
    ) -> Result<Expr> {
        let bound = self.bind_expr(expr, clause)?;
        let collatable = matches!(self.type_info(self.base_type(bound.ty.oid)).category, 'S')
            || bound.ty.oid == oid::UNKNOWN
            || self.type_info(bound.ty.oid).element != 0;
        if !collatable {
            let name = self.display_type(bound.ty.oid);
            let text = format!("collations are not supported by type {name}");
            let position = self.source.find_after(end_of(expr), &["collate"]);
            return Err(PgError::new(SqlState::DATATYPE_MISMATCH, text).at(position));
        }
        let name = collation.0.last().map(|p| p.to_string()).unwrap_or_default();
        let name = name.trim_matches('"');
        let known = matches!(name, "C" | "POSIX" | "default" | "ucs_basic")
            || name.ends_with("-x-icu")
            || name.contains("_");
        if !known {
            let text = format!("collation \"{name}\" for encoding \"UTF8\" does not exist");
            return Err(PgError::new(SqlState::UNDEFINED_OBJECT, text)
                .at(self.source.find_after(end_of(expr), &["collate"])));
        }
        Ok(bound)
    }

    /// COALESCE, GREATEST, LEAST.
    pub(super) fn common_call(
        &mut self,
        name: &str,
        args: &[&ast::Expr],
        clause: Clause,
    ) -> Result<Expr> {
        if args.is_empty() {
            // The grammar wants one at least.
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \")\""));
        }
        let mut bound = Vec::with_capacity(args.len());
        for arg in args {
            bound.push((self.bind_expr(arg, clause)?, self.position(arg)));
        }
        let what = name.to_ascii_uppercase();
        let refs: Vec<_> = bound.iter().map(|(e, p)| (e, *p)).collect();
        let ty = self.select_common_type(&refs, &what)?;
        let mut args = Vec::with_capacity(bound.len());
        for (e, p) in bound {
            args.push(self.coerce_to_common(e, ty, &what, p)?);
        }
        let kind = match name {
            "coalesce" => ExprKind::Coalesce(args),
            _ if !self.is_sortable(ty.oid) => {
                let text = format!(
                    "could not identify a comparison function for type {}",
                    self.display_type(ty.oid)
                );
                return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, text));
            }
            _ => ExprKind::MinMax { greatest: name == "greatest", args },
        };
        Ok(Expr { kind, ty })
    }

    pub(super) fn nullif(
        &mut self,
        left: &ast::Expr,
        right: &ast::Expr,
        position: Option<u32>,
        clause: Clause,
    ) -> Result<Expr> {
        let l = self.bind_expr(left, clause)?;
        let r = self.bind_expr(right, clause)?;
        let (lp, rp) = (self.position(left), self.position(right));
        let eq = self.make_operator("=", Some((l, lp)), (r, rp), position)?;
        let (eq, left, right) = into_comparison(eq)?;
        // What comes back is the operand as the operator takes it: NULLIF(1, 2.5) is numeric.
        let (ty, result) = (left.ty, Box::new(left.clone()));
        let (left, right) = (Box::new(left), Box::new(right));
        Ok(Expr { kind: ExprKind::NullIf { eq, left, right, result }, ty })
    }

    /// `x IN (…)`: one comparison with an array when all items are of one kind and read no column,
    /// else a chain of OR.
    fn bind_in_list(
        &mut self,
        expr: &ast::Expr,
        list: &[ast::Expr],
        negated: bool,
        clause: Clause,
    ) -> Result<Expr> {
        let op = if negated { "<>" } else { "=" };
        if let Some(fields) = row_fields(expr) {
            let mut parts = Vec::with_capacity(list.len());
            for item in list {
                parts.push(match row_fields(item) {
                    Some(r) => self.compare_rows(expr, fields, op, r, clause)?,
                    None => self.in_item(expr, item, op, clause)?,
                });
            }
            return Ok(joined(parts, negated));
        }
        let left = (self.bind_expr(expr, clause)?, self.position(expr));
        let mut items = Vec::with_capacity(list.len());
        for item in list {
            items.push((self.bind_expr(item, clause)?, self.position(item)));
        }
        let constant = |e: &Expr| crate::walk::expr_columns(e).is_empty();
        if items.len() > 1 && items.iter().all(|(e, _)| constant(e)) {
            let types: Vec<_> =
                std::iter::once(left.0.ty.oid).chain(items.iter().map(|(e, _)| e.ty.oid)).collect();
            let element = self.common_of_oids(&types).filter(|t| *t != oid::RECORD);
            if let Some((element, array)) = element.and_then(|t| Some((t, self.array_type(t)?))) {
                let mut elements = Vec::with_capacity(items.len());
                for (e, p) in items {
                    elements.push(self.coerce_to_common(e, PgType::new(element), "IN", p)?);
                }
                let kind = ExprKind::Array { elements, nested: false };
                let array = Expr { kind, ty: PgType::new(array) };
                let quantifier = if negated { Quantifier::All } else { Quantifier::Any };
                return self
                    .compare_array(op, left, (array, None), quantifier)
                    .map_err(|e| self.operator_error(e, expr, op));
            }
        }
        let mut parts = Vec::with_capacity(items.len());
        for item in items {
            let test = self.make_operator(op, Some(left.clone()), item, None);
            parts.push(test.map_err(|e| self.operator_error(e, expr, op))?);
        }
        Ok(joined(parts, negated))
    }

    fn in_item(
        &mut self,
        left: &ast::Expr,
        item: &ast::Expr,
        op: &str,
        clause: Clause,
    ) -> Result<Expr> {
        let l = (self.bind_expr(left, clause)?, self.position(left));
        let r = (self.bind_expr(item, clause)?, self.position(item));
        self.make_operator(op, Some(l), r, None).map_err(|e| self.operator_error(e, left, op))
    }
}

fn joined(mut parts: Vec<Expr>, all: bool) -> Expr {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    boolean(if all { ExprKind::And(parts) } else { ExprKind::Or(parts) })
}

/// A boolean expression of this kind.
pub(super) fn boolean(kind: ExprKind) -> Expr {
    Expr { kind, ty: PgType::new(oid::BOOL) }
}

/// The expression inside any parentheses.
pub(super) fn unnest(expr: &ast::Expr) -> &ast::Expr {
    match expr {
        ast::Expr::Nested(inner) => unnest(inner),
        other => other,
    }
}

/// The fields of a row constructor.
pub(super) fn row_fields(expr: &ast::Expr) -> Option<&[ast::Expr]> {
    match expr {
        ast::Expr::Tuple(fields) => Some(fields),
        ast::Expr::Prefixed { prefix, value } if prefix.value == "ROW" => row_fields(value),
        _ => None,
    }
}

/// The function and operands of an operator expression.
pub(super) fn into_comparison(e: Expr) -> Result<(crate::expr::FuncRef, Expr, Expr)> {
    match e.kind {
        ExprKind::Call { func, mut args } if args.len() == 2 => {
            let right = args.pop();
            match (args.pop(), right) {
                (Some(left), Some(right)) => Ok((func, left, right)),
                _ => Err(PgError::internal("an equality has two operands")),
            }
        }
        _ => Err(PgError::internal("an equality is a call")),
    }
}
