//! What nodes ask each other about keys, as protobuf messages: fields may be added without a flag day,
//! which a rolling upgrade needs.
//!
//! Times are HLC timestamps; 0 stands for "none". Numbers of modes, strengths and levels are their
//! positions in the enums of `kv::api`, which never change.

use bytes::Bytes;
use meridian_kv::api::{Isolation, Strength, TableLockMode, WaitPolicy};

use super::failures::WireError;
use super::fences::{FenceAnswer, FenceQuestion, WireFenced};
use super::parts::{PartMessage, PartReply};
use super::reports::Report;
use super::tidings::WireTidings;
use super::watch::{Watch, Watched};

/// One request to a leaseholder, or to a node as such.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Request {
    #[prost(
        oneof = "Op",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 30, 32, 33, 34, 35, 36, 37, 40, 41"
    )]
    pub(crate) op: Option<Op>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Op {
    /// The newest snapshot.
    #[prost(message, tag = "1")]
    Snapshot(Empty),
    #[prost(message, tag = "2")]
    Read(Read),
    #[prost(message, tag = "3")]
    Scan(ScanPage),
    #[prost(message, tag = "4")]
    Lock(LockRow),
    #[prost(message, tag = "5")]
    Unlock(Unlock),
    #[prost(message, tag = "6")]
    Run(SendRun),
    #[prost(message, tag = "7")]
    Commit(Commit),
    /// The transaction has ended: its row locks go.
    #[prost(message, tag = "8")]
    End(Who),
    /// What became of a commit?
    #[prost(message, tag = "9")]
    Outcome(AskOutcome),
    #[prost(message, tag = "10")]
    Counter(Counter),
    #[prost(message, tag = "11")]
    Advisory(Advisory),
    #[prost(message, tag = "12")]
    LockTable(LockTable),
    #[prost(message, tag = "13")]
    UnlockTable(UnlockTable),
    /// The catalog has changed.
    #[prost(message, tag = "14")]
    Catalog(Opaque),
    /// The oldest snapshot that a node needs.
    #[prost(message, tag = "15")]
    Protect(At),
    /// What time is it there?
    #[prost(message, tag = "17")]
    Clock(Empty),
    /// About a part of a commit over several ranges.
    #[prost(message, tag = "30")]
    Part(PartMessage),
    /// Keep a replica of this range (its descriptor).
    #[prost(message, tag = "32")]
    Adopt(Opaque),
    /// Have a range begin there.
    #[prost(message, tag = "33")]
    Split(SplitAt),
    /// How far the sender's ranges are closed.
    #[prost(message, tag = "34")]
    Closed(WireTidings),
    /// Has a node a replica of a range, by the range's leaseholder?
    #[prost(message, tag = "35")]
    Belongs(Belongs),
    /// Sizes and loads of the sender's ranges.
    #[prost(message, tag = "36")]
    Report(Report),
    /// Have a node lead a range.
    #[prost(message, tag = "37")]
    Relocate(Belongs),
    /// About sessions and what they wait for.
    #[prost(message, tag = "40")]
    Watch(Watch),
    /// About guards of catalogs.
    #[prost(message, tag = "41")]
    Fence(FenceQuestion),
}

impl Op {
    /// The session that stands still until this has been done, if it may have to wait for others' locks.
    pub(crate) fn waiter(&self) -> Option<u64> {
        let (who, patience) = match self {
            Op::Lock(lock) => (&lock.who, &lock.patience),
            Op::Run(run) => (&run.who, &run.patience),
            Op::Commit(commit) => (&commit.who, &commit.patience),
            Op::Advisory(advisory) => (&advisory.who, &advisory.patience),
            Op::LockTable(lock) => (&lock.who, &lock.patience),
            _ => return None,
        };
        (patience.policy == WaitPolicy::Block.code()).then_some(who.session)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Empty {}

/// A range and a node, of which something is asked.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Belongs {
    #[prost(uint64, tag = "1")]
    pub(crate) range: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) node: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct At {
    #[prost(fixed64, tag = "1")]
    pub(crate) ts: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Opaque {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) bytes: Bytes,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct SplitAt {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
}

/// A transaction: its number and its session.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Who {
    #[prost(fixed64, tag = "1")]
    pub(crate) txn: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) session: u64,
}

/// A row at a snapshot; without one, at the newest, which the answer names.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Read {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(fixed64, tag = "2")]
    pub(crate) ts: u64,
    /// A snapshot over several ranges for which not all nodes were asked.
    #[prost(bool, tag = "3")]
    pub(crate) partial: bool,
    /// Nothing else will be read at the newest snapshot: that of the key's range will do.
    #[prost(bool, tag = "4")]
    pub(crate) narrow: bool,
}

