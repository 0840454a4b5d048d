//! Torture of the log: every way in which its files may look after a crash, and what must come back.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use meridian_base::{RangeId, Rng};

use super::*;

const G1: RangeId = RangeId(1);
const G2: RangeId = RangeId(2);

fn open_with(dir: &Path, segment_bytes: u64) -> Result<SegLog, StorageError> {
    let mut config = LogConfig::new(dir);
    config.segment_bytes = segment_bytes;
    config.on_fatal = Arc::new(|error| panic!("disk failed in a test: {error}"));
    SegLog::open(config)
}

fn open(dir: &Path) -> SegLog {
    open_with(dir, 1 << 16).expect("a sound log opens")
}

/// Submits and waits until durable.
fn write(log: &SegLog, group: RangeId, writes: Vec<LogWrite>) {
    let (tx, rx) = mpsc::channel();
    log.submit(group, writes, Some(Box::new(move || tx.send(()).expect("awaited")))).expect("open");
    rx.recv().expect("the callback is called");
}

fn entry(index: u64, text: &str) -> LogWrite {
    LogWrite::Entry { index, data: Bytes::copy_from_slice(text.as_bytes()) }
}

fn texts(log: &SegLog, group: RangeId) -> Vec<(u64, String)> {
    let text = |data: Bytes| String::from_utf8_lossy(&data).into_owned();
    log.entries(group, 0, u64::MAX).into_iter().map(|(i, d)| (i, text(d))).collect()
}

fn last_segment(dir: &Path) -> std::path::PathBuf {
    segment::path(dir, *segment::list(dir).expect("listed").last().expect("one at least"))
}

#[test]
fn reopening_finds_all_groups_as_they_were() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    write(&log, G1, (1..=5).map(|i| entry(i, &format!("a{i}"))).collect());
    write(&log, G2, vec![LogWrite::Slot(Slot::Vote, Bytes::from_static(b"v1")), entry(7, "x")]);
    write(&log, G1, vec![LogWrite::TruncateFrom(4), entry(4, "b4")]);
    write(&log, G1, vec![LogWrite::PurgeTo(2)]);
    write(&log, G2, vec![LogWrite::Slot(Slot::Vote, Bytes::from_static(b"v2"))]);
    let expected = vec![(3, "a3".to_owned()), (4, "b4".to_owned())];
    for _ in 0..3 {
        log.close();
        let log = open(dir.path());
        assert_eq!(texts(&log, G1), expected);
        assert_eq!((log.bounds(G1), log.bounds(G2)), (Some((3, 4)), Some((7, 7))));
        assert_eq!(log.slot(G2, Slot::Vote).as_deref(), Some(&b"v2"[..]));
        assert_eq!(log.groups(), [G1, G2]);
    }
    assert!(log.submit(G1, vec![], None).is_err(), "a closed log takes nothing");
    assert!(open(dir.path()).submit(G1, vec![entry(9, "gap")], None).is_err());
}

/// The last frame is torn at every possible byte: everything before it comes back, and the log goes on.
#[test]
fn a_torn_tail_is_forgotten() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    write(&log, G1, vec![entry(1, "kept")]);
    log.close();
    let before = std::fs::read(last_segment(dir.path())).expect("read");
    let log = open(dir.path());
    write(&log, G1, vec![entry(2, "lost")]);
    log.close();
    let path = last_segment(dir.path());
    assert_ne!(before, std::fs::read(&path).expect("read"));
    let whole = std::fs::read(&path).expect("read");
    let end = whole.iter().rposition(|b| *b != 0).expect("a frame") + 1;
    // A header is within one sector: there whole or not at all.
    for cut in std::iter::once(0).chain((64..end).step_by(7)) {
        let dir = copy(dir.path());
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        std::fs::write(last_segment(dir.path()), &torn).expect("written");
        let log = open(dir.path());
        assert_eq!(texts(&log, G1), [(1, "kept".to_owned())], "cut at {cut}");
        write(&log, G1, vec![entry(2, "again")]);
        log.close();
        assert_eq!(texts(&open(dir.path()), G1)[1].1, "again");
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("tempdir");
    for file in std::fs::read_dir(from).expect("listed") {
        let file = file.expect("listed");
        std::fs::copy(file.path(), to.path().join(file.file_name())).expect("copied");
    }
    to
}

