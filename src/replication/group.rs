//! The handle of a raft group, and its threads.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use meridian_base::{NodeId, RangeId, sched};
use meridian_storage::{Engine, RaftLog, Slot, StorageError};
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::{BasicNode, Config, ServerState, SnapshotPolicy, StepDownPolicy};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::checkpoint::{Checkpointer, Raft};
use crate::codec;
use crate::log_store::LogStore;
use crate::network::NoNetwork;
use crate::pieces::Pieces;
use crate::state_machine::{self, Applier, Shared, StateMachine};
use crate::types::{LeaderId, LogId, Part, Payload, Types};

/// How a group runs on this node.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The range whose log it is.
    pub group: RangeId,
    /// This node.
    pub node: NodeId,
    /// A checkpoint at least this often (5 s): bounds what a restart applies again.
    pub checkpoint_interval: Duration,
    /// A checkpoint after this many bytes (32 MiB): bounds the log's memory, and what a restart applies
    /// again after a burst of writes. Half of it syncs the engine twice as often.
    pub checkpoint_bytes: u64,
    /// How long opening may take: redo of the log included.
    pub open_timeout: Duration,
}

impl GroupConfig {
    /// The defaults.
    #[must_use]
    pub const fn new(group: RangeId, node: NodeId) -> Self {
        Self {
            group,
            node,
            checkpoint_interval: Duration::from_secs(5),
            checkpoint_bytes: 32 << 20,
            open_timeout: Duration::from_secs(120),
        }
    }
}

/// Pieces on their way to the disk at once: one is written while the next one is made.
const PIECES_IN_FLIGHT: usize = 4;

/// Why a proposal was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// It is not in the log and never will be: this node no longer leads in the term it was evaluated in.
    NotLeader,
    /// It is not in the log: the disk has no room (53100).
    DiskFull,
    /// It may be in the log, and may be applied: the node is stopping or has failed.
    Unknown(String),
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader => f.write_str("this node does not lead the range"),
            Self::DiskFull => f.write_str("no space left for the raft log"),
            Self::Unknown(why) => write!(f, "the outcome is unknown: {why}"),
        }
    }
}

impl std::error::Error for ProposeError {}

/// Counters of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Index of the last applied entry.
    pub applied: u64,
    /// Index up to which the engine is durable.
    pub durable: u64,
    /// Engine batches written.
    pub batches: u64,
    /// Waits for the engine's background work.
    pub stalls: u64,
}

/// One replica of a range: proposes, applies, checkpoints.
///
/// Its tasks run on a thread of its own, so that neither a busy SQL runtime delays the log nor the log's
/// bursts delay queries.
pub struct RaftGroup {
    raft: Raft,
    leader: LeaderId,
    log: Arc<dyn RaftLog>,
    shared: Arc<Shared>,
    checkpointer: Arc<Checkpointer>,
    stop_raft: Mutex<Option<oneshot::Sender<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closed: AtomicBool,
}

fn raft_config() -> Result<Arc<Config>, StorageError> {
    // Nothing happens by itself: elections and heartbeats are ours to trigger, and openraft's own lease
    // never expires (40 days).
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
        max_in_snapshot_log_to_keep: 0,
        max_payload_entries: 64,
        api_batch_linger_ms: 0,
        ..Config::default()
    };
    let config = config.validate();
    config.map(Arc::new).map_err(|e| StorageError::Stopped(format!("raft's configuration: {e}")))
}

fn stopped(what: &str, error: impl fmt::Display) -> StorageError {
    StorageError::Stopped(format!("could not {what}: {error}"))
}

/// Refuses an engine that has lost what the log says was durable, or that needs entries the log no longer
/// has.
fn cross_check(
    log: &dyn RaftLog,
    group: RangeId,
    applied: Option<u64>,
) -> Result<Option<LogId>, StorageError> {
    let durable = log.slot(group, Slot::DurableApplied);
    let durable = durable.and_then(|bytes| codec::decode_log_id(&bytes));
    let expected = durable.as_ref().map(|id| id.index());
    if applied < expected {
        return Err(StorageError::Corruption(format!(
            "the engine has lost data of {group}: it was durable up to entry {}, but holds only {}; \
             restore a backup or replicate this store anew",
            expected.unwrap_or(0),
            applied.unwrap_or(0),
        )));
    }
    let next = applied.map_or(0, |index| index + 1);
    match log.bounds(group) {
        Some((first, _)) if first > next => Err(StorageError::Corruption(format!(
            "the raft log of {group} begins at entry {first}, but entry {next} is needed"
        ))),
        _ => Ok(durable),
    }
}

