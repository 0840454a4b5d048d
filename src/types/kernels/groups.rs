//! The families whose modules hold several tables each, gathered for [`crate::registry`].

use crate::registry::Kernel;

/// Scalar kernels by `prosrc`.
pub(crate) const SCALAR_GROUPS: &[&[&[(&str, Kernel)]]] =
    &[super::compare::TABLES, super::integer::TABLES, super::float::TABLES, super::numbers::TABLES];
