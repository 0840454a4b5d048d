//! Rows in bulk: many new rows in key order, in one piece of memory.
//!
//! COPY, INSERT … SELECT and CREATE INDEX write millions of rows that nobody has seen before. A map
//! entry, a lock entry and a handful of allocations for each of them cost more than the rows. A *run*
//! keeps them as a command carries them in the log, so that committing them copies bytes:
//!
//! ```text
//! key len:u32 │ key │ 1 │ row len:u32 │ row │ 0        for each row, keys ascending
//!                    row                    no old version
//! ```
//! Invariants of a [`Run`]: it is not empty; keys ascend strictly; all keys lie in one index.

use crate::api::{Key, Row};
use crate::range::put_new_row;

/// Many new rows of one index, in key order.
#[derive(Clone, PartialEq, Eq)]
pub struct Run {
    bytes: Row,
    /// Where each entry begins.
    starts: Vec<u32>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({} rows, {} bytes)", self.len(), self.bytes.len())
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    let bytes = bytes[at..at + 4].try_into().expect("four bytes were taken");
    u32::from_le_bytes(bytes) as usize
}

fn key_at(bytes: &[u8], start: u32) -> &[u8] {
    let start = start as usize;
    &bytes[start + 4..start + 4 + word(bytes, start)]
}

/// The bytes behind a length, if all of them are there.
fn checked(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let len = u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?);
    let from = at + 4;
    bytes.get(from..from.checked_add(usize::try_from(len).ok()?)?)
}

impl Run {
    /// A run that another node has made, from its [`Run::bytes`]; `None` when they are no run.
    pub fn from_bytes(bytes: Row) -> Option<Run> {
        let mut starts: Vec<u32> = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let key = checked(&bytes, at)?;
            let in_order = starts.last().is_none_or(|before| key_at(&bytes, *before) < key);
            let row_at = at + 4 + key.len() + 1;
            let end = row_at + 4 + checked(&bytes, row_at)?.len() + 1;
            if !in_order || end > bytes.len() {
                return None;
            }
            starts.push(u32::try_from(at).ok()?);
            at = end;
        }
        (!starts.is_empty()).then_some(Run { bytes, starts })
    }

    /// The rows as they lie in memory and in the log.
    pub fn bytes(&self) -> &Row {
        &self.bytes
    }

    /// The span from its first key to its last.
    pub fn span(&self) -> meridian_base::Span {
        let end = meridian_base::keys::next_key(self.last());
        meridian_base::Span::new(self.shared_key(0), end)
    }

    /// Number of rows.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Bytes in an entry of the log.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The key of a row.
    pub fn key(&self, at: usize) -> &[u8] {
        key_at(&self.bytes, self.starts[at])
    }

    /// The key of a row, sharing the run's memory.
    pub fn shared_key(&self, at: usize) -> Key {
        let start = self.starts[at] as usize + 4;
        self.bytes.slice(start..start + self.key(at).len())
    }

    /// A row, sharing the run's memory.
    pub fn row(&self, at: usize) -> Row {
        let start = self.starts[at] as usize;
        let len_at = start + 4 + word(&self.bytes, start) + 1;
        let begin = len_at + 4;
        self.bytes.slice(begin..begin + word(&self.bytes, len_at))
    }

    /// The smallest key.
    pub fn first(&self) -> &[u8] {
        self.key(0)
    }

    /// The largest key.
    pub fn last(&self) -> &[u8] {
        self.key(self.len() - 1)
    }

    /// The first row at or behind `from` whose key is at least `key`; the length when there is none.
    pub fn lower_bound(&self, from: usize, key: &[u8]) -> usize {
        // What is asked for is often near: look there before halving the rest.
        let mut step = 1;
        let mut low = from;
        while low + step <= self.len() && self.key(low + step - 1) < key {
            low += step;
            step *= 2;
        }
        let high = (low + step - 1).min(self.len());
        low + self.starts[low..high].partition_point(|start| key_at(&self.bytes, *start) < key)
    }

    /// Where a key is.
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        if key < self.first() || key > self.last() {
            return None;
        }
        let at = self.starts.partition_point(|start| key_at(&self.bytes, *start) < key);
        (at < self.len() && self.key(at) == key).then_some(at)
    }

    /// May the two have keys in common?
    pub fn meets(&self, other: &Run) -> bool {
        self.first() <= other.last() && other.first() <= self.last()
    }

    /// The first row of this run whose key the other run has, too.
    pub fn clash(&self, other: &Run) -> Option<usize> {
        let (mut at, mut its) = (0, 0);
        while self.meets(other) && at < self.len() && its < other.len() {
            match self.key(at).cmp(other.key(its)) {
                std::cmp::Ordering::Equal => return Some(at),
                std::cmp::Ordering::Less => at = self.lower_bound(at, other.key(its)),
                std::cmp::Ordering::Greater => its = other.lower_bound(its, self.key(at)),
            }
        }
        None
    }

    /// The encoded entries of the rows in `[from, to)`.
    pub(crate) fn encoded(&self, from: usize, to: usize) -> &[u8] {
        let begin = |at: usize| self.starts.get(at).map_or(self.bytes.len(), |s| *s as usize);
        &self.bytes[begin(from)..begin(to)]
    }

    /// How many rows from `from` on have at most `bytes` bytes together; at least one.
    pub(crate) fn fitting(&self, from: usize, bytes: usize) -> usize {
        let limit = self.starts[from] as usize + bytes;
        if self.bytes.len() <= limit {
            return self.len() - from;
        }
        self.starts[from + 1..].partition_point(|start| *start as usize <= limit).max(1)
    }
}

