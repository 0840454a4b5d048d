//! A directed graph with kinds of edges; cycles among chosen edges.

use std::collections::{BTreeSet, VecDeque};

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EdgeKind {
    Ww,
    Wr,
    Rw,
    Realtime,
}

/// Nodes are numbers; edges a set, so that order of discovery doesn't matter.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    edges: Vec<BTreeSet<(usize, EdgeKind)>>,
}

impl Graph {
    pub(super) fn new(nodes: usize) -> Graph {
        Graph { edges: vec![BTreeSet::new(); nodes] }
    }

    pub(super) fn add(&mut self, from: usize, to: usize, kind: EdgeKind) {
        if from != to {
            self.edges[from].insert((to, kind));
        }
    }

    pub(super) fn edges(&self, kind: EdgeKind) -> impl Iterator<Item = (usize, usize)> {
        self.edges.iter().enumerate().flat_map(move |(from, out)| {
            out.iter().filter(move |(_, k)| *k == kind).map(move |(to, _)| (from, *to))
        })
    }

    /// A shortest way over edges that `allowed` (start node, kind) admits: each node of it, with the
    /// kind of the edge that leaves it, without the goal.
    pub(super) fn path(
        &self,
        from: usize,
        to: usize,
        allowed: impl Fn(usize, EdgeKind) -> bool,
    ) -> Option<Vec<(usize, EdgeKind)>> {
        let mut came_from: Vec<Option<(usize, EdgeKind)>> = vec![None; self.edges.len()];
        let mut open = VecDeque::from([from]);
        while let Some(node) = open.pop_front() {
            for &(next, kind) in self.edges[node].iter().filter(|(_, kind)| allowed(node, *kind)) {
                if came_from[next].is_some() || (next == from && next != to) {
                    continue;
                }
                came_from[next] = Some((node, kind));
                if next == to {
                    let mut path = Vec::new();
                    let mut at = to;
                    while let Some((before, kind)) = came_from[at] {
                        path.push((before, kind));
                        at = before;
                        if at == from {
                            break;
                        }
                    }
                    path.reverse();
                    return Some(path);
                }
                open.push_back(next);
            }
        }
        None
    }

    /// A shortest cycle over admitted edges, from the first strongly connected component that has one.
    pub(super) fn cycle(
        &self,
        allowed: impl Fn(usize, EdgeKind) -> bool,
    ) -> Option<Vec<(usize, EdgeKind)>> {
        let component = self.components(&allowed);
        (0..self.edges.len())
            .filter(|node| {
                // Only a node with an edge inside its own component lies on a cycle.
                self.edges[*node]
                    .iter()
                    .any(|(to, kind)| allowed(*node, *kind) && component[*to] == component[*node])
            })
            .find_map(|node| self.path(node, node, &allowed))
    }

    /// Strongly connected components (Tarjan, without recursion): a component's number for each node.
    pub(super) fn components(&self, allowed: &impl Fn(usize, EdgeKind) -> bool) -> Vec<usize> {
        const NEW: usize = usize::MAX;
        let nodes = self.edges.len();
        let (mut index, mut low) = (vec![NEW; nodes], vec![0; nodes]);
        let (mut component, mut components) = (vec![NEW; nodes], 0);
        let (mut stack, mut next_index) = (Vec::new(), 0);
        for root in 0..nodes {
            if index[root] != NEW {
                continue;
            }
            let mut open = vec![(root, 0)];
            while let Some((node, skip)) = open.pop() {
                if skip == 0 {
                    index[node] = next_index;
                    low[node] = next_index;
                    next_index += 1;
                    stack.push(node);
                }
                let mut out = self.edges[node].iter().enumerate().skip(skip);
                let descend = out.find_map(|(n, &(to, kind))| {
                    if !allowed(node, kind) {
                        return None;
                    }
                    if index[to] == NEW {
                        return Some((n, to));
                    }
                    if component[to] == NEW {
                        low[node] = low[node].min(index[to]);
                    }
                    None
                });
                if let Some((n, to)) = descend {
                    open.push((node, n + 1));
                    open.push((to, 0));
                    continue;
                }
                if low[node] == index[node] {
                    while let Some(member) = stack.pop() {
                        component[member] = components;
                        if member == node {
                            break;
                        }
                    }
                    components += 1;
                }
                if let Some((parent, _)) = open.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
            }
        }
        component
    }
}
