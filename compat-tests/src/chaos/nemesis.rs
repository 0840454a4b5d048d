//! Who breaks things, and mends them again.

use std::time::Duration;

use anyhow::{Result, bail};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::client::{Session, Trouble};
use super::fleet::Fleet;
use super::net::Kind;

/// One way of breaking things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nemesis {
    /// kill -9 of any node, which comes back.
    Kill,
    /// kill -9 of the node that holds the most leases.
    KillLeaseholder,
    /// SIGSTOP, later SIGCONT.
    Pause,
    /// The same for longer than any node is supported without a word from it.
    LongPause,
    /// One node and the others cannot hear each other.
    Partition,
    /// One node hears the others, but they don't hear it.
    OneWay,
    /// A node's clock is off.
    ClockOffset,
    /// A node's disk is full.
    DiskFull,
    /// One node after the other is stopped in good order and started again.
    RollingRestart,
    /// Ranges are split where rows are written, and merged again.
    SplitStorm,
    /// Leases move.
    LeaseShuffle,
}

/// All of them, by the names that the command line knows.
pub const ALL: [(&str, Nemesis); 11] = [
    ("kill", Nemesis::Kill),
    ("kill-leaseholder", Nemesis::KillLeaseholder),
    ("pause", Nemesis::Pause),
    ("long-pause", Nemesis::LongPause),
    ("partition", Nemesis::Partition),
    ("one-way", Nemesis::OneWay),
    ("clock", Nemesis::ClockOffset),
    ("disk-full", Nemesis::DiskFull),
    ("rolling-restart", Nemesis::RollingRestart),
    ("splits", Nemesis::SplitStorm),
    ("leases", Nemesis::LeaseShuffle),
];

const CLOCK_ARGUMENT: &str = "--test-clock-offset";

impl Nemesis {
    /// Its name.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(_, nemesis)| *nemesis == self).map_or("", |(name, _)| name)
    }

    /// Why it cannot be had here, if so.
    pub async fn missing(self, fleet: &Fleet, session: &Session) -> Option<String> {
        let several = fleet.len() > 1;
        match self {
            Nemesis::Kill | Nemesis::Pause | Nemesis::LongPause | Nemesis::RollingRestart => None,
            Nemesis::KillLeaseholder | Nemesis::LeaseShuffle if !several => {
                Some("there is one node".to_owned())
            }
            Nemesis::KillLeaseholder => fleet.leaseholder().err().map(|e| e.to_string()),
            Nemesis::Partition | Nemesis::OneWay => match (several, fleet.net.kind) {
                (false, _) => Some("there is one node".to_owned()),
                (true, Kind::Loopback) => Some("network namespaces are not permitted".to_owned()),
                (true, Kind::Namespaces) => None,
            },
            Nemesis::ClockOffset => (!fleet.knows(&format!("{CLOCK_ARGUMENT}=0")))
                .then(|| format!("the program has no {CLOCK_ARGUMENT}")),
            Nemesis::DiskFull => (!fleet.has_own_disk(0)).then(|| {
                "the node has no disk of its own (not asked for, or mount is not permitted)"
                    .to_owned()
            }),
            Nemesis::SplitStorm => {
                refused(session, &split("pg_class", &mut StdRng::seed_from_u64(1))).await
            }
            Nemesis::LeaseShuffle => refused(session, "ALTER RANGE 1 RELOCATE LEASE TO 1").await,
        }
    }

    /// Breaks something, holds on for a while, and mends it. An error is something that a node must not
    /// do, not even now.
    pub async fn strike(
        self,
        fleet: &mut Fleet,
        session: &mut Session,
        rng: &mut StdRng,
    ) -> Result<()> {
        let node = rng.random_range(0..fleet.len());
        let millis = if self == Nemesis::LongPause { 3500..7000 } else { 300..2000 };
        let while_it_lasts = Duration::from_millis(rng.random_range(millis));
        let hold = || tokio::time::sleep(while_it_lasts);
        match self {
            Nemesis::Kill => {
                fleet.kill(node)?;
                hold().await;
                fleet.restart(node)?;
            }
            Nemesis::KillLeaseholder => {
                let _ = session.connect(rng).await;
                let node = fleet.leaseholder().unwrap_or(node);
                fleet.kill(node)?;
                hold().await;
                fleet.restart(node)?;
            }
            Nemesis::Pause | Nemesis::LongPause => {
                fleet.pause(node, true)?;
                hold().await;
                fleet.pause(node, false)?;
            }
            Nemesis::Partition | Nemesis::OneWay => {
                let both = self == Nemesis::Partition;
                cut_off(fleet, node, both, true)?;
                hold().await;
                cut_off(fleet, node, both, false)?;
            }
            Nemesis::ClockOffset => wrong_clock(fleet, node, rng)?,
            Nemesis::DiskFull => {
                let mut full = vec![node];
                // Sometimes those that are left are no majority.
                if fleet.len() > 1 && rng.random_ratio(1, 3) {
                    full.push((node + 1) % fleet.len());
                }
                full.iter().try_for_each(|node| fleet.fill(*node, true))?;
                hold().await;
                full.iter().try_for_each(|node| fleet.fill(*node, false))?;
                has_room_again(fleet, &full, rng).await?;
            }
            Nemesis::RollingRestart => {
                for node in 0..fleet.len() {
                    fleet.terminate(node)?;
                    fleet.restart(node)?;
                }
            }
            Nemesis::SplitStorm => {
                for _ in 0..SPLITS {
                    if session.connect(rng).await.is_err() {
                        continue;
                    }
                    // That a key lies at a border already is no failure, nor that nobody leads now.
                    if let Some(table) = tables(session).await.choose(rng) {
                        let _ = session.texts(&split(table, rng)).await;
                    }
                }
            }
            Nemesis::LeaseShuffle => shuffle(fleet.len(), session, rng).await,
        }
        Ok(())
    }
}

