//! The nodes of the cluster: rows of the database itself, below a prefix of their own.
//!
//! ```text
//! 04 ‖ node:u64be   →  address, where its clients connect, what it is to become
//! ```
//! Every node reads them from its own copy, or from the leaseholder if it has none. Each leaseholder sees
//! to it that the copies of its range, and its lease, come to where the plan wants them ([`Placing`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use meridian_base::keys::NODE;
use meridian_base::{Instant, NodeId, RangeId};
use meridian_kv::api::{Isolation, Key, KvError, Span};
use meridian_kv::placement;
use meridian_kv::range::Descriptor;
use meridian_replication::ChangeError;
use meridian_rpc::Rpc;
use meridian_storage::mvcc::MvccScan;
use parking_lot::Mutex;
use prost::Message;

use super::drain::Drain;
use super::placing::{self, Begun, Handover, Placing};
use super::retire::Retiring;
use crate::core::Core;
use crate::counters;
use crate::directory;
use crate::liveness::NodeLiveness;
use crate::read::storage_error;
use crate::remote::{Cluster, FIRST_KEY, Op};
use crate::replicas::{Replica, Replicas};
use crate::txn::{Txn, TxnOptions};

/// How long a change of members may take before it is looked at anew.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a founder may take to write its own row.
const OWN_ROW_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries of a reading that a lease's move has spoilt.
const AGAIN: Duration = Duration::from_millis(10);
/// How long a survey waits for rows.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
const NODE_COUNTER: &[u8] = b"node";

/// A request of a node that is no member, or to a node that is none.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinRequest {
    /// Found a cluster, rather than join this one.
    #[prost(bool, tag = "1")]
    pub found: bool,
    /// How others will reach the new node.
    #[prost(string, tag = "2")]
    pub address: String,
    /// Where its clients connect.
    #[prost(string, tag = "3")]
    pub sql_address: String,
    /// Or what an operator asks: `status`, `decommission`, `drain` or `undrain`.
    #[prost(string, tag = "4")]
    pub action: String,
    /// The node that it is about.
    #[prost(uint64, tag = "5")]
    pub node: u64,
    /// Where the new node is.
    #[prost(string, tag = "6")]
    pub locality: String,
    /// For how many seconds the sessions of a node that is drained may go on.
    #[prost(uint32, tag = "7")]
    pub patience: u32,
}

/// A node of the cluster.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeRow {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// How others reach it.
    #[prost(string, tag = "2")]
    pub address: String,
    /// Where its clients connect.
    #[prost(string, tag = "3")]
    pub sql_address: String,
    /// It is to leave.
    #[prost(bool, tag = "4")]
    pub leaving: bool,
    /// In answers: whether it is heard of.
    #[prost(bool, tag = "5")]
    pub live: bool,
    /// In answers: what it is to the range.
    #[prost(string, tag = "6")]
    pub role: String,
    /// Where it is.
    #[prost(string, tag = "7")]
    pub locality: String,
    /// It is to lead nothing and to take no connections: until it starts again.
    #[prost(bool, tag = "8")]
    pub draining: bool,
    /// Its sessions may go on for so many seconds then.
    #[prost(uint32, tag = "9")]
    pub patience: u32,
    /// In answers: how many ranges it leads, as far as is known.
    #[prost(uint32, tag = "10")]
    pub leases: u32,
}

/// What a new member must know.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinReply {
    /// The cluster's name: the high half.
    #[prost(fixed64, tag = "1")]
    pub cluster_high: u64,
    /// The low half.
    #[prost(fixed64, tag = "2")]
    pub cluster_low: u64,
    /// The new node's id.
    #[prost(uint64, tag = "3")]
    pub node: u64,
    /// All nodes.
    #[prost(message, repeated, tag = "4")]
    pub nodes: Vec<NodeRow>,
}

impl JoinReply {
    /// A reply that names the cluster only.
    pub fn of_cluster(cluster: u128) -> JoinReply {
        let half = |shift: u32| u64::try_from((cluster >> shift) & u128::from(u64::MAX));
        JoinReply {
            cluster_high: half(64).expect("64 bits"),
            cluster_low: half(0).expect("64 bits"),
            ..JoinReply::default()
        }
    }

