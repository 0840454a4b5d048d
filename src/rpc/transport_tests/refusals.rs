//! Who may talk to whom.

use super::*;
use crate::{JOIN, NOBODY};

fn refused(result: Result<Bytes, CallError>, by: &str) {
    let Err(CallError::NotSent(why)) = result else { panic!("{result:?} instead of {by}") };
    assert!(why.contains(by), "{why}");
}

#[tokio::test]
async fn mutual_tls_round_trip() {
    let set = tls(&certificates("node"));
    let with = |node| RpcConfig { tls: Some(set.clone()), ..config(node) };
    let (a, b) = pair(with(1), with(2));
    let body: &'static str = "x".repeat(3_000_000).leak();
    assert_eq!(a.call(2, ECHO, body).await.expect("an answer"), body);
    // The other direction is known from the greeting.
    assert_eq!(b.call(1, SLOW, "y").await.expect("an answer"), "y");
}

#[tokio::test]
async fn certificates_of_others_are_refused() {
    let (ours, theirs) = (certificates("node"), certificates("node"));
    let with = |node, tls: Tls| RpcConfig { tls: Some(tls), ..config(node) };
    let (a, b) = pair(with(1, tls(&ours)), with(2, tls(&theirs)));
    refused(a.call(2, ECHO, "").await, "TLS: ");
    // One that trusts both authorities meets one that doesn't.
    let both = format!("{}{}", ours.0, theirs.0);
    let naive = start(with(3, tls(&(both, ours.1.clone(), ours.2.clone()))));
    naive.rpc.set_address(NodeId(2), &b.address);
    refused(naive.call(2, ECHO, "").await, "n2");
    // A user's certificate is not a node's.
    let (ca, certificate, key) = certificates("alice");
    let error = Tls::from_pem(ca.as_bytes(), certificate.as_bytes(), key.as_bytes());
    assert!(error.err().expect("refused").0.contains("\"node\""));
    assert!(b.handler.hints.lock().is_empty(), "nobody has been let in");
}

#[tokio::test]
async fn insecure_and_secure_tell_each_other() {
    let set = tls(&certificates("node"));
    let (a, b) = pair(RpcConfig { tls: Some(set), ..config(1) }, config(2));
    refused(a.call(2, ECHO, "").await, "with --insecure");
    b.rpc.set_address(NodeId(1), &a.address);
    refused(b.call(1, ECHO, "").await, "with certificates");
}

#[tokio::test]
async fn other_clusters_and_old_versions_are_refused() {
    let (a, b) = pair(config(1), RpcConfig { cluster: 8, ..config(2) });
    refused(a.call(2, ECHO, "").await, "belongs to cluster");
    let new = start(RpcConfig { version: Version { current: 5, oldest: 4 }, ..config(3) });
    a.rpc.set_address(NodeId(3), &new.address);
    refused(a.call(3, ECHO, "").await, "too old");
    a.rpc.set_address(NodeId(4), &b.address);
    let why = a.call(4, ECHO, "").await;
    refused(why, "belongs to cluster");
}

#[tokio::test]
async fn clocks_that_differ_are_refused() {
    let ahead = RpcConfig { hlc: hlc_ahead(Duration::from_secs(2)), ..config(2) };
    let (a, b) = pair(config(1), ahead);
    refused(a.call(2, ECHO, "").await, "the clocks of n");
    b.rpc.set_address(NodeId(1), &a.address);
    refused(b.call(1, ECHO, "").await, "the clocks of n");
    assert!(a.rpc.shared.hlc.last() < b.rpc.shared.hlc.now(), "not dragged along");
}

#[tokio::test]
async fn a_clock_that_runs_away_ends_the_connection() {
    let (a, b) = pair(config(1), config(2));
    a.call(2, ECHO, "").await.expect("fine so far");
    let far = meridian_base::Timestamp(b.rpc.shared.hlc.now().0 + (10_000_000 << 12));
    b.rpc.shared.hlc.raise(far);
    let result = a.call(2, ECHO, "").await;
    assert!(matches!(&result, Err(CallError::Unknown(why)) if why.contains("ahead")), "{result:?}");
}

#[tokio::test]
async fn a_node_id_in_use_is_refused() {
    let (a, b) = pair(config(1), config(2));
    a.call(2, ECHO, "").await.expect("fine");
    let copy = start(RpcConfig { incarnation: 2, ..config(1) });
    copy.rpc.set_address(NodeId(2), &b.address);
    refused(copy.call(2, ECHO, "").await, "node id n1 is in use at");
    let own = start(config(2));
    own.rpc.set_address(NodeId(9), &b.address);
    refused(own.call(9, ECHO, "").await, "node id n2 is in use twice");
    let wrong = start(config(5));
    wrong.rpc.set_address(NodeId(4), &b.address);
    refused(wrong.call(4, ECHO, "").await, "the node there is n2, it should be n4");
    assert_eq!(a.call(2, ECHO, "still").await.expect("the first stays"), "still");
}

#[tokio::test]
async fn the_living_incarnation_replaces_the_dead_one() {
    let (old, b) = pair(config(1), config(2));
    old.call(2, ECHO, "").await.expect("fine");
    let waiting = tokio::spawn(old.rpc.call(NodeId(2), Class::Kv, WAIT, Bytes::new()));
    b.handler.until(|h| h.waiting.load(Ordering::SeqCst) == 1).await;
    let again = RpcConfig { incarnation: 2, advertise: old.address.clone(), ..config(1) };
    let again = start(again);
    again.rpc.set_address(NodeId(2), &b.address);
    again.call(2, ECHO, "").await.expect("it is the same node, started again");
    b.handler.until(|h| h.waiting.load(Ordering::SeqCst) == 0).await;
    let result = waiting.await.expect("no panic");
    assert!(matches!(result, Err(CallError::Unknown(_))), "{result:?}");
    refused(old.call(2, ECHO, "").await, "has been started again since");
}

#[tokio::test]
async fn nobody_may_only_ask_to_join() {
    let b = start(config(2));
    let new = start(RpcConfig { node: NOBODY, cluster: 0, ..config(1) });
    let joined = new.rpc.call_address(&b.address, JOIN, Bytes::from_static(b"me")).await;
    assert_eq!(joined.expect("an answer"), "me");
    let other = new.rpc.call_address(&b.address, ECHO, Bytes::new()).await;
    assert!(
        matches!(&other, Err(CallError::Refused(r)) if r.code == Refusal::TRANSPORT),
        "{other:?}"
    );
    new.rpc.set_identity(NodeId(3), 7);
    new.rpc.set_address(NodeId(2), &b.address);
    new.call(2, ECHO, "").await.expect("a member now");
    assert_eq!(b.rpc.addresses().get(&NodeId(3)), Some(&new.address));
    let gone = new.rpc.call_address("127.0.0.1:1", JOIN, Bytes::new()).await;
    refused(gone, "cannot connect to 127.0.0.1:1");
}
