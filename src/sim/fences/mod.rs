//! Definitions and statements that race: guards of catalogs under lease moves, cuts, restarts and clocks that
//! differ within the bound, from one seed. The machine is the real one ([`meridian_kv::fence`]).
//!
//! | invariant | checked |
//! |---|---|
//! | `newest_form` | whoever uses its catalog has all that is committed |
//! | `nothing_unseen` | between a definer's locks and its commit nobody without its lock uses a catalog |

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use meridian_base::{NodeId, Rng};
use meridian_kv::fence::{Asked, Fences, Guard, Hold, Member};

use crate::invariants::Violation;

/// Faults of those around the machine, to show that an invariant notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceBug {
    /// Clocks are taken to be the same everywhere.
    TrustsClocks,
    /// A definition isn't waited for between being let through and its timestamp.
    PassesAtOnce,
    /// A definer says that it has asked just now.
    AsksLate,
    /// It doesn't wait for nodes of which the leaseholder knows nothing yet.
    TakesPartial,
    /// A node that has started again says that it hasn't.
    HidesRestarts,
    /// A definer doesn't notice that the lease has moved.
    MissesMoves,
}

const NODES: u64 = 4;
const OFFSET: Duration = Duration::from_millis(250);

struct Gateway {
    skew: u64,
    start: u64,
    held: u64,
    version: u64,
    reading: Option<u64>,
    reachable: bool,
    locked: bool,
    used: u64,
}

#[derive(Default)]
struct Definer {
    members: BTreeSet<Member>,
    /// When all were locked, and what was asked.
    ready: Option<(u64, Asked)>,
    passed: Option<(usize, u64, u64)>,
}

struct World {
    rng: Rng,
    bug: Option<FenceBug>,
    time: u64,
    /// The newest reading that a leaseholder has served by.
    served: u64,
    leader: usize,
    epoch: u64,
    fences: Vec<Fences>,
    gateways: Vec<Gateway>,
    definer: Definer,
    version: u64,
    violations: Vec<Violation>,
}

/// Runs one seed; answers how many definitions were committed and what must not have been.
pub fn run(seed: u64, bug: Option<FenceBug>) -> (u64, Vec<Violation>) {
    let mut rng = Rng::seeded(seed);
    let offset = if bug == Some(FenceBug::TrustsClocks) { Duration::ZERO } else { OFFSET };
    let gateway = |_| Gateway {
        skew: rng.below(250_000),
        start: 1,
        held: 0,
        version: 0,
        reading: None,
        reachable: true,
        locked: false,
        used: 0,
    };
    let gateways = (0..NODES).map(gateway).collect();
    let mut world = World {
        rng,
        bug,
        time: 10_000_000,
        served: 0,
        leader: 0,
        epoch: 1,
        fences: (0..NODES).map(|_| Fences::new(offset)).collect(),
        gateways,
        definer: Definer::default(),
        version: 0,
        violations: Vec::new(),
    };
    for _ in 0..4_000 {
        world.step();
    }
    (world.version, world.violations)
}

impl World {
    fn clock(&self, node: usize) -> u64 {
        self.time + self.gateways[node].skew
    }

    fn fences(&mut self) -> &mut Fences {
        self.served = self.served.max(self.clock(self.leader));
        let fences = &mut self.fences[self.leader];
        fences.lead(self.epoch, self.served);
        fences
    }

    fn member(&self, node: usize) -> Member {
        let hides = self.bug == Some(FenceBug::HidesRestarts);
        let start = if hides { 1 } else { self.gateways[node].start };
        Member { node: NodeId(node as u64), start }
    }

    fn violate(&mut self, invariant: &'static str, what: String) {
        self.violations.push(Violation { invariant, what });
    }

    fn step(&mut self) {
        self.time += self.rng.below(30_000);
        let node = usize::try_from(self.rng.below(NODES)).expect("few");
        match self.rng.below(100) {
            0..35 => self.ask(node),
            35..45 => self.read(node),
            45..80 => self.make_use(node),
            80..96 => self.define(),
            96 => self.gateways[node].reachable ^= true,
            97 => self.restart(node),
            _ => {
                (self.leader, self.epoch) = (node, self.epoch + 1);
                self.served = self.served.max(self.clock(node)) + 1;
            }
        }
    }

