//! SQL text to statements.
//!
//! A lexer of our own follows PostgreSQL's lexical rules and hands sqlparser its tokens, so that
//! every position is a character position in the text (all tokens are on line 1) and identifiers
//! arrive folded to lower case. Expressions are parsed by our own grammar through sqlparser's
//! dialect hooks; what else sqlparser does not know is either parsed here, by statement, or written
//! in another way before sqlparser sees it (`rewrite.rs`).
//!
//! The whole text is parsed before any of it runs, as in PostgreSQL: a syntax error in the last
//! statement of a string leaves the first undone.

use meridian_types::{PgError, Result, SqlState};
use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

mod as_of;
mod call;
mod copy;
pub(crate) mod dialect;
pub(crate) mod grammar;
pub mod keywords;
mod lexer;
mod lift;
mod locks;
pub mod operators;
mod primary;
mod ranges;
mod rewrite;
mod search;
mod shorthand;
pub mod source;
pub mod statement;
mod transaction;
mod types;
mod utility;

#[cfg(test)]
mod tests;

pub use lift::{Lifted, Literal, lift};
pub use rewrite::{
    ConflictElement, ConflictTarget, NO_TABLE, ROWS_FROM, assigned_part, conflict_target,
    insert_alias, lock_clause, overriding, using_columns, window_frame,
};
pub use search::{CteClauses, CycleClause, SearchClause, cte_clauses};
pub use source::Source;
pub use statement::{Parsed, Statement};

use dialect::Meridian;
use lexer::{Lexed, lex};

/// The statements of a query string. Empty ones are left out.
pub fn parse(text: &str) -> Result<Vec<Parsed>> {
    let tokens = lex(text)?;
    let mut out = Vec::new();
    for part in split(&tokens) {
        if !part.is_empty() {
            out.push(parse_part(text, part)?);
        }
    }
    Ok(out)
}

/// One expression, for instance the text of a default or a check constraint.
pub fn parse_expression(text: &str) -> Result<ast::Expr> {
    let tokens = lex(text)?;
    with_parser(text, &tokens, |p, d| d.expr(p, 0))
}

/// One type name, for instance the text of a cast to `regtype`.
pub fn parse_type(text: &str) -> Result<ast::DataType> {
    let tokens = lex(text)?;
    with_parser(text, &tokens, |p, d| d.type_name(p))
}

/// One query, for instance the text of a view.
pub fn parse_query(text: &str) -> Result<Box<ast::Query>> {
    match parse(text)?.pop() {
        Some(Parsed { statement: Statement::Query(query), .. }) => Ok(query),
        _ => Err(PgError::internal(format!("not a query: {text}"))),
    }
}

/// Splits at semicolons outside parentheses.
fn split(tokens: &[Lexed]) -> Vec<&[Lexed]> {
    let mut depth = 0i32;
    let mut parts = Vec::new();
    let mut start = 0;
    for (i, t) in tokens.iter().enumerate() {
        match t.token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::SemiColon if depth <= 0 => {
                parts.push(&tokens[start..i]);
                (start, depth) = (i + 1, 0);
            }
            _ => {}
        }
    }
    parts.push(&tokens[start..]);
    parts
}

fn parse_part(text: &str, tokens: &[Lexed]) -> Result<Parsed> {
    let range = byte_range(tokens);
    let (statement, as_of) = with_parser(text, tokens, |p, d| {
        let statement = d.statement(p, text, tokens)?;
        Ok((statement, d.as_of.take()))
    })?;
    Ok(Parsed { statement, range, as_of })
}

fn byte_range(tokens: &[Lexed]) -> std::ops::Range<usize> {
    let start = tokens.first().map_or(0, |t| t.start);
    start..tokens.last().map_or(start, |t| t.end)
}

