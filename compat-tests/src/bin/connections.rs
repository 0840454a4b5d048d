//! Many connections at once: what they cost, and how fast those that work are answered.
//!
//! Opens connections over TLS until all are there, lets some of them read rows by key as fast as they
//! are answered, and looks at the end whether every one of the others still is. Prints the memory of
//! the server before and after, and percentiles of the reads' times.
//!
//! `cargo run --release -p compat-tests --bin connections -- [connections] [active] [seconds]`, 10,000,
//! 200 and 20 if not given. Needs as many file descriptors (`ulimit -n`), for the server as well.

#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use compat_tests::{Meridian, Options, tls};
use rand::Rng;
use tokio_postgres::Client;

/// What all connections together may take, MiB.
const MIB_MAX: u64 = 500;
/// Handshakes under way at once.
const AT_ONCE: usize = 64;
/// Rows of the table that is read.
const ROWS: i32 = 100_000;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the program's report")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).map(|s| s.parse::<usize>());
    let count = args.next().unwrap_or(Ok(10_000))?;
    let active = args.next().unwrap_or(Ok(200))?;
    let seconds = args.next().unwrap_or(Ok(20))?;
    let args = vec!["--max-connections".to_owned(), (count + 10).to_string()];
    let server = Meridian::start(Options { args, ..Options::default() })?;
    let url = server.url("postgres");
    let first = tls::connect(&url).await?;
    first.batch_execute("CREATE TABLE t (id int PRIMARY KEY, v text)").await?;
    let fill = format!("INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, {ROWS}) i");
    first.batch_execute(&fill).await?;
    let (before, _) = server.resident()?;

    let started = Instant::now();
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let some = AT_ONCE.min(count - clients.len());
        let opened = futures::future::try_join_all((0..some).map(|_| tls::connect(&url))).await;
        clients.extend(opened.with_context(|| format!("after {} connections", clients.len()))?);
    }
    println!("{count} connections opened in {:.1} s", started.elapsed().as_secs_f64());
    let (idle, _) = server.resident()?;

    let until = Instant::now() + Duration::from_secs(seconds as u64);
    let at_work: Vec<Client> = clients.drain(..active.min(count)).collect();
    let reading = at_work.into_iter().map(|client| tokio::spawn(read(client, until)));
    let mut times = Vec::new();
    for outcome in futures::future::try_join_all(reading).await? {
        times.extend(outcome?);
    }
    let (working, peak) = server.resident()?;
    for some in clients.chunks(AT_ONCE) {
        let asked = some.iter().map(|client| client.query_one("SELECT v FROM t WHERE id = 1", &[]));
        futures::future::try_join_all(asked).await.context("of an idle connection")?;
    }
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{} reads by {active} of them, {:.0} a second: {:?} at the median, {:?} at 99 %, {:?} at most",
        times.len(),
        times.len() as f64 / seconds as f64,
        at(0.5),
        at(0.99),
        at(1.0)
    );
    let (after, _) = server.resident()?;
    println!(
        "memory: {} MiB before, {} MiB with all idle, {} MiB with {active} at work, {} MiB when each was asked, {} MiB at most",
        before >> 10,
        idle >> 10,
        working >> 10,
        after >> 10,
        peak >> 10
    );
    let more = idle.max(working).max(after).saturating_sub(before) >> 10;
    ensure!(more < MIB_MAX, "{count} connections take {more} MiB");
    Ok(())
}

/// Reads rows by key until then: the time of each.
async fn read(client: Client, until: Instant) -> Result<Vec<Duration>> {
    let statement = client.prepare("SELECT v FROM t WHERE id = $1").await?;
    let mut times = Vec::new();
    while Instant::now() < until {
        let id = rand::rng().random_range(1..=ROWS);
        let asked = Instant::now();
        client.query_one(&statement, &[&id]).await?;
        times.push(asked.elapsed());
    }
    Ok(times)
}
