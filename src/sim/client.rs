//! A client's transaction, one step at a time.
//!
//! It does what the session and the cluster's `Txn` do around the same machines: takes locks one by
//! one, compares the newest versions with the snapshot, runs the statement again in READ COMMITTED,
//! gives up with 40001 above it, and hands its writes to the sequencer.

use std::sync::Arc;

use meridian_kv::api::{Isolation, Key, KvError, Row, Strength, Timestamp, WaitPolicy};
use meridian_kv::locks::{Acquire, Grant, ModeSet, Owner, WaiterId};
use meridian_kv::range::{CommitRequest, Newest};
use meridian_kv::run::{Run, RunBuilder};
use meridian_kv::txn::{TxnState, VersionTag, Write};

use crate::history::{Event, Outcome, TxnRecord};
use crate::node::{InEngine, Node};
use crate::script::{ACCOUNTS, Script, Statement, account_key, list_key, register_key};
use crate::world::Bug;

/// Where a transaction stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may take its next step.
    Ready,
    /// In a lock's queue.
    Waits { key: Key, waiter: WaiterId },
    /// Its commit is in flight.
    Commits { ts: Timestamp },
}

/// What a step came to.
pub(crate) enum Step {
    /// More to do.
    Goes,
    /// Over.
    Ends(Outcome),
}

/// A running transaction.
pub(crate) struct Running {
    pub(crate) txn: TxnState,
    pub(crate) record: TxnRecord,
    pub(crate) standing: Standing,
    script: Script,
    at: usize,
    /// Locks of the current statement that are still to be taken, last first; `None` = the statement
    /// has not begun.
    to_lock: Option<Vec<Key>>,
    bug: Option<Bug>,
}

pub(crate) fn number(row: Option<&Row>) -> i64 {
    row.map_or(0, |row| i64::from_le_bytes(row[..].try_into().expect("eight bytes")))
}

pub(crate) fn list(row: Option<&Row>) -> Vec<u32> {
    let bytes = row.map_or(&[][..], |row| &row[..]);
    bytes.chunks(4).map(|v| u32::from_le_bytes(v.try_into().expect("four bytes"))).collect()
}

pub(crate) fn list_row(values: &[u32]) -> Row {
    values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
}

impl Running {
    pub(crate) fn begin(
        node: &mut Node,
        owner: Owner,
        script: Script,
        now: u64,
        bug: Option<Bug>,
    ) -> Running {
        let read_ts = node.sequencer.applied();
        node.snapshots.protect(read_ts);
        let isolation = script.isolation;
        Running {
            txn: TxnState::new(owner, isolation, read_ts),
            record: TxnRecord {
                isolation,
                began: now,
                ended: None,
                events: Vec::new(),
                outcome: Outcome::Aborted,
            },
            standing: Standing::Ready,
            script,
            at: 0,
            to_lock: None,
            bug,
        }
    }

    fn new_snapshot(&mut self, node: &mut Node) {
        let before = self.txn.read_ts();
        let applied = node.sequencer.applied();
        if self.bug == Some(Bug::SnapshotPerStatement) && applied > before {
            // A repeatable transaction that moves its snapshot: rebuild the state around it.
            let owner = self.txn.owner();
            if self.txn.is_read_only() && self.txn.isolation() == Isolation::RepeatableRead {
                let mut moved = TxnState::new(owner, Isolation::RepeatableRead, applied);
                for (key, locked) in self.txn.take_locks() {
                    moved.note_lock(&key, Strength::Update, 0);
                    moved.note_newest(&key, locked.newest);
                }
                self.txn = moved;
            }
        }
        self.txn.begin_statement(applied);
        if self.txn.read_ts() != before {
            node.snapshots.protect(self.txn.read_ts());
            node.snapshots.unprotect(before);
        }
    }

    /// One step: begin a statement, take one lock, run it, or commit.
    pub(crate) fn step(
        &mut self,
        node: &mut Node,
        now: Timestamp,
        waiter: WaiterId,
        grants: &mut Vec<Grant<Key>>,
    ) -> Step {
        debug_assert_eq!(self.standing, Standing::Ready, "only the ready are scheduled");
        let Some(statement) = self.script.statements.get(self.at).cloned() else {
            return self.commit(node, now);
        };
        let Some(to_lock) = &mut self.to_lock else {
            self.new_snapshot(node);
            let mut locks = statement.locks();
            if self.bug == Some(Bug::NoLocks) {
                locks.clear();
            }
            locks.reverse();
            self.to_lock = Some(locks);
            return Step::Goes;
        };
        if let Some(key) = to_lock.pop() {
            let owner = self.txn.owner();
            let (mode, policy) = (Strength::Update, WaitPolicy::Block);
            match node.locks.acquire(&key, owner, mode, policy, waiter) {
                Acquire::Granted { before } => self.txn.note_lock(&key, mode, before),
                Acquire::Reentrant => {}
                Acquire::Queued => self.standing = Standing::Waits { key, waiter },
                Acquire::Unavailable => unreachable!("the policy is to wait"),
            }
            return Step::Goes;
        }
        match self.changed_since_snapshot(node, &statement) {
            true if self.txn.isolation() == Isolation::ReadCommitted => {
                // Statement-level retry: a new snapshot, the locks stay.
                self.new_snapshot(node);
                Step::Goes
            }
            true => Step::Ends(Outcome::Failed(KvError::CONCURRENT_UPDATE)),
            false => {
                self.run(node, &statement, grants);
                self.at += 1;
                self.to_lock = None;
                Step::Goes
            }
        }
    }

