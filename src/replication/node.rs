//! All raft groups of a node: one thread runs them, one makes checkpoints.
//!
//! A group costs memory and nothing else while it is idle: openraft's timers are off, and whatever must
//! happen by the clock (leases, elections, failure detection) happens once per node, above this crate.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_base::{NodeId, RangeId, sched};
use meridian_storage::{Engine, RaftLog, Space, StorageError};
use openraft::{Config, SnapshotPolicy, StepDownPolicy};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::checkpoint::Checkpointer;
use crate::group::{Group, RaftGroup};
use crate::open::{self, First};
use crate::peers::Peers;
use crate::snapshot::{Part, Throttle};
use crate::state_machine::Applier;
use crate::{message, receive, remove};

/// How a node runs its groups.
#[derive(Clone, Debug)]
pub struct NodeRaftConfig {
    /// This node.
    pub node: NodeId,
    /// A checkpoint at least this often (5 s): bounds what a restart applies again.
    pub checkpoint_interval: Duration,
    /// A checkpoint after this many bytes (32 MiB): bounds the log's memory, and what a restart applies
    /// again after a burst of writes. Half of it syncs the engine twice as often.
    pub checkpoint_bytes: u64,
    /// Log entries kept for followers that lag, in all groups together (64 MiB): whoever lags more gets a
    /// snapshot. They are in memory.
    pub keep_bytes: u64,
    /// Bytes per second of all snapshots that this node sends (32 MiB), so that foreground work goes on.
    pub snapshot_rate: u64,
    /// The raft thread writes the log itself when it has nothing else to do, instead of waking the log's
    /// thread and being woken by it. For a node without others: elsewhere it has their messages to serve
    /// while the disk works.
    pub sync_when_idle: bool,
}

impl NodeRaftConfig {
    /// The defaults.
    #[must_use]
    pub const fn new(node: NodeId) -> Self {
        Self {
            node,
            checkpoint_interval: Duration::from_secs(5),
            checkpoint_bytes: 32 << 20,
            keep_bytes: 64 << 20,
            snapshot_rate: 32 << 20,
            sync_when_idle: false,
        }
    }
}

/// What a message is about, so that a network can keep bulk data out of the way of heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Small and urgent.
    Raft,
    /// Blocks of a snapshot.
    Bulk,
}

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// The node cannot be reached now. The request may have arrived all the same.
    Unreachable(String),
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Unreachable(why) = self;
        write!(f, "the node cannot be reached: {why}")
    }
}

impl std::error::Error for NetworkError {}

/// The way to other nodes: a body goes to [`MultiRaft::handle`] there, its answer comes back.
///
/// Requests of one class to one node should arrive in the order of these calls; one that overtakes another
/// costs a repetition, nothing else.
pub trait Network: Send + Sync + 'static {
    /// Sends a request and waits for the answer.
    fn call(
        &self,
        to: NodeId,
        body: Bytes,
        class: Class,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>>;
}

/// The node's liveness layer: who may lead is its decision, not openraft's.
pub trait Authority: Send + Sync + 'static {
    /// The voter's promise: false as long as this node supports the epoch of `leader`, whom it knows as
    /// the group's leader, and `candidate` is another node. Asked before this node votes or campaigns,
    /// except in a transfer that the leader has authorised.
    fn may_vote(&self, group: RangeId, leader: Option<NodeId>, candidate: NodeId) -> bool;

    /// The epoch of a node that this node supports now. Read before a leader's entries are accepted, and
    /// sent back with the acknowledgement.
    fn support_epoch(&self, of: NodeId) -> u64;

    /// Entries of `leader` in `term` are about to be let in, and `epoch` ([`Authority::support_epoch`],
    /// 0 = none) will go with the acknowledgement: from now on the promise of this group is to that
    /// leader in that epoch.
    fn accepted(&self, _group: RangeId, _leader: NodeId, _term: u64, _epoch: u64) {}

    /// Nobody leads the group any more in a term before this one: promises of older terms are over. Said when
    /// somebody has been elected in it, or when the leader of the term before has given it up.
    fn over(&self, _group: RangeId, _term: u64) {}
}

/// For a node without others: its own vote is all it needs.
pub struct Alone;

impl Network for Alone {
    fn call(
        &self,
        _: NodeId,
        _: Bytes,
        _: Class,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let why = NetworkError::Unreachable("there is no other node".into());
        Box::pin(async move { Err(why) })
    }
}

impl Authority for Alone {
    fn may_vote(&self, _: RangeId, _: Option<NodeId>, _: NodeId) -> bool {
        true
    }

    fn support_epoch(&self, _: NodeId) -> u64 {
        0
    }
}

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandleError {
    /// The group is not open here.
    UnknownGroup(RangeId),
    /// The bytes are no request.
    Malformed,
    /// The group has failed or is being closed.
    Stopped(String),
}

