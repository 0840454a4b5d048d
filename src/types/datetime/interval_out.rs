//! Text of intervals in the four styles.

use super::calendar::{USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC};
use super::encode::{fraction, padded, two};
use crate::Interval;
use crate::context::IntervalStyle;

/// The fields of an interval; each has its own sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Years.
    pub years: i32,
    /// Months below a year.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Hours, without limit.
    pub hours: i64,
    /// Minutes below an hour.
    pub minutes: i32,
    /// Seconds below a minute.
    pub seconds: i32,
    /// Microseconds below a second.
    pub micros: i32,
}

impl Span {
    /// Splits an interval.
    pub fn of(v: Interval) -> Span {
        Span {
            years: v.months / 12,
            months: v.months % 12,
            days: v.days,
            hours: v.micros / USECS_PER_HOUR,
            minutes: (v.micros / USECS_PER_MINUTE % 60) as i32,
            seconds: (v.micros / USECS_PER_SEC % 60) as i32,
            micros: (v.micros % USECS_PER_SEC) as i32,
        }
    }

    fn time_is_zero(&self) -> bool {
        self.hours == 0 && self.minutes == 0 && self.seconds == 0 && self.micros == 0
    }

    fn time_is_negative(&self) -> bool {
        self.hours < 0 || self.minutes < 0 || self.seconds < 0 || self.micros < 0
    }

    fn clock(&self, out: &mut Vec<u8>, hour_width: usize) {
        padded(out, self.hours.saturating_abs(), hour_width);
        out.push(b':');
        two(out, self.minutes.abs());
        out.push(b':');
        two(out, self.seconds.abs());
        fraction(out, self.micros);
    }

    /// `[-]s[.ffffff]`
    fn short_seconds(&self, out: &mut Vec<u8>, signed: bool) {
        if signed && (self.seconds < 0 || self.micros < 0) {
            out.push(b'-');
        }
        padded(out, i64::from(self.seconds.abs()), 1);
        fraction(out, self.micros);
    }
}

/// Appends an interval.
pub fn interval_out(out: &mut Vec<u8>, v: Interval, style: IntervalStyle) {
    let s = Span::of(v);
    match style {
        IntervalStyle::Postgres => postgres(out, &s),
        IntervalStyle::PostgresVerbose => verbose(out, &s),
        IntervalStyle::SqlStandard => sql_standard(out, &s),
        IntervalStyle::Iso8601 => iso(out, &s),
    }
}

fn number(out: &mut Vec<u8>, v: i64) {
    padded(out, v, 1);
}

fn postgres(out: &mut Vec<u8>, s: &Span) {
    let start = out.len();
    let mut before_negative = false;
    for (value, name) in [(s.years, "year"), (s.months, "mon"), (s.days, "day")] {
        if value == 0 {
            continue;
        }
        if out.len() > start {
            out.push(b' ');
        }
        if before_negative && value > 0 {
            out.push(b'+');
        }
        number(out, i64::from(value));
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        if value != 1 {
            out.push(b's');
        }
        // The sign of a field shows when the one before it was negative.
        before_negative = value < 0;
    }
    let empty = out.len() == start;
    if empty || !s.time_is_zero() {
        if !empty {
            out.push(b' ');
        }
        if s.time_is_negative() {
            out.push(b'-');
        } else if before_negative {
            out.push(b'+');
        }
        s.clock(out, 2);
    }
}

fn verbose(out: &mut Vec<u8>, s: &Span) {
    out.push(b'@');
    let start = out.len();
    let mut ago = false;
    let fields = [
        (i64::from(s.years), "year"),
        (i64::from(s.months), "mon"),
        (i64::from(s.days), "day"),
        (s.hours, "hour"),
        (i64::from(s.minutes), "min"),
    ];
    for (value, name) in fields {
        if value == 0 {
            continue;
        }
        let shown = if out.len() == start {
            ago = value < 0;
            value.abs()
        } else if ago {
            -value
        } else {
            value
        };
        out.push(b' ');
        number(out, shown);
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        if shown != 1 {
            out.push(b's');
        }
    }
    if s.seconds != 0 || s.micros != 0 {
        let negative = s.seconds < 0 || s.micros < 0;
        out.push(b' ');
        if out.len() == start + 1 {
            ago = negative;
        } else if negative != ago {
            out.push(b'-');
        }
        s.short_seconds(out, false);
        out.extend_from_slice(b" sec");
        if s.seconds.abs() != 1 || s.micros != 0 {
            out.push(b's');
        }
    }
    if out.len() == start {
        out.extend_from_slice(b" 0");
    }
    if ago {
        out.extend_from_slice(b" ago");
    }
}

fn sql_standard(out: &mut Vec<u8>, s: &Span) {
    let negative = s.years < 0 || s.months < 0 || s.days < 0 || s.time_is_negative();
    let time_positive = s.hours > 0 || s.minutes > 0 || s.seconds > 0 || s.micros > 0;
    let positive = s.years > 0 || s.months > 0 || s.days > 0 || time_positive;
    let has_months = s.years != 0 || s.months != 0;
    let has_time = !s.time_is_zero();
    let has_day = s.days != 0;
    let pure = !(has_months && (has_day || has_time)) && !(negative && positive);
    if !negative && !positive {
        out.push(b'0');
    } else if !pure {
        let sign = |negative: bool| if negative { b'-' } else { b'+' };
        out.push(sign(s.years < 0 || s.months < 0));
        number(out, i64::from(s.years).abs());
        out.push(b'-');
        number(out, i64::from(s.months).abs());
        out.extend_from_slice(&[b' ', sign(s.days < 0)]);
        number(out, i64::from(s.days).abs());
        out.extend_from_slice(&[b' ', sign(s.time_is_negative())]);
        s.clock(out, 1);
    } else {
        if negative {
            out.push(b'-');
        }
        if has_months {
            number(out, i64::from(s.years).abs());
            out.push(b'-');
            number(out, i64::from(s.months).abs());
        } else {
            if has_day {
                number(out, i64::from(s.days).abs());
                out.push(b' ');
            }
            s.clock(out, 1);
        }
    }
}

fn iso(out: &mut Vec<u8>, s: &Span) {
    out.push(b'P');
    let start = out.len();
    for (value, unit) in [(s.years, b'Y'), (s.months, b'M'), (s.days, b'D')] {
        if value != 0 {
            number(out, i64::from(value));
            out.push(unit);
        }
    }
    if !s.time_is_zero() {
        out.push(b'T');
        for (value, unit) in [(s.hours, b'H'), (i64::from(s.minutes), b'M')] {
            if value != 0 {
                number(out, value);
                out.push(unit);
            }
        }
        if s.seconds != 0 || s.micros != 0 {
            s.short_seconds(out, true);
            out.push(b'S');
        }
    }
    if out.len() == start {
        out.extend_from_slice(b"T0S");
    }
}
