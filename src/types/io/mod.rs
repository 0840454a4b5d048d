//! Values as text and as bytes.
//!
//! [`text_in`] and [`text_out`] are the input and output functions of every built-in type,
//! [`binary_recv`] and [`binary_send`] their wire formats, [`storage`] our own compact bytes, and
//! [`apply_typmod`] the length coercions (`varchar(n)`, `numeric(p,s)` …).
//!
//! Output follows the *variant* of the value; the type is only asked where one variant serves
//! several types (`oid` and `regclass`, `int8` and `money`). The fields of a record carry no types
//! at all, so they are written by variant alone.

pub mod array;
pub mod chars;
pub mod number;
pub mod record;
pub mod storage;
mod typmod;
mod wire;

pub use typmod::apply_typmod;
pub use wire::{binary_recv, binary_send};

use crate::builtin::{array_element, format_type, type_by_oid};
use crate::oid::{self, Oid};
use crate::{Datum, EvalContext, PgError, PgType, Result, SqlState, datetime};

/// `22P02`: the text is no value of the type, which is named in SQL's way.
pub fn invalid_syntax(type_name: &str, text: &str) -> PgError {
    PgError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

/// True for the types whose text is looked up in the catalog.
pub fn is_reg_type(type_oid: Oid) -> bool {
    matches!(
        type_oid,
        oid::REGPROC
            | oid::REGPROCEDURE
            | oid::REGOPER
            | oid::REGOPERATOR
            | oid::REGCLASS
            | oid::REGTYPE
            | oid::REGCONFIG
            | oid::REGDICTIONARY
            | oid::REGNAMESPACE
            | oid::REGROLE
            | oid::REGCOLLATION
    )
}

/// Reads the text form of a value, applying the modifier as an assignment does.
pub fn text_in(type_oid: Oid, typmod: i32, text: &str, ctx: &EvalContext) -> Result<Datum> {
    let (settings, now) = (&ctx.settings, ctx.transaction_time);
    Ok(match type_oid {
        oid::BOOL => Datum::Bool(chars::bool_in(text)?),
        oid::INT2 => Datum::Int2(number::int2_in(text)?),
        oid::INT4 => Datum::Int4(number::int4_in(text)?),
        oid::INT8 => Datum::Int8(number::int8_in(text)?),
        oid::FLOAT4 => Datum::Float4(number::float4_in(text)?),
        oid::FLOAT8 => Datum::Float8(number::float8_in(text)?),
        oid::NUMERIC => Datum::Numeric(crate::numeric::Numeric::parse(text)?.apply_typmod(typmod)?),
        oid::VARCHAR => Datum::Text(typmod::varchar(text.into(), typmod, false)?),
        oid::BPCHAR => match typmod::short_bpchar(text, typmod) {
            Some(padded) => Datum::Text(padded),
            None => Datum::Text(typmod::bpchar(text.into(), typmod, false)?),
        },
        oid::NAME => Datum::text(chars::name_in(text)),
        oid::CHAR => Datum::text(chars::char_in(text)),
        oid::BYTEA => Datum::Bytea(chars::bytea_in(text)?.into()),
        oid::UUID => Datum::Uuid(chars::uuid_in(text)?),
        oid::DATE => Datum::Date(datetime::date_in(text, settings, now)?),
        oid::TIME => Datum::Time(datetime::time_in(text, typmod, settings, now)?),
        oid::TIMETZ => {
            let (time, west) = datetime::timetz_in(text, typmod, settings, now)?;
            Datum::TimeTz(time, west)
        }
        oid::TIMESTAMP => Datum::Timestamp(datetime::timestamp_in(text, typmod, settings, now)?),
        oid::TIMESTAMPTZ => {
            Datum::TimestampTz(datetime::timestamptz_in(text, typmod, settings, now)?)
        }
        oid::INTERVAL => {
            Datum::Interval(datetime::interval_in(text, typmod, settings.interval_style)?)
        }
        oid::OID | oid::XID | oid::CID => Datum::Oid(number::oid_in(text, type_oid)?),
        oid::XID8 => Datum::Int8(number::xid8_in(text).cast_signed()),
        oid::MONEY => Datum::Int8(number::money_in(text)?),
        oid::PG_LSN => Datum::Int8(number::lsn_in(text)?),
        oid::JSON => {
            crate::jsonb::json_check(text)?;
            Datum::text(text)
        }
        oid::JSONPATH => Datum::text(crate::jsonb::path::parse::parse(text)?.to_text()),
        oid::JSONB => Datum::Jsonb(crate::jsonb::jsonb_in(text)?),
        oid::INT2VECTOR | oid::OIDVECTOR => array::vector_in(type_oid, text)?,
        oid::RECORD => {
            return Err(PgError::unsupported(
                "input of anonymous composite types is not implemented",
            ));
        }
        _ if is_reg_type(type_oid) => Datum::Oid(ctx.host.reg_in(type_oid, text)?),
        _ if is_plain_text(type_oid) => Datum::text(text),
        _ => return other_in(type_oid, typmod, text, ctx),
    })
}

fn is_plain_text(type_oid: Oid) -> bool {
    matches!(
        type_oid,
        oid::TEXT
            | oid::UNKNOWN
            | oid::CSTRING
            | oid::XML
            | oid::PG_NODE_TREE
            | oid::REFCURSOR
            | oid::ACLITEM
    )
}

fn other_in(type_oid: Oid, typmod: i32, text: &str, ctx: &EvalContext) -> Result<Datum> {
    if let Some(element) = array_element(type_oid) {
        return array::array_in(element, typmod, text, ctx);
    }
    let row = type_by_oid(type_oid);
    if row.is_some_and(|r| r.typtype == 'p') {
        return Err(PgError::unsupported(format!(
            "cannot accept a value of type {}",
            format_type(type_oid, -1)
        )));
    }
    Err(PgError::unsupported(format!("type {} is not supported yet", format_type(type_oid, -1))))
}

/// Writes the text form of a value; NULL writes nothing (the callers mark it).
pub fn text_out(value: &Datum, ty: PgType, ctx: &EvalContext, out: &mut Vec<u8>) -> Result<()> {
    let settings = &*ctx.settings;
    match value {
        Datum::Null => {}
        Datum::Bool(v) => out.push(if *v { b't' } else { b'f' }),
        Datum::Int2(v) => number::write_i64(out, i64::from(*v)),
        Datum::Int4(v) => number::write_i64(out, i64::from(*v)),
        Datum::Int8(v) => match ty.oid {
            oid::MONEY => out.extend_from_slice(number::money_out(*v).as_bytes()),
            oid::PG_LSN => out.extend_from_slice(number::lsn_out(*v).as_bytes()),
            oid::XID8 => number::write_u64(out, v.cast_unsigned()),
            _ => number::write_i64(out, *v),
        },
        Datum::Float4(v) => number::float4_out(out, *v, settings.extra_float_digits),
        Datum::Float8(v) => number::float8_out(out, *v, settings.extra_float_digits),
        Datum::Numeric(v) => out.extend_from_slice(v.to_string().as_bytes()),
        Datum::Text(v) => out.extend_from_slice(v.as_bytes()),
        Datum::Bytea(v) => chars::bytea_out(out, v, settings.bytea_hex),
        Datum::Date(v) => datetime::date_out(out, *v, settings),
        Datum::Time(v) => datetime::time_out(out, *v),
        Datum::TimeTz(v, west) => datetime::timetz_out(out, *v, *west),
        Datum::Timestamp(v) => datetime::timestamp_out(out, *v, settings)?,
        Datum::TimestampTz(v) => datetime::timestamptz_out(out, *v, settings)?,
        Datum::Interval(v) => datetime::interval_out(out, *v, settings.interval_style),
        Datum::Uuid(v) => chars::uuid_out(out, v),
        Datum::Jsonb(v) => crate::jsonb::jsonb_out(out, v),
        Datum::Oid(v) => {
            if is_reg_type(ty.oid) {
                out.extend_from_slice(ctx.host.reg_out(ty.oid, *v).as_bytes());
            } else {
                number::write_u64(out, u64::from(*v));
            }
        }
        Datum::Array(v) if matches!(ty.oid, oid::INT2VECTOR | oid::OIDVECTOR) => {
            array::vector_out(v, ctx, out)?;
        }
        Datum::Array(v) => array::array_out(v, ctx, out)?,
        Datum::Record(fields) => record::record_out(fields, ty, ctx, out)?,
    }
    Ok(())
}

/// The text form as a string.
pub fn to_text(value: &Datum, ty: PgType, ctx: &EvalContext) -> Result<String> {
    let mut out = Vec::new();
    text_out(value, ty, ctx, &mut out)?;
    String::from_utf8(out).map_err(|_| PgError::internal("text output is not UTF-8"))
}

/// The most natural type of a value whose type is not known (fields of an anonymous record).
pub fn natural_type(value: &Datum) -> PgType {
    PgType::new(match value {
        Datum::Null => oid::UNKNOWN,
        Datum::Bool(_) => oid::BOOL,
        Datum::Int2(_) => oid::INT2,
        Datum::Int4(_) => oid::INT4,
        Datum::Int8(_) => oid::INT8,
        Datum::Float4(_) => oid::FLOAT4,
        Datum::Float8(_) => oid::FLOAT8,
        Datum::Numeric(_) => oid::NUMERIC,
        Datum::Text(_) => oid::TEXT,
        Datum::Bytea(_) => oid::BYTEA,
        Datum::Date(_) => oid::DATE,
        Datum::Time(_) => oid::TIME,
        Datum::TimeTz(..) => oid::TIMETZ,
        Datum::Timestamp(_) => oid::TIMESTAMP,
        Datum::TimestampTz(_) => oid::TIMESTAMPTZ,
        Datum::Interval(_) => oid::INTERVAL,
        Datum::Uuid(_) => oid::UUID,
        Datum::Jsonb(_) => oid::JSONB,
        Datum::Oid(_) => oid::OID,
        Datum::Array(a) => crate::builtin::array_of(a.element_type).unwrap_or(oid::TEXT_ARRAY),
        Datum::Record(_) => oid::RECORD,
    })
}

#[cfg(test)]
mod tests;
