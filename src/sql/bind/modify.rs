//! INSERT, UPDATE, DELETE: what they have in common.
//!
//! The row written is read by ids of its own (`new_columns`), over which RETURNING, checks and
//! generated columns are bound. Defaults, checks and generated expressions come from the table's
//! descriptor as text.

use std::sync::Arc;

use meridian_catalog::{ColumnDesc, ConstraintKind, Identity, Relation, TableDesc};
use meridian_types::oid::{BOOL, INT8, REGCLASS};
use meridian_types::{Datum, PgError, PgType, Result, SqlState};

use super::expr::row_fields;
use super::scope::{Scope, ScopeColumn, ScopeItem};
use super::values::is_default;
use super::write_target::WriteTarget;
use super::{Binder, BoundQuery, Clause};
use crate::ast;
use crate::expr::{ColumnId, Expr, ExprKind, FuncRef};
use crate::plan::{Modify, ModifyKind, TableLock};
use crate::rel::{Column, Rel};
use crate::resolve::CoercionContext;

/// `(constraint name, condition)` pairs.
pub(crate) type Checks = Vec<(String, Expr)>;
/// Checks, and generated columns by attnum.
pub(crate) type RowRules = (Checks, Vec<(i16, Expr)>);
/// RETURNING: its columns with their values, and the table columns that they are.
pub(crate) type Returning = (Vec<(Column, Expr)>, Vec<Option<(u32, i16)>>);

