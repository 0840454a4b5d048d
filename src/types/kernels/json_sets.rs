//! Functions that return the parts of a JSON value as rows.

use std::sync::Arc;

use super::json_access::{as_text, invalid, node_json, node_text, string, view};
use crate::jsonb::{Kind, Node, Ref, parse};
use crate::registry::SetKernel;
use crate::{Datum, Result};

/// Rows.
pub(crate) const SETS: &[(&str, SetKernel)] = &[
    ("jsonb_array_elements", |_, a| elements(&a[0], json_of)),
    ("jsonb_array_elements_text", |_, a| elements(&a[0], text_of)),
    ("jsonb_each", |_, a| each(&a[0], "jsonb_each", json_of)),
    ("jsonb_each_text", |_, a| each(&a[0], "jsonb_each_text", text_of)),
    ("jsonb_object_keys", |_, a| match view(&a[0])? {
        Ref::Object(o) => Ok(o.iter().map(|(k, _)| Datum::text(k)).collect()),
        Ref::Array(_) => Err(invalid("cannot call jsonb_object_keys on an array")),
        _ => Err(invalid("cannot call jsonb_object_keys on a scalar")),
    }),
    ("json_array_elements", |_, a| node_elements(&a[0], "json_array_elements", node_json)),
    ("json_array_elements_text", |_, a| {
        node_elements(&a[0], "json_array_elements_text", node_text)
    }),
    ("json_each", |_, a| node_each(&a[0], node_json)),
    ("json_each_text", |_, a| node_each(&a[0], node_text)),
    ("json_object_keys", |_, a| match parse::parse(string(&a[0])?, true)?.kind {
        Kind::Object(pairs) => Ok(pairs.iter().map(|(k, _)| Datum::text(k)).collect()),
        Kind::Array(_) => Err(invalid("cannot call json_object_keys on an array")),
        _ => Err(invalid("cannot call json_object_keys on a scalar")),
    }),
];

fn json_of(bytes: &[u8]) -> Datum {
    Datum::Jsonb(bytes::Bytes::copy_from_slice(bytes))
}

fn text_of(bytes: &[u8]) -> Datum {
    as_text(Ref::new(bytes))
}

fn elements(d: &Datum, give: fn(&[u8]) -> Datum) -> Result<Vec<Datum>> {
    match view(d)? {
        Ref::Array(a) => Ok((0..a.len()).filter_map(|i| a.bytes(i)).map(give).collect()),
        Ref::Object(_) => Err(invalid("cannot extract elements from an object")),
        _ => Err(invalid("cannot extract elements from a scalar")),
    }
}

fn each(d: &Datum, name: &str, give: fn(&[u8]) -> Datum) -> Result<Vec<Datum>> {
    match view(d)? {
        Ref::Object(o) => Ok((0..o.len())
            .map(|i| Datum::Record(Arc::from([Datum::text(o.key(i)), give(o.bytes(i))])))
            .collect()),
        _ => Err(invalid(format!("cannot call {name} on a non-object"))),
    }
}

fn node_elements(
    d: &Datum,
    name: &str,
    give: fn(Option<&Node>, &str) -> Datum,
) -> Result<Vec<Datum>> {
    let text = string(d)?;
    match parse::parse(text, true)?.kind {
        Kind::Array(items) => Ok(items.iter().map(|n| give(Some(n), text)).collect()),
        Kind::Object(_) => Err(invalid(format!("cannot call {name} on a non-array"))),
        _ => Err(invalid(format!("cannot call {name} on a scalar"))),
    }
}

fn node_each(d: &Datum, give: fn(Option<&Node>, &str) -> Datum) -> Result<Vec<Datum>> {
    let text = string(d)?;
    match parse::parse(text, true)?.kind {
        Kind::Object(pairs) => Ok(pairs
            .iter()
            .map(|(k, n)| Datum::Record(Arc::from([Datum::text(k), give(Some(n), text)])))
            .collect()),
        Kind::Array(_) => Err(invalid("cannot deconstruct an array as an object")),
        _ => Err(invalid("cannot deconstruct a scalar")),
    }
}
