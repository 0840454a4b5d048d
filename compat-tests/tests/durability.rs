//! What was acknowledged is there after SIGKILL, and a clean end leaves a clean start.

use anyhow::Result;
use compat_tests::{Meridian, Options, pgbench, tls};

#[tokio::test]
async fn acknowledged_commits_survive_sigkill() -> Result<()> {
    let mut server = Meridian::start(Options::default())?;
    let url = server.url("postgres");
    pgbench::psql(&url, "CREATE TABLE kept (n int8 PRIMARY KEY, t text)")?;
    let mut acknowledged = 0i64;
    for round in 0..3 {
        let client = tls::connect(&url).await?;
        let insert = client.prepare("INSERT INTO kept VALUES ($1, 'row ' || $1::text)").await?;
        for _ in 0..100 {
            client.execute(&insert, &[&(acknowledged + 1)]).await?;
            acknowledged += 1;
        }
        server.kill()?;
        server.restart()?;
        let found: i64 = pgbench::psql(&url, "SELECT count(*) FROM kept")?.parse()?;
        assert_eq!(found, acknowledged, "after kill {round}");
    }
    server.terminate()?;
    server.restart()?;
    let last = pgbench::psql(&url, "SELECT t FROM kept ORDER BY n DESC LIMIT 1")?;
    assert_eq!(last, format!("row {acknowledged}"));
    Ok(())
}
