//! Restarts: whatever the engine forgot comes back from the log, once and in order; what the log cannot
//! give back is noticed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use meridian_base::{NodeId, RangeId, Span};
use meridian_storage::{
    Engine, FjallConfig, FjallEngine, GcHandle, Keyspace, KvIter, LogConfig, LogWrite, MemEngine,
    Op, Pressure, RaftLog, Reader, SegLog, Slot, Space, StorageError, WriteBatch,
};

use crate::types::{Part, Payload};
use crate::{Alone, Applier, MultiRaft, NodeRaftConfig, ProposeError, Publish, RaftGroup, codec};

const GROUP: RangeId = RangeId(1);

/// Entry `n` puts key `n` in `cur` and `hist`, and overwrites the key "last" with `n`.
#[derive(Default)]
struct Numbers {
    prepared: AtomicU64,
    published: Arc<AtomicU64>,
}

impl Applier for Numbers {
    fn prepare(&self, entries: Vec<Bytes>, ops: &mut Vec<Op>) -> Result<Publish, StorageError> {
        let count = entries.len() as u64;
        for entry in entries {
            if entry == "poison" {
                return Err(StorageError::Corruption("an entry that nobody understands".into()));
            }
            ops.push(Op::put(Keyspace::Hist, key(&entry[..8]), entry.clone()));
            ops.push(Op::put(Keyspace::Cur, key(&entry[..8]), entry.clone()));
            ops.push(Op::put(Keyspace::Cur, &b"last"[..], entry));
        }
        Ok(self.publish(count))
    }

    fn prepare_piece(&self, piece: Bytes, ops: &mut Vec<Op>) -> Result<Publish, StorageError> {
        ops.push(Op::put(Keyspace::Hist, key(&piece[..8]), piece.clone()));
        ops.push(Op::put(Keyspace::Cur, key(&piece[..8]), piece));
        Ok(self.publish(1))
    }
}

impl Numbers {
    fn publish(&self, count: u64) -> Publish {
        self.prepared.fetch_add(count, Ordering::SeqCst);
        let published = Arc::clone(&self.published);
        Box::new(move || {
            published.fetch_add(count, Ordering::SeqCst);
        })
    }
}

fn key(n: &[u8]) -> Vec<u8> {
    [b"D", n].concat()
}

fn seg_log(dir: &Path) -> Arc<SegLog> {
    let mut config = LogConfig::new(dir.join("log"));
    config.segment_bytes = 1 << 20;
    Arc::new(SegLog::open(config).expect("the log opens"))
}

/// A node with one group, which it leads alone.
struct One {
    raft: Arc<MultiRaft>,
    group: RaftGroup,
    term: u64,
}

impl One {
    async fn propose(&self, entry: Bytes) -> Result<(), ProposeError> {
        self.group.propose(self.term, entry).await
    }

    async fn propose_pieces(
        &self,
        pieces: &mut (dyn Iterator<Item = Bytes> + Send),
    ) -> Result<(), ProposeError> {
        self.group.propose_pieces(self.term, pieces).await
    }

    async fn append(&self, payload: Payload) -> Result<(), ProposeError> {
        self.group.append(self.term, payload).await
    }
}

impl std::ops::Deref for One {
    type Target = MultiRaft;

    fn deref(&self) -> &MultiRaft {
        &self.raft
    }
}

fn open(log: &Arc<SegLog>, engine: Arc<dyn Engine>) -> Result<(One, Arc<Numbers>), StorageError> {
    let applier = Arc::new(Numbers::default());
    let config = NodeRaftConfig { sync_when_idle: true, ..NodeRaftConfig::new(NodeId(1)) };
    let log: Arc<dyn RaftLog> = Arc::clone(log) as _;
    let raft = MultiRaft::start(config, log, engine, Arc::new(Alone), Arc::new(Alone))?;
    let patience = std::time::Duration::from_secs(120);
    let opening = raft.open_alone(GROUP, Arc::clone(&applier) as _, patience);
    let group = futures::executor::block_on(opening)?;
    let term = group.role().borrow().term;
    Ok((One { raft, group, term }, applier))
}

