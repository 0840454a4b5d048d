//! The coordinator of a commit over several ranges, and the recovery that anybody may run instead.
//!
//! ```text
//!            all prepared
//! Preparing ───────────────▶ Resolving Committed(max p) ──▶ settle ──▶ done
//!     │ refused, too long        ▲ all prepared, or a marker says so
//!     ▼                          │
//!   Asking ──────────────────────┴─▶ Resolving Aborted ──▶ done
//!     ▲                 a participant won't be prepared any more
//!   recovery begins here
//! ```
//! The client is told when the outcome is a fact: committed when every record is durable, failed when a
//! durable marker (or the deadline) keeps one participant from ever preparing. The refusal of the only copy
//! of a prepare is such a fact, too: the transport delivers a message at most once, and nobody but the
//! coordinator has the request. After a second copy a refusal says nothing; so a coordinator that wants to
//! abort asks like everybody else, and may find that somebody has decided already. Several recoveries and
//! the coordinator may run at once: they see the same durable facts (see [`crate::range::prepare`]).
//!
//! [`Verdict::Ambiguous`] is for the client only, when a participant can't be asked for too long or has
//! forgotten; the machine goes on until the records are resolved. Time is counted in ticks, which the
//! caller makes as long as it waits before it sends something again.

mod one_phase;
mod plan;

use std::sync::Arc;

use crate::api::{KvError, Timestamp};
use crate::range::{Header, Outcome, PrepareRequest, Refused, Status};
pub use one_phase::{OnePhase, OnePhaseAction, OnePhaseAnswer};
pub use plan::{Part, plan, requests};

/// A message to a participant's leaseholder: the one that has the representative key now.
#[derive(Clone, Debug)]
pub enum Message {
    /// Prepare this; answer when that is durable.
    Prepare(Arc<PrepareRequest>),
    /// What do you know? Answer when that is durable.
    Query,
    /// This is the outcome; answer when it has been applied.
    Resolve(Outcome),
    /// Nobody has a record any more. Needs no answer.
    Settle,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Durably prepared at this timestamp.
    Prepared(Timestamp),
    /// Not prepared.
    Refused(Refused),
    /// The answer to a query.
    Status(Status),
    /// Resolved, or there was nothing to resolve.
    Resolved,
}

/// What the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is committed.
    Committed(Timestamp),
    /// It isn't and won't be.
    Failed(KvError),
    /// Nobody can tell.
    Ambiguous,
}

/// What the caller has to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send this to the participant of this number.
    Send {
        /// Which one.
        to: usize,
        /// What.
        message: Message,
    },
    /// Answer the client; at most once.
    Tell(Verdict),
    /// Over: forget the machine.
    Done,
}

/// How long to wait before a participant that doesn't answer is held to be lost, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For all to be prepared. Half of it and a slow disk aborts transactions; twice it and their
    /// locks are kept so much longer.
    pub prepare: u32,
    /// Then, for the outcome to be known.
    pub ask: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preparing,
    Asking,
    Resolving(Outcome),
    Done,
}

#[derive(Clone, Debug)]
struct Participant {
    request: Option<Arc<PrepareRequest>>,
    /// How often it was sent.
    copies: u32,
    prepared: Option<Timestamp>,
    resolved: bool,
}

/// One attempt to commit, or to find out what became of one.
#[derive(Clone, Debug)]
pub struct Commit {
    header: Header,
    participants: Vec<Participant>,
    phase: Phase,
    /// Why it has to fail, if it does.
    failure: Option<KvError>,
    told: bool,
    ticks: u32,
    patience: Patience,
}

impl Commit {
    /// Begins to commit: one request for each participant, in their order.
    pub fn begin(
        requests: Vec<PrepareRequest>,
        patience: Patience,
        out: &mut Vec<Action>,
    ) -> Commit {
        let header = requests.first().expect("a commit has participants").header.clone();
        assert_eq!(header.participants.len(), requests.len(), "one request for each");
        let participants = requests.into_iter().map(|request| Participant {
            request: Some(Arc::new(request)),
            copies: 0,
            prepared: None,
            resolved: false,
        });
        let mut commit = Commit::new(header, participants.collect(), patience);
        commit.send_again(out);
        commit
    }

    /// Finds out what became of a transaction of which a record was met, and ends it.
    pub fn recover(header: Header, patience: Patience, out: &mut Vec<Action>) -> Commit {
        let mut commit = Commit::of_others(header, patience);
        commit.phase = Phase::Asking;
        commit.send_again(out);
        commit
    }

    /// Tells an outcome, which a record or a marker has, to all participants.
    pub fn finish(
        header: Header,
        outcome: Outcome,
        patience: Patience,
        out: &mut Vec<Action>,
    ) -> Commit {
        let mut commit = Commit::of_others(header, patience);
        commit.decide(outcome, out);
        commit
    }

    fn of_others(header: Header, patience: Patience) -> Commit {
        let nothing = Participant { request: None, copies: 0, prepared: None, resolved: false };
        let participants = vec![nothing; header.participants.len()];
        let mut commit = Commit::new(header, participants, patience);
        commit.told = true;
        commit
    }

