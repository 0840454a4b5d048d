//! YCSB's core workloads over PostgreSQL's wire.
//!
//! ```text
//! ycsb load --url postgresql://postgres@127.0.0.1:5432/postgres --records 1000000
//! ycsb run  --url … --workload a --threads 16 --duration 5m --json result.json
//! ```
//!
//! `--url` takes several nodes with commas between them. The same binary measures Meridian and
//! PostgreSQL.
//!
//! **As in YCSB:** `usertable` with ten fields of a hundred characters, keys from hashed numbers, the
//! workloads A to F with their shares, scrambled zipfian, latest and uniform choice, reads of all
//! fields, updates of one, scans of 1 to 100 rows; a read-modify-write is a read and an update that are
//! transactions of their own.
//!
//! **Different:** the load goes by COPY; a run knows the number of records from the table; a
//! read-modify-write is measured as a whole (`--statements` shows its parts).

mod generators;
mod keys;
mod load;
mod run;
mod workload;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// YCSB for any server that speaks PostgreSQL's wire protocol
#[derive(Parser, Debug)]
#[command(name = "ycsb", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make the table and fill it
    Load(load::Load),
    /// Run a workload and measure it
    Run(run::RunArgs),
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Load(load) => load::load(load).await,
        Command::Run(run) => run::run(run).await,
    }
}
