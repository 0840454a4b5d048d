//! ALTER TABLE: columns added and dropped, constraints.

use std::sync::Arc;

use meridian_catalog::{ConstraintKind, IndexState, Relation, TableDesc};
use meridian_cluster::TableLockMode;
use meridian_sql::ddl::{AlterAction, AlterLock, ColumnDef, Constraint, Name};
use meridian_types::{Datum, PgError, SqlState};

use super::DdlContext;
use super::constraints::Work;
use super::create_table::add_hidden_key;
use super::depend::Dependent;
use super::internal::Item;
use super::names::undefined_column;
use super::rename::column_is_free;
use crate::error::ExecError;
use crate::zones;

impl DdlContext<'_> {
    pub(super) async fn alter_table(
        &mut self,
        name: &Name,
        if_exists: bool,
        actions: &[AlterAction],
    ) -> Result<&'static str, ExecError> {
        let mode = match actions.iter().map(AlterAction::lock).max() {
            Some(AlterLock::ShareUpdateExclusive) => TableLockMode::ShareUpdateExclusive,
            Some(AlterLock::ShareRowExclusive) => TableLockMode::ShareRowExclusive,
            Some(AlterLock::AccessExclusive) | None => TableLockMode::AccessExclusive,
        };
        let Some(relation) = self.locked_relation(name, if_exists, mode).await? else {
            return Ok("ALTER TABLE");
        };
        let Relation::Table(table) = &relation else {
            if let [AlterAction::Owner(owner)] = actions {
                let role = self.role_oid(owner)?;
                self.own_relation(&relation, role);
                return Ok("ALTER TABLE");
            }
            let only_words = |action: &AlterAction| {
                use AlterAction::{Nothing, ResetOptions, SetOptions};
                matches!(action, Nothing | SetOptions(_) | ResetOptions(_))
            };
            if actions.iter().all(only_words) {
                return Ok("ALTER TABLE");
            }
            let text = format!("\"{}\" is not a table", name.name);
            return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text).into());
        };
        let oid = table.oid;
        for action in actions {
            let table = self.table_now(oid)?;
            self.alter(&table, action).await?;
        }
        Ok("ALTER TABLE")
    }

    async fn alter(
        &mut self,
        table: &Arc<TableDesc>,
        action: &AlterAction,
    ) -> Result<(), ExecError> {
        match action {
            AlterAction::AddColumn { if_not_exists, column } => {
                self.alter_add_column(table, *if_not_exists, column).await
            }
            AlterAction::DropColumn { if_exists, column, cascade } => {
                self.alter_drop_column(table, *if_exists, column, *cascade).await
            }
            AlterAction::SetType { column, data_type, using } => {
                self.set_type(table, column, data_type, using.as_ref()).await
            }
            AlterAction::SetDefault { column, default } => {
                Ok(self.set_default(table, column, default.as_ref())?)
            }
            AlterAction::SetNotNull { column, not_null } => {
                self.set_not_null(table, column, *not_null).await
            }
            AlterAction::AddIdentity { column, identity, options } => {
                Ok(self.add_identity(table, column, *identity, options).await?)
            }
            AlterAction::SetIdentity { column, identity, options } => {
                Ok(self.set_identity(table, column, *identity, options).await?)
            }
            AlterAction::DropIdentity { column, if_exists } => {
                Ok(self.drop_identity(table, column, *if_exists)?)
            }
            AlterAction::DropExpression { column, if_exists } => {
                Ok(self.drop_expression(table, column, *if_exists)?)
            }
            AlterAction::AddConstraint(constraint) => {
                self.alter_add_constraint(table, constraint).await
            }
            AlterAction::DropConstraint { if_exists, name, cascade } => {
                self.drop_constraint(table, *if_exists, name, *cascade).await
            }
            AlterAction::ValidateConstraint(name) => self.validate_constraint(table, name).await,
            AlterAction::Owner(owner) => {
                let role = self.role_oid(owner)?;
                self.own_relation(&Relation::Table(Arc::clone(table)), role);
                Ok(())
            }
            AlterAction::SetOptions(options) => Ok(self.set_options(table, options, &[])?),
            AlterAction::ResetOptions(names) => Ok(self.set_options(table, &[], names)?),
            AlterAction::Nothing => Ok(()),
            AlterAction::Unsupported(what) => {
                Err(PgError::unsupported(format!("{what} is not supported yet")).into())
            }
        }
    }

    fn set_options(
        &mut self,
        table: &Arc<TableDesc>,
        set: &[(String, String)],
        reset: &[String],
    ) -> Result<(), PgError> {
        let options = zones::changed(table, set, reset)?;
        let relation = Relation::Table(Arc::clone(table));
        self.change_relation(&relation, |table| table.options = options, |_| (), |_| ());
        Ok(())
    }

    async fn alter_add_column(
        &mut self,
        old: &Arc<TableDesc>,
        if_not_exists: bool,
        def: &ColumnDef,
    ) -> Result<(), ExecError> {
        if let Err(error) = column_is_free(old, &def.name) {
            if !if_not_exists {
                return Err(error.into());
            }
            let text = format!("{}, skipping", error.fields().message);
            self.notice(SqlState::DUPLICATE_COLUMN, text);
            return Ok(());
        }
        self.refuse_under_stars(old.oid)?;
        let mut table = TableDesc::clone(old);
        table.schema_version += 1;
        let mut sequences = Vec::new();
        self.add_column(&mut table, def, &mut sequences).await?;
        self.column_expressions(&mut table, def)?;
        let at = table.columns.len() - 1;
        let column = table.columns[at].clone();
        let computed = column.generated || !sequences.is_empty();
        let constant = match (&column.default, computed) {
            (Some(text), false) => self.constant_default(&column, text)?,
            _ => Some(Datum::Null),
        };
        let mut added = table.clone();
        added.columns[at].not_null = false;
        if computed || constant.is_none() {
            // The sequence must be there before its values are asked for.
            let shell = Arc::new(table.clone());
            self.make_sequences(&shell, sequences)?;
            let mut items: Vec<Option<Item>> = keep_all(old);
            let text = column.default.clone().unwrap_or_default();
            items.push(Some(Item::Sql(text, Some(column.ty))));
            let table = self.put_rewritten(old, table, &items).await?;
            return self.new_column_constraints(table, def).await;
        }
        let value = constant.unwrap_or(Datum::Null);
        if !value.is_null() {
            let text = crate::values::text_out(&value, column.ty, &self.statement.eval)?;
            table.columns[at].missing = Some(text);
        }
        let table = self.put_table(table);
        if column.not_null && value.is_null() {
            self.validate_not_null(&table, &column).await?;
        }
        self.new_column_constraints(table, def).await
    }

    async fn new_column_constraints(
        &mut self,
        mut table: Arc<TableDesc>,
        def: &ColumnDef,
    ) -> Result<(), ExecError> {
        for constraint in &def.constraints {
            self.alter_add_constraint(&table, constraint).await?;
            table = self.table_now(table.oid)?;
        }
        Ok(())
    }

    /// The value of a default that is the same for all rows; `None` when each row needs its own.
    fn constant_default(
        &self,
        column: &meridian_catalog::ColumnDesc,
        text: &str,
    ) -> Result<Option<Datum>, PgError> {
        use meridian_sql::bind::{Binder, Clause};
        let view = self.view();
        let source = meridian_sql::parse::Source::default();
        let mut binder = Binder::new(&view, &self.statement.eval, &source, &[], false);
        let expr = meridian_sql::parse::parse_expression(text)?;
        let bound = binder.bind_expr(&expr, Clause::ColumnDefault)?;
        if meridian_sql::walk::is_volatile(&bound) {
            return Ok(None);
        }
        let context = meridian_sql::resolve::CoercionContext::Assignment;
        let bound = binder.coerce_to(bound, column.ty, context, None)?;
        crate::evaluate(&bound, &self.statement.eval).map(Some)
    }

    /// Puts a changed table that gets new storage, and moves the rows.
    pub(crate) async fn put_rewritten(
        &mut self,
        old: &Arc<TableDesc>,
        mut table: TableDesc,
        items: &[Option<Item>],
    ) -> Result<Arc<TableDesc>, ExecError> {
        table.storage_id = self.oids(1).await?;
        for added in &mut table.columns_added {
            *added = table.schema_version;
        }
        for column in &mut table.columns {
            column.missing = None;
        }
        let new = Arc::new(table);
        self.rewrite(old, &new, items).await?;
        Ok(self.put_table(TableDesc::clone(&new)))
    }

    async fn alter_drop_column(
        &mut self,
        old: &Arc<TableDesc>,
        if_exists: bool,
        name: &str,
        cascade: bool,
    ) -> Result<(), ExecError> {
        let Some(column) = old.column_by_name(name) else {
            let error = undefined_column(&old.name, name);
            if !if_exists {
                return Err(error.into());
            }
            let text = format!("{}, skipping", error.fields().message);
            self.notice(SqlState::from_code("00000"), text);
            return Ok(());
        };
        let attnum = column.attnum;
        let what = format!("column {name} of table {}", old.name);
        let mut dependents = Vec::new();
        // Which columns a view reads isn't recorded: any view on the table counts.
        for view in self.views_on(old.oid) {
            if view.query.contains(name) || view.query.contains('*') {
                dependents.push((Dependent::View(view), what.clone()));
            }
        }
        for other in self.catalog().referencing_tables(old.oid) {
            for constraint in &other.constraints {
                if let ConstraintKind::ForeignKey { ref_table, ref_columns, .. } = &constraint.kind
                    && *ref_table == old.oid
                    && ref_columns.contains(&attnum)
                    && other.oid != old.oid
                {
                    let key = Dependent::ForeignKey(Arc::clone(other), constraint.name.clone());
                    dependents.push((key, what.clone()));
                }
            }
        }
        self.settle(&what, &dependents, cascade)?;
        for (dependent, _) in dependents {
            self.remove_dependent(&dependent);
        }
        let mut table = TableDesc::clone(&*self.table_now(old.oid)?);
        let generated = table.columns.iter().find(|c| {
            c.generated && !c.dropped && c.default.as_deref().is_some_and(|d| names(d, name))
        });
        if let Some(generated) = generated {
            let text = format!("cannot drop {what} because other objects depend on it");
            let detail =
                format!("column {} of table {} depends on {what}", generated.name, old.name);
            let error = PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, text);
            return Err(error
                .detail(detail)
                .hint("Use DROP ... CASCADE to drop the dependent objects too.")
                .into());
        }
        let in_primary = table.primary().columns.iter().any(|c| c.attnum == Some(attnum));
        drop_parts(&mut table, attnum, name);
        let sequence = table.columns[at(attnum)].sequence;
        mark_dropped(&mut table, attnum);
        table.schema_version += 1;
        if in_primary {
            table.constraints.retain(|c| !matches!(c.kind, ConstraintKind::PrimaryKey { .. }));
            add_hidden_key(&mut table);
            let items = keep_all(&table);
            let items: Vec<Option<Item>> = items.into_iter().take(old.columns.len()).collect();
            self.put_rewritten(old, table, &items).await?;
        } else {
            self.put_table(table);
        }
        if let Some(sequence) = sequence
            && let Some(sequence) = self.catalog().relation(sequence)
        {
            self.remove_relation(&sequence);
        }
        Ok(())
    }

    async fn alter_add_constraint(
        &mut self,
        old: &Arc<TableDesc>,
        constraint: &Constraint,
    ) -> Result<(), ExecError> {
        let mut table = TableDesc::clone(old);
        let work = self.add_constraint(&mut table, constraint, false).await?;
        match work {
            Work::Nothing => {
                self.put_table(table);
            }
            Work::Fill(index_id) => {
                let table = self.put_table(table);
                self.fill_index(&table, index_id).await?;
            }
            Work::Validate(name) => {
                let table = self.put_table(table);
                if let Some(constraint) = table.constraint(&name) {
                    self.validate(&table, constraint).await?;
                }
            }
            Work::Rewrite => {
                table.schema_version += 1;
                let items = keep_all(&table);
                self.put_rewritten(old, table, &items).await?;
            }
        }
        Ok(())
    }

    async fn drop_constraint(
        &mut self,
        old: &Arc<TableDesc>,
        if_exists: bool,
        name: &str,
        cascade: bool,
    ) -> Result<(), ExecError> {
        let Some(constraint) = old.constraint(name).cloned() else {
            let text = format!("constraint \"{name}\" of relation \"{}\" does not exist", old.name);
            if !if_exists {
                return Err(PgError::new(SqlState::UNDEFINED_OBJECT, text).into());
            }
            self.notice(SqlState::from_code("00000"), format!("{text}, skipping"));
            return Ok(());
        };
        if let ConstraintKind::PrimaryKey { index_id } | ConstraintKind::Unique { index_id } =
            constraint.kind
        {
            let what = format!("constraint {name} on table {}", old.name);
            let keys = self.foreign_keys_by(old, index_id);
            self.settle(&what, &keys, cascade)?;
            for (dependent, _) in keys {
                self.remove_dependent(&dependent);
            }
        }
        let mut table = TableDesc::clone(&*self.table_now(old.oid)?);
        table.constraints.retain(|c| c.name != name);
        match constraint.kind {
            ConstraintKind::PrimaryKey { .. } => {
                table.schema_version += 1;
                add_hidden_key(&mut table);
                let items = keep_all(&table);
                let items: Vec<Option<Item>> = items.into_iter().take(old.columns.len()).collect();
                self.put_rewritten(old, table, &items).await?;
            }
            ConstraintKind::Unique { index_id } => {
                table.indexes.retain(|i| i.index_id != index_id);
                self.put_table(table);
            }
            _ => {
                self.put_table(table);
            }
        }
        Ok(())
    }

    async fn validate_constraint(
        &mut self,
        old: &Arc<TableDesc>,
        name: &str,
    ) -> Result<(), ExecError> {
        let Some(at) = old.constraints.iter().position(|c| c.name == name) else {
            let text = format!("constraint \"{name}\" of relation \"{}\" does not exist", old.name);
            return Err(PgError::new(SqlState::UNDEFINED_OBJECT, text).into());
        };
        if old.constraints[at].validated {
            return Ok(());
        }
        self.validate(old, &old.constraints[at]).await?;
        let mut table = TableDesc::clone(old);
        table.constraints[at].validated = true;
        self.put_table(table);
        Ok(())
    }
}

