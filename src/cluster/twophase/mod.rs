//! Transactions that users prepare: PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
//!
//! A prepared transaction has no session, no snapshot and no timestamp. It is rows and holds:
//!
//! ```text
//! 05 ‖ 01 ‖ gid ‖ 00     head: who, where, table locks, one key for each hold        ┐ ordinary rows,
//! 05 ‖ 02 ‖ id           that it exists                                              │ in the first range
//! 05 ‖ 03 ‖ id ‖ n       its writes, with their version tags, in pieces              ┘
//! T  ‖ key ‖ id          a hold in each range: its row locks (and SERIALIZABLE's reads)
//! ```
//! **PREPARE** first puts a hold into each range ([`meridian_kv::range::holds`]), which takes the row locks
//! over from the session without letting go of them, then commits the rows. That commit is the moment at
//! which it is prepared; a hold whose rows don't come is ended by its leaseholder. **COMMIT PREPARED** is an
//! ordinary commit of the stored writes that also deletes the rows, in the name of the holds; then the holds
//! end. **ROLLBACK PREPARED** deletes the rows; then the holds end. Readers never meet any of this: before
//! the commit there is nothing to read.
//!
//! Why nobody gets in between, whatever dies or moves:
//! * *Row locks.* A hold is in its range's log: the next leaseholder has its locks before it serves anybody
//!   (as those of any record), and the range refuses what would write over it all the same.
//! * *Table locks* that queries and DML take, and *advisory locks*. Who takes one that conflicts (of a table: a
//!   definition, LOCK TABLE) gets it in the usual way, a table's on every node, and then reads the heads
//!   ([`Txn::await_prepared`]). A session keeps its own locks until its head is committed, so either it is
//!   waited for, or its head is seen.
//! * *Table locks of definitions* conflict with what queries take, who can't read heads each time. A node that is
//!   alone has all table locks of prepared transactions in its table, from its start on. In a cluster there
//!   are none: what has changed definitions is not prepared.
//! * *Half of a PREPARE.* The head's commit has a deadline, and whoever finds a hold without rows writes the
//!   row of its name first, of which the head's commit expects that it isn't there: one of the two fails.
//! * *Half of an end.* Rows and writes change in one commit. Holds that stay behind have no rows any more.
//!
//! What a session has that outlives this: nothing. Its row locks belong to the hold, under an owner without
//! a session, so that the same session waits for them as any other does.

mod holds;
mod locks;
mod rows;

use std::sync::Arc;

use meridian_kv::api::{Isolation, KvError, Strength, TxnId, WaitPolicy};
use meridian_kv::locks::{AdvisoryKey, AdvisoryMode};
use meridian_kv::txn::Write;
use meridian_storage::StorageError;

use crate::core::Core;
use crate::locking::LockInfo;
use crate::parts::owner_of;
use crate::{Locked, Store, Txn, TxnOptions};

pub(crate) use holds::{Made, end_hold, make_holds, sweep, take_over};
pub(crate) use rows::{
    AdvisoryHeld, Head, TableHeld, WRITES_BYTES_MAX, encode_pieces, heads, is_free_of_heads,
};

use rows::{head_key, id_key, piece_key};

/// A transaction to be prepared, as its session knows it.
#[derive(Clone, Debug)]
pub struct NewPrepared {
    /// Its name.
    pub gid: String,
    /// The user's oid.
    pub owner: u32,
    /// The database's oid.
    pub database: u32,
    /// When, in microseconds since 2000.
    pub prepared: i64,
    /// How many there may be.
    pub limit: usize,
    /// It has changed definitions: whoever commits it has to read the catalog again.
    pub defines: bool,
    /// Its advisory locks, those of the transaction.
    pub advisory: Vec<AdvisoryLock>,
}

/// An advisory lock: what is locked, and how.
pub(crate) type Advisory = (AdvisoryKey, AdvisoryMode);

/// An advisory lock of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdvisoryLock(pub(crate) Advisory);

/// A transaction that is prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTxn {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub gid: String,
    /// The user's oid.
    pub owner: u32,
    /// The database's oid.
    pub database: u32,
    /// When, in microseconds since 2000.
    pub prepared: i64,
    /// What it has locked beside rows.
    locks: Vec<LockInfo>,
}

