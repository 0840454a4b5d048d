//! SQL values as JSON: `to_json`, `to_jsonb` and what the aggregates and builders need of them.

use std::sync::Arc;

use crate::context::{CallInfoOwned, DateStyle};
use crate::datetime::calendar::{date_infinite, timestamp_infinite};
use crate::jsonb::{Ref, Value, text};
use crate::numeric::Numeric;
use crate::registry::CallInfo;
use crate::{ArrayValue, Datum, EvalContext, PgError, PgType, Result, Settings, SqlState, io, oid};

/// How arrays and rows are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// On one line.
    Compact,
    /// A line per element of the outermost level.
    Lines,
}

/// True for types whose text stands in JSON without quotes when it is a number.
fn is_number(d: &Datum, ty: PgType) -> bool {
    match d {
        Datum::Int8(_) => ty.oid == oid::INT8,
        Datum::Int2(_)
        | Datum::Int4(_)
        | Datum::Float4(_)
        | Datum::Float8(_)
        | Datum::Numeric(_) => true,
        _ => false,
    }
}

fn finite(text: &str) -> bool {
    text.ends_with(|c: char| c.is_ascii_digit())
}

/// The text of a date or time in the ISO 8601 form that XML and JSON use.
fn iso_text(d: &Datum, ctx: &EvalContext) -> Result<Option<String>> {
    let mut out = Vec::with_capacity(32);
    let settings = || Settings { date_style: DateStyle::Iso, ..(*ctx.settings).clone() };
    match d {
        Datum::Date(v) => {
            crate::datetime::date_out(&mut out, *v, &settings());
            if date_infinite(*v) {
                return Ok(Some(text::into_string(out)));
            }
        }
        Datum::Timestamp(v) => crate::datetime::timestamp_out(&mut out, *v, &settings())?,
        Datum::TimestampTz(v) => {
            crate::datetime::timestamptz_out(&mut out, *v, &settings())?;
            if !timestamp_infinite(*v) {
                // Offsets have minutes here even when these are zero.
                let era = out.ends_with(b" BC");
                let end = out.len() - if era { 3 } else { 0 };
                if matches!(out[end - 3], b'+' | b'-') {
                    out.splice(end..end, *b":00");
                }
            }
        }
        _ => return Ok(None),
    }
    if let Some(space) = out.iter().position(|b| *b == b' ')
        && out.get(space + 1).is_some_and(u8::is_ascii_digit)
    {
        out[space] = b'T';
    }
    Ok(Some(text::into_string(out)))
}

/// The names and types of a row's fields: those of its shape, else of the catalog when the host
/// knows the type, else `f1`, `f2` …
fn named_fields(fields: &[Datum], ty: PgType, ctx: &EvalContext) -> Vec<(String, PgType)> {
    if let Some(shape) = crate::shape::of(ty).filter(|s| s.len() == fields.len()) {
        let known = |(name, ty): &(Arc<str>, PgType), d: &Datum| {
            let ty = if ty.oid == oid::UNKNOWN { io::natural_type(d) } else { *ty };
            (name.to_string(), ty)
        };
        return shape.iter().zip(fields).map(|(f, d)| known(f, d)).collect();
    }
    let call = CallInfoOwned { args: vec![ty], ret: PgType::new(oid::TEXT_ARRAY) };
    let names: Vec<String> = match ctx.host.call("row_field_names", &call, &[]) {
        Some(Ok(Datum::Array(names))) if names.elements.len() == fields.len() => {
            names.elements.iter().map(|n| n.as_str().unwrap_or_default().to_owned()).collect()
        }
        _ => (1..=fields.len()).map(|i| format!("f{i}")).collect(),
    };
    names.into_iter().zip(fields).map(|(name, d)| (name, io::natural_type(d))).collect()
}

/// Appends a value as `json`.
pub(super) fn write(
    out: &mut Vec<u8>,
    d: &Datum,
    ty: PgType,
    ctx: &EvalContext,
    layout: Layout,
) -> Result<()> {
    match d {
        Datum::Null => out.extend_from_slice(b"null"),
        Datum::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Datum::Jsonb(bytes) => crate::jsonb::jsonb_out(out, bytes),
        Datum::Text(s) if ty.oid == oid::JSON => out.extend_from_slice(s.as_bytes()),
        Datum::Array(a) => write_array(out, a, ctx, layout)?,
        Datum::Record(fields) => {
            let separator = if layout == Layout::Lines { "\n " } else { "" };
            out.push(b'{');
            let names = named_fields(fields, ty, ctx);
            for (i, (field, (name, ty))) in fields.iter().zip(names).enumerate() {
                if i > 0 {
                    out.push(b',');
                    out.extend_from_slice(separator.as_bytes());
                }
                text::quote(out, &name);
                out.push(b':');
                write(out, field, ty, ctx, Layout::Compact)?;
            }
            out.push(b'}');
        }
        _ => {
            let shown = plain_text(d, ty, ctx)?;
            if is_number(d, ty) && finite(&shown) {
                out.extend_from_slice(shown.as_bytes());
            } else {
                text::quote(out, &shown);
            }
        }
    }
    Ok(())
}

