//! Small functions that PostgreSQL's own machinery calls (range types, aggregates) and that SQL can
//! call as well.

use super::call::{fun, mismatch};
use crate::numeric::Numeric;
use crate::{CallInfo, Datum, Kernel, Result};

/// The distance of two timestamps or dates as a float, infinities as the integers they are.
fn apart(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    Ok(Datum::Float8(match args {
        [Datum::Date(a), Datum::Date(b)] => f64::from(*a) - f64::from(*b),
        [Datum::Timestamp(a), Datum::Timestamp(b)]
        | [Datum::TimestampTz(a), Datum::TimestampTz(b)] => (*a as f64 - *b as f64) / 1e6,
        _ => return Err(mismatch(args)),
    }))
}

/// The sum of integers so far and the next: NULL counts as nothing yet.
fn running_sum(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [sum, next] = args else { return Err(mismatch(args)) };
    Ok(match (sum, next) {
        (sum, Datum::Null) => sum.clone(),
        (Datum::Numeric(sum), next) => {
            let next = next.as_i64().ok_or_else(|| mismatch(args))?;
            Datum::Numeric(sum.add(&Numeric::from(next))?)
        }
        (Datum::Int8(sum), next) => {
            Datum::Int8(sum.wrapping_add(next.as_i64().ok_or_else(|| mismatch(args))?))
        }
        (_, Datum::Int8(next)) => Datum::Numeric(Numeric::from(*next)),
        (_, next) => Datum::Int8(next.as_i64().ok_or_else(|| mismatch(args))?),
    })
}

pub(crate) const KERNELS: &[(&str, Kernel)] = &[
    ("int4range_subdiff", fun!(|a: i32, b: i32| f64::from(a) - f64::from(b))),
    ("int8range_subdiff", fun!(|a: i64, b: i64| a as f64 - b as f64)),
    ("numrange_subdiff", fun!(|a: &Numeric, b: &Numeric| a.sub(b).and_then(|d| d.to_f64()))),
    ("daterange_subdiff", apart),
    ("tsrange_subdiff", apart),
    ("tstzrange_subdiff", apart),
    ("int2_sum", running_sum),
    ("int4_sum", running_sum),
    ("int8_sum", running_sum),
    (
        "int8inc_float8_float8",
        fun!(|n: i64, _y: f64, _x: f64| n
            .checked_add(1)
            .ok_or_else(|| super::call::out_of_range("bigint out of range"))),
    ),
];
