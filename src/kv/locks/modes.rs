//! Lock modes as bits, and PostgreSQL's conflict matrices.
//!
//! Rows (× = conflict):
//!
//! | | KeyShare | Share | NoKeyUpdate | Update |
//! |---|---|---|---|---|
//! | KeyShare | | | | × |
//! | Share | | | × | × |
//! | NoKeyUpdate | | × | × | × |
//! | Update | × | × | × | × |
//!
//! Every matrix is symmetric, which the tests assert; [`LockMode::covered_by`] relies on it.

use std::fmt::Debug;

use crate::api::{Strength, TableLockMode};

/// A set of modes, one bit each.
pub type ModeSet = u16;

/// A mode of one kind of lock.
pub trait LockMode: Copy + Debug + Eq + Ord + 'static {
    /// This mode's own bit.
    fn bit(self) -> ModeSet;
    /// The modes that another owner must not hold.
    fn conflicts(self) -> ModeSet;
    /// All modes, for tests and views.
    fn all() -> &'static [Self];
    /// The name in `pg_locks`.
    fn name(self) -> &'static str;

    /// Does an owner of `held` already keep away all that this mode would keep away?
    fn covered_by(self, held: ModeSet) -> bool {
        let wanted = self.conflicts();
        held & self.bit() != 0
            || (held != 0
                && Self::all()
                    .iter()
                    .filter(|mode| held & mode.bit() != 0)
                    .fold(0, |mask, mode| mask | mode.conflicts())
                    & wanted
                    == wanted)
    }
}

impl LockMode for Strength {
    #[inline]
    fn bit(self) -> ModeSet {
        1 << self as u16
    }

    #[inline]
    fn conflicts(self) -> ModeSet {
        match self {
            Strength::KeyShare => 0b1000,
            Strength::Share => 0b1100,
            Strength::NoKeyUpdate => 0b1110,
            Strength::Update => 0b1111,
        }
    }

    fn all() -> &'static [Strength] {
        &[Strength::KeyShare, Strength::Share, Strength::NoKeyUpdate, Strength::Update]
    }

    fn name(self) -> &'static str {
        match self {
            Strength::KeyShare => "KeyShare",
            Strength::Share => "Share",
            Strength::NoKeyUpdate => "NoKeyUpdate",
            Strength::Update => "Update",
        }
    }

    /// Strengths form a chain: a stronger one conflicts with all that a weaker one does.
    #[inline]
    fn covered_by(self, held: ModeSet) -> bool {
        held >= self.bit()
    }
}

impl LockMode for TableLockMode {
    #[inline]
    fn bit(self) -> ModeSet {
        1 << self as u16
    }

    #[inline]
    fn conflicts(self) -> ModeSet {
        match self {
            TableLockMode::AccessShare => 0b1000_0000,
            TableLockMode::RowShare => 0b1100_0000,
            TableLockMode::RowExclusive => 0b1111_0000,
            TableLockMode::ShareUpdateExclusive => 0b1111_1000,
            TableLockMode::Share => 0b1110_1100,
            TableLockMode::ShareRowExclusive => 0b1111_1100,
            TableLockMode::Exclusive => 0b1111_1110,
            TableLockMode::AccessExclusive => 0b1111_1111,
        }
    }

    fn all() -> &'static [TableLockMode] {
        &TableLockMode::ALL
    }

    fn name(self) -> &'static str {
        TableLockMode::name(self)
    }
}

/// An advisory lock's key: database, and the two numbers and the form of `pg_advisory_lock`
/// (`objsubid` 1 for one bigint, 2 for two ints).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdvisoryKey {
    /// The database; locks of different databases are different locks.
    pub database: u32,
    /// High half of the bigint, or the first int.
    pub classid: u32,
    /// Low half of the bigint, or the second int.
    pub objid: u32,
    /// 1 or 2: which form.
    pub objsubid: u32,
}

/// Modes of advisory locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdvisoryMode {
    /// `pg_advisory_lock_shared`.
    Shared,
    /// `pg_advisory_lock`.
    Exclusive,
}

impl LockMode for AdvisoryMode {
    fn bit(self) -> ModeSet {
        1 << self as u16
    }

    fn conflicts(self) -> ModeSet {
        match self {
            AdvisoryMode::Shared => 0b10,
            AdvisoryMode::Exclusive => 0b11,
        }
    }

    fn all() -> &'static [AdvisoryMode] {
        &[AdvisoryMode::Shared, AdvisoryMode::Exclusive]
    }

    fn name(self) -> &'static str {
        match self {
            AdvisoryMode::Shared => "ShareLock",
            AdvisoryMode::Exclusive => "ExclusiveLock",
        }
    }
}
