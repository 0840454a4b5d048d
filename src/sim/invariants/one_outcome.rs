//! No transaction is both committed and aborted, or committed at two timestamps: whoever decides it, in
//! whichever range, and whatever its client was told (J. Gray, "Notes on Data Base Operating Systems",
//! 1978: atomic commitment).

use crate::history::History;

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    found.extend(history.contradictions.iter().cloned());
}
