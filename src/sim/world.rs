//! The scheduler: draws who moves next, until every client is done and all is quiet.

use std::collections::BTreeMap;

use meridian_base::Rng;
use meridian_kv::api::{Isolation, KvError, Timestamp};
use meridian_kv::deadlock::{self, Target, Verdict, Wait};
use meridian_kv::locks::{Grant, LockMode, Owner, WaiterId};

use meridian_kv::api::{Key, Row};
use meridian_kv::range::{CommitRequest, Newest};
use meridian_kv::txn::{VersionTag, Write};

use crate::client::{Running, Standing, Step, list, number};
use crate::history::{History, Outcome};
use crate::invariants::{self, Violation};
use crate::node::{InEngine, Node, below};
use crate::script::{
    ACCOUNTS, Author, LISTS, REGISTERS, START_BALANCE, account_key, list_key, register_key,
};

/// Faults that can be planted to show that an invariant notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Nothing is locked and no version tag is checked.
    NoLocks,
    /// Commits are acknowledged when they are sequenced.
    AckBeforeSync,
    /// Reads see commits that are in flight.
    DirtyReads,
    /// SERIALIZABLE doesn't look at what was read.
    NoReadValidation,
    /// REPEATABLE READ takes a new snapshot for every statement.
    SnapshotPerStatement,
    /// An entry is applied piece by piece.
    TornApply,
    /// After a crash the log is redone from the newer of the two markers.
    RedoFromTheNewerMarker,
    /// Garbage collection forgets about running transactions.
    GcIgnoresSnapshots,
    /// ROLLBACK TO keeps the writes.
    SavepointKeepsWrites,
    /// A released lock isn't handed on.
    LostWakeup,
    /// Nobody looks for deadlocks.
    NoDeadlockCheck,
}

/// What a run consists of.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Everybody's level; `None` = a mixture.
    pub isolation: Option<Isolation>,
    /// Clients at a time.
    pub clients: usize,
    /// Transactions of each.
    pub txns_per_client: usize,
    /// At most this many power failures.
    pub crashes_max: u32,
    /// A fault, in tests of the invariants.
    pub bug: Option<Bug>,
}

impl Options {
    /// A usual run; the seed decides the level, too.
    pub fn seeded(seed: u64) -> Options {
        let isolation = match seed % 4 {
            0 => Some(Isolation::ReadCommitted),
            1 => Some(Isolation::RepeatableRead),
            2 => Some(Isolation::Serializable),
            _ => None,
        };
        Options { seed, isolation, clients: 5, txns_per_client: 6, crashes_max: 2, bug: None }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What was seen.
    pub history: History,
    /// What must not have been.
    pub violations: Vec<Violation>,
}

/// Steps after which a run that isn't done counts as stuck.
const STEPS_MAX: u64 = 40_000;

struct World {
    rng: Rng,
    options: Options,
    node: Node,
    clients: Vec<Client>,
    author: Author,
    history: History,
    wall: u64,
    step: u64,
    next_txn: u64,
}

struct Client {
    session: u32,
    left: usize,
    running: Option<Running>,
}

/// Runs one seed to its end and judges it.
pub fn run(options: Options) -> Report {
    let mut world = World::new(options);
    world.fill_accounts();
    while world.busy() && world.step < STEPS_MAX {
        world.step += 1;
        world.advance();
        world.check_machines();
    }
    world.finish();
    let violations = invariants::check(&world.history);
    Report { history: world.history, violations }
}

impl World {
    fn new(options: Options) -> World {
        let clients = (0..options.clients)
            .map(|n| Client {
                session: u32::try_from(n + 1).expect("few clients"),
                left: options.txns_per_client,
                running: None,
            })
            .collect();
        World {
            rng: Rng::seeded(options.seed),
            options,
            node: Node::new(),
            clients,
            author: Author::new(options.isolation),
            history: History { money: START_BALANCE * i64::from(ACCOUNTS), ..History::default() },
            wall: 1_000,
            step: 0,
            next_txn: 1,
        }
    }

