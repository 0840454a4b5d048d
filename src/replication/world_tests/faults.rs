//! Cut wires, lost messages, restarts.

use std::sync::atomic::Ordering;

use futures::FutureExt;
use meridian_base::rng::Rng;

use super::{GROUP, World, entry, n, until, wait};
use crate::{ProposeError, RaftGroup};

/// What a cut-off leader appended is neither acknowledged nor denied; when it hears of its successor, the
/// entry is gone and the answer is that nobody can say.
#[test]
fn an_entry_that_is_cut_off_has_an_unknown_outcome() {
    let world = World::led(3);
    world.propose(n(1), 0..5).expect("acknowledged");
    world.agree(&[1, 2, 3], 0..5);
    world.cut(n(1), n(2));
    world.cut(n(1), n(3));
    let (cut_off, term) = (world.group(n(1), GROUP), world.role(n(1), GROUP).term);
    let mut pending = Box::pin(cut_off.propose(term, entry(99, 8)));
    assert!(pending.as_mut().now_or_never().is_none());
    world.withdraw_all(n(1));
    world.elect(n(2), GROUP);
    world.propose(n(2), 5..20).expect("acknowledged");
    world.agree(&[2, 3], 0..20);
    assert!(pending.as_mut().now_or_never().is_none());
    world.heal();
    assert!(matches!(wait(pending), Err(ProposeError::Unknown(_))));
    world.agree(&[1, 2, 3], 0..20);
    assert_eq!(wait(cut_off.propose(term, entry(98, 8))), Err(ProposeError::NotLeader));
}

/// Followers have the entry but their acknowledgements are lost: their next leader commits it, and the old
/// one, when it hears of that, acknowledges it.
#[test]
fn an_entry_whose_acknowledgement_is_lost_may_be_there() {
    let world = World::led(3);
    world.propose(n(1), 0..5).expect("acknowledged");
    // Nothing is on its way whose loss would tell the leader to wait.
    world.agree(&[1, 2, 3], 0..5);
    std::thread::sleep(std::time::Duration::from_millis(50));
    let before = world.running[&n(1)].log_end();
    world.cut_one_way(n(2), n(1));
    world.cut_one_way(n(3), n(1));
    let (cut_off, term) = (world.group(n(1), GROUP), world.role(n(1), GROUP).term);
    let mut pending = Box::pin(cut_off.propose(term, entry(5, 8)));
    assert!(pending.as_mut().now_or_never().is_none());
    let has_it = || (world.running[&n(2)].log_end() > before).then_some(());
    until("node 2 has the entry", has_it);
    world.withdraw_all(n(1));
    world.elect(n(2), GROUP);
    world.agree(&[2, 3], 0..6);
    world.heal();
    assert_eq!(wait(pending), Ok(()));
    world.agree(&[1, 2, 3], 0..6);
}

/// A follower that was away, long or short, gets what it missed, with its engine at any point; also the
/// last commit alone.
#[test]
fn a_follower_that_was_away_catches_up() {
    let mut world = World::led(3);
    world.propose(n(1), 0..20).expect("acknowledged");
    world.agree(&[1, 2, 3], 0..20);
    world.cut(n(1), n(3));
    world.propose(n(1), 20..25).expect("two of three are enough");
    world.heal();
    world.running[&n(1)].raft.peer_reachable(n(3));
    world.agree(&[1, 2, 3], 0..25);
    for (round, kept) in [[0, 0, 0], [7, 3, 0], [1000, 1000, 0]].into_iter().enumerate() {
        let from = 25 + round as u64 * 10;
        world.crash(n(3), kept);
        world.propose(n(1), from..from + 10).expect("two of three are enough");
        world.restart(n(3));
        // Nobody says that it is back: the leader finds out.
        world.agree(&[1, 2, 3], 0..from + 10);
        world.running[&n(3)].raft.checkpoint().expect("memory");
    }
    // Node 2 supports a new epoch of the leader, which asks for an acknowledgement that says so.
    world.support[&n(2)].withdraw(n(1));
    world.support[&n(2)].resume(n(1));
    world.running[&n(1)].raft.peer_reachable(n(2));
    let (leader, term) = (world.group(n(1), GROUP), world.role(n(1), GROUP).term);
    until("the new epoch", || {
        leader.progress_of(term, n(2)).filter(|progress| progress.epoch == 2).map(drop)
    });
}

