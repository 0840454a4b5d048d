//! Bad worlds: a majority that is gone, a copied directory, another cluster's, a wrong clock.
//! A node says what is wrong, and nothing is lost.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use compat_tests::chaos::fleet::{Fleet, Shape};
use compat_tests::{pgbench, process};

fn fleet(nodes: usize) -> Result<Fleet> {
    Fleet::start(Shape { binary: process::binary()?, nodes, disk_mib: None })
}

/// What a statement is told that must fail.
fn refusal(url: &str, statement: &str) -> Result<String> {
    match pgbench::psql(url, statement) {
        Ok(answer) => bail!("{statement} has answered {answer:?}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(to);
    let status = Command::new("cp").arg("-a").args([from, to]).status()?;
    status.success().then_some(()).context("cp has failed")
}

#[test]
fn after_a_lost_majority_it_goes_on_and_a_survivor_can_go_on_alone() -> Result<()> {
    let mut fleet = fleet(3)?;
    let urls = fleet.urls();
    pgbench::psql(&urls[0], "CREATE TABLE t (id int PRIMARY KEY)")?;
    pgbench::psql(&urls[1], "INSERT INTO t SELECT generate_series(1, 100)")?;
    pgbench::psql(&urls[1], "ALTER TABLE t SPLIT AT VALUES (50)")?;
    let data = fleet.data(2).display().to_string();
    let busy = fleet.program(&["recover", "--data", &data])?;
    assert!(!busy.status.success(), "a node that runs is left alone");

    fleet.kill(0)?;
    fleet.kill(1)?;
    // A write that a leaseholder has taken already waits for the others; later ones are refused.
    std::thread::sleep(Duration::from_secs(5));
    let told = refusal(&urls[2], "INSERT INTO t VALUES (101)")?;
    assert!(told.contains("ERROR:  no node leads the range"), "{told}");
    // With a majority it goes on by itself.
    fleet.restart(0)?;
    pgbench::psql(&urls[2], "INSERT INTO t VALUES (102)")?;
    fleet.restart(1)?;
    assert_eq!(pgbench::psql(&urls[1], "SELECT count(*) FROM t")?, "101");

    // Two are gone for good.
    for node in [0, 1, 2] {
        fleet.kill(node)?;
    }
    let looked = fleet.program(&["recover", "--data", &data])?;
    let text = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(text.contains("Nothing has been changed") && text.contains("2 range(s)"), "{text}");
    let done = fleet.program(&["recover", "--data", &data, "--accept-data-loss"])?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fleet.restart(2)?;
    assert_eq!(pgbench::psql(&urls[2], "SELECT count(*) FROM t")?, "101");
    pgbench::psql(&urls[2], "INSERT INTO t VALUES (103)")?;
    // What comes back of the old cluster has no part in the new one.
    fleet.start_to_fail(0, "cluster")?;
    pgbench::psql(&urls[2], "DELETE FROM t WHERE id = 103")?;
    Ok(())
}

#[test]
fn who_does_not_belong_stops_with_a_sentence() -> Result<()> {
    let mut fleet = fleet(3)?;
    let urls = fleet.urls();
    pgbench::psql(&urls[0], "CREATE TABLE t (id int PRIMARY KEY)")?;
    pgbench::psql(&urls[0], "INSERT INTO t SELECT generate_series(1, 100)")?;
    fleet.set_extra(2, &["--test-clock-offset=900"]);
    fleet.terminate(2)?;
    fleet.start_to_fail(2, "the clocks of")?;
    fleet.set_extra(2, &["--test-clock-offset=-900"]);
    fleet.start_to_fail(2, "the clocks of")?;
    fleet.set_extra(2, &[]);

    // Another node's directory, while that one runs.
    let own = fleet.data(2).to_owned();
    let kept = own.with_extension("kept");
    copy(&own, &kept)?;
    copy(fleet.data(1), &own)?;
    fleet.start_to_fail(2, "was a data directory copied?")?;

    // Nobody else minded, and the true directory is still good.
    copy(&kept, &own)?;
    fleet.restart(2)?;
    for url in &urls {
        assert_eq!(pgbench::psql(url, "SELECT count(*) FROM t")?, "100");
    }
    Ok(())
}
