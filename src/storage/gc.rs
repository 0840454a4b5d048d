//! What nobody can read any more.
//!
//! A superseded version is garbage once its end is at or below `gc_ts`: reads below `gc_ts` are refused
//! (72000) by the layer above. A tombstone is garbage once its own timestamp is. Everything in a *dead
//! span* (a dropped table or index) is garbage whatever its age.
//!
//! Collection happens where the engine rewrites its files anyway, in compactions, through a filter that
//! asks [`GcHandle`]. The decision is local to a node and needs no raft: nothing that may be observed at
//! or above `gc_ts` changes.
//!
//! HAZARD: `gc_ts` must stay below every open snapshot. The caller computes it as `min(now − ttl, oldest
//! protected timestamp)` and must publish the protection before the snapshot is used.

use std::sync::Arc;

use arc_swap::ArcSwap;
use meridian_base::keys::{DATA, split_version_key};
use meridian_base::{Span, Timestamp};

use crate::engine::Keyspace;
use crate::mvcc;

/// What is garbage now.
#[derive(Clone, Debug, Default)]
pub struct GcThresholds {
    /// Reads below this are refused.
    pub gc_ts: Timestamp,
    /// Spans of logical keys whose content is gone, sorted, not overlapping.
    pub dead: Vec<Span>,
}

/// Shared, swappable thresholds: written by the garbage collector's owner, read by compactions.
#[derive(Clone, Default)]
pub struct GcHandle {
    thresholds: Arc<ArcSwap<GcThresholds>>,
}

/// What to do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Keep it.
    Keep,
    /// Remove it, and whatever older value of the same physical key lies below it.
    Remove,
    /// Drop it without trace: the physical key was written once.
    Destroy,
}

impl GcHandle {
    /// Thresholds that keep everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The thresholds as of now.
    #[must_use]
    pub fn load(&self) -> Arc<GcThresholds> {
        self.thresholds.load_full()
    }

    /// Raises `gc_ts` to `now − ttl`, held back by the oldest protected timestamp. Never lowers it.
    pub fn advance(&self, now: Timestamp, ttl_micros: u64, protected: Option<Timestamp>) {
        let aged = Timestamp::from_micros(now.micros().saturating_sub(ttl_micros));
        let gc_ts = aged.min(protected.unwrap_or(Timestamp::MAX));
        self.thresholds.rcu(|old| GcThresholds { gc_ts: old.gc_ts.max(gc_ts), ..(**old).clone() });
    }

    /// Declares spans dead. Their keys must never be written again.
    pub fn bury(&self, spans: impl IntoIterator<Item = Span>) {
        let spans: Vec<_> = spans.into_iter().filter(|s| !s.is_empty()).collect();
        self.thresholds.rcu(|old| {
            let mut dead = old.dead.clone();
            dead.extend(spans.iter().filter(|s| !old.dead.contains(s)).cloned());
            dead.sort();
            // A table's span takes in those of its indexes: a lookup looks at one span only.
            dead.dedup_by(|later, kept| {
                let inside = later.start < kept.end;
                if inside && later.end > kept.end {
                    kept.end = later.end.clone();
                }
                inside
            });
            GcThresholds { gc_ts: old.gc_ts, dead }
        });
    }
}

impl GcThresholds {
    fn is_dead(&self, key: &[u8]) -> bool {
        let after = self.dead.partition_point(|span| span.start.as_ref() <= key);
        after > 0 && self.dead[after - 1].contains(key)
    }

    /// Whether an entry of a keyspace is still needed.
    #[must_use]
    pub fn fate(&self, keyspace: Keyspace, physical: &[u8], value: &[u8]) -> Fate {
        match keyspace {
            Keyspace::Node => Fate::Keep,
            Keyspace::Cur => self.fate_of_newest(physical, value),
            Keyspace::Hist => self.fate_of_superseded(physical, value),
        }
    }

    fn fate_of_newest(&self, physical: &[u8], value: &[u8]) -> Fate {
        let Some(key) = physical.strip_prefix(&[DATA]) else { return Fate::Keep };
        if self.is_dead(key) {
            return Fate::Remove;
        }
        match mvcc::peek_cur(value) {
            Ok((ts, true)) if ts <= self.gc_ts => Fate::Remove,
            _ => Fate::Keep,
        }
    }

    fn fate_of_superseded(&self, physical: &[u8], value: &[u8]) -> Fate {
        let Some((key, _)) = split_version_key(physical) else { return Fate::Keep };
        let over = mvcc::hist_end(value).is_some_and(|end| end <= self.gc_ts);
        if over || self.is_dead(key) { Fate::Destroy } else { Fate::Keep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_base::keys;

    #[test]
    fn only_what_no_read_can_reach_is_garbage() {
        let gc = GcHandle::new();
        gc.advance(Timestamp::from_micros(100), 50, Some(Timestamp::from_micros(20)));
        assert_eq!(
            gc.load().gc_ts,
            Timestamp::from_micros(20),
            "a protected timestamp holds it back"
        );
        gc.advance(Timestamp::from_micros(100), 90, None);
        assert_eq!(gc.load().gc_ts, Timestamp::from_micros(20), "it never goes back");
        gc.bury([keys::storage_span(7)]);

        let (old, new) = (Timestamp::from_micros(20), Timestamp::from_micros(21));
        let fate = |ks, key: &[u8], value: &[u8]| gc.load().fate(ks, key, value);
        let row = |ts| mvcc::encode_cur(ts, Some(b"r"));
        let tombstone = |ts| mvcc::encode_cur(ts, None);
        let key = keys::data_key(&keys::index_prefix(8, 1));
        let version = [&key[..], &[0; 8]].concat();
        assert_eq!(fate(Keyspace::Cur, &key, &row(old)), Fate::Keep);
        assert_eq!(fate(Keyspace::Cur, &key, &tombstone(old)), Fate::Remove);
        assert_eq!(fate(Keyspace::Cur, &key, &tombstone(new)), Fate::Keep);
        assert_eq!(fate(Keyspace::Hist, &version, &row(old)), Fate::Destroy);
        assert_eq!(fate(Keyspace::Hist, &version, &row(new)), Fate::Keep);
        assert_eq!(fate(Keyspace::Cur, b"Rx", &tombstone(old)), Fate::Keep, "range state stays");
        let dropped = keys::data_key(&keys::index_prefix(7, 2));
        assert_eq!(fate(Keyspace::Cur, &dropped, &row(new)), Fate::Remove);
    }
}
