//! Arithmetic on dates, timestamps and intervals.
//!
//! An interval is added field by field: months first (the day is cut to the month's length), then
//! days, then the time part. With a zone, months and days move the local clock.

use std::cmp::Ordering;

use super::calendar::{
    DATE_NEG_INF, DATE_POS_INF, Fields, TIMESTAMP_NEG_INF, TIMESTAMP_POS_INF, USECS_PER_DAY,
    USECS_PER_SEC, checked_date, date_infinite, days_in_month, timestamp_infinite, timestamp_valid,
};
use super::fail::{date_out_of_range, interval_out_of_range, timestamp_out_of_range};
use super::io::timestamp_with_offset;
use super::zone::TimeZone;
use crate::{Interval, PgError, Result, SqlState};

fn field_overflow(message: &str) -> PgError {
    PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
}

/// The total order of intervals: a month counts as 30 days of 24 hours.
pub fn interval_total(v: Interval) -> i128 {
    let days = i64::from(v.months) * 30 + i64::from(v.days);
    i128::from(days) * i128::from(USECS_PER_DAY) + i128::from(v.micros)
}

/// Compares two intervals.
pub fn interval_cmp(a: Interval, b: Interval) -> Ordering {
    interval_total(a).cmp(&interval_total(b))
}

/// Adds two intervals.
pub fn interval_add(a: Interval, b: Interval) -> Result<Interval> {
    let sum = || {
        Some(Interval {
            months: a.months.checked_add(b.months)?,
            days: a.days.checked_add(b.days)?,
            micros: a.micros.checked_add(b.micros)?,
        })
    };
    sum().ok_or_else(interval_out_of_range)
}

/// Subtracts two intervals.
pub fn interval_sub(a: Interval, b: Interval) -> Result<Interval> {
    let difference = || {
        Some(Interval {
            months: a.months.checked_sub(b.months)?,
            days: a.days.checked_sub(b.days)?,
            micros: a.micros.checked_sub(b.micros)?,
        })
    };
    difference().ok_or_else(interval_out_of_range)
}

/// Negates an interval.
pub fn interval_neg(v: Interval) -> Result<Interval> {
    interval_sub(Interval::default(), v)
}

fn tsround(v: f64) -> f64 {
    (v * 1e6).round_ties_even() / 1e6
}

fn to_i32(v: f64) -> Result<i32> {
    if v.is_nan() || v > f64::from(i32::MAX) || v < f64::from(i32::MIN) {
        return Err(interval_out_of_range());
    }
    Ok(v as i32)
}

fn to_micros(v: f64) -> Result<i64> {
    let v = v.round_ties_even();
    if v.is_nan() || !(-9.223_372_036_854_775e18..9.223_372_036_854_775e18).contains(&v) {
        return Err(interval_out_of_range());
    }
    Ok(v as i64)
}

/// Spills the fractions of months and days that scaling left into smaller fields.
fn cascade(months: f64, days: f64, micros: f64) -> Result<Interval> {
    const DAY: f64 = 86_400.0;
    let mut result = Interval { months: to_i32(months)?, days: to_i32(days)?, micros: 0 };
    let month_days = tsround((months - f64::from(result.months)) * 30.0);
    let day_part = days - f64::from(result.days) + month_days - month_days.trunc();
    let mut seconds = tsround(day_part * DAY);
    if seconds.abs() >= DAY {
        let whole = (seconds / DAY) as i32;
        result.days = result.days.checked_add(whole).ok_or_else(interval_out_of_range)?;
        seconds -= (seconds / DAY).trunc() * DAY;
    }
    result.days = result.days.checked_add(month_days as i32).ok_or_else(interval_out_of_range)?;
    result.micros = to_micros(micros + seconds * 1e6)?;
    Ok(result)
}

/// Multiplies an interval by a number.
pub fn interval_mul(v: Interval, factor: f64) -> Result<Interval> {
    cascade(f64::from(v.months) * factor, f64::from(v.days) * factor, v.micros as f64 * factor)
}

