//! Definitions that change under way: one client adds a column with a default and drops it again, the
//! others insert and read. Whoever sees the column sees its default; nobody gets an error for it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use rand::Rng;
use rand::rngs::StdRng;

use super::{Judgement, Workload, lines, locked};
use crate::chaos::client::{Answer, Session, Trouble};

#[derive(Default)]
pub(super) struct DefaultValue {
    next: AtomicU32,
    changes: AtomicU32,
    acknowledged: Mutex<Vec<u32>>,
    wrong: Mutex<Vec<String>>,
}

impl DefaultValue {
    /// Adds the column, or drops it. It is known only by trying which of them is next: an earlier one
    /// may have happened although nobody was told.
    async fn change(&self, session: &Session) -> Answer<()> {
        let add = "ALTER TABLE chaos_default ADD COLUMN extra int DEFAULT 7";
        let drop = "ALTER TABLE chaos_default DROP COLUMN extra";
        let answer = match session.texts(add).await {
            Err(Trouble::Wrong(text)) if text.starts_with("42701") => session.texts(drop).await,
            other => other,
        };
        self.changes.fetch_add(1, Ordering::Relaxed);
        answer.map(|_| ())
    }

    async fn use_it(&self, session: &Session, rng: &mut StdRng) -> Answer<()> {
        if rng.random_bool(0.5) {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            session.texts(&format!("INSERT INTO chaos_default (id) VALUES ({id})")).await?;
            locked(&self.acknowledged).push(id);
            return Ok(());
        }
        let first = self.next.load(Ordering::Relaxed).saturating_sub(20);
        let rows =
            session.rows(&format!("SELECT * FROM chaos_default WHERE id >= {first}")).await?;
        for row in rows {
            let good = match &row[..] {
                [Some(_)] => true,
                [Some(_), Some(extra)] => extra == "7",
                _ => false,
            };
            if !good {
                locked(&self.wrong).push(format!("a reader saw {row:?}"));
            }
        }
        Ok(())
    }

    async fn operate(&self, session: &mut Session, rng: &mut StdRng) -> Answer<()> {
        if session.number == 0 {
            return self.change(session).await;
        }
        let answer = self.use_it(session, rng).await;
        // Nothing that only reads or inserts has a reason to fail, but a node that is full or stops, or one
        // that was given up by the others: it may not know the table's form.
        match &answer {
            Err(Trouble::Refused(code)) if !matches!(code.as_str(), "53100" | "40001") => {
                Err(Trouble::Wrong(format!("{code} to a client that changes no definition")))
            }
            _ => answer,
        }
    }

    async fn last_reads(&self, session: &mut Session) -> Answer<Judgement> {
        let there = session.numbers("SELECT id FROM chaos_default", &[]).await?;
        let mut anomalies = locked(&self.wrong).clone();
        for id in locked(&self.acknowledged).iter() {
            if !there.contains(&i64::from(*id)) {
                anomalies.push(format!("lost: {id}, acknowledged"));
            }
        }
        let changes = self.changes.load(Ordering::Relaxed);
        Ok((anomalies, format!("{changes} changes of the definition, {} rows", there.len())))
    }
}

impl Workload for DefaultValue {
    fn name(&self) -> &'static str {
        "default-value"
    }

    fn setup(&self) -> Vec<String> {
        let make =
            "DROP TABLE IF EXISTS chaos_default; CREATE TABLE chaos_default (id int PRIMARY KEY)";
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
        lines(&locked(&self.wrong))
    }
}
