//! Bound expressions as PostgreSQL's EXPLAIN writes them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_types::oid;
use meridian_types::{Datum, PgType};

use crate::deparse::{quote_ident, row_operator};
use crate::expr::{ColumnId, Expr, ExprKind, FuncRef, Quantifier, Subquery, TruthTest};
use crate::plan::{Aliases, Modify, ModifyKind, Query};
use crate::rel::{AggregateCall, Column, Rel};
use crate::walk;

/// Names of columns, qualified when the statement reads more than one relation, and numbers of
/// sub-queries, given as they are met.
#[derive(Clone, Debug, Default)]
pub struct Names {
    names: BTreeMap<ColumnId, String>,
    aliases: Aliases,
    ctes: BTreeMap<u32, Arc<str>>,
    qualified: bool,
    subplans: RefCell<Vec<SubplanName>>,
    /// Columns of the scan whose conditions are written: they stand there unqualified.
    own: BTreeMap<ColumnId, String>,
}

/// A sub-query that has a number.
#[derive(Clone, Copy, Debug)]
struct SubplanName {
    plan: *const Rel,
    /// Number of the value that an uncorrelated one gives.
    value: Option<usize>,
}

impl Names {
    /// The names in a statement.
    pub fn of(query: &Query) -> Names {
        let mut sources = 0;
        count(&query.rel, &mut sources);
        let (aliases, qualified) = (query.aliases.clone(), sources > 1);
        let mut names = Names { aliases, qualified, ..Names::default() };
        names.collect(&query.rel);
        names
    }

    /// The names in a relation, without aliases.
    pub fn of_rel(rel: &Rel) -> Names {
        let mut sources = 0;
        count(rel, &mut sources);
        let mut names = Names { qualified: sources > 1, ..Names::default() };
        names.collect(rel);
        names
    }

    /// Adds the names of another relation.
    pub fn extend(&mut self, other: Names) {
        for (id, name) in other.names {
            self.names.entry(id).or_insert(name);
        }
    }

    /// The name of a column.
    pub fn name(&self, id: ColumnId, otherwise: &str) -> String {
        let found = self.own.get(&id).or_else(|| self.names.get(&id));
        found.cloned().unwrap_or_else(|| otherwise.to_owned())
    }

    /// Has the columns of a scan written by their bare names, until the next call.
    pub fn enter_scan<'a>(&mut self, columns: impl IntoIterator<Item = &'a Column>) {
        self.own = columns.into_iter().map(|c| (c.id, quote_ident(&c.name))).collect();
    }

    /// What EXPLAIN writes behind `on`: the relation, and its alias when it is another name.
    pub fn relation(&self, name: &str, first: Option<ColumnId>) -> String {
        match first.and_then(|id| self.aliases.get(&id)).filter(|a| ***a != *name) {
            Some(alias) => format!("{} {}", quote_ident(name), quote_ident(alias)),
            None => quote_ident(name),
        }
    }

    /// The number of a sub-query, and that of its value when it is run once.
    pub fn subplan(&self, sub: &Subquery, once: bool) -> (usize, Option<usize>) {
        let plan = Arc::as_ptr(&sub.plan);
        let mut all = self.subplans.borrow_mut();
        if let Some(at) = all.iter().position(|s| s.plan == plan) {
            return (at + 1, all[at].value);
        }
        let value = once.then(|| all.iter().filter(|s| s.value.is_some()).count());
        all.push(SubplanName { plan, value });
        (all.len(), value)
    }

    /// Adds the names of a relation.
    pub fn collect(&mut self, rel: &Rel) {
        if let Rel::With { ctes, .. } = rel {
            self.ctes.extend(ctes.iter().map(|c| (c.id, c.name.clone())));
        }
        walk::each_input(rel, &mut |r| self.collect(r));
        match rel {
            Rel::Scan { table, columns, .. } => {
                columns.iter().for_each(|(c, _)| self.put(c.id, &table.name, &c.name));
            }
            Rel::Virtual { table, columns, .. } => {
                columns.iter().for_each(|(c, _)| self.put(c.id, table.name, &c.name));
            }
            Rel::Project { exprs, .. } => {
                for (c, e) in exprs {
                    let text = expression(e, self);
                    self.names.entry(c.id).or_insert(text);
                }
            }
            Rel::Aggregate { aggregates, .. } => {
                for (c, call) in aggregates {
                    let text = aggregate(call, self);
                    self.names.entry(c.id).or_insert(text);
                }
            }
            Rel::Modify(modify) => self.modified(modify),
            Rel::CteScan { cte, columns } => {
                let name = self.ctes.get(cte).cloned().unwrap_or_default();
                columns.iter().for_each(|c| self.put(c.id, &name, &c.name));
            }
            Rel::Values { columns, rows } if rows.len() > 1 => {
                columns.iter().for_each(|c| self.put(c.id, "*VALUES*", &c.name));
            }
            Rel::SetOp { columns, left, .. } => {
                for (c, from) in columns.iter().zip(&left.1) {
                    let text = self.name(*from, &c.name);
                    self.names.entry(c.id).or_insert(text);
                }
            }
            other => walk::output(other).iter().for_each(|c| self.put(c.id, "", &c.name)),
        }
    }

    /// Rows that INSERT meets, and those that it had for them.
    fn modified(&mut self, modify: &Modify) {
        let ModifyKind::Insert { on_conflict: Some(conflict), .. } = &modify.kind else { return };
        let Some(update) = &conflict.update else { return };
        let alias = modify.new_columns.first().and_then(|id| self.aliases.get(id)).cloned();
        let table = alias.as_deref().unwrap_or(&modify.table.name);
        for (i, column) in modify.table.columns.iter().enumerate() {
            self.put(update.existing[i], table, &column.name);
            self.put(update.excluded[i], "excluded", &column.name);
        }
    }

    fn put(&mut self, id: ColumnId, table: &str, name: &str) {
        let table = self.aliases.get(&id).map_or(table, |a| a);
        let name = if self.qualified && !table.is_empty() {
            format!("{}.{}", quote_ident(table), quote_ident(name))
        } else {
            quote_ident(name)
        };
        self.names.entry(id).or_insert(name);
    }
}

