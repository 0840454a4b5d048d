//! The machines that a script drives, wired together as the shell does it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use meridian_storage::engine::{Engine, WriteBatch};
use meridian_storage::{MemEngine, mvcc};

use super::command::Command;
use crate::api::{
    Isolation, Key, KvError, Row, Span, Strength, TableLockMode, Timestamp, WaitPolicy,
};
use crate::deadlock::{self, Target, Verdict, Wait};
use crate::locks::{Acquire, AdvisoryMode, Grant, LockMode, LockTable, ModeSet, Owner, WaiterId};
use crate::range::{self, CommitRequest, Newest, Sequencer, Version};
use crate::txn::{SavepointId, TxnState};

struct InEngine(MemEngine);

impl Newest for InEngine {
    fn newest(&self, key: &[u8]) -> Result<Option<Version>, KvError> {
        Ok(mvcc::newest(&self.0, key).expect("memory"))
    }
}

struct Txn {
    state: TxnState,
    savepoints: BTreeMap<String, SavepointId>,
    tables: Vec<(u32, ModeSet)>,
}

struct Flight {
    name: String,
    command: range::Command,
}

pub(super) struct World {
    engine: InEngine,
    rows: LockTable<Key, Strength>,
    tables: LockTable<u32, TableLockMode>,
    advisory: LockTable<u32, AdvisoryMode>,
    sequencer: Sequencer,
    txns: BTreeMap<String, Txn>,
    flights: VecDeque<Flight>,
    names: BTreeMap<u64, String>,
    next_waiter: u64,
    out: String,
}

impl Default for World {
    fn default() -> World {
        World {
            engine: InEngine(MemEngine::new()),
            rows: LockTable::default(),
            tables: LockTable::default(),
            advisory: LockTable::default(),
            sequencer: Sequencer::new(Timestamp(10), 100),
            txns: BTreeMap::new(),
            flights: VecDeque::new(),
            names: BTreeMap::new(),
            next_waiter: 0,
            out: String::new(),
        }
    }
}

fn key(text: &str) -> Key {
    Key::copy_from_slice(text.as_bytes())
}

fn show(row: Option<&Row>) -> String {
    row.map_or("nothing".into(), |row| String::from_utf8_lossy(row).into_owned())
}

fn mode_names<M: LockMode>(modes: ModeSet) -> String {
    let held = M::all().iter().filter(|mode| modes & mode.bit() != 0);
    held.map(|mode| mode.name()).collect::<Vec<_>>().join("+")
}

impl World {
    pub(super) fn take_output(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.rows.check()?;
        self.tables.check()?;
        self.advisory.check()?;
        self.sequencer.check()
    }

    fn say(&mut self, line: impl AsRef<str>) {
        writeln!(self.out, "{}", line.as_ref()).expect("a String takes all");
    }

    fn txn(&mut self, name: &str) -> &mut Txn {
        self.txns.get_mut(name).unwrap_or_else(|| panic!("no transaction {name}"))
    }

    pub(super) fn run(&mut self, command: Command) {
        match command {
            Command::Begin(name, isolation) => self.begin(name, isolation),
            Command::Statement(name) => {
                let applied = self.sequencer.applied();
                self.txn(&name).state.begin_statement(applied);
                let read_ts = self.txn(&name).state.read_ts().0;
                self.say(format!("{name} reads at {read_ts}"));
            }
            Command::Lock(name, row, strength, wait) => self.lock(&name, &row, strength, wait),
            Command::Table(name, table, mode, wait) => self.table(&name, table, mode, wait),
            Command::Advisory(name, id, mode, wait) => self.advisory(&name, id, mode, wait),
            Command::Get(name, row) => self.get(&name, &row),
            Command::Scan(name, from, to) => {
                self.txn(&name).state.note_scan(&Span::new(from, to));
            }
            Command::Put(name, row, value) => {
                self.txn(&name).state.put(key(&row), Some(Row::from(value)));
            }
            Command::Delete(name, row) => self.txn(&name).state.put(key(&row), None),
            Command::Savepoint(name, savepoint) => {
                let txn = self.txn(&name);
                let id = txn.state.savepoint();
                txn.savepoints.insert(savepoint, id);
            }
            Command::RollbackTo(name, savepoint) => self.rollback_to(&name, &savepoint),
            Command::Release(name, savepoint) => {
                let txn = self.txn(&name);
                let id = txn.savepoints.remove(&savepoint).expect("a savepoint of this name");
                assert!(txn.state.release(id));
            }
            Command::Commit(name) => self.commit(&name),
            Command::Apply => self.apply(),
            Command::Lose => self.lose(),
            Command::Rollback(name) => self.end(&name),
            Command::Cancel(name) => self.cancel(&name),
            Command::CheckDeadlock(name) => self.check_deadlock(&name),
            Command::Locks => self.show_locks(),
        }
    }

