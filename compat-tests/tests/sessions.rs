//! A secure server and a real driver: SCRAM over TLS, types, transactions, errors, cancellation.

use anyhow::{Result, bail};
use bytes::Bytes;
use compat_tests::{Meridian, Options, tls};
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::IsolationLevel;
use tokio_postgres::error::SqlState;

#[tokio::test]
async fn a_driver_finds_what_it_expects() -> Result<()> {
    let server = Meridian::start(Options::default())?;
    let url = server.url("postgres");
    wrong_passwords_are_refused(&server).await?;
    let mut client = tls::connect(&url).await?;
    types_go_both_ways(&client).await?;
    transactions_hold(&mut client).await?;
    errors_carry_their_fields(&client).await?;
    a_portal_keeps_to_its_snapshot(&mut client).await?;
    rows_are_copied(&client).await?;
    statements_are_pipelined(&client).await?;
    portals_give_no_more_than_asked(&mut client).await?;
    a_statement_can_be_cancelled(&client).await?;
    Ok(())
}

async fn rows_are_copied(client: &tokio_postgres::Client) -> Result<()> {
    client.batch_execute("CREATE TABLE copied (a int PRIMARY KEY, b text)").await?;
    let lines: Vec<String> = (0..3000).map(|k| format!("{k}\ttext\\t{k}\n")).collect();
    let sink = client.copy_in::<_, Bytes>("COPY copied FROM STDIN").await?;
    futures::pin_mut!(sink);
    for part in lines.concat().as_bytes().chunks(1000) {
        sink.send(Bytes::copy_from_slice(part)).await?;
    }
    assert_eq!(sink.finish().await?, 3000);
    let out = client.copy_out("COPY (SELECT * FROM copied ORDER BY a) TO STDOUT").await?;
    let parts: Vec<Bytes> = out.try_collect().await?;
    assert_eq!(parts.concat(), lines.concat().as_bytes());
    let sink =
        client.copy_in::<_, Bytes>("COPY copied FROM STDIN WHERE a > 4000 AND b <> 'no'").await?;
    let mut sink = Box::pin(sink);
    sink.send(Bytes::from_static(b"3500\ty\n4001\ty\n4002\tno\n")).await?;
    assert_eq!(sink.as_mut().finish().await?, 1);
    client.batch_execute("DELETE FROM copied WHERE a = 4001").await?;
    // A COPY that is given up leaves nothing, and the session goes on.
    let sink = client.copy_in::<_, Bytes>("COPY copied FROM STDIN").await?;
    let mut sink = Box::pin(sink);
    sink.send(Bytes::from_static(b"5000\tx\n")).await?;
    drop(sink);
    let count = client.query_one("SELECT count(*) FROM copied", &[]).await?;
    assert_eq!(count.get::<_, i64>(0), 3000);
    Ok(())
}

/// Also where the rows are found by key.
async fn portals_give_no_more_than_asked(client: &mut tokio_postgres::Client) -> Result<()> {
    let transaction = client.transaction().await?;
    let text = "SELECT a FROM copied WHERE a IN (1, 2, 3, $1)";
    let portal = transaction.bind(text, &[&4i32]).await?;
    for expected in [2, 2, 0] {
        assert_eq!(transaction.query_portal(&portal, 2).await?.len(), expected);
    }
    let text = "DELETE FROM copied WHERE a IN (10, 11, $1) RETURNING a";
    let portal = transaction.bind(text, &[&12i32]).await?;
    for expected in [2, 1] {
        assert_eq!(transaction.query_portal(&portal, 2).await?.len(), expected);
    }
    Ok(transaction.rollback().await?)
}

async fn statements_are_pipelined(client: &tokio_postgres::Client) -> Result<()> {
    let statement = client.prepare("SELECT 100 / $1::int4").await?;
    let divisors: Vec<i32> = (0..50).collect();
    // Futures that are polled together are sent before the first answer has come.
    let ask = async |k: &i32| client.query_one(&statement, &[k]).await;
    let answers = futures::future::join_all(divisors.iter().map(ask)).await;
    for (k, answer) in divisors.iter().zip(answers) {
        match answer {
            Ok(row) => assert_eq!(row.get::<_, i32>(0), 100 / k),
            Err(error) => {
                assert_eq!((*k, error.code()), (0, Some(&SqlState::DIVISION_BY_ZERO)));
            }
        }
    }
    Ok(())
}

