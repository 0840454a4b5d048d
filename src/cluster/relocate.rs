//! A range's lease goes to a node that an operator names.
//!
//! Asked of the range's leaseholder, which hands its leadership over as it does when a plan says so. It stays
//! there as long as plans have nothing against it: evenness may move it on.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Instant, NodeId, RangeId};
use meridian_kv::api::KvError;

use crate::commit::CommitError;
use crate::core::Core;
use crate::locking::WaitLimits;
use crate::remote::{Answer, Asked, Belongs, Op};
use crate::store::Store;

/// How long a lease is tried to be moved: other changes of the range may take that.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

fn unavailable(reason: String) -> KvError {
    KvError::Unavailable { reason }
}

impl Core {
    /// Hands the lease of a range over; this node holds it, or else the request goes on.
    pub(crate) async fn relocate_here(
        self: &Arc<Self>,
        id: RangeId,
        to: NodeId,
    ) -> Result<(), CommitError> {
        let moved = || CommitError::Moved;
        let replicas = self.replicas().ok_or_else(moved)?;
        let replica = replicas.get(id).ok_or_else(moved)?;
        replica.range.lease.here(&self.hlc).ok_or_else(moved)?;
        if to == self.node {
            return Ok(());
        }
        let group = replica.group.clone().filter(|group| group.members().is_voter(to));
        let lacks = || unavailable(format!("node {} has no copy of range {}", to.0, id.0));
        let group = group.ok_or_else(lacks)?;
        if !self.cluster().is_some_and(|cluster| cluster.live().contains(&to)) {
            return Err(unavailable(format!("node {} cannot be reached", to.0)).into());
        }
        let _claim = replicas.claim(id).ok_or_else(moved)?;
        self.hand_over(&replica.range, &group, to).await.map_err(|_| CommitError::Moved)
    }
}

impl Store {
    /// Has a node lead a range that it has a copy of.
    ///
    /// # Errors
    /// The node has no copy, or can't be reached; nobody leads the range; it is being changed for too long.
    pub async fn relocate_lease(&self, range: RangeId, to: NodeId) -> Result<(), KvError> {
        let (core, limits) = (Arc::clone(self.core()), WaitLimits::default());
        let since = Instant::now();
        loop {
            let unknown = || unavailable(format!("there is no range {}", range.0));
            let start = core.ranges.get(range).ok_or_else(unknown)?.span().start;
            let asked = Op::Relocate(Belongs { range: range.0, node: to.0 });
            let tried = match core.ask(&start, asked, &limits).await? {
                Asked::Here => core.relocate_here(range, to).await,
                Asked::Answer(Answer::Done(_)) => Ok(()),
                Asked::Answer(_) => Err(CommitError::Moved),
            };
            match tried {
                Ok(()) => return Ok(()),
                Err(CommitError::Refused(error)) => return Err(error),
                Err(CommitError::Moved | CommitError::Unknown(_)) => {}
            }
            if since.elapsed() > PATIENCE {
                return Err(unavailable("the range is being changed".to_owned()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
