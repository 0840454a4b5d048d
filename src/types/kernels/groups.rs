//! The families whose modules hold several tables each, gathered for [`crate::registry`].

use crate::registry::{AggregateKernel, Kernel, SetKernel};

/// Scalar kernels by `prosrc`.
pub(crate) const SCALAR_GROUPS: &[&[&[(&str, Kernel)]]] = &[
    super::arrays::TABLES,
    super::regex::TABLES,
    super::misc::TABLES,
    super::compare::TABLES,
    super::integer::TABLES,
    super::float::TABLES,
    super::numbers::TABLES,
    super::text::TABLES,
    super::text_quote::TABLES,
    super::text_array::TABLES,
    super::like::TABLES,
    super::bytes::TABLES,
];

/// Set-returning kernels by `prosrc`.
pub(crate) const SET_GROUPS: &[&[(&str, SetKernel)]] =
    &[super::series::KERNELS, super::text_array::SETS, super::arrays::SETS, super::regex::SETS];

/// Aggregates by `name(argument types)`.
pub(crate) const AGGREGATE_GROUPS: &[&[(&str, AggregateKernel)]] = &[
    super::aggregate::BASIC,
    super::aggregate::EXTREMES,
    super::aggregate_sets::KERNELS,
    super::aggregate_stats::PAIRS,
    super::aggregate_stats::VARIANCES,
];
