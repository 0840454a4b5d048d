//! The handle of a raft group.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use meridian_base::{NodeId, RangeId};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::install::Incoming;
use crate::log_store::last_log_id;
use crate::node::Node;
use crate::role::Role;
use crate::state_machine::{Applier, Shared};
use crate::types::{LeaderId, LogId, Part, Payload, Raft, Vote};

/// Pieces on their way to the disk at once: one is written while the next one is made.
const PIECES_IN_FLIGHT: usize = 4;

/// Why a proposal was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// It is not in the log and never will be: this node does not lead in the term it was evaluated in.
    NotLeader,
    /// It is not in the log: the disk has no room (53100).
    DiskFull,
    /// It was appended here and may be in the group's log now or later: leadership was lost before it was
    /// committed, or the node is stopping or has failed.
    Unknown(String),
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader => f.write_str("this node does not lead the range"),
            Self::DiskFull => f.write_str("no space left for the raft log"),
            Self::Unknown(why) => write!(f, "the outcome is unknown: {why}"),
        }
    }
}

impl std::error::Error for ProposeError {}

/// Counters of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Index of the last applied entry.
    pub applied: u64,
    /// Index up to which the engine is durable.
    pub durable: u64,
    /// Engine batches written.
    pub batches: u64,
    /// Waits for the engine's background work.
    pub stalls: u64,
}

/// What a leader knows of a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowerProgress {
    /// Index up to which its log is known to be the leader's.
    pub matched: u64,
    /// The epoch of this node that the follower supported when it accepted its last append of this term.
    pub epoch: u64,
}

/// The followers of this node's newest term as a leader.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    term: u64,
    of: BTreeMap<NodeId, FollowerProgress>,
}

impl Followers {
    pub(crate) fn acknowledged(&mut self, term: u64, by: NodeId, matched: u64, epoch: u64) {
        if term < self.term {
            return;
        }
        if term > self.term {
            *self = Self { term, of: BTreeMap::new() };
        }
        let follower = self.of.entry(by).or_default();
        follower.matched = follower.matched.max(matched);
        follower.epoch = follower.epoch.max(epoch);
    }
}

/// A group, as the modules of this crate see it.
pub(crate) struct Group {
    pub(crate) id: RangeId,
    pub(crate) node: Arc<Node>,
    pub(crate) raft: Raft,
    pub(crate) applier: Arc<dyn Applier>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) role: watch::Receiver<Role>,
    /// The newest leader whose entries were let in, noted before they were: whoever asks for a vote later
    /// is held against it.
    pub(crate) promised: Mutex<Option<LeaderId>>,
    /// No vote for a log that ends below this ([`crate::remove`]).
    pub(crate) floor: Option<LogId>,
    pub(crate) followers: Mutex<Followers>,
    /// A snapshot that is arriving.
    pub(crate) incoming: tokio::sync::Mutex<Option<Incoming>>,
}

impl Group {
    /// Takes note of a leader before anything of it is let in.
    pub(crate) fn promise(&self, leader: LeaderId) {
        let mut promised = self.promised.lock();
        *promised = (*promised).max(Some(leader));
    }

    /// The leader that this node has promised itself to, unless it has voted since.
    pub(crate) fn promised(&self) -> Option<LeaderId> {
        let promised = *self.promised.lock();
        let vote = self.vote();
        match vote.committed {
            true => promised.max(Some(vote.leader_id)),
            false if Some(vote.leader_id) > promised => None,
            false => promised,
        }
    }

    /// The vote that this node has made durable last.
    pub(crate) fn vote(&self) -> Vote {
        self.raft.server_metrics().borrow_watched().vote
    }

    /// Promises to leaders of terms before the newest in which somebody was elected are over: that is so for a
    /// term of which there is an entry, or a leader. Without this two nodes may be bound to each other, each by
    /// a term before the one that the other led, and nobody campaigns.
    pub(crate) fn forget_promises(&self) {
        let vote = self.vote();
        let led = if vote.committed { vote.leader_id.term } else { 0 };
        let last = last_log_id(self.node.log.as_ref(), self.id);
        let written = last.flatten().map_or(0, |last| last.leader_id.term);
        self.node.authority.over(self.id, led.max(written));
    }

    /// Sends what followers have missed, and asks them for an acknowledgement. Nothing on a follower.
    pub(crate) async fn heartbeat(&self, to: NodeId) {
        let trigger = self.raft.trigger();
        // Fails only when the group is being closed.
        let _ = trigger.reset_backoff([to.0]).await;
        let _ = trigger.heartbeat().await;
    }

    pub(crate) fn leads(&self) -> bool {
        let role = self.role.borrow();
        role.leader == Some(self.node.id())
    }
}

/// A replica of a range: proposes and applies. Cheap to clone.
#[derive(Clone)]
pub struct RaftGroup(pub(crate) Arc<Group>);

impl RaftGroup {
    /// Its range.
    pub fn id(&self) -> RangeId {
        self.0.id
    }

