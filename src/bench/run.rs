//! The time of a run: warming up, measuring, end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meridian_base::clock::Instant;

use crate::RunOptions;

/// When a run began, and how far it is.
#[derive(Debug)]
pub struct Run {
    start: Instant,
    warmup: Duration,
    duration: Duration,
    /// Operations left, when the run ends by a count; `u64::MAX` when by time.
    left: AtomicU64,
    /// Operations that succeeded, warming up included; for the progress bar.
    done: AtomicU64,
}

impl Run {
    /// A run that begins now. With `operations`, it ends when as many were begun after warming up.
    #[must_use]
    pub fn begin(options: &RunOptions, operations: Option<u64>) -> Self {
        let duration = if operations.is_some() { Duration::MAX } else { options.duration };
        Self {
            start: Instant::now(),
            warmup: options.warmup,
            duration,
            left: AtomicU64::new(operations.unwrap_or(u64::MAX)),
            done: AtomicU64::new(0),
        }
    }

    /// Time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Instant::now() - self.start
    }

    /// Warming up and measuring together.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.warmup.saturating_add(self.duration)
    }

    /// Whether what begins now is measured. Asked once for each operation of a counted run, which it
    /// takes off the count; `None` at the run's end.
    pub fn next(&self) -> Option<bool> {
        let elapsed = self.elapsed();
        if elapsed >= self.total() {
            return None;
        }
        if elapsed < self.warmup {
            return Some(false);
        }
        if self.duration < Duration::MAX {
            return Some(true);
        }
        let take = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok().map(|_| true)
    }

    /// Whether the run is over by time.
    #[must_use]
    pub fn over(&self) -> bool {
        self.elapsed() >= self.total()
    }

    /// Whether nothing is counted yet.
    #[must_use]
    pub fn warming_up(&self) -> bool {
        self.elapsed() < self.warmup
    }

    /// Notes a success.
    pub fn succeeded(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Successes so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// How long has been measured, now that all workers have ended.
    #[must_use]
    pub fn measured(&self) -> Duration {
        self.elapsed().saturating_sub(self.warmup).min(self.duration)
    }
}

/// Microseconds since an instant.
#[must_use]
pub fn micros_since(start: Instant) -> u64 {
    u64::try_from((Instant::now() - start).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(warmup: Duration, duration: Duration) -> RunOptions {
        let (json, seed) = (None, None);
        RunOptions { duration, warmup, json, statements: false, no_pipeline: false, seed }
    }

    #[test]
    fn counted_runs_end_by_their_count() {
        let run = Run::begin(&options(Duration::ZERO, Duration::from_nanos(1)), Some(3));
        let answers: Vec<_> = (0..5).map(|_| run.next()).collect();
        assert_eq!(answers, [Some(true), Some(true), Some(true), None, None]);
        assert!(!run.over() && !run.warming_up());
    }

    #[test]
    fn timed_runs_warm_up_and_end() {
        let hour = Duration::from_secs(3600);
        assert_eq!(Run::begin(&options(hour, hour), None).next(), Some(false));
        assert_eq!(Run::begin(&options(Duration::ZERO, hour), None).next(), Some(true));
        let over = Run::begin(&options(Duration::ZERO, Duration::ZERO), None);
        assert!(over.next().is_none() && over.over());
    }
}
