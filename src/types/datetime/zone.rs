//! Time zones: IANA names, POSIX specifications and fixed offsets.
//!
//! All seconds and microseconds count from 2000-01-01 00:00 UTC. The table of the IANA zones ends
//! with the year 2099; later years borrow the offset of a year of 2072..=2099 that has the same
//! calendar, which is what an annual rule that goes on for ever gives.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone as _};
use chrono_tz::{OffsetComponents, OffsetName, TZ_VARIANTS, Tz};

use super::abbrev::{self, Abbrev};
use super::calendar::{
    Fields, SECS_PER_DAY, UNIX_TO_PG_SECS, USECS_PER_SEC, from_days, is_leap, to_days, weekday,
};
use super::posix::Posix;

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeZone(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Utc,
    Named(Tz),
    Posix(Arc<Posix>),
}

/// What the clocks of a zone show at some instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneState {
    /// Seconds east of UTC.
    pub east: i32,
    /// Daylight saving time is in force.
    pub is_dst: bool,
    /// The abbreviation, for instance `CEST`.
    pub abbrev: String,
}

static NAMES: LazyLock<BTreeMap<String, Tz>> =
    LazyLock::new(|| TZ_VARIANTS.iter().map(|tz| (tz.name().to_ascii_lowercase(), *tz)).collect());

impl TimeZone {
    /// UTC.
    pub fn utc() -> TimeZone {
        TimeZone(Kind::Utc)
    }

    /// A constant number of seconds east of UTC.
    pub fn fixed(east: i32) -> TimeZone {
        TimeZone(Kind::Posix(Arc::new(Posix::fixed(east))))
    }

    /// The zone with this IANA name (any case) or POSIX specification. Abbreviations are not
    /// zones: see [`ZoneName`].
    pub fn parse(name: &str) -> Option<TimeZone> {
        if name.eq_ignore_ascii_case("UTC") {
            return Some(TimeZone::utc());
        }
        if let Some(tz) = NAMES.get(&name.to_ascii_lowercase()) {
            return Some(TimeZone(Kind::Named(*tz)));
        }
        Posix::parse(&name.to_ascii_uppercase()).map(|p| TimeZone(Kind::Posix(Arc::new(p))))
    }

    /// The value of the setting `TimeZone`: a zone, a number of hours east of UTC, or
    /// `INTERVAL '…'`.
    pub fn from_setting(value: &str) -> Option<TimeZone> {
        let trimmed = value.trim();
        if trimmed.get(..8).is_some_and(|p| p.eq_ignore_ascii_case("interval")) {
            let text = trimmed[8..].trim().strip_prefix('\'')?.strip_suffix('\'')?;
            let span =
                super::interval::interval_in(text, -1, crate::context::IntervalStyle::Postgres);
            let span = span.ok().filter(|i| i.months == 0 && i.days == 0)?;
            return Some(TimeZone::fixed((span.micros / USECS_PER_SEC) as i32));
        }
        if let Ok(hours) = trimmed.parse::<f64>() {
            return (hours.abs() <= 168.0).then(|| TimeZone::fixed((hours * 3600.0) as i32));
        }
        TimeZone::parse(trimmed)
    }

    /// The name as `SHOW TimeZone` gives it.
    pub fn name(&self) -> &str {
        match &self.0 {
            Kind::Utc => "UTC",
            Kind::Named(tz) => tz.name(),
            Kind::Posix(p) => &p.name,
        }
    }

    /// Seconds east of UTC at this second.
    pub fn east_at(&self, utc: i64) -> i32 {
        match &self.0 {
            Kind::Utc => 0,
            Kind::Named(tz) => tz.offset_from_utc_datetime(&naive(utc)).fix().local_minus_utc(),
            Kind::Posix(p) => p.at(utc).0,
        }
    }

