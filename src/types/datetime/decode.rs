//! Finds out what the fields of date and time input mean.
//!
//! [`Decoder`] walks over the fields of [`super::lex`] and keeps a mask of what it has seen; a part
//! that is given twice is an error. Numbers without a label are assigned by what is still missing
//! and by `DateStyle`'s order (see [`super::numbers`]). Zones that depend on the date are resolved
//! at the end.

use super::calendar::{EPOCH_JULIAN, Fields, USECS_PER_DAY, days_in_month, from_days};
use super::fail::{Decoded, Fail};
use super::lex::{Field, Shape};
use super::numbers::{self, fraction, leading_integer, split_date, timezone};
use super::words::{DateWord, Reserved, Unit, date_word};
use super::zone::{TimeZone, ZoneName};
use crate::Settings;

/// One bit per part of a date or time; the bits of interval type modifiers are the same.
pub(super) mod part {
    pub(in super::super) const MONTH: u32 = 1 << 1;
    pub(in super::super) const YEAR: u32 = 1 << 2;
    pub(in super::super) const DAY: u32 = 1 << 3;
    pub(in super::super) const ZONE: u32 = 1 << 5;
    pub(in super::super) const AMPM: u32 = 1 << 9;
    pub(in super::super) const HOUR: u32 = 1 << 10;
    pub(in super::super) const MINUTE: u32 = 1 << 11;
    pub(in super::super) const SECOND: u32 = 1 << 12;
    pub(in super::super) const MILLISECOND: u32 = 1 << 13;
    pub(in super::super) const MICROSECOND: u32 = 1 << 14;
    pub(in super::super) const DAY_OF_YEAR: u32 = 1 << 15;
    pub(in super::super) const WEEKDAY: u32 = 1 << 16;
    pub(in super::super) const BC: u32 = 1 << 18;
    pub(in super::super) const WEEK: u32 = 1 << 24;
    pub(in super::super) const DECADE: u32 = 1 << 25;
    pub(in super::super) const CENTURY: u32 = 1 << 26;
    pub(in super::super) const MILLENNIUM: u32 = 1 << 27;
    pub(in super::super) const DST: u32 = 1 << 28;
    pub(in super::super) const DATE: u32 = YEAR | MONTH | DAY;
    pub(in super::super) const ALL_SECONDS: u32 = SECOND | MILLISECOND | MICROSECOND;
    pub(in super::super) const TIME: u32 = HOUR | MINUTE | ALL_SECONDS;
}

/// What input was decoded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decodedtime {
    /// Fields and the zone's seconds west of UTC.
    Fields(Fields, i32),
    /// 1970-01-01 00:00 UTC
    Epoch,
    /// `infinity`
    Infinity,
    /// `-infinity`
    NegInfinity,
}

/// The state of a decoding.
pub(super) struct Decoder<'a> {
    settings: &'a Settings,
    now: i64,
    time_only: bool,
    pub(super) fields: Fields,
    pub(super) year_day: i32,
    pub(super) short_year: bool,
    mask: u32,
    west: i32,
    zone: Option<ZoneName>,
    label: Option<Unit>,
    text_month: bool,
    bc: bool,
    julian: bool,
    pm: Option<bool>,
    special: Option<Reserved>,
}

/// Reads a date with an optional time, or with `time_only` a time with an optional date.
pub(super) fn decode(
    fields: &[Field],
    time_only: bool,
    settings: &Settings,
    now: i64,
) -> Decoded<Decodedtime> {
    let mut decoder = Decoder {
        settings,
        now,
        time_only,
        fields: Fields::default(),
        year_day: 0,
        short_year: false,
        mask: 0,
        west: 0,
        zone: None,
        label: None,
        text_month: false,
        bc: false,
        julian: false,
        pm: None,
        special: None,
    };
    for index in 0..fields.len() {
        let Some(found) = decoder.field(fields, index)? else { continue };
        if found & decoder.mask != 0 {
            return Err(Fail::Syntax);
        }
        decoder.mask |= found;
    }
    decoder.finish()
}

