//! No node has two copies of a range.

use std::collections::BTreeSet;

use super::Change;

pub(super) fn check(change: &Change) -> Option<String> {
    let distinct: BTreeSet<_> = change.after.iter().collect();
    let doubled = distinct.len() < change.after.len();
    doubled.then(|| format!("{}: voters {:?}", change.range, change.after))
}
