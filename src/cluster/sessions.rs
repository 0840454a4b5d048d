//! Sessions as the whole cluster sees them: their process ids, what they hold and wait for, signals.
//!
//! A process id is an `int4` that is unique in the cluster: the node in the high bits, so that everybody
//! knows where a session is, and a number of the node's own in the low ones. Those of the first node
//! look as on a node alone. Node ids are not used twice; after 2047 nodes they would come around.

use meridian_base::NodeId;
use meridian_kv::locks::Owner;

use crate::Store;
use crate::locking::LockInfo;

/// Bits of a process id that are a node's own.
const OWN_BITS: u32 = 20;
/// Process ids of one node: 1 up to and without this.
pub const PROCESSES_MAX: u32 = 1 << OWN_BITS;
const NODES_MAX: u64 = 1 << (31 - OWN_BITS);

/// The process id of a node's session with this number of its own, of [`PROCESSES_MAX`].
pub fn process_id(node: NodeId, own: u32) -> u32 {
    let node = u32::try_from(node.0.saturating_sub(1) % NODES_MAX).expect("less than 2^11");
    (node << OWN_BITS) | (own % PROCESSES_MAX)
}

/// The node of a session.
pub fn home_of_process(process: u32) -> NodeId {
    NodeId(u64::from(process >> OWN_BITS) + 1)
}

pub(crate) fn session_of_process(process: u32) -> u64 {
    Owner::on_node(home_of_process(process), 0, process).session
}

/// Something that a session is to do, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its process id.
    pub process: u32,
    /// End the session; otherwise only the statement that it runs.
    pub terminate: bool,
    /// What the client's cancel request proves itself with; none when somebody else asks.
    pub secret: Option<u32>,
}

impl Store {
    /// Everything that is locked or waited for on any node that answers.
    pub async fn lock_view_everywhere(&self) -> Vec<LockInfo> {
        match self.core().cluster() {
            Some(cluster) => cluster.locks_everywhere().await,
            None => self.lock_view(),
        }
    }

    /// The processes that keep this one waiting, by holding a lock or by being ahead in its queue.
    pub async fn blocking(&self, process: u32) -> Vec<u32> {
        if let Some(cluster) = self.core().cluster() {
            return cluster.blocking(process).await;
        }
        let mut blocking = Vec::new();
        for (wait, _) in self.core().locks.waits() {
            let others = wait.blockers.iter().map(|(blocker, _)| blocker.process());
            if wait.owner.process() == process {
                blocking.extend(others.filter(|other| *other != process));
            }
        }
        blocking.dedup();
        blocking
    }

    /// Hears of signals for the sessions of this node; the listener says whether there is such a session.
    pub fn on_signal(&self, heard: impl Fn(Signal) -> bool + Send + Sync + 'static) {
        if let Some(cluster) = self.core().cluster() {
            cluster.on_signal(Box::new(heard));
        }
    }

    /// Passes a signal on to a session of another node: whether there is such a session.
    pub async fn signal(&self, signal: Signal) -> bool {
        if home_of_process(signal.process) == self.node() {
            return false;
        }
        match self.core().cluster() {
            Some(cluster) => cluster.signal(signal).await,
            None => false,
        }
    }
}
