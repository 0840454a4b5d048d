//! Bound expressions as PostgreSQL's EXPLAIN writes them.

use std::collections::BTreeMap;

use meridian_types::oid;
use meridian_types::{Datum, PgType};

use crate::expr::{ColumnId, Expr, ExprKind, FuncRef, Quantifier, TruthTest};
use crate::rel::Rel;
use crate::walk;

/// Names of columns; qualified when more than one relation is read.
#[derive(Clone, Debug, Default)]
pub struct Names {
    names: BTreeMap<ColumnId, String>,
}

impl Names {
    /// The names in a relation.
    pub fn of(rel: &Rel) -> Names {
        let mut sources = 0;
        count(rel, &mut sources);
        let mut names = Names::default();
        names.collect(rel, sources > 1);
        names
    }

    /// The name of a column.
    pub fn name(&self, id: ColumnId, otherwise: &str) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| otherwise.to_owned())
    }

    /// Adds the names of another relation.
    pub fn extend(&mut self, other: Names) {
        for (id, name) in other.names {
            self.names.entry(id).or_insert(name);
        }
    }

    fn collect(&mut self, rel: &Rel, qualified: bool) {
        walk::each_input(rel, &mut |r| self.collect(r, qualified));
        let mut put = |id: ColumnId, table: &str, name: &str| {
            let name = if qualified && !table.is_empty() {
                format!("{table}.{name}")
            } else {
                name.to_owned()
            };
            self.names.entry(id).or_insert(name);
        };
        match rel {
            Rel::Scan { table, columns, .. } => {
                columns.iter().for_each(|(c, _)| put(c.id, &table.name, &c.name));
            }
            Rel::Virtual { table, columns, .. } => {
                columns.iter().for_each(|(c, _)| put(c.id, table.name, &c.name));
            }
            Rel::Project { exprs, .. } => {
                for (c, e) in exprs {
                    if !matches!(e.kind, ExprKind::Column(_)) {
                        let text = expression(e, self);
                        self.names.entry(c.id).or_insert(text);
                    }
                }
            }
            Rel::Aggregate { aggregates, .. } => {
                for (c, call) in aggregates {
                    let args: Vec<String> = call.args.iter().map(|e| expression(e, self)).collect();
                    let args = if args.is_empty() { "*".to_owned() } else { args.join(", ") };
                    self.names.entry(c.id).or_insert(format!("({}({args}))", call.func.name));
                }
            }
            other => walk::output(other).iter().for_each(|c| put(c.id, "", &c.name)),
        }
    }
}

fn count(rel: &Rel, sources: &mut usize) {
    if matches!(
        rel,
        Rel::Scan { .. } | Rel::Virtual { .. } | Rel::CteScan { .. } | Rel::Function { .. }
    ) {
        *sources += 1;
    }
    walk::each_input(rel, &mut |r| count(r, sources));
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
            let mut out = String::from("CASE");
            for (condition, result) in whens {
                out.push_str(&format!(" WHEN {} THEN {}", text(condition), text(result)));
            }
            if let Some(default) = default {
                out.push_str(&format!(" ELSE {}", text(default)));
            }
            out.push_str(" END");
            out
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
        ExprKind::ScalarSubquery(_) => "(SubPlan)".to_owned(),
        ExprKind::Exists(_) => "EXISTS(SubPlan)".to_owned(),
        ExprKind::ArraySubquery(_) => "ARRAY(SubPlan)".to_owned(),
        ExprKind::Quantified { .. } => "(hashed SubPlan)".to_owned(),
        ExprKind::SqlValue(name) => name.to_uppercase(),
        ExprKind::Default => "DEFAULT".to_owned(),
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
