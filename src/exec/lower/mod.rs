//! From the algebra to operators.
//!
//! Every operator's output has columns at positions; [`Lowered`] remembers which column id is where.
//! Operators may carry more columns than the relation they stand for (sort and join keys): nobody
//! asks for those by id. A column that no input has is an outer one; it gets a *slot*, which the
//! operator that owns the column fills before it runs the inner plan.

mod aggregate;
mod cte;
mod join;
mod physical;
mod relation;
mod spool;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_physical_plan::ExecutionPlan;
use meridian_catalog::Catalog;
use meridian_sql::expr::{ColumnId, Expr, Subquery};
use meridian_sql::rel::{Column, Rel};
use meridian_sql::walk;
use meridian_types::{PgError, PgType, Result};

use crate::context::Node;
use crate::expr::{Eval, Scope, compile};
use crate::ops::basic::{Pace, ProjectOp};
use crate::ops::{OpExec, Operator, schema_of};
use crate::shared::{Shared, SubPlan};

/// A column that no one asks for by id.
pub(crate) const HIDDEN: ColumnId = ColumnId(u32::MAX - 1);

/// An operator and its columns by position.
#[derive(Clone)]
pub(crate) struct Lowered {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) cols: Vec<(ColumnId, PgType)>,
}

impl Lowered {
    /// Position of a column.
    pub(crate) fn at(&self, id: ColumnId) -> Result<usize> {
        self.cols
            .iter()
            .position(|(c, _)| *c == id)
            .ok_or_else(|| PgError::internal(format!("column {} is not in the plan", id.0)))
    }

    /// Position and type of a column.
    pub(crate) fn key(&self, id: ColumnId) -> Result<(usize, PgType)> {
        let at = self.at(id)?;
        Ok((at, self.cols[at].1))
    }

    pub(crate) fn map(&self) -> HashMap<ColumnId, usize> {
        self.cols.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect()
    }
}

/// Lowers one statement.
pub(crate) struct Lowerer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: Arc<Node>,
    pub(crate) catalog: Arc<Catalog>,
    slots: HashMap<ColumnId, usize>,
    types: HashMap<ColumnId, PgType>,
    subplans: Vec<Option<SubPlan>>,
    ctes: HashMap<u32, cte::CteUse>,
    /// Inside something that runs more than once.
    nested: usize,
    /// Inside something that runs once for each of many rows, so that rows are worth keeping.
    repeated: usize,
    /// Spools made so far.
    spools: usize,
    /// CTEs whose rows are not the same in each run: recursive ones whose recursive term is being
    /// lowered, and those of a query that runs more than once.
    working: Vec<u32>,
    /// The relation lowered next is the statement's own.
    root: bool,
    /// Numbers of the relations to be measured, by address.
    meters: HashMap<usize, usize>,
}

/// The scope of one input.
pub(crate) struct InputScope<'l, 'm> {
    lowerer: &'l mut Lowerer,
    map: &'m HashMap<ColumnId, usize>,
}

impl Scope for InputScope<'_, '_> {
    fn input(&self, id: ColumnId) -> Option<usize> {
        self.map.get(&id).copied()
    }

    fn outer(&mut self, id: ColumnId) -> Result<usize> {
        Ok(self.lowerer.slot(id))
    }

    fn subplan(
        &mut self,
        subquery: &Subquery,
        enough: usize,
    ) -> Result<(usize, Vec<(ColumnId, PgType)>)> {
        self.lowerer.subplan(subquery, enough)
    }
}

impl Lowerer {
    pub(crate) fn new(shared: Arc<Shared>, node: Arc<Node>, catalog: Arc<Catalog>) -> Lowerer {
        Lowerer {
            shared,
            node,
            catalog,
            slots: HashMap::new(),
            types: HashMap::new(),
            subplans: vec![],
            ctes: HashMap::new(),
            nested: 0,
            repeated: 0,
            spools: 0,
            working: vec![],
            root: true,
            meters: HashMap::new(),
        }
    }

    /// Has every relation measured. A relation's number is its place in the walk from the root.
    pub(crate) fn measure(&mut self, rel: &Rel) {
        self.meters.insert(std::ptr::from_ref(rel).addr(), self.meters.len());
        walk::each_input(rel, &mut |r| self.measure(r));
    }

    /// The number of a relation that is to be measured.
    pub(crate) fn meter(&self, rel: &Rel) -> Option<usize> {
        self.meters.get(&std::ptr::from_ref(rel).addr()).copied()
    }

    /// Whether anything is measured.
    pub(crate) fn measures(&self) -> bool {
        !self.meters.is_empty()
    }

