//! Prepared records: what they hold off, what they let pass, and how they end.

use std::sync::Arc;

use bytes::Bytes;
use meridian_base::NodeId;
use meridian_storage::engine::{Engine, Keyspace, Reader, WriteBatch};
use meridian_storage::{MemEngine, mvcc};

use super::tests::{put, request};
use super::*;
use crate::api::{Span, Strength};

pub(super) const RC: Isolation = Isolation::ReadCommitted;
pub(super) const SER: Isolation = Isolation::Serializable;

/// A range with its engine; what is proposed is applied at once or later.
pub(super) struct Range {
    pub(super) seq: Sequencer,
    pub(super) engine: MemEngine,
}

impl Newest for MemEngine {
    fn newest(&self, key: &[u8]) -> Result<Option<Version>, KvError> {
        Ok(mvcc::newest(self, key).expect("memory"))
    }
}

pub(super) fn ts(n: u64) -> Timestamp {
    Timestamp(n)
}

pub(super) fn header(txn: u64, deadline: u64) -> Header {
    Header {
        txn: TxnId(txn),
        gateway: Gateway { node: NodeId(1), epoch: 7 },
        deadline: ts(deadline),
        expiry: ts(deadline + 100),
        participants: Arc::new([Key::from_static(b"a"), Key::from_static(b"q")]),
    }
}

pub(super) fn prepare(txn: u64, isolation: Isolation, key: &str, reads: &[&str]) -> PrepareRequest {
    let mut set = ReadSet::default();
    reads.iter().for_each(|key| set.add_point(key.as_bytes()));
    let writes = if key.is_empty() { vec![] } else { put(key, VersionTag::Blind) };
    let (read_ts, verify) = (ts(10), Vec::new());
    PrepareRequest {
        header: header(txn, 1000),
        own: 0,
        isolation,
        read_ts,
        writes,
        verify,
        reads: set,
        behalf: None,
        before: Timestamp::MAX,
    }
}

impl Range {
    pub(super) fn new() -> Range {
        Range { seq: Sequencer::new(ts(10), 100), engine: MemEngine::new() }
    }

    pub(super) fn apply(&mut self, entry: &LogEntry) {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let mut bytes = Bytes::from(bytes);
        assert_eq!(LogEntry::decode(&mut bytes).as_ref(), Ok(entry));
        assert!(bytes.is_empty());
        let mut batch = WriteBatch::default();
        entry.ops(&mut batch.ops);
        self.engine.apply(batch).unwrap();
        self.seq.landed(entry);
        self.seq.check().unwrap();
    }

