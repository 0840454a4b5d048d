//! Committed entries become one engine batch.
//!
//! Everything that is ready is applied together: the [`Applier`] turns entries into blind writes, the batch
//! gets the *applied markers*, the engine takes it, the applier publishes. A marker goes to `cur` and one
//! to `hist`:
//!
//! ```text
//! cur   R ‖ range ‖ "applied"      → log id          hist  R ‖ range ‖ "applied"  → log id
//!       R ‖ range ‖ "membership"   → log id, members
//! ```
//! A keyspace's marker says exactly which entries that keyspace contains, since each keyspace keeps or
//! loses a batch as a whole. After a crash, redo begins at the older of the two; writes that one of them
//! already has are repeated, which changes nothing.
//!
//! # Proposals in pieces
//! A proposal that is too large for an entry comes as several, see [`crate::pieces`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use meridian_base::{RangeId, keys, limits};
use meridian_storage::{Engine, Keyspace, Op, RaftLog, Slot, StorageError, WriteBatch};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::codec;
use crate::install;
use crate::pieces::{Pieces, Target};
use crate::snapshot::{self, RangeSnapshot, View};
use crate::types::{LeaderId, LogId, Part, Payload, StoredMembership, Types};

/// What is left to do once the engine has a batch: caches, snapshots, waiters.
pub type Publish = Box<dyn FnOnce() + Send + Sync>;

/// Gives entries their meaning. Called on the raft thread only, in log order.
pub trait Applier: Send + Sync + 'static {
    /// Turns entries (as they were proposed) into blind engine writes, appended to `ops`, and answers
    /// what to do after the engine has taken them, before the proposals are resolved. Must not depend on
    /// anything but the entries: after a restart the same ones come again, possibly over a store that
    /// already has them.
    ///
    /// # Errors
    /// Only for entries that cannot be understood: the group stops, since its replicas would diverge.
    fn prepare(&self, entries: Vec<Bytes>, ops: &mut Vec<Op>) -> Result<Publish, StorageError>;

    /// As [`Applier::prepare`], for a piece that is not the last of its proposal: its writes must not be
    /// shown to anybody yet.
    ///
    /// # Errors
    /// As [`Applier::prepare`].
    fn prepare_piece(&self, piece: Bytes, ops: &mut Vec<Op>) -> Result<Publish, StorageError> {
        self.prepare(vec![piece], ops)
    }

    /// The spans of physical keys that are the range's and on this node, so that a replica can be shipped, replaced and
    /// removed; what is under `R ‖ range` need not be named. `None`: the range stays where it is.
    fn content(&self) -> Option<Vec<snapshot::Part>> {
        None
    }

    /// A snapshot has taken the place of everything that was applied before: whatever is kept in memory
    /// of it is to be read anew.
    ///
    /// # Errors
    /// What was received cannot be understood: the group stops.
    fn installed(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// The content that is read now, at any age, is that of the log up to this index at least. Not said while
    /// redo hasn't brought back all that was lost with a crash.
    fn reached(&self, _index: u64) {}

    /// The content is about to be replaced by a snapshot, or removed: nothing can be read until an index is
    /// reached again.
    fn leaving(&self) {}
}

/// Why nothing is applied any more.
const REMOVED: &str = "the replica is being removed";

/// The applied state, as others may ask for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied {
    pub(crate) log_id: Option<LogId>,
    pub(crate) membership: StoredMembership,
    /// The index of the newer marker that was found: up to there one of the keyspaces may lack something.
    whole_at: u64,
}

impl Applied {
    pub(crate) fn new(log_id: LogId, membership: StoredMembership) -> Applied {
        Applied { log_id: Some(log_id), membership, whole_at: 0 }
    }

    /// The applied index, if both keyspaces have all up to there.
    pub(crate) fn whole(&self) -> Option<u64> {
        self.log_id.map(|id| id.index()).filter(|index| *index >= self.whole_at)
    }
}

