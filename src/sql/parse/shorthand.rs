//! Two forms of PostgreSQL's that sqlparser does not read, or not everywhere, by the longer forms that
//! mean the same: `TABLE t` by `SELECT * FROM t`, and `FETCH FIRST (n) ROWS ONLY` by `LIMIT (n)`.

use sqlparser::tokenizer::Token;

use super::keywords::is_reserved;
use super::lexer::Lexed;
use super::rewrite::word_of;

/// Whether a query `TABLE name` begins at this word `table`.
pub(super) fn is_table_query(tokens: &[Lexed], at: usize) -> bool {
    let named = match tokens.get(at + 1).map(|t| &t.token.token) {
        Some(Token::Word(w)) => {
            w.quote_style.is_some() || w.value == "only" || !is_reserved(&w.value)
        }
        _ => false,
    };
    const BEFORE: [&str; 6] = ["union", "intersect", "except", "all", "distinct", "as"];
    named
        && at.checked_sub(1).and_then(|b| tokens.get(b)).is_none_or(|before| {
            matches!(before.token.token, Token::LParen | Token::RParen)
                || word_of(before).is_some_and(|w| BEFORE.contains(&w))
        })
}

/// Of `FETCH FIRST (n) ROWS ONLY` at this word `fetch`: where the count begins and ends.
pub(super) fn counted_fetch(tokens: &[Lexed], at: usize) -> Option<(usize, usize)> {
    let is_one_of = |i: usize, words: &[&str]| {
        tokens.get(i).and_then(word_of).is_some_and(|w| words.contains(&w))
    };
    let begin = at + 2;
    if !is_one_of(at + 1, &["first", "next"]) || tokens.get(begin)?.token.token != Token::LParen {
        return None;
    }
    let mut depth = 0;
    let end = begin
        + 1
        + tokens[begin..].iter().position(|t| {
            match t.token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            depth == 0
        })?;
    let only = is_one_of(end, &["row", "rows"]) && is_one_of(end + 1, &["only"]);
    only.then_some((begin, end))
}
