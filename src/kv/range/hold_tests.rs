//! What a hold keeps away, what it lets pass, and that it stays until it is ended.

use super::prepare_tests::{RC, Range, SER, header, prepare, ts};
use super::*;
use crate::api::Strength;

fn locks(keys: &[(&str, Strength)]) -> Vec<Verify> {
    let lock = |(key, strength): &(&str, Strength)| Verify {
        key: Key::copy_from_slice(key.as_bytes()),
        strength: *strength,
        seen: Verify::HELD,
    };
    keys.iter().map(lock).collect()
}

fn hold(
    txn: u64,
    isolation: Isolation,
    keys: &[(&str, Strength)],
    reads: &[&str],
) -> PrepareRequest {
    let header = Header { gateway: Gateway::OWNER, ..header(txn, 1000) };
    PrepareRequest { header, verify: locks(keys), ..prepare(txn, isolation, "", reads) }
}

impl Range {
    fn commits(&mut self, now: u64, isolation: Isolation, key: &str) -> Result<(), Refused> {
        self.commit(now, isolation, key).map(|_| ())
    }
}

const CONFLICT: Result<(), Refused> = Err(Refused::Error(KvError::CONCURRENT_UPDATE));
const DEPENDENCY: Result<(), Refused> = Err(Refused::Error(KvError::READ_WRITE_DEPENDENCY));

#[test]
fn a_hold_keeps_writers_away_and_no_reader() {
    let mut range = Range::new();
    assert_eq!(range.commits(12, RC, "b"), Ok(()));
    let locked = [("b", Strength::NoKeyUpdate), ("f", Strength::KeyShare)];
    range.prepared(20, hold(1, RC, &locked, &[]));
    assert_eq!(range.commits(30, RC, "b"), CONFLICT);
    assert_eq!(range.commits(31, RC, "f"), Ok(()), "its key stays");
    assert!(range.seq.prepare(ts(32), prepare(2, RC, "b", &[]), &range.engine).is_err());

    range.seq.read_at(ts(40)).expect("in the lease");
    assert!(range.seq.blockers(Target::Span(&Span::all()), ts(40)).is_empty());
    assert_eq!(range.seq.snapshot(None), Snapshot::At(ts(31)));
    assert_eq!(range.seq.closed(), ts(40));
    assert_eq!(range.seq.overdue(ts(999)).count() + range.seq.records().count(), 0, "no recovery");
    range.seq.freeze(true);
    assert_eq!(range.seq.quiet(), Err(Busy::Records(vec![TxnId(1)])));
    range.seq.freeze(false);

    // Its owner's commit passes, at a time of its own; then it ends.
    let behalf = Some(TxnId(1));
    let at = range.prepared(50, PrepareRequest { behalf, ..prepare(3, RC, "b", &[]) });
    range.resolve(3, Outcome::Committed(at));
    assert_eq!(range.commits(60, RC, "b"), CONFLICT, "still there");
    range.resolve(1, Outcome::Aborted);
    assert_eq!(range.commits(61, RC, "b"), Ok(()));
    assert_eq!(range.seq.holds().count(), 0);
}

#[test]
fn what_a_serializable_hold_has_read_stays_for_serializable_transactions() {
    let mut range = Range::new();
    range.prepared(20, hold(1, SER, &[("b", Strength::NoKeyUpdate)], &["c"]));
    assert_eq!(range.commits(30, SER, "c"), DEPENDENCY);
    let part = range.seq.prepare(ts(31), prepare(2, SER, "c", &[]), &range.engine);
    assert_eq!(part.map(|_| ()), DEPENDENCY);
    assert_eq!(range.commits(32, RC, "c"), Ok(()));
    // Two holds of which each writes what the other has read, and either may come first.
    let skew = hold(4, SER, &[("c", Strength::Update)], &["x"]);
    let crossed = hold(5, SER, &[("d", Strength::Update)], &["b"]);
    let apart = hold(6, SER, &[("d", Strength::Update)], &["c", "x"]);
    for (request, expected) in [(skew, DEPENDENCY), (crossed, DEPENDENCY)] {
        let asked = range.seq.prepare(ts(33), request, &range.engine);
        assert_eq!(asked.map(|_| ()), expected);
    }
    // It read "c" before the change at 32.
    let asked = range.seq.prepare(ts(34), apart.clone(), &range.engine);
    assert_eq!(asked.map(|_| ()), DEPENDENCY);
    range.prepared(35, PrepareRequest { read_ts: ts(34), ..apart });
}

#[test]
fn a_new_leaseholder_knows_the_holds() {
    let mut range = Range::new();
    let locked = [("b", Strength::Update), ("f", Strength::Share)];
    range.prepared(20, hold(1, SER, &locked, &["c"]));
    range.reload(100);
    let known: Vec<_> = range.seq.holds().map(|header| header.txn).collect();
    assert_eq!(known, [TxnId(1)]);
    assert_eq!(range.commits(130, RC, "f"), CONFLICT);
    assert_eq!(range.commits(131, SER, "c"), DEPENDENCY);
    range.resolve(1, Outcome::Aborted);
    assert_eq!(range.commits(132, SER, "c"), Ok(()));
    range.reload(135);
    // A copy of the request that comes late finds the marker.
    let late = range.seq.prepare(ts(140), hold(1, SER, &locked, &["c"]), &range.engine);
    assert_eq!(late, Err(Refused::Decided(Outcome::Aborted)));
}
