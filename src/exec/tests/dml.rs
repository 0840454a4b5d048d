//! Writing, and the short way by key.

use std::sync::Arc;

use meridian_types::Datum;

use super::support::Fixture;
use crate::{CopyInserter, Prepared};

async fn error(f: &Fixture, sql: &str) -> (String, String, String) {
    let e = f.exec(sql).await.expect_err(sql);
    let detail = e.fields().detail.clone().unwrap_or_default();
    (e.state().as_str().to_owned(), e.fields().message.clone(), detail)
}

#[tokio::test]
async fn violations_carry_postgresqls_texts() {
    let f = Fixture::new().await;
    assert_eq!(f.rows("INSERT INTO t VALUES (1,10,'x'),(2,20,'y')").await, ["2"]);
    let (state, message, detail) = error(&f, "INSERT INTO t VALUES (1,30,'z')").await;
    assert_eq!(state, "23505");
    assert_eq!(message, "duplicate key value violates unique constraint \"t_pkey\"");
    assert_eq!(detail, "Key (id)=(1) already exists.");
    let (state, message, detail) = error(&f, "INSERT INTO t VALUES (3,20,'z')").await;
    assert_eq!(state, "23505");
    assert_eq!(message, "duplicate key value violates unique constraint \"t_a_key\"");
    assert_eq!(detail, "Key (a)=(20) already exists.");
    let (state, message, detail) = error(&f, "INSERT INTO t (a) VALUES (5)").await;
    assert_eq!(state, "23502");
    assert_eq!(
        message,
        "null value in column \"id\" of relation \"t\" violates not-null constraint"
    );
    assert_eq!(detail, "Failing row contains (null, 5, null).");
    let (state, message, detail) = error(&f, "UPDATE t SET a = -1 WHERE id = 1").await;
    assert_eq!(state, "23514");
    assert_eq!(message, "new row for relation \"t\" violates check constraint \"t_a_check\"");
    assert_eq!(detail, "Failing row contains (1, -1, x).");
    f.rows("INSERT INTO t VALUES (4,1001,'Q')").await;
    let (state, message, detail) = error(&f, "INSERT INTO t VALUES (5,1002,'q')").await;
    assert_eq!(state, "23505");
    assert_eq!(message, "duplicate key value violates unique constraint \"t_lower_idx\"");
    assert_eq!(detail, "Key (lower(b))=(q) already exists.");
    f.rows("INSERT INTO t VALUES (5,100,'q')").await;
    assert_eq!(error(&f, "UPDATE t SET a = 1002 WHERE id = 5").await.0, "23505");
    f.rows("DELETE FROM t WHERE id = 4").await;
    f.rows("UPDATE t SET a = 1002 WHERE id = 5").await;
    f.rows("DELETE FROM t WHERE id = 5").await;
    // Nothing of the failed statements is left, NULLs are no duplicates.
    assert_eq!(f.rows("SELECT id FROM t ORDER BY id").await, ["1", "2"]);
    assert_eq!(f.rows("INSERT INTO t VALUES (7,NULL,'x'),(8,NULL,'x')").await, ["2"]);
}

#[tokio::test]
async fn foreign_keys_hold_on_both_sides() {
    let f = Fixture::new().await;
    f.rows("INSERT INTO t VALUES (1,10,'x'),(2,20,'y')").await;
    let (state, message, detail) = error(&f, "INSERT INTO child VALUES (1,9)").await;
    assert_eq!(state, "23503");
    assert_eq!(
        message,
        "insert or update on table \"child\" violates foreign key constraint \"child_tid_fkey\""
    );
    assert_eq!(detail, "Key (tid)=(9) is not present in table \"t\".");
    f.rows("INSERT INTO child VALUES (1,1),(2,NULL)").await;
    let (state, message, detail) = error(&f, "DELETE FROM t WHERE id = 1").await;
    assert_eq!(state, "23503");
    assert_eq!(
        message,
        "update or delete on table \"t\" violates foreign key constraint \"child_tid_fkey\" on \
         table \"child\""
    );
    assert_eq!(detail, "Key (id)=(1) is still referenced from table \"child\".");
    f.rows("UPDATE t SET id = 5 WHERE id = 1").await;
    assert_eq!(f.rows("SELECT tid FROM child ORDER BY id").await, ["5", "·"]);
    f.rows("DELETE FROM t WHERE id = 2").await;
    assert_eq!(f.rows("SELECT id FROM t").await, ["5"]);
}

#[tokio::test]
async fn upserts_updates_and_returning() {
    let f = Fixture::new().await;
    f.rows("INSERT INTO t VALUES (1,10,'x'),(2,20,'y')").await;
    let sql = "INSERT INTO t VALUES (1,11,'n'),(3,30,'z') ON CONFLICT (id) DO UPDATE \
               SET b = excluded.b || t.b RETURNING id, a, b";
    assert_eq!(f.rows(sql).await, ["1|10|nx", "3|30|z"]);
    let sql = "INSERT INTO t VALUES (2,99,'q') ON CONFLICT DO NOTHING RETURNING id";
    assert!(f.rows(sql).await.is_empty());
    let sql = "INSERT INTO t VALUES (9,90,'q'),(9,91,'q') ON CONFLICT (id) DO UPDATE SET a = 5";
    assert_eq!(error(&f, sql).await.0, "21000");
    let sql = "UPDATE t SET a = a + 1 WHERE id < 3 RETURNING id, a";
    assert_eq!(f.rows(sql).await, ["1|11", "2|21"]);
    let sql = "UPDATE t SET b = s.b FROM (VALUES (1,'p'),(1,'q'),(2,'r')) s(id, b) \
               WHERE s.id = t.id RETURNING t.id, s.b";
    assert_eq!(f.rows(sql).await.len(), 2);
    assert_eq!(
        f.rows("INSERT INTO t SELECT id + 10, a + 100, b FROM t RETURNING id").await.len(),
        3
    );
    assert_eq!(f.rows("SELECT id FROM t WHERE a = 111").await, ["11"]);
    assert_eq!(f.rows("DELETE FROM t WHERE id > 10 RETURNING a").await.len(), 3);
    assert!(f.rows("SELECT id FROM t WHERE a = 111").await.is_empty());
}

