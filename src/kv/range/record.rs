//! What a range remembers of a transaction that spans several: a prepared record, later a marker.
//!
//! Both lie in the range's part of the engine under `T ‖ key ‖ txn`, where `key` is the transaction's
//! representative key in this range: they move with that key when the range splits, and the marker
//! replaces the record by being put over it.
//!
//! ```text
//! header  txn:u64 | node:u64 | epoch:u64 | deadline:u64 | expiry:u64 | n:u32 | n × key | own:u32
//! record  0 | header | ts:u64 | n:u32 | n × (key, row) | n:u32 | n × (key, strength:u8)
//!           | n:u32 | n × key read | n:u32 | n × (start, end) read
//! marker  1 | header | outcome:u8 [ts:u64]                          all numbers little endian
//! ```

use std::sync::Arc;

use bytes::Bytes;
use meridian_base::NodeId;
use meridian_base::keys::txn_key;

use super::command::{CommandError, Cursor, put_bytes, put_row};
use crate::api::{Key, Row, Span, Strength, Timestamp, TxnId};
use crate::locks::LockMode;
use crate::txn::ReadSet;

/// How a transaction ended. Decided once, never revised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it happens at this timestamp.
    Committed(Timestamp),
    /// Nothing of it happens.
    Aborted,
}

/// Who coordinates a commit: when this epoch of the node has ended, others take over at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The node.
    pub node: NodeId,
    /// Its liveness epoch.
    pub epoch: u64,
}

impl Gateway {
    /// Nobody: a hold ([`super::holds`]) waits for whoever may end it.
    pub const OWNER: Gateway = Gateway { node: NodeId(0), epoch: 0 };
}

/// What everybody who meets a transaction must know to end it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which one. An aborted attempt to commit is never repeated under the same id.
    pub txn: TxnId,
    /// Its coordinator.
    pub gateway: Gateway,
    /// Nothing of it gets this timestamp or a later one.
    pub deadline: Timestamp,
    /// How long its outcome is remembered at least: not before the deadline, and long after the last
    /// question that a coordinator may ask ([`crate::commit::Patience`]). Twice as long doubles the
    /// markers that ranges keep; too short, and a slow coordinator hears that it was forgotten.
    pub expiry: Timestamp,
    /// One key in each range that takes part, ascending.
    pub participants: Arc<[Key]>,
}

impl Header {
    /// Is it that of a hold?
    pub fn is_hold(&self) -> bool {
        self.gateway == Gateway::OWNER
    }
}

/// A key that was locked but isn't written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// The key.
    pub key: Key,
    /// How it is locked.
    pub strength: Strength,
    /// Its newest version, as seen under the lock; [`Timestamp::MIN`] = none.
    pub seen: Timestamp,
}

impl Verify {
    /// What the leaseholder puts in the place of [`Verify::seen`] when it knows that the lock is held: then
    /// the key is as the lock lets it be, which may be another version than was seen.
    pub const HELD: Timestamp = Timestamp::MAX;
}

/// A range's part of a transaction, checked and durable: it can be committed or aborted at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The transaction.
    pub header: Header,
    /// Which participant this range is.
    pub own: usize,
    /// The timestamp that this range gave. The transaction commits here or later.
    pub ts: Timestamp,
    /// New rows, in key order; `None` deletes.
    pub writes: Vec<(Key, Option<Row>)>,
    /// Locks on keys that aren't written.
    pub locks: Vec<(Key, Strength)>,
    /// What was read here (SERIALIZABLE): nobody may write it before the outcome is known.
    pub reads: ReadSet,
}

/// The outcome of a transaction in one of its ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The transaction.
    pub header: Header,
    /// Which participant this range is.
    pub own: usize,
    /// Its end.
    pub outcome: Outcome,
}

/// What lies under a transaction's key in the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It waits for its outcome.
    Record(Record),
    /// It has ended.
    Marker(Marker),
}

const RECORD: u8 = 0;
const MARKER: u8 = 1;
const COMMITTED: u8 = 0;
const ABORTED: u8 = 1;

