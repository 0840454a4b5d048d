//! pgbench in all its modes, without an error, and the books in order afterwards.

use anyhow::Result;
use compat_tests::{Meridian, Options, pgbench};

#[test]
fn pgbench_runs_in_all_modes() -> Result<()> {
    if pgbench::installed().is_none() {
        return Err(anyhow::anyhow!("pgbench is not installed"));
    }
    let server = Meridian::start(Options::default())?;
    let url = server.url("postgres");
    pgbench::run(&url, &["-i", "-s", "1", "-q"])?;
    for mode in ["simple", "extended", "prepared"] {
        for kind in ["tpcb-like", "simple-update", "select-only"] {
            for clients in ["1", "8"] {
                pgbench::run(&url, &["-n", "-b", kind, "-M", mode, "-c", clients, "-t", "20"])?;
            }
        }
    }
    // Only tpcb-like keeps all four sums equal, so simple-update's rows are taken out of the history.
    let delta = pgbench::psql(
        &url,
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) - (SELECT sum(delta) FROM pgbench_history)",
    )?;
    assert_eq!(delta, "0");
    let books = pgbench::psql(
        &url,
        "SELECT (SELECT sum(bbalance) FROM pgbench_branches) - (SELECT sum(tbalance) FROM pgbench_tellers)",
    )?;
    assert_eq!(books, "0");
    Ok(())
}
