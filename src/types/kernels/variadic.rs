//! `VARIADIC array` of functions that take any number of arguments of any types.
//!
//! The binder spreads an `ARRAY[…]` that is written out; any other array is spread here.

use super::call::mismatch;
use crate::{CallInfo, Datum, Kernel, PgType, Result, registry};

/// Calls the kernel with the elements of the last argument, or without any when that is NULL.
fn spread(kernel: &str, call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let Some((last, first)) = args.split_last() else { return Err(mismatch(args)) };
    let mut args = first.to_vec();
    let mut types = call.args[..first.len()].to_vec();
    if let Datum::Array(array) = last {
        args.extend(array.elements.iter().cloned());
        types.resize(args.len(), PgType::new(array.element_type));
    }
    let call = CallInfo { args: &types, ..*call };
    registry::scalar(kernel).ok_or_else(|| mismatch(&args))?(&call, &args)
}

fn null_or(kernel: &str, call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    match args.last() {
        Some(Datum::Null) => Ok(Datum::Null),
        _ => spread(kernel, call, args),
    }
}

/// By the functions' own names, marked.
pub(crate) const KERNELS: &[(&str, Kernel)] = &[
    ("variadic text_concat", |c, a| null_or("text_concat", c, a)),
    ("variadic text_concat_ws", |c, a| null_or("text_concat_ws", c, a)),
    ("variadic pg_num_nulls", |c, a| null_or("pg_num_nulls", c, a)),
    ("variadic pg_num_nonnulls", |c, a| null_or("pg_num_nonnulls", c, a)),
    ("variadic json_build_array", |c, a| null_or("json_build_array", c, a)),
    ("variadic jsonb_build_array", |c, a| null_or("jsonb_build_array", c, a)),
    ("variadic json_build_object", |c, a| null_or("json_build_object", c, a)),
    ("variadic jsonb_build_object", |c, a| null_or("jsonb_build_object", c, a)),
    ("variadic text_format", |c, a| spread("text_format", c, a)),
];
