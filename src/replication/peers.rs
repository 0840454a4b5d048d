//! Which nodes answer, and what to do when one answers again.
//!
//! openraft would retry each group's requests to a dead node by a timer of that group: with a thousand
//! groups, a thousand timers. Here a call that fails marks the *node* down; whatever any group wants to
//! send it then waits, without a timer that matters, and one prober per node tries an empty request until
//! it is answered. Then everything that waited goes on, and groups whose followers there have missed
//! something (a commit index that travelled alone) send a heartbeat.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_base::{NodeId, RangeId};
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::message;
use crate::node::{Class, Network, Node};

/// Pauses between probes of a node that is down: from the first to the last, doubling.
const PROBE_FIRST: Duration = Duration::from_millis(20);
const PROBE_LAST: Duration = Duration::from_secs(1);
/// How long a request waits for a node that is down before it gives up its place.
const PATIENCE: Duration = Duration::from_secs(20);

/// Another node.
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    up: watch::Sender<bool>,
    /// Whoever waits for it is to give up.
    give_up: Notify,
    /// Groups led from here of which this node has missed something.
    missed: Mutex<BTreeSet<RangeId>>,
}

/// Why a call brought nothing.
pub(crate) struct CallError {
    pub(crate) why: String,
    /// The node has answered that it cannot serve the request.
    pub(crate) answered: bool,
}

impl CallError {
    fn lost(why: &str) -> Self {
        Self { why: why.to_owned(), answered: false }
    }
}

impl From<CallError> for String {
    fn from(error: CallError) -> Self {
        error.why
    }
}

/// All nodes that this one has ever called.
#[derive(Default)]
pub(crate) struct Peers(Mutex<BTreeMap<NodeId, Arc<Peer>>>);

impl Peers {
    pub(crate) fn get(&self, id: NodeId) -> Arc<Peer> {
        let new = || Peer {
            id,
            up: watch::Sender::new(true),
            give_up: Notify::new(),
            missed: Mutex::default(),
        };
        Arc::clone(self.0.lock().entry(id).or_insert_with(|| Arc::new(new())))
    }
}

impl Peer {
    pub(crate) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// What waits for the node holds entries of the log that are to be purged now.
    pub(crate) fn give_up(&self) {
        self.give_up.notify_waiters();
    }

    /// A request of a group got no answer: when the node answers again, it is told once more.
    pub(crate) fn note_missed(&self, group: RangeId) {
        self.missed.lock().insert(group);
    }
}

impl Node {
    /// Calls a node that is up, or waits until it is.
    pub(crate) async fn call_when_up(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        body: Bytes,
        class: Class,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        if !peer.is_up() {
            let mut up = peer.up.subscribe();
            let given_up = tokio::select! {
                answers = up.wait_for(|up| *up) => answers.is_err(),
                () = peer.give_up.notified() => true,
                () = tokio::time::sleep(PATIENCE) => true,
            };
            if given_up {
                return Err(CallError::lost("the node does not answer"));
            }
        }
        self.call(peer, body, class, timeout).await
    }

    /// Calls a node, be it up or not, and takes note of which it is.
    pub(crate) async fn call(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        body: Bytes,
        class: Class,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let calling = self.network.call(peer.id, body, class);
        let failed = match tokio::time::timeout(timeout, calling).await {
            Ok(Ok(reply)) => {
                self.answered(peer);
                return message::open_reply(reply).map_err(|why| CallError { why, answered: true });
            }
            Ok(Err(error)) => CallError::lost(&error.to_string()),
            Err(_) => CallError::lost("no answer in time"),
        };
        if peer.up.send_replace(false) {
            tokio::spawn(probe(Arc::clone(self), Arc::clone(peer)));
        }
        Err(failed)
    }

    /// A node has answered.
    fn answered(self: &Arc<Self>, peer: &Arc<Peer>) {
        if !peer.is_up() {
            peer.up.send_replace(true);
        }
        let missed = std::mem::take(&mut *peer.missed.lock());
        if missed.is_empty() {
            return;
        }
        let (node, to) = (Arc::clone(self), peer.id);
        tokio::spawn(async move {
            for group in missed.into_iter().filter_map(|id| node.group(id)) {
                group.heartbeat(to).await;
            }
        });
    }

    /// See [`crate::MultiRaft::peer_reachable`].
    pub(crate) async fn peer_reachable(self: &Arc<Self>, id: NodeId) {
        let peer = self.peers.get(id);
        peer.up.send_replace(true);
        peer.missed.lock().clear();
        let groups: Vec<_> = self.groups.read().values().cloned().collect();
        for group in groups.into_iter().filter(|group| group.leads()) {
            let member = {
                let metrics = group.raft.server_metrics();
                let metrics = metrics.borrow_watched();
                metrics.membership_config.membership().get_node(&id.0).is_some()
            };
            if member {
                group.heartbeat(id).await;
            }
        }
    }
}

/// Tries until the node answers, or somebody else has found that it does.
async fn probe(node: Arc<Node>, peer: Arc<Peer>) {
    let (network, mut pause) = (Arc::clone(&node.network), PROBE_FIRST);
    loop {
        let mut up = peer.up.subscribe();
        let up = tokio::time::timeout(pause, up.wait_for(|up| *up)).await.is_ok();
        if up {
            return;
        }
        pause = (pause * 2).min(PROBE_LAST);
        if ping(network.as_ref(), peer.id).await {
            return node.answered(&peer);
        }
    }
}

async fn ping(network: &dyn Network, to: NodeId) -> bool {
    let calling = network.call(to, message::ping(), Class::Raft);
    matches!(tokio::time::timeout(PROBE_LAST, calling).await, Ok(Ok(_)))
}
