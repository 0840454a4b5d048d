//! Making the engine durable, and the log shorter.
//!
//! Every few seconds, or after so many bytes, a helper thread asks the engine to persist what it has,
//! records in the log up to where that is for each group (`DurableApplied`), and lets openraft purge that
//! part. The apply path goes on meanwhile. The interval bounds two things: the memory of the log, and what
//! a restart has to apply again.
//!
//! A leader keeps what a follower still lacks, as long as all groups together keep less than a bound; a
//! follower is one checkpoint late with purging, so that it can serve the others if it comes to lead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_base::{NodeId, RangeId, sched};
use meridian_storage::{LogWrite, Slot, Space, StorageError};
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::{Condvar, Mutex};

use crate::codec;
use crate::group::Group;
use crate::node::Node;
use crate::types::LogId;

/// The thread's state.
pub(crate) struct Checkpointer {
    node: Arc<Node>,
    /// One at a time.
    running: Mutex<()>,
    stop: Mutex<bool>,
    wake: Condvar,
}

/// How often the thread looks whether enough has been written.
const POLL: Duration = Duration::from_millis(100);
/// How long openraft may take to note a snapshot and to purge.
const PURGE_TIMEOUT: Duration = Duration::from_secs(10);

impl Checkpointer {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, running: Mutex::default(), stop: Mutex::new(false), wake: Condvar::new() }
    }

    /// Persists the engine and purges the log up to there. Blocks for as long as the disk takes.
    pub(crate) fn checkpoint(&self) -> Result<(), StorageError> {
        let _one = self.running.lock();
        let node = &self.node;
        if node.failed.load(Ordering::Relaxed) || node.engine.space() == Space::None {
            return Err(StorageError::DiskFull);
        }
        let groups: Vec<Arc<Group>> = node.groups.read().values().cloned().collect();
        let mut dirty = Vec::new();
        for group in &groups {
            let before = *group.shared.durable.lock();
            let applied = group.shared.applied.lock().log_id;
            if let Some(applied) = applied.filter(|_| applied != before) {
                dirty.push((group, before, applied));
            }
        }
        if !dirty.is_empty() {
            node.dirty_bytes.store(0, Ordering::Relaxed);
            node.engine.persist().inspect_err(|error| self.persist_failed(error))?;
        }
        for (group, _, applied) in &dirty {
            // Recorded before the purge, so that a purged log always knows what the engine must have.
            let slot = LogWrite::Slot(Slot::DurableApplied, codec::encode_log_id(applied));
            // Whoever removes it takes it from there first: the log must not hear of it afterwards.
            let open = node.groups.read();
            if !open.get(&group.id).is_some_and(|now| Arc::ptr_eq(now, group)) {
                continue;
            }
            node.log.submit(group.id, vec![slot], None)?;
            let mut durable = group.shared.durable.lock();
            *durable = (*durable).max(Some(*applied));
        }
        if *self.stop.lock() {
            return Ok(());
        }
        let before = |group: &Arc<Group>| {
            let found = dirty.iter().find(|(dirty, ..)| dirty.id == group.id);
            found.map_or_else(|| *group.shared.durable.lock(), |(_, before, _)| *before)
        };
        let wanted = groups.iter().map(|group| (group, before(group)));
        let wanted: Vec<_> = wanted.filter_map(|(group, at)| purge_to(group, at)).collect();
        self.purge(wanted);
        for group in &groups {
            let mut view = group.shared.view.lock();
            if view.as_ref().is_some_and(|view| view.is_old()) {
                *view = None;
            }
        }
        Ok(())
    }

    /// A checkpoint, after which one group's log holds nothing that the engine has.
    pub(crate) fn shorten(&self, id: RangeId) -> Result<(), StorageError> {
        self.checkpoint()?;
        let _one = self.running.lock();
        let Some(group) = self.node.group(id).filter(|_| !*self.stop.lock()) else {
            return Ok(());
        };
        let Some(purge) = purge_to(&group, None) else { return Ok(()) };
        let purged = self.node.runtime.block_on(self.purge_log(&purge, purge.most));
        purged.map_err(|(group, why)| {
            StorageError::Stopped(format!("the log of {group} was not purged: {why}"))
        })
    }

    /// A failed sync must not be tried again: the kernel may have dropped what it could not write, and the
    /// next attempt would report success. The log still has everything, so the node ends and redoes it.
    /// Only on a full disk does it stay, for reads and for the operator; writes are refused.
    fn persist_failed(&self, error: &StorageError) {
        self.node.failed.store(true, Ordering::Relaxed);
        tracing::error!(%error, "the engine cannot be made durable");
        if !matches!(error, StorageError::DiskFull) {
            std::process::abort();
        }
    }

    /// Purges what nobody needs, and what is kept too long.
    fn purge(&self, wanted: Vec<Purge>) {
        let keep = self.node.config.keep_bytes;
        let bytes_of = |purge: &Purge| {
            let entries = self.node.log.entries(purge.group.id, purge.free + 1, purge.most + 1);
            entries.iter().map(|(_, data)| data.len() as u64).sum::<u64>()
        };
        let mut kept: Vec<u64> = wanted.iter().map(bytes_of).collect();
        let mut upto: Vec<u64> = wanted.iter().map(|purge| purge.free).collect();
        while kept.iter().sum::<u64>() > keep
            && let Some(most) = (0..kept.len()).max_by_key(|n| kept[*n])
        {
            (kept[most], upto[most]) = (0, wanted[most].most);
        }
        let purging = wanted.iter().zip(upto).filter(|(purge, upto)| Some(*upto) > purge.purged);
        let purging: Vec<_> = purging.map(|(purge, upto)| self.purge_log(purge, upto)).collect();
        if purging.is_empty() {
            return;
        }
        for outcome in self.node.runtime.block_on(futures::future::join_all(purging)) {
            if let Err((group, why)) = outcome {
                // The log stays longer; the next checkpoint tries again.
                tracing::warn!(%why, %group, "the log was not purged");
            }
        }
    }

    /// Has openraft take note of the snapshot that the engine now is, and drop the log up to `upto`.
    async fn purge_log(&self, purge: &Purge, upto: u64) -> Result<(), (RangeId, String)> {
        let group = &purge.group;
        let trigger = group.raft.trigger();
        let fatal = |e: openraft::errors::Fatal<_>| (group.id, e.to_string());
        let late = |e: openraft::metrics::WaitError| (group.id, e.to_string());
        trigger.snapshot().await.map_err(fatal)?;
        let wait = group.raft.wait(Some(PURGE_TIMEOUT));
        let reached = |id: &Option<LogId>| id.as_ref().map(LogId::index) >= Some(upto);
        wait.metrics(|m| reached(&m.snapshot), "snapshot").await.map_err(late)?;
        trigger.purge_log(upto).await.map_err(fatal)?;
        if upto <= purge.free {
            wait.metrics(|m| reached(&m.purged), "purge").await.map_err(late)?;
            return Ok(());
        }
        // openraft purges nothing that is on its way to a follower. One that is down holds it for long.
        for node in &purge.lagging {
            let peer = self.node.peers.get(*node);
            if !peer.is_up() {
                peer.give_up();
            }
        }
        Ok(())
    }

    /// Ends the thread, after a checkpoint that is under way.
    pub(crate) fn stop(&self) {
        let _one = self.running.lock();
        *self.stop.lock() = true;
        self.wake.notify_all();
    }

    /// The thread's loop.
    pub(crate) fn run(&self) {
        sched::background();
        let config = &self.node.config;
        let mut waited = Duration::ZERO;
        let mut stop = self.stop.lock();
        while !*stop {
            self.wake.wait_for(&mut stop, POLL);
            waited += POLL;
            let dirty = self.node.dirty_bytes.load(Ordering::Relaxed);
            if *stop || (waited < config.checkpoint_interval && dirty < config.checkpoint_bytes) {
                continue;
            }
            waited = Duration::ZERO;
            drop(stop);
            if let Err(error) = self.checkpoint() {
                tracing::error!(%error, "a checkpoint failed");
            }
            stop = self.stop.lock();
        }
    }
}

