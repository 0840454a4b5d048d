//! GROUP BY: what is grouped by, grouping sets, and the check that nothing else is read.
//!
//! A grouping expression that is not a plain column is computed below the `Aggregate` under a new
//! column, and every equal expression above is replaced by that column. Whatever then still reads a
//! column of FROM outside an aggregate is an error, unless the primary key of its table is grouped
//! by: such columns are grouped by as well.

use std::sync::Arc;

use meridian_catalog::{ConstraintKind, TableDesc};
use meridian_types::oid::INT4;
use meridian_types::{Datum, PgError, PgType, Result, SqlState};

use super::same::same;
use super::target::Target;
use super::{Binder, Clause};
use crate::ast;
use crate::expr::{ColumnId, Expr, ExprKind, FuncRef};
use crate::rel::{Column, Rel};
use crate::walk::{self, ColumnSet};

/// Most columns of a CUBE.
const CUBE_MAX: usize = 12;
/// Most grouping sets of a query.
const SETS_MAX: usize = 4096;

/// GROUP BY, bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grouping {
    /// What is grouped by: the expression below, the column above.
    pub(crate) by: Vec<(Expr, Column)>,
    /// GROUPING SETS, as indexes into `by`.
    pub(crate) sets: Option<Vec<Vec<usize>>>,
    /// The mask column, when GROUPING is called.
    pub(crate) mask: Option<Column>,
}

