//! A hybrid logical clock: timestamps that follow wall time and never repeat or go back.
//!
//! The state is one integer, the largest timestamp given out or heard of. [`Hlc::now`] answers
//! `max(wall, last + 1)`; [`Hlc::update`] raises `last` to a timestamp heard from another node, so
//! that whatever this node does next is ordered after what the other did before it sent.
//!
//! HAZARD: a timestamp from a node whose clock is far ahead would drag every node into the future.
//! `update` therefore refuses one beyond `max_offset`; if clocks differ by more than that bound,
//! reads on one node may miss writes that were acknowledged on another just before.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Clock, Timestamp};

/// A hybrid logical clock; shared by all threads of a node.
pub struct Hlc {
    last: AtomicU64,
    clock: Arc<dyn Clock>,
    max_offset_micros: u64,
}

/// A timestamp from further in the future than clocks are allowed to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffsetError {
    /// The refused timestamp.
    pub remote: Timestamp,
    /// This node's wall time when it arrived.
    pub local_micros: u64,
}

impl fmt::Display for ClockOffsetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ahead = self.remote.micros().saturating_sub(self.local_micros);
        write!(f, "remote timestamp {} is {ahead} µs ahead of the local clock", self.remote)
    }
}

impl std::error::Error for ClockOffsetError {}

impl Hlc {
    /// A clock over `clock` for a cluster whose wall clocks differ by at most `max_offset`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, max_offset: Duration) -> Self {
        let max_offset_micros = u64::try_from(max_offset.as_micros()).unwrap_or(u64::MAX);
        Self { last: AtomicU64::new(0), clock, max_offset_micros }
    }

    /// A timestamp above every one given out or heard of before.
    pub fn now(&self) -> Timestamp {
        let wall = Timestamp::from_micros(self.clock.now_micros()).0;
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = wall.max(last + 1);
            match self.last.compare_exchange_weak(last, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Timestamp(next),
                Err(seen) => last = seen,
            }
        }
    }

    /// The largest timestamp given out or heard of, without making a new one.
    pub fn last(&self) -> Timestamp {
        Timestamp(self.last.load(Ordering::Acquire))
    }

    /// What the clock shows, in microseconds: the wall's time, or the largest timestamp given out or heard
    /// of if that is later. Makes no new timestamp, and a wall clock that is set back takes it back no
    /// further.
    pub fn reading(&self) -> u64 {
        self.clock.now_micros().max(self.last().micros())
    }

    /// Takes note of another node's timestamp.
    ///
    /// # Errors
    /// The timestamp is further ahead than `max_offset`; the clock is unchanged.
    pub fn update(&self, remote: Timestamp) -> Result<(), ClockOffsetError> {
        let local_micros = self.clock.now_micros();
        if remote.micros() > local_micros.saturating_add(self.max_offset_micros) {
            return Err(ClockOffsetError { remote, local_micros });
        }
        self.raise(remote);
        Ok(())
    }

    /// Raises the clock to at least `floor` unconditionally: for timestamps of this store's own
    /// past (read back after a restart), which must stay below all new ones whatever the wall says.
    pub fn raise(&self, floor: Timestamp) {
        self.last.fetch_max(floor.0, Ordering::AcqRel);
    }

    /// How far clocks of the cluster may differ.
    pub const fn max_offset(&self) -> Duration {
        Duration::from_micros(self.max_offset_micros)
    }

    /// The clock below.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    #[test]
    fn never_repeats_and_follows_the_wall() {
        let clock = Arc::new(ManualClock::new(1_000));
        let hlc = Hlc::new(clock.clone(), Duration::from_micros(500));
        let a = hlc.now();
        assert_eq!((a.micros(), a.logical()), (1_000, 0));
        assert_eq!((hlc.now().micros(), hlc.last().logical()), (1_000, 1));
        clock.set_wall(900);
        assert_eq!(hlc.now().logical(), 2, "a clock set back does not take the order back");
        clock.advance(Duration::from_micros(200));
        assert_eq!(hlc.now(), Timestamp::from_micros(1_100));
    }

    #[test]
    fn refuses_a_crazy_remote_clock() {
        let hlc = Hlc::new(Arc::new(ManualClock::new(1_000)), Duration::from_micros(500));
        assert!(hlc.update(Timestamp::from_micros(1_501)).is_err());
        assert_eq!(hlc.last(), Timestamp::MIN);
        hlc.update(Timestamp::from_micros(1_500)).expect("within the offset");
        assert!(hlc.now() > Timestamp::from_micros(1_500));
    }
}
