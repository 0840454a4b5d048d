//! Transactions that read and append to lists, over several tables, at a mixture of levels; judged by
//! the simulator's own checker ([`meridian_sim::checker`]).
//!
//! A list is a row with a text, so that every read shows the order of all appends before it. Which
//! lists are in use moves on with the run: a list stays short enough to be compared again and again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use meridian_kv::api::Isolation;
use meridian_sim::checker;
use meridian_sim::history::{Event, History, Outcome, TxnRecord};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{Judgement, Workload, begin, lines, locked};
use crate::chaos::Ticks;
use crate::chaos::client::{Answer, End, Session, Trouble, end_of};

const TABLES: u8 = 4;
const LISTS_AT_ONCE: u32 = 8;
const APPENDS_PER_LIST: u32 = 60;
const LISTS_MAX: u32 = 240;

pub(super) struct Append {
    name: &'static str,
    levels: &'static [Isolation],
    /// Commits in different ranges of a cluster have no order by real time.
    clustered: bool,
    ticks: Ticks,
    next_value: AtomicU32,
    txns: Mutex<Vec<TxnRecord>>,
}

fn table(list: u8) -> String {
    format!("chaos_append_{}", list % TABLES)
}

/// The values of a list as its row has them.
pub(super) fn values(text: &str) -> Answer<Vec<u32>> {
    let parse = |word: &str| word.parse().map_err(|_| Trouble::Wrong(format!("a list {text:?}")));
    text.split(',').filter(|word| !word.is_empty()).map(parse).collect()
}

async fn read(session: &Session, list: u8) -> Answer<Event> {
    let rows = session.texts(&format!("SELECT val FROM {} WHERE id = {list}", table(list))).await?;
    let text = rows.into_iter().next().flatten().unwrap_or_default();
    Ok(Event::Read { list, values: values(&text)? })
}

impl Append {
    pub(super) fn new(name: &'static str, levels: &'static [Isolation], clustered: bool) -> Append {
        let (ticks, txns) = (Ticks::default(), Mutex::default());
        Append { name, levels, clustered, ticks, next_value: AtomicU32::new(1), txns }
    }

    fn any_list(&self, rng: &mut StdRng) -> u8 {
        let window = self.next_value.load(Ordering::Relaxed) / APPENDS_PER_LIST;
        let first = window.min(LISTS_MAX);
        u8::try_from(first + rng.random_range(0..LISTS_AT_ONCE)).unwrap_or(u8::MAX)
    }

    async fn append(&self, session: &Session, list: u8, value: u32) -> Answer<()> {
        let t = table(list);
        let sql = format!(
            "INSERT INTO {t} VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET val = {t}.val || ',' || excluded.val"
        );
        session.execute(&sql, &[&i32::from(list), &value.to_string()]).await.map(|_| ())
    }

    async fn body(
        &self,
        session: &Session,
        rng: &mut StdRng,
        isolation: Isolation,
        events: &mut Vec<Event>,
    ) -> Answer<()> {
        session.texts(begin(isolation)).await?;
        for _ in 0..rng.random_range(1..=4) {
            let list = self.any_list(rng);
            match rng.random_range(0..10) {
                0..=4 => events.push(read(session, list).await?),
                5..=8 => {
                    let value = self.next_value.fetch_add(1, Ordering::Relaxed);
                    // Noted first: it may happen even if nobody hears of it.
                    events.push(Event::Append { list, value });
                    self.append(session, list, value).await?;
                }
                _ => {
                    let value = self.next_value.fetch_add(1, Ordering::Relaxed);
                    events.push(Event::Undone { list, value });
                    session.texts("SAVEPOINT s").await?;
                    self.append(session, list, value).await?;
                    session.texts("ROLLBACK TO s").await?;
                }
            }
        }
        Ok(())
    }

    async fn transaction(&self, session: &mut Session, rng: &mut StdRng) -> Answer<()> {
        let isolation = self.levels.choose(rng).copied().unwrap_or_default();
        let began = self.ticks.next();
        let mut events = Vec::new();
        let mut answer = self.body(session, rng, isolation, &mut events).await;
        let mut end = End::Aborted;
        if answer.is_ok() {
            answer = session.texts("COMMIT").await.map(|_| ());
            end = end_of(&answer);
        } else if !matches!(answer, Err(Trouble::Lost)) {
            session.roll_back().await;
        }
        let outcome = match end {
            End::Committed => Outcome::Committed,
            End::Aborted => Outcome::Aborted,
            End::Unknown => Outcome::Unknown,
        };
        let ended = (outcome == Outcome::Committed).then(|| self.ticks.next());
        locked(&self.txns).push(TxnRecord { isolation, began, ended, events, outcome });
        answer
    }

    async fn last_reads(&self, session: &mut Session) -> Answer<Judgement> {
        let mut history = History { clustered: self.clustered, ..History::default() };
        let (began, mut events) = (self.ticks.next(), Vec::new());
        for list in 0..=u8::MAX {
            let event = read(session, list).await?;
            if let Event::Read { values, .. } = &event
                && !values.is_empty()
            {
                history.lists.insert(list, values.clone());
                events.push(event);
            }
        }
        history.txns = locked(&self.txns).clone();
        let mut anomalies = lost(&history);
        let levels: Vec<Isolation> = history.txns.iter().map(|txn| txn.isolation).collect();
        let committed = history.txns.iter().filter(|txn| txn.committed()).count();
        let note = format!("{committed} of {} transactions committed", levels.len());
        // The last reads are a transaction, too, and one that sees everything.
        let (isolation, outcome) = (Isolation::ReadCommitted, Outcome::Committed);
        let ended = Some(self.ticks.next());
        history.txns.push(TxnRecord { isolation, began, ended, events, outcome });
        anomalies.extend(checker::forbidden(&history).into_iter().map(|found| found.to_string()));
        Ok((anomalies, note))
    }
}

/// Acknowledged appends that are not in the lists at the end.
fn lost(history: &History) -> Vec<String> {
    let mut lost = Vec::new();
    for txn in history.txns.iter().filter(|txn| txn.committed()) {
        for event in &txn.events {
            let Event::Append { list, value } = event else { continue };
            if !history.lists.get(list).is_some_and(|values| values.contains(value)) {
                lost.push(format!("lost: {value}, acknowledged, is not in list {list}"));
            }
        }
    }
    lost
}

impl Workload for Append {
    fn name(&self) -> &'static str {
        self.name
    }

    fn setup(&self) -> Vec<String> {
        let make = |n| {
            format!(
                "DROP TABLE IF EXISTS chaos_append_{n}; \
                 CREATE TABLE chaos_append_{n} (id int PRIMARY KEY, val text NOT NULL)"
            )
        };
        (0..TABLES).map(make).collect()
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

    fn full(&self) -> bool {
        self.next_value.load(Ordering::Relaxed) / APPENDS_PER_LIST >= LISTS_MAX
    }

    fn dump(&self) -> String {
        lines(&locked(&self.txns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_losses_noticed() {
        assert_eq!(values("3,8"), Ok(vec![3, 8]));
        assert_eq!(values(""), Ok(vec![]));
        assert!(values("3,x").is_err());
        let mut history = History::default();
        history.txns.push(TxnRecord {
            isolation: Isolation::ReadCommitted,
            began: 1,
            ended: Some(2),
            events: vec![Event::Append { list: 1, value: 7 }],
            outcome: Outcome::Committed,
        });
        assert_eq!(lost(&history).len(), 1);
        history.lists.insert(1, vec![7]);
        assert_eq!(lost(&history).len(), 0);
    }
}
