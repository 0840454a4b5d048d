//! Pulls the plug: pgbench runs while the server is killed with SIGKILL every few seconds.
//!
//! Each client writes the key of every insert that was acknowledged to memory; after each restart
//! all of them must be there, and pgbench's four sums must be equal. Prints the restarts' times.
//!
//! `cargo run --release -p compat-tests --bin crash -- [seconds]`, 120 if not given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
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
    let started = std::time::Instant::now();
    let mut last = vec![0i64; 4];
    let mut longest = Duration::ZERO;
    let mut rounds = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        let acknowledged = one_round(&mut server, &url, &last)?;
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
        let sum = pgbench::check_sums(&url)?;
        rounds += 1;
        println!(
            "round {rounds}: acknowledged {acknowledged:?}, sums equal at {sum}, restart {:?}",
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
fn one_round(server: &mut Meridian, url: &str, last: &[i64]) -> Result<Vec<i64>> {
    let mut bench = pgbench::spawn(url, &["-n", "-c", "8", "-T", "60", "-M", "prepared"])?;
    let counters: Vec<Arc<AtomicI64>> = last.iter().map(|n| Arc::new(AtomicI64::new(*n))).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clients = counters.clone();
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