impl HandleError {
    /// The answer that tells the caller.
    #[must_use]
    pub fn reply(&self) -> Bytes {
        match self {
            Self::UnknownGroup(group) => message::no_group(*group),
            other => message::failed(&other.to_string()),
        }
    }
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownGroup(group) => write!(f, "range {group} is not on this node"),
            Self::Malformed => f.write_str("the request cannot be understood"),
            Self::Stopped(why) => write!(f, "the range has stopped: {why}"),
        }
    }
}

impl std::error::Error for HandleError {}

/// What the groups of a node share.
pub(crate) struct Node {
    pub(crate) config: NodeRaftConfig,
    pub(crate) raft_config: Arc<Config>,
    pub(crate) log: Arc<dyn RaftLog>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) authority: Arc<dyn Authority>,
    /// The raft thread's.
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) groups: RwLock<BTreeMap<RangeId, Arc<Group>>>,
    /// Keys of groups that are not open any more and on their way out. Changed under `groups`.
    pub(crate) removing: Mutex<BTreeMap<RangeId, Vec<Part>>>,
    pub(crate) peers: Peers,
    pub(crate) throttle: Throttle,
    /// Bytes applied since the last checkpoint.
    pub(crate) dirty_bytes: Arc<AtomicU64>,
    /// The disk was full when the engine was to be made durable: only reads until the next start.
    pub(crate) failed: AtomicBool,
}

impl Node {
    pub(crate) fn group(&self, id: RangeId) -> Option<Arc<Group>> {
        self.groups.read().get(&id).cloned()
    }

    /// Is the disk too full for proposals?
    pub(crate) fn refuses(&self) -> bool {
        self.log.disk_full()
            || self.failed.load(Ordering::Relaxed)
            || self.engine.space() != Space::Enough
    }

    pub(crate) const fn id(&self) -> NodeId {
        self.config.node
    }

    /// Another group that has keys of these parts here, or is getting some.
    pub(crate) fn holder(&self, group: RangeId, parts: &[Part]) -> Option<RangeId> {
        let overlap = |mine: &[Part]| {
            let meet = |(a, b): (&Part, &Part)| a.0 == b.0 && a.1.overlaps(&b.1);
            mine.iter().any(|part| parts.iter().any(|other| meet((part, other))))
        };
        let groups = self.groups.read();
        let mut others = groups.values().filter(|other| other.id != group);
        let holds = |other: &Arc<Group>| {
            let content = other.applier.content().unwrap_or_default();
            overlap(&content) || overlap(&other.shared.claimed.lock())
        };
        let open = others.find(|other| holds(other)).map(|other| other.id);
        let removing = self.removing.lock();
        open.or_else(|| removing.iter().find(|(_, parts)| overlap(parts)).map(|(id, _)| *id))
    }
}

/// The raft groups of a node.
///
/// Its tasks run on a thread of its own, so that neither a busy SQL runtime delays the log nor the log's
/// bursts delay queries.
pub struct MultiRaft {
    node: Arc<Node>,
    checkpointer: Arc<Checkpointer>,
    stop_raft: Mutex<Option<oneshot::Sender<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closed: AtomicBool,
}

fn raft_config() -> Result<Arc<Config>, StorageError> {
    // Nothing happens by itself: elections and heartbeats are ours to trigger, and openraft's own lease
    // never expires (40 days). The log is purged when we say so, not when a snapshot is noted. A follower
    // that lost its content while it received a snapshot may come back with less than it had.
    let config = Config {
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        heartbeat_interval: 1_000_000_000,
        election_timeout_min: 3_600_000_000,
        election_timeout_max: 3_600_000_001,
        enable_leader_restore: Some(false),
        removed_leader_step_down: StepDownPolicy::Never,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: 64,
        api_batch_linger_ms: 0,
        allow_log_reversion: Some(true),
        ..Config::default()
    };
    let config = config.validate();
    config.map(Arc::new).map_err(|e| StorageError::Stopped(format!("raft's configuration: {e}")))
}

