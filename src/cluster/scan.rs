//! A range scan of a transaction: the rows at the snapshot, from the engine or from the leaseholder,
//! merged with the buffered writes.

use std::sync::Arc;
use std::vec;

use meridian_base::keys;
use meridian_kv::api::{Bytes, Key, KvError, Row, Span, Timestamp};
use meridian_storage::mvcc::MvccScan;

use crate::core::Core;
use crate::locking::WaitLimits;
use crate::remote::{Answer, Asked, Op, ScanPage};
use crate::snapshots::SnapshotSlot;

/// Rows of a span in key order (or in reverse). The transaction's own writes are those buffered when
/// the scan began, so that an UPDATE doesn't meet the rows that it has just written.
pub struct Scan {
    stored: Stored,
    own: std::iter::Peekable<vec::IntoIter<(Key, Option<Row>)>>,
    reverse: bool,
    protection: Protection,
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

/// Where the rows come from.
enum Source {
    Here(MvccScan),
    /// Page by page from the leaseholder.
    Away(Box<Pages>),
}

/// What is still to be read elsewhere.
struct Pages {
    rest: Span,
    ts: Timestamp,
    limits: WaitLimits,
}

struct Stored {
    source: Source,
    batch: std::iter::Peekable<vec::IntoIter<(Bytes, Bytes)>>,
    more: bool,
}

impl Stored {
    async fn peek(
        &mut self,
        core: &Arc<Core>,
        reverse: bool,
        rows_max: usize,
    ) -> Result<Option<&(Bytes, Bytes)>, KvError> {
        while self.more && self.batch.peek().is_none() {
            let mut rows = Vec::new();
            self.read(core, reverse, rows_max, &mut rows).await?;
            self.batch = rows.into_iter().peekable();
        }
        Ok(self.batch.peek())
    }

    /// Reads on, past what is in the batch.
    async fn read(
        &mut self,
        core: &Arc<Core>,
        reverse: bool,
        rows_max: usize,
        out: &mut Vec<(Bytes, Bytes)>,
    ) -> Result<(), KvError> {
        loop {
            let pages = match &mut self.source {
                Source::Here(scan) => {
                    self.more = core.read.next_batch(scan, rows_max, out)?;
                    return Ok(());
                }
                Source::Away(pages) => pages,
            };
            match Box::pin(pages.next(core, reverse, rows_max, out)).await? {
                Some(more) => {
                    self.more = more;
                    return Ok(());
                }
                None => {
                    let (span, ts) = (&pages.rest, pages.ts);
                    self.source = Source::Here(core.read.scan(span, reverse, ts));
                }
            }
        }
    }
}

impl Pages {
    /// The next page; whether there is more behind it. `None`: the rest can be read here.
    async fn next(
        &mut self,
        core: &Arc<Core>,
        reverse: bool,
        rows_max: usize,
        out: &mut Vec<(Bytes, Bytes)>,
    ) -> Result<Option<bool>, KvError> {
        if core.replicates() && core.applied() >= self.ts {
            return Ok(None);
        }
        let Some(cluster) = core.cluster() else {
            return Err(KvError::Unavailable { reason: "the store is shutting down".into() });
        };
        let page = ScanPage {
            start: self.rest.start.clone(),
            end: self.rest.end.clone(),
            reverse,
            ts: self.ts.0,
            rows_max: u32::try_from(rows_max).unwrap_or(u32::MAX),
        };
        let page = match cluster.ask(Op::Scan(page), &self.limits).await? {
            Asked::Here => return Ok(None),
            Asked::Answer(Answer::Rows(page)) => page,
            Asked::Answer(_) => {
                return Err(KvError::Storage { reason: "a scan got another answer".into() });
            }
        };
        if let Some(last) = page.rows.last() {
            match reverse {
                false => self.rest.start = keys::next_key(&last.key).into(),
                true => self.rest.end = last.key.clone(),
            }
        }
        out.extend(page.rows.into_iter().map(|pair| (pair.key, pair.row)));
        Ok(Some(page.more))
    }
}

impl Scan {
    pub(crate) fn new(
        core: &Arc<Core>,
        span: Span,
        own: Vec<(Key, Option<Row>)>,
        reverse: bool,
        read_ts: Timestamp,
    ) -> Scan {
        let scan = core.read.scan(&span, reverse, read_ts);
        Scan::over(core, Source::Here(scan), own, reverse, read_ts)
    }

    /// A scan of rows that this node doesn't have, or not yet.
    pub(crate) fn away(
        core: &Arc<Core>,
        rest: Span,
        own: Vec<(Key, Option<Row>)>,
        reverse: bool,
        ts: Timestamp,
        limits: WaitLimits,
    ) -> Scan {
        let pages = Pages { rest, ts, limits };
        Scan::over(core, Source::Away(Box::new(pages)), own, reverse, ts)
    }

    fn over(
        core: &Arc<Core>,
        source: Source,
        own: Vec<(Key, Option<Row>)>,
        reverse: bool,
        read_ts: Timestamp,
    ) -> Scan {
        let slot = Some(core.snapshots.join(read_ts));
        let protection = Protection { core: Arc::clone(core), slot };
        let stored = Stored { source, batch: Vec::new().into_iter().peekable(), more: true };
        Scan { stored, own: own.into_iter().peekable(), reverse, protection }
    }

    /// Appends up to `max_rows` rows (key, row bytes) to `out`; false when the span is exhausted.
    pub async fn next_batch(
        &mut self,
        max_rows: usize,
        out: &mut Vec<(Bytes, Bytes)>,
    ) -> Result<bool, KvError> {
        let (core, reverse) = (&self.protection.core, self.reverse);
        if self.own.peek().is_none() && self.stored.batch.peek().is_none() {
            if self.stored.more {
                self.stored.read(core, reverse, max_rows, out).await?;
            }
            return Ok(self.stored.more);
        }
        let full = out.len() + max_rows;
        while out.len() < full {
            let stored = self.stored.peek(core, reverse, max_rows).await?.map(|(key, _)| key);
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
