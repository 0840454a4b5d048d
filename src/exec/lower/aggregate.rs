//! Aggregates and windows.

use std::sync::Arc;

use meridian_sql::expr::ColumnId;
use meridian_sql::rel::Column;
use meridian_sql::rel::{FrameBound, Rel, SortKey, WindowCall, WindowSpec};
use meridian_types::{PgError, PgType, Result, oid, registry};

use super::{Lowered, Lowerer, cols_of};
use crate::expr::Eval;
use crate::ops::aggregate::{AggregateOp, Call};
use crate::ops::schema_of;
use crate::ops::window::{Bound, WindowFn, WindowFunction, WindowOp};

/// Aggregates whose WITHIN GROUP arguments follow the direct ones.
const ORDERED_SETS: [&str; 7] = [
    "percentile_cont",
    "percentile_disc",
    "mode",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
];

impl Lowerer {
    pub(crate) fn aggregate(&mut self, rel: &Rel) -> Result<Lowered> {
        let Rel::Aggregate { input, group_by, grouping_sets, aggregates, grouping } = rel else {
            return Err(PgError::internal("not an aggregate"));
        };
        let input = self.rel(input)?;
        let keys: Result<Vec<_>> = group_by.iter().map(|id| input.key(*id)).collect();
        let keys = keys?;
        let mut calls = vec![];
        for (_, call) in aggregates {
            let args = self.exprs(&call.args, &input)?;
            let mut order = vec![];
            for (e, desc, nulls_first) in &call.order_by {
                order.push((self.expr(e, &input)?, *desc, *nulls_first));
            }
            let filter = call.filter.as_ref().map(|f| self.expr(f, &input)).transpose()?;
            let kernel = registry::aggregate(&call.key).ok_or_else(|| {
                PgError::unsupported(format!("aggregate {} is not supported yet", call.key))
            });
            let mut types: Vec<PgType> = args.iter().map(|a| a.ty).collect();
            let within = ORDERED_SETS.contains(&&*call.func.name);
            if within {
                types.extend(order.iter().map(|(e, _, _)| e.ty));
            }
            calls.push(Call::new(&call.func.name, kernel, args, types, call.ty)?.with(
                call.distinct,
                order,
                within,
                filter,
            ));
        }
        let sets = match grouping_sets {
            Some(sets) => sets.clone(),
            None => vec![(0..group_by.len()).collect()],
        };
        let mut cols: Vec<(ColumnId, PgType)> =
            group_by.iter().zip(&keys).map(|(id, (_, ty))| (*id, *ty)).collect();
        cols.extend(cols_of(aggregates.iter().map(|(c, _)| c)));
        cols.extend(cols_of(grouping));
        let schema = schema_of(cols.iter().map(|c| c.1));
        let op = AggregateOp {
            keys,
            sets,
            calls: Arc::new(calls),
            grouping: grouping.is_some(),
            schema: schema.clone(),
            shared: self.shared.clone(),
        };
        Ok(self.op(op, schema, vec![input.plan], cols))
    }

    pub(crate) fn window(
        &mut self,
        input: &Rel,
        spec: &WindowSpec,
        calls: &[(Column, WindowCall)],
    ) -> Result<Lowered> {
        let input = self.rel(input)?;
        let mut keys: Vec<SortKey> = spec
            .partition_by
            .iter()
            .map(|column| SortKey { column: *column, desc: false, nulls_first: false })
            .collect();
        keys.extend(spec.order_by.iter().cloned());
        let input = self.sort(input, &keys, None)?;
        let partition: Result<Vec<_>> = spec.partition_by.iter().map(|c| input.key(*c)).collect();
        let order: Result<Vec<_>> = spec
            .order_by
            .iter()
            .map(|k| input.key(k.column).map(|p| (p, k.desc, k.nulls_first)))
            .collect();
        let mut functions = vec![];
        for (_, call) in calls {
            functions.push(self.window_call(call, &input)?);
        }
        let start = self.frame_bound(&spec.start)?;
        let end = self.frame_bound(&spec.end)?;
        let order = order?;
        let in_range = spec.in_range.as_ref().map(|f| {
            let key = order.first().map_or(PgType::new(0), |o| o.0.1);
            let offset = match (&start, &end) {
                (Bound::Preceding(e) | Bound::Following(e), _)
                | (_, Bound::Preceding(e) | Bound::Following(e)) => e.ty,
                _ => PgType::new(0),
            };
            let flag = PgType::new(oid::BOOL);
            crate::expr::function(f, vec![key, key, offset, flag, flag], flag)
        });
        let mut cols = input.cols.clone();
        let added = cols_of(calls.iter().map(|(c, _)| c));
        cols.extend(added);
        let schema = schema_of(cols.iter().map(|c| c.1));
        let op = WindowOp {
            partition: partition?,
            order,
            unit: spec.unit,
            start,
            end,
            exclude: spec.exclude,
            in_range,
            functions: Arc::new(functions),
            schema: schema.clone(),
            shared: self.shared.clone(),
        };
        Ok(self.op(op, schema, vec![input.plan], cols))
    }

    fn frame_bound(&mut self, bound: &FrameBound) -> Result<Bound> {
        Ok(match bound {
            FrameBound::UnboundedPreceding => Bound::UnboundedPreceding,
            FrameBound::Preceding(e) => Bound::Preceding(self.free(e)?),
            FrameBound::CurrentRow => Bound::CurrentRow,
            FrameBound::Following(e) => Bound::Following(self.free(e)?),
            FrameBound::UnboundedFollowing => Bound::UnboundedFollowing,
        })
    }

    fn window_call(&mut self, call: &WindowCall, input: &Lowered) -> Result<WindowFunction> {
        let args: Vec<Eval> = self.exprs(&call.args, input)?;
        let filter = call.filter.as_ref().map(|f| self.expr(f, input)).transpose()?;
        let kind = match &call.aggregate {
            Some(key) => WindowFn::Aggregate(registry::aggregate(key).ok_or_else(|| {
                PgError::unsupported(format!("aggregate {key} is not supported yet"))
            })?),
            None => WindowFn::named(&call.func.prosrc).ok_or_else(|| {
                PgError::unsupported(format!(
                    "window function {} is not supported yet",
                    call.func.name
                ))
            })?,
        };
        Ok(WindowFunction { kind, args, filter, ty: call.ty })
    }
}
