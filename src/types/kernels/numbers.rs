//! Kernels of `numeric`.

use super::call::fun;
use crate::numeric::Numeric;
use crate::{Kernel, Result};

type Table = &'static [(&'static str, Kernel)];

fn to_i16(v: &Numeric) -> Result<i16> {
    let wide = v.to_int("smallint")?;
    i16::try_from(wide).map_err(|_| super::call::out_of_range("smallint out of range"))
}

fn to_i32(v: &Numeric) -> Result<i32> {
    let wide = v.to_int("integer").map_err(|e| rename(e, v))?;
    i32::try_from(wide).map_err(|_| super::call::out_of_range("integer out of range"))
}

fn rename(e: crate::PgError, v: &Numeric) -> crate::PgError {
    if v.is_finite() { super::call::out_of_range("integer out of range") } else { e }
}

fn sign(v: &Numeric) -> Numeric {
    if v.is_nan() { Numeric::NAN } else { Numeric::from(v.signum()) }
}

fn scale_of(v: &Numeric, scale: fn(&Numeric) -> u16) -> Option<i32> {
    v.is_finite().then(|| i32::from(scale(v)))
}

/// The digits kept after the point at most.
const MOST_SCALE: i32 = 16383;
/// Left of the point, further than any number reaches.
const LEAST_SCALE: i32 = -131_080;

const BASIC: Table = &[
    ("numeric", fun!(|a: &Numeric, typmod: i32| a.clone().apply_typmod(typmod))),
    ("numeric_add", fun!(|a: &Numeric, b: &Numeric| a.add(b))),
    ("numeric_sub", fun!(|a: &Numeric, b: &Numeric| a.sub(b))),
    ("numeric_mul", fun!(|a: &Numeric, b: &Numeric| a.mul(b))),
    ("numeric_div", fun!(|a: &Numeric, b: &Numeric| a.div(b))),
    ("numeric_div_trunc", fun!(|a: &Numeric, b: &Numeric| a.div_trunc(b))),
    ("numeric_mod", fun!(|a: &Numeric, b: &Numeric| a.rem(b))),
    ("numeric_uminus", fun!(|a: &Numeric| a.neg())),
    ("numeric_uplus", fun!(|a: &Numeric| a.clone())),
    ("numeric_abs", fun!(|a: &Numeric| a.abs())),
    ("numeric_sign", fun!(|a: &Numeric| sign(a))),
    ("numeric_inc", fun!(|a: &Numeric| a.add(&Numeric::ONE))),
    ("numeric_ceil", fun!(|a: &Numeric| a.ceil())),
    ("numeric_floor", fun!(|a: &Numeric| a.floor())),
    ("numeric_round", fun!(|a: &Numeric, s: i32| a.round(s.clamp(LEAST_SCALE, MOST_SCALE)))),
    ("round(numeric)", fun!(|a: &Numeric| a.round(0))),
    ("numeric_trunc", fun!(|a: &Numeric, s: i32| a.trunc(s.clamp(LEAST_SCALE, MOST_SCALE)))),
    ("trunc(numeric)", fun!(|a: &Numeric| a.trunc(0))),
    ("numeric_sqrt", fun!(|a: &Numeric| a.sqrt())),
    ("numeric_exp", fun!(|a: &Numeric| a.exp())),
    ("numeric_ln", fun!(|a: &Numeric| a.ln())),
    ("numeric_log", fun!(|base: &Numeric, a: &Numeric| a.log(base))),
    ("log(numeric)", fun!(|a: &Numeric| a.log(&Numeric::from(10i64)))),
    ("log10(numeric)", fun!(|a: &Numeric| a.log(&Numeric::from(10i64)))),
    ("numeric_power", fun!(|a: &Numeric, b: &Numeric| a.power(b))),
    ("numeric_gcd", fun!(|a: &Numeric, b: &Numeric| a.gcd(b))),
    ("numeric_lcm", fun!(|a: &Numeric, b: &Numeric| a.lcm(b))),
    ("numeric_fac", fun!(|a: i64| Numeric::factorial(a))),
    ("numeric_scale", fun!(|a: &Numeric| scale_of(a, Numeric::scale))),
    ("numeric_min_scale", fun!(|a: &Numeric| scale_of(a, Numeric::min_scale))),
    ("numeric_trim_scale", fun!(|a: &Numeric| a.trim_scale())),
    (
        "width_bucket_numeric",
        fun!(|v: &Numeric, a: &Numeric, b: &Numeric, n: i32| { v.width_bucket(a, b, n) }),
    ),
    ("numeric_int2", fun!(|a: &Numeric| to_i16(a))),
    ("numeric_int4", fun!(|a: &Numeric| to_i32(a))),
    ("numeric_int8", fun!(|a: &Numeric| a.to_int("bigint"))),
    ("numeric_float4", fun!(|a: &Numeric| a.to_f32())),
    ("numeric_float8", fun!(|a: &Numeric| a.to_f64())),
];

pub(crate) const TABLES: &[Table] = &[BASIC];
