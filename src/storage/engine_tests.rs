//! Every test runs on the memory engine and on fjall, and the two must agree.

use bytes::Bytes;
use meridian_base::{Rng, Span, Timestamp, keys};

use crate::engine::{Engine, Keyspace, Op, Reader, WriteBatch};
use crate::mvcc::{self, MvccScan, Version};
use crate::{FjallConfig, FjallEngine, GcHandle, MemEngine, StorageError};

struct Mirror {
    engines: [Box<dyn Engine>; 2],
    gc: GcHandle,
    _dir: tempfile::TempDir,
}

fn fjall(dir: &std::path::Path, gc: &GcHandle) -> Result<FjallEngine, StorageError> {
    let mut config = FjallConfig::new(dir);
    config.worker_threads = 1;
    FjallEngine::open(&config, gc)
}

impl Mirror {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let gc = GcHandle::new();
        let disk = fjall(dir.path(), &gc).expect("a new database");
        Self { engines: [Box::new(MemEngine::new()), Box::new(disk)], gc, _dir: dir }
    }

    /// Writes one version as the layer above does: read the newest, then blind writes.
    fn write(&self, key: &[u8], row: Option<&str>, ts: u64) {
        let mut ops = Vec::new();
        let old = self.newest(key);
        mvcc::write_ops(key, old.as_ref(), row.map(str::as_bytes), Timestamp(ts), &mut ops);
        for engine in &self.engines {
            engine.apply(WriteBatch { ops: ops.clone() }).expect("applied");
        }
    }

    fn newest(&self, key: &[u8]) -> Option<Version> {
        self.agree(|engine| mvcc::newest(engine, key).expect("read"))
    }

    fn get(&self, key: &[u8], ts: u64) -> Option<Bytes> {
        self.agree(|engine| mvcc::get(engine, key, Timestamp(ts)).expect("read"))
    }

    fn scan(&self, span: &Span, reverse: bool, ts: u64, batch: usize) -> Vec<(Bytes, Bytes)> {
        self.agree(|engine| {
            let mut scan = MvccScan::new(engine.snapshot(), span, reverse, Timestamp(ts));
            let mut rows = Vec::new();
            while scan.next_batch(batch, &mut rows).expect("read") {}
            rows
        })
    }

    fn agree<T: PartialEq + std::fmt::Debug>(&self, read: impl Fn(&dyn Engine) -> T) -> T {
        let [a, b] = self.engines.each_ref().map(|engine| read(engine.as_ref()));
        assert_eq!(a, b, "memory and fjall disagree");
        a
    }
}

/// The example of the module's documentation, read at every timestamp.
#[test]
fn a_key_through_its_life() {
    let m = Mirror::new();
    m.write(b"k", None, 5); // deleting nothing writes nothing
    assert_eq!(m.newest(b"k"), None);
    m.write(b"k", Some("a"), 10);
    m.write(b"k", Some("b"), 20);
    m.write(b"k", None, 30);
    m.write(b"k", Some("c"), 40);
    m.write(b"kk", Some("other"), 15); // the key is its prefix; versions must not mix
    let expected = [(9, None), (10, Some("a")), (19, Some("a")), (20, Some("b")), (29, Some("b"))];
    for (ts, row) in expected.into_iter().chain([(30, None), (39, None), (40, Some("c"))]) {
        assert_eq!(m.get(b"k", ts).as_deref(), row.map(str::as_bytes), "at {ts}");
    }
}

/// Random histories against a model: reads and scans at random timestamps, both directions, any batch size.
#[test]
fn random_histories_agree_with_a_model() {
    let m = Mirror::new();
    let mut rng = Rng::seeded(11);
    let mut model: Vec<(Vec<u8>, u64, Option<String>)> = Vec::new();
    for ts in 1..400u64 {
        let key = vec![b'a' + rng.below(12) as u8, 0, 1];
        let row = rng.chance(0.7).then(|| format!("r{ts}"));
        m.write(&key, row.as_deref(), ts);
        model.push((key, ts, row));
        if ts % 40 == 0 {
            let at = 1 + rng.below(ts);
            let mut rows = std::collections::BTreeMap::new();
            for (key, _, row) in model.iter().filter(|(_, ts, _)| *ts <= at) {
                rows.insert(key.clone(), row.clone());
            }
            let span = Span::new(&b"c"[..], &b"k"[..]);
            let visible = rows.into_iter().filter_map(|(k, row)| Some((k, row?)));
            let expected: Vec<_> = visible
                .filter(|(k, _)| span.contains(k))
                .map(|(k, row)| (Bytes::from(k), Bytes::from(row)))
                .collect();
            assert_eq!(m.scan(&span, false, at, 1 + rng.below(5) as usize), expected);
            let backwards: Vec<_> = expected.iter().rev().cloned().collect();
            assert_eq!(m.scan(&span, true, at, 3), backwards);
        }
    }
}

