//! Reads a binary `jsonb` in place.
//!
//! A value is a tag byte and a payload. An array is `count, end offset of each element, elements`;
//! an object `count, end offset of each key, end offset of each value, keys, values`. Counts and
//! offsets are 32-bit little-endian; offsets count from the end of the table. An element is found
//! without looking at the others, a key by binary search.

use super::value::{ARRAY, FALSE, NUMBER, OBJECT, STRING, TRUE, key_order};
use crate::numeric::Numeric;

/// A value inside a binary `jsonb`.
#[derive(Clone, Copy, Debug)]
pub enum Ref<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number.
    Number(Number<'a>),
    /// A string.
    String(&'a str),
    /// An array.
    Array(Array<'a>),
    /// An object.
    Object(Object<'a>),
}

/// A stored number.
#[derive(Clone, Copy, Debug)]
pub struct Number<'a>(&'a [u8]);

impl Number<'_> {
    /// The number.
    pub fn get(self) -> Numeric {
        Numeric::decode(self.0).unwrap_or_else(|_| Numeric::from(0_i64))
    }
}

/// A stored array.
#[derive(Clone, Copy, Debug)]
pub struct Array<'a>(Table<'a>);

/// A stored object.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a>(Table<'a>);

#[derive(Clone, Copy, Debug)]
struct Table<'a> {
    count: usize,
    offsets: &'a [u8],
    data: &'a [u8],
}

impl<'a> Table<'a> {
    fn new(payload: &'a [u8], per_item: usize) -> Table<'a> {
        let count = word(payload, 0);
        let rest = payload.get(4..).unwrap_or_default();
        let (offsets, data) = rest.split_at((count * per_item * 4).min(rest.len()));
        Table { count, offsets, data }
    }

    fn slice(&self, index: usize) -> &'a [u8] {
        let start = if index == 0 { 0 } else { word(self.offsets, 4 * (index - 1)) };
        self.data.get(start..word(self.offsets, 4 * index)).unwrap_or_default()
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    let four = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    four.map_or(0, |b| u32::from_le_bytes(b) as usize)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

impl<'a> Ref<'a> {
    /// The value in these bytes.
    pub fn new(bytes: &'a [u8]) -> Ref<'a> {
        let Some((tag, payload)) = bytes.split_first() else { return Ref::Null };
        match *tag {
            FALSE => Ref::Bool(false),
            TRUE => Ref::Bool(true),
            NUMBER => Ref::Number(Number(payload)),
            STRING => Ref::String(text(payload)),
            ARRAY => Ref::Array(Array(Table::new(payload, 1))),
            OBJECT => Ref::Object(Object(Table::new(payload, 2))),
            _ => Ref::Null,
        }
    }

    /// The name that `jsonb_typeof` gives.
    pub fn type_name(self) -> &'static str {
        match self {
            Ref::Null => "null",
            Ref::Bool(_) => "boolean",
            Ref::Number(_) => "number",
            Ref::String(_) => "string",
            Ref::Array(_) => "array",
            Ref::Object(_) => "object",
        }
    }
}

impl<'a> Array<'a> {
    /// Number of elements.
    pub fn len(self) -> usize {
        self.0.count
    }

    /// True without elements.
    pub fn is_empty(self) -> bool {
        self.0.count == 0
    }

    /// An element in binary form.
    pub fn bytes(self, index: usize) -> Option<&'a [u8]> {
        (index < self.0.count).then(|| self.0.slice(index))
    }

    /// An element; negative positions count from the end.
    pub fn element(self, index: i64) -> Option<&'a [u8]> {
        let index = if index < 0 { index + self.0.count as i64 } else { index };
        self.bytes(usize::try_from(index).ok()?)
    }

    /// The elements.
    pub fn iter(self) -> impl Iterator<Item = Ref<'a>> {
        (0..self.0.count).map(move |i| Ref::new(self.0.slice(i)))
    }
}

impl<'a> Object<'a> {
    /// Number of pairs.
    pub fn len(self) -> usize {
        self.0.count
    }

    /// True without pairs.
    pub fn is_empty(self) -> bool {
        self.0.count == 0
    }

    /// A key.
    pub fn key(self, index: usize) -> &'a str {
        text(self.0.slice(index))
    }

    /// A value in binary form.
    pub fn bytes(self, index: usize) -> &'a [u8] {
        let first = self.0.count;
        let start = match index {
            // The first value starts where the last key ends.
            0 if first == 0 => 0,
            _ => word(self.0.offsets, 4 * (first + index - 1)),
        };
        self.0.data.get(start..word(self.0.offsets, 4 * (first + index))).unwrap_or_default()
    }

    /// The value of a key, in binary form.
    pub fn get(self, key: &str) -> Option<&'a [u8]> {
        let (mut low, mut high) = (0, self.0.count);
        while low < high {
            let middle = (low + high) / 2;
            match key_order(self.key(middle), key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(self.bytes(middle)),
            }
        }
        None
    }

    /// The pairs in the order of their keys.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Ref<'a>)> {
        (0..self.0.count).map(move |i| (self.key(i), Ref::new(self.bytes(i))))
    }
}
