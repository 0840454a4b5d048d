//! The shell around [`meridian_kv::liveness`]: a thread of its own that asks the others for support,
//! keeps what it promises on disk, and answers who lives.
//!
//! ```text
//! Handler::message ─▶ receive ─▶ inbox ─▶ thread "liveness": machine ─▶ Transport, Class::Liveness
//! Authority (raft's votes) ─▶ machine (a lock for some ns)      └▶ file in the data directory
//! ```
//! The thread has a runtime of its own, on which the connections of its class run too
//! ([`NodeLiveness::runtime`]): nothing that the node does otherwise makes a heartbeat late. The file
//! is written aside, synced and renamed, on another thread, about once a second.
//!
//! **Invariant:** the machine hears of a write only when it is synced; one that fails is tried again,
//! and as long as it fails nothing new is promised.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Hlc, NodeId, RangeId, Timestamp, sched};
use meridian_kv::api::Bytes;
use meridian_kv::lease::{self, Leadership, Promise, VoteRequest, Voters};
use meridian_kv::liveness::{Effect, Event, Liveness, Message, Now, Persisted, Support, TICK};
use meridian_replication::{Authority, FollowerProgress};
use meridian_rpc::{Class, Transport};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::MissedTickBehavior;

/// The service number of heartbeats and their answers.
pub const LIVENESS: u8 = 3;
/// What is kept, in the data directory.
const FILE: &str = "liveness";
/// Between attempts to write a file that cannot be written.
const RETRY: Duration = Duration::from_millis(200);
/// Withdrawals that a slow listener may fall behind.
const WITHDRAWALS_MAX: usize = 256;

/// This node no longer supports another: whatever that one did under an epoch before this is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    /// Who was supported.
    pub node: NodeId,
    /// The first epoch that may be supported again.
    pub epoch: u64,
}

/// A node's liveness: what it promises others and they promise it.
pub struct NodeLiveness {
    me: NodeId,
    hlc: Arc<Hlc>,
    machine: Mutex<Liveness>,
    /// By range: to whom this node is bound, since it has taken its entries.
    promises: Mutex<BTreeMap<RangeId, Promise>>,
    file: Option<PathBuf>,
    inbox: mpsc::UnboundedSender<Event>,
    runtime: Handle,
    withdrawn: broadcast::Sender<Withdrawn>,
    changes: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    start: Mutex<Option<(Runtime, mpsc::UnboundedReceiver<Event>)>>,
}

