//! The plain relations: scans, projections, sorting, sets, functions, locks.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion_physical_expr::expressions::Column as DfColumn;
use datafusion_physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion_physical_plan::sorts::sort::SortExec;
use meridian_catalog::TableDesc;
use meridian_sql::expr::{ColumnId, Expr, ExprKind};
use meridian_sql::rel::{Access, Column, FunctionCall, Rel, SetOpKind, SortKey};
use meridian_types::{Datum, PgError, PgType, Result, registry};

use super::{Lowered, Lowerer, cols_of};
use crate::expr::Eval;
use crate::ops::basic::{FilterOp, LimitOp, Pace, ProjectOp, UnionOp, ValuesOp};
use crate::ops::function::{Call, CallKind, FunctionOp, ProjectSetOp};
use crate::ops::hashing::{DistinctOp, SetOpOp};
use crate::ops::lock::{LockOp, Target};
use crate::ops::meter::MeterOp;
use crate::ops::modify::ModifyOp;
use crate::ops::scan::{Path, ScanOp, ScanSpec, SpanExprs};
use crate::ops::schema_of;
use crate::ops::virtuals::{self, VirtualOp};
use crate::values;

impl Lowerer {
    /// Lowers a relation.
    pub(crate) fn rel(&mut self, rel: &Rel) -> Result<Lowered> {
        let lowered = match self.spooled(rel)? {
            Some(spooled) => spooled,
            None => meridian_sql::walk::with_stack(|| self.dispatch(rel))?,
        };
        self.types.extend(lowered.cols.iter().copied());
        let Some(relation) = self.meter(rel) else { return Ok(lowered) };
        let (schema, cols) = (lowered.plan.schema(), lowered.cols);
        let op = MeterOp { relation, shared: self.shared.clone() };
        Ok(self.op(op, schema, vec![lowered.plan], cols))
    }

    fn dispatch(&mut self, rel: &Rel) -> Result<Lowered> {
        match rel {
            Rel::Scan { table, columns, filter, access } => {
                let (spec, cols) = self.scan_spec(table, columns, filter, access)?;
                let schema = spec.schema.clone();
                let op = ScanOp { spec: Arc::new(spec), shared: self.shared.clone() };
                Ok(self.op(op, schema, vec![], cols))
            }
            Rel::Virtual { table, columns, filter } => {
                let cols = cols_of(columns.iter().map(|(c, _)| c));
                self.types.extend(cols.iter().copied());
                let schema = schema_of(cols.iter().map(|c| c.1));
                let at = columns.iter().map(|(_, at)| *at).collect();
                let op = VirtualOp {
                    table: table.clone(),
                    columns: at,
                    types: cols.iter().map(|c| c.1).collect(),
                    only: virtuals::only(table, columns, filter),
                    schema: schema.clone(),
                    shared: self.shared.clone(),
                };
                let lowered = self.op(op, schema, vec![], cols);
                self.filter(lowered, filter)
            }
            Rel::Values { columns, rows } => self.values(columns, rows),
            Rel::Project { input, exprs } => self.project(input, exprs, false),
            Rel::Filter { input, predicates } => {
                let input = self.rel(input)?;
                self.filter(input, predicates)
            }
            Rel::Join { kind, left, right, on, lookup } => {
                self.join(*kind, left, right, on, *lookup)
            }
            Rel::Apply { kind, left, right, on } => self.apply(*kind, left, right, on),
            Rel::Aggregate { .. } => self.aggregate(rel),
            Rel::Window { input, spec, calls } => self.window(input, spec, calls),
            Rel::Sort { input, keys } => {
                let input = self.rel(input)?;
                self.sort(input, keys, None)
            }
            Rel::Limit { input, limit, offset, with_ties } => {
                self.limit(input, limit.as_ref(), offset.as_ref(), with_ties.as_deref())
            }
            Rel::Distinct { input, on } => {
                let input = self.rel(input)?;
                let on: Result<Vec<_>> = on.iter().map(|id| input.key(*id)).collect();
                let (schema, cols) = (input.plan.schema(), input.cols);
                Ok(self.op(DistinctOp { on: on? }, schema, vec![input.plan], cols))
            }
            Rel::SetOp { kind, all, columns, left, right } => {
                self.set_op(*kind, *all, columns, left, right)
            }
            Rel::Function { calls, ordinality } => self.function(calls, ordinality.as_ref()),
            Rel::ProjectSet { input, calls } => self.project_set(input, calls),
            Rel::With { ctes, body } => self.with(ctes, body),
            Rel::CteScan { cte, columns } => self.cte_scan(*cte, columns),
            Rel::LockRows { input, locks } => {
                let input = self.rel(input)?;
                let mut targets = vec![];
                for lock in locks {
                    targets.push(Target {
                        table: self.node.table(&lock.table)?,
                        key: input.at(lock.key)?,
                        strength: lock.strength,
                        wait: lock.wait,
                    });
                }
                let (schema, cols) = (input.plan.schema(), input.cols);
                let op = LockOp { targets: Arc::new(targets), shared: self.shared.clone() };
                Ok(self.op(op, schema, vec![input.plan], cols))
            }
            Rel::Modify(modify) => {
                let root = self.at_root();
                let (source, spec) = self.modify(modify)?;
                let mut cols = source.cols;
                let table = spec.table().clone();
                let new = modify.new_columns.iter().zip(&table.columns);
                cols.extend(new.map(|(id, column)| (*id, column.ty)));
                let schema = schema_of(cols.iter().map(|c| c.1));
                let shared = self.shared.clone();
                let op = ModifyOp { spec: Arc::new(spec), schema: schema.clone(), root, shared };
                let written = self.op(op, schema, vec![source.plan], cols);
                let pace = Pace::of(modify.returning.iter().map(|(_, e)| e), false);
                self.project_onto(written, &modify.returning, pace)
            }
        }
    }

