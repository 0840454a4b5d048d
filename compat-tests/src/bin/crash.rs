//! Pulls the plug: pgbench runs while the server is killed with SIGKILL every few seconds.
//!
//! Each client writes the key of every insert that was acknowledged to memory; after each restart
//! all of them must be there, and pgbench's four sums must be equal. Meanwhile another client loads
//! rows in bulk, by COPY and by INSERT … SELECT in turn: of each load all rows must be there or none,
//! and all if it was acknowledged. Prints the restarts' times.
//!
//! `cargo run --release -p compat-tests --bin crash -- [seconds]`, 120 if not given.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::{Meridian, Options, pgbench, tls};

#[expect(clippy::print_stdout, reason = "the program's report")]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn main() -> Result<()> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(120), |s| s.parse())?;
    let mut server = Meridian::start(Options::default())?;
    let url = server.url("postgres");
    pgbench::run(&url, &["-i", "-s", "2", "-q"])?;
    pgbench::psql(
        &url,
        "CREATE TABLE acknowledged (client int8, n int8, PRIMARY KEY (client, n))",
    )?;
    let loaded = "CREATE TABLE loaded (load int8, n int8, filler text, PRIMARY KEY (load, n))";
    pgbench::psql(&url, loaded)?;
    let started = std::time::Instant::now();
    let (mut last, loads) = (vec![0i64; 4], Arc::new(Loads::default()));
    let mut longest = Duration::ZERO;
    let mut rounds = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        let acknowledged = one_round(&mut server, &url, &last, &loads)?;
        let restart = std::time::Instant::now();
        server.restart()?;
        longest = longest.max(restart.elapsed());
        for (client, n) in acknowledged.iter().enumerate() {
            let query =
                format!("SELECT count(*) FROM acknowledged WHERE client = {client} AND n <= {n}");
            let found: i64 = pgbench::psql(&url, &query)?.parse()?;
            ensure!(
                found == *n,
                "client {client}: {n} inserts were acknowledged, {found} are there"
            );
        }
        let whole = check_loads(&url, &loads)?;
        let sum = pgbench::check_sums(&url)?;
        rounds += 1;
        println!(
            "round {rounds}: acknowledged {acknowledged:?}, sums equal at {sum}, {whole} whole loads, \
             restart {:?}",
            restart.elapsed()
        );
        last = acknowledged;
    }
    println!(
        "{rounds} kills, no acknowledged commit lost, sums equal, longest restart {longest:?}"
    );
    ensure!(longest < Duration::from_secs(5), "a restart took {longest:?}");
    Ok(())
}

/// Runs clients for some seconds and kills the server: what each client was promised.
fn one_round(
    server: &mut Meridian,
    url: &str,
    last: &[i64],
    loads: &Arc<Loads>,
) -> Result<Vec<i64>> {
    let mut bench = pgbench::spawn(url, &["-n", "-c", "8", "-T", "60", "-M", "prepared"])?;
    let counters: Vec<Arc<AtomicI64>> = last.iter().map(|n| Arc::new(AtomicI64::new(*n))).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clients = counters.clone();
    let loader = std::thread::spawn({
        let (url, loads) = (url.to_owned(), Arc::clone(loads));
        move || while load(&url, &loads).is_ok() {}
    });
    let (url, stopping) = (url.to_owned(), Arc::clone(&stop));
    let inserter = std::thread::spawn(move || {
        runtime.block_on(async {
            let tasks = clients.into_iter().enumerate();
            let tasks: Vec<_> =
                tasks.map(|(i, n)| insert(url.clone(), i, n, Arc::clone(&stopping))).collect();
            for task in tasks.into_iter().map(tokio::spawn).collect::<Vec<_>>() {
                let _ = task.await;
            }
        });
    });
    std::thread::sleep(Duration::from_millis(3000));
    server.kill()?;
    stop.store(true, Ordering::SeqCst);
    inserter.join().ok().context("the inserting thread has panicked")?;
    loader.join().ok().context("the loading thread has panicked")?;
    let _ = bench.kill();
    let _ = bench.wait();
    Ok(counters.iter().map(|n| n.load(Ordering::SeqCst)).collect())
}

/// Inserts 1, 2, 3 … for one client, counting what was acknowledged.
async fn insert(
    url: String,
    client: usize,
    done: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let connection = tls::connect(&url).await?;
    let statement = connection
        .prepare("INSERT INTO acknowledged VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .await?;
    let client = i64::try_from(client)?;
    while !stop.load(Ordering::SeqCst) {
        let n = done.load(Ordering::SeqCst) + 1;
        connection.execute(&statement, &[&client, &n]).await?;
        done.store(n, Ordering::SeqCst);
    }
    Ok(())
}

/// Rows of one load: some entries of the log.
const LOAD_ROWS: i64 = 100_000;

/// The loads so far.
#[derive(Default)]
struct Loads {
    begun: AtomicI64,
    acknowledged: Mutex<Vec<i64>>,
}

/// One load, in one transaction.
fn load(url: &str, loads: &Loads) -> Result<()> {
    let load = loads.begun.fetch_add(1, Ordering::SeqCst);
    if load % 2 == 0 {
        let mut psql = Command::new("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", "COPY loaded FROM STDIN", url])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut input = std::io::BufWriter::new(psql.stdin.take().context("no input")?);
        let filler = "x".repeat(100);
        let sent = (0..LOAD_ROWS).try_for_each(|n| writeln!(input, "{load}\t{n}\t{filler}"));
        drop(input);
        ensure!(psql.wait()?.success() && sent.is_ok(), "COPY has failed");
    } else {
        let rows = format!("generate_series(0, {}) AS n", LOAD_ROWS - 1);
        let insert = format!("INSERT INTO loaded SELECT {load}, n, repeat('x', 100) FROM {rows}");
        pgbench::psql(url, &insert)?;
    }
    loads.acknowledged.lock().expect("no load panics").push(load);
    Ok(())
}

/// Looks whether loads are there as a whole or not at all; answers how many are.
fn check_loads(url: &str, loads: &Loads) -> Result<usize> {
    let counts = pgbench::psql(url, "SELECT load, count(*) FROM loaded GROUP BY load")?;
    let mut whole = vec![];
    for line in counts.lines().filter(|line| !line.is_empty()) {
        let (load, count) = line.split_once('|').context("two columns")?;
        ensure!(count.parse() == Ok(LOAD_ROWS), "load {load} has {count} rows");
        whole.push(load.parse::<i64>()?);
    }
    for load in loads.acknowledged.lock().expect("no load panics").drain(..) {
        ensure!(whole.contains(&load), "load {load} was acknowledged and is gone");
    }
    pgbench::psql(url, "TRUNCATE loaded")?;
    Ok(whole.len())
}
