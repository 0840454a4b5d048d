//! Each transaction got at least its isolation level, by Adya's definitions over the history
//! (A. Adya, "Weak Consistency", 1999; K. Kingsbury, P. Alvaro, "Elle", 2020). See [`crate::checker`].

use crate::checker;
use crate::history::History;

pub(super) fn check(history: &History, found: &mut Vec<String>) {
    found.extend(checker::forbidden(history).into_iter().map(|anomaly| anomaly.to_string()));
}
