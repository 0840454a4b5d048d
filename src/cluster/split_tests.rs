//! Ranges that split: under load, with nodes that die meanwhile, with nodes that miss it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meridian_base::RangeId;
use meridian_kv::api::{Bytes, KvError};
use meridian_storage::Keyspace;
use tempfile::TempDir;

use crate::apply::parts_of;
use crate::lease::Home;
use crate::member::NodeRow;
use crate::member_tests::{Node, add, end, eventually, key, rows, three, value};
use crate::parts_tests::{ACCOUNTS, account, total, transfers};
use crate::{Store, StoreConfig, TxnOptions};

const FIRST: RangeId = RangeId(1);

async fn put(store: &Arc<Store>, n: u32, value: &'static str) {
    store.put_raw(key(n), Bytes::from(value)).await.expect("writes");
}

async fn get(store: &Arc<Store>, n: u32) -> Option<Bytes> {
    store.begin(TxnOptions::default()).get(&key(n)).await.expect("reads")
}

#[tokio::test]
async fn a_store_in_memory_splits_and_both_halves_go_on() {
    let store = Store::open(StoreConfig::in_memory()).await.expect("opens");
    put(&store, 1, "a").await;
    put(&store, 8, "b").await;
    let right = store.split_at(key(5)).await.expect("splits");
    assert_eq!(store.split_at(key(5)).await, Ok(right), "it begins there already");
    put(&store, 1, "c").await;
    put(&store, 8, "d").await;
    put(&store, 9, "e").await;
    for (n, expected) in [(1, "c"), (8, "d"), (9, "e")] {
        assert_eq!(get(&store, n).await.as_deref(), Some(expected.as_bytes()));
    }
    let ranges = store.ranges();
    assert_eq!(ranges.len(), 2);
    assert_eq!((ranges[1].id, &ranges[1].span.start), (right, &key(5)));
    let refused = store.split_at(Bytes::from_static(&[0x10, 0, 0, 0, 1])).await;
    assert!(matches!(refused, Err(KvError::Unavailable { .. })), "the system's keys");
    store.shutdown().await.expect("ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_outlives_a_restart_and_a_crash() {
    let dir = TempDir::new().expect("a directory");
    let config = || StoreConfig::at(dir.path());
    let store = Store::open(config()).await.expect("opens");
    for n in 0..20 {
        put(&store, n, "old").await;
    }
    let right = store.split_at(key(10)).await.expect("splits");
    let third = store.split_at(key(15)).await.expect("splits");
    put(&store, 3, "new").await;
    put(&store, 12, "new").await;
    store.kill().await;
    drop(store);
    for round in 0..2 {
        let store = loop {
            match Store::open(config()).await {
                // What a killed one was about still ends in the background.
                Err(error) if error.to_string().contains("in use") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                opened => break opened.expect("opens again"),
            }
        };
        let ids: Vec<_> = store.ranges().iter().map(|range| range.id).collect();
        assert_eq!(ids, [FIRST, right, third]);
        for n in 0..20 {
            let expected = if n == 3 || n == 12 { "new" } else { "old" };
            let expected = if round == 1 && n == 17 { "newer" } else { expected };
            assert_eq!(get(&store, n).await.as_deref(), Some(expected.as_bytes()), "row {n}");
        }
        put(&store, 17, "newer").await;
        store.shutdown().await.expect("ends");
    }
}

/// Adds to random rows until told to stop; answers how often it did so to each.
async fn add_until(stop: Arc<AtomicBool>, nodes: Arc<Vec<Node>>, at: usize) -> BTreeMap<u32, u32> {
    let mut added = BTreeMap::new();
    let mut n = at as u32;
    while !stop.load(Ordering::SeqCst) {
        n = (n * 7 + 3) % 20;
        match add(&nodes[at % 3], n).await {
            Ok(()) => *added.entry(n).or_default() += 1,
            // A lease that was lost, on a busy machine, took its locks along.
            Err(KvError::Retry { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    added
}

/// Waits until somebody leads every range, as all of these nodes know.
async fn led(nodes: &[&Node], count: usize) {
    let is_led = |node: &Node| {
        let ranges = node.store().ranges();
        ranges.len() == count && ranges.iter().all(|range| range.leaseholder.is_some())
    };
    for _ in 0..3_000 {
        if nodes.iter().all(|node| is_led(node)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let describe = |node: &&Node| {
        let replica = |replica: Arc<crate::replicas::Replica>| {
            let role = replica.group.as_ref().map(|group| *group.role().borrow());
            (replica.range.id, replica.holds.get(), role)
        };
        let replicas: Vec<_> = node.store().replicas.all().into_iter().map(replica).collect();
        format!("{}: {:#?}\n{replicas:#?}", node.id, node.store().ranges())
    };
    let all: Vec<_> = nodes.iter().map(describe).collect();
    panic!("not {count} ranges that are led: {}", all.join("\n"));
}

/// What a node's replica of a range holds.
fn content(node: &Node, range: RangeId) -> Option<Vec<(Bytes, Bytes)>> {
    let replica = node.store().replicas.get(range)?;
    let engine = &node.store().core().read.engine;
    let mut all = Vec::new();
    for (keyspace, span) in parts_of(&replica.holds.get()?.span) {
        if keyspace == Keyspace::Cur {
            all.extend(engine.range(keyspace, &span, false).map(|pair| pair.expect("reads")));
        }
    }
    Some(all)
}

/// Waits until all replicas of a range have the same content.
async fn same_content(nodes: &[&Node], range: RangeId) {
    eventually("the replicas agree", || {
        let all: Vec<_> = nodes.iter().map(|node| content(node, range)).collect();
        all[0].is_some() && all.iter().all(|content| *content == all[0])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_under_load_loses_nothing_and_is_known_everywhere() {
    let nodes = Arc::new(three().await);
    let stop = Arc::new(AtomicBool::new(false));
    let adding: Vec<_> = (0..6)
        .map(|at| tokio::spawn(add_until(Arc::clone(&stop), Arc::clone(&nodes), at)))
        .collect();
    let mut ids = vec![FIRST];
    for (node, at) in [(0, 10), (1, 5), (2, 15)] {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ids.push(nodes[node].store().split_at(key(at)).await.expect("splits"));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.store(true, Ordering::SeqCst);
    let mut added = BTreeMap::new();
    for task in adding {
        for (n, times) in task.await.expect("ends") {
            *added.entry(n).or_insert(0) += times;
        }
    }
    for (n, times) in &added {
        for node in nodes.iter() {
            assert_eq!(value(node, *n).await, *times, "row {n} as seen by {}", node.id);
        }
    }
    let all: Vec<&Node> = nodes.iter().collect();
    led(&all, 4).await;
    for id in ids {
        same_content(&all, id).await;
    }
    drop(all);
    end(&mut Arc::into_inner(nodes).expect("the tasks have ended")).await;
}

/// Commits within a range become commits over two while they are on their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_go_on_while_ranges_split() {
    let mut nodes = three().await;
    let mut txn = nodes[2].store().begin(TxnOptions::default());
    for n in 0..ACCOUNTS {
        txn.put(account(n), Bytes::from("100"));
    }
    txn.commit().await.expect("commits");
    drop(txn);
    let clients = nodes.iter().flat_map(|node| {
        (0..3).map(|client| {
            let store = Arc::clone(node.store());
            // The right half is led anew; on a busy machine that takes long.
            let expected = |error: &KvError| {
                use KvError::{Deadlock, Retry, Unavailable};
                matches!(error, Deadlock { .. } | Retry { .. } | Unavailable { .. })
            };
            tokio::spawn(async move { transfers(&store, client, 40, expected).await })
        })
    });
    let clients: Vec<_> = clients.collect();
    for (node, at) in ["k", "z", "k3", "a1", "z3"].into_iter().enumerate() {
        let splitting = nodes[node % 3].store().split_at(Bytes::from(at));
        splitting.await.expect("splits between transactions");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut committed = 0;
    for client in clients {
        committed += client.await.expect("ends");
    }
    assert!(committed > 100, "{committed}");
    for node in &nodes {
        assert_eq!(total(node.store()).await, Ok(600), "as seen by {}", node.id);
    }
    eventually("all locks are given back", || {
        nodes.iter().all(|node| node.store().lock_view().is_empty())
    })
    .await;
    end(&mut nodes).await;
}

/// A node dies while a range splits, and comes back: the halves are led, and the same everywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_during_a_split_comes_back_to_the_same() {
    let mut nodes = three().await;
    let mut count = 1;
    for n in 0..40 {
        add(&nodes[0], n).await.expect("adds");
    }
    for (round, (victim, pause)) in
        [(1, 0), (0, 1), (2, 3), (0, 6), (1, 10), (0, 15)].into_iter().enumerate()
    {
        let at = 5 + round as u32 * 5;
        let store = Arc::clone(nodes[victim].store());
        let other = Arc::clone(nodes[(victim + 1) % 3].store());
        let splitting = tokio::spawn(async move { other.split_at(key(at)).await });
        tokio::time::sleep(Duration::from_millis(pause)).await;
        drop(store);
        nodes[victim].kill().await;
        let right = splitting.await.expect("ends").expect("splits with the others");
        count += 1;
        let alive: Vec<&Node> = nodes.iter().filter(|node| node.store.is_some()).collect();
        for n in [at - 1, at] {
            let before = value(alive[0], n).await;
            add(alive[1], n).await.expect("both halves take writes");
            assert_eq!(value(alive[0], n).await, before + 1);
        }
        let register = rows(&nodes);
        nodes[victim].start(&register).await;
        let all: Vec<&Node> = nodes.iter().collect();
        led(&all, count).await;
        for id in [FIRST, right] {
            same_content(&all, id).await;
        }
    }
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_missed_a_split_and_who_is_new_gets_replicas_of_both_halves() {
    let mut nodes = three().await;
    for n in 0..20 {
        add(&nodes[0], n).await.expect("adds");
    }
    nodes[2].kill().await;
    let right = nodes[0].store().split_at(key(10)).await.expect("splits");
    for n in 0..20 {
        add(&nodes[1], n).await.expect("adds");
    }
    // The log of the split is gone: the left half comes as a snapshot, the right one is told of.
    for node in &nodes[..2] {
        for group in node.store().replicas.all() {
            let (raft, id) = (node.store().replicas.raft().cloned(), group.range.id);
            let raft = raft.expect("a log");
            let done = tokio::task::spawn_blocking(move || raft.shorten(id)).await.expect("ends");
            done.expect("shortens");
        }
    }
    let mut all = rows(&nodes);
    nodes[2].start(&all).await;
    let three: Vec<&Node> = nodes.iter().collect();
    for id in [FIRST, right] {
        same_content(&three, id).await;
    }
    drop(three);
    // One leaves for good, a fourth takes its place in both.
    nodes[1].kill().await;
    all[1].leaving = true;
    let mut fourth = Node::new(4);
    all.push(NodeRow { id: 4, address: fourth.address.clone(), ..NodeRow::default() });
    nodes[0].store().register_node(all[1].clone()).await;
    nodes[0].store().register_node(all[3].clone()).await;
    fourth.start(&all).await;
    for id in [FIRST, right] {
        same_content(&[&nodes[0], &nodes[2], &fourth], id).await;
    }
    for n in [3, 13] {
        add(&fourth, n).await.expect("adds");
        assert_eq!(value(&nodes[2], n).await, 3);
    }
    let core = fourth.store().core();
    let home = core.range_of(&key(13)).lease.home(core.node, &core.hlc);
    assert_ne!(home, Home::Nowhere);
    nodes.push(fourth);
    end(&mut nodes).await;
}
