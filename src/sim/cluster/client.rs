//! A client's transaction at its gateway, one step at a time: snapshot, locks, reads, commit.

use std::collections::BTreeMap;

use meridian_kv::api::{
    Isolation, Key, KvError, Row, Span, Strength, Timestamp, TxnId, WaitPolicy,
};
use meridian_kv::commit::plan;
use meridian_kv::locks::{Acquire, WaiterId};
use meridian_kv::range::{Newest, Snapshot, Target};
use meridian_kv::txn::{ReadSet, TxnState};
use meridian_storage::mvcc;

use super::Bug;
use super::holds::{Left, lock_of};
use super::range::owner_of;
use super::world::World;
use crate::client::{list, list_row, number};
use crate::history::{Event, Outcome, TxnRecord};
use crate::node::{InEngine, below};
use crate::script::{ACCOUNTS, Script, Statement, account_key, list_key};

/// Where a transaction stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Ready,
    /// In a lock's queue.
    Waits {
        key: Key,
        waiter: WaiterId,
    },
    /// Its coordinator has it.
    Commits,
}

/// What the current statement does next.
#[derive(Clone, Debug)]
enum Stage {
    /// It needs a snapshot.
    Begins,
    /// It has asked some nodes for their clocks.
    Asks { left: Vec<usize>, max: Timestamp },
    /// It waits for these records of the range of this key.
    Awaits { key: Key, records: Vec<TxnId> },
    /// It takes its locks, last first.
    Locks(Vec<Key>),
    /// It reads.
    Reads,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) gateway: usize,
    pub(super) left: usize,
    pub(super) running: Option<Running>,
}

/// A running transaction.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: TxnId,
    pub(super) record: TxnRecord,
    pub(super) standing: Standing,
    script: Script,
    txn: Option<TxnState>,
    at: usize,
    stage: Stage,
    values: BTreeMap<Key, Option<Row>>,
    /// When it began to choose its snapshot: it must see what was acknowledged before.
    chosen: u64,
}

/// What a step came to.
pub(super) enum Step {
    Goes,
    Ends(Outcome),
}

impl Running {
    pub(super) fn new(id: TxnId, script: Script, now: u64) -> Running {
        let isolation = script.isolation;
        let (events, outcome) = (Vec::new(), Outcome::Aborted);
        let record = TxnRecord { isolation, began: now, ended: None, events, outcome };
        let (txn, at, stage, values) = (None, 0, Stage::Begins, BTreeMap::new());
        Running {
            id,
            record,
            standing: Standing::Ready,
            script,
            txn,
            at,
            stage,
            values,
            chosen: now,
        }
    }

    fn state(&mut self) -> &mut TxnState {
        self.txn.as_mut().expect("a statement runs after its snapshot was chosen")
    }

    /// The lock that it waited for is its own.
    pub(super) fn granted(&mut self, key: &Key) {
        self.state().note_lock(key, Strength::Update, 0);
        self.standing = Standing::Ready;
    }

    /// The snapshot has been chosen.
    fn reads_at(&mut self, r: Timestamp) {
        let (owner, isolation) = (owner_of(self.id), self.script.isolation);
        self.txn.get_or_insert_with(|| TxnState::new(owner, isolation, r)).begin_statement(r);
        self.takes_locks();
    }

    fn takes_locks(&mut self) {
        let mut locks = self.script.statements[self.at].locks();
        locks.reverse();
        self.values.clear();
        self.stage = Stage::Locks(locks);
    }
}

/// All keys that a statement reads.
fn keys(statement: &Statement) -> Vec<Key> {
    match statement {
        Statement::Read { list } => vec![list_key(*list)],
        Statement::Total => (0..ACCOUNTS).map(account_key).collect(),
        _ => statement.locks(),
    }
}

impl World {
    /// One step of a transaction.
    pub(super) fn run_client(&mut self, gateway: usize, running: &mut Running) -> Step {
        let Some(statement) = running.script.statements.get(running.at).cloned() else {
            return self.begin_commit(gateway, running);
        };
        match running.stage.clone() {
            Stage::Begins => self.choose_snapshot(running),
            Stage::Asks { left, max } => self.ask_clock(gateway, running, left, max),
            Stage::Awaits { key, records } => {
                if let Some(leader) = &self.range_of(&key).leader
                    && !records.iter().any(|txn| leader.seq.is_open(*txn))
                {
                    running.reads_at(leader.seq.applied());
                }
            }
            Stage::Locks(locks) => self.take_lock(running, locks),
            Stage::Reads => {
                if self.changed_since_snapshot(running, &statement) {
                    if running.record.isolation != Isolation::ReadCommitted {
                        return Step::Ends(Outcome::Failed(KvError::CONCURRENT_UPDATE));
                    }
                    // Statement-level retry: a new snapshot, the locks stay.
                    running.stage = Stage::Begins;
                } else if self.fetch(running, &statement) {
                    self.run_statement(running, &statement);
                    running.at += 1;
                    running.stage = Stage::Begins;
                }
            }
        }
        Step::Goes
    }

