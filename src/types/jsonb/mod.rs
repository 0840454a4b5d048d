//! `jsonb` and `json`.
//!
//! A `jsonb` is stored in a binary form with offset tables ([`view`]) so that a key or an element
//! is found without reading the rest; the keys of an object are unique and sorted by length, then
//! by bytes, which is also the order in which they are shown. What builds or changes values works
//! on a tree ([`value`]). A `json` keeps its text as it was written; it is checked and taken apart
//! by the same parser ([`parse`]).
//!
//! `{"bb": 1, "a": [true]}` becomes `{"a": [true], "bb": 1}`.

pub mod contains;
pub mod edit;
mod order;
pub mod parse;
pub mod path;
#[cfg(test)]
mod tests;
pub mod text;
pub mod value;
pub mod view;

use bytes::Bytes;

pub use order::compare;
pub use parse::{Kind, Node};
pub use value::Value;
pub use view::Ref;

use crate::{PgError, Result, SqlState};

/// Reads a `jsonb`.
pub fn jsonb_in(text: &str) -> Result<Bytes> {
    Value::parse(text)?.to_bytes()
}

/// Appends the text of a `jsonb`.
pub fn jsonb_out(out: &mut Vec<u8>, bytes: &[u8]) {
    text::write(out, Ref::new(bytes));
}

/// The text of a `jsonb`.
pub fn to_text(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    jsonb_out(&mut out, bytes);
    text::into_string(out)
}

/// Checks the text of a `json`, which is kept as it is.
pub fn json_check(text: &str) -> Result<()> {
    parse::parse(text, false).map(|_| ())
}

/// Reads the binary wire form: a version byte (1) and the text.
pub fn jsonb_recv(bytes: &[u8]) -> Result<Bytes> {
    let Some((version, rest)) = bytes.split_first() else {
        return Err(PgError::new(SqlState::PROTOCOL_VIOLATION, "no data left in message"));
    };
    if *version != 1 {
        return Err(PgError::internal(format!("unsupported jsonb version number {version}")));
    }
    let text = std::str::from_utf8(rest).map_err(|_| {
        PgError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\"",
        )
    })?;
    jsonb_in(text)
}

/// Appends the binary wire form.
pub fn jsonb_send(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(1);
    jsonb_out(out, bytes);
}

/// Appends bytes whose order is that of the `jsonb` B-tree operators; equal values, equal bytes.
pub fn sort_key(out: &mut Vec<u8>, bytes: &[u8]) {
    order::sort_key(out, Ref::new(bytes));
}
