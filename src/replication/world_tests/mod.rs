//! Several nodes in one process: a network that delays, loses, reorders and is cut where a test says so,
//! engines and logs that survive their node.

mod elections;
mod faults;
mod membership;
mod snapshots;
mod splits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_base::{NodeId, RangeId, Span, rng::Rng};
use meridian_storage::{
    Engine, Keyspace, LogConfig, MemEngine, Op, RaftLog, Reader, SegLog, StorageError,
};
use parking_lot::Mutex;

use crate::{
    Applier, Authority, Class, HandleError, MultiRaft, Network, NetworkError, NodeRaftConfig, Part,
    ProposeError, Publish, RaftGroup, Role,
};

pub(super) const GROUP: RangeId = RangeId(7);

/// The wire between all nodes.
#[derive(Default)]
pub(super) struct Wire {
    nodes: Mutex<BTreeMap<NodeId, Arc<MultiRaft>>>,
    /// Directed: nothing goes from the first to the second.
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    /// Of a thousand messages, those that are lost.
    pub(super) loss: AtomicU64,
    /// Whether messages take random times.
    pub(super) jitter: AtomicBool,
    pub(super) calls: AtomicU64,
    pub(super) bulk_calls: AtomicU64,
    /// Bulk calls that still go through, if that is limited.
    pub(super) bulk_left: Mutex<Option<u64>>,
}

impl Wire {
    fn passes(&self, from: NodeId, to: NodeId, rng: &Mutex<Rng>) -> bool {
        let lost = rng.lock().next_u64() % 1000 < self.loss.load(Ordering::Relaxed);
        !lost && !self.cut.lock().contains(&(from, to))
    }

    fn bulk_passes(&self, class: Class) -> bool {
        if class == Class::Raft {
            return true;
        }
        self.bulk_calls.fetch_add(1, Ordering::Relaxed);
        match &mut *self.bulk_left.lock() {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }
}

struct Port {
    wire: Arc<Wire>,
    me: NodeId,
    rng: Arc<Mutex<Rng>>,
}

impl Network for Port {
    fn call(
        &self,
        to: NodeId,
        body: Bytes,
        class: Class,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let (wire, me, rng) = (Arc::clone(&self.wire), self.me, Arc::clone(&self.rng));
        wire.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let lost = || NetworkError::Unreachable("lost".into());
            if wire.jitter.load(Ordering::Relaxed) {
                let micros = rng.lock().next_u64() % 3000;
                tokio::time::sleep(Duration::from_micros(micros)).await;
            }
            if !wire.passes(me, to, &rng) || !wire.bulk_passes(class) {
                return Err(lost());
            }
            let node = wire.nodes.lock().get(&to).cloned().ok_or_else(lost)?;
            let serving = node.handle(me, body);
            drop(node);
            let reply = match serving.await {
                Err(HandleError::Stopped(_)) => return Err(lost()),
                other => other.unwrap_or_else(|error| error.reply()),
            };
            if !wire.passes(to, me, &rng) {
                return Err(lost());
            }
            Ok(reply)
        })
    }
}

/// Whom a node supports: everybody, until a test withdraws that.
#[derive(Default)]
pub(super) struct Support(Mutex<BTreeMap<NodeId, (u64, bool)>>);

impl Authority for Support {
    fn may_vote(&self, _: RangeId, leader: Option<NodeId>, candidate: NodeId) -> bool {
        let Some(leader) = leader else { return true };
        leader == candidate || !self.0.lock().get(&leader).is_none_or(|(_, supported)| *supported)
    }

    fn support_epoch(&self, of: NodeId) -> u64 {
        self.0.lock().get(&of).map_or(1, |(epoch, _)| *epoch)
    }
}

impl Support {
    pub(super) fn withdraw(&self, of: NodeId) {
        let mut all = self.0.lock();
        let epoch = all.get(&of).map_or(1, |(epoch, _)| *epoch);
        all.insert(of, (epoch + 1, false));
    }

    pub(super) fn resume(&self, of: NodeId) {
        if let Some((_, supported)) = self.0.lock().get_mut(&of) {
            *supported = true;
        }
    }
}

/// Puts each entry under its group and first eight bytes, and keeps the order in which they came.
pub(super) struct Rows {
    group: RangeId,
    pub(super) installed: AtomicU64,
}

fn row_prefix(group: RangeId) -> Vec<u8> {
    [&b"D"[..], &group.0.to_be_bytes()].concat()
}

