//! Reading parts of `json` and `jsonb`: `->`, `#>`, lengths, containment, order, casts.

use std::cmp::Ordering;

use crate::jsonb::{self, Kind, Node, Ref, contains, text};
use crate::registry::{CallInfo, Kernel};
use crate::{ArrayValue, Datum, PgError, Result, SqlState};

pub(super) fn bytes(d: &Datum) -> Result<&bytes::Bytes> {
    match d {
        Datum::Jsonb(b) => Ok(b),
        other => Err(PgError::internal(format!("kernel expected jsonb, got {other:?}"))),
    }
}

pub(super) fn view(d: &Datum) -> Result<Ref<'_>> {
    bytes(d).map(|b| Ref::new(b))
}

pub(super) fn string(d: &Datum) -> Result<&str> {
    d.as_str().ok_or_else(|| PgError::internal(format!("kernel expected text, got {d:?}")))
}

pub(super) fn array(d: &Datum) -> Result<&ArrayValue> {
    match d {
        Datum::Array(a) => Ok(a),
        other => Err(PgError::internal(format!("kernel expected an array, got {other:?}"))),
    }
}

fn int(d: &Datum) -> Result<i64> {
    d.as_i64().ok_or_else(|| PgError::internal(format!("kernel expected an integer, got {d:?}")))
}

/// The texts of a text array; `None` for NULL elements.
pub(super) fn texts(d: &Datum) -> Result<Vec<Option<&str>>> {
    Ok(array(d)?.elements.iter().map(Datum::as_str).collect())
}

pub(super) fn invalid(text: impl Into<String>) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, text)
}

/// A part of a `jsonb` as `jsonb`.
fn part(found: Option<&[u8]>) -> Datum {
    found.map_or(Datum::Null, |b| Datum::Jsonb(bytes::Bytes::copy_from_slice(b)))
}

/// A part of a `jsonb` as text: strings bare, `null` as NULL.
pub(super) fn as_text(v: Ref<'_>) -> Datum {
    match v {
        Ref::Null => Datum::Null,
        Ref::String(s) => Datum::text(s),
        other => {
            let mut out = Vec::new();
            text::write(&mut out, other);
            Datum::text(text::into_string(out))
        }
    }
}

/// A part of a `json` as it was written.
pub(super) fn node_json(found: Option<&Node>, json: &str) -> Datum {
    found.map_or(Datum::Null, |n| Datum::text(&json[n.span.clone()]))
}

/// A part of a `json` as text.
pub(super) fn node_text(found: Option<&Node>, json: &str) -> Datum {
    match found.map(|n| &n.kind) {
        None | Some(Kind::Null) => Datum::Null,
        Some(Kind::String(s)) => Datum::text(s),
        Some(_) => node_json(found, json),
    }
}

fn field<'a>(v: Ref<'a>, key: &str) -> Option<&'a [u8]> {
    match v {
        Ref::Object(o) => o.get(key),
        _ => None,
    }
}

/// An element of an array; a bare scalar counts as an array of one.
fn element(bytes: &[u8], index: i64) -> Option<&[u8]> {
    match Ref::new(bytes) {
        Ref::Array(a) => a.element(index),
        Ref::Object(_) => None,
        _ => matches!(index, 0 | -1).then_some(bytes),
    }
}

fn node_field<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    match &node.kind {
        Kind::Object(pairs) => pairs.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v),
        _ => None,
    }
}

fn node_element(node: &Node, index: i64) -> Option<&Node> {
    match &node.kind {
        Kind::Array(items) => {
            let index = if index < 0 { index + items.len() as i64 } else { index };
            items.get(usize::try_from(index).ok()?)
        }
        _ => None,
    }
}

/// Follows a path; a step into an array is an integer. `None` also for a NULL step.
fn walk<'a>(start: &'a [u8], path: &[Option<&str>]) -> Option<&'a [u8]> {
    path.iter().try_fold(start, |at, step| match Ref::new(at) {
        Ref::Object(o) => o.get((*step)?),
        Ref::Array(a) => a.element(subscript((*step)?)?),
        _ => None,
    })
}

fn subscript(step: &str) -> Option<i64> {
    step.trim_start().parse::<i32>().ok().map(i64::from)
}