    /// The cluster's name.
    pub fn cluster(&self) -> u128 {
        (u128::from(self.cluster_high) << 64) | u128::from(self.cluster_low)
    }
}

fn row_key(node: NodeId) -> Key {
    let mut key = vec![NODE];
    key.extend_from_slice(&node.0.to_be_bytes());
    key.into()
}

/// The register of nodes, as this node keeps and reads it.
pub(crate) struct Register {
    pub(super) core: Arc<Core>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) replicas: Arc<Replicas>,
    pub(super) liveness: Arc<NodeLiveness>,
    rpc: Arc<Rpc>,
    pub(super) name: u128,
    /// Nodes as last read.
    pub(super) known: Mutex<BTreeMap<NodeId, NodeRow>>,
    /// Since when a node is not heard of.
    away: Mutex<BTreeMap<NodeId, Instant>>,
    pub(super) placing: Placing,
    pub(super) drain: Drain,
    pub(super) retiring: Retiring,
    pub(super) reported: Mutex<Option<Instant>>,
}

/// All nodes that are registered, as this node's copy of the first range has it.
pub(crate) fn registered(core: &Core) -> Result<BTreeSet<NodeId>, KvError> {
    let (span, at) = (Span::prefix(&[NODE]), core.applied());
    let mut scan = MvccScan::new(core.read.engine.snapshot(), &span, false, at);
    let mut rows = Vec::new();
    while scan.next_batch(1024, &mut rows).map_err(storage_error)? {}
    let rows = rows.into_iter().filter_map(|(_, row)| NodeRow::decode(row).ok());
    Ok(rows.map(|row| NodeId(row.id)).collect())
}

impl Register {
    pub(crate) fn new(
        core: Arc<Core>,
        replicas: Arc<Replicas>,
        cluster: Arc<Cluster>,
        liveness: Arc<NodeLiveness>,
        (rpc, name): (Arc<Rpc>, u128),
    ) -> Arc<Register> {
        let (known, away) = (Mutex::default(), Mutex::default());
        let placing = Placing::new(core.config.range_bytes_max, core.config.range_load_max);
        let retiring = Retiring::default();
        Arc::new(Register {
            core,
            cluster,
            replicas,
            liveness,
            rpc,
            name,
            known,
            away,
            placing,
            drain: Drain::default(),
            retiring,
            reported: Mutex::default(),
        })
    }

    /// Writes a node's row.
    pub(crate) async fn put(&self, row: NodeRow) -> Result<(), String> {
        let mut txn = Txn::begin(Arc::clone(&self.core), TxnOptions::default());
        txn.put(row_key(NodeId(row.id)), row.encode_to_vec().into());
        txn.commit().await.map(drop).map_err(|error| error.to_string())
    }

    /// Changes a node's row.
    pub(super) async fn amend(
        &self,
        node: NodeId,
        change: impl FnOnce(&mut NodeRow),
    ) -> Result<(), String> {
        let text = |error: KvError| error.to_string();
        let options = TxnOptions { isolation: Isolation::RepeatableRead, ..TxnOptions::default() };
        let mut txn = Txn::begin(Arc::clone(&self.core), options);
        let row = txn.get(&row_key(node)).await.map_err(text)?;
        let row = row.and_then(|row| NodeRow::decode(row).ok());
        let mut row = row.ok_or_else(|| format!("there is no node {}", node.0))?;
        change(&mut row);
        txn.put(row_key(node), row.encode_to_vec().into());
        txn.commit().await.map(drop).map_err(text)
    }

    /// Reads all rows.
    pub(super) async fn read(&self) -> Result<BTreeMap<NodeId, NodeRow>, String> {
        loop {
            match self.try_read().await {
                // The lease has moved meanwhile.
                Err(KvError::StatementRetry) => tokio::time::sleep(AGAIN).await,
                read => return read.map_err(|error| error.to_string()),
            }
        }
    }

