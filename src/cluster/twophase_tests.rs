//! Prepared transactions: what stays, whoever dies, and what ends with them.

use std::sync::Arc;
use std::time::Duration;

use meridian_kv::api::{Bytes, Isolation, Key, KvError, Strength, TableLockMode, WaitPolicy};
use meridian_kv::commit::{Part, requests};
use meridian_kv::range::Verify;
use meridian_kv::txn::ReadSet;
use tempfile::TempDir;

use crate::coordinator::Given;
use crate::member_tests::{end, eventually, three};
use crate::parts_tests::Divided;
use crate::twophase::{Made, make_holds};
use crate::txn::Try;
use crate::{LockTarget, Locked, NewPrepared, PrepareError, Store, StoreConfig, Txn, TxnOptions};

fn named(gid: &str) -> NewPrepared {
    NewPrepared {
        gid: gid.into(),
        owner: 10,
        database: 5,
        prepared: 77,
        limit: 3,
        defines: false,
        advisory: vec![],
    }
}

fn begin(store: &Arc<Store>, isolation: Isolation) -> Txn {
    let mut txn = store.begin(TxnOptions { isolation, backend: 9, ..TxnOptions::default() });
    txn.begin_statement();
    txn
}

async fn put(txn: &mut Txn, key: &str, row: &str) {
    txn.lock(key.as_bytes(), Strength::NoKeyUpdate, WaitPolicy::Block).await.expect("free");
    txn.put(Key::from(key.to_owned()), Bytes::from(row.to_owned()));
}

/// Prepares a change of these keys to `new`, and a key lock on "f".
async fn prepare(store: &Arc<Store>, gid: &str, keys: &[&str]) -> Result<(), PrepareError> {
    let mut txn = begin(store, Isolation::ReadCommitted);
    for key in keys {
        put(&mut txn, key, "new").await;
    }
    txn.lock(b"f", Strength::KeyShare, WaitPolicy::Block).await.expect("free");
    txn.lock_table(1000, TableLockMode::RowExclusive, false).await.expect("free");
    let prepared = txn.prepare(&named(gid)).await;
    txn.release_locks();
    prepared
}

async fn finish(store: &Arc<Store>, gid: &str, commit: bool) -> Result<bool, KvError> {
    match store.claim_prepared(gid, TxnOptions::default()).await? {
        Some(mut claimed) => claimed.finish(commit).await.map(|()| true),
        None => Ok(false),
    }
}

async fn lock(store: &Arc<Store>, key: &str, strength: Strength) -> Result<(), KvError> {
    let mut txn = begin(store, Isolation::ReadCommitted);
    match txn.lock(key.as_bytes(), strength, WaitPolicy::NoWait).await? {
        Locked::Held { .. } => Ok(()),
        Locked::Skipped => unreachable!("not asked for"),
    }
}

async fn get(store: &Arc<Store>, key: &str) -> Option<String> {
    let mut txn = begin(store, Isolation::ReadCommitted);
    let row = txn.get(key.as_bytes()).await.expect("reads");
    row.map(|row| String::from_utf8(row.to_vec()).expect("text"))
}

async fn assert_locked(store: &Arc<Store>, keys: &[&str]) {
    for key in keys {
        let taken = Err(KvError::LockNotAvailable);
        assert_eq!(lock(store, key, Strength::KeyShare).await, Ok(()), "{key}");
        assert_eq!(lock(store, key, Strength::Share).await, taken, "{key}");
        assert_eq!(get(store, key).await.as_deref(), Some("old"), "{key}");
    }
    assert_eq!(lock(store, "f", Strength::NoKeyUpdate).await, Ok(()));
    assert_eq!(lock(store, "f", Strength::Update).await, Err(KvError::LockNotAvailable));
}

async fn assert_row(store: &Arc<Store>, keys: &[&str], row: &str) {
    for key in keys {
        assert_eq!(get(store, key).await.as_deref(), Some(row), "{key}");
        assert_eq!(lock(store, key, Strength::Update).await, Ok(()), "{key}");
    }
    assert_eq!(lock(store, "f", Strength::Update).await, Ok(()));
}

const KEYS: [&str; 3] = ["a", "k", "z"];

async fn with_old(store: &Arc<Store>) {
    let mut txn = begin(store, Isolation::ReadCommitted);
    for key in KEYS {
        put(&mut txn, key, "old").await;
    }
    txn.commit().await.expect("commits");
}

