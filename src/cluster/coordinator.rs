//! Who drives commits over several ranges to their end: the gateway's own, and those that lost theirs.
//!
//! ```text
//! Txn::commit_over ─begin─▶ task: Commit ──Prepare, Query, Resolve, Settle──▶ leaseholder of each part
//!        ◀──────verdict──────┘  ▲                                                (here, or by RPC)
//!                   ticks ──────┘                     records without an end ──▶ recovery: the same task
//! ```
//! A task of its own drives each machine ([`meridian_kv::commit`]): it goes on when the client has been told
//! and when the client has gone. Where a part lies is looked up at each send. A message that isn't answered
//! is sent again with a tick, unless the last copy may still be answered.
//!
//! Recovery looks at what this node leads: records whose coordinator is certainly gone are ended at once,
//! others when they have waited for long. That several do it at the same time does no harm.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use meridian_base::RangeId;
use meridian_kv::api::{Key, KvError, Span, Timestamp, TxnId};
use meridian_kv::commit::{Action, Answer, Commit, Message, Patience, Verdict};
use meridian_kv::locks::Owner;
use meridian_kv::range::{Gateway, Header, Outcome as Decided, PrepareRequest, Refused};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::commit::{CommitError, Locks};
use crate::core::Core;
use crate::lease::Home;
use crate::parts::{Holder, Reply};
use crate::range::Range;
use crate::remote::Fenced;
use crate::twophase;
use crate::txn::Try;

/// The first tick comes soon, for who met a record that is just being resolved; later ones ever later.
const TICK_MIN: Duration = Duration::from_millis(5);
const TICK_MAX: Duration = Duration::from_millis(100);

/// Fifteen seconds for all to be prepared: half of it shows clients slow elections, twice it keeps row locks
/// for half a minute. Twenty more to find out what has become of it.
const PATIENCE: Patience = Patience { prepare: 150, ask: 200 };

/// How long a message may be on its way before another copy is sent: longer than the largest part takes.
const ON_THE_WAY_MAX: Duration = Duration::from_secs(3);

/// Nothing of a commit gets a timestamp later than this after it began; twice the patience.
const DEADLINE: Duration = Duration::from_secs(30);

/// Its outcome is remembered for so long after it began: past the last question of its coordinator.
const MEMORY: Duration = Duration::from_secs(60);

/// A record that has waited for so long is asked about even though its coordinator seems to live.
const OVERDUE: Duration = Duration::from_secs(5);

/// How often records without a coordinator are looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Every how many looks all that has waited for long is looked for, and markers are collected.
const SWEEP: u32 = 50;

/// Recoveries that are begun at a time.
const RECOVERIES_MAX: usize = 64;

fn after(ts: Timestamp, time: Duration) -> Timestamp {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Timestamp::from_micros(ts.micros().saturating_add(micros))
}

fn before(ts: Timestamp, time: Duration) -> Timestamp {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Timestamp::from_micros(ts.micros().saturating_sub(micros))
}

/// What is being driven on this node.
pub(crate) struct Coordinators {
    /// Names this run of the node: what an earlier one coordinated has nobody any more.
    epoch: u64,
    /// The next commit's name, on a node without others, whose transactions are numbered from the beginning
    /// again when it is started: outcomes are remembered by name.
    next: AtomicU64,
    running: Mutex<BTreeSet<TxnId>>,
    idle: Notify,
}

/// One that is running, until this is dropped.
pub(crate) struct Running {
    core: Arc<Core>,
    txn: TxnId,
}

impl Drop for Running {
    fn drop(&mut self) {
        let coordinators = &self.core.coordinators;
        let mut running = coordinators.running.lock();
        running.remove(&self.txn);
        if running.is_empty() {
            coordinators.idle.notify_waiters();
        }
    }
}

/// The row locks of a transaction of this node, until its parts take them over.
pub(crate) struct Given {
    core: Arc<Core>,
    owner: Owner,
    locks: Mutex<Locks>,
    /// The leases under which they are good: range and epoch.
    leases: Vec<(RangeId, u64)>,
    /// Where its strong table locks are held, if it has any.
    pub(crate) fenced: Option<Fenced>,
    /// The generation of the catalog that it uses, if it uses tables.
    formed: Option<u64>,
}

impl Given {
    pub(crate) fn new(
        core: &Arc<Core>,
        owner: Owner,
        locks: Locks,
        leases: Vec<(RangeId, u64)>,
        fenced: Option<Fenced>,
        formed: Option<u64>,
    ) -> Arc<Given> {
        let core = Arc::clone(core);
        Arc::new(Given { core, owner, locks: Mutex::new(locks), leases, fenced, formed })
    }

