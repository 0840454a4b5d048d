//! The end of a transaction.
//!
//! A commit goes to the leaseholder, which may be here, elsewhere, or move meanwhile. It is tried again
//! only when the last try certainly came to nothing; when that can't be told, the next leaseholder is
//! asked, and if it can't tell either, the client hears 40003.

use std::collections::BTreeSet;
use std::sync::Arc;

use meridian_base::limits::ENTRY_BYTES_MAX;
use meridian_kv::api::{Key, KvError, Strength, Timestamp, WaitPolicy};
use meridian_kv::range::{CommitRequest, Newest};
use meridian_kv::run::Run;
use meridian_kv::txn::{VersionTag, Write};

use super::{Snapshot, Txn};
use crate::commit::{CommitError, Locks, Outcome, Submission};
use crate::lease::Home;
use crate::remote::Search;

/// What is to be committed, kept until it has been.
pub(crate) struct Changes {
    pub(crate) writes: Vec<Write>,
    pub(crate) runs: Vec<Arc<Run>>,
    /// Written keys that aren't locked strongly enough.
    pub(crate) unlocked: BTreeSet<Key>,
    /// Keys are locked that aren't written.
    pub(crate) locks_more: bool,
}

impl Changes {
    /// A key that tells whether the commit was made, with the version that it was to replace.
    pub(crate) fn witness(&self) -> Option<(Key, Option<Timestamp>)> {
        let tagged = |write: &Write| match write.expect {
            VersionTag::Newest(ts) if !self.unlocked.contains(&write.key) => Some(ts),
            _ => None,
        };
        let known = self.writes.iter().find(|write| tagged(write).is_some());
        match known.or(self.writes.first()) {
            Some(write) => Some((write.key.clone(), tagged(write))),
            None => Some((self.runs.first()?.shared_key(0), None)),
        }
    }
}

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
        if self.core.alone {
            let changes = self.lock_and_take().await?;
            return match self.commit_here(changes).await {
                Ok(ts) => Ok(ts),
                Err(CommitError::Refused(error)) => Err(error),
                Err(CommitError::Moved | CommitError::Unknown(_)) => Err(KvError::Ambiguous),
            };
        }
        Box::pin(self.commit_somewhere()).await
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

    fn take_changes(&mut self, unlocked: BTreeSet<Key>) -> Changes {
        let locks_more = self.state.locks_more_than_it_writes();
        let runs = self.state.take_runs(ENTRY_BYTES_MAX);
        Changes { writes: self.state.take_writes(), runs, unlocked, locks_more }
    }

    async fn commit_here(&mut self, changes: Changes) -> Outcome {
        let owner = self.state.owner();
        // The locks leave the state under the sequencer's mutex, when the commit is sure to fly.
        let rows = self.state.take_locks();
        let mut locks = Locks { rows, runs: std::mem::take(&mut self.claimed) };
        let request = CommitRequest {
            isolation: self.state.isolation(),
            read_ts: self.state.read_ts(),
            writes: changes.writes,
            runs: changes.runs,
            reads: self.state.reads(),
        };
        let submission = Submission { request, owner };
        let core = &self.core;
        let flying = core.pipeline.submit(core, submission, || std::mem::take(&mut locks));
        let outcome = match flying {
            Ok(outcome) => outcome,
            Err(error) => {
                locks.release(core, owner);
                return Err(error);
            }
        };
        // A batcher that is gone took the outcome with it.
        outcome.await.unwrap_or_else(|_| Err(CommitError::Unknown("cut off".into())))
    }

    /// Commits at the leaseholder, wherever that is by then.
    async fn commit_somewhere(&mut self) -> Result<Timestamp, KvError> {
        let unlocked = self.state.unlocked_writes().into_iter().collect();
        let mut changes = self.take_changes(unlocked);
        let limits = self.limits.clone();
        let mut search = Search::new(&limits);
        loop {
            let outcome = match self.core.lease.home(self.core.node, &self.core.hlc) {
                Home::Here(term) => self.commit_copy_here(&mut changes, term).await,
                Home::There(node) => self.commit_there(&changes, node).await,
                Home::Nowhere => Err(CommitError::Moved),
            };
            match outcome {
                Ok(ts) => return Ok(ts),
                Err(CommitError::Refused(error)) => return Err(error),
                Err(CommitError::Moved) => {}
                Err(CommitError::Unknown(_)) => {
                    if let Some(ts) = self.settle(&changes).await? {
                        return Ok(ts);
                    }
                }
            }
            self.attempt += 1;
            search.pause().await?;
        }
    }

    /// As [`Txn::commit_here`], keeping the changes for another try.
    async fn commit_copy_here(&mut self, changes: &mut Changes, term: u64) -> Outcome {
        if self.locked_in.is_some_and(|locked| locked != term) {
            self.locks_lost = true;
        }
        if self.locks_lost && changes.locks_more {
            // Rows that were locked for others' sake went unprotected.
            return Err(KvError::CONCURRENT_UPDATE.into());
        }
        for key in std::mem::take(&mut changes.unlocked) {
            let newest = self.lock_unseen(&key).await?;
            let at = changes.writes.binary_search_by(|write| write.key.cmp(&key));
            if let Ok(at) = at {
                changes.writes[at].expect = VersionTag::Newest(newest);
            }
        }
        let copy = Changes {
            writes: changes.writes.clone(),
            runs: changes.runs.clone(),
            unlocked: BTreeSet::new(),
            locks_more: changes.locks_more,
        };
        self.commit_here(copy).await
    }

    pub(super) fn end(&mut self) {
        self.state.discard_writes();
        self.marks.clear();
        let owner = self.state.owner();
        let (rows, runs) = (self.state.take_locks(), std::mem::take(&mut self.claimed));
        Locks { rows, runs }.release(&self.core, owner);
        self.sent.clear();
        if let Some(node) = self.lodging.take()
            && let Some(cluster) = self.core.cluster()
        {
            cluster.end_at(node, owner);
        }
        self.leave_snapshot(Snapshot::Ended);
    }
}
