//! Our own compact bytes of a value: what batches and rows keep of types that have no fixed width.
//!
//! [`encode`] writes a tag before the payload, so the bytes describe themselves; [`encode_bare`]
//! leaves it out for the types of which a column knows all there is to know. Either reads back to
//! exactly the same value, NULL included.

use std::sync::Arc;

use crate::numeric::Numeric;
use crate::oid::{self, Oid};
use crate::{ArrayValue, Datum, Interval, PgError, Result, SqlState};

fn corrupted() -> PgError {
    PgError::new(SqlState::DATA_CORRUPTED, "stored value is malformed")
}

mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const BOOL: u8 = 1;
    pub(super) const INT2: u8 = 2;
    pub(super) const INT4: u8 = 3;
    pub(super) const INT8: u8 = 4;
    pub(super) const FLOAT4: u8 = 5;
    pub(super) const FLOAT8: u8 = 6;
    pub(super) const NUMERIC: u8 = 7;
    pub(super) const TEXT: u8 = 8;
    pub(super) const BYTEA: u8 = 9;
    pub(super) const DATE: u8 = 10;
    pub(super) const TIME: u8 = 11;
    pub(super) const TIMETZ: u8 = 12;
    pub(super) const TIMESTAMP: u8 = 13;
    pub(super) const TIMESTAMPTZ: u8 = 14;
    pub(super) const INTERVAL: u8 = 15;
    pub(super) const UUID: u8 = 16;
    pub(super) const JSONB: u8 = 17;
    pub(super) const OID: u8 = 18;
    pub(super) const ARRAY: u8 = 19;
    pub(super) const RECORD: u8 = 20;
}

fn tag_of(value: &Datum) -> u8 {
    match value {
        Datum::Null => tag::NULL,
        Datum::Bool(_) => tag::BOOL,
        Datum::Int2(_) => tag::INT2,
        Datum::Int4(_) => tag::INT4,
        Datum::Int8(_) => tag::INT8,
        Datum::Float4(_) => tag::FLOAT4,
        Datum::Float8(_) => tag::FLOAT8,
        Datum::Numeric(_) => tag::NUMERIC,
        Datum::Text(_) => tag::TEXT,
        Datum::Bytea(_) => tag::BYTEA,
        Datum::Date(_) => tag::DATE,
        Datum::Time(_) => tag::TIME,
        Datum::TimeTz(..) => tag::TIMETZ,
        Datum::Timestamp(_) => tag::TIMESTAMP,
        Datum::TimestampTz(_) => tag::TIMESTAMPTZ,
        Datum::Interval(_) => tag::INTERVAL,
        Datum::Uuid(_) => tag::UUID,
        Datum::Jsonb(_) => tag::JSONB,
        Datum::Oid(_) => tag::OID,
        Datum::Array(_) => tag::ARRAY,
        Datum::Record(_) => tag::RECORD,
    }
}

fn tag_of_type(type_oid: Oid) -> u8 {
    match type_oid {
        oid::BOOL => tag::BOOL,
        oid::INT2 => tag::INT2,
        oid::INT4 => tag::INT4,
        oid::INT8 | oid::MONEY | oid::XID8 | oid::PG_LSN => tag::INT8,
        oid::FLOAT4 => tag::FLOAT4,
        oid::FLOAT8 => tag::FLOAT8,
        oid::NUMERIC => tag::NUMERIC,
        oid::BYTEA => tag::BYTEA,
        oid::DATE => tag::DATE,
        oid::TIME => tag::TIME,
        oid::TIMETZ => tag::TIMETZ,
        oid::TIMESTAMP => tag::TIMESTAMP,
        oid::TIMESTAMPTZ => tag::TIMESTAMPTZ,
        oid::INTERVAL => tag::INTERVAL,
        oid::UUID => tag::UUID,
        oid::JSONB => tag::JSONB,
        oid::OID | oid::XID | oid::CID => tag::OID,
        oid::RECORD => tag::RECORD,
        _ if super::is_reg_type(type_oid) => tag::OID,
        _ if crate::builtin::array_element(type_oid).is_some() => tag::ARRAY,
        _ if crate::shape::is_row_type(type_oid) => tag::RECORD,
        _ => tag::TEXT,
    }
}

/// Appends tag and payload.
pub fn encode(value: &Datum, out: &mut Vec<u8>) {
    out.push(tag_of(value));
    encode_bare(value, out);
}

