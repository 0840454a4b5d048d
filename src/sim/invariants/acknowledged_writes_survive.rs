//! Durability: what a client was told is committed is there at the end, whatever power failures came.
//! (Design 2.7: the log is synced before the acknowledgement; the engine is rebuilt from it.)

use crate::history::{Event, History};

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    for (at, txn) in history.txns.iter().enumerate().filter(|(_, txn)| txn.committed()) {
        for event in &txn.events {
            if let Event::Append { list, value } = event
                && !history.lists[list].contains(value)
            {
                found.push(format!("T{at} appended {value} to list {list}; it is lost"));
            }
        }
    }
}
