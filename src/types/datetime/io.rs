//! Text input of dates, times and timestamps.
//!
//! Input in ISO form is read by [`iso`] at once; everything else, and everything that looks wrong
//! there, takes the way of PostgreSQL's general parser, which also finds the error to raise.

use super::calendar::{
    DATE_NEG_INF, DATE_POS_INF, Fields, TIMESTAMP_NEG_INF, TIMESTAMP_POS_INF, UNIX_TO_PG_DAYS,
    UNIX_TO_PG_SECS, USECS_PER_SEC, checked_date, days_in_month, julian_valid, timestamp_infinite,
    timestamp_valid,
};
use super::decode::{Decodedtime, decode};
use super::fail::Fail;
use super::lex;
use crate::{PgError, Result, Settings, SqlState};

/// Reads `yyyy-mm-dd[ hh:mm[:ss[.ffffff]][Z|±hh[:mm]]]`; the zone is in seconds west of UTC.
fn iso(text: &str) -> Option<(Fields, Option<i32>)> {
    let b = text.as_bytes();
    let pair = |at: usize| -> Option<i32> {
        let (hi, lo) = (*b.get(at)?, *b.get(at + 1)?);
        (hi.is_ascii_digit() && lo.is_ascii_digit())
            .then(|| i32::from(hi - b'0') * 10 + i32::from(lo - b'0'))
    };
    let is = |at: usize, c: u8| b.get(at) == Some(&c);
    if !is(4, b'-') || !is(7, b'-') {
        return None;
    }
    let mut f = Fields {
        year: pair(0)? * 100 + pair(2)?,
        month: pair(5)?,
        day: pair(8)?,
        ..Fields::default()
    };
    let valid = f.year > 0
        && (1..=12).contains(&f.month)
        && f.day >= 1
        && f.day <= days_in_month(f.year, f.month);
    if !valid {
        return None;
    }
    if b.len() == 10 {
        return Some((f, None));
    }
    if !(is(10, b' ') || is(10, b'T')) || !is(13, b':') {
        return None;
    }
    (f.hour, f.minute) = (pair(11)?, pair(14)?);
    let mut at = 16;
    if is(16, b':') {
        f.second = pair(17)?;
        at = 19;
        if is(19, b'.') {
            let digits = b[20..].iter().take_while(|d| d.is_ascii_digit()).count();
            if !(1..=6).contains(&digits) {
                return None;
            }
            let value: i32 = text[20..20 + digits].parse().ok()?;
            f.micros = value * 10_i32.pow(6 - digits as u32);
            at = 20 + digits;
        }
    }
    if f.hour > 23 || f.minute > 59 || f.second > 59 {
        return None;
    }
    let sign = match b.get(at) {
        None => return Some((f, None)),
        Some(b'Z') if b.len() == at + 1 => return Some((f, Some(0))),
        Some(b'+') => -1,
        Some(b'-') => 1,
        _ => return None,
    };
    let hours = pair(at + 1)?;
    let minutes = match b.len() - at {
        3 => 0,
        6 if is(at + 3, b':') => pair(at + 4)?,
        _ => return None,
    };
    (hours <= 15 && minutes < 60).then_some((f, Some(sign * (hours * 60 + minutes) * 60)))
}

fn general(
    text: &str,
    time_only: bool,
    type_name: &str,
    settings: &Settings,
    now: i64,
) -> Result<Decodedtime> {
    let fields = lex::split(text).ok_or(Fail::Syntax);
    fields
        .and_then(|fields| decode(&fields, time_only, settings, now))
        .map_err(|fail| fail.error(text, type_name))
}

fn out_of_range(what: &str, text: &str) -> PgError {
    PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{what} out of range: \"{text}\""))
}

/// Reads a `date`. `now` is the start of the transaction in microseconds since 2000-01-01 UTC.
pub fn date_in(text: &str, settings: &Settings, now: i64) -> Result<i32> {
    let f = match iso(text) {
        Some((f, _)) => f,
        None => match general(text, false, "date", settings, now)? {
            Decodedtime::Epoch => return Ok(-UNIX_TO_PG_DAYS as i32),
            Decodedtime::Infinity => return Ok(DATE_POS_INF),
            Decodedtime::NegInfinity => return Ok(DATE_NEG_INF),
            Decodedtime::Fields(f, _) => f,
        },
    };
    if !julian_valid(f.year, f.month) {
        return Err(out_of_range("date", text));
    }
    checked_date(f.days()).ok_or_else(|| out_of_range("date", text))
}

