//! A node that is drained: not ready, no new clients, those that it has go on; and a restart that nobody feels.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::chaos::fleet::{Fleet, Shape};
use compat_tests::{pgbench, process};

fn node(fleet: &Fleet, arguments: &[&str]) -> Result<String> {
    let host = fleet.peers()[1].clone();
    let mut words = vec!["node"];
    words.extend(arguments);
    words.extend(["--insecure", "--host", &host]);
    let output = fleet.program(&words)?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

fn eventually(what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..600 {
        if is()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("never: {what}")
}

#[test]
fn a_drained_node_takes_nobody_and_keeps_who_is_there() -> Result<()> {
    let binary = process::binary()?;
    let mut fleet = Fleet::start(Shape { binary, nodes: 3, disk_mib: None })?;
    let urls = fleet.urls();
    pgbench::psql(&urls[0], "CREATE TABLE t (id int PRIMARY KEY)")?;
    // A session that stays, and answers line by line.
    let mut psql = Command::new("psql")
        .args(["-X", "-A", "-t", "-q", &urls[0]])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut ask = psql.stdin.take().context("an input")?;
    writeln!(ask, "BEGIN; INSERT INTO t VALUES (1);")?;

    let told = node(&fleet, &["drain", "1", "--sessions", "12"])?;
    let first = told.lines().nth(1).context("a row")?;
    ensure!(first.contains("(draining)"), "{told}");
    ensure!(fleet.leaseholder()? != 0, "it leads");
    ensure!(!fleet.is_ready(0)? && fleet.is_ready(1)?, "it is ready");
    let refused = "the database system is not accepting connections";
    eventually("new clients are refused", || {
        let answer = pgbench::psql(&urls[0], "SELECT 1");
        Ok(answer.is_err_and(|error| format!("{error:#}").contains(refused)))
    })?;
    writeln!(ask, "COMMIT; INSERT INTO t VALUES (2);")?;
    eventually("the session goes on", || {
        Ok(pgbench::psql(&urls[1], "SELECT count(*) FROM t")? == "2")
    })?;
    // Until its time is over.
    eventually("the session ends", || {
        let _ = writeln!(ask, "INSERT INTO t SELECT max(id) + 1 FROM t;");
        Ok(psql.try_wait()?.is_some())
    })?;
    let mut errors = String::new();
    psql.stderr.take().context("an output")?.read_to_string(&mut errors)?;
    ensure!(errors.contains("terminating connection due to administrator command"), "{errors}");

    node(&fleet, &["drain", "1", "--cancel"])?;
    eventually("it is as before", || {
        Ok(fleet.is_ready(0)? && pgbench::psql(&urls[0], "SELECT 1").is_ok())
    })?;
    // A start ends it, too.
    node(&fleet, &["drain", "1"])?;
    fleet.terminate(0)?;
    fleet.restart(0)?;
    eventually("it is not drained any more", || {
        Ok(!node(&fleet, &["status"])?.contains("(draining)"))
    })?;

    // Every node is restarted in turn while others' clients work: none of them hears of it.
    pgbench::run(&urls[0], &["-i", "-s", "1", "-q"])?;
    for at in 0..3 {
        let others = urls.iter().enumerate().filter(|(other, _)| *other != at);
        let args = ["-n", "-c", "2", "-T", "6", "-M", "prepared"];
        let runs: Vec<_> =
            others.map(|(_, url)| pgbench::spawn(url, &args)).collect::<Result<_>>()?;
        fleet.terminate(at)?;
        fleet.restart(at)?;
        for run in runs {
            let output = run.wait_with_output()?;
            let (out, err) = (
                String::from_utf8_lossy(&output.stdout).into_owned(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            );
            ensure!(output.status.success() && !err.contains("ERROR"), "{err}");
            ensure!(out.contains("number of failed transactions: 0 "), "{out}");
        }
    }
    pgbench::check_sums(&urls[2]).map(drop)
}
