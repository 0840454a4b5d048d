//! Common table expressions at run time: kept rows, working tables, recursion.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use meridian_types::{PgError, PgType};

use super::basic::batch_of;
use super::hashing::{ENTRY_BYTES, grow, reservation};
use super::{Batches, Operator, collect, generate, input};
use crate::error::{from_arrow, from_datafusion};
use crate::keys::Keyer;
use crate::shared::Shared;

/// Computes CTEs, then runs the body: the children are the CTEs in order, and the body.
#[derive(Clone, Debug)]
pub(crate) struct WithOp {
    pub(crate) ids: Vec<u32>,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for WithOp {
    fn name(&self) -> &'static str {
        "With"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let children = children.to_vec();
        let op = self.clone();
        Ok(generate(|mut out| async move {
            let memory = reservation("With", &task);
            for (id, child) in op.ids.iter().zip(&children) {
                let rows = input(child, task.clone()).map_err(|e| from_datafusion(&e))?;
                let rows = collect(rows).await?;
                grow(&memory, rows.iter().map(RecordBatch::get_array_memory_size).sum())?;
                op.shared.set_cte(*id, Arc::new(rows));
            }
            let Some(body) = children.last() else { return Ok(()) };
            let mut rows = input(body, task.clone()).map_err(|e| from_datafusion(&e))?;
            while let Some(batch) = rows.next().await {
                out.send(batch?).await;
            }
            Ok(())
        }))
    }
}

/// Reads kept rows, or the working table of the recursion under way.
#[derive(Clone, Debug)]
pub(crate) struct MaterialOp {
    pub(crate) id: u32,
    pub(crate) schema: SchemaRef,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for MaterialOp {
    fn name(&self) -> &'static str {
        "CTE Scan"
    }

    fn execute(&self, _: &[Arc<dyn ExecutionPlan>], _: Arc<TaskContext>) -> DfResult<Batches> {
        let op = self.clone();
        Ok(generate(|mut out| async move {
            let rows = op.shared.cte(op.id).ok_or_else(|| {
                PgError::internal("a common table expression was read before it was computed")
            })?;
            for batch in rows.iter() {
                let columns = batch.columns().to_vec();
                out.send(batch_of(&op.schema, columns, batch.num_rows())?).await;
            }
            Ok(())
        }))
    }
}

/// WITH RECURSIVE: the children are the first term and the recursive one.
#[derive(Clone, Debug)]
pub(crate) struct RecursiveOp {
    pub(crate) id: u32,
    /// UNION: rows that have come up before are left out, compared by these columns.
    pub(crate) distinct: Option<Vec<(usize, PgType)>>,
    pub(crate) schema: SchemaRef,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for RecursiveOp {
    fn name(&self) -> &'static str {
        "Recursive Union"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let (first, step) = (children[0].clone(), children[1].clone());
        let op = self.clone();
        Ok(generate(|mut out| async move {
            let memory = reservation("Recursive Union", &task);
            let keyer = op.distinct.as_ref().map(|on| Keyer::new(on)).transpose()?;
            let mut seen: HashSet<Box<[u8]>> = HashSet::new();
            let mut working: Vec<RecordBatch> = vec![];
            let mut rows = input(&first, task.clone()).map_err(|e| from_datafusion(&e))?;
            loop {
                while let Some(batch) = rows.next().await {
                    let mut batch = batch?;
                    if let Some(keyer) = &keyer {
                        let keys = keyer.keys(&batch)?;
                        let mut bytes = 0;
                        let keep: BooleanArray = (0..batch.num_rows())
                            .map(|row| {
                                let key = keys.get(row);
                                let new = seen.insert(key.into());
                                bytes += if new { key.len() + ENTRY_BYTES } else { 0 };
                                Some(new)
                            })
                            .collect();
                        grow(&memory, bytes)?;
                        batch = filter_record_batch(&batch, &keep).map_err(from_arrow)?;
                    }
                    if batch.num_rows() > 0 {
                        let columns = batch.columns().to_vec();
                        let batch = batch_of(&op.schema, columns, batch.num_rows())?;
                        working.push(batch.clone());
                        out.send(batch).await;
                    }
                }
                if working.is_empty() {
                    return Ok(());
                }
                op.shared.frame()?.ctx.check_cancel()?;
                op.shared.set_cte(op.id, Arc::new(std::mem::take(&mut working)));
                let stream = op.shared.start(&step)?;
                rows = Box::pin(stream.map(|item| item.map_err(|e| from_datafusion(&e))));
            }
        }))
    }
}
