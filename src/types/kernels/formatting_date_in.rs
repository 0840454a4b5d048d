//! `to_date` and `to_timestamp`: reads a text by a template.
//!
//! Outside of `FX` a separator or space of the template matches at most one of the text, and
//! spaces before and after fields are skipped. A field that is followed by something that cannot
//! be a digit takes as many digits as there are, otherwise exactly its own width.

use super::formatting_template::{Field, Item, Kind, ROMAN_MONTHS, parse};
use crate::datetime::calendar::{
    DAYS, EPOCH_JULIAN, Fields, MONTHS, days_in_month, iso_week_start, to_days,
};
use crate::{PgError, Result, SqlState};

/// The values that were read.
#[derive(Debug, Default)]
struct Parsed {
    hour: i32,
    twelve_hours: bool,
    pm: bool,
    minute: i32,
    second: i32,
    second_of_day: i32,
    weekday: i32,
    day: i32,
    year_day: i32,
    month: i32,
    millis: i32,
    micros: i32,
    year: i32,
    year_digits: usize,
    bc: bool,
    century: i32,
    week: i32,
    week_of_month: i32,
    julian: i32,
    zone_sign: i32,
    zone_hour: i32,
    zone_minute: i32,
    /// ISO week dates (true) or the common calendar (false), once known.
    iso: Option<bool>,
}

fn bad(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::INVALID_DATETIME_FORMAT, message)
}

struct Reader<'a> {
    rest: &'a str,
    /// Characters skipped beyond what the template asked for.
    skipped: i32,
    last_skipped: char,
    fixed: bool,
    found: Parsed,
}

/// Reads a text; the zone is in seconds west of UTC.
pub(super) fn read(text: &str, template: &str) -> Result<(Fields, Option<i32>)> {
    let items = parse(template);
    let mut r = Reader {
        rest: text,
        skipped: 0,
        last_skipped: ' ',
        fixed: false,
        found: Parsed::default(),
    };
    for (i, item) in items.iter().enumerate() {
        if r.rest.is_empty() {
            break;
        }
        let is_fixed = matches!(item, Item::Field(f) if f.kind == Kind::Fixed);
        if !r.fixed && !is_fixed && (i == 0 || matches!(item, Item::Field(_))) {
            r.skip_spaces();
        }
        match item {
            Item::Field(field) => {
                if r.rest.is_empty() {
                    break;
                }
                r.field(field, digits_may_follow(field, items.get(i + 1)))?;
                if field.ordinal.is_some() {
                    r.skip(2);
                }
                if !r.fixed {
                    r.skipped = 0;
                    r.skip_spaces();
                }
            }
            Item::Separator(_) | Item::Space(_) if !r.fixed => {
                r.skipped -= 1;
                let separator = |c: char| c.is_ascii_whitespace() || c.is_ascii_punctuation();
                if r.rest.starts_with(separator) {
                    r.skip(1);
                    r.skipped += 1;
                }
            }
            Item::Text(_) if !r.fixed && r.skipped > 0 => r.skipped -= 1,
            _ => r.skip(1),
        }
    }
    r.found.finish(text)
}

/// True when a field must not take more digits than it is wide.
fn digits_may_follow(field: &Field, next: Option<&Item>) -> bool {
    if field.ordinal.is_some() {
        return false;
    }
    match next {
        Some(Item::Field(f)) => f.kind.is_digits(),
        Some(Item::Separator(t) | Item::Space(t) | Item::Text(t)) => {
            t.starts_with(|c: char| c.is_ascii_digit())
        }
        None => false,
    }
}

fn set(slot: &mut i32, value: i32, field: &Field) -> Result<()> {
    if *slot != 0 && *slot != value {
        let message =
            format!("conflicting values for \"{}\" field in formatting string", field.name);
        return Err(bad(message)
            .detail("This value contradicts a previous setting for the same field type."));
    }
    *slot = value;
    Ok(())
}

