//! Integer arithmetic, bit operations and casts.

use super::call::{division_by_zero, fun, out_of_range};
use crate::numeric::Numeric;
use crate::{Kernel, PgError, Result, SqlState};

type Table = &'static [(&'static str, Kernel)];

/// What the integer types have in common.
trait Int: Copy + Sized {
    const NAME: &'static str;
    fn narrow(v: i128) -> Option<Self>;
    fn widen(self) -> i128;

    fn checked(v: i128) -> Result<Self> {
        Self::narrow(v).ok_or_else(|| out_of_range(Self::NAME))
    }
}

macro_rules! int {
    ($($t:ty = $name:literal;)*) => { $(
        impl Int for $t {
            const NAME: &'static str = concat!($name, " out of range");
            fn narrow(v: i128) -> Option<$t> {
                <$t>::try_from(v).ok()
            }
            fn widen(self) -> i128 {
                i128::from(self)
            }
        }
    )* };
}
int! { i16 = "smallint"; i32 = "integer"; i64 = "bigint"; }

/// Sum, difference, product in a wider type, then range-checked.
fn add<R: Int>(a: impl Int, b: impl Int) -> Result<R> {
    R::checked(a.widen() + b.widen())
}

fn sub<R: Int>(a: impl Int, b: impl Int) -> Result<R> {
    R::checked(a.widen() - b.widen())
}

fn mul<R: Int>(a: impl Int, b: impl Int) -> Result<R> {
    R::checked(a.widen() * b.widen())
}

fn div<R: Int>(a: impl Int, b: impl Int) -> Result<R> {
    if b.widen() == 0 {
        return Err(division_by_zero());
    }
    R::checked(a.widen() / b.widen())
}

fn rem<R: Int>(a: impl Int, b: impl Int) -> Result<R> {
    if b.widen() == 0 {
        return Err(division_by_zero());
    }
    R::checked(a.widen() % b.widen())
}

fn cast<R: Int>(a: impl Int) -> Result<R> {
    R::checked(a.widen())
}

fn gcd<R: Int>(a: R, b: R) -> Result<R> {
    R::checked(euclid(a.widen(), b.widen()))
}

