//! Cells: a range's copies are on nodes of one cell, so that a node has few partners however many nodes
//! there are.
//!
//! A leader needs the support of those who have copies of its ranges, ten times a second. With copies
//! anywhere, every node would have every other for a partner, and 100 nodes send each other 100,000
//! heartbeats a second. With cells of at most [`CELL_MAX`] nodes a node's messages do not depend on the
//! size of the cluster; and of all sets of three nodes that may fail together, few hold a range.
//! (Cidon et al., "Copysets: Reducing the Frequency of Data Loss in Cloud Storage", 2013.)
//!
//! A new node joins the smallest cell. A cell that is too large becomes two, with the localities spread
//! over both: that moves a quarter of its copies once more, and happens when it has doubled, which has
//! moved half of them anyway. A cell that has shrunk joins another. Clusters of up to [`CELL_MAX`] nodes
//! are one cell and don't notice any of this.

use std::collections::BTreeMap;

use meridian_base::NodeId;

use super::view::Node;

/// Most nodes of a cell, unless set otherwise.
pub const CELL_MAX: usize = 16;
/// A cell with fewer nodes joins another.
pub const CELL_MIN: usize = 5;

/// The cells as they should be: those of the nodes that have to be put into another, or a first one.
/// `stays` says whether a node counts: neither leaves nor is dead.
pub fn regroup(
    nodes: &[Node],
    cell_max: usize,
    stays: impl Fn(&Node) -> bool,
) -> Vec<(NodeId, u32)> {
    let mut cells: BTreeMap<u32, Vec<&Node>> = BTreeMap::new();
    let (mut new, mut moved) = (Vec::new(), BTreeMap::new());
    for node in nodes.iter().filter(|node| stays(node)) {
        match node.cell {
            Some(cell) => cells.entry(cell).or_default().push(node),
            None => new.push(node),
        }
    }
    new.sort_unstable_by_key(|node| node.id);
    for node in new {
        let like = |members: &Vec<&Node>| {
            members.iter().map(|m| u64::from(m.locality.common(&node.locality))).sum::<u64>()
        };
        let smallest = cells.iter().min_by_key(|(_, members)| (members.len(), like(members)));
        let cell = smallest.map_or(0, |(cell, _)| *cell);
        let members = cells.entry(cell).or_default();
        members.push(node);
        moved.insert(node.id, cell);
        if members.len() > cell_max {
            halve(&mut cells, cell, &mut moved);
        }
    }
    let full = cells.iter().find(|(_, members)| members.len() > cell_max);
    if let Some((cell, _)) = full {
        let cell = *cell;
        halve(&mut cells, cell, &mut moved);
    }
    join(&mut cells, cell_max, &mut moved);
    let before = |id: &NodeId| nodes.iter().find(|node| node.id == *id).and_then(|node| node.cell);
    moved.into_iter().filter(|(id, cell)| before(id) != Some(*cell)).collect()
}

/// Half of a cell becomes a new one: every second node, in the order of their localities.
fn halve(cells: &mut BTreeMap<u32, Vec<&Node>>, cell: u32, moved: &mut BTreeMap<NodeId, u32>) {
    let next = cells.keys().next_back().map_or(0, |last| last + 1);
    let Some(members) = cells.get_mut(&cell) else { return };
    members.sort_unstable_by(|a, b| (&a.locality, a.id).cmp(&(&b.locality, b.id)));
    let all = std::mem::take(members);
    let (odd, even): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(at, _)| at % 2 == 1);
    *members = even.into_iter().map(|(_, node)| node).collect();
    let other: Vec<&Node> = odd.into_iter().map(|(_, node)| node).collect();
    moved.extend(other.iter().map(|node| (node.id, next)));
    cells.insert(next, other);
}

/// The smallest cell, if it is too small, joins the smallest other.
fn join(cells: &mut BTreeMap<u32, Vec<&Node>>, cell_max: usize, moved: &mut BTreeMap<NodeId, u32>) {
    let mut sizes: Vec<(usize, u32)> =
        cells.iter().map(|(cell, members)| (members.len(), *cell)).collect();
    sizes.sort_unstable();
    if let [(size, small), (_, into), ..] = sizes[..]
        && size < CELL_MIN
    {
        let members = cells.remove(&small).unwrap_or_default();
        moved.extend(members.iter().map(|node| (node.id, into)));
        cells.entry(into).or_default().extend(members);
        if cells[&into].len() > cell_max {
            halve(cells, into, moved);
        }
    }
}
