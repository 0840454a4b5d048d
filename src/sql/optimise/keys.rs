//! Which predicates an index can answer.
//!
//! `column = value`, ranges, `= ANY (array)` and OR of equalities on one column, where the value
//! does not read the scan and has the key column's type (or is made to have it without loss).

use std::sync::Arc;

use meridian_catalog::{IndexDesc, IndexState, TableDesc};
use meridian_types::oid::{self, Oid};
use meridian_types::{ArrayValue, Datum, PgType};

use crate::expr::{ColumnId, Expr, ExprKind, FuncRef, Quantifier};
use crate::rel::{Column, KeySpan, Rel};
use crate::walk::{self, ColumnSet};

/// A comparison that an index understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Any,
}

/// A predicate `column op value`.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) column: ColumnId,
    pub(super) comparison: Comparison,
    pub(super) value: Expr,
    /// Index of the predicate that it is.
    pub(super) from: usize,
}

/// The two sides of `a = b`.
pub(super) fn equality(e: &Expr) -> Option<(&Expr, &Expr)> {
    match &e.kind {
        ExprKind::Call { func, args } if func.operator.as_deref() == Some("=") => {
            let [left, right] = args.as_slice() else { return None };
            Some((left, right))
        }
        _ => None,
    }
}

/// The bounds that these predicates are on the given columns.
pub(super) fn bounds(predicates: &[Expr], columns: &ColumnSet) -> Vec<Bound> {
    let mut out = Vec::new();
    for (from, predicate) in predicates.iter().enumerate() {
        bound(predicate, columns, from, &mut out);
    }
    out
}

fn bound(predicate: &Expr, columns: &ColumnSet, from: usize, out: &mut Vec<Bound>) {
    match &predicate.kind {
        ExprKind::Call { func, args } => {
            let [left, right] = args.as_slice() else { return };
            let Some(comparison) = func.operator.as_deref().and_then(comparison) else { return };
            if let Some(b) = one_side(left, right, comparison, columns, from) {
                out.push(b);
            } else if let Some(b) = one_side(right, left, flipped(comparison), columns, from) {
                out.push(b);
            }
        }
        ExprKind::ArrayCompare { func, quantifier: Quantifier::Any, left, right }
            if func.operator.as_deref() == Some("=") =>
        {
            let Some((column, ty)) = key_side(left, columns) else { return };
            if reads(right, columns) || walk::is_volatile(right) || walk::has_subquery(right) {
                return;
            }
            if let Some(value) = array_of(right, ty.oid) {
                let comparison = Comparison::Any;
                out.push(Bound { column, comparison, value, from });
            }
        }
        // A boolean column is a condition by itself.
        ExprKind::Column(id) if columns.contains(id) && predicate.ty.oid == oid::BOOL => {
            let value = Expr::constant(Datum::Bool(true), predicate.ty);
            let comparison = Comparison::Equal;
            out.push(Bound { column: *id, comparison, value, from });
        }
        ExprKind::Or(args) => any_of(args, columns, from, out),
        _ => {}
    }
}

/// `a = x OR a = y` as `a = ANY (ARRAY[x, y])`.
fn any_of(args: &[Expr], columns: &ColumnSet, from: usize, out: &mut Vec<Bound>) {
    let mut parts = Vec::new();
    for arg in args {
        let before = parts.len();
        bound(arg, columns, from, &mut parts);
        if parts.len() != before + 1 || parts[before].comparison != Comparison::Equal {
            return;
        }
    }
    let Some(first) = parts.first() else { return };
    let column = first.column;
    if parts.iter().any(|p| p.column != column || p.value.ty.oid != first.value.ty.oid) {
        return;
    }
    let Some(array) = array_type(first.value.ty.oid) else { return };
    let elements = parts.into_iter().map(|p| p.value).collect();
    let kind = ExprKind::Array { elements, nested: false };
    let value = Expr { kind, ty: PgType::new(array) };
    out.push(Bound { column, comparison: Comparison::Any, value, from });
}

fn comparison(operator: &str) -> Option<Comparison> {
    Some(match operator {
        "=" => Comparison::Equal,
        "<" => Comparison::Less,
        "<=" => Comparison::LessEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterEqual,
        _ => return None,
    })
}

fn flipped(c: Comparison) -> Comparison {
    match c {
        Comparison::Less => Comparison::Greater,
        Comparison::LessEqual => Comparison::GreaterEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterEqual => Comparison::LessEqual,
        same => same,
    }
}

