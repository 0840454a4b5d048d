//! Floating point: arithmetic that reports overflow and underflow, and the mathematical functions.

use std::sync::{LazyLock, Mutex, PoisonError};

use meridian_base::rng::Rng;

use super::call::{division_by_zero, fun, invalid_parameter, out_of_range};
use crate::numeric::Numeric;
use crate::{Datum, Kernel, PgError, Result, SqlState};

type Table = &'static [(&'static str, Kernel)];

fn overflow() -> PgError {
    out_of_range("value out of range: overflow")
}

fn underflow() -> PgError {
    out_of_range("value out of range: underflow")
}

fn domain() -> PgError {
    out_of_range("input is out of range")
}

/// Infinite only if an operand was; zero only if that is exact.
fn checked(v: f64, may_be_infinite: bool, may_be_zero: bool) -> Result<f64> {
    if v.is_infinite() && !may_be_infinite {
        return Err(overflow());
    }
    if v == 0.0 && !may_be_zero {
        return Err(underflow());
    }
    Ok(v)
}

fn add(a: f64, b: f64) -> Result<f64> {
    checked(a + b, a.is_infinite() || b.is_infinite(), true)
}

fn sub(a: f64, b: f64) -> Result<f64> {
    checked(a - b, a.is_infinite() || b.is_infinite(), true)
}

fn mul(a: f64, b: f64) -> Result<f64> {
    checked(a * b, a.is_infinite() || b.is_infinite(), a == 0.0 || b == 0.0)
}

fn div(a: f64, b: f64) -> Result<f64> {
    if b == 0.0 && !a.is_nan() {
        return Err(division_by_zero());
    }
    checked(a / b, a.is_infinite(), a == 0.0 || b.is_infinite())
}

/// Single-precision arithmetic: computed in double, which is exact enough to round once.
fn single(v: Result<f64>, a: f32, b: f32, zero_ok: bool) -> Result<f32> {
    let v = v? as f32;
    if v.is_infinite() && !a.is_infinite() && !b.is_infinite() {
        return Err(overflow());
    }
    if v == 0.0 && !zero_ok {
        return Err(underflow());
    }
    Ok(v)
}

fn mul4(a: f32, b: f32) -> Result<f32> {
    single(mul(a.into(), b.into()), a, b, a == 0.0 || b == 0.0)
}

fn div4(a: f32, b: f32) -> Result<f32> {
    single(div(a.into(), b.into()), a, 0.0, a == 0.0 || b.is_infinite())
}

macro_rules! mixed {
    ($prefix:literal, $a:ty, $b:ty) => {
        &[
            (concat!($prefix, "pl"), fun!(|a: $a, b: $b| add(a.into(), b.into()))),
            (concat!($prefix, "mi"), fun!(|a: $a, b: $b| sub(a.into(), b.into()))),
            (concat!($prefix, "mul"), fun!(|a: $a, b: $b| mul(a.into(), b.into()))),
            (concat!($prefix, "div"), fun!(|a: $a, b: $b| div(a.into(), b.into()))),
        ]
    };
}

const SINGLE: Table = &[
    ("float4pl", fun!(|a: f32, b: f32| single(add(a.into(), b.into()), a, b, true))),
    ("float4mi", fun!(|a: f32, b: f32| single(sub(a.into(), b.into()), a, b, true))),
    ("float4mul", fun!(|a: f32, b: f32| mul4(a, b))),
    ("float4div", fun!(|a: f32, b: f32| div4(a, b))),
    ("float4um", fun!(|a: f32| -a)),
    ("float4up", fun!(|a: f32| a)),
    ("float4abs", fun!(|a: f32| a.abs())),
];

/// Rounds half to even and checks the bounds of an integer type (exclusive upper bound).
fn whole(v: f64, low: f64, high: f64, name: &str) -> Result<f64> {
    let rounded = v.round_ties_even();
    if rounded >= low && rounded < high { Ok(rounded) } else { Err(out_of_range(name)) }
}

fn to_i16(v: f64) -> Result<i16> {
    whole(v, -32_768.0, 32_768.0, "smallint out of range").map(|v| v as i16)
}

fn to_i32(v: f64) -> Result<i32> {
    whole(v, -2_147_483_648.0, 2_147_483_648.0, "integer out of range").map(|v| v as i32)
}

fn to_i64(v: f64) -> Result<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    whole(v, -LIMIT, LIMIT, "bigint out of range").map(|v| v as i64)
}