impl Reader<'_> {
    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            let mut chars = self.rest.chars();
            if let Some(c) = chars.next() {
                self.last_skipped = c;
            }
            self.rest = chars.as_str();
        }
    }

    fn skip_spaces(&mut self) {
        while self.rest.starts_with(|c: char| c.is_ascii_whitespace()) {
            self.skip(1);
            self.skipped += 1;
        }
    }

    /// Reads a number; returns it with the characters that it took.
    fn number(&mut self, width: usize, exact: bool, field: &Field) -> Result<(i32, usize)> {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
        let window: String = self.rest.chars().take(width).collect();
        let source = if exact { window.as_str() } else { self.rest };
        if exact && window.len() < width {
            return Err(bad(format!(
                "source string too short for \"{}\" formatting field",
                field.name
            ))
            .detail(format!("Field requires {width} characters, but only {} remain.", window.len()))
            .hint(FM_HINT));
        }
        let sign = usize::from(source.starts_with(['+', '-']));
        let digits = source.bytes().skip(sign).take_while(u8::is_ascii_digit).count();
        let used = if digits == 0 { 0 } else { sign + digits };
        if exact && used > 0 && used < width {
            return Err(bad(format!("invalid value \"{window}\" for \"{}\"", field.name))
                .detail(format!(
                    "Field requires {width} characters, but only {used} could be parsed."
                ))
                .hint(FM_HINT));
        }
        if used == 0 {
            return Err(bad(format!("invalid value \"{window}\" for \"{}\"", field.name))
                .detail("Value must be an integer."));
        }
        let value = source[..used].parse::<i32>().map_err(|_| {
            PgError::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("value for \"{}\" in source string is out of range", field.name),
            )
            .detail("Value must be in the range -2147483648 to 2147483647.")
        })?;
        self.rest = &self.rest[used..];
        Ok((value, used))
    }

    /// Reads one of some names in any case; returns its place among them.
    fn name(&mut self, names: &[&str], field: &Field) -> Result<i32> {
        for (i, name) in names.iter().enumerate() {
            let matches = self.rest.get(..name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name));
            if matches {
                self.rest = &self.rest[name.len()..];
                return Ok(i as i32);
            }
        }
        let word = self.rest.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default();
        Err(bad(format!("invalid value \"{word}\" for \"{}\"", field.name))
            .detail("The given value did not match any of the allowed values for this field."))
    }

    fn convention(&mut self, iso: bool) -> Result<()> {
        match self.found.iso {
            Some(known) if known != iso => Err(bad("invalid combination of date conventions")
                .hint(
                    "Do not mix Gregorian and ISO week date conventions in a formatting template.",
                )),
            _ => {
                self.found.iso = Some(iso);
                Ok(())
            }
        }
    }

    fn field(&mut self, field: &Field, digits_follow: bool) -> Result<()> {
        use Kind as K;
        match field.kind {
            K::IsoDayOfYear | K::IsoWeekday | K::IsoWeek | K::IsoYear(_) => {
                self.convention(true)?;
            }
            K::Century
            | K::DayName
            | K::DayAbbrev
            | K::DayOfYear
            | K::Day
            | K::Weekday
            | K::Month
            | K::MonthName
            | K::MonthAbbrev
            | K::Quarter
            | K::Roman
            | K::Week
            | K::WeekOfMonth
            | K::YearComma
            | K::Year(_) => self.convention(false)?,
            _ => {}
        }
        let exact = digits_follow && !field.fill;
        match field.kind {
            K::Fixed => self.fixed = true,
            K::Meridiem | K::MeridiemDots | K::Era | K::EraDots => self.half(field)?,
            K::DayName | K::DayAbbrev | K::MonthName | K::MonthAbbrev | K::Roman => {
                self.named(field)?;
            }
            K::Year(_) | K::IsoYear(_) | K::YearComma => self.year(field, exact)?,
            K::Zone | K::Offset => {
                return Err(PgError::unsupported(format!(
                    "formatting field \"{}\" is only supported in to_char",
                    field.name
                )));
            }
            K::ZoneHour | K::ZoneMinute => self.zone(field, exact)?,
            K::Millis | K::Micros | K::Fraction(_) => self.fraction(field, exact)?,
            _ => self.plain(field, exact)?,
        }
        Ok(())
    }

    /// Numbers that are kept as they are.
    fn plain(&mut self, field: &Field, exact: bool) -> Result<()> {
        use Kind as K;
        let width = match field.kind {
            K::DayOfYear | K::IsoDayOfYear => 3,
            K::Weekday | K::IsoWeekday | K::Quarter | K::WeekOfMonth | K::Julian => 1,
            K::SecondOfDay => field.name.len(),
            _ => 2,
        };
        let (value, _) = self.number(width, exact, field)?;
        let found = &mut self.found;
        let slot = match field.kind {
            K::Hour12 => {
                found.twelve_hours = true;
                &mut found.hour
            }
            K::Hour24 => &mut found.hour,
            K::Minute => &mut found.minute,
            K::Second => &mut found.second,
            K::SecondOfDay => &mut found.second_of_day,
            K::Month => &mut found.month,
            K::DayOfYear | K::IsoDayOfYear => &mut found.year_day,
            K::Day => &mut found.day,
            K::Weekday => &mut found.weekday,
            K::IsoWeekday => {
                let value = if value >= 7 { 1 } else { value + 1 };
                return set(&mut found.weekday, value, field);
            }
            K::Week | K::IsoWeek => &mut found.week,
            K::WeekOfMonth => &mut found.week_of_month,
            K::Julian => &mut found.julian,
            K::Century => &mut found.century,
            _ => return Ok(()),
        };
        set(slot, value, field)
    }

    fn half(&mut self, field: &Field) -> Result<()> {
        let names: &[&str] = match field.kind {
            Kind::Meridiem => &["AM", "PM"],
            Kind::MeridiemDots => &["A.M.", "P.M."],
            Kind::Era => &["AD", "BC"],
            _ => &["A.D.", "B.C."],
        };
        let second = self.name(names, field)? == 1;
        if matches!(field.kind, Kind::Meridiem | Kind::MeridiemDots) {
            (self.found.pm, self.found.twelve_hours) = (second, true);
        } else {
            self.found.bc = second;
        }
        Ok(())
    }

    fn named(&mut self, field: &Field) -> Result<()> {
        let short = |names: &[&'static str]| names.iter().map(|n| &n[..3]).collect::<Vec<_>>();
        match field.kind {
            Kind::MonthName | Kind::MonthAbbrev => {
                let month = match field.kind {
                    Kind::MonthName => self.name(&MONTHS, field)?,
                    _ => self.name(&short(&MONTHS), field)?,
                };
                set(&mut self.found.month, month + 1, field)
            }
            Kind::Roman => {
                let mut names = ROMAN_MONTHS;
                names.reverse();
                let month = 12 - self.name(&names, field)?;
                set(&mut self.found.month, month, field)
            }
            _ => {
                let day = match field.kind {
                    Kind::DayName => self.name(&DAYS, field)?,
                    _ => self.name(&short(&DAYS), field)?,
                };
                set(&mut self.found.weekday, day + 1, field)
            }
        }
    }

    fn year(&mut self, field: &Field, exact: bool) -> Result<()> {
        let digits = match field.kind {
            Kind::Year(n) | Kind::IsoYear(n) => n,
            _ => {
                let parts = self.rest.split_once(',').and_then(|(thousands, rest)| {
                    let n = rest.bytes().take(3).take_while(u8::is_ascii_digit).count();
                    let year: i32 = rest[..n].parse().ok()?;
                    let thousands: i32 = thousands.trim_start().parse().ok()?;
                    Some((thousands.checked_mul(1000)?.checked_add(year)?, &rest[n..]))
                });
                let (year, rest) =
                    parts.ok_or_else(|| bad("invalid input string for \"Y,YYY\""))?;
                self.rest = rest;
                self.found.year_digits = 4;
                return set(&mut self.found.year, year, field);
            }
        };
        let (mut year, used) = self.number(digits, exact, field)?;
        if digits < 4 && used < 4 {
            // Short years are read as those next to 2020.
            year += match year {
                ..70 => 2000,
                70..100 => 1900,
                100..520 => 2000,
                520..1000 => 1000,
                _ => 0,
            };
        }
        self.found.year_digits = digits;
        set(&mut self.found.year, year, field)
    }

    fn zone(&mut self, field: &Field, exact: bool) -> Result<()> {
        if field.kind == Kind::ZoneHour {
            match self.rest.chars().next() {
                Some(c @ ('+' | '-' | ' ')) => {
                    self.found.zone_sign = if c == '-' { -1 } else { 1 };
                    self.skip(1);
                }
                // The sign may have been taken for a separator.
                _ if self.skipped > 0 && self.last_skipped == '-' => self.found.zone_sign = -1,
                _ => self.found.zone_sign = 1,
            }
            let (hour, _) = self.number(2, exact, field)?;
            return set(&mut self.found.zone_hour, hour, field);
        }
        if self.found.zone_sign == 0 {
            self.found.zone_sign = 1;
        }
        let (minute, _) = self.number(2, exact, field)?;
        set(&mut self.found.zone_minute, minute, field)
    }

    fn fraction(&mut self, field: &Field, exact: bool) -> Result<()> {
        let (width, digits) = match field.kind {
            Kind::Millis => (3, 3),
            Kind::Fraction(n) => (n as usize, 6),
            _ => (6, 6),
        };
        let (value, used) = self.number(width, exact, field)?;
        let missing = u32::try_from(digits - used.min(digits)).unwrap_or(0);
        let value = value.saturating_mul(10_i32.pow(missing));
        let slot = if digits == 3 { &mut self.found.millis } else { &mut self.found.micros };
        set(slot, value, field)
    }
}

