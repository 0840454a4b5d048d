//! Meridian and PostgreSQL 15 side by side on this machine, interleaved, durable on both sides.
//!
//! Each workload runs in turns (Meridian, PostgreSQL, Meridian, …), once to warm up and then counted;
//! what is printed is the median of each side, their ratio, and the CPU time inside the servers per
//! transaction (their threads' `schedstat`). An fsync probe says what the disk gives.
//!
//! `cargo run --release -p compat-tests --bin speed -- [rounds] [seconds]`, 3 and 5 if not given.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use compat_tests::process::{TempDir, cpu_nanos};
use compat_tests::{Meridian, Options, Postgres, pgbench};

/// A workload: its name, the target ratio, and pgbench's arguments (a script is written to a file).
struct Workload {
    name: &'static str,
    target: f64,
    args: &'static [&'static str],
    script: Option<&'static str>,
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "select-only prepared 16",
        target: 1.5,
        args: &["-S", "-M", "prepared", "-c", "16"],
        script: None,
    },
    Workload {
        name: "select-only pipelined 16",
        target: 2.0,
        args: &["-M", "prepared", "-c", "16"],
        script: Some(PIPELINE),
    },
    Workload {
        name: "simple-update prepared 16",
        target: 1.0,
        args: &["-N", "-M", "prepared", "-c", "16"],
        script: None,
    },
    Workload {
        name: "tpcb-like prepared 16",
        target: 1.0,
        args: &["-M", "prepared", "-c", "16"],
        script: None,
    },
    Workload {
        name: "single-row update 16",
        target: 1.0,
        args: &["-M", "prepared", "-c", "16"],
        script: Some(UPDATE),
    },
    Workload {
        name: "key join prepared 8",
        target: 0.7,
        args: &["-M", "prepared", "-c", "8"],
        script: Some(JOIN),
    },
    Workload {
        name: "select-only simple 16",
        target: 1.0,
        args: &["-S", "-c", "16"],
        script: None,
    },
    Workload { name: "tpcb-like simple 8", target: 1.0, args: &["-c", "8"], script: None },
];

const PIPELINE: &str = "\\set a random(1, 1000000)\n\\set b random(1, 1000000)\n\\set c random(1, 1000000)\n\\set d random(1, 1000000)\n\\startpipeline\nSELECT abalance FROM pgbench_accounts WHERE aid = :a;\nSELECT abalance FROM pgbench_accounts WHERE aid = :b;\nSELECT abalance FROM pgbench_accounts WHERE aid = :c;\nSELECT abalance FROM pgbench_accounts WHERE aid = :d;\nSELECT abalance FROM pgbench_accounts WHERE aid = :a + 1;\nSELECT abalance FROM pgbench_accounts WHERE aid = :b + 1;\nSELECT abalance FROM pgbench_accounts WHERE aid = :c + 1;\nSELECT abalance FROM pgbench_accounts WHERE aid = :d + 1;\n\\endpipeline\n";
const UPDATE: &str = "\\set a random(1, 1000000)\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :a;\n";
const JOIN: &str = "\\set a random(1, 1000000)\nSELECT a.abalance, b.bbalance FROM pgbench_accounts a JOIN pgbench_branches b ON a.bid = b.bid WHERE a.aid = :a;\n";

/// One side: where it listens, and the processes whose CPU time counts.
struct Side {
    url: String,
    pid: u32,
}

#[expect(clippy::print_stdout, reason = "the program's report")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().map_or(Ok(3), |s| s.parse())?;
    let seconds = args.next().unwrap_or_else(|| "5".to_owned());
    let only = args.next();
    let postgres = Postgres::start()?.context("PostgreSQL 15 is not installed")?;
    let meridian = Meridian::start(Options { insecure: true, ..Options::default() })?;
    let sides = [
        Side { url: meridian.url("postgres"), pid: meridian.pid() },
        Side { url: postgres.url("postgres"), pid: postgres.pid()? },
    ];
    println!("fsync probe: {:.0} us for 4 KiB (median)", fsync_micros()?);
    for side in &sides {
        pgbench::run(&side.url, &["-i", "-s", "10", "-q"])?;
    }
    println!(
        "{:28} {:>10} {:>10} {:>7} {:>7}  {:>12} {:>12}",
        "workload", "meridian", "postgres", "ratio", "target", "us cpu/op", "us cpu/op pg"
    );
    let dir = TempDir::make("speed")?;
    for workload in WORKLOADS {
        if only.as_ref().is_some_and(|word| !workload.name.contains(word.as_str())) {
            continue;
        }
        let script = dir.0.join("script.sql");
        if let Some(text) = workload.script {
            fs::write(&script, text)?;
        }
        let (mut tps, mut cpu) = ([vec![], vec![]], [vec![], vec![]]);
        // The first round warms caches on both sides and is not counted.
        for round in 0..=rounds {
            for (i, side) in sides.iter().enumerate() {
                let script = script.to_string_lossy();
                let mut all = vec!["-n", "-T", &seconds, "-j", "2"];
                all.extend(workload.args);
                if workload.script.is_some() {
                    all.extend(["-f", &script]);
                }
                let before = cpu_nanos(side.pid)?;
                let output = pgbench::run(&side.url, &all)?;
                let used = cpu_nanos(side.pid)?.saturating_sub(before);
                if round == 0 {
                    continue;
                }
                tps[i].push(pgbench::tps(&output)?);
                cpu[i].push(used as f64 / 1000.0 / pgbench::processed(&output)?);
            }
        }
        let (ours, theirs) = (median(&mut tps[0]), median(&mut tps[1]));
        println!(
            "{:28} {ours:>10.0} {theirs:>10.0} {:>7.2} {:>7.1}  {:>12.1} {:>12.1}",
            workload.name,
            ours / theirs,
            workload.target,
            median(&mut cpu[0]),
            median(&mut cpu[1])
        );
    }
    if only.is_none_or(|word| "copy".contains(&word)) {
        copy(&sides)?;
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn fsync_micros() -> Result<f64> {
    let dir = TempDir::make("fsync")?;
    let mut file = fs::File::create(dir.0.join("probe"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let started = std::time::Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&mut times))
}

/// COPY of a million rows of pgbench_accounts into an empty table with a primary key.
#[expect(clippy::print_stdout, reason = "the program's report")]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn copy(sides: &[Side; 2]) -> Result<()> {
    let mut rate = [0.0; 2];
    for (i, side) in sides.iter().enumerate() {
        let setup =
            "CREATE TABLE copied (aid int PRIMARY KEY, bid int, abalance int, filler char(84))";
        pgbench::psql(&side.url, setup)?;
        let started = std::time::Instant::now();
        let mut psql = Command::new("psql")
            .args(["-X", "-q", "-c", "COPY copied FROM STDIN", &side.url])
            .stdin(Stdio::piped())
            .spawn()?;
        let mut input = std::io::BufWriter::new(psql.stdin.take().context("no input")?);
        for aid in 1..=1_000_000 {
            writeln!(input, "{aid}\t{}\t0\t", 1 + aid / 100_000)?;
        }
        drop(input);
        anyhow::ensure!(psql.wait()?.success(), "COPY has failed");
        rate[i] = 1_000_000.0 / started.elapsed().as_secs_f64();
    }
    let name = "copy 1M rows (rows/s)";
    println!(
        "{name:28} {:>10.0} {:>10.0} {:>7.2} {:>7.1}",
        rate[0],
        rate[1],
        rate[0] / rate[1],
        0.7
    );
    Ok(())
}
