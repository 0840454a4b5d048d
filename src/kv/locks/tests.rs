//! The matrices, and a random walk that checks the invariants after every step. The stories (queue
//! order, upgrades, NOWAIT) are golden scripts in `testscripts/locks`.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::api::{Strength, TableLockMode, WaitPolicy};

fn assert_symmetric<M: LockMode>() {
    for a in M::all() {
        for b in M::all() {
            let forth = a.conflicts() & b.bit() != 0;
            let back = b.conflicts() & a.bit() != 0;
            assert_eq!(forth, back, "{a:?} {b:?}");
        }
    }
}

#[test]
fn conflict_matrices_are_symmetric_and_match_the_documented_counts() {
    assert_symmetric::<Strength>();
    assert_symmetric::<TableLockMode>();
    assert_symmetric::<AdvisoryMode>();
    let counts: Vec<u32> =
        TableLockMode::ALL.iter().map(|mode| mode.conflicts().count_ones()).collect();
    assert_eq!(counts, [1, 2, 4, 5, 5, 6, 7, 8]);
    assert!(TableLockMode::AccessShare.covered_by(TableLockMode::Share.bit()));
    assert!(!TableLockMode::ShareUpdateExclusive.covered_by(TableLockMode::Share.bit()));
}

/// A small deterministic generator; the sequence only has to be varied.
struct Steps(u64);

impl Steps {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % n
    }
}

#[test]
fn random_walk_keeps_the_invariants_and_ends_empty() {
    for seed in 0..60 {
        let mut steps = Steps(seed);
        let mut table: LockTable<u8, Strength> = LockTable::default();
        let mut undo: BTreeMap<u64, Vec<(u8, ModeSet)>> = BTreeMap::new();
        let mut waiting: BTreeMap<WaiterId, (u64, u8)> = BTreeMap::new();
        let mut out = Vec::new();
        for step in 0..400 {
            let id = steps.below(6);
            let owner = Owner::transaction(id, 0);
            let asleep: BTreeSet<u64> = waiting.values().map(|w| w.0).collect();
            if asleep.contains(&id) {
                let (&waiter, &(_, key)) = waiting.iter().find(|(_, w)| w.0 == id).expect("asleep");
                if steps.below(3) == 0 && table.cancel(&key, waiter, &mut out) {
                    waiting.remove(&waiter);
                }
            } else if steps.below(4) == 0 {
                for (key, before) in undo.remove(&id).unwrap_or_default().into_iter().rev() {
                    table.restore(&key, owner, before, &mut out);
                }
            } else {
                let key = u8::try_from(steps.below(3)).expect("small");
                let mode = Strength::all()[usize::try_from(steps.below(4)).expect("small")];
                let policy = [WaitPolicy::Block, WaitPolicy::Block, WaitPolicy::Skip]
                    [usize::try_from(steps.below(3)).expect("small")];
                match table.acquire(&key, owner, mode, policy, WaiterId(step)) {
                    Acquire::Granted { before } => {
                        undo.entry(id).or_default().push((key, before));
                    }
                    Acquire::Queued => {
                        waiting.insert(WaiterId(step), (id, key));
                    }
                    Acquire::Reentrant | Acquire::Unavailable => {}
                }
            }
            for grant in out.drain(..) {
                let (id, key) = waiting.remove(&grant.waiter).expect("granted who waited");
                undo.entry(id).or_default().push((key, grant.before));
            }
            table.check().unwrap();
        }
        for (waiter, (_, key)) in waiting {
            table.cancel(&key, waiter, &mut out);
            for grant in out.drain(..) {
                undo.entry(grant.owner.id).or_default().push((grant.key, grant.before));
            }
        }
        for (id, locks) in undo {
            for (key, before) in locks.into_iter().rev() {
                table.restore(&key, Owner::transaction(id, 0), before, &mut out);
            }
        }
        assert!(table.is_empty(), "seed {seed}");
    }
}
