//! A proposal that came in pieces, on its way into the engine.
//!
//! Nothing of it may be seen before its last piece is committed, and a proposal that was cut off (by a
//! crash, by a full disk) leaves no trace. A small one is held and becomes engine batches at the end, the
//! markers with the last one: a crash in between repeats all of them. A large one goes straight into files
//! of the engine as it comes, which the engine enters at the end, before the markers are written.
//!
//! Readers see nothing of either before the end, since the applier's timestamps are above all snapshots.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use meridian_storage::{Engine, Ingest, Keyspace, Op, Space, StorageError, WriteBatch};
use tokio::sync::oneshot;

use crate::state_machine::{Applier, Publish, Shared};

/// Where pieces go.
pub(crate) struct Target {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) applier: Arc<dyn Applier>,
    pub(crate) shared: Arc<Shared>,
}

/// From this many pieces on the engine writes files of their own: each bulk write flushes its memtable and
/// syncs, which a few megabytes are not worth.
const INGEST_PIECES: usize = 4;
/// Bytes that the engine may be behind with a bulk write.
const BACKLOG_MAX: usize = 16 << 20;
/// How long a write waits before it looks again whether the engine has caught up.
const STALL_POLL: Duration = Duration::from_millis(2);

impl Target {
    /// Waits until the engine can take a batch without putting this thread to sleep, and the disk has room
    /// for it: on a full one nothing is lost, it is only late.
    pub(crate) async fn room(&self) {
        while self.engine.would_stall() || self.engine.space() == Space::None {
            self.shared.stalls.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(STALL_POLL).await;
        }
    }

    async fn apply(&self, ops: Vec<Op>) -> Result<(), StorageError> {
        if ops.is_empty() {
            return Ok(());
        }
        self.room().await;
        self.engine.apply(WriteBatch { ops })?;
        self.shared.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The pieces of one proposal.
#[derive(Default)]
pub(crate) struct Pieces {
    count: u32,
    bytes: u64,
    /// Pieces that are not written yet.
    held: Vec<Bytes>,
    bulk: Option<Bulk>,
}

struct Bulk {
    ingest: Box<dyn Ingest>,
    publish: Vec<Publish>,
}

impl Pieces {
    /// How many pieces have come.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Takes a piece that is not the last.
    pub(crate) async fn take(
        &mut self,
        number: u32,
        piece: Bytes,
        target: &Target,
    ) -> Result<(), StorageError> {
        self.count = number + 1;
        self.bytes += piece.len() as u64;
        self.held.push(piece);
        if self.bulk.is_none() && self.held.len() == INGEST_PIECES {
            let ingest = target.engine.ingest()?;
            self.bulk = ingest.map(|ingest| Bulk { ingest, publish: Vec::new() });
        }
        let Some(bulk) = &mut self.bulk else { return Ok(()) };
        for piece in self.held.drain(..) {
            bulk.write(piece, target).await?;
        }
        Ok(())
    }

    /// The last piece is committed: everything is written and published.
    pub(crate) async fn finish(self, target: &Target) -> Result<(), StorageError> {
        for piece in self.held {
            let mut ops = Vec::new();
            let publish = target.applier.prepare_piece(piece, &mut ops)?;
            target.apply(ops).await?;
            publish();
            // Other tasks of this thread (raft itself) get their turn.
            tokio::task::yield_now().await;
        }
        if let Some(Bulk { ingest, publish }) = self.bulk {
            target.room().await;
            let (done, outcome) = oneshot::channel();
            ingest.finish(Box::new(move |outcome| drop(done.send(outcome))));
            let gone = || StorageError::Stopped("the bulk writer has ended".into());
            outcome.await.map_err(|_| gone())??;
            publish.into_iter().for_each(|publish| publish());
        }
        target.shared.dirty_bytes.fetch_add(self.bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Bulk {
    async fn write(&mut self, piece: Bytes, target: &Target) -> Result<(), StorageError> {
        while self.ingest.backlog() > BACKLOG_MAX {
            tokio::time::sleep(STALL_POLL).await;
        }
        target.room().await;
        let mut ops = Vec::new();
        self.publish.push(target.applier.prepare_piece(piece, &mut ops)?);
        // What is superseded goes the usual way, and first. Should the proposal be cut off, it stays: a
        // version that is still the newest, with an end that never came, which no read looks at.
        let (cur, rest) = ops.into_iter().partition(|op| op.keyspace == Keyspace::Cur);
        target.apply(rest).await?;
        self.ingest.write(cur)?;
        tokio::task::yield_now().await;
        Ok(())
    }
}
