//! `sqrt`, `exp`, `ln`, `log` and `power`.
//!
//! The result scales are PostgreSQL's estimates (at least 16 significant digits, never fewer than
//! an operand has). The digits are computed in fixed point with guard digits and rounded once.

use std::f64::consts::{LN_10, LOG10_E};

use num_bigint::BigInt;

use super::divide::{division_by_zero, leading_digits};
use super::round::{divide_rounded, rescale};
use super::{MAX_RESULT_SCALE, MIN_SIGNIFICANT, Numeric, decimal_digits, overflow, pow10};
use crate::{PgError, Result, SqlState};

/// Beyond this exponent `exp` overflows or vanishes.
const MAX_EXPONENT: f64 = 6000.0;

fn power_error(message: &str) -> PgError {
    PgError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message)
}

fn log_error(message: &str) -> PgError {
    PgError::new(SqlState::INVALID_ARGUMENT_FOR_LOG, message)
}

/// Truncation of an estimate, as the casts of C do.
fn whole(v: f64) -> i32 {
    v.clamp(-2e9, 2e9) as i32
}

/// `exp` of a fixed-point number, at the same number of digits plus what the caller gave as guard.
fn exp_fixed(x: &BigInt, digits: u32) -> BigInt {
    let one = pow10(digits);
    let mut halvings = 0u32;
    let mut r = x.clone();
    while r.magnitude() * 256u32 > *one.magnitude() {
        r >>= 1;
        halvings += 1;
    }
    let (mut sum, mut term) = (&one + &r, r.clone());
    let mut n = 2;
    while term != BigInt::ZERO {
        term = term * &r / &one / n;
        sum += &term;
        n += 1;
    }
    for _ in 0..halvings {
        sum = &sum * &sum / &one;
    }
    sum
}

/// `ln` of a positive fixed-point number in (0.05, 20).
fn ln_fixed(x: &BigInt, digits: u32) -> BigInt {
    let one = pow10(digits);
    let mut x = x.clone();
    let mut roots = 0u32;
    while (&x - &one).magnitude() * 32u32 > *one.magnitude() {
        x = (x * &one).sqrt();
        roots += 1;
    }
    let z = (&x - &one) * &one / (&x + &one);
    let square = &z * &z / &one;
    let (mut sum, mut power, mut n) = (z.clone(), z, 3);
    while power != BigInt::ZERO {
        power = power * &square / &one;
        sum += &power / n;
        n += 2;
    }
    sum << (roots + 1)
}

/// `ln` of a positive coefficient to a scale (with a few more correct digits behind it).
fn ln_scaled(coef: &BigInt, scale: i32, digits: u32) -> BigInt {
    let exponent = decimal_digits(coef) - i64::from(scale);
    let guard = digits + 12;
    let near_one = (0..=1).contains(&exponent);
    // Bring the argument to 0.1 … 1 unless it is near one, where that would cost digits.
    let shift = if near_one { 0 } else { exponent };
    let up = i64::from(guard) - i64::from(scale) - shift;
    let power = pow10(u32::try_from(up.unsigned_abs()).unwrap_or(0));
    let x = if up >= 0 { coef * power } else { divide_rounded(coef, &power) };
    let mut result = ln_fixed(&x, guard);
    if shift != 0 {
        result += ln_fixed(&(pow10(guard) * 10), guard) * shift;
    }
    rescale(result, guard.cast_signed(), digits.cast_signed())
}

impl Numeric {
    fn approximate(&self) -> f64 {
        self.to_f64_lossy()
    }

    /// Square root.
    pub fn sqrt(&self) -> Result<Numeric> {
        if self.signum() < 0 {
            return Err(power_error("cannot take square root of a negative number"));
        }
        let Some((coef, scale)) = self.finite() else { return Ok(self.clone()) };
        let (weight, _) = leading_digits(&coef, scale, 1);
        let root_weight = (weight + 1) * 4 / 2 - 1;
        let result = (MIN_SIGNIFICANT - root_weight).max(scale).clamp(0, MAX_RESULT_SCALE);
        self.sqrt_to(result)
    }

