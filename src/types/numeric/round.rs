//! Rounding: to a scale, to a type modifier, to an integer.

use num_bigint::{BigInt, Sign};

use super::{Numeric, Repr, decimal_digits, overflow, pow10};
use crate::builtin::numeric_typmod;
use crate::{PgError, Result, SqlState};

/// Divides, rounding half away from zero.
pub(crate) fn divide_rounded(n: &BigInt, d: &BigInt) -> BigInt {
    let quotient = n / d;
    let remainder = n - &quotient * d;
    if (remainder.magnitude() << 1u32) >= *d.magnitude() {
        if (n.sign() == Sign::Minus) != (d.sign() == Sign::Minus) {
            quotient - 1
        } else {
            quotient + 1
        }
    } else {
        quotient
    }
}

/// Changes the scale of a coefficient, rounding half away from zero. The target may be negative.
pub(crate) fn rescale(coef: BigInt, from: i32, to: i32) -> BigInt {
    match to - from {
        0 => coef,
        up if up > 0 => coef * pow10(up.unsigned_abs()),
        down if i64::from(down.unsigned_abs()) > decimal_digits(&coef) => BigInt::ZERO,
        down => divide_rounded(&coef, &pow10(down.unsigned_abs())),
    }
}

fn truncate(coef: BigInt, from: i32, to: i32) -> BigInt {
    match to - from {
        up if up >= 0 => coef * pow10(up.unsigned_abs()),
        down if i64::from(down.unsigned_abs()) > decimal_digits(&coef) => BigInt::ZERO,
        down => coef / pow10(down.unsigned_abs()),
    }
}

impl Numeric {
    /// `round(self, scale)`: half away from zero; a negative scale rounds left of the point.
    pub fn round(&self, scale: i32) -> Result<Numeric> {
        self.with_scale(scale, rescale)
    }

    /// `trunc(self, scale)`
    pub fn trunc(&self, scale: i32) -> Result<Numeric> {
        self.with_scale(scale, truncate)
    }

    fn with_scale(&self, scale: i32, change: fn(BigInt, i32, i32) -> BigInt) -> Result<Numeric> {
        if i32::from(self.scale()) == scale && self.is_finite() {
            return Ok(self.clone());
        }
        let Some((coef, from)) = self.finite() else { return Ok(self.clone()) };
        let changed = change(coef.into_owned(), from, scale);
        if scale < 0 {
            return Numeric::from_big(changed * pow10(scale.unsigned_abs()), 0);
        }
        Numeric::from_big(changed, scale)
    }

    /// The smallest integer that is not smaller.
    pub fn ceil(&self) -> Result<Numeric> {
        let whole = self.trunc(0)?;
        if self.signum() > 0 && whole.compare(self).is_lt() {
            return whole.add(&Numeric::ONE);
        }
        Ok(whole)
    }

    /// The greatest integer that is not greater.
    pub fn floor(&self) -> Result<Numeric> {
        let whole = self.trunc(0)?;
        if self.signum() < 0 && whole.compare(self).is_gt() {
            return whole.sub(&Numeric::ONE);
        }
        Ok(whole)
    }

    /// The number of digits after the point that are needed.
    pub fn min_scale(&self) -> u16 {
        match self.finite() {
            None => 0,
            Some(_) if self.is_zero() => 0,
            Some((coef, scale)) => {
                let mut coef = coef.into_owned();
                let mut scale = scale;
                while scale > 0 && (&coef % 10u8) == BigInt::ZERO {
                    coef /= 10u8;
                    scale -= 1;
                }
                u16::try_from(scale).unwrap_or(0)
            }
        }
    }

    /// Without trailing zeros after the point.
    #[must_use]
    pub fn trim_scale(&self) -> Numeric {
        self.trunc(i32::from(self.min_scale())).unwrap_or_else(|_| self.clone())
    }

    /// Applies `numeric(precision, scale)`.
    pub fn apply_typmod(self, typmod: i32) -> Result<Numeric> {
        if typmod < 4 || self.is_nan() {
            return Ok(self);
        }
        let (precision, scale) = numeric_typmod(typmod);
        if self.is_infinite() {
            return Err(field_overflow().detail(format!(
                "A field with precision {precision}, scale {scale} cannot hold an infinite value."
            )));
        }
        let digits = precision - scale;
        if let Repr::Small { coef, scale: has } = self.0
            && i32::from(has) == scale
            && (0..=18).contains(&digits)
            && (coef.unsigned_abs().checked_ilog10().map_or(0, |d| d + 1).cast_signed())
                <= precision
        {
            return Ok(self);
        }
        let rounded = self.round(scale)?;
        if let Some((coef, scale)) = rounded.finite()
            && !rounded.is_zero()
            && decimal_digits(&coef) - i64::from(scale) > i64::from(digits)
        {
            let limit = if digits != 0 { format!("10^{digits}") } else { "1".to_owned() };
            let (_, declared) = numeric_typmod(typmod);
            return Err(field_overflow().detail(format!(
                "A field with precision {precision}, scale {declared} must round to an absolute \
                 value less than {limit}."
            )));
        }
        Ok(rounded)
    }

    /// Rounded to an integer, if that fits; `None` for the special values as well.
    pub fn to_i64(&self) -> Option<i64> {
        if let Some((coef, 0)) = self.small() {
            return Some(coef);
        }
        let (coef, scale) = self.finite()?;
        i64::try_from(&rescale(coef.into_owned(), scale, 0)).ok()
    }

    /// Rounded to an integer of any size.
    pub(crate) fn to_integer(&self) -> Result<BigInt> {
        let (coef, scale) = self.finite().ok_or_else(overflow)?;
        Ok(rescale(coef.into_owned(), scale, 0))
    }
}

fn field_overflow() -> PgError {
    PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow")
}
