//! Intervals in the forms of ISO 8601: `P1Y2M3DT4H5M6S`, `P0001-02-03T04:05:06`, `P00010203T040506`.

use super::fail::{Decoded, Fail};
use super::interval::Parts;
use super::words::Unit;

struct Reader<'a> {
    rest: &'a str,
    parts: Parts,
    /// A field of this half (date or time) was read.
    have_field: bool,
}

enum Next {
    Go,
    /// Went over into the time half.
    Time,
    End,
}

/// Reads an interval that starts with `P`.
pub(super) fn decode(text: &str) -> Decoded<Parts> {
    let Some(rest) = text.strip_prefix('P').filter(|r| !r.is_empty()) else {
        return Err(Fail::Syntax);
    };
    let mut r = Reader { rest, parts: Parts::default(), have_field: false };
    let mut in_date = true;
    while !r.rest.is_empty() {
        if let Some(rest) = r.rest.strip_prefix('T') {
            r.rest = rest;
            (in_date, r.have_field) = (false, false);
            continue;
        }
        match if in_date { r.date_field()? } else { r.time_field()? } {
            Next::Go => r.have_field = true,
            Next::Time => (in_date, r.have_field) = (false, false),
            Next::End => break,
        }
    }
    Ok(r.parts)
}

impl Reader<'_> {
    fn number(&mut self) -> Decoded<(i64, f64)> {
        let b = self.rest.as_bytes();
        if !b.first().is_some_and(|c| c.is_ascii_digit() || *c == b'-' || *c == b'.') {
            return Err(Fail::Syntax);
        }
        let mut end = usize::from(b[0] == b'-');
        while end < b.len() && (b[end].is_ascii_digit() || b[end] == b'.') {
            end += 1;
        }
        if b.get(end).is_some_and(|c| c.eq_ignore_ascii_case(&b'e')) {
            let sign = usize::from(matches!(b.get(end + 1), Some(b'+' | b'-')));
            let digits = b[end + 1 + sign..].iter().take_while(|c| c.is_ascii_digit()).count();
            if digits > 0 {
                end += 1 + sign + digits;
            }
        }
        let value: f64 = self.rest[..end].parse().map_err(|_| Fail::Syntax)?;
        if !(-9.223_372_036_854_776e18..=9.223_372_036_854_776e18).contains(&value) {
            return Err(Fail::Field);
        }
        self.rest = &self.rest[end..];
        Ok((value.trunc() as i64, value - value.trunc()))
    }

    fn next_char(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn digits(text: &str) -> usize {
        text.bytes().skip(usize::from(text.starts_with('-'))).take_while(u8::is_ascii_digit).count()
    }

    fn date_field(&mut self) -> Decoded<Next> {
        let width = Self::digits(self.rest);
        let (value, fraction) = self.number()?;
        let unit = self.next_char();
        let named = match unit {
            Some('Y') => Some(Unit::Year),
            Some('M') => Some(Unit::Month),
            Some('W') => Some(Unit::Week),
            Some('D') => Some(Unit::Day),
            Some('T' | '-') | None => None,
            Some(_) => return Err(Fail::Syntax),
        };
        if let Some(named) = named {
            self.parts.add(named, value, fraction)?;
            return Ok(Next::Go);
        }
        if unit != Some('-') && width == 8 && !self.have_field {
            self.parts.add(Unit::Year, value / 10_000, 0.0)?;
            self.parts.add(Unit::Month, value / 100 % 100, 0.0)?;
            self.parts.add(Unit::Day, value % 100, fraction)?;
            return Ok(if unit.is_none() { Next::End } else { Next::Time });
        }
        if self.have_field {
            return Err(Fail::Syntax);
        }
        self.parts.add(Unit::Year, value, fraction)?;
        match unit {
            None => return Ok(Next::End),
            Some('T') => return Ok(Next::Time),
            _ => {}
        }
        for (unit, last) in [(Unit::Month, false), (Unit::Day, true)] {
            let (value, fraction) = self.number()?;
            self.parts.add(unit, value, fraction)?;
            match self.next_char() {
                None => return Ok(Next::End),
                Some('T') => return Ok(Next::Time),
                Some('-') if !last => {}
                Some(_) => return Err(Fail::Syntax),
            }
        }
        Err(Fail::Syntax)
    }

    fn time_field(&mut self) -> Decoded<Next> {
        let width = Self::digits(self.rest);
        let (value, fraction) = self.number()?;
        let unit = self.next_char();
        let named = match unit {
            Some('H') => Some(Unit::Hour),
            Some('M') => Some(Unit::Minute),
            Some('S') => Some(Unit::Second),
            Some(':') | None => None,
            Some(_) => return Err(Fail::Syntax),
        };
        if let Some(named) = named {
            self.parts.add(named, value, fraction)?;
            return Ok(Next::Go);
        }
        if self.have_field {
            return Err(Fail::Syntax);
        }
        if unit.is_none() && width == 6 {
            self.parts.add(Unit::Hour, value / 10_000, 0.0)?;
            self.parts.add(Unit::Minute, value / 100 % 100, 0.0)?;
            self.parts.add(Unit::Second, value % 100, fraction)?;
            return Ok(Next::End);
        }
        self.parts.add(Unit::Hour, value, fraction)?;
        if unit.is_none() {
            return Ok(Next::End);
        }
        for (unit, last) in [(Unit::Minute, false), (Unit::Second, true)] {
            let (value, fraction) = self.number()?;
            self.parts.add(unit, value, fraction)?;
            match self.next_char() {
                None => return Ok(Next::End),
                Some(':') if !last => {}
                Some(_) => return Err(Fail::Syntax),
            }
        }
        Err(Fail::Syntax)
    }
}
