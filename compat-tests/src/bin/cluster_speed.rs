//! Three nodes of Meridian beside PostgreSQL 15 with two synchronous standbys, on this machine, interleaved.
//!
//! Meridian's clients are spread over all three nodes; PostgreSQL's are at the primary, which acknowledges a
//! commit when one of the standbys has it on disk. What is printed is the median of each side, their ratio,
//! and the CPU time of all servers of a side per transaction. The last line is a point read through nodes
//! that do not hold the lease.
//!
//! `cargo run --release -p compat-tests --bin cluster_speed -- [rounds] [seconds]`, 3 and 5 if not given;
//! `MERIDIAN_BIN` names the server's program.

use std::process::Child;

use anyhow::{Context, Result, bail};
use compat_tests::chaos::fleet::{Fleet, Shape};
use compat_tests::process::{binary, cpu_nanos};
use compat_tests::{Postgres, pgbench};

/// A workload: its name, the target ratio, and pgbench's arguments.
type Workload = (&'static str, f64, &'static [&'static str]);

const WORKLOADS: &[Workload] = &[
    ("select-only prepared 16", 0.6, &["-S", "-M", "prepared"]),
    ("simple-update prepared 16", 0.8, &["-N", "-M", "prepared"]),
    ("tpcb-like prepared 16", 0.8, &["-M", "prepared"]),
];

/// Clients of a side.
const CLIENTS: usize = 16;

/// What a run came to.
#[derive(Clone, Copy)]
struct Figures {
    tps: f64,
    /// Microseconds of all servers per transaction.
    cpu: f64,
}

/// One side: where clients connect, and the processes whose CPU time counts.
struct Side {
    urls: Vec<String>,
    pids: Vec<u32>,
}

impl Side {
    fn cpu(&self) -> Result<u64> {
        self.pids.iter().map(|pid| cpu_nanos(*pid)).sum()
    }

    /// Runs pgbench at all nodes at once.
    fn run(&self, args: &[&str], seconds: &str) -> Result<Figures> {
        let before = self.cpu()?;
        let (nodes, mut running) = (self.urls.len(), Vec::<Child>::new());
        for (node, url) in self.urls.iter().enumerate() {
            let clients = (CLIENTS / nodes + usize::from(node < CLIENTS % nodes)).to_string();
            let mut all = vec!["-n", "-T", seconds, "-j", "1", "-c", &clients];
            all.extend(args);
            running.push(pgbench::spawn(url, &all)?);
        }
        let (mut tps, mut done) = (0.0, 0.0);
        for child in running {
            let output = child.wait_with_output()?;
            if !output.status.success() {
                bail!("pgbench {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            }
            tps += pgbench::tps(&output)?;
            done += pgbench::processed(&output)?;
        }
        let used = self.cpu()?.saturating_sub(before);
        Ok(Figures { tps, cpu: used as f64 / 1000.0 / done })
    }
}

fn median(values: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = values.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "the program's report")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().map_or(Ok(3), |s| s.parse())?;
    let seconds = args.next().unwrap_or_else(|| "5".to_owned());
    let primary = Postgres::start()?.context("PostgreSQL 15 is not installed")?;
    let standbys = [primary.standby("standby1")?, primary.standby("standby2")?];
    let names = "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (standby1, standby2)'";
    pgbench::psql(&primary.url("postgres"), names)?;
    pgbench::psql(&primary.url("postgres"), "SELECT pg_reload_conf()")?;
    let fleet = Fleet::start(Shape { binary: binary()?, nodes: 3, disk_mib: None })?;
    let mut pids = vec![primary.pid()?];
    for standby in &standbys {
        pids.push(standby.pid()?);
    }
    let ours = (0..fleet.len()).map(|node| fleet.pid(node)).collect::<Result<Vec<_>>>()?;
    let sides = [
        Side { urls: fleet.urls(), pids: ours.clone() },
        Side { urls: vec![primary.url("postgres")], pids },
    ];
    for side in &sides {
        pgbench::run(&side.urls[0], &["-i", "-s", "10", "-q"])?;
    }
    println!(
        "{:28} {:>10} {:>10} {:>7} {:>7}  {:>12} {:>12}",
        "workload", "meridian", "postgres", "ratio", "target", "us cpu/op", "us cpu/op pg"
    );
    let log = "SELECT wal_records, wal_sync FROM pg_stat_wal";
    let log = || -> Result<Vec<f64>> {
        let row = pgbench::psql(&sides[0].urls[fleet.leaseholder()?], log)?;
        row.split('|').map(|number| Ok(number.parse()?)).collect()
    };
    for (name, target, args) in WORKLOADS {
        let before = log()?;
        let mut figures = [vec![], vec![]];
        // The first round warms caches on both sides and is not counted.
        for round in 0..=rounds {
            for (side, figures) in sides.iter().zip(&mut figures) {
                let run = side.run(args, &seconds)?;
                if round > 0 {
                    figures.push(run);
                }
            }
        }
        let [ours, theirs] = figures.each_ref().map(|all| median(all, |run| run.tps));
        let cpu = figures.each_ref().map(|all| median(all, |run| run.cpu));
        println!(
            "{name:28} {ours:>10.0} {theirs:>10.0} {:>7.2} {target:>7.1}  {:>12.1} {:>12.1}",
            ours / theirs,
            cpu[0],
            cpu[1]
        );
        let after = log()?;
        if after[1] > before[1] && !args.contains(&"-S") {
            let commits = (after[0] - before[0]) / (after[1] - before[1]);
            println!("{:28} {commits:>10.1} commits per fsync at the leaseholder", "");
        }
    }
    let holder = fleet.leaseholder()?;
    let mut urls = fleet.urls();
    urls.remove(holder);
    let away = Side { urls, pids: ours }.run(WORKLOADS[0].2, &seconds)?;
    println!(
        "point read through another node: {:.0}/s, {:.1} us cpu in all nodes",
        away.tps, away.cpu
    );
    Ok(())
}
