//! The transport without sockets, for tests: same traits, same outcomes, and faults on demand.
//!
//! Per pair of nodes and class there is one queue, delivered in order. What cannot be delivered (a
//! partition, a paused node) waits, as it would in TCP; after [`PATIENCE`] the connection counts as
//! lost: messages are gone, calls end in `Unknown`. With tokio's paused time all of this is instant.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use meridian_base::{Hlc, NodeId, Rng, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::stream::UNACKNOWLEDGED;
use crate::{CallError, Class, Handler, Transport};

/// How long something waits for a partition to heal before its connection counts as lost.
pub const PATIENCE: Duration = UNACKNOWLEDGED;

type Answer = Result<Bytes, CallError>;

/// A network of nodes in one process.
#[derive(Clone)]
pub struct MemNetwork {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Told whenever something that was blocked may not be any longer.
    changed: watch::Sender<()>,
}

struct State {
    rng: Rng,
    nodes: BTreeMap<NodeId, Member>,
    links: HashMap<(NodeId, NodeId, Class), mpsc::UnboundedSender<Item>>,
    cut: BTreeSet<(NodeId, NodeId)>,
    paused: BTreeSet<NodeId>,
    delay: (Duration, Duration),
    drop: f64,
}

#[derive(Clone)]
struct Member {
    handler: Arc<dyn Handler>,
    hlc: Arc<Hlc>,
    /// Changes when the node leaves.
    life: watch::Receiver<()>,
    _alive: Arc<watch::Sender<()>>,
}

struct Item {
    service: u8,
    body: Bytes,
    clock: Timestamp,
    patience: Instant,
    call: Option<(oneshot::Sender<Answer>, Arc<Mutex<Progress>>)>,
}

/// How far a call has come, for who wants to cancel it.
enum Progress {
    Queued,
    Running(AbortHandle),
    Cancelled,
}