#[tokio::test]
async fn what_is_prepared_is_locked_unseen_and_ends_as_it_is_told() {
    let db = Divided::new();
    let store = &db.store;
    with_old(store).await;
    prepare(store, "one", &KEYS).await.expect("prepares");
    assert_locked(store, &KEYS).await;
    assert_eq!(prepare(store, "one", &["b"]).await, Err(PrepareError::InUse));
    let shown = store.prepared().await.expect("reads");
    assert_eq!((shown.len(), &shown[0].gid[..], shown[0].prepared), (1, "one", 77));
    let line =
        store.lock_view().into_iter().find(|line| line.target == LockTarget::Row("a".into()));
    assert_eq!(line.map(|line| (line.process, line.transaction)), Some((0, shown[0].id)));
    // Leases move: not for a moment are the locks gone.
    db.move_lease(0);
    db.move_lease(1);
    assert_locked(store, &KEYS).await;
    {
        let claimed = store.claim_prepared("one", TxnOptions::default()).await.expect("free");
        let busy = store.claim_prepared("one", TxnOptions::default()).await.err();
        assert_eq!((claimed.is_some(), busy), (true, Some(KvError::LockNotAvailable)));
    }
    assert_locked(store, &KEYS).await;
    assert_eq!(finish(store, "one", true).await, Ok(true));
    assert_row(store, &KEYS, "new").await;
    assert_eq!(finish(store, "one", true).await, Ok(false));

    prepare(store, "two", &["a"]).await.expect("prepares");
    assert_eq!(finish(store, "two", false).await, Ok(true));
    assert_row(store, &KEYS, "new").await;
    let mut empty = begin(store, Isolation::ReadCommitted);
    assert_eq!(
        empty.prepare(&NewPrepared { limit: 0, ..named("x") }).await,
        Err(PrepareError::Full)
    );
    db.settled().await;
}

#[tokio::test]
async fn a_stale_owner_of_a_lock_cannot_write_past_a_hold() {
    let db = Divided::new();
    with_old(&db.store).await;
    let mut stale = begin(&db.store, Isolation::ReadCommitted);
    put(&mut stale, "k", "stale").await;
    // Its lock goes with the lease, somebody else prepares, and the lease comes back once more.
    db.move_lease(0);
    let mut other = begin(&db.store, Isolation::ReadCommitted);
    other.put("a".into(), "other".into());
    let prepared = {
        // In one process the old lock is in the way as it wouldn't be between two.
        db.core.locks.release_row(&"k".into(), stale.state.owner(), 0);
        prepare(&db.store, "one", &["k"]).await
    };
    prepared.expect("prepares");
    db.move_lease(0);
    put(&mut other, "b", "other").await;
    stale.set_lock_timeout(Some(Duration::from_millis(100)));
    assert!(stale.commit().await.is_err(), "its lock was void");
    assert_eq!(finish(&db.store, "one", true).await, Ok(true));
    assert_eq!(get(&db.store, "k").await.as_deref(), Some("new"));
    other.commit().await.expect("has nothing to do with it");
    drop((stale, other));
    db.settled().await;
}

