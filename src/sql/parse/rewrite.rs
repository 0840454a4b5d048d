//! Syntax that sqlparser has no place for, written in a way that it has.
//!
//! Each rewriting is undone by a function here that the binder calls: [`lock_clause`] for the four
//! strengths of row locks, [`overriding`] for INSERT, [`conflict_target`] for ON CONFLICT over
//! expressions, [`window_frame`] for EXCLUDE of a window frame, [`using_columns`] for the alias of a
//! join, [`assigned_part`] for `SET a[1] = …`. The marks are
//! identifiers that begin with a control character, which no text can spell.

use std::collections::BTreeSet;

use meridian_types::{PgError, Result, SqlState};
use sqlparser::ast::{self, Ident, LockClause, LockType, NonBlock, ObjectNamePart, Subscript};
use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::grammar::take_word;
use super::lexer::{Lexed, lex};
use super::shorthand::{counted_fetch, is_table_query};
use super::{operators, with_parser};
use crate::rel::{FrameExclude, LockWait, RowLock};

const NO_KEY_UPDATE: &str = "\u{1}no key update";
const KEY_SHARE: &str = "\u{1}key share";
const PLAIN: &str = "\u{1}";
const OVERRIDING_SYSTEM: &str = "\u{1}overriding system";
const OVERRIDING_USER: &str = "\u{1}overriding user";
const CONFLICT: char = '\u{2}';
const FRAME: char = '\u{3}';
const USING: char = '\u{4}';
const PART: char = '\u{5}';

/// Name of the table that a SELECT without target list and FROM is written to read: one row.
pub const NO_TABLE: &str = "\u{1}no table";

/// Name of the function that `ROWS FROM (f(…), g(…))` is written as.
pub const ROWS_FROM: &str = "\u{1}rows from";

pub(super) fn word_of(token: &Lexed) -> Option<&str> {
    match &token.token.token {
        Token::Word(w) if w.quote_style.is_none() => Some(&w.value),
        _ => None,
    }
}

fn word(text: &str, span: Span) -> TokenWithSpan {
    TokenWithSpan { token: Token::make_word(text, None), span }
}

fn quoted(text: &str, span: Span) -> TokenWithSpan {
    TokenWithSpan { token: Token::make_word(text, Some('"')), span }
}

