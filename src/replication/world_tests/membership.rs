//! Members come and go.

use std::time::Duration;

use bytes::Bytes;

use super::{GROUP, World, n, until, wait};
use crate::ChangeError;

const PATIENCE: Duration = Duration::from_secs(60);

/// A node joins as a learner, gets the log or a snapshot, becomes a voter; another goes and leaves a
/// tombstone. A decision on old members is refused.
#[test]
fn a_replica_moves() {
    let mut world = World::led(3);
    world.start_another(n(4));
    world.propose(n(1), 0..40).expect("acknowledged");
    for id in 1..=3 {
        world.running[&n(id)].raft.checkpoint().expect("memory");
    }
    let leader = world.group(n(1), GROUP);
    let before = leader.members();
    assert_eq!(before.voters, [[n(1), n(2), n(3)].into()]);
    world.open(n(4), GROUP);
    let voters = [n(1), n(2), n(4)];
    wait(leader.change_members(&before, &voters, &[], PATIENCE)).expect("changed");
    let after = leader.members();
    assert_eq!((&after.voters, after.learners.len()), (&vec![voters.into()], 0));
    let stale = wait(leader.change_members(&before, &[n(1)], &[], PATIENCE));
    assert_eq!(stale, Err(ChangeError::Stale));
    wait(world.running[&n(3)].raft.remove_group(GROUP, Bytes::from_static(b"gen 2"), async {}))
        .expect("removed");
    world.propose(n(1), 40..60).expect("acknowledged");
    world.agree(&[1, 2, 4], 0..60);
    assert!(world.rows(n(3), GROUP).is_empty());
    // It stays so, and the rest lives on without two of the old nodes.
    world.crash(n(3), [0; 3]);
    world.restart(n(3));
    let old = &world.running[&n(3)].raft;
    assert!(old.stored().is_empty() && old.groups().is_empty());
    let tombstone = old.tombstone(GROUP).expect("read");
    assert_eq!(tombstone.as_deref(), Some(&b"gen 2"[..]));
    world.crash(n(1), [0; 3]);
    world.withdraw_all(n(1));
    world.elect(n(4), GROUP);
    world.propose(n(4), 60..70).expect("acknowledged");
    world.agree(&[2, 4], 0..70);
    // The third comes back as a learner.
    world.open(n(3), GROUP);
    let leader = world.group(n(4), GROUP);
    let (members, learners) = (leader.members(), [n(3)]);
    wait(leader.change_members(&members, &voters, &learners, PATIENCE)).expect("changed");
    world.agree(&[2, 3, 4], 0..70);
    assert!(!world.role(n(3), GROUP).is_voter);
    assert_eq!(leader.members().learners, [n(3)].into());
}

/// A leader that is removed stops leading.
#[test]
fn a_leader_can_be_removed() {
    let world = World::led(3);
    world.propose(n(1), 0..10).expect("acknowledged");
    let leader = world.group(n(1), GROUP);
    let members = leader.members();
    wait(leader.change_members(&members, &[n(2), n(3)], &[], PATIENCE)).expect("changed");
    until("it steps down", || (!world.role(n(1), GROUP).is_leader).then_some(()));
    world.withdraw_all(n(1));
    world.elect(n(2), GROUP);
    world.propose(n(2), 10..20).expect("acknowledged");
    world.agree(&[2, 3], 0..20);
    assert_eq!(world.group(n(2), GROUP).members().all_voters(), [n(2), n(3)].into());
}

/// Node 2 has never heard that 3 was replaced by 4, and lacks what was committed since. With the vote of 3 it
/// would lead by the members that it knows; 3 has forgotten everything, but not what it has promised.
#[test]
fn a_replica_that_was_removed_does_not_help_an_old_member_to_lead() {
    let mut world = World::led(3);
    world.start_another(n(4));
    world.propose(n(1), 0..10).expect("acknowledged");
    world.agree(&[1, 2, 3], 0..10);
    [1, 3, 4].iter().for_each(|id| world.cut(n(*id), n(2)));
    world.propose(n(1), 10..20).expect("acknowledged");
    world.open(n(4), GROUP);
    let (leader, voters) = (world.group(n(1), GROUP), [n(1), n(2), n(4)]);
    let members = leader.members();
    wait(leader.change_members(&members, &voters, &[], PATIENCE)).expect("changed");
    assert!(leader.has_left(n(3)) && !leader.has_left(n(4)) && !leader.has_left(n(2)));
    wait(world.running[&n(3)].raft.remove_group(GROUP, Bytes::new(), async {})).expect("removed");
    world.propose(n(1), 20..30).expect("acknowledged");
    // What a crash interrupts is as good as done, and so it is after the next one.
    for _ in 0..2 {
        world.crash(n(3), [0; 3]);
        world.restart(n(3));
        assert!(world.rows(n(3), GROUP).is_empty());
    }
    // It is added again, and the leader's first message is lost.
    [(1, 3), (4, 3), (1, 4)].iter().for_each(|(a, b)| world.cut(n(*a), n(*b)));
    world.open(n(3), GROUP);
    world.crash(n(3), [0; 3]);
    world.restart(n(3));
    world.wire.cut.lock().retain(|pair| *pair != (n(2), n(3)) && *pair != (n(3), n(2)));
    (1..=4).for_each(|id| world.withdraw_all(n(id)));
    for _ in 0..20 {
        world.group(n(2), GROUP).campaign();
        std::thread::sleep(Duration::from_millis(10));
        assert!(!world.role(n(2), GROUP).is_leader, "it lacks what was committed");
    }
    // Who has all of it leads.
    world.heal();
    world.elect(n(4), GROUP);
    world.propose(n(4), 30..40).expect("acknowledged");
    world.agree(&[2, 4], 0..40);
    let leader = world.group(n(4), GROUP);
    let (members, voters) = (leader.members(), [n(2), n(3), n(4)]);
    wait(leader.change_members(&members, &voters, &[], PATIENCE)).expect("changed");
    world.agree(&[2, 3, 4], 0..40);
    world.withdraw_all(n(4));
    world.elect(n(3), GROUP);
    world.propose(n(3), 40..50).expect("acknowledged");
    world.agree(&[2, 3, 4], 0..50);
}
