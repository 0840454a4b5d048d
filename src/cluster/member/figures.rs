//! What a node says of itself and of the ranges that it leads, for everybody's plans.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Instant, NodeId};

use super::{NodeRow, Register};
use crate::remote::Figures;
use crate::replicas::Replica;

/// Between two reports.
const REPORT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

impl Register {
    /// Tells everybody how large and how loaded the ranges are that this node leads, if it is time.
    pub(super) fn report(&self, led: &[Arc<Replica>]) {
        {
            let mut reported = self.reported.lock();
            if reported.is_some_and(|last| last.elapsed() < REPORT) {
                return;
            }
            *reported = Some(Instant::now());
        }
        let now = self.core.hlc.reading();
        for replica in self.replicas.all() {
            // Whoever leads it next begins to count.
            if replica.range.lease.here(&self.core.hlc).is_none() {
                replica.range.pipeline.load.forget();
            }
        }
        let figures = led.iter().map(|replica| Figures {
            range: replica.range.id.0,
            bytes: replica.measured.lock().as_ref().map_or(0, |measured| measured.bytes),
            load: replica.range.pipeline.load.close(now),
        });
        self.cluster.tell_figures(&figures.collect::<Vec<_>>());
    }

    /// Sees to it that this node's row says where the node is: it may have been started elsewhere.
    pub(super) async fn perhaps_relocate(&self, row: Option<&NodeRow>) {
        let locality = &self.core.config.locality;
        let Some(row) = row.filter(|row| row.locality != *locality) else { return };
        tracing::info!(%locality, before = row.locality, "this node is somewhere else now");
        let (node, locality) = (NodeId(row.id), locality.clone());
        if let Err(error) = self.amend(node, |row| row.locality = locality).await {
            tracing::debug!(error, "where this node is was not written");
        }
    }
}
