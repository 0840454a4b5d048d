//! PostgreSQL's binary formats.

use std::sync::Arc;

use super::is_reg_type;
use crate::builtin::{array_element, array_of, format_type};
use crate::numeric::Numeric;
use crate::oid::{self, Oid};
use crate::{ArrayValue, Datum, EvalContext, PgError, PgType, Result, SqlState, datetime};

fn insufficient() -> PgError {
    PgError::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message")
}

fn bad_binary(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::INVALID_BINARY_REPRESENTATION, message)
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    if bytes.len() > N {
        return Err(bad_binary("incorrect binary data format"));
    }
    bytes.try_into().map_err(|_| insufficient())
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        let bad: Vec<String> = bytes[at..]
            .iter()
            .take(4)
            .map(|b| format!("0x{b:02x}"))
            .take(e.error_len().unwrap_or(1))
            .collect();
        PgError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            format!("invalid byte sequence for encoding \"UTF8\": {}", bad.join(" ")),
        )
    })?;
    if text.contains('\0') {
        return Err(PgError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    Ok(text)
}

/// Reads a value from its wire format.
pub fn binary_recv(type_oid: Oid, typmod: i32, bytes: &[u8], ctx: &EvalContext) -> Result<Datum> {
    Ok(match type_oid {
        oid::BOOL => Datum::Bool(exact::<1>(bytes)?[0] != 0),
        oid::INT2 => Datum::Int2(i16::from_be_bytes(exact(bytes)?)),
        oid::INT4 => Datum::Int4(i32::from_be_bytes(exact(bytes)?)),
        oid::INT8 | oid::MONEY | oid::XID8 | oid::PG_LSN => {
            Datum::Int8(i64::from_be_bytes(exact(bytes)?))
        }
        oid::FLOAT4 => Datum::Float4(f32::from_be_bytes(exact(bytes)?)),
        oid::FLOAT8 => Datum::Float8(f64::from_be_bytes(exact(bytes)?)),
        oid::NUMERIC => Datum::Numeric(Numeric::read_wire(bytes)?.apply_typmod(typmod)?),
        oid::BYTEA => Datum::Bytea(bytes::Bytes::copy_from_slice(bytes)),
        oid::UUID => Datum::Uuid(exact(bytes)?),
        oid::DATE => Datum::Date(datetime::binary::date_recv(bytes)?),
        oid::TIME => Datum::Time(datetime::binary::time_recv(bytes, typmod)?),
        oid::TIMETZ => {
            let (time, west) = datetime::binary::timetz_recv(bytes, typmod)?;
            Datum::TimeTz(time, west)
        }
        oid::TIMESTAMP => Datum::Timestamp(datetime::binary::timestamp_recv(bytes, typmod)?),
        oid::TIMESTAMPTZ => Datum::TimestampTz(datetime::binary::timestamp_recv(bytes, typmod)?),
        oid::INTERVAL => Datum::Interval(datetime::binary::interval_recv(bytes, typmod)?),
        oid::OID | oid::XID | oid::CID => Datum::Oid(u32::from_be_bytes(exact(bytes)?)),
        oid::JSONB => match bytes.split_first() {
            Some((1, text)) => super::text_in(oid::JSONB, -1, utf8(text)?, ctx)?,
            Some((version, _)) => {
                return Err(PgError::internal(format!(
                    "unsupported jsonb version number {version}"
                )));
            }
            None => return Err(insufficient()),
        },
        oid::RECORD => record_recv(bytes, ctx)?,
        _ if is_reg_type(type_oid) => Datum::Oid(u32::from_be_bytes(exact(bytes)?)),
        _ => match array_element(type_oid) {
            Some(element) => array_recv(type_oid, element, typmod, bytes, ctx)?,
            None => super::text_in(type_oid, typmod, utf8(bytes)?, ctx)?,
        },
    })
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn i32(&mut self) -> Result<i32> {
        let (head, rest) = self.0.split_first_chunk::<4>().ok_or_else(insufficient)?;
        self.0 = rest;
        Ok(i32::from_be_bytes(*head))
    }

    fn field(&mut self) -> Result<Option<&'a [u8]>> {
        let Ok(len) = usize::try_from(self.i32()?) else { return Ok(None) };
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(insufficient)?;
        self.0 = rest;
        Ok(Some(head))
    }
}

