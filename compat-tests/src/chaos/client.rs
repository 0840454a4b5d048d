//! A client that goes on: it connects to some node, loses the connection, connects to another.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;
use tokio_postgres::{Client, NoTls};

/// Waits longer than any nemesis holds on; a guard against hanging for ever, not a measure.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Why a step came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server said that nothing of it happened, as it may: SQLSTATE.
    Refused(String),
    /// The connection was lost, or the server doesn't know itself.
    Lost,
    /// An error that nobody should see.
    Wrong(String),
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Trouble {
        let Some(db) = error.as_db_error() else { return Trouble::Lost };
        match db.code().code() {
            // Serialization, deadlock, locks, cancellation, a full disk.
            code @ ("40001" | "40P01" | "55P03" | "57014" | "53100") => {
                Trouble::Refused(code.to_owned())
            }
            // Unknown, unavailable, shutting down, starting up, too many connections.
            "40003" | "08000" | "08003" | "08006" | "08007" | "57P01" | "57P02" | "57P03"
            | "58000" | "53300" => Trouble::Lost,
            code => Trouble::Wrong(format!("{code}: {}", db.message())),
        }
    }
}

/// What a step answers.
pub type Answer<T> = Result<T, Trouble>;

/// A client.
#[derive(Debug)]
pub struct Session {
    urls: Vec<String>,
    client: Option<Client>,
    /// Which one of the clients.
    pub number: usize,
}

impl Session {
    /// A client that isn't connected yet.
    pub fn new(urls: &[String], number: usize) -> Session {
        Session { urls: urls.to_vec(), client: None, number }
    }

    /// Makes sure that there is a connection, to a random node if it has to be a new one.
    pub async fn connect(&mut self, rng: &mut StdRng) -> Answer<()> {
        if self.client.as_ref().is_some_and(|client| !client.is_closed()) {
            return Ok(());
        }
        let url = &self.urls[rng.random_range(0..self.urls.len())];
        let connecting = tokio::time::timeout(ANSWER_LIMIT, tokio_postgres::connect(url, NoTls));
        let (client, connection) = connecting.await.map_err(|_| Trouble::Lost)??;
        tokio::spawn(connection);
        self.client = Some(client);
        Ok(())
    }

    /// Drops the connection, and with it whatever is open.
    pub fn drop_connection(&mut self) {
        self.client = None;
    }

    /// Changes nodes now and then, so that none is left to one client.
    pub fn wander(&mut self, rng: &mut StdRng) {
        if self.urls.len() > 1 && rng.random_ratio(1, 50) {
            self.drop_connection();
        }
    }

    async fn limited<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Answer<T> {
        match tokio::time::timeout(ANSWER_LIMIT, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Trouble::Lost),
        }
    }

    fn client(&self) -> Answer<&Client> {
        self.client.as_ref().ok_or(Trouble::Lost)
    }

    /// Runs a text by the simple protocol; the answers are the first column of each row.
    pub async fn texts(&self, sql: &str) -> Answer<Vec<Option<String>>> {
        use tokio_postgres::SimpleQueryMessage::Row;
        let answers = self.limited(self.client()?.simple_query(sql)).await?;
        let first = |answer: &_| match answer {
            Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        };
        Ok(answers.iter().filter_map(first).collect())
    }

    /// Runs a text by the simple protocol; the answers are whole rows.
    pub async fn rows(&self, sql: &str) -> Answer<Vec<Vec<Option<String>>>> {
        use tokio_postgres::SimpleQueryMessage::Row;
        let answers = self.limited(self.client()?.simple_query(sql)).await?;
        let whole = |answer: &_| match answer {
            Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => None,
        };
        Ok(answers.iter().filter_map(whole).collect())
    }

    /// Runs a statement by the extended protocol; the answer is how many rows it concerned.
    pub async fn execute(
        &self,
        sql: &str,
        params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Answer<u64> {
        self.limited(self.client()?.execute(sql, params)).await
    }

    /// Runs a query by the extended protocol for numbers in its first column.
    pub async fn numbers(
        &self,
        sql: &str,
        params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Answer<Vec<i64>> {
        let rows = self.limited(self.client()?.query(sql, params)).await?;
        let number = |row: &tokio_postgres::Row| -> Answer<i64> {
            let wrong = |error: tokio_postgres::Error| Trouble::Wrong(error.to_string());
            let int4 = row.try_get::<_, Option<i32>>(0).map(|v| v.map(i64::from));
            let value = int4.or_else(|_| row.try_get::<_, Option<i64>>(0)).map_err(wrong)?;
            value.ok_or_else(|| Trouble::Wrong("a NULL where there is none".to_owned()))
        };
        rows.iter().map(number).collect()
    }

    /// Rolls back; a connection that cannot is dropped.
    pub async fn roll_back(&mut self) {
        if self.texts("ROLLBACK").await.is_err() {
            self.drop_connection();
        }
    }
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Acknowledged.
    Committed,
    /// Told that nothing of it happened, or never asked to commit.
    Aborted,
    /// Nobody knows.
    Unknown,
}

/// What became of a statement that is a transaction of its own, or of a COMMIT.
pub fn end_of<T>(answer: &Answer<T>) -> End {
    match answer {
        Ok(_) => End::Committed,
        Err(Trouble::Refused(_) | Trouble::Wrong(_)) => End::Aborted,
        Err(Trouble::Lost) => End::Unknown,
    }
}
