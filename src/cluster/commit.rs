//! The way of a commit: sequenced, queued, proposed in batches, applied, acknowledged.
//!
//! One mutex guards the sequencer and the queue, so queue order is timestamp order. One task takes
//! what the queue holds, makes one log entry of it and waits for it; what arrives meanwhile becomes
//! the next entry. So the number of syncs adapts to the load without a timer: one commit alone waits
//! for nobody, and a hundred share a sync.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use meridian_base::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use meridian_kv::api::{Bytes, Key, KvError, Timestamp};
use meridian_kv::locks::Owner;
use meridian_kv::range::{Command, CommitRequest, Newest, Sequencer, Version};
use meridian_kv::run::Run;
use meridian_kv::txn::LockedKey;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::core::Core;
use crate::proposer::{ProposeError, Proposer};

/// The row locks of a commit.
#[derive(Default)]
pub(crate) struct Locks {
    pub(crate) rows: BTreeMap<Key, LockedKey>,
    pub(crate) runs: Vec<Arc<Run>>,
}

impl Locks {
    pub(crate) fn release(&self, core: &Core, owner: Owner) {
        // A run goes first: what it has shown in the table may lie above a lock of its own.
        for run in &self.runs {
            core.locks.release_run(owner, run);
        }
        for key in self.rows.keys() {
            core.locks.release_row(key, owner, 0);
        }
    }
}

/// A commit between its sequencing and its end.
pub(crate) struct Flight {
    ts: Timestamp,
    owner: Owner,
    locks: Locks,
    done: oneshot::Sender<Result<Timestamp, KvError>>,
}

impl Flight {
    /// Gives the locks back, then tells the committing task. A task that has gone away (its client
    /// disconnected) changes nothing about the commit.
    pub(crate) fn finish(self, core: &Core, outcome: Result<(), KvError>) {
        self.locks.release(core, self.owner);
        let _ = self.done.send(outcome.map(|()| self.ts));
    }
}

struct Ordered {
    sequencer: Sequencer,
    queue: VecDeque<Command>,
    flights: VecDeque<Flight>,
    /// Why no commit is accepted any more.
    closed: Option<KvError>,
}

/// Sequencer, queue and the commits in flight.
pub(crate) struct CommitPipeline {
    ordered: Mutex<Ordered>,
    work: Notify,
    drained: Notify,
}

/// The newest versions of the written keys, looked up before the sequencer is locked: the keys'
/// locks are held, so they can't change in between.
struct Prefetched<'a>(&'a [(Key, Option<Version>)]);

impl Newest for Prefetched<'_> {
    fn newest(&self, key: &[u8]) -> Result<Option<Version>, KvError> {
        let at = self.0.binary_search_by(|(known, _)| known[..].cmp(key));
        Ok(at.ok().and_then(|at| self.0[at].1.clone()))
    }
}

/// A commit as the transaction hands it over.
pub(crate) struct Submission<'a> {
    pub(crate) request: CommitRequest<'a>,
    pub(crate) owner: Owner,
}

impl CommitPipeline {
    pub(crate) fn new(applied: Timestamp, ring_len: usize) -> CommitPipeline {
        let sequencer = Sequencer::new(applied, ring_len);
        let (queue, flights) = (VecDeque::new(), VecDeque::new());
        let ordered = Ordered { sequencer, queue, flights, closed: None };
        CommitPipeline { ordered: Mutex::new(ordered), work: Notify::new(), drained: Notify::new() }
    }

    /// Sequences and queues a commit. On success the row locks belong to the commit; on failure they
    /// stay with the transaction.
    pub(crate) fn submit(
        &self,
        core: &Core,
        submission: Submission<'_>,
        take_locks: impl FnOnce() -> Locks,
    ) -> Result<oneshot::Receiver<Result<Timestamp, KvError>>, KvError> {
        let Submission { request, owner } = submission;
        let olds = request
            .writes
            .iter()
            .map(|write| Ok((write.key.clone(), core.read.newest(&write.key)?)))
            .collect::<Result<Vec<_>, KvError>>()?;
        let now = core.hlc.now();
        let (done, outcome) = oneshot::channel();
        {
            let mut ordered = self.ordered.lock();
            if let Some(reason) = &ordered.closed {
                return Err(reason.clone());
            }
            let command = match ordered.sequencer.sequence(now, request, &Prefetched(&olds)) {
                Ok(command) => command,
                Err(refused) => {
                    core.stats.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(refused.into());
                }
            };
            let flight = Flight { ts: command.ts, owner, locks: take_locks(), done };
            ordered.flights.push_back(flight);
            ordered.queue.push_back(command);
        }
        self.work.notify_one();
        Ok(outcome)
    }

