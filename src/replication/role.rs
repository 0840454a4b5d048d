//! What this node is in a group, as its user may rely on it.
//!
//! openraft calls a node leader when it has won the election. It may serve only when it has applied all
//! that its predecessors committed, which is so once the blank entry that it begins its term with is
//! applied: only then is it one in a [`Role`].

use std::sync::Weak;
use std::sync::atomic::Ordering;

use meridian_base::NodeId;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch::Sender;

use crate::group::Group;
use crate::types::ServerMetrics;

/// What this node is in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// The newest term that this node knows. Two leaders may share a term's number, not the pair of term
    /// and node.
    pub term: u64,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Whether this node leads and has applied everything that was committed before its term. False again
    /// as soon as it hands its leadership over.
    pub is_leader: bool,
    /// Whether this node may vote.
    pub is_voter: bool,
}

fn role_of(
    group: &Group,
    metrics: &openraft::metrics::RaftServerMetrics<crate::types::Types>,
) -> Role {
    let vote = &metrics.vote;
    let (term, node) = (vote.leader_id.term, vote.leader_id.node_id);
    let me = group.node.id();
    let leads = metrics.state == ServerState::Leader && node == me.0 && vote.committed;
    let shared = &group.shared;
    let membership = metrics.membership_config.membership();
    Role {
        term,
        leader: vote.committed.then_some(NodeId(node)),
        is_leader: leads
            && *shared.begun.lock() == Some(vote.leader_id)
            && shared.leaving_term.load(Ordering::Acquire) != term,
        is_voter: membership.voter_ids().any(|id| id == me.0),
    }
}

/// Keeps the role up to date until the group is closed.
pub(crate) async fn watch(group: Weak<Group>, mut metrics: ServerMetrics, roles: Sender<Role>) {
    loop {
        let Some(strong) = group.upgrade() else { return };
        let now = metrics.borrow_and_update().clone();
        let role = role_of(&strong, &now);
        if now.state == ServerState::Leader && now.vote.committed {
            strong.node.authority.over(strong.id, now.vote.leader_id.term);
        }
        roles.send_if_modified(|old| std::mem::replace(old, role) != role);
        let removed = now.state == ServerState::Leader
            && !role.is_voter
            && now.membership_config == now.committed_membership_config;
        if removed {
            // openraft would lead on: it doesn't look by itself.
            let refreshed = strong.raft.trigger().refresh_server_state(None, None).await;
            if refreshed.is_err() {
                return;
            }
        }
        let shared = std::sync::Arc::clone(&strong.shared);
        drop(strong);
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() {
                roles.send_modify(|role| role.is_leader = false);
                return;
            },
            () = shared.role_changed.notified() => {}
        }
    }
}
