//! Guards of catalogs on their way ([`meridian_kv::fence`] has the rules): each node asks the leaseholder of the
//! first range for one several times in its length, definers ask whom they have to lock, and a definition is
//! let through by the first range's leaseholder, just before it gets its timestamp there.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use meridian_base::{Instant, NodeId};
use meridian_kv::api::KvError;
use meridian_kv::fence::{Asked as FenceAsked, Fences, Guard, Hold, Member, RENEW, Wanted};
use meridian_rpc::Class;
use parking_lot::Mutex;

use super::ask::{Tried, encode, unexpected};
use super::messages::{Answer, Empty, Op};
use super::serve::{Served, unknown};
use super::{Asked, Cluster, FIRST_KEY};
use crate::commit::CommitError;
use crate::lease::Home;
use crate::locking::WaitLimits;
use crate::range::Range;

/// Between two requests for a guard while there is none.
const AGAIN: Duration = Duration::from_millis(20);
/// For so long an answer is waited for: a third of a guard, so that another leaseholder can be asked in time.
const ANSWER: Duration = Duration::from_millis(500);
/// How long a definition that is committed waits for who didn't hear of it to lose its guard.
const EXPEL: Duration = Duration::from_secs(5);

/// A question about guards.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FenceQuestion {
    #[prost(oneof = "Question", tags = "1, 2, 3")]
    pub(crate) question: Option<Question>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Question {
    /// The sender asks for a guard.
    #[prost(message, tag = "1")]
    Ask(AskGuard),
    /// Whom has a definer to lock?
    #[prost(message, tag = "2")]
    Wanted(Empty),
    /// A node could not be told of a definition.
    #[prost(uint64, tag = "3")]
    Expel(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct AskGuard {
    /// Names this start of the sender.
    #[prost(fixed64, tag = "1")]
    start: u64,
    /// Until when its catalog was or is the newest.
    #[prost(fixed64, tag = "2")]
    held: u64,
}

/// The answer to a [`FenceQuestion`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct FenceAnswer {
    /// Of a guard: its end; 0: later.
    #[prost(fixed64, tag = "1")]
    until: u64,
    /// The catalog has to be read first.
    #[prost(bool, tag = "2")]
    anew: bool,
    /// Nodes and their starts, and when that was so.
    #[prost(message, optional, tag = "3")]
    wanted: Option<WireFenced>,
    #[prost(bool, tag = "4")]
    partial: bool,
    #[prost(bool, tag = "5")]
    all: bool,
}

/// Where a transaction's strong table locks are held.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WireFenced {
    #[prost(uint64, repeated, tag = "1")]
    nodes: Vec<u64>,
    #[prost(fixed64, repeated, tag = "2")]
    starts: Vec<u64>,
    #[prost(fixed64, tag = "3")]
    epoch: u64,
    #[prost(fixed64, tag = "4")]
    at: u64,
}

/// The nodes on which all strong table locks of a transaction are held, and when it asked for which first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fenced {
    pub(crate) members: BTreeSet<Member>,
    pub(crate) asked: FenceAsked,
}

impl From<&Fenced> for WireFenced {
    fn from(fenced: &Fenced) -> WireFenced {
        WireFenced {
            nodes: fenced.members.iter().map(|member| member.node.0).collect(),
            starts: fenced.members.iter().map(|member| member.start).collect(),
            epoch: fenced.asked.epoch,
            at: fenced.asked.at,
        }
    }
}

impl From<WireFenced> for Fenced {
    fn from(wire: WireFenced) -> Fenced {
        let members = wire.nodes.iter().zip(wire.starts);
        let members = members.map(|(node, start)| Member { node: NodeId(*node), start });
        let asked = FenceAsked { epoch: wire.epoch, at: wire.at };
        Fenced { members: members.collect(), asked }
    }
}

/// What this node knows of guards: as the leaseholder, and of its own.
pub(super) struct Guards {
    fences: Mutex<Fences>,
    /// Names this start of the node.
    pub(super) start: u64,
    /// In tests: this node cannot ask.
    #[cfg(test)]
    pub(super) mute: std::sync::atomic::AtomicBool,
}

