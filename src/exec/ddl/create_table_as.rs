//! CREATE TABLE AS.

use meridian_sql::ddl::{AsQuery, CreateTableAs};
use meridian_sql::optimise::optimise;
use meridian_types::{Datum, PgError, PgType, Result, SqlState, oid};

use super::DdlContext;
use super::create_table::{add_hidden_key, empty_table, plain_column};
use crate::codecs::Table;
use crate::error::ExecError;

impl DdlContext<'_> {
    /// The answer is the command tag with the number of rows.
    pub(super) async fn create_table_as(
        &mut self,
        create: &CreateTableAs,
    ) -> Result<String, ExecError> {
        let query = match (&create.query, self.execute.take()) {
            (AsQuery::Query(query), _) => optimise(self.bind_ast(query, &self.source())?),
            (AsQuery::Execute(..), Some(query)) => *query,
            (AsQuery::Execute(..), None) => {
                return Err(PgError::internal("the session looks up what is executed").into());
            }
        };
        let schema = self.creation_schema(&create.name, create.temp).await?;
        if !self.claim_name(schema, &create.name.name, create.if_not_exists).await? {
            return Ok("CREATE TABLE AS".to_owned());
        }
        if create.columns.len() > query.output.len() {
            let text = "too many column names were specified";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text).into());
        }
        let oid = self.oids(3).await?;
        let (database, user) = (self.identity.database, self.identity.user);
        let mut table = empty_table(oid, database, schema, &create.name.name, user);
        table.temp_session = self.temp_session(schema);
        table.unlogged = create.unlogged;
        for (i, column) in query.output.iter().enumerate() {
            let name = create.columns.get(i).map_or(&*column.name, String::as_str);
            if table.columns.iter().any(|c| c.name == name) {
                let text = format!("column \"{name}\" specified more than once");
                return Err(PgError::new(SqlState::DUPLICATE_COLUMN, text).into());
            }
            let ty = if column.ty.oid == oid::UNKNOWN { PgType::new(oid::TEXT) } else { column.ty };
            if matches!(ty.oid, oid::RECORD | oid::VOID) {
                let kind = meridian_types::builtin::type_name(ty.oid);
                let text = format!("column \"{name}\" has pseudo-type {kind}");
                return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, text).into());
            }
            let attnum = i16::try_from(table.columns.len() + 1).unwrap_or(i16::MAX);
            table.columns.push(plain_column(attnum, name, ty));
            table.columns_added.push(table.schema_version);
        }
        add_hidden_key(&mut table);
        let table = self.put_table(table);
        if !create.with_data {
            return Ok("CREATE TABLE AS".to_owned());
        }
        let codecs = Table::new(&table)?;
        let mut rows = self.run_planned(query).await?;
        let mut count = 0_i64;
        while let Some(batch) = rows.next(self.txn).await? {
            for mut values in batch {
                count += 1;
                values.push(Datum::Int8(count));
                let key = codecs.codec.row_key(&values)?;
                let value = codecs.codec.encode(&values)?;
                self.txn.put(key.into(), value.into());
            }
        }
        Ok(format!("SELECT {count}"))
    }
}