    fn propose(&mut self, now: u64, request: PrepareRequest) -> LogEntry {
        match self.seq.prepare(ts(now), request, &self.engine) {
            Ok(PrepareAnswer::Propose(entry)) => entry,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn prepared(&mut self, now: u64, request: PrepareRequest) -> Timestamp {
        let entry = self.propose(now, request);
        self.apply(&entry);
        entry.ts().unwrap()
    }

    pub(super) fn resolve(&mut self, txn: u64, outcome: Outcome) {
        let header = header(txn, 1000);
        let entry = self.seq.resolve(&header, 0, outcome, &self.engine).unwrap();
        self.apply(&entry.expect("there is something to resolve"));
        assert_eq!(self.seq.resolve(&header, 0, outcome, &self.engine), Ok(None), "idempotent");
    }

    pub(super) fn commit(
        &mut self,
        now: u64,
        isolation: Isolation,
        key: &str,
    ) -> Result<Timestamp, Refused> {
        let request = request(isolation, 10, put(key, VersionTag::Blind));
        let command = self.seq.sequence(ts(now), request, &self.engine)?;
        self.apply(&LogEntry::Commit(command.clone()));
        Ok(command.ts)
    }

    fn waits(&self, key: &str, r: u64) -> bool {
        !self.seq.blockers(Target::Key(key.as_bytes()), ts(r)).is_empty()
    }

    /// The machine of the next leaseholder.
    pub(super) fn reload(&mut self, start: u64) {
        let span = meridian_base::keys::txn_span(&Span::all());
        let stored = self.engine.range(Keyspace::Cur, &span, false);
        let stored: Vec<Stored> =
            stored.map(|entry| Stored::decode(entry.unwrap().1).unwrap()).collect();
        let applied = self.seq.applied();
        let outcomes = self.seq.outcomes.clone();
        self.seq = Sequencer::load(applied, 100, ts(start), outcomes, stored);
        self.seq.check().unwrap();
    }
}

#[test]
fn a_reader_waits_for_what_may_be_visible_to_it_and_for_nothing_else() {
    let mut range = Range::new();
    range.seq.read_at(ts(20)).unwrap();
    assert_eq!(range.prepared(5, prepare(1, RC, "b", &[])), ts(21), "above the floor");
    assert!(!range.waits("b", 20) && !range.waits("c", 30) && range.waits("b", 21));
    let all = Span::new("a", "c");
    assert_eq!(range.seq.blockers(Target::Span(&all), ts(25)).records[..], [TxnId(1)]);
    assert_eq!((range.seq.free_snapshot(), range.seq.applied()), (None, ts(21)));
    assert_eq!(range.seq.closed(), ts(20), "its writes may come at 21");
    let scope = Span::new("c", "d");
    assert_eq!(range.seq.snapshot(Some(&scope)), Snapshot::At(ts(21)));
    assert!(
        matches!(range.seq.snapshot(None), Snapshot::Await(records) if records[..] == [TxnId(1)])
    );
    // Decided but not applied: it is known not to be visible at 25, and can't be read at 40.
    let header = header(1, 1000);
    let entry = range.seq.resolve(&header, 0, Outcome::Committed(ts(40)), &range.engine).unwrap();
    assert!(!range.waits("b", 39) && range.waits("b", 40));
    assert!(matches!(range.seq.snapshot(None), Snapshot::Await(_)), "it may be acknowledged");
    let other =
        range.seq.sequence(ts(5), request(RC, 10, put("x", VersionTag::Blind)), &range.engine);
    let other = LogEntry::Commit(other.unwrap());
    assert_eq!(other.ts(), Some(ts(41)), "above what the reader at 40 sees");
    assert!(range.waits("x", 41) && !range.waits("x", 40));
    range.apply(&entry.unwrap());
    assert_eq!(range.seq.free_snapshot(), Some(ts(40)));
    assert!(!range.waits("b", 40));
    assert!(mvcc::get(&range.engine, b"b", ts(39)).unwrap().is_none());
    assert!(mvcc::get(&range.engine, b"b", ts(40)).unwrap().is_some());
    assert_eq!(range.seq.closed(), ts(40));
    range.apply(&other);
    range.seq.read_at(ts(60)).unwrap();
    assert_eq!(range.seq.closed(), ts(60));
}

#[test]
fn writers_wait_for_serializable_readers_who_never_wait() {
    let mut range = Range::new();
    range.prepared(20, prepare(1, SER, "w", &["r"]));
    let wait = Refused::Wait(TxnId(1));
    assert_eq!(range.commit(21, RC, "r"), Err(wait.clone()));
    assert_eq!(range.commit(21, RC, "w"), Err(wait.clone()));
    let engine = range.engine.clone();
    assert_eq!(range.seq.prepare(ts(21), prepare(2, RC, "r", &[]), &engine), Err(wait));
    let conflict = Err(KvError::READ_WRITE_DEPENDENCY.into());
    assert_eq!(range.seq.prepare(ts(21), prepare(3, SER, "r", &[]), &engine), conflict);
    assert_eq!(range.seq.prepare(ts(21), prepare(3, SER, "x", &["w"]), &engine), conflict);
    let update = Err(KvError::CONCURRENT_UPDATE.into());
    assert_eq!(range.seq.prepare(ts(21), prepare(4, RC, "w", &[]), &engine), update);
    range.resolve(1, Outcome::Committed(ts(90)));
    assert_eq!(range.commit(21, RC, "r"), Ok(ts(91)), "after the reader's commit");
    // The write of the past is among the recent ones: who read before it fails, who read after doesn't.
    let late = |read_ts| PrepareRequest { read_ts: ts(read_ts), ..prepare(5, SER, "x", &["w"]) };
    assert_eq!(range.seq.prepare(ts(95), late(89), &engine), conflict);
    assert!(range.seq.prepare(ts(95), late(90), &engine).is_ok());
}

#[test]
fn a_record_answers_copies_and_survives_a_new_lease() {
    let mut range = Range::new();
    let entry = range.propose(20, prepare(1, RC, "b", &[]));
    let engine = range.engine.clone();
    let again = range.seq.prepare(ts(30), prepare(1, RC, "b", &[]), &engine);
    assert_eq!(again, Ok(PrepareAnswer::InFlight(ts(20))));
    assert_eq!(range.seq.query(&header(1, 1000), 0), QueryAnswer::InFlight);
    range.apply(&entry);
    range.reload(50);
    let again = range.seq.prepare(ts(30), prepare(1, RC, "b", &[]), &engine);
    assert_eq!(again, Ok(PrepareAnswer::Durable(ts(20))));
    let known = QueryAnswer::Known(Status::Prepared(ts(20)));
    assert_eq!(range.seq.query(&header(1, 1000), 0), known);
    let locks: Vec<_> = range.seq.records().flat_map(|record| record.locks()).collect();
    assert_eq!(locks, [(&Key::from("b"), Strength::NoKeyUpdate)]);
    assert_eq!(range.commit(20, RC, "b"), Err(Refused::Wait(TxnId(1))), "though the lock is lost");
    assert_eq!(range.commit(20, RC, "c"), Ok(ts(51)), "above the lease's start");
    range.resolve(1, Outcome::Committed(ts(30)));
    assert_eq!(range.seq.applied(), ts(51));
    assert!(mvcc::get(&range.engine, b"b", ts(30)).unwrap().is_some());
    let decided = Err(Refused::Decided(Outcome::Committed(ts(30))));
    assert_eq!(range.seq.prepare(ts(60), prepare(1, RC, "b", &[]), &engine), decided);
}

#[test]
fn who_asks_prevents_and_markers_outlive_every_copy_of_the_prepare() {
    let mut range = Range::new();
    let engine = range.engine.clone();
    let QueryAnswer::Prevent(mark) = range.seq.query(&header(1, 1000), 0) else { panic!() };
    assert_eq!(range.seq.query(&header(1, 1000), 0), QueryAnswer::InFlight, "not durable yet");
    let late = range.seq.prepare(ts(20), prepare(1, RC, "b", &[]), &engine);
    assert_eq!(late, Err(Refused::Busy), "a marker that may be lost decides nothing");
    range.seq.lost(&mark);
    range.prepared(20, prepare(1, RC, "b", &[]));
    range.resolve(1, Outcome::Aborted);
    assert_eq!(range.seq.collect(ts(1050), 10), None, "before the expiry");
    let collect = range.seq.collect(ts(1100), 10).expect("it has expired");
    range.apply(&collect);
    let late = range.seq.prepare(ts(20), prepare(1, RC, "b", &[]), &engine);
    assert_eq!(late, Err(Refused::Expired), "whatever the clock says now");
    assert_eq!(range.seq.query(&header(1, 1000), 0), QueryAnswer::Known(Status::Forgotten));
    range.reload(1);
    assert_eq!(range.seq.query(&header(1, 1000), 0), QueryAnswer::Known(Status::Forgotten));
}

#[test]
fn a_commits_marker_stays_until_all_participants_have_resolved() {
    let mut range = Range::new();
    range.prepared(20, prepare(1, RC, "b", &[]));
    range.resolve(1, Outcome::Committed(ts(20)));
    assert_eq!(range.seq.collect(ts(2000), 10), None);
    let overdue: Vec<_> = range.seq.overdue(ts(1000)).collect();
    assert_eq!(overdue, [(header(1, 1000), 0, Some(Outcome::Committed(ts(20))))]);
    range.seq.settle(TxnId(1));
    assert_eq!(range.seq.overdue(ts(1000)).count(), 0);
    assert!(range.seq.collect(ts(2000), 10).is_some());
}

#[test]
fn two_participants_of_one_transaction_may_lie_in_one_range() {
    let mut range = Range::new();
    range.prepared(20, prepare(1, SER, "b", &["c", "r"]));
    let other = || PrepareRequest { own: 1, ..prepare(1, SER, "r", &["b", "s"]) };
    assert_eq!(range.prepared(25, other()), ts(25), "what the other part has read and written");
    range.reload(30);
    let known = QueryAnswer::Known(Status::Prepared(ts(25)));
    assert_eq!(range.seq.query(&header(1, 1000), 1), known);
    range.resolve(1, Outcome::Committed(ts(25)));
    assert!(range.waits("r", 25) && !range.waits("b", 25));
    let header = header(1, 1000);
    let outcome = Outcome::Committed(ts(25));
    let entry = range.seq.resolve(&header, 1, outcome, &range.engine).unwrap();
    range.apply(&entry.unwrap());
    assert!(mvcc::get(&range.engine, b"r", ts(25)).unwrap().is_some());
    assert_eq!(range.seq.free_snapshot(), Some(ts(25)));
}

#[test]
fn locked_keys_must_be_as_they_were_seen() {
    let mut range = Range::new();
    let verify = |seen| Verify { key: "p".into(), strength: Strength::KeyShare, seen: ts(seen) };
    let with = |seen| PrepareRequest { verify: vec![verify(seen)], ..prepare(1, RC, "b", &[]) };
    let parent = range.commit(20, RC, "p").unwrap();
    let engine = range.engine.clone();
    let update = Err(KvError::CONCURRENT_UPDATE.into());
    assert_eq!(range.seq.prepare(ts(30), with(12), &engine), update);
    assert!(range.seq.prepare(ts(30), with(parent.0), &engine).is_ok());
}

#[test]
fn a_named_commit_happens_once_and_its_outcome_can_be_asked_for() {
    let mut range = Range::new();
    let named = |txn, sent| CommitRequest {
        origin: Some(Origin { txn: TxnId(txn), sent: ts(sent), deadline: ts(500), verify: vec![] }),
        ..request(RC, 10, put("b", VersionTag::Blind))
    };
    let engine = range.engine.clone();
    let command = range.seq.sequence(ts(15), named(1, 40), &engine).unwrap();
    assert_eq!(command.ts, ts(41), "later than the gateway's clock when it asked");
    assert_eq!(range.seq.sequence(ts(50), named(1, 40), &engine), Err(Refused::InFlight(ts(41))));
    assert_eq!(range.seq.outcome(&header(1, 500), ts(40)), OutcomeAnswer::InFlight(ts(41)));
    range.apply(&LogEntry::Commit(command));
    let committed = Outcome::Committed(ts(41));
    assert_eq!(range.seq.sequence(ts(50), named(1, 40), &engine), Err(Refused::Decided(committed)));
    range.reload(60);
    assert_eq!(range.seq.outcome(&header(1, 500), ts(40)), OutcomeAnswer::Ended(committed));
    // The next one was never heard of: asking prevents it.
    let OutcomeAnswer::Prevent(mark) = range.seq.outcome(&header(2, 500), ts(42)) else { panic!() };
    range.apply(&mark);
    let aborted = Err(Refused::Decided(Outcome::Aborted));
    assert_eq!(range.seq.sequence(ts(70), named(2, 42), &engine), aborted);
    // A replica that was started from an engine at 41 knows nothing about what came before.
    range.seq.outcomes = Outcomes::new(ts(41), 10);
    assert_eq!(range.seq.outcome(&header(1, 500), ts(40)), OutcomeAnswer::Unknown);
    assert_eq!(range.seq.sequence(ts(70), named(3, 40), &engine), Err(Refused::Forgotten(ts(41))));
    assert_eq!(range.seq.sequence(ts(600), named(4, 60), &engine), Err(Refused::Expired));
}

/// A copy that has been on its way for too long says nothing of the transaction; one with more time is prepared, and
/// the first one then finds that.
#[test]
fn each_copy_of_a_prepare_has_its_own_time() {
    let mut range = Range::new();
    let engine = range.engine.clone();
    let copy = |before| PrepareRequest { before: ts(before), ..prepare(1, RC, "b", &[]) };
    assert_eq!(range.seq.prepare(ts(20), copy(20), &engine), Err(Refused::Expired));
    let at = range.prepared(21, copy(22));
    assert_eq!(at, ts(21));
    assert_eq!(range.seq.prepare(ts(30), copy(20), &engine), Ok(PrepareAnswer::Durable(at)));
}

#[test]
fn nothing_is_given_out_or_read_beyond_the_lease() {
    let mut range = Range::new();
    range.seq.lease(ts(100));
    assert_eq!(range.seq.read_at(ts(100)), Err(Refused::NoLease));
    assert_eq!(range.commit(100, RC, "a"), Err(Refused::NoLease));
    range.seq.read_at(ts(99)).unwrap();
    assert_eq!(range.commit(50, RC, "a"), Err(Refused::NoLease), "the floor leaves no room");
    range.seq.lease(ts(200));
    assert_eq!(range.commit(50, RC, "a"), Ok(ts(100)));
}

#[test]
fn halves_know_what_concerns_them_and_a_range_with_records_does_not_split() {
    let mut range = Range::new();
    range.prepared(20, prepare(1, RC, "b", &[]));
    range.seq.freeze(true);
    assert_eq!(range.seq.quiet(), Err(Busy::Records(vec![TxnId(1)])));
    let engine = range.engine.clone();
    assert_eq!(range.seq.prepare(ts(30), prepare(2, RC, "x", &[]), &engine), Err(Refused::Busy));
    range.resolve(1, Outcome::Committed(ts(20)));
    range.seq.read_at(ts(70)).unwrap();
    assert_eq!(range.seq.quiet(), Ok(()));
    let mut right = range.seq.split(&Key::from("b"));
    assert_eq!((right.floor(), right.applied()), (ts(70), ts(20)));
    let known = QueryAnswer::Known(Status::Ended(Outcome::Committed(ts(20))));
    assert_eq!(range.seq.query(&header(1, 1000), 0), known, "its key there is \"a\"");
    let asked = right.clone().query(&header(1, 1000), 1);
    assert!(matches!(asked, QueryAnswer::Prevent(_)), "and not in the other half");
    let conflict = Err(KvError::READ_WRITE_DEPENDENCY.into());
    let early = || PrepareRequest { read_ts: ts(15), ..prepare(3, SER, "x", &["b"]) };
    assert_eq!(right.prepare(ts(80), early(), &engine), conflict, "it knows the write of b");
    range.seq.freeze(true);
    right.freeze(true);
    range.seq.lease(ts(70));
    assert_eq!(range.seq.may_merge(&right), Err(Busy::Lease), "somebody has read there at 70");
    range.seq.lease(ts(100));
    let mut merged = range.seq.clone().merge(right);
    merged.check().unwrap();
    assert_eq!(merged.prepare(ts(80), early(), &engine), conflict);
    assert_eq!(merged.query(&header(1, 1000), 0), known);
}

/// Entries must stay readable: what is written today, byte by byte.
#[test]
fn entries_are_byte_exact() {
    let mut reads = ReadSet::default();
    reads.add_point(b"r");
    reads.add_span(Span::new("s", "t"));
    let (header, own) = (header(0x0102, 9), 1);
    let record = Record {
        header: header.clone(),
        own,
        ts: ts(8),
        writes: vec![("k".into(), Some("v".into())), ("l".into(), None)],
        locks: vec![("m".into(), Strength::Share)],
        reads,
    };
    let head = "0201000000000000 0100000000000000 0700000000000000 0900000000000000 \
                6d00000000000000 02000000 0100000061 0100000071 01000000";
    let prepare = format!(
        "02 00 {head} 0800000000000000 02000000 010000006b010100000076 010000006c02 01000000 \
         010000006d01 01000000 0100000072 01000000 01000000730100000074"
    );
    let marker = Marker { header, own, outcome: Outcome::Committed(ts(11)) };
    let mark = format!("02 01 {head} 00 0b00000000000000");
    let old = Some(Version { ts: ts(3), row: Some("o".into()) });
    let write = CommandWrite { key: "k".into(), value: Some("v".into()), old };
    let writes = "01000000 010000006b 010100000076 01 0300000000000000 010000006f";
    let resolve = format!("03 {head} 00 0b00000000000000 {writes}");
    let resolution = Resolve { marker: marker.clone(), writes: vec![write.clone()] };
    let collect = Collect { ts: ts(20), markers: vec![("q".into(), TxnId(5))] };
    let commit = Command { txn: Some(TxnId(6)), ts: ts(4), writes: vec![write], runs: vec![] };
    let unnamed = Command { txn: None, ..commit.clone() };
    for (entry, bytes) in [
        (LogEntry::Prepare(record), prepare),
        (LogEntry::Mark(marker), mark),
        (LogEntry::Resolve(resolution), resolve),
        (
            LogEntry::Collect(collect),
            "04 1400000000000000 01000000 0100000071 0500000000000000".into(),
        ),
        (LogEntry::Commit(commit), format!("01 0600000000000000 0400000000000000 {writes}")),
        (LogEntry::Commit(unnamed), format!("00 0400000000000000 {writes}")),
    ] {
        let mut encoded = Vec::new();
        entry.encode(&mut encoded);
        let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, bytes.replace(' ', ""), "{entry:?}");
        assert_eq!(LogEntry::decode(&mut encoded.clone().into()), Ok(entry));
        for len in 0..encoded.len() {
            let cut = Bytes::copy_from_slice(&encoded[..len]);
            assert!(LogEntry::decode(&mut cut.clone()).is_err(), "{len} bytes of it");
        }
    }
}
