//! Errors, sorted by what a client does about them.
//!
//! A serialization failure, a deadlock and a lost connection are part of life with a transactional
//! (and distributed) database: the client runs the transaction again, and the driver counts each kind.
//! Anything else is a finding; the report shows the first of each kind with its statement.

use std::fmt;
use std::time::Duration;

use meridian_base::rng::Rng;
use tokio_postgres::Error;

/// What an error means for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// 40001: run the transaction again.
    Serialization,
    /// 40P01: run the transaction again.
    Deadlock,
    /// The node is gone or going: connect again, to another one perhaps.
    Connection,
    /// 40003, 08007: whether the transaction was committed is not known.
    Unknown,
    /// An answer that no client expects.
    Error,
}

impl Trouble {
    /// All that lead to another attempt, in the order of a record's counters.
    pub const RETRIED: [Self; 4] =
        [Self::Serialization, Self::Deadlock, Self::Connection, Self::Unknown];

    /// The kind of an error of tokio-postgres.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error.code() {
            Some(code) => Self::of_code(code.code()),
            None if error.is_closed() || is_io(error) => Self::Connection,
            None => Self::Error,
        }
    }

    fn of_code(code: &str) -> Self {
        match code {
            "40001" => Self::Serialization,
            "40P01" => Self::Deadlock,
            "40003" | "08007" => Self::Unknown,
            // No leader: another node may know of one.
            "57P01" | "57P02" | "57P03" | "58000" => Self::Connection,
            code if code.starts_with("08") => Self::Connection,
            _ => Self::Error,
        }
    }

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serialization => "serialization",
            Self::Deadlock => "deadlock",
            Self::Connection => "connection",
            Self::Unknown => "unknown_outcome",
            Self::Error => "error",
        }
    }
}

fn is_io(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// A statement that failed, or a transaction whose data were not what the benchmark says.
#[derive(Debug)]
pub struct Failure {
    /// What to do about it.
    pub trouble: Trouble,
    /// The SQLSTATE, if the server sent one.
    pub code: Option<String>,
    /// The statement's name and the message.
    pub message: String,
}

impl Failure {
    /// The failure of a statement.
    #[must_use]
    pub fn of(statement: &str, error: &Error) -> Self {
        let text = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
        Self {
            trouble: Trouble::of(error),
            code: error.code().map(|code| code.code().to_owned()),
            message: format!("{statement}: {text}"),
        }
    }

    /// An answer that the data's rules exclude.
    #[must_use]
    pub fn data(message: impl Into<String>) -> Self {
        Self { trouble: Trouble::Error, code: None, message: message.into() }
    }

    /// A connection that cannot be had.
    #[must_use]
    pub fn connection(error: &anyhow::Error) -> Self {
        Self { trouble: Trouble::Connection, code: None, message: format!("{error:#}") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code.as_deref().unwrap_or("-----"), self.message)
    }
}

impl std::error::Error for Failure {}

/// Pauses between attempts: up to 1 ms, 2 ms, 4 ms …, a random part of each.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next pause after this trouble.
    pub fn pause(&mut self, trouble: Trouble, rng: &mut Rng) -> Duration {
        // Who lost against another transaction has soon another chance; a node takes longer.
        let longest = match trouble {
            Trouble::Serialization | Trouble::Deadlock => 64,
            Trouble::Connection | Trouble::Unknown | Trouble::Error => 512,
        };
        let millis = longest.min(1 << self.attempts.min(9));
        self.attempts += 1;
        Duration::from_millis(millis).mul_f64(rng.next_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_tell_what_to_do() {
        let expected = [
            ("40001", Trouble::Serialization),
            ("40P01", Trouble::Deadlock),
            ("08007", Trouble::Unknown),
            ("08006", Trouble::Connection),
            ("57P01", Trouble::Connection),
            ("57014", Trouble::Error),
            ("0A000", Trouble::Error),
        ];
        for (code, trouble) in expected {
            assert_eq!(Trouble::of_code(code), trouble, "{code}");
        }
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        let mut rng = Rng::seeded(1);
        for (trouble, longest) in [(Trouble::Deadlock, 64), (Trouble::Connection, 512)] {
            let mut backoff = Backoff::default();
            assert!(backoff.pause(trouble, &mut rng) <= Duration::from_millis(1));
            let pauses = (0..200).map(|_| backoff.pause(trouble, &mut rng).as_millis());
            let most = pauses.max().expect("some");
            assert!((longest / 2..=longest).contains(&most), "{most}");
        }
    }
}
