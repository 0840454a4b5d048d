//! Functions that make dates and times: `make_date` and its like, the current time, series.

use meridian_base::clock::{Clock as _, SystemClock};

use super::datetime_args::{float, int, span, text, ts};
use crate::datetime::arith::{interval_cmp, local_fields, timestamp_add, timestamptz_add};
use crate::datetime::calendar::{
    Fields, TIMESTAMP_NEG_INF, TIMESTAMP_POS_INF, UNIX_TO_PG_SECS, USECS_PER_DAY, USECS_PER_HOUR,
    USECS_PER_MINUTE, USECS_PER_SEC, checked_date, days_in_month, julian_valid, timestamp_valid,
};
use crate::datetime::{
    ZoneName, interval_out_of_range, time_scale, timestamp_out_of_range, timestamp_scale,
    unknown_zone,
};
use crate::registry::{CallInfo, Kernel, SetKernel};
use crate::{Datum, Interval, PgError, Result, SqlState};

/// Makers and clocks.
pub(crate) const KERNELS: &[(&str, Kernel)] = &[
    ("make_date", |_, a| make_date(int(&a[0])?, int(&a[1])?, int(&a[2])?)),
    ("make_time", |_, a| Ok(Datum::Time(clock(int(&a[0])?, int(&a[1])?, float(&a[2])?)?))),
    ("make_timestamp", |_, a| Ok(Datum::Timestamp(make_timestamp(a)?))),
    ("make_timestamptz", |c, a| {
        let f = Fields::of_timestamp(make_timestamp(a)?);
        Ok(Datum::TimestampTz(super::datetime_arith::session_instant(c, &f)?))
    }),
    ("make_timestamptz_at_timezone", |_, a| {
        let local = make_timestamp(a)?;
        let east = explicit_zone(text(&a[6])?, local)?;
        let utc = Some(local - east * USECS_PER_SEC).filter(|t| timestamp_valid(*t));
        Ok(Datum::TimestampTz(utc.ok_or_else(timestamp_out_of_range)?))
    }),
    ("make_interval", |_, a| make_interval(a)),
    ("float8_timestamptz", |_, a| Ok(Datum::TimestampTz(from_unix(float(&a[0])?)?))),
    ("now", |c, _| Ok(Datum::TimestampTz(c.ctx.transaction_time))),
    ("clock_timestamp", |_, _| Ok(Datum::TimestampTz(wall()))),
    ("timeofday", |c, _| Ok(Datum::text(time_of_day(c, wall())?))),
    ("statement_timestamp", |c, _| Ok(Datum::TimestampTz(c.ctx.statement_time))),
    ("current_timestamp", |c, a| {
        Ok(Datum::TimestampTz(timestamp_scale(c.ctx.transaction_time, precision(a)?)?))
    }),
    ("localtimestamp", |c, a| {
        let local = local_fields(c.ctx.transaction_time, &c.ctx.settings.time_zone)?;
        let local = local.timestamp().ok_or_else(timestamp_out_of_range)?;
        Ok(Datum::Timestamp(timestamp_scale(local, precision(a)?)?))
    }),
    ("current_date", |c, _| {
        let local = local_fields(c.ctx.transaction_time, &c.ctx.settings.time_zone)?;
        Ok(Datum::Date(local.days() as i32))
    }),
    ("localtime", |c, a| {
        let local = local_fields(c.ctx.transaction_time, &c.ctx.settings.time_zone)?;
        Ok(Datum::Time(time_scale(local.time(), precision(a)?)))
    }),
    ("current_time", |c, a| {
        let now = c.ctx.transaction_time;
        let zone = &c.ctx.settings.time_zone;
        let west = -zone.east_at(now.div_euclid(USECS_PER_SEC));
        Ok(Datum::TimeTz(time_scale(local_fields(now, zone)?.time(), precision(a)?), west))
    }),
];

