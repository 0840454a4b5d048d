//! Locks with waiting: the pure tables, and the tasks that sleep until they are granted.
//!
//! Tables are sharded by key so that a lock takes one short mutex. A request that must wait leaves a
//! channel in its shard; whoever releases sends the grant through it.
//!
//! While it sleeps, a waiter looks for a deadlock: after a delay, then ever more rarely, and at once
//! when a holder of its key waits itself. (If none does, there is no cycle through this wait: all who
//! stand ahead in the queue wait for the same holders.) Whoever closes a cycle is the last to wait, and sees the
//! others, since a session is entered among the waiting before it looks. The search holds all shards for a moment,
//! which is rare enough. Where there are other nodes, who has looked in vain has them asked as well
//! ([`LockManager::on_suspicion`]). A wait may end in many ways; [`WaitGuard`] makes all of them leave the table
//! clean, also when the grant arrives while the task gives up.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meridian_base::Instant;
use meridian_kv::api::{Bytes, Key, KvError, Strength, TableLockMode, Timestamp, WaitPolicy};
use meridian_kv::deadlock::{self, Target, Verdict, Wait};
use meridian_kv::locks::{
    Acquire, AdvisoryKey, AdvisoryMode, Grant, Held, LockMode, LockTable, ModeSet, Owner, WaiterId,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::CancelToken;
use crate::bulk::BulkLocks;

const ROW_SHARDS: usize = 64;
const TABLE_SHARDS: usize = 8;

/// A task that waits, and what it has said of itself.
struct Sleeper {
    waker: oneshot::Sender<Result<ModeSet, KvError>>,
    began: Timestamp,
    database: u32,
}

/// One lock table with the sleepers of its queues.
pub(crate) struct Shard<K, M> {
    table: LockTable<K, M>,
    wakers: BTreeMap<WaiterId, Sleeper>,
}

impl<K, M> Default for Shard<K, M> {
    fn default() -> Shard<K, M> {
        Shard { table: LockTable::default(), wakers: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, M: LockMode> Shard<K, M> {
    pub(crate) fn table(&self) -> &LockTable<K, M> {
        &self.table
    }

    pub(crate) fn table_mut(&mut self) -> &mut LockTable<K, M> {
        &mut self.table
    }

    /// Wakes those that were let in. The channel holds the grant even if its task is just giving up.
    pub(crate) fn wake(&mut self, grants: Vec<Grant<K>>) {
        for grant in grants {
            if let Some(sleeper) = self.wakers.remove(&grant.waiter) {
                // A receiver that is gone is a WaitGuard being dropped; it looks into the table itself.
                let _ = sleeper.waker.send(Ok(grant.before));
            }
        }
    }

    fn restore(&mut self, key: &K, owner: Owner, modes: ModeSet) {
        let mut grants = Vec::new();
        self.table.restore(key, owner, modes, &mut grants);
        if !grants.is_empty() {
            self.wake(grants);
        }
    }
}

/// How a request for a lock ended, if it didn't fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// Held already.
    Reentrant,
    /// Held now; `before` undoes it.
    Granted { before: ModeSet },
    /// Not free, and the policy is not to wait.
    Unavailable,
}

/// What may end a wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct WaitLimits {
    pub(crate) cancel: Option<CancelToken>,
    pub(crate) timeout: Option<Duration>,
    /// The session's database, to which the tables and advisory locks belong that it asks for.
    pub(crate) database: u32,
    /// When the transaction began: of a deadlock over several nodes the youngest is the victim.
    pub(crate) began: Timestamp,
}

/// What is locked, in the words of `pg_locks`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockTarget {
    /// A row or an absent key.
    Row(Key),
    /// A table's oid.
    Table(u32),
    /// Database, classid, objid, objsubid.
    Advisory([u32; 4]),
}

/// One line of the lock view: a mode that is held or waited for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockInfo {
    /// What is locked.
    pub target: LockTarget,
    /// The mode's name.
    pub mode: &'static str,
    /// The transaction's number.
    pub transaction: u64,
    /// The backend's process id.
    pub process: u32,
    /// Held (`true`) or waited for.
    pub granted: bool,
}

