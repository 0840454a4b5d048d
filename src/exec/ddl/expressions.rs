//! Expressions of the schema between their typed form and the text that is kept of them.
//!
//! What is kept is PostgreSQL's own way of writing the bound expression: everything is explicit, so
//! that the text means the same under any setting, and it is what the catalog shows. Names of
//! objects inside (`'t_a_seq'::regclass`) are kept as oids and written as names when shown, since
//! names may change.

use meridian_catalog::TableDesc;
use meridian_sql::bind::{Binder, CatalogView, Clause};
use meridian_sql::deparse::Deparser;
use meridian_sql::expr::{ColumnId, Expr};
use meridian_sql::parse::{Source, parse_expression};
use meridian_sql::resolve::CoercionContext;
use meridian_types::{EvalContext, PgType, oid};

use super::internal::{TableScope, enter_table};
use crate::catalog_store::{SessionCatalog, quote_ident};

fn column_name(table: &TableDesc, scope: &TableScope, id: ColumnId) -> String {
    let found = scope.columns.iter().find(|(c, _)| c.id == id);
    found.and_then(|(_, a)| table.column(*a)).map_or_else(String::new, |c| quote_ident(&c.name))
}

fn write(
    view: &SessionCatalog,
    table: &TableDesc,
    scope: &TableScope,
    eval: &EvalContext,
    pretty: bool,
    expr: &Expr,
) -> String {
    let column = |id: ColumnId| column_name(table, scope, id);
    let type_name = |ty: PgType| view.format_type(ty.oid, ty.typmod);
    let deparser = Deparser { column: &column, type_name: &type_name, eval, pretty };
    deparser.expr(expr)
}

/// What to keep of an expression that will be coerced to a column's type: it without the coercion,
/// except that an untyped literal gets the column's type, without its modifier.
pub(crate) fn uncoerced(binder: &mut Binder<'_>, expr: &Expr, ty: PgType) -> Option<Expr> {
    if expr.ty.oid != oid::UNKNOWN {
        return Some(expr.clone());
    }
    binder.coerce_to(expr.clone(), PgType::new(ty.oid), CoercionContext::Assignment, None).ok()
}

/// The text to keep of a bound expression; `None` when the text that was written has to serve:
/// what can't be read back to the same expression is not kept.
pub(crate) fn stored(
    view: &SessionCatalog,
    table: &TableDesc,
    scope: &TableScope,
    binder: &mut Binder<'_>,
    expr: &Expr,
) -> Option<String> {
    let eval = EvalContext::bare();
    let text = write(view, table, scope, &eval, false, expr);
    let parsed = parse_expression(&text).ok()?;
    let again = binder.bind_expr(&parsed, Clause::SelectTarget).ok()?;
    (write(view, table, scope, &eval, false, &again) == text).then_some(text)
}

/// A stored expression in the pretty form.
pub(crate) fn pretty(
    view: &SessionCatalog,
    table: &TableDesc,
    eval: &EvalContext,
    text: &str,
) -> Option<String> {
    let source = Source::default();
    let mut binder = Binder::new(view as &dyn CatalogView, eval, &source, &[], false);
    let scope = enter_table(&mut binder, table);
    let parsed = parse_expression(text).ok()?;
    let bound = binder.bind_expr(&parsed, Clause::SelectTarget).ok()?;
    let bound = binder.resolve_unknown(bound, None).ok()?;
    let column = |id: ColumnId| column_name(table, &scope, id);
    let type_name = |ty: PgType| view.format_type(ty.oid, ty.typmod);
    Some(Deparser { column: &column, type_name: &type_name, eval, pretty: true }.expr(&bound))
}
