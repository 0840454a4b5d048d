//! `OVERLAPS` of periods that are given by a start and a length. PostgreSQL has these as functions
//! in SQL, so they are registered under their signatures.

use super::datetime_args::span;
use super::datetime_compare::overlaps;
use crate::datetime::arith::{timestamp_add, timestamptz_add};
use crate::datetime::calendar::USECS_PER_DAY;
use crate::registry::{CallInfo, Kernel};
use crate::{Datum, PgError, Result};

/// Signatures.
pub(crate) const KERNELS: &[(&str, Kernel)] = &[
    ("overlaps(timestamp,interval,timestamp,interval)", periods),
    ("overlaps(timestamp,timestamp,timestamp,interval)", periods),
    ("overlaps(timestamp,interval,timestamp,timestamp)", periods),
    ("overlaps(timestamptz,interval,timestamptz,interval)", periods),
    ("overlaps(timestamptz,timestamptz,timestamptz,interval)", periods),
    ("overlaps(timestamptz,interval,timestamptz,timestamptz)", periods),
    ("overlaps(time,interval,time,interval)", periods),
    ("overlaps(time,time,time,interval)", periods),
    ("overlaps(time,interval,time,time)", periods),
];

fn periods(call: &CallInfo<'_>, a: &[Datum]) -> Result<Datum> {
    let end = |at: usize| end_of(call, &a[at], &a[at + 1]);
    let ends = [a[0].clone(), end(0)?, a[2].clone(), end(2)?];
    overlaps(&ends, super::datetime_aggregate::compare)
}

/// The end of a period; unknown when its start or length is.
fn end_of(call: &CallInfo<'_>, start: &Datum, length: &Datum) -> Result<Datum> {
    let Datum::Interval(_) = length else { return Ok(length.clone()) };
    let length = span(length)?;
    Ok(match start {
        Datum::Null => Datum::Null,
        Datum::Timestamp(t) => Datum::Timestamp(timestamp_add(*t, length)?),
        Datum::TimestampTz(t) => {
            Datum::TimestampTz(timestamptz_add(*t, length, &call.ctx.settings.time_zone)?)
        }
        Datum::Time(t) => {
            Datum::Time((t + length.micros % USECS_PER_DAY).rem_euclid(USECS_PER_DAY))
        }
        other => return Err(PgError::internal(format!("no period starts with {other:?}"))),
    })
}
