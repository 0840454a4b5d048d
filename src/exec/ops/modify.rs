//! INSERT, UPDATE, DELETE as an operator.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::SchemaRef;
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;

use super::basic::batch_of;
use super::{Batches, Operator, generate, input};
use crate::dml::ModifySpec;
use crate::shared::Shared;

/// Writes the rows of its input; gives the source's columns followed by the table's.
#[derive(Clone, Debug)]
pub(crate) struct ModifyOp {
    pub(crate) spec: Arc<ModifySpec>,
    pub(crate) schema: SchemaRef,
    /// Its rows count for the command tag.
    pub(crate) root: bool,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for ModifyOp {
    fn name(&self) -> &'static str {
        "Modify"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let mut rows = input(&children[0], task)?;
        let op = self.clone();
        Ok(generate(|mut out| async move {
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let mut next = Some(0);
                while let Some(from) = next {
                    let (spec, shared, batch) = (op.spec.clone(), op.shared.clone(), batch.clone());
                    let done = op
                        .shared
                        .job(move |driver| {
                            Box::pin(async move { spec.apply(&batch, from, &shared, driver).await })
                        })
                        .await?;
                    if op.root {
                        op.shared.affected.fetch_add(done.count, Ordering::Relaxed);
                    }
                    if let Some(columns) = done.columns {
                        let rows = usize::try_from(done.count).unwrap_or(usize::MAX);
                        out.send(batch_of(&op.schema, columns, rows)?).await;
                    }
                    next = done.stopped_at;
                    if next.is_some() {
                        op.shared.run_pending().await?;
                    }
                }
            }
            Ok(())
        }))
    }
}
