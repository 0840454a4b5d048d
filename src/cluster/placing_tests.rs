//! Copies that move: a node that comes gets its share, one that leaves is emptied, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meridian_base::{NodeId, RangeId};
use meridian_storage::engine::Keyspace;

use crate::member::NodeRow;
use crate::member_tests::{Node, add, end, eventually, key, rows, three, three_of, value};
use crate::{Bytes, Isolation, KvError, Span, TxnOptions, Zone};

/// A fourth node comes. Answers the rows of all.
async fn a_fourth_joins(nodes: &mut Vec<Node>) -> Vec<NodeRow> {
    let mut fourth = Node::new(4);
    let mut all = rows(nodes);
    all.push(NodeRow { id: 4, address: fourth.address.clone(), ..NodeRow::default() });
    nodes[0].store().register_node(all[3].clone()).await;
    fourth.start(&all).await;
    nodes.push(fourth);
    all
}

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
    let all = a_fourth_joins(&mut nodes).await;
    // Of 24 copies, within a twentieth and half a copy.
    settled(&nodes, 4, 5..=7).await;
    // Who was not asked to keep its copies has removed them, and nothing else.
    eventually("what moved away is gone", || kept(&nodes) == 24).await;
    nodes[0].store().register_node(NodeRow { leaving: true, ..all[1].clone() }).await;
    settled(&nodes, 2, 0..=0).await;
    for n in 0..8 {
        add(&nodes[3], n * 10).await.expect("adds");
        assert_eq!(value(&nodes[2], n * 10).await, 2, "row {n}");
    }
    let is_empty = |node: &Node| held(node).is_empty() && keys_of(node) == 0;
    eventually("node 2 is empty", || is_empty(&nodes[1])).await;
    assert_eq!(kept(&nodes), 24);
    nodes[1].kill().await;
    nodes[1].start(&all).await;
    assert!(is_empty(&nodes[1]), "it stays so");
    // It comes back and gets copies anew, of ranges that it has had.
    nodes[0].store().register_node(all[1].clone()).await;
    settled(&nodes, 2, 5..=7).await;
    nodes[0].store().register_node(NodeRow { leaving: true, ..all[2].clone() }).await;
    settled(&nodes, 3, 0..=0).await;
    eventually("node 3 is empty", || is_empty(&nodes[2]) && kept(&nodes) == 24).await;
    for n in 0..8 {
        add(&nodes[1], n * 10).await.expect("adds");
        assert_eq!(value(&nodes[2], n * 10).await, 3, "row {n}");
    }
    end(&mut nodes).await;
}

/// What the replicas of a node hold.
fn held(node: &Node) -> Vec<RangeId> {
    let all = node.store().replicas.all();
    let all = all.iter().filter(|replica| replica.holds.get().is_some());
    all.map(|replica| replica.range.id).collect()
}

/// How many copies there are in all.
fn kept(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| held(node).len()).sum()
}

/// How many keys of rows are in a node's engine.
fn keys_of(node: &Node) -> usize {
    let engine = &node.store().core().read.engine;
    engine.range(Keyspace::Cur, &Span::all().physical(), false).count()
}

/// In a cluster of one range the copies serve reads of snapshots.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_outlives_the_copy_that_it_was_read_from() {
    let mut nodes = three().await;
    for n in 0..4 {
        add(&nodes[0], n).await.expect("adds");
    }
    let options = TxnOptions { isolation: Isolation::RepeatableRead, ..TxnOptions::default() };
    let mut old = nodes[2].store().begin(options);
    eventually("the copy is there", || nodes[2].store().applied() >= nodes[0].store().applied())
        .await;
    assert!(old.get(&key(0)).await.expect("reads").is_some() && old.reads_here());
    let all = a_fourth_joins(&mut nodes).await;
    nodes[0].store().register_node(NodeRow { leaving: true, ..all[2].clone() }).await;
    eventually("the copy is gone", || keys_of(&nodes[2]) == 0).await;
    for n in 0..4 {
        add(&nodes[1], n).await.expect("adds");
        let row = old.get(&key(n)).await.expect("reads").expect("it is there");
        assert_eq!(row[..], 1_u32.to_le_bytes(), "row {n}, as it was");
        assert_eq!(value(&nodes[2], n).await, 2);
    }
    let mut scan = old.scan(Span::prefix(&key(0)[..7]), false).await.expect("scans");
    let mut found = Vec::new();
    while scan.next_batch(100, &mut found).await.expect("reads") {}
    assert_eq!(found.len(), 4);
    old.rollback();
    end(&mut nodes).await;
}

