//! Three nodes over the network in memory, in real time: what the shell adds to the machine.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use meridian_base::{Hlc, NodeId, RangeId, SystemClock};
use meridian_kv::api::Bytes;
use meridian_kv::lease::{self, Voters};
use meridian_replication::{Authority, FollowerProgress};
use meridian_rpc::{Handler, MemNetwork, Refusal};

use crate::liveness::{LIVENESS, NodeLiveness};

const OFFSET: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Inbox(OnceLock<Arc<NodeLiveness>>);

impl Handler for Inbox {
    fn call(
        self: Arc<Self>,
        _from: NodeId,
        _service: u8,
        _body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        async move { Err(Refusal::text(1, "no")) }.boxed()
    }

    fn message(&self, from: NodeId, service: u8, body: Bytes) {
        if let (LIVENESS, Some(liveness)) = (service, self.0.get()) {
            liveness.receive(from, &body);
        }
    }
}

fn start(network: &MemNetwork, id: u64, dir: &std::path::Path) -> Arc<NodeLiveness> {
    let hlc = Arc::new(Hlc::new(Arc::new(SystemClock), OFFSET));
    let liveness = NodeLiveness::open(NodeId(id), hlc.clone(), Some(dir)).expect("readable");
    liveness.set_peers((1..=3).map(NodeId).collect());
    let inbox = Arc::new(Inbox::default());
    let transport = network.join(NodeId(id), hlc, inbox.clone());
    assert!(inbox.0.set(liveness.clone()).is_ok());
    liveness.start(transport).expect("a thread");
    liveness
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within half a minute");
}

#[tokio::test]
async fn support_follows_the_living() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let network = MemNetwork::new(1);
    let nodes: Vec<_> =
        (1..=3).zip(&dirs).map(|(id, dir)| start(&network, id, dir.path())).collect();
    let (one, two, three) = (&nodes[0], &nodes[1], NodeId(3));
    until("everybody supports everybody", || {
        nodes.iter().all(|node| (1..=3).all(|id| node.supported(NodeId(id))))
    })
    .await;
    let before = one.support_epoch(three).expect("supported");

    // As a leader of a range: its followers have acknowledged LeaseStart with the epoch they report.
    let (range, voters) = (RangeId(1), Voters::simple((1..=3).map(NodeId)));
    let epoch = Authority::support_epoch(&**two, NodeId(1));
    two.accepted(range, NodeId(1), 7, epoch);
    let progress = [(NodeId(2), FollowerProgress { matched: 5, epoch })];
    until("the lease is usable", || {
        let hlc = Hlc::new(Arc::new(SystemClock), OFFSET);
        lease::usable(one.lease_expiration(&voters, 5, progress), hlc.now(), OFFSET)
    })
    .await;
    assert_eq!(one.lease_expiration(&voters, 6, progress).0, 0, "LeaseStart is not there");
    assert!(!two.may_vote(range, Some(NodeId(1)), three), "it is bound");
    assert!(two.may_vote(range, Some(NodeId(1)), NodeId(1)));
    assert!(two.may_vote(RangeId(2), None, three), "not in every range");
    assert!(!two.leader_is_gone(range, Some(NodeId(1)), &voters));

    let mut withdrawals = one.withdrawals();
    network.pause(three);
    let withdrawn = tokio::time::timeout(Duration::from_secs(30), withdrawals.recv()).await;
    let withdrawn = withdrawn.expect("in time").expect("an event");
    assert_eq!((withdrawn.node, withdrawn.epoch), (three, before + 1));
    until("both know that it is gone", || one.leader_is_gone(range, Some(three), &voters)).await;
    network.resume(three);
    until("it is back", || one.supported(three)).await;
    assert!(one.support_epoch(three) > Some(before));
}

#[tokio::test]
async fn a_restart_remembers_its_promises() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let network = MemNetwork::new(2);
    let (one, two) = (start(&network, 1, dirs[0].path()), start(&network, 2, dirs[1].path()));
    until("they support each other", || two.supported(NodeId(1)) && one.supported(NodeId(2))).await;
    assert_eq!(two.incarnation(), 1);
    let epoch = two.support_epoch(NodeId(1)).expect("supported");
    two.shutdown();
    let two = start(&network, 2, dirs[1].path());
    assert_eq!(two.incarnation(), 2);
    assert!(!two.may_vote(RangeId(1), None, NodeId(2)), "something is promised still");
    until("it supports anew", || two.support_epoch(NodeId(1)) > Some(epoch)).await;
    until("and may vote", || two.may_vote(RangeId(1), None, NodeId(2))).await;
    until("and is supported again", || one.support_epoch(NodeId(2)) >= Some(2 << 20)).await;
}
