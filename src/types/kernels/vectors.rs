//! Hot kernels over whole columns of native types.
//!
//! All are strict: a NULL on either side gives NULL. A column of length one beside a longer one
//! is a constant. Where Arrow's own order is not PostgreSQL's (floats: `-0 = 0`, NaN equals
//! itself) the comparison is spelled out.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Datum as ArrowDatum,
    PrimitiveArray, Scalar,
};
use arrow::compute::kernels::cmp;
use arrow::datatypes::{Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};
use arrow::error::ArrowError;

use super::call::{division_by_zero, out_of_range};
use crate::order::compare_f64;
use crate::registry::VectorKernel;
use crate::{PgError, Result};

fn two(args: &[ArrayRef]) -> Result<(&ArrayRef, &ArrayRef)> {
    match args {
        [a, b] => Ok((a, b)),
        _ => Err(PgError::internal("a vector kernel takes two columns")),
    }
}

fn typed<T: ArrowPrimitiveType>(array: &ArrayRef) -> Result<&PrimitiveArray<T>> {
    array.as_primitive_opt::<T>().ok_or_else(|| {
        PgError::internal(format!("vector kernel over a column of {}", array.data_type()))
    })
}

/// The value of a constant column beside a longer one.
fn constant<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    other: usize,
) -> Option<Option<T::Native>> {
    (array.len() == 1 && other != 1).then(|| array.is_valid(0).then(|| array.value(0)))
}

/// Applies a fallible operation to all rows where both sides have a value.
fn arithmetic<T: ArrowPrimitiveType>(
    args: &[ArrayRef],
    op: impl Fn(T::Native, T::Native) -> Result<T::Native, ArrowError>,
    overflow: &'static str,
) -> Result<ArrayRef> {
    let (a, b) = two(args)?;
    let (a, b) = (typed::<T>(a)?, typed::<T>(b)?);
    let all_null = |rows| Ok(PrimitiveArray::<T>::new_null(rows));
    let result = match (constant(a, b.len()), constant(b, a.len())) {
        (Some(Some(x)), _) => b.try_unary(|y| op(x, y)),
        (Some(None), _) => all_null(b.len()),
        (_, Some(Some(y))) => a.try_unary(|x| op(x, y)),
        (_, Some(None)) => all_null(a.len()),
        (None, None) => arrow::compute::try_binary(a, b, &op),
    };
    match result {
        Ok(array) => Ok(Arc::new(array)),
        Err(ArrowError::DivideByZero) => Err(division_by_zero()),
        Err(ArrowError::CDataInterface(_)) => Err(out_of_range("value out of range: underflow")),
        Err(ArrowError::ArithmeticOverflow(_)) => Err(out_of_range(overflow)),
        Err(e) => Err(PgError::internal(e.to_string())),
    }
}

fn overflow() -> ArrowError {
    ArrowError::ArithmeticOverflow(String::new())
}

fn underflow() -> ArrowError {
    // A kind that no operation here raises otherwise.
    ArrowError::CDataInterface(String::new())
}

macro_rules! integers {
    ($prefix:literal, $arrow:ty, $name:literal) => {
        &[
            (concat!($prefix, "pl"), |_, args| {
                arithmetic::<$arrow>(args, |a, b| a.checked_add(b).ok_or_else(overflow), $name)
            }),
            (concat!($prefix, "mi"), |_, args| {
                arithmetic::<$arrow>(args, |a, b| a.checked_sub(b).ok_or_else(overflow), $name)
            }),
            (concat!($prefix, "mul"), |_, args| {
                arithmetic::<$arrow>(args, |a, b| a.checked_mul(b).ok_or_else(overflow), $name)
            }),
            (concat!($prefix, "div"), |_, args| {
                let op = |a: <$arrow as ArrowPrimitiveType>::Native, b| match b {
                    0 => Err(ArrowError::DivideByZero),
                    b => a.checked_div(b).ok_or_else(overflow),
                };
                arithmetic::<$arrow>(args, op, $name)
            }),
            (concat!($prefix, "mod"), |_, args| {
                let op = |a: <$arrow as ArrowPrimitiveType>::Native, b| match b {
                    0 => Err(ArrowError::DivideByZero),
                    b => Ok(a.wrapping_rem(b)),
                };
                arithmetic::<$arrow>(args, op, $name)
            }),
        ]
    };
}

/// The checks of float arithmetic: see the single-value kernels.
fn checked(v: f64, infinite_ok: bool, zero_ok: bool) -> Result<f64, ArrowError> {
    if v.is_infinite() && !infinite_ok {
        return Err(overflow());
    }
    if v == 0.0 && !zero_ok {
        return Err(underflow());
    }
    Ok(v)
}

const FLOAT_OVERFLOW: &str = "value out of range: overflow";

fn float8(args: &[ArrayRef], op: impl Fn(f64, f64) -> Result<f64, ArrowError>) -> Result<ArrayRef> {
    arithmetic::<Float64Type>(args, op, FLOAT_OVERFLOW)
}

const FLOATS: &[(&str, VectorKernel)] = &[
    ("float8pl", |_, args| {
        float8(args, |a, b| checked(a + b, a.is_infinite() || b.is_infinite(), true))
    }),
    ("float8mi", |_, args| {
        float8(args, |a, b| checked(a - b, a.is_infinite() || b.is_infinite(), true))
    }),
    ("float8mul", |_, args| {
        float8(args, |a, b| {
            checked(a * b, a.is_infinite() || b.is_infinite(), a == 0.0 || b == 0.0)
        })
    }),
    ("float8div", |_, args| {
        float8(args, |a, b| {
            if b == 0.0 && !a.is_nan() {
                return Err(ArrowError::DivideByZero);
            }
            checked(a / b, a.is_infinite(), a == 0.0 || b.is_infinite())
        })
    }),
];

