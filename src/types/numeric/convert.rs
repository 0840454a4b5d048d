//! Conversions between `numeric` and the other number types.

use num_bigint::BigInt;

use super::{Numeric, Repr};
use crate::{PgError, Result, SqlState};

impl From<i64> for Numeric {
    fn from(v: i64) -> Numeric {
        Numeric::from_parts(v, 0)
    }
}

impl From<i32> for Numeric {
    fn from(v: i32) -> Numeric {
        Numeric::from_parts(i64::from(v), 0)
    }
}

impl From<i128> for Numeric {
    fn from(v: i128) -> Numeric {
        Numeric::from_i128(v, 0)
    }
}

impl Numeric {
    /// The value of a double at 15 significant digits, as PostgreSQL's cast gives.
    pub fn from_f64(v: f64) -> Result<Numeric> {
        from_float(v, 14)
    }

    /// The value of a single at 6 significant digits, as PostgreSQL's cast gives.
    pub fn from_f32(v: f32) -> Result<Numeric> {
        from_float(f64::from(v), 5)
    }

    /// The nearest double; infinite when out of range.
    pub fn to_f64_lossy(&self) -> f64 {
        match &self.0 {
            Repr::NaN => f64::NAN,
            Repr::Infinity => f64::INFINITY,
            Repr::NegInfinity => f64::NEG_INFINITY,
            #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
            Repr::Small { coef, scale } if coef.unsigned_abs() < (1 << 53) && *scale <= 22 => {
                *coef as f64 / 10f64.powi(i32::from(*scale))
            }
            _ => self.to_string().parse().unwrap_or(f64::NAN),
        }
    }

    /// The nearest double, with PostgreSQL's error when there is none.
    pub fn to_f64(&self) -> Result<f64> {
        let v = self.to_f64_lossy();
        let lost = self.is_finite() && (v.is_infinite() || (v == 0.0 && !self.is_zero()));
        if lost { Err(out_of_range(self, "double precision")) } else { Ok(v) }
    }

    /// The nearest single, with PostgreSQL's error when there is none.
    pub fn to_f32(&self) -> Result<f32> {
        let v: f32 = match &self.0 {
            Repr::NaN => f32::NAN,
            Repr::Infinity => f32::INFINITY,
            Repr::NegInfinity => f32::NEG_INFINITY,
            _ => self.to_string().parse().unwrap_or(f32::NAN),
        };
        let lost = self.is_finite() && (v.is_infinite() || (v == 0.0 && !self.is_zero()));
        if lost { Err(out_of_range(self, "real")) } else { Ok(v) }
    }

    /// Rounded to an integer type; `name` is the type's SQL name for messages.
    pub fn to_int(&self, name: &str) -> Result<i64> {
        if !self.is_finite() {
            let what = if self.is_nan() { "NaN" } else { "infinity" };
            return Err(PgError::unsupported(format!("cannot convert {what} to {name}")));
        }
        self.to_i64().ok_or_else(|| {
            PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{name} out of range"))
        })
    }
}

fn out_of_range(value: &Numeric, name: &str) -> PgError {
    PgError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("\"{value}\" is out of range for type {name}"),
    )
}

fn from_float(v: f64, decimals: usize) -> Result<Numeric> {
    if v.is_nan() {
        return Ok(Numeric::NAN);
    }
    if v.is_infinite() {
        return Ok(if v > 0.0 { Numeric::INFINITY } else { Numeric::NEG_INFINITY });
    }
    let text = format!("{v:.decimals$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(|&c| c != '.').collect();
    let mut coef: i64 = digits.parse().unwrap_or(0);
    let mut scale = i32::try_from(decimals).unwrap_or(0) - exponent;
    while coef != 0 && coef % 10 == 0 {
        coef /= 10;
        scale -= 1;
    }
    if coef == 0 {
        return Ok(Numeric::ZERO);
    }
    if scale < 0 {
        return Numeric::from_big(BigInt::from(coef) * super::pow10(scale.unsigned_abs()), 0);
    }
    Numeric::from_big(BigInt::from(coef), scale)
}
