//! The locks of a transaction: rows, tables, advisory.
//!
//! A row is locked where its leaseholder is. A table lock of a weak mode (what queries and DML take;
//! these don't conflict among each other) is held on the session's node only; one of a strong mode is
//! held on every node, so that it meets the weak ones wherever they are.

use std::sync::Arc;

use meridian_base::{NodeId, RangeId};
use meridian_kv::api::{Key, KvError, Strength, TableLockMode, Timestamp, WaitPolicy};
use meridian_kv::locks::{AdvisoryKey, AdvisoryMode, LockMode, ModeSet};
use meridian_kv::range::Newest;

use super::{HeldTable, Locked, LockedIn, Snapshot, Txn};
use crate::advisory::Level;
use crate::locking::Acquired;
use crate::remote::Fenced;
use crate::twophase::AdvisoryLock;

/// No table has this number: it stands for the catalog.
const DEFINITIONS: u32 = 0;

/// Does this mode conflict with none of the modes that queries and DML take?
pub(crate) fn is_weak(mode: TableLockMode) -> bool {
    mode <= TableLockMode::RowExclusive
}

impl Txn {
    /// Locks a key, present or absent, and reads its newest version under the lock.
    pub async fn lock(
        &mut self,
        key: &[u8],
        strength: Strength,
        wait: WaitPolicy,
    ) -> Result<Locked, KvError> {
        if matches!(self.snapshot, Snapshot::Away(None)) && !self.core.ranges.is_single() {
            // Whether the row has changed is a question of the snapshot.
            Box::pin(self.asked_snapshot()).await?;
        }
        let (id, epoch) = {
            let range = self.core.range_of(key);
            (range.id, range.lease.here(&self.core.hlc))
        };
        let Some(epoch) = epoch else {
            return Box::pin(self.lock_away(key, strength, wait)).await;
        };
        if self.note_lease(LockedIn { range: id, epoch, guest: 0 }) {
            Box::pin(self.regain_locks()).await?;
        }
        let before = self.state.locked(key);
        let held = before.map_or(0, |locked| locked.modes);
        if !strength.covered_by(held) && !self.acquire_row(key, strength, wait).await? {
            return match wait {
                WaitPolicy::Skip => Ok(Locked::Skipped),
                WaitPolicy::NoWait | WaitPolicy::Block => Err(KvError::LockNotAvailable),
            };
        }
        // A lock that was waited for while the lease went away is none.
        if !self.core.alone && !self.is_led_here(key, id, epoch) {
            self.locks_lost = true;
            return Box::pin(self.lock_away(key, strength, wait)).await;
        }
        if held != 0 && !self.core.alone {
            let newest = self.core.read.newest(key)?.map_or(Timestamp::MIN, |found| found.ts);
            self.check_kept(before, newest)?;
        }
        self.read_locked(key, strength, held == 0)
    }

    /// Does the key still lie in this range, under this lease?
    pub(super) fn is_led_here(&self, key: &[u8], id: RangeId, epoch: u64) -> bool {
        let range = self.core.range_of(key);
        range.id == id && range.lease.here(&self.core.hlc) == Some(epoch)
    }

    /// Takes the lock here; false when it isn't free and the policy is not to wait.
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

    fn read_locked(
        &mut self,
        key: &[u8],
        strength: Strength,
        first: bool,
    ) -> Result<Locked, KvError> {
        let read_ts = self.state.read_ts();
        if let Some(own) = self.state.own(key) {
            if first {
                let newest = self.core.read.newest(key)?.map_or(Timestamp::MIN, |v| v.ts);
                self.note_overwritten(key, newest)?;
            }
            return Ok(Locked::Held { newest: own.map(|row| (read_ts, row)), changed: false });
        }
        self.note_locked_read(key, strength);
        let Some(version) = self.core.read.newest(key)? else {
            self.state.note_newest(key, Timestamp::MIN);
            return Ok(Locked::Held { newest: None, changed: false });
        };
        self.state.note_newest(key, version.ts);
        let newest = version.row.map(|row| (version.ts, row));
        Ok(Locked::Held { newest, changed: version.ts > read_ts })
    }

    /// A key that was written without a lock has got one: this is the version that the write replaces.
    pub(crate) fn note_overwritten(
        &mut self,
        key: &[u8],
        newest: Timestamp,
    ) -> Result<(), KvError> {
        if self.state.conflicts_with(newest) {
            return Err(KvError::CONCURRENT_UPDATE);
        }
        self.state.note_newest(key, newest);
        Ok(())
    }

    /// A key lock says by itself that the row is there and keeps its key, which is all that its owner
    /// wants to know of it: a change of the rest is no conflict. Who reads the row says so by a read.
    pub(crate) fn note_locked_read(&mut self, key: &[u8], strength: Strength) {
        if strength != Strength::KeyShare {
            self.state.note_read(key);
        }
    }

    fn holds_table(&self, table: u32, mode: TableLockMode) -> bool {
        self.tables.iter().any(|held| held.table == table && held.mode == mode)
    }

