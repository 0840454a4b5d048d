//! Chaos on real processes: see [`compat_tests::chaos`] for what is run and what must hold.
//!
//! ```text
//! cargo run --release -p compat-tests --bin chaos -- [--nodes N] [--seconds S] [--clients N]
//!     [--seed N] [--workloads a,b] [--nemeses a,b] [--disk-mib N] [--out FOLDER] [--binary PATH]
//! … --gap N            kills the leaseholder N times under one writer: the gaps that it felt
//! … --spin SECONDS     keeps every core busy and counts false elections
//! … --load SECONDS     pgbench on all nodes, and every ten seconds (--every) a kill of one
//! … --rolling SECONDS  the same with a stop in good order, one node after the other
//! … --idle SECONDS     what nodes cost that have nothing to do
//! ```
//! The program is `MERIDIAN_BIN` or what cargo builds. A run that fails leaves its history and its seed
//! in the folder (`target/chaos` if not given). `--disk-mib` gives each node a disk of its own, which
//! can be filled.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use compat_tests::chaos::client::Session;
use compat_tests::chaos::fleet::{Fleet, Shape};
use compat_tests::chaos::nemesis::{self, Nemesis};
use compat_tests::chaos::run::{Outcome, run};
use compat_tests::chaos::{gap, idle, load, workloads};
use compat_tests::process;
use rand::SeedableRng;
use rand::rngs::StdRng;

struct Arguments {
    nodes: usize,
    seconds: u64,
    clients: usize,
    seed: u64,
    workloads: Vec<String>,
    nemeses: Vec<Nemesis>,
    disk_mib: Option<u32>,
    out: PathBuf,
    binary: Option<PathBuf>,
    gap: Option<usize>,
    spin: Option<u64>,
    load: Option<u64>,
    rolling: Option<u64>,
    every: u64,
    idle: Option<u64>,
}

impl Arguments {
    fn read() -> Result<Arguments> {
        let mut arguments = Arguments {
            nodes: 1,
            seconds: 60,
            clients: 8,
            seed: 1,
            workloads: workloads::NAMES.iter().map(|name| (*name).to_owned()).collect(),
            nemeses: nemesis::ALL.iter().map(|(_, nemesis)| *nemesis).collect(),
            disk_mib: None,
            out: "target/chaos".into(),
            binary: None,
            gap: None,
            spin: None,
            load: None,
            rolling: None,
            every: 10,
            idle: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--nodes" => arguments.nodes = value.parse()?,
                "--seconds" => arguments.seconds = value.parse()?,
                "--clients" => arguments.clients = value.parse()?,
                "--seed" => arguments.seed = value.parse()?,
                "--workloads" => {
                    arguments.workloads = value.split(',').map(str::to_owned).collect();
                }
                "--nemeses" => arguments.nemeses = nemeses(&value)?,
                "--disk-mib" => arguments.disk_mib = Some(value.parse()?),
                "--out" => arguments.out = value.into(),
                "--binary" => arguments.binary = Some(value.into()),
                "--gap" => arguments.gap = Some(value.parse()?),
                "--spin" => arguments.spin = Some(value.parse()?),
                "--load" => arguments.load = Some(value.parse()?),
                "--rolling" => arguments.rolling = Some(value.parse()?),
                "--every" => arguments.every = value.parse()?,
                "--idle" => arguments.idle = Some(value.parse()?),
                _ => bail!("unknown argument {word}"),
            }
        }
        Ok(arguments)
    }
}

fn nemeses(names: &str) -> Result<Vec<Nemesis>> {
    let named = |name: &str| {
        let found = nemesis::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, nemesis)| *nemesis).with_context(|| format!("unknown nemesis {name}"))
    };
    names.split(',').filter(|name| *name != "none").map(named).collect()
}

fn main() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(chaos(Arguments::read()?))
}