#[tokio::test]
async fn a_changed_row_runs_the_statement_again() {
    let f = Fixture::new().await;
    f.rows("INSERT INTO t VALUES (1,10,'x')").await;
    let mut first = f.begin();
    f.run("UPDATE t SET a = a + 1 WHERE b = 'x'", &[], &mut first).await.unwrap();
    let f = Arc::new(f);
    let (other, started) = (f.clone(), Arc::new(tokio::sync::Notify::new()));
    let signal = started.clone();
    let waiter = tokio::spawn(async move {
        let mut second = other.begin();
        signal.notify_one();
        other.run("UPDATE t SET a = a + 1 WHERE b = 'x'", &[], &mut second).await.unwrap();
        second.commit().await.unwrap();
    });
    started.notified().await;
    tokio::task::yield_now().await;
    first.commit().await.unwrap();
    waiter.await.unwrap();
    assert_eq!(f.rows("SELECT a FROM t").await, ["12"]);
}

#[tokio::test]
async fn pgbench_takes_the_short_way() {
    let f = Fixture::new().await;
    let mut txn = f.begin();
    let insert = "INSERT INTO accounts (aid, bid, abalance, filler) VALUES ($1, $2, $3, '')";
    let params = [Datum::Int4(7), Datum::Int4(1), Datum::Int4(0)];
    assert_eq!(f.key(insert, &params, &mut txn).await.unwrap().0, 1);
    let update = "UPDATE accounts SET abalance = abalance + $1 WHERE aid = $2";
    let params = [Datum::Int4(-42), Datum::Int4(7)];
    assert_eq!(f.key(update, &params, &mut txn).await.unwrap().0, 1);
    let select = "SELECT abalance FROM accounts WHERE aid = $1";
    let (rows, bytes) = f.key(select, &[Datum::Int4(7)], &mut txn).await.unwrap();
    assert_eq!(rows, 1);
    assert_eq!(bytes, [&b"D\0\0\0\x0d\0\x01\0\0\0\x03-42"[..]].concat());
    assert_eq!(f.key(select, &[Datum::Int4(8)], &mut txn).await.unwrap().0, 0);
    let select = "SELECT aid, bid FROM accounts WHERE aid IN (7, 8, 9)";
    assert_eq!(f.key(select, &[], &mut txn).await.unwrap().0, 1);
    let delete = "DELETE FROM accounts WHERE aid = $1";
    assert_eq!(f.key(delete, &[Datum::Int4(7)], &mut txn).await.unwrap().0, 1);
    let overflow = "INSERT INTO accounts (aid, abalance) VALUES (1, $1) RETURNING aid + abalance";
    let e = f.key(overflow, &[Datum::Int4(i32::MAX)], &mut txn).await.unwrap_err();
    assert!(matches!(e, crate::ExecError::Pg(e) if e.state().as_str() == "22003"));
}

#[tokio::test]
async fn a_kept_plan_reads_new_parameters() {
    let f = Fixture::new().await;
    f.rows("INSERT INTO t VALUES (1,10,'x'),(2,20,'y')").await;
    f.rows("INSERT INTO child VALUES (1,1),(2,2)").await;
    let sql = "SELECT t.b, c.id FROM t JOIN child c ON c.tid = t.id WHERE t.id = $1";
    let prepared = Arc::new(Prepared::new(Arc::new(f.bind(sql, &[]).unwrap())));
    let mut txn = f.begin();
    for (param, row) in [(1, "x|1"), (2, "y|2"), (1, "x|1")] {
        let rows = f.run_prepared(&prepared, &[Datum::Int4(param)], &mut txn).await.unwrap();
        assert_eq!(rows, [row]);
    }
}

#[tokio::test]
async fn copy_checks_as_insert_does() {
    let f = Fixture::new().await;
    let query = f.bind("INSERT INTO t (id, a) VALUES ($1, $2)", &[]).unwrap();
    let mut txn = f.begin();
    let mut copy = CopyInserter::new(&query, f.context(&[])).unwrap();
    (1..=1000).for_each(|i| copy.row(&mut [Datum::Int4(i), Datum::Int4(i + 1)]).unwrap());
    copy.seal(&mut txn).await.unwrap();
    assert_eq!(copy.finish(&mut txn).await.unwrap(), 1000);
    assert_eq!(
        f.run("SELECT count(*), sum(a) FROM t", &[], &mut txn).await.unwrap(),
        ["1000|501500"]
    );
    let mut copy = CopyInserter::new(&query, f.context(&[])).unwrap();
    [2000, 1999, 1, 2001]
        .iter()
        .for_each(|i| copy.row(&mut [Datum::Int4(*i), Datum::Null]).unwrap());
    let error = copy.seal(&mut txn).await.unwrap_err();
    assert_eq!(error.fields().detail.as_deref(), Some("Key (id)=(1) already exists."));
    assert_eq!(copy.failed(), Some(2), "the third row");
}
