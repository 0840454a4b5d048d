//! How the date and time kernels read their arguments.

use std::cmp::Ordering;

use crate::{Datum, Interval, PgError, Result};

fn mismatch(expected: &str, got: &Datum) -> PgError {
    PgError::internal(format!("kernel expected {expected}, got {got:?}"))
}

macro_rules! reader {
    ($(#[$doc:meta])* $name:ident, $ty:ty, $what:literal, $($pattern:pat => $value:expr),+) => {
        $(#[$doc])*
        pub(super) fn $name(d: &Datum) -> Result<$ty> {
            match d {
                $($pattern => Ok($value),)+
                other => Err(mismatch($what, other)),
            }
        }
    };
}

reader!(date, i32, "a date", Datum::Date(v) => *v);
reader!(time, i64, "a time", Datum::Time(v) => *v);
reader!(timetz, (i64, i32), "a timetz", Datum::TimeTz(t, z) => (*t, *z));
reader!(
    /// A timestamp with or without time zone.
    ts, i64, "a timestamp", Datum::Timestamp(v) | Datum::TimestampTz(v) => *v
);
reader!(span, Interval, "an interval", Datum::Interval(v) => *v);
reader!(int, i32, "an integer", Datum::Int4(v) => *v, Datum::Int2(v) => i32::from(*v));
reader!(float, f64, "a float8", Datum::Float8(v) => *v);
reader!(boolean, bool, "a boolean", Datum::Bool(v) => *v);
reader!(text, &str, "a text", Datum::Text(v) => v);

/// The order of `timetz`: the instant first, then the zone.
pub(super) fn timetz_cmp(a: (i64, i32), b: (i64, i32)) -> Ordering {
    let key = |(t, west): (i64, i32)| (t + i64::from(west) * 1_000_000, west);
    key(a).cmp(&key(b))
}
