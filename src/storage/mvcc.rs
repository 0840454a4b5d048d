//! Versions of keys.
//!
//! The newest version of a key lies in `cur` under the bare key, so the common read is one point lookup;
//! versions it superseded lie in `hist`, newest first:
//!
//! ```text
//! cur   D‖k         →  kind ‖ commit_ts ‖ row            kind 1 row, 2 tombstone
//! hist  D‖k‖!begin  →  kind ‖ end_ts    ‖ row            visible in [begin, end)
//! ```
//! Example: `k` is inserted at 10, updated at 20, deleted at 30:
//!
//! ```text
//! cur   D k       → 2 30
//! hist  D k !20   → 1 30 "b"
//!       D k !10   → 1 20 "a"
//! ```
//! A read at 25 finds 30 > 25 in `cur`, seeks `D k !25` in `hist`, lands on `!20` whose end 30 is above
//! 25: "b". A tombstone is never moved to `hist`: when `k` is inserted again at 40, a read at 35 lands on
//! `!20`, whose end 30 is not above 35: nothing, which is right.
//!
//! Writes are *blind*: whoever writes has read the old version under the key's lock and sends it along as
//! the `hist` put ([`write_ops`]). Doing the same writes twice, or over a store in which only one of the
//! two keyspaces survived, gives the same result.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use meridian_base::keys::{self, DATA, VERSION_BYTES};
use meridian_base::{Span, Timestamp};

use crate::StorageError;
use crate::barren::{Barren, WORTH};
use crate::engine::{Keyspace, KvIter, Op, Reader, Snapshot};

/// Bytes before the row in a stored value.
pub const HEADER_BYTES: usize = 9;

const KIND_ROW: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;

/// A version of a key: when it was written, and the row; `None` is a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Commit timestamp of the write.
    pub ts: Timestamp,
    /// The row's bytes, or `None` for a deletion.
    pub row: Option<Bytes>,
}

fn encode(kind: u8, ts: Timestamp, row: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(HEADER_BYTES + row.len());
    value.put_u8(kind);
    value.put_u64_le(ts.0);
    value.put_slice(row);
    value.freeze()
}

/// The `cur` value of a version.
#[must_use]
pub fn encode_cur(ts: Timestamp, row: Option<&[u8]>) -> Bytes {
    match row {
        Some(row) => encode(KIND_ROW, ts, row),
        None => encode(KIND_TOMBSTONE, ts, &[]),
    }
}

/// Kind and timestamp of a stored value.
fn header(value: &[u8]) -> Result<(u8, Timestamp), StorageError> {
    let ts = value.get(1..HEADER_BYTES).and_then(|b| b.try_into().ok());
    match (value.first().copied(), ts) {
        (Some(kind @ (KIND_ROW | KIND_TOMBSTONE)), Some(ts)) => {
            Ok((kind, Timestamp(u64::from_le_bytes(ts))))
        }
        _ => Err(StorageError::Corruption("a stored version has no valid header".into())),
    }
}

/// Takes a `cur` value apart. Does not copy: the row shares the value's memory.
///
/// # Errors
/// The header is malformed.
pub fn decode_cur(mut value: Bytes) -> Result<Version, StorageError> {
    let (kind, ts) = header(&value)?;
    value.advance(HEADER_BYTES);
    Ok(Version { ts, row: (kind == KIND_ROW).then_some(value) })
}

/// Commit timestamp of a `cur` value, and whether it is a tombstone.
///
/// # Errors
/// The header is malformed.
pub fn peek_cur(value: &[u8]) -> Result<(Timestamp, bool), StorageError> {
    header(value).map(|(kind, ts)| (ts, kind == KIND_TOMBSTONE))
}

/// End timestamp of a `hist` value.
#[must_use]
pub fn hist_end(value: &[u8]) -> Option<Timestamp> {
    header(value).ok().map(|(_, ts)| ts)
}

/// The newest version of a logical key, deletions included.
///
/// # Errors
/// I/O or corruption.
pub fn newest(reader: &dyn Reader, key: &[u8]) -> Result<Option<Version>, StorageError> {
    let value = reader.get(Keyspace::Cur, &keys::data_key(key))?;
    value.map(decode_cur).transpose()
}

