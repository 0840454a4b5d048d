//! Meridian from outside: processes that are started, killed and measured, spoken to over the wire
//! only. PostgreSQL 15, where it is installed, is started beside it as the yardstick.
//!
//! Tests are in `tests/`; longer runs are programs in `src/bin/`, each of which says in its own words
//! what it shows:
//!
//! ```text
//! cargo run --release -p compat-tests --bin crash        kill -9 under pgbench, again and again
//! cargo run --release -p compat-tests --bin speed        ratios against PostgreSQL, interleaved
//! cargo run --release -p compat-tests --bin cluster_speed  three nodes against two synchronous standbys
//! cargo run --release -p compat-tests --bin memory       idle sessions, queries that outgrow work_mem
//! cargo run --release -p compat-tests --bin connections  ten thousand at once, two hundred at work
//! cargo run --release -p compat-tests --bin regress      suites that PostgreSQL passes, ours over its
//! cargo run --release -p compat-tests --bin isolation    what sessions see of each other, by spec
//! cargo run --release -p compat-tests --bin chaos        histories under kills, pauses, cuts, full disks
//! ```

pub mod chaos;
pub mod isolation;
pub mod pgbench;
pub mod postgres;
pub mod process;
pub mod tls;

use std::path::PathBuf;

pub use postgres::Postgres;
pub use process::{Meridian, Options};

/// This crate's directory. What cargo says when it runs this counts: the compiled path is that of another
/// clone, if that has built into the same target directory before.
#[must_use]
pub fn here() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
}
