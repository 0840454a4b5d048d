//! Functions and operators of arrays.

use std::sync::Arc;

use super::call::{fun, len_i32, mismatch};
use crate::builtin::array_element;
use crate::order::compare;
use crate::registry::SetKernel;
use crate::{ArrayValue, CallInfo, Datum, Kernel, PgError, Result, SqlState};

type Table = &'static [(&'static str, Kernel)];

fn fail(message: &str) -> PgError {
    PgError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message)
}

fn data_exception(message: &str) -> PgError {
    PgError::new(SqlState::from_code("22000"), message)
}

fn no_nulls(message: &str) -> PgError {
    PgError::new(SqlState::NULL_VALUE_NOT_ALLOWED, message)
}

fn array_or_null(datum: &Datum) -> Result<Option<&Arc<ArrayValue>>> {
    match datum {
        Datum::Null => Ok(None),
        Datum::Array(a) => Ok(Some(a)),
        other => Err(mismatch(std::slice::from_ref(other))),
    }
}

/// The element type of the result.
fn result_element(call: &CallInfo<'_>) -> u32 {
    array_element(call.ret.oid).unwrap_or(0)
}

fn extend(call: &CallInfo<'_>, array: &Datum, value: &Datum, front: bool) -> Result<Datum> {
    let mut out = match array_or_null(array)? {
        Some(a) if a.dims.len() <= 1 => (**a).clone(),
        Some(_) => return Err(data_exception("argument must be empty or one-dimensional array")),
        None => ArrayValue::from_elements(result_element(call), vec![]),
    };
    if out.dims.is_empty() {
        (out.dims, out.lower_bounds) = (vec![0], vec![1]);
    }
    out.dims[0] += 1;
    if front {
        out.elements.insert(0, value.clone());
    } else {
        out.elements.push(value.clone());
    }
    Ok(Datum::Array(Arc::new(out)))
}

fn append(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [array, value] = args else { return Err(mismatch(args)) };
    extend(call, array, value, false)
}

fn prepend(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [value, array] = args else { return Err(mismatch(args)) };
    extend(call, array, value, true)
}

fn incompatible(detail: impl Into<String>) -> PgError {
    fail("cannot concatenate incompatible arrays").detail(detail)
}

fn cat(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [a, b] = args else { return Err(mismatch(args)) };
    let (Some(x), Some(y)) = (array_or_null(a)?, array_or_null(b)?) else {
        return Ok(if a.is_null() { b.clone() } else { a.clone() });
    };
    if x.dims.is_empty() || y.dims.is_empty() {
        return Ok(if x.dims.is_empty() { b.clone() } else { a.clone() });
    }
    let (m, n) = (x.dims.len(), y.dims.len());
    let (dims, lower_bounds) = if m == n {
        if x.dims[1..] != y.dims[1..] || x.lower_bounds[1..] != y.lower_bounds[1..] {
            return Err(incompatible(
                "Arrays with differing element dimensions are not compatible for concatenation.",
            ));
        }
        let mut dims = x.dims.clone();
        dims[0] += y.dims[0];
        (dims, x.lower_bounds.clone())
    } else if m.abs_diff(n) == 1 {
        let (outer, inner) = if m > n { (x, y) } else { (y, x) };
        if outer.dims[1..] != inner.dims || outer.lower_bounds[1..] != inner.lower_bounds {
            return Err(incompatible(
                "Arrays with differing dimensions are not compatible for concatenation.",
            ));
        }
        let mut dims = outer.dims.clone();
        dims[0] += 1;
        (dims, outer.lower_bounds.clone())
    } else {
        return Err(incompatible(format!(
            "Arrays of {m} and {n} dimensions are not compatible for concatenation."
        )));
    };
    let elements = x.elements.iter().chain(&y.elements).cloned().collect();
    let element_type = x.element_type;
    Ok(Datum::Array(Arc::new(ArrayValue { element_type, dims, lower_bounds, elements })))
}

fn dims_text(a: &ArrayValue) -> Option<String> {
    (!a.dims.is_empty()).then(|| {
        (0..a.dims.len()).map(|i| format!("[{}:{}]", a.lower_bounds[i], a.upper_bound(i))).collect()
    })
}

/// A one-based dimension of an array that has it.
fn dimension(a: &ArrayValue, n: i32) -> Option<usize> {
    usize::try_from(n.checked_sub(1)?).ok().filter(|&i| i < a.dims.len())
}

const SHAPE: Table = &[
    ("array_ndims", fun!(|a: &Arc<ArrayValue>| { Some(len_i32(a.dims.len())).filter(|&n| n > 0) })),
    ("array_dims", fun!(|a: &Arc<ArrayValue>| dims_text(a))),
    ("array_lower", fun!(|a: &Arc<ArrayValue>, n: i32| dimension(a, n).map(|i| a.lower_bounds[i]))),
    ("array_upper", fun!(|a: &Arc<ArrayValue>, n: i32| dimension(a, n).map(|i| a.upper_bound(i)))),
    ("array_length", fun!(|a: &Arc<ArrayValue>, n: i32| dimension(a, n).map(|i| a.dims[i]))),
    ("array_cardinality", fun!(|a: &Arc<ArrayValue>| len_i32(a.elements.len()))),
];

