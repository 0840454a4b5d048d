//! One node of three goes on alone.

use meridian_base::{NodeId, RangeId};

use crate::member_tests::{add, end, eventually, rows, three, value};
use crate::recover::{go_on_alone, replicas_in};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_goes_on_alone() {
    let mut nodes = three().await;
    for n in 0..20 {
        add(&nodes[1], n).await.expect("adds");
    }
    let all = |range: RangeId| nodes.iter().all(|node| node.store().voters(range) == 3);
    eventually("three voters", || all(RangeId(1))).await;
    eventually("all have all", || nodes[2].store().applied() >= nodes[0].store().applied()).await;
    end(&mut nodes).await;
    // The other two are gone for good.
    let mut left = nodes.pop().expect("three");
    let dir = left.dir.path().to_owned();
    let found = loop {
        match replicas_in(&dir) {
            // What a killed node was about still ends in the background.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            Ok(found) => break found,
        }
    };
    assert_eq!((found.len(), found[0].range, found[0].voters.len()), (1, RangeId(1), 3));
    go_on_alone(&dir, left.id).expect("is done");
    let after = replicas_in(&dir).expect("reads");
    assert_eq!(after[0].voters, [NodeId(3)].into());
    assert!(after[0].last > found[0].last, "{after:?}");

    left.start(&rows(std::slice::from_ref(&left))).await;
    for n in 0..20 {
        add(&left, n).await.expect("adds alone");
        assert_eq!(value(&left, n).await, 2);
    }
    // What it does then lasts.
    left.kill().await;
    left.start(&rows(std::slice::from_ref(&left))).await;
    assert_eq!(value(&left, 7).await, 2);
    left.kill().await;
}
