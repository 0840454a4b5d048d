//! The texts of constraint violations.

use meridian_catalog::{Catalog, IndexDesc, TableDesc};
use meridian_types::{Datum, EvalContext, PgError, SqlState};

use crate::io;

/// Characters of a value shown in a DETAIL, as in PostgreSQL.
const SHOWN_CHARS_MAX: usize = 64;

fn schema_name(table: &TableDesc, catalog: &Catalog) -> String {
    catalog.schema(table.schema).map_or_else(String::new, |s| s.name.clone())
}

/// `Failing row contains (1, null).`
pub(crate) fn failing_row(table: &TableDesc, row: &[Datum], ctx: &EvalContext) -> String {
    let mut out = String::from("Failing row contains (");
    let mut first = true;
    for (column, value) in table.columns.iter().zip(row) {
        if column.dropped || column.hidden {
            continue;
        }
        if !first {
            out.push_str(", ");
        }
        first = false;
        if value.is_null() {
            out.push_str("null");
            continue;
        }
        let text = io::text_out(value, column.ty, ctx).unwrap_or_default();
        match text.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((at, _)) => {
                out.push_str(&text[..at]);
                out.push_str("...");
            }
            None => out.push_str(&text),
        }
    }
    out.push_str(").");
    out
}

/// `(a, b)=(1, 2)` of these columns.
pub(crate) fn key_text(
    table: &TableDesc,
    attnums: &[i16],
    values: &[Datum],
    ctx: &EvalContext,
) -> String {
    let columns: Vec<_> = attnums.iter().filter_map(|a| table.column(*a)).collect();
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    let texts: Vec<String> = columns
        .iter()
        .zip(values)
        .map(|(c, v)| match v {
            Datum::Null => "null".to_owned(),
            v => io::text_out(v, c.ty, ctx).unwrap_or_default(),
        })
        .collect();
    format!("({})=({})", names.join(", "), texts.join(", "))
}

/// 23502
pub(crate) fn not_null(
    table: &TableDesc,
    column: usize,
    row: &[Datum],
    catalog: &Catalog,
    ctx: &EvalContext,
) -> PgError {
    let name = &table.columns[column].name;
    PgError::new(
        SqlState::NOT_NULL_VIOLATION,
        format!(
            "null value in column \"{name}\" of relation \"{}\" violates not-null constraint",
            table.name
        ),
    )
    .detail(failing_row(table, row, ctx))
    .column(&schema_name(table, catalog), &table.name, name)
}

/// 23514
pub(crate) fn check(
    table: &TableDesc,
    constraint: &str,
    row: &[Datum],
    catalog: &Catalog,
    ctx: &EvalContext,
) -> PgError {
    PgError::new(
        SqlState::CHECK_VIOLATION,
        format!(
            "new row for relation \"{}\" violates check constraint \"{constraint}\"",
            table.name
        ),
    )
    .detail(failing_row(table, row, ctx))
    .constraint(&schema_name(table, catalog), &table.name, constraint)
}

/// 23505
pub(crate) fn unique(
    table: &TableDesc,
    index: &IndexDesc,
    values: &[Datum],
    catalog: &Catalog,
    ctx: &EvalContext,
) -> PgError {
    let mut names = vec![];
    let mut texts = vec![];
    for (key, value) in index.columns.iter().zip(values) {
        let column = key.attnum.and_then(|a| table.column(a)).map(|c| c.name.clone());
        names.push(column.or_else(|| key.expr.clone()).unwrap_or_default());
        texts.push(match value {
            Datum::Null => "null".to_owned(),
            value => io::text_out(value, key.ty, ctx).unwrap_or_default(),
        });
    }
    let key = format!("({})=({})", names.join(", "), texts.join(", "));
    PgError::new(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{}\"", index.name),
    )
    .detail(format!("Key {key} already exists."))
    .constraint(&schema_name(table, catalog), &table.name, &index.name)
}

/// 23503 on the referencing side.
pub(crate) fn missing_parent(
    child: &TableDesc,
    constraint: &str,
    parent: &str,
    key: &str,
    catalog: &Catalog,
) -> PgError {
    foreign_error(child, constraint, catalog)
        .detail(format!("Key {key} is not present in table \"{parent}\"."))
}

/// 23503 without a detail.
pub(crate) fn foreign_error(child: &TableDesc, constraint: &str, catalog: &Catalog) -> PgError {
    PgError::new(
        SqlState::FOREIGN_KEY_VIOLATION,
        format!(
            "insert or update on table \"{}\" violates foreign key constraint \"{constraint}\"",
            child.name
        ),
    )
    .constraint(&schema_name(child, catalog), &child.name, constraint)
}

/// 23503 on the referenced side.
pub(crate) fn still_referenced(
    parent: &TableDesc,
    child: &TableDesc,
    constraint: &str,
    key: &str,
    catalog: &Catalog,
) -> PgError {
    PgError::new(
        SqlState::FOREIGN_KEY_VIOLATION,
        format!(
            "update or delete on table \"{}\" violates foreign key constraint \"{constraint}\" \
             on table \"{}\"",
            parent.name, child.name
        ),
    )
    .detail(format!("Key {key} is still referenced from table \"{}\".", child.name))
    .constraint(&schema_name(child, catalog), &child.name, constraint)
}
