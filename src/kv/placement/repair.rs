//! What is wrong with a range, and what puts it right: dead and leaving nodes, the number of copies,
//! places where they must not be or that share too much.

use super::index::{ANYWHERE, Index};
use super::seats::{Seats, Slot};
use super::{Act, Action, Cause, Planner};

/// A range's copies, judged.
struct Health {
    /// Those that are where they should be.
    good: Seats,
    dead: Option<Slot>,
    leaving: Option<Slot>,
    forbidden: Option<Slot>,
    /// In another cell than most.
    strayed: Option<Slot>,
}

fn judge(index: &Index<'_>, range: usize) -> Health {
    let mut health = Health {
        good: Seats::default(),
        dead: None,
        leaving: None,
        forbidden: None,
        strayed: None,
    };
    let (table, home) = (&index.zones[usize::from(index.zone_of[range])], index.home[range]);
    for slot in index.seats[range].iter() {
        let place = index.place(slot);
        match () {
            () if place.leaving => health.leaving = Some(slot),
            () if !place.stays => health.dead = Some(slot),
            () if !table.allowed[usize::from(slot)] => health.forbidden = Some(slot),
            () if home != ANYWHERE && place.cell != home => health.strayed = Some(slot),
            () => {
                health.good.push(slot);
            }
        }
    }
    health
}

/// How many copies a range can have: what its zone says, or with fewer nodes the next odd number. Two
/// are worse than one: each of them can stop everything.
fn wanted(index: &Index<'_>, range: usize) -> usize {
    let (table, home) = (&index.zones[usize::from(index.zone_of[range])], index.home[range]);
    let able = table.able.get(usize::from(home)).copied().unwrap_or(table.able_all);
    match able >= table.replicas {
        true => table.replicas,
        false => able.saturating_sub(1) / 2 * 2 + 1,
    }
}

