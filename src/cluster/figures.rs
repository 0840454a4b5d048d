//! What the hot paths cost. Not a test of speed (the machine decides that); prints figures:
//!
//! ```text
//! cargo test --profile perf -p meridian-cluster figures -- --ignored --nocapture
//! ```

use std::sync::Arc;

use meridian_base::Instant;
use meridian_kv::api::{Bytes, Isolation, Key, Strength, WaitPolicy};

use crate::{Store, StoreConfig, TxnOptions};

const ROUNDS: u64 = 200_000;

fn key(n: u64) -> Key {
    let mut key = meridian_base::keys::index_prefix(1_000, 1).to_vec();
    key.extend_from_slice(&n.to_be_bytes());
    key.into()
}

fn show(what: &str, started: Instant, rounds: u64) {
    let nanos = started.elapsed().as_nanos() as u64 / rounds;
    println!("{what:<58} {nanos:>8} ns");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; see the module's text"]
async fn figures() {
    let dir = std::env::temp_dir().join(format!("meridian-figures-{}", std::process::id()));
    let store = Store::open(StoreConfig::at(&dir)).await.expect("opens");
    let mut txn = store.begin(TxnOptions::default());
    for n in 0..10_000 {
        txn.put(key(n), Bytes::from(vec![7; 100]));
    }
    let started = Instant::now();
    txn.commit().await.expect("commits");
    show("commit of 10,000 rows, per row", started, 10_000);
    let keys: Vec<Key> = (0..1_000).map(key).collect();

    let started = Instant::now();
    for _ in 0..ROUNDS {
        let mut txn = store.begin(TxnOptions::default());
        txn.commit().await.expect("nothing to commit");
    }
    show("begin + commit, nothing written", started, ROUNDS);

    let mut txn = store.begin(TxnOptions::default());
    let started = Instant::now();
    for n in 0..ROUNDS {
        txn.begin_statement();
        assert!(txn.get(&keys[n as usize % keys.len()]).await.expect("reads").is_some());
    }
    show("begin_statement + get, row in the record cache", started, ROUNDS);

    let started = Instant::now();
    for n in 0..ROUNDS / 100 {
        let mut txn = store.begin(TxnOptions::default());
        for key in &keys[..100] {
            txn.lock(key, Strength::NoKeyUpdate, WaitPolicy::Block).await.expect("free");
        }
        assert!(n < ROUNDS);
    }
    show("lock + read under it + release, uncontended", started, ROUNDS);

    let isolation = Isolation::RepeatableRead;
    let mut txn = store.begin(TxnOptions { isolation, ..TxnOptions::default() });
    let mut rows = Vec::new();
    let started = Instant::now();
    let mut scan = txn.scan(meridian_base::keys::index_span(1_000, 1), false).await.expect("scans");
    while scan.next_batch(1_024, &mut rows).await.expect("reads") {}
    show("scan, per row", started, rows.len() as u64);
    drop((txn, scan));

    for clients in [1, 16, 64] {
        updates(&store, clients).await;
    }
    println!("{:?}", store.stats());
    store.shutdown().await.expect("ends");
    let _ = std::fs::remove_dir_all(dir);
}

/// Each client updates rows of its own, one in a transaction.
async fn updates(store: &Arc<Store>, clients: u64) {
    let before = store.stats();
    let started = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for n in 0..200 {
                    let key = key(client * 100 + n % 100);
                    let mut txn = store.begin(TxnOptions::default());
                    let held = txn.lock(&key, Strength::NoKeyUpdate, WaitPolicy::Block).await;
                    held.expect("own row");
                    txn.put(key, Bytes::from(vec![8; 100]));
                    txn.commit().await.expect("commits");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("runs");
    }
    show(&format!("durable update, {clients} clients, per update"), started, clients * 200);
    let after = store.stats();
    let syncs = (after.fsyncs - before.fsyncs).max(1);
    println!("{:>66.1} commits per sync", (clients * 200) as f64 / syncs as f64);
}
