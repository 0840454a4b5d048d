//! One client of a benchmark: its connection, its attempts, what it measured.

use std::sync::Arc;

use anyhow::Result;
use meridian_base::clock::Instant;
use meridian_base::rng::Rng;
use tokio::task::JoinSet;

use crate::{Backoff, Catalog, Cluster, Failure, Record, Run, RunOptions, Session, Trouble};
use crate::{micros_since, show_run};

/// Attempts at one operation before it counts as an error; about a minute when no node answers.
const ATTEMPTS: u32 = 250;

/// How a transaction ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its work is done.
    Done,
    /// It ended with the rollback that the benchmark asks for.
    RolledBack,
}

/// Something that a client does, with its input: an attempt can be repeated.
pub trait Transaction: Sync {
    /// Its name in the report.
    fn name(&self) -> &'static str;

    /// Does it once.
    fn attempt(&self, session: &Session) -> impl Future<Output = Result<Outcome, Failure>> + Send;
}

/// What all workers of a run share.
pub struct Bench {
    /// The nodes.
    pub cluster: Cluster,
    /// Sent to each new connection.
    pub setup: String,
    /// Prepared on each new connection.
    pub catalog: &'static Catalog,
    /// The command line's.
    pub options: RunOptions,
}

/// One client.
pub struct Worker {
    bench: Arc<Bench>,
    run: Arc<Run>,
    number: usize,
    session: Option<Session>,
    record: Record,
    warm: bool,
    /// The worker's own randomness.
    pub rng: Rng,
}

impl Worker {
    /// The clients of a run, each of them connected.
    pub async fn crew(bench: &Arc<Bench>, count: usize) -> Result<Vec<(usize, Session)>> {
        let mut crew = Vec::with_capacity(count);
        for number in 0..count {
            crew.push((number, Session::open(bench, number).await?));
        }
        Ok(crew)
    }

    /// A client that begins to work.
    #[must_use]
    pub fn new(bench: &Arc<Bench>, run: &Arc<Run>, (number, session): (usize, Session)) -> Self {
        let rng = match bench.options.seed {
            Some(seed) => Rng::seeded(seed.wrapping_mul(1_000_003).wrapping_add(number as u64)),
            None => Rng::from_os(),
        };
        let (bench, run) = (Arc::clone(bench), Arc::clone(run));
        let (session, record) = (Some(session), Record::default());
        Self { bench, run, number, session, record, warm: false, rng }
    }

    /// Does one thing, again and again until it succeeds or fails in a way that is not repeated.
    /// Its time runs from `started`. Says whether it succeeded.
    pub async fn perform<T: Transaction>(
        &mut self,
        what: &T,
        started: Instant,
        measured: bool,
    ) -> bool {
        if measured && !self.warm {
            self.warm = true;
            self.session.iter().for_each(Session::reset_timings);
        }
        let mut backoff = Backoff::default();
        for attempt in 1..=ATTEMPTS {
            let mut failure = match self.attempt(what).await {
                Ok(outcome) => {
                    self.succeeded(what.name(), outcome, started, measured);
                    return true;
                }
                Err(failure) => failure,
            };
            self.clean_up(&failure).await;
            if attempt == ATTEMPTS {
                failure.trouble = Trouble::Error;
            }
            // Errors count from the beginning: none is expected.
            if measured || failure.trouble == Trouble::Error {
                self.record.failure(what.name(), &failure);
            }
            if failure.trouble == Trouble::Error || self.run.over() {
                return false;
            }
            tokio::time::sleep(backoff.pause(failure.trouble, &mut self.rng)).await;
        }
        false
    }

    /// What it measured, at its end.
    #[must_use]
    pub fn finish(mut self) -> Record {
        self.keep_timings();
        self.record
    }

    async fn attempt<T: Transaction>(&mut self, what: &T) -> Result<Outcome, Failure> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::open(&self.bench, self.number).await?,
        };
        what.attempt(self.session.insert(session)).await
    }

    fn succeeded(&mut self, name: &'static str, how: Outcome, started: Instant, measured: bool) {
        self.run.succeeded();
        // What ends after the run is no part of it.
        if !measured || self.run.over() {
            return;
        }
        match how {
            Outcome::Done => self.record.success(name, micros_since(started)),
            Outcome::RolledBack => self.record.rollback(name, micros_since(started)),
        }
    }

    /// Leaves a session that the next attempt can use, or none.
    async fn clean_up(&mut self, failure: &Failure) {
        let Some(session) = &self.session else { return };
        if failure.trouble == Trouble::Connection || session.abandon().await.is_err() {
            self.keep_timings();
            self.session = None;
            // The node may be gone for long: try the next one first.
            self.number += 1;
        }
    }

    fn keep_timings(&mut self) {
        if let Some(session) = &self.session
            && self.warm
        {
            session.add_timings(&mut self.record);
        }
    }
}

/// Waits for all workers, and adds up what they measured.
pub async fn gather(run: &Arc<Run>, mut workers: JoinSet<Record>) -> Result<Record> {
    let bar = tokio::spawn(show_run(Arc::clone(run)));
    let mut sum = Record::default();
    while let Some(record) = workers.join_next().await {
        sum.add(&record?);
    }
    bar.abort();
    Ok(sum)
}
