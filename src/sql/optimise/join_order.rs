//! The order of inner joins.
//!
//! A cluster of inner joins is taken apart into leaves and conditions and put together again from
//! the smallest leaf, each time adding the leaf that keeps the result smallest and is connected by
//! a condition. The new leaf goes to the right, where a lookup by its key can reach it.

use super::keys;
use super::stats::estimate;
use crate::expr::Expr;
use crate::rel::{JoinKind, Rel};
use crate::walk::{self, ColumnSet};

/// Most leaves that are reordered.
const LEAVES_MAX: usize = 64;

/// Reorders every cluster of a tree.
pub(super) fn relation(mut rel: Rel) -> Rel {
    if matches!(rel, Rel::Join { kind: JoinKind::Inner, lookup: false, .. }) {
        let (mut leaves, mut on) = (Vec::new(), Vec::new());
        flatten(rel, &mut leaves, &mut on);
        let leaves: Vec<Rel> = leaves.into_iter().map(relation).collect();
        return build(leaves, on);
    }
    walk::each_input_mut(&mut rel, &mut |r| {
        let taken = walk::take(r);
        *r = relation(taken);
    });
    rel
}

fn flatten(rel: Rel, leaves: &mut Vec<Rel>, conditions: &mut Vec<Expr>) {
    match rel {
        Rel::Join { kind: JoinKind::Inner, left, right, on, lookup: false }
            if leaves.len() < LEAVES_MAX && !on.iter().any(walk::is_volatile) =>
        {
            flatten(*left, leaves, conditions);
            flatten(*right, leaves, conditions);
            conditions.extend(on);
        }
        leaf => leaves.push(leaf),
    }
}

fn build(mut leaves: Vec<Rel>, mut on: Vec<Expr>) -> Rel {
    let smallest = (0..leaves.len())
        .min_by(|a, b| start_rank(&leaves[*a]).total_cmp(&start_rank(&leaves[*b])))
        .unwrap_or(0);
    if leaves.is_empty() {
        return Rel::Values { columns: vec![], rows: vec![vec![]] };
    }
    let mut tree = leaves.remove(smallest);
    let mut made = walk::output_set(&tree);
    while !leaves.is_empty() {
        let next = (0..leaves.len())
            .min_by(|a, b| {
                let rank = |i: usize| rank(&tree, &made, &leaves[i], &on);
                rank(*a).total_cmp(&rank(*b))
            })
            .unwrap_or(0);
        let leaf = leaves.remove(next);
        made.extend(walk::output_set(&leaf));
        let all_made = |e: &Expr, later: &[Rel]| {
            let used = walk::expr_columns(e);
            !later.iter().any(|l| walk::output_set(l).iter().any(|c| used.contains(c)))
        };
        let (now, later): (Vec<Expr>, Vec<Expr>) =
            on.into_iter().partition(|e| all_made(e, &leaves));
        on = later;
        tree = Rel::Join {
            kind: JoinKind::Inner,
            left: Box::new(tree),
            right: Box::new(leaf),
            on: now,
            lookup: false,
        };
    }
    walk::filtered(tree, on)
}

fn start_rank(leaf: &Rel) -> f64 {
    estimate(leaf).rows
}

/// Expected rows after adding the leaf; a leaf without a condition comes last.
fn rank(tree: &Rel, made: &ColumnSet, leaf: &Rel, on: &[Expr]) -> f64 {
    let own = walk::output_set(leaf);
    let connecting: Vec<&Expr> = on
        .iter()
        .filter(|e| {
            let used = walk::expr_columns(e);
            used.iter().any(|c| own.contains(c))
                && used.iter().any(|c| made.contains(c))
                && used.iter().all(|c| own.contains(c) || made.contains(c))
        })
        .collect();
    let (l, r) = (estimate(tree).rows, estimate(leaf).rows);
    if connecting.is_empty() {
        return 1e12 + l * r;
    }
    if let Rel::Scan { table, columns, filter, .. } = leaf {
        let all: Vec<Expr> = filter.iter().chain(connecting.iter().copied()).cloned().collect();
        if keys::one_by_key(table, columns, &all) {
            return l;
        }
    }
    if connecting.iter().any(|e| keys::equality(e).is_some()) { l.max(r) } else { l * r }
}