impl Binder<'_> {
    /// Binds GROUP BY.
    pub(crate) fn bind_group_by(
        &mut self,
        group_by: &ast::GroupByExpr,
        targets: &[Target],
    ) -> Result<Grouping> {
        let mut grouping = Grouping::default();
        let ast::GroupByExpr::Expressions(exprs, modifiers) = group_by else {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"ALL\""));
        };
        if !modifiers.is_empty() {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"WITH\""));
        }
        let plain = !exprs.iter().any(is_grouping_set);
        let mut sets: Vec<Vec<usize>> = vec![vec![]];
        for e in exprs {
            let factors = self.grouping_element(e, targets, &mut grouping)?;
            if sets.len() * factors.len() > SETS_MAX {
                let text = format!("too many grouping sets present (maximum {SETS_MAX})");
                return Err(PgError::new(SqlState::STATEMENT_TOO_COMPLEX, text));
            }
            sets = sets.iter().flat_map(|set| factors.iter().map(|f| union(set, f))).collect();
        }
        if !plain {
            grouping.sets = Some(sets);
        }
        Ok(grouping)
    }

    /// The sets that one element of GROUP BY stands for.
    fn grouping_element(
        &mut self,
        e: &ast::Expr,
        targets: &[Target],
        grouping: &mut Grouping,
    ) -> Result<Vec<Vec<usize>>> {
        match e {
            ast::Expr::Rollup(lists) => {
                let parts = self.grouping_lists(lists, targets, grouping)?;
                let prefixes = (0..=parts.len()).rev();
                Ok(prefixes.map(|n| parts[..n].iter().fold(vec![], |a, b| union(&a, b))).collect())
            }
            ast::Expr::Cube(lists) => {
                let parts = self.grouping_lists(lists, targets, grouping)?;
                if parts.len() > CUBE_MAX {
                    let text = format!("CUBE is limited to {CUBE_MAX} elements");
                    return Err(PgError::new(SqlState::TOO_MANY_COLUMNS, text).at(self.position(e)));
                }
                let masks = (0..1usize << parts.len()).rev();
                let last = parts.len();
                Ok(masks
                    .map(|mask| {
                        let chosen = parts.iter().enumerate();
                        chosen
                            .filter(|(i, _)| mask >> (last - 1 - i) & 1 == 1)
                            .fold(vec![], |a, (_, b)| union(&a, b))
                    })
                    .collect())
            }
            ast::Expr::GroupingSets(lists) => {
                let mut sets = Vec::new();
                for list in lists {
                    match list.as_slice() {
                        [inner] if is_grouping_set(inner) => {
                            sets.extend(self.grouping_element(inner, targets, grouping)?);
                        }
                        list => sets.push(self.grouping_set(list, targets, grouping)?),
                    }
                }
                Ok(sets)
            }
            ast::Expr::Tuple(items) => Ok(vec![self.grouping_set(items, targets, grouping)?]),
            e => Ok(vec![vec![self.grouping_expr(e, targets, grouping)?]]),
        }
    }

    fn grouping_lists(
        &mut self,
        lists: &[Vec<ast::Expr>],
        targets: &[Target],
        grouping: &mut Grouping,
    ) -> Result<Vec<Vec<usize>>> {
        lists.iter().map(|list| self.grouping_set(list, targets, grouping)).collect()
    }

    fn grouping_set(
        &mut self,
        list: &[ast::Expr],
        targets: &[Target],
        grouping: &mut Grouping,
    ) -> Result<Vec<usize>> {
        let mut set = Vec::new();
        for e in list {
            match e {
                ast::Expr::Tuple(items) => {
                    set = union(&set, &self.grouping_set(items, targets, grouping)?);
                }
                e => {
                    let at = self.grouping_expr(e, targets, grouping)?;
                    set = union(&set, &[at]);
                }
            }
        }
        Ok(set)
    }

    /// One expression: a column of FROM first, then an output name, an ordinal, or anything else.
    fn grouping_expr(
        &mut self,
        e: &ast::Expr,
        targets: &[Target],
        grouping: &mut Grouping,
    ) -> Result<usize> {
        let position = self.position(e);
        let columns: Vec<Column> = targets
            .iter()
            .enumerate()
            .map(|(i, t)| Column {
                id: ColumnId(u32::try_from(i).unwrap_or(u32::MAX)),
                name: t.name.clone(),
                ty: t.expr.ty,
            })
            .collect();
        let named = match e {
            ast::Expr::Identifier(i) if self.names_column(&i.value) => None,
            ast::Expr::Identifier(i) => {
                let matching = targets.iter().enumerate().filter(|(_, t)| *t.name == *i.value);
                let mut found: Option<usize> = None;
                for (at, target) in matching {
                    if found.is_some_and(|f| !same(&targets[f].expr, &target.expr)) {
                        let text = format!("GROUP BY \"{}\" is ambiguous", i.value);
                        return Err(PgError::new(SqlState::AMBIGUOUS_COLUMN, text).at(position));
                    }
                    found = Some(at);
                }
                found
            }
            e => self.output_position(e, &columns, "GROUP BY")?,
        };
        let expr = match named {
            Some(at) => {
                let mine = ColumnSet::from_iter(walk::expr_columns(&targets[at].expr));
                self.refuse_aggregate_in_group(&mine, position)?;
                targets[at].expr.clone()
            }
            None => {
                let bound = self.bind_expr(e, Clause::GroupBy)?;
                self.resolve_unknown(bound, position)?
            }
        };
        if let Some(at) = grouping.by.iter().position(|(g, _)| same(g, &expr)) {
            return Ok(at);
        }
        let column = match expr.kind {
            ExprKind::Column(id) => Column { id, name: Arc::from("group"), ty: expr.ty },
            _ => self.new_column("group", expr.ty),
        };
        grouping.by.push((expr, column));
        Ok(grouping.by.len() - 1)
    }

    fn refuse_aggregate_in_group(&mut self, used: &ColumnSet, position: Option<u32>) -> Result<()> {
        let scope = self.scope();
        if scope.aggregates.iter().any(|a| used.contains(&a.column.id)) {
            return Clause::GroupBy.check_aggregate(position);
        }
        if scope.windows.iter().any(|w| used.contains(&w.column.id)) {
            return Clause::GroupBy.check_window(position);
        }
        Ok(())
    }

    /// What the GROUPING calls of the level stand for, over the mask column.
    pub(crate) fn bind_grouping_calls(
        &mut self,
        grouping: &mut Grouping,
    ) -> Result<Vec<(Column, Expr)>> {
        let calls = std::mem::take(&mut self.scope().groupings);
        if calls.is_empty() {
            return Ok(vec![]);
        }
        let mask = self.new_column("grouping", PgType::new(INT4));
        grouping.mask = Some(mask.clone());
        let mut out = Vec::new();
        for call in calls {
            let mut value: Option<Expr> = None;
            for (i, arg) in call.args.iter().enumerate() {
                let Some(at) = grouping.by.iter().position(|(g, _)| same(g, arg)) else {
                    let text = "arguments to GROUPING must be grouping expressions of the associated query level";
                    return Err(PgError::new(SqlState::GROUPING_ERROR, text).at(call.position));
                };
                let bit = bit_of(&mask, grouping.by.len() - 1 - at, call.args.len() - 1 - i);
                value = Some(match value {
                    None => bit,
                    Some(v) => int4_call(1899, "int4or", "|", v, bit),
                });
            }
            let value = value.unwrap_or_else(|| int4(0));
            out.push((call.column, value));
        }
        Ok(out)
    }

    /// Adds the columns that depend on a grouped primary key, and refuses all others.
    pub(crate) fn check_grouped(
        &mut self,
        exprs: &[(&Expr, std::ops::Range<usize>)],
        from: &Rel,
        grouping: &mut Grouping,
    ) -> Result<()> {
        let of_from = walk::output_set(from);
        for (expr, uses) in exprs {
            for id in walk::expr_columns(expr) {
                let grouped = grouping.by.iter().any(|(_, c)| c.id == id);
                if grouped || !of_from.contains(&id) {
                    continue;
                }
                if let Some(column) = depends_on_key(from, id, grouping) {
                    let e = Expr::column(id, column.ty);
                    let at = grouping.by.len();
                    grouping.by.push((e, column));
                    grouping.sets.iter_mut().flatten().for_each(|set| set.push(at));
                    continue;
                }
                return Err(self.ungrouped(id, expr, uses.clone()));
            }
        }
        Ok(())
    }

    fn ungrouped(&mut self, id: ColumnId, expr: &Expr, uses: std::ops::Range<usize>) -> PgError {
        let scope = self.scope();
        let all = 0..scope.uses.len();
        let range = if uses.is_empty() || uses.end > all.end { all.clone() } else { uses };
        let in_range = scope.uses[range].iter().find(|u| u.id == id);
        let used = in_range.or_else(|| scope.uses.iter().find(|u| u.id == id));
        let (name, position) = match used {
            Some(u) => (u.display.clone(), u.position),
            None => ("?".to_owned(), None),
        };
        let text = if direct_use(expr, id) {
            format!(
                "column \"{name}\" must appear in the GROUP BY clause or be used in an aggregate function"
            )
        } else {
            format!("subquery uses ungrouped column \"{name}\" from outer query")
        };
        PgError::new(SqlState::GROUPING_ERROR, text).at(position)
    }
}

