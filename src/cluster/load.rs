//! How much a range is asked, counted by its leaseholder.
//!
//! A request costs one relaxed addition; one of [`Meter::SAMPLE`] leaves its key with the [`Meter`], of which
//! the planner gets a rate and a sample of the keys. Reads and commits count where the pipeline is locked for them
//! anyway; what a copy answers by itself costs the leaseholder nothing, and is not counted.

use std::sync::atomic::{AtomicU64, Ordering};

use meridian_kv::api::Key;
use meridian_kv::placement::Meter;
use meridian_kv::range::Target;
use parking_lot::Mutex;

/// One range's load.
#[derive(Debug, Default)]
pub(crate) struct Load {
    requests: AtomicU64,
    meter: Mutex<Meter>,
}

impl Load {
    /// A request for this key.
    #[inline]
    pub(crate) fn note(&self, key: &[u8]) {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(Meter::SAMPLE) {
            self.sample(key, number);
        }
    }

    /// A read of this.
    #[inline]
    pub(crate) fn note_read(&self, target: Target<'_>) {
        match target {
            Target::Key(key) => self.note(key),
            Target::Span(span) => self.note(&span.start),
        }
    }

    #[cold]
    fn sample(&self, key: &[u8], number: u64) {
        // The reservoir needs numbers without a pattern, not unpredictable ones.
        let draw = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        self.meter.lock().note(&Key::copy_from_slice(key), draw);
    }

    /// Ends an interval, at `now` in microseconds. Requests per second.
    pub(crate) fn close(&self, now: u64) -> u64 {
        let mut meter = self.meter.lock();
        meter.close(now);
        meter.rate()
    }

    /// Keys of requests of the interval before.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.meter.lock().keys().to_vec()
    }

    /// Another node leads, or the range has become another one.
    pub(crate) fn forget(&self) {
        *self.meter.lock() = Meter::default();
    }
}
