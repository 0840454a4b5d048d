//! The proleptic Gregorian calendar on PostgreSQL's epoch.
//!
//! Days and microseconds are counted from 2000-01-01. Years are astronomical: 1 BC is year 0.
//! The first day that PostgreSQL knows is Julian day 0 (24 November 4714 BC), the last one of a
//! timestamp lies in 294276 AD, that of a date in 5874897 AD.

/// Microseconds of a second.
pub const USECS_PER_SEC: i64 = 1_000_000;
/// Microseconds of a minute.
pub const USECS_PER_MINUTE: i64 = 60 * USECS_PER_SEC;
/// Microseconds of an hour.
pub const USECS_PER_HOUR: i64 = 60 * USECS_PER_MINUTE;
/// Microseconds of a day of 24 hours.
pub const USECS_PER_DAY: i64 = 24 * USECS_PER_HOUR;
/// Seconds of a day of 24 hours.
pub const SECS_PER_DAY: i64 = 86_400;
/// Julian day of 2000-01-01.
pub const EPOCH_JULIAN: i64 = 2_451_545;
/// Days from 1970-01-01 to 2000-01-01.
pub const UNIX_TO_PG_DAYS: i64 = 10_957;
/// Seconds from 1970-01-01 to 2000-01-01.
pub const UNIX_TO_PG_SECS: i64 = UNIX_TO_PG_DAYS * SECS_PER_DAY;

/// Least finite timestamp.
pub const MIN_TIMESTAMP: i64 = -EPOCH_JULIAN * USECS_PER_DAY;
/// First instant past the greatest timestamp: 294277-01-01.
pub const END_TIMESTAMP: i64 = (109_203_528 - EPOCH_JULIAN) * USECS_PER_DAY;
/// First day past the greatest date: 5874898-01-01.
const END_DATE: i64 = 2_147_483_494 - EPOCH_JULIAN;

/// `-infinity` of timestamps.
pub const TIMESTAMP_NEG_INF: i64 = i64::MIN;
/// `infinity` of timestamps.
pub const TIMESTAMP_POS_INF: i64 = i64::MAX;
/// `-infinity` of dates.
pub const DATE_NEG_INF: i32 = i32::MIN;
/// `infinity` of dates.
pub const DATE_POS_INF: i32 = i32::MAX;

/// A point on the calendar, split into its fields. Fields may be out of their usual range while
/// input is read or arithmetic is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Astronomical year: 0 is 1 BC.
    pub year: i32,
    /// 1..=12
    pub month: i32,
    /// 1..=31
    pub day: i32,
    /// 0..=24
    pub hour: i32,
    /// 0..=59
    pub minute: i32,
    /// 0..=60
    pub second: i32,
    /// 0..=1 000 000
    pub micros: i32,
}

impl Fields {
    /// The time of day in microseconds.
    pub fn time(&self) -> i64 {
        let seconds = (i64::from(self.hour) * 60 + i64::from(self.minute)) * 60;
        (seconds + i64::from(self.second)) * USECS_PER_SEC + i64::from(self.micros)
    }

    /// Sets the fields below the day.
    pub fn set_time(&mut self, time: i64) {
        self.hour = (time / USECS_PER_HOUR) as i32;
        self.minute = (time / USECS_PER_MINUTE % 60) as i32;
        self.second = (time / USECS_PER_SEC % 60) as i32;
        self.micros = (time % USECS_PER_SEC) as i32;
    }

    /// Sets the day, month and year.
    pub fn set_days(&mut self, days: i64) {
        (self.year, self.month, self.day) = from_days(days);
    }

    /// Days since 2000-01-01.
    pub fn days(&self) -> i64 {
        to_days(self.year, self.month, self.day)
    }

    /// Seconds since 2000-01-01 00:00 of the same (unnamed) clock, fractions dropped.
    pub fn local_seconds(&self) -> i64 {
        let minutes = (self.days() * 24 + i64::from(self.hour)) * 60 + i64::from(self.minute);
        minutes * 60 + i64::from(self.second)
    }

    /// Microseconds since 2000-01-01 00:00, when that is a valid timestamp.
    pub fn timestamp(&self) -> Option<i64> {
        if !julian_valid(self.year, self.month) {
            return None;
        }
        let ts = self.days().checked_mul(USECS_PER_DAY)?.checked_add(self.time())?;
        timestamp_valid(ts).then_some(ts)
    }