/// What becomes of a proposal, unless its leader steps down and nobody comes after it.
fn outcome(
    group: &RaftGroup,
    term: u64,
    proposal: impl Future<Output = Result<(), ProposeError>> + Clone,
) -> Option<Result<(), ProposeError>> {
    until("an outcome, or another term", || match proposal.clone().now_or_never() {
        Some(outcome) => Some(Some(outcome)),
        None if group.role().borrow().term > term => Some(None),
        None => None,
    })
}

/// Messages are late, lost and out of order, leaders change, nodes crash with any part of their engine:
/// everybody ends with the same rows, which are all that were acknowledged, and none that was refused.
#[test]
fn nothing_acknowledged_is_lost_in_disorder() {
    let mut world = World::led(3);
    world.wire.jitter.store(true, Ordering::Relaxed);
    let mut rng = Rng::seeded(11);
    let (mut acknowledged, mut unknown, mut row, mut leader) = (vec![], vec![], 0, n(1));
    for round in 0..12 {
        world.wire.loss.store(if round % 2 == 0 { 30 } else { 0 }, Ordering::Relaxed);
        let (group, term) = (world.group(leader, GROUP), world.role(leader, GROUP).term);
        let mut flying: Vec<_> = (row..row + 20)
            .map(|row| (row, group.propose(term, entry(row, 64)).boxed_local().shared()))
            .collect();
        row += 20;
        for (_, proposal) in &flying {
            let _ = proposal.clone().now_or_never();
        }
        let last_but = flying.split_off(15);
        for (row, proposal) in flying {
            match outcome(&group, term, proposal) {
                Some(Ok(())) => acknowledged.push(row),
                Some(Err(ProposeError::Unknown(_))) | None => unknown.push(row),
                Some(Err(refused)) => assert_eq!(refused, ProposeError::NotLeader),
            }
        }
        unknown.extend(last_but.into_iter().map(|(row, _)| row));
        let next = n(rng.next_u64() % 3 + 1);
        if round % 3 == 0 {
            let kept = [rng.next_u64() as usize % 40, rng.next_u64() as usize % 40, 0];
            world.crash(leader, kept);
            world.restart(leader);
        }
        world.withdraw_all(leader);
        world.support[&leader].withdraw(leader);
        let new = world.elect_any(next, GROUP);
        for support in world.support.values() {
            support.resume(leader);
        }
        leader = new;
    }
    world.wire.loss.store(0, Ordering::Relaxed);
    // A campaign that began late may still depose the last leader.
    until("the last row is acknowledged", || {
        let leader = world.elect_any(leader, GROUP);
        let (group, term) = (world.group(leader, GROUP), world.role(leader, GROUP).term);
        let last = group.propose(term, entry(10_000, 8)).boxed_local().shared();
        matches!(outcome(&group, term, last), Some(Ok(()))).then_some(())
    });
    until("the last row everywhere", || {
        let all = (1..=3).all(|id| world.rows(n(id), GROUP).last() == Some(&10_000));
        all.then_some(())
    });
    let rows = world.rows(n(1), GROUP);
    assert!(acknowledged.iter().all(|row| rows.contains(row)));
    let known = |row: &u64| acknowledged.contains(row) || unknown.contains(row) || *row == 10_000;
    assert!(rows.iter().all(known), "a refused row is there");
    assert!((2..=3).all(|id| world.rows(n(id), GROUP) == rows));
}
