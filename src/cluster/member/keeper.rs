//! Keeps the leases of the ranges that this node leads, and has it lead those that nobody does.
//!
//! A leader may serve for as long as a quorum promises to elect nobody else. Learners count as voters
//! here as soon as there are any: when they become voters, no lease is in use that didn't count on them.
//!
//! One task for all ranges. A look at a range is a few microseconds: a range is looked at when its role has
//! changed, when its lease is about to end, when its leader is not heard of, and else once a second. For a
//! lease that is about to end it is enough, as a rule, that the same nodes still promise the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Instant, NodeId, RangeId, Timestamp};
use meridian_kv::lease::{self, Leadership, Voters};
use meridian_replication::{FollowerProgress, Members, MultiRaft, RaftGroup, Role};
use tokio::sync::{Notify, watch};

use super::Register;
use crate::apply::FIRST;
use crate::core::Core;
use crate::liveness::{NodeLiveness, Withdrawn};
use crate::remote::Cluster;
use crate::replicas::{Replica, Replicas};

/// Between two looks at everything: a lease is extended this often, and a dead leader noticed. Half of it
/// costs an idle node twice as much; with twice of it a failover takes that much longer.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at who is there and who should have a copy.
const SURVEY: Duration = Duration::from_secs(1);
/// Between two requests for new acknowledgements.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A lease that lasts for less than this is extended, in microseconds: some looks before it ends. Half of it
/// leaves no room for a look that is late; with twice of it every lease is extended at every look.
const DUE: u64 = 250_000;
/// A range is looked at anyhow after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// For so long the leader of a range that has split is left to lead the right half, too.
const GRACE: Duration = Duration::from_millis(600);

/// The search for a new leader, while there is none.
#[derive(Default)]
struct Campaign {
    since: Option<Instant>,
    attempt: u32,
    /// The newest term that is accounted for: a newer one is another candidate's.
    term: u64,
}

/// A leadership in which nothing moves but time.
struct Steady {
    term: u64,
    members_since: Option<u64>,
    voters: Voters,
    followers: Vec<(NodeId, FollowerProgress)>,
}

/// What is kept of one range.
struct Kept {
    replica: Arc<Replica>,
    group: RaftGroup,
    role: watch::Receiver<Role>,
    led: Option<u64>,
    /// The wall time at which the lease ends.
    until: u64,
    steady: Option<Steady>,
    /// The epoch in which this node supported the leader at the last look.
    followed: Option<u64>,
    campaign: Campaign,
    asked: Option<Instant>,
    looked: Option<Instant>,
    /// The learners that the lease has been counting on.
    counted: BTreeSet<NodeId>,
}

/// Keeps the leases of all ranges.
pub(crate) struct Keeper {
    core: Arc<Core>,
    replicas: Arc<Replicas>,
    raft: Arc<MultiRaft>,
    liveness: Arc<NodeLiveness>,
    cluster: Arc<Cluster>,
    register: Arc<Register>,
    kept: BTreeMap<RangeId, Kept>,
    surveyed: Option<Instant>,
}

/// The configurations of which each must support the leader.
fn electorates(members: &Members) -> Vec<Voters> {
    let mut all: Vec<Voters> =
        members.voters.iter().map(|half| Voters::simple(half.iter().copied())).collect();
    if !members.learners.is_empty() {
        let voters = members.all_voters();
        all.push(Voters::simple(voters.union(&members.learners).copied()));
    }
    all
}