/// A page of rows of a span.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ScanPage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) start: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) end: Bytes,
    #[prost(bool, tag = "3")]
    pub(crate) reverse: bool,
    #[prost(fixed64, tag = "4")]
    pub(crate) ts: u64,
    #[prost(uint32, tag = "5")]
    pub(crate) rows_max: u32,
    /// As in [`Read`].
    #[prost(bool, tag = "6")]
    pub(crate) partial: bool,
}

/// How long a request may wait for a lock.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Patience {
    #[prost(uint32, tag = "1")]
    pub(crate) policy: u32,
    /// Milliseconds; 0 = for ever.
    #[prost(uint64, tag = "2")]
    pub(crate) timeout_ms: u64,
    /// The session's database, for deadlock reports.
    #[prost(uint32, tag = "3")]
    pub(crate) database: u32,
    /// When the transaction began.
    #[prost(fixed64, tag = "4")]
    pub(crate) began: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct LockRow {
    #[prost(message, required, tag = "1")]
    pub(crate) who: Who,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) key: Bytes,
    #[prost(uint32, tag = "3")]
    pub(crate) strength: u32,
    #[prost(message, required, tag = "4")]
    pub(crate) patience: Patience,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Unlock {
    #[prost(message, required, tag = "1")]
    pub(crate) who: Who,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) key: Bytes,
    /// The modes that stay.
    #[prost(uint32, tag = "3")]
    pub(crate) remains: u32,
    /// Or a run, by its number.
    #[prost(uint64, optional, tag = "4")]
    pub(crate) run: Option<u64>,
}

/// New rows in bulk, kept by the leaseholder until the commit.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct SendRun {
    #[prost(message, required, tag = "1")]
    pub(crate) who: Who,
    #[prost(uint64, tag = "2")]
    pub(crate) number: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) bytes: Bytes,
    /// Its keys are to be locked, and looked up.
    #[prost(bool, tag = "4")]
    pub(crate) claim: bool,
    /// Versions above this make the claim fail; 0 = none do.
    #[prost(fixed64, tag = "5")]
    pub(crate) snapshot: u64,
    #[prost(message, required, tag = "6")]
    pub(crate) patience: Patience,
    /// Keys that the transaction has deleted: they are free for itself.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(crate) deleted: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Put {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    /// Absent: a deletion.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) row: Option<Bytes>,
    /// The version that it was derived from, seen under the lock. Absent: not locked yet.
    #[prost(fixed64, optional, tag = "3")]
    pub(crate) expect: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WireSpan {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) start: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) end: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Commit {
    #[prost(message, required, tag = "1")]
    pub(crate) who: Who,
    #[prost(uint32, tag = "2")]
    pub(crate) isolation: u32,
    #[prost(fixed64, tag = "3")]
    pub(crate) read_ts: u64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) puts: Vec<Put>,
    /// Numbers of runs that were sent before.
    #[prost(uint64, repeated, tag = "5")]
    pub(crate) runs: Vec<u64>,
    /// What was read (SERIALIZABLE).
    #[prost(message, repeated, tag = "6")]
    pub(crate) reads: Vec<WireSpan>,
    #[prost(message, required, tag = "7")]
    pub(crate) patience: Patience,
    /// Keys that are locked but not written: verified if their locks are gone.
    #[prost(message, repeated, tag = "9")]
    pub(crate) verify: Vec<WireVerify>,
    #[prost(message, required, tag = "10")]
    pub(crate) name: Name,
    /// Where its strong table locks are held, if it has any.
    #[prost(message, optional, tag = "13")]
    pub(crate) fenced: Option<WireFenced>,
    /// A key of the range that it is about.
    #[prost(bytes = "bytes", tag = "12")]
    pub(crate) key: Bytes,
}

/// A key that was locked, with its version then.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WireVerify {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(uint32, tag = "2")]
    pub(crate) strength: u32,
    #[prost(fixed64, tag = "3")]
    pub(crate) seen: u64,
}

/// One try to commit, by which its outcome is asked for.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Name {
    #[prost(fixed64, tag = "1")]
    pub(crate) id: u64,
    /// The gateway's clock; the commit is later.
    #[prost(fixed64, tag = "2")]
    pub(crate) sent: u64,
    /// The commit is earlier.
    #[prost(fixed64, tag = "3")]
    pub(crate) deadline: u64,
}

/// What became of a commit?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct AskOutcome {
    #[prost(message, required, tag = "1")]
    pub(crate) name: Name,
    /// One of its keys.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) key: Bytes,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Counter {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(sint64, tag = "2")]
    pub(crate) by: i64,
    /// Sets it instead.
    #[prost(sint64, optional, tag = "3")]
    pub(crate) set: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Advisory {
    #[prost(message, required, tag = "1")]
    pub(crate) who: Who,
    #[prost(uint32, tag = "2")]
    pub(crate) classid: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) objid: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) objsubid: u32,
    #[prost(bool, tag = "5")]
    pub(crate) shared: bool,
    /// Gives it back instead.
    #[prost(bool, tag = "6")]
    pub(crate) unlock: bool,
    #[prost(message, required, tag = "7")]
    pub(crate) patience: Patience,
    /// Names this start of the session's node.
    #[prost(fixed64, tag = "8")]
    pub(crate) start: u64,
}