fn to_f32(v: f64) -> Result<f32> {
    let single = v as f32;
    if single.is_infinite() && !v.is_infinite() {
        return Err(overflow());
    }
    if single == 0.0 && v != 0.0 {
        return Err(underflow());
    }
    Ok(single)
}

const CASTS: Table = &[
    ("ftod", fun!(|a: f32| f64::from(a))),
    ("dtof", fun!(|a: f64| to_f32(a))),
    ("dtoi2", fun!(|a: f64| to_i16(a))),
    ("dtoi4", fun!(|a: f64| to_i32(a))),
    ("dtoi8", fun!(|a: f64| to_i64(a))),
    ("ftoi2", fun!(|a: f32| to_i16(a.into()))),
    ("ftoi4", fun!(|a: f32| to_i32(a.into()))),
    ("ftoi8", fun!(|a: f32| to_i64(a.into()))),
    ("float4_numeric", fun!(|a: f32| Numeric::from_f32(a))),
    ("float8_numeric", fun!(|a: f64| Numeric::from_f64(a))),
];

fn power_error(message: &str) -> PgError {
    PgError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message)
}

fn power(a: f64, b: f64) -> Result<f64> {
    if a.is_nan() {
        return Ok(if b == 0.0 { 1.0 } else { f64::NAN });
    }
    if b.is_nan() {
        return Ok(if a == 1.0 { 1.0 } else { f64::NAN });
    }
    if a == 0.0 && b < 0.0 {
        return Err(power_error("zero raised to a negative power is undefined"));
    }
    if a < 0.0 && b.floor() != b {
        return Err(power_error(
            "a negative number raised to a non-integer power yields a complex result",
        ));
    }
    let exact = a.is_infinite() || b.is_infinite();
    checked(a.powf(b), exact, exact || a == 0.0)
}

fn sqrt(a: f64) -> Result<f64> {
    if a < 0.0 {
        return Err(power_error("cannot take square root of a negative number"));
    }
    Ok(a.sqrt())
}

fn exp(a: f64) -> Result<f64> {
    checked(a.exp(), a.is_infinite(), a == f64::NEG_INFINITY)
}

fn logarithm(a: f64, f: fn(f64) -> f64) -> Result<f64> {
    let fail = |m: &str| Err(PgError::new(SqlState::INVALID_ARGUMENT_FOR_LOG, m));
    if a == 0.0 {
        return fail("cannot take logarithm of zero");
    }
    if a < 0.0 {
        return fail("cannot take logarithm of a negative number");
    }
    Ok(f(a))
}

fn periodic(a: f64, f: fn(f64) -> f64) -> Result<f64> {
    if a.is_infinite() {
        return Err(domain());
    }
    checked(f(a), true, true)
}

fn unit_interval(a: f64, f: fn(f64) -> f64) -> Result<f64> {
    if !a.is_nan() && !(-1.0..=1.0).contains(&a) {
        return Err(domain());
    }
    Ok(f(a))
}

/// The inverse hyperbolic functions are written out: the library's lose digits for large and small
/// arguments.
fn acosh(a: f64) -> Result<f64> {
    if a < 1.0 {
        return Err(domain());
    }
    Ok(if a > HUGE {
        a.ln() + std::f64::consts::LN_2
    } else if a > 2.0 {
        (2.0 * a - 1.0 / (a + (a * a - 1.0).sqrt())).ln()
    } else {
        let t = a - 1.0;
        (t + (2.0 * t + t * t).sqrt()).ln_1p()
    })
}

/// Beyond this the square drowns the one beside it.
const HUGE: f64 = 268_435_456.0;

fn asinh(a: f64) -> f64 {
    let x = a.abs();
    let v = if x > HUGE {
        x.ln() + std::f64::consts::LN_2
    } else if x > 2.0 {
        (2.0 * x + 1.0 / ((x * x + 1.0).sqrt() + x)).ln()
    } else {
        (x + x * x / (1.0 + (1.0 + x * x).sqrt())).ln_1p()
    };
    v.copysign(a)
}

fn atanh(a: f64) -> f64 {
    let x = a.abs();
    let double = x + x;
    let v = if x < 0.5 {
        0.5 * (double + double * x / (1.0 - x)).ln_1p()
    } else {
        0.5 * (double / (1.0 - x)).ln_1p()
    };
    v.copysign(a)
}

