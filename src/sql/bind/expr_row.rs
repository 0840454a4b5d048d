//! Rows, arrays, their parts, and sub-queries in expressions.

use std::sync::Arc;

use meridian_types::builtin;
use meridian_types::oid;
use meridian_types::shape;
use meridian_types::{PgError, PgType, Result, SqlState};
use sqlparser::ast::{AccessExpr, Subscript};

use super::expr::{boolean, row_fields, unnest};
use super::{Binder, Clause};
use crate::ast;
use crate::expr::{Expr, ExprKind, Quantifier};
use crate::parse::operators::binary_name;
use crate::parse::source::{end_of, start_of};
use crate::rel::Column;
use crate::resolve::CoercionContext;

type Operand = (Expr, Option<u32>);

fn syntax(text: &str, position: Option<u32>) -> PgError {
    PgError::new(SqlState::SYNTAX_ERROR, text).at(position)
}

fn operands(call: &Expr) -> &[Expr] {
    match &call.kind {
        ExprKind::Call { args, .. } => args,
        _ => &[],
    }
}

/// `a < b OR (a = b AND rest)`, from what decides each pair and its equality.
fn connected(mut pairs: Vec<(Expr, Option<Expr>)>) -> Expr {
    let Some((mut rest, _)) = pairs.pop() else { return boolean(ExprKind::Or(vec![])) };
    while let Some((less, equal)) = pairs.pop() {
        let tail = boolean(ExprKind::And(equal.into_iter().chain([rest]).collect()));
        rest = boolean(ExprKind::Or(vec![less, tail]));
    }
    rest
}

fn row_compare(compared: Vec<(Expr, Option<Expr>)>) -> Result<Expr> {
    let (mut pairs, mut decides, mut equal) = (vec![], vec![], vec![]);
    for (less, same) in compared {
        let types = |e: &Expr| operands(e).iter().map(|a| a.ty.oid).collect::<Vec<_>>();
        let alike = same.as_ref().is_none_or(|same| types(same) == types(&less));
        if let Some(ExprKind::Call { func, .. }) = same.map(|e| e.kind) {
            equal.push(func);
        }
        match less.kind {
            ExprKind::Call { func, mut args } if alike && args.len() == 2 => {
                let right = args.remove(1);
                pairs.push((args.remove(0), right));
                decides.push(func);
            }
            _ => return Err(PgError::internal("a comparison of rows is no pair of calls")),
        }
    }
    Ok(boolean(ExprKind::RowCompare { pairs, decides, equal }))
}

