//! Advisory locks in a cluster: they outlive the lease of the node that grants them.
//!
//! ```text
//! gateway                                     leaseholder of the first range
//! AdvisoryCounts: what sessions hold          lock table; a roll of the nodes whose locks are in it
//!    │── lock ────────────────────────────▶ waits for the roll, grants under its epoch
//!    ◀── roll call (epoch) ─────────────────  new lease: asks every node
//!    │── what is held ────────────────────▶ into the table
//!    │── keep (epoch), every second ──────▶ "yes": good for HOLD from when it was asked
//! ```
//! **Rule:** no two sessions hold an exclusive lock at once while both believe it. Because
//! 1. A leaseholder grants nothing before every registered node has said what its sessions hold, or
//!    [`ABSENT`] has passed since it took the lease.
//! 2. A node counts on its sessions' locks for [`HOLD`] after it has *asked* for a word that was given under
//!    a lease; when that is over it drops them and ends their sessions, and what is granted later begins
//!    with nothing. A word of an earlier leaseholder was given before the new one's lease began, so after
//!    [`ABSENT`], which is longer by what a node may take to notice, no such node counts on anything.
//! 3. A grant that was asked for too long ago, or under an older lease than the newest that has called the
//!    roll, is not believed but asked for again.
//! 4. A node that is silent for [`ABSENT`] is struck off, with its locks; so is one that has started anew.
//!
//! A process that was suspended may run its sessions for the moment until its timers are served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use meridian_base::{Instant, NodeId};
use meridian_kv::api::{KvError, WaitPolicy};
use meridian_kv::locks::{AdvisoryKey, AdvisoryMode, LockMode, Owner, home_of};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ask::{FIRST_KEY, unexpected};
use super::messages::{Advisory, Answer, Op, Patience, Who};
use super::watch::{Keep, Question, Watched};
use super::{Asked, Cluster, Search};
use crate::advisory::{Accepted, Granted, HOLD, Holding, Level};
use crate::core::Core;
use crate::lease::Home;
use crate::locking::{Acquired, WaitLimits};
use crate::sessions::Signal;
use crate::txn::Txn;

/// Between two looks at what is held and who has been silent.
const LOOK: Duration = Duration::from_millis(500);
/// How long an answer to a keep or a roll call is waited for.
const ANSWER: Duration = Duration::from_millis(500);
/// After so long a silence a node has noticed that it can't count on its locks: [`HOLD`], two looks with an
/// answer in between, and as much again for a slow machine.
const ABSENT: Duration = HOLD.saturating_add(Duration::from_secs(2));
/// Between two roll calls of who has not answered.
const AGAIN: Duration = Duration::from_millis(50);

/// What a leaseholder knows of a node whose locks are in its table.
#[derive(Clone, Copy)]
struct Account {
    /// Which start of the node's process.
    start: u64,
    heard: Instant,
}

#[derive(Default)]
struct Called {
    epoch: u64,
    /// The lease has gone since.
    over: bool,
    /// Everybody has answered, or has had the time to.
    done: bool,
    nodes: BTreeMap<NodeId, Account>,
}

impl Called {
    fn is(&self, epoch: u64) -> bool {
        self.epoch == epoch && !self.over
    }
}

/// The nodes whose sessions' locks are known here.
pub(crate) struct Roll {
    called: Mutex<Called>,
    done: Notify,
    /// Names this start of this node.
    start: u64,
    introduced: AtomicBool,
}

impl Roll {
    pub(crate) fn new(start: u64) -> Roll {
        let introduced = AtomicBool::new(false);
        Roll { called: Mutex::default(), done: Notify::new(), start, introduced }
    }
}

/// Looks after advisory locks for as long as there is a store.
pub(super) async fn keep_looking(cluster: Weak<Cluster>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(cluster) = cluster.upgrade() else { return };
        cluster.look_at_advisory().await;
    }
}

fn release(core: &Core, (owner, key, mode): Holding) {
    let held = core.locks.advisory_held(key, owner);
    core.locks.release_advisory(key, owner, held & !mode.bit());
}

fn drop_locks_of(core: &Core, node: NodeId) {
    core.locks.drop_advisory(|owner| home_of(owner.session) == node);
}

/// The leaseholder's side.
impl Cluster {
    fn advisory_epoch(&self) -> Option<u64> {
        self.core.first().lease.here(&self.core.hlc)
    }

