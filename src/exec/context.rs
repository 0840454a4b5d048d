//! The node and what a statement runs with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use datafusion_execution::TaskContext;
use datafusion_execution::config::SessionConfig;
use datafusion_execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion_execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use meridian_catalog::Catalog;
use meridian_cluster::{CancelToken, Store};
use meridian_types::{Datum, EvalContext, PgError, Result, SqlState};
use parking_lot::Mutex;

use crate::dml::Deferred;
use crate::zones;

/// One per process: the store and the catalog that new statements bind against.
pub struct Node {
    store: Arc<Store>,
    catalog: ArcSwap<Catalog>,
    /// Counts publications; see [`Node::catalog_epoch`].
    epoch: AtomicU64,
    runtime: Arc<RuntimeEnv>,
    codecs: Mutex<crate::codecs::Codecs>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Node")
    }
}

/// Memory of one statement when nothing else is said: `work_mem` is a word only.
pub const STATEMENT_MEMORY_BYTES: usize = 256 << 20;

/// The least memory of a statement: below it, not even what spills can be sorted or grouped.
const STATEMENT_MEMORY_MIN_BYTES: usize = 16 << 20;

impl Node {
    /// A node over an open store, with the catalog as loaded from it.
    pub fn new(store: Arc<Store>, catalog: Arc<Catalog>) -> Result<Arc<Node>> {
        let runtime = RuntimeEnvBuilder::new()
            .build_arc()
            .map_err(|e| PgError::internal(format!("no executor: {e}")))?;
        let (usual, zones) = zones::zones(&catalog);
        store.set_zones(usual, zones);
        Ok(Arc::new(Node {
            store,
            catalog: ArcSwap::new(catalog),
            epoch: AtomicU64::new(0),
            runtime,
            codecs: Mutex::default(),
        }))
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The newest committed catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// A number that has changed whenever the newest catalog has. Read before [`Node::catalog`], it
    /// tells later, without touching what all threads share, that this catalog is still the newest.
    pub fn catalog_epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Makes a change to the newest catalog; it may be tried several times.
    pub fn update_catalog(&self, change: impl Fn(&Catalog) -> Catalog) {
        self.catalog.rcu(|current| change(current));
        self.epoch.fetch_add(1, Ordering::Release);
        if self.store.has_peers() {
            let (usual, zones) = zones::zones(&self.catalog());
            self.store.set_zones(usual, zones);
        }
    }

    pub(crate) fn codecs(&self) -> &Mutex<crate::codecs::Codecs> {
        &self.codecs
    }

    /// The surroundings of one execution: a memory pool of its own, the node's spill directory.
    pub(crate) fn task(&self, memory_bytes: usize) -> Arc<TaskContext> {
        let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(memory_bytes));
        let mut runtime = RuntimeEnv::clone(&self.runtime);
        runtime.memory_pool = pool;
        // What a sort keeps for merging what it has spilled.
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .with_sort_spill_reservation_bytes(memory_bytes / 8);
        Arc::new(TaskContext::default().with_session_config(config).with_runtime(Arc::new(runtime)))
    }
}

/// What one execution of a statement runs with.
#[derive(Clone, Debug)]
pub struct StatementContext {
    /// Settings, times and host, for kernels.
    pub eval: EvalContext,
    /// Values of `$1`, `$2` …
    pub params: Arc<[Datum]>,
    /// The node.
    pub node: Arc<Node>,
    /// The catalog that the statement was bound against (an overlay inside a DDL transaction).
    pub catalog: Arc<Catalog>,
    /// Memory that it may take, in bytes; see [`STATEMENT_MEMORY_BYTES`].
    pub memory_bytes: usize,
    /// Set when the statement is to end with 57014. (Lock waits end by the transaction's token.)
    pub cancel: CancelToken,
    /// Constraints of the transaction that are checked at commit.
    pub deferred: Arc<Mutex<Deferred>>,
    /// READ COMMITTED: a row changed since the snapshot runs the statement again.
    pub read_committed: bool,
    /// The session, for catalog relations and functions.
    pub session: Arc<dyn crate::virtuals::SessionInfo>,
    /// Backend id, for TEMP tables and locks.
    pub backend: i32,
}

impl StatementContext {
    /// Memory that the operators share.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes.max(STATEMENT_MEMORY_MIN_BYTES)
    }

    /// Fails with 57014 once the statement was cancelled.
    pub(crate) fn check_cancel(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(PgError::new(
                SqlState::QUERY_CANCELED,
                "canceling statement due to user request",
            ));
        }
        Ok(())
    }
}
