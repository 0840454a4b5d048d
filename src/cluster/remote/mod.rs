//! Keys whose leaseholder is another node.
//!
//! ```text
//! gateway                                             leaseholder
//! Txn: snapshot, buffer, savepoints ──requests──▶ Cluster::serve: guests' locks, reads, commits
//! ```
//! A transaction lives where its session is: its buffer, its savepoints and the list of its locks. What
//! only the leaseholder can do (the newest snapshot, locks, the commit) is asked of it; when the lease
//! moves, the gateway asks the next one. A request is repeated only when that is safe: reads, locks and
//! releases always are, a commit only after its outcome has been found to be "not committed".
//!
//! A follower's own copy serves reads as well, once the snapshot is known and has been applied there:
//! all commits of the only range up to an applied one are applied before it. With several ranges, or in an
//! idle one, it serves what its leaseholder has closed, of which nodes tell each other ([`tidings`]).

mod advisory;
mod ask;
mod failures;
mod fences;
mod guests;
mod messages;
mod parts;
mod ranges;
mod reports;
mod serve;
mod tables;
mod tidings;
mod txn;
mod waits;
mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use meridian_base::{Instant, NodeId};
use meridian_kv::api::{Bytes, Span, Timestamp};
use meridian_kv::liveness::Support;
use meridian_rpc::Transport;
use parking_lot::Mutex;

use crate::core::Core;
use crate::liveness::NodeLiveness;
use advisory::Roll;
use fences::Guards;
use guests::Guests;
use waits::Waits;

pub(crate) use ask::{Asked, FIRST_KEY, Search, at_level};
pub(crate) use fences::Fenced;
pub(crate) use messages::{Answer, At, Belongs, Coded, Op, Put, Rows, ScanPage, SplitAt};
pub(crate) use reports::Figures;
pub(crate) use txn::locked_in;

/// The service number of requests about keys.
pub(crate) const SERVICE: u8 = 2;

/// How long another node's word on its snapshots counts. It is repeated every few seconds.
const PROTECTION: Duration = Duration::from_secs(30);

/// Called with the catalog's changes that another node has committed; the answer ends when they are known
/// here.
pub(crate) type OnCatalogChange = Box<dyn Fn(Bytes) -> BoxFuture<'static, ()> + Send + Sync>;

/// This node among others: what it asks of them and holds for them.
pub(crate) struct Cluster {
    pub(crate) core: Arc<Core>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) guests: Guests,
    /// The nodes that live, this one included, in order.
    live: Mutex<Vec<NodeId>>,
    /// There are nodes that don't live.
    absent: AtomicBool,
    /// The oldest snapshots in use on other nodes.
    protected: Mutex<BTreeMap<NodeId, (Timestamp, Instant)>>,
    on_catalog_change: OnceLock<OnCatalogChange>,
    /// What the others promise.
    liveness: OnceLock<Arc<NodeLiveness>>,
    /// When nodes were given up last: what they coordinated before has nobody any more.
    gone: Mutex<BTreeMap<NodeId, Timestamp>>,
    pub(crate) waits: Waits,
    roll: Roll,
    tidings: tidings::Told,
    reports: reports::Reports,
    on_signal: OnceLock<waits::OnSignal>,
    /// The leases are about to go elsewhere.
    closing: AtomicBool,
    guards: Arc<Guards>,
}

impl Cluster {
    pub(crate) fn new(core: Arc<Core>, transport: Arc<dyn Transport>) -> Arc<Cluster> {
        let (start, max_offset) = (core.hlc.now().0, core.hlc.max_offset());
        let cluster = Arc::new(Cluster {
            live: Mutex::new(vec![core.node]),
            absent: AtomicBool::new(false),
            core,
            transport,
            guests: Guests::default(),
            protected: Mutex::default(),
            on_catalog_change: OnceLock::new(),
            liveness: OnceLock::new(),
            gone: Mutex::default(),
            waits: Waits::default(),
            roll: Roll::new(start),
            tidings: tidings::Told::new(start),
            reports: reports::Reports::default(),
            on_signal: OnceLock::new(),
            closing: AtomicBool::new(false),
            guards: Arc::new(Guards::new(start, max_offset)),
        });
        cluster.core.join(&cluster);
        cluster.search_when_suspected();
        tokio::spawn(advisory::keep_looking(Arc::downgrade(&cluster)));
        tokio::spawn(tidings::keep_telling(Arc::downgrade(&cluster)));
        tokio::spawn(fences::keep_guard(Arc::downgrade(&cluster)));
        cluster
    }

