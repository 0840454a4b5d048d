//! The rows of prepared transactions.

use std::sync::Arc;

use meridian_base::keys::PREPARED;
use meridian_kv::api::{Bytes, Key, KvError, Row, Span, TableLockMode, Timestamp, TxnId};
use meridian_kv::locks::{AdvisoryKey, AdvisoryMode, LockMode};
use meridian_kv::range::{Gateway, Header};
use meridian_kv::txn::Write;
use meridian_storage::StorageError;
use meridian_storage::engine::Keyspace;
use meridian_storage::mvcc::MvccScan;
use prost::Message;

use super::{Advisory, PreparedTxn};
use crate::Txn;
use crate::core::Core;
use crate::locking::{LockInfo, LockTarget, numbers};
use crate::remote::{Coded, Put};

const HEAD: u8 = 1;
const ID: u8 = 2;
const PIECE: u8 = 3;

/// Bytes of writes in one row, about: what a record cache and a log entry handle well.
const PIECE_BYTES: usize = 1024 * 1024;

/// Most bytes of writes. The commit that ends it has them in one entry of a range, and may delete these rows
/// in the same: twice this must fit there.
pub(crate) const WRITES_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Of one name: names have no zero byte.
pub(super) fn head_key(gid: &str) -> Key {
    [&[PREPARED, HEAD], gid.as_bytes(), &[0]].concat().into()
}

pub(super) fn id_key(txn: TxnId) -> Key {
    [&[PREPARED, ID][..], &txn.0.to_be_bytes()].concat().into()
}

pub(super) fn piece_key(txn: TxnId, n: u32) -> Key {
    [&[PREPARED, PIECE][..], &txn.0.to_be_bytes(), &n.to_be_bytes()].concat().into()
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct TableHeld {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) mode: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct AdvisoryHeld {
    #[prost(uint32, tag = "1")]
    database: u32,
    #[prost(uint32, tag = "2")]
    classid: u32,
    #[prost(uint32, tag = "3")]
    objid: u32,
    #[prost(uint32, tag = "4")]
    objsubid: u32,
    #[prost(bool, tag = "5")]
    shared: bool,
}

impl AdvisoryHeld {
    pub(crate) fn new((key, mode): Advisory) -> AdvisoryHeld {
        let AdvisoryKey { database, classid, objid, objsubid } = key;
        let shared = mode == AdvisoryMode::Shared;
        AdvisoryHeld { database, classid, objid, objsubid, shared }
    }

    fn lock(&self) -> Advisory {
        let AdvisoryHeld { database, classid, objid, objsubid, shared } = *self;
        let mode = if shared { AdvisoryMode::Shared } else { AdvisoryMode::Exclusive };
        (AdvisoryKey { database, classid, objid, objsubid }, mode)
    }
}

/// What is known of a prepared transaction without its writes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Head {
    #[prost(fixed64, tag = "1")]
    pub(crate) txn: u64,
    #[prost(string, tag = "2")]
    pub(crate) gid: String,
    #[prost(uint32, tag = "3")]
    pub(crate) owner: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) database: u32,
    #[prost(sfixed64, tag = "5")]
    pub(crate) prepared: i64,
    /// One key for each hold.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(crate) participants: Vec<Bytes>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) tables: Vec<TableHeld>,
    #[prost(uint32, tag = "8")]
    pub(crate) pieces: u32,
    /// Of the holds' header.
    #[prost(fixed64, tag = "9")]
    pub(crate) deadline: u64,
    #[prost(fixed64, tag = "10")]
    pub(crate) expiry: u64,
    #[prost(bool, tag = "11")]
    pub(crate) defines: bool,
    #[prost(message, repeated, tag = "12")]
    pub(crate) advisory: Vec<AdvisoryHeld>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Piece {
    #[prost(message, repeated, tag = "1")]
    puts: Vec<Put>,
}

pub(super) fn damaged() -> KvError {
    KvError::Storage { reason: "a prepared transaction's rows are damaged".into() }
}

impl Head {
    pub(super) fn decode_row(row: &Row) -> Result<Head, KvError> {
        Head::decode(&row[..]).map_err(|_| damaged())
    }

    /// `alone`: the lock view has its table locks.
    pub(super) fn shown(&self, alone: bool) -> PreparedTxn {
        let line = |target, mode| LockInfo {
            target,
            mode,
            transaction: self.txn,
            process: 0,
            granted: true,
        };
        let tables = self.tables().filter(|_| !alone);
        let tables = tables.map(|(table, mode)| line(LockTarget::Table(table), mode.name()));
        let advisory = self.advisory();
        let advisory =
            advisory.map(|(key, mode)| line(LockTarget::Advisory(numbers(key)), mode.name()));
        PreparedTxn {
            id: self.txn,
            gid: self.gid.clone(),
            owner: self.owner,
            database: self.database,
            prepared: self.prepared,
            locks: tables.chain(advisory).collect(),
        }
    }

