//! JOIN: conditions, USING and NATURAL with their merged columns, aliases of joins.

use std::sync::Arc;

use meridian_types::{PgError, Result, SqlState};

use super::from::{BoundItem, check_conflicts, combine};
use super::scope::{ScopeColumn, ScopeItem};
use super::values::common_typmod;
use super::{Binder, Clause};
use crate::ast;
use crate::expr::{Expr, ExprKind};
use crate::rel::{JoinKind, Rel};
use crate::walk;

impl Binder<'_> {
    /// Binds one JOIN onto what stands to its left.
    pub(crate) fn bind_join(&mut self, left: BoundItem, join: &ast::Join) -> Result<BoundItem> {
        let (kind, constraint) = join_kind(&join.join_operator)?;
        let count = left.1.len();
        let (rel, mut items) = self.bind_join_of(left, join, kind, constraint)?;
        self.note_padding(kind, count, &mut items);
        Ok((rel, items))
    }

    fn bind_join_of(
        &mut self,
        left: BoundItem,
        join: &ast::Join,
        kind: JoinKind,
        constraint: &ast::JoinConstraint,
    ) -> Result<BoundItem> {
        let (left_rel, left_items) = left;
        let lateral_ok = matches!(kind, JoinKind::Inner | JoinKind::Left);
        let mark = self.scope().items.len();
        let seen = left_items.iter().cloned().map(|mut i| {
            (i.lateral_only, i.lateral_ok) = (true, lateral_ok);
            i
        });
        let seen: Vec<ScopeItem> = seen.collect();
        self.scope().items.extend(seen);
        let right = self.bind_factor(&join.relation);
        self.scope().items.truncate(mark);
        let (right_rel, right_items) = right?;
        check_conflicts(&left_items, &right_items)?;
        match constraint {
            ast::JoinConstraint::None => {
                let rel = combine(kind, left_rel, right_rel, vec![]);
                Ok((rel, concat(left_items, right_items)))
            }
            ast::JoinConstraint::On(e) => {
                let items = concat(left_items, right_items);
                let outer = std::mem::replace(&mut self.scope().items, items);
                let on = self.bind_condition(e, Clause::JoinOn);
                let items = std::mem::replace(&mut self.scope().items, outer);
                let mut conjuncts = Vec::new();
                walk::conjuncts(on?, &mut conjuncts);
                Ok((combine(kind, left_rel, right_rel, conjuncts), items))
            }
            ast::JoinConstraint::Using(names) => {
                let (names, alias) = crate::parse::using_columns(names);
                let names: Vec<(Arc<str>, Option<u32>)> = names
                    .into_iter()
                    .map(|i| (Arc::from(i.value.as_str()), self.source.position(i.span.start)))
                    .collect();
                let sides = [(left_rel, left_items), (right_rel, right_items)];
                let (rel, mut items) = self.merge_join(kind, sides, &names)?;
                if let Some(alias) = alias {
                    let item = using_alias(&items, names.len(), &alias.value);
                    check_conflicts(&items, std::slice::from_ref(&item))?;
                    items.push(item);
                }
                Ok((rel, items))
            }
            ast::JoinConstraint::Natural => {
                let right_names: Vec<Arc<str>> =
                    visible(&right_items).map(|c| c.name.clone()).collect();
                let names: Vec<(Arc<str>, Option<u32>)> = visible(&left_items)
                    .filter(|c| right_names.contains(&c.name))
                    .map(|c| (c.name.clone(), None))
                    .collect();
                let sides = [(left_rel, left_items), (right_rel, right_items)];
                self.merge_join(kind, sides, &names)
            }
        }
    }

    /// A join by equally named columns, which become one.
    fn merge_join(
        &mut self,
        kind: JoinKind,
        sides: [BoundItem; 2],
        names: &[(Arc<str>, Option<u32>)],
    ) -> Result<BoundItem> {
        let [(left_rel, left_items), (right_rel, right_items)] = sides;
        let mut on = Vec::with_capacity(names.len());
        let mut merged: Vec<ScopeColumn> = Vec::with_capacity(names.len());
        for (i, (name, position)) in names.iter().enumerate() {
            if names[..i].iter().any(|(n, _)| n == name) {
                let text = format!("column name \"{name}\" appears more than once in USING clause");
                return Err(PgError::new(SqlState::DUPLICATE_COLUMN, text));
            }
            let left = using_column(&left_items, name, "left")?;
            let right = using_column(&right_items, name, "right")?;
            let (l, r) = (left.expr.clone(), right.expr.clone());
            let (left_arg, right_arg) = ((l.clone(), *position), (r.clone(), *position));
            on.push(self.make_operator("=", Some(left_arg), right_arg, *position)?);
            let ty = self.select_common_type(&[(&l, *position), (&r, *position)], "JOIN/USING")?;
            let ty = common_typmod(ty, [l.ty, r.ty].into_iter());
            let base = meridian_types::PgType::new(ty.oid);
            let mut side = |e: Expr| {
                if e.ty.oid == ty.oid {
                    Ok(e)
                } else {
                    self.coerce_to_common(e, base, "JOIN/USING", *position)
                }
            };
            let expr = match kind {
                JoinKind::Right => side(r)?,
                JoinKind::Full => {
                    let args = vec![side(l)?, side(r)?];
                    Expr { kind: ExprKind::Coalesce(args), ty }
                }
                _ => side(l)?,
            };
            let origin = match kind {
                JoinKind::Right => right.origin,
                JoinKind::Full => None,
                _ => left.origin,
            };
            merged.push(ScopeColumn { name: name.clone(), expr, origin, system: false });
        }
        let rel = combine(kind, left_rel, right_rel, on);
        let named = |c: &&ScopeColumn| !names.iter().any(|(n, _)| *n == c.name);
        let rest = visible(&left_items).filter(named).chain(visible(&right_items).filter(named));
        merged.extend(rest.cloned());
        let mut join = ScopeItem::new(None, merged);
        join.table_visible = false;
        join.lateral_ok = true;
        let mut items = concat(left_items, right_items);
        items.iter_mut().for_each(|i| i.columns_visible = false);
        items.push(join);
        Ok((rel, items))
    }

    /// `(a JOIN b …) AS j`: only `j` can be named from outside.
    pub(crate) fn alias_join(
        &mut self,
        bound: BoundItem,
        alias: &ast::TableAlias,
    ) -> Result<BoundItem> {
        let (rel, items) = bound;
        let columns: Vec<ScopeColumn> = visible(&items).cloned().collect();
        let mut item = ScopeItem::new(None, columns);
        (item.lateral_ok, item.join) = (true, true);
        super::from::apply_alias(&mut item, Some(alias), "unnamed_join")?;
        let rel = self.project_merged(rel, &mut item);
        Ok((rel, vec![item]))
    }

    /// Gives merged columns (COALESCE of a full join) a column of their own.
    fn project_merged(&mut self, rel: Rel, item: &mut ScopeItem) -> Rel {
        let mut extra = Vec::new();
        for column in &mut item.columns {
            if !matches!(column.expr.kind, ExprKind::Column(_) | ExprKind::Const(_)) {
                let new = self.new_column(column.name.clone(), column.expr.ty);
                let e = std::mem::replace(&mut column.expr, Expr::column(new.id, new.ty));
                extra.push((new, e));
            }
        }
        super::query::extended(rel, extra)
    }
}

