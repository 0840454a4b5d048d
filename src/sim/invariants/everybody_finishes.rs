//! Liveness: no lost wake-up, no undiscovered deadlock, no lock that outlives its owner.

use crate::history::History;

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    found.extend(history.stuck.iter().cloned());
}
