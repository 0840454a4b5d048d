//! `to_char` of timestamps and intervals.

use super::formatting_template::{Case, Field, Item, Kind, ROMAN_MONTHS, ordinal, parse};
use crate::datetime::calendar::{
    DAYS, EPOCH_JULIAN, Fields, MONTHS, day_of_year, iso_week, iso_week_start, weekday,
};
use crate::datetime::{Span, ZoneState};
use crate::{Interval, PgError, Result, SqlState};

/// What a template is filled with.
pub(super) struct Moment {
    year: i32,
    month: i32,
    day: i32,
    hour: i64,
    minute: i32,
    second: i32,
    micros: i32,
    /// Days since 2000-01-01.
    days: i64,
    year_day: i32,
    is_interval: bool,
    /// Offset and abbreviation.
    zone: Option<ZoneState>,
}

impl Moment {
    pub(super) fn of_fields(f: &Fields, zone: Option<ZoneState>) -> Moment {
        Moment {
            year: f.year,
            month: f.month,
            day: f.day,
            hour: i64::from(f.hour),
            minute: f.minute,
            second: f.second,
            micros: f.micros,
            days: f.days(),
            year_day: day_of_year(f),
            is_interval: false,
            zone,
        }
    }

    pub(super) fn of_interval(v: Interval) -> Moment {
        let s = Span::of(v);
        Moment {
            year: s.years,
            month: s.months,
            day: s.days,
            hour: s.hours,
            minute: s.minutes,
            second: s.seconds,
            micros: s.micros,
            days: crate::datetime::calendar::to_days(s.years, s.months, s.days),
            year_day: v.months.wrapping_mul(30).wrapping_add(s.days),
            is_interval: true,
            zone: None,
        }
    }

    fn shown_year(&self, year: i32) -> i32 {
        if self.is_interval || year > 0 { year } else { 1 - year }
    }
}

/// Fills a template.
pub(super) fn to_char(template: &str, m: &Moment) -> Result<String> {
    let mut out = String::with_capacity(template.len() * 2);
    for item in parse(template) {
        match item {
            Item::Field(field) => {
                let text = value(&field, m)?;
                out.push_str(&text);
                if let Some(case) =
                    field.ordinal.filter(|_| text.ends_with(|c: char| c.is_ascii_digit()))
                {
                    out.push_str(ordinal(&text, case));
                }
            }
            Item::Separator(t) | Item::Space(t) | Item::Text(t) => out.push_str(&t),
        }
    }
    Ok(out)
}

fn number(field: &Field, v: i64, width: usize) -> String {
    let width = if field.fill { 0 } else { width + usize::from(v < 0) };
    format!("{v:0width$}")
}

fn cased(name: &str, case: Case) -> String {
    match case {
        Case::Upper => name.to_uppercase(),
        Case::Capital => name.to_owned(),
        Case::Lower => name.to_lowercase(),
    }
}

fn name(field: &Field, name: &str, width: usize) -> String {
    let width = if field.fill { 0 } else { width };
    format!("{:<width$}", cased(name, field.case))
}

fn refuse_interval(m: &Moment) -> Result<()> {
    if !m.is_interval {
        return Ok(());
    }
    Err(PgError::new(
        SqlState::INVALID_DATETIME_FORMAT,
        "invalid format specification for an interval value",
    )
    .hint("Intervals are not tied to specific calendar dates."))
}

fn value(field: &Field, m: &Moment) -> Result<String> {
    use Kind as K;
    if let Some(text) = time_value(field, m) {
        return Ok(text);
    }
    let calendar_only = matches!(
        field.kind,
        K::Era
            | K::EraDots
            | K::DayName
            | K::DayAbbrev
            | K::Weekday
            | K::IsoWeekday
            | K::MonthName
            | K::MonthAbbrev
            | K::Zone
            | K::ZoneHour
            | K::ZoneMinute
            | K::Offset
    );
    if calendar_only {
        refuse_interval(m)?;
        return Ok(calendar_value(field, m));
    }
    let (iso_year, iso_week_number) = iso_week(m.days);
    Ok(match field.kind {
        K::Century => number(field, century(m), 2),
        K::DayOfYear => number(field, i64::from(m.year_day), 3),
        K::IsoDayOfYear => number(field, m.days - iso_week_start(iso_year, 1) + 1, 3),
        K::Day => format!("{:01$}", m.day, if field.fill { 0 } else { 2 }),
        K::IsoWeek => number(field, i64::from(iso_week_number), 2),
        K::Julian => (m.days + EPOCH_JULIAN).to_string(),
        K::Month => number(field, i64::from(m.month), 2),
        K::Quarter if m.month == 0 => String::new(),
        K::Quarter => ((m.month - 1) / 3 + 1).to_string(),
        K::Roman => roman_month(field, m),
        K::Week => number(field, i64::from((m.year_day - 1) / 7 + 1), 2),
        K::WeekOfMonth => ((m.day - 1) / 7 + 1).to_string(),
        K::YearComma => {
            let year = m.shown_year(m.year);
            format!("{},{:03}", year / 1000, year % 1000)
        }
        K::Year(digits) => year_value(field, m.shown_year(m.year), digits),
        K::IsoYear(digits) => year_value(field, m.shown_year(iso_year), digits),
        _ => String::new(),
    })
}

