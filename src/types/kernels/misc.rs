//! Functions about values and types as such, and sizes for people.

use super::call::{fun, invalid_parameter, len_i32, mismatch};
use crate::builtin::{format_type, type_by_oid};
use crate::context::CallInfoOwned;
use crate::numeric::Numeric;
use crate::{CallInfo, Datum, Kernel, PgError, PgType, Result};

type Table = &'static [(&'static str, Kernel)];

/// UTF8's number among PostgreSQL's encodings.
const UTF8: i32 = 6;

fn count_nulls(args: &[Datum], nulls: bool) -> Datum {
    Datum::Int4(len_i32(args.iter().filter(|a| a.is_null() == nulls).count()))
}

/// The wire form of a value, as a function of SQL.
fn send(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let ([value], Some(ty)) = (args, call.args.first()) else { return Err(mismatch(args)) };
    let mut bytes = Vec::new();
    crate::io::binary_send(value, *ty, call.ctx, &mut bytes)?;
    Ok(Datum::Bytea(bytes.into()))
}

fn format_type_kernel(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [type_oid, typmod] = args else { return Err(mismatch(args)) };
    let Datum::Oid(type_oid) = type_oid else { return Ok(Datum::Null) };
    if *type_oid == 0 {
        return Ok(Datum::text("-"));
    }
    if type_by_oid(*type_oid).is_none() {
        let owned = CallInfoOwned { args: call.args.to_vec(), ret: call.ret };
        return call
            .ctx
            .host
            .call("format_type", &owned, args)
            .unwrap_or_else(|| Ok(Datum::text("???")));
    }
    let given = match typmod {
        Datum::Int4(m) => *m,
        // Without a modifier bpchar is called by its SQL name, with −1 by its own.
        _ => return Ok(Datum::text(format_type(*type_oid, -1))),
    };
    if given < 0 && *type_oid == crate::oid::BPCHAR {
        return Ok(Datum::text("bpchar"));
    }
    Ok(Datum::text(format_type(*type_oid, given)))
}

fn type_of(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let first = call.args.first().map(|t| t.oid);
    let natural = || args.first().map(|a| crate::io::natural_type(a).oid);
    Ok(first.or_else(natural).map_or(Datum::Null, Datum::Oid))
}

fn column_size(args: &[Datum]) -> Datum {
    let mut out = Vec::new();
    match args.first() {
        None | Some(Datum::Null) => return Datum::Null,
        Some(value) => crate::io::storage::encode_bare(value, &mut out),
    }
    let header = match args {
        [Datum::Text(_) | Datum::Bytea(_)] if out.len() < 127 => 1,
        [Datum::Text(_) | Datum::Bytea(_)] => 4,
        _ => 0,
    };
    Datum::Int4(len_i32(out.len() + header))
}

const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];

/// Halves are rounded away from zero, and a unit is left at ten times its size (the first at 10240).
fn size_pretty(size: i64) -> String {
    let negative = size < 0;
    let mut size = i128::from(size).abs();
    let mut unit = 0;
    let limit = |unit: usize| if unit == 0 { 10 * 1024 } else { 20 * 1024 - 1 };
    while unit + 1 < UNITS.len() && size >= limit(unit) {
        // After the first step sizes are kept doubled, so that the last bit rounds.
        size >>= if unit == 0 { 9 } else { 10 };
        unit += 1;
    }
    if unit > 0 {
        size = (size + 1) / 2;
    }
    let sign = if negative { "-" } else { "" };
    format!("{sign}{size} {}", UNITS[unit])
}

fn size_pretty_numeric(size: &Numeric) -> Result<String> {
    let ten_k = Numeric::from(10_240i64);
    let limit = Numeric::from(20_479i64);
    if size.abs().compare(&ten_k).is_lt() {
        return Ok(format!("{size} bytes"));
    }
    let mut size = size.div_trunc(&Numeric::from(512i64))?;
    let mut unit = 1;
    while unit + 1 < UNITS.len() && size.abs().compare(&limit).is_ge() {
        size = size.div_trunc(&Numeric::from(1024i64))?;
        unit += 1;
    }
    let half =
        size.add(&Numeric::from(i64::from(size.signum())))?.div_trunc(&Numeric::from(2i64))?;
    Ok(format!("{half} {}", UNITS[unit]))
}

fn size_bytes(text: &str) -> Result<i64> {
    let invalid = || invalid_parameter(format!("invalid size: \"{text}\""));
    let trimmed = text.trim();
    let end = trimmed
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+')))
        .unwrap_or(trimmed.len());
    let number = Numeric::parse(&trimmed[..end]).map_err(|_| invalid())?;
    let unit = trimmed[end..].trim();
    let power = match unit.to_ascii_lowercase().as_str() {
        "" | "bytes" | "b" => 0,
        "kb" => 10,
        "mb" => 20,
        "gb" => 30,
        "tb" => 40,
        "pb" => 50,
        _ => {
            return Err(invalid().detail(format!("Invalid size unit: \"{unit}\".")).hint(
                "Valid units are \"bytes\", \"B\", \"kB\", \"MB\", \"GB\", \"TB\", and \"PB\".",
            ));
        }
    };
    number.mul(&Numeric::from(1i64 << power))?.to_int("bigint")
}

