//! Measures commits through raft, log and engine, and a restart:
//! `cargo run --profile perf -p meridian-replication --example measure [-- restart-mib 1024]`.
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_base::{Instant, NodeId, RangeId};
use meridian_replication::{Alone, Applier, MultiRaft, NodeRaftConfig, Publish, RaftGroup};
use meridian_storage::{
    FjallConfig, FjallEngine, GcHandle, Keyspace, LogConfig, Op, RaftLog, SegLog, StorageError,
};

const GROUP: RangeId = RangeId(1);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [] => throughput(),
        [what, mib] if what == "restart-mib" => {
            restart(mib.parse::<u64>().expect("a number of MiB") << 20);
        }
        _ => println!("usage: measure [restart-mib N]"),
    }
}

fn key(n: &[u8]) -> Vec<u8> {
    [b"D", n].concat()
}

/// Every 200 bytes of an entry are an update of one row: a put in `hist`, a put in `cur`.
struct Rows;

/// Bytes of one commit in the measurements.
const COMMIT_BYTES: usize = 200;

impl Applier for Rows {
    fn prepare(&self, entries: Vec<Bytes>, ops: &mut Vec<Op>) -> Result<Publish, StorageError> {
        for entry in entries {
            for at in (0..entry.len()).step_by(COMMIT_BYTES) {
                let row = entry.slice(at..at + COMMIT_BYTES);
                ops.push(Op::put(Keyspace::Hist, key(&row[..16]), row.slice(16..100)));
                ops.push(Op::put(Keyspace::Cur, key(&row[..8]), row.slice(100..)));
            }
        }
        Ok(Box::new(|| ()))
    }
}

/// A node with one group, which it leads alone.
struct Rig {
    raft: Arc<MultiRaft>,
    group: RaftGroup,
    term: u64,
    log: Arc<SegLog>,
    engine: FjallEngine,
}

fn open_rows(dir: &Path) -> Rig {
    let engine = FjallEngine::open(&FjallConfig::new(dir.join("e")), &GcHandle::new());
    let engine = engine.expect("opens");
    let log = Arc::new(SegLog::open(LogConfig::new(dir.join("log"))).expect("opens"));
    let config = NodeRaftConfig::new(NodeId(1));
    let (raft_log, raft_engine) = (Arc::clone(&log) as _, Arc::new(engine.clone()));
    let raft = MultiRaft::start(config, raft_log, raft_engine, Arc::new(Alone), Arc::new(Alone));
    let raft = raft.expect("starts");
    let opening = raft.open_alone(GROUP, Arc::new(Rows), Duration::from_secs(120));
    let group = futures::executor::block_on(opening).expect("opens");
    let term = group.role().borrow().term;
    Rig { raft, group, term, log, engine }
}

fn commits(n: u64, count: u64) -> Bytes {
    let mut entry = vec![0; COMMIT_BYTES * count as usize];
    for (i, commit) in entry.chunks_mut(COMMIT_BYTES).enumerate() {
        // Scattered keys, so that the engine sorts.
        let key = (n * count + i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        commit[..8].copy_from_slice(&key.to_be_bytes());
        commit[8..16].copy_from_slice(&n.to_be_bytes());
    }
    entry.into()
}

/// Writers whose commits are gathered while an entry is in flight, as the layer above does it.
fn throughput() {
    let dir = tempfile::tempdir().expect("tempdir");
    let Rig { raft: _raft, group, term, log, .. } = open_rows(dir.path());
    for writers in [1u64, 4, 32] {
        let (rounds, before, cpu) = (3000, log.stats(), cpu_time());
        let start = Instant::now();
        for n in 0..rounds {
            futures::executor::block_on(group.propose(term, commits(n, writers)))
                .expect("acknowledged");
        }
        let (took, cpu) = (start.elapsed(), cpu_time() - cpu);
        let commits = rounds * writers;
        println!(
            "{writers} writers: {:.0} commits/s, {:.1} µs a round, {:.2} µs cpu a commit, {} fsyncs",
            commits as f64 / took.as_secs_f64(),
            took.as_micros() as f64 / rounds as f64,
            cpu / commits as f64,
            log.stats().frames - before.frames,
        );
    }
}

/// How long a restart takes after so many bytes of commits and a crash.
fn restart(bytes: u64) {
    let dir = tempfile::tempdir().expect("tempdir");
    let Rig { raft, group, term, log, engine } = open_rows(dir.path());
    let start = Instant::now();
    // As a bulk load comes: 4 MB an entry.
    let (per_entry, entries) = (20_000, bytes / (20_000 * COMMIT_BYTES as u64));
    let mut journals = 0;
    for n in 0..entries {
        futures::executor::block_on(group.propose(term, commits(n, per_entry)))
            .expect("acknowledged");
        journals = journals.max(engine.journal_bytes());
    }
    println!(
        "at most {} MiB of journals, {} MiB now",
        journals >> 20,
        engine.journal_bytes() >> 20
    );
    println!("written in {:?}, {:?}, {:?}", start.elapsed(), group.stats(), log.stats());
    raft.stop_threads();
    log.close();
    drop((raft, group, log, engine));
    let start = Instant::now();
    let engine = FjallEngine::open(&FjallConfig::new(dir.path().join("e")), &GcHandle::new());
    println!("engine opened after {:?}", start.elapsed());
    drop(engine);
    let start = Instant::now();
    let Rig { raft: _raft, group, log, .. } = open_rows(dir.path());
    println!("all open after {:?}: {:?}, {:?}", start.elapsed(), group.stats(), log.stats());
}

/// CPU microseconds of this process so far.
fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let tasks = std::fs::read_dir("/proc/self/task").expect("linux");
    let of =
        |text: String| text.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    let all: f64 = tasks
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("schedstat")).ok())
        .map(of)
        .sum();
    if all > 0.0 { all / 1000.0 } else { of(stat) / 1000.0 }
}
