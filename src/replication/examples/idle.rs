//! What groups cost that have nothing to do: three nodes in this process, each with all the groups.
//! `cargo run --release -p meridian-replication --example idle [-- GROUPS]`
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::collections::BTreeMap;
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
    let started: BTreeMap<_, _> = ids
        .iter()
        .map(|id| {
            let log = SegLog::open(LogConfig::new(dir.path().join(id.to_string())));
            let network = Direct(*id, Arc::clone(&nodes), Arc::clone(&calls));
            let raft = MultiRaft::start(
                NodeRaftConfig::new(*id),
                Arc::new(log.expect("opens")),
                Arc::new(MemEngine::new()),
                Arc::new(network),
                Arc::new(Alone),
            );
            (*id, raft.expect("starts"))
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
