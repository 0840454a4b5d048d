//! Array literals: `{1,NULL,"a b"}`, `[0:1]={{a},{b}}`.

use std::sync::Arc;

use super::number::is_space;
use crate::builtin::type_by_oid;
use crate::oid::{self, Oid};
use crate::{ArrayValue, Datum, EvalContext, PgError, PgType, Result, SqlState};

/// Greatest number of dimensions.
pub const MAX_DIMENSIONS: usize = 6;

fn malformed(text: &str, detail: impl Into<String>) -> PgError {
    PgError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("malformed array literal: \"{text}\""),
    )
    .detail(detail)
}

/// The separator between elements, a comma for all types but `box`.
fn delimiter(element: Oid) -> char {
    type_by_oid(element).map_or(',', |r| r.delim)
}

/// Reads an array of a given element type; the modifier is that of the elements.
pub fn array_in(element: Oid, typmod: i32, text: &str, ctx: &EvalContext) -> Result<Datum> {
    let body = text.trim_start_matches(is_space);
    let (explicit, body) = explicit_bounds(text, body)?;
    if !body.starts_with('{') {
        let detail = if explicit.is_empty() {
            "Array value must start with \"{\" or dimension information."
        } else {
            "Array contents must start with \"{\"."
        };
        return Err(malformed(text, detail));
    }
    let mut reader = Reader {
        text,
        rest: body.chars().peekable(),
        delim: delimiter(element),
        dims: Vec::new(),
        items: Vec::new(),
    };
    reader.rest.next();
    reader.list(0)?;
    if reader.rest.any(|c| !is_space(c)) {
        return Err(malformed(text, "Junk after closing right brace."));
    }
    let Reader { mut dims, items, .. } = reader;
    if items.is_empty() {
        dims.clear();
        return Ok(Datum::Array(Arc::new(ArrayValue::from_elements(element, vec![]))));
    }
    let lower_bounds = if explicit.is_empty() {
        vec![1; dims.len()]
    } else {
        let lengths: Vec<i32> = explicit.iter().map(|(low, high)| high - low + 1).collect();
        if lengths != dims {
            return Err(malformed(text, "Specified array dimensions do not match array contents."));
        }
        explicit.iter().map(|(low, _)| *low).collect()
    };
    let elements = items
        .into_iter()
        .map(|item| match item {
            Some(s) => super::text_in(element, typmod, &s, ctx),
            None => Ok(Datum::Null),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Datum::Array(Arc::new(ArrayValue { element_type: element, dims, lower_bounds, elements })))
}

/// Reads `[low:high]…=` before the contents.
fn explicit_bounds<'a>(text: &str, body: &'a str) -> Result<(Vec<(i32, i32)>, &'a str)> {
    let mut bounds = Vec::new();
    let mut rest = body;
    while let Some(inner) = rest.strip_prefix('[') {
        let Some((range, tail)) = inner.split_once(']') else {
            return Err(malformed(text, "Missing \"]\" after array dimensions."));
        };
        let (low, high) = range.split_once(':').unwrap_or(("1", range));
        let number = |s: &str| {
            s.trim().parse::<i32>().map_err(|_| malformed(text, "Missing array dimension value."))
        };
        let (low, high) = (number(low)?, number(high)?);
        if high < low {
            return Err(PgError::new(
                SqlState::ARRAY_SUBSCRIPT_ERROR,
                "upper bound cannot be less than lower bound",
            ));
        }
        bounds.push((low, high));
        rest = tail.trim_start_matches(is_space);
    }
    if bounds.is_empty() {
        return Ok((bounds, rest));
    }
    if bounds.len() > MAX_DIMENSIONS {
        return Err(too_many_dimensions(bounds.len()));
    }
    let Some(tail) = rest.strip_prefix('=') else {
        return Err(malformed(text, "Missing \"=\" after array dimensions."));
    };
    Ok((bounds, tail.trim_start_matches(is_space)))
}

