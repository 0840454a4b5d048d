//! Text input of intervals: PostgreSQL's, the SQL standard's and ISO 8601's forms.
//!
//! The fields are read from right to left, so that a unit is known before its number. Fractions
//! of a unit spill into smaller ones: of a month into days, of a day or week into microseconds.

use super::calendar::{USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC};
use super::decode::part;
use super::fail::{Decoded, Fail, interval_out_of_range};
use super::lex::{self, Field, Shape};
use super::numbers::{clock, leading_integer, leading_integer64};
use super::words::{DateWord, SpanWord, Unit, date_word, span_word};
use crate::context::IntervalStyle;
use crate::{Interval, PgError, Result, SqlState};

/// The range of fields of an interval type without any.
const FULL_RANGE: u32 = 0x7fff;
/// The precision of an interval type without any.
const FULL_PRECISION: i32 = 0xffff;

/// Years, months, days and microseconds while they are gathered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts {
    years: i32,
    months: i32,
    days: i32,
    micros: i64,
}

impl Parts {
    fn add_micros(&mut self, value: i64, fraction: f64, scale: i64) -> Decoded<()> {
        let add = value.checked_mul(scale).and_then(|v| self.micros.checked_add(v));
        self.micros = add.ok_or(Fail::Field)?;
        self.add_micros_fraction(fraction, scale)
    }

    fn add_micros_fraction(&mut self, fraction: f64, scale: i64) -> Decoded<()> {
        let exact = fraction * scale as f64;
        let whole = exact as i64;
        let rest = exact - whole as f64;
        let carry = i64::from(rest > 0.5) - i64::from(rest < -0.5);
        self.micros = self.micros.checked_add(whole + carry).ok_or(Fail::Field)?;
        Ok(())
    }

    fn add_days(&mut self, value: i64, scale: i32) -> Decoded<()> {
        let value = i32::try_from(value).ok().and_then(|v| v.checked_mul(scale));
        self.days = value.and_then(|v| self.days.checked_add(v)).ok_or(Fail::Field)?;
        Ok(())
    }

    fn add_days_fraction(&mut self, fraction: f64, scale: i32) -> Decoded<()> {
        let exact = fraction * f64::from(scale);
        let whole = exact as i32;
        self.days = self.days.checked_add(whole).ok_or(Fail::Field)?;
        self.add_micros_fraction(exact - f64::from(whole), USECS_PER_DAY)
    }

    fn add_months(&mut self, value: i64) -> Decoded<()> {
        let value = i32::try_from(value).ok();
        self.months = value.and_then(|v| self.months.checked_add(v)).ok_or(Fail::Field)?;
        Ok(())
    }

    fn add_years(&mut self, value: i64, fraction: f64, scale: i32) -> Decoded<()> {
        let value = i32::try_from(value).ok().and_then(|v| v.checked_mul(scale));
        self.years = value.and_then(|v| self.years.checked_add(v)).ok_or(Fail::Field)?;
        let months = (fraction * f64::from(scale) * 12.0).round_ties_even() as i32;
        self.months = self.months.checked_add(months).ok_or(Fail::Field)?;
        Ok(())
    }

    /// Adds so much of a unit; returns the parts that this filled.
    pub(super) fn add(&mut self, unit: Unit, value: i64, fraction: f64) -> Decoded<u32> {
        Ok(match unit {
            Unit::Microsecond => {
                self.add_micros(value, fraction, 1)?;
                part::MICROSECOND
            }
            Unit::Millisecond => {
                self.add_micros(value, fraction, 1000)?;
                part::MILLISECOND
            }
            Unit::Second => {
                self.add_micros(value, fraction, USECS_PER_SEC)?;
                if fraction == 0.0 { part::SECOND } else { part::ALL_SECONDS }
            }
            Unit::Minute => {
                self.add_micros(value, fraction, USECS_PER_MINUTE)?;
                part::MINUTE
            }
            Unit::Hour => {
                self.add_micros(value, fraction, USECS_PER_HOUR)?;
                part::HOUR
            }
            Unit::Day => {
                self.add_days(value, 1)?;
                self.add_micros_fraction(fraction, USECS_PER_DAY)?;
                part::DAY
            }
            Unit::Week => {
                self.add_days(value, 7)?;
                self.add_days_fraction(fraction, 7)?;
                part::WEEK
            }
            Unit::Month => {
                self.add_months(value)?;
                self.add_days_fraction(fraction, 30)?;
                part::MONTH
            }
            Unit::Year => {
                self.add_years(value, fraction, 1)?;
                part::YEAR
            }
            Unit::Decade => {
                self.add_years(value, fraction, 10)?;
                part::DECADE
            }
            Unit::Century => {
                self.add_years(value, fraction, 100)?;
                part::CENTURY
            }
            Unit::Millennium => {
                self.add_years(value, fraction, 1000)?;
                part::MILLENNIUM
            }
            _ => return Err(Fail::Syntax),
        })
    }

