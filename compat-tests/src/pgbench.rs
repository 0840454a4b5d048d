//! Runs of pgbench, and what it leaves behind.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// pgbench, if it is installed.
pub fn installed() -> Option<PathBuf> {
    let candidates = ["/usr/lib/postgresql/15/bin/pgbench", "/usr/bin/pgbench"];
    candidates.iter().map(PathBuf::from).find(|path| path.exists())
}

fn command(url: &str, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(installed().context("pgbench is not installed")?);
    command.args(args).arg(url).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Runs pgbench to its end; an error when it reports one.
pub fn run(url: &str, args: &[&str]) -> Result<Output> {
    let output = command(url, args)?.output()?;
    if !output.status.success() {
        bail!("pgbench {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output)
}

/// Starts pgbench and does not wait for it.
pub fn spawn(url: &str, args: &[&str]) -> Result<Child> {
    Ok(command(url, args)?.spawn()?)
}

/// Transactions per second, without the time for connecting, as pgbench prints it.
pub fn tps(output: &Output) -> Result<f64> {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("tps = ")).context("no tps line")?;
    Ok(line.trim_start_matches("tps = ").split(' ').next().unwrap_or_default().parse()?)
}

/// Transactions that were processed.
pub fn processed(output: &Output) -> Result<f64> {
    let text = String::from_utf8_lossy(&output.stdout);
    let prefix = "number of transactions actually processed: ";
    let line = text.lines().find_map(|line| line.strip_prefix(prefix)).context("no count")?;
    Ok(line.split('/').next().unwrap_or_default().trim().parse()?)
}

/// Answer of psql to one query, unaligned, without headings.
pub fn psql(url: &str, query: &str) -> Result<String> {
    let output = Command::new("psql").args(["-X", "-A", "-t", "-c", query, url]).output()?;
    if !output.status.success() {
        bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The sums that every tpcb-like run keeps equal; an error when they are not.
pub fn check_sums(url: &str) -> Result<i64> {
    let query = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), \
                 (SELECT sum(bbalance) FROM pgbench_branches), \
                 (SELECT sum(tbalance) FROM pgbench_tellers), \
                 (SELECT coalesce(sum(delta), 0) FROM pgbench_history)";
    let sums = psql(url, query)?;
    let parts: Vec<&str> = sums.split('|').collect();
    if parts.len() != 4 || parts.iter().any(|part| *part != parts[0]) {
        bail!("the sums of accounts, branches, tellers and history differ: {sums}");
    }
    Ok(parts[0].parse()?)
}
