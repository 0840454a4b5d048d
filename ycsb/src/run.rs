//! The measured run.
//!
//! With `--target` each client has a timetable, and latency runs from the time that the table says, not
//! from when the client came to it: a server that stalls is charged for all that waited.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use meridian_base::clock::Instant;
use meridian_bench::{Bench, Cluster, Record, Report, Run, RunOptions, Target, Worker, gather};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::generators::{Chooser, Distribution};
use crate::keys::Keys;
use crate::workload::{CATALOG, Operation, Workload};

/// `ycsb run`
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    options: RunOptions,
    /// The core workload
    #[arg(long, short, value_enum, ignore_case = true)]
    workload: Workload,
    /// Clients, each with a connection
    #[arg(long, short, default_value_t = 8)]
    threads: usize,
    /// End after so many operations, and not by time
    #[arg(long, short)]
    operations: Option<u64>,
    /// How records are chosen; each workload has its own way
    #[arg(long, value_enum)]
    distribution: Option<Distribution>,
    /// Operations per second to ask for, by all clients together; as many as they can, unless given
    #[arg(long)]
    rate: Option<f64>,
    /// Rows of the longest scan
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    scan: u64,
}

/// What a client needs to choose its operations.
#[derive(Clone)]
struct Client {
    workload: Workload,
    keys: Arc<Keys>,
    chooser: Chooser,
    scan: u64,
    /// Time from one operation to the next, and from the run's beginning to the first.
    pace: Option<(Duration, Duration)>,
}

/// Runs, and reports.
pub(crate) async fn run(args: RunArgs) -> Result<()> {
    let cluster = Cluster::new(&args.target, "ycsb")?;
    let (nodes, threads) = (cluster.nodes(), args.threads.max(1));
    let records = count_records(&cluster).await?;
    let distribution = args.distribution.unwrap_or(args.workload.distribution());
    // As YCSB does: twice what is expected to be inserted.
    let inserts = args.operations.unwrap_or(0) as f64 * args.workload.inserts() * 2.0;
    let client = Client {
        workload: args.workload,
        keys: Arc::new(Keys::new(records)),
        chooser: Chooser::new(distribution, records, inserts as u64),
        scan: args.scan,
        pace: None,
    };

    let options = args.options.clone();
    let bench = Arc::new(Bench { cluster, setup: String::new(), catalog: &CATALOG, options });
    let crew = Worker::crew(&bench, threads).await?;
    let run = Arc::new(Run::begin(&args.options, args.operations));
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for member in crew {
        let mut client = client.clone();
        client.pace = match args.rate {
            Some(rate) => {
                ensure!(rate > 0.0, "--rate must be above zero");
                let step = Duration::try_from_secs_f64(threads as f64 / rate)?;
                Some((step, step.mul_f64(member.0 as f64 / threads as f64)))
            }
            None => None,
        };
        workers.spawn(work(client, Worker::new(&bench, &run, member), Arc::clone(&run), began));
    }
    let record = gather(&run, workers).await?;

    let report = Report {
        benchmark: "ycsb",
        measured: run.measured(),
        record: &record,
        figures: vec![
            ("workload", json!(format!("{:?}", args.workload))),
            ("distribution", json!(format!("{distribution:?}").to_lowercase())),
            ("records", records.into()),
            ("threads", threads.into()),
            ("nodes", nodes.into()),
            ("asked rate", args.rate.map_or("none".into(), Value::from)),
        ],
    };
    report.publish(args.options.json.as_deref())?;
    ensure!(record.errors().is_empty(), "some operations failed");
    Ok(())
}

/// Records are numbered from 0 on without gaps, so that their count tells their numbers.
async fn count_records(cluster: &Cluster) -> Result<u64> {
    let client = cluster.connect(0).await?;
    let row = client.query_one("SELECT count(*) FROM usertable", &[]).await;
    let count: i64 = row.context("cannot count records; has `ycsb load` run?")?.get(0);
    ensure!(count > 0, "usertable is empty");
    Ok(u64::try_from(count)?)
}

/// One client, until the run ends.
async fn work(mut client: Client, mut worker: Worker, run: Arc<Run>, began: Instant) -> Record {
    let mut due = client.pace.map(|(_, offset)| began + offset);
    loop {
        if let Some(due) = due {
            wait_until(due).await;
        }
        let Some(measured) = run.next() else { return worker.finish() };
        let Client { workload, keys, chooser, scan, .. } = &mut client;
        let operation = Operation::input(*workload, keys, chooser, *scan, &mut worker.rng);
        let started = due.unwrap_or_else(Instant::now);
        if worker.perform(&operation, started, measured).await
            && let Some(number) = operation.insert()
        {
            client.keys.inserted(number);
        }
        due = due.zip(client.pace).map(|(due, (step, _))| due + step);
    }
}

async fn wait_until(due: Instant) {
    let left = due.as_nanos().saturating_sub(Instant::now().as_nanos());
    if left > 0 {
        tokio::time::sleep(Duration::from_nanos(left)).await;
    }
}
