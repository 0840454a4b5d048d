//! Spans of keys that hold nothing but tombstones, so that scans can pass over them.
//!
//! A queue deletes at its front: every look for the first row walks the tombstones of all that went before,
//! at half a microsecond each, until a compaction removes them. So a scan that has walked many tells which
//! span that was; the span is *proved* and kept here, and the next scan seeks past it:
//!
//! ```text
//! 1 ✝ … 20000 ✝  20001 "x"     →   [1, 20000] is barren since 90 (the newest of its tombstones)
//! a scan at 95 from 0           →   meets the tombstone of 1, seeks to 20001
//! a scan at 85                  →   walks: there were rows at 85
//! ```
//! A write into a span cuts it in two. No write may slip in between the walk and the note of it: a proof
//! is announced first, then a new engine snapshot is walked, and the proof fails if its span was written
//! meanwhile. Whoever writes has the write in the engine before it says so here ([`Barren::written`]), and
//! shows it to readers after: either the walk meets the write, or the write meets the proof.
//!
//! All of it is in memory, bounded, and may be forgotten at any time.

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_base::{Span, Timestamp, keys};
use parking_lot::Mutex;

use crate::StorageError;
use crate::engine::{Engine, Keyspace};
use crate::mvcc;

/// Tombstones in a row from which on it is worth to note them: a proof walks them once more. With half of
/// that a scattered table leaves many small spans, with twice as many a queue's scans walk more each.
pub const WORTH: usize = 64;
/// Spans kept at most. A queue has one or two; more than that are pieces of tables that were deleted here
/// and there, whose first ones go.
const SPANS_MAX: usize = 1024;

/// The spans that are known to be barren.
#[derive(Debug, Default)]
pub struct Barren(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By start: the end, and the newest tombstone. They neither overlap nor touch.
    spans: BTreeMap<Bytes, (Bytes, Timestamp)>,
    /// Proofs under way, and whether their span has been written since.
    proofs: Vec<Proof>,
    next: u64,
}

#[derive(Debug)]
struct Proof {
    id: u64,
    span: Span,
    failed: bool,
}

impl Known {
    /// The span that holds a key: start, end, newest tombstone.
    fn around(&self, key: &[u8]) -> Option<(Bytes, Bytes, Timestamp)> {
        use std::ops::Bound::{Included, Unbounded};
        let (start, (end, since)) =
            self.spans.range::<[u8], _>((Unbounded, Included(key))).next_back()?;
        (key < &end[..]).then(|| (start.clone(), end.clone(), *since))
    }

    fn cut(&mut self, key: &[u8]) {
        let Some((start, end, since)) = self.around(key) else { return };
        self.spans.remove(&start);
        if key > &start[..] {
            self.spans.insert(start, (Bytes::copy_from_slice(key), since));
        }
        let after = Bytes::from(keys::next_key(key));
        if after < end {
            self.spans.insert(after, (end, since));
        }
    }

    /// Adds a span, and merges it with those that it meets.
    fn add(&mut self, span: Span, since: Timestamp) {
        let Span { mut start, mut end } = span;
        let mut newest = since;
        loop {
            let before = self.spans.range::<Bytes, _>(..=&end).next_back();
            let Some((s, (e, ts))) = before.filter(|(_, (e, _))| *e >= start) else { break };
            let s = s.clone();
            (end, newest) = (e.max(&end).clone(), newest.max(*ts));
            self.spans.remove(&s);
            start = start.min(s);
        }
        self.spans.insert(start, (end, newest));
        if self.spans.len() > SPANS_MAX {
            self.spans.pop_first();
        }
    }
}

impl Barren {
    /// Where a scan at `ts` that has met a key may go on: behind the barren span, or in reverse order
    /// before it.
    pub fn beyond(&self, key: &[u8], ts: Timestamp, reverse: bool) -> Option<Bytes> {
        let (start, end, since) = self.0.lock().around(key)?;
        (since <= ts).then_some(if reverse { start } else { end })
    }