    /// Lowers a whole statement.
    pub(crate) fn query(&mut self, rel: &Rel) -> Result<Lowered> {
        let lowered = self.rel(rel)?;
        let subplans: Option<Vec<SubPlan>> =
            std::mem::take(&mut self.subplans).into_iter().collect();
        let subplans = subplans.ok_or_else(|| PgError::internal("a sub-plan was not lowered"))?;
        self.shared.set_subplans(subplans);
        Ok(lowered)
    }

    /// Whether this is the statement's outermost relation; asked once.
    pub(crate) fn at_root(&mut self) -> bool {
        std::mem::take(&mut self.root) && self.nested == 0
    }

    pub(crate) fn slot(&mut self, id: ColumnId) -> usize {
        let next = self.slots.len();
        *self.slots.entry(id).or_insert(next)
    }

    fn subplan(
        &mut self,
        subquery: &Subquery,
        enough: usize,
    ) -> Result<(usize, Vec<(ColumnId, PgType)>)> {
        let number = self.subplans.len();
        self.subplans.push(None);
        let free = walk::free_columns(&subquery.plan);
        self.nested += 1;
        // Without outer columns it is run once and its rows are kept.
        let once = free.is_empty() && !self.works(&subquery.plan);
        let repeated = self.repeated;
        self.repeated = if once { 0 } else { repeated + 1 };
        let lowered = self.rel(&subquery.plan);
        self.nested -= 1;
        self.repeated = repeated;
        let lowered = lowered?;
        let mut outer = vec![];
        for id in free {
            let ty = self.types.get(&id).copied().unwrap_or(PgType::new(0));
            outer.push((id, ty));
        }
        let slots = outer.iter().map(|(id, _)| self.slot(*id)).collect();
        let output: Result<Vec<_>> = subquery.output.iter().map(|id| lowered.key(*id)).collect();
        let plan = SubPlan { plan: lowered.plan, outer: slots, output: output?, enough };
        self.subplans[number] = Some(plan);
        Ok((number, outer))
    }

    /// Compiles an expression over an input.
    pub(crate) fn expr(&mut self, expr: &Expr, input: &Lowered) -> Result<Eval> {
        self.over(expr, &input.map())
    }

    /// Compiles an expression over columns at these positions.
    pub(crate) fn over(&mut self, expr: &Expr, map: &HashMap<ColumnId, usize>) -> Result<Eval> {
        compile(expr, &mut InputScope { lowerer: self, map })
    }

    /// Compiles several over an input.
    pub(crate) fn exprs<'a>(
        &mut self,
        exprs: impl IntoIterator<Item = &'a Expr>,
        input: &Lowered,
    ) -> Result<Vec<Eval>> {
        let map = input.map();
        let mut scope = InputScope { lowerer: self, map: &map };
        exprs.into_iter().map(|e| compile(e, &mut scope)).collect()
    }

    /// Compiles expressions that read no input.
    pub(crate) fn free(&mut self, expr: &Expr) -> Result<Eval> {
        let map = HashMap::new();
        compile(expr, &mut InputScope { lowerer: self, map: &map })
    }

    /// Wraps an operator of ours.
    pub(crate) fn op(
        &mut self,
        op: impl Operator + 'static,
        schema: SchemaRef,
        children: Vec<Arc<dyn ExecutionPlan>>,
        cols: Vec<(ColumnId, PgType)>,
    ) -> Lowered {
        self.types.extend(cols.iter().copied());
        Lowered { plan: OpExec::new(op, schema, children), cols }
    }

    pub(crate) fn note(&mut self, columns: &[Column]) {
        self.note_ids(columns.iter().map(|c| (c.id, c.ty)));
    }

    pub(crate) fn note_ids(&mut self, columns: impl IntoIterator<Item = (ColumnId, PgType)>) {
        self.types.extend(columns);
    }

    /// The input with more columns behind its own.
    pub(crate) fn extend(&mut self, input: Lowered, extra: Vec<Eval>) -> Lowered {
        self.extend_at(input, extra, Pace::Batch)
    }

    pub(crate) fn extend_at(&mut self, input: Lowered, extra: Vec<Eval>, pace: Pace) -> Lowered {
        if extra.is_empty() {
            return input;
        }
        let mut exprs: Vec<Eval> =
            input.cols.iter().enumerate().map(|(i, (_, ty))| Eval::input(i, *ty)).collect();
        let mut cols = input.cols;
        cols.extend(extra.iter().map(|e| (HIDDEN, e.ty)));
        exprs.extend(extra);
        let schema = schema_of(cols.iter().map(|c| c.1));
        let op = ProjectOp { exprs, schema: schema.clone(), pace, shared: self.shared.clone() };
        self.op(op, schema, vec![input.plan], cols)
    }
}

/// (id, type) of columns.
pub(crate) fn cols_of<'a>(
    columns: impl IntoIterator<Item = &'a Column>,
) -> Vec<(ColumnId, PgType)> {
    columns.into_iter().map(|c| (c.id, c.ty)).collect()
}
