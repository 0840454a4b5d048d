//! What groups cost that have nothing to do: three nodes in this process, each with all the groups.
//! `cargo run --release -p meridian-replication --example idle [-- GROUPS]`
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_base::{Instant, NodeId, RangeId};
use meridian_replication::{
    Alone, Applier, Class, MultiRaft, Network, NetworkError, NodeRaftConfig, Publish,
};
use meridian_storage::{Keyspace, LogConfig, MemEngine, Op, SegLog, StorageError};

/// Puts each entry under one key.
struct Newest(RangeId);

impl Applier for Newest {
    fn prepare(&self, entries: Vec<Bytes>, ops: &mut Vec<Op>) -> Result<Publish, StorageError> {
        let key = [&b"D"[..], &self.0.0.to_be_bytes()].concat();
        ops.extend(entries.into_iter().map(|entry| Op::put(Keyspace::Cur, key.clone(), entry)));
        Ok(Box::new(|| ()))
    }
}

type Nodes = OnceLock<BTreeMap<NodeId, Arc<MultiRaft>>>;

/// A call is a call.
struct Direct(NodeId, Arc<Nodes>, Arc<AtomicU64>);

impl Network for Direct {
    fn call(
        &self,
        to: NodeId,
        body: Bytes,
        _: Class,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        self.2.fetch_add(1, Ordering::Relaxed);
        let node = self.1.get().and_then(|nodes| nodes.get(&to));
        let serving = node.map(|node| node.handle(self.0, body));
        Box::pin(async move {
            let none = || NetworkError::Unreachable("it has not started".into());
            Ok(serving.ok_or_else(none)?.await.unwrap_or_else(|error| error.reply()))
        })
    }
}

fn main() {
    let count = std::env::args().nth(1).map_or(1000, |n| n.parse().expect("a number of groups"));
    let dir = tempfile::tempdir().expect("tempdir");
    let (nodes, calls) = (Arc::new(Nodes::new()), Arc::new(AtomicU64::new(0)));
    let ids = [NodeId(1), NodeId(2), NodeId(3)];
    let mut engines = BTreeMap::<NodeId, MemEngine>::new();
    let started: BTreeMap<_, _> = ids
        .iter()
        .map(|id| {
            let network = Direct(*id, Arc::clone(&nodes), Arc::clone(&calls));
            let engine = engines.entry(*id).or_default().clone();
            (*id, start_node(*id, dir.path(), engine, network))
        })
        .collect();
    assert!(nodes.set(started).is_ok());
    let nodes = nodes.get().expect("set");
    let (before, start) = (resident(), Instant::now());
    for group in (1..=count).map(RangeId) {
        for (id, node) in nodes {
            let applier = Arc::new(Newest(group));
            match id.0 == group.0 % 3 + 1 {
                true => drop(wait(node.create_group(group, &ids, applier)).expect("new")),
                false => drop(wait(node.open_group(group, applier)).expect("opens")),
            }
        }
        let leader = nodes[&NodeId(group.0 % 3 + 1)].group(group).expect("open");
        leader.campaign();
        let mut role = leader.role();
        let term = wait(role.wait_for(|role| role.is_leader)).expect("leads").term;
        for _ in 0..3 {
            wait(leader.propose(term, Bytes::from_static(&[7; 100]))).expect("acknowledged");
        }
    }
    let replicas = 3 * count;
    println!("{replicas} replicas led and written to after {:?}", start.elapsed());
    std::thread::sleep(Duration::from_secs(12));
    println!("{} KiB a replica", (resident() - before) / 1024 / replicas);
    let (cpu, asked) = (cpu_micros(), calls.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_secs(20));
    println!(
        "idle for 20 s: {} µs of CPU a second in all three nodes, {} calls",
        (cpu_micros() - cpu) / 20,
        calls.load(Ordering::Relaxed) - asked
    );
    nodes.values().for_each(|node| node.stop_threads());
    let start = Instant::now();
    let copy = Direct(NodeId(9), Arc::default(), Arc::default());
    // The log of a node that is no more, as the disk has it.
    let again = start_node(ids[0], &copied(dir.path(), ids[0]), engines[&ids[0]].clone(), copy);
    for group in again.stored() {
        wait(again.open_group(group, Arc::new(Newest(group)))).expect("opens");
    }
    println!("{} replicas open after {:?}", again.groups().len(), start.elapsed());
    again.stop_threads();
}

fn start_node(id: NodeId, dir: &Path, engine: MemEngine, network: Direct) -> Arc<MultiRaft> {
    let log = SegLog::open(LogConfig::new(dir.join(id.to_string()))).expect("opens");
    let (config, engine) = (NodeRaftConfig::new(id), Arc::new(engine));
    let raft = MultiRaft::start(config, Arc::new(log), engine, Arc::new(network), Arc::new(Alone));
    raft.expect("starts")
}

/// The files of a node's log in a directory of their own.
fn copied(dir: &Path, id: NodeId) -> PathBuf {
    let (from, to) = (dir.join(id.to_string()), dir.join("copy"));
    std::fs::create_dir_all(to.join(id.to_string())).expect("created");
    for file in std::fs::read_dir(from).expect("listed") {
        let file = file.expect("listed");
        let name = to.join(id.to_string()).join(file.file_name());
        std::fs::copy(file.path(), name).expect("copied");
    }
    to
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// Bytes of memory in use.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("linux");
    4096 * statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages")
}

/// CPU microseconds of this process so far.
fn cpu_micros() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("linux");
    let of = |text: String| text.split(' ').next().and_then(|n| n.parse::<u64>().ok());
    tasks
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("schedstat")).ok())
        .filter_map(of)
        .sum::<u64>()
        / 1000
}