/// One flipped bit before the last frame is damage to acknowledged data: the log refuses, and says so.
#[test]
fn a_flipped_bit_in_the_middle_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    for i in 1..=20 {
        write(&log, G1, vec![entry(i, "some acknowledged bytes")]);
    }
    log.close();
    let whole = std::fs::read(last_segment(dir.path())).expect("read");
    let used = whole.iter().rposition(|b| *b != 0).expect("frames");
    let mut rng = Rng::seeded(3);
    let frame = 128; // 24 + 21 + 23 bytes, padded
    let mut header = whole.clone();
    header[20] ^= 4;
    let broken = copy(dir.path());
    std::fs::write(last_segment(broken.path()), &header).expect("written");
    assert!(open_with(broken.path(), 1 << 16).is_err(), "nor is a damaged header believed");
    for _ in 0..60 {
        let at = 64 + rng.below((used - 64 - frame) as u64) as usize;
        // Padding is not covered by the checksum.
        if (at - 64) % frame >= 68 {
            continue;
        }
        let dir = copy(dir.path());
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << rng.below(8);
        std::fs::write(last_segment(dir.path()), &bytes).expect("written");
        let error = open_with(dir.path(), 1 << 16).err().expect("refused").to_string();
        assert!(error.contains("acknowledged data is lost"), "{error}");
    }
}

/// A segment in the middle is missing or damaged: refused as well.
#[test]
fn a_missing_segment_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open_with(dir.path(), 4096).expect("opens");
    for i in 1..=200 {
        write(&log, G1, vec![entry(i, &"x".repeat(100))]);
    }
    log.close();
    let ids = segment::list(dir.path()).expect("listed");
    assert!(ids.len() > 3, "several segments: {ids:?}");
    let broken = copy(dir.path());
    std::fs::remove_file(segment::path(broken.path(), ids[1])).expect("removed");
    assert!(open_with(broken.path(), 4096).is_err());
    let broken = copy(dir.path());
    let path = segment::path(broken.path(), ids[1]);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[3] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    assert!(open_with(broken.path(), 4096).is_err());
    assert_eq!(texts(&open_with(dir.path(), 4096).expect("sound"), G1).len(), 200);
}

/// Purged segments are reused; the garbage in them is never taken for frames.
#[test]
fn recycled_segments_do_not_haunt() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut next = 1;
    let mut kept = Vec::new();
    for round in 0..8 {
        let log = open_with(dir.path(), 8192).expect("opens");
        let found: Vec<u64> = texts(&log, G1).into_iter().map(|(i, _)| i).collect();
        assert_eq!(found, kept, "round {round}");
        for _ in 0..300 {
            write(&log, G1, vec![entry(next, &"y".repeat(90))]);
            next += 1;
            if next % 50 == 0 {
                write(&log, G1, vec![LogWrite::PurgeTo(next - 10)]);
            }
        }
        assert!(log.stats().segments < 12, "{:?}", log.stats());
        kept = texts(&log, G1).into_iter().map(|(i, _)| i).collect();
        log.close();
    }
    let files = std::fs::read_dir(dir.path()).expect("listed").count();
    assert!(files < 20, "{files} files");
}

/// A frame larger than a segment gets a segment of its own.
#[test]
fn a_huge_entry_fits() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open_with(dir.path(), 4096).expect("opens");
    write(&log, G1, vec![entry(1, "small")]);
    write(&log, G1, vec![entry(2, &"z".repeat(100_000)), entry(3, "small")]);
    log.close();
    let log = open_with(dir.path(), 4096).expect("opens");
    assert_eq!(texts(&log, G1).iter().map(|(_, t)| t.len()).collect::<Vec<_>>(), [5, 100_000, 5]);
}

