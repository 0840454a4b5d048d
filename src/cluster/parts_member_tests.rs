//! Commits over ranges that different nodes lead, over real sockets.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::{NodeId, RangeId};
use meridian_kv::api::{Bytes, Key, KvError, Span, Timestamp};
use meridian_kv::commit::{Answer, Message};

use crate::TxnOptions;
use crate::apply::EntryApplier;
use crate::batcher::run_batcher;
use crate::member_tests::{Node, end, eventually, three};
use crate::parts::Reply;
use crate::parts_tests::{ACCOUNTS, account, request, total, transfers};
use crate::proposer::Unlogged;
use crate::range::{Range, Shape};
use crate::txn::Try;

/// Three nodes that all know each other to live. The keys from `p` on are led by the second one, in its
/// memory.
pub(crate) async fn divided() -> Vec<Node> {
    let nodes = three().await;
    let live = |node: &Node| node.store().core().cluster().expect("a member").live().len();
    eventually("all live", || nodes.iter().all(|node| live(node) == 3)).await;
    for node in &nodes {
        let core = node.store().core();
        let shape = |start, end| Shape { span: Span::new(start, end), generation: 2 };
        let (left, right) = (shape("", "p"), shape("p", ""));
        let ring = core.config.recent_writes_len;
        let range = Arc::new(Range::new(RangeId(2), right.clone(), Timestamp::MIN, ring));
        core.ranges.put(vec![(Arc::clone(core.first()), left), (Arc::clone(&range), right)]);
        range.lease.note_leader(Some(NodeId(2)));
        if node.id == NodeId(2) {
            let applier = EntryApplier::new(Arc::clone(core), Arc::clone(&range)).expect("reads");
            applier.holds.set(Some(range.shape()));
            let log = Arc::new(Unlogged { core: Arc::clone(core), applier });
            core.lead(&range, 1, None).expect("nothing is stored there");
            tokio::spawn(run_batcher(Arc::clone(core), range, log));
        }
    }
    nodes
}

pub(crate) fn is_quiet(nodes: &[Node]) -> bool {
    let records = |node: &Node| {
        let ranges = node.store().core().ranges.all();
        ranges.iter().any(|range| !range.pipeline.records(None).is_empty())
    };
    nodes.iter().all(|node| node.store().lock_view().is_empty() && !records(node))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_between_leaseholders_keep_the_sum_at_every_gateway() {
    let mut nodes = divided().await;
    let mut txn = nodes[2].begin();
    for n in 0..ACCOUNTS {
        txn.put(account(n), Bytes::from("100"));
    }
    txn.commit().await.expect("commits at two nodes, from a third");
    drop(txn);
    let clients = nodes.iter().flat_map(|node| {
        (0..3).map(|client| {
            let store = Arc::clone(node.store());
            tokio::spawn(async move {
                let expected = |error: &KvError| match error {
                    KvError::Deadlock { .. } => true,
                    KvError::Retry { .. } => client % 3 != 0,
                    _ => false,
                };
                transfers(&store, client, 20, expected).await
            })
        })
    });
    let mut committed = 0;
    for client in clients.collect::<Vec<_>>() {
        committed += client.await.unwrap();
    }
    assert!(committed > 50, "{committed}");
    for node in &nodes {
        assert_eq!(total(node.store()).await, Ok(600));
    }
    eventually("all is given back", || is_quiet(&nodes)).await;
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_dies_leaves_an_outcome() {
    let mut nodes = divided().await;
    let core = Arc::clone(nodes[2].store().core());
    let cluster = core.cluster().expect("a member");
    // One has prepared everywhere, one only in part.
    for (keys, prepared) in [(["a", "z"], 2), (["b", "y"], 1)] {
        let this = Try::new(core.next_txn_id(), core.hlc.now());
        let header = core.coordinators.header(&core, &this, keys.map(Key::from).into());
        for own in 0..prepared {
            let message = Message::Prepare(Arc::new(request(&header, own, "1")));
            let node = NodeId(own as u64 + 1);
            let reply = cluster.part_at(node, &header, own, message, None).await;
            assert!(matches!(reply, Reply::Answer(Answer::Prepared(_))), "{reply:?}");
        }
    }
    drop((core, cluster));
    nodes[2].kill().await;
    for (key, row) in [("a", Some("1")), ("z", Some("1")), ("b", None), ("y", None)] {
        let mut txn = nodes[0].store().begin(TxnOptions::default());
        let found = txn.get(key.as_bytes()).await.expect("reads");
        assert_eq!(found.as_deref(), row.map(str::as_bytes), "{key}");
    }
    eventually("all is given back", || is_quiet(&nodes[..2])).await;
    end(&mut nodes).await;
}

async fn with_money(nodes: &[Node]) {
    let mut txn = nodes[0].begin();
    for n in 0..ACCOUNTS {
        txn.put(account(n), Bytes::from("100"));
    }
    txn.commit().await.expect("commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_go_on_while_ranges_split() {
    let mut nodes = three().await;
    with_money(&nodes).await;
    let clients = nodes.iter().flat_map(|node| {
        (0..2).map(|client| {
            let store = Arc::clone(node.store());
            tokio::spawn(async move {
                // The right half is led anew: locks there are lost. On a busy machine that takes long.
                let expected = |error: &KvError| match error {
                    KvError::Deadlock { .. } | KvError::Retry { .. } => true,
                    KvError::Unavailable { reason } => {
                        tracing::warn!(%reason, "a half without a leader");
                        true
                    }
                    _ => false,
                };
                transfers(&store, client, 25, expected).await
            })
        })
    });
    let clients: Vec<_> = clients.collect();
    for (node, at) in [(0, "h"), (1, "p"), (2, "k3")] {
        nodes[node].store().split_at(Key::from(at)).await.expect("splits");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut committed = 0;
    for client in clients {
        committed += client.await.unwrap();
    }
    assert!(committed > 30, "{committed}");
    for node in &nodes {
        assert_eq!(node.store().ranges().len(), 4);
        assert_eq!(total(node.store()).await, Ok(600));
    }
    eventually("all is given back", || is_quiet(&nodes)).await;
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_leaseholder_loses_no_money() {
    let mut nodes = three().await;
    with_money(&nodes).await;
    for at in ["h", "p"] {
        nodes[0].store().split_at(Key::from(at)).await.expect("splits");
    }
    let clients = nodes[1..].iter().flat_map(|node| {
        (0..2).map(|client| {
            let store = Arc::clone(node.store());
            tokio::spawn(async move {
                // All but a wrong sum.
                transfers(&store, client, 25, |_| true).await
            })
        })
    });
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    nodes[0].kill().await;
    let mut committed = 0;
    for client in clients {
        committed += client.await.unwrap();
    }
    assert!(committed > 10, "{committed}");
    for node in &nodes[1..] {
        assert_eq!(total(node.store()).await, Ok(600));
    }
    eventually("all is given back", || is_quiet(&nodes[1..])).await;
    end(&mut nodes).await;
}