impl Planner<'_> {
    /// The first thing that is wrong with a range.
    pub(super) fn trouble(&mut self, range: usize) -> Option<Cause> {
        let index = &self.index;
        if let Some(leader) = index.leader(range).filter(|leader| index.place(*leader).drains)
            && self.heir(range, &[leader]).is_some()
        {
            return Some(Cause::DrainLease);
        }
        let health = judge(index, range);
        let (have, want) = (index.seats[range].len(), wanted(index, range));
        let most = index.zones[usize::from(index.zone_of[range])].replicas;
        match health {
            Health { dead: Some(_), .. } => Some(Cause::ReplaceDead),
            Health { leaving: Some(_), .. } => Some(Cause::DrainDecommissioning),
            _ if have < want => Some(Cause::AddReplica),
            _ if have > most || !index.view.ranges[range].learners.is_empty() => {
                Some(Cause::RemoveReplica)
            }
            Health { forbidden: Some(_), .. } => Some(Cause::FixPlacement),
            Health { strayed: Some(_), .. } => Some(Cause::FixCell),
            _ if have > 1 && self.could_spread(range) => Some(Cause::FixDiversity),
            _ => None,
        }
    }

    /// Whether one other node would make the copies share less.
    fn could_spread(&mut self, range: usize) -> bool {
        let index = &self.index;
        let (zone, home) = (index.zone_of[range], index.home[range]);
        let least = &index.zones[usize::from(zone)].least;
        let least = least[usize::from(home).min(least.len() - 1)];
        let seats = index.seats[range].sorted();
        let cost = index.cost(&seats);
        if cost <= least {
            return false;
        }
        if let Some(known) = self.spreadable.get(&(zone, seats)) {
            return *known;
        }
        let found = seats.iter().any(|gone| {
            let rest = seats.without(&[gone]);
            let base = index.cost(&rest);
            let others = index.candidates(home).filter(|slot| !seats.contains(*slot));
            let mut others = others.filter(|slot| index.belongs(range, *slot));
            others.any(|slot| index.place(slot).takes && base + index.shared(slot, &rest) < cost)
        });
        self.spreadable.insert((zone, seats), found);
        found
    }

    /// Does what can be done about it now.
    pub(super) fn repair(&mut self, range: usize, cause: Cause) {
        match cause {
            Cause::DrainLease => self.drain_lease(range),
            Cause::FixDiversity => self.spread(range),
            _ => self.mend(range, cause),
        }
    }

    fn drain_lease(&mut self, range: usize) {
        let Some(from) = self.index.leader(range) else { return };
        if let Some(heir) = self.heir(range, &[from]) {
            let why = format!("{} is to be stopped", self.index.id(from));
            self.move_lease(range, (from, heir), Cause::DrainLease, why);
        }
    }

    /// Who can lead instead: of the voters that stay the least loaded.
    pub(super) fn heir(&self, range: usize, not: &[Slot]) -> Option<Slot> {
        let index = &self.index;
        let able = index.seats[range].iter().filter(|s| !not.contains(s) && index.place(*s).takes);
        able.min_by_key(|slot| (index.place(*slot).load, index.id(*slot)))
    }

    fn mend(&mut self, range: usize, cause: Cause) {
        let index = &self.index;
        let (seats, health) = (index.seats[range], judge(index, range));
        let (want, bad) = (wanted(index, range), seats.without(health.good.as_slice()));
        let most = index.zones[usize::from(index.zone_of[range])].replicas;
        let mut keep = health.good;
        let mut add: Vec<Slot> = Vec::new();
        while keep.len() < want
            && let Some(slot) = index.pick(range, &keep, &seats)
            && keep.push(slot)
        {
            add.push(slot);
        }
        // One that leaves may leave a smaller odd number behind; a dead one may still come back.
        let shrinks = health.leaving.is_some() && want >= 3;
        let limit = if shrinks { want } else { most };
        let excess = |add: &[Slot]| (seats.len() + add.len()).saturating_sub(limit);
        let after = |add: &[Slot]| seats.len() + add.len() - excess(add);
        if after(&add) > seats.len() && after(&add) != want && after(&add).is_multiple_of(2) {
            add.pop();
        }
        let mut remove: Vec<Slot> = self.by_badness(&bad).into_iter().take(excess(&add)).collect();
        while remove.len() < excess(&add) {
            let left = seats.without(&remove);
            let Some(surplus) = self.surplus(&left, &add) else { break };
            remove.push(surplus);
        }
        let why = self.why(range, cause, &health, want);
        self.change(range, (add, remove), cause, why);
    }

    /// The dead first, then those that leave.
    fn by_badness(&self, bad: &Seats) -> Vec<Slot> {
        let mut bad: Vec<Slot> = bad.iter().collect();
        let index = &self.index;
        bad.sort_by_key(|slot| {
            let place = index.place(*slot);
            (place.live, place.stays, index.id(*slot))
        });
        bad
    }

    /// Which of too many copies goes: without it the others share least; then, the fullest node's.
    fn surplus(&self, seats: &Seats, add: &[Slot]) -> Option<Slot> {
        let index = &self.index;
        let key = |slot: &Slot| {
            let mut rest = seats.without(&[*slot]);
            for slot in add {
                rest.push(*slot);
            }
            let place = index.place(*slot);
            (index.cost(&rest), std::cmp::Reverse(place.fill()), place.id)
        };
        seats.iter().min_by_key(key)
    }

    fn why(&self, range: usize, cause: Cause, health: &Health, want: usize) -> String {
        let index = &self.index;
        let id = |slot: Option<Slot>| slot.map(|slot| index.id(slot)).unwrap_or_default();
        match cause {
            Cause::ReplaceDead => format!("{} has been away for too long", id(health.dead)),
            Cause::DrainDecommissioning => format!("{} leaves the cluster", id(health.leaving)),
            Cause::AddReplica => {
                format!("it has {} of {want} copies", index.seats[range].len())
            }
            Cause::FixPlacement => {
                format!("its placement does not allow {}", id(health.forbidden))
            }
            Cause::FixCell => {
                format!("{} is in another cell than its other copies", id(health.strayed))
            }
            _ if index.seats[range].len() > want => {
                format!("it has {} copies and needs {want}", index.seats[range].len())
            }
            _ => "a copy was begun and not finished".to_owned(),
        }
    }

    /// Replaces one copy so that all together share less.
    fn spread(&mut self, range: usize) {
        let index = &self.index;
        let (seats, leader) = (index.seats[range], index.leader(range));
        let bytes = index.view.ranges[range].bytes;
        let mut best = None;
        for gone in seats.iter() {
            let rest = seats.without(&[gone]);
            let base = index.cost(&rest);
            for slot in index.candidates(index.home[range]) {
                if seats.contains(slot)
                    || !index.belongs(range, slot)
                    || !index.has_room(slot, bytes)
                {
                    continue;
                }
                let full = index.place(slot).receiving >= index.settings.snapshots_max;
                let fills = (std::cmp::Reverse(index.place(gone).fill()), index.place(slot).fill());
                let key = (base + index.shared(slot, &rest), full, Some(gone) == leader, fills);
                if best.as_ref().is_none_or(|(other, _, _)| key < *other) {
                    best = Some((key, gone, slot));
                }
            }
        }
        let Some(((cost, full, _, _), gone, slot)) = best else { return };
        if full || cost >= index.cost(&seats) {
            return;
        }
        let why = format!("{} is farther from the other copies", index.id(slot));
        self.change(range, (vec![slot], vec![gone]), Cause::FixDiversity, why);
    }

    /// Plans a change of members, if it can begin now and is safe. A leaseholder that is to go hands
    /// over first; where nobody else can lead yet, somebody is added first. Says whether it did.
    pub(super) fn change(
        &mut self,
        range: usize,
        (add, mut remove): (Vec<Slot>, Vec<Slot>),
        cause: Cause,
        why: String,
    ) -> bool {
        let index = &self.index;
        let learners = &index.view.ranges[range].learners;
        if add.is_empty() && remove.is_empty() && learners.is_empty() {
            return false;
        }
        let Some(leader) = index.leader(range).filter(|leader| index.place(*leader).live) else {
            return false;
        };
        if remove.contains(&leader) {
            if let Some(heir) = self.heir(range, &remove) {
                let why = format!("{why}; the lease goes first");
                return self.move_lease(range, (leader, heir), cause, why);
            }
            if add.is_empty() {
                return false;
            }
            remove.clear();
        }
        let sends = u32::try_from(add.len().min(2)).unwrap_or(u32::MAX);
        if sends > 0 && index.place(leader).sending + sends > index.settings.snapshots_max {
            return false;
        }
        let mut after = index.seats[range].without(&remove);
        let fits = add.iter().all(|slot| after.push(*slot));
        if !fits || !index.has_quorum(&index.seats[range]) || !index.has_quorum(&after) {
            self.note(range, "it has no quorum: its members can't be changed");
            return false;
        }
        self.index.note_change(range, &add, &remove);
        self.index.home[range] = self.index.home_of(&after, self.index.zone_of[range]);
        let ids = |slots: &[Slot]| slots.iter().map(|slot| self.index.id(*slot)).collect();
        let (add, remove) = (ids(&add), ids(&remove));
        let act = Act::Change { add, remove };
        self.plan_for(range, act, cause, why);
        true
    }

    /// Plans to hand a lease over. Says that it did.
    pub(super) fn move_lease(
        &mut self,
        range: usize,
        (from, to): (Slot, Slot),
        cause: Cause,
        why: String,
    ) -> bool {
        let load = self.index.view.ranges[range].load + super::index::LEASE_WEIGHT;
        let giver = self.index.place_mut(from);
        giver.load = giver.load.saturating_sub(load);
        giver.leases_given += 1;
        self.index.place_mut(to).load += load;
        let act = Act::MoveLease { from: self.index.id(from), to: self.index.id(to) };
        self.plan_for(range, act, cause, why);
        true
    }

    pub(super) fn plan_for(&mut self, range: usize, act: Act, cause: Cause, reason: String) {
        self.index.busy[range] = true;
        let range = self.index.view.ranges[range].id;
        self.plan.actions.push(Action { range, act, cause, reason });
    }
}

impl Index<'_> {
    /// Whether enough of these nodes are alive to agree.
    pub(super) fn has_quorum(&self, seats: &Seats) -> bool {
        seats.iter().filter(|slot| self.place(*slot).live).count() > seats.len() / 2
    }
}