/// Divides an interval by a number.
pub fn interval_div(v: Interval, divisor: f64) -> Result<Interval> {
    if divisor == 0.0 {
        return Err(PgError::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
    }
    cascade(f64::from(v.months) / divisor, f64::from(v.days) / divisor, v.micros as f64 / divisor)
}

fn align_days(v: &mut Interval) {
    if v.days > 0 && v.micros < 0 {
        v.micros += USECS_PER_DAY;
        v.days -= 1;
    } else if v.days < 0 && v.micros > 0 {
        v.micros -= USECS_PER_DAY;
        v.days += 1;
    }
}

fn months_from_days(v: &mut Interval) -> Result<()> {
    v.months = v.months.checked_add(v.days / 30).ok_or_else(interval_out_of_range)?;
    v.days %= 30;
    Ok(())
}

/// `justify_hours`: 24 hours become a day.
pub fn justify_hours(v: Interval) -> Result<Interval> {
    let mut v = v;
    let days = (v.micros / USECS_PER_DAY) as i32;
    v.micros %= USECS_PER_DAY;
    v.days = v.days.checked_add(days).ok_or_else(interval_out_of_range)?;
    align_days(&mut v);
    Ok(v)
}

/// `justify_days`: 30 days become a month.
pub fn justify_days(v: Interval) -> Result<Interval> {
    let mut v = v;
    months_from_days(&mut v)?;
    if v.months > 0 && v.days < 0 {
        v.days += 30;
        v.months -= 1;
    } else if v.months < 0 && v.days > 0 {
        v.days -= 30;
        v.months += 1;
    }
    Ok(v)
}

/// `justify_interval`: both, with all fields of one sign.
pub fn justify_interval(v: Interval) -> Result<Interval> {
    let mut v = v;
    if (v.days > 0 && v.micros > 0) || (v.days < 0 && v.micros < 0) {
        months_from_days(&mut v)?;
    }
    v.days += (v.micros / USECS_PER_DAY) as i32;
    v.micros %= USECS_PER_DAY;
    months_from_days(&mut v)?;
    if v.months > 0 && (v.days < 0 || (v.days == 0 && v.micros < 0)) {
        v.days += 30;
        v.months -= 1;
    } else if v.months < 0 && (v.days > 0 || (v.days == 0 && v.micros > 0)) {
        v.days -= 30;
        v.months += 1;
    }
    align_days(&mut v);
    Ok(v)
}

/// The fields of a timestamp moved by months; the day is cut to the month's length.
fn add_months(f: &mut Fields, months: i32) {
    let total = i64::from(f.year) * 12 + i64::from(f.month) - 1 + i64::from(months);
    f.year = total.div_euclid(12) as i32;
    f.month = total.rem_euclid(12) as i32 + 1;
    f.day = f.day.min(days_in_month(f.year, f.month));
}

/// timestamp + interval
pub fn timestamp_add(ts: i64, v: Interval) -> Result<i64> {
    if timestamp_infinite(ts) {
        return Ok(ts);
    }
    let mut ts = ts;
    if v.months != 0 {
        let mut f = Fields::of_timestamp(ts);
        add_months(&mut f, v.months);
        ts = f.timestamp().ok_or_else(timestamp_out_of_range)?;
    }
    let days = i64::from(v.days).checked_mul(USECS_PER_DAY);
    let moved = days.and_then(|d| ts.checked_add(d)).filter(|t| timestamp_valid(*t));
    let moved = moved.and_then(|t| t.checked_add(v.micros)).filter(|t| timestamp_valid(*t));
    moved.ok_or_else(timestamp_out_of_range)
}

/// timestamptz + interval; months and days move the clock of `zone`.
pub fn timestamptz_add(ts: i64, v: Interval, zone: &TimeZone) -> Result<i64> {
    if timestamp_infinite(ts) {
        return Ok(ts);
    }
    let mut ts = ts;
    if v.months != 0 {
        let mut f = local_fields(ts, zone)?;
        add_months(&mut f, v.months);
        ts = from_local(&f, zone)?;
    }
    if v.days != 0 {
        let mut f = local_fields(ts, zone)?;
        f.set_days(f.days() + i64::from(v.days));
        ts = from_local(&f, zone)?;
    }
    let moved = ts.checked_add(v.micros).filter(|t| timestamp_valid(*t));
    moved.ok_or_else(timestamp_out_of_range)
}

/// The local fields of an instant.
pub fn local_fields(ts: i64, zone: &TimeZone) -> Result<Fields> {
    if !timestamp_valid(ts) {
        return Err(timestamp_out_of_range());
    }
    Ok(Fields::of_timestamp(zone.to_local(ts)))
}

/// The instant of local fields.
pub fn from_local(f: &Fields, zone: &TimeZone) -> Result<i64> {
    timestamp_with_offset(f, zone.west_of(f)).ok_or_else(timestamp_out_of_range)
}

/// The negated fields of an interval, for subtraction from a timestamp.
pub fn negated(v: Interval) -> Interval {
    Interval {
        months: v.months.wrapping_neg(),
        days: v.days.wrapping_neg(),
        micros: v.micros.wrapping_neg(),
    }
}

/// The difference of two timestamps in days and time.
pub fn timestamp_sub(a: i64, b: i64) -> Result<Interval> {
    if timestamp_infinite(a) || timestamp_infinite(b) {
        return Err(field_overflow("cannot subtract infinite timestamps"));
    }
    let micros = a.checked_sub(b).ok_or_else(interval_out_of_range)?;
    justify_hours(Interval { months: 0, days: 0, micros })
}

/// `age`: the difference of two calendar points in years, months, days and time.
pub fn age(a: &Fields, b: &Fields) -> Interval {
    let key = |f: &Fields| (f.days(), f.time());
    let negative = key(a) < key(b);
    let (late, early) = if negative { (b, a) } else { (a, b) };
    let mut micros = late.time() - early.time();
    let mut days = late.day - early.day;
    let mut months = late.month - early.month + (late.year - early.year) * 12;
    if micros < 0 {
        micros += USECS_PER_DAY;
        days -= 1;
    }
    while days < 0 {
        days += days_in_month(early.year, early.month);
        months -= 1;
    }
    let v = Interval { months, days, micros };
    if negative { negated(v) } else { v }
}

/// The timestamp at midnight of a date.
pub fn date_to_timestamp(date: i32) -> Result<i64> {
    match date_to_timestamp_saturating(date) {
        (ts, false) => Ok(ts),
        _ => Err(field_overflow("date out of range for timestamp")),
    }
}

/// As [`date_to_timestamp`], for comparisons: true when the date is after every timestamp.
pub fn date_to_timestamp_saturating(date: i32) -> (i64, bool) {
    match date {
        DATE_NEG_INF => (TIMESTAMP_NEG_INF, false),
        DATE_POS_INF => (TIMESTAMP_POS_INF, false),
        _ => {
            let ts = i64::from(date).checked_mul(USECS_PER_DAY).filter(|t| timestamp_valid(*t));
            ts.map_or((i64::MAX - 1, true), |t| (t, false))
        }
    }
}

/// The instant of midnight of a date in a zone; on overflow the side is told.
pub fn date_to_timestamptz(date: i32, zone: &TimeZone) -> std::result::Result<i64, Ordering> {
    match date_to_timestamp_saturating(date) {
        (_, true) => Err(Ordering::Greater),
        (ts, _) => timestamp_to_timestamptz(ts, zone),
    }
}

/// The instant of a local timestamp in a zone; on overflow the side is told.
pub fn timestamp_to_timestamptz(ts: i64, zone: &TimeZone) -> std::result::Result<i64, Ordering> {
    if timestamp_infinite(ts) {
        return Ok(ts);
    }
    let east = zone.east_of_local(ts.div_euclid(USECS_PER_SEC));
    let utc = ts - i64::from(east) * USECS_PER_SEC;
    if timestamp_valid(utc) {
        Ok(utc)
    } else if ts < 0 {
        Err(Ordering::Less)
    } else {
        Err(Ordering::Greater)
    }
}

/// The local timestamp of an instant.
pub fn timestamptz_to_timestamp(ts: i64, zone: &TimeZone) -> Result<i64> {
    if timestamp_infinite(ts) {
        return Ok(ts);
    }
    local_fields(ts, zone)?.timestamp().ok_or_else(timestamp_out_of_range)
}

/// The date of a timestamp.
pub fn timestamp_to_date(ts: i64) -> Result<i32> {
    match ts {
        TIMESTAMP_NEG_INF => Ok(DATE_NEG_INF),
        TIMESTAMP_POS_INF => Ok(DATE_POS_INF),
        _ if !timestamp_valid(ts) => Err(timestamp_out_of_range()),
        _ => Ok(ts.div_euclid(USECS_PER_DAY) as i32),
    }
}

/// date ± days
pub fn date_add(date: i32, days: i64) -> Result<i32> {
    if date_infinite(date) {
        return Ok(date);
    }
    checked_date(i64::from(date) + days).ok_or_else(date_out_of_range)
}

/// date − date
pub fn date_sub(a: i32, b: i32) -> Result<i32> {
    if date_infinite(a) || date_infinite(b) {
        return Err(field_overflow("cannot subtract infinite dates"));
    }
    Ok(a.wrapping_sub(b))
}
