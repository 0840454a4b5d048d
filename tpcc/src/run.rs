//! The measured run.
//!
//! A connection is a terminal. With keying and think times there are ten terminals for each warehouse,
//! one for each district, as the specification has it; without, as many as are asked for, spread over
//! the warehouses.
//!
//! Delivery is done at once by the terminal, or, with `--delivery deferred`, put into a queue and done by
//! workers with connections of their own: then its time runs from the queue to the end of its work, and
//! the terminal goes on at once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use meridian_base::clock::Instant;
use meridian_base::rng::Rng;
use meridian_bench::{Bench, Cluster, Report, Run, RunOptions, Target, Worker, gather};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::mix::{Chooser, Kind, Mix};
use crate::random::{Constants, DISTRICTS};
use crate::statements::CATALOG;
use crate::transactions::{Input, Terminal};

/// `tpcc run`
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    options: RunOptions,
    /// Terminals; with --wait always ten for each warehouse
    #[arg(long, short, default_value_t = 8)]
    connections: usize,
    /// Warehouses to use; all that are loaded, unless given
    #[arg(long, short)]
    warehouses: Option<i32>,
    /// Keep keying and think times, so that a warehouse gives 12.86 tpmC at most
    #[arg(long)]
    wait: bool,
    /// How the next transaction is chosen
    #[arg(long, value_enum, default_value = "weighted")]
    mix: Mix,
    /// Who does deliveries
    #[arg(long, value_enum, default_value = "inline")]
    delivery: DeliveryMode,
    /// Isolation of the transactions that write
    #[arg(long, value_enum, default_value = "read-committed")]
    isolation: Isolation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DeliveryMode {
    /// The terminal, at once
    Inline,
    /// Workers behind a queue, as in clause 2.7
    Deferred,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Isolation {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Isolation {
    const fn sql(self) -> &'static str {
        match self {
            Self::ReadCommitted => "READ COMMITTED",
            Self::RepeatableRead => "REPEATABLE READ",
            Self::Serializable => "SERIALIZABLE",
        }
    }
}

/// A delivery that waits: since when, and whether it is measured.
type Deferred = (Input, Instant, bool);

/// Runs, and reports.
pub(crate) async fn run(args: RunArgs) -> Result<()> {
    let cluster = Cluster::new(&args.target, "tpcc")?;
    let nodes = cluster.nodes();
    let warehouses = warehouses(&cluster, args.warehouses).await?;
    let isolation = args.isolation.sql();
    let setup = format!("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {isolation}");
    let options = args.options.clone();
    let bench = Arc::new(Bench { cluster, setup, catalog: &CATALOG, options });

    let terminals = match args.wait {
        true => (warehouses * DISTRICTS) as usize,
        false => args.connections.max(1),
    };
    let deliverers = match args.delivery {
        DeliveryMode::Inline => 0,
        DeliveryMode::Deferred => terminals.div_ceil(10),
    };
    let mut crew = Worker::crew(&bench, terminals + deliverers).await?;
    let run = Arc::new(Run::begin(&args.options, None));
    let mut rng = args.options.seed.map_or_else(Rng::from_os, Rng::seeded);
    let constants = Constants::for_run(&mut rng);

    let mut workers = JoinSet::new();
    let (sender, receiver) = unbounded_channel();
    let receiver = Arc::new(Mutex::new(receiver));
    for member in crew.split_off(terminals) {
        let worker = Worker::new(&bench, &run, member);
        workers.spawn(deliver(worker, Arc::clone(&receiver)));
    }
    for member in crew {
        let place = member.0 as i32;
        let home = if args.wait { place / DISTRICTS } else { place % warehouses } + 1;
        let district = if args.wait { place } else { place / warehouses } % DISTRICTS + 1;
        let terminal = Terminal { warehouses, home, district, constants };
        let queue = (deliverers > 0).then(|| sender.clone());
        let worker = Worker::new(&bench, &run, member);
        let chooser = Chooser::new(args.mix);
        workers.spawn(sit_at(terminal, worker, Arc::clone(&run), chooser, args.wait, queue));
    }
    drop(sender);
    let record = gather(&run, workers).await?;

    let measured = run.measured();
    let new_orders = record.committed(Kind::NewOrder.name());
    let tpmc = new_orders as f64 * 60.0 / measured.as_secs_f64();
    let report = Report {
        benchmark: "tpcc",
        measured,
        record: &record,
        figures: vec![
            ("tpmC", tpmc.into()),
            ("warehouses", warehouses.into()),
            ("terminals", terminals.into()),
            ("nodes", nodes.into()),
            ("keying and think times", args.wait.into()),
            ("delivery", json!(format!("{:?}", args.delivery).to_lowercase())),
            ("isolation", isolation.to_lowercase().into()),
        ],
    };
    report.publish(args.options.json.as_deref())?;
    ensure!(record.errors().is_empty(), "some transactions failed");
    Ok(())
}

/// The number of warehouses: as asked for, if so many are there.
async fn warehouses(cluster: &Cluster, wanted: Option<i32>) -> Result<i32> {
    let client = cluster.connect(0).await?;
    let row = client.query_one("SELECT count(*) FROM warehouse", &[]).await;
    let loaded: i64 = row.context("cannot count warehouses; has `tpcc load` run?")?.get(0);
    let loaded = i32::try_from(loaded)?;
    let warehouses = wanted.unwrap_or(loaded);
    ensure!((1..=loaded).contains(&warehouses), "{loaded} warehouses are loaded");
    Ok(warehouses)
}

/// One terminal, until the run ends.
async fn sit_at(
    terminal: Terminal,
    mut worker: Worker,
    run: Arc<Run>,
    mut chooser: Chooser,
    wait: bool,
    queue: Option<UnboundedSender<Deferred>>,
) -> meridian_bench::Record {
    while run.next().is_some() {
        let kind = chooser.next(&mut worker.rng);
        if wait {
            pause(&run, kind.keying()).await;
        }
        let input = terminal.input(kind, &mut worker.rng);
        // Asked again: the user may have typed past the beginning or the end of measuring.
        let Some(measured) = run.next() else { break };
        let started = Instant::now();
        match &queue {
            Some(queue) if kind == Kind::Delivery => {
                // The deliverers outlive all terminals.
                let _ = queue.send((input, started, measured));
            }
            _ => {
                worker.perform(&input, started, measured).await;
            }
        }
        if wait {
            let thinking = kind.thinking(&mut worker.rng);
            pause(&run, thinking).await;
        }
    }
    worker.finish()
}

/// A worker behind the queue of deliveries.
async fn deliver(
    mut worker: Worker,
    queue: Arc<Mutex<UnboundedReceiver<Deferred>>>,
) -> meridian_bench::Record {
    loop {
        let next = queue.lock().await.recv().await;
        let Some((input, started, measured)) = next else { return worker.finish() };
        worker.perform(&input, started, measured).await;
    }
}

/// Sleeps, but not past the end of the run.
async fn pause(run: &Run, time: Duration) {
    tokio::time::sleep(time.min(run.total().saturating_sub(run.elapsed()))).await;
}
