//! A range scan of a transaction: the engine's rows at the snapshot, merged with the buffered writes.

use std::sync::Arc;
use std::vec;

use meridian_kv::api::{Bytes, Key, KvError, Row, Span, Timestamp};
use meridian_storage::mvcc::MvccScan;

use crate::core::Core;
use crate::read::storage_error;
use crate::snapshots::SnapshotSlot;

/// Rows of a span in key order (or in reverse). The transaction's own writes are those buffered when
/// the scan began, so that an UPDATE doesn't meet the rows that it has just written.
pub struct Scan {
    stored: Stored,
    own: std::iter::Peekable<vec::IntoIter<(Key, Option<Row>)>>,
    reverse: bool,
    _protection: Protection,
}

/// Keeps the scan's versions from garbage collection: a cursor outlives its statement, and READ
/// COMMITTED moves on to newer snapshots.
struct Protection {
    core: Arc<Core>,
    slot: Option<SnapshotSlot>,
}

impl Drop for Protection {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.core.snapshots.leave(slot);
        }
    }
}

struct Stored {
    scan: MvccScan,
    batch: std::iter::Peekable<vec::IntoIter<(Bytes, Bytes)>>,
    more: bool,
}

impl Stored {
    fn peek(&mut self, batch_rows: usize) -> Result<Option<&(Bytes, Bytes)>, KvError> {
        while self.more && self.batch.peek().is_none() {
            let mut rows = Vec::new();
            self.more = self.scan.next_batch(batch_rows, &mut rows).map_err(storage_error)?;
            self.batch = rows.into_iter().peekable();
        }
        Ok(self.batch.peek())
    }
}

impl Scan {
    pub(crate) fn new(
        core: &Arc<Core>,
        span: &Span,
        own: Vec<(Key, Option<Row>)>,
        reverse: bool,
        read_ts: Timestamp,
    ) -> Scan {
        let slot = Some(core.snapshots.join(read_ts));
        let protection = Protection { core: Arc::clone(core), slot };
        let scan = MvccScan::new(core.read.engine.snapshot(), span, reverse, read_ts);
        let stored = Stored { scan, batch: Vec::new().into_iter().peekable(), more: true };
        Scan { stored, own: own.into_iter().peekable(), reverse, _protection: protection }
    }

    /// Appends up to `max_rows` rows (key, row bytes) to `out`; false when the span is exhausted.
    pub fn next_batch(
        &mut self,
        max_rows: usize,
        out: &mut Vec<(Bytes, Bytes)>,
    ) -> Result<bool, KvError> {
        if self.own.peek().is_none() && self.stored.batch.peek().is_none() {
            return match self.stored.more {
                true => self.stored.scan.next_batch(max_rows, out).map_err(storage_error),
                false => Ok(false),
            };
        }
        let full = out.len() + max_rows;
        while out.len() < full {
            let stored = self.stored.peek(max_rows)?.map(|(key, _)| key);
            let own = self.own.peek().map(|(key, _)| key);
            let (take_own, skip_stored) = match (own, stored) {
                (None, None) => return Ok(false),
                (Some(_), None) => (true, false),
                (None, Some(_)) => (false, false),
                (Some(own), Some(stored)) if own == stored => (true, true),
                (Some(own), Some(stored)) => ((own < stored) != self.reverse, false),
            };
            if skip_stored {
                self.stored.batch.next();
            }
            if take_own {
                let (key, value) = self.own.next().expect("peeked");
                out.extend(value.map(|row| (key, row)));
            } else {
                out.extend(self.stored.batch.next());
            }
        }
        Ok(true)
    }
}
