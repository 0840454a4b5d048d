//! Where requests of other nodes arrive.
//!
//! A node listens before it is a member of anything, so that `init` and `join` reach it; the store is
//! plugged in when it is open. Until then everything else is refused, and asked again.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use meridian_base::NodeId;
use meridian_kv::api::Bytes;
use meridian_replication::MultiRaft;
use meridian_rpc::{Handler, Refusal};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::sync::oneshot;

use super::register::{JoinReply, JoinRequest};
use super::{Register, service};
use crate::liveness::NodeLiveness;
use crate::remote::Cluster;

/// The parts that answer, once the store is open.
pub(crate) struct Parts {
    pub(crate) raft: Arc<MultiRaft>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) liveness: Arc<NodeLiveness>,
    pub(crate) register: Arc<Register>,
}

/// Somebody has asked this node to found a cluster.
pub struct Founding {
    /// To be told the outcome: the cluster's name, or why not.
    pub reply: oneshot::Sender<Result<u128, String>>,
}

/// The receiving side of a node.
#[derive(Default)]
pub struct Switchboard {
    parts: RwLock<Option<Arc<Parts>>>,
    founding: Mutex<Option<oneshot::Sender<Founding>>>,
}

/// Refused: the service isn't there, or not yet.
const NOT_READY: u16 = 1;
/// Refused for good, with a sentence.
pub const REFUSED: u16 = 2;

fn not_ready() -> Refusal {
    Refusal::text(NOT_READY, "the node is starting")
}

impl Switchboard {
    /// Nothing is plugged in.
    pub fn new() -> Arc<Switchboard> {
        Arc::default()
    }

    /// The next request to found a cluster, for a node that is not a member of one.
    pub fn await_founding(&self) -> oneshot::Receiver<Founding> {
        let (tell, asked) = oneshot::channel();
        *self.founding.lock() = Some(tell);
        asked
    }

    pub(crate) fn plug(&self, parts: Parts) {
        *self.parts.write() = Some(Arc::new(parts));
    }

    /// The store is being closed.
    pub(crate) fn unplug(&self) {
        *self.parts.write() = None;
    }

    fn plugged(&self) -> Option<Arc<Parts>> {
        self.parts.read().clone()
    }

    fn parts(&self) -> Result<Arc<Parts>, Refusal> {
        self.plugged().ok_or_else(not_ready)
    }

    async fn join(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let request = JoinRequest::decode(body)
            .map_err(|_| Refusal::text(REFUSED, "the request cannot be understood"))?;
        if request.found {
            return self.found().await;
        }
        let Some(parts) = self.plugged() else {
            return Err(Refusal::text(NOT_READY, "this node is not a member of a cluster yet"));
        };
        let answer = match request.action.is_empty() {
            true => parts.register.admit(&request).await,
            false => parts.register.administer(&request).await,
        };
        match answer {
            Ok(reply) => Ok(reply.encode_to_vec().into()),
            Err(why) => Err(Refusal::text(REFUSED, why)),
        }
    }

    async fn found(&self) -> Result<Bytes, Refusal> {
        let waiting = self.founding.lock().take();
        let Some(waiting) = waiting.filter(|_| self.plugged().is_none()) else {
            return Err(Refusal::text(REFUSED, "this node is a member of a cluster already"));
        };
        let (reply, founded) = oneshot::channel();
        if waiting.send(Founding { reply }).is_err() {
            return Err(not_ready());
        }
        match founded.await {
            Ok(Ok(cluster)) => Ok(JoinReply::of_cluster(cluster).encode_to_vec().into()),
            Ok(Err(why)) => Err(Refusal::text(REFUSED, why)),
            Err(_) => Err(not_ready()),
        }
    }
}

impl Handler for Switchboard {
    fn call(
        self: Arc<Self>,
        from: NodeId,
        number: u8,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        async move {
            match number {
                service::JOIN => self.join(body).await,
                service::RAFT => {
                    let answer = self.parts()?.raft.handle(from, body).await;
                    Ok(answer.unwrap_or_else(|error| error.reply()))
                }
                service::KV => {
                    let cluster = Arc::clone(&self.parts()?.cluster);
                    Ok(cluster.serve(from, body).await)
                }
                _ => Err(Refusal::text(REFUSED, "there is no such service")),
            }
        }
        .boxed()
    }

    fn message(&self, from: NodeId, number: u8, body: Bytes) {
        if number == service::LIVENESS
            && let Some(parts) = self.plugged()
        {
            parts.liveness.receive(from, &body);
        }
    }

    fn peer_up(&self, peer: NodeId) {
        if let Some(parts) = self.plugged() {
            parts.raft.peer_reachable(peer);
        }
    }

    fn peer_down(&self, peer: NodeId) {
        if let Some(parts) = self.plugged() {
            parts.liveness.probe(peer);
        }
    }
}
