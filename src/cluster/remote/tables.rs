//! Table locks of a transaction on other nodes.
//!
//! A strong lock is held on every node that may use its catalog ([`super::fences`]), by the promise that such a
//! node gives this one: as long as it supports this node, it keeps the lock. Definitions are committed within
//! that time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Instant, NodeId};
use meridian_kv::api::{KvError, TableLockMode, Timestamp, WaitPolicy};
use meridian_kv::fence::Member;
use meridian_kv::locks::{LockMode, ModeSet, Owner};
use meridian_rpc::Class;

use super::ask::{Tried, encode, unexpected};
use super::messages::{Answer, Coded, LockTable, Op, UnlockTable};
use super::txn::{patience, who};
use super::{Cluster, Fenced, Search};
use crate::counters;
use crate::locking::WaitLimits;
use crate::store::SETTLED;
use crate::txn::Txn;

/// Where a lock is held that is not yet held everywhere: it goes if it isn't to be.
struct Reached {
    cluster: Arc<Cluster>,
    owner: Owner,
    table: u32,
    /// With the modes to go back to.
    locked: Vec<(NodeId, ModeSet)>,
    /// Here it was asked for, and may have been granted.
    tried: BTreeMap<NodeId, ModeSet>,
}

impl Drop for Reached {
    fn drop(&mut self) {
        let tried = std::mem::take(&mut self.tried).into_iter();
        let nodes = std::mem::take(&mut self.locked).into_iter().chain(tried).collect();
        self.cluster.unlock_table(self.owner, self.table, nodes);
    }
}

/// Between two questions whether a node that doesn't answer has to be locked at all.
const STILL: Duration = Duration::from_millis(100);

impl Txn {
    /// Where all of this transaction's strong table locks are held; `None` if it has none.
    pub(crate) fn fenced(&self) -> Option<Fenced> {
        let mut tables = self.tables.iter().filter_map(|held| held.fenced.as_ref());
        let first = tables.next()?.clone();
        Some(tables.fold(first, |all, more| Fenced {
            members: all.members.intersection(&more.members).copied().collect(),
            asked: all.asked,
        }))
    }

    /// The other nodes on which strong table locks are held.
    pub fn locked_nodes(&self) -> Vec<NodeId> {
        self.backing.keys().copied().collect()
    }

    /// Locks a table on all nodes that may use it, in their order, so that two who want the same don't
    /// deadlock. A node that doesn't answer is waited for until its guard has run out.
    pub(crate) async fn lock_table_everywhere(
        &mut self,
        table: u32,
        mode: TableLockMode,
        policy: WaitPolicy,
    ) -> Result<(), KvError> {
        let mut reached = Reached {
            cluster: self.cluster()?,
            owner: self.state.owner(),
            table,
            locked: Vec::new(),
            tried: BTreeMap::new(),
        };
        let fenced = Some(self.lock_members(table, (mode, policy), &mut reached).await?);
        let elsewhere = std::mem::take(&mut reached.locked);
        match self.tables.iter_mut().rev().find(|held| held.table == table && held.mode == mode) {
            Some(held) => (held.elsewhere, held.fenced) = (elsewhere, fenced),
            None => self.note_tables_elsewhere(table, mode, (elsewhere, fenced)),
        }
        Ok(())
    }

    async fn lock_members(
        &mut self,
        table: u32,
        (mode, policy): (TableLockMode, WaitPolicy),
        reached: &mut Reached,
    ) -> Result<Fenced, KvError> {
        let (cluster, limits) = (self.cluster()?, self.limits.clone());
        let (me, mut members) = (cluster.this_start(), BTreeSet::new());
        let mut search = Search::new(&limits);
        loop {
            let asked = Instant::now();
            let wanted = cluster.whom_to_lock(&limits).await?;
            let mut new: BTreeSet<Member> = wanted.members.difference(&members).copied().collect();
            if !members.contains(&me) {
                new.insert(me);
            }
            for member in new {
                if member == me {
                    self.lock_table_here(table, mode, policy).await?;
                    members.insert(me);
                    continue;
                }
                let before = self.table_held_at(table, member.node);
                reached.tried.insert(member.node, before);
                if self.lock_member(member, table, (mode, policy)).await? {
                    reached.tried.remove(&member.node);
                    // It may be held by a request whose answer was lost.
                    if before & mode.bit() == 0 {
                        reached.locked.push((member.node, before));
                    }
                    members.insert(member);
                }
            }
            // After a longer time there may be others, and the commit would be refused.
            let recent = asked.elapsed() < STILL;
            if recent && !wanted.partial && wanted.members.is_subset(&members) {
                if !wanted.all {
                    // What others have begun to commit is seen by whoever reads from now on.
                    counters::set(&self.core, SETTLED, 0).await?;
                }
                return Ok(Fenced { members, asked: wanted.asked });
            }
            search.pause().await?;
        }
    }

