//! The bank: transfers move money and make none, so every sum over one snapshot is the same
//! (Jepsen's bank test). In READ COMMITTED, too: a statement reads one snapshot; but there a later
//! statement sees own transfers, which conserve the sum as well.

use crate::history::{Event, History};

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    for (at, txn) in history.txns.iter().enumerate() {
        // A transaction that is rolled back may have met what made it fail.
        for event in txn.events.iter().filter(|_| txn.committed()) {
            if let Event::Total(total) = event
                && *total != history.money
            {
                found.push(format!("T{at} counted {total} instead of {}", history.money));
            }
        }
    }
    if history.money_at_end != history.money {
        found.push(format!("at the end {} of {}", history.money_at_end, history.money));
    }
}
