//! The end of a transaction.
//!
//! A commit goes to the leaseholder, which may be here, elsewhere, or move meanwhile. It is tried again
//! only when the last try certainly came to nothing; when that can't be told, the next leaseholder is
//! asked, and if it can't tell either, the client hears 40003.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meridian_base::NodeId;
use meridian_base::limits::ENTRY_BYTES_MAX;
use meridian_kv::api::{Key, KvError, Span, Strength, Timestamp, TxnId, WaitPolicy};
use meridian_kv::range::{CommitRequest, Gateway, Header, Newest, Origin, Verify};
use meridian_kv::run::Run;
use meridian_kv::txn::{VersionTag, Write};

use super::{LockedIn, Snapshot, Txn};
use crate::commit::{CommitError, Locks, NotTaken, Outcome, Submission};
use crate::lease::Home;
use crate::range::Range;
use crate::remote::Search;

/// What is to be committed, kept until it has been.
pub(crate) struct Changes {
    pub(crate) writes: Vec<Write>,
    pub(crate) runs: Vec<Arc<Run>>,
    /// Written keys that aren't locked strongly enough.
    pub(crate) unlocked: BTreeSet<Key>,
    /// Keys that are locked but not written.
    pub(crate) verify: Vec<Verify>,
}

impl Changes {
    /// One of the keys.
    pub(crate) fn any_key(&self) -> Option<Key> {
        let written = self.writes.first().map(|write| write.key.clone());
        written.or_else(|| Some(self.runs.first()?.shared_key(0)))
    }

    /// Do all of them lie there?
    fn lie_in(&self, span: &Span) -> bool {
        let written = self.writes.iter().map(|write| &write.key[..]);
        let rows = self.runs.iter().flat_map(|run| [run.first(), run.last()]);
        let mut keys = written.chain(rows).chain(self.verify.iter().map(|locked| &locked.key[..]));
        keys.all(|key| span.contains(key))
    }
}

/// How long a commit may be on its way before it is refused.
const ON_THE_WAY: Duration = Duration::from_secs(60);

/// One try to commit. Its name is never used again, so that its outcome can be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try {
    pub(crate) id: TxnId,
    pub(crate) sent: Timestamp,
    pub(crate) deadline: Timestamp,
}

impl Try {
    pub(crate) fn new(id: u64, sent: Timestamp) -> Try {
        let micros = u64::try_from(ON_THE_WAY.as_micros()).unwrap_or(u64::MAX);
        let deadline = Timestamp::from_micros(sent.micros().saturating_add(micros));
        Try { id: TxnId(id), sent, deadline }
    }

    /// How the range where `key` lies finds it.
    pub(crate) fn header(&self, key: Key) -> Header {
        let node = NodeId(self.id.node() + 1);
        Header {
            txn: self.id,
            gateway: Gateway { node, epoch: 0 },
            deadline: self.deadline,
            expiry: self.deadline,
            participants: Arc::from([key]),
        }
    }
}

/// So often a commit is tried again that was overtaken by its deadline: by a guard's, when much is to be sent.
const LATE_MAX: u32 = 8;

impl Txn {
    /// Makes the writes durable and visible, all at one timestamp, and gives back the row locks. On
    /// an error everything is rolled back, except after [`KvError::Ambiguous`].
    pub async fn commit(&mut self) -> Result<Timestamp, KvError> {
        if self.state.is_read_only() {
            let ts = self.state.read_ts();
            self.end();
            return Ok(ts);
        }
        let outcome = self.commit_writes().await;
        self.end();
        outcome
    }

    async fn commit_writes(&mut self) -> Result<Timestamp, KvError> {
        self.state.check_size()?;
        let behalf = self.behalf.as_mut().map(|behalf| std::mem::take(&mut behalf.writes));
        if !self.core.alone || !self.core.ranges.is_single() || behalf.is_some() {
            let unlocked = self.state.unlocked_writes().into_iter().collect();
            let mut changes = self.take_changes(unlocked);
            if let Some(mut writes) = behalf {
                changes.writes.append(&mut writes);
                changes.writes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
            }
            return Box::pin(self.commit_somewhere(changes)).await;
        }
        let mut changes = self.lock_and_take().await?;
        match self.commit_here(self.core.ranges.first().clone(), &mut changes, None).await {
            Ok(ts) => Ok(ts),
            Err(CommitError::Refused(error)) => Err(error),
            // The range is splitting, or has split.
            Err(CommitError::Moved) if changes.any_key().is_some() => {
                Box::pin(self.commit_somewhere(changes)).await
            }
            // What was to be written isn't known here any more.
            Err(CommitError::Moved) => Err(KvError::CONCURRENT_UPDATE),
            Err(CommitError::Unknown(_)) => Err(KvError::Ambiguous),
        }
    }

