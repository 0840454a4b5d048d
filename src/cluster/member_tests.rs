//! Three nodes in one process, over real sockets: one database, with any of them gone.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Hlc, NodeId, RangeId, SystemClock, limits};
use meridian_kv::api::{Bytes, Key, KvError, Span, Strength, WaitPolicy};
use meridian_rpc::{Rpc, RpcConfig, Version};
use meridian_storage::StorageError;
use tempfile::TempDir;

use crate::member::{Membership, NodeRow, Switchboard};
use crate::{Locked, Store, StoreConfig, StoreError, Txn, TxnOptions};

const CLUSTER: u128 = 77;

/// A node that can be stopped and started again.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) dir: TempDir,
    pub(crate) address: String,
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) locality: &'static str,
    /// Requests per second beyond which ranges split.
    pub(crate) range_load_max: u64,
}

impl Node {
    /// A node that hasn't been started.
    pub(crate) fn new(id: u64) -> Node {
        let dir = TempDir::new().expect("a directory");
        let (address, range_load_max) = (free_address(), 100_000);
        Node { id: NodeId(id), dir, address, store: None, locality: "", range_load_max }
    }

    pub(crate) async fn start(&mut self, nodes: &[NodeRow]) {
        let offset = Duration::from_millis(limits::CLOCK_OFFSET_MS_MAX);
        let hlc = Arc::new(Hlc::new(Arc::new(SystemClock), offset));
        let switchboard = Switchboard::new();
        let listener = std::net::TcpListener::bind(&self.address).expect("binds");
        let config = RpcConfig {
            node: self.id,
            cluster: CLUSTER,
            incarnation: hlc.now().0,
            listener: Some(listener),
            advertise: self.address.clone(),
            tls: None,
            hlc: Arc::clone(&hlc),
            version: Version::THIS,
        };
        let rpc = Rpc::start(config, Arc::clone(&switchboard) as _).expect("starts");
        let membership = Membership {
            cluster: CLUSTER,
            node: self.id,
            founder: self.id == NodeId(1),
            address: self.address.clone(),
            sql_address: String::new(),
            hlc,
            rpc,
            switchboard,
        };
        let opened = loop {
            let locality = self.locality.to_owned();
            let range_load_max = self.range_load_max;
            let at = StoreConfig::at(self.dir.path());
            let config = StoreConfig { locality, range_load_max, ..at };
            match Store::open_member(config, membership.clone(), nodes.to_vec()).await {
                // What a killed node was about still ends in the background.
                Err(StoreError::Storage(StorageError::Locked { .. })) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                opened => break opened.expect("opens"),
            }
        };
        self.store = Some(opened);
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        self.store.as_ref().expect("it runs")
    }

    pub(crate) fn begin(&self) -> Txn {
        self.store().begin(TxnOptions::default())
    }

    /// Ends without a farewell, as a crash does.
    pub(crate) async fn kill(&mut self) {
        if let Some(store) = self.store.take() {
            store.kill().await;
        }
    }
}

pub(crate) fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("has an address").to_string()
}

/// The directories go with the nodes: nothing may write there any more.
pub(crate) async fn end(nodes: &mut [Node]) {
    for node in nodes {
        node.kill().await;
    }
}

pub(crate) async fn three() -> Vec<Node> {
    three_of((1..=3).map(Node::new).collect()).await
}

/// Starts three nodes as one cluster.
pub(crate) async fn three_of(mut nodes: Vec<Node>) -> Vec<Node> {
    let rows = rows(&nodes);
    nodes[0].start(&rows[..1]).await;
    for node in &mut nodes[1..] {
        let register = nodes_register(&rows, node.id);
        node.start(&register).await;
    }
    for row in &rows[1..] {
        nodes[0].store().register_node(row.clone()).await;
    }
    let voters = |node: &Node| node.store().voters(RangeId(1));
    eventually("three voters", || nodes.iter().all(|node| voters(node) == 3)).await;
    nodes
}

pub(crate) fn rows(nodes: &[Node]) -> Vec<NodeRow> {
    let row = |node: &Node| NodeRow {
        id: node.id.0,
        address: node.address.clone(),
        ..NodeRow::default()
    };
    nodes.iter().map(row).collect()
}

pub(crate) fn nodes_register(rows: &[NodeRow], upto: NodeId) -> Vec<NodeRow> {
    rows.iter().filter(|row| row.id <= upto.0).cloned().collect()
}

/// Waits for something that must come, without saying when.
pub(crate) async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

pub(crate) fn key(n: u32) -> Key {
    Key::from([&[0x10, 0, 0, 9, 9, 0, 1][..], &n.to_be_bytes()].concat())
}

pub(crate) async fn add(node: &Node, n: u32) -> Result<(), KvError> {
    loop {
        // As a session does.
        match add_once(node, n).await {
            Err(KvError::StatementRetry | KvError::Retry { .. }) => {}
            outcome => return outcome,
        }
    }
}

async fn add_once(node: &Node, n: u32) -> Result<(), KvError> {
    let mut txn = node.begin();
    let Locked::Held { newest, .. } =
        txn.lock(&key(n), Strength::Update, WaitPolicy::Block).await?
    else {
        return Err(KvError::LockNotAvailable);
    };
    let before = newest.map_or(0, |(_, row)| u32::from_le_bytes(row[..].try_into().unwrap()));
    txn.put(key(n), Bytes::copy_from_slice(&(before + 1).to_le_bytes()));
    txn.commit().await.map(drop)
}

