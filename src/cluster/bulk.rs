//! Bulk writes: whole runs of new rows, locked as one and looked up as one.
//!
//! A row lock for each of a million rows that nobody else knows costs more than writing them. A run is
//! therefore locked as a whole, but not *coarsely*: only its own keys are locked. Whoever asks for a row
//! lock looks, under the mutex of the row's shard, whether a run holds the key; if so, the run's lock on
//! this one key is put into the lock table first, as if it had always been there, and the request meets it
//! in the usual way. Nobody waits who wouldn't have waited for single locks, and while there are no runs
//! all this costs one load.
//!
//! A run is entered first and compared with the row locks that others hold second. A request for one of
//! its keys either comes before the comparison of its shard, which sees it, or after, and sees the run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use meridian_base::RangeId;
use meridian_base::keys::{self, INDEX_PREFIX_BYTES};
use meridian_kv::api::{Bytes, Isolation, Key, KvError, Span, Strength, Timestamp, WaitPolicy};
use meridian_kv::locks::{Acquire, LockMode, LockTable, ModeSet, Owner, WaiterId};
use meridian_kv::run::Run;
use meridian_kv::txn::Write;
use meridian_storage::engine::{Engine, Keyspace};
use meridian_storage::mvcc;
use parking_lot::{Mutex, RwLock};

use crate::locking::LockManager;
use crate::read::{ReadPath, storage_error};
use crate::txn::{Locked, LockedIn, Txn};

/// A run that is locked.
struct Held {
    owner: Owner,
    run: Arc<Run>,
    /// Keys that are in the lock table, too, with what the owner held there before.
    shown: Mutex<Vec<(Key, ModeSet)>>,
}

/// The locked runs of a store, by the index that they belong to.
#[derive(Default)]
pub(crate) struct BulkLocks {
    count: AtomicUsize,
    held: RwLock<BTreeMap<Bytes, Vec<Held>>>,
}

/// An index has its locks apart from others.
fn index_of(key: &[u8]) -> &[u8] {
    &key[..key.len().min(INDEX_PREFIX_BYTES)]
}

impl BulkLocks {
    /// Puts a run's lock on this key into the table. The caller holds the key's shard.
    #[inline]
    pub(crate) fn show(&self, key: &Key, table: &mut LockTable<Key, Strength>) {
        // Whoever entered a run before it looked at this shard did so before the shard's mutex was taken.
        if self.count.load(Ordering::Relaxed) != 0 {
            self.show_held(key, table);
        }
    }

    #[cold]
    fn show_held(&self, key: &Key, table: &mut LockTable<Key, Strength>) {
        let held = self.held.read();
        let Some(runs) = held.get(index_of(key)) else { return };
        for held in runs.iter().filter(|held| held.run.find(key).is_some()) {
            let (owner, nobody) = (held.owner, WaiterId(0));
            let lock = table.acquire(key, owner, Strength::Update, WaitPolicy::NoWait, nobody);
            if let Acquire::Granted { before } = lock {
                held.shown.lock().push((key.clone(), before));
            }
        }
    }

    /// Enters a run; answers the rows that other runs hold.
    fn enter(&self, owner: Owner, run: &Arc<Run>) -> Vec<usize> {
        let mut held = self.held.write();
        let index = Bytes::copy_from_slice(index_of(run.first()));
        let runs = held.entry(index).or_default();
        let others = runs.iter().filter(|other| other.owner.id != owner.id);
        let taken = others.filter_map(|other| run.clash(&other.run)).collect();
        runs.push(Held { owner, run: Arc::clone(run), shown: Mutex::default() });
        self.count.fetch_add(1, Ordering::Relaxed);
        taken
    }

