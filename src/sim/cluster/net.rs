//! Messages of the commit protocol on their way.

use meridian_base::Rng;
use meridian_kv::api::{Isolation, Key, Timestamp};
use meridian_kv::commit::{Answer, Message, OnePhaseAnswer};
use meridian_kv::range::{Header, Origin};
use meridian_kv::txn::{ReadSet, Write};

use crate::node::below;

/// Where answers go: a coordinator or a recovery on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) node: usize,
    pub(super) job: u64,
    /// Which participant was asked.
    pub(super) part: usize,
}

/// A commit in one range.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) isolation: Isolation,
    pub(super) read_ts: Timestamp,
    pub(super) writes: Vec<Write>,
    pub(super) reads: Option<ReadSet>,
    pub(super) origin: Origin,
    /// For the question what became of it.
    pub(super) header: Header,
}

/// To the leader of a key's range.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Commit(Box<Whole>),
    Outcome(Box<Whole>),
    Part(Header, Message),
}

/// Back.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Whole(OnePhaseAnswer),
    Part(Answer),
}

#[derive(Clone, Debug)]
pub(super) enum Packet {
    ToRange { key: Key, from: Address, request: Request },
    ToJob { to: Address, reply: Reply },
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Net {
    packets: Vec<(u64, Packet)>,
    /// No more faults.
    pub(super) healed: bool,
}

impl Net {
    pub(super) fn send(&mut self, rng: &mut Rng, step: u64, packet: Packet) {
        let once = matches!(&packet, Packet::ToRange { request: Request::Commit(_), .. });
        let delay = |rng: &mut Rng| match rng.below(12) {
            0 => rng.below(400),
            _ => rng.below(30),
        };
        if !self.healed && rng.below(12) == 0 {
            return;
        }
        if !self.healed && !once && rng.below(8) == 0 {
            let due = step + delay(rng) * 3;
            self.packets.push((due, packet.clone()));
        }
        self.packets.push((step + delay(rng), packet));
    }

    /// One of those that have arrived.
    pub(super) fn arrived(&mut self, rng: &mut Rng, step: u64) -> Option<Packet> {
        let due: Vec<usize> =
            (0..self.packets.len()).filter(|at| self.packets[*at].0 <= step).collect();
        if due.is_empty() {
            return None;
        }
        Some(self.packets.swap_remove(due[below(rng, due.len())]).1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}
