//! Comparison operators, three-way comparisons, `larger` and `smaller`, window range tests.

use std::cmp::Ordering;

use super::call::{Give, fun, mismatch};
use crate::numeric::Numeric;
use crate::oid;
use crate::order::{bpchar_body, compare as by_order, compare_arrays, compare_f64};
use crate::{ArrayValue, CallInfo, Datum, Kernel, PgError, Result, SqlState};

type Table = &'static [(&'static str, Kernel)];

/// Six operators of a family: the prefix of their names, the operand types, the comparison.
macro_rules! operators {
    ($prefix:literal, $a:ty, $b:ty, $compare:expr) => {
        &[
            (concat!($prefix, "eq"), fun!(|a: $a, b: $b| $compare(a, b).is_eq())),
            (concat!($prefix, "ne"), fun!(|a: $a, b: $b| $compare(a, b).is_ne())),
            (concat!($prefix, "lt"), fun!(|a: $a, b: $b| $compare(a, b).is_lt())),
            (concat!($prefix, "le"), fun!(|a: $a, b: $b| $compare(a, b).is_le())),
            (concat!($prefix, "gt"), fun!(|a: $a, b: $b| $compare(a, b).is_gt())),
            (concat!($prefix, "ge"), fun!(|a: $a, b: $b| $compare(a, b).is_ge())),
        ]
    };
}

fn wide<A: Into<i64>, B: Into<i64>>(a: A, b: B) -> Ordering {
    a.into().cmp(&b.into())
}

fn float<A: Into<f64>, B: Into<f64>>(a: A, b: B) -> Ordering {
    compare_f64(a.into(), b.into())
}

fn same<T: Ord>(a: T, b: T) -> Ordering {
    a.cmp(&b)
}

fn numeric(a: &Numeric, b: &Numeric) -> Ordering {
    a.compare(b)
}

fn blank_padded(a: &str, b: &str) -> Ordering {
    bpchar_body(a).cmp(bpchar_body(b))
}

/// The difference of the first bytes that differ, else the order of the lengths, as `memcmp` and
/// then the lengths give it to PostgreSQL.
fn bytewise(a: &[u8], b: &[u8]) -> i32 {
    let differing = a.iter().zip(b).find(|(x, y)| x != y);
    differing.map_or(same(a.len(), b.len()) as i32, |(x, y)| i32::from(*x) - i32::from(*y))
}

/// The same over strings that a zero byte ends, as `strcoll` of the locale "C.UTF-8" gives it.
fn collated(a: &str, b: &str) -> i32 {
    let next = |s: &str| s.as_bytes().get(a.len().min(b.len())).map_or(0, |b| i32::from(*b));
    match bytewise(&a.as_bytes()[..a.len().min(b.len())], &b.as_bytes()[..a.len().min(b.len())]) {
        0 => next(a) - next(b),
        order => order,
    }
}

fn unsigned(a: i64, b: i64) -> Ordering {
    a.cast_unsigned().cmp(&b.cast_unsigned())
}

fn arrays(a: &std::sync::Arc<ArrayValue>, b: &std::sync::Arc<ArrayValue>) -> Ordering {
    compare_arrays(a, b)
}

fn records(a: &Datum, b: &Datum) -> Ordering {
    by_order(oid::RECORD, a, b)
}

fn xid_int(a: u32, b: i32) -> bool {
    a == b.cast_unsigned()
}

fn same_element_type(a: &ArrayValue, b: &ArrayValue) -> Result<()> {
    if a.element_type == b.element_type {
        return Ok(());
    }
    Err(PgError::new(
        SqlState::DATATYPE_MISMATCH,
        "cannot compare arrays of different element types",
    ))
}

fn array_cmp(a: &ArrayValue, b: &ArrayValue) -> Result<i32> {
    same_element_type(a, b)?;
    Ok(compare_arrays(a, b) as i32)
}

/// The greater or smaller of two values. Equal ones may look different (1.0 and 1.00): then it is
/// the second, except for `char(n)`.
fn pick(args: &[Datum], type_oid: u32, want: Ordering) -> Result<Datum> {
    let [a, b] = args else { return Err(mismatch(args)) };
    let order = by_order(type_oid, a, b);
    let first = order == want || (order.is_eq() && type_oid == oid::BPCHAR);
    Ok(if first { a.clone() } else { b.clone() })
}

