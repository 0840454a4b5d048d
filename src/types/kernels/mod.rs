//! The kernels, one module per family of types. A new family adds its module and a line to the
//! tables below.

mod aggregate;
mod aggregate_sets;
mod aggregate_stats;
mod arrays;
mod assign;
mod bytes;
mod call;
mod compare;
mod datetime_aggregate;
mod datetime_args;
mod datetime_arith;
mod datetime_compare;
mod datetime_make;
mod datetime_overlaps;
mod datetime_part;
#[cfg(test)]
mod datetime_tests;
mod datetime_trunc;
mod float;
mod formatting;
mod formatting_date_in;
mod formatting_date_out;
mod formatting_number;
mod formatting_number_in;
mod formatting_template;
mod groups;
mod hash;
mod identifier;
mod integer;
mod json_access;
mod json_aggregate;
mod json_build;
mod json_path;
mod json_record;
mod json_sets;
mod json_value;
mod keywords;
mod like;
mod misc;
mod numbers;
mod range_helpers;
mod regex;
mod regex_longest;
mod regex_syntax;
mod series;
#[cfg(test)]
mod tests;
mod text;
mod text_array;
mod text_quote;
mod unicode;
mod variadic;
mod vectors;

pub(crate) use groups::{AGGREGATE_GROUPS, SCALAR_GROUPS, SET_GROUPS};

pub(crate) use vectors::TABLES as VECTOR_TABLES;

use crate::registry::{AggregateKernel, Kernel, SetKernel};

/// Scalar kernels by `prosrc`.
pub(crate) const SCALAR_TABLES: &[&[(&str, Kernel)]] = &[
    assign::KERNELS,
    variadic::KERNELS,
    datetime_compare::DATES,
    datetime_compare::TIMES,
    datetime_compare::TIMETZS,
    datetime_compare::TIMESTAMPS,
    datetime_compare::INTERVALS,
    datetime_compare::DATE_TIMESTAMP,
    datetime_compare::TIMESTAMP_DATE,
    datetime_compare::DATE_TIMESTAMPTZ,
    datetime_compare::TIMESTAMPTZ_DATE,
    datetime_compare::TIMESTAMP_TIMESTAMPTZ,
    datetime_compare::TIMESTAMPTZ_TIMESTAMP,
    datetime_compare::OTHERS,
    datetime_overlaps::KERNELS,
    datetime_arith::ARITHMETIC,
    datetime_arith::CASTS,
    datetime_arith::ZONES,
    datetime_part::KERNELS,
    datetime_trunc::KERNELS,
    datetime_make::KERNELS,
    formatting::KERNELS,
    hash::KERNELS,
    identifier::KERNELS,
    range_helpers::KERNELS,
    unicode::KERNELS,
    json_access::PARTS,
    json_access::TESTS,
    json_access::CASTS,
    json_build::MAKERS,
    json_build::CHANGES,
    json_path::KERNELS,
    json_record::KERNELS,
];
/// Set-returning kernels by `prosrc`.
pub(crate) const SET_TABLES: &[&[(&str, SetKernel)]] =
    &[datetime_make::SETS, keywords::SETS, json_sets::SETS, json_path::SETS, json_record::SETS];
/// Aggregates by `name(argument types)`.
pub(crate) const AGGREGATE_TABLES: &[&[(&str, AggregateKernel)]] =
    &[datetime_aggregate::KERNELS, json_aggregate::KERNELS];