/// Locks a table on one node.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct LockTable {
    #[prost(message, required, tag = "1")]
    pub(crate) who: Who,
    #[prost(uint32, tag = "2")]
    pub(crate) table: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) mode: u32,
    #[prost(message, required, tag = "4")]
    pub(crate) patience: Patience,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct UnlockTable {
    #[prost(message, required, tag = "1")]
    pub(crate) who: Who,
    #[prost(uint32, tag = "2")]
    pub(crate) table: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) remains: u32,
}

/// The answer to a [`Request`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Response {
    #[prost(oneof = "Answer", tags = "1, 2, 3, 4, 5, 6, 7, 8, 30, 40, 41")]
    pub(crate) answer: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Answer {
    /// The node does not hold the lease; a node that may, or 0.
    #[prost(fixed64, tag = "1")]
    NotHere(u64),
    #[prost(message, tag = "2")]
    Failed(WireError),
    #[prost(message, tag = "3")]
    Row(RowAt),
    #[prost(message, tag = "4")]
    Rows(Rows),
    #[prost(message, tag = "5")]
    Locked(WireLocked),
    /// Done, at this time if it has one.
    #[prost(message, tag = "6")]
    Done(At),
    #[prost(sint64, tag = "7")]
    Number(i64),
    #[prost(bool, tag = "8")]
    Flag(bool),
    #[prost(message, tag = "30")]
    Part(PartReply),
    #[prost(message, tag = "40")]
    Watched(Watched),
    #[prost(message, tag = "41")]
    Fence(FenceAnswer),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RowAt {
    /// The snapshot that was read.
    #[prost(fixed64, tag = "1")]
    pub(crate) ts: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) row: Option<Bytes>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Pair {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) row: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Rows {
    #[prost(message, repeated, tag = "1")]
    pub(crate) rows: Vec<Pair>,
    #[prost(bool, tag = "2")]
    pub(crate) more: bool,
    /// Where the range that was scanned ends (or begins, in reverse), if that is inside of the span: the
    /// rest lies in another one.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) bound: Option<Bytes>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WireLocked {
    /// False: not free, and not to be waited for.
    #[prost(bool, tag = "1")]
    pub(crate) held: bool,
    /// Modes held before.
    #[prost(uint32, tag = "2")]
    pub(crate) before: u32,
    /// Was this mode held already?
    #[prost(bool, tag = "3")]
    pub(crate) reentrant: bool,
    /// The newest version; 0 = none.
    #[prost(fixed64, tag = "4")]
    pub(crate) version: u64,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(crate) row: Option<Bytes>,
    /// The term in which the lock is good.
    #[prost(uint64, tag = "6")]
    pub(crate) term: u64,
    /// The newest snapshot.
    #[prost(fixed64, tag = "7")]
    pub(crate) applied: u64,
    /// Of a run: the first row whose key is taken, counted from 1.
    #[prost(uint64, tag = "8")]
    pub(crate) taken: u64,
    /// The range that the lock belongs to.
    #[prost(uint64, tag = "9")]
    pub(crate) range: u64,
    /// Which guest of the leaseholder the transaction is: another one if it was given up meanwhile.
    #[prost(uint64, tag = "10")]
    pub(crate) guest: u64,
    /// Of a table: names the start of the node that holds it.
    #[prost(fixed64, tag = "11")]
    pub(crate) start: u64,
}

const STRENGTHS: [Strength; 4] =
    [Strength::KeyShare, Strength::Share, Strength::NoKeyUpdate, Strength::Update];
const POLICIES: [WaitPolicy; 3] = [WaitPolicy::Block, WaitPolicy::NoWait, WaitPolicy::Skip];
const LEVELS: [Isolation; 3] =
    [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable];

fn number_of<T: PartialEq>(all: &[T], one: &T) -> u32 {
    let at = all.iter().position(|other| other == one).expect("the list has all of them");
    u32::try_from(at).expect("a handful")
}

/// A word of `kv::api` as the number that travels.
pub(crate) trait Coded: Sized + Copy + 'static {
    const LIST: &'static [Self];
    fn code(self) -> u32;
    /// `None` for a number that this version doesn't know.
    fn decode(code: u32) -> Option<Self> {
        Self::LIST.get(usize::try_from(code).ok()?).copied()
    }
}

macro_rules! coded {
    ($($ty:ty: $all:expr),*) => {
        $(impl Coded for $ty {
            const LIST: &'static [$ty] = &$all;
            fn code(self) -> u32 {
                number_of(Self::LIST, &self)
            }
        })*
    };
}

coded!(Strength: STRENGTHS, WaitPolicy: POLICIES, Isolation: LEVELS, TableLockMode: TableLockMode::ALL);
