//! Write skew (G2): two clients each look whether anybody has taken a place, in either of two tables,
//! and if nobody has take it in one of them. Serializable transactions let one of them have it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use meridian_kv::api::Isolation;
use rand::Rng;
use rand::rngs::StdRng;

use super::{Judgement, Workload, begin, lines, locked};
use crate::chaos::client::{Answer, End, Session, Trouble, end_of};

#[derive(Default)]
pub(super) struct WriteSkew {
    next: AtomicU32,
    /// Rows by the place they took, and what became of them.
    taken: Mutex<Vec<(i32, i32, End)>>,
}

impl WriteSkew {
    /// Takes a place if it is free; did it try?
    async fn take(&self, session: &Session, place: i32, id: i32, table: &str) -> Answer<bool> {
        session.texts(begin(Isolation::Serializable)).await?;
        for other in ["chaos_skew_a", "chaos_skew_b"] {
            let sql = format!("SELECT id FROM {other} WHERE place = $1");
            if !session.numbers(&sql, &[&place]).await?.is_empty() {
                session.texts("ROLLBACK").await?;
                return Ok(false);
            }
        }
        session.execute(&format!("INSERT INTO {table} VALUES ($1, $2)"), &[&id, &place]).await?;
        Ok(true)
    }

    async fn transaction(&self, session: &mut Session, rng: &mut StdRng) -> Answer<()> {
        // Several clients come for each place at about the same time.
        let id = i32::try_from(self.next.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
        let place = id / 3;
        let table = if rng.random_bool(0.5) { "chaos_skew_a" } else { "chaos_skew_b" };
        match self.take(session, place, id, table).await {
            Ok(false) => Ok(()),
            Ok(true) => {
                let answer = session.texts("COMMIT").await;
                locked(&self.taken).push((place, id, end_of(&answer)));
                answer.map(|_| ())
            }
            Err(trouble) => {
                if trouble != Trouble::Lost {
                    session.roll_back().await;
                }
                Err(trouble)
            }
        }
    }

    async fn last_reads(&self, session: &mut Session) -> Answer<Judgement> {
        let mut rows: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let sql = "SELECT id FROM chaos_skew_a UNION ALL SELECT id FROM chaos_skew_b";
        for id in session.numbers(sql, &[]).await? {
            rows.entry(id / 3).or_default().push(id);
        }
        let twice = rows.iter().filter(|(_, ids)| ids.len() > 1);
        let mut anomalies: Vec<String> =
            twice.map(|(place, ids)| format!("place {place} was taken by {ids:?}")).collect();
        for (place, id, end) in locked(&self.taken).iter() {
            let there =
                rows.get(&i64::from(*place)).is_some_and(|ids| ids.contains(&i64::from(*id)));
            match end {
                End::Committed if !there => anomalies.push(format!("lost: {id}, acknowledged")),
                End::Aborted if there => anomalies.push(format!("{id} is there, and was refused")),
                _ => {}
            }
        }
        let tried = self.next.load(Ordering::Relaxed);
        Ok((anomalies, format!("{} places taken, {tried} came", rows.len())))
    }
}

impl Workload for WriteSkew {
    fn name(&self) -> &'static str {
        "write-skew"
    }

    fn setup(&self) -> Vec<String> {
        let make = |t| {
            format!(
                "DROP TABLE IF EXISTS chaos_skew_{t}; \
                 CREATE TABLE chaos_skew_{t} (id int PRIMARY KEY, place int NOT NULL); \
                 CREATE INDEX ON chaos_skew_{t} (place)"
            )
        };
        ["a", "b"].into_iter().map(make).collect()
    }

    fn step<'a>(
        &'a self,
        session: &'a mut Session,
        rng: &'a mut StdRng,
    ) -> BoxFuture<'a, Answer<()>> {
        Box::pin(self.transaction(session, rng))
    }

    fn judge<'a>(&'a self, session: &'a mut Session) -> BoxFuture<'a, Answer<Judgement>> {
        Box::pin(self.last_reads(session))
    }

    fn pause_ms(&self) -> u64 {
        4
    }

    fn dump(&self) -> String {
        lines(&locked(&self.taken))
    }
}