fn vector_types(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [Datum::Array(a)] = args else { return Err(mismatch(args)) };
    let mut names = Vec::new();
    for element in &a.elements {
        let shown = format_type_kernel(call, &[element.clone(), Datum::Null])?;
        names.push(shown.as_str().unwrap_or("???").to_owned());
    }
    Ok(Datum::text(names.join(", ")))
}

/// A value that a type's own input function reads, for casts through text by name.
fn encoding_number(name: &str) -> i32 {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    if plain.eq_ignore_ascii_case("utf8") || plain.eq_ignore_ascii_case("unicode") {
        UTF8
    } else {
        -1
    }
}

fn lsn_diff(a: i64, b: i64) -> Numeric {
    let wide = |v: i64| i128::from(v.cast_unsigned());
    Numeric::from(wide(a) - wide(b))
}

fn numeric_lsn(v: &Numeric) -> Result<i64> {
    if !v.is_finite() {
        let name = if v.is_nan() { "NaN" } else { "infinity" };
        return Err(PgError::unsupported(format!("cannot convert {name} to pg_lsn")));
    }
    let whole = u64::try_from(&v.to_integer()?).ok();
    whole.map(u64::cast_signed).ok_or_else(|| invalid_parameter("pg_lsn out of range"))
}

const KERNELS: Table = &[
    ("numeric_pg_lsn", |_, args| match args {
        [Datum::Numeric(v)] => numeric_lsn(v).map(Datum::Int8),
        _ => Err(mismatch(args)),
    }),
    ("pg_num_nulls", |_, args| Ok(count_nulls(args, true))),
    ("pg_num_nonnulls", |_, args| Ok(count_nulls(args, false))),
    ("format_type", format_type_kernel),
    ("pg_typeof", type_of),
    ("pg_column_size", |_, args| Ok(column_size(args))),
    ("pg_size_pretty", fun!(|v: i64| size_pretty(v))),
    ("pg_size_pretty_numeric", fun!(|v: &Numeric| size_pretty_numeric(v))),
    ("pg_size_bytes", fun!(|s: &str| size_bytes(s))),
    ("oidvectortypes", vector_types),
    ("getdatabaseencoding", |_, _| Ok(Datum::text("UTF8"))),
    ("pg_client_encoding", |_, _| Ok(Datum::text("UTF8"))),
    ("PG_encoding_to_char", fun!(|n: i32| if n == UTF8 { "UTF8" } else { "" })),
    ("PG_char_to_encoding", fun!(|name: &str| encoding_number(name))),
    ("pg_encoding_max_length_sql", fun!(|n: i32| (n == UTF8).then_some(4))),
    ("pg_lsn_mi", fun!(|a: i64, b: i64| lsn_diff(a, b))),
    ("pg_wal_lsn_diff", fun!(|a: i64, b: i64| lsn_diff(a, b))),
];

/// Binary output as functions.
const SEND: Table = &[
    ("boolsend", send),
    ("byteasend", send),
    ("textsend", send),
    ("varcharsend", send),
    ("bpcharsend", send),
    ("namesend", send),
    ("int2send", send),
    ("int4send", send),
    ("int8send", send),
    ("oidsend", send),
    ("float4send", send),
    ("float8send", send),
    ("anyarray_send", send),
    ("anycompatiblearray_send", send),
    ("numeric_send", send),
    ("date_send", send),
    ("time_send", send),
    ("timetz_send", send),
    ("timestamp_send", send),
    ("timestamptz_send", send),
    ("interval_send", send),
    ("uuid_send", send),
    ("json_send", send),
    ("jsonb_send", send),
    ("array_send", send),
    ("record_send", send),
];

pub(crate) const TABLES: &[Table] = &[KERNELS, INPUT, SEND];

/// Input functions that can be called by name in SQL.
fn read_as(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let typmod = match args.get(2) {
        Some(Datum::Int4(m)) => *m,
        _ => -1,
    };
    match args.first() {
        Some(Datum::Text(s)) => crate::io::text_in(call.ret.oid, typmod, s, call.ctx),
        _ => Err(mismatch(args)),
    }
}

/// Output functions that can be called by name in SQL.
fn write_as(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [value] = args else { return Err(mismatch(args)) };
    let ty = call.args.first().copied().unwrap_or(PgType::new(crate::oid::UNKNOWN));
    crate::io::to_text(value, ty, call.ctx).map(Datum::text)
}

const INPUT: Table = &[
    ("boolin", read_as),
    ("int2in", read_as),
    ("int4in", read_as),
    ("int8in", read_as),
    ("float4in", read_as),
    ("float8in", read_as),
    ("numeric_in", read_as),
    ("textin", read_as),
    ("byteain", read_as),
    ("uuid_in", read_as),
    ("namein", read_as),
    ("oidin", read_as),
    ("boolout", write_as),
    ("int2out", write_as),
    ("int4out", write_as),
    ("int8out", write_as),
    ("float4out", write_as),
    ("float8out", write_as),
    ("numeric_out", write_as),
    ("textout", write_as),
    ("byteaout", write_as),
    ("uuid_out", write_as),
    ("nameout", write_as),
    ("oidout", write_as),
    ("array_out", write_as),
    ("record_out", write_as),
];
