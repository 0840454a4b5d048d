//! A driver's prepared statements on one connection.
//!
//! The statements of a transaction that do not need each other's answers are one [`Session::batch`]:
//! they go out in one pipeline and cost one round trip. When one of them fails, a COMMIT behind it in
//! the pipeline ends the failed transaction as a rollback, and the batch reports the error: so a batch
//! may end with COMMIT.

use std::sync::Mutex;

use futures::future::try_join_all;
use meridian_base::clock::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::{Bench, Failure, Record, micros_since};

/// The statements of a benchmark: name and text of each. Statements of one name are measured together.
pub type Catalog = [(&'static str, &'static str)];

/// A statement, by its place in the catalog, and its parameters.
pub type Call<'a> = (usize, Vec<&'a (dyn ToSql + Sync)>);

/// Makes a [`Call`].
pub fn call<const N: usize>(statement: usize, params: [&(dyn ToSql + Sync); N]) -> Call<'_> {
    (statement, params.to_vec())
}

/// A connection with its prepared statements.
pub struct Session {
    client: Client,
    catalog: &'static Catalog,
    statements: Vec<Statement>,
    pipeline: bool,
    /// What each statement took, when that is asked for.
    timings: Option<Mutex<Record>>,
}

impl Session {
    /// Connects as the `number`-th connection, and prepares all statements.
    pub async fn open(bench: &Bench, number: usize) -> Result<Self, Failure> {
        let Bench { cluster, setup, catalog, options } = bench;
        let client = cluster.connect(number).await.map_err(|e| Failure::connection(&e))?;
        if !setup.is_empty() {
            client.batch_execute(setup).await.map_err(|e| Failure::of(setup, &e))?;
        }
        let mut statements = Vec::with_capacity(catalog.len());
        for (name, text) in *catalog {
            let prepared = client.prepare(text).await;
            statements.push(prepared.map_err(|e| Failure::of(&format!("{name} ({text})"), &e))?);
        }
        Ok(Self {
            client,
            catalog,
            statements,
            pipeline: !options.no_pipeline && !options.statements,
            timings: options.statements.then(Mutex::default),
        })
    }

    /// One statement.
    pub async fn query(
        &self,
        statement: usize,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let started = self.timings.is_some().then(Instant::now);
        let result = self.client.query(&self.statements[statement], params).await;
        let name = self.catalog[statement].0;
        if let (Some(timings), Some(started)) = (&self.timings, started) {
            let mut timings = timings.lock().expect("no one panics with the lock");
            timings.statement(name, micros_since(started));
        }
        result.map_err(|error| Failure::of(name, &error))
    }

    /// Several statements, in a pipeline unless that is turned off.
    pub async fn batch(&self, calls: &[Call<'_>]) -> Result<Vec<Vec<Row>>, Failure> {
        if self.pipeline {
            // Each is sent when it is first polled, and they are first polled in order.
            return try_join_all(calls.iter().map(|(id, params)| self.query(*id, params))).await;
        }
        let mut results = Vec::with_capacity(calls.len());
        for (statement, params) in calls {
            results.push(self.query(*statement, params).await?);
        }
        Ok(results)
    }

    /// Ends a transaction that failed.
    pub async fn abandon(&self) -> Result<(), Failure> {
        self.client.batch_execute("ROLLBACK").await.map_err(|e| Failure::of("ROLLBACK", &e))
    }

    /// Forgets what the statements took while warming up.
    pub fn reset_timings(&self) {
        if let Some(timings) = &self.timings {
            *timings.lock().expect("no one panics with the lock") = Record::default();
        }
    }

    /// Adds what the statements took to a record.
    pub fn add_timings(&self, record: &mut Record) {
        if let Some(timings) = &self.timings {
            record.add(&timings.lock().expect("no one panics with the lock"));
        }
    }
}
