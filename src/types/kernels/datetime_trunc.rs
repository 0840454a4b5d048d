//! `date_trunc` and `date_bin`.

use super::datetime_args::{span, text, ts};
use super::datetime_part::{unknown, unsupported};
use crate::datetime::arith::{from_local, local_fields};
use crate::datetime::calendar::{
    Fields, USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC, timestamp_infinite,
    timestamp_valid, weekday,
};
use crate::datetime::words::{SpanWord, Unit, span_word};
use crate::datetime::{
    TimeZone, ZoneName, interval_out_of_range, timestamp_out_of_range, unknown_zone,
};
use crate::registry::Kernel;
use crate::{Datum, Interval, PgError, Result, SqlState};

/// Truncation.
pub(crate) const KERNELS: &[(&str, Kernel)] = &[
    ("timestamp_trunc", |_, a| Ok(Datum::Timestamp(timestamp(text(&a[0])?, ts(&a[1])?)?))),
    ("timestamptz_trunc", |c, a| {
        let zone = ZoneName::Zone(c.ctx.settings.time_zone.clone());
        Ok(Datum::TimestampTz(timestamptz(text(&a[0])?, ts(&a[1])?, &zone)?))
    }),
    ("timestamptz_trunc_zone", |_, a| {
        let (unit, t, name) = (text(&a[0])?, ts(&a[1])?, text(&a[2])?);
        if timestamp_infinite(t) {
            return Ok(Datum::TimestampTz(t));
        }
        let zone = ZoneName::parse(name).ok_or_else(|| unknown_zone(name))?;
        Ok(Datum::TimestampTz(timestamptz(unit, t, &zone)?))
    }),
    ("interval_trunc", |_, a| Ok(Datum::Interval(interval(text(&a[0])?, span(&a[1])?)?))),
    ("timestamp_bin", |_, a| Ok(Datum::Timestamp(bin(span(&a[0])?, ts(&a[1])?, ts(&a[2])?)?))),
    ("timestamptz_bin", |_, a| Ok(Datum::TimestampTz(bin(span(&a[0])?, ts(&a[1])?, ts(&a[2])?)?))),
];

fn unit_of(name: &str, type_name: &str) -> Result<Unit> {
    match span_word(&name.to_ascii_lowercase()) {
        Some(SpanWord::Unit(unit)) => Ok(unit),
        _ => Err(unknown(name, type_name)),
    }
}

/// First year of a period of so many years; centuries start with year 1.
fn period_start(year: i32, length: i32) -> i32 {
    if year > 0 {
        (year + length - 1) / length * length - length + 1
    } else {
        -((length - 1 - (year - 1)) / length) * length + 1
    }
}

/// Cuts fields; `false` when the unit cannot be cut to.
fn cut(f: &mut Fields, unit: Unit) -> bool {
    let time_unit = match unit {
        Unit::Microsecond => Some(1),
        Unit::Millisecond => Some(1000),
        Unit::Second => Some(USECS_PER_SEC),
        Unit::Minute => Some(USECS_PER_MINUTE),
        Unit::Hour => Some(USECS_PER_HOUR),
        _ => None,
    };
    if let Some(size) = time_unit {
        let time = f.time();
        f.set_time(time - time % size);
        return true;
    }
    f.set_time(0);
    match unit {
        Unit::Day => return true,
        Unit::Week => {
            let days = f.days();
            f.set_days(days - i64::from((weekday(days) + 6) % 7));
            return true;
        }
        Unit::Month => {}
        Unit::Quarter => f.month = (f.month - 1) / 3 * 3 + 1,
        Unit::Year => f.month = 1,
        Unit::Decade if f.year > 0 => f.year = f.year / 10 * 10,
        Unit::Decade => f.year = -((8 - (f.year - 1)) / 10) * 10,
        Unit::Century => f.year = period_start(f.year, 100),
        Unit::Millennium => f.year = period_start(f.year, 1000),
        _ => return false,
    }
    if matches!(unit, Unit::Decade | Unit::Century | Unit::Millennium) {
        f.month = 1;
    }
    f.day = 1;
    true
}