impl RaftGroup {
    /// Opens the group: checks the engine against the log, becomes leader (alone), applies everything that
    /// is in the log. Blocks until the group can serve; not to be called on an async runtime's worker.
    ///
    /// # Errors
    /// Damage (see [`cross_check`]), I/O, or a redo that takes longer than allowed.
    pub fn open(
        config: GroupConfig,
        log: Arc<dyn RaftLog>,
        engine: Arc<dyn Engine>,
        applier: Arc<dyn Applier>,
    ) -> Result<Self, StorageError> {
        let group = config.group;
        let applied = state_machine::recover(engine.as_ref(), group)?;
        let applied_index = applied.log_id.as_ref().map(|id| id.index());
        let durable = cross_check(log.as_ref(), group, applied_index)?;
        let shared = Arc::new(Shared {
            applied: Mutex::new(applied),
            durable: Mutex::new(durable),
            ..Shared::default()
        });
        let store = LogStore::new(Arc::clone(&log), group);
        let machine = StateMachine {
            group,
            engine: Arc::clone(&engine),
            applier,
            shared: Arc::clone(&shared),
            pieces: Pieces::default(),
            late: None,
        };
        let last_index = log.bounds(group).map_or(0, |(_, last)| last);
        let (stop_tx, stop_rx) = oneshot::channel();
        let (started, thread) = start(&config, store, machine, last_index, stop_rx)?;
        let Started { raft, leader, runtime } = started;
        let checkpointer = Arc::new(Checkpointer {
            group,
            engine,
            log: Arc::clone(&log),
            shared: Arc::clone(&shared),
            raft: raft.clone(),
            runtime,
            running: Mutex::new(()),
            stop: Mutex::new(false),
            wake: Condvar::new(),
            failed: AtomicBool::new(false),
        });
        let helper = Arc::clone(&checkpointer);
        let (interval, bytes) = (config.checkpoint_interval, config.checkpoint_bytes);
        let helper = std::thread::Builder::new()
            .name(format!("checkpoint-{group}"))
            .spawn(move || helper.run(interval, bytes))
            .map_err(|e| StorageError::io("start the checkpoint thread", e))?;
        Ok(Self {
            raft,
            leader,
            log,
            shared,
            checkpointer,
            stop_raft: Mutex::new(Some(stop_tx)),
            threads: Mutex::new(vec![helper, thread]),
            closed: AtomicBool::new(false),
        })
    }

    /// Appends an entry in the term in which this handle was opened. Resolves when the entry is durable,
    /// applied and published. Entries enter the log in the order in which these futures are first polled.
    ///
    /// # Errors
    /// See [`ProposeError`]: only `Unknown` leaves the outcome open.
    pub async fn propose(&self, entry: Bytes) -> Result<(), ProposeError> {
        self.append(Payload::plain(entry, Part::Whole)).await
    }

    /// Appends a proposal that is too large for one entry: all of its pieces are applied, or none. Takes
    /// them one by one, so that they need not be in memory at once; no other proposal may be made
    /// meanwhile. `Unknown` also when only a later piece failed that way.
    ///
    /// # Errors
    /// See [`ProposeError`].
    ///
    /// # Panics
    /// Without a piece.
    pub async fn propose_pieces(
        &self,
        pieces: &mut (dyn Iterator<Item = Bytes> + Send),
    ) -> Result<(), ProposeError> {
        let mut bytes = pieces.next().expect("a proposal has a piece");
        let (mut number, mut flying) = (0, VecDeque::new());
        for next in pieces {
            flying.push_back(self.submit(Payload::piece(bytes, number)).await?);
            (bytes, number) = (next, number + 1);
            if flying.len() == PIECES_IN_FLIGHT
                && let Some(first) = flying.pop_front()
            {
                first.await?;
            }
        }
        for piece in flying {
            piece.await?;
        }
        self.append(Payload::plain(bytes, Part::Last(number))).await
    }

    pub(crate) async fn append(&self, payload: Payload) -> Result<(), ProposeError> {
        self.submit(payload).await?.await
    }

