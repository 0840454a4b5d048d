//! The side of a request that is asked: a node, mostly as the leaseholder.
//!
//! Each request is checked against the lease before it does anything, and once more when it has waited:
//! a lock that was granted after the lease went is no lock.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::NodeId;
use meridian_kv::api::{
    Bytes, Isolation, Key, KvError, Span, Strength, Timestamp, TxnId, WaitPolicy,
};
use meridian_kv::locks::{LockMode, ModeSet, Owner};
use meridian_kv::range::{CommitRequest, Newest, Origin, Outcome as Decided, Target, Verify};
use meridian_kv::run::Run;
use meridian_kv::txn::{ReadSet, VersionTag, Write};
use prost::Message;

use super::guests::Guest;
use super::messages::{
    Advisory, Answer, AskOutcome, At, Coded, Commit, Counter, LockRow, LockTable, Name, Op, Pair,
    Patience, Read, Request, Response, RowAt, Rows, ScanPage, SendRun, Unlock, UnlockTable, Who,
    WireLocked,
};
use super::txn::{ABSENT, modes};
use super::{Cluster, FIRST_KEY, Fenced};
use crate::commit::{CommitError, Submission};
use crate::counters;
use crate::locking::{Acquired, WaitLimits};
use crate::range::Range;
use crate::txn::Try;

/// What stops a request: the answer to give instead.
pub(super) struct Stop(pub(super) Answer);

impl From<KvError> for Stop {
    fn from(error: KvError) -> Stop {
        Stop(Answer::Failed(error.into()))
    }
}

pub(super) type Served = Result<Answer, Stop>;

/// The range of a key that this node leads, and the lease.
pub(super) struct Lodged {
    pub(super) range: Arc<Range>,
    epoch: u64,
}

/// Bytes of rows in a page of a scan, about.
const PAGE_BYTES: usize = 256 * 1024;

pub(super) fn owner(who: &Who) -> Owner {
    Owner { id: who.txn, session: who.session }
}

pub(super) fn unknown(what: &str) -> Stop {
    KvError::Storage { reason: format!("a request with an unknown {what}") }.into()
}

/// The transaction has ended here, or its node was given up while it waited. If it still wants what it
/// asked for, it asks again.
fn given_up() -> Stop {
    Stop(Answer::NotHere(0))
}

fn policy(patience: &Patience) -> Result<WaitPolicy, Stop> {
    WaitPolicy::decode(patience.policy).ok_or_else(|| unknown("policy"))
}

fn limits(patience: &Patience) -> WaitLimits {
    let timeout = (patience.timeout_ms > 0).then(|| Duration::from_millis(patience.timeout_ms));
    let began = Timestamp(patience.began);
    WaitLimits { cancel: None, timeout, database: patience.database, began }
}

impl Cluster {
    /// Answers a request of another node.
    pub(crate) async fn serve(self: &Arc<Self>, from: NodeId, body: Bytes) -> Bytes {
        let answer = match Request::decode(body) {
            Ok(Request { op: Some(op) }) => self.dispatch(from, op).await,
            _ => Err(unknown("form")),
        };
        let answer = match answer {
            Ok(answer) | Err(Stop(answer)) => Some(answer),
        };
        Response { answer }.encode_to_vec().into()
    }

