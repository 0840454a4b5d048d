//! Runs among other transactions: what they lock, what they find, what is left of them.

use std::sync::Arc;
use std::time::Duration;

use meridian_kv::api::{Bytes, Isolation, Key, KvError, Span, Strength, WaitPolicy};
use meridian_kv::run::{Run, RunBuilder};

use crate::tests::Dir;
use crate::{Locked, Store, StoreConfig, Txn, TxnOptions};

async fn store() -> Arc<Store> {
    Store::open(StoreConfig::in_memory()).await.expect("opens")
}

fn begin(store: &Arc<Store>, backend: u32) -> Txn {
    store.begin(TxnOptions { backend, ..TxnOptions::default() })
}

fn key(n: u32) -> Key {
    [&b"\x10tttt\0\x01"[..], &n.to_be_bytes()].concat().into()
}

fn run(numbers: impl IntoIterator<Item = u32>) -> Arc<Run> {
    let mut builder = RunBuilder::default();
    numbers.into_iter().for_each(|n| builder.push(&key(n), n.to_string().as_bytes()));
    Arc::new(builder.build().expect("no doubles").0)
}

/// Claims and buffers a run; the number of the first row that is taken, if any.
async fn load(txn: &mut Txn, run: &Arc<Run>) -> Result<Option<usize>, KvError> {
    let taken = txn.claim_run(run).await?;
    if taken.is_none() {
        txn.put_run(Arc::clone(run));
    }
    Ok(taken)
}

async fn lock(txn: &mut Txn, n: u32, wait: WaitPolicy) -> Result<Locked, KvError> {
    txn.lock(&key(n), Strength::Update, wait).await
}

async fn count(txn: &mut Txn) -> usize {
    let (mut rows, mut scan) = (Vec::new(), txn.scan(Span::all(), false).await.expect("scans"));
    while scan.next_batch(1000, &mut rows).await.expect("scans") {}
    rows.len()
}

#[tokio::test]
async fn a_run_locks_its_own_keys_and_no_others() {
    let store = store().await;
    let (mut loader, mut other) = (begin(&store, 1), begin(&store, 2));
    assert_eq!(load(&mut loader, &run((0..100).map(|n| n * 2))).await, Ok(None));
    assert_eq!(lock(&mut other, 51, WaitPolicy::NoWait).await.map(|_| ()), Ok(()));
    let held = lock(&mut other, 50, WaitPolicy::NoWait).await;
    assert_eq!(held, Err(KvError::LockNotAvailable));
    assert_eq!(lock(&mut other, 52, WaitPolicy::Skip).await, Ok(Locked::Skipped));
    assert_eq!(count(&mut loader).await, 100, "own rows are seen");
    assert_eq!(loader.get(&key(50)).await, Ok(Some(Bytes::from("50"))));
    loader.commit().await.expect("commits");
    let Ok(Locked::Held { newest: Some((_, row)), .. }) =
        lock(&mut other, 50, WaitPolicy::NoWait).await
    else {
        panic!("the row is there and free");
    };
    assert_eq!(row, "50");
    other.begin_statement();
    assert_eq!(count(&mut other).await, 100);
    let mut third = begin(&store, 3);
    assert_eq!(load(&mut third, &run([1, 3, 4, 5])).await, Ok(Some(2)), "4 is taken");
    third.rollback();
    other.rollback();
    store.core().locks.check();
    assert!(store.lock_view().is_empty(), "{:?}", store.lock_view());
}

#[tokio::test]
async fn a_run_waits_for_who_holds_one_of_its_rows() {
    let store = store().await;
    for outcome in ["commit", "rollback"] {
        let mut holder = begin(&store, 1);
        let second = if outcome == "commit" { 7 } else { 8 };
        lock(&mut holder, second, WaitPolicy::Block).await.expect("free");
        holder.put(key(second), Bytes::from("theirs"));
        let loader = tokio::spawn({
            let store = Arc::clone(&store);
            async move {
                let mut txn = begin(&store, 2);
                let taken = load(&mut txn, &run([second - 3, second, second + 3])).await;
                txn.rollback();
                taken
            }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!loader.is_finished());
        match outcome {
            "commit" => drop(holder.commit().await.expect("commits")),
            _ => holder.rollback(),
        }
        let expected = (outcome == "commit").then_some(1);
        assert_eq!(loader.await.expect("ends"), Ok(expected), "after {outcome}");
    }
    assert!(store.lock_view().is_empty(), "{:?}", store.lock_view());
}

#[tokio::test]
async fn two_runs_with_a_common_row_come_one_after_the_other() {
    let store = store().await;
    let mut first = begin(&store, 1);
    assert_eq!(load(&mut first, &run(0..10)).await, Ok(None));
    let mut apart = begin(&store, 2);
    assert_eq!(load(&mut apart, &run(10..20)).await, Ok(None));
    let second = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let mut txn = begin(&store, 3);
            txn.set_lock_timeout(Some(Duration::from_secs(60)));
            let taken = load(&mut txn, &run(9..12)).await;
            txn.rollback();
            taken
        }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!second.is_finished());
    apart.rollback();
    first.commit().await.expect("commits");
    assert_eq!(second.await.expect("ends"), Ok(Some(0)), "9 has been committed, 10 has not");
    assert!(store.lock_view().is_empty(), "{:?}", store.lock_view());
}

