//! Commits over several ranges: sums that stay, coordinators that vanish, leases that move, logs that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use meridian_base::{RangeId, Rng};
use meridian_kv::api::{Bytes, Isolation, Key, KvError, Span, Strength, Timestamp, WaitPolicy};
use meridian_kv::commit::{Answer, Message, Part, requests};
use meridian_kv::range::{Header, Outcome as Decided, Refused, Status};
use meridian_kv::txn::{ReadSet, VersionTag, Write};
use meridian_storage::StorageError;

use crate::apply::EntryApplier;
use crate::batcher::run_batcher;
use crate::core::Core;
use crate::parts::Reply;
use crate::proposer::{ProposeError, Proposer, Unlogged};
use crate::range::{Range, Shape};
use crate::txn::Try;
use crate::{Locked, Store, Txn, TxnOptions};

const FINE: u8 = 0;
const FULL: u8 = 1;

/// A log that is full on command.
struct Faulty {
    inner: Unlogged,
    fault: Arc<AtomicU8>,
}

impl Proposer for Faulty {
    fn propose(&self, term: u64, entry: Bytes) -> BoxFuture<'_, Result<(), ProposeError>> {
        match self.fault.load(Ordering::SeqCst) {
            FINE => self.inner.propose(term, entry),
            _ => Box::pin(async { Err(ProposeError::Refused(KvError::DiskFull)) }),
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

/// A store of one node whose keys are divided at `h` and `p`.
struct Divided {
    store: Arc<Store>,
    core: Arc<Core>,
    /// What the last range's log does.
    fault: Arc<AtomicU8>,
}

const STARTS: [&str; 3] = ["", "h", "p"];

impl Divided {
    fn new() -> Divided {
        let store = Store::over(|log| log);
        let core = Arc::clone(store.core());
        let fault = Arc::new(AtomicU8::new(FINE));
        let mut ranges = Vec::new();
        for (at, start) in STARTS.into_iter().enumerate() {
            let end = STARTS.get(at + 1).copied().unwrap_or_default();
            let shape = Shape { span: Span::new(start, end), generation: 2 };
            let range = match at {
                0 => Arc::clone(core.first()),
                _ => {
                    let id = RangeId(at as u64 + 1);
                    let ring = core.config.recent_writes_len;
                    Arc::new(Range::new(id, shape.clone(), Timestamp::MIN, ring))
                }
            };
            ranges.push((range, shape));
        }
        for (range, _) in &ranges[1..] {
            let applier = EntryApplier::new(Arc::clone(&core), Arc::clone(range));
            let inner = Unlogged { core: Arc::clone(&core), applier };
            let log = Arc::new(Faulty { inner, fault: Arc::clone(&fault) });
            tokio::spawn(run_batcher(Arc::clone(&core), Arc::clone(range), log));
        }
        core.ranges.put(ranges.clone());
        for (range, _) in &ranges[1..] {
            core.lead(range, 1, None).expect("memory");
        }
        Divided { store, core, fault }
    }

    fn range(&self, key: &str) -> Arc<Range> {
        Arc::clone(&self.core.ranges.of(key.as_bytes()))
    }

    fn begin(&self, isolation: Isolation) -> Txn {
        self.store.begin(TxnOptions { isolation, ..TxnOptions::default() })
    }

    async fn put(&self, rows: &[(&str, &str)]) -> Result<Timestamp, KvError> {
        let mut txn = self.begin(Isolation::ReadCommitted);
        for (key, row) in rows {
            txn.put(Key::from(key.to_string()), Bytes::from(row.to_string()));
        }
        txn.commit().await
    }

    async fn get(&self, key: &str) -> String {
        let mut txn = self.begin(Isolation::ReadCommitted);
        let row = txn.get(key.as_bytes()).await.expect("reads");
        row.map_or("-".into(), |row| String::from_utf8(row.to_vec()).expect("text"))
    }

    /// Puts one part of a transaction that nobody coordinates.
    async fn prepare(&self, header: &Header, own: usize, row: &str) -> Answer {
        let key = header.participants[own].clone();
        let value = Some(Bytes::from(row.to_owned()));
        let parts = header.participants.iter().enumerate().map(|(range, key)| {
            let write = Write { key: key.clone(), value: value.clone(), expect: VersionTag::Blind };
            let (verify, reads) = (Vec::new(), ReadSet::default());
            Part { range, key: key.clone(), writes: vec![write], verify, reads }
        });
        let level = Isolation::ReadCommitted;
        let request = requests(header, level, Timestamp::MIN, parts.collect()).swap_remove(own);
        let message = Message::Prepare(Arc::new(request));
        let range = Arc::clone(&self.core.ranges.of(&key));
        match range.pipeline.part(&self.core, header, own, message, None).await {
            Ok(Reply::Answer(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn header(&self, keys: &[&str]) -> Header {
        let keys = keys.iter().map(|key| Key::from(key.to_string()));
        let this = Try::new(self.core.next_txn_id(), self.core.hlc.now());
        self.core.coordinators.header(&self.core, &this, keys.collect())
    }

    /// Waits until no range has a record.
    async fn settled(&self) {
        for _ in 0..500 {
            if self.core.ranges.all().iter().all(|range| range.pipeline.records(None).is_empty()) {
                assert!(self.store.lock_view().is_empty(), "{:?}", self.store.lock_view());
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a record was left");
    }
}

#[tokio::test]
async fn a_commit_over_ranges_is_seen_as_a_whole_and_gives_its_locks_back() {
    let db = Divided::new();
    let ts = db.put(&[("a", "1"), ("k", "1"), ("z", "1")]).await.expect("commits");
    assert_eq!(
        (db.get("a").await, db.get("k").await, db.get("z").await),
        ("1".into(), "1".into(), "1".into())
    );
    let mut old = db.begin(Isolation::RepeatableRead);
    assert_eq!(old.get(b"a").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert!(old.read_ts() >= ts);
    let next = db.put(&[("a", "2"), ("z", "2")]).await.expect("commits");
    assert!(next > old.read_ts());
    assert_eq!(old.get(b"z").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!((db.get("a").await, db.get("z").await), ("2".into(), "2".into()));
    // In one range again, over what came from a record.
    db.put(&[("a", "3")]).await.expect("commits");
    assert_eq!(db.get("a").await, "3");
    drop(old);
    db.settled().await;
    db.store.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_refusal_in_one_range_undoes_the_others() {
    let db = Divided::new();
    db.put(&[("a", "1"), ("z", "1")]).await.unwrap();
    let mut txn = db.begin(Isolation::RepeatableRead);
    assert!(txn.get(b"a").await.unwrap().is_some());
    db.put(&[("z", "2")]).await.unwrap();
    txn.put(Key::from("a"), Bytes::from("x"));
    txn.put(Key::from("z"), Bytes::from("x"));
    assert_eq!(txn.commit().await, Err(KvError::CONCURRENT_UPDATE));
    db.fault.store(FULL, Ordering::SeqCst);
    assert_eq!(db.put(&[("a", "y"), ("z", "y")]).await, Err(KvError::DiskFull));
    db.fault.store(FINE, Ordering::SeqCst);
    assert_eq!((db.get("a").await, db.get("z").await), ("1".into(), "2".into()));
    db.put(&[("a", "3"), ("z", "3")]).await.expect("there is room again");
    db.settled().await;
}

#[tokio::test]
async fn write_skew_over_ranges_is_stopped_at_serializable() {
    let db = Divided::new();
    db.put(&[("a", "1"), ("z", "1")]).await.unwrap();
    for (level, second) in [
        (Isolation::RepeatableRead, Ok(())),
        (Isolation::Serializable, Err(KvError::READ_WRITE_DEPENDENCY)),
    ] {
        let (mut one, mut two) = (db.begin(level), db.begin(level));
        for txn in [&mut one, &mut two] {
            txn.get(b"a").await.unwrap();
            txn.get(b"z").await.unwrap();
        }
        one.put(Key::from("a"), Bytes::from("0"));
        two.put(Key::from("z"), Bytes::from("0"));
        one.commit().await.unwrap();
        assert_eq!(two.commit().await.map(drop), second, "{level:?}");
    }
    db.settled().await;
}

#[tokio::test]
async fn without_a_coordinator_the_ranges_find_the_outcome_themselves() {
    let db = Divided::new();
    db.put(&[("a", "1"), ("z", "1")]).await.unwrap();
    // All have prepared: it is committed.
    let header = db.header(&["a", "z"]);
    let (Answer::Prepared(p), Answer::Prepared(q)) =
        (db.prepare(&header, 0, "2").await, db.prepare(&header, 1, "2").await)
    else {
        panic!("nothing is in the way");
    };
    assert_eq!(
        (db.get("a").await, db.get("z").await),
        ("2".into(), "2".into()),
        "it was waited for"
    );
    let range = db.range("a");
    let Ok(Reply::Answer(known)) =
        range.pipeline.part(&db.core, &header, 0, Message::Query, None).await
    else {
        panic!("it is known");
    };
    assert_eq!(known, Answer::Status(Status::Ended(Decided::Committed(p.max(q)))));
    db.settled().await;
    // One has not: it never will.
    let header = db.header(&["a", "z"]);
    assert!(matches!(db.prepare(&header, 0, "3").await, Answer::Prepared(_)));
    assert_eq!(db.get("a").await, "2");
    let late = db.prepare(&header, 1, "3").await;
    assert_eq!(late, Answer::Refused(Refused::Decided(Decided::Aborted)));
    assert_eq!(db.get("z").await, "2");
    db.settled().await;
}

#[tokio::test]
async fn a_new_leaseholder_has_the_records_and_their_locks() {
    let db = Divided::new();
    db.put(&[("a", "1"), ("z", "1")]).await.unwrap();
    let range = db.range("z");
    let header = db.header(&["a", "z"]);
    let (one, two) = (db.prepare(&header, 0, "2").await, db.prepare(&header, 1, "2").await);
    db.core.lost_lease(&range, 1);
    db.core.lead(&range, 2, None).expect("memory");
    let mut writer = db.begin(Isolation::ReadCommitted);
    let policy = WaitPolicy::NoWait;
    let locked = writer.lock(b"z", Strength::NoKeyUpdate, policy).await;
    assert_eq!(locked, Err(KvError::LockNotAvailable), "{one:?} {two:?}");
    let waited = writer.lock(b"z", Strength::NoKeyUpdate, WaitPolicy::Block).await;
    let Ok(Locked::Held { newest: Some((_, row)), .. }) = waited else { panic!("{waited:?}") };
    assert_eq!(&row[..], b"2", "the lock was free when the outcome had been applied");
    drop(writer);
    assert_eq!(db.get("a").await, "2");
    db.settled().await;
}

const ACCOUNTS: u64 = 6;

fn account(n: u64) -> Key {
    Key::from(format!("{}{n}", ["a", "k", "z"][n as usize % 3]))
}

async fn balance(txn: &mut Txn, n: u64) -> Result<Option<i64>, KvError> {
    let locked = txn.lock(&account(n), Strength::NoKeyUpdate, WaitPolicy::Block).await?;
    let Locked::Held { newest: Some((_, row)), changed } = locked else { panic!("{locked:?}") };
    if changed && txn.isolation() != Isolation::ReadCommitted {
        return Err(KvError::CONCURRENT_UPDATE);
    }
    let row = String::from_utf8(row.to_vec()).unwrap().parse().unwrap();
    Ok((!changed).then_some(row))
}

async fn transfer(txn: &mut Txn, from: u64, to: u64) -> Result<(), KvError> {
    loop {
        txn.begin_statement();
        let (Some(a), Some(b)) = (balance(txn, from).await?, balance(txn, to).await?) else {
            continue;
        };
        txn.put(account(from), Bytes::from((a - 1).to_string()));
        txn.put(account(to), Bytes::from((b + 1).to_string()));
        return Ok(());
    }
}

async fn total(db: &Divided) -> i64 {
    let mut txn = db.begin(Isolation::RepeatableRead);
    let mut total = 0;
    for n in 0..ACCOUNTS {
        let row = txn.get(&account(n)).await.unwrap().expect("all accounts exist");
        total += String::from_utf8(row.to_vec()).unwrap().parse::<i64>().unwrap();
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_between_ranges_keep_the_sum_for_every_reader() {
    let db = Arc::new(Divided::new());
    for n in 0..ACCOUNTS {
        db.store.put_raw(account(n), Bytes::from("100")).await.unwrap();
    }
    let tasks: Vec<_> = (0..8u64)
        .map(|client| {
            let db = Arc::clone(&db);
            tokio::spawn(async move {
                let mut rng = Rng::seeded(client);
                let levels =
                    [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable];
                let isolation = levels[client as usize % 3];
                for round in 0..40 {
                    let backend = u32::try_from(client + 1).unwrap();
                    let options = TxnOptions { isolation, backend, ..TxnOptions::default() };
                    let mut txn = db.store.begin(options);
                    let from = rng.below(ACCOUNTS);
                    let to = (from + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS;
                    if let Err(error) = transfer(&mut txn, from, to).await {
                        let expected =
                            matches!(error, KvError::Deadlock { .. } | KvError::Retry { .. });
                        assert!(expected, "{isolation:?}: {error}");
                        continue;
                    }
                    // Now and then the client goes while its commit is under way.
                    if round % 10 == 9 {
                        let commit = tokio::spawn(async move { txn.commit().await });
                        tokio::task::yield_now().await;
                        commit.abort();
                        continue;
                    }
                    match txn.commit().await {
                        Ok(_) => {}
                        Err(KvError::Retry { .. }) if isolation > Isolation::ReadCommitted => {}
                        Err(other) => panic!("{isolation:?}: {other}"),
                    }
                    assert_eq!(total(&db).await, 100 * i64::try_from(ACCOUNTS).unwrap());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    db.settled().await;
    db.core.locks.check();
    assert_eq!(total(&db).await, 600);
    db.store.shutdown().await.unwrap();
}
