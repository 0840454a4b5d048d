//! The kernels, one module per family of types. A new family adds its module and a line to the
//! tables below.

use crate::registry::{AggregateKernel, Kernel, SetKernel};

/// Scalar kernels by `prosrc`.
pub(crate) const SCALAR_TABLES: &[&[(&str, Kernel)]] = &[];
/// Set-returning kernels by `prosrc`.
pub(crate) const SET_TABLES: &[&[(&str, SetKernel)]] = &[];
/// Aggregates by `name(argument types)`.
pub(crate) const AGGREGATE_TABLES: &[&[(&str, AggregateKernel)]] = &[];