fn larger(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    pick(args, call.args.first().map_or(0, |t| t.oid), Ordering::Greater)
}

fn smaller(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    pick(args, call.args.first().map_or(0, |t| t.oid), Ordering::Less)
}

/// Names that are not a prefix and a suffix.
const IRREGULAR: Table = &[
    ("texteq", fun!(|a: &str, b: &str| a == b)),
    ("textne", fun!(|a: &str, b: &str| a != b)),
    ("text_lt", fun!(|a: &str, b: &str| a < b)),
    ("text_le", fun!(|a: &str, b: &str| a <= b)),
    ("text_gt", fun!(|a: &str, b: &str| a > b)),
    ("text_ge", fun!(|a: &str, b: &str| a >= b)),
    ("xidneq", fun!(|a: u32, b: &Datum| !xid_matches(a, b))),
    ("xideq", fun!(|a: u32, b: &Datum| xid_matches(a, b))),
    ("cideq", fun!(|a: u32, b: u32| a == b)),
    ("btboolcmp", fun!(|a: bool, b: bool| same(a, b) as i32)),
    ("btint2cmp", fun!(|a: i16, b: i16| i32::from(a) - i32::from(b))),
    ("btint4cmp", fun!(|a: i32, b: i32| same(a, b) as i32)),
    ("btint8cmp", fun!(|a: i64, b: i64| same(a, b) as i32)),
    ("btint24cmp", fun!(|a: i16, b: i32| wide(a, b) as i32)),
    ("btint28cmp", fun!(|a: i16, b: i64| wide(a, b) as i32)),
    ("btint42cmp", fun!(|a: i32, b: i16| wide(a, b) as i32)),
    ("btint48cmp", fun!(|a: i32, b: i64| wide(a, b) as i32)),
    ("btint82cmp", fun!(|a: i64, b: i16| wide(a, b) as i32)),
    ("btint84cmp", fun!(|a: i64, b: i32| wide(a, b) as i32)),
    ("btfloat4cmp", fun!(|a: f32, b: f32| float(a, b) as i32)),
    ("btfloat8cmp", fun!(|a: f64, b: f64| float(a, b) as i32)),
    ("btfloat48cmp", fun!(|a: f32, b: f64| float(a, b) as i32)),
    ("btfloat84cmp", fun!(|a: f64, b: f32| float(a, b) as i32)),
    ("btoidcmp", fun!(|a: u32, b: u32| same(a, b) as i32)),
    ("btoidvectorcmp", fun!(|a: &Datum, b: &Datum| vectors(a, b) as i32)),
    ("btcharcmp", fun!(|a: &str, b: &str| collated(a, b))),
    ("bttextcmp", fun!(|a: &str, b: &str| collated(a, b))),
    ("btnamecmp", fun!(|a: &str, b: &str| collated(a, b))),
    ("btnametextcmp", fun!(|a: &str, b: &str| bytewise(a.as_bytes(), b.as_bytes()))),
    ("bttextnamecmp", fun!(|a: &str, b: &str| bytewise(a.as_bytes(), b.as_bytes()))),
    ("bttext_pattern_cmp", fun!(|a: &str, b: &str| bytewise(a.as_bytes(), b.as_bytes()))),
    ("gin_compare_jsonb", fun!(|a: &str, b: &str| bytewise(a.as_bytes(), b.as_bytes()))),
    ("gin_cmp_tslexeme", fun!(|a: &str, b: &str| bytewise(a.as_bytes(), b.as_bytes()))),
    (
        "btbpchar_pattern_cmp",
        fun!(|a: &str, b: &str| bytewise(bpchar_body(a).as_bytes(), bpchar_body(b).as_bytes())),
    ),
    ("bpcharcmp", fun!(|a: &str, b: &str| collated(bpchar_body(a), bpchar_body(b)))),
    ("byteacmp", fun!(|a: &[u8], b: &[u8]| bytewise(a, b))),
    ("numeric_cmp", fun!(|a: &Numeric, b: &Numeric| a.compare(b) as i32)),
    ("uuid_cmp", fun!(|a: [u8; 16], b: [u8; 16]| bytewise(&a, &b))),
    ("xid8cmp", fun!(|a: i64, b: i64| unsigned(a, b) as i32)),
    ("cash_cmp", fun!(|a: i64, b: i64| same(a, b) as i32)),
    ("pg_lsn_cmp", fun!(|a: i64, b: i64| unsigned(a, b) as i32)),
    (
        "btarraycmp",
        fun!(|a: &std::sync::Arc<ArrayValue>, b: &std::sync::Arc<ArrayValue>| { array_cmp(a, b) }),
    ),
    ("btrecordcmp", fun!(|a: &Datum, b: &Datum| records(a, b) as i32)),
    ("btrecordimagecmp", fun!(|a: &Datum, b: &Datum| records(a, b) as i32)),
];

