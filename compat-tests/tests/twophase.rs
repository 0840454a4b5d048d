//! PREPARE TRANSACTION: what is prepared stays, unseen and locked, whatever is killed, until it is ended.

use std::time::Duration;

use anyhow::{Result, ensure};
use compat_tests::chaos::fleet::{Fleet, Shape};
use compat_tests::{Meridian, Options, pgbench, process};
use tokio_postgres::{Client, NoTls};

use crate::past::{ask, connect};

const CHANGE: &str =
    "BEGIN; UPDATE t SET v = 'new' WHERE id IN (1, 900); INSERT INTO t VALUES (1001, 'new');
    SELECT id FROM t WHERE id = 2 FOR KEY SHARE; SELECT pg_advisory_xact_lock(7);";
const CHANGED: &str = "2 ";

async fn define(client: &Client) -> Result<()> {
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text);
             INSERT INTO t SELECT g, 'old' FROM generate_series(1, 1000) g",
        )
        .await?;
    Ok(())
}

/// Others see nothing, skip it, don't wait for it, or wait until they have enough of it.
async fn assert_held(client: &Client) {
    let values = "SELECT string_agg(v, ',' ORDER BY id) FROM t WHERE id IN (1, 2, 900, 1001)";
    assert_eq!(ask(client, values).await, "old,old,old");
    let skip = "SELECT id FROM t WHERE id IN (1, 2, 3, 900) ORDER BY id FOR UPDATE SKIP LOCKED";
    assert_eq!(ask(client, skip).await, "3");
    let taken = "55P03 could not obtain lock on row in relation \"t\"";
    assert_eq!(ask(client, "SELECT v FROM t WHERE id = 900 FOR UPDATE NOWAIT").await, taken);
    assert_eq!(ask(client, "SELECT v FROM t WHERE id = 2 FOR NO KEY UPDATE NOWAIT").await, "old");
    let timeout = "55P03 canceling statement due to lock timeout";
    for wait in
        ["INSERT INTO t VALUES (1001, 'other')", "DELETE FROM t WHERE id = 2", "DROP TABLE t"]
    {
        let wait = format!("SET lock_timeout = '100ms'; {wait}");
        assert_eq!(ask(client, &wait).await, timeout, "{wait}");
    }
    assert_eq!(ask(client, "SELECT pg_try_advisory_lock(7)").await, "f");
    // The view has what the others answer in time.
    let locks = "SELECT count(*) > 3, bool_and(granted) FROM pg_locks WHERE pid IS NULL";
    let mut seen = ask(client, locks).await;
    for _ in 0..20 {
        if seen == "t|t" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        seen = ask(client, locks).await;
    }
    assert_eq!(seen, "t|t");
    let all = "SELECT gid, owner, database FROM pg_prepared_xacts";
    assert_eq!(ask(client, all).await, "one|postgres|postgres");
}

