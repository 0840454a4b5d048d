//! Queries that outgrow their memory: what can spill does, what cannot ends with 53200.

use anyhow::{Context, Result};
use compat_tests::{Meridian, Options, tls};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

#[tokio::test]
async fn memory_has_a_bound() -> Result<()> {
    let server = Meridian::start(Options::default())?;
    let url = server.url("postgres");
    let (client, other) = (tls::connect(&url).await?, tls::connect(&url).await?);
    client.batch_execute("SET work_mem = '64kB'").await?;
    spilling_keeps_the_answer(&client).await?;
    outgrowing_ends_the_query_alone(&client, &other).await?;
    Ok(())
}

/// Some 30 MB of rows, twice what a statement has at least.
async fn spilling_keeps_the_answer(client: &Client) -> Result<()> {
    let rows = "SELECT (i * 7919) % 100003 AS k, i, repeat('x', 200) || i AS pad FROM generate_series(1, 120000) i";
    let checks = [
        (
            format!(
                "SELECT count(*), bool_and(k >= before) FROM (SELECT k, lag(k) OVER (ORDER BY k, i) AS before FROM ({rows}) r) w"
            ),
            ["120000", "t"],
        ),
        (
            format!(
                "SELECT count(*), sum(n) FROM (SELECT k, count(*) AS n, max(pad) FROM ({rows}) r GROUP BY k) g"
            ),
            ["100003", "120000"],
        ),
        (
            format!("SELECT count(*), sum(i) FROM (SELECT DISTINCT pad, i FROM ({rows}) r) d"),
            ["120000", "7200060000"],
        ),
        (
            format!(
                "SELECT count(*), count(k) FROM ({rows}) r GROUP BY GROUPING SETS ((k, pad), ()) ORDER BY 1 DESC LIMIT 1"
            ),
            ["120000", "120000"],
        ),
    ];
    for (query, wanted) in checks {
        assert_eq!(first_row(client, &query).await.with_context(|| query.clone())?, wanted);
    }
    Ok(())
}

async fn outgrowing_ends_the_query_alone(client: &Client, other: &Client) -> Result<()> {
    let queries = [
        "SELECT length(string_agg(repeat(i::text, 100), ',')) FROM generate_series(1, 1000000) i",
        "SELECT count(*) FROM (SELECT i, repeat('x', 500) AS p FROM generate_series(1, 300000) i) a JOIN (SELECT i, repeat('x', 500) AS p FROM generate_series(1, 300000) i) b USING (i, p)",
        "SELECT -1 IN (SELECT generate_series(1, 3000000))",
        "WITH c AS MATERIALIZED (SELECT repeat('x', 500) AS p FROM generate_series(1, 300000)) SELECT count(*) FROM c a, c b",
        "SELECT max(s) FROM (SELECT count(p) OVER () AS s FROM (SELECT repeat('x', 100) || i AS p FROM generate_series(1, 500000) i) q) w",
        "WITH RECURSIVE r(i, p) AS (SELECT 1, repeat('x', 500) UNION SELECT i + 1, p FROM r WHERE i < 1000000) SELECT count(*) FROM r",
    ];
    for query in queries {
        let error = client.batch_execute(query).await.err().with_context(|| query.to_owned())?;
        assert_eq!(error.code(), Some(&SqlState::OUT_OF_MEMORY), "{query}: {error}");
        assert_eq!(first_row(client, "SELECT 1").await?, ["1"], "{query}");
        assert_eq!(first_row(other, "SELECT 2").await?, ["2"], "{query}");
    }
    Ok(())
}

/// The first row of an answer, as text.
async fn first_row(client: &Client, query: &str) -> Result<Vec<String>> {
    for message in client.simple_query(query).await? {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            return Ok((0..row.len()).map(|i| row.get(i).unwrap_or("·").to_owned()).collect());
        }
    }
    anyhow::bail!("no row: {query}")
}
