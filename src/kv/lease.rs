//! Leases: a leader that enough voters promise to keep may serve without asking anybody.
//!
//! ```text
//! expiration = max over quorums Q of min over v in Q without the leader of
//!              support of v, if v has acknowledged LeaseStart, and in the epoch of that support
//! usable     = leader ∧ LeaseStart applied ∧ now < expiration − max_offset          (stasis)
//! serves r   = usable ∧ r < expiration
//! ```
//! Why it is safe: a new leader has a vote of some v in Q. That v was bound by its promise until its
//! clock had passed the end of its support, which is at or after the expiration; its vote carried
//! that clock, and the new leader's `start_ts` is later still. So whatever the old leader served is
//! below `start_ts`, whatever the clocks show; stasis adds that, with clocks that differ by no more
//! than `max_offset`, no two leases are usable at one moment.
//!
//! All of this is computed from what [`crate::liveness`] knows; nothing here keeps time.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_base::{NodeId, RangeId, Timestamp};

use crate::liveness::Support;

/// Candidates follow each other at this distance.
pub const CAMPAIGN_STEP: Duration = Duration::from_millis(120);

/// The voters of a range: one set, or two while the membership changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voters {
    /// The voters; in a joint configuration the new ones.
    pub incoming: Vec<NodeId>,
    /// The old voters of a joint configuration; else empty.
    pub outgoing: Vec<NodeId>,
}

impl Voters {
    /// Voters outside of a change.
    #[must_use]
    pub fn simple(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Self { incoming: nodes.into_iter().collect(), outgoing: Vec::new() }
    }

    /// The sets that each need a majority.
    fn halves(&self) -> impl Iterator<Item = &[NodeId]> {
        [&self.incoming[..], &self.outgoing[..]].into_iter().filter(|half| !half.is_empty())
    }

    /// Whether the node is a voter.
    pub fn contains(&self, node: NodeId) -> bool {
        self.incoming.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether the nodes for which `holds` are a quorum.
    pub fn quorum(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        self.halves().all(|half| half.iter().filter(|n| holds(**n)).count() > half.len() / 2)
    }

    /// The highest value that a quorum has at least; `MIN` without voters.
    pub fn agreed<T: Ord + Copy>(&self, least: T, value: impl Fn(NodeId) -> T) -> T {
        let of_half = |half: &[NodeId]| {
            let mut values: Vec<T> = half.iter().map(|node| value(*node)).collect();
            values.sort_unstable();
            values[(half.len() - 1) / 2]
        };
        self.halves().map(of_half).min().unwrap_or(least)
    }
}

/// What a leader knows about its followers in its term.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// Where `LeaseStart` is in the log.
    start_index: u64,
    followers: BTreeMap<NodeId, Follower>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Follower {
    matched: u64,
    fort: Option<u64>,
}

impl Leadership {
    /// A leader that has proposed `LeaseStart` at this index.
    #[must_use]
    pub fn new(start_index: u64) -> Self {
        Self { start_index, followers: BTreeMap::new() }
    }

    /// A follower has acknowledged entries up to `matched` in this term; `fort` is the epoch in
    /// which it supported this node just before ([`crate::liveness::Liveness::support_epoch`]).
    pub fn acknowledged(&mut self, by: NodeId, matched: u64, fort: Option<u64>) {
        let follower = self.followers.entry(by).or_default();
        follower.matched = follower.matched.max(matched);
        follower.fort = follower.fort.max(fort);
    }

    /// Whether a follower should be sent something, so that its answer tells the epoch in which it
    /// supports this node now.
    pub fn wants_acknowledgement(&self, of: NodeId, support: Support) -> bool {
        let follower = self.followers.get(&of).copied().unwrap_or_default();
        support.expiration > Timestamp::MIN && follower.fort < Some(support.epoch)
    }

