//! What happens to a cluster: nodes fail, leases move, ranges split and merge, transactions deadlock.

use meridian_base::{NodeId, Span};
use meridian_kv::api::{Key, KvError, Strength, Timestamp, WaitPolicy};
use meridian_kv::deadlock::cluster::{Cycle, NodeWait, cycles};
use meridian_kv::deadlock::{Target, Verdict, Wait};
use meridian_kv::locks::{Grant, LockMode, LockTable};
use meridian_kv::range::LogEntry;

use super::Bug;
use super::client::Standing;
use super::range::{LEASE, Leader, Range};
use super::world::World;
use crate::history::Outcome;
use crate::node::below;
use crate::script::{ACCOUNTS, LISTS, REGISTERS, account_key, list_key, register_key};

/// A frozen range that doesn't get quiet is let go after so many steps.
const FROZEN_STEPS_MAX: u64 = 600;

impl World {
    /// A leader's lease reaches ahead as long as it is in touch with the others.
    pub(super) fn renew_lease(&mut self, index: usize) {
        let wall = self.wall;
        let Some(leader) = &mut self.ranges[index].leader else { return };
        let now = self.nodes[leader.node].now(wall);
        if now.0 + LEASE / 2 > leader.until.0 {
            leader.until = Timestamp(now.0 + LEASE);
            leader.seq.lease(leader.until);
        }
    }

    /// Ranges without a leader get one when the last lease is over.
    pub(super) fn elect(&mut self) {
        let (wall, bug) = (self.wall, self.options.bug);
        for index in 0..self.ranges.len() {
            if self.ranges[index].leader.is_some() {
                continue;
            }
            let node = below(&mut self.rng, self.nodes.len());
            let now = self.nodes[node].now(wall);
            if !self.nodes[node].alive || (now < self.ranges[index].vacant_until) {
                continue;
            }
            let young = self.rng.below(8) == 0;
            self.ranges[index].elect(node, now, &self.engine, young, bug);
            let leader = self.ranges[index].leader.as_ref().expect("it was elected");
            let known = leader.seq.last().max(leader.seq.floor());
            self.nodes[node].hears(known);
            self.renew_lease(index);
        }
    }

    /// The leader of a range is replaced, or hands its lease over.
    pub(super) fn move_lease(&mut self) {
        let index = below(&mut self.rng, self.ranges.len());
        let Some(leader) = &self.ranges[index].leader else { return };
        let calm = self.options.calm || self.rng.below(2) == 0;
        match leader.tail.is_empty() && leader.frozen.is_none() {
            true if calm => self.transfer(index),
            false if self.options.calm => {}
            _ => self.depose(index),
        }
        self.figures.leases += 1;
    }

    /// Locks and all go along; the new lease begins above what the old leader has done.
    fn transfer(&mut self, index: usize) {
        let to = below(&mut self.rng, self.nodes.len());
        if !self.nodes[to].alive {
            return;
        }
        let Some(old) = self.ranges[index].leader.take() else { return };
        self.ranges[index].vacant_until = old.seq.floor().max(old.seq.last()).next();
        let now = self.nodes[to].now(self.wall);
        self.ranges[index].elect(to, now, &self.engine, false, self.options.bug);
        let leader = self.ranges[index].leader.as_mut().expect("it was elected");
        leader.locks = old.locks;
        let known = leader.seq.last().max(leader.seq.floor());
        self.nodes[to].hears(known);
        self.renew_lease(index);
    }

    fn depose(&mut self, index: usize) {
        self.history.locks_lost = true;
        let survived = self.ranges[index].depose(&mut self.rng, &self.engine);
        for entry in &survived {
            self.note_landed(entry);
        }
        let span = self.ranges[index].span.clone();
        for client in &mut self.clients {
            let Some(running) = &mut client.running else { continue };
            if matches!(&running.standing, Standing::Waits { key, .. } if span.contains(key)) {
                running.standing = Standing::Ready;
            }
        }
    }

    /// A node fails: its leases, its coordinators and its clients' transactions with it.
    pub(super) fn crash(&mut self) {
        let node = below(&mut self.rng, self.nodes.len());
        if !self.nodes[node].alive || self.nodes.iter().filter(|n| n.alive).count() < 2 {
            return;
        }
        self.figures.crashes += 1;
        self.history.crashes += 1;
        let now = self.nodes[node].now(self.wall);
        self.nodes[node].alive = false;
        self.nodes[node].support_end = Timestamp(now.0 + LEASE);
        self.nodes[node].jobs.clear();
        self.followers.forget(node);
        let leads = |range: &Range| range.leader.as_ref().is_some_and(|l| l.node == node);
        for index in 0..self.ranges.len() {
            if leads(&self.ranges[index]) {
                self.figures.leases += 1;
                self.depose(index);
            }
        }
        for at in 0..self.clients.len() {
            let client = &self.clients[at];
            let Some(running) = client.running.as_ref().filter(|_| client.gateway == node) else {
                continue;
            };
            let outcome = match running.standing {
                Standing::Commits => Outcome::Unknown,
                Standing::Ready | Standing::Waits { .. } => Outcome::Aborted,
            };
            self.end(at, outcome);
        }
    }

