//! One replica of a range: raft's votes without raft's log, and the lease rules over them.

use std::collections::{BTreeMap, BTreeSet};

use meridian_base::{NodeId, RangeId, Timestamp};
use meridian_kv::lease::{self, Leadership, Promise, VoteRequest, Voters};
use meridian_kv::liveness::{Liveness, Now};

use super::LeaseBug;
use super::node::MAX_OFFSET;

/// What is on disk for a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Vote {
    pub(super) term: u64,
    pub(super) node: Option<NodeId>,
    /// The node is known to have won.
    pub(super) committed: bool,
}

/// Raft's messages, as far as they matter.
#[derive(Clone, Debug)]
pub(super) enum RaftMessage {
    Vote {
        term: u64,
        gave_up: Vec<(NodeId, u64)>,
    },
    Granted {
        term: u64,
    },
    Append {
        term: u64,
    },
    Appended {
        term: u64,
        fort: Option<u64>,
    },
    /// The other is behind.
    Newer {
        term: u64,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Lead {
    pub(super) term: u64,
    leadership: Leadership,
    acknowledged: BTreeSet<NodeId>,
}

/// The only entry.
const LEASE_START: u64 = 1;

/// What a step of a range leads to.
#[derive(Default)]
pub(super) struct Outcome {
    /// Once the vote is on disk.
    pub(super) replies: Vec<(NodeId, RaftMessage)>,
    /// At once.
    pub(super) sends: Vec<(NodeId, RaftMessage)>,
    /// It leads from now on.
    pub(super) elected: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) id: RangeId,
    voters: Voters,
    pub(super) vote: Vote,
    promise: Option<Promise>,
    pub(super) lead: Option<Lead>,
    votes: Option<BTreeSet<NodeId>>,
    /// Who has ever granted this node a vote, and the last term of it.
    gave_up: BTreeMap<NodeId, u64>,
    gone_since: Option<u64>,
    attempts: u32,
    last_append: u64,
}

/// What surrounds a range for a step.
pub(super) struct Around<'a> {
    pub(super) me: NodeId,
    pub(super) now: Now,
    pub(super) liveness: &'a Liveness,
    pub(super) bug: Option<LeaseBug>,
    /// The epoch on disk for the other side, for a bug.
    pub(super) epoch_on_disk: Option<u64>,
}

impl Range {
    pub(super) fn new(id: RangeId, nodes: u64, vote: Vote) -> Self {
        Self {
            id,
            voters: Voters::simple((1..=nodes).map(NodeId)),
            vote,
            promise: None,
            lead: None,
            votes: None,
            gave_up: BTreeMap::new(),
            gone_since: None,
            attempts: 0,
            last_append: 0,
        }
    }

    /// Until when the lease of this node lasts, if it has one.
    pub(super) fn expiration(&self, me: NodeId, liveness: &Liveness) -> Option<Timestamp> {
        let lead = self.lead.as_ref()?;
        let applied = self.voters.quorum(|node| node == me || lead.acknowledged.contains(&node));
        let support = |node| liveness.support_from(node);
        applied.then(|| lead.leadership.expiration(me, &self.voters, support))
    }

    pub(super) fn usable(&self, around: &Around<'_>) -> bool {
        let offset = match around.bug {
            Some(LeaseBug::NoStasis) => std::time::Duration::ZERO,
            _ => MAX_OFFSET,
        };
        self.expiration(around.me, around.liveness)
            .is_some_and(|expiration| lease::usable(expiration, around.now.hlc, offset))
    }

    pub(super) fn describe(&self, around: &Around<'_>) -> String {
        let binds = self.promise.map(|p| around.liveness.promises(p.leader, p.epoch));
        let Self { vote, promise, lead, attempts, .. } = self;
        format!("{vote:?}, {promise:?} binds {binds:?}, attempt {attempts}, {lead:?}")
    }

    pub(super) fn tick(&mut self, around: &Around<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(lead) = &self.lead {
            if around.now.mono >= self.last_append + 100_000 || self.last_append == 0 {
                self.last_append = around.now.mono;
                let term = lead.term;
                self.broadcast(around.me, RaftMessage::Append { term }, &mut outcome.sends);
            }
        } else if self.should_campaign(around) {
            self.attempts += 1;
            self.vote = Vote { term: self.vote.term + 1, node: Some(around.me), committed: false };
            self.votes = Some([around.me].into());
            let gave_up = self.gave_up.iter().map(|(node, term)| (*node, *term)).collect();
            let request = RaftMessage::Vote { term: self.vote.term, gave_up };
            self.broadcast(around.me, request, &mut outcome.replies);
        }
        outcome
    }

    fn broadcast(&self, me: NodeId, message: RaftMessage, to: &mut Vec<(NodeId, RaftMessage)>) {
        to.extend(
            self.voters.incoming.iter().filter(|n| **n != me).map(|node| (*node, message.clone())),
        );
    }

