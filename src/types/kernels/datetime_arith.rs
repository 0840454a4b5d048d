//! Arithmetic, casts and zone shifts of dates, times and intervals.

use super::datetime_args::{date, float, int, span, text, time, timetz, ts};
use crate::datetime::arith::{
    age, date_add, date_sub, date_to_timestamp, date_to_timestamptz, from_local, interval_add,
    interval_div, interval_mul, interval_neg, interval_sub, justify_days, justify_hours,
    justify_interval, local_fields, negated, timestamp_add, timestamp_sub, timestamp_to_date,
    timestamp_to_timestamptz, timestamptz_add, timestamptz_to_timestamp,
};
use crate::datetime::calendar::{
    Fields, USECS_PER_DAY, USECS_PER_SEC, date_infinite, timestamp_infinite, timestamp_valid,
};
use crate::datetime::{
    TimeZone, ZoneName, interval_scale, time_scale, timestamp_out_of_range, timestamp_scale,
    unknown_zone,
};
use crate::registry::{CallInfo, Kernel};
use crate::{Datum, Interval, PgError, Result, SqlState};

fn zone<'a>(call: &CallInfo<'a>) -> &'a TimeZone {
    &call.ctx.settings.time_zone
}

fn micros(micros: i64) -> Interval {
    Interval { months: 0, days: 0, micros }
}

fn wrap(time: i64) -> i64 {
    time.rem_euclid(USECS_PER_DAY)
}

/// Arithmetic.
pub(crate) const ARITHMETIC: &[(&str, Kernel)] = &[
    ("date_mi", |_, a| Ok(Datum::Int4(date_sub(date(&a[0])?, date(&a[1])?)?))),
    ("date_pli", |_, a| Ok(Datum::Date(date_add(date(&a[0])?, i64::from(int(&a[1])?))?))),
    ("date_mii", |_, a| Ok(Datum::Date(date_add(date(&a[0])?, -i64::from(int(&a[1])?))?))),
    ("integer_pl_date(int4,date)", |_, a| {
        Ok(Datum::Date(date_add(date(&a[1])?, i64::from(int(&a[0])?))?))
    }),
    ("date_pl_interval", |_, a| date_plus(date(&a[0])?, span(&a[1])?)),
    ("interval_pl_date(interval,date)", |_, a| date_plus(date(&a[1])?, span(&a[0])?)),
    ("date_mi_interval", |_, a| date_plus(date(&a[0])?, negated(span(&a[1])?))),
    ("timestamp_pl_interval", |_, a| {
        Ok(Datum::Timestamp(timestamp_add(ts(&a[0])?, span(&a[1])?)?))
    }),
    ("interval_pl_timestamp(interval,timestamp)", |_, a| {
        Ok(Datum::Timestamp(timestamp_add(ts(&a[1])?, span(&a[0])?)?))
    }),
    ("timestamp_mi_interval", |_, a| {
        Ok(Datum::Timestamp(timestamp_add(ts(&a[0])?, negated(span(&a[1])?))?))
    }),
    ("timestamptz_pl_interval", |c, a| {
        Ok(Datum::TimestampTz(timestamptz_add(ts(&a[0])?, span(&a[1])?, zone(c))?))
    }),
    ("interval_pl_timestamptz(interval,timestamptz)", |c, a| {
        Ok(Datum::TimestampTz(timestamptz_add(ts(&a[1])?, span(&a[0])?, zone(c))?))
    }),
    ("timestamptz_mi_interval", |c, a| {
        Ok(Datum::TimestampTz(timestamptz_add(ts(&a[0])?, negated(span(&a[1])?), zone(c))?))
    }),
    ("timestamp_mi", |_, a| Ok(Datum::Interval(timestamp_sub(ts(&a[0])?, ts(&a[1])?)?))),
    ("timestamp_age", |_, a| timestamp_age(ts(&a[0])?, ts(&a[1])?)),
    ("timestamptz_age", |c, a| timestamptz_age(c, ts(&a[0])?, ts(&a[1])?)),
    ("age(timestamp)", |c, a| timestamp_age(midnight(c)?, ts(&a[0])?)),
    ("age(timestamptz)", |c, a| {
        let today = timestamp_to_timestamptz(midnight(c)?, zone(c));
        timestamptz_age(c, today.map_err(|_| timestamp_out_of_range())?, ts(&a[0])?)
    }),
    ("time_mi_time", |_, a| Ok(Datum::Interval(micros(time(&a[0])? - time(&a[1])?)))),
    ("time_pl_interval", |_, a| Ok(Datum::Time(time_plus(time(&a[0])?, span(&a[1])?.micros)))),
    ("interval_pl_time(interval,time)", |_, a| {
        Ok(Datum::Time(time_plus(time(&a[1])?, span(&a[0])?.micros)))
    }),
    ("time_mi_interval", |_, a| {
        Ok(Datum::Time(time_plus(time(&a[0])?, span(&a[1])?.micros.wrapping_neg())))
    }),
    ("timetz_pl_interval", |_, a| timetz_plus(timetz(&a[0])?, span(&a[1])?.micros)),
    ("interval_pl_timetz(interval,timetz)", |_, a| {
        timetz_plus(timetz(&a[1])?, span(&a[0])?.micros)
    }),
    ("timetz_mi_interval", |_, a| timetz_plus(timetz(&a[0])?, span(&a[1])?.micros.wrapping_neg())),
    ("interval_um", |_, a| Ok(Datum::Interval(interval_neg(span(&a[0])?)?))),
    ("interval_pl", |_, a| Ok(Datum::Interval(interval_add(span(&a[0])?, span(&a[1])?)?))),
    ("interval_mi", |_, a| Ok(Datum::Interval(interval_sub(span(&a[0])?, span(&a[1])?)?))),
    ("interval_mul", |_, a| Ok(Datum::Interval(interval_mul(span(&a[0])?, float(&a[1])?)?))),
    ("mul_d_interval", |_, a| Ok(Datum::Interval(interval_mul(span(&a[1])?, float(&a[0])?)?))),
    ("interval_div", |_, a| Ok(Datum::Interval(interval_div(span(&a[0])?, float(&a[1])?)?))),
    ("interval_justify_hours", |_, a| Ok(Datum::Interval(justify_hours(span(&a[0])?)?))),
    ("interval_justify_days", |_, a| Ok(Datum::Interval(justify_days(span(&a[0])?)?))),
    ("interval_justify_interval", |_, a| Ok(Datum::Interval(justify_interval(span(&a[0])?)?))),
];

