//! SELECT: binding in PostgreSQL's order, assembly from the bottom up.
//!
//! The clauses are bound in the order in which PostgreSQL analyses them, so that of several errors
//! the same one is reported: FROM, select list, WHERE, HAVING, ORDER BY, GROUP BY, DISTINCT,
//! windows, and last the check of grouping. Then the tree is put together: FROM, WHERE, aggregate,
//! HAVING, windows, set-returning functions, projection, DISTINCT, sort, locks, LIMIT.

use std::ops::Range;

use meridian_types::{PgError, Result, SqlState};

use super::group::{Grouping, replace_grouped};
use super::query::{Tail, extended, one_row, push_key, refuse_locks};
use super::same::{same, same_all};
use super::scope::{AggregateRef, Scope, SetRef};
use super::target::Target;
use super::window::BoundWindow;
use super::{Binder, BoundQuery, Clause};
use crate::ast;
use crate::expr::{ColumnId, Expr, ExprKind};
use crate::rel::{AggregateCall, Column, FunctionCall, Rel, SortKey};
use crate::walk;

/// DISTINCT, bound.
enum DistinctOn {
    No,
    All,
    /// Targets by index.
    Some(Vec<usize>),
}

/// A key of ORDER BY: a target by index.
struct OrderKey {
    target: usize,
    desc: bool,
    nulls_first: bool,
    position: Option<u32>,
}

/// The bound clauses of one SELECT.
pub(super) struct Parts {
    pub(super) from: Rel,
    /// The visible ones, then those that only ORDER BY and DISTINCT ON read.
    targets: Vec<Target>,
    visible: usize,
    filter: Option<Expr>,
    having: Option<(Expr, Range<usize>)>,
    order: Vec<OrderKey>,
    grouping: Grouping,
    pub(super) grouped: bool,
    distinct: DistinctOn,
    windows: Vec<BoundWindow>,
    keys: Vec<(super::lock::LockRequest, ColumnId)>,
}

impl Parts {
    /// Calls `f` on what is evaluated above the groups; set-returning calls are not among it.
    pub(super) fn each_expr_above_groups(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        self.targets.iter_mut().for_each(|t| f(&mut t.expr));
        self.having.iter_mut().for_each(|(e, _)| f(e));
        for window in &mut self.windows {
            window.each_expr_mut(f);
        }
    }
}

