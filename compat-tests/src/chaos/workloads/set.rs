//! A set: inserts of numbers, and readers of the newest of them. What was acknowledged before a read
//! began is seen by it, and what was refused is never seen.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use rand::Rng;
use rand::rngs::StdRng;

use super::{Judgement, Workload, lines, locked};
use crate::chaos::Ticks;
use crate::chaos::client::{Answer, End, Session, end_of};

/// How many of the newest numbers a reader looks at.
const WINDOW: u32 = 100;

#[derive(Clone, Debug)]
enum Done {
    Insert {
        id: u32,
        ended: u64,
        end: End,
    },
    /// All numbers from `first` on.
    Read {
        began: u64,
        first: u32,
        seen: BTreeSet<u32>,
    },
}

#[derive(Default)]
pub(super) struct Set {
    ticks: Ticks,
    next: AtomicU32,
    done: Mutex<Vec<Done>>,
}

async fn read(session: &Session, first: u32) -> Answer<BTreeSet<u32>> {
    let first = i32::try_from(first).unwrap_or(0);
    let rows = session.numbers("SELECT id FROM chaos_set WHERE id >= $1", &[&first]).await?;
    Ok(rows.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
}

impl Set {
    async fn operate(&self, session: &mut Session, rng: &mut StdRng) -> Answer<()> {
        if rng.random_bool(0.8) {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let number = i32::try_from(id).unwrap_or(0);
            let answer = session.execute("INSERT INTO chaos_set VALUES ($1)", &[&number]).await;
            let (end, ended) = (end_of(&answer), self.ticks.next());
            locked(&self.done).push(Done::Insert { id, ended, end });
            return answer.map(|_| ());
        }
        let first = self.next.load(Ordering::Relaxed).saturating_sub(WINDOW);
        let began = self.ticks.next();
        let seen = read(session, first).await?;
        locked(&self.done).push(Done::Read { began, first, seen });
        Ok(())
    }

    async fn last_reads(&self, session: &mut Session) -> Answer<Judgement> {
        let (began, first) = (self.ticks.next(), 0);
        let seen = read(session, first).await?;
        let mut done = locked(&self.done).clone();
        let note = format!("{} numbers at the end", seen.len());
        done.push(Done::Read { began, first, seen });
        Ok((judged(&done), note))
    }
}

fn judged(done: &[Done]) -> Vec<String> {
    let mut anomalies = Vec::new();
    for read in done {
        let Done::Read { began, first, seen } = read else { continue };
        for insert in done {
            let Done::Insert { id, ended, end } = insert else { continue };
            let there = seen.contains(id);
            if *end == End::Committed && ended < began && id >= first && !there {
                anomalies.push(format!(
                    "the read of tick {began} lacks {id}, acknowledged at tick {ended}"
                ));
            }
            if *end == End::Aborted && there {
                anomalies.push(format!("the read of tick {began} shows {id}, which was refused"));
            }
        }
    }
    anomalies
}

impl Workload for Set {
    fn name(&self) -> &'static str {
        "set"
    }

    fn setup(&self) -> Vec<String> {
        let make = "DROP TABLE IF EXISTS chaos_set; CREATE TABLE chaos_set (id int PRIMARY KEY)";
        vec![make.to_owned()]
    }

    fn step<'a>(
        &'a self,
        session: &'a mut Session,
        rng: &'a mut StdRng,
    ) -> BoxFuture<'a, Answer<()>> {
        Box::pin(self.operate(session, rng))
    }

    fn judge<'a>(&'a self, session: &'a mut Session) -> BoxFuture<'a, Answer<Judgement>> {
        Box::pin(self.last_reads(session))
    }

    fn dump(&self) -> String {
        lines(&locked(&self.done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_reads_and_ghosts_are_noticed() {
        let insert = |id, end| Done::Insert { id, ended: 2, end };
        let read = |began, ids: &[u32]| Done::Read {
            began,
            first: 0,
            seen: ids.iter().copied().collect(),
        };
        let known = insert(1, End::Committed);
        assert!(judged(&[known.clone(), read(3, &[1]), read(1, &[])]).is_empty());
        assert_eq!(judged(&[known, read(3, &[])]).len(), 1);
        assert_eq!(judged(&[insert(1, End::Aborted), read(3, &[1])]).len(), 1);
        assert!(judged(&[insert(1, End::Unknown), read(3, &[1]), read(3, &[])]).is_empty());
    }
}