/// Why a transaction could not be prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrepareError {
    /// There is one of this name.
    InUse,
    /// There are as many as there may be.
    Full,
    /// It holds an advisory lock that its session holds, too.
    BothLevels,
    /// It holds something that can't be kept.
    Unsupported(&'static str),
    /// As at a commit.
    Kv(KvError),
}

impl From<KvError> for PrepareError {
    fn from(error: KvError) -> PrepareError {
        PrepareError::Kv(error)
    }
}

/// A prepared transaction that somebody is about to end; nobody else can meanwhile.
pub struct Claimed {
    txn: Txn,
    head: Head,
    ended: bool,
}

impl Store {
    /// All prepared transactions.
    pub async fn prepared(self: &Arc<Self>) -> Result<Vec<PreparedTxn>, KvError> {
        let mut txn = self.begin(TxnOptions::default());
        txn.begin_statement();
        let alone = self.core().alone;
        Ok(heads(&mut txn).await?.iter().map(|head| head.shown(alone)).collect())
    }

    /// Claims a prepared transaction, to end it; `None` when there is none of this name.
    ///
    /// # Errors
    /// [`KvError::LockNotAvailable`]: somebody else is just ending it.
    pub async fn claim_prepared(
        self: &Arc<Self>,
        gid: &str,
        options: TxnOptions,
    ) -> Result<Option<Claimed>, KvError> {
        let options = TxnOptions { isolation: Isolation::ReadCommitted, ..options };
        let mut txn = self.begin(options);
        txn.begin_statement();
        let locked = txn.lock(&head_key(gid), Strength::Update, WaitPolicy::NoWait).await?;
        let Locked::Held { newest: Some((_, row)), .. } = locked else { return Ok(None) };
        let head = Head::decode_row(&row)?;
        Ok(Some(Claimed { txn, head, ended: false }))
    }
}

impl Claimed {
    /// Which one it is.
    pub fn info(&self) -> PreparedTxn {
        self.head.shown(true)
    }

    /// Has it changed definitions?
    pub fn defines(&self) -> bool {
        self.head.defines
    }

    /// Commits it or rolls it back, and ends its row locks. Those of tables end when this is dropped: definitions
    /// that it has changed are to be known by then.
    pub async fn finish(&mut self, commit: bool) -> Result<(), KvError> {
        let id = TxnId(self.head.txn);
        let mut writes = Vec::new();
        // Locked with the head; only the head's owner touches the rest.
        self.txn.begin_statement();
        for n in 0..self.head.pieces {
            let key = piece_key(id, n);
            if commit {
                let piece = self.txn.get(&key).await?;
                let piece = piece.ok_or_else(rows::damaged)?;
                rows::decode_piece(&piece, &mut writes)?;
            }
            self.txn.delete(key);
        }
        self.txn.delete(id_key(id));
        self.txn.delete(head_key(&self.head.gid));
        if commit {
            self.txn.set_behalf(id, writes);
        }
        self.txn.commit().await?;
        self.ended = true;
        end_hold(&self.txn.core, &self.head.header()).await;
        Ok(())
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if self.ended && self.txn.core.alone {
            let owner = owner_of(TxnId(self.head.txn));
            for (table, _) in self.head.tables() {
                self.txn.core.locks.release_table(table, owner, 0);
            }
        }
    }
}

impl PreparedTxn {
    /// What it has locked beside rows, as lines of the lock view, unless that has them anyhow.
    pub fn locks(&self) -> impl Iterator<Item = &LockInfo> {
        self.locks.iter()
    }
}

/// A node that is alone begins: table locks of prepared transactions are taken before there is anybody else.
pub(crate) fn regain_tables(core: &Core) -> Result<(), StorageError> {
    if !core.alone {
        return Ok(());
    }
    for head in rows::stored_heads(core)? {
        for (table, mode) in head.tables() {
            core.locks.seize_table(table, owner_of(TxnId(head.txn)), mode);
        }
    }
    Ok(())
}

/// What is to be committed in the name of a hold: its writes are covered by its locks.
#[derive(Clone, Debug)]
pub(crate) struct Behalf {
    pub(crate) hold: TxnId,
    pub(crate) writes: Vec<Write>,
}
