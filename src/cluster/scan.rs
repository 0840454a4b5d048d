//! A range scan of a transaction: the rows at the snapshot, from the engine or from the leaseholder,
//! merged with the buffered writes.

use std::sync::Arc;
use std::vec;

use meridian_base::keys;
use meridian_kv::api::{Bytes, Isolation, Key, KvError, Row, Span, Timestamp};
use meridian_kv::range::Target;
use meridian_storage::mvcc::MvccScan;

use crate::core::Core;
use crate::locking::WaitLimits;
use crate::remote::{Answer, Asked, Op, Rows, ScanPage, Search, at_level};
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
    /// Page by page from the leaseholders. Of a part that lies here, the scan.
    Away(Box<Pages>, Option<MvccScan>),
}

/// A snapshot, and whether all nodes were asked for it if it is one over several ranges.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) ts: Timestamp,
    pub(crate) whole: bool,
    /// Whose it is.
    pub(crate) level: Isolation,
}

/// What is still to be read elsewhere, or range by range.
struct Pages {
    /// `None`: nothing any more.
    rest: Option<Span>,
    at: At,
    limits: WaitLimits,
}

/// What was read of them.
enum Page {
    /// Rows; is there more behind them?
    Rows(bool),
    /// This part is to be read here; is there more behind it?
    Here(Box<MvccScan>, bool),
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
            let (pages, part) = match &mut self.source {
                Source::Here(scan) => {
                    self.more = core.read.next_batch(scan, rows_max, out)?;
                    return Ok(());
                }
                Source::Away(pages, part) => (pages, part),
            };
            if let Some(scan) = part {
                let before = out.len();
                if core.read.next_batch(scan, rows_max, out)? {
                    return Ok(());
                }
                *part = None;
                self.more = pages.rest.is_some();
                if out.len() > before || !self.more {
                    return Ok(());
                }
            }
            match Box::pin(pages.next(core, reverse, rows_max, out)).await? {
                Page::Rows(more) => {
                    self.more = more;
                    return Ok(());
                }
                Page::Here(scan, false) => self.source = Source::Here(*scan),
                Page::Here(scan, true) => *part = Some(*scan),
            }
        }
    }
}

impl Pages {
    /// The next page.
    async fn next(
        &mut self,
        core: &Arc<Core>,
        reverse: bool,
        rows_max: usize,
        out: &mut Vec<(Bytes, Bytes)>,
    ) -> Result<Page, KvError> {
        let limits = self.limits.clone();
        let mut search = Search::new(&limits);
        while let Some(rest) = self.rest.clone() {
            if core.ranges.is_single() {
                let first = core.first();
                if first.replicates() && first.applied() >= self.at.ts {
                    return Ok(self.here(core, rest, reverse));
                }
            }
            let part = part_of(&rest, core, reverse);
            if self.at.whole
                && let Some(scan) = core.scan_closed(&part, reverse, self.at.ts)
            {
                self.pass(part, reverse);
                return Ok(Page::Here(Box::new(scan), self.rest.is_some()));
            }
            let first = part.start.clone();
            let page = ScanPage {
                start: part.start.clone(),
                end: part.end.clone(),
                reverse,
                ts: self.at.ts.0,
                rows_max: u32::try_from(rows_max).unwrap_or(u32::MAX),
                partial: !self.at.whole,
            };
            let asked = core.ask(&first, Op::Scan(page), &limits).await;
            match asked.map_err(|error| at_level(error, self.at.level))? {
                Asked::Here => {
                    let (target, at) = (Target::Span(&part), (self.at.ts, self.at.whole));
                    let readable = core.await_readable(&first, target, at).await;
                    if readable.map_err(|error| at_level(error, self.at.level))? {
                        return Ok(self.here(core, part, reverse));
                    }
                }
                Asked::Answer(Answer::Rows(page)) => return Ok(self.got(page, part, reverse, out)),
                Asked::Answer(_) => {
                    return Err(KvError::Storage { reason: "a scan got another answer".into() });
                }
            }
            search.pause().await?;
        }
        Ok(Page::Rows(false))
    }

    /// The part is behind us.
    fn pass(&mut self, part: Span, reverse: bool) {
        let Some(rest) = self.rest.take() else { return };
        self.rest = match reverse {
            false if part.end.is_empty() || part.end == rest.end => None,
            false => Some(Span { start: part.end, end: rest.end }),
            true if part.start <= rest.start => None,
            true => Some(Span { start: rest.start, end: part.start }),
        };
    }

    /// A part that is to be read here.
    fn here(&mut self, core: &Core, part: Span, reverse: bool) -> Page {
        let scan = core.read.scan(&part, reverse, self.at.ts);
        self.pass(part, reverse);
        Page::Here(Box::new(scan), self.rest.is_some())
    }

    /// Rows of a part have come from elsewhere.
    fn got(
        &mut self,
        page: Rows,
        mut part: Span,
        reverse: bool,
        out: &mut Vec<(Bytes, Bytes)>,
    ) -> Page {
        // The leaseholder knows better where its range ends.
        match (page.bound, reverse) {
            (None, _) => {}
            (Some(bound), false) => part.end = bound,
            (Some(bound), true) => part.start = bound,
        }
        match (page.rows.last(), &mut self.rest) {
            (Some(last), Some(rest)) if page.more => match reverse {
                false => rest.start = keys::next_key(&last.key).into(),
                true => rest.end = last.key.clone(),
            },
            _ => self.pass(part, reverse),
        }
        out.extend(page.rows.into_iter().map(|pair| (pair.key, pair.row)));
        Page::Rows(self.rest.is_some())
    }
}

/// What of a span comes first and lies in one range.
fn part_of(rest: &Span, core: &Core, reverse: bool) -> Span {
    let range = match reverse {
        false => Arc::clone(&core.range_of(&rest.start)),
        true => core.ranges.last_of(rest),
    };
    let part = rest.intersection(&range.span());
    // The directory has changed between the two looks: then the leaseholder says where its range ends.
    if part.is_empty() { rest.clone() } else { part }
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
        at: At,
        limits: WaitLimits,
    ) -> Scan {
        let pages = Pages { rest: Some(rest), at, limits };
        Scan::over(core, Source::Away(Box::new(pages), None), own, reverse, at.ts)
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
