//! The text of a statement and its tokens, for positions in errors.

use std::sync::Arc;

use sqlparser::tokenizer::{Location, Token};

use super::lexer::{Lexed, lex};
use super::operators;

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