/// `54000`: more than six dimensions.
pub(crate) fn too_many_dimensions(n: usize) -> PgError {
    PgError::new(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("number of array dimensions ({n}) exceeds the maximum allowed ({MAX_DIMENSIONS})"),
    )
}

struct Reader<'a> {
    text: &'a str,
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    delim: char,
    /// Length of each level, as the first list of that level has it.
    dims: Vec<i32>,
    items: Vec<Option<String>>,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        while self.rest.next_if(|&c| is_space(c)).is_some() {}
    }

    fn unexpected_end(&self) -> PgError {
        malformed(self.text, "Unexpected end of input.")
    }

    fn ragged(&self) -> PgError {
        malformed(
            self.text,
            "Multidimensional arrays must have sub-arrays with matching dimensions.",
        )
    }

    /// Reads a list whose opening brace is taken; `depth` counts from 0.
    fn list(&mut self, depth: usize) -> Result<()> {
        if depth >= MAX_DIMENSIONS {
            return Err(too_many_dimensions(depth + 1));
        }
        let first_here = self.dims.len() == depth;
        if first_here {
            self.dims.push(-1);
        }
        let mut count = 0i32;
        self.skip_space();
        if self.rest.next_if_eq(&'}').is_some() {
            return match depth {
                0 => Ok(()),
                _ => Err(malformed(self.text, "Unexpected \"}\" character.")),
            };
        }
        loop {
            self.skip_space();
            match self.rest.peek() {
                None => return Err(self.unexpected_end()),
                Some('{') => {
                    self.rest.next();
                    // Elements were seen at this level: it cannot hold lists as well.
                    if !first_here && self.dims.len() == depth + 1 {
                        return Err(self.ragged());
                    }
                    if self.dims.len() == depth + 1 && count > 0 {
                        return Err(self.ragged());
                    }
                    self.list(depth + 1)?;
                }
                Some(_) => {
                    if self.dims.len() > depth + 1 {
                        return Err(self.ragged());
                    }
                    let item = self.item()?;
                    self.items.push(item);
                }
            }
            count += 1;
            self.skip_space();
            match self.rest.next() {
                Some('}') => return self.close(depth, count),
                Some(c) if c == self.delim => {}
                Some(c) if c == '"' || c == '{' => {
                    return Err(malformed(self.text, "Unexpected array element."));
                }
                Some(_) => return Err(malformed(self.text, "Unexpected array element.")),
                None => return Err(self.unexpected_end()),
            }
        }
    }

    fn close(&mut self, depth: usize, count: i32) -> Result<()> {
        if self.dims[depth] == -1 {
            self.dims[depth] = count;
        } else if self.dims[depth] != count {
            return Err(self.ragged());
        }
        Ok(())
    }

    fn item(&mut self) -> Result<Option<String>> {
        if self.rest.next_if_eq(&'"').is_some() {
            return self.quoted().map(Some);
        }
        let mut word = String::new();
        // Trailing blanks belong to the word only when escaped.
        let mut kept = 0;
        let mut escaped = false;
        loop {
            match self.rest.peek().copied() {
                None => return Err(self.unexpected_end()),
                Some(c) if c == self.delim || c == '}' => break,
                Some(c @ ('"' | '{')) => {
                    return Err(malformed(
                        self.text,
                        match c {
                            '{' => "Unexpected \"{\" character.",
                            _ => "Unexpected array element.",
                        },
                    ));
                }
                Some('\\') => {
                    self.rest.next();
                    word.push(self.rest.next().ok_or_else(|| self.unexpected_end())?);
                    escaped = true;
                    kept = word.len();
                }
                Some(c) => {
                    self.rest.next();
                    word.push(c);
                    if !is_space(c) {
                        kept = word.len();
                    }
                }
            }
        }
        word.truncate(kept);
        if word.is_empty() {
            let next = self.rest.peek().copied().unwrap_or('}');
            return Err(malformed(self.text, format!("Unexpected \"{next}\" character.")));
        }
        Ok((escaped || !word.eq_ignore_ascii_case("null")).then_some(word))
    }

    fn quoted(&mut self) -> Result<String> {
        let mut word = String::new();
        loop {
            match self.rest.next() {
                None => return Err(self.unexpected_end()),
                Some('"') => return Ok(word),
                Some('\\') => {
                    word.push(self.rest.next().ok_or_else(|| self.unexpected_end())?);
                }
                Some(c) => word.push(c),
            }
        }
    }
}

