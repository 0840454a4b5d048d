//! INSERT.
//!
//! The source gives one column for each column named; `ModifyKind::Insert::values` fills in the
//! defaults of the rest. A DEFAULT inside VALUES is replaced where it stands.

use meridian_catalog::{ColumnDesc, Identity};
use meridian_types::{PgError, Result, SqlState};

use super::query::{Tail, one_row};
use super::scope::Scope;
use super::values::is_default;
use super::write_target::WriteTarget;
use super::{Binder, BoundQuery, Clause};
use crate::ast;
use crate::expr::{ColumnId, Expr};
use crate::parse::insert_alias;
use crate::plan::ModifyKind;
use crate::rel::{Column, Rel};

/// What OVERRIDING says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overriding {
    /// Nothing.
    None,
    /// OVERRIDING SYSTEM VALUE
    System,
    /// OVERRIDING USER VALUE
    User,
}

/// The rows to insert: a relation, and its column for each target column.
struct Source {
    rel: Rel,
    columns: Vec<Option<ColumnId>>,
}

impl Binder<'_> {
    /// Binds INSERT.
    pub(crate) fn bind_insert(&mut self, insert: &ast::Insert) -> Result<BoundQuery> {
        let ast::TableObject::TableName(name) = &insert.table else {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error in INSERT"));
        };
        let target = self.write_target(name, "INSERT")?;
        let table = target.table.clone();
        let overriding = overriding(insert);
        let targets = self
            .insert_targets(&target, &insert.columns)
            .map_err(|e| target.explain(e, "INSERT"))?;
        let explicit = !insert.columns.is_empty();
        let width = targets.len();
        let source = self
            .bind_insert_source(insert, &targets, explicit, overriding)
            .map_err(|e| if explicit { e } else { target.too_many(e, width + 1) })?;
        let mut values: Vec<Expr> = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            let at = targets.iter().position(|(t, _)| t.attnum == column.attnum);
            let given = at.and_then(|at| source.columns.get(at).copied().flatten());
            let ignored = overriding == Overriding::User && column.identity.is_some();
            values.push(match given {
                Some(id) if !ignored => Expr::column(id, column.ty),
                _ if column.dropped => Expr::constant(meridian_types::Datum::Null, column.ty),
                _ => self.default_value(column)?,
            });
        }
        let alias = insert_alias(insert).map_or(target.named.name.as_str(), |a| &a.value);
        let new_columns = self.row_ids(&table);
        let aliased = target.view.is_none();
        self.note_alias(&Self::row_item(&table, alias, &new_columns), aliased);
        let on_conflict = match &insert.on {
            None => None,
            Some(ast::OnInsert::OnConflict(c)) => Some(self.bind_on_conflict(&target, alias, c)?),
            Some(_) => {
                return Err(PgError::new(
                    SqlState::SYNTAX_ERROR,
                    "syntax error at or near \"DUPLICATE\"",
                ));
            }
        };
        let item = self.target_item(&target, alias, &new_columns)?;
        self.push_items(vec![item]);
        let returning = self.bind_returning(insert.returning.as_ref())?;
        self.scopes.pop();
        let kind = ModifyKind::Insert { values, on_conflict };
        self.modify(&target, source.rel, kind, new_columns, returning)
    }

    /// The columns that values are given for, in order, and where they were named.
    fn insert_targets<'t>(
        &self,
        target: &'t WriteTarget,
        names: &[ast::ObjectName],
    ) -> Result<Vec<(&'t ColumnDesc, Option<u32>)>> {
        let table = &*target.named;
        if names.is_empty() {
            let all = target.columns.iter().map_while(|attnum| table.column((*attnum)?));
            return Ok(all.map(|c| (c, None)).collect());
        }
        let mut out: Vec<(&ColumnDesc, Option<u32>)> = Vec::with_capacity(names.len());
        for name in names {
            let Some(ident) = name.0.first().and_then(|p| p.as_ident()) else {
                return Err(PgError::internal("a column list without names"));
            };
            let position = self.source.position(ident.span.start);
            let column = self.target_column(table, ident)?;
            if name.0.len() > 1 {
                let text = "INSERT into a field of a column is not supported yet";
                return Err(PgError::unsupported(text).at(position));
            }
            if out.iter().any(|(c, _)| c.attnum == column.attnum) {
                let text = format!("column \"{}\" specified more than once", ident.value);
                return Err(PgError::new(SqlState::DUPLICATE_COLUMN, text).at(position));
            }
            out.push((column, position));
        }
        Ok(out)
    }

    fn bind_insert_source(
        &mut self,
        insert: &ast::Insert,
        targets: &[(&ColumnDesc, Option<u32>)],
        explicit: bool,
        overriding: Overriding,
    ) -> Result<Source> {
        let Some(query) = &insert.source else {
            return Ok(Source { rel: one_row(), columns: vec![] });
        };
        if let ast::SetExpr::Values(values) = query.body.as_ref()
            && query.with.is_none()
            && Tail::of(query)?.is_empty()
        {
            return self.bind_insert_values(values, targets, explicit, overriding);
        }
        let positions = self.first_position(&query.body);
        let bound = self.bind_query_as(query, false)?;
        self.check_width(bound.columns.len(), targets, explicit, |_| None)?;
        for (column, _) in &targets[..bound.columns.len()] {
            refuse_generated(column, overriding)?;
        }
        let types: Vec<_> =
            bound.columns.iter().zip(targets).map(|(_, (column, _))| column.ty).collect();
        let bound = self.coerce_columns(bound, &types, &positions, &mut |binder, i, e| {
            binder.assign_to_column(e, targets[i].0, positions.get(i).copied().flatten())
        })?;
        let columns = bound.columns.iter().map(|c| Some(c.id)).collect();
        Ok(Source { rel: bound.rel, columns })
    }

    fn bind_insert_values(
        &mut self,
        values: &ast::Values,
        targets: &[(&ColumnDesc, Option<u32>)],
        explicit: bool,
        overriding: Overriding,
    ) -> Result<Source> {
        let width = values.rows.first().map_or(0, |r| r.content.len());
        let single = values.rows.len() == 1;
        let clause = if single { Clause::ValuesSingle } else { Clause::Values };
        let mut rows = Vec::with_capacity(values.rows.len());
        self.scopes.push(Scope::default());
        for row in &values.rows {
            if row.content.len() != width {
                let position = row.content.first().and_then(|e| self.position(e));
                let text = "VALUES lists must all be the same length";
                return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
            }
            self.check_width(width, targets, explicit, |i| row.content.get(i))?;
            let mut bound = Vec::with_capacity(width);
            for (e, (column, _)) in row.content.iter().zip(targets) {
                bound.push(self.bind_insert_value(e, column, clause, overriding)?);
            }
            rows.push(bound);
        }
        let sets = std::mem::take(&mut self.scope().sets);
        self.scopes.pop();
        let columns: Vec<Column> =
            targets[..width].iter().map(|(c, _)| self.new_column(c.name.as_str(), c.ty)).collect();
        let ids = columns.iter().map(|c| Some(c.id)).collect();
        if sets.is_empty() {
            return Ok(Source { rel: Rel::Values { columns, rows }, columns: ids });
        }
        let input = Box::new(super::select::assemble_sets(one_row(), sets));
        let row = rows.pop().unwrap_or_default();
        let exprs = columns.into_iter().zip(row).collect();
        Ok(Source { rel: Rel::Project { input, exprs }, columns: ids })
    }

    fn bind_insert_value(
        &mut self,
        e: &ast::Expr,
        column: &ColumnDesc,
        clause: Clause,
        overriding: Overriding,
    ) -> Result<Expr> {
        if is_default(e) {
            return self.default_value(column);
        }
        refuse_generated(column, overriding)?;
        let position = self.position(e);
        let bound = self.bind_expr(e, clause)?;
        self.assign_to_column(bound, column, position)
    }

    /// As many values as columns; fewer only when the columns were not named.
    fn check_width<'q>(
        &self,
        width: usize,
        targets: &[(&ColumnDesc, Option<u32>)],
        explicit: bool,
        value: impl Fn(usize) -> Option<&'q ast::Expr>,
    ) -> Result<()> {
        if width > targets.len() {
            let position = value(targets.len()).and_then(|e| self.position(e));
            let text = "INSERT has more expressions than target columns";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
        }
        if explicit && width < targets.len() {
            let text = "INSERT has more target columns than expressions";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(targets[width].1));
        }
        Ok(())
    }
}

fn overriding(insert: &ast::Insert) -> Overriding {
    match crate::parse::overriding(insert) {
        Some(false) => Overriding::System,
        Some(true) => Overriding::User,
        None => Overriding::None,
    }
}

/// A column that the database fills in takes no other value.
fn refuse_generated(column: &ColumnDesc, overriding: Overriding) -> Result<()> {
    let text = || format!("cannot insert a non-DEFAULT value into column \"{}\"", column.name);
    if column.generated {
        let detail = format!("Column \"{}\" is a generated column.", column.name);
        return Err(PgError::new(SqlState::GENERATED_ALWAYS, text()).detail(detail));
    }
    if column.identity == Some(Identity::Always) && overriding == Overriding::None {
        let detail = format!(
            "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
            column.name
        );
        let error = PgError::new(SqlState::GENERATED_ALWAYS, text()).detail(detail);
        return Err(error.hint("Use OVERRIDING SYSTEM VALUE to override."));
    }
    Ok(())
}
