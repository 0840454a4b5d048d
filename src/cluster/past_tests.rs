//! Transactions that read the past.

use std::sync::Arc;
use std::time::Duration;

use meridian_kv::api::{Bytes, Key, KvError, Span};

use crate::{Store, StoreConfig, Timestamp, Txn, TxnOptions};

async fn set(store: &Arc<Store>, value: &'static str) -> Timestamp {
    store.put_raw(Key::from("k"), Bytes::from(value)).await.expect("commits")
}

async fn get(txn: &mut Txn) -> Option<Bytes> {
    let row = txn.get(b"k").await.expect("reads");
    let mut rows = Vec::new();
    let mut scan = txn.scan(Span::new("a", "z"), false).await.expect("scans");
    while scan.next_batch(16, &mut rows).await.expect("scans") {}
    assert_eq!(rows.into_iter().map(|(_, row)| row).next(), row, "a scan finds the same");
    row
}

fn at(store: &Arc<Store>, ts: Timestamp) -> Result<Txn, KvError> {
    store.begin_as_of(TxnOptions::default(), ts)
}

#[tokio::test]
async fn what_was_there_is_read_however_often_it_was_written_since() {
    let store = Store::open(StoreConfig::in_memory()).await.expect("opens");
    let before = store.now();
    let first = set(&store, "1").await;
    let second = set(&store, "2").await;
    for (ts, row) in
        [(before, None), (first, Some("1")), (second.prev(), Some("1")), (second, Some("2"))]
    {
        let mut txn = at(&store, ts).expect("kept");
        assert_eq!(get(&mut txn).await, row.map(Bytes::from));
        // Its statements all read there.
        txn.begin_statement();
        assert_eq!((txn.read_ts(), get(&mut txn).await), (ts, row.map(Bytes::from)));
        txn.commit().await.expect("has only read");
    }
}

#[tokio::test]
async fn nothing_is_written_any_more_at_a_time_that_was_read() {
    let store = Store::open(StoreConfig::in_memory()).await.expect("opens");
    set(&store, "1").await;
    // Nobody has written since: the range has applied less than what is asked for.
    let now = store.now();
    assert!(now > store.applied());
    let mut txn = at(&store, now).expect("kept");
    assert_eq!(get(&mut txn).await, Some(Bytes::from("1")));
    assert!(set(&store, "2").await > now);
    assert_eq!(get(&mut txn).await, Some(Bytes::from("1")));
    // What is to come is not known.
    let future = Timestamp::from_micros(store.now().micros() + 60_000_000);
    let txn = at(&store, future).expect("now");
    assert!(txn.read_ts() < future);
}

#[tokio::test]
async fn what_may_have_been_collected_is_refused_and_what_is_in_use_is_kept() {
    let config = StoreConfig { gc_ttl: Duration::from_millis(50), ..StoreConfig::in_memory() };
    let store = Store::open(config).await.expect("opens");
    let first = set(&store, "1").await;
    let mut txn = at(&store, first).expect("kept");
    set(&store, "2").await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    store.compact().await.expect("compacts");
    assert_eq!(get(&mut txn).await, Some(Bytes::from("1")), "it is in use");
    assert!(matches!(at(&store, first), Err(KvError::SnapshotTooOld)));
    drop(txn);
    assert!(matches!(at(&store, first), Err(KvError::SnapshotTooOld)));
}