impl Applier for Rows {
    fn prepare(&self, entries: Vec<Bytes>, ops: &mut Vec<Op>) -> Result<Publish, StorageError> {
        for entry in entries {
            let key = [&row_prefix(self.group)[..], &entry[..8]].concat();
            ops.push(Op::put(Keyspace::Hist, key.clone(), entry.clone()));
            ops.push(Op::put(Keyspace::Cur, key, entry));
        }
        Ok(Box::new(|| ()))
    }

    fn content(&self) -> Option<Vec<Part>> {
        let span = Span::prefix(&row_prefix(self.group));
        Some(vec![(Keyspace::Cur, span.clone()), (Keyspace::Hist, span)])
    }

    fn installed(&self) -> Result<(), StorageError> {
        self.installed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// What survives a node.
pub(super) struct Disk {
    dir: tempfile::TempDir,
    pub(super) engine: MemEngine,
}

/// A node that runs.
pub(super) struct Running {
    pub(super) raft: Arc<MultiRaft>,
    log: Arc<SegLog>,
}

impl Running {
    /// The last entry, if there is one.
    pub(super) fn log_end(&self) -> Option<u64> {
        self.log.bounds(GROUP).map(|(_, last)| last)
    }
}

/// Makes another engine of an engine.
pub(super) type Wrap = Arc<dyn Fn(MemEngine) -> Arc<dyn Engine>>;

/// Nodes 1, 2, …
pub(super) struct World {
    pub(super) wire: Arc<Wire>,
    pub(super) disks: BTreeMap<NodeId, Disk>,
    pub(super) running: BTreeMap<NodeId, Running>,
    pub(super) support: BTreeMap<NodeId, Arc<Support>>,
    /// Set before nodes start.
    pub(super) tune: fn(&mut NodeRaftConfig),
    /// What an engine is wrapped into.
    pub(super) wrap: BTreeMap<NodeId, Wrap>,
}

pub(super) fn n(id: u64) -> NodeId {
    NodeId(id)
}

/// Waits for something that must come.
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("in vain: {what}");
}

pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

impl World {
    /// Nodes without groups.
    pub(super) fn new(count: u64) -> Self {
        let mut world = Self {
            wire: Arc::default(),
            disks: BTreeMap::new(),
            running: BTreeMap::new(),
            support: BTreeMap::new(),
            tune: |_| (),
            wrap: BTreeMap::new(),
        };
        (1..=count).for_each(|id| world.start_another(n(id)));
        world
    }

    /// Nodes 1 to `count` with the group, led by the first.
    pub(super) fn led(count: u64) -> Self {
        let world = Self::new(count);
        let members: Vec<_> = (1..=count).map(n).collect();
        world.create(GROUP, &members);
        world.elect(n(1), GROUP);
        world
    }

    pub(super) fn start(&mut self, id: NodeId) {
        let disk = &self.disks[&id];
        let mut log = LogConfig::new(disk.dir.path().join("log"));
        log.segment_bytes = 1 << 20;
        let log = Arc::new(SegLog::open(log).expect("opens"));
        let engine: Arc<dyn Engine> = match self.wrap.get(&id) {
            Some(wrap) => wrap(disk.engine.clone()),
            None => Arc::new(disk.engine.clone()),
        };
        let rng = Arc::new(Mutex::new(Rng::seeded(id.0)));
        let port = Port { wire: Arc::clone(&self.wire), me: id, rng };
        let support = Arc::clone(self.support.entry(id).or_default());
        let mut config = NodeRaftConfig::new(id);
        // Tests make checkpoints when they want them.
        config.checkpoint_interval = Duration::from_secs(3600);
        (self.tune)(&mut config);
        let raft_log: Arc<dyn RaftLog> = Arc::clone(&log) as _;
        let raft = MultiRaft::start(config, raft_log, engine, Arc::new(port), support);
        let raft = raft.expect("starts");
        self.wire.nodes.lock().insert(id, Arc::clone(&raft));
        self.running.insert(id, Running { raft, log });
    }

    /// Ends a node without warning. Its engine keeps so many of the batches that were not persisted.
    pub(super) fn crash(&mut self, id: NodeId, kept: [usize; 3]) {
        self.wire.nodes.lock().remove(&id);
        let Running { raft, log } = self.running.remove(&id).expect("runs");
        raft.stop_threads();
        log.close();
        let disk = self.disks.get_mut(&id).expect("known");
        disk.engine = disk.engine.crash(kept);
    }

    /// Starts a node again, with the groups that it has.
    pub(super) fn restart(&mut self, id: NodeId) {
        self.start(id);
        for group in self.running[&id].raft.stored() {
            self.open(id, group);
        }
    }

    /// A new node, with nothing.
    pub(super) fn start_another(&mut self, id: NodeId) {
        let dir = tempfile::tempdir().expect("tempdir");
        self.disks.insert(id, Disk { dir, engine: MemEngine::new() });
        self.start(id);
    }

