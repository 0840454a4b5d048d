//! The side of a request that asks.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Instant, NodeId};
use meridian_kv::api::{Bytes, Isolation, KvError, Timestamp};
use meridian_kv::range::Target;
use meridian_rpc::{CallError, Class};
use prost::Message;

use super::messages::{Answer, Counter, Empty, Op, Opaque, Request, Response};
use super::{Cluster, SERVICE};
use crate::commit::CommitError;
use crate::core::Core;
use crate::lease::Home;
use crate::locking::WaitLimits;

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Asked {
    /// This node is the leaseholder: do it here.
    Here,
    /// The leaseholder's answer; `NotHere`: one range's snapshot was asked for, and there are several.
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

/// A node that isn't heard of is told for so long: by then it has given this one up, or is back.
const LINGER: Duration = Duration::from_secs(30);

/// So long a node may take to hear of a definition.
const HEARD: Duration = Duration::from_secs(1);

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
                // Another one will lead what it has led.
                Ok(Response { answer: Some(Answer::Failed(error)) }) if error.is_stopping() => {
                    Tried::NotDone
                }
                Ok(Response { answer: Some(answer) }) => Tried::Answer(answer),
                _ => Tried::Unknown,
            },
            Err(CallError::NotSent(_) | CallError::Refused(_)) => Tried::NotDone,
            Err(CallError::Unknown(_)) => Tried::Unknown,
        }
    }

    /// Asks the leaseholder of a key, whoever that is or becomes, for something that may be done twice.
    pub(crate) async fn ask(
        &self,
        key: &[u8],
        op: Op,
        limits: &WaitLimits,
    ) -> Result<Asked, KvError> {
        let class = if matches!(op, Op::Run(_)) { Class::Bulk } else { Class::Kv };
        let of_one_range = match &op {
            Op::Snapshot(_) => true,
            Op::Read(read) => read.ts == 0 && !read.narrow,
            _ => false,
        };
        let body = encode(op);
        let mut search = Search::new(limits);
        loop {
            if of_one_range && !self.core.ranges.is_single() {
                // It has split meanwhile: nobody answers that any more.
                return Ok(Asked::Answer(Answer::NotHere(0)));
            }
            let home = self.core.range_of(key).lease.home(self.core.node, &self.core.hlc);
            let node = match home {
                Home::Here(_) => return Ok(Asked::Here),
                Home::There(node) => node,
                Home::Nowhere => {
                    self.core.look_elsewhere(key, None);
                    search.pause().await?;
                    continue;
                }
            };
            let tried = self.try_at(node, body.clone(), class);
            match search.unless_cancelled(tried).await? {
                Tried::Answer(Answer::NotHere(leader)) => self.follow(key, node, leader),
                Tried::Answer(Answer::Failed(error)) => return Err(error.into()),
                Tried::Answer(answer) => return Ok(Asked::Answer(answer)),
                Tried::NotDone | Tried::Unknown => self.core.look_elsewhere(key, Some(node)),
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
        match self.ask(FIRST_KEY, Op::Counter(counter), &WaitLimits::default()).await? {
            Asked::Here => Ok(None),
            Asked::Answer(Answer::Number(number)) => Ok(Some(number)),
            Asked::Answer(_) => Err(unexpected()),
        }
    }

    /// The largest of this node's clock and those of all others that live, and whether all others do.
    async fn ask_clocks(&self, limits: &WaitLimits) -> Result<(Timestamp, bool), KvError> {
        let body = encode(Op::Clock(Empty {}));
        let others = self.live().into_iter().filter(|node| *node != self.core.node);
        let asking = others.map(|node| {
            let body = body.clone();
            async move {
                while self.live().contains(&node) {
                    let tried = self.try_at(node, body.clone(), Class::Kv).await;
                    match tried {
                        Tried::Answer(Answer::Done(at)) => return Some(Timestamp(at.ts)),
                        _ => tokio::time::sleep(PAUSE).await,
                    }
                }
                None
            }
        });
        let asking = futures::future::join_all(asking);
        let answers = Search::new(limits).unless_cancelled(asking).await?;
        let whole = !self.has_absent() && answers.iter().all(Option::is_some);
        let newest = answers.into_iter().flatten().max().unwrap_or(Timestamp::MIN);
        self.core.hlc.raise(newest);
        Ok((newest.max(self.core.hlc.now()), whole))
    }

    /// A node says that it isn't a key's leaseholder, but knows who may be.
    pub(crate) fn follow(&self, key: &[u8], asked: NodeId, leader: u64) {
        if leader != 0 && leader != asked.0 && leader != self.core.node.0 {
            self.core.range_of(key).lease.hint(asked, NodeId(leader));
        }
    }

    /// Tells nodes of a change to the catalog, and waits until each has heard it, or has to read the catalog
    /// before it does anything else.
    pub(crate) async fn announce(&self, change: Bytes, nodes: Vec<NodeId>) {
        let body = encode(Op::Catalog(Opaque { bytes: change }));
        let others = nodes.into_iter().filter(|node| *node != self.core.node);
        let telling = others.map(|node| {
            let body = body.clone();
            async move {
                let since = Instant::now();
                while since.elapsed() < HEARD || self.live().contains(&node) {
                    let tried = self.try_at(node, body.clone(), Class::Kv);
                    if let Ok(Tried::Answer(_)) = tokio::time::timeout(HEARD, tried).await {
                        return;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                self.expel(node).await;
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
            // Who isn't heard of here may go on supporting this node, and keep what it holds for it.
            let since = Instant::now();
            while !heard && (cluster.live().contains(&node) || since.elapsed() < LINGER) {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
                let again = cluster.try_at(node, body.clone(), Class::Kv).await;
                heard = matches!(again, Tried::Answer(_));
            }
        });
    }
}

/// A key of the first range: where counters and advisory locks are.
pub(crate) const FIRST_KEY: &[u8] = &[];

/// A statement can be run again at a newer snapshot at READ COMMITTED only.
pub(crate) fn at_level(error: KvError, level: Isolation) -> KvError {
    match error {
        KvError::StatementRetry if level != Isolation::ReadCommitted => KvError::CONCURRENT_UPDATE,
        error => error,
    }
}

impl Core {
    /// A snapshot over several ranges: at or above every timestamp that any node has given out. And whether
    /// every node was asked.
    pub(crate) async fn ask_clocks(
        &self,
        limits: &WaitLimits,
    ) -> Result<(Timestamp, bool), KvError> {
        match self.cluster() {
            Some(cluster) => cluster.ask_clocks(limits).await,
            None => Ok((self.hlc.now(), true)),
        }
    }

    /// Asks the leaseholder of a key; without other nodes that is this one, or soon will be.
    pub(crate) async fn ask(
        &self,
        key: &[u8],
        op: Op,
        limits: &WaitLimits,
    ) -> Result<Asked, KvError> {
        if !self.alone {
            return self.among_others()?.ask(key, op, limits).await;
        }
        let mut search = Search::new(limits);
        while self.range_of(key).lease.here(&self.hlc).is_none() {
            search.pause().await?;
        }
        Ok(Asked::Here)
    }

    /// A row at the newest snapshot of its range, with that; `None` if this node does not lead the range.
    pub(crate) async fn get_newest(
        self: &Arc<Self>,
        key: &[u8],
    ) -> Result<Option<(Timestamp, Option<Bytes>)>, KvError> {
        let range = Arc::clone(&self.range_of(key));
        let ts = match range.await_snapshot(self, key).await {
            Ok(ts) => ts,
            Err(CommitError::Refused(error)) => return Err(error),
            Err(CommitError::Moved | CommitError::Unknown(_)) => return Ok(None),
        };
        let _protection = self.snapshots.guard(ts);
        if !self.await_readable(key, Target::Key(key), (ts, true)).await? {
            return Ok(None);
        }
        Ok(Some((ts, self.read.get(key, ts)?)))
    }

    /// Waits until `target`, whose first key is `key`, can be read here at a snapshot over several ranges;
    /// false if this node does not lead all of it.
    pub(crate) async fn await_readable(
        self: &Arc<Self>,
        key: &[u8],
        target: Target<'_>,
        (r, whole): (Timestamp, bool),
    ) -> Result<bool, KvError> {
        let range = Arc::clone(&self.range_of(key));
        if range.lease.here(&self.hlc).is_none() {
            return Ok(false);
        }
        self.hlc.raise(r);
        match range.await_readable(self, target, r, whole).await {
            Ok(()) => Ok(true),
            Err(CommitError::Moved | CommitError::Unknown(_)) => Ok(false),
            Err(CommitError::Refused(error)) => Err(error),
        }
    }
}

/// The search for a leaseholder that answers.
pub(crate) struct Search<'a> {
    limits: &'a WaitLimits,
    /// Since when all tries have been in vain, and the last of them.
    since: Option<(Instant, Instant)>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(limits: &'a WaitLimits) -> Search<'a> {
        Search { limits, since: None }
    }

    /// Waits a little before the next try.
    pub(crate) async fn pause(&mut self) -> Result<(), KvError> {
        let now = Instant::now();
        // A try that took long was one that waited for a lock: somebody led meanwhile.
        let fresh = self.since.filter(|(_, last)| now.since(*last) < PATIENCE / 4);
        let first = fresh.map_or(now, |(first, _)| first);
        self.since = Some((first, now));
        if now.since(first) > PATIENCE {
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
