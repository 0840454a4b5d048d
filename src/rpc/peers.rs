//! Which nodes have connections to this one, and where they say they are.
//!
//! Two processes with one node id would destroy the cluster (two voters with one vote), so a node id
//! belongs to the address of its first connection as long as there is one. At the same address there
//! can be one process only: the one with the larger incarnation is the living one, and what the
//! other left behind is closed.

use std::collections::{BTreeMap, HashMap};

use meridian_base::NodeId;
use tokio::task::AbortHandle;

use crate::NOBODY;
use crate::greeting::Greeting;

#[derive(Default)]
pub(crate) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
    next_connection: u64,
}

#[derive(Default)]
struct Peer {
    incarnation: u64,
    address: String,
    /// Without a handle as long as it is being set up.
    connections: HashMap<u64, Option<AbortHandle>>,
}

impl Peers {
    /// Enters a connection; answers its number, or why it must not be.
    pub(crate) fn admit(&mut self, me: NodeId, theirs: &Greeting) -> Result<u64, String> {
        if theirs.node != NOBODY && theirs.node == me {
            return Err(format!("node id {me} is in use twice: by {} too", theirs.name()));
        }
        let peer = self.peers.entry(theirs.node).or_default();
        if theirs.node != NOBODY && !peer.connections.is_empty() {
            if peer.address != theirs.address {
                return Err(format!(
                    "node id {} is in use at {}, and {} must not use it as well: was a data \
                     directory copied?",
                    theirs.node, peer.address, theirs.address
                ));
            }
            if theirs.incarnation < peer.incarnation {
                return Err(format!("{} has been started again since", theirs.name()));
            }
            if theirs.incarnation > peer.incarnation {
                for handle in peer.connections.drain().filter_map(|(_, handle)| handle) {
                    handle.abort();
                }
            }
        }
        peer.incarnation = theirs.incarnation;
        peer.address.clone_from(&theirs.address);
        self.next_connection += 1;
        peer.connections.insert(self.next_connection, None);
        Ok(self.next_connection)
    }

    /// The task that runs a connection; false if the connection has been given up meanwhile.
    pub(crate) fn set_task(&mut self, node: NodeId, connection: u64, task: AbortHandle) -> bool {
        let slot = self.peers.get_mut(&node).and_then(|p| p.connections.get_mut(&connection));
        let there = slot.is_some();
        if let Some(slot) = slot {
            *slot = Some(task);
        }
        there
    }

    /// A connection has ended.
    pub(crate) fn remove(&mut self, node: NodeId, connection: u64) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.connections.remove(&connection);
        }
    }

    /// Takes out all tasks.
    pub(crate) fn close(&mut self) -> Vec<AbortHandle> {
        let all = self.peers.values_mut().flat_map(|peer| peer.connections.drain());
        all.filter_map(|(_, handle)| handle).collect()
    }
}
