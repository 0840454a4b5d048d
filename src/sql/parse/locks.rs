//! `FOR UPDATE SKIP LOCKED LIMIT 1`: PostgreSQL takes a query's locking clauses and its LIMIT, OFFSET
//! and FETCH in either order, sqlparser only LIMIT first. So locks that come first are moved back.

use sqlparser::tokenizer::Token;

use super::lexer::Lexed;

fn is(tokens: &[Lexed], at: usize, word: &str) -> bool {
    let token = tokens.get(at).map(|t| &t.token.token);
    matches!(token, Some(Token::Word(w)) if w.quote_style.is_none() && w.value == word)
}

/// The end of the locking clause that begins here, if one does.
fn clause_end(tokens: &[Lexed], at: usize) -> Option<usize> {
    let is = |at, word| is(tokens, at, word);
    let mut end = match () {
        () if !is(at, "for") => return None,
        () if is(at + 1, "update") || is(at + 1, "share") => at + 2,
        () if is(at + 1, "key") && is(at + 2, "share") => at + 3,
        () if is(at + 1, "no") && is(at + 2, "key") && is(at + 3, "update") => at + 4,
        () => return None,
    };
    if is(end, "of") {
        // Names with dots and commas between them: a name follows each of those.
        end += 2;
        while matches!(tokens.get(end).map(|t| &t.token.token), Some(Token::Comma | Token::Period))
        {
            end += 2;
        }
    }
    if is(end, "nowait") {
        end += 1;
    } else if is(end, "skip") && is(end + 1, "locked") {
        end += 2;
    }
    Some(end)
}

/// The end of the LIMIT, OFFSET and FETCH clauses that begin here.
fn limit_end(tokens: &[Lexed], at: usize) -> usize {
    let mut depth = 0;
    let ends = |(at, token): &(usize, &Lexed)| {
        match token.token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        let over = matches!(token.token.token, Token::SemiColon | Token::EOF);
        depth < 0 || (depth == 0 && (over || clause_end(tokens, *at).is_some()))
    };
    let found = tokens.iter().enumerate().skip(at).find(ends);
    found.map_or(tokens.len(), |(end, _)| end)
}

/// The tokens with locks behind limits, if there are any to move.
pub(super) fn behind_limits(tokens: &[Lexed]) -> Option<Vec<Lexed>> {
    let mut moved: Option<Vec<Lexed>> = None;
    let mut at = 0;
    while at < tokens.len() {
        let Some(mut end) = clause_end(tokens, at) else {
            at += 1;
            continue;
        };
        while let Some(further) = clause_end(tokens, end) {
            end = further;
        }
        if ["limit", "offset", "fetch"].iter().any(|word| is(tokens, end, word)) {
            let limit = limit_end(tokens, end);
            let all = moved.get_or_insert_with(|| tokens.to_vec());
            all[at..limit].rotate_left(end - at);
            end = limit;
        }
        at = end;
    }
    moved
}
