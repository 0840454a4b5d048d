//! Row locks that are gone: with a lease, or because the leaseholder had given this node up for a while.
//!
//! Nobody tells a transaction. It learns from the next lock that it gets: that one is of another lease, or
//! of a leaseholder that doesn't know the transaction from before. Then, and when it finds at its commit that
//! locks are gone, it takes the others again, waiting for who has got them meanwhile. If somebody has changed
//! one of these rows, the transaction cannot go on: what it read there under a lock is not so any more. It
//! would overwrite what it should have waited for, or be told that a key is taken which it had every right
//! to. A statement of READ COMMITTED whose locks are all its own simply runs again.

use meridian_base::RangeId;
use meridian_kv::api::{Isolation, Key, KvError, Strength, Timestamp, WaitPolicy};
use meridian_kv::locks::LockMode;
use meridian_kv::range::Newest;
use meridian_kv::txn::{LockedKey, Write};

use super::Txn;
use crate::locking::Acquired;
use crate::remote::locked_in;

/// Under what a lock is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockedIn {
    pub(crate) range: RangeId,
    /// The lease of the range.
    pub(crate) epoch: u64,
    /// Which guest of the leaseholder the transaction is; 0 on the leaseholder itself.
    pub(crate) guest: u64,
}

/// More locks than this are not taken again: the commit finds out what became of them.
const REGAIN_MAX: usize = 2_000;
/// A lease that moves more often than this while locks are taken again is too fast for them.
const ATTEMPTS: usize = 5;

impl Txn {
    /// A lock was granted in a range: whether earlier ones there were granted under another lease.
    pub(crate) fn note_lease(&mut self, new: LockedIn) -> bool {
        let Some(known) = self.locked_in.iter_mut().find(|known| known.range == new.range) else {
            self.locked_in.push(new);
            return false;
        };
        let changed = *known != new;
        *known = new;
        self.locks_lost |= changed;
        changed
    }

    /// Does this node hold another lease, or none, where it held the one under which it has locks?
    pub(super) fn leases_have_moved(&self) -> bool {
        let core = &self.core;
        let epoch = |range: RangeId| core.ranges.get(range)?.lease.here(&core.hlc);
        let here = self.locked_in.iter().filter(|lock| lock.guest == 0);
        here.into_iter().any(|lock| epoch(lock.range) != Some(lock.epoch))
    }

    /// Takes all row locks again, and claims the keys of rows in bulk again.
    pub(crate) async fn regain_locks(&mut self) -> Result<(), KvError> {
        let held = self.state.locked_all();
        if held.len() > REGAIN_MAX {
            return Ok(());
        }
        'again: for _ in 0..ATTEMPTS {
            for lost in &held {
                let (version, lease) = self.relock(&lost.key, lost.strength).await?;
                if version > lost.seen {
                    return Err(self.changed_meanwhile());
                }
                if self.note_lease(lease) {
                    continue 'again;
                }
            }
            self.locks_lost = !self.claimed.is_empty() || !self.sent.is_empty();
            return Ok(());
        }
        Err(self.changed_meanwhile())
    }

    /// What a statement hears for whose locks another transaction has come in between. If it has all of the
    /// transaction's locks it forgets them and runs again.
    fn changed_meanwhile(&mut self) -> KvError {
        let alone = self.fresh && self.state.is_read_only();
        if !alone || self.state.isolation() != Isolation::ReadCommitted {
            return KvError::CONCURRENT_UPDATE;
        }
        self.release_rows();
        (self.locks_lost, self.fresh) = (false, true);
        self.locked_in.clear();
        KvError::StatementRetry
    }

    /// Takes the locks of writes again, here.
    pub(crate) async fn lock_writes_again(&mut self, writes: &[Write]) -> Result<(), KvError> {
        for write in writes {
            let held = self.state.locked(&write.key).map_or(0, |locked| locked.modes);
            let weak = write.value.is_some() && !Strength::Update.covered_by(held);
            let strength = if weak { Strength::NoKeyUpdate } else { Strength::Update };
            let (key, owner) = (&write.key, self.state.owner());
            match self.core.locks.try_row(key, owner, strength, WaitPolicy::Block) {
                Ok(Acquired::Granted { before }) => self.state.note_lock(key, strength, before),
                Ok(Acquired::Reentrant) => {}
                Ok(Acquired::Unavailable) => return Err(KvError::CONCURRENT_UPDATE),
                Err(queued) => {
                    let before = queued.wait(&self.limits).await?;
                    self.state.note_lock(key, strength, before);
                }
            }
        }
        Ok(())
    }

    /// A lock is held already, and so the newest version is the one that was seen. If it is another one,
    /// the lock was lost for a while, and nobody noticed.
    pub(crate) fn check_kept(
        &mut self,
        before: Option<LockedKey>,
        newest: Timestamp,
    ) -> Result<(), KvError> {
        let changed = |locked: LockedKey| {
            // Weaker ones let others change the row.
            let kept = Strength::Share.covered_by(locked.modes);
            kept && locked.newest > Timestamp::MIN && newest > locked.newest
        };
        if before.is_some_and(changed) { Err(self.changed_meanwhile()) } else { Ok(()) }
    }

    /// Takes one lock again, and looks at the row.
    async fn relock(
        &mut self,
        key: &Key,
        strength: Strength,
    ) -> Result<(Timestamp, LockedIn), KvError> {
        loop {
            let (range, epoch) = {
                let range = self.core.range_of(key);
                (range.id, range.lease.here(&self.core.hlc))
            };
            let Some(epoch) = epoch else {
                match self.ask_lock(key, strength, WaitPolicy::Block).await? {
                    Some(locked) if locked.held => {
                        return Ok((Timestamp(locked.version), locked_in(&locked)));
                    }
                    Some(_) => return Err(KvError::CONCURRENT_UPDATE),
                    None => continue,
                }
            };
            let owner = self.state.owner();
            match self.core.locks.try_row(key, owner, strength, WaitPolicy::Block) {
                Ok(Acquired::Granted { .. } | Acquired::Reentrant) => {}
                Ok(Acquired::Unavailable) => return Err(KvError::CONCURRENT_UPDATE),
                Err(queued) => drop(queued.wait(&self.limits).await?),
            }
            let newest = self.core.read.newest(key)?.map_or(Timestamp::MIN, |found| found.ts);
            if self.is_led_here(key, range, epoch) {
                return Ok((newest, LockedIn { range, epoch, guest: 0 }));
            }
        }
    }
}