/// Counts what PostgreSQL's range table would have.
fn count(rel: &Rel, sources: &mut usize) {
    match rel {
        Rel::Scan { .. } | Rel::Virtual { .. } | Rel::CteScan { .. } | Rel::Function { .. } => {
            *sources += 1;
        }
        Rel::Values { rows, .. } if rows.len() > 1 => *sources += 1,
        Rel::Modify(modify) => {
            if let ModifyKind::Insert { on_conflict, .. } = &modify.kind {
                let excluded = on_conflict.as_ref().is_some_and(|c| c.update.is_some());
                *sources += 1 + usize::from(excluded);
            }
        }
        _ => {}
    }
    walk::each_input(rel, &mut |r| count(r, sources));
    walk::each_expr(rel, &mut |e| {
        walk::visit(e, &mut |e| {
            if let Some(sub) = walk::subquery_of(e) {
                count(&sub.plan, sources);
            }
        });
    });
}

fn aggregate(call: &AggregateCall, names: &Names) -> String {
    let args: Vec<String> = call.args.iter().map(|e| expression(e, names)).collect();
    let args = if args.is_empty() { "*".to_owned() } else { args.join(", ") };
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let filter = match &call.filter {
        Some(filter) => format!(" FILTER (WHERE {})", enclosed(filter, names)),
        None => String::new(),
    };
    format!("{}({distinct}{args}){filter}", call.func.name)
}

/// Several predicates as one condition.
pub fn conjunction(predicates: &[Expr], names: &Names) -> String {
    match predicates {
        [one] => enclosed(one, names),
        all => {
            let parts: Vec<String> = all.iter().map(|e| enclosed(e, names)).collect();
            format!("({})", parts.join(" AND "))
        }
    }
}

/// In parentheses, unless it has them already.
fn enclosed(e: &Expr, names: &Names) -> String {
    let text = expression(e, names);
    if text.starts_with('(') || matches!(e.kind, ExprKind::Column(_)) {
        text
    } else {
        format!("({text})")
    }
}

