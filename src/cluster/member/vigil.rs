//! Liveness between nodes, on a thread of its own.
//!
//! [`meridian_kv::liveness`] decides; this carries out: a thread ticks, takes what was received, sends,
//! and writes promises to disk before they are given. Everybody else looks at the machine under a short
//! lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use meridian_base::{Hlc, Instant, NodeId, RangeId, sched};
use meridian_kv::liveness::{Effect, Event, Liveness, Message, Now, Persisted, Support, TICK};
use meridian_replication::Authority;
use meridian_rpc::{Class, Transport};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::service;

/// The file with what must not be forgotten.
const FILE: &str = "liveness";

/// What a thread waits for.
struct Inbox {
    events: Vec<Event>,
    closed: bool,
}

/// A node's liveness, running.
pub(crate) struct Vigil {
    machine: Mutex<Liveness>,
    inbox: Mutex<Inbox>,
    wake: parking_lot::Condvar,
    hlc: Arc<Hlc>,
    started: Instant,
    transport: Arc<dyn Transport>,
    file: PathBuf,
    /// Nodes whose support was withdrawn, with the epoch that has begun.
    withdrawn: mpsc::UnboundedSender<NodeId>,
    broken: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn load(path: &Path) -> io::Result<Persisted> {
    match fs::read(path) {
        Ok(bytes) => Persisted::decode(&bytes).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Persisted::default()),
        Err(error) => Err(error),
    }
}

/// Replaces the file as a whole, durably.
fn save(path: &Path, state: &Persisted) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = fs::File::create(&next)?;
    file.write_all(&state.encode())?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

impl Vigil {
    /// Starts the thread. Withdrawals are told to the receiver.
    pub(crate) fn start(
        node: NodeId,
        dir: &Path,
        hlc: Arc<Hlc>,
        transport: Arc<dyn Transport>,
    ) -> io::Result<(Arc<Vigil>, mpsc::UnboundedReceiver<NodeId>)> {
        let file = dir.join(FILE);
        let machine = Liveness::new(node, load(&file)?, hlc.max_offset());
        let (withdrawn, told) = mpsc::unbounded_channel();
        let vigil = Arc::new(Vigil {
            machine: Mutex::new(machine),
            inbox: Mutex::new(Inbox { events: Vec::new(), closed: false }),
            wake: parking_lot::Condvar::new(),
            hlc,
            started: Instant::now(),
            transport,
            file,
            withdrawn,
            broken: AtomicBool::new(false),
            thread: Mutex::new(None),
        });
        let run = Arc::clone(&vigil);
        let thread =
            std::thread::Builder::new().name("liveness".into()).spawn(move || run.run())?;
        *vigil.thread.lock() = Some(thread);
        Ok((vigil, told))
    }

    fn now(&self) -> Now {
        let mono = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now { hlc: self.hlc.now(), mono }
    }

    fn run(&self) {
        sched::latency_critical();
        loop {
            let events = {
                let mut inbox = self.inbox.lock();
                if inbox.events.is_empty() && !inbox.closed {
                    self.wake.wait_for(&mut inbox, TICK);
                }
                if inbox.closed {
                    return;
                }
                std::mem::take(&mut inbox.events)
            };
            for event in events {
                self.step(event);
            }
            self.step(Event::Tick);
        }
    }

    fn step(&self, event: Event) {
        let mut effects = self.machine.lock().step(self.now(), event);
        while !effects.is_empty() {
            let mut next = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Send(to, message) => {
                        let body = message.encode();
                        self.transport.send(to, Class::Liveness, service::LIVENESS, body);
                    }
                    Effect::Persist(state) => match save(&self.file, &state) {
                        Ok(()) => {
                            next.extend(self.machine.lock().step(self.now(), Event::Persisted));
                        }
                        // Without the promise on disk none is given: this node neither supports nor votes.
                        Err(error) => {
                            if !self.broken.swap(true, Ordering::Relaxed) {
                                tracing::error!(%error, "cannot write promises to other nodes");
                            }
                        }
                    },
                    Effect::Withdrawn(node, _) => {
                        tracing::warn!(%node, "a node is not heard of any more");
                        // Whoever listened is shutting down.
                        let _ = self.withdrawn.send(node);
                    }
                }
            }
            effects = next;
        }
    }

    fn post(&self, event: Event) {
        self.inbox.lock().events.push(event);
        self.wake.notify_one();
    }

    /// A message has come.
    pub(crate) fn receive(&self, from: NodeId, body: &[u8]) {
        if let Some(message) = Message::decode(body) {
            self.post(Event::Received(from, message));
        }
    }

    /// Something hints that a peer is gone, or back.
    pub(crate) fn probe(&self, peer: NodeId) {
        self.post(Event::Probe(peer));
    }

    /// Whom to hear of.
    pub(crate) fn set_peers(&self, peers: BTreeSet<NodeId>) {
        self.machine.lock().set_peers(peers);
    }

    /// Looks at the machine.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Liveness) -> T) -> T {
        look(&self.machine.lock())
    }

    /// Does this node support another, as one that lives?
    pub(crate) fn supported(&self, node: NodeId) -> bool {
        self.look(|machine| machine.supported(node))
    }

    /// What a peer promises this node.
    pub(crate) fn support_from(&self, peer: NodeId) -> Support {
        self.look(|machine| machine.support_from(peer))
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.inbox.lock().closed = true;
        self.wake.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Who may vote, by what this node has promised.
pub(crate) struct VigilAuthority {
    pub(crate) vigil: Arc<Vigil>,
    /// The epoch in which each leader's entries were last accepted.
    promised: Mutex<BTreeMap<NodeId, u64>>,
}

impl VigilAuthority {
    pub(crate) fn new(vigil: Arc<Vigil>) -> VigilAuthority {
        VigilAuthority { vigil, promised: Mutex::default() }
    }
}

impl Authority for VigilAuthority {
    fn may_vote(&self, _group: RangeId, leader: Option<NodeId>, candidate: NodeId) -> bool {
        let now = self.vigil.hlc.now();
        let promised = leader.and_then(|leader| self.promised.lock().get(&leader).copied());
        self.vigil.look(|machine| {
            let bound = match leader {
                Some(leader) if leader != candidate => {
                    promised.is_some_and(|epoch| machine.promises(leader, epoch))
                }
                _ => false,
            };
            machine.may_vote(now) && !bound
        })
    }

    fn support_epoch(&self, of: NodeId) -> u64 {
        let epoch = self.vigil.look(|machine| machine.support_epoch(of));
        if let Some(epoch) = epoch {
            let mut promised = self.promised.lock();
            let known = promised.entry(of).or_default();
            *known = epoch.max(*known);
        }
        epoch.unwrap_or(0)
    }
}
