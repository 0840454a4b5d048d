//! A type as the binder sees it: oid and type modifier.

use crate::oid::Oid;

/// A PostgreSQL type with its modifier.
///
/// `typmod` is PostgreSQL's: −1 for none; for `varchar(n)`, `char(n)` it is `n + 4`; for
/// `numeric(p, s)` it is `((p << 16) | (s & 0x7ff)) + 4`; for `timestamp(p)` and `time(p)` it is
/// `p`; for `interval` fields and precision as in PostgreSQL's `INTERVAL_TYPMOD`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct PgType {
    /// Row of `pg_type`.
    pub oid: Oid,
    /// Type modifier, −1 when there is none.
    pub typmod: i32,
}

impl PgType {
    /// The type with no modifier.
    pub const fn new(oid: Oid) -> PgType {
        PgType { oid, typmod: -1 }
    }

    /// The type with a modifier.
    pub const fn with_typmod(oid: Oid, typmod: i32) -> PgType {
        PgType { oid, typmod }
    }
}
