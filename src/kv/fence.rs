//! Who may use which form of a table: guards that gateways hold, and definitions that have to respect them.
//!
//! ```text
//! gateway                                        leaseholder of the first range: Fences
//!   │── ask (held until 7) ──────────────────────▶ no definition without my lock since? held until 9
//!   ◀── anew (until 9): read the catalog, then ──  there has been one, or it isn't known
//!
//! definer: which nodes have to be locked? ───────▶ all whose guards may still hold
//!          … reads, fills, checks …
//!          commit: locked {1, 2}, asked at 4 ────▶ has 3 had a guard since? refused; else 3 has missed it
//! ```
//! A *guard* is a promise of the first range's leaseholder to a node: until some time of the clock no definition
//! is committed but by who has locked its tables on that node. A node uses its catalog only under a guard: no
//! statement begins, ends or is committed (a commit carries the guard's end as its deadline) without one.
//!
//! | rule | why |
//! |---|---|
//! | a definer locks every node whose guard may still hold, before it reads anything | rows that are written by the old form are seen by what it fills and checks |
//! | it is refused if a node that it hasn't locked has had a guard since | such a node has used the old form |
//! | who has missed a definition gets its next guard *anew*: it reads the catalog after that has begun | the catalog that it had isn't the newest |
//! | while a definition is on its way to its timestamp, nobody whom it hasn't locked gets a guard | it would read the catalog too early |
//! | a new leaseholder believes a guard of its predecessor's that reaches into its lease | before its end no definition without that node was committed |
//! | and takes whoever hasn't asked yet for guarded, until all such guards have run out | nothing of them is in the log |
//! | a lock counts with the start of the node's process that holds it | a process that ends loses locks |
//!
//! "May still hold" means that this clock is not yet past the guard's end by as much as clocks may differ. The
//! machine keeps no time, sends nothing and knows no table.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meridian_base::NodeId;

/// How long a guard lasts. A definition waits for that if a node has just died; who asks three times within it
/// keeps its guard on busy machines, too.
pub const GUARD: Duration = Duration::from_millis(1_500);
/// A guard is asked for again after so long.
pub const RENEW: Duration = Duration::from_millis(400);

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// One start of a node's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Names the start.
    pub start: u64,
}

/// The answer to who asks for a guard. Times are microseconds of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The catalog that the node has is the newest, and will be until then.
    Held(u64),
    /// What the node reads of the catalog from now on will be the newest until then.
    Anew(u64),
    /// To be asked for again soon.
    Later,
}

/// The nodes that a definer has to lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Those that may have a guard.
    pub members: BTreeSet<Member>,
    /// There may be others, of which more will be known soon: it has to ask again.
    pub partial: bool,
    /// Are these all nodes that there are?
    pub all: bool,
    /// The lease, and when this was so: to be said at the commit.
    pub asked: Asked,
}

/// When a definer has asked whom to lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Under which lease.
    pub epoch: u64,
    /// When.
    pub at: u64,
}

/// Why a definition is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It may be tried again as it is.
    Later,
    /// Its locks were not enough: it has to begin again.
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u64,
    granted: u64,
    until: u64,
    /// A definition was committed without it.
    missed: bool,
}

/// The guards that the leaseholder of the first range has given, and the definitions that are on their way.
#[derive(Clone, Debug, Default)]
pub struct Fences {
    epoch: u64,
    /// No guard of another lease that ends before this is believed.
    begun: u64,
    /// The most that clocks differ.
    offset: u64,
    now: u64,
    guards: BTreeMap<NodeId, Entry>,
    /// A definition has been let through, and not all nodes had asked.
    lacking: bool,
    passing: BTreeMap<u64, BTreeSet<Member>>,
    next: u64,
}

impl Fences {
    /// Nobody has a lease.
    pub fn new(max_offset: Duration) -> Fences {
        Fences { offset: micros(max_offset), ..Fences::default() }
    }

    /// The first range is led here, under the lease `epoch`, at the time `now`. To be said before anything is
    /// asked; only a new lease changes anything. What is on its way stays so: it may be sequenced under this one.
    pub fn lead(&mut self, epoch: u64, now: u64) {
        self.now = self.now.max(now);
        if epoch != self.epoch {
            (self.epoch, self.begun) = (epoch, self.now);
            self.guards.clear();
            self.lacking = false;
        }
    }