fn sign(a: f64) -> f64 {
    if a > 0.0 {
        1.0
    } else if a < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// Trigonometry in degrees that is exact at multiples of 30 and 45 degrees.
mod degrees {
    use super::{Result, domain};

    fn rad(x: f64) -> f64 {
        x * (std::f64::consts::PI / 180.0)
    }

    fn sin_to_30(x: f64) -> f64 {
        rad(x).sin() / rad(30.0).sin() / 2.0
    }

    fn cos_to_60(x: f64) -> f64 {
        1.0 - (1.0 - rad(x).cos()) / (1.0 - rad(60.0).cos()) / 2.0
    }

    fn sin_quadrant(x: f64) -> f64 {
        if x <= 30.0 { sin_to_30(x) } else { cos_to_60(90.0 - x) }
    }

    fn cos_quadrant(x: f64) -> f64 {
        if x <= 60.0 { cos_to_60(x) } else { sin_to_30(90.0 - x) }
    }

    /// Folds an angle to 0…90 with the signs of sine and cosine.
    fn fold(x: f64) -> Result<(f64, f64, f64)> {
        if x.is_infinite() {
            return Err(domain());
        }
        let (mut x, mut sine, mut cosine) = (x % 360.0, 1.0, 1.0);
        if x < 0.0 {
            x = -x;
            sine = -sine;
        }
        if x > 180.0 {
            x = 360.0 - x;
            sine = -sine;
        }
        if x > 90.0 {
            x = 180.0 - x;
            cosine = -cosine;
        }
        Ok((x, sine, cosine))
    }

    pub(super) fn sin(x: f64) -> Result<f64> {
        fold(x).map(|(x, s, _)| s * sin_quadrant(x))
    }

    pub(super) fn cos(x: f64) -> Result<f64> {
        fold(x).map(|(x, _, c)| c * cos_quadrant(x))
    }

    pub(super) fn tan(x: f64) -> Result<f64> {
        let unit = sin_quadrant(45.0) / cos_quadrant(45.0);
        let (x, s, c) = fold(x)?;
        let v = s * c * ((sin_quadrant(x) / cos_quadrant(x)) / unit);
        Ok(if v == 0.0 { 0.0 } else { v })
    }

    pub(super) fn cot(x: f64) -> Result<f64> {
        let unit = cos_quadrant(45.0) / sin_quadrant(45.0);
        let (x, s, c) = fold(x)?;
        let v = s * c * ((cos_quadrant(x) / sin_quadrant(x)) / unit);
        Ok(if v == 0.0 { 0.0 } else { v })
    }

    fn asin_quadrant(x: f64) -> f64 {
        if x <= 0.5 {
            x.asin() / 0.5f64.asin() * 30.0
        } else {
            90.0 - x.acos() / 0.5f64.acos() * 60.0
        }
    }

    fn acos_quadrant(x: f64) -> f64 {
        if x <= 0.5 {
            90.0 - x.asin() / 0.5f64.asin() * 30.0
        } else {
            x.acos() / 0.5f64.acos() * 60.0
        }
    }

    pub(super) fn asin(x: f64) -> f64 {
        if x >= 0.0 { asin_quadrant(x) } else { -asin_quadrant(-x) }
    }

    pub(super) fn acos(x: f64) -> f64 {
        if x >= 0.0 { acos_quadrant(x) } else { 90.0 + asin_quadrant(-x) }
    }

    pub(super) fn atan(x: f64) -> f64 {
        x.atan() / 1.0f64.atan() * 45.0
    }

    pub(super) fn atan2(y: f64, x: f64) -> f64 {
        y.atan2(x) / 1.0f64.atan() * 45.0
    }
}

/// One generator for the process: `setseed` makes `random` repeatable for a lone session.
static RANDOM: LazyLock<Mutex<Rng>> = LazyLock::new(|| Mutex::new(Rng::from_os()));

fn random() -> f64 {
    RANDOM.lock().unwrap_or_else(PoisonError::into_inner).next_f64()
}

fn set_seed(seed: f64) -> Result<Datum> {
    if !(-1.0..=1.0).contains(&seed) {
        let mut shown = Vec::new();
        crate::io::number::float8_out(&mut shown, seed, 0);
        let shown = String::from_utf8_lossy(&shown).to_lowercase();
        return Err(invalid_parameter(format!(
            "setseed parameter {shown} is out of allowed range [-1,1]"
        )));
    }
    *RANDOM.lock().unwrap_or_else(PoisonError::into_inner) = Rng::seeded(seed.to_bits());
    Ok(Datum::text(""))
}

fn width_bucket(v: f64, low: f64, high: f64, count: i32) -> Result<i32> {
    let fail = |m: &str| Err(PgError::new(SqlState::INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION, m));
    if count <= 0 {
        return fail("count must be greater than zero");
    }
    if v.is_nan() || low.is_nan() || high.is_nan() {
        return fail("operand, lower bound, and upper bound cannot be NaN");
    }
    if low.is_infinite() || high.is_infinite() {
        return fail("lower and upper bounds must be finite");
    }
    if low == high {
        return fail("lower bound cannot equal upper bound");
    }
    let ascending = low < high;
    let (before, after) = if ascending { (v < low, v >= high) } else { (v > low, v <= high) };
    if before {
        return Ok(0);
    }
    if after {
        return count.checked_add(1).ok_or_else(|| out_of_range("integer out of range"));
    }
    // Halve first where the width itself would overflow.
    let width = high - low;
    let share = if width.is_infinite() {
        (v / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)
    } else {
        (v - low) / width
    };
    Ok(((f64::from(count) * share).floor() as i32).min(count - 1) + 1)
}

const MATH: Table = &[
    ("float8um", fun!(|a: f64| -a)),
    ("float8up", fun!(|a: f64| a)),
    ("float8abs", fun!(|a: f64| a.abs())),
    ("dround", fun!(|a: f64| a.round_ties_even())),
    ("dceil", fun!(|a: f64| a.ceil())),
    ("dfloor", fun!(|a: f64| a.floor())),
    ("dtrunc", fun!(|a: f64| a.trunc())),
    ("dsign", fun!(|a: f64| sign(a))),
    ("dsqrt", fun!(|a: f64| sqrt(a))),
    ("dcbrt", fun!(|a: f64| a.cbrt())),
    ("dpow", fun!(|a: f64, b: f64| power(a, b))),
    ("dexp", fun!(|a: f64| exp(a))),
    ("dlog1", fun!(|a: f64| logarithm(a, f64::ln))),
    ("dlog10", fun!(|a: f64| logarithm(a, f64::log10))),
    ("dpi", |_, _| Ok(Datum::Float8(std::f64::consts::PI))),
    ("degrees", fun!(|a: f64| div(a, std::f64::consts::PI / 180.0))),
    ("radians", fun!(|a: f64| mul(a, std::f64::consts::PI / 180.0))),
    ("dsin", fun!(|a: f64| periodic(a, f64::sin))),
    ("dcos", fun!(|a: f64| periodic(a, f64::cos))),
    ("dtan", fun!(|a: f64| periodic(a, f64::tan))),
    ("dcot", fun!(|a: f64| periodic(a, |x| 1.0 / x.tan()))),
    ("dasin", fun!(|a: f64| unit_interval(a, f64::asin))),
    ("dacos", fun!(|a: f64| unit_interval(a, f64::acos))),
    ("datan", fun!(|a: f64| a.atan())),
    ("datan2", fun!(|a: f64, b: f64| a.atan2(b))),
    ("dsind", fun!(|a: f64| degrees::sin(a))),
    ("dcosd", fun!(|a: f64| degrees::cos(a))),
    ("dtand", fun!(|a: f64| degrees::tan(a))),
    ("dcotd", fun!(|a: f64| degrees::cot(a))),
    ("dasind", fun!(|a: f64| unit_interval(a, degrees::asin))),
    ("dacosd", fun!(|a: f64| unit_interval(a, degrees::acos))),
    ("datand", fun!(|a: f64| degrees::atan(a))),
    ("datan2d", fun!(|a: f64, b: f64| degrees::atan2(a, b))),
    ("dsinh", fun!(|a: f64| a.sinh())),
    ("dcosh", fun!(|a: f64| a.cosh())),
    ("dtanh", fun!(|a: f64| a.tanh())),
    ("dasinh", fun!(|a: f64| asinh(a))),
    ("dacosh", fun!(|a: f64| acosh(a))),
    ("datanh", fun!(|a: f64| unit_interval(a, atanh))),
    ("drandom", |_, _| Ok(Datum::Float8(random()))),
    ("setseed", fun!(|a: f64| set_seed(a))),
    ("width_bucket_float8", fun!(|v: f64, a: f64, b: f64, n: i32| width_bucket(v, a, b, n))),
];

pub(crate) const TABLES: &[Table] = &[
    mixed!("float8", f64, f64),
    mixed!("float48", f32, f64),
    mixed!("float84", f64, f32),
    SINGLE,
    CASTS,
    MATH,
];
