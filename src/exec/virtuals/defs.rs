//! Definitions as SQL text: what `pg_get_indexdef` and its kin answer.

use std::sync::Arc;

use meridian_catalog::{
    ConstraintDesc, ConstraintKind, FkAction, IndexDesc, Relation, TableDesc, ViewDesc,
};
use meridian_types::builtin::{self, ProcRow};

use super::host::{CatalogHost, ExpressionSource};
use crate::catalog_store::{SessionCatalog, quote_ident};

/// The text of a view's query.
pub(crate) fn view_text(view: &ViewDesc) -> String {
    format!(" {};", view.query.trim())
}

fn column_name(table: &TableDesc, attnum: i16) -> String {
    table.column(attnum).map_or_else(String::new, |c| quote_ident(&c.name))
}

fn columns(table: &TableDesc, attnums: &[i16]) -> String {
    attnums.iter().map(|a| column_name(table, *a)).collect::<Vec<String>>().join(", ")
}

/// A call needs no parentheses as an index key, other expressions do.
pub(crate) fn key_expression(expr: &str) -> String {
    let name_len = expr.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'));
    let is_call = name_len.is_some_and(|at| at > 0 && expr[at..].starts_with('('))
        && expr.ends_with(')')
        && balanced_to_end(expr);
    if is_call { expr.to_owned() } else { format!("({expr})") }
}

/// The same in messages, where the expression's own parentheses are left out.
pub(crate) fn key_in_message(expr: &str) -> String {
    let inner = expr.strip_prefix('(').and_then(|e| e.strip_suffix(')'));
    key_expression(inner.filter(|_| balanced_to_end(expr)).unwrap_or(expr))
}

/// The first parenthesis closes at the very end.
fn balanced_to_end(expr: &str) -> bool {
    let mut depth = 0;
    for (at, c) in expr.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return at + 1 == expr.len();
        }
    }
    false
}

/// One key of an index, from 0; included columns come after the keys.
pub(crate) fn index_key(
    table: &TableDesc,
    index: &IndexDesc,
    at: usize,
    shown: impl Fn(&str) -> String,
) -> Option<String> {
    match index.columns.get(at) {
        Some(column) => Some(match column.attnum {
            Some(attnum) => column_name(table, attnum),
            None => key_expression(&shown(column.expr.as_deref().unwrap_or_default())),
        }),
        None => index.include.get(at - index.columns.len()).map(|a| column_name(table, *a)),
    }
}

/// `CREATE INDEX …`
pub(crate) fn index_text(
    view: &SessionCatalog,
    host: Option<&CatalogHost>,
    table: &Arc<TableDesc>,
    index: &IndexDesc,
    short: bool,
) -> String {
    let relation = Relation::Table(Arc::clone(table));
    let on = if short { view.relation_name(&relation) } else { view.qualified_name(&relation) };
    let unique = if index.unique { "UNIQUE " } else { "" };
    let source = ExpressionSource { view, host };
    let shown = |text: &str| source.shown(Some(table), text, short);
    let mut keys = Vec::new();
    for (at, column) in index.columns.iter().enumerate() {
        let mut key = index_key(table, index, at, shown).unwrap_or_default();
        if column.desc {
            key.push_str(" DESC");
        }
        match (column.desc, column.nulls_first) {
            (false, true) => key.push_str(" NULLS FIRST"),
            (true, false) => key.push_str(" NULLS LAST"),
            _ => {}
        }
        keys.push(key);
    }
    let mut out = format!(
        "CREATE {unique}INDEX {} ON {on} USING {} ({})",
        quote_ident(&index.name),
        index.method,
        keys.join(", ")
    );
    if !index.include.is_empty() {
        out.push_str(&format!(" INCLUDE ({})", columns(table, &index.include)));
    }
    if index.nulls_not_distinct {
        out.push_str(" NULLS NOT DISTINCT");
    }
    if let Some(predicate) = &index.predicate {
        let text = shown(predicate);
        out.push_str(&format!(" WHERE {text}"));
    }
    out
}

fn action(action: FkAction) -> &'static str {
    match action {
        FkAction::NoAction => "NO ACTION",
        FkAction::Restrict => "RESTRICT",
        FkAction::Cascade => "CASCADE",
        FkAction::SetNull => "SET NULL",
        FkAction::SetDefault => "SET DEFAULT",
    }
}

