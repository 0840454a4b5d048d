//! `LIKE` and `ILIKE`.
//!
//! The matcher walks text and pattern once and goes back only to the last `%`, which is enough:
//! an earlier `%` need not take more when a later one can.

use super::call::fun;
use crate::{Kernel, PgError, Result, SqlState};

type Table = &'static [(&'static str, Kernel)];

fn ends_with_escape() -> PgError {
    PgError::new(
        SqlState::INVALID_ESCAPE_SEQUENCE,
        "LIKE pattern must not end with escape character",
    )
}

/// Matches items (characters or bytes) against a pattern of the same items.
fn matches<T: Copy + PartialEq>(
    text: &[T],
    pattern: &[T],
    any: T,
    one: T,
    escape: T,
) -> Result<bool> {
    let (mut t, mut p) = (0, 0);
    // Where to go on after a mismatch: behind the last `%`, one more item taken by it.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let fits = match pattern.get(p) {
            Some(&c) if c == any => {
                p += 1;
                if p == pattern.len() {
                    return Ok(true);
                }
                retry = Some((t, p));
                continue;
            }
            Some(&c) if c == one => t < text.len(),
            // A trailing escape is only noticed while there is text to match.
            Some(&c) if c == escape && t < text.len() => {
                p += 1;
                let literal = pattern.get(p).ok_or_else(ends_with_escape)?;
                text.get(t) == Some(literal)
            }
            Some(&c) if c == escape => false,
            Some(c) => text.get(t) == Some(c),
            None if t == text.len() => return Ok(true),
            None => false,
        };
        if fits {
            t += 1;
            p += 1;
            continue;
        }
        match retry {
            Some((at, after)) if at < text.len() => {
                retry = Some((at + 1, after));
                (t, p) = (at + 1, after);
            }
            _ => return Ok(false),
        }
    }
}

/// `text LIKE pattern`
pub(crate) fn like(text: &str, pattern: &str) -> Result<bool> {
    if text.is_ascii() && pattern.is_ascii() {
        return matches(text.as_bytes(), pattern.as_bytes(), b'%', b'_', b'\\');
    }
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    matches(&text, &pattern, '%', '_', '\\')
}

fn ilike(text: &str, pattern: &str) -> Result<bool> {
    like(&super::text::lower(text), &super::text::lower(pattern))
}

fn like_bytes(text: &[u8], pattern: &[u8]) -> Result<bool> {
    matches(text, pattern, b'%', b'_', b'\\')
}

/// Rewrites a pattern with another escape character to one with backslash.
fn like_escape(pattern: &str, escape: &str) -> Result<String> {
    let mut chars = escape.chars();
    let (escape, more) = (chars.next(), chars.next());
    if more.is_some() {
        return Err(PgError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
            .hint("Escape string must be empty or one character."));
    }
    let mut out = String::with_capacity(pattern.len());
    let mut after_escape = false;
    for c in pattern.chars() {
        if Some(c) == escape && !after_escape {
            out.push('\\');
            after_escape = true;
        } else if c == '\\' && escape != Some('\\') {
            out.push('\\');
            if !after_escape {
                out.push('\\');
            }
            after_escape = false;
        } else {
            out.push(c);
            after_escape = false;
        }
    }
    Ok(out)
}

fn like_escape_bytes(pattern: &[u8], escape: &[u8]) -> Result<Vec<u8>> {
    let latin = |b: &[u8]| b.iter().map(|&b| char::from(b)).collect::<String>();
    let out = like_escape(&latin(pattern), &latin(escape))?;
    Ok(out.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect())
}

const KERNELS: Table = &[
    ("textlike", fun!(|s: &str, p: &str| like(s, p))),
    ("textnlike", fun!(|s: &str, p: &str| like(s, p).map(|m| !m))),
    ("texticlike", fun!(|s: &str, p: &str| ilike(s, p))),
    ("texticnlike", fun!(|s: &str, p: &str| ilike(s, p).map(|m| !m))),
    ("namelike", fun!(|s: &str, p: &str| like(s, p))),
    ("namenlike", fun!(|s: &str, p: &str| like(s, p).map(|m| !m))),
    ("nameiclike", fun!(|s: &str, p: &str| ilike(s, p))),
    ("nameicnlike", fun!(|s: &str, p: &str| ilike(s, p).map(|m| !m))),
    ("bytealike", fun!(|s: &[u8], p: &[u8]| like_bytes(s, p))),
    ("byteanlike", fun!(|s: &[u8], p: &[u8]| like_bytes(s, p).map(|m| !m))),
    ("like_escape", fun!(|p: &str, e: &str| like_escape(p, e))),
    ("like_escape_bytea", fun!(|p: &[u8], e: &[u8]| like_escape_bytes(p, e))),
];

pub(crate) const TABLES: &[Table] = &[KERNELS];
