//! Row locks that are gone: with a lease, or because the leaseholder had given this node up for a while.
//!
//! Nobody tells a transaction. It learns from the next lock that it gets: that one is of another lease, or
//! of a leaseholder that doesn't know the transaction from before. Then it takes the others again. If
//! somebody has changed one of these rows meanwhile, or is about to, the transaction cannot go on: what it
//! read there under a lock is not so any more. It would overwrite what it should have waited for, or be
//! told that a key is taken which it had every right to.

use meridian_kv::api::{Key, KvError, Strength, Timestamp, WaitPolicy};
use meridian_kv::range::Newest;

use super::Txn;
use crate::locking::Acquired;

/// Under which lease a lock is good, and as which guest of the leaseholder (0: it is this node).
pub(crate) type LockedIn = (u64, u64);

/// More locks than this are not taken again: the commit finds out what became of them.
const REGAIN_MAX: usize = 2_000;
/// A lease that moves more often than this while locks are taken again is too fast for them.
const ATTEMPTS: usize = 5;

impl Txn {
    /// A lock was granted under this lease: whether earlier ones were granted under another.
    pub(crate) fn note_lease(&mut self, lease: LockedIn) -> bool {
        let changed = self.locked_in.replace(lease).is_some_and(|before| before != lease);
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
            let Some(term) = self.core.lease.here(&self.core.hlc) else {
                match self.ask_lock(key, strength, WaitPolicy::NoWait).await? {
                    Some(locked) if locked.held => {
                        return Ok((Timestamp(locked.version), (locked.term, locked.guest)));
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
            if self.core.lease.here(&self.core.hlc) == Some(term) {
                return Ok((newest, (term, 0)));
            }
        }
    }
}