    /// A scan's description and columns.
    pub(crate) fn scan_spec(
        &mut self,
        desc: &Arc<TableDesc>,
        columns: &[(Column, i16)],
        filter: &[Expr],
        access: &Access,
    ) -> Result<(ScanSpec, Vec<(ColumnId, PgType)>)> {
        let table = self.node.table(desc)?;
        let cols = cols_of(columns.iter().map(|(c, _)| c));
        self.types.extend(cols.iter().copied());
        let path = match access {
            Access::Full => Path::Full,
            Access::Index { index_id, spans, reverse } => {
                let at = desc
                    .indexes
                    .iter()
                    .position(|i| i.index_id == *index_id)
                    .ok_or_else(|| PgError::internal("the plan names an unknown index"))?;
                let mut compiled = Vec::with_capacity(spans.len());
                for span in spans {
                    let mut prefix = vec![];
                    for e in &span.prefix {
                        prefix.push(self.free(e)?);
                    }
                    let mut bound = |b: &Option<(Expr, bool)>| -> Result<_> {
                        b.as_ref().map(|(e, inclusive)| Ok((self.free(e)?, *inclusive))).transpose()
                    };
                    let (lower, upper) = (bound(&span.lower)?, bound(&span.upper)?);
                    compiled.push(SpanExprs { prefix, each: span.each, lower, upper });
                }
                Path::Index { at, spans: compiled, reverse: *reverse }
            }
        };
        let map = cols.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect();
        let mut compiled = vec![];
        for e in filter {
            let mut scope = super::InputScope { lowerer: self, map: &map };
            compiled.push(crate::expr::compile(e, &mut scope)?);
        }
        let spec = ScanSpec {
            table,
            columns: columns.iter().map(|(c, attnum)| (c.ty, *attnum)).collect(),
            schema: schema_of(cols.iter().map(|c| c.1)),
            filter: compiled,
            path,
        };
        Ok((spec, cols))
    }

    pub(crate) fn filter(&mut self, input: Lowered, predicates: &[Expr]) -> Result<Lowered> {
        if predicates.is_empty() {
            return Ok(input);
        }
        let predicates = self.exprs(predicates, &input)?;
        let op = FilterOp { predicates, shared: self.shared.clone() };
        let (schema, cols) = (input.plan.schema(), input.cols);
        Ok(self.op(op, schema, vec![input.plan], cols))
    }

