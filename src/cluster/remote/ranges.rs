//! Requests about ranges as such: to split one, to keep a replica of one.

use meridian_base::NodeId;
use meridian_kv::api::{Bytes, Key, KvError};
use meridian_kv::range::Descriptor;
use meridian_rpc::Class;

use super::Cluster;
use super::ask::{Tried, encode};
use super::messages::{Answer, Op, Opaque};
use super::serve::{Served, Stop};
use crate::commit::CommitError;
use crate::read::storage_error;

impl Cluster {
    /// A leader wants this node to keep a replica.
    pub(super) async fn serve_adopt(&self, of: Bytes) -> Served {
        let damaged = |_| KvError::Storage { reason: "a descriptor is damaged".into() };
        let of = Descriptor::decode(of).map_err(damaged)?;
        let Some(replicas) = self.core.replicas() else { return Ok(Answer::Flag(false)) };
        self.core.learn_ranges(vec![of.clone()]);
        Ok(Answer::Flag(replicas.adopt(&of).await.map_err(storage_error)?))
    }

    /// Asks a node to keep a replica. Does it?
    pub(crate) async fn adopt_at(&self, node: NodeId, of: &Descriptor) -> bool {
        let body = encode(Op::Adopt(Opaque { bytes: of.to_bytes() }));
        let tried = self.try_at(node, body, Class::Kv).await;
        matches!(tried, Tried::Answer(Answer::Flag(true)))
    }

    pub(super) async fn serve_split(&self, at: Key) -> Served {
        self.here(&at)?;
        match self.core.split_here(&at).await {
            Ok(id) => Ok(Answer::Number(id.0.cast_signed())),
            Err(CommitError::Refused(error)) => Err(error.into()),
            Err(CommitError::Moved | CommitError::Unknown(_)) => Err(Stop(Answer::NotHere(0))),
        }
    }
}
