//! Who belongs to a group, and handing its leadership over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_base::NodeId;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::ClientWriteError;
use openraft::raft::{ChangeMembershipRequest, Precondition, VoteRequest};
use openraft::{BasicNode, ChangeMembers};

use crate::group::{Group, RaftGroup};
use crate::types::{LeaderId, LogId, Types, Vote};

/// The members of a group, as this node knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The voters; two sets while a change is under way, each of which must agree by majority.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// Those who get the log and have no vote.
    pub learners: BTreeSet<NodeId>,
    /// Which of the group's memberships this is: the log id of its entry.
    version: Option<LogId>,
}

impl Members {
    /// Whether a change of the voters is under way.
    #[must_use]
    pub const fn is_joint(&self) -> bool {
        self.voters.len() > 1
    }

    /// Whether `node` has a vote in any of the sets.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.iter().any(|set| set.contains(&node))
    }

    /// All voters, of both sets.
    #[must_use]
    pub fn all_voters(&self) -> BTreeSet<NodeId> {
        self.voters.iter().flatten().copied().collect()
    }
}

/// Why members were not changed, or the leadership not handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// This node does not lead the group, or has ceased to.
    NotLeader,
    /// The members are not those that the change was decided upon.
    Stale,
    /// The request makes no sense.
    Invalid(String),
    /// It took too long. A learner that was added stays; a change of the voters may have happened.
    TimedOut,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader => f.write_str("this node does not lead the range"),
            Self::Stale => f.write_str("the range's members have changed meanwhile"),
            Self::Invalid(why) => f.write_str(why),
            Self::TimedOut => f.write_str("it took too long"),
        }
    }
}

impl std::error::Error for ChangeError {}

fn change_error(error: ClientWriteError<Types>) -> ChangeError {
    match error {
        ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_) => {
            ChangeError::NotLeader
        }
        ClientWriteError::PreconditionFailed(_) => ChangeError::Stale,
        other => ChangeError::Invalid(other.to_string()),
    }
}

type Steps = Result<Option<LogId>, ChangeError>;

impl Group {
    /// One step of a change, only from the membership that `from` set. The members' new version.
    async fn change(
        &self,
        from: Option<LogId>,
        change: ChangeMembers<u64, BasicNode>,
        retain: bool,
    ) -> Steps {
        let only_from = Precondition::LastMembershipLogId { last_membership_log_id: from };
        let request = ChangeMembershipRequest::new(change, retain).with_preconditions([only_from]);
        let stopped = |why: String| ChangeError::Invalid(format!("the range has stopped: {why}"));
        let outcome = self.raft.change_membership_with_payload(request).await;
        match outcome {
            Ok(outcome) => Ok(Some(outcome.uniform.log_id)),
            Err(error) => match error.into_api_error() {
                Some(error) => Err(change_error(error)),
                None => Err(stopped("openraft has failed".into())),
            },
        }
    }

    /// Waits until a follower has the log up to the membership that made it one.
    async fn caught_up(&self, node: u64, upto: Option<LogId>) -> Result<(), ChangeError> {
        let done = |m: &openraft::RaftMetrics<Types>| match &m.replication {
            None => true,
            Some(of) => of.iter().any(|(id, matched)| *id == node && *matched >= upto),
        };
        let metrics = self.raft.wait(None).metrics(done, "a learner has the log").await;
        match metrics {
            Ok(m) if m.replication.is_some() => Ok(()),
            _ => Err(ChangeError::NotLeader),
        }
    }

    async fn change_members(
        &self,
        from: Members,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
    ) -> Result<(), ChangeError> {
        if voters.is_empty() {
            return Err(ChangeError::Invalid("a range needs a voter".into()));
        }
        let mut version = from.version;
        let wanted: BTreeSet<NodeId> = voters.union(&learners).copied().collect();
        let known: BTreeSet<NodeId> = from.all_voters().union(&from.learners).copied().collect();
        let new: BTreeMap<u64, BasicNode> =
            wanted.difference(&known).map(|node| (node.0, BasicNode::default())).collect();
        if !new.is_empty() {
            version = self.change(version, ChangeMembers::AddNodes(new), true).await?;
        }
        for node in voters.iter().filter(|node| !from.is_voter(**node)) {
            self.caught_up(node.0, version).await?;
        }
        if from.voters != [voters.clone()] {
            let all = voters.iter().map(|node| node.0).collect();
            version = self.change(version, ChangeMembers::ReplaceAllVoters(all), true).await?;
        }
        // Who is not wanted any more is a learner now.
        let gone: BTreeSet<u64> = known.difference(&wanted).map(|node| node.0).collect();
        if !gone.is_empty() {
            self.change(version, ChangeMembers::RemoveNodes(gone), true).await?;
        }
        Ok(())
    }

