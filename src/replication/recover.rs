//! The last resort when a majority of a group's replicas is gone for good: one that is left goes on alone.
//!
//! It is done to the log of a node that is not running: an entry is appended that makes this replica the only
//! voter, in a term of its own. The next start finds it as it would find any other change of members, and
//! commits all that the log has. What only the others had is lost, and nobody can tell what that was; so no
//! node does this by itself.

use std::collections::{BTreeMap, BTreeSet};

use meridian_base::{NodeId, RangeId};
use meridian_storage::{Engine, LogWrite, RaftLog, Slot, StorageError};
use openraft::{BasicNode, EntryPayload};

use crate::open::write_through;
use crate::types::{Entry, LeaderId, LogId, Membership, Vote};
use crate::{codec, install, remove, state_machine};

/// A replica that is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Its range.
    pub range: RangeId,
    /// Who has voted so far.
    pub voters: BTreeSet<NodeId>,
    /// The term and the number of the last entry that it has.
    pub last: (u64, u64),
}

fn damaged(range: RangeId) -> StorageError {
    StorageError::Corruption(format!("the raft log of {range} holds an invalid entry"))
}

/// The last entry that a replica has, and the newest membership.
fn state(
    log: &dyn RaftLog,
    engine: &dyn Engine,
    range: RangeId,
) -> Result<(LogId, Membership), StorageError> {
    let applied = state_machine::recover(engine, range)?;
    let purged = log.slot(range, Slot::Purged).and_then(|bytes| codec::decode_log_id(&bytes));
    let mut last = applied.log_id.max(purged);
    let mut membership = applied.membership.membership().clone();
    if let Some((first, end)) = log.bounds(range) {
        for (_, bytes) in log.entries(range, first, end + 1) {
            let entry = codec::decode_entry(bytes).ok_or_else(|| damaged(range))?;
            last = last.max(Some(entry.log_id));
            if let EntryPayload::Membership(newer) = entry.payload {
                membership = newer;
            }
        }
    }
    let last = last.ok_or_else(|| damaged(range))?;
    Ok((last, membership))
}

/// The replicas of a node that is not running.
pub fn survivors(log: &dyn RaftLog, engine: &dyn Engine) -> Result<Vec<Survivor>, StorageError> {
    let mut found = Vec::new();
    for range in log.groups() {
        let leaving = remove::tombstone(engine, range)?.is_some();
        if leaving || install::is_half_installed(engine, range)? {
            continue;
        }
        let (last, membership) = state(log, engine, range)?;
        let voters = membership.voter_ids().map(NodeId).collect();
        let last = (last.committed_leader_id().term, last.index());
        found.push(Survivor { range, voters, last });
    }
    Ok(found)
}

/// Makes this node's replica of a range its only voter, from the next start on. Blocks.
pub fn make_sole_voter(
    log: &dyn RaftLog,
    engine: &dyn Engine,
    range: RangeId,
    me: NodeId,
) -> Result<(), StorageError> {
    let (last, _) = state(log, engine, range)?;
    let vote = log.slot(range, Slot::Vote).and_then(|bytes| codec::decode_vote(&bytes));
    let voted = vote.map_or(0, |vote| vote.leader_id.term);
    let term = last.committed_leader_id().term.max(voted) + 1;
    let leader_id = LeaderId { term, node_id: me.0 };
    let nodes: BTreeMap<u64, BasicNode> = [(me.0, BasicNode::default())].into();
    let membership = Membership::new(vec![[me.0].into()], nodes)
        .map_err(|e| StorageError::Stopped(format!("the members of {range}: {e}")))?;
    let index = last.index() + 1;
    let entry = Entry {
        log_id: LogId::new(leader_id, index),
        payload: EntryPayload::Membership(membership),
    };
    let writes = vec![
        LogWrite::Slot(Slot::Vote, codec::encode_vote(&Vote { leader_id, committed: false })),
        LogWrite::Entry { index, data: codec::encode_entry(&entry) },
    ];
    futures::executor::block_on(write_through(log, range, writes))
}