const FM_HINT: &str = "If your source string is not fixed-width, try using the \"FM\" modifier.";

fn overflow(text: &str) -> PgError {
    PgError::new(
        SqlState::DATETIME_FIELD_OVERFLOW,
        format!("date/time field value out of range: \"{text}\""),
    )
}

impl Parsed {
    fn finish(&self, text: &str) -> Result<(Fields, Option<i32>)> {
        let mut f = Fields { month: 1, day: 1, ..Fields::default() };
        self.time(&mut f)?;
        let checks_date = self.date(&mut f)?;
        if checks_date {
            let month_known = (1..=12).contains(&f.month);
            if !month_known || f.day < 1 || f.day > days_in_month(f.year, f.month) {
                return Err(overflow(text));
            }
        }
        let micros = i64::from(self.millis) * 1000 + i64::from(self.micros);
        let valid = (0..24).contains(&f.hour)
            && (0..60).contains(&f.minute)
            && (0..60).contains(&f.second)
            && (0..1_000_000).contains(&micros);
        if !valid {
            return Err(overflow(text));
        }
        f.micros = micros as i32;
        if self.zone_sign == 0 {
            return Ok((f, None));
        }
        if !(0..=15).contains(&self.zone_hour) || !(0..60).contains(&self.zone_minute) {
            return Err(PgError::new(
                SqlState::INVALID_TIME_ZONE_DISPLACEMENT_VALUE,
                format!("time zone displacement out of range: \"{text}\""),
            ));
        }
        let west = -self.zone_sign * (self.zone_hour * 3600 + self.zone_minute * 60);
        Ok((f, Some(west)))
    }

