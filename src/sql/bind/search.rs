//! SEARCH and CYCLE of a recursive query, written out as columns.
//!
//! `SEARCH DEPTH FIRST BY a SET s` is a column `s` with the rows `(a)` on the way to each row, so
//! that ordering by it goes depth first; `BREADTH` keeps the depth and `a` instead. `CYCLE a SET m
//! USING p` is the same path and a mark on a row that is on its own path; such a row is not followed.

use std::sync::Arc;

use meridian_types::oid::{BOOL, INT8, RECORD, RECORD_ARRAY};
use meridian_types::{Datum, PgError, PgType, Result, SqlState};

use super::{Binder, Clause};
use crate::ast;
use crate::expr::{ColumnId, Expr, ExprKind, Quantifier};
use crate::parse::{CycleClause, SearchClause, cte_clauses};
use crate::rel::{Column, JoinKind, Rel};
use crate::walk;

/// The columns that the clauses add, and what they are made of.
#[derive(Default)]
pub(super) struct Marks {
    search: Option<Search>,
    cycle: Option<Cycle>,
}

struct Search {
    breadth: bool,
    by: Vec<usize>,
    column: Column,
}

struct Cycle {
    by: Vec<usize>,
    value: Expr,
    default: Expr,
    mark: Column,
    path: Column,
}

impl Marks {
    pub(super) fn columns(&self) -> Vec<Column> {
        let search = self.search.iter().map(|s| s.column.clone());
        search.chain(self.cycle.iter().flat_map(|c| [c.mark.clone(), c.path.clone()])).collect()
    }
}

fn syntax(text: String) -> PgError {
    PgError::new(SqlState::SYNTAX_ERROR, text)
}

/// Where the columns of a clause are.
fn places(what: &str, by: &[String], columns: &[Column]) -> Result<Vec<usize>> {
    for (i, name) in by.iter().enumerate() {
        if !columns.iter().any(|c| *c.name == **name) {
            let text = format!("{what} column \"{name}\" not in WITH query column list");
            return Err(syntax(text));
        }
        if by[..i].contains(name) {
            let text = format!("{what} column \"{name}\" specified more than once");
            return Err(PgError::new(SqlState::DUPLICATE_COLUMN, text));
        }
    }
    Ok(by.iter().filter_map(|name| columns.iter().position(|c| *c.name == **name)).collect())
}

fn check_new(what: &str, name: &str, columns: &[Column]) -> Result<()> {
    if columns.iter().any(|c| *c.name == *name) {
        let text = format!("{what} column name \"{name}\" already used in WITH query column list");
        return Err(syntax(text));
    }
    Ok(())
}

fn check_apart(search: &SearchClause, cycle: &CycleClause) -> Result<()> {
    let same = |what: &str| {
        Err(syntax(format!("search sequence column name and {what} column name are the same")))
    };
    match &search.set {
        set if *set == cycle.mark => same("cycle mark"),
        set if *set == cycle.path => same("cycle path"),
        _ => Ok(()),
    }
}

fn is_set_operation(term: &ast::SetExpr) -> bool {
    match term {
        ast::SetExpr::SetOperation { .. } => true,
        ast::SetExpr::Query(query) => is_set_operation(&query.body),
        _ => false,
    }
}

/// `ROW(…)` of some columns.
fn row(mut fields: Vec<Expr>, by: &[usize], columns: &[(ColumnId, PgType)]) -> Expr {
    fields.extend(by.iter().map(|i| Expr::column(columns[*i].0, columns[*i].1)));
    Expr { kind: ExprKind::Row(fields), ty: PgType::new(RECORD) }
}

fn list(row: Expr) -> Expr {
    let kind = ExprKind::Array { elements: vec![row], nested: false };
    Expr { kind, ty: PgType::new(RECORD_ARRAY) }
}