    async fn dispatch(self: &Arc<Self>, from: NodeId, op: Op) -> Served {
        let locks_for = match &op {
            Op::Lock(lock) => Some(lock.who.txn),
            Op::Run(run) => Some(run.who.txn),
            _ => None,
        };
        if self.is_closing() && locks_for.is_some_and(|txn| !self.guests.holds_rows(txn)) {
            return Ok(Answer::NotHere(0));
        }
        match op {
            Op::Snapshot(_) => self.serve_snapshot(),
            Op::Read(read) => Box::pin(self.serve_read(&read)).await,
            Op::Scan(page) => Box::pin(self.serve_scan(&page)).await,
            Op::Lock(lock) => Box::pin(self.serve_lock_row(lock)).await,
            Op::Unlock(unlock) => Ok(self.serve_unlock(&unlock)),
            Op::Run(run) => Box::pin(self.serve_take_run(run)).await,
            Op::Commit(commit) => Box::pin(self.serve_commit(commit)).await,
            Op::Part(part) => Box::pin(self.serve_part(part)).await,
            Op::End(who) => {
                self.guests.end_rows(&self.core, who.txn);
                Ok(Answer::Done(At::default()))
            }
            Op::Outcome(asked) => Box::pin(self.serve_outcome(asked)).await,
            Op::Counter(counter) => Box::pin(self.serve_counter(counter)).await,
            Op::Advisory(advisory) => Box::pin(self.serve_advisory_lock(from, advisory)).await,
            Op::LockTable(lock) => Box::pin(self.serve_lock_table(lock)).await,
            Op::UnlockTable(unlock) => Ok(self.serve_unlock_table(&unlock)),
            Op::Catalog(change) => {
                // Without locks here it was committed while this node had no guard.
                if !self.core.fence.holds(&self.core.hlc) {
                    self.core.fence.catalog_was_old();
                }
                if let Some(heard) = self.catalog_changed(change.bytes) {
                    heard.await;
                }
                Ok(Answer::Done(At::default()))
            }
            Op::Fence(asked) => self.serve_fence(from, asked),
            Op::Clock(_) => Ok(Answer::Done(At { ts: self.core.hlc.now().0 })),
            Op::Adopt(of) => self.serve_adopt(of.bytes).await,
            Op::Belongs(asked) => self.serve_belongs(asked),
            Op::Report(report) => {
                self.take_report(&report);
                Ok(Answer::Done(At::default()))
            }
            Op::Relocate(asked) => self.serve_relocate(asked).await,
            Op::Split(at) => Box::pin(self.serve_split(at.key)).await,
            Op::Protect(at) => {
                self.protect(from, Timestamp(at.ts));
                Ok(Answer::Done(At::default()))
            }
            Op::Closed(tidings) => Ok(self.serve_tidings(from, tidings)),
            Op::Watch(watch) => {
                let watched = self.serve_watch(from, watch).ok_or_else(|| unknown("question"))?;
                Ok(Answer::Watched(watched))
            }
        }
    }

    /// The lease under which this node serves a key, or where to go instead.
    pub(super) fn here(&self, key: &[u8]) -> Result<Lodged, Stop> {
        let core = &*self.core;
        let range = Arc::clone(&core.range_of(key));
        let epoch = range.lease.here(&core.hlc).ok_or_else(|| self.not_here(key))?;
        Ok(Lodged { range, epoch })
    }

    pub(super) fn not_here(&self, key: &[u8]) -> Stop {
        let leader = self.core.range_of(key).lease.leader();
        Stop(Answer::NotHere(leader.map_or(0, |node| node.0)))
    }

    /// Has nothing changed meanwhile as to who serves the key?
    fn still_here(&self, key: &[u8], before: &Lodged) -> Result<(), Stop> {
        let now = self.here(key)?;
        let same = now.epoch == before.epoch && now.range.id == before.range.id;
        if same { Ok(()) } else { Err(self.not_here(key)) }
    }

    fn serve_snapshot(&self) -> Served {
        let core = &*self.core;
        // The lease first: what is applied now was complete when the lease was still good.
        let applied = core.applied();
        self.here(FIRST_KEY)?;
        self.check_single(FIRST_KEY)?;
        Ok(Answer::Done(At { ts: applied.0 }))
    }

    /// One range's snapshot is no snapshot of several: who asks for it has yet to hear of the others.
    fn check_single(&self, key: &[u8]) -> Result<(), Stop> {
        if self.core.ranges.is_single() { Ok(()) } else { Err(self.not_here(key)) }
    }

    async fn serve_read(&self, read: &Read) -> Served {
        let core = &*self.core;
        if read.narrow {
            self.here(&read.key)?;
            let found = self.core.get_newest(&read.key).await?;
            let (ts, row) = found.ok_or_else(|| self.not_here(&read.key))?;
            return Ok(Answer::Row(RowAt { ts: ts.0, row }));
        }
        let ts = match read.ts {
            0 => core.applied(),
            ts => Timestamp(ts),
        };
        if read.ts == 0 {
            self.check_single(&read.key)?;
        }
        let range = self.here(&read.key)?.range;
        self.await_readable(&range, Target::Key(&read.key), (ts, !read.partial)).await?;
        let row = core.read.get(&read.key, ts)?;
        Ok(Answer::Row(RowAt { ts: ts.0, row }))
    }

