//! The side of a request that asks.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Instant, NodeId};
use meridian_kv::api::{Bytes, KvError};
use meridian_rpc::{CallError, Class};
use prost::Message;

use super::messages::{Answer, Counter, Op, Opaque, Request, Response};
use super::{Cluster, SERVICE};
use crate::lease::Home;
use crate::locking::WaitLimits;

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Asked {
    /// This node is the leaseholder: do it here.
    Here,
    /// The leaseholder's answer.
    Answer(Answer),
}

/// How a single try ended.
pub(crate) enum Tried {
    Answer(Answer),
    /// It was surely not executed.
    NotDone,
    /// It may have been executed.
    Unknown,
}

/// The longest that a request looks for a leaseholder. A quorum that is lost for longer is an outage
/// that clients should hear of; half of it would show them slow elections on busy machines.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// A request as it travels, and who stands still until it is answered.
#[derive(Clone)]
pub(crate) struct Body {
    bytes: Bytes,
    waiter: Option<u64>,
}

pub(crate) fn encode(op: Op) -> Body {
    let waiter = op.waiter();
    Body { bytes: Request { op: Some(op) }.encode_to_vec().into(), waiter }
}

pub(crate) fn nobody_leads() -> KvError {
    let reason = "no node leads the range: a majority of its replicas cannot be reached".to_owned();
    KvError::Unavailable { reason }
}

/// An answer of another kind than the request's.
pub(crate) fn unexpected() -> KvError {
    KvError::Storage { reason: "a node has answered something else than was asked".into() }
}

impl Cluster {
    /// One try at one node.
    pub(crate) async fn try_at(&self, node: NodeId, body: Body, class: Class) -> Tried {
        let _away = body.waiter.map(|session| self.waits.leave(session, node));
        match self.transport.call(node, class, SERVICE, body.bytes).await {
            Ok(body) => match Response::decode(body) {
                Ok(Response { answer: Some(answer) }) => Tried::Answer(answer),
                _ => Tried::Unknown,
            },
            Err(CallError::NotSent(_) | CallError::Refused(_)) => Tried::NotDone,
            Err(CallError::Unknown(_)) => Tried::Unknown,
        }
    }

    /// Asks the leaseholder, whoever that is or becomes, for something that may be done twice.
    pub(crate) async fn ask(&self, op: Op, limits: &WaitLimits) -> Result<Asked, KvError> {
        let class = if matches!(op, Op::Run(_)) { Class::Bulk } else { Class::Kv };
        let body = encode(op);
        let mut search = Search::new(limits);
        loop {
            let node = match self.core.lease.home(self.core.node, &self.core.hlc) {
                Home::Here(_) => return Ok(Asked::Here),
                Home::There(node) => node,
                Home::Nowhere => {
                    search.pause().await?;
                    continue;
                }
            };
            let tried = self.try_at(node, body.clone(), class);
            match search.unless_cancelled(tried).await? {
                Tried::Answer(Answer::NotHere(leader)) => self.follow(node, leader),
                Tried::Answer(Answer::Failed(error)) => return Err(error.into()),
                Tried::Answer(answer) => return Ok(Asked::Answer(answer)),
                Tried::NotDone | Tried::Unknown => {}
            }
            search.pause().await?;
        }
    }

    /// Asks for a counter; `None` when this node is the leaseholder now.
    pub(crate) async fn counter(
        &self,
        name: &[u8],
        by: i64,
        set: Option<i64>,
    ) -> Result<Option<i64>, KvError> {
        let counter = Counter { name: Bytes::copy_from_slice(name), by, set };
        match self.ask(Op::Counter(counter), &WaitLimits::default()).await? {
            Asked::Here => Ok(None),
            Asked::Answer(Answer::Number(number)) => Ok(Some(number)),
            Asked::Answer(_) => Err(unexpected()),
        }
    }

    /// A node says that it isn't the leaseholder, but knows who may be.
    pub(crate) fn follow(&self, asked: NodeId, leader: u64) {
        if leader != 0 && leader != asked.0 && leader != self.core.node.0 {
            self.core.lease.hint(asked, NodeId(leader));
        }
    }

    /// Tells all nodes that live of a change to the catalog, and waits until each has heard it or is gone.
    pub(crate) async fn announce(&self, change: Bytes) {
        let body = encode(Op::Catalog(Opaque { bytes: change }));
        let others = self.live().into_iter().filter(|node| *node != self.core.node);
        let telling = others.map(|node| {
            let body = body.clone();
            async move {
                while self.live().contains(&node) {
                    if let Tried::Answer(_) = self.try_at(node, body.clone(), Class::Kv).await {
                        return;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        futures::future::join_all(telling).await;
    }

    /// Tells a node something until it has heard it or is gone; in the background. What is told and asked
    /// later arrives later.
    pub(crate) fn tell(self: &Arc<Self>, node: NodeId, op: Op) {
        let body = encode(op);
        let first = self.transport.call(node, Class::Kv, SERVICE, body.bytes.clone());
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            let mut heard = first.await.is_ok();
            let mut pause = PAUSE;
            while !heard && cluster.live().contains(&node) {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
                let again = cluster.try_at(node, body.clone(), Class::Kv).await;
                heard = matches!(again, Tried::Answer(_));
            }
        });
    }
}

/// The search for a leaseholder that answers.
pub(crate) struct Search<'a> {
    limits: &'a WaitLimits,
    since: Option<Instant>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(limits: &'a WaitLimits) -> Search<'a> {
        Search { limits, since: None }
    }

    /// Waits a little before the next try.
    pub(crate) async fn pause(&mut self) -> Result<(), KvError> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return Err(nobody_leads());
        }
        self.unless_cancelled(tokio::time::sleep(PAUSE)).await
    }

    /// Waits for something, unless the session is told to stop.
    pub(crate) async fn unless_cancelled<T>(
        &self,
        what: impl Future<Output = T>,
    ) -> Result<T, KvError> {
        let Some(token) = &self.limits.cancel else { return Ok(what.await) };
        tokio::select! {
            biased;
            done = what => Ok(done),
            () = token.cancelled() => Err(KvError::Cancelled),
        }
    }
}
