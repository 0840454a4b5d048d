//! Rules of a table that a statement did not bind: those of the child of a foreign key's action.
//!
//! `ON DELETE SET NULL` and its kin write rows of a table that the statement need not name. Its checks,
//! generated columns and defaults are bound here, from the texts in its descriptor.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_catalog::{ConstraintKind, FkAction};
use meridian_sql::bind::{Binder, CatalogView};
use meridian_sql::expr::ColumnId;
use meridian_sql::parse::Source;
use meridian_types::Result;

use super::table::TableWriter;
use crate::catalog_store::SessionCatalog;
use crate::codecs::Table;
use crate::context::StatementContext;
use crate::expr::{Eval, Flat, compile};

/// A writer for rows of the child, and the defaults of these columns for SET DEFAULT.
pub(super) fn writer(
    child: &Arc<Table>,
    action: FkAction,
    columns: &[i16],
    ctx: &StatementContext,
) -> Result<(TableWriter, Vec<Eval>)> {
    let desc = &child.desc;
    let ruled = desc.columns.iter().any(|c| c.generated && !c.dropped)
        || desc.constraints.iter().any(|c| matches!(c.kind, ConstraintKind::Check { .. }));
    if !ruled && action != FkAction::SetDefault {
        return Ok((TableWriter::new(child.clone(), vec![], vec![], &ctx.catalog)?, vec![]));
    }
    let view = SessionCatalog::new(ctx.catalog.clone(), ctx.session.identity());
    let source = Source::default();
    let mut binder = Binder::new(&view as &dyn CatalogView, &ctx.eval, &source, &[], false);
    let ids = binder.row_ids(desc);
    let map: HashMap<ColumnId, usize> = ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let (checks, generated) = binder.bind_row_rules(desc, &ids)?;
    let mut compiled_checks = vec![];
    for (name, condition) in checks {
        compiled_checks.push((name, compile(&condition, &mut Flat(&map))?));
    }
    let mut compiled_generated = vec![];
    for (attnum, value) in generated {
        compiled_generated.push((attnum, compile(&value, &mut Flat(&map))?));
    }
    let mut defaults = vec![];
    if action == FkAction::SetDefault {
        for column in columns.iter().filter_map(|a| desc.column(*a)) {
            defaults.push(compile(&binder.default_value(column)?, &mut Flat(&map))?);
        }
    }
    let writer =
        TableWriter::new(child.clone(), compiled_checks, compiled_generated, &ctx.catalog)?;
    Ok((writer, defaults))
}
