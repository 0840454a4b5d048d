//! What nodes cost that have nothing to do: CPU time and resident memory of each.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};

use super::fleet::Fleet;

/// How long nodes get to settle before they are looked at.
const SETTLE: Duration = Duration::from_secs(10);

/// Clock ticks of user and system time.
fn ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(") ").context("a name in parentheses")?.1;
    let fields: Vec<&str> = rest.split(' ').collect();
    let at = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok());
    Ok(at(11).context("utime")? + at(12).context("stime")?)
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Looks at all nodes for so long: a table.
pub fn table(fleet: &Fleet, length: Duration) -> Result<String> {
    std::thread::sleep(SETTLE);
    let pids = (0..fleet.len()).map(|node| fleet.pid(node)).collect::<Result<Vec<_>>>()?;
    let before = pids.iter().map(|pid| ticks(*pid)).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(length);
    let mut table = "| node | of a core, % | resident, MiB |\n|---|---:|---:|".to_owned();
    for (node, (pid, before)) in pids.iter().zip(before).enumerate() {
        // A tick is a hundredth of a second everywhere that matters.
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let percent = (ticks(*pid)? - before) as f64 / length.as_secs_f64();
        write!(table, "\n| {node} | {percent:.2} | {} |", resident_kib(*pid)? / 1024)?;
    }
    Ok(table)
}
