//! Who leads, and who may.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{GROUP, World, entry, n, until, wait};
use crate::{ChangeError, ProposeError};

/// A leader's entries reach everybody, and so does the knowledge that they are committed, though nothing
/// follows the last one. After that nothing is said.
#[test]
fn followers_apply_what_is_committed_and_fall_silent() {
    let world = World::led(3);
    world.propose(n(1), 0..50).expect("acknowledged");
    world.agree(&[1, 2, 3], 0..50);
    let term = world.role(n(1), GROUP).term;
    for id in [2, 3] {
        let role = world.role(n(id), GROUP);
        assert_eq!((role.leader, role.is_leader, role.term), (Some(n(1)), false, term));
        let last = world.group(n(1), GROUP).stats().applied;
        until("the acknowledgement is noted", || {
            let progress = world.group(n(1), GROUP).progress_of(term, n(id))?;
            (progress.matched == last && progress.epoch == 1).then_some(())
        });
    }
    assert!(world.group(n(1), GROUP).progress(term + 1).is_empty());
    let quiet = || {
        let before = world.wire.calls.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(200));
        (world.wire.calls.load(Ordering::Relaxed) == before).then_some(())
    };
    until("silence", quiet);
}

/// Who supports the leader votes for nobody else, and nobody campaigns against a leader that it supports;
/// when support is withdrawn, openraft's own lease is no obstacle.
#[test]
fn no_vote_while_the_leader_is_supported() {
    let world = World::led(3);
    world.propose(n(1), 0..5).expect("acknowledged");
    world.agree(&[1, 2, 3], 0..5);
    let term = world.role(n(1), GROUP).term;
    world.group(n(2), GROUP).campaign();
    world.propose(n(1), 5..10).expect("node 2 has not even asked for votes");
    assert_eq!(world.role(n(2), GROUP).term, term);
    // The leader has nothing more to say, or it would learn of the new term and step down.
    world.agree(&[1, 2, 3], 0..10);
    // Node 2 gives up on the leader alone: node 3 keeps its promise, and the leader is one itself.
    world.support[&n(2)].withdraw(n(1));
    world.group(n(2), GROUP).campaign();
    until("the election was tried", || (world.role(n(2), GROUP).term > term).then_some(()));
    let calls = world.wire.calls.load(Ordering::Relaxed);
    world.group(n(2), GROUP).campaign();
    until("asked again", || (world.wire.calls.load(Ordering::Relaxed) > calls + 1).then_some(()));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!world.role(n(2), GROUP).is_leader);
    world.support[&n(3)].withdraw(n(1));
    let newer = world.elect(n(2), GROUP);
    assert!(newer > term);
    until("the old leader knows", || (world.role(n(1), GROUP).term >= newer).then_some(()));
    let stale = wait(world.group(n(1), GROUP).propose(term, entry(99, 8)));
    assert_eq!(stale, Err(ProposeError::NotLeader));
    world.propose(n(2), 10..15).expect("acknowledged");
    world.agree(&[1, 2, 3], 0..15);
}

/// A leader dies; a follower that has everything takes over when the others have given up on it. The dead
/// one comes back with an engine that has forgotten, and follows.
#[test]
fn a_crashed_leader_is_replaced() {
    let mut world = World::led(3);
    world.propose(n(1), 0..30).expect("acknowledged");
    world.agree(&[1, 2, 3], 0..30);
    world.crash(n(1), [5, 9, 0]);
    world.withdraw_all(n(1));
    world.elect(n(3), GROUP);
    world.propose(n(3), 30..60).expect("acknowledged");
    world.agree(&[2, 3], 0..60);
    world.restart(n(1));
    world.agree(&[1, 2, 3], 0..60);
    assert_eq!(world.role(n(1), GROUP).leader, Some(n(3)));
    // A whole cluster that restarts has no leader until somebody campaigns.
    for id in [1, 2, 3] {
        world.crash(n(id), [0; 3]);
    }
    (1..=3).for_each(|id| world.restart(n(id)));
    assert!((1..=3).all(|id| !world.role(n(id), GROUP).is_leader));
    world.withdraw_all(n(3));
    world.elect(n(2), GROUP);
    world.propose(n(2), 60..70).expect("acknowledged");
    world.agree(&[1, 2, 3], 0..70);
}

/// Leadership moves while everybody supports the old leader, who serves nothing from the request on; an
/// offer that nobody can take is taken back in a new term.
#[test]
fn leadership_is_handed_over() {
    let world = World::led(3);
    world.propose(n(1), 0..5).expect("acknowledged");
    let (old, patience) = (world.role(n(1), GROUP).term, Duration::from_secs(20));
    wait(world.group(n(1), GROUP).transfer_leader(n(2), patience, |_| ())).expect("moves");
    until("node 2 leads", || world.role(n(2), GROUP).is_leader.then_some(()));
    assert!(!world.role(n(1), GROUP).is_leader);
    let late = wait(world.group(n(1), GROUP).propose(old, entry(99, 8)));
    assert_eq!(late, Err(ProposeError::NotLeader));
    world.propose(n(2), 5..10).expect("acknowledged");
    world.agree(&[1, 2, 3], 0..10);
    let group = world.group(n(2), GROUP);
    assert_eq!(wait(group.transfer_leader(n(9), patience, |_| ())), {
        Err(ChangeError::Invalid("n9 is not another voter".into()))
    });
    world.cut(n(2), n(3));
    let before = world.role(n(2), GROUP).term;
    let given_up = wait(group.transfer_leader(n(3), Duration::from_millis(200), |_| ()));
    assert_eq!(given_up, Err(ChangeError::TimedOut));
    world.heal();
    let leads = || world.role(n(2), GROUP).is_leader.then_some(world.role(n(2), GROUP).term);
    assert!(until("node 2 leads again", leads) > before);
    world.propose(n(2), 10..15).expect("acknowledged");
    world.agree(&[1, 2, 3], 0..15);
}

/// Many groups on each node, two threads for all of them.
#[test]
fn many_groups_share_a_thread() {
    let world = World::new(3);
    let groups: Vec<_> = (100..160).map(meridian_base::RangeId).collect();
    for (nth, group) in groups.iter().enumerate() {
        let first = nth as u64 % 3;
        let members: Vec<_> = (0..3).map(|at| n((first + at) % 3 + 1)).collect();
        world.create(*group, &members);
        world.group(members[0], *group).campaign();
    }
    for (nth, group) in groups.iter().enumerate() {
        let leader = n(nth as u64 % 3 + 1);
        let term = world.elect(leader, *group);
        let handle = world.group(leader, *group);
        for row in 0..5 {
            wait(handle.propose(term, entry(row, 8))).expect("acknowledged");
        }
    }
    for group in &groups {
        for id in 1..=3 {
            until("all rows", || (world.rows(n(id), *group).len() == 5).then_some(()));
        }
    }
    for node in world.running.values() {
        node.raft.checkpoint().expect("memory");
        assert_eq!(node.raft.groups().len(), groups.len());
    }
}