impl Guards {
    pub(super) fn new(start: u64, max_offset: Duration) -> Guards {
        Guards {
            fences: Mutex::new(Fences::new(max_offset)),
            start,
            #[cfg(test)]
            mute: std::sync::atomic::AtomicBool::new(false),
        }
    }
}

/// A definition is on its way to its timestamp, until this is dropped.
pub(crate) struct Passing {
    guards: Arc<Guards>,
    name: u64,
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.guards.fences.lock().passed(self.name);
    }
}

/// Keeps this node's guard for as long as there is a store.
pub(super) async fn keep_guard(cluster: Weak<Cluster>) {
    let mut pause = AGAIN;
    loop {
        let Some(core) = cluster.upgrade().map(|cluster| Arc::clone(&cluster.core)) else { return };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = core.fence.wanted.notified() => tokio::time::sleep(AGAIN / 4).await,
        }
        let Some(cluster) = cluster.upgrade() else { return };
        pause = if cluster.renew_guard().await { RENEW } else { AGAIN };
    }
}

/// The gateway's side.
impl Cluster {
    /// Asks for a guard, and reads the catalog if need be; whether this node has got one.
    async fn renew_guard(&self) -> bool {
        #[cfg(test)]
        if self.guards.mute.load(std::sync::atomic::Ordering::Relaxed) {
            return false;
        }
        let fence = &self.core.fence;
        let (forgotten, held) = (fence.forgotten(), fence.until());
        let ask = AskGuard { start: self.guards.start, held };
        let Some(guard) = self.ask_for_guard(ask).await else { return false };
        let until = match guard {
            Guard::Held(until) => until,
            Guard::Anew(until) => {
                // Without a listener there is nothing that could be old.
                if let Some(reading) = self.catalog_changed(bytes::Bytes::new()) {
                    reading.await;
                }
                until
            }
            Guard::Later => return false,
        };
        fence.extend(until, forgotten);
        fence.holds(&self.core.hlc)
    }

    async fn ask_for_guard(&self, ask: AskGuard) -> Option<Guard> {
        let first = self.core.first();
        match first.lease.home(self.core.node, &self.core.hlc) {
            Home::Here(_) => self.grant_guard(self.core.node, ask),
            Home::There(node) => {
                let question = FenceQuestion { question: Some(Question::Ask(ask)) };
                let tried = self.try_at(node, encode(Op::Fence(question)), Class::Kv);
                match tokio::time::timeout(ANSWER, tried).await {
                    Ok(Tried::Answer(Answer::Fence(answer))) => Some(match answer {
                        FenceAnswer { until: 0, .. } => Guard::Later,
                        FenceAnswer { until, anew: true, .. } => Guard::Anew(until),
                        FenceAnswer { until, .. } => Guard::Held(until),
                    }),
                    Ok(Tried::Answer(Answer::NotHere(leader))) => {
                        self.follow(FIRST_KEY, node, leader);
                        None
                    }
                    _ => {
                        self.core.look_elsewhere(FIRST_KEY, Some(node));
                        None
                    }
                }
            }
            Home::Nowhere => {
                self.core.look_elsewhere(FIRST_KEY, None);
                None
            }
        }
    }

    /// Whom a definer has to lock now.
    pub(super) async fn whom_to_lock(&self, limits: &WaitLimits) -> Result<Wanted, KvError> {
        loop {
            let question = FenceQuestion { question: Some(Question::Wanted(Empty {})) };
            match self.core.ask(FIRST_KEY, Op::Fence(question), limits).await? {
                Asked::Here => {
                    if let Some(wanted) = self.wanted_here()? {
                        return Ok(wanted);
                    }
                }
                Asked::Answer(Answer::Fence(answer)) => {
                    let Some(wanted) = answer.wanted else { return Err(unexpected()) };
                    let Fenced { members, asked } = wanted.into();
                    let (partial, all) = (answer.partial, answer.all);
                    return Ok(Wanted { members, partial, all, asked });
                }
                Asked::Answer(_) => return Err(unexpected()),
            }
        }
    }