fn reads(e: &Expr, columns: &ColumnSet) -> bool {
    walk::expr_columns(e).iter().any(|c| columns.contains(c))
}

/// The column that an operand is, seen through a change of name among the string types.
fn key_side(e: &Expr, columns: &ColumnSet) -> Option<(ColumnId, PgType)> {
    match &e.kind {
        ExprKind::Column(id) if columns.contains(id) => Some((*id, e.ty)),
        ExprKind::Relabel(inner) if same_key(inner.ty.oid, e.ty.oid) => key_side(inner, columns),
        _ => None,
    }
}

fn one_side(
    key: &Expr,
    value: &Expr,
    comparison: Comparison,
    columns: &ColumnSet,
    from: usize,
) -> Option<Bound> {
    let (column, ty) = key_side(key, columns)?;
    if reads(value, columns) || walk::is_volatile(value) || walk::has_subquery(value) {
        return None;
    }
    let value = fit(value, ty)?;
    Some(Bound { column, comparison, value, from })
}

/// Types whose keys are the same bytes.
fn same_key(a: Oid, b: Oid) -> bool {
    let string = |o: Oid| matches!(o, oid::TEXT | oid::VARCHAR);
    let object = |o: Oid| {
        matches!(
            o,
            oid::OID
                | oid::REGCLASS
                | oid::REGTYPE
                | oid::REGPROC
                | oid::REGNAMESPACE
                | oid::REGROLE
        )
    };
    a == b || (string(a) && string(b)) || (object(a) && object(b))
}

/// The value as one of the key's type; `None` when that is not possible without loss.
fn fit(value: &Expr, key: PgType) -> Option<Expr> {
    if same_key(value.ty.oid, key.oid) {
        return Some(value.clone());
    }
    if let ExprKind::Const(d) = &value.kind {
        if d.is_null() {
            return Some(Expr::constant(Datum::Null, key));
        }
        return Some(Expr::constant(fit_datum(d, key.oid)?, key));
    }
    let (oid, prosrc) = match (value.ty.oid, key.oid) {
        (oid::INT4, oid::INT8) => (481, "int48"),
        (oid::INT2, oid::INT8) => (754, "int28"),
        (oid::INT2, oid::INT4) => (313, "i2toi4"),
        _ => return None,
    };
    let func = FuncRef {
        oid,
        name: Arc::from(if key.oid == oid::INT8 { "int8" } else { "int4" }),
        prosrc: Arc::from(prosrc),
        strict: true,
        volatility: b'i',
        operator: None,
    };
    let kind = ExprKind::Call { func, args: vec![value.clone()] };
    Some(Expr { kind, ty: PgType::new(key.oid) })
}

fn fit_datum(d: &Datum, key: Oid) -> Option<Datum> {
    let n = match d {
        Datum::Int2(v) => i64::from(*v),
        Datum::Int4(v) => i64::from(*v),
        Datum::Int8(v) => *v,
        _ => return None,
    };
    match key {
        oid::INT2 => i16::try_from(n).ok().map(Datum::Int2),
        oid::INT4 => i32::try_from(n).ok().map(Datum::Int4),
        oid::INT8 => Some(Datum::Int8(n)),
        _ => None,
    }
}

/// An array whose elements have the key's type.
fn array_of(array: &Expr, key: Oid) -> Option<Expr> {
    let element = meridian_types::builtin::array_element(array.ty.oid)?;
    if same_key(element, key) {
        return Some(array.clone());
    }
    let to = array_type(key)?;
    match &array.kind {
        ExprKind::Relabel(inner) => array_of(inner, key),
        ExprKind::Const(Datum::Array(value)) => {
            // What does not fit the key equals no key.
            let elements: Vec<Datum> =
                value.elements.iter().filter_map(|d| fit_datum(d, key)).collect();
            let numeric = |d: &Datum| {
                matches!(d, Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) | Datum::Null)
            };
            if !value.elements.iter().all(numeric) {
                return None;
            }
            let value = ArrayValue::from_elements(key, elements);
            Some(Expr::constant(Datum::Array(Arc::new(value)), PgType::new(to)))
        }
        ExprKind::Array { elements, nested: false } => {
            let elements: Option<Vec<Expr>> =
                elements.iter().map(|e| fit(e, PgType::new(key))).collect();
            let kind = ExprKind::Array { elements: elements?, nested: false };
            Some(Expr { kind, ty: PgType::new(to) })
        }
        _ => None,
    }
}

