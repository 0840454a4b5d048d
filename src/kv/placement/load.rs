//! How much a range is asked, and for what: a rate that forgets, and a few of the keys.
//!
//! The leaseholder notes one request in [`Meter::SAMPLE`] and closes an interval every ten seconds. The
//! keys are a reservoir: each of an interval's requests is in it with the same probability, so that their
//! median is the middle of the load.

use crate::api::Key;

/// One range's load.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Requests noted in this interval.
    noted: u64,
    /// When it began (µs).
    since: u64,
    /// Thousandths of requests per second.
    rate: u64,
    noted_keys: Vec<Key>,
    /// Those of the interval before, which the planner gets.
    keys: Vec<Key>,
}

impl Meter {
    /// One request of so many needs noting, which keeps this off the path of the others.
    pub const SAMPLE: u64 = 16;
    /// Keys that are kept: with 32 the median is within a sixth of the middle, nearly always.
    const KEYS: usize = 32;

    /// Notes a request; `draw` is a random number.
    pub fn note(&mut self, key: &Key, draw: u64) {
        self.noted += 1;
        if self.noted_keys.len() < Self::KEYS {
            return self.noted_keys.push(key.clone());
        }
        let at = usize::try_from(draw % self.noted).unwrap_or(usize::MAX);
        if let Some(kept) = self.noted_keys.get_mut(at) {
            *kept = key.clone();
        }
    }

    /// Ends the interval. What was before counts half, per ten seconds.
    pub fn close(&mut self, now: u64) {
        let span = now.saturating_sub(self.since).max(1);
        let seen = u128::from(self.noted * Self::SAMPLE) * 1_000_000_000 / u128::from(span);
        let seen = u64::try_from(seen).unwrap_or(u64::MAX);
        let halves = (span / 10_000_000).clamp(1, 32);
        self.rate = match self.since {
            0 => 0,
            _ => seen - (seen >> halves) + (self.rate >> halves),
        };
        (self.noted, self.since) = (0, now);
        self.keys = std::mem::take(&mut self.noted_keys);
    }

    /// Requests per second.
    pub fn rate(&self) -> u64 {
        self.rate / 1_000
    }

    /// Keys of requests.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}

/// The key that halves a load: the median of its requests' keys, if at least a quarter of them are on
/// either side. One key that gets everything cannot be split.
pub(super) fn middle(start: &[u8], keys: &[Key]) -> Option<Key> {
    let mut sorted: Vec<&Key> = keys.iter().collect();
    sorted.sort_unstable();
    let quarter = sorted.len() / 4;
    let fits = |key: &&&Key| {
        let left = sorted.partition_point(|other| other < *key);
        left > quarter && sorted.len() - left > quarter && key[..] > *start
    };
    let distance = |key: &&&Key| {
        let left = sorted.partition_point(|other| other < *key);
        left.abs_diff(sorted.len() / 2)
    };
    if sorted.len() < 8 {
        return None;
    }
    sorted.iter().filter(fits).min_by_key(distance).map(|key| (*key).clone())
}