fn array_recv(
    type_oid: Oid,
    element: Oid,
    typmod: i32,
    bytes: &[u8],
    ctx: &EvalContext,
) -> Result<Datum> {
    let mut cursor = Cursor(bytes);
    let n = cursor.i32()?;
    let flags = cursor.i32()?;
    let sent = cursor.i32()?.cast_unsigned();
    let n =
        usize::try_from(n).map_err(|_| bad_binary(format!("invalid number of dimensions: {n}")))?;
    if n > super::array::MAX_DIMENSIONS {
        return Err(super::array::too_many_dimensions(n));
    }
    if flags != 0 && flags != 1 {
        return Err(bad_binary("invalid array flags"));
    }
    if sent != element {
        return Err(PgError::new(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "binary data has array element type {sent} ({}) instead of expected {element} ({})",
                format_type(sent, -1),
                format_type(element, -1)
            ),
        ));
    }
    let (mut dims, mut lower_bounds, mut count) = (Vec::new(), Vec::new(), 1usize);
    for _ in 0..n {
        let len = cursor.i32()?;
        count = usize::try_from(len)
            .ok()
            .and_then(|len| count.checked_mul(len))
            .ok_or_else(|| bad_binary("invalid array size"))?;
        dims.push(len);
        lower_bounds.push(cursor.i32()?);
    }
    if n == 0 || count == 0 {
        let mut empty = ArrayValue::from_elements(element, vec![]);
        if matches!(type_oid, oid::INT2VECTOR | oid::OIDVECTOR) {
            (empty.dims, empty.lower_bounds) = (vec![0], vec![0]);
        }
        return Ok(Datum::Array(Arc::new(empty)));
    }
    let mut elements = Vec::with_capacity(count.min(bytes.len()));
    for _ in 0..count {
        elements.push(match cursor.field()? {
            Some(field) => binary_recv(element, typmod, field, ctx)?,
            None => Datum::Null,
        });
    }
    Ok(Datum::Array(Arc::new(ArrayValue { element_type: element, dims, lower_bounds, elements })))
}

fn record_recv(bytes: &[u8], ctx: &EvalContext) -> Result<Datum> {
    let mut cursor = Cursor(bytes);
    let n = cursor.i32()?;
    let mut fields = Vec::new();
    for _ in 0..n {
        let type_oid = cursor.i32()?.cast_unsigned();
        fields.push(match cursor.field()? {
            Some(field) => binary_recv(type_oid, -1, field, ctx)?,
            None => Datum::Null,
        });
    }
    Ok(Datum::Record(fields.into()))
}

/// Appends the wire format of a value (without its length); NULL appends nothing.
pub fn binary_send(value: &Datum, ty: PgType, ctx: &EvalContext, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Datum::Null => {}
        Datum::Bool(v) => out.push(u8::from(*v)),
        Datum::Int2(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Int4(v) | Datum::Date(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => {
            out.extend_from_slice(&v.to_be_bytes());
        }
        Datum::Float4(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Float8(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Numeric(v) => v.write_wire(out),
        Datum::Text(v) => out.extend_from_slice(v.as_bytes()),
        Datum::Bytea(v) => out.extend_from_slice(v),
        Datum::TimeTz(v, west) => datetime::binary::timetz_send(out, *v, *west),
        Datum::Interval(v) => datetime::binary::interval_send(out, *v),
        Datum::Uuid(v) => out.extend_from_slice(v),
        Datum::Jsonb(_) => {
            out.push(1);
            super::text_out(value, ty, ctx, out)?;
        }
        Datum::Oid(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Array(array) => array_send(array, ctx, out)?,
        Datum::Record(fields) => {
            let count = i32::try_from(fields.len()).unwrap_or(i32::MAX);
            out.extend_from_slice(&count.to_be_bytes());
            let shape = crate::shape::of(ty);
            for (i, field) in fields.iter().enumerate() {
                let ty = super::record::field_type(shape.as_deref(), i, field);
                out.extend_from_slice(&ty.oid.to_be_bytes());
                send_field(field, ty, ctx, out)?;
            }
        }
    }
    Ok(())
}

fn array_send(array: &ArrayValue, ctx: &EvalContext, out: &mut Vec<u8>) -> Result<()> {
    let n = i32::try_from(array.dims.len()).unwrap_or(0);
    let nulls = array.elements.iter().any(Datum::is_null);
    out.extend_from_slice(&n.to_be_bytes());
    out.extend_from_slice(&i32::from(nulls).to_be_bytes());
    out.extend_from_slice(&array.element_type.to_be_bytes());
    for (len, low) in array.dims.iter().zip(&array.lower_bounds) {
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&low.to_be_bytes());
    }
    let ty = PgType::new(array.element_type);
    debug_assert!(array_of(ty.oid).is_some() || ty.oid >= 12_000, "element types have arrays");
    array.elements.iter().try_for_each(|e| send_field(e, ty, ctx, out))
}

/// Appends a length and the value behind it; −1 for NULL.
fn send_field(value: &Datum, ty: PgType, ctx: &EvalContext, out: &mut Vec<u8>) -> Result<()> {
    if value.is_null() {
        out.extend_from_slice(&(-1i32).to_be_bytes());
        return Ok(());
    }
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    binary_send(value, ty, ctx, out)?;
    let len = i32::try_from(out.len() - start - 4)
        .map_err(|_| PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "value is too long"))?;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    Ok(())
}