fn date_plus(d: i32, v: Interval) -> Result<Datum> {
    Ok(Datum::Timestamp(timestamp_add(date_to_timestamp(d)?, v)?))
}

fn time_plus(t: i64, add: i64) -> i64 {
    wrap(t + add % USECS_PER_DAY)
}

fn timetz_plus((t, west): (i64, i32), add: i64) -> Result<Datum> {
    Ok(Datum::TimeTz(time_plus(t, add), west))
}

/// PostgreSQL 15 knows no infinite intervals: it counts from "infinity" as from the last microsecond
/// of its range, and fails for "-infinity", which lies before the first day.
fn countable(t: i64) -> bool {
    t == i64::MAX || timestamp_valid(t)
}

fn timestamp_age(a: i64, b: i64) -> Result<Datum> {
    if !countable(a) || !countable(b) {
        return Err(timestamp_out_of_range());
    }
    Ok(Datum::Interval(age(&Fields::of_timestamp(a), &Fields::of_timestamp(b))))
}

fn timestamptz_age(call: &CallInfo<'_>, a: i64, b: i64) -> Result<Datum> {
    let local = |t| match t {
        i64::MAX => Ok(Fields::of_timestamp(t)),
        t => local_fields(t, zone(call)),
    };
    let (late, early) = (local(a)?, local(b)?);
    Ok(Datum::Interval(age(&late, &early)))
}

/// The start of the current day, local.
fn midnight(call: &CallInfo<'_>) -> Result<i64> {
    let now = timestamptz_to_timestamp(call.ctx.transaction_time, zone(call))?;
    Ok(now - now.rem_euclid(USECS_PER_DAY))
}