impl Binder<'_> {
    /// Binds a SELECT with what follows it.
    pub(crate) fn bind_select(
        &mut self,
        select: &ast::Select,
        tail: &Tail<'_>,
        resolve: bool,
    ) -> Result<BoundQuery> {
        self.scopes.push(Scope::default());
        let parts = self.bind_select_parts(select, tail, resolve);
        let assembled = match parts {
            Ok(parts) => self.assemble(parts),
            Err(e) => Err(e),
        };
        let own = self.scopes.pop().map(|s| s.items).unwrap_or_default();
        let (mut bound, keys, locks) = assembled?;
        // Locks are taken in the order of the result, on rows that LIMIT lets through.
        if !locks.is_empty() {
            bound.rel = Rel::LockRows { input: Box::new(bound.rel), locks };
        }
        bound.rel = self.bind_limit(bound.rel, tail, &keys, own)?;
        Ok(bound)
    }

    fn bind_select_parts(
        &mut self,
        select: &ast::Select,
        tail: &Tail<'_>,
        resolve: bool,
    ) -> Result<Parts> {
        refuse_foreign_syntax(select)?;
        let from = self.bind_from(&select.from)?;
        let mut targets = self.bind_targets(&select.projection, Clause::SelectTarget, resolve)?;
        let visible = targets.len();
        let filter = match &select.selection {
            Some(e) => Some(self.bind_condition(e, Clause::Where)?),
            None => None,
        };
        let having = match &select.having {
            Some(e) => {
                let start = self.scope().uses.len();
                let bound = self.bind_condition(e, Clause::Having)?;
                Some((bound, start..self.scope().uses.len()))
            }
            None => None,
        };
        let order = self.bind_order_by(tail.order_by, &mut targets, visible)?;
        let grouping = self.bind_group_by(&select.group_by, &targets)?;
        let distinct = self.bind_distinct(select, &mut targets, visible, &order)?;
        let windows = self.bind_windows(&select.named_window)?;
        let scope = self.scope();
        let grouped = having.is_some()
            || !scope.aggregates.is_empty()
            || !scope.groupings.is_empty()
            || !grouping.by.is_empty()
            || grouping.sets.is_some();
        let mut parts = Parts {
            from,
            targets,
            visible,
            filter,
            having,
            order,
            grouping,
            grouped,
            distinct,
            windows,
            keys: Vec::new(),
        };
        self.bind_locks(&mut parts, select, tail)?;
        Ok(parts)
    }

    fn bind_locks(
        &mut self,
        parts: &mut Parts,
        select: &ast::Select,
        tail: &Tail<'_>,
    ) -> Result<()> {
        if tail.locks.is_empty() {
            return Ok(());
        }
        let scope = self.scope();
        let refusal = if !matches!(parts.distinct, DistinctOn::No) {
            Some("DISTINCT clause")
        } else if !matches!(&select.group_by, ast::GroupByExpr::Expressions(e, _) if e.is_empty()) {
            Some("GROUP BY clause")
        } else if parts.having.is_some() {
            Some("HAVING clause")
        } else if !scope.aggregates.is_empty() {
            Some("aggregate functions")
        } else if !scope.windows.is_empty() {
            Some("window functions")
        } else if !scope.sets.is_empty() {
            Some("set-returning functions in the target list")
        } else {
            None
        };
        if let Some(what) = refusal {
            return refuse_locks(tail, what);
        }
        parts.keys = self.bind_lock_clauses(tail.locks, &mut parts.from)?;
        Ok(())
    }

    /// ORDER BY: an output name, an ordinal, or an expression over FROM.
    fn bind_order_by(
        &mut self,
        items: &[ast::OrderByExpr],
        targets: &mut Vec<Target>,
        visible: usize,
    ) -> Result<Vec<OrderKey>> {
        let mut keys: Vec<OrderKey> = Vec::with_capacity(items.len());
        for item in items {
            let position = self.position(&item.expr);
            let target =
                self.target_of(&item.expr, targets, visible, "ORDER BY", Clause::OrderBy)?;
            let desc = item.options.asc == Some(false);
            let nulls_first = item.options.nulls_first.unwrap_or(desc);
            self.check_sortable(targets[target].expr.ty.oid, position)?;
            keys.push(OrderKey { target, desc, nulls_first, position });
        }
        Ok(keys)
    }

    /// The target that an item of ORDER BY or DISTINCT ON means; a new one when there is none.
    fn target_of(
        &mut self,
        e: &ast::Expr,
        targets: &mut Vec<Target>,
        visible: usize,
        what: &str,
        clause: Clause,
    ) -> Result<usize> {
        let position = self.position(e);
        if let ast::Expr::Identifier(i) = e {
            let mut found: Option<usize> = None;
            for (at, target) in targets[..visible].iter().enumerate() {
                if *target.name != *i.value {
                    continue;
                }
                if found.is_some_and(|f| !same(&targets[f].expr, &target.expr)) {
                    let text = format!("{what} \"{}\" is ambiguous", i.value);
                    return Err(PgError::new(SqlState::AMBIGUOUS_COLUMN, text).at(position));
                }
                found = found.or(Some(at));
            }
            if let Some(at) = found {
                return Ok(at);
            }
        } else {
            let columns = numbered(&targets[..visible]);
            if let Some(at) = self.output_position(e, &columns, what)? {
                return Ok(at);
            }
        }
        let start = self.scope().uses.len();
        let bound = self.bind_expr(e, clause)?;
        let expr = self.resolve_unknown(bound, position)?;
        let uses = start..self.scope().uses.len();
        if let Some(at) = targets.iter().position(|t| same(&t.expr, &expr)) {
            return Ok(at);
        }
        let name = "?column?".into();
        targets.push(Target { name, expr, origin: None, position, uses });
        Ok(targets.len() - 1)
    }

    fn bind_distinct(
        &mut self,
        select: &ast::Select,
        targets: &mut Vec<Target>,
        visible: usize,
        order: &[OrderKey],
    ) -> Result<DistinctOn> {
        match &select.distinct {
            None | Some(ast::Distinct::All) => Ok(DistinctOn::No),
            Some(ast::Distinct::Distinct) => {
                if let Some(key) = order.iter().find(|k| k.target >= visible) {
                    let text =
                        "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
                    return Err(
                        PgError::new(SqlState::INVALID_COLUMN_REFERENCE, text).at(key.position)
                    );
                }
                for target in &targets[..visible] {
                    self.check_hashable_or_sortable(target.expr.ty.oid, target.position)?;
                }
                Ok(DistinctOn::All)
            }
            Some(ast::Distinct::On(exprs)) => {
                let mut on = Vec::new();
                for e in exprs {
                    let clause = Clause::DistinctOn;
                    let at = self.target_of(e, targets, visible, "DISTINCT ON", clause)?;
                    if !on.contains(&at) {
                        on.push(at);
                    }
                }
                self.check_distinct_order(&on, order, exprs)?;
                Ok(DistinctOn::Some(on))
            }
        }
    }

    /// DISTINCT ON expressions must be the first ones of ORDER BY, in any order.
    fn check_distinct_order(
        &self,
        on: &[usize],
        order: &[OrderKey],
        exprs: &[ast::Expr],
    ) -> Result<()> {
        let leading = order.iter().take_while(|k| on.contains(&k.target));
        let mut matched: Vec<usize> = Vec::new();
        let mut count = 0;
        for key in leading {
            count += 1;
            if !matched.contains(&key.target) {
                matched.push(key.target);
            }
        }
        let text = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions";
        let refuse = |at| Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, text).at(at));
        // A later key that is one of them comes after one that is not.
        if let Some(key) =
            order[count..].iter().find(|k| on.contains(&k.target) && !matched.contains(&k.target))
        {
            return refuse(key.position);
        }
        if count < order.len()
            && let Some(at) = on.iter().position(|t| !matched.contains(t))
        {
            return refuse(exprs.get(at).and_then(|e| self.position(e)));
        }
        Ok(())
    }

    /// Puts the tree together. Gives the sort keys for WITH TIES and the locks to be taken.
    fn assemble(
        &mut self,
        mut parts: Parts,
    ) -> Result<(BoundQuery, Vec<SortKey>, Vec<crate::rel::LockTarget>)> {
        self.install_markers(&mut parts);
        let mut rel = std::mem::replace(&mut parts.from, one_row());
        if let Some(filter) = parts.filter.take() {
            let mut predicates = Vec::new();
            walk::conjuncts(filter, &mut predicates);
            rel = walk::filtered(rel, predicates);
        }
        let mut sets = std::mem::take(&mut self.scope().sets);
        if parts.grouped {
            rel = self.assemble_groups(rel, &mut parts, &mut sets)?;
        }
        rel = self.assemble_windows(rel, std::mem::take(&mut parts.windows));
        rel = assemble_sets(rel, sets);
        let (mut rel, ids, columns) = self.assemble_targets(rel, &parts);
        let visible: Vec<Column> = columns[..parts.visible].to_vec();
        let mut keys: Vec<SortKey> = Vec::new();
        for k in &parts.order {
            let key = SortKey { column: ids[k.target], desc: k.desc, nulls_first: k.nulls_first };
            push_key(&mut keys, key);
        }
        match &parts.distinct {
            DistinctOn::No => rel = sorted(rel, &keys),
            DistinctOn::All => {
                let mut on: Vec<ColumnId> = visible.iter().map(|c| c.id).collect();
                on.sort_unstable();
                on.dedup();
                rel = sorted(Rel::Distinct { input: Box::new(rel), on }, &keys);
            }
            DistinctOn::Some(on) => {
                let on: Vec<ColumnId> = on.iter().map(|t| ids[*t]).collect();
                let mut sort = keys.clone();
                for id in &on {
                    let key = SortKey { column: *id, desc: false, nulls_first: false };
                    push_key(&mut sort, key);
                }
                rel = Rel::Distinct { input: Box::new(sorted(rel, &sort)), on };
            }
        }
        let origins = parts.targets[..parts.visible].iter().map(|t| t.origin).collect();
        let locks = parts.keys.into_iter().map(|(request, key)| request.target(key)).collect();
        Ok((BoundQuery { rel, columns: visible, origins }, keys, locks))
    }

    /// Aggregate and HAVING.
    fn assemble_groups(
        &mut self,
        rel: Rel,
        parts: &mut Parts,
        sets: &mut Vec<SetRef>,
    ) -> Result<Rel> {
        let aggregates = self.distinct_aggregates(parts, sets);
        let grouping_calls = self.bind_grouping_calls(&mut parts.grouping)?;
        let by = parts.grouping.by.clone();
        self.replace_above(parts, sets, &by);
        let mut above: Vec<(&Expr, Range<usize>)> =
            parts.targets.iter().map(|t| (&t.expr, t.uses.clone())).collect();
        above.extend(parts.having.iter().map(|(e, uses)| (e, uses.clone())));
        above.extend(parts.windows.iter().flat_map(BoundWindow::exprs).map(|e| (e, 0..0)));
        above.extend(sets.iter().flat_map(|s| &s.args).map(|e| (e, 0..0)));
        let mut grouping = std::mem::take(&mut parts.grouping);
        self.check_grouped(&above, &rel, &mut grouping)?;

        // Set-returning functions that are grouped by run below.
        let grouped_sets = take_sets(sets, grouping.by.iter().map(|(e, _)| e));
        let mut rel = assemble_sets(rel, grouped_sets);
        let computed = grouping
            .by
            .iter()
            .filter(|(e, c)| !matches!(e.kind, ExprKind::Column(id) if id == c.id))
            .map(|(e, c)| (c.clone(), e.clone()))
            .collect();
        rel = extended(rel, computed);
        rel = self.import_outer_groups(rel, &mut grouping);
        let calls = aggregates.into_iter().map(|a| (a.column, a.call)).collect();
        rel = Rel::Aggregate {
            input: Box::new(rel),
            group_by: grouping.by.iter().map(|(_, c)| c.id).collect(),
            grouping_sets: grouping.sets,
            aggregates: calls,
            grouping: grouping.mask,
        };
        rel = extended(rel, grouping_calls);
        if let Some((having, _)) = parts.having.take() {
            let mut predicates = Vec::new();
            walk::conjuncts(having, &mut predicates);
            rel = walk::filtered(rel, predicates);
        }
        Ok(rel)
    }

    /// The aggregates of the level; a call that is written twice is computed once.
    fn distinct_aggregates(&mut self, parts: &mut Parts, sets: &mut [SetRef]) -> Vec<AggregateRef> {
        let mut kept: Vec<AggregateRef> = Vec::new();
        let mut twins = std::collections::BTreeMap::new();
        for aggregate in std::mem::take(&mut self.scope().aggregates) {
            match kept.iter().find(|k| same_call(&k.call, &aggregate.call)) {
                Some(k) => {
                    let column = Expr::column(k.column.id, k.column.ty);
                    twins.insert(aggregate.column.id, column);
                }
                None => kept.push(aggregate),
            }
        }
        if !twins.is_empty() {
            let replace = |e: &mut Expr| walk::substitute(e, &twins);
            parts.targets.iter_mut().for_each(|t| replace(&mut t.expr));
            parts.having.iter_mut().for_each(|(e, _)| replace(e));
            parts.windows.iter_mut().for_each(|w| w.each_expr_mut(&mut |e| replace(e)));
            sets.iter_mut().flat_map(|s| &mut s.args).for_each(replace);
        }
        kept
    }

    /// A column of an outer query that is grouped by is carried as a column of this one.
    fn import_outer_groups(&mut self, rel: Rel, grouping: &mut Grouping) -> Rel {
        let made = walk::output_set(&rel);
        let mut extra = Vec::new();
        for (_, column) in &mut grouping.by {
            if !made.contains(&column.id) {
                let outer = Expr::column(column.id, column.ty);
                *column = self.new_column(column.name.clone(), column.ty);
                extra.push((column.clone(), outer));
            }
        }
        extended(rel, extra)
    }

    fn replace_above(&mut self, parts: &mut Parts, sets: &mut [SetRef], by: &[(Expr, Column)]) {
        parts.each_expr_above_groups(&mut |e| replace_grouped(e, by));
        sets.iter_mut().flat_map(|s| &mut s.args).for_each(|e| replace_grouped(e, by));
    }

    /// The projection: (relation, column of each target, output column of each target).
    fn assemble_targets(&mut self, rel: Rel, parts: &Parts) -> (Rel, Vec<ColumnId>, Vec<Column>) {
        let made = walk::output_set(&rel);
        let mut exprs: Vec<(Column, Expr)> = Vec::with_capacity(parts.targets.len());
        let mut columns = Vec::with_capacity(parts.targets.len());
        for target in &parts.targets {
            let column = match target.expr.kind {
                ExprKind::Column(id) if made.contains(&id) => {
                    Column { id, name: target.name.clone(), ty: target.expr.ty }
                }
                _ => self.new_column(target.name.clone(), target.expr.ty),
            };
            if exprs.iter().all(|(c, _)| c.id != column.id) {
                exprs.push((column.clone(), target.expr.clone()));
            }
            columns.push(column);
        }
        for (request, key) in &parts.keys {
            let column = request.key_column(*key);
            let e = Expr::column(column.id, column.ty);
            exprs.push((column, e));
        }
        let ids = columns.iter().map(|c| c.id).collect();
        (Rel::Project { input: Box::new(rel), exprs }, ids, columns)
    }
}