    /// Square root of a non-negative finite value, rounded to a scale.
    pub(crate) fn sqrt_to(&self, result: i32) -> Result<Numeric> {
        let Some((coef, scale)) = self.finite() else { return Ok(self.clone()) };
        let shift = 2 * (result + 1) - scale;
        let radicand = if shift >= 0 {
            coef.as_ref() * pow10(shift.unsigned_abs())
        } else {
            coef.as_ref() / pow10(shift.unsigned_abs())
        };
        Numeric::from_big(rescale(radicand.sqrt(), result + 1, result), result)
    }

    /// `e^self`
    pub fn exp(&self) -> Result<Numeric> {
        if !self.is_finite() {
            let vanishes = *self == Numeric::NEG_INFINITY;
            return Ok(if vanishes { Numeric::ZERO } else { self.clone() });
        }
        let decimal = (self.approximate() * LOG10_E).clamp(-2000.0, 2000.0);
        let scale = (MIN_SIGNIFICANT - whole(decimal))
            .max(i32::from(self.scale()))
            .clamp(0, MAX_RESULT_SCALE);
        self.exp_to(scale)
    }

    fn exp_to(&self, result: i32) -> Result<Numeric> {
        let approximate = self.approximate();
        if approximate.abs() >= MAX_EXPONENT {
            if approximate > 0.0 {
                return Err(overflow());
            }
            return Numeric::from_big(BigInt::ZERO, result);
        }
        let Some((coef, scale)) = self.finite() else { return Err(overflow()) };
        let integer_digits = whole(approximate * LOG10_E).max(0);
        let digits = result + integer_digits + 24;
        let x = rescale(coef.into_owned(), scale, digits);
        let value = exp_fixed(&x, digits.unsigned_abs());
        Numeric::from_big(rescale(value, digits, result), result)
    }

    /// PostgreSQL's estimate of the decimal weight of `ln(self)`.
    fn ln_weight(&self) -> i32 {
        let Some((coef, scale)) = self.finite() else { return 0 };
        if self.signum() <= 0 {
            return 0;
        }
        let near = |coef: i64| Numeric::from_parts(coef, 1);
        if self.compare(&near(9)).is_ge() && self.compare(&near(11)).is_le() {
            let distance = coef.as_ref() - pow10(scale.unsigned_abs());
            let (weight, digits) = leading_digits(&distance, scale, 1);
            return match digits.first() {
                #[expect(clippy::cast_precision_loss, reason = "below 10000")]
                Some(&d) => weight * 4 + whole((d as f64).log10()),
                None => 0,
            };
        }
        let (weight, digits) = leading_digits(&coef, scale, 2);
        let (mut head, mut exponent) = (digits.first().copied().unwrap_or(0), weight * 4);
        if let Some(second) = digits.get(1) {
            head = head * 10_000 + second;
            exponent -= 4;
        }
        #[expect(clippy::cast_precision_loss, reason = "below 10^8")]
        let ln = (head as f64).ln() + f64::from(exponent) * LN_10;
        whole(ln.abs().log10())
    }

    fn check_logarithm(&self) -> Result<()> {
        if self.signum() < 0 {
            return Err(log_error("cannot take logarithm of a negative number"));
        }
        if self.is_zero() {
            return Err(log_error("cannot take logarithm of zero"));
        }
        Ok(())
    }

    /// Natural logarithm.
    pub fn ln(&self) -> Result<Numeric> {
        if self.is_nan() {
            return Ok(Numeric::NAN);
        }
        self.check_logarithm()?;
        if self.is_infinite() {
            return Ok(Numeric::INFINITY);
        }
        let scale = (MIN_SIGNIFICANT - self.ln_weight())
            .max(i32::from(self.scale()))
            .clamp(0, MAX_RESULT_SCALE);
        self.ln_to(scale)
    }

    fn ln_to(&self, result: i32) -> Result<Numeric> {
        let Some((coef, scale)) = self.finite() else { return Err(overflow()) };
        let digits = result + 6;
        let value = ln_scaled(&coef, scale, digits.unsigned_abs());
        Numeric::from_big(rescale(value, digits, result), result)
    }

