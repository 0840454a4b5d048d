//! ALTER TABLE … ALTER COLUMN.

use std::sync::Arc;

use meridian_catalog::{ColumnDesc, Identity, Relation, TableDesc};
use meridian_sql::ast::DataType;
use meridian_sql::bind::Clause;
use meridian_sql::ddl::{SequenceOptions, SqlExpr};
use meridian_sql::resolve::CoercionContext;
use meridian_types::{PgError, PgType, Result, SqlState, oid};

use super::DdlContext;
use super::alter::keep_all;
use super::create_table::{OwnedSequence, next_value};
use super::internal::Item;
use super::names::undefined_column;
use crate::catalog_store::quote_ident;
use crate::error::ExecError;

fn find(table: &TableDesc, name: &str) -> Result<usize> {
    let column = table.column_by_name(name).ok_or_else(|| undefined_column(&table.name, name))?;
    Ok(usize::try_from(column.attnum - 1).unwrap_or(0))
}

/// A wider modifier of the same type needs no look at the rows.
fn only_wider(old: PgType, new: PgType) -> bool {
    let text = |ty: PgType| matches!(ty.oid, oid::TEXT | oid::VARCHAR);
    if text(old) && text(new) {
        return new.typmod < 0 || (old.typmod >= 0 && old.typmod <= new.typmod);
    }
    old == new
}

