//! The batcher: takes what a range's pipeline holds and makes log entries of it, one in flight at a time.
//!
//! What arrives while an entry is in flight is the next one, so the number of syncs adapts to the load
//! without a timer.

use std::sync::Arc;

use meridian_base::limits::ENTRY_BYTES_MAX;
use meridian_kv::api::{Bytes, KvError};
use meridian_kv::range::{Command, LogEntry, Marker, Record, Resolve};
use meridian_kv::txn::ReadSet;

use crate::commit::CommitError;
use crate::core::Core;
use crate::proposer::{ProposeError, Proposer};
use crate::range::Range;

fn encode(commands: &[LogEntry], size: usize) -> Bytes {
    let mut entry = Vec::with_capacity(size);
    for command in commands {
        command.encode(&mut entry);
    }
    entry.into()
}

/// Proposes what is one entry, or one command that doesn't fit into an entry and is made several.
async fn propose(
    proposer: &Arc<dyn Proposer>,
    term: u64,
    mut commands: Vec<LogEntry>,
    size: usize,
) -> Result<(), ProposeError> {
    if size > ENTRY_BYTES_MAX
        && let Some(LogEntry::Commit(command)) =
            commands.pop_if(|last| matches!(last, LogEntry::Commit(_)))
    {
        debug_assert!(commands.is_empty(), "a batch is larger than an entry if it is one command");
        let pieces = Box::new(command.pieces(ENTRY_BYTES_MAX));
        let Some(workers) = proposer.workers() else {
            return proposer.propose_pieces(term, pieces).await;
        };
        let proposer = Arc::clone(proposer);
        let proposing = async move { proposer.propose_pieces(term, pieces).await };
        let ended = workers.spawn(proposing).await;
        return ended.unwrap_or_else(|cut| Err(ProposeError::Unknown(cut.to_string())));
    }
    let entry = encode(&commands, size);
    drop(commands);
    proposer.propose(term, entry).await
}

/// A commit over several ranges is counted when it has been decided.
fn is_commit(entry: &&LogEntry) -> bool {
    matches!(entry, LogEntry::Commit(_))
}

/// What is needed of an entry to say later that it was lost.
fn name_of(entry: &LogEntry) -> LogEntry {
    let no_writes = |marker: &Marker| Resolve { marker: marker.clone(), writes: Vec::new() };
    match entry {
        LogEntry::Commit(Command { txn, ts, .. }) => {
            let (writes, runs) = (Vec::new(), Vec::new());
            LogEntry::Commit(Command { txn: *txn, ts: *ts, writes, runs })
        }
        LogEntry::Prepare(Record { header, own, ts, .. }) => LogEntry::Prepare(Record {
            header: header.clone(),
            own: *own,
            ts: *ts,
            writes: Vec::new(),
            locks: Vec::new(),
            reads: ReadSet::default(),
        }),
        LogEntry::Resolve(resolve) => LogEntry::Resolve(no_writes(&resolve.marker)),
        LogEntry::Mark(_) | LogEntry::Collect(_) | LogEntry::Split(_) => entry.clone(),
    }
}

/// Ends the pipeline when the batcher ends without being asked to: a panic must not leave commits
/// waiting for an outcome that nobody will bring.
struct Watch<'a>(&'a Core, &'a Range);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // Nothing waits where there is no replica any more.
        if !self.1.replicates() {
            return;
        }
        let reason = "the commit pipeline has failed".to_owned();
        self.1.pipeline.poison(self.0, &KvError::Ambiguous, KvError::Unavailable { reason });
    }
}

/// The batcher: one entry in flight, the next one growing meanwhile. Ends when the pipeline has been
/// closed and is empty.
pub(crate) async fn run_batcher(core: Arc<Core>, range: Arc<Range>, proposer: Arc<dyn Proposer>) {
    let _watch = Watch(&core, &range);
    let pipeline = &range.pipeline;
    loop {
        let (term, commands) = pipeline.next_batch();
        if commands.is_empty() {
            if pipeline.finished() {
                return;
            }
            pipeline.work.notified().await;
            continue;
        }
        let names: Vec<_> = commands.iter().map(name_of).collect();
        let size = commands.iter().map(LogEntry::size).sum();
        let outcome = propose(&proposer, term, commands, size).await;
        match outcome {
            Ok(()) => core.stats.batch(names.iter().filter(is_commit).count(), size),
            Err(ProposeError::Refused(error)) => {
                pipeline.abandon(&core, term, &names, &error.into());
            }
            Err(ProposeError::NotLeader) => {
                core.lost_lease(&range, term);
                pipeline.abandon(&core, term, &names, &CommitError::Moved);
            }
            Err(ProposeError::Unknown(reason)) if core.alone => {
                tracing::error!(%reason, "commit outcome unknown; the store takes no more writes");
                let closed = KvError::Unavailable { reason };
                pipeline.poison(&core, &KvError::Ambiguous, closed);
            }
            Err(ProposeError::Unknown(reason)) => {
                tracing::warn!(%reason, term, "commits were cut off");
                core.lost_lease(&range, term);
                pipeline.abandon(&core, term, &names, &CommitError::Unknown(reason));
            }
        }
    }
}
