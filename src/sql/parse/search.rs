//! SEARCH and CYCLE of a common table expression.
//!
//! sqlparser knows neither. `AS (…) SEARCH …` is written as `AS (…) FROM "…"`, which it reads into
//! `Cte::from`; the quoted name holds the clauses' text and where it began.

use meridian_types::{PgError, Result, SqlState};
use sqlparser::ast;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::lexer::{Lexed, lex};
use super::with_parser;

const MARK: char = '\u{6}';

/// The clauses behind a common table expression.
#[derive(Debug, Default)]
pub struct CteClauses {
    /// SEARCH
    pub search: Option<SearchClause>,
    /// CYCLE
    pub cycle: Option<CycleClause>,
}

/// `SEARCH … FIRST BY columns SET column`
#[derive(Debug)]
pub struct SearchClause {
    /// BREADTH rather than DEPTH.
    pub breadth: bool,
    /// The columns searched by.
    pub by: Vec<String>,
    /// The column that orders the rows.
    pub set: String,
    /// Where the clause begins.
    pub at: Location,
}

/// `CYCLE columns SET mark [TO value DEFAULT value] USING path`
#[derive(Debug)]
pub struct CycleClause {
    /// The columns that come up again in a cycle.
    pub by: Vec<String>,
    /// The column that marks a row which closes a cycle.
    pub mark: String,
    /// Its value in such a row and in all others, when they are given.
    pub values: Option<(ast::Expr, ast::Expr)>,
    /// The column that holds the rows on the way.
    pub path: String,
    /// Where the clause begins.
    pub at: Location,
}

fn is(tokens: &[Lexed], at: usize, word: &str) -> bool {
    name(tokens, at).is_some_and(|(w, quoted)| w == word && !quoted)
}

fn name(tokens: &[Lexed], at: usize) -> Option<(&str, bool)> {
    match &tokens.get(at)?.token.token {
        Token::Word(w) => Some((&w.value, w.quote_style.is_some())),
        _ => None,
    }
}

/// `a, b, c`, and what follows it.
fn names(tokens: &[Lexed], mut at: usize) -> Option<(Vec<String>, usize)> {
    let mut out = vec![];
    loop {
        out.push(name(tokens, at)?.0.to_owned());
        at += 1;
        if tokens.get(at)?.token.token != Token::Comma {
            return Some((out, at));
        }
        at += 1;
    }
}

fn search_at(tokens: &[Lexed], at: usize) -> Option<(SearchClause, usize)> {
    let breadth = is(tokens, at + 1, "breadth");
    let head = is(tokens, at, "search") && (breadth || is(tokens, at + 1, "depth"));
    if !head || !is(tokens, at + 2, "first") || !is(tokens, at + 3, "by") {
        return None;
    }
    let (by, next) = names(tokens, at + 4)?;
    let set = is(tokens, next, "set").then(|| name(tokens, next + 1)).flatten()?.0.to_owned();
    Some((SearchClause { breadth, by, set, at: tokens[at].token.span.start }, next + 2))
}

/// The clause without its values, where those are, and what follows.
fn cycle_at(tokens: &[Lexed], at: usize) -> Option<(CycleClause, Option<[usize; 3]>, usize)> {
    if !is(tokens, at, "cycle") {
        return None;
    }
    let (by, set) = names(tokens, at + 1)?;
    let mark = is(tokens, set, "set").then(|| name(tokens, set + 1)).flatten()?.0.to_owned();
    let find = |from: usize, word: &str| (from..tokens.len()).find(|i| is(tokens, *i, word));
    let using = find(set + 2, "using")?;
    let values = match is(tokens, set + 2, "to") {
        true => Some([set + 3, find(set + 3, "default").filter(|d| *d < using)?, using]),
        false if using == set + 2 => None,
        false => return None,
    };
    let path = name(tokens, using + 1)?.0.to_owned();
    let clause = CycleClause { by, mark, values: None, path, at: tokens[at].token.span.start };
    Some((clause, values, using + 2))
}

/// Writes clauses that begin at this token, which follows a parenthesis; what follows them.
pub(super) fn mark(
    text: &str,
    tokens: &[Lexed],
    at: usize,
    out: &mut Vec<TokenWithSpan>,
) -> Option<usize> {
    let closed = at.checked_sub(1).is_some_and(|b| tokens[b].token.token == Token::RParen);
    if !closed {
        return None;
    }
    let mut end = search_at(tokens, at).map_or(at, |(_, end)| end);
    end = cycle_at(tokens, end).map_or(end, |(_, _, end)| end);
    if end == at {
        return None;
    }
    let span = tokens[at].token.span;
    let body = &text[tokens[at].start..tokens[end - 1].end];
    let (line, column) = (span.start.line, span.start.column);
    let name = format!("{MARK}{line}{MARK}{column}{MARK}{body}");
    out.push(TokenWithSpan { token: Token::make_word("from", None), span });
    out.push(TokenWithSpan { token: Token::make_word(&name, Some('"')), span });
    Some(end)
}

/// The clauses of a common table expression.
pub fn cte_clauses(cte: &ast::Cte) -> Result<CteClauses> {
    let mut clauses = CteClauses::default();
    let Some(from) = &cte.from else { return Ok(clauses) };
    let mut parts = from.value.splitn(4, MARK).skip(1);
    let (Some(line), Some(column), Some(body)) = (parts.next(), parts.next(), parts.next()) else {
        let text = "syntax error at or near \"from\"";
        return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
    };
    let line = line.parse::<u64>().unwrap_or(1) - 1;
    let column = column.parse::<u64>().unwrap_or(1) - 1;
    let mut tokens = lex(body)?;
    for token in &mut tokens {
        for place in [&mut token.token.span.start, &mut token.token.span.end] {
            place.column += if place.line == 1 { column } else { 0 };
            place.line += line;
        }
    }
    let mut at = 0;
    if let Some((search, end)) = search_at(&tokens, 0) {
        (clauses.search, at) = (Some(search), end);
    }
    if let Some((mut cycle, values, _)) = cycle_at(&tokens, at) {
        if let Some([value, default, using]) = values {
            let parse = |range: std::ops::Range<usize>| {
                with_parser(body, &tokens[range], |parser, _| parser.parse_expr())
            };
            cycle.values = Some((parse(value..default)?, parse(default + 1..using)?));
        }
        clauses.cycle = Some(cycle);
    }
    Ok(clauses)
}