    /// Takes a run out; answers its locks in the table.
    fn leave(&self, owner: Owner, run: &Arc<Run>) -> Vec<(Key, ModeSet)> {
        let mut held = self.held.write();
        let index = index_of(run.first());
        let Some(runs) = held.get_mut(index) else { return Vec::new() };
        let is = |held: &Held| held.owner.id == owner.id && Arc::ptr_eq(&held.run, run);
        let Some(at) = runs.iter().position(is) else { return Vec::new() };
        let left = runs.swap_remove(at);
        if runs.is_empty() {
            held.remove(index);
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        left.shown.into_inner()
    }
}

impl LockManager {
    /// Locks the rows of a run, unless somebody else holds one: then nothing is locked, and the answer is
    /// such a row.
    pub(crate) fn try_run(&self, owner: Owner, run: &Arc<Run>) -> Option<usize> {
        let taken = self.bulk.enter(owner, run).into_iter().next();
        let taken = taken.or_else(|| {
            self.row_shards().iter().find_map(|shard| {
                let shard = shard.lock();
                let mut locked = shard.table().held_within(run.first(), run.last());
                locked.find_map(|(key, holders)| {
                    // A weaker lock of one's own is to be made strong enough in the usual way.
                    let free = holders.iter().all(|held| {
                        held.owner.id == owner.id && Strength::Update.covered_by(held.modes)
                    });
                    if free { None } else { run.find(key) }
                })
            })
        });
        if taken.is_some() {
            self.release_run(owner, run);
        }
        taken
    }

