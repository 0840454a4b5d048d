//! Common table expressions that need not be kept: read once, no side effects, not recursive.
//!
//! A CTE declared MATERIALIZED, or read more than once, is run once and its rows are kept, as in
//! PostgreSQL. One that nobody reads is not run at all, unless it writes.

use std::sync::Arc;

use crate::expr::Expr;
use crate::rel::{Cte, Rel};
use crate::walk;

/// Puts CTEs in place where that is right.
pub(super) fn inline(mut rel: Rel) -> Rel {
    walk::each_input_mut(&mut rel, &mut |r| {
        let taken = walk::take(r);
        *r = inline(taken);
    });
    let Rel::With { ctes, mut body } = rel else { return rel };
    let mut kept: Vec<Cte> = Vec::new();
    let mut rest = ctes.into_iter();
    while let Some(cte) = rest.next() {
        let mut later: Vec<Cte> = rest.collect();
        let mut reads = 0;
        later.iter_mut().for_each(|c| each_cte_rel(c, &mut |r| count(r, cte.id, &mut reads)));
        count(&mut body, cte.id, &mut reads);
        let plain = cte.recursive.is_none()
            && cte.materialized != Some(true)
            && !walk::rel_is_volatile(&cte.plan);
        if reads == 0 && plain {
            // Nobody reads it.
        } else if plain && reads == 1 {
            for c in &mut later {
                each_cte_rel(c, &mut |r| replace(r, &cte));
            }
            replace(&mut body, &cte);
        } else {
            kept.push(cte);
        }
        rest = later.into_iter();
    }
    if kept.is_empty() { *body } else { Rel::With { ctes: kept, body } }
}

fn each_cte_rel(cte: &mut Cte, f: &mut dyn FnMut(&mut Rel)) {
    f(&mut cte.plan);
    if let Some((r, _)) = &mut cte.recursive {
        // Read once for each step: a CTE read there counts as read often.
        f(r);
        f(r);
    }
}

fn count(rel: &mut Rel, id: u32, reads: &mut usize) {
    if let Rel::CteScan { cte, .. } = rel
        && *cte == id
    {
        *reads += 1;
    }
    // The inner side of an Apply and a correlated sub-query run again and again.
    if let Rel::Apply { right, .. } = rel {
        count(right, id, reads);
    }
    walk::each_input_mut(rel, &mut |r| count(r, id, reads));
    walk::each_expr_mut(rel, &mut |e| {
        walk::rewrite(e, &mut |e| {
            if let Some(sub) = walk::subquery_of_mut(e) {
                count(Arc::make_mut(&mut sub.plan), id, reads);
            }
        });
    });
}

fn replace(rel: &mut Rel, cte: &Cte) {
    if let Rel::CteScan { cte: id, columns } = rel
        && *id == cte.id
    {
        let exprs = columns
            .iter()
            .zip(&cte.columns)
            .map(|(outer, inner)| (outer.clone(), Expr::column(inner.id, inner.ty)))
            .collect();
        *rel = Rel::Project { input: Box::new(cte.plan.clone()), exprs };
        return;
    }
    walk::each_input_mut(rel, &mut |r| replace(r, cte));
    walk::each_expr_mut(rel, &mut |e| {
        walk::rewrite(e, &mut |e| {
            if let Some(sub) = walk::subquery_of_mut(e) {
                replace(Arc::make_mut(&mut sub.plan), cte);
            }
        });
    });
}
