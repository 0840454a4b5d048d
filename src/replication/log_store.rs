//! One group's view of the node's shared log, as openraft wants it.
//!
//! `append` returns as soon as the entries are readable and reports durability from the log's thread.
//! The committed log id is a hint that saves time after a restart; it is not worth an fsync of its own, so
//! it travels with the next append.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use meridian_base::RangeId;
use meridian_storage::{LogWrite, RaftLog, Slot, StorageError};
use openraft::storage::{LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use crate::codec;
use crate::open::write_through;
use crate::types::{Entry, IoFlushed, LogId, Types, Vote};

/// Bytes of entries that a follower is sent at once.
const MESSAGE_BYTES: usize = 1 << 20;

/// Entries of one group.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Arc<dyn RaftLog>,
    group: RangeId,
    /// To be written with the next append.
    committed: Option<LogId>,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the raft log holds an invalid {what}"))
}

fn io_error(error: StorageError) -> io::Error {
    io::Error::other(error)
}

/// Where a group's log ends: what was purged last, if there is nothing after it. `None`: damage.
#[expect(clippy::option_option, reason = "damage is no empty log")]
pub(crate) fn last_log_id(log: &dyn RaftLog, group: RangeId) -> Option<Option<LogId>> {
    let last = log.bounds(group).and_then(|(_, last)| log.entries(group, last, last + 1).pop());
    match last {
        Some((_, bytes)) => codec::peek_entry(&bytes).map(Some),
        None => match log.slot(group, Slot::Purged) {
            Some(purged) => codec::decode_log_id(&purged).map(Some),
            None => Some(None),
        },
    }
}

impl LogStore {
    pub(crate) fn new(log: Arc<dyn RaftLog>, group: RangeId) -> Self {
        Self { log, group, committed: None }
    }

    fn log_id_in(&self, slot: Slot) -> Result<Option<LogId>, io::Error> {
        let value = self.log.slot(self.group, slot);
        value.map(|v| codec::decode_log_id(&v).ok_or_else(|| damaged("log id"))).transpose()
    }

    /// Writes and waits until it is durable.
    async fn write_through(&self, writes: Vec<LogWrite>) -> Result<(), io::Error> {
        write_through(self.log.as_ref(), self.group, writes).await.map_err(io_error)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        let entries = self.log.entries(self.group, from, to).into_iter();
        entries
            .map(|(_, bytes)| codec::decode_entry(bytes).ok_or_else(|| damaged("entry")))
            .collect()
    }

    /// As many as make a message of reasonable size, at least one.
    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let (mut bytes, mut out) = (0, Vec::new());
        for (_, data) in self.log.entries(self.group, start, end) {
            bytes += data.len();
            if bytes > MESSAGE_BYTES && !out.is_empty() {
                break;
            }
            out.push(codec::decode_entry(data).ok_or_else(|| damaged("entry"))?);
        }
        Ok(out)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let value = self.log.slot(self.group, Slot::Vote);
        value.map(|v| codec::decode_vote(&v).ok_or_else(|| damaged("vote"))).transpose()
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let last_purged_log_id = self.log_id_in(Slot::Purged)?;
        let last_log_id = last_log_id(self.log.as_ref(), self.group);
        let last_log_id = last_log_id.ok_or_else(|| damaged("entry"))?;
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write_through(vec![LogWrite::Slot(Slot::Vote, codec::encode_vote(vote))]).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.log_id_in(Slot::Committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut writes: Vec<_> = entries
            .into_iter()
            .map(|entry| LogWrite::Entry {
                index: entry.log_id.index(),
                data: codec::encode_entry(&entry),
            })
            .collect();
        if let Some(committed) = self.committed.take() {
            writes.push(LogWrite::Slot(Slot::Committed, codec::encode_log_id(&committed)));
        }
        let done = Box::new(move || callback.io_completed(Ok(())));
        self.log.submit(self.group, writes, Some(done)).map_err(io_error)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let from = last_log_id.map_or(0, |id| id.index() + 1);
        self.write_through(vec![LogWrite::TruncateFrom(from)]).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let slot = LogWrite::Slot(Slot::Purged, codec::encode_log_id(&log_id));
        let writes = vec![slot, LogWrite::PurgeTo(log_id.index())];
        self.log.submit(self.group, writes, None).map_err(io_error)
    }
}
