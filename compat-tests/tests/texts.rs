//! Texts of the simple protocol that differ in their literals only share a plan. Nobody may notice.

use anyhow::{Context, Result};
use compat_tests::{Meridian, Options, tls};
use tokio_postgres::error::{ErrorPosition, SqlState};
use tokio_postgres::{Client, SimpleQueryMessage};

/// The rows of a text, their values joined by `|`.
async fn rows(client: &Client, text: &str) -> Result<Vec<String>> {
    let messages = client.simple_query(text).await.with_context(|| text.to_owned())?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let values = |row: &tokio_postgres::SimpleQueryRow| {
        (0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect::<Vec<_>>()
    };
    Ok(rows.map(|row| values(row).join("|")).collect())
}

#[tokio::test]
async fn literals_mean_the_same_when_their_plan_is_shared() -> Result<()> {
    let server = Meridian::start(Options::default())?;
    let client = tls::connect(&server.url("postgres")).await?;
    client.batch_execute("CREATE TABLE lifted (id int PRIMARY KEY, b text, d date)").await?;
    for k in 0..20 {
        let insert = format!("INSERT INTO lifted VALUES ({k}, 'it''s {k}', '2020-01-{}')", k + 1);
        client.simple_query(&insert).await?;
    }
    for k in 0..20 {
        let found = rows(&client, &format!("SELECT b, d FROM lifted WHERE id = {k}")).await?;
        assert_eq!(found, [format!("it's {k}|2020-01-{:02}", k + 1)]);
    }
    values_are_read_at_their_time(&client).await?;
    errors_point_at_the_text(&client).await?;
    plans_follow_the_catalog(&client).await?;
    // Integers that name columns, types of literals, and the text that others see.
    for (order, first) in [("1", "0|it's 0"), ("1 DESC", "19|it's 19"), ("2 DESC", "9|it's 9")] {
        let text = format!("SELECT id, b FROM lifted WHERE id >= 0 ORDER BY {order} LIMIT 1");
        assert_eq!(rows(&client, &text).await?, [first], "{text}");
    }
    for (text, means) in [
        ("SELECT pg_typeof(1), pg_typeof(5000000000), concat('a', 1)", "integer|bigint|a1"),
        ("SELECT pg_typeof(2), pg_typeof(5000000001), concat('b', 2)", "integer|bigint|b2"),
    ] {
        assert_eq!(rows(&client, text).await?, [means]);
    }
    let text = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND 5 < 6";
    assert_eq!(rows(&client, text).await?, [text]);
    Ok(())
}

/// `'now'`, and settings that say how a literal is read.
async fn values_are_read_at_their_time(client: &Client) -> Result<()> {
    let now = "SELECT 'now'::timestamptz::text, 1";
    let first = rows(client, now).await?;
    client.simple_query("SELECT pg_sleep(0.002)").await?;
    assert_ne!(first, rows(client, now).await?);
    for (style, means) in [("MDY", "2020-01-02"), ("DMY", "2020-02-01"), ("MDY", "2020-01-02")] {
        client.batch_execute(&format!("SET DateStyle = 'ISO, {style}'")).await?;
        assert_eq!(rows(client, "SELECT '01/02/2020'::date").await?, [means]);
    }
    Ok(())
}

async fn errors_point_at_the_text(client: &Client) -> Result<()> {
    client.simple_query("SELECT b FROM lifted WHERE id = '1'").await?;
    let refused = client.simple_query("SELECT b FROM lifted WHERE id = 'one'").await;
    let error = refused.expect_err("not a number");
    let error = error.as_db_error().context("an error of the server")?;
    assert_eq!(error.code(), &SqlState::INVALID_TEXT_REPRESENTATION);
    assert_eq!(error.position(), Some(&ErrorPosition::Original(33)));
    for text in ["SELECT 1 / 0", "SELECT 2 / 0"] {
        let error = client.simple_query(text).await.expect_err("no quotient");
        assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
    }
    Ok(())
}

/// A plan that DDL has overtaken is made anew, and may have other columns.
async fn plans_follow_the_catalog(client: &Client) -> Result<()> {
    let columns = async |k: i32| -> Result<usize> {
        let found = rows(client, &format!("SELECT * FROM lifted WHERE id = {k}")).await?;
        Ok(found[0].split('|').count())
    };
    assert_eq!(columns(1).await?, 3);
    client.batch_execute("ALTER TABLE lifted ADD COLUMN e int").await?;
    assert_eq!(columns(2).await?, 4);
    client.batch_execute("BEGIN; ALTER TABLE lifted ADD COLUMN f int").await?;
    assert_eq!(columns(3).await?, 5);
    client.batch_execute("ROLLBACK").await?;
    assert_eq!(columns(4).await?, 4);
    assert!(rows(client, "SELECT 1 FROM later WHERE a = 1").await.is_err());
    client.batch_execute("CREATE TABLE later (a int); INSERT INTO later VALUES (2)").await?;
    assert_eq!(rows(client, "SELECT 1 FROM later WHERE a = 2").await?, ["1"]);
    Ok(())
}