fn xid_matches(a: u32, b: &Datum) -> bool {
    match b {
        Datum::Int4(b) => xid_int(a, *b),
        other => other.as_i64() == Some(i64::from(a)),
    }
}

/// `oidvector`s compare by length first.
fn vectors(a: &Datum, b: &Datum) -> Ordering {
    let (Datum::Array(a), Datum::Array(b)) = (a, b) else { return Ordering::Equal };
    a.elements.len().cmp(&b.elements.len()).then_with(|| compare_arrays(a, b))
}

const CHOICES: Table = &[
    ("int2larger", larger),
    ("int2smaller", smaller),
    ("int4larger", larger),
    ("int4smaller", smaller),
    ("int8larger", larger),
    ("int8smaller", smaller),
    ("float4larger", larger),
    ("float4smaller", smaller),
    ("float8larger", larger),
    ("float8smaller", smaller),
    ("numeric_larger", larger),
    ("numeric_smaller", smaller),
    ("text_larger", larger),
    ("text_smaller", smaller),
    ("bpchar_larger", larger),
    ("bpchar_smaller", smaller),
    ("oidlarger", larger),
    ("oidsmaller", smaller),
    ("array_larger", larger),
    ("array_smaller", smaller),
    ("cashlarger", larger),
    ("cashsmaller", smaller),
    ("xid8_larger", larger),
    ("xid8_smaller", smaller),
    ("pg_lsn_larger", larger),
    ("pg_lsn_smaller", smaller),
];

/// `RANGE offset PRECEDING/FOLLOWING`: compares `value` with `base ± offset`. Beyond the range of
/// the type the sum is beyond every value.
fn in_range_int(value: i64, base: i64, offset: i64, sub: bool, less: bool) -> Result<bool> {
    if offset < 0 {
        return Err(bad_offset());
    }
    let signed = if sub { -i128::from(offset) } else { i128::from(offset) };
    let bound = i128::from(base) + signed;
    let value = i128::from(value);
    Ok(if less { value <= bound } else { value >= bound })
}

fn bad_offset() -> PgError {
    PgError::new(
        SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE,
        "invalid preceding or following size in window function",
    )
}

fn in_range_float(value: f64, base: f64, offset: f64, sub: bool, less: bool) -> Result<bool> {
    if offset.is_nan() || offset < 0.0 {
        return Err(bad_offset());
    }
    if value.is_nan() || base.is_nan() {
        let both = value.is_nan() && base.is_nan();
        return Ok(both || (base.is_nan() == less));
    }
    if offset.is_infinite() && base.is_infinite() && (sub == (base > 0.0)) {
        return Ok(true);
    }
    let bound = if sub { base - offset } else { base + offset };
    Ok(if less { value <= bound } else { value >= bound })
}

fn in_range_numeric(
    value: &Numeric,
    base: &Numeric,
    offset: &Numeric,
    sub: bool,
    less: bool,
) -> Result<bool> {
    if offset.is_nan() || offset.signum() < 0 {
        return Err(bad_offset());
    }
    if value.is_nan() || base.is_nan() {
        let both = value.is_nan() && base.is_nan();
        return Ok(both || (base.is_nan() == less));
    }
    if offset.is_infinite() && base.is_infinite() && (sub == (base.signum() > 0)) {
        return Ok(true);
    }
    let bound = if sub { base.sub(offset)? } else { base.add(offset)? };
    let order = value.compare(&bound);
    Ok(if less { order.is_le() } else { order.is_ge() })
}

