//! Rule passes over the algebra.
//!
//! Each pass is a file and one function `Rel → Rel` that keeps the answer (rows, their multiplicity
//! and, where a `Sort` asks for it, their order) and makes it cheaper:
//!
//! 1. `cte`: a CTE that is read once and has no side effects is put where it is read.
//! 2. `fold`: constants are computed; a condition that is never true empties its input.
//! 3. `subquery`: EXISTS, IN and scalar sub-queries become `Apply`.
//! 4. `decorrelate`: `Apply` becomes `Join` for the common shapes.
//! 5. `pushdown`: predicates move towards the tables; outer joins whose padded rows are refused
//!    become inner ones.
//! 6. `prune`: only the columns that somebody reads are carried.
//! 7. `join_order`: inner joins are put in an order that starts small.
//! 8. `access`: key spans, index order, lookup joins.
//!
//! Volatile functions are never duplicated, dropped or moved past a filter. What no rule
//! understands is left as it is: every shape of `Rel` can be executed.

mod access;
mod cte;
mod decorrelate;
mod fold;
mod given;
mod join_order;
mod keys;
mod prune;
mod pushdown;
mod stats;
mod strict;
mod subquery;

pub use given::Given;
pub use stats::{Estimate, estimate};

use std::sync::Arc;

use crate::expr::{ColumnId, Expr, ExprKind};
use crate::plan::Query;
use crate::rel::Rel;
use crate::walk::{self, ColumnSet};

/// What the passes share.
#[derive(Debug)]
pub(crate) struct Optimiser {
    next_column: u32,
    /// A function of constants gave an error.
    failing: bool,
}

impl Optimiser {
    /// A column id that the statement does not use yet.
    pub(crate) fn fresh(&mut self) -> ColumnId {
        let id = ColumnId(self.next_column);
        self.next_column += 1;
        id
    }

    /// All passes over one relation of which `needed` columns are read.
    fn relation(&mut self, mut rel: Rel, needed: &ColumnSet) -> Rel {
        rel = cte::inline(rel);
        rel = fold::relation(rel, &mut self.failing);
        rel = subquery::remove(rel, self);
        rel = decorrelate::relation(rel, self);
        rel = pushdown::relation(rel);
        rel = fold::relation(rel, &mut self.failing);
        rel = prune::relation(rel, needed);
        rel = join_order::relation(rel);
        self.inside_expressions(&mut rel);
        access::relation(rel)
    }

    /// Sub-queries that stayed expressions are queries of their own.
    fn inside_expressions(&mut self, rel: &mut Rel) {
        walk::each_input_mut(rel, &mut |r| self.inside_expressions(r));
        walk::each_expr_mut(rel, &mut |e| self.inside(e));
    }

    fn inside(&mut self, expr: &mut Expr) {
        walk::each_operand_mut(expr, &mut |e| self.inside(e));
        let exists = matches!(expr.kind, ExprKind::Exists(_));
        if let Some(sub) = walk::subquery_of_mut(expr) {
            let plan = walk::take(Arc::make_mut(&mut sub.plan));
            let needed =
                if exists { ColumnSet::new() } else { sub.output.iter().copied().collect() };
            if exists {
                sub.output.clear();
            }
            sub.plan = Arc::new(self.relation(plan, &needed));
            sub.outer = walk::free_columns(&sub.plan).into_iter().collect();
        }
    }
}

/// The same query, cheaper to run. Projections that only rename are undone first, which makes views
/// and sub-queries in FROM transparent.
pub fn optimise(mut query: Query) -> Query {
    let mut optimiser = Optimiser { next_column: query.next_column, failing: false };
    prune::renames(&mut query);
    let needed = query.output.iter().map(|c| c.id).collect();
    if !query.params.is_empty() {
        query.given = Given::of(&query.rel);
    }
    query.rel = optimiser.relation(query.rel, &needed);
    query.next_column = optimiser.next_column;
    if optimiser.failing {
        query.fails = fold::first_error(&query.rel);
    }
    query
}