    /// This node has a lease of the first range, perhaps a new one: then the roll is called.
    fn begin_roll(self: &Arc<Self>, epoch: u64) {
        let mut called = self.roll.called.lock();
        if called.epoch > epoch || called.is(epoch) {
            return;
        }
        *called = Called { epoch, ..Called::default() };
        self.core.locks.drop_advisory(|_| true);
        tokio::spawn(Arc::clone(self).call_roll(epoch, Instant::now()));
    }

    /// The table goes with the lease; who waits in it hears that it has gone.
    pub(super) fn advisory_lease_lost(&self) {
        self.roll.called.lock().over = true;
        self.core.locks.drop_advisory(|_| true);
    }

    async fn call_roll(self: Arc<Self>, epoch: u64, since: Instant) {
        let mut left: BTreeSet<NodeId> = loop {
            match crate::member::registered(&self.core) {
                Ok(nodes) => break nodes,
                Err(error) => tracing::error!(%error, "cannot read the register of nodes"),
            }
            tokio::time::sleep(AGAIN).await;
        };
        left.insert(self.core.node);
        loop {
            let asked = left.iter().map(|node| async {
                let answer = match *node == self.core.node {
                    true => Some(self.serve_roll(epoch)),
                    false => self.put(*node, Question::Roll(epoch), ANSWER).await,
                };
                (*node, answer.filter(|answer| answer.found))
            });
            for (node, answer) in join_all(asked).await {
                if answer.is_some_and(|answer| self.answered(epoch, node, &answer)) {
                    left.remove(&node);
                }
            }
            if self.roll_ends(epoch, left.is_empty() || since.elapsed() >= ABSENT) {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn roll_ends(&self, epoch: u64, complete: bool) -> bool {
        let mut called = self.roll.called.lock();
        if called.is(epoch) && complete {
            called.done = true;
            self.roll.done.notify_waiters();
        }
        complete || !called.is(epoch)
    }

    /// A node has said what its sessions hold. False if that can't be entered, perhaps because somebody has
    /// not noticed yet that the last lease is gone.
    fn answered(&self, epoch: u64, node: NodeId, answer: &Watched) -> bool {
        let mut called = self.roll.called.lock();
        if !called.is(epoch) || called.done {
            return false;
        }
        let enter = |(owner, key, mode): Holding| {
            let locked = self.core.locks.try_advisory(key, owner, mode, WaitPolicy::NoWait);
            matches!(locked, Ok(Acquired::Granted { .. } | Acquired::Reentrant))
        };
        let entered = answer.holdings().into_iter().all(enter);
        if entered {
            let account = Account { start: answer.start, heard: Instant::now() };
            called.nodes.insert(node, account);
        }
        entered
    }

    /// Waits until all locks are known; false when the lease has gone before.
    async fn roll_called(self: &Arc<Self>, epoch: u64) -> bool {
        self.begin_roll(epoch);
        loop {
            let done = self.roll.done.notified();
            {
                let called = self.roll.called.lock();
                if !called.is(epoch) {
                    return false;
                }
                if called.done {
                    return true;
                }
            }
            // It may end without a word, when the lease goes.
            let _ = tokio::time::timeout(LOOK, done).await;
        }
    }

    /// A node speaks, by this start of its process: what an earlier one held is void. False: it is an
    /// earlier one itself.
    fn meet(&self, epoch: u64, node: NodeId, start: u64) -> bool {
        let mut called = self.roll.called.lock();
        let Some(account) = called.nodes.get_mut(&node).filter(|known| known.start != start) else {
            return called.is(epoch);
        };
        if account.start > start {
            return false;
        }
        *account = Account { start, heard: Instant::now() };
        drop_locks_of(&self.core, node);
        called.is(epoch)
    }

    /// Is a grant good that was made just now?
    fn still(&self, epoch: u64, guest: Option<(NodeId, u64)>) -> bool {
        let mut called = self.roll.called.lock();
        let good = called.is(epoch) && called.done && self.advisory_epoch() == Some(epoch);
        if let Some((node, start)) = guest.filter(|_| good) {
            called.nodes.insert(node, Account { start, heard: Instant::now() });
        }
        good
    }

    /// Locks here, under the lease of `epoch`; `None` when that has gone.
    async fn advisory_here(
        self: &Arc<Self>,
        epoch: u64,
        guest: Option<(NodeId, u64)>,
        ((owner, key, mode), policy): (Holding, WaitPolicy),
        limits: &WaitLimits,
    ) -> Result<Option<bool>, KvError> {
        let search = Search::new(limits);
        if !search.unless_cancelled(self.roll_called(epoch)).await? {
            return Ok(None);
        }
        if guest.is_some_and(|(node, start)| !self.meet(epoch, node, start)) {
            return Ok(None);
        }
        let before = match self.core.locks.try_advisory(key, owner, mode, policy) {
            Ok(Acquired::Granted { before }) => Some(before),
            Ok(Acquired::Reentrant) => None,
            Ok(Acquired::Unavailable) => return Ok(self.still(epoch, None).then_some(false)),
            Err(queued) => Some(queued.wait(limits).await?),
        };
        if self.still(epoch, guest) {
            return Ok(Some(true));
        }
        if let Some(before) = before {
            self.core.locks.release_advisory(key, owner, before);
        }
        Ok(None)
    }

    /// Takes a lock out of the table here.
    fn release_here(self: &Arc<Self>, holding: Holding) {
        let called = self.roll.called.lock();
        if called.done || called.over || called.epoch == 0 {
            release(&self.core, holding);
            return;
        }
        // Its node may have been asked what it holds before it gave this back.
        let (cluster, epoch) = (Arc::clone(self), called.epoch);
        drop(called);
        tokio::spawn(async move {
            if cluster.roll_called(epoch).await {
                release(&cluster.core, holding);
            }
        });
    }

    /// A request of another node; `None`: the lease isn't here.
    pub(super) async fn serve_advisory(
        self: &Arc<Self>,
        from: NodeId,
        asked: &Advisory,
        (policy, limits): (WaitPolicy, WaitLimits),
    ) -> Result<Option<(bool, u64)>, KvError> {
        let holding = holding(asked);
        if asked.unlock {
            self.release_here(holding);
            return Ok(Some((true, 0)));
        }
        let Some(epoch) = self.advisory_epoch() else { return Ok(None) };
        let guest = Some((from, asked.start));
        let held = self.advisory_here(epoch, guest, (holding, policy), &limits).await?;
        Ok(held.map(|held| (held, epoch)))
    }

    pub(super) fn serve_keep(self: &Arc<Self>, from: NodeId, keep: Keep) -> bool {
        let Some(epoch) = self.advisory_epoch() else { return false };
        self.begin_roll(epoch);
        if !self.meet(epoch, from, keep.start) {
            return false;
        }
        let mut called = self.roll.called.lock();
        match called.nodes.get_mut(&from) {
            _ if keep.epoch == 0 => true,
            Some(account) if keep.epoch == epoch => {
                account.heard = Instant::now();
                self.advisory_epoch() == Some(epoch)
            }
            _ => false,
        }
    }

    /// Strikes nodes off that have been silent.
    fn strike_off(&self, epoch: u64) {
        let mut called = self.roll.called.lock();
        if !called.is(epoch) || !called.done {
            return;
        }
        let me = self.core.node;
        called.nodes.retain(|node, account| {
            let stays = *node == me || account.heard.elapsed() < ABSENT;
            if !stays {
                drop_locks_of(&self.core, *node);
            }
            stays
        });
    }
}

/// The gateway's side.
impl Cluster {
    async fn look_at_advisory(self: &Arc<Self>) {
        if let Some(epoch) = self.advisory_epoch() {
            self.begin_roll(epoch);
            self.strike_off(epoch);
        }
        let introduced = self.roll.introduced.load(Ordering::Relaxed);
        if !introduced || self.core.advisory.wants_word(Instant::now()) {
            self.keep().await;
        }
        let lost = self.core.advisory.expire(Instant::now());
        self.lost(lost);
    }

    /// Has the leaseholder say that it still knows this node's locks.
    async fn keep(&self) {
        let (core, asked) = (&self.core, Instant::now());
        let told = core.advisory.told();
        let good = match core.first().lease.home(core.node, &core.hlc) {
            Home::Here(epoch) => epoch == told || told == 0,
            Home::There(node) => {
                let keep = Keep { epoch: told, start: self.roll.start };
                let answer = self.put(node, Question::Keep(keep), ANSWER).await;
                answer.is_some_and(|answer| answer.found)
            }
            Home::Nowhere => false,
        };
        if good {
            self.roll.introduced.store(true, Ordering::Relaxed);
            core.advisory.good(told, asked, Instant::now());
        }
    }

    /// What this node's sessions hold, for a new leaseholder.
    pub(super) fn serve_roll(&self, epoch: u64) -> Watched {
        match self.core.advisory.tell(epoch) {
            Some(held) => Watched::of_holdings(held, self.roll.start),
            None => Watched::default(),
        }
    }

    /// Sessions have lost locks: they are told by being ended.
    fn lost(self: &Arc<Self>, lost: Vec<Holding>) {
        if lost.is_empty() {
            return;
        }
        tracing::warn!(locks = lost.len(), "advisory locks are lost: no leaseholder was reached");
        let ended: BTreeSet<u32> = lost.iter().map(|(owner, ..)| owner.process()).collect();
        lost.into_iter().for_each(|holding| self.unlock_advisory(holding));
        for process in ended {
            self.signalled(Signal { process, terminate: true, secret: None });
        }
    }

    /// Gives a lock back at the leaseholder that knows of it.
    pub(crate) fn unlock_advisory(self: &Arc<Self>, holding: Holding) {
        // The name of a lease ends with its holder.
        self.unlock_at(NodeId(self.core.advisory.told() & 0xFFFF), holding);
    }

    fn unlock_at(self: &Arc<Self>, node: NodeId, holding: Holding) {
        if node == self.core.node {
            self.release_here(holding);
        } else if node.0 != 0 {
            self.tell(node, Op::Advisory(Advisory { unlock: true, ..named(holding) }));
        }
    }
}

/// A request that may be given up half-way: what it has got then goes back.
struct Asking<'a> {
    cluster: &'a Arc<Cluster>,
    holding: Holding,
    done: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.done && !self.cluster.core.advisory.holds(&self.holding) {
            if let Some(node) = self.cluster.core.first().lease.leader() {
                self.cluster.unlock_at(node, self.holding);
            }
        }
    }
}

impl Txn {
    /// Takes an advisory lock wherever they are kept, and notes it.
    pub(crate) async fn advisory_in_cluster(
        &mut self,
        holding: Holding,
        policy: WaitPolicy,
        level: Level,
    ) -> Result<bool, KvError> {
        let (cluster, limits) = (self.cluster()?, self.limits.clone());
        let core = Arc::clone(&self.core);
        let mut asking = Asking { cluster: &cluster, holding, done: false };
        let mut search = Search::new(&limits);
        loop {
            let asked = Instant::now();
            let answer = match cluster.advisory_epoch() {
                Some(epoch) => {
                    let what = (holding, policy);
                    let held = cluster.advisory_here(epoch, None, what, &limits).await?;
                    held.map(|held| (held, epoch))
                }
                None => {
                    let start = cluster.roll.start;
                    let patience = super::txn::patience(&limits, policy);
                    let request = Advisory { patience, start, ..named(holding) };
                    match core.ask(FIRST_KEY, Op::Advisory(request), &limits).await? {
                        Asked::Answer(Answer::Locked(locked)) => Some((locked.held, locked.term)),
                        Asked::Answer(_) => return Err(unexpected()),
                        Asked::Here => None,
                    }
                }
            };
            match answer {
                Some((false, _)) => {
                    asking.done = true;
                    return Ok(false);
                }
                Some((true, epoch)) => {
                    let granted = Granted { epoch, asked, holding, level };
                    if let Accepted::Held(lost) = core.advisory.accept(granted, Instant::now()) {
                        asking.done = true;
                        cluster.lost(lost);
                        return Ok(true);
                    }
                }
                None => search.pause().await?,
            }
        }
    }
}

fn named((owner, key, mode): Holding) -> Advisory {
    Advisory {
        who: Who { txn: owner.id, session: owner.session },
        classid: key.classid,
        objid: key.objid,
        objsubid: key.objsubid,
        shared: mode == AdvisoryMode::Shared,
        unlock: false,
        patience: Patience { database: key.database, ..Patience::default() },
        start: 0,
    }
}

fn holding(asked: &Advisory) -> Holding {
    let owner = Owner { id: asked.who.txn, session: asked.who.session };
    let Advisory { classid, objid, objsubid, patience, shared, .. } = *asked;
    let key = AdvisoryKey { database: patience.database, classid, objid, objsubid };
    (owner, key, if shared { AdvisoryMode::Shared } else { AdvisoryMode::Exclusive })
}