fn year_value(field: &Field, year: i32, digits: usize) -> String {
    let year = i64::from(year);
    match digits {
        4 => number(field, year, 4),
        1 => (year % 10).to_string(),
        n => number(field, year % 10_i64.pow(n as u32), n),
    }
}

fn century(m: &Moment) -> i64 {
    let year = i64::from(m.year);
    match (m.is_interval, year > 0) {
        (true, _) => year / 100,
        (_, true) => (year - 1) / 100 + 1,
        _ => year / 100 - 1,
    }
}

fn roman_month(field: &Field, m: &Moment) -> String {
    let index = match m.month {
        0 if m.year == 0 => return String::new(),
        0 if m.year >= 0 => 11,
        0 => 0,
        1.. => m.month - 1,
        _ => 12 + m.month,
    };
    name(field, ROMAN_MONTHS[index.clamp(0, 11) as usize], 4)
}

/// The fields below the day.
fn time_value(field: &Field, m: &Moment) -> Option<String> {
    use Kind as K;
    Some(match field.kind {
        K::Meridiem | K::MeridiemDots => {
            let dots = field.kind == K::MeridiemDots;
            let text = match (m.hour.rem_euclid(24) >= 12, dots) {
                (true, true) => "P.M.",
                (true, false) => "PM",
                (false, true) => "A.M.",
                (false, false) => "AM",
            };
            cased(text, field.case)
        }
        K::Hour12 => {
            let hour = m.hour % 12;
            number(field, if hour == 0 { 12 } else { hour }, 2)
        }
        K::Hour24 => number(field, m.hour, 2),
        K::Minute => number(field, i64::from(m.minute), 2),
        K::Second => number(field, i64::from(m.second), 2),
        K::Fraction(n) => {
            let width = n as usize;
            format!("{:0width$}", m.micros / 10_i32.pow(6 - n))
        }
        K::Millis => format!("{:03}", m.micros / 1000),
        K::Micros => format!("{:06}", m.micros),
        K::SecondOfDay => {
            (m.hour * 3600 + i64::from(m.minute) * 60 + i64::from(m.second)).to_string()
        }
        K::Fixed => String::new(),
        _ => return None,
    })
}

/// The fields that an interval does not have.
fn calendar_value(field: &Field, m: &Moment) -> String {
    use Kind as K;
    let day = DAYS[weekday(m.days) as usize];
    let month = MONTHS[(m.month - 1).clamp(0, 11) as usize];
    let east = m.zone.as_ref().map_or(0, |z| z.east);
    let sign = if east >= 0 { '+' } else { '-' };
    let (hours, minutes) = (east.abs() / 3600, east.abs() / 60 % 60);
    match field.kind {
        K::Era => cased(if m.year <= 0 { "BC" } else { "AD" }, field.case),
        K::EraDots => cased(if m.year <= 0 { "B.C." } else { "A.D." }, field.case),
        K::DayName => name(field, day, 9),
        K::DayAbbrev => cased(&day[..3], field.case),
        K::MonthName => name(field, month, 9),
        K::MonthAbbrev => cased(&month[..3], field.case),
        K::Weekday => (weekday(m.days) + 1).to_string(),
        K::IsoWeekday => ((weekday(m.days) + 6) % 7 + 1).to_string(),
        K::Zone => m.zone.as_ref().map_or(String::new(), |z| match field.case {
            Case::Lower => z.abbrev.to_lowercase(),
            _ => z.abbrev.clone(),
        }),
        K::ZoneHour => format!("{sign}{hours:02}"),
        K::ZoneMinute => format!("{minutes:02}"),
        _ => {
            let hours = if field.fill { hours.to_string() } else { format!("{hours:02}") };
            let minutes = if minutes == 0 { String::new() } else { format!(":{minutes:02}") };
            format!("{sign}{hours}{minutes}")
        }
    }
}
