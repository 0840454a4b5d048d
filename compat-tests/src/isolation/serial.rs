//! Is what was seen the same as in some serial order?
//!
//! SERIALIZABLE promises no more than that, so servers differ in which transaction they refuse, and
//! when. Where the text of a permutation differs from PostgreSQL's and nothing but refusals for
//! serialization was reported, the sessions that committed are run one after the other, in every
//! order: if one of them makes every step answer as it did, the promise was kept.

use anyhow::Result;

use super::run::{Play, Runner};
use super::spec::{Spec, Turn};

/// More sessions than this have too many orders.
const SESSIONS_MAX: usize = 4;

/// Does what was played fit a serial order of the sessions that committed?
pub fn fits(
    runner: &mut Runner<'_>,
    spec: &Spec,
    permutation: &[Turn],
    play: &Play,
) -> Result<bool> {
    let only_refusals = play
        .ended
        .iter()
        .filter_map(|step| step.code.as_deref())
        .all(|code| matches!(code, "40001" | "25P02"));
    if !only_refusals || play.ended.len() != permutation.len() {
        return Ok(false);
    }
    let failed = |session: usize| {
        play.ended.iter().any(|step| step.session == session && step.code.is_some())
    };
    let committed: Vec<usize> = (0..spec.sessions.len())
        .filter(|session| permutation.iter().any(|turn| turn.session == *session))
        .filter(|session| !failed(*session))
        .collect();
    if committed.len() > SESSIONS_MAX {
        return Ok(false);
    }
    for order in orders(&committed) {
        let of = |session: usize| permutation.iter().filter(move |turn| turn.session == session);
        let serial: Vec<Turn> = order
            .iter()
            .flat_map(|session| of(*session))
            .map(|turn| Turn { blockers: Vec::new(), ..turn.clone() })
            .collect();
        let again = runner.run(&serial)?;
        if committed.iter().all(|session| answers(play, *session) == answers(&again, *session)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn answers(play: &Play, session: usize) -> Vec<&str> {
    let steps = play.ended.iter().filter(|step| step.session == session);
    steps.map(|step| step.text.as_str()).collect()
}

/// All orders of some sessions.
fn orders(sessions: &[usize]) -> Vec<Vec<usize>> {
    if sessions.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for first in sessions {
        let rest: Vec<usize> = sessions.iter().copied().filter(|s| s != first).collect();
        for mut order in orders(&rest) {
            order.insert(0, *first);
            all.push(order);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_all_orders() {
        assert_eq!(orders(&[1, 2]), [[1, 2], [2, 1]]);
        assert_eq!(orders(&[1, 2, 3]).len(), 6);
    }
}