/// The row of a logical key as of `read_ts`.
///
/// # Errors
/// I/O or corruption.
pub fn get(
    reader: &dyn Reader,
    key: &[u8],
    read_ts: Timestamp,
) -> Result<Option<Bytes>, StorageError> {
    match newest(reader, key)? {
        None => Ok(None),
        Some(version) if version.ts <= read_ts => Ok(version.row),
        Some(_) => get_hist(reader, key, read_ts),
    }
}

/// The superseded version of a logical key that was visible at `read_ts`; for callers that know (from a
/// cache) that the newest one is above it.
///
/// # Errors
/// I/O or corruption.
pub fn get_hist(
    reader: &dyn Reader,
    key: &[u8],
    read_ts: Timestamp,
) -> Result<Option<Bytes>, StorageError> {
    let mut start = Vec::new();
    keys::version_key_into(key, read_ts, &mut start);
    let prefix_len = start.len() - VERSION_BYTES;
    let end = keys::prefix_end(&start[..prefix_len]);
    let span = Span::new(start.clone(), end);
    for entry in reader.range(Keyspace::Hist, &span, false) {
        let (found, mut value) = entry?;
        if found.len() != start.len() {
            continue; // another key that has this one as a prefix
        }
        let (kind, end) = header(&value)?;
        value.advance(HEADER_BYTES);
        return Ok((end > read_ts && kind == KIND_ROW).then_some(value));
    }
    Ok(None)
}

/// The blind writes that turn `old` (the newest version, read under the key's lock) into `new` at `ts`:
/// at most one put in each of `hist` and `cur`. Deleting what is not there writes nothing.
///
/// # Panics
/// When `ts` is not above the old version: timestamps of one key's versions must rise.
pub fn write_ops(
    key: &[u8],
    old: Option<&Version>,
    new: Option<&[u8]>,
    ts: Timestamp,
    out: &mut Vec<Op>,
) {
    assert!(old.is_none_or(|old| old.ts < ts), "versions of a key must rise in time");
    let old_row = old.and_then(|old| old.row.as_ref().map(|row| (old.ts, row)));
    if new.is_none() && old_row.is_none() {
        return;
    }
    let mut physical = Vec::new();
    if let Some((begin, row)) = old_row {
        keys::version_key_into(key, begin, &mut physical);
        let hist_key = Bytes::copy_from_slice(&physical);
        out.push(Op::put(Keyspace::Hist, hist_key, encode(KIND_ROW, ts, row)));
        physical.truncate(physical.len() - VERSION_BYTES);
    } else {
        keys::data_key_into(key, &mut physical);
    }
    out.push(Op::put(Keyspace::Cur, physical, encode_cur(ts, new)));
}

/// The engine writes of many rows that supersede nothing, in memory that they share.
pub fn new_row_ops<'a>(
    rows: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    ts: Timestamp,
) -> impl Iterator<Item = Op> {
    let bytes = rows.clone().map(|(key, row)| 1 + key.len() + HEADER_BYTES + row.len()).sum();
    let mut memory = BytesMut::with_capacity(bytes);
    let mut lengths = Vec::new();
    for (key, row) in rows {
        memory.put_u8(DATA);
        memory.put_slice(key);
        memory.put_u8(KIND_ROW);
        memory.put_u64_le(ts.0);
        memory.put_slice(row);
        lengths.push((1 + key.len(), HEADER_BYTES + row.len()));
    }
    let mut memory = memory.freeze();
    lengths.into_iter().map(move |(key, value)| {
        let key = memory.split_to(key);
        Op { keyspace: Keyspace::Cur, key, value: Some(memory.split_to(value)) }
    })
}

