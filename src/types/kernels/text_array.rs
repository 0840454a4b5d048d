//! Strings to arrays and back.

use std::sync::Arc;

use super::call::mismatch;
use crate::oid;
use crate::registry::SetKernel;
use crate::{ArrayValue, CallInfo, Datum, Kernel, PgType, Result};

/// The parts of a string; `None` when the string is NULL. A NULL separator splits into
/// characters, an empty one not at all; parts equal to the null string are NULL.
fn parts(args: &[Datum]) -> Result<Option<Vec<Datum>>> {
    let [text, sep, rest @ ..] = args else { return Err(mismatch(args)) };
    let Datum::Text(text) = text else { return Ok(None) };
    let null = rest.first().and_then(Datum::as_str);
    let item = |s: &str| if null == Some(s) { Datum::Null } else { Datum::text(s) };
    if text.is_empty() {
        return Ok(Some(Vec::new()));
    }
    Ok(Some(match sep.as_str() {
        None => {
            let mut buffer = [0u8; 4];
            text.chars().map(|c| item(c.encode_utf8(&mut buffer))).collect()
        }
        Some("") => vec![item(text)],
        Some(sep) => text.split(sep).map(item).collect(),
    }))
}

fn to_array(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    Ok(parts(args)?.map_or(Datum::Null, |elements| {
        Datum::Array(Arc::new(ArrayValue::from_elements(oid::TEXT, elements)))
    }))
}

fn to_table(_: &CallInfo<'_>, args: &[Datum]) -> Result<Vec<Datum>> {
    Ok(parts(args)?.unwrap_or_default())
}

fn join(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [Datum::Array(array), sep, rest @ ..] = args else {
        return if args.first().is_some_and(Datum::is_null) {
            Ok(Datum::Null)
        } else {
            Err(mismatch(args))
        };
    };
    let Some(sep) = sep.as_str() else { return Ok(Datum::Null) };
    let null = rest.first().and_then(Datum::as_str);
    let ty = PgType::new(array.element_type);
    let mut out: Vec<u8> = Vec::new();
    let mut any = false;
    for value in &array.elements {
        if value.is_null() && null.is_none() {
            continue;
        }
        if any {
            out.extend_from_slice(sep.as_bytes());
        }
        any = true;
        match (value, null) {
            (Datum::Null, Some(null)) => out.extend_from_slice(null.as_bytes()),
            (value, _) => crate::io::text_out(value, ty, call.ctx, &mut out)?,
        }
    }
    Ok(Datum::text(String::from_utf8_lossy(&out)))
}

const KERNELS: &[(&str, Kernel)] = &[
    ("text_to_array", to_array),
    ("text_to_array_null", to_array),
    ("array_to_text", join),
    ("array_to_text_null", join),
];

pub(crate) const TABLES: &[&[(&str, Kernel)]] = &[KERNELS];

pub(crate) const SETS: &[(&str, SetKernel)] =
    &[("text_to_table", to_table), ("text_to_table_null", to_table)];
