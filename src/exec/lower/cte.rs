//! Common table expressions.
//!
//! One that is read in exactly one place, and only once, runs as a part of its reader, so that a
//! LIMIT above also ends it. All others are computed before the query that reads them; data-changing
//! ones always are, and to their end.

use meridian_sql::rel::{Column, Cte, Rel};
use meridian_sql::walk;
use meridian_types::{PgError, Result};

use super::{Lowered, Lowerer, cols_of};
use crate::ops::basic::UnionOp;
use crate::ops::cte::{MaterialOp, RecursiveOp, WithOp};
use crate::ops::schema_of;

/// How a CTE is read.
#[derive(Clone)]
pub(crate) enum CteUse {
    /// Its rows are in memory when its readers run.
    Kept,
    /// Its one reader takes this plan.
    Inline(Lowered),
}

/// References to a CTE: how many, and whether any may run more than once.
#[derive(Default)]
struct Uses {
    count: usize,
    repeated: bool,
}

fn count(rel: &Rel, id: u32, repeated: bool, uses: &mut Uses) {
    match rel {
        Rel::CteScan { cte, .. } if *cte == id => {
            uses.count += 1;
            uses.repeated |= repeated;
        }
        Rel::Apply { left, right, .. } | Rel::Join { lookup: true, left, right, .. } => {
            count(left, id, repeated, uses);
            count(right, id, true, uses);
        }
        Rel::With { ctes, body } => {
            for cte in ctes {
                count(&cte.plan, id, true, uses);
                if let Some((recursive, _)) = &cte.recursive {
                    count(recursive, id, true, uses);
                }
            }
            count(body, id, repeated, uses);
        }
        other => walk::each_input(other, &mut |r| count(r, id, repeated, uses)),
    }
    walk::each_expr(rel, &mut |e| {
        walk::visit(e, &mut |e| {
            if let Some(subquery) = walk::subquery_of(e) {
                count(&subquery.plan, id, true, uses);
            }
        });
    });
}

fn writes(rel: &Rel) -> bool {
    let mut found = matches!(rel, Rel::Modify(_));
    walk::each_input(rel, &mut |r| found |= writes(r));
    found
}

impl Lowerer {
    pub(crate) fn with(&mut self, ctes: &[Cte], body: &Rel) -> Result<Lowered> {
        let root = std::mem::take(&mut self.root);
        // What runs again and again computes its expressions anew each time.
        let working = self.working.len();
        if self.repeated > 0 {
            self.working.extend(ctes.iter().map(|c| c.id));
        }
        let (mut ids, mut children) = (vec![], vec![]);
        for (i, cte) in ctes.iter().enumerate() {
            let mut uses = Uses::default();
            count(body, cte.id, false, &mut uses);
            for later in &ctes[i + 1..] {
                count(&later.plan, cte.id, true, &mut uses);
                if let Some((recursive, _)) = &later.recursive {
                    count(recursive, cte.id, true, &mut uses);
                }
            }
            let changes = writes(&cte.plan);
            if uses.count == 0 && !changes {
                continue;
            }
            let plan = self.cte(cte)?;
            if uses.count == 1 && !uses.repeated && !changes {
                self.ctes.insert(cte.id, CteUse::Inline(plan));
            } else {
                self.ctes.insert(cte.id, CteUse::Kept);
                ids.push(cte.id);
                children.push(plan.plan);
            }
        }
        self.root = root;
        let body = self.rel(body)?;
        self.working.truncate(working);
        if ids.is_empty() {
            return Ok(body);
        }
        let (schema, cols) = (body.plan.schema(), body.cols);
        children.push(body.plan);
        let op = WithOp { ids, shared: self.shared.clone() };
        Ok(self.op(op, schema, children, cols))
    }

    /// The plan of a CTE; its columns are exactly the declared ones, in order.
    fn cte(&mut self, cte: &Cte) -> Result<Lowered> {
        let plan = self.rel(&cte.plan)?;
        let ids: Vec<_> = cte.columns.iter().map(|c| c.id).collect();
        let first = self.ordered(plan, &ids, &cte.columns)?;
        let Some((recursive, output)) = &cte.recursive else { return Ok(first) };
        let before = self.ctes.insert(cte.id, CteUse::Kept);
        self.nested += 1;
        self.repeated += 1;
        self.working.push(cte.id);
        let step = self.rel(recursive);
        self.working.pop();
        self.repeated -= 1;
        self.nested -= 1;
        match before {
            Some(before) => self.ctes.insert(cte.id, before),
            None => self.ctes.remove(&cte.id),
        };
        let step = self.ordered(step?, output, &cte.columns)?;
        let cols = first.cols.clone();
        let schema = first.plan.schema();
        let op = RecursiveOp {
            id: cte.id,
            distinct: (!cte.union_all).then(|| cols.iter().map(|c| c.1).enumerate().collect()),
            schema: schema.clone(),
            shared: self.shared.clone(),
        };
        Ok(self.op(op, schema, vec![first.plan, step.plan], cols))
    }

    fn ordered(
        &mut self,
        input: Lowered,
        ids: &[meridian_sql::expr::ColumnId],
        columns: &[Column],
    ) -> Result<Lowered> {
        let at: Result<Vec<usize>> = ids.iter().map(|id| input.at(*id)).collect();
        let cols = cols_of(columns);
        let schema = schema_of(cols.iter().map(|c| c.1));
        let op = UnionOp { columns: vec![at?], schema: schema.clone() };
        Ok(self.op(op, schema, vec![input.plan], cols))
    }

    pub(crate) fn cte_scan(&mut self, id: u32, columns: &[Column]) -> Result<Lowered> {
        let cols = cols_of(columns);
        self.note(columns);
        match self.ctes.get(&id).cloned() {
            Some(CteUse::Inline(plan)) => Ok(Lowered { plan: plan.plan, cols }),
            Some(CteUse::Kept) => {
                let schema = schema_of(cols.iter().map(|c| c.1));
                let op = MaterialOp { id, schema: schema.clone(), shared: self.shared.clone() };
                Ok(self.op(op, schema, vec![], cols))
            }
            None => Err(PgError::internal("a reference to an unknown common table expression")),
        }
    }
}