fn propose(group: &One, range: std::ops::Range<u64>) {
    for n in range {
        let entry = Bytes::copy_from_slice(&n.to_be_bytes());
        futures::executor::block_on(group.propose(entry)).expect("acknowledged");
    }
}

fn check(engine: &dyn Reader, count: u64) {
    for keyspace in [Keyspace::Cur, Keyspace::Hist] {
        let found: Vec<_> = engine
            .range(keyspace, &Span::prefix(b"D"), false)
            .map(|e| e.expect("read").1)
            .collect();
        let expected: Vec<_> =
            (0..count).map(|n| Bytes::copy_from_slice(&n.to_be_bytes())).collect();
        assert_eq!(found, expected, "{keyspace:?}");
    }
    let last = engine.get(Keyspace::Cur, b"last").expect("read").expect("written");
    assert_eq!(last[..], (count - 1).to_be_bytes());
}

/// A crash that keeps any prefix of the unpersisted batches, another one in each keyspace: redo restores
/// every acknowledged entry.
#[test]
fn redo_restores_what_the_engine_forgot() {
    let dir = tempfile::tempdir().expect("tempdir");
    let engine = MemEngine::new();
    let log = seg_log(dir.path());
    let (group, applier) = open(&log, Arc::new(engine.clone())).expect("a new group");
    propose(&group, 0..10);
    group.checkpoint().expect("memory");
    propose(&group, 10..30);
    assert_eq!(applier.published.load(Ordering::SeqCst), 30, "published before acknowledged");
    group.stop_threads();
    check(&engine, 30);
    log.close();
    drop((group, log));
    let batches = engine.unpersisted();
    for kept in [[0, 0, 0], [batches, 0, 0], [0, batches, 0], [5, 11, 0], [batches, batches, 0]] {
        let engine = engine.crash(kept);
        let copy = copy_log(dir.path());
        let log = seg_log(copy.path());
        let (group, _) = open(&log, Arc::new(engine.clone())).expect("opens");
        check(&engine, 30);
        propose(&group, 30..32);
        check(&engine, 32);
        group.shutdown().expect("memory");
    }
}

fn copy_log(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("tempdir");
    std::fs::create_dir(to.path().join("log")).expect("created");
    for file in std::fs::read_dir(from.join("log")).expect("listed") {
        let file = file.expect("listed");
        std::fs::copy(file.path(), to.path().join("log").join(file.file_name())).expect("copied");
    }
    to
}

/// A proposal in pieces is applied as a whole or not at all, wherever the crash comes; a checkpoint in the
/// middle purges none of it.
#[test]
fn pieces_are_applied_together_or_not_at_all() {
    let dir = tempfile::tempdir().expect("tempdir");
    let engine = MemEngine::new();
    let log = seg_log(dir.path());
    let (group, applier) = open(&log, Arc::new(engine.clone())).expect("a new group");
    propose(&group, 0..3);
    let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    let append = |bytes, part| {
        futures::executor::block_on(group.append(Payload::plain(bytes, part)))
            .expect("acknowledged");
    };
    // Cut off after two pieces: the next proposal begins anew.
    append(number(90), Part::Piece(0));
    append(number(91), Part::Piece(1));
    check(&engine, 3);
    futures::executor::block_on(group.propose_pieces(&mut (3..7).map(number))).expect("whole");
    check(&engine, 7);
    assert_eq!(applier.published.load(Ordering::SeqCst), 7);
    group.checkpoint().expect("memory");
    futures::executor::block_on(group.propose_pieces(&mut (7..10).map(number))).expect("whole");
    append(number(92), Part::Piece(0));
    group.checkpoint().expect("memory");
    append(number(93), Part::Piece(1));
    group.stop_threads();
    log.close();
    drop((group, log));
    for lost in 0..=engine.unpersisted() {
        let engine = engine.crash([lost, lost / 2, 0]);
        let copy = copy_log(dir.path());
        let log = seg_log(copy.path());
        let (group, _) = open(&log, Arc::new(engine.clone())).expect("opens");
        check(&engine, 10);
        propose(&group, 10..12);
        check(&engine, 12);
    }
}

