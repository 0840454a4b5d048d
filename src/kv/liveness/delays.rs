//! How long support has to be asked for on this machine and network.
//!
//! One sample for each interval between heartbeats: the longest sleep of this node and the longest
//! round trip in it. Of the last 30 seconds the 99th percentile counts, so a stall that repeats
//! makes the timeout longer, and half a minute of quiet makes it short again.

use std::collections::VecDeque;
use std::time::Duration;

/// 30 seconds of heartbeats.
const SAMPLES: usize = 300;

#[derive(Clone, Debug, Default)]
pub(super) struct Delays {
    samples: VecDeque<u64>,
    overslept: u64,
    round_trip: u64,
    p99: u64,
}

impl Delays {
    pub(super) fn overslept(&mut self, micros: u64) {
        self.overslept = self.overslept.max(micros);
    }

    pub(super) fn round_trip(&mut self, micros: u64) {
        self.round_trip = self.round_trip.max(micros);
    }

    /// A heartbeat has gone out.
    pub(super) fn next_interval(&mut self) {
        self.samples.push_back(self.overslept + self.round_trip);
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        (self.overslept, self.round_trip) = (0, 0);
        let mut all: Vec<u64> = self.samples.iter().copied().collect();
        let at = all.len() * 99 / 100;
        self.p99 = *all.select_nth_unstable(at).1;
    }

    pub(super) fn p99(&self) -> Duration {
        Duration::from_micros(self.p99)
    }
}
