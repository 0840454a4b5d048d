//! One SQL value outside a column batch.

use std::sync::Arc;

use bytes::Bytes;

use crate::oid::Oid;

/// A value. The variant follows the type's representation, not its name: `text`, `varchar`,
/// `bpchar`, `name`, `json`, `"char"`, `xml` and `unknown` are all [`Datum::Text`]; `oid`, `xid`,
/// `cid` and the `reg*` types are all [`Datum::Oid`].
///
/// `PartialEq` compares representations (for tests and caches); SQL equality is a kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// SQL NULL of any type.
    Null,
    /// `bool`
    Bool(bool),
    /// `int2`
    Int2(i16),
    /// `int4`
    Int4(i32),
    /// `int8`, `xid8`, `money` (cents), `pg_lsn`
    Int8(i64),
    /// `float4`
    Float4(f32),
    /// `float8`
    Float8(f64),
    /// `numeric`
    Numeric(crate::numeric::Numeric),
    /// Any character type.
    Text(Arc<str>),
    /// `bytea`
    Bytea(Bytes),
    /// `date`: days since 2000-01-01; `i32::MIN`/`MAX` are ∓infinity.
    Date(i32),
    /// `time`: microseconds since midnight, 24:00 allowed.
    Time(i64),
    /// `timetz`: microseconds since midnight local, and the zone's seconds *west* of UTC.
    TimeTz(i64, i32),
    /// `timestamp`: microseconds since 2000-01-01 00:00; `i64::MIN`/`MAX` are ∓infinity.
    Timestamp(i64),
    /// `timestamptz`: microseconds since 2000-01-01 00:00 UTC; `i64::MIN`/`MAX` are ∓infinity.
    TimestampTz(i64),
    /// `interval`
    Interval(Interval),
    /// `uuid`
    Uuid([u8; 16]),
    /// `jsonb` in our binary form (see [`crate::jsonb`]).
    Jsonb(Bytes),
    /// `oid` and its aliases.
    Oid(Oid),
    /// Any array type, `int2vector` and `oidvector` included.
    Array(Arc<ArrayValue>),
    /// A row value: the fields in order.
    Record(Arc<[Datum]>),
}

/// PostgreSQL's interval: three fields that are never carried into each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Interval {
    /// Months, years included.
    pub months: i32,
    /// Days, weeks included.
    pub days: i32,
    /// Microseconds of the time part.
    pub micros: i64,
}

/// An array of any number of dimensions.
///
/// Invariants: `dims` and `lower_bounds` have the same length (0 for the empty array, at most 6);
/// the product of `dims` is the number of elements, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrayValue {
    /// Element type.
    pub element_type: Oid,
    /// Length of each dimension.
    pub dims: Vec<i32>,
    /// First subscript of each dimension, usually 1.
    pub lower_bounds: Vec<i32>,
    /// The elements, row-major.
    pub elements: Vec<Datum>,
}

impl ArrayValue {
    /// A one-dimensional array with lower bound 1 (no dimension when empty).
    pub fn from_elements(element_type: Oid, elements: Vec<Datum>) -> ArrayValue {
        let (dims, lower_bounds) = match elements.len() {
            0 => (vec![], vec![]),
            n => (vec![i32::try_from(n).unwrap_or(i32::MAX)], vec![1]),
        };
        ArrayValue { element_type, dims, lower_bounds, elements }
    }
}

impl Datum {
    /// True for [`Datum::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// A character value.
    pub fn text(s: impl AsRef<str>) -> Datum {
        Datum::Text(Arc::from(s.as_ref()))
    }

    /// A boolean, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Datum::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The characters, if this is a character value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Datum::Text(s) => Some(s),
            _ => None,
        }
    }

    /// The value of any integer or oid variant.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Datum::Int2(v) => Some(i64::from(*v)),
            Datum::Int4(v) => Some(i64::from(*v)),
            Datum::Int8(v) => Some(*v),
            Datum::Oid(v) => Some(i64::from(*v)),
            _ => None,
        }
    }
}
