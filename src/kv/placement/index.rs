//! The planner's tables, made anew for each plan in one pass over the ranges; what a plan decides is
//! entered at once, so that what it decides next goes by it.

use std::collections::BTreeMap;

use meridian_base::NodeId;

use super::cells;
use super::seats::{Ids, Seats, Slot};
use super::settings::{Settings, Zone};
use super::view::{Node, Range, View};

/// What a range weighs beside its bytes, so that empty ones are spread, too.
const RANGE_WEIGHT: u64 = 1 << 20;
/// What a lease weighs beside its requests per second, likewise.
pub(super) const LEASE_WEIGHT: u64 = 10;
/// No cell: any node will do.
pub(super) const ANYWHERE: u16 = u16::MAX;
/// A range sends its copies one after another, this many at a time.
const SENDING_MAX: u32 = 2;

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: NodeId,
    /// Heard of at present.
    pub(super) live: bool,
    /// Keeps its copies: it neither leaves nor has been away for too long.
    pub(super) stays: bool,
    /// It leaves (rather than being dead).
    pub(super) leaving: bool,
    /// May get copies and leases.
    pub(super) takes: bool,
    /// Must not lead.
    pub(super) drains: bool,
    pub(super) cell: u16,
    /// Its share, in proportion to the others of the cell.
    pub(super) share: u64,
    /// What its disk has room for.
    pub(super) room: u64,
    pub(super) bytes: u64,
    pub(super) load: u64,
    pub(super) receiving: u32,
    pub(super) sending: u32,
    pub(super) leases_given: u32,
    /// Its ranges; empty until [`Index::list`].
    pub(super) ranges: Vec<u32>,
}

impl Place {
    /// How full it is; comparable within a cell.
    pub(super) fn fill(&self) -> u64 {
        self.fill_with(self.bytes)
    }

    pub(super) fn fill_with(&self, bytes: u64) -> u64 {
        let fill = (u128::from(bytes) << 20) / u128::from(self.share.max(1));
        u64::try_from(fill).unwrap_or(u64::MAX)
    }
}

/// What holds for the ranges of a zone.
pub(super) struct ZoneTable {
    pub(super) replicas: usize,
    /// By slot.
    pub(super) allowed: Vec<bool>,
    /// By cell: nodes that stay and are allowed.
    pub(super) able: Vec<usize>,
    pub(super) able_all: usize,
    /// By cell, and for all together: the least that the best set of so many nodes has in common.
    pub(super) least: Vec<u32>,
}

/// The tables.
pub(super) struct Index<'a> {
    pub(super) view: &'a View,
    pub(super) settings: &'a Settings,
    pub(super) now: u64,
    pub(super) places: Vec<Place>,
    ids: Ids,
    /// Tiers that two nodes share, from the widest on: `a * nodes + b`.
    common: Vec<u8>,
    pub(super) zones: Vec<ZoneTable>,
    /// By cell: the nodes that stay.
    pub(super) cells: Vec<Vec<Slot>>,
    /// By range.
    pub(super) seats: Vec<Seats>,
    pub(super) zone_of: Vec<u16>,
    pub(super) home: Vec<u16>,
    /// Something is done to it, or is going to be: nothing else may.
    pub(super) busy: Vec<bool>,
    listed: bool,
    pub(super) regrouped: Vec<(NodeId, u32)>,
}

pub(super) fn weight(range: &Range) -> u64 {
    range.bytes + RANGE_WEIGHT
}

impl<'a> Index<'a> {
    pub(super) fn new(view: &'a View, settings: &'a Settings, now: u64) -> Self {
        let mut index = Index {
            view,
            settings,
            now,
            places: Vec::with_capacity(view.nodes.len()),
            ids: Ids::default(),
            common: Vec::new(),
            zones: Vec::new(),
            cells: Vec::new(),
            seats: Vec::with_capacity(view.ranges.len()),
            zone_of: Vec::with_capacity(view.ranges.len()),
            home: Vec::with_capacity(view.ranges.len()),
            busy: Vec::with_capacity(view.ranges.len()),
            listed: false,
            regrouped: Vec::new(),
        };
        index.add_nodes();
        index.add_seats();
        index.compare_nodes();
        index.add_zones();
        index.add_homes();
        index.add_running();
        index
    }

