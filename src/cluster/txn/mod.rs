//! A transaction: reads at its snapshot, locks, a write buffer, one commit.
//!
//! On the leaseholder's node reads never wait: a snapshot holds no write in flight. Elsewhere the
//! snapshot is asked of the leaseholder, and so is what this node's copy doesn't have yet
//! ([`crate::remote`]). A free lock is granted without a suspension.
//!
//! Row locks end with commit or rollback. Table locks stay until [`Txn::release_locks`] (or drop), so
//! that DDL can publish its catalog between the commit and the moment others may use the table.
//! Dropping a transaction rolls it back; a commit that has been submitted goes on without it.

mod commit;
mod locks;
mod over;
mod past;
mod regain;
mod spread;
mod twophase;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meridian_base::NodeId;
use meridian_kv::api::{Bytes, Isolation, Key, KvError, Span, TableLockMode, Timestamp};
use meridian_kv::locks::{AdvisoryKey, AdvisoryMode, ModeSet, Owner};
use meridian_kv::run::Run;
use meridian_kv::txn::{SavepointId, TxnState};
use smallvec::SmallVec;

use crate::CancelToken;
use crate::core::Core;
use crate::locking::WaitLimits;
use crate::remote::Fenced;
use crate::scan::{At, Scan};
use crate::snapshots::SnapshotSlot;
use crate::twophase::Behalf;

pub(crate) use commit::{Changes, Try};
pub(crate) use locks::{advisory, is_weak};
pub(crate) use regain::LockedIn;
pub use spread::Spread;

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
    /// Locked by somebody else, and the policy was [`crate::WaitPolicy::Skip`].
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
    sent: usize,
}

/// Where a transaction's snapshot comes from. A slot keeps it from garbage collection.
#[derive(Debug)]
pub(crate) enum Snapshot {
    /// It was taken here, while this node held the lease.
    Here(SnapshotSlot),
    /// The leaseholder is another node, and names it when it is first needed.
    Away(Option<SnapshotSlot>),
    /// The transaction has ended.
    Ended,
}

/// A table lock that is held.
#[derive(Debug)]
pub(crate) struct HeldTable {
    pub(crate) table: u32,
    pub(crate) mode: TableLockMode,
    before: ModeSet,
    /// Of a strong lock: the other nodes where it is held, with the modes to go back to.
    pub(crate) elsewhere: Vec<(NodeId, ModeSet)>,
    /// Of a strong lock: all those who had to be asked, and when.
    pub(crate) fenced: Option<Fenced>,
}

/// A transaction on a store.
pub struct Txn {
    pub(crate) core: Arc<Core>,
    pub(crate) state: TxnState,
    /// Runs whose keys are locked here.
    pub(crate) claimed: Vec<Arc<Run>>,
    /// Runs that the leaseholder, another node, has been sent, with their numbers there.
    pub(crate) sent: Vec<(Arc<Run>, u64)>,
    pub(crate) snapshot: Snapshot,
    /// It reads at a time that was said.
    pub(crate) past: bool,
    /// All nodes were asked for the snapshot.
    pub(crate) whole: bool,
    /// Under what row locks were taken last, in each range.
    pub(crate) locked_in: SmallVec<[LockedIn; 1]>,
    /// Some of them were lost with a lease.
    pub(crate) locks_lost: bool,
    /// When its statement began it had locked and written nothing.
    pub(crate) fresh: bool,
    /// The other nodes that may know row locks of this transaction.
    pub(crate) lodgings: SmallVec<[NodeId; 1]>,
    read_only: bool,
    /// The generation of this node's catalog by which its tables are used; none has been used as long as it
    /// isn't known.
    pub(crate) formed: Option<u64>,
    pub(crate) limits: WaitLimits,
    pub(crate) tables: Vec<HeldTable>,
    /// The nodes on which strong table locks were taken, each with the epoch in which it supported this one
    /// before.
    pub(crate) backing: BTreeMap<NodeId, u64>,
    advisory: Vec<(AdvisoryKey, AdvisoryMode)>,
    marks: Vec<Mark>,
    /// It commits before this.
    pub(crate) commit_before: Timestamp,
    /// What it commits in somebody's name.
    behalf: Option<Behalf>,
}

impl Txn {
    pub(crate) fn begin(core: Arc<Core>, options: TxnOptions) -> Txn {
        let slot = core.snapshots.enter(|| core.newest());
        let owner = Owner::on_node(core.node, core.next_txn_id(), options.backend);
        let began =
            if core.alone { Timestamp::MIN } else { Timestamp::from_micros(core.hlc.reading()) };
        let mut txn = Txn {
            state: TxnState::new(owner, options.isolation, slot.ts()),
            snapshot: Snapshot::Here(slot),
            past: false,
            whole: true,
            locked_in: SmallVec::new(),
            locks_lost: false,
            fresh: true,
            lodgings: SmallVec::new(),
            read_only: options.read_only,
            formed: None,
            limits: WaitLimits { database: options.database, began, ..WaitLimits::default() },
            tables: Vec::new(),
            backing: BTreeMap::new(),
            advisory: Vec::new(),
            marks: Vec::new(),
            commit_before: Timestamp::MAX,
            behalf: None,
            claimed: Vec::new(),
            sent: Vec::new(),
            core,
        };
        txn.check_lease();
        txn
    }