#[expect(clippy::print_stdout, reason = "the program's report")]
async fn chaos(mut arguments: Arguments) -> Result<()> {
    let binary = match arguments.binary.take() {
        Some(binary) => binary,
        None => process::binary()?,
    };
    let (nodes, disk_mib) = (arguments.nodes, arguments.disk_mib);
    let mut fleet = Fleet::start(Shape { binary, nodes, disk_mib })?;
    println!("{nodes} node(s) in {}; seed {}", fleet.net.describe(), arguments.seed);
    if let Some(kills) = arguments.gap {
        return gaps(&mut fleet, kills, arguments.seed).await;
    }
    if let Some(seconds) = arguments.spin {
        let cores = std::thread::available_parallelism()?.get();
        let length = Duration::from_secs(seconds);
        let changes = gap::false_elections(&fleet, length, cores).await?;
        println!("{changes} false elections in {seconds} s with {cores} cores kept busy");
        return Ok(());
    }
    if let Some(seconds) = arguments.load.or(arguments.rolling) {
        return loaded(&mut fleet, &arguments, seconds);
    }
    if let Some(seconds) = arguments.idle {
        println!("{}", idle::table(&fleet, Duration::from_secs(seconds))?);
        return Ok(());
    }
    let mut session = Session::new(&fleet.urls(), 0);
    let _ = session.connect(&mut StdRng::seed_from_u64(arguments.seed)).await;
    let mut here = Vec::new();
    for nemesis in &arguments.nemeses {
        match nemesis.missing(&fleet, &session).await {
            Some(why) => println!("LEFT OUT: {}: {why}", nemesis.name()),
            None => here.push(*nemesis),
        }
    }
    println!(
        "| workload | done | refused | lost | strikes | anomalies | |\n|---|---:|---:|---:|---|---:|---|"
    );
    let mut failed = 0;
    for (at, name) in arguments.workloads.iter().enumerate() {
        let workload =
            workloads::named(name, nodes > 1).with_context(|| format!("no workload {name}"))?;
        let seed = arguments.seed.wrapping_add(at as u64 * 1_000_003);
        let length = Duration::from_secs(arguments.seconds);
        let outcome =
            run(&mut fleet, workload.clone(), &here, arguments.clients, length, seed).await;
        let outcome = outcome.unwrap_or_else(|error| Outcome {
            anomalies: vec![format!("the run came to no end: {error:#}")],
            ..Outcome::default()
        });
        println!("{}", row(name, &outcome));
        if !outcome.anomalies.is_empty() {
            failed += 1;
            keep(&arguments.out, name, seed, &outcome, &workload.dump())?;
            for anomaly in outcome.anomalies.iter().take(5) {
                println!("    {anomaly}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} workload(s) with anomalies; histories are in {}", arguments.out.display());
    }
    Ok(())
}

fn row(name: &str, outcome: &Outcome) -> String {
    let strikes: Vec<String> =
        outcome.strikes.iter().map(|(name, times)| format!("{name} {times}")).collect();
    let refused: Vec<String> =
        outcome.refused.iter().map(|(code, times)| format!("{code} {times}")).collect();
    format!(
        "| {name} | {} | {} | {} | {} | {} | {} |",
        outcome.done,
        refused.join(", "),
        outcome.lost,
        strikes.join(", "),
        outcome.anomalies.len(),
        outcome.note
    )
}

fn keep(out: &Path, name: &str, seed: u64, outcome: &Outcome, history: &str) -> Result<()> {
    std::fs::create_dir_all(out)?;
    let anomalies = outcome.anomalies.join("\n");
    let text = format!("workload {name}, seed {seed}\n\n{anomalies}\n\n{history}");
    Ok(std::fs::write(out.join(format!("{name}-{seed}.history")), text)?)
}

#[expect(clippy::print_stdout, reason = "the program's report")]
async fn gaps(fleet: &mut Fleet, kills: usize, seed: u64) -> Result<()> {
    let gaps = gap::measure(fleet, kills, seed).await?;
    let ms = |percent| gaps.percentile(percent).as_millis();
    println!(
        "{kills} kills of the leaseholder: gap p50 {} ms, p99 {} ms, max {} ms; {} writes acknowledged, {} lost",
        ms(50),
        ms(99),
        ms(100),
        gaps.acknowledged,
        gaps.lost
    );
    if gaps.lost > 0 {
        bail!("acknowledged writes were lost");
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the program's report")]
fn loaded(fleet: &mut Fleet, arguments: &Arguments, seconds: u64) -> Result<()> {
    let (length, every) = (Duration::from_secs(seconds), Duration::from_secs(arguments.every));
    let done = load::run(fleet, length, every, arguments.load.is_some(), arguments.seed)?;
    println!(
        "{} strikes: {} transactions acknowledged, {} in the history, sums equal; on nodes that were up: \
         {} to be tried again, {} other errors; {} connections ended with their node",
        done.strikes,
        done.acknowledged,
        done.kept,
        done.retryable,
        done.errors.len(),
        done.cut_off
    );
    for error in done.errors.iter().take(10) {
        println!("    {error}");
    }
    if done.kept < done.acknowledged {
        bail!("{} acknowledged transactions were lost", done.acknowledged - done.kept);
    }
    if !done.errors.is_empty() {
        bail!("clients of nodes that were up saw errors");
    }
    Ok(())
}
