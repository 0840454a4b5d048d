//! Failover as a user feels it: how long does nothing get written when the leaseholder dies?
//!
//! One client writes in a tight loop, through any node that answers. The leaseholder is killed; the
//! gap is the time from the last acknowledgement before to the first one after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::client::Session;
use super::fleet::Fleet;

/// The gaps of some kills.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// In the order of time.
    pub gaps: Vec<Duration>,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Of those, how many weren't there at the end.
    pub lost: usize,
}

impl Gaps {
    /// The gap below which this share of them is.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.gaps.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Writer {
    stop: AtomicBool,
    acks: std::sync::Mutex<Vec<(i32, tokio::time::Instant)>>,
}

impl Writer {
    fn acks(&self) -> std::sync::MutexGuard<'_, Vec<(i32, tokio::time::Instant)>> {
        self.acks.lock().unwrap_or_else(|e| e.into_inner())
    }

    async fn write(self: Arc<Writer>, mut session: Session, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut next = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if session.connect(&mut rng).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            next += 1;
            match session.execute("INSERT INTO chaos_gap VALUES ($1)", &[&next]).await {
                Ok(_) => self.acks().push((next, tokio::time::Instant::now())),
                Err(_) => session.drop_connection(),
            }
        }
    }

    async fn wait_for(&self, more: usize) -> Result<()> {
        let goal = self.acks().len() + more;
        for _ in 0..12_000 {
            if self.acks().len() >= goal {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("nothing is written any more")
    }
}

/// Kills the leaseholder so many times.
pub async fn measure(fleet: &mut Fleet, kills: usize, seed: u64) -> Result<Gaps> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut session = Session::new(&fleet.urls(), 0);
    session.connect(&mut rng).await.ok().context("cannot connect")?;
    let tables = "DROP TABLE IF EXISTS chaos_gap; CREATE TABLE chaos_gap (id int PRIMARY KEY)";
    if let Err(trouble) = session.texts(tables).await {
        bail!("cannot make the table: {trouble:?}");
    }
    let writer = Arc::new(Writer::default());
    let task = tokio::spawn(Arc::clone(&writer).write(Session::new(&fleet.urls(), 1), seed));
    let mut gaps = Gaps::default();
    for _ in 0..kills {
        writer.wait_for(200).await?;
        let node = fleet.leaseholder()?;
        let before = writer.acks().len();
        fleet.kill(node)?;
        if fleet.len() == 1 {
            fleet.restart(node)?;
        }
        writer.wait_for(20).await?;
        let longest = {
            let acks = writer.acks();
            let around = &acks[before.saturating_sub(1)..];
            around.windows(2).map(|pair| pair[1].1 - pair[0].1).max().unwrap_or_default()
        };
        gaps.gaps.push(longest);
        said(longest);
        fleet.restart(node)?;
    }
    writer.stop.store(true, Ordering::Relaxed);
    task.await?;
    session.drop_connection();
    session.connect(&mut rng).await.ok().context("cannot connect")?;
    let there = session.numbers("SELECT id FROM chaos_gap", &[]).await;
    let there: std::collections::BTreeSet<i64> =
        there.ok().context("cannot read what was written")?.into_iter().collect();
    let acks = writer.acks();
    gaps.acknowledged = acks.len();
    gaps.lost = acks.iter().filter(|(id, _)| !there.contains(&i64::from(*id))).count();
    Ok(gaps)
}

#[expect(clippy::print_stderr, reason = "the run may be cut off")]
fn said(gap: Duration) {
    eprintln!("gap {} ms", gap.as_millis());
}

/// Keeps every core busy for so long and counts how often the leaseholder changes: nothing has failed,
/// so each change is a false election.
pub async fn false_elections(fleet: &Fleet, length: Duration, cores: usize) -> Result<usize> {
    let mut holder = fleet.leaseholder()?;
    let stop = Arc::new(AtomicBool::new(false));
    let spinners: Vec<_> = (0..cores)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let (mut changes, end) = (0, tokio::time::Instant::now() + length);
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = fleet.leaseholder()?;
        changes += usize::from(now != holder);
        holder = now;
    }
    stop.store(true, Ordering::Relaxed);
    for spinner in spinners {
        let _ = spinner.join();
    }
    Ok(changes)
}
