//! One machine: a clock that may be wrong, a disk that forgets what wasn't synced, a process.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_base::{NodeId, RangeId, Timestamp};
use meridian_kv::liveness::{Effect, Event, Liveness, Message, Now, Persisted};

use super::LeaseBug;
use super::range::{Around, Outcome, RaftMessage, Range, Vote};

pub(super) const MAX_OFFSET: Duration = Duration::from_millis(250);
/// The wall clocks' time at the beginning.
const EPOCH: u64 = 1_000_000_000;

/// What travels.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Liveness(Message),
    Raft(RangeId, RaftMessage),
}

/// What a step of a node wants from the world.
#[derive(Debug)]
pub(super) enum Wish {
    Send(NodeId, Packet),
    /// Tell me when this is synced: liveness's file, or the votes.
    SyncLiveness,
    SyncVotes,
    /// A bug: acknowledge later.
    AcknowledgeLate(NodeId, RangeId, u64),
    Elected(RangeId, u64, Timestamp),
    Served(RangeId, u64, Timestamp),
}

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) nodes: u64,
    pub(super) bug: Option<LeaseBug>,
    /// How wrong its clock is.
    pub(super) offset: i64,
    pub(super) boots: u64,
    pub(super) paused: bool,
    liveness_disk: Persisted,
    votes_disk: BTreeMap<RangeId, Vote>,
    pub(super) process: Option<Process>,
}

pub(super) struct Process {
    started: u64,
    hlc: Timestamp,
    liveness: Liveness,
    liveness_writing: Option<Persisted>,
    pub(super) ranges: Vec<Range>,
    votes_writing: Option<Writing>,
    waiting: Vec<(NodeId, Packet)>,
    /// What monotonic time a process shows that doesn't notice its sleep.
    last_mono: (u64, u64),
}

/// Votes on their way to disk, and what may be said when they are there.
struct Writing {
    votes: BTreeMap<RangeId, Vote>,
    then: Vec<(NodeId, Packet)>,
}

impl Node {
    pub(super) fn new(id: NodeId, nodes: u64, bug: Option<LeaseBug>) -> Self {
        Self {
            id,
            nodes,
            bug,
            offset: 0,
            boots: 0,
            paused: false,
            liveness_disk: Persisted::default(),
            votes_disk: BTreeMap::new(),
            process: None,
        }
    }

    pub(super) fn start(&mut self, time: u64, ranges: u64) {
        self.boots += 1;
        let mut persisted = self.liveness_disk.clone();
        if self.bug == Some(LeaseBug::ForgetsTheBound) {
            persisted.promise_bound = Timestamp::MIN;
        }
        if self.bug == Some(LeaseBug::KeepsEpochsOverRestart) {
            persisted.epochs.values_mut().for_each(|epoch| *epoch -= 1);
        }
        let range = |id| {
            let id = RangeId(id);
            Range::new(id, self.nodes, self.votes_disk.get(&id).copied().unwrap_or_default())
        };
        let mut liveness = Liveness::new(self.id, persisted, MAX_OFFSET);
        liveness.set_peers((1..=self.nodes).map(NodeId).collect());
        self.process = Some(Process {
            started: time,
            hlc: Timestamp::MIN,
            liveness,
            liveness_writing: None,
            ranges: (1..=ranges).map(range).collect(),
            votes_writing: None,
            waiting: Vec::new(),
            last_mono: (0, 0),
        });
    }

    /// What it reads from its clock, without moving it.
    pub(super) fn hlc(&self, time: u64) -> Timestamp {
        let wall = EPOCH.saturating_add(time).saturating_add_signed(self.offset);
        let last = self.process.as_ref().map_or(Timestamp::MIN, |p| p.hlc);
        Timestamp::from_micros(wall).max(last.next())
    }

    /// Follows a clock; false if it is too far ahead.
    fn hear(&mut self, time: u64, clock: Timestamp) -> bool {
        let wall = EPOCH.saturating_add(time).saturating_add_signed(self.offset);
        let bound = wall + u64::try_from(MAX_OFFSET.as_micros()).expect("short");
        if clock.micros() > bound {
            return false;
        }
        if let Some(process) = &mut self.process {
            process.hlc = process.hlc.max(clock);
        }
        true
    }

