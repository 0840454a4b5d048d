//! Nodes tell each other how far the ranges that they lead are closed.
//!
//! One message to each node that lives and has a copy of such a range, every [`PERIOD`], and the next one when
//! that has been answered. What is in it is [`meridian_kv::closed`]'s business; ranges in which nothing happens
//! are not in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use meridian_base::{NodeId, RangeId};
use meridian_kv::api::Timestamp;
use meridian_kv::closed::{Listener, Promise, Standing, Teller, Tidings};
use meridian_rpc::Class;
use parking_lot::Mutex;

use super::Cluster;
use super::ask::{Tried, encode};
use super::messages::{Answer, At, Op};

/// Between two messages to a node. A copy's closed timestamp is older by up to this and the way of a message;
/// half of it would double what an idle node does for it, which is about a thousandth of a core.
const PERIOD: Duration = Duration::from_millis(200);

/// What was told to others and heard of them.
pub(super) struct Told {
    start: u64,
    tellers: Mutex<BTreeMap<NodeId, Teller>>,
    listeners: Mutex<BTreeMap<NodeId, Listener>>,
}

impl Told {
    /// Nothing yet. `start` names this start of the node.
    pub(super) fn new(start: u64) -> Told {
        Told { start, tellers: Mutex::default(), listeners: Mutex::default() }
    }
}

/// [`Tidings`] as they travel.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireTidings {
    #[prost(fixed64, tag = "1")]
    start: u64,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(bool, tag = "3")]
    anew: bool,
    #[prost(fixed64, tag = "4")]
    ts: u64,
    /// Range and index of each.
    #[prost(uint64, repeated, tag = "5")]
    quiet: Vec<u64>,
    /// Range, index and timestamp of each.
    #[prost(uint64, repeated, tag = "6")]
    busy: Vec<u64>,
    #[prost(uint64, repeated, tag = "7")]
    gone: Vec<u64>,
}

impl From<Tidings> for WireTidings {
    fn from(tidings: Tidings) -> WireTidings {
        let Tidings { start, number, anew, ts, quiet, busy, gone } = tidings;
        let triple = |(id, it): (RangeId, Promise)| [id.0, it.index, it.ts.0];
        WireTidings {
            start,
            number,
            anew,
            ts: ts.0,
            quiet: quiet.into_iter().flat_map(|(id, index)| [id.0, index]).collect(),
            busy: busy.into_iter().flat_map(triple).collect(),
            gone: gone.into_iter().map(|id| id.0).collect(),
        }
    }
}

impl From<WireTidings> for Tidings {
    fn from(wire: WireTidings) -> Tidings {
        let WireTidings { start, number, anew, ts, quiet, busy, gone } = wire;
        let (quiet, _) = quiet.as_chunks();
        let (busy, _) = busy.as_chunks();
        let promise = |index, ts| Promise { index, ts: Timestamp(ts) };
        Tidings {
            start,
            number,
            anew,
            ts: Timestamp(ts),
            quiet: quiet.iter().map(|&[id, index]| (RangeId(id), index)).collect(),
            busy: busy.iter().map(|&[id, index, ts]| (RangeId(id), promise(index, ts))).collect(),
            gone: gone.into_iter().map(RangeId).collect(),
        }
    }
}

/// Tells as long as there is somebody to do it.
pub(super) async fn keep_telling(cluster: Weak<Cluster>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(cluster) = cluster.upgrade() else { return };
        cluster.tell_closed();
    }
}

impl Cluster {
    /// Closes all ranges that this node leads, and tells those who have copies.
    fn tell_closed(self: &Arc<Self>) {
        let live = self.live();
        let others = live.into_iter().filter(|node| *node != self.core.node);
        let mut told: BTreeMap<NodeId, Vec<(RangeId, Standing)>> =
            others.map(|node| (node, Vec::new())).collect();
        let now = self.core.hlc.now();
        let replicas = self.core.replicas().map_or_else(Vec::new, |replicas| replicas.all());
        for replica in replicas {
            let range = &replica.range;
            let Some(group) = &replica.group else { continue };
            if range.lease.here(&self.core.hlc).is_none() {
                continue;
            }
            let Some(closed) = range.pipeline.promise(now) else { continue };
            // After the promise: it holds what that counts on.
            let index = group.stats().applied;
            let standing = match closed >= now {
                true => Standing::Quiet(index),
                false => Standing::Busy(Promise { index, ts: closed }),
            };
            let members = group.members();
            for node in members.all_voters().iter().chain(&members.learners) {
                if let Some(list) = told.get_mut(node) {
                    list.push((range.id, standing));
                }
            }
        }
        for (node, standings) in told {
            self.tell_closed_to(node, now, standings);
        }
    }

    fn tell_closed_to(
        self: &Arc<Self>,
        node: NodeId,
        now: Timestamp,
        standings: Vec<(RangeId, Standing)>,
    ) {
        let tidings = {
            let mut tellers = self.tidings.tellers.lock();
            let new = || Teller::new(self.tidings.start);
            let teller = tellers.entry(node).or_insert_with(new);
            if teller.waits() {
                return;
            }
            teller.tell(now, standings)
        };
        let Some(tidings) = tidings else { return };
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            let body = encode(Op::Closed(tidings.into()));
            let tried = cluster.try_at(node, body, Class::Kv).await;
            let understood = matches!(tried, Tried::Answer(Answer::Done(_)));
            if let Some(teller) = cluster.tidings.tellers.lock().get_mut(&node) {
                teller.answered(understood);
            }
        });
    }

    /// Another node tells how far its ranges are closed.
    pub(super) fn serve_tidings(&self, from: NodeId, tidings: WireTidings) -> Answer {
        let heard = {
            let mut listeners = self.tidings.listeners.lock();
            listeners.entry(from).or_default().hear(tidings.into())
        };
        let Some(promises) = heard else { return Answer::NotHere(0) };
        if let Some(replicas) = self.core.replicas() {
            for (id, promise) in promises {
                if let Some(replica) = replicas.get(id) {
                    replica.range.copy.promise(promise);
                }
            }
        }
        Answer::Done(At::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tidings_come_across() {
        let promise = Promise { index: 9, ts: Timestamp(5) };
        let tidings = Tidings {
            start: 1,
            number: 2,
            anew: true,
            ts: Timestamp(3),
            quiet: vec![(RangeId(4), 7), (RangeId(5), 8)],
            busy: vec![(RangeId(6), promise)],
            gone: vec![RangeId(7)],
        };
        assert_eq!(Tidings::from(WireTidings::from(tidings.clone())), tidings);
    }
}
