//! Becoming a node of a cluster: by founding it, or by joining one; and remembering that.
//!
//! A node that is neither listens on its peer address until `meridian init` has one node found the
//! cluster; the others, which keep asking those that they were told of, are then let in. What a node is
//! lies in `cluster.json` in its data directory, written once, with the addresses of the others as they
//! become known.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Hlc, NodeId, WrongClock, limits};
use meridian_cluster::Store;
use meridian_cluster::member::{
    CallError, Founding, JoinReply, JoinRequest, Membership, NOBODY, NodeRow, REFUSED, Rpc,
    RpcConfig, Switchboard, Tls, Version, service,
};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{Failure, failed};

/// Between two rounds of asking to be let in.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// How a node takes part in a cluster.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// Where other nodes reach this one, `host:port`; it listens there.
    pub peer: String,
    /// Nodes to ask to be let in.
    pub join: Vec<String>,
    /// Where this node is.
    pub locality: String,
    /// Milliseconds by which its clock is wrong, for tests.
    pub clock_offset: i64,
}

/// What a node remembers of its cluster.
#[derive(Serialize, Deserialize)]
struct Identity {
    cluster: String,
    node: u64,
    #[serde(default)]
    founder: bool,
    nodes: Vec<Known>,
}

/// A node of which this one has heard.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
struct Known {
    id: u64,
    address: String,
    sql_address: String,
}

impl Known {
    fn of(row: &NodeRow) -> Known {
        Known { id: row.id, address: row.address.clone(), sql_address: row.sql_address.clone() }
    }

    fn row(self) -> NodeRow {
        let Known { id, address, sql_address } = self;
        NodeRow { id, address, sql_address, ..NodeRow::default() }
    }
}

fn identity_path(data: &Path) -> PathBuf {
    data.join("cluster.json")
}

