//! Comparison of dates, times and intervals, also across types, with the functions that follow
//! from it: `larger`, `smaller`, `isfinite`, `overlaps` and the window frames' `in_range`.

use std::cmp::Ordering;

use super::datetime_args::{boolean, date, span, time, timetz, timetz_cmp, ts};
use crate::datetime::arith::{
    date_to_timestamp, date_to_timestamp_saturating, date_to_timestamptz, interval_add,
    interval_cmp, interval_sub, negated, timestamp_add, timestamp_to_timestamptz, timestamptz_add,
};
use crate::datetime::calendar::{
    TIMESTAMP_NEG_INF, TIMESTAMP_POS_INF, USECS_PER_DAY, date_infinite, timestamp_infinite,
};
use crate::registry::{CallInfo, Kernel};
use crate::{Datum, PgError, Result, SqlState};

type Cmp = fn(&CallInfo<'_>, &[Datum]) -> Result<Ordering>;

macro_rules! comparison {
    ($table:ident, $prefix:literal, $suffix:literal, $cmp:expr) => {
        pub(crate) const $table: &[(&str, Kernel)] = {
            const CMP: Cmp = $cmp;
            &[
                (concat!($prefix, "_eq", $suffix), |c, a| Ok(Datum::Bool(CMP(c, a)?.is_eq()))),
                (concat!($prefix, "_ne", $suffix), |c, a| Ok(Datum::Bool(CMP(c, a)?.is_ne()))),
                (concat!($prefix, "_lt", $suffix), |c, a| Ok(Datum::Bool(CMP(c, a)?.is_lt()))),
                (concat!($prefix, "_le", $suffix), |c, a| Ok(Datum::Bool(CMP(c, a)?.is_le()))),
                (concat!($prefix, "_gt", $suffix), |c, a| Ok(Datum::Bool(CMP(c, a)?.is_gt()))),
                (concat!($prefix, "_ge", $suffix), |c, a| Ok(Datum::Bool(CMP(c, a)?.is_ge()))),
                (concat!($prefix, "_cmp", $suffix), |c, a| Ok(Datum::Int4(CMP(c, a)? as i32))),
            ]
        };
    };
}

comparison!(DATES, "date", "", |_, a| Ok(date(&a[0])?.cmp(&date(&a[1])?)));
comparison!(TIMES, "time", "", |_, a| Ok(time(&a[0])?.cmp(&time(&a[1])?)));
comparison!(TIMETZS, "timetz", "", |_, a| Ok(timetz_cmp(timetz(&a[0])?, timetz(&a[1])?)));
comparison!(TIMESTAMPS, "timestamp", "", |_, a| Ok(ts(&a[0])?.cmp(&ts(&a[1])?)));
comparison!(INTERVALS, "interval", "", |_, a| Ok(interval_cmp(span(&a[0])?, span(&a[1])?)));
comparison!(DATE_TIMESTAMP, "date", "_timestamp", |_, a| {
    Ok(date_with_timestamp(date(&a[0])?, ts(&a[1])?))
});
comparison!(TIMESTAMP_DATE, "timestamp", "_date", |_, a| {
    Ok(date_with_timestamp(date(&a[1])?, ts(&a[0])?).reverse())
});
comparison!(DATE_TIMESTAMPTZ, "date", "_timestamptz", |c, a| {
    Ok(date_with_timestamptz(c, date(&a[0])?, ts(&a[1])?))
});
comparison!(TIMESTAMPTZ_DATE, "timestamptz", "_date", |c, a| {
    Ok(date_with_timestamptz(c, date(&a[1])?, ts(&a[0])?).reverse())
});
comparison!(TIMESTAMP_TIMESTAMPTZ, "timestamp", "_timestamptz", |c, a| {
    Ok(local_with_utc(c, ts(&a[0])?, ts(&a[1])?))
});
comparison!(TIMESTAMPTZ_TIMESTAMP, "timestamptz", "_timestamp", |c, a| {
    Ok(local_with_utc(c, ts(&a[1])?, ts(&a[0])?).reverse())
});

fn date_with_timestamp(d: i32, t: i64) -> Ordering {
    match date_to_timestamp_saturating(d) {
        (_, true) if t == TIMESTAMP_POS_INF => Ordering::Less,
        (_, true) => Ordering::Greater,
        (d, false) => d.cmp(&t),
    }
}

/// Compares an instant that may lie outside the range with one inside it.
fn outside(converted: std::result::Result<i64, Ordering>, t: i64) -> Ordering {
    match converted {
        Ok(v) => v.cmp(&t),
        Err(Ordering::Greater) if t == TIMESTAMP_POS_INF => Ordering::Less,
        Err(Ordering::Less) if t == TIMESTAMP_NEG_INF => Ordering::Greater,
        Err(side) => side,
    }
}

fn date_with_timestamptz(call: &CallInfo<'_>, d: i32, t: i64) -> Ordering {
    outside(date_to_timestamptz(d, &call.ctx.settings.time_zone), t)
}

fn local_with_utc(call: &CallInfo<'_>, local: i64, utc: i64) -> Ordering {
    outside(timestamp_to_timestamptz(local, &call.ctx.settings.time_zone), utc)
}

macro_rules! extreme {
    ($keep:ident, $cmp:expr) => {
        |_, a| {
            let order: Ordering = $cmp(a)?;
            Ok(a[usize::from(!order.$keep())].clone())
        }
    };
}

/// `larger`, `smaller`, `isfinite`, `overlaps`, `in_range`.
pub(crate) const OTHERS: &[(&str, Kernel)] = &[
    ("date_larger", extreme!(is_gt, |a: &[Datum]| Ok(date(&a[0])?.cmp(&date(&a[1])?)))),
    ("date_smaller", extreme!(is_lt, |a: &[Datum]| Ok(date(&a[0])?.cmp(&date(&a[1])?)))),
    ("time_larger", extreme!(is_gt, |a: &[Datum]| Ok(time(&a[0])?.cmp(&time(&a[1])?)))),
    ("time_smaller", extreme!(is_lt, |a: &[Datum]| Ok(time(&a[0])?.cmp(&time(&a[1])?)))),
    ("timetz_larger", extreme!(is_gt, two_timetz)),
    ("timetz_smaller", extreme!(is_lt, two_timetz)),
    ("timestamp_larger", extreme!(is_gt, |a: &[Datum]| Ok(ts(&a[0])?.cmp(&ts(&a[1])?)))),
    ("timestamp_smaller", extreme!(is_lt, |a: &[Datum]| Ok(ts(&a[0])?.cmp(&ts(&a[1])?)))),
    ("interval_larger", extreme!(is_gt, two_spans)),
    ("interval_smaller", extreme!(is_lt, two_spans)),
    ("date_finite", |_, a| Ok(Datum::Bool(!date_infinite(date(&a[0])?)))),
    ("timestamp_finite", |_, a| Ok(Datum::Bool(!timestamp_infinite(ts(&a[0])?)))),
    ("interval_finite", |_, _| Ok(Datum::Bool(true))),
    ("overlaps_timestamp", |_, a| overlaps(a, |x, y| Ok(ts(x)?.cmp(&ts(y)?)))),
    ("overlaps_time", |_, a| overlaps(a, |x, y| Ok(time(x)?.cmp(&time(y)?)))),
    ("overlaps_timetz", |_, a| overlaps(a, |x, y| Ok(timetz_cmp(timetz(x)?, timetz(y)?)))),
    ("in_range_timestamp_interval", |_, a| {
        let (base, step) = (ts(&a[1])?, signed_step(a)?);
        in_range(a, ts(&a[0])?.cmp(&timestamp_add(base, step)?))
    }),
    ("in_range_timestamptz_interval", |c, a| {
        let (base, step) = (ts(&a[1])?, signed_step(a)?);
        let sum = timestamptz_add(base, step, &c.ctx.settings.time_zone)?;
        in_range(a, ts(&a[0])?.cmp(&sum))
    }),
    ("in_range_date_interval", |_, a| {
        let base = date_to_timestamp(date(&a[1])?)?;
        let sum = timestamp_add(base, signed_step(a)?)?;
        in_range(a, date_to_timestamp(date(&a[0])?)?.cmp(&sum))
    }),
    ("in_range_interval_interval", |_, a| {
        let (base, step) = (span(&a[1])?, step(a)?);
        let sum =
            if boolean(&a[3])? { interval_sub(base, step)? } else { interval_add(base, step)? };
        in_range(a, interval_cmp(span(&a[0])?, sum))
    }),
    ("in_range_time_interval", |_, a| {
        let sum = time(&a[1])?.saturating_add(time_step(a)?);
        in_range(a, time(&a[0])?.cmp(&sum))
    }),
    ("in_range_timetz_interval", |_, a| {
        let (base, west) = timetz(&a[1])?;
        let sum = base.saturating_add(time_step(a)?).clamp(-USECS_PER_DAY, i64::MAX / 2);
        in_range(a, timetz_cmp(timetz(&a[0])?, (sum, west)))
    }),
];

fn two_timetz(a: &[Datum]) -> Result<Ordering> {
    Ok(timetz_cmp(timetz(&a[0])?, timetz(&a[1])?))
}

fn two_spans(a: &[Datum]) -> Result<Ordering> {
    Ok(interval_cmp(span(&a[0])?, span(&a[1])?))
}

fn bad_frame() -> PgError {
    PgError::new(
        SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE,
        "invalid preceding or following size in window function",
    )
}

fn step(a: &[Datum]) -> Result<crate::Interval> {
    let step = span(&a[2])?;
    if interval_cmp(step, crate::Interval::default()).is_lt() {
        return Err(bad_frame());
    }
    Ok(step)
}

fn signed_step(a: &[Datum]) -> Result<crate::Interval> {
    let step = step(a)?;
    Ok(if boolean(&a[3])? { negated(step) } else { step })
}

/// Only the time part counts for times of day.
fn time_step(a: &[Datum]) -> Result<i64> {
    let step = span(&a[2])?.micros;
    if step < 0 {
        return Err(bad_frame());
    }
    Ok(if boolean(&a[3])? { -step } else { step })
}

fn in_range(a: &[Datum], order: Ordering) -> Result<Datum> {
    Ok(Datum::Bool(if boolean(&a[4])? { order.is_le() } else { order.is_ge() }))
}

/// SQL's `OVERLAPS` with its rules for NULL: one end of a period may be unknown.
pub(super) fn overlaps(
    a: &[Datum],
    cmp: impl Fn(&Datum, &Datum) -> Result<Ordering>,
) -> Result<Datum> {
    let period = |x: &Datum, y: &Datum| -> Result<Option<(Datum, Option<Datum>)>> {
        Ok(match (x.is_null(), y.is_null()) {
            (true, true) => None,
            (true, false) => Some((y.clone(), None)),
            (false, true) => Some((x.clone(), None)),
            (false, false) if cmp(x, y)?.is_gt() => Some((y.clone(), Some(x.clone()))),
            (false, false) => Some((x.clone(), Some(y.clone()))),
        })
    };
    let (Some((start1, end1)), Some((start2, end2))) =
        (period(&a[0], &a[1])?, period(&a[2], &a[3])?)
    else {
        return Ok(Datum::Null);
    };
    let (late, late_end, early_end) = match cmp(&start1, &start2)? {
        Ordering::Greater => (start1, end1, end2),
        Ordering::Less => (start2, end2, end1),
        Ordering::Equal => {
            let known = end1.is_some() && end2.is_some();
            return Ok(if known { Datum::Bool(true) } else { Datum::Null });
        }
    };
    let Some(early_end) = early_end else { return Ok(Datum::Null) };
    if cmp(&late, &early_end)?.is_lt() {
        return Ok(Datum::Bool(true));
    }
    Ok(if late_end.is_none() { Datum::Null } else { Datum::Bool(false) })
}
