//! Typed expressions back to SQL, in the style of PostgreSQL's `pg_get_expr`.
//!
//! Everything is explicit: operators stand in parentheses, constants carry their type
//! (`'abc'::text`), casts are written with `::`. What comes out can be parsed and bound again to
//! the same expression, which is how defaults, checks and views are kept.

use std::fmt::Write;

use meridian_types::builtin;
use meridian_types::io;
use meridian_types::oid;
use meridian_types::{Datum, EvalContext, PgType};

use crate::expr::{ColumnId, Expr, ExprKind, FuncRef, Quantifier, TruthTest};
use crate::parse::keywords;

/// A name as it must be written: in quotes unless it is plain lower case and no key word.
pub fn quote_ident(name: &str) -> String {
    let mut chars = name.chars();
    let plain = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !keywords::needs_quotes(name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A string literal, with `E''` when it has a backslash.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// What a deparser asks of its surroundings.
pub struct Deparser<'a> {
    /// The name of a column, quoted and qualified as wanted.
    pub column: &'a dyn Fn(ColumnId) -> String,
    /// The name of a type with its modifier.
    pub type_name: &'a dyn Fn(PgType) -> String,
    /// For the text form of constants.
    pub eval: &'a EvalContext,
    /// Leaves out the parentheses that `pg_get_expr(…, true)` leaves out.
    pub pretty: bool,
}

/// What an expression is an operand of, for parentheses in the pretty form.
#[derive(Clone, Copy)]
enum Outer<'a> {
    /// AND or OR.
    Connective { and: bool },
    /// NOT.
    Not,
    /// A binary operator, by name; on its left side or not.
    Operator(&'a str, bool),
    /// Anything else that binds tightly.
    Tight,
}

/// 1 for `+` and `-`, 2 for `*`, `/` and `%`: the operators whose order everybody knows.
fn priority(op: &str) -> Option<u8> {
    match op {
        "+" | "-" => Some(1),
        "*" | "/" | "%" => Some(2),
        _ => None,
    }
}

/// The operator of a comparison of rows, which is that of the last pair.
pub(crate) fn row_operator(decides: &[FuncRef]) -> &str {
    decides.last().map_or("", |f| f.operator.as_deref().unwrap_or(&f.name))
}

/// Whether the pretty form needs parentheses around an operand.
fn needs_parentheses(e: &Expr, outer: Outer<'_>) -> bool {
    let connective = matches!(outer, Outer::Connective { .. } | Outer::Not);
    match &e.kind {
        ExprKind::And(_) | ExprKind::Not(_) => !matches!(outer, Outer::Connective { .. }),
        ExprKind::Or(_) => !matches!(outer, Outer::Connective { and: false }),
        ExprKind::Relabel(arg) => needs_parentheses(arg, Outer::Tight),
        ExprKind::ArrayCompare { .. } => true,
        ExprKind::IsNull(_)
        | ExprKind::IsNotNull(_)
        | ExprKind::Truth(..)
        | ExprKind::Distinct { .. } => !connective,
        ExprKind::Call { func, args } => match (&func.operator, outer) {
            (None, _) => false,
            (Some(_), _) if connective => false,
            (Some(op), Outer::Operator(parent, left)) if args.len() == 2 => {
                match (priority(op), priority(parent)) {
                    (Some(own), Some(theirs)) => own < theirs || (own == theirs && !left),
                    _ => true,
                }
            }
            _ => true,
        },
        _ => false,
    }
}

impl std::fmt::Debug for Deparser<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deparser")
    }
}

