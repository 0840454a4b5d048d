//! What must hold of plans and of what comes of them; one property a file, each shown once to fire.

mod balanced;
mod counts_converge;
mod drained_leads_nothing;
mod goes_to_the_living;
mod keeps_quorum;
mod nothing_comes_twice;
mod one_action_a_range;
mod one_copy_a_node;
mod spread;
mod throttled;

use meridian_base::RangeId;
use meridian_kv::api::Key;
use meridian_kv::placement::{Node, Nodes, Plan, Range, View, Zone};

use super::world::World;

/// A change of members that has happened.
pub(super) struct Change {
    pub(super) range: RangeId,
    pub(super) before: Nodes,
    pub(super) after: Nodes,
    pub(super) add: Nodes,
    /// Voters that its zone wanted when it was planned.
    pub(super) wanted: usize,
}

/// Broken properties with a sentence each.
type Found = Vec<(&'static str, String)>;

pub(super) fn of_a_plan(world: &World, view: &View, plan: &Plan) -> Found {
    let mut found = Vec::new();
    found.extend(one_action_a_range::check(world, plan).map(|what| ("one_action_a_range", what)));
    found.extend(throttled::check(view, plan).map(|what| ("throttled", what)));
    found
}

pub(super) fn of_a_change(world: &World, change: &Change) -> Found {
    let mut found = Vec::new();
    found.extend(keeps_quorum::check(world, change).map(|what| ("keeps_quorum", what)));
    found.extend(one_copy_a_node::check(change).map(|what| ("one_copy_a_node", what)));
    found.extend(goes_to_the_living::check(world, change).map(|what| ("goes_to_the_living", what)));
    found.extend(
        nothing_comes_twice::check(world, change).map(|what| ("nothing_comes_twice", what)),
    );
    found
}

pub(super) fn at_the_end(world: &World) -> Found {
    let mut found = Vec::new();
    found.extend(counts_converge::check(world).map(|what| ("counts_converge", what)));
    found.extend(spread::check(world).map(|what| ("spread", what)));
    found.extend(balanced::check(world).map(|what| ("balanced", what)));
    let leading = drained_leads_nothing::check(world);
    found.extend(leading.map(|what| ("drained_leads_nothing", what)));
    found
}

impl World {
    pub(super) fn zone_of(&self, range: &Range) -> &Zone {
        let zone = self.settings.zones.range::<Key, _>(..=&range.span.start).next_back();
        zone.map_or(&self.settings.default_zone, |(_, zone)| zone)
    }

    fn is_dead(&self, node: &Node) -> bool {
        let away = node.away_since.map_or(0, |since| self.now.saturating_sub(since));
        away > self.settings.replace_after
    }

    /// Nodes that may have a copy of a range: neither dead nor leaving, and allowed by its zone, if any
    /// is.
    fn eligible(&self, range: &Range) -> Vec<&Node> {
        let stay = self.nodes.iter().filter(|node| !node.leaving && !self.is_dead(node));
        let stay: Vec<&Node> = stay.collect();
        let placement = &self.zone_of(range).placement;
        let allowed: Vec<&Node> =
            stay.iter().copied().filter(|node| placement.allows(node)).collect();
        if allowed.is_empty() { stay } else { allowed }
    }
}
