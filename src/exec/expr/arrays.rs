//! Array constructors, subscripts and element-wise coercion.

use std::sync::Arc;

use meridian_types::{
    ArrayValue, CallInfo, Datum, PgError, PgType, Result, SqlState, oid, registry,
};

use super::{Eval, RowInput};
use crate::shared::Cx;
use crate::values;

/// ARRAY[…] of `ty`, whose elements are arrays themselves when `nested`.
pub(crate) fn construct(values: Vec<Datum>, nested: bool, ty: PgType) -> Result<Datum> {
    let element_type = values::element_type(ty.oid);
    if !nested {
        return Ok(Datum::Array(Arc::new(ArrayValue::from_elements(element_type, values))));
    }
    stack(&values, element_type, |_| MISMATCH)
}

const MISMATCH: &str =
    "multidimensional arrays must have array expressions with matching dimensions";

/// ARRAY(SELECT …): `ty` is the type of the sub-query's column.
pub(crate) fn from_rows(values: Vec<Datum>, ty: PgType) -> Result<Datum> {
    if values.iter().any(|v| matches!(v, Datum::Array(_))) {
        return stack(&values, values::element_type(ty.oid), |value| match value {
            Datum::Null => "cannot accumulate null arrays",
            Datum::Array(a) if a.dims.is_empty() => "cannot accumulate empty arrays",
            _ => "cannot accumulate arrays of different dimensionality",
        });
    }
    Ok(Datum::Array(Arc::new(ArrayValue::from_elements(ty.oid, values))))
}

/// Arrays of one shape as one array; `refusal` words the error for one that does not fit. NULLs and
/// empty arrays are left out when there is nothing else.
fn stack(
    values: &[Datum],
    element_type: u32,
    refusal: fn(&Datum) -> &'static str,
) -> Result<Datum> {
    let unfit = |value| Err(PgError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, refusal(value)));
    let mut shape: Option<(Vec<i32>, Vec<i32>)> = None;
    let mut elements = Vec::new();
    let mut count = 0_i32;
    let empty = |v: &&Datum| !matches!(v, Datum::Array(a) if !a.dims.is_empty());
    for value in values {
        let Datum::Array(array) = value else { continue };
        match &shape {
            _ if array.dims.is_empty() => continue,
            None => shape = Some((array.dims.clone(), array.lower_bounds.clone())),
            Some((dims, _)) if *dims != array.dims => return unfit(value),
            Some(_) => {}
        }
        elements.extend(array.elements.iter().cloned());
        count += 1;
    }
    if let (Some(_), Some(value)) = (&shape, values.iter().find(empty)) {
        return unfit(value);
    }
    let (mut dims, mut lower_bounds) = (vec![], vec![]);
    if let Some((inner, lower)) = shape {
        dims.push(count);
        dims.extend(inner);
        lower_bounds.push(1);
        lower_bounds.extend(lower);
    }
    Ok(Datum::Array(Arc::new(ArrayValue { element_type, dims, lower_bounds, elements })))
}

type Bound = (Option<Datum>, Option<Datum>);

/// `base[…]`: an index, a slice, or a jsonb path.
pub(crate) fn subscript(base: &Datum, bounds: &[Bound], slice: bool, cx: &Cx) -> Result<Datum> {
    match base {
        Datum::Array(array) if slice => slice_of(array, bounds),
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

fn slice_of(array: &ArrayValue, bounds: &[Bound]) -> Result<Datum> {
    let null = |bound: &Option<Datum>| matches!(bound, Some(Datum::Null));
    if bounds.iter().any(|(lower, upper)| null(lower) || null(upper)) {
        return Ok(Datum::Null);
    }
    let empty = || Datum::Array(Arc::new(ArrayValue::from_elements(array.element_type, vec![])));
    if bounds.len() > array.dims.len() || array.dims.is_empty() {
        return Ok(empty());
    }
    let mut ranges = Vec::with_capacity(array.dims.len());
    for (i, (dim, first)) in array.dims.iter().zip(&array.lower_bounds).enumerate() {
        let (first, last) = (i64::from(*first), i64::from(*first) + i64::from(*dim) - 1);
        let (mut low, mut high) = (first, last);
        if let Some((lower, upper)) = bounds.get(i) {
            for (bound, target) in [(lower, &mut low), (upper, &mut high)] {
                if let Some(value) = bound {
                    *target = value.as_i64().unwrap_or(*target);
                }
            }
            // `a[2]` among slices means `a[1:2]`.
            if lower.is_none() && upper.is_some() && bounds.len() > 1 {
                low = low.min(first);
            }
        }
        let (low, high) = (low.max(first), high.min(last));
        if low > high {
            return Ok(empty());
        }
        ranges.push((
            usize::try_from(low - first).unwrap_or(0),
            usize::try_from(high - first).unwrap_or(0),
        ));
    }
    let dims: Vec<i32> =
        ranges.iter().map(|(a, b)| i32::try_from(b - a + 1).unwrap_or(i32::MAX)).collect();
    let mut elements = Vec::new();
    let mut at: Vec<usize> = ranges.iter().map(|r| r.0).collect();
    loop {
        let offset = at
            .iter()
            .zip(&array.dims)
            .fold(0_usize, |o, (i, dim)| o * usize::try_from(*dim).unwrap_or(0) + i);
        elements.push(array.elements.get(offset).cloned().unwrap_or(Datum::Null));
        let mut d = ranges.len();
        loop {
            if d == 0 {
                let lower_bounds = vec![1; dims.len()];
                let element_type = array.element_type;
                return Ok(Datum::Array(Arc::new(ArrayValue {
                    element_type,
                    dims,
                    lower_bounds,
                    elements,
                })));
            }
            d -= 1;
            if at[d] < ranges[d].1 {
                at[d] += 1;
                break;
            }
            at[d] = ranges[d].0;
        }
    }
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
