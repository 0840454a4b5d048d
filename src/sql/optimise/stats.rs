//! Estimates: rows, width and PostgreSQL-like cost of a relation.
//!
//! Simple on purpose: a table's `row_estimate` (1000 before the first ANALYZE), fixed
//! selectivities, uniqueness of keys. They order joins and choose between a lookup and a hash join;
//! EXPLAIN shows them.

use meridian_catalog::TableDesc;
use meridian_types::Datum;

use super::keys;
use crate::expr::{Expr, ExprKind};
use crate::rel::{Access, Column, JoinKind, Rel};
use crate::walk;

/// Rows of a table that was never analysed.
pub(super) const UNKNOWN_ROWS: f64 = 1000.0;
const EQUAL: f64 = 0.005;
const RANGE: f64 = 1.0 / 3.0;
const OTHER: f64 = 0.25;
const ROW_COST: f64 = 0.01;
const OPERATOR_COST: f64 = 0.0025;
const SEEK_COST: f64 = 0.15;

/// What a relation is expected to give and to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Rows given.
    pub rows: f64,
    /// Cost until the first row.
    pub startup: f64,
    /// Cost of all rows.
    pub total: f64,
    /// Bytes of a row.
    pub width: u32,
}

/// Rows of a table.
pub(super) fn table_rows(table: &TableDesc) -> f64 {
    table.row_estimate.filter(|r| *r >= 0.0).unwrap_or(UNKNOWN_ROWS).max(1.0)
}

/// Estimates a relation.
pub fn estimate(rel: &Rel) -> Estimate {
    let width = width(&walk::output(rel));
    let (rows, startup, total) = measure(rel);
    Estimate { rows: rows.max(0.0), startup, total: total.max(startup), width }
}

fn width(columns: &[Column]) -> u32 {
    use meridian_types::oid as o;
    let one = |c: &Column| match c.ty.oid {
        o::BOOL | o::CHAR => 1,
        o::INT2 => 2,
        o::INT4 | o::OID | o::DATE | o::FLOAT4 | o::REGCLASS => 4,
        o::INT8 | o::FLOAT8 | o::TIMESTAMP | o::TIMESTAMPTZ | o::TIME => 8,
        o::UUID | o::INTERVAL => 16,
        o::NAME => 64,
        _ => 32,
    };
    columns.iter().map(one).sum()
}

fn selectivity(e: &Expr) -> f64 {
    match &e.kind {
        ExprKind::Const(Datum::Bool(true)) => 1.0,
        ExprKind::Const(_) => 0.0,
        ExprKind::And(args) => args.iter().map(selectivity).product(),
        ExprKind::Or(args) => args.iter().map(selectivity).sum::<f64>().min(1.0),
        ExprKind::Not(arg) => 1.0 - selectivity(arg),
        ExprKind::IsNull(_) => EQUAL,
        ExprKind::IsNotNull(_) => 1.0 - EQUAL,
        ExprKind::Call { func, .. } => match func.operator.as_deref() {
            Some("=") => EQUAL,
            Some("<" | "<=" | ">" | ">=") => RANGE,
            Some("<>") => 1.0 - EQUAL,
            _ => OTHER,
        },
        ExprKind::ArrayCompare { right, .. } => match &right.kind {
            ExprKind::Const(Datum::Array(a)) => {
                (EQUAL * f64::from(u32::try_from(a.elements.len()).unwrap_or(u32::MAX))).min(1.0)
            }
            _ => (EQUAL * 10.0).min(1.0),
        },
        _ => OTHER,
    }
}

fn all(predicates: &[Expr]) -> f64 {
    predicates.iter().map(selectivity).product()
}

/// The share of rows that an access reads.
pub(super) fn access_rows(table: &TableDesc, access: &Access) -> f64 {
    let rows = table_rows(table);
    let Access::Index { index_id, spans, .. } = access else { return rows };
    let Some(index) = table.indexes.iter().find(|i| i.index_id == *index_id) else { return rows };
    spans
        .iter()
        .map(|span| {
            let n = span.prefix.len();
            let points = match span.each.map(|at| &span.prefix[at].kind) {
                Some(ExprKind::Array { elements, .. }) => elements.len().max(1),
                Some(ExprKind::Const(Datum::Array(a))) => a.elements.len().max(1),
                Some(_) => 10,
                None => 1,
            };
            let points = f64::from(u32::try_from(points).unwrap_or(u32::MAX));
            if index.unique && n == index.columns.len() {
                return points.min(rows);
            }
            let equal = EQUAL.powi(i32::try_from(n).unwrap_or(1)) * points;
            let bounds = [span.lower.is_some(), span.upper.is_some()];
            let range = match bounds.iter().filter(|b| **b).count() {
                0 => 1.0,
                1 => RANGE,
                _ => EQUAL,
            };
            (rows * equal.min(1.0) * range).max(1.0)
        })
        .sum::<f64>()
        .min(rows)
}

fn measure(rel: &Rel) -> (f64, f64, f64) {
    walk::with_stack(|| measure_node(rel))
}

