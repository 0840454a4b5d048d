//! Text of `bool`, `name`, `"char"`, `bytea` and `uuid`.

use super::invalid_syntax;
use super::number::is_space;
use crate::{PgError, Result, SqlState};

/// `boolin`: any unambiguous prefix of true/false/yes/no/on/off, or 1/0.
pub fn bool_in(text: &str) -> Result<bool> {
    parse_bool(text.trim_matches(is_space)).ok_or_else(|| invalid_syntax("boolean", text))
}

/// The word's truth, if it is one of PostgreSQL's.
pub fn parse_bool(word: &str) -> Option<bool> {
    let word = word.to_ascii_lowercase();
    let is = |full: &str, least: usize| word.len() >= least && full.starts_with(&*word);
    if is("true", 1) || is("yes", 1) || is("on", 2) || word == "1" {
        Some(true)
    } else if is("false", 1) || is("no", 1) || is("off", 2) || word == "0" {
        Some(false)
    } else {
        None
    }
}

/// The longest prefix of at most 63 bytes.
pub fn name_in(text: &str) -> &str {
    const MAX_NAME: usize = 63;
    &text[..text.floor_char_boundary(MAX_NAME)]
}

/// The first character.
pub fn char_in(text: &str) -> &str {
    match text.chars().next() {
        Some(c) => &text[..c.len_utf8()],
        None => "",
    }
}

/// `byteain`: hex with `\x`, otherwise the escape form.
pub fn bytea_in(text: &str) -> Result<Vec<u8>> {
    match text.strip_prefix("\\x") {
        Some(hex) => hex_decode(hex.as_bytes()),
        None => escape_decode(text).ok_or_else(|| {
            PgError::new(
                SqlState::INVALID_TEXT_REPRESENTATION,
                "invalid input syntax for type bytea",
            )
        }),
    }
}

fn hex_error(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Hex digits with optional white space between bytes.
pub(crate) fn hex_decode(text: &[u8]) -> Result<Vec<u8>> {
    let digit = |at: usize| -> Result<u8> {
        let b = text[at];
        char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or_else(|| {
            let rest = String::from_utf8_lossy(&text[at..]);
            let shown = rest.chars().next().unwrap_or('?');
            hex_error(format!("invalid hexadecimal digit: \"{shown}\""))
        })
    };
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut i = 0;
    while i < text.len() {
        if matches!(text[i], b' ' | b'\n' | b'\t' | b'\r') {
            i += 1;
            continue;
        }
        let high = digit(i)?;
        if i + 1 >= text.len() {
            return Err(hex_error("invalid hexadecimal data: odd number of digits"));
        }
        out.push(high << 4 | digit(i + 1)?);
        i += 2;
    }
    Ok(out)
}

/// Backslash escapes: `\\` and three octal digits.
pub(crate) fn escape_decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return Some(out),
            [b'\\', b'\\', tail @ ..] => {
                out.push(b'\\');
                tail
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                tail
            }
            [b'\\', ..] => return None,
            [plain, tail @ ..] => {
                out.push(*plain);
                tail
            }
        };
    }
}

/// Appends lower-case hex digits.
pub(crate) fn write_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)]);
        out.push(DIGITS[usize::from(b & 15)]);
    }
}

/// The escape form: backslash doubled, bytes outside printable ASCII in octal.
pub(crate) fn write_escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for &b in bytes {
        match b {
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x20..=0x7e => out.push(b),
            _ => out.extend_from_slice(format!("\\{b:03o}").as_bytes()),
        }
    }
}

/// `byteaout` under `bytea_output`.
pub fn bytea_out(out: &mut Vec<u8>, bytes: &[u8], hex: bool) {
    if hex {
        out.extend_from_slice(b"\\x");
        write_hex(out, bytes);
    } else {
        write_escape(out, bytes);
    }
}

/// `uuid_in`: 32 hex digits, a hyphen allowed after every fourth, braces around.
pub fn uuid_in(text: &str) -> Result<[u8; 16]> {
    parse_uuid(text).ok_or_else(|| invalid_syntax("uuid", text))
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let body = match text.strip_prefix('{') {
        Some(inner) => inner.strip_suffix('}')?,
        None => text,
    };
    let mut rest = body.as_bytes();
    let mut out = [0u8; 16];
    for (i, byte) in out.iter_mut().enumerate() {
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
        rest = tail;
        if i % 2 == 1
            && i < 15
            && let [b'-', tail @ ..] = rest
        {
            rest = tail;
        }
    }
    rest.is_empty().then_some(out)
}

/// `uuid_out`
pub fn uuid_out(out: &mut Vec<u8>, v: &[u8; 16]) {
    for (i, part) in [&v[..4], &v[4..6], &v[6..8], &v[8..10], &v[10..]].into_iter().enumerate() {
        if i > 0 {
            out.push(b'-');
        }
        write_hex(out, part);
    }
}
