//! How tables are read: key spans, index order, lookup joins.
//!
//! A scan takes the index whose span is expected to give the fewest rows; predicates that the span
//! says are dropped from the filter. A `Sort` over a scan is dropped when an index gives the order.
//! A join whose right side is a scan that the left rows reach by a key becomes a lookup join when
//! that reads less than the whole right side.

use std::collections::BTreeMap;

use meridian_catalog::{IndexDesc, TableDesc};

use super::keys::{self, Path};
use super::stats;
use crate::expr::{ColumnId, Expr, ExprKind};
use crate::rel::{Access, Column, JoinKind, KeySpan, Rel, SortKey};
use crate::walk::{self, ColumnSet};

/// Rows that one seek is worth.
const SEEK_ROWS: f64 = 4.0;

/// Chooses accesses in a whole tree.
pub(super) fn relation(rel: Rel) -> Rel {
    match rel {
        Rel::Sort { input, keys } => sort(*input, keys),
        Rel::Join { kind, left, right, on, lookup: false } => {
            let left = relation(*left);
            join(kind, left, *right, on)
        }
        Rel::Scan { table, columns, filter, access: Access::Full } => scan(table, columns, filter),
        mut other => {
            walk::each_input_mut(&mut other, &mut |r| {
                let taken = walk::take(r);
                *r = relation(taken);
            });
            other
        }
    }
}

fn scan(table: std::sync::Arc<TableDesc>, columns: Vec<(Column, i16)>, filter: Vec<Expr>) -> Rel {
    let own: ColumnSet = columns.iter().map(|(c, _)| c.id).collect();
    match best(&table, &columns, &filter, &own) {
        Some(path) => {
            let (access, filter) = apply(path, filter);
            Rel::Scan { table, columns, filter, access }
        }
        None => Rel::Scan { table, columns, filter, access: Access::Full },
    }
}

fn apply(path: Path, filter: Vec<Expr>) -> (Access, Vec<Expr>) {
    let rest = filter
        .into_iter()
        .enumerate()
        .filter(|(i, _)| !path.used.contains(i))
        .map(|(_, e)| e)
        .collect();
    let access = Access::Index { index_id: path.index_id, spans: vec![path.span], reverse: false };
    (access, rest)
}

/// The index path that reads the fewest rows, for all that is known.
fn best(
    table: &TableDesc,
    columns: &[(Column, i16)],
    filter: &[Expr],
    own: &ColumnSet,
) -> Option<Path> {
    if filter.is_empty() {
        return None;
    }
    let bounds = keys::bounds(filter, own);
    if bounds.is_empty() {
        return None;
    }
    let mut chosen: Option<(f64, Path)> = None;
    for index in &table.indexes {
        let Some(path) = keys::path(table, index, columns, &bounds) else { continue };
        let cost = path_cost(table, index, columns, &path);
        let better = chosen.as_ref().is_none_or(|(least, other)| {
            narrower(&path, other) || (cost < *least && !narrower(other, &path))
        });
        if better {
            chosen = Some((cost, path));
        }
    }
    // A secondary index that reads much of the table loses to reading it all.
    let (cost, path) = chosen?;
    let full = stats::table_rows(table);
    (cost <= full.max(SEEK_ROWS * 2.0) || path.equal > 0).then_some(path)
}

/// Whether a path has all conditions of another that may find many rows, and more columns bound to a
/// value. Estimates with a fixed selectivity see no difference once both are down to a row, while the
/// other may be a district's thousands of orders.
fn narrower(path: &Path, other: &Path) -> bool {
    path.equal > other.equal && !other.unique && other.used.iter().all(|i| path.used.contains(i))
}

fn path_cost(table: &TableDesc, index: &IndexDesc, columns: &[(Column, i16)], path: &Path) -> f64 {
    let access =
        Access::Index { index_id: path.index_id, spans: vec![path.span.clone()], reverse: false };
    let rows = stats::access_rows(table, &access);
    let primary = index.index_id == meridian_catalog::PRIMARY_INDEX_ID;
    let fetch = if primary || covers(table, index, columns) { 1.0 } else { SEEK_ROWS };
    1.0 + rows * fetch
}

/// Whether the index holds all columns that the scan gives.
pub(super) fn covers(table: &TableDesc, index: &IndexDesc, columns: &[(Column, i16)]) -> bool {
    let primary = table.indexes.first();
    columns.iter().all(|(_, attnum)| {
        let mine = |i: &IndexDesc| i.columns.iter().any(|k| k.attnum == Some(*attnum));
        *attnum == 0 || mine(index) || primary.is_some_and(mine) || index.include.contains(attnum)
    })
}

/// A sort, or the index that makes it needless.
fn sort(input: Rel, keys: Vec<SortKey>) -> Rel {
    let mut input = relation(input);
    if ordered(&mut input, &keys) {
        return input;
    }
    Rel::Sort { input: Box::new(input), keys }
}