#[tokio::test]
async fn savepoints_take_runs_back_with_their_locks() {
    let store = store().await;
    let (mut txn, mut other) = (begin(&store, 1), begin(&store, 2));
    assert_eq!(load(&mut txn, &run(0..5)).await, Ok(None));
    let savepoint = txn.savepoint();
    assert_eq!(load(&mut txn, &run(3..9)).await, Ok(Some(0)), "3 is this transaction's own");
    assert_eq!(load(&mut txn, &run(5..9)).await, Ok(None));
    // Seen in the lock table, so that there is something to give back.
    assert_eq!(lock(&mut other, 6, WaitPolicy::Skip).await, Ok(Locked::Skipped));
    txn.rollback_to(savepoint);
    assert_eq!(count(&mut txn).await, 5);
    assert_eq!(lock(&mut other, 6, WaitPolicy::NoWait).await.map(|_| ()), Ok(()));
    assert_eq!(lock(&mut other, 4, WaitPolicy::Skip).await, Ok(Locked::Skipped));
    // A row that was deleted may be loaded again. Weaker locks of one's own rows are had already.
    txn.lock(&key(1), Strength::NoKeyUpdate, WaitPolicy::Block).await.expect("own");
    txn.put(key(1), Bytes::from("changed"));
    lock(&mut txn, 2, WaitPolicy::Block).await.expect("own");
    txn.delete(key(2));
    assert_eq!(load(&mut txn, &run([2])).await, Ok(None));
    txn.commit().await.expect("commits");
    other.begin_statement();
    assert_eq!(count(&mut other).await, 5);
    other.rollback();
    store.core().locks.check();
    assert!(store.lock_view().is_empty(), "{:?}", store.lock_view());
}

/// More than some entries of the log, over rows that are there, on disk: everything comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_loads_survive_a_restart_and_meet_what_is_there() {
    const ROWS: u32 = 6_000;
    let dir = Dir::new("bulk");
    let store = dir.open().await;
    let mut txn = begin(&store, 1);
    for n in (0..ROWS).step_by(1000) {
        txn.put(key(n + 7), Bytes::from("single"));
    }
    txn.commit().await.expect("commits");
    drop(txn);
    let isolation = Isolation::RepeatableRead;
    let mut old = store.begin(TxnOptions { isolation, ..TxnOptions::default() });
    assert_eq!(count(&mut old).await, 6);
    let mut txn = begin(&store, 1);
    // Four runs that interleave, of 24 MB altogether.
    for part in 0..4 {
        let mut builder = RunBuilder::default();
        let free = (0..ROWS).filter(|n| n % 1000 != 7 && n % 4 == part);
        free.for_each(|n| builder.push(&key(n), &[b'x'; 4000]));
        let (run, _) = builder.build().expect("no doubles");
        assert_eq!(load(&mut txn, &Arc::new(run)).await, Ok(None));
    }
    assert_eq!(load(&mut txn, &run([ROWS + 1])).await, Ok(None));
    txn.delete(key(ROWS + 1));
    txn.put(key(0), Bytes::from("changed"));
    txn.commit().await.expect("commits");
    assert_eq!(count(&mut old).await, 6, "an older snapshot sees nothing of it");
    drop((old, txn));
    check_large(&store, ROWS).await;
    store.shutdown().await.expect("in order");
    drop(store);
    let store = dir.open().await;
    check_large(&store, ROWS).await;
}

async fn check_large(store: &Arc<Store>, rows: u32) {
    let mut txn = begin(store, 1);
    assert_eq!(count(&mut txn).await, rows as usize);
    assert_eq!(txn.get(&key(0)).await, Ok(Some(Bytes::from("changed"))));
    assert_eq!(txn.get(&key(rows + 1)).await, Ok(None));
    assert_eq!(load(&mut txn, &run([rows, rows - 1])).await, Ok(Some(0)), "the last one is taken");
    assert_eq!(load(&mut txn, &run([rows, rows + 1])).await, Ok(None), "these are free");
    txn.rollback();
}
