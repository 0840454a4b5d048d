//! Stored form of the values that have no fixed width.
//!
//! Character types, `bytea` and `jsonb` are their own bytes. Everything else of variable width
//! (arrays, records) is written with a tag before each value, so that it can be read back without
//! knowing the type.

use std::sync::Arc;

use bytes::Bytes;
use meridian_types::datum::{ArrayValue, Datum, Interval};
use meridian_types::{PgError, Result};

const NULL: u8 = 0;
const BOOL: u8 = 1;
const INT2: u8 = 2;
const INT4: u8 = 3;
const INT8: u8 = 4;
const FLOAT4: u8 = 5;
const FLOAT8: u8 = 6;
const NUMERIC: u8 = 7;
const TEXT: u8 = 8;
const BYTEA: u8 = 9;
const DATE: u8 = 10;
const TIME: u8 = 11;
const TIMETZ: u8 = 12;
const TIMESTAMP: u8 = 13;
const TIMESTAMPTZ: u8 = 14;
const INTERVAL: u8 = 15;
const UUID: u8 = 16;
const JSONB: u8 = 17;
const OID: u8 = 18;
const ARRAY: u8 = 19;
const RECORD: u8 = 20;

fn push_len(out: &mut Vec<u8>, len: usize) -> Result<()> {
    let len = u32::try_from(len).map_err(|_| PgError::internal("value above 4 GiB"))?;
    out.extend_from_slice(&len.to_le_bytes());
    Ok(())
}

fn push_tagged_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) -> Result<()> {
    out.push(tag);
    push_len(out, bytes.len())?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// Appends a value with its tag.
pub fn push_tagged(out: &mut Vec<u8>, value: &Datum) -> Result<()> {
    macro_rules! word {
        ($tag:expr, $v:expr) => {{
            out.push($tag);
            out.extend_from_slice(&$v.to_le_bytes());
        }};
    }
    match value {
        Datum::Null => out.push(NULL),
        Datum::Bool(v) => out.extend_from_slice(&[BOOL, u8::from(*v)]),
        Datum::Int2(v) => word!(INT2, v),
        Datum::Int4(v) => word!(INT4, v),
        Datum::Int8(v) => word!(INT8, v),
        Datum::Float4(v) => word!(FLOAT4, v),
        Datum::Float8(v) => word!(FLOAT8, v),
        Datum::Date(v) => word!(DATE, v),
        Datum::Time(v) => word!(TIME, v),
        Datum::Timestamp(v) => word!(TIMESTAMP, v),
        Datum::TimestampTz(v) => word!(TIMESTAMPTZ, v),
        Datum::Oid(v) => word!(OID, v),
        Datum::TimeTz(v, west) => {
            word!(TIMETZ, v);
            out.extend_from_slice(&west.to_le_bytes());
        }
        Datum::Interval(v) => {
            out.push(INTERVAL);
            out.extend_from_slice(&interval_bytes(v));
        }
        Datum::Uuid(v) => {
            out.push(UUID);
            out.extend_from_slice(v);
        }
        Datum::Text(v) => push_tagged_bytes(out, TEXT, v.as_bytes())?,
        Datum::Bytea(v) => push_tagged_bytes(out, BYTEA, v)?,
        Datum::Jsonb(v) => push_tagged_bytes(out, JSONB, v)?,
        Datum::Numeric(v) => push_tagged_bytes(out, NUMERIC, &crate::number::to_bytes(v))?,
        Datum::Array(v) => push_array(out, v)?,
        Datum::Record(fields) => {
            out.push(RECORD);
            push_len(out, fields.len())?;
            fields.iter().try_for_each(|f| push_tagged(out, f))?;
        }
    }
    Ok(())
}

fn push_array(out: &mut Vec<u8>, array: &ArrayValue) -> Result<()> {
    out.push(ARRAY);
    out.extend_from_slice(&array.element_type.to_le_bytes());
    push_len(out, array.dims.len())?;
    for (len, lower) in array.dims.iter().zip(&array.lower_bounds) {
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&lower.to_le_bytes());
    }
    push_len(out, array.elements.len())?;
    array.elements.iter().try_for_each(|e| push_tagged(out, e))
}