fn walk_node<'a>(start: &'a Node, path: &[Option<&str>]) -> Option<&'a Node> {
    path.iter().try_fold(start, |at, step| match at.kind {
        Kind::Object(_) => node_field(at, (*step)?),
        Kind::Array(_) => node_element(at, subscript((*step)?)?),
        _ => None,
    })
}

/// Parses a `json` argument and picks a part of it.
fn pick(
    d: &Datum,
    find: impl Fn(&Node) -> Option<&Node>,
    give: fn(Option<&Node>, &str) -> Datum,
) -> Result<Datum> {
    let json = string(d)?;
    let node = jsonb::parse::parse(json, true)?;
    Ok(give(find(&node), json))
}

fn opt_text(found: Option<&[u8]>) -> Datum {
    found.map_or(Datum::Null, |b| as_text(Ref::new(b)))
}

/// Parts.
pub(crate) const PARTS: &[(&str, Kernel)] = &[
    ("jsonb_object_field", |_, a| Ok(part(field(view(&a[0])?, string(&a[1])?)))),
    ("jsonb_object_field_text", |_, a| Ok(opt_text(field(view(&a[0])?, string(&a[1])?)))),
    ("jsonb_array_element", |_, a| Ok(part(element(bytes(&a[0])?, int(&a[1])?)))),
    ("jsonb_array_element_text", |_, a| Ok(opt_text(element(bytes(&a[0])?, int(&a[1])?)))),
    ("jsonb_extract_path", |_, a| Ok(part(walk(bytes(&a[0])?, &texts(&a[1])?)))),
    ("jsonb_extract_path_text", |_, a| Ok(opt_text(walk(bytes(&a[0])?, &texts(&a[1])?)))),
    ("json_object_field", |_, a| {
        let key = string(&a[1])?;
        pick(&a[0], |n| node_field(n, key), node_json)
    }),
    ("json_object_field_text", |_, a| {
        let key = string(&a[1])?;
        pick(&a[0], |n| node_field(n, key), node_text)
    }),
    ("json_array_element", |_, a| {
        let index = int(&a[1])?;
        pick(&a[0], |n| node_element(n, index), node_json)
    }),
    ("json_array_element_text", |_, a| {
        let index = int(&a[1])?;
        pick(&a[0], |n| node_element(n, index), node_text)
    }),
    ("json_extract_path", |_, a| {
        let path = texts(&a[1])?;
        pick(&a[0], |n| walk_node(n, &path), node_json)
    }),
    ("json_extract_path_text", |_, a| {
        let path = texts(&a[1])?;
        pick(&a[0], |n| walk_node(n, &path), node_text)
    }),
    // `value[subscript]`: an integer or a text per step.
    ("jsonb_subscript_handler", |_, a| subscripted(a)),
];

fn subscripted(a: &[Datum]) -> Result<Datum> {
    let steps: Vec<Option<String>> = a[1..]
        .iter()
        .map(|d| match d {
            Datum::Text(s) => Some(s.to_string()),
            other => other.as_i64().map(|i| i.to_string()),
        })
        .collect();
    let steps: Vec<Option<&str>> = steps.iter().map(Option::as_deref).collect();
    Ok(part(walk(bytes(&a[0])?, &steps)))
}

fn order(a: &[Datum]) -> Result<Ordering> {
    Ok(jsonb::compare(view(&a[0])?, view(&a[1])?))
}