fn array_type(element: Oid) -> Option<Oid> {
    meridian_types::builtin::array_of(element)
}

/// A way to read an index: the span, what it uses up, and how well it cuts.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) index_id: u16,
    pub(super) span: KeySpan,
    /// Predicates that the span replaces.
    pub(super) used: Vec<usize>,
    /// Key columns bound to one value.
    pub(super) equal: usize,
    /// At most one row for each value of the span.
    pub(super) unique: bool,
    /// A range follows the equal columns.
    pub(super) range: bool,
}

/// Whether an index may be read for any query.
pub(super) fn usable(index: &IndexDesc) -> bool {
    index.state == IndexState::Public
        && index.predicate.is_none()
        && (index.primary
            || index.index_id == meridian_catalog::PRIMARY_INDEX_ID
            || index.method != "hash")
}

/// The span that `bounds` give an index of a scan; `None` when they say nothing about it.
pub(super) fn path(
    table: &TableDesc,
    index: &IndexDesc,
    columns: &[(Column, i16)],
    bounds: &[Bound],
) -> Option<Path> {
    if !usable(index) || table.indexes.is_empty() {
        return None;
    }
    let mut path = Path {
        index_id: index.index_id,
        span: KeySpan::default(),
        used: Vec::new(),
        equal: 0,
        unique: false,
        range: false,
    };
    for key in &index.columns {
        let Some(attnum) = key.attnum else { break };
        let Some(id) = columns.iter().find(|(_, a)| *a == attnum).map(|(c, _)| c.id) else { break };
        let mine = |b: &&Bound| b.column == id;
        let equal = bounds.iter().filter(mine).find(|b| b.comparison == Comparison::Equal);
        let any = bounds.iter().filter(mine).find(|b| b.comparison == Comparison::Any);
        let chosen = match (equal, any) {
            (Some(b), _) => b,
            (None, Some(b)) if path.span.each.is_none() => {
                path.span.each = Some(path.span.prefix.len());
                b
            }
            _ => {
                range(&mut path, bounds.iter().filter(mine));
                break;
            }
        };
        path.span.prefix.push(chosen.value.clone());
        path.used.push(chosen.from);
        path.equal += 1;
    }
    path.unique = index.unique && path.equal == index.columns.len();
    (path.equal > 0 || path.range).then_some(path)
}

fn range<'b>(path: &mut Path, bounds: impl Iterator<Item = &'b Bound>) {
    for b in bounds {
        match b.comparison {
            Comparison::Greater | Comparison::GreaterEqual if path.span.lower.is_none() => {
                let included = b.comparison == Comparison::GreaterEqual;
                path.span.lower = Some((b.value.clone(), included));
            }
            Comparison::Less | Comparison::LessEqual if path.span.upper.is_none() => {
                let included = b.comparison == Comparison::LessEqual;
                path.span.upper = Some((b.value.clone(), included));
            }
            _ => continue,
        }
        path.used.push(b.from);
        path.range = true;
    }
}

/// Never more than one row, whatever the tables hold.
pub(super) fn at_most_one_row(rel: &Rel) -> bool {
    match rel {
        Rel::Aggregate { group_by, grouping_sets: None, .. } => group_by.is_empty(),
        Rel::Values { rows, .. } => rows.len() <= 1,
        Rel::Project { input, .. } | Rel::Sort { input, .. } | Rel::Distinct { input, .. } => {
            at_most_one_row(input)
        }
        Rel::Limit { input, limit, .. } => {
            limit.as_ref().is_some_and(super::subquery::is_one) || at_most_one_row(input)
        }
        Rel::Filter { input, predicates } => match input.as_ref() {
            Rel::Scan { table, columns, filter, .. } => {
                let all: Vec<Expr> = filter.iter().chain(predicates).cloned().collect();
                one_by_key(table, columns, &all)
            }
            input => at_most_one_row(input),
        },
        Rel::Scan { table, columns, filter, .. } => one_by_key(table, columns, filter),
        _ => false,
    }
}

/// Equalities on all columns of a unique index.
pub(super) fn one_by_key(table: &TableDesc, columns: &[(Column, i16)], filter: &[Expr]) -> bool {
    let own: ColumnSet = columns.iter().map(|(c, _)| c.id).collect();
    let bounds = bounds(filter, &own);
    table.indexes.iter().any(|index| {
        path(table, index, columns, &bounds).is_some_and(|p| p.unique && p.span.each.is_none())
    })
}
