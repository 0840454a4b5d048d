//! Who waits for whom over all nodes: deadlocks, `pg_blocking_pids`, `pg_locks`; and signals to sessions
//! of other nodes.
//!
//! A session that has been waiting for a while and is in no cycle on its node is *suspected*: the waits
//! of the nodes that matter are gathered ([`Gathering`] says which), gathered again when there is a cycle,
//! and what is still there is decided where the victim waits. One search at a time runs on a node, for
//! all that are suspected by then. Each node notes which of its sessions have requests at which nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use meridian_base::NodeId;
use meridian_kv::deadlock::Verdict;
use meridian_kv::deadlock::cluster::{Cycle, Gathering, NodeWait, Report, cycles};
use meridian_kv::locks::WaiterId;
use meridian_rpc::Class;
use parking_lot::Mutex;

use super::Cluster;
use super::ask::{Tried, encode};
use super::messages::{Answer, Empty, Who};
use super::watch::{Decision, Question, Watch, Watched, WireSignal, owner};
use crate::locking::LockInfo;
use crate::sessions::{Signal, home_of_process, session_of_process};

/// How long another node may take to say who waits there. A deadlock is to be found within a second.
const REPORT_LIMIT: Duration = Duration::from_millis(300);
/// How long a view waits for each node.
const VIEW_LIMIT: Duration = Duration::from_secs(2);

/// Called with a signal for a session of this node; whether there is one.
pub(crate) type OnSignal = Box<dyn Fn(Signal) -> bool + Send + Sync>;

#[derive(Default)]
struct Suspects {
    sessions: BTreeSet<u64>,
    searching: bool,
}

/// What a node knows of its sessions' waits elsewhere.
#[derive(Default)]
pub(crate) struct Waits {
    /// How many requests each session has at each node.
    away: Mutex<BTreeMap<(u64, NodeId), u32>>,
    suspects: Mutex<Suspects>,
}

/// A request that is at another node.
pub(crate) struct Away<'a> {
    waits: &'a Waits,
    place: (u64, NodeId),
}

impl Waits {
    /// A session's request goes to a node, where it may have to wait.
    pub(crate) fn leave(&self, session: u64, node: NodeId) -> Away<'_> {
        let place = (session, node);
        *self.away.lock().entry(place).or_default() += 1;
        Away { waits: self, place }
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let mut away = self.waits.away.lock();
        if let Some(count) = away.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                away.remove(&self.place);
            }
        }
    }
}

impl Cluster {
    /// Has waiters' suspicions looked into.
    pub(super) fn search_when_suspected(self: &Arc<Self>) {
        let cluster = Arc::downgrade(self);
        self.core.locks.on_suspicion(Box::new(move |session| {
            if let Some(cluster) = cluster.upgrade() {
                cluster.suspect(session);
            }
        }));
    }

    fn suspect(self: &Arc<Self>, session: u64) {
        let mut suspects = self.waits.suspects.lock();
        suspects.sessions.insert(session);
        if !suspects.searching {
            suspects.searching = true;
            tokio::spawn(Arc::clone(self).search_all());
        }
    }

    async fn search_all(self: Arc<Self>) {
        loop {
            let sessions = {
                let mut suspects = self.waits.suspects.lock();
                suspects.searching = !suspects.sessions.is_empty();
                if !suspects.searching {
                    return;
                }
                std::mem::take(&mut suspects.sessions)
            };
            self.search(sessions).await;
        }
    }

    async fn search(&self, sessions: BTreeSet<u64>) {
        let first = self.gather(&sessions).await;
        if first.is_local() {
            return;
        }
        let found = cycles(&first.waits());
        if found.is_empty() {
            return;
        }
        let now = self.gather(&sessions).await.waits();
        for cycle in found.into_iter().filter(|cycle| cycle.is_confirmed_by(&now)) {
            self.decide(cycle).await;
        }
    }

    async fn gather(&self, sessions: &BTreeSet<u64>) -> Gathering {
        let me = self.core.node;
        let mut gathering = Gathering::new(me, self.report(), sessions.iter().copied());
        loop {
            let next = gathering.next();
            if next.is_empty() {
                return gathering;
            }
            let asked = next
                .into_iter()
                .map(|node| async move { (node, self.report_of(node, REPORT_LIMIT).await) });
            for (node, report) in join_all(asked).await {
                gathering.heard(node, report);
            }
        }
    }

    /// What this node knows.
    fn report(&self) -> Report {
        let node = self.core.node;
        let waits = self.core.locks.waits().into_iter();
        Report {
            waits: waits.map(|(wait, began)| NodeWait { node, began, wait }).collect(),
            away: self.waits.away.lock().keys().copied().collect(),
        }
    }

    async fn report_of(&self, node: NodeId, limit: Duration) -> Option<Report> {
        if node == self.core.node {
            return Some(self.report());
        }
        let watched = self.watch(node, Question::Waits(Empty {}), limit).await?;
        Some(watched.report(node))
    }