    /// Lets a copy of a prepare be good as long as this node's catalog certainly is. A commit takes longer than a
    /// guard ([`meridian_kv::fence`]) if much is to be sent; but each copy that arrives has its timestamp under one.
    fn limit(&self, header: &Header, message: &mut Message) -> Result<(), Reply> {
        let (Message::Prepare(request), Some(formed)) = (message, self.formed) else {
            return Ok(());
        };
        // What is only held has no form; its rows are committed under a guard.
        if header.is_hold() {
            return Ok(());
        }
        match self.core.fence.formed_until(formed, &self.core.hlc) {
            Ok(Some(Timestamp::MAX)) => Ok(()),
            Ok(Some(before)) => {
                Arc::make_mut(request).before = before;
                Ok(())
            }
            Ok(None) => Err(Reply::Later),
            Err(error) => Err(Answer::Refused(Refused::Error(error)).into()),
        }
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// What no part has taken over.
    pub(crate) fn take_back(&self) -> Locks {
        std::mem::take(&mut *self.locks.lock())
    }
}

impl Drop for Given {
    /// Nobody will take over what is left.
    fn drop(&mut self) {
        self.take_back().release(&self.core, self.owner);
    }
}

/// What a range that is led here is given.
struct GivenHere<'a> {
    given: &'a Given,
    good: bool,
}

impl Holder for GivenHere<'_> {
    fn owner(&self) -> Owner {
        self.given.owner
    }

    fn holds(&self, key: &[u8]) -> bool {
        self.good && self.given.locks.lock().hold(key)
    }

    fn take(&self, bounds: &Span) -> Locks {
        self.given.locks.lock().take_within(bounds)
    }
}

/// How an attempt to commit ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Told(Verdict),
    /// It was given up since a part lies in several ranges now, or came too late: it may be planned anew, under
    /// another name.
    Anew,
}

impl Coordinators {
    /// `first` is a number that no earlier run of the node has used as a transaction's.
    pub(crate) fn new(first: u64) -> Coordinators {
        let next = AtomicU64::new(first);
        Coordinators { epoch: first, next, running: Mutex::default(), idle: Notify::new() }
    }

    /// What others have to know of an attempt that begins now.
    pub(crate) fn header(&self, core: &Core, this: &Try, participants: Arc<[Key]>) -> Header {
        let txn = match core.alone {
            true => TxnId(self.next.fetch_add(1, Ordering::Relaxed)),
            false => this.id,
        };
        let sent = this.sent;
        let gateway = Gateway { node: core.node, epoch: self.epoch };
        let deadline = after(sent, DEADLINE).min(this.deadline);
        let expiry = after(sent, MEMORY);
        Header { txn, gateway, deadline, expiry, participants }
    }

    /// What those have to know who meet the holds of a transaction that is being prepared.
    pub(crate) fn hold_header(&self, core: &Core, this: &Try, participants: Arc<[Key]>) -> Header {
        Header { gateway: Gateway::OWNER, ..self.header(core, this, participants) }
    }

    /// Nobody else on this node drives it, as long as the answer lives; `None`: somebody does.
    pub(crate) fn enter(core: &Arc<Core>, txn: TxnId) -> Option<Running> {
        let new = core.coordinators.running.lock().insert(txn);
        new.then(|| Running { core: Arc::clone(core), txn })
    }

    /// Begins to commit.
    pub(crate) fn begin(
        core: &Arc<Core>,
        requests: Vec<PrepareRequest>,
        given: Arc<Given>,
    ) -> oneshot::Receiver<Ended> {
        let (tell, told) = oneshot::channel();
        let mut actions = Vec::new();
        let machine = Commit::begin(requests, PATIENCE, &mut actions);
        if let Some(running) = Coordinators::enter(core, machine.header().txn) {
            let job = Job { tell: Some(tell), given: Some(given), ..Job::new(running, machine) };
            tokio::spawn(job.run(actions));
        }
        told
    }

    /// Ends a transaction that nobody here drives; what its outcome is, if that is known.
    fn recover(core: &Arc<Core>, header: Header, outcome: Option<Decided>) {
        let Some(running) = Coordinators::enter(core, header.txn) else { return };
        tracing::debug!(txn = %header.txn, ?outcome, "a commit over several ranges is being ended");
        let mut actions = Vec::new();
        let machine = match outcome {
            None => Commit::recover(header, PATIENCE, &mut actions),
            Some(outcome) => Commit::finish(header, outcome, PATIENCE, &mut actions),
        };
        tokio::spawn(Job::new(running, machine).run(actions));
    }

