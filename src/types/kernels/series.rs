//! `generate_series` of numbers.

use super::call::{invalid_parameter, mismatch};
use crate::numeric::Numeric;
use crate::registry::SetKernel;
use crate::{CallInfo, Datum, Result};

fn zero_step() -> crate::PgError {
    invalid_parameter("step size cannot equal zero")
}

fn integers(args: &[Datum], make: fn(i64) -> Datum) -> Result<Vec<Datum>> {
    let number = |i: usize| args.get(i).and_then(Datum::as_i64);
    let (Some(start), Some(stop)) = (number(0), number(1)) else { return Err(mismatch(args)) };
    let step = if args.len() > 2 { number(2).ok_or_else(|| mismatch(args))? } else { 1 };
    if step == 0 {
        return Err(zero_step());
    }
    let mut rows = Vec::new();
    let mut at = Some(start);
    while let Some(v) = at.filter(|&v| if step > 0 { v <= stop } else { v >= stop }) {
        rows.push(make(v));
        at = v.checked_add(step);
    }
    Ok(rows)
}

fn int4(_: &CallInfo<'_>, args: &[Datum]) -> Result<Vec<Datum>> {
    // The bounds are int4, so that every value between them is.
    integers(args, |v| Datum::Int4(v as i32))
}

fn int8(_: &CallInfo<'_>, args: &[Datum]) -> Result<Vec<Datum>> {
    integers(args, Datum::Int8)
}

fn numeric(_: &CallInfo<'_>, args: &[Datum]) -> Result<Vec<Datum>> {
    let one = Numeric::ONE;
    let (start, stop, step) = match args {
        [Datum::Numeric(a), Datum::Numeric(b)] => (a, b, &one),
        [Datum::Numeric(a), Datum::Numeric(b), Datum::Numeric(s)] => (a, b, s),
        _ => return Err(mismatch(args)),
    };
    for (value, name) in [(start, "start value"), (stop, "stop value"), (step, "step size")] {
        if !value.is_finite() {
            let what = if value.is_nan() { "NaN" } else { "infinity" };
            return Err(invalid_parameter(format!("{name} cannot be {what}")));
        }
    }
    if step.is_zero() {
        return Err(zero_step());
    }
    let mut rows = Vec::new();
    let mut at = start.clone();
    let up = step.signum() > 0;
    while if up { at.compare(stop).is_le() } else { at.compare(stop).is_ge() } {
        let next = at.add(step);
        rows.push(Datum::Numeric(at));
        // Beyond the greatest number nothing is left to count to.
        let Ok(next) = next else { break };
        at = next;
    }
    Ok(rows)
}

pub(crate) const KERNELS: &[(&str, SetKernel)] = &[
    ("generate_series_int4", int4),
    ("generate_series_step_int4", int4),
    ("generate_series_int8", int8),
    ("generate_series_step_int8", int8),
    ("generate_series_numeric", numeric),
    ("generate_series_step_numeric", numeric),
];