    /// Takes the next entry's commands off the queue.
    fn next_batch(&self) -> Vec<Command> {
        let mut ordered = self.ordered.lock();
        let (mut commands, mut bytes) = (Vec::new(), 0);
        while let Some(next) = ordered.queue.front() {
            bytes += next.size();
            if !commands.is_empty()
                && (bytes > ENTRY_BYTES_MAX || commands.len() >= ENTRY_COMMANDS_MAX)
            {
                break;
            }
            commands.push(ordered.queue.pop_front().expect("front was there"));
        }
        commands
    }

    /// The apply path has made everything up to `ts` visible in the engine and the cache: moves the
    /// snapshot and hands back the flights to finish.
    pub(crate) fn applied(&self, core: &Core, ts: Timestamp) -> Vec<Flight> {
        let mut ordered = self.ordered.lock();
        ordered.sequencer.applied_to(ts);
        core.set_applied(ts);
        let landed = ordered.flights.iter().take_while(|flight| flight.ts <= ts).count();
        ordered.flights.drain(..landed).collect()
    }

    /// These commits never got into the log.
    fn abandon(&self, core: &Core, timestamps: &[Timestamp], error: &KvError) {
        for &ts in timestamps {
            let flight = {
                let mut ordered = self.ordered.lock();
                ordered.sequencer.abandon(ts);
                let at = ordered.flights.iter().position(|flight| flight.ts == ts);
                at.and_then(|at| ordered.flights.remove(at))
            };
            if let Some(flight) = flight {
                flight.finish(core, Err(error.clone()));
            }
        }
    }

    /// Accepts no commits any more; those in flight end with `in_flight`.
    fn poison(&self, core: &Core, in_flight: &KvError, from_now_on: KvError) {
        let flights = {
            let mut ordered = self.ordered.lock();
            ordered.closed.get_or_insert(from_now_on);
            ordered.queue.clear();
            std::mem::take(&mut ordered.flights)
        };
        for flight in flights {
            flight.finish(core, Err(in_flight.clone()));
        }
    }

    /// Accepts no commits any more and waits until those in flight have ended.
    pub(crate) async fn drain(&self) {
        let reason = "the node is shutting down".to_owned();
        loop {
            let drained = self.drained.notified();
            {
                let mut ordered = self.ordered.lock();
                if ordered.closed.is_none() {
                    ordered.closed = Some(KvError::Unavailable { reason: reason.clone() });
                }
                if ordered.flights.is_empty() {
                    break;
                }
            }
            drained.await;
        }
        self.work.notify_one();
    }

    pub(crate) fn advance_gc(&self, keep_from: Timestamp, oldest: Option<Timestamp>) -> Timestamp {
        self.ordered.lock().sequencer.advance_gc(keep_from, oldest)
    }

    pub(crate) fn gc(&self) -> Timestamp {
        self.ordered.lock().sequencer.gc()
    }

    fn finished(&self) -> bool {
        let ordered = self.ordered.lock();
        if ordered.flights.is_empty() {
            self.drained.notify_waiters();
        }
        ordered.closed.is_some() && ordered.flights.is_empty() && ordered.queue.is_empty()
    }
}

fn encode(commands: &[Command], size: usize) -> Bytes {
    let mut entry = Vec::with_capacity(size);
    for command in commands {
        command.encode(&mut entry);
    }
    entry.into()
}

/// Ends the pipeline when the batcher ends without being asked to: a panic must not leave commits
/// waiting for an outcome that nobody will bring.
struct Watch<'a>(&'a Core);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let reason = "the commit pipeline has failed".to_owned();
        self.0.pipeline.poison(self.0, &KvError::Ambiguous, KvError::Unavailable { reason });
    }
}

/// The batcher: one entry in flight, the next one growing meanwhile. Ends when the pipeline has been
/// closed and is empty.
pub(crate) async fn run_batcher(core: Arc<Core>, proposer: Arc<dyn Proposer>) {
    let _watch = Watch(&core);
    loop {
        let commands = core.pipeline.next_batch();
        if commands.is_empty() {
            if core.pipeline.finished() {
                return;
            }
            core.pipeline.work.notified().await;
            continue;
        }
        let timestamps: Vec<_> = commands.iter().map(|command| command.ts).collect();
        let size = commands.iter().map(Command::size).sum();
        let outcome = if size > ENTRY_BYTES_MAX {
            // The one command that does not fit into an entry.
            let pieces = commands.into_iter().flat_map(|command| command.pieces(ENTRY_BYTES_MAX));
            proposer.propose_pieces(Box::new(pieces)).await
        } else {
            proposer.propose(encode(&commands, size)).await
        };
        match outcome {
            Ok(()) => core.stats.batch(timestamps.len(), size),
            Err(ProposeError::Refused(error)) => {
                core.pipeline.abandon(&core, &timestamps, &error);
            }
            Err(ProposeError::Unknown(reason)) => {
                tracing::error!(%reason, "commit outcome unknown; the store takes no more writes");
                let closed = KvError::Unavailable { reason };
                core.pipeline.poison(&core, &KvError::Ambiguous, closed);
            }
        }
    }
}
