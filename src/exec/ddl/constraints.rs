//! Adding constraints to a table's descriptor.

use std::sync::Arc;

use meridian_catalog::{
    ConstraintDesc, ConstraintKind, IndexColumn, IndexDesc, IndexState, PRIMARY_INDEX_ID, TableDesc,
};
use meridian_sql::bind::{Binder, Clause};
use meridian_sql::ddl::{Constraint, ConstraintRule, Name, SqlExpr};
use meridian_sql::expr::{Expr, ExprKind};
use meridian_sql::walk;
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result, SqlState, builtin};

use super::DdlContext;
use super::expressions;
use super::internal::enter_table;
use super::names::{choose_name, columns_part};

/// What has to be done with existing rows after a constraint was added.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Nothing.
    Nothing,
    /// Fill this index.
    Fill(u16),
    /// Check all rows against this constraint.
    Validate(String),
    /// The primary key has changed: write all rows anew.
    Rewrite,
}

fn error(state: SqlState, text: String) -> PgError {
    PgError::new(state, text)
}

/// Attnums of key columns, or 42703.
fn key_attnums(table: &TableDesc, columns: &[String], what: &str) -> Result<Vec<i16>> {
    let mut attnums: Vec<i16> = Vec::with_capacity(columns.len());
    for name in columns {
        let column = table.column_by_name(name).ok_or_else(|| {
            let text = if what == "foreign key" {
                format!("column \"{name}\" referenced in foreign key constraint does not exist")
            } else {
                format!("column \"{name}\" named in key does not exist")
            };
            error(SqlState::UNDEFINED_COLUMN, text)
        })?;
        if attnums.contains(&column.attnum) {
            let text = format!("column \"{name}\" appears twice in {what} constraint");
            return Err(error(SqlState::DUPLICATE_COLUMN, text));
        }
        attnums.push(column.attnum);
    }
    Ok(attnums)
}

pub(crate) fn plain_index_column(table: &TableDesc, attnum: i16) -> Result<IndexColumn> {
    let column = table
        .column(attnum)
        .ok_or_else(|| PgError::internal(format!("no column with number {attnum}")))?;
    super::create_index::check_indexable(column.ty.oid, "btree")?;
    Ok(IndexColumn {
        attnum: Some(attnum),
        expr: None,
        ty: column.ty,
        desc: false,
        nulls_first: false,
    })
}

/// An expression over a table's columns.
pub(crate) struct BoundExpr {
    pub(crate) expr: Expr,
    /// The columns that it names.
    pub(crate) attnums: Vec<i16>,
    /// Its text as it is stored.
    pub(crate) text: String,
}