    fn should_campaign(&mut self, around: &Around<'_>) -> bool {
        let leader = self.vote.node.filter(|node| self.vote.committed && *node != around.me);
        let gone = leader.is_none_or(|leader| {
            // Without a promise of ours any incarnation of the leader will do.
            let epoch = self.promise.filter(|p| p.leader == leader).map_or(u64::MAX, |p| p.epoch);
            let withdrawn = |node| around.liveness.has_withdrawn(node, leader, epoch);
            let mine = !around.liveness.supported(leader)
                || (epoch < u64::MAX && !around.liveness.promises(leader, epoch));
            mine && lease::leader_is_gone(around.me, &self.voters, withdrawn)
        });
        if !gone || !self.may_vote(around.me, &[], around) {
            self.gone_since = None;
            return false;
        }
        if around.bug == Some(LeaseBug::GivesUp) && self.votes.is_some() {
            return false;
        }
        let since = *self.gone_since.get_or_insert(around.now.mono);
        let rank = lease::rank(self.id, around.me, &self.voters, leader).unwrap_or(0);
        let wait = lease::campaign_after(rank, &self.voters, leader, self.attempts);
        u128::from(around.now.mono - since) >= wait.as_micros()
    }

    fn may_vote(&self, candidate: NodeId, gave_up: &[(NodeId, u64)], around: &Around<'_>) -> bool {
        let request = VoteRequest { candidate, transfer: false, gave_up };
        let free = around.bug == Some(LeaseBug::VotesBeforeTheBound)
            || around.liveness.may_vote(around.now.hlc);
        let ignores = around.bug == Some(LeaseBug::IgnoresPromises);
        let promise = self.promise.filter(|_| !ignores);
        let binds = |node, epoch| around.liveness.promises(node, epoch);
        lease::may_vote(request, free, self.usable(around), promise, binds)
    }

    pub(super) fn receive(
        &mut self,
        from: NodeId,
        message: RaftMessage,
        around: &Around<'_>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        match message {
            RaftMessage::Vote { term, gave_up } => {
                let again = self.vote.term == term && self.vote.node == Some(from);
                let newer = term > self.vote.term && self.may_vote(from, &gave_up, around);
                if newer {
                    self.step_down(Vote { term, node: Some(from), committed: false });
                    // As if it had tried itself: the one it voted for has a round's time to win.
                    self.attempts = 1;
                }
                if newer || (again && !self.vote.committed) {
                    outcome.replies.push((from, RaftMessage::Granted { term }));
                }
            }
            RaftMessage::Granted { term } => {
                let last = self.gave_up.entry(from).or_default();
                *last = term.max(*last);
                if let Some(votes) = &mut self.votes
                    && term == self.vote.term
                {
                    votes.insert(from);
                    outcome.elected = self.voters.quorum(|node| votes.contains(&node));
                }
            }
            RaftMessage::Append { term } => self.append(from, term, around, &mut outcome),
            RaftMessage::Appended { term, fort } => {
                if let Some(lead) = self.lead.as_mut().filter(|lead| lead.term == term) {
                    lead.acknowledged.insert(from);
                    lead.leadership.acknowledged(from, LEASE_START, fort);
                }
            }
            RaftMessage::Newer { term } => {
                if term > self.vote.term {
                    self.step_down(Vote { term, node: None, committed: false });
                }
            }
        }
        outcome
    }

    /// HAZARD (shown by a planted bug): the epoch is read first.
    fn append(&mut self, from: NodeId, term: u64, around: &Around<'_>, outcome: &mut Outcome) {
        let mut fort = around.liveness.support_epoch(from);
        if around.bug == Some(LeaseBug::ReportsEpochWithoutSupport) {
            fort = around.epoch_on_disk;
        }
        if term < self.vote.term {
            let newer = RaftMessage::Newer { term: self.vote.term };
            return outcome.replies.push((from, newer));
        }
        let vote = Vote { term, node: Some(from), committed: true };
        if self.vote != vote {
            self.step_down(vote);
        }
        self.attempts = 0;
        if let Some(epoch) = fort {
            self.promise = Some(Promise { leader: from, term, epoch });
        } else if self.promise.is_some_and(|promise| promise.leader != from) {
            self.promise = None;
        }
        outcome.replies.push((from, RaftMessage::Appended { term, fort }));
    }

    fn step_down(&mut self, vote: Vote) {
        self.vote = vote;
        (self.lead, self.votes, self.gone_since) = (None, None, None);
        self.attempts = 0;
    }

    pub(super) fn lead(&mut self) {
        self.vote.committed = true;
        (self.votes, self.promise, self.gone_since, self.attempts) = (None, None, None, 0);
        self.last_append = 0;
        let leadership = Leadership::new(LEASE_START);
        let acknowledged = BTreeSet::new();
        self.lead = Some(Lead { term: self.vote.term, leadership, acknowledged });
    }
}