fn direct_use(expr: &Expr, id: ColumnId) -> bool {
    let mut found = false;
    walk::visit(expr, &mut |e| found |= matches!(e.kind, ExprKind::Column(c) if c == id));
    found
}

fn is_grouping_set(e: &ast::Expr) -> bool {
    match e {
        ast::Expr::Rollup(_) | ast::Expr::Cube(_) | ast::Expr::GroupingSets(_) => true,
        ast::Expr::Tuple(items) => items.is_empty(),
        _ => false,
    }
}

fn union(a: &[usize], b: &[usize]) -> Vec<usize> {
    let mut out = a.to_vec();
    b.iter().for_each(|i| {
        if !out.contains(i) {
            out.push(*i);
        }
    });
    out
}

/// The column, when the primary key of its table is among the groups of every set.
fn depends_on_key(from: &Rel, id: ColumnId, grouping: &Grouping) -> Option<Column> {
    let (table, columns) = scan_of(from, id)?;
    let key = table.constraints.iter().find_map(|c| match c.kind {
        ConstraintKind::PrimaryKey { index_id } if !c.deferrable => Some(index_id),
        _ => None,
    })?;
    let index = table.indexes.iter().find(|i| i.index_id == key)?;
    let grouped = |id: ColumnId| {
        let at = grouping.by.iter().position(|(_, c)| c.id == id);
        at.is_some_and(|at| grouping.sets.iter().flatten().all(|set| set.contains(&at)))
    };
    let all = index
        .columns
        .iter()
        .all(|k| columns.iter().any(|(c, attnum)| Some(*attnum) == k.attnum && grouped(c.id)));
    all.then(|| columns.iter().find(|(c, _)| c.id == id).map(|(c, _)| c.clone()))?
}

