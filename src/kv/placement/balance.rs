//! Evenness: leases by load, copies by bytes, and whole ranges among cells.
//!
//! Somebody has to be out of the band around what is even before anything moves, and a move never makes
//! the receiver fuller than the giver is then. So each move lessens the sum of the squares, and there is
//! an end: a plan carried out leaves nothing to plan.

use std::collections::BTreeSet;

use super::index::{ANYWHERE, Index, LEASE_WEIGHT, weight};
use super::seats::Slot;
use super::{Cause, Planner};

/// Acceptable ranges that are looked at before the best of them is taken.
const LOOK_AT: usize = 256;
/// Ranges that are looked at for one cell in one plan. Where zones differ in size nothing can make all nodes
/// even, and looking for it in vain must not cost more than the rest of the plan. The next plan begins
/// elsewhere.
pub(super) const BUDGET: usize = 40_000;

/// What is even, and the band around it.
#[derive(Clone, Copy, Debug)]
struct Band {
    even: u64,
    slack: u64,
}

impl Band {
    fn of(even: u64, thousandths: u64, least: u64) -> Band {
        let slack = u128::from(even) * u128::from(thousandths) / 1_000;
        Band { even, slack: u64::try_from(slack).unwrap_or(u64::MAX).max(least) }
    }

    /// Whether it is worth giving something: one of them is out of its band, and both come nearer to what
    /// is even. Otherwise, where zones are of different sizes, it is enough that they are far apart.
    fn calls_for(self, giver: u64, other: Band, taker: u64, both: bool) -> bool {
        let out = self.is_over(giver) || other.is_under(taker);
        let apart = giver.saturating_sub(taker) > 2 * self.slack.max(other.slack);
        out && if both { giver > self.even && taker < other.even } else { apart }
    }

    fn is_over(self, amount: u64) -> bool {
        amount > self.even.saturating_add(self.slack)
    }

    fn is_under(self, amount: u64) -> bool {
        amount.saturating_add(self.slack) < self.even
    }
}

fn part(whole: u128, share: u64, of: u128) -> u64 {
    u64::try_from(whole * u128::from(share) / of.max(1)).unwrap_or(u64::MAX)
}

/// The larger the better up to what is needed; beyond it, the smaller the better.
fn closeness(amount: u64, need: u64) -> (bool, u64) {
    if amount <= need { (true, amount) } else { (false, u64::MAX - amount) }
}

