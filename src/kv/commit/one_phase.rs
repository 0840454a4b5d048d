//! The gateway's side of a commit in one range, on another node.
//!
//! The request has a name ([`crate::range::Origin`]), so it may be sent again: it happens once. While
//! nobody answers it is sent again; then the range is asked what became of it, which also prevents it
//! from happening later. Only a range that can't be asked, or has forgotten, leaves the outcome open.
//!
//! A conflict is the end if the request was sent once, since the transport delivers a message at most
//! once. After a second copy only the range knows whether one of them succeeded.

use super::{Patience, Verdict};
use crate::api::{KvError, Timestamp};
use crate::range::{Outcome, Refused};

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnePhaseAction {
    /// Send the commit to the leaseholder; every time with the same [`sent`](crate::range::Origin::sent).
    Commit,
    /// Send it with a new `sent`, later than this: there is no other copy.
    CommitAnew(Timestamp),
    /// Ask the leaseholder for the outcome.
    Ask,
    /// Answer the client, and forget the machine.
    Tell(Verdict),
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnePhaseAnswer {
    /// It is committed, or never will be; durably.
    Ended(Outcome),
    /// Not sequenced.
    Refused(Refused),
    /// The range has forgotten.
    Unknown,
}

/// A commit in one range.
#[derive(Clone, Debug)]
pub struct OnePhase {
    patience: Patience,
    ticks: u32,
    copies: u32,
    asking: bool,
    failure: Option<KvError>,
    told: bool,
}

impl OnePhase {
    /// Begins to commit.
    pub fn begin(patience: Patience, out: &mut Vec<OnePhaseAction>) -> OnePhase {
        out.push(OnePhaseAction::Commit);
        OnePhase { patience, ticks: 0, copies: 1, asking: false, failure: None, told: false }
    }

    /// The leaseholder has answered.
    pub fn answer(&mut self, answer: OnePhaseAnswer, out: &mut Vec<OnePhaseAction>) {
        match answer {
            OnePhaseAnswer::Ended(outcome) => self.ended(outcome, out),
            OnePhaseAnswer::Unknown => self.tell(Verdict::Ambiguous, out),
            OnePhaseAnswer::Refused(refused) => match refused {
                Refused::Decided(outcome) => self.ended(outcome, out),
                Refused::Wait(_) | Refused::Busy | Refused::NoLease | Refused::InFlight(_) => {}
                // No copy has been sequenced, none will be.
                Refused::Expired => self.tell(Verdict::Failed(refused.into()), out),
                Refused::Error(error) if self.copies == 1 => self.tell(Verdict::Failed(error), out),
                Refused::Error(error) => {
                    self.failure = Some(error);
                    self.ask(out);
                }
                // A new range, or a new replica of it, which knows nothing of what was before.
                Refused::Forgotten(floor) if self.copies == 1 => {
                    out.push(OnePhaseAction::CommitAnew(floor));
                }
                Refused::Forgotten(_) => self.ask(out),
            },
        }
    }

    /// Some time has passed.
    pub fn tick(&mut self, out: &mut Vec<OnePhaseAction>) {
        if self.told {
            return;
        }
        self.ticks += 1;
        if self.asking {
            match self.ticks > self.patience.ask {
                true => self.tell(Verdict::Ambiguous, out),
                false => out.push(OnePhaseAction::Ask),
            }
        } else if self.ticks > self.patience.prepare {
            self.ask(out);
        } else {
            self.copies += 1;
            out.push(OnePhaseAction::Commit);
        }
    }

    fn ask(&mut self, out: &mut Vec<OnePhaseAction>) {
        if !self.asking {
            (self.asking, self.ticks) = (true, 0);
            out.push(OnePhaseAction::Ask);
        }
    }

    fn ended(&mut self, outcome: Outcome, out: &mut Vec<OnePhaseAction>) {
        let verdict = match outcome {
            Outcome::Committed(ts) => Verdict::Committed(ts),
            Outcome::Aborted => {
                let prevented = || Refused::Decided(Outcome::Aborted).into();
                Verdict::Failed(self.failure.take().unwrap_or_else(prevented))
            }
        };
        self.tell(verdict, out);
    }

    fn tell(&mut self, verdict: Verdict, out: &mut Vec<OnePhaseAction>) {
        if !std::mem::replace(&mut self.told, true) {
            out.push(OnePhaseAction::Tell(verdict));
        }
    }
}