impl Binder<'_> {
    /// Binds a statement that writes; its columns are those of RETURNING.
    pub(crate) fn bind_modify_statement(
        &mut self,
        statement: &ast::Statement,
    ) -> Result<BoundQuery> {
        let base = self.scopes.len();
        let bound = match statement {
            ast::Statement::Insert(insert) => self.bind_insert(insert),
            ast::Statement::Update(update) => self.bind_update(update),
            ast::Statement::Delete(delete) => self.bind_delete(delete),
            ast::Statement::Merge(_) => Err(PgError::unsupported("MERGE is not supported yet")),
            _ => Err(PgError::internal("not a data-modifying statement")),
        };
        self.scopes.truncate(base);
        bound
    }

    /// The table to be written.
    pub(crate) fn target_table(
        &mut self,
        name: &ast::ObjectName,
        verb: &str,
    ) -> Result<Arc<TableDesc>> {
        let (schema, table, position) = self.split_name(name)?;
        let wrong =
            |text: String| Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text).at(position));
        if schema.is_none() && self.relations.ctes.iter().any(|c| *c.name == *table) {
            let text =
                format!("relation \"{table}\" cannot be the target of a modifying statement");
            return Err(PgError::new(SqlState::UNDEFINED_TABLE, text).at(position));
        }
        match self.find_relation(schema.as_deref(), &table, position)? {
            Relation::Table(desc) => {
                self.note_table(&desc, TableLock::RowExclusive);
                Ok(desc)
            }
            Relation::View(_) => {
                Err(PgError::unsupported(format!("{verb} of a view is not supported here yet")))
            }
            Relation::Virtual(v) => {
                let text = format!("permission denied: \"{}\" is a system catalog", v.name);
                Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text))
            }
            Relation::Sequence(s) => wrong(format!("cannot change sequence \"{}\"", s.name)),
            Relation::Index(..) => wrong(format!("cannot open relation \"{table}\"")),
        }
    }

    /// One id for each column of the table.
    pub fn row_ids(&mut self, table: &TableDesc) -> Vec<ColumnId> {
        table.columns.iter().map(|_| self.new_column_id()).collect()
    }

    /// An item by which the table's columns are read under these ids.
    pub(crate) fn row_item(table: &TableDesc, alias: &str, ids: &[ColumnId]) -> ScopeItem {
        let mut columns = Vec::with_capacity(ids.len());
        for (c, id) in table.columns.iter().zip(ids) {
            if !c.dropped && !c.hidden {
                let mut column = ScopeColumn::new(c.name.as_str(), *id, c.ty);
                column.origin = Some((table.oid, c.attnum));
                columns.push(column);
            }
        }
        columns.push(ScopeColumn {
            name: Arc::from("tableoid"),
            expr: Expr::constant(Datum::Oid(table.oid), PgType::new(meridian_types::oid::OID)),
            origin: None,
            system: true,
        });
        let mut item = ScopeItem::new(Some(Arc::from(alias)), columns);
        item.row_type = table.row_type;
        item.lateral_ok = true;
        item
    }

    /// The value of a column that none is given for.
    pub fn default_value(&mut self, column: &ColumnDesc) -> Result<Expr> {
        if column.generated {
            return Ok(Expr::constant(Datum::Null, column.ty));
        }
        if column.identity.is_some()
            && let Some(sequence) = column.sequence
        {
            return self.next_value(sequence, column.ty);
        }
        match &column.default {
            Some(text) => self.bind_text(text, vec![], Clause::ColumnDefault, column.ty),
            None if column.hidden => Ok(Expr { kind: ExprKind::Default, ty: column.ty }),
            None => Ok(Expr::constant(Datum::Null, column.ty)),
        }
    }

    fn next_value(&mut self, sequence: u32, ty: PgType) -> Result<Expr> {
        let func = FuncRef {
            oid: 1574,
            name: Arc::from("nextval"),
            prosrc: Arc::from("nextval_oid"),
            strict: true,
            volatility: b'v',
            operator: None,
        };
        let arg = Expr::constant(Datum::Oid(sequence), PgType::new(REGCLASS));
        let call = Expr { kind: ExprKind::Call { func, args: vec![arg] }, ty: PgType::new(INT8) };
        self.coerce_to(call, ty, CoercionContext::Assignment, None)
    }

    /// A value for a column, with the assignment cast and its error.
    pub(crate) fn assign_to_column(
        &mut self,
        e: Expr,
        column: &ColumnDesc,
        position: Option<u32>,
    ) -> Result<Expr> {
        let from = e.ty.oid;
        self.coerce_to(e, column.ty, CoercionContext::Assignment, position).map_err(|error| {
            let impossible =
                matches!(error.state(), SqlState::CANNOT_COERCE | SqlState::DATATYPE_MISMATCH);
            if !impossible || from == meridian_types::oid::UNKNOWN {
                return error;
            }
            let text = format!(
                "column \"{}\" is of type {} but expression is of type {}",
                column.name,
                self.display_type(column.ty.oid),
                self.display_type(from)
            );
            PgError::new(SqlState::DATATYPE_MISMATCH, text)
                .hint("You will need to rewrite or cast the expression.")
                .at(position)
        })
    }

    /// The column of this name, or 42703.
    pub(crate) fn target_column<'t>(
        &self,
        table: &'t TableDesc,
        ident: &ast::Ident,
    ) -> Result<&'t ColumnDesc> {
        let found = table.columns.iter().find(|c| c.name == ident.value && !c.dropped && !c.hidden);
        found.ok_or_else(|| {
            let text =
                format!("column \"{}\" of relation \"{}\" does not exist", ident.value, table.name);
            let position = self.source.position(ident.span.start);
            PgError::new(SqlState::UNDEFINED_COLUMN, text).at(position)
        })
    }

    /// SET: `a = x`, `a[1] = x`, `(a, b) = (x, y)`, `(a, b) = (SELECT …)`, `a = DEFAULT`.
    pub(crate) fn bind_assignments(
        &mut self,
        table: &TableDesc,
        assignments: &[ast::Assignment],
    ) -> Result<Vec<(i16, Expr)>> {
        let mut out: Vec<(i16, Expr)> = Vec::new();
        let mut parts: Vec<i16> = Vec::new();
        for assignment in assignments {
            match &assignment.target {
                ast::AssignmentTarget::ColumnName(name) => {
                    let subscripts = crate::parse::assigned_part(name)?;
                    if subscripts.is_empty() {
                        let column = self.assigned_column(table, name)?;
                        let e = self.bind_assigned(column, &assignment.value)?;
                        push_assignment(&mut out, column, e)?;
                        continue;
                    }
                    let Some(first) = name.0.first().and_then(|p| p.as_ident()) else { continue };
                    let column = self.target_column(table, first)?;
                    let before = out.iter().position(|(a, _)| *a == column.attnum);
                    let base = match before.filter(|_| parts.contains(&column.attnum)) {
                        Some(at) => out.swap_remove(at).1,
                        None => self.old_value(column)?,
                    };
                    let position = self.source.position(first.span.start);
                    let e =
                        self.bind_part(column, base, &subscripts, &assignment.value, position)?;
                    push_assignment(&mut out, column, e)?;
                    parts.push(column.attnum);
                }
                ast::AssignmentTarget::Tuple(names) => {
                    self.bind_tuple(table, names, &assignment.value, &mut out)?;
                }
            }
        }
        Ok(out)
    }

    fn bind_tuple(
        &mut self,
        table: &TableDesc,
        names: &[ast::ObjectName],
        value: &ast::Expr,
        out: &mut Vec<(i16, Expr)>,
    ) -> Result<()> {
        let position = self.position(value);
        let mismatch = || {
            let text = "number of columns does not match number of values";
            PgError::new(SqlState::SYNTAX_ERROR, text).at(position)
        };
        let columns =
            names.iter().map(|n| self.assigned_column(table, n)).collect::<Result<Vec<_>>>()?;
        if let Some(query) = subquery(value) {
            // One sub-query for each column, each bound anew so that their columns differ.
            for (i, column) in columns.iter().enumerate() {
                let (mut sub, output) = self.bind_subquery(query)?;
                if output.len() != columns.len() {
                    return Err(mismatch());
                }
                sub.output = vec![output[i].id];
                let e = Expr { kind: ExprKind::ScalarSubquery(sub), ty: output[i].ty };
                let e = self.assign_to_column(e, column, position)?;
                push_assignment(out, column, e)?;
            }
            return Ok(());
        }
        let items = match row_fields(value) {
            Some(items) => items,
            None => {
                let text = "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression";
                return Err(PgError::unsupported(text).at(position));
            }
        };
        if items.iter().any(|i| matches!(i, ast::Expr::QualifiedWildcard(..))) {
            return self.bind_row_assignment(&columns, value, items, out);
        }
        if items.len() != columns.len() {
            return Err(mismatch());
        }
        for (column, value) in columns.into_iter().zip(items) {
            let e = self.bind_assigned(column, value)?;
            push_assignment(out, column, e)?;
        }
        Ok(())
    }

    /// `(a, b) = ROW(t.*)`
    fn bind_row_assignment(
        &mut self,
        columns: &[&ColumnDesc],
        value: &ast::Expr,
        items: &[ast::Expr],
        out: &mut Vec<(i16, Expr)>,
    ) -> Result<()> {
        let position = self.position(value);
        let row = self.bind_row(items, Clause::UpdateSource)?;
        let ExprKind::Row(fields) = row.kind else {
            return Err(PgError::internal("a row has fields"));
        };
        if fields.len() != columns.len() {
            let text = "number of columns does not match number of values";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
        }
        for (column, field) in columns.iter().zip(fields) {
            refuse_always(column)?;
            let e = self.assign_to_column(field, column, position)?;
            push_assignment(out, column, e)?;
        }
        Ok(())
    }

    fn assigned_column<'t>(
        &self,
        table: &'t TableDesc,
        name: &ast::ObjectName,
    ) -> Result<&'t ColumnDesc> {
        let idents: Vec<&ast::Ident> = name.0.iter().filter_map(|p| p.as_ident()).collect();
        match idents.as_slice() {
            [one] => self.target_column(table, one),
            [first, ..] => {
                let column = self.target_column(table, first)?;
                let text = format!(
                    "assignment to a field of column \"{}\" is not supported yet",
                    column.name
                );
                Err(PgError::unsupported(text))
            }
            [] => Err(PgError::internal("an assignment without a target")),
        }
    }

    fn bind_assigned(&mut self, column: &ColumnDesc, value: &ast::Expr) -> Result<Expr> {
        let position = self.position(value);
        if is_default(value) {
            return self.default_value(column);
        }
        refuse_always(column)?;
        let e = self.bind_expr(value, Clause::UpdateSource)?;
        self.assign_to_column(e, column, position)
    }

    /// RETURNING over the innermost scope.
    pub(crate) fn bind_returning(
        &mut self,
        returning: Option<&Vec<ast::SelectItem>>,
    ) -> Result<Returning> {
        let Some(items) = returning else { return Ok((vec![], vec![])) };
        let targets = self.bind_targets(items, Clause::Returning, true)?;
        let origins = targets.iter().map(|t| t.origin).collect();
        let columns = self.target_columns(&targets);
        Ok((columns.into_iter().zip(targets.into_iter().map(|t| t.expr)).collect(), origins))
    }

    /// A condition over a row of the table, whose columns are read by these ids.
    pub fn bind_row_condition(
        &mut self,
        table: &TableDesc,
        ids: &[ColumnId],
        e: &ast::Expr,
        clause: Clause,
    ) -> Result<Expr> {
        self.push_items(vec![Self::row_item(table, &table.name, ids)]);
        let bound = self.bind_condition(e, clause);
        self.scopes.pop();
        bound
    }

    /// Checks and generated columns over the row written.
    pub fn bind_row_rules(&mut self, table: &TableDesc, ids: &[ColumnId]) -> Result<RowRules> {
        let item = || vec![Self::row_item(table, &table.name, ids)];
        let mut checks = Vec::new();
        for constraint in &table.constraints {
            if let ConstraintKind::Check { expr, .. } = &constraint.kind {
                let bool = PgType::new(BOOL);
                let e = self.bind_text(expr, item(), Clause::CheckConstraint, bool)?;
                checks.push((constraint.name.clone(), e));
            }
        }
        // PostgreSQL checks in the order of the names.
        checks.sort_by(|a, b| a.0.cmp(&b.0));
        let mut generated = Vec::new();
        for column in table.columns.iter().filter(|c| c.generated && !c.dropped) {
            if let Some(text) = &column.default {
                let e = self.bind_text(text, item(), Clause::GeneratedColumn, column.ty)?;
                generated.push((column.attnum, e));
            }
        }
        Ok((checks, generated))
    }

    /// Puts a `Modify` together.
    pub(crate) fn modify(
        &mut self,
        target: &WriteTarget,
        source: Rel,
        kind: ModifyKind,
        new_columns: Vec<ColumnId>,
        returning: Returning,
    ) -> Result<BoundQuery> {
        let table = target.table.clone();
        let view_checks = match kind {
            ModifyKind::Delete { .. } => vec![],
            _ => self.target_row(target, &table.name, &new_columns)?.checks,
        };
        let (checks, generated) = match kind {
            ModifyKind::Delete { .. } => (vec![], vec![]),
            _ => self.bind_row_rules(&table, &new_columns)?,
        };
        let (returning, origins) = returning;
        let columns = returning.iter().map(|(c, _)| c.clone()).collect();
        let modify =
            Modify { table, source, kind, returning, new_columns, checks, view_checks, generated };
        Ok(BoundQuery { rel: Rel::Modify(Box::new(modify)), columns, origins })
    }

    /// Pushes a level with these items.
    pub(crate) fn push_items(&mut self, items: Vec<ScopeItem>) {
        self.scopes.push(Scope::with_items(items));
    }
}

/// A column whose value the table gives itself takes none but DEFAULT.
fn refuse_always(column: &ColumnDesc) -> Result<()> {
    let detail = if column.generated {
        Some(format!("Column \"{}\" is a generated column.", column.name))
    } else if column.identity == Some(Identity::Always) {
        Some(format!(
            "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
            column.name
        ))
    } else {
        None
    };
    if let Some(detail) = detail {
        let text = format!("column \"{}\" can only be updated to DEFAULT", column.name);
        return Err(PgError::new(SqlState::GENERATED_ALWAYS, text).detail(detail));
    }
    Ok(())
}

fn push_assignment(out: &mut Vec<(i16, Expr)>, column: &ColumnDesc, e: Expr) -> Result<()> {
    if out.iter().any(|(attnum, _)| *attnum == column.attnum) {
        let text = format!("multiple assignments to same column \"{}\"", column.name);
        return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
    }
    out.push((column.attnum, e));
    Ok(())
}

fn subquery(value: &ast::Expr) -> Option<&ast::Query> {
    match value {
        ast::Expr::Subquery(q) => Some(q),
        ast::Expr::Nested(inner) => subquery(inner),
        _ => None,
    }
}