/// Series.
pub(crate) const SETS: &[(&str, SetKernel)] = &[
    ("generate_series_timestamp", |_, a| {
        let next = |t, step| timestamp_add(t, step);
        let rows = series(ts(&a[0])?, ts(&a[1])?, span(&a[2])?, next)?;
        Ok(rows.into_iter().map(Datum::Timestamp).collect())
    }),
    ("generate_series_timestamptz", |c, a| {
        let next = |t, step| timestamptz_add(t, step, &c.ctx.settings.time_zone);
        let rows = series(ts(&a[0])?, ts(&a[1])?, span(&a[2])?, next)?;
        Ok(rows.into_iter().map(Datum::TimestampTz).collect())
    }),
];

/// Real time, microseconds since 2000-01-01 UTC.
fn wall() -> i64 {
    let unix = SystemClock.now_micros();
    i64::try_from(unix).unwrap_or(i64::MAX) - UNIX_TO_PG_SECS * USECS_PER_SEC
}

fn overflow(text: String) -> PgError {
    PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, text)
}

fn precision(a: &[Datum]) -> Result<i32> {
    a.first().map_or(Ok(-1), int)
}

/// A day of the calendar, negative years being BC; the error shows the input.
fn calendar_day(year: i32, month: i32, day: i32) -> Result<Fields> {
    let astronomical = match year {
        0 => None,
        ..0 => year.checked_add(1),
        _ => Some(year),
    };
    let valid = astronomical
        .filter(|y| (1..=12).contains(&month) && day >= 1 && day <= days_in_month(*y, month));
    let Some(year) = valid else {
        let shown = year.unsigned_abs();
        return Err(overflow(format!(
            "date field value out of range: {shown}-{month:02}-{day:02}"
        )));
    };
    Ok(Fields { year, month, day, ..Fields::default() })
}

fn make_date(year: i32, month: i32, day: i32) -> Result<Datum> {
    let f = calendar_day(year, month, day)?;
    let date = Some(f.days()).filter(|_| julian_valid(f.year, f.month)).and_then(checked_date);
    let shown = || overflow(format!("date out of range: {year}-{month:02}-{day:02}"));
    Ok(Datum::Date(date.ok_or_else(shown)?))
}

/// C's `%g` for the seconds that error messages show.
fn shown_seconds(v: f64) -> String {
    let text = format!("{v}");
    if text.len() < 2 { format!("0{text}") } else { text }
}

fn clock(hour: i32, minute: i32, second: f64) -> Result<i64> {
    let micros = (second * 1e6).round_ties_even();
    let valid =
        (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60.0).contains(&second);
    let small = i64::from(hour) * USECS_PER_HOUR + i64::from(minute) * USECS_PER_MINUTE;
    let total = small.saturating_add(micros as i64);
    if !valid || total > USECS_PER_DAY {
        let second = shown_seconds(second);
        return Err(overflow(format!(
            "time field value out of range: {hour}:{minute:02}:{second}"
        )));
    }
    Ok(total)
}

fn make_timestamp(a: &[Datum]) -> Result<i64> {
    let (year, month, day) = (int(&a[0])?, int(&a[1])?, int(&a[2])?);
    let f = calendar_day(year, month, day)?;
    if !julian_valid(f.year, f.month) {
        return Err(overflow(format!("date out of range: {year}-{month:02}-{day:02}")));
    }
    let (hour, minute, second) = (int(&a[3])?, int(&a[4])?, float(&a[5])?);
    let time = clock(hour, minute, second)?;
    let ts = f.days().checked_mul(USECS_PER_DAY).and_then(|d| d.checked_add(time));
    ts.filter(|t| timestamp_valid(*t)).ok_or_else(|| {
        let second = shown_seconds(second);
        overflow(format!(
            "timestamp out of range: {year}-{month:02}-{day:02} {hour}:{minute:02}:{second}"
        ))
    })
}