/// All locks of a store.
pub(crate) struct LockManager {
    rows: Box<[Mutex<Shard<Key, Strength>>]>,
    tables: Box<[Mutex<Shard<u32, TableLockMode>>]>,
    advisory: Mutex<Shard<AdvisoryKey, AdvisoryMode>>,
    pub(crate) bulk: BulkLocks,
    next_waiter: AtomicU64,
    /// How many waits each session has; taken inside a shard's lock, never around one.
    waiting: Mutex<BTreeMap<u64, u32>>,
    check_delay: Duration,
    suspicion: OnceLock<OnSuspicion>,
    pub(crate) deadlocks: AtomicU64,
}

/// Called with a session that has been waiting for a while, and is in no cycle on this node.
pub(crate) type OnSuspicion = Box<dyn Fn(u64) + Send + Sync>;

/// Spreads keys over shards: neighbours differ in their last bytes.
fn row_shard(key: &[u8]) -> usize {
    let mut tail = [0; 8];
    let len = key.len().min(8);
    tail[..len].copy_from_slice(&key[key.len() - len..]);
    let mixed = u64::from_le_bytes(tail).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 58) as usize % ROW_SHARDS
}

impl LockManager {
    pub(crate) fn new(check_delay: Duration) -> LockManager {
        LockManager {
            rows: (0..ROW_SHARDS).map(|_| Mutex::default()).collect(),
            tables: (0..TABLE_SHARDS).map(|_| Mutex::default()).collect(),
            advisory: Mutex::default(),
            bulk: BulkLocks::default(),
            next_waiter: AtomicU64::new(1),
            waiting: Mutex::default(),
            check_delay,
            suspicion: OnceLock::new(),
            deadlocks: AtomicU64::new(0),
        }
    }

    /// Sets who looks for deadlocks on other nodes.
    pub(crate) fn on_suspicion(&self, suspected: OnSuspicion) {
        let first = self.suspicion.set(suspected).is_ok();
        debug_assert!(first, "a store joins one cluster");
    }

    /// All shards of row locks.
    pub(crate) fn row_shards(&self) -> &[Mutex<Shard<Key, Strength>>] {
        &self.rows
    }

    pub(crate) fn row(&self, key: &[u8]) -> &Mutex<Shard<Key, Strength>> {
        &self.rows[row_shard(key)]
    }

    pub(crate) fn table(&self, table: u32) -> &Mutex<Shard<u32, TableLockMode>> {
        &self.tables[table as usize % TABLE_SHARDS]
    }

