//! The rules one by one; that they suffice is shown by the simulator (`src/sim/fences`).

use super::*;

const OFFSET: Duration = Duration::from_millis(250);
const MS: u64 = 1_000;
const LENGTH: u64 = 1_500 * MS;

fn member(node: u64) -> Member {
    Member { node: NodeId(node), start: 1 }
}

fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn locked(ids: &[u64]) -> BTreeSet<Member> {
    ids.iter().copied().map(member).collect()
}

/// A leaseholder since time 0, of whose nodes all have guards at `now`.
fn guarded(ids: &[u64], now: u64) -> Fences {
    let mut fences = Fences::new(OFFSET);
    fences.lead(7, 0);
    fences.lead(7, now);
    for id in ids {
        assert_eq!(fences.ask(member(*id), 0), Guard::Anew(now + LENGTH));
    }
    fences
}

#[test]
fn a_definition_without_a_node_waits_for_its_guard_and_the_node_reads_again() {
    let (mut now, all) = (10_000 * MS, nodes(&[1, 2]));
    let mut fences = guarded(&[1, 2], now);
    let wanted = fences.wanted(&all);
    assert!(wanted.all && !wanted.partial && wanted.members == locked(&[1, 2]));
    assert_eq!(fences.pass(&locked(&[1]), wanted.asked, &all), Err(Hold::Lost));

    now += LENGTH + 250 * MS;
    fences.lead(7, now);
    assert_eq!(fences.ask(member(1), now - 1), Guard::Held(now + LENGTH));
    assert_eq!(fences.wanted(&all).members, locked(&[1, 2]), "its clock may be slow");
    now += 1;
    fences.lead(7, now);
    let wanted = fences.wanted(&all);
    assert!(!wanted.all && wanted.members == locked(&[1]));
    let name = fences.pass(&locked(&[1]), wanted.asked, &all).expect("nobody else may use it");
    assert_eq!(fences.ask(member(2), now - LENGTH), Guard::Later, "it would read too early");
    assert_eq!(fences.ask(member(1), now), Guard::Held(now + LENGTH), "it is locked");
    fences.passed(name);
    assert_eq!(fences.ask(member(2), now - LENGTH), Guard::Anew(now + LENGTH));
    assert_eq!(fences.ask(member(2), now + LENGTH), Guard::Held(now + LENGTH), "it has read");
}

#[test]
fn a_guard_that_was_had_for_a_moment_is_not_overlooked() {
    let (mut now, all) = (10_000 * MS, nodes(&[1, 2]));
    let mut fences = guarded(&[1, 2], now);
    now += 2 * LENGTH;
    fences.lead(7, now);
    assert_eq!(fences.ask(member(1), 1), Guard::Held(now + LENGTH));
    let asked = fences.wanted(&all).asked;
    // While the definer reads, the other node comes and goes.
    fences.lead(7, now + MS);
    assert_eq!(fences.ask(member(2), 1), Guard::Held(now + MS + LENGTH));
    now += 3 * LENGTH;
    fences.lead(7, now);
    assert_eq!(fences.wanted(&all).members, BTreeSet::new());
    assert_eq!(fences.pass(&locked(&[1]), asked, &all), Err(Hold::Lost));
}

#[test]
fn a_new_leaseholder_believes_what_its_predecessor_kept() {
    let (now, all) = (10_000 * MS, nodes(&[1, 2, 3]));
    let mut fences = guarded(&[1, 2, 3], now);
    let before = fences.wanted(&all).asked;
    fences.lead(8, now + MS);
    assert_eq!(fences.ask(member(1), now + LENGTH), Guard::Held(now + MS + LENGTH));
    assert_eq!(fences.ask(member(2), now), Guard::Anew(now + MS + LENGTH), "it ran out before");
    let wanted = fences.wanted(&all);
    assert!(wanted.partial && !wanted.all, "who knows of the third?");
    assert_eq!(fences.pass(&locked(&[1, 2]), before, &all), Err(Hold::Lost));
    assert_eq!(fences.pass(&locked(&[1, 2, 3]), before, &all), Err(Hold::Later));
    assert_eq!(fences.ask(member(3), now + LENGTH), Guard::Held(now + MS + LENGTH));
    let name = fences.pass(&locked(&[1, 2, 3]), before, &all).expect("all are locked");
    fences.passed(name);

    // The third is silent for so long that nobody need wait for it.
    fences.lead(9, now + 2 * MS);
    for id in [1, 2] {
        fences.ask(member(id), now + LENGTH);
    }
    fences.lead(9, now + 2 * MS + LENGTH + 250 * MS + 1);
    for id in [1, 2] {
        fences.ask(member(id), now + LENGTH);
    }
    let wanted = fences.wanted(&all);
    assert!(!wanted.partial && wanted.members == locked(&[1, 2]));
    let name = fences.pass(&wanted.members, wanted.asked, &all).expect("none but these");
    fences.passed(name);
    let third = fences.ask(member(3), now + 2 * MS + LENGTH);
    assert!(matches!(third, Guard::Anew(_)), "it has missed that: {third:?}");
}

#[test]
fn a_restarted_node_holds_no_locks() {
    let (now, all) = (10_000 * MS, nodes(&[1, 2]));
    let mut fences = guarded(&[1, 2], now);
    let wanted = fences.wanted(&all);
    fences.lead(7, now + MS);
    let again = Member { node: NodeId(2), start: 2 };
    assert_eq!(fences.ask(again, 0), Guard::Anew(now + MS + LENGTH));
    assert_eq!(fences.pass(&wanted.members, wanted.asked, &all), Err(Hold::Lost));
}

#[test]
fn who_was_not_told_reads_again() {
    let now = 10_000 * MS;
    let mut fences = guarded(&[1, 2], now);
    assert_eq!(fences.expel(NodeId(2)), now + LENGTH + 250 * MS);
    assert_eq!(fences.ask(member(2), now + LENGTH), Guard::Anew(now + LENGTH));
    assert_eq!(fences.expel(NodeId(9)), 0, "it has never asked");
}