    /// Gives the rows of a run back.
    pub(crate) fn release_run(&self, owner: Owner, run: &Arc<Run>) {
        for (key, before) in self.bulk.leave(owner, run) {
            self.release_row(&key, owner, before);
        }
    }
}

/// Entries of the engine that are passed over before the next row is sought.
const STEPS_MAX: usize = 16;

impl ReadPath {
    /// Calls `found` with the rows of a run whose keys have a version, and with that version's timestamp
    /// and whether it is a deletion, until it answers true.
    fn versions_of(
        &self,
        run: &Run,
        mut found: impl FnMut(usize, Timestamp, bool) -> bool,
    ) -> Result<(), KvError> {
        let engine = self.engine.as_ref();
        let (mut at, mut seeks) = (0, 0);
        while at < run.len() {
            // When most seeks bring only one row further, lookups are cheaper.
            if seeks > 16 && at < seeks * 4 {
                return versions_one_by_one(engine, run, at, found);
            }
            seeks += 1;
            let (start, end) = (run.shared_key(at), keys::next_key(run.last()).into());
            let span = Span { start, end }.physical();
            let mut steps = 0;
            for entry in engine.range(Keyspace::Cur, &span, false) {
                let (physical, value) = entry.map_err(storage_error)?;
                let key = &physical[1..];
                let next = run.lower_bound(at, key);
                steps = if next == at { steps + 1 } else { 0 };
                at = next;
                if at == run.len() {
                    return Ok(());
                }
                if run.key(at) == key {
                    let (ts, deleted) = mvcc::peek_cur(&value).map_err(storage_error)?;
                    if found(at, ts, deleted) {
                        return Ok(());
                    }
                    at += 1;
                }
                if steps > STEPS_MAX || at == run.len() {
                    break;
                }
            }
            if steps <= STEPS_MAX {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn versions_one_by_one(
    engine: &dyn Engine,
    run: &Run,
    from: usize,
    mut found: impl FnMut(usize, Timestamp, bool) -> bool,
) -> Result<(), KvError> {
    let mut physical = Vec::new();
    for at in from..run.len() {
        keys::data_key_into(run.key(at), &mut physical);
        let Some(value) = engine.get(Keyspace::Cur, &physical).map_err(storage_error)? else {
            continue;
        };
        let (ts, deleted) = mvcc::peek_cur(&value).map_err(storage_error)?;
        if found(at, ts, deleted) {
            return Ok(());
        }
    }
    Ok(())
}

impl ReadPath {
    /// The first row of a run whose key is taken. A deleted key is free, unless it was deleted above
    /// `snapshot`; so is one that the asker has deleted (`own`).
    pub(crate) fn first_taken(
        &self,
        run: &Run,
        snapshot: Timestamp,
        own: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<usize>, KvError> {
        let (mut taken, mut too_new) = (None, false);
        self.versions_of(run, |at, ts, deleted| {
            if deleted {
                too_new |= ts > snapshot;
                return too_new;
            }
            if own(run.key(at)) {
                return false;
            }
            taken = Some(at);
            true
        })?;
        match (taken, too_new) {
            (None, true) => Err(KvError::CONCURRENT_UPDATE),
            (taken, _) => Ok(taken),
        }
    }
}

impl Txn {
    /// Locks the keys of new rows, waiting for whoever holds one, and looks whether they are free: the
    /// answer is the first row whose key is taken. The lock stays either way.
    pub async fn claim_run(&mut self, run: &Arc<Run>) -> Result<Option<usize>, KvError> {
        self.state.check_room(run.size())?;
        let range = Arc::clone(&self.core.range_of(run.first()));
        if !self.core.ranges.is_single() && !range.span().contains(run.last()) {
            return Box::pin(self.claim_rows(run)).await;
        }
        let taken = match range.lease.here(&self.core.hlc) {
            Some(epoch) => self.claim_here(run, (range.id, epoch)).await?,
            None => match Box::pin(self.send_run(run, true)).await? {
                Some(taken) => taken,
                // The lease came here meanwhile.
                None => return Box::pin(self.claim_run(run)).await,
            },
        };
        let own = self.state.clash(run);
        Ok(own.into_iter().chain(taken).min())
    }

    /// As [`Txn::claim_run`], one by one, since they lie in several ranges.
    async fn claim_rows(&mut self, run: &Arc<Run>) -> Result<Option<usize>, KvError> {
        for at in 0..run.len() {
            match self.lock(run.key(at), Strength::Update, WaitPolicy::Block).await? {
                Locked::Held { newest: Some(_), .. } => return Ok(Some(at)),
                Locked::Held { changed: true, .. }
                    if self.state.isolation() != Isolation::ReadCommitted =>
                {
                    return Err(KvError::CONCURRENT_UPDATE);
                }
                Locked::Held { .. } | Locked::Skipped => {}
            }
        }
        Ok(None)
    }

    async fn claim_here(
        &mut self,
        run: &Arc<Run>,
        (range, epoch): (RangeId, u64),
    ) -> Result<Option<usize>, KvError> {
        if self.note_lease(LockedIn { range, epoch, guest: 0 }) {
            Box::pin(self.regain_locks()).await?;
        }
        let owner = self.state.owner();
        while let Some(at) = self.core.locks.try_run(owner, run) {
            self.acquire_row(run.key(at), Strength::Update, WaitPolicy::Block).await?;
        }
        self.claimed.push(Arc::clone(run));
        let snapshot = match self.state.isolation() {
            Isolation::ReadCommitted => Timestamp::MAX,
            _ => self.state.read_ts(),
        };
        let state = &self.state;
        let own = |key: &[u8]| matches!(state.own(key), Some(None));
        self.core.read.first_taken(run, snapshot, own)
    }

    /// Locks the keys of a run here that were claimed under a lease that is over. Somebody else may have put
    /// a row there meanwhile.
    pub(crate) async fn claim_again(
        &mut self,
        run: &Arc<Run>,
        own: &[Write],
    ) -> Result<(), KvError> {
        let owner = self.state.owner();
        if !self.claimed.iter().any(|claimed| Arc::ptr_eq(claimed, run)) {
            while let Some(at) = self.core.locks.try_run(owner, run) {
                self.acquire_row(run.key(at), Strength::Update, WaitPolicy::Block).await?;
            }
            self.claimed.push(Arc::clone(run));
        }
        let own = |key: &[u8]| own.binary_search_by(|write| write.key[..].cmp(key)).is_ok();
        match self.core.read.first_taken(run, Timestamp::MAX, own)? {
            None => Ok(()),
            Some(_) => Err(KvError::CONCURRENT_UPDATE),
        }
    }

    /// Buffers new rows. Their keys have been claimed and found free, or nobody else can know them: they
    /// belong to rows that were claimed, or to a table or an index that this transaction makes.
    pub fn put_run(&mut self, run: Arc<Run>) {
        self.state.put_run(run);
    }

    /// The first of these rows whose key this transaction has written already.
    pub fn own_clash(&self, run: &Run) -> Option<usize> {
        self.state.clash(run)
    }
}
