//! Keys and spans.
//!
//! A **logical key** is what ranges, locks and raft speak of:
//!
//! ```text
//! 10 ‖ storage_id:u32be ‖ index_id:u16be ‖ columns…     a row or index entry
//! 02 ‖ end_key                                          a range descriptor (meta)
//! 03 ‖ name                                             a counter outside transactions
//! 04 ‖ node                                              a node of the cluster
//! 05 ‖ what ‖ …                                         a transaction that a user has prepared
//! ```
//!
//! A **physical key** is where it lies in the engine's keyspaces: one prefix byte, then
//!
//! ```text
//! cur   D ‖ key             newest version of a row        hist  D ‖ key ‖ !ts:u64be   older ones
//!       L ‖ key ‖ txn       replicated lock                      R ‖ range:u64be       marker
//!       T ‖ key ‖ txn       transaction record
//!       R ‖ range:u64be ‖ what   range-local state
//! ```
//!
//! Invariant: no logical key is a proper prefix of another (column encodings delimit themselves),
//! so `key ‖ !ts` keeps the versions of one key together, newest first.

use bytes::Bytes;

use crate::{RangeId, Timestamp};

/// First byte of a row's or index entry's logical key.
pub const TABLE: u8 = 0x10;
/// First byte of a range descriptor's logical key.
pub const META: u8 = 0x02;
/// First byte of a counter's logical key.
pub const COUNTER: u8 = 0x03;
/// First byte of a node's logical key.
pub const NODE: u8 = 0x04;
/// First byte of the logical keys of transactions that users have prepared.
pub const PREPARED: u8 = 0x05;

/// Physical prefix of newest versions (`cur`) and superseded ones (`hist`).
pub const DATA: u8 = b'D';
/// Physical prefix of replicated locks.
pub const LOCK: u8 = b'L';
/// Physical prefix of transaction records.
pub const TXN: u8 = b'T';
/// Physical prefix of range-local state.
pub const RANGE: u8 = b'R';

/// Bytes of the `10 ‖ storage_id ‖ index_id` prefix.
pub const INDEX_PREFIX_BYTES: usize = 7;
/// Bytes of the version suffix of a `hist` key.
pub const VERSION_BYTES: usize = 8;

/// The prefix of all keys of one index.
#[must_use]
pub fn index_prefix(storage_id: u32, index_id: u16) -> [u8; INDEX_PREFIX_BYTES] {
    let mut out = [TABLE; INDEX_PREFIX_BYTES];
    out[1..5].copy_from_slice(&storage_id.to_be_bytes());
    out[5..].copy_from_slice(&index_id.to_be_bytes());
    out
}

/// The storage and index ids of a row key, with the rest (the columns).
#[must_use]
pub fn split_index_prefix(key: &[u8]) -> Option<(u32, u16, &[u8])> {
    let (prefix, columns) = key.split_at_checked(INDEX_PREFIX_BYTES)?;
    if prefix[0] != TABLE {
        return None;
    }
    let storage_id = u32::from_be_bytes(prefix[1..5].try_into().ok()?);
    let index_id = u16::from_be_bytes(prefix[5..].try_into().ok()?);
    Some((storage_id, index_id, columns))
}

/// All keys of one index.
#[must_use]
pub fn index_span(storage_id: u32, index_id: u16) -> Span {
    Span::prefix(&index_prefix(storage_id, index_id))
}

/// All keys of one storage object (a table with its indexes).
#[must_use]
pub fn storage_span(storage_id: u32) -> Span {
    Span::prefix(&index_prefix(storage_id, 0)[..5])
}

/// The smallest key above every key that starts with `prefix`; empty (= no bound) when all bytes
/// are FF.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xFF {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The smallest key above `key` itself.
#[must_use]
pub fn next_key(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// `D ‖ key`, written over `out`.
pub fn data_key_into(key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(1 + key.len() + VERSION_BYTES);
    out.push(DATA);
    out.extend_from_slice(key);
}

/// `D ‖ key`.
#[must_use]
pub fn data_key(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    data_key_into(key, &mut out);
    out
}

/// `D ‖ key ‖ !ts`, written over `out`: where `hist` keeps the version that began at `ts`.
pub fn version_key_into(key: &[u8], ts: Timestamp, out: &mut Vec<u8>) {
    data_key_into(key, out);
    out.extend_from_slice(&(!ts.0).to_be_bytes());
}

/// Logical key and begin timestamp of a `hist` data key.
#[must_use]
pub fn split_version_key(physical: &[u8]) -> Option<(&[u8], Timestamp)> {
    let body = physical.strip_prefix(&[DATA])?;
    let (key, ts) = body.split_at_checked(body.len().checked_sub(VERSION_BYTES)?)?;
    Some((key, Timestamp(!u64::from_be_bytes(ts.try_into().ok()?))))
}

/// `R ‖ range ‖ what`: a piece of range-local state.
#[must_use]
pub fn range_state_key(range: RangeId, what: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + what.len());
    out.push(RANGE);
    out.extend_from_slice(&range.0.to_be_bytes());
    out.extend_from_slice(what);
    out
}

