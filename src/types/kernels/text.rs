//! Strings: parts, padding, trimming, case, characters.
//!
//! Positions and lengths count characters. Text that is all ASCII, the usual case, is cut by bytes.

use super::call::{fun, invalid_parameter, len_i32};
use crate::io::chars::{char_in, name_in};
use crate::{Datum, Kernel, PgError, Result, SqlState};

type Table = &'static [(&'static str, Kernel)];

/// Longest text that a function may build.
const MAX_LENGTH: usize = 0x3fff_ffff;

fn limit_error(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
}

fn negative_length() -> PgError {
    PgError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed")
}

/// The byte offset of the character with this index, or the end.
fn offset(s: &str, chars: usize) -> usize {
    if s.is_ascii() {
        return chars.min(s.len());
    }
    s.char_indices().nth(chars).map_or(s.len(), |(i, _)| i)
}

/// The zero-based window of a one-based start and a length, clipped at the start.
pub(super) fn window(start: i32, len: Option<i32>) -> Result<(usize, Option<usize>)> {
    let from = i64::from(start) - 1;
    let skip = usize::try_from(from.max(0)).unwrap_or(0);
    let Some(len) = len else { return Ok((skip, None)) };
    if len < 0 {
        return Err(negative_length());
    }
    let end = (from + i64::from(len)).max(0);
    let take = end - from.max(0);
    Ok((skip, Some(usize::try_from(take.max(0)).unwrap_or(0))))
}

fn substr(s: &str, start: i32, len: Option<i32>) -> Result<&str> {
    let (skip, take) = window(start, len)?;
    let rest = &s[offset(s, skip)..];
    Ok(match take {
        Some(take) => &rest[..offset(rest, take)],
        None => rest,
    })
}

fn overlay(s: &str, new: &str, start: i32, len: i32) -> Result<String> {
    if start <= 0 {
        return Err(negative_length());
    }
    let after =
        start.checked_add(len).ok_or_else(|| super::call::out_of_range("integer out of range"))?;
    Ok([substr(s, 1, Some(start - 1))?, new, substr(s, after, None)?].concat())
}

fn position(s: &str, needle: &str) -> i32 {
    s.find(needle).map_or(0, |at| len_i32(s[..at].chars().count()) + 1)
}

fn in_set(set: &str) -> impl Fn(char) -> bool + '_ {
    move |c| set.contains(c)
}

fn pad(s: &str, len: i32, fill: &str, left: bool) -> Result<String> {
    let len = usize::try_from(len).unwrap_or(0);
    let has = s.chars().count();
    let len = if fill.is_empty() { len.min(has) } else { len };
    if len > (MAX_LENGTH - 4) / 4 {
        return Err(limit_error("requested length too large"));
    }
    if has >= len {
        return Ok(s[..offset(s, len)].to_owned());
    }
    let padding = fill.chars().cycle().take(len - has);
    Ok(if left { padding.chain(s.chars()).collect() } else { s.chars().chain(padding).collect() })
}

fn repeat(s: &str, times: i32) -> Result<String> {
    let times = usize::try_from(times).unwrap_or(0);
    match s.len().checked_mul(times) {
        Some(n) if n <= MAX_LENGTH => Ok(s.repeat(times)),
        _ => Err(limit_error("requested length too large")),
    }
}

fn replace(s: &str, from: &str, to: &str) -> String {
    if from.is_empty() { s.to_owned() } else { s.replace(from, to) }
}

fn translate(s: &str, from: &str, to: &str) -> String {
    let to: Vec<char> = to.chars().collect();
    s.chars()
        .filter_map(|c| match from.chars().position(|f| f == c) {
            None => Some(c),
            Some(at) => to.get(at).copied(),
        })
        .collect()
}

fn split_part<'a>(s: &'a str, sep: &str, field: i32) -> Result<&'a str> {
    if field == 0 {
        return Err(invalid_parameter("field position must not be zero"));
    }
    if s.is_empty() {
        return Ok("");
    }
    if sep.is_empty() {
        return Ok(if field == 1 || field == -1 { s } else { "" });
    }
    let n = field.unsigned_abs() as usize - 1;
    if field > 0 {
        return Ok(s.split(sep).nth(n).unwrap_or(""));
    }
    // Separators are found from the left, also when counting from the right.
    let parts = s.split(sep).count();
    Ok(parts.checked_sub(n + 1).and_then(|at| s.split(sep).nth(at)).unwrap_or(""))
}

/// Case mapping character by character, where the mapping is one character.
fn one_to_one(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(m), None) => m,
        _ => c,
    }
}

