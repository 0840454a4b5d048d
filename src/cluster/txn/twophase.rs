//! A transaction's way to being prepared ([`crate::twophase`]), and waiting for others that are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meridian_base::Instant;
use meridian_kv::api::{Key, KvError, Row, Strength, TableLockMode, Timestamp, TxnId, WaitPolicy};
use meridian_kv::commit::{plan, requests};
use meridian_kv::locks::LockMode;
use meridian_kv::range::{Header, Verify};
use meridian_kv::txn::{ReadSet, Write};

use super::{Changes, Try, Txn, TxnOptions, is_weak};
use crate::Locked;
use crate::coordinator::{Coordinators, Given};
use crate::parts::owner_of;
use crate::remote::Coded;
use crate::twophase::{
    Advisory, AdvisoryHeld, AdvisoryLock, Behalf, Head, Made, NewPrepared, PrepareError, TableHeld,
    WRITES_BYTES_MAX, encode_pieces, end_hold, heads, is_free_of_heads, make_holds,
};

/// So often the holds are planned anew when ranges split meanwhile.
const ATTEMPTS: usize = 3;
/// Between two looks whether a prepared transaction has been ended: somebody waits for that with a definition.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_millis(200);

/// What a transaction leaves behind when it is prepared.
struct Left {
    writes: Vec<Write>,
    locks: Vec<Verify>,
    reads: ReadSet,
}

impl Txn {
    /// Prepares the transaction: its writes and locks are durable and no session's any more. Afterwards
    /// it is over here, and [`Txn::release_locks`] gives its table locks back, which others now see
    /// elsewhere. On an error it is as after a failed commit.
    pub async fn prepare(&mut self, new: &NewPrepared) -> Result<(), PrepareError> {
        let outcome = self.try_prepare(new).await;
        self.end();
        outcome
    }

    async fn try_prepare(&mut self, new: &NewPrepared) -> Result<(), PrepareError> {
        if !self.core.alone && self.tables.iter().any(|held| !is_weak(held.mode)) {
            return Err(PrepareError::Unsupported(
                "PREPARE TRANSACTION in a cluster, with a table lock stronger than ROW EXCLUSIVE,",
            ));
        }
        let options = TxnOptions {
            backend: self.state.owner().process_of_session(),
            database: self.limits.database,
            ..TxnOptions::default()
        };
        let mut head = Txn::begin(Arc::clone(&self.core), options);
        head.limits = self.limits.clone();
        head.check_name(new).await?;
        self.check_levels(new)?;
        self.formed_until().await?;
        let left = self.leave().await?;
        let given = self.give_locks();
        for _ in 0..ATTEMPTS {
            match self.prepare_as(&mut head, new, &left, &given).await? {
                Made::All => return Ok(()),
                Made::Split => {}
            }
        }
        Err(KvError::CONCURRENT_UPDATE.into())
    }

    /// Locks the name, which must be free.
    async fn check_name(&mut self, new: &NewPrepared) -> Result<(), PrepareError> {
        self.begin_statement();
        let [key, _] = Head::keys_of(&new.gid, TxnId(0));
        match self.lock(&key, Strength::Update, WaitPolicy::Block).await? {
            Locked::Held { newest: None, .. } => {}
            Locked::Held { .. } | Locked::Skipped => return Err(PrepareError::InUse),
        }
        self.begin_statement();
        let all = heads(self).await?;
        if all.len() >= new.limit { Err(PrepareError::Full) } else { Ok(()) }
    }

    /// A lock that the session has for itself, too, can't be given away.
    fn check_levels(&self, new: &NewPrepared) -> Result<(), PrepareError> {
        let session = self.core.advisory.of_session(self.state.owner().session_level());
        let both = |key| session.iter().any(|(own, _, times)| *own == key && *times > 0);
        match new.advisory.iter().any(|AdvisoryLock((key, _))| both(*key)) {
            true => Err(PrepareError::BothLevels),
            false => Ok(()),
        }
    }

    /// Locks what isn't locked yet and takes everything out of the transaction.
    async fn leave(&mut self) -> Result<Left, KvError> {
        self.state.check_size()?;
        for key in self.state.unlocked_writes() {
            self.lock_to_write(&key).await?;
        }
        let mut locks = self.state.locked_all();
        let mut changes = self.take_changes(BTreeSet::new());
        changes.spread_runs();
        let Changes { writes, .. } = changes;
        let bytes = |write: &Write| write.key.len() + write.value.as_ref().map_or(0, Row::len);
        if writes.iter().map(bytes).sum::<usize>() > WRITES_BYTES_MAX {
            return Err(KvError::TransactionTooLarge { limit_bytes: WRITES_BYTES_MAX });
        }
        // Rows that came in bulk were locked as such.
        let locked: BTreeSet<Key> = locks.iter().map(|lock| lock.key.clone()).collect();
        let bulk = writes.iter().filter(|write| !locked.contains(&write.key));
        locks.extend(bulk.map(|write| Verify {
            key: write.key.clone(),
            strength: Strength::Update,
            seen: Timestamp::MIN,
        }));
        // Who writes nothing ran at its snapshot.
        let reads = self.state.reads().filter(|_| !writes.is_empty()).cloned();
        Ok(Left { writes, locks, reads: reads.unwrap_or_default() })
    }