/// The same aggregate over the same values, neither of them volatile.
fn same_call(a: &AggregateCall, b: &AggregateCall) -> bool {
    let filter = match (&a.filter, &b.filter) {
        (None, None) => true,
        (Some(a), Some(b)) => same(a, b),
        _ => false,
    };
    a.func.oid == b.func.oid
        && a.distinct == b.distinct
        && filter
        && same_all(&a.args, &b.args)
        && a.order_by.len() == b.order_by.len()
        && a.order_by
            .iter()
            .zip(&b.order_by)
            .all(|(x, y)| same(&x.0, &y.0) && x.1 == y.1 && x.2 == y.2)
        && !a.args.iter().any(walk::is_volatile)
}

/// Sorted, if there is anything to sort by.
fn sorted(rel: Rel, keys: &[SortKey]) -> Rel {
    if keys.is_empty() {
        return rel;
    }
    Rel::Sort { input: Box::new(rel), keys: keys.to_vec() }
}

/// Targets as columns, for looking up by name and ordinal; an id stands for an expression.
fn numbered(targets: &[Target]) -> Vec<Column> {
    let column = |(i, t): (usize, &Target)| Column {
        id: ColumnId(u32::try_from(i).unwrap_or(u32::MAX)),
        name: t.name.clone(),
        ty: t.expr.ty,
    };
    targets.iter().enumerate().map(column).collect()
}