impl DdlContext<'_> {
    pub(super) async fn set_type(
        &mut self,
        old: &Arc<TableDesc>,
        name: &str,
        data_type: &DataType,
        using: Option<&SqlExpr>,
    ) -> Result<(), ExecError> {
        let at = find(old, name)?;
        let ty = self.column_type(name, data_type)?;
        if let Some(view) = self.views_on(old.oid).first() {
            let text = "cannot alter type of a column used by a view or rule";
            let shown = self.shown(&Relation::View(Arc::clone(view)));
            return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, text)
                .detail(format!("rule _RETURN on {shown} depends on column \"{name}\""))
                .into());
        }
        let value = match using {
            Some(using) => {
                self.bind_over(old, using, |b, e| b.bind_expr(e, Clause::AlterColumnTransform))?;
                self.piece(using.text)
            }
            None => quote_ident(name),
        };
        let column = &old.columns[at];
        self.can_convert(old, column, ty, using)?;
        let mut table = TableDesc::clone(old);
        self.convert_default(&mut table.columns[at], ty)?;
        table.columns[at].ty = ty;
        for index in &mut table.indexes {
            for part in index.columns.iter_mut().filter(|c| c.attnum == Some(column.attnum)) {
                part.ty = ty;
            }
        }
        table.schema_version += 1;
        if using.is_none() && only_wider(column.ty, ty) {
            self.put_table(table);
            return Ok(());
        }
        let mut items = keep_all(old);
        items[at] = Some(Item::Sql(value, Some(ty)));
        let table = self.put_rewritten(old, table, &items).await?;
        for constraint in &table.constraints {
            if let meridian_catalog::ConstraintKind::ForeignKey { columns, .. } = &constraint.kind
                && columns.contains(&column.attnum)
            {
                self.validate(&table, constraint).await?;
            }
        }
        Ok(())
    }

    fn can_convert(
        &self,
        table: &TableDesc,
        column: &ColumnDesc,
        ty: PgType,
        using: Option<&SqlExpr>,
    ) -> Result<()> {
        let view = self.view();
        let source = meridian_sql::parse::Source::default();
        let eval = &self.statement.eval;
        let mut binder = meridian_sql::bind::Binder::new(&view, eval, &source, &[], false);
        super::internal::enter_table(&mut binder, table);
        let expr = match using {
            Some(using) => binder.bind_expr(&using.expr, Clause::AlterColumnTransform)?,
            None => {
                let parsed = meridian_sql::parse::parse_expression(&quote_ident(&column.name))?;
                binder.bind_expr(&parsed, Clause::AlterColumnTransform)?
            }
        };
        let coerced = binder.coerce_to(expr, ty, CoercionContext::Assignment, None);
        coerced.map(drop).map_err(|error| {
            if !matches!(error.state(), SqlState::CANNOT_COERCE | SqlState::DATATYPE_MISMATCH) {
                return error;
            }
            let shown = view.format_type(ty.oid, ty.typmod);
            let plain = view.format_type(ty.oid, -1);
            let text = if using.is_some() {
                format!(
                    "result of USING clause for column \"{}\" cannot be cast automatically to type {plain}",
                    column.name
                )
            } else {
                format!("column \"{}\" cannot be cast automatically to type {plain}", column.name)
            };
            let error = PgError::new(SqlState::DATATYPE_MISMATCH, text);
            if using.is_some() {
                return error.hint("You might need to add an explicit cast.");
            }
            let name = quote_ident(&column.name);
            error.hint(format!("You might need to specify \"USING {name}::{shown}\"."))
        })
    }

    /// A default must be convertible as well; a generation expression is bound again when used.
    fn convert_default(&self, column: &mut ColumnDesc, ty: PgType) -> Result<()> {
        let Some(text) = column.default.clone().filter(|_| !column.generated) else {
            return Ok(());
        };
        let view = self.view();
        let source = meridian_sql::parse::Source::default();
        let eval = &self.statement.eval;
        let mut binder = meridian_sql::bind::Binder::new(&view, eval, &source, &[], false);
        let parsed = meridian_sql::parse::parse_expression(&text)?;
        let bound = binder.bind_expr(&parsed, Clause::ColumnDefault)?;
        let old = binder.coerce_to(bound, column.ty, CoercionContext::Assignment, None)?;
        binder.coerce_to(old, ty, CoercionContext::Assignment, None).map_err(|_| {
            let text = format!(
                "default for column \"{}\" cannot be cast automatically to type {}",
                column.name,
                view.format_type(ty.oid, -1)
            );
            PgError::new(SqlState::DATATYPE_MISMATCH, text)
        })?;
        Ok(())
    }

    pub(super) fn set_default(
        &mut self,
        old: &Arc<TableDesc>,
        name: &str,
        default: Option<&SqlExpr>,
    ) -> Result<()> {
        let at = find(old, name)?;
        let mut table = TableDesc::clone(old);
        let column = &mut table.columns[at];
        let wrong = |what: &str, hint: &str| {
            let text = format!("column \"{name}\" of relation \"{}\" is {what}", old.name);
            let error = PgError::new(SqlState::SYNTAX_ERROR, text);
            if hint.is_empty() { error } else { error.hint(hint) }
        };
        if column.identity.is_some() {
            let hint = "Use ALTER TABLE ... ALTER COLUMN ... DROP IDENTITY instead.";
            return Err(wrong("an identity column", if default.is_none() { hint } else { "" }));
        }
        if column.generated {
            let hint = "Use ALTER TABLE ... ALTER COLUMN ... DROP EXPRESSION instead.";
            return Err(wrong("a generated column", if default.is_none() { hint } else { "" }));
        }
        column.default = match default {
            Some(default) => Some(self.default_text(&old.columns[at], default)?),
            None => None,
        };
        self.put_table(table);
        Ok(())
    }

    pub(super) async fn set_not_null(
        &mut self,
        old: &Arc<TableDesc>,
        name: &str,
        not_null: bool,
    ) -> Result<(), ExecError> {
        let at = find(old, name)?;
        let mut table = TableDesc::clone(old);
        if !not_null {
            if table.primary().columns.iter().any(|c| c.attnum == Some(old.columns[at].attnum)) {
                let text = format!("column \"{name}\" is in a primary key");
                return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, text).into());
            }
            if old.columns[at].identity.is_some() {
                let text =
                    format!("column \"{name}\" of relation \"{}\" is an identity column", old.name);
                return Err(PgError::new(SqlState::SYNTAX_ERROR, text).into());
            }
        } else if !old.columns[at].not_null {
            self.validate_not_null(old, &old.columns[at]).await?;
        }
        table.columns[at].not_null = not_null;
        self.put_table(table);
        Ok(())
    }

    pub(super) async fn add_identity(
        &mut self,
        old: &Arc<TableDesc>,
        name: &str,
        identity: Identity,
        options: &SequenceOptions,
    ) -> Result<()> {
        let at = find(old, name)?;
        let mut table = TableDesc::clone(old);
        let column = &mut table.columns[at];
        let wrong = |what: &str| {
            let text = format!("column \"{name}\" of relation \"{}\" {what}", old.name);
            PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text)
        };
        if !column.not_null {
            return Err(wrong("must be declared NOT NULL before identity can be added"));
        }
        if column.identity.is_some() {
            return Err(wrong("is already an identity column"));
        }
        if column.default.is_some() {
            return Err(wrong("already has a default value"));
        }
        let sequence = self.oids(1).await?;
        column.identity = Some(identity);
        column.sequence = Some(sequence);
        column.default = Some(next_value(sequence));
        let (attnum, ty) = (column.attnum, column.ty.oid);
        let table = self.put_table(table);
        let owned = OwnedSequence { attnum, oid: sequence, ty, options: options.clone() };
        self.make_sequences(&table, vec![owned])
    }

    pub(super) async fn set_identity(
        &mut self,
        old: &Arc<TableDesc>,
        name: &str,
        identity: Option<Identity>,
        options: &SequenceOptions,
    ) -> Result<()> {
        let at = find(old, name)?;
        let (Some(_), Some(sequence)) = (old.columns[at].identity, old.columns[at].sequence) else {
            let text =
                format!("column \"{name}\" of relation \"{}\" is not an identity column", old.name);
            return Err(PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text));
        };
        let mut table = TableDesc::clone(old);
        if identity.is_some() {
            table.columns[at].identity = identity;
        }
        self.put_table(table);
        if *options != SequenceOptions::default()
            && let Some(sequence) = self.catalog().sequence(sequence).cloned()
        {
            self.change_sequence(&sequence, options).await?;
        }
        Ok(())
    }

    pub(super) fn drop_identity(
        &mut self,
        old: &Arc<TableDesc>,
        name: &str,
        if_exists: bool,
    ) -> Result<()> {
        let at = find(old, name)?;
        if old.columns[at].identity.is_none() {
            let text =
                format!("column \"{name}\" of relation \"{}\" is not an identity column", old.name);
            if !if_exists {
                return Err(PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text));
            }
            self.notice(SqlState::from_code("00000"), format!("{text}, skipping"));
            return Ok(());
        }
        let mut table = TableDesc::clone(old);
        let sequence = table.columns[at].sequence.take();
        table.columns[at].identity = None;
        table.columns[at].default = None;
        self.put_table(table);
        if let Some(relation) = sequence.and_then(|oid| self.catalog().relation(oid)) {
            self.remove_relation(&relation);
        }
        Ok(())
    }

    pub(super) fn drop_expression(
        &mut self,
        old: &Arc<TableDesc>,
        name: &str,
        if_exists: bool,
    ) -> Result<()> {
        let at = find(old, name)?;
        if !old.columns[at].generated {
            let text = format!(
                "column \"{name}\" of relation \"{}\" is not a stored generated column",
                old.name
            );
            if !if_exists {
                return Err(PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text));
            }
            self.notice(SqlState::from_code("00000"), format!("{text}, skipping"));
            return Ok(());
        }
        let mut table = TableDesc::clone(old);
        table.columns[at].generated = false;
        table.columns[at].default = None;
        self.put_table(table);
        Ok(())
    }
}