    /// Asks for a row lock without waiting; `Err` carries the place in the queue.
    pub(crate) fn try_row(
        &self,
        key: &Key,
        owner: Owner,
        strength: Strength,
        policy: WaitPolicy,
    ) -> Result<Acquired, WaitGuard<'_, Key, Strength>> {
        let shard = self.row(key);
        let mut locked = shard.lock();
        self.bulk.show(key, &mut locked.table);
        self.request(shard, locked, key, owner, strength, policy)
    }

    /// Asks for a table lock without waiting; `Err` carries the place in the queue.
    pub(crate) fn try_table(
        &self,
        table: u32,
        owner: Owner,
        mode: TableLockMode,
        policy: WaitPolicy,
    ) -> Result<Acquired, WaitGuard<'_, u32, TableLockMode>> {
        let shard = self.table(table);
        self.request(shard, shard.lock(), &table, owner, mode, policy)
    }

    /// Asks for an advisory lock without waiting; `Err` carries the place in the queue.
    pub(crate) fn try_advisory(
        &self,
        key: AdvisoryKey,
        owner: Owner,
        mode: AdvisoryMode,
        policy: WaitPolicy,
    ) -> Result<Acquired, WaitGuard<'_, AdvisoryKey, AdvisoryMode>> {
        self.request(&self.advisory, self.advisory.lock(), &key, owner, mode, policy)
    }

    fn request<'a, K: Ord + Clone, M: LockMode>(
        &'a self,
        shard: &'a Mutex<Shard<K, M>>,
        mut locked: MutexGuard<'a, Shard<K, M>>,
        key: &K,
        owner: Owner,
        mode: M,
        policy: WaitPolicy,
    ) -> Result<Acquired, WaitGuard<'a, K, M>> {
        let waiter = WaiterId(self.next_waiter.fetch_add(1, Ordering::Relaxed));
        match locked.table.acquire(key, owner, mode, policy, waiter) {
            Acquire::Reentrant => Ok(Acquired::Reentrant),
            Acquire::Granted { before } => Ok(Acquired::Granted { before }),
            Acquire::Unavailable => Ok(Acquired::Unavailable),
            Acquire::Queued => {
                let (waker, granted) = oneshot::channel();
                let sleeper = Sleeper { waker, began: Timestamp::MIN, database: 0 };
                locked.wakers.insert(waiter, sleeper);
                let suspicious = self.enter_waiting(owner, locked.table.holders(key));
                drop(locked);
                let key = key.clone();
                let done = false;
                Err(WaitGuard {
                    manager: self,
                    shard,
                    key,
                    owner,
                    waiter,
                    granted,
                    suspicious,
                    done,
                })
            }
        }
    }

    /// Enters a session among the waiting; does a holder that blocks it wait itself?
    fn enter_waiting(&self, owner: Owner, holders: &[Held]) -> bool {
        let mut waiting = self.waiting.lock();
        *waiting.entry(owner.session).or_default() += 1;
        let mut others = holders.iter().filter(|held| held.owner.session != owner.session);
        others.any(|held| waiting.contains_key(&held.owner.session))
    }

    fn leave_waiting(&self, owner: Owner) {
        let mut waiting = self.waiting.lock();
        if let Some(count) = waiting.get_mut(&owner.session) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&owner.session);
            }
        }
    }

    pub(crate) fn release_row(&self, key: &Key, owner: Owner, remains: ModeSet) {
        self.row(key).lock().restore(key, owner, remains);
    }

    pub(crate) fn release_table(&self, table: u32, owner: Owner, remains: ModeSet) {
        self.table(table).lock().restore(&table, owner, remains);
    }

    pub(crate) fn release_advisory(&self, key: AdvisoryKey, owner: Owner, remains: ModeSet) {
        self.advisory.lock().restore(&key, owner, remains);
    }

    /// Takes the advisory locks of these owners away.
    pub(crate) fn drop_advisory(&self, whose: impl Fn(Owner) -> bool) {
        let mut shard = self.advisory.lock();
        let mut dropped = Vec::new();
        for (key, holders, _) in shard.table.entries() {
            let theirs = holders.iter().filter(|held| whose(held.owner));
            dropped.extend(theirs.map(|held| (*key, held.owner)));
        }
        for (key, owner) in dropped {
            shard.restore(&key, owner, 0);
        }
    }

    pub(crate) fn table_held(&self, table: u32, owner: Owner) -> ModeSet {
        self.table(table).lock().table.held_by(&table, owner)
    }

    pub(crate) fn advisory_held(&self, key: AdvisoryKey, owner: Owner) -> ModeSet {
        self.advisory.lock().table.held_by(&key, owner)
    }

    fn lock_all(&self) -> AllShards<'_> {
        AllShards {
            rows: self.rows.iter().map(Mutex::lock).collect(),
            tables: self.tables.iter().map(Mutex::lock).collect(),
            advisory: self.advisory.lock(),
        }
    }

    /// Looks for a deadlock through this session. Grants what only the queue's order kept waiting.
    fn check_deadlock(&self, session: u64) -> Result<(), KvError> {
        // Every promotion grants one wait, so this ends; the bound is for the reader's peace.
        for _ in 0..64 {
            let mut all = self.lock_all();
            let waits: Vec<Wait> = all.waits().into_iter().map(|(wait, _)| wait).collect();
            match deadlock::check(&waits, session) {
                Verdict::Wait => return Ok(()),
                Verdict::Promote(waiter) => {
                    let promoted = all.promote(waiter);
                    debug_assert!(promoted, "a waiter seen under the locks is still there");
                }
                Verdict::Deadlock { detail } => {
                    self.deadlocks.fetch_add(1, Ordering::Relaxed);
                    return Err(KvError::Deadlock { detail });
                }
            }
        }
        Ok(())
    }

    /// All waits, with the beginning of each one's transaction.
    pub(crate) fn waits(&self) -> Vec<(Wait, Timestamp)> {
        self.lock_all().waits()
    }

    /// Carries out a verdict on a wait, if that is still there: whether it was.
    pub(crate) fn decide(&self, waiter: WaiterId, owner: Owner, verdict: &Verdict) -> bool {
        let mut all = self.lock_all();
        let waits = |(wait, _): &(Wait, _)| (wait.waiter, wait.owner) == (waiter, owner);
        if !all.waits().iter().any(waits) {
            return false;
        }
        match verdict {
            Verdict::Wait => true,
            Verdict::Promote(_) => all.promote(waiter),
            Verdict::Deadlock { detail } => {
                self.deadlocks.fetch_add(1, Ordering::Relaxed);
                all.refuse(waiter, &KvError::Deadlock { detail: detail.clone() })
            }
        }
    }

    /// Everything that is held or waited for.
    pub(crate) fn view(&self) -> Vec<LockInfo> {
        let all = self.lock_all();
        let mut out = Vec::new();
        for shard in &all.rows {
            view_of(&shard.table, |key: &Bytes| LockTarget::Row(key.clone()), &mut out);
        }
        for shard in &all.tables {
            view_of(&shard.table, |table| LockTarget::Table(*table), &mut out);
        }
        view_of(&all.advisory.table, |key| LockTarget::Advisory(numbers(*key)), &mut out);
        out
    }

    /// Verifies the tables' invariants (tests).
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let all = self.lock_all();
        for shard in &all.rows {
            shard.table.check().expect("row locks");
        }
        for shard in &all.tables {
            shard.table.check().expect("table locks");
        }
        all.advisory.table.check().expect("advisory locks");
    }
}

