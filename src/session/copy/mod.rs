//! COPY: rows of a table or query to the client or a file, and data from there into a table.

mod binary;
mod file;
mod from;
mod lines;
mod options;
mod to;

use std::sync::Arc;

use meridian_catalog::{ColumnDesc, Relation, TableDesc};
use meridian_sql::ast;
use meridian_sql::parse::statement::{Copy, CopySource, CopyTarget};
use meridian_types::{PgError, Result, SqlState};

use crate::Fault;
use crate::client::Client;
use crate::session::Session;
use crate::statements::PreparedStatement;
use options::{Given, Options};

impl Session {
    /// COPY: the command tag.
    pub(crate) async fn copy<C: Client>(
        &mut self,
        outer: &PreparedStatement,
        copy: &Copy,
        client: &mut C,
    ) -> Result<String, Fault> {
        if let CopyTarget::Program(_) = &copy.target {
            let what = "COPY to or from an external program is not supported";
            return Err(PgError::unsupported(what).into());
        }
        let given: Vec<Given> = copy
            .options
            .iter()
            .map(|(name, values)| Given { name: name.clone(), values: values.clone() })
            .collect();
        let options = Options::check(&given, !copy.to)?;
        if copy.filter.is_some() {
            return Err(PgError::unsupported("COPY FROM with WHERE is not supported yet").into());
        }
        if let CopyTarget::File(path) = &copy.target {
            return self.copy_file(outer, copy, path, &options, client).await;
        }
        if copy.to {
            return self.copy_to(outer, &copy.source, &options, client).await;
        }
        match &copy.source {
            CopySource::Table(name, columns) => {
                self.copy_into(name, columns, &options, client).await
            }
            CopySource::Query(_) => Err(query_is_for_to().into()),
        }
    }

    /// Copies into a table by its name.
    async fn copy_into<C: Client>(
        &mut self,
        name: &ast::ObjectName,
        columns: &[ast::Ident],
        options: &Options,
        client: &mut C,
    ) -> std::result::Result<String, Fault> {
        let table = self.copy_table(name)?;
        let columns = copied_columns(&table, columns)?;
        self.copy_from(&table, &columns, options, client).await
    }

    /// The table that a name stands for.
    fn copy_table(&mut self, name: &ast::ObjectName) -> Result<Arc<TableDesc>> {
        let view = self.view();
        let (schema, name) = split_name(name)?;
        match view.catalog.lookup(&view.path, schema.as_deref(), &name) {
            Some(Relation::Table(table)) => Ok(table),
            Some(Relation::View(_)) => Err(wrong_kind(format!("cannot copy to view \"{name}\""))),
            Some(Relation::Sequence(_)) => {
                Err(wrong_kind(format!("cannot copy to sequence \"{name}\"")))
            }
            Some(_) => Err(wrong_kind(format!("cannot copy to non-table relation \"{name}\""))),
            None => {
                let shown = schema.map_or_else(|| name.clone(), |s| format!("{s}.{name}"));
                Err(PgError::new(
                    SqlState::UNDEFINED_TABLE,
                    format!("relation \"{shown}\" does not exist"),
                ))
            }
        }
    }
}

fn query_is_for_to() -> PgError {
    PgError::new(SqlState::SYNTAX_ERROR, "COPY query is for TO only")
}

fn wrong_kind(message: String) -> PgError {
    PgError::new(SqlState::WRONG_OBJECT_TYPE, message)
}

/// Schema and name of a qualified name.
pub(crate) fn split_name(name: &ast::ObjectName) -> Result<(Option<String>, String)> {
    let parts: Vec<String> =
        name.0.iter().filter_map(|p| p.as_ident().map(|i| i.value.clone())).collect();
    match parts.as_slice() {
        [name] => Ok((None, name.clone())),
        [schema, name] | [_, schema, name] => Ok((Some(schema.clone()), name.clone())),
        _ => Err(PgError::new(SqlState::SYNTAX_ERROR, "improper qualified name")),
    }
}

/// The columns that COPY reads or writes: those named, or all but generated ones.
pub(crate) fn copied_columns(table: &TableDesc, named: &[ast::Ident]) -> Result<Vec<ColumnDesc>> {
    if named.is_empty() {
        return Ok(table.visible_columns().filter(|c| !c.generated).cloned().collect());
    }
    let mut columns: Vec<ColumnDesc> = Vec::with_capacity(named.len());
    for name in named {
        let column = table.column_by_name(&name.value).ok_or_else(|| {
            PgError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{}\" of relation \"{}\" does not exist", name.value, table.name),
            )
        })?;
        if column.generated {
            return Err(PgError::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!("column \"{}\" is a generated column", name.value),
            )
            .detail("Generated columns cannot be used in COPY."));
        }
        if columns.iter().any(|c| c.attnum == column.attnum) {
            return Err(PgError::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", name.value),
            ));
        }
        columns.push(column.clone());
    }
    Ok(columns)
}
