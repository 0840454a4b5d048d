//! Who leads a range, as this node knows it: cheap enough to be asked by every statement.
//!
//! A node that leads may read and sequence without asking anybody for as long as its lease lasts: a
//! moment of its own wall clock up to which a quorum has promised to elect nobody else. Whoever keeps
//! the lease moves that moment on; readers load one number and compare.
//!
//! **Invariant:** `until` is never beyond what the quorum's support allows, less the most that clocks
//! may differ.

use std::sync::atomic::{AtomicU64, Ordering};

use meridian_base::{Hlc, NodeId};

const FOR_EVER: u64 = u64::MAX;
const NOBODY: u64 = 0;

/// The name of the lease of a leader.
pub(crate) fn epoch_of(term: u64, node: NodeId) -> u64 {
    (term << 16) | (node.0 & 0xFFFF)
}

/// Where a range's leaseholder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Here, by the lease of this name.
    Here(u64),
    /// On another node, or so it was last heard.
    There(NodeId),
    /// Nobody is known to lead.
    Nowhere,
}

/// One range's lease.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Microseconds of wall time until which this node may serve; 0 = it may not.
    until: AtomicU64,
    /// Names the lease that this node holds: term and node, since two leaders may share a term's number.
    epoch: AtomicU64,
    /// The node that leads, or is thought to.
    leader: AtomicU64,
}

impl Lease {
    /// A lease that nobody holds yet.
    pub(crate) fn nobodys() -> Lease {
        Lease { until: AtomicU64::new(0), epoch: AtomicU64::new(0), leader: AtomicU64::new(NOBODY) }
    }

    /// The lease of a range whose only voter is this node: it needs nobody's support.
    pub(crate) fn grant_for_ever(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
        self.until.store(FOR_EVER, Ordering::Release);
    }

    /// This node leads and is supported until `until` (µs of the clock).
    pub(crate) fn extend(&self, epoch: u64, until: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
        self.until.store(until.min(FOR_EVER - 1), Ordering::Release);
    }

    /// This node serves no more.
    pub(crate) fn end(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Somebody (perhaps this node) leads, or nobody.
    pub(crate) fn note_leader(&self, leader: Option<NodeId>) {
        self.leader.store(leader.map_or(NOBODY, |node| node.0), Ordering::Release);
    }

    /// Who leads, as far as is known.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match self.leader.load(Ordering::Acquire) {
            NOBODY => None,
            node => Some(NodeId(node)),
        }
    }

    /// A node that was asked in vain has named another; what raft says overrules it.
    pub(crate) fn hint(&self, asked: NodeId, leader: NodeId) {
        let (old, new) = (asked.0, leader.0);
        // Something newer than the hint may have been heard meanwhile.
        let _ = self.leader.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// May this node serve now? Then the name of its lease.
    #[inline]
    pub(crate) fn here(&self, hlc: &Hlc) -> Option<u64> {
        let until = self.until.load(Ordering::Acquire);
        if until == 0 || (until != FOR_EVER && hlc.reading() >= until) {
            return None;
        }
        Some(self.epoch.load(Ordering::Relaxed))
    }

    /// Where to go with a request.
    pub(crate) fn home(&self, me: NodeId, hlc: &Hlc) -> Home {
        if let Some(term) = self.here(hlc) {
            return Home::Here(term);
        }
        match self.leader.load(Ordering::Acquire) {
            NOBODY => Home::Nowhere,
            // It leads, but its support has run out: somebody else will.
            node if node == me.0 => Home::Nowhere,
            node => Home::There(NodeId(node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use meridian_base::ManualClock;

    #[test]
    fn a_lease_ends_by_itself_unless_it_needs_nobody() {
        let (lease, clock, me) = (Lease::nobodys(), Arc::new(ManualClock::new(1_000)), NodeId(1));
        let hlc = Hlc::new(clock.clone(), Duration::from_millis(250));
        assert_eq!(lease.home(me, &hlc), Home::Nowhere);
        lease.note_leader(Some(NodeId(2)));
        assert_eq!(lease.home(me, &hlc), Home::There(NodeId(2)));
        lease.note_leader(Some(me));
        lease.extend(7, 1_500);
        assert_eq!(lease.home(me, &hlc), Home::Here(7));
        clock.set_wall(1_500);
        assert_eq!(lease.home(me, &hlc), Home::Nowhere, "out of support, and not somebody else");
        lease.grant_for_ever(8);
        assert_eq!(lease.here(&hlc), Some(8));
        lease.end();
        assert_eq!(lease.here(&hlc), None);
    }
}