    fn values(&mut self, columns: &[Column], rows: &[Vec<Expr>]) -> Result<Lowered> {
        let cols = cols_of(columns);
        let mut compiled = Vec::with_capacity(rows.len());
        for row in rows {
            let row: Result<Vec<Eval>> = row.iter().map(|e| self.free(e)).collect();
            compiled.push(row?);
        }
        let schema = schema_of(cols.iter().map(|c| c.1));
        let op = ValuesOp {
            rows: Arc::new(compiled),
            types: cols.iter().map(|c| c.1).collect(),
            schema: schema.clone(),
            shared: self.shared.clone(),
        };
        Ok(self.op(op, schema, vec![], cols))
    }

    fn project(&mut self, input: &Rel, exprs: &[(Column, Expr)], limited: bool) -> Result<Lowered> {
        let input = self.rel(input)?;
        let pace = Pace::of(exprs.iter().map(|(_, e)| e), limited);
        self.project_onto(input, exprs, pace)
    }

    fn project_onto(
        &mut self,
        input: Lowered,
        exprs: &[(Column, Expr)],
        pace: Pace,
    ) -> Result<Lowered> {
        let compiled = self.exprs(exprs.iter().map(|(_, e)| e), &input)?;
        let cols = cols_of(exprs.iter().map(|(c, _)| c));
        let schema = schema_of(cols.iter().map(|c| c.1));
        let shared = self.shared.clone();
        let op = ProjectOp { exprs: compiled, schema: schema.clone(), pace, shared };
        Ok(self.op(op, schema, vec![input.plan], cols))
    }

    /// Sorts by these keys; columns whose Arrow order is not PostgreSQL's by their sort key.
    pub(crate) fn sort(
        &mut self,
        input: Lowered,
        keys: &[SortKey],
        fetch: Option<usize>,
    ) -> Result<Lowered> {
        let mut extra = vec![];
        let mut at = vec![];
        for key in keys {
            let (position, ty) = input.key(key.column)?;
            if values::is_native(ty) {
                at.push(position);
            } else {
                at.push(input.cols.len() + extra.len());
                extra.push(Eval::input(position, ty).sort_key());
            }
        }
        let input = self.extend(input, extra);
        let schema = input.plan.schema();
        let exprs = keys.iter().zip(&at).map(|(key, at)| {
            let options = SortOptions { descending: key.desc, nulls_first: key.nulls_first };
            PhysicalSortExpr::new(Arc::new(DfColumn::new(schema.field(*at).name(), *at)), options)
        });
        let Some(ordering) = LexOrdering::new(exprs) else { return Ok(input) };
        let sort = SortExec::new(ordering, input.plan).with_fetch(fetch);
        Ok(Lowered { plan: Arc::new(sort), cols: input.cols })
    }

    fn limit(
        &mut self,
        input: &Rel,
        limit: Option<&Expr>,
        offset: Option<&Expr>,
        ties: Option<&[SortKey]>,
    ) -> Result<Lowered> {
        let constant = |e: Option<&Expr>| match e.map(|e| &e.kind) {
            None => Some(0),
            Some(ExprKind::Const(Datum::Int8(n))) => usize::try_from(*n).ok(),
            _ => None,
        };
        let input = match (input, limit, constant(limit), constant(offset)) {
            (Rel::Sort { input, keys }, Some(_), Some(limit), Some(offset))
                if ties.is_none() && !self.measures() =>
            {
                let input = self.rel(input)?;
                self.sort(input, keys, Some(limit.saturating_add(offset).max(1)))?
            }
            (Rel::Project { input, exprs }, ..) if !self.measures() => {
                self.project(input, exprs, true)?
            }
            _ => self.rel(input)?,
        };
        let with_ties = match ties {
            None => None,
            Some(keys) => {
                let keys: Result<Vec<_>> = keys.iter().map(|k| input.key(k.column)).collect();
                Some(keys?)
            }
        };
        let op = LimitOp {
            limit: limit.map(|e| self.free(e)).transpose()?,
            offset: offset.map(|e| self.free(e)).transpose()?,
            with_ties,
            shared: self.shared.clone(),
        };
        let (schema, cols) = (input.plan.schema(), input.cols);
        Ok(self.op(op, schema, vec![input.plan], cols))
    }