impl Binder<'_> {
    pub(super) fn bind_row(&mut self, fields: &[ast::Expr], clause: Clause) -> Result<Expr> {
        let mut out = Vec::with_capacity(fields.len());
        for field in fields {
            match field {
                ast::Expr::QualifiedWildcard(name, _) => {
                    let parts: Vec<ast::Ident> =
                        name.0.iter().filter_map(|p| p.as_ident().cloned()).collect();
                    let row = self.bind_name(&parts)?;
                    match row.kind {
                        ExprKind::Row(inner) => out.extend(inner),
                        kind => out.push(Expr { kind, ty: row.ty }),
                    }
                }
                other => {
                    let position = self.position(other);
                    let bound = self.bind_expr(other, clause)?;
                    out.push(self.resolve_unknown(bound, position)?);
                }
            }
        }
        let names = (1..).map(|i| Arc::from(format!("f{i}")));
        let shape = shape::typmod(names.zip(out.iter().map(|e| e.ty)).collect());
        Ok(Expr { kind: ExprKind::Row(out), ty: PgType::with_typmod(oid::RECORD, shape) })
    }

    /// Where an operator stands behind its left operand.
    fn after(&self, left: &ast::Expr, op: &str) -> Option<u32> {
        self.source.find_after(end_of(left), &[op]).or_else(|| self.position(left))
    }

    pub(super) fn same_length(&self, l: usize, r: usize, at: &ast::Expr, op: &str) -> Result<()> {
        if l == r {
            return Ok(());
        }
        Err(syntax("unequal number of entries in row expressions", self.after(at, op)))
    }

    /// `(a, b) op (c, d)`: pairwise for `=` and `<>`, lexicographic for the order operators.
    pub(super) fn compare_rows(
        &mut self,
        at: &ast::Expr,
        left: &[ast::Expr],
        op: &str,
        right: &[ast::Expr],
        clause: Clause,
    ) -> Result<Expr> {
        self.same_length(left.len(), right.len(), at, op)?;
        if left.is_empty() {
            return Err(PgError::unsupported("cannot compare rows of zero length"));
        }
        let mut pairs = Vec::with_capacity(left.len());
        for (l, r) in left.iter().zip(right) {
            let l = (self.bind_expr(l, clause)?, self.position(l));
            let r = (self.bind_expr(r, clause)?, self.position(r));
            pairs.push((l, r));
        }
        self.compare_pairs(pairs, op).map_err(|e| self.operator_error(e, at, op))
    }

    fn compare_pairs(&mut self, pairs: Vec<(Operand, Operand)>, op: &str) -> Result<Expr> {
        if matches!(op, "=" | "<>") || pairs.len() == 1 {
            let mut parts = Vec::with_capacity(pairs.len());
            for (l, r) in pairs {
                parts.push(self.make_operator(op, Some(l), r, None)?);
            }
            return Ok(match (parts.len(), op) {
                (1, _) => parts.remove(0),
                (_, "=") => boolean(ExprKind::And(parts)),
                _ => boolean(ExprKind::Or(parts)),
            });
        }
        let strict = match op {
            "<" | "<=" => "<",
            ">" | ">=" => ">",
            _ => {
                let text =
                    format!("could not determine interpretation of row comparison operator {op}");
                return Err(PgError::unsupported(text).hint(
                    "Row comparison operators must be associated with btree operator families.",
                ));
            }
        };
        let mut compared = Vec::with_capacity(pairs.len());
        let mut pairs = pairs.into_iter().peekable();
        while let Some((l, r)) = pairs.next() {
            if pairs.peek().is_none() {
                compared.push((self.make_operator(op, Some(l), r, None)?, None));
                break;
            }
            let less = self.make_operator(strict, Some(l.clone()), r.clone(), None)?;
            compared.push((less, Some(self.make_operator("=", Some(l), r, None)?)));
        }
        // Where computing an operand cannot fail it does not show which ones are looked at, and ANDs
        // and ORs are what keys can be found in.
        let simple = |e: &Expr| {
            let bare = if let ExprKind::Relabel(inner) = &e.kind { inner } else { e };
            matches!(bare.kind, ExprKind::Column(_) | ExprKind::Const(_) | ExprKind::Param(_))
        };
        let harmless = compared.iter().flat_map(|(e, _)| operands(e)).all(simple);
        if harmless { Ok(connected(compared)) } else { row_compare(compared) }
    }

    /// ARRAY[…], to the element type of `target` when a cast surrounds it.
    pub(super) fn bind_array(
        &mut self,
        array: &ast::Array,
        target: Option<PgType>,
        clause: Clause,
    ) -> Result<Expr> {
        let element_target = target
            .map(|t| (t, self.type_info(self.base_type(t.oid)).element))
            .filter(|(_, element)| *element != 0);
        let mut nested = false;
        let mut items = Vec::with_capacity(array.elem.len());
        for item in &array.elem {
            let position = self.position(item);
            let bound = match unnest(item) {
                ast::Expr::Array(inner) => {
                    nested = true;
                    self.bind_array(inner, target, clause)?
                }
                other => self.bind_expr(other, clause)?,
            };
            nested |= self.type_info(bound.ty.oid).element != 0
                && !matches!(bound.ty.oid, oid::INT2VECTOR | oid::OIDVECTOR);
            items.push((bound, position));
        }
        let (ty, context) = match (element_target, items.is_empty()) {
            (Some((array, element)), _) => {
                let ty = if nested { array.oid } else { element };
                (PgType::with_typmod(ty, array.typmod), CoercionContext::Explicit)
            }
            (None, true) => {
                return Err(PgError::new(
                    SqlState::INDETERMINATE_DATATYPE,
                    "cannot determine type of empty array",
                )
                .hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
            }
            (None, false) => {
                let refs: Vec<_> = items.iter().map(|(e, p)| (e, *p)).collect();
                (self.select_common_type(&refs, "ARRAY")?, CoercionContext::Implicit)
            }
        };
        let mut elements = Vec::with_capacity(items.len());
        for (item, position) in items {
            elements.push(match context {
                CoercionContext::Implicit => self.coerce_to_common(item, ty, "ARRAY", position)?,
                _ => self.coerce_to(item, ty, context, position)?,
            });
        }
        let is_array = self.type_info(ty.oid).element != 0;
        let array = match (nested && is_array, self.array_type(ty.oid)) {
            (true, _) => ty.oid,
            (false, Some(array)) => array,
            (false, None) => {
                let name = self.display_type(ty.oid);
                let text = format!("could not find array type for data type {name}");
                return Err(PgError::new(SqlState::UNDEFINED_OBJECT, text));
            }
        };
        let kind = ExprKind::Array { elements, nested: nested && is_array };
        Ok(Expr { kind, ty: PgType::with_typmod(array, ty.typmod) })
    }

    /// `.field` and `[subscript]` behind an expression.
    pub(super) fn bind_access(
        &mut self,
        root: &ast::Expr,
        chain: &[AccessExpr],
        clause: Clause,
    ) -> Result<Expr> {
        let position = self.position(root);
        let mut expr = self.bind_expr(root, clause)?;
        let mut i = 0;
        while i < chain.len() {
            match &chain[i] {
                AccessExpr::Dot(ast::Expr::Identifier(name)) => {
                    expr = self.field(expr, &name.value, position)?;
                    i += 1;
                }
                AccessExpr::Dot(_) => return Err(syntax("improper use of \"*\"", position)),
                AccessExpr::Subscript(_) => {
                    let subscripts: Vec<&Subscript> = chain[i..]
                        .iter()
                        .map_while(|a| match a {
                            AccessExpr::Subscript(s) => Some(s),
                            AccessExpr::Dot(_) => None,
                        })
                        .collect();
                    i += subscripts.len();
                    expr = self.subscript(expr, &subscripts, position, clause)?;
                }
            }
        }
        Ok(expr)
    }

    fn field(&mut self, row: Expr, name: &str, position: Option<u32>) -> Result<Expr> {
        let fields = self.row_fields(&row);
        let found = fields
            .as_ref()
            .and_then(|fields| fields.iter().position(|(field, _)| **field == *name));
        let Some(index) = found else {
            let type_name = self.display_type(row.ty.oid);
            let (state, text) = match (fields.is_some(), row.ty.oid == oid::RECORD) {
                (_, true) => (
                    SqlState::UNDEFINED_COLUMN,
                    format!("could not identify column \"{name}\" in record data type"),
                ),
                (true, false) => (
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{name}\" not found in data type {type_name}"),
                ),
                (false, false) => (
                    SqlState::WRONG_OBJECT_TYPE,
                    format!(
                        "column notation .{name} applied to type {type_name}, \
                         which is not a composite type"
                    ),
                ),
            };
            return Err(PgError::new(state, text).at(position));
        };
        let ty = fields.map_or(row.ty, |f| f[index].1);
        if let ExprKind::Row(mut items) = row.kind {
            return Ok(items.swap_remove(index));
        }
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Ok(Expr { kind: ExprKind::Field(Box::new(row), index), ty })
    }

    pub(super) fn subscript(
        &mut self,
        base: Expr,
        subscripts: &[&Subscript],
        position: Option<u32>,
        clause: Clause,
    ) -> Result<Expr> {
        let ty = self.base_type(base.ty.oid);
        let info = self.type_info(ty);
        let fixed = builtin::type_by_oid(ty).map_or(0, |r| r.elem);
        let element = if info.element != 0 { info.element } else { fixed };
        let jsonb = ty == oid::JSONB;
        if element == 0 && !jsonb {
            let name = self.display_type(ty);
            let text =
                format!("cannot subscript type {name} because it does not support subscripting");
            return Err(PgError::new(SqlState::DATATYPE_MISMATCH, text).at(position));
        }
        let slice = subscripts.iter().any(|s| matches!(s, Subscript::Slice { .. }));
        if slice && jsonb {
            return Err(PgError::new(
                SqlState::DATATYPE_MISMATCH,
                "jsonb subscript does not support slices",
            )
            .at(position));
        }
        let mut indexes = Vec::with_capacity(subscripts.len());
        for s in subscripts {
            indexes.push(match s {
                Subscript::Index { index } => (None, Some(self.index_expr(index, jsonb, clause)?)),
                Subscript::Slice { lower_bound, upper_bound, .. } => {
                    let mut bound = |e: &Option<ast::Expr>| {
                        e.as_ref().map(|e| self.index_expr(e, false, clause)).transpose()
                    };
                    (bound(lower_bound)?, bound(upper_bound)?)
                }
            });
        }
        let result = match (slice, jsonb) {
            (_, true) => PgType::new(oid::JSONB),
            (true, _) => PgType::with_typmod(ty, base.ty.typmod),
            (false, _) => PgType::with_typmod(element, base.ty.typmod),
        };
        Ok(Expr { kind: ExprKind::Subscript { base: Box::new(base), indexes, slice }, ty: result })
    }

    fn index_expr(&mut self, index: &ast::Expr, jsonb: bool, clause: Clause) -> Result<Expr> {
        let position = self.position(index);
        let bound = self.bind_expr(index, clause)?;
        let target = match (jsonb, bound.ty.oid) {
            (true, oid::INT4 | oid::INT2) => oid::INT4,
            (true, _) => oid::TEXT,
            _ => oid::INT4,
        };
        self.coerce_to(bound, PgType::new(target), CoercionContext::Assignment, position).map_err(
            |e| match e.state() {
                SqlState::CANNOT_COERCE => PgError::new(
                    SqlState::DATATYPE_MISMATCH,
                    "array subscript must have type integer",
                )
                .at(position),
                _ => e,
            },
        )
    }

    /// `left op ANY (array)` over bound operands.
    pub(super) fn compare_array(
        &mut self,
        op: &str,
        left: Operand,
        right: Operand,
        quantifier: Quantifier,
    ) -> Result<Expr> {
        let ((left, left_at), (right, right_at)) = (left, right);
        let element = match right.ty.oid {
            oid::UNKNOWN => oid::UNKNOWN,
            ty => self.type_info(self.base_type(ty)).element,
        };
        let wrong = |text: &str| PgError::new(SqlState::WRONG_OBJECT_TYPE, text);
        if element == 0 {
            return Err(wrong("op ANY/ALL (array) requires array on right side"));
        }
        let row = self.find_operator(op, left.ty.oid, element, None)?;
        let (func, types, ret) = self.operator_function(row, left.ty.oid, element, None)?;
        if ret != oid::BOOL {
            return Err(wrong("op ANY/ALL (array) requires operator to yield boolean"));
        }
        let (left_type, right_type) = (types[0], types[1]);
        let Some(array) = self.array_type(right_type) else {
            let name = self.display_type(right_type);
            let text = format!("could not find array type for data type {name}");
            return Err(PgError::new(SqlState::UNDEFINED_OBJECT, text));
        };
        let left = self.coerce_argument(left, left_type, left_at)?;
        let implicit = CoercionContext::Implicit;
        let right = self.coerce_to(right, PgType::new(array), implicit, right_at)?;
        let (left, right) = (Box::new(left), Box::new(right));
        Ok(boolean(ExprKind::ArrayCompare { func, quantifier, left, right }))
    }

    /// Sub-queries, and ANY or ALL of an array.
    pub(super) fn bind_subquery_expr(&mut self, expr: &ast::Expr, clause: Clause) -> Result<Expr> {
        let position = self.position(expr);
        match expr {
            ast::Expr::Exists { subquery, negated } => {
                clause.check_subquery(position)?;
                let (subquery, _) = self.bind_subquery(subquery)?;
                let exists = boolean(ExprKind::Exists(subquery));
                Ok(if *negated { boolean(ExprKind::Not(Box::new(exists))) } else { exists })
            }
            ast::Expr::Subquery(query) => {
                clause.check_subquery(position)?;
                let (subquery, columns) = self.bind_subquery(query)?;
                let [column] = columns.as_slice() else {
                    let position = self.source.find_before(start_of(expr), "(");
                    return Err(syntax("subquery must return only one column", position));
                };
                let ty = column.ty;
                Ok(Expr { kind: ExprKind::ScalarSubquery(subquery), ty })
            }
            ast::Expr::InSubquery { expr, subquery, negated } => {
                let test = self.quantified(expr, "=", Quantifier::Any, subquery, clause)?;
                Ok(if *negated { boolean(ExprKind::Not(Box::new(test))) } else { test })
            }
            ast::Expr::AnyOp { left, compare_op, right, .. } => {
                let (_, op) = binary_name(compare_op);
                self.quantified_side(left, &op, Quantifier::Any, right, clause)
            }
            ast::Expr::AllOp { left, compare_op, right } => {
                let (_, op) = binary_name(compare_op);
                self.quantified_side(left, &op, Quantifier::All, right, clause)
            }
            _ => Err(PgError::internal("not a sub-query")),
        }
    }

    fn quantified_side(
        &mut self,
        left: &ast::Expr,
        op: &str,
        quantifier: Quantifier,
        right: &ast::Expr,
        clause: Clause,
    ) -> Result<Expr> {
        if let ast::Expr::Subquery(query) = right {
            return self.quantified(left, op, quantifier, query, clause);
        }
        let l = (self.bind_expr(left, clause)?, self.position(left));
        let r = (self.bind_expr(right, clause)?, self.position(right));
        self.compare_array(op, l, r, quantifier).map_err(|e| self.operator_error(e, left, op))
    }

    fn quantified(
        &mut self,
        left: &ast::Expr,
        op: &str,
        quantifier: Quantifier,
        query: &ast::Query,
        clause: Clause,
    ) -> Result<Expr> {
        let position = self.position(left);
        clause.check_subquery(position)?;
        let mut values = Vec::new();
        match row_fields(left) {
            Some(fields) => {
                for field in fields {
                    values.push((self.bind_expr(field, clause)?, self.position(field)));
                }
            }
            None => values.push((self.bind_expr(left, clause)?, position)),
        }
        let (subquery, columns) = self.bind_subquery(query)?;
        if columns.len() != values.len() {
            let fewer = columns.len() < values.len();
            let text = if fewer { "too few" } else { "too many" };
            let position = self.source.find_after(end_of(left), &["in", "not", op]);
            return Err(syntax(&format!("subquery has {text} columns"), position));
        }
        let pairs = values
            .into_iter()
            .zip(&columns)
            .map(|(value, c): (Operand, &Column)| (value, (Expr::column(c.id, c.ty), None)))
            .collect();
        let test = self.compare_pairs(pairs, op).map_err(|e| self.operator_error(e, left, op))?;
        if test.ty.oid != oid::BOOL {
            let text = format!(
                "operator {op} must return type boolean, not type {}",
                self.display_type(test.ty.oid)
            );
            return Err(PgError::new(SqlState::DATATYPE_MISMATCH, text).at(position));
        }
        Ok(boolean(ExprKind::Quantified { subquery, quantifier, test: Box::new(test) }))
    }
}
