//! Copies that move: a node that comes gets its share, one that leaves is emptied, and nothing is lost.

use std::collections::BTreeSet;

use meridian_base::{NodeId, RangeId};
use tempfile::TempDir;

use crate::member::NodeRow;
use crate::member_tests::{Node, add, end, eventually, free_address, key, rows, three, value};

/// The ranges of which a node is a member, as another one knows.
fn ranges_of(node: NodeId, seen_by: &Node) -> BTreeSet<RangeId> {
    let ranges = seen_by.store().ranges();
    ranges.iter().filter(|range| range.replicas.contains(&node)).map(|range| range.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_node_gets_its_share_and_one_that_leaves_is_emptied() {
    let mut nodes = three().await;
    for at in 1..8 {
        nodes[0].store().split_at(key(at * 10)).await.expect("splits");
    }
    for n in 0..8 {
        add(&nodes[0], n * 10).await.expect("adds");
    }
    assert!(nodes[0].store().rebalance_plan().len() < 8, "leases at most");
    let mut fourth = Node {
        id: NodeId(4),
        dir: TempDir::new().expect("a directory"),
        address: free_address(),
        store: None,
    };
    let mut all = rows(&nodes);
    all.push(NodeRow { id: 4, address: fourth.address.clone(), ..NodeRow::default() });
    nodes[0].store().register_node(all[3].clone()).await;
    fourth.start(&all).await;
    nodes.push(fourth);
    // Of 24 copies, within a twentieth and half a copy.
    eventually("a quarter", || ranges_of(NodeId(4), &nodes[0]).len() >= 5).await;
    let whole = |node: &Node| node.store().ranges().iter().all(|range| range.replicas.len() == 3);
    eventually("three copies of each", || whole(&nodes[0])).await;
    assert!(ranges_of(NodeId(4), &nodes[0]).len() <= 7);
    nodes[0].store().register_node(NodeRow { leaving: true, ..all[1].clone() }).await;
    eventually("empty", || ranges_of(NodeId(2), &nodes[0]).is_empty()).await;
    eventually("three copies of each", || whole(&nodes[0])).await;
    for n in 0..8 {
        add(&nodes[3], n * 10).await.expect("adds");
        assert_eq!(value(&nodes[2], n * 10).await, 2, "row {n}");
    }
    end(&mut nodes).await;
}
