//! What the planner knows of ranges that other nodes lead: their sizes and loads.
//!
//! Every ten seconds each leaseholder tells all nodes that live the figures of the ranges that it leads. They
//! are kept until somebody tells newer ones: right after a lease has moved, the old ones are the best there
//! are. Nothing depends on them but where copies and leases go.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_base::RangeId;
use meridian_rpc::Class;
use parking_lot::Mutex;

use super::Cluster;
use super::ask::encode;
use super::messages::Op;

/// Ranges in one message.
const REPORT_MAX: usize = 4096;

/// A range's figures.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Figures {
    #[prost(uint64, tag = "1")]
    pub(crate) range: u64,
    /// Bytes of keys and newest rows; 0 = not measured yet.
    #[prost(uint64, tag = "2")]
    pub(crate) bytes: u64,
    /// Requests per second.
    #[prost(uint64, tag = "3")]
    pub(crate) load: u64,
}

/// Those of the sender's ranges.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Report {
    #[prost(message, repeated, tag = "1")]
    pub(crate) ranges: Vec<Figures>,
}

/// The newest figures of all ranges.
#[derive(Default)]
pub(super) struct Reports(Mutex<BTreeMap<RangeId, Figures>>);

impl Cluster {
    /// Takes figures from a leaseholder.
    pub(crate) fn take_report(&self, report: &Report) {
        let mut known = self.reports.0.lock();
        for new in &report.ranges {
            let known = known.entry(RangeId(new.range)).or_default();
            // Who has just begun to lead hasn't measured it.
            let bytes = if new.bytes == 0 { known.bytes } else { new.bytes };
            *known = Figures { bytes, ..*new };
        }
    }

    /// What is known of a range.
    pub(crate) fn figures(&self, range: RangeId) -> Figures {
        self.reports.0.lock().get(&range).copied().unwrap_or_default()
    }

    /// Tells everybody. What isn't heard is told anew soon.
    pub(crate) fn tell_figures(self: &Arc<Self>, figures: &[Figures]) {
        for ranges in figures.chunks(REPORT_MAX) {
            let report = Report { ranges: ranges.to_vec() };
            self.take_report(&report);
            let body = encode(Op::Report(report));
            for node in self.live().into_iter().filter(|node| *node != self.core.node) {
                let (cluster, body) = (Arc::clone(self), body.clone());
                tokio::spawn(async move {
                    let _ = cluster.try_at(node, body, Class::Kv).await;
                });
            }
        }
    }
}
