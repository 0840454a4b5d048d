//! Row locks that are gone: with a lease, or because the leaseholder had given this node up for a while.
//!
//! Nobody tells a transaction. It learns from the next lock that it gets: that one is of another lease, or
//! of a leaseholder that doesn't know the transaction from before. Then it takes the others again. If
//! somebody has changed one of these rows meanwhile, or is about to, the transaction cannot go on: what it
//! read there under a lock is not so any more. It would overwrite what it should have waited for, or be
//! told that a key is taken which it had every right to.

use meridian_base::RangeId;
use meridian_kv::api::{Key, KvError, Strength, Timestamp, WaitPolicy};
use meridian_kv::range::Newest;

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

    /// Takes all row locks again.
    pub(crate) async fn regain_locks(&mut self) -> Result<(), KvError> {
        let held = self.state.locked_all();
        if held.len() > REGAIN_MAX {
            return Ok(());
        }
        'again: for _ in 0..ATTEMPTS {
            for lost in &held {
                let (newest, lease) = self.relock(&lost.key, lost.strength).await?;
                if newest > lost.seen {
                    return Err(KvError::CONCURRENT_UPDATE);
                }
                if self.note_lease(lease) {
                    continue 'again;
                }
            }
            return Ok(());
        }
        Err(KvError::CONCURRENT_UPDATE)
    }

    /// Takes one lock again, which must be free; and the row's newest version.
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
                match self.ask_lock(key, strength, WaitPolicy::NoWait).await? {
                    Some(locked) if locked.held => {
                        return Ok((Timestamp(locked.version), locked_in(&locked)));
                    }
                    Some(_) => return Err(KvError::CONCURRENT_UPDATE),
                    None => continue,
                }
            };
            let owner = self.state.owner();
            match self.core.locks.try_row(key, owner, strength, WaitPolicy::NoWait) {
                Ok(Acquired::Granted { .. } | Acquired::Reentrant) => {}
                Ok(Acquired::Unavailable) | Err(_) => return Err(KvError::CONCURRENT_UPDATE),
            }
            let newest = self.core.read.newest(key)?.map_or(Timestamp::MIN, |found| found.ts);
            if self.is_led_here(key, range, epoch) {
                return Ok((newest, LockedIn { range, epoch, guest: 0 }));
            }
        }
    }
}
