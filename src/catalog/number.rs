//! Stored form of `numeric`: the type's own compact bytes.

use meridian_types::Result;
use meridian_types::numeric::Numeric;

/// The bytes of a number.
pub(crate) fn to_bytes(v: &Numeric) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    v.encode(&mut out);
    out
}

/// The number of some bytes.
pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Numeric> {
    Numeric::decode(bytes)
}
