//! The text form of a path, with PostgreSQL's spaces, quotes and parentheses.

use super::{Binary, Expr, Method, Path, Step};
use crate::jsonb::text::quote;

impl Path {
    /// The text that PostgreSQL shows.
    pub fn to_text(&self) -> String {
        let mut out = Vec::new();
        if !self.lax {
            out.extend_from_slice(b"strict ");
        }
        show(&mut out, &self.expr, true);
        crate::jsonb::text::into_string(out)
    }
}

fn strength(e: &Expr) -> u8 {
    match e {
        Expr::Binary(op, ..) => match op {
            Binary::Or => 0,
            Binary::And => 1,
            Binary::Add | Binary::Sub => 3,
            Binary::Mul | Binary::Div | Binary::Mod => 4,
            _ => 2,
        },
        Expr::LikeRegex(..) => 2,
        Expr::Unary(..) => 5,
        _ => 6,
    }
}

fn symbol(op: Binary) -> &'static str {
    match op {
        Binary::Or => "||",
        Binary::And => "&&",
        Binary::Eq => "==",
        Binary::Ne => "!=",
        Binary::Lt => "<",
        Binary::Le => "<=",
        Binary::Gt => ">",
        Binary::Ge => ">=",
        Binary::StartsWith => "starts with",
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::Mod => "%",
    }
}

fn wrapped(out: &mut Vec<u8>, e: &Expr, parentheses: bool) {
    if parentheses {
        out.push(b'(');
    }
    show(out, e, false);
    if parentheses {
        out.push(b')');
    }
}

fn signed(out: &mut Vec<u8>, minus: bool, inner: &Expr, top: bool) {
    if top {
        out.push(b'(');
    }
    out.push(if minus { b'-' } else { b'+' });
    wrapped(out, inner, strength(inner) <= 5);
    if top {
        out.push(b')');
    }
}

fn show(out: &mut Vec<u8>, e: &Expr, top: bool) {
    match e {
        Expr::Root => out.push(b'$'),
        Expr::Current => out.push(b'@'),
        Expr::Last => out.extend_from_slice(b"last"),
        Expr::Variable(name) => {
            out.push(b'$');
            quote(out, name);
        }
        Expr::Null => out.extend_from_slice(b"null"),
        Expr::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Expr::Number(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Expr::String(s) => quote(out, s),
        Expr::Steps(start, steps) => {
            let operator = strength(start) < 6 || matches!(**start, Expr::Number(_));
            wrapped(out, start, operator);
            steps.iter().for_each(|s| step(out, s));
        }
        Expr::Binary(op, left, right) => {
            if top {
                out.push(b'(');
            }
            let mine = strength(e);
            wrapped(out, left, strength(left) <= mine);
            out.push(b' ');
            out.extend_from_slice(symbol(*op).as_bytes());
            out.push(b' ');
            wrapped(out, right, strength(right) <= mine);
            if top {
                out.push(b')');
            }
        }
        Expr::Unary(minus, inner) => {
            signed(out, *minus, inner, top);
        }
        Expr::Not(inner) => {
            out.push(b'!');
            wrapped(out, inner, true);
        }
        Expr::IsUnknown(inner) => {
            wrapped(out, inner, true);
            out.extend_from_slice(b" is unknown");
        }
        Expr::Exists(inner) => {
            out.extend_from_slice(b"exists ");
            wrapped(out, inner, true);
        }
        Expr::LikeRegex(inner, pattern, flags) => {
            if top {
                out.push(b'(');
            }
            wrapped(out, inner, strength(inner) <= 2);
            out.extend_from_slice(b" like_regex ");
            quote(out, pattern);
            if !flags.is_empty() {
                out.extend_from_slice(b" flag ");
                quote(out, flags);
            }
            if top {
                out.push(b')');
            }
        }
    }
}

fn step(out: &mut Vec<u8>, s: &Step) {
    match s {
        Step::Key(key) => {
            out.push(b'.');
            quote(out, key);
        }
        Step::AnyKey => out.extend_from_slice(b".*"),
        Step::AnyElement => out.extend_from_slice(b"[*]"),
        Step::Elements(list) => {
            out.push(b'[');
            for (i, (from, to)) in list.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                show(out, from, false);
                if let Some(to) = to {
                    out.extend_from_slice(b" to ");
                    show(out, to, false);
                }
            }
            out.push(b']');
        }
        Step::Deep(from, to) => {
            let level = |l: &Option<u32>| l.map_or("last".to_owned(), |n| n.to_string());
            let text = match (from, to) {
                (Some(0), None) => ".**".to_owned(),
                (from, to) if from == to => format!(".**{{{}}}", level(from)),
                (from, to) => format!(".**{{{} to {}}}", level(from), level(to)),
            };
            out.extend_from_slice(text.as_bytes());
        }
        Step::Filter(predicate) => {
            out.push(b'?');
            wrapped(out, predicate, true);
        }
        Step::Method(m) => out.extend_from_slice(format!(".{}()", name(*m)).as_bytes()),
    }
}

/// A method's name.
pub(super) fn name(m: Method) -> &'static str {
    match m {
        Method::Type => "type",
        Method::Size => "size",
        Method::Double => "double",
        Method::Ceiling => "ceiling",
        Method::Floor => "floor",
        Method::Abs => "abs",
        Method::KeyValue => "keyvalue",
        Method::Datetime => "datetime",
    }
}

/// An operator's symbol.
pub(super) fn operator_text(op: Binary) -> &'static str {
    symbol(op)
}
