//! Subscripts: reading, slicing and assigning parts of arrays.

use crate::io::array::MAX_DIMENSIONS;
use crate::oid::Oid;
use crate::{ArrayValue, Datum, PgError, Result, SqlState};

/// Both ends of one slice subscript; a missing end is the array's own.
pub type Bounds = (Option<i32>, Option<i32>);

fn subscript_error(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message)
}

impl ArrayValue {
    /// The last subscript of a dimension.
    pub fn upper_bound(&self, dimension: usize) -> i32 {
        self.lower_bounds[dimension] + self.dims[dimension] - 1
    }

    /// Where an element is; `None` outside the array or with a wrong number of subscripts.
    fn position(&self, subscripts: &[i32]) -> Option<usize> {
        if subscripts.len() != self.dims.len() || self.dims.is_empty() {
            return None;
        }
        let mut at = 0usize;
        for (i, &s) in subscripts.iter().enumerate() {
            let offset = i64::from(s) - i64::from(self.lower_bounds[i]);
            if offset < 0 || offset >= i64::from(self.dims[i]) {
                return None;
            }
            at = at * usize::try_from(self.dims[i]).ok()? + usize::try_from(offset).ok()?;
        }
        Some(at)
    }

    /// `a[i][j]…`: NULL outside the array.
    pub fn element(&self, subscripts: &[i32]) -> Datum {
        self.position(subscripts).map_or(Datum::Null, |at| self.elements[at].clone())
    }

    /// ARRAY[…] of arrays: one array with one dimension more.
    pub fn nested(element_type: Oid, values: &[Datum]) -> Result<ArrayValue> {
        ArrayValue::stacked(
            element_type,
            values,
            |_| "multidimensional arrays must have array expressions with matching dimensions",
        )
    }

    /// Arrays of one shape as one array; `refusal` words the error for one that does not fit. NULLs and
    /// empty arrays are left out when there is nothing else.
    pub fn stacked(
        element_type: Oid,
        values: &[Datum],
        refusal: fn(&Datum) -> &'static str,
    ) -> Result<ArrayValue> {
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
        Ok(ArrayValue { element_type, dims, lower_bounds, elements })
    }

    /// `a[i:j]…`: the part within the bounds, with subscripts from 1; empty when nothing is left.
    /// Dimensions without a subscript are taken whole.
    #[must_use]
    pub fn slice(&self, bounds: &[Bounds]) -> ArrayValue {
        let empty = ArrayValue::from_elements(self.element_type, vec![]);
        if self.dims.is_empty() || bounds.len() > self.dims.len() {
            return empty;
        }
        let mut ranges = Vec::with_capacity(self.dims.len());
        for i in 0..self.dims.len() {
            let (low, high) = bounds.get(i).copied().unwrap_or((None, None));
            let low = low.unwrap_or(self.lower_bounds[i]).max(self.lower_bounds[i]);
            let high = high.unwrap_or(i32::MAX).min(self.upper_bound(i));
            if low > high {
                return empty;
            }
            ranges.push((low, high));
        }
        let mut elements = Vec::new();
        let mut at: Vec<i32> = ranges.iter().map(|r| r.0).collect();
        loop {
            elements.push(self.element(&at));
            let Some(i) = (0..at.len()).rev().find(|&i| at[i] < ranges[i].1) else { break };
            at[i] += 1;
            for j in i + 1..at.len() {
                at[j] = ranges[j].0;
            }
        }
        ArrayValue {
            element_type: self.element_type,
            dims: ranges.iter().map(|(low, high)| high - low + 1).collect(),
            lower_bounds: vec![1; ranges.len()],
            elements,
        }
    }

