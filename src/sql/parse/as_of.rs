//! `… FROM t AS OF SYSTEM TIME '-10s' WHERE …`: a query of the past.
//!
//! PostgreSQL has no such clause, and sqlparser none in this place. It is taken out of the tokens before
//! sqlparser sees them, and its expression parsed by itself. The four words cannot follow each other in any
//! other statement. One clause speaks for a whole statement: its tables are read at one time.

use meridian_types::{PgError, Result, SqlState};
use sqlparser::ast::Expr;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::dialect::Meridian;
use super::grammar::{Parse, take_words};
use super::lexer::{Lexed, error_near, position_of};
use super::rewrite::word_of;
use super::to_pg;

const WORDS: [&str; 4] = ["as", "of", "system", "time"];

/// Statements that read tables, and those that have such a one in them.
const READERS: [&str; 10] = [
    "select", "with", "insert", "update", "delete", "merge", "explain", "prepare", "declare",
    "copy",
];

/// What begins a clause of a query, or the next query.
const CLAUSES: [&str; 14] = [
    "from",
    "where",
    "group",
    "having",
    "window",
    "union",
    "intersect",
    "except",
    "order",
    "limit",
    "offset",
    "fetch",
    "for",
    "select",
];

/// The clause's expression, and the tokens without the clause.
pub(super) fn take(text: &str, tokens: &[Lexed]) -> Result<Option<(Expr, Vec<Lexed>)>> {
    let first = tokens.first().and_then(word_of);
    let reads = first.is_some_and(|word| READERS.contains(&word))
        || tokens.first().is_some_and(|t| t.token.token == Token::LParen);
    let Some(at) = find(tokens, 0).filter(|_| reads) else { return Ok(None) };
    let position = position_of(text, tokens[at].start);
    let refused = |why: &str| Err(PgError::unsupported(why).at(position));
    if depth(&tokens[..at]) > 0 {
        return refused("AS OF SYSTEM TIME is supported for whole statements only");
    }
    if clause_before(&tokens[..at]) != Some("from") {
        // sqlparser says what is wrong.
        return Ok(None);
    }
    let begin = at + WORDS.len();
    let (expr, end) = expression(text, &tokens[begin..])?;
    let end = begin + end;
    if let Some(next) = tokens.get(end)
        && !matches!(next.token.token, Token::EOF | Token::RParen)
        && !word_of(next).is_some_and(|word| CLAUSES[1..].contains(&word))
    {
        return Err(error_near(text, next.start, &text[next.start..next.end]));
    }
    if let Some(second) = find(tokens, end) {
        let position = position_of(text, tokens[second].start);
        let why = "AS OF SYSTEM TIME may be given once in a statement";
        return Err(PgError::new(SqlState::SYNTAX_ERROR, why).at(position));
    }
    let rest = tokens[..at].iter().chain(&tokens[end..]).cloned().collect();
    Ok(Some((expr, rest)))
}

/// Where the four words stand first, from a place on.
fn find(tokens: &[Lexed], from: usize) -> Option<usize> {
    let words = |at: &usize| {
        let mut words = WORDS.iter().enumerate();
        words.all(|(i, word)| tokens.get(at + i).and_then(word_of) == Some(word))
    };
    (from..tokens.len()).find(words)
}

fn depth(before: &[Lexed]) -> i32 {
    before.iter().fold(0, |depth, token| match token.token.token {
        Token::LParen | Token::LBracket => depth + 1,
        Token::RParen | Token::RBracket => depth - 1,
        _ => depth,
    })
}

/// The clause that the tokens end in, outside of parentheses.
fn clause_before(before: &[Lexed]) -> Option<&str> {
    let mut depth = 0;
    before.iter().rev().find_map(|token| {
        match token.token.token {
            Token::RParen | Token::RBracket => depth += 1,
            Token::LParen | Token::LBracket => depth -= 1,
            _ => {}
        }
        word_of(token).filter(|word| depth == 0 && CLAUSES.contains(word))
    })
}

/// The expression at the beginning of the tokens, and how many it takes.
fn expression(text: &str, tokens: &[Lexed]) -> Result<(Expr, usize)> {
    let dialect = Meridian::default();
    let raw = tokens.iter().map(|t| t.token.clone()).collect();
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(raw);
    let expr = dialect.expr(&mut parser, 0).map_err(|e| match dialect.error.take() {
        Some(error) => error,
        None => to_pg(text, tokens, &e),
    })?;
    let next = parser.peek_token_ref();
    let column = next.span.start.column;
    let end = match next.token {
        Token::EOF => None,
        _ => tokens.iter().position(|t| t.token.span.start.column >= column),
    };
    Ok((expr, end.unwrap_or(tokens.len())))
}