    fn stays(&self, node: &Node) -> bool {
        let away = node.away_since.map_or(0, |since| self.now.saturating_sub(since));
        !node.leaving && away <= self.settings.replace_after
    }

    fn add_nodes(&mut self) {
        self.regrouped = {
            let stays = |node: &Node| self.stays(node);
            cells::regroup(&self.view.nodes, self.settings.cell_max, stays)
        };
        let moved: BTreeMap<NodeId, u32> = self.regrouped.iter().copied().collect();
        let mut numbers: BTreeMap<u32, u16> = BTreeMap::new();
        let sized = self.view.nodes.iter().all(|node| node.capacity > 0);
        for node in &self.view.nodes {
            let (live, stays) = (node.away_since.is_none(), self.stays(node));
            let next = u16::try_from(numbers.len()).unwrap_or(ANYWHERE);
            let cell = moved.get(&node.id).copied().or(node.cell);
            let cell = match cell {
                Some(cell) if stays => *numbers.entry(cell).or_insert(next),
                _ => ANYWHERE,
            };
            let slot = self.push(node.id);
            let place = &mut self.places[usize::from(slot)];
            let full = u128::from(node.capacity) * u128::from(self.settings.full) / 1_000;
            let full = u64::try_from(full).unwrap_or(u64::MAX);
            (place.live, place.stays, place.leaving) = (live, stays, node.leaving);
            place.takes = live && stays && !node.draining;
            place.drains = node.draining;
            place.cell = cell;
            place.share = if sized { (node.capacity >> 20).max(1) } else { 1 };
            place.room = if sized { full.saturating_sub(node.used) } else { u64::MAX };
            if stays {
                let at = usize::from(cell);
                self.cells.resize(self.cells.len().max(at + 1), Vec::new());
                self.cells[at].push(slot);
            }
        }
    }

    /// A node that nothing is known of: dead, until more is said.
    fn push(&mut self, id: NodeId) -> Slot {
        let slot = Slot::try_from(self.places.len()).unwrap_or(Slot::MAX - 1);
        self.ids.set(id, slot);
        self.places.push(Place {
            id,
            live: false,
            stays: false,
            leaving: false,
            takes: false,
            drains: false,
            cell: ANYWHERE,
            share: 1,
            room: 0,
            bytes: 0,
            load: 0,
            receiving: 0,
            sending: 0,
            leases_given: 0,
            ranges: Vec::new(),
        });
        slot
    }

    fn add_seats(&mut self) {
        let mut starts = self.settings.zones.keys().peekable();
        let mut zone = 0u16;
        for range in &self.view.ranges {
            while starts.next_if(|start| **start <= range.span.start).is_some() {
                zone += 1;
            }
            self.zone_of.push(zone);
            let weight = weight(range);
            let mut seats = Seats::default();
            let mut fits = true;
            for node in &range.voters {
                let slot = self.ids.get(*node).unwrap_or_else(|| self.push(*node));
                self.places[usize::from(slot)].bytes += weight;
                fits &= seats.push(slot);
            }
            for node in &range.learners {
                if self.ids.get(*node).is_none() {
                    self.push(*node);
                }
            }
            if let Some(leader) = range.leaseholder.and_then(|leader| self.ids.get(leader)) {
                self.places[usize::from(leader)].load += range.load + LEASE_WEIGHT;
            }
            self.seats.push(seats);
            self.busy.push(!fits || seats.len() == 0);
        }
    }

    fn compare_nodes(&mut self) {
        let count = self.places.len();
        self.common = vec![0; count * count];
        for (a, one) in self.view.nodes.iter().enumerate() {
            for (b, other) in self.view.nodes.iter().enumerate() {
                self.common[a * count + b] = one.locality.common(&other.locality);
            }
        }
    }

    fn add_zones(&mut self) {
        let all = std::iter::once(&self.settings.default_zone).chain(self.settings.zones.values());
        self.zones = all.map(|zone| self.zone_table(zone)).collect();
        for zone in 0..self.zones.len() {
            let cells = 0..=self.cells.len();
            let least = cells.map(|cell| self.least_common(zone, cell)).collect();
            self.zones[zone].least = least;
        }
    }