impl DdlContext<'_> {
    /// Whether a name is taken among the relations of a schema.
    pub(crate) fn name_taken(&self, schema: Oid, table: &TableDesc, name: &str) -> bool {
        self.catalog().relation_in(schema, name).is_some()
            || table.name == name
            || table.indexes.iter().any(|i| i.oid != 0 && i.name == name)
    }

    fn constraint_name(
        &self,
        table: &TableDesc,
        given: Option<&String>,
        columns: &str,
        label: &str,
        is_index: bool,
    ) -> Result<String> {
        let exists = |name: &str| table.constraint(name).is_some();
        match given {
            Some(name) => {
                if exists(name) {
                    let text = format!(
                        "constraint \"{name}\" for relation \"{}\" already exists",
                        table.name
                    );
                    return Err(error(SqlState::DUPLICATE_OBJECT, text));
                }
                if is_index && self.name_taken(table.schema, table, name) {
                    let text = format!("relation \"{name}\" already exists");
                    return Err(error(SqlState::DUPLICATE_TABLE, text));
                }
                Ok(name.clone())
            }
            None => Ok(choose_name(&table.name, columns, label, |name| {
                exists(name) || (is_index && self.name_taken(table.schema, table, name))
            })),
        }
    }

    /// Adds a constraint. `fresh`: the table has no rows yet.
    pub(crate) async fn add_constraint(
        &mut self,
        table: &mut TableDesc,
        constraint: &Constraint,
        fresh: bool,
    ) -> Result<Work> {
        let (kind, name, work) = match &constraint.kind {
            ConstraintRule::PrimaryKey { columns, include, using_index } => {
                if using_index.is_some() {
                    return Err(PgError::unsupported(
                        "PRIMARY KEY USING INDEX is not supported yet",
                    ));
                }
                let given = constraint.name.as_ref();
                self.add_primary_key(table, given, columns, include).await?
            }
            ConstraintRule::Unique { columns, include, nulls_not_distinct, using_index } => {
                match using_index {
                    Some(index) => self.unique_using_index(table, constraint, index)?,
                    None => {
                        let nulls = *nulls_not_distinct;
                        let given = constraint.name.as_ref();
                        self.add_unique(table, given, columns, include, nulls).await?
                    }
                }
            }
            ConstraintRule::Check { expr, no_inherit } => {
                self.check_rule(table, constraint, expr, *no_inherit)?
            }
            ConstraintRule::ForeignKey { .. } => self.foreign_key(table, constraint).await?,
        };
        let validated = !constraint.not_valid || fresh;
        table.constraints.push(ConstraintDesc {
            oid: self.oids(1).await?,
            name,
            kind,
            deferrable: constraint.deferrable,
            deferred: constraint.deferred,
            validated,
            comment: None,
        });
        Ok(if fresh || (!validated && matches!(work, Work::Validate(_))) {
            Work::Nothing
        } else {
            work
        })
    }

    async fn add_primary_key(
        &mut self,
        table: &mut TableDesc,
        given: Option<&String>,
        columns: &[String],
        include: &[String],
    ) -> Result<(ConstraintKind, String, Work)> {
        if table.constraints.iter().any(|c| matches!(c.kind, ConstraintKind::PrimaryKey { .. })) {
            let text =
                format!("multiple primary keys for table \"{}\" are not allowed", table.name);
            return Err(error(SqlState::INVALID_TABLE_DEFINITION, text));
        }
        let attnums = key_attnums(table, columns, "primary key")?;
        let name = self.constraint_name(table, given, "", "pkey", true)?;
        for attnum in &attnums {
            let at = usize::try_from(*attnum - 1).unwrap_or(0);
            table.columns[at].not_null = true;
        }
        let index_columns: Result<Vec<IndexColumn>> =
            attnums.iter().map(|a| plain_index_column(table, *a)).collect();
        let index = IndexDesc {
            oid: self.oids(1).await?,
            index_id: PRIMARY_INDEX_ID,
            name: name.clone(),
            unique: true,
            nulls_not_distinct: false,
            primary: true,
            method: "btree".into(),
            columns: index_columns?,
            include: key_attnums(table, include, "primary key")?,
            predicate: None,
            state: IndexState::Public,
            comment: None,
        };
        match table.indexes.first_mut() {
            Some(first) => *first = index,
            None => table.indexes.push(index),
        }
        for column in table.columns.iter_mut().filter(|c| c.hidden) {
            column.dropped = true;
            column.not_null = false;
        }
        Ok((ConstraintKind::PrimaryKey { index_id: PRIMARY_INDEX_ID }, name, Work::Rewrite))
    }

    async fn add_unique(
        &mut self,
        table: &mut TableDesc,
        given: Option<&String>,
        columns: &[String],
        include: &[String],
        nulls_not_distinct: bool,
    ) -> Result<(ConstraintKind, String, Work)> {
        let attnums = key_attnums(table, columns, "unique")?;
        let part = columns_part(columns.iter().map(String::as_str));
        let name = self.constraint_name(table, given, &part, "key", true)?;
        let index_id = table.next_index_id;
        let index_columns: Result<Vec<IndexColumn>> =
            attnums.iter().map(|a| plain_index_column(table, *a)).collect();
        let include = key_attnums(table, include, "unique")?;
        table.indexes.push(IndexDesc {
            oid: self.oids(1).await?,
            index_id,
            name: name.clone(),
            unique: true,
            nulls_not_distinct,
            primary: false,
            method: "btree".into(),
            columns: index_columns?,
            include,
            predicate: None,
            state: IndexState::Public,
            comment: None,
        });
        table.next_index_id += 1;
        Ok((ConstraintKind::Unique { index_id }, name, Work::Fill(index_id)))
    }

    fn unique_using_index(
        &self,
        table: &mut TableDesc,
        constraint: &Constraint,
        index: &str,
    ) -> Result<(ConstraintKind, String, Work)> {
        let Some(found) = table.indexes.iter_mut().find(|i| i.name == index) else {
            let text = format!("index \"{index}\" does not exist");
            return Err(error(SqlState::UNDEFINED_OBJECT, text));
        };
        if !found.unique {
            let text = format!("\"{index}\" is not a unique index");
            return Err(error(SqlState::WRONG_OBJECT_TYPE, text)
                .detail("Cannot create a primary key or unique constraint using such an index."));
        }
        let index_id = found.index_id;
        let name = constraint.name.clone().unwrap_or_else(|| index.to_owned());
        found.name.clone_from(&name);
        Ok((ConstraintKind::Unique { index_id }, name, Work::Nothing))
    }

    /// Binds an expression over a table's columns.
    pub(crate) fn bind_over(
        &self,
        table: &TableDesc,
        expr: &SqlExpr,
        bind: impl FnOnce(&mut Binder<'_>, &meridian_sql::ast::Expr) -> Result<Expr>,
    ) -> Result<BoundExpr> {
        self.bind_shown(table, expr, |b, e| bind(b, e).map(|e| (e, None)))
    }

    /// The same for an expression that is coerced to a column's type whenever it is used: the
    /// second one that `bind` gives, when it does, is stored in its place.
    pub(crate) fn bind_shown(
        &self,
        table: &TableDesc,
        expr: &SqlExpr,
        bind: impl FnOnce(&mut Binder<'_>, &meridian_sql::ast::Expr) -> Result<(Expr, Option<Expr>)>,
    ) -> Result<BoundExpr> {
        let view = self.view();
        let source = self.source();
        let mut binder = Binder::new(&view, &self.statement.eval, &source, &[], false);
        let scope = enter_table(&mut binder, table);
        let (bound, shown) = bind(&mut binder, &expr.expr)?;
        let mut attnums = Vec::new();
        walk::visit(&bound, &mut |e| {
            if let ExprKind::Column(id) = e.kind
                && let Some((_, attnum)) = scope.columns.iter().find(|(c, _)| c.id == id)
                && !attnums.contains(attnum)
            {
                attnums.push(*attnum);
            }
        });
        attnums.sort_unstable();
        let text = expressions::stored(
            &view,
            table,
            &scope,
            &mut binder,
            shown.as_ref().unwrap_or(&bound),
        );
        let text = text.unwrap_or_else(|| self.piece(expr.text));
        Ok(BoundExpr { expr: bound, attnums, text })
    }

    fn check_rule(
        &self,
        table: &TableDesc,
        constraint: &Constraint,
        expr: &SqlExpr,
        no_inherit: bool,
    ) -> Result<(ConstraintKind, String, Work)> {
        let bound =
            self.bind_over(table, expr, |b, e| b.bind_condition(e, Clause::CheckConstraint))?;
        let columns = bound.attnums;
        let part = match columns[..] {
            [one] => table.column(one).map_or("", |c| c.name.as_str()),
            _ => "",
        };
        let name = self.constraint_name(table, constraint.name.as_ref(), part, "check", false)?;
        let kind = ConstraintKind::Check { expr: bound.text, columns, no_inherit };
        Ok((kind, name.clone(), Work::Validate(name)))
    }

    async fn foreign_key(
        &mut self,
        table: &TableDesc,
        constraint: &Constraint,
    ) -> Result<(ConstraintKind, String, Work)> {
        let ConstraintRule::ForeignKey {
            columns,
            table: target_name,
            ref_columns,
            match_full,
            on_delete,
            on_update,
        } = &constraint.kind
        else {
            return Err(PgError::internal("not a foreign key"));
        };
        let attnums = key_attnums(table, columns, "foreign key")?;
        let target = self.referenced_table(table, target_name).await?;
        let (ref_attnums, ref_index_id) = referenced_key(&target, ref_columns)?;
        if attnums.len() != ref_attnums.len() {
            return Err(error(
                SqlState::INVALID_FOREIGN_KEY,
                "number of referencing and referenced columns for foreign key disagree".into(),
            ));
        }
        let part = columns_part(columns.iter().map(String::as_str));
        let name = self.constraint_name(table, constraint.name.as_ref(), &part, "fkey", false)?;
        for (own, theirs) in attnums.iter().zip(&ref_attnums) {
            self.check_key_types(table, *own, &target, *theirs, &name)?;
        }
        let kind = ConstraintKind::ForeignKey {
            columns: attnums,
            ref_table: target.oid,
            ref_columns: ref_attnums,
            ref_index_id,
            on_delete: *on_delete,
            on_update: *on_update,
            match_full: *match_full,
        };
        Ok((kind, name.clone(), Work::Validate(name)))
    }

    /// The table that a foreign key refers to, which may be the one being made.
    async fn referenced_table(&mut self, table: &TableDesc, name: &Name) -> Result<Arc<TableDesc>> {
        let schema = self.schema_of(table.schema)?;
        let own = name.name == table.name
            && name.schema.as_ref().is_none_or(|s| *s == schema.name)
            && self.relation(name).map_or(true, |r| r.oid() == table.oid);
        if own {
            return Ok(Arc::new(table.clone()));
        }
        let relation = self.relation(name)?;
        let meridian_catalog::Relation::Table(target) = relation else {
            let text = format!("referenced relation \"{}\" is not a table", name.name);
            return Err(error(SqlState::WRONG_OBJECT_TYPE, text));
        };
        if target.temp_session.is_some() != table.temp_session.is_some() {
            let text = if table.temp_session.is_some() {
                "constraints on temporary tables may reference only temporary tables"
            } else {
                "constraints on permanent tables may reference only permanent tables"
            };
            return Err(error(SqlState::INVALID_TABLE_DEFINITION, text.into()));
        }
        self.lock_table(target.oid, meridian_cluster::TableLockMode::ShareRowExclusive).await?;
        self.table_now(target.oid)
    }

    fn check_key_types(
        &self,
        table: &TableDesc,
        own: i16,
        target: &TableDesc,
        theirs: i16,
        name: &str,
    ) -> Result<()> {
        let (Some(a), Some(b)) = (table.column(own), target.column(theirs)) else {
            return Err(PgError::internal("a key column is gone"));
        };
        let family = |ty: Oid| builtin::type_by_oid(ty).map_or('\0', |t| t.category);
        let text_like = family(a.ty.oid) == 'S' && family(b.ty.oid) == 'S';
        let numbers = family(a.ty.oid) == 'N' && family(b.ty.oid) == 'N';
        let comparable = a.ty.oid == b.ty.oid
            || text_like
            || numbers
            || builtin::operator("=", b.ty.oid, a.ty.oid).is_some();
        if comparable {
            return Ok(());
        }
        let view = self.view();
        let text = format!("foreign key constraint \"{name}\" cannot be implemented");
        Err(error(SqlState::DATATYPE_MISMATCH, text).detail(format!(
            "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
            a.name,
            b.name,
            view.format_type(a.ty.oid, a.ty.typmod),
            view.format_type(b.ty.oid, b.ty.typmod)
        )))
    }
}

/// The unique key of a table that a foreign key means: its columns and the index that proves it.
fn referenced_key(target: &TableDesc, columns: &[String]) -> Result<(Vec<i16>, u16)> {
    if columns.is_empty() {
        if !target.primary().primary {
            let text = format!("there is no primary key for referenced table \"{}\"", target.name);
            return Err(error(SqlState::UNDEFINED_OBJECT, text));
        }
        let attnums = target.primary().columns.iter().filter_map(|c| c.attnum).collect();
        return Ok((attnums, immediate(target, PRIMARY_INDEX_ID, "primary key")?));
    }
    let attnums = key_attnums(target, columns, "foreign key")?;
    let proves = |index: &&IndexDesc| {
        index.unique
            && index.oid != 0
            && index.predicate.is_none()
            && index.columns.len() == attnums.len()
            && index.columns.iter().all(|c| c.attnum.is_some_and(|a| attnums.contains(&a)))
    };
    match target.indexes.iter().find(proves) {
        Some(index) => Ok((attnums, immediate(target, index.index_id, "unique constraint")?)),
        None => Err(error(
            SqlState::INVALID_FOREIGN_KEY,
            format!(
                "there is no unique constraint matching given keys for referenced table \"{}\"",
                target.name
            ),
        )),
    }
}

/// A key that may be there twice for a while is nothing to refer to.
fn immediate(target: &TableDesc, index_id: u16, what: &str) -> Result<u16> {
    if target.is_deferrable(index_id) {
        let text =
            format!("cannot use a deferrable {what} for referenced table \"{}\"", target.name);
        return Err(error(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text));
    }
    Ok(index_id)
}