impl Deparser<'_> {
    /// The expression as SQL.
    pub fn expr(&self, expr: &Expr) -> String {
        let mut out = String::new();
        self.write(expr, &mut out);
        out
    }

    /// The expression as SQL without a conversion around the whole of it: a default is coerced to
    /// its column again when it is bound.
    pub fn default(&self, expr: &Expr) -> String {
        match &expr.kind {
            ExprKind::Call { func, args } if is_cast(func, args, expr.ty) => self.expr(&args[0]),
            ExprKind::Relabel(inner) => self.expr(inner),
            _ => self.expr(expr),
        }
    }

    /// A type as a cast names it: `bpchar` when it has no length, since `character` means one.
    fn ty(&self, ty: PgType) -> String {
        match ty {
            PgType { oid: oid::BPCHAR, typmod: ..0 } => "bpchar".to_owned(),
            ty => (self.type_name)(ty),
        }
    }

    fn write(&self, e: &Expr, out: &mut String) {
        match &e.kind {
            ExprKind::Const(value) => self.constant(value, e.ty, out),
            ExprKind::Column(id) => out.push_str(&(self.column)(*id)),
            ExprKind::Param(n) => put(out, format_args!("${}", n + 1)),
            ExprKind::Call { func, args } => self.call(func, args, e.ty, out),
            ExprKind::And(terms) => self.joined(terms, true, out),
            ExprKind::Or(terms) => self.joined(terms, false, out),
            ExprKind::Not(arg) => {
                self.open("(NOT ", out);
                self.operand(arg, Outer::Not, out);
                self.close(")", out);
            }
            ExprKind::IsNull(arg) => self.test(arg, " IS NULL)", out),
            ExprKind::IsNotNull(arg) => self.test(arg, " IS NOT NULL)", out),
            ExprKind::Truth(test, arg) => self.test(arg, truth(*test), out),
            ExprKind::Distinct { left, right, .. } => {
                self.open("(", out);
                self.operand(left, Outer::Tight, out);
                out.push_str(" IS DISTINCT FROM ");
                self.operand(right, Outer::Tight, out);
                self.close(")", out);
            }
            ExprKind::Case { whens, default } => self.case(whens, default.as_deref(), out),
            ExprKind::RowCompare { pairs, decides, .. } => self.row_compare(pairs, decides, out),
            ExprKind::Coalesce(args) => self.named("COALESCE", args, out),
            ExprKind::NullIf { right, result, .. } => {
                self.around("NULLIF(", result, ", ", out);
                self.around("", right, ")", out);
            }
            ExprKind::MinMax { greatest, args } => {
                self.named(if *greatest { "GREATEST" } else { "LEAST" }, args, out);
            }
            ExprKind::ArrayCompare { func, quantifier, left, right } => {
                self.array_compare(func, *quantifier, left, right, out);
            }
            ExprKind::Array { elements, .. } => {
                out.push_str("ARRAY[");
                self.list(elements, out);
                out.push(']');
                if elements.is_empty() {
                    put(out, format_args!("::{}", self.ty(e.ty)));
                }
            }
            ExprKind::Row(fields) => {
                self.named("ROW", fields, out);
                if e.ty.oid != oid::RECORD {
                    put(out, format_args!("::{}", self.ty(e.ty)));
                }
            }
            ExprKind::Field(row, index) => {
                self.around("(", row, ")", out);
                put(out, format_args!(".f{}", index + 1));
            }
            ExprKind::Subscript { base, indexes, slice } => {
                self.subscript(base, indexes, *slice, out);
            }
            ExprKind::Relabel(arg) | ExprKind::ViaText { arg } => self.cast(arg, e.ty, out),
            ExprKind::ArrayCoerce { arg, .. } => self.cast(arg, e.ty, out),
            ExprKind::SqlValue(name) => out.push_str(&name.to_ascii_uppercase()),
            ExprKind::ScalarSubquery(_)
            | ExprKind::Exists(_)
            | ExprKind::ArraySubquery(_)
            | ExprKind::Quantified { .. } => out.push_str("(SubPlan)"),
            ExprKind::Default => out.push_str("DEFAULT"),
        }
    }

    fn row_compare(&self, pairs: &[(Expr, Expr)], decides: &[FuncRef], out: &mut String) {
        let (left, right): (Vec<Expr>, Vec<Expr>) = pairs.iter().cloned().unzip();
        self.open("(", out);
        self.named("ROW", &left, out);
        put(out, format_args!(" {} ", row_operator(decides)));
        self.named("ROW", &right, out);
        self.close(")", out);
    }

    fn around(&self, before: &str, e: &Expr, after: &str, out: &mut String) {
        out.push_str(before);
        self.write(e, out);
        out.push_str(after);
    }

    fn list(&self, items: &[Expr], out: &mut String) {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            self.write(item, out);
        }
    }

    fn named(&self, name: &str, args: &[Expr], out: &mut String) {
        out.push_str(name);
        out.push('(');
        self.list(args, out);
        out.push(')');
    }

    /// What opens a node; its first parenthesis is for the plain form only.
    fn open(&self, text: &str, out: &mut String) {
        out.push_str(if self.pretty { text.trim_start_matches('(') } else { text });
    }

    /// What ends a node.
    fn close(&self, text: &str, out: &mut String) {
        let bare = text.strip_suffix(')').unwrap_or(text);
        out.push_str(if self.pretty { bare } else { text });
    }

    fn operand(&self, e: &Expr, outer: Outer<'_>, out: &mut String) {
        match self.pretty && needs_parentheses(e, outer) {
            true => self.around("(", e, ")", out),
            false => self.write(e, out),
        }
    }

    fn test(&self, arg: &Expr, tail: &str, out: &mut String) {
        self.open("(", out);
        self.operand(arg, Outer::Tight, out);
        self.close(tail, out);
    }

    fn joined(&self, terms: &[Expr], and: bool, out: &mut String) {
        self.open("(", out);
        for (i, term) in terms.iter().enumerate() {
            if i > 0 {
                out.push_str(if and { " AND " } else { " OR " });
            }
            self.operand(term, Outer::Connective { and }, out);
        }
        self.close(")", out);
    }

    fn case(&self, whens: &[(Expr, Expr)], default: Option<&Expr>, out: &mut String) {
        out.push_str("CASE");
        for (condition, result) in whens {
            self.around(" WHEN ", condition, "", out);
            self.around(" THEN ", result, "", out);
        }
        match default {
            Some(e) => self.around(" ELSE ", e, "", out),
            None => {
                let ty = whens.first().map_or(PgType::new(oid::TEXT), |w| w.1.ty);
                put(out, format_args!(" ELSE NULL::{}", self.ty(ty)));
            }
        }
        out.push_str(" END");
    }

    fn call(&self, func: &FuncRef, args: &[Expr], ty: PgType, out: &mut String) {
        if is_cast(func, args, ty) {
            return self.cast(&args[0], ty, out);
        }
        match (&func.operator, args) {
            (Some(op), [left, right]) => {
                self.open("(", out);
                self.operand(left, Outer::Operator(op, true), out);
                put(out, format_args!(" {op} "));
                self.operand(right, Outer::Operator(op, false), out);
                self.close(")", out);
            }
            (Some(op), [arg]) => {
                self.open("(", out);
                put(out, format_args!("{op} "));
                self.operand(arg, Outer::Operator(op, false), out);
                self.close(")", out);
            }
            _ => self.function(func, args, out),
        }
    }

    /// The calls that have a syntax of their own keep it.
    fn function(&self, func: &FuncRef, args: &[Expr], out: &mut String) {
        match (&*func.name, args) {
            ("timezone", [zone, time]) => {
                self.around("(", time, " AT TIME ZONE ", out);
                self.around("", zone, ")", out);
            }
            ("extract", [field, source]) => {
                let field = match &field.kind {
                    ExprKind::Const(Datum::Text(s)) => s.to_string(),
                    _ => self.expr(field),
                };
                put(out, format_args!("EXTRACT({field} FROM "));
                self.around("", source, ")", out);
            }
            ("position", [text, what]) => {
                self.around("POSITION((", what, ") IN (", out);
                self.around("", text, "))", out);
            }
            (name, _) => self.named(&quote_ident(name), args, out),
        }
    }

    fn array_compare(
        &self,
        func: &FuncRef,
        quantifier: Quantifier,
        left: &Expr,
        right: &Expr,
        out: &mut String,
    ) {
        self.open("(", out);
        self.operand(left, Outer::Tight, out);
        let op = func.operator.as_deref().unwrap_or("=");
        let word = if quantifier == Quantifier::Any { "ANY" } else { "ALL" };
        put(out, format_args!(" {op} {word} ("));
        self.around("", right, ")", out);
        self.close(")", out);
    }

    fn subscript(
        &self,
        base: &Expr,
        indexes: &[(Option<Expr>, Option<Expr>)],
        slice: bool,
        out: &mut String,
    ) {
        let plain = matches!(base.kind, ExprKind::Column(_) | ExprKind::Param(_));
        match plain {
            true => self.write(base, out),
            false => self.around("(", base, ")", out),
        }
        for (lower, upper) in indexes {
            out.push('[');
            if let Some(e) = lower {
                self.write(e, out);
            }
            if slice {
                out.push(':');
            }
            if let Some(e) = upper {
                self.write(e, out);
            }
            out.push(']');
        }
    }

    fn cast(&self, arg: &Expr, ty: PgType, out: &mut String) {
        // A conversion and then a modifier are one cast in SQL.
        let inner = match &arg.kind {
            ExprKind::Relabel(inner) | ExprKind::ViaText { arg: inner } => Some(&**inner),
            ExprKind::Call { func, args } if is_cast(func, args, arg.ty) => args.first(),
            _ => None,
        };
        if let Some(inner) = inner.filter(|_| arg.ty == PgType::new(ty.oid) && ty.typmod >= 0) {
            return self.cast(inner, ty, out);
        }
        match &arg.kind {
            ExprKind::Const(value) if arg.ty == PgType::new(ty.oid) && !value.is_null() => {
                self.literal(value, arg.ty, out);
            }
            _ => {
                self.open("(", out);
                self.operand(arg, Outer::Tight, out);
                self.close(")", out);
            }
        }
        put(out, format_args!("::{}", self.ty(ty)));
    }

    fn literal(&self, value: &Datum, ty: PgType, out: &mut String) {
        let text = io::to_text(value, ty, self.eval).unwrap_or_default();
        out.push_str(&quote_literal(&text));
    }

    fn constant(&self, value: &Datum, ty: PgType, out: &mut String) {
        if value.is_null() {
            return match ty.oid {
                oid::UNKNOWN => out.push_str("NULL"),
                _ => put(out, format_args!("NULL::{}", self.ty(ty))),
            };
        }
        let text = io::to_text(value, ty, self.eval).unwrap_or_default();
        let negative = text.starts_with('-');
        match ty.oid {
            oid::BOOL => out.push_str(if text == "t" { "true" } else { "false" }),
            oid::INT4 if !negative => out.push_str(&text),
            oid::NUMERIC if ty.typmod < 0 && !negative && text.contains('.') => {
                out.push_str(&text);
            }
            oid::UNKNOWN => out.push_str(&quote_literal(&text)),
            _ => {
                out.push_str(&quote_literal(&text));
                put(out, format_args!("::{}", self.ty(ty)));
            }
        }
    }
}

fn put(out: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(args);
}

/// Whether a call is a conversion: the function of a cast between these types, or the one that
/// applies a modifier.
fn is_cast(func: &FuncRef, args: &[Expr], ty: PgType) -> bool {
    let Some(first) = args.first() else { return false };
    func.operator.is_none()
        && builtin::cast(first.ty.oid, ty.oid).is_some_and(|c| c.func == func.oid)
}

fn truth(test: TruthTest) -> &'static str {
    match test {
        TruthTest::IsTrue => " IS TRUE)",
        TruthTest::IsNotTrue => " IS NOT TRUE)",
        TruthTest::IsFalse => " IS FALSE)",
        TruthTest::IsNotFalse => " IS NOT FALSE)",
        TruthTest::IsUnknown => " IS UNKNOWN)",
        TruthTest::IsNotUnknown => " IS NOT UNKNOWN)",
    }
}
