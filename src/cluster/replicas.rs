//! The replicas of ranges on this node: those that it had, those that begin with a split, and those that it
//! is asked to keep.
//!
//! ```text
//! start ─────────────▶ what the log knows is opened; what has only been split off begins
//! apply of a split ──▶ births ─▶ MultiRaft::create_inherited ─▶ Replica: group, proposer, batcher
//! Adopt (a leader) ──▶ a blank one, unless others hold its keys here
//! no member any more ─▶ asks the leaseholder ─▶ dismiss: log, content and group go (member/retire.rs)
//! ```
//! A node that applies a split as one of the first members begins the right half by itself, with what its
//! engine holds. One that wasn't a member yet, or got the left half's content from behind the split, has
//! missed that, and is told by the right half's leader.
//!
//! **Invariant:** the keys of two replicas with content never overlap on a node. Each knows what it holds
//! from its own log ([`Holds`]), not from the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use meridian_base::keys::RANGE;
use meridian_base::{Instant, NodeId, RangeId, Span, Timestamp};
use meridian_kv::api::Bytes;
use meridian_kv::range::Descriptor;
use meridian_replication::{MultiRaft, RaftGroup};
use meridian_storage::engine::{Engine, Keyspace};
use meridian_storage::{DataDirLock, SegLog, StorageError};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::apply::{EntryApplier, FIRST, Holds, parts_of, recovered_commit_ts};
use crate::batcher::run_batcher;
use crate::core::Core;
use crate::proposer::{Logged, Proposer, Unlogged};
use crate::range::{Range, Shape};
use crate::sizes::Measured;

/// After the first attempt to lead what has just been split off: the others may not have begun yet. Then
/// doubling, since an attempt ends the one before.
const CAMPAIGN_AGAIN: Duration = Duration::from_millis(20);
/// So long after its last reader could begin a replica is left alone: what a read does between looking
/// whether it may and having its view takes no time but that of a thread that is not run.
const READERS: Duration = Duration::from_millis(250);
/// For so long the left half's leader tries; afterwards whoever keeps leases takes care.
const CAMPAIGN: Duration = Duration::from_secs(2);
/// How long commits that are on their way may take when the store is closed.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// A replica.
pub(crate) struct Replica {
    pub(crate) range: Arc<Range>,
    pub(crate) holds: Arc<Holds>,
    /// `None` in memory.
    pub(crate) group: Option<RaftGroup>,
    /// When it began, if that was by a split of this run: the left half's leader is to lead it.
    pub(crate) begun: Option<Instant>,
    /// How often a leader has asked for it while it was there.
    pub(crate) adopted: AtomicU64,
    /// How large it was when that was looked at last.
    pub(crate) measured: Mutex<Option<Measured>>,
}

/// What replicas are made of.
pub(crate) enum Ground {
    /// Nothing outlives the process.
    Memory,
    /// A data directory.
    Raft { raft: Arc<MultiRaft>, log: Arc<SegLog>, dir: Arc<DataDirLock> },
}

/// The right half of a range that has split.
pub(crate) struct Birth {
    pub(crate) right: Descriptor,
    /// Has this node led the left half?
    pub(crate) led: bool,
}

/// All replicas of a node.
pub(crate) struct Replicas {
    core: Arc<Core>,
    ground: Ground,
    all: RwLock<BTreeMap<RangeId, Arc<Replica>>>,
    /// Ranges whose members are being changed from here, or that split.
    changing: Mutex<BTreeSet<RangeId>>,
    batchers: Mutex<BTreeMap<RangeId, JoinHandle<()>>>,
    beginning: Mutex<Option<JoinHandle<()>>>,
    births: mpsc::UnboundedSender<Birth>,
    /// Held by who has a replica begin.
    one: tokio::sync::Mutex<()>,
    /// There is something new to look at.
    pub(crate) news: Notify,
}

/// As long as it lives nobody else changes a range's members or splits it.
pub(crate) struct Claim(Arc<Replicas>, RangeId);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.changing.lock().remove(&self.1);
    }
}

/// The descriptors in an engine, with whether both keyspaces know of the range's beginning.
pub(crate) fn stored(engine: &dyn Engine) -> Result<Vec<(Descriptor, bool)>, StorageError> {
    let mut found = Vec::new();
    for pair in engine.range(Keyspace::Cur, &Span::prefix(&[RANGE]), false) {
        let (key, value) = pair?;
        let Some(id) = key.get(1..9).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes)
        else {
            continue;
        };
        if key[..] != Descriptor::key(RangeId(id)) {
            continue;
        }
        let damaged = |_| StorageError::Corruption(format!("the descriptor of range {id}"));
        let begun = engine.get(Keyspace::Hist, &key)?.is_some();
        found.push((Descriptor::decode(value).map_err(damaged)?, begun));
    }
    Ok(found)
}

