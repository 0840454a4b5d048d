//! Assignment to parts of a value: `SET a[1] = x`, `SET a[2:3] = x`, `SET j['k'] = x`.
//!
//! PostgreSQL has no functions for these. The binder writes an assignment to a part as a call of one
//! of these kernels, with the old value of the column as its first argument.

use std::sync::Arc;

use super::call::mismatch;
use crate::builtin::array_element;
use crate::jsonb::{self, edit};
use crate::{ArrayValue, CallInfo, Datum, Kernel, PgError, Result, SqlState};

fn no_null() -> PgError {
    let text = "array subscript in assignment must not be null";
    PgError::new(SqlState::NULL_VALUE_NOT_ALLOWED, text)
}

fn subscripts(args: &[Datum]) -> Result<Vec<i32>> {
    let one = |d: &Datum| d.as_i64().and_then(|v| i32::try_from(v).ok()).ok_or_else(no_null);
    args.iter().map(one).collect()
}

/// The array to change; a new one when the column is NULL.
fn array(call: &CallInfo<'_>, value: &Datum) -> Result<ArrayValue> {
    match value {
        Datum::Null => {
            Ok(ArrayValue::from_elements(array_element(call.ret.oid).unwrap_or(0), vec![]))
        }
        Datum::Array(array) => Ok(ArrayValue::clone(array)),
        other => Err(mismatch(std::slice::from_ref(other))),
    }
}

/// (array, value, subscript, …)
fn element(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [base, value, indexes @ ..] = args else { return Err(mismatch(args)) };
    let changed = array(call, base)?.with_element(&subscripts(indexes)?, value.clone())?;
    Ok(Datum::Array(Arc::new(changed)))
}

/// (array, value, bounds given, lower, upper, …): a bit of the third argument tells of each bound
/// whether it was written.
fn slice(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [base, value, given, bounds @ ..] = args else { return Err(mismatch(args)) };
    let given = given.as_i64().unwrap_or(0);
    let mut pairs = Vec::with_capacity(bounds.len() / 2);
    for (i, pair) in bounds.chunks(2).enumerate() {
        let bound = |at: usize| match given >> (2 * i + at) & 1 {
            1 => subscripts(&pair[at..=at]).map(|s| Some(s[0])),
            _ => Ok(None),
        };
        pairs.push((bound(0)?, bound(1)?));
    }
    let Datum::Array(value) = value else { return Ok(base.clone()) };
    let changed = array(call, base)?.with_slice(&pairs, value)?;
    Ok(Datum::Array(Arc::new(changed)))
}

/// (jsonb, value, key, …)
fn member(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [base, value, keys @ ..] = args else { return Err(mismatch(args)) };
    let mut path = Vec::with_capacity(keys.len());
    for key in keys {
        path.push(match key {
            Datum::Text(s) => s.to_string(),
            Datum::Null => {
                let text = "jsonb subscript in assignment must not be null";
                return Err(PgError::new(SqlState::NULL_VALUE_NOT_ALLOWED, text));
            }
            other => other.as_i64().unwrap_or(0).to_string(),
        });
    }
    let read = |d: &Datum| match d {
        Datum::Null => Ok(jsonb::Value::Null),
        Datum::Jsonb(bytes) => Ok(jsonb::Value::of(jsonb::Ref::new(bytes))),
        other => Err(mismatch(std::slice::from_ref(other))),
    };
    let base = match (base, keys.first()) {
        (Datum::Null, Some(Datum::Text(_))) => jsonb::Value::object(vec![]),
        (Datum::Null, _) => jsonb::Value::Array(vec![]),
        (base, _) => read(base)?,
    };
    Ok(Datum::Jsonb(edit::assign(base, &path, read(value)?)?.to_bytes()?))
}

/// By names that PostgreSQL does not have.
pub(crate) const KERNELS: &[(&str, Kernel)] =
    &[("assign_element", element), ("assign_slice", slice), ("assign_member", member)];