    async fn transfer(
        &self,
        to: NodeId,
        timeout: Duration,
        left: impl FnOnce(u64),
    ) -> Result<(), ChangeError> {
        let (me, mut roles) = (self.node.id(), self.role.clone());
        let before = *roles.borrow();
        if !before.is_leader {
            return Err(ChangeError::NotLeader);
        }
        let stopped = |why: String| ChangeError::Invalid(format!("the range has stopped: {why}"));
        self.shared.leaving_term.store(before.term, Ordering::Release);
        self.shared.role_changed.notify_one();
        let told = roles.wait_for(|role| !role.is_leader).await.is_ok();
        if !told {
            return Err(stopped("it is being closed".into()));
        }
        left(before.term);
        let started = self.raft.trigger().transfer_leader(to.0).await;
        started.map_err(|fatal| stopped(fatal.to_string()))?;
        let led_by_another = roles.wait_for(|now| now.leader.is_some_and(|leader| leader != me));
        let outcome = tokio::time::timeout(timeout, led_by_another).await;
        match outcome.map(|led| led.map(|role| role.leader)) {
            Ok(Ok(leader)) if leader == Some(to) => Ok(()),
            Ok(Ok(_)) => Err(ChangeError::NotLeader),
            Ok(Err(_)) => Err(stopped("it is being closed".into())),
            Err(_) => {
                self.take_back(LeaderId { term: before.term, node_id: me.0 }, to).await;
                Err(ChangeError::TimedOut)
            }
        }
    }

    /// A leader that has offered its place writes nothing any more in its term, whatever becomes of the
    /// offer. It steps down (by voting for whom it was offered to) and campaigns.
    async fn take_back(&self, led: LeaderId, to: NodeId) {
        if self.promised() != Some(led) {
            return;
        }
        let leader_id = LeaderId { term: led.term + 1, node_id: to.0 };
        let last = self.raft.data_metrics().borrow_watched().last_log;
        let mut request = VoteRequest::new(Vote { leader_id, committed: false }, last);
        request.leadership_transfer = true;
        // Both fail only when the group is being closed.
        let _ = self.raft.vote(request).await;
        let _ = self.raft.trigger().elect(false).await;
    }
}

impl RaftGroup {
    /// The index of the entry that made [`RaftGroup::members`] what they are.
    pub fn members_since(&self) -> Option<u64> {
        let metrics = self.0.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.log_id().as_ref().map(LogId::index)
    }

    /// The members as this node knows them; the newest on the leader.
    pub fn members(&self) -> Members {
        let metrics = self.0.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let set = |config: &BTreeSet<u64>| config.iter().map(|id| NodeId(*id)).collect();
        Members {
            voters: membership.get_joint_config().iter().map(set).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            version: *metrics.membership_config.log_id(),
        }
    }

    /// Is it certain that a node is no member: by the newest members that this one, the leader, knows, and
    /// those are committed?
    pub fn has_left(&self, node: NodeId) -> bool {
        let members = self.members();
        let committed = *self.0.shared.applied.lock().membership.log_id();
        let is_member = members.is_voter(node) || members.learners.contains(&node);
        !is_member && !members.is_joint() && committed == members.version && committed.is_some()
    }

    /// Makes `voters` and `learners` the members, if `from` (of [`RaftGroup::members`]) are the members
    /// now. New ones begin as learners and get a vote when they have the log; the voters change by joint
    /// consensus. Dropping the future does not stop what has begun.
    ///
    /// # Errors
    /// See [`ChangeError`]. What was done until then stays, and may be gone on with.
    pub async fn change_members(
        &self,
        from: &Members,
        voters: &[NodeId],
        learners: &[NodeId],
        timeout: Duration,
    ) -> Result<(), ChangeError> {
        let (group, from) = (Arc::clone(&self.0), from.clone());
        let (voters, learners) = (voters.iter().copied(), learners.iter().copied());
        let (voters, learners) = (voters.collect(), learners.collect());
        let changing = self.0.node.runtime.spawn(async move {
            let change = group.change_members(from, voters, learners);
            tokio::time::timeout(timeout, change).await.unwrap_or(Err(ChangeError::TimedOut))
        });
        changing.await.unwrap_or(Err(ChangeError::NotLeader))
    }

    /// Hands the leadership to another voter, which is elected at once, without regard to its voters'
    /// promises. From this call on this node serves nothing in its term ([`crate::Role::is_leader`]), so
    /// whoever calls drains first. `left` is called with that term, before anybody else can be elected: when
    /// it returns nothing must be served by that leadership any more. If nobody else leads within `timeout`,
    /// this node campaigns again.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn transfer_leader(
        &self,
        to: NodeId,
        timeout: Duration,
        left: impl FnOnce(u64) + Send + 'static,
    ) -> Result<(), ChangeError> {
        if to == self.0.node.id() || !self.members().is_voter(to) {
            return Err(ChangeError::Invalid(format!("{to} is not another voter")));
        }
        let group = Arc::clone(&self.0);
        let moving =
            self.0.node.runtime.spawn(async move { group.transfer(to, timeout, left).await });
        moving.await.unwrap_or(Err(ChangeError::NotLeader))
    }
}
