//! The options that every driver has.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

/// Where the servers are.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// `postgresql://user:password@host:port/database`; several, with commas between them, are nodes
    /// of one database, and connections are spread over them
    #[arg(long, env = "BENCH_URL", value_delimiter = ',', required = true)]
    pub url: Vec<String>,
}

/// How a load goes.
#[derive(Args, Clone, Debug)]
pub struct LoadOptions {
    /// Connections that load at the same time
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Remove tables of these names first
    #[arg(long)]
    pub drop: bool,
}

/// How a run goes.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// How long to measure: 90s, 10m, 1h
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub duration: Duration,
    /// How long to run before, without counting
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub warmup: Duration,
    /// Write the result to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measure each statement too; turns pipelines off, in which statements wait for each other
    #[arg(long)]
    pub statements: bool,
    /// Send each statement when the one before is answered
    #[arg(long)]
    pub no_pipeline: bool,
    /// Seed of all random choices; without one, each run chooses anew
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Reads `500ms`, `90s`, `10m`, `1h`; a number alone is seconds.
pub fn duration(text: &str) -> Result<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().context("expected a number and ms, s, m or h")?;
    Ok(match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number),
        "h" => Duration::from_secs(3600 * number),
        unit => bail!("unknown unit {unit}: expected ms, s, m or h"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, millis) in [("7", 7000), ("20ms", 20), ("90s", 90_000), ("2m", 120_000)] {
            assert_eq!(duration(text).expect("valid").as_millis(), millis);
        }
        assert!(duration("5 days").is_err());
        assert!(duration("s").is_err());
    }
}