    /// Waits until this snapshot can be read here.
    async fn await_readable(
        &self,
        range: &Range,
        target: Target<'_>,
        (ts, whole): (Timestamp, bool),
    ) -> Result<(), Stop> {
        let core = &*self.core;
        let first = match target {
            Target::Key(key) => key,
            Target::Span(span) => &span.start,
        };
        if core.ranges.is_single() && ts <= range.applied() {
            return match ts < range.pipeline.gc() {
                true => Err(KvError::SnapshotTooOld.into()),
                false => Ok(()),
            };
        }
        core.hlc.raise(ts);
        match range.await_readable(&self.core, target, ts, whole).await {
            Ok(()) => Ok(()),
            Err(CommitError::Refused(error)) => Err(error.into()),
            Err(CommitError::Moved | CommitError::Unknown(_)) => Err(self.not_here(first)),
        }
    }

    async fn serve_scan(&self, page: &ScanPage) -> Served {
        let core = &*self.core;
        let ts = Timestamp(page.ts);
        let asked = Span { start: page.start.clone(), end: page.end.clone() };
        let first = match page.reverse {
            false => asked.start.clone(),
            true => core.ranges.last_of(&asked).span().start.max(asked.start.clone()),
        };
        let range = self.here(&first)?.range;
        let span = asked.intersection(&range.span());
        let _protection = core.snapshots.guard(ts);
        self.await_readable(&range, Target::Span(&span), (ts, !page.partial)).await?;
        let bound = match page.reverse {
            false => (span.end != asked.end).then(|| span.end.clone()),
            true => (span.start != asked.start).then(|| span.start.clone()),
        };
        let mut scan = core.read.scan(&span, page.reverse, ts);
        let rows_max = usize::try_from(page.rows_max).unwrap_or(usize::MAX).clamp(1, 4096);
        let (mut rows, mut bytes, mut more) = (Vec::new(), 0, true);
        while more && rows.len() < rows_max && bytes < PAGE_BYTES {
            let before = rows.len();
            let step = (rows_max - before).min(128);
            more = core.read.next_batch(&mut scan, step, &mut rows)?;
            bytes += rows[before..].iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        }
        let rows = rows.into_iter().map(|(key, row)| Pair { key, row }).collect();
        Ok(Answer::Rows(Rows { rows, more, bound }))
    }

    async fn serve_lock_row(&self, lock: LockRow) -> Served {
        let lodged = self.here(&lock.key)?;
        let core = &*self.core;
        let strength = Strength::decode(lock.strength).ok_or_else(|| unknown("strength"))?;
        let guest = self.guests.enter(owner(&lock.who));
        let reentrant = match self.acquire(&guest, &lock.key, strength, &lock.patience).await? {
            None => return Ok(Answer::Locked(WireLocked::default())),
            Some(reentrant) => reentrant,
        };
        self.still_here(&lock.key, &lodged)?;
        let version = core.read.newest(&lock.key)?;
        Ok(Answer::Locked(WireLocked {
            held: true,
            before: u32::from(reentrant.before),
            reentrant: reentrant.already,
            version: version.as_ref().map_or(0, |version| version.ts.0),
            row: version.and_then(|version| version.row),
            term: lodged.epoch,
            applied: lodged.range.applied().0,
            taken: 0,
            guest: guest.number(),
            range: lodged.range.id.0,
            start: 0,
        }))
    }

    /// Takes a row lock for a guest; `None` when it isn't free and nobody wants to wait.
    async fn acquire(
        &self,
        guest: &Guest,
        key: &Key,
        strength: Strength,
        patience: &Patience,
    ) -> Result<Option<Taken>, Stop> {
        let (core, owner) = (&self.core, guest.owner());
        let before = match core.locks.try_row(key, owner, strength, policy(patience)?) {
            Ok(Acquired::Granted { before }) => before,
            Ok(Acquired::Reentrant) => {
                return Ok(Some(Taken { before: guest.holds_row(key), already: true }));
            }
            Ok(Acquired::Unavailable) => return Ok(None),
            Err(queued) => queued.wait(&limits(patience)).await?,
        };
        if !guest.note_row(key, before | strength.bit()) {
            core.locks.release_row(key, owner, 0);
            return Err(given_up());
        }
        Ok(Some(Taken { before, already: false }))
    }

    fn serve_unlock(&self, unlock: &Unlock) -> Answer {
        let core = &*self.core;
        if let Some(guest) = self.guests.get(unlock.who.txn) {
            match unlock.run {
                Some(number) => guest.drop_run(core, number),
                None => guest.restore_row(core, &unlock.key, modes(unlock.remains)),
            }
        }
        Answer::Done(At::default())
    }

