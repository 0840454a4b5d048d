//! The directory of ranges, as rows of the database itself.
//!
//! ```text
//! 02 ‖ range:u64be   →  descriptor: keys, generation, nodes with a replica, the leaseholder first
//! ```
//! They lie in the first range. Each leaseholder sees to it that its range's row is right; every node reads
//! all of them each second. What a node's own replicas have applied is newer than any row. A row is only a
//! hint for finding the way: whether a key lies in a range is said by the leaseholder.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_base::keys::META;
use meridian_base::{NodeId, RangeId};
use meridian_kv::api::{Key, KvError, Span};
use meridian_kv::range::Descriptor;
use parking_lot::Mutex;

use crate::core::Core;
use crate::range::Shape;
use crate::replicas::Replica;
use crate::txn::{Txn, TxnOptions};

/// Rows that are written at once.
const ROWS_MAX: usize = 256;

/// The rows, as a node knows them.
#[derive(Default)]
pub(crate) struct Directory {
    /// As last read, or written here.
    seen: Mutex<BTreeMap<RangeId, Descriptor>>,
    writing: tokio::sync::Mutex<()>,
}

fn row_key(id: RangeId) -> Key {
    let mut key = vec![META];
    key.extend_from_slice(&id.0.to_be_bytes());
    key.into()
}

/// All rows.
pub(crate) fn rows_span() -> Span {
    Span::prefix(&[META])
}

impl Core {
    /// The nodes with a replica of a range, as far as is known.
    pub(crate) fn members_of(&self, id: RangeId) -> Vec<NodeId> {
        let replica = self.replicas().and_then(|replicas| replicas.get(id));
        let led = replica.as_ref().is_some_and(|it| it.range.lease.here(&self.hlc).is_some());
        let own = || replica.map(|replica| self.describe(&replica).replicas);
        // Who doesn't lead may not have heard that it is no member any more.
        let row = self.row_of(id).filter(|_| !led).map(|row| row.replicas);
        row.filter(|nodes| !nodes.is_empty()).or_else(own).unwrap_or_default()
    }

    /// A range's row, as last read or written here.
    pub(crate) fn row_of(&self, id: RangeId) -> Option<Descriptor> {
        self.directory.seen.lock().get(&id).cloned()
    }

    /// A range as its leaseholder, this node, knows it.
    pub(crate) fn describe(&self, replica: &Replica) -> Descriptor {
        let mut replicas = vec![self.node];
        if let Some(group) = &replica.group {
            let members = group.members();
            let voters = members.all_voters();
            let others = voters.union(&members.learners).copied();
            replicas.extend(others.filter(|node| *node != self.node));
            if !voters.contains(&self.node) && !members.learners.contains(&self.node) {
                replicas.remove(0);
            }
        }
        let Shape { span, generation } = replica.range.shape();
        Descriptor { id: replica.range.id, span, generation, replicas }
    }

    /// Sees to it that the rows of the ranges that this node leads are right.
    pub(crate) async fn write_directory(self: &Arc<Self>) {
        let Some(replicas) = self.replicas() else { return };
        let Ok(_one) = self.directory.writing.try_lock() else { return };
        let mut due = Vec::new();
        for replica in replicas.all() {
            let led = replica.range.lease.here(&self.hlc).is_some();
            // One range needs no directory.
            if !led || replica.range.shape().generation <= 1 {
                continue;
            }
            let now = self.describe(&replica);
            if self.directory.seen.lock().get(&now.id) != Some(&now) {
                due.push(now);
            }
        }
        for rows in due.chunks(ROWS_MAX) {
            match self.write_rows(rows).await {
                Ok(()) => {
                    let written = rows.iter().map(|row| (row.id, row.clone()));
                    self.directory.seen.lock().extend(written);
                }
                // It is looked at again in a second.
                Err(error) => tracing::debug!(%error, "the directory was not written"),
            }
        }
    }

    async fn write_rows(self: &Arc<Self>, rows: &[Descriptor]) -> Result<(), KvError> {
        let mut txn = Txn::begin(Arc::clone(self), TxnOptions::default());
        for row in rows {
            let key = row_key(row.id);
            let known = txn.get(&key).await?.and_then(|known| Descriptor::decode(known).ok());
            let newer = |known: &Descriptor| known.generation > row.generation || known == row;
            if !known.as_ref().is_some_and(newer) {
                txn.put(key, row.to_bytes());
            }
        }
        txn.commit().await.map(drop)
    }

    /// Takes rows into the directory, as far as they say something new.
    pub(crate) fn learn_ranges(&self, mut rows: Vec<Descriptor>) {
        rows.sort_by_key(|row| row.generation);
        for row in rows {
            let before = self.directory.seen.lock().insert(row.id, row.clone());
            if before.as_ref() != Some(&row) {
                self.learn_range(&row);
            }
            let range = self.range_with(row.id);
            let leader = range.lease.leader();
            let moved = before.is_none_or(|before| before.replicas != row.replicas);
            if !range.replicates() && (leader.is_none() || moved) {
                range.lease.note_leader(row.replicas.first().copied());
            }
        }
    }

    fn learn_range(&self, row: &Descriptor) {
        let replica = self.replicas().and_then(|replicas| replicas.get(row.id));
        if replica.is_some_and(|replica| replica.holds.get().is_some()) {
            return;
        }
        let known = self.ranges.all();
        let newer = known.iter().any(|range| {
            let shape = range.shape();
            let same = range.id == row.id;
            shape.generation >= row.generation && (same || shape.span.overlaps(&row.span))
        });
        if !newer {
            self.ranges.put(vec![(self.range_with(row.id), Shape::of(row))]);
        }
    }

    /// A node that was asked for a key in vain doesn't answer: another one may know more.
    pub(crate) fn look_elsewhere(&self, key: &[u8], asked: Option<NodeId>) {
        let range = Arc::clone(&self.range_of(key));
        if range.replicates() {
            return;
        }
        let mut nodes = self.members_of(range.id);
        nodes.retain(|node| *node != self.node);
        let at = asked.and_then(|asked| nodes.iter().position(|node| *node == asked));
        let next = nodes.get(at.map_or(0, |at| (at + 1) % nodes.len())).copied();
        match (asked, next) {
            (Some(asked), Some(next)) => range.lease.hint(asked, next),
            (None, Some(next)) if range.lease.leader().is_none() => {
                range.lease.note_leader(Some(next));
            }
            _ => {}
        }
    }
}