    fn choose_snapshot(&mut self, running: &mut Running) {
        let each_statement = running.script.isolation == Isolation::ReadCommitted;
        if running.txn.is_some() && !each_statement {
            return running.takes_locks();
        }
        running.chosen = self.step;
        let statements = match each_statement {
            true => &running.script.statements[running.at..=running.at],
            false => &running.script.statements[..],
        };
        let keys: Vec<Key> = statements.iter().flat_map(keys).collect();
        let range = self.range_index(&keys[0]);
        let one_range = keys.iter().all(|key| self.range_index(key) == range);
        if !one_range || self.rng.below(3) == 0 {
            let left = (0..self.nodes.len()).collect();
            running.stage = Stage::Asks { left, max: Timestamp::MIN };
            return;
        }
        let scope = (each_statement && keys.len() == 1).then(|| Span::point(&keys[0]));
        let Some(leader) = &self.ranges[range].leader else { return };
        match leader.seq.snapshot(scope.as_ref()) {
            Snapshot::At(r) => running.reads_at(r),
            Snapshot::Await(_) if self.options.bug == Some(Bug::SnapshotIgnoresRecords) => {
                running.reads_at(leader.seq.applied());
            }
            Snapshot::Await(records) => {
                self.figures.waits += 1;
                let records = records.to_vec();
                running.stage = Stage::Awaits { key: keys[0].clone(), records };
            }
        }
    }

    /// One node's clock more.
    fn ask_clock(
        &mut self,
        gateway: usize,
        running: &mut Running,
        mut left: Vec<usize>,
        max: Timestamp,
    ) {
        let own = self.nodes[gateway].now(self.wall);
        if self.options.bug == Some(Bug::SnapshotOfOwnClock) {
            return running.reads_at(own);
        }
        let at = below(&mut self.rng, left.len());
        let node = &mut self.nodes[left[at]];
        let reading = match node.alive {
            true => node.now(self.wall),
            // It doesn't answer: until its support has ended it may still be at work.
            false if own < node.support_end => return,
            false => node.support_end,
        };
        left.swap_remove(at);
        let max = max.max(reading);
        if left.is_empty() {
            self.nodes[gateway].hears(max);
            running.reads_at(max);
        } else {
            running.stage = Stage::Asks { left, max };
        }
    }

    fn take_lock(&mut self, running: &mut Running, mut locks: Vec<Key>) {
        let Some(key) = locks.last().cloned() else {
            running.stage = Stage::Reads;
            return;
        };
        let waiter = self.next_waiter();
        if running.state().locked(&key).is_none() {
            let owner = owner_of(running.id);
            let range = self.range_index(&key);
            let Some(leader) = &mut self.ranges[range].leader else { return };
            match leader.locks.acquire(&key, owner, Strength::Update, WaitPolicy::Block, waiter) {
                Acquire::Granted { before } => {
                    running.state().note_lock(&key, Strength::Update, before);
                }
                Acquire::Reentrant => running.state().note_lock(&key, Strength::Update, 0),
                Acquire::Queued => {
                    running.standing = Standing::Waits { key, waiter };
                    return;
                }
                Acquire::Unavailable => unreachable!("the policy is to wait"),
            }
        }
        locks.pop();
        running.stage = Stage::Locks(locks);
    }

    fn changed_since_snapshot(&self, running: &mut Running, statement: &Statement) -> bool {
        let mut changed = false;
        for key in statement.locks() {
            let state = running.state();
            if state.own(&key).is_some() {
                continue;
            }
            let newest = InEngine(&self.engine).newest(&key).expect("memory");
            let newest = newest.map_or(Timestamp::MIN, |version| version.ts);
            if newest >= state.locked(&key).map_or(Timestamp::MIN, |locked| locked.newest) {
                state.note_newest(&key, newest);
            }
            changed |= newest > state.read_ts();
        }
        changed
    }

    /// Reads one key more; true when there are none left.
    fn fetch(&mut self, running: &mut Running, statement: &Statement) -> bool {
        let mut keys = keys(statement).into_iter();
        let Some(key) = keys
            .find(|key| !running.values.contains_key(key) && running.state().own(key).is_none())
        else {
            return true;
        };
        let r = running.state().read_ts();
        let (bug, index) = (self.options.bug, self.range_index(&key));
        let Some(leader) = &self.ranges[index].leader else { return false };
        if bug != Some(Bug::NoFloor) {
            self.nodes[leader.node].hears(r);
        }
        self.renew_lease(index);
        let leader = self.ranges[index].leader.as_mut().expect("it was there");
        if bug != Some(Bug::NoFloor) && leader.seq.read_at(r).is_err() {
            return false;
        }
        let point = Span::point(&key);
        let target = match self.step % 2 {
            0 => Target::Key(&key),
            _ => Target::Span(&point),
        };
        let mut blockers = leader.seq.blockers(target, r);
        if bug == Some(Bug::ReadersIgnoreRecords) {
            blockers.records.clear();
        }
        if !blockers.is_empty() {
            self.figures.waits += 1;
            return false;
        }
        let value = mvcc::get(&self.engine, &key, r).expect("memory");
        running.values.insert(key, value);
        false
    }

