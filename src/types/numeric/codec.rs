//! Bytes of `numeric`: the wire format, our compact storage form, and the order-preserving key.
//!
//! The key drops the display scale: `1.0` and `1.00` have the same one. After a class byte
//! (`04` −∞, `08` negative, `0C` zero, `10` positive, `14` ∞, `18` NaN) come the exponent in base
//! 100 and the mantissa in base-100 digits, each `2d + 1`, the last `2d`, so that a longer mantissa
//! sorts after its prefix. For negative values everything behind the class byte is complemented.

use num_bigint::{BigInt, Sign};

use super::{Numeric, Repr, decimal_digits, pow10};
use crate::{PgError, Result, SqlState};

const WIRE_NEGATIVE: u16 = 0x4000;
const WIRE_NAN: u16 = 0xc000;
const WIRE_INFINITY: u16 = 0xd000;
const WIRE_NEG_INFINITY: u16 = 0xf000;
/// Added to the key's exponent to make it non-negative; three bytes hold the result.
const EXPONENT_BIAS: i64 = 1 << 23;

fn malformed() -> PgError {
    PgError::new(
        SqlState::INVALID_BINARY_REPRESENTATION,
        "invalid value in external \"numeric\" value",
    )
}

impl Numeric {
    /// Writes PostgreSQL's binary format.
    pub fn write_wire(&self, out: &mut Vec<u8>) {
        let header = |out: &mut Vec<u8>, n: u16, weight: i16, sign: u16, scale: u16| {
            out.extend_from_slice(&n.to_be_bytes());
            out.extend_from_slice(&weight.to_be_bytes());
            out.extend_from_slice(&sign.to_be_bytes());
            out.extend_from_slice(&scale.to_be_bytes());
        };
        let Some((coef, scale)) = self.finite() else {
            // PostgreSQL reads a scale out of an infinity's bits, and sends it.
            let (sign, scale) = match self.0 {
                Repr::NaN => (WIRE_NAN, 0),
                Repr::Infinity => (WIRE_INFINITY, 32),
                _ => (WIRE_NEG_INFINITY, 32),
            };
            return header(out, 0, 0, sign, scale);
        };
        let shown = self.scale();
        // Pad so that the point falls between base-10000 digits.
        let pad = (4 - scale % 4) % 4;
        let digits = BigInt::from(coef.magnitude().clone()) * pow10(pad.unsigned_abs());
        let text = digits.magnitude().to_string();
        let text = "0".repeat((4 - text.len() % 4) % 4) + &text;
        let mut groups: Vec<i16> = text
            .as_bytes()
            .chunks(4)
            .map(|c| c.iter().fold(0, |n, b| n * 10 + i16::from(b - b'0')))
            .collect();
        let fraction_groups = (scale + pad) / 4;
        let weight = i32::try_from(groups.len()).unwrap_or(0) - fraction_groups - 1;
        let leading = groups.iter().take_while(|&&g| g == 0).count();
        groups.drain(..leading);
        while groups.last() == Some(&0) {
            groups.pop();
        }
        let weight =
            if groups.is_empty() { 0 } else { weight - i32::try_from(leading).unwrap_or(0) };
        let sign = if coef.sign() == Sign::Minus { WIRE_NEGATIVE } else { 0 };
        let count = u16::try_from(groups.len()).unwrap_or(u16::MAX);
        header(out, count, i16::try_from(weight).unwrap_or(i16::MAX), sign, shown);
        for g in groups {
            out.extend_from_slice(&g.to_be_bytes());
        }
    }

    /// Reads PostgreSQL's binary format.
    pub fn read_wire(bytes: &[u8]) -> Result<Numeric> {
        let short =
            || PgError::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message");
        let word = |i: usize| -> Result<u16> {
            let b = bytes.get(2 * i..2 * i + 2).ok_or_else(short)?;
            Ok(u16::from_be_bytes([b[0], b[1]]))
        };
        let (count, weight) = (usize::from(word(0)?), i32::from(word(1)?.cast_signed()));
        let (sign, scale) = (word(2)?, i32::from(word(3)?));
        let negative = match sign {
            0 => false,
            WIRE_NEGATIVE => true,
            WIRE_NAN => return Ok(Numeric::NAN),
            WIRE_INFINITY => return Ok(Numeric::INFINITY),
            WIRE_NEG_INFINITY => return Ok(Numeric::NEG_INFINITY),
            _ => {
                return Err(PgError::new(
                    SqlState::INVALID_BINARY_REPRESENTATION,
                    "invalid sign in external \"numeric\" value",
                ));
            }
        };
        if scale > super::MAX_STORED_SCALE {
            return Err(PgError::new(
                SqlState::INVALID_BINARY_REPRESENTATION,
                "invalid scale in external \"numeric\" value",
            ));
        }
        let mut coef = BigInt::ZERO;
        for i in 0..count {
            let digit = word(4 + i)?;
            if digit >= 10_000 {
                return Err(PgError::new(
                    SqlState::INVALID_BINARY_REPRESENTATION,
                    "invalid digit in external \"numeric\" value",
                ));
            }
            coef = coef * 10_000u32 + digit;
        }
        // The coefficient's unit is 10000^(weight - count + 1); digits beyond the scale are cut.
        let unit = 4 * (weight + 1 - i32::try_from(count).map_err(|_| malformed())?);
        let shift = unit + scale;
        let coef = if shift >= 0 {
            coef * pow10(shift.unsigned_abs())
        } else {
            coef / pow10(shift.unsigned_abs())
        };
        Numeric::from_big(if negative { -coef } else { coef }, scale)
    }