/// What the state machine shares with the handle and the checkpoint thread.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) applied: Mutex<Applied>,
    /// The applied log id that the engine has made durable.
    pub(crate) durable: Mutex<Option<LogId>>,
    /// Bytes that the node has applied since the last checkpoint.
    pub(crate) dirty_bytes: Arc<AtomicU64>,
    pub(crate) batches: AtomicU64,
    /// Times that a batch had to wait for the engine's background work.
    pub(crate) stalls: AtomicU64,
    /// The leader whose blank entry was applied last: everything before its term is.
    pub(crate) begun: Mutex<Option<LeaderId>>,
    /// The term in which this node has offered its leadership to another.
    pub(crate) leaving_term: AtomicU64,
    /// One of the two has changed.
    pub(crate) role_changed: Notify,
    /// openraft has started, and may ask for snapshots that are to be sent.
    pub(crate) started: AtomicBool,
    /// The view that followers are sent, kept for a while in case they come again.
    pub(crate) view: Mutex<Option<Arc<View>>>,
    /// The content of a snapshot that openraft has been offered.
    pub(crate) receiving: Mutex<Option<Vec<snapshot::Part>>>,
    /// The replica is being removed. Held by who applies: what was begun before lands before.
    pub(crate) gone: tokio::sync::Mutex<bool>,
    /// The same, until it is installed or refused.
    pub(crate) claimed: Mutex<Vec<snapshot::Part>>,
}

/// The state machine of one group.
pub(crate) struct StateMachine {
    pub(crate) group: RangeId,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) log: Arc<dyn RaftLog>,
    pub(crate) applier: Arc<dyn Applier>,
    pub(crate) shared: Arc<Shared>,
    /// Pieces of a proposal whose last one is not committed yet.
    pub(crate) pieces: Pieces,
    /// A membership that was committed between them, to be written with the last one.
    pub(crate) late: Option<StoredMembership>,
}

pub(crate) fn applied_key(group: RangeId) -> Vec<u8> {
    keys::range_state_key(group, b"applied")
}

fn membership_key(group: RangeId) -> Vec<u8> {
    keys::range_state_key(group, b"membership")
}

/// Whether a key under `R ‖ range` is replication's and no part of the range's content.
pub(crate) fn is_own_key(group: RangeId, key: &[u8]) -> bool {
    key.first() == Some(&keys::RANGE)
        && [applied_key(group), membership_key(group), install::flag_key(group)]
            .iter()
            .any(|own| own == key)
}

/// Says in both keyspaces what they contain.
pub(crate) fn put_markers(
    group: RangeId,
    marker: Bytes,
    membership: Option<&StoredMembership>,
    batch: &mut WriteBatch,
) {
    batch.put(Keyspace::Cur, applied_key(group), marker.clone());
    batch.put(Keyspace::Hist, applied_key(group), marker);
    if let Some(membership) = membership {
        let value = codec::encode_stored_membership(membership);
        batch.put(Keyspace::Cur, membership_key(group), value);
    }
}

pub(crate) fn delete_markers(group: RangeId, batch: &mut WriteBatch) {
    batch.delete(Keyspace::Cur, applied_key(group));
    batch.delete(Keyspace::Hist, applied_key(group));
    batch.delete(Keyspace::Cur, membership_key(group));
}

/// The point from which redo must begin: the older marker.
pub(crate) fn recover(engine: &dyn Engine, group: RangeId) -> Result<Applied, StorageError> {
    let marker = |keyspace| {
        let value = engine.get(keyspace, &applied_key(group))?;
        let damaged = || StorageError::Corruption(format!("the applied marker of {group}"));
        value.map(|v| codec::decode_log_id(&v).ok_or_else(damaged)).transpose()
    };
    let (cur, hist): (Option<LogId>, Option<LogId>) =
        (marker(Keyspace::Cur)?, marker(Keyspace::Hist)?);
    let log_id = cur.min(hist);
    let whole_at = cur.max(hist).map_or(0, |id| id.index());
    let stored = engine.get(Keyspace::Cur, &membership_key(group))?;
    let damaged = || StorageError::Corruption(format!("the membership of {group}"));
    let stored =
        stored.map(|v| codec::decode_stored_membership(v).ok_or_else(damaged)).transpose()?;
    // A membership above the point of redo is met again in the log.
    let membership = stored.filter(|m| *m.log_id() <= log_id).unwrap_or_default();
    Ok(Applied { log_id, membership, whole_at })
}