    fn fill_accounts(&mut self) {
        let value = Some(Row::copy_from_slice(&START_BALANCE.to_le_bytes()));
        let writes = (0..ACCOUNTS)
            .map(|account| Write {
                key: account_key(account),
                value: value.clone(),
                expect: VersionTag::Newest(Timestamp::MIN),
            })
            .collect();
        let isolation = Isolation::ReadCommitted;
        let (read_ts, runs) = (Timestamp::MIN, Vec::new());
        let request = CommitRequest { isolation, read_ts, writes, runs, reads: None, origin: None };
        let now = self.now();
        let command = self.node.sequencer.sequence(now, request, &InEngine(&self.node.engine));
        self.node.queue.push_back(command.expect("an empty store refuses nothing"));
        self.node.propose();
        self.node.log.synced = 1;
        self.node.apply_next(None);
    }

    fn busy(&self) -> bool {
        self.clients.iter().any(|client| client.left > 0 || client.running.is_some())
    }

    /// Wall time mostly goes forward; an operator may set it back.
    fn now(&mut self) -> Timestamp {
        match self.rng.below(50) {
            0 => self.wall = self.wall.saturating_sub(30),
            _ => self.wall += self.rng.below(3),
        }
        Timestamp(self.wall)
    }

    fn advance(&mut self) {
        match self.rng.below(100) {
            0..=59 => self.step_client(),
            60..=71 if !self.node.queue.is_empty() => self.node.propose(),
            72..=81 => self.node.log.synced = self.node.log.entries.len(),
            82..=91 if self.node.applied < self.node.log.synced => self.apply(),
            92 => self.node.checkpoint(),
            93 => {
                let keep_from = Timestamp(self.wall.saturating_sub(20));
                self.node.collect_garbage(keep_from, self.options.bug);
            }
            94..=96 => self.check_deadlock(),
            97 => self.cancel_somebody(),
            98 if self.rng.below(12) == 0 && self.history.crashes < self.options.crashes_max => {
                self.crash();
            }
            _ => {}
        }
    }

    fn step_client(&mut self) {
        let at = below(&mut self.rng, self.clients.len());
        let now = self.now();
        let client = &mut self.clients[at];
        let Some(running) = &mut client.running else {
            if client.left > 0 {
                client.left -= 1;
                let script = self.author.script(&mut self.rng);
                let owner = Owner::transaction(self.next_txn, client.session);
                self.next_txn += 1;
                let (node, bug) = (&mut self.node, self.options.bug);
                client.running = Some(Running::begin(node, owner, script, self.step, bug));
            }
            return;
        };
        if running.standing != Standing::Ready {
            return;
        }
        let mut grants = Vec::new();
        let step = running.step(&mut self.node, now, WaiterId(self.step), &mut grants);
        if let Step::Ends(outcome) = step {
            self.end(at, outcome, &mut grants);
        }
        self.hand_on(grants);
    }

    fn end(&mut self, at: usize, outcome: Outcome, grants: &mut Vec<Grant<Key>>) {
        let Some(mut running) = self.clients[at].running.take() else { return };
        running.leave(&mut self.node, grants);
        let mut record = running.record;
        record.ended = (outcome != Outcome::Unknown).then_some(self.step);
        record.outcome = outcome;
        self.history.txns.push(record);
    }

    fn hand_on(&mut self, grants: Vec<Grant<Key>>) {
        if self.options.bug == Some(Bug::LostWakeup) {
            return;
        }
        for grant in grants {
            let waits = |standing: &Standing| matches!(standing, Standing::Waits { waiter, .. } if *waiter == grant.waiter);
            for client in &mut self.clients {
                if let Some(running) = client.running.as_mut().filter(|r| waits(&r.standing)) {
                    running.granted(&grant.key, grant.before);
                }
            }
        }
    }

    fn apply(&mut self) {
        let mut grants = Vec::new();
        for ts in self.node.apply_next(self.options.bug) {
            let commits = |client: &Client| {
                let standing = client.running.as_ref().map(|running| &running.standing);
                standing == Some(&Standing::Commits { ts })
            };
            if let Some(at) = self.clients.iter().position(commits) {
                self.end(at, Outcome::Committed, &mut grants);
            }
        }
        self.hand_on(grants);
    }

