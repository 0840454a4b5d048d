//! Everything that a range's log may hold. All of it is evaluated before it is proposed: applying it
//! reads nothing, can't fail, and may be done twice.
//!
//! ```text
//! 0, 1  a commit ([`super::command`])           4  collected markers: ts | n × (key, txn)
//! 2  a record or a marker ([`super::record`])   3  a resolution: ts of the record | marker | writes
//! 5  a split ([`super::descriptor`])
//! ```

use bytes::Bytes;
use meridian_base::keys::txn_key;
use meridian_storage::engine::{Keyspace, Op};
use meridian_storage::mvcc;

use super::command::{
    COMMIT, Command, CommandError, CommandWrite, Cursor, NAMED_COMMIT, put_bytes, put_writes,
};
use super::descriptor::Split;
use super::record::{Marker, Outcome, Record, Stored, put_u64};
use crate::api::{Key, Timestamp, TxnId};

const STORE: u8 = 2;
const RESOLVE: u8 = 3;
const COLLECT: u8 = 4;
const SPLIT: u8 = 5;

/// The outcome of a prepared transaction and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// What remains of the record.
    pub marker: Marker,
    /// Its writes, with the versions that they supersede; none when it was aborted.
    pub writes: Vec<CommandWrite>,
}

/// Markers that nobody needs any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collect {
    /// Whatever the range sequences from now on is later: that is why nobody needs them.
    pub ts: Timestamp,
    /// Representative key and transaction of each.
    pub markers: Vec<(Key, TxnId)>,
}

/// An entry of a range's log, or one of several in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntry {
    /// A commit in this range alone.
    Commit(Command),
    /// This range's part of a transaction.
    Prepare(Record),
    /// The outcome of a transaction that isn't prepared here.
    Mark(Marker),
    /// The outcome of one that is.
    Resolve(Resolve),
    /// Markers go.
    Collect(Collect),
    /// The range becomes two.
    Split(Box<Split>),
}

