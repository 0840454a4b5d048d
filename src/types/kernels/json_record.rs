//! Rows from JSON: `json_populate_record`, `json_to_recordset` and their kin.
//!
//! The binder knows the columns; it hands their names, types and modifiers on as three more
//! arguments. A JSON `null` or a missing key gives the field of the base row, or NULL. A value
//! becomes its text and is read by the column's type; `json` and `jsonb` are taken as they are, and
//! JSON arrays become arrays.

use std::sync::Arc;

use super::call::mismatch;
use super::json_access::invalid;
use crate::builtin::array_element;
use crate::jsonb::{self, Kind, Node, parse};
use crate::registry::SetKernel;
use crate::{ArrayValue, CallInfo, Datum, EvalContext, Kernel, PgError, Result, SqlState, oid};

struct Column<'a> {
    name: &'a str,
    type_oid: u32,
    typmod: i32,
}

/// Arguments of any of the functions, taken apart.
struct Request<'a> {
    ctx: &'a EvalContext,
    base: Option<&'a [Datum]>,
    json: Option<String>,
    columns: Vec<Column<'a>>,
}

impl<'a> Request<'a> {
    /// `populate` functions have a base row before the JSON.
    fn of(call: &CallInfo<'a>, args: &'a [Datum], populate: bool) -> Result<Request<'a>> {
        let Some((front, [Datum::Array(names), Datum::Array(types), Datum::Array(typmods)])) =
            args.split_last_chunk()
        else {
            return Err(PgError::unsupported("this use of a row from JSON is not supported yet"));
        };
        let (base, json) = match (populate, front) {
            (true, [Datum::Record(base), json, ..]) => (Some(&base[..]), json),
            (true, [Datum::Null, json, ..]) | (false, [json, ..]) => (None, json),
            _ => return Err(mismatch(args)),
        };
        let json = match json {
            Datum::Text(text) => Some(text.to_string()),
            Datum::Jsonb(bytes) => Some(jsonb::to_text(bytes)),
            _ => None,
        };
        let number = |d: &Datum| d.as_i64().unwrap_or(0);
        let columns = names.elements.iter().zip(&types.elements).zip(&typmods.elements);
        let columns = columns.map(|((name, ty), typmod)| Column {
            name: name.as_str().unwrap_or(""),
            type_oid: number(ty) as u32,
            typmod: number(typmod) as i32,
        });
        Ok(Request { ctx: call.ctx, base, json, columns: columns.collect() })
    }

    fn row(&self, node: &Node, json: &str) -> Result<Datum> {
        let Kind::Object(pairs) = &node.kind else {
            let what = if matches!(node.kind, Kind::Array(_)) { "an array" } else { "a scalar" };
            return Err(invalid(format!("cannot call populate_composite on {what}")));
        };
        let mut fields = Vec::with_capacity(self.columns.len());
        for (i, column) in self.columns.iter().enumerate() {
            let found = pairs.iter().rev().find(|(key, _)| key == column.name);
            fields.push(match found {
                None => self.base.and_then(|b| b.get(i)).cloned().unwrap_or(Datum::Null),
                Some((_, value)) => {
                    field(value, json, column.type_oid, column.typmod, column.name, self.ctx)?
                }
            });
        }
        Ok(Datum::Record(fields.into()))
    }

    fn base_row(&self) -> Datum {
        self.base.map_or(Datum::Null, |fields| Datum::Record(fields.into()))
    }
}

/// A JSON value as a value of a column.
fn field(
    node: &Node,
    json: &str,
    type_oid: u32,
    typmod: i32,
    key: &str,
    ctx: &EvalContext,
) -> Result<Datum> {
    let text = match &node.kind {
        Kind::Null if type_oid != oid::JSON && type_oid != oid::JSONB => return Ok(Datum::Null),
        _ if type_oid == oid::JSON => return Ok(Datum::text(&json[node.span.clone()])),
        _ if type_oid == oid::JSONB => {
            return jsonb::jsonb_in(&json[node.span.clone()]).map(Datum::Jsonb);
        }
        Kind::String(text) => text.as_str(),
        kind => {
            if let Some(element) = array_element(type_oid) {
                let Kind::Array(_) = kind else {
                    return Err(no_array(key));
                };
                let mut dims = Vec::new();
                let mut elements = Vec::new();
                let to = Target { element, typmod, key, json, ctx };
                to.collect(node, 0, &mut dims, &mut elements)?;
                let lower_bounds = vec![1; dims.len()];
                let value = if elements.is_empty() {
                    ArrayValue::from_elements(element, vec![])
                } else {
                    ArrayValue { element_type: element, dims, lower_bounds, elements }
                };
                return Ok(Datum::Array(Arc::new(value)));
            }
            &json[node.span.clone()]
        }
    };
    crate::io::text_in(type_oid, typmod, text, ctx)
}