fn put_u32(out: &mut Vec<u8>, n: usize) {
    let n = u32::try_from(n).expect("a transaction is bounded in bytes");
    out.extend_from_slice(&n.to_le_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn count(cursor: &mut Cursor<'_>) -> Result<usize, CommandError> {
    Ok(cursor.u32()? as usize)
}

impl Outcome {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Outcome::Committed(ts) => {
                out.push(COMMITTED);
                put_u64(out, ts.0);
            }
            Outcome::Aborted => out.push(ABORTED),
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Outcome, CommandError> {
        match cursor.u8()? {
            COMMITTED => Ok(Outcome::Committed(cursor.ts()?)),
            ABORTED => Ok(Outcome::Aborted),
            _ => Err(CommandError),
        }
    }
}

impl Header {
    /// Appends the header and which participant is meant.
    pub(super) fn encode(&self, own: usize, out: &mut Vec<u8>) {
        let Header { txn, gateway, deadline, expiry, participants } = self;
        for number in [txn.0, gateway.node.0, gateway.epoch, deadline.0, expiry.0] {
            put_u64(out, number);
        }
        put_u32(out, participants.len());
        participants.iter().for_each(|key| put_bytes(out, key));
        put_u32(out, own);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<(Header, usize), CommandError> {
        let txn = TxnId(cursor.ts()?.0);
        let gateway = Gateway { node: NodeId(cursor.ts()?.0), epoch: cursor.ts()?.0 };
        let (deadline, expiry) = (cursor.ts()?, cursor.ts()?);
        let participants = (0..count(cursor)?).map(|_| cursor.bytes());
        let participants = participants.collect::<Result<Arc<[Key]>, _>>()?;
        let own = count(cursor)?;
        if own >= participants.len() {
            return Err(CommandError);
        }
        Ok((Header { txn, gateway, deadline, expiry, participants }, own))
    }
}

impl Record {
    /// The representative key in this range.
    pub fn own_key(&self) -> &Key {
        &self.header.participants[self.own]
    }

    /// The row locks that belong to it: a new leaseholder takes them before it serves anybody. A write
    /// counts as an update of columns that no key has; two records never conflict by that.
    pub fn locks(&self) -> impl Iterator<Item = (&Key, Strength)> {
        let written = self.writes.iter().map(|(key, row)| match row {
            Some(_) => (key, Strength::NoKeyUpdate),
            None => (key, Strength::Update),
        });
        written.chain(self.locks.iter().map(|(key, strength)| (key, *strength)))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(self.own, out);
        put_u64(out, self.ts.0);
        put_u32(out, self.writes.len());
        for (key, row) in &self.writes {
            put_bytes(out, key);
            put_row(out, row.as_ref());
        }
        put_u32(out, self.locks.len());
        for (key, strength) in &self.locks {
            put_bytes(out, key);
            out.push(*strength as u8);
        }
        put_u32(out, self.reads.points().len());
        self.reads.points().for_each(|key| put_bytes(out, key));
        put_u32(out, self.reads.spans().len());
        for (start, end) in self.reads.spans() {
            put_bytes(out, start);
            put_bytes(out, end);
        }
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Record, CommandError> {
        let (header, own) = Header::decode(cursor)?;
        let ts = cursor.ts()?;
        let (mut writes, mut locks, mut reads) = (Vec::new(), Vec::new(), ReadSet::default());
        for _ in 0..count(cursor)? {
            let (key, kind) = (cursor.bytes()?, cursor.u8()?);
            writes.push((key, cursor.row(kind)?));
        }
        for _ in 0..count(cursor)? {
            let (key, strength) = (cursor.bytes()?, usize::from(cursor.u8()?));
            locks.push((key, *Strength::all().get(strength).ok_or(CommandError)?));
        }
        for _ in 0..count(cursor)? {
            reads.add_point(&cursor.bytes()?);
        }
        for _ in 0..count(cursor)? {
            let (start, end) = (cursor.bytes()?, cursor.bytes()?);
            reads.add_span(Span { start, end });
        }
        Ok(Record { header, own, ts, writes, locks, reads })
    }
}

impl Stored {
    /// The transaction.
    pub fn header(&self) -> &Header {
        match self {
            Stored::Record(record) => &record.header,
            Stored::Marker(marker) => &marker.header,
        }
    }

    /// Where it lies in the engine.
    pub fn physical_key(&self) -> Vec<u8> {
        let own = match self {
            Stored::Record(record) => record.own,
            Stored::Marker(marker) => marker.own,
        };
        let header = self.header();
        txn_key(&header.participants[own], header.txn.0)
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Stored::Record(record) => {
                out.push(RECORD);
                record.encode(out);
            }
            Stored::Marker(marker) => {
                out.push(MARKER);
                marker.header.encode(marker.own, out);
                marker.outcome.encode(out);
            }
        }
    }

    pub(super) fn take(cursor: &mut Cursor<'_>) -> Result<Stored, CommandError> {
        match cursor.u8()? {
            RECORD => Ok(Stored::Record(Record::decode(cursor)?)),
            MARKER => {
                let (header, own) = Header::decode(cursor)?;
                let outcome = Outcome::decode(cursor)?;
                Ok(Stored::Marker(Marker { header, own, outcome }))
            }
            _ => Err(CommandError),
        }
    }

    /// Reads what [`Stored::encode`] wrote.
    pub fn decode(mut bytes: Bytes) -> Result<Stored, CommandError> {
        Stored::take(&mut Cursor(&mut bytes))
    }
}
