//! A transaction whose leaseholder is another node.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::{NodeId, RangeId};
use meridian_kv::api::{Bytes, Isolation, Key, KvError, Strength, Timestamp, WaitPolicy};
use meridian_kv::locks::{ModeSet, Owner};
use meridian_kv::range::{Outcome as Decided, Target, Verify};
use meridian_kv::run::Run;
use meridian_kv::txn::VersionTag;
use meridian_rpc::Class;

use super::ask::{Tried, encode, unexpected};
use super::fences::WireFenced;
use super::messages::{
    Answer, AskOutcome, At, Coded, Commit, Empty, LockRow, Name, Op, Patience, Put, Read, SendRun,
    Unlock, Who, WireLocked, WireSpan, WireVerify,
};
use super::{Asked, Cluster, FIRST_KEY, Search, at_level};
use crate::commit::{CommitError, Outcome};
use crate::lease::Home;
use crate::locking::WaitLimits;
use crate::txn::{Changes, Locked, LockedIn, Snapshot, Try, Txn};

/// Under what a lock was granted.
pub(crate) fn locked_in(locked: &WireLocked) -> LockedIn {
    LockedIn { range: RangeId(locked.range), epoch: locked.term, guest: locked.guest }
}

pub(super) fn who(owner: Owner) -> Who {
    Who { txn: owner.id, session: owner.session }
}

pub(super) fn patience(limits: &WaitLimits, policy: WaitPolicy) -> Patience {
    let timeout_ms = limits.timeout.map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(0));
    Patience { policy: policy.code(), timeout_ms, database: limits.database, began: limits.began.0 }
}

fn name(this: Try) -> Name {
    Name { id: this.id.0, sent: this.sent.0, deadline: this.deadline.0 }
}

/// The expected version of a key that had no row.
pub(super) const ABSENT: u64 = u64::MAX;

/// How long a read waits for this node's copy to come up to its snapshot before it asks elsewhere.
const CATCH_UP: u32 = 20;

impl Txn {
    fn fix_snapshot(&mut self, ts: Timestamp) {
        let slot = self.core.snapshots.join(ts);
        self.leave_snapshot(Snapshot::Away(Some(slot)));
        self.state.fix_snapshot(ts);
    }

    /// The lease has come here: the snapshot is taken here, unless it is known already.
    fn snapshot_here(&mut self) {
        if matches!(self.snapshot, Snapshot::Away(None)) {
            let slot = self.core.snapshots.enter(|| self.core.applied());
            self.state.fix_snapshot(slot.ts());
            self.leave_snapshot(Snapshot::Here(slot));
            self.check_lease();
        }
    }

    /// A row, from wherever it is.
    pub(crate) async fn get_away(&mut self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        loop {
            if self.reads_here() {
                return self.core.read.get(key, self.state.read_ts());
            }
            if self.past || !self.core.ranges.is_single() {
                return self.get_at(key).await;
            }
            let ts = match &self.snapshot {
                Snapshot::Here(slot) | Snapshot::Away(Some(slot)) => slot.ts().0,
                _ => 0,
            };
            let read = Read { key: Bytes::copy_from_slice(key), ts, partial: false, narrow: false };
            match self.core.ask(key, Op::Read(read), &self.limits).await? {
                Asked::Here if ts == 0 => self.snapshot_here(),
                // It has been applied here before this node could lead.
                Asked::Here => return self.core.read.get(key, Timestamp(ts)),
                Asked::Answer(Answer::Row(found)) => {
                    if ts == 0 {
                        self.fix_snapshot(Timestamp(found.ts));
                    }
                    return Ok(found.row);
                }
                Asked::Answer(Answer::NotHere(_)) => {}
                Asked::Answer(_) => return Err(unexpected()),
            }
        }
    }

    /// A row at a snapshot over several ranges, from the leaseholder of its range.
    async fn get_at(&mut self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let ts = self.asked_snapshot().await?;
        if self.whole
            && let Some(row) = self.core.get_closed(key, ts)?
        {
            return Ok(row);
        }
        let limits = self.limits.clone();
        let mut search = Search::new(&limits);
        loop {
            let key = Bytes::copy_from_slice(key);
            let partial = !self.whole;
            let read = Read { key: key.clone(), ts: ts.0, partial, narrow: false };
            let level = self.state.isolation();
            let asked = self.core.ask(&key, Op::Read(read), &limits).await;
            match asked.map_err(|error| at_level(error, level))? {
                Asked::Here => {
                    let at = (ts, self.whole);
                    let readable = self.core.await_readable(&key, Target::Key(&key), at).await;
                    if readable.map_err(|error| at_level(error, level))? {
                        return self.core.read.get(&key, ts);
                    }
                }
                Asked::Answer(Answer::Row(found)) => return Ok(found.row),
                Asked::Answer(_) => return Err(unexpected()),
            }
            search.pause().await?;
        }
    }