    /// Asks a node that lives; no answer in time is none.
    pub(super) async fn watch(
        &self,
        node: NodeId,
        question: Question,
        limit: Duration,
    ) -> Option<Watched> {
        if !self.live().contains(&node) {
            return None;
        }
        self.put(node, question, limit).await
    }

    /// Asks a node, whether it is known to live or not.
    pub(super) async fn put(
        &self,
        node: NodeId,
        question: Question,
        limit: Duration,
    ) -> Option<Watched> {
        let tried = self.try_at(node, encode(question.op()), Class::Kv);
        match tokio::time::timeout(limit, tried).await {
            Ok(Tried::Answer(Answer::Watched(watched))) => Some(watched),
            _ => None,
        }
    }

    /// Has a verdict carried out where its waiter is.
    async fn decide(&self, cycle: Cycle) {
        let Cycle { node, waiter, owner, verdict, .. } = cycle;
        if node == self.core.node {
            self.core.locks.decide(waiter, owner, &verdict);
            return;
        }
        let detail = match verdict {
            Verdict::Wait => return,
            Verdict::Promote(_) => None,
            Verdict::Deadlock { detail } => Some(detail),
        };
        let who = Who { txn: owner.id, session: owner.session };
        let decision = Decision { waiter: waiter.0, who, detail };
        // If this gets lost, the next search finds the cycle again.
        let _ = self.watch(node, Question::Decide(decision), REPORT_LIMIT).await;
    }

    /// The processes that keep this one waiting.
    pub(crate) async fn blocking(&self, process: u32) -> Vec<u32> {
        let (session, home) = (session_of_process(process), home_of_process(process));
        let Some(report) = self.report_of(home, VIEW_LIMIT).await else { return Vec::new() };
        let mine = |(whose, node): &(u64, NodeId)| (*whose == session).then_some(*node);
        let places: BTreeSet<NodeId> = report.away.iter().filter_map(mine).collect();
        let asked = places.into_iter().map(|node| self.report_of(node, VIEW_LIMIT));
        let elsewhere = join_all(asked).await;
        let mut all = report.waits;
        all.extend(elsewhere.into_iter().flatten().flat_map(|report| report.waits));
        let mut blocking = Vec::new();
        for wait in all.into_iter().filter(|wait| wait.wait.owner.session == session) {
            for (blocker, _) in wait.wait.blockers {
                if blocker.session != session && !blocking.contains(&blocker.process()) {
                    blocking.push(blocker.process());
                }
            }
        }
        blocking
    }

    /// The locks on all nodes that answer. One that is held on several is shown once; it counts as
    /// granted when it is on all of them.
    pub(crate) async fn locks_everywhere(&self) -> Vec<LockInfo> {
        let others = self.live().into_iter().filter(|node| *node != self.core.node);
        let asked = others.map(|node| self.watch(node, Question::Locks(Empty {}), VIEW_LIMIT));
        let elsewhere = join_all(asked).await;
        let mut all = self.core.locks.view();
        all.extend(elsewhere.into_iter().flatten().flat_map(Watched::locks));
        all.sort();
        all.dedup_by(|next, kept| {
            let same = LockInfo { granted: kept.granted, ..next.clone() } == *kept;
            kept.granted &= !same || next.granted;
            same
        });
        all
    }

    /// Sets who hears of signals.
    pub(crate) fn on_signal(&self, heard: OnSignal) {
        // Sessions are kept in one place; a second listener would be a mistake of the caller.
        let _ = self.on_signal.set(heard);
    }

    /// Passes a signal on to the node of its session: whether there is such a session.
    pub(crate) async fn signal(&self, signal: Signal) -> bool {
        let node = home_of_process(signal.process);
        if node == self.core.node {
            return self.signalled(signal);
        }
        let Signal { process, terminate, secret } = signal;
        let question = Question::Signal(WireSignal { process, terminate, secret });
        self.watch(node, question, VIEW_LIMIT).await.is_some_and(|answer| answer.found)
    }

    pub(crate) fn signalled(&self, signal: Signal) -> bool {
        self.on_signal.get().is_some_and(|heard| heard(signal))
    }

    pub(super) fn serve_watch(self: &Arc<Self>, from: NodeId, watch: Watch) -> Option<Watched> {
        Some(match watch.question? {
            Question::Waits(Empty {}) => Watched::of_report(self.report()),
            Question::Locks(Empty {}) => Watched::of_locks(self.core.locks.view()),
            Question::Decide(Decision { waiter, who, detail }) => {
                let waiter = WaiterId(waiter);
                let verdict = match detail {
                    Some(detail) => Verdict::Deadlock { detail },
                    None => Verdict::Promote(waiter),
                };
                Watched::found(self.core.locks.decide(waiter, owner(&who), &verdict))
            }
            Question::Signal(WireSignal { process, terminate, secret }) => {
                Watched::found(self.signalled(Signal { process, terminate, secret }))
            }
            Question::Keep(keep) => Watched::found(self.serve_keep(from, keep)),
            Question::Roll(epoch) => self.serve_roll(epoch),
        })
    }
}