    fn now(&mut self, time: u64) -> Now {
        let hlc = self.hlc(time);
        let impatient = self.bug == Some(LeaseBug::Impatient);
        let process = self.process.as_mut().expect("only running nodes are asked");
        process.hlc = hlc;
        let mut mono = 1 + time - process.started;
        if impatient {
            let (real, shown) = process.last_mono;
            let step = (mono - real).min(100_000);
            process.last_mono = (mono, shown + step);
            mono = shown + step;
        }
        Now { hlc, mono }
    }

    pub(super) fn around(&self, time: u64) -> Option<(Around<'_>, &[Range])> {
        let process = self.process.as_ref()?;
        let now = Now { hlc: self.hlc(time), mono: 1 + time - process.started };
        let (liveness, bug) = (&process.liveness, self.bug);
        Some((Around { me: self.id, now, liveness, bug, epoch_on_disk: None }, &process.ranges))
    }

    pub(super) fn leads(&self) -> bool {
        self.process.as_ref().is_some_and(|p| p.ranges.iter().any(|range| range.lead.is_some()))
    }

    /// For whoever has to find out what went wrong.
    pub(super) fn describe(&self, time: u64, range: u64) -> String {
        let Some((around, ranges)) = self.around(time) else { return format!("{}: down", self.id) };
        let free = around.liveness.may_vote(around.now.hlc);
        let range = ranges.iter().find(|r| r.id.0 == range).map(|r| r.describe(&around));
        format!("{}: free {free}, {}", self.id, range.unwrap_or_default())
    }

    pub(super) fn tick(&mut self, time: u64, serves: bool) -> Vec<Wish> {
        let mut now = self.now(time);
        let mut wishes = Vec::new();
        let early = self.bug == Some(LeaseBug::WithdrawsEarly);
        if early {
            now.hlc = Timestamp::from_micros(now.hlc.micros() + 400_000);
        }
        self.liveness(now, Event::Tick, &mut wishes);
        let now = self.now(time);
        for at in 0..self.process.as_ref().map_or(0, |p| p.ranges.len()) {
            self.range(at, now, time, &mut wishes, None, |range, around| range.tick(around));
        }
        if serves && let Some((around, ranges)) = self.around(time) {
            for range in ranges.iter().filter(|range| range.usable(&around)) {
                let expiration = range.expiration(self.id, around.liveness);
                if let Some(lead) = &range.lead
                    && expiration.is_some_and(|expiration| around.now.hlc < expiration)
                {
                    wishes.push(Wish::Served(range.id, lead.term, around.now.hlc));
                }
            }
        }
        wishes
    }

