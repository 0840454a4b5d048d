//! Where the rows of an inner plan are kept from one run to the next.
//!
//! See [`crate::ops::spool`]. A relation below something that runs more than once is kept when it is
//! *settled*: it reads no column of an outer row, no working table, and nothing volatile. The
//! conditions that do read the outer row are taken off it first; of those, equalities become the
//! spool's keys.

use meridian_sql::expr::Expr;
use meridian_sql::rel::{Access, Rel};
use meridian_sql::walk;
use meridian_types::Result;

use super::join::{KeyForm, sides};
use super::{Lowered, Lowerer};
use crate::expr::Eval;
use crate::ops::spool::SpoolOp;

impl Lowerer {
    /// The relation over a spool, if it is one for that.
    pub(crate) fn spooled(&mut self, rel: &Rel) -> Result<Option<Lowered>> {
        if self.repeated == 0 {
            return Ok(None);
        }
        if let Some((base, rest)) = self.separated(rel) {
            return self.spool(&base, rest).map(Some);
        }
        let cheap = matches!(rel, Rel::Values { .. } | Rel::CteScan { .. });
        if cheap || !self.settled(rel) {
            return Ok(None);
        }
        self.spool(rel, vec![]).map(Some)
    }

    fn settled(&self, rel: &Rel) -> bool {
        walk::free_columns(rel).is_empty() && !walk::rel_is_volatile(rel) && !self.works(rel)
    }

    /// Whether it reads the working table of a recursion under way.
    pub(super) fn works(&self, rel: &Rel) -> bool {
        let mut found = matches!(rel, Rel::CteScan { cte, .. } if self.working.contains(cte));
        walk::each_input(rel, &mut |r| found |= self.works(r));
        walk::each_expr(rel, &mut |e| {
            walk::visit(e, &mut |e| {
                found |= walk::subquery_of(e).is_some_and(|s| self.works(&s.plan));
            });
        });
        found
    }

    /// A settled relation and the conditions on it that are not.
    fn separated(&self, rel: &Rel) -> Option<(Rel, Vec<Expr>)> {
        let split = |filter: &[Expr], own: &walk::ColumnSet| -> (Vec<Expr>, Vec<Expr>) {
            filter.iter().cloned().partition(|e| {
                let plain = !walk::is_volatile(e) && !walk::has_subquery(e);
                plain && walk::expr_columns(e).iter().all(|c| own.contains(c))
            })
        };
        let own = || walk::output_set(rel);
        let (base, rest) = match rel {
            Rel::Scan { table, columns, filter, access } => {
                let (filter, rest) = split(filter, &own());
                let (table, columns, access) = (table.clone(), columns.clone(), access.clone());
                (Rel::Scan { table, columns, filter, access }, rest)
            }
            Rel::Virtual { table, columns, filter } => {
                let (filter, rest) = split(filter, &own());
                let (table, columns) = (table.clone(), columns.clone());
                (Rel::Virtual { table, columns, filter }, rest)
            }
            Rel::Filter { input, predicates } if !matches!(**input, Rel::Values { .. }) => {
                let (inner, rest) = split(predicates, &own());
                (walk::filtered((**input).clone(), inner), rest)
            }
            _ => return None,
        };
        (!rest.is_empty() && self.settled(&base)).then_some((base, rest))
    }

    /// A settled relation, kept, under these conditions.
    fn spool(&mut self, base: &Rel, conditions: Vec<Expr>) -> Result<Lowered> {
        let repeated = std::mem::take(&mut self.repeated);
        let lowered = self.rel(base);
        self.repeated = repeated;
        let input = lowered?;
        let own = walk::output_set(base);
        let inner = |e: &Expr| {
            let columns = walk::expr_columns(e);
            !columns.is_empty() && columns.iter().all(|c| own.contains(c))
        };
        let outer = |e: &Expr| !walk::expr_columns(e).iter().any(|c| own.contains(c));
        let (mut keys, mut equalities, mut rest) = (vec![], vec![], vec![]);
        for condition in conditions {
            let plain = !walk::is_volatile(&condition) && !walk::has_subquery(&condition);
            let pair = sides(&condition).filter(|_| plain).and_then(|(a, b, form)| {
                let straight = (inner(a) && outer(b)).then_some((a, b, form));
                straight.or((inner(b) && outer(a)).then_some((b, a, form)))
            });
            match pair {
                Some((own, other, form)) => {
                    let formed = |e: Eval| match form {
                        KeyForm::Native => e,
                        KeyForm::Widened => e.widen(),
                        KeyForm::SortKey => e.sort_key(),
                    };
                    keys.push((formed(self.expr(own, &input)?), formed(self.free(other)?)));
                    equalities.push(self.expr(&condition, &input)?);
                }
                None => rest.push(condition),
            }
        }
        let schema = input.plan.schema();
        let op = SpoolOp {
            id: self.spools,
            keys,
            conditions: equalities,
            schema: schema.clone(),
            shared: self.shared.clone(),
        };
        self.spools += 1;
        let kept = self.op(op, schema, vec![input.plan], input.cols);
        self.filter(kept, &rest)
    }
}

/// Whether a scan seeks keys that the outer row gives.
pub(crate) fn seeks(rel: &Rel) -> bool {
    let Rel::Scan { columns, access: Access::Index { spans, .. }, .. } = rel else { return false };
    let own = |id| columns.iter().any(|(c, _)| c.id == id);
    let reads = |e: &Expr| walk::expr_columns(e).into_iter().any(|id| !own(id));
    spans.iter().any(|span| {
        let bounds = [&span.lower, &span.upper].into_iter().flatten().map(|(e, _)| e);
        span.prefix.iter().chain(bounds).any(reads)
    })
}