pub(crate) fn lower(s: &str) -> String {
    s.chars().map(|c| one_to_one(c, c.to_lowercase())).collect()
}

pub(crate) fn upper(s: &str) -> String {
    s.chars().map(|c| one_to_one(c, c.to_uppercase())).collect()
}

fn initcap(s: &str) -> String {
    let mut inside = false;
    s.chars()
        .map(|c| {
            let mapped = if inside {
                one_to_one(c, c.to_lowercase())
            } else {
                one_to_one(c, c.to_uppercase())
            };
            inside = c.is_alphanumeric();
            mapped
        })
        .collect()
}

/// `left` and, on the other side, `right`: a negative count leaves that many characters out.
fn left(s: &str, n: i32) -> &str {
    if n >= 0 {
        return &s[..offset(s, n.unsigned_abs() as usize)];
    }
    let keep = s.chars().count().saturating_sub(n.unsigned_abs() as usize);
    &s[..offset(s, keep)]
}

fn right(s: &str, n: i32) -> &str {
    let drop = if n >= 0 {
        s.chars().count().saturating_sub(n.unsigned_abs() as usize)
    } else {
        n.unsigned_abs() as usize
    };
    &s[offset(s, drop)..]
}

fn chr(code: i32) -> Result<String> {
    if code < 0 {
        return Err(super::call::invalid_parameter("character number must be positive"));
    }
    if code == 0 {
        return Err(limit_error("null character not permitted"));
    }
    if code > 0x10_ffff {
        return Err(limit_error(format!("requested character too large for encoding: {code}")));
    }
    u32::try_from(code)
        .ok()
        .and_then(char::from_u32)
        .map(String::from)
        .ok_or_else(|| limit_error(format!("requested character not valid for encoding: {code}")))
}

/// `unistr`: `\XXXX`, `\+XXXXXX`, `\uXXXX`, `\UXXXXXXXX` and `\\`.
fn unistr(s: &str) -> Result<String> {
    let invalid = || {
        PgError::new(SqlState::SYNTAX_ERROR, "invalid Unicode escape")
            .hint("Unicode escapes must be \\XXXX, \\+XXXXXX, \\uXXXX, or \\UXXXXXXXX.")
    };
    let pair = || PgError::new(SqlState::SYNTAX_ERROR, "invalid Unicode surrogate pair");
    let (mut out, mut rest, mut high) = (String::new(), s, None::<u32>);
    while let Some(c) = rest.chars().next() {
        if c != '\\' || rest.starts_with("\\\\") {
            if high.is_some() {
                return Err(pair());
            }
            out.push(c);
            rest = &rest[if c == '\\' { 2 } else { c.len_utf8() }..];
            continue;
        }
        let body = &rest[1..];
        let (skip, len) = match body.as_bytes().first() {
            Some(b'+') => (1, 6),
            Some(b'u') => (1, 4),
            Some(b'U') => (1, 8),
            _ => (0, 4),
        };
        let digits = body.get(skip..skip + len).ok_or_else(invalid)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let code = u32::from_str_radix(digits, 16).map_err(|_| invalid())?;
        rest = &body[skip + len..];
        let code = match (high.take(), code) {
            (None, 0xd800..=0xdbff) => {
                high = Some(code);
                continue;
            }
            (Some(h), 0xdc00..=0xdfff) => 0x1_0000 + ((h & 0x3ff) << 10) + (code & 0x3ff),
            (None, code) => code,
            (Some(_), _) => return Err(pair()),
        };
        let c = char::from_u32(code).filter(|&c| c != '\0');
        out.push(
            c.ok_or_else(|| invalid_parameter(format!("invalid Unicode code point: {code:04X}")))?,
        );
    }
    if high.is_some() { Err(pair()) } else { Ok(out) }
}

fn coerced(text: &std::sync::Arc<str>, oid: u32, typmod: i32, explicit: bool) -> Result<Datum> {
    if oid == crate::oid::BPCHAR && typmod.saturating_sub(4) > MAX_LENGTH as i32 {
        return Err(PgError::internal(format!("invalid memory alloc request size {typmod}")));
    }
    let ty = crate::PgType::with_typmod(oid, typmod);
    crate::io::apply_typmod(Datum::Text(text.clone()), ty, explicit)
}

fn name_with_oid(name: &str, oid: u32) -> String {
    let suffix = format!("_{oid}");
    let room = 63 - suffix.len();
    format!("{}{suffix}", &name[..name.floor_char_boundary(room)])
}

