//! The order of values: comparing two of them, and keys that `memcmp` compares the same way.
//!
//! Both follow the default btree operator class of PostgreSQL. Text is in byte order (the `C`
//! collation). The keys are payloads without a NULL tag: the writer of an index key or a sort
//! column puts tag and direction around them (see [`meridian_base::encoding`]).
//!
//! A key says no more than equality does: `1.0` and `1.00`, `-0.0` and `0.0`, `'a'::bpchar` with
//! and without blanks, `1 month` and `30 days` have one key each. Only types for which nothing is
//! lost that way can be read back: [`is_reversible`].

use std::cmp::Ordering;

use meridian_base::encoding::{self, Reader};

use crate::builtin::format_type;
use crate::numeric::Numeric;
use crate::oid::{self, Oid};
use crate::{ArrayValue, Datum, PgError, PgType, Result, SqlState, datetime};

const ELEMENT_END: u8 = 0x01;
const MICROS: i64 = 1_000_000;

fn unordered(type_oid: Oid) -> PgError {
    PgError::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("could not identify an ordering operator for type {}", format_type(type_oid, -1)),
    )
}

/// PostgreSQL's order of doubles: NaN equals NaN and is greater than everything.
pub fn compare_f64(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Trailing blanks do not count in `bpchar`.
pub(crate) fn bpchar_body(s: &str) -> &str {
    s.trim_end_matches(' ')
}

/// Compares two values of one type that are not NULL; NULLs sort last, equal to each other.
pub fn compare(type_oid: Oid, a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::Null, _) | (_, Datum::Null) => a.is_null().cmp(&b.is_null()),
        (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
        (Datum::Int4(a), Datum::Int4(b)) | (Datum::Date(a), Datum::Date(b)) => a.cmp(b),
        (Datum::Int8(a), Datum::Int8(b)) if matches!(type_oid, oid::XID8 | oid::PG_LSN) => {
            a.cast_unsigned().cmp(&b.cast_unsigned())
        }
        (Datum::Int8(a), Datum::Int8(b))
        | (Datum::Time(a), Datum::Time(b))
        | (Datum::Timestamp(a), Datum::Timestamp(b))
        | (Datum::TimestampTz(a), Datum::TimestampTz(b)) => a.cmp(b),
        (Datum::Int2(a), Datum::Int2(b)) => a.cmp(b),
        (Datum::Oid(a), Datum::Oid(b)) => a.cmp(b),
        (Datum::Float8(a), Datum::Float8(b)) => compare_f64(*a, *b),
        (Datum::Float4(a), Datum::Float4(b)) => compare_f64(f64::from(*a), f64::from(*b)),
        (Datum::Numeric(a), Datum::Numeric(b)) => a.compare(b),
        (Datum::Text(a), Datum::Text(b)) if type_oid == oid::BPCHAR => {
            bpchar_body(a).cmp(bpchar_body(b))
        }
        (Datum::Text(a), Datum::Text(b)) => a.cmp(b),
        (Datum::Bytea(a), Datum::Bytea(b)) => a.cmp(b),
        (Datum::Uuid(a), Datum::Uuid(b)) => a.cmp(b),
        (Datum::TimeTz(a, za), Datum::TimeTz(b, zb)) => {
            let utc = |t: i64, west: i32| t + i64::from(west) * MICROS;
            utc(*a, *za).cmp(&utc(*b, *zb)).then(za.cmp(zb))
        }
        (Datum::Interval(a), Datum::Interval(b)) => datetime::arith::interval_cmp(*a, *b),
        (Datum::Jsonb(a), Datum::Jsonb(b)) => {
            crate::jsonb::compare(crate::jsonb::Ref::new(a), crate::jsonb::Ref::new(b))
        }
        (Datum::Array(a), Datum::Array(b)) => compare_arrays(a, b),
        (Datum::Record(a), Datum::Record(b)) => a
            .iter()
            .zip(b.iter())
            .map(|(a, b)| compare(crate::io::natural_type(a).oid, a, b))
            .find(|o| o.is_ne())
            .unwrap_or_else(|| a.len().cmp(&b.len())),
        _ => a.as_i64().cmp(&b.as_i64()),
    }
}