impl MultiRaft {
    /// Starts the threads, and finishes what a crash has interrupted. No group is open yet. Blocks.
    ///
    /// # Errors
    /// I/O; threads that cannot be started.
    pub fn start(
        config: NodeRaftConfig,
        log: Arc<dyn RaftLog>,
        engine: Arc<dyn Engine>,
        network: Arc<dyn Network>,
        authority: Arc<dyn Authority>,
    ) -> Result<Arc<Self>, StorageError> {
        remove::finish_removals(log.as_ref(), engine.as_ref())?;
        let (stop_tx, stop_rx) = oneshot::channel();
        let (handle_tx, handle_rx) = std::sync::mpsc::channel();
        let idle = config.sync_when_idle.then(|| Arc::clone(&log));
        let body = move || {
            sched::latency_critical();
            let mut builder = tokio::runtime::Builder::new_current_thread();
            if let Some(log) = idle {
                builder.on_thread_park(move || log.flush_here());
            }
            let runtime = builder.enable_time().build();
            match runtime {
                Ok(runtime) => {
                    drop(handle_tx.send(Ok(runtime.handle().clone())));
                    let _ = runtime.block_on(stop_rx);
                }
                Err(e) => drop(handle_tx.send(Err(StorageError::io("start a runtime", e)))),
            }
        };
        let thread = std::thread::Builder::new().name("raft".into()).spawn(body);
        let thread = thread.map_err(|e| StorageError::io("start the raft thread", e))?;
        let gone = |_| StorageError::Stopped("the raft thread has ended".into());
        let runtime = handle_rx.recv().map_err(gone)??;
        let node = Arc::new(Node {
            throttle: Throttle::new(config.snapshot_rate),
            config,
            raft_config: raft_config()?,
            log,
            engine,
            network,
            authority,
            runtime,
            groups: RwLock::default(),
            removing: Mutex::default(),
            peers: Peers::default(),
            dirty_bytes: Arc::default(),
            failed: AtomicBool::new(false),
        });
        let checkpointer = Arc::new(Checkpointer::new(Arc::clone(&node)));
        let helper = Arc::clone(&checkpointer);
        let helper = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || helper.run())
            .map_err(|e| StorageError::io("start the checkpoint thread", e))?;
        Ok(Arc::new(Self {
            node,
            checkpointer,
            stop_raft: Mutex::new(Some(stop_tx)),
            threads: Mutex::new(vec![helper, thread]),
            closed: AtomicBool::new(false),
        }))
    }

    /// Creates a group: its first membership is written to the log here. Every first member may do so, with
    /// the same members; or one does, and the others open it blank. Nobody campaigns by itself.
    ///
    /// # Errors
    /// The group exists here; I/O.
    pub async fn create_group(
        &self,
        group: RangeId,
        members: &[NodeId],
        applier: Arc<dyn Applier>,
    ) -> Result<RaftGroup, StorageError> {
        open::open(&self.node, group, applier, First::Members(members)).await
    }

    /// Creates a group of what the engine holds: the part of another group that has split off. Every first
    /// member does so, with the same members, when it has applied that. The engine is made durable first.
    ///
    /// # Errors
    /// The log knows the group, or it was removed from this node; I/O.
    pub async fn create_inherited(
        &self,
        group: RangeId,
        members: &[NodeId],
        applier: Arc<dyn Applier>,
    ) -> Result<RaftGroup, StorageError> {
        open::open(&self.node, group, applier, First::Inherited(members)).await
    }

    /// Opens a group from the log and the engine; one that they don't know is blank and waits to be filled
    /// by a leader.
    ///
    /// # Errors
    /// Damage: an engine that has lost what was durable, a log with a hole. I/O.
    pub async fn open_group(
        &self,
        group: RangeId,
        applier: Arc<dyn Applier>,
    ) -> Result<RaftGroup, StorageError> {
        open::open(&self.node, group, applier, First::AsStored).await
    }

    /// Opens a group of which this node is the only member, creates it if need be, elects this node and
    /// waits until all of the log is applied.
    ///
    /// # Errors
    /// As [`MultiRaft::open_group`]; a redo that takes longer than `timeout`.
    pub async fn open_alone(
        &self,
        group: RangeId,
        applier: Arc<dyn Applier>,
        timeout: Duration,
    ) -> Result<RaftGroup, StorageError> {
        let me = [self.node.id()];
        let group = open::open(&self.node, group, applier, First::MembersIfNew(&me)).await?;
        group.campaign();
        let lead = group.clone();
        let leads = async move {
            let mut role = lead.role();
            let led = role.wait_for(|role| role.is_leader);
            matches!(tokio::time::timeout(timeout, led).await, Ok(Ok(_)))
        };
        match self.node.runtime.spawn(leads).await {
            Ok(true) => Ok(group),
            _ => Err(StorageError::Stopped(format!(
                "the log of {} could not be applied within {timeout:?}",
                group.id()
            ))),
        }
    }

    /// Removes a replica with its content, and leaves a tombstone in its place. What is left of it after a
    /// crash is removed by the next start. The content goes when nothing is applied any more and
    /// `readers_leave` has come to its end.
    ///
    /// # Errors
    /// I/O.
    pub async fn remove_group(
        &self,
        group: RangeId,
        tombstone: Bytes,
        readers_leave: impl Future<Output = ()>,
    ) -> Result<(), StorageError> {
        remove::remove(&self.node, group, tombstone, readers_leave).await
    }

    /// The tombstone of a group that was removed from this node and has not been opened again.
    ///
    /// # Errors
    /// I/O.
    pub fn tombstone(&self, group: RangeId) -> Result<Option<Bytes>, StorageError> {
        remove::tombstone(self.node.engine.as_ref(), group)
    }

    /// Runs a task on the raft thread, where proposals are made without waking another thread. It must
    /// not block.
    pub fn spawn(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        self.node.runtime.spawn(task)
    }

    /// The groups that are open.
    pub fn groups(&self) -> Vec<RaftGroup> {
        self.node.groups.read().values().cloned().map(RaftGroup).collect()
    }

    /// An open group.
    pub fn group(&self, group: RangeId) -> Option<RaftGroup> {
        self.node.group(group).map(RaftGroup)
    }

    /// The groups that the log knows, open or not.
    pub fn stored(&self) -> Vec<RangeId> {
        self.node.log.groups()
    }

    /// Another group than `group` that has keys of these parts on this node, or is getting some.
    pub fn holder(&self, group: RangeId, parts: &[Part]) -> Option<RangeId> {
        self.node.holder(group, parts)
    }

    /// Serves a request of another node. Requests are taken in the order of these calls.
    pub fn handle(
        &self,
        from: NodeId,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, HandleError>> {
        let serving = self.node.runtime.spawn(receive::serve(Arc::clone(&self.node), from, body));
        Box::pin(async move {
            let stopped = |_| HandleError::Stopped("the node is stopping".into());
            serving.await.map_err(stopped)?
        })
    }

    /// A node answers again, or has a new epoch: what it missed is sent at once, and all groups that are
    /// led from here ask it for a new acknowledgement. To be called also when a node has restarted: it
    /// does not know what is committed of the log that it has.
    pub fn peer_reachable(&self, peer: NodeId) {
        let node = Arc::clone(&self.node);
        self.node.runtime.spawn(async move { node.peer_reachable(peer).await });
    }

    /// Makes the engine durable and purges the log, now. Blocks.
    ///
    /// # Errors
    /// The disk is full. (Any other failure to sync ends the process.)
    pub fn checkpoint(&self) -> Result<(), StorageError> {
        self.checkpointer.checkpoint()
    }

    /// Makes the engine durable and purges all of a group's log up to there, whoever still lacks some of it:
    /// from now on who is new, or far behind, gets the content. Blocks.
    ///
    /// # Errors
    /// As [`MultiRaft::checkpoint`]; openraft doesn't answer.
    pub fn shorten(&self, group: RangeId) -> Result<(), StorageError> {
        self.checkpointer.shorten(group)
    }

    /// Whether the disk is too full for proposals; that may pass.
    pub fn refuses(&self) -> bool {
        self.node.refuses()
    }

    /// Whether a checkpoint has met a full disk: only reads are served until the next start.
    pub fn failed(&self) -> bool {
        self.node.failed.load(Ordering::Relaxed)
    }

    /// Ends in order: a last checkpoint, so that the next start has nothing to redo, then stops the
    /// threads. Proposals still in flight become `Unknown`. Blocks.
    ///
    /// # Errors
    /// The last checkpoint failed; the threads have ended all the same.
    pub fn shutdown(&self) -> Result<(), StorageError> {
        let result = self.checkpointer.checkpoint();
        self.stop_threads();
        result
    }

    /// Ends at once, without a checkpoint: the next start redoes the log. Blocks, except on the raft thread,
    /// where it can happen that a task drops the last handle.
    pub fn stop_threads(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        let me = std::thread::current().id();
        let on_raft_thread = threads.iter().any(|thread| thread.thread().id() == me);
        let (node, checkpointer) = (Arc::clone(&self.node), Arc::clone(&self.checkpointer));
        let stop_raft = self.stop_raft.lock().take();
        let stop = move || stop(&node, &checkpointer, stop_raft, threads);
        match on_raft_thread {
            true => drop(std::thread::spawn(stop)),
            false => stop(),
        }
    }
}

fn stop(
    node: &Arc<Node>,
    checkpointer: &Checkpointer,
    stop_raft: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
) {
    // A checkpoint that is under way still uses the raft thread.
    checkpointer.stop();
    let groups = std::mem::take(&mut *node.groups.write());
    let (done_tx, done_rx) = std::sync::mpsc::channel::<()>();
    node.runtime.spawn(async move {
        let stopping = groups.values().map(|group| group.raft.shutdown());
        futures::future::join_all(stopping).await;
        drop(done_tx);
    });
    // Ends when the sender is gone: all groups are shut down, or the raft thread is no more.
    let _ = done_rx.recv();
    if let Some(stop) = stop_raft {
        let _ = stop.send(());
    }
    for thread in threads {
        // A checkpoint's thread may have been the last to hold a handle.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Drop for MultiRaft {
    fn drop(&mut self) {
        self.stop_threads();
    }
}
