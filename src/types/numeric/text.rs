//! The text form of `numeric`.

use std::fmt;

use num_bigint::{BigInt, Sign};

use super::{Numeric, Repr, overflow};
use crate::{PgError, Result, SqlState};

fn invalid(text: &str) -> PgError {
    PgError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type numeric: \"{text}\""),
    )
}

impl Numeric {
    /// Reads a literal: sign, digits with at most one point, exponent; or `NaN`, `Infinity`, `inf`
    /// with sign, in any case.
    pub fn parse(text: &str) -> Result<Numeric> {
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        let (negative, body) = match trimmed.as_bytes().first() {
            Some(b'-') => (true, &trimmed[1..]),
            Some(b'+') => (false, &trimmed[1..]),
            _ => (false, trimmed),
        };
        if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return special(trimmed, body, negative).ok_or_else(|| invalid(text));
        }
        let (mantissa, exponent) = match body.find(['e', 'E']) {
            Some(at) => (&body[..at], parse_exponent(&body[at + 1..], text)?),
            None => (body, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) || whole.len() + fraction.len() == 0 {
            return Err(invalid(text));
        }
        let digits = [whole, fraction].concat();
        let scale = i64::try_from(fraction.len()).map_err(|_| overflow())? - exponent;
        build(negative, &digits, scale)
    }
}

fn special(trimmed: &str, body: &str, negative: bool) -> Option<Numeric> {
    if trimmed.eq_ignore_ascii_case("nan") {
        return Some(Numeric::NAN);
    }
    let infinite = body.eq_ignore_ascii_case("infinity") || body.eq_ignore_ascii_case("inf");
    infinite.then_some(if negative { Numeric::NEG_INFINITY } else { Numeric::INFINITY })
}

fn parse_exponent(digits: &str, text: &str) -> Result<i64> {
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid(text));
    }
    let value: i64 = unsigned.parse().map_err(|_| overflow())?;
    if value >= i64::from(i32::MAX / 2) {
        return Err(overflow());
    }
    Ok(if digits.starts_with('-') { -value } else { value })
}

fn build(negative: bool, digits: &str, scale: i64) -> Result<Numeric> {
    let significant = digits.trim_start_matches('0');
    if scale > i64::from(super::MAX_STORED_SCALE) {
        return Err(overflow());
    }
    if significant.is_empty() {
        return Numeric::from_big(BigInt::ZERO, i32::try_from(scale.max(0)).unwrap_or(0));
    }
    let integer_digits = i64::try_from(significant.len()).unwrap_or(i64::MAX) - scale;
    if integer_digits > super::MAX_INTEGER_DIGITS {
        return Err(overflow());
    }
    if significant.len() <= 18 && (0..=18).contains(&scale) {
        let coef: i64 = significant.parse().map_err(|_| overflow())?;
        let scale = u16::try_from(scale).unwrap_or(0);
        return Ok(Numeric::from_parts(if negative { -coef } else { coef }, scale));
    }
    let magnitude = BigInt::parse_bytes(significant.as_bytes(), 10).ok_or_else(overflow)?;
    let coef = if negative { -magnitude } else { magnitude };
    if scale < 0 {
        let shift = u32::try_from(-scale).map_err(|_| overflow())?;
        return Numeric::from_big(coef * super::pow10(shift), 0);
    }
    Numeric::from_big(coef, i32::try_from(scale).map_err(|_| overflow())?)
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::NaN => f.write_str("NaN"),
            Repr::Infinity => f.write_str("Infinity"),
            Repr::NegInfinity => f.write_str("-Infinity"),
            Repr::Small { coef, scale: 0 } => write!(f, "{coef}"),
            Repr::Small { coef, scale } if *scale <= 18 => {
                let unit = 10u64.pow(u32::from(*scale));
                let magnitude = coef.unsigned_abs();
                let sign = if *coef < 0 { "-" } else { "" };
                let width = usize::from(*scale);
                write!(f, "{sign}{}.{:0width$}", magnitude / unit, magnitude % unit)
            }
            Repr::Small { coef, scale } => {
                write_point(f, *coef < 0, &coef.unsigned_abs().to_string(), usize::from(*scale))
            }
            Repr::Big(big) => {
                let digits = big.coef.magnitude().to_string();
                write_point(f, big.coef.sign() == Sign::Minus, &digits, usize::from(big.scale))
            }
        }
    }
}

fn write_point(f: &mut fmt::Formatter<'_>, neg: bool, digits: &str, scale: usize) -> fmt::Result {
    let sign = if neg { "-" } else { "" };
    if scale == 0 {
        return write!(f, "{sign}{digits}");
    }
    if digits.len() <= scale {
        return write!(f, "{sign}0.{digits:0>scale$}");
    }
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    write!(f, "{sign}{whole}.{fraction}")
}
