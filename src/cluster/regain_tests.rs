//! Row locks that are lost under a transaction: it waits for who has got them, and goes on if nothing has
//! changed.

use std::sync::Arc;
use std::time::Duration;

use meridian_kv::api::{Bytes, Key, KvError, Strength, WaitPolicy};
use meridian_kv::run::RunBuilder;

use crate::member_tests::{Node, add, end, key, three, value};
use crate::parts_member_tests::{divided, is_quiet};
use crate::{Locked, Txn};

async fn lock(txn: &mut Txn, key: &Key) -> Result<Locked, KvError> {
    txn.lock(key, Strength::Update, WaitPolicy::Block).await
}

/// As if the leaseholders had given a node up for a while.
fn forget(nodes: &[Node], lost: usize) {
    for (at, node) in nodes.iter().enumerate() {
        if at != lost {
            node.store().forget_guests_of(nodes[lost].id);
        }
    }
}

/// Whoever has lost its locks commits when `third`, which has got one of them, has ended.
async fn waits_for(mut txn: Txn, mut third: Txn, row: &Key) {
    lock(&mut third, row).await.expect("nobody holds it any more");
    let commit = tokio::spawn(async move { txn.commit().await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!commit.is_finished(), "it waits");
    third.rollback();
    commit.await.expect("ends").expect("nothing has changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_for_who_has_got_its_locks() {
    let mut nodes = three().await;
    add(&nodes[0], 1).await.expect("adds");
    let mut txn = nodes[1].begin();
    lock(&mut txn, &key(1)).await.expect("locks");
    txn.put(key(1), Bytes::copy_from_slice(&7_u32.to_le_bytes()));
    forget(&nodes, 1);
    waits_for(txn, nodes[2].begin(), &key(1)).await;
    assert_eq!(value(&nodes[0], 1).await, 7);
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_over_ranges_has_all_its_locks() {
    let mut nodes = divided().await;
    let (a, z) = (Key::from("a"), Key::from("z"));
    let lose = async |nodes: &[Node]| {
        let mut txn = nodes[2].begin();
        txn.begin_statement();
        for row in [&a, &z] {
            lock(&mut txn, row).await.expect("locks");
            txn.put(row.clone(), Bytes::from("1"));
        }
        forget(nodes, 2);
        txn
    };
    let txn = lose(&nodes).await;
    waits_for(txn, nodes[0].begin(), &z).await;
    // What has changed meanwhile is not written over.
    let mut txn = lose(&nodes).await;
    let mut third = nodes[1].begin();
    lock(&mut third, &a).await.expect("nobody holds it any more");
    third.put(a.clone(), Bytes::from("2"));
    third.commit().await.expect("commits");
    assert_eq!(txn.commit().await, Err(KvError::CONCURRENT_UPDATE));
    let seen = nodes[0].begin().get(&a).await.expect("reads");
    assert_eq!(seen, Some(Bytes::from("2")));
    drop((txn, third));
    crate::member_tests::eventually("all is given back", || is_quiet(&nodes)).await;
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_whose_locks_are_all_its_own_runs_again() {
    let mut nodes = three().await;
    add(&nodes[0], 1).await.expect("adds");
    let mut txn = nodes[1].begin();
    txn.begin_statement();
    lock(&mut txn, &key(1)).await.expect("locks");
    forget(&nodes, 1);
    add(&nodes[2], 1).await.expect("nobody holds it any more");
    assert_eq!(lock(&mut txn, &key(2)).await.err(), Some(KvError::StatementRetry));
    txn.begin_statement();
    for n in [1, 2] {
        assert!(matches!(lock(&mut txn, &key(n)).await, Ok(Locked::Held { changed: false, .. })));
        txn.put(key(n), Bytes::copy_from_slice(&9_u32.to_le_bytes()));
    }
    txn.commit().await.expect("commits");
    assert_eq!(value(&nodes[2], 1).await, 9);
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_in_bulk_are_sent_again() {
    let mut nodes = three().await;
    let mut builder = RunBuilder::default();
    (10..200).for_each(|n| builder.push(&key(n), &n.to_le_bytes()));
    let run = Arc::new(builder.build().expect("no doubles").0);
    let mut txn = nodes[1].begin();
    assert_eq!(txn.claim_run(&run).await, Ok(None));
    txn.put_run(Arc::clone(&run));
    forget(&nodes, 1);
    waits_for(txn, nodes[2].begin(), &key(50)).await;
    assert_eq!(value(&nodes[0], 199).await, 199);
    // Somebody else's row stays.
    let mut builder = RunBuilder::default();
    (300..400).for_each(|n| builder.push(&key(n), &n.to_le_bytes()));
    let run = Arc::new(builder.build().expect("no doubles").0);
    let mut txn = nodes[1].begin();
    assert_eq!(txn.claim_run(&run).await, Ok(None));
    txn.put_run(run);
    forget(&nodes, 1);
    add(&nodes[0], 333).await.expect("nobody holds it any more");
    assert_eq!(txn.commit().await, Err(KvError::CONCURRENT_UPDATE));
    assert_eq!(value(&nodes[0], 333).await, 1);
    end(&mut nodes).await;
}
