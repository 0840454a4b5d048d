//! Commits over several ranges: sums that stay, coordinators that vanish, leases that move, logs that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use meridian_base::{RangeId, Rng};
use meridian_kv::api::{Bytes, Isolation, Key, KvError, Span, Strength, Timestamp, WaitPolicy};
use meridian_kv::commit::{Answer, Message, Part, requests};
use meridian_kv::range::{Header, Outcome as Decided, PrepareRequest, Refused, Status};
use meridian_kv::txn::{ReadSet, VersionTag, Write};
use meridian_storage::StorageError;
use parking_lot::Mutex;

use crate::apply::EntryApplier;
use crate::batcher::run_batcher;
use crate::core::Core;
use crate::parts::Reply;
use crate::proposer::{ProposeError, Proposer, Unlogged};
use crate::range::{Range, Shape};
use crate::sessions::process_id;
use crate::txn::Try;
use crate::{Locked, RunBuilder, Store, Txn, TxnOptions};

/// What the tests do to the logs of all ranges but the first.
#[derive(Default)]
struct Faults {
    full: AtomicBool,
    /// The terms beside those in which the logs began.
    terms: [Mutex<u64>; 2],
}

/// A log that is full on command, and takes an entry in its own term only.
struct Faulty {
    inner: Unlogged,
    at: usize,
    faults: Arc<Faults>,
}

