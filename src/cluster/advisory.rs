//! Advisory locks are counted: what a session locks twice it must unlock twice, and a transaction's
//! share ends with the transaction. The lock table knows only whether a session holds a mode.
//!
//! In a cluster the table is at the leaseholder of the first range, and is lost with the lease. What
//! sessions hold is known here, at their node, and said again to the next leaseholder
//! ([`crate::remote`] has the rules): `told` is the newest lease under which that was done, and
//! `good_until` the time up to which no leaseholder gives these locks to others.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_base::Instant;
use meridian_kv::locks::{AdvisoryKey, AdvisoryMode, Owner};
use parking_lot::Mutex;

/// For how long after a word of the leaseholder a node may count on its sessions' locks. Half of it ends
/// sessions when a failover takes a little longer than usual; with twice of it nobody gets an advisory
/// lock for so much longer after a node has died.
pub(crate) const HOLD: Duration = Duration::from_secs(4);

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

/// One lock of one session.
pub(crate) type Holding = (Owner, AdvisoryKey, AdvisoryMode);

#[derive(Default)]
struct Standing {
    counts: BTreeMap<Holding, Counts>,
    told: u64,
    good_until: Option<Instant>,
}

impl Standing {
    fn has_expired(&self, now: Instant) -> bool {
        self.good_until <= Some(now)
    }

    fn lose_all(&mut self) -> Vec<Holding> {
        std::mem::take(&mut self.counts).into_keys().collect()
    }
}

/// A lock that a leaseholder has granted.
pub(crate) struct Granted {
    /// By which lease.
    pub(crate) epoch: u64,
    /// When it was asked for, or before.
    pub(crate) asked: Instant,
    pub(crate) holding: Holding,
    pub(crate) level: Level,
}

/// What becomes of a grant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// The session holds it. Sessions have lost what is named: a leaseholder has waited for this node in
    /// vain, and it has given their locks up.
    Held(Vec<Holding>),
    /// It is too old to count on: it must be asked for again.
    Stale,
}

/// How often each session holds each advisory lock.
#[derive(Default)]
pub(crate) struct AdvisoryCounts {
    standing: Mutex<Standing>,
}

impl AdvisoryCounts {
    /// The table, which is here and stays here, granted (or had granted) the mode.
    pub(crate) fn add(&self, holding: Holding, level: Level) {
        *self.standing.lock().counts.entry(holding).or_default().of(level) += 1;
    }

    /// A leaseholder has granted a lock.
    pub(crate) fn accept(&self, granted: Granted, now: Instant) -> Accepted {
        let mut standing = self.standing.lock();
        let good_until = granted.asked + HOLD;
        if granted.epoch < standing.told || good_until <= now {
            return Accepted::Stale;
        }
        let given_up = granted.epoch > standing.told || standing.has_expired(now);
        let lost = if given_up { standing.lose_all() } else { Vec::new() };
        standing.told = granted.epoch;
        standing.good_until = standing.good_until.max(Some(good_until));
        *standing.counts.entry(granted.holding).or_default().of(granted.level) += 1;
        Accepted::Held(lost)
    }

    /// A new leaseholder asks what is held; `None`: a newer one has asked already.
    pub(crate) fn tell(&self, epoch: u64) -> Option<Vec<Holding>> {
        let mut standing = self.standing.lock();
        if epoch < standing.told {
            return None;
        }
        standing.told = epoch;
        Some(standing.counts.keys().copied().collect())
    }

    /// The newest lease under which this node's locks are known.
    pub(crate) fn told(&self) -> u64 {
        self.standing.lock().told
    }

    /// Is it time to have the leaseholder's word again?
    pub(crate) fn wants_word(&self, now: Instant) -> bool {
        let standing = self.standing.lock();
        let soon = Some(now + HOLD * 3 / 4);
        !standing.counts.is_empty() && standing.good_until < soon
    }

    /// The leaseholder still knew, after `asked`. What has expired in the meantime stays lost.
    pub(crate) fn good(&self, epoch: u64, asked: Instant, now: Instant) {
        let mut standing = self.standing.lock();
        if standing.told == epoch && !standing.has_expired(now) {
            standing.good_until = standing.good_until.max(Some(asked + HOLD));
        }
    }

    /// What can't be counted on any more, and is lost from now on.
    pub(crate) fn expire(&self, now: Instant) -> Vec<Holding> {
        let mut standing = self.standing.lock();
        if standing.has_expired(now) { standing.lose_all() } else { Vec::new() }
    }

    /// Does the session hold it?
    pub(crate) fn holds(&self, holding: &Holding) -> bool {
        self.standing.lock().counts.contains_key(holding)
    }

    /// Gives one back; `None` when the session doesn't hold it at this level, else whether it was the last.
    pub(crate) fn remove(&self, holding: &Holding, level: Level) -> Option<bool> {
        let mut standing = self.standing.lock();
        let counts = standing.counts.get_mut(holding)?;
        if *counts.of(level) == 0 {
            return None;
        }
        *counts.of(level) -= 1;
        let last = counts.session == 0 && counts.transaction == 0;
        if last {
            standing.counts.remove(holding);
        }
        Some(last)
    }

    /// What a session holds at session level, with how often.
    pub(crate) fn of_session(&self, owner: Owner) -> Vec<(AdvisoryKey, AdvisoryMode, u32)> {
        let standing = self.standing.lock();
        let mine = standing.counts.iter().filter(|((holder, ..), _)| holder.id == owner.id);
        mine.map(|((_, key, mode), counts)| (*key, *mode, counts.session)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(epoch: u64, asked: u64, object: u32) -> Granted {
        let key = AdvisoryKey { database: 1, classid: 0, objid: object, objsubid: 1 };
        let holding = (Owner::transaction(9, 3).session_level(), key, AdvisoryMode::Exclusive);
        Granted { epoch, asked: at(asked), holding, level: Level::Session }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_grant_counts_only_under_the_newest_lease_and_while_it_is_fresh() {
        let counts = AdvisoryCounts::default();
        assert_eq!(counts.tell(7), Some(vec![]));
        assert_eq!(counts.accept(grant(6, 10, 1), at(10)), Accepted::Stale, "said without it");
        assert_eq!(counts.accept(grant(7, 5, 1), at(10)), Accepted::Stale, "given up meanwhile?");
        assert_eq!(counts.accept(grant(7, 10, 1), at(11)), Accepted::Held(vec![]));
        assert_eq!(counts.tell(6), None);
        let held = vec![grant(7, 0, 1).holding];
        assert_eq!(counts.tell(8), Some(held.clone()));
        // A third leaseholder has not asked, and grants: it has waited for this node in vain.
        assert_eq!(counts.accept(grant(9, 12, 2), at(12)), Accepted::Held(held.clone()));
        assert!(!counts.holds(&held[0]) && counts.holds(&grant(9, 0, 2).holding));
    }

    #[test]
    fn without_the_leaseholders_word_locks_are_lost() {
        let counts = AdvisoryCounts::default();
        assert!(counts.expire(at(0)).is_empty());
        assert_eq!(counts.accept(grant(7, 10, 1), at(10)), Accepted::Held(vec![]));
        assert!(!counts.wants_word(at(10)) && counts.wants_word(at(12)));
        counts.good(6, at(13), at(13));
        counts.good(7, at(12), at(13));
        assert!(counts.expire(at(15)).is_empty());
        counts.good(7, at(15), at(16));
        assert_eq!(counts.expire(at(16)), [grant(7, 0, 1).holding], "that word came too late");
        assert!(!counts.wants_word(at(17)), "nothing is held any more");
    }
}