#[tokio::test]
async fn definitions_wait_for_prepared_transactions() {
    let db = Divided::new();
    with_old(&db.store).await;
    prepare(&db.store, "one", &["a"]).await.expect("prepares");
    let mut strong = begin(&db.store, Isolation::ReadCommitted);
    strong.set_lock_timeout(Some(Duration::from_millis(30)));
    let (share, exclusive) = (TableLockMode::ShareUpdateExclusive, TableLockMode::AccessExclusive);
    assert_eq!(strong.lock_table(1000, share, false).await, Ok(()));
    assert_eq!(strong.lock_table(1001, exclusive, true).await, Ok(()));
    assert_eq!(strong.lock_table(1000, exclusive, true).await, Err(KvError::LockNotAvailable));
    assert_eq!(
        strong.lock_table(1000, TableLockMode::Share, false).await,
        Err(KvError::LockTimeout)
    );
    strong.rollback();
    strong.release_locks();
    let store = Arc::clone(&db.store);
    let waiting = tokio::spawn(async move {
        let mut strong = begin(&store, Isolation::ReadCommitted);
        strong.lock_table(1000, exclusive, false).await
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!waiting.is_finished());
    assert_eq!(finish(&db.store, "one", false).await, Ok(true));
    assert_eq!(waiting.await.expect("ends"), Ok(()));
}

#[tokio::test]
async fn a_serializable_one_commits_whatever_others_do_meanwhile() {
    let db = Divided::new();
    with_old(&db.store).await;
    let store = &db.store;
    let mut txn = begin(store, Isolation::Serializable);
    assert!(txn.get(b"k").await.expect("reads").is_some());
    put(&mut txn, "a", "new").await;
    txn.prepare(&named("one")).await.expect("prepares");
    let change = |isolation| async move {
        let mut txn = begin(store, isolation);
        put(&mut txn, "k", "changed").await;
        txn.commit().await.map(|_| ())
    };
    // Write skew: it reads what the other is going to write.
    let mut skew = begin(store, Isolation::Serializable);
    assert_eq!(skew.get(b"a").await.expect("reads").as_deref(), Some(&b"old"[..]));
    put(&mut skew, "k", "skewed").await;
    assert_eq!(skew.commit().await, Err(KvError::READ_WRITE_DEPENDENCY));
    assert_eq!(change(Isolation::Serializable).await, Err(KvError::READ_WRITE_DEPENDENCY));
    assert_eq!(change(Isolation::ReadCommitted).await, Ok(()));
    let mut late = begin(store, Isolation::Serializable);
    assert!(late.get(b"a").await.expect("reads").is_some());
    put(&mut late, "b", "from old").await;
    assert_eq!(finish(store, "one", true).await, Ok(true));
    assert_eq!(late.commit().await, Err(KvError::READ_WRITE_DEPENDENCY));
    assert_eq!(change(Isolation::Serializable).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_belongs_to_nothing_is_ended() {
    let db = Divided::new();
    let this = Try::new(db.core.next_txn_id(), db.core.hlc.now());
    let key = Key::from("k");
    let header = db.core.coordinators.hold_header(&db.core, &this, Arc::from([key.clone()]));
    let locked = Verify {
        key: key.clone(),
        strength: Strength::Update,
        seen: meridian_kv::api::Timestamp::MIN,
    };
    let part =
        Part { range: 1, key, writes: vec![], verify: vec![locked], reads: ReadSet::default() };
    let holds = requests(&header, Isolation::ReadCommitted, this.sent, vec![part]);
    let owner = meridian_kv::locks::Owner::transaction(1, 0);
    let given = Given::new(&db.core, owner, Default::default(), vec![], None, None);
    assert!(matches!(make_holds(&db.core, holds, &given).await, Ok(Made::All)));
    assert_eq!(lock(&db.store, "k", Strength::KeyShare).await, Err(KvError::LockNotAvailable));
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if lock(&db.store, "k", Strength::Update).await == Ok(()) {
            return db.settled().await;
        }
    }
    panic!("nobody looked after it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_opens_again_has_the_locks_before_anything_else() {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(StoreConfig::at(dir.path())).await.expect("opens");
    with_old(&store).await;
    prepare(&store, "one", &KEYS).await.expect("prepares");
    store.kill().await;
    drop(store);
    let store = loop {
        // What the killed one was about still ends in the background.
        match Store::open(StoreConfig::at(dir.path())).await {
            Ok(store) => break store,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_locked(&store, &KEYS).await;
    assert_eq!(prepare(&store, "one", &["b"]).await, Err(PrepareError::InUse));
    assert_eq!(finish(&store, "one", true).await, Ok(true));
    assert_row(&store, &KEYS, "new").await;
    store.shutdown().await.expect("ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_transactions_survive_the_death_of_any_node() {
    let mut nodes = three().await;
    with_old(nodes[0].store()).await;
    for at in ["h", "p"] {
        nodes[0].store().split_at(Key::from(at)).await.expect("splits");
    }
    // The gateway is no leaseholder, and dies.
    prepare(nodes[2].store(), "one", &KEYS).await.expect("prepares");
    assert_locked(nodes[1].store(), &KEYS).await;
    nodes[2].kill().await;
    assert_locked(nodes[1].store(), &KEYS).await;
    let rows = crate::member_tests::rows(&nodes);
    nodes[2].start(&rows).await;
    let live = |store: &Arc<Store>| store.core().cluster().expect("a member").live().len();
    eventually("all live", || nodes.iter().all(|node| live(node.store()) == 3)).await;
    // The leaseholder of all dies.
    nodes[0].kill().await;
    assert_locked(nodes[1].store(), &KEYS).await;
    assert_eq!(finish(nodes[2].store(), "one", true).await, Ok(true));
    assert_row(nodes[1].store(), &KEYS, "new").await;
    let none = nodes[1].store().prepared().await.expect("reads");
    assert_eq!(none, []);
    eventually("all is given back", || {
        nodes[1..].iter().all(|node| node.store().lock_view().is_empty())
    })
    .await;
    end(&mut nodes).await;
}
