//! The seam between the commit batcher and whatever keeps the log.

use std::sync::Arc;

use futures::future::BoxFuture;
use meridian_kv::api::{Bytes, KvError};
use meridian_replication::{MultiRaft, RaftGroup};
use meridian_storage::{DataDirLock, RaftLog, SegLog, StorageError};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::apply::EntryApplier;
use crate::core::Core;

/// Why an entry wasn't acknowledged.
#[derive(Debug)]
pub(crate) enum ProposeError {
    /// It is certainly not in the log and never will be.
    Refused(KvError),
    /// As before, because this node does not lead in that term.
    NotLeader,
    /// It may be in the log.
    Unknown(String),
}

/// Encoded commands that are one proposal.
pub(crate) type Pieces<'a> = Box<dyn Iterator<Item = Bytes> + Send + 'a>;

fn refusal(error: meridian_replication::ProposeError) -> ProposeError {
    use meridian_replication::ProposeError as Raft;
    match error {
        Raft::NotLeader => ProposeError::NotLeader,
        Raft::DiskFull => ProposeError::Refused(KvError::DiskFull),
        Raft::Unknown(reason) => ProposeError::Unknown(reason),
    }
}

/// A log with a state machine behind it.
pub(crate) trait Proposer: Send + Sync + 'static {
    /// Puts an entry into the log, if this node leads in `term`. Resolves when the entry is durable and
    /// has been applied (the applier has then finished its commits). Entries are applied in the order of
    /// these calls.
    fn propose(&self, term: u64, entry: Bytes) -> BoxFuture<'_, Result<(), ProposeError>>;

    /// The same for commands that are too large for an entry: all of them, or none. They are asked for
    /// one by one as the log takes them; nothing else may be proposed meanwhile.
    fn propose_pieces<'a>(
        &'a self,
        term: u64,
        pieces: Pieces<'a>,
    ) -> BoxFuture<'a, Result<(), ProposeError>> {
        let mut entry = Vec::new();
        pieces.for_each(|piece| entry.extend_from_slice(&piece));
        self.propose(term, entry.into())
    }

    /// Starts the task that makes the proposals, where that takes the fewest changes of thread.
    fn start(&self, batcher: BoxFuture<'static, ()>) -> JoinHandle<()> {
        tokio::spawn(batcher)
    }

    /// Where pieces are to be made, if that would take too long where the batcher runs.
    fn workers(&self) -> Option<Handle> {
        None
    }

    /// Makes the engine durable. Blocks.
    fn checkpoint(&self) -> Result<(), StorageError>;

    /// The last checkpoint, then the end. Blocks.
    fn close(&self) -> Result<(), StorageError>;

    /// The end without a last checkpoint, as in a crash. Blocks.
    #[cfg(test)]
    fn abort(&self) {}

    /// Syncs of the log so far.
    fn fsyncs(&self) -> u64;

    /// Why writes are refused, if they are.
    fn failure(&self) -> Option<String> {
        None
    }
}

/// No log at all: entries are applied as they come. For stores in memory.
pub(crate) struct Unlogged {
    pub(crate) core: Arc<Core>,
    pub(crate) applier: EntryApplier,
}

impl Proposer for Unlogged {
    fn propose(&self, _term: u64, entry: Bytes) -> BoxFuture<'_, Result<(), ProposeError>> {
        let result = self.applier.apply(vec![entry]);
        Box::pin(async move { result.map_err(|error| ProposeError::Unknown(error.to_string())) })
    }

    fn checkpoint(&self) -> Result<(), StorageError> {
        self.core.read.engine.persist()
    }

    fn close(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn fsyncs(&self) -> u64 {
        0
    }
}

/// The raft group of a range. The directory's lock lives and dies with all of them. Fields are
/// dropped in this order.
pub(crate) struct Logged {
    pub(crate) raft: Arc<MultiRaft>,
    pub(crate) group: RaftGroup,
    pub(crate) log: Arc<SegLog>,
    pub(crate) workers: Handle,
    pub(crate) _dir: Arc<DataDirLock>,
}

impl Proposer for Logged {
    #[cfg(test)]
    fn abort(&self) {
        self.raft.stop_threads();
        self.log.close();
    }

    fn failure(&self) -> Option<String> {
        let until = match (self.raft.failed(), self.raft.refuses()) {
            (true, _) => "a restart",
            (false, true) => "it has room again",
            (false, false) => return None,
        };
        Some(format!("the disk is full: writes are refused until {until}"))
    }

    fn propose(&self, term: u64, entry: Bytes) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(async move { self.group.propose(term, entry).await.map_err(refusal) })
    }

    fn propose_pieces<'a>(
        &'a self,
        term: u64,
        mut pieces: Pieces<'a>,
    ) -> BoxFuture<'a, Result<(), ProposeError>> {
        Box::pin(async move { self.group.propose_pieces(term, &mut pieces).await.map_err(refusal) })
    }

    fn start(&self, batcher: BoxFuture<'static, ()>) -> JoinHandle<()> {
        self.raft.spawn(batcher)
    }

    fn workers(&self) -> Option<Handle> {
        Some(self.workers.clone())
    }

    fn checkpoint(&self) -> Result<(), StorageError> {
        self.raft.checkpoint()
    }

    fn close(&self) -> Result<(), StorageError> {
        let result = self.raft.shutdown();
        self.log.close();
        result
    }

    fn fsyncs(&self) -> u64 {
        self.log.stats().frames
    }
}