/// A checkpoint purges the log; an engine that comes back older than its checkpoint is refused.
#[test]
fn an_engine_older_than_its_checkpoint_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let engine = MemEngine::new();
    let log = seg_log(dir.path());
    let (group, _) = open(&log, Arc::new(engine.clone())).expect("a new group");
    propose(&group, 0..5);
    let forgetful = engine.crash([usize::MAX; 3]);
    propose(&group, 5..20);
    group.shutdown().expect("memory");
    assert_eq!(group.group.stats().applied, group.group.stats().durable);
    assert_eq!(log.bounds(GROUP), None, "all of it is purged");
    for lost in [forgetful, MemEngine::new()] {
        let error = open(&log, Arc::new(lost)).err().expect("refused").to_string();
        assert!(error.contains("the engine has lost data"), "{error}");
    }
    let (group, applier) = open(&log, Arc::new(engine.crash([0; 3]))).expect("nothing to redo");
    assert_eq!(applier.prepared.load(Ordering::SeqCst), 0);
    propose(&group, 20..21);
}

/// A task on the raft thread may hold the last handle: dropping it ends the threads all the same.
#[test]
fn the_raft_thread_may_drop_the_last_handle() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = seg_log(dir.path());
    let (One { raft, group, .. }, _) = open(&log, Arc::new(MemEngine::new())).expect("a new group");
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let last = Arc::clone(&raft);
    drop(raft.spawn(async move {
        let _ = gone.await;
        drop(last);
    }));
    drop((raft, group));
    go.send(()).expect("the task waits");
    for _ in 0..12_000 {
        if Arc::strong_count(&log) == 1 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("the threads do not end");
}

