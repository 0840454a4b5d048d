//! Who is alive, as promises between nodes: the ground that leases stand on.
//!
//! Every node asks every other for *support* until some time of the hybrid clock, ten times a
//! second. Support is a promise: until that time the supporter will not help another node to power
//! over what the supported one leads. It ends by itself; nobody can take it back before.
//!
//! ```text
//! N ── Heartbeat { epoch 5, until 12.6 } ──▶ v          v notes: N is supported, epoch 5, until 12.6
//! N ◀── Ack { epoch 5, until 12.6 } ──────── v          N notes: v supports me, epoch 5, until 12.6
//!                                            v at 12.6: withdraws: epoch 6, synced to disk, then told
//! ```
//! | rule | why |
//! |---|---|
//! | an epoch ends only after its support has run out, and never comes back | a lease counts support of one epoch |
//! | a change of an epoch is on disk before anybody is told or votes by it | a crash must not undo a withdrawal |
//! | support, given or asked for, never reaches beyond a bound that is on disk | after a restart nobody knows what was promised, and served with others' support: until the bound, everything was |
//! | a restart raises all epochs, given and asked for | what was counted before counts no more |
//! | who has slept gives the others one heartbeat's time | the machine stalled, not they |
//!
//! Epochs are `incarnation of the supported node << 20 | withdrawals`, which keeps them rising over
//! restarts of either side. This machine decides; carrying out is the caller's: [`Effect::Persist`]
//! is answered by [`Event::Persisted`], one at a time. [`crate::lease`] makes leases of it.

mod delays;
mod message;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meridian_base::{NodeId, Timestamp};

use delays::Delays;
pub use message::{Message, Persisted, View};

/// Between two heartbeats.
pub const HEARTBEAT: Duration = Duration::from_millis(100);
/// How often [`Event::Tick`] should come: half a heartbeat, as each costs a wake-up that an idle node pays.
pub const TICK: Duration = Duration::from_millis(50);
/// Support is asked for at least this long.
pub const SUPPORT_MIN: Duration = Duration::from_millis(600);
/// And at most this long.
pub const SUPPORT_MAX: Duration = Duration::from_secs(3);
/// Ticks further apart than this mean that the node slept.
pub const OVERSLEPT: Duration = Duration::from_millis(150);
/// The bound on disk is raised this far beyond what is promised …
const BOUND_AHEAD: Duration = Duration::from_secs(1);
/// … as soon as less than this is left, so that nobody waits for the disk.
const BOUND_MARGIN: Duration = Duration::from_millis(300);
/// Withdrawals that fit into an incarnation.
const WITHDRAWAL_BITS: u32 = 20;

/// What time it is for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The hybrid clock, following every message that was received.
    pub hlc: Timestamp,
    /// Monotonic microseconds of this process.
    pub mono: u64,
}

/// What a peer promises this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Support {
    /// Counts only together with acknowledgements of the same epoch.
    pub epoch: u64,
    /// The promise holds before this time.
    pub expiration: Timestamp,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed. Whatever was received comes first.
    Tick,
    /// A message came; the clock has followed it.
    Received(NodeId, Message),
    /// What [`Effect::Persist`] asked for is synced.
    Persisted,
    /// The device of the raft log doesn't sync any more, or does again.
    LogStalled(bool),
    /// Something hints that this peer is gone or back: ask it now.
    Probe(NodeId),
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A message for a peer.
    Send(NodeId, Message),
    /// To be written and synced, then [`Event::Persisted`]. There is never a second one meanwhile.
    Persist(Persisted),
    /// The support of this node up to the epoch before this one is over, durably.
    Withdrawn(NodeId, u64),
}

/// What this node promises a peer.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    /// `MIN` = nothing in the present epoch.
    until: Timestamp,
    /// What was asked for in the present epoch.
    asked: Timestamp,
}