    fn zone_table(&self, zone: &Zone) -> ZoneTable {
        let ghosts = self.places.len() - self.view.nodes.len();
        let mut allowed: Vec<bool> =
            self.view.nodes.iter().map(|node| zone.placement.allows(node)).collect();
        allowed.extend(std::iter::repeat_n(false, ghosts));
        let able = |slots: &Vec<Slot>| slots.iter().filter(|s| allowed[usize::from(**s)]).count();
        let mut counts: Vec<usize> = self.cells.iter().map(able).collect();
        if counts.iter().sum::<usize>() == 0 {
            // Nobody satisfies it: better a copy in the wrong place than none.
            allowed.fill(true);
            counts = self.cells.iter().map(Vec::len).collect();
        }
        let able_all = counts.iter().sum();
        let replicas = zone.replicas.clamp(1, super::REPLICAS_MAX);
        ZoneTable { replicas, allowed, able: counts, able_all, least: Vec::new() }
    }

    /// The least that a set of nodes of a cell can have in common (`cells.len()` = of all), found by
    /// adding to each node in turn the one that has least in common with those before.
    fn least_common(&self, zone: usize, cell: usize) -> u32 {
        if self.common.iter().all(|tiers| *tiers == 0) {
            return 0;
        }
        let table = &self.zones[zone];
        let members: Vec<Slot> = match self.cells.get(cell) {
            Some(members) => members.clone(),
            None => self.cells.iter().flatten().copied().collect(),
        };
        let fits = |slot: &Slot| table.allowed[usize::from(*slot)];
        let members: Vec<Slot> = members.into_iter().filter(fits).collect();
        let size = table.replicas.min(members.len());
        let grown = |first: &Slot| {
            let mut seats = Seats::of([*first]).unwrap_or_default();
            while seats.len() < size {
                let others = members.iter().filter(|slot| !seats.contains(**slot));
                let Some(next) = others.min_by_key(|slot| self.shared(**slot, &seats)) else {
                    break;
                };
                seats.push(*next);
            }
            self.cost(&seats)
        };
        members.iter().map(grown).min().unwrap_or(0)
    }

    fn add_homes(&mut self) {
        for range in 0..self.seats.len() {
            self.home.push(self.home_of(&self.seats[range], self.zone_of[range]));
        }
    }

    /// The cell that a range belongs to: where most of its copies are, of those that can have them all.
    pub(super) fn home_of(&self, seats: &Seats, zone: u16) -> u16 {
        let table = &self.zones[usize::from(zone)];
        let needed = table.replicas.min(table.able_all);
        let fits = |cell: usize| table.able[cell] >= needed;
        if self.cells.len() == 1 {
            return if fits(0) { 0 } else { ANYWHERE };
        }
        let there = |cell: usize| {
            seats.iter().filter(|s| usize::from(self.places[usize::from(*s)].cell) == cell).count()
        };
        let best = (0..self.cells.len())
            .filter(|cell| fits(*cell))
            .min_by_key(|cell| (std::cmp::Reverse(there(*cell)), *cell));
        best.and_then(|cell| u16::try_from(cell).ok()).unwrap_or(ANYWHERE)
    }

    fn add_running(&mut self) {
        let running: BTreeMap<_, _> = self.view.running.iter().map(|r| (r.range, r)).collect();
        if running.is_empty() {
            return;
        }
        for (at, range) in self.view.ranges.iter().enumerate() {
            if let Some(change) = running.get(&range.id) {
                self.busy[at] = true;
                let slots =
                    |nodes: &[NodeId]| nodes.iter().filter_map(|n| self.ids.get(*n)).collect();
                let (add, remove): (Vec<Slot>, Vec<Slot>) =
                    (slots(&change.add), slots(&change.remove));
                self.note_change(at, &add, &remove);
            }
        }
    }

