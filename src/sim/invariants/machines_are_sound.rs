//! The machines' own invariants (`LockTable::check`, `Sequencer::check`), asked after every step.

use crate::history::History;

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    found.extend(history.broken_machines.iter().cloned());
}
