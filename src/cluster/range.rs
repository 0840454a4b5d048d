//! The ranges that a node knows of: who leads each, and, where this node has a replica, its pipeline.
//!
//! ```text
//! Ranges (directory) ─ key ─▶ Range ─┬─ lease     who leads it, as far as is known
//!                                    ├─ pipeline  its order of commits, while this node leads it
//!                                    └─ applied   how far this node's replica has come
//! ```
//! The directory covers all keys and may be old: it is for finding the way. What lies in a range is said by
//! its leaseholder's pipeline, under the mutex under which it gives timestamps.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use meridian_base::RangeId;
use meridian_kv::api::{Key, Span, Timestamp};
use meridian_kv::range::{Descriptor, Header, Outcome as Decided};
use parking_lot::{Mutex, RwLock};

use crate::closed::LocalCopy;
use crate::commit::{CommitError, CommitPipeline};
use crate::lease::Lease;

/// Where a range lies, and the how manieth form of it this is: a newer one overrules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) span: Span,
    pub(crate) generation: u64,
}

impl Shape {
    pub(crate) fn of(range: &Descriptor) -> Shape {
        Shape { span: range.span.clone(), generation: range.generation }
    }
}

/// A range, as one node knows it.
pub(crate) struct Range {
    pub(crate) id: RangeId,
    pub(crate) lease: Lease,
    pub(crate) pipeline: CommitPipeline,
    /// The newest term of this node's that it has given up: locked by who takes a lease, too.
    pub(crate) left: Mutex<u64>,
    /// How far this node's replica may be read without the leaseholder.
    pub(crate) copy: LocalCopy,
    shape: RwLock<Shape>,
    /// Everything up to here is applied in this node's replica.
    applied: AtomicU64,
    replica: AtomicBool,
}

impl Range {
    /// A range that nobody leads yet.
    pub(crate) fn new(id: RangeId, shape: Shape, applied: Timestamp, ring_len: usize) -> Range {
        let pipeline = CommitPipeline::new(applied, ring_len, shape.span.clone());
        Range {
            id,
            lease: Lease::nobodys(),
            pipeline,
            left: Mutex::default(),
            copy: LocalCopy::default(),
            shape: RwLock::new(shape),
            applied: AtomicU64::new(applied.0),
            replica: AtomicBool::new(false),
        }
    }

    /// Where it lies, as far as is known here.
    pub(crate) fn span(&self) -> Span {
        self.shape.read().span.clone()
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape.read().clone()
    }

    /// Everything up to here is applied in this node's replica.
    #[inline]
    pub(crate) fn applied(&self) -> Timestamp {
        Timestamp(self.applied.load(Ordering::Acquire))
    }

    /// Moves what is applied; only the apply path calls this, after the engine has the writes.
    pub(crate) fn set_applied(&self, ts: Timestamp) {
        let before = self.applied.swap(ts.0, Ordering::AcqRel);
        debug_assert!(before <= ts.0, "applied in order");
    }

    /// A snapshot has brought everything up to here, and nothing else.
    pub(crate) fn reset_applied(&self, ts: Timestamp) {
        self.applied.store(ts.0, Ordering::Release);
    }

