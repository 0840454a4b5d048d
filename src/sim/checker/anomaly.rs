//! Anomalies and their names.

use std::fmt;

use super::graph::EdgeKind;
use crate::history::History;

/// Adya's phenomena, and two ways in which a history of lists can make no sense at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnomalyKind {
    /// Two reads of a list disagree about its order, or one has a value twice.
    IncompatibleOrder,
    /// A read that lacks the transaction's own append.
    OwnWriteMissing,
    /// Write cycle.
    G0,
    /// Read of an aborted (or rolled-back) value.
    G1a,
    /// Read of a value that its transaction overwrote later.
    G1b,
    /// Circular information flow.
    G1c,
    /// One anti-dependency: a snapshot that isn't one.
    GSingle,
    /// Several anti-dependencies: write skew.
    G2,
}

/// An anomaly with its witnesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Which.
    pub kind: AnomalyKind,
    /// Does it need the order of real time?
    pub realtime: bool,
    /// Who and what.
    pub what: String,
}

impl Anomaly {
    pub(super) fn new(kind: AnomalyKind, what: String) -> Anomaly {
        Anomaly { kind, realtime: false, what }
    }

    /// Classifies a cycle, given as its nodes with the kind of the edge that leaves each.
    pub(super) fn of_cycle(history: &History, cycle: &[(usize, EdgeKind)]) -> Anomaly {
        let count = |kind| cycle.iter().filter(|(_, edge)| *edge == kind).count();
        let kind = match (count(EdgeKind::Rw), count(EdgeKind::Wr)) {
            (0, 0) => AnomalyKind::G0,
            (0, _) => AnomalyKind::G1c,
            (1, _) => AnomalyKind::GSingle,
            _ => AnomalyKind::G2,
        };
        let mut what = String::new();
        for (at, edge) in cycle {
            let isolation = history.txns[*at].isolation;
            what.push_str(&format!("T{at} ({isolation:?}) —{edge:?}→ "));
        }
        what.push_str(&format!("T{}", cycle[0].0));
        Anomaly { kind, realtime: count(EdgeKind::Realtime) > 0, what }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.realtime { "-realtime" } else { "" };
        write!(f, "{:?}{suffix}: {}", self.kind, self.what)
    }
}
