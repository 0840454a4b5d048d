//! Which statements take the short way, and how they are compiled.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_catalog::{Catalog, PRIMARY_INDEX_ID, TableDesc};
use meridian_sql::expr::{ColumnId, Expr, ExprKind};
use meridian_sql::plan::{Modify, ModifyKind, Query};
use meridian_sql::rel::{Access, Column, KeySpan, Rel};
use meridian_sql::walk;
use meridian_types::PgType;

use super::write::{Target, What, Write};
use super::{KeyPlan, Kind, Read};
use crate::codecs::Table;
use crate::dml::TableWriter;
use crate::expr::{Eval, Flat, compile};
use crate::ops::scan::SpanExprs;

/// Keys that a list may name; longer ones are better read by operators, batch by batch.
const POINTS_MAX: usize = 256;

type Map = HashMap<ColumnId, usize>;

fn eval(e: &Expr, map: &Map) -> Option<Eval> {
    if walk::has_subquery(e) {
        return None;
    }
    compile(e, &mut Flat(map)).ok()
}

fn evals<'a>(exprs: impl IntoIterator<Item = &'a Expr>, map: &Map) -> Option<Vec<Eval>> {
    exprs.into_iter().map(|e| eval(e, map)).collect()
}

fn spans(spans: &[KeySpan]) -> Option<Vec<SpanExprs>> {
    let none = Map::new();
    let bound = |b: &Option<(Expr, bool)>| match b {
        None => Some(None),
        Some((e, inclusive)) => eval(e, &none).map(|e| Some((e, *inclusive))),
    };
    spans
        .iter()
        .map(|s| {
            Some(SpanExprs {
                prefix: evals(&s.prefix, &none)?,
                each: s.each,
                lower: bound(&s.lower)?,
                upper: bound(&s.upper)?,
            })
        })
        .collect()
}

/// A scan by index, with the conditions and the projection above it taken off.
struct Found<'a> {
    table: &'a Arc<TableDesc>,
    columns: &'a [(Column, i16)],
    filter: Vec<&'a Expr>,
    index_id: u16,
    spans: &'a [KeySpan],
    reverse: bool,
    /// Columns made by projections that only pass columns on.
    aliases: HashMap<ColumnId, ColumnId>,
}

fn scan(rel: &Rel) -> Option<Found<'_>> {
    match rel {
        Rel::Scan {
            table,
            columns,
            filter,
            access: Access::Index { index_id, spans, reverse },
        } => Some(Found {
            table,
            columns,
            filter: filter.iter().collect(),
            index_id: *index_id,
            spans,
            reverse: *reverse,
            aliases: HashMap::new(),
        }),
        Rel::Filter { input, predicates } => {
            let mut found = scan(input)?;
            if !found.aliases.is_empty() {
                return None;
            }
            found.filter.extend(predicates);
            Some(found)
        }
        Rel::Project { input, exprs } => {
            let mut found = scan(input)?;
            for (column, e) in exprs {
                let ExprKind::Column(from) = e.kind else { return None };
                if from != column.id {
                    let from = found.aliases.get(&from).copied().unwrap_or(from);
                    found.aliases.insert(column.id, from);
                }
            }
            Some(found)
        }
        _ => None,
    }
}

impl Found<'_> {
    /// Position in the table's row of a column.
    fn attribute(&self, id: ColumnId) -> Option<usize> {
        let id = self.aliases.get(&id).copied().unwrap_or(id);
        let (_, attnum) = self.columns.iter().find(|(c, _)| c.id == id)?;
        usize::try_from(*attnum - 1).ok()
    }

    /// Every span names one row: all columns of a unique key, of columns that cannot be NULL there.
    fn points(&self) -> bool {
        let Some(index) = self.table.indexes.iter().find(|i| i.index_id == self.index_id) else {
            return false;
        };
        let whole = |s: &KeySpan| s.prefix.len() == index.columns.len();
        (index.unique || index.index_id == PRIMARY_INDEX_ID)
            && self.spans.len() <= POINTS_MAX
            && self.spans.iter().all(whole)
    }

    /// The scan's columns by their position in the table's row.
    fn row_map(&self) -> Map {
        let mut map: Map = self
            .columns
            .iter()
            .filter_map(|(c, attnum)| Some((c.id, usize::try_from(*attnum - 1).ok()?)))
            .collect();
        for (alias, from) in &self.aliases {
            if let Some(at) = map.get(from).copied() {
                map.insert(*alias, at);
            }
        }
        map
    }
}

impl KeyPlan {
    /// Compiles a statement, if it is one of those that this is for.
    pub fn compile(query: &Query, catalog: &Catalog) -> Option<KeyPlan> {
        if query.fails.is_some() {
            return None;
        }
        match &query.rel {
            Rel::Modify(modify) => Self::write(query, modify, catalog),
            other => Self::select(query, other),
        }
    }

