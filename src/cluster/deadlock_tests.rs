//! Waits over several nodes: deadlocks, views of locks, signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meridian_base::{Instant, NodeId};
use meridian_kv::api::{KvError, Strength, TableLockMode, Timestamp, WaitPolicy};
use meridian_kv::locks::Owner;

use crate::locking::WaitLimits;
use crate::member_tests::{Node, end, eventually, key, three};
use crate::sessions::{home_of_process, process_id};
use crate::{CancelToken, Signal, Txn, TxnOptions};

/// Three nodes that all know each other to live.
pub(crate) async fn all_live() -> Vec<Node> {
    let nodes = three().await;
    let live = |node: &Node| node.store().core().cluster().expect("a member").live().len();
    eventually("all live", || nodes.iter().all(|node| live(node) == 3)).await;
    nodes
}

/// A transaction of a session at a node.
pub(crate) fn session(node: &Node, own: u32) -> Txn {
    let backend = process_id(node.id, own);
    node.store().begin(TxnOptions { backend, database: 5, ..TxnOptions::default() })
}

async fn weak(txn: &mut Txn, table: u32) {
    txn.lock_table(table, TableLockMode::RowExclusive, false).await.expect("locks");
}

async fn row(txn: &mut Txn, n: u32) -> Result<(), KvError> {
    txn.lock(&key(n), Strength::Update, WaitPolicy::Block).await.map(drop)
}

async fn strong(txn: &mut Txn, table: u32) -> Result<(), KvError> {
    txn.lock_table(table, TableLockMode::AccessExclusive, false).await
}

fn detail(error: KvError) -> String {
    match error {
        KvError::Deadlock { detail } => detail,
        other => panic!("{other:?} is not a deadlock"),
    }
}

