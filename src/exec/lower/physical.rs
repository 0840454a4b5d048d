//! Our expressions where DataFusion's operators want theirs.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::Result as DfResult;
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;

use crate::error::to_datafusion;
use crate::expr::Eval;
use crate::shared::Shared;
use crate::values;

/// An [`Eval`] as DataFusion's `PhysicalExpr`.
#[derive(Debug)]
pub(crate) struct EvalExpr {
    pub(crate) eval: Eval,
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Display for EvalExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expression")
    }
}

impl PartialEq for EvalExpr {
    fn eq(&self, other: &EvalExpr) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for EvalExpr {}

impl Hash for EvalExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self).hash(state);
    }
}

impl PhysicalExpr for EvalExpr {
    fn data_type(&self, _: &Schema) -> DfResult<DataType> {
        Ok(values::data_type(self.eval.ty))
    }

    fn nullable(&self, _: &Schema) -> DfResult<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        self.shared
            .eval(|cx| self.eval.array(batch, cx))
            .map(ColumnarValue::Array)
            .map_err(to_datafusion)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![]
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DfResult<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expression")
    }
}
