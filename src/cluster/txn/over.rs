//! A commit over several ranges, as its transaction sees it: all locks first, then a plan, then a coordinator
//! of its own.
//!
//! Nothing that a range has prepared ever waits for a lock, so no two commits wait for each other. A plan
//! that turns out to be old, since a range has split, is given up; the next try has another name.

use std::sync::Arc;

use meridian_kv::api::{Key, KvError, Strength, Timestamp, WaitPolicy};
use meridian_kv::commit::{Part, Verdict, plan, requests};
use meridian_kv::txn::{ReadSet, VersionTag, Write};

use super::{Changes, Try, Txn};
use crate::commit::{CommitError, Locks, Outcome};
use crate::coordinator::{Coordinators, Ended, Given};

/// Most bytes that one range's part may have: it is one entry of the log, and so is its end, which has the
/// superseded rows besides.
const PART_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a write costs beside its bytes, about.
const WRITE_OVERHEAD_BYTES: usize = 22;

impl Changes {
    /// Turns rows in bulk into single writes: a record has no others. Their keys were found to be free.
    pub(super) fn spread_runs(&mut self) {
        let runs = std::mem::take(&mut self.runs);
        let mut rows = Vec::new();
        for run in &runs {
            for at in 0..run.len() {
                let key = run.key(at);
                // What the buffer has of a row is newer.
                if self.writes.binary_search_by(|write| write.key[..].cmp(key)).is_err() {
                    let (key, value) = (run.shared_key(at), Some(run.row(at)));
                    rows.push(Write { key, value, expect: VersionTag::Absent });
                }
            }
        }
        if !rows.is_empty() {
            self.writes.append(&mut rows);
            self.writes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        }
    }
}

fn check_size(part: &Part) -> Result<(), KvError> {
    let bytes = |write: &Write| {
        WRITE_OVERHEAD_BYTES + write.key.len() + write.value.as_ref().map_or(0, |row| row.len())
    };
    match part.writes.iter().map(bytes).sum::<usize>() > PART_BYTES_MAX {
        true => Err(KvError::TransactionTooLarge { limit_bytes: PART_BYTES_MAX }),
        false => Ok(()),
    }
}

impl Txn {
    /// Commits in several ranges at once, or not at all. [`CommitError::Moved`]: certainly not, and it may be
    /// tried again under another name.
    pub(super) async fn commit_over(&mut self, changes: &mut Changes, this: Try) -> Outcome {
        if self.behalf.is_none() && (self.locks_lost || self.leases_have_moved()) {
            // Nothing is prepared yet: now it may wait for who has got them.
            self.locks_lost = true;
            self.regain_locks().await?;
        }
        for key in std::mem::take(&mut changes.unlocked) {
            let newest = self.lock_to_write(&key).await?;
            let at = changes.writes.binary_search_by(|write| write.key.cmp(&key));
            if let Ok(at) = at {
                changes.writes[at].expect = VersionTag::Newest(newest);
            }
        }
        changes.spread_runs();
        let spans: Vec<_> = self.core.ranges.spans().into_iter().map(|(_, span)| span).collect();
        let nothing = ReadSet::default();
        let reads = self.state.reads().unwrap_or(&nothing);
        let parts = plan(changes.writes.clone(), changes.verify.clone(), reads, &spans);
        parts.iter().try_for_each(check_size)?;

        let participants: Arc<[Key]> = parts.iter().map(|part| part.key.clone()).collect();
        let header = self.core.coordinators.header(&self.core, &this, participants);
        let (isolation, read_ts) = (self.state.isolation(), self.state.read_ts());
        let mut requests = requests(&header, isolation, read_ts, parts);
        let behalf = self.behalf.as_ref().map(|behalf| behalf.hold);
        requests.iter_mut().for_each(|request| request.behalf = behalf);
        let given = self.give_locks();
        let told = Coordinators::begin(&self.core, requests, Arc::clone(&given));
        match told.await {
            Ok(Ended::Told(Verdict::Committed(ts))) => Ok(ts),
            Ok(Ended::Told(Verdict::Failed(error))) => Err(error.into()),
            Ok(Ended::Told(Verdict::Ambiguous)) | Err(_) => Err(KvError::Ambiguous.into()),
            Ok(Ended::Anew) => {
                let Locks { rows, runs } = given.take_back();
                self.state.put_back(rows);
                self.claimed = runs;
                self.locks_lost = true;
                Err(CommitError::Moved)
            }
        }
    }

    /// Locks a key that was written without a look at it, wherever it is, and looks at it.
    pub(super) async fn lock_to_write(&mut self, key: &Key) -> Result<Timestamp, KvError> {
        self.lock(key, Strength::Update, WaitPolicy::Block).await?;
        let newest = self.state.locked(key).map_or(Timestamp::MIN, |locked| locked.newest);
        if self.state.conflicts_with(newest) {
            return Err(KvError::CONCURRENT_UPDATE);
        }
        Ok(newest)
    }

    /// The row locks leave the transaction: each range takes its own over when it has prepared.
    pub(super) fn give_locks(&mut self) -> Arc<Given> {
        let rows = self.state.take_locks();
        let locks = Locks { rows, runs: std::mem::take(&mut self.claimed) };
        let leases = match self.locks_lost {
            true => Vec::new(),
            false => self.locked_in.iter().map(|lock| (lock.range, lock.epoch)).collect(),
        };
        Given::new(&self.core, self.state.owner(), locks, leases, self.fenced(), self.formed)
    }
}
