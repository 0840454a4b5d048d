//! Computed catalog relations as a source of rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_physical_plan::ExecutionPlan;
use meridian_catalog::VirtualDesc;
use meridian_types::{Datum, PgType};

use super::basic::batch_of;
use super::{BATCH_ROWS, Batches, Operator, generate};
use crate::shared::Shared;
use crate::values;

/// Rows of a computed relation.
#[derive(Clone, Debug)]
pub(crate) struct VirtualOp {
    pub(crate) table: Arc<VirtualDesc>,
    /// Which of the relation's columns.
    pub(crate) columns: Vec<usize>,
    pub(crate) types: Vec<PgType>,
    pub(crate) schema: SchemaRef,
    pub(crate) shared: Arc<Shared>,
}

impl Operator for VirtualOp {
    fn name(&self) -> &'static str {
        "Catalog Scan"
    }

    fn execute(&self, _: &[Arc<dyn ExecutionPlan>], _: Arc<TaskContext>) -> DfResult<Batches> {
        let op = self.clone();
        Ok(generate(|mut out| async move {
            let ctx = op.shared.frame()?.ctx.clone();
            let rows = crate::virtuals::rows(&op.table, &ctx)?;
            for chunk in rows.chunks(BATCH_ROWS) {
                let mut columns = Vec::with_capacity(op.columns.len());
                for (at, ty) in op.columns.iter().zip(&op.types) {
                    let mut builder = values::Builder::new(*ty, chunk.len());
                    for row in chunk {
                        builder.push(row.get(*at).unwrap_or(&Datum::Null))?;
                    }
                    columns.push(builder.finish());
                }
                out.send(batch_of(&op.schema, columns, chunk.len())?).await;
            }
            Ok(())
        }))
    }
}