/// Entries on their way into one engine batch.
#[derive(Default)]
struct Gathered {
    entries: Vec<Bytes>,
    bytes: usize,
    last: Option<LogId>,
    membership: Option<StoredMembership>,
    begun: Option<LeaderId>,
    responders: Vec<openraft::storage::ApplyResponder<Types>>,
}

impl StateMachine {
    /// Takes note of a command; true when it is to be written now.
    async fn gather(
        &mut self,
        gathered: &mut Gathered,
        last: LogId,
        payload: Payload,
    ) -> Result<bool, StorageError> {
        let part = payload.part;
        let damaged = || StorageError::Corruption(format!("entry {} is damaged", last.index()));
        let bytes = payload.unpacked().ok_or_else(damaged)?;
        match part {
            // Whatever is held was cut off: its proposer has given up.
            Part::Whole => self.pieces = Pieces::default(),
            Part::Piece(0) => {
                self.write_gathered(gathered).await?;
                self.pieces = Pieces::default();
                self.pieces.take(0, bytes, &self.target()).await?;
                return Ok(false);
            }
            Part::Piece(number) => {
                self.check_number(last, number)?;
                let target = self.target();
                self.pieces.take(number, bytes, &target).await?;
                return Ok(false);
            }
            Part::Last(number) => {
                self.check_number(last, number)?;
                self.write_gathered(gathered).await?;
                let pieces = std::mem::take(&mut self.pieces);
                pieces.finish(&self.target()).await?;
            }
        }
        gathered.last = Some(last);
        gathered.bytes += bytes.len();
        gathered.entries.push(bytes);
        Ok(part != Part::Whole || gathered.bytes >= limits::ENTRY_BYTES_MAX)
    }

    pub(crate) fn target(&self) -> Target {
        let (engine, applier) = (Arc::clone(&self.engine), Arc::clone(&self.applier));
        Target { engine, applier, shared: Arc::clone(&self.shared) }
    }

    fn check_number(&self, at: LogId, number: u32) -> Result<(), StorageError> {
        if self.pieces.count() == number {
            return Ok(());
        }
        let (at, group) = (at.index(), self.group);
        let what = format!("entry {at} of {group} is a piece without the others");
        Err(StorageError::Corruption(what))
    }

    async fn write_gathered(&self, gathered: &mut Gathered) -> Result<(), StorageError> {
        match gathered.last {
            Some(_) => self.write(std::mem::take(gathered)).await,
            None => Ok(()),
        }
    }