    /// Until when this node may serve; a range's only voter may for ever.
    pub fn expiration(
        &self,
        me: NodeId,
        voters: &Voters,
        support_from: impl Fn(NodeId) -> Support,
    ) -> Timestamp {
        voters.agreed(Timestamp::MIN, |node| {
            if node == me {
                return Timestamp::MAX;
            }
            let support = support_from(node);
            match self.followers.get(&node) {
                Some(f) if f.matched >= self.start_index && f.fort == Some(support.epoch) => {
                    support.expiration
                }
                _ => Timestamp::MIN,
            }
        })
    }
}

/// Whether a lease may be used now.
#[must_use]
pub fn usable(expiration: Timestamp, now: Timestamp, max_offset: Duration) -> bool {
    let margin = u64::try_from(max_offset.as_micros()).unwrap_or(u64::MAX);
    now < Timestamp::from_micros(expiration.micros().saturating_sub(margin))
}

/// What a voter has promised in one range: it was set when an append of this leader was taken, to
/// what went with the acknowledgement. It is forgotten when another leader's append is taken, and
/// when the leader turns out to have given up its term ([`VoteRequest::gave_up`], or a request of
/// its own for a vote in a later one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// To whom.
    pub leader: NodeId,
    /// In which term of the range.
    pub term: u64,
    /// In which epoch of the leader's support.
    pub epoch: u64,
}

/// A request for a vote, or the wish to campaign, as a voter sees it.
#[derive(Clone, Copy, Debug)]
pub struct VoteRequest<'a> {
    /// Who wants to lead.
    pub candidate: NodeId,
    /// The leader hands over to the candidate.
    pub transfer: bool,
    /// Nodes that have granted the candidate a vote, with the highest term of it, in this attempt or
    /// earlier ones: none of them leads a lower term again, so promises to them have lost their
    /// object. Without that, a leader that was deposed by a candidate which then failed would keep
    /// everybody bound for as long as it lives.
    pub gave_up: &'a [(NodeId, u64)],
}

impl VoteRequest<'_> {
    /// Whether the request shows that a promise has lost its object.
    pub fn releases(&self, promise: &Promise) -> bool {
        let gave_up =
            |(node, term): &(NodeId, u64)| *node == promise.leader && *term > promise.term;
        promise.leader == self.candidate || self.gave_up.iter().any(gave_up)
    }
}

/// Whether a voter may grant a vote, or campaign itself. `free` is [`crate::liveness::Liveness::may_vote`],
/// `binds` is [`crate::liveness::Liveness::promises`]; `leading` says that the voter holds a usable
/// lease of the range itself.
pub fn may_vote(
    request: VoteRequest<'_>,
    free: bool,
    leading: bool,
    promise: Option<Promise>,
    binds: impl Fn(NodeId, u64) -> bool,
) -> bool {
    let bound = promise.is_some_and(|p| !request.releases(&p) && binds(p.leader, p.epoch));
    free && (request.transfer || !(leading || bound))
}

/// Whether it is time to find another leader: this node isn't bound, and a quorum (with it) has
/// withdrawn, by what it knows of the others.
pub fn leader_is_gone(me: NodeId, voters: &Voters, withdrawn: impl Fn(NodeId) -> bool) -> bool {
    voters.contains(me) && voters.quorum(|node| node == me || withdrawn(node))
}

/// A node's place among the candidates to follow a leader: different in every range, so that the
/// ranges of a dead node are spread over the others.
#[must_use]
pub fn rank(range: RangeId, node: NodeId, voters: &Voters, gone: Option<NodeId>) -> Option<u32> {
    let candidates = candidates(voters, gone);
    candidates.contains(&node).then(|| {
        let mine = (mix(range, node), node);
        let before = candidates.iter().filter(|other| (mix(range, **other), **other) < mine);
        u32::try_from(before.count()).unwrap_or(u32::MAX)
    })
}

fn candidates(voters: &Voters, gone: Option<NodeId>) -> Vec<NodeId> {
    let mut all: Vec<NodeId> = voters.halves().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all.retain(|node| Some(*node) != gone);
    all
}

/// How long after the leader was found gone a candidate campaigns for the `attempt`-th time (from 0): with
/// pauses that grow, since on a machine where a vote takes long the next candidate would always come before
/// the last one's votes. Who has voted for another candidate counts that as an attempt of its own: with rank 0 it would
/// otherwise depose the one it has just voted for, time and again.
#[must_use]
pub fn campaign_after(rank: u32, voters: &Voters, gone: Option<NodeId>, attempt: u32) -> Duration {
    let round = u32::try_from(candidates(voters, gone).len()).unwrap_or(u32::MAX);
    let rounds = attempt.saturating_mul(attempt.saturating_add(1)) / 2;
    CAMPAIGN_STEP * rounds.saturating_mul(round.saturating_add(1)).saturating_add(rank).min(10_000)
}