    /// A row at the newest snapshot of its range alone.
    pub(crate) async fn get_narrow(&mut self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        if let Some(own) = self.state.own(key) {
            return Ok(own);
        }
        if self.state.isolation() != Isolation::ReadCommitted {
            return self.get(key).await;
        }
        let limits = self.limits.clone();
        let mut search = Search::new(&limits);
        loop {
            let key = Bytes::copy_from_slice(key);
            let read = Read { key: key.clone(), ts: 0, partial: false, narrow: true };
            match self.core.ask(&key, Op::Read(read), &limits).await? {
                Asked::Here => {
                    if let Some((_, row)) = self.core.get_newest(&key).await? {
                        return Ok(row);
                    }
                }
                Asked::Answer(Answer::Row(found)) => return Ok(found.row),
                Asked::Answer(_) => return Err(unexpected()),
            }
            search.pause().await?;
        }
    }

    /// The snapshot over several ranges, which is asked for when it isn't known.
    pub(crate) async fn asked_snapshot(&mut self) -> Result<Timestamp, KvError> {
        if matches!(self.snapshot, Snapshot::Away(None)) {
            let (ts, whole) = self.core.ask_clocks(&self.limits).await?;
            self.whole = whole;
            self.fix_snapshot(ts);
        }
        Ok(self.state.read_ts())
    }

