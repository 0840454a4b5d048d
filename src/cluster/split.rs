//! One range becomes two, while others are written to and read.
//!
//! ```text
//! leaseholder: freeze ─▶ quiet ─▶ directory: two ranges ─▶ Split into the log ─▶ applied ─▶ thaw
//! each replica: applied ─▶ bounds, descriptors, the right half's memory of commits ─▶ its group begins
//! ```
//! The leaseholder gives the right half up when it proposes, not when it has applied: another replica may
//! apply the split first, and lead the right half before this one hears of it. What it has read or given
//! out there so far is below its clock, which went with the proposal to whoever can lead the right half.
//!
//! For the same reason a frozen range isn't closed for followers ([`meridian_kv::closed`]).
//!
//! If the entry certainly isn't in the log, the directory is as it was. If nobody here can tell, because the
//! lease is lost, it is also: when the entry is applied after all, that sets it right again.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::keys::TABLE;
use meridian_base::{Instant, NodeId, RangeId, Span};
use meridian_kv::api::{Key, KvError, Timestamp};
use meridian_kv::range::{Descriptor, LogEntry, Sequencer, Split};

use crate::apply::Holds;
use crate::commit::{CommitError, CommitPipeline};
use crate::core::Core;
use crate::counters;
use crate::lease::Home;
use crate::locking::WaitLimits;
use crate::range::{Range, Shape};
use crate::remote::{Answer, Asked, Op, SplitAt};
use crate::replicas::Birth;
use crate::store::Store;

/// The counter of range numbers; the first range has the number 1.
const RANGE_COUNTER: &[u8] = b"range";
/// The first table of a user, number 1000: the system's keys stay together.
pub(crate) const FIRST_SPLIT_KEY: [u8; 5] = [TABLE, 0, 0, 0x03, 0xE8];
/// How long a range may be frozen until it is quiet: what is in flight lands in milliseconds, and
/// transactions over several ranges get their outcome. Writers wait meanwhile.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);
/// How long a split is tried: a change of members may take that.
const PATIENCE: Duration = Duration::from_secs(60);

/// A range, for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeInfo {
    /// Its number.
    pub id: RangeId,
    /// Its keys.
    pub span: Span,
    /// Who leads it, as far as this node knows.
    pub leaseholder: Option<NodeId>,
    /// Who has a replica, as far as this node knows.
    pub replicas: Vec<NodeId>,
    /// Bytes of keys and newest rows when its leaseholder measured it last; 0 = it hasn't, as far as this node
    /// has heard.
    pub bytes: u64,
}

/// What became of a split that was proposed.
enum Fate {
    Pending,
    /// It isn't in the log.
    Refused,
    /// The lease is lost.
    Left,
}

impl CommitPipeline {
    /// Nothing is sequenced from now on. Answers the term.
    fn freeze(&self) -> Result<u64, CommitError> {
        let mut ordered = self.ordered.lock();
        if let Some(reason) = &ordered.closed {
            return Err(reason.clone());
        }
        ordered.sequencer.freeze(true);
        Ok(ordered.term)
    }

    fn thaw(&self, term: u64) {
        let mut ordered = self.ordered.lock();
        if ordered.term == term && ordered.closed.is_none() {
            ordered.sequencer.freeze(false);
        }
    }

    /// Has everything landed that was sequenced in this term?
    fn is_quiet(&self, term: u64) -> Result<bool, CommitError> {
        let ordered = self.ordered.lock();
        if ordered.closed.is_some() || ordered.term != term {
            return Err(CommitError::Moved);
        }
        Ok(ordered.sequencer.quiet().is_ok() && ordered.queue.is_empty())
    }

    /// Queues the split of a quiet range.
    fn propose_split(&self, term: u64, mut split: Split) -> Result<(), CommitError> {
        let mut ordered = self.ordered.lock();
        let open = ordered.closed.is_none() && ordered.term == term;
        if !open || ordered.sequencer.quiet().is_err() || !ordered.queue.is_empty() {
            return Err(CommitError::Moved);
        }
        split.applied = ordered.sequencer.applied();
        ordered.queue.push_back(LogEntry::Split(Box::new(split)));
        drop(ordered);
        self.work.notify_one();
        Ok(())
    }

