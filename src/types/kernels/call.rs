//! From typed Rust functions to kernels.
//!
//! [`fun!`] makes a [`crate::Kernel`] of a closure with typed parameters: it takes the arguments
//! apart with [`Take`] and wraps the answer with [`Give`], so that tables of kernels read like
//! tables of definitions: `("int4abs", fun!(|a: i32| …))`.

use std::sync::Arc;

use crate::numeric::Numeric;
use crate::oid::Oid;
use crate::{ArrayValue, Datum, PgError, Result, SqlState};

/// An argument type.
pub(crate) trait Take<'a>: Sized {
    /// The argument, if the datum is of the kind.
    fn take(datum: &'a Datum) -> Option<Self>;
}

macro_rules! take {
    ($($t:ty: $pattern:pat => $value:expr;)*) => { $(
        impl<'a> Take<'a> for $t {
            fn take(datum: &'a Datum) -> Option<$t> {
                match datum {
                    $pattern => Some($value),
                    _ => None,
                }
            }
        }
    )* };
}

take! {
    bool: Datum::Bool(v) => *v;
    i16: Datum::Int2(v) => *v;
    i32: Datum::Int4(v) => *v;
    i64: Datum::Int8(v) => *v;
    f32: Datum::Float4(v) => *v;
    f64: Datum::Float8(v) => *v;
    Oid: Datum::Oid(v) => *v;
    [u8; 16]: Datum::Uuid(v) => *v;
    &'a Numeric: Datum::Numeric(v) => v;
    &'a str: Datum::Text(v) => &**v;
    &'a Arc<str>: Datum::Text(v) => v;
    &'a [u8]: Datum::Bytea(v) => v;
    &'a Arc<ArrayValue>: Datum::Array(v) => v;
}

impl<'a> Take<'a> for &'a Datum {
    fn take(datum: &'a Datum) -> Option<&'a Datum> {
        Some(datum)
    }
}

/// A result type.
pub(crate) trait Give {
    /// The result as a datum.
    fn give(self) -> Result<Datum>;
}

macro_rules! give {
    ($($t:ty: $v:ident => $datum:expr;)*) => { $(
        impl Give for $t {
            fn give(self) -> Result<Datum> {
                let $v = self;
                Ok($datum)
            }
        }
    )* };
}

give! {
    Datum: v => v;
    bool: v => Datum::Bool(v);
    i16: v => Datum::Int2(v);
    i32: v => Datum::Int4(v);
    i64: v => Datum::Int8(v);
    f32: v => Datum::Float4(v);
    f64: v => Datum::Float8(v);
    Oid: v => Datum::Oid(v);
    [u8; 16]: v => Datum::Uuid(v);
    Numeric: v => Datum::Numeric(v);
    String: v => Datum::Text(v.into());
    &str: v => Datum::text(v);
    Arc<str>: v => Datum::Text(v);
    Vec<u8>: v => Datum::Bytea(v.into());
    ArrayValue: v => Datum::Array(Arc::new(v));
}

impl<T: Give> Give for Result<T> {
    fn give(self) -> Result<Datum> {
        self?.give()
    }
}

impl<T: Give> Give for Option<T> {
    fn give(self) -> Result<Datum> {
        self.map_or(Ok(Datum::Null), Give::give)
    }
}

/// The caller passed arguments of other types than the function has.
pub(crate) fn mismatch(args: &[Datum]) -> PgError {
    PgError::internal(format!("kernel called with wrong arguments: {args:?}"))
}

/// A length or position for SQL.
pub(crate) fn len_i32(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// `22023`
pub(crate) fn invalid_parameter(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// `22003`
pub(crate) fn out_of_range(message: &str) -> PgError {
    PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
}

/// `22012`
pub(crate) fn division_by_zero() -> PgError {
    PgError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

macro_rules! fun {
    (|$($arg:ident: $t:ty),* $(,)?| $body:expr) => {
        $crate::kernels::call::fun!(_call, |$($arg: $t),*| $body)
    };
    ($call:ident, |$($arg:ident: $t:ty),* $(,)?| $body:expr) => {{
        fn kernel(
            $call: &$crate::CallInfo<'_>,
            args: &[$crate::Datum],
        ) -> $crate::Result<$crate::Datum> {
            let [$($arg),*] = args else { return Err($crate::kernels::call::mismatch(args)) };
            $(let Some($arg) = <$t as $crate::kernels::call::Take>::take($arg) else {
                return Err($crate::kernels::call::mismatch(args));
            };)*
            $crate::kernels::call::Give::give($body)
        }
        kernel as $crate::Kernel
    }};
}
pub(crate) use fun;
