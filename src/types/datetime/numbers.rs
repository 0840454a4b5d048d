//! Numbers in date and time input: bare ones, run-together ones such as `20010203` or `040506.789`,
//! and clock times.

use super::decode::{Decoder, part};
use super::fail::{Decoded, Fail};
use crate::context::DateOrder;

/// The integer at the start of a text (0 when there is none) and what follows it.
pub(super) fn leading_integer(text: &str) -> Decoded<(i32, &str)> {
    let (value, rest) = leading_integer64(text)?;
    Ok((i32::try_from(value).map_err(|_| Fail::Field)?, rest))
}

/// As [`leading_integer`], in 64 bits.
pub(super) fn leading_integer64(text: &str) -> Decoded<(i64, &str)> {
    let bytes = text.as_bytes();
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let digits = bytes[sign..].iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return Ok((0, text));
    }
    let end = sign + digits;
    Ok((text[..end].parse().map_err(|_| Fail::Field)?, &text[end..]))
}

/// A decimal such as `.5`.
pub(super) fn float(text: &str) -> Decoded<f64> {
    text.parse().map_err(|_| Fail::Syntax)
}

/// Microseconds of a fraction of a second such as `.25` or `.`.
pub(super) fn fraction(text: &str) -> Decoded<i32> {
    if text == "." {
        return Ok(0);
    }
    Ok((float(text)? * 1e6).round_ties_even() as i32)
}

/// A clock time as it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) hour: i64,
    pub(super) minute: i32,
    pub(super) second: i32,
    pub(super) micros: i32,
}

/// Reads `hh:mm`, `hh:mm:ss[.f]` or `mm:ss.f`. `range` are the fields of an interval type: `mm:ss`
/// is read as minutes and seconds when these two are all it has. The caller checks the hour.
pub(super) fn clock(text: &str, range: u32) -> Decoded<Clock> {
    let (first, rest) = leading_integer64(text)?;
    let rest = rest.strip_prefix(':').ok_or(Fail::Syntax)?;
    let (second, rest) = leading_integer(rest)?;
    let mut c = Clock { hour: first, minute: second, second: 0, micros: 0 };
    let minutes_first = |c: &mut Clock| -> Decoded<()> {
        c.second = c.minute;
        c.minute = i32::try_from(c.hour).map_err(|_| Fail::Field)?;
        c.hour = 0;
        Ok(())
    };
    if rest.is_empty() {
        if range == part::MINUTE | part::SECOND {
            minutes_first(&mut c)?;
        }
    } else if rest.starts_with('.') {
        c.micros = fraction(rest)?;
        minutes_first(&mut c)?;
    } else if let Some(rest) = rest.strip_prefix(':') {
        let (seconds, rest) = leading_integer(rest)?;
        c.second = seconds;
        match rest.as_bytes().first() {
            None => {}
            Some(b'.') => c.micros = fraction(rest)?,
            _ => return Err(Fail::Syntax),
        }
    } else {
        return Err(Fail::Syntax);
    }
    let sane = c.hour >= 0
        && (0..60).contains(&c.minute)
        && (0..=60).contains(&c.second)
        && (0..=1_000_000).contains(&c.micros);
    if sane { Ok(c) } else { Err(Fail::Field) }
}

