//! Moving rows: a new index's entries, a table's rows in a new form, checks of existing rows.

use std::sync::Arc;

use meridian_catalog::{
    ColumnDesc, ConstraintDesc, ConstraintKind, IndexDesc, IndexState, TableDesc,
};
use meridian_cluster::{RunBuilder, Twice};
use meridian_types::{Datum, PgError, Result, SqlState};

use super::DdlContext;
use super::internal::Item;
use crate::catalog_store::quote_ident;
use crate::codecs::Table;
use crate::dml::RUN_BYTES;
use crate::error::ExecError;

/// What reads an index's key from a row.
fn index_items(index: &IndexDesc) -> Vec<Item> {
    let item = |c: &meridian_catalog::IndexColumn| match (c.attnum, &c.expr) {
        (Some(attnum), _) => Item::Column(attnum),
        (None, expr) => Item::Sql(expr.clone().unwrap_or_default(), Some(c.ty)),
    };
    index.columns.iter().map(item).collect()
}

/// A row of a filling query: the key of the table's row, and what the index computes of it.
fn key_and_values(row: &[Datum]) -> Result<(&[u8], &[Datum])> {
    match row.split_first() {
        Some((Datum::Bytea(key), values)) => Ok((key, values)),
        _ => Err(PgError::internal("a row without key")),
    }
}

/// `(a, b)` of an index, for messages.
pub(crate) fn key_names(table: &TableDesc, index: &IndexDesc) -> String {
    let names = index.columns.iter().map(|c| match c.attnum {
        Some(attnum) => table.column(attnum).map_or_else(String::new, |c| c.name.clone()),
        None => crate::virtuals::defs::key_in_message(c.expr.as_deref().unwrap_or_default()),
    });
    names.collect::<Vec<String>>().join(", ")
}

