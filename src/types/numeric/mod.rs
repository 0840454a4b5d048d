//! `numeric`: arbitrary precision decimals with PostgreSQL's scales.
//!
//! A finite value is `coefficient × 10^−scale`, and the scale is exactly the number of digits that
//! PostgreSQL would print after the point (its `dscale`): `1.50` is 150 at scale 2. Addition takes
//! the larger scale, multiplication adds them, and only division and the transcendental functions
//! have to choose one ([`divide`], [`transcendental`]).
//!
//! A coefficient that fits an `i64` is kept inline and computed with in `i128`; everything else is
//! a shared big integer. The form is canonical (never big when small would do), so that derived
//! equality is equality of value *and* scale; [`Numeric::compare`] is SQL's.

mod codec;
mod convert;
mod divide;
mod round;
mod text;
mod transcendental;

pub(crate) use divide::quotient;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use num_bigint::{BigInt, Sign};

use crate::{PgError, Result, SqlState};

/// Greatest display scale that a stored value can have.
pub(crate) const MAX_STORED_SCALE: i32 = 0x3fff;
/// Greatest scale that a computation chooses.
pub(crate) const MAX_RESULT_SCALE: i32 = 1000;
/// Significant digits that inexact results have at least.
pub(crate) const MIN_SIGNIFICANT: i32 = 16;
/// Decimal digits before the point that fit the storage format.
const MAX_INTEGER_DIGITS: i64 = 131_072;

/// A `numeric` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numeric(Repr);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Repr {
    NegInfinity,
    Small { coef: i64, scale: u16 },
    Big(Arc<Big>),
    Infinity,
    NaN,
}

#[derive(Debug, PartialEq, Eq)]
struct Big {
    coef: BigInt,
    scale: u16,
}

