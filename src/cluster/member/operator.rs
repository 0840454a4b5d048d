//! What operators ask: who is there, that a node leaves for good, that one is drained.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_base::{Instant, NodeId};

use super::Register;
use super::register::{JoinReply, JoinRequest, NodeRow};
use crate::apply::FIRST;
use crate::lease::Home;

/// How long an operator is kept waiting until a node leads nothing any more.
const DRAINED_LIMIT: Duration = Duration::from_secs(15);

impl Register {
    /// Carries out what an operator asks.
    pub(crate) async fn administer(&self, request: &JoinRequest) -> Result<JoinReply, String> {
        let node = NodeId(request.node);
        match request.action.as_str() {
            "status" => {}
            "decommission" => self.amend(node, |row| row.leaving = true).await?,
            "drain" => {
                self.check_others(node).await?;
                let patience = request.patience;
                self.amend(node, |row| (row.draining, row.patience) = (true, patience)).await?;
                self.await_drained(node).await;
            }
            "undrain" => self.amend(node, |row| row.draining = false).await?,
            other => return Err(format!("there is no action {other:?}")),
        }
        self.status().await
    }

    /// There must be somebody left.
    async fn check_others(&self, node: NodeId) -> Result<(), String> {
        let rows = self.read().await?;
        let serves = |row: &NodeRow| {
            let id = NodeId(row.id);
            id != node && !row.draining && !row.leaving && self.liveness.supported(id)
        };
        match rows.values().any(serves) {
            true => Ok(()),
            false => Err(format!("node {} is the last that takes connections", node.0)),
        }
    }

    /// Waits until a node leads nothing any more, as far as is known here. Whoever asked sees in the answer
    /// whether that has come.
    async fn await_drained(&self, node: NodeId) {
        let since = Instant::now();
        while self.leases().contains_key(&node) && since.elapsed() < DRAINED_LIMIT {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How many ranges nodes lead, as far as is known here.
    fn leases(&self) -> BTreeMap<NodeId, u32> {
        let mut leases = BTreeMap::new();
        for range in self.core.ranges.all() {
            let leader = match range.lease.home(self.core.node, &self.core.hlc) {
                Home::Here(_) => self.core.node,
                Home::There(node) => node,
                Home::Nowhere => continue,
            };
            *leases.entry(leader).or_default() += 1;
        }
        leases
    }

    async fn status(&self) -> Result<JoinReply, String> {
        let first = self.replicas.get(FIRST).and_then(|replica| replica.group.clone());
        let members = first.map(|group| group.members()).unwrap_or_default();
        let leader = self.core.first().lease.leader();
        let leases = self.leases();
        let mut nodes: Vec<NodeRow> = self.read().await?.into_values().collect();
        for row in &mut nodes {
            let node = NodeId(row.id);
            row.live = self.liveness.supported(node);
            row.leases = leases.get(&node).copied().unwrap_or(0);
            row.role = match () {
                () if leader == Some(node) => "leaseholder",
                () if members.is_voter(node) => "voter",
                () if members.learners.contains(&node) => "learner",
                () => "none",
            }
            .to_owned();
        }
        Ok(JoinReply { nodes, ..JoinReply::of_cluster(self.name) })
    }
}