    /// Offset, daylight saving and abbreviation at this second.
    pub fn state_at(&self, utc: i64) -> ZoneState {
        match &self.0 {
            Kind::Utc => ZoneState { east: 0, is_dst: false, abbrev: "UTC".to_owned() },
            Kind::Named(tz) => {
                let offset = tz.offset_from_utc_datetime(&naive(utc));
                ZoneState {
                    east: offset.fix().local_minus_utc(),
                    is_dst: !offset.dst_offset().is_zero(),
                    abbrev: offset.abbreviation().unwrap_or_default().to_owned(),
                }
            }
            Kind::Posix(p) => {
                let (east, is_dst, abbrev) = p.at(utc);
                ZoneState { east, is_dst, abbrev: abbrev.to_owned() }
            }
        }
    }

    /// Seconds east of UTC that a local time has. A time that the clocks skip is read with the
    /// offset before the change, one that they show twice with the offset after it.
    pub fn east_of_local(&self, local: i64) -> i32 {
        if matches!(self.0, Kind::Utc) {
            return 0;
        }
        let before = self.east_at(local - SECS_PER_DAY);
        let after = self.east_at(local + SECS_PER_DAY);
        if before == after {
            return before;
        }
        let holds = |east: i32| self.east_at(local - i64::from(east)) == east;
        match (holds(before), holds(after)) {
            (true, false) => before,
            (false, true) => after,
            _ => before.min(after),
        }
    }

    /// Seconds *west* of UTC of local fields, as PostgreSQL counts.
    pub fn west_of(&self, local: &Fields) -> i32 {
        if matches!(self.0, Kind::Utc) {
            return 0;
        }
        -self.east_of_local(local.local_seconds())
    }

    /// The offset (seconds east) of a zone that never changes its clocks.
    pub fn constant(&self) -> Option<i32> {
        match &self.0 {
            Kind::Utc => Some(0),
            Kind::Posix(p) => p.constant(),
            Kind::Named(_) => {
                let mut years = (1900..2100).step_by(1).flat_map(|y| [(y, 1), (y, 7)]);
                let first = self.east_at(to_days(1850, 1, 1) * SECS_PER_DAY);
                let same =
                    |(y, m): (i32, i32)| self.east_at(to_days(y, m, 1) * SECS_PER_DAY) == first;
                years.all(same).then_some(first)
            }
        }
    }

    /// Local microseconds of an instant.
    pub fn to_local(&self, utc: i64) -> i64 {
        let east = self.east_at(utc.div_euclid(USECS_PER_SEC));
        utc.saturating_add(i64::from(east) * USECS_PER_SEC)
    }

    /// The state in which an abbreviation was used at or last before this second, else first
    /// after it.
    fn state_of_abbrev(&self, abbrev: &str, utc: i64) -> Option<ZoneState> {
        const STEP: i64 = 30 * SECS_PER_DAY;
        let probe = |at: i64| {
            let state = self.state_at(at);
            state.abbrev.eq_ignore_ascii_case(abbrev).then_some(state)
        };
        let floor = to_days(1850, 1, 1) * SECS_PER_DAY;
        let ceiling = to_days(2040, 1, 1) * SECS_PER_DAY;
        let mut at = utc.min(ceiling);
        while at > floor {
            if let Some(state) = probe(at) {
                return Some(state);
            }
            at -= STEP;
        }
        at = utc.max(floor);
        while at < ceiling {
            if let Some(state) = probe(at) {
                return Some(state);
            }
            at += STEP;
        }
        None
    }
}

/// A zone as a query names it: an abbreviation comes first, then a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneName {
    /// Seconds east of UTC and daylight saving.
    Fixed(i32, bool),
    /// An abbreviation whose meaning changed over time, with the zone that knows it.
    Dynamic(String, TimeZone),
    /// A zone.
    Zone(TimeZone),
}

impl ZoneName {
    /// An abbreviation in lower case.
    pub fn from_abbrev(lower: &str) -> Option<ZoneName> {
        Some(match abbrev::lookup(lower)? {
            Abbrev::Fixed(east, dst) => ZoneName::Fixed(east, dst),
            Abbrev::Zone(zone) => {
                ZoneName::Dynamic(lower.to_ascii_uppercase(), TimeZone::parse(zone)?)
            }
        })
    }