fn plain_text(d: &Datum, ty: PgType, ctx: &EvalContext) -> Result<String> {
    match iso_text(d, ctx)? {
        Some(text) => Ok(text),
        None => io::to_text(d, ty, ctx),
    }
}

fn write_array(out: &mut Vec<u8>, a: &ArrayValue, ctx: &EvalContext, layout: Layout) -> Result<()> {
    if a.elements.is_empty() {
        out.extend_from_slice(b"[]");
        return Ok(());
    }
    let mut next = 0;
    dimension(out, a, 0, &mut next, ctx, layout)
}

fn dimension(
    out: &mut Vec<u8>,
    a: &ArrayValue,
    level: usize,
    next: &mut usize,
    ctx: &EvalContext,
    layout: Layout,
) -> Result<()> {
    out.push(b'[');
    for i in 0..a.dims[level] {
        if i > 0 {
            out.push(b',');
            if layout == Layout::Lines {
                out.extend_from_slice(b"\n ");
            }
        }
        if level + 1 < a.dims.len() {
            dimension(out, a, level + 1, next, ctx, Layout::Compact)?;
        } else {
            write(out, &a.elements[*next], PgType::new(a.element_type), ctx, Layout::Compact)?;
            *next += 1;
        }
    }
    out.push(b']');
    Ok(())
}

/// A value as a `jsonb` tree.
pub(super) fn tree(d: &Datum, ty: PgType, ctx: &EvalContext) -> Result<Value> {
    Ok(match d {
        Datum::Null => Value::Null,
        Datum::Bool(b) => Value::Bool(*b),
        Datum::Jsonb(bytes) => Value::of(Ref::new(bytes)),
        Datum::Text(s) if ty.oid == oid::JSON => Value::parse(s)?,
        Datum::Array(a) => {
            let mut next = 0;
            if a.elements.is_empty() {
                Value::Array(vec![])
            } else {
                array_tree(a, 0, &mut next, ctx)?
            }
        }
        Datum::Record(fields) => {
            let names = named_fields(fields, ty, ctx);
            let values = fields.iter().zip(names);
            Value::object(
                values
                    .map(|(f, (name, ty))| Ok((name, tree(f, ty, ctx)?)))
                    .collect::<Result<_>>()?,
            )
        }
        Datum::Numeric(n) if n.is_finite() => Value::Number(n.clone()),
        _ => {
            let shown = plain_text(d, ty, ctx)?;
            if is_number(d, ty) && finite(&shown) {
                Value::Number(Numeric::parse(&shown)?)
            } else {
                Value::String(shown)
            }
        }
    })
}

fn array_tree(a: &ArrayValue, level: usize, next: &mut usize, ctx: &EvalContext) -> Result<Value> {
    let mut items = Vec::new();
    for _ in 0..a.dims[level] {
        if level + 1 < a.dims.len() {
            items.push(array_tree(a, level + 1, next, ctx)?);
        } else {
            items.push(tree(&a.elements[*next], PgType::new(a.element_type), ctx)?);
            *next += 1;
        }
    }
    Ok(Value::Array(items))
}

/// The type of an argument; unknown literals count as text.
pub(super) fn arg_type(call: &CallInfo<'_>, at: usize, d: &Datum) -> PgType {
    call.args
        .get(at)
        .copied()
        .filter(|t| !is_polymorphic(t.oid) || (t.oid == oid::RECORD && t.typmod >= 0))
        .unwrap_or_else(|| io::natural_type(d))
}

fn is_polymorphic(type_oid: u32) -> bool {
    matches!(type_oid, oid::ANY | oid::ANYELEMENT | oid::ANYARRAY | oid::ANYNONARRAY | oid::RECORD)
}

/// The text of a key of an object under construction.
pub(super) fn key_text(d: &Datum, ty: PgType, ctx: &EvalContext) -> Result<String> {
    match d {
        Datum::Bool(b) => Ok(if *b { "true" } else { "false" }.to_owned()),
        Datum::Array(_) | Datum::Record(_) | Datum::Jsonb(_) => Err(scalar_key()),
        Datum::Text(_) if ty.oid == oid::JSON => Err(scalar_key()),
        _ => plain_text(d, ty, ctx),
    }
}

fn scalar_key() -> PgError {
    PgError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        "key value must be scalar, not array, composite, or json",
    )
}
