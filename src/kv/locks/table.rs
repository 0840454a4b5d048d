//! The table itself: keys to holders and queues.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use smallvec::SmallVec;

use super::{LockMode, ModeSet, Owner};
use crate::api::WaitPolicy;

/// Names one request that may come to wait; given by the caller, unique over all tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// What one owner holds on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub owner: Owner,
    /// Which modes.
    pub modes: ModeSet,
}

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued<M> {
    /// Names the request.
    pub waiter: WaiterId,
    /// Who.
    pub owner: Owner,
    /// Which mode.
    pub mode: M,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquire {
    /// The owner has held this very mode already; nothing to undo.
    Reentrant,
    /// Granted. `before` is what the owner held till now: give it to [`LockTable::restore`] to undo.
    Granted {
        /// What was held before; 0 = nothing.
        before: ModeSet,
    },
    /// In the queue; a later [`Grant`] names the waiter.
    Queued,
    /// Not free, and the policy is not to wait.
    Unavailable,
}

/// A waiter that a release let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant<K> {
    /// The request.
    pub waiter: WaiterId,
    /// Who.
    pub owner: Owner,
    /// On which key.
    pub key: K,
    /// What the owner held before; as in [`Acquire::Granted`].
    pub before: ModeSet,
}

#[derive(Clone, Debug)]
struct KeyState<M> {
    holders: SmallVec<[Held; 2]>,
    queue: VecDeque<Queued<M>>,
}

impl<M: LockMode> KeyState<M> {
    fn held_by(&self, owner: Owner) -> ModeSet {
        self.holders.iter().find(|held| held.owner.id == owner.id).map_or(0, |held| held.modes)
    }

    fn blocked_by_holder(&self, owner: Owner, mode: M) -> bool {
        let conflicts = mode.conflicts();
        self.holders.iter().any(|held| held.modes & conflicts != 0 && held.owner.id != owner.id)
    }

    fn add(&mut self, owner: Owner, mode: M) -> ModeSet {
        match self.holders.iter_mut().find(|held| held.owner.id == owner.id) {
            Some(held) => {
                let before = held.modes;
                held.modes |= mode.bit();
                before
            }
            None => {
                self.holders.push(Held { owner, modes: mode.bit() });
                0
            }
        }
    }

    /// Behind every waiting upgrade, ahead of the rest when this is an upgrade itself.
    fn enqueue(&mut self, request: Queued<M>) {
        let at = if self.held_by(request.owner) == 0 {
            self.queue.len()
        } else {
            let upgrade = |queued: &Queued<M>| self.held_by(queued.owner) != 0;
            self.queue.iter().position(|queued| !upgrade(queued)).unwrap_or(self.queue.len())
        };
        self.queue.insert(at, request);
    }

    /// The first waiter that nothing stands in the way of.
    fn next_grantable(&self) -> Option<usize> {
        let mut ahead: ModeSet = 0;
        for (at, queued) in self.queue.iter().enumerate() {
            let upgrade = self.held_by(queued.owner) != 0;
            let waits_behind = !upgrade && ahead & queued.mode.conflicts() != 0;
            if !waits_behind && !self.blocked_by_holder(queued.owner, queued.mode) {
                return Some(at);
            }
            ahead |= queued.mode.bit();
        }
        None
    }
}

/// Locks of one kind. `K` is what is locked, `M` how.
#[derive(Clone, Debug)]
pub struct LockTable<K, M> {
    keys: BTreeMap<K, KeyState<M>>,
    contended: BTreeSet<K>,
}

