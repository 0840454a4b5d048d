//! A node put together: the command line, certificates, start and shutdown, the HTTP port, and the
//! small SQL shell.
//!
//! Start-up, in order; every failure is one line on standard error and exit status 1:
//!
//! ```text
//! flags and MERIDIAN_* ─▶ data directory (locked) ─▶ certificates ─▶ store (log replayed) ─▶ catalog
//!   ─▶ first password ─▶ listener ─▶ ready
//! ```
//!
//! Shutdown (SIGTERM, SIGINT) is the reverse: no new sessions, the open ones are told `57P01`, the
//! store writes what is not durable yet, the process ends with status 0. A node of a cluster gives its
//! leases away before, and lets transactions end ([`drain`]).

mod certs;
pub mod cli;
mod demo;
mod drain;
mod http;
mod logging;
mod member;
mod recover;
mod shell;
mod start;

pub use member::MemberOptions;
pub use start::{NodeOptions, RunningNode};

/// Why a command failed: one line for the person who typed it.
#[derive(Debug)]
pub struct Failure(pub String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Turns an error into a [`Failure`] that says what was being done.
fn failed<E: std::fmt::Display>(doing: impl std::fmt::Display) -> impl FnOnce(E) -> Failure {
    move |e| Failure(format!("{doing}: {e}"))
}