    fn set_op(
        &mut self,
        kind: SetOpKind,
        all: bool,
        columns: &[Column],
        left: &(Box<Rel>, Vec<ColumnId>),
        right: &(Box<Rel>, Vec<ColumnId>),
    ) -> Result<Lowered> {
        let (a, b) = (self.rel(&left.0)?, self.rel(&right.0)?);
        let at = |input: &Lowered, ids: &[ColumnId]| -> Result<Vec<usize>> {
            ids.iter().map(|id| input.at(*id)).collect()
        };
        let positions = [at(&a, &left.1)?, at(&b, &right.1)?];
        let cols = cols_of(columns);
        let types: Vec<PgType> = cols.iter().map(|c| c.1).collect();
        let schema = schema_of(types.iter().copied());
        let children = vec![a.plan, b.plan];
        if kind != SetOpKind::Union {
            let op = SetOpOp { kind, all, columns: positions, types, schema: schema.clone() };
            return Ok(self.op(op, schema, children, cols));
        }
        let op = UnionOp { columns: positions.to_vec(), schema: schema.clone() };
        let union = self.op(op, schema.clone(), children, cols.clone());
        if all {
            return Ok(union);
        }
        let on = types.into_iter().enumerate().collect();
        Ok(self.op(DistinctOp { on }, schema, vec![union.plan], cols))
    }

    fn call(&mut self, call: &FunctionCall, input: Option<&Lowered>) -> Result<Call> {
        let args = match input {
            Some(input) => self.exprs(&call.args, input)?,
            None => {
                let args: Result<Vec<Eval>> = call.args.iter().map(|e| self.free(e)).collect();
                args?
            }
        };
        let types = args.iter().map(|a| a.ty).collect();
        let ret = match (&call.columns[..], call.expand) {
            ([column], false) => column.ty,
            _ => PgType::new(meridian_types::oid::RECORD),
        };
        let function = crate::expr::function(&call.func, types, ret);
        let kind = match (call.returns_set, registry::set_returning(&call.func.prosrc)) {
            (true, Some(kernel)) => CallKind::Set(kernel),
            (true, None) => CallKind::Host,
            (false, _) => CallKind::Scalar,
        };
        Ok(Call { function, kind, args, columns: call.columns.len(), expand: call.expand })
    }

    fn function(&mut self, calls: &[FunctionCall], ordinality: Option<&Column>) -> Result<Lowered> {
        let compiled: Result<Vec<Call>> = calls.iter().map(|c| self.call(c, None)).collect();
        let cols = cols_of(calls.iter().flat_map(|c| &c.columns).chain(ordinality));
        let schema = schema_of(cols.iter().map(|c| c.1));
        let op = FunctionOp {
            calls: Arc::new(compiled?),
            types: cols.iter().map(|c| c.1).collect(),
            ordinality: ordinality.is_some(),
            schema: schema.clone(),
            shared: self.shared.clone(),
        };
        Ok(self.op(op, schema, vec![], cols))
    }

    fn project_set(&mut self, input: &Rel, calls: &[FunctionCall]) -> Result<Lowered> {
        let input = self.rel(input)?;
        let compiled: Result<Vec<Call>> =
            calls.iter().map(|c| self.call(c, Some(&input))).collect();
        let mut cols = input.cols.clone();
        let added = cols_of(calls.iter().flat_map(|c| &c.columns));
        let types = added.iter().map(|c| c.1).collect();
        cols.extend(added);
        let schema = schema_of(cols.iter().map(|c| c.1));
        let op = ProjectSetOp {
            calls: Arc::new(compiled?),
            types,
            schema: schema.clone(),
            shared: self.shared.clone(),
        };
        Ok(self.op(op, schema, vec![input.plan], cols))
    }
}