/// One node's liveness.
#[derive(Clone, Debug)]
pub struct Liveness {
    me: NodeId,
    max_offset: Duration,
    peers: BTreeSet<NodeId>,
    /// On disk.
    durable: Persisted,
    /// Should be on disk.
    wanted: Persisted,
    /// On its way to disk.
    writing: Option<Persisted>,
    /// Up to here anything may have been promised before the start.
    boot_bound: Timestamp,
    started: bool,
    given: BTreeMap<NodeId, Given>,
    received: BTreeMap<NodeId, Support>,
    views: BTreeMap<NodeId, BTreeMap<NodeId, View>>,
    log_stalled: bool,
    last_tick: Option<u64>,
    next_heartbeat: u64,
    patient_until: u64,
    /// The last heartbeats asked for less than they should, for want of a bound on disk.
    cut_short: bool,
    delays: Delays,
}

impl Liveness {
    /// A node that starts, with what it had on disk.
    #[must_use]
    pub fn new(me: NodeId, persisted: Persisted, max_offset: Duration) -> Self {
        let mut wanted = persisted.clone();
        wanted.incarnation += 1;
        for epoch in wanted.epochs.values_mut() {
            *epoch += 1;
        }
        Self {
            me,
            max_offset,
            peers: BTreeSet::new(),
            boot_bound: persisted.promise_bound,
            durable: persisted,
            wanted,
            writing: None,
            started: false,
            given: BTreeMap::new(),
            received: BTreeMap::new(),
            views: BTreeMap::new(),
            log_stalled: false,
            last_tick: None,
            next_heartbeat: 0,
            patient_until: 0,
            cut_short: false,
            delays: Delays::default(),
        }
    }

    /// The nodes that this one needs support of: those that it shares ranges with.
    pub fn set_peers(&mut self, peers: BTreeSet<NodeId>) {
        self.peers = peers;
        self.peers.remove(&self.me);
    }