/// The tokens as sqlparser is to see them.
pub(super) fn rewrite(text: &str, tokens: &[Lexed]) -> Vec<TokenWithSpan> {
    let mut out = Vec::with_capacity(tokens.len() + 8);
    let mut i = 0;
    let is = |i: usize, w: &str| tokens.get(i).and_then(word_of) == Some(w);
    let policy = is(0, "create") && is(1, "policy");
    // Nesting inside of which a list of assignments stands.
    let mut depth = 0i32;
    let mut assigning: Option<i32> = None;
    while let Some(token) = tokens.get(i) {
        let before = i.checked_sub(1).and_then(|b| tokens.get(b)).and_then(word_of);
        let span = token.token.span;
        match &token.token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth -= 1,
            _ => {}
        }
        match word_of(token) {
            Some("set") => assigning = Some(depth),
            Some("where" | "from" | "returning") if assigning == Some(depth) => assigning = None,
            _ if assigning.is_some_and(|d| depth < d) => assigning = None,
            _ => {}
        }
        let begins = word_of(token) == Some("set") || token.token.token == Token::Comma;
        if assigning == Some(depth)
            && begins
            && let Some(part) = part_at(tokens, i + 1)
        {
            out.push(token.token.clone());
            i = mark_part(text, tokens, i + 1, part, &mut out);
            continue;
        }
        match word_of(token) {
            Some("for") if !policy => i = row_lock(tokens, i, &mut out),
            Some("using") if tokens.get(i + 1).is_some_and(|t| is_order(&t.token.token)) => {
                let name = operators::text(&tokens[i + 1].token.token).unwrap_or("");
                out.push(word(if name.contains('<') { "asc" } else { "desc" }, span));
                i += 2;
            }
            Some("using") if using_alias_at(tokens, i).is_some() => {
                let close = using_alias_at(tokens, i).unwrap_or(i);
                out.extend(tokens[i..close].iter().map(|t| t.token.clone()));
                i = mark_using(tokens, close, &mut out);
            }
            // A query without a target list and FROM.
            Some("select") if ends_select(tokens.get(i + 1)) => {
                out.push(token.token.clone());
                out.push(word("from", span));
                out.push(quoted(NO_TABLE, span));
                i += 1;
            }
            Some("table") if is_table_query(tokens, i) => {
                let star = TokenWithSpan { token: Token::Mul, span };
                out.extend([word("select", span), star, word("from", span)]);
                i += 1;
            }
            Some("fetch") if counted_fetch(tokens, i).is_some() => {
                let (begin, end) = counted_fetch(tokens, i).unwrap_or((i, i));
                out.push(word("limit", span));
                out.extend(tokens[begin..end].iter().map(|t| t.token.clone()));
                i = end + 2;
            }
            Some("only")
                if matches!(before, Some("from" | "join" | "update" | "table" | "truncate"))
                    && tokens
                        .get(i + 1)
                        .is_some_and(|t| matches!(t.token.token, Token::Word(_))) =>
            {
                i += 1;
            }
            Some("search" | "cycle") => {
                i = super::search::mark(text, tokens, i, &mut out).unwrap_or_else(|| {
                    out.push(token.token.clone());
                    i + 1
                });
            }
            Some("rows") if is(i + 1, "from") => {
                out.push(quoted(ROWS_FROM, span));
                i += 2;
            }
            Some("conflict") if before == Some("on") => {
                out.push(token.token.clone());
                i = conflict(text, tokens, i + 1, &mut out);
            }
            Some("overriding")
                if matches!(tokens.get(i + 1).and_then(word_of), Some("system" | "user"))
                    && is(i + 2, "value") =>
            {
                let mark = if is(i + 1, "user") { OVERRIDING_USER } else { OVERRIDING_SYSTEM };
                let before = |n: usize| i.checked_sub(n).and_then(|b| tokens.get(b));
                // Right behind the table's name sqlparser would take PARTITION for its alias.
                let bare = before(1).is_some_and(|t| t.token.token != Token::RParen)
                    && before(2).and_then(word_of) != Some("as");
                if bare {
                    out.extend([word("as", span), quoted(mark, span)]);
                } else {
                    out.push(word("partition", span));
                    out.push(TokenWithSpan { token: Token::LParen, span });
                    out.push(quoted(mark, span));
                    out.push(TokenWithSpan { token: Token::RParen, span });
                }
                i += 3;
            }
            Some("exclude") if exclusion(tokens, i).is_some() => {
                let (words, name) = exclusion(tokens, i).unwrap_or((1, ""));
                mark_frame(&mut out, name);
                i += 1 + words;
            }
            // `FROM t *`: with descendants, as always.
            None if token.token.token == Token::Mul && starred(tokens, i) => i += 1,
            _ => {
                out.push(token.token.clone());
                i += 1;
            }
        }
    }
    out
}

