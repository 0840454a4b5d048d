//! Closed timestamps: what a copy of a range may serve without its leaseholder.
//!
//! ```text
//! leaseholder: Sequencer::close(now) ─▶ Promise { index, ts } ─▶ Teller, one for each other node
//!                                                                  │ one message each 200 ms
//! follower:    Listener, one for each other node ◀─────────────────┘
//!                └▶ Copy: closed = the newest promise whose index has been applied here
//! ```
//! **A promise**: with entry `index` of the range's log applied, a copy holds all that was, or ever will be,
//! committed in the range at or below `ts`. So who reads there at `r ≤ ts` reads what the leaseholder would
//! answer, whoever that is by now, and needs to ask nobody.
//!
//! Why that is so, at the leaseholder that gives it ([`Sequencer::close`](crate::range::Sequencer::close)):
//! * *Nothing is sequenced at or below `ts` any more by this one*: `ts` is at or below its floor.
//! * *Nor by a later one*: the floor lies below the end of the lease, where the next one begins. It doesn't
//!   matter when the promise is sent or heard, nor who leads by then. A leaseholder that was paused and
//!   doesn't know that its lease is over can't raise its floor beyond that, and what it knows up to there
//!   was complete: it alone could sequence below. So a promise holds for ever, and one that comes late or
//!   twice says nothing wrong.
//! * *What was sequenced at or below `ts` has been applied by the leaseholder*, so it is in the log at or
//!   before the index, which is read afterwards.
//! * *Records.* One that is prepared at `p` may commit at any `T ≥ p`, later in the log: an open one keeps
//!   `ts` below `p`, until its outcome has been applied. One that is prepared later has `p > ts`. So a copy
//!   need not look for records: whatever commits at or below `ts` here is applied, in all of its keys. An
//!   outcome is applied some milliseconds after the prepare, and the records of a dead coordinator are ended
//!   by others; so long `ts` stands still.
//! * *Splits.* A range that is frozen promises nothing: when the split has been proposed, another node may
//!   lead the right half, from the clock that it got with the proposal. A promise that is given after that has
//!   the index of the split or a later one, and who has applied that knows that half of the keys is gone. An
//!   older one is true of both halves.
//! * *Merges.* What the right range had is applied wherever the merge is, and its floor is taken over: an older
//!   promise of the left one is true of all keys then.
//!
//! What a copy has to see to: that it serves only keys that its own log says it holds, and that content that is
//! replaced by a snapshot, or removed, isn't read meanwhile ([`Copy::lose`]).
//!
//! **The messages.** Ranges in which nothing happens cost nothing: the teller and the listener have a table of
//! those with their indexes, and "all of them are closed up to `ts`" is one number. Only what has changed is
//! told. Both tables are the same as long as each message is heard, in order; otherwise they begin anew.

use std::collections::BTreeMap;

use meridian_base::RangeId;

use crate::api::Timestamp;

/// How far a range is closed for who has applied its log up to an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Index in the range's log.
    pub index: u64,
    /// Up to here nothing changes any more.
    pub ts: Timestamp,
}

/// How far a follower's copy is closed.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    applied: u64,
    closed: Timestamp,
    /// The first promise that isn't reached, and the newest. Those in between are left out, so that one is
    /// reached even if there are new ones all the time.
    next: Option<Promise>,
    newest: Option<Promise>,
}

impl Copy {
    /// A leaseholder promises this.
    pub fn promise(&mut self, promise: Promise) {
        let known = self.newest.or(self.next).map_or(self.closed, |known| known.ts);
        if promise.ts <= self.closed {
            return;
        }
        if promise.index <= self.applied {
            self.closed = promise.ts;
            let late = |kept: &Promise| kept.ts > promise.ts;
            (self.next, self.newest) = (self.next.filter(late), self.newest.filter(late));
            self.next = self.next.or_else(|| self.newest.take());
        } else if self.next.is_none() {
            self.next = Some(promise);
        } else if promise.ts > known {
            self.newest = Some(promise);
        }
    }

    /// The right half of a split begins as far closed as the left one is when that applies the split: the
    /// promises that it has reached are older.
    pub fn begin(&mut self, left: Timestamp) {
        self.closed = self.closed.max(left);
    }