/// Casts and changes of precision.
pub(crate) const CASTS: &[(&str, Kernel)] = &[
    ("date_timestamp", |_, a| Ok(Datum::Timestamp(date_to_timestamp(date(&a[0])?)?))),
    ("date_timestamptz", |c, a| {
        Ok(Datum::TimestampTz(date_to_timestamptz(date(&a[0])?, zone(c)).map_err(|_| {
            PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range for timestamp")
        })?))
    }),
    ("timestamp_date", |_, a| Ok(Datum::Date(timestamp_to_date(ts(&a[0])?)?))),
    ("timestamptz_date", |c, a| {
        let local = timestamptz_to_timestamp(ts(&a[0])?, zone(c))?;
        Ok(Datum::Date(timestamp_to_date(local)?))
    }),
    ("timestamptz_timestamp", |c, a| {
        Ok(Datum::Timestamp(timestamptz_to_timestamp(ts(&a[0])?, zone(c))?))
    }),
    ("timestamp_timestamptz", |c, a| {
        let utc = timestamp_to_timestamptz(ts(&a[0])?, zone(c));
        Ok(Datum::TimestampTz(utc.map_err(|_| timestamp_out_of_range())?))
    }),
    ("timestamp_time", |_, a| match ts(&a[0])? {
        t if timestamp_infinite(t) => Ok(Datum::Null),
        t => Ok(Datum::Time(wrap(t))),
    }),
    ("timestamptz_time", |c, a| match ts(&a[0])? {
        t if timestamp_infinite(t) => Ok(Datum::Null),
        t => Ok(Datum::Time(local_fields(t, zone(c))?.time())),
    }),
    ("timestamptz_timetz", |c, a| match ts(&a[0])? {
        t if timestamp_infinite(t) => Ok(Datum::Null),
        t => {
            let west = -zone(c).east_at(t.div_euclid(USECS_PER_SEC));
            Ok(Datum::TimeTz(local_fields(t, zone(c))?.time(), west))
        }
    }),
    ("timetz_time", |_, a| Ok(Datum::Time(timetz(&a[0])?.0))),
    ("time_timetz", |c, a| {
        let time = time(&a[0])?;
        let mut today = local_fields(c.ctx.transaction_time, zone(c))?;
        today.set_time(time);
        Ok(Datum::TimeTz(time, zone(c).west_of(&today)))
    }),
    ("time_interval", |_, a| Ok(Datum::Interval(micros(time(&a[0])?)))),
    ("interval_time", |_, a| Ok(Datum::Time(wrap(span(&a[0])?.micros)))),
    ("datetime_timestamp", |_, a| date_and_time(date(&a[0])?, time(&a[1])?)),
    ("timedate_pl(time,date)", |_, a| date_and_time(date(&a[1])?, time(&a[0])?)),
    ("datetimetz_timestamptz", |_, a| date_and_timetz(date(&a[0])?, timetz(&a[1])?)),
    ("timetzdate_pl(timetz,date)", |_, a| date_and_timetz(date(&a[1])?, timetz(&a[0])?)),
    ("timestamptz(date,time)", |c, a| match date_and_time(date(&a[0])?, time(&a[1])?)? {
        Datum::Timestamp(t) => {
            let utc = timestamp_to_timestamptz(t, zone(c));
            Ok(Datum::TimestampTz(utc.map_err(|_| timestamp_out_of_range())?))
        }
        other => Ok(other),
    }),
    ("timestamp_scale", |_, a| Ok(Datum::Timestamp(timestamp_scale(ts(&a[0])?, int(&a[1])?)?))),
    ("timestamptz_scale", |_, a| Ok(Datum::TimestampTz(timestamp_scale(ts(&a[0])?, int(&a[1])?)?))),
    ("time_scale", |_, a| Ok(Datum::Time(time_scale(time(&a[0])?, int(&a[1])?)))),
    ("timetz_scale", |_, a| {
        let (t, west) = timetz(&a[0])?;
        Ok(Datum::TimeTz(time_scale(t, int(&a[1])?), west))
    }),
    ("interval_scale", |_, a| Ok(Datum::Interval(interval_scale(span(&a[0])?, int(&a[1])?)?))),
];