/// Seconds east that the zone argument of `make_timestamptz` has at a local time.
fn explicit_zone(name: &str, local: i64) -> Result<i64> {
    let refuse = |text: String| PgError::new(SqlState::INVALID_PARAMETER_VALUE, text);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        let error = format!("invalid input syntax for type numeric time zone: \"{name}\"");
        return Err(
            refuse(error).hint("Numeric time zones must have \"-\" or \"+\" as first character.")
        );
    }
    if name.starts_with(['+', '-']) {
        match crate::datetime::numeric_zone(name) {
            Ok(Some(west)) => return Ok(-i64::from(west)),
            Ok(None) => {}
            Err(()) => return Err(refuse(format!("numeric time zone \"{name}\" out of range"))),
        }
    }
    let zone = ZoneName::parse(name).ok_or_else(|| unknown_zone(name))?;
    Ok(i64::from(zone.east_of_local(local.div_euclid(USECS_PER_SEC))))
}

fn make_interval(a: &[Datum]) -> Result<Datum> {
    let part = |at: usize| a.get(at).map_or(Ok(0), int);
    let seconds = a.get(6).map_or(Ok(0.0), float)?;
    if !seconds.is_finite() {
        return Err(interval_out_of_range());
    }
    let (hours, minutes) = (i64::from(part(4)?), i64::from(part(5)?));
    let made = || -> Option<Result<Interval>> {
        let months = part(0).ok()?.checked_mul(12)?.checked_add(part(1).ok()?)?;
        let days = part(2).ok()?.checked_mul(7)?.checked_add(part(3).ok()?)?;
        let fraction = (seconds * 1e6).round_ties_even() as i64;
        let clock = hours * USECS_PER_HOUR + minutes * USECS_PER_MINUTE;
        Some(Ok(Interval { months, days, micros: clock.checked_add(fraction)? }))
    };
    Ok(Datum::Interval(made().ok_or_else(interval_out_of_range)??))
}

fn from_unix(seconds: f64) -> Result<i64> {
    if seconds.is_infinite() {
        return Ok(if seconds < 0.0 { TIMESTAMP_NEG_INF } else { TIMESTAMP_POS_INF });
    }
    if seconds.is_nan() {
        return Err(overflow("timestamp cannot be NaN".to_owned()));
    }
    let micros = ((seconds - UNIX_TO_PG_SECS as f64) * 1e6).round_ties_even();
    if micros.abs() < 9.3e18 && timestamp_valid(micros as i64) {
        return Ok(micros as i64);
    }
    let shown = format!("{seconds:e}").replace('e', "e+");
    Err(overflow(format!("timestamp out of range: \"{shown}\"")))
}

fn series(
    start: i64,
    stop: i64,
    step: Interval,
    next: impl Fn(i64, Interval) -> Result<i64>,
) -> Result<Vec<i64>> {
    let direction = interval_cmp(step, Interval::default());
    if direction.is_eq() {
        return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, "step size cannot equal zero"));
    }
    let mut rows = Vec::new();
    let mut at = start;
    while if direction.is_gt() { at <= stop } else { at >= stop } {
        rows.push(at);
        let following = next(at, step)?;
        if following == at {
            break;
        }
        at = following;
    }
    Ok(rows)
}

/// The text of `timeofday()`.
fn time_of_day(call: &CallInfo<'_>, utc: i64) -> Result<String> {
    use crate::datetime::calendar::{DAYS, MONTHS, weekday};
    let zone = &call.ctx.settings.time_zone;
    let f = local_fields(utc, zone)?;
    let state = zone.state_at(utc.div_euclid(USECS_PER_SEC));
    let day = &DAYS[weekday(f.days()) as usize][..3];
    let month = &MONTHS[(f.month - 1) as usize][..3];
    Ok(format!(
        "{day} {month} {:02} {:02}:{:02}:{:02}.{:06} {} {}",
        f.day, f.hour, f.minute, f.second, f.micros, f.year, state.abbrev
    ))
}
