//! Counters of EXPLAIN ANALYZE: an operator that passes its input on and takes its measure.

use std::sync::Arc;

use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use meridian_base::clock::Instant;

use super::{Batches, Operator, generate, input};
use crate::error::from_datafusion;
use crate::shared::Shared;

/// Measures the relation with this number.
#[derive(Clone, Debug)]
pub(crate) struct MeterOp {
    pub(crate) relation: usize,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for MeterOp {
    fn name(&self) -> &'static str {
        "Meter"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let child = children[0].clone();
        let op = self.clone();
        Ok(generate(|mut out| async move {
            let started = Instant::now();
            let (mut first, mut busy) = (None, 0.0);
            let mut batches = input(&child, task).map_err(|e| from_datafusion(&e))?;
            loop {
                let asked = Instant::now();
                let Some(batch) = batches.next().await else {
                    busy += asked.elapsed().as_secs_f64() * 1000.0;
                    break;
                };
                let batch = batch?;
                busy += asked.elapsed().as_secs_f64() * 1000.0;
                first.get_or_insert_with(|| started.elapsed().as_secs_f64() * 1000.0);
                op.shared.count(op.relation, 0, batch.num_rows() as u64, 0.0, 0.0);
                out.send(batch).await;
            }
            op.shared.count(op.relation, 1, 0, first.unwrap_or(busy), busy);
            Ok(())
        }))
    }
}