    /// Logarithm of `self` to a base.
    pub fn log(&self, base: &Numeric) -> Result<Numeric> {
        if self.is_nan() || base.is_nan() {
            return Ok(Numeric::NAN);
        }
        base.check_logarithm()?;
        self.check_logarithm()?;
        match (base.is_infinite(), self.is_infinite()) {
            (true, true) => return Ok(Numeric::NAN),
            (true, false) => return Ok(Numeric::ZERO),
            (false, true) => return Ok(Numeric::INFINITY),
            (false, false) => {}
        }
        let (wb, wn) = (base.ln_weight(), self.ln_weight());
        let scale = (MIN_SIGNIFICANT - (wn - wb))
            .max(i32::from(base.scale()))
            .max(i32::from(self.scale()))
            .clamp(0, MAX_RESULT_SCALE);
        let guard = scale + (wn - wb).max(0) + wb.abs() + 12;
        let (ln_num, ln_base) = (self.ln_to(guard)?, base.ln_to(guard)?);
        ln_num.div_to(&ln_base, scale)
    }

    /// `self ^ exponent`
    pub fn power(&self, exponent: &Numeric) -> Result<Numeric> {
        if !self.is_finite() || !exponent.is_finite() {
            return self.power_special(exponent);
        }
        if self.is_zero() && exponent.signum() < 0 {
            return Err(power_error("zero raised to a negative power is undefined"));
        }
        let integral = exponent.trunc(0)?.compare(exponent).is_eq();
        if integral && let Some(n) = exponent.to_i64().and_then(|n| i32::try_from(n).ok()) {
            return self.power_int(n);
        }
        if self.is_zero() {
            return Numeric::from_big(BigInt::ZERO, MIN_SIGNIFICANT);
        }
        if self.signum() < 0 && !integral {
            return Err(power_error(
                "a negative number raised to a non-integer power yields a complex result",
            ));
        }
        let odd = integral && exponent.is_odd();
        let result = self.abs().power_ln(exponent, self.scale())?;
        Ok(if self.signum() < 0 && odd { result.neg() } else { result })
    }

    fn is_odd(&self) -> bool {
        self.to_integer().is_ok_and(|v| v.bit(0))
    }

    fn power_ln(&self, exponent: &Numeric, base_scale: u16) -> Result<Numeric> {
        let weight = self.ln_weight();
        let digits = (8 - weight).clamp(0, MAX_RESULT_SCALE);
        let rough = self.ln_to(digits)?.mul(exponent)?.round(digits)?.approximate();
        if rough.abs() > 2000.0 * 3.01 {
            if rough > 0.0 {
                return Err(overflow());
            }
            return Numeric::from_big(BigInt::ZERO, MAX_RESULT_SCALE);
        }
        let decimal = rough * LOG10_E;
        let scale = (MIN_SIGNIFICANT - whole(decimal))
            .max(i32::from(base_scale))
            .max(i32::from(exponent.scale()))
            .clamp(0, MAX_RESULT_SCALE);
        let significant = (scale + whole(decimal)).max(0);
        let exponent_digits = exponent
            .finite()
            .map_or(0, |(c, s)| i32::try_from(decimal_digits(&c)).unwrap_or(0) - s);
        let local = (significant - weight + 16 + exponent_digits.max(0)).max(0);
        self.ln_to(local)?.mul(exponent)?.exp_to(scale)
    }

    fn power_int(&self, n: i32) -> Result<Numeric> {
        let Some((coef, scale)) = self.finite() else { return Err(overflow()) };
        let (weight, digits) = leading_digits(&coef, scale, 4);
        let mut decimal = 0.0;
        if let Some((&first, rest)) = digits.split_first() {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let head = rest.iter().fold(first as f64, |f, &d| f * 10_000.0 + d as f64);
            let exponent = (weight - i32::try_from(rest.len()).unwrap_or(0)) * 4;
            decimal = f64::from(n) * (head.log10() + f64::from(exponent));
        }
        if decimal > 131_072.0 {
            return Err(overflow());
        }
        // Integer powers get 16 digits behind the point, not 16 significant ones.
        let result = MIN_SIGNIFICANT.max(scale).min(MAX_RESULT_SCALE);
        if decimal + 1.0 < -f64::from(result) {
            return Numeric::from_big(BigInt::ZERO, result);
        }
        if n == 0 {
            return Numeric::from_big(pow10(result.unsigned_abs()), result);
        }
        if self.is_zero() {
            if n < 0 {
                return Err(division_by_zero());
            }
            return Numeric::from_big(BigInt::ZERO, result);
        }
        self.integer_power(&coef, scale, n, result, decimal)
    }