    /// Its advisory locks.
    pub(crate) fn advisory(&self) -> impl Iterator<Item = Advisory> {
        self.advisory.iter().map(AdvisoryHeld::lock)
    }

    /// The tables that it has locked.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (u32, TableLockMode)> {
        let mode = |held: &TableHeld| Some((held.table, TableLockMode::decode(held.mode)?));
        self.tables.iter().filter_map(mode)
    }

    /// The header of its holds, for who ends them and knows of them only from here.
    pub(super) fn header(&self) -> Header {
        Header {
            txn: TxnId(self.txn),
            gateway: Gateway::OWNER,
            deadline: Timestamp(self.deadline),
            expiry: Timestamp(self.expiry),
            participants: Arc::from(&self.participants[..]),
        }
    }

    /// Buffers the rows of a transaction with these pieces of writes.
    pub(crate) fn put_into(&self, txn: &mut Txn, pieces: Vec<Bytes>) {
        let id = TxnId(self.txn);
        txn.put(head_key(&self.gid), self.encode_to_vec().into());
        txn.put(id_key(id), self.gid.clone().into());
        for (n, piece) in (0..).zip(pieces) {
            txn.put(piece_key(id, n), piece);
        }
    }

    /// The rows by which others would notice this one: its name and its number.
    pub(crate) fn keys_of(gid: &str, id: TxnId) -> [Key; 2] {
        [head_key(gid), id_key(id)]
    }
}

/// The writes, in pieces.
pub(crate) fn encode_pieces(writes: &[Write]) -> Vec<Bytes> {
    let (mut pieces, mut piece, mut bytes) = (Vec::new(), Piece::default(), 0);
    for write in writes {
        bytes += write.key.len() + write.value.as_ref().map_or(0, Row::len) + 20;
        piece.puts.push(Put::from(write));
        if bytes >= PIECE_BYTES {
            pieces.push(std::mem::take(&mut piece).encode_to_vec().into());
            bytes = 0;
        }
    }
    if !piece.puts.is_empty() {
        pieces.push(piece.encode_to_vec().into());
    }
    pieces
}

pub(super) fn decode_piece(row: &Row, writes: &mut Vec<Write>) -> Result<(), KvError> {
    let piece = Piece::decode(&row[..]).map_err(|_| damaged())?;
    writes.extend(piece.puts.into_iter().map(Write::from));
    Ok(())
}

/// The heads of all as this node's engine has them.
pub(super) fn stored_heads(core: &Core) -> Result<Vec<Head>, StorageError> {
    let span = Span::prefix(&[PREPARED, HEAD]);
    let snapshot = core.read.engine.snapshot();
    let mut scan = MvccScan::new(snapshot, &span, false, Timestamp::MAX);
    let mut rows = Vec::new();
    while scan.next_batch(256, &mut rows)? {}
    let damaged = |error: KvError| StorageError::Corruption(error.to_string());
    rows.iter().map(|(_, row)| Head::decode_row(row).map_err(damaged)).collect()
}

/// Is there certainly none, as this node, the leaseholder, knows without asking?
pub(crate) fn is_free_of_heads(core: &Core) -> bool {
    let span = Span::prefix(&[PREPARED, HEAD]).physical();
    let none = core.read.engine.range(Keyspace::Cur, &span, false).next().is_none();
    // The lease second: while it lasts, what others were told of is here.
    none && core.first().lease.here(&core.hlc).is_some()
}

/// The heads of all, at the transaction's snapshot.
pub(crate) async fn heads(txn: &mut Txn) -> Result<Vec<Head>, KvError> {
    let mut scan = txn.scan(Span::prefix(&[PREPARED, HEAD]), false).await?;
    let mut rows = Vec::new();
    while scan.next_batch(256, &mut rows).await? {}
    rows.iter().map(|(_, row)| Head::decode_row(row)).collect()
}

#[cfg(test)]
mod tests {
    use meridian_kv::api::Timestamp;
    use meridian_kv::txn::VersionTag;

    use super::*;

    #[test]
    fn writes_come_back_from_their_pieces() {
        let tags = [VersionTag::Blind, VersionTag::Absent, VersionTag::Newest(Timestamp(7))];
        let write = |n: u32| Write {
            key: Key::from(n.to_be_bytes().to_vec()),
            value: (!n.is_multiple_of(5)).then(|| vec![3; 70_000].into()),
            expect: tags[n as usize % 3],
        };
        let writes: Vec<Write> = (0..40).map(write).collect();
        let pieces = encode_pieces(&writes);
        assert!(pieces.len() > 1);
        let mut decoded = Vec::new();
        pieces.iter().for_each(|piece| decode_piece(piece, &mut decoded).expect("own bytes"));
        assert_eq!(decoded, writes);
        assert!(decode_piece(&Row::from_static(b"\xFF"), &mut decoded).is_err());
        assert!(encode_pieces(&[]).is_empty());
    }
}
