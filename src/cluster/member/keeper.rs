//! Keeps the range's lease while this node leads, and has it lead when nobody does.
//!
//! A leader may serve for as long as a quorum promises to elect nobody else. Learners count as voters
//! here as soon as there are any: when they become voters, no lease is in use that didn't count on them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Instant, NodeId, Timestamp};
use meridian_kv::lease::{self, Leadership, Voters};
use meridian_replication::{Members, MultiRaft, RaftGroup, Role};
use tokio::sync::Notify;

use super::Register;
use crate::core::Core;
use crate::liveness::{NodeLiveness, Withdrawn};
use crate::remote::Cluster;

/// Between two looks at everything: a lease is extended this often, and a dead leader noticed. Half of it
/// costs an idle node twice as much; with twice of it a failover takes that much longer.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at who is there and who should have a copy.
const SURVEY: Duration = Duration::from_secs(1);
/// Between two requests for new acknowledgements.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The search for a new leader, while there is none.
#[derive(Default)]
struct Campaign {
    since: Option<Instant>,
    attempt: u32,
    /// The newest term that is accounted for: a newer one is another candidate's.
    term: u64,
}

/// Keeps one range's lease.
pub(crate) struct Keeper {
    pub(crate) core: Arc<Core>,
    pub(crate) raft: Arc<MultiRaft>,
    pub(crate) group: RaftGroup,
    pub(crate) liveness: Arc<NodeLiveness>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) register: Arc<Register>,
    led: Option<u64>,
    campaign: Campaign,
    asked: Option<Instant>,
    surveyed: Option<Instant>,
    /// The learners that the lease has been counting on.
    counted: BTreeSet<NodeId>,
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
        core: Arc<Core>,
        (raft, group): (Arc<MultiRaft>, RaftGroup),
        liveness: Arc<NodeLiveness>,
        cluster: Arc<Cluster>,
        register: Arc<Register>,
    ) -> Keeper {
        Keeper {
            core,
            raft,
            group,
            liveness,
            cluster,
            register,
            led: None,
            campaign: Campaign::default(),
            asked: None,
            surveyed: None,
            counted: BTreeSet::new(),
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: Arc<Notify>) {
        let mut role = self.group.role();
        let mut withdrawn = self.liveness.withdrawals();
        loop {
            let now = *role.borrow_and_update();
            self.look(now);
            if self.surveyed.is_none_or(|last| last.elapsed() >= SURVEY) {
                self.surveyed = Some(Instant::now());
                // Apart: it may have to wait for other nodes, and the lease must not.
                let (register, counted) = (Arc::clone(&self.register), self.counted.clone());
                tokio::spawn(async move { register.survey(&counted).await });
            }
            tokio::select! {
                () = stop.notified() => return,
                changed = role.changed() => if changed.is_err() { return },
                Ok(Withdrawn { node, epoch }) = withdrawn.recv() => self.gone(node, epoch),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// A node is not heard of any more.
    fn gone(&self, node: NodeId, epoch: u64) {
        self.cluster.node_gone(node, epoch);
        let live = self.cluster.live().into_iter().filter(|other| *other != node).collect();
        self.cluster.set_live(live);
    }

    fn look(&mut self, role: Role) {
        let members = self.group.members();
        let me = self.core.node;
        self.core.first().set_replicates(role.is_voter || members.learners.contains(&me));
        if role.is_leader {
            self.campaign = Campaign::default();
            self.led = Some(role.term);
            self.extend(role.term, &members);
            return;
        }
        if let Some(term) = self.led.take() {
            self.core.lost_lease(self.core.first(), term);
        }
        self.core.first().lease.note_leader(role.leader);
        if role.is_voter {
            self.perhaps_campaign(role, &members);
        }
    }

    /// Extends the lease to what the voters' support allows.
    fn extend(&mut self, term: u64, members: &Members) {
        let me = self.core.node;
        let mut leadership = Leadership::new(0);
        for (node, progress) in self.group.progress(term) {
            let fort = (progress.epoch > 0).then_some(progress.epoch);
            leadership.acknowledged(node, progress.matched, fort);
        }
        let until = electorates(members)
            .iter()
            .map(|voters| self.liveness.lease_expiration(voters, 0, self.group.progress(term)))
            .min()
            .unwrap_or(Timestamp::MIN);
        self.counted = members.learners.clone();
        let others = members.all_voters().into_iter().chain(members.learners.iter().copied());
        let stale: Vec<NodeId> = others
            .filter(|node| *node != me)
            .filter(|node| {
                leadership.wants_acknowledgement(*node, self.liveness.support_from(*node))
            })
            .collect();
        if !stale.is_empty() && self.asked.is_none_or(|last| last.elapsed() >= ASK_AGAIN) {
            self.asked = Some(Instant::now());
            stale.into_iter().for_each(|node| self.raft.peer_reachable(node));
        }
        // Alone, it needs nobody for now; more than a moment ahead it must not count on that.
        let soon = self.core.hlc.reading().saturating_add(1_000_000);
        let offset = u64::try_from(self.core.hlc.max_offset().as_micros()).unwrap_or(u64::MAX);
        let until = until.micros().saturating_sub(offset).min(soon);
        if until <= self.core.hlc.reading() {
            return;
        }
        if let Err(error) = self.core.lead(self.core.first(), term, Some(until)) {
            tracing::error!(%error, "cannot take the lease");
        }
    }

    /// Campaigns when a quorum has given the leader up, in an order that all candidates know.
    fn perhaps_campaign(&mut self, role: Role, members: &Members) {
        let me = self.core.node;
        let gone = role.leader.filter(|leader| *leader != me);
        let electorate = electorates(members);
        let Some(voters) = electorate.first() else { return };
        if !self.liveness.leader_is_gone(self.group.id(), role.leader, voters) {
            self.campaign = Campaign::default();
            return;
        }
        let Some(rank) = lease::rank(self.group.id(), me, voters, gone) else { return };
        if self.campaign.since.is_none() {
            self.campaign.term = role.term;
        } else if role.term > self.campaign.term {
            // Another candidate was voted for: it gets the time of a round to take over. Otherwise, on a slow
            // machine, two depose each other time and again.
            self.campaign.term = role.term;
            self.campaign.attempt = self.campaign.attempt.saturating_add(1);
        }
        let since = *self.campaign.since.get_or_insert_with(Instant::now);
        let after = lease::campaign_after(rank, voters, gone, self.campaign.attempt);
        if since.elapsed() >= after {
            self.campaign.attempt = self.campaign.attempt.saturating_add(1);
            self.campaign.term = role.term + 1;
            tracing::info!(range = %self.group.id(), ?gone, "campaigning");
            self.group.campaign();
        }
    }
}
