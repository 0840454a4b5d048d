//! `numeric`: arbitrary precision decimals.
/// A `numeric` value (placeholder representation).
#[derive(Clone, Debug, PartialEq)]
pub struct Numeric(());
