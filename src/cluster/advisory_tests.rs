//! Advisory locks of a cluster, while leases move and nodes die.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meridian_base::Instant;
use parking_lot::Mutex;

use crate::LockTarget;
use crate::deadlock_tests::{all_live, session};
use crate::member_tests::{Node, end, eventually};
use crate::sessions::process_id;

const KEY: (u32, u32, u32) = (0, 42, 1);

/// Is the lock free for somebody else? It is given back at once.
async fn is_free(node: &Node) -> bool {
    session(node, 99).advisory_lock(KEY, false, false, false).await.expect("asks")
}

fn leader(nodes: &[Node]) -> usize {
    let leads = |node: &&Node| {
        let core = node.store().core();
        core.first().lease.here(&core.hlc).is_some()
    };
    nodes.iter().position(|node| leads(&node)).expect("one leads")
}

async fn moves_away(nodes: &[Node], from: usize) {
    nodes[from].store().hand_over().await;
    let core = nodes[from].store().core();
    eventually("another leads", || core.first().lease.here(&core.hlc).is_none()).await;
    eventually("one leads", || {
        nodes.iter().any(|node| {
            let core = node.store().core();
            core.first().lease.here(&core.hlc).is_some()
        })
    })
    .await;
}

fn advisory_locks(node: &Node) -> usize {
    let all = node.store().lock_view().into_iter();
    all.filter(|lock| matches!(lock.target, LockTarget::Advisory(_))).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advisory_locks_move_with_the_lease_and_who_waits_goes_on_waiting() {
    let mut nodes = all_live().await;
    let first = leader(&nodes);
    // One holder at the leaseholder itself, shared with one at another node.
    let mut here = session(&nodes[first], 1);
    let mut there = session(&nodes[(first + 1) % 3], 2);
    for txn in [&mut here, &mut there] {
        assert!(txn.advisory_lock(KEY, true, true, true).await.expect("locks"));
    }
    let waiting = |node: &Node, own| {
        let mut txn = session(node, own);
        tokio::spawn(async move {
            let locked = txn.advisory_lock(KEY, false, true, true).await;
            (locked, txn.advisory_unlock(KEY, false))
        })
    };
    let waiters = [waiting(&nodes[first], 3), waiting(&nodes[(first + 2) % 3], 4)];
    for _ in 0..3 {
        let now = leader(&nodes);
        moves_away(&nodes, now).await;
        for node in &nodes {
            assert!(!is_free(node).await, "held by two, seen from {}", node.id);
        }
    }
    assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
    assert!(here.advisory_unlock(KEY, true) && !is_free(&nodes[0]).await);
    assert!(there.advisory_unlock(KEY, true));
    for waiter in waiters {
        assert_eq!(waiter.await.expect("ends"), (Ok(true), true));
    }
    for node in &nodes {
        eventually("all is given back", || advisory_locks(node) == 0).await;
    }
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_leaseholder_takes_no_ones_advisory_locks_along_but_its_own() {
    let mut nodes = all_live().await;
    let first = leader(&nodes);
    let (second, third) = ((first + 1) % 3, (first + 2) % 3);
    let other = (0, 43, 1);
    let mut stays = session(&nodes[second], 1);
    assert!(stays.advisory_lock(KEY, false, true, true).await.expect("locks"));
    let mut goes = session(&nodes[first], 2);
    assert!(goes.advisory_lock(other, false, true, true).await.expect("locks"));
    nodes[first].kill().await;
    // It takes as long as the dead node could have counted on its sessions' locks.
    let mut heir = session(&nodes[third], 3);
    assert!(heir.advisory_lock(other, false, true, true).await.expect("locks"));
    assert!(!is_free(&nodes[third]).await, "its holder lives");
    assert!(stays.advisory_unlock(KEY, false));
    eventually("it is given back", || {
        let leads = &nodes[if nodes[second]
            .store()
            .core()
            .first()
            .lease
            .here(&nodes[second].store().core().hlc)
            .is_some()
        {
            second
        } else {
            third
        }];
        advisory_locks(leads) == 1
    })
    .await;
    assert!(is_free(&nodes[second]).await);
    end(&mut nodes).await;
}

fn listen(node: &Node) -> Arc<Mutex<BTreeSet<u32>>> {
    let ended = Arc::new(Mutex::new(BTreeSet::new()));
    let heard = Arc::clone(&ended);
    node.store().on_signal(move |signal| signal.terminate && heard.lock().insert(signal.process));
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_loses_its_advisory_locks_before_others_get_them() {
    let mut nodes = all_live().await;
    let first = leader(&nodes);
    let (second, third) = ((first + 1) % 3, (first + 2) % 3);
    let ended = listen(&nodes[third]);
    let mut holder = session(&nodes[third], 1);
    assert!(holder.advisory_lock(KEY, false, true, true).await.expect("locks"));
    // It reaches nobody any more, nor does anybody reach it.
    nodes[third].store().cut_off();
    let mut heir = session(&nodes[second], 2);
    let started = Instant::now();
    assert!(heir.advisory_lock(KEY, false, true, true).await.expect("locks"));
    assert!(started.elapsed() > Duration::from_secs(1), "the holder had been heard of just before");
    assert!(ended.lock().contains(&process_id(nodes[third].id, 1)), "its session was ended before");
    assert!(!holder.advisory_unlock(KEY, false), "it holds nothing any more");
    end(&mut nodes).await;
}
