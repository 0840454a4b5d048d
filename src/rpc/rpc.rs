//! A node's end of the transport: who it is, whom it knows, and its links.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use meridian_base::{Hlc, NodeId};
use parking_lot::{Mutex, RwLock};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::accept;
use crate::greeting::{Greeting, Version};
use crate::link::Link;
use crate::peers::Peers;
use crate::tls::Tls;
use crate::{CallError, Class, Handler, NOBODY, Transport, dial};

/// What a node's transport needs to know.
pub struct RpcConfig {
    /// This node; [`NOBODY`] as long as it isn't a member.
    pub node: NodeId,
    /// The cluster; 0 as long as the node isn't a member.
    pub cluster: u128,
    /// Larger at every start of the node.
    pub incarnation: u64,
    /// Where to listen; `None` for a program that only asks.
    pub listener: Option<std::net::TcpListener>,
    /// Where other nodes reach this one: `host:port`.
    pub advertise: String,
    /// Certificates; `None` with `--insecure`.
    pub tls: Option<Tls>,
    /// The node's clock, with the bound that other nodes' clocks are held to.
    pub hlc: Arc<Hlc>,
    /// Usually [`Version::THIS`].
    pub version: Version,
}

/// Transport over TCP. Ends with [`Rpc::shutdown`] or when it is dropped.
pub struct Rpc {
    pub(crate) shared: Arc<Shared>,
    listener: Option<(AbortHandle, SocketAddr)>,
}

/// What the connections share.
pub(crate) struct Shared {
    identity: RwLock<(NodeId, u128)>,
    incarnation: u64,
    version: Version,
    advertise: String,
    pub(crate) tls: Option<Tls>,
    pub(crate) hlc: Arc<Hlc>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) peers: Mutex<Peers>,
    addresses: RwLock<BTreeMap<NodeId, String>>,
    links: RwLock<HashMap<(NodeId, Class), Arc<Link>>>,
    runtime: Handle,
    class_runtimes: Mutex<HashMap<Class, Handle>>,
    /// Why there is no talking to whom, by address: clocks, clusters, versions, a number that is taken.
    refusals: Mutex<BTreeMap<String, String>>,
    /// What was last complained about, by whom it was about.
    warnings: Mutex<HashMap<String, String>>,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn greeting(&self) -> Greeting {
        let (node, cluster) = *self.identity.read();
        Greeting {
            version: self.version,
            cluster,
            node,
            incarnation: self.incarnation,
            wall: self.hlc.clock().now_micros(),
            address: self.advertise.clone(),
        }
    }

    pub(crate) fn class_runtime(&self, class: Class) -> Option<Handle> {
        self.class_runtimes.lock().get(&class).cloned()
    }

    /// Logs a complaint unless it is the last one about this peer.
    pub(crate) fn warn_once(&self, about: &str, what: &str) {
        let mut warnings = self.warnings.lock();
        if warnings.get(about).is_some_and(|last| last == what) {
            return;
        }
        if warnings.len() > 1_000 {
            warnings.clear();
        }
        warnings.insert(about.to_owned(), what.to_owned());
        drop(warnings);
        tracing::warn!("{what}");
    }

    /// Notes that there is no talking to whoever is at an address, or that there may be.
    pub(crate) fn note_refusal(&self, address: &str, why: Option<&str>) {
        let mut all = self.refusals.lock();
        match why {
            Some(why) => _ = all.insert(address.to_owned(), why.to_owned()),
            None => _ = all.remove(address),
        }
    }

    /// The next complaint about this peer is a new one.
    pub(crate) fn all_is_well(&self, about: &str) {
        self.warnings.lock().remove(about);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Where a node is; its links go to the new place from now on.
    pub(crate) fn set_address(&self, node: NodeId, address: &str) {
        let old = self.addresses.write().insert(node, address.to_owned());
        if old.is_some_and(|old| old != address) {
            self.close_links(&format!("{node} has moved to {address}"), |peer| peer == node);
        }
    }

    fn close_links(&self, why: &str, which: impl Fn(NodeId) -> bool) {
        let why = Arc::from(why);
        let mut closed = Vec::new();
        self.links.write().retain(|(peer, _), link| {
            let goes = which(*peer);
            if goes {
                closed.push(link.clone());
            }
            !goes
        });
        for link in closed {
            link.close(&why);
        }
    }

    fn link(self: &Arc<Self>, to: NodeId, class: Class) -> Result<Arc<Link>, CallError> {
        if let Some(link) = self.links.read().get(&(to, class)) {
            return Ok(link.clone());
        }
        let mut links = self.links.write();
        if let Some(link) = links.get(&(to, class)) {
            return Ok(link.clone());
        }
        if self.is_closed() {
            return Err(CallError::NotSent("this node is stopping".into()));
        }
        let Some(address) = self.addresses.read().get(&to).cloned() else {
            return Err(CallError::NotSent(format!("no address is known for {to}").into()));
        };
        let link = Link::new(to);
        let runtime = self.class_runtime(class).unwrap_or_else(|| self.runtime.clone());
        let task = dial::keep_connected(self.clone(), link.clone(), class, address);
        link.set_task(runtime.spawn(task).abort_handle());
        links.insert((to, class), link.clone());
        Ok(link)
    }
}