pub(crate) async fn value(node: &Node, n: u32) -> u32 {
    let row = loop {
        match node.begin().get(&key(n)).await {
            Err(KvError::StatementRetry | KvError::Retry { .. }) => {}
            row => break row.expect("reads"),
        }
    };
    row.map_or(0, |row| u32::from_le_bytes(row[..].try_into().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_reads_and_writes_and_counts_under_row_locks() {
    let nodes = three().await;
    let nodes = Arc::new(nodes);
    let mut tasks = Vec::new();
    for at in 0..6_usize {
        let nodes = Arc::clone(&nodes);
        tasks.push(tokio::spawn(async move {
            for _ in 0..20 {
                add(&nodes[at % 3], 1).await.expect("adds");
            }
        }));
    }
    for task in tasks {
        task.await.expect("ends");
    }
    for node in nodes.iter() {
        assert_eq!(value(node, 1).await, 120, "as seen by {}", node.id);
        let mut scan = node.begin().scan(Span::prefix(&key(1)[..7]), false).await.expect("scans");
        let mut rows = Vec::new();
        while scan.next_batch(10, &mut rows).await.expect("scans") {}
        assert_eq!(rows.len(), 1);
    }
    let first = nodes[2].store().increment(b"c", 1).await.expect("counts");
    let second = nodes[1].store().increment(b"c", 1).await.expect("counts");
    assert_eq!((first, second), (1, 2), "one counter for all");
    end(&mut Arc::into_inner(nodes).expect("the tasks have ended")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_with_the_leaseholder() {
    let mut nodes = three().await;
    for n in 0..10 {
        add(&nodes[1], n).await.expect("adds");
    }
    nodes[0].kill().await;
    for n in 0..10 {
        add(&nodes[2], n).await.expect("the next leaseholder goes on");
        assert_eq!(value(&nodes[1], n).await, 2);
    }
    let rows = rows(&nodes);
    nodes[0].start(&rows).await;
    eventually("the old leaseholder catches up", || {
        nodes[0].store().applied() >= nodes[1].store().applied()
    })
    .await;
    for n in 0..10 {
        add(&nodes[0], n).await.expect("adds as a follower");
        assert_eq!(value(&nodes[2], n).await, 3);
    }
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_gets_the_content_when_the_log_no_longer_has_it() {
    let mut nodes = three().await;
    for n in 0..50 {
        add(&nodes[0], n).await.expect("adds");
    }
    for node in &nodes {
        node.store().checkpoint().await.expect("purges");
    }
    // One is gone for good: a fourth takes its place.
    nodes[2].kill().await;
    let mut all = rows(&nodes);
    all[2].leaving = true;
    let mut fourth = Node::new(4);
    all.push(NodeRow { id: 4, address: fourth.address.clone(), ..NodeRow::default() });
    nodes[0].store().register_node(all[2].clone()).await;
    nodes[0].store().register_node(all[3].clone()).await;
    fourth.start(&all).await;
    eventually("the new node has all", || {
        fourth.store().applied() >= nodes[0].store().applied()
            && fourth.store().core().first().replicates()
    })
    .await;
    for n in 0..50 {
        let row = fourth.store().core().read.get(&key(n), fourth.store().applied());
        assert!(row.expect("reads").is_some(), "row {n} is in its own copy");
    }
    add(&fourth, 0).await.expect("adds");
    assert_eq!(value(&nodes[1], 0).await, 2);
    nodes.push(fourth);
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_lock_that_was_dropped_is_verified_at_the_commit() {
    let mut nodes = three().await;
    add(&nodes[0], 1).await.expect("adds");
    let mut txn = nodes[1].begin();
    let locked = txn.lock(&key(1), Strength::Update, WaitPolicy::Block).await.expect("locks");
    assert!(matches!(locked, Locked::Held { newest: Some(_), .. }));
    txn.put(key(2), Bytes::from("derived"));
    // As if the leaseholder had given the node up for a while.
    nodes[0].store().forget_guests_of(nodes[1].id);
    add(&nodes[2], 1).await.expect("nothing holds the row any more");
    let refused = txn.commit().await;
    assert_eq!(refused, Err(KvError::CONCURRENT_UPDATE), "the row is not as it was");
    end(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_that_were_lost_are_taken_again_or_end_the_transaction() {
    let mut nodes = three().await;
    add(&nodes[0], 1).await.expect("adds");
    let lock = |n| (key(n), Strength::Update, WaitPolicy::Block);
    let mut txn = nodes[1].begin();
    let (row, strength, wait) = lock(1);
    let locked = txn.lock(&row, strength, wait).await.expect("locks");
    let Locked::Held { newest: Some((_, seen)), .. } = locked else { panic!("the row is there") };
    nodes[0].store().forget_guests_of(nodes[1].id);
    // The next lock brings the first one back …
    let (other, strength, wait) = lock(2);
    txn.lock(&other, strength, wait).await.expect("locks");
    let mut third = nodes[2].begin();
    let busy = third.lock(&row, Strength::Update, WaitPolicy::NoWait).await;
    assert_eq!(busy.err(), Some(KvError::LockNotAvailable));
    third.rollback();
    // … unless the row has been changed: what was seen under the lock must not be written over it.
    nodes[0].store().forget_guests_of(nodes[1].id);
    add(&nodes[2], 1).await.expect("nothing holds the row any more");
    txn.begin_statement();
    let again = txn.lock(&row, strength, wait).await;
    assert_eq!(again.err(), Some(KvError::CONCURRENT_UPDATE), "it was {seen:?}");
    txn.rollback();
    end(&mut nodes).await;
}