/// What is queued while one frame is being synced goes into the next one, whole.
#[test]
fn commits_are_grouped() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = Arc::new(open_with(dir.path(), 1 << 20).expect("opens"));
    let (tx, rx) = mpsc::channel();
    for i in 1..=5000 {
        let tx = tx.clone();
        let done: Durable = Box::new(move || tx.send(i).expect("awaited"));
        log.submit(G1, vec![entry(i, "e")], Some(done)).expect("open");
    }
    let order: Vec<u64> = rx.iter().take(5000).collect();
    assert!(order.is_sorted(), "callbacks come in order");
    assert!(log.stats().frames < 2500, "{:?}", log.stats());
}

/// Spares of the last process: a whole one becomes a segment, garbage in it and all; a short one goes.
#[test]
fn spares_left_behind_are_used_if_they_are_whole() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (whole, short) =
        (dir.path().join("spare-00000009.tmp"), dir.path().join("spare-00000003.tmp"));
    std::fs::write(&whole, vec![0xAB; 1 << 16]).expect("written");
    std::fs::write(&short, vec![0; 100]).expect("written");
    let log = open(dir.path());
    assert!(!short.exists());
    write(&log, G1, vec![entry(1, "a")]);
    assert!(!whole.exists(), "it has become the first segment");
    log.close();
    let log = open(dir.path());
    assert_eq!(texts(&log, G1), [(1, "a".to_owned())]);
    write(&log, G1, vec![entry(2, "b")]);
    log.close();
}

/// A group that is forgotten is gone after a restart, does not hold up segments, and may begin anew at any
/// index.
#[test]
fn a_forgotten_group_leaves_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let long = "x".repeat(20_000);
    for index in 1..=20 {
        write(&log, G1, vec![entry(index, &long)]);
        write(&log, G2, vec![entry(index, &long)]);
    }
    write(
        &log,
        G2,
        vec![LogWrite::Slot(Slot::Vote, Bytes::from_static(b"v")), LogWrite::PurgeTo(3)],
    );
    let before = log.stats().segments;
    write(&log, G2, vec![LogWrite::Forget]);
    assert_eq!((log.groups(), log.bounds(G2)), (vec![G1], None));
    write(&log, G1, vec![LogWrite::PurgeTo(19)]);
    assert!(log.stats().segments < before / 4, "{} of {before}", log.stats().segments);
    log.close();
    let log = open(dir.path());
    assert_eq!((log.groups(), log.slot(G2, Slot::Vote)), (vec![G1], None));
    write(&log, G2, vec![LogWrite::Forget, entry(0, "new"), entry(1, "life")]);
    log.close();
    let log = open(dir.path());
    assert_eq!(texts(&log, G2), [(0, "new".to_owned()), (1, "life".to_owned())]);
    assert_eq!(log.bounds(G1), Some((20, 20)));
}

/// A thread that flushes when it is idle: nothing is durable before, callbacks come in order whoever
/// flushes, what is much goes to the log's own thread, and closing writes what is left.
#[test]
fn an_idle_thread_does_the_logs_work() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = Arc::new(open_with(dir.path(), 1 << 20).expect("opens"));
    let (tx, rx) = mpsc::channel();
    let submit = |n: u64, data: LogWrite| {
        let tx = tx.clone();
        log.submit(G1, vec![data], Some(Box::new(move || tx.send(n).expect("open"))))
            .expect("open");
    };
    log.flush_here();
    submit(1, entry(1, "a"));
    submit(2, entry(2, "b"));
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(rx.try_recv().is_err(), "nobody has flushed");
    log.flush_here();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(log.stats().frames, 1);
    // Another thread's writes wake the log's own, which takes all that is queued.
    submit(3, entry(3, "c"));
    std::thread::scope(|scope| {
        scope.spawn(|| log.submit(G2, vec![entry(1, "other")], None).expect("open"));
    });
    assert_eq!(rx.recv(), Ok(3));
    submit(4, LogWrite::Entry { index: 4, data: Bytes::from(vec![7; 200 << 10]) });
    assert_eq!(rx.recv(), Ok(4), "much is not left to the idle thread");
    submit(5, entry(5, "e"));
    log.close();
    assert_eq!(rx.try_recv(), Ok(5));
    log.flush_here();
    drop(log);
    let log = open(dir.path());
    assert_eq!((log.bounds(G1), log.bounds(G2)), (Some((1, 5)), Some((1, 1))));
}
