//! No two committed transactions replace the same value of a register: the second would have
//! overwritten the first without having seen it (P4 in Berenson et al., "A Critique of ANSI SQL
//! Isolation Levels"). Locked reads forbid it at every level.

use std::collections::BTreeMap;

use crate::history::{Event, History};

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    let mut replaced_by: BTreeMap<(u8, u32), usize> = BTreeMap::new();
    for (at, txn) in history.txns.iter().enumerate().filter(|(_, txn)| txn.committed()) {
        for event in &txn.events {
            if let Event::Write { register, previous, .. } = event
                && let Some(other) = replaced_by.insert((*register, *previous), at)
            {
                found.push(format!(
                    "T{other} and T{at} both replaced {previous} in register {register}"
                ));
            }
        }
    }
}
