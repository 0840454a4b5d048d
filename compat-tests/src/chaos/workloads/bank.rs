//! A bank: transfers between accounts at every level, and readers who add up. No transfer makes or
//! destroys money, and no reader may see a sum that never was.

use std::sync::Mutex;

use futures::future::BoxFuture;
use meridian_kv::api::Isolation;
use rand::Rng;
use rand::rngs::StdRng;

use super::{Judgement, Workload, any_level, begin, lines, locked};
use crate::chaos::client::{Answer, Session, Trouble};

const ACCOUNTS: i32 = 8;
const MONEY: i64 = 800;

#[derive(Default)]
pub(super) struct Bank {
    /// The sums that readers saw, with the statement or transaction that saw them.
    sums: Mutex<Vec<(&'static str, i64)>>,
}

async fn balance(session: &Session, account: i32) -> Answer<i64> {
    let sql = "SELECT balance FROM chaos_bank WHERE id = $1 FOR UPDATE";
    let rows = session.numbers(sql, &[&account]).await?;
    rows.first().copied().ok_or_else(|| Trouble::Wrong(format!("account {account} is gone")))
}

async fn set(session: &Session, account: i32, balance: i64) -> Answer<()> {
    let sql = "UPDATE chaos_bank SET balance = $2 WHERE id = $1";
    session.execute(sql, &[&account, &balance]).await.map(|_| ())
}

impl Bank {
    async fn transfer(&self, session: &Session, rng: &mut StdRng) -> Answer<()> {
        session.texts(begin(any_level(rng))).await?;
        let from = rng.random_range(0..ACCOUNTS);
        let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let amount = i64::from(rng.random_range(1..10u32));
        let (a, b) = (balance(session, from).await?, balance(session, to).await?);
        if a >= amount {
            set(session, from, a - amount).await?;
            set(session, to, b + amount).await?;
        }
        session.texts("COMMIT").await.map(|_| ())
    }

    async fn add_up(&self, session: &Session, rng: &mut StdRng) -> Answer<()> {
        if rng.random_bool(0.5) {
            let sum = session.numbers("SELECT sum(balance)::bigint FROM chaos_bank", &[]).await?;
            locked(&self.sums).extend(sum.into_iter().map(|sum| ("one statement", sum)));
            return Ok(());
        }
        let level =
            if rng.random_bool(0.5) { Isolation::RepeatableRead } else { Isolation::Serializable };
        session.texts(begin(level)).await?;
        let mut sum = 0;
        for account in 0..ACCOUNTS {
            let sql = "SELECT balance FROM chaos_bank WHERE id = $1";
            sum += session.numbers(sql, &[&account]).await?.iter().sum::<i64>();
        }
        session.texts("COMMIT").await?;
        locked(&self.sums).push(("one snapshot", sum));
        Ok(())
    }

    async fn transaction(&self, session: &mut Session, rng: &mut StdRng) -> Answer<()> {
        let answer = match rng.random_bool(0.6) {
            true => self.transfer(session, rng).await,
            false => self.add_up(session, rng).await,
        };
        if matches!(answer, Err(Trouble::Refused(_) | Trouble::Wrong(_))) {
            session.roll_back().await;
        }
        answer
    }

    async fn last_reads(&self, session: &mut Session) -> Answer<Judgement> {
        let all = session.numbers("SELECT balance FROM chaos_bank", &[]).await?;
        let mut anomalies = Vec::new();
        if all.iter().sum::<i64>() != MONEY || all.iter().any(|balance| *balance < 0) {
            anomalies.push(format!("at the end the accounts hold {all:?}, not {MONEY} together"));
        }
        let sums = locked(&self.sums);
        let wrong = sums.iter().filter(|(_, sum)| *sum != MONEY);
        anomalies.extend(wrong.map(|(how, sum)| format!("{how} added up to {sum}")));
        Ok((anomalies, format!("{} sums", sums.len())))
    }
}

impl Workload for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    fn setup(&self) -> Vec<String> {
        vec![
            "DROP TABLE IF EXISTS chaos_bank; \
             CREATE TABLE chaos_bank (id int PRIMARY KEY, balance bigint NOT NULL)"
                .to_owned(),
            format!(
                "INSERT INTO chaos_bank SELECT n, {} FROM generate_series(0, {}) n \
                 ON CONFLICT DO NOTHING",
                MONEY / i64::from(ACCOUNTS),
                ACCOUNTS - 1
            ),
        ]
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

    fn dump(&self) -> String {
        lines(&locked(&self.sums))
    }
}