impl Core {
    /// A range by its number, with a replica or not; a new one is not in the directory yet.
    pub(crate) fn range_with(&self, id: RangeId) -> Arc<Range> {
        let replica = self.replicas().and_then(|replicas| replicas.get(id));
        let known = replica.map(|replica| Arc::clone(&replica.range));
        known.or_else(|| self.ranges.get(id)).unwrap_or_else(|| {
            let shape = Shape { span: Span::default(), generation: 0 };
            let applied = recovered_commit_ts(self.read.engine.as_ref(), id).unwrap_or_default();
            Arc::new(Range::new(id, shape, applied, self.config.recent_writes_len))
        })
    }

    /// Puts the ranges that the engine knows into the directory.
    pub(crate) fn restore_ranges(&self) -> Result<(), StorageError> {
        let found = stored(self.read.engine.as_ref())?;
        let range = |it: &Descriptor| match it.id {
            FIRST => Arc::clone(self.first()),
            id => self.range_with(id),
        };
        let ranges: Vec<_> = found.iter().map(|(it, _)| (range(it), Shape::of(it))).collect();
        if !ranges.is_empty() {
            self.ranges.put(ranges);
        }
        Ok(())
    }
}

impl Replicas {
    /// None yet. The first range's proposer is the caller's, so that a test may put itself in between.
    pub(crate) fn new(core: Arc<Core>, ground: Ground) -> Arc<Replicas> {
        let (births, born) = mpsc::unbounded_channel();
        let replicas = Arc::new(Replicas {
            core: Arc::clone(&core),
            ground,
            all: RwLock::default(),
            changing: Mutex::default(),
            batchers: Mutex::default(),
            beginning: Mutex::default(),
            births,
            one: tokio::sync::Mutex::default(),
            news: Notify::new(),
        });
        core.keep(&replicas);
        let beginning = tokio::spawn(begin_all(Arc::downgrade(&replicas), born));
        *replicas.beginning.lock() = Some(beginning);
        replicas
    }