/// Both wait for each other; the one that fails gives way.
async fn one_victim(
    (mut a, waits_a): (Txn, impl AsyncFn(&mut Txn) -> Result<(), KvError> + Send),
    (mut b, waits_b): (Txn, impl AsyncFn(&mut Txn) -> Result<(), KvError> + Send),
) -> (usize, String, Duration) {
    let started = Instant::now();
    let first = async {
        let ended = waits_a(&mut a).await;
        (ended, started.elapsed(), drop(a))
    };
    let second = async {
        let ended = waits_b(&mut b).await;
        (ended, started.elapsed(), drop(b))
    };
    let ((first, after_a, ()), (second, after_b, ())) = tokio::join!(first, second);
    match (first, second) {
        (Err(error), Ok(())) => (0, detail(error), after_a),
        (Ok(()), Err(error)) => (1, detail(error), after_b),
        both => panic!("not one victim: {both:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_of_waits_at_several_nodes_has_one_victim_and_is_found_soon() {
    let mut nodes = all_live().await;
    // A row at its leaseholder against a table at the other's node.
    let (mut a, mut b) = (session(&nodes[1], 7), session(&nodes[2], 8));
    weak(&mut a, 100).await;
    row(&mut b, 1).await.expect("locks");
    let (id, processes) = (b.id(), (process_id(NodeId(2), 7), process_id(NodeId(3), 8)));
    let wait_a = async |txn: &mut Txn| row(txn, 1).await;
    let wait_b = async |txn: &mut Txn| strong(txn, 100).await;
    let (victim, detail, after) = one_victim((a, wait_a), (b, wait_b)).await;
    assert_eq!(victim, 1, "the younger one: {detail}");
    let (pa, pb) = processes;
    assert_eq!(
        detail,
        format!(
            "Process {pb} waits for AccessExclusiveLock on relation 100 of database 5; blocked by \
             process {pa}.\nProcess {pa} waits for ShareLock on transaction {id}; blocked by \
             process {pb}."
        )
    );
    assert!(after < Duration::from_secs(1), "{after:?}");

    // Tables at two nodes; then an advisory lock at the leaseholder against a table elsewhere.
    let (mut a, mut b) = (session(&nodes[0], 1), session(&nodes[1], 2));
    weak(&mut a, 101).await;
    weak(&mut b, 102).await;
    let wait_a = async |txn: &mut Txn| strong(txn, 102).await;
    let wait_b = async |txn: &mut Txn| strong(txn, 101).await;
    let (_, detail, after) = one_victim((a, wait_a), (b, wait_b)).await;
    assert!(detail.contains("on relation 101 of") && after < Duration::from_secs(1), "{detail}");

    let (mut a, mut b) = (session(&nodes[1], 3), session(&nodes[2], 4));
    weak(&mut a, 103).await;
    assert!(b.advisory_lock((0, 9, 1), false, false, true).await.expect("locks"));
    let wait_a =
        async |txn: &mut Txn| txn.advisory_lock((0, 9, 1), false, true, true).await.map(drop);
    let wait_b = async |txn: &mut Txn| strong(txn, 103).await;
    let (_, detail, after) = one_victim((a, wait_a), (b, wait_b)).await;
    assert!(detail.contains("ExclusiveLock on advisory lock [5,0,9,1]"), "{detail}");
    assert!(after < Duration::from_secs(1), "{after:?}");
    let found: u64 = nodes.iter().map(|node| node.store().stats().deadlocks).sum();
    assert_eq!(found, 3);
    end(&mut nodes).await;
}

/// Waits at a node for a row there, as a leaseholder of another range would for its guests.
async fn wait_at(
    node: &Node,
    home: &Node,
    owner: Owner,
    n: u32,
    limits: &WaitLimits,
) -> Result<(), KvError> {
    let cluster = home.store().core().cluster().expect("a member");
    let _away = (home.id != node.id).then(|| cluster.waits.leave(owner.session, node.id));
    let locks = &node.store().core().locks;
    match locks.try_row(&key(n), owner, Strength::Update, WaitPolicy::Block) {
        Ok(_) => Ok(()),
        Err(queued) => queued.wait(limits).await.map(drop),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_two_leaseholders_deadlock_and_a_wait_that_was_given_up_harms_nobody() {
    let mut nodes = all_live().await;
    let owner = |at: usize, own: u32| {
        let id = nodes[at].store().core().next_txn_id();
        Owner::on_node(nodes[at].id, id, process_id(nodes[at].id, own))
    };
    let limits = |began: u64| WaitLimits { began: Timestamp(began), ..WaitLimits::default() };
    let (a, b) = (owner(1, 1), owner(2, 1));
    let (old, young) = (limits(1), limits(2));
    wait_at(&nodes[0], &nodes[1], a, 1, &old).await.expect("free");
    wait_at(&nodes[1], &nodes[2], b, 2, &young).await.expect("free");
    let waiting = async {
        let victim = wait_at(&nodes[0], &nodes[2], b, 1, &young).await;
        nodes[1].store().core().locks.release_row(&key(2), b, 0);
        victim
    };
    let (ended, victim) = tokio::join!(wait_at(&nodes[1], &nodes[1], a, 2, &old), waiting);
    assert_eq!(ended, Ok(()));
    assert!(matches!(victim, Err(KvError::Deadlock { .. })), "{victim:?}");

    // The same circle, but b's client has given up: its request is still in the queue of node 1, as its
    // cancel has not arrived there yet. The other one, though younger, waits on.
    let (a, b) = (owner(1, 2), owner(2, 2));
    let stop = CancelToken::new();
    let old = WaitLimits { timeout: Some(Duration::from_millis(900)), ..limits(9) };
    let young = WaitLimits { cancel: Some(stop.clone()), ..limits(3) };
    wait_at(&nodes[0], &nodes[1], a, 3, &old).await.expect("free");
    wait_at(&nodes[1], &nodes[2], b, 4, &young).await.expect("free");
    let forgotten = async {
        // As if it were at home there: no home says that it is away.
        wait_at(&nodes[0], &nodes[0], b, 3, &young).await
    };
    let waiting = async {
        let ended = wait_at(&nodes[1], &nodes[1], a, 4, &old).await;
        stop.cancel();
        ended
    };
    let (ended, orphan) = tokio::join!(waiting, forgotten);
    assert_eq!((ended, orphan), (Err(KvError::LockTimeout), Err(KvError::Cancelled)));
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_that_only_a_queues_order_makes_has_no_victim() {
    let mut nodes = all_live().await;
    let own = |at: usize| {
        Owner::on_node(nodes[at].id, nodes[at].store().core().next_txn_id(), {
            process_id(nodes[at].id, 1)
        })
    };
    let (a, b, c) = (own(0), own(1), own(2));
    let limits = WaitLimits { timeout: Some(Duration::from_secs(20)), ..WaitLimits::default() };
    // On node 1: a holds KeyShare, b wants Update, c wants KeyShare behind b. On node 3: c holds what a
    // wants. c waits for b's place in the queue only, b waits for a, a for c: c may pass.
    let (first, third) = (&nodes[0].store().core().locks, &nodes[2].store().core().locks);
    assert!(first.try_row(&key(1), a, Strength::KeyShare, WaitPolicy::Block).is_ok());
    assert!(third.try_row(&key(2), c, Strength::Update, WaitPolicy::Block).is_ok());
    let writer = async {
        let ended = wait_at(&nodes[0], &nodes[1], b, 1, &limits).await;
        first.release_row(&key(1), b, 0);
        ended
    };
    let reader = async {
        eventually("b waits", || first.waits().len() == 1).await;
        let cluster = nodes[2].store().core().cluster().expect("a member");
        let away = cluster.waits.leave(c.session, nodes[0].id);
        let ended = match first.try_row(&key(1), c, Strength::KeyShare, WaitPolicy::Block) {
            Ok(_) => panic!("it stands behind b"),
            Err(queued) => queued.wait(&limits).await.map(drop),
        };
        drop(away);
        first.release_row(&key(1), c, 0);
        third.release_row(&key(2), c, 0);
        ended
    };
    let holder = async {
        let ended = wait_at(&nodes[2], &nodes[0], a, 2, &limits).await;
        first.release_row(&key(1), a, 0);
        ended
    };
    let ended = tokio::join!(writer, reader, holder);
    assert_eq!(ended, (Ok(()), Ok(()), Ok(())));
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_blockers_and_sessions_of_other_nodes_are_seen_from_any() {
    let mut nodes = all_live().await;
    let (mut holder, mut waiter) = (session(&nodes[1], 5), session(&nodes[2], 6));
    let (holding, waiting) = (process_id(NodeId(2), 5), process_id(NodeId(3), 6));
    assert_eq!(home_of_process(waiting), NodeId(3));
    weak(&mut holder, 100).await;
    let stop = CancelToken::new();
    waiter.set_cancel(stop.clone());
    let blocked = tokio::spawn(async move { strong(&mut waiter, 100).await });
    let first = Arc::clone(nodes[0].store());
    for _ in 0..500 {
        if first.blocking(waiting).await == [holding] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for node in &nodes {
        assert_eq!(node.store().blocking(waiting).await, [holding], "as {} sees it", node.id);
        assert!(node.store().blocking(holding).await.is_empty());
        let all = node.store().lock_view_everywhere().await;
        let line = |process| all.iter().filter(move |lock| lock.process == process);
        assert!(line(holding).all(|lock| lock.granted && lock.mode == "RowExclusiveLock"));
        assert_eq!(line(waiting).filter(|lock| !lock.granted).count(), 1, "{all:?}");
    }
    // A signal finds its session's node.
    let heard = Arc::new(AtomicU32::new(0));
    for node in &nodes {
        let (heard, stop, me) = (Arc::clone(&heard), stop.clone(), node.id);
        node.store().on_signal(move |signal| {
            assert_eq!(home_of_process(signal.process), me);
            heard.store(signal.process, Ordering::SeqCst);
            stop.cancel();
            signal.process == waiting
        });
    }
    let signal = |process| Signal { process, terminate: false, secret: None };
    assert!(nodes[0].store().signal(signal(waiting)).await);
    assert_eq!(heard.load(Ordering::SeqCst), waiting);
    assert_eq!(blocked.await.expect("ends"), Err(KvError::Cancelled));
    assert!(!nodes[0].store().signal(signal(process_id(NodeId(3), 99))).await);
    assert!(!nodes[0].store().signal(signal(process_id(NodeId(9), 1))).await, "no such node");
    drop(holder);
    for node in &nodes {
        eventually("all is given back", || node.store().lock_view().is_empty()).await;
    }
    end(&mut nodes).await;
}
