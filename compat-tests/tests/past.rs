//! AS OF SYSTEM TIME: statements and transactions that read the past.

use std::time::Duration;

use anyhow::{Context, Result};
use compat_tests::{Meridian, Options};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub(crate) async fn connect(server: &Meridian) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(&server.url("postgres"), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The rows of the last statement, or SQLSTATE and message.
pub(crate) async fn ask(client: &Client, text: &str) -> String {
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let values = (0..row.len()).map(|i| row.get(i).unwrap_or("·"));
            Some(values.collect::<Vec<_>>().join("|"))
        }
        _ => None,
    };
    match client.simple_query(text).await {
        Ok(messages) => messages.iter().filter_map(row).collect::<Vec<_>>().join(" "),
        Err(error) => match error.as_db_error() {
            Some(e) => format!("{} {}", e.code().code(), e.message()),
            None => error.to_string(),
        },
    }
}

#[tokio::test]
async fn read_only_transactions_follow() -> Result<()> {
    let server = Meridian::start(Options { insecure: true, ..Options::default() })?;
    let client = connect(&server).await?;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    for (text, answer) in [
        (
            "SELECT follower_read_timestamp() BETWEEN clock_timestamp() - interval '1s' AND clock_timestamp()",
            "t",
        ),
        ("SELECT count(*) FROM t AS OF SYSTEM TIME follower_read_timestamp()", "1"),
        ("SHOW follower_reads; SET follower_reads = on; SHOW follower_read_staleness", "off 500ms"),
        // A node that leads all ranges is never behind.
        ("BEGIN READ ONLY; SELECT count(*) FROM t", "1"),
        ("INSERT INTO t VALUES (2)", "25006 cannot execute INSERT in a read-only transaction"),
        ("ROLLBACK; BEGIN; INSERT INTO t VALUES (2); COMMIT; SELECT count(*) FROM t", "2"),
        (
            "BEGIN READ ONLY; SET TRANSACTION READ WRITE; INSERT INTO t VALUES (3); COMMIT; SELECT count(*) FROM t",
            "3",
        ),
        ("BEGIN; SET TRANSACTION READ ONLY; SELECT count(*) FROM t WHERE a > 0", "3"),
        ("COMMIT AND CHAIN; SELECT count(*) FROM t; COMMIT", "3"),
        ("SET default_transaction_read_only = on; SELECT a FROM t WHERE a = 3", "3"),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT a FROM t WHERE a = 2; SHOW transaction_isolation",
            "2 serializable",
        ),
        (
            "SELECT * FROM t FOR UPDATE",
            "25006 cannot execute SELECT FOR UPDATE in a read-only transaction",
        ),
        ("ROLLBACK; BEGIN AS OF SYSTEM TIME '-1ms'; SELECT count(*) FROM t; COMMIT", "3"),
        ("RESET ALL", ""),
        ("INSERT INTO t VALUES (4)", ""),
    ] {
        assert_eq!(ask(&client, text).await, answer, "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn the_past_is_read_as_it_was() -> Result<()> {
    let server = Meridian::start(Options { insecure: true, ..Options::default() })?;
    let client = connect(&server).await?;
    client
        .batch_execute(
            "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE TABLE u (a int PRIMARY KEY);
             INSERT INTO t SELECT g, 1 FROM generate_series(1, 3) g",
        )
        .await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let then = ask(&client, "SELECT clock_timestamp()").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.batch_execute("UPDATE t SET b = 2; DELETE FROM t WHERE a = 3").await?;

    statements(&client, &then).await?;
    transactions(&client, &then).await?;
    refusals(&client, &then).await?;
    Ok(())
}

async fn statements(client: &Client, then: &str) -> Result<()> {
    let of = format!("AS OF SYSTEM TIME '{then}'");
    assert_eq!(ask(client, &format!("SELECT * FROM t {of} ORDER BY a")).await, "1|1 2|1 3|1");
    assert_eq!(ask(client, &format!("SELECT b FROM t {of} WHERE a = 3")).await, "1");
    let join = format!("SELECT count(*) FROM t x JOIN t y ON x.a = y.a {of} WHERE x.b = 1");
    assert_eq!(ask(client, &join).await, "3");
    // What is there now is there at times that are newer than the last write, too.
    tokio::time::sleep(Duration::from_millis(15)).await;
    for now in ["'-10ms'", "interval '-10 milliseconds'", "now() - interval '10 ms'"] {
        let text = format!("SELECT * FROM t AS OF SYSTEM TIME {now} ORDER BY a");
        assert_eq!(ask(client, &text).await, "1|2 2|2", "{now}");
    }
    let nanos =
        format!("SELECT (extract(epoch from '{then}'::timestamptz) * 1000000000)::numeric(30, 0)");
    let nanos = ask(client, &nanos).await;
    let text = format!("SELECT sum(b) FROM t AS OF SYSTEM TIME {nanos}.0000000000");
    assert_eq!(ask(client, &text).await, "3");
    // As a parameter, and by a statement that is kept.
    let kept = client.prepare("SELECT sum(b) FROM t AS OF SYSTEM TIME $1 WHERE a <= $2").await?;
    for (time, sum) in [(then, 3), ("-1ms", 4)] {
        let row = client.query_one(&kept, &[&time, &3i32]).await?;
        assert_eq!(row.get::<_, i64>(0), sum, "{time}");
    }
    let plan = ask(client, &format!("EXPLAIN (ANALYZE, TIMING off) SELECT * FROM t {of}")).await;
    assert!(plan.contains("actual rows=3"), "{plan}");
    Ok(())
}

async fn transactions(client: &Client, then: &str) -> Result<()> {
    for begin in [
        format!("BEGIN AS OF SYSTEM TIME '{then}'"),
        format!("START TRANSACTION READ ONLY, AS OF SYSTEM TIME '{then}'"),
        format!("BEGIN; SET TRANSACTION AS OF SYSTEM TIME '{then}'"),
        format!("BEGIN AS OF SYSTEM TIME '{then}'; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
    ] {
        client.batch_execute(&begin).await?;
        assert_eq!(ask(client, "SELECT sum(b) FROM t").await, "3", "{begin}");
        assert_eq!(ask(client, "SELECT b FROM t WHERE a = 3").await, "1", "{begin}");
        // By the protocol of drivers, which has a way of its own.
        let row = client.query_one("SELECT b FROM t WHERE a = $1", &[&3i32]).await?;
        assert_eq!(row.get::<_, i32>(0), 1, "{begin}");
        let newer = "SELECT sum(b) FROM t AS OF SYSTEM TIME '-0s'";
        assert_eq!(ask(client, newer).await, "4", "a statement's own time comes first");
        assert_eq!(
            ask(client, "UPDATE t SET b = 3").await,
            "25006 cannot execute UPDATE in a read-only transaction"
        );
        client.batch_execute("ROLLBACK").await?;
    }
    // A cursor goes on reading where it began.
    client.batch_execute("BEGIN").await?;
    let declare =
        format!("DECLARE c CURSOR FOR SELECT a FROM t AS OF SYSTEM TIME '{then}' ORDER BY a");
    client.batch_execute(&declare).await?;
    assert_eq!(ask(client, "FETCH 1 FROM c").await, "1");
    client.batch_execute("UPDATE t SET b = 2").await?;
    assert_eq!(ask(client, "FETCH ALL FROM c").await, "2 3");
    client.batch_execute("COMMIT").await?;
    Ok(())
}

async fn refusals(client: &Client, then: &str) -> Result<()> {
    let of = format!("AS OF SYSTEM TIME '{then}'");
    let locked = "25006 cannot execute SELECT FOR UPDATE in a read-only transaction";
    let altered = "0A000 relation \"u\" has been altered since that time";
    client.batch_execute("ALTER TABLE u ADD COLUMN b int; CREATE TABLE v (a int)").await?;
    for (text, answer) in [
        (
            "SELECT 1 FROM t AS OF SYSTEM TIME '1h'",
            "22023 AS OF SYSTEM TIME: the time is in the future",
        ),
        ("SELECT 1 FROM t AS OF SYSTEM TIME '-1h'", "72000 snapshot too old"),
        (
            "SELECT 1 FROM t AS OF SYSTEM TIME 'soon'",
            "22023 AS OF SYSTEM TIME: invalid value: \"soon\"",
        ),
        ("SELECT 1 FROM t AS OF SYSTEM TIME NULL", "22004 AS OF SYSTEM TIME must not be null"),
        ("SELECT 1 FROM t AS OF SYSTEM TIME a", "42703 column \"a\" does not exist"),
        (
            "SELECT 1 FROM t AS OF SYSTEM TIME true",
            "42804 argument of AS OF SYSTEM TIME must be a time, an interval, a number or text, not type boolean",
        ),
        ("BEGIN AS OF SYSTEM TIME '-1h'", "72000 snapshot too old"),
        ("SELECT 1", "1"),
        (
            "BEGIN READ WRITE AS OF SYSTEM TIME '-1s'",
            "25006 a transaction AS OF SYSTEM TIME cannot be set to read-write mode",
        ),
        (&format!("SELECT * FROM t {of} FOR UPDATE"), locked),
        (&format!("SELECT * FROM u {of}"), altered),
        (&format!("SELECT * FROM v {of}"), "42P01 relation \"v\" did not exist at that time"),
        (
            &format!("INSERT INTO t SELECT a + 10, b FROM t {of}"),
            "25006 cannot execute INSERT in a read-only transaction",
        ),
        (
            &format!("BEGIN {of}; CREATE TABLE w (a int)"),
            "25006 cannot execute CREATE TABLE in a read-only transaction",
        ),
        (
            "ROLLBACK; BEGIN; SELECT 1; SET TRANSACTION AS OF SYSTEM TIME '-1s'",
            "25001 AS OF SYSTEM TIME must be set before any query",
        ),
        ("ROLLBACK; SELECT sum(b) FROM t", "4"),
    ] {
        assert_eq!(ask(client, text).await, answer, "{text}");
    }
    client.batch_execute("SELECT 1").await.context("the session goes on")?;
    Ok(())
}