fn measure_node(rel: &Rel) -> (f64, f64, f64) {
    match rel {
        Rel::Scan { table, columns, filter, access } => {
            let read = access_rows(table, access);
            let seek = if matches!(access, Access::Full) { 0.0 } else { SEEK_COST };
            let work = ROW_COST + OPERATOR_COST * count(filter.len());
            let fetch = if matches!(access, Access::Full) { 0.01 } else { 4.0 * ROW_COST };
            let rows = if keys::one_by_key(table, columns, filter) {
                1.0
            } else {
                (read * all(filter)).max(1.0)
            };
            (rows, seek, seek + read * (work + fetch))
        }
        Rel::Virtual { filter, .. } => {
            let rows = (400.0 * all(filter)).max(1.0);
            (rows, 0.0, 400.0 * ROW_COST)
        }
        Rel::Values { rows, .. } => {
            let n = count(rows.len());
            (n, 0.0, n * ROW_COST)
        }
        Rel::Filter { input, predicates } => {
            let e = estimate(input);
            let work = e.rows * OPERATOR_COST * count(predicates.len());
            ((e.rows * all(predicates)).max(1.0), e.startup, e.total + work)
        }
        Rel::Project { input, .. } => {
            let e = estimate(input);
            (e.rows, e.startup, e.total)
        }
        Rel::ProjectSet { input, calls } => {
            let e = estimate(input);
            let rows = e.rows * if calls.is_empty() { 1.0 } else { 1000.0 };
            (rows, e.startup, e.total + rows * ROW_COST)
        }
        Rel::Join { kind, left, right, on, lookup } => joined(*kind, left, right, on, *lookup),
        Rel::Apply { kind, left, right, on } => {
            let (l, r) = (estimate(left), estimate(right));
            let rows = join_rows(*kind, l.rows, r.rows, on, right);
            (rows, l.startup, l.total + l.rows * r.total.max(ROW_COST))
        }
        Rel::Aggregate { input, group_by, aggregates, .. } => {
            let e = estimate(input);
            let work = e.rows * OPERATOR_COST * count(aggregates.len() + group_by.len());
            let rows = if group_by.is_empty() {
                1.0
            } else {
                (e.rows / 5.0).clamp(1.0, 200.0_f64.max(e.rows / 10.0))
            };
            (rows, e.total + work, e.total + work + rows * ROW_COST)
        }
        Rel::Window { input, .. } => {
            let e = estimate(input);
            let sort = sort_cost(e.rows);
            (e.rows, e.total + sort, e.total + sort + e.rows * ROW_COST)
        }
        Rel::Sort { input, .. } => {
            let e = estimate(input);
            let sort = sort_cost(e.rows);
            (e.rows, e.total + sort, e.total + sort + e.rows * OPERATOR_COST)
        }
        Rel::Limit { input, limit, .. } => {
            let e = estimate(input);
            let wanted = match limit.as_ref().map(|l| &l.kind) {
                Some(ExprKind::Const(Datum::Int8(n))) => {
                    f64::from(u32::try_from(*n).unwrap_or(u32::MAX))
                }
                Some(_) => e.rows * 0.1,
                None => e.rows,
            };
            let rows = wanted.min(e.rows).max(0.0);
            let share = if e.rows > 0.0 { rows / e.rows } else { 1.0 };
            (rows, e.startup, e.startup + (e.total - e.startup) * share)
        }
        Rel::Distinct { input, .. } => {
            let e = estimate(input);
            let rows = (e.rows / 2.0).max(1.0);
            (rows, e.total, e.total + e.rows * OPERATOR_COST)
        }
        Rel::SetOp { left, right, .. } => {
            let (l, r) = (estimate(&left.0), estimate(&right.0));
            (l.rows + r.rows, l.startup, l.total + r.total)
        }
        Rel::Function { .. } => (1000.0, 0.0, 1000.0 * ROW_COST),
        Rel::With { ctes, body } => {
            let e = estimate(body);
            let sum: f64 = ctes.iter().map(|c| estimate(&c.plan).total).sum();
            (e.rows, sum + e.startup, sum + e.total)
        }
        Rel::CteScan { .. } => (100.0, 0.0, 100.0 * 2.0 * ROW_COST),
        Rel::LockRows { input, .. } => {
            let e = estimate(input);
            (e.rows, e.startup, e.total + e.rows * ROW_COST)
        }
        Rel::Modify(modify) => {
            let e = estimate(&modify.source);
            let rows = if modify.returning.is_empty() { 0.0 } else { e.rows };
            (rows, e.startup, e.total)
        }
    }
}

fn joined(kind: JoinKind, left: &Rel, right: &Rel, on: &[Expr], lookup: bool) -> (f64, f64, f64) {
    let (l, r) = (estimate(left), estimate(right));
    if lookup {
        let rows = match kind {
            JoinKind::Semi | JoinKind::Anti => l.rows,
            _ => (l.rows * r.rows * all(on)).max(1.0),
        };
        return (rows, l.startup + SEEK_COST, l.total + l.rows * r.total);
    }
    let rows = join_rows(kind, l.rows, r.rows, on, right);
    let work =
        if on.is_empty() { l.rows * r.rows * OPERATOR_COST } else { (l.rows + r.rows) * ROW_COST };
    (rows, r.total, l.total + r.total + work + rows * ROW_COST)
}

fn join_rows(kind: JoinKind, left: f64, right: f64, on: &[Expr], _: &Rel) -> f64 {
    let equalities = on.iter().any(|e| keys::equality(e).is_some());
    let rows = if equalities { left.max(right) } else { left * right * all(on) };
    match kind {
        JoinKind::Inner => rows.max(1.0),
        JoinKind::Left => rows.max(left),
        JoinKind::Right => rows.max(right),
        JoinKind::Full => rows.max(left + right),
        JoinKind::Semi | JoinKind::Anti => (left / 2.0).max(1.0),
    }
}

fn sort_cost(rows: f64) -> f64 {
    let n = rows.max(2.0);
    n * n.log2() * OPERATOR_COST * 2.0
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}