    /// Ends a transaction if its coordinator is certainly gone.
    pub(crate) fn recover_if_dead(&self, core: &Arc<Core>, header: Header) {
        if self.is_dead(core, &header) {
            Coordinators::recover(core, header, None);
        }
    }

    fn is_dead(&self, core: &Core, header: &Header) -> bool {
        let Gateway { node, epoch } = header.gateway;
        if node == core.node {
            return epoch != self.epoch || !self.running.lock().contains(&header.txn);
        }
        let began = before(header.expiry, MEMORY);
        core.cluster().is_some_and(|cluster| cluster.is_gone_since(node, began))
    }

    /// Waits until nothing is being driven, but not for long.
    pub(crate) async fn rest(&self, limit: Duration) {
        let resting = async {
            loop {
                let idle = self.idle.notified();
                if self.running.lock().is_empty() {
                    return;
                }
                idle.await;
            }
        };
        let _ = tokio::time::timeout(limit, resting).await;
    }
}

/// Looks for transactions without an end, on what this node leads.
pub(crate) async fn run_recovery(core: &Arc<Core>) {
    for round in (0..SWEEP).cycle() {
        tokio::time::sleep(LOOK).await;
        let sweep = round + 1 == SWEEP;
        for range in core.ranges.all() {
            if range.lease.here(&core.hlc).is_some() {
                look_at(core, &range, sweep);
            }
        }
    }
}

fn look_at(core: &Arc<Core>, range: &Range, sweep: bool) {
    let coordinators = &core.coordinators;
    let records = range.pipeline.records(None);
    if records.is_empty() && !sweep {
        return;
    }
    let dead = records.into_iter().filter(|header| coordinators.is_dead(core, header));
    dead.take(RECOVERIES_MAX).for_each(|header| Coordinators::recover(core, header, None));
    if !sweep {
        return;
    }
    let since = before(core.hlc.now(), OVERDUE);
    for (header, outcome) in range.pipeline.overdue(since).into_iter().take(RECOVERIES_MAX) {
        Coordinators::recover(core, header, outcome);
    }
    range.pipeline.collect(core);
    twophase::sweep(core, range);
}

/// Which message was sent to a participant last, if it may still be answered.
#[derive(Clone, Copy)]
struct Sent {
    number: u64,
    kind: std::mem::Discriminant<Message>,
    at: Instant,
}

type Replies = FuturesUnordered<BoxFuture<'static, (usize, u64, Reply)>>;

/// A machine that is being driven.
struct Job {
    running: Running,
    machine: Commit,
    tell: Option<oneshot::Sender<Ended>>,
    given: Option<Arc<Given>>,
    sent: Vec<Option<Sent>>,
    number: u64,
    /// It was refused for something that another attempt may not meet.
    anew: bool,
    over: bool,
}

impl Job {
    fn new(running: Running, machine: Commit) -> Job {
        let sent = vec![None; machine.header().participants.len()];
        let (tell, given) = (None, None);
        Job { running, machine, tell, given, sent, number: 0, anew: false, over: false }
    }

    async fn run(mut self, mut actions: Vec<Action>) {
        let mut replies = Replies::new();
        let mut pause = TICK_MIN;
        let mut tick = Instant::now() + pause;
        loop {
            for action in actions.drain(..) {
                self.act(action, &mut replies);
            }
            if self.over {
                break;
            }
            tokio::select! {
                Some((from, number, reply)) = replies.next() => {
                    self.hear(from, number, reply, &mut actions);
                }
                () = tokio::time::sleep_until(tick) => {
                    let core = &self.running.core;
                    if !core.alone && core.cluster().is_none() {
                        // The store has been closed.
                        return;
                    }
                    self.machine.tick(&mut actions);
                    pause = (pause * 2).min(TICK_MAX);
                    tick = Instant::now() + pause;
                }
            }
        }
        // Nobody waits for these.
        let rest = replies.for_each(|_| std::future::ready(()));
        let _ = tokio::time::timeout(ON_THE_WAY_MAX, rest).await;
    }