/// What of a group's log may go.
struct Purge {
    group: Arc<Group>,
    /// What is purged.
    purged: Option<u64>,
    /// Nobody needs what is up to here.
    free: u64,
    /// What is durable: the rest up to here is kept for others.
    most: u64,
    /// They need it.
    lagging: Vec<NodeId>,
}

/// `before` is what was durable at the last checkpoint.
fn purge_to(group: &Arc<Group>, before: Option<LogId>) -> Option<Purge> {
    let index = |id: &Option<LogId>| id.as_ref().map(LogId::index);
    let most = index(&group.shared.durable.lock())?;
    let metrics = group.raft.metrics();
    let metrics = metrics.borrow_watched();
    let purged = index(&metrics.purged);
    if purged >= Some(most) {
        return None;
    }
    let (mut free, mut lagging) = (most, Vec::new());
    if let Some(followers) = &metrics.replication {
        for (node, matched) in followers.iter() {
            let matched = index(matched).unwrap_or(0);
            free = free.min(matched);
            if matched < most {
                lagging.push(NodeId(*node));
            }
        }
    } else if metrics.membership_config.membership().nodes().count() > 1 {
        free = index(&before).unwrap_or(0).min(most);
    }
    Some(Purge { group: Arc::clone(group), purged, free, most, lagging })
}