    /// May guards of earlier leases hold?
    fn is_early(&self) -> bool {
        self.now <= self.begun + micros(GUARD) + self.offset
    }

    fn may_hold(&self, entry: &Entry) -> bool {
        self.now <= entry.until + self.offset
    }

    /// A node asks for a guard; `held` is the end of the one under which it has read its catalog, 0 if it
    /// has none.
    pub fn ask(&mut self, who: Member, held: u64) -> Guard {
        if self.passing.values().any(|locked| !locked.contains(&who)) {
            return Guard::Later;
        }
        let known = self.guards.get(&who.node).copied();
        let good = held > 0
            && match known {
                Some(entry) => entry.start == who.start && !entry.missed,
                None => held >= self.begun && !self.lacking,
            };
        let until = self.now + micros(GUARD);
        let entry = Entry { start: who.start, granted: self.now, until, missed: false };
        self.guards.insert(who.node, entry);
        if good { Guard::Held(until) } else { Guard::Anew(until) }
    }

    /// Whom a definer has to lock, of these nodes, which are all that there are.
    pub fn wanted(&self, nodes: &BTreeSet<NodeId>) -> Wanted {
        let holding = self.guards.iter().filter(|(_, entry)| self.may_hold(entry));
        let members: BTreeSet<Member> =
            holding.map(|(node, entry)| Member { node: *node, start: entry.start }).collect();
        let unknown = nodes.iter().any(|node| !self.guards.contains_key(node));
        Wanted {
            partial: unknown && self.is_early(),
            all: nodes.iter().all(|node| members.iter().any(|member| member.node == *node)),
            members,
            asked: Asked { epoch: self.epoch, at: self.now },
        }
    }

    /// A definition is to be given its timestamp, by a definer that has locked these since it has asked. The
    /// answer is a name for [`Fences::passed`]; until then nobody else gets a guard.
    ///
    /// # Errors
    /// Others may use what it changes, or have used it.
    pub fn pass(
        &mut self,
        locked: &BTreeSet<Member>,
        asked: Asked,
        nodes: &BTreeSet<NodeId>,
    ) -> Result<u64, Hold> {
        for (node, entry) in &self.guards {
            let is_locked = locked.contains(&Member { node: *node, start: entry.start });
            if !is_locked && (self.may_hold(entry) || entry.granted >= asked.at) {
                return Err(Hold::Lost);
            }
        }
        if asked.epoch != self.epoch {
            // Nobody knows what an earlier leaseholder has granted since.
            let has = |node: &NodeId| locked.iter().any(|member| member.node == *node);
            if !nodes.iter().all(has) {
                return Err(Hold::Lost);
            }
            // The node's process may have been started again since it was locked.
            if nodes.iter().any(|node| !self.guards.contains_key(node)) {
                return Err(Hold::Later);
            }
        }
        // Who hasn't asked yet may have been started again since it was locked.
        self.lacking |= nodes.iter().any(|node| !self.guards.contains_key(node));
        for (node, entry) in &mut self.guards {
            entry.missed |= !locked.contains(&Member { node: *node, start: entry.start });
        }
        self.next += 1;
        self.passing.insert(self.next, locked.clone());
        Ok(self.next)
    }

    /// A definition has its timestamp, or won't get one.
    pub fn passed(&mut self, name: u64) {
        self.passing.remove(&name);
    }

    /// A node could not be told of a definition: it has to read the catalog before it gets its next guard.
    /// Until when its guard may hold.
    pub fn expel(&mut self, node: NodeId) -> u64 {
        let early = self.is_early();
        match self.guards.get_mut(&node) {
            Some(entry) => {
                entry.missed = true;
                entry.until + self.offset
            }
            None if early => {
                // Its guard is another leaseholder's.
                let until = self.begun + micros(GUARD);
                let entry = Entry { start: 0, granted: self.begun, until, missed: true };
                self.guards.insert(node, entry);
                until + self.offset
            }
            None => 0,
        }
    }
}