    /// Appends an entry if this node leads in `term`. Resolves when the entry is committed, applied and
    /// published here, or when that can no longer be observed. Entries enter the log in the order in which
    /// these futures are first polled.
    ///
    /// A leader that is cut off does not know it: the future waits until the node hears of its successor.
    ///
    /// # Errors
    /// See [`ProposeError`]: only `Unknown` leaves the outcome open.
    pub async fn propose(&self, term: u64, entry: Bytes) -> Result<(), ProposeError> {
        self.append(term, Payload::plain(entry, Part::Whole)).await
    }

    /// Appends a proposal that is too large for one entry: all of its pieces are applied, or none. Takes
    /// them one by one, so that they need not be in memory at once; no other proposal may be made
    /// meanwhile. `Unknown` also when only a later piece failed that way.
    ///
    /// # Errors
    /// See [`ProposeError`].
    ///
    /// # Panics
    /// Without a piece.
    pub async fn propose_pieces(
        &self,
        term: u64,
        pieces: &mut (dyn Iterator<Item = Bytes> + Send),
    ) -> Result<(), ProposeError> {
        let mut bytes = pieces.next().expect("a proposal has a piece");
        let (mut number, mut flying) = (0, VecDeque::new());
        for next in pieces {
            flying.push_back(self.submit(term, Payload::piece(bytes, number)).await?);
            (bytes, number) = (next, number + 1);
            if flying.len() == PIECES_IN_FLIGHT
                && let Some(first) = flying.pop_front()
            {
                first.await?;
            }
        }
        for piece in flying {
            piece.await?;
        }
        self.append(term, Payload::plain(bytes, Part::Last(number))).await
    }

    pub(crate) async fn append(&self, term: u64, payload: Payload) -> Result<(), ProposeError> {
        self.submit(term, payload).await?.await
    }

    /// Hands an entry to raft; the future is its outcome.
    async fn submit(
        &self,
        term: u64,
        payload: Payload,
    ) -> Result<impl Future<Output = Result<(), ProposeError>> + use<>, ProposeError> {
        let Group { node, raft, .. } = &*self.0;
        if node.refuses() {
            return Err(ProposeError::DiskFull);
        }
        let leader = LeaderId { term, node_id: node.id().0 };
        let (responder, done) = ProgressResponder::complete_only();
        let write = raft.write(payload).with_leader(leader).responder(responder);
        let unknown = |why: String| ProposeError::Unknown(why);
        write.await.map_err(|fatal| unknown(fatal.to_string()))?;
        Ok(async move {
            match done.await {
                Ok(Ok(_)) => Ok(()),
                // openraft answers this only before it appends.
                Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(ProposeError::NotLeader),
                // The entry was cut off here, but another node may still have it and be elected.
                Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => {
                    Err(unknown("leadership was lost before it was committed".into()))
                }
                Ok(Err(other)) => Err(unknown(other.to_string())),
                Err(_) => Err(unknown("the range has stopped".into())),
            }
        })
    }

    /// Campaigns once, if the liveness layer allows it: a lost election is not repeated. Answers at once;
    /// see [`RaftGroup::role`].
    pub fn campaign(&self) {
        let group = Arc::clone(&self.0);
        // On the raft thread, in line with the entries that a leader sends.
        self.0.node.runtime.spawn(async move {
            let me = group.node.id();
            group.forget_promises();
            let leader = group.promised().map(|leader| NodeId(leader.node_id));
            let whole = last_log_id(group.node.log.as_ref(), group.id);
            let whole = whole.is_some_and(|last| last >= group.floor);
            if whole && group.node.authority.may_vote(group.id, leader, me) {
                // Fails only when the group is being closed.
                let _ = group.raft.trigger().elect(false).await;
            }
        });
    }

    /// What this node is in the group, now and from now on.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.0.role.clone()
    }

    /// The followers in `term`, if this node led in it last.
    pub fn progress(&self, term: u64) -> Vec<(NodeId, FollowerProgress)> {
        let followers = self.0.followers.lock();
        match followers.term == term {
            true => followers.of.iter().map(|(node, progress)| (*node, *progress)).collect(),
            false => Vec::new(),
        }
    }

    /// What a follower reported in `term`.
    pub fn progress_of(&self, term: u64, node: NodeId) -> Option<FollowerProgress> {
        let followers = self.0.followers.lock();
        followers.of.get(&node).copied().filter(|_| followers.term == term)
    }

    /// Counters.
    pub fn stats(&self) -> GroupStats {
        let index = |id: &Option<LogId>| id.as_ref().map_or(0, LogId::index);
        let shared = &self.0.shared;
        GroupStats {
            applied: index(&shared.applied.lock().log_id),
            durable: index(&shared.durable.lock()),
            batches: shared.batches.load(Ordering::Relaxed),
            stalls: shared.stalls.load(Ordering::Relaxed),
        }
    }
}