impl Planner<'_> {
    /// Leases go from loaded nodes to other voters.
    pub(super) fn balance_leases(&mut self) {
        for cell in 0..self.index.cells.len() {
            let mut nodes: Vec<Slot> = self.index.cells[cell].clone();
            nodes.retain(|slot| self.index.place(*slot).takes);
            let total: u128 = nodes.iter().map(|s| u128::from(self.index.place(*s).load)).sum();
            let even = part(total, 1, nodes.len() as u128);
            let band = Band::of(even, self.index.settings.hysteresis, LEASE_WEIGHT);
            nodes.sort_by_key(|slot| {
                let place = self.index.place(*slot);
                (std::cmp::Reverse(place.load), place.id)
            });
            let out = |slot: &Slot| {
                let load = self.index.place(*slot).load;
                band.is_over(load) || band.is_under(load)
            };
            if !nodes.iter().any(out) {
                continue;
            }
            self.index.list();
            self.budget.set(BUDGET);
            for from in nodes {
                while self.index.place(from).leases_given < self.index.settings.lease_moves_max
                    && let Some((range, to)) = self.best_lease(from, band)
                {
                    let (a, b) = (self.index.place(from).load, self.index.place(to).load);
                    let why = format!("{a} requests per second there, {b} here");
                    self.move_lease(range, (from, to), Cause::BalanceLeases, why);
                }
            }
        }
    }

    fn best_lease(&self, from: Slot, band: Band) -> Option<(usize, Slot)> {
        let index = &self.index;
        let giver = index.place(from);
        let mut best = None;
        let mut seen = 0;
        for range in self.in_turn(&giver.ranges) {
            if index.busy[range] || index.leader(range) != Some(from) {
                continue;
            }
            let load = index.view.ranges[range].load + LEASE_WEIGHT;
            for to in index.seats[range].iter().filter(|to| *to != from) {
                let taker = index.place(to);
                let sensible = giver.load.saturating_sub(load) >= taker.load + load;
                let needed = band.calls_for(giver.load, band, taker.load, true);
                if !(sensible && needed && taker.takes) {
                    continue;
                }
                let need = giver.load.saturating_sub(band.even);
                let need = need.max(band.even.saturating_sub(taker.load));
                let key = (closeness(load, need), std::cmp::Reverse((taker.load, taker.id)));
                seen += 1;
                if best.as_ref().is_none_or(|(other, _, _)| key > *other) {
                    best = Some((key, range, to));
                }
            }
            if seen >= LOOK_AT {
                break;
            }
        }
        best.map(|(_, range, to)| (range, to))
    }

    /// Copies go from full nodes to emptier ones of their cell.
    pub(super) fn balance_bytes(&mut self) {
        for cell in 0..self.index.cells.len() {
            let bands = self.bands(cell);
            let out = |(slot, band): &(Slot, Band)| {
                let bytes = self.index.place(*slot).bytes;
                band.is_over(bytes) || band.is_under(bytes)
            };
            if bands.iter().any(out) {
                self.index.list();
                self.budget.set(BUDGET);
                if !self.even_out(bands.clone(), true) {
                    self.even_out(bands, false);
                }
            }
        }
    }

    fn bands(&self, cell: usize) -> Vec<(Slot, Band)> {
        let index = &self.index;
        let members = &index.cells[cell];
        let of = |get: fn(&super::index::Place) -> u64| -> u128 {
            members.iter().map(|slot| u128::from(get(index.place(*slot)))).sum()
        };
        let (total, shares) = (of(|place| place.bytes), of(|place| place.share));
        let band = |slot: &Slot| {
            let even = part(total, index.place(*slot).share, shares);
            (*slot, Band::of(even, index.settings.hysteresis, 0))
        };
        members.iter().map(band).collect()
    }

    /// Plans moves within a cell; whether there are any. `both`: see [`Band::calls_for`].
    fn even_out(&mut self, mut bands: Vec<(Slot, Band)>, both: bool) -> bool {
        let mut any = false;
        let mut fruitless: BTreeSet<(Slot, Slot)> = BTreeSet::new();
        let mut exhausted: BTreeSet<Slot> = BTreeSet::new();
        let most = self.index.settings.snapshots_max;
        loop {
            bands.sort_by_key(|(slot, _)| {
                let place = self.index.place(*slot);
                (place.fill(), place.id)
            });
            let ready = |slot: Slot| {
                let place = self.index.place(slot);
                place.takes && place.receiving < most && !exhausted.contains(&slot)
            };
            let Some(to) = bands.iter().find(|(slot, _)| ready(*slot)).copied() else { return any };
            let givers: Vec<(Slot, Band)> = bands.iter().rev().copied().collect();
            let moved = givers.into_iter().any(|from| {
                if fruitless.contains(&(from.0, to.0)) {
                    return false;
                }
                let moved = self.move_copy(from, to, both);
                if !moved {
                    fruitless.insert((from.0, to.0));
                }
                moved
            });
            any |= moved;
            if !moved {
                exhausted.insert(to.0);
            }
        }
    }

    /// Plans to move one copy between two nodes, if that is worth it.
    fn move_copy(
        &mut self,
        (from, own): (Slot, Band),
        (to, other): (Slot, Band),
        both: bool,
    ) -> bool {
        let (giver, taker) = (self.index.place(from), self.index.place(to));
        if from == to || !own.calls_for(giver.bytes, other, taker.bytes, both) {
            return false;
        }
        let need = giver.bytes.saturating_sub(own.even);
        let need = match both {
            true => need.min(other.even.saturating_sub(taker.bytes)),
            false => giver.bytes.saturating_sub(taker.bytes) / 2,
        };
        let Some(range) = self.best_copy(from, to, need) else { return false };
        let percent = |bytes: u64, band: Band| part(u128::from(bytes), 100, u128::from(band.even));
        let (a, b) = (percent(giver.bytes, own), percent(taker.bytes, other));
        let (giver, taker) = (giver.id, taker.id);
        let why = format!("{giver} has {a} % of its share of bytes, {taker} {b} %");
        self.change(range, (vec![to], vec![from]), Cause::MoveReplica, why)
    }

    fn best_copy(&self, from: Slot, to: Slot, need: u64) -> Option<usize> {
        let index = &self.index;
        let (giver, taker) = (index.place(from), index.place(to));
        let mut best = None;
        let mut seen = 0;
        for range in self.in_turn(&giver.ranges) {
            let weight = weight(&index.view.ranges[range]);
            let sensible = giver.fill_with(giver.bytes.saturating_sub(weight))
                >= taker.fill_with(taker.bytes + weight);
            if !sensible || !index.may_move(range, from, to) {
                continue;
            }
            let key = closeness(weight, need);
            seen += 1;
            if best.as_ref().is_none_or(|(other, _)| key > *other) {
                best = Some((key, range));
            }
            if seen >= LOOK_AT {
                break;
            }
        }
        best.map(|(_, range)| range)
    }

    /// These ranges, as far as the budget goes; where they are many, from another one on each time.
    fn in_turn<'b>(&'b self, ranges: &'b [u32]) -> impl Iterator<Item = usize> + 'b {
        let turn = usize::try_from(self.index.now / 1_000_000 * 7_919).unwrap_or(0);
        let first = if ranges.len() * 16 > BUDGET { turn % ranges.len() } else { 0 };
        let (behind, ahead) = ranges.split_at(first);
        let all = ahead.iter().chain(behind).map(|range| *range as usize);
        all.take_while(|_| {
            self.budget.set(self.budget.get().saturating_sub(1));
            self.budget.get() > 0
        })
    }

    /// Whole ranges go from full cells to emptier ones. The first change brings most of a range's copies
    /// over, which makes the other cell its own; the rest follow as strayed ones.
    pub(super) fn balance_cells(&mut self) {
        if self.index.cells.len() < 2 {
            return;
        }
        let mut cells = self.cell_sums();
        let total: u128 = cells.iter().map(|cell| cell.bytes).sum();
        let shares: u128 = cells.iter().map(|cell| u128::from(cell.share)).sum();
        let band = |cell: &Cell| {
            let even = part(total, cell.share, shares);
            Band::of(even, self.index.settings.hysteresis, 0)
        };
        let bands: Vec<Band> = cells.iter().map(band).collect();
        let fill = |cell: &Cell| cell.bytes * 1_000 / u128::from(cell.share.max(1));
        let mut tries = self.index.places.len();
        let mut from_range = 0;
        while tries > 0 {
            tries -= 1;
            let of = |at: &usize| (fill(&cells[*at]), *at);
            let (Some(full), Some(empty)) =
                ((0..cells.len()).max_by_key(of), (0..cells.len()).min_by_key(of))
            else {
                return;
            };
            let as_u64 = |bytes: u128| u64::try_from(bytes).unwrap_or(u64::MAX);
            let over = bands[full].is_over(as_u64(cells[full].bytes));
            if full == empty || !(over || bands[empty].is_under(as_u64(cells[empty].bytes))) {
                return;
            }
            let (a, b) = (&cells[full], &cells[empty]);
            let fits = |bytes: u128| {
                (a.bytes.saturating_sub(bytes)) * u128::from(b.share.max(1))
                    >= (b.bytes + bytes) * u128::from(a.share.max(1))
            };
            let Some((next, bytes)) = self.move_range(from_range, (full, empty), fits) else {
                return;
            };
            from_range = next;
            cells[full].bytes = cells[full].bytes.saturating_sub(bytes);
            cells[empty].bytes += bytes;
        }
    }

    fn cell_sums(&self) -> Vec<Cell> {
        let index = &self.index;
        let share = |members: &Vec<Slot>| members.iter().map(|slot| index.place(*slot).share).sum();
        let mut cells: Vec<Cell> =
            index.cells.iter().map(|members| Cell { bytes: 0, share: share(members) }).collect();
        for (range, seats) in index.seats.iter().enumerate() {
            let weight = u128::from(weight(&index.view.ranges[range]));
            if let Some(cell) = cells.get_mut(usize::from(index.home[range])) {
                cell.bytes += weight * seats.len() as u128;
                continue;
            }
            for slot in seats.iter() {
                if let Some(cell) = cells.get_mut(usize::from(index.place(slot).cell)) {
                    cell.bytes += weight;
                }
            }
        }
        cells
    }

    /// Plans the first step of one range's way to another cell. Where to go on searching, and its bytes.
    fn move_range(
        &mut self,
        first: usize,
        (full, empty): (usize, usize),
        fits: impl Fn(u128) -> bool,
    ) -> Option<(usize, u128)> {
        let target = u16::try_from(empty).ok()?;
        for range in first..self.index.seats.len() {
            let (seats, home) = (self.index.seats[range], self.index.home[range]);
            let bytes = u128::from(weight(&self.index.view.ranges[range])) * seats.len() as u128;
            let table = &self.index.zones[usize::from(self.index.zone_of[range])];
            if self.index.busy[range]
                || usize::from(home) != full
                || table.able[empty] < table.replicas
                || !fits(bytes)
                || !seats.iter().all(|slot| self.index.place(slot).live)
            {
                continue;
            }
            // To pick nodes there, and in what is planned next.
            self.index.home[range] = target;
            if self.begin_range_move(range) {
                return Some((range + 1, bytes));
            }
            self.index.home[range] = home;
        }
        None
    }

    fn begin_range_move(&mut self, range: usize) -> bool {
        let index = &self.index;
        let (seats, leader) = (index.seats[range], index.leader(range));
        let most = seats.len() / 2 + 1;
        let mut keep = super::seats::Seats::default();
        while keep.len() < most
            && let Some(slot) = index.pick(range, &keep, &seats)
        {
            keep.push(slot);
        }
        let mut old: Vec<Slot> = seats.iter().filter(|slot| Some(*slot) != leader).collect();
        old.sort_by_key(|slot| (std::cmp::Reverse(index.place(*slot).fill()), index.id(*slot)));
        old.truncate(most);
        if keep.len() < most || old.len() < most {
            return false;
        }
        let why = "its cell has more than its share of bytes".to_owned();
        self.change(range, (keep.iter().collect(), old), Cause::MoveReplica, why)
    }
}

struct Cell {
    bytes: u128,
    share: u64,
}

impl Index<'_> {
    /// Whether a copy may be moved for balance: all are well, nobody is overburdened by it, and they
    /// share no more than before.
    fn may_move(&self, range: usize, from: Slot, to: Slot) -> bool {
        let (seats, leader) = (&self.seats[range], self.leader(range));
        let idle = |leader| self.place(leader).sending < self.settings.snapshots_max;
        let (known, zone) = (&self.view.ranges[range], usize::from(self.zone_of[range]));
        if self.busy[range]
            || seats.contains(to)
            || (leader == Some(from) && self.zones[zone].replicas > 1)
            || !leader.is_some_and(idle)
            || !(self.home[range] == ANYWHERE || self.belongs(range, from))
            || !self.belongs(range, to)
            || !self.has_room(to, known.bytes)
            || !seats.iter().all(|slot| self.place(slot).live)
        {
            return false;
        }
        let rest = seats.without(&[from]);
        self.shared(to, &rest) <= self.shared(from, &rest)
    }
}
