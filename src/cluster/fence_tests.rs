//! Definitions and a gateway that the first range's leaseholder cannot reach, while others serve it.
//!
//! The table's lock is what a definition takes; its form is a row of the first range. Rows of the table lie in
//! a range that another node leads.

use std::time::Duration;

use meridian_base::Instant;
use meridian_kv::api::{Bytes, Key, KvError, TableLockMode};
use meridian_kv::fence::GUARD;

use crate::Txn;
use crate::deadlock_tests::all_live;
use crate::member_tests::{Node, end, eventually, key};
use crate::parts_member_tests::divided;

const TABLE: u32 = 17;

fn form() -> Key {
    key(1)
}

fn row() -> Key {
    Key::from("z")
}

/// A one-way cut between the node and who leads the first range: it can't ask for guards.
fn cut(node: &Node, is_cut: bool) {
    node.store().core().cluster().expect("a member").mute(is_cut);
}

async fn insert(node: &Node) -> Result<Txn, KvError> {
    let mut txn = node.begin();
    txn.lock_table(TABLE, TableLockMode::RowExclusive, false).await?;
    txn.put(row(), Bytes::from("by the old form"));
    Ok(txn)
}

/// Locks the table, looks at its rows, and commits its new form; again, as a session does, if it was in vain.
async fn define(node: &Node) -> (Option<Bytes>, Result<(), KvError>) {
    loop {
        match define_once(node).await {
            (_, Err(KvError::Retry { .. })) => {}
            defined => return defined,
        }
    }
}

async fn define_once(node: &Node) -> (Option<Bytes>, Result<(), KvError>) {
    let mut txn = node.begin();
    if let Err(error) = txn.lock_table(TABLE, TableLockMode::AccessExclusive, false).await {
        return (None, Err(error));
    }
    txn.begin_statement();
    let seen = txn.get(&row()).await.expect("reads");
    txn.put(form(), Bytes::from("new"));
    (seen, txn.commit().await.map(drop))
}

fn is_guarded(node: &Node) -> bool {
    let core = node.store().core();
    core.fence.holds(&core.hlc)
}

async fn guarded(nodes: &[Node]) {
    eventually("all may use their catalogs", || nodes.iter().all(is_guarded)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_by_the_old_form_is_committed_before_the_definition_or_not_at_all() {
    let mut nodes = divided().await;
    guarded(&nodes).await;
    let (definer, gateway) = (&nodes[0], &nodes[2]);
    // It is under way, and the first range's leaseholder gives the gateway up.
    let mut writing = insert(gateway).await.expect("locks");
    cut(gateway, true);
    definer.store().core().cluster().expect("a member").node_gone(gateway.id);
    let began = Instant::now();
    let (definition, committed) = tokio::join!(define(definer), async {
        tokio::time::sleep(GUARD + Duration::from_millis(100)).await;
        tokio::time::timeout(2 * GUARD, writing.commit()).await
    });
    let (seen, defined) = definition;
    defined.expect("it waits until the gateway's guard has run out");
    assert_eq!(seen, None);
    assert!(committed.is_err(), "the commit waits for a guard: {committed:?}");
    assert!(began.elapsed() < 10 * GUARD);
    // Nor does anything new begin there.
    let new = tokio::time::timeout(GUARD, insert(gateway)).await;
    assert!(new.is_err(), "it knows the old form only");
    cut(gateway, false);
    let mut again = insert(gateway).await.expect("it knows the new form");
    again.commit().await.expect("commits");
    drop((writing, again));
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_was_begun_by_the_old_form_is_over() {
    let mut nodes = divided().await;
    guarded(&nodes).await;
    let gateway = &nodes[2];
    let mut writing = insert(gateway).await.expect("locks");
    let mut reading = gateway.begin();
    reading.lock_table(TABLE, TableLockMode::AccessShare, false).await.expect("locks");
    cut(gateway, true);
    define(&nodes[0]).await.1.expect("it waits until the gateway's guard has run out");
    assert!(!reading.is_confirmed(), "nobody is told of what it reads now");
    // As the catalog's keeper does when it reads another one.
    gateway.store().on_announcement({
        let store = gateway.store().clone();
        move |_| {
            let store = store.clone();
            Box::pin(async move { store.catalog_was_old() })
        }
    });
    cut(gateway, false);
    let refused = writing.commit().await;
    assert_eq!(refused, Err(KvError::CONCURRENT_UPDATE), "the table has another form");
    assert_eq!(reading.confirm().await, Err(KvError::CONCURRENT_UPDATE));
    drop((writing, reading));
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_waits_for_a_dead_node_no_longer_than_for_its_guard() {
    let mut nodes = all_live().await;
    guarded(&nodes).await;
    nodes[2].kill().await;
    let began = Instant::now();
    let outcome = define(&nodes[1]).await.1;
    assert_eq!(outcome, Ok(()));
    assert!(began.elapsed() < 3 * GUARD, "{:?}", began.elapsed());
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guards_outlive_the_lease_and_so_does_what_was_missed() {
    let mut nodes = all_live().await;
    guarded(&nodes).await;
    let before = insert(&nodes[2]).await.expect("locks");
    nodes[0].store().hand_over().await;
    let mut before = before;
    before.commit().await.expect("nothing was defined meanwhile");
    before.release_locks();
    // A definition without the third node, and then another lease.
    cut(&nodes[2], true);
    eventually("its guard has run out", || !is_guarded(&nodes[2])).await;
    define(&nodes[1]).await.1.expect("commits");
    for node in &nodes[..2] {
        node.store().hand_over().await;
    }
    let blind = tokio::time::timeout(GUARD, insert(&nodes[2])).await;
    assert!(blind.is_err(), "whoever leads now");
    cut(&nodes[2], false);
    drop(insert(&nodes[2]).await.expect("it asks again"));
    drop(before);
    end(&mut nodes).await;
}