impl Decoder<'_> {
    fn has(&self, parts: u32) -> bool {
        self.mask & parts == parts
    }

    /// The mask that decides what a bare number is: a time has its date already.
    fn number_mask(&self) -> u32 {
        if self.time_only { self.mask | part::DATE } else { self.mask }
    }

    /// Decodes one field; `None` for a word without meaning.
    fn field(&mut self, all: &[Field], index: usize) -> Decoded<Option<u32>> {
        let text = all[index].text.as_str();
        Ok(Some(match all[index].shape {
            Shape::Date if self.time_only => self.date_in_time(all, index)?,
            Shape::Date => self.date(text)?,
            Shape::Time => self.time(text)?,
            Shape::Zone => {
                self.west = timezone(text)?;
                part::ZONE
            }
            Shape::Number if self.label.is_some() => self.labelled(text)?,
            Shape::Number if self.time_only => self.number_in_time(all, index)?,
            Shape::Number => self.number(text)?,
            Shape::Word | Shape::Special => return self.word(all, index),
        }))
    }

    fn date(&mut self, text: &str) -> Decoded<u32> {
        if self.label == Some(Unit::Julian) {
            let (day, rest) = leading_integer(text)?;
            self.set_julian(day)?;
            self.west = timezone(rest)?;
            self.label = None;
            return Ok(part::DATE | part::TIME | part::ZONE);
        }
        if self.label.is_none() && !self.has(part::MONTH | part::DAY) {
            return self.plain_date(text);
        }
        if !text.starts_with(|c: char| c.is_ascii_digit()) && self.label.is_none() {
            return self.zone_name(text);
        }
        if self.label.take().is_some_and(|unit| unit != Unit::Time) {
            return Err(Fail::Syntax);
        }
        self.time_with_zone(text, self.mask)
    }

    /// `hhmmss-zz`
    fn time_with_zone(&mut self, text: &str, mask: u32) -> Decoded<u32> {
        if self.has(part::TIME) {
            return Err(Fail::Syntax);
        }
        let at = text.find('-').ok_or(Fail::Syntax)?;
        self.west = timezone(&text[at..])?;
        Ok(numbers::run_together(self, &text[..at], mask)? | part::ZONE)
    }

    fn zone_name(&mut self, text: &str) -> Decoded<u32> {
        let zone = TimeZone::parse(text).ok_or_else(|| Fail::UnknownZone(text.to_owned()))?;
        self.zone = Some(ZoneName::Zone(zone));
        Ok(part::ZONE)
    }

    /// A date in the fields of a `time`: allowed at the start, before the time itself.
    fn date_in_time(&mut self, all: &[Field], index: usize) -> Decoded<u32> {
        let text = all[index].text.as_str();
        let last_is_date = all[all.len() - 1].shape == Shape::Date;
        if index == 0 && all.len() >= 2 && (last_is_date || all[1].shape == Shape::Time) {
            return self.plain_date(text);
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return self.time_with_zone(text, self.number_mask());
        }
        self.zone_name(text)
    }

    /// A date of parts joined by punctuation. A month's name is looked for first.
    fn plain_date(&mut self, text: &str) -> Decoded<u32> {
        let mut mask = self.mask;
        let mut found = 0;
        let mut add = |bits: u32, mask: &mut u32| {
            if bits & *mask != 0 {
                return Err(Fail::Syntax);
            }
            *mask |= bits;
            found |= bits;
            Ok(())
        };
        let parts = split_date(text)?;
        let mut numeric = Vec::with_capacity(parts.len());
        let mut text_month = false;
        for part_text in parts {
            if part_text.starts_with(|c: char| c.is_ascii_digit()) {
                numeric.push(part_text);
                continue;
            }
            match date_word(part_text) {
                Some(DateWord::Ignore) => continue,
                Some(DateWord::Month(month)) => {
                    self.fields.month = month;
                    text_month = true;
                    add(part::MONTH, &mut mask)?;
                }
                _ => return Err(Fail::Syntax),
            }
        }
        for number in numeric {
            let order = self.settings.date_order;
            let bits = numbers::bare(self, number, text_month, order, mask)?;
            add(bits, &mut mask)?;
        }
        if mask & !(part::DAY_OF_YEAR | part::ZONE) != part::DATE {
            return Err(Fail::Syntax);
        }
        Ok(found)
    }

    fn time(&mut self, text: &str) -> Decoded<u32> {
        if !self.time_only && self.label.take().is_some_and(|unit| unit != Unit::Time) {
            return Err(Fail::Syntax);
        }
        let time = numbers::clock(text, 0)?;
        self.fields.hour = i32::try_from(time.hour).map_err(|_| Fail::Field)?;
        self.fields.minute = time.minute;
        self.fields.second = time.second;
        self.fields.micros = time.micros;
        if !self.time_only && time_overflows(&self.fields) {
            return Err(Fail::Field);
        }
        Ok(part::TIME)
    }

    /// A number whose meaning the field before it has told.
    fn labelled(&mut self, text: &str) -> Decoded<u32> {
        let Some(label) = self.label.take() else { return Err(Fail::Syntax) };
        let (value, rest) = leading_integer(text)?;
        let fraction_allowed = matches!(label, Unit::Julian | Unit::Time | Unit::Second);
        if !(rest.is_empty() || rest.starts_with('.') && fraction_allowed) {
            return Err(Fail::Syntax);
        }
        let f = &mut self.fields;
        Ok(match label {
            Unit::Year => {
                f.year = value;
                part::YEAR
            }
            Unit::Month if self.mask & part::MONTH != 0 && self.mask & part::HOUR != 0 => {
                f.minute = value;
                part::MINUTE
            }
            Unit::Month => {
                f.month = value;
                part::MONTH
            }
            Unit::Day => {
                f.day = value;
                part::DAY
            }
            Unit::Hour => {
                f.hour = value;
                part::HOUR
            }
            Unit::Minute => {
                f.minute = value;
                part::MINUTE
            }
            Unit::Second => {
                f.second = value;
                if rest.is_empty() {
                    return Ok(part::SECOND);
                }
                f.micros = fraction(rest)?;
                part::ALL_SECONDS
            }
            Unit::Zone => {
                self.west = timezone(text)?;
                part::ZONE
            }
            Unit::Julian => {
                self.set_julian(value)?;
                if rest.is_empty() {
                    return Ok(part::DATE);
                }
                let share: f64 = if rest == "." { 0.0 } else { numbers::float(rest)? };
                self.fields.set_time((share * USECS_PER_DAY as f64) as i64);
                part::DATE | part::TIME
            }
            Unit::Time => {
                let mask = self.mask | part::DATE;
                let found = numbers::run_together(self, text, mask)?;
                if found != part::TIME {
                    return Err(Fail::Syntax);
                }
                found
            }
            _ => return Err(Fail::Syntax),
        })
    }

    fn set_julian(&mut self, day: i32) -> Decoded<()> {
        if day < 0 {
            return Err(Fail::Field);
        }
        self.fields.set_days(i64::from(day) - EPOCH_JULIAN);
        self.julian = true;
        Ok(())
    }

    fn number(&mut self, text: &str) -> Decoded<u32> {
        let point = text.find('.');
        if point.is_some() && self.mask & part::DATE == 0 {
            return self.plain_date(text);
        }
        let concatenated = match point {
            Some(at) if at > 2 => true,
            _ => text.len() >= 6 && (self.mask & part::DATE == 0 || self.mask & part::TIME == 0),
        };
        if concatenated {
            return numbers::run_together(self, text, self.mask);
        }
        let order = self.settings.date_order;
        numbers::bare(self, text, self.text_month, order, self.mask)
    }

    fn number_in_time(&mut self, all: &[Field], index: usize) -> Decoded<u32> {
        let text = all[index].text.as_str();
        let mask = self.number_mask();
        match text.find('.') {
            Some(_) if index == 0 && all.len() >= 2 && all[all.len() - 1].shape == Shape::Date => {
                self.plain_date(text)
            }
            Some(at) if at > 2 => numbers::run_together(self, text, mask),
            Some(_) => Err(Fail::Syntax),
            None if text.len() > 4 => numbers::run_together(self, text, mask),
            None => numbers::bare(self, text, false, self.settings.date_order, mask),
        }
    }

    fn word(&mut self, all: &[Field], index: usize) -> Decoded<Option<u32>> {
        let text = all[index].text.as_str();
        if let Some(zone) = ZoneName::from_abbrev(text) {
            if let ZoneName::Fixed(east, _) = zone {
                self.west = -east;
            } else {
                self.zone = Some(zone);
            }
            return Ok(Some(part::ZONE));
        }
        Ok(Some(match date_word(text) {
            None => {
                let zone = TimeZone::parse(text).ok_or(Fail::Syntax)?;
                self.zone = Some(ZoneName::Zone(zone));
                part::ZONE
            }
            Some(DateWord::Ignore) => return Ok(None),
            Some(DateWord::Reserved(word)) => self.reserved(word)?,
            Some(DateWord::Month(_)) if self.time_only => return Err(Fail::Syntax),
            Some(DateWord::Weekday) if self.time_only => return Err(Fail::Syntax),
            Some(DateWord::Month(month)) => self.month_name(month),
            Some(DateWord::Dst) => {
                self.west -= 3600;
                part::DST
            }
            Some(DateWord::Pm(pm)) => {
                self.pm = Some(pm);
                part::AMPM
            }
            Some(DateWord::Bc(bc)) => {
                self.bc = bc;
                part::BC
            }
            Some(DateWord::Weekday) => part::WEEKDAY,
            Some(DateWord::Unit(unit)) => {
                self.label = Some(unit);
                0
            }
            Some(DateWord::IsoTime) => {
                let next = all.get(index + 1).map(|f| f.shape);
                let sensible = matches!(next, Some(Shape::Number | Shape::Time | Shape::Date));
                if !sensible || !(self.time_only || self.has(part::DATE)) {
                    return Err(Fail::Syntax);
                }
                self.label = Some(Unit::Time);
                0
            }
        }))
    }

    fn month_name(&mut self, month: i32) -> u32 {
        let mut found = part::MONTH;
        let numeric_month = self.mask & part::MONTH != 0 && self.mask & part::DAY == 0;
        if numeric_month && !self.text_month && (1..=31).contains(&self.fields.month) {
            self.fields.day = self.fields.month;
            found = part::DAY;
        }
        self.text_month = true;
        self.fields.month = month;
        found
    }

    fn reserved(&mut self, word: Reserved) -> Decoded<u32> {
        let zone = &self.settings.time_zone;
        let local = zone.to_local(self.now);
        let today = local.div_euclid(USECS_PER_DAY);
        match word {
            Reserved::AllBalls => {
                self.fields.set_time(0);
                self.west = 0;
                return Ok(part::TIME | part::ZONE);
            }
            Reserved::Now => {
                self.fields.set_time(local.rem_euclid(USECS_PER_DAY));
                if self.time_only {
                    return Ok(part::TIME);
                }
                self.fields.set_days(today);
                self.west = -zone.east_at(self.now.div_euclid(1_000_000));
                return Ok(part::DATE | part::TIME | part::ZONE);
            }
            _ if self.time_only => return Err(Fail::Syntax),
            Reserved::Today => self.fields.set_days(today),
            Reserved::Tomorrow => self.fields.set_days(today + 1),
            Reserved::Yesterday => self.fields.set_days(today - 1),
            Reserved::Epoch | Reserved::Infinity | Reserved::NegInfinity => {
                self.special = Some(word);
                return Ok(part::DATE | part::TIME | part::ZONE);
            }
        }
        self.special = None;
        Ok(part::DATE)
    }

    /// Checks the parts against each other and resolves the zone.
    fn finish(mut self) -> Decoded<Decodedtime> {
        match self.special {
            Some(Reserved::Epoch) => return Ok(Decodedtime::Epoch),
            Some(Reserved::Infinity) => return Ok(Decodedtime::Infinity),
            Some(Reserved::NegInfinity) => return Ok(Decodedtime::NegInfinity),
            _ => {}
        }
        self.validate_date()?;
        if let Some(pm) = self.pm {
            if self.fields.hour > 12 {
                return Err(Fail::Field);
            }
            match (pm, self.fields.hour) {
                (false, 12) => self.fields.hour = 0,
                (true, hour) if hour != 12 => self.fields.hour += 12,
                _ => {}
            }
        }
        if self.time_only {
            if time_overflows(&self.fields) {
                return Err(Fail::Field);
            }
            if !self.has(part::TIME) {
                return Err(Fail::Syntax);
            }
            self.resolve_time_zone()?;
            return Ok(Decodedtime::Fields(self.fields, self.west));
        }
        if !self.has(part::DATE) {
            return Err(Fail::Syntax);
        }
        let zone = match self.zone.take() {
            Some(zone) => Some(zone),
            None if self.mask & part::ZONE == 0 => {
                Some(ZoneName::Zone(self.settings.time_zone.clone()))
            }
            None => None,
        };
        if let Some(zone) = zone {
            if self.mask & part::DST != 0 {
                return Err(Fail::Syntax);
            }
            self.west = -zone.east_of_local(self.fields.local_seconds());
        }
        Ok(Decodedtime::Fields(self.fields, self.west))
    }

    /// A time's zone may depend on the date: that of the input, or today.
    fn resolve_time_zone(&mut self) -> Decoded<()> {
        let named = self.zone.is_some();
        let zone = match self.zone.take() {
            Some(zone) => zone,
            None if self.mask & part::ZONE == 0 => ZoneName::Zone(self.settings.time_zone.clone()),
            None => return Ok(()),
        };
        if self.mask & part::DST != 0 {
            return Err(Fail::Syntax);
        }
        if let ZoneName::Zone(zone) = &zone
            && let Some(east) = zone.constant()
        {
            self.west = -east;
            return Ok(());
        }
        let mut fields = self.fields;
        match self.mask & part::DATE {
            part::DATE => {}
            0 if !named || matches!(zone, ZoneName::Dynamic(..)) => {
                let local = self.settings.time_zone.to_local(self.now);
                fields.set_days(local.div_euclid(USECS_PER_DAY));
            }
            _ => return Err(Fail::Syntax),
        }
        self.west = -zone.east_of_local(fields.local_seconds());
        Ok(())
    }

    fn validate_date(&mut self) -> Decoded<()> {
        let f = &mut self.fields;
        if self.mask & part::YEAR != 0 && !self.julian {
            if self.bc {
                if f.year <= 0 {
                    return Err(Fail::Field);
                }
                f.year = 1 - f.year;
            } else if self.short_year {
                f.year += match f.year {
                    ..0 => return Err(Fail::Field),
                    0..70 => 2000,
                    70..100 => 1900,
                    _ => 0,
                };
            } else if f.year <= 0 {
                return Err(Fail::Field);
            }
        }
        if self.mask & part::DAY_OF_YEAR != 0 {
            let start = super::calendar::to_days(f.year, 1, 1);
            (f.year, f.month, f.day) = from_days(start + i64::from(self.year_day) - 1);
        }
        if self.mask & part::MONTH != 0 && !(1..=12).contains(&f.month) {
            return Err(Fail::MonthDay);
        }
        if self.mask & part::DAY != 0 && !(1..=31).contains(&f.day) {
            return Err(Fail::MonthDay);
        }
        if self.mask & part::DATE == part::DATE && f.day > days_in_month(f.year, f.month) {
            return Err(Fail::Field);
        }
        Ok(())
    }
}

/// True for a time past 24:00:00 or with a field out of range.
pub(super) fn time_overflows(f: &Fields) -> bool {
    !(0..=24).contains(&f.hour)
        || !(0..60).contains(&f.minute)
        || !(0..=60).contains(&f.second)
        || !(0..=1_000_000).contains(&f.micros)
        || f.time() > USECS_PER_DAY
}