    /// Keeps rows in bulk, after locking and looking up their keys if that is asked for.
    async fn serve_take_run(&self, sent: SendRun) -> Served {
        let core = &*self.core;
        let run = Arc::new(Run::from_bytes(sent.bytes).ok_or_else(|| unknown("run"))?);
        let lodged = self.here(run.first())?;
        let guest = self.guests.enter(owner(&sent.who));
        let mut taken = 0;
        if sent.claim {
            while let Some(at) = core.locks.try_run(guest.owner(), &run) {
                let key = run.shared_key(at);
                self.acquire(&guest, &key, Strength::Update, &sent.patience).await?;
            }
        }
        if !guest.note_run(sent.number, Arc::clone(&run), sent.claim) {
            if sent.claim {
                core.locks.release_run(guest.owner(), &run);
            }
            return Err(given_up());
        }
        self.still_here(run.first(), &lodged)?;
        if sent.claim {
            let snapshot = match sent.snapshot {
                0 => Timestamp::MAX,
                ts => Timestamp(ts),
            };
            let own = |key: &[u8]| sent.deleted.iter().any(|deleted| deleted == key);
            let found = core.read.first_taken(&run, snapshot, own)?;
            taken = found.map_or(0, |at| at as u64 + 1);
        }
        Ok(Answer::Locked(WireLocked {
            held: true,
            term: lodged.epoch,
            applied: lodged.range.applied().0,
            taken,
            range: lodged.range.id.0,
            guest: guest.number(),
            ..WireLocked::default()
        }))
    }

    async fn serve_commit(&self, commit: Commit) -> Served {
        let key = commit.key.clone();
        let range = self.here(&key)?.range;
        let txn = commit.who.txn;
        let outcome = match self.submit(&range, commit).await {
            Ok(flying) => flying.await.unwrap_or(Err(CommitError::Unknown("cut off".into()))),
            Err(error) => Err(error),
        };
        // It is tried again when the range has moved, with the locks that are still good.
        if outcome != Err(CommitError::Moved) {
            self.guests.end_rows(&self.core, txn);
        }
        match outcome {
            Ok(ts) => Ok(Answer::Done(At { ts: ts.0 })),
            Err(CommitError::Refused(error)) => Err(error.into()),
            Err(CommitError::Moved) => Err(self.not_here(&key)),
            Err(CommitError::Unknown(_)) => Err(KvError::Ambiguous.into()),
        }
    }

    /// Locks what isn't locked yet, and hands the commit to the pipeline.
    async fn submit(
        &self,
        range: &Range,
        commit: Commit,
    ) -> Result<tokio::sync::oneshot::Receiver<crate::commit::Outcome>, CommitError> {
        let core = &*self.core;
        let refused = |stop: Stop| match stop.0 {
            Answer::Failed(error) => CommitError::Refused(error.into()),
            _ => CommitError::Moved,
        };
        let isolation = Isolation::decode(commit.isolation).ok_or(CommitError::Moved)?;
        let guest = self.guests.enter(owner(&commit.who));
        let read_ts = Timestamp(commit.read_ts);
        // A lock may have gone with the lease, or because this transaction's node was given up meanwhile.
        let mut verify = Vec::new();
        for locked in commit.verify {
            if guest.holds_row(&locked.key) == 0 {
                let strength = Strength::decode(locked.strength).unwrap_or(Strength::Update);
                verify.push(Verify { key: locked.key, strength, seen: Timestamp(locked.seen) });
            }
        }
        let mut writes = Vec::with_capacity(commit.puts.len());
        for put in commit.puts {
            // A lock that was lost is taken again: as long as the commit is on its way nobody else may get
            // it, and read under it what is about to change.
            if put.expect.is_some() && !guest.holds_key(&put.key) {
                let weak = put.row.is_some() && put.expect != Some(ABSENT);
                let strength = if weak { Strength::NoKeyUpdate } else { Strength::Update };
                let locked = self.acquire(&guest, &put.key, strength, &commit.patience).await;
                if locked.map_err(refused)?.is_none() {
                    return Err(KvError::CONCURRENT_UPDATE.into());
                }
            }
            let expect = match put.expect {
                Some(ABSENT) => VersionTag::Absent,
                Some(ts) => VersionTag::Newest(Timestamp(ts)),
                None => {
                    let key = &put.key;
                    let locked =
                        self.acquire(&guest, key, Strength::Update, &commit.patience).await;
                    locked.map_err(refused)?;
                    let newest = core.read.newest(key)?.map_or(Timestamp::MIN, |found| found.ts);
                    if isolation != Isolation::ReadCommitted && newest > read_ts {
                        return Err(KvError::CONCURRENT_UPDATE.into());
                    }
                    VersionTag::Newest(newest)
                }
            };
            writes.push(Write { key: put.key, value: put.row, expect });
        }
        // They are sent again, and claimed anew.
        let runs = guest.runs(&commit.runs).ok_or(CommitError::Moved)?;
        let mut reads = ReadSet::default();
        for span in commit.reads {
            reads.add_span(Span { start: span.start, end: span.end });
        }
        let reads = (isolation == Isolation::Serializable).then_some(&reads);
        let Name { id, sent, deadline } = commit.name;
        let (sent, deadline) = (Timestamp(sent), Timestamp(deadline));
        let origin = Some(Origin { txn: TxnId(id), sent, deadline, verify });
        let request = CommitRequest { isolation, read_ts, writes, runs, reads, origin };
        let _passing = self.pass_fence(range, commit.fenced.map(Fenced::from).as_ref())?;
        let submission = Submission { request, owner: guest.owner() };
        let taken = range.pipeline.submit(core, submission, || guest.take_locks());
        taken.map_err(|not| not.error)
    }