fn load(data: &Path) -> Result<Option<Identity>, Failure> {
    let path = identity_path(data);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(failed(format!("{} is damaged", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(format!("cannot read {}", path.display()))(error)),
    }
}

fn save(data: &Path, identity: &Identity) -> Result<(), Failure> {
    use std::io::Write;
    let path = identity_path(data);
    let cannot = || failed::<std::io::Error>(format!("cannot write {}", path.display()));
    let json = serde_json::to_vec_pretty(identity).map_err(failed("cannot write cluster.json"))?;
    let next = path.with_extension("next");
    let mut file = fs::File::create(&next).map_err(cannot())?;
    file.write_all(&json).and_then(|()| file.sync_all()).map_err(cannot())?;
    fs::rename(&next, &path).map_err(cannot())?;
    fs::File::open(data).and_then(|dir| dir.sync_all()).map_err(cannot())
}

/// Whether this data directory belongs to a node of a cluster.
pub(crate) fn is_member(data: &Path) -> bool {
    identity_path(data).exists()
}

/// The number of the node whose data directory this is.
pub(crate) fn node_of(data: &Path) -> Result<Option<u64>, Failure> {
    Ok(load(data)?.map(|identity| identity.node))
}

/// The node of this data directory belongs to a cluster of its own from now on.
pub(crate) fn leave_cluster(data: &Path) -> Result<(), Failure> {
    let Some(identity) = load(data)? else { return Ok(()) };
    save(data, &Identity { cluster: new_cluster(), nodes: Vec::new(), ..identity })
}

fn new_cluster() -> String {
    let mut bytes = [0; 16];
    meridian_base::rng::os_bytes(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}

fn new_clock(wrong_by: i64) -> Arc<Hlc> {
    let offset = Duration::from_millis(limits::CLOCK_OFFSET_MS_MAX);
    Arc::new(Hlc::new(Arc::new(WrongClock(wrong_by)), offset))
}

/// Starts the transport, and waits until this node is a member. The nodes known so far come with it.
pub(crate) async fn take_part(
    data: &Path,
    options: &MemberOptions,
    sql_address: String,
    tls: Option<Tls>,
) -> Result<(Membership, Vec<NodeRow>), Failure> {
    fs::create_dir_all(data).map_err(failed(format!("cannot make {}", data.display())))?;
    let identity = load(data)?;
    let cannot_listen = || failed(format!("cannot listen on {} (--peer)", options.peer));
    let listener = std::net::TcpListener::bind(&options.peer).map_err(cannot_listen())?;
    let (hlc, switchboard) = (new_clock(options.clock_offset), Switchboard::new());
    let parsed = identity.as_ref().map(|identity| cluster_of(identity, data)).transpose()?;
    let config = RpcConfig {
        node: identity.as_ref().map_or(NOBODY, |identity| NodeId(identity.node)),
        cluster: parsed.unwrap_or(0),
        incarnation: hlc.now().0,
        listener: Some(listener),
        advertise: options.peer.clone(),
        tls,
        hlc: Arc::clone(&hlc),
        version: Version::THIS,
    };
    let rpc = Rpc::start(config, Arc::clone(&switchboard) as _).map_err(cannot_listen())?;
    let identity = match identity {
        Some(identity) => identity,
        None => {
            let identity = found_or_join(options, &sql_address, &rpc, &switchboard).await?;
            save(data, &identity)?;
            rpc.set_identity(NodeId(identity.node), cluster_of(&identity, data)?);
            identity
        }
    };
    let membership = Membership {
        cluster: cluster_of(&identity, data)?,
        node: NodeId(identity.node),
        founder: identity.founder,
        address: options.peer.clone(),
        sql_address,
        hlc,
        rpc,
        switchboard,
    };
    Ok((membership, identity.nodes.into_iter().map(Known::row).collect()))
}

fn cluster_of(identity: &Identity, data: &Path) -> Result<u128, Failure> {
    let path = identity_path(data);
    u128::from_str_radix(&identity.cluster, 16)
        .map_err(failed(format!("{} is damaged", path.display())))
}

async fn found_or_join(
    options: &MemberOptions,
    sql_address: &str,
    rpc: &Rpc,
    switchboard: &Switchboard,
) -> Result<Identity, Failure> {
    tracing::info!(
        peer = options.peer,
        "waiting to become a member: run `meridian init` once, or give --join a node that is one"
    );
    let mut founding = switchboard.await_founding();
    let mut said = BTreeSet::new();
    loop {
        for address in options.join.iter().filter(|address| **address != options.peer) {
            if let Some(reply) = ask(rpc, address, options, sql_address, &mut said).await? {
                tracing::info!(node = reply.node, "joined the cluster");
                let nodes = reply.nodes.iter().map(Known::of).collect();
                let cluster = format!("{:032x}", reply.cluster());
                return Ok(Identity { cluster, node: reply.node, founder: false, nodes });
            }
        }
        tokio::select! {
            asked = &mut founding => {
                let Ok(asked) = asked else { return Err(Failure("cannot found a cluster".into())) };
                return Ok(found(asked));
            }
            () = tokio::time::sleep(ASK_AGAIN) => {}
        }
    }
}

fn found(asked: Founding) -> Identity {
    let mut bytes = [0; 16];
    meridian_base::rng::os_bytes(&mut bytes);
    let cluster = u128::from_be_bytes(bytes);
    // Whoever asked may have gone; the cluster is founded all the same.
    let _ = asked.reply.send(Ok(cluster));
    Identity { cluster: format!("{cluster:032x}"), node: 1, founder: true, nodes: Vec::new() }
}

/// Asks a node to be let in; `None`: it can't, or can't yet. Each reason is told once.
async fn ask(
    rpc: &Rpc,
    address: &str,
    options: &MemberOptions,
    sql_address: &str,
    said: &mut BTreeSet<String>,
) -> Result<Option<JoinReply>, Failure> {
    let request = JoinRequest {
        address: options.peer.clone(),
        sql_address: sql_address.to_owned(),
        locality: options.locality.clone(),
        ..JoinRequest::default()
    };
    match rpc.call_address(address, service::JOIN, request.encode_to_vec().into()).await {
        Ok(body) => match JoinReply::decode(body) {
            Ok(reply) if reply.node > 0 => Ok(Some(reply)),
            _ => Ok(None),
        },
        Err(CallError::Refused(refusal)) if refusal.code == REFUSED => {
            let why = String::from_utf8_lossy(&refusal.body).into_owned();
            Err(Failure(format!("{address} does not let this node in: {why}")))
        }
        Err(error) => {
            let why = error.to_string();
            if rpc.refusals().len() * 2 > options.join.len() {
                return Err(Failure(format!("{address} does not let this node in: {why}")));
            }
            if said.insert(why.clone()) {
                tracing::warn!(why, address, "not let in yet");
            }
            Ok(None)
        }
    }
}

/// Keeps the addresses of the other nodes in the file up to date.
pub(crate) async fn remember_nodes(data: PathBuf, store: Arc<Store>) {
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let nodes: Vec<Known> = store.nodes().iter().map(Known::of).collect();
        let Ok(Some(identity)) = load(&data) else { continue };
        if nodes.is_empty() || identity.nodes == nodes {
            continue;
        }
        if let Err(Failure(why)) = save(&data, &Identity { nodes, ..identity }) {
            tracing::warn!(why, "cannot remember the other nodes' addresses");
        }
    }
}

/// Asks a node something as an operator does.
pub(crate) async fn operate(
    host: &str,
    tls: Option<Tls>,
    request: JoinRequest,
) -> Result<JoinReply, Failure> {
    let config = RpcConfig {
        node: NOBODY,
        cluster: 0,
        incarnation: 0,
        listener: None,
        advertise: String::new(),
        tls,
        hlc: new_clock(0),
        version: Version::THIS,
    };
    let rpc = Rpc::start(config, Switchboard::new() as _).map_err(failed("cannot start"))?;
    let answer = rpc.call_address(host, service::JOIN, request.encode_to_vec().into()).await;
    rpc.shutdown();
    match answer {
        Ok(body) => JoinReply::decode(body).map_err(failed(format!("{host} answered nonsense"))),
        Err(CallError::Refused(refusal)) => {
            Err(Failure(format!("{host}: {}", String::from_utf8_lossy(&refusal.body))))
        }
        Err(error) => Err(Failure(format!("{host}: {error}"))),
    }
}