    fn negate(&mut self) -> Decoded<()> {
        self.years = self.years.checked_neg().ok_or(Fail::Field)?;
        self.months = self.months.checked_neg().ok_or(Fail::Field)?;
        self.days = self.days.checked_neg().ok_or(Fail::Field)?;
        self.micros = self.micros.checked_neg().ok_or(Fail::Field)?;
        Ok(())
    }
}

/// Reads an `interval`. Only [`IntervalStyle::SqlStandard`] changes what is read: a leading sign
/// then holds for all fields when it is the only one.
pub fn interval_in(text: &str, typmod: i32, style: IntervalStyle) -> Result<Interval> {
    let range = if typmod >= 0 { (typmod >> 16) as u32 & FULL_RANGE } else { FULL_RANGE };
    let sql = style == IntervalStyle::SqlStandard;
    let fields = lex::split(text).ok_or(Fail::Syntax);
    let parts = match fields.and_then(|fields| decode(&fields, range, sql)) {
        Err(Fail::Syntax) => super::interval_iso::decode(text),
        other => other,
    };
    let parts = parts.map_err(|fail| match fail {
        Fail::Field => Fail::Interval.error(text, "interval"),
        other => other.error(text, "interval"),
    })?;
    let months = i64::from(parts.years) * 12 + i64::from(parts.months);
    let months = i32::try_from(months).map_err(|_| interval_out_of_range())?;
    interval_scale(Interval { months, days: parts.days, micros: parts.micros }, typmod)
}

fn decode(fields: &[Field], range: u32, sql: bool) -> Decoded<Parts> {
    let signed = |f: &Field| f.text.starts_with(['-', '+']);
    let all_negative = sql
        && fields.first().is_some_and(|f| f.text.starts_with('-'))
        && !fields[1..].iter().any(signed);
    let mut parts = Parts::default();
    let (mut seen, mut unit, mut ago) = (0, None, false);
    for field in fields.iter().rev() {
        let text = field.text.as_str();
        let found = match field.shape {
            Shape::Time => {
                time(&mut parts, text, range, all_negative)?;
                unit = Some(Unit::Day);
                part::TIME
            }
            Shape::Zone if signed_time(&mut parts, text, range, all_negative)? => {
                unit = Some(Unit::Day);
                part::TIME
            }
            Shape::Zone | Shape::Date | Shape::Number => {
                let (actual, value, fraction) =
                    quantity(text, unit.unwrap_or_else(|| rightmost(range)), all_negative)?;
                // Days stand before hours, as they do before a time.
                unit = Some(if matches!(actual, Unit::Hour) { Unit::Day } else { actual });
                parts.add(actual, value, fraction)?
            }
            Shape::Word | Shape::Special => match span_word(text) {
                Some(SpanWord::Unit(u)) => {
                    unit = Some(u);
                    0
                }
                Some(SpanWord::Ignore) => continue,
                Some(SpanWord::Ago) => {
                    ago = true;
                    0
                }
                None => match date_word(text) {
                    Some(DateWord::Unit(u)) => {
                        unit = Some(u);
                        0
                    }
                    Some(DateWord::Ignore) => continue,
                    _ => return Err(Fail::Syntax),
                },
            },
        };
        if found & seen != 0 {
            return Err(Fail::Syntax);
        }
        seen |= found;
    }
    if seen == 0 {
        return Err(Fail::Syntax);
    }
    if ago {
        parts.negate()?;
    }
    Ok(parts)
}