/// A disk that is full now and then: proposals are refused, what is in the log waits; each is applied once,
/// in order, and writes go on when there is room.
#[test]
fn a_full_disk_is_waited_for() {
    const COUNT: u64 = 300;
    let dir = tempfile::tempdir().expect("tempdir");
    let engine = MemEngine::new();
    let log = seg_log(dir.path());
    let (group, applier) = open(&log, Arc::new(engine.clone())).expect("a new group");
    let pause = |ms| std::thread::sleep(std::time::Duration::from_millis(ms));
    let refused = std::thread::scope(|scope| {
        let proposing = scope.spawn(|| {
            let (mut done, mut refused) = (0, 0);
            while done < COUNT {
                let entry = Bytes::copy_from_slice(&done.to_be_bytes());
                match futures::executor::block_on(group.propose(entry)) {
                    Ok(()) => done += 1,
                    Err(ProposeError::DiskFull) => {
                        refused += 1;
                        pause(1);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            refused
        });
        for round in 0..10 {
            engine.set_space([Space::None, Space::Low][round % 2]);
            pause(10);
            let before = applier.published.load(Ordering::SeqCst);
            pause(10);
            assert_eq!(applier.published.load(Ordering::SeqCst), before);
            assert_eq!(group.checkpoint().is_err(), round % 2 == 0);
            engine.set_space(Space::Enough);
            while applier.published.load(Ordering::SeqCst) == before && before < COUNT {
                pause(1);
            }
        }
        proposing.join().expect("all are acknowledged")
    });
    assert!(refused > 0);
    assert_eq!(applier.prepared.load(Ordering::SeqCst), COUNT, "each once");
    check(&engine, COUNT);
    engine.set_space(Space::None);
    group.shutdown().expect_err("no checkpoint on a full disk");
    log.close();
    engine.set_space(Space::Enough);
    let log = seg_log(dir.path());
    let (group, _) = open(&log, Arc::new(engine.crash([3, 40, 0]))).expect("opens");
    propose(&group, COUNT..COUNT + 1);
}

/// A log that has been purged (or lost) above what the engine holds is refused as well.
#[test]
fn a_log_with_a_hole_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = seg_log(dir.path());
    let (group, _) = open(&log, Arc::new(MemEngine::new())).expect("a new group");
    propose(&group, 0..10);
    group.stop_threads();
    let bounds = log.bounds(GROUP).expect("entries");
    log.submit(GROUP, vec![LogWrite::PurgeTo(bounds.0 + 3)], None).expect("queued");
    assert!(open(&log, Arc::new(MemEngine::new())).is_err());
    assert!(log.slot(GROUP, Slot::DurableApplied).is_none());
}

/// The same on disk, several times over, with proposals from several threads.
#[test]
fn fjall_restarts_with_everything() {
    let dir = tempfile::tempdir().expect("tempdir");
    for round in 0..4u64 {
        let mut config = FjallConfig::new(dir.path().join("engine"));
        config.worker_threads = 1;
        let engine = FjallEngine::open(&config, &GcHandle::new()).expect("opens");
        let log = seg_log(dir.path());
        let (group, _) = open(&log, Arc::new(engine.clone())).expect("opens");
        if round > 0 {
            check(&engine, round * 40);
        }
        propose(&group, round * 40..round * 40 + 40);
        check(&engine, round * 40 + 40);
        if round % 2 == 0 {
            group.checkpoint().expect("persisted");
        }
        group.stop_threads();
        log.close();
    }
}

/// Many pieces become files of the engine: none of them is seen when the last is missing, all are when it
/// is there, also after a restart that finds the files without the markers.
#[test]
fn bulk_writes_are_there_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("tempdir");
    let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    let open_all = |at: &Path| {
        let mut config = FjallConfig::new(at.join("engine"));
        config.worker_threads = 1;
        let engine = FjallEngine::open(&config, &GcHandle::new()).expect("opens");
        let log = seg_log(at);
        let (group, applier) = open(&log, Arc::new(engine.clone())).expect("opens");
        (engine, log, group, applier)
    };
    let (engine, log, group, applier) = open_all(dir.path());
    propose(&group, 0..3);
    futures::executor::block_on(group.propose_pieces(&mut (3..40).map(number))).expect("whole");
    check(&engine, 40);
    assert_eq!(applier.published.load(Ordering::SeqCst), 40);
    for n in 0..20 {
        let payload = Payload::plain(number(40 + n), Part::Piece(n as u32));
        futures::executor::block_on(group.append(payload)).expect("acknowledged");
    }
    let seen = engine.range(Keyspace::Cur, &Span::prefix(b"D"), false).count();
    assert_eq!(seen, 40, "what was cut off is not there");
    propose(&group, 40..41);
    futures::executor::block_on(group.propose_pieces(&mut (41..90).map(number))).expect("whole");
    check(&engine, 90);
    group.stop_threads();
    log.close();
    drop((engine, group, log));
    let (engine, log, group, _) = open_all(dir.path());
    check(&engine, 90);
    group.stop_threads();
    log.close();
    drop((engine, group, log));
    // Without the engine everything is made anew from the log.
    std::fs::remove_dir_all(dir.path().join("engine")).expect("removed");
    let (engine, ..) = open_all(dir.path());
    check(&engine, 90);
}

/// An entry that cannot be applied stops the group; the proposer is told that the outcome is unknown.
#[test]
fn a_failed_apply_stops_the_group() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = seg_log(dir.path());
    let (group, _) = open(&log, Arc::new(MemEngine::new())).expect("a new group");
    propose(&group, 0..1);
    let error = futures::executor::block_on(group.propose(Bytes::from_static(b"poison")));
    assert!(matches!(error, Err(ProposeError::Unknown(_))), "{error:?}");
    let after = futures::executor::block_on(group.propose(Bytes::from_static(b"00000001")));
    assert!(after.is_err());
    // The poison is in the log: the group does not open with an applier that cannot read it.
    drop(group);
    assert!(open(&log, Arc::new(MemEngine::new())).is_err());
}

/// An engine whose disk is full when it is to be made durable.
struct FullDisk(MemEngine);