impl LogEntry {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let store = |stored: Stored, out: &mut Vec<u8>| {
            out.push(STORE);
            stored.encode(out);
        };
        match self {
            LogEntry::Commit(command) => command.encode(out),
            LogEntry::Prepare(record) => store(Stored::Record(record.clone()), out),
            LogEntry::Mark(marker) => store(Stored::Marker(marker.clone()), out),
            LogEntry::Resolve(Resolve { marker, writes }) => {
                out.push(RESOLVE);
                marker.header.encode(marker.own, out);
                marker.outcome.encode(out);
                put_writes(out, writes);
            }
            LogEntry::Collect(Collect { ts, markers }) => {
                out.push(COLLECT);
                put_u64(out, ts.0);
                let count = u32::try_from(markers.len()).expect("few markers at a time");
                out.extend_from_slice(&count.to_le_bytes());
                for (key, txn) in markers {
                    put_bytes(out, key);
                    put_u64(out, txn.0);
                }
            }
            LogEntry::Split(split) => {
                out.push(SPLIT);
                split.encode(out);
            }
        }
    }

    /// Takes one off the front.
    pub fn decode(entry: &mut Bytes) -> Result<LogEntry, CommandError> {
        if let Some(&(COMMIT | NAMED_COMMIT)) = entry.first() {
            return Ok(LogEntry::Commit(Command::decode(entry)?));
        }
        let mut cursor = Cursor(entry);
        match cursor.u8()? {
            STORE => Ok(match Stored::take(&mut cursor)? {
                Stored::Record(record) => LogEntry::Prepare(record),
                Stored::Marker(marker) => LogEntry::Mark(marker),
            }),
            RESOLVE => {
                let (header, own) = super::record::Header::decode(&mut cursor)?;
                let outcome = Outcome::decode(&mut cursor)?;
                let marker = Marker { header, own, outcome };
                Ok(LogEntry::Resolve(Resolve { marker, writes: cursor.writes()? }))
            }
            COLLECT => {
                let ts = cursor.ts()?;
                let mut markers = Vec::new();
                for _ in 0..cursor.u32()? {
                    markers.push((cursor.bytes()?, TxnId(cursor.ts()?.0)));
                }
                Ok(LogEntry::Collect(Collect { ts, markers }))
            }
            SPLIT => Ok(LogEntry::Split(Box::new(Split::take(&mut cursor)?))),
            _ => Err(CommandError),
        }
    }

    /// Which part of which transaction over several ranges it is about.
    pub fn part(&self) -> Option<(TxnId, usize)> {
        match self {
            LogEntry::Prepare(record) => Some((record.header.txn, record.own)),
            LogEntry::Mark(marker) | LogEntry::Resolve(Resolve { marker, .. }) => {
                Some((marker.header.txn, marker.own))
            }
            LogEntry::Commit(_) | LogEntry::Collect(_) | LogEntry::Split(_) => None,
        }
    }

    /// Bytes that [`LogEntry::encode`] will add, about.
    pub fn size(&self) -> usize {
        match self {
            LogEntry::Commit(command) => command.size(),
            LogEntry::Prepare(record) => {
                let row = |row: &Option<Key>| row.as_ref().map_or(0, Key::len);
                let writes = record.writes.iter().map(|(key, value)| 9 + key.len() + row(value));
                let locks = record.locks.iter().map(|(key, _)| 5 + key.len());
                let reads = record.reads.points().map(|key| 4 + key.len());
                200 + writes.chain(locks).chain(reads).sum::<usize>()
            }
            LogEntry::Resolve(resolve) => {
                200 + resolve.writes.iter().map(CommandWrite::size).sum::<usize>()
            }
            LogEntry::Mark(_) | LogEntry::Split(_) => 200,
            LogEntry::Collect(collect) => 16 * (1 + collect.markers.len()),
        }
    }

    /// The newest timestamp that it brings: with it applied the range's newest commit is not older, and
    /// a later leaseholder begins above it.
    pub fn ts(&self) -> Option<Timestamp> {
        match self {
            LogEntry::Commit(Command { ts, .. })
            | LogEntry::Prepare(Record { ts, .. })
            | LogEntry::Collect(Collect { ts, .. }) => Some(*ts),
            LogEntry::Resolve(resolve) => match resolve.marker.outcome {
                Outcome::Committed(ts) => Some(ts),
                Outcome::Aborted => None,
            },
            LogEntry::Mark(_) | LogEntry::Split(_) => None,
        }
    }

    /// What it makes of logical keys, for the record cache: their timestamp and the writes.
    pub fn writes(&self) -> Option<(Timestamp, &[CommandWrite])> {
        match self {
            LogEntry::Commit(command) => Some((command.ts, &command.writes)),
            LogEntry::Resolve(Resolve { writes, .. }) => Some((self.ts()?, writes)),
            _ => None,
        }
    }

    /// The blind engine writes that apply it.
    pub fn ops(&self, out: &mut Vec<Op>) {
        if let Some((ts, writes)) = self.writes() {
            for write in writes {
                mvcc::write_ops(&write.key, write.old.as_ref(), write.value.as_deref(), ts, out);
            }
        }
        self.state_ops(out);
    }

    /// Those of them that aren't the writes of [`LogEntry::writes`]: what becomes of records and markers.
    pub fn state_ops(&self, out: &mut Vec<Op>) {
        let mut store = |stored: Stored| {
            let mut value = Vec::new();
            stored.encode(&mut value);
            out.push(Op::put(Keyspace::Cur, stored.physical_key(), value));
        };
        match self {
            LogEntry::Commit(_) => {}
            LogEntry::Split(split) => split.ops(out),
            LogEntry::Prepare(record) => store(Stored::Record(record.clone())),
            LogEntry::Mark(marker) | LogEntry::Resolve(Resolve { marker, .. }) => {
                store(Stored::Marker(marker.clone()));
            }
            LogEntry::Collect(collect) => {
                for (key, txn) in &collect.markers {
                    out.push(Op::delete(Keyspace::Cur, txn_key(key, txn.0)));
                }
            }
        }
    }
}