/// `T ‖ key ‖ txn`: the record or marker of a transaction in the range that `key` lies in.
#[must_use]
pub fn txn_key(key: &[u8], txn: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + key.len());
    out.push(TXN);
    out.extend_from_slice(key);
    out.extend_from_slice(&txn.to_be_bytes());
    out
}

/// The physical `T` keys of the transactions whose keys lie in a span of logical keys.
#[must_use]
pub fn txn_span(span: &Span) -> Span {
    let prefixed = |key: &[u8]| [&[TXN], key].concat();
    let end = if span.end.is_empty() { vec![TXN + 1] } else { prefixed(&span.end) };
    Span::new(prefixed(&span.start), end)
}

/// Keys in `[start, end)`. An empty `end` means no upper bound.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// First key inside.
    pub start: Bytes,
    /// First key outside; empty = none.
    pub end: Bytes,
}

impl Span {
    /// Keys in `[start, end)`.
    #[must_use]
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: end.into() }
    }

    /// All keys.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The keys that start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self::new(prefix.to_vec(), prefix_end(prefix))
    }

    /// One key.
    #[must_use]
    pub fn point(key: &[u8]) -> Self {
        Self::new(key.to_vec(), next_key(key))
    }

    /// Whether no key can be inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start >= self.end
    }

    /// Whether `key` is inside.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && (self.end.is_empty() || key < self.end.as_ref())
    }

    /// Whether all keys of another span are inside.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let ends = self.end.is_empty() || (!other.end.is_empty() && other.end <= self.end);
        other.is_empty() || (self.start <= other.start && ends)
    }

    /// What is in both; empty where nothing is.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let start = self.start.clone().max(other.start.clone());
        let end = match (self.end.is_empty(), other.end.is_empty()) {
            (true, _) => other.end.clone(),
            (_, true) => self.end.clone(),
            _ => self.end.clone().min(other.end.clone()),
        };
        if !end.is_empty() && end <= start {
            return Self::new(start.clone(), start);
        }
        Self { start, end }
    }

    /// Whether some key is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let below = |a: &Bytes, b: &Bytes| b.is_empty() || a < b;
        below(&self.start, &other.end)
            && below(&other.start, &self.end)
            && !self.is_empty()
            && !other.is_empty()
    }

    /// The span of the physical `D` keys of this span of logical keys.
    #[must_use]
    pub fn physical(&self) -> Self {
        let end = if self.end.is_empty() { vec![DATA + 1] } else { data_key(&self.end) };
        Self::new(data_key(&self.start), end)
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}, {})", self.start.escape_ascii(), self.end.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_byte_exact() {
        assert_eq!(index_prefix(0x0102_0304, 5), [0x10, 1, 2, 3, 4, 0, 5]);
        assert_eq!(split_index_prefix(&index_prefix(9, 1)), Some((9, 1, &[][..])));
        let mut key = Vec::new();
        version_key_into(b"k", Timestamp(1), &mut key);
        assert_eq!(key, [b'D', b'k', 255, 255, 255, 255, 255, 255, 255, 254]);
        assert_eq!(split_version_key(&key), Some((&b"k"[..], Timestamp(1))));
        assert_eq!(prefix_end(&[1, 0xFF]), [2]);
        assert!(prefix_end(&[0xFF, 0xFF]).is_empty());
    }

    #[test]
    fn spans_meet_at_their_edges() {
        let (a, b) = (Span::new("a", "c"), Span::new("c", ""));
        assert!(!a.overlaps(&b) && !b.overlaps(&a) && b.overlaps(&b));
        assert!(a.contains(b"a") && a.contains(b"b\xFF") && !a.contains(b"c"));
        assert!(b.contains(b"\xFF\xFF") && Span::all().overlaps(&a));
        assert_eq!(Span::all().physical(), Span::new("D", "E"));
    }
}