pub(crate) fn overflow() -> PgError {
    PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

/// `10^n`
pub(crate) fn pow10(n: u32) -> BigInt {
    match 10u128.checked_pow(n) {
        Some(small) => BigInt::from(small),
        None => BigInt::from(10u8).pow(n),
    }
}

/// Number of decimal digits of a big integer; 1 for zero.
pub(crate) fn decimal_digits(v: &BigInt) -> i64 {
    let bits = v.bits();
    if bits <= 127 {
        let small: i128 = v.try_into().unwrap_or(0);
        return small.unsigned_abs().checked_ilog10().map_or(1, |d| i64::from(d) + 1);
    }
    // log10(2^bits) is off by at most one; settle it against the power of ten.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let estimate = ((bits - 1) as f64 * std::f64::consts::LOG10_2) as u32;
    if v.magnitude() >= pow10(estimate + 1).magnitude() {
        i64::from(estimate) + 2
    } else if v.magnitude() >= pow10(estimate).magnitude() {
        i64::from(estimate) + 1
    } else {
        i64::from(estimate)
    }
}

impl Numeric {
    /// Not a number: equal to itself, greater than everything.
    pub const NAN: Numeric = Numeric(Repr::NaN);
    /// ∞
    pub const INFINITY: Numeric = Numeric(Repr::Infinity);
    /// −∞
    pub const NEG_INFINITY: Numeric = Numeric(Repr::NegInfinity);
    /// 0
    pub const ZERO: Numeric = Numeric(Repr::Small { coef: 0, scale: 0 });
    /// 1
    pub const ONE: Numeric = Numeric(Repr::Small { coef: 1, scale: 0 });

    /// `coef × 10^−scale`
    pub const fn from_parts(coef: i64, scale: u16) -> Numeric {
        Numeric(Repr::Small { coef, scale })
    }

    pub(crate) fn from_i128(coef: i128, scale: u16) -> Numeric {
        match i64::try_from(coef) {
            Ok(coef) => Numeric(Repr::Small { coef, scale }),
            Err(_) => Numeric(Repr::Big(Arc::new(Big { coef: BigInt::from(coef), scale }))),
        }
    }

    /// The value of a big coefficient; fails when it exceeds the storage format.
    pub(crate) fn from_big(coef: BigInt, scale: i32) -> Result<Numeric> {
        if !(0..=MAX_STORED_SCALE).contains(&scale) {
            return Err(overflow());
        }
        let scale = u16::try_from(scale).map_err(|_| overflow())?;
        if let Ok(coef) = i64::try_from(&coef) {
            return Ok(Numeric(Repr::Small { coef, scale }));
        }
        let bits = i64::try_from(coef.bits()).unwrap_or(i64::MAX);
        if bits > 400_000 && decimal_digits(&coef) - i64::from(scale) > MAX_INTEGER_DIGITS {
            return Err(overflow());
        }
        Ok(Numeric(Repr::Big(Arc::new(Big { coef, scale }))))
    }

    /// Coefficient and scale of a finite value.
    pub(crate) fn finite(&self) -> Option<(Cow<'_, BigInt>, i32)> {
        match &self.0 {
            Repr::Small { coef, scale } => {
                Some((Cow::Owned(BigInt::from(*coef)), i32::from(*scale)))
            }
            Repr::Big(big) => Some((Cow::Borrowed(&big.coef), i32::from(big.scale))),
            _ => None,
        }
    }

    /// Coefficient and scale, when the coefficient is small.
    pub(crate) fn small(&self) -> Option<(i64, u16)> {
        match self.0 {
            Repr::Small { coef, scale } => Some((coef, scale)),
            _ => None,
        }
    }

    /// Digits after the point; 0 for the special values.
    pub fn scale(&self) -> u16 {
        match &self.0 {
            Repr::Small { scale, .. } => *scale,
            Repr::Big(big) => big.scale,
            _ => 0,
        }
    }

    /// True for `NaN`.
    pub fn is_nan(&self) -> bool {
        self.0 == Repr::NaN
    }

    /// True for ±∞.
    pub fn is_infinite(&self) -> bool {
        matches!(self.0, Repr::Infinity | Repr::NegInfinity)
    }

    /// True for everything but `NaN` and ±∞.
    pub fn is_finite(&self) -> bool {
        matches!(self.0, Repr::Small { .. } | Repr::Big(_))
    }

    /// −1, 0 or 1; 1 for `NaN`.
    pub fn signum(&self) -> i32 {
        match &self.0 {
            Repr::Small { coef, .. } => i32::try_from(coef.signum()).unwrap_or(0),
            Repr::Big(big) if big.coef.sign() == Sign::Minus => -1,
            Repr::NegInfinity => -1,
            _ => 1,
        }
    }

    /// True for zero of any scale.
    pub fn is_zero(&self) -> bool {
        matches!(self.0, Repr::Small { coef: 0, .. })
    }

    /// SQL's order: −∞ < finite values < ∞ < `NaN`.
    pub fn compare(&self, other: &Numeric) -> Ordering {
        if let (Some((a, sa)), Some((b, sb))) = (self.small(), other.small()) {
            if sa == sb {
                return a.cmp(&b);
            }
            let (a, b) = (i128::from(a), i128::from(b));
            let factor = |by: u16| 10i128.checked_pow(u32::from(by)).filter(|_| by <= 18);
            if sa < sb
                && let Some(f) = factor(sb - sa)
            {
                return (a * f).cmp(&b);
            }
            if sb < sa
                && let Some(f) = factor(sa - sb)
            {
                return a.cmp(&(b * f));
            }
        }
        match (self.finite(), other.finite()) {
            (Some((a, sa)), Some((b, sb))) => compare_big(&a, sa, &b, sb),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self.0 {
            Repr::NegInfinity => 0,
            Repr::Small { .. } | Repr::Big(_) => 1,
            Repr::Infinity => 2,
            Repr::NaN => 3,
        }
    }

    /// `-self`
    #[must_use]
    pub fn neg(&self) -> Numeric {
        match &self.0 {
            Repr::Small { coef, scale } => Numeric::from_i128(-i128::from(*coef), *scale),
            Repr::Big(big) => {
                let coef = -big.coef.clone();
                match i64::try_from(&coef) {
                    Ok(coef) => Numeric::from_parts(coef, big.scale),
                    Err(_) => Numeric(Repr::Big(Arc::new(Big { coef, scale: big.scale }))),
                }
            }
            Repr::Infinity => Numeric::NEG_INFINITY,
            Repr::NegInfinity => Numeric::INFINITY,
            Repr::NaN => Numeric::NAN,
        }
    }

    /// `|self|`
    #[must_use]
    pub fn abs(&self) -> Numeric {
        if self.signum() < 0 { self.neg() } else { self.clone() }
    }

    /// `self + other`
    pub fn add(&self, other: &Numeric) -> Result<Numeric> {
        if let (Some((a, sa)), Some((b, sb))) = (self.small(), other.small()) {
            let (a, b) = (i128::from(a), i128::from(b));
            if sa == sb {
                return Ok(Numeric::from_i128(a + b, sa));
            }
            if sa.abs_diff(sb) <= 18 {
                let factor = 10i128.pow(u32::from(sa.abs_diff(sb)));
                let sum = if sa < sb { a * factor + b } else { a + b * factor };
                return Ok(Numeric::from_i128(sum, sa.max(sb)));
            }
        }
        match (self.finite(), other.finite()) {
            (Some((a, sa)), Some((b, sb))) => {
                let (a, b, scale) = aligned(&a, sa, &b, sb);
                Numeric::from_big(a + b, scale)
            }
            (Some(_), None) => Ok(other.clone()),
            (None, Some(_)) => Ok(self.clone()),
            (None, None) if self == other => Ok(self.clone()),
            (None, None) => Ok(Numeric::NAN),
        }
    }

    /// `self - other`
    pub fn sub(&self, other: &Numeric) -> Result<Numeric> {
        self.add(&other.neg())
    }

    /// `self * other`
    pub fn mul(&self, other: &Numeric) -> Result<Numeric> {
        if let (Some((a, sa)), Some((b, sb))) = (self.small(), other.small())
            && i32::from(sa) + i32::from(sb) <= MAX_STORED_SCALE
        {
            return Ok(Numeric::from_i128(i128::from(a) * i128::from(b), sa + sb));
        }
        match (self.finite(), other.finite()) {
            (Some((a, sa)), Some((b, sb))) => {
                let scale = sa + sb;
                let product = a.as_ref() * b.as_ref();
                let kept = scale.min(MAX_STORED_SCALE);
                Numeric::from_big(round::rescale(product, scale, kept), kept)
            }
            _ if self.is_nan() || other.is_nan() || self.is_zero() || other.is_zero() => {
                Ok(Numeric::NAN)
            }
            _ if self.signum() * other.signum() > 0 => Ok(Numeric::INFINITY),
            _ => Ok(Numeric::NEG_INFINITY),
        }
    }

    /// Approximate heap bytes.
    pub fn heap_size(&self) -> usize {
        match &self.0 {
            Repr::Big(big) => usize::try_from(big.coef.bits() / 8).unwrap_or(0) + 48,
            _ => 0,
        }
    }
}

/// Both coefficients at the larger scale.
pub(crate) fn aligned(a: &BigInt, sa: i32, b: &BigInt, sb: i32) -> (BigInt, BigInt, i32) {
    let scale = sa.max(sb);
    (a * pow10(sa.abs_diff(scale)), b * pow10(sb.abs_diff(scale)), scale)
}

fn compare_big(a: &BigInt, sa: i32, b: &BigInt, sb: i32) -> Ordering {
    if a.sign() != b.sign() || a.sign() == Sign::NoSign {
        return a.sign().cmp(&b.sign());
    }
    let (a, b, _) = aligned(a, sa, b, sb);
    a.cmp(&b)
}

#[cfg(test)]
mod tests;