    /// Takes an event.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Tick => self.tick(now, &mut effects),
            Event::Received(from, Message::Heartbeat { epoch, until, sent, views }) => {
                self.views.insert(from, views.into_iter().collect());
                if self.started && until > Timestamp::MIN {
                    self.asked(now, from, Support { epoch, expiration: until }, sent, &mut effects);
                }
            }
            Event::Received(from, Message::Ack { epoch, until, echo }) => {
                self.answered(now, from, Support { epoch, expiration: until }, echo, &mut effects);
            }
            Event::Persisted => self.persisted(now, &mut effects),
            Event::LogStalled(stalled) => self.log_stalled = stalled,
            Event::Probe(peer) => self.heartbeat(now, peer, &mut effects),
        }
        self.persist(&mut effects);
        effects
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let slept = self.last_tick.map_or(0, |last| now.mono.saturating_sub(last));
        self.last_tick = Some(now.mono);
        self.delays.overslept(slept.saturating_sub(micros(TICK)));
        if slept > micros(OVERSLEPT) {
            self.patient_until = now.mono + micros(HEARTBEAT);
        }
        if !self.log_stalled && !self.peers.is_empty() {
            self.reach(after(now.hlc, self.support_timeout()));
        }
        if !self.started {
            return;
        }
        if now.mono >= self.patient_until {
            for (node, given) in &mut self.given {
                if given.until > Timestamp::MIN && now.hlc >= given.until {
                    *given = Given::default();
                    *self.wanted.epochs.entry(*node).or_default() += 1;
                }
            }
        }
        if now.mono >= self.next_heartbeat {
            self.next_heartbeat = now.mono + micros(HEARTBEAT);
            self.delays.next_interval();
            self.cut_short = after(now.hlc, self.support_timeout()) > self.durable.promise_bound;
            self.broadcast(now, effects);
        }
    }

    /// Has the bound on disk raised, if it doesn't lie well beyond this time.
    fn reach(&mut self, until: Timestamp) {
        if after(until, BOUND_MARGIN) > self.wanted.promise_bound {
            self.wanted.promise_bound = after(until, BOUND_AHEAD);
        }
    }

    fn broadcast(&self, now: Now, effects: &mut Vec<Effect>) {
        for peer in &self.peers {
            self.heartbeat(now, *peer, effects);
        }
    }

    fn heartbeat(&self, now: Now, peer: NodeId, effects: &mut Vec<Effect>) {
        if !self.started || !self.peers.contains(&peer) {
            return;
        }
        // Within the bound: a lease ends before it, and so does what is served. A next start of this
        // node, whose clock may be behind, neither votes nor leads until then.
        let until = after(now.hlc, self.support_timeout()).min(self.durable.promise_bound);
        let asks = !self.log_stalled && until > now.hlc;
        let until = if asks { until } else { Timestamp::MIN };
        let views = self.durable.epochs.iter().map(|(node, epoch)| {
            // Until a withdrawal is on disk this node does not vote for others: a candidate that hears of it
            // sooner asks in vain, and loses the time of a round.
            let supported = *node == self.me || self.promises(*node, *epoch);
            (*node, View { epoch: *epoch, supported })
        });
        let (epoch, views) = (self.epoch_towards(peer), views.collect());
        let message = Message::Heartbeat { epoch, until, sent: now.mono, views };
        effects.push(Effect::Send(peer, message));
    }

    /// The epoch that this node asks a peer to support.
    fn epoch_towards(&self, peer: NodeId) -> u64 {
        let learnt = self.received.get(&peer).map_or(0, |support| support.epoch);
        learnt.max(self.wanted.incarnation << WITHDRAWAL_BITS)
    }

    /// How long the next heartbeat asks for support.
    pub fn support_timeout(&self) -> Duration {
        (self.delays.p99() * 6 + self.max_offset).clamp(SUPPORT_MIN, SUPPORT_MAX)
    }

    /// A peer asks for support.
    fn asked(
        &mut self,
        now: Now,
        from: NodeId,
        request: Support,
        sent: u64,
        effects: &mut Vec<Effect>,
    ) {
        if request.expiration > after(now.hlc, SUPPORT_MAX + self.max_offset) {
            return;
        }
        let epoch = self.wanted.epochs.entry(from).or_default();
        let given = self.given.entry(from).or_default();
        if request.epoch > *epoch {
            if now.hlc < given.until {
                return;
            }
            *epoch = request.epoch;
            *given = Given::default();
        }
        if request.epoch == *epoch {
            given.asked = given.asked.max(request.expiration);
            let asked = given.asked;
            self.reach(asked);
        }
        self.grant(from);
        self.acknowledge(from, sent, effects);
    }

    /// Promises what was asked for, as far as the disk allows.
    fn grant(&mut self, node: NodeId) {
        let settled = self.durable.epochs.get(&node) == self.wanted.epochs.get(&node);
        if let Some(given) = self.given.get_mut(&node)
            && settled
        {
            given.until = given.until.max(given.asked.min(self.durable.promise_bound));
        }
    }

    /// Tells a node what it is promised, if its epoch is on disk.
    fn acknowledge(&self, node: NodeId, echo: u64, effects: &mut Vec<Effect>) {
        if let Some(epoch) = self.durable.epochs.get(&node)
            && self.wanted.epochs.get(&node) == Some(epoch)
        {
            let until = self.given.get(&node).map_or(Timestamp::MIN, |given| given.until);
            effects.push(Effect::Send(node, Message::Ack { epoch: *epoch, until, echo }));
        }
    }

    /// A peer has answered.
    fn answered(
        &mut self,
        now: Now,
        from: NodeId,
        promise: Support,
        echo: u64,
        effects: &mut Vec<Effect>,
    ) {
        if echo > 0 && echo <= now.mono {
            self.delays.round_trip(now.mono - echo);
        }
        let asked = self.epoch_towards(from);
        if promise.epoch < asked {
            return;
        }
        let known = self.received.entry(from).or_default();
        if promise.epoch > known.epoch {
            *known = promise;
            if promise.expiration == Timestamp::MIN {
                self.heartbeat(now, from, effects);
            }
        } else {
            known.expiration = known.expiration.max(promise.expiration);
        }
    }

    fn persist(&mut self, effects: &mut Vec<Effect>) {
        if self.writing.is_none() && self.wanted != self.durable {
            self.writing = Some(self.wanted.clone());
            effects.push(Effect::Persist(self.wanted.clone()));
        }
    }

    fn persisted(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(written) = self.writing.take() else { return };
        let before = std::mem::replace(&mut self.durable, written);
        if !self.started {
            self.started = true;
            return self.broadcast(now, effects);
        }
        let mut news = std::mem::take(&mut self.cut_short);
        let nodes: Vec<NodeId> = self.durable.epochs.keys().copied().collect();
        for node in nodes {
            let epoch = self.durable.epochs[&node];
            let changed = before.epochs.get(&node) != Some(&epoch);
            if changed && before.epochs.contains_key(&node) {
                news = true;
                effects.push(Effect::Withdrawn(node, epoch));
            }
            let promised = self.given.get(&node).map(|given| given.until);
            self.grant(node);
            if changed || self.given.get(&node).map(|given| given.until) != promised {
                self.acknowledge(node, 0, effects);
            }
        }
        if news {
            self.broadcast(now, effects);
        }
    }

    /// Whether this node supports another at present.
    pub fn supported(&self, node: NodeId) -> bool {
        node == self.me || self.support_epoch(node).is_some()
    }

    /// The epoch in which this node supports another: what goes with acknowledgements of appended
    /// entries. HAZARD: read it *before* the entries are appended. Read afterwards, it could belong
    /// to support that was given after a vote for somebody else.
    pub fn support_epoch(&self, node: NodeId) -> Option<u64> {
        let epoch = self.durable.epochs.get(&node)?;
        let given = self.given.get(&node)?;
        let settled = self.wanted.epochs.get(&node) == Some(epoch);
        // Without support there is no promise, and no epoch to be counted on.
        (settled && given.until > Timestamp::MIN).then_some(*epoch)
    }

    /// Whether support of this epoch still binds this node: it is until the withdrawal is on disk.
    pub fn promises(&self, node: NodeId, epoch: u64) -> bool {
        let withdrawing = self.wanted.epochs.get(&node) != self.durable.epochs.get(&node);
        self.durable.epochs.get(&node) == Some(&epoch)
            && (withdrawing || self.support_epoch(node).is_some())
    }

    /// Whether this node may vote or campaign at all: not as long as a promise from before its
    /// start may hold.
    pub fn may_vote(&self, now: Timestamp) -> bool {
        self.started && now >= self.boot_bound
    }

    /// What a peer promises this node.
    pub fn support_from(&self, peer: NodeId) -> Support {
        self.received.get(&peer).copied().unwrap_or_default()
    }

    /// Whether, by what it last said, a peer no longer supports the incarnation of a node that it
    /// (or this node) supported with this epoch. A hint: the peer itself decides when it votes. Nobody
    /// withdraws from itself: a dead leader that counted among those that gave it up would call candidates
    /// before the living can vote for them.
    pub fn has_withdrawn(&self, peer: NodeId, from: NodeId, epoch: u64) -> bool {
        if peer == from {
            return false;
        }
        let view = self.views.get(&peer).and_then(|views| views.get(&from));
        view.is_none_or(|v| !v.supported || v.epoch >> WITHDRAWAL_BITS > epoch >> WITHDRAWAL_BITS)
            && self.views.contains_key(&peer)
    }

    /// What is on disk.
    pub fn durable(&self) -> &Persisted {
        &self.durable
    }

    /// This start of the node; rises with every start, and is valid once it is persisted.
    pub fn incarnation(&self) -> u64 {
        self.wanted.incarnation
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn after(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_micros(time.micros().saturating_add(micros(by)))
}