/// The sixteen bytes of an interval.
pub(crate) fn interval_bytes(v: &Interval) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&v.micros.to_le_bytes());
    out[8..12].copy_from_slice(&v.days.to_le_bytes());
    out[12..].copy_from_slice(&v.months.to_le_bytes());
    out
}

struct Reader<'a>(&'a [u8]);

fn corrupt() -> PgError {
    PgError::internal("a stored value is cut short")
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(corrupt)?;
        self.0 = rest;
        Ok(*head)
    }

    fn len(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.take()?) as usize)
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.len()?;
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(corrupt)?;
        self.0 = rest;
        Ok(head)
    }

    fn datum(&mut self) -> Result<Datum> {
        let [tag] = self.take()?;
        Ok(match tag {
            NULL => Datum::Null,
            BOOL => Datum::Bool(self.take::<1>()?[0] != 0),
            INT2 => Datum::Int2(i16::from_le_bytes(self.take()?)),
            INT4 => Datum::Int4(i32::from_le_bytes(self.take()?)),
            INT8 => Datum::Int8(i64::from_le_bytes(self.take()?)),
            FLOAT4 => Datum::Float4(f32::from_le_bytes(self.take()?)),
            FLOAT8 => Datum::Float8(f64::from_le_bytes(self.take()?)),
            DATE => Datum::Date(i32::from_le_bytes(self.take()?)),
            TIME => Datum::Time(i64::from_le_bytes(self.take()?)),
            TIMETZ => {
                Datum::TimeTz(i64::from_le_bytes(self.take()?), i32::from_le_bytes(self.take()?))
            }
            TIMESTAMP => Datum::Timestamp(i64::from_le_bytes(self.take()?)),
            TIMESTAMPTZ => Datum::TimestampTz(i64::from_le_bytes(self.take()?)),
            OID => Datum::Oid(u32::from_le_bytes(self.take()?)),
            INTERVAL => Datum::Interval(interval(&self.take()?)),
            UUID => Datum::Uuid(self.take()?),
            TEXT => Datum::text(std::str::from_utf8(self.bytes()?).map_err(|_| corrupt())?),
            BYTEA => Datum::Bytea(Bytes::copy_from_slice(self.bytes()?)),
            JSONB => Datum::Jsonb(Bytes::copy_from_slice(self.bytes()?)),
            NUMERIC => Datum::Numeric(crate::number::from_bytes(self.bytes()?)?),
            ARRAY => self.array()?,
            RECORD => {
                let n = self.len()?;
                let fields: Result<Vec<Datum>> = (0..n).map(|_| self.datum()).collect();
                Datum::Record(fields?.into())
            }
            _ => return Err(corrupt()),
        })
    }

    fn array(&mut self) -> Result<Datum> {
        let element_type = u32::from_le_bytes(self.take()?);
        let ndims = self.len()?;
        let mut dims = Vec::with_capacity(ndims.min(6));
        let mut lower_bounds = Vec::with_capacity(ndims.min(6));
        for _ in 0..ndims {
            dims.push(i32::from_le_bytes(self.take()?));
            lower_bounds.push(i32::from_le_bytes(self.take()?));
        }
        let n = self.len()?;
        let elements: Result<Vec<Datum>> = (0..n).map(|_| self.datum()).collect();
        let elements = elements?;
        Ok(Datum::Array(Arc::new(ArrayValue { element_type, dims, lower_bounds, elements })))
    }
}

/// An interval from its sixteen bytes.
pub(crate) fn interval(bytes: &[u8; 16]) -> Interval {
    let part = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let mut micros = [0; 8];
    micros.copy_from_slice(&bytes[..8]);
    Interval {
        micros: i64::from_le_bytes(micros),
        days: i32::from_le_bytes(part(8)),
        months: i32::from_le_bytes(part(12)),
    }
}

/// Reads a value written by [`push_tagged`].
pub fn read_tagged(bytes: &[u8]) -> Result<Datum> {
    Reader(bytes).datum()
}