/// Redo after a crash repeats writes over a store where only one keyspace survived: the result is the same.
#[test]
fn writes_may_be_repeated() {
    let m = Mirror::new();
    let mut all = Vec::new();
    let mut old: Option<Version> = None;
    for ts in 1..6u64 {
        let row = format!("v{ts}");
        mvcc::write_ops(b"k", old.as_ref(), Some(row.as_bytes()), Timestamp(ts), &mut all);
        old = Some(Version { ts: Timestamp(ts), row: Some(row.into()) });
    }
    let only =
        |keyspace| all.iter().filter(move |op: &&Op| op.keyspace == keyspace).cloned().collect();
    for ops in [only(Keyspace::Cur), all.clone()] {
        let ops: Vec<Op> = ops;
        for engine in &m.engines {
            engine.apply(WriteBatch { ops: ops.clone() }).expect("applied");
        }
    }
    assert_eq!((m.get(b"k", 3), m.get(b"k", 9)), (Some("v3".into()), Some("v5".into())));
}

/// Compactions drop superseded versions, tombstones and dead spans, and nothing that a read at or above
/// the threshold can see; an open snapshot is not disturbed.
#[test]
fn compaction_collects_garbage() {
    let m = Mirror::new();
    let row_key = |storage: u32, n: u8| [&keys::index_prefix(storage, 1)[..], &[n]].concat();
    for n in 0..20 {
        m.write(&row_key(5, n), Some("old"), 10);
        m.write(&row_key(5, n), (n % 2 == 0).then_some("new"), 20);
        m.write(&row_key(6, n), Some("dropped"), 10);
    }
    let span = keys::storage_span(5);
    let before = m.scan(&span, false, 20, 100);
    let held = m.engines[1].snapshot();
    m.gc.advance(Timestamp::from_micros(1), 0, None);
    m.gc.bury([keys::storage_span(6)]);
    m.engines[1].compact().expect("compacted");
    let disk = m.engines[1].as_ref();
    let count = |keyspace| disk.range(keyspace, &Span::all(), false).count();
    assert_eq!((count(Keyspace::Cur), count(Keyspace::Hist)), (10, 0));
    assert_eq!(m.scan(&span, false, 20, 100), before);
    let mut rows = Vec::new();
    MvccScan::new(held, &span, false, Timestamp(20)).next_batch(100, &mut rows).expect("read");
    assert_eq!(rows, before, "the snapshot from before sees what it saw");
}

/// What was persisted survives the loss of everything else; a damaged journal is cut, not believed.
#[test]
fn fjall_after_a_crash() {
    let dir = tempfile::tempdir().expect("tempdir");
    let gc = GcHandle::new();
    let engine = fjall(dir.path(), &gc).expect("new");
    let write = |n: u64| {
        let mut batch = WriteBatch::default();
        batch.put(Keyspace::Cur, n.to_be_bytes().to_vec(), vec![n as u8; 3000]);
        batch.put(Keyspace::Hist, n.to_be_bytes().to_vec(), vec![n as u8; 300]);
        engine.apply(batch).expect("applied");
    };
    (0..50).for_each(write);
    engine.persist().expect("persisted");
    (50..100).for_each(write);
    // The process dies: what a copy of the files holds now is what a restart would find.
    let crashed = tempfile::tempdir().expect("tempdir");
    copy_tree(dir.path(), crashed.path());
    let found = |dir: &std::path::Path| {
        let engine = fjall(dir, &gc).expect("opens");
        engine.range(Keyspace::Cur, &Span::all(), false).count()
    };
    let torn = tempfile::tempdir().expect("tempdir");
    copy_tree(dir.path(), torn.path());
    assert!((50..=100).contains(&found(crashed.path())));
    // A power failure leaves a hole inside a value of the 60th batch or so.
    let path = crate::journal::files(torn.path()).expect("listed").pop().expect("a journal");
    let mut bytes = std::fs::read(&path).expect("read");
    let hole =
        bytes.windows(8).rposition(|w| w == [60; 8]).expect("the 60th batch is in the journal");
    bytes[hole - 200..hole - 100].fill(0);
    std::fs::write(&path, bytes).expect("written");
    assert_eq!(found(torn.path()), 60);
}

/// A dropped span gives its files back, and its neighbours keep theirs.
#[test]
fn a_dropped_span_is_freed() {
    let m = Mirror::new();
    for storage in [5, 6, 7] {
        for n in 0..50u8 {
            m.write(&[&keys::index_prefix(storage, 1)[..], &[n]].concat(), Some("row"), 10);
        }
        m.engines[1].compact().expect("flushed");
    }
    m.gc.bury([keys::storage_span(6)]);
    for engine in &m.engines {
        engine.drop_span(&keys::storage_span(6)).expect("dropped");
    }
    m.engines[1].compact().expect("compacted");
    assert_eq!(m.scan(&Span::all(), false, 20, 1000).len(), 100);
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("typed").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
