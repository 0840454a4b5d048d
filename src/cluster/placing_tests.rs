//! Copies that move: a node that comes gets its share, one that leaves is emptied, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meridian_base::{NodeId, RangeId};

use crate::member::NodeRow;
use crate::member_tests::{Node, add, end, key, rows, three, value};

/// By range, who has a vote, as its leaseholder knows; ranges whose members change are left out.
fn placed(nodes: &[Node]) -> BTreeMap<RangeId, BTreeSet<NodeId>> {
    let mut placed = BTreeMap::new();
    for node in nodes {
        let core = node.store().core();
        for replica in node.store().replicas.all() {
            let members = replica.group.as_ref().expect("it has a log").members();
            let settled = !members.is_joint() && members.learners.is_empty();
            if replica.range.lease.here(&core.hlc).is_some() && settled {
                placed.insert(replica.range.id, members.all_voters());
            }
        }
    }
    placed
}

/// Waits until all ranges have three copies, of which so many are on a node.
async fn settled(nodes: &[Node], node: u64, count: std::ops::RangeInclusive<usize>) {
    for _ in 0..4 {
        let is = || {
            let placed = placed(nodes);
            let here = placed.values().filter(|voters| voters.contains(&NodeId(node))).count();
            placed.len() == 8
                && placed.values().all(|voters| voters.len() == 3)
                && count.contains(&here)
        };
        for _ in 0..1_000 {
            if is() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    panic!("node {node} should have {count:?}: {:?}", placed(nodes));
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
    let mut fourth = Node::new(4);
    let mut all = rows(&nodes);
    all.push(NodeRow { id: 4, address: fourth.address.clone(), ..NodeRow::default() });
    nodes[0].store().register_node(all[3].clone()).await;
    fourth.start(&all).await;
    nodes.push(fourth);
    // Of 24 copies, within a twentieth and half a copy.
    settled(&nodes, 4, 5..=7).await;
    nodes[0].store().register_node(NodeRow { leaving: true, ..all[1].clone() }).await;
    settled(&nodes, 2, 0..=0).await;
    for n in 0..8 {
        add(&nodes[3], n * 10).await.expect("adds");
        assert_eq!(value(&nodes[2], n * 10).await, 2, "row {n}");
    }
    end(&mut nodes).await;
}
