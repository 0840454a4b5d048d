//! Select lists: expressions, `*`, and the names of output columns.

use std::ops::Range;
use std::sync::Arc;

use meridian_types::oid::Oid;
use meridian_types::{PgError, Result, SqlState};

use super::scope::{ColumnUse, ScopeColumn, ScopeItem};
use super::{Binder, Clause};
use crate::ast;
use crate::expr::{Expr, ExprKind};
use crate::rel::Column;

/// An entry of a select list.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Output name.
    pub(crate) name: Arc<str>,
    /// Its value.
    pub(crate) expr: Expr,
    /// The table's column that it is.
    pub(crate) origin: Option<(Oid, i16)>,
    /// Where it was written.
    pub(crate) position: Option<u32>,
    /// Entries of `Scope::uses` that it made.
    pub(crate) uses: Range<usize>,
}

impl Binder<'_> {
    /// Binds a select list; literals of no type become text when `resolve`.
    pub(crate) fn bind_targets(
        &mut self,
        items: &[ast::SelectItem],
        clause: Clause,
        resolve: bool,
    ) -> Result<Vec<Target>> {
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            match item {
                ast::SelectItem::UnnamedExpr(e) => {
                    if let Some(inner) = whole_star(e) {
                        self.expand_row(inner, clause, &mut out)?;
                        continue;
                    }
                    out.push(self.bind_target(e, None, clause, resolve)?);
                }
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    out.push(self.bind_target(expr, Some(&alias.value), clause, resolve)?);
                }
                ast::SelectItem::Wildcard(options) => {
                    let position = self.source.position(options.wildcard_token.0.span.start);
                    self.expand_star(position, &mut out)?;
                }
                ast::SelectItem::QualifiedWildcard(kind, _) => match kind {
                    ast::SelectItemQualifiedWildcardKind::ObjectName(name) => {
                        self.expand_table_star(name, clause, &mut out)?;
                    }
                    ast::SelectItemQualifiedWildcardKind::Expr(e) => {
                        self.expand_row(e, clause, &mut out)?;
                    }
                },
                ast::SelectItem::ExprWithAliases { .. } => {
                    return Err(PgError::new(
                        SqlState::SYNTAX_ERROR,
                        "syntax error at or near \"AS\"",
                    ));
                }
            }
        }
        Ok(out)
    }

    /// Binds one expression of a select list.
    pub(crate) fn bind_target(
        &mut self,
        e: &ast::Expr,
        alias: Option<&str>,
        clause: Clause,
        resolve: bool,
    ) -> Result<Target> {
        let position = self.position(e);
        let start = self.scope().uses.len();
        let mut expr = self.bind_expr(e, clause)?;
        if resolve {
            expr = self.resolve_unknown(expr, position)?;
        }
        let uses = start..self.scope().uses.len();
        let name = alias.map_or_else(|| Arc::from(column_name(e)), Arc::from);
        let origin = self.origin_of(&expr);
        Ok(Target { name, expr, origin, position, uses })
    }

    fn origin_of(&self, expr: &Expr) -> Option<(Oid, i16)> {
        let ExprKind::Column(id) = expr.kind else { return None };
        let scope = self.scopes.last()?;
        let columns = scope.items.iter().flat_map(|i| &i.columns);
        columns
            .filter(|c| c.origin.is_some())
            .find(|c| matches!(c.expr.kind, ExprKind::Column(c) if c == id))
            .and_then(|c| c.origin)
    }

    /// `*`
    fn expand_star(&mut self, position: Option<u32>, out: &mut Vec<Target>) -> Result<()> {
        let level = self.scopes.len() - 1;
        let items = &self.scopes[level].items;
        let visible: Vec<usize> = (0..items.len())
            .filter(|i| items[*i].columns_visible && !items[*i].lateral_only)
            .collect();
        if visible.is_empty() {
            let text = "SELECT * with no tables specified is not valid";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
        }
        for item in visible {
            self.expand_item(level, item, position, out);
        }
        Ok(())
    }

    /// `t.*`, also of an outer query; or `c.*` where `c` is a column of a composite type.
    fn expand_table_star(
        &mut self,
        name: &ast::ObjectName,
        clause: Clause,
        out: &mut Vec<Target>,
    ) -> Result<()> {
        let parts: Vec<&ast::Ident> = name.0.iter().filter_map(|p| p.as_ident()).collect();
        let position = parts.first().and_then(|i| self.source.position(i.span.start));
        let (schema, table) = match parts.as_slice() {
            [table] => (None, table.value.as_str()),
            [.., schema, table] => (Some(schema.value.as_str()), table.value.as_str()),
            [] => return Err(PgError::internal("a star without a name")),
        };
        for level in (0..self.scopes.len()).rev() {
            let items = &self.scopes[level].items;
            let lateral = self.scopes[level].lateral || level + 1 < self.scopes.len();
            let found = items.iter().position(|i| {
                i.table_visible
                    && i.alias.as_deref() == Some(table)
                    && (schema.is_none() || i.schema.as_deref() == schema)
                    && (!i.lateral_only || lateral)
            });
            if let Some(item) = found {
                self.expand_item(level, item, position, out);
                return Ok(());
            }
        }
        if schema.is_none() && self.names_column(table) {
            let e = ast::Expr::Identifier(parts[0].clone());
            return self.expand_row(&e, clause, out);
        }
        let text = match schema {
            Some(s) => format!("missing FROM-clause entry for table \"{s}.{table}\""),
            None => format!("missing FROM-clause entry for table \"{table}\""),
        };
        let text = text.replace(&format!("{}.", schema.unwrap_or("\0")), "");
        Err(PgError::new(SqlState::UNDEFINED_TABLE, text).at(position))
    }

    /// Whether an unqualified name is a column of this level.
    pub(crate) fn names_column(&self, name: &str) -> bool {
        let Some(scope) = self.scopes.last() else { return false };
        let items = scope.items.iter().filter(|i| i.columns_visible && !i.lateral_only);
        items.flat_map(|i| &i.columns).any(|c| *c.name == *name)
    }

    fn expand_item(
        &mut self,
        level: usize,
        item: usize,
        position: Option<u32>,
        out: &mut Vec<Target>,
    ) {
        let entry = self.scopes[level].items[item].clone();
        for column in entry.columns.iter().filter(|c| !c.system) {
            let start = self.scope().uses.len();
            self.use_column(level, &entry, column, position);
            let uses = start..self.scope().uses.len();
            out.push(Target {
                name: column.name.clone(),
                expr: column.expr.clone(),
                origin: column.origin,
                position,
                uses,
            });
        }
    }

    /// Notes that a column is read here, for the GROUP BY check and for correlation.
    fn use_column(
        &mut self,
        level: usize,
        item: &ScopeItem,
        column: &ScopeColumn,
        position: Option<u32>,
    ) {
        for id in crate::walk::expr_columns(&column.expr) {
            let display = match &item.alias {
                Some(alias) => format!("{alias}.{}", column.name),
                None => column.name.to_string(),
            };
            self.scopes[level].uses.push(ColumnUse { id, display, position });
            if level + 1 < self.scopes.len() {
                self.outer_log.push((level, id));
            }
        }
    }

    /// `(row).*`: one column for each field.
    fn expand_row(&mut self, e: &ast::Expr, clause: Clause, out: &mut Vec<Target>) -> Result<()> {
        let position = self.position(e);
        let start = self.scope().uses.len();
        let row = self.bind_expr(e, clause)?;
        let uses = start..self.scope().uses.len();
        let fields = self.row_fields(&row).ok_or_else(|| {
            let text = format!("type {} is not composite", self.display_type(row.ty.oid));
            PgError::new(SqlState::WRONG_OBJECT_TYPE, text).at(position)
        })?;
        for (i, (name, ty)) in fields.into_iter().enumerate() {
            let index = u32::try_from(i).unwrap_or(u32::MAX);
            let kind = match &row.kind {
                ExprKind::Row(items) if items.len() > i => items[i].kind.clone(),
                _ => ExprKind::Field(Box::new(row.clone()), index),
            };
            let expr = Expr { kind, ty };
            let origin = self.origin_of(&expr);
            out.push(Target { name, expr, origin, position, uses: uses.clone() });
        }
        Ok(())
    }

    /// The output columns of targets, without a relation yet.
    pub(crate) fn target_columns(&mut self, targets: &[Target]) -> Vec<Column> {
        targets.iter().map(|t| self.new_column(t.name.clone(), t.expr.ty)).collect()
    }
}

