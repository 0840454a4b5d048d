//! Opening a group: what a crash left is put in order, then log and engine are held against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use meridian_base::{NodeId, RangeId};
use meridian_storage::{LogWrite, RaftLog, Slot, StorageError, WriteBatch};
use openraft::{BasicNode, EntryPayload};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::group::{Followers, Group, RaftGroup};
use crate::log_store::{LogStore, last_log_id};
use crate::network::Connect;
use crate::node::Node;
use crate::pieces::Pieces;
use crate::role::{self, Role};
use crate::state_machine::{self, Applied, Applier, Shared, StateMachine};
use crate::types::{Entry, LeaderId, LogId, Membership, Raft, StoredMembership};
use crate::{codec, install, remove};

/// What a group begins with.
pub(crate) enum First<'a> {
    /// What the log and the engine hold, be it nothing.
    AsStored,
    /// These members; it must not exist.
    Members(&'a [NodeId]),
    /// These members unless it exists.
    MembersIfNew(&'a [NodeId]),
    /// These members, and what the engine holds; the log must not know it.
    Inherited(&'a [NodeId]),
}

/// Refuses an engine that has lost what the log says was durable, or that needs entries the log no longer
/// has.
fn cross_check(
    log: &dyn RaftLog,
    group: RangeId,
    applied: Option<u64>,
) -> Result<Option<LogId>, StorageError> {
    let durable = log.slot(group, Slot::DurableApplied);
    let durable = durable.and_then(|bytes| codec::decode_log_id(&bytes));
    let expected = durable.as_ref().map(|id| id.index());
    if applied < expected {
        return Err(StorageError::Corruption(format!(
            "the engine has lost data of {group}: it was durable up to entry {}, but holds only {}; \
             restore a backup or replicate this store anew",
            expected.unwrap_or(0),
            applied.unwrap_or(0),
        )));
    }
    let next = applied.map_or(0, |index| index + 1);
    match log.bounds(group) {
        Some((first, _)) if first > next => Err(StorageError::Corruption(format!(
            "the raft log of {group} begins at entry {first}, but entry {next} is needed"
        ))),
        _ => Ok(durable),
    }
}

/// What is applied may be ahead of the log: a snapshot has been installed, or entries applied that were
/// durable on others, and a crash took what the log was to say of it. openraft then purges the log up to
/// there, and wants a snapshot that reaches as far: the engine is made one. What is durable then.
async fn catch_up(
    node: &Node,
    group: RangeId,
    applied: Option<LogId>,
    durable: Option<LogId>,
) -> Result<Option<LogId>, StorageError> {
    let log = node.log.as_ref();
    let damaged = || StorageError::Corruption(format!("the raft log of {group} is damaged"));
    let last = last_log_id(log, group).ok_or_else(damaged)?;
    let Some(ahead) = applied.filter(|id| last < Some(*id) && durable < Some(*id)) else {
        return Ok(durable);
    };
    let engine = Arc::clone(&node.engine);
    let persisted = node.runtime.spawn_blocking(move || engine.persist()).await;
    persisted.map_err(|e| StorageError::Stopped(e.to_string()))??;
    let slot = LogWrite::Slot(Slot::DurableApplied, codec::encode_log_id(&ahead));
    write_through(log, group, vec![slot]).await?;
    Ok(Some(ahead))
}

/// Writes to the log and waits until that is durable.
pub(crate) async fn write_through(
    log: &dyn RaftLog,
    group: RangeId,
    writes: Vec<LogWrite>,
) -> Result<(), StorageError> {
    let (tx, rx) = oneshot::channel();
    let done = Box::new(move || {
        // The receiver is gone only when whoever waits has given up.
        let _ = tx.send(());
    });
    log.submit(group, writes, Some(done))?;
    rx.await.map_err(|_| StorageError::Stopped("the raft log is closed".into()))
}

/// The log id of a group's first membership, the same on every member.
fn first_log_id() -> LogId {
    LogId::new(LeaderId { term: 0, node_id: 0 }, 0)
}

fn first_membership(group: RangeId, members: &[NodeId]) -> Result<Membership, StorageError> {
    let voters: BTreeSet<u64> = members.iter().map(|node| node.0).collect();
    let nodes: BTreeMap<u64, BasicNode> =
        voters.iter().map(|id| (*id, BasicNode::default())).collect();
    Membership::new(vec![voters], nodes)
        .map_err(|e| StorageError::Stopped(format!("the first members of {group}: {e}")))
}

/// The first entry of a group, the same on every member.
async fn write_first(node: &Node, group: RangeId, members: &[NodeId]) -> Result<(), StorageError> {
    let payload = EntryPayload::Membership(first_membership(group, members)?);
    let entry = Entry { log_id: first_log_id(), payload };
    let write = LogWrite::Entry { index: 0, data: codec::encode_entry(&entry) };
    write_through(node.log.as_ref(), group, vec![write]).await
}

/// What the engine holds is what a first entry has made, which is purged already: whoever joins later gets
/// the content, since no log tells of it.
///
/// The engine is made durable before the log knows the group. So whatever happens, the group that it came
/// from is never redone from a point before this one: its entries don't come over this group's.
async fn write_inherited(
    node: &Node,
    group: RangeId,
    members: &[NodeId],
) -> Result<(), StorageError> {
    let log_id = first_log_id();
    let membership = StoredMembership::new(Some(log_id), first_membership(group, members)?);
    let marker = codec::encode_log_id(&log_id);
    let mut batch = WriteBatch::default();
    state_machine::put_markers(group, marker.clone(), Some(&membership), &mut batch);
    node.engine.apply(batch)?;
    let engine = Arc::clone(&node.engine);
    let persisted = node.runtime.spawn_blocking(move || engine.persist()).await;
    persisted.map_err(|e| StorageError::Stopped(e.to_string()))??;
    let writes = vec![
        LogWrite::PurgeTo(log_id.index()),
        LogWrite::Slot(Slot::Purged, marker.clone()),
        LogWrite::Slot(Slot::DurableApplied, marker),
    ];
    write_through(node.log.as_ref(), group, writes).await
}

/// Puts log and engine in order. What they have applied, and made durable of that.
async fn begin(
    node: &Node,
    id: RangeId,
    applier: &dyn Applier,
    first: First<'_>,
) -> Result<(Applied, Option<LogId>), StorageError> {
    let exists = |what: &str| StorageError::Stopped(format!("range {id} {what}"));
    if let First::Inherited(members) = first {
        let removed = remove::tombstone(node.engine.as_ref(), id)?.is_some();
        if removed || node.log.groups().contains(&id) {
            return Err(exists("exists already, or has been removed from here"));
        }
        write_inherited(node, id, members).await?;
    }
    install::clear_interrupted(node, id, applier).await?;
    let applied = state_machine::recover(node.engine.as_ref(), id)?;
    let last_id = applied.log_id.as_ref().map(LogId::index);
    let durable = cross_check(node.log.as_ref(), id, last_id)?;
    let durable = catch_up(node, id, applied.log_id, durable).await?;
    let is_new = applied.log_id.is_none() && node.log.bounds(id).is_none();
    match first {
        First::Members(_) if !is_new => return Err(exists("exists already")),
        First::Members(members) | First::MembersIfNew(members) if is_new => {
            remove::revive(node, id).await?;
            write_first(node, id, members).await?;
        }
        First::AsStored if is_new => remove::revive(node, id).await?,
        _ => {}
    }
    Ok((applied, durable))
}

pub(crate) async fn open(
    node: &Arc<Node>,
    id: RangeId,
    applier: Arc<dyn Applier>,
    first: First<'_>,
) -> Result<RaftGroup, StorageError> {
    let exists = |what: &str| StorageError::Stopped(format!("range {id} {what}"));
    if node.group(id).is_some() {
        return Err(exists("is open already"));
    }
    let (applied, durable) = begin(node, id, applier.as_ref(), first).await?;
    if let Some(index) = applied.whole() {
        applier.reached(index);
    }
    let (role_tx, role) = watch::channel(Role::default());
    let shared = Arc::new(Shared {
        applied: Mutex::new(applied),
        durable: Mutex::new(durable),
        dirty_bytes: Arc::clone(&node.dirty_bytes),
        ..Shared::default()
    });
    let store = LogStore::new(Arc::clone(&node.log), id);
    let machine = StateMachine {
        group: id,
        engine: Arc::clone(&node.engine),
        log: Arc::clone(&node.log),
        applier: Arc::clone(&applier),
        shared: Arc::clone(&shared),
        pieces: Pieces::default(),
        late: None,
    };
    let (me, config) = (node.id().0, Arc::clone(&node.raft_config));
    let network = Connect { node: Arc::clone(node), group: id };
    // Its tasks are spawned where it is made: on the raft thread.
    let making = async move { Raft::new(me, config, network, store, machine).await };
    let raft = node.runtime.spawn(making).await;
    let raft = raft.map_err(|e| StorageError::Stopped(format!("could not start raft: {e}")))?;
    let raft = raft.map_err(|e| StorageError::Stopped(format!("could not start raft: {e}")))?;
    let vote = node.log.slot(id, Slot::Vote).and_then(|bytes| codec::decode_vote(&bytes));
    let promised = vote.filter(|vote| vote.committed).map(|vote| vote.leader_id);
    let group = Arc::new(Group {
        id,
        node: Arc::clone(node),
        raft,
        applier,
        shared,
        role,
        promised: Mutex::new(promised),
        floor: remove::floor(node.engine.as_ref(), id)?,
        followers: Mutex::new(Followers::default()),
        incoming: tokio::sync::Mutex::default(),
    });
    group.shared.started.store(true, Ordering::Release);
    node.runtime.spawn(role::watch(Arc::downgrade(&group), group.raft.server_metrics(), role_tx));
    if node.groups.write().insert(id, Arc::clone(&group)).is_some() {
        return Err(exists("is open already"));
    }
    Ok(RaftGroup(group))
}