    /// A snapshot taken here is good if the lease was still good after it had been taken, and it was that of
    /// everything.
    #[inline]
    pub(crate) fn check_lease(&mut self) {
        if !self.leads_everything() {
            self.leave_snapshot(Snapshot::Away(None));
        }
    }

    /// Is there one range only, which this node leads?
    #[inline]
    fn leads_everything(&self) -> bool {
        self.core.first().lease.here(&self.core.hlc).is_some() && self.core.ranges.is_single()
    }

    pub(crate) fn leave_snapshot(&mut self, next: Snapshot) {
        let slot = match std::mem::replace(&mut self.snapshot, next) {
            Snapshot::Here(slot) | Snapshot::Away(Some(slot)) => slot,
            Snapshot::Away(None) | Snapshot::Ended => return,
        };
        self.core.snapshots.leave(slot);
    }

    /// Starts a statement. READ COMMITTED takes a new snapshot; the others keep that of their first
    /// statement.
    pub fn begin_statement(&mut self) {
        if self.state.keeps_snapshot() {
            return;
        }
        self.fresh = self.state.is_untouched();
        match &mut self.snapshot {
            Snapshot::Here(slot) => {
                self.core.snapshots.renew(slot, || self.core.newest());
                self.state.begin_statement(slot.ts());
            }
            Snapshot::Away(_) => {
                let slot = self.core.snapshots.enter(|| self.core.newest());
                let ts = slot.ts();
                self.leave_snapshot(Snapshot::Here(slot));
                // Unless the lease is here, it may be older than what was read before.
                let here = self.leads_everything();
                self.state.begin_statement(if here { ts } else { self.state.read_ts() });
            }
            Snapshot::Ended => return,
        }
        self.check_lease();
    }

    /// Would a read now be answered from here, without asking anybody?
    #[inline]
    pub fn reads_here(&self) -> bool {
        self.core.ranges.is_single()
            && match &self.snapshot {
                // Also what was taken here: the copy may have been given up since. None is below 1.
                Snapshot::Here(slot) | Snapshot::Away(Some(slot)) => {
                    slot.ts() <= self.core.applied().max(Timestamp(1))
                }
                Snapshot::Away(None) | Snapshot::Ended => false,
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

    /// The tables that it has locked.
    pub fn locked_tables(&self) -> impl Iterator<Item = u32> {
        self.tables.iter().map(|held| held.table)
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

    /// The row of a key at the snapshot, own writes first. Waits for nobody if [`Txn::reads_here`].
    #[inline]
    pub async fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        if let Some(own) = self.state.own(key) {
            return Ok(own);
        }
        self.state.note_read(key);
        if self.reads_here() {
            return self.core.read.get(key, self.state.read_ts());
        }
        Box::pin(self.get_away(key)).await
    }

    /// As [`Txn::get`], for a statement that reads nothing else: then a snapshot of the key's range is
    /// enough, and no other node has to be asked for its clock.
    #[inline]
    pub async fn get_alone(&mut self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let unknown = matches!(self.snapshot, Snapshot::Away(None));
        if unknown && !self.core.ranges.is_single() && !self.state.keeps_snapshot() {
            return Box::pin(self.get_narrow(key)).await;
        }
        self.get(key).await
    }

    /// The rows of a span at the snapshot, own writes so far included.
    pub async fn scan(&mut self, span: Span, reverse: bool) -> Result<Scan, KvError> {
        if !self.reads_here() {
            Box::pin(self.await_snapshot()).await?;
        }
        self.state.note_scan(&span);
        let mut own = self.state.own_span(&span);
        if reverse {
            own.reverse();
        }
        let ts = self.state.read_ts();
        if self.reads_here() {
            return Ok(Scan::new(&self.core, span, own, reverse, ts));
        }
        let limits = self.limits.clone();
        Ok(Scan::away(
            &self.core,
            span,
            own,
            reverse,
            At { ts, whole: self.whole, level: self.state.isolation() },
            limits,
        ))
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
        let (claimed, sent) = (self.claimed.len(), self.sent.len());
        self.marks.push(Mark { savepoint, tables, advisory, claimed, sent });
        savepoint
    }

    /// Undoes all writes and gives back all locks since the savepoint, which stays.
    pub fn rollback_to(&mut self, savepoint: SavepointId) {
        let Some(at) = self.marks.iter().position(|mark| mark.savepoint == savepoint) else {
            debug_assert!(false, "the session knows its savepoints");
            return;
        };
        let mark = self.marks[at];
        for run in self.claimed.split_off(mark.claimed) {
            self.core.locks.release_run(self.state.owner(), &run);
        }
        let mut released = Vec::new();
        let found = self.state.rollback_to(savepoint, |key, remains| {
            released.push((key.clone(), remains));
        });
        debug_assert!(found, "marks and savepoints agree");
        let sent = self.sent.split_off(mark.sent);
        for (key, remains) in &released {
            self.core.locks.release_row(key, self.state.owner(), *remains);
        }
        if !self.lodgings.is_empty() {
            self.unlock_away(&released, &sent);
        }
        self.marks.truncate(at + 1);
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

    /// Gives back table locks and this transaction's advisory locks; after commit or rollback.
    pub fn release_locks(&mut self) {
        self.release_tables(0);
        self.release_advisory(0);
    }
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
