//! Whole rows of the padded side of an outer join.
//!
//! `t2` in `t1 LEFT JOIN t2` is NULL where the join found no row, which a row of NULLs is not. So an
//! item that a join may pad gets a *marker*: a column that is true in each of its own rows. It is
//! put beside the item's columns only when the whole row is asked for, which is known when all of a
//! query has been bound.

use meridian_types::oid::BOOL;
use meridian_types::{Datum, PgType};

use super::Binder;
use super::scope::ScopeItem;
use super::select::Parts;
use crate::expr::{ColumnId, Expr, ExprKind};
use crate::rel::{Column, JoinKind, Rel};
use crate::walk;

impl Binder<'_> {
    /// Notes which items of a join it may pad; the first `left` of them are its left side's.
    pub(super) fn note_padding(&mut self, kind: JoinKind, left: usize, items: &mut [ScopeItem]) {
        let (of_left, of_right) = items.split_at_mut(left.min(items.len()));
        let mut note = |items: &mut [ScopeItem]| {
            for item in items.iter_mut().filter(|i| i.padded.is_none()) {
                item.padded = Some(self.new_column_id());
            }
        };
        if matches!(kind, JoinKind::Right | JoinKind::Full) {
            note(of_left);
        }
        if matches!(kind, JoinKind::Left | JoinKind::Full) {
            note(of_right);
        }
    }

    /// The row of an item of this level, NULL where a join padded it.
    pub(super) fn padded_row(&mut self, level: usize, item: &ScopeItem, row: Expr) -> Expr {
        let own = item.columns.iter().find_map(|c| match c.expr.kind {
            ExprKind::Column(id) if !c.system => Some(id),
            _ => None,
        });
        let (Some(marker), Some(own)) = (item.padded, own) else { return row };
        self.scopes[level].markers.push((marker, own));
        if level + 1 < self.scopes.len() {
            self.outer_log.push((level, marker));
        }
        let ty = row.ty;
        let seen = Expr::column(marker, PgType::new(BOOL));
        let padded = Expr { kind: ExprKind::IsNull(Box::new(seen)), ty: PgType::new(BOOL) };
        let whens = vec![(padded, Expr::constant(Datum::Null, ty))];
        Expr { kind: ExprKind::Case { whens, default: Some(Box::new(row)) }, ty }
    }

    /// Gives FROM the markers that were asked for.
    pub(super) fn install_markers(&mut self, parts: &mut Parts) {
        let markers = std::mem::take(&mut self.scope().markers);
        if markers.is_empty() {
            return;
        }
        for (marker, own) in &markers {
            install(&mut parts.from, *marker, *own);
        }
        // Above groups only the columns grouped by are left.
        if parts.grouped {
            parts.each_expr_above_groups(&mut |e| strip(e, &markers));
        }
    }
}

/// Wraps the side of the innermost join that gives `own`.
fn install(rel: &mut Rel, marker: ColumnId, own: ColumnId) {
    match rel {
        Rel::Join { left, right, .. } | Rel::Apply { left, right, .. } => {
            let side = if walk::output_set(left).contains(&own) { left } else { right };
            install(side, marker, own);
        }
        rel => {
            let mut exprs: Vec<(Column, Expr)> = walk::output(rel)
                .into_iter()
                .map(|c| {
                    let e = Expr::column(c.id, c.ty);
                    (c, e)
                })
                .collect();
            if exprs.iter().any(|(c, _)| c.id == marker) {
                return;
            }
            let ty = PgType::new(BOOL);
            let column = Column { id: marker, name: "marker".into(), ty };
            exprs.push((column, Expr::constant(Datum::Bool(true), ty)));
            let input = Box::new(walk::take(rel));
            *rel = Rel::Project { input, exprs };
        }
    }
}

fn strip(e: &mut Expr, markers: &[(ColumnId, ColumnId)]) {
    walk::rewrite(e, &mut |e| {
        let ExprKind::Case { whens, default: Some(row) } = &mut e.kind else { return };
        let [(Expr { kind: ExprKind::IsNull(seen), .. }, _)] = whens.as_slice() else { return };
        if let ExprKind::Column(id) = seen.kind
            && markers.iter().any(|(marker, _)| *marker == id)
        {
            let row = std::mem::replace(&mut **row, Expr::constant(Datum::Null, e.ty));
            *e = row;
        }
    });
}