/// Takes out the set-returning calls that these expressions read, and those that they read.
fn take_sets<'e>(sets: &mut Vec<SetRef>, exprs: impl Iterator<Item = &'e Expr>) -> Vec<SetRef> {
    let mut used: walk::ColumnSet = exprs.flat_map(walk::expr_columns).collect();
    let mut taken = Vec::new();
    // An inner call comes before the one that reads it.
    for at in (0..sets.len()).rev() {
        if used.contains(&sets[at].column.id) {
            let set = sets.remove(at);
            set.args.iter().for_each(|e| used.extend(walk::expr_columns(e)));
            taken.insert(0, set);
        }
    }
    taken
}

/// Set-returning calls: those of one level of nesting run in lockstep, inner levels below.
pub(crate) fn assemble_sets(mut rel: Rel, mut sets: Vec<SetRef>) -> Rel {
    while !sets.is_empty() {
        let open: walk::ColumnSet = sets.iter().map(|s| s.column.id).collect();
        let reads_open = |s: &SetRef| {
            s.args.iter().any(|e| walk::expr_columns(e).iter().any(|c| open.contains(c)))
        };
        let (later, ready): (Vec<SetRef>, Vec<SetRef>) = sets.into_iter().partition(reads_open);
        let calls = ready
            .into_iter()
            .map(|s| FunctionCall {
                func: s.func,
                returns_set: true,
                args: s.args,
                columns: vec![s.column],
                expand: false,
            })
            .collect();
        rel = Rel::ProjectSet { input: Box::new(rel), calls };
        sets = later;
    }
    rel
}

/// What sqlparser reads and PostgreSQL does not have.
fn refuse_foreign_syntax(select: &ast::Select) -> Result<()> {
    if let Some(into) = &select.into {
        let text = "SELECT ... INTO is not allowed here";
        let _ = into;
        return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
    }
    if select.qualify.is_some() || select.top.is_some() || !select.lateral_views.is_empty() {
        return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error in SELECT"));
    }
    Ok(())
}
