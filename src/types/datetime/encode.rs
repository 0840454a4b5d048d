//! Text of dates, times and timestamps, appended to a byte buffer without other allocations.

use super::calendar::{
    DATE_NEG_INF, DATE_POS_INF, DAYS, Fields, MONTHS, TIMESTAMP_NEG_INF, TIMESTAMP_POS_INF,
    USECS_PER_SEC, from_days, timestamp_valid, weekday,
};
use super::fail::timestamp_out_of_range;
use crate::context::{DateOrder, DateStyle};
use crate::{Result, Settings};

/// Appends two digits.
#[inline]
pub(super) fn two(out: &mut Vec<u8>, v: i32) {
    let v = v.rem_euclid(100) as u8;
    out.extend_from_slice(&[b'0' + v / 10, b'0' + v % 10]);
}

/// Appends a number, with zeros in front up to `width` digits.
pub(super) fn padded(out: &mut Vec<u8>, v: i64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    let mut rest = v.unsigned_abs();
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    if v < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

/// Appends `.ffffff` without trailing zeros; nothing for 0.
pub(super) fn fraction(out: &mut Vec<u8>, micros: i32) {
    if micros == 0 {
        return;
    }
    out.push(b'.');
    padded(out, i64::from(micros.unsigned_abs()), 6);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

/// Appends `hh:mm:ss[.ffffff]`.
pub(super) fn clock(out: &mut Vec<u8>, f: &Fields) {
    two(out, f.hour);
    out.push(b':');
    two(out, f.minute);
    out.push(b':');
    two(out, f.second);
    fraction(out, f.micros);
}

/// Appends a zone's offset, given in seconds west of UTC.
pub(super) fn offset(out: &mut Vec<u8>, west: i32) {
    out.push(if west <= 0 { b'+' } else { b'-' });
    let seconds = west.unsigned_abs() as i32;
    two(out, seconds / 3600);
    if seconds % 3600 != 0 {
        out.push(b':');
        two(out, seconds / 60 % 60);
        if seconds % 60 != 0 {
            out.push(b':');
            two(out, seconds % 60);
        }
    }
}

fn year(out: &mut Vec<u8>, f: &Fields) {
    let shown = if f.year > 0 { f.year } else { 1 - f.year };
    padded(out, i64::from(shown), 4);
}

fn era(out: &mut Vec<u8>, f: &Fields) {
    if f.year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

fn month_and_day(out: &mut Vec<u8>, f: &Fields, separator: u8, day_first: bool) {
    let (a, b) = if day_first { (f.day, f.month) } else { (f.month, f.day) };
    two(out, a);
    out.push(separator);
    two(out, b);
}

/// Appends a date.
pub fn date_out(out: &mut Vec<u8>, date: i32, settings: &Settings) {
    match date {
        DATE_NEG_INF => return out.extend_from_slice(b"-infinity"),
        DATE_POS_INF => return out.extend_from_slice(b"infinity"),
        _ => {}
    }
    let (y, m, d) = from_days(i64::from(date));
    let f = Fields { year: y, month: m, day: d, ..Fields::default() };
    let day_first = settings.date_order == DateOrder::Dmy;
    match settings.date_style {
        DateStyle::Iso => {
            year(out, &f);
            out.push(b'-');
            month_and_day(out, &f, b'-', false);
        }
        DateStyle::Sql => {
            month_and_day(out, &f, b'/', day_first);
            out.push(b'/');
            year(out, &f);
        }
        DateStyle::German => {
            month_and_day(out, &f, b'.', true);
            out.push(b'.');
            year(out, &f);
        }
        DateStyle::Postgres => {
            month_and_day(out, &f, b'-', day_first);
            out.push(b'-');
            year(out, &f);
        }
    }
    era(out, &f);
}

/// Appends a time of day.
pub fn time_out(out: &mut Vec<u8>, time: i64) {
    let mut f = Fields::default();
    f.set_time(time);
    clock(out, &f);
}

/// Appends a time of day with its offset (seconds west of UTC).
pub fn timetz_out(out: &mut Vec<u8>, time: i64, west: i32) {
    time_out(out, time);
    offset(out, west);
}

/// What follows the time of a timestamp.
enum Tail<'a> {
    None,
    Zone(i32, &'a str),
}

fn tail_named(out: &mut Vec<u8>, tail: &Tail<'_>, space: bool) {
    let Tail::Zone(west, name) = tail else { return };
    if name.is_empty() {
        if space {
            out.push(b' ');
        }
        offset(out, *west);
    } else {
        out.push(b' ');
        out.extend(name.bytes().take(10));
    }
}

fn datetime(out: &mut Vec<u8>, f: &Fields, tail: &Tail<'_>, settings: &Settings) {
    let day_first = settings.date_order == DateOrder::Dmy;
    match settings.date_style {
        DateStyle::Iso => {
            year(out, f);
            out.push(b'-');
            month_and_day(out, f, b'-', false);
            out.push(b' ');
            clock(out, f);
            if let Tail::Zone(west, _) = tail {
                offset(out, *west);
            }
        }
        DateStyle::Sql | DateStyle::German => {
            let german = settings.date_style == DateStyle::German;
            let separator = if german { b'.' } else { b'/' };
            month_and_day(out, f, separator, german || day_first);
            out.push(separator);
            year(out, f);
            out.push(b' ');
            clock(out, f);
            tail_named(out, tail, false);
        }
        DateStyle::Postgres => {
            out.extend_from_slice(&DAYS[weekday(f.days()) as usize].as_bytes()[..3]);
            out.push(b' ');
            let month = &MONTHS[(f.month - 1) as usize].as_bytes()[..3];
            if day_first {
                two(out, f.day);
                out.push(b' ');
                out.extend_from_slice(month);
            } else {
                out.extend_from_slice(month);
                out.push(b' ');
                two(out, f.day);
            }
            out.push(b' ');
            clock(out, f);
            out.push(b' ');
            year(out, f);
            tail_named(out, tail, true);
        }
    }
    era(out, f);
}

fn infinity(out: &mut Vec<u8>, ts: i64) -> bool {
    match ts {
        TIMESTAMP_NEG_INF => out.extend_from_slice(b"-infinity"),
        TIMESTAMP_POS_INF => out.extend_from_slice(b"infinity"),
        _ => return false,
    }
    true
}

/// Appends a timestamp without time zone.
pub fn timestamp_out(out: &mut Vec<u8>, ts: i64, settings: &Settings) -> Result<()> {
    if infinity(out, ts) {
        return Ok(());
    }
    if !timestamp_valid(ts) {
        return Err(timestamp_out_of_range());
    }
    datetime(out, &Fields::of_timestamp(ts), &Tail::None, settings);
    Ok(())
}

/// Appends a timestamp with time zone, in the session's zone.
pub fn timestamptz_out(out: &mut Vec<u8>, ts: i64, settings: &Settings) -> Result<()> {
    if infinity(out, ts) {
        return Ok(());
    }
    if !timestamp_valid(ts) {
        return Err(timestamp_out_of_range());
    }
    let second = ts.div_euclid(USECS_PER_SEC);
    let (east, name) = if settings.date_style == DateStyle::Iso {
        (settings.time_zone.east_at(second), String::new())
    } else {
        let state = settings.time_zone.state_at(second);
        (state.east, state.abbrev)
    };
    let local = Fields::of_timestamp(ts + i64::from(east) * USECS_PER_SEC);
    datetime(out, &local, &Tail::Zone(-east, &name), settings);
    Ok(())
}
