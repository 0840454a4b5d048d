//! Logs that fail, and many transactions that meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use futures::future::BoxFuture;
use meridian_base::Rng;
use meridian_kv::api::{Bytes, Isolation, Key, KvError};
use meridian_storage::StorageError;

use crate::parts_tests::transfer;
use crate::proposer::{ProposeError, Proposer};
use crate::{Store, StoreConfig, Txn, TxnOptions};

const FINE: u8 = 0;
const FULL: u8 = 1;
const LOST: u8 = 2;
const PANIC: u8 = 3;

/// A log that fails on command.
struct Faulty {
    inner: Arc<dyn Proposer>,
    fault: Arc<AtomicU8>,
}

impl Proposer for Faulty {
    fn propose(&self, term: u64, entry: Bytes) -> BoxFuture<'_, Result<(), ProposeError>> {
        match self.fault.load(Ordering::SeqCst) {
            FINE => self.inner.propose(term, entry),
            FULL => Box::pin(async { Err(ProposeError::Refused(KvError::DiskFull)) }),
            PANIC => panic!("as the test asked for"),
            _ => Box::pin(async { Err(ProposeError::Unknown("the disk is gone".into())) }),
        }
    }

    fn checkpoint(&self) -> Result<(), StorageError> {
        self.inner.checkpoint()
    }

    fn close(&self) -> Result<(), StorageError> {
        self.inner.close()
    }

    fn fsyncs(&self) -> u64 {
        0
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_a_lost_log_is_ambiguous_and_then_final() {
    let fault = Arc::new(AtomicU8::new(FINE));
    let log = Arc::clone(&fault);
    let store = Store::over(|inner| Arc::new(Faulty { inner, fault: log }));
    let put = |value: &'static str| store.put_raw(Key::from("a"), Bytes::from(value));
    put("1").await.unwrap();
    fault.store(FULL, Ordering::SeqCst);
    assert_eq!(put("2").await, Err(KvError::DiskFull));
    fault.store(FINE, Ordering::SeqCst);
    put("3").await.expect("there is room again, and the locks were given back");
    fault.store(LOST, Ordering::SeqCst);
    assert_eq!(put("4").await, Err(KvError::Ambiguous));
    assert!(matches!(put("5").await, Err(KvError::Unavailable { .. })));
    let mut txn = store.begin(TxnOptions::default());
    assert_eq!(txn.get(b"a").await.unwrap().as_deref(), Some(&b"3"[..]), "reads go on");
    assert!(store.lock_view().is_empty());
    store.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_batcher_leaves_no_commit_waiting() {
    let fault = Arc::new(AtomicU8::new(PANIC));
    let store = Store::over(|inner| Arc::new(Faulty { inner, fault }));
    let put = store.put_raw(Key::from("a"), Bytes::from("1"));
    assert_eq!(put.await, Err(KvError::Ambiguous));
    let put = store.put_raw(Key::from("b"), Bytes::from("1"));
    assert!(matches!(put.await, Err(KvError::Unavailable { .. })));
    assert!(store.lock_view().is_empty());
    store.shutdown().await.unwrap();
}

const ACCOUNTS: u64 = 5;

fn account(n: u64) -> Key {
    Key::from(format!("acct{n}"))
}

async fn total(txn: &mut Txn) -> i64 {
    let mut total = 0;
    for n in 0..ACCOUNTS {
        let row = txn.get(&account(n)).await.unwrap().expect("all accounts exist");
        total += String::from_utf8(row.to_vec()).unwrap().parse::<i64>().unwrap();
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_in_any_order_at_any_level_keep_the_sum_and_deadlocks_are_broken() {
    let store = Store::open(StoreConfig::in_memory()).await.unwrap();
    for n in 0..ACCOUNTS {
        store.put_raw(account(n), Bytes::from("100")).await.unwrap();
    }
    let tasks: Vec<_> = (0..12)
        .map(|client| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut rng = Rng::seeded(client);
                let levels =
                    [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable];
                let isolation = levels[usize::try_from(client % 3).unwrap()];
                for _ in 0..100 {
                    let backend = u32::try_from(client + 1).unwrap();
                    let options = TxnOptions { isolation, backend, ..TxnOptions::default() };
                    let mut txn = store.begin(options);
                    let from = rng.below(ACCOUNTS);
                    let to = (from + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS;
                    let done = match transfer(&mut txn, &account(from), &account(to)).await {
                        Ok(()) => txn.commit().await.map(drop),
                        Err(error) => Err(error),
                    };
                    match done {
                        Ok(()) | Err(KvError::Deadlock { .. }) => {}
                        Err(KvError::Retry { .. }) if isolation > Isolation::ReadCommitted => {}
                        Err(other) => panic!("{isolation:?}: {other}"),
                    }
                    drop(txn);
                    assert_eq!(total(&mut store.begin(options)).await, 500);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(store.lock_view().is_empty());
    store.core().locks.check();
    let stats = store.stats();
    assert!(stats.commits > 300 && stats.oldest_snapshot.is_none(), "{stats:?}");
    store.shutdown().await.unwrap();
}