    fn waiting(&self) -> Vec<usize> {
        let waits = |client: &Client| {
            let standing = client.running.as_ref().map(|running| &running.standing);
            matches!(standing, Some(Standing::Waits { .. }))
        };
        (0..self.clients.len()).filter(|at| waits(&self.clients[*at])).collect()
    }

    fn check_deadlock(&mut self) {
        let waiting = self.waiting();
        if waiting.is_empty() || self.options.bug == Some(Bug::NoDeadlockCheck) {
            return;
        }
        let at = waiting[below(&mut self.rng, waiting.len())];
        let mut waits = Vec::new();
        self.node.locks.for_each_wait(|_, queued, blockers| {
            let (waiter, owner, target) = (queued.waiter, queued.owner, Target::Row);
            let blockers = blockers.to_vec();
            waits.push(Wait { waiter, owner, target, mode: queued.mode.name(), blockers });
        });
        let mut grants = Vec::new();
        match deadlock::check(&waits, u64::from(self.clients[at].session)) {
            Verdict::Wait => {}
            Verdict::Promote(waiter) => {
                let mut place = None;
                self.node.locks.for_each_wait(|key, queued, _| {
                    if queued.waiter == waiter {
                        place = Some(key.clone());
                    }
                });
                let key = place.expect("the verdict names somebody who waits");
                self.node.locks.promote(&key, waiter, &mut grants);
            }
            Verdict::Deadlock { detail } => {
                let outcome = Outcome::Failed(KvError::Deadlock { detail });
                self.end(at, outcome, &mut grants);
            }
        }
        self.hand_on(grants);
    }

    fn cancel_somebody(&mut self) {
        let waiting = self.waiting();
        // A cancel would cure the deadlock that the planted bug leaves.
        let planted = self.options.bug == Some(Bug::NoDeadlockCheck);
        if waiting.is_empty() || self.rng.below(8) > 0 || planted {
            return;
        }
        let at = waiting[below(&mut self.rng, waiting.len())];
        let mut grants = Vec::new();
        self.end(at, Outcome::Failed(KvError::Cancelled), &mut grants);
        self.hand_on(grants);
    }

    fn crash(&mut self) {
        self.history.crashes += 1;
        for client in &mut self.clients {
            let Some(running) = client.running.take() else { continue };
            let mut record = running.record;
            record.outcome = match running.standing {
                Standing::Commits { .. } => Outcome::Unknown,
                Standing::Ready | Standing::Waits { .. } => Outcome::Aborted,
            };
            record.ended = (record.outcome == Outcome::Aborted).then_some(self.step);
            self.history.txns.push(record);
        }
        self.node = self.node.crash(&mut self.rng, self.options.bug);
    }

    fn check_machines(&mut self) {
        let locks = self.node.locks.check();
        for error in [locks, self.node.sequencer.check()].into_iter().filter_map(Result::err) {
            self.history.broken_machines.push(format!("step {}: {error}", self.step));
        }
    }

    /// Lets everything in flight land and reads the final state.
    fn finish(&mut self) {
        for client in &mut self.clients {
            if let Some(running) = client.running.take() {
                let what = format!("session {} {:?}", client.session, running.standing);
                self.history.stuck.push(what);
                self.history.txns.push(running.record);
            }
        }
        if !self.node.queue.is_empty() {
            self.node.propose();
        }
        self.node.log.synced = self.node.log.entries.len();
        while self.node.applied < self.node.log.synced {
            self.node.apply_next(None);
        }
        if self.history.stuck.is_empty() && !self.node.locks.is_empty() {
            self.history.stuck.push("locks are held by nobody".into());
        }
        let newest = |key: &[u8]| {
            let version = InEngine(&self.node.engine).newest(key).expect("memory");
            version.and_then(|version| version.row)
        };
        self.history.lists = (0..LISTS).map(|l| (l, list(newest(&list_key(l)).as_ref()))).collect();
        let registers: BTreeMap<u8, u32> = (0..REGISTERS)
            .map(|r| {
                let value = number(newest(&register_key(r)).as_ref());
                (r, u32::try_from(value).expect("values are small"))
            })
            .collect();
        self.history.registers = registers;
        let balances = (0..ACCOUNTS).map(|a| number(newest(&account_key(a)).as_ref()));
        self.history.money_at_end = balances.sum();
    }
}
