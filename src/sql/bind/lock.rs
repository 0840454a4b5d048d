//! FOR UPDATE and its kin.
//!
//! To lock a row its key is needed: the scans of the locked tables are given the key as a column
//! (attnum 0), which is carried up to the `LockRows`. A clause without OF means every table of
//! FROM, sub-queries and views included; one that names an alias means that item.

use std::sync::Arc;

use meridian_catalog::TableDesc;
use meridian_types::oid::BYTEA;
use meridian_types::{PgError, PgType, Result, SqlState};

use super::Binder;
use crate::ast;
use crate::expr::{ColumnId, Expr, ExprKind};
use crate::parse::lock_clause;
use crate::plan::TableLock;
use crate::rel::{Column, LockTarget, LockWait, Rel, RowLock};

/// What to lock.
#[derive(Clone, Debug)]
pub(crate) struct LockRequest {
    pub(crate) table: Arc<TableDesc>,
    pub(crate) strength: RowLock,
    pub(crate) wait: LockWait,
}

impl LockRequest {
    /// The lock by this key column.
    pub(crate) fn target(self, key: ColumnId) -> LockTarget {
        LockTarget { table: self.table, key, strength: self.strength, wait: self.wait }
    }

    /// The key column.
    pub(crate) fn key_column(&self, id: ColumnId) -> Column {
        key_column(id)
    }
}

/// A column that holds a row's key.
pub(crate) fn key_column(id: ColumnId) -> Column {
    Column { id, name: Arc::from("row key"), ty: PgType::new(BYTEA) }
}

/// The clause as PostgreSQL names it.
pub(crate) fn clause_name(lock: &ast::LockClause) -> &'static str {
    match strength(lock) {
        RowLock::Update => "FOR UPDATE",
        RowLock::NoKeyUpdate => "FOR NO KEY UPDATE",
        RowLock::Share => "FOR SHARE",
        RowLock::KeyShare => "FOR KEY SHARE",
    }
}

fn strength(lock: &ast::LockClause) -> RowLock {
    lock_clause(lock).0
}

impl Binder<'_> {
    /// Binds the clauses over a FROM tree; several for one table combine to the stronger.
    pub(crate) fn bind_lock_clauses(
        &mut self,
        clauses: &[ast::LockClause],
        from: &mut Rel,
    ) -> Result<Vec<(LockRequest, ColumnId)>> {
        let mut out: Vec<(LockRequest, ColumnId)> = Vec::new();
        for clause in clauses {
            let (strength, names, wait) = lock_clause(clause);
            let mut found = Vec::new();
            if names.is_empty() {
                self.add_keys(from, None, &mut found);
            }
            for name in &names {
                let only = self.locked_item(name, clause)?;
                self.add_keys(from, Some(&only), &mut found);
            }
            for (table, key) in found {
                self.note_table(&table, TableLock::RowShare);
                match out.iter_mut().find(|(_, k)| *k == key) {
                    Some((request, _)) => {
                        request.strength = request.strength.max(strength);
                        if request.wait == LockWait::Block || wait == LockWait::NoWait {
                            request.wait = wait;
                        }
                    }
                    None => out.push((LockRequest { table, strength, wait }, key)),
                }
            }
        }
        Ok(out)
    }

    /// The columns of the FROM item that OF names.
    fn locked_item(
        &mut self,
        name: &ast::Ident,
        clause: &ast::LockClause,
    ) -> Result<crate::walk::ColumnSet> {
        let word = clause_name(clause);
        let position = self.source.position(name.span.start);
        let wanted = name.value.as_str();
        let items = &self.scope().items;
        let found = items.iter().find(|i| i.alias.as_deref() == Some(wanted));
        let Some(item) = found else {
            let text = format!("relation \"{wanted}\" in {word} clause not found in FROM clause");
            return Err(PgError::new(SqlState::UNDEFINED_TABLE, text).at(position));
        };
        if item.join {
            let text = format!("{word} cannot be applied to a join");
            return Err(PgError::unsupported(text).at(position));
        }
        Ok(item.columns.iter().flat_map(|c| crate::walk::expr_columns(&c.expr)).collect())
    }

    /// Gives the scans under `rel` key columns: all of them, or those with one of these columns.
    fn add_keys(
        &mut self,
        rel: &mut Rel,
        only: Option<&crate::walk::ColumnSet>,
        out: &mut Vec<(Arc<TableDesc>, ColumnId)>,
    ) {
        match rel {
            Rel::Scan { table, columns, .. } => {
                let wanted = only.is_none_or(|o| columns.iter().any(|(c, _)| o.contains(&c.id)));
                if !wanted {
                    return;
                }
                let existing = columns.iter().find(|(_, attnum)| *attnum == 0).map(|(c, _)| c.id);
                let key = existing.unwrap_or_else(|| {
                    let id = self.next_key_id();
                    columns.push((key_column(id), 0));
                    id
                });
                out.push((table.clone(), key));
            }
            Rel::Project { input, exprs } => {
                // A sub-query or view: OF names one of its columns, all tables inside are meant.
                let wanted = only.is_none_or(|o| exprs.iter().any(|(c, _)| o.contains(&c.id)));
                let first = out.len();
                self.add_keys(input, if wanted { None } else { only }, out);
                for (_, key) in &out[first..] {
                    let carried = exprs
                        .iter()
                        .any(|(_, e)| matches!(e.kind, ExprKind::Column(id) if id == *key));
                    if !carried {
                        let column = key_column(*key);
                        let e = Expr::column(*key, column.ty);
                        exprs.push((column, e));
                    }
                }
            }
            Rel::Join { left, right, .. } | Rel::Apply { left, right, .. } => {
                self.add_keys(left, only, out);
                self.add_keys(right, only, out);
            }
            Rel::Filter { input, .. } | Rel::Sort { input, .. } => self.add_keys(input, only, out),
            _ => {}
        }
    }

    fn next_key_id(&mut self) -> ColumnId {
        self.new_column_id()
    }
}