/// A target of an assignment with subscripts, `a[1] =`: where they begin and end.
fn part_at(tokens: &[Lexed], at: usize) -> Option<(usize, usize)> {
    let token = |i: usize| tokens.get(i).map(|t| &t.token.token);
    if !matches!(token(at), Some(Token::Word(_))) || token(at + 1) != Some(&Token::LBracket) {
        return None;
    }
    let (begin, mut depth) = (at + 1, 0);
    for i in begin..tokens.len() {
        match token(i)? {
            Token::LBracket | Token::LParen => depth += 1,
            Token::RBracket | Token::RParen => depth -= 1,
            Token::Eq if depth == 0 => return Some((begin, i)),
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Writes the subscripts of a target as one more part of its name; what follows them.
fn mark_part(
    text: &str,
    tokens: &[Lexed],
    at: usize,
    (begin, end): (usize, usize),
    out: &mut Vec<TokenWithSpan>,
) -> usize {
    let span = tokens[begin].token.span;
    let part = &text[tokens[begin].start..tokens[end - 1].end];
    out.push(tokens[at].token.clone());
    out.push(TokenWithSpan { token: Token::Period, span });
    out.push(quoted(&format!("{PART}{}{PART}{part}", span.start.column), span));
    end
}

/// The subscripts of an assignment's target; none for a whole column.
pub fn assigned_part(name: &ast::ObjectName) -> Result<Vec<Subscript>> {
    let last = name.0.last().and_then(|p| p.as_ident());
    let Some((column, body)) =
        last.and_then(|i| i.value.strip_prefix(PART)).and_then(|rest| rest.split_once(PART))
    else {
        return Ok(vec![]);
    };
    let offset: u64 = column.parse::<u64>().unwrap_or(1) - 1;
    let mut tokens = lex(body)?;
    for t in &mut tokens {
        t.token.span.start.column += offset;
        t.token.span.end.column += offset;
    }
    with_parser(body, &tokens, |p, d| {
        let mut out = Vec::new();
        while p.peek_token_ref().token == Token::LBracket {
            if let ast::AccessExpr::Subscript(subscript) = d.subscript(p)? {
                out.push(subscript);
            }
        }
        Ok(out)
    })
}

/// Whether a SELECT has nothing between it and this token.
fn ends_select(next: Option<&Lexed>) -> bool {
    const FOLLOW: [&str; 5] = ["union", "intersect", "except", "where", "limit"];
    match next {
        None => true,
        Some(t) => match &t.token.token {
            Token::RParen | Token::SemiColon | Token::EOF => true,
            _ => word_of(t).is_some_and(|w| FOLLOW.contains(&w)),
        },
    }
}

/// `USING (a, b) AS j` of a join: where the parenthesis closes.
fn using_alias_at(tokens: &[Lexed], at: usize) -> Option<usize> {
    let token = |i: usize| tokens.get(i).map(|t| &t.token.token);
    if token(at + 1) != Some(&Token::LParen) {
        return None;
    }
    let mut i = at + 2;
    while matches!(token(i), Some(Token::Word(_))) {
        i += 1;
        if token(i) != Some(&Token::Comma) {
            break;
        }
        i += 1;
    }
    let alias = tokens.get(i + 1).and_then(word_of) == Some("as")
        && matches!(token(i + 2), Some(Token::Word(_)));
    (token(i) == Some(&Token::RParen) && alias).then_some(i)
}

/// Writes a join's alias as one more column of its USING list; what follows the alias.
fn mark_using(tokens: &[Lexed], close: usize, out: &mut Vec<TokenWithSpan>) -> usize {
    let alias = &tokens[close + 2].token;
    let span = alias.span;
    if let Token::Word(w) = &alias.token {
        out.push(TokenWithSpan { token: Token::Comma, span });
        out.push(quoted(&format!("{USING}{}", w.value), span));
    }
    out.push(tokens[close].token.clone());
    close + 3
}

/// The columns that a join merges, and the alias of the merged ones.
pub fn using_columns(names: &[ast::ObjectName]) -> (Vec<&Ident>, Option<Ident>) {
    let mut alias = None;
    let mut columns = Vec::with_capacity(names.len());
    for ident in names.iter().filter_map(|n| n.0.last().and_then(|p| p.as_ident())) {
        match ident.value.strip_prefix(USING) {
            Some(name) => {
                alias = Some(Ident { value: name.to_owned(), quote_style: None, span: ident.span });
            }
            None => columns.push(ident),
        }
    }
    (columns, alias)
}

/// Whether the `*` at `i` follows a table name in FROM.
fn starred(tokens: &[Lexed], i: usize) -> bool {
    let name = i.checked_sub(1).map(|n| &tokens[n].token.token);
    let from = i.checked_sub(2).and_then(|f| word_of(&tokens[f]));
    matches!(name, Some(Token::Word(_)))
        && matches!(from, Some("from" | "join" | "update" | "only"))
}

/// EXCLUDE of a window frame: how many words follow, and the frame's mark.
fn exclusion(tokens: &[Lexed], at: usize) -> Option<(usize, &'static str)> {
    let next = |n: usize| tokens.get(at + n).and_then(word_of);
    match (next(1)?, next(2)) {
        ("no", Some("others")) => Some((2, "")),
        ("current", Some("row")) => Some((2, "current row")),
        ("group", _) => Some((1, "group")),
        ("ties", _) => Some((1, "ties")),
        _ => None,
    }
}

/// Puts a frame's exclusion into the name of the window that the specification begins with.
fn mark_frame(out: &mut Vec<TokenWithSpan>, exclude: &str) {
    let mut depth = 0;
    let open = out.iter().rposition(|t| {
        match t.token {
            Token::RParen => depth += 1,
            Token::LParen => depth -= 1,
            _ => {}
        }
        depth < 0
    });
    let Some(first) = open.map(|o| o + 1) else { return };
    const BEGIN: [&str; 5] = ["partition", "order", "range", "rows", "groups"];
    let name = match out.get(first).map(|t| &t.token) {
        Some(Token::Word(w)) if w.quote_style.is_some() || !BEGIN.contains(&&*w.value) => {
            w.value.clone()
        }
        _ => String::new(),
    };
    let span = out.get(first).map_or(Span::empty(), |t| t.span);
    let mark = quoted(&format!("{FRAME}{exclude}{FRAME}{name}"), span);
    match name.is_empty() {
        true => out.insert(first, mark),
        false => out[first] = mark,
    }
}

/// The window that a specification builds on, and the exclusion of its frame.
pub fn window_frame(name: Option<&Ident>) -> (Option<Ident>, FrameExclude) {
    let Some(ident) = name else { return (None, FrameExclude::NoOthers) };
    let marked = ident.value.strip_prefix(FRAME).and_then(|rest| rest.split_once(FRAME));
    let Some((exclude, name)) = marked else {
        return (Some(ident.clone()), FrameExclude::NoOthers);
    };
    let exclude = match exclude {
        "current row" => FrameExclude::CurrentRow,
        "group" => FrameExclude::Group,
        "ties" => FrameExclude::Ties,
        _ => FrameExclude::NoOthers,
    };
    let name = Ident { value: name.to_owned(), quote_style: None, span: ident.span };
    (Some(name).filter(|n| !n.value.is_empty()), exclude)
}

/// Where `((SELECT …) UNION …)` is a query and not an expression: the columns of the tokens right
/// inside such parentheses. A parenthesis that opens with another one is a query when that one is,
/// and is followed by a set operation, a sort, a limit, or nothing.
pub(super) fn queries(tokens: &[Lexed]) -> BTreeSet<u64> {
    let mut closing = vec![0usize; tokens.len()];
    let mut open = Vec::new();
    for (i, t) in tokens.iter().enumerate() {
        match t.token.token {
            Token::LParen => open.push(i),
            Token::RParen => {
                if let Some(o) = open.pop() {
                    closing[o] = i;
                }
            }
            _ => {}
        }
    }
    let mut is_query = vec![false; tokens.len()];
    let mut out = BTreeSet::new();
    for i in (0..tokens.len().saturating_sub(1)).rev() {
        if tokens[i].token.token != Token::LParen || closing[i] == 0 {
            continue;
        }
        let inside = &tokens[i + 1];
        is_query[i] = match word_of(inside) {
            Some("select" | "with" | "values" | "table") => true,
            Some(_) => false,
            None => {
                is_query[i + 1] && {
                    let after = &tokens[closing[i + 1] + 1];
                    const FOLLOW: [&str; 8] = [
                        "union",
                        "intersect",
                        "except",
                        "order",
                        "limit",
                        "offset",
                        "fetch",
                        "for",
                    ];
                    after.token.token == Token::RParen
                        || word_of(after).is_some_and(|w| FOLLOW.contains(&w))
                }
            }
        };
        if is_query[i] {
            out.insert(inside.token.span.start.column);
        }
    }
    out
}

fn is_order(token: &Token) -> bool {
    operators::text(token).is_some_and(|t| t.contains(['<', '>']))
}

/// `FOR …` of a query: the strength goes into the first part of the name behind OF.
fn row_lock(tokens: &[Lexed], at: usize, out: &mut Vec<TokenWithSpan>) -> usize {
    let is = |i: usize, w: &str| tokens.get(i).and_then(word_of) == Some(w);
    let span = tokens[at].token.span;
    let (mark, kind, mut i) = if is(at + 1, "no") && is(at + 2, "key") && is(at + 3, "update") {
        (NO_KEY_UPDATE, "update", at + 4)
    } else if is(at + 1, "key") && is(at + 2, "share") {
        (KEY_SHARE, "share", at + 3)
    } else if is(at + 1, "update") || is(at + 1, "share") {
        (PLAIN, if is(at + 1, "update") { "update" } else { "share" }, at + 2)
    } else if is(at + 1, "read") && is(at + 2, "only") {
        return at + 3;
    } else {
        out.push(tokens[at].token.clone());
        return at + 1;
    };
    out.extend([word("for", span), word(kind, span)]);
    out.extend([word("of", span), quoted(mark, span)]);
    if is(i, "of") {
        i += 1;
        while let Some(Token::Word(_)) = tokens.get(i).map(|t| &t.token.token) {
            out.push(TokenWithSpan { token: Token::Period, span });
            out.push(tokens[i].token.clone());
            i += 1;
            match tokens.get(i).map(|t| &t.token.token) {
                Some(Token::Comma) => i += 1,
                _ => break,
            }
        }
    }
    i
}

/// ON CONFLICT with more than plain columns: the source text of the target as one identifier.
fn conflict(text: &str, tokens: &[Lexed], at: usize, out: &mut Vec<TokenWithSpan>) -> usize {
    if tokens.get(at).map(|t| &t.token.token) != Some(&Token::LParen) {
        return at;
    }
    let mut depth = 0;
    let mut end = at;
    let mut plain = true;
    for (i, t) in tokens.iter().enumerate().skip(at) {
        match &t.token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::Word(w) if depth == 0 && w.quote_style.is_none() && w.value == "do" => {
                end = i;
                break;
            }
            Token::Word(_) if i > at && depth == 1 => {
                let next = tokens.get(i + 1).map(|t| &t.token.token);
                plain &= matches!(next, Some(Token::Comma | Token::RParen));
            }
            Token::Comma => {}
            _ => plain = false,
        }
        plain &= depth <= 1;
        if depth == 0 && tokens.get(i + 1).and_then(word_of) != Some("do") {
            plain = false;
        }
    }
    if plain || end == at {
        return at;
    }
    let (from, to) = (tokens[at].start, tokens[end - 1].end);
    let span = tokens[at].token.span;
    let value = format!("{CONFLICT}{}\u{2}{}", span.start.column, &text[from..to]);
    out.push(TokenWithSpan { token: Token::LParen, span });
    out.push(quoted(&value, span));
    out.push(TokenWithSpan { token: Token::RParen, span });
    end
}

/// What OVERRIDING of an INSERT says: USER VALUE is `Some(true)`, SYSTEM VALUE `Some(false)`.
pub fn overriding(insert: &ast::Insert) -> Option<bool> {
    let mark = match insert.partitioned.as_deref() {
        Some([ast::Expr::Identifier(mark)]) => mark,
        _ => &insert.table_alias.as_ref()?.alias,
    };
    match mark.value.as_str() {
        OVERRIDING_USER => Some(true),
        OVERRIDING_SYSTEM => Some(false),
        _ => None,
    }
}

/// The alias of an INSERT's table.
pub fn insert_alias(insert: &ast::Insert) -> Option<&Ident> {
    insert.table_alias.as_ref().map(|a| &a.alias).filter(|a| !a.value.starts_with('\u{1}'))
}

/// A row lock as written: strength, tables (none: all), and what to do about a locked row.
pub fn lock_clause(clause: &LockClause) -> (RowLock, Vec<Ident>, LockWait) {
    let mut names: Vec<Ident> = Vec::new();
    for part in clause.of.iter().flat_map(|name| &name.0) {
        if let ObjectNamePart::Identifier(ident) = part {
            names.push(ident.clone());
        }
    }
    let mut strength = match clause.lock_type {
        LockType::Update => RowLock::Update,
        LockType::Share => RowLock::Share,
    };
    if names.first().is_some_and(|n| n.value.starts_with('\u{1}')) {
        match names.remove(0).value.as_str() {
            NO_KEY_UPDATE => strength = RowLock::NoKeyUpdate,
            KEY_SHARE => strength = RowLock::KeyShare,
            _ => {}
        }
    }
    let wait = match clause.nonblock {
        Some(NonBlock::Nowait) => LockWait::NoWait,
        Some(NonBlock::SkipLocked) => LockWait::SkipLocked,
        None => LockWait::Block,
    };
    (strength, names, wait)
}

/// One element of a conflict target.
#[derive(Clone, Debug)]
pub struct ConflictElement {
    /// A column or an expression.
    pub expr: ast::Expr,
    /// Operator class, if written.
    pub operator_class: Option<ast::ObjectName>,
}

/// What stands between ON CONFLICT and DO.
#[derive(Clone, Debug)]
pub struct ConflictTarget {
    /// The elements.
    pub elements: Vec<ConflictElement>,
    /// WHERE
    pub predicate: Option<ast::Expr>,
}

/// The conflict target behind sqlparser's column list.
pub fn conflict_target(columns: &[Ident]) -> Result<ConflictTarget> {
    if let [one] = columns
        && let Some(rest) = one.value.strip_prefix(CONFLICT)
    {
        let (column, body) = rest.split_once(CONFLICT).unwrap_or(("1", rest));
        let offset: u64 = column.parse::<u64>().unwrap_or(1) - 1;
        return parse_target(body, offset);
    }
    let elements = columns
        .iter()
        .map(|c| ConflictElement { expr: ast::Expr::Identifier(c.clone()), operator_class: None })
        .collect();
    Ok(ConflictTarget { elements, predicate: None })
}

fn parse_target(body: &str, offset: u64) -> Result<ConflictTarget> {
    let mut tokens = lex(body)?;
    for t in &mut tokens {
        t.token.span.start.column += offset;
        t.token.span.end.column += offset;
    }
    let parsed = with_parser(body, &tokens, |p, d| {
        p.expect_token(&Token::LParen)?;
        let mut elements = Vec::new();
        loop {
            let expr = d.expr(p, 0)?;
            let operator_class = match p.peek_token_ref().token {
                Token::Word(_) => Some(p.parse_object_name(false)?),
                _ => None,
            };
            elements.push(ConflictElement { expr, operator_class });
            if !p.consume_token(&Token::Comma) {
                break;
            }
        }
        p.expect_token(&Token::RParen)?;
        let predicate = match take_word(p, "where") {
            true => Some(d.expr(p, 0)?),
            false => None,
        };
        Ok(ConflictTarget { elements, predicate })
    });
    parsed.map_err(|e: PgError| match e.state() {
        SqlState::SYNTAX_ERROR => PgError::new(SqlState::SYNTAX_ERROR, e.fields().message.clone())
            .at(e.fields().position.and_then(|p| u32::try_from(u64::from(p) + offset).ok())),
        _ => e,
    })
}
