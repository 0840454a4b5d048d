//! Long fork: inserts that have nothing to do with each other, and readers of several of them. If one
//! reader sees the first insert without the second, no other may see the second without the first:
//! snapshots are points on one line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use meridian_kv::api::Isolation;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Judgement, Workload, begin, lines, locked};
use crate::chaos::client::{Answer, Session, Trouble};

const GROUP: u32 = 4;

/// What a reader saw of a group.
type Seen = (u32, BTreeSet<u32>);

#[derive(Default)]
pub(super) struct LongFork {
    next: AtomicU32,
    seen: Mutex<Vec<Seen>>,
}

fn table(id: u32) -> &'static str {
    if id.is_multiple_of(2) { "chaos_fork_0" } else { "chaos_fork_1" }
}

impl LongFork {
    async fn read(&self, session: &Session, rng: &mut StdRng) -> Answer<()> {
        let newest = self.next.load(Ordering::Relaxed) / GROUP;
        let group = newest.saturating_sub(rng.random_range(0..2));
        let mut ids: Vec<u32> = (group * GROUP..(group + 1) * GROUP).collect();
        ids.shuffle(rng);
        let level =
            if rng.random_bool(0.5) { Isolation::RepeatableRead } else { Isolation::Serializable };
        session.texts(begin(level)).await?;
        let mut seen = BTreeSet::new();
        for id in ids {
            let sql = format!("SELECT id FROM {} WHERE id = {id}", table(id));
            if !session.texts(&sql).await?.is_empty() {
                seen.insert(id);
            }
        }
        session.texts("COMMIT").await?;
        locked(&self.seen).push((group, seen));
        Ok(())
    }

    async fn transaction(&self, session: &mut Session, rng: &mut StdRng) -> Answer<()> {
        if rng.random_bool(0.4) {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let sql = format!("INSERT INTO {} VALUES ({id})", table(id));
            return session.texts(&sql).await.map(|_| ());
        }
        let answer = self.read(session, rng).await;
        if matches!(answer, Err(Trouble::Refused(_) | Trouble::Wrong(_))) {
            session.roll_back().await;
        }
        answer
    }
}

/// Readers of one group who saw what cannot both have been.
fn forks(seen: &[Seen]) -> Vec<String> {
    let mut groups: BTreeMap<u32, BTreeSet<&BTreeSet<u32>>> = BTreeMap::new();
    for (group, seen) in seen {
        groups.entry(*group).or_default().insert(seen);
    }
    let mut forks = Vec::new();
    for sets in groups.values() {
        let mut sets: Vec<_> = sets.iter().collect();
        sets.sort_by_key(|set| set.len());
        for pair in sets.windows(2) {
            if !pair[0].is_subset(pair[1]) {
                forks.push(format!("one reader saw {:?}, another {:?}", pair[0], pair[1]));
            }
        }
    }
    forks
}

impl Workload for LongFork {
    fn name(&self) -> &'static str {
        "long-fork"
    }

    fn setup(&self) -> Vec<String> {
        let make = |n| {
            format!(
                "DROP TABLE IF EXISTS chaos_fork_{n}; CREATE TABLE chaos_fork_{n} (id int PRIMARY KEY)"
            )
        };
        (0..2).map(make).collect()
    }

    fn step<'a>(
        &'a self,
        session: &'a mut Session,
        rng: &'a mut StdRng,
    ) -> BoxFuture<'a, Answer<()>> {
        Box::pin(self.transaction(session, rng))
    }

    fn judge<'a>(&'a self, _: &'a mut Session) -> BoxFuture<'a, Answer<Judgement>> {
        let seen = locked(&self.seen).clone();
        Box::pin(async move { Ok((forks(&seen), format!("{} readers", seen.len()))) })
    }

    fn dump(&self) -> String {
        lines(&locked(&self.seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_is_noticed() {
        let set = |ids: &[u32]| (0, ids.iter().copied().collect());
        assert!(forks(&[set(&[0]), set(&[]), set(&[0, 1])]).is_empty());
        assert_eq!(forks(&[set(&[0]), set(&[1])]).len(), 1);
    }
}