fn time(parts: &mut Parts, text: &str, range: u32, all_negative: bool) -> Decoded<()> {
    let c = clock(text, range)?;
    let small = (i64::from(c.minute) * 60 + i64::from(c.second)) * USECS_PER_SEC;
    let micros = c.hour.checked_mul(USECS_PER_HOUR);
    let micros = micros.and_then(|h| h.checked_add(small + i64::from(c.micros)));
    parts.micros = micros.ok_or(Fail::Field)?;
    if all_negative && parts.micros > 0 {
        parts.micros = -parts.micros;
    }
    Ok(())
}

/// `-1:30`: a sign and a time. False when it is something else with a sign.
fn signed_time(parts: &mut Parts, text: &str, range: u32, all_negative: bool) -> Decoded<bool> {
    if !text[1..].contains(':') {
        return Ok(false);
    }
    let before = parts.micros;
    if time(parts, &text[1..], range, false).is_err() {
        parts.micros = before;
        return Ok(false);
    }
    if text.starts_with('-') {
        parts.micros = -parts.micros;
    }
    if all_negative && parts.micros > 0 {
        parts.micros = -parts.micros;
    }
    Ok(true)
}

/// The unit of a last number without one.
fn rightmost(range: u32) -> Unit {
    let ends_with = |bit: u32| range != FULL_RANGE && range & bit != 0;
    if ends_with(part::SECOND) {
        Unit::Second
    } else if ends_with(part::MINUTE) {
        Unit::Minute
    } else if ends_with(part::HOUR) {
        Unit::Hour
    } else if ends_with(part::DAY) {
        Unit::Day
    } else if ends_with(part::MONTH) {
        Unit::Month
    } else if ends_with(part::YEAR) {
        Unit::Year
    } else {
        Unit::Second
    }
}

/// A number with its unit; `1-2` is years and months.
fn quantity(text: &str, unit: Unit, all_negative: bool) -> Decoded<(Unit, i64, f64)> {
    let (mut value, rest) = leading_integer64(text)?;
    let (mut unit, mut fraction) = (unit, 0.0);
    if let Some(months) = rest.strip_prefix('-') {
        let (mut months, rest) = leading_integer(months)?;
        if !(0..12).contains(&months) {
            return Err(Fail::Field);
        }
        if !rest.is_empty() {
            return Err(Fail::Syntax);
        }
        unit = Unit::Month;
        if text.starts_with('-') {
            months = -months;
        }
        let total = value.checked_mul(12).and_then(|v| v.checked_add(i64::from(months)));
        value = total.ok_or(Fail::Field)?;
    } else if rest.starts_with('.') {
        fraction = if rest == "." { 0.0 } else { super::numbers::float(rest)? };
        if text.starts_with('-') {
            fraction = -fraction;
        }
    } else if !rest.is_empty() {
        return Err(Fail::Syntax);
    }
    if all_negative {
        value = value.checked_abs().map_or(value, |v| -v);
        fraction = -fraction.abs();
    }
    Ok((unit, value, fraction))
}

/// Cuts an interval to the fields of its type and rounds it to its precision.
pub fn interval_scale(v: Interval, typmod: i32) -> Result<Interval> {
    if typmod < 0 {
        return Ok(v);
    }
    let mut v = v;
    let range = (typmod >> 16) as u32 & FULL_RANGE;
    let precision = typmod & 0xffff;
    if range != FULL_RANGE {
        let lowest = rightmost(range);
        match lowest {
            Unit::Year => v.months = v.months / 12 * 12,
            Unit::Hour => v.micros = v.micros / USECS_PER_HOUR * USECS_PER_HOUR,
            Unit::Minute => v.micros = v.micros / USECS_PER_MINUTE * USECS_PER_MINUTE,
            _ => {}
        }
        if matches!(lowest, Unit::Year | Unit::Month) {
            v.days = 0;
        }
        if matches!(lowest, Unit::Year | Unit::Month | Unit::Day) {
            v.micros = 0;
        }
    }
    if precision != FULL_PRECISION {
        if precision > 6 {
            return Err(PgError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("interval({precision}) precision must be between 0 and 6"),
            ));
        }
        v.micros = super::io::round_micros(v.micros, precision);
    }
    Ok(v)
}