async fn wrong_passwords_are_refused(server: &Meridian) -> Result<()> {
    let password = server.password.clone().unwrap_or_default();
    let wrong = server.url("postgres").replace(&password, "wrong");
    let Err(error) = tls::connect(&wrong).await else { bail!("a wrong password was let in") };
    let error = error.downcast::<tokio_postgres::Error>()?;
    assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD));
    Ok(())
}

async fn types_go_both_ways(client: &tokio_postgres::Client) -> Result<()> {
    client
        .batch_execute(
            "CREATE TABLE types (i2 int2, i4 int4 PRIMARY KEY, i8 int8, f4 float4, f8 float8, \
             b bool, t text, v varchar(10), y bytea, n numeric(10,2))",
        )
        .await?;
    let insert = "INSERT INTO types VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 12.345)";
    let bytes = vec![0u8, 255, 10];
    client
        .execute(
            insert,
            &[&-2i16, &7i32, &i64::MAX, &1.5f32, &-2.25f64, &true, &"ä\n\"", &"v", &bytes],
        )
        .await?;
    let row =
        client.query_one("SELECT *, n::text AS nt FROM types WHERE i4 = $1", &[&7i32]).await?;
    assert_eq!(row.get::<_, i16>("i2"), -2);
    assert_eq!(row.get::<_, i64>("i8"), i64::MAX);
    assert_eq!(row.get::<_, f32>("f4"), 1.5);
    assert_eq!(row.get::<_, f64>("f8"), -2.25);
    assert!(row.get::<_, bool>("b"));
    assert_eq!(row.get::<_, String>("t"), "ä\n\"");
    assert_eq!(row.get::<_, Vec<u8>>("y"), bytes);
    assert_eq!(row.get::<_, String>("nt"), "12.35");
    Ok(())
}

async fn transactions_hold(client: &mut tokio_postgres::Client) -> Result<()> {
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b int)").await?;
    let mut transaction = client.transaction().await?;
    transaction.execute("INSERT INTO t VALUES (1, 1)", &[]).await?;
    let savepoint = transaction.savepoint("s").await?;
    savepoint.execute("INSERT INTO t VALUES (2, 2)", &[]).await?;
    savepoint.rollback().await?;
    transaction.commit().await?;
    let transaction = client.transaction().await?;
    transaction.execute("DELETE FROM t", &[]).await?;
    transaction.rollback().await?;
    let rows = client.query("SELECT a FROM t ORDER BY a", &[]).await?;
    assert_eq!(rows.iter().map(|r| r.get::<_, i32>(0)).collect::<Vec<_>>(), [1]);
    Ok(())
}

async fn a_portal_keeps_to_its_snapshot(client: &mut tokio_postgres::Client) -> Result<()> {
    client.batch_execute("CREATE TABLE p AS SELECT i FROM generate_series(1, 5000) i").await?;
    let transaction = client.transaction().await?;
    let portal = transaction.bind("SELECT i FROM p", &[]).await?;
    assert_eq!(transaction.query_portal(&portal, 10).await?.len(), 10);
    transaction.execute("DELETE FROM p WHERE i > 100", &[]).await?;
    assert_eq!(transaction.query_portal(&portal, 80).await?.len(), 80);
    assert_eq!(transaction.query_portal(&portal, 0).await?.len(), 4910);
    transaction.rollback().await?;
    Ok(())
}

async fn errors_carry_their_fields(client: &tokio_postgres::Client) -> Result<()> {
    let Err(error) = client.execute("INSERT INTO t VALUES (1, 5)", &[]).await else {
        bail!("a duplicate key was let in")
    };
    let Some(db) = error.as_db_error() else { bail!("no error of the server: {error}") };
    assert_eq!(db.code(), &SqlState::UNIQUE_VIOLATION);
    assert_eq!(db.detail(), Some("Key (a)=(1) already exists."));
    assert_eq!(db.constraint(), Some("t_pkey"));
    let Err(error) = client.query("SELECT a, nonsense FROM t", &[]).await else {
        bail!("an unknown column was found")
    };
    let Some(db) = error.as_db_error() else { bail!("no error of the server: {error}") };
    assert_eq!(db.code(), &SqlState::UNDEFINED_COLUMN);
    assert_eq!(db.position(), Some(&tokio_postgres::error::ErrorPosition::Original(11)));
    Ok(())
}