    fn run_statement(&mut self, running: &mut Running, statement: &Statement) {
        match *statement {
            Statement::Append { list: l, value } => {
                self.append(running, l, value);
                running.record.events.push(Event::Append { list: l, value });
            }
            Statement::AppendAndUndo { list: l, value } => {
                let savepoint = running.state().savepoint();
                self.append(running, l, value);
                running.state().rollback_to(savepoint, |_, _| {});
                running.state().release(savepoint);
                running.record.events.push(Event::Undone { list: l, value });
            }
            Statement::Read { list: l } => {
                let values = self.read_list(running, l);
                running.record.events.push(Event::Read { list: l, values });
            }
            Statement::Write { register, value } => {
                let key = statement.locks().remove(0);
                let previous = number(self.read(running, &key).as_ref());
                let previous = u32::try_from(previous).expect("values are small");
                put_number(running, key, i64::from(value));
                running.record.events.push(Event::Write { register, previous, value });
            }
            Statement::Transfer { from, to, amount } => {
                for (account, amount) in [(from, -amount), (to, amount)] {
                    let key = account_key(account);
                    let balance = number(self.read(running, &key).as_ref());
                    put_number(running, key, balance + amount);
                }
            }
            Statement::Total => {
                let keys = keys(statement);
                let total = keys.iter().map(|key| number(self.read(running, key).as_ref())).sum();
                running.record.events.push(Event::Total(total));
            }
        }
    }

    fn read(&self, running: &mut Running, key: &Key) -> Option<Row> {
        if let Some(own) = running.state().own(key) {
            return own;
        }
        running.state().note_read(key);
        running.values.get(key).cloned().flatten()
    }

    /// Reads a list, which must have all that was acknowledged before the snapshot was chosen.
    fn read_list(&mut self, running: &mut Running, l: u8) -> Vec<u32> {
        let values = list(self.read(running, &list_key(l)).as_ref());
        if running.state().own(&list_key(l)).is_some() {
            // Its own list: what it was made of was current then, and the commit will see whether it is.
            return values;
        }
        let r = running.state().read_ts().0;
        let acknowledged = |(step, of, _): &&(u64, u8, u32)| *of == l && *step < running.chosen;
        for (step, _, value) in self.acknowledged.iter().filter(acknowledged) {
            if !values.contains(value) {
                let (who, chosen) = (running.id, running.chosen);
                let what = format!(
                    "{who} chose its snapshot {r:?} at step {chosen} and read {values:?} of list {l} \
                     without {value}, acknowledged at step {step}"
                );
                self.history.stale_reads.push(what);
            }
        }
        values
    }

    fn append(&mut self, running: &mut Running, l: u8, value: u32) {
        let mut values = self.read_list(running, l);
        values.push(value);
        running.state().put(list_key(l), Some(list_row(&values)));
    }

    fn begin_commit(&mut self, gateway: usize, running: &mut Running) -> Step {
        let Some(txn) = running.txn.as_mut().filter(|txn| !txn.is_read_only()) else {
            return Step::Ends(Outcome::Committed);
        };
        let writes = txn.take_writes();
        let reads = txn.reads().cloned().unwrap_or_else(ReadSet::default);
        if self.rng.below(8) == 0 {
            let locks = txn.take_locks().into_iter();
            let locks = locks.map(|(key, locked)| lock_of(key, locked.newest)).collect();
            let (isolation, read_ts) = (txn.isolation(), txn.read_ts());
            running.standing = Standing::Commits;
            let left = Left { isolation, read_ts, writes, locks, reads };
            self.prepare(gateway, running.id, left);
            return Step::Goes;
        }
        let spans: Vec<Span> = self.ranges.iter().map(|range| range.span.clone()).collect();
        // What was locked and not written must not have been written by others.
        let written = |key: &Key| writes.iter().any(|write| write.key == *key);
        let locked = txn.take_locks().into_iter().filter(|(key, _)| !written(key));
        let verify = locked.map(|(key, locked)| lock_of(key, locked.newest)).collect();
        let mut parts = plan(writes, verify, &reads, &spans);
        if self.options.bug == Some(Bug::ReadsOnlyWhereWritten) {
            parts.retain(|part| !part.writes.is_empty());
        }
        let (id, isolation, read_ts) = (running.id, txn.isolation(), txn.read_ts());
        running.standing = Standing::Commits;
        self.coordinate(gateway, id, isolation, read_ts, parts);
        Step::Goes
    }
}

fn put_number(running: &mut Running, key: Key, number: i64) {
    running.state().put(key, Some(Row::copy_from_slice(&number.to_le_bytes())));
}