    /// A coordinator vanishes, at whatever step it is; its client's connection with it.
    pub(super) fn lose_coordinator(&mut self) {
        let node = below(&mut self.rng, self.nodes.len());
        let jobs: Vec<u64> = self.nodes[node].jobs.keys().copied().collect();
        if jobs.is_empty() {
            return;
        }
        let id = jobs[below(&mut self.rng, jobs.len())];
        let Some(job) = self.nodes[node].jobs.remove(&id) else { return };
        self.figures.coordinators += 1;
        let waits = |at: &usize| {
            self.clients[*at].running.as_ref().is_some_and(|running| running.id == job.of_client())
        };
        if let Some(at) = job.client.filter(waits) {
            self.end(at, Outcome::Unknown);
        }
    }

    pub(super) fn restart(&mut self) {
        for node in &mut self.nodes {
            if !node.alive {
                node.alive = true;
                let end = node.support_end;
                node.hears(end);
            }
        }
    }

    /// Ranges prepare to split or merge, and do it when they are quiet.
    pub(super) fn reshape(&mut self) {
        let index = below(&mut self.rng, self.ranges.len());
        let (step, heads) = (self.step, self.rng.below(3) == 0);
        let Some(leader) = &mut self.ranges[index].leader else { return };
        match leader.frozen {
            None if heads && !self.net.healed => {
                leader.frozen = Some(step);
                leader.seq.freeze(true);
            }
            None => {}
            Some(since) if step > since + FROZEN_STEPS_MAX || self.net.healed => leader.thaw(),
            Some(_) if !leader.is_quiet() => {}
            Some(_) if heads => self.merge(index),
            Some(_) => self.split(index),
        }
    }

    fn split(&mut self, index: usize) {
        let span = self.ranges[index].span.clone();
        let lists = (0..LISTS).map(list_key);
        let all =
            lists.chain((0..REGISTERS).map(register_key)).chain((0..ACCOUNTS).map(account_key));
        let inside: Vec<Key> = all.filter(|key| span.contains(key) && *key > span.start).collect();
        let Some(leader) = &mut self.ranges[index].leader else { return };
        if inside.is_empty() {
            return leader.thaw();
        }
        let at = inside[below(&mut self.rng, inside.len())].clone();
        let seq = leader.seq.split(&at);
        leader.frozen = None;
        let locks = part_of(&leader.locks, &Span { start: at.clone(), end: span.end.clone() });
        leader.locks = part_of(&leader.locks, &Span { start: span.start, end: at.clone() });
        let (node, until) = (leader.node, leader.until);
        let (below, above) =
            (self.ranges[index].span.clone(), Span { start: at.clone(), end: span.end });
        let log = self.ranges[index].log;
        let below = Span { end: at.clone(), ..below };
        let log = self.followers.split(log, below, above.clone());
        let mut right = Range::new(above, log);
        let left = &mut self.ranges[index];
        left.span.end = at;
        (right.applied, right.outcomes) = (left.applied, left.outcomes.clone());
        let tail = std::collections::VecDeque::new();
        right.leader = Some(Leader { node, seq, locks, tail, until, frozen: None });
        self.ranges.insert(index + 1, right);
        self.figures.splits += 1;
    }

    fn merge(&mut self, index: usize) {
        let of = |range: Option<&Range>| range?.leader.as_ref().map(|l| (l.node, l.is_quiet()));
        let (this, next) = (of(self.ranges.get(index)), of(self.ranges.get(index + 1)));
        if this != next || this.is_none_or(|(_, quiet)| !quiet) {
            return;
        }
        let seq = |at: usize| self.ranges[at].leader.as_ref().map(|leader| &leader.seq);
        if let (Some(left), Some(right)) = (seq(index), seq(index + 1))
            && left.may_merge(right).is_err()
        {
            return self.renew_lease(index);
        }
        let right = self.ranges.remove(index + 1);
        let left = &mut self.ranges[index];
        let (Some(mut leader), Some(other)) = (left.leader.take(), right.leader) else { return };
        left.span.end = right.span.end;
        self.followers.merge(left.log, right.log, left.span.clone());
        left.applied = left.applied.max(right.applied);
        left.outcomes = left.outcomes.clone().merge(right.outcomes);
        leader.seq = leader.seq.merge(other.seq);
        leader.frozen = None;
        for (key, holders, queue) in other.locks.entries() {
            for held in holders {
                let (mode, policy) = (Strength::Update, WaitPolicy::Block);
                let name = meridian_kv::locks::WaiterId(0);
                leader.locks.acquire(key, held.owner, mode, policy, name);
            }
            for queued in queue {
                let (owner, mode, name) = (queued.owner, queued.mode, queued.waiter);
                leader.locks.acquire(key, owner, mode, WaitPolicy::Block, name);
            }
        }
        left.leader = Some(leader);
        self.figures.splits += 1;
    }

