//! The text of a statement and its tokens, for positions in errors.

use std::sync::Arc;

use sqlparser::ast::{Expr, Query, SetExpr, Spanned};
use sqlparser::tokenizer::{Location, Token};

use super::lexer::{Lexed, lex};
use super::operators;

/// Where an expression begins. Most are told by their leftmost part; for what is left sqlparser walks
/// over the whole expression, sub-queries included, which takes stack by their depth.
pub(crate) fn start_of(mut expr: &Expr) -> Location {
    loop {
        expr = match expr {
            Expr::Identifier(name) => return name.span.start,
            Expr::CompoundIdentifier(names) if !names.is_empty() => return names[0].span.start,
            Expr::Value(value) => return value.span.start,
            Expr::Prefixed { prefix, .. } => return prefix.span.start,
            Expr::Case { case_token, .. } => return case_token.0.span.start,
            Expr::Function(f) => match f.name.0.first().and_then(|part| part.as_ident()) {
                Some(name) if name.span.start.line > 0 => return name.span.start,
                _ => return walked(expr),
            },
            Expr::Subquery(query) | Expr::Exists { subquery: query, .. } => {
                return start_of_query(query);
            }
            Expr::BinaryOp { left, .. } | Expr::AnyOp { left, .. } | Expr::AllOp { left, .. } => {
                left
            }
            Expr::Nested(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner)
            | Expr::IsDistinctFrom(inner, _)
            | Expr::IsNotDistinctFrom(inner, _)
            | Expr::ILike { expr: inner, .. }
            | Expr::SimilarTo { expr: inner, .. }
            | Expr::Extract { expr: inner, .. }
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::Cast { expr: inner, .. }
            | Expr::Collate { expr: inner, .. }
            | Expr::InList { expr: inner, .. }
            | Expr::InSubquery { expr: inner, .. }
            | Expr::Between { expr: inner, .. }
            | Expr::Like { expr: inner, .. }
            | Expr::UnaryOp { expr: inner, .. }
            | Expr::AtTimeZone { timestamp: inner, .. }
            | Expr::CompoundFieldAccess { root: inner, .. } => inner,
            Expr::Tuple(items) if !items.is_empty() => &items[0],
            Expr::Array(array) if !array.elem.is_empty() => &array.elem[0],
            _ => return walked(expr),
        };
    }
}

/// Where an expression ends. For errors only.
pub(crate) fn end_of(expr: &Expr) -> Location {
    on_deep_stack(|| expr.span().end)
}

/// Where a query begins.
pub(crate) fn start_of_query(query: &Query) -> Location {
    if let Some(with) = &query.with {
        return with.with_token.0.span.start;
    }
    let mut body = &*query.body;
    loop {
        body = match body {
            SetExpr::Select(select) => return select.select_token.0.span.start,
            SetExpr::SetOperation { left, .. } => left,
            SetExpr::Query(query) => &query.body,
            _ => return on_deep_stack(|| query.span().start),
        };
    }
}

const WALK_BYTES: usize = 64 << 20;

/// Runs a walk over the parser's trees, which recurses once for each arm of a UNION and each level of
/// a sub-query.
pub(crate) fn on_deep_stack<T>(visit: impl FnOnce() -> T) -> T {
    stacker::grow(WALK_BYTES, visit)
}

fn walked(expr: &Expr) -> Location {
    on_deep_stack(|| expr.span().start)
}

/// A statement's text.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The whole query string, of which the statement may be a part.
    pub text: Arc<str>,
    /// Positions are meaningful to the client (not so for the text of a view or default).
    pub visible: bool,
}

impl Source {
    /// The one-based character position of a location in the syntax tree.
    pub fn position(&self, at: Location) -> Option<u32> {
        if !self.visible || at.line == 0 {
            return None;
        }
        u32::try_from(at.column).ok()
    }

    /// Position of the first of these operators or words behind `from`, outside any parentheses
    /// that are opened there. For errors only: it reads the text again.
    pub(crate) fn find_after(&self, from: Location, wanted: &[&str]) -> Option<u32> {
        if !self.visible || from.line == 0 {
            return None;
        }
        let mut depth = 0;
        for t in lex(&self.text).ok()? {
            if t.token.span.start.column < from.column {
                continue;
            }
            match t.token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ if depth <= 0 && spells(&t, wanted) => {
                    return self.position(t.token.span.start);
                }
                _ => {}
            }
        }
        None
    }

    /// Position of the last such operator or word before `to`.
    pub(crate) fn find_before(&self, to: Location, wanted: &str) -> Option<u32> {
        if !self.visible || to.line == 0 {
            return None;
        }
        let tokens = lex(&self.text).ok()?;
        let before = tokens.iter().rev().skip_while(|t| t.token.span.start.column >= to.column);
        before
            .into_iter()
            .find(|t| spells(t, &[wanted]))
            .and_then(|t| self.position(t.token.span.start))
    }
}

fn spells(token: &Lexed, wanted: &[&str]) -> bool {
    match &token.token.token {
        Token::Word(w) => w.quote_style.is_none() && wanted.contains(&w.value.as_str()),
        Token::LParen => wanted.contains(&"("),
        Token::DoubleColon => wanted.contains(&"::"),
        Token::Neq => wanted.contains(&"<>"),
        other => operators::text(other).is_some_and(|t| wanted.contains(&t)),
    }
}