    /// Locks what isn't locked yet, here, and takes the changes out of the buffer.
    async fn lock_and_take(&mut self) -> Result<Changes, KvError> {
        for key in self.state.unlocked_writes() {
            self.lock_unseen(&key).await?;
        }
        Ok(self.take_changes(BTreeSet::new()))
    }

    /// Locks a key here that was written without a look at it, and looks at it. Answers its version.
    async fn lock_unseen(&mut self, key: &Key) -> Result<Timestamp, KvError> {
        self.acquire_row(key, Strength::Update, WaitPolicy::Block).await?;
        let newest = self.core.read.newest(key)?.map_or(Timestamp::MIN, |found| found.ts);
        if self.state.conflicts_with(newest) {
            return Err(KvError::CONCURRENT_UPDATE);
        }
        self.state.note_newest(key, newest);
        Ok(newest)
    }

    pub(super) fn take_changes(&mut self, unlocked: BTreeSet<Key>) -> Changes {
        let whole = self.core.alone && self.core.ranges.is_single();
        let verify = if whole { Vec::new() } else { self.state.locked_only() };
        let runs = self.state.take_runs(ENTRY_BYTES_MAX);
        Changes { writes: self.state.take_writes(), runs, unlocked, verify }
    }

    /// Commits in a range that this node leads. What was certainly not sequenced is in `changes` again, and
    /// its locks are kept.
    async fn commit_here(
        &mut self,
        range: Arc<Range>,
        changes: &mut Changes,
        origin: Option<Origin>,
    ) -> Outcome {
        let owner = self.state.owner();
        // The locks leave the state under the sequencer's mutex, when the commit is sure to fly.
        let rows = self.state.take_locks();
        let mut locks = Locks { rows, runs: std::mem::take(&mut self.claimed) };
        let request = CommitRequest {
            isolation: self.state.isolation(),
            read_ts: self.state.read_ts(),
            writes: std::mem::take(&mut changes.writes),
            runs: std::mem::take(&mut changes.runs),
            reads: self.state.reads(),
            origin,
        };
        let submission = Submission { request, owner };
        let core = &self.core;
        let flying = range.pipeline.submit(core, submission, || std::mem::take(&mut locks));
        let outcome = match flying {
            Ok(outcome) => outcome,
            Err(NotTaken { error, submission }) => {
                if let Some(submission) = submission {
                    let CommitRequest { writes, runs, .. } = submission.request;
                    (changes.writes, changes.runs) = (writes, runs);
                }
                if error == CommitError::Moved {
                    // It will be tried again, perhaps in the same range.
                    self.state.put_back(locks.rows);
                    self.claimed = locks.runs;
                } else {
                    locks.release(core, owner);
                }
                return Err(error);
            }
        };
        // A batcher that is gone took the outcome with it.
        outcome.await.unwrap_or_else(|_| Err(CommitError::Unknown("cut off".into())))
    }

