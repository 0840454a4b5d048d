//! One run: a workload's clients and a nemesis on a fleet, for a while; then peace, and the judgement.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::client::{Session, Trouble};
use super::fleet::Fleet;
use super::nemesis::Nemesis;
use super::workloads::{Workload, locked};

/// How many unexpected errors of a run are kept.
const ERRORS_KEPT: usize = 20;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Steps that were answered well.
    pub done: u64,
    /// Steps that the server refused, as it may, by SQLSTATE.
    pub refused: BTreeMap<String, u64>,
    /// Steps whose connection was lost.
    pub lost: u64,
    /// How often each nemesis struck.
    pub strikes: Vec<(&'static str, u32)>,
    /// What must not be.
    pub anomalies: Vec<String>,
    /// What the workload has to add.
    pub note: String,
}

#[derive(Debug, Default)]
struct Counters {
    done: AtomicU64,
    lost: AtomicU64,
    stop: AtomicBool,
    refused: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
}

async fn client(
    workload: Arc<dyn Workload>,
    mut session: Session,
    seed: u64,
    counters: Arc<Counters>,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !counters.stop.load(Ordering::Relaxed) && !workload.full() {
        session.wander(&mut rng);
        let answer = match session.connect(&mut rng).await {
            Ok(()) => workload.step(&mut session, &mut rng).await,
            Err(trouble) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(trouble)
            }
        };
        match answer {
            Ok(()) => _ = counters.done.fetch_add(1, Ordering::Relaxed),
            Err(Trouble::Refused(code)) => *locked(&counters.refused).entry(code).or_default() += 1,
            Err(Trouble::Lost) => {
                session.drop_connection();
                counters.lost.fetch_add(1, Ordering::Relaxed);
            }
            Err(Trouble::Wrong(text)) => {
                session.drop_connection();
                let mut wrong = locked(&counters.wrong);
                if wrong.len() < ERRORS_KEPT {
                    wrong.push(format!("a client was told: {text}"));
                }
            }
        }
        // Histories stay small enough to be judged, and clients leave room for the nemesis.
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..workload.pause_ms()))).await;
    }
}

async fn prepare(workload: &dyn Workload, session: &mut Session, rng: &mut StdRng) -> Result<()> {
    for statement in workload.setup() {
        for attempt in 0.. {
            let answer = match session.connect(rng).await {
                Ok(()) => session.texts(&statement).await,
                Err(trouble) => Err(trouble),
            };
            match answer {
                Ok(_) => break,
                Err(trouble) if attempt == 20 => bail!("{statement}: {trouble:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
    Ok(())
}

/// Runs a workload with so many clients for so long.
pub async fn run(
    fleet: &mut Fleet,
    workload: Arc<dyn Workload>,
    nemeses: &[Nemesis],
    clients: usize,
    length: Duration,
    seed: u64,
) -> Result<Outcome> {
    let mut rng = StdRng::seed_from_u64(seed);
    let urls = fleet.urls();
    let mut own = Session::new(&urls, clients);
    prepare(workload.as_ref(), &mut own, &mut rng).await?;
    let counters = Arc::new(Counters::default());
    let tasks: Vec<_> = (0..clients)
        .map(|number| {
            let session = Session::new(&urls, number);
            let (workload, counters) = (Arc::clone(&workload), Arc::clone(&counters));
            tokio::spawn(client(workload, session, seed ^ (number as u64 + 1), counters))
        })
        .collect();
    let mut outcome = Outcome::default();
    let broken =
        torment(fleet, workload.as_ref(), nemeses, length, &mut own, &mut rng, &mut outcome);
    let broken = broken.await;
    counters.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await?;
    }
    broken?;
    for node in 0..fleet.len() {
        if let Some(how) = fleet.ended(node) {
            outcome.anomalies.push(format!("node {node} has ended by itself: {how}"));
            fleet.mend()?;
        }
    }
    outcome.anomalies.append(&mut locked(&counters.wrong));
    outcome.done = counters.done.load(Ordering::Relaxed);
    outcome.refused = std::mem::take(&mut locked(&counters.refused));
    outcome.lost = counters.lost.load(Ordering::Relaxed);
    let (mut anomalies, note) = judge(workload.as_ref(), &mut own, &mut rng).await?;
    outcome.anomalies.append(&mut anomalies);
    outcome.note = note;
    Ok(outcome)
}

/// The nemesis at work. What a node did that it must not is noted; an error is the end.
async fn torment(
    fleet: &mut Fleet,
    workload: &dyn Workload,
    nemeses: &[Nemesis],
    length: Duration,
    own: &mut Session,
    rng: &mut StdRng,
    outcome: &mut Outcome,
) -> Result<()> {
    let end = tokio::time::Instant::now() + length;
    while tokio::time::Instant::now() < end && !workload.full() {
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..3000))).await;
        let Some(nemesis) = nemeses.choose(rng) else { continue };
        if let Err(error) = nemesis.strike(fleet, own, rng).await {
            outcome.anomalies.push(format!("{}: {error:#}", nemesis.name()));
            fleet.mend().context("a node is gone for good")?;
        }
        match outcome.strikes.iter_mut().find(|(name, _)| *name == nemesis.name()) {
            Some((_, count)) => *count += 1,
            None => outcome.strikes.push((nemesis.name(), 1)),
        }
    }
    Ok(())
}

/// The last reads, again until they succeed, and the judgement.
async fn judge(
    workload: &dyn Workload,
    session: &mut Session,
    rng: &mut StdRng,
) -> Result<(Vec<String>, String)> {
    for _ in 0..100 {
        let answer = match session.connect(rng).await {
            Ok(()) => workload.judge(session).await,
            Err(trouble) => Err(trouble),
        };
        match answer {
            Ok(judgement) => return Ok(judgement),
            Err(Trouble::Wrong(text)) => bail!("the last reads: {text}"),
            Err(_) => {
                session.drop_connection();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    bail!("the last reads do not succeed")
}