/// The `row` of `(row).*`, when the parser left it as an expression.
fn whole_star(e: &ast::Expr) -> Option<&ast::Expr> {
    match e {
        ast::Expr::CompoundFieldAccess { root, access_chain } if access_chain.len() == 1 => {
            match &access_chain[0] {
                ast::AccessExpr::Dot(ast::Expr::Wildcard(_)) => Some(root),
                _ => None,
            }
        }
        ast::Expr::Prefixed { prefix, value } if prefix.value == "*" => Some(value),
        _ => None,
    }
}

/// The name that PostgreSQL gives an output column without alias.
pub(crate) fn column_name(e: &ast::Expr) -> String {
    named(e).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
}

/// (name, strength): a cast's own name is weaker than its operand's.
fn named(e: &ast::Expr) -> Option<(String, u8)> {
    let strong = |s: &str| Some((s.to_owned(), 2));
    match e {
        ast::Expr::Identifier(i) => strong(&i.value),
        ast::Expr::CompoundIdentifier(parts) => strong(&parts.last()?.value),
        ast::Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|a| match a {
                ast::AccessExpr::Dot(ast::Expr::Identifier(i)) => Some(i.value.clone()),
                _ => None,
            });
            field.map(|f| (f, 2)).or_else(|| named(root))
        }
        ast::Expr::Function(f) => {
            let name = f.name.0.last()?.as_ident()?;
            strong(&name.value)
        }
        ast::Expr::Nested(inner) => named(inner),
        ast::Expr::Collate { expr, .. } => named(expr),
        ast::Expr::Cast { expr, data_type, .. } => {
            let inner = named(expr);
            if inner.as_ref().is_some_and(|(_, strength)| *strength == 2) {
                return inner;
            }
            type_word(data_type).map(|t| (t, 1)).or(inner)
        }
        ast::Expr::TypedString(t) => type_word(&t.data_type).map(|t| (t, 1)),
        ast::Expr::Interval(_) => Some(("interval".to_owned(), 1)),
        ast::Expr::Case { else_result, .. } => {
            let inner = else_result.as_ref().and_then(|e| named(e));
            match inner {
                Some((name, 2)) => Some((name, 2)),
                _ => Some(("case".to_owned(), 1)),
            }
        }
        ast::Expr::Exists { .. } => strong("exists"),
        ast::Expr::Subquery(q) => subquery_name(q),
        ast::Expr::Array(_) => strong("array"),
        ast::Expr::Extract { .. } => strong("extract"),
        ast::Expr::Position { .. } => strong("position"),
        ast::Expr::Substring { .. } => strong("substring"),
        ast::Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        ast::Expr::Overlay { .. } => strong("overlay"),
        ast::Expr::Ceil { .. } => strong("ceil"),
        ast::Expr::Floor { .. } => strong("floor"),
        ast::Expr::AtTimeZone { .. } => strong("timezone"),
        ast::Expr::Tuple(_) => strong("row"),
        ast::Expr::Prefixed { prefix, value }
            if prefix.value == "ROW" && matches!(**value, ast::Expr::Tuple(_)) =>
        {
            strong("row")
        }
        _ => None,
    }
}