async fn a_statement_can_be_cancelled(client: &tokio_postgres::Client) -> Result<()> {
    let token = client.cancel_token();
    let long = "SELECT count(*) FROM generate_series(1, 3000) a, generate_series(1, 100000) b";
    let query = client.query(long, &[]);
    let cancel = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        token
            .cancel_query(tls::connector().map_err(|_| std::fmt::Error)?)
            .await
            .map_err(|_| std::fmt::Error)
    };
    let (answer, cancelled) = tokio::join!(query, cancel);
    cancelled?;
    let Err(error) = answer else { bail!("the statement was not cancelled") };
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(client.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1);
    Ok(())
}

/// A single statement has nothing to remember: one that lost a race, at its end or at its commit, is run again.
#[tokio::test]
async fn a_statement_in_a_transaction_of_its_own_hears_of_no_race() -> Result<()> {
    const ROUNDS: i32 = 25;
    let server = Meridian::start(Options::default())?;
    let url = server.url("postgres");
    let mut first = tls::connect(&url).await?;
    first.batch_execute("CREATE TABLE races (n int); CREATE TABLE sum (n int)").await?;
    first.batch_execute("INSERT INTO sum VALUES (0)").await?;
    let clients = ["repeatable read", "repeatable read", "serializable", "serializable"];
    let clients = clients.into_iter().enumerate().map(async |(at, level)| -> Result<()> {
        let client = tls::connect(&url).await?;
        client.batch_execute(&format!("SET default_transaction_isolation = '{level}'")).await?;
        let text = match level {
            "serializable" => "INSERT INTO races SELECT coalesce(max(n), 0) + 1 FROM races",
            _ => "UPDATE sum SET n = n + 1",
        };
        for _ in 0..ROUNDS {
            match at % 2 {
                0 => client.batch_execute(text).await?,
                _ => assert_eq!(client.execute(text, &[]).await?, 1),
            }
        }
        Ok(())
    });
    futures::future::try_join_all(clients).await?;
    let row = first.query_one("SELECT n FROM sum", &[]).await?;
    assert_eq!(row.get::<_, i32>(0), 2 * ROUNDS);
    let rows = first.query("SELECT n FROM races ORDER BY n", &[]).await?;
    let numbers: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(numbers, (1..=2 * ROUNDS).collect::<Vec<_>>());
    // Who has begun a transaction is told.
    let second = tls::connect(&url).await?;
    let old = first.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    let old = old.start().await?;
    old.query_one("SELECT n FROM sum", &[]).await?;
    second.batch_execute("UPDATE sum SET n = 0").await?;
    let refused = old.execute("UPDATE sum SET n = n + 1", &[]).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
    Ok(())
}

/// SIGTERM: whoever is waiting, working or in a block hears why it ends.
#[tokio::test]
async fn a_shutdown_tells_the_sessions() -> Result<()> {
    let mut server = Meridian::start(Options { insecure: true, ..Options::default() })?;
    let connect = async || {
        let url = server.url("postgres");
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        anyhow::Ok((client, tokio::spawn(connection)))
    };
    let (_idle, idle_end) = connect().await?;
    let (in_block, block_end) = connect().await?;
    in_block.batch_execute("BEGIN; CREATE TABLE gone (a int)").await?;
    let (working, _end) = connect().await?;
    let work = tokio::spawn(async move { working.query("SELECT pg_sleep(60)", &[]).await });
    let (observer, _end) = connect().await?;
    let asleep = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(60)' \
                  AND pid <> pg_backend_pid()";
    while observer.query(asleep, &[]).await?.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let ended = tokio::task::spawn_blocking(move || server.terminate());
    let Err(error) = work.await? else { bail!("the statement went on") };
    let Err(idle) = idle_end.await? else { bail!("the idle session heard nothing") };
    let Err(block) = block_end.await? else { bail!("the block heard nothing") };
    for error in [error, idle, block] {
        let told = error.as_db_error().map(|e| (e.code(), e.severity(), e.message()));
        let text = "terminating connection due to administrator command";
        assert_eq!(told, Some((&SqlState::ADMIN_SHUTDOWN, "FATAL", text)), "{error:?}");
    }
    ended.await?
}