    /// One attempt: the holds, then the rows.
    async fn prepare_as(
        &mut self,
        head: &mut Txn,
        new: &NewPrepared,
        left: &Left,
        given: &Arc<Given>,
    ) -> Result<Made, PrepareError> {
        let core = Arc::clone(&self.core);
        let spans: Vec<_> = core.ranges.spans().into_iter().map(|(_, span)| span).collect();
        let parts = plan(Vec::new(), left.locks.clone(), &left.reads, &spans);
        let participants: Arc<[Key]> = parts.iter().map(|part| part.key.clone()).collect();
        let until = self.formed_until().await?;
        let mut this = Try::new(core.next_txn_id(), core.hlc.now());
        this.deadline = this.deadline.min(until);
        let header = core.coordinators.hold_header(&core, &this, participants);
        let _running = Coordinators::enter(&core, header.txn);
        let holds = requests(&header, self.state.isolation(), self.state.read_ts(), parts);
        let made = match make_holds(&core, holds, given).await {
            Ok(Made::All) => self.put_rows(head, new, &left.writes, &header).await,
            Ok(Made::Split) => Ok(Made::Split),
            Err(error) => Err(error),
        };
        // Not if it may have been prepared: whoever looks after the holds will find out.
        if !matches!(made, Ok(Made::All) | Err(KvError::Ambiguous)) {
            end_hold(&core, &header).await;
        }
        Ok(made?)
    }

    async fn put_rows(
        &mut self,
        head: &mut Txn,
        new: &NewPrepared,
        writes: &[Write],
        header: &Header,
    ) -> Result<Made, KvError> {
        let pieces = encode_pieces(writes);
        let [_, id] = Head::keys_of(&new.gid, header.txn);
        head.lock(&id, Strength::Update, WaitPolicy::Block).await?;
        let tables =
            self.tables.iter().map(|held| TableHeld { table: held.table, mode: held.mode.code() });
        let row = Head {
            txn: header.txn.0,
            gid: new.gid.clone(),
            owner: new.owner,
            database: new.database,
            prepared: new.prepared,
            participants: header.participants.to_vec(),
            tables: tables.collect(),
            pieces: u32::try_from(pieces.len()).expect("a transaction is bounded in bytes"),
            deadline: header.deadline.0,
            expiry: header.expiry.0,
            defines: new.defines,
            advisory: new.advisory.iter().map(|lock| AdvisoryHeld::new(lock.0)).collect(),
        };
        row.put_into(head, pieces);
        head.commit_before = header.deadline;
        self.check_form()?;
        head.commit().await?;
        if self.core.alone {
            let (from, to) = (self.state.owner(), owner_of(header.txn));
            for held in &self.tables {
                self.core.locks.hand_over_table(held.table, from, to);
            }
        }
        Ok(Made::All)
    }

    /// These writes, too, are committed, in the name of a hold that has their locks.
    pub(crate) fn set_behalf(&mut self, hold: TxnId, writes: Vec<Write>) {
        self.behalf = Some(Behalf { hold, writes });
    }

    /// Waits until no prepared transaction has a lock on the table that conflicts. The table is locked for
    /// this one everywhere, so no new one comes.
    pub(super) async fn await_prepared_table(
        &mut self,
        table: u32,
        mode: TableLockMode,
        nowait: bool,
    ) -> Result<(), KvError> {
        if self.core.alone {
            return Ok(());
        }
        let conflicts = |(other, held): (u32, TableLockMode)| {
            other == table && held.bit() & mode.conflicts() != 0
        };
        self.await_prepared(|head| head.tables().any(conflicts), nowait).await
    }

    /// As [`Txn::await_prepared_table`], for an advisory lock that this session holds.
    pub(super) async fn await_prepared_advisory(
        &mut self,
        (key, mode): Advisory,
        nowait: bool,
    ) -> Result<(), KvError> {
        let conflicts =
            |(other, held): Advisory| other == key && held.bit() & mode.conflicts() != 0;
        self.await_prepared(|head| head.advisory().any(conflicts), nowait).await
    }

    /// Waits until no prepared transaction stands in the way. Such a one waits for nothing: that makes no
    /// deadlock.
    async fn await_prepared(
        &mut self,
        conflicts: impl Fn(&Head) -> bool,
        nowait: bool,
    ) -> Result<(), KvError> {
        if is_free_of_heads(&self.core) {
            return Ok(());
        }
        let (started, mut pause) = (Instant::now(), LOOK_MIN);
        loop {
            let mut txn = Txn::begin(Arc::clone(&self.core), TxnOptions::default());
            txn.limits = self.limits.clone();
            txn.begin_statement();
            if !heads(&mut txn).await?.iter().any(&conflicts) {
                return Ok(());
            }
            drop(txn);
            if nowait {
                return Err(KvError::LockNotAvailable);
            }
            let left = self.limits.timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(KvError::LockTimeout);
            }
            let nap = tokio::time::sleep(left.map_or(pause, |left| left.min(pause)));
            match &self.limits.cancel {
                Some(token) => tokio::select! {
                    () = token.cancelled() => return Err(KvError::Cancelled),
                    () = nap => {}
                },
                None => nap.await,
            }
            pause = (pause * 2).min(LOOK_MAX);
        }
    }
}
