//! What a SERIALIZABLE transaction has read: keys and spans, condensed when they grow too many.
//!
//! At commit the sequencer asks of every write since the snapshot whether it touches the set. The
//! set may say yes too often (a condensed set covers keys that weren't read), never too seldom: a
//! false yes costs a retry, a false no costs the guarantee.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Key, Span};

/// Bytes of keys above which points become spans. Twice this and a large scan-and-update holds
/// memory that its buffer could use; half of it and wide transactions retry without need.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a key that name table and index: points are condensed within one index.
const INDEX_PREFIX_BYTES: usize = meridian_base::keys::INDEX_PREFIX_BYTES;

/// Keys and spans that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    points: BTreeSet<Key>,
    /// Disjoint spans, by start; an empty end is unbounded.
    spans: BTreeMap<Key, Key>,
    bytes: usize,
}

impl ReadSet {
    /// Adds one key.
    pub fn add_point(&mut self, key: &[u8]) {
        if self.points.contains(key) || self.in_spans(key) {
            return;
        }
        self.points.insert(Key::copy_from_slice(key));
        self.bytes += key.len();
        if self.bytes > BYTES_MAX {
            self.condense();
        }
    }

    /// Adds a span, merging it with those that it meets.
    pub fn add_span(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let Span { mut start, mut end } = span;
        let below = |a: &Key, end: &Key| end.is_empty() || a <= end;
        let before = self.spans.range::<Key, _>(..=&start).next_back();
        if let Some((s, e)) = before.filter(|(_, e)| below(&start, e)) {
            start = s.clone();
            if e.is_empty() || (!end.is_empty() && *e > end) {
                end = e.clone();
            }
        }
        while let Some((s, e)) = self.spans.range::<Key, _>(&start..).next() {
            if !below(s, &end) {
                break;
            }
            if e.is_empty() || (!end.is_empty() && *e > end) {
                end = e.clone();
            }
            let s = s.clone();
            self.bytes -= s.len();
            self.spans.remove(&s);
        }
        self.bytes += start.len();
        self.spans.insert(start, end);
    }

    /// Was this key read, or may it have been?
    pub fn contains(&self, key: &[u8]) -> bool {
        self.points.contains(key) || self.in_spans(key)
    }

    fn in_spans(&self, key: &[u8]) -> bool {
        use std::ops::Bound::{Included, Unbounded};
        let before = self.spans.range::<[u8], _>((Unbounded, Included(key))).next_back();
        before.is_some_and(|(_, end)| end.is_empty() || key < &end[..])
    }

    /// The keys.
    pub fn points(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.points.iter()
    }

    /// The spans, disjoint, as start and end.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = (&Key, &Key)> {
        self.spans.iter()
    }

    /// The part that lies in a span: what one range has to validate.
    pub fn within(&self, bounds: &Span) -> ReadSet {
        let mut part = ReadSet::default();
        for key in self.points.iter().filter(|key| bounds.contains(key)) {
            part.add_point(key);
        }
        for (start, end) in &self.spans {
            let start = start.max(&bounds.start).clone();
            let end = match (end.is_empty(), bounds.end.is_empty()) {
                (true, _) => &bounds.end,
                (_, true) => end,
                _ => end.min(&bounds.end),
            };
            part.add_span(Span { start, end: end.clone() });
        }
        part
    }

    /// Lies all of it in a span?
    pub fn is_within(&self, bounds: &Span) -> bool {
        let ends = |end: &Key| bounds.end.is_empty() || (!end.is_empty() && *end <= bounds.end);
        self.points.iter().all(|key| bounds.contains(key))
            && self.spans.iter().all(|(start, end)| *start >= bounds.start && ends(end))
    }

    /// Was nothing read?
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.spans.is_empty()
    }

    /// Turns the points of each index into one span from the first to the last.
    fn condense(&mut self) {
        let mut hulls: BTreeMap<Key, (Key, Key)> = BTreeMap::new();
        for key in std::mem::take(&mut self.points) {
            self.bytes -= key.len();
            let prefix = key.slice(..key.len().min(INDEX_PREFIX_BYTES));
            match hulls.get_mut(&prefix) {
                Some((_, last)) => *last = key,
                None => drop(hulls.insert(prefix, (key.clone(), key))),
            }
        }
        for (_, (first, last)) in hulls {
            let end = Span::point(&last).end;
            self.add_span(Span { start: first, end });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_merge_and_still_answer_as_their_union() {
        let mut reads = ReadSet::default();
        for (start, end) in [("d", "f"), ("a", "b"), ("e", "h"), ("b", "c"), ("x", "")] {
            reads.add_span(Span::new(start, end));
        }
        assert_eq!(reads.spans.len(), 3, "{reads:?}");
        let inside: String =
            "abcdefghijxyz".chars().filter(|c| reads.contains(c.to_string().as_bytes())).collect();
        assert_eq!(inside, "abdefgxyz");
    }

    #[test]
    fn each_range_gets_its_part() {
        let mut reads = ReadSet::default();
        reads.add_point(b"a");
        reads.add_point(b"z");
        reads.add_span(Span::new("c", "h"));
        reads.add_span(Span::new("x", ""));
        let parts = [Span::new("", "e"), Span::new("e", "y"), Span::new("y", "")];
        for key in "abcdefghijxyz".chars().map(|c| c.to_string()) {
            let key = key.as_bytes();
            for part in &parts {
                let both = reads.contains(key) && part.contains(key);
                assert_eq!(reads.within(part).contains(key), both, "{key:?} in {part:?}");
            }
        }
        assert!(parts.iter().all(|part| reads.within(part).is_within(part)));
        assert!(parts.iter().all(|part| !reads.is_within(part)) && reads.is_within(&Span::all()));
    }

    #[test]
    fn condensing_never_forgets_a_point() {
        let mut reads = ReadSet::default();
        let key = |n: u32| [&[0x10, 0, 0, 0, 1, 0, 1][..], &n.to_be_bytes(), &[7; 500]].concat();
        for n in 0..10_000 {
            reads.add_point(&key(n * 2));
        }
        assert!(reads.bytes <= BYTES_MAX && !reads.spans.is_empty());
        assert!((0..10_000).all(|n| reads.contains(&key(n * 2))));
        assert!(!reads.contains(&key(20_000)));
    }
}
