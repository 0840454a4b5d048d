//! Sequences: a client inserts into one table, and when that is acknowledged into the next. A reader
//! who looks from the last table to the first must find the earlier ones whenever it found a later.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use rand::Rng;
use rand::rngs::StdRng;

use super::{Judgement, Workload, lines, locked};
use crate::chaos::client::{Answer, Session};

const TABLES: usize = 4;

#[derive(Default)]
pub(super) struct Sequential {
    next: AtomicU32,
    /// A chain and in which of the tables it was found, first to last.
    seen: Mutex<Vec<(u32, [bool; TABLES])>>,
}

impl Sequential {
    async fn operate(&self, session: &mut Session, rng: &mut StdRng) -> Answer<()> {
        if rng.random_bool(0.4) {
            let chain = self.next.fetch_add(1, Ordering::Relaxed);
            for table in 0..TABLES {
                session.texts(&format!("INSERT INTO chaos_seq_{table} VALUES ({chain})")).await?;
            }
            return Ok(());
        }
        let newest = self.next.load(Ordering::Relaxed);
        let chain = newest.saturating_sub(rng.random_range(1..8));
        let mut seen = [false; TABLES];
        for table in (0..TABLES).rev() {
            let sql = format!("SELECT id FROM chaos_seq_{table} WHERE id = {chain}");
            seen[table] = !session.texts(&sql).await?.is_empty();
        }
        locked(&self.seen).push((chain, seen));
        Ok(())
    }
}

/// Looks that found a later one without an earlier one.
fn gaps(seen: &[(u32, [bool; TABLES])]) -> Vec<String> {
    let gap = |found: &[bool; TABLES]| found.windows(2).any(|pair| pair[1] && !pair[0]);
    let gaps = seen.iter().filter(|(_, found)| gap(found));
    gaps.map(|(chain, found)| format!("of chain {chain} a reader saw {found:?}")).collect()
}

impl Workload for Sequential {
    fn name(&self) -> &'static str {
        "sequential"
    }

    fn setup(&self) -> Vec<String> {
        let make = |n| {
            format!(
                "DROP TABLE IF EXISTS chaos_seq_{n}; CREATE TABLE chaos_seq_{n} (id int PRIMARY KEY)"
            )
        };
        (0..TABLES).map(make).collect()
    }

    fn step<'a>(
        &'a self,
        session: &'a mut Session,
        rng: &'a mut StdRng,
    ) -> BoxFuture<'a, Answer<()>> {
        Box::pin(self.operate(session, rng))
    }

    fn judge<'a>(&'a self, _: &'a mut Session) -> BoxFuture<'a, Answer<Judgement>> {
        let seen = locked(&self.seen).clone();
        Box::pin(async move { Ok((gaps(&seen), format!("{} looks", seen.len()))) })
    }

    fn dump(&self) -> String {
        lines(&locked(&self.seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_noticed() {
        assert!(gaps(&[(1, [true, true, false, false]), (2, [false; 4])]).is_empty());
        assert_eq!(gaps(&[(1, [true, false, true, false])]).len(), 1);
    }
}