/// Reads a `timestamp`.
pub fn timestamp_in(text: &str, typmod: i32, settings: &Settings, now: i64) -> Result<i64> {
    let f = match iso(text) {
        Some((f, _)) => f,
        None => match general(text, false, "timestamp", settings, now)? {
            Decodedtime::Epoch => return Ok(-UNIX_TO_PG_SECS * USECS_PER_SEC),
            Decodedtime::Infinity => return Ok(TIMESTAMP_POS_INF),
            Decodedtime::NegInfinity => return Ok(TIMESTAMP_NEG_INF),
            Decodedtime::Fields(f, _) => f,
        },
    };
    let ts = f.timestamp().ok_or_else(|| out_of_range("timestamp", text))?;
    timestamp_scale(ts, typmod)
}

/// Reads a `timestamptz`.
pub fn timestamptz_in(text: &str, typmod: i32, settings: &Settings, now: i64) -> Result<i64> {
    let (f, west) = match iso(text) {
        Some((f, Some(west))) => (f, west),
        Some((f, None)) => (f, settings.time_zone.west_of(&f)),
        None => match general(text, false, "timestamp with time zone", settings, now)? {
            Decodedtime::Epoch => return Ok(-UNIX_TO_PG_SECS * USECS_PER_SEC),
            Decodedtime::Infinity => return Ok(TIMESTAMP_POS_INF),
            Decodedtime::NegInfinity => return Ok(TIMESTAMP_NEG_INF),
            Decodedtime::Fields(f, west) => (f, west),
        },
    };
    let ts = timestamp_with_offset(&f, west).ok_or_else(|| out_of_range("timestamp", text))?;
    timestamp_scale(ts, typmod)
}

/// The instant of local fields at an offset (seconds west of UTC), if it is in range.
pub fn timestamp_with_offset(f: &Fields, west: i32) -> Option<i64> {
    if !julian_valid(f.year, f.month) {
        return None;
    }
    let local = f.days().checked_mul(super::calendar::USECS_PER_DAY)?.checked_add(f.time())?;
    let ts = local.checked_add(i64::from(west) * USECS_PER_SEC)?;
    timestamp_valid(ts).then_some(ts)
}

/// Reads a `time`.
pub fn time_in(text: &str, typmod: i32, settings: &Settings, now: i64) -> Result<i64> {
    match general(text, true, "time", settings, now)? {
        Decodedtime::Fields(f, _) => Ok(time_scale(f.time(), typmod)),
        _ => Err(Fail::Syntax.error(text, "time")),
    }
}

/// Reads a `timetz`: the time and the seconds west of UTC.
pub fn timetz_in(text: &str, typmod: i32, settings: &Settings, now: i64) -> Result<(i64, i32)> {
    match general(text, true, "time with time zone", settings, now)? {
        Decodedtime::Fields(f, west) => Ok((time_scale(f.time(), typmod), west)),
        _ => Err(Fail::Syntax.error(text, "time with time zone")),
    }
}

/// Rounds microseconds to a number of digits, halves away from zero.
pub(crate) fn round_micros(value: i64, digits: i32) -> i64 {
    let Some(scale) = u32::try_from(6 - digits).ok().map(|n| 10_i64.pow(n)) else { return value };
    let half = scale / 2;
    if value >= 0 {
        value.saturating_add(half) / scale * scale
    } else {
        -((-value).saturating_add(half) / scale * scale)
    }
}

/// Rounds a time to the precision of its type.
pub fn time_scale(time: i64, typmod: i32) -> i64 {
    if (0..6).contains(&typmod) { round_micros(time, typmod) } else { time }
}

/// Rounds a timestamp to the precision of its type.
pub fn timestamp_scale(ts: i64, typmod: i32) -> Result<i64> {
    if typmod == -1 || typmod == 6 || timestamp_infinite(ts) {
        return Ok(ts);
    }
    if !(0..=6).contains(&typmod) {
        return Err(PgError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("timestamp({typmod}) precision must be between 0 and 6"),
        ));
    }
    Ok(round_micros(ts, typmod))
}
