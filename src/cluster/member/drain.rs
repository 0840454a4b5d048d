//! Nodes that are to be stopped, or worked on: they give their leases away first, and get no new ones.
//!
//! ```text
//! `node drain`: the node's row ─▶ survey ─▶ hand over ─▶ told to the gateway: no new connections
//! SIGTERM:      the node itself ─────────────┘
//! ```
//! The row is for the others, whose planners give such a node nothing. Leases go when those who have row locks
//! here have ended, or after some time: locks don't move along. A start ends it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meridian_base::{NodeId, RangeId};
use tokio::sync::watch;

use super::Register;
use super::register::{NodeRow, PATIENCE};
use crate::replicas::Replica;
use crate::store::Store;

/// How long transactions may take to end before their locks are lost with the lease: longer than those of
/// busy applications, shorter than anybody waits for a restart.
const GUESTS_LIMIT: Duration = Duration::from_secs(2);

/// Whether this node is to be stopped.
#[derive(Default)]
pub(crate) struct Drain {
    /// The process ends.
    stopping: AtomicBool,
    /// What the row says is said of this process, not of an earlier one.
    returned: AtomicBool,
    /// While it drains: how long sessions may go on.
    asked: watch::Sender<Option<Duration>>,
    /// Held by who hands leases over.
    one: tokio::sync::Mutex<()>,
}

impl Drain {
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl Register {
    /// This node has been started again: what was asked of it before is over.
    pub(super) async fn perhaps_return(&self, row: Option<&mut NodeRow>) {
        let drain = &self.drain;
        let Some(row) = row.filter(|_| !drain.returned.load(Ordering::Relaxed)) else { return };
        if drain.is_stopping() {
            return;
        }
        if row.draining {
            let amending = self.amend(self.core.node, |row| row.draining = false);
            // What can't be written now is written in a second.
            if !matches!(tokio::time::timeout(PATIENCE, amending).await, Ok(Ok(()))) {
                return;
            }
            row.draining = false;
        }
        drain.returned.store(true, Ordering::Relaxed);
    }

    /// Gives leases away if that is asked of this node, and lets that be known.
    pub(super) async fn perhaps_drain(&self) {
        let returned = self.drain.returned.load(Ordering::Relaxed);
        let row = self.known.lock().get(&self.core.node).cloned();
        let row = row.filter(|row| row.draining && returned);
        let asked = row.map(|row| Duration::from_secs(u64::from(row.patience)));
        let asked = if self.drain.is_stopping() { Some(Duration::ZERO) } else { asked };
        self.drain.asked.send_if_modified(|before| {
            let changed = *before != asked;
            *before = asked;
            changed
        });
        if asked.is_some()
            && let Ok(_one) = self.drain.one.try_lock()
        {
            self.hand_over_now(false).await;
        }
    }

    /// This node is about to stop: says so to the others, and gives its leases away.
    async fn leave_off(&self) {
        self.drain.stopping.store(true, Ordering::Relaxed);
        let amending = self.amend(self.core.node, |row| row.draining = true);
        // Without a majority nobody could lead instead, anyway.
        if !matches!(tokio::time::timeout(PATIENCE, amending).await, Ok(Ok(()))) {
            tracing::debug!("the others were not told that this node stops");
        }
        let _one = self.drain.one.lock().await;
        self.hand_over_now(false).await;
    }

    /// Hands its leases to other nodes: the last thing before this one stops.
    pub(crate) async fn hand_over(&self) {
        let _one = self.drain.one.lock().await;
        self.hand_over_now(true).await;
    }

    /// `all`: also of ranges that are being changed, or else later.
    async fn hand_over_now(&self, all: bool) {
        let mut led = self.replicas.all();
        led.retain(|replica| replica.range.lease.here(&self.core.hlc).is_some());
        if led.is_empty() {
            return;
        }
        let now = self.core.hlc.reading();
        let mut nodes = self.places(now);
        let own = nodes.iter_mut().filter(|node| node.id == self.core.node);
        own.for_each(|node| node.draining = true);
        let heirs = self.placing.heirs(nodes, self.ranges(), now);
        led.retain(|replica| self.heir(replica, &heirs).is_some());
        if led.is_empty() {
            return;
        }
        self.cluster.finish_guests(GUESTS_LIMIT).await;
        let moving = led.iter().map(|replica| self.hand_one_over(replica, &heirs, all));
        futures::future::join_all(moving).await;
        self.cluster.take_guests();
    }

    /// Who is to lead a range instead: as is planned, or any voter that could.
    fn heir(&self, replica: &Replica, heirs: &BTreeMap<RangeId, NodeId>) -> Option<NodeId> {
        let group = replica.group.as_ref()?;
        let members = group.members();
        let planned = heirs.get(&group.id()).copied().filter(|node| members.is_voter(*node));
        planned.or_else(|| {
            let known = self.known.lock();
            let stays = |node: &NodeId| {
                known.get(node).is_some_and(|row| !row.draining && !row.leaving)
                    && *node != self.core.node
                    && self.liveness.supported(*node)
            };
            members.all_voters().into_iter().find(stays)
        })
    }

    async fn hand_one_over(
        &self,
        replica: &Arc<Replica>,
        heirs: &BTreeMap<RangeId, NodeId>,
        all: bool,
    ) {
        let Some(group) = replica.group.clone() else { return };
        let claim = self.replicas.claim(group.id());
        if claim.is_none() && !all {
            return;
        }
        let Some(heir) = self.heir(replica, heirs) else { return };
        if let Err(error) = self.core.hand_over(&replica.range, &group, heir).await {
            tracing::warn!(%error, range = %group.id(), "the lease could not be handed over");
        }
    }
}

impl Store {
    /// For how long its sessions may go on while this node drains; `None` while it doesn't. A node alone is
    /// never drained.
    pub fn draining(&self) -> Option<watch::Receiver<Option<Duration>>> {
        self.among.as_ref().map(|among| among.register.drain.asked.subscribe())
    }

    /// Before this node stops, and while its sessions still go on: others lead what it led, as far as they can.
    pub async fn give_leases_away(&self) {
        if let Some(among) = &self.among {
            among.register.leave_off().await;
        }
    }
}
