//! The only door to real time.
//!
//! Code takes a [`Clock`] (or an [`Instant`] that its caller read) so that tests and the simulator
//! can own time; `std::time::{Instant, SystemTime}::now` are refused by the linter elsewhere.

use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A source of wall time and monotonic time.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since the Unix epoch. May go backwards when an operator sets the clock.
    fn now_micros(&self) -> u64;
    /// Monotonic time; never goes backwards, unrelated to wall time.
    fn instant(&self) -> Instant;
}

/// A point of monotonic time: nanoseconds since the process first asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();

impl Instant {
    /// Now, on the system's monotonic clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn now() -> Self {
        let origin = ORIGIN.get_or_init(std::time::Instant::now);
        Self(u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// An instant at `nanos` after the origin; for tests and simulated clocks.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time since this instant on the system's clock.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Self> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now_micros(&self) -> u64 {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since_epoch.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// The machine's clock, so many milliseconds off: for tests of what a wrong clock does.
#[derive(Clone, Copy, Debug)]
pub struct WrongClock(pub i64);

impl Clock for WrongClock {
    fn now_micros(&self) -> u64 {
        SystemClock.now_micros().saturating_add_signed(self.0.saturating_mul(1000))
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_micros: AtomicU64,
    monotonic_nanos: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `micros` since the Unix epoch.
    #[must_use]
    pub const fn new(micros: u64) -> Self {
        Self { wall_micros: AtomicU64::new(micros), monotonic_nanos: AtomicU64::new(0) }
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.wall_micros.fetch_add(nanos / 1000, Ordering::SeqCst);
        self.monotonic_nanos.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Sets the wall time, backwards too, as an operator might; monotonic time is untouched.
    pub fn set_wall(&self, micros: u64) {
        self.wall_micros.store(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> u64 {
        self.wall_micros.load(Ordering::SeqCst)
    }

    fn instant(&self) -> Instant {
        Instant(self.monotonic_nanos.load(Ordering::SeqCst))
    }
}