    pub(crate) fn get(&self, id: RangeId) -> Option<Arc<Replica>> {
        self.all.read().get(&id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Replica>> {
        self.all.read().values().cloned().collect()
    }

    /// Has another replica than this one content?
    pub(crate) fn has_content_beside(&self, id: RangeId) -> bool {
        let all = self.all.read();
        all.iter().any(|(other, replica)| *other != id && replica.holds.get().is_some())
    }

    /// Nobody else may change the range's members or split it; `None` if somebody does.
    pub(crate) fn claim(self: &Arc<Self>, id: RangeId) -> Option<Claim> {
        self.changing.lock().insert(id).then(|| Claim(Arc::clone(self), id))
    }

    /// The raft groups of this node, if it has a log.
    pub(crate) fn raft(&self) -> Option<&Arc<MultiRaft>> {
        match &self.ground {
            Ground::Memory => None,
            Ground::Raft { raft, .. } => Some(raft),
        }
    }

    /// A proposer for a group of this node.
    pub(crate) fn logged(&self, group: RaftGroup) -> Option<Arc<dyn Proposer>> {
        match &self.ground {
            Ground::Memory => None,
            Ground::Raft { raft, log, dir } => {
                let (raft, log) = (Arc::clone(raft), Arc::clone(log));
                let workers = Handle::current();
                Some(Arc::new(Logged { raft, group, log, workers, _dir: Arc::clone(dir) }))
            }
        }
    }

    /// Takes a replica in and starts its batcher.
    pub(crate) fn add(&self, replica: Replica, proposer: Arc<dyn Proposer>) {
        let range = Arc::clone(&replica.range);
        range.set_replicates(true);
        let id = range.id;
        self.all.write().insert(id, Arc::new(replica));
        let batcher = run_batcher(Arc::clone(&self.core), range, Arc::clone(&proposer));
        let batcher = proposer.start(Box::pin(batcher));
        self.batchers.lock().insert(id, batcher);
        self.news.notify_one();
    }

    fn add_group(&self, range: Arc<Range>, holds: Arc<Holds>, group: RaftGroup, split: bool) {
        let Some(proposer) = self.logged(group.clone()) else { return };
        let begun = split.then(Instant::now);
        self.add(Replica { begun, ..Replica::new(range, holds, Some(group)) }, proposer);
    }

    /// A range has split: its right half is to begin here, too. On any thread.
    pub(crate) fn born(&self, birth: Birth) {
        // Fails only when the store is being closed; the next start finds it.
        let _ = self.births.send(birth);
    }

    /// Begins the right half of a split.
    async fn begin(self: &Arc<Self>, Birth { right, led }: Birth) -> Result<(), StorageError> {
        let core = &self.core;
        let _one = self.one.lock().await;
        if self.get(right.id).is_some() {
            return Ok(());
        }
        let range = core.range_with(right.id);
        let applier = EntryApplier::new(Arc::clone(core), Arc::clone(&range))?;
        let holds = Arc::clone(&applier.holds);
        let Some(raft) = self.raft() else {
            let proposer = Arc::new(Unlogged { core: Arc::clone(core), applier });
            self.add(Replica::new(Arc::clone(&range), holds, None), proposer);
            return core.lead(&range, 1, None);
        };
        if !right.replicas.contains(&core.node) {
            return Ok(());
        }
        let group = raft.create_inherited(right.id, &right.replicas, Arc::new(applier)).await?;
        self.add_group(range, holds, group.clone(), true);
        if led || core.alone {
            tokio::spawn(lead_on(Arc::downgrade(self), core.node, group));
        }
        Ok(())
    }

    /// Opens what the log knows, beside the first range, and begins what a crash kept from beginning. The
    /// groups of a node without others are led when this returns.
    pub(crate) async fn open_stored(self: &Arc<Self>) -> Result<(), StorageError> {
        let Some(raft) = self.raft().cloned() else { return Ok(()) };
        let ids: Vec<RangeId> = raft.stored().into_iter().filter(|id| *id != FIRST).collect();
        let opening = ids.iter().map(|id| self.open_one(&raft, *id));
        for opened in futures::future::join_all(opening).await {
            opened?;
        }
        for (right, begun) in stored(self.core.read.engine.as_ref())? {
            // Otherwise the left half's log brings it again. Alone all of that has been applied by now.
            let begins = begun || self.core.alone;
            let unknown = right.id != FIRST && self.get(right.id).is_none();
            if begins && unknown && raft.tombstone(right.id)?.is_none() {
                self.begin(Birth { right, led: false }).await?;
            }
        }
        Ok(())
    }

    async fn open_one(&self, raft: &Arc<MultiRaft>, id: RangeId) -> Result<(), StorageError> {
        let range = self.core.range_with(id);
        let applier = EntryApplier::new(Arc::clone(&self.core), Arc::clone(&range))?;
        let holds = Arc::clone(&applier.holds);
        let applier = Arc::new(applier);
        let group = match self.core.alone {
            true => raft.open_alone(id, applier, crate::store::OPEN_TIMEOUT).await?,
            false => raft.open_group(id, applier).await?,
        };
        let term = group.role().borrow().term;
        self.add_group(Arc::clone(&range), holds, group, false);
        if self.core.alone { self.core.lead(&range, term, None) } else { Ok(()) }
    }

    /// A leader wants this node to have a replica of its range. False: not now, since another replica still
    /// has keys of it.
    pub(crate) async fn adopt(self: &Arc<Self>, of: &Descriptor) -> Result<bool, StorageError> {
        let _one = self.one.lock().await;
        if let Some(replica) = self.get(of.id) {
            // Whoever is about to remove it doesn't.
            replica.adopted.fetch_add(1, Ordering::Relaxed);
            return Ok(true);
        }
        let Some(raft) = self.raft() else { return Ok(false) };
        if raft.holder(of.id, &parts_of(&of.span)).is_some() {
            return Ok(false);
        }
        // It may be beginning by itself, by what has been split off here.
        if let Some(known) = self.core.read.engine.get(Keyspace::Cur, &Descriptor::key(of.id))? {
            let known = Descriptor::decode(known);
            if known.is_ok_and(|known| known.replicas.contains(&self.core.node)) {
                return Ok(false);
            }
        }
        self.open_blank(raft, of.id).await?;
        tracing::info!(range = %of.id, "a replica is to be filled");
        Ok(true)
    }

    async fn open_blank(&self, raft: &Arc<MultiRaft>, id: RangeId) -> Result<(), StorageError> {
        let range = self.core.range_with(id);
        let applier = EntryApplier::new(Arc::clone(&self.core), Arc::clone(&range))?;
        let holds = Arc::clone(&applier.holds);
        let group = raft.open_group(id, Arc::new(applier)).await?;
        self.add_group(range, holds, group, false);
        Ok(())
    }

    /// The range's leaseholder has said that this node has no replica any more: it goes, with all that it
    /// holds. `adopted` is what [`Replica::adopted`] was before that was asked. Answers false if it stays.
    pub(crate) async fn dismiss(
        &self,
        replica: &Arc<Replica>,
        adopted: u64,
    ) -> Result<bool, StorageError> {
        let Some(raft) = self.raft() else { return Ok(false) };
        let (core, range) = (&self.core, &replica.range);
        let _one = self.one.lock().await;
        let there = self.get(range.id).is_some_and(|now| Arc::ptr_eq(&now, replica));
        let asked_for = replica.adopted.load(Ordering::Relaxed) != adopted;
        let leads = range.lease.here(&core.hlc).is_some();
        if !there || asked_for || leads || !range.pipeline.is_idle() {
            return Ok(false);
        }
        tracing::info!(range = %range.id, "the replica has moved away and is removed");
        self.all.write().remove(&range.id);
        let readers_leave = async {
            // Nobody begins to read here from now on. Whoever has just looked and found that it may has done so
            // by the end of the pause, or has a view of its own.
            range.set_replicates(false);
            range.reset_applied(Timestamp::MIN);
            tokio::time::sleep(READERS).await;
        };
        raft.remove_group(range.id, Bytes::new(), readers_leave).await?;
        // The keeper may have been looking at it.
        range.set_replicates(false);
        let batcher = self.batchers.lock().remove(&range.id);
        if let Some(batcher) = batcher {
            batcher.abort();
            let _ = batcher.await; // that it was ended
        }
        range.pipeline.installed(Timestamp::MIN);
        core.read.cache.clear();
        core.read.barren.clear();
        if range.id == FIRST {
            // It is always open: who has nothing of it has a blank one.
            self.open_blank(raft, FIRST).await?;
            range.set_replicates(false);
        }
        Ok(true)
    }

    /// No replica begins any more. The batchers, which end with their pipelines.
    pub(crate) fn end(&self) -> Vec<JoinHandle<()>> {
        let beginning = self.beginning.lock().take();
        beginning.iter().for_each(JoinHandle::abort);
        let batchers = std::mem::take(&mut *self.batchers.lock());
        beginning.into_iter().chain(batchers.into_values()).collect()
    }

    /// Waits until what is in flight has been applied; false if that takes too long, as on a full disk. It
    /// is in the log then, and the next start applies it.
    pub(crate) async fn drain(&self) -> bool {
        let drained = async {
            for replica in self.all() {
                replica.range.pipeline.drain().await;
            }
        };
        let in_time = tokio::time::timeout(DRAIN_LIMIT, drained).await.is_ok();
        if !in_time {
            tracing::warn!("some commits were not applied in time");
        }
        in_time
    }
}

impl Replica {
    pub(crate) fn new(range: Arc<Range>, holds: Arc<Holds>, group: Option<RaftGroup>) -> Replica {
        let (adopted, measured) = (AtomicU64::default(), Mutex::default());
        Replica { range, holds, group, begun: None, adopted, measured }
    }

    /// The voters, if nobody is on the way to become one or to go.
    pub(crate) fn settled(&self, me: NodeId) -> Option<Vec<NodeId>> {
        let Some(group) = &self.group else { return Some(vec![me]) };
        let members = group.members();
        let settled = !members.is_joint() && members.learners.is_empty();
        settled.then(|| members.all_voters().into_iter().collect())
    }
}

/// Begins the right halves of splits as they are applied.
async fn begin_all(replicas: Weak<Replicas>, mut born: mpsc::UnboundedReceiver<Birth>) {
    while let Some(birth) = born.recv().await {
        let Some(replicas) = replicas.upgrade() else { return };
        let id = birth.right.id;
        if let Err(error) = replicas.begin(birth).await {
            tracing::error!(%error, range = %id, "the right half of a split cannot begin here");
        }
    }
}

/// Campaigns until somebody leads what has been split off.
async fn lead_on(replicas: Weak<Replicas>, me: NodeId, group: RaftGroup) {
    let (mut roles, since) = (group.role(), Instant::now());
    let mut pause = CAMPAIGN_AGAIN;
    while since.elapsed() < CAMPAIGN {
        let role = *roles.borrow_and_update();
        if role.is_leader {
            break;
        }
        match role.leader {
            Some(leader) if leader != me => return,
            // Elected; what it begins with is on its way.
            Some(_) => {}
            None => group.campaign(),
        }
        let until = Instant::now() + pause;
        while until > Instant::now() && !roles.borrow().is_leader {
            let changed = tokio::time::timeout(until.since(Instant::now()), roles.changed());
            if let Ok(Err(_)) = changed.await {
                return; // it is being closed
            }
        }
        pause *= 2;
    }
    let role = *roles.borrow();
    let Some(replicas) = replicas.upgrade().filter(|_| role.is_leader) else { return };
    if replicas.core.alone {
        let range = replicas.core.range_with(group.id());
        if let Err(error) = replicas.core.lead(&range, role.term, None) {
            tracing::error!(%error, "cannot take the lease");
        }
    }
    replicas.news.notify_one();
}