    /// Hands an entry to raft; the future is its outcome.
    async fn submit(
        &self,
        payload: Payload,
    ) -> Result<impl Future<Output = Result<(), ProposeError>> + use<>, ProposeError> {
        if self.log.disk_full() || self.failed() {
            return Err(ProposeError::DiskFull);
        }
        let (responder, done) = ProgressResponder::complete_only();
        let write = self.raft.write(payload).with_leader(self.leader).responder(responder);
        let unknown = |why: String| ProposeError::Unknown(why);
        write.await.map_err(|fatal| unknown(fatal.to_string()))?;
        Ok(async move {
            match done.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(ProposeError::NotLeader),
                Ok(Err(other)) => Err(unknown(other.to_string())),
                Err(_) => Err(unknown("the range has stopped".into())),
            }
        })
    }

    /// Makes the engine durable and purges the log, now. Blocks.
    ///
    /// # Errors
    /// The disk is full. (Any other failure to sync ends the process.)
    pub fn checkpoint(&self) -> Result<(), StorageError> {
        self.checkpointer.checkpoint()
    }

    /// Whether a checkpoint has met a full disk: only reads are served until the next start.
    pub fn failed(&self) -> bool {
        self.checkpointer.failed.load(Ordering::Relaxed)
    }

    /// Counters.
    pub fn stats(&self) -> GroupStats {
        let index = |id: &Option<LogId>| id.as_ref().map_or(0, |id| id.index());
        GroupStats {
            applied: index(&self.shared.applied.lock().log_id),
            durable: index(&self.shared.durable.lock()),
            batches: self.shared.batches.load(Ordering::Relaxed),
            stalls: self.shared.stalls.load(Ordering::Relaxed),
        }
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

    /// Ends at once, without a checkpoint: the next start redoes the log.
    pub fn stop_threads(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        {
            // A checkpoint that is under way still uses the raft thread.
            let _one = self.checkpointer.running.lock();
            *self.checkpointer.stop.lock() = true;
            self.checkpointer.wake.notify_all();
        }
        if let Some(stop) = self.stop_raft.lock().take() {
            // The thread is gone already when raft has failed.
            let _ = stop.send(());
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            let _ = thread.join();
        }
    }
}

impl Drop for RaftGroup {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

/// A group that leads and has applied its log.
struct Started {
    raft: Raft,
    leader: LeaderId,
    runtime: tokio::runtime::Handle,
}

/// Starts the raft thread and waits until the group leads and has applied its log.
fn start(
    config: &GroupConfig,
    store: LogStore,
    machine: StateMachine,
    last_index: u64,
    stop: oneshot::Receiver<()>,
) -> Result<(Started, JoinHandle<()>), StorageError> {
    let (ready_tx, ready_rx) = std::sync::mpsc::channel::<Result<Started, StorageError>>();
    let config = config.clone();
    let name = format!("raft-{}", config.group);
    let body = move || {
        sched::latency_critical();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(e) => return drop(ready_tx.send(Err(StorageError::io("start a runtime", e)))),
        };
        runtime.block_on(async move {
            match lead(&config, store, machine, last_index).await {
                Ok((raft, leader)) => {
                    let runtime = tokio::runtime::Handle::current();
                    drop(ready_tx.send(Ok(Started { raft: raft.clone(), leader, runtime })));
                    let _ = stop.await;
                    let _ = raft.shutdown().await;
                }
                Err(error) => drop(ready_tx.send(Err(error))),
            }
        });
    };
    let thread = std::thread::Builder::new().name(name).spawn(body);
    let thread = thread.map_err(|e| StorageError::io("start the raft thread", e))?;
    let started = ready_rx.recv().map_err(|e| stopped("start raft", e))??;
    Ok((started, thread))
}

/// Brings up raft: a new group is created with this node alone, an old one elects it again.
async fn lead(
    config: &GroupConfig,
    store: LogStore,
    machine: StateMachine,
    last_index: u64,
) -> Result<(Raft, LeaderId), StorageError> {
    let id = config.node.0;
    let raft = Raft::new(id, raft_config()?, NoNetwork, store, machine).await;
    let raft = raft.map_err(|e| stopped("start raft", e))?;
    if raft.is_initialized().await.map_err(|e| stopped("start raft", e))? {
        raft.trigger().elect(false).await.map_err(|e| stopped("start an election", e))?;
    } else {
        let members = BTreeMap::from([(id, BasicNode::new(""))]);
        raft.initialize(members).await.map_err(|e| stopped("create the raft group", e))?;
    }
    // Everything that was in the log, and the blank entry of this term, is applied.
    let caught_up = |m: &openraft::RaftMetrics<Types>| {
        let applied = m.last_applied.as_ref();
        m.state == ServerState::Leader
            && applied.is_some_and(|id| {
                id.index() >= last_index && id.committed_leader_id().term == m.current_term
            })
    };
    let wait = raft.wait(Some(config.open_timeout));
    wait.metrics(caught_up, "leader, log applied")
        .await
        .map_err(|e| stopped("apply the log", e))?;
    let leader = raft.as_leader().map_err(|e| stopped("lead the group", e))?;
    let leader = leader.to_committed_leader_id();
    Ok((raft, leader))
}
