//! CREATE INDEX.

use meridian_catalog::{IndexColumn, IndexDesc, IndexState, TableDesc};
use meridian_cluster::TableLockMode;
use meridian_sql::bind::Clause;
use meridian_sql::ddl::{CreateIndex, IndexElement};
use meridian_sql::expr::ExprKind;
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, PgType, SqlState, builtin};

use super::DdlContext;
use super::names::{choose_name, columns_part, undefined_column};
use crate::error::ExecError;

/// Most columns of an index, as in PostgreSQL.
const INDEX_COLUMNS_MAX: usize = 32;

/// 42704 unless values of the type have an order.
pub(crate) fn check_indexable(ty: Oid, method: &str) -> Result<(), PgError> {
    let unordered = matches!(ty, oid::JSON | oid::XML | oid::XID | oid::CID)
        || matches!(
            builtin::type_name(ty),
            "point" | "line" | "lseg" | "box" | "path" | "polygon" | "circle"
        );
    if !unordered {
        return Ok(());
    }
    let name = builtin::format_type(ty, -1);
    let text =
        format!("data type {name} has no default operator class for access method \"{method}\"");
    let hint = "You must specify an operator class for the index or define a default operator \
                class for the data type.";
    Err(PgError::new(SqlState::UNDEFINED_OBJECT, text).hint(hint))
}

impl DdlContext<'_> {
    pub(super) async fn create_index(
        &mut self,
        create: &CreateIndex,
    ) -> Result<&'static str, ExecError> {
        if create.concurrently && self.in_block {
            let text = "CREATE INDEX CONCURRENTLY cannot run inside a transaction block";
            return Err(PgError::new(SqlState::ACTIVE_SQL_TRANSACTION, text).into());
        }
        let Some(table) =
            self.locked_table(&create.table, false, TableLockMode::AccessExclusive).await?
        else {
            return Ok("CREATE INDEX");
        };
        let mut table = TableDesc::clone(&table);
        match create.method.as_str() {
            "btree" | "hash" => {}
            "gin" | "gist" | "spgist" | "brin" => {
                let text = format!("access method \"{}\" is not supported yet", create.method);
                return Err(PgError::unsupported(text).into());
            }
            other => {
                let text = format!("access method \"{other}\" does not exist");
                return Err(PgError::new(SqlState::UNDEFINED_OBJECT, text).into());
            }
        }
        if create.columns.len() + create.include.len() > INDEX_COLUMNS_MAX {
            let text = format!("cannot use more than {INDEX_COLUMNS_MAX} columns in an index");
            return Err(PgError::new(SqlState::TOO_MANY_COLUMNS, text).into());
        }
        let mut parts = Vec::new();
        let mut columns = Vec::new();
        for element in &create.columns {
            let (part, column) = self.index_column(&table, element, &create.method)?;
            parts.push(unique_part(part, &parts));
            columns.push(column);
        }
        let name = match &create.name {
            Some(name) => {
                if !self.claim_name(table.schema, name, create.if_not_exists).await? {
                    return Ok("CREATE INDEX");
                }
                name.clone()
            }
            None => choose_name(
                &table.name,
                &columns_part(parts.iter().map(String::as_str)),
                "idx",
                |n| self.name_taken(table.schema, &table, n),
            ),
        };
        let include = create.include.iter().map(|name| {
            let column = table.column_by_name(name);
            column.map(|c| c.attnum).ok_or_else(|| undefined_column(&table.name, name))
        });
        let include: Result<Vec<i16>, PgError> = include.collect();
        let predicate = match &create.predicate {
            Some(expr) => {
                let bound = self
                    .bind_over(&table, expr, |b, e| b.bind_condition(e, Clause::IndexPredicate))?;
                Some(bound.text)
            }
            None => None,
        };
        let index_id = table.next_index_id;
        table.next_index_id += 1;
        table.indexes.push(IndexDesc {
            oid: self.oids(1).await?,
            index_id,
            name,
            unique: create.unique,
            nulls_not_distinct: create.nulls_not_distinct,
            primary: false,
            method: create.method.clone(),
            columns,
            include: include?,
            predicate,
            state: IndexState::Public,
            comment: None,
        });
        let table = self.put_table(table);
        self.fill_index(&table, index_id).await?;
        Ok("CREATE INDEX")
    }

    fn index_column(
        &self,
        table: &TableDesc,
        element: &IndexElement,
        method: &str,
    ) -> Result<(String, IndexColumn), PgError> {
        let nulls_first = element.nulls_first.unwrap_or(element.desc);
        let (part, attnum, expr, ty) = match (&element.column, &element.expr) {
            (Some(name), _) => {
                let column = table.column_by_name(name).ok_or_else(|| {
                    let text = format!("column \"{name}\" does not exist");
                    PgError::new(SqlState::UNDEFINED_COLUMN, text)
                })?;
                (name.clone(), Some(column.attnum), None, column.ty)
            }
            (None, Some(expr)) => {
                let bound = self.bind_over(table, expr, |b, e| {
                    let bound = b.bind_expr(e, Clause::IndexExpression)?;
                    if meridian_sql::walk::is_volatile(&bound) {
                        return Err(PgError::new(
                            SqlState::INVALID_OBJECT_DEFINITION,
                            "functions in index expression must be marked IMMUTABLE",
                        ));
                    }
                    b.resolve_unknown(bound, None)
                })?;
                let part = match &bound.expr.kind {
                    ExprKind::Call { func, .. } if func.operator.is_none() => func.name.to_string(),
                    _ => "expr".to_owned(),
                };
                (part, None, Some(bound.text), PgType::new(bound.expr.ty.oid))
            }
            (None, None) => return Err(PgError::internal("an index column without anything")),
        };
        check_indexable(ty.oid, method)?;
        Ok((part, IndexColumn { attnum, expr, ty, desc: element.desc, nulls_first }))
    }
}

/// Two expressions of one index don't share a name: the second gets a number.
fn unique_part(part: String, others: &[String]) -> String {
    let mut name = part.clone();
    let mut n = 0;
    while others.contains(&name) {
        n += 1;
        name = format!("{part}{n}");
    }
    name
}