    /// Locks a table.
    pub async fn lock_table(
        &mut self,
        table: u32,
        mode: TableLockMode,
        nowait: bool,
    ) -> Result<(), KvError> {
        if !self.holds_table(table, mode) {
            let policy = if nowait { WaitPolicy::NoWait } else { WaitPolicy::Block };
            if self.core.alone || is_weak(mode) {
                self.lock_table_here(table, mode, policy).await?;
            } else {
                Box::pin(self.lock_table_everywhere(table, mode, policy)).await?;
            }
            if !is_weak(mode) {
                Box::pin(self.await_prepared_table(table, mode, nowait)).await?;
            }
        }
        // Under the lock: if the catalog is the newest now, it is as long as the lock is held.
        if self.has_form() { Ok(()) } else { Box::pin(self.await_form()).await }
    }

    pub(crate) async fn lock_table_here(
        &mut self,
        table: u32,
        mode: TableLockMode,
        policy: WaitPolicy,
    ) -> Result<(), KvError> {
        let before = match self.core.locks.try_table(table, self.state.owner(), mode, policy) {
            Ok(Acquired::Granted { before }) => before,
            Ok(Acquired::Reentrant) => return Ok(()),
            Ok(Acquired::Unavailable) => return Err(KvError::LockNotAvailable),
            Err(queued) => queued.wait(&self.limits).await?,
        };
        self.tables.push(HeldTable { table, mode, before, elsewhere: Vec::new(), fenced: None });
        Ok(())
    }

    /// Notes locks on other nodes beside one that was held here before.
    pub(crate) fn note_tables_elsewhere(
        &mut self,
        table: u32,
        mode: TableLockMode,
        (elsewhere, fenced): (Vec<(NodeId, ModeSet)>, Option<Fenced>),
    ) {
        let before = self.core.locks.table_held(table, self.state.owner());
        self.tables.push(HeldTable { table, mode, before, elsewhere, fenced });
    }

    /// Locks a table in a weak mode if nothing has to be waited for: whether it is locked now.
    pub fn try_lock_table(&mut self, table: u32, mode: TableLockMode) -> bool {
        if self.holds_table(table, mode) {
            return self.has_form();
        }
        if !is_weak(mode) {
            return false;
        }
        let owner = self.state.owner();
        let locked = match self.core.locks.try_table(table, owner, mode, WaitPolicy::NoWait) {
            Ok(Acquired::Granted { before }) => {
                let elsewhere = Vec::new();
                self.tables.push(HeldTable { table, mode, before, elsewhere, fenced: None });
                true
            }
            Ok(Acquired::Reentrant) => true,
            Ok(Acquired::Unavailable) | Err(_) => false,
        };
        locked && self.has_form()
    }

    /// Changes definitions: those who may use the catalog have locks of this transaction, whatever it defines,
    /// so that all who haven't read what it commits are known.
    pub async fn lock_definitions(&mut self) -> Result<(), KvError> {
        if self.core.alone || self.fenced().is_some() {
            return Ok(());
        }
        // Definers don't exclude each other by this.
        self.lock_table(DEFINITIONS, TableLockMode::Share, false).await
    }

    pub(super) fn release_tables(&mut self, keep: usize) {
        let owner = self.state.owner();
        for held in self.tables.drain(keep..).rev() {
            self.core.locks.release_table(held.table, owner, held.before);
            if let Some(cluster) = self.core.cluster().filter(|_| !held.elsewhere.is_empty()) {
                cluster.unlock_table(owner, held.table, held.elsewhere);
            }
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
        let level = if session { Level::Session } else { Level::Transaction };
        let held = match self.core.alone {
            false => Box::pin(self.advisory_in_cluster((owner, key, mode), policy, level)).await?,
            true => {
                match self.core.locks.try_advisory(key, owner, mode, policy) {
                    Ok(Acquired::Granted { .. } | Acquired::Reentrant) => {}
                    Ok(Acquired::Unavailable) => return Ok(false),
                    Err(queued) => drop(queued.wait(&self.limits).await?),
                }
                self.core.advisory.add((owner, key, mode), level);
                true
            }
        };
        if !held {
            return Ok(false);
        }
        match Box::pin(self.await_prepared_advisory((key, mode), !wait)).await {
            Ok(()) => {}
            Err(error) => {
                self.core.give_back_advisory(owner, key, mode, level);
                return if error == KvError::LockNotAvailable { Ok(false) } else { Err(error) };
            }
        }
        if !session {
            self.advisory.push((key, mode));
        }
        Ok(true)
    }

    /// Gives back one session-level advisory lock; false when the session doesn't hold it.
    pub fn advisory_unlock(&mut self, key: (u32, u32, u32), shared: bool) -> bool {
        let (key, mode) = advisory(self.limits.database, key, shared);
        let owner = self.state.owner().session_level();
        self.core.give_back_advisory(owner, key, mode, Level::Session)
    }

    /// The advisory locks of this transaction.
    pub fn advisory_locks(&self) -> Vec<AdvisoryLock> {
        self.advisory.iter().copied().map(AdvisoryLock).collect()
    }

    pub(super) fn release_advisory(&mut self, keep: usize) {
        let owner = self.state.owner().session_level();
        for (key, mode) in self.advisory.drain(keep..).rev() {
            self.core.give_back_advisory(owner, key, mode, Level::Transaction);
        }
    }

    /// Every node's cluster, if there is one.
    pub(crate) fn cluster(&self) -> Result<Arc<crate::remote::Cluster>, KvError> {
        self.core.among_others()
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
