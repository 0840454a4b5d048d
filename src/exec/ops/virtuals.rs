//! Computed catalog relations as a source of rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_physical_plan::ExecutionPlan;
use meridian_catalog::VirtualDesc;
use meridian_sql::expr::{Expr, ExprKind};
use meridian_sql::rel::Column;
use meridian_types::oid::Oid;
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
    /// Only the rows with this value in this column are wanted (the filter stands above all the
    /// same).
    pub(crate) only: Option<(&'static str, Oid)>,
    pub(crate) shared: Arc<Shared>,
}

/// The first condition that compares an oid column with a constant.
pub(crate) fn only(
    table: &VirtualDesc,
    columns: &[(Column, usize)],
    filter: &[Expr],
) -> Option<(&'static str, Oid)> {
    filter.iter().find_map(|condition| {
        let ExprKind::Call { func, args } = &condition.kind else { return None };
        let (true, [left, right]) = (&*func.prosrc == "oideq", &args[..]) else { return None };
        let (id, value) = match (&left.kind, &right.kind) {
            (ExprKind::Column(id), ExprKind::Const(Datum::Oid(value)))
            | (ExprKind::Const(Datum::Oid(value)), ExprKind::Column(id)) => (id, *value),
            _ => return None,
        };
        let at = columns.iter().find(|(c, _)| c.id == *id)?.1;
        table.columns.get(at).map(|(name, _)| (*name, value))
    })
}

impl Operator for VirtualOp {
    fn name(&self) -> &'static str {
        "Catalog Scan"
    }

    fn execute(&self, _: &[Arc<dyn ExecutionPlan>], _: Arc<TaskContext>) -> DfResult<Batches> {
        let op = self.clone();
        Ok(generate(|mut out| async move {
            let ctx = op.shared.frame()?.ctx.clone();
            let rows = crate::virtuals::rows(&op.table, &ctx, op.only)?;
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