    /// Learns the snapshot, and gives this node's copy a moment to come up to it.
    pub(crate) async fn await_snapshot(&mut self) -> Result<(), KvError> {
        if !self.core.ranges.is_single() {
            return self.asked_snapshot().await.map(drop);
        }
        if self.past {
            return Ok(());
        }
        let cluster = self.cluster()?;
        while matches!(self.snapshot, Snapshot::Away(None)) {
            match cluster.ask(FIRST_KEY, Op::Snapshot(Empty {}), &self.limits).await? {
                Asked::Here => self.snapshot_here(),
                Asked::Answer(Answer::Done(at)) => self.fix_snapshot(Timestamp(at.ts)),
                Asked::Answer(Answer::NotHere(_)) => return self.asked_snapshot().await.map(drop),
                Asked::Answer(_) => return Err(unexpected()),
            }
        }
        for _ in 0..CATCH_UP {
            if self.reads_here() || !self.core.first().replicates() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    pub(crate) async fn lock_away(
        &mut self,
        key: &[u8],
        strength: Strength,
        wait: WaitPolicy,
    ) -> Result<Locked, KvError> {
        let key = Key::copy_from_slice(key);
        let Some(locked) = self.ask_lock(&key, strength, wait).await? else {
            self.snapshot_here();
            return Box::pin(self.lock(&key, strength, wait)).await;
        };
        if !locked.held {
            return match wait {
                WaitPolicy::Skip => Ok(Locked::Skipped),
                WaitPolicy::NoWait | WaitPolicy::Block => Err(KvError::LockNotAvailable),
            };
        }
        if self.note_lease(locked_in(&locked)) {
            Box::pin(self.regain_locks()).await?;
        }
        let before = self.state.locked(&key);
        self.check_kept(before, Timestamp(locked.version))?;
        let first = before.is_none();
        if !locked.reentrant || first {
            // What isn't known here was granted to a request whose answer was lost.
            let before = if first { 0 } else { modes(locked.before) };
            self.state.note_lock(&key, strength, before);
        }
        self.read_of(&key, (strength, first), locked)
    }

    /// Asks the leaseholder for a row lock. `None`: this node is the leaseholder.
    pub(crate) async fn ask_lock(
        &mut self,
        key: &Key,
        strength: Strength,
        wait: WaitPolicy,
    ) -> Result<Option<WireLocked>, KvError> {
        let op = Op::Lock(LockRow {
            who: who(self.state.owner()),
            key: key.clone(),
            strength: strength.code(),
            patience: patience(&self.limits, wait),
        });
        // Whatever comes of it, that node may know us now.
        self.lodge(key);
        let locked = match self.core.ask(key, op, &self.limits).await? {
            Asked::Here => return Ok(None),
            Asked::Answer(Answer::Locked(locked)) => locked,
            Asked::Answer(_) => return Err(unexpected()),
        };
        self.lodge(key);
        Ok(Some(locked))
    }

    fn read_of(
        &mut self,
        key: &Key,
        (strength, first): (Strength, bool),
        locked: WireLocked,
    ) -> Result<Locked, KvError> {
        if matches!(self.snapshot, Snapshot::Away(None)) {
            self.fix_snapshot(Timestamp(locked.applied));
        }
        let (read_ts, version) = (self.state.read_ts(), Timestamp(locked.version));
        if let Some(own) = self.state.own(key) {
            if first {
                self.note_overwritten(key, version)?;
            }
            return Ok(Locked::Held { newest: own.map(|row| (read_ts, row)), changed: false });
        }
        self.note_locked_read(key, strength);
        self.state.note_newest(key, version);
        let newest = locked.row.map(|row| (version, row));
        Ok(Locked::Held { newest, changed: version > read_ts })
    }

    /// Notes that the leaseholder of a key, if that is another node, may know this transaction.
    fn lodge(&mut self, key: &[u8]) {
        let leader = self.core.range_of(key).lease.leader();
        self.lodge_at(leader);
    }

    fn lodge_at(&mut self, node: Option<NodeId>) {
        let node = node.filter(|node| *node != self.core.node && !self.lodgings.contains(node));
        self.lodgings.extend(node);
    }

    pub(crate) fn unlock_away(&self, rows: &[(Key, ModeSet)], runs: &[(Arc<Run>, u64)]) {
        let Some(cluster) = self.core.cluster() else { return };
        let who = who(self.state.owner());
        // Who doesn't know the lock has nothing to give back.
        for node in &self.lodgings {
            for (key, remains) in rows {
                let (key, remains) = (key.clone(), u32::from(*remains));
                cluster.tell(*node, Op::Unlock(Unlock { who, key, remains, run: None }));
            }
            for (_, number) in runs {
                let unlock = Unlock { who, run: Some(*number), ..Unlock::default() };
                cluster.tell(*node, Op::Unlock(unlock));
            }
        }
    }

    /// Sends a run to the leaseholder, which locks its keys and looks them up if `claim` says so. `None`:
    /// this node is the leaseholder.
    pub(crate) async fn send_run(
        &mut self,
        run: &Arc<Run>,
        claim: bool,
    ) -> Result<Option<Option<usize>>, KvError> {
        let number = self.sent.len() as u64 + 1;
        let snapshot = match self.state.isolation() {
            Isolation::ReadCommitted => 0,
            _ => self.state.read_ts().0,
        };
        let own = self.state.own_span(&run.span());
        let deleted = own.into_iter().filter_map(|(key, row)| row.is_none().then_some(key));
        let op = Op::Run(SendRun {
            who: who(self.state.owner()),
            number,
            bytes: run.bytes().clone(),
            claim,
            snapshot,
            patience: patience(&self.limits, WaitPolicy::Block),
            deleted: deleted.collect(),
        });
        self.lodge(run.first());
        let locked = match self.core.ask(run.first(), op, &self.limits).await? {
            Asked::Here => return Ok(None),
            Asked::Answer(Answer::Locked(locked)) => locked,
            Asked::Answer(_) => return Err(unexpected()),
        };
        self.lodge(run.first());
        if self.note_lease(locked_in(&locked)) {
            Box::pin(self.regain_locks()).await?;
        }
        self.sent.push((Arc::clone(run), number));
        Ok(Some(usize::try_from(locked.taken).unwrap_or(0).checked_sub(1)))
    }

    /// One try to commit at another node.
    pub(crate) async fn commit_there(
        &mut self,
        changes: &Changes,
        this: Try,
        node: NodeId,
    ) -> Outcome {
        let cluster = self.cluster()?;
        let mut numbers = Vec::with_capacity(changes.runs.len());
        for run in &changes.runs {
            let sent = |known: &(Arc<Run>, u64)| Arc::ptr_eq(&known.0, run).then_some(known.1);
            let known = self.sent.iter().find_map(sent);
            let number = match known {
                Some(number) => number,
                None => {
                    // What was claimed under another lease is claimed anew.
                    let claim =
                        self.locks_lost || self.claimed.iter().any(|known| Arc::ptr_eq(known, run));
                    match Box::pin(self.send_run(run, claim)).await? {
                        Some(None) => self.sent.last().map_or(0, |(_, number)| *number),
                        Some(Some(_)) => return Err(KvError::CONCURRENT_UPDATE.into()),
                        None => return Err(CommitError::Moved),
                    }
                }
            };
            numbers.push(number);
        }
        let Some(key) = changes.any_key() else { return Err(CommitError::Moved) };
        let op = Op::Commit(self.commit_request(changes, &key, this, numbers));
        self.lodge_at(Some(node));
        match cluster.try_at(node, encode(op), Class::Kv).await {
            Tried::Answer(Answer::Done(At { ts })) => Ok(Timestamp(ts)),
            Tried::Answer(Answer::NotHere(leader)) => {
                cluster.follow(&key, node, leader);
                if !self.sent.is_empty() {
                    (self.locks_lost, self.sent) = (true, Vec::new());
                }
                Err(CommitError::Moved)
            }
            Tried::Answer(Answer::Failed(error)) => match error.into() {
                KvError::Ambiguous => Err(CommitError::Unknown("the leaseholder".into())),
                error => Err(CommitError::Refused(error)),
            },
            Tried::Answer(_) => Err(CommitError::Unknown("an unknown answer".into())),
            Tried::NotDone => Err(CommitError::Moved),
            Tried::Unknown => Err(CommitError::Unknown("the connection was lost".into())),
        }
    }

    fn commit_request(&self, changes: &Changes, key: &Key, this: Try, runs: Vec<u64>) -> Commit {
        let put = |write: &meridian_kv::txn::Write| Put {
            key: write.key.clone(),
            row: write.value.clone(),
            expect: match write.expect {
                VersionTag::Newest(ts) if !changes.unlocked.contains(&write.key) => Some(ts.0),
                VersionTag::Absent => Some(ABSENT),
                _ => None,
            },
        };
        let span = |span: meridian_kv::api::Span| WireSpan { start: span.start, end: span.end };
        let reads = self.state.reads().into_iter().flat_map(|reads| {
            let points = reads.points().map(|key| meridian_kv::api::Span::point(key));
            points.chain(reads.spans().map(|(start, end)| meridian_kv::api::Span {
                start: start.clone(),
                end: end.clone(),
            }))
        });
        let verify = |verify: &Verify| WireVerify {
            key: verify.key.clone(),
            strength: verify.strength.code(),
            seen: verify.seen.0,
        };
        Commit {
            who: who(self.state.owner()),
            isolation: self.state.isolation().code(),
            read_ts: self.state.read_ts().0,
            puts: changes.writes.iter().map(put).collect(),
            runs,
            reads: reads.map(span).collect(),
            patience: patience(&self.limits, WaitPolicy::Block),
            verify: changes.verify.iter().map(verify).collect(),
            name: name(this),
            fenced: self.fenced().as_ref().map(WireFenced::from),
            key: key.clone(),
        }
    }

    /// What became of a commit whose outcome was not heard. `None`: it was not made, and won't be.
    pub(crate) async fn settle(
        &mut self,
        changes: &Changes,
        this: Try,
    ) -> Result<Option<Timestamp>, KvError> {
        let cluster = self.cluster()?;
        let Some(key) = changes.any_key() else { return Err(KvError::Ambiguous) };
        let body = encode(Op::Outcome(AskOutcome { name: name(this), key: key.clone() }));
        // Cancelling would only hide what is being found out.
        let limits = WaitLimits { cancel: None, ..self.limits.clone() };
        let mut search = Search::new(&limits);
        loop {
            let range = Arc::clone(&self.core.range_of(&key));
            match range.lease.home(self.core.node, &self.core.hlc) {
                Home::Here(_) => {
                    match range.await_outcome(&this.header(key.clone()), this.sent).await {
                        Ok(Decided::Committed(ts)) => return Ok(Some(ts)),
                        Ok(Decided::Aborted) => return Ok(None),
                        Err(CommitError::Moved) => {}
                        Err(_) => return Err(KvError::Ambiguous),
                    }
                }
                Home::There(node) => match cluster.try_at(node, body.clone(), Class::Kv).await {
                    Tried::Answer(Answer::Done(At { ts: 0 })) => return Ok(None),
                    Tried::Answer(Answer::Done(At { ts })) => return Ok(Some(Timestamp(ts))),
                    Tried::Answer(Answer::NotHere(leader)) => cluster.follow(&key, node, leader),
                    Tried::Answer(Answer::Failed(error)) => return Err(error.into()),
                    _ => {}
                },
                Home::Nowhere => {}
            }
            search.pause().await.map_err(|_| KvError::Ambiguous)?;
        }
    }
}

pub(super) fn modes(code: u32) -> ModeSet {
    ModeSet::try_from(code).unwrap_or(0)
}

impl Cluster {
    /// A transaction of this node has ended that has row locks on another one.
    pub(crate) fn end_at(self: &Arc<Self>, node: NodeId, owner: Owner) {
        self.tell(node, Op::End(who(owner)));
    }
}