fn at(attnum: i16) -> usize {
    usize::try_from(attnum - 1).unwrap_or(0)
}

/// Every column keeps its value; dropped ones have none.
pub(crate) fn keep_all(table: &TableDesc) -> Vec<Option<Item>> {
    table.columns.iter().map(|c| (!c.dropped).then_some(Item::Column(c.attnum))).collect()
}

/// Whether an expression names a column; wrong only on the careful side.
fn names(text: &str, column: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.split(|c: char| !word(c)).any(|part| part.eq_ignore_ascii_case(column))
}

/// Removes indexes and constraints that a column is part of.
fn drop_parts(table: &mut TableDesc, attnum: i16, name: &str) {
    let of_index = |i: &meridian_catalog::IndexDesc| {
        i.columns
            .iter()
            .any(|c| c.attnum == Some(attnum) || c.expr.as_deref().is_some_and(|e| names(e, name)))
            || i.include.contains(&attnum)
            || i.predicate.as_deref().is_some_and(|p| names(p, name))
    };
    let gone: Vec<u16> =
        table.indexes.iter().skip(1).filter(|i| of_index(i)).map(|i| i.index_id).collect();
    table.indexes.retain(|i| !gone.contains(&i.index_id));
    table.constraints.retain(|c| match &c.kind {
        ConstraintKind::Unique { index_id } => !gone.contains(index_id),
        ConstraintKind::Check { columns, .. } | ConstraintKind::ForeignKey { columns, .. } => {
            !columns.contains(&attnum)
        }
        ConstraintKind::PrimaryKey { .. } => true,
    });
    debug_assert!(table.indexes.iter().all(|i| i.state != IndexState::WriteOnly));
}

fn mark_dropped(table: &mut TableDesc, attnum: i16) {
    let column = &mut table.columns[at(attnum)];
    column.dropped = true;
    column.name = format!("........pg.dropped.{attnum}........");
    column.not_null = false;
    column.default = None;
    column.generated = false;
    column.identity = None;
    column.sequence = None;
    column.comment = None;
}
