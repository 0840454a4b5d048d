//! A JSON value as a tree, for everything that builds or changes one.

use bytes::Bytes;

use super::parse::{Kind, Node};
use super::view::Ref;
use crate::numeric::Numeric;
use crate::{PgError, Result, SqlState};

/// A JSON value.
///
/// Invariant: the keys of an object are unique and in [`key_order`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number, exactly.
    Number(Numeric),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Vec<(String, Value)>),
}

/// The order in which an object keeps its keys: by length, then by bytes.
pub fn key_order(a: &str, b: &str) -> std::cmp::Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

pub(super) const NULL: u8 = 0;
pub(super) const FALSE: u8 = 1;
pub(super) const TRUE: u8 = 2;
pub(super) const NUMBER: u8 = 3;
pub(super) const STRING: u8 = 4;
pub(super) const ARRAY: u8 = 5;
pub(super) const OBJECT: u8 = 6;

impl Value {
    /// A string.
    pub fn string(text: impl Into<String>) -> Value {
        Value::String(text.into())
    }

    /// An object of pairs in any order; of pairs with the same key the last one stays.
    pub fn object(mut pairs: Vec<(String, Value)>) -> Value {
        // The sort is stable, so among equal keys the last one given stands last.
        pairs.sort_by(|a, b| key_order(&a.0, &b.0));
        let mut unique: Vec<(String, Value)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match unique.last_mut() {
                Some(last) if last.0 == pair.0 => *last = pair,
                _ => unique.push(pair),
            }
        }
        Value::Object(unique)
    }

    /// The value of a parsed text.
    pub fn from_node(node: Node, text: &str) -> Result<Value> {
        Ok(match node.kind {
            Kind::Null => Value::Null,
            Kind::Bool(b) => Value::Bool(b),
            Kind::Number => Value::Number(Numeric::parse(&text[node.span])?),
            Kind::String(s) => Value::String(s),
            Kind::Array(items) => Value::Array(
                items.into_iter().map(|i| Value::from_node(i, text)).collect::<Result<_>>()?,
            ),
            Kind::Object(pairs) => {
                let pairs = pairs.into_iter();
                Value::object(
                    pairs
                        .map(|(k, v)| Ok((k, Value::from_node(v, text)?)))
                        .collect::<Result<_>>()?,
                )
            }
        })
    }

    /// Parses a text.
    pub fn parse(text: &str) -> Result<Value> {
        Value::from_node(super::parse::parse(text, true)?, text)
    }

    /// The tree of a stored value.
    pub fn of(v: Ref<'_>) -> Value {
        match v {
            Ref::Null => Value::Null,
            Ref::Bool(b) => Value::Bool(b),
            Ref::Number(n) => Value::Number(n.get()),
            Ref::String(s) => Value::String(s.to_owned()),
            Ref::Array(a) => Value::Array(a.iter().map(Value::of).collect()),
            Ref::Object(o) => {
                Value::Object(o.iter().map(|(k, v)| (k.to_owned(), Value::of(v))).collect())
            }
        }
    }

    /// The position of a key, or where it would have to stand.
    pub(super) fn find(pairs: &[(String, Value)], key: &str) -> std::result::Result<usize, usize> {
        pairs.binary_search_by(|(k, _)| key_order(k, key))
    }

    /// True for arrays and objects.
    pub fn is_container(&self) -> bool {
        matches!(self, Value::Array(_) | Value::Object(_))
    }

    /// The binary form.
    pub fn to_bytes(&self) -> Result<Bytes> {
        let mut out = Vec::with_capacity(64);
        self.encode(&mut out)?;
        Ok(Bytes::from(out))
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Value::Null => out.push(NULL),
            Value::Bool(b) => out.push(if *b { TRUE } else { FALSE }),
            Value::Number(n) => {
                out.push(NUMBER);
                n.encode(out);
            }
            Value::String(s) => {
                if s.len() > PART_BYTES_MAX {
                    return Err(too_long("string too long to represent as jsonb string").detail(
                        "Due to an implementation restriction, jsonb strings cannot exceed \
                         268435455 bytes.",
                    ));
                }
                out.push(STRING);
                out.extend_from_slice(s.as_bytes());
            }
            Value::Array(items) => {
                out.push(ARRAY);
                let table = reserve_table(out, items.len(), items.len());
                let start = out.len();
                for (i, item) in items.iter().enumerate() {
                    item.encode(out)?;
                    set_end(out, table + 4 * i, start);
                    check_total(out.len() - start, "array")?;
                }
            }
            Value::Object(pairs) => {
                out.push(OBJECT);
                let table = reserve_table(out, pairs.len(), 2 * pairs.len());
                let start = out.len();
                for (i, (key, _)) in pairs.iter().enumerate() {
                    out.extend_from_slice(key.as_bytes());
                    set_end(out, table + 4 * i, start);
                }
                for (i, (_, value)) in pairs.iter().enumerate() {
                    value.encode(out)?;
                    set_end(out, table + 4 * (pairs.len() + i), start);
                    check_total(out.len() - start, "object")?;
                }
            }
        }
        Ok(())
    }
}

/// Longest string, and longest contents of an array or object.
const PART_BYTES_MAX: usize = 0x0fff_ffff;

fn too_long(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
}

fn check_total(bytes: usize, what: &str) -> Result<()> {
    if bytes <= PART_BYTES_MAX {
        return Ok(());
    }
    Err(too_long(format!(
        "total size of jsonb {what} elements exceeds the maximum of {PART_BYTES_MAX} bytes"
    )))
}

/// Writes a count and leaves room for so many offsets; returns where these stand.
fn reserve_table(out: &mut Vec<u8>, count: usize, offsets: usize) -> usize {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    let table = out.len();
    out.resize(table + 4 * offsets, 0);
    table
}

fn set_end(out: &mut [u8], slot: usize, start: usize) {
    let end = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[slot..slot + 4].copy_from_slice(&end.to_le_bytes());
}