    /// `a[i] = value`. A one-dimensional array grows, filled with NULLs in between.
    pub fn with_element(&self, subscripts: &[i32], value: Datum) -> Result<ArrayValue> {
        let mut out = self.clone();
        if out.dims.is_empty() {
            if subscripts.is_empty() || subscripts.len() > MAX_DIMENSIONS {
                return Err(subscript_error("wrong number of array subscripts"));
            }
            out.dims = vec![1; subscripts.len()];
            out.lower_bounds = subscripts.to_vec();
            out.elements = vec![value];
            return Ok(out);
        }
        if subscripts.len() != out.dims.len() {
            return Err(subscript_error("wrong number of array subscripts"));
        }
        if let Some(at) = out.position(subscripts) {
            out.elements[at] = value;
            return Ok(out);
        }
        if out.dims.len() != 1 {
            return Err(subscript_error("array subscript out of range"));
        }
        let (at, low, high) = (subscripts[0], out.lower_bounds[0], out.upper_bound(0));
        let missing =
            if at < low { i64::from(low) - i64::from(at) } else { i64::from(at) - i64::from(high) };
        let total = i64::from(out.dims[0]) + missing;
        if total > 134_217_727 {
            return Err(PgError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "array size exceeds the maximum allowed (134217727)",
            ));
        }
        let gap = usize::try_from(missing - 1).unwrap_or(0);
        if at < low {
            let front = std::iter::once(value).chain(std::iter::repeat_n(Datum::Null, gap));
            out.elements = front.chain(out.elements).collect();
            out.lower_bounds[0] = at;
        } else {
            out.elements.extend(std::iter::repeat_n(Datum::Null, gap));
            out.elements.push(value);
        }
        out.dims[0] = i32::try_from(total).unwrap_or(i32::MAX);
        Ok(out)
    }

    /// `a[i:j] = value`: the elements of `value` in order, as many as the slice has.
    pub fn with_slice(&self, bounds: &[Bounds], value: &ArrayValue) -> Result<ArrayValue> {
        if bounds.is_empty() || bounds.len() > MAX_DIMENSIONS {
            return Err(subscript_error("wrong number of array subscripts"));
        }
        let new = self.dims.is_empty();
        if !new && bounds.len() > self.dims.len() {
            return Err(subscript_error("wrong number of array subscripts"));
        }
        let mut ranges = Vec::with_capacity(bounds.len());
        for i in 0..if new { bounds.len() } else { self.dims.len() } {
            let given = bounds.get(i).copied().unwrap_or((None, None));
            let (low, high) = match given {
                (Some(low), Some(high)) => (low, high),
                _ if new => {
                    let detail = "When assigning to a slice of an empty array value, slice \
                                  boundaries must be fully specified.";
                    return Err(subscript_error(
                        "array slice subscript must provide both boundaries",
                    )
                    .detail(detail.to_owned()));
                }
                (low, high) => {
                    (low.unwrap_or(self.lower_bounds[i]), high.unwrap_or(self.upper_bound(i)))
                }
            };
            if i64::from(low) > i64::from(high) + i64::from(new) {
                return Err(subscript_error("upper bound cannot be less than lower bound"));
            }
            if ranges_outside(self, i, (low, high)) {
                return Err(subscript_error("array subscript out of range"));
            }
            ranges.push((low, high));
        }
        let length = |(low, high): &(i32, i32)| i64::from(*high) - i64::from(*low) + 1;
        let count: i64 = ranges.iter().map(length).product();
        if count > value.elements.len() as i64 {
            return Err(subscript_error("source array too small"));
        }
        if new && count == 0 {
            return Ok(self.clone());
        }
        let mut out = self.clone();
        if new {
            out.dims =
                ranges.iter().map(|r| i32::try_from(length(r)).unwrap_or(i32::MAX)).collect();
            out.lower_bounds = ranges.iter().map(|r| r.0).collect();
            out.elements = value.elements[..usize::try_from(count).unwrap_or(0)].to_vec();
            return Ok(out);
        }
        let mut at: Vec<i32> = ranges.iter().map(|r| r.0).collect();
        for element in &value.elements {
            out = match out.position(&at) {
                Some(place) => {
                    out.elements[place] = element.clone();
                    out
                }
                None => out.with_element(&at, element.clone())?,
            };
            let Some(i) = (0..at.len()).rev().find(|&i| at[i] < ranges[i].1) else { break };
            at[i] += 1;
            for j in i + 1..at.len() {
                at[j] = ranges[j].0;
            }
        }
        Ok(out)
    }
}

/// Only a one-dimensional array grows.
fn ranges_outside(array: &ArrayValue, i: usize, (low, high): (i32, i32)) -> bool {
    array.dims.len() > 1 && (low < array.lower_bounds[i] || high > array.upper_bound(i))
}
