//! Sort keys of the types whose order isn't that of a machine word or of bytes.

use meridian_types::datum::{ArrayValue, Datum};
use meridian_types::{PgError, Result, SqlState};

use crate::key::{KeyKind, push_bytes, push_value};

/// Appends bytes that compare as the value does in its btree order.
pub(crate) fn push(out: &mut Vec<u8>, value: &Datum) -> Result<()> {
    match value {
        Datum::Interval(v) => {
            let days = i128::from(v.months) * 30 + i128::from(v.days);
            let micros = days * 86_400_000_000 + i128::from(v.micros);
            let ordered = micros.cast_unsigned() ^ (1 << 127);
            out.extend_from_slice(&ordered.to_be_bytes());
            Ok(())
        }
        Datum::TimeTz(micros, west) => {
            let utc = micros + i64::from(*west) * 1_000_000;
            crate::key::push_i64(out, utc);
            crate::key::push_i32(out, *west);
            Ok(())
        }
        Datum::Array(array) => push_array(out, array),
        Datum::Record(fields) => fields.iter().try_for_each(|f| push_element(out, f)),
        Datum::Bool(_) => push_value(out, KeyKind::Bool, value),
        Datum::Int2(_) => push_value(out, KeyKind::I16, value),
        Datum::Int4(_) | Datum::Date(_) => push_value(out, KeyKind::I32, value),
        Datum::Int8(_) | Datum::Time(_) | Datum::Timestamp(_) | Datum::TimestampTz(_) => {
            push_value(out, KeyKind::I64, value)
        }
        Datum::Oid(_) => push_value(out, KeyKind::U32, value),
        Datum::Float4(_) => push_value(out, KeyKind::F32, value),
        Datum::Float8(_) => push_value(out, KeyKind::F64, value),
        Datum::Text(s) => {
            push_bytes(out, s.as_bytes());
            Ok(())
        }
        Datum::Bytea(b) => {
            push_bytes(out, b);
            Ok(())
        }
        Datum::Uuid(_) => push_value(out, KeyKind::Uuid, value),
        Datum::Numeric(v) => {
            v.write_key(out);
            Ok(())
        }
        Datum::Jsonb(_) | Datum::Null => Err(PgError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "an index on a column of this type is not supported yet",
        )),
    }
}

fn push_array(out: &mut Vec<u8>, array: &ArrayValue) -> Result<()> {
    for element in &array.elements {
        push_element(out, element)?;
    }
    out.push(1);
    out.push(u8::try_from(array.dims.len()).unwrap_or(u8::MAX));
    for (len, lower) in array.dims.iter().zip(&array.lower_bounds) {
        crate::key::push_i32(out, *len);
        crate::key::push_i32(out, *lower);
    }
    Ok(())
}

fn push_element(out: &mut Vec<u8>, element: &Datum) -> Result<()> {
    if element.is_null() {
        out.push(3);
        return Ok(());
    }
    out.push(2);
    push(out, element)
}
