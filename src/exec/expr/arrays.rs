//! Array constructors, subscripts and element-wise coercion.

use std::sync::Arc;

use meridian_types::{ArrayValue, CallInfo, Datum, PgError, PgType, Result, oid, registry};

use super::{Eval, RowInput};
use crate::shared::Cx;
use crate::values;

/// ARRAY[…] of `ty`, whose elements are arrays themselves when `nested`.
pub(crate) fn construct(values: Vec<Datum>, nested: bool, ty: PgType) -> Result<Datum> {
    let element_type = values::element_type(ty.oid);
    if !nested {
        return Ok(Datum::Array(Arc::new(ArrayValue::from_elements(element_type, values))));
    }
    Ok(Datum::Array(Arc::new(ArrayValue::nested(element_type, &values)?)))
}

/// ARRAY(SELECT …): `ty` is the type of the sub-query's column.
pub(crate) fn from_rows(values: Vec<Datum>, ty: PgType) -> Result<Datum> {
    if values.iter().any(|v| matches!(v, Datum::Array(_))) {
        let stacked = ArrayValue::stacked(values::element_type(ty.oid), &values, |v| match v {
            Datum::Null => "cannot accumulate null arrays",
            Datum::Array(a) if a.dims.is_empty() => "cannot accumulate empty arrays",
            _ => "cannot accumulate arrays of different dimensionality",
        })?;
        return Ok(Datum::Array(Arc::new(stacked)));
    }
    Ok(Datum::Array(Arc::new(ArrayValue::from_elements(ty.oid, values))))
}

type Bound = (Option<Datum>, Option<Datum>);

/// `base[…]`: an index, a slice, or a jsonb path.
pub(crate) fn subscript(base: &Datum, bounds: &[Bound], slice: bool, cx: &Cx) -> Result<Datum> {
    match base {
        Datum::Array(array) if slice => Ok(slice_of(array, bounds)),
        Datum::Array(array) => Ok(element(array, bounds)),
        Datum::Jsonb(_) => jsonb_path(base, bounds, cx),
        _ => Err(PgError::unsupported("subscripting this type is not supported yet")),
    }
}

fn element(array: &ArrayValue, bounds: &[Bound]) -> Datum {
    if bounds.len() != array.dims.len() {
        return Datum::Null;
    }
    let mut offset = 0_i64;
    for (i, (_, upper)) in bounds.iter().enumerate() {
        let Some(index) = upper.as_ref().and_then(Datum::as_i64) else { return Datum::Null };
        let at = index - i64::from(array.lower_bounds[i]);
        if at < 0 || at >= i64::from(array.dims[i]) {
            return Datum::Null;
        }
        offset = offset * i64::from(array.dims[i]) + at;
    }
    usize::try_from(offset).ok().and_then(|o| array.elements.get(o)).cloned().unwrap_or(Datum::Null)
}

fn slice_of(array: &ArrayValue, bounds: &[Bound]) -> Datum {
    let null = |bound: &Option<Datum>| matches!(bound, Some(Datum::Null));
    if bounds.iter().any(|(lower, upper)| null(lower) || null(upper)) {
        return Datum::Null;
    }
    let end = |bound: &Option<Datum>| match bound {
        Some(Datum::Int4(end)) => Some(*end),
        _ => None,
    };
    let bounds: Vec<_> = bounds.iter().map(|(lower, upper)| (end(lower), end(upper))).collect();
    Datum::Array(Arc::new(array.slice(&bounds)))
}

fn jsonb_path(base: &Datum, bounds: &[Bound], cx: &Cx) -> Result<Datum> {
    let mut path = Vec::with_capacity(bounds.len());
    for (_, index) in bounds {
        match index {
            Some(Datum::Text(s)) => path.push(Datum::Text(s.clone())),
            Some(other) => match other.as_i64() {
                Some(i) => path.push(Datum::text(i.to_string())),
                None => return Ok(Datum::Null),
            },
            None => return Ok(Datum::Null),
        }
    }
    let kernel = registry::scalar("jsonb_extract_path")
        .ok_or_else(|| PgError::unsupported("subscripting jsonb is not supported yet"))?;
    let types = [PgType::new(oid::JSONB), PgType::new(oid::TEXT_ARRAY)];
    let path = Datum::Array(Arc::new(ArrayValue::from_elements(oid::TEXT, path)));
    let info = CallInfo { ctx: cx.eval, args: &types, ret: PgType::new(oid::JSONB) };
    kernel(&info, &[base.clone(), path])
}

/// Converts every element by `element`, whose input is local 0.
pub(crate) fn coerce(
    value: &Datum,
    element: &Eval,
    ty: PgType,
    row: &dyn RowInput,
    cx: &Cx,
) -> Result<Datum> {
    let Datum::Array(array) = value else { return Ok(Datum::Null) };
    let mut elements = Vec::with_capacity(array.elements.len());
    for value in &array.elements {
        elements.push(element.row(row, &cx.with_locals(std::slice::from_ref(value)))?);
    }
    Ok(Datum::Array(Arc::new(ArrayValue {
        element_type: values::element_type(ty.oid),
        dims: array.dims.clone(),
        lower_bounds: array.lower_bounds.clone(),
        elements,
    })))
}
