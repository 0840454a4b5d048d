//! Kernels by PostgreSQL's C names.
//!
//! The binder resolves a call to a row of `pg_proc` (see [`crate::builtin`]); that row's `prosrc`
//! (`int4pl`, `numeric_add`, `textcat` …) names the kernel. A function that PostgreSQL has and that
//! has no kernel here nor in [`crate::context::Host`] is answered with `0A000`, never with a wrong
//! value. Each family of types registers its kernels in a table of its own module
//! (`pub(crate) const KERNELS: &[(&str, Kernel)]`), and [`scalar`] looks through one map of them all.
//!
//! Strict functions (`proisstrict`) are not called with a NULL argument: the caller answers NULL.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::context::EvalContext;
use crate::{Datum, PgType, Result};

/// What a kernel may look at besides its arguments.
#[derive(Clone, Copy, Debug)]
pub struct CallInfo<'a> {
    /// Session and time.
    pub ctx: &'a EvalContext,
    /// Types of the arguments, as bound.
    pub args: &'a [PgType],
    /// Type of the result, as bound.
    pub ret: PgType,
}

/// A scalar function over single values.
pub type Kernel = fn(&CallInfo<'_>, &[Datum]) -> Result<Datum>;

/// A set-returning function: all rows of one call. A function with several output columns returns
/// [`Datum::Record`]s.
pub type SetKernel = fn(&CallInfo<'_>, &[Datum]) -> Result<Vec<Datum>>;

/// A strict scalar function over whole columns; a column of length one is a constant.
pub type VectorKernel =
    fn(&CallInfo<'_>, &[arrow::array::ArrayRef]) -> Result<arrow::array::ArrayRef>;

/// The running state of one aggregate over one group.
pub trait AggregateState: Send + Sync + std::fmt::Debug {
    /// Takes one row's arguments. Strict transition functions skip NULLs themselves.
    fn update(&mut self, call: &CallInfo<'_>, args: &[Datum]) -> Result<()>;

    /// The aggregate over the rows taken so far; may be called more than once (window frames).
    fn finish(&self, call: &CallInfo<'_>) -> Result<Datum>;

    /// Approximate heap bytes held, for memory accounting.
    fn size(&self) -> usize {
        64
    }
}

/// Makes the state of an aggregate.
pub type AggregateKernel = fn(&CallInfo<'_>) -> Box<dyn AggregateState>;

static SCALAR: LazyLock<BTreeMap<&'static str, Kernel>> = LazyLock::new(|| {
    let groups = crate::kernels::SCALAR_GROUPS.iter().copied().flatten();
    let tables = crate::kernels::SCALAR_TABLES.iter().chain(groups);
    tables.flat_map(|t| t.iter().copied()).collect()
});
static SETS: LazyLock<BTreeMap<&'static str, SetKernel>> = LazyLock::new(|| {
    let tables = crate::kernels::SET_TABLES.iter().chain(crate::kernels::SET_GROUPS);
    tables.flat_map(|t| t.iter().copied()).collect()
});
static AGGREGATES: LazyLock<BTreeMap<&'static str, AggregateKernel>> = LazyLock::new(|| {
    let tables = crate::kernels::AGGREGATE_TABLES.iter().chain(crate::kernels::AGGREGATE_GROUPS);
    tables.flat_map(|t| t.iter().copied()).collect()
});

static VECTORS: LazyLock<BTreeMap<&'static str, VectorKernel>> = LazyLock::new(|| {
    crate::kernels::VECTOR_TABLES.iter().flat_map(|t| t.iter().copied()).collect()
});

/// The column form of a scalar kernel, for the functions that have one. It gives NULL where an
/// argument is NULL, and the same values and errors as the scalar kernel elsewhere.
pub fn vectorised(prosrc: &str) -> Option<VectorKernel> {
    VECTORS.get(prosrc).copied()
}

/// The scalar kernel with this `prosrc`.
pub fn scalar(prosrc: &str) -> Option<Kernel> {
    SCALAR.get(prosrc).copied()
}

/// The set-returning kernel with this `prosrc`.
pub fn set_returning(prosrc: &str) -> Option<SetKernel> {
    SETS.get(prosrc).copied()
}

/// The aggregate with this key: the aggregate's name and its argument types as in
/// `pg_aggregate.aggfnoid`, for instance `sum(int4)`, `count()`, `array_agg(anynonarray)`.
pub fn aggregate(key: &str) -> Option<AggregateKernel> {
    AGGREGATES.get(key).copied()
}
