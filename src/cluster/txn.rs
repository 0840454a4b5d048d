//! A transaction: reads at its snapshot, locks, a write buffer, one commit.
//!
//! Reads are synchronous: a snapshot holds no write in flight, so there is nothing to wait for.
//! Locks and commit are async; a free lock is granted without a suspension.
//!
//! Row locks end with commit or rollback. Table locks stay until [`Txn::release_locks`] (or drop), so
//! that DDL can publish its catalog between the commit and the moment others may use the table.
//! Dropping a transaction rolls it back; a commit that has been submitted goes on without it.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::limits::ENTRY_BYTES_MAX;
use meridian_kv::api::{
    Bytes, Isolation, Key, KvError, Span, Strength, TableLockMode, Timestamp, WaitPolicy,
};
use meridian_kv::locks::{AdvisoryKey, AdvisoryMode, LockMode, ModeSet, Owner};
use meridian_kv::range::{CommitRequest, Newest};
use meridian_kv::run::Run;
use meridian_kv::txn::{SavepointId, TxnState};

use crate::CancelToken;
use crate::advisory::Level;
use crate::commit::{Locks, Submission};
use crate::core::Core;
use crate::locking::{Acquired, WaitLimits};
use crate::scan::Scan;
use crate::snapshots::SnapshotSlot;

/// How a transaction begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxnOptions {
    /// Its level; READ COMMITTED by default.
    pub isolation: Isolation,
    /// Declared READ ONLY; the session refuses writes, this layer only remembers it.
    pub read_only: bool,
    /// The session's process id, for deadlock reports, `pg_locks` and advisory locks; 0 = none.
    pub backend: u32,
    /// The session's database, to which its advisory locks belong.
    pub database: u32,
}

/// The answer to a request for a row lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locked {
    /// Locked by somebody else, and the policy was [`WaitPolicy::Skip`].
    Skipped,
    /// Held. READ COMMITTED runs its statement again when `changed`; higher levels raise 40001.
    Held {
        /// The newest committed row with its version, or this transaction's own buffered row;
        /// `None` when there is no row.
        newest: Option<(Timestamp, Bytes)>,
        /// Is the newest version (a deletion, too) above this transaction's snapshot?
        changed: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    savepoint: SavepointId,
    tables: usize,
    advisory: usize,
    claimed: usize,
}

/// A transaction on a store.
pub struct Txn {
    pub(crate) core: Arc<Core>,
    pub(crate) state: TxnState,
    /// Runs whose keys are locked.
    pub(crate) claimed: Vec<Arc<Run>>,
    /// Registered with garbage collection; `None` once the transaction has ended.
    snapshot: Option<SnapshotSlot>,
    read_only: bool,
    limits: WaitLimits,
    tables: Vec<(u32, TableLockMode, ModeSet)>,
    advisory: Vec<(AdvisoryKey, AdvisoryMode)>,
    marks: Vec<Mark>,
}

impl Txn {
    pub(crate) fn begin(core: Arc<Core>, options: TxnOptions) -> Txn {
        let snapshot = core.snapshots.enter(|| core.applied());
        let owner = Owner::transaction(core.next_txn_id(), options.backend);
        Txn {
            state: TxnState::new(owner, options.isolation, snapshot.ts()),
            snapshot: Some(snapshot),
            read_only: options.read_only,
            limits: WaitLimits { database: options.database, ..WaitLimits::default() },
            tables: Vec::new(),
            advisory: Vec::new(),
            marks: Vec::new(),
            claimed: Vec::new(),
            core,
        }
    }

    /// Starts a statement. READ COMMITTED takes a new snapshot; the others keep their first.
    pub fn begin_statement(&mut self) {
        if self.state.isolation() != Isolation::ReadCommitted {
            return;
        }
        if let Some(snapshot) = &mut self.snapshot {
            self.core.snapshots.renew(snapshot, || self.core.applied());
            self.state.begin_statement(snapshot.ts());
        }
    }