/// Two nodes share a zone: of four, each range has copies on one of them and on the two others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_in_different_zones_and_every_node_knows_sizes_and_loads() {
    let mut nodes = three().await;
    for at in 1..8 {
        nodes[0].store().split_at(key(at * 10)).await.expect("splits");
    }
    let large = Bytes::from(vec![7; 100_000]);
    for n in 0..20 {
        let mut txn = nodes[1].begin();
        txn.put(key(30 + n % 10), large.clone());
        txn.put(key(1000 + n), large.clone());
        txn.commit().await.expect("commits");
    }
    let range = nodes[0].store().core().range_of(&key(30)).id;
    let load = || async {
        for n in 0..500 {
            length(&nodes[2], 30 + n % 10).await;
        }
    };
    let mut heard = false;
    for _ in 0..30 {
        load().await;
        let first = RangeId(1);
        heard = nodes.iter().all(|node| figures(node, range).1 > figures(node, first).1);
        if heard {
            break;
        }
    }
    assert!(heard, "it is asked more");
    for node in &nodes {
        eventually("sizes are known", || {
            let (large, small) = (figures(node, range).0, figures(node, RangeId(1)).0);
            (700_000..1_100_000).contains(&large) && small > 0 && small < 100_000
        })
        .await;
    }
    // They are started again elsewhere, and a fourth one comes.
    let mut fourth = Node::new(4);
    let mut all = rows(&nodes);
    all.push(NodeRow { id: 4, address: fourth.address.clone(), ..NodeRow::default() });
    nodes[0].store().register_node(all[3].clone()).await;
    for (at, zone) in
        ["region=eu,zone=a", "region=eu,zone=a", "region=eu,zone=b"].iter().enumerate()
    {
        nodes[at].locality = zone;
        nodes[at].kill().await;
        nodes[at].start(&all[..3]).await;
        eventually("all are led", || placed(&nodes).len() == 8).await;
    }
    fourth.locality = "region=eu,zone=c";
    fourth.start(&all).await;
    nodes.push(fourth);
    let zones = |voters: &BTreeSet<NodeId>| {
        let zone = |node: &NodeId| nodes[usize::try_from(node.0 - 1).unwrap()].locality;
        voters.iter().map(zone).collect::<BTreeSet<_>>().len()
    };
    eventually("copies are spread", || {
        let placed = placed(&nodes);
        placed.len() == 8 && placed.values().all(|voters| zones(voters) == 3)
    })
    .await;
    for n in 0..20 {
        assert_eq!(length(&nodes[3], 1000 + n).await, 100_000);
    }
    end(&mut nodes).await;
}

/// A zone begins and ends where ranges come to begin, and its copies are as many as it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_as_a_zone_says() {
    let mut nodes = three().await;
    for n in 0..40 {
        add(&nodes[0], n).await.expect("adds");
    }
    let zone = |factor, placement| Zone::default().with(factor, placement).expect("a zone");
    let set = |nodes: &[Node], zone: Zone| {
        let zones = BTreeMap::from([(key(10), zone), (key(20), Zone::default())]);
        nodes.iter().for_each(|node| node.store().set_zones(Zone::default(), zones.clone()));
    };
    set(&nodes, zone(Some("1"), None));
    let of = |nodes: &[Node], n| {
        let id = nodes[0].store().core().range_of(&key(n)).id;
        placed(nodes).remove(&id).unwrap_or_default()
    };
    eventually("one copy of the zone, three of the rest", || {
        let counts = [5, 15, 25].map(|n| of(&nodes, n).len());
        counts == [3, 1, 3] && of(&nodes, 10) == of(&nodes, 19)
    })
    .await;
    set(&nodes, zone(Some("3"), None));
    eventually("three again", || of(&nodes, 15).len() == 3 && kept(&nodes) == 9).await;
    for n in 0..40 {
        add(&nodes[2], n).await.expect("adds");
        assert_eq!(value(&nodes[1], n).await, 2);
    }
    end(&mut nodes).await;
}

/// A range that is asked too much becomes two, in the midst of what it is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loaded_range_is_split_where_its_load_is() {
    let new = |id| Node { range_load_max: 20, ..Node::new(id) };
    let mut nodes = three_of((1..=3).map(new).collect()).await;
    // Most rows are not asked for.
    for n in (0..40).chain(500..540) {
        add(&nodes[0], n).await.expect("adds");
    }
    // Writes: what one range's copies read by themselves is no load of its leaseholder's.
    let mut rounds = 1..1_000;
    let (last, starts) = loop {
        let round = rounds.next().expect("it is split");
        for n in 500..540 {
            add(&nodes[0], n).await.expect("adds");
        }
        let spans = nodes[1].store().core().ranges.spans();
        let starts: Vec<_> = spans.into_iter().map(|(_, span)| span.start).collect();
        if starts.len() > 1 {
            break (round, starts);
        }
    };
    assert!(starts[1..].iter().all(|start| *start > key(500) && *start < key(540)), "{starts:?}");
    eventually("all are led", || placed(&nodes).values().all(|voters| voters.len() == 3)).await;
    for (n, adds) in (0..40).map(|n| (n, 2)).chain((500..540).map(|n| (n, last + 2))) {
        add(&nodes[1], n).await.expect("adds");
        assert_eq!(value(&nodes[2], n).await, adds, "row {n}");
    }
    end(&mut nodes).await;
}

async fn length(node: &Node, n: u32) -> usize {
    loop {
        match node.begin().get(&key(n)).await {
            Err(KvError::StatementRetry) => {}
            row => return row.expect("reads").expect("it is there").len(),
        }
    }
}

/// Bytes and load of a range, as a node has heard.
fn figures(node: &Node, range: RangeId) -> (u64, u64) {
    let cluster = node.store().core().cluster().expect("it is one of several");
    let figures = cluster.figures(range);
    (figures.bytes, figures.load)
}