fn date_and_time(d: i32, t: i64) -> Result<Datum> {
    let start = date_to_timestamp(d)?;
    if date_infinite(d) {
        return Ok(Datum::Timestamp(start));
    }
    let sum = Some(start + t).filter(|v| timestamp_valid(*v));
    Ok(Datum::Timestamp(sum.ok_or_else(timestamp_out_of_range)?))
}

fn date_and_timetz(d: i32, (t, west): (i64, i32)) -> Result<Datum> {
    let start = date_to_timestamp(d)?;
    if date_infinite(d) {
        return Ok(Datum::TimestampTz(start));
    }
    let utc = Some(start + t + i64::from(west) * USECS_PER_SEC).filter(|v| timestamp_valid(*v));
    Ok(Datum::TimestampTz(utc.ok_or_else(timestamp_out_of_range)?))
}

/// `AT TIME ZONE`
pub(crate) const ZONES: &[(&str, Kernel)] = &[
    ("timestamp_zone", |_, a| {
        if let Some(same) = unmoved(&a[1])? {
            return Ok(Datum::TimestampTz(same));
        }
        let (name, t) = (named(text(&a[0])?)?, ts(&a[1])?);
        shifted(t, -i64::from(name.east_of_local(t.div_euclid(USECS_PER_SEC))))
            .map(Datum::TimestampTz)
    }),
    ("timestamptz_zone", |_, a| {
        if let Some(same) = unmoved(&a[1])? {
            return Ok(Datum::Timestamp(same));
        }
        let (name, t) = (named(text(&a[0])?)?, ts(&a[1])?);
        shifted(t, i64::from(name.east_at(t.div_euclid(USECS_PER_SEC)))).map(Datum::Timestamp)
    }),
    ("timestamp_izone", |_, a| {
        if let Some(same) = unmoved(&a[1])? {
            return Ok(Datum::TimestampTz(same));
        }
        shifted(ts(&a[1])?, -interval_offset(span(&a[0])?)?).map(Datum::TimestampTz)
    }),
    ("timestamptz_izone", |_, a| {
        if let Some(same) = unmoved(&a[1])? {
            return Ok(Datum::Timestamp(same));
        }
        shifted(ts(&a[1])?, interval_offset(span(&a[0])?)?).map(Datum::Timestamp)
    }),
    ("timetz_zone", |c, a| {
        let name = named(text(&a[0])?)?;
        let now = c.ctx.transaction_time.div_euclid(USECS_PER_SEC);
        Ok(moved(timetz(&a[1])?, -name.east_at(now)))
    }),
    ("timetz_izone", |_, a| {
        let west = -interval_offset(span(&a[0])?)?;
        Ok(moved(timetz(&a[1])?, west as i32))
    }),
];

fn named(name: &str) -> Result<ZoneName> {
    ZoneName::parse(name).ok_or_else(|| unknown_zone(name))
}

/// An infinity, which is the same in every zone: the zone isn't even looked at.
fn unmoved(d: &Datum) -> Result<Option<i64>> {
    ts(d).map(|t| timestamp_infinite(t).then_some(t))
}

fn shifted(t: i64, seconds: i64) -> Result<i64> {
    let moved = t.checked_add(seconds * USECS_PER_SEC).filter(|v| timestamp_valid(*v));
    moved.ok_or_else(timestamp_out_of_range)
}

fn moved((t, west): (i64, i32), to_west: i32) -> Datum {
    Datum::TimeTz(wrap(t + i64::from(west - to_west) * USECS_PER_SEC), to_west)
}

/// Seconds east of UTC that an interval used as a zone means.
fn interval_offset(v: Interval) -> Result<i64> {
    if v.months != 0 || v.days != 0 {
        let mut shown = Vec::new();
        crate::datetime::interval_out(&mut shown, v, crate::context::IntervalStyle::Postgres);
        let shown = String::from_utf8_lossy(&shown).into_owned();
        return Err(PgError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("interval time zone \"{shown}\" must not include months or days"),
        ));
    }
    Ok(v.micros / USECS_PER_SEC)
}

/// The instant of local fields in the session's zone, for other kernels.
pub(super) fn session_instant(call: &CallInfo<'_>, f: &Fields) -> Result<i64> {
    from_local(f, zone(call))
}