    /// Enters what a change of members will bring.
    pub(super) fn note_change(&mut self, range: usize, add: &[Slot], remove: &[Slot]) {
        let known = &self.view.ranges[range];
        let weight = weight(known);
        for slot in add {
            let place = &mut self.places[usize::from(*slot)];
            place.bytes += weight;
            place.room = place.room.saturating_sub(known.bytes);
            place.receiving += 1;
        }
        for slot in remove {
            let place = &mut self.places[usize::from(*slot)];
            place.bytes = place.bytes.saturating_sub(weight);
        }
        if let Some(leader) = known.leaseholder.and_then(|leader| self.ids.get(leader)) {
            let count = u32::try_from(add.len()).unwrap_or(u32::MAX);
            self.places[usize::from(leader)].sending += count.min(SENDING_MAX);
        }
    }

    /// Makes the lists of each node's ranges.
    pub(super) fn list(&mut self) {
        if std::mem::replace(&mut self.listed, true) {
            return;
        }
        for (at, seats) in self.seats.iter().enumerate() {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            for slot in seats.iter() {
                self.places[usize::from(slot)].ranges.push(at);
            }
        }
    }

    pub(super) fn place(&self, slot: Slot) -> &Place {
        &self.places[usize::from(slot)]
    }

    pub(super) fn place_mut(&mut self, slot: Slot) -> &mut Place {
        &mut self.places[usize::from(slot)]
    }

    pub(super) fn id(&self, slot: Slot) -> NodeId {
        self.place(slot).id
    }

    pub(super) fn leader(&self, range: usize) -> Option<Slot> {
        self.view.ranges[range].leaseholder.and_then(|leader| self.ids.get(leader))
    }

    /// Tiers that a node shares with others, summed up.
    pub(super) fn shared(&self, slot: Slot, with: &Seats) -> u32 {
        let row = usize::from(slot) * self.places.len();
        let others = with.iter().filter(|other| *other != slot);
        others.map(|other| u32::from(self.common[row + usize::from(other)])).sum()
    }

    /// What a set of nodes has in common: the less, the better it outlives a zone.
    pub(super) fn cost(&self, seats: &Seats) -> u32 {
        seats.iter().map(|slot| self.shared(slot, seats)).sum::<u32>() / 2
    }

    /// Whether a copy of the range belongs on a node as far as its zone and cell go.
    pub(super) fn belongs(&self, range: usize, slot: Slot) -> bool {
        let home = self.home[range];
        self.zones[usize::from(self.zone_of[range])].allowed[usize::from(slot)]
            && (home == ANYWHERE || self.place(slot).cell == home)
    }

    /// The nodes among which a range's copies are placed.
    pub(super) fn candidates(&self, home: u16) -> impl Iterator<Item = Slot> + '_ {
        let all = if home == ANYWHERE { &self.cells[..] } else { &[] };
        let one = self.cells.get(usize::from(home)).into_iter();
        one.chain(all).flatten().copied()
    }

    /// Whether a node can begin to receive a copy of so many bytes.
    pub(super) fn has_room(&self, slot: Slot, bytes: u64) -> bool {
        let place = self.place(slot);
        place.takes && place.room >= bytes
    }

    /// Who is to get a copy beside `keep`: of those that have least in common with it the emptiest.
    /// `None` also if all of those are receiving as much as they may: it is better to wait.
    pub(super) fn pick(&self, range: usize, keep: &Seats, not: &Seats) -> Option<Slot> {
        let bytes = self.view.ranges[range].bytes;
        let fits = |slot: &Slot| {
            !keep.contains(*slot)
                && !not.contains(*slot)
                && self.belongs(range, *slot)
                && self.has_room(*slot, bytes)
        };
        let fits: Vec<(u32, Slot)> = self
            .candidates(self.home[range])
            .filter(fits)
            .map(|slot| (self.shared(slot, keep), slot))
            .collect();
        let least = fits.iter().map(|(shared, _)| *shared).min()?;
        let best = fits.into_iter().filter(|(shared, _)| *shared == least).map(|(_, slot)| slot);
        best.filter(|slot| self.place(*slot).receiving < self.settings.snapshots_max)
            .min_by_key(|slot| (self.place(*slot).fill(), self.id(*slot)))
    }
}
