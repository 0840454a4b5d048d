//! The sequencer over a map: order, tags, snapshots, reads, and what a refusal leaves behind.

use std::collections::BTreeMap;

use super::*;
use crate::api::Row;

#[derive(Default)]
pub(super) struct Map(pub(super) BTreeMap<Key, Version>);

impl Newest for Map {
    fn newest(&self, key: &[u8]) -> Result<Option<Version>, KvError> {
        Ok(self.0.get(key).cloned())
    }
}

impl Map {
    fn apply(&mut self, sequencer: &mut Sequencer, command: &Command) {
        for write in &command.writes {
            let version = Version { ts: command.ts, row: write.value.clone() };
            self.0.insert(write.key.clone(), version);
        }
        sequencer.applied_to(command.ts);
        sequencer.check().unwrap();
    }
}

pub(super) fn put(key: &str, expect: VersionTag) -> Vec<Write> {
    vec![Write { key: Key::copy_from_slice(key.as_bytes()), value: Some(Row::from("v")), expect }]
}

pub(super) fn request(
    isolation: Isolation,
    read_ts: u64,
    writes: Vec<Write>,
) -> CommitRequest<'static> {
    let (read_ts, runs) = (Timestamp(read_ts), vec![]);
    CommitRequest { isolation, read_ts, writes, runs, reads: None, origin: None }
}

#[test]
fn an_in_flight_version_counts_as_the_newest_and_becomes_the_history_of_the_next() {
    let (mut seq, map) = (Sequencer::new(Timestamp(5), 100), Map::default());
    let rc = Isolation::ReadCommitted;
    let absent = VersionTag::Newest(Timestamp::MIN);
    let first = seq.sequence(Timestamp(3), request(rc, 5, put("a", absent)), &map).unwrap();
    assert_eq!((first.ts, seq.applied()), (Timestamp(6), Timestamp(5)), "above last, not applied");
    let again = seq.sequence(Timestamp(9), request(rc, 5, put("a", absent)), &map);
    assert_eq!(again, Err(KvError::CONCURRENT_UPDATE.into()));
    let tag = VersionTag::Newest(first.ts);
    let second = seq.sequence(Timestamp(9), request(rc, 5, put("a", tag)), &map).unwrap();
    assert_eq!(second.writes[0].old.as_ref().map(|old| old.ts), Some(first.ts));
    seq.check().unwrap();
    let mut entry = Vec::new();
    first.encode(&mut entry);
    second.encode(&mut entry);
    let mut entry = bytes::Bytes::from(entry);
    assert_eq!(Command::decode(&mut entry).unwrap(), first);
    assert_eq!(Command::decode(&mut entry).unwrap(), second);
    assert!(entry.is_empty() && Command::decode(&mut entry).is_err());
}

#[test]
fn repeatable_read_refuses_what_read_committed_accepts() {
    let (mut seq, mut map) = (Sequencer::new(Timestamp(0), 100), Map::default());
    let command = seq
        .sequence(
            Timestamp(5),
            request(Isolation::ReadCommitted, 0, put("a", VersionTag::Blind)),
            &map,
        )
        .unwrap();
    map.apply(&mut seq, &command);
    let tag = VersionTag::Newest(Timestamp(5));
    let old = request(Isolation::RepeatableRead, 4, put("a", tag));
    assert_eq!(seq.sequence(Timestamp(9), old, &map), Err(KvError::CONCURRENT_UPDATE.into()));
    let new = request(Isolation::RepeatableRead, 5, put("a", tag));
    assert!(seq.sequence(Timestamp(9), new, &map).is_ok());
}

#[test]
fn serializable_validates_reads_against_writes_in_flight_and_gives_up_below_the_ring() {
    let (mut seq, map) = (Sequencer::new(Timestamp(1), 2), Map::default());
    let blind = |key| put(key, VersionTag::Blind);
    let rc = |key| request(Isolation::ReadCommitted, 1, blind(key));
    let command = seq.sequence(Timestamp(5), rc("b"), &map).unwrap();
    assert_eq!(command.ts, Timestamp(5));
    let mut reads = ReadSet::default();
    reads.add_span(crate::api::Span::new("a", "c"));
    fn serializable<'a>(read_ts: u64, key: &str, reads: &'a ReadSet) -> CommitRequest<'a> {
        let writes = put(key, VersionTag::Blind);
        let read_ts = Timestamp(read_ts);
        CommitRequest {
            isolation: Isolation::Serializable,
            read_ts,
            writes,
            runs: vec![],
            reads: Some(reads),
            origin: None,
        }
    }
    let refused = seq.sequence(Timestamp(6), serializable(4, "x", &reads), &map);
    assert_eq!(refused, Err(KvError::READ_WRITE_DEPENDENCY.into()));
    assert!(seq.sequence(Timestamp(6), serializable(5, "x", &reads), &map).is_ok());
    seq.sequence(Timestamp(7), rc("z"), &map).unwrap();
    let mut elsewhere = ReadSet::default();
    elsewhere.add_point(b"q");
    assert!(seq.sequence(Timestamp(8), serializable(4, "y", &elsewhere), &map).is_err());
}

#[test]
fn gc_waits_for_the_oldest_snapshot_and_never_goes_back() {
    let mut seq = Sequencer::new(Timestamp(100), 2);
    let mut snapshots = Snapshots::default();
    snapshots.protect(Timestamp(40));
    snapshots.protect(Timestamp(40));
    assert_eq!(seq.advance_gc(Timestamp(90), snapshots.oldest()), Timestamp(40));
    snapshots.unprotect(Timestamp(40));
    assert_eq!(seq.advance_gc(Timestamp(90), snapshots.oldest()), Timestamp(40));
    snapshots.unprotect(Timestamp(40));
    assert_eq!(seq.advance_gc(Timestamp(200), snapshots.oldest()), Timestamp(100));
    assert_eq!(seq.advance_gc(Timestamp(50), None), Timestamp(100));
}