/// Element by element, then the shorter first, then by shape.
pub fn compare_arrays(a: &ArrayValue, b: &ArrayValue) -> Ordering {
    a.elements
        .iter()
        .zip(&b.elements)
        .map(|(x, y)| compare(a.element_type, x, y))
        .find(|o| o.is_ne())
        .unwrap_or_else(|| a.elements.len().cmp(&b.elements.len()))
        .then_with(|| a.dims.len().cmp(&b.dims.len()))
        .then_with(|| a.dims.cmp(&b.dims))
        .then_with(|| a.lower_bounds.cmp(&b.lower_bounds))
}

/// Appends the order-preserving key of a value that is not NULL (of a NULL: nothing).
pub fn sort_key(value: &Datum, ty: PgType, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Datum::Null => {}
        Datum::Bool(v) => encoding::put_bool(out, *v),
        Datum::Int2(v) => encoding::put_i16(out, *v),
        Datum::Int4(v) | Datum::Date(v) => encoding::put_i32(out, *v),
        Datum::Int8(v) if matches!(ty.oid, oid::XID8 | oid::PG_LSN) => {
            encoding::put_u64(out, v.cast_unsigned());
        }
        Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => {
            encoding::put_i64(out, *v);
        }
        Datum::Float4(v) => encoding::put_f32(out, *v),
        Datum::Float8(v) => encoding::put_f64(out, *v),
        Datum::Numeric(v) => v.write_key(out),
        Datum::Text(v) => match ty.oid {
            oid::BPCHAR => encoding::put_bytes(out, bpchar_body(v).as_bytes()),
            oid::JSON | oid::XML | oid::JSONPATH => return Err(unordered(ty.oid)),
            _ => encoding::put_bytes(out, v.as_bytes()),
        },
        Datum::Bytea(v) => encoding::put_bytes(out, v),
        Datum::TimeTz(v, west) => {
            encoding::put_i64(out, v + i64::from(*west) * MICROS);
            encoding::put_i32(out, *west);
        }
        Datum::Interval(v) => encoding::put_i128(out, datetime::arith::interval_total(*v)),
        Datum::Uuid(v) => out.extend_from_slice(v),
        Datum::Jsonb(v) => crate::jsonb::sort_key(out, v),
        Datum::Oid(v) => encoding::put_u32(out, *v),
        Datum::Array(a) => {
            let element = PgType::new(a.element_type);
            parts(a.elements.iter().map(|e| (e, element)), out)?;
            encoding::put_u8(out, u8::try_from(a.dims.len()).unwrap_or(0));
            a.dims.iter().chain(&a.lower_bounds).for_each(|&n| encoding::put_i32(out, n));
        }
        Datum::Record(fields) => {
            parts(fields.iter().map(|f| (f, crate::io::natural_type(f))), out)?;
        }
    }
    Ok(())
}

fn parts<'a>(values: impl Iterator<Item = (&'a Datum, PgType)>, out: &mut Vec<u8>) -> Result<()> {
    for (value, ty) in values {
        if value.is_null() {
            out.push(encoding::NULL_LAST);
        } else {
            out.push(encoding::NOT_NULL);
            sort_key(value, ty, out)?;
        }
    }
    out.push(ELEMENT_END);
    Ok(())
}

/// True when [`from_sort_key`] gives back exactly the value that was written.
pub fn is_reversible(type_oid: Oid) -> bool {
    match type_oid {
        oid::BOOL
        | oid::INT2
        | oid::INT4
        | oid::INT8
        | oid::OID
        | oid::XID8
        | oid::PG_LSN
        | oid::MONEY
        | oid::TEXT
        | oid::VARCHAR
        | oid::NAME
        | oid::CHAR
        | oid::BYTEA
        | oid::DATE
        | oid::TIME
        | oid::TIMETZ
        | oid::TIMESTAMP
        | oid::TIMESTAMPTZ
        | oid::UUID => true,
        _ => crate::io::is_reg_type(type_oid),
    }
}