/// A hash that all nodes agree on.
fn mix(range: RangeId, node: NodeId) -> u64 {
    let mut x = range.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ node.0;
    for _ in 0..2 {
        x = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    }
    x ^ (x >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn support(epoch: u64, expiration: u64) -> Support {
        Support { epoch, expiration: Timestamp::from_micros(expiration) }
    }

    #[test]
    fn a_lease_is_as_long_as_the_best_quorum() {
        let mut leader = Leadership::new(7);
        let from = |node: NodeId| support(node.0, node.0 * 100);
        let expiration = |leader: &Leadership, voters: &Voters| {
            leader.expiration(NodeId(1), voters, from).micros()
        };
        let five = Voters::simple(nodes(&[1, 2, 3, 4, 5]));
        assert_eq!(expiration(&leader, &five), 0, "nobody has acknowledged LeaseStart");
        for node in [2, 3, 5] {
            leader.acknowledged(NodeId(node), 7, Some(node));
        }
        leader.acknowledged(NodeId(4), 6, Some(4));
        assert_eq!(expiration(&leader, &five), 300, "1, 5 and 3; 4 has not got that far");
        leader.acknowledged(NodeId(4), 7, Some(3));
        assert_eq!(expiration(&leader, &five), 400, "epochs never go back");
        leader.acknowledged(NodeId(5), 8, Some(6));
        assert_eq!(expiration(&leader, &five), 300, "5 supports in an epoch not known here yet");
        let joint = Voters { incoming: nodes(&[1, 4, 5]), outgoing: nodes(&[1, 2, 3]) };
        assert_eq!(expiration(&leader, &joint), 300, "a majority of both");
        let without_me = Voters { incoming: nodes(&[2, 3, 4]), outgoing: nodes(&[1]) };
        assert_eq!(expiration(&leader, &without_me), 300);
        assert_eq!(expiration(&leader, &Voters::simple([NodeId(1)])), u64::MAX >> 12);
        assert!(leader.wants_acknowledgement(NodeId(6), support(1, 1)));
        assert!(!leader.wants_acknowledgement(NodeId(5), support(6, 1)));
    }

    #[test]
    fn voters_keep_their_promises() {
        let of = |candidate, transfer| VoteRequest {
            candidate: NodeId(candidate),
            transfer,
            gave_up: &[],
        };
        let promise = Some(Promise { leader: NodeId(1), term: 7, epoch: 5 });
        let binds = |node: NodeId, epoch: u64| node == NodeId(1) && epoch == 5;
        assert!(!may_vote(of(2, false), true, false, promise, binds));
        assert!(may_vote(of(1, false), true, false, promise, binds), "to the leader itself");
        assert!(may_vote(of(2, true), true, false, promise, binds), "the leader hands over");
        assert!(may_vote(of(2, false), true, false, promise, |_, epoch| epoch == 6));
        for (term, released) in [(7, false), (8, true)] {
            let request = VoteRequest { gave_up: &[(NodeId(1), term)], ..of(2, false) };
            assert_eq!(may_vote(request, true, false, promise, binds), released);
        }
        assert!(!may_vote(of(2, false), true, true, None, binds), "it leads itself");
        assert!(!may_vote(of(2, true), false, false, None, binds), "not yet after a restart");
    }

    #[test]
    fn ranges_of_a_dead_node_are_spread() {
        let voters = Voters::simple(nodes(&[1, 2, 3]));
        let mut first = BTreeMap::new();
        for range in 0..1_000 {
            let rank_of = |node| rank(RangeId(range), NodeId(node), &voters, Some(NodeId(1)));
            assert_eq!(rank_of(1), None);
            let order = (rank_of(2), rank_of(3));
            assert!(order == (Some(0), Some(1)) || order == (Some(1), Some(0)), "{order:?}");
            *first.entry(order.0).or_insert(0) += 1;
        }
        assert!(first.values().all(|n| (400..600).contains(n)), "{first:?}");
        let times: Vec<u128> =
            (0..3).map(|n| campaign_after(1, &voters, Some(NodeId(1)), n).as_millis()).collect();
        assert_eq!(times, [120, 480, 1200]);
    }
}
