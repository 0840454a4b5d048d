//! `extract` and `date_part`: one part of a date, a time or an interval.
//!
//! A part is computed once, as an exact [`Part`]; `extract` makes a `numeric` of it and
//! `date_part` a `float8`.

use super::datetime_args::{date, span, text, time, timetz, ts};
use crate::datetime::Span;
use crate::datetime::arith::local_fields;
use crate::datetime::calendar::{
    EPOCH_JULIAN, Fields, UNIX_TO_PG_SECS, USECS_PER_DAY, USECS_PER_SEC, date_infinite,
    day_of_year, from_days, iso_week, timestamp_infinite, timestamp_valid, weekday,
};
use crate::datetime::words::{Unit, field_unit};
use crate::numeric::Numeric;
use crate::registry::{CallInfo, Kernel};
use crate::{Datum, Interval, PgError, Result, SqlState};

/// A part, exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Int(i64),
    /// Microseconds shown as seconds.
    Seconds(i64),
    /// Microseconds shown as milliseconds.
    Millis(i64),
    /// Microseconds since 1970, shown as seconds.
    Epoch(i128),
    /// Days and microseconds of the last day.
    Julian(i64, i64),
    Infinite(bool),
    Null,
}

impl Part {
    fn numeric(self) -> Result<Datum> {
        Ok(Datum::Numeric(match self {
            Part::Int(v) => Numeric::from(v),
            Part::Seconds(v) => Numeric::from_i128(i128::from(v), 6),
            Part::Millis(v) => Numeric::from_i128(i128::from(v), 3),
            Part::Epoch(v) => Numeric::from_i128(v, 6),
            Part::Julian(days, micros) => {
                let share = Numeric::from(micros).div(&Numeric::from(USECS_PER_DAY))?;
                Numeric::from(days).add(&share)?
            }
            Part::Infinite(negative) => {
                Numeric::parse(if negative { "-Infinity" } else { "Infinity" })?
            }
            Part::Null => return Ok(Datum::Null),
        }))
    }

    fn float(self) -> Datum {
        Datum::Float8(match self {
            Part::Int(v) => v as f64,
            Part::Seconds(v) => {
                (v / USECS_PER_SEC) as f64 + (v % USECS_PER_SEC) as f64 / 1_000_000.0
            }
            Part::Millis(v) => {
                (v / USECS_PER_SEC) as f64 * 1000.0 + (v % USECS_PER_SEC) as f64 / 1000.0
            }
            Part::Epoch(v) => v as f64 / 1_000_000.0,
            Part::Julian(days, micros) => days as f64 + micros as f64 / USECS_PER_DAY as f64,
            Part::Infinite(negative) => {
                if negative {
                    f64::NEG_INFINITY
                } else {
                    f64::INFINITY
                }
            }
            Part::Null => return Datum::Null,
        })
    }
}

/// Parts.
pub(crate) const KERNELS: &[(&str, Kernel)] = &[
    ("extract_date", |_, a| of_date(text(&a[0])?, date(&a[1])?)?.numeric()),
    ("date_part(text,date)", |_, a| {
        let day = date(&a[1])?;
        let t = crate::datetime::arith::date_to_timestamp(day)?;
        Ok(of_timestamp(text(&a[0])?, t)?.float())
    }),
    ("extract_timestamp", |_, a| of_timestamp(text(&a[0])?, ts(&a[1])?)?.numeric()),
    ("timestamp_part", |_, a| Ok(of_timestamp(text(&a[0])?, ts(&a[1])?)?.float())),
    ("extract_timestamptz", |c, a| of_timestamptz(c, text(&a[0])?, ts(&a[1])?)?.numeric()),
    ("timestamptz_part", |c, a| Ok(of_timestamptz(c, text(&a[0])?, ts(&a[1])?)?.float())),
    ("extract_time", |_, a| of_time(text(&a[0])?, time(&a[1])?, None)?.numeric()),
    ("time_part", |_, a| Ok(of_time(text(&a[0])?, time(&a[1])?, None)?.float())),
    ("extract_timetz", |_, a| timetz_part(a)?.numeric()),
    ("timetz_part", |_, a| Ok(timetz_part(a)?.float())),
    ("extract_interval", |_, a| of_interval(text(&a[0])?, span(&a[1])?)?.numeric()),
    ("interval_part", |_, a| Ok(of_interval(text(&a[0])?, span(&a[1])?)?.float())),
];