fn no_array(key: &str) -> PgError {
    PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, "expected JSON array")
        .hint(format!("See the value of key \"{key}\"."))
}

/// The array that JSON arrays are collected into.
struct Target<'a> {
    element: u32,
    typmod: i32,
    key: &'a str,
    json: &'a str,
    ctx: &'a EvalContext,
}

impl Target<'_> {
    /// Elements of nested arrays, row by row; all arrays of one depth have one length. JSON as the
    /// element type takes the first level only.
    fn collect(
        &self,
        node: &Node,
        depth: usize,
        dims: &mut Vec<i32>,
        elements: &mut Vec<Datum>,
    ) -> Result<()> {
        let Kind::Array(items) = &node.kind else { return Err(no_array(self.key)) };
        let len = super::call::len_i32(items.len());
        match dims.get(depth) {
            None => dims.push(len),
            Some(known) if *known == len => {}
            Some(_) => {
                return Err(PgError::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    "malformed JSON array",
                )
                .detail("Multidimensional arrays must have sub-arrays with matching dimensions."));
            }
        }
        let flat = matches!(self.element, oid::JSON | oid::JSONB);
        for item in items {
            if matches!(item.kind, Kind::Array(_)) && !flat {
                self.collect(item, depth + 1, dims, elements)?;
            } else if depth + 1 < dims.len() {
                return Err(no_array(self.key));
            } else {
                let (json, ctx) = (self.json, self.ctx);
                elements.push(field(item, json, self.element, self.typmod, self.key, ctx)?);
            }
        }
        Ok(())
    }
}

fn one(call: &CallInfo<'_>, args: &[Datum], populate: bool) -> Result<Datum> {
    let request = Request::of(call, args, populate)?;
    match &request.json {
        None => Ok(request.base_row()),
        Some(json) => request.row(&parse::parse(json, true)?, json),
    }
}

fn many(call: &CallInfo<'_>, args: &[Datum], name: &str, populate: bool) -> Result<Vec<Datum>> {
    let request = Request::of(call, args, populate)?;
    let Some(json) = &request.json else { return Ok(vec![]) };
    let root = parse::parse(json, true)?;
    let items = match &root.kind {
        Kind::Array(items) => items,
        _ if name.starts_with("jsonb") => {
            return Err(invalid(format!("cannot call {name} on a non-array")));
        }
        Kind::Object(_) => return Err(invalid(format!("cannot call {name} on an object"))),
        _ => return Err(invalid(format!("cannot call {name} on a scalar"))),
    };
    let row = |item: &Node| match &item.kind {
        Kind::Object(_) => request.row(item, json),
        _ => Err(invalid(format!("argument of {name} must be an array of objects"))),
    };
    items.iter().map(row).collect()
}

pub(crate) const KERNELS: &[(&str, Kernel)] = &[
    ("json_populate_record", |c, a| one(c, a, true)),
    ("jsonb_populate_record", |c, a| one(c, a, true)),
    ("json_to_record", |c, a| one(c, a, false)),
    ("jsonb_to_record", |c, a| one(c, a, false)),
];

pub(crate) const SETS: &[(&str, SetKernel)] = &[
    ("json_populate_recordset", |c, a| many(c, a, "json_populate_recordset", true)),
    ("jsonb_populate_recordset", |c, a| many(c, a, "jsonb_populate_recordset", true)),
    ("json_to_recordset", |c, a| many(c, a, "json_to_recordset", false)),
    ("jsonb_to_recordset", |c, a| many(c, a, "jsonb_to_recordset", false)),
];
