//! Column references: which column of which query level a name means.
//!
//! The innermost level that knows the name wins. A name that no column has may be a table's: the
//! whole row. What is not found is answered with PostgreSQL's hints: the nearest name by edit
//! distance, or the table that exists but cannot be seen from here.

use meridian_types::oid;
use meridian_types::shape;
use meridian_types::{PgError, PgType, Result, SqlState};

use super::{Binder, ColumnUse, Scope, ScopeColumn, ScopeItem};
use crate::ast;
use crate::ast::Ident;
use crate::expr::{Expr, ExprKind};

/// A name further away than this is no suggestion.
const MAX_DISTANCE: usize = 3;

impl Binder<'_> {
    pub(super) fn bind_name(&mut self, parts: &[Ident]) -> Result<Expr> {
        let position = parts.first().and_then(|p| self.source.position(p.span.start));
        match parts {
            [name] => self.bind_column(&name.value, position),
            [table, name] => self.bind_qualified(None, &table.value, &name.value, position),
            [schema, table, name] => {
                self.bind_qualified(Some(&schema.value), &table.value, &name.value, position)
            }
            [database, schema, table, name] => {
                if database.value != self.catalog.database() {
                    let text: Vec<&str> = parts.iter().map(|p| p.value.as_str()).collect();
                    let text = format!(
                        "cross-database references are not implemented: {}",
                        text.join(".")
                    );
                    return Err(PgError::unsupported(text).at(position));
                }
                self.bind_qualified(Some(&schema.value), &table.value, &name.value, position)
            }
            _ => {
                let text: Vec<&str> = parts.iter().map(|p| p.value.as_str()).collect();
                let text =
                    format!("improper qualified name (too many dotted names): {}", text.join("."));
                Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position))
            }
        }
    }

    fn bind_column(&mut self, name: &str, position: Option<u32>) -> Result<Expr> {
        for level in (0..self.scopes.len()).rev() {
            if let Some((item, column)) = find_column(&self.scopes[level], name, position)? {
                return self.use_of(level, item, column, position);
            }
        }
        for level in (0..self.scopes.len()).rev() {
            if let Some(item) = find_table(&self.scopes[level], None, name, position)? {
                return Ok(self.whole_row(level, item, position));
            }
        }
        let text = format!("column \"{name}\" does not exist");
        let error = PgError::new(SqlState::UNDEFINED_COLUMN, text).at(position);
        Err(self.suggest(error, None, name))
    }

    fn bind_qualified(
        &mut self,
        schema: Option<&str>,
        table: &str,
        name: &str,
        position: Option<u32>,
    ) -> Result<Expr> {
        for level in (0..self.scopes.len()).rev() {
            let Some(item) = find_table(&self.scopes[level], schema, table, position)? else {
                continue;
            };
            let columns = &self.scopes[level].items[item].columns;
            let mut matches = (0..columns.len()).filter(|&c| *columns[c].name == *name);
            let Some(column) = matches.next() else {
                let text = format!("column {table}.{name} does not exist");
                let error = PgError::new(SqlState::UNDEFINED_COLUMN, text).at(position);
                return Err(self.suggest(error, Some(table), name));
            };
            if matches.next().is_some() {
                return Err(ambiguous(name, position));
            }
            return self.use_of(level, item, column, position);
        }
        Err(self.missing_table(schema, table, position))
    }

    /// `missing FROM-clause entry for table "x"`, or why an entry cannot be used.
    pub(crate) fn missing_table(
        &self,
        schema: Option<&str>,
        table: &str,
        position: Option<u32>,
    ) -> PgError {
        let items = || self.scopes.iter().rev().flat_map(|s| &s.items);
        let named = items().any(|i| i.alias.as_deref() == Some(table));
        let invalid = || {
            let text = format!("invalid reference to FROM-clause entry for table \"{table}\"");
            PgError::new(SqlState::UNDEFINED_TABLE, text).at(position)
        };
        if named && schema.is_none() {
            return invalid().hint(format!(
                "There is an entry for table \"{table}\", but it cannot be referenced from this \
                 part of the query."
            ));
        }
        // The table is there, under an alias.
        let relation = self.catalog.relation(schema, table);
        if let Some(meridian_catalog::Relation::Table(t)) = relation {
            let aliased = items().find(|i| {
                i.row_type != 0 && i.row_type == t.row_type && i.alias.as_deref() != Some(table)
            });
            if let Some(alias) = aliased.and_then(|i| i.alias.as_deref()) {
                return invalid()
                    .hint(format!("Perhaps you meant to reference the table alias \"{alias}\"."));
            }
        }
        let text = format!("missing FROM-clause entry for table \"{table}\"");
        PgError::new(SqlState::UNDEFINED_TABLE, text).at(position)
    }

    fn use_of(
        &mut self,
        level: usize,
        item: usize,
        column: usize,
        position: Option<u32>,
    ) -> Result<Expr> {
        let entry = &self.scopes[level].items[item];
        let column = entry.columns[column].clone();
        let display = match &entry.alias {
            Some(alias) => format!("{alias}.{}", column.name),
            None => column.name.to_string(),
        };
        self.note_use(level, &column, display, position);
        Ok(column.expr)
    }

    fn note_use(
        &mut self,
        level: usize,
        column: &ScopeColumn,
        display: String,
        position: Option<u32>,
    ) {
        self.aggregates.level = self.aggregates.level.max(Some(level));
        for id in crate::walk::expr_columns(&column.expr) {
            let display = display.clone();
            self.scopes[level].uses.push(ColumnUse { id, display, position });
            if level + 1 < self.scopes.len() {
                self.outer_log.push((level, id));
            }
        }
    }

    /// `t.*` where one value is wanted.
    pub(crate) fn bind_whole_row(&mut self, name: &ast::ObjectName) -> Result<Expr> {
        let parts: Vec<&ast::Ident> = name.0.iter().filter_map(|p| p.as_ident()).collect();
        let (schema, table) = match parts.as_slice() {
            [table] => (None, *table),
            [.., schema, table] => (Some(schema.value.as_str()), *table),
            [] => return Err(PgError::internal("a name without parts")),
        };
        let position = self.source.position(parts[0].span.start);
        for level in (0..self.scopes.len()).rev() {
            let scope = &self.scopes[level];
            if let Some(item) = find_table(scope, schema, &table.value, position)? {
                return Ok(self.whole_row(level, item, position));
            }
        }
        let text = format!("missing FROM-clause entry for table \"{}\"", table.value);
        Err(PgError::new(SqlState::UNDEFINED_TABLE, text).at(position))
    }

    /// The row of an item as one value; of a function that returns a scalar, that scalar.
    pub(crate) fn whole_row(&mut self, level: usize, item: usize, position: Option<u32>) -> Expr {
        let entry: ScopeItem = self.scopes[level].items[item].clone();
        let alias = entry.alias.as_deref().unwrap_or("");
        let mut fields = Vec::with_capacity(entry.columns.len());
        for column in entry.columns.iter().filter(|c| !c.system) {
            self.note_use(level, column, format!("{alias}.*"), position);
            fields.push(column.expr.clone());
        }
        if entry.scalar_function && fields.len() == 1 {
            return fields.remove(0);
        }
        let names = entry.columns.iter().filter(|c| !c.system).map(|c| c.name.clone());
        let shape = shape::typmod(names.zip(fields.iter().map(|f| f.ty)).collect());
        let ty = if entry.row_type == 0 { oid::RECORD } else { entry.row_type };
        let row = Expr { kind: ExprKind::Row(fields), ty: PgType::with_typmod(ty, shape) };
        self.padded_row(level, &entry, row)
    }

    /// Adds the hint about the nearest column names.
    fn suggest(&self, error: PgError, table: Option<&str>, name: &str) -> PgError {
        let mut best = MAX_DISTANCE + 1;
        let mut found: Vec<String> = Vec::new();
        for item in self.scopes.iter().rev().flat_map(|s| &s.items) {
            let Some(alias) = item.alias.as_deref() else { continue };
            let penalty = table.map_or(0, |t| distance(t, alias));
            for column in item.columns.iter().filter(|c| !c.system) {
                let d = distance(name, &column.name);
                if d > name.chars().count() / 2 || d + penalty > best {
                    continue;
                }
                if d + penalty < best {
                    found.clear();
                    best = d + penalty;
                }
                found.push(format!("\"{alias}.{}\"", column.name));
            }
        }
        if best > MAX_DISTANCE {
            return error;
        }
        match found.as_slice() {
            [one] => error.hint(format!("Perhaps you meant to reference the column {one}.")),
            [one, two] => error.hint(format!(
                "Perhaps you meant to reference the column {one} or the column {two}."
            )),
            _ => error,
        }
    }
}