    async fn try_read(&self) -> Result<BTreeMap<NodeId, NodeRow>, KvError> {
        let mut txn = Txn::begin(Arc::clone(&self.core), TxnOptions::default());
        let mut scan = txn.scan(Span::prefix(&[NODE]), false).await?;
        let mut rows = Vec::new();
        while scan.next_batch(1024, &mut rows).await? {}
        let rows = rows.into_iter().filter_map(|(_, row)| NodeRow::decode(row).ok());
        Ok(rows.map(|row| (NodeId(row.id), row)).collect())
    }

    /// Reads all rows, when this node's is among them: a founder takes requests before it has written it, and
    /// who comes then would never hear of the founder.
    async fn read_with_own(&self) -> Result<BTreeMap<NodeId, NodeRow>, String> {
        let since = Instant::now();
        loop {
            let known = self.read().await?;
            if known.contains_key(&self.core.node) {
                return Ok(known);
            }
            if since.elapsed() > OWN_ROW_LIMIT {
                return Err("this node is not among those of the cluster".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reads the directory of ranges.
    async fn read_ranges(&self) -> Result<(), KvError> {
        let mut txn = Txn::begin(Arc::clone(&self.core), TxnOptions::default());
        let mut scan = txn.scan(directory::rows_span(), false).await?;
        let mut rows = Vec::new();
        while scan.next_batch(1024, &mut rows).await? {}
        let rows = rows.into_iter().filter_map(|(_, row)| Descriptor::decode(row).ok());
        self.core.learn_ranges(rows.collect());
        Ok(())
    }

    /// Takes a new node in.
    pub(crate) async fn admit(&self, request: &JoinRequest) -> Result<JoinReply, String> {
        let text = |error: meridian_kv::api::KvError| error.to_string();
        let known = self.read_with_own().await?;
        if let Some(row) = known.values().find(|row| row.address == request.address) {
            return Err(format!(
                "node {} is at {} already; start it with its own data directory, or decommission it \
                 first",
                row.id, row.address
            ));
        }
        let number = counters::increment(&self.core, NODE_COUNTER, 1).await.map_err(text)?;
        // The founder is the first.
        let id = u64::try_from(number).map_err(|_| "all node ids are used up".to_owned())? + 1;
        let row = NodeRow {
            id,
            address: request.address.clone(),
            sql_address: request.sql_address.clone(),
            locality: request.locality.clone(),
            ..NodeRow::default()
        };
        self.put(row.clone()).await?;
        let mut nodes: Vec<NodeRow> = known.into_values().collect();
        nodes.push(row);
        Ok(JoinReply { node: id, nodes, ..JoinReply::of_cluster(self.name) })
    }

    /// Notes nodes that are known from elsewhere: from a file, or from whoever let this node in.
    pub(crate) fn learn(&self, nodes: impl IntoIterator<Item = NodeRow>) {
        let mut known = self.known.lock();
        known.extend(nodes.into_iter().map(|row| (NodeId(row.id), row)));
        let me = self.core.node;
        for (node, row) in known.iter().filter(|(node, _)| **node != me) {
            self.rpc.set_address(*node, &row.address);
        }
        self.liveness.set_peers(known.keys().copied().filter(|node| *node != me).collect());
    }

    /// The nodes as last read.
    pub(crate) fn nodes(&self) -> Vec<NodeRow> {
        self.known.lock().values().cloned().collect()
    }

    /// Takes what the rows say, if they can be read.
    async fn refresh(&self) {
        let read = tokio::time::timeout(PATIENCE, self.read());
        let Ok(Ok(mut rows)) = read.await else { return };
        if rows.is_empty() {
            return;
        }
        let gone: Vec<NodeId> = {
            let known = self.known.lock();
            known.keys().copied().filter(|node| !rows.contains_key(node)).collect()
        };
        for node in gone {
            self.known.lock().remove(&node);
            self.rpc.remove_address(node);
        }
        self.perhaps_relocate(rows.get(&self.core.node)).await;
        self.perhaps_return(rows.get_mut(&self.core.node)).await;
        self.learn(rows.into_values());
        // What can't be read now is read in a second.
        let _ = tokio::time::timeout(PATIENCE, self.read_ranges()).await;
    }

    /// Looks at who is there, and, as a leaseholder, at who should have a copy. `counted` are the
    /// learners that leases count on.
    pub(crate) async fn survey(&self, counted: &BTreeMap<RangeId, BTreeSet<NodeId>>) {
        // Not to wait for a leaseholder here: whoever surveys also campaigns.
        let first = self.core.first();
        if first.lease.here(&self.core.hlc).is_some() || first.lease.leader().is_some() {
            self.refresh().await;
        } else {
            self.core.look_elsewhere(FIRST_KEY, None);
        }
        let known: Vec<NodeId> = self.known.lock().keys().copied().collect();
        let (live, dead): (Vec<NodeId>, Vec<NodeId>) =
            known.into_iter().partition(|node| self.liveness.supported(*node));
        {
            let mut away = self.away.lock();
            away.retain(|node, _| dead.contains(node));
            for node in dead {
                away.entry(node).or_insert_with(Instant::now);
            }
        }
        let all = self.known.lock().len() == live.len();
        self.cluster.set_absent(!all);
        self.cluster.set_live(live.clone());
        self.protect_snapshots(&live);
        let mut led = self.replicas.all();
        led.retain(|replica| replica.range.lease.here(&self.core.hlc).is_some());
        self.report(&led);
        self.plan(&led);
        for replica in led {
            let none = BTreeSet::new();
            let counted = counted.get(&replica.range.id).unwrap_or(&none);
            self.place_copies(&replica, &live, counted);
            self.wake_absent(&replica, &live);
        }
        let writing = self.core.write_directory();
        // What can't be written now is written in a second.
        let _ = tokio::time::timeout(10 * PATIENCE, writing).await;
        self.retire_replicas().await;
        self.perhaps_drain().await;
    }

    /// Members that have never answered may not know that they are to have a copy.
    fn wake_absent(&self, replica: &Replica, live: &[NodeId]) {
        let Some(group) = &replica.group else { return };
        let (members, term) = (group.members(), group.role().borrow().term);
        let all = members.all_voters().into_iter().chain(members.learners.iter().copied());
        let silent = all.filter(|node| {
            let progress = group.progress_of(term, *node);
            *node != self.core.node && live.contains(node) && progress.is_none()
        });
        for node in silent {
            let (cluster, of) = (Arc::clone(&self.cluster), self.core.describe(replica));
            tokio::spawn(async move { cluster.adopt_at(node, &of).await });
        }
    }

    /// Tells the others which snapshots are in use here.
    fn protect_snapshots(&self, live: &[NodeId]) {
        let Some(oldest) = self.core.snapshots.oldest() else { return };
        let age = self.core.hlc.reading().saturating_sub(oldest.micros());
        // Younger ones are within everybody's retention.
        if age < 10_000_000 {
            return;
        }
        let at = crate::remote::At { ts: oldest.0 };
        for node in live.iter().filter(|node| **node != self.core.node) {
            self.cluster.tell(*node, Op::Protect(at));
        }
    }

    /// Plans for all ranges, and begins what concerns those that this node leads.
    fn plan(&self, led: &[Arc<Replica>]) {
        let now = self.core.hlc.reading();
        let nodes = self.places(now);
        let ids = led.iter().map(|replica| replica.range.id).collect();
        let begun = self.placing.take_on(nodes, self.ranges(), &ids, now);
        let Begun { moves, splits } = begun;
        for key in splits {
            let core = Arc::clone(&self.core);
            tokio::spawn(async move {
                if let Err(error) = core.split_here(&key).await {
                    tracing::debug!(?error, "a range was not split");
                }
            });
        }
        for Handover { range, to } in moves {
            let Some(replica) = led.iter().find(|replica| replica.range.id == range) else {
                continue;
            };
            let Some(group) = replica.group.clone() else { continue };
            let Some(claim) = self.replicas.claim(range) else { continue };
            let (core, given) = (Arc::clone(&self.core), Arc::clone(&replica.range));
            tokio::spawn(async move {
                if let Err(error) = core.hand_over(&given, &group, to).await {
                    tracing::warn!(%error, %range, %to, "the lease could not be moved");
                }
                drop(claim);
            });
        }
    }

    /// All nodes, as the planner takes them.
    pub(super) fn places(&self, now: u64) -> Vec<placement::Node> {
        let mut nodes = placing::nodes(&self.known.lock(), &self.away.lock(), now);
        let own = nodes.iter_mut().filter(|node| node.id == self.core.node);
        own.for_each(|node| node.draining |= self.drain.is_stopping());
        nodes
    }

    /// All ranges, as the planner takes them: those that this node leads as they are, others as the
    /// directory has them. What is being changed has no voters, and is left alone; nothing is merged.
    pub(super) fn ranges(&self) -> Vec<placement::Range> {
        let core = &self.core;
        let range = |(range, span): (Arc<crate::range::Range>, Span)| {
            let led = range.lease.here(&core.hlc).is_some();
            let replica = self.replicas.get(range.id).filter(|_| led);
            let members = replica.and_then(|it| it.group.clone()).map(|group| group.members());
            let leaseholder = if led { Some(core.node) } else { range.lease.leader() };
            let id = range.id;
            let figures = self.cluster.figures(id);
            let known = placement::Range {
                id,
                span,
                leaseholder,
                bytes: figures.bytes,
                load: figures.load,
                keys: if led { range.pipeline.load.keys() } else { Vec::new() },
                pinned: true,
                ..Default::default()
            };
            match members {
                Some(members) if members.is_joint() => known,
                Some(members) => placement::Range {
                    voters: members.all_voters().into_iter().collect(),
                    learners: members.learners.into_iter().collect(),
                    ..known
                },
                None => placement::Range { voters: core.members_of(id).into(), ..known },
            }
        };
        core.ranges.spans().into_iter().map(range).collect()
    }

    /// How copies of ranges are to be placed, by keys.
    pub(crate) fn set_zones(&self, usual: placement::Zone, zones: BTreeMap<Key, placement::Zone>) {
        self.placing.set_zones(usual, zones);
    }

    /// What is to be done for all ranges, and isn't being done here yet: rows of `SHOW REBALANCE PLAN`.
    pub(crate) fn rebalance_plan(&self) -> Vec<[String; 5]> {
        let now = self.core.hlc.reading();
        let nodes = self.places(now);
        let actions = self.placing.plan(nodes, self.ranges(), now);
        actions.iter().map(placement::Action::columns).collect()
    }

    /// Has the next step made that brings the copies to where they should be.
    fn place_copies(&self, replica: &Replica, live: &[NodeId], counted: &BTreeSet<NodeId>) {
        let Some(group) = replica.group.clone() else { return };
        let members = group.members();
        if members.voters.len() != 1 {
            return;
        }
        let next = self.placing.next_step(group.id(), &members, live, counted);
        let Some((voters, learners)) = next else { return };
        let Some(claim) = self.replicas.claim(group.id()) else { return };
        let (cluster, of) = (Arc::clone(&self.cluster), self.core.describe(replica));
        let raft = self.replicas.raft().cloned();
        let has_split = of.generation > 1;
        tokio::spawn(async move {
            for node in &learners {
                if !cluster.adopt_at(*node, &of).await {
                    return;
                }
            }
            if let Some(raft) = raft.filter(|_| has_split && !learners.is_empty()) {
                // The log may tell of keys that have been split off since: a newcomer gets the content.
                let id = of.id;
                let shortened = tokio::task::spawn_blocking(move || raft.shorten(id)).await;
                if !matches!(shortened, Ok(Ok(()))) {
                    return;
                }
            }
            tracing::info!(range = %of.id, ?voters, ?learners, "changing the members of a range");
            let done = group.change_members(&members, &voters, &learners, CHANGE_TIMEOUT).await;
            match done {
                Ok(()) | Err(ChangeError::NotLeader) => {}
                Err(error) => tracing::warn!(%error, "the members could not be changed"),
            }
            drop(claim);
        });
    }
}