/// Writes an array literal.
pub fn array_out(array: &ArrayValue, ctx: &EvalContext, out: &mut Vec<u8>) -> Result<()> {
    if array.elements.is_empty() {
        out.extend_from_slice(b"{}");
        return Ok(());
    }
    if array.lower_bounds.iter().any(|&b| b != 1) {
        for (low, len) in array.lower_bounds.iter().zip(&array.dims) {
            out.extend_from_slice(format!("[{low}:{}]", low + len - 1).as_bytes());
        }
        out.push(b'=');
    }
    let delim = u8::try_from(delimiter(array.element_type)).unwrap_or(b',');
    let mut rest = array.elements.as_slice();
    write_level(array, &array.dims, &mut rest, delim, ctx, out)
}

/// Writes one brace-enclosed list, taking its elements off the front of `rest`.
fn write_level(
    array: &ArrayValue,
    dims: &[i32],
    rest: &mut &[Datum],
    delim: u8,
    ctx: &EvalContext,
    out: &mut Vec<u8>,
) -> Result<()> {
    let Some((&len, inner)) = dims.split_first() else { return Ok(()) };
    out.push(b'{');
    for i in 0..len {
        if i > 0 {
            out.push(delim);
        }
        if !inner.is_empty() {
            write_level(array, inner, rest, delim, ctx, out)?;
            continue;
        }
        let Some((value, tail)) = rest.split_first() else { break };
        *rest = tail;
        if value.is_null() {
            out.extend_from_slice(b"NULL");
        } else {
            let mut word = Vec::new();
            super::text_out(value, PgType::new(array.element_type), ctx, &mut word)?;
            write_item(out, &word, delim);
            super::record::check_length(out)?;
        }
    }
    out.push(b'}');
    Ok(())
}

fn write_item(out: &mut Vec<u8>, word: &[u8], delim: u8) {
    let special =
        |&b: &u8| b == delim || matches!(b, b'"' | b'\\' | b'{' | b'}') || is_space(char::from(b));
    let quote = word.is_empty() || word.eq_ignore_ascii_case(b"null") || word.iter().any(special);
    if !quote {
        out.extend_from_slice(word);
        return;
    }
    out.push(b'"');
    for &b in word {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(b);
    }
    out.push(b'"');
}

/// `int2vectorin`, `oidvectorin`: numbers between blanks, subscripts from 0.
pub fn vector_in(type_oid: Oid, text: &str) -> Result<Datum> {
    let element = if type_oid == oid::INT2VECTOR { oid::INT2 } else { oid::OID };
    let elements = text
        .split_ascii_whitespace()
        .map(|word| {
            Ok(match element {
                oid::INT2 => Datum::Int2(super::number::int2_in(word)?),
                _ => Datum::Oid(super::number::oid_in(word, oid::OID)?),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let dims = vec![i32::try_from(elements.len()).unwrap_or(i32::MAX)];
    Ok(Datum::Array(Arc::new(ArrayValue {
        element_type: element,
        dims,
        lower_bounds: vec![0],
        elements,
    })))
}

/// `int2vectorout`, `oidvectorout`
pub fn vector_out(array: &ArrayValue, ctx: &EvalContext, out: &mut Vec<u8>) -> Result<()> {
    for (i, value) in array.elements.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        super::text_out(value, PgType::new(array.element_type), ctx, out)?;
    }
    Ok(())
}