fn ambiguous(name: &str, position: Option<u32>) -> PgError {
    let text = format!("column reference \"{name}\" is ambiguous");
    PgError::new(SqlState::AMBIGUOUS_COLUMN, text).at(position)
}

/// An item that can be named but not from under this join.
fn check_lateral(item: &ScopeItem, position: Option<u32>) -> Result<()> {
    if !item.lateral_only || item.lateral_ok {
        return Ok(());
    }
    let table = item.alias.as_deref().unwrap_or("");
    let text = format!("invalid reference to FROM-clause entry for table \"{table}\"");
    Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, text)
        .detail("The combining JOIN type must be INNER or LEFT for a LATERAL reference.")
        .at(position))
}

/// The column that an unqualified name means in a level.
fn find_column(scope: &Scope, name: &str, position: Option<u32>) -> Result<Option<(usize, usize)>> {
    let mut found = None;
    for (i, item) in scope.items.iter().enumerate() {
        if !item.columns_visible || (item.lateral_only && !scope.lateral) {
            continue;
        }
        for (c, column) in item.columns.iter().enumerate() {
            if *column.name != *name {
                continue;
            }
            if found.is_some() {
                return Err(ambiguous(name, position));
            }
            check_lateral(item, position)?;
            found = Some((i, c));
        }
    }
    Ok(found)
}

/// The item that a table name means in a level.
fn find_table(
    scope: &Scope,
    schema: Option<&str>,
    name: &str,
    position: Option<u32>,
) -> Result<Option<usize>> {
    let mut found = None;
    for (i, item) in scope.items.iter().enumerate() {
        let visible = item.table_visible
            && (!item.lateral_only || scope.lateral)
            && item.alias.as_deref() == Some(name)
            && schema.is_none_or(|s| item.schema.as_deref() == Some(s));
        if !visible {
            continue;
        }
        if found.is_some() {
            let text = format!("table reference \"{name}\" is ambiguous");
            return Err(PgError::new(SqlState::AMBIGUOUS_ALIAS, text).at(position));
        }
        check_lateral(item, position)?;
        found = Some(i);
    }
    Ok(found)
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
