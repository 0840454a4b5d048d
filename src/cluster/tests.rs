//! Transactions on a whole store: visibility, waiting, deadlocks, isolation levels, savepoints.

use std::sync::Arc;
use std::time::Duration;

use meridian_kv::api::{Bytes, Isolation, Key, KvError, Span, Strength, TableLockMode, WaitPolicy};

use crate::{CancelToken, Locked, Store, StoreConfig, Txn, TxnOptions};

async fn store() -> Arc<Store> {
    Store::open(StoreConfig::in_memory()).await.expect("opens")
}

fn begin(store: &Arc<Store>, isolation: Isolation, backend: u32) -> Txn {
    store.begin(TxnOptions { isolation, backend, ..TxnOptions::default() })
}

fn key(text: &str) -> Key {
    Key::copy_from_slice(text.as_bytes())
}

async fn set(store: &Arc<Store>, k: &str, v: &str) {
    store.put_raw(key(k), Bytes::copy_from_slice(v.as_bytes())).await.expect("commits");
}

fn text(row: Option<Bytes>) -> String {
    row.map_or("-".into(), |row| String::from_utf8(row.to_vec()).expect("text"))
}

async fn lock(txn: &mut Txn, k: &str) -> Result<Locked, KvError> {
    txn.lock(k.as_bytes(), Strength::Update, WaitPolicy::Block).await
}

