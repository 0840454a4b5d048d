//! Reads of a range's past from this node's copy, without its leaseholder.
//!
//! [`meridian_kv::closed`] says what a leaseholder promises and why a copy that has applied that much may be
//! read. Here is who reads: a look at how far the copy is closed, the read, and another look. In between the
//! copy may have been replaced or removed, and then nothing was read.

use meridian_kv::api::{Bytes, KvError, Span, Timestamp};
use meridian_kv::closed::{Copy, Promise};
use meridian_kv::range::Target;
use meridian_storage::mvcc::MvccScan;
use parking_lot::Mutex;
use std::time::Duration;

use crate::core::Core;
use crate::range::Range;
use crate::store::Store;

/// A copy, and how often its content has gone.
#[derive(Default)]
struct State {
    copy: Copy,
    lost: u64,
}

/// How far this node's copy of a range may be read by itself.
#[derive(Default)]
pub(crate) struct LocalCopy(Mutex<State>);

impl LocalCopy {
    /// A leaseholder promises this.
    pub(crate) fn promise(&self, promise: Promise) {
        self.0.lock().copy.promise(promise);
    }

    /// It begins as the right half of a split, as the left one's copy is.
    pub(crate) fn begin(&self, left: &LocalCopy) {
        let closed = left.closed();
        self.0.lock().copy.begin(closed);
    }

    /// This index has been applied, and can be read.
    pub(crate) fn apply(&self, index: u64) {
        self.0.lock().copy.apply(index);
    }

    /// The content is about to go.
    pub(crate) fn lose(&self) {
        let mut state = self.0.lock();
        state.copy.lose();
        state.lost += 1;
    }

    /// Up to here it may be read.
    pub(crate) fn closed(&self) -> Timestamp {
        self.0.lock().copy.closed()
    }

    /// May it be read at `r`? Then which content that is.
    fn content_at(&self, r: Timestamp) -> Option<u64> {
        let state = self.0.lock();
        (r <= state.copy.closed()).then_some(state.lost)
    }
}

impl Core {
    /// Does this node's copy hold `target`, closed at `r`? Then which content that is.
    fn closed_content(&self, range: &Range, target: Target<'_>, r: Timestamp) -> Option<u64> {
        let content = range.copy.content_at(r)?;
        // What the directory has heard of doesn't count: the copy knows from its own log what it holds.
        let held = self.replicas()?.get(range.id)?.holds.get()?.span;
        let inside = match target {
            Target::Key(key) => held.contains(key),
            Target::Span(span) => held.covers(span),
        };
        inside.then_some(content)
    }

    /// A row at a snapshot from this node's copy; `None` if that has to be asked for elsewhere.
    pub(crate) fn get_closed(
        &self,
        key: &[u8],
        r: Timestamp,
    ) -> Result<Option<Option<Bytes>>, KvError> {
        let range = self.range_of(key);
        let Some(content) = self.closed_content(&range, Target::Key(key), r) else {
            return Ok(None);
        };
        let row = self.read.get(key, r)?;
        Ok((range.copy.content_at(r) == Some(content)).then_some(row))
    }

    /// A scan of a part of one range from this node's copy; `None` if it has to be asked for elsewhere.
    pub(crate) fn scan_closed(&self, part: &Span, reverse: bool, r: Timestamp) -> Option<MvccScan> {
        let range = self.range_of(&part.start);
        let content = self.closed_content(&range, Target::Span(part), r)?;
        // It has a view of the engine of its own.
        let scan = self.read.scan(part, reverse, r);
        (range.copy.content_at(r) == Some(content)).then_some(scan)
    }

    /// The newest timestamp at which this node can read by itself all that it has copies of.
    fn closed(&self) -> Timestamp {
        let now = self.hlc.now();
        let Some(replicas) = self.replicas() else { return now };
        let all = replicas.all();
        // What this node leads it may read at any time.
        let follows = all.iter().filter(|replica| replica.range.lease.here(&self.hlc).is_none());
        let closed = follows.map(|replica| replica.range.copy.closed());
        closed.min().map_or(now, |closed| closed.min(now))
    }
}

impl Store {
    /// A time in the past, as recent as can be, at which this node's copies serve reads without asking any
    /// other node. Never further back than `staleness_max`: when a copy is behind by more than that, its
    /// leaseholder is asked.
    pub fn follower_timestamp(&self, staleness_max: Duration) -> Timestamp {
        let core = self.core();
        let staleness = u64::try_from(staleness_max.as_micros()).unwrap_or(u64::MAX);
        let oldest = core.hlc.now().micros().saturating_sub(staleness);
        core.closed().max(Timestamp::from_micros(oldest))
    }
}