fn timestamp(name: &str, t: i64) -> Result<i64> {
    const TYPE: &str = "timestamp without time zone";
    if timestamp_infinite(t) {
        return Ok(t);
    }
    let unit = unit_of(name, TYPE)?;
    if !timestamp_valid(t) {
        return Err(timestamp_out_of_range());
    }
    let mut f = Fields::of_timestamp(t);
    if !cut(&mut f, unit) {
        return Err(unsupported(name, TYPE));
    }
    f.timestamp().ok_or_else(timestamp_out_of_range)
}

/// Below the day the offset stays as it is; from the day on it is that of the new local time.
fn timestamptz(name: &str, t: i64, zone: &ZoneName) -> Result<i64> {
    const TYPE: &str = "timestamp with time zone";
    if timestamp_infinite(t) {
        return Ok(t);
    }
    let unit = unit_of(name, TYPE)?;
    let fixed;
    let zone = match zone {
        ZoneName::Zone(zone) => zone,
        other => {
            fixed = TimeZone::fixed(other.east_at(t.div_euclid(USECS_PER_SEC)));
            &fixed
        }
    };
    let mut f = local_fields(t, zone)?;
    if !cut(&mut f, unit) {
        return Err(unsupported(name, TYPE));
    }
    let sub_day = matches!(
        unit,
        Unit::Microsecond | Unit::Millisecond | Unit::Second | Unit::Minute | Unit::Hour
    );
    if sub_day {
        let east = i64::from(zone.east_at(t.div_euclid(USECS_PER_SEC)));
        let local = f.timestamp().ok_or_else(timestamp_out_of_range)?;
        return Ok(local - east * USECS_PER_SEC);
    }
    from_local(&f, zone)
}

fn interval(name: &str, v: Interval) -> Result<Interval> {
    let unit = unit_of(name, "interval")?;
    let mut v = v;
    let months = match unit {
        Unit::Month => Some(1),
        Unit::Quarter => Some(3),
        Unit::Year => Some(12),
        Unit::Decade => Some(120),
        Unit::Century => Some(1200),
        Unit::Millennium => Some(12_000),
        _ => None,
    };
    if let Some(size) = months {
        return Ok(Interval { months: v.months / size * size, days: 0, micros: 0 });
    }
    let size = match unit {
        Unit::Microsecond => 1,
        Unit::Millisecond => 1000,
        Unit::Second => USECS_PER_SEC,
        Unit::Minute => USECS_PER_MINUTE,
        Unit::Hour => USECS_PER_HOUR,
        Unit::Day => {
            v.micros = 0;
            return Ok(v);
        }
        Unit::Week => {
            return Err(
                unsupported(name, "interval").detail("Months usually have fractional weeks.")
            );
        }
        _ => return Err(unsupported(name, "interval")),
    };
    v.micros -= v.micros % size;
    Ok(v)
}

fn bin(stride: Interval, t: i64, origin: i64) -> Result<i64> {
    let refuse = |text: &str| Err(PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, text));
    if timestamp_infinite(t) {
        return Ok(t);
    }
    if timestamp_infinite(origin) {
        return refuse("origin out of range");
    }
    if stride.months != 0 {
        return Err(PgError::unsupported(
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let days = i64::from(stride.days).checked_mul(USECS_PER_DAY);
    let size = days.and_then(|d| d.checked_add(stride.micros)).ok_or_else(interval_out_of_range)?;
    if size <= 0 {
        return refuse("stride must be greater than zero");
    }
    let distance = t.checked_sub(origin).ok_or_else(interval_out_of_range)?;
    let start = distance.checked_sub(distance.rem_euclid(size));
    let start = start.and_then(|s| origin.checked_add(s)).filter(|v| timestamp_valid(*v));
    start.ok_or_else(timestamp_out_of_range)
}