async fn assert_ended(client: &Client) {
    let values = "SELECT string_agg(v, ',' ORDER BY id) FROM t WHERE id IN (1, 2, 900, 1001)";
    assert_eq!(ask(client, values).await, "new,old,new,new");
    assert_eq!(ask(client, "UPDATE t SET v = 'more' WHERE id IN (1, 2, 900, 1001)").await, "");
    assert_eq!(ask(client, "SELECT pg_try_advisory_lock(7)").await, "t");
    assert_eq!(ask(client, "SELECT count(*) FROM pg_prepared_xacts").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn twophase_on_one_node_survives_sigkill() -> Result<()> {
    let mut server = Meridian::start(Options { insecure: true, ..Options::default() })?;
    {
        let client = connect(&server).await?;
        define(&client).await?;
        assert_eq!(ask(&client, &format!("{CHANGE} PREPARE TRANSACTION 'one'")).await, CHANGED);
        assert_held(&client).await;
    }
    server.kill()?;
    server.restart()?;
    let client = connect(&server).await?;
    assert_held(&client).await;
    let again = ask(&client, "BEGIN; PREPARE TRANSACTION 'one'").await;
    assert_eq!(again, "42710 transaction identifier \"one\" is already in use");
    assert_eq!(ask(&client, "COMMIT PREPARED 'one'").await, "");
    assert_ended(&client).await;

    // Definitions, too: the table is there when it is committed, and its name taken before.
    let make = "BEGIN; DROP TABLE t; CREATE TABLE u (a int PRIMARY KEY); INSERT INTO u VALUES (1)";
    assert_eq!(ask(&client, &format!("{make}; PREPARE TRANSACTION 'two'")).await, "");
    drop(client);
    server.kill()?;
    server.restart()?;
    let client = connect(&server).await?;
    let timeout = "55P03 canceling statement due to lock timeout";
    let read = "SET lock_timeout = '100ms'; SELECT count(*) FROM t";
    assert_eq!(ask(&client, read).await, timeout);
    assert_eq!(ask(&client, "SELECT 1 FROM u").await, "42P01 relation \"u\" does not exist");
    let name = "SET lock_timeout = '100ms'; CREATE TABLE u (b int)";
    assert_eq!(ask(&client, name).await, timeout);
    assert_eq!(ask(&client, "COMMIT PREPARED 'two'").await, "");
    assert_eq!(ask(&client, "SELECT a FROM u").await, "1");
    assert_eq!(ask(&client, "SELECT count(*) FROM t").await, "42P01 relation \"t\" does not exist");
    let gone = "42704 prepared transaction with identifier \"two\" does not exist";
    assert_eq!(ask(&client, "ROLLBACK PREPARED 'two'").await, gone);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn twophase_can_be_turned_off() -> Result<()> {
    let args = vec!["--max-prepared-transactions".to_owned(), "0".to_owned()];
    let server = Meridian::start(Options { insecure: true, args })?;
    let client = connect(&server).await?;
    let off = ask(&client, "BEGIN; PREPARE TRANSACTION 'x'").await;
    assert_eq!(off, "55000 prepared transactions are disabled");
    assert_eq!(ask(&client, "SHOW max_prepared_transactions").await, "0");
    Ok(())
}

async fn session(url: &str) -> Result<Client> {
    for _ in 0..300 {
        if let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await {
            tokio::spawn(connection);
            if !ask(&client, "SELECT count(*) FROM pg_class").await.contains(' ') {
                return Ok(client);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("{url} does not serve")
}

#[tokio::test(flavor = "multi_thread")]
async fn twophase_in_a_cluster_survives_the_death_of_gateway_and_leaseholder() -> Result<()> {
    let binary = process::binary()?;
    let mut fleet = Fleet::start(Shape { binary, nodes: 3, disk_mib: None })?;
    let urls = fleet.urls();
    for _ in 0..300 {
        let all = fleet.roles()?;
        if all.iter().filter(|(_, role)| role == "voter" || role == "leaseholder").count() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let leader = fleet.leaseholder()?;
    let (gateway, other) = ((leader + 1) % 3, (leader + 2) % 3);
    define(&session(&urls[leader]).await?).await?;
    pgbench::psql(&urls[leader], "ALTER TABLE t SPLIT AT VALUES (500)")?;
    {
        let client = session(&urls[gateway]).await?;
        assert_eq!(ask(&client, &format!("{CHANGE} PREPARE TRANSACTION 'one'")).await, CHANGED);
        let refused = ask(&client, "BEGIN; CREATE TABLE u (a int); PREPARE TRANSACTION 'x'").await;
        ensure!(refused.starts_with("0A000"), "{refused}");
    }
    fleet.kill(gateway)?;
    assert_held(&session(&urls[other]).await?).await;
    fleet.restart(gateway)?;
    assert_held(&session(&urls[gateway]).await?).await;
    fleet.kill(leader)?;
    assert_held(&session(&urls[other]).await?).await;
    let client = session(&urls[gateway]).await?;
    assert_eq!(ask(&client, "COMMIT PREPARED 'one'").await, "");
    assert_ended(&client).await;
    Ok(())
}