    /// A node has not heard of a definition that is committed: waits until it can't use its catalog before it
    /// has read it, but not for long.
    pub(super) async fn expel(&self, node: NodeId) {
        let since = Instant::now();
        while since.elapsed() < EXPEL {
            let question = FenceQuestion { question: Some(Question::Expel(node.0)) };
            let asked = self.core.ask(FIRST_KEY, Op::Fence(question), &WaitLimits::default()).await;
            let until = match asked {
                Ok(Asked::Here) => self.expel_here(node),
                Ok(Asked::Answer(Answer::Fence(answer))) => Some(answer.until),
                _ => return,
            };
            if until.is_some_and(|until| self.core.hlc.reading() > until) {
                return;
            }
            tokio::time::sleep(2 * AGAIN).await;
        }
    }
}

/// The leaseholder's side.
impl Cluster {
    /// What is known of guards, if this node leads the first range.
    fn fences<T>(&self, what: impl FnOnce(&mut Fences) -> T) -> Option<T> {
        let mut fences = self.guards.fences.lock();
        let epoch = self.core.first().lease.here(&self.core.hlc)?;
        fences.lead(epoch, self.core.hlc.reading());
        Some(what(&mut fences))
    }

    fn grant_guard(&self, node: NodeId, AskGuard { start, held }: AskGuard) -> Option<Guard> {
        let granted = self.fences(|fences| fences.ask(Member { node, start }, held))?;
        // A lease that has ended meanwhile may have been followed by another one, which knows nothing of this.
        self.core.first().lease.here(&self.core.hlc).map(|_| granted)
    }

    fn wanted_here(&self) -> Result<Option<Wanted>, KvError> {
        let nodes = crate::member::registered(&self.core)?;
        Ok(self.fences(|fences| fences.wanted(&nodes)))
    }

    fn expel_here(&self, node: NodeId) -> Option<u64> {
        self.fences(|fences| fences.expel(node))
    }

    /// Keeps this node from asking.
    #[cfg(test)]
    pub(crate) fn mute(&self, mute: bool) {
        self.guards.mute.store(mute, std::sync::atomic::Ordering::Relaxed);
    }

    pub(super) fn serve_fence(&self, from: NodeId, asked: FenceQuestion) -> Served {
        let not_here = || self.not_here(FIRST_KEY);
        let answer = match asked.question.ok_or_else(|| unknown("question"))? {
            Question::Ask(ask) => match self.grant_guard(from, ask).ok_or_else(not_here)? {
                Guard::Held(until) => FenceAnswer { until, ..FenceAnswer::default() },
                Guard::Anew(until) => FenceAnswer { until, anew: true, ..FenceAnswer::default() },
                Guard::Later => FenceAnswer::default(),
            },
            Question::Wanted(Empty {}) => {
                let wanted = self.wanted_here()?.ok_or_else(not_here)?;
                let Wanted { members, partial, all, asked } = wanted;
                let wanted = Some(WireFenced::from(&Fenced { members, asked }));
                FenceAnswer { wanted, partial, all, ..FenceAnswer::default() }
            }
            Question::Expel(node) => {
                let until = self.expel_here(NodeId(node)).ok_or_else(not_here)?;
                FenceAnswer { until, ..FenceAnswer::default() }
            }
        };
        Ok(Answer::Fence(answer))
    }

    /// A commit under strong table locks is about to get its timestamp in a range that this node leads: lets it
    /// through if that is not the first one, or all nodes that may use these tables are locked.
    pub(crate) fn pass_fence(
        &self,
        range: &Range,
        fenced: Option<&Fenced>,
    ) -> Result<Option<Passing>, CommitError> {
        let first = range.id == self.core.first().id;
        let Some(Fenced { members, asked }) = fenced.filter(|_| first) else { return Ok(None) };
        let nodes = crate::member::registered(&self.core)?;
        let passing = self.fences(|fences| fences.pass(members, *asked, &nodes));
        match passing.ok_or(CommitError::Moved)? {
            Ok(name) => Ok(Some(Passing { guards: Arc::clone(&self.guards), name })),
            Err(Hold::Later) => Err(CommitError::Moved),
            Err(Hold::Lost) => Err(KvError::CONCURRENT_UPDATE.into()),
        }
    }
}