/// A number without a label: what it is follows from what is missing and the order of dates.
/// Returns the parts that it gave.
pub(super) fn bare(
    d: &mut Decoder<'_>,
    text: &str,
    text_month: bool,
    order: DateOrder,
    mask: u32,
) -> Decoded<u32> {
    let (value, rest) = leading_integer(text)?;
    if rest.len() == text.len() {
        return Err(Fail::Syntax);
    }
    if !rest.is_empty() {
        if !rest.starts_with('.') {
            return Err(Fail::Syntax);
        }
        if text.len() - rest.len() > 2 {
            return run_together(d, text, mask | part::DATE);
        }
        d.fields.micros = fraction(rest)?;
    }
    let dates = mask & part::DATE;
    if text.len() == 3 && dates == part::YEAR && (1..=366).contains(&value) {
        d.year_day = value;
        return Ok(part::DAY_OF_YEAR | part::MONTH | part::DAY);
    }
    const YEAR_MONTH: u32 = part::YEAR | part::MONTH;
    const MONTH_DAY: u32 = part::MONTH | part::DAY;
    let long = text.len() >= 3;
    let found = match dates {
        0 if long || order == DateOrder::Ymd => part::YEAR,
        0 if order == DateOrder::Dmy => part::DAY,
        0 => part::MONTH,
        part::YEAR => part::MONTH,
        part::MONTH if text_month && (long || order == DateOrder::Ymd) => part::YEAR,
        part::MONTH => part::DAY,
        YEAR_MONTH if text_month && long && d.short_year => {
            // The first number was taken for a short year, but it was the day.
            d.fields.day = d.fields.year;
            d.fields.year = value;
            d.short_year = false;
            return Ok(part::DAY);
        }
        YEAR_MONTH => part::DAY,
        part::DAY => part::MONTH,
        MONTH_DAY => part::YEAR,
        part::DATE => return run_together(d, text, mask),
        _ => return Err(Fail::Syntax),
    };
    match found {
        part::YEAR => {
            d.fields.year = value;
            d.short_year = text.len() <= 2;
        }
        part::MONTH => d.fields.month = value,
        _ => d.fields.day = value,
    }
    Ok(found)
}

/// `yyyymmdd`, `yymmdd`, `hhmmss[.f]` or `hhmm`. Returns the parts that it gave.
pub(super) fn run_together(d: &mut Decoder<'_>, text: &str, mask: u32) -> Decoded<u32> {
    let pair = |t: &str| t.parse::<i32>().map_err(|_| Fail::Syntax);
    let mut text = text;
    if let Some(at) = text.find('.') {
        d.fields.micros = fraction(&text[at..])?;
        text = &text[..at];
    } else if mask & part::DATE != part::DATE && text.len() >= 6 {
        let n = text.len();
        d.fields.day = pair(&text[n - 2..])?;
        d.fields.month = pair(&text[n - 4..n - 2])?;
        d.fields.year = text[..n - 4].parse().map_err(|_| Fail::Field)?;
        d.short_year |= n - 4 == 2;
        return Ok(part::DATE);
    }
    if mask & part::TIME != part::TIME && (text.len() == 6 || text.len() == 4) {
        d.fields.hour = pair(&text[..2])?;
        d.fields.minute = pair(&text[2..4])?;
        d.fields.second = if text.len() == 6 { pair(&text[4..])? } else { 0 };
        return Ok(part::TIME);
    }
    Err(Fail::Syntax)
}

/// The runs of digits and letters of a date.
pub(super) fn split_date(text: &str) -> Decoded<Vec<&str>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let start = rest.find(|c: char| c.is_ascii_alphanumeric()).ok_or(Fail::Syntax)?;
        rest = &rest[start..];
        let digits = rest.starts_with(|c: char| c.is_ascii_digit());
        let same = |c: char| if digits { c.is_ascii_digit() } else { c.is_ascii_alphabetic() };
        let end = rest.find(|c: char| !same(c)).unwrap_or(rest.len());
        parts.push(&rest[..end]);
        // One character after a part is its separator, whatever it is.
        rest = rest.get(end + 1..).unwrap_or("");
    }
    Ok(parts)
}

/// A numeric zone such as `+02`, `-0330` or `+01:02:03`, as seconds *west* of UTC.
pub(super) fn timezone(text: &str) -> Decoded<i32> {
    let sign = match text.as_bytes().first() {
        Some(b'+') => -1,
        Some(b'-') => 1,
        _ => return Err(Fail::Syntax),
    };
    let number = |s| leading_integer(s).map_err(|_| Fail::Zone);
    let (mut hour, mut rest) = number(&text[1..])?;
    let (mut minute, mut second) = (0, 0);
    if let Some(after) = rest.strip_prefix(':') {
        (minute, rest) = number(after)?;
        if let Some(after) = rest.strip_prefix(':') {
            (second, rest) = number(after)?;
        }
    } else if rest.is_empty() && text.len() > 3 {
        (hour, minute) = (hour / 100, hour % 100);
    }
    if !(0..=15).contains(&hour) || !(0..60).contains(&minute) || !(0..60).contains(&second) {
        return Err(Fail::Zone);
    }
    if !rest.is_empty() {
        return Err(Fail::Syntax);
    }
    Ok(sign * ((hour * 60 + minute) * 60 + second))
}
