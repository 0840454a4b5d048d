//! Two nodes over loopback, and over the network in memory.

mod memory;
mod outcomes;
mod refusals;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use meridian_base::{Hlc, ManualClock, NodeId, SystemClock};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{CallError, Class, Handler, Refusal, Rpc, RpcConfig, Tls, Transport, Version};

const ECHO: u8 = 1;
/// Waits until it is dropped.
const WAIT: u8 = 2;
const REFUSE: u8 = 3;
const PANIC: u8 = 4;
/// Echoes after a pause.
const SLOW: u8 = 5;

/// Answers with much.
const ENLARGE: u8 = 6;

/// Does what a test asks for, and notes what happens.
#[derive(Default)]
struct Recorder {
    messages: Mutex<Vec<(NodeId, u8, Bytes)>>,
    waiting: AtomicU32,
    hints: Mutex<Vec<(NodeId, bool)>>,
    changed: Notify,
}

struct Waiting(Arc<Recorder>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl Handler for Recorder {
    fn call(
        self: Arc<Self>,
        _from: NodeId,
        service: u8,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        async move {
            match service {
                WAIT => {
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    let _waiting = Waiting(self.clone());
                    self.changed.notify_waiters();
                    std::future::pending().await
                }
                REFUSE => Err(Refusal::text(7, "no")),
                PANIC => panic!("as a test wants it"),
                SLOW => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    Ok(body)
                }
                ENLARGE => Ok(Bytes::from(vec![1; 20_000])),
                _ => Ok(body),
            }
        }
        .boxed()
    }

    fn message(&self, from: NodeId, service: u8, body: Bytes) {
        self.messages.lock().push((from, service, body));
        self.changed.notify_waiters();
    }

    fn peer_up(&self, peer: NodeId) {
        self.hints.lock().push((peer, true));
        self.changed.notify_waiters();
    }

    fn peer_down(&self, peer: NodeId) {
        self.hints.lock().push((peer, false));
        self.changed.notify_waiters();
    }
}

impl Recorder {
    /// Waits until something holds.
    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let waited = async {
            loop {
                let changed = self.changed.notified();
                if what(self) {
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(20), changed).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waited).await.expect("in time");
    }
}

struct TestNode {
    rpc: Arc<Rpc>,
    handler: Arc<Recorder>,
    address: String,
}

fn hlc() -> Arc<Hlc> {
    Arc::new(Hlc::new(Arc::new(SystemClock), Duration::from_millis(250)))
}

/// A clock that is so much ahead.
fn hlc_ahead(by: Duration) -> Arc<Hlc> {
    use meridian_base::Clock;
    let clock = ManualClock::new(SystemClock.now_micros());
    clock.advance(by);
    Arc::new(Hlc::new(Arc::new(clock), Duration::from_millis(250)))
}

fn config(node: u64) -> RpcConfig {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let advertise = listener.local_addr().expect("bound").to_string();
    RpcConfig {
        node: NodeId(node),
        cluster: 7,
        incarnation: 1,
        listener: Some(listener),
        advertise,
        tls: None,
        hlc: hlc(),
        version: Version::THIS,
    }
}

fn start(config: RpcConfig) -> TestNode {
    let handler = Arc::new(Recorder::default());
    let address = config.advertise.clone();
    let rpc = Rpc::start(config, handler.clone()).expect("started");
    TestNode { rpc, handler, address }
}

fn pair(a: RpcConfig, b: RpcConfig) -> (TestNode, TestNode) {
    let to = b.node;
    let (a, b) = (start(a), start(b));
    a.rpc.set_address(to, &b.address);
    (a, b)
}

impl TestNode {
    async fn call(&self, to: u64, service: u8, body: &'static str) -> Result<Bytes, CallError> {
        self.rpc.call(NodeId(to), Class::Kv, service, Bytes::from_static(body.as_bytes())).await
    }
}

/// An authority and a node's certificate signed by it.
fn certificates(common_name: &str) -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.distinguished_name.push(DnType::OrganizationName, "Meridian");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("a certificate").pem();
    let issuer = Issuer::new(ca, &ca_key);
    let key = KeyPair::generate().expect("a key");
    let mut node = CertificateParams::new(Vec::new()).expect("parameters");
    node.distinguished_name.push(DnType::OrganizationName, "Meridian");
    node.distinguished_name.push(DnType::CommonName, common_name);
    node.extended_key_usages = vec![
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        rcgen::ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let node = node.signed_by(&key, &issuer).expect("signed");
    (ca_pem, node.pem(), key.serialize_pem())
}

fn tls((ca, certificate, key): &(String, String, String)) -> Tls {
    Tls::from_pem(ca.as_bytes(), certificate.as_bytes(), key.as_bytes()).expect("fine")
}