impl Meridian {
    /// The clause among a transaction's modes, if it is next.
    pub(super) fn as_of_mode(&self, p: &mut Parser) -> Parse<Option<Box<Expr>>> {
        if !take_words(p, &WORDS) {
            return Ok(None);
        }
        self.expr(p, 0).map(|expr| Some(Box::new(expr)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::statement::{Statement, Transaction};
    use super::super::{Parsed, parse};

    /// The clause of a text's only statement.
    fn clause(text: &str) -> Option<String> {
        let mut parsed = parse(text).expect(text);
        assert_eq!(parsed.len(), 1, "{text}");
        let Parsed { statement, as_of, .. } = parsed.remove(0);
        let inner = match statement {
            Statement::Explain { statement, .. } | Statement::Prepare { statement, .. } => {
                statement.as_of
            }
            Statement::Declare(declare) => declare.as_of,
            Statement::Transaction(Transaction::Begin { modes, .. }) => modes.as_of,
            Statement::Transaction(Transaction::Set { modes, .. }) => modes.as_of,
            _ => as_of,
        };
        inner.map(|time| time.to_string())
    }

    #[test]
    fn the_clause_is_found_behind_from_and_given_to_its_statement() {
        for (text, time) in [
            ("SELECT * FROM t AS OF SYSTEM TIME '-1s'", "'-1s'"),
            ("SELECT * FROM t x JOIN u ON (x.a = u.a) AS OF SYSTEM TIME $1 WHERE a = 1;", "$1"),
            (
                "(SELECT a FROM t AS b) UNION SELECT a FROM u AS OF SYSTEM TIME f(1) ORDER BY 1",
                "f(1)",
            ),
            (
                "WITH c AS (SELECT 1) SELECT * FROM c AS OF SYSTEM TIME now() - '1s' LIMIT 1",
                "now() - '1s'",
            ),
            ("SELECT * FROM t AS OF SYSTEM TIME '-1s' FOR UPDATE LIMIT 1", "'-1s'"),
            (
                "SELECT 1 FROM a JOIN b JOIN c ON true ON true AS OF SYSTEM TIME 1.5 WHERE true",
                "1.5",
            ),
            ("EXPLAIN ANALYZE SELECT * FROM t AS OF SYSTEM TIME '-1s'", "'-1s'"),
            ("PREPARE p AS SELECT * FROM t AS OF SYSTEM TIME $1", "$1"),
            ("DECLARE c CURSOR FOR SELECT * FROM t AS OF SYSTEM TIME '-1s'", "'-1s'"),
            ("BEGIN READ ONLY, AS OF SYSTEM TIME '-1s'", "'-1s'"),
            ("START TRANSACTION AS OF SYSTEM TIME '-1s' READ ONLY", "'-1s'"),
            ("SET TRANSACTION AS OF SYSTEM TIME '-1s'", "'-1s'"),
        ] {
            assert_eq!(clause(text).as_deref(), Some(time), "{text}");
        }
        for text in ["SELECT a AS of FROM t", "SELECT system, time FROM t", "SELECT * FROM t AS of"]
        {
            assert_eq!(clause(text), None, "{text}");
        }
    }

    #[test]
    fn elsewhere_it_is_refused_with_its_position() {
        for (text, state, position) in [
            ("SELECT 1 AS OF SYSTEM TIME '-1s'", "42601", 16),
            ("SELECT * FROM t WHERE a AS OF SYSTEM TIME '-1s'", "42601", 25),
            ("SELECT * FROM t AS OF SYSTEM TIME '-1s' x", "42601", 41),
            ("SELECT * FROM t AS OF SYSTEM TIME '-1s', u", "42601", 40),
            ("SELECT * FROM t AS OF SYSTEM TIME WHERE a", "42601", 35),
            ("SELECT * FROM (SELECT * FROM t AS OF SYSTEM TIME '-1s') x", "0A000", 32),
            (
                "SELECT 1 FROM t AS OF SYSTEM TIME $1 UNION SELECT 2 FROM t AS OF SYSTEM TIME $1",
                "42601",
                60,
            ),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION AS OF SYSTEM TIME '-1s'", "42601", 44),
            ("BEGIN AS OF SYSTEM", "42601", 7),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.state().as_str(), state, "{text}: {error}");
            assert_eq!(error.fields().position, Some(position), "{text}: {error}");
        }
    }
}
