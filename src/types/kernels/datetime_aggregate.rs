//! `min`, `max`, `sum` and `avg` of dates, times and intervals.

use super::datetime_args::{span, timetz, timetz_cmp};
use crate::datetime::arith::{interval_add, interval_cmp, interval_div};
use crate::registry::{AggregateKernel, AggregateState, CallInfo};
use crate::{Datum, Interval, PgError, Result};
use std::cmp::Ordering;

/// Aggregates.
pub(crate) const KERNELS: &[(&str, AggregateKernel)] = &[
    ("min(date)", |_| Extreme::new(Ordering::Less)),
    ("max(date)", |_| Extreme::new(Ordering::Greater)),
    ("min(time)", |_| Extreme::new(Ordering::Less)),
    ("max(time)", |_| Extreme::new(Ordering::Greater)),
    ("min(timetz)", |_| Extreme::new(Ordering::Less)),
    ("max(timetz)", |_| Extreme::new(Ordering::Greater)),
    ("min(timestamp)", |_| Extreme::new(Ordering::Less)),
    ("max(timestamp)", |_| Extreme::new(Ordering::Greater)),
    ("min(timestamptz)", |_| Extreme::new(Ordering::Less)),
    ("max(timestamptz)", |_| Extreme::new(Ordering::Greater)),
    ("min(interval)", |_| Extreme::new(Ordering::Less)),
    ("max(interval)", |_| Extreme::new(Ordering::Greater)),
    ("sum(interval)", |_| Box::new(Sum { average: false, ..Sum::default() })),
    ("avg(interval)", |_| Box::new(Sum { average: true, ..Sum::default() })),
];

/// Compares two values of the same date or time type.
pub(crate) fn compare(a: &Datum, b: &Datum) -> Result<Ordering> {
    Ok(match (a, b) {
        (Datum::Date(a), Datum::Date(b)) => a.cmp(b),
        (Datum::Time(a), Datum::Time(b))
        | (Datum::Timestamp(a), Datum::Timestamp(b))
        | (Datum::TimestampTz(a), Datum::TimestampTz(b)) => a.cmp(b),
        (Datum::TimeTz(..), Datum::TimeTz(..)) => timetz_cmp(timetz(a)?, timetz(b)?),
        (Datum::Interval(a), Datum::Interval(b)) => interval_cmp(*a, *b),
        _ => return Err(PgError::internal("values of different types compared")),
    })
}

#[derive(Debug)]
struct Extreme {
    best: Datum,
    keep: Ordering,
}

impl Extreme {
    #[expect(clippy::new_ret_no_self, reason = "the registry holds boxed states only")]
    fn new(keep: Ordering) -> Box<dyn AggregateState> {
        Box::new(Extreme { best: Datum::Null, keep })
    }
}

impl AggregateState for Extreme {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        if args[0].is_null() {
            return Ok(());
        }
        if self.best.is_null() || compare(&args[0], &self.best)? == self.keep {
            self.best = args[0].clone();
        }
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        Ok(self.best.clone())
    }
}

#[derive(Debug, Default)]
struct Sum {
    total: Interval,
    count: i64,
    average: bool,
}

impl AggregateState for Sum {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        if !args[0].is_null() {
            self.total = interval_add(self.total, span(&args[0])?)?;
            self.count += 1;
        }
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        Ok(match self.count {
            0 => Datum::Null,
            n if self.average => Datum::Interval(interval_div(self.total, n as f64)?),
            _ => Datum::Interval(self.total),
        })
    }
}
