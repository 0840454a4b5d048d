//! A sequenced commit as it travels through the log.
//!
//! Leader-evaluated: it names the new version of every key *and* the version that it supersedes, so
//! that applying it reads nothing, can't fail, and may be done twice.
//!
//! ```text
//! entry:u8 [txn:u64le] | ts:u64le | n:u32le | n × ( key | kind:u8 [row] | kind:u8 [ts:u64le [row]] )
//!            bytes = len:u32le ‖ bytes              kind: 0 none, 1 row, 2 tombstone
//!            entry: 0 a commit, 1 a commit with its transaction; more in [`super::LogEntry`]
//! ```

use std::sync::Arc;

use bytes::Bytes;
use meridian_storage::{engine::Op, mvcc};

use crate::api::{Key, Row, Timestamp, TxnId};
use crate::run::Run;

use super::Version;
use super::pieces::Pieces;

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandWrite {
    /// The key.
    pub key: Key,
    /// The new row; `None` is a tombstone.
    pub value: Option<Row>,
    /// The version that it supersedes.
    pub old: Option<Version>,
}

impl CommandWrite {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.key);
        put_row(out, self.value.as_ref());
        match &self.old {
            None => out.push(NONE),
            Some(old) => {
                out.push(if old.row.is_some() { ROW } else { TOMBSTONE });
                out.extend_from_slice(&old.ts.0.to_le_bytes());
                if let Some(row) = &old.row {
                    put_bytes(out, row);
                }
            }
        }
    }

    /// Bytes in an entry, about.
    pub(super) fn size(&self) -> usize {
        let row = |row: &Option<Row>| row.as_ref().map_or(0, Row::len);
        let old = self.old.as_ref().map_or(0, |old| row(&old.row));
        22 + self.key.len() + row(&self.value) + old
    }
}

/// A commit with its timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Whose it is, when somebody may ask later whether it happened.
    pub txn: Option<TxnId>,
    /// When all of it happens.
    pub ts: Timestamp,
    /// What happens, in key order.
    pub writes: Vec<CommandWrite>,
    /// New rows in bulk. A key that is in `writes`, too, is what `writes` makes of it.
    pub runs: Vec<Arc<Run>>,
}

/// Bytes that are no command: the log holds what nobody wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandError;

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the log holds a command that can't be decoded")
    }
}

impl std::error::Error for CommandError {}

/// Bytes before the writes of a command without a transaction's id.
pub(super) const HEADER_BYTES: usize = 13;

/// First byte of an entry: a commit, with and without its transaction's id.
pub(super) const COMMIT: u8 = 0;
pub(super) const NAMED_COMMIT: u8 = 1;

const NONE: u8 = 0;
const ROW: u8 = 1;
const TOMBSTONE: u8 = 2;

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("keys and rows are bounded below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a write of a row that is new.
pub(crate) fn put_new_row(out: &mut Vec<u8>, key: &[u8], row: &[u8]) {
    put_bytes(out, key);
    out.push(ROW);
    put_bytes(out, row);
    out.push(NONE);
}

pub(super) fn put_row(out: &mut Vec<u8>, row: Option<&Row>) {
    match row {
        Some(row) => {
            out.push(ROW);
            put_bytes(out, row);
        }
        None => out.push(TOMBSTONE),
    }
}

/// All that comes before the number of writes.
pub(super) fn put_header(out: &mut Vec<u8>, txn: Option<TxnId>, ts: Timestamp) {
    match txn {
        None => out.push(COMMIT),
        Some(TxnId(txn)) => {
            out.push(NAMED_COMMIT);
            out.extend_from_slice(&txn.to_le_bytes());
        }
    }
    out.extend_from_slice(&ts.0.to_le_bytes());
}

pub(super) fn put_writes(out: &mut Vec<u8>, writes: &[CommandWrite]) {
    let count = u32::try_from(writes.len()).expect("a buffer is bounded in bytes");
    out.extend_from_slice(&count.to_le_bytes());
    writes.iter().for_each(|write| write.encode(out));
}

/// Takes pieces off the front; slices share the entry's memory.
pub(super) struct Cursor<'a>(pub(super) &'a mut Bytes);