    /// The lock that this transaction waited for is its own now.
    pub(crate) fn granted(&mut self, key: &Key, before: ModeSet) {
        self.txn.note_lock(key, Strength::Update, before);
        self.standing = Standing::Ready;
    }

    fn changed_since_snapshot(&mut self, node: &Node, statement: &Statement) -> bool {
        if self.bug == Some(Bug::NoLocks) {
            return false;
        }
        let mut changed = false;
        for key in statement.locks() {
            if self.txn.own(&key).is_some() {
                continue;
            }
            let newest = InEngine(&node.engine).newest(&key).expect("memory");
            let newest = newest.map_or(Timestamp::MIN, |version| version.ts);
            self.txn.note_newest(&key, newest);
            changed |= newest > self.txn.read_ts();
        }
        changed
    }

    fn get(&mut self, node: &Node, key: &Key) -> Option<Row> {
        if let Some(own) = self.txn.own(key) {
            return own;
        }
        self.txn.note_read(key);
        if self.bug == Some(Bug::DirtyReads) {
            let queued = node.queue.iter().flat_map(|command| &command.writes);
            if let Some(write) = queued.filter(|write| write.key == *key).last() {
                return write.value.clone();
            }
        }
        node.get(key, self.txn.read_ts())
    }

    fn run(&mut self, node: &mut Node, statement: &Statement, grants: &mut Vec<Grant<Key>>) {
        match *statement {
            Statement::Append { list: l, value } => {
                self.append(node, l, value);
                self.record.events.push(Event::Append { list: l, value });
            }
            Statement::AppendAndUndo { list: l, value } => {
                let savepoint = self.txn.savepoint();
                self.append(node, l, value);
                if self.bug != Some(Bug::SavepointKeepsWrites) {
                    let owner = self.txn.owner();
                    let locks = &mut node.locks;
                    self.txn.rollback_to(savepoint, |key, remains| {
                        locks.restore(key, owner, remains, grants);
                    });
                }
                self.txn.release(savepoint);
                self.record.events.push(Event::Undone { list: l, value });
            }
            Statement::Read { list: l } => {
                let values = list(self.get(node, &list_key(l)).as_ref());
                self.record.events.push(Event::Read { list: l, values });
            }
            Statement::Write { register, value } => {
                let key = register_key(register);
                let previous = number(self.get(node, &key).as_ref());
                let previous = u32::try_from(previous).expect("values are small");
                self.put_number(key, i64::from(value));
                self.record.events.push(Event::Write { register, previous, value });
            }
            Statement::Transfer { from, to, amount } => {
                for (account, amount) in [(from, -amount), (to, amount)] {
                    let key = account_key(account);
                    let balance = number(self.get(node, &key).as_ref());
                    self.put_number(key, balance + amount);
                }
            }
            Statement::Total => {
                let accounts = (0..ACCOUNTS).map(account_key);
                let total = accounts.map(|key| number(self.get(node, &key).as_ref())).sum();
                self.record.events.push(Event::Total(total));
            }
        }
    }

    fn append(&mut self, node: &Node, l: u8, value: u32) {
        let mut values = list(self.get(node, &list_key(l)).as_ref());
        values.push(value);
        self.txn.put(list_key(l), Some(list_row(&values)));
    }

    fn put_number(&mut self, key: Key, number: i64) {
        self.txn.put(key, Some(Row::copy_from_slice(&number.to_le_bytes())));
    }

    fn commit(&mut self, node: &mut Node, now: Timestamp) -> Step {
        if self.txn.is_read_only() {
            return Step::Ends(Outcome::Committed);
        }
        let mut writes = self.txn.take_writes();
        let mut isolation = self.txn.isolation();
        if self.bug == Some(Bug::NoLocks) {
            isolation = Isolation::ReadCommitted;
            writes.iter_mut().for_each(|write| write.expect = VersionTag::Blind);
        }
        let runs = match now.0 % 3 {
            0 => bulk(&mut writes),
            _ => Vec::new(),
        };
        let validates = self.bug != Some(Bug::NoReadValidation);
        let request = CommitRequest {
            isolation,
            read_ts: self.txn.read_ts(),
            writes,
            runs,
            reads: self.txn.reads().filter(|_| validates),
            origin: None,
        };
        match node.sequencer.sequence(now, request, &InEngine(&node.engine)) {
            Err(refused) => Step::Ends(Outcome::Failed(refused.into())),
            Ok(command) => {
                self.standing = Standing::Commits { ts: command.ts };
                node.queue.push_back(command);
                match self.bug {
                    Some(Bug::AckBeforeSync) => Step::Ends(Outcome::Committed),
                    _ => Step::Goes,
                }
            }
        }
    }

    /// Gives everything back.
    pub(crate) fn leave(&mut self, node: &mut Node, grants: &mut Vec<Grant<Key>>) {
        if let Standing::Waits { key, waiter } = &self.standing {
            node.locks.cancel(key, *waiter, grants);
        }
        let owner = self.txn.owner();
        for key in self.txn.take_locks().into_keys() {
            node.locks.restore(&key, owner, 0, grants);
        }
        node.snapshots.unprotect(self.txn.read_ts());
    }
}

/// Makes a run of the rows that are new, as a bulk load would have.
fn bulk(writes: &mut Vec<Write>) -> Vec<Arc<Run>> {
    let mut builder = RunBuilder::default();
    writes.retain(|write| match (&write.value, write.expect) {
        (Some(row), VersionTag::Newest(Timestamp::MIN)) => {
            builder.push(&write.key, row);
            false
        }
        _ => true,
    });
    match builder.is_empty() {
        true => Vec::new(),
        false => vec![Arc::new(builder.build().expect("writes have different keys").0)],
    }
}