/// Appends the payload alone; [`decode_bare`] needs the type.
pub fn encode_bare(value: &Datum, out: &mut Vec<u8>) {
    match value {
        Datum::Null => {}
        Datum::Bool(v) => out.push(u8::from(*v)),
        Datum::Int2(v) => out.extend_from_slice(&v.to_le_bytes()),
        Datum::Int4(v) | Datum::Date(v) => out.extend_from_slice(&v.to_le_bytes()),
        Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => {
            out.extend_from_slice(&v.to_le_bytes());
        }
        Datum::Float4(v) => out.extend_from_slice(&v.to_le_bytes()),
        Datum::Float8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Datum::Numeric(v) => v.encode(out),
        Datum::Text(v) => out.extend_from_slice(v.as_bytes()),
        Datum::Bytea(v) | Datum::Jsonb(v) => out.extend_from_slice(v),
        Datum::TimeTz(v, west) => {
            out.extend_from_slice(&v.to_le_bytes());
            out.extend_from_slice(&west.to_le_bytes());
        }
        Datum::Interval(v) => {
            out.extend_from_slice(&v.months.to_le_bytes());
            out.extend_from_slice(&v.days.to_le_bytes());
            out.extend_from_slice(&v.micros.to_le_bytes());
        }
        Datum::Uuid(v) => out.extend_from_slice(v),
        Datum::Oid(v) => out.extend_from_slice(&v.to_le_bytes()),
        Datum::Array(a) => {
            out.extend_from_slice(&a.element_type.to_le_bytes());
            out.push(u8::try_from(a.dims.len()).unwrap_or(0));
            for (len, low) in a.dims.iter().zip(&a.lower_bounds) {
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(&low.to_le_bytes());
            }
            a.elements.iter().for_each(|e| encode_part(e, out));
        }
        Datum::Record(fields) => fields.iter().for_each(|f| encode_part(f, out)),
    }
}

fn encode_part(value: &Datum, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    encode(value, out);
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// Reads what [`encode`] wrote.
pub fn decode(bytes: &[u8]) -> Result<Datum> {
    let (&tag, payload) = bytes.split_first().ok_or_else(corrupted)?;
    decode_tagged(tag, payload)
}

/// Reads what [`encode_bare`] wrote for a value of this type that is not NULL.
pub fn decode_bare(type_oid: Oid, payload: &[u8]) -> Result<Datum> {
    decode_tagged(tag_of_type(type_oid), payload)
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| corrupted())
}

fn decode_tagged(tag: u8, b: &[u8]) -> Result<Datum> {
    Ok(match tag {
        tag::NULL => Datum::Null,
        tag::BOOL => Datum::Bool(fixed::<1>(b)?[0] != 0),
        tag::INT2 => Datum::Int2(i16::from_le_bytes(fixed(b)?)),
        tag::INT4 => Datum::Int4(i32::from_le_bytes(fixed(b)?)),
        tag::INT8 => Datum::Int8(i64::from_le_bytes(fixed(b)?)),
        tag::FLOAT4 => Datum::Float4(f32::from_le_bytes(fixed(b)?)),
        tag::FLOAT8 => Datum::Float8(f64::from_le_bytes(fixed(b)?)),
        tag::NUMERIC => Datum::Numeric(Numeric::decode(b)?),
        tag::TEXT => Datum::text(std::str::from_utf8(b).map_err(|_| corrupted())?),
        tag::BYTEA => Datum::Bytea(bytes::Bytes::copy_from_slice(b)),
        tag::JSONB => Datum::Jsonb(bytes::Bytes::copy_from_slice(b)),
        tag::DATE => Datum::Date(i32::from_le_bytes(fixed(b)?)),
        tag::TIME => Datum::Time(i64::from_le_bytes(fixed(b)?)),
        tag::TIMESTAMP => Datum::Timestamp(i64::from_le_bytes(fixed(b)?)),
        tag::TIMESTAMPTZ => Datum::TimestampTz(i64::from_le_bytes(fixed(b)?)),
        tag::TIMETZ => {
            let (time, west) = b.split_first_chunk::<8>().ok_or_else(corrupted)?;
            Datum::TimeTz(i64::from_le_bytes(*time), i32::from_le_bytes(fixed(west)?))
        }
        tag::INTERVAL => {
            let (months, rest) = b.split_first_chunk::<4>().ok_or_else(corrupted)?;
            let (days, micros) = rest.split_first_chunk::<4>().ok_or_else(corrupted)?;
            Datum::Interval(Interval {
                months: i32::from_le_bytes(*months),
                days: i32::from_le_bytes(*days),
                micros: i64::from_le_bytes(fixed(micros)?),
            })
        }
        tag::UUID => Datum::Uuid(fixed(b)?),
        tag::OID => Datum::Oid(u32::from_le_bytes(fixed(b)?)),
        tag::ARRAY => decode_array(b)?,
        tag::RECORD => Datum::Record(decode_parts(b)?.into()),
        _ => return Err(corrupted()),
    })
}

fn decode_array(b: &[u8]) -> Result<Datum> {
    let (element, rest) = b.split_first_chunk::<4>().ok_or_else(corrupted)?;
    let (&n, mut rest) = rest.split_first().ok_or_else(corrupted)?;
    let (mut dims, mut lower_bounds) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(corrupted)?;
        let (low, tail) = tail.split_first_chunk::<4>().ok_or_else(corrupted)?;
        dims.push(i32::from_le_bytes(*len));
        lower_bounds.push(i32::from_le_bytes(*low));
        rest = tail;
    }
    Ok(Datum::Array(Arc::new(ArrayValue {
        element_type: u32::from_le_bytes(*element),
        dims,
        lower_bounds,
        elements: decode_parts(rest)?,
    })))
}

fn decode_parts(mut b: &[u8]) -> Result<Vec<Datum>> {
    let mut parts = Vec::new();
    while !b.is_empty() {
        let (len, rest) = b.split_first_chunk::<4>().ok_or_else(corrupted)?;
        let len = u32::from_le_bytes(*len) as usize;
        let (part, rest) = rest.split_at_checked(len).ok_or_else(corrupted)?;
        parts.push(decode(part)?);
        b = rest;
    }
    Ok(parts)
}
