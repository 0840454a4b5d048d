//! ON CONFLICT: which unique indexes arbitrate, and what DO UPDATE does.

use meridian_catalog::{ConstraintKind, IndexDesc, TableDesc};
use meridian_types::oid::BOOL;
use meridian_types::{PgError, PgType, Result, SqlState};

use super::same::same;
use super::write_target::WriteTarget;
use super::{Binder, Clause};
use crate::ast;
use crate::expr::{ColumnId, Expr, ExprKind};
use crate::parse::{ConflictTarget, conflict_target};
use crate::plan::{ConflictUpdate, OnConflict};
use crate::walk;

fn no_arbiter() -> PgError {
    let text = "ON CONFLICT does not support deferrable unique constraints/exclusion constraints as arbiters";
    PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text)
}

impl Binder<'_> {
    /// Binds ON CONFLICT of an INSERT into `table`, which is called `alias`.
    pub(crate) fn bind_on_conflict(
        &mut self,
        target: &WriteTarget,
        alias: &str,
        clause: &ast::OnConflict,
    ) -> Result<OnConflict> {
        let table = &target.table;
        let existing = self.row_ids(table);
        let arbiters = match &clause.conflict_target {
            Some(ast::ConflictTarget::Columns(columns)) => {
                let elements = conflict_target(columns)?;
                self.infer_arbiters(target, alias, &existing, &elements)?
            }
            Some(ast::ConflictTarget::OnConstraint(name)) => vec![self.arbiter(table, name)?],
            None if table.indexes.iter().any(|i| table.is_deferrable(i.index_id)) => {
                return Err(no_arbiter());
            }
            None => vec![],
        };
        let update = match &clause.action {
            ast::OnConflictAction::DoNothing => None,
            ast::OnConflictAction::DoUpdate(update) => {
                if clause.conflict_target.is_none() {
                    let text =
                        "ON CONFLICT DO UPDATE requires inference specification or constraint name";
                    let hint = "For example, ON CONFLICT (column_name).";
                    return Err(PgError::new(SqlState::SYNTAX_ERROR, text).hint(hint));
                }
                let excluded = self.row_ids(table);
                let items = vec![
                    self.target_item(target, alias, &existing)?,
                    self.target_item(target, "excluded", &excluded)?,
                ];
                self.push_items(items);
                let set = self
                    .bind_assignments(&target.named, &update.assignments)
                    .map_err(|e| target.explain(e, "UPDATE"))?;
                let filter = match &update.selection {
                    Some(e) => Some(self.bind_condition(e, Clause::Where)?),
                    None => None,
                };
                self.scopes.pop();
                Some(ConflictUpdate { existing, excluded, set, filter })
            }
        };
        Ok(OnConflict { arbiters, update })
    }

    /// The index of a constraint.
    fn arbiter(&self, table: &TableDesc, name: &ast::ObjectName) -> Result<u16> {
        let name = name.0.last().and_then(|p| p.as_ident()).map_or("", |i| i.value.as_str());
        let found = table.constraints.iter().find(|c| c.name == name);
        match found.map(|c| (&c.kind, c.deferrable)) {
            Some((
                ConstraintKind::PrimaryKey { index_id } | ConstraintKind::Unique { index_id },
                false,
            )) => Ok(*index_id),
            Some((_, true)) => Err(no_arbiter()),
            Some(_) => {
                let text = "constraint in ON CONFLICT clause has no associated index";
                Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text))
            }
            None => {
                let text =
                    format!("constraint \"{name}\" for table \"{}\" does not exist", table.name);
                Err(PgError::new(SqlState::UNDEFINED_OBJECT, text))
            }
        }
    }

    /// Every unique index over exactly these columns and expressions.
    fn infer_arbiters(
        &mut self,
        target: &WriteTarget,
        alias: &str,
        ids: &[ColumnId],
        inference: &ConflictTarget,
    ) -> Result<Vec<u16>> {
        let table = &*target.table;
        let item = self.target_item(target, alias, ids)?;
        self.push_items(vec![item]);
        let mut wanted: Vec<Expr> = Vec::new();
        for element in &inference.elements {
            let e = self.bind_expr(&element.expr, Clause::IndexExpression)?;
            if !wanted.iter().any(|w| same(w, &e)) {
                wanted.push(e);
            }
        }
        let mut predicate = Vec::new();
        if let Some(e) = &inference.predicate {
            let bound = self.bind_condition(e, Clause::IndexPredicate)?;
            walk::conjuncts(bound, &mut predicate);
        }
        self.scopes.pop();
        let mut out = Vec::new();
        for index in table.indexes.iter().filter(|i| i.unique && i.oid != 0) {
            if self.index_matches(table, alias, ids, index, &wanted, &predicate)? {
                out.push(index.index_id);
            }
        }
        if out.is_empty() {
            let text =
                "there is no unique or exclusion constraint matching the ON CONFLICT specification";
            return Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, text));
        }
        if out.iter().any(|index_id| table.is_deferrable(*index_id)) {
            return Err(no_arbiter());
        }
        Ok(out)
    }

    fn index_matches(
        &mut self,
        table: &TableDesc,
        alias: &str,
        ids: &[ColumnId],
        index: &IndexDesc,
        wanted: &[Expr],
        predicate: &[Expr],
    ) -> Result<bool> {
        let mut keys: Vec<Expr> = Vec::with_capacity(index.columns.len());
        for key in &index.columns {
            let e = match (key.attnum, &key.expr) {
                (Some(attnum), _) => {
                    let at = table.columns.iter().position(|c| c.attnum == attnum);
                    let Some(at) = at else { return Ok(false) };
                    Expr::column(ids[at], table.columns[at].ty)
                }
                (None, Some(text)) => {
                    let items = vec![Self::row_item(table, alias, ids)];
                    self.bind_text(text, items, Clause::IndexExpression, key.ty)?
                }
                (None, None) => return Ok(false),
            };
            if !keys.iter().any(|k| same_key(k, &e)) {
                keys.push(e);
            }
        }
        let all = keys.len() == wanted.len()
            && wanted.iter().all(|w| keys.iter().any(|k| same_key(k, w)));
        if !all {
            return Ok(false);
        }
        let Some(text) = &index.predicate else { return Ok(true) };
        let items = vec![Self::row_item(table, alias, ids)];
        let bool = PgType::new(BOOL);
        let bound = self.bind_text(text, items, Clause::IndexPredicate, bool)?;
        let mut needed = Vec::new();
        walk::conjuncts(bound, &mut needed);
        Ok(needed.iter().all(|n| predicate.iter().any(|p| same(n, p))))
    }
}

/// The same key; a column counts whatever its modifier.
fn same_key(a: &Expr, b: &Expr) -> bool {
    match (&a.kind, &b.kind) {
        (ExprKind::Column(a), ExprKind::Column(b)) => a == b,
        _ => same(a, b),
    }
}