fn subquery_name(query: &ast::Query) -> Option<(String, u8)> {
    match query.body.as_ref() {
        ast::SetExpr::Select(s) => match s.projection.first()? {
            ast::SelectItem::ExprWithAlias { alias, .. } => Some((alias.value.clone(), 2)),
            ast::SelectItem::UnnamedExpr(e) => {
                Some((column_name(e), 2)).filter(|(n, _)| n != "?column?")
            }
            _ => None,
        },
        ast::SetExpr::Values(_) => Some(("column1".to_owned(), 2)),
        ast::SetExpr::Query(q) => subquery_name(q),
        _ => None,
    }
}

/// The last word of a type's internal name.
fn type_word(data_type: &ast::DataType) -> Option<String> {
    use ast::DataType as T;
    Some(
        match data_type {
            T::Custom(name, _) => return name.0.last()?.as_ident().map(|i| i.value.clone()),
            T::Int(_) | T::Integer(_) | T::Int4(_) => "int4",
            T::BigInt(_) | T::Int8(_) => "int8",
            T::SmallInt(_) | T::Int2(_) => "int2",
            T::Boolean | T::Bool => "bool",
            T::Real | T::Float4 => "float4",
            T::Double(_) | T::DoublePrecision | T::Float8 => "float8",
            T::Float(_) => "float8",
            T::Numeric(_) | T::Decimal(_) | T::Dec(_) => "numeric",
            T::Text => "text",
            T::Varchar(_) | T::CharacterVarying(_) | T::CharVarying(_) => "varchar",
            T::Char(_) | T::Character(_) => "bpchar",
            T::Date => "date",
            T::Timestamp(_, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => {
                "timestamptz"
            }
            T::Timestamp(..) => "timestamp",
            T::Time(_, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => "timetz",
            T::Time(..) => "time",
            T::Interval { .. } => "interval",
            T::Uuid => "uuid",
            T::JSON => "json",
            T::JSONB => "jsonb",
            T::Bytea => "bytea",
            T::Regclass => "regclass",
            T::Bit(_) => "bit",
            T::BitVarying(_) | T::VarBit(_) => "varbit",
            T::Array(
                ast::ArrayElemTypeDef::SquareBracket(inner, _)
                | ast::ArrayElemTypeDef::AngleBracket(inner)
                | ast::ArrayElemTypeDef::Parenthesis(inner),
            ) => return type_word(inner),
            other => return Some(other.to_string().to_ascii_lowercase()),
        }
        .to_owned(),
    )
}