fn timetz_part(a: &[Datum]) -> Result<Part> {
    let (t, west) = timetz(&a[1])?;
    of_time(text(&a[0])?, t, Some(west))
}

pub(super) fn unknown(unit: &str, type_name: &str) -> PgError {
    let unit = unit.to_ascii_lowercase();
    PgError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("unit \"{unit}\" not recognized for type {type_name}"),
    )
}

pub(super) fn unsupported(unit: &str, type_name: &str) -> PgError {
    let unit = unit.to_ascii_lowercase();
    PgError::unsupported(format!("unit \"{unit}\" not supported for type {type_name}"))
}

fn shown_year(year: i32) -> i64 {
    i64::from(if year > 0 { year } else { year - 1 })
}

/// The parts that the calendar has, whatever the time.
fn of_days(unit: Unit, f: &Fields) -> Option<i64> {
    let year = shown_year(f.year);
    Some(match unit {
        Unit::Day => i64::from(f.day),
        Unit::Month => i64::from(f.month),
        Unit::Quarter => i64::from((f.month - 1) / 3 + 1),
        Unit::Week => i64::from(iso_week(f.days()).1),
        Unit::Year => year,
        Unit::Decade if f.year >= 0 => i64::from(f.year / 10),
        Unit::Decade => -((8 - (i64::from(f.year) - 1)) / 10),
        Unit::Century if f.year > 0 => (year + 99) / 100,
        Unit::Century => -((99 - (i64::from(f.year) - 1)) / 100),
        Unit::Millennium if f.year > 0 => (year + 999) / 1000,
        Unit::Millennium => -((999 - (i64::from(f.year) - 1)) / 1000),
        Unit::IsoYear => shown_year(iso_week(f.days()).0),
        Unit::DayOfWeek => i64::from(weekday(f.days())),
        Unit::IsoDayOfWeek => i64::from((weekday(f.days()) + 6) % 7 + 1),
        Unit::DayOfYear => i64::from(day_of_year(f)),
        _ => return None,
    })
}

fn of_clock(unit: Unit, f: &Fields) -> Option<Part> {
    let sub_minute = i64::from(f.second) * USECS_PER_SEC + i64::from(f.micros);
    Some(match unit {
        Unit::Hour => Part::Int(i64::from(f.hour)),
        Unit::Minute => Part::Int(i64::from(f.minute)),
        Unit::Second => Part::Seconds(sub_minute),
        Unit::Millisecond => Part::Millis(sub_minute),
        Unit::Microsecond => Part::Int(sub_minute),
        _ => return None,
    })
}

fn of_offset(unit: Unit, west: i32) -> Option<Part> {
    Some(Part::Int(i64::from(match unit {
        Unit::Zone => -west,
        Unit::ZoneHour => -west / 3600,
        Unit::ZoneMinute => -west / 60 % 60,
        _ => return None,
    })))
}

/// A part of an infinite value: growing parts are infinite, the others unknown.
fn of_infinity(unit: Option<Unit>, epoch: bool, negative: bool) -> Option<Part> {
    use Unit::{Century, Decade, IsoYear, Julian, Millennium, Year};
    match unit {
        _ if epoch => Some(Part::Infinite(negative)),
        Some(Year | Decade | Century | Millennium | Julian | IsoYear) => {
            Some(Part::Infinite(negative))
        }
        Some(Unit::Time) | None => None,
        Some(_) => Some(Part::Null),
    }
}

fn is_epoch(name: &str) -> bool {
    name.eq_ignore_ascii_case("epoch")
}

fn epoch(ts: i64) -> Part {
    Part::Epoch(i128::from(ts) + i128::from(UNIX_TO_PG_SECS) * i128::from(USECS_PER_SEC))
}

fn of_date(name: &str, d: i32) -> Result<Part> {
    let unit = field_unit(name);
    if date_infinite(d) {
        let clock = matches!(
            unit,
            Some(
                Unit::Hour
                    | Unit::Minute
                    | Unit::Second
                    | Unit::Millisecond
                    | Unit::Microsecond
                    | Unit::Zone
                    | Unit::ZoneHour
                    | Unit::ZoneMinute
            )
        );
        if clock {
            return Err(unsupported(name, "date"));
        }
        return of_infinity(unit, is_epoch(name), d < 0).ok_or_else(|| unknown(name, "date"));
    }
    if is_epoch(name) {
        return Ok(Part::Int(i64::from(d) * 86_400 + UNIX_TO_PG_SECS));
    }
    let (year, month, day) = from_days(i64::from(d));
    let f = Fields { year, month, day, ..Fields::default() };
    match unit {
        None => Err(unknown(name, "date")),
        Some(Unit::Julian) => Ok(Part::Int(i64::from(d) + EPOCH_JULIAN)),
        Some(u) => of_days(u, &f).map(Part::Int).ok_or_else(|| unsupported(name, "date")),
    }
}

