//! Leases that go elsewhere while everybody works: of a node that is to be stopped, which gets none, and at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meridian_base::NodeId;

use crate::KvError;
use crate::member::{JoinReply, JoinRequest};
use crate::member_tests::{Node, add, end, eventually, key, rows, three, value};

async fn ask(node: &Node, action: &str, about: u64) -> Result<JoinReply, String> {
    let among = node.store().among.as_ref().expect("a member");
    let request = JoinRequest {
        action: action.to_owned(),
        node: about,
        patience: 30,
        ..JoinRequest::default()
    };
    among.register.administer(&request).await
}

/// How many ranges a node leads, as it says itself.
fn leads(node: &Node) -> usize {
    let core = node.store().core();
    core.ranges.all().iter().filter(|range| range.lease.here(&core.hlc).is_some()).count()
}

fn all_led(nodes: &[Node]) -> bool {
    nodes.iter().map(leads).sum::<usize>() == 4
}

fn drains(node: &Node) -> Option<u64> {
    let asked = node.store().draining().expect("a member");
    asked.borrow().map(|sessions| sessions.as_secs())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_leads_nothing_until_it_starts_again_and_nobody_is_disturbed() {
    let mut nodes = three().await;
    for at in 1..4 {
        nodes[0].store().split_at(key(at * 10)).await.expect("splits");
    }
    eventually("all are led", || all_led(&nodes)).await;
    // Writers on every node, all the time.
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3_usize)
        .map(|at| {
            let store = Arc::clone(nodes[at].store());
            let stop = Arc::clone(&stop);
            let node = Node { store: Some(store), ..Node::new(at as u64 + 1) };
            tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    add(&node, u32::try_from(at * 10).expect("small")).await.expect("adds");
                    count += 1;
                }
                count
            })
        })
        .collect();
    let answer = ask(&nodes[1], "drain", 1).await.expect("is drained");
    let row = &answer.nodes[0];
    assert_eq!((row.id, row.draining, row.leases), (1, true, 0), "{answer:?}");
    eventually("it leads nothing", || leads(&nodes[0]) == 0).await;
    eventually("its clients are told", || drains(&nodes[0]) == Some(30)).await;
    let spread = || leads(&nodes[1]) > 0 && leads(&nodes[2]) > 0 && all_led(&nodes);
    eventually("its leases are spread", spread).await;
    let plan = || nodes[1].store().rebalance_plan();
    eventually("nothing goes there", || plan().iter().all(|row| row[3] != "1")).await;

    let answer = ask(&nodes[0], "undrain", 1).await.expect("takes it back");
    assert!(!answer.nodes[0].draining);
    eventually("it is as before", || drains(&nodes[0]).is_none()).await;

    // The last one isn't drained. One that isn't there may be.
    ask(&nodes[2], "drain", 2).await.expect("is drained");
    eventually("it leads nothing", || leads(&nodes[1]) == 0).await;
    ask(&nodes[2], "drain", 3).await.expect("is drained");
    assert!(ask(&nodes[2], "drain", 1).await.unwrap_err().contains("the last"));
    eventually("one leads all", || leads(&nodes[0]) == 4).await;
    stop.store(true, Ordering::Relaxed);
    for (at, writer) in (0_u32..).zip(writers) {
        assert_eq!(writer.await.expect("ends"), value(&nodes[0], at * 10).await);
    }

    // A start ends it.
    let all = rows(&nodes);
    nodes[1].kill().await;
    nodes[1].start(&all).await;
    let row_of =
        async |id: usize| ask(&nodes[0], "status", 0).await.expect("answers").nodes[id].draining;
    while row_of(1).await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(drains(&nodes[1]).is_none() && row_of(2).await);

    // Who stops gives them away before, too, and says so.
    nodes[0].store().give_leases_away().await;
    eventually("another leads", || leads(&nodes[0]) == 0).await;
    assert!(row_of(0).await, "the others know");
    add(&nodes[0], 1).await.expect("its sessions go on");
    eventually("not the third, which is drained", || leads(&nodes[1]) == 4).await;
    end(&mut nodes).await;
}

/// Whoever was told of a write sees it at once on any node, and no range is left without a leaseholder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_move_all_the_time_and_reads_are_recent() {
    let mut nodes = three().await;
    for at in 1..4 {
        nodes[0].store().split_at(key(at * 10)).await.expect("splits");
    }
    eventually("all are led", || all_led(&nodes)).await;
    let handle = |at: usize| {
        let store = Some(Arc::clone(nodes[at % 3].store()));
        Node { store, ..Node::new(at as u64 % 3 + 1) }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4_usize)
        .map(|at| {
            let (writer, reader) = (handle(at), handle(at + 1));
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let (n, mut count) = (u32::try_from(at * 10).expect("small"), 0);
                while !stop.load(Ordering::Relaxed) {
                    add(&writer, n).await.expect("adds");
                    count += 1;
                    assert_eq!(value(&reader, n).await, count, "row {n}");
                }
                count
            })
        })
        .collect();
    let mut ids: Vec<_> = nodes[0].store().ranges().into_iter().map(|range| range.id).collect();
    for step in 0_u64..60 {
        let asked = nodes[usize::try_from(step % 3).expect("small")].store();
        let to = NodeId((step * 7 / 4) % 3 + 1);
        asked.relocate_lease(ids[0], to).await.expect("moves");
        ids.rotate_left(1);
    }
    stop.store(true, Ordering::Relaxed);
    for (at, writer) in (0_u32..).zip(writers) {
        assert_eq!(writer.await.expect("ends"), value(&nodes[0], at * 10).await);
    }
    let refused = nodes[1].store().relocate_lease(ids[0], NodeId(7)).await;
    let lacks = format!("node 7 has no copy of range {}", ids[0].0);
    assert_eq!(refused, Err(KvError::Unavailable { reason: lacks }));
    end(&mut nodes).await;
}