impl Cursor<'_> {
    fn take(&mut self, len: usize) -> Result<Bytes, CommandError> {
        if self.0.len() < len {
            return Err(CommandError);
        }
        Ok(self.0.split_to(len))
    }

    pub(super) fn u8(&mut self) -> Result<u8, CommandError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, CommandError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes[..].try_into().expect("four bytes were taken")))
    }

    pub(super) fn ts(&mut self) -> Result<Timestamp, CommandError> {
        let bytes = self.take(8)?;
        Ok(Timestamp(u64::from_le_bytes(bytes[..].try_into().expect("eight bytes were taken"))))
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, CommandError> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    pub(super) fn writes(&mut self) -> Result<Vec<CommandWrite>, CommandError> {
        let count = self.u32()? as usize;
        let mut writes = Vec::with_capacity(count.min(1 << 16));
        for _ in 0..count {
            let key = self.bytes()?;
            let kind = self.u8()?;
            let value = self.row(kind)?;
            let old = match self.u8()? {
                NONE => None,
                kind => {
                    let ts = self.ts()?;
                    Some(Version { ts, row: self.row(kind)? })
                }
            };
            writes.push(CommandWrite { key, value, old });
        }
        Ok(writes)
    }

    pub(super) fn row(&mut self, kind: u8) -> Result<Option<Row>, CommandError> {
        match kind {
            ROW => Ok(Some(self.bytes()?)),
            TOMBSTONE => Ok(None),
            _ => Err(CommandError),
        }
    }
}

impl Command {
    /// Bytes that [`Command::encode`] will add, about.
    pub fn size(&self) -> usize {
        let runs: usize = self.runs.iter().map(|run| run.size()).sum();
        HEADER_BYTES + 8 + self.writes.iter().map(CommandWrite::size).sum::<usize>() + runs
    }

    /// Appends the command, which has no runs, to an entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.runs.is_empty(), "runs travel in pieces");
        out.reserve(self.size());
        put_header(out, self.txn, self.ts);
        put_writes(out, &self.writes);
    }

    /// The same as several encoded commands, each of about `bytes_max` bytes, made one by one; the last
    /// is empty. Applied one after the other they are what this one is, their keys ascending.
    pub fn pieces(self, bytes_max: usize) -> Pieces {
        Pieces::new(self, bytes_max)
    }

    /// The blind engine writes that apply it.
    pub fn ops(&self, out: &mut Vec<Op>) {
        for write in &self.writes {
            mvcc::write_ops(&write.key, write.old.as_ref(), write.value.as_deref(), self.ts, out);
        }
    }

    /// As [`Command::ops`]; the writes of new rows, if there are many, share their memory.
    pub fn bulk_ops(&self, out: &mut Vec<Op>) {
        let mut writes = &self.writes[..];
        while let Some(first) = writes.first() {
            let new = |write: &&CommandWrite| write.old.is_none() && write.value.is_some();
            let rows = writes.iter().take_while(new).count();
            let (head, rest) = writes.split_at(rows.max(1));
            if rows == 0 {
                let (old, row) = (first.old.as_ref(), first.value.as_deref());
                mvcc::write_ops(&first.key, old, row, self.ts, out);
            } else {
                let rows =
                    head.iter().map(|w| (&w.key[..], w.value.as_deref().unwrap_or_default()));
                out.extend(mvcc::new_row_ops(rows, self.ts));
            }
            writes = rest;
        }
    }

    /// Takes one command off the front of an entry.
    pub fn decode(entry: &mut Bytes) -> Result<Command, CommandError> {
        let mut cursor = Cursor(entry);
        let txn = match cursor.u8()? {
            COMMIT => None,
            NAMED_COMMIT => Some(TxnId(cursor.ts()?.0)),
            _ => return Err(CommandError),
        };
        let ts = cursor.ts()?;
        let writes = cursor.writes()?;
        Ok(Command { txn, ts, writes, runs: Vec::new() })
    }
}