impl MemNetwork {
    /// A network without faults; the seed decides about delays and losses.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            rng: Rng::seeded(seed),
            nodes: BTreeMap::new(),
            links: HashMap::new(),
            cut: BTreeSet::new(),
            paused: BTreeSet::new(),
            delay: (Duration::ZERO, Duration::ZERO),
            drop: 0.0,
        };
        let inner = Inner { state: Mutex::new(state), changed: watch::Sender::new(()) };
        Self { inner: Arc::new(inner) }
    }

    /// Adds a node, or starts it again.
    pub fn join(
        &self,
        node: NodeId,
        hlc: Arc<Hlc>,
        handler: Arc<dyn Handler>,
    ) -> Arc<MemTransport> {
        self.leave(node);
        let (alive, life) = watch::channel(());
        let member = Member { handler: handler.clone(), hlc, life, _alive: Arc::new(alive) };
        let mut state = self.inner.state.lock();
        let others: Vec<_> = state.nodes.iter().map(|(id, m)| (*id, m.handler.clone())).collect();
        state.nodes.insert(node, member);
        drop(state);
        for (other, its_handler) in others {
            its_handler.peer_up(node);
            handler.peer_up(other);
        }
        Arc::new(MemTransport { network: self.clone(), node })
    }

    /// Takes a node away, as a crash does: what it was doing for others ends in `Unknown`.
    pub fn leave(&self, node: NodeId) {
        let mut state = self.inner.state.lock();
        if state.nodes.remove(&node).is_none() {
            return;
        }
        state.links.retain(|(from, to, _), _| *from != node && *to != node);
        let others: Vec<_> = state.nodes.values().map(|m| m.handler.clone()).collect();
        drop(state);
        self.inner.changed.send_replace(());
        for handler in others {
            handler.peer_down(node);
        }
    }

    /// Cuts one direction.
    pub fn partition(&self, from: NodeId, to: NodeId) {
        self.change(|state| state.cut.insert((from, to)));
    }

    /// Cuts both directions.
    pub fn partition_both(&self, a: NodeId, b: NodeId) {
        self.change(|state| state.cut.extend([(a, b), (b, a)]));
    }

    /// Ends all partitions.
    pub fn heal(&self) {
        self.change(|state| state.cut.clear());
    }

    /// Nothing reaches a node or leaves it until [`MemNetwork::resume`].
    pub fn pause(&self, node: NodeId) {
        self.change(|state| state.paused.insert(node));
    }

    /// The node goes on.
    pub fn resume(&self, node: NodeId) {
        self.change(|state| state.paused.remove(&node));
    }

    /// Everything takes this long, from min to max.
    pub fn set_delay(&self, min: Duration, max: Duration) {
        self.change(|state| state.delay = (min, max));
    }

    /// One-way messages are lost with this probability.
    pub fn set_drop(&self, probability: f64) {
        self.change(|state| state.drop = probability);
    }

    fn change<T>(&self, what: impl FnOnce(&mut State) -> T) {
        what(&mut self.inner.state.lock());
        self.inner.changed.send_replace(());
    }

    /// Waits as long as the way is blocked; false if that was too long.
    async fn passable(&self, from: NodeId, to: NodeId, patience: Instant) -> bool {
        let mut changed = self.inner.changed.subscribe();
        loop {
            let delay = {
                let mut state = self.inner.state.lock();
                let State { rng, nodes, cut, paused, delay: (min, max), .. } = &mut *state;
                if !nodes.contains_key(&to) {
                    return false;
                }
                let blocked =
                    cut.contains(&(from, to)) || paused.contains(&from) || paused.contains(&to);
                let spread = u64::try_from((*max - *min).as_micros()).unwrap_or(u64::MAX);
                (!blocked).then(|| *min + Duration::from_micros(rng.below(spread + 1)))
            };
            match delay {
                Some(delay) if delay.is_zero() => return true,
                Some(delay) => {
                    sleep(delay).await;
                    return true;
                }
                None => {
                    if timeout_at(patience, changed.changed()).await.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    fn member(&self, node: NodeId) -> Option<Member> {
        self.inner.state.lock().nodes.get(&node).cloned()
    }

    /// Puts an item into its queue; false if there is no such node.
    fn queue(&self, from: NodeId, to: NodeId, class: Class, item: Item) -> bool {
        let mut state = self.inner.state.lock();
        if !state.nodes.contains_key(&to) || !state.nodes.contains_key(&from) {
            return false;
        }
        let network = self;
        let link = state.links.entry((from, to, class)).or_insert_with(|| {
            let (tx, rx) = mpsc::unbounded_channel();
            tokio::spawn(network.clone().deliver(from, to, rx));
            tx
        });
        link.send(item).is_ok()
    }

    async fn deliver(self, from: NodeId, to: NodeId, mut items: mpsc::UnboundedReceiver<Item>) {
        while let Some(item) = items.recv().await {
            let passed = self.passable(from, to, item.patience).await;
            let Some(member) = self.member(to).filter(|_| passed) else { continue };
            if member.hlc.update(item.clock).is_err() {
                continue;
            }
            let Some((tx, progress)) = item.call else {
                let drops = {
                    let mut state = self.inner.state.lock();
                    let probability = state.drop;
                    state.rng.chance(probability)
                };
                if !drops {
                    member.handler.message(from, item.service, item.body);
                }
                continue;
            };
            let mut progress = progress.lock();
            if matches!(*progress, Progress::Queued) {
                let answer = member.handler.clone().call(from, item.service, item.body);
                let task = tokio::spawn(self.clone().answer(from, to, member, answer, tx));
                *progress = Progress::Running(task.abort_handle());
            }
        }
    }

    async fn answer(
        self,
        from: NodeId,
        to: NodeId,
        mut member: Member,
        answer: BoxFuture<'static, Result<Bytes, crate::Refusal>>,
        tx: oneshot::Sender<Answer>,
    ) {
        // A clone of the sender would keep the node alive.
        drop(member._alive);
        let answer = tokio::select! {
            answer = answer => answer.map_err(CallError::Refused),
            _ = member.life.changed() => return,
        };
        let clock = member.hlc.now();
        if self.passable(to, from, Instant::now() + PATIENCE).await
            && let Some(caller) = self.member(from)
            && caller.hlc.update(clock).is_ok()
        {
            let _ = tx.send(answer);
        }
    }
}

/// A node's end of a [`MemNetwork`].
pub struct MemTransport {
    network: MemNetwork,
    node: NodeId,
}

impl MemTransport {
    fn item(&self, service: u8, body: Bytes) -> Item {
        let clock = self.network.member(self.node).map_or(Timestamp::MIN, |m| m.hlc.now());
        Item { service, body, clock, patience: Instant::now() + PATIENCE, call: None }
    }
}

impl Transport for MemTransport {
    fn call(
        &self,
        to: NodeId,
        class: Class,
        service: u8,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        if to == self.node
            && let Some(member) = self.network.member(to)
        {
            let call = member.handler.clone().call(to, service, body);
            return async move { call.await.map_err(CallError::Refused) }.boxed();
        }
        let (tx, rx) = oneshot::channel();
        let progress = Arc::new(Mutex::new(Progress::Queued));
        let item = Item { call: Some((tx, progress.clone())), ..self.item(service, body) };
        if self.network.queue(self.node, to, class, item) {
            MemCall { rx, progress }.boxed()
        } else {
            let why = format!("there is no node {to}");
            futures::future::ready(Err(CallError::NotSent(why.into()))).boxed()
        }
    }

    fn send(&self, to: NodeId, class: Class, service: u8, body: Bytes) {
        if to == self.node {
            if let Some(member) = self.network.member(to) {
                member.handler.message(to, service, body);
            }
        } else {
            self.network.queue(self.node, to, class, self.item(service, body));
        }
    }
}

struct MemCall {
    rx: oneshot::Receiver<Answer>,
    progress: Arc<Mutex<Progress>>,
}

impl Future for MemCall {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = ready!(Pin::new(&mut self.rx).poll(cx));
        let lost = |_| Err(CallError::Unknown("connection lost".into()));
        Poll::Ready(answer.unwrap_or_else(lost))
    }
}

impl Drop for MemCall {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.progress.lock(), Progress::Cancelled);
        if let Progress::Running(task) = before {
            task.abort();
        }
    }
}