#[tokio::test]
async fn own_writes_are_seen_at_once_and_others_after_commit_in_a_new_snapshot() {
    let store = store().await;
    set(&store, "a", "1").await;
    let mut old = begin(&store, Isolation::RepeatableRead, 0);
    let mut txn = begin(&store, Isolation::ReadCommitted, 0);
    txn.put(key("a"), Bytes::from("2"));
    txn.put(key("b"), Bytes::from("x"));
    assert_eq!(text(txn.get(b"a").await.unwrap()), "2");
    assert_eq!(text(old.get(b"a").await.unwrap()), "1");
    txn.commit().await.unwrap();
    old.begin_statement();
    assert_eq!(text(old.get(b"a").await.unwrap()), "1", "served from history");
    assert_eq!(text(old.get(b"b").await.unwrap()), "-");
    let mut new = begin(&store, Isolation::ReadCommitted, 0);
    new.delete(key("a"));
    new.put(key("c"), Bytes::from("y"));
    let mut rows = Vec::new();
    let mut scan = new.scan(Span::new("a", "z"), true).await.unwrap();
    while scan.next_batch(1, &mut rows).await.unwrap() {}
    let keys: Vec<_> = rows.iter().map(|(key, _)| &key[..]).collect();
    assert_eq!(keys, [b"c", b"b"], "own insert and own delete are in the scan, in reverse order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_under_a_row_lock_lose_nothing_and_read_committed_never_fails() {
    let store = store().await;
    set(&store, "n", "0").await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..50 {
                    let mut txn = begin(&store, Isolation::ReadCommitted, 0);
                    let Locked::Held { newest: Some((_, row)), .. } =
                        lock(&mut txn, "n").await.unwrap()
                    else {
                        panic!("the row is there");
                    };
                    let n: u32 = text(Some(row)).parse().unwrap();
                    txn.put(key("n"), Bytes::from((n + 1).to_string()));
                    txn.commit().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut txn = begin(&store, Isolation::ReadCommitted, 0);
    assert_eq!(text(txn.get(b"n").await.unwrap()), "400");
    drop(txn);
    assert!(store.lock_view().is_empty());
    store.core().locks.check();
    assert_eq!(store.stats().oldest_snapshot, None);
}

#[tokio::test]
async fn a_locked_row_that_changed_is_reported_and_repeatable_read_cannot_commit_over_it() {
    let store = store().await;
    set(&store, "a", "1").await;
    let mut rr = begin(&store, Isolation::RepeatableRead, 0);
    let mut rc = begin(&store, Isolation::ReadCommitted, 0);
    set(&store, "a", "2").await;
    let Locked::Held { newest, changed } = lock(&mut rr, "a").await.unwrap() else { panic!() };
    assert_eq!((text(newest.map(|(_, row)| row)).as_str(), changed), ("2", true));
    rr.put(key("a"), Bytes::from("3"));
    assert_eq!(rr.commit().await, Err(KvError::CONCURRENT_UPDATE));
    rc.put(key("a"), Bytes::from("4"));
    rc.commit().await.expect("READ COMMITTED overwrites");
}

#[tokio::test]
async fn serializable_stops_write_skew_and_repeatable_read_allows_it() {
    for (isolation, second) in [
        (Isolation::RepeatableRead, Ok(())),
        (Isolation::Serializable, Err(KvError::READ_WRITE_DEPENDENCY)),
    ] {
        let store = store().await;
        let (mut a, mut b) = (begin(&store, isolation, 0), begin(&store, isolation, 0));
        let mut rows = Vec::new();
        for txn in [&mut a, &mut b] {
            txn.scan(Span::prefix(b"on"), false)
                .await
                .unwrap()
                .next_batch(9, &mut rows)
                .await
                .unwrap();
        }
        a.put(key("on1"), Bytes::from("x"));
        b.put(key("on2"), Bytes::from("x"));
        a.commit().await.unwrap();
        assert_eq!(b.commit().await.map(drop), second, "{isolation:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_session_that_closes_a_cycle_gets_the_deadlock() {
    let store = store().await;
    let mut a = begin(&store, Isolation::ReadCommitted, 11);
    let mut b = begin(&store, Isolation::ReadCommitted, 22);
    lock(&mut a, "x").await.unwrap();
    lock(&mut b, "y").await.unwrap();
    let (a_id, b_id) = (a.id(), b.id());
    let waiter = tokio::spawn(async move {
        let locked = lock(&mut a, "y").await;
        (a, locked.map(drop))
    });
    while store.lock_view().iter().all(|line| line.granted) {
        tokio::task::yield_now().await;
    }
    let Err(KvError::Deadlock { detail }) = lock(&mut b, "x").await else { panic!("no cycle") };
    assert_eq!(
        detail,
        format!(
            "Process 22 waits for ShareLock on transaction {a_id}; blocked by process 11.\n\
             Process 11 waits for ShareLock on transaction {b_id}; blocked by process 22."
        )
    );
    drop(b);
    waiter.await.unwrap().1.expect("the victim's lock is free");
}

#[tokio::test(start_paused = true)]
async fn waits_end_by_timeout_by_cancel_or_by_a_dropped_future_and_leave_nothing() {
    let store = store().await;
    let mut holder = begin(&store, Isolation::ReadCommitted, 0);
    lock(&mut holder, "x").await.unwrap();
    let mut txn = begin(&store, Isolation::ReadCommitted, 0);
    let policy = WaitPolicy::NoWait;
    assert_eq!(txn.lock(b"x", Strength::KeyShare, policy).await, Err(KvError::LockNotAvailable));
    let skipped = txn.lock(b"x", Strength::KeyShare, WaitPolicy::Skip).await;
    assert_eq!(skipped, Ok(Locked::Skipped));
    let cancel = CancelToken::new();
    txn.set_cancel(cancel.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        cancel.cancel();
    });
    assert_eq!(lock(&mut txn, "x").await, Err(KvError::Cancelled));
    let dropped = tokio::time::timeout(Duration::from_millis(5), holder_waits(&store)).await;
    assert!(dropped.is_err());
    assert_eq!(store.lock_view().len(), 1);
    store.core().locks.check();
}

async fn holder_waits(store: &Arc<Store>) {
    let mut txn = begin(store, Isolation::ReadCommitted, 0);
    let _ = lock(&mut txn, "x").await;
}

#[tokio::test]
async fn savepoints_give_back_newer_locks_of_every_kind() {
    let store = store().await;
    let mut txn = begin(&store, Isolation::ReadCommitted, 7);
    lock(&mut txn, "keep").await.unwrap();
    txn.lock_table(1, TableLockMode::RowExclusive, false).await.unwrap();
    let savepoint = txn.savepoint();
    lock(&mut txn, "drop").await.unwrap();
    txn.put(key("drop"), Bytes::from("1"));
    txn.lock_table(1, TableLockMode::AccessExclusive, false).await.unwrap();
    assert!(txn.advisory_lock((0, 1, 1), false, false, true).await.unwrap());
    assert!(txn.advisory_lock((0, 2, 1), false, true, true).await.unwrap());
    assert_eq!(store.lock_view().len(), 6);
    txn.rollback_to(savepoint);
    assert!(txn.is_read_only());
    assert_eq!(store.lock_view().len(), 3, "{:?}", store.lock_view());
    txn.commit().await.unwrap();
    txn.release_locks();
    assert_eq!(store.lock_view().len(), 1, "the session's own lock stays");
    assert!(!store.advisory_unlock(7, 0, (0, 1, 1), false));
    store.advisory_unlock_all(7);
    assert!(store.lock_view().is_empty());
}

#[tokio::test]
async fn counters_never_repeat_and_shutdown_refuses_later_commits() {
    let store = store().await;
    assert_eq!(store.increment(b"seq", 1).await, Ok(1));
    assert_eq!(store.increment(b"seq", 1).await, Ok(2));
    assert_eq!(store.increment(b"seq", 0).await, Ok(2));
    assert_eq!(store.stats().commits, 1, "one block serves many");
    store.set_counter(b"seq", 100).await.unwrap();
    assert_eq!(store.increment(b"seq", 5).await, Ok(105));
    let mut open = begin(&store, Isolation::ReadCommitted, 0);
    store.shutdown().await.unwrap();
    open.put(key("a"), Bytes::from("1"));
    assert_eq!(open.commit().await, Err(KvError::Stopping));
}

/// A directory that goes with the test.
pub(crate) struct Dir(pub(crate) std::path::PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("meridian-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Dir(dir)
    }

    pub(crate) async fn open(&self) -> Arc<Store> {
        Store::open(StoreConfig::at(&self.0)).await.expect("opens")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_restart_with_and_without_a_shutdown() {
    let dir = Dir::new("restart");
    for round in 0..3u32 {
        let store = dir.open().await;
        let mut txn = begin(&store, Isolation::RepeatableRead, 0);
        assert_eq!(
            text(txn.get(b"n").await.unwrap()),
            if round == 0 { "-".into() } else { round.to_string() }
        );
        let tasks: Vec<_> = (0..20)
            .map(|n| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { set(&store, &format!("k{round}-{n}"), "v").await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        set(&store, "n", &(round + 1).to_string()).await;
        assert_eq!(
            text(txn.get(b"n").await.unwrap()),
            if round == 0 { "-".into() } else { round.to_string() }
        );
        assert_eq!(store.increment(b"seq", 1).await.unwrap(), [1, 33, 34][round as usize]);
        let mut rows = Vec::new();
        let mut new = begin(&store, Isolation::ReadCommitted, 0);
        new.scan(Span::prefix(b"k"), false)
            .await
            .unwrap()
            .next_batch(999, &mut rows)
            .await
            .unwrap();
        assert_eq!(rows.len(), 20 * (round as usize + 1));
        let stats = store.stats();
        assert!(stats.commits >= 21 && stats.fsyncs > 0, "{stats:?}");
        if round == 1 {
            store.shutdown().await.unwrap();
        }
        drop((txn, new));
        drop(store);
        // The tasks that were aborted are gone only once the runtime has dropped them.
        for _ in 0..100 {
            match meridian_storage::DataDirLock::acquire(&dir.0) {
                Ok(_) => break,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

#[tokio::test]
async fn a_directory_belongs_to_one_store() {
    let dir = Dir::new("locked");
    let store = dir.open().await;
    let second = Store::open(StoreConfig::at(&dir.0)).await;
    assert!(second.is_err_and(|error| error.to_string().contains("in use by process")));
    store.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_commit_may_be_larger_than_a_segment_of_the_log() {
    let dir = Dir::new("large");
    let store = dir.open().await;
    let mut txn = begin(&store, Isolation::ReadCommitted, 0);
    for n in 0..80u32 {
        let row = Bytes::from(vec![u8::try_from(n).unwrap(); 1 << 20]);
        txn.put(Key::from(n.to_be_bytes().to_vec()), row);
    }
    txn.commit().await.unwrap();
    store.shutdown().await.unwrap();
    drop((txn, store));
    for _ in 0..100 {
        match meridian_storage::DataDirLock::acquire(&dir.0) {
            Ok(_) => break,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    let store = dir.open().await;
    let mut txn = begin(&store, Isolation::ReadCommitted, 0);
    for n in 0..80u32 {
        assert_eq!(txn.get(&n.to_be_bytes()).await.unwrap().map(|row| row.len()), Some(1 << 20));
    }
    drop(txn);
    store.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_open_scan_protects_its_snapshot_after_the_transaction_has_moved_on() {
    let store = store().await;
    set(&store, "a", "1").await;
    let mut txn = begin(&store, Isolation::ReadCommitted, 0);
    let first = txn.read_ts();
    let mut scan = txn.scan(Span::prefix(b"a"), false).await.unwrap();
    set(&store, "a", "2").await;
    txn.begin_statement();
    assert!(txn.read_ts() > first);
    assert_eq!(store.stats().oldest_snapshot, Some(first));
    let mut rows = Vec::new();
    scan.next_batch(9, &mut rows).await.unwrap();
    assert_eq!(&rows[0].1[..], b"1");
    drop(scan);
    assert_eq!(store.stats().oldest_snapshot, Some(txn.read_ts()));
}

#[tokio::test]
async fn a_key_that_was_written_before_it_was_locked_is_written_over_what_was_there() {
    let store = store().await;
    set(&store, "a", "1").await;
    for isolation in [Isolation::ReadCommitted, Isolation::Serializable] {
        let mut txn = begin(&store, isolation, 0);
        // As a unique index's entry that goes away with one row and comes back with another.
        txn.delete(key("a"));
        assert_eq!(lock(&mut txn, "a").await, Ok(Locked::Held { newest: None, changed: false }));
        txn.put(key("a"), Bytes::from("2"));
        txn.commit().await.expect("nobody else has written it");
    }
    let mut txn = begin(&store, Isolation::RepeatableRead, 0);
    assert_eq!(text(txn.get(b"a").await.unwrap()), "2");
    txn.delete(key("a"));
    set(&store, "a", "3").await;
    assert_eq!(lock(&mut txn, "a").await, Err(KvError::CONCURRENT_UPDATE));
}

#[tokio::test]
async fn a_key_lock_does_not_mind_changes_of_the_rest_of_the_row() {
    let store = store().await;
    set(&store, "a", "1").await;
    let mut txn = begin(&store, Isolation::Serializable, 0);
    assert_eq!(text(txn.get(b"b").await.unwrap()), "-");
    set(&store, "a", "2").await;
    let locked = txn.lock(b"a", Strength::KeyShare, WaitPolicy::Block).await.unwrap();
    assert!(matches!(locked, Locked::Held { newest: Some(_), changed: true }), "{locked:?}");
    let mut other = begin(&store, Isolation::ReadCommitted, 0);
    other.lock(b"a", Strength::NoKeyUpdate, WaitPolicy::NoWait).await.expect("no conflict");
    other.put(key("a"), Bytes::from("3"));
    other.commit().await.expect("commits");
    txn.put(key("c"), Bytes::from("x"));
    txn.commit().await.expect("it has not read what was changed");
}
