//! A point in the order of writes: 52 bits of microseconds since the Unix epoch, 12 bits of count.
//!
//! ```text
//!  63                                             12 11          0
//! | microseconds since 1970-01-01 (until 2112)      |  logical    |
//! ```
//! Comparing two timestamps is comparing two integers. The logical part lets 4,096 events share one
//! microsecond; beyond that the next event borrows from the wall part, which then runs ahead of the
//! clock by a microsecond (see [`crate::Hlc`]).

use std::fmt;

/// Bits of the logical counter.
const LOGICAL_BITS: u32 = 12;

/// A point in the order of writes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Before every write.
    pub const MIN: Self = Self(0);
    /// After every write: a read here sees the newest version.
    pub const MAX: Self = Self(u64::MAX);

    /// The first timestamp of a microsecond.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros << LOGICAL_BITS)
    }

    /// The wall part: microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }

    /// The logical part.
    #[must_use]
    pub const fn logical(self) -> u16 {
        (self.0 & ((1 << LOGICAL_BITS) - 1)) as u16
    }

    /// The next timestamp; saturates at [`Timestamp::MAX`].
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The timestamp just before; saturates at [`Timestamp::MIN`].
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.micros() / 1_000_000, self.micros() % 1_000_000)?;
        write!(f, ",{}", self.logical())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
