//! Copies that follow the logs of the ranges, each at its own pace, and serve what is closed.
//!
//! A node applies the logs' entries to an engine of its own, later than the leaders. Splits and merges are
//! entries here, which say what the log's copy holds from there on. Leaders close their ranges and tell it
//! with the real tellers and listeners; messages and answers are delayed and lost. What a copy serves is
//! compared, when all is over, with what there is at that timestamp: with what a leaseholder serves for ever.
//!
//! Chance here is drawn from a source of its own.

use std::collections::BTreeMap;

use meridian_base::{NodeId, RangeId, Rng, Span};
use meridian_kv::api::{Key, Row, Timestamp};
use meridian_kv::closed::{Copy, Listener, Promise, Standing, Teller, Tidings};
use meridian_kv::range::{LogEntry, Sequencer};
use meridian_storage::engine::{Engine, WriteBatch};
use meridian_storage::{MemEngine, mvcc};

use super::Bug;
use super::world::World;
use crate::node::below;
use crate::script::{ACCOUNTS, LISTS, REGISTERS, account_key, list_key, register_key};

/// A place in a log: which, and how many items.
type Place = (usize, usize);

/// What a range's log has for its followers.
#[derive(Clone, Debug)]
enum Item {
    Entry(LogEntry),
    /// The copy holds these keys from here on. Not before that place has been applied.
    Holds {
        span: Span,
        after: Option<Place>,
        change: Change,
    },
}

/// What else happens there.
#[derive(Clone, Copy, Debug)]
enum Change {
    Nothing,
    /// The rest is this log's.
    Splits(usize),
    /// This log has ended.
    Takes(usize),
}

/// One node's copy of a range.
#[derive(Debug, Default)]
struct Held {
    applied: usize,
    span: Option<Span>,
    copy: Copy,
}

/// One node's copies.
#[derive(Default)]
struct Follower {
    engine: MemEngine,
    held: BTreeMap<usize, Held>,
    heard: BTreeMap<usize, Listener>,
}

/// A message between two nodes.
#[derive(Debug)]
struct Letter {
    due: u64,
    from: usize,
    to: usize,
    tidings: Tidings,
    /// It arrives; its answer does.
    arrives: (bool, bool),
}

/// What a copy has served.
#[derive(Debug)]
struct Served {
    step: u64,
    node: usize,
    key: Key,
    r: Timestamp,
    row: Option<Row>,
}

/// All of it.
pub(super) struct Followers {
    rng: Rng,
    logs: Vec<Vec<Item>>,
    nodes: Vec<Follower>,
    tellers: BTreeMap<(usize, usize), Teller>,
    letters: Vec<Letter>,
    served: Vec<Served>,
    starts: u64,
}

impl Followers {
    /// Copies of ranges that begin with these spans.
    pub(super) fn new(seed: u64, nodes: usize, spans: impl Iterator<Item = Span>) -> Followers {
        let first = |span| vec![Item::Holds { span, after: None, change: Change::Nothing }];
        Followers {
            rng: Rng::seeded(seed ^ 0xF0_110E_5EED),
            logs: spans.map(first).collect(),
            nodes: (0..nodes).map(|_| Follower::default()).collect(),
            tellers: BTreeMap::new(),
            letters: Vec::new(),
            served: Vec::new(),
            starts: 0,
        }
    }

    /// A range has split; answers the right half's log.
    pub(super) fn split(&mut self, log: usize, left: Span, right: Span) -> usize {
        let new = self.logs.len();
        let change = Change::Splits(new);
        self.logs[log].push(Item::Holds { span: left, after: None, change });
        let after = Some((log, self.logs[log].len()));
        self.logs.push(vec![Item::Holds { span: right, after, change: Change::Nothing }]);
        new
    }

    /// A range has taken its right neighbour over.
    pub(super) fn merge(&mut self, log: usize, right: usize, span: Span) {
        let after = Some((right, self.logs[right].len()));
        self.logs[log].push(Item::Holds { span, after, change: Change::Takes(right) });
    }

    /// A node forgets what it has told and heard.
    pub(super) fn forget(&mut self, node: usize) {
        self.tellers.retain(|(from, _), _| *from != node);
        self.nodes[node].heard.clear();
    }

    /// The next item of some log is applied on some node.
    fn apply(&mut self, bug: Option<Bug>) {
        let node = below(&mut self.rng, self.nodes.len());
        let log = below(&mut self.rng, self.logs.len());
        let follower = &mut self.nodes[node];
        let at = follower.held.get(&log).map_or(0, |held| held.applied);
        let Some(item) = self.logs[log].get(at).cloned() else { return };
        match item {
            Item::Entry(entry) => {
                let mut batch = WriteBatch::default();
                entry.ops(&mut batch.ops);
                follower.engine.apply(batch).expect("memory");
            }
            Item::Holds { span, after, change } => {
                let reached = |(log, at): Place| {
                    follower.held.get(&log).is_some_and(|held| held.applied >= at)
                };
                if !after.is_none_or(reached) {
                    return;
                }
                let closed = follower.held.entry(log).or_default().copy.closed();
                if bug == Some(Bug::HalfBeginsAsLeftIs)
                    && let (0, Some((left, _))) = (at, after)
                {
                    let closed = follower.held[&left].copy.closed();
                    follower.held.entry(log).or_default().copy.begin(closed);
                }
                match change {
                    Change::Nothing => {}
                    Change::Splits(new) => {
                        follower.held.entry(new).or_default().copy.begin(closed);
                    }
                    Change::Takes(right) => {
                        follower.held.entry(right).or_default().span = None;
                    }
                }
                follower.held.entry(log).or_default().span = Some(span);
            }
        }
        let held = follower.held.entry(log).or_default();
        held.applied += 1;
        held.copy.apply(held.applied as u64);
    }

