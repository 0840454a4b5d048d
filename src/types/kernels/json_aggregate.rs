//! `json_agg`, `json_object_agg` and their `jsonb` twins.

use super::json_value::{Layout, arg_type, key_text, tree, write};
use crate::jsonb::{Value, text};
use crate::registry::{AggregateKernel, AggregateState, CallInfo};
use crate::{Datum, PgError, Result, SqlState};

/// Aggregates.
pub(crate) const KERNELS: &[(&str, AggregateKernel)] = &[
    ("json_agg", |_| Box::new(JsonArray::default())),
    ("json_agg(anyelement)", |_| Box::new(JsonArray::default())),
    ("jsonb_agg", |_| Box::new(JsonbArray::default())),
    ("jsonb_agg(anyelement)", |_| Box::new(JsonbArray::default())),
    ("json_object_agg", |_| Box::new(JsonObject::default())),
    ("json_object_agg(any,any)", |_| Box::new(JsonObject::default())),
    ("jsonb_object_agg", |_| Box::new(JsonbObject::default())),
    ("jsonb_object_agg(any,any)", |_| Box::new(JsonbObject::default())),
];

#[derive(Debug, Default)]
struct JsonArray {
    out: Vec<u8>,
}

impl AggregateState for JsonArray {
    fn update(&mut self, call: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let first = self.out.is_empty();
        self.out.extend_from_slice(if first { b"[" } else { b", " });
        // Rows and arrays begin on a line of their own.
        if !first && matches!(args[0], Datum::Array(_) | Datum::Record(_)) {
            self.out.extend_from_slice(b"\n ");
        }
        write(&mut self.out, &args[0], arg_type(call, 0, &args[0]), call.ctx, Layout::Compact)
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        if self.out.is_empty() {
            return Ok(Datum::Null);
        }
        let mut out = self.out.clone();
        out.push(b']');
        Ok(Datum::text(text::into_string(out)))
    }

    fn size(&self) -> usize {
        64 + self.out.capacity()
    }
}

#[derive(Debug, Default)]
struct JsonbArray {
    items: Option<Vec<Value>>,
}

impl AggregateState for JsonbArray {
    fn update(&mut self, call: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let item = tree(&args[0], arg_type(call, 0, &args[0]), call.ctx)?;
        self.items.get_or_insert_default().push(item);
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        let Some(items) = &self.items else { return Ok(Datum::Null) };
        Value::Array(items.clone()).to_bytes().map(Datum::Jsonb)
    }

    fn size(&self) -> usize {
        64 + self.items.as_ref().map_or(0, |i| i.len() * 64)
    }
}

#[derive(Debug, Default)]
struct JsonObject {
    out: Vec<u8>,
}

impl AggregateState for JsonObject {
    fn update(&mut self, call: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        self.out.extend_from_slice(if self.out.is_empty() { b"{ " } else { b", " });
        if args[0].is_null() {
            return Err(PgError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "field name must not be null",
            ));
        }
        let key = key_text(&args[0], arg_type(call, 0, &args[0]), call.ctx)?;
        text::quote(&mut self.out, &key);
        self.out.extend_from_slice(b" : ");
        write(&mut self.out, &args[1], arg_type(call, 1, &args[1]), call.ctx, Layout::Compact)
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        if self.out.is_empty() {
            return Ok(Datum::Null);
        }
        let mut out = self.out.clone();
        out.extend_from_slice(b" }");
        Ok(Datum::text(text::into_string(out)))
    }

    fn size(&self) -> usize {
        64 + self.out.capacity()
    }
}

#[derive(Debug, Default)]
struct JsonbObject {
    pairs: Option<Vec<(String, Value)>>,
}

impl AggregateState for JsonbObject {
    fn update(&mut self, call: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        if args[0].is_null() {
            return Err(PgError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "field name must not be null",
            ));
        }
        let key = key_text(&args[0], arg_type(call, 0, &args[0]), call.ctx)?;
        let value = tree(&args[1], arg_type(call, 1, &args[1]), call.ctx)?;
        self.pairs.get_or_insert_default().push((key, value));
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        let Some(pairs) = &self.pairs else { return Ok(Datum::Null) };
        Value::object(pairs.clone()).to_bytes().map(Datum::Jsonb)
    }

    fn size(&self) -> usize {
        64 + self.pairs.as_ref().map_or(0, |p| p.len() * 96)
    }
}
