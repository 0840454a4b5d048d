//! The network in memory has the outcomes of the real one.

use super::*;
use crate::MemNetwork;
use crate::memory::MemTransport;

fn join(network: &MemNetwork, node: u64) -> (Arc<MemTransport>, Arc<Recorder>) {
    let handler = Arc::new(Recorder::default());
    (network.join(NodeId(node), hlc(), handler.clone()), handler)
}

fn body(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn partitions_and_pauses() {
    let network = MemNetwork::new(1);
    let ((a, _), (_b, b_handler)) = (join(&network, 1), join(&network, 2));
    let call = || a.call(NodeId(2), Class::Kv, ECHO, body("x"));
    assert_eq!(call().await.expect("an answer"), "x");

    network.partition(NodeId(2), NodeId(1));
    a.send(NodeId(2), Class::Kv, 9, body("heard"));
    let lost = call().await;
    assert!(matches!(lost, Err(CallError::Unknown(_))), "{lost:?}: executed, without an answer");
    assert_eq!(b_handler.messages.lock().len(), 1, "the other direction works");

    network.partition_both(NodeId(1), NodeId(2));
    let healed = tokio::spawn(call());
    tokio::time::sleep(Duration::from_secs(1)).await;
    network.heal();
    assert_eq!(healed.await.expect("no panic").expect("in time"), "x");

    network.pause(NodeId(2));
    assert!(matches!(call().await, Err(CallError::Unknown(_))));
    network.resume(NodeId(2));
    assert_eq!(call().await.expect("an answer"), "x");
}

#[tokio::test(start_paused = true)]
async fn crashes_cancels_delays_and_losses() {
    let network = MemNetwork::new(2);
    let ((a, a_handler), (_b, b_handler)) = (join(&network, 1), join(&network, 2));
    network.set_delay(Duration::from_millis(1), Duration::from_millis(30));
    network.set_drop(0.5);
    for i in 0..100_u8 {
        a.send(NodeId(2), Class::Raft, 9, Bytes::copy_from_slice(&[i]));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    let heard: Vec<_> = b_handler.messages.lock().iter().map(|m| m.2.clone()).collect();
    assert!(heard.is_sorted() && (20..80).contains(&heard.len()), "{heard:?}");

    let call = tokio::spawn(a.call(NodeId(2), Class::Kv, WAIT, Bytes::new()));
    b_handler.until(|h| h.waiting.load(Ordering::SeqCst) == 1).await;
    call.abort();
    b_handler.until(|h| h.waiting.load(Ordering::SeqCst) == 0).await;

    let call = tokio::spawn(a.call(NodeId(2), Class::Kv, WAIT, Bytes::new()));
    b_handler.until(|h| h.waiting.load(Ordering::SeqCst) == 1).await;
    network.leave(NodeId(2));
    assert!(matches!(call.await.expect("no panic"), Err(CallError::Unknown(_))));
    assert!(a_handler.hints.lock().ends_with(&[(NodeId(2), true), (NodeId(2), false)]));
    let gone = a.call(NodeId(2), Class::Kv, ECHO, Bytes::new()).await;
    assert!(matches!(gone, Err(CallError::NotSent(_))), "{gone:?}");
    join(&network, 2);
    a.call(NodeId(2), Class::Kv, ECHO, Bytes::new()).await.expect("it is back");
}