    fn begin(&mut self, name: String, isolation: Isolation) {
        let id = self.names.len() as u64 + 1;
        let process = u32::try_from(id * 100).expect("few transactions");
        let owner = Owner::transaction(id, process);
        let state = TxnState::new(owner, isolation, self.sequencer.applied());
        self.names.insert(id, name.clone());
        self.txns.insert(name, Txn { state, savepoints: BTreeMap::new(), tables: Vec::new() });
    }

    fn waiter(&mut self) -> WaiterId {
        self.next_waiter += 1;
        WaiterId(self.next_waiter)
    }

    fn answer(&mut self, name: &str, answer: Acquire, wait: WaitPolicy) {
        let text = match (answer, wait) {
            (Acquire::Granted { .. } | Acquire::Reentrant, _) => "has it",
            (Acquire::Queued, _) => "waits",
            (Acquire::Unavailable, WaitPolicy::Skip) => "skips it",
            (Acquire::Unavailable, _) => "gets 55P03",
        };
        self.say(format!("{name} {text}"));
    }

    fn lock(&mut self, name: &str, row: &str, strength: Strength, wait: WaitPolicy) {
        let (owner, row, waiter) = (self.txn(name).state.owner(), key(row), self.waiter());
        let answer = self.rows.acquire(&row, owner, strength, wait, waiter);
        self.answer(name, answer, wait);
        match answer {
            Acquire::Granted { before } => self.locked(name, &row, strength, before),
            Acquire::Reentrant => self.read_locked(name, &row),
            Acquire::Queued | Acquire::Unavailable => {}
        }
    }

    fn locked(&mut self, name: &str, row: &Key, strength: Strength, before: ModeSet) {
        self.txn(name).state.note_lock(row, strength, before);
        self.read_locked(name, row);
    }

    /// Compares the newest version with the snapshot, as statements do once they have a lock.
    fn read_locked(&mut self, name: &str, row: &Key) {
        let newest = self.engine.newest(row).expect("memory").map_or(Timestamp::MIN, |v| v.ts);
        let state = &mut self.txn(name).state;
        state.note_newest(row, newest);
        if newest > state.read_ts() {
            let what = match state.conflicts_with(newest) {
                true => KvError::CONCURRENT_UPDATE.to_string(),
                false => "statement runs again".into(),
            };
            self.say(format!("{name} sees a newer version: {what}"));
        }
    }

    fn table(&mut self, name: &str, table: u32, mode: TableLockMode, wait: WaitPolicy) {
        let (owner, waiter) = (self.txn(name).state.owner(), self.waiter());
        let answer = self.tables.acquire(&table, owner, mode, wait, waiter);
        self.answer(name, answer, wait);
        if let Acquire::Granted { before } = answer {
            self.txn(name).tables.push((table, before));
        }
    }

    fn advisory(&mut self, name: &str, id: u32, mode: AdvisoryMode, wait: WaitPolicy) {
        let owner = self.txn(name).state.owner().session_level();
        let waiter = self.waiter();
        let answer = self.advisory.acquire(&id, owner, mode, wait, waiter);
        self.answer(name, answer, wait);
    }

    fn get(&mut self, name: &str, row: &str) {
        let state = &mut self.txn(name).state;
        let own = state.own(row.as_bytes());
        let read_ts = state.read_ts();
        if own.is_none() {
            state.note_read(row.as_bytes());
        }
        let value = own
            .unwrap_or_else(|| mvcc::get(&self.engine.0, row.as_bytes(), read_ts).expect("memory"));
        self.say(format!("{row} = {}", show(value.as_ref())));
    }

    fn rollback_to(&mut self, name: &str, savepoint: &str) {
        let mut grants = Vec::new();
        let txn = self.txns.get_mut(name).expect("a transaction of this name");
        let (id, owner) = (txn.savepoints[savepoint], txn.state.owner());
        let rows = &mut self.rows;
        txn.state.rollback_to(id, |row, remains| rows.restore(row, owner, remains, &mut grants));
        self.hand_on(grants);
    }

    fn commit(&mut self, name: &str) {
        let txn = self.txns.get_mut(name).expect("a transaction of this name");
        if txn.state.is_read_only() {
            self.say(format!("{name} committed without a write"));
            return self.end(name);
        }
        let writes = txn.state.take_writes();
        let request = CommitRequest {
            isolation: txn.state.isolation(),
            read_ts: txn.state.read_ts(),
            writes,
            runs: Vec::new(),
            reads: txn.state.reads(),
            origin: None,
        };
        match self.sequencer.sequence(Timestamp(1), request, &self.engine) {
            Ok(command) => {
                self.say(format!("{name} commits at {}", command.ts.0));
                self.flights.push_back(Flight { name: name.to_owned(), command });
            }
            Err(refused) => {
                let error = KvError::from(refused);
                self.say(format!("{name} gets {}: {error}", error.sqlstate()));
                self.end(name);
            }
        }
    }

    fn apply(&mut self) {
        let Flight { name, command } = self.flights.pop_front().expect("a commit in flight");
        let mut batch = WriteBatch::default();
        command.ops(&mut batch.ops);
        self.engine.0.apply(batch).expect("memory");
        self.sequencer.applied_to(command.ts);
        self.say(format!("{name} has committed"));
        self.end(&name);
    }