    /// Looks there for what other nodes promise this one.
    pub(crate) fn rely_on(&self, liveness: Arc<NodeLiveness>) {
        // There is one in a process.
        let _ = self.liveness.set(liveness);
    }

    /// What a node promises this one.
    pub(crate) fn support_from(&self, node: NodeId) -> Support {
        self.liveness.get().map(|liveness| liveness.support_from(node)).unwrap_or_default()
    }

    /// Who lives, in order; this node is among them.
    pub(crate) fn live(&self) -> Vec<NodeId> {
        self.live.lock().clone()
    }

    /// Notes who lives.
    pub(crate) fn set_live(&self, mut nodes: Vec<NodeId>) {
        nodes.push(self.core.node);
        nodes.sort_unstable();
        nodes.dedup();
        *self.live.lock() = nodes;
    }

    /// Are there nodes that don't live?
    fn has_absent(&self) -> bool {
        self.absent.load(Ordering::Acquire)
    }

    /// Notes whether there are nodes that don't live.
    pub(crate) fn set_absent(&self, absent: bool) {
        self.absent.store(absent, Ordering::Release);
    }

    /// A node is certainly gone, or certainly not able to commit: what it holds here goes. Whose table it
    /// has locked may have another form by now, of which nobody was told: the locks go when the catalog has
    /// been read again.
    pub(crate) fn node_gone(self: &Arc<Self>, node: NodeId) {
        self.set_absent(true);
        self.gone.lock().insert(node, self.core.hlc.now());
        let definers = self.guests.end_of_node(&self.core, node);
        self.protected.lock().remove(&node);
        if definers.is_empty() {
            return;
        }
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(read) = cluster.catalog_changed(Bytes::new()) {
                read.await;
            }
            definers.iter().for_each(|definer| definer.release_tables(&cluster.core));
        });
    }

    /// Was this node given up at that time or later?
    pub(crate) fn is_gone_since(&self, node: NodeId, ts: Timestamp) -> bool {
        self.gone.lock().get(&node).is_some_and(|gone| *gone >= ts)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Before the leases go elsewhere: row locks don't move with them. Transactions that have some here may
    /// get more, and end; others wait, and find the next leaseholder. So those that are short lose nothing.
    pub(crate) async fn finish_guests(&self, limit: Duration) {
        self.closing.store(true, Ordering::Relaxed);
        let since = Instant::now();
        while self.guests.any_rows() && since.elapsed() < limit {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The leases have gone, or stay.
    pub(crate) fn take_guests(&self) {
        self.closing.store(false, Ordering::Relaxed);
    }

    /// The range that lies there is led elsewhere.
    pub(crate) fn lease_lost(&self, span: &Span) {
        self.guests.lose_rows(&self.core, span);
        if span.contains(FIRST_KEY) {
            self.advisory_lease_lost();
        }
    }

    /// Hears of changes to the catalog from now on.
    pub(crate) fn on_catalog_change(&self, heard: OnCatalogChange) {
        // There is one catalog in a process; a second listener would be a mistake of the caller.
        let _ = self.on_catalog_change.set(heard);
        self.core.fence.forget();
    }

    /// Others have changed the catalog: so, or (without a word) anyhow. The answer ends when that is known
    /// here; `None`: nobody here keeps any.
    pub(crate) fn catalog_changed(&self, change: Bytes) -> Option<BoxFuture<'static, ()>> {
        self.on_catalog_change.get().map(|heard| heard(change))
    }

    fn protect(&self, node: NodeId, oldest: Timestamp) {
        self.protected.lock().insert(node, (oldest, Instant::now()));
    }

    /// The oldest snapshot that another node needs.
    pub(crate) fn oldest_elsewhere(&self) -> Option<Timestamp> {
        let mut protected = self.protected.lock();
        protected.retain(|_, (_, said)| said.elapsed() < PROTECTION);
        protected.values().map(|(ts, _)| *ts).min()
    }
}