    fn new(header: Header, participants: Vec<Participant>, patience: Patience) -> Commit {
        let (phase, failure) = (Phase::Preparing, None);
        Commit { header, participants, phase, failure, told: false, ticks: 0, patience }
    }

    /// The transaction.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Is there nothing left to do?
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The outcome, as soon as it is a fact.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Resolving(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// A participant has answered. Answers may come twice, late, and in any order.
    pub fn answer(&mut self, from: usize, answer: Answer, out: &mut Vec<Action>) {
        match (self.phase, answer) {
            (Phase::Preparing | Phase::Asking, Answer::Prepared(ts)) => {
                self.prepared(from, ts, out);
            }
            (Phase::Asking, Answer::Status(Status::Prepared(ts))) => self.prepared(from, ts, out),
            (Phase::Preparing, Answer::Refused(refused)) => self.refused(from, refused, out),
            (Phase::Asking, Answer::Refused(Refused::Decided(outcome)))
            | (Phase::Asking, Answer::Status(Status::Ended(outcome))) => self.decide(outcome, out),
            (Phase::Asking, Answer::Status(Status::Forgotten)) => {
                self.tell(Verdict::Ambiguous, out);
                self.decide(Outcome::Aborted, out);
            }
            (Phase::Resolving(outcome), Answer::Resolved) => self.resolved(from, outcome, out),
            // Of an earlier phase, or one that changes nothing.
            (
                _,
                Answer::Prepared(_) | Answer::Refused(_) | Answer::Status(_) | Answer::Resolved,
            ) => {}
        }
    }

    /// Some time has passed: sends again what hasn't been answered, and loses patience.
    pub fn tick(&mut self, out: &mut Vec<Action>) {
        self.ticks += 1;
        match self.phase {
            Phase::Preparing if self.ticks > self.patience.prepare => self.ask(out),
            Phase::Asking if self.ticks > self.patience.ask => {
                self.tell(Verdict::Ambiguous, out);
                self.send_again(out);
            }
            Phase::Preparing | Phase::Asking | Phase::Resolving(_) => self.send_again(out),
            Phase::Done => {}
        }
    }

    fn prepared(&mut self, from: usize, ts: Timestamp, out: &mut Vec<Action>) {
        self.participants[from].prepared = Some(ts);
        let all: Option<Vec<Timestamp>> = self.participants.iter().map(|p| p.prepared).collect();
        if let Some(newest) = all.and_then(|all| all.into_iter().max()) {
            self.decide(Outcome::Committed(newest), out);
        }
    }

    fn refused(&mut self, from: usize, refused: Refused, out: &mut Vec<Action>) {
        match refused {
            // Somebody was faster; a marker says so.
            Refused::Decided(outcome) => self.decide(outcome, out),
            // It is worth another try, at the next tick.
            Refused::Wait(_) | Refused::Busy | Refused::NoLease | Refused::InFlight(_) => {}
            Refused::Error(_) | Refused::Expired => {
                self.failure = Some(refused.into());
                match self.participants[from].copies {
                    1 => self.decide(Outcome::Aborted, out),
                    _ => self.ask(out),
                }
            }
            Refused::Forgotten(_) => self.ask(out),
        }
    }

    fn ask(&mut self, out: &mut Vec<Action>) {
        (self.phase, self.ticks) = (Phase::Asking, 0);
        self.send_again(out);
    }

    fn decide(&mut self, outcome: Outcome, out: &mut Vec<Action>) {
        let verdict = match outcome {
            Outcome::Committed(ts) => Verdict::Committed(ts),
            Outcome::Aborted => {
                let reason = "the commit was given up because a range did not answer".into();
                Verdict::Failed(self.failure.take().unwrap_or(KvError::Unavailable { reason }))
            }
        };
        self.tell(verdict, out);
        (self.phase, self.ticks) = (Phase::Resolving(outcome), 0);
        self.send_again(out);
    }

    fn resolved(&mut self, from: usize, outcome: Outcome, out: &mut Vec<Action>) {
        self.participants[from].resolved = true;
        if !self.participants.iter().all(|participant| participant.resolved) {
            return;
        }
        self.phase = Phase::Done;
        if outcome != Outcome::Aborted {
            let all = 0..self.participants.len();
            out.extend(all.map(|to| Action::Send { to, message: Message::Settle }));
        }
        out.push(Action::Done);
    }

    fn tell(&mut self, verdict: Verdict, out: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.told, true) {
            out.push(Action::Tell(verdict));
        }
    }

    /// Sends to each participant what it has yet to answer in this phase.
    fn send_again(&mut self, out: &mut Vec<Action>) {
        for (to, participant) in self.participants.iter_mut().enumerate() {
            let message = match self.phase {
                Phase::Preparing | Phase::Asking if participant.prepared.is_some() => continue,
                Phase::Preparing => {
                    participant.copies += 1;
                    let request = participant.request.clone();
                    Message::Prepare(request.expect("who prepares has a request"))
                }
                Phase::Asking => Message::Query,
                Phase::Resolving(_) if participant.resolved => continue,
                Phase::Resolving(outcome) => Message::Resolve(outcome),
                Phase::Done => continue,
            };
            out.push(Action::Send { to, message });
        }
    }
}

#[cfg(test)]
mod tests;