pub(crate) fn numbers(key: AdvisoryKey) -> [u32; 4] {
    [key.database, key.classid, key.objid, key.objsubid]
}

fn view_of<K: Ord + Clone, M: LockMode>(
    table: &LockTable<K, M>,
    target: impl Fn(&K) -> LockTarget,
    out: &mut Vec<LockInfo>,
) {
    for (key, holders, queue) in table.entries() {
        let line = |owner: Owner, mode: M, granted| LockInfo {
            target: target(key),
            mode: mode.name(),
            granted,
            transaction: owner.id,
            process: owner.process_of_session(),
        };
        for held in holders {
            let modes = M::all().iter().filter(|mode| held.modes & mode.bit() != 0);
            out.extend(modes.map(|mode| line(held.owner, *mode, true)));
        }
        out.extend(queue.iter().map(|queued| line(queued.owner, queued.mode, false)));
    }
}

/// All shards at one moment.
struct AllShards<'a> {
    rows: Vec<MutexGuard<'a, Shard<Key, Strength>>>,
    tables: Vec<MutexGuard<'a, Shard<u32, TableLockMode>>>,
    advisory: MutexGuard<'a, Shard<AdvisoryKey, AdvisoryMode>>,
}

impl AllShards<'_> {
    fn waits(&self) -> Vec<(Wait, Timestamp)> {
        let mut waits = Vec::new();
        for shard in &self.rows {
            collect_waits(shard, |_, _| Target::Row, &mut waits);
        }
        for shard in &self.tables {
            let target = |table: &u32, database| Target::Relation { database, relation: *table };
            collect_waits(shard, target, &mut waits);
        }
        let target = |key: &AdvisoryKey, _| Target::Advisory { key: numbers(*key) };
        collect_waits(&self.advisory, target, &mut waits);
        waits
    }

    fn promote(&mut self, waiter: WaiterId) -> bool {
        self.rows.iter_mut().any(|shard| promote_in(shard, waiter))
            || self.tables.iter_mut().any(|shard| promote_in(shard, waiter))
            || promote_in(&mut self.advisory, waiter)
    }

    fn refuse(&mut self, waiter: WaiterId, error: &KvError) -> bool {
        self.rows.iter_mut().any(|shard| refuse_in(shard, waiter, error))
            || self.tables.iter_mut().any(|shard| refuse_in(shard, waiter, error))
            || refuse_in(&mut self.advisory, waiter, error)
    }
}

fn collect_waits<K: Ord + Clone, M: LockMode>(
    shard: &Shard<K, M>,
    target: impl Fn(&K, u32) -> Target,
    waits: &mut Vec<(Wait, Timestamp)>,
) {
    shard.table.for_each_wait(|key, queued, blockers| {
        let sleeper = shard.wakers.get(&queued.waiter);
        let wait = Wait {
            waiter: queued.waiter,
            owner: queued.owner,
            target: target(key, sleeper.map_or(0, |sleeper| sleeper.database)),
            mode: queued.mode.name(),
            blockers: blockers.to_vec(),
        };
        waits.push((wait, sleeper.map_or(Timestamp::MIN, |sleeper| sleeper.began)));
    });
}