/// `USING (…) AS j`: the merged columns alone under a name of their own, which hides nothing.
fn using_alias(items: &[ScopeItem], merged: usize, alias: &str) -> ScopeItem {
    let joined = items.last().map_or(&[][..], |join| &join.columns);
    let columns = joined.iter().take(merged).cloned().collect();
    let mut item = ScopeItem::new(Some(Arc::from(alias)), columns);
    item.columns_visible = false;
    item.lateral_ok = true;
    item
}

/// Columns that `*` finds, in order.
fn visible(items: &[ScopeItem]) -> impl Iterator<Item = &ScopeColumn> {
    items.iter().filter(|i| i.columns_visible).flat_map(|i| &i.columns).filter(|c| !c.system)
}

fn concat(mut left: Vec<ScopeItem>, right: Vec<ScopeItem>) -> Vec<ScopeItem> {
    left.extend(right);
    left.iter_mut().for_each(|i| (i.lateral_only, i.lateral_ok) = (false, true));
    left
}

fn using_column<'i>(items: &'i [ScopeItem], name: &str, side: &str) -> Result<&'i ScopeColumn> {
    let mut found = visible(items).filter(|c| *c.name == *name);
    let Some(first) = found.next() else {
        let text =
            format!("column \"{name}\" specified in USING clause does not exist in {side} table");
        return Err(PgError::new(SqlState::UNDEFINED_COLUMN, text));
    };
    if found.next().is_some() {
        let text = format!("common column name \"{name}\" appears more than once in {side} table");
        return Err(PgError::new(SqlState::AMBIGUOUS_COLUMN, text));
    }
    Ok(first)
}

fn join_kind(operator: &ast::JoinOperator) -> Result<(JoinKind, &ast::JoinConstraint)> {
    use ast::JoinOperator as J;
    Ok(match operator {
        J::Join(c) | J::Inner(c) | J::CrossJoin(c) => (JoinKind::Inner, c),
        J::Left(c) | J::LeftOuter(c) => (JoinKind::Left, c),
        J::Right(c) | J::RightOuter(c) => (JoinKind::Right, c),
        J::FullOuter(c) => (JoinKind::Full, c),
        _ => return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error in JOIN")),
    })
}
