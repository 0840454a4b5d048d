//! Opening the store of a node that is one of several.

use std::sync::Arc;
use std::time::Duration;

use meridian_replication::{MultiRaft, NodeRaftConfig};
use meridian_rpc::{Class, Rpc, Transport};
use meridian_storage::StorageError;

use super::{Keeper, Membership, NodeRow, RaftNetwork, Register, SwitchParts, Switchboard};
use crate::apply::{EntryApplier, FIRST};
use crate::config::{StoreConfig, StoreError};
use crate::liveness::NodeLiveness;
use crate::remote::Cluster;
use crate::replicas::{Ground, Replica, Replicas};
use crate::store::{Parts, Store, open_dir};

/// How long a new cluster may take to have a leaseholder.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What a store of a cluster has beside its own.
pub(crate) struct Among {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) register: Arc<Register>,
    pub(crate) liveness: Arc<NodeLiveness>,
    pub(crate) rpc: Arc<Rpc>,
    pub(crate) switchboard: Arc<Switchboard>,
}

impl Store {
    /// Opens a store that is one of several. `nodes` are those known so far.
    pub async fn open_member(
        config: StoreConfig,
        membership: Membership,
        nodes: Vec<NodeRow>,
    ) -> Result<Arc<Store>, StoreError> {
        config.validate()?;
        let Some(dir) = config.data_dir.clone() else {
            return Err(StoreError::Config("a member of a cluster has a data directory".into()));
        };
        let locality = config.locality.clone();
        let (node, hlc) = (membership.node, Arc::clone(&membership.hlc));
        let opening =
            tokio::task::spawn_blocking(move || open_dir(config, &dir, (node, false), hlc));
        let opened = opening.await.map_err(|panic| StorageError::Stopped(panic.to_string()))??;
        let transport: Arc<dyn Transport> = Arc::clone(&membership.rpc) as _;
        let liveness = start_liveness(&membership, &opened, &transport)?;
        let Parts { core, log, engine, lock, interval, .. } = opened;
        let raft = MultiRaft::start(
            NodeRaftConfig { checkpoint_interval: interval, ..NodeRaftConfig::new(node) },
            Arc::clone(&log) as _,
            engine,
            Arc::new(RaftNetwork(Arc::clone(&transport))),
            Arc::clone(&liveness) as _,
        )?;
        let new = membership.founder && !raft.stored().contains(&FIRST);
        let dir = Arc::new(lock);
        let ground = Ground::Raft { raft: Arc::clone(&raft), log: Arc::clone(&log), dir };
        // Before the first group is open: it may tell of splits that it redoes.
        let replicas = Replicas::new(Arc::clone(&core), ground);
        let range = Arc::clone(core.first());
        let applier = Arc::new(EntryApplier::new(Arc::clone(&core), Arc::clone(&range))?);
        let holds = Arc::clone(&applier.holds);
        let group = match new {
            true => raft.create_group(FIRST, &[node], applier).await?,
            false => raft.open_group(FIRST, applier).await?,
        };
        let cluster = Cluster::new(Arc::clone(&core), transport);
        let proposer = replicas.logged(group.clone()).expect("it has a log");
        let first = Replica::new(range, holds, Some(group));
        let (among, keeper) = connect(&membership, (&replicas, cluster), &raft, liveness);
        among.register.learn(nodes);
        let register = Arc::clone(&among.register);
        let store = Store::start(core, replicas, (first, proposer), Some(among));
        store.replicas.open_stored().await?;
        let keeping = tokio::spawn(keeper.run(Arc::clone(&store.stop)));
        store.tasks.lock().push(keeping);
        if new {
            store.await_leaseholder(START_LIMIT).await?;
            let row = NodeRow {
                id: node.0,
                address: membership.address.clone(),
                sql_address: membership.sql_address.clone(),
                locality,
                ..NodeRow::default()
            };
            register.put(row).await.map_err(StoreError::Config)?;
        }
        Ok(store)
    }
}

fn start_liveness(
    membership: &Membership,
    opened: &Parts,
    transport: &Arc<dyn Transport>,
) -> Result<Arc<NodeLiveness>, StoreError> {
    let cannot = |error| StorageError::io("keep promises to other nodes", error);
    let (node, hlc) = (membership.node, Arc::clone(&membership.hlc));
    let liveness = NodeLiveness::open(node, hlc, Some(&opened.dir)).map_err(cannot)?;
    membership.rpc.set_class_runtime(Class::Liveness, liveness.runtime());
    liveness.start(Arc::clone(transport)).map_err(cannot)?;
    Ok(liveness)
}

/// Puts the parts together and lets other nodes' requests in.
fn connect(
    membership: &Membership,
    (replicas, cluster): (&Arc<Replicas>, Arc<Cluster>),
    raft: &Arc<MultiRaft>,
    liveness: Arc<NodeLiveness>,
) -> (Among, Keeper) {
    let (rpc, switchboard) = (Arc::clone(&membership.rpc), Arc::clone(&membership.switchboard));
    let register = Register::new(
        Arc::clone(&cluster.core),
        Arc::clone(replicas),
        Arc::clone(&cluster),
        Arc::clone(&liveness),
        (Arc::clone(&rpc), membership.cluster),
    );
    cluster.rely_on(Arc::clone(&liveness));
    switchboard.plug(SwitchParts {
        raft: Arc::clone(raft),
        cluster: Arc::clone(&cluster),
        liveness: Arc::clone(&liveness),
        register: Arc::clone(&register),
    });
    let keeper = Keeper::new(
        Arc::clone(replicas),
        Arc::clone(raft),
        Arc::clone(&liveness),
        Arc::clone(&cluster),
        Arc::clone(&register),
    );
    (Among { cluster, register, liveness, rpc, switchboard }, keeper)
}