    fn lose(&mut self) {
        let Flight { name, command } = self.flights.pop_back().expect("a commit in flight");
        self.sequencer.abandon(command.ts);
        self.say(format!("{name} was never logged"));
        self.end(&name);
    }

    fn end(&mut self, name: &str) {
        self.cancel(name);
        let mut txn = self.txns.remove(name).expect("a transaction of this name");
        let (owner, mut grants, mut table_grants) = (txn.state.owner(), Vec::new(), Vec::new());
        for row in txn.state.take_locks().into_keys() {
            self.rows.restore(&row, owner, 0, &mut grants);
        }
        for (table, before) in txn.tables.into_iter().rev() {
            self.tables.restore(&table, owner, before, &mut table_grants);
        }
        self.hand_on(grants);
        for grant in table_grants {
            let name = self.names[&grant.owner.id].clone();
            self.say(format!("{name} has table {}", grant.key));
            self.txn(&name).tables.push((grant.key, grant.before));
        }
    }

    fn hand_on(&mut self, grants: Vec<Grant<Key>>) {
        for Grant { owner, key, before, .. } in grants {
            let name = self.names[&owner.id].clone();
            self.say(format!("{name} has {}", show(Some(&key))));
            let held = self.rows.held_by(&key, owner);
            let strongest = Strength::all().iter().rev().find(|mode| held & mode.bit() != 0);
            let strength = *strongest.expect("a grant gives a mode");
            self.locked(&name, &key, strength, before);
        }
    }

    fn cancel(&mut self, name: &str) {
        let owner = self.txn(name).state.owner();
        let (mut place, mut table) = (None, None);
        self.rows.for_each_wait(|key, queued, _| {
            if queued.owner == owner {
                place = Some((key.clone(), queued.waiter));
            }
        });
        self.tables.for_each_wait(|key, queued, _| {
            if queued.owner == owner {
                table = Some((*key, queued.waiter));
            }
        });
        let (mut grants, mut table_grants) = (Vec::new(), Vec::new());
        if let Some((key, waiter)) = place {
            self.rows.cancel(&key, waiter, &mut grants);
        }
        if let Some((key, waiter)) = table {
            self.tables.cancel(&key, waiter, &mut table_grants);
            for grant in table_grants {
                let name = self.names[&grant.owner.id].clone();
                self.say(format!("{name} has table {}", grant.key));
                self.txn(&name).tables.push((grant.key, grant.before));
            }
        }
        self.hand_on(grants);
    }

    fn check_deadlock(&mut self, name: &str) {
        let mut waits = Vec::new();
        collect(&self.rows, |_| Target::Row, &mut waits);
        let relation = |table: &u32| Target::Relation { database: 5, relation: *table };
        collect(&self.tables, relation, &mut waits);
        collect(&self.advisory, |id| Target::Advisory { key: [5, 0, *id, 1] }, &mut waits);
        match deadlock::check(&waits, self.txn(name).state.owner().session) {
            Verdict::Wait => self.say(format!("{name} waits on")),
            Verdict::Deadlock { detail } => self.say(format!("{name} gets 40P01\n{detail}")),
            Verdict::Promote(waiter) => {
                let mut place = None;
                self.rows.for_each_wait(|key, queued, _| {
                    if queued.waiter == waiter {
                        place = Some(key.clone());
                    }
                });
                let mut grants = Vec::new();
                self.rows.promote(&place.expect("a row"), waiter, &mut grants);
                self.hand_on(grants);
            }
        }
    }

    fn show_locks(&mut self) {
        let mut lines = Vec::new();
        show_table(&self.rows, |key| show(Some(key)), &self.names, &mut lines);
        show_table(&self.tables, |table| format!("table {table}"), &self.names, &mut lines);
        if lines.is_empty() {
            lines.push("no locks".into());
        }
        lines.into_iter().for_each(|line| self.say(line));
    }
}

fn collect<K: Ord + Clone, M: LockMode>(
    table: &LockTable<K, M>,
    target: impl Fn(&K) -> Target,
    waits: &mut Vec<Wait>,
) {
    table.for_each_wait(|key, queued, blockers| {
        waits.push(Wait {
            waiter: queued.waiter,
            owner: queued.owner,
            target: target(key),
            mode: queued.mode.name(),
            blockers: blockers.to_vec(),
        });
    });
}

fn show_table<K: Ord + Clone, M: LockMode>(
    table: &LockTable<K, M>,
    what: impl Fn(&K) -> String,
    names: &BTreeMap<u64, String>,
    lines: &mut Vec<String>,
) {
    for (key, holders, queue) in table.entries() {
        let mut line = format!("{}:", what(key));
        for held in holders {
            write!(line, " {}={}", names[&held.owner.id], mode_names::<M>(held.modes)).unwrap();
        }
        for queued in queue {
            write!(line, " {}?{}", names[&queued.owner.id], queued.mode.name()).unwrap();
        }
        lines.push(line);
    }
}
