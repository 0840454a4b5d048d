//! Replicas that were moved away find out, and go.
//!
//! A voter that is taken out of its group hears nothing of it, as a rule: its leader has no reason any more to
//! send it anything. Nor may it conclude so by itself; a voter that forgets what it has acknowledged can
//! cost the range committed entries. So a suspicion is only a reason to ask:
//!
//! ```text
//! the range's row lacks this node │ its own members do │ there is no row, and some time has gone by
//!    └─▶ Belongs, to the nodes of the row ─▶ the leaseholder: by committed members, nothing under way ─▶ no
//!           └─▶ unless a leader has asked for a replica since that question: Replicas::dismiss
//! ```
//! **Why a no stands.** Members are changed by a leaseholder that has claimed the range, and a node that is to
//! be one is asked first ([`Replicas::adopt`](crate::replicas::Replicas::adopt)), under the mutex under which a
//! replica goes. An answer is given under the same claim. So whoever makes this node a member after the
//! answer asks it after the answer, too, and finds either a replica that stays or a blank one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Instant, NodeId, RangeId};
use parking_lot::Mutex;
use std::sync::atomic::Ordering;

use super::Register;
use crate::apply::FIRST;
use crate::replicas::Replica;

/// Between two questions for a range that there is a reason to suspect.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// Between two questions for one that has no row.
const ASK_ANYHOW: Duration = Duration::from_secs(10);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// When was asked for which range; locked by who asks.
#[derive(Default)]
pub(crate) struct Retiring {
    asked: Mutex<BTreeMap<RangeId, Instant>>,
    one: tokio::sync::Mutex<()>,
}

impl Register {
    /// Has replicas removed that are none any more.
    pub(super) async fn retire_replicas(&self) {
        let Ok(_one) = self.retiring.one.try_lock() else { return };
        for replica in self.replicas.all() {
            let Some(nodes) = self.suspects(&replica) else { continue };
            self.retiring.asked.lock().insert(replica.range.id, Instant::now());
            if let Err(error) = self.perhaps_retire(&replica, nodes).await {
                tracing::error!(%error, range = %replica.range.id, "a replica was not removed");
            }
        }
    }

    /// Whom to ask whether this node is a member of a range, if that is in doubt.
    fn suspects(&self, replica: &Replica) -> Option<Vec<NodeId>> {
        let (me, range) = (self.core.node, &replica.range);
        let group = replica.group.as_ref()?;
        let blank = range.id == FIRST && replica.holds.get().is_none();
        if blank || range.lease.here(&self.core.hlc).is_some() {
            return None;
        }
        let row = self.core.row_of(range.id);
        let members = group.members();
        let own = !members.is_voter(me) && !members.learners.contains(&me);
        let lacks = row.as_ref().map(|row| !row.replicas.contains(&me));
        let pause = match (own, lacks) {
            (true, _) | (_, Some(true)) => ASK_AGAIN,
            (false, None) => ASK_ANYHOW,
            (false, Some(false)) => return None,
        };
        let last = self.retiring.asked.lock().get(&range.id).copied();
        if last.is_some_and(|last| last.elapsed() < pause) {
            return None;
        }
        let mut nodes = row.map(|row| row.replicas).unwrap_or_default();
        nodes.extend(range.lease.leader());
        nodes.extend(group.role().borrow().leader);
        nodes.extend(members.all_voters());
        let mut seen = std::collections::BTreeSet::from([me]);
        nodes.retain(|node| seen.insert(*node));
        Some(nodes)
    }

    async fn perhaps_retire(
        &self,
        replica: &Arc<Replica>,
        nodes: Vec<NodeId>,
    ) -> Result<(), meridian_storage::StorageError> {
        let adopted = replica.adopted.load(Ordering::Relaxed);
        for node in nodes {
            let asking = self.cluster.belong(node, replica.range.id);
            match tokio::time::timeout(PATIENCE, asking).await {
                Ok(Some(true)) => return Ok(()),
                Ok(Some(false)) => {
                    if self.replicas.dismiss(replica, adopted).await? {
                        replica.range.lease.note_leader(Some(node));
                    }
                    return Ok(());
                }
                Ok(None) | Err(_) => {}
            }
        }
        Ok(())
    }
}