/// Comparison, containment, length and type.
pub(crate) const TESTS: &[(&str, Kernel)] = &[
    ("jsonb_eq", |_, a| Ok(Datum::Bool(order(a)?.is_eq()))),
    ("jsonb_ne", |_, a| Ok(Datum::Bool(order(a)?.is_ne()))),
    ("jsonb_lt", |_, a| Ok(Datum::Bool(order(a)?.is_lt()))),
    ("jsonb_le", |_, a| Ok(Datum::Bool(order(a)?.is_le()))),
    ("jsonb_gt", |_, a| Ok(Datum::Bool(order(a)?.is_gt()))),
    ("jsonb_ge", |_, a| Ok(Datum::Bool(order(a)?.is_ge()))),
    ("jsonb_cmp", |_, a| Ok(Datum::Int4(order(a)? as i32))),
    ("jsonb_contains", |_, a| Ok(Datum::Bool(contains::contains(view(&a[0])?, view(&a[1])?)))),
    ("jsonb_contained", |_, a| Ok(Datum::Bool(contains::contains(view(&a[1])?, view(&a[0])?)))),
    ("jsonb_exists", |_, a| Ok(Datum::Bool(contains::exists(view(&a[0])?, string(&a[1])?)))),
    ("jsonb_exists_any", |_, a| {
        let (v, keys) = (view(&a[0])?, texts(&a[1])?);
        Ok(Datum::Bool(keys.iter().flatten().any(|k| contains::exists(v, k))))
    }),
    ("jsonb_exists_all", |_, a| {
        let (v, keys) = (view(&a[0])?, texts(&a[1])?);
        Ok(Datum::Bool(keys.iter().flatten().all(|k| contains::exists(v, k))))
    }),
    ("jsonb_typeof", |_, a| Ok(Datum::text(view(&a[0])?.type_name()))),
    ("json_typeof", |_, a| {
        let node = jsonb::parse::parse(string(&a[0])?, false)?;
        Ok(Datum::text(match node.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "boolean",
            Kind::Number => "number",
            Kind::String(_) => "string",
            Kind::Array(_) => "array",
            Kind::Object(_) => "object",
        }))
    }),
    ("jsonb_array_length", |_, a| match view(&a[0])? {
        Ref::Array(items) => Ok(Datum::Int4(items.len() as i32)),
        Ref::Object(_) => Err(invalid("cannot get array length of a non-array")),
        _ => Err(invalid("cannot get array length of a scalar")),
    }),
    ("json_array_length", |_, a| match jsonb::parse::parse(string(&a[0])?, false)?.kind {
        Kind::Array(items) => Ok(Datum::Int4(items.len() as i32)),
        Kind::Object(_) => Err(invalid("cannot get array length of a non-array")),
        _ => Err(invalid("cannot get array length of a scalar")),
    }),
];

/// Input, output and casts.
pub(crate) const CASTS: &[(&str, Kernel)] = &[
    ("json_in", |_, a| {
        jsonb::json_check(string(&a[0])?)?;
        Ok(a[0].clone())
    }),
    ("json_out", |_, a| Ok(a[0].clone())),
    ("jsonb_in", |_, a| Ok(Datum::Jsonb(jsonb::jsonb_in(string(&a[0])?)?))),
    ("jsonb_out", |_, a| Ok(Datum::text(jsonb::to_text(bytes(&a[0])?)))),
    ("jsonb_pretty", |_, a| {
        let mut out = Vec::new();
        text::pretty(&mut out, view(&a[0])?, 0);
        Ok(Datum::text(text::into_string(out)))
    }),
    ("jsonb_bool", |_, a| match view(&a[0])? {
        Ref::Bool(b) => Ok(Datum::Bool(b)),
        other => Err(cannot_cast(other, "boolean")),
    }),
    ("jsonb_numeric", |_, a| match view(&a[0])? {
        Ref::Number(n) => Ok(Datum::Numeric(n.get())),
        other => Err(cannot_cast(other, "numeric")),
    }),
    ("jsonb_int2", |c, a| number(c, &a[0], "smallint", "numeric_int2")),
    ("jsonb_int4", |c, a| number(c, &a[0], "integer", "numeric_int4")),
    ("jsonb_int8", |c, a| number(c, &a[0], "bigint", "numeric_int8")),
    ("jsonb_float4", |c, a| number(c, &a[0], "real", "numeric_float4")),
    ("jsonb_float8", |c, a| number(c, &a[0], "double precision", "numeric_float8")),
];

fn cannot_cast(v: Ref<'_>, type_name: &str) -> PgError {
    let article = match v {
        Ref::Null => "null",
        Ref::Bool(_) => "boolean",
        Ref::Number(_) => "numeric",
        Ref::String(_) => "string",
        Ref::Array(_) => "array",
        Ref::Object(_) => "object",
    };
    invalid(format!("cannot cast jsonb {article} to type {type_name}"))
}

/// A number by way of the cast of `numeric` to the type.
fn number(call: &CallInfo<'_>, d: &Datum, type_name: &str, cast: &str) -> Result<Datum> {
    let Ref::Number(n) = view(d)? else { return Err(cannot_cast(view(d)?, type_name)) };
    let kernel = crate::registry::scalar(cast)
        .ok_or_else(|| PgError::unsupported(format!("{cast} is not supported yet")))?;
    kernel(call, &[Datum::Numeric(n.get())])
}