/// Equality in which NULL equals NULL.
fn same(element: u32, a: &Datum, b: &Datum) -> bool {
    compare(element, a, b).is_eq()
}

fn one_dimensional(a: &ArrayValue, what: &str) -> Result<()> {
    if a.dims.len() > 1 {
        return Err(PgError::unsupported(format!(
            "{what} multidimensional arrays is not supported"
        )));
    }
    Ok(())
}

fn position(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [array, value, rest @ ..] = args else { return Err(mismatch(args)) };
    let Some(a) = array_or_null(array)? else { return Ok(Datum::Null) };
    one_dimensional(a, "searching for elements in")?;
    if a.elements.is_empty() || (value.is_null() && !a.elements.iter().any(Datum::is_null)) {
        return Ok(Datum::Null);
    }
    let low = a.lower_bounds.first().copied().unwrap_or(1);
    let start = match rest.first() {
        Some(Datum::Null) => return Err(no_nulls("initial position must not be null")),
        Some(Datum::Int4(start)) => {
            usize::try_from(i64::from(*start) - i64::from(low)).unwrap_or(0)
        }
        _ => 0,
    };
    let found = a.elements.iter().skip(start).position(|e| same(a.element_type, e, value));
    Ok(found.map_or(Datum::Null, |i| Datum::Int4(low + len_i32(start + i))))
}

fn positions(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [array, value] = args else { return Err(mismatch(args)) };
    let Some(a) = array_or_null(array)? else { return Ok(Datum::Null) };
    one_dimensional(a, "searching for elements in")?;
    let low = a.lower_bounds.first().copied().unwrap_or(1);
    let found = a
        .elements
        .iter()
        .enumerate()
        .filter(|(_, e)| same(a.element_type, e, value))
        .map(|(i, _)| Datum::Int4(low + len_i32(i)))
        .collect();
    Ok(Datum::Array(Arc::new(ArrayValue::from_elements(crate::oid::INT4, found))))
}

fn remove(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [array, value] = args else { return Err(mismatch(args)) };
    let Some(a) = array_or_null(array)? else { return Ok(Datum::Null) };
    one_dimensional(a, "removing elements from")?;
    let kept: Vec<Datum> =
        a.elements.iter().filter(|e| !same(a.element_type, e, value)).cloned().collect();
    let mut out = ArrayValue::from_elements(a.element_type, kept);
    if !out.dims.is_empty() {
        out.lower_bounds.clone_from(&a.lower_bounds);
    }
    Ok(Datum::Array(Arc::new(out)))
}

fn replace(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [array, from, to] = args else { return Err(mismatch(args)) };
    let Some(a) = array_or_null(array)? else { return Ok(Datum::Null) };
    let elements = a
        .elements
        .iter()
        .map(|e| if same(a.element_type, e, from) { to.clone() } else { e.clone() })
        .collect();
    Ok(Datum::Array(Arc::new(ArrayValue { elements, ..(**a).clone() })))
}

fn integers(datum: &Datum) -> Result<Vec<i32>> {
    let Some(a) = array_or_null(datum)? else {
        return Err(no_nulls("dimension array or low bound array cannot be null"));
    };
    if a.dims.len() > 1 {
        return Err(fail("wrong number of array subscripts")
            .detail("Dimension array must be one dimensional."));
    }
    a.elements
        .iter()
        .map(|e| match e {
            Datum::Int4(v) => Ok(*v),
            _ => Err(no_nulls("dimension values cannot be null")),
        })
        .collect()
}

fn fill(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [value, dims, rest @ ..] = args else { return Err(mismatch(args)) };
    if dims.is_null() || rest.iter().any(Datum::is_null) {
        return Err(PgError::new(
            SqlState::NULL_VALUE_NOT_ALLOWED,
            "dimension array or low bound array cannot be null",
        ));
    }
    let dims = integers(dims)?;
    let lower_bounds = match rest.first() {
        Some(bounds) => integers(bounds)?,
        None => vec![1; dims.len()],
    };
    if lower_bounds.len() != dims.len() {
        return Err(fail("wrong number of array subscripts")
            .detail("Low bound array has different size than dimensions array."));
    }
    if dims.len() > crate::io::array::MAX_DIMENSIONS {
        return Err(crate::io::array::too_many_dimensions(dims.len()));
    }
    let mut count = 1usize;
    for &d in &dims {
        let len = usize::try_from(d).ok().and_then(|d| count.checked_mul(d));
        count = len.filter(|&n| n <= 134_217_727).ok_or_else(|| {
            PgError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "array size exceeds the maximum allowed (134217727)",
            )
        })?;
    }
    let beyond = |(d, low): (&i32, &i32)| d.checked_add(*low).is_none().then_some(*low);
    if let Some(low) = dims.iter().zip(&lower_bounds).find_map(beyond) {
        let text = format!("array lower bound is too large: {low}");
        return Err(PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, text));
    }
    let element_type = result_element(call);
    if dims.is_empty() || count == 0 {
        return Ok(Datum::Array(Arc::new(ArrayValue::from_elements(element_type, vec![]))));
    }
    let elements = vec![value.clone(); count];
    Ok(Datum::Array(Arc::new(ArrayValue { element_type, dims, lower_bounds, elements })))
}