type ArrowCompare = fn(&dyn ArrowDatum, &dyn ArrowDatum) -> Result<BooleanArray, ArrowError>;

/// Comparison of integers, booleans, oids and text, whose order Arrow shares.
fn compare(args: &[ArrayRef], op: ArrowCompare) -> Result<ArrayRef> {
    let (a, b) = two(args)?;
    let result = match (a.len() == 1 && b.len() != 1, b.len() == 1 && a.len() != 1) {
        (true, _) => op(&Scalar::new(a), b),
        (_, true) => op(a, &Scalar::new(b)),
        _ => op(a, b),
    };
    result.map(|r| Arc::new(r) as ArrayRef).map_err(|e| PgError::internal(e.to_string()))
}

fn compare_floats<T>(args: &[ArrayRef], want: fn(Ordering) -> bool) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType,
    T::Native: Into<f64>,
{
    let (a, b) = two(args)?;
    let (a, b) = (typed::<T>(a)?, typed::<T>(b)?);
    let test = |x: T::Native, y: T::Native| want(compare_f64(x.into(), y.into()));
    let result = match (constant(a, b.len()), constant(b, a.len())) {
        (Some(Some(x)), _) => BooleanArray::from_unary(b, |y| test(x, y)),
        (_, Some(Some(y))) => BooleanArray::from_unary(a, |x| test(x, y)),
        (Some(None), _) => BooleanArray::new_null(b.len()),
        (_, Some(None)) => BooleanArray::new_null(a.len()),
        (None, None) => BooleanArray::from_binary(a, b, test),
    };
    Ok(Arc::new(result))
}

macro_rules! comparisons {
    ($prefix:literal) => {
        comparisons!(
            concat!($prefix, "eq"),
            concat!($prefix, "ne"),
            concat!($prefix, "lt"),
            concat!($prefix, "le"),
            concat!($prefix, "gt"),
            concat!($prefix, "ge")
        )
    };
    ($eq:expr, $ne:expr, $lt:expr, $le:expr, $gt:expr, $ge:expr) => {
        &[
            ($eq, |_, args| compare(args, cmp::eq)),
            ($ne, |_, args| compare(args, cmp::neq)),
            ($lt, |_, args| compare(args, cmp::lt)),
            ($le, |_, args| compare(args, cmp::lt_eq)),
            ($gt, |_, args| compare(args, cmp::gt)),
            ($ge, |_, args| compare(args, cmp::gt_eq)),
        ]
    };
}

macro_rules! float_comparisons {
    ($prefix:literal, $arrow:ty) => {
        &[
            (concat!($prefix, "eq"), |_, args| compare_floats::<$arrow>(args, Ordering::is_eq)),
            (concat!($prefix, "ne"), |_, args| compare_floats::<$arrow>(args, Ordering::is_ne)),
            (concat!($prefix, "lt"), |_, args| compare_floats::<$arrow>(args, Ordering::is_lt)),
            (concat!($prefix, "le"), |_, args| compare_floats::<$arrow>(args, Ordering::is_le)),
            (concat!($prefix, "gt"), |_, args| compare_floats::<$arrow>(args, Ordering::is_gt)),
            (concat!($prefix, "ge"), |_, args| compare_floats::<$arrow>(args, Ordering::is_ge)),
        ]
    };
}

pub(crate) const TABLES: &[&[(&str, VectorKernel)]] = &[
    integers!("int2", Int16Type, "smallint out of range"),
    integers!("int4", Int32Type, "integer out of range"),
    integers!("int8", Int64Type, "bigint out of range"),
    FLOATS,
    comparisons!("int2"),
    comparisons!("int4"),
    comparisons!("int8"),
    comparisons!("bool"),
    comparisons!("oid"),
    comparisons!("date_"),
    comparisons!("timestamp_"),
    comparisons!("timestamptz_"),
    comparisons!("time_"),
    comparisons!("name"),
    comparisons!("texteq", "textne", "text_lt", "text_le", "text_gt", "text_ge"),
    comparisons!("uuid_"),
    float_comparisons!("float4", Float32Type),
    float_comparisons!("float8", Float64Type),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrow::from_datums;
    use crate::{CallInfo, Datum, EvalContext, PgType, oid, registry};

    #[test]
    fn columns_compute_as_values_do() {
        let ctx = EvalContext::bare();
        let int4 = PgType::new(oid::INT4);
        let call = CallInfo { ctx: &ctx, args: &[int4, int4], ret: int4 };
        let column = |v: &[Datum]| from_datums(int4, v).expect("column");
        let a = column(&[Datum::Int4(1), Datum::Null, Datum::Int4(i32::MAX)]);
        let one = column(&[Datum::Int4(1)]);
        let run =
            |name: &str, args: &[ArrayRef]| registry::vectorised(name).expect(name)(&call, args);
        let sum = run("int4mi", &[Arc::clone(&a), Arc::clone(&one)]).expect("differences");
        assert_eq!(&sum, &column(&[Datum::Int4(0), Datum::Null, Datum::Int4(i32::MAX - 1)]));
        let error = run("int4pl", &[a, Arc::clone(&one)]).expect_err("overflow");
        assert_eq!(error.fields().message, "integer out of range");
        let zero = column(&[Datum::Int4(0)]);
        let error = run("int4div", &[one, zero]).expect_err("zero");
        assert_eq!(error.fields().message, "division by zero");
    }
}
