//! UPDATE and DELETE.
//!
//! The source is the target joined with FROM or USING, filtered; it carries the whole old row and
//! its key. Of several source rows for one target row the executor takes the first.

use std::sync::Arc;

use meridian_types::{PgError, Result, SqlState};

use super::from::{check_conflicts, cross};
use super::scope::ScopeItem;
use super::write_target::WriteTarget;
use super::{Binder, BoundQuery, Clause};
use crate::ast;
use crate::expr::ColumnId;
use crate::plan::ModifyKind;
use crate::rel::Rel;
use crate::walk;

/// The target of UPDATE or DELETE.
struct Target {
    target: WriteTarget,
    rel: Rel,
    alias: Arc<str>,
    key: ColumnId,
    old: Vec<ColumnId>,
}

impl Binder<'_> {
    /// Binds UPDATE.
    pub(crate) fn bind_update(&mut self, update: &ast::Update) -> Result<BoundQuery> {
        if !update.table.joins.is_empty() || !update.order_by.is_empty() || update.limit.is_some() {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error in UPDATE"));
        }
        let (target, item) = self.bind_write_target(&update.table.relation, "UPDATE")?;
        let from: &[ast::TableWithJoins] = match &update.from {
            Some(ast::UpdateTableFromKind::AfterSet(from)) => from,
            Some(ast::UpdateTableFromKind::BeforeSet(_)) => {
                return Err(PgError::new(
                    SqlState::SYNTAX_ERROR,
                    "syntax error at or near \"FROM\"",
                ));
            }
            None => &[],
        };
        let Target { target, rel, alias, key, old } = target;
        let source = self.bind_write_source(rel, item, from)?;
        let set = self
            .bind_assignments(&target.named, &update.assignments)
            .map_err(|e| target.explain(e, "UPDATE"))?;
        let source = self.bind_write_filter(source, update.selection.as_ref())?;
        let new_columns = self.row_ids(&target.table);
        self.scope().items[0] = self.target_item(&target, &alias, &new_columns)?;
        let returning = self.bind_returning(update.returning.as_ref())?;
        self.scopes.pop();
        let kind = ModifyKind::Update { key, old, set };
        self.modify(&target, source, kind, new_columns, returning)
    }

    /// Binds DELETE.
    pub(crate) fn bind_delete(&mut self, delete: &ast::Delete) -> Result<BoundQuery> {
        let from = match &delete.from {
            ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from) => from,
        };
        let [only] = from.as_slice() else {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error in DELETE"));
        };
        if !only.joins.is_empty() || !delete.order_by.is_empty() || delete.limit.is_some() {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error in DELETE"));
        }
        let (target, item) = self.bind_write_target(&only.relation, "DELETE")?;
        let using = delete.using.as_deref().unwrap_or(&[]);
        let Target { target, rel, alias, key, old } = target;
        let source = self.bind_write_source(rel, item, using)?;
        let source = self.bind_write_filter(source, delete.selection.as_ref())?;
        let new_columns = self.row_ids(&target.table);
        self.scope().items[0] = self.target_item(&target, &alias, &new_columns)?;
        let returning = self.bind_returning(delete.returning.as_ref())?;
        self.scopes.pop();
        let kind = ModifyKind::Delete { key, old };
        self.modify(&target, source, kind, new_columns, returning)
    }

    fn bind_write_target(
        &mut self,
        factor: &ast::TableFactor,
        verb: &str,
    ) -> Result<(Target, ScopeItem)> {
        let ast::TableFactor::Table { name, alias, args: None, .. } = factor else {
            let text = format!("syntax error in {verb}");
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
        };
        let target = self.write_target(name, verb)?;
        let (rel, columns) = self.scan(&target.table, true);
        let Rel::Scan { columns: scanned, .. } = &rel else {
            return Err(PgError::internal("a scan is a scan"));
        };
        let (mut old, mut key) = (Vec::with_capacity(scanned.len()), None);
        for (column, attnum) in scanned {
            if *attnum == 0 { key = Some(column.id) } else { old.push(column.id) }
        }
        let key = key.ok_or_else(|| PgError::internal("a scan for writing has a key"))?;
        let name: &str = alias.as_ref().map_or(&target.named.name, |a| &a.name.value);
        let alias: Arc<str> = Arc::from(name);
        if target.view.is_some() {
            let row = self.target_row(&target, name, &old)?;
            let rel = walk::filtered(rel, row.filters);
            return Ok((Target { target, rel, alias, key, old }, row.item));
        }
        let mut item = ScopeItem::new(Some(alias.clone()), columns);
        item.row_type = target.table.row_type;
        item.lateral_ok = true;
        self.note_alias(&item, true);
        Ok((Target { target, rel, alias, key, old }, item))
    }

    /// The target and FROM or USING, in a level that stays on the stack.
    fn bind_write_source(
        &mut self,
        target: Rel,
        item: ScopeItem,
        from: &[ast::TableWithJoins],
    ) -> Result<Rel> {
        self.push_items(vec![]);
        if from.is_empty() {
            self.scope().items.push(item);
            return Ok(target);
        }
        let mut hidden = item.clone();
        (hidden.lateral_only, hidden.lateral_ok) = (true, false);
        hidden.table_visible = true;
        self.scope().items.push(hidden);
        let others = self.bind_from(from)?;
        let items = self.scope().items.split_off(1);
        check_conflicts(std::slice::from_ref(&item), &items)?;
        self.scope().items = std::iter::once(item).chain(items).collect();
        Ok(cross(target, others))
    }

    fn bind_write_filter(&mut self, source: Rel, filter: Option<&ast::Expr>) -> Result<Rel> {
        let Some(e) = filter else { return Ok(source) };
        let bound = self.bind_condition(e, Clause::Where)?;
        let mut predicates = Vec::new();
        walk::conjuncts(bound, &mut predicates);
        Ok(walk::filtered(source, predicates))
    }
}