    async fn write(&self, gathered: Gathered) -> Result<(), StorageError> {
        let Some(last) = gathered.last else { return Ok(()) };
        self.target().room().await;
        let mut batch = WriteBatch::with_capacity(gathered.entries.len() * 4 + 3);
        let publish = self.applier.prepare(gathered.entries, &mut batch.ops)?;
        let marker = codec::encode_log_id(&last);
        put_markers(self.group, marker, gathered.membership.as_ref(), &mut batch);
        self.engine.apply(batch)?;
        let whole = {
            let mut applied = self.shared.applied.lock();
            applied.log_id = Some(last);
            if let Some(membership) = gathered.membership {
                applied.membership = membership;
            }
            applied.whole()
        };
        self.shared.dirty_bytes.fetch_add(gathered.bytes as u64, Ordering::Relaxed);
        self.shared.batches.fetch_add(1, Ordering::Relaxed);
        publish();
        if let Some(index) = whole {
            self.applier.reached(index);
        }
        if gathered.begun.is_some() {
            *self.shared.begun.lock() = gathered.begun;
            self.shared.role_changed.notify_one();
        }
        for responder in gathered.responders {
            responder.send(());
        }
        Ok(())
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = RangeSnapshot;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.shared.applied.lock().clone();
        Ok((applied.log_id, applied.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let shared = Arc::clone(&self.shared);
        let gone = shared.gone.lock().await;
        if *gone {
            return Err(io::Error::other(REMOVED));
        }
        let mut gathered = Gathered { membership: self.late.take(), ..Gathered::default() };
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let full = match entry.payload {
                // A leader begins with a blank entry; its predecessor's proposals are over.
                EntryPayload::Blank => {
                    self.pieces = Pieces::default();
                    gathered.last = Some(entry.log_id);
                    gathered.begun = Some(*entry.log_id.committed_leader_id());
                    false
                }
                EntryPayload::Normal(payload) => self
                    .gather(&mut gathered, entry.log_id, payload)
                    .await
                    .map_err(io::Error::other)?,
                EntryPayload::Membership(membership) => {
                    let stored = StoredMembership::new(Some(entry.log_id), membership);
                    gathered.membership = Some(stored);
                    // Redo must begin before the pieces that are held.
                    if self.pieces.count() == 0 {
                        gathered.last = Some(entry.log_id);
                    }
                    false
                }
            };
            gathered.responders.extend(responder);
            // A restart hands over the whole log at once; bound what is in one batch.
            if full {
                self.write(std::mem::take(&mut gathered)).await.map_err(io::Error::other)?;
            }
        }
        if gathered.last.is_none() {
            // Pieces that are held: their proposer goes on with the next one.
            for responder in gathered.responders {
                responder.send(());
            }
            self.late = gathered.membership;
            return Ok(());
        }
        self.write(gathered).await.map_err(io::Error::other)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { shared: Arc::clone(&self.shared) }
    }

    async fn install_snapshot(
        &mut self,
        meta: &openraft::alias::SnapshotMetaOf<Types>,
        _snapshot: RangeSnapshot,
    ) -> Result<(), io::Error> {
        let shared = Arc::clone(&self.shared);
        let gone = shared.gone.lock().await;
        if *gone {
            return Err(io::Error::other(REMOVED));
        }
        self.install(meta).await.map_err(io::Error::other)
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::alias::SnapshotOf<Types, RangeSnapshot>>, io::Error> {
        if !self.shared.started.load(Ordering::Acquire) {
            return Ok(self.shared.snapshot());
        }
        let purged = self.log.slot(self.group, Slot::Purged);
        let purged = purged.and_then(|bytes| codec::decode_log_id(&bytes)).map(|id| id.index());
        let applied = self.shared.applied.lock().clone();
        let (engine, applier) = (self.engine.as_ref(), self.applier.as_ref());
        let mut kept = self.shared.view.lock();
        let view = View::of(self.group, engine, applier, &applied, &mut kept, purged);
        drop(kept);
        match view {
            Some(view) => {
                Ok(Some(Snapshot { meta: view.meta(), snapshot: RangeSnapshot::View(view) }))
            }
            None => Ok(self.shared.snapshot()),
        }
    }
}

impl Shared {
    fn snapshot(&self) -> Option<openraft::alias::SnapshotOf<Types, RangeSnapshot>> {
        self.snapshot_at(None)
    }

    fn snapshot_at(
        &self,
        otherwise: Option<LogId>,
    ) -> Option<openraft::alias::SnapshotOf<Types, RangeSnapshot>> {
        let last_log_id = Some(self.durable.lock().or(otherwise)?);
        let last_membership = self.applied.lock().membership.clone();
        let meta = SnapshotMeta { last_log_id, last_membership };
        Some(Snapshot { meta, snapshot: RangeSnapshot::Logical })
    }
}

/// "Builds" the logical snapshot of the last checkpoint.
pub(crate) struct SnapshotBuilder {
    shared: Arc<Shared>,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = RangeSnapshot;

    async fn build_snapshot(
        &mut self,
    ) -> Result<openraft::alias::SnapshotOf<Types, RangeSnapshot>, io::Error> {
        // Without a checkpoint openraft asks only when it finds a purged log; what is applied is then all
        // there is.
        let applied = self.shared.applied.lock().log_id;
        let meta = SnapshotMeta::default();
        let nothing = || Snapshot { meta, snapshot: RangeSnapshot::Logical };
        Ok(self.shared.snapshot_at(applied).unwrap_or_else(nothing))
    }
}
