//! An Elle-style checker over append-only lists.
//!
//! Values are unique, so a read of `[3, 8, 5]` tells more than its last value: it tells the order of
//! all versions of that list. From the version orders follow the dependencies:
//!
//! ```text
//! ww   T1 appended 3, T2 appended 8 next            T1 before T2
//! wr   T2 appended 8, T3 read [3, 8]                T2 before T3
//! rw   T3 read [3, 8], T4 appended 5 next           T3 before T4
//! rt   T1 was acknowledged before T5 began          T1 before T5
//! ```
//! Adya's anomalies are shapes of cycles in that graph:
//!
//! | anomaly | shape | forbidden from |
//! |---|---|---|
//! | G0 | ww only | READ COMMITTED |
//! | G1a, G1b | a read of an aborted, of an intermediate value | READ COMMITTED |
//! | G1c | ww and wr | READ COMMITTED |
//! | G-single | one rw, the rest ww, wr | REPEATABLE READ (snapshot isolation) |
//! | G2 | several rw | SERIALIZABLE |
//!
//! With rt edges among the others the same shapes make the strong (real-time) variants, which our
//! snapshots promise too: a snapshot contains every commit that was acknowledged before it.
//!
//! In a mixture of levels an anomaly counts against the transaction that was to be protected from
//! it: an rw edge out of a READ COMMITTED transaction forbids nothing.

mod anomaly;
mod graph;
mod versions;

use meridian_kv::api::Isolation;

use crate::history::{Event, History, Outcome, TxnRecord};
pub use anomaly::{Anomaly, AnomalyKind};
use graph::{EdgeKind, Graph};
use versions::Versions;

/// The anomalies that no level allows to the transactions concerned.
pub fn forbidden(history: &History) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let versions = Versions::of(history, &mut found);
    let graph = dependencies(history, &versions);
    cycles(history, &graph, &mut found);
    found
}

/// Cycles that REPEATABLE READ permits (write skew): shows that a workload provokes them.
pub fn write_skews(history: &History) -> usize {
    let versions = Versions::of(history, &mut Vec::new());
    let graph = dependencies(history, &versions);
    usize::from(graph.cycle(|_, _| true).is_some())
}

/// Did it happen, as far as anybody can tell? A commit of unknown outcome did if its writes were seen.
fn took_place(txn: &TxnRecord, versions: &Versions) -> bool {
    match txn.outcome {
        Outcome::Committed => true,
        Outcome::Unknown => txn.events.iter().any(|event| {
            matches!(event, Event::Append { list, value } if versions.position(*list, *value).is_some())
        }),
        Outcome::Aborted | Outcome::Failed(_) => false,
    }
}

fn dependencies(history: &History, versions: &Versions) -> Graph {
    let mut graph = Graph::new(history.txns.len());
    let real: Vec<bool> = history.txns.iter().map(|txn| took_place(txn, versions)).collect();
    for order in versions.orders() {
        for pair in order.windows(2) {
            if let (Some(a), Some(b)) = (versions.writer(pair[0]), versions.writer(pair[1])) {
                graph.add(a, b, EdgeKind::Ww);
            }
        }
    }
    for (at, txn) in history.txns.iter().enumerate().filter(|(at, _)| real[*at]) {
        for event in &txn.events {
            let Event::Read { list, values } = event else { continue };
            let foreign = values.iter().rev().find(|v| versions.writer(**v) != Some(at));
            if let Some(writer) = foreign.and_then(|value| versions.writer(*value)) {
                graph.add(writer, at, EdgeKind::Wr);
            }
            if let Some(next) = versions.after(*list, values)
                && let Some(writer) = versions.writer(next)
            {
                graph.add(at, writer, EdgeKind::Rw);
            }
        }
    }
    if !history.clustered {
        real_time(history, &real, &mut graph);
    }
    graph
}

/// Who was acknowledged before whom began, without the edges that follow from others: all that began
/// after somebody's end who himself began after mine are reached through him.
fn real_time(history: &History, real: &[bool], graph: &mut Graph) {
    let txns = &history.txns;
    let mut by_begin: Vec<usize> = (0..txns.len()).filter(|at| real[*at]).collect();
    by_begin.sort_by_key(|at| txns[*at].began);
    let acknowledged = |at: usize| txns[at].ended.filter(|_| txns[at].committed());
    // The first acknowledgement among those that began here or later.
    let mut first_end = vec![u64::MAX; by_begin.len() + 1];
    for (place, at) in by_begin.iter().enumerate().rev() {
        first_end[place] = first_end[place + 1].min(acknowledged(*at).unwrap_or(u64::MAX));
    }
    for at in by_begin.iter().copied() {
        let Some(ended) = acknowledged(at) else { continue };
        let from = by_begin.partition_point(|other| txns[*other].began <= ended);
        let later = by_begin[from..].iter();
        for other in later.take_while(|other| txns[**other].began <= first_end[from]) {
            graph.add(at, *other, EdgeKind::Realtime);
        }
    }
}

fn cycles(history: &History, graph: &Graph, found: &mut Vec<Anomaly>) {
    let isolation = |at: usize| history.txns[at].isolation;
    let mut report = |cycle: Option<Vec<(usize, EdgeKind)>>| {
        found.extend(cycle.map(|cycle| Anomaly::of_cycle(history, &cycle)));
    };
    report(graph.cycle(|_, kind| kind == EdgeKind::Ww));
    report(graph.cycle(|_, kind| kind != EdgeKind::Rw));
    let component = graph.components(&|_, _| true);
    for (from, to) in graph.edges(EdgeKind::Rw) {
        if isolation(from) >= Isolation::RepeatableRead && component[from] == component[to] {
            let back = graph.path(to, from, |_, kind| kind != EdgeKind::Rw);
            report(back.map(|mut path| {
                path.insert(0, (from, EdgeKind::Rw));
                path
            }));
        }
    }
    report(
        graph
            .cycle(|from, kind| kind != EdgeKind::Rw || isolation(from) == Isolation::Serializable),
    );
}

#[cfg(test)]
mod tests;
