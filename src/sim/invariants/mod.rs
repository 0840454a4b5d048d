//! What must hold of every run; one property a file, each shown once to fire (see `tests.rs`).

mod acknowledged_writes_survive;
mod all_or_nothing;
mod copies_agree;
mod everybody_finishes;
mod isolation_levels;
mod machines_are_sound;
mod money_is_conserved;
mod no_lost_update;
mod one_outcome;
mod prepared_transactions_commit;
mod read_committed_never_retries;
mod snapshots_are_recent;

use crate::history::History;

/// A broken property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property: the name of its file.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

/// A property: adds a sentence for every place where it doesn't hold.
type Check = fn(&History, &mut Vec<String>);

const ALL: [(&str, Check); 12] = [
    ("acknowledged_writes_survive", acknowledged_writes_survive::check),
    ("all_or_nothing", all_or_nothing::check),
    ("copies_agree", copies_agree::check),
    ("everybody_finishes", everybody_finishes::check),
    ("isolation_levels", isolation_levels::check),
    ("machines_are_sound", machines_are_sound::check),
    ("money_is_conserved", money_is_conserved::check),
    ("no_lost_update", no_lost_update::check),
    ("one_outcome", one_outcome::check),
    ("prepared_transactions_commit", prepared_transactions_commit::check),
    ("read_committed_never_retries", read_committed_never_retries::check),
    ("snapshots_are_recent", snapshots_are_recent::check),
];

/// Judges a history by all properties.
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (invariant, check) in ALL {
        let mut found = Vec::new();
        check(history, &mut found);
        violations.extend(found.into_iter().map(|what| Violation { invariant, what }));
    }
    violations
}