fn place_of<K: Ord + Clone, M: LockMode>(shard: &Shard<K, M>, waiter: WaiterId) -> Option<K> {
    let mut place = None;
    shard.table.for_each_wait(|key, queued, _| {
        if queued.waiter == waiter {
            place = Some(key.clone());
        }
    });
    place
}

/// Takes a waiter out of its queue, and tells it why.
fn refuse_in<K: Ord + Clone, M: LockMode>(
    shard: &mut Shard<K, M>,
    waiter: WaiterId,
    error: &KvError,
) -> bool {
    let Some(key) = place_of(shard, waiter) else { return false };
    let mut grants = Vec::new();
    let refused = shard.table.cancel(&key, waiter, &mut grants);
    if let Some(sleeper) = shard.wakers.remove(&waiter) {
        // A receiver that is gone is a WaitGuard being dropped: it is out of the queue as it wishes.
        let _ = sleeper.waker.send(Err(error.clone()));
    }
    shard.wake(grants);
    refused
}

fn promote_in<K: Ord + Clone, M: LockMode>(shard: &mut Shard<K, M>, waiter: WaiterId) -> bool {
    let Some(key) = place_of(shard, waiter) else { return false };
    let mut grants = Vec::new();
    let promoted = shard.table.promote(&key, waiter, &mut grants);
    shard.wake(grants);
    promoted
}

/// A place in a queue. Dropped before the grant was taken, it leaves the queue, or gives back the
/// lock if the grant came meanwhile.
pub(crate) struct WaitGuard<'a, K: Ord + Clone, M: LockMode> {
    manager: &'a LockManager,
    shard: &'a Mutex<Shard<K, M>>,
    key: K,
    owner: Owner,
    waiter: WaiterId,
    granted: oneshot::Receiver<Result<ModeSet, KvError>>,
    /// May this wait have closed a cycle?
    suspicious: bool,
    done: bool,
}

impl<K: Ord + Clone, M: LockMode> WaitGuard<'_, K, M> {
    /// Waits for the grant. Answers what the owner held before.
    pub(crate) async fn wait(mut self, limits: &WaitLimits) -> Result<ModeSet, KvError> {
        if let Some(sleeper) = self.shard.lock().wakers.get_mut(&self.waiter) {
            (sleeper.began, sleeper.database) = (limits.began, limits.database);
        }
        let session = self.owner.session;
        if self.suspicious {
            self.manager.check_deadlock(session)?;
        }
        let started = Instant::now();
        let mut check_delay = self.manager.check_delay;
        loop {
            let left = limits.timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
            let nap = left.map_or(check_delay, |left| left.min(check_delay));
            let cancelled = async {
                match &limits.cancel {
                    Some(token) => token.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = &mut self.granted => {
                    let Ok(answer) = answer else {
                        return Err(KvError::Stopping);
                    };
                    let before = answer?;
                    self.done = true;
                    return Ok(before);
                }
                () = cancelled => return Err(KvError::Cancelled),
                () = tokio::time::sleep(nap) => {
                    if limits.timeout.is_some_and(|timeout| started.elapsed() >= timeout) {
                        return Err(KvError::LockTimeout);
                    }
                    self.manager.check_deadlock(session)?;
                    if let Some(suspected) = self.manager.suspicion.get() {
                        suspected(session);
                    }
                    check_delay = self.manager.check_delay * 10;
                }
            }
        }
    }
}

impl<K: Ord + Clone, M: LockMode> Drop for WaitGuard<'_, K, M> {
    fn drop(&mut self) {
        self.manager.leave_waiting(self.owner);
        if self.done {
            return;
        }
        let mut shard = self.shard.lock();
        shard.wakers.remove(&self.waiter);
        let mut grants = Vec::new();
        if shard.table.cancel(&self.key, self.waiter, &mut grants) {
            shard.wake(grants);
        } else if let Ok(Ok(before)) = self.granted.try_recv() {
            shard.restore(&self.key, self.owner, before);
        }
    }
}