    /// Writes the compact storage form, which [`Numeric::decode`] reads back exactly.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Repr::NaN => out.push(0),
            Repr::Infinity => out.push(1),
            Repr::NegInfinity => out.push(2),
            Repr::Small { coef, scale } => {
                out.push(3);
                out.extend_from_slice(&scale.to_le_bytes());
                let bytes = coef.to_le_bytes();
                let keep = (1..=8).find(|&n| sign_extend(&bytes[..n]) == *coef).unwrap_or(8);
                out.extend_from_slice(&bytes[..keep]);
            }
            Repr::Big(big) => {
                out.push(4);
                out.extend_from_slice(&big.scale.to_le_bytes());
                out.extend_from_slice(&big.coef.to_signed_bytes_le());
            }
        }
    }

    /// Reads what [`Numeric::encode`] wrote; the slice must end where the value does.
    pub fn decode(bytes: &[u8]) -> Result<Numeric> {
        match bytes {
            [0] => Ok(Numeric::NAN),
            [1] => Ok(Numeric::INFINITY),
            [2] => Ok(Numeric::NEG_INFINITY),
            [3, a, b, rest @ ..] if rest.len() <= 8 => {
                Ok(Numeric::from_parts(sign_extend(rest), u16::from_le_bytes([*a, *b])))
            }
            [4, a, b, rest @ ..] => {
                let scale = i32::from(u16::from_le_bytes([*a, *b]));
                Numeric::from_big(BigInt::from_signed_bytes_le(rest), scale)
            }
            _ => Err(PgError::new(SqlState::DATA_CORRUPTED, "stored numeric is malformed")),
        }
    }

    /// Appends the order-preserving key.
    pub fn write_key(&self, out: &mut Vec<u8>) {
        let Some((coef, scale)) = self.finite() else {
            return out.push(match self.0 {
                Repr::NegInfinity => 0x04,
                Repr::Infinity => 0x14,
                _ => 0x18,
            });
        };
        if self.is_zero() {
            return out.push(0x0c);
        }
        let negative = coef.sign() == Sign::Minus;
        out.push(if negative { 0x08 } else { 0x10 });
        let start = out.len();
        let digits = coef.magnitude().to_string();
        let exponent = i64::try_from(digits.len()).unwrap_or(0) - i64::from(scale);
        // 0.d1d2… × 100^e with d1 in 01…99
        let e = exponent.div_euclid(2) + exponent.rem_euclid(2);
        let padded = if exponent.rem_euclid(2) == 1 { format!("0{digits}") } else { digits };
        let padded = padded.trim_end_matches('0');
        let biased = u32::try_from(e + EXPONENT_BIAS).unwrap_or(0).to_be_bytes();
        out.extend_from_slice(&biased[1..]);
        let pairs = padded.as_bytes().chunks(2);
        let last = pairs.len() - 1;
        for (i, pair) in pairs.enumerate() {
            let high = pair[0] - b'0';
            let low = pair.get(1).map_or(0, |b| b - b'0');
            out.push((high * 10 + low) * 2 + u8::from(i != last));
        }
        if negative {
            out[start..].iter_mut().for_each(|b| *b = !*b);
        }
    }

    /// Reads a key, answering the value with its least scale and the bytes read.
    pub fn read_key(bytes: &[u8]) -> Option<(Numeric, usize)> {
        let mut used = 0;
        let value = Numeric::take_key(|| {
            let byte = bytes.get(used).copied();
            used += 1;
            byte
        })?;
        Some((value, used))
    }

    /// Reads a key byte by byte, taking no more than the value has.
    pub fn take_key(mut next: impl FnMut() -> Option<u8>) -> Option<Numeric> {
        let negative = match next()? {
            0x04 => return Some(Numeric::NEG_INFINITY),
            0x0c => return Some(Numeric::ZERO),
            0x14 => return Some(Numeric::INFINITY),
            0x18 => return Some(Numeric::NAN),
            0x08 => true,
            0x10 => false,
            _ => return None,
        };
        let mut digit = || next().map(|b| if negative { !b } else { b });
        let mut e = 0i64;
        for _ in 0..3 {
            e = e << 8 | i64::from(digit()?);
        }
        let mut coef = BigInt::ZERO;
        let mut pairs = 0i64;
        loop {
            let b = digit()?;
            coef = coef * 100u32 + u32::from(b / 2);
            pairs += 1;
            if b & 1 == 0 {
                let coef = if negative { -coef } else { coef };
                return from_exponent(coef, 2 * (pairs - (e - EXPONENT_BIAS)));
            }
        }
    }
}

fn from_exponent(coef: BigInt, scale: i64) -> Option<Numeric> {
    if scale <= 0 {
        let up = u32::try_from(-scale).ok()?;
        return Numeric::from_big(coef * pow10(up), 0).ok();
    }
    let odd = (&coef % 10u8) == BigInt::ZERO && decimal_digits(&coef) > 1;
    let (coef, scale) = if odd { (coef / 10u8, scale - 1) } else { (coef, scale) };
    Numeric::from_big(coef, i32::try_from(scale).ok()?).ok()
}

fn sign_extend(bytes: &[u8]) -> i64 {
    let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
    let mut full = [fill; 8];
    full[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(full)
}
