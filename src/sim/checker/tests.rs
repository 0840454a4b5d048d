//! Hand-made histories: one for each anomaly, and the levels that allow it.

use std::collections::BTreeMap;

use super::*;

const RC: Isolation = Isolation::ReadCommitted;
const RR: Isolation = Isolation::RepeatableRead;
const SER: Isolation = Isolation::Serializable;

fn append(list: u8, value: u32) -> Event {
    Event::Append { list, value }
}

fn read(list: u8, values: &[u32]) -> Event {
    Event::Read { list, values: values.to_vec() }
}

/// Concurrent transactions: each begins before any has ended.
fn txn(isolation: Isolation, events: Vec<Event>) -> TxnRecord {
    TxnRecord { isolation, began: 1, ended: Some(9), events, outcome: Outcome::Committed }
}

fn kinds(lists: &[(u8, &[u32])], txns: Vec<TxnRecord>) -> Vec<(AnomalyKind, bool)> {
    let lists: BTreeMap<u8, Vec<u32>> = lists.iter().map(|(l, v)| (*l, v.to_vec())).collect();
    let history = History { txns, lists, ..History::default() };
    let mut kinds: Vec<_> =
        forbidden(&history).into_iter().map(|anomaly| (anomaly.kind, anomaly.realtime)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

#[test]
fn g0_two_writers_in_opposite_orders() {
    let txns = || {
        vec![txn(RC, vec![append(0, 1), append(1, 2)]), txn(RC, vec![append(0, 3), append(1, 4)])]
    };
    assert!(kinds(&[(0, &[1, 3]), (1, &[4, 2])], txns()).contains(&(AnomalyKind::G0, false)));
    assert_eq!(kinds(&[(0, &[1, 3]), (1, &[2, 4])], txns()), []);
}

#[test]
fn g1a_and_g1b_aborted_and_intermediate_reads() {
    let mut aborted = txn(RC, vec![append(0, 1)]);
    aborted.outcome = Outcome::Aborted;
    let found = kinds(&[(0, &[])], vec![aborted, txn(RC, vec![read(0, &[1])])]);
    assert!(found.contains(&(AnomalyKind::G1a, false)));
    let writer = txn(RC, vec![append(0, 1), append(0, 2)]);
    let found = kinds(&[(0, &[1, 2])], vec![writer, txn(RC, vec![read(0, &[1])])]);
    assert!(found.contains(&(AnomalyKind::G1b, false)));
}

#[test]
fn g1c_each_reads_the_other() {
    let txns = vec![
        txn(RC, vec![append(0, 1), read(1, &[2])]),
        txn(RC, vec![append(1, 2), read(0, &[1])]),
    ];
    assert_eq!(kinds(&[(0, &[1]), (1, &[2])], txns), [(AnomalyKind::G1c, false)]);
}

#[test]
fn g_single_is_allowed_to_read_committed_only() {
    // The reader sees the writer's second list but not its first: no snapshot.
    let txns = |reader| {
        vec![
            txn(RC, vec![append(0, 1), append(1, 2)]),
            txn(reader, vec![read(0, &[]), read(1, &[2])]),
        ]
    };
    let lists: [(u8, &[u32]); 2] = [(0, &[1]), (1, &[2])];
    assert_eq!(kinds(&lists, txns(RC)), []);
    assert_eq!(kinds(&lists, txns(RR)), [(AnomalyKind::GSingle, false)]);
    assert_eq!(kinds(&lists, txns(SER)), [(AnomalyKind::GSingle, false)]);
}

#[test]
fn g2_write_skew_is_allowed_to_repeatable_read() {
    let txns = |level| {
        vec![
            txn(level, vec![read(0, &[]), append(1, 2)]),
            txn(level, vec![read(1, &[]), append(0, 1)]),
        ]
    };
    let lists: [(u8, &[u32]); 2] = [(0, &[1]), (1, &[2])];
    assert_eq!(kinds(&lists, txns(RR)), []);
    assert_eq!(kinds(&lists, txns(SER)), [(AnomalyKind::G2, false)]);
}

#[test]
fn a_stale_snapshot_shows_only_in_real_time() {
    let mut late = txn(RR, vec![read(0, &[])]);
    (late.began, late.ended) = (20, Some(30));
    let found = kinds(&[(0, &[1])], vec![txn(RR, vec![append(0, 1)]), late]);
    assert_eq!(found, [(AnomalyKind::GSingle, true)]);
}

#[test]
fn orders_that_contradict_each_other() {
    let txns = vec![
        txn(RC, vec![append(0, 1)]),
        txn(RC, vec![append(0, 2)]),
        txn(RC, vec![read(0, &[2, 1])]),
    ];
    assert!(kinds(&[(0, &[1, 2])], txns).contains(&(AnomalyKind::IncompatibleOrder, false)));
}