    fn ask(&mut self, node: usize) {
        let (who, held) = (self.member(node), self.gateways[node].held);
        let gateway = &self.gateways[node];
        if !gateway.reachable || gateway.reading.is_some() {
            return;
        }
        match self.fences().ask(who, held) {
            Guard::Held(until) => self.gateways[node].held = until,
            Guard::Anew(until) => self.gateways[node].reading = Some(until),
            Guard::Later => {}
        }
    }

    fn read(&mut self, node: usize) {
        if let Some(until) = self.gateways[node].reading.take() {
            (self.gateways[node].version, self.gateways[node].held) = (self.version, until);
        }
    }

    fn make_use(&mut self, node: usize) {
        let (now, gateway) = (self.clock(node), &self.gateways[node]);
        if now >= gateway.held || gateway.locked {
            return;
        }
        let (used, newest) = (gateway.version, self.version);
        self.gateways[node].used = self.time;
        if used != newest {
            self.violate("newest_form", format!("node {node} uses {used}, not {newest}"));
        }
    }

    fn restart(&mut self, node: usize) {
        let gateway = &mut self.gateways[node];
        gateway.start += 1;
        (gateway.held, gateway.version, gateway.reading) = (0, 0, None);
        gateway.locked = false;
    }

    fn release(&mut self) {
        self.gateways.iter_mut().for_each(|gateway| gateway.locked = false);
        self.definer = Definer::default();
    }

    fn define(&mut self) {
        let nodes: BTreeSet<NodeId> = (0..NODES).map(NodeId).collect();
        if let Some((leader, epoch, name)) = self.definer.passed {
            // Another leaseholder doesn't give it a timestamp.
            if epoch == self.epoch {
                self.check_uses();
                self.version += 1;
                let version = self.version;
                let told = self.gateways.iter_mut().filter(|gateway| gateway.locked);
                told.for_each(|gateway| gateway.version = version);
            }
            self.fences[leader].passed(name);
            return self.release();
        }
        let Some((since, mut asked)) = self.definer.ready else { return self.lock(&nodes) };
        // Every other one has much to read.
        if since % 2 == 0 && self.rng.below(30) > 0 {
            return;
        }
        if self.bug == Some(FenceBug::AsksLate) {
            asked.at = u64::MAX;
        }
        if self.bug == Some(FenceBug::MissesMoves) {
            asked.epoch = self.epoch;
        }
        let members = self.definer.members.clone();
        match self.fences().pass(&members, asked, &nodes) {
            Ok(name) => {
                if self.bug == Some(FenceBug::PassesAtOnce) {
                    self.fences().passed(name);
                }
                self.definer.passed = Some((self.leader, self.epoch, name));
            }
            Err(Hold::Later) if self.rng.below(20) > 0 => {}
            Err(_) => self.release(),
        }
    }

    fn lock(&mut self, nodes: &BTreeSet<NodeId>) {
        let wanted = self.fences().wanted(nodes);
        for member in &wanted.members {
            let node = usize::try_from(member.node.0).expect("few");
            if self.gateways[node].reachable && self.member(node) == *member {
                self.gateways[node].locked = true;
                self.definer.members.insert(*member);
            }
        }
        let partial = wanted.partial && self.bug != Some(FenceBug::TakesPartial);
        if !partial && wanted.members.is_subset(&self.definer.members) {
            self.definer.ready = Some((self.time, wanted.asked));
        }
    }

    fn check_uses(&mut self) {
        let Some((since, _)) = self.definer.ready else { return };
        for node in 0..self.gateways.len() {
            let gateway = &self.gateways[node];
            if !gateway.locked && gateway.used > since {
                self.violate("nothing_unseen", format!("node {node} was not locked"));
            }
        }
    }
}
