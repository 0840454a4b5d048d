//! Table locks of a transaction on other nodes.
//!
//! A strong lock is held on every node that lives, by the promise that such a node gives this one: as long
//! as it supports this node, it keeps the lock. Definitions are committed within that time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meridian_base::NodeId;
use meridian_kv::api::{KvError, TableLockMode, Timestamp, WaitPolicy};
use meridian_kv::locks::{ModeSet, Owner};
use meridian_rpc::Class;

use super::ask::{Tried, encode, unexpected};
use super::messages::{Answer, Coded, LockTable, Op, UnlockTable};
use super::txn::{modes, patience, who};
use super::{Cluster, Search};
use crate::locking::WaitLimits;
use crate::txn::{HeldTable, Txn, is_weak};

impl Txn {
    /// The nodes on which all of this transaction's strong table locks are held; none if it has none.
    pub(crate) fn locked_nodes(&self) -> Vec<NodeId> {
        let mut by_table: BTreeMap<u32, BTreeSet<NodeId>> = BTreeMap::new();
        for held in self.tables.iter().filter(|held| !is_weak(held.mode)) {
            let nodes = by_table.entry(held.table).or_default();
            nodes.insert(self.core.node);
            nodes.extend(held.elsewhere.iter().map(|(node, _)| *node));
        }
        let mut tables = by_table.into_values();
        let Some(first) = tables.next() else { return Vec::new() };
        let all = tables.fold(first, |all, nodes| all.intersection(&nodes).copied().collect());
        all.into_iter().collect()
    }

    /// Locks a table on all nodes, in their order, so that two who want the same don't deadlock.
    pub(crate) async fn lock_table_everywhere(
        &mut self,
        table: u32,
        mode: TableLockMode,
        policy: WaitPolicy,
    ) -> Result<(), KvError> {
        let cluster = self.cluster()?;
        let owner = self.state.owner();
        let (mut elsewhere, mut here) = (Vec::new(), false);
        for node in cluster.live() {
            let outcome = if node == self.core.node {
                here = true;
                self.lock_table_here(table, mode, policy).await.map(|()| None)
            } else {
                let limits = self.limits.clone();
                self.note_backing(&cluster, node);
                cluster.lock_table_at(node, owner, table, (mode, policy), &limits).await
            };
            match outcome {
                Ok(Some(before)) => elsewhere.push((node, before)),
                Ok(None) => {}
                Err(error) => {
                    cluster.unlock_table(owner, table, elsewhere);
                    return Err(error);
                }
            }
        }
        debug_assert!(here, "this node is among those that live");
        match self.tables.last_mut() {
            Some(held) if held.table == table && held.mode == mode => held.elsewhere = elsewhere,
            _ => self.note_tables_elsewhere(table, mode, elsewhere),
        }
        Ok(())
    }

    /// Takes this transaction's strong table locks on nodes that have come since.
    pub(crate) async fn reach_all_nodes(&mut self) -> Result<(), KvError> {
        if !self.tables.iter().any(|held| !is_weak(held.mode)) {
            return Ok(());
        }
        let cluster = self.cluster()?;
        let (owner, me, limits) = (self.state.owner(), self.core.node, self.limits.clone());
        for node in cluster.live().into_iter().filter(|node| *node != me) {
            let new = |held: &HeldTable| {
                !is_weak(held.mode) && held.elsewhere.iter().all(|(known, _)| *known != node)
            };
            if !self.tables.iter().any(new) {
                continue;
            }
            self.note_backing(&cluster, node);
            for held in self.tables.iter_mut().filter(|held| new(held)) {
                let how = (held.mode, WaitPolicy::Block);
                let locked = cluster.lock_table_at(node, owner, held.table, how, &limits).await?;
                held.elsewhere.extend(locked.map(|before| (node, before)));
            }
        }
        Ok(())
    }

    fn note_backing(&mut self, cluster: &Cluster, node: NodeId) {
        // Before the lock is asked for: what is taken under a later epoch only looks older.
        let epoch = cluster.support_from(node).epoch;
        self.backing.entry(node).or_insert(epoch);
    }

    /// Until when this transaction's strong table locks certainly hold: a node that gives this one up lets
    /// others use the tables in the form that it knows, after it has read the catalog. So whatever these
    /// locks are for is committed before, or not at all.
    pub(crate) fn tables_locked_until(&mut self) -> Result<Timestamp, KvError> {
        let mut until = Timestamp::MAX;
        if self.backing.is_empty() {
            return Ok(until);
        }
        let cluster = self.cluster()?;
        let live = cluster.live();
        // Of a node that is gone nothing is needed, if the leaseholder finds so, too.
        self.backing.retain(|node, _| live.contains(node));
        for held in &mut self.tables {
            held.elsewhere.retain(|(node, _)| live.contains(node));
        }
        for (node, epoch) in &self.backing {
            let support = cluster.support_from(*node);
            if support.epoch != *epoch {
                return Err(KvError::CONCURRENT_UPDATE);
            }
            until = until.min(support.expiration);
        }
        Ok(until)
    }
}

impl Cluster {
    async fn lock_table_at(
        &self,
        node: NodeId,
        owner: Owner,
        table: u32,
        (mode, policy): (TableLockMode, WaitPolicy),
        limits: &WaitLimits,
    ) -> Result<Option<ModeSet>, KvError> {
        let op = Op::LockTable(LockTable {
            who: who(owner),
            table,
            mode: mode.code(),
            patience: patience(limits, policy),
        });
        let body = encode(op);
        let mut search = Search::new(limits);
        loop {
            let tried = self.try_at(node, body.clone(), Class::Kv);
            match search.unless_cancelled(tried).await? {
                Tried::Answer(Answer::Locked(locked)) if !locked.held => {
                    return Err(KvError::LockNotAvailable);
                }
                Tried::Answer(Answer::Locked(locked)) if locked.reentrant => return Ok(None),
                Tried::Answer(Answer::Locked(locked)) => return Ok(Some(modes(locked.before))),
                Tried::Answer(Answer::Failed(error)) => return Err(error.into()),
                // It has given this node up, and not heard yet that the catalog was read since.
                Tried::Answer(Answer::NotHere(_)) => search.pause().await?,
                Tried::Answer(_) => return Err(unexpected()),
                // A node that is gone has no sessions that could use the table.
                Tried::NotDone | Tried::Unknown if !self.live().contains(&node) => return Ok(None),
                Tried::NotDone | Tried::Unknown => search.pause().await?,
            }
        }
    }

    pub(crate) fn unlock_table(
        self: &Arc<Self>,
        owner: Owner,
        table: u32,
        nodes: Vec<(NodeId, ModeSet)>,
    ) {
        for (node, before) in nodes {
            let unlock = UnlockTable { who: who(owner), table, remains: u32::from(before) };
            self.tell(node, Op::UnlockTable(unlock));
        }
    }
}
