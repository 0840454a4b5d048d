//! POSIX zone specifications such as `PST8PDT,M3.2.0,M11.1.0` or `<+0530>-5:30`.
//!
//! Offsets in a specification count *west* of Greenwich. A specification that names a daylight
//! saving zone without rules follows the rules of the United States.

use super::calendar::{SECS_PER_DAY, from_days, is_leap, to_days, weekday};

/// A day of the year on which the clocks change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    /// `Jn`: 1..=365, 29 February is never counted.
    Julian(i32),
    /// `n`: 0..=365.
    Zero(i32),
    /// `Mm.w.d`: weekday `d` of week `w` of month `m`.
    Month(i32, i32, i32),
}

/// A change of the clocks: the day and the local second of that day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    day: Day,
    second: i64,
}

/// Daylight saving time of a specification.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dst {
    abbrev: String,
    east: i32,
    start: Change,
    end: Change,
}

/// A parsed specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Posix {
    pub(super) name: String,
    abbrev: String,
    east: i32,
    dst: Option<Dst>,
}

impl Posix {
    /// A zone with a fixed offset, named as PostgreSQL names those of `SET TIME ZONE -8`.
    pub(super) fn fixed(east: i32) -> Posix {
        let (sign, flipped) = if east < 0 { ('-', '+') } else { ('+', '-') };
        let abs = east.unsigned_abs();
        let mut text = format!("{:02}", abs / 3600);
        if !abs.is_multiple_of(3600) {
            text.push_str(&format!(":{:02}", abs / 60 % 60));
            if !abs.is_multiple_of(60) {
                text.push_str(&format!(":{:02}", abs % 60));
            }
        }
        let name = format!("<{sign}{text}>{flipped}{text}");
        Posix { name, abbrev: format!("{sign}{text}"), east, dst: None }
    }

    /// Reads a specification; `None` when it is not one.
    pub(super) fn parse(spec: &str) -> Option<Posix> {
        let mut p = Cursor { rest: spec };
        let abbrev = p.name()?;
        let east = -p.offset()?;
        let mut zone = Posix { name: spec.to_owned(), abbrev: abbrev.to_owned(), east, dst: None };
        if p.rest.is_empty() {
            return Some(zone);
        }
        let dst_abbrev = p.name().filter(|n| !n.is_empty())?;
        let dst_east = match p.rest.as_bytes().first() {
            None | Some(b',' | b';') => east + 3600,
            _ => -p.offset()?,
        };
        if p.rest.is_empty() {
            p.rest = ",M3.2.0,M11.1.0";
        }
        p.eat(',').or_else(|| p.eat(';'))?;
        let start = p.change()?;
        p.eat(',')?;
        let end = p.change()?;
        zone.dst = Some(Dst { abbrev: dst_abbrev.to_owned(), east: dst_east, start, end });
        p.rest.is_empty().then_some(zone)
    }

    /// Seconds east, whether it is daylight saving time, and the abbreviation.
    pub(super) fn at(&self, utc: i64) -> (i32, bool, &str) {
        let standard = (self.east, false, self.abbrev.as_str());
        let Some(dst) = &self.dst else { return standard };
        let local = utc + i64::from(self.east);
        let (year, ..) = from_days(local.div_euclid(SECS_PER_DAY));
        let start = dst.start.local_second(year) - i64::from(self.east);
        let end = dst.end.local_second(year) - i64::from(dst.east);
        let in_dst = match start < end {
            true => (start..end).contains(&utc),
            false => !(end..start).contains(&utc),
        };
        if in_dst { (dst.east, true, dst.abbrev.as_str()) } else { standard }
    }

    /// The offset when it never changes.
    pub(super) fn constant(&self) -> Option<i32> {
        self.dst.is_none().then_some(self.east)
    }
}

impl Change {
    /// Seconds since 2000-01-01, local time before the change.
    fn local_second(&self, year: i32) -> i64 {
        let jan1 = to_days(year, 1, 1);
        let day = match self.day {
            Day::Zero(n) => jan1 + i64::from(n),
            Day::Julian(n) => jan1 + i64::from(n) - 1 + i64::from(is_leap(year) && n >= 60),
            Day::Month(month, week, day) => {
                let first = to_days(year, month, 1);
                let shift = (day - weekday(first)).rem_euclid(7);
                let mut found = first + i64::from(shift) + i64::from(week - 1) * 7;
                let next_month = to_days(year, month + 1, 1);
                while found >= next_month {
                    found -= 7;
                }
                found
            }
        };
        day * SECS_PER_DAY + self.second
    }
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, c: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(c)?;
        Some(())
    }

    fn name(&mut self) -> Option<&'a str> {
        if let Some(quoted) = self.rest.strip_prefix('<') {
            let (name, rest) = quoted.split_once('>')?;
            self.rest = rest;
            return Some(name);
        }
        let stop = |c: char| c.is_ascii_digit() || matches!(c, ',' | '-' | '+');
        let end = self.rest.find(stop).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(name)
    }

    fn number(&mut self, min: i32, max: i32) -> Option<i32> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let value = self.rest[..end].parse().ok().filter(|v| (min..=max).contains(v))?;
        self.rest = &self.rest[end..];
        Some(value)
    }

    fn offset(&mut self) -> Option<i32> {
        let negative = self.eat('-').is_some();
        if !negative {
            let _ = self.eat('+');
        }
        let mut seconds = self.number(0, 167)? * 3600;
        if self.eat(':').is_some() {
            seconds += self.number(0, 59)? * 60;
            if self.eat(':').is_some() {
                seconds += self.number(0, 60)?;
            }
        }
        Some(if negative { -seconds } else { seconds })
    }

    fn change(&mut self) -> Option<Change> {
        let day = if self.eat('J').is_some() {
            Day::Julian(self.number(1, 365)?)
        } else if self.eat('M').is_some() {
            let month = self.number(1, 12)?;
            self.eat('.')?;
            let week = self.number(1, 5)?;
            self.eat('.')?;
            Day::Month(month, week, self.number(0, 6)?)
        } else {
            Day::Zero(self.number(0, 365)?)
        };
        let second = if self.eat('/').is_some() { self.offset()? } else { 7200 };
        Some(Change { day, second: i64::from(second) })
    }
}