    /// Commits at the leaseholder, wherever that is by then.
    async fn commit_somewhere(&mut self, mut changes: Changes) -> Result<Timestamp, KvError> {
        let limits = self.limits.clone();
        let mut search = Search::new(&limits);
        let mut id = self.state.owner().id;
        self.fresh = false;
        let mut late = 0;
        while late < LATE_MAX {
            let formed_until = self.formed_until().await?;
            let mut this = Try::new(id, self.core.hlc.now());
            if self.commit_before <= this.sent {
                break;
            }
            let until = self.tables_locked_until()?.min(self.commit_before);
            this.deadline = this.deadline.min(until);
            let range = self.range_of_changes(&changes);
            if range.is_some() {
                this.deadline = this.deadline.min(formed_until);
            }
            let outcome = match range {
                None => self.commit_over(&mut changes, this).await,
                Some(range) => match range.lease.home(self.core.node, &self.core.hlc) {
                    Home::Here(epoch) => {
                        self.commit_copy_here(range, &mut changes, this, epoch).await
                    }
                    Home::There(node) => self.commit_there(&changes, this, node).await,
                    Home::Nowhere => Err(CommitError::Moved),
                },
            };
            match outcome {
                Ok(ts) => return Ok(ts),
                Err(CommitError::Refused(error)) => return Err(error),
                Err(CommitError::Moved) => {}
                Err(CommitError::Unknown(reason)) if self.core.alone => {
                    tracing::error!(%reason, "what became of a commit is not known");
                    return Err(KvError::Ambiguous);
                }
                Err(CommitError::Unknown(_)) => {
                    if let Some(ts) = self.settle(&changes, this).await? {
                        return Ok(ts);
                    }
                }
            }
            late += u32::from(this.deadline <= self.core.hlc.now());
            id = self.core.next_txn_id();
            search.pause().await?;
        }
        Err(KvError::Unavailable { reason: "the commit took too long".into() })
    }

    /// The range in which all that a commit is about lies; `None`: there are several.
    fn range_of_changes(&self, changes: &Changes) -> Option<Arc<Range>> {
        if self.behalf.is_some() {
            // A part of a commit needs no locks of its own.
            return None;
        }
        if self.core.ranges.is_single() {
            return Some(Arc::clone(self.core.first()));
        }
        let range = Arc::clone(&self.core.range_of(&changes.any_key()?));
        let span = range.span();
        let reads = self.state.reads();
        let inside = changes.lie_in(&span) && reads.is_none_or(|reads| reads.is_within(&span));
        inside.then_some(range)
    }

    /// As [`Txn::commit_here`], keeping the changes for another try.
    async fn commit_copy_here(
        &mut self,
        range: Arc<Range>,
        changes: &mut Changes,
        this: Try,
        epoch: u64,
    ) -> Outcome {
        for key in std::mem::take(&mut changes.unlocked) {
            let newest = self.lock_unseen(&key).await?;
            let at = changes.writes.binary_search_by(|write| write.key.cmp(&key));
            if let Ok(at) = at {
                changes.writes[at].expect = VersionTag::Newest(newest);
            }
        }
        let mut leases = self.locked_in.iter();
        let other = |lease: &LockedIn| (lease.range, lease.epoch) != (range.id, epoch);
        let lost = self.locks_lost || leases.any(other);
        if lost {
            // As long as the commit is on its way nobody else may get them.
            self.lock_writes_again(&changes.writes).await?;
            for run in &changes.runs {
                self.claim_again(run, &changes.writes).await?;
            }
        }
        let Try { id, sent, deadline } = this;
        let verify = if lost { changes.verify.clone() } else { Vec::new() };
        // A node alone has nobody to ask, keeps its locks, and begins to count anew at each start.
        let named = !self.core.alone;
        let origin = named.then_some(Origin { txn: id, sent, deadline, verify });
        let mut copy = Changes {
            writes: changes.writes.clone(),
            runs: changes.runs.clone(),
            unlocked: BTreeSet::new(),
            verify: Vec::new(),
        };
        let fenced = self.fenced();
        let _passing = match self.core.cluster() {
            Some(cluster) => cluster.pass_fence(&range, fenced.as_ref())?,
            None => None,
        };
        self.commit_here(range, &mut copy, origin).await
    }

    pub(super) fn end(&mut self) {
        self.state.discard_writes();
        self.marks.clear();
        self.release_rows();
        self.leave_snapshot(Snapshot::Ended);
    }

    /// Gives back all row locks, wherever they are.
    pub(super) fn release_rows(&mut self) {
        let owner = self.state.owner();
        let (rows, runs) = (self.state.take_locks(), std::mem::take(&mut self.claimed));
        Locks { rows, runs }.release(&self.core, owner);
        self.sent.clear();
        if !self.lodgings.is_empty()
            && let Some(cluster) = self.core.cluster()
        {
            self.lodgings.drain(..).for_each(|node| cluster.end_at(node, owner));
        }
    }
}
