//! A follower that reads at a closed timestamp reads what the leaseholder would: whatever is committed at or
//! below it has been applied in the copy, and nothing is any more.

use crate::history::History;

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    found.extend(history.wrong_copies.iter().cloned());
}
