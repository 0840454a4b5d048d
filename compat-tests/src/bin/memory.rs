//! Memory: what idle sessions cost, and what becomes of queries that outgrow their share.
//!
//! Opens sessions and leaves them idle, and prints the process's resident memory before and after;
//! then runs a sort and a hash join of rows that do not fit, each of which has to spill or to end
//! with `53200`, while another session goes on being served; and sends a literal of 300 MiB, whose
//! memory has to come back.
//!
//! `cargo run --release -p compat-tests --bin memory -- [sessions] [rows]`, 1,000 and 4,000,000 if
//! not given.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::{Meridian, Options, tls};
use tokio_postgres::error::SqlState;

/// What a thousand idle sessions may take, MiB.
const IDLE_MIB_MAX: u64 = 100;
/// What the process may take at most while big queries run, MiB.
const PEAK_MIB_MAX: u64 = 4096;
/// Size of the literal.
const LITERAL_MIB: usize = 300;

#[tokio::main]
async fn main() -> Result<()> {
    let sessions: u64 = std::env::args().nth(1).map_or(Ok(1000), |s| s.parse())?;
    let rows: u64 = std::env::args().nth(2).map_or(Ok(4_000_000), |s| s.parse())?;
    let server = Meridian::start(Options::default())?;
    idle(&server, sessions).await?;
    let queries = [
        (
            "sort",
            format!(
                "SELECT count(*) FROM (SELECT md5(i::text) AS m, repeat('x', 100) AS p FROM generate_series(1, {rows}) i ORDER BY m OFFSET 1) s"
            ),
        ),
        (
            "hash join",
            format!(
                "SELECT count(*) FROM (SELECT i, repeat('x', 100) AS p FROM generate_series(1, {rows}) i) a JOIN (SELECT i, repeat('y', 100) AS p FROM generate_series(1, {rows}) i) b ON a.i = b.i AND a.p <> b.p"
            ),
        ),
        (
            "grouping",
            format!(
                "SELECT count(*) FROM (SELECT i, max(repeat('x', 100)) FROM generate_series(1, {rows}) i GROUP BY i) g"
            ),
        ),
    ];
    for (name, query) in queries {
        outgrow(&server, name, &query).await?;
    }
    literal(&server).await
}

#[expect(clippy::print_stdout, reason = "the program's report")]
async fn literal(server: &Meridian) -> Result<()> {
    let client = tls::connect(&server.url("postgres")).await?;
    let (before, _) = server.resident()?;
    let text = format!("SELECT length('{}')", "x".repeat(LITERAL_MIB << 20));
    let answer = client.simple_query(&text).await;
    // The allocator gives pages back after a while.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let (after, _) = server.resident()?;
    println!(
        "a literal of {LITERAL_MIB} MiB: {}; {} MiB before, {} MiB after",
        answer.map_or_else(|e| text_of(&e), |_| "answered".to_owned()),
        before >> 10,
        after >> 10
    );
    ensure!(after.saturating_sub(before) >> 10 < 100, "the literal's memory has not come back");
    client.query_one("SELECT 1", &[]).await?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the program's report")]
async fn idle(server: &Meridian, sessions: u64) -> Result<()> {
    let url = server.url("postgres");
    let first = tls::connect(&url).await?;
    first.query_one("SELECT 1", &[]).await?;
    let (before, _) = server.resident()?;
    let mut open = Vec::new();
    for n in 0..sessions {
        let client = tls::connect(&url).await.with_context(|| format!("session {n}"))?;
        client.query_one("SELECT 1", &[]).await?;
        open.push(client);
    }
    let (after, _) = server.resident()?;
    let more = after.saturating_sub(before);
    println!(
        "{sessions} idle sessions: {} MiB before, {} MiB after, {:.1} KiB each",
        before >> 10,
        after >> 10,
        more as f64 / sessions.max(1) as f64
    );
    first.query_one("SELECT 1", &[]).await?;
    ensure!(
        more * 1000 / sessions.max(1) <= IDLE_MIB_MAX << 10,
        "a thousand idle sessions take more than {IDLE_MIB_MAX} MiB"
    );
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the program's report")]
async fn outgrow(server: &Meridian, name: &str, query: &str) -> Result<()> {
    let url = server.url("postgres");
    let (big, other) = (tls::connect(&url).await?, tls::connect(&url).await?);
    big.batch_execute("SET work_mem = '4MB'").await?;
    let mut answered = 0u32;
    let outcome = {
        let running = big.query_one(query, &[]);
        tokio::pin!(running);
        loop {
            tokio::select! {
                outcome = &mut running => break outcome,
                () = tokio::time::sleep(Duration::from_millis(200)) => {
                    let one = other.query_one("SELECT 1", &[]);
                    let served = tokio::time::timeout(Duration::from_secs(60), one).await;
                    served.context("another session was not served for a minute")??;
                    answered += 1;
                }
            }
        }
    };
    let (now, peak) = server.resident()?;
    let said = match outcome {
        Ok(row) => format!("{} rows", row.get::<_, i64>(0)),
        Err(error) if error.code() == Some(&SqlState::OUT_OF_MEMORY) => {
            format!("refused: {}", text_of(&error))
        }
        Err(error) => anyhow::bail!("{name}: {}", text_of(&error)),
    };
    println!(
        "{name}: {said}; {} MiB now, {} MiB at most; another session was answered {answered} times",
        now >> 10,
        peak >> 10
    );
    ensure!(peak >> 10 <= PEAK_MIB_MAX, "{name}: the server has taken {} MiB", peak >> 10);
    big.query_one("SELECT 1", &[]).await?;
    Ok(())
}

fn text_of(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |e| format!("{} {}", e.code().code(), e.message()))
}