    /// Locks a table on another node. False: that is to be tried again, if it is still wanted.
    async fn lock_member(
        &mut self,
        member: Member,
        table: u32,
        how: (TableLockMode, WaitPolicy),
    ) -> Result<bool, KvError> {
        let (cluster, limits, owner) = (self.cluster()?, self.limits.clone(), self.state.owner());
        let locking = async {
            // Before the lock is asked for: what is taken under a later epoch only looks older.
            let epoch = loop {
                match cluster.support_from(member.node).epoch {
                    0 => tokio::time::sleep(STILL).await,
                    epoch => break epoch,
                }
            };
            (epoch, cluster.lock_table_at(member, owner, table, how, &limits).await)
        };
        let locked = tokio::select! {
            locked = locking => Some(locked),
            () = cluster.no_longer_wanted(member, &limits) => None,
        };
        let Some((epoch, locked)) = locked else { return Ok(false) };
        let locked = locked?;
        if locked {
            self.backing.entry(member.node).or_insert(epoch);
        }
        Ok(locked)
    }

    /// The modes in which this transaction holds a table on another node.
    fn table_held_at(&self, table: u32, node: NodeId) -> ModeSet {
        let held = self.tables.iter().filter(|held| held.table == table);
        let there = held.flat_map(|held| {
            let nodes = held.elsewhere.iter().filter(|(known, _)| *known == node);
            nodes.map(|(_, before)| *before | held.mode.bit())
        });
        there.fold(0, |all, modes| all | modes)
    }

    /// Until when this transaction's strong table locks certainly hold: a node that gives this one up lets
    /// others use the tables in the form that it knows, after it has read the catalog. So whatever these
    /// locks are for is committed before, or not at all.
    pub(crate) fn tables_locked_until(&self) -> Result<Timestamp, KvError> {
        let mut until = Timestamp::MAX;
        if self.backing.is_empty() {
            return Ok(until);
        }
        let cluster = self.cluster()?;
        for (node, epoch) in &self.backing {
            let support = cluster.support_from(*node);
            if support.epoch != *epoch {
                return Err(KvError::CONCURRENT_UPDATE);
            }
            until = until.min(support.expiration);
        }
        match until.micros() > self.core.hlc.reading() {
            true => Ok(until),
            false => Err(KvError::CONCURRENT_UPDATE),
        }
    }
}

impl Cluster {
    /// This start of this node.
    pub(crate) fn this_start(&self) -> Member {
        Member { node: self.core.node, start: self.guards.start }
    }

    /// Ends when a node's guard has run out, so that a definer needn't lock it.
    async fn no_longer_wanted(&self, member: Member, limits: &WaitLimits) {
        loop {
            tokio::time::sleep(STILL).await;
            let wanted = self.whom_to_lock(limits).await;
            if wanted.is_ok_and(|wanted| !wanted.members.contains(&member)) {
                return;
            }
        }
    }

    /// Locks a table on another node; false: that was not possible just now.
    async fn lock_table_at(
        &self,
        member: Member,
        owner: Owner,
        table: u32,
        (mode, policy): (TableLockMode, WaitPolicy),
        limits: &WaitLimits,
    ) -> Result<bool, KvError> {
        let op = Op::LockTable(LockTable {
            who: who(owner),
            table,
            mode: mode.code(),
            patience: patience(limits, policy),
        });
        let tried = self.try_at(member.node, encode(op), Class::Kv);
        match Search::new(limits).unless_cancelled(tried).await? {
            Tried::Answer(Answer::Locked(locked)) if !locked.held => Err(KvError::LockNotAvailable),
            // It has been started anew, and will soon have said so.
            Tried::Answer(Answer::Locked(locked)) if locked.start != member.start => Ok(false),
            Tried::Answer(Answer::Locked(_)) => Ok(true),
            Tried::Answer(Answer::Failed(error)) => Err(error.into()),
            Tried::Answer(Answer::NotHere(_)) | Tried::NotDone | Tried::Unknown => Ok(false),
            Tried::Answer(_) => Err(unexpected()),
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
