//! Three nodes are one database: any of them takes any statement, and none of them is needed.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use compat_tests::chaos::fleet::{Fleet, Shape};
use compat_tests::{pgbench, process};

/// Waits for what must come, however slow the machine is.
fn eventually<T>(what: &str, mut done: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    for _ in 0..600 {
        match done() {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(last.context("tried")?.context(format!("never: {what}")))
}

#[test]
fn any_node_serves_and_none_is_needed() -> Result<()> {
    let binary = process::binary()?;
    let mut fleet = Fleet::start(Shape { binary, nodes: 3, disk_mib: None })?;
    let urls = fleet.urls();
    eventually("three copies", || {
        let all = fleet.roles()?;
        match all.iter().filter(|(_, role)| role == "voter" || role == "leaseholder").count() {
            3 => Ok(()),
            _ => bail!("{all:?}"),
        }
    })?;

    // What one node defines, every other knows at once.
    pgbench::psql(&urls[1], "CREATE TABLE t (id int PRIMARY KEY, v text)")?;
    pgbench::psql(&urls[2], "INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, 500) g")?;
    pgbench::psql(&urls[0], "ALTER TABLE t ADD COLUMN n serial")?;
    for url in &urls {
        assert_eq!(pgbench::psql(url, "SELECT count(*), max(n) FROM t")?, "500|500");
    }
    assert_eq!(pgbench::psql(&urls[2], "SELECT v FROM t WHERE id = 7")?, "row 7");

    // pgbench through all nodes at once.
    pgbench::run(&urls[1], &["-i", "-s", "1", "-q"])?;
    let args = ["-n", "-c", "3", "-t", "60", "-M", "prepared"];
    let runs: Vec<_> = urls.iter().map(|url| pgbench::spawn(url, &args)).collect::<Result<_>>()?;
    for mut run in runs {
        assert!(run.wait()?.success(), "a pgbench has failed");
    }
    pgbench::check_sums(&urls[0])?;

    // In several ranges: a transaction has to do with more than one, wherever it comes from.
    pgbench::psql(&urls[2], "ALTER TABLE pgbench_accounts SPLIT AT VALUES (30000), (60000)")?;
    for url in &urls {
        eventually("three ranges of a table", || {
            let ranges = pgbench::psql(url, "SHOW RANGES FROM TABLE pgbench_accounts")?;
            match ranges.lines().count() {
                3 => Ok(()),
                _ => bail!("{ranges}"),
            }
        })?;
    }
    let runs: Vec<_> = urls.iter().map(|url| pgbench::spawn(url, &args)).collect::<Result<_>>()?;
    for mut run in runs {
        assert!(run.wait()?.success(), "a pgbench over several ranges has failed");
    }
    pgbench::check_sums(&urls[1])?;
    assert_eq!(pgbench::psql(&urls[0], "SELECT count(*) FROM pgbench_accounts")?, "100000");

    // A lease goes to where it is wanted.
    let range = "SELECT DISTINCT range_id, leaseholder FROM meridian_ranges \
                 WHERE table_name = 'pgbench_accounts' ORDER BY 1 DESC LIMIT 1";
    let found = pgbench::psql(&urls[0], range)?;
    let (range, leader) = found.split_once('|').context("a range with a leaseholder")?;
    let next = if leader == "2" { "3" } else { "2" };
    for (url, to) in [(&urls[0], next), (&urls[1], next), (&urls[2], "1")] {
        pgbench::psql(url, &format!("ALTER RANGE {range} RELOCATE LEASE TO {to}"))?;
        eventually("it is known where the lease is", || {
            let query = format!("SELECT leaseholder FROM meridian_ranges WHERE range_id = {range}");
            let leader = pgbench::psql(&urls[0], &query)?;
            if leader == to { Ok(()) } else { bail!("{leader}, not {to}") }
        })?;
        assert_eq!(pgbench::psql(url, "SELECT count(*) FROM pgbench_accounts")?, "100000");
    }

    // Without the leaseholder.
    let dead = fleet.leaseholder()?;
    fleet.kill(dead)?;
    let (a, b) = ((dead + 1) % 3, (dead + 2) % 3);
    pgbench::run(&urls[a], &["-n", "-c", "2", "-t", "20", "-M", "prepared"])?;
    pgbench::psql(&urls[b], "CREATE TABLE after (id int PRIMARY KEY)")?;
    pgbench::psql(&urls[a], "INSERT INTO after VALUES (1)")?;
    let sum = pgbench::check_sums(&urls[b])?;

    // It comes back and knows all of it.
    fleet.restart(dead)?;
    eventually("the node that was killed serves again", || pgbench::psql(&urls[dead], "SELECT 1"))?;
    assert_eq!(pgbench::check_sums(&urls[dead])?, sum);
    assert_eq!(pgbench::psql(&urls[dead], "SELECT count(*) FROM after")?, "1");
    Ok(())
}
