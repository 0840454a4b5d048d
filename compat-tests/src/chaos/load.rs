//! pgbench on all nodes at once, while nodes are killed, or stopped and started one after the other.
//!
//! Each node has a pgbench of its own, whose clients end with their node and are started again with it.
//! What clients were told on a node that was up all the time is counted apart: there must be no error but
//! those that ask for another try (40001, 40P01), and none at all when nodes are stopped in good order. At
//! the end pgbench's four sums must be equal, and no acknowledged transaction may be missing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fleet::Fleet;
use crate::pgbench;

/// Clients of all nodes together.
const CLIENTS: usize = 16;
/// How long a run of pgbench lasts, unless its node ends before.
const RUN_SECONDS: &str = "8";
/// Branches: as many rows that everybody writes.
const SCALE: &str = "10";

/// What a run of this came to.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Transactions that were acknowledged.
    pub acknowledged: u64,
    /// Those that are in the history at the end.
    pub kept: u64,
    /// Told on nodes that were up: to be tried again.
    pub retryable: u64,
    /// Told on nodes that were up: anything else.
    pub errors: Vec<String>,
    /// Connections that ended with their node.
    pub cut_off: u64,
    /// How often nodes were killed or stopped.
    pub strikes: u32,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// By node: how often it was touched; odd while it is.
    touched: Vec<AtomicU64>,
    acknowledged: AtomicU64,
    retryable: AtomicU64,
    cut_off: AtomicU64,
    errors: Mutex<Vec<String>>,
}

/// The number behind a line's beginning.
fn number(text: &str, beginning: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(beginning)).unwrap_or("0");
    let digits: String = rest.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Runs pgbench on one node time and again.
fn bench(url: &str, node: usize, clients: usize, shared: &Shared) {
    let clients = clients.to_string();
    while !shared.stop.load(Ordering::Relaxed) {
        let before = shared.touched[node].load(Ordering::SeqCst);
        if before % 2 == 1 {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        let args = ["-n", "-M", "prepared", "-c", &clients, "-T", RUN_SECONDS];
        let Ok(child) = pgbench::spawn(url, &args) else { return };
        let Ok(output) = child.wait_with_output() else { return };
        let touched = shared.touched[node].load(Ordering::SeqCst) != before;
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let processed = number(&out, "number of transactions actually processed: ");
        shared.acknowledged.fetch_add(processed, Ordering::Relaxed);
        let failed = number(&out, "number of failed transactions: ");
        shared.retryable.fetch_add(failed, Ordering::Relaxed);
        for line in err.lines().filter(|line| line.contains("error") || line.contains("ERROR")) {
            if touched {
                shared.cut_off.fetch_add(1, Ordering::Relaxed);
            } else if let Ok(mut errors) = shared.errors.lock() {
                errors.push(format!("node {node}: {line}"));
            }
        }
    }
}

/// Every so often a random node is killed (`true`), or all are stopped and started in turn.
fn torment(
    fleet: &mut Fleet,
    shared: &Shared,
    length: Duration,
    every: Duration,
    kill: bool,
    rng: &mut StdRng,
) -> Result<u32> {
    let (mut strikes, mut left) = (0, length);
    while left > every {
        std::thread::sleep(every);
        left -= every;
        let nodes =
            if kill { rng.random_range(0..fleet.len()) } else { strikes as usize % fleet.len() };
        shared.touched[nodes].fetch_add(1, Ordering::SeqCst);
        if kill {
            fleet.kill(nodes)?;
            std::thread::sleep(Duration::from_secs(1));
        } else {
            fleet.terminate(nodes)?;
        }
        fleet.restart(nodes)?;
        shared.touched[nodes].fetch_add(1, Ordering::SeqCst);
        strikes += 1;
    }
    std::thread::sleep(left);
    Ok(strikes)
}

/// Runs it for so long.
pub fn run(
    fleet: &mut Fleet,
    length: Duration,
    every: Duration,
    kill: bool,
    seed: u64,
) -> Result<Loaded> {
    let urls = fleet.urls();
    pgbench::run(&urls[0], &["-i", "-s", SCALE, "-q"])?;
    let touched = urls.iter().map(|_| AtomicU64::new(0)).collect();
    let shared = Arc::new(Shared { touched, ..Shared::default() });
    let benches: Vec<_> = urls
        .iter()
        .enumerate()
        .map(|(node, url)| {
            let (url, shared) = (url.clone(), Arc::clone(&shared));
            let clients = CLIENTS / urls.len() + usize::from(node < CLIENTS % urls.len());
            std::thread::spawn(move || bench(&url, node, clients, &shared))
        })
        .collect();
    let strikes = torment(fleet, &shared, length, every, kill, &mut StdRng::seed_from_u64(seed));
    shared.stop.store(true, Ordering::Relaxed);
    for bench in benches {
        ensure!(bench.join().is_ok(), "a thread has panicked");
    }
    let strikes = strikes?;
    let mut kept = Err(anyhow::anyhow!("never asked"));
    for _ in 0..100 {
        kept = pgbench::psql(&urls[0], "SELECT count(*) FROM pgbench_history");
        if kept.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let kept = kept?.parse()?;
    pgbench::check_sums(&urls[0])?;
    let errors = shared.errors.lock().map(|mut errors| std::mem::take(&mut *errors));
    Ok(Loaded {
        acknowledged: shared.acknowledged.load(Ordering::Relaxed),
        kept,
        retryable: shared.retryable.load(Ordering::Relaxed),
        errors: errors.unwrap_or_default(),
        cut_off: shared.cut_off.load(Ordering::Relaxed),
        strikes,
    })
}
