//! Advisory locks are counted: what a session locks twice it must unlock twice, and a transaction's
//! share ends with the transaction. The lock table knows only whether a session holds a mode.

use std::collections::BTreeMap;

use meridian_kv::locks::{AdvisoryKey, AdvisoryMode, Owner};
use parking_lot::Mutex;

/// Who will give a lock back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Session,
    Transaction,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    session: u32,
    transaction: u32,
}

impl Counts {
    fn of(&mut self, level: Level) -> &mut u32 {
        match level {
            Level::Session => &mut self.session,
            Level::Transaction => &mut self.transaction,
        }
    }
}

/// How often each session holds each advisory lock.
#[derive(Default)]
pub(crate) struct AdvisoryCounts {
    counts: Mutex<BTreeMap<(Owner, AdvisoryKey, AdvisoryMode), Counts>>,
}

impl AdvisoryCounts {
    /// The table granted (or had granted) the mode.
    pub(crate) fn add(&self, owner: Owner, key: AdvisoryKey, mode: AdvisoryMode, level: Level) {
        *self.counts.lock().entry((owner, key, mode)).or_default().of(level) += 1;
    }

    /// Gives one back; false when the session doesn't hold it at this level. `release` is told when it was
    /// the last one.
    pub(crate) fn remove(
        &self,
        owner: Owner,
        key: AdvisoryKey,
        mode: AdvisoryMode,
        level: Level,
        release: impl FnOnce(),
    ) -> bool {
        let mut all = self.counts.lock();
        let Some(counts) = all.get_mut(&(owner, key, mode)) else { return false };
        if *counts.of(level) == 0 {
            return false;
        }
        *counts.of(level) -= 1;
        if counts.session == 0 && counts.transaction == 0 {
            all.remove(&(owner, key, mode));
            release();
        }
        true
    }

    /// What a session holds at session level, with how often.
    pub(crate) fn of_session(&self, owner: Owner) -> Vec<(AdvisoryKey, AdvisoryMode, u32)> {
        let all = self.counts.lock();
        let mine = all.iter().filter(|((holder, ..), _)| holder.id == owner.id);
        mine.map(|((_, key, mode), counts)| (*key, *mode, counts.session)).collect()
    }
}