    fn fate(&self, term: u64) -> Fate {
        let ordered = self.ordered.lock();
        match ordered.closed.is_none() && ordered.term == term {
            false => Fate::Left,
            true if ordered.sequencer.is_frozen() => Fate::Pending,
            true => Fate::Refused,
        }
    }

    /// Begins where another range was when it split: commits there may be asked for here.
    fn inherit(&self, left: &CommitPipeline, applied: Timestamp) {
        let (outcomes, gc) = {
            let left = left.ordered.lock();
            (left.outcomes.clone(), left.sequencer.gc())
        };
        let mut ordered = self.ordered.lock();
        ordered.sequencer = Sequencer::new(applied, self.ring_len);
        ordered.sequencer.advance_gc(gc, None);
        ordered.outcomes = outcomes;
    }
}

/// A split has been applied to this node's replica: memory follows.
pub(crate) fn landed(core: &Core, left: &Arc<Range>, holds: &Holds, split: &Split) {
    let led = left.lease.here(&core.hlc).is_some();
    let replicas = core.replicas();
    let right = core.range_with(split.right.id);
    let lives = replicas.as_ref().is_some_and(|all| all.get(right.id).is_some());
    if !lives {
        right.pipeline.inherit(&left.pipeline, split.applied);
        right.reset_applied(split.applied);
        right.copy.begin(&left.copy);
    }
    holds.set(Some(Shape::of(&split.left)));
    // What it was asked is no measure of the half.
    left.pipeline.load.forget();
    let mut halves = vec![(Arc::clone(left), Shape::of(&split.left))];
    // The directory may know that it has split further.
    if right.shape().generation <= split.right.generation {
        halves.push((right, Shape::of(&split.right)));
    }
    core.ranges.put(halves);
    if let Some(replicas) = replicas.filter(|_| !lives) {
        replicas.born(Birth { right: split.right.clone(), led });
    }
}

fn unavailable(reason: &str) -> CommitError {
    KvError::Unavailable { reason: reason.into() }.into()
}

/// A number that no range has had.
async fn next_id(core: &Arc<Core>) -> Result<RangeId, KvError> {
    let number = loop {
        match counters::increment(core, RANGE_COUNTER, 1).await {
            Ok(number) => break number,
            // A number may be left out.
            Err(KvError::Ambiguous) => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(error),
        }
    };
    let used_up = |_| KvError::Storage { reason: "all range numbers are used up".into() };
    Ok(RangeId(u64::try_from(number).map_err(used_up)? + 1))
}

/// Thaws a range that doesn't split after all.
struct Thaw<'a>(&'a Range, u64);

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        self.0.pipeline.thaw(self.1);
    }
}

impl Core {
    /// Splits the range of a key there; this node leads it. Answers the right half, which is the range itself
    /// if it begins there.
    pub(crate) async fn split_here(self: &Arc<Self>, at: &Key) -> Result<RangeId, CommitError> {
        let range = Arc::clone(&self.range_of(at));
        let before = range.shape();
        if before.span.start == *at {
            return Ok(range.id);
        }
        let moved = || CommitError::Moved;
        let replicas = self.replicas().ok_or_else(moved)?;
        let replica = replicas.get(range.id).ok_or_else(moved)?;
        // Members come and go: later.
        let claim = replicas.claim(range.id).ok_or_else(moved)?;
        let voters = replica.settled(self.node).ok_or_else(moved)?;
        let id = next_id(self).await?;
        if range.pipeline.has_holds() {
            return Err(unavailable("the range has locks of a prepared transaction"));
        }
        let term = range.pipeline.freeze()?;
        let thaw = Thaw(&range, term);
        let since = Instant::now();
        while !range.pipeline.is_quiet(term)? {
            if since.elapsed() > QUIET_MAX {
                return Err(unavailable("the range has transactions without an outcome"));
            }
            tokio::time::sleep(LOOK).await;
        }
        let half = |id, start: &Key, end: &Key| {
            let span = Span { start: start.clone(), end: end.clone() };
            let generation = before.generation + 1;
            Descriptor { id, span, generation, replicas: voters.clone() }
        };
        let split = Split {
            left: half(range.id, &before.span.start, at),
            right: half(id, at, &before.span.end),
            applied: Timestamp::MIN,
        };
        if range.shape() != before || !before.span.contains(at) {
            return Err(CommitError::Moved);
        }
        // From here on it is the entry's end that thaws, and nobody gives up waiting for it.
        std::mem::forget(thaw);
        let (core, range) = (Arc::clone(self), Arc::clone(&range));
        let rest = tokio::spawn(async move {
            let ended = core.finish_split(&range, term, &before, split, &replica.holds).await;
            drop(claim);
            ended
        });
        rest.await.unwrap_or(Err(CommitError::Moved)).map(|()| id)
    }