    fn act(&mut self, action: Action, replies: &mut Replies) {
        match action {
            Action::Send { to, message } => {
                let kind = std::mem::discriminant(&message);
                let known = self.sent[to].filter(|sent| sent.kind == kind);
                if known.is_some_and(|sent| sent.at.elapsed() < ON_THE_WAY_MAX) {
                    return;
                }
                self.number += 1;
                let number = self.number;
                self.sent[to] = Some(Sent { number, kind, at: Instant::now() });
                let (core, given) = (Arc::clone(&self.running.core), self.given.clone());
                let header = self.machine.header().clone();
                replies.push(Box::pin(async move {
                    let reply = send(&core, &header, to, message, given.as_deref()).await;
                    (to, number, reply)
                }));
            }
            Action::Tell(verdict) => {
                if let Verdict::Committed(ts) = verdict {
                    self.running.core.hlc.raise(ts);
                    self.running.core.stats.commits.fetch_add(1, Ordering::Relaxed);
                }
                let anew = self.anew && matches!(verdict, Verdict::Failed(_));
                self.end(if anew { Ended::Anew } else { Ended::Told(verdict) });
            }
            Action::Done => self.over = true,
        }
    }

    fn is_in_time(&self) -> bool {
        self.running.core.hlc.now() < self.machine.header().deadline
    }

    fn end(&mut self, ended: Ended) {
        if let Some(tell) = self.tell.take() {
            // A client that has gone changes nothing.
            let _ = tell.send(ended);
        }
    }

    fn hear(&mut self, from: usize, number: u64, reply: Reply, actions: &mut Vec<Action>) {
        if self.sent[from].is_some_and(|sent| sent.number == number) {
            self.sent[from] = None;
        }
        match reply {
            // It was on its way for longer than its guard lasted: the next copy has a new one.
            Reply::Answer(Answer::Refused(Refused::Expired)) if self.is_in_time() => {}
            Reply::Answer(answer) => {
                // Its locks' time was short, and may last longer now.
                self.anew |= answer == Answer::Refused(Refused::Expired);
                self.machine.answer(from, answer, actions);
            }
            Reply::Split => {
                self.anew = true;
                let reason = "the keys are in several ranges now".into();
                let refused = Refused::Error(KvError::Unavailable { reason });
                self.machine.answer(from, Answer::Refused(refused), actions);
            }
            Reply::Closed if self.running.core.alone => {
                // Nobody else will ever tell more.
                self.end(Ended::Told(Verdict::Ambiguous));
                self.over = true;
            }
            Reply::Later | Reply::Closed => {}
        }
    }
}

/// Sends a message to a part, wherever it is led now.
pub(crate) async fn send(
    core: &Arc<Core>,
    header: &Header,
    to: usize,
    mut message: Message,
    given: Option<&Given>,
) -> Reply {
    if let Some(Err(reply)) = given.map(|given| given.limit(header, &mut message)) {
        return reply;
    }
    let key = &header.participants[to];
    let range = Arc::clone(&core.ranges.of(key));
    let answering = async {
        match range.lease.home(core.node, &core.hlc) {
            Home::Here(epoch) => here(core, &range, epoch, header, to, message, given).await,
            Home::There(node) => match core.cluster() {
                Some(cluster) => cluster.part_at(node, header, to, message, given).await,
                None => Reply::Later,
            },
            Home::Nowhere => Reply::Later,
        }
    };
    tokio::time::timeout(ON_THE_WAY_MAX, answering).await.unwrap_or(Reply::Later)
}

async fn here(
    core: &Arc<Core>,
    range: &Range,
    epoch: u64,
    header: &Header,
    own: usize,
    message: Message,
    given: Option<&Given>,
) -> Reply {
    let prepares = matches!(message, Message::Prepare(_));
    let fenced = given.filter(|_| prepares).and_then(|given| given.fenced.as_ref());
    let passing = core.cluster().map(|cluster| cluster.pass_fence(range, fenced)).transpose();
    let _passing = match passing {
        Ok(passing) => passing,
        Err(CommitError::Refused(error)) => return Answer::Refused(Refused::Error(error)).into(),
        Err(CommitError::Moved | CommitError::Unknown(_)) => return Reply::Later,
    };
    let holder =
        given.map(|given| GivenHere { given, good: given.leases.contains(&(range.id, epoch)) });
    let holder = holder.as_ref().map(|holder| holder as &dyn Holder);
    match range.pipeline.part(core, header, own, message, holder).await {
        Ok(reply) => reply,
        Err(CommitError::Moved | CommitError::Unknown(_)) => Reply::Later,
        Err(CommitError::Refused(error)) if prepares => {
            Answer::Refused(Refused::Error(error)).into()
        }
        Err(CommitError::Refused(error)) => {
            tracing::warn!(txn = %header.txn, %error, "a part of a commit could not be ended");
            Reply::Closed
        }
    }
}