/// Rows of a span of logical keys as of one timestamp, in key order, a batch at a time.
///
/// One engine snapshot is taken at the start, so the scan sees all or nothing of every engine batch.
/// A key whose newest version is too new is looked up in `hist` on the spot.
pub struct MvccScan {
    snapshot: Snapshot,
    iter: KvIter,
    read_ts: Timestamp,
    /// Physical bounds of the whole, and the order.
    bounds: Span,
    reverse: bool,
    barren: Option<Arc<Barren>>,
    /// Tombstones met in a row.
    tombs: Tombs,
    /// A span of many tombstones that was walked.
    walked: Option<Span>,
}

/// Tombstones in a row: how many, the first (or where the walk went on), the last.
#[derive(Default)]
struct Tombs {
    count: usize,
    first: Bytes,
    last: Bytes,
}

impl MvccScan {
    /// Scans `span` (logical keys) of a snapshot as of `read_ts`.
    #[must_use]
    pub fn new(snapshot: Snapshot, span: &Span, reverse: bool, read_ts: Timestamp) -> Self {
        let bounds = span.physical();
        let iter = snapshot.range(Keyspace::Cur, &bounds, reverse);
        let (barren, tombs, walked) = (None, Tombs::default(), None);
        Self { snapshot, iter, read_ts, bounds, reverse, barren, tombs, walked }
    }

    /// Passes over what is known to be barren.
    #[must_use]
    pub fn skipping(self, barren: Arc<Barren>) -> Self {
        Self { barren: Some(barren), ..self }
    }

    /// A span of many tombstones that was walked since the last call.
    pub fn walked(&mut self) -> Option<Span> {
        self.walked.take()
    }

    /// Appends up to `max` rows (logical key, row bytes); false when the span is exhausted.
    ///
    /// # Errors
    /// I/O or corruption.
    pub fn next_batch(
        &mut self,
        max: usize,
        out: &mut Vec<(Bytes, Bytes)>,
    ) -> Result<bool, StorageError> {
        let full = out.len() + max;
        while out.len() < full {
            let Some(entry) = self.iter.next() else {
                self.end_of_tombs();
                return Ok(false);
            };
            let (mut key, mut value) = entry?;
            debug_assert_eq!(key.first(), Some(&DATA));
            key.advance(1);
            let (kind, ts) = header(&value)?;
            if ts <= self.read_ts && kind == KIND_TOMBSTONE {
                self.tomb(key);
                continue;
            }
            self.end_of_tombs();
            if ts > self.read_ts {
                let older = get_hist(self.snapshot.as_ref(), &key, self.read_ts)?;
                out.extend(older.map(|row| (key, row)));
            } else {
                value.advance(HEADER_BYTES);
                out.push((key, value));
            }
        }
        Ok(true)
    }

    /// Counts a tombstone; every so many of them looks whether it lies in a span to be passed over.
    fn tomb(&mut self, key: Bytes) {
        let look = self.tombs.count.is_multiple_of(WORTH);
        if let Some(barren) = self.barren.as_ref().filter(|_| look)
            && let Some(next) = barren.beyond(&key, self.read_ts, self.reverse)
        {
            self.tombs.last = key;
            self.end_of_tombs();
            let edge = keys::data_key(&next);
            let rest = match self.reverse {
                false => Span::new(edge, self.bounds.end.clone()),
                true => Span::new(self.bounds.start.clone(), edge),
            };
            self.iter = match rest.start < rest.end {
                true => self.snapshot.range(Keyspace::Cur, &rest, self.reverse),
                false => Box::new(std::iter::empty()),
            };
            // What comes now touches what was passed over.
            self.tombs = Tombs { count: 0, first: next, last: Bytes::new() };
            return;
        }
        if self.tombs.count == 0 && self.tombs.first.is_empty() {
            self.tombs.first = key.clone();
        }
        self.tombs.count += 1;
        self.tombs.last = key;
    }

    fn end_of_tombs(&mut self) {
        if self.tombs.count == 0 && self.tombs.first.is_empty() {
            return;
        }
        let Tombs { count, first, last } = std::mem::take(&mut self.tombs);
        if count < WORTH {
            return;
        }
        // In reverse order `first` is the greatest key, or the start of what was passed over.
        self.walked = Some(match self.reverse {
            false => Span::new(first, keys::next_key(&last)),
            true => Span::new(last, keys::next_key(&first)),
        });
    }
}