impl Proposer for Faulty {
    fn propose(&self, term: u64, entry: Bytes) -> BoxFuture<'_, Result<(), ProposeError>> {
        if self.faults.full.load(Ordering::SeqCst) {
            return Box::pin(async { Err(ProposeError::Refused(KvError::DiskFull)) });
        }
        let current = self.faults.terms[self.at].lock();
        match term == *current + 1 {
            // Applied before the future is there: under the lock.
            true => self.inner.propose(term, entry),
            false => Box::pin(async { Err(ProposeError::NotLeader) }),
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
pub(crate) struct Divided {
    pub(crate) store: Arc<Store>,
    pub(crate) core: Arc<Core>,
    faults: Arc<Faults>,
}

const STARTS: [&str; 3] = ["", "h", "p"];

impl Divided {
    pub(crate) fn new() -> Divided {
        let store = Store::over(|log| log);
        let core = Arc::clone(store.core());
        let faults = Arc::new(Faults::default());
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
        for (at, (range, shape)) in ranges[1..].iter().enumerate() {
            let applier = EntryApplier::new(Arc::clone(&core), Arc::clone(range)).expect("memory");
            applier.holds.set(Some(shape.clone()));
            let inner = Unlogged { core: Arc::clone(&core), applier };
            let log = Arc::new(Faulty { inner, at, faults: Arc::clone(&faults) });
            tokio::spawn(run_batcher(Arc::clone(&core), Arc::clone(range), log));
        }
        core.ranges.put(ranges.clone());
        for (range, _) in &ranges[1..] {
            core.lead(range, 1, None).expect("memory");
        }
        Divided { store, core, faults }
    }

    fn range(&self, key: &str) -> Arc<Range> {
        Arc::clone(&self.core.ranges.of(key.as_bytes()))
    }

    fn begin(&self, isolation: Isolation) -> Txn {
        self.store.begin(TxnOptions { isolation, ..TxnOptions::default() })
    }

    /// The lease of a range that isn't the first one is lost, and won again in the next term.
    pub(crate) fn move_lease(&self, at: usize) {
        let range = self.core.ranges.all().swap_remove(at + 1);
        let mut term = self.faults.terms[at].lock();
        self.core.lost_lease(&range, *term + 1);
        *term += 1;
        self.core.lead(&range, *term + 1, None).expect("memory");
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

    /// Prepares one part of a transaction that nobody coordinates.
    async fn prepare(&self, header: &Header, own: usize, row: &str) -> Answer {
        self.send(request(header, own, row)).await
    }

    async fn send(&self, request: PrepareRequest) -> Answer {
        let (header, own) = (request.header.clone(), request.own);
        let range = Arc::clone(&self.core.ranges.of(&header.participants[own]));
        let message = Message::Prepare(Arc::new(request));
        match range.pipeline.part(&self.core, &header, own, message, None).await {
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
    pub(crate) async fn settled(&self) {
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

/// Writes its participant's key.
pub(crate) fn request(header: &Header, own: usize, row: &str) -> PrepareRequest {
    let value = Some(Bytes::from(row.to_owned()));
    let parts = header.participants.iter().enumerate().map(|(range, key)| {
        let write = Write { key: key.clone(), value: value.clone(), expect: VersionTag::Blind };
        let (verify, reads) = (Vec::new(), ReadSet::default());
        Part { range, key: key.clone(), writes: vec![write], verify, reads }
    });
    let level = Isolation::ReadCommitted;
    requests(header, level, Timestamp::MIN, parts.collect()).swap_remove(own)
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
async fn a_read_of_one_key_sees_all_that_was_acknowledged() {
    let db = Divided::new();
    for n in 0..100 {
        let row = n.to_string();
        db.put(&[("a", &row), ("k", &row), ("z", &row)]).await.expect("commits");
        // The outcome may still be on its way to some of the ranges.
        for key in [b"z", b"k", b"a"] {
            let mut txn = db.begin(Isolation::ReadCommitted);
            let found = txn.get_alone(key).await.expect("reads");
            assert_eq!(found.as_deref(), Some(row.as_bytes()));
        }
    }
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
    db.faults.full.store(true, Ordering::SeqCst);
    assert_eq!(db.put(&[("a", "y"), ("z", "y")]).await, Err(KvError::DiskFull));
    db.faults.full.store(false, Ordering::SeqCst);
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
    let header = db.header(&["a", "z"]);
    let (one, two) = (db.prepare(&header, 0, "2").await, db.prepare(&header, 1, "2").await);
    db.move_lease(1);
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

#[tokio::test]
async fn a_plan_that_is_too_old_is_made_anew_and_a_range_without_a_leader_is_waited_for() {
    let db = Divided::new();
    let range = db.range("z");
    // The last range knows already that it has split, the directory doesn't.
    range.pipeline.set_bounds(Span::new("p", "t"));
    let commit = db.put(&[("a", "1"), ("q", "1"), ("z", "1")]);
    let learn = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        range.pipeline.set_bounds(Span::new("p", ""));
    };
    let (committed, ()) = tokio::join!(commit, learn);
    committed.expect("commits when it is in one range again");
    assert_eq!((db.get("q").await, db.get("z").await), ("1".into(), "1".into()));
    // Nobody leads it for a while.
    db.core.lost_lease(&range, 1);
    let commit = db.put(&[("a", "2"), ("z", "2")]);
    let lead = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        db.move_lease(1);
    };
    let (committed, ()) = tokio::join!(commit, lead);
    committed.expect("commits when the range is led again");
    assert_eq!((db.get("a").await, db.get("z").await), ("2".into(), "2".into()));
    db.settled().await;
}

#[tokio::test]
async fn who_writes_what_a_record_has_read_waits_for_its_end() {
    let db = Divided::new();
    db.put(&[("a", "1"), ("b", "1"), ("k", "1"), ("z", "1")]).await.unwrap();
    // One writer is of one range, the other of two.
    for rows in [&[("a", "2")][..], &[("a", "3"), ("k", "3")]] {
        let header = db.header(&["b", "z"]);
        for own in 0..2 {
            let mut request = request(&header, own, "x");
            request.read_ts = db.core.hlc.now();
            if own == 0 {
                request.reads.add_point(b"a");
            }
            assert!(matches!(db.send(request).await, Answer::Prepared(_)));
        }
        let written = db.put(rows).await.expect("waits");
        let range = db.range("b");
        let known = range.pipeline.part(&db.core, &header, 0, Message::Query, None).await;
        let Ok(Reply::Answer(Answer::Status(Status::Ended(Decided::Committed(ts))))) = known else {
            panic!("{known:?}");
        };
        assert!(ts < written, "the record read the row that was there before");
    }
    assert_eq!((db.get("a").await, db.get("b").await), ("3".into(), "x".into()));
    db.settled().await;
}

#[tokio::test]
async fn rows_in_bulk_are_committed_over_ranges_up_to_a_size() {
    let db = Divided::new();
    // As single writes from the beginning, and as what is too large for one entry.
    for (bytes, name) in [(10, "s"), (2 << 20, "l")] {
        let mut txn = db.begin(Isolation::ReadCommitted);
        let mut builder = RunBuilder::default();
        for start in ["b", "m", "x"] {
            builder.push(format!("{start}{name}").as_bytes(), &vec![7; bytes]);
        }
        let run = Arc::new(builder.build().unwrap().0);
        assert_eq!(txn.claim_run(&run).await, Ok(None));
        txn.put_run(Arc::clone(&run));
        txn.put(Key::from(format!("m{name}")), Bytes::from("changed"));
        txn.commit().await.unwrap();
        assert_eq!(db.get(&format!("m{name}")).await, "changed");
        assert_eq!(db.get(&format!("x{name}")).await.len(), bytes);
        let mut second = db.begin(Isolation::ReadCommitted);
        assert_eq!(second.claim_run(&run).await, Ok(Some(0)), "the keys are taken");
    }
    let megabyte = Bytes::from(vec![0; 1 << 20]);
    let mut txn = db.begin(Isolation::ReadCommitted);
    txn.put(Key::from("a"), megabyte.clone());
    for n in 0..64 {
        txn.put(Key::from(format!("z{n}")), megabyte.clone());
    }
    let refused = txn.commit().await;
    assert!(matches!(refused, Err(KvError::TransactionTooLarge { .. })), "{refused:?}");
    db.settled().await;
}

pub(crate) const ACCOUNTS: u64 = 6;

pub(crate) fn account(n: u64) -> Key {
    Key::from(format!("{}{n}", ["a", "k", "z"][n as usize % 3]))
}

async fn balance(txn: &mut Txn, key: &Key) -> Result<Option<i64>, KvError> {
    let locked = txn.lock(key, Strength::NoKeyUpdate, WaitPolicy::Block).await?;
    let Locked::Held { newest, changed } = locked else { panic!("{locked:?}") };
    if changed && txn.isolation() != Isolation::ReadCommitted {
        return Err(KvError::CONCURRENT_UPDATE);
    }
    let row = newest.map(|(_, row)| String::from_utf8(row.to_vec()).unwrap().parse().unwrap());
    Ok((!changed).then_some(row.expect("all accounts exist")))
}

/// A statement that moves money; READ COMMITTED runs it again until nothing has changed under it.
pub(crate) async fn transfer(txn: &mut Txn, from: &Key, to: &Key) -> Result<(), KvError> {
    loop {
        txn.begin_statement();
        let (Some(a), Some(b)) = (balance(txn, from).await?, balance(txn, to).await?) else {
            continue;
        };
        txn.put(from.clone(), Bytes::from((a - 1).to_string()));
        txn.put(to.clone(), Bytes::from((b + 1).to_string()));
        return Ok(());
    }
}

pub(crate) async fn total(store: &Arc<Store>) -> Result<i64, KvError> {
    let isolation = Isolation::RepeatableRead;
    let mut txn = store.begin(TxnOptions { isolation, ..TxnOptions::default() });
    let mut total = 0;
    for n in 0..ACCOUNTS {
        let row = txn.get(&account(n)).await?.expect("all accounts exist");
        total += String::from_utf8(row.to_vec()).unwrap().parse::<i64>().unwrap();
    }
    Ok(total)
}

/// One client's transfers, some of which fail in a way that is expected; how many have not.
pub(crate) async fn transfers(
    store: &Arc<Store>,
    client: u64,
    rounds: u64,
    expected: impl Fn(&KvError) -> bool,
) -> u64 {
    let mut rng = Rng::seeded(client);
    let levels = [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable];
    let isolation = levels[client as usize % 3];
    let backend = process_id(store.node(), u32::try_from(client + 1).unwrap());
    let mut committed = 0;
    for round in 0..rounds {
        let mut txn = store.begin(TxnOptions { isolation, backend, ..TxnOptions::default() });
        let from = rng.below(ACCOUNTS);
        let to = (from + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS;
        let done = match transfer(&mut txn, &account(from), &account(to)).await {
            // Now and then the client goes while its commit is under way.
            Ok(()) if round % 10 == 9 => {
                let commit = tokio::spawn(async move { txn.commit().await });
                tokio::task::yield_now().await;
                commit.abort();
                continue;
            }
            Ok(()) => txn.commit().await.map(drop),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => committed += 1,
            Err(error) => assert!(expected(&error), "{isolation:?}: {error:?}"),
        }
        match total(store).await {
            Ok(sum) => assert_eq!(sum, 100 * i64::try_from(ACCOUNTS).unwrap()),
            Err(error) => assert!(expected(&error), "{error:?}"),
        }
    }
    committed
}

async fn with_money() -> Arc<Divided> {
    let db = Arc::new(Divided::new());
    for n in 0..ACCOUNTS {
        db.store.put_raw(account(n), Bytes::from("100")).await.unwrap();
    }
    db
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_between_ranges_keep_the_sum_for_every_reader() {
    let db = with_money().await;
    let clients = (0..8u64).map(|client| {
        let db = Arc::clone(&db);
        tokio::spawn(async move {
            let expected = |error: &KvError| match error {
                KvError::Deadlock { .. } => true,
                KvError::Retry { .. } => client % 3 != 0,
                _ => false,
            };
            transfers(&db.store, client, 40, expected).await
        })
    });
    let mut committed = 0;
    for client in clients.collect::<Vec<_>>() {
        committed += client.await.unwrap();
    }
    assert!(committed > 100, "{committed}");
    db.settled().await;
    db.core.locks.check();
    db.store.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_keep_the_sum_while_leases_move() {
    let db = with_money().await;
    let clients = (0..6u64).map(|client| {
        let db = Arc::clone(&db);
        tokio::spawn(async move {
            // A lock that was lost is a row that may have changed, at any level.
            let expected =
                |error: &KvError| matches!(error, KvError::Deadlock { .. } | KvError::Retry { .. });
            transfers(&db.store, client, 40, expected).await
        })
    });
    let clients: Vec<_> = clients.collect();
    for round in 0.. {
        if clients.iter().all(|client| client.is_finished()) {
            break;
        }
        db.move_lease(round % 2);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let mut committed = 0;
    for client in clients {
        committed += client.await.unwrap();
    }
    assert!(committed > 50, "{committed}");
    db.settled().await;
    db.store.shutdown().await.unwrap();
}