impl<K, M> Default for LockTable<K, M> {
    fn default() -> LockTable<K, M> {
        LockTable { keys: BTreeMap::new(), contended: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, M: LockMode> LockTable<K, M> {
    /// Asks for `mode` on `key`. With [`WaitPolicy::Block`] a request that can't be granted now is
    /// queued under the name `waiter`.
    pub fn acquire(
        &mut self,
        key: &K,
        owner: Owner,
        mode: M,
        policy: WaitPolicy,
        waiter: WaiterId,
    ) -> Acquire {
        let Some(state) = self.keys.get_mut(key) else {
            let mut holders = SmallVec::new();
            holders.push(Held { owner, modes: mode.bit() });
            self.keys.insert(key.clone(), KeyState { holders, queue: VecDeque::new() });
            return Acquire::Granted { before: 0 };
        };
        let held = state.held_by(owner);
        if held & mode.bit() != 0 {
            return Acquire::Reentrant;
        }
        if mode.covered_by(held) {
            return Acquire::Granted { before: state.add(owner, mode) };
        }
        let ahead = state.queue.iter().fold(0, |mask, queued| mask | queued.mode.bit());
        let waits_behind = held == 0 && ahead & mode.conflicts() != 0;
        if !waits_behind && !state.blocked_by_holder(owner, mode) {
            return Acquire::Granted { before: state.add(owner, mode) };
        }
        if policy != WaitPolicy::Block {
            return Acquire::Unavailable;
        }
        state.enqueue(Queued { waiter, owner, mode });
        self.contended.insert(key.clone());
        Acquire::Queued
    }

    /// Sets what `owner` holds on `key` back to `modes` (0 = releases it) and lets waiters in.
    /// `modes` must be what an earlier [`Acquire::Granted`] or [`Grant`] called `before`. A lock that is
    /// gone already (its range has moved to another node and back) stays gone.
    pub fn restore(&mut self, key: &K, owner: Owner, modes: ModeSet, out: &mut Vec<Grant<K>>) {
        let Some(state) = self.keys.get_mut(key) else { return };
        if let Some(at) = state.holders.iter().position(|held| held.owner.id == owner.id) {
            debug_assert!(modes & !state.holders[at].modes == 0, "a restore never adds modes");
            if modes == 0 {
                state.holders.swap_remove(at);
            } else {
                state.holders[at].modes = modes;
            }
        }
        if state.queue.is_empty() {
            if state.holders.is_empty() {
                self.keys.remove(key);
            }
        } else {
            self.settle(key, out);
        }
    }

    /// Takes a waiter out of the queue (timeout, cancel, deadlock). False when it isn't there any
    /// more, that is when it has been granted meanwhile.
    pub fn cancel(&mut self, key: &K, waiter: WaiterId, out: &mut Vec<Grant<K>>) -> bool {
        let Some(state) = self.keys.get_mut(key) else { return false };
        let Some(at) = state.queue.iter().position(|queued| queued.waiter == waiter) else {
            return false;
        };
        state.queue.remove(at);
        self.settle(key, out);
        true
    }

    /// Lets a waiter pass those ahead of it when no holder stands in its way: the cure of a
    /// deadlock that only the queue's order made. False when it couldn't be granted.
    pub fn promote(&mut self, key: &K, waiter: WaiterId, out: &mut Vec<Grant<K>>) -> bool {
        let Some(state) = self.keys.get_mut(key) else { return false };
        let Some(at) = state.queue.iter().position(|queued| queued.waiter == waiter) else {
            return false;
        };
        let queued = state.queue[at];
        if state.blocked_by_holder(queued.owner, queued.mode) {
            return false;
        }
        Self::grant(state, key, at, out);
        self.settle(key, out);
        true
    }

    /// What `from` holds on `key` is held by `to` from now on, and nobody gets in between. Answers the modes.
    pub fn hand_over(&mut self, key: &K, from: Owner, to: Owner) -> ModeSet {
        let Some(state) = self.keys.get_mut(key) else { return 0 };
        let Some(at) = state.holders.iter().position(|held| held.owner.id == from.id) else {
            return 0;
        };
        let Held { modes, .. } = state.holders.remove(at);
        match state.holders.iter_mut().find(|held| held.owner.id == to.id) {
            Some(held) => held.modes |= modes,
            None => state.holders.push(Held { owner: to, modes }),
        }
        modes
    }

    /// Takes `mode` whoever holds the key: their locks are void.
    pub fn seize(&mut self, key: &K, owner: Owner, mode: M, out: &mut Vec<Grant<K>>) {
        let empty = || KeyState { holders: SmallVec::new(), queue: VecDeque::new() };
        let state = self.keys.entry(key.clone()).or_insert_with(empty);
        let conflicts = mode.conflicts();
        state.holders.retain(|held| held.owner.id == owner.id || held.modes & conflicts == 0);
        state.add(owner, mode);
        self.settle(key, out);
    }

    /// Grants all that can be granted on `key`, in order, and tidies the entry up.
    fn settle(&mut self, key: &K, out: &mut Vec<Grant<K>>) {
        let Some(state) = self.keys.get_mut(key) else { return };
        while let Some(at) = state.next_grantable() {
            Self::grant(state, key, at, out);
        }
        if state.queue.is_empty() {
            self.contended.remove(key);
            if state.holders.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    fn grant(state: &mut KeyState<M>, key: &K, at: usize, out: &mut Vec<Grant<K>>) {
        let queued = state.queue.remove(at).expect("position was found in this queue");
        let before = state.add(queued.owner, queued.mode);
        out.push(Grant { waiter: queued.waiter, owner: queued.owner, key: key.clone(), before });
    }

    /// What `owner` holds on `key`.
    pub fn held_by(&self, key: &K, owner: Owner) -> ModeSet {
        self.keys.get(key).map_or(0, |state| state.held_by(owner))
    }

    /// Who holds `key`.
    pub fn holders(&self, key: &K) -> &[Held] {
        self.keys.get(key).map_or(&[], |state| &state.holders)
    }

    /// The locked keys from `first` to `last`, with their holders.
    pub fn held_within<Q>(&self, first: &Q, last: &Q) -> impl Iterator<Item = (&K, &[Held])>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let span = (Bound::Included(first), Bound::Included(last));
        self.keys.range::<Q, _>(span).map(|(key, state)| (key, &state.holders[..]))
    }

    /// Is nothing locked at all?
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Is anybody waiting?
    pub fn has_waiters(&self) -> bool {
        !self.contended.is_empty()
    }

    /// Every key with its holders and its queue, in key order: what `pg_locks` shows.
    pub fn entries(&self) -> impl Iterator<Item = (&K, &[Held], &VecDeque<Queued<M>>)> {
        self.keys.iter().map(|(key, state)| (key, &state.holders[..], &state.queue))
    }

    /// Everybody who waits: the key, the request, who blocks it, and whether that one is a holder
    /// (`true`) or only ahead in the queue (`false`).
    pub fn for_each_wait(&self, mut visit: impl FnMut(&K, &Queued<M>, &[(Owner, bool)])) {
        let mut blockers = Vec::new();
        for key in &self.contended {
            let state = &self.keys[key];
            for (at, queued) in state.queue.iter().enumerate() {
                blockers.clear();
                let conflicts = queued.mode.conflicts();
                let other = |owner: Owner| owner.id != queued.owner.id;
                blockers.extend(
                    state
                        .holders
                        .iter()
                        .filter(|held| held.modes & conflicts != 0 && other(held.owner))
                        .map(|held| (held.owner, true)),
                );
                if state.held_by(queued.owner) == 0 {
                    blockers.extend(
                        state
                            .queue
                            .iter()
                            .take(at)
                            .filter(|ahead| ahead.mode.bit() & conflicts != 0 && other(ahead.owner))
                            .map(|ahead| (ahead.owner, false)),
                    );
                }
                visit(key, queued, &blockers);
            }
        }
    }

    /// Verifies the invariants in this module's text; the answer names the first that is broken.
    pub fn check(&self) -> Result<(), String>
    where
        K: std::fmt::Debug,
    {
        for (key, state) in &self.keys {
            if state.holders.is_empty() && state.queue.is_empty() {
                return Err(format!("{key:?}: entry without holders and waiters"));
            }
            if state.queue.is_empty() == self.contended.contains(key) {
                return Err(format!("{key:?}: contended set disagrees with the queue"));
            }
            if let Some(at) = state.next_grantable() {
                return Err(format!("{key:?}: {:?} waits for nothing", state.queue[at]));
            }
            for (at, held) in state.holders.iter().enumerate() {
                let conflicts = M::all()
                    .iter()
                    .filter(|mode| held.modes & mode.bit() != 0)
                    .fold(0, |mask, mode| mask | mode.conflicts());
                if held.modes == 0 {
                    return Err(format!("{key:?}: {held:?} holds no mode"));
                }
                for other in &state.holders[at + 1..] {
                    if other.owner.id == held.owner.id {
                        return Err(format!("{key:?}: {held:?} is a holder twice"));
                    }
                    if other.modes & conflicts != 0 {
                        return Err(format!("{key:?}: {held:?} and {other:?} conflict"));
                    }
                }
            }
        }
        match self.contended.iter().find(|key| !self.keys.contains_key(*key)) {
            Some(key) => Err(format!("{key:?}: contended but not in the table")),
            None => Ok(()),
        }
    }
}
