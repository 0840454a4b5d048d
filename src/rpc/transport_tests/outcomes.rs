//! What becomes of calls.

use super::*;

#[tokio::test]
async fn answers_refusals_and_panics() {
    let (a, b) = pair(config(1), config(2));
    assert_eq!(a.call(2, REFUSE, "").await, Err(CallError::Refused(Refusal::text(7, "no"))));
    assert!(matches!(a.call(2, PANIC, "").await, Err(CallError::Unknown(_))));
    assert_eq!(a.call(2, SLOW, "late").await.expect("it goes on"), "late");
    assert_eq!(a.call(1, ECHO, "myself").await.expect("without a socket"), "myself");
    let unknown = a.call(3, ECHO, "").await;
    assert!(matches!(&unknown, Err(CallError::NotSent(why)) if why.contains("n3")), "{unknown:?}");
    drop(b);
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_over_there() {
    let (a, b) = pair(config(1), config(2));
    let call = a.rpc.call(NodeId(2), Class::Kv, WAIT, Bytes::new());
    let other = tokio::spawn(a.rpc.call(NodeId(2), Class::Kv, WAIT, Bytes::new()));
    let call = tokio::spawn(call);
    b.handler.until(|h| h.waiting.load(Ordering::SeqCst) == 2).await;
    call.abort();
    b.handler.until(|h| h.waiting.load(Ordering::SeqCst) == 1).await;
    a.rpc.shutdown();
    b.handler.until(|h| h.waiting.load(Ordering::SeqCst) == 0).await;
    assert!(matches!(other.await.expect("no panic"), Err(CallError::Unknown(_))));
    b.handler.until(|h| h.hints.lock().contains(&(NodeId(1), false))).await;
}

#[tokio::test]
async fn the_order_of_a_class_is_kept() {
    let (a, b) = pair(config(1), config(2));
    let mut calls = Vec::new();
    for i in 0..2_000_u32 {
        let (class, body) = (Class::ALL[i as usize % 2], Bytes::copy_from_slice(&i.to_be_bytes()));
        a.rpc.send(NodeId(2), class, class as u8, body.clone());
        let service = if i % 3 == 0 { SLOW } else { ECHO };
        calls.push((i, a.rpc.call(NodeId(2), class, service, body)));
    }
    for (i, call) in calls {
        assert_eq!(call.await.expect("an answer"), i.to_be_bytes().as_slice());
    }
    let messages = b.handler.messages.lock();
    for class in [0, 1] {
        let of_class: Vec<_> =
            messages.iter().filter(|m| m.1 == class).map(|m| m.2.clone()).collect();
        assert_eq!(of_class.len(), 1_000);
        assert!(of_class.is_sorted(), "class {class}");
    }
}

#[tokio::test]
async fn large_and_small_bodies_share_a_connection() {
    let (a, _b) = pair(config(1), config(2));
    let sizes = [0, 1, 65_517, 65_518, 65_519, 100_000, 5_000_000, 3, 70_000];
    let calls = sizes.map(|size| {
        let body: Bytes = (0..size).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
        (body.clone(), a.rpc.call(NodeId(2), Class::Bulk, ECHO, body))
    });
    for (body, call) in calls {
        assert!(call.await.expect("an answer") == body, "{} bytes", body.len());
    }
}

/// Many large answers to small questions: more than is written at once, more than is read at once.
#[tokio::test]
async fn answers_are_bounded_by_what_the_peer_reads() {
    let (a, _b) = pair(config(1), config(2));
    let body = Bytes::from(vec![7; 300_000]);
    let all = (0..200).map(|_| a.rpc.call(NodeId(2), Class::Kv, ECHO, body.clone()));
    let small = (0..2_000).map(|_| a.rpc.call(NodeId(2), Class::Kv, ENLARGE, Bytes::new()));
    let (all, small): (Vec<_>, Vec<_>) = (all.collect(), small.collect());
    for call in all {
        assert_eq!(call.await.expect("an answer").len(), 300_000);
    }
    for call in small {
        assert_eq!(call.await.expect("an answer").len(), 20_000);
    }
}

#[tokio::test]
async fn a_lost_connection_tells_what_may_have_happened() {
    let (a, b) = pair(config(1), config(2));
    let written = tokio::spawn(a.rpc.call(NodeId(2), Class::Kv, WAIT, Bytes::new()));
    b.handler.until(|h| h.waiting.load(Ordering::SeqCst) == 1).await;
    b.rpc.shutdown();
    let result = written.await.expect("no panic");
    assert!(matches!(result, Err(CallError::Unknown(_))), "{result:?}");
    a.handler.until(|h| h.hints.lock().contains(&(NodeId(2), false))).await;
    let result = a.call(2, ECHO, "").await;
    assert!(matches!(result, Err(CallError::NotSent(_))), "{result:?}");
}

/// A peer that greets and then doesn't read: a small call may have got through, one that the socket
/// couldn't take in whole surely hasn't.
#[tokio::test]
async fn half_a_frame_is_not_a_call() {
    use crate::frame::{FrameIo, Kind};
    let a = start(config(1));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    a.rpc.set_address(NodeId(2), &listener.local_addr().expect("bound").to_string());
    let small = a.rpc.call(NodeId(2), Class::Kv, ECHO, Bytes::new());
    let (mut io, _) = listener.accept().await.expect("a connection");
    crate::stream::opened(&mut io, false).await.expect("fine");
    let mut io = FrameIo::new(crate::stream::Stream::Plain(io));
    let theirs = crate::greeting::Greeting::decode(io.read().await.expect("a greeting").body);
    let mine = crate::greeting::Greeting { node: NodeId(2), ..theirs.expect("a greeting") };
    io.push(Kind::Greeting, 0, 0, meridian_base::Timestamp::MIN, &[&mine.encode()]);
    io.write().await.expect("written");
    assert_eq!(io.read().await.expect("the small call").kind, Kind::Call);
    let large = a.rpc.call(NodeId(2), Class::Kv, ECHO, Bytes::from(vec![1; 60 << 20]));
    let large = tokio::spawn(large);
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop((io, listener));
    assert!(matches!(small.await, Err(CallError::Unknown(_))));
    let large = large.await.expect("no panic");
    assert!(matches!(large, Err(CallError::NotSent(_))), "{large:?}");
}

#[tokio::test]
async fn a_restarted_peer_is_found_again() {
    let (a, b) = pair(config(1), config(2));
    a.call(2, ECHO, "").await.expect("fine");
    b.rpc.shutdown();
    a.handler.until(|h| h.hints.lock().contains(&(NodeId(2), false))).await;
    let listener = std::net::TcpListener::bind(&b.address).expect("the port is free again");
    let again = RpcConfig {
        listener: Some(listener),
        advertise: b.address.clone(),
        incarnation: 2,
        ..config(2)
    };
    let _b = start(again);
    let ups = |h: &Recorder| h.hints.lock().iter().filter(|h| **h == (NodeId(2), true)).count();
    a.handler.until(|h| ups(h) == 2).await;
    assert_eq!(a.call(2, ECHO, "again").await.expect("an answer"), "again");
}

#[tokio::test]
async fn clocks_follow_each_other() {
    let ahead = hlc_ahead(Duration::from_millis(200));
    let (a, _b) = pair(config(1), RpcConfig { hlc: ahead.clone(), ..config(2) });
    let before = ahead.now();
    a.call(2, ECHO, "").await.expect("within the bound");
    assert!(a.rpc.shared.hlc.now() > before, "whatever follows an answer is later than it");
}

/// Connections of a class that has a runtime of its own run there, on both sides.
#[test]
fn a_class_can_have_its_own_runtime() {
    let runtime = |name: &str| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().thread_name(name).build().expect("a runtime")
    };
    struct WhichThread;
    impl Handler for WhichThread {
        fn call(
            self: Arc<Self>,
            _from: NodeId,
            _service: u8,
            _body: Bytes,
        ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            async move { Ok(Bytes::from(name)) }.boxed()
        }

        fn message(&self, _from: NodeId, _service: u8, _body: Bytes) {}
    }
    let (main, raft) = (runtime("main"), runtime("raft"));
    main.block_on(async {
        let b = Rpc::start(config(2), Arc::new(WhichThread)).expect("started");
        b.set_class_runtime(Class::Raft, raft.handle().clone());
        let a = start(config(1));
        a.rpc.set_class_runtime(Class::Raft, raft.handle().clone());
        a.rpc.set_address(NodeId(2), &b.local_addr().expect("listens").to_string());
        for (class, thread) in [(Class::Raft, "raft"), (Class::Kv, "main")] {
            let answer = a.rpc.call(NodeId(2), class, ECHO, Bytes::new()).await;
            assert_eq!(answer.expect("an answer"), thread);
        }
    });
}