/// Runs a parser over the tokens; all of them must be used up.
///
/// `a JOIN b JOIN c ON … ON …` nests to the right, which sqlparser reads only in a mode of its own:
/// that mode is tried when the other one fails.
fn with_parser<T>(
    text: &str,
    tokens: &[Lexed],
    f: impl Fn(&mut Parser<'_>, &Meridian) -> Result<T, ParserError>,
) -> Result<T> {
    let nesting = nesting(tokens);
    if nesting > dialect::MAX_DEPTH as usize {
        return Err(too_deep());
    }
    // Joins nest, too, in the mode that reads `a JOIN b JOIN c ON … ON …`.
    let levels = nesting + joins(tokens).min(dialect::MAX_DEPTH as usize);
    if levels > NESTING_SMALL || tokens.len() > TOKENS_SMALL {
        let bytes = STACK_BYTES + levels * LEVEL_BYTES;
        return stacker::grow(bytes, || with_parser_here(text, tokens, &f));
    }
    with_parser_here(text, tokens, &f)
}

/// Nesting and length up to which a statement is parsed on the thread's own stack.
const NESTING_SMALL: usize = 12;
const TOKENS_SMALL: usize = 2000;
/// Stack for a longer statement, and what one more level of parentheses may take: sqlparser's
/// frames for a query in FROM come to 170 KB in a build without optimisation.
const STACK_BYTES: usize = 64 << 20;
const LEVEL_BYTES: usize = 256 << 10;

/// The deepest nesting of parentheses and brackets.
fn nesting(tokens: &[Lexed]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for token in tokens {
        match token.token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn with_parser_here<T>(
    text: &str,
    tokens: &[Lexed],
    f: &impl Fn(&mut Parser<'_>, &Meridian) -> Result<T, ParserError>,
) -> Result<T> {
    let (as_of, kept) = as_of::take(text, tokens)?.unzip();
    let kept = kept.as_deref().unwrap_or(tokens);
    let moved = locks::behind_limits(kept);
    let rewritten = rewrite::rewrite(text, moved.as_deref().unwrap_or(kept));
    let retry = (2..=dialect::MAX_DEPTH as usize).contains(&joins(tokens));
    let spare = if retry { rewritten.clone() } else { Vec::new() };
    let as_of = as_of.map(Box::new);
    let first = run_parser(text, tokens, rewritten, (false, as_of.clone()), f);
    match first {
        Err(e) if e.state() == SqlState::SYNTAX_ERROR && retry => {
            run_parser(text, tokens, spare, (true, as_of), f).map_err(|_| e)
        }
        other => other,
    }
}

fn joins(tokens: &[Lexed]) -> usize {
    let join = |t: &&Lexed| matches!(&t.token.token, Token::Word(w) if w.value == "join");
    tokens.iter().filter(join).count()
}

fn run_parser<T>(
    text: &str,
    tokens: &[Lexed],
    rewritten: Vec<TokenWithSpan>,
    (nested_joins, as_of): (bool, Option<Box<ast::Expr>>),
    f: &impl Fn(&mut Parser<'_>, &Meridian) -> Result<T, ParserError>,
) -> Result<T> {
    let dialect = Meridian { nested_joins, as_of: as_of.into(), ..Meridian::default() };
    *dialect.queries.borrow_mut() = rewrite::queries(tokens);
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(2 * dialect::MAX_DEPTH as usize)
        .with_tokens_with_locations(rewritten);
    let parsed = f(&mut parser, &dialect).and_then(|v| match parser.peek_token_ref().token {
        Token::EOF => Ok(v),
        _ => grammar::unexpected(&parser),
    });
    parsed.map_err(|e| match dialect.error.take() {
        Some(error) => error,
        None => to_pg(text, tokens, &e),
    })
}

/// The error at the stack's limit.
pub fn too_deep() -> PgError {
    PgError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded").hint(
        "Increase the configuration parameter \"max_stack_depth\" (currently 2048kB), after \
         ensuring the platform's stack depth limit is adequate.",
    )
}

/// PostgreSQL's words for a syntax error: what matters is the token at which it was noticed.
fn to_pg(text: &str, tokens: &[Lexed], error: &ParserError) -> PgError {
    let message = match error {
        ParserError::RecursionLimitExceeded => return too_deep(),
        ParserError::ParserError(m) | ParserError::TokenizerError(m) => m,
    };
    let column = message
        .rsplit_once("Column: ")
        .and_then(|(_, n)| n.trim().parse::<u64>().ok())
        .filter(|_| !message.contains("found: EOF"));
    let token = column.and_then(|c| tokens.iter().find(|t| t.token.span.start.column == c));
    match token {
        Some(t) => lexer::error_near(text, t.start, &text[t.start..t.end]),
        None => PgError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input")
            .at(lexer::position_of(text, text.len())),
    }
}