fn of_timestamp(name: &str, t: i64) -> Result<Part> {
    const TYPE: &str = "timestamp without time zone";
    let unit = field_unit(name);
    if timestamp_infinite(t) {
        return of_infinity(unit, is_epoch(name), t < 0).ok_or_else(|| unknown(name, TYPE));
    }
    if is_epoch(name) {
        return Ok(epoch(t));
    }
    if !timestamp_valid(t) {
        return Err(crate::datetime::timestamp_out_of_range());
    }
    let f = Fields::of_timestamp(t);
    let unit = unit.ok_or_else(|| unknown(name, TYPE))?;
    of_fields(unit, &f).ok_or_else(|| unsupported(name, TYPE))
}

fn of_fields(unit: Unit, f: &Fields) -> Option<Part> {
    if unit == Unit::Julian {
        return Some(Part::Julian(f.days() + EPOCH_JULIAN, f.time()));
    }
    of_days(unit, f).map(Part::Int).or_else(|| of_clock(unit, f))
}

fn of_timestamptz(call: &CallInfo<'_>, name: &str, t: i64) -> Result<Part> {
    const TYPE: &str = "timestamp with time zone";
    let unit = field_unit(name);
    if timestamp_infinite(t) {
        return of_infinity(unit, is_epoch(name), t < 0).ok_or_else(|| unknown(name, TYPE));
    }
    if is_epoch(name) {
        return Ok(epoch(t));
    }
    let zone = &call.ctx.settings.time_zone;
    let f = local_fields(t, zone)?;
    let unit = unit.ok_or_else(|| unknown(name, TYPE))?;
    let west = -zone.east_at(t.div_euclid(USECS_PER_SEC));
    let part = of_fields(unit, &f).or_else(|| of_offset(unit, west));
    part.ok_or_else(|| unsupported(name, TYPE))
}

fn of_time(name: &str, t: i64, west: Option<i32>) -> Result<Part> {
    let type_name = if west.is_some() { "time with time zone" } else { "time without time zone" };
    if is_epoch(name) {
        let zone = i64::from(west.unwrap_or(0)) * USECS_PER_SEC;
        return Ok(Part::Epoch(i128::from(t + zone)));
    }
    let unit = field_unit(name).ok_or_else(|| unknown(name, type_name))?;
    let mut f = Fields::default();
    f.set_time(t);
    let part = of_clock(unit, &f).or_else(|| of_offset(unit, west?));
    part.ok_or_else(|| unsupported(name, type_name))
}

fn of_interval(name: &str, v: Interval) -> Result<Part> {
    if is_epoch(name) {
        // A year counts as 365.25 days here, a month beyond the years as 30.
        let quarter_days = i128::from(v.months / 12) * 1461
            + i128::from(v.months % 12) * 120
            + i128::from(v.days) * 4;
        let seconds = quarter_days * 21_600;
        return Ok(Part::Epoch(seconds * i128::from(USECS_PER_SEC) + i128::from(v.micros)));
    }
    let unit = field_unit(name).ok_or_else(|| unknown(name, "interval"))?;
    let s = Span::of(v);
    let sub_minute = i64::from(s.seconds) * USECS_PER_SEC + i64::from(s.micros);
    Ok(match unit {
        Unit::Microsecond => Part::Int(sub_minute),
        Unit::Millisecond => Part::Millis(sub_minute),
        Unit::Second => Part::Seconds(sub_minute),
        Unit::Minute => Part::Int(i64::from(s.minutes)),
        Unit::Hour => Part::Int(s.hours),
        Unit::Day => Part::Int(i64::from(s.days)),
        Unit::Month => Part::Int(i64::from(s.months)),
        Unit::Quarter => Part::Int(i64::from(s.months / 3 + 1)),
        Unit::Year => Part::Int(i64::from(s.years)),
        Unit::Decade => Part::Int(i64::from(s.years / 10)),
        Unit::Century => Part::Int(i64::from(s.years / 100)),
        Unit::Millennium => Part::Int(i64::from(s.years / 1000)),
        _ => return Err(unsupported(name, "interval")),
    })
}