    /// The fields of a finite timestamp.
    pub fn of_timestamp(ts: i64) -> Fields {
        let mut f = Fields::default();
        f.set_days(ts.div_euclid(USECS_PER_DAY));
        f.set_time(ts.rem_euclid(USECS_PER_DAY));
        f
    }
}

/// True for a finite timestamp inside PostgreSQL's range.
pub fn timestamp_valid(ts: i64) -> bool {
    (MIN_TIMESTAMP..END_TIMESTAMP).contains(&ts)
}

/// True for the two infinities.
pub fn timestamp_infinite(ts: i64) -> bool {
    ts == TIMESTAMP_NEG_INF || ts == TIMESTAMP_POS_INF
}

/// True for the two infinities.
pub fn date_infinite(d: i32) -> bool {
    d == DATE_NEG_INF || d == DATE_POS_INF
}

/// True when the month has a Julian day that fits PostgreSQL's arithmetic.
pub fn julian_valid(year: i32, month: i32) -> bool {
    (year > -4713 || (year == -4713 && month >= 11))
        && (year < 5_874_898 || (year == 5_874_898 && month < 6))
}

/// A valid, finite date from a number of days.
pub fn checked_date(days: i64) -> Option<i32> {
    (-EPOCH_JULIAN..END_DATE).contains(&days).then_some(days as i32)
}

/// True in leap years.
pub fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Length of a month; the month must be 1..=12.
pub fn days_in_month(year: i32, month: i32) -> i32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 2000-01-01. Years start in March here, which puts the leap day last.
pub fn to_days(year: i32, month: i32, day: i32) -> i64 {
    let months = i64::from(month) - 3;
    let year = i64::from(year) + months.div_euclid(12);
    let from_march = months.rem_euclid(12);
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * from_march + 2) / 5 + i64::from(day) - 1;
    year * 365 + leap_days + day_of_year - 730_425
}

/// Year, month and day of a day since 2000-01-01.
pub fn from_days(days: i64) -> (i32, i32, i32) {
    let shifted = days + 730_425;
    let era = shifted.div_euclid(146_097);
    let day = shifted.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    ((era * 400 + year + carry) as i32, month as i32, day_of_month as i32)
}

/// Day of the week, 0 = Sunday.
pub fn weekday(days: i64) -> i32 {
    (days + 6).rem_euclid(7) as i32
}

/// Day of the year, from 1.
pub fn day_of_year(f: &Fields) -> i32 {
    (f.days() - to_days(f.year, 1, 1)) as i32 + 1
}

/// First day (a Monday) of the ISO week.
pub fn iso_week_start(year: i32, week: i32) -> i64 {
    let jan4 = to_days(year, 1, 4);
    let monday = jan4 - i64::from((weekday(jan4) + 6) % 7);
    monday + (i64::from(week) - 1) * 7
}

/// ISO year and week of a day.
pub fn iso_week(days: i64) -> (i32, i32) {
    let (year, ..) = from_days(days);
    for candidate in [year + 1, year] {
        let start = iso_week_start(candidate, 1);
        if days >= start {
            return (candidate, ((days - start) / 7) as i32 + 1);
        }
    }
    let start = iso_week_start(year - 1, 1);
    (year - 1, ((days - start) / 7) as i32 + 1)
}

/// English names of the months, January first.
pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// English names of the days, Sunday first.
pub const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse_over_the_whole_range() {
        assert_eq!(to_days(2000, 1, 1), 0);
        assert_eq!(to_days(1970, 1, 1), -UNIX_TO_PG_DAYS);
        assert_eq!(to_days(-4713, 11, 24), -EPOCH_JULIAN);
        assert_eq!(to_days(5_874_898, 1, 1), END_DATE);
        assert_eq!(to_days(294_277, 1, 1) * USECS_PER_DAY, END_TIMESTAMP);
        let mut days = -EPOCH_JULIAN;
        while days < END_DATE {
            let (y, m, d) = from_days(days);
            assert_eq!(to_days(y, m, d), days, "{y}-{m}-{d}");
            days += 997;
        }
        assert_eq!(weekday(0), 6);
    }

    #[test]
    fn iso_weeks_of_new_year() {
        assert_eq!(iso_week(to_days(2005, 1, 1)), (2004, 53));
        assert_eq!(iso_week(to_days(2008, 12, 29)), (2009, 1));
        assert_eq!(iso_week(to_days(2010, 1, 3)), (2009, 53));
    }
}
