//! A node that is to be stopped gives its leases away while everybody works, and gets none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    eventually("the first node leads all", || leads(&nodes[0]) == 4).await;
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
    let spread = || (leads(&nodes[1]), leads(&nodes[2])) == (2, 2);
    eventually("its leases are spread", spread).await;
    let plan = nodes[1].store().rebalance_plan();
    assert!(plan.iter().all(|row| row[3] != "1"), "nothing goes there: {plan:?}");

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
