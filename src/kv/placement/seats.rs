//! A range's nodes as small numbers: the form in which a hundred thousand ranges are gone through.

use std::collections::BTreeMap;

use meridian_base::NodeId;

/// A node's place in the planner's tables.
pub(super) type Slot = u16;

/// More voters than this no range has, [`super::REPLICAS_MAX`] and one on its way included.
const SEATS_MAX: usize = 8;

/// The nodes of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seats {
    len: u8,
    at: [Slot; SEATS_MAX],
}

impl Seats {
    /// These, or `None` if they are too many.
    pub(super) fn of(slots: impl IntoIterator<Item = Slot>) -> Option<Seats> {
        let mut seats = Seats::default();
        for slot in slots {
            if !seats.push(slot) {
                return None;
            }
        }
        Some(seats)
    }

    pub(super) fn push(&mut self, slot: Slot) -> bool {
        let free = self.at.get_mut(usize::from(self.len));
        let Some(free) = free else { return false };
        *free = slot;
        self.len += 1;
        true
    }

    pub(super) fn as_slice(&self) -> &[Slot] {
        &self.at[..usize::from(self.len)]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> + Clone + '_ {
        self.as_slice().iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.as_slice().contains(&slot)
    }

    pub(super) fn without(&self, gone: &[Slot]) -> Seats {
        Seats::of(self.iter().filter(|slot| !gone.contains(slot))).unwrap_or_default()
    }

    /// In order, so that two sets of the same nodes are equal.
    pub(super) fn sorted(mut self) -> Seats {
        self.at[..usize::from(self.len)].sort_unstable();
        self
    }
}

/// Which slot a node has. Ids are small numbers, given in order: a table, and a map for the others.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    low: Vec<Slot>,
    high: BTreeMap<u64, Slot>,
}

impl Ids {
    const NONE: Slot = Slot::MAX;
    const LOW: u64 = 1 << 16;

    pub(super) fn set(&mut self, node: NodeId, slot: Slot) {
        match usize::try_from(node.0) {
            Ok(at) if node.0 < Self::LOW => {
                if self.low.len() <= at {
                    self.low.resize(at + 1, Self::NONE);
                }
                self.low[at] = slot;
            }
            _ => drop(self.high.insert(node.0, slot)),
        }
    }

    pub(super) fn get(&self, node: NodeId) -> Option<Slot> {
        let low = usize::try_from(node.0).ok().and_then(|at| self.low.get(at)).copied();
        match low {
            Some(Self::NONE) => None,
            Some(slot) => Some(slot),
            None => self.high.get(&node.0).copied(),
        }
    }
}