    fn integer_power(
        &self,
        coef: &BigInt,
        scale: i32,
        n: i32,
        result: i32,
        decimal: f64,
    ) -> Result<Numeric> {
        // Exact while the digits stay moderate, else floating with guard digits.
        let exponent = n.unsigned_abs();
        let exact_digits = decimal_digits(coef).saturating_mul(i64::from(exponent));
        let wanted = i64::from(result) + i64::from(whole(decimal).max(0)) + 32;
        let limit = wanted.max(200);
        let (mantissa, power_scale) = if exact_digits <= limit * 2 {
            (coef.pow(exponent), i64::from(scale) * i64::from(exponent))
        } else {
            floating_power(coef, i64::from(scale), exponent, limit)
        };
        let to_scale = |v: BigInt, from: i64| -> Result<Numeric> {
            let shift = i64::from(result) - from;
            let magnitude = u32::try_from(shift.unsigned_abs()).map_err(|_| overflow())?;
            if shift >= 0 {
                return Numeric::from_big(v * pow10(magnitude), result);
            }
            if i64::from(magnitude) > decimal_digits(&v) {
                return Numeric::from_big(BigInt::ZERO, result);
            }
            Numeric::from_big(divide_rounded(&v, &pow10(magnitude)), result)
        };
        if n > 0 {
            return to_scale(mantissa, power_scale);
        }
        // 1 / (m · 10^−s) = 10^(s + k) / m · 10^−k, with enough digits in k.
        let k = decimal_digits(&mantissa) + i64::from(result).max(40) + 32;
        let up = u32::try_from(k).map_err(|_| overflow())?;
        to_scale(divide_rounded(&pow10(up), &mantissa), k - power_scale)
    }

    fn power_special(&self, exponent: &Numeric) -> Result<Numeric> {
        let one = Numeric::ONE;
        if self.is_nan() {
            return Ok(if exponent.is_zero() { one } else { Numeric::NAN });
        }
        if exponent.is_nan() {
            return Ok(if self.compare(&one).is_eq() { one } else { Numeric::NAN });
        }
        if self.compare(&one).is_eq() || exponent.is_zero() {
            return Ok(one);
        }
        if self.is_zero() && exponent.signum() < 0 {
            return Err(power_error("zero raised to a negative power is undefined"));
        }
        if self.is_zero() {
            return Ok(Numeric::ZERO);
        }
        if exponent.is_infinite() {
            let magnitude = self.abs().compare(&one);
            return Ok(if magnitude.is_eq() {
                one
            } else if magnitude.is_gt() == (exponent.signum() > 0) {
                Numeric::INFINITY
            } else {
                Numeric::ZERO
            });
        }
        if self.signum() > 0 {
            let grows = exponent.signum() > 0;
            return Ok(if grows { Numeric::INFINITY } else { Numeric::ZERO });
        }
        if !exponent.trunc(0)?.compare(exponent).is_eq() {
            return Err(power_error(
                "a negative number raised to a non-integer power yields a complex result",
            ));
        }
        Ok(match (exponent.signum() > 0, exponent.is_odd()) {
            (true, true) => Numeric::NEG_INFINITY,
            (true, false) => Numeric::INFINITY,
            (false, _) => Numeric::ZERO,
        })
    }
}

/// Square-and-multiply that keeps `limit` digits; answers mantissa and scale.
fn floating_power(coef: &BigInt, scale: i64, exponent: u32, limit: i64) -> (BigInt, i64) {
    let cut = |v: BigInt, s: i64| {
        let excess = decimal_digits(&v) - limit;
        match u32::try_from(excess) {
            Ok(excess) if excess > 0 => (divide_rounded(&v, &pow10(excess)), s - i64::from(excess)),
            _ => (v, s),
        }
    };
    let (mut result, mut result_scale) = (BigInt::from(1), 0);
    let (mut base, mut base_scale) = cut(coef.clone(), scale);
    let mut left = exponent;
    while left > 0 {
        if left & 1 == 1 {
            (result, result_scale) = cut(&result * &base, result_scale + base_scale);
        }
        left >>= 1;
        if left > 0 {
            (base, base_scale) = cut(&base * &base, base_scale * 2);
        }
    }
    (result, result_scale)
}
