//! The `jsonb_path_*` functions and the operators `@?` and `@@`.

use super::json_access::{invalid, string, view};
use crate::jsonb::Value;
use crate::jsonb::path::exec::{Stop, run};
use crate::jsonb::path::{Path, parse};
use crate::registry::{Kernel, SetKernel};
use crate::{Datum, PgError, Result, SqlState};

/// Functions.
pub(crate) const KERNELS: &[(&str, Kernel)] = &[
    ("jsonpath_in", |_, a| Ok(Datum::text(parse::parse(string(&a[0])?)?.to_text()))),
    ("jsonpath_out", |_, a| Ok(a[0].clone())),
    ("jsonb_path_exists", |_, a| exists(a, silent(a))),
    ("jsonb_path_exists_tz", |_, a| exists(a, silent(a))),
    ("jsonb_path_exists_opr", |_, a| exists(a, true)),
    ("jsonb_path_match", |_, a| matches(a, silent(a))),
    ("jsonb_path_match_tz", |_, a| matches(a, silent(a))),
    ("jsonb_path_match_opr", |_, a| matches(a, true)),
    ("jsonb_path_query_array", |_, a| array(a)),
    ("jsonb_path_query_array_tz", |_, a| array(a)),
    ("jsonb_path_query_first", |_, a| first(a)),
    ("jsonb_path_query_first_tz", |_, a| first(a)),
];

/// Rows.
pub(crate) const SETS: &[(&str, SetKernel)] =
    &[("jsonb_path_query", |_, a| rows(a)), ("jsonb_path_query_tz", |_, a| rows(a))];

fn silent(a: &[Datum]) -> bool {
    a.get(3).and_then(Datum::as_bool).unwrap_or(false)
}

/// Runs the path; `false` when an error was held back.
fn found(a: &[Datum], silent: bool) -> Result<(Path, Vec<Value>, bool)> {
    let path = parse::parse(string(&a[1])?)?;
    let root = Value::of(view(&a[0])?);
    let variables = match a.get(2) {
        Some(d) => Value::of(view(d)?),
        None => Value::Object(vec![]),
    };
    if !matches!(variables, Value::Object(_)) {
        return Err(invalid("\"vars\" argument is not an object").detail(
            "Jsonpath parameters should be encoded as key-value pairs of \"vars\" object.",
        ));
    }
    let mut items = Vec::new();
    match run(&path, &root, &variables, &mut items) {
        Ok(()) => Ok((path, items, true)),
        Err(Stop::Soft(_)) if silent => Ok((path, items, false)),
        Err(Stop::Soft(e) | Stop::Hard(e)) => Err(e),
    }
}

fn jsonb(v: &Value) -> Result<Datum> {
    v.to_bytes().map(Datum::Jsonb)
}

/// In lax mode the first value answers; errors after it are never met.
fn exists(a: &[Datum], silent: bool) -> Result<Datum> {
    let (path, items, complete) = match found(a, true)? {
        (path, items, false) if !(silent || path.lax && !items.is_empty()) => {
            return found(a, false).map(|_| Datum::Bool(!items.is_empty()));
        }
        result => result,
    };
    Ok(match (complete, items.is_empty()) {
        (true, empty) => Datum::Bool(!empty),
        (false, false) if path.lax => Datum::Bool(true),
        _ => Datum::Null,
    })
}

fn matches(a: &[Datum], silent: bool) -> Result<Datum> {
    let (_, items, _) = found(a, silent)?;
    match items.as_slice() {
        [Value::Bool(b)] => Ok(Datum::Bool(*b)),
        [Value::Null] => Ok(Datum::Null),
        _ if silent => Ok(Datum::Null),
        _ => Err(PgError::new(SqlState::from_code("22038"), "single boolean result is expected")),
    }
}

fn array(a: &[Datum]) -> Result<Datum> {
    jsonb(&Value::Array(found(a, silent(a))?.1))
}

fn first(a: &[Datum]) -> Result<Datum> {
    found(a, silent(a))?.1.first().map_or(Ok(Datum::Null), jsonb)
}

fn rows(a: &[Datum]) -> Result<Vec<Datum>> {
    found(a, silent(a))?.1.iter().map(jsonb).collect()
}
