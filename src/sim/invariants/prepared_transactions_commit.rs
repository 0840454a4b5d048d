//! What is prepared can be committed: a participant that has voted may not go back on it (J. Gray, "Notes on Data
//! Base Operating Systems", 1978); PostgreSQL's PREPARE TRANSACTION promises the same.

use crate::history::History;

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    found.extend(history.broken_promises.iter().cloned());
}
