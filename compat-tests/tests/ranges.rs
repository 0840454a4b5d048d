//! SHOW RANGES, SPLIT AT, and what EXPLAIN tells of commits.

use std::time::Duration;

use anyhow::Result;
use compat_tests::{Meridian, Options};

use crate::past::{ask, connect};

#[tokio::test]
async fn ranges_are_shown_and_split() -> Result<()> {
    let server = Meridian::start(Options { insecure: true, ..Options::default() })?;
    let client = connect(&server).await?;
    assert_eq!(
        ask(&client, "SELECT start_key, end_key FROM pg_catalog.meridian_ranges").await,
        "/Min|/Max"
    );
    client
        .batch_execute(
            "CREATE TABLE t (a int, b text, c numeric, PRIMARY KEY (a, b));
             CREATE INDEX t_c ON t (c DESC, b);
             INSERT INTO t SELECT g, 'x' || g, g / 2.0 FROM generate_series(1, 30) g",
        )
        .await?;
    let plan = ask(&client, "EXPLAIN ANALYZE UPDATE t SET c = c + 1 WHERE a = 1").await;
    assert!(plan.contains("Commit: one-phase (one range)"), "{plan}");
    let split = "ALTER TABLE t SPLIT AT VALUES (10), (20, 'it''s')";
    let rows = ask(&client, split).await;
    assert!(rows.contains("|/Table/t/t_pkey/10"), "{rows}");
    assert!(rows.ends_with("|/Table/t/t_pkey/20/'it''s'"), "{rows}");
    let rows = ask(&client, "ALTER INDEX t_c SPLIT AT VALUES (7.5), (NULL)").await;
    assert!(rows.contains("|/Table/t/t_c/7.5") && rows.ends_with("|/Table/t/t_c/NULL"), "{rows}");

    // The new ranges are led soon.
    while ask(&client, "SELECT count(*) FROM meridian_ranges WHERE leaseholder IS NULL").await
        != "0"
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rows = ask(&client, "SHOW RANGES FROM TABLE t").await;
    for part in [
        "|t|t_pkey|/Min|/Table/t/t_pkey/10|1|{1}|",
        "|t|t_pkey|/Table/t/t_pkey/10|/Table/t/t_pkey/20/'it''s'|1|{1}|",
        "|t|t_c|/Table/t/t_c/7.5|/Max|1|{1}|",
    ] {
        assert!(rows.contains(part), "{part}\n{rows}");
    }
    let rows = ask(&client, "SHOW RANGES FROM INDEX t_c").await;
    assert!(!rows.contains("t_pkey|/Min"), "{rows}");
    assert_eq!(ask(&client, "SHOW RANGES").await.matches("|1|{1}|").count(), 5);
    // All rows are where they were.
    assert_eq!(ask(&client, "SELECT count(*), sum(a) FROM t").await, "30|465");
    assert_eq!(ask(&client, "SELECT count(*) FROM t AS OF SYSTEM TIME '-0s'").await, "30");

    let plan = ask(&client, "EXPLAIN (DISTRIBUTED, COSTS off) DELETE FROM t").await;
    assert!(
        plan.contains("Commit: one-phase or parallel, by rows (the tables lie in 5 ranges)"),
        "{plan}"
    );
    refusals(&client).await
}

async fn refusals(client: &tokio_postgres::Client) -> Result<()> {
    for (text, answer) in [
        (
            "ALTER TABLE t SPLIT AT VALUES ('x')",
            "22P02 invalid input syntax for type integer: \"x\"",
        ),
        (
            "ALTER TABLE t SPLIT AT VALUES (1, 'a', 2)",
            "42601 SPLIT AT has more expressions than key columns (2)",
        ),
        (
            "ALTER TABLE t SPLIT AT VALUES (NULL)",
            "22004 SPLIT AT of a primary key does not take NULL",
        ),
        ("ALTER TABLE nothing SPLIT AT VALUES (1)", "42P01 relation \"nothing\" does not exist"),
        ("ALTER TABLE t_c SPLIT AT VALUES (1)", "42809 \"t_c\" is not a table"),
        ("ALTER INDEX t SPLIT AT VALUES (1)", "42809 \"t\" is not an index"),
        (
            "BEGIN; ALTER TABLE t SPLIT AT VALUES (1)",
            "25001 ALTER TABLE SPLIT AT cannot run inside a transaction block",
        ),
        ("ROLLBACK", ""),
        ("SHOW RANGES FROM TABLE nothing", "42P01 relation \"nothing\" does not exist"),
        ("SHOW RANGES FROM nowhere", "42601 syntax error at or near \"nowhere\""),
        ("ALTER RANGE 1 RELOCATE LEASE TO 1", ""),
        ("ALTER RANGE 99 RELOCATE LEASE TO 1", "22023 range 99 does not exist"),
        ("ALTER RANGE 1 RELOCATE LEASE TO 2", "22023 node 2 does not exist"),
        ("ALTER RANGE 1 RELOCATE TO 2", "42601 syntax error at or near \"TO\""),
        (
            "BEGIN; ALTER RANGE 1 RELOCATE LEASE TO 1",
            "25001 ALTER RANGE RELOCATE LEASE cannot run inside a transaction block",
        ),
        ("ROLLBACK", ""),
        ("CREATE ROLE clerk; SET ROLE clerk", ""),
        ("ALTER RANGE 1 RELOCATE LEASE TO 1", "42501 must be superuser to relocate leases"),
        ("SHOW RANGES", "42501 permission denied for view meridian_ranges"),
        ("ALTER TABLE t SPLIT AT VALUES (1)", "42501 must be owner of table t"),
    ] {
        assert_eq!(ask(client, text).await, answer, "{text}");
    }
    Ok(())
}