    pub(super) fn open(&self, id: NodeId, group: RangeId) {
        let raft = &self.running[&id].raft;
        wait(raft.open_group(group, rows(group))).expect("opens");
    }

    pub(super) fn create(&self, group: RangeId, members: &[NodeId]) {
        for (nth, id) in members.iter().enumerate() {
            match nth {
                0 => {
                    let raft = &self.running[id].raft;
                    wait(raft.create_group(group, members, rows(group))).expect("new");
                }
                _ => self.open(*id, group),
            }
        }
    }

    pub(super) fn group(&self, id: NodeId, group: RangeId) -> RaftGroup {
        self.running[&id].raft.group(group).expect("open")
    }

    pub(super) fn role(&self, id: NodeId, group: RangeId) -> Role {
        *self.group(id, group).role().borrow()
    }

    /// Has a node elected, trying as often as it takes.
    pub(super) fn elect(&self, id: NodeId, group: RangeId) -> u64 {
        let mut tries = 0;
        until("a leader", || {
            let role = self.role(id, group);
            if role.is_leader {
                return Some(role.term);
            }
            if tries % 100 == 0 {
                self.group(id, group).campaign();
            }
            tries += 1;
            None
        })
    }

    /// Has some node elected (one whose log is too short loses), and waits until all follow it.
    pub(super) fn elect_any(&self, first: NodeId, group: RangeId) -> NodeId {
        let ids: Vec<_> = self.running.keys().copied().collect();
        let mut tries = ids.iter().position(|id| *id == first).expect("runs") * 60;
        until("a leader", || {
            if tries % 60 == 0 {
                self.group(ids[tries / 60 % ids.len()], group).campaign();
            }
            tries += 1;
            let leader = ids.iter().copied().find(|id| self.role(*id, group).is_leader)?;
            let follows = |id: &NodeId| self.role(*id, group).leader == Some(leader);
            ids.iter().all(follows).then_some(leader)
        })
    }

    /// Everybody (but the node itself) gives up on a node.
    pub(super) fn withdraw_all(&self, of: NodeId) {
        let others = self.support.iter().filter(|(id, _)| **id != of);
        others.for_each(|(_, support)| support.withdraw(of));
    }

    pub(super) fn cut(&self, a: NodeId, b: NodeId) {
        self.wire.cut.lock().extend([(a, b), (b, a)]);
    }

    pub(super) fn cut_one_way(&self, from: NodeId, to: NodeId) {
        self.wire.cut.lock().insert((from, to));
    }

    pub(super) fn heal(&self) {
        self.wire.cut.lock().clear();
    }

    pub(super) fn propose(
        &self,
        id: NodeId,
        rows: std::ops::Range<u64>,
    ) -> Result<(), ProposeError> {
        let group = self.group(id, GROUP);
        let term = group.role().borrow().term;
        rows.into_iter().try_for_each(|row| wait(group.propose(term, entry(row, 8))))
    }

    /// The rows of a node's group, the same in both keyspaces.
    pub(super) fn rows(&self, id: NodeId, group: RangeId) -> Vec<u64> {
        let of = |keyspace| {
            let span = Span::prefix(&row_prefix(group));
            let rows = self.disks[&id].engine.range(keyspace, &span, false);
            let number = |value: Bytes| u64::from_be_bytes(value[..8].try_into().expect("a row"));
            rows.map(|row| number(row.expect("memory").1)).collect::<Vec<_>>()
        };
        let (cur, hist) = (of(Keyspace::Cur), of(Keyspace::Hist));
        if cur == hist { cur } else { Vec::new() }
    }

    /// Waits until these nodes hold exactly these rows.
    pub(super) fn agree(&self, nodes: &[u64], expected: impl IntoIterator<Item = u64>) {
        let expected: Vec<u64> = expected.into_iter().collect();
        for id in nodes {
            until(&format!("node {id} has {} rows", expected.len()), || {
                (self.rows(n(*id), GROUP) == expected).then_some(())
            });
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.wire.nodes.lock().clear();
        self.running.values().for_each(|node| node.raft.stop_threads());
    }
}

pub(super) fn rows(group: RangeId) -> Arc<Rows> {
    Arc::new(Rows { group, installed: AtomicU64::new(0) })
}

/// An entry that sets a row, of at least eight bytes.
pub(super) fn entry(row: u64, bytes: usize) -> Bytes {
    let mut entry = row.to_be_bytes().to_vec();
    // Not to be compressed away.
    let mut rng = Rng::seeded(row);
    while entry.len() < bytes {
        entry.extend_from_slice(&rng.next_u64().to_be_bytes());
    }
    entry.into()
}