impl Reader for FullDisk {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.0.get(keyspace, key)
    }

    fn range(&self, keyspace: Keyspace, span: &Span, reverse: bool) -> KvIter {
        self.0.range(keyspace, span, reverse)
    }
}

impl Engine for FullDisk {
    fn apply(&self, batch: WriteBatch) -> Result<(), StorageError> {
        self.0.apply(batch)
    }

    fn snapshot(&self) -> Arc<dyn Reader> {
        self.0.snapshot()
    }

    fn pressure(&self) -> Pressure {
        self.0.pressure()
    }

    fn persist(&self) -> Result<(), StorageError> {
        Err(StorageError::DiskFull)
    }

    fn drop_span(&self, span: &Span) -> Result<(), StorageError> {
        self.0.drop_span(span)
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn compact(&self) -> Result<(), StorageError> {
        self.0.compact()
    }
}

/// A checkpoint that fails leaves the log as it is; writes are refused, reads go on, a restart (with room
/// on the disk) has everything.
#[test]
fn a_full_disk_stops_writes_only() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = seg_log(dir.path());
    let engine = MemEngine::new();
    let (group, _) = open(&log, Arc::new(FullDisk(engine.clone()))).expect("a new group");
    propose(&group, 0..10);
    assert!(group.checkpoint().is_err() && group.failed());
    let refused = futures::executor::block_on(group.propose(Bytes::from_static(b"00000001")));
    assert_eq!(refused, Err(ProposeError::DiskFull));
    check(&engine, 10);
    drop(group);
    let after = engine.crash([0; 3]);
    let (_group, _) = open(&log, Arc::new(after.clone())).expect("opens");
    check(&after, 10);
}

#[test]
fn entries_come_back_from_their_bytes() {
    use crate::types::{Entry, LeaderId, LogId, Membership, Payload};
    use openraft::{BasicNode, EntryPayload};
    let log_id = LogId::new(LeaderId { term: 3, node_id: 7 }, 42);
    let voters = std::collections::BTreeSet::from([1, 2]);
    let nodes =
        std::collections::BTreeMap::from([(1, BasicNode::new("a:1")), (2, BasicNode::new(""))]);
    let membership = Membership::new(vec![voters], nodes).expect("voters are nodes");
    for payload in [
        EntryPayload::Blank,
        EntryPayload::Normal(Payload::plain(Bytes::from_static(b"row"), Part::Whole)),
        EntryPayload::Normal(Payload::piece(Bytes::from_static(b"row"), 7)),
        EntryPayload::Normal(Payload::piece(Bytes::from(vec![7; 1000]), 8)),
        EntryPayload::Normal(Payload::plain(Bytes::new(), Part::Last(9))),
        EntryPayload::Membership(membership),
    ] {
        let entry = Entry { log_id, payload };
        let bytes = codec::encode_entry(&entry);
        assert_eq!(codec::peek_entry(&bytes), Some(log_id));
        assert_eq!(codec::decode_entry(bytes.clone()), Some(entry));
        assert!(codec::decode_entry(bytes.slice(..20)).is_none());
    }
}

/// Until redo has come as far as either keyspace had been, one of them may lack what the other has moved there.
#[test]
fn a_redo_is_no_state_to_read_from() {
    use crate::state_machine::{applied_key, recover};
    use crate::types::{LeaderId, LogId};
    let (engine, group) = (MemEngine::new(), RangeId(3));
    let mark = |keyspace, index| {
        let log_id = LogId::new(LeaderId { term: 3, node_id: 7 }, index);
        let mut batch = WriteBatch::default();
        batch.put(keyspace, applied_key(group), codec::encode_log_id(&log_id));
        engine.apply(batch).expect("memory");
    };
    let whole = || recover(&engine, group).expect("reads").whole();
    assert_eq!(whole(), None);
    mark(Keyspace::Cur, 7);
    mark(Keyspace::Hist, 5);
    assert_eq!(whole(), None);
    mark(Keyspace::Hist, 7);
    assert_eq!(whole(), Some(7));
}