const PARTS: Table = &[
    ("textcat", fun!(|a: &str, b: &str| [a, b].concat())),
    ("text_substr", fun!(|s: &str, start: i32, len: i32| substr(s, start, Some(len)))),
    ("text_substr_no_len", fun!(|s: &str, start: i32| substr(s, start, None))),
    ("textoverlay", fun!(|s: &str, new: &str, start: i32, len: i32| overlay(s, new, start, len))),
    (
        "textoverlay_no_len",
        fun!(|s: &str, new: &str, start: i32| {
            overlay(s, new, start, len_i32(new.chars().count()))
        }),
    ),
    ("textpos", fun!(|s: &str, needle: &str| position(s, needle))),
    ("text_left", fun!(|s: &str, n: i32| left(s, n))),
    ("text_right", fun!(|s: &str, n: i32| right(s, n))),
    ("text_reverse", fun!(|s: &str| s.chars().rev().collect::<String>())),
    ("text_starts_with", fun!(|s: &str, prefix: &str| s.starts_with(prefix))),
    ("split_part", fun!(|s: &str, sep: &str, n: i32| split_part(s, sep, n))),
    ("textlen", fun!(|s: &str| len_i32(s.chars().count()))),
    ("textoctetlen", fun!(|s: &str| len_i32(s.len()))),
    ("bit_length(text)", fun!(|s: &str| len_i32(s.len() * 8))),
    ("bpcharlen", fun!(|s: &str| len_i32(crate::order::bpchar_body(s).chars().count()))),
    ("bpcharoctetlen", fun!(|s: &str| len_i32(s.len()))),
];

const CHANGES: Table = &[
    ("btrim", fun!(|s: &str, set: &str| s.trim_matches(in_set(set)))),
    ("btrim1", fun!(|s: &str| s.trim_matches(' '))),
    ("ltrim", fun!(|s: &str, set: &str| s.trim_start_matches(in_set(set)))),
    ("ltrim1", fun!(|s: &str| s.trim_start_matches(' '))),
    ("rtrim", fun!(|s: &str, set: &str| s.trim_end_matches(in_set(set)))),
    ("rtrim1", fun!(|s: &str| s.trim_end_matches(' '))),
    ("lpad", fun!(|s: &str, len: i32, fill: &str| pad(s, len, fill, true))),
    ("lpad(text,int4)", fun!(|s: &str, len: i32| pad(s, len, " ", true))),
    ("rpad", fun!(|s: &str, len: i32, fill: &str| pad(s, len, fill, false))),
    ("rpad(text,int4)", fun!(|s: &str, len: i32| pad(s, len, " ", false))),
    ("repeat", fun!(|s: &str, n: i32| repeat(s, n))),
    ("replace_text", fun!(|s: &str, from: &str, to: &str| replace(s, from, to))),
    ("translate", fun!(|s: &str, from: &str, to: &str| translate(s, from, to))),
    ("lower", fun!(|s: &str| lower(s))),
    ("upper", fun!(|s: &str| upper(s))),
    ("initcap", fun!(|s: &str| initcap(s))),
    ("ascii", fun!(|s: &str| s.chars().next().map_or(0, |c| u32::from(c).cast_signed()))),
    ("chr", fun!(|code: i32| chr(code))),
    ("unistr", fun!(|s: &str| unistr(s))),
];

const CASTS: Table = &[
    (
        "varchar",
        fun!(|s: &std::sync::Arc<str>, typmod: i32, explicit: bool| {
            coerced(s, crate::oid::VARCHAR, typmod, explicit)
        }),
    ),
    (
        "bpchar",
        fun!(|s: &std::sync::Arc<str>, typmod: i32, explicit: bool| {
            coerced(s, crate::oid::BPCHAR, typmod, explicit)
        }),
    ),
    ("name_text", fun!(|s: &std::sync::Arc<str>| s.clone())),
    ("name_bpchar", fun!(|s: &std::sync::Arc<str>| s.clone())),
    ("text_name", fun!(|s: &str| name_in(s))),
    ("bpchar_name", fun!(|s: &str| name_in(s.trim_end_matches(' ')))),
    ("char_text", fun!(|s: &str| s)),
    ("char_bpchar", fun!(|s: &str| s)),
    ("text_char", fun!(|s: &str| char_in(s))),
    ("nameconcatoid", fun!(|name: &str, oid: u32| name_with_oid(name, oid))),
];

pub(crate) const TABLES: &[Table] = &[PARTS, CHANGES, CASTS];