    /// Proposes a split and waits for its end.
    async fn finish_split(
        &self,
        range: &Arc<Range>,
        term: u64,
        before: &Shape,
        split: Split,
        holds: &Holds,
    ) -> Result<(), CommitError> {
        let generation = split.left.generation;
        let right = self.range_with(split.right.id);
        let halves = || {
            let left = (Arc::clone(range), Shape::of(&split.left));
            vec![left, (Arc::clone(&right), Shape::of(&split.right))]
        };
        self.ranges.put(halves());
        let proposed = range.pipeline.propose_split(term, split.clone());
        if proposed.is_ok() {
            loop {
                let fate = range.pipeline.fate(term);
                // What landed was noted before it thawed.
                if holds.has_reached(generation) {
                    return Ok(());
                }
                if !matches!(fate, Fate::Pending) {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        self.ranges.put(vec![(Arc::clone(range), before.clone())]);
        range.pipeline.thaw(term);
        if holds.has_reached(generation) {
            self.ranges.put(halves());
            return Ok(());
        }
        Err(CommitError::Moved)
    }
}

impl Store {
    /// Has a range begin at a key of a user's table; answers its number.
    ///
    /// # Errors
    /// The key is the system's; nobody leads the range; its members are being changed for too long.
    pub async fn split_at(&self, key: Key) -> Result<RangeId, KvError> {
        if key[..] < FIRST_SPLIT_KEY[..] {
            let reason = "the system's keys stay in one range".to_owned();
            return Err(KvError::Unavailable { reason });
        }
        let (core, limits) = (Arc::clone(self.core()), WaitLimits::default());
        let since = Instant::now();
        loop {
            let asked = Op::Split(SplitAt { key: key.clone() });
            let tried = match core.ask(&key, asked, &limits).await? {
                Asked::Here => core.split_here(&key).await,
                Asked::Answer(Answer::Number(id)) => {
                    return Ok(RangeId(u64::try_from(id).unwrap_or(0)));
                }
                Asked::Answer(_) => Err(CommitError::Moved),
            };
            match tried {
                Ok(id) => return Ok(id),
                Err(CommitError::Refused(error)) => return Err(error),
                Err(CommitError::Moved | CommitError::Unknown(_)) => {}
            }
            if since.elapsed() > PATIENCE {
                return Err(KvError::Unavailable {
                    reason: "the range's members are changing".into(),
                });
            }
            tokio::time::sleep(10 * LOOK).await;
        }
    }

    /// All ranges, as this node knows them.
    pub fn ranges(&self) -> Vec<RangeInfo> {
        let core = Arc::clone(self.core());
        let info = |(range, span): (Arc<Range>, Span)| {
            let leaseholder = match range.lease.home(core.node, &core.hlc) {
                Home::Here(_) => Some(core.node),
                Home::There(node) => Some(node),
                Home::Nowhere => None,
            };
            let replicas = core.members_of(range.id);
            let replica = core.replicas().and_then(|all| all.get(range.id));
            let measured = replica.and_then(|replica| replica.measured.lock().clone());
            let reported = || core.cluster().map_or(0, |all| all.figures(range.id).bytes);
            let bytes = measured.map_or_else(reported, |measured| measured.bytes);
            RangeInfo { id: range.id, span, leaseholder, replicas, bytes }
        };
        core.ranges.spans().into_iter().map(info).collect()
    }
}