impl NodeLiveness {
    /// Reads what was promised before, from the data directory (`None`: a node that forgets, for
    /// tests). Nothing is said until [`NodeLiveness::start`].
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn open(me: NodeId, hlc: Arc<Hlc>, data_dir: Option<&Path>) -> io::Result<Arc<Self>> {
        let file = data_dir.map(|dir| dir.join(FILE));
        let persisted = match file.as_deref().map(fs::read) {
            Some(Ok(bytes)) => Persisted::decode(&bytes).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("the file {FILE} is damaged"))
            })?,
            Some(Err(e)) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => Persisted::default(),
        };
        let machine = Mutex::new(Liveness::new(me, persisted, hlc.max_offset()));
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (inbox, events) = mpsc::unbounded_channel();
        Ok(Arc::new(Self {
            me,
            hlc,
            machine,
            promises: Mutex::default(),
            file,
            inbox,
            runtime: runtime.handle().clone(),
            withdrawn: broadcast::Sender::new(WITHDRAWALS_MAX),
            changes: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            start: Mutex::new(Some((runtime, events))),
        }))
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(self: &Arc<Self>, transport: Arc<dyn Transport>) -> io::Result<()> {
        let Some((runtime, events)) = self.start.lock().take() else { return Ok(()) };
        let this = self.clone();
        let body = move || {
            sched::latency_critical();
            runtime.block_on(this.run(transport, events));
            // A write under way may go on: it promises nothing that was not asked for.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("liveness".into()).spawn(body).map(drop)
    }

    /// Where the connections of [`Class::Liveness`] belong.
    pub fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// Ends the thread. The support that others give runs out by itself.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// Takes a message of service [`LIVENESS`].
    pub fn receive(&self, from: NodeId, body: &Bytes) {
        if let Some(message) = Message::decode(body) {
            // Fails only when the thread has ended.
            let _ = self.inbox.send(Event::Received(from, message));
        }
    }

    /// Something hints that a peer has gone or come back: it is asked at once.
    pub fn probe(&self, peer: NodeId) {
        let _ = self.inbox.send(Event::Probe(peer));
    }

    /// The raft log's device doesn't sync any more, or does again.
    pub fn log_stalled(&self, stalled: bool) {
        let _ = self.inbox.send(Event::LogStalled(stalled));
    }

    /// The nodes that this one shares ranges with.
    pub fn set_peers(&self, peers: BTreeSet<NodeId>) {
        self.machine.lock().set_peers(peers);
    }

    /// Whether this node supports another at present: the other one lives, as far as can be told.
    pub fn supported(&self, node: NodeId) -> bool {
        self.machine.lock().supported(node)
    }

    /// In which epoch; `None` = it doesn't.
    pub fn support_epoch(&self, node: NodeId) -> Option<u64> {
        self.machine.lock().support_epoch(node)
    }

    /// What another node promises this one.
    pub fn support_from(&self, peer: NodeId) -> Support {
        self.machine.lock().support_from(peer)
    }

    /// This start of the node; larger than those before.
    pub fn incarnation(&self) -> u64 {
        self.machine.lock().incarnation()
    }

    /// Until when this node may serve a range that it leads: `start_index` is where its `LeaseStart`
    /// is in the log. To be asked again after every change ([`NodeLiveness::changes`]).
    pub fn lease_expiration(
        &self,
        voters: &Voters,
        start_index: u64,
        progress: impl IntoIterator<Item = (NodeId, FollowerProgress)>,
    ) -> Timestamp {
        let mut leadership = Leadership::new(start_index);
        for (node, FollowerProgress { matched, epoch }) in progress {
            leadership.acknowledged(node, matched, (epoch > 0).then_some(epoch));
        }
        let machine = self.machine.lock();
        leadership.expiration(self.me, voters, |node| machine.support_from(node))
    }

    /// Whether a range's leader is gone as far as this node, which doesn't lead itself, knows: it may
    /// campaign [`lease::campaign_after`] that. A leader that nobody knows is gone, and so is one that
    /// was this node before it started again.
    pub fn leader_is_gone(&self, range: RangeId, leader: Option<NodeId>, voters: &Voters) -> bool {
        let Some(leader) = leader.filter(|leader| *leader != self.me) else {
            return voters.contains(self.me);
        };
        let promise = self.promises.lock().get(&range).copied();
        let machine = self.machine.lock();
        // Without a promise of ours any incarnation of the leader will do.
        let epoch = promise.filter(|p| p.leader == leader).map_or(u64::MAX, |p| p.epoch);
        let free = match epoch {
            u64::MAX => !machine.supported(leader),
            epoch => !machine.promises(leader, epoch),
        };
        free && lease::leader_is_gone(self.me, voters, |v| machine.has_withdrawn(v, leader, epoch))
    }

    /// Whom this node stops supporting.
    pub fn withdrawals(&self) -> broadcast::Receiver<Withdrawn> {
        self.withdrawn.subscribe()
    }

    /// Moves whenever somebody's promise to this node may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn now(&self) -> Now {
        let mono = 1 + self.hlc.clock().instant().as_nanos() / 1_000;
        Now { hlc: self.hlc.now(), mono }
    }

    async fn run(
        self: Arc<Self>,
        transport: Arc<dyn Transport>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut stop = self.stop.subscribe();
        loop {
            let event = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                Some(event) = events.recv() => event,
                _ = ticks.tick() => Event::Tick,
            };
            let promised = matches!(event, Event::Received(_, Message::Ack { .. }));
            let effects = self.machine.lock().step(self.now(), event);
            for effect in effects {
                self.carry_out(effect, &*transport);
            }
            if promised {
                self.changes.send_modify(|n| *n += 1);
            }
        }
    }

    fn carry_out(self: &Arc<Self>, effect: Effect, transport: &dyn Transport) {
        match effect {
            Effect::Send(to, message) => {
                transport.send(to, Class::Liveness, LIVENESS, message.encode());
            }
            Effect::Persist(persisted) => {
                let (file, inbox) = (self.file.clone(), self.inbox.clone());
                let stop = self.stop.subscribe();
                self.runtime.spawn_blocking(move || {
                    let bytes = persisted.encode();
                    while let Some(Err(e)) = file.as_deref().map(|file| write(file, &bytes)) {
                        tracing::error!("cannot write {FILE}: {e}");
                        if *stop.borrow() {
                            return;
                        }
                        std::thread::sleep(RETRY);
                    }
                    let _ = inbox.send(Event::Persisted);
                });
            }
            Effect::Withdrawn(node, epoch) => {
                tracing::info!(%node, epoch, "support withdrawn");
                // Nobody may be listening.
                let _ = self.withdrawn.send(Withdrawn { node, epoch });
                self.changes.send_modify(|n| *n += 1);
            }
        }
    }
}

/// Replaces the file: after a crash it is the old one or the new one.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = file.with_extension("new");
    let mut out = File::create(&aside)?;
    out.write_all(bytes)?;
    out.sync_data()?;
    fs::rename(&aside, file)?;
    let dir = file.parent().unwrap_or_else(|| Path::new("."));
    File::open(dir)?.sync_all()
}

impl Authority for NodeLiveness {
    fn may_vote(&self, group: RangeId, _leader: Option<NodeId>, candidate: NodeId) -> bool {
        let promise = self.promises.lock().get(&group).copied();
        let now = self.now().hlc;
        let machine = self.machine.lock();
        let request = VoteRequest { candidate, transfer: false, gave_up: &[] };
        let binds = |node, epoch| machine.promises(node, epoch);
        lease::may_vote(request, machine.may_vote(now), false, promise, binds)
    }

    fn support_epoch(&self, of: NodeId) -> u64 {
        NodeLiveness::support_epoch(self, of).unwrap_or(0)
    }

    fn accepted(&self, group: RangeId, leader: NodeId, term: u64, epoch: u64) {
        let mut promises = self.promises.lock();
        let known = promises.get(&group).copied();
        let promise = Promise { leader, term, epoch };
        if known.is_some_and(|p| p.term > term || p == promise) {
            return;
        }
        if epoch > 0 {
            promises.insert(group, promise);
        } else if known.is_some_and(|p| p.leader != leader) {
            promises.remove(&group);
        }
    }

    fn over(&self, group: RangeId, term: u64) {
        let mut promises = self.promises.lock();
        if promises.get(&group).is_some_and(|p| p.term < term) {
            promises.remove(&group);
        }
    }
}
