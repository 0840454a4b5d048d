//! The loader: records by COPY, some thousands in each, by several connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use clap::Args;
use indicatif::ProgressBar;
use meridian_base::clock::Instant;
use meridian_base::rng::Rng;
use meridian_bench::{Cluster, CopyRows, LoadOptions, Target, load_bar, micros_since, print};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::keys::{key, value};

/// Rows of one COPY: a transaction of some 20 MB.
const CHUNK: u64 = 20_000;

/// `ycsb load`
#[derive(Args, Debug)]
pub(crate) struct Load {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    options: LoadOptions,
    /// Records to insert
    #[arg(long, short, default_value_t = 100_000)]
    records: u64,
    /// Seed of the records' values
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Makes the table and fills it.
pub(crate) async fn load(load: Load) -> Result<()> {
    let started = Instant::now();
    let cluster = Cluster::new(&load.target, "ycsb")?;
    let client = cluster.connect(0).await?;
    if load.options.drop {
        client.batch_execute("DROP TABLE IF EXISTS usertable").await?;
    }
    let create = "CREATE TABLE usertable (ycsb_key varchar(255) PRIMARY KEY, field0 text, \
                  field1 text, field2 text, field3 text, field4 text, field5 text, field6 text, \
                  field7 text, field8 text, field9 text)";
    client.batch_execute(create).await.context("cannot create usertable")?;

    let bar = load_bar(load.records);
    let next = Arc::new(AtomicU64::new(0));
    let mut loaders = JoinSet::new();
    for number in 0..load.options.connections.max(1) {
        let client = cluster.connect(number).await?;
        let work = fill(client, Arc::clone(&next), load.records, load.seed, bar.clone());
        loaders.spawn(work);
    }
    while let Some(result) = loaders.join_next().await {
        result??;
    }
    bar.finish_and_clear();
    client.batch_execute("ANALYZE usertable").await?;
    let seconds = micros_since(started) as f64 / 1e6;
    let per_second = load.records as f64 / seconds;
    print(&format!("{} records in {seconds:.1} s, {per_second:.0} per second\n", load.records));
    Ok(())
}

/// Copies chunk after chunk until all are taken.
async fn fill(
    client: Client,
    next: Arc<AtomicU64>,
    records: u64,
    seed: u64,
    bar: ProgressBar,
) -> Result<()> {
    loop {
        let first = next.fetch_add(CHUNK, Ordering::Relaxed);
        if first >= records {
            return Ok(());
        }
        let mut rng = Rng::seeded(seed ^ first.rotate_left(20));
        let mut copy = CopyRows::begin(&client, "usertable", &bar).await?;
        for number in first..records.min(first + CHUNK) {
            let f: [String; 10] = std::array::from_fn(|_| value(&mut rng));
            copy.row(&[
                &key(number),
                &f[0],
                &f[1],
                &f[2],
                &f[3],
                &f[4],
                &f[5],
                &f[6],
                &f[7],
                &f[8],
                &f[9],
            ])
            .await?;
        }
        copy.finish().await?;
    }
}