    fn time(&self, f: &mut Fields) -> Result<()> {
        if self.second_of_day != 0 {
            f.hour = self.second_of_day / 3600;
            f.minute = self.second_of_day / 60 % 60;
            f.second = self.second_of_day % 60;
        }
        for (slot, value) in
            [(&mut f.second, self.second), (&mut f.minute, self.minute), (&mut f.hour, self.hour)]
        {
            if value != 0 {
                *slot = value;
            }
        }
        if self.twelve_hours {
            if !(1..=12).contains(&f.hour) {
                let message = format!("hour \"{}\" is invalid for the 12-hour clock", f.hour);
                return Err(
                    bad(message).hint("Use the 24-hour clock, or give an hour between 1 and 12.")
                );
            }
            f.hour = f.hour % 12 + if self.pm { 12 } else { 0 };
        }
        Ok(())
    }

    /// Sets the date; false when the text had no part of it.
    fn date(&self, f: &mut Fields) -> Result<bool> {
        let mut known = self.year != 0 || self.century != 0;
        self.set_year(f);
        let iso = self.iso == Some(true);
        if self.julian != 0 {
            f.set_days(i64::from(self.julian) - EPOCH_JULIAN);
            known = true;
        }
        let (mut year_day, mut day) = (self.year_day, self.day);
        if self.week != 0 {
            if iso {
                let start = iso_week_start(f.year, self.week);
                // Sunday is 1 here, but the last day of an ISO week.
                let offset = match self.weekday {
                    0 => 0,
                    1 => 6,
                    d => d - 2,
                };
                f.set_days(start + i64::from(offset));
                known = true;
            } else {
                year_day = (self.week - 1) * 7 + 1;
            }
        }
        if self.week_of_month != 0 {
            day = (self.week_of_month - 1) * 7 + 1;
        }
        if day != 0 {
            f.day = day;
            known = true;
        }
        if self.month != 0 {
            f.month = self.month;
            known = true;
        }
        if year_day != 0 && (f.month <= 1 || f.day <= 1) {
            if f.year == 0 && !self.bc {
                return Err(bad("cannot calculate day of year without year information"));
            }
            let start = if iso { iso_week_start(f.year, 1) } else { to_days(f.year, 1, 1) };
            let mut at = *f;
            at.set_days(start + i64::from(year_day) - 1);
            if iso {
                *f = at;
            } else if at.year != f.year {
                // No such day in this year: leave a month that the check refuses.
                f.month = 13;
            } else {
                if f.month <= 1 {
                    f.month = at.month;
                }
                if f.day <= 1 {
                    f.day = at.day;
                }
            }
            known = true;
        }
        Ok(known)
    }

    fn set_year(&self, f: &mut Fields) {
        let century = if self.bc { -self.century } else { self.century };
        if self.year != 0 {
            if self.century != 0 && self.year_digits <= 2 {
                let short = self.year % 100;
                f.year = match (short, century >= 0) {
                    (0, positive) => century * 100 + i32::from(!positive),
                    (_, true) => short + (century - 1) * 100,
                    (_, false) => (century + 1) * 100 - short + 1,
                };
            } else {
                let year = if self.bc { -self.year } else { self.year };
                f.year = if year < 0 { year + 1 } else { year };
            }
        } else if self.century != 0 {
            f.year = if century >= 0 { (century - 1) * 100 + 1 } else { century * 100 + 1 };
        }
    }
}
