//! A counter that many count up, each in a transaction that also writes down the number it got. Numbers
//! grow with real time, nobody gets one twice, and at the end there is no gap.

use std::collections::BTreeSet;
use std::sync::Mutex;

use futures::future::BoxFuture;
use rand::Rng;
use rand::rngs::StdRng;

use super::{Judgement, Workload, lines, locked};
use crate::chaos::Ticks;
use crate::chaos::client::{Answer, End, Session, Trouble, end_of};

/// A number with the ticks around it; `true` = counted, `false` = only read.
#[derive(Clone, Debug)]
struct Got {
    number: i64,
    began: u64,
    ended: u64,
    counted: bool,
}

#[derive(Default)]
pub(super) struct Monotonic {
    ticks: Ticks,
    got: Mutex<Vec<Got>>,
}

impl Monotonic {
    async fn count(&self, session: &Session) -> Answer<i64> {
        session.texts("BEGIN").await?;
        let sql = "UPDATE chaos_counter SET v = v + 1 WHERE id = 0 RETURNING v";
        let number = session.numbers(sql, &[]).await?.first().copied();
        let number = number.ok_or_else(|| Trouble::Wrong("the counter is gone".to_owned()))?;
        session.execute("INSERT INTO chaos_mono VALUES ($1)", &[&number]).await?;
        Ok(number)
    }

    async fn operate(&self, session: &mut Session, rng: &mut StdRng) -> Answer<()> {
        let began = self.ticks.next();
        if rng.random_bool(0.5) {
            let sql = "SELECT v FROM chaos_counter WHERE id = 0";
            let number = session.numbers(sql, &[]).await?.first().copied().unwrap_or(-1);
            let ended = self.ticks.next();
            locked(&self.got).push(Got { number, began, ended, counted: false });
            return Ok(());
        }
        let number = match self.count(session).await {
            Ok(number) => number,
            Err(trouble) => {
                if trouble != Trouble::Lost {
                    session.roll_back().await;
                }
                return Err(trouble);
            }
        };
        let answer = session.texts("COMMIT").await;
        if end_of(&answer) == End::Committed {
            let ended = self.ticks.next();
            locked(&self.got).push(Got { number, began, ended, counted: true });
        }
        answer.map(|_| ())
    }

    async fn last_reads(&self, session: &mut Session) -> Answer<Judgement> {
        let counter = session.numbers("SELECT v FROM chaos_counter", &[]).await?;
        let written = session.numbers("SELECT v FROM chaos_mono", &[]).await?;
        let last = counter.first().copied().unwrap_or(-1);
        let mut anomalies = judged(&locked(&self.got));
        let written: BTreeSet<i64> = written.into_iter().collect();
        if !written.iter().copied().eq(1..=last) {
            anomalies.push(format!("the counter is {last}, and written down are {written:?}"));
        }
        for got in locked(&self.got).iter().filter(|got| got.counted) {
            if !written.contains(&got.number) {
                anomalies.push(format!("lost: {}, acknowledged", got.number));
            }
        }
        Ok((anomalies, format!("counted to {last}")))
    }
}

/// Numbers that came twice, or that are below one that was known when they were asked for.
fn judged(got: &[Got]) -> Vec<String> {
    let mut anomalies = Vec::new();
    let mut numbers = BTreeSet::new();
    for got in got.iter().filter(|got| got.counted) {
        if !numbers.insert(got.number) {
            anomalies.push(format!("{} was counted twice", got.number));
        }
    }
    let mut by_end: Vec<&Got> = got.iter().collect();
    by_end.sort_by_key(|got| got.ended);
    let mut known = Vec::with_capacity(by_end.len());
    let mut highest = 0;
    for got in &by_end {
        highest = highest.max(got.number);
        known.push((got.ended, highest));
    }
    for got in got {
        let before = known.partition_point(|(ended, _)| *ended < got.began);
        let floor = before.checked_sub(1).map_or(0, |at| known[at].1);
        if got.number < floor || (got.counted && got.number == floor && floor > 0) {
            anomalies.push(format!("{got:?} came when {floor} was known"));
        }
    }
    anomalies
}

impl Workload for Monotonic {
    fn name(&self) -> &'static str {
        "monotonic"
    }

    fn setup(&self) -> Vec<String> {
        vec![
            "DROP TABLE IF EXISTS chaos_counter; DROP TABLE IF EXISTS chaos_mono; \
             CREATE TABLE chaos_counter (id int PRIMARY KEY, v bigint NOT NULL); \
             CREATE TABLE chaos_mono (v bigint PRIMARY KEY)"
                .to_owned(),
            "INSERT INTO chaos_counter VALUES (0, 0) ON CONFLICT DO NOTHING".to_owned(),
        ]
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
        lines(&locked(&self.got))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_go_back_are_noticed() {
        let got = |number, began, ended, counted| Got { number, began, ended, counted };
        assert!(judged(&[got(1, 1, 2, true), got(2, 3, 4, true), got(2, 5, 6, false)]).is_empty());
        assert_eq!(judged(&[got(2, 1, 2, true), got(1, 3, 4, false)]).len(), 1);
        assert!(judged(&[got(2, 1, 4, true), got(1, 3, 5, false)]).is_empty());
        assert!(!judged(&[got(1, 1, 2, true), got(1, 3, 4, true)]).is_empty());
    }
}