/// What follows `CONSTRAINT name`.
pub(crate) fn constraint_text(
    host: &CatalogHost,
    table: &TableDesc,
    constraint: &ConstraintDesc,
    short: bool,
) -> String {
    let view = &host.view;
    let mut out = match &constraint.kind {
        ConstraintKind::PrimaryKey { index_id } | ConstraintKind::Unique { index_id } => {
            let word = match constraint.kind {
                ConstraintKind::PrimaryKey { .. } => "PRIMARY KEY",
                _ => "UNIQUE",
            };
            let index = table.index(*index_id);
            let keys: Vec<i16> =
                index.into_iter().flat_map(|i| &i.columns).filter_map(|c| c.attnum).collect();
            let nulls = if index.is_some_and(|i| i.nulls_not_distinct) {
                " NULLS NOT DISTINCT"
            } else {
                ""
            };
            let include = index.map_or(&[][..], |i| &i.include);
            let mut text = format!("{word}{nulls} ({})", columns(table, &keys));
            if !include.is_empty() {
                text.push_str(&format!(" INCLUDE ({})", columns(table, include)));
            }
            text
        }
        ConstraintKind::Check { expr, no_inherit, .. } => {
            let tail = if *no_inherit { " NO INHERIT" } else { "" };
            format!("CHECK ({}){tail}", host.expression(Some(table), expr, short))
        }
        ConstraintKind::ForeignKey {
            columns: own,
            ref_table,
            ref_columns,
            on_delete,
            on_update,
            match_full,
            ..
        } => {
            let (target, theirs) = match view.catalog.table(*ref_table) {
                Some(target) => (
                    view.relation_name(&Relation::Table(Arc::clone(target))),
                    columns(target, ref_columns),
                ),
                None => (ref_table.to_string(), String::new()),
            };
            let own = columns(table, own);
            let mut text = format!("FOREIGN KEY ({own}) REFERENCES {target}({theirs})");
            if *match_full {
                text.push_str(" MATCH FULL");
            }
            if *on_update != FkAction::NoAction {
                text.push_str(&format!(" ON UPDATE {}", action(*on_update)));
            }
            if *on_delete != FkAction::NoAction {
                text.push_str(&format!(" ON DELETE {}", action(*on_delete)));
            }
            text
        }
    };
    if constraint.deferrable {
        out.push_str(" DEFERRABLE");
    }
    if constraint.deferred {
        out.push_str(" INITIALLY DEFERRED");
    }
    if !constraint.validated {
        out.push_str(" NOT VALID");
    }
    out
}

/// Arguments of a function as `pg_get_function_arguments` writes them; `identity`: only those that
/// tell it from others.
pub(crate) fn function_arguments(proc: &ProcRow, identity: bool) -> String {
    let types = proc.allargtypes.as_ref().unwrap_or(&proc.argtypes);
    let mut out = Vec::new();
    for (i, ty) in types.iter().enumerate() {
        let mode = proc.argmodes.as_ref().and_then(|m| m.get(i)).copied().unwrap_or('i');
        if mode == 't' || (identity && mode == 'o') {
            continue;
        }
        let mut part = String::new();
        part.push_str(match mode {
            'o' => "OUT ",
            'b' => "INOUT ",
            'v' => "VARIADIC ",
            _ => "",
        });
        let name = proc.argnames.as_ref().and_then(|n| n.get(i)).copied().unwrap_or_default();
        if !name.is_empty() {
            part.push_str(&format!("{} ", quote_ident(name)));
        }
        part.push_str(&builtin::format_type(*ty, -1));
        out.push(part);
    }
    out.join(", ")
}

/// `pg_get_function_result`
pub(crate) fn function_result(proc: &ProcRow) -> Option<String> {
    if proc.kind == 'p' {
        return None;
    }
    let table = proc.argmodes.as_ref().is_some_and(|m| m.contains(&'t'));
    if table {
        let types = proc.allargtypes.as_deref().unwrap_or_default();
        let modes = proc.argmodes.as_deref().unwrap_or_default();
        let names = proc.argnames.as_deref().unwrap_or_default();
        let columns = types.iter().zip(modes).zip(names).filter(|((_, m), _)| **m == 't');
        let columns: Vec<String> = columns
            .map(|((ty, _), name)| {
                format!("{} {}", quote_ident(name), builtin::format_type(*ty, -1))
            })
            .collect();
        return Some(format!("TABLE({})", columns.join(", ")));
    }
    let set = if proc.retset { "SETOF " } else { "" };
    Some(format!("{set}{}", builtin::format_type(proc.rettype, -1)))
}

#[cfg(test)]
mod tests {
    use super::key_expression;

    #[test]
    fn calls_stand_alone_as_index_keys() {
        assert_eq!(key_expression("lower(a)"), "lower(a)");
        assert_eq!(key_expression("a || b"), "(a || b)");
        assert_eq!(key_expression("f(a) + g(b)"), "(f(a) + g(b))");
    }
}