    /// A message arrives, or nobody knows.
    fn deliver(&mut self, step: u64, alive: &[bool], bug: Option<Bug>) {
        let Some(at) = self.letters.iter().position(|letter| letter.due <= step) else { return };
        let Letter { from, to, tidings, arrives: (arrives, answered), .. } =
            self.letters.swap_remove(at);
        let mut understood = false;
        if arrives && alive[to] {
            let follower = &mut self.nodes[to];
            let heard = follower.heard.entry(from).or_default().hear(tidings);
            understood = heard.is_some();
            for (id, promise) in heard.into_iter().flatten() {
                let Some(held) =
                    usize::try_from(id.0).ok().and_then(|log| follower.held.get_mut(&log))
                else {
                    continue;
                };
                if bug == Some(Bug::CopyIgnoresIndex) {
                    held.copy.apply(promise.index);
                }
                held.copy.promise(promise);
            }
        }
        if let Some(teller) = self.tellers.get_mut(&(from, to)) {
            teller.answered(understood && answered);
        }
    }

    /// Somebody reads at some node.
    fn read(&mut self, step: u64) -> bool {
        let node = below(&mut self.rng, self.nodes.len());
        let lists = (0..LISTS).map(list_key);
        let all =
            lists.chain((0..REGISTERS).map(register_key)).chain((0..ACCOUNTS).map(account_key));
        let all: Vec<Key> = all.collect();
        let key = all[below(&mut self.rng, all.len())].clone();
        let back = if self.rng.below(2) == 0 { 0 } else { self.rng.below(50) };
        let follower = &self.nodes[node];
        let holds = |held: &&Held| held.span.as_ref().is_some_and(|span| span.contains(&key));
        let Some(held) = follower.held.values().find(holds) else { return false };
        let r = Timestamp(held.copy.closed().0.saturating_sub(back));
        if r == Timestamp::MIN {
            return false;
        }
        let row = mvcc::get(&follower.engine, &key, r).expect("memory");
        self.served.push(Served { step, node, key, r, row });
        true
    }
}

/// How far a range is closed, as its leader tells.
fn close(seq: &mut Sequencer, now: Timestamp, bug: Option<Bug>) -> Option<Timestamp> {
    match bug {
        Some(Bug::CloseIgnoresRecords) => {
            let closed = seq.close(now)?;
            // What is in flight has an end in the log.
            if seq.records().next().is_some() { Some(now) } else { Some(closed) }
        }
        Some(Bug::CloseWithoutFloor) => seq.clone().close(Timestamp(now.0 + 40)),
        _ => seq.close(now),
    }
}

impl World {
    /// What has landed goes to the followers; something happens there.
    pub(super) fn follow(&mut self) {
        for range in &mut self.ranges {
            let log = &mut self.followers.logs[range.log];
            log.extend(range.fresh.drain(..).map(Item::Entry));
        }
        match self.followers.rng.below(16) {
            0..=6 => self.followers.apply(self.options.bug),
            7..=10 => {
                let alive: Vec<bool> = self.nodes.iter().map(|node| node.alive).collect();
                self.followers.deliver(self.step, &alive, self.options.bug);
            }
            11 => self.tell_closed(),
            12..=13 if self.followers.read(self.step) => self.figures.follower_reads += 1,
            _ => {}
        }
    }

    /// A node closes what it leads, and tells another one.
    fn tell_closed(&mut self) {
        let (wall, bug, step) = (self.wall, self.options.bug, self.step);
        let from = below(&mut self.followers.rng, self.nodes.len());
        let to = below(&mut self.followers.rng, self.nodes.len());
        // Its own copies may be asked, too, when it leads no more.
        if !self.nodes[from].alive {
            return;
        }
        let followers = &mut self.followers;
        let start = followers.starts + 1;
        let teller = followers.tellers.entry((from, to)).or_insert_with(|| Teller::new(start));
        followers.starts = start;
        if teller.waits() {
            return;
        }
        let now = self.nodes[from].now(wall);
        let mut standings = Vec::new();
        for range in &mut self.ranges {
            let Some(leader) = range.leader.as_mut().filter(|leader| leader.node == from) else {
                continue;
            };
            let Some(closed) = close(&mut leader.seq, now, bug) else { continue };
            let index = followers.logs[range.log].len() as u64;
            let standing = match closed >= now && bug != Some(Bug::CloseWithoutFloor) {
                true => Standing::Quiet(index),
                false => Standing::Busy(Promise { index, ts: closed }),
            };
            standings.push((RangeId(range.log as u64), standing));
        }
        let Some(tidings) = teller.tell(now, standings) else { return };
        let rng = &mut followers.rng;
        let arrives = (rng.below(10) != 0, rng.below(10) != 0);
        let due = step + if rng.below(6) == 0 { rng.below(300) } else { rng.below(20) };
        if rng.below(10) == 0 {
            // The connection goes; the message is there all the same.
            teller.answered(false);
        }
        followers.letters.push(Letter { due, from, to, tidings, arrives });
    }

    /// What copies have served must be what there is.
    pub(super) fn judge_followers(&mut self) {
        for Served { step, node, key, r, row } in &self.followers.served {
            let there = mvcc::get(&self.engine, key, *r).expect("memory");
            if there != *row {
                let node = NodeId(*node as u64);
                let what = format!(
                    "at step {step} {node} read {row:?} of {key:?} at {r}, where {there:?} is"
                );
                self.history.wrong_copies.push(what);
            }
        }
    }
}
