//! Meridian's own operators, as DataFusion execution plans.
//!
//! An operator implements [`Operator`]: given its children it makes a stream of batches. [`OpExec`]
//! is the one `ExecutionPlan` around all of them: single partition, children and schema kept.
//! Most operators are written as straight asynchronous code with [`generate`].

pub(crate) mod aggregate;
pub(crate) mod apply;
pub(crate) mod aside;
pub(crate) mod basic;
pub(crate) mod cte;
pub(crate) mod function;
pub(crate) mod hashing;
mod hypothetical;
pub(crate) mod lock;
pub(crate) mod meter;
pub(crate) mod modify;
pub(crate) mod scan;
pub(crate) mod spool;
mod stream;
pub(crate) mod virtuals;
pub(crate) mod window;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::Result as DfResult;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use meridian_types::{PgError, PgType};

use crate::error::{from_datafusion, to_datafusion};
use crate::values;

pub(crate) use stream::{Batches, Yielder, Yielding, generate};

/// An operator of ours.
pub(crate) trait Operator: fmt::Debug + Send + Sync {
    /// Name, for EXPLAIN of physical plans.
    fn name(&self) -> &'static str;

    /// Starts it.
    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches>;
}

/// The execution plan around an [`Operator`].
pub(crate) struct OpExec {
    op: Arc<dyn Operator>,
    children: Vec<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
}

impl OpExec {
    #[expect(clippy::new_ret_no_self, reason = "plans are only ever held as trait objects")]
    pub(crate) fn new(
        op: impl Operator + 'static,
        schema: SchemaRef,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Arc<dyn ExecutionPlan> {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Arc::new(OpExec { op: Arc::new(op), children, properties: Arc::new(properties) })
    }
}

impl fmt::Debug for OpExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.op)
    }
}

impl DisplayAs for OpExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.name())
    }
}

impl ExecutionPlan for OpExec {
    fn name(&self) -> &str {
        self.op.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.children.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(OpExec { op: self.op.clone(), children, properties: self.properties.clone() }))
    }

    fn execute(&self, _: usize, task: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        // No metrics here: a set of them grows with every run, and inner plans run once a row.
        let stream = self.op.execute(&self.children, task)?.map(|item| item.map_err(to_datafusion));
        // A statement that computes for long gives way to others between batches; without that the
        // worker thread would serve no sockets, and nobody could cancel it.
        let stream = Yielding::new(stream);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }
}

/// A child's batches, with PostgreSQL errors.
pub(crate) fn input(child: &Arc<dyn ExecutionPlan>, task: Arc<TaskContext>) -> DfResult<Batches> {
    let stream = Yielding::new(child.execute(0, task)?);
    Ok(Box::pin(stream.map(|item| item.map_err(|e| from_datafusion(&e)))))
}

/// A schema of columns of these types.
pub(crate) fn schema_of(types: impl IntoIterator<Item = PgType>) -> SchemaRef {
    let fields: Vec<Field> = types
        .into_iter()
        .enumerate()
        .map(|(i, ty)| Field::new(format!("c{i}"), values::data_type(ty), true))
        .collect();
    Arc::new(Schema::new(fields))
}

/// All rows of a stream.
pub(crate) async fn collect(
    mut batches: Batches,
) -> Result<Vec<arrow::record_batch::RecordBatch>, PgError> {
    let mut out = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 {
            out.push(batch);
        }
    }
    Ok(out)
}

/// Rows in a batch, at most.
pub(crate) const BATCH_ROWS: usize = 8192;