fn trim(a: &ArrayValue, n: i32) -> Result<ArrayValue> {
    let len = a.dims.first().copied().unwrap_or(0);
    if !(0..=len).contains(&n) {
        return Err(fail(&format!("number of elements to trim must be between 0 and {len}")));
    }
    if a.dims.is_empty() {
        return Ok(a.clone());
    }
    Ok(a.slice(&[(None, Some(a.upper_bound(0) - n))]))
}

fn holds(a: &ArrayValue, value: &Datum) -> bool {
    !value.is_null() && a.elements.iter().any(|e| !e.is_null() && same(a.element_type, e, value))
}

fn same_types(a: &ArrayValue, b: &ArrayValue) -> Result<()> {
    if a.element_type == b.element_type {
        return Ok(());
    }
    Err(PgError::new(
        SqlState::DATATYPE_MISMATCH,
        "cannot compare arrays of different element types",
    ))
}

fn contains(a: &ArrayValue, b: &ArrayValue) -> Result<bool> {
    same_types(a, b)?;
    Ok(b.elements.iter().all(|e| holds(a, e)))
}

fn overlaps(a: &ArrayValue, b: &ArrayValue) -> Result<bool> {
    same_types(a, b)?;
    Ok(b.elements.iter().any(|e| holds(a, e)))
}

fn width_bucket(value: &Datum, thresholds: &ArrayValue) -> Result<i32> {
    if thresholds.dims.len() > 1 {
        return Err(fail("thresholds must be one-dimensional array"));
    }
    if thresholds.elements.iter().any(Datum::is_null) {
        return Err(no_nulls("thresholds array must not contain NULLs"));
    }
    let below = |t: &Datum| compare(thresholds.element_type, t, value).is_le();
    Ok(len_i32(thresholds.elements.partition_point(below)))
}

const CONTENTS: Table = &[
    ("array_append", append),
    ("array_prepend", prepend),
    ("array_cat", cat),
    ("array_position", position),
    ("array_position_start", position),
    ("array_positions", positions),
    ("array_remove", remove),
    ("array_replace", replace),
    ("array_fill", fill),
    ("array_fill_with_lower_bounds", fill),
    ("trim_array", fun!(|a: &Arc<ArrayValue>, n: i32| trim(a, n))),
    ("arraycontains", fun!(|a: &Arc<ArrayValue>, b: &Arc<ArrayValue>| contains(a, b))),
    ("arraycontained", fun!(|a: &Arc<ArrayValue>, b: &Arc<ArrayValue>| contains(b, a))),
    ("arrayoverlap", fun!(|a: &Arc<ArrayValue>, b: &Arc<ArrayValue>| overlaps(a, b))),
    ("width_bucket_array", fun!(|v: &Datum, t: &Arc<ArrayValue>| width_bucket(v, t))),
];

pub(crate) const TABLES: &[Table] = &[SHAPE, CONTENTS];

fn unnest(_: &CallInfo<'_>, args: &[Datum]) -> Result<Vec<Datum>> {
    match args {
        [Datum::Array(a)] => Ok(a.elements.clone()),
        [Datum::Null] => Ok(Vec::new()),
        _ => Err(mismatch(args)),
    }
}

/// The elements with their places from 1.
fn expand(_: &CallInfo<'_>, args: &[Datum]) -> Result<Vec<Datum>> {
    let [Datum::Array(a)] = args else { return Err(mismatch(args)) };
    let places = a.elements.iter().zip(1..);
    Ok(places.map(|(x, n)| Datum::Record([x.clone(), Datum::Int4(n)].into())).collect())
}

fn subscripts(_: &CallInfo<'_>, args: &[Datum]) -> Result<Vec<Datum>> {
    let [Datum::Array(a), Datum::Int4(n), rest @ ..] = args else { return Err(mismatch(args)) };
    let Some(i) = dimension(a, *n) else { return Ok(Vec::new()) };
    let range = a.lower_bounds[i]..=a.upper_bound(i);
    Ok(match rest.first() {
        Some(Datum::Bool(true)) => range.rev().map(Datum::Int4).collect(),
        _ => range.map(Datum::Int4).collect(),
    })
}

pub(crate) const SETS: &[(&str, SetKernel)] = &[
    ("array_unnest", unnest),
    ("_pg_expandarray", expand),
    ("generate_subscripts", subscripts),
    ("generate_subscripts_nodir", subscripts),
];