impl Binder<'_> {
    /// Checks the clauses and adds their columns to the non-recursive term.
    pub(super) fn first_marks(
        &mut self,
        cte: &ast::Cte,
        (left, right): (&ast::SetExpr, &ast::SetExpr),
        plan: &mut Rel,
        columns: &[Column],
    ) -> Result<Marks> {
        let clauses = cte_clauses(cte)?;
        if clauses.search.is_none() && clauses.cycle.is_none() {
            return Ok(Marks::default());
        }
        for (term, side) in [(left, "left"), (right, "right")] {
            if is_set_operation(term) {
                let text = format!(
                    "with a SEARCH or CYCLE clause, the {side} side of the UNION must be a SELECT"
                );
                return Err(PgError::unsupported(text));
            }
        }
        let mut marks = Marks::default();
        if let Some(search) = &clauses.search {
            let position = self.source.position(search.at);
            let by = places("search", &search.by, columns).map_err(|e| e.at(position))?;
            check_new("search sequence", &search.set, columns).map_err(|e| e.at(position))?;
            let ty = PgType::new(if search.breadth { RECORD } else { RECORD_ARRAY });
            let column = self.new_column(Arc::from(search.set.as_str()), ty);
            marks.search = Some(Search { breadth: search.breadth, by, column });
        }
        if let Some(cycle) = &clauses.cycle {
            let position = self.source.position(cycle.at);
            let by = places("cycle", &cycle.by, columns).map_err(|e| e.at(position))?;
            check_new("cycle mark", &cycle.mark, columns).map_err(|e| e.at(position))?;
            check_new("cycle path", &cycle.path, columns).map_err(|e| e.at(position))?;
            if cycle.mark == cycle.path {
                let text = "cycle mark column name and cycle path column name are the same";
                return Err(syntax(text.to_owned()).at(position));
            }
            if let Some(search) = &clauses.search {
                check_apart(search, cycle).map_err(|e| e.at(self.source.position(search.at)))?;
            }
            let (value, default) = self.cycle_values(cycle)?;
            let mark = self.new_column(Arc::from(cycle.mark.as_str()), value.ty);
            let path = PgType::new(RECORD_ARRAY);
            let path = self.new_column(Arc::from(cycle.path.as_str()), path);
            marks.cycle = Some(Cycle { by, value, default, mark, path });
        }
        let own: Vec<(ColumnId, PgType)> = columns.iter().map(|c| (c.id, c.ty)).collect();
        let mut extra = vec![];
        if let Some(search) = &marks.search {
            let first = match search.breadth {
                true => {
                    let depth = Expr::constant(Datum::Int8(0), PgType::new(INT8));
                    row(vec![depth], &search.by, &own)
                }
                false => list(row(vec![], &search.by, &own)),
            };
            extra.push((search.column.clone(), first));
        }
        if let Some(cycle) = &marks.cycle {
            extra.push((cycle.mark.clone(), cycle.default.clone()));
            extra.push((cycle.path.clone(), list(row(vec![], &cycle.by, &own))));
        }
        *plan = super::query::extended(walk::take(plan), extra);
        Ok(marks)
    }

    /// The mark's value in a row that closes a cycle, and in others.
    fn cycle_values(&mut self, cycle: &CycleClause) -> Result<(Expr, Expr)> {
        let boolean = |b: bool| Expr::constant(Datum::Bool(b), PgType::new(BOOL));
        let Some((value, default)) = &cycle.values else {
            return Ok((boolean(true), boolean(false)));
        };
        let (value_at, default_at) = (self.position(value), self.position(default));
        let value = self.bind_expr(value, Clause::SelectTarget)?;
        let default = self.bind_expr(default, Clause::SelectTarget)?;
        let both = [(&value, value_at), (&default, default_at)];
        let ty = self.select_common_type(&both, "CYCLE")?;
        let value = self.coerce_to_common(value, ty, "CYCLE", value_at)?;
        let default = self.coerce_to_common(default, ty, "CYCLE", default_at)?;
        self.check_hashable_or_sortable(ty.oid, None)?;
        Ok((value, default))
    }

    /// Adds the clauses' columns to the recursive term.
    pub(super) fn next_marks(
        &mut self,
        marks: &Marks,
        id: u32,
        name: &str,
        mut rel: Rel,
        mut ids: Vec<ColumnId>,
        base: &[Column],
    ) -> Result<(Rel, Vec<ColumnId>)> {
        let added = marks.columns();
        if added.is_empty() {
            return Ok((rel, ids));
        }
        let Some(before) = expose(&mut rel, id, added.len()) else {
            let text = format!(
                "with a SEARCH or CYCLE clause, the recursive reference to WITH query \"{name}\" must be at the top level of its right-hand SELECT"
            );
            return Err(PgError::unsupported(text));
        };
        let old: Vec<Expr> =
            before.iter().zip(&added).map(|(id, c)| Expr::column(*id, c.ty)).collect();
        let own: Vec<(ColumnId, PgType)> =
            ids.iter().zip(base).map(|(id, c)| (*id, c.ty)).collect();
        let mut old = old.into_iter();
        let mut next = vec![];
        if let Some(search) = &marks.search
            && let Some(last) = old.next()
        {
            next.push(match search.breadth {
                true => {
                    let depth = ExprKind::Field(Box::new(last), 0);
                    let depth = Expr { kind: depth, ty: PgType::new(INT8) };
                    let one = Expr::constant(Datum::Int8(1), PgType::new(INT8));
                    let depth = self.make_operator("+", Some((depth, None)), (one, None), None)?;
                    row(vec![depth], &search.by, &own)
                }
                false => self.appended(last, row(vec![], &search.by, &own))?,
            });
        }
        if let (Some(cycle), Some(mark), Some(path)) = (&marks.cycle, old.next(), old.next()) {
            let here = row(vec![], &cycle.by, &own);
            let (sought, way) = ((here.clone(), None), (path.clone(), None));
            let again = self.compare_array("=", sought, way, Quantifier::Any)?;
            let whens = vec![(again, cycle.value.clone())];
            let default = Some(Box::new(cycle.default.clone()));
            next.push(Expr { kind: ExprKind::Case { whens, default }, ty: cycle.value.ty });
            next.push(self.appended(path, here)?);
            let value = (cycle.value.clone(), None);
            let open = self.make_operator("<>", Some((mark, None)), value, None)?;
            rel = walk::filtered(rel, vec![open]);
        }
        let mut extra = vec![];
        for (column, e) in added.iter().zip(next) {
            let column = self.new_column(column.name.clone(), column.ty);
            ids.push(column.id);
            extra.push((column, e));
        }
        Ok((super::query::extended(rel, extra), ids))
    }

    fn appended(&mut self, path: Expr, row: Expr) -> Result<Expr> {
        self.make_operator("||", Some((path, None)), (list(row), None), None)
    }
}

/// Passes the last columns of the working table's rows on to the top.
fn expose(rel: &mut Rel, id: u32, last: usize) -> Option<Vec<ColumnId>> {
    match rel {
        Rel::CteScan { cte, columns } if *cte == id => {
            Some(columns[columns.len().saturating_sub(last)..].iter().map(|c| c.id).collect())
        }
        Rel::Project { input, exprs } => {
            let ids = expose(input, id, last)?;
            for column in walk::output(input).into_iter().filter(|c| ids.contains(&c.id)) {
                if exprs.iter().all(|(c, _)| c.id != column.id) {
                    let e = Expr::column(column.id, column.ty);
                    exprs.push((column, e));
                }
            }
            Some(ids)
        }
        Rel::Filter { input, .. } => expose(input, id, last),
        Rel::Join { kind: JoinKind::Inner, left, right, .. }
        | Rel::Apply { kind: JoinKind::Inner, left, right, .. } => {
            expose(left, id, last).or_else(|| expose(right, id, last))
        }
        Rel::Join { kind: JoinKind::Left, left, .. }
        | Rel::Apply { kind: JoinKind::Left, left, .. } => expose(left, id, last),
        _ => None,
    }
}
