//! Recency: who begins after a commit was acknowledged, anywhere, sees it (the real-time half of strict
//! serializability: M. Herlihy, J. Wing, "Linearizability", 1990).

use crate::history::History;

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    found.extend(history.stale_reads.iter().cloned());
}