/// A table's own word goes before its database's, that before the cluster's.
#[tokio::test]
async fn placement_is_inherited_and_shown() -> Result<()> {
    let server = Meridian::start(Options { insecure: true, ..Options::default() })?;
    let client = connect(&server).await?;
    let shown = "SHOW PLACEMENT FROM TABLE s.\"T\"";
    let unknown = "22023 unrecognized parameter \"fillfactor\"";
    for (text, answer) in [
        ("CREATE SCHEMA s; CREATE TABLE s.\"T\" (a int); CREATE TABLE u (a int)", ""),
        (shown, "table|s.\"T\"|3|default||default"),
        ("ALTER SYSTEM SET (placement = '-disk=hdd', replication_factor = 5)", ""),
        (shown, "table|s.\"T\"|5|cluster|-disk=hdd|cluster"),
        ("ALTER DATABASE postgres SET (replication_factor = 1)", ""),
        (shown, "table|s.\"T\"|1|database|-disk=hdd|cluster"),
        ("ALTER TABLE s.\"T\" SET (placement = '+region=eu')", ""),
        (shown, "table|s.\"T\"|1|database|+region=eu|table"),
        ("SELECT count(*), min(table_name) FROM meridian_placement WHERE kind = 'table'", "2|T"),
        ("BEGIN; ALTER DATABASE postgres RESET (replication_factor, placement)", ""),
        (shown, "table|s.\"T\"|5|cluster|+region=eu|table"),
        ("ROLLBACK", ""),
        (shown, "table|s.\"T\"|1|database|+region=eu|table"),
        ("ALTER SYSTEM RESET (replication_factor, placement)", ""),
        ("ALTER DATABASE postgres RESET (replication_factor)", ""),
        (shown, "table|s.\"T\"|3|default|+region=eu|table"),
        ("ALTER DATABASE postgres SET (fillfactor = 70)", unknown),
        ("ALTER SYSTEM RESET (fillfactor)", unknown),
        (
            "ALTER SYSTEM SET (replication_factor = 8)",
            "22023 value 8 out of bounds for option \"replication_factor\"",
        ),
        (
            "ALTER DATABASE postgres SET (placement = 'eu')",
            "22023 invalid value for option \"placement\"",
        ),
        (
            "ALTER DATABASE nothing SET (placement = '')",
            "3D000 database \"nothing\" does not exist",
        ),
        ("SHOW PLACEMENT FROM TABLE nothing", "42P01 relation \"nothing\" does not exist"),
        ("CREATE ROLE clerk; SET ROLE clerk", ""),
        (shown, "table|s.\"T\"|3|default|+region=eu|table"),
        (
            "ALTER SYSTEM SET (placement = '')",
            "42501 must be superuser to change parameters of the cluster",
        ),
        (
            "ALTER DATABASE postgres SET (placement = '')",
            "42501 must be owner of database postgres",
        ),
    ] {
        assert_eq!(ask(&client, text).await, answer, "{text}");
    }
    let all = ask(&client, "SHOW PLACEMENT").await;
    assert!(all.starts_with("cluster|·|3|default||default"), "{all}");
    assert!(all.contains("database|postgres|3|default||default"), "{all}");
    assert!(all.contains("s.\"T\"|") && !all.contains("|u|"), "only who says something: {all}");
    Ok(())
}
