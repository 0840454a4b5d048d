//! Stored form of `numeric`.

use meridian_types::numeric::Numeric;
use meridian_types::{PgError, Result};

/// The bytes of a number.
pub(crate) fn to_bytes(_: &Numeric) -> Result<Vec<u8>> {
    Err(PgError::unsupported("storing type numeric is not supported yet"))
}

/// The number of some bytes.
pub(crate) fn from_bytes(_: &[u8]) -> Result<Numeric> {
    Err(PgError::unsupported("storing type numeric is not supported yet"))
}