impl DdlContext<'_> {
    fn duplicate(&self, table: &TableDesc, index: &IndexDesc, values: &[Datum]) -> PgError {
        let text = |(value, column): (&Datum, &meridian_catalog::IndexColumn)| {
            if value.is_null() {
                return "null".to_owned();
            }
            crate::values::text_out(value, column.ty, &self.statement.eval).unwrap_or_default()
        };
        let shown: Vec<String> = values.iter().zip(&index.columns).map(text).collect();
        let schema = self.schema_of(table.schema).map(|s| s.name.clone()).unwrap_or_default();
        PgError::new(
            SqlState::UNIQUE_VIOLATION,
            format!("could not create unique index \"{}\"", index.name),
        )
        .detail(format!("Key ({})=({}) is duplicated.", key_names(table, index), shown.join(", ")))
        .constraint(&schema, &table.name, &index.name)
    }

    /// Writes the entries of a new index for all rows.
    pub(crate) async fn fill_index(
        &mut self,
        table: &Arc<TableDesc>,
        index_id: u16,
    ) -> Result<(), ExecError> {
        let Some(at) = table.indexes.iter().position(|i| i.index_id == index_id) else {
            return Err(PgError::internal("the index to fill is gone").into());
        };
        let index = &table.indexes[at];
        let codecs = Table::new(table)?;
        let mut items = vec![Item::Key];
        items.extend(index_items(index));
        let conditions: Vec<String> = index.predicate.iter().cloned().collect();
        // The scan must not use the index that is being filled.
        let mut without = TableDesc::clone(table);
        without.indexes.retain(|i| i.index_id != index_id);
        let query = self.table_query(&Arc::new(without), &items, &conditions)?;
        let codec = &codecs.indexes[at];
        let mut rows = self.run_query(query.clone()).await?;
        let mut builder = RunBuilder::default();
        let mut twice = None;
        while let (None, Some(batch)) = (&twice, rows.next(self.txn).await?) {
            for row in batch {
                let (row_key, values) = key_and_values(&row)?;
                let (key, value) = codec.entry(values, row_key)?;
                builder.push(&key, &value);
            }
            if builder.size() >= RUN_BYTES {
                twice = self.put_new(&mut builder).err();
            }
        }
        let Some(Twice { key: double, .. }) = twice.or_else(|| self.put_new(&mut builder).err())
        else {
            return Ok(());
        };
        // Which values those are, the rows tell.
        let mut rows = self.run_query(query).await?;
        while let Some(batch) = rows.next(self.txn).await? {
            for row in batch {
                let (row_key, values) = key_and_values(&row)?;
                if codec.entry(values, row_key)?.0 == double {
                    return Err(self.duplicate(table, index, values).into());
                }
            }
        }
        Err(PgError::internal("a duplicate of a unique index is gone").into())
    }

    /// Buffers rows under keys that nobody else can know yet. The error is one that comes twice.
    fn put_new(&mut self, builder: &mut RunBuilder) -> Result<(), Twice> {
        if builder.is_empty() {
            return Ok(());
        }
        let (run, _) = std::mem::take(builder).build()?;
        if let Some(number) = self.txn.own_clash(&run) {
            let (key, row) = (run.shared_key(number), run.row(number));
            return Err(Twice { number, key, row });
        }
        self.txn.put_run(Arc::new(run));
        Ok(())
    }

    /// Writes all rows of `old` as rows of `new`, which has storage of its own. `items` give the
    /// values of the new row's columns, by attnum; NULL for dropped ones.
    pub(crate) async fn rewrite(
        &mut self,
        old: &Arc<TableDesc>,
        new: &Arc<TableDesc>,
        items: &[Option<Item>],
    ) -> Result<(), ExecError> {
        let codecs = Table::new(new)?;
        let read: Vec<Item> = items.iter().flatten().cloned().collect();
        let query = self.table_query(old, &read, &[])?;
        let mut rows = self.run_query(query).await?;
        let mut rowid = 0_i64;
        let mut builder = RunBuilder::default();
        while let Some(batch) = rows.next(self.txn).await? {
            for row in batch {
                let mut given = row.into_iter();
                let mut values: Vec<Datum> = items
                    .iter()
                    .map(|item| item.as_ref().and_then(|_| given.next()).unwrap_or(Datum::Null))
                    .collect();
                rowid += 1;
                for column in new.columns.iter().filter(|c| c.hidden && !c.dropped) {
                    let at = usize::try_from(column.attnum - 1).unwrap_or(0);
                    if values[at].is_null() {
                        values[at] = Datum::Int8(rowid);
                    }
                }
                self.check_not_null(new, &values)?;
                builder.push(&codecs.codec.row_key(&values)?, &codecs.codec.encode(&values)?);
            }
            if builder.size() >= RUN_BYTES {
                self.put_rows(new, &codecs, &mut builder)?;
            }
        }
        self.put_rows(new, &codecs, &mut builder)?;
        for index in new.indexes.iter().skip(1).filter(|i| i.state == IndexState::Public) {
            self.fill_index(new, index.index_id).await?;
        }
        Ok(())
    }

    fn check_not_null(&self, table: &TableDesc, values: &[Datum]) -> Result<()> {
        for (column, value) in table.columns.iter().zip(values) {
            if column.not_null && !column.dropped && value.is_null() {
                return Err(self.contains_nulls(table, column));
            }
        }
        Ok(())
    }

    fn put_rows(
        &mut self,
        table: &TableDesc,
        codecs: &Table,
        builder: &mut RunBuilder,
    ) -> Result<()> {
        let Err(Twice { key, row, .. }) = self.put_new(builder) else { return Ok(()) };
        let values = codecs.codec.decode(&key, &row)?;
        let primary = table.primary();
        let at = |c: &meridian_catalog::IndexColumn| {
            let at = usize::try_from(c.attnum.unwrap_or(1) - 1).unwrap_or(0);
            values[at].clone()
        };
        let shown: Vec<Datum> = primary.columns.iter().map(at).collect();
        Err(self.duplicate(table, primary, &shown))
    }

    /// 23502 of a column that is to be NOT NULL.
    pub(crate) fn contains_nulls(&self, table: &TableDesc, column: &ColumnDesc) -> PgError {
        let schema = self.schema_of(table.schema).map(|s| s.name.clone()).unwrap_or_default();
        PgError::new(
            SqlState::NOT_NULL_VIOLATION,
            format!(
                "column \"{}\" of relation \"{}\" contains null values",
                column.name, table.name
            ),
        )
        .column(&schema, &table.name, &column.name)
    }

    async fn any_row(
        &mut self,
        table: &Arc<TableDesc>,
        conditions: &[String],
    ) -> Result<bool, ExecError> {
        let query = self.table_query(table, &[Item::Key], conditions)?;
        let mut rows = self.run_query(query).await?;
        while let Some(batch) = rows.next(self.txn).await? {
            if !batch.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// 23502 when a row has NULL in this column.
    pub(crate) async fn validate_not_null(
        &mut self,
        table: &Arc<TableDesc>,
        column: &ColumnDesc,
    ) -> Result<(), ExecError> {
        let condition = format!("{} IS NULL", quote_ident(&column.name));
        if self.any_row(table, &[condition]).await? {
            return Err(self.contains_nulls(table, column).into());
        }
        Ok(())
    }

    /// Checks all rows against a constraint.
    pub(crate) async fn validate(
        &mut self,
        table: &Arc<TableDesc>,
        constraint: &ConstraintDesc,
    ) -> Result<(), ExecError> {
        match &constraint.kind {
            ConstraintKind::Check { expr, .. } => {
                let condition = format!("NOT ({expr})");
                if !self.any_row(table, &[condition]).await? {
                    return Ok(());
                }
                let schema = self.schema_of(table.schema)?;
                let text = format!(
                    "check constraint \"{}\" of relation \"{}\" is violated by some row",
                    constraint.name, table.name
                );
                let error = PgError::new(SqlState::CHECK_VIOLATION, text);
                Err(error.constraint(&schema.name, &table.name, &constraint.name).into())
            }
            ConstraintKind::ForeignKey { .. } => self.validate_foreign_key(table, constraint).await,
            ConstraintKind::PrimaryKey { .. } | ConstraintKind::Unique { .. } => Ok(()),
        }
    }

    async fn validate_foreign_key(
        &mut self,
        table: &Arc<TableDesc>,
        constraint: &ConstraintDesc,
    ) -> Result<(), ExecError> {
        let ConstraintKind::ForeignKey { columns, ref_table, ref_columns, match_full, .. } =
            &constraint.kind
        else {
            return Ok(());
        };
        let target = self.table_now(*ref_table)?;
        let name = |t: &TableDesc, attnum: i16| {
            t.column(attnum).map_or_else(String::new, |c| quote_ident(&c.name))
        };
        let own: Vec<String> = columns.iter().map(|a| name(table, *a)).collect();
        let theirs: Vec<String> = ref_columns.iter().map(|a| name(&target, *a)).collect();
        let both = |f: &dyn Fn((&String, &String)) -> String, by: &str| {
            own.iter().zip(&theirs).map(f).collect::<Vec<String>>().join(by)
        };
        let view = self.view();
        let shown = view.qualified_name(&meridian_catalog::Relation::Table(table.clone()));
        let shown_target = view.qualified_name(&meridian_catalog::Relation::Table(target.clone()));
        let text = format!(
            "SELECT {} FROM {shown} fk LEFT JOIN {shown_target} pk ON {} WHERE pk.{} IS NULL AND ({})",
            both(&|(a, _)| format!("fk.{a}"), ", "),
            both(&|(a, b)| format!("pk.{b} = fk.{a}"), " AND "),
            theirs[0],
            both(
                &|(a, _)| format!("fk.{a} IS NOT NULL"),
                if *match_full { " OR " } else { " AND " }
            ),
        );
        let query = self.bind_text(&text)?;
        let types: Vec<_> = query.output.iter().map(|c| c.ty).collect();
        let mut rows = self.run_query(query).await?;
        while let Some(batch) = rows.next(self.txn).await? {
            let Some(row) = batch.first() else { continue };
            let values = row.iter().zip(&types).map(|(v, ty)| {
                crate::values::text_out(v, *ty, &self.statement.eval).unwrap_or_default()
            });
            let values = values.collect::<Vec<String>>().join(", ");
            let names: Vec<&str> =
                columns.iter().filter_map(|a| Some(table.column(*a)?.name.as_str())).collect();
            let schema = self.schema_of(table.schema)?;
            let text = format!(
                "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
                table.name, constraint.name
            );
            let detail = format!(
                "Key ({})=({values}) is not present in table \"{}\".",
                names.join(", "),
                target.name
            );
            let error = PgError::new(SqlState::FOREIGN_KEY_VIOLATION, text).detail(detail);
            return Err(error.constraint(&schema.name, &table.name, &constraint.name).into());
        }
        Ok(())
    }
}
