//! VALUES as a relation: columns `column1`, `column2` …, each of the common type of its values.

use std::sync::Arc;

use meridian_types::oid::UNKNOWN;
use meridian_types::{PgError, PgType, Result, SqlState};

use super::{Binder, BoundQuery, Clause, Scope};
use crate::ast;
use crate::expr::Expr;
use crate::rel::{Column, Rel};

/// Expressions and where they were written.
type Row = Vec<(Expr, Option<u32>)>;

impl Binder<'_> {
    /// Binds VALUES.
    pub(crate) fn bind_values(
        &mut self,
        values: &ast::Values,
        resolve: bool,
    ) -> Result<BoundQuery> {
        self.scopes.push(Scope::default());
        let rows = self.bind_value_rows(values);
        self.scopes.pop();
        let mut rows = rows?;
        let width = rows.first().map_or(0, Vec::len);
        let mut columns = Vec::with_capacity(width);
        for i in 0..width {
            let exprs: Vec<(&Expr, Option<u32>)> = rows.iter().map(|r| (&r[i].0, r[i].1)).collect();
            let mut ty = self.select_common_type(&exprs, "VALUES")?;
            if ty.oid == UNKNOWN && resolve {
                ty = PgType::new(meridian_types::oid::TEXT);
            }
            let ty = common_typmod(ty, rows.iter().map(|r| r[i].0.ty));
            if ty.oid != UNKNOWN {
                for row in &mut rows {
                    let (e, position) = (take_expr(&mut row[i].0), row[i].1);
                    let base = PgType::new(ty.oid);
                    row[i].0 = self.coerce_to_common(e, base, "VALUES", position)?;
                }
            }
            columns.push(self.new_column(Arc::from(format!("column{}", i + 1)), ty));
        }
        let origins = vec![None; columns.len()];
        let rows = rows.into_iter().map(|r| r.into_iter().map(|(e, _)| e).collect()).collect();
        let rel = Rel::Values { columns: columns.clone(), rows };
        Ok(BoundQuery { rel, columns, origins })
    }

    fn bind_value_rows(&mut self, values: &ast::Values) -> Result<Vec<Row>> {
        let mut rows: Vec<Row> = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let mut bound = Vec::with_capacity(row.content.len());
            for e in &row.content {
                let position = self.position(e);
                if is_default(e) {
                    let text = "DEFAULT is not allowed in this context";
                    return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
                }
                bound.push((self.bind_expr(e, Clause::Values)?, position));
            }
            if rows.first().is_some_and(|first| first.len() != bound.len()) {
                let position = row.content.first().and_then(|e| self.position(e));
                let text = "VALUES lists must all be the same length";
                return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
            }
            rows.push(bound);
        }
        Ok(rows)
    }

    /// Gives a column of a bound query whose type is still `unknown` this type, where its literals
    /// stand; returns whether it could.
    pub(crate) fn retype_unknown(
        &mut self,
        rel: &mut Rel,
        id: crate::expr::ColumnId,
        ty: PgType,
        position: Option<u32>,
    ) -> Result<bool> {
        let base = PgType::new(ty.oid);
        match rel {
            Rel::Project { input, exprs } => {
                let Some(at) = exprs.iter().position(|(c, _)| c.id == id) else { return Ok(false) };
                if let crate::expr::ExprKind::Column(inner) = exprs[at].1.kind
                    && exprs[at].1.ty.oid == UNKNOWN
                {
                    if !self.retype_unknown(input, inner, ty, position)? {
                        return Ok(false);
                    }
                    exprs[at].1.ty = base;
                } else {
                    let e = take_expr(&mut exprs[at].1);
                    let implicit = crate::resolve::CoercionContext::Implicit;
                    exprs[at].1 = self.coerce_to(e, base, implicit, position)?;
                }
                exprs[at].0.ty = base;
                Ok(true)
            }
            Rel::Values { columns, rows } => {
                let Some(at) = columns.iter().position(|c| c.id == id) else { return Ok(false) };
                for row in rows {
                    let e = take_expr(&mut row[at]);
                    let implicit = crate::resolve::CoercionContext::Implicit;
                    row[at] = self.coerce_to(e, base, implicit, position)?;
                }
                columns[at].ty = base;
                Ok(true)
            }
            Rel::Filter { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Limit { input, .. }
            | Rel::LockRows { input, .. }
            | Rel::Distinct { input, .. } => self.retype_unknown(input, id, ty, position),
            Rel::With { body, .. } => self.retype_unknown(body, id, ty, position),
            _ => Ok(false),
        }
    }

    /// The query with its columns coerced, in place for literals, by a projection for the rest.
    pub(crate) fn coerce_columns(
        &mut self,
        mut bound: BoundQuery,
        types: &[PgType],
        positions: &[Option<u32>],
        coerce: &mut dyn FnMut(&mut Self, usize, Expr) -> Result<Expr>,
    ) -> Result<BoundQuery> {
        let mut changed = false;
        let mut exprs: Vec<(Column, Expr)> = Vec::with_capacity(types.len());
        for (i, ty) in types.iter().enumerate() {
            let mut column = bound.columns[i].clone();
            if column.ty.oid == UNKNOWN
                && self.retype_unknown(
                    &mut bound.rel,
                    column.id,
                    *ty,
                    positions.get(i).copied().flatten(),
                )?
            {
                column.ty = PgType::new(ty.oid);
                bound.columns[i].ty = column.ty;
            }
            let e = coerce(self, i, Expr::column(column.id, column.ty))?;
            if matches!(e.kind, crate::expr::ExprKind::Column(_)) {
                column.ty = e.ty;
            } else {
                changed = true;
                column = self.new_column(column.name.clone(), e.ty);
                bound.origins[i] = None;
            }
            exprs.push((column, e));
        }
        if !changed {
            bound.columns = exprs.into_iter().map(|(c, _)| c).collect();
            return Ok(bound);
        }
        let columns = exprs.iter().map(|(c, _)| c.clone()).collect();
        exprs.dedup_by(|a, b| a.0.id == b.0.id);
        let rel = Rel::Project { input: Box::new(bound.rel), exprs };
        Ok(BoundQuery { rel, columns, origins: bound.origins })
    }
}

/// The word DEFAULT in place of an expression.
pub(crate) fn is_default(e: &ast::Expr) -> bool {
    matches!(e, ast::Expr::Identifier(i)
        if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
}

/// Takes an expression out of its place.
pub(crate) fn take_expr(e: &mut Expr) -> Expr {
    std::mem::replace(e, Expr::constant(meridian_types::Datum::Null, PgType::new(UNKNOWN)))
}

/// The modifier that all have in common, if they are all of this type.
pub(crate) fn common_typmod(ty: PgType, types: impl Iterator<Item = PgType>) -> PgType {
    let mut types = types;
    match types.next() {
        Some(first) if first.oid == ty.oid && types.all(|t| t == first) => first,
        _ => PgType::new(ty.oid),
    }
}
