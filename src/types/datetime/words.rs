//! The words of date, time and interval input.
//!
//! As in PostgreSQL only the first ten characters of a word count, so `microseconds` and
//! `microsecond` need no entries of their own beyond `microsecon`.

/// A part of a date, a time or an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microsecond.
    Microsecond,
    /// Millisecond.
    Millisecond,
    /// Second.
    Second,
    /// Minute.
    Minute,
    /// Hour.
    Hour,
    /// Day.
    Day,
    /// Week.
    Week,
    /// Month.
    Month,
    /// Quarter.
    Quarter,
    /// Year.
    Year,
    /// Decade.
    Decade,
    /// Century.
    Century,
    /// Millennium.
    Millennium,
    /// Day of the week, Sunday = 0.
    DayOfWeek,
    /// Day of the week, Monday = 1.
    IsoDayOfWeek,
    /// Day of the year.
    DayOfYear,
    /// Year of ISO weeks.
    IsoYear,
    /// Julian day.
    Julian,
    /// Zone offset.
    Zone,
    /// Hours of the zone offset.
    ZoneHour,
    /// Minutes of the zone offset.
    ZoneMinute,
    /// Time of day after an ISO `T`.
    Time,
}

/// Special values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// `now`
    Now,
    /// `today`
    Today,
    /// `tomorrow`
    Tomorrow,
    /// `yesterday`
    Yesterday,
    /// `epoch`
    Epoch,
    /// `infinity`
    Infinity,
    /// `-infinity`
    NegInfinity,
    /// `allballs`
    AllBalls,
}

/// The meaning of a word in a date or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateWord {
    /// A special value.
    Reserved(Reserved),
    /// `ad` (false) or `bc` (true).
    Bc(bool),
    /// `am` (false) or `pm` (true).
    Pm(bool),
    /// 1..=12
    Month(i32),
    /// The name of a weekday, which is ignored.
    Weekday,
    /// `at`, `on`
    Ignore,
    /// `dst`
    Dst,
    /// The field after this one is of that unit.
    Unit(Unit),
    /// The `T` of ISO 8601.
    IsoTime,
}

/// The meaning of a word in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanWord {
    /// A unit.
    Unit(Unit),
    /// `ago`
    Ago,
    /// `@`
    Ignore,
}

fn key(word: &str) -> &str {
    word.get(..10).unwrap_or(word)
}

/// Looks up a lower-case word of a date or time.
pub fn date_word(word: &str) -> Option<DateWord> {
    use DateWord::{Bc, Dst, Ignore, IsoTime, Month, Pm, Reserved as R, Unit as U, Weekday};
    Some(match key(word) {
        "-infinity" => R(Reserved::NegInfinity),
        "infinity" => R(Reserved::Infinity),
        "epoch" => R(Reserved::Epoch),
        "now" => R(Reserved::Now),
        "today" => R(Reserved::Today),
        "tomorrow" => R(Reserved::Tomorrow),
        "yesterday" => R(Reserved::Yesterday),
        "allballs" => R(Reserved::AllBalls),
        "ad" => Bc(false),
        "bc" => Bc(true),
        "am" => Pm(false),
        "pm" => Pm(true),
        "at" | "on" => Ignore,
        "dst" => Dst,
        "jan" | "january" => Month(1),
        "feb" | "february" => Month(2),
        "mar" | "march" => Month(3),
        "apr" | "april" => Month(4),
        "may" => Month(5),
        "jun" | "june" => Month(6),
        "jul" | "july" => Month(7),
        "aug" | "august" => Month(8),
        "sep" | "sept" | "september" => Month(9),
        "oct" | "october" => Month(10),
        "nov" | "november" => Month(11),
        "dec" | "december" => Month(12),
        "mon" | "monday" | "tue" | "tues" | "tuesday" | "wed" | "weds" | "wednesday" | "thu"
        | "thur" | "thurs" | "thursday" | "fri" | "friday" | "sat" | "saturday" | "sun"
        | "sunday" => Weekday,
        "d" => U(Unit::Day),
        "dow" => U(Unit::DayOfWeek),
        "doy" => U(Unit::DayOfYear),
        "h" => U(Unit::Hour),
        "isodow" => U(Unit::IsoDayOfWeek),
        "isoyear" => U(Unit::IsoYear),
        "j" | "jd" | "julian" => U(Unit::Julian),
        "m" => U(Unit::Month),
        "mm" => U(Unit::Minute),
        "s" => U(Unit::Second),
        "t" => IsoTime,
        "y" => U(Unit::Year),
        _ => return None,
    })
}

/// Looks up a lower-case word of an interval.
pub fn span_word(word: &str) -> Option<SpanWord> {
    Some(SpanWord::Unit(match key(word) {
        "@" => return Some(SpanWord::Ignore),
        "ago" => return Some(SpanWord::Ago),
        "c" | "cent" | "centuries" | "century" => Unit::Century,
        "d" | "day" | "days" => Unit::Day,
        "dec" | "decade" | "decades" | "decs" => Unit::Decade,
        "h" | "hour" | "hours" | "hr" | "hrs" => Unit::Hour,
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Minute,
        "microsecon" | "us" | "usec" | "usecond" | "useconds" | "usecs" => Unit::Microsecond,
        "mil" | "millennia" | "millennium" | "mils" => Unit::Millennium,
        "millisecon" | "ms" | "msec" | "msecond" | "mseconds" | "msecs" => Unit::Millisecond,
        "mon" | "mons" | "month" | "months" => Unit::Month,
        "qtr" | "quarter" => Unit::Quarter,
        "s" | "sec" | "second" | "seconds" | "secs" => Unit::Second,
        "timezone" => Unit::Zone,
        "timezone_h" => Unit::ZoneHour,
        "timezone_m" => Unit::ZoneMinute,
        "w" | "week" | "weeks" => Unit::Week,
        "y" | "year" | "years" | "yr" | "yrs" => Unit::Year,
        _ => return None,
    }))
}

/// The unit that `extract` and `date_trunc` name, given in any case.
pub fn field_unit(name: &str) -> Option<Unit> {
    let lower = name.to_ascii_lowercase();
    match span_word(&lower) {
        Some(SpanWord::Unit(unit)) => Some(unit),
        _ => match date_word(&lower) {
            Some(DateWord::Unit(unit)) => Some(unit),
            _ => None,
        },
    }
}
