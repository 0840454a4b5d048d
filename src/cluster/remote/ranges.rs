//! Requests about ranges as such: to split one, to keep a replica of one.

use meridian_base::{NodeId, RangeId};
use meridian_kv::api::{Bytes, Key, KvError};
use meridian_kv::range::Descriptor;
use meridian_rpc::Class;

use super::Cluster;
use super::ask::{Tried, encode};
use super::messages::{Answer, At, Belongs, Op, Opaque};
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

    /// Is a node a member of a range that this one leads? As long as that may become so the answer is yes: who
    /// hears no destroys its replica, unless it has been asked for another one since it began to ask.
    pub(super) fn serve_belongs(&self, Belongs { range, node }: Belongs) -> Served {
        let (id, node) = (RangeId(range), NodeId(node));
        let replicas = self.core.replicas();
        let replica = replicas.as_ref().and_then(|replicas| replicas.get(id));
        let (Some(replicas), Some(replica)) = (replicas, replica) else {
            return Ok(Answer::NotHere(0));
        };
        let Some(claim) = replicas.claim(id) else { return Ok(Answer::Flag(true)) };
        let gone = replica.group.as_ref().is_some_and(|group| group.has_left(node));
        // After that look: with the lease, those are the newest members.
        let leads = replica.range.lease.here(&self.core.hlc).is_some();
        drop(claim);
        Ok(if leads { Answer::Flag(!gone) } else { Answer::NotHere(0) })
    }

    /// Asks a node whether this one is a member of a range. `None`: it doesn't lead the range, or is silent.
    pub(crate) async fn belong(&self, at: NodeId, range: RangeId) -> Option<bool> {
        let asked = Op::Belongs(Belongs { range: range.0, node: self.core.node.0 });
        match self.try_at(at, encode(asked), Class::Kv).await {
            Tried::Answer(Answer::Flag(belongs)) => Some(belongs),
            _ => None,
        }
    }

    pub(super) async fn serve_relocate(&self, Belongs { range, node }: Belongs) -> Served {
        match self.core.relocate_here(RangeId(range), NodeId(node)).await {
            Ok(()) => Ok(Answer::Done(At::default())),
            Err(CommitError::Refused(error)) => Err(error.into()),
            Err(CommitError::Moved | CommitError::Unknown(_)) => Err(Stop(Answer::NotHere(0))),
        }
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