    /// This index has been applied, and can be read.
    pub fn apply(&mut self, index: u64) {
        self.applied = self.applied.max(index);
        while let Some(next) = self.next.filter(|next| next.index <= self.applied) {
            self.closed = self.closed.max(next.ts);
            self.next = self.newest.take();
        }
    }

    /// The content goes: nothing of it can be read before an index is applied again.
    pub fn lose(&mut self) {
        *self = Copy::default();
    }

    /// Up to here it may be read.
    pub fn closed(&self) -> Timestamp {
        self.closed
    }
}

/// What a leaseholder has to tell of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is closed up to the time of the message, for who has this index.
    Quiet(u64),
    /// Something is under way: it is closed less far.
    Busy(Promise),
}

/// A message of one node to another about the ranges that it leads and the other has copies of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tidings {
    /// Names this start of the sender; a later one is larger.
    pub start: u64,
    /// Counts its messages.
    pub number: u64,
    /// What it has told before is to be forgotten.
    pub anew: bool,
    /// All quiet ranges are closed up to here.
    pub ts: Timestamp,
    /// These are quiet from now on, or have another index.
    pub quiet: Vec<(RangeId, u64)>,
    /// These aren't quiet.
    pub busy: Vec<(RangeId, Promise)>,
    /// Of these there is nothing to tell any more.
    pub gone: Vec<RangeId>,
}

/// What one node tells another.
#[derive(Clone, Debug)]
pub struct Teller {
    start: u64,
    number: u64,
    /// `None`: the other one knows nothing.
    quiet: Option<BTreeMap<RangeId, u64>>,
    waits: bool,
}

impl Teller {
    /// Nothing has been told. `start` names this start of the node.
    pub fn new(start: u64) -> Teller {
        Teller { start, number: 0, quiet: None, waits: false }
    }

    /// Is the last message's answer still to come? Then there is none to send.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// The next message: how all ranges stand at `ts`. `None` when there is nothing to say.
    pub fn tell(
        &mut self,
        ts: Timestamp,
        ranges: impl IntoIterator<Item = (RangeId, Standing)>,
    ) -> Option<Tidings> {
        debug_assert!(!self.waits, "one message at a time");
        let anew = self.quiet.is_none();
        let mut known = self.quiet.take().unwrap_or_default();
        let mut table = BTreeMap::new();
        let (mut quiet, mut busy) = (Vec::new(), Vec::new());
        for (id, standing) in ranges {
            let before = known.remove(&id);
            match standing {
                Standing::Quiet(index) => {
                    table.insert(id, index);
                    if before != Some(index) {
                        quiet.push((id, index));
                    }
                }
                Standing::Busy(promise) => busy.push((id, promise)),
            }
        }
        let gone: Vec<RangeId> = known.into_keys().collect();
        if table.is_empty() && busy.is_empty() && gone.is_empty() {
            self.quiet = (!anew).then_some(table);
            return None;
        }
        self.quiet = Some(table);
        self.number += 1;
        self.waits = true;
        let (start, number) = (self.start, self.number);
        Some(Tidings { start, number, anew, ts, quiet, busy, gone })
    }

    /// The last message was understood, or it wasn't, or nobody knows.
    pub fn answered(&mut self, understood: bool) {
        self.waits = false;
        if !understood {
            self.quiet = None;
        }
    }
}

/// What one node has heard of another.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    start: u64,
    number: u64,
    quiet: BTreeMap<RangeId, u64>,
}

impl Listener {
    /// Takes note of a message and answers what it promises; `None` when one before it wasn't heard, so that
    /// the sender has to begin anew.
    pub fn hear(&mut self, tidings: Tidings) -> Option<Vec<(RangeId, Promise)>> {
        let Tidings { start, number, anew, ts, quiet, busy, gone } = tidings;
        let place = (start, number);
        let follows = match anew {
            true => place > (self.start, self.number),
            false => place == (self.start, self.number + 1),
        };
        if !follows {
            return None;
        }
        (self.start, self.number) = place;
        if anew {
            self.quiet.clear();
        }
        for id in gone.iter().chain(busy.iter().map(|(id, _)| id)) {
            self.quiet.remove(id);
        }
        self.quiet.extend(quiet);
        let promise = |(id, index): (&RangeId, &u64)| (*id, Promise { index: *index, ts });
        Some(self.quiet.iter().map(promise).chain(busy).collect())
    }
}

#[cfg(test)]
mod tests;