/// A scan's table and columns.
pub(crate) type Scanned<'r> = (&'r Arc<TableDesc>, &'r Vec<(Column, i16)>);

/// The table in FROM that makes this column.
pub(crate) fn scan_of(rel: &Rel, id: ColumnId) -> Option<Scanned<'_>> {
    match rel {
        Rel::Scan { table, columns, .. } => {
            columns.iter().any(|(c, _)| c.id == id).then_some((table, columns))
        }
        Rel::Join { left, right, .. } | Rel::Apply { left, right, .. } => {
            scan_of(left, id).or_else(|| scan_of(right, id))
        }
        Rel::Filter { input, .. } => scan_of(input, id),
        _ => None,
    }
}

/// Replaces every expression that is grouped by with its column, in sub-queries too.
pub(crate) fn replace_grouped(e: &mut Expr, by: &[(Expr, Column)]) {
    if by.iter().all(|(g, _)| matches!(g.kind, ExprKind::Column(_))) {
        return;
    }
    replace(e, by);
}

fn replace(e: &mut Expr, by: &[(Expr, Column)]) {
    if matches!(e.kind, ExprKind::Const(_) | ExprKind::Column(_) | ExprKind::Param(_)) {
        return;
    }
    if let Some((_, column)) = by.iter().find(|(g, _)| same(g, e)) {
        *e = Expr::column(column.id, column.ty);
        return;
    }
    walk::each_operand_mut(e, &mut |e| replace(e, by));
    if let Some(sub) = walk::subquery_of_mut(e)
        && !sub.outer.is_empty()
    {
        replace_in(Arc::make_mut(&mut sub.plan), by);
        sub.outer = walk::free_columns(&sub.plan).into_iter().collect();
    }
}

fn replace_in(rel: &mut Rel, by: &[(Expr, Column)]) {
    walk::each_input_mut(rel, &mut |r| replace_in(r, by));
    walk::each_expr_mut(rel, &mut |e| replace(e, by));
}

fn int4(v: i32) -> Expr {
    Expr::constant(Datum::Int4(v), PgType::new(INT4))
}

fn int4_call(oid: u32, prosrc: &str, operator: &str, left: Expr, right: Expr) -> Expr {
    let func = FuncRef {
        oid,
        name: Arc::from(prosrc),
        prosrc: Arc::from(prosrc),
        strict: true,
        volatility: b'i',
        operator: Some(Arc::from(operator)),
    };
    Expr { kind: ExprKind::Call { func, args: vec![left, right] }, ty: PgType::new(INT4) }
}

/// Bit `from` of the mask, moved to bit `to`.
fn bit_of(mask: &Column, from: usize, to: usize) -> Expr {
    let shift = |n: usize| int4(i32::try_from(n).unwrap_or(31));
    let mask = Expr::column(mask.id, mask.ty);
    let bit = int4_call(1903, "int4shr", ">>", mask, shift(from));
    let bit = int4_call(1898, "int4and", "&", bit, int4(1));
    if to == 0 { bit } else { int4_call(1902, "int4shl", "<<", bit, shift(to)) }
}