    /// The outcome of a commit that this node, the leaseholder, decides if nobody has.
    pub(crate) async fn await_outcome(
        &self,
        header: &Header,
        sent: Timestamp,
    ) -> Result<Decided, CommitError> {
        loop {
            match self.pipeline.outcome(header, sent)? {
                Some(outcome) => return Ok(outcome),
                // It is on its way through the log, or what prevents it is.
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    /// Has this node a copy, or is it getting one?
    pub(crate) fn replicates(&self) -> bool {
        self.replica.load(Ordering::Relaxed)
    }

    /// Notes whether this node has a copy of the range, or gets one.
    pub(crate) fn set_replicates(&self, has: bool) {
        self.replica.store(has, Ordering::Relaxed);
    }
}

/// A range of the directory. The first one is found without counting references.
pub(crate) enum Found<'a> {
    First(&'a Arc<Range>),
    Other(Arc<Range>),
}

impl Deref for Found<'_> {
    type Target = Arc<Range>;

    #[inline]
    fn deref(&self) -> &Arc<Range> {
        match self {
            Found::First(range) => range,
            Found::Other(range) => range,
        }
    }
}

struct Entry {
    start: Key,
    range: Arc<Range>,
}

/// The node's directory: ranges in the order of their keys.
pub(crate) struct Ranges {
    /// The range of the system's keys; it is the first one for ever.
    first: Arc<Range>,
    all: ArcSwap<Vec<Entry>>,
    single: AtomicBool,
    /// Held by who changes the directory.
    changing: Mutex<()>,
}

impl Ranges {
    /// A directory of one range, which holds all keys.
    pub(crate) fn new(first: Arc<Range>) -> Ranges {
        let entry = Entry { start: Key::new(), range: Arc::clone(&first) };
        Ranges {
            first,
            all: ArcSwap::from_pointee(vec![entry]),
            single: AtomicBool::new(true),
            changing: Mutex::default(),
        }
    }

    /// Is there one range only?
    #[inline]
    pub(crate) fn is_single(&self) -> bool {
        self.single.load(Ordering::Acquire)
    }

    /// The range of the system's keys.
    #[inline]
    pub(crate) fn first(&self) -> &Arc<Range> {
        &self.first
    }

    /// The range that a key lies in.
    #[inline]
    pub(crate) fn of(&self, key: &[u8]) -> Found<'_> {
        if self.is_single() {
            return Found::First(&self.first);
        }
        let all = self.all.load();
        let at = all.partition_point(|entry| entry.start[..] <= *key);
        match at.saturating_sub(1) {
            0 => Found::First(&self.first),
            at => Found::Other(Arc::clone(&all[at].range)),
        }
    }

    /// The range in which the last keys of a span lie.
    pub(crate) fn last_of(&self, span: &Span) -> Arc<Range> {
        let all = self.all.load();
        let at = match span.end.is_empty() {
            true => all.len(),
            false => all.partition_point(|entry| entry.start < span.end),
        };
        Arc::clone(&all[at.max(1) - 1].range)
    }

    /// A range by its number.
    pub(crate) fn get(&self, id: RangeId) -> Option<Arc<Range>> {
        let all = self.all.load();
        all.iter().find(|entry| entry.range.id == id).map(|entry| Arc::clone(&entry.range))
    }

    /// All ranges.
    pub(crate) fn all(&self) -> Vec<Arc<Range>> {
        self.all.load().iter().map(|entry| Arc::clone(&entry.range)).collect()
    }

    /// All ranges with where they lie, as the directory has it: ascending, without gaps.
    pub(crate) fn spans(&self) -> Vec<(Arc<Range>, Span)> {
        let all = self.all.load();
        let ends = all.iter().skip(1).map(|entry| entry.start.clone()).chain([Key::new()]);
        let span = |(entry, end): (&Entry, Key)| {
            (Arc::clone(&entry.range), Span { start: entry.start.clone(), end })
        };
        all.iter().zip(ends).map(span).collect()
    }

    /// Puts ranges into the directory, where they take the place of what lay there. Together they must lie
    /// where whole ranges lay; a range that they overlap only partly is cut. Each gets the span that is
    /// said, which its pipeline keeps to from now on.
    pub(crate) fn put(&self, ranges: Vec<(Arc<Range>, Shape)>) {
        let _changing = self.changing.lock();
        let mut entries: Vec<(Span, Arc<Range>)> =
            self.spans().into_iter().map(|(range, span)| (span, range)).collect();
        for (range, shape) in ranges {
            range.pipeline.set_bounds(shape.span.clone());
            *range.shape.write() = shape.clone();
            entries = overlay(entries, shape.span, range);
        }
        let entries: Vec<Entry> =
            entries.into_iter().map(|(span, range)| Entry { start: span.start, range }).collect();
        debug_assert!(Arc::ptr_eq(&entries[0].range, &self.first), "the first range stays");
        self.single.store(entries.len() == 1, Ordering::Release);
        self.all.store(Arc::new(entries));
    }
}

/// The entries with this one over them.
fn overlay(
    entries: Vec<(Span, Arc<Range>)>,
    span: Span,
    range: Arc<Range>,
) -> Vec<(Span, Arc<Range>)> {
    let mut out = Vec::with_capacity(entries.len() + 2);
    for (known, other) in entries {
        if !known.overlaps(&span) {
            out.push((known, other));
            continue;
        }
        if known.start < span.start {
            let below = Span { start: known.start.clone(), end: span.start.clone() };
            out.push((below, Arc::clone(&other)));
        }
        let ends_above = !span.end.is_empty() && (known.end.is_empty() || known.end > span.end);
        if ends_above {
            out.push((Span { start: span.end.clone(), end: known.end }, other));
        }
    }
    out.push((span, range));
    out.sort_by(|(a, _), (b, _)| a.start.cmp(&b.start));
    // A range that was cut out of itself is one entry again.
    out.dedup_by(|(_, later), (_, earlier)| Arc::ptr_eq(later, earlier));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(id: u64) -> Arc<Range> {
        let shape = Shape { span: Span::all(), generation: 1 };
        Arc::new(Range::new(RangeId(id), shape, Timestamp::MIN, 16))
    }

    fn shape(start: &'static str, end: &'static str, generation: u64) -> Shape {
        Shape { span: Span::new(start, end), generation }
    }

    #[test]
    fn a_key_is_found_in_the_half_that_it_lies_in() {
        let (left, right) = (range(1), range(2));
        let ranges = Ranges::new(Arc::clone(&left));
        assert!(ranges.is_single() && ranges.of(b"z").id == RangeId(1));
        let halves =
            vec![(Arc::clone(&left), shape("", "m", 2)), (Arc::clone(&right), shape("m", "", 2))];
        ranges.put(halves);
        let of = |key: &str| ranges.of(key.as_bytes()).id.0;
        assert_eq!((of(""), of("lz"), of("m"), of("z")), (1, 1, 2, 2));
        assert_eq!(left.span(), Span::new("", "m"));
        // Word of the right half's own split comes before the left half hears of anything.
        ranges.put(vec![(range(3), shape("t", "", 3))]);
        assert_eq!((of("s"), of("t")), (2, 3));
        let last = |start: &'static str, end: &'static str| ranges.last_of(&Span::new(start, end));
        assert_eq!((last("a", "m").id.0, last("a", "m0").id.0, last("a", "").id.0), (1, 2, 3));
        let spans: Vec<_> =
            ranges.spans().into_iter().map(|(range, span)| (range.id.0, span)).collect();
        assert_eq!(
            spans,
            [(1, Span::new("", "m")), (2, Span::new("m", "t")), (3, Span::new("t", ""))]
        );
        ranges.put(vec![(left, shape("", "", 4))]);
        assert!(ranges.is_single(), "merged");
    }
}