/// Gathers rows, in any order, for a [`Run`].
#[derive(Debug, Default)]
pub struct RunBuilder {
    bytes: Vec<u8>,
    starts: Vec<u32>,
    /// Keys came in another order than ascending.
    unsorted: bool,
}

/// Two rows have the same key. This is the later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twice {
    /// How many rows came before it.
    pub number: usize,
    /// Its key.
    pub key: Key,
    /// Its bytes.
    pub row: Row,
}

/// A finished run, with the number that each row had when it came, if that is another than its place.
pub type Ordered = (Run, Option<Vec<u32>>);

impl RunBuilder {
    /// Adds a row.
    pub fn push(&mut self, key: &[u8], row: &[u8]) {
        let start = u32::try_from(self.bytes.len()).expect("a run is far below 4 GiB");
        put_new_row(&mut self.bytes, key, row);
        if let Some(before) = self.starts.last() {
            self.unsorted |= key_at(&self.bytes, *before) >= key;
        }
        self.starts.push(start);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Is there nothing yet?
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Puts the rows in order.
    ///
    /// # Panics
    /// Without a row.
    pub fn build(self) -> Result<Ordered, Twice> {
        assert!(!self.is_empty(), "a run has a row");
        if !self.unsorted {
            return Ok((Run { bytes: self.bytes.into(), starts: self.starts }, None));
        }
        let key = |at: u32| key_at(&self.bytes, self.starts[at as usize]);
        let count = u32::try_from(self.len()).expect("fewer rows than bytes");
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_by(|a, b| key(*a).cmp(key(*b)));
        // Of several doubles the one that came first.
        let doubles = order.windows(2).filter(|pair| key(pair[0]) == key(pair[1]));
        if let Some(number) = doubles.map(|pair| pair[1] as usize).min() {
            let all = Run { bytes: self.bytes.into(), starts: self.starts };
            return Err(Twice { number, key: all.shared_key(number), row: all.row(number) });
        }
        let (mut bytes, mut starts) = (Vec::with_capacity(self.bytes.len()), Vec::new());
        for at in &order {
            let at = *at as usize;
            let end = self.starts.get(at + 1).map_or(self.bytes.len(), |end| *end as usize);
            starts.push(u32::try_from(bytes.len()).expect("as long as before"));
            bytes.extend_from_slice(&self.bytes[self.starts[at] as usize..end]);
        }
        Ok((Run { bytes: bytes.into(), starts }, Some(order)))
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