    pub(super) fn receive(
        &mut self,
        time: u64,
        from: NodeId,
        clock: Timestamp,
        packet: Packet,
    ) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let silent = self.bug == Some(LeaseBug::VotesWithoutClock)
            && matches!(packet, Packet::Raft(_, RaftMessage::Granted { .. }));
        if !silent && !self.hear(time, clock) {
            return wishes;
        }
        let now = self.now(time);
        match packet {
            Packet::Liveness(message) => {
                self.liveness(now, Event::Received(from, message), &mut wishes);
            }
            Packet::Raft(id, message) => {
                let at = usize::try_from(id.0 - 1).expect("few ranges");
                let act =
                    |range: &mut Range, around: &Around<'_>| range.receive(from, message, around);
                self.range(at, now, time, &mut wishes, Some(from), act);
            }
        }
        wishes
    }

    fn liveness(&mut self, now: Now, event: Event, wishes: &mut Vec<Wish>) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let Some(process) = &mut self.process else { return };
            for effect in process.liveness.step(now, event) {
                match effect {
                    Effect::Send(to, message) => {
                        wishes.push(Wish::Send(to, Packet::Liveness(message)));
                    }
                    Effect::Persist(persisted) => {
                        assert!(process.liveness_writing.is_none(), "one write at a time");
                        process.liveness_writing = Some(persisted);
                        wishes.push(Wish::SyncLiveness);
                        if self.bug == Some(LeaseBug::ActsBeforeSync) {
                            events.push(Event::Persisted);
                            process.liveness_writing = None;
                        }
                    }
                    Effect::Withdrawn(..) => {}
                }
            }
        }
    }

    pub(super) fn liveness_synced(&mut self, time: u64) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let written = self.process.as_mut().and_then(|p| p.liveness_writing.take());
        if let Some(persisted) = written {
            self.liveness_disk = persisted;
            let now = self.now(time);
            self.liveness(now, Event::Persisted, &mut wishes);
        }
        wishes
    }

    /// With the bug the disk follows now and then only.
    pub(super) fn sync_behind(&mut self, persisted: Persisted) {
        self.liveness_disk = persisted;
    }

    pub(super) fn wanted(&self) -> Option<Persisted> {
        self.process.as_ref().map(|p| p.liveness.durable().clone())
    }

    pub(super) fn log_stalled(&mut self, time: u64, stalled: bool) -> Vec<Wish> {
        let mut wishes = Vec::new();
        if self.process.is_some() {
            let now = self.now(time);
            self.liveness(now, Event::LogStalled(stalled), &mut wishes);
        }
        wishes
    }

    fn range(
        &mut self,
        at: usize,
        now: Now,
        time: u64,
        wishes: &mut Vec<Wish>,
        from: Option<NodeId>,
        act: impl FnOnce(&mut Range, &Around<'_>) -> Outcome,
    ) {
        let (me, bug) = (self.id, self.bug);
        let epoch_on_disk = from.and_then(|from| self.liveness_disk.epochs.get(&from).copied());
        let Some(process) = &mut self.process else { return };
        let around = Around { me, now, liveness: &process.liveness, bug, epoch_on_disk };
        let range = &mut process.ranges[at];
        let before = range.vote;
        let outcome = act(range, &around);
        let id = range.id;
        if outcome.elected {
            let start_ts = self.hlc(time);
            let process = self.process.as_mut().expect("it is running");
            process.hlc = start_ts;
            process.ranges[at].lead();
            wishes.push(Wish::Elected(id, process.ranges[at].vote.term, start_ts));
        }
        let process = self.process.as_mut().expect("it is running");
        let dirty = process.ranges[at].vote != before;
        wishes.extend(outcome.sends.into_iter().map(|(to, m)| Wish::Send(to, Packet::Raft(id, m))));
        for (to, message) in outcome.replies {
            if let (RaftMessage::Appended { term, .. }, Some(LeaseBug::ReadsEpochLate)) =
                (&message, bug)
            {
                wishes.push(Wish::AcknowledgeLate(to, id, *term));
            } else if dirty || process.votes_writing.is_some() || !process.waiting.is_empty() {
                process.waiting.push((to, Packet::Raft(id, message)));
            } else {
                wishes.push(Wish::Send(to, Packet::Raft(id, message)));
            }
        }
        if dirty || !process.waiting.is_empty() {
            process.write_votes(wishes);
        }
    }

    pub(super) fn votes_synced(&mut self) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let Some(process) = &mut self.process else { return wishes };
        let Some(Writing { votes, then }) = process.votes_writing.take() else { return wishes };
        self.votes_disk = votes;
        wishes.extend(then.into_iter().map(|(to, packet)| Wish::Send(to, packet)));
        let behind = process.ranges.iter().any(|r| self.votes_disk.get(&r.id) != Some(&r.vote));
        if behind || !process.waiting.is_empty() {
            process.write_votes(&mut wishes);
        }
        wishes
    }

    /// With the bug: what goes with an acknowledgement is read when it is sent.
    pub(super) fn late(&mut self, to: NodeId, range: RangeId, term: u64) -> Vec<Wish> {
        let Some(process) = &self.process else { return Vec::new() };
        let fort = process.liveness.support_epoch(to);
        vec![Wish::Send(to, Packet::Raft(range, RaftMessage::Appended { term, fort }))]
    }
}

impl Process {
    fn write_votes(&mut self, wishes: &mut Vec<Wish>) {
        if self.votes_writing.is_none() {
            let votes = self.ranges.iter().map(|range| (range.id, range.vote)).collect();
            let then = std::mem::take(&mut self.waiting);
            self.votes_writing = Some(Writing { votes, then });
            wishes.push(Wish::SyncVotes);
        }
    }
}
