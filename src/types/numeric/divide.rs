//! Division and what is built on it.
//!
//! PostgreSQL chooses the scale of a quotient so that it has at least 16 significant digits, and
//! estimates its size from the first base-10000 digit of either operand. The estimate shows in
//! results (`1 / 3` has 20 digits), so it is reproduced here from the decimal coefficient.

use num_bigint::BigInt;

use super::round::divide_rounded;
use super::{MAX_RESULT_SCALE, MIN_SIGNIFICANT, Numeric, aligned, decimal_digits, overflow, pow10};
use crate::{PgError, Result, SqlState};

pub(crate) fn division_by_zero() -> PgError {
    PgError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

/// The weight of the first base-10000 digit and that digit; (0, 0) for zero.
pub(crate) fn leading(coef: &BigInt, scale: i32) -> (i32, i64) {
    let (weight, digits) = leading_digits(coef, scale, 1);
    (weight, digits.first().copied().unwrap_or(0))
}

/// The weight of the first base-10000 digit and the first `count` digits, fewer if the number
/// has no more (trailing zero digits are not given).
pub(crate) fn leading_digits(coef: &BigInt, scale: i32, count: u32) -> (i32, Vec<i64>) {
    if *coef == BigInt::ZERO {
        return (0, Vec::new());
    }
    let exponent = i32::try_from(decimal_digits(coef)).unwrap_or(i32::MAX) - 1 - scale;
    let weight = exponent.div_euclid(4);
    // Cut the magnitude behind the wanted digits: unit = 10^(4 * (weight - count + 1)).
    let unit = 4 * (weight - count.cast_signed() + 1) + scale;
    let magnitude = BigInt::from(coef.magnitude().clone());
    let mut head: BigInt = if unit >= 0 {
        magnitude / pow10(unit.unsigned_abs())
    } else {
        magnitude * pow10(unit.unsigned_abs())
    };
    let mut digits = Vec::new();
    for _ in 0..count {
        digits.push(i64::try_from(&(&head % 10_000)).unwrap_or(0));
        head /= 10_000;
    }
    digits.reverse();
    while digits.last() == Some(&0) {
        digits.pop();
    }
    (weight, digits)
}

fn leading_small(coef: i64, scale: u16) -> (i32, i64) {
    let magnitude = coef.unsigned_abs();
    let Some(log) = magnitude.checked_ilog10() else { return (0, 0) };
    let weight = (log.cast_signed() - i32::from(scale)).div_euclid(4);
    let unit = 4 * weight + i32::from(scale);
    let first = if unit >= 0 {
        magnitude / 10u64.checked_pow(unit.unsigned_abs()).unwrap_or(u64::MAX)
    } else {
        magnitude * 10u64.pow(unit.unsigned_abs())
    };
    (weight, i64::try_from(first).unwrap_or(i64::MAX))
}

fn scale_for(a: (i32, i64), sa: i32, b: (i32, i64), sb: i32) -> i32 {
    let mut weight = a.0 - b.0;
    if a.1 <= b.1 {
        weight -= 1;
    }
    (MIN_SIGNIFICANT - weight * 4).max(sa).max(sb).clamp(0, MAX_RESULT_SCALE)
}

/// `a / b` of coefficients with their scales, which may be larger than a [`Numeric`] holds, and the
/// scale that the quotient got.
pub(crate) fn quotient(a: (&BigInt, i32), b: (&BigInt, i32)) -> Result<(Numeric, i32)> {
    let scale = scale_for(leading(a.0, a.1), a.1, leading(b.0, b.1), b.1);
    Ok((quotient_to(a, b, scale)?, scale))
}

fn quotient_to(a: (&BigInt, i32), b: (&BigInt, i32), scale: i32) -> Result<Numeric> {
    let shift = scale - a.1 + b.1;
    let power = pow10(shift.unsigned_abs());
    let q = if shift >= 0 {
        divide_rounded(&(a.0 * power), b.0)
    } else {
        divide_rounded(a.0, &(b.0 * power))
    };
    Numeric::from_big(q, scale)
}

impl Numeric {
    /// The scale that `self / other` gets.
    pub(crate) fn quotient_scale(&self, other: &Numeric) -> i32 {
        match (self.finite(), other.finite()) {
            (Some((a, sa)), Some((b, sb))) => scale_for(leading(&a, sa), sa, leading(&b, sb), sb),
            _ => 0,
        }
    }

    /// `self / other`
    pub fn div(&self, other: &Numeric) -> Result<Numeric> {
        if let (Some((a, sa)), Some((b, sb))) = (self.small(), other.small())
            && b != 0
        {
            let (ia, ib) = (i32::from(sa), i32::from(sb));
            let scale = scale_for(leading_small(a, sa), ia, leading_small(b, sb), ib);
            let shift = scale - ia + ib;
            if let Some(factor) = 10i128.checked_pow(shift.unsigned_abs())
                && let Some(n) = i128::from(a).checked_mul(factor)
            {
                let d = i128::from(b);
                let (q, r) = (n / d, n % d);
                let up = r.unsigned_abs() * 2 >= d.unsigned_abs();
                let away = if (n < 0) == (d < 0) { 1 } else { -1 };
                let q = if up { q + away } else { q };
                return Ok(Numeric::from_i128(q, u16::try_from(scale).unwrap_or(0)));
            }
        }
        self.div_special(other).unwrap_or_else(|| self.div_to(other, self.quotient_scale(other)))
    }

    /// The quotient when an operand is special or the divisor is zero.
    fn div_special(&self, other: &Numeric) -> Option<Result<Numeric>> {
        if self.is_nan() || other.is_nan() {
            return Some(Ok(Numeric::NAN));
        }
        if self.is_infinite() {
            return Some(if other.is_infinite() {
                Ok(Numeric::NAN)
            } else if other.is_zero() {
                Err(division_by_zero())
            } else if self.signum() * other.signum() > 0 {
                Ok(Numeric::INFINITY)
            } else {
                Ok(Numeric::NEG_INFINITY)
            });
        }
        if other.is_infinite() {
            return Some(Ok(Numeric::ZERO));
        }
        other.is_zero().then(|| Err(division_by_zero()))
    }

    /// The quotient of finite values, rounded to a scale.
    pub(crate) fn div_to(&self, other: &Numeric, scale: i32) -> Result<Numeric> {
        let (Some((a, sa)), Some((b, sb))) = (self.finite(), other.finite()) else {
            return Err(overflow());
        };
        if other.is_zero() {
            return Err(division_by_zero());
        }
        quotient_to((&a, sa), (&b, sb), scale)
    }

    /// `div(self, other)`: the integer quotient, truncated.
    pub fn div_trunc(&self, other: &Numeric) -> Result<Numeric> {
        if let Some(special) = self.div_special(other) {
            return special;
        }
        let (Some((a, sa)), Some((b, sb))) = (self.finite(), other.finite()) else {
            return Err(overflow());
        };
        let (a, b, _) = aligned(&a, sa, &b, sb);
        Numeric::from_big(a / b, 0)
    }

    /// `self % other`, with the sign of the dividend.
    pub fn rem(&self, other: &Numeric) -> Result<Numeric> {
        if self.is_nan() || other.is_nan() {
            return Ok(Numeric::NAN);
        }
        if self.is_infinite() {
            return if other.is_zero() { Err(division_by_zero()) } else { Ok(Numeric::NAN) };
        }
        if other.is_infinite() {
            return Ok(self.clone());
        }
        if other.is_zero() {
            return Err(division_by_zero());
        }
        let (Some((a, sa)), Some((b, sb))) = (self.finite(), other.finite()) else {
            return Err(overflow());
        };
        let (a, b, scale) = aligned(&a, sa, &b, sb);
        Numeric::from_big(a % b, scale)
    }

    /// Greatest common divisor, at the larger scale.
    pub fn gcd(&self, other: &Numeric) -> Result<Numeric> {
        let (Some((a, sa)), Some((b, sb))) = (self.finite(), other.finite()) else {
            return Ok(Numeric::NAN);
        };
        let (a, b, scale) = aligned(&a, sa, &b, sb);
        Numeric::from_big(euclid(a, b), scale)
    }

    /// Least common multiple, at the larger scale.
    pub fn lcm(&self, other: &Numeric) -> Result<Numeric> {
        let (Some((a, sa)), Some((b, sb))) = (self.finite(), other.finite()) else {
            return Ok(Numeric::NAN);
        };
        let (a, b, scale) = aligned(&a, sa, &b, sb);
        if a == BigInt::ZERO || b == BigInt::ZERO {
            return Numeric::from_big(BigInt::ZERO, scale);
        }
        let divisor = euclid(a.clone(), b.clone());
        let multiple = a / divisor * b;
        Numeric::from_big(BigInt::from(multiple.magnitude().clone()), scale)
    }

    /// `n!`
    pub fn factorial(n: i64) -> Result<Numeric> {
        if n < 0 {
            return Err(PgError::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "factorial of a negative number is undefined",
            ));
        }
        if n > 32_177 {
            return Err(overflow());
        }
        Numeric::from_big((2..=n).fold(BigInt::from(1), |product, k| product * k), 0)
    }

    /// `width_bucket(self, low, high, count)`
    pub fn width_bucket(&self, low: &Numeric, high: &Numeric, count: i32) -> Result<i32> {
        let fail =
            |m: &str| Err(PgError::new(SqlState::INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION, m));
        if count <= 0 {
            return fail("count must be greater than zero");
        }
        if self.is_nan() || low.is_nan() || high.is_nan() {
            return fail("operand, lower bound, and upper bound cannot be NaN");
        }
        if low.is_infinite() || high.is_infinite() {
            return fail("lower and upper bounds must be finite");
        }
        let ascending = match low.compare(high) {
            std::cmp::Ordering::Equal => return fail("lower bound cannot equal upper bound"),
            order => order.is_lt(),
        };
        let beyond = |bound: &Numeric| match self.compare(bound) {
            std::cmp::Ordering::Equal => 0,
            order if order.is_gt() == ascending => 1,
            _ => -1,
        };
        if beyond(low) < 0 {
            return Ok(0);
        }
        if beyond(high) >= 0 {
            return count.checked_add(1).ok_or_else(|| {
                PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "integer out of range")
            });
        }
        let part = self.sub(low)?.mul(&Numeric::from(i64::from(count)))?;
        let bucket = part.div_trunc(&high.sub(low)?)?.to_i64().unwrap_or(0) + 1;
        Ok(i32::try_from(bucket).unwrap_or(count))
    }
}

fn euclid(a: BigInt, b: BigInt) -> BigInt {
    let (mut a, mut b) = (a, b);
    while b != BigInt::ZERO {
        let r = &a % &b;
        a = b;
        b = r;
    }
    BigInt::from(a.magnitude().clone())
}
