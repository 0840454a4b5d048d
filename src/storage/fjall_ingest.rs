//! Bulk writes into fjall: sorted files, built by a thread of their own.
//!
//! fjall's ingestion takes keys in ascending order and writes tables as a compaction would. When it is
//! finished it flushes the memtable, so that the tables hold the newest values of their keys, syncs them
//! and enters them into the tree under one sequence number. What was in the journal below that number is
//! in tables by then, and recovery skips it: the keyspace never shows a bulk write without the batches
//! before it.
//!
//! A process that dies before the end leaves files that no version of the tree names; opening removes
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;

use crate::StorageError;
use crate::engine::{Ingest, Ingested, Keyspace, Op};
use crate::fjall_engine::{engine_error, slice};

enum Job {
    Write(Vec<Op>),
    Finish(Ingested),
}

/// The handle of the thread.
pub(crate) struct FjallIngest {
    jobs: Sender<Job>,
    backlog: Arc<AtomicUsize>,
    last: Bytes,
}

fn size(ops: &[Op]) -> usize {
    ops.iter().map(Op::size).sum()
}

fn ended() -> StorageError {
    StorageError::Stopped("a bulk write has failed".into())
}

impl FjallIngest {
    pub(crate) fn start(cur: fjall::Keyspace) -> Result<FjallIngest, StorageError> {
        let (jobs, queue) = channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&backlog);
        std::thread::Builder::new()
            .name("bulk-writer".into())
            .spawn(move || run(&cur, &queue, &left))
            .map_err(|e| StorageError::io("start thread bulk-writer", e))?;
        Ok(FjallIngest { jobs, backlog, last: Bytes::new() })
    }
}

/// Takes jobs until the end, or until the handle is gone.
fn run(cur: &fjall::Keyspace, queue: &Receiver<Job>, backlog: &AtomicUsize) {
    let mut outcome = cur.start_ingestion();
    while let Ok(job) = queue.recv() {
        match job {
            Job::Write(ops) => {
                let bytes = size(&ops);
                let mut failed = None;
                if let Ok(ingestion) = &mut outcome {
                    let mut puts = ops.into_iter();
                    let mut write = |op: Op| {
                        let value = op.value.unwrap_or_default();
                        ingestion.write(slice(&op.key), slice(&value))
                    };
                    failed = puts.try_for_each(&mut write).err();
                }
                if let Some(error) = failed {
                    outcome = Err(error);
                }
                backlog.fetch_sub(bytes, Ordering::Relaxed);
            }
            Job::Finish(done) => {
                let outcome = outcome.and_then(|ingestion| ingestion.finish());
                return done(outcome.map_err(|e| engine_error("write in bulk", e)));
            }
        }
    }
}

impl Ingest for FjallIngest {
    fn write(&mut self, ops: Vec<Op>) -> Result<(), StorageError> {
        for op in &ops {
            if op.keyspace != Keyspace::Cur || op.value.is_none() || op.key <= self.last {
                return Err(StorageError::Corruption("a bulk write is out of order".into()));
            }
            self.last.clone_from(&op.key);
        }
        self.backlog.fetch_add(size(&ops), Ordering::Relaxed);
        self.jobs.send(Job::Write(ops)).map_err(|_| ended())
    }

    fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    fn finish(self: Box<Self>, done: Ingested) {
        if let Err(unsent) = self.jobs.send(Job::Finish(done))
            && let Job::Finish(done) = unsent.0
        {
            done(Err(ended()));
        }
    }
}