    /// What became of a commit that this node, or a former leaseholder, was asked for.
    async fn serve_outcome(&self, asked: AskOutcome) -> Served {
        let key = asked.key.clone();
        let range = self.here(&key)?.range;
        let Name { id, sent, deadline } = asked.name;
        let (id, sent, deadline) = (TxnId(id), Timestamp(sent), Timestamp(deadline));
        let header = Try { id, sent, deadline }.header(asked.key);
        match range.await_outcome(&header, sent).await {
            Ok(Decided::Committed(ts)) => Ok(Answer::Done(At { ts: ts.0 })),
            Ok(Decided::Aborted) => Ok(Answer::Done(At::default())),
            Err(CommitError::Moved) => Err(self.not_here(&key)),
            Err(_) => Err(KvError::Ambiguous.into()),
        }
    }

    async fn serve_counter(&self, counter: Counter) -> Served {
        self.here(FIRST_KEY)?;
        let core = Arc::clone(&self.core);
        let Counter { name, by, set } = counter;
        Ok(Answer::Number(counters::count_here(&core, &name, by, set).await?))
    }

    async fn serve_advisory_lock(self: &Arc<Self>, from: NodeId, asked: Advisory) -> Served {
        let how = (policy(&asked.patience)?, limits(&asked.patience));
        match self.serve_advisory(from, &asked, how).await? {
            Some((held, term)) => {
                Ok(Answer::Locked(WireLocked { held, term, ..WireLocked::default() }))
            }
            None => Err(self.not_here(FIRST_KEY)),
        }
    }

    async fn serve_lock_table(&self, lock: LockTable) -> Served {
        let core = &*self.core;
        let mode = Coded::decode(lock.mode).ok_or_else(|| unknown("mode"))?;
        let guest = self.guests.enter(owner(&lock.who));
        let wanted = policy(&lock.patience)?;
        let (before, reentrant) =
            match core.locks.try_table(lock.table, guest.owner(), mode, wanted) {
                Ok(Acquired::Granted { before }) => (before, false),
                Ok(Acquired::Reentrant) => (0, true),
                Ok(Acquired::Unavailable) => return Ok(Answer::Locked(WireLocked::default())),
                Err(queued) => (queued.wait(&limits(&lock.patience)).await?, false),
            };
        if !guest.note_table(lock.table, mode) {
            core.locks.release_table(lock.table, guest.owner(), before);
            return Err(given_up());
        }
        let (before, start) = (u32::from(before), self.this_start().start);
        let held = WireLocked { held: true, before, reentrant, start, ..WireLocked::default() };
        Ok(Answer::Locked(held))
    }

    fn serve_unlock_table(&self, unlock: &UnlockTable) -> Answer {
        let remains = modes(unlock.remains);
        self.guests.restore_table(&self.core, unlock.who.txn, unlock.table, remains);
        Answer::Done(At::default())
    }
}

/// A lock that was taken.
struct Taken {
    before: ModeSet,
    already: bool,
}