/// An expression.
pub fn expression(e: &Expr, names: &Names) -> String {
    let list = |items: &[Expr]| -> String {
        items.iter().map(|e| expression(e, names)).collect::<Vec<_>>().join(", ")
    };
    let text = |e: &Expr| expression(e, names);
    match &e.kind {
        ExprKind::Const(d) => constant(d, e.ty),
        ExprKind::Column(id) => names.name(*id, &format!("${}", id.0)),
        ExprKind::Param(n) => format!("${}", n + 1),
        ExprKind::Call { func, args } => call(func, args, e.ty, names),
        ExprKind::And(args) => junction(args, " AND ", names),
        ExprKind::Or(args) => junction(args, " OR ", names),
        ExprKind::Not(arg) => format!("(NOT {})", text(arg)),
        ExprKind::IsNull(arg) => format!("({} IS NULL)", text(arg)),
        ExprKind::IsNotNull(arg) => format!("({} IS NOT NULL)", text(arg)),
        ExprKind::Truth(test, arg) => format!("({} IS {})", text(arg), truth(*test)),
        ExprKind::Distinct { left, right, .. } => {
            format!("({} IS DISTINCT FROM {})", text(left), text(right))
        }
        ExprKind::Case { whens, default } => {
            let when = |(c, r): &(Expr, Expr)| format!(" WHEN {} THEN {}", text(c), text(r));
            let whens: String = whens.iter().map(when).collect();
            let default = default.as_ref().map(|e| format!(" ELSE {}", text(e)));
            format!("CASE{whens}{} END", default.unwrap_or_default())
        }
        ExprKind::RowCompare { pairs, decides, .. } => {
            let (left, right): (Vec<Expr>, Vec<Expr>) = pairs.iter().cloned().unzip();
            format!("(ROW({}) {} ROW({}))", list(&left), row_operator(decides), list(&right))
        }
        ExprKind::Coalesce(args) => format!("COALESCE({})", list(args)),
        ExprKind::NullIf { left, right, .. } => format!("NULLIF({}, {})", text(left), text(right)),
        ExprKind::MinMax { greatest, args } => {
            format!("{}({})", if *greatest { "GREATEST" } else { "LEAST" }, list(args))
        }
        ExprKind::ArrayCompare { func, quantifier, left, right } => {
            let op = func.operator.as_deref().unwrap_or(&func.name);
            let word = if *quantifier == Quantifier::Any { "ANY" } else { "ALL" };
            format!("({} {op} {word} ({}))", text(left), text(right))
        }
        ExprKind::Array { elements, .. } => format!("ARRAY[{}]", list(elements)),
        ExprKind::Row(items) => format!("ROW({})", list(items)),
        ExprKind::Field(base, at) => format!("({}).f{}", text(base), at + 1),
        ExprKind::Subscript { base, indexes, slice } => {
            let one = |e: &Option<Expr>| e.as_ref().map(&text).unwrap_or_default();
            let parts: Vec<String> = indexes
                .iter()
                .map(|(l, u)| {
                    if *slice {
                        format!("[{}:{}]", one(l), one(u))
                    } else {
                        format!("[{}]", one(u))
                    }
                })
                .collect();
            format!("({}){}", text(base), parts.concat())
        }
        ExprKind::Relabel(arg) | ExprKind::ViaText { arg } | ExprKind::ArrayCoerce { arg, .. } => {
            format!("({})::{}", text(arg), type_name(e.ty))
        }
        ExprKind::ScalarSubquery(sub) | ExprKind::Exists(sub) | ExprKind::ArraySubquery(sub) => {
            subplan(sub, false, names)
        }
        ExprKind::Quantified { subquery, .. } => subplan(subquery, true, names),
        ExprKind::SqlValue(name) => name.to_uppercase(),
        ExprKind::Default => "DEFAULT".to_owned(),
    }
}

/// A sub-query by its number, or by that of its value when it is run once.
fn subplan(sub: &Subquery, set: bool, names: &Names) -> String {
    let once = sub.outer.is_empty();
    match names.subplan(sub, once && !set) {
        (_, Some(value)) => format!("${value}"),
        (number, None) if once => format!("(hashed SubPlan {number})"),
        (number, None) => format!("(SubPlan {number})"),
    }
}

fn junction(args: &[Expr], word: &str, names: &Names) -> String {
    let parts: Vec<String> = args.iter().map(|e| expression(e, names)).collect();
    format!("({})", parts.join(word))
}

fn call(func: &FuncRef, args: &[Expr], ty: PgType, names: &Names) -> String {
    let parts: Vec<String> = args.iter().map(|e| expression(e, names)).collect();
    match (&func.operator, parts.as_slice()) {
        (Some(op), [left, right]) => format!("({left} {op} {right})"),
        (Some(op), [one]) => format!("({op} {one})"),
        // A cast function is named like its type.
        (None, [one]) if *func.name == *meridian_types::builtin::type_name(ty.oid) => {
            format!("({one})::{}", type_name(ty))
        }
        _ => format!("{}({})", func.name, parts.join(", ")),
    }
}

fn truth(test: TruthTest) -> &'static str {
    match test {
        TruthTest::IsTrue => "TRUE",
        TruthTest::IsNotTrue => "NOT TRUE",
        TruthTest::IsFalse => "FALSE",
        TruthTest::IsNotFalse => "NOT FALSE",
        TruthTest::IsUnknown => "UNKNOWN",
        TruthTest::IsNotUnknown => "NOT UNKNOWN",
    }
}

fn type_name(ty: PgType) -> String {
    meridian_types::builtin::format_type(ty.oid, ty.typmod)
}

/// A literal with its type, where the type is not plain from it.
fn constant(d: &Datum, ty: PgType) -> String {
    match d {
        Datum::Null => format!("NULL::{}", type_name(ty)),
        Datum::Bool(b) => b.to_string(),
        Datum::Int4(v) if *v >= 0 => v.to_string(),
        _ => {
            let ctx = meridian_types::EvalContext::bare();
            let text = meridian_types::io::to_text(d, ty, &ctx).unwrap_or_default();
            match ty.oid {
                oid::NUMERIC if !text.starts_with('-') => text,
                _ => format!("'{}'::{}", text.replace('\'', "''"), type_name(ty)),
            }
        }
    }
}
