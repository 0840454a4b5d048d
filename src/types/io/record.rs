//! Row values as text: `(1,"a b",)`.

use std::sync::Arc;

use super::natural_type;
use super::number::is_space;
use crate::{Datum, EvalContext, PgError, PgType, Result, SqlState};

/// Writes a row; a NULL field is empty.
pub fn record_out(
    fields: &[Datum],
    ty: PgType,
    ctx: &EvalContext,
    out: &mut Vec<u8>,
) -> Result<()> {
    if fields.iter().any(|field| nests(field, NESTING_MAX)) {
        return Err(too_long());
    }
    let shape = crate::shape::of(ty);
    out.push(b'(');
    let mut word = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if field.is_null() {
            continue;
        }
        word.clear();
        super::text_out(field, field_type(shape.as_deref(), i, field), ctx, &mut word)?;
        write_field(out, &word);
        check_length(out)?;
    }
    out.push(b')');
    Ok(())
}

/// Bytes of a row's or an array's text. Quotes are doubled at each level, so that the text of forty
/// nested rows would take a terabyte; PostgreSQL gives up at a gigabyte.
const TEXT_BYTES_MAX: usize = 256 << 20;
/// Rows in rows whose quotes alone come to more than that.
const NESTING_MAX: u32 = 28;

/// Are there more rows in rows than this?
pub(super) fn nests(value: &Datum, levels: u32) -> bool {
    match value {
        Datum::Record(fields) => levels == 0 || fields.iter().any(|field| nests(field, levels - 1)),
        Datum::Array(array) => array.elements.iter().any(|element| nests(element, levels)),
        _ => false,
    }
}

pub(super) fn check_length(text: &[u8]) -> Result<()> {
    if text.len() > TEXT_BYTES_MAX { Err(too_long()) } else { Ok(()) }
}

pub(super) fn too_long() -> PgError {
    PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "out of memory")
        .detail("The text of a row takes too many bytes.")
}

/// The type of a field: the shape's, or the value's own.
pub(super) fn field_type(shape: Option<&[(Arc<str>, PgType)]>, i: usize, field: &Datum) -> PgType {
    let known = shape.and_then(|s| s.get(i)).map(|(_, ty)| *ty);
    known.filter(|ty| ty.oid != crate::oid::UNKNOWN).unwrap_or_else(|| natural_type(field))
}

fn write_field(out: &mut Vec<u8>, word: &[u8]) {
    let special =
        |&b: &u8| matches!(b, b'"' | b'\\' | b'(' | b')' | b',') || is_space(char::from(b));
    if !word.is_empty() && !word.iter().any(special) {
        out.extend_from_slice(word);
        return;
    }
    out.push(b'"');
    for &b in word {
        if matches!(b, b'"' | b'\\') {
            out.push(b);
        }
        out.push(b);
    }
    out.push(b'"');
}

/// Reads a row of known field types.
pub fn record_in(types: &[PgType], text: &str, ctx: &EvalContext) -> Result<Datum> {
    let malformed = |detail: &str| {
        PgError::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("malformed record literal: \"{text}\""),
        )
        .detail(detail)
    };
    let body = text.trim_start_matches(is_space);
    let mut rest = body
        .strip_prefix('(')
        .ok_or_else(|| malformed("Missing left parenthesis."))?
        .chars()
        .peekable();
    let mut fields = Vec::with_capacity(types.len());
    for (i, ty) in types.iter().enumerate() {
        if i > 0 && rest.next_if_eq(&',').is_none() {
            return Err(malformed("Too few columns."));
        }
        let word = read_field(&mut rest).ok_or_else(|| malformed("Unexpected end of input."))?;
        fields.push(match word {
            None => Datum::Null,
            Some(word) => super::text_in(ty.oid, ty.typmod, &word, ctx)?,
        });
    }
    match rest.next() {
        Some(')') => {}
        Some(',') => return Err(malformed("Too many columns.")),
        _ => return Err(malformed("Unexpected end of input.")),
    }
    if rest.any(|c| !is_space(c)) {
        return Err(malformed("Junk after right parenthesis."));
    }
    Ok(Datum::Record(fields.into()))
}

/// One field; `Some(None)` is NULL, `None` a missing end.
fn read_field(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Option<String>> {
    if matches!(rest.peek(), Some(',' | ')')) {
        return Some(None);
    }
    let mut word = String::new();
    let mut quoted = false;
    loop {
        match *rest.peek()? {
            ',' | ')' if !quoted => return Some(Some(word)),
            '"' => {
                rest.next();
                if quoted && rest.next_if_eq(&'"').is_some() {
                    word.push('"');
                } else {
                    quoted = !quoted;
                }
            }
            '\\' => {
                rest.next();
                word.push(rest.next()?);
            }
            c => {
                rest.next();
                word.push(c);
            }
        }
    }
}
