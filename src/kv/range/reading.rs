//! Reading a range at a timestamp that was chosen elsewhere, and choosing one here.
//!
//! Three numbers say what a reader may rely on:
//!
//! ```text
//!    applied      last  floor
//! ──────●───○──◆────○─────┼──────▶ T      ○ in flight   ◆ prepared at p, outcome open
//! ```
//! * A snapshot over several ranges is *asked*: r = the maximum of the clocks of all nodes that may
//!   hold leases, read after the statement began. Every timestamp given out before is at or below some
//!   node's clock, so every commit acknowledged before is at or below r, and there is no uncertainty
//!   and no restart for it. It needs of the shell: a node's clock is raised to every timestamp that its
//!   sequencers give out or hear of (r, T, a new lease's start); a node that doesn't answer is waited
//!   for until it does or its support has ended, and then counts with the end of its support, below
//!   which all that it gave out lies ([`Sequencer::lease`]).
//! * `read_at(r)` raises the floor: nothing is sequenced or prepared at or below r from now on. What is
//!   in flight at or below r is waited for, on the keys that are read only ([`Blockers`]).
//! * A record prepared at `p ≤ r` may commit at `T ≤ r` (visible) or above (not): wait for its outcome,
//!   and if it is visible for its application. One with `p > r` commits above r. So a transaction
//!   is visible at r in all its ranges or in none, whenever and in whichever order they are read.
//!
//! One range alone is still read at `applied`, for nothing: without records every acknowledged commit
//! is at or below it. With one that isn't so: a commit over this range and another may be acknowledged
//! at a T above `applied` here before its outcome arrives. Then the reader waits for those records that
//! were there when it came, or takes an asked snapshot ([`Snapshot::Await`]).
//!
//! What is not promised: commits in *different* single ranges, through different gateways and without
//! a message between them, may be seen in another order than that of their acknowledgements by a reader
//! that runs at the same time as both. Whoever begins after an acknowledgement sees it.

use smallvec::SmallVec;

use super::prepared::Target;
use super::record::Outcome;
use super::{Flying, Refused, Sequencer};
use crate::api::{Span, Timestamp, TxnId};

/// What a reader has to wait for. Empty: read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blockers {
    /// Until the range has applied this far.
    pub applied: Option<Timestamp>,
    /// Until these records have an outcome. Look again afterwards: it may have to be applied.
    pub records: SmallVec<[TxnId; 2]>,
}

impl Blockers {
    /// Is there nothing to wait for?
    pub fn is_empty(&self) -> bool {
        self.applied.is_none() && self.records.is_empty()
    }
}

/// The snapshot for a reader of this range alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// This one. Every acknowledged commit is at or below it.
    At(Timestamp),
    /// When these records have been resolved and that has been applied, the range's applied timestamp
    /// then. Newer records don't matter: this reader came before they could be acknowledged.
    Await(SmallVec<[TxnId; 2]>),
}

impl Flying {
    fn touches(&self, target: Target<'_>) -> bool {
        match target {
            Target::Key(key) => {
                self.keys.binary_search_by(|known| known[..].cmp(key)).is_ok()
                    || self.runs.iter().any(|run| run.find(key).is_some())
            }
            Target::Span(span) => {
                let inside = |key: Option<&[u8]>| key.is_some_and(|key| span.contains(key));
                let at = self.keys.partition_point(|key| *key < span.start);
                let mut runs = self.runs.iter();
                inside(self.keys.get(at).map(|key| &key[..]))
                    || runs.any(|run| {
                        let at = run.lower_bound(0, &span.start);
                        inside((at < run.len()).then(|| run.key(at)))
                    })
            }
        }
    }
}

impl Sequencer {
    /// Somebody reads at `r`: nothing will be sequenced at or below it. Refused when the lease doesn't
    /// reach that far: the next leaseholder may begin there.
    pub fn read_at(&mut self, r: Timestamp) -> Result<(), Refused> {
        if r >= self.until {
            return Err(Refused::NoLease);
        }
        self.floor = self.floor.max(r);
        Ok(())
    }

    /// Nothing is sequenced or prepared at or below this.
    pub fn floor(&self) -> Timestamp {
        self.floor
    }

    /// What a reader of this at `r` has to wait for, after [`Sequencer::read_at`].
    #[inline]
    pub fn blockers(&self, target: Target<'_>, r: Timestamp) -> Blockers {
        if r <= self.applied && self.prepared.is_empty() {
            return Blockers::default();
        }
        let below = self.in_flight.iter().take_while(|flying| flying.ts <= r);
        let applied = below.filter(|flying| flying.touches(target)).last().map(|flying| flying.ts);
        Blockers { applied, records: self.prepared.open(target, r) }
    }

    /// The snapshot of a reader of this range alone, if it is to be had without looking: the shell may
    /// keep it where reading it costs nothing. `None` while there are records.
    pub fn free_snapshot(&self) -> Option<Timestamp> {
        self.prepared.is_empty().then_some(self.applied)
    }

    /// The snapshot of a reader of this range alone. `scope` is all that it will ever read at it, if
    /// that is known.
    pub fn snapshot(&self, scope: Option<&Span>) -> Snapshot {
        let in_scope = |held: &super::prepared::Held| {
            let mut writes = held.record.writes.iter();
            scope.is_none_or(|span| writes.any(|(key, _)| span.contains(key)))
        };
        // What isn't durable can't have been acknowledged.
        let may_be_acknowledged =
            |held: &super::prepared::Held| held.durable && held.outcome != Some(Outcome::Aborted);
        let open = self.prepared.records();
        let open = open.filter(|(_, held)| may_be_acknowledged(held) && in_scope(held));
        let open: SmallVec<_> = open.map(|(txn, _)| txn).collect();
        match open.is_empty() {
            true => Snapshot::At(self.applied),
            false => Snapshot::Await(open),
        }
    }

    /// Nothing will be sequenced up to `now`, which is the time: answers how far the range is closed
    /// ([`crate::closed`]), to be told to followers with an index of the log that is read afterwards. `None`
    /// when nothing can be promised: the lease doesn't reach that far, or the range is about to split or merge.
    pub fn close(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.is_frozen() {
            return None;
        }
        self.read_at(now).ok()?;
        Some(self.closed())
    }

    /// Up to here nothing changes any more, and all of it has been applied. Raise the floor first to get
    /// further.
    pub fn closed(&self) -> Timestamp {
        let flying = self.in_flight.front().map(|flying| flying.ts.prev());
        let records = self.prepared.records().map(|(_, held)| held.record.ts.prev());
        let open = records.chain(flying).min();
        open.unwrap_or_else(|| self.last.max(self.floor))
    }

    /// Is this record still unresolved, or its outcome not applied?
    pub fn is_open(&self, txn: TxnId) -> bool {
        self.prepared.has(txn)
    }

    /// The same of one part: ranges that have merged may have several of a transaction.
    pub fn is_part_open(&self, part: (TxnId, usize)) -> bool {
        self.prepared.get(part).is_some()
    }
}
