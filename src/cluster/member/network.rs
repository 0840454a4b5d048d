//! Raft's messages over the nodes' transport.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use meridian_base::NodeId;
use meridian_kv::api::Bytes;
use meridian_replication::{Class as RaftClass, Network, NetworkError};
use meridian_rpc::{Class, Transport};

use super::service;

/// Carries raft's messages.
pub(crate) struct RaftNetwork(pub(crate) Arc<dyn Transport>);

impl Network for RaftNetwork {
    fn call(
        &self,
        to: NodeId,
        body: Bytes,
        class: RaftClass,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let class = match class {
            RaftClass::Raft => Class::Raft,
            RaftClass::Bulk => Class::Bulk,
        };
        let call = self.0.call(to, class, service::RAFT, body);
        call.map(|answer| answer.map_err(|why| NetworkError::Unreachable(why.to_string()))).boxed()
    }
}