    fn select(query: &Query, rel: &Rel) -> Option<KeyPlan> {
        let none = Map::new();
        // LIMIT may lie above or below the projection.
        let mut limits = (None, None);
        let mut limited = false;
        let mut inner = rel;
        let mut project = None;
        loop {
            match inner {
                Rel::Limit { input, limit, offset, with_ties: None } if !limited => {
                    limits = (limit.as_ref(), offset.as_ref());
                    limited = true;
                    inner = input;
                }
                Rel::Project { input, exprs } if project.is_none() && !limited => {
                    project = Some(exprs);
                    inner = input;
                }
                _ => break,
            }
        }
        let mut found = scan(inner)?;
        for (column, e) in project.into_iter().flatten() {
            let ExprKind::Column(from) = e.kind else { return None };
            let from = found.aliases.get(&from).copied().unwrap_or(from);
            if from != column.id {
                found.aliases.insert(column.id, from);
            }
        }
        if !found.points() && limits.0.is_none() {
            return None;
        }
        let table = Arc::new(Table::new(found.table).ok()?);
        let index = table.desc.indexes.iter().position(|i| i.index_id == found.index_id)?;
        let scan_map: Map = found.columns.iter().enumerate().map(|(i, (c, _))| (c.id, i)).collect();
        // The row's key itself is not a column that can be evaluated here.
        let columns: Option<Vec<usize>> =
            found.columns.iter().map(|(_, a)| usize::try_from(*a - 1).ok()).collect();
        let output = output(query, |id| found.attribute(id))?;
        let limit = |e: Option<&Expr>| match e {
            None => Some(None),
            Some(e) => eval(e, &none).map(Some),
        };
        let read = Read {
            index,
            spans: spans(found.spans)?,
            reverse: found.reverse,
            filter: evals(found.filter.iter().copied(), &scan_map)?,
            columns: columns?,
            limit: limit(limits.0)?,
            offset: limit(limits.1)?,
        };
        Some(KeyPlan { table, kind: Kind::Read(Box::new(read)), output })
    }

    fn write(query: &Query, modify: &Modify, catalog: &Catalog) -> Option<KeyPlan> {
        if !modify.view_checks.is_empty() {
            return None;
        }
        let table = Arc::new(Table::new(&modify.table).ok()?);
        let what = match &modify.kind {
            ModifyKind::Insert { values, on_conflict: None } => insert(&modify.source, values)?,
            ModifyKind::Insert { .. } => return None,
            ModifyKind::Update { old, set, .. } => {
                let (target, map) = target(&modify.source, &modify.table, old)?;
                let mut compiled = vec![];
                for (attnum, e) in set {
                    compiled.push((usize::try_from(*attnum - 1).ok()?, eval(e, &map)?));
                }
                What::Update { target, set: compiled }
            }
            ModifyKind::Delete { old, .. } => {
                What::Delete { target: target(&modify.source, &modify.table, old)?.0 }
            }
        };
        let new: Map = modify.new_columns.iter().enumerate().map(|(i, c)| (*c, i)).collect();
        let mut checks = vec![];
        for (name, e) in &modify.checks {
            checks.push((name.clone(), eval(e, &new)?));
        }
        checks.sort_by(|a, b| a.0.cmp(&b.0));
        let mut generated = vec![];
        for (attnum, e) in &modify.generated {
            generated.push((*attnum, eval(e, &new)?));
        }
        let (returning, output) = returning(query, modify, &new)?;
        let writer = TableWriter::new(table.clone(), checks, generated, catalog).ok()?;
        let writer = Arc::new(writer);
        let kind = Kind::Write(Box::new(Write { writer, what, returning }));
        Some(KeyPlan { table, kind, output })
    }
}

/// RETURNING's expressions, and the client's columns of them.
type Returning = (Vec<Eval>, Vec<(usize, PgType)>);

/// RETURNING's expressions in the client's order.
fn returning(query: &Query, modify: &Modify, new: &Map) -> Option<Returning> {
    let mut compiled = vec![];
    let mut output = vec![];
    for column in &query.output {
        let (_, e) = modify.returning.iter().find(|(c, _)| c.id == column.id)?;
        output.push((compiled.len(), column.ty));
        compiled.push(eval(e, new)?);
    }
    Some((compiled, output))
}

fn output(
    query: &Query,
    attribute: impl Fn(ColumnId) -> Option<usize>,
) -> Option<Vec<(usize, PgType)>> {
    query.output.iter().map(|c| Some((attribute(c.id)?, c.ty))).collect()
}

fn insert(source: &Rel, values: &[Expr]) -> Option<What> {
    let none = Map::new();
    let (columns, rows, project) = match source {
        Rel::Values { columns, rows } => (columns, rows, None),
        Rel::Project { input, exprs } => match &**input {
            Rel::Values { columns, rows } => (columns, rows, Some(exprs)),
            _ => return None,
        },
        _ => return None,
    };
    let map: Map = columns.iter().enumerate().map(|(i, c)| (c.id, i)).collect();
    let rows: Option<Vec<Vec<Eval>>> = rows.iter().map(|r| evals(r, &none)).collect();
    let values = match project {
        None => evals(values, &map)?,
        Some(exprs) => {
            // The projection's columns are put in place of their names.
            let by_id = exprs.iter().map(|(c, e)| (c.id, e.clone())).collect();
            let mut out = vec![];
            for value in values {
                let mut value = value.clone();
                walk::substitute(&mut value, &by_id);
                out.push(eval(&value, &map)?);
            }
            out
        }
    };
    Some(What::Insert { rows: rows?, values })
}

/// Rows by primary key, and the columns of the source by their place in the row.
fn target(source: &Rel, table: &Arc<TableDesc>, old: &[ColumnId]) -> Option<(Target, Map)> {
    let found = scan(source)?;
    if found.table.oid != table.oid || found.index_id != PRIMARY_INDEX_ID || !found.points() {
        return None;
    }
    let mut map = found.row_map();
    map.extend(old.iter().enumerate().map(|(i, c)| (*c, i)));
    let filter = evals(found.filter.iter().copied(), &map)?;
    Some((Target { spans: spans(found.spans)?, filter }, map))
}