/// Makes the relation give this order by an index, if it can.
fn ordered(rel: &mut Rel, keys: &[SortKey]) -> bool {
    match rel {
        Rel::Project { input, exprs } => {
            let passes: BTreeMap<ColumnId, ColumnId> = exprs
                .iter()
                .filter_map(|(c, e)| match e.kind {
                    ExprKind::Column(id) => Some((c.id, id)),
                    _ => None,
                })
                .collect();
            let below: Option<Vec<SortKey>> = keys
                .iter()
                .map(|k| passes.get(&k.column).map(|id| SortKey { column: *id, ..k.clone() }))
                .collect();
            below.is_some_and(|keys| ordered(input, &keys))
        }
        Rel::Filter { input, .. } => ordered(input, keys),
        Rel::Scan { table, columns, access, .. } => {
            if let Access::Index { index_id, spans, reverse } = access {
                let index = table.indexes.iter().find(|i| i.index_id == *index_id);
                let [span] = spans.as_slice() else { return false };
                return match index.and_then(|i| direction(table, i, columns, span, keys)) {
                    Some(backwards) => {
                        *reverse = backwards;
                        true
                    }
                    None => false,
                };
            }
            // The whole table in key order: by the primary index, or one that covers the columns.
            let whole = KeySpan::default();
            for index in table.indexes.iter().filter(|i| keys::usable(i)) {
                let primary = index.index_id == meridian_catalog::PRIMARY_INDEX_ID;
                if !primary && !covers(table, index, columns) {
                    continue;
                }
                if let Some(reverse) = direction(table, index, columns, &whole, keys) {
                    *access =
                        Access::Index { index_id: index.index_id, spans: vec![whole], reverse };
                    return true;
                }
            }
            false
        }
        _ => false,
    }
}

/// Whether reading the span gives the order: forwards (`false`), backwards (`true`), or not.
fn direction(
    table: &TableDesc,
    index: &IndexDesc,
    columns: &[(Column, i16)],
    span: &KeySpan,
    keys: &[SortKey],
) -> Option<bool> {
    if span.each.is_some() || !keys::usable(index) {
        return None;
    }
    let fixed: Vec<i16> =
        index.columns.iter().take(span.prefix.len()).filter_map(|k| k.attnum).collect();
    let mut rest = index.columns.iter().skip(span.prefix.len());
    let mut backwards: Option<bool> = None;
    for key in keys {
        let attnum = columns.iter().find(|(c, _)| c.id == key.column).map(|(_, a)| *a)?;
        if fixed.contains(&attnum) {
            continue;
        }
        // Every row is told apart by what came before: more keys change nothing.
        let Some(part) = rest.next() else {
            // (NULLs of a unique index may repeat.)
            let whole = index.columns.iter().all(|k| {
                let column = table.columns.iter().find(|c| Some(c.attnum) == k.attnum);
                column.is_some_and(|c| c.not_null || fixed.contains(&c.attnum))
            });
            return (index.unique && whole).then(|| backwards.unwrap_or(false));
        };
        if part.attnum != Some(attnum) {
            return None;
        }
        let flip = part.desc != key.desc;
        let column = table.columns.iter().find(|c| c.attnum == attnum)?;
        let nulls_first = part.nulls_first != flip;
        if !column.not_null && nulls_first != key.nulls_first {
            return None;
        }
        if backwards.is_some_and(|b| b != flip) {
            return None;
        }
        backwards = Some(flip);
    }
    Some(backwards.unwrap_or(false))
}

/// A join: by lookup when the right side is reached by a key and that reads less.
fn join(kind: JoinKind, left: Rel, right: Rel, on: Vec<Expr>) -> Rel {
    let plain = |left: Rel, right: Rel, on: Vec<Expr>| Rel::Join {
        kind,
        left: Box::new(left),
        right: Box::new(relation(right)),
        on,
        lookup: false,
    };
    let can = matches!(kind, JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti);
    let Rel::Scan { table, columns, filter, access: Access::Full } = &right else {
        return plain(left, right, on);
    };
    if !can || on.iter().any(walk::has_subquery) {
        return plain(left, right, on);
    }
    let own: ColumnSet = columns.iter().map(|(c, _)| c.id).collect();
    let both: Vec<Expr> = filter.iter().chain(&on).cloned().collect();
    let Some(path) = best(table, columns, &both, &own) else { return plain(left, right, on) };
    let uses_left = path.used.iter().any(|i| *i >= filter.len());
    let alone = best(table, columns, filter, &own);
    let scan_rows = alone.map_or(stats::table_rows(table), |p| reads(table, &p));
    let lookups = stats::estimate(&left).rows * (SEEK_ROWS + reads(table, &path));
    if !uses_left || lookups > scan_rows + SEEK_ROWS {
        return plain(left, right, on);
    }
    let split = filter.len();
    let (table, columns, filter) = (table.clone(), columns.clone(), filter.clone());
    let used_filter: Vec<usize> = path.used.iter().copied().filter(|i| *i < split).collect();
    let used_on: Vec<usize> =
        path.used.iter().filter(|i| **i >= split).map(|i| i - split).collect();
    let drop = |list: Vec<Expr>, used: &[usize]| -> Vec<Expr> {
        list.into_iter().enumerate().filter(|(i, _)| !used.contains(i)).map(|(_, e)| e).collect()
    };
    let access = Access::Index { index_id: path.index_id, spans: vec![path.span], reverse: false };
    let right = Rel::Scan { table, columns, filter: drop(filter, &used_filter), access };
    let on = drop(on, &used_on);
    Rel::Join { kind, left: Box::new(left), right: Box::new(right), on, lookup: true }
}

fn reads(table: &TableDesc, path: &Path) -> f64 {
    let access =
        Access::Index { index_id: path.index_id, spans: vec![path.span.clone()], reverse: false };
    stats::access_rows(table, &access)
}