fn in_range_integers(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [v, b, o, Datum::Bool(sub), Datum::Bool(less)] = args else { return Err(mismatch(args)) };
    match (v.as_i64(), b.as_i64(), o.as_i64()) {
        (Some(v), Some(b), Some(o)) => in_range_int(v, b, o, *sub, *less).give(),
        _ => Err(mismatch(args)),
    }
}

const RANGES: Table = &[
    ("in_range_int2_int2", in_range_integers),
    ("in_range_int2_int4", in_range_integers),
    ("in_range_int2_int8", in_range_integers),
    ("in_range_int4_int2", in_range_integers),
    ("in_range_int4_int4", in_range_integers),
    ("in_range_int4_int8", in_range_integers),
    ("in_range_int8_int8", in_range_integers),
    (
        "in_range_float8_float8",
        fun!(|v: f64, b: f64, o: f64, sub: bool, less: bool| {
            in_range_float(v, b, o, sub, less)
        }),
    ),
    (
        "in_range_float4_float8",
        fun!(|v: f32, b: f32, o: f64, sub: bool, less: bool| {
            in_range_float(f64::from(v), f64::from(b), o, sub, less)
        }),
    ),
    (
        "in_range_numeric_numeric",
        fun!(|v: &Numeric, b: &Numeric, o: &Numeric, sub: bool, less: bool| {
            in_range_numeric(v, b, o, sub, less)
        }),
    ),
];

pub(crate) const TABLES: &[Table] = &[
    operators!("bool", bool, bool, same),
    operators!("int2", i16, i16, same),
    operators!("int4", i32, i32, same),
    operators!("int8", i64, i64, same),
    operators!("int24", i16, i32, wide),
    operators!("int28", i16, i64, wide),
    operators!("int42", i32, i16, wide),
    operators!("int48", i32, i64, wide),
    operators!("int82", i64, i16, wide),
    operators!("int84", i64, i32, wide),
    operators!("float4", f32, f32, float),
    operators!("float8", f64, f64, float),
    operators!("float48", f32, f64, float),
    operators!("float84", f64, f32, float),
    operators!("numeric_", &Numeric, &Numeric, numeric),
    operators!("oid", u32, u32, same),
    operators!("oidvector", &Datum, &Datum, vectors),
    operators!("char", &str, &str, same),
    operators!("name", &str, &str, same),
    &[
        ("nameeqtext", fun!(|a: &str, b: &str| a == b)),
        ("namenetext", fun!(|a: &str, b: &str| a != b)),
        ("namelttext", fun!(|a: &str, b: &str| a < b)),
        ("nameletext", fun!(|a: &str, b: &str| a <= b)),
        ("namegttext", fun!(|a: &str, b: &str| a > b)),
        ("namegetext", fun!(|a: &str, b: &str| a >= b)),
        ("texteqname", fun!(|a: &str, b: &str| a == b)),
        ("textnename", fun!(|a: &str, b: &str| a != b)),
        ("textltname", fun!(|a: &str, b: &str| a < b)),
        ("textlename", fun!(|a: &str, b: &str| a <= b)),
        ("textgtname", fun!(|a: &str, b: &str| a > b)),
        ("textgename", fun!(|a: &str, b: &str| a >= b)),
    ],
    operators!("bpchar", &str, &str, blank_padded),
    operators!("bpchar_pattern_", &str, &str, blank_padded),
    operators!("text_pattern_", &str, &str, same),
    operators!("bytea", &[u8], &[u8], same),
    operators!("uuid_", [u8; 16], [u8; 16], same),
    operators!("xid8", i64, i64, unsigned),
    operators!("pg_lsn_", i64, i64, unsigned),
    operators!("cash_", i64, i64, same),
    operators!("array_", &std::sync::Arc<ArrayValue>, &std::sync::Arc<ArrayValue>, arrays),
    operators!("record_", &Datum, &Datum, records),
    operators!("record_image_", &Datum, &Datum, records),
    IRREGULAR,
    CHOICES,
    RANGES,
];
