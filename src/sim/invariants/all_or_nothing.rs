//! Atomicity: of each transaction's appends all are there at the end or none, and none of one that
//! failed or of a part that was rolled back to a savepoint.

use crate::history::{Event, History};

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    for (at, txn) in history.txns.iter().enumerate() {
        let (mut there, mut missing) = (0, 0);
        for event in &txn.events {
            match event {
                Event::Append { list, value } => match history.lists[list].contains(value) {
                    true => there += 1,
                    false => missing += 1,
                },
                Event::Undone { list, value } if history.lists[list].contains(value) => {
                    found.push(format!("T{at} rolled {value} back; list {list} has it"));
                }
                _ => {}
            }
        }
        if there > 0 && missing > 0 {
            found.push(format!("T{at}: {there} appends are there and {missing} are not"));
        }
        if there > 0 && !txn.may_have_committed() {
            found.push(format!("T{at} ended as {:?} but its appends are there", txn.outcome));
        }
    }
}