/// A node's clock is off: within the bound it serves, beyond it stops by itself.
fn wrong_clock(fleet: &mut Fleet, node: usize, rng: &mut StdRng) -> Result<()> {
    let sign = if rng.random() { 1 } else { -1 };
    if fleet.len() == 1 || rng.random_ratio(2, 3) {
        // Two nodes may be off in opposite directions.
        let offset = sign * rng.random_range(0..=110);
        fleet.set_extra(node, &[&format!("{CLOCK_ARGUMENT}={offset}")]);
        fleet.terminate(node)?;
        return fleet.restart(node);
    }
    let offset = sign * rng.random_range(600..=5000);
    fleet.set_extra(node, &[&format!("{CLOCK_ARGUMENT}={offset}")]);
    fleet.terminate(node)?;
    let stopped = fleet.start_to_fail(node, "the clock");
    fleet.set_extra(node, &[]);
    fleet.kill(node)?;
    fleet.restart(node)?;
    stopped
}

/// Nodes whose disks were full live, and take writes, at once or after a while.
async fn has_room_again(fleet: &mut Fleet, full: &[usize], rng: &mut StdRng) -> Result<()> {
    for node in full.iter().copied() {
        if let Some(how) = fleet.ended(node) {
            bail!("node {node} has ended on a full disk: {how}");
        }
        let mut its_own = Session::new(&fleet.urls()[node..=node], 0);
        if !writes_again(&mut its_own, rng).await {
            // It may, after a restart.
            fleet.kill(node)?;
            bail!("node {node} takes no writes although its disk has room again");
        }
    }
    Ok(())
}

/// Does it take a write, at once or after a while?
async fn writes_again(session: &mut Session, rng: &mut StdRng) -> bool {
    for _ in 0..100 {
        if session.connect(rng).await.is_ok() {
            let write = "INSERT INTO chaos_probe VALUES (now())";
            if session.texts(write).await.is_ok() {
                return true;
            }
            let _ = session.texts("CREATE TABLE IF NOT EXISTS chaos_probe (at timestamptz)").await;
        }
        session.drop_connection();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

/// How many ranges a storm of splits makes at most.
const SPLITS: usize = 6;

/// The workloads' tables, all of which have whole numbers for keys.
async fn tables(session: &mut Session) -> Vec<String> {
    let find = "SELECT relname FROM pg_class WHERE relname LIKE 'chaos\\_%' AND relkind = 'r'";
    let rows = session.texts(find).await.unwrap_or_default();
    rows.into_iter().flatten().collect()
}

fn split(table: &str, rng: &mut StdRng) -> String {
    // Most workloads count from 0 or 1, some of them far.
    let at = if rng.random() { rng.random_range(0..12) } else { rng.random_range(0..3000) };
    format!("ALTER TABLE {table} SPLIT AT VALUES ({at})")
}

/// How many leases are moved at most.
const MOVES: usize = 30;

/// Leases go to other nodes, one after the other.
async fn shuffle(nodes: usize, session: &mut Session, rng: &mut StdRng) {
    let find = "SELECT DISTINCT range_id::text FROM pg_catalog.meridian_ranges";
    for _ in 0..rng.random_range(1..=MOVES) {
        if session.connect(rng).await.is_err() {
            continue;
        }
        let ranges = session.texts(find).await.unwrap_or_default();
        let ranges: Vec<String> = ranges.into_iter().flatten().collect();
        let Some(range) = ranges.choose(rng) else { continue };
        // The founder is the first; nodes have the next numbers.
        let node = rng.random_range(1..=nodes);
        // That the node has no copy is no failure.
        let _ = session.texts(&format!("ALTER RANGE {range} RELOCATE LEASE TO {node}")).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..100))).await;
    }
}

/// The text of a refusal for good: unknown syntax, or not supported.
async fn refused(session: &Session, statement: &str) -> Option<String> {
    match session.texts(statement).await {
        Err(Trouble::Wrong(text)) if text.starts_with("42601") || text.starts_with("0A000") => {
            Some(text)
        }
        _ => None,
    }
}

fn cut_off(fleet: &Fleet, node: usize, both: bool, cut: bool) -> Result<()> {
    for other in (0..fleet.len()).filter(|other| *other != node) {
        fleet.net.cut(node, other, cut)?;
        if both {
            fleet.net.cut(other, node, cut)?;
        }
    }
    Ok(())
}