    /// An abbreviation, or else a zone.
    pub fn parse(name: &str) -> Option<ZoneName> {
        ZoneName::from_abbrev(&name.to_ascii_lowercase())
            .or_else(|| TimeZone::parse(name).map(ZoneName::Zone))
    }

    /// Seconds east of UTC at an instant.
    pub fn east_at(&self, utc: i64) -> i32 {
        match self {
            ZoneName::Fixed(east, _) => *east,
            ZoneName::Dynamic(abbrev, zone) => match zone.state_of_abbrev(abbrev, utc) {
                Some(state) => state.east,
                None => zone.east_at(utc),
            },
            ZoneName::Zone(zone) => zone.east_at(utc),
        }
    }

    /// Seconds east of UTC of a local time.
    pub fn east_of_local(&self, local: i64) -> i32 {
        match self {
            ZoneName::Fixed(east, _) => *east,
            ZoneName::Dynamic(abbrev, zone) => {
                let guess = zone.east_of_local(local);
                match zone.state_of_abbrev(abbrev, local - i64::from(guess)) {
                    Some(state) => state.east,
                    None => guess,
                }
            }
            ZoneName::Zone(zone) => zone.east_of_local(local),
        }
    }
}

/// chrono's form of a second, moved into the years that the zone table covers.
fn naive(utc: i64) -> NaiveDateTime {
    let days = utc.div_euclid(SECS_PER_DAY);
    let (year, ..) = from_days(days);
    let shift = match year {
        2100.. => {
            let jan1 = to_days(year, 1, 1);
            let alike = |y: &i32| {
                is_leap(*y) == is_leap(year) && weekday(to_days(*y, 1, 1)) == weekday(jan1)
            };
            (2072..2100).find(alike).map_or(0, |y| to_days(y, 1, 1) - jan1)
        }
        ..=0 => to_days(1, 1, 1) - to_days(year, 1, 1),
        _ => 0,
    };
    let unix = utc + shift * SECS_PER_DAY + UNIX_TO_PG_SECS;
    DateTime::from_timestamp(unix, 0).unwrap_or(DateTime::UNIX_EPOCH).naive_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(y: i32, m: i32, d: i32, h: i64) -> i64 {
        to_days(y, m, d) * SECS_PER_DAY + h * 3600
    }

    #[test]
    fn new_york_in_the_near_and_far_future() {
        let ny = TimeZone::parse("america/new_york").expect("known zone");
        assert_eq!(ny.name(), "America/New_York");
        for year in [2024, 2099, 2500, 290_000] {
            assert_eq!(ny.east_at(at(year, 1, 15, 0)), -18000);
            assert_eq!(ny.east_at(at(year, 7, 15, 0)), -14400);
        }
        assert_eq!(ny.east_at(at(1800, 1, 1, 0)), -17762);
    }

    #[test]
    fn skipped_and_repeated_hours() {
        let ny = TimeZone::parse("America/New_York").expect("known zone");
        assert_eq!(ny.east_of_local(at(2024, 3, 10, 2)), -18000);
        assert_eq!(ny.east_of_local(at(2024, 11, 3, 1)), -18000);
        assert_eq!(ny.east_of_local(at(2024, 11, 3, 0)), -14400);
    }

    #[test]
    fn posix_and_fixed_zones() {
        assert_eq!(TimeZone::fixed(-8 * 3600).name(), "<-08>+08");
        assert_eq!(TimeZone::fixed(19800).name(), "<+05:30>-05:30");
        let foo = TimeZone::parse("FOO5BAR").expect("a specification");
        assert_eq!(foo.east_at(at(2024, 1, 1, 0)), -18000);
        assert_eq!(foo.east_at(at(2024, 7, 1, 0)), -14400);
        assert!(TimeZone::parse("nonsense").is_none());
    }
}