/// Takes a value of a reversible type off a key.
pub fn from_sort_key(type_oid: Oid, key: &mut Reader<'_>) -> Result<Datum> {
    read_key(type_oid, key).map_err(|e| PgError::new(SqlState::DATA_CORRUPTED, e.to_string()))
}

fn read_key(
    type_oid: Oid,
    key: &mut Reader<'_>,
) -> std::result::Result<Datum, encoding::DecodeError> {
    Ok(match type_oid {
        oid::BOOL => Datum::Bool(key.bool()?),
        oid::INT2 => Datum::Int2(key.i16()?),
        oid::INT4 => Datum::Int4(key.i32()?),
        oid::INT8 | oid::MONEY => Datum::Int8(key.i64()?),
        oid::XID8 | oid::PG_LSN => Datum::Int8(key.u64()?.cast_signed()),
        oid::FLOAT4 => Datum::Float4(key.f32()?),
        oid::FLOAT8 => Datum::Float8(key.f64()?),
        oid::BYTEA => Datum::Bytea(key.bytes()?.into()),
        oid::DATE => Datum::Date(key.i32()?),
        oid::TIME => Datum::Time(key.i64()?),
        oid::TIMESTAMP => Datum::Timestamp(key.i64()?),
        oid::TIMESTAMPTZ => Datum::TimestampTz(key.i64()?),
        oid::TIMETZ => {
            let (utc, west) = (key.i64()?, key.i32()?);
            Datum::TimeTz(utc - i64::from(west) * MICROS, west)
        }
        oid::UUID => Datum::Uuid(key.array::<16>()?),
        oid::OID | oid::XID | oid::CID => Datum::Oid(key.u32()?),
        oid::NUMERIC => {
            let value = Numeric::take_key(|| key.u8().ok());
            Datum::Numeric(value.ok_or(encoding::DecodeError("not a numeric"))?)
        }
        _ if crate::io::is_reg_type(type_oid) => Datum::Oid(key.u32()?),
        _ => {
            let text = String::from_utf8(key.bytes()?)
                .map_err(|_| encoding::DecodeError("text is not UTF-8"))?;
            Datum::Text(text.into())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EvalContext;

    #[test]
    fn keys_sort_as_values_compare() {
        let ctx = EvalContext::bare();
        let cases: &[(Oid, &[&str])] = &[
            (oid::INT4, &["-2147483648", "-1", "0", "7"]),
            (oid::FLOAT8, &["-Infinity", "-1.5", "0", "1e-300", "2", "Infinity", "NaN"]),
            (oid::TEXT, &["", "a", "a b", "ab", "b"]),
            (oid::INTERVAL, &["-1 day", "29 days", "1 month", "31 days", "1 year"]),
            (oid::INT4_ARRAY, &["{}", "{1}", "{1,2}", "{1,3}", "{1,NULL}", "{2}", "{NULL}"]),
            (oid::TIMETZ, &["10:00+02", "09:00+00", "10:00+00"]),
        ];
        for (type_oid, texts) in cases {
            let ty = PgType::new(*type_oid);
            let mut last: Option<(Datum, Vec<u8>)> = None;
            for text in *texts {
                let value = crate::io::text_in(*type_oid, -1, text, &ctx).expect(text);
                let mut key = vec![];
                sort_key(&value, ty, &mut key).expect("ordered");
                if let Some((before, before_key)) = &last {
                    assert!(before_key < &key, "{text}");
                    assert!(compare(*type_oid, before, &value).is_lt(), "{text}");
                }
                if is_reversible(*type_oid) {
                    let back = from_sort_key(*type_oid, &mut Reader::new(&key)).expect("back");
                    assert_eq!(back, value);
                }
                last = Some((value, key));
            }
        }
    }
}
