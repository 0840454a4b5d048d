//! COPY: rows of a table or query to the client or a file of the server, and such data into a table.

mod binary;
mod file;
mod from;
mod lines;
mod options;
mod to;

use std::sync::Arc;

use meridian_catalog::{ColumnDesc, Relation, TableDesc};
use meridian_sql::ast;
use meridian_sql::bind::{Binder, Clause};
use meridian_sql::expr::{ColumnId, Expr};
use meridian_sql::parse::Source;
use meridian_sql::parse::statement::{Copy, CopySource, CopyTarget};
use meridian_types::{PgError, Result, SqlState};

use crate::Fault;
use crate::client::Client;
use crate::session::Session;
use crate::statements::PreparedStatement;
use file::FileClient;
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
        if let CopyTarget::File(path) = &copy.target {
            self.check_file(copy.to)?;
            let mut file = FileClient::open(path, copy.to)?;
            let tag = self.copy_rows_of(outer, copy, &options, &mut file).await?;
            file.finish()?;
            return Ok(tag);
        }
        self.copy_rows_of(outer, copy, &options, client).await
    }

    /// Reading or writing the server's files takes a superuser or a member of a role for that.
    fn check_file(&mut self, write: bool) -> Result<()> {
        let role = if write { "pg_write_server_files" } else { "pg_read_server_files" };
        let user = self.shared.identity().user;
        let catalog = self.catalog();
        let member = catalog.role_by_name(role).is_some_and(|r| catalog.is_member(user, r.oid));
        if member || self.shared.is_superuser() {
            return Ok(());
        }
        let to = if write { "to" } else { "from" };
        let text =
            format!("must be superuser or have privileges of the {role} role to COPY {to} a file");
        Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text).hint(
            "Anyone can COPY to stdout or from stdin. psql's \\copy command also works for anyone.",
        ))
    }

    async fn copy_rows_of<C: Client>(
        &mut self,
        outer: &PreparedStatement,
        copy: &Copy,
        options: &Options,
        client: &mut C,
    ) -> Result<String, Fault> {
        self.pin_cursors().await?;
        if copy.to {
            return self.copy_to(outer, &copy.source, options, client).await;
        }
        match &copy.source {
            CopySource::Table(name, columns) => {
                let table = self.copy_table(name)?;
                let columns = copied_columns(&table, columns)?;
                let filter = match &copy.filter {
                    Some(e) => Some(self.copy_filter(outer, &table, e)?),
                    None => None,
                };
                self.copy_from(&table, &columns, filter, options, client).await
            }
            CopySource::Query(_) => {
                Err(PgError::new(SqlState::SYNTAX_ERROR, "COPY query is for TO only").into())
            }
        }
    }

    /// WHERE, with the ids by which it reads the table's columns.
    fn copy_filter(
        &mut self,
        outer: &PreparedStatement,
        table: &TableDesc,
        e: &ast::Expr,
    ) -> Result<Filter> {
        let (view, eval) = (self.view(), self.eval());
        let source = Source { text: Arc::clone(&outer.text), visible: true };
        let mut binder = Binder::new(&*view, &eval, &source, &[], false);
        let ids = binder.row_ids(table);
        Ok((binder.bind_row_condition(table, &ids, e, Clause::CopyWhere)?, ids))
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

/// A condition over a table's row, and the ids of the row's columns.
type Filter = (Expr, Vec<ColumnId>);

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