    /// The snapshot that reads use now.
    pub fn read_ts(&self) -> Timestamp {
        self.state.read_ts()
    }

    /// The isolation level.
    pub fn isolation(&self) -> Isolation {
        self.state.isolation()
    }

    /// Was it declared READ ONLY?
    pub fn declared_read_only(&self) -> bool {
        self.read_only
    }

    /// Has it written nothing so far?
    pub fn is_read_only(&self) -> bool {
        self.state.is_read_only()
    }

    /// Its number, as in lock views and deadlock reports (`txid_current()`).
    pub fn id(&self) -> u64 {
        self.state.owner().id
    }

    /// Bytes of buffered writes, about.
    pub fn buffered_bytes(&self) -> usize {
        self.state.buffer_bytes()
    }

    /// What stops this transaction's waits.
    pub fn set_cancel(&mut self, cancel: CancelToken) {
        self.limits.cancel = Some(cancel);
    }

    /// The longest wait for one lock; `None` = for ever.
    pub fn set_lock_timeout(&mut self, timeout: Option<Duration>) {
        self.limits.timeout = timeout;
    }

    /// The row of a key at the snapshot, own writes first.
    #[inline]
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        if let Some(own) = self.state.own(key) {
            return Ok(own);
        }
        self.state.note_read(key);
        self.core.read.get(key, self.state.read_ts())
    }

    /// The rows of a span at the snapshot, own writes so far included.
    pub fn scan(&mut self, span: Span, reverse: bool) -> Result<Scan, KvError> {
        self.state.note_scan(&span);
        let mut own = self.state.own_span(&span);
        if reverse {
            own.reverse();
        }
        Ok(Scan::new(&self.core, &span, own, reverse, self.state.read_ts()))
    }

    /// Locks a key, present or absent, and reads its newest version under the lock.
    pub async fn lock(
        &mut self,
        key: &[u8],
        strength: Strength,
        wait: WaitPolicy,
    ) -> Result<Locked, KvError> {
        let held = self.state.locked(key).map_or(0, |locked| locked.modes);
        if !strength.covered_by(held) && !self.acquire_row(key, strength, wait).await? {
            return match wait {
                WaitPolicy::Skip => Ok(Locked::Skipped),
                WaitPolicy::NoWait | WaitPolicy::Block => Err(KvError::LockNotAvailable),
            };
        }
        self.read_locked(key)
    }

    /// Takes the lock; false when it isn't free and the policy is not to wait.
    pub(crate) async fn acquire_row(
        &mut self,
        key: &[u8],
        strength: Strength,
        wait: WaitPolicy,
    ) -> Result<bool, KvError> {
        if self.claimed.iter().any(|run| run.find(key).is_some()) {
            return Ok(true);
        }
        let key = Key::copy_from_slice(key);
        let before = match self.core.locks.try_row(&key, self.state.owner(), strength, wait) {
            Ok(Acquired::Granted { before }) => before,
            Ok(Acquired::Reentrant) => return Ok(true),
            Ok(Acquired::Unavailable) => return Ok(false),
            Err(queued) => queued.wait(&self.limits).await?,
        };
        self.state.note_lock(&key, strength, before);
        Ok(true)
    }

    fn read_locked(&mut self, key: &[u8]) -> Result<Locked, KvError> {
        let read_ts = self.state.read_ts();
        if let Some(own) = self.state.own(key) {
            return Ok(Locked::Held { newest: own.map(|row| (read_ts, row)), changed: false });
        }
        self.state.note_read(key);
        let Some(version) = self.core.read.newest(key)? else {
            self.state.note_newest(key, Timestamp::MIN);
            return Ok(Locked::Held { newest: None, changed: false });
        };
        self.state.note_newest(key, version.ts);
        let newest = version.row.map(|row| (version.ts, row));
        Ok(Locked::Held { newest, changed: version.ts > read_ts })
    }

    /// Buffers a row; own reads see it at once, others after the commit.
    pub fn put(&mut self, key: Key, row: Bytes) {
        self.state.put(key, Some(row));
    }

    /// Buffers a deletion.
    pub fn delete(&mut self, key: Key) {
        self.state.put(key, None);
    }

    /// Sets a savepoint.
    pub fn savepoint(&mut self) -> SavepointId {
        let savepoint = self.state.savepoint();
        let (tables, advisory) = (self.tables.len(), self.advisory.len());
        let claimed = self.claimed.len();
        self.marks.push(Mark { savepoint, tables, advisory, claimed });
        savepoint
    }

    /// Undoes all writes and gives back all locks since the savepoint, which stays.
    pub fn rollback_to(&mut self, savepoint: SavepointId) {
        let Some(at) = self.marks.iter().position(|mark| mark.savepoint == savepoint) else {
            debug_assert!(false, "the session knows its savepoints");
            return;
        };
        let (core, owner) = (&self.core, self.state.owner());
        for run in self.claimed.drain(self.marks[at].claimed..) {
            core.locks.release_run(owner, &run);
        }
        let found = self.state.rollback_to(savepoint, |key, remains| {
            core.locks.release_row(key, owner, remains);
        });
        debug_assert!(found, "marks and savepoints agree");
        self.marks.truncate(at + 1);
        let mark = self.marks[at];
        self.release_tables(mark.tables);
        self.release_advisory(mark.advisory);
    }

    /// Forgets a savepoint and those after it, keeping what was done since.
    pub fn release(&mut self, savepoint: SavepointId) {
        self.state.release(savepoint);
        if let Some(at) = self.marks.iter().position(|mark| mark.savepoint == savepoint) {
            self.marks.truncate(at);
        }
    }

    /// Locks a table.
    pub async fn lock_table(
        &mut self,
        table: u32,
        mode: TableLockMode,
        nowait: bool,
    ) -> Result<(), KvError> {
        if self.tables.iter().any(|(held, held_mode, _)| *held == table && *held_mode == mode) {
            return Ok(());
        }
        let policy = if nowait { WaitPolicy::NoWait } else { WaitPolicy::Block };
        let before = match self.core.locks.try_table(table, self.state.owner(), mode, policy) {
            Ok(Acquired::Granted { before }) => before,
            Ok(Acquired::Reentrant) => return Ok(()),
            Ok(Acquired::Unavailable) => return Err(KvError::LockNotAvailable),
            Err(queued) => queued.wait(&self.limits).await?,
        };
        self.tables.push((table, mode, before));
        Ok(())
    }

    /// Locks a table if nobody has to be waited for: whether it is locked now.
    pub fn try_lock_table(&mut self, table: u32, mode: TableLockMode) -> bool {
        if self.tables.iter().any(|(held, held_mode, _)| *held == table && *held_mode == mode) {
            return true;
        }
        let owner = self.state.owner();
        match self.core.locks.try_table(table, owner, mode, WaitPolicy::NoWait) {
            Ok(Acquired::Granted { before }) => {
                self.tables.push((table, mode, before));
                true
            }
            Ok(Acquired::Reentrant) => true,
            Ok(Acquired::Unavailable) | Err(_) => false,
        }
    }

    /// Takes an advisory lock (`classid`, `objid`, `objsubid`), until the end of the session or of
    /// this transaction. False when it isn't free and `wait` is false.
    pub async fn advisory_lock(
        &mut self,
        key: (u32, u32, u32),
        shared: bool,
        session: bool,
        wait: bool,
    ) -> Result<bool, KvError> {
        let (key, mode) = advisory(self.limits.database, key, shared);
        let owner = self.state.owner().session_level();
        let policy = if wait { WaitPolicy::Block } else { WaitPolicy::NoWait };
        match self.core.locks.try_advisory(key, owner, mode, policy) {
            Ok(Acquired::Granted { .. } | Acquired::Reentrant) => {}
            Ok(Acquired::Unavailable) => return Ok(false),
            Err(queued) => {
                queued.wait(&self.limits).await?;
            }
        }
        let level = if session { Level::Session } else { Level::Transaction };
        self.core.advisory.add(owner, key, mode, level);
        if !session {
            self.advisory.push((key, mode));
        }
        Ok(true)
    }

    /// Gives back one session-level advisory lock; false when the session doesn't hold it.
    pub fn advisory_unlock(&mut self, key: (u32, u32, u32), shared: bool) -> bool {
        let (key, mode) = advisory(self.limits.database, key, shared);
        let owner = self.state.owner().session_level();
        self.core.advisory.remove(&self.core.locks, owner, key, mode, Level::Session)
    }

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
        for key in self.state.unlocked_writes() {
            self.acquire_row(&key, Strength::Update, WaitPolicy::Block).await?;
            let newest = self.core.read.newest(&key)?.map_or(Timestamp::MIN, |found| found.ts);
            if self.state.conflicts_with(newest) {
                return Err(KvError::CONCURRENT_UPDATE);
            }
            self.state.note_newest(&key, newest);
        }
        let owner = self.state.owner();
        let runs = self.state.take_runs(ENTRY_BYTES_MAX);
        let writes = self.state.take_writes();
        // The locks leave the state under the sequencer's mutex, when the commit is sure to fly.
        let rows = self.state.take_locks();
        let mut locks = Locks { rows, runs: std::mem::take(&mut self.claimed) };
        let request = CommitRequest {
            isolation: self.state.isolation(),
            read_ts: self.state.read_ts(),
            writes,
            runs,
            reads: self.state.reads(),
            origin: None,
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
        outcome.await.unwrap_or(Err(KvError::Ambiguous))
    }

    /// Commits, with all locks given back, if nothing was written: whether that was so.
    pub fn finish_reading(&mut self) -> bool {
        if !self.state.is_read_only() {
            return false;
        }
        self.end();
        self.release_locks();
        true
    }

    /// Forgets all writes and gives back the row locks.
    pub fn rollback(&mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.state.discard_writes();
        self.marks.clear();
        let owner = self.state.owner();
        let (rows, runs) = (self.state.take_locks(), std::mem::take(&mut self.claimed));
        Locks { rows, runs }.release(&self.core, owner);
        if let Some(snapshot) = self.snapshot.take() {
            self.core.snapshots.leave(snapshot);
        }
    }

    /// Gives back table locks and this transaction's advisory locks; after commit or rollback.
    pub fn release_locks(&mut self) {
        self.release_tables(0);
        self.release_advisory(0);
    }

    fn release_tables(&mut self, keep: usize) {
        let owner = self.state.owner();
        for (table, _, before) in self.tables.drain(keep..).rev() {
            self.core.locks.release_table(table, owner, before);
        }
    }

    fn release_advisory(&mut self, keep: usize) {
        let owner = self.state.owner().session_level();
        for (key, mode) in self.advisory.drain(keep..).rev() {
            self.core.advisory.remove(&self.core.locks, owner, key, mode, Level::Transaction);
        }
    }
}

pub(crate) fn advisory(
    database: u32,
    (classid, objid, objsubid): (u32, u32, u32),
    shared: bool,
) -> (AdvisoryKey, AdvisoryMode) {
    let mode = if shared { AdvisoryMode::Shared } else { AdvisoryMode::Exclusive };
    (AdvisoryKey { database, classid, objid, objsubid }, mode)
}

impl Drop for Txn {
    fn drop(&mut self) {
        self.end();
        self.release_locks();
    }
}

impl std::fmt::Debug for Txn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Txn").field("id", &self.id()).field("read_ts", &self.read_ts()).finish()
    }
}