fn euclid(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn lcm<R: Int>(a: R, b: R) -> Result<R> {
    let (a, b) = (a.widen(), b.widen());
    if a == 0 || b == 0 {
        return R::checked(0);
    }
    R::checked((a / euclid(a, b) * b).abs())
}

/// The four operations of a pair of types.
macro_rules! arithmetic {
    ($prefix:literal, $a:ty, $b:ty => $r:ty) => {
        &[
            (concat!($prefix, "pl"), fun!(|a: $a, b: $b| add::<$r>(a, b))),
            (concat!($prefix, "mi"), fun!(|a: $a, b: $b| sub::<$r>(a, b))),
            (concat!($prefix, "mul"), fun!(|a: $a, b: $b| mul::<$r>(a, b))),
            (concat!($prefix, "div"), fun!(|a: $a, b: $b| div::<$r>(a, b))),
        ]
    };
}

/// What each integer type has on its own. Shift counts are cut as the hardware cuts them.
macro_rules! own {
    ($prefix:literal, $t:ty, $wide:ty, $mask:literal) => {
        &[
            (concat!($prefix, "mod"), fun!(|a: $t, b: $t| rem::<$t>(a, b))),
            (concat!($prefix, "um"), fun!(|a: $t| sub::<$t>(0i16, a))),
            (concat!($prefix, "up"), fun!(|a: $t| a)),
            (concat!($prefix, "abs"), fun!(|a: $t| <$t as Int>::checked(a.widen().abs()))),
            (concat!($prefix, "and"), fun!(|a: $t, b: $t| a & b)),
            (concat!($prefix, "or"), fun!(|a: $t, b: $t| a | b)),
            (concat!($prefix, "xor"), fun!(|a: $t, b: $t| a ^ b)),
            (concat!($prefix, "not"), fun!(|a: $t| !a)),
            (
                concat!($prefix, "shl"),
                fun!(|a: $t, n: i32| (<$wide>::from(a) << (n & $mask)) as $t),
            ),
            (
                concat!($prefix, "shr"),
                fun!(|a: $t, n: i32| (<$wide>::from(a) >> (n & $mask)) as $t),
            ),
        ]
    };
}

fn to_char(v: i32) -> Result<String> {
    let byte = i8::try_from(v).map_err(|_| out_of_range("\"char\" out of range"))?;
    Ok(match byte.cast_unsigned() {
        0 => String::new(),
        b => char::from(b).to_string(),
    })
}

fn from_char(v: &str) -> i32 {
    let code = v.chars().next().map_or(0, u32::from);
    i32::from((code as u8).cast_signed())
}

fn to_oid(v: i64) -> Result<u32> {
    u32::try_from(v).map_err(|_| out_of_range("OID out of range"))
}

#[expect(clippy::cast_precision_loss, reason = "the cast rounds, as SQL's does")]
const CASTS: Table = &[
    ("i2toi4", fun!(|a: i16| i32::from(a))),
    ("i4toi2", fun!(|a: i32| cast::<i16>(a))),
    ("int28", fun!(|a: i16| i64::from(a))),
    ("int48", fun!(|a: i32| i64::from(a))),
    ("int82", fun!(|a: i64| cast::<i16>(a))),
    ("int84", fun!(|a: i64| cast::<i32>(a))),
    ("i2tod", fun!(|a: i16| f64::from(a))),
    ("i2tof", fun!(|a: i16| f32::from(a))),
    ("i4tod", fun!(|a: i32| f64::from(a))),
    ("i4tof", fun!(|a: i32| a as f32)),
    ("i8tod", fun!(|a: i64| a as f64)),
    ("i8tof", fun!(|a: i64| a as f32)),
    ("int2_numeric", fun!(|a: i16| Numeric::from(i64::from(a)))),
    ("int4_numeric", fun!(|a: i32| Numeric::from(a))),
    ("int8_numeric", fun!(|a: i64| Numeric::from(a))),
    ("int4_bool", fun!(|a: i32| a != 0)),
    ("bool_int4", fun!(|a: bool| i32::from(a))),
    ("i4tochar", fun!(|a: i32| to_char(a))),
    ("chartoi4", fun!(|a: &str| from_char(a))),
    ("i8tooid", fun!(|a: i64| to_oid(a))),
    ("oidtoi8", fun!(|a: u32| i64::from(a))),
    ("xid8toxid", fun!(|a: i64| (a & 0xffff_ffff) as u32)),
    ("int4inc", fun!(|a: i32| add::<i32>(a, 1i16))),
    ("int8inc", fun!(|a: i64| add::<i64>(a, 1i16))),
    ("int8dec", fun!(|a: i64| sub::<i64>(a, 1i16))),
    ("int4gcd", fun!(|a: i32, b: i32| gcd(a, b))),
    ("int8gcd", fun!(|a: i64, b: i64| gcd(a, b))),
    ("int4lcm", fun!(|a: i32, b: i32| lcm(a, b))),
    ("int8lcm", fun!(|a: i64, b: i64| lcm(a, b))),
    ("to_hex32", fun!(|a: i32| format!("{a:x}"))),
    ("to_hex64", fun!(|a: i64| format!("{a:x}"))),
];

/// Booleans.
const BOOL: Table = &[
    ("booland_statefunc", fun!(|a: bool, b: bool| a && b)),
    ("boolor_statefunc", fun!(|a: bool, b: bool| a || b)),
    ("booltext", fun!(|a: bool| if a { "true" } else { "false" })),
];

/// Money: cents in 64 bits.
#[expect(clippy::cast_precision_loss, reason = "money times a float rounds")]
fn cash_float(v: i64, by: f64, divide: bool) -> Result<i64> {
    if divide && by == 0.0 {
        return Err(division_by_zero());
    }
    let result = if divide { v as f64 / by } else { v as f64 * by };
    let rounded = result.round_ties_even();
    if rounded.is_nan() || rounded.abs() >= 9.3e18 {
        return Err(out_of_range("money out of range"));
    }
    Ok(rounded as i64)
}

fn cash(v: Option<i64>) -> Result<i64> {
    v.ok_or_else(|| out_of_range("money out of range"))
}

fn cash_div(a: i64, b: i64) -> Result<i64> {
    if b == 0 {
        return Err(division_by_zero());
    }
    cash(a.checked_div(b))
}

fn cash_ratio(a: i64, b: i64) -> Result<f64> {
    if b == 0 {
        return Err(division_by_zero());
    }
    #[expect(clippy::cast_precision_loss, reason = "the result is a double")]
    Ok(a as f64 / b as f64)
}

fn numeric_cash(v: &Numeric) -> Result<i64> {
    if !v.is_finite() {
        let what = if v.is_nan() { "NaN" } else { "infinity" };
        return Err(PgError::unsupported(format!("cannot convert {what} to money")));
    }
    v.mul(&Numeric::from(100i64))?
        .to_i64()
        .ok_or_else(|| PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range"))
}

const MONEY: Table = &[
    ("cash_pl", fun!(|a: i64, b: i64| cash(a.checked_add(b)))),
    ("cash_mi", fun!(|a: i64, b: i64| cash(a.checked_sub(b)))),
    ("cash_mul_int2", fun!(|a: i64, b: i16| cash(a.checked_mul(i64::from(b))))),
    ("cash_mul_int4", fun!(|a: i64, b: i32| cash(a.checked_mul(i64::from(b))))),
    ("cash_mul_int8", fun!(|a: i64, b: i64| cash(a.checked_mul(b)))),
    ("int2_mul_cash", fun!(|b: i16, a: i64| cash(a.checked_mul(i64::from(b))))),
    ("int4_mul_cash", fun!(|b: i32, a: i64| cash(a.checked_mul(i64::from(b))))),
    ("int8_mul_cash", fun!(|b: i64, a: i64| cash(a.checked_mul(b)))),
    ("cash_mul_flt8", fun!(|a: i64, b: f64| cash_float(a, b, false))),
    ("flt8_mul_cash", fun!(|b: f64, a: i64| cash_float(a, b, false))),
    ("cash_mul_flt4", fun!(|a: i64, b: f32| cash_float(a, f64::from(b), false))),
    ("flt4_mul_cash", fun!(|b: f32, a: i64| cash_float(a, f64::from(b), false))),
    ("cash_div_flt8", fun!(|a: i64, b: f64| cash_float(a, b, true))),
    ("cash_div_flt4", fun!(|a: i64, b: f32| cash_float(a, f64::from(b), true))),
    ("cash_div_int2", fun!(|a: i64, b: i16| cash_div(a, i64::from(b)))),
    ("cash_div_int4", fun!(|a: i64, b: i32| cash_div(a, i64::from(b)))),
    ("cash_div_int8", fun!(|a: i64, b: i64| cash_div(a, b))),
    ("cash_div_cash", fun!(|a: i64, b: i64| cash_ratio(a, b))),
    ("cash_numeric", fun!(|a: i64| Numeric::from_parts(a, 2))),
    ("numeric_cash", fun!(|a: &Numeric| numeric_cash(a))),
    ("int4_cash", fun!(|a: i32| i64::from(a) * 100)),
    (
        "int8_cash",
        fun!(|a: i64| a.checked_mul(100).ok_or_else(|| out_of_range("bigint out of range"))),
    ),
];

pub(crate) const TABLES: &[Table] = &[
    arithmetic!("int2", i16, i16 => i16),
    arithmetic!("int4", i32, i32 => i32),
    arithmetic!("int8", i64, i64 => i64),
    arithmetic!("int24", i16, i32 => i32),
    arithmetic!("int28", i16, i64 => i64),
    arithmetic!("int42", i32, i16 => i32),
    arithmetic!("int48", i32, i64 => i64),
    arithmetic!("int82", i64, i16 => i64),
    arithmetic!("int84", i64, i32 => i64),
    own!("int2", i16, i32, 31),
    own!("int4", i32, i32, 31),
    own!("int8", i64, i64, 63),
    CASTS,
    BOOL,
    MONEY,
];
