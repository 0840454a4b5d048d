//! TPC-C over PostgreSQL's wire, after revision 5.11 of the specification.
//!
//! ```text
//! tpcc load  --url postgresql://postgres@127.0.0.1:5432/postgres --warehouses 10
//! tpcc run   --url … --connections 16 --duration 5m --json result.json
//! tpcc check --url …
//! ```
//!
//! `--url` takes several nodes with commas between them. The same binary measures Meridian and
//! PostgreSQL.
//!
//! **As specified:** tables and population with all rules for random data; the five transactions with
//! their inputs (remote lines and payments, customers by last name, 1 % of orders rolled back after all
//! their work); the mix; keying and think times (`--wait`); the twelve consistency conditions.
//!
//! **Different:** no terminal's screen is drawn; keying and think times are off unless asked for, and
//! the result is then not limited by the warehouses; deliveries are done by the terminal unless
//! `--delivery deferred`; transactions that write run at READ COMMITTED unless `--isolation` says
//! otherwise, and lock what they read to write; tpmC counts committed orders only, where the
//! specification counts those that it rolls back, too. What it prints is not a TPC result.

mod check;
mod decimal;
mod load;
mod mix;
mod random;
mod run;
mod schema;
mod statements;
mod transactions;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// TPC-C for any server that speaks PostgreSQL's wire protocol
#[derive(Parser, Debug)]
#[command(name = "tpcc", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make the tables and fill them
    Load(load::Load),
    /// Run the five transactions and measure them
    Run(run::RunArgs),
    /// Check the twelve consistency conditions
    Check(check::Check),
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Load(load) => load::load(load).await,
        Command::Run(run) => run::run(run).await,
        Command::Check(check) => check::check(check).await,
    }
}