impl Keeper {
    pub(crate) fn new(
        replicas: Arc<Replicas>,
        raft: Arc<MultiRaft>,
        liveness: Arc<NodeLiveness>,
        cluster: Arc<Cluster>,
        register: Arc<Register>,
    ) -> Keeper {
        Keeper {
            core: Arc::clone(&cluster.core),
            replicas,
            raft,
            liveness,
            cluster,
            register,
            kept: BTreeMap::new(),
            surveyed: None,
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: Arc<Notify>) {
        let mut withdrawn = self.liveness.withdrawals();
        loop {
            self.look_at_all();
            if self.surveyed.is_none_or(|last| last.elapsed() >= SURVEY) {
                self.surveyed = Some(Instant::now());
                // Apart: it may have to wait for other nodes, and leases must not.
                let counted = self.kept.iter().map(|(id, kept)| (*id, kept.counted.clone()));
                let counted = counted.filter(|(_, learners)| !learners.is_empty()).collect();
                let register = Arc::clone(&self.register);
                tokio::spawn(async move { register.survey(&counted).await });
            }
            let first = self.kept.get_mut(&FIRST).map(|kept| kept.role.clone());
            tokio::select! {
                () = stop.notified() => return,
                () = changed(first) => {}
                () = self.replicas.news.notified() => {}
                Ok(Withdrawn { node, .. }) = withdrawn.recv() => self.gone(node),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// A node is not heard of any more.
    fn gone(&self, node: NodeId) {
        self.cluster.node_gone(node);
        let live = self.cluster.live().into_iter().filter(|other| *other != node).collect();
        self.cluster.set_live(live);
    }

    fn look_at_all(&mut self) {
        let all = self.replicas.all();
        let ids: BTreeSet<RangeId> = all.iter().map(|replica| replica.range.id).collect();
        self.kept.retain(|id, _| ids.contains(id));
        for replica in all {
            let Some(group) = replica.group.clone() else { continue };
            let id = replica.range.id;
            // It may have been removed and begun again.
            if self.kept.get(&id).is_some_and(|kept| !Arc::ptr_eq(&kept.replica, &replica)) {
                self.kept.remove(&id);
            }
            self.kept.entry(id).or_insert_with(|| Kept {
                role: group.role(),
                replica,
                group,
                led: None,
                until: 0,
                steady: None,
                followed: None,
                campaign: Campaign::default(),
                asked: None,
                looked: None,
                counted: BTreeSet::new(),
            });
        }
        let mut kept = std::mem::take(&mut self.kept);
        let now = self.core.hlc.reading();
        let mut epochs = BTreeMap::new();
        for range in kept.values_mut() {
            if range.role.has_changed().is_ok_and(|changed| !changed)
                && range.looked.is_some_and(|last| last.elapsed() < LOOK_AGAIN)
            {
                let role = *range.role.borrow();
                let is_fine = match role.is_leader {
                    true => now + DUE < range.until || self.extend_steady(range),
                    false => role.leader.is_some_and(|leader| {
                        let epoch = || self.liveness.support_epoch(leader);
                        let epoch = *epochs.entry(leader).or_insert_with(epoch);
                        let waits = range.campaign.since.is_some();
                        leader != self.core.node
                            && epoch.is_some()
                            && epoch == range.followed
                            && !waits
                    }),
                };
                if is_fine {
                    continue;
                }
            }
            range.looked = Some(Instant::now());
            self.look(range);
        }
        self.kept = kept;
    }

    fn look(&self, kept: &mut Kept) {
        let role = *kept.role.borrow_and_update();
        // Before the members: those may be newer, not older.
        let members_since = kept.group.members_since();
        let members = kept.group.members();
        let me = self.core.node;
        let range = &kept.replica.range;
        let is_member = role.is_voter || members.learners.contains(&me);
        range.set_replicates(is_member);
        kept.steady = None;
        kept.followed = role.leader.and_then(|leader| self.liveness.support_epoch(leader));
        if role.is_leader {
            kept.campaign = Campaign::default();
            kept.led = Some(role.term);
            self.extend(kept, role.term, &members, members_since);
            return;
        }
        if let Some(term) = kept.led.take() {
            self.core.lost_lease(range, term);
        }
        // Who isn't a member hears of leaders elsewhere.
        if is_member || role.leader.is_some() {
            range.lease.note_leader(role.leader);
        }
        if role.is_voter {
            self.perhaps_campaign(kept, role, &members);
        }
    }

    /// Extends the lease to what the voters' support allows.
    fn extend(&self, kept: &mut Kept, term: u64, members: &Members, members_since: Option<u64>) {
        let me = self.core.node;
        let mut leadership = Leadership::new(0);
        let followers = kept.group.progress(term);
        for (node, progress) in &followers {
            let fort = (progress.epoch > 0).then_some(progress.epoch);
            leadership.acknowledged(*node, progress.matched, fort);
        }
        let electorates = electorates(members);
        let until = electorates
            .iter()
            .map(|voters| self.liveness.lease_expiration(voters, 0, followers.iter().copied()))
            .min()
            .unwrap_or(Timestamp::MIN);
        kept.counted = members.learners.clone();
        let others = members.all_voters().into_iter().chain(members.learners.iter().copied());
        let stale: Vec<NodeId> = others
            .filter(|node| *node != me)
            .filter(|node| {
                leadership.wants_acknowledgement(*node, self.liveness.support_from(*node))
            })
            .collect();
        if let (true, [voters]) = (stale.is_empty(), &electorates[..]) {
            let voters = voters.clone();
            kept.steady = Some(Steady { term, members_since, voters, followers });
        }
        if !stale.is_empty() && kept.asked.is_none_or(|last| last.elapsed() >= ASK_AGAIN) {
            kept.asked = Some(Instant::now());
            stale.into_iter().for_each(|node| self.raft.peer_reachable(node));
        }
        self.take(kept, term, until);
    }

    /// Extends the lease of a range in which nothing has moved; false if something has, or it isn't enough.
    fn extend_steady(&self, kept: &mut Kept) -> bool {
        let Some(steady) = kept.steady.take() else { return false };
        if steady.members_since != kept.group.members_since() {
            return false;
        }
        let followers = steady.followers.iter().copied();
        let until = self.liveness.lease_expiration(&steady.voters, 0, followers);
        self.take(kept, steady.term, until);
        kept.steady = Some(steady);
        // Support that has begun anew counts only when it has been acknowledged.
        self.core.hlc.reading() + DUE / 2 < kept.until
    }

    /// Serves until then, as far as clocks can be trusted.
    fn take(&self, kept: &mut Kept, term: u64, until: Timestamp) {
        // Alone, it needs nobody for now; more than a moment ahead it must not count on that.
        let now = self.core.hlc.reading();
        let soon = now.saturating_add(1_000_000);
        let offset = u64::try_from(self.core.hlc.max_offset().as_micros()).unwrap_or(u64::MAX);
        let until = until.micros().saturating_sub(offset).min(soon);
        if until <= now {
            return;
        }
        kept.until = until;
        if let Err(error) = self.core.lead(&kept.replica.range, term, Some(until)) {
            tracing::error!(%error, "cannot take the lease");
        }
    }

    /// Campaigns when a quorum has given the leader up, in an order that all candidates know.
    fn perhaps_campaign(&self, kept: &mut Kept, role: Role, members: &Members) {
        let me = self.core.node;
        let id = kept.group.id();
        let gone = role.leader.filter(|leader| *leader != me);
        let electorate = electorates(members);
        let Some(voters) = electorate.first() else { return };
        // What has been split off is the left half's leader's to lead, unless that is gone, too.
        let fresh = kept.replica.begun.is_some_and(|begun| begun.elapsed() < GRACE);
        if fresh || !self.liveness.leader_is_gone(id, role.leader, voters) {
            kept.campaign = Campaign::default();
            return;
        }
        let Some(rank) = lease::rank(id, me, voters, gone) else { return };
        if kept.campaign.since.is_none() {
            kept.campaign.term = role.term;
        } else if role.term > kept.campaign.term {
            // Another candidate was voted for: it gets the time of a round to take over. Otherwise, on a slow
            // machine, two depose each other time and again.
            kept.campaign.term = role.term;
            kept.campaign.attempt = kept.campaign.attempt.saturating_add(1);
        }
        let since = *kept.campaign.since.get_or_insert_with(Instant::now);
        let after = lease::campaign_after(rank, voters, gone, kept.campaign.attempt);
        if since.elapsed() >= after {
            kept.campaign.attempt = kept.campaign.attempt.saturating_add(1);
            kept.campaign.term = role.term + 1;
            tracing::info!(range = %id, ?gone, "campaigning");
            kept.group.campaign();
        }
    }
}

/// Waits until a role changes; for ever without one.
async fn changed(role: Option<watch::Receiver<Role>>) {
    let closed = match role {
        Some(mut role) => role.changed().await.is_err(),
        None => true,
    };
    if closed {
        std::future::pending().await
    }
}
