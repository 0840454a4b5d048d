//! Reads of the past from a copy, while its leaseholder is away.

use futures::FutureExt;
use std::time::Duration;

use meridian_base::RangeId;
use meridian_kv::api::{Bytes, Key, Span};

use crate::member_tests::{Node, add, end, eventually, key, three};
use crate::{Timestamp, Txn, TxnOptions};

/// The rows of all keys from `a` on, if nobody has to be asked or waited for.
fn read_now(txn: &mut Txn) -> Option<Vec<(Bytes, Bytes)>> {
    let mut scan = txn.scan(Span::new("a", ""), false).now_or_never()?.expect("scans");
    let mut rows = Vec::new();
    while scan.next_batch(2, &mut rows).now_or_never()?.expect("scans") {}
    let mut back = Vec::new();
    let mut scan = txn.scan(Span::new("a", ""), true).now_or_never()?.expect("scans");
    while scan.next_batch(2, &mut back).now_or_never()?.expect("scans") {}
    back.reverse();
    assert_eq!(rows, back);
    for (key, row) in &rows {
        let found = txn.get(key).now_or_never()?.expect("reads");
        assert_eq!(found.as_ref(), Some(row));
    }
    Some(rows)
}

fn at(node: &Node, ts: Timestamp) -> Txn {
    node.store().begin_as_of(TxnOptions::default(), ts).expect("kept")
}

fn values(rows: &[(Bytes, Bytes)]) -> Vec<(&str, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).expect("text");
    rows.iter().map(|(key, row)| (text(key), text(row))).collect()
}

async fn put(node: &Node, rows: &[(&'static str, &'static str)]) -> Timestamp {
    let mut txn = node.begin();
    for (key, row) in rows {
        txn.put(Key::from(*key), Bytes::from(*row));
    }
    txn.commit().await.expect("commits")
}

/// The closed timestamp of a node's copies, of the oldest one.
fn closed(node: &Node) -> Timestamp {
    let ranges = node.store().core().ranges.all();
    ranges.iter().map(|range| range.copy.closed()).min().expect("there is one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_serves_the_past_when_the_leaseholder_is_dead() {
    let mut nodes = three().await;
    let first = put(&nodes[0], &[("b", "1"), ("q", "1")]).await;
    // Long after: nothing is written any more, and yet later times can be read.
    let later = nodes[0].store().now();
    eventually("closed", || nodes[1..].iter().all(|node| closed(node) >= later)).await;
    nodes[0].kill().await;
    for node in &nodes[1..] {
        assert!(read_now(&mut at(node, first.prev())).expect("by itself").is_empty());
        let rows = read_now(&mut at(node, later)).expect("by itself");
        assert_eq!(values(&rows), [("b", "1"), ("q", "1")]);
        // What isn't closed can't be known here.
        let mut now = node.store().begin_as_of(TxnOptions::default(), node.store().now());
        assert!(read_now(now.as_mut().expect("kept")).is_none());
    }
    // The next leaseholder writes above what was closed.
    let next = put(&nodes[1], &[("b", "2")]).await;
    assert!(next > later);
    eventually("closed", || nodes[1..].iter().any(|node| closed(node) >= next)).await;
    for node in &nodes[1..] {
        let rows = read_now(&mut at(node, later)).expect("by itself");
        assert_eq!(values(&rows), [("b", "1"), ("q", "1")]);
    }
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_several_ranges_are_one_snapshot() {
    let mut nodes = three().await;
    let written = put(&nodes[0], &[("b", "1"), ("j", "1"), ("q", "1")]).await;
    for at in ["h", "p"] {
        nodes[0].store().split_at(Key::from(at)).await.expect("splits");
    }
    eventually("three ranges", || nodes.iter().all(|node| node.store().ranges().len() == 3)).await;
    let writer = {
        let store = std::sync::Arc::clone(nodes[0].store());
        tokio::spawn(async move {
            let mut last = Timestamp::MIN;
            for n in 0..40 {
                let mut txn = store.begin(TxnOptions::default());
                for key in ["b", "j", "q"] {
                    txn.put(Key::from(key), Bytes::from(format!("{n}")));
                }
                last = txn.commit().await.expect("commits");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            last
        })
    };
    let mut read = 0;
    while !writer.is_finished() {
        tokio::time::sleep(Duration::from_millis(25)).await;
        for node in &nodes {
            let r = node.store().follower_timestamp(Duration::from_secs(60));
            if r < written {
                continue;
            }
            let Some(rows) = read_now(&mut at(node, r)) else { continue };
            let rows = values(&rows);
            assert_eq!(rows.len(), 3, "{rows:?}");
            assert!(rows.iter().all(|(_, row)| *row == rows[0].1), "at {r}: {rows:?}");
            read += 1;
        }
    }
    let last = writer.await.expect("ends");
    assert!(read > 0, "copies never served anything");
    // Leaseholders of single ranges die, and are paused: the copies serve.
    let follows = |node: &Node| node.store().follower_timestamp(Duration::from_secs(60)) >= last;
    eventually("closed", || nodes.iter().all(follows)).await;
    nodes[0].kill().await;
    nodes[1].store().cut_off();
    let rows = read_now(&mut at(&nodes[2], last)).expect("by itself");
    assert_eq!(values(&rows), [("b", "39"), ("j", "39"), ("q", "39")]);
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_starts_again_serves_what_it_has_applied() {
    let mut nodes = three().await;
    for n in 0..5 {
        add(&nodes[0], n).await.expect("adds");
    }
    let rows = crate::member_tests::rows(&nodes);
    nodes[2].kill().await;
    add(&nodes[0], 0).await.expect("adds");
    let later = nodes[0].store().now();
    nodes[2].start(&rows).await;
    let range = |node: &Node| node.store().core().range_of(&key(0)).id;
    assert_eq!(range(&nodes[2]), RangeId(1));
    eventually("closed", || closed(&nodes[2]) >= later).await;
    let mut txn = at(&nodes[2], later);
    let row = txn.get(&key(0)).now_or_never().expect("by itself").expect("reads");
    assert_eq!(row.as_deref(), Some(&2_u32.to_le_bytes()[..]));
    end(&mut nodes).await;
}