    /// Gathers all waits; confirms what an earlier gathering found, or looks for cycles.
    pub(super) fn check_deadlocks(&mut self) {
        if self.options.bug == Some(Bug::NoDeadlockCheck) {
            return;
        }
        let waits = self.waits();
        if self.suspects.is_empty() {
            self.suspects = cycles(&waits);
            return;
        }
        for cycle in std::mem::take(&mut self.suspects) {
            if cycle.is_confirmed_by(&waits) {
                self.figures.deadlocks += 1;
                self.break_cycle(&cycle);
                return;
            }
        }
    }

    fn waits(&self) -> Vec<NodeWait> {
        let mut waits = Vec::new();
        for leader in self.ranges.iter().filter_map(|range| range.leader.as_ref()) {
            leader.locks.for_each_wait(|_, queued, blockers| {
                let of = |id: u64| {
                    let mut running = self.clients.iter().filter_map(|c| c.running.as_ref());
                    running.find(|running| running.id.0 == id).map(|running| running.record.began)
                };
                let (waiter, owner, target) = (queued.waiter, queued.owner, Target::Row);
                let (mode, blockers) = (queued.mode.name(), blockers.to_vec());
                let wait = Wait { waiter, owner, target, mode, blockers };
                let began = Timestamp(of(owner.id).unwrap_or(0));
                waits.push(NodeWait { node: NodeId(leader.node as u64), began, wait });
            });
        }
        waits
    }

    fn break_cycle(&mut self, cycle: &Cycle) {
        match &cycle.verdict {
            Verdict::Wait => {}
            Verdict::Promote(waiter) => {
                let mut grants = Vec::new();
                for leader in self.ranges.iter_mut().filter_map(|range| range.leader.as_mut()) {
                    let mut place = None;
                    leader.locks.for_each_wait(|key, queued, _| {
                        if queued.waiter == *waiter {
                            place = Some(key.clone());
                        }
                    });
                    if let Some(key) = place {
                        leader.locks.promote(&key, *waiter, &mut grants);
                    }
                }
                self.hand_on(grants);
            }
            Verdict::Deadlock { detail } => {
                let owns = |client: &super::client::Client| {
                    client.running.as_ref().is_some_and(|r| r.id.0 == cycle.owner.id)
                };
                if let Some(at) = self.clients.iter().position(owns) {
                    self.end(at, Outcome::Failed(KvError::Deadlock { detail: detail.clone() }));
                }
            }
        }
    }

    /// What has landed says how transactions ended.
    pub(super) fn note_landed(&mut self, entry: &LogEntry) {
        match entry {
            LogEntry::Commit(command) => {
                if let Some(txn) = command.txn {
                    let outcome = meridian_kv::range::Outcome::Committed(command.ts);
                    self.decided(txn, outcome, "a commit landed");
                }
            }
            LogEntry::Mark(marker) => {
                self.decided(marker.header.txn, marker.outcome, "a marker landed");
            }
            LogEntry::Resolve(resolve) => {
                let marker = &resolve.marker;
                self.decided(marker.header.txn, marker.outcome, "a resolution landed");
            }
            LogEntry::Collect(collect) => {
                self.figures.collected += u32::try_from(collect.markers.len()).expect("few");
            }
            LogEntry::Prepare(_) | LogEntry::Split(_) => {}
        }
    }
}

impl Leader {
    fn thaw(&mut self) {
        self.frozen = None;
        self.seq.freeze(false);
    }

    fn is_quiet(&self) -> bool {
        self.tail.is_empty() && self.seq.quiet().is_ok()
    }
}

/// The locks of a span's keys, queues and all.
fn part_of(locks: &LockTable<Key, Strength>, span: &Span) -> LockTable<Key, Strength> {
    let mut part = locks.clone();
    let mut nobody: Vec<Grant<Key>> = Vec::new();
    for (key, holders, queue) in locks.entries().filter(|(key, ..)| !span.contains(key)) {
        for queued in queue {
            part.cancel(key, queued.waiter, &mut nobody);
        }
        for held in holders {
            part.restore(key, held.owner, 0, &mut nobody);
        }
    }
    part
}