    /// The engine has writes of these keys, which no reader has seen yet.
    pub fn written<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        let mut known = self.0.lock();
        if known.spans.is_empty() && known.proofs.is_empty() {
            return;
        }
        for key in keys {
            known.cut(key);
            known.proofs.iter_mut().for_each(|proof| proof.failed |= proof.span.contains(key));
        }
    }

    /// As [`Barren::written`], of any keys from the first to the last.
    pub fn written_between(&self, first: &[u8], last: &[u8]) {
        let mut known = self.0.lock();
        let meets = |start: &[u8], end: &[u8]| start <= last && first < end;
        known.spans.retain(|start, (end, _)| !meets(start, end));
        let proofs = known.proofs.iter_mut();
        proofs.for_each(|proof| proof.failed |= meets(&proof.span.start, &proof.span.end));
    }

    /// The engine's content is another one.
    pub fn clear(&self) {
        let mut known = self.0.lock();
        known.spans.clear();
        known.proofs.iter_mut().for_each(|proof| proof.failed = true);
    }

    /// Notes a span, if it is barren.
    ///
    /// # Errors
    /// I/O or corruption.
    pub fn prove(&self, span: Span, engine: &dyn Engine) -> Result<(), StorageError> {
        if span.is_empty() || span.end.is_empty() {
            return Ok(());
        }
        let id = {
            let mut known = self.0.lock();
            known.next += 1;
            let id = known.next;
            known.proofs.push(Proof { id, span: span.clone(), failed: false });
            id
        };
        let walked = Barren::walk(&span, engine);
        let mut known = self.0.lock();
        let at = known.proofs.iter().position(|proof| proof.id == id);
        let holds = at.is_some_and(|at| !known.proofs.swap_remove(at).failed);
        if let Some(since) = walked?.filter(|_| holds) {
            known.add(span, since);
        }
        Ok(())
    }

    /// The newest tombstone of a span that holds nothing else.
    fn walk(span: &Span, engine: &dyn Engine) -> Result<Option<Timestamp>, StorageError> {
        let mut newest = Timestamp::MIN;
        for entry in engine.snapshot().range(Keyspace::Cur, &span.physical(), false) {
            match mvcc::peek_cur(&entry?.1)? {
                (ts, true) => newest = newest.max(ts),
                (_, false) => return Ok(None),
            }
        }
        Ok(Some(newest))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::WriteBatch;
    use crate::mem::MemEngine;
    use crate::mvcc::MvccScan;

    fn key(n: u64) -> Vec<u8> {
        [&[0x10][..], &n.to_be_bytes()].concat()
    }

    fn write(engine: &MemEngine, barren: &Barren, n: u64, row: Option<&[u8]>, ts: u64) {
        let old = mvcc::newest(engine, &key(n)).expect("reads");
        let mut ops = vec![];
        mvcc::write_ops(&key(n), old.as_ref(), row, Timestamp(ts), &mut ops);
        engine.apply(WriteBatch { ops }).expect("applies");
        barren.written([&key(n)[..]].into_iter());
    }

    fn rows(mut scan: MvccScan, barren: &Barren, engine: &MemEngine) -> Vec<(Bytes, Bytes)> {
        let mut rows = vec![];
        while scan.next_batch(7, &mut rows).expect("reads") {}
        if let Some(span) = scan.walked() {
            barren.prove(span, engine).expect("reads");
        }
        rows
    }

    /// Whatever was deleted and written again, and whenever: with and without the notes, the same rows.
    #[test]
    fn scans_that_skip_find_the_same_rows() {
        let mut random = 1u64;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % n
        };
        let (engine, barren) = (MemEngine::new(), Arc::new(Barren::default()));
        let mut skipped = 0;
        for ts in 1..2_500 {
            // Runs of deletions, with a write here and there.
            let (first, count) = (below(600), 1 + below(200));
            let one = below(40) == 0;
            for n in first..first + if one { 1 } else { count } {
                let row: Option<&[u8]> = if one || below(300) == 0 { Some(b"row") } else { None };
                write(&engine, &barren, n, row, ts);
            }
            let read_ts = Timestamp(ts - below(ts.min(3)));
            let (from, reverse) = (below(700), below(2) == 0);
            let span = Span::new(key(from), key(from + below(500)));
            let plain = MvccScan::new(engine.snapshot(), &span, reverse, read_ts);
            let plain = rows(plain, &barren, &engine);
            let skips = MvccScan::new(engine.snapshot(), &span, reverse, read_ts);
            let skips = skips.skipping(Arc::clone(&barren));
            assert_eq!(rows(skips, &barren, &engine), plain, "{span:?} at {read_ts:?}");
            let known = barren.0.lock();
            skipped += usize::from(!known.spans.is_empty());
            let ends: Vec<_> =
                known.spans.iter().map(|(s, (e, _))| (s.clone(), e.clone())).collect();
            assert!(
                ends.windows(2).all(|pair| pair[0].1 < pair[1].0),
                "they don't touch: {ends:?}"
            );
        }
        assert!(skipped > 500, "spans were noted");
    }

    #[test]
    fn a_write_during_the_proof_fails_it() {
        let (engine, barren) = (MemEngine::new(), Barren::default());
        for n in 0..10 {
            write(&engine, &barren, n, Some(b"x"), 1);
            write(&engine, &barren, n, None, 2);
        }
        let span = Span::new(key(0), key(10));
        let proof = Proof { id: 0, span: span.clone(), failed: false };
        barren.0.lock().proofs.push(proof);
        write(&engine, &barren, 3, Some(b"y"), 3);
        assert!(barren.0.lock().proofs[0].failed);
        barren.prove(span.clone(), &engine).expect("reads");
        assert_eq!(barren.beyond(&key(1), Timestamp(9), false), None, "there is a row in it");
        write(&engine, &barren, 3, None, 4);
        barren.prove(span, &engine).expect("reads");
        assert_eq!(barren.beyond(&key(1), Timestamp(9), false), Some(key(10).into()));
        assert_eq!(barren.beyond(&key(1), Timestamp(3), false), None, "there was a row at 3");
        barren.written_between(&key(9), &key(30));
        assert_eq!(barren.beyond(&key(1), Timestamp(9), true), None);
    }
}