impl Rpc {
    /// Starts listening, on the runtime of the caller.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub fn start(config: RpcConfig, handler: Arc<dyn Handler>) -> io::Result<Arc<Self>> {
        let listener = config.listener.map(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        let listener = listener.transpose()?;
        let shared = Arc::new(Shared {
            identity: RwLock::new((config.node, config.cluster)),
            incarnation: config.incarnation,
            version: config.version,
            advertise: config.advertise,
            tls: config.tls,
            hlc: config.hlc,
            handler,
            peers: Mutex::default(),
            addresses: RwLock::default(),
            links: RwLock::default(),
            runtime: Handle::current(),
            class_runtimes: Mutex::default(),
            refusals: Mutex::default(),
            warnings: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let listener = listener.map(|listener| {
            let address = listener.local_addr()?;
            let task = tokio::spawn(accept::listen(shared.clone(), listener));
            Ok::<_, io::Error>((task.abort_handle(), address))
        });
        Ok(Arc::new(Self { shared, listener: listener.transpose()? }))
    }

    /// Where this node listens.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(|(_, address)| *address)
    }

    /// The node has become a member; connections are made anew under its name.
    pub fn set_identity(&self, node: NodeId, cluster: u128) {
        *self.shared.identity.write() = (node, cluster);
        self.shared.close_links("this node has joined the cluster", |_| true);
    }

    /// Says where a node is. Nodes that connect to this one are known by what they advertise.
    pub fn set_address(&self, node: NodeId, address: &str) {
        self.shared.set_address(node, address);
    }

    /// Forgets a node that has left.
    pub fn remove_address(&self, node: NodeId) {
        self.shared.addresses.write().remove(&node);
        self.shared.close_links(&format!("{node} has left the cluster"), |peer| peer == node);
    }

    /// The nodes known and where they are.
    pub fn addresses(&self) -> BTreeMap<NodeId, String> {
        self.shared.addresses.read().clone()
    }

    /// Has the connections of a class that are made from now on run on a runtime of their own.
    pub fn set_class_runtime(&self, class: Class, runtime: Handle) {
        self.shared.class_runtimes.lock().insert(class, runtime);
    }

    /// Calls whoever is at an address, over a connection of its own: for joining a cluster.
    pub fn call_address(
        &self,
        address: &str,
        service: u8,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (shared, address) = (self.shared.clone(), address.to_owned());
        async move {
            let connected = dial::connect(&shared, Class::Kv, &address, None).await;
            let (io, greeting) = connected.map_err(|why| {
                CallError::NotSent(format!("cannot connect to {address}: {why}").into())
            })?;
            let link = Link::new(greeting.node);
            let call = link.call(service, body)?;
            tokio::select! {
                biased;
                answer = call => answer,
                why = link.run(io, &shared.hlc) => Err(CallError::Unknown(why)),
            }
        }
        .boxed()
    }

    /// Why there is no talking to other nodes, by address, in spite of connections: what only an operator can
    /// mend.
    pub fn refusals(&self) -> BTreeMap<String, String> {
        self.shared.refusals.lock().clone()
    }

    /// Ends all connections; calls end as [`CallError`] tells.
    pub fn shutdown(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        if let Some((task, _)) = &self.listener {
            task.abort();
        }
        self.shared.close_links("this node is stopping", |_| true);
        let tasks = self.shared.peers.lock().close();
        for task in tasks {
            task.abort();
        }
    }
}

impl Drop for Rpc {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Rpc {
    fn is_me(&self, to: NodeId) -> bool {
        to != NOBODY && self.shared.identity.read().0 == to
    }
}

impl Transport for Rpc {
    fn call(
        &self,
        to: NodeId,
        class: Class,
        service: u8,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        if self.is_me(to) {
            let call = self.shared.handler.clone().call(to, service, body);
            return async move { call.await.map_err(CallError::Refused) }.boxed();
        }
        match self.shared.link(to, class).and_then(|link| link.call(service, body)) {
            Ok(call) => call.boxed(),
            Err(e) => futures::future::ready(Err(e)).boxed(),
        }
    }

    fn send(&self, to: NodeId, class: Class, service: u8, body: Bytes) {
        if self.is_me(to) {
            self.shared.handler.message(to, service, body);
        } else if let Ok(link) = self.shared.link(to, class) {
            link.message(service, body);
        }
    }
}
