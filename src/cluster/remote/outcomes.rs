//! What became of the commits that other nodes asked for, for askers whose connection broke meanwhile.

use std::collections::{BTreeMap, VecDeque};

use meridian_kv::api::{KvError, Timestamp};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::commit::{CommitError, Outcome};

/// A transaction's number and the number of the try.
pub(crate) type Attempt = (u64, u32);

/// How a commit ended.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Committed(Timestamp),
    Refused(KvError),
    /// Not made, and to be tried at another node.
    Moved,
    Unknown,
}

impl Fate {
    pub(crate) fn of(outcome: Outcome) -> Fate {
        match outcome {
            Ok(ts) => Fate::Committed(ts),
            Err(CommitError::Refused(error)) => Fate::Refused(error),
            Err(CommitError::Moved) => Fate::Moved,
            Err(CommitError::Unknown(_)) => Fate::Unknown,
        }
    }
}

enum State {
    /// Under way; these want to know.
    Flying(Vec<oneshot::Sender<Fate>>),
    Ended(Fate),
}

/// Outcomes remembered. Twice as many cost 6 MiB; with half of them, an asker that was cut off for some
/// seconds under load may find its outcome forgotten.
const REMEMBERED: usize = 65_536;

#[derive(Default)]
struct Known {
    all: BTreeMap<Attempt, State>,
    order: VecDeque<Attempt>,
}

/// The commits of other nodes' transactions.
#[derive(Default)]
pub(crate) struct Outcomes(Mutex<Known>);

impl Outcomes {
    /// A commit begins, unless its outcome is settled.
    pub(crate) fn begin(&self, attempt: Attempt) -> Option<Fate> {
        let mut known = self.0.lock();
        match known.all.get(&attempt) {
            Some(State::Ended(fate)) => return Some(fate.clone()),
            // The request has come twice; the first one answers for both.
            Some(State::Flying(_)) => return Some(Fate::Unknown),
            None => {}
        }
        known.insert(attempt, State::Flying(Vec::new()));
        None
    }

    /// A commit has ended.
    pub(crate) fn finish(&self, attempt: Attempt, fate: Fate) {
        let waiting = {
            let mut known = self.0.lock();
            let before = known.all.insert(attempt, State::Ended(fate.clone()));
            match before {
                Some(State::Flying(waiting)) => waiting,
                _ => Vec::new(),
            }
        };
        for asker in waiting {
            // An asker that has gone asks again.
            let _ = asker.send(fate.clone());
        }
    }

    /// The outcome of a commit, waiting for it while it is under way. `None`: there was no such commit,
    /// and there won't be.
    pub(crate) async fn settle(&self, attempt: Attempt) -> Option<Fate> {
        let ending = {
            let mut known = self.0.lock();
            match known.all.get_mut(&attempt) {
                Some(State::Ended(fate)) => return Some(fate.clone()),
                Some(State::Flying(waiting)) => {
                    let (tell, ending) = oneshot::channel();
                    waiting.push(tell);
                    ending
                }
                None => {
                    known.insert(attempt, State::Ended(Fate::Moved));
                    return None;
                }
            }
        };
        Some(ending.await.unwrap_or(Fate::Unknown))
    }
}

impl Known {
    fn insert(&mut self, attempt: Attempt, state: State) {
        self.all.insert(attempt, state);
        self.order.push_back(attempt);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_commit_that_was_given_up_cannot_begin_any_more() {
        let outcomes = Outcomes::default();
        assert!(outcomes.settle((7, 0)).await.is_none());
        assert!(matches!(outcomes.begin((7, 0)), Some(Fate::Moved)), "it came too late");
        assert!(outcomes.begin((7, 1)).is_none(), "the next try is another one");
        outcomes.finish((7, 1), Fate::Committed(Timestamp(5)));
        assert!(matches!(outcomes.settle((7, 1)).await, Some(Fate::Committed(Timestamp(5)))));
    }

    #[tokio::test]
    async fn who_asks_for_a_commit_under_way_hears_of_its_end() {
        let outcomes = std::sync::Arc::new(Outcomes::default());
        assert!(outcomes.begin((9, 0)).is_none());
        let asked = std::sync::Arc::clone(&outcomes);
        let asker = tokio::spawn(async move { asked.settle((9, 0)).await });
        tokio::task::yield_now().await;
        outcomes.finish((9, 0), Fate::Refused(KvError::CONCURRENT_UPDATE));
        let heard = asker.await.expect("ends");
        assert!(matches!(heard, Some(Fate::Refused(KvError::Retry { .. }))));
    }
}
