//! A node from its options to its shutdown.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meridian_base::rng::os_bytes;
use meridian_cluster::{Store, StoreConfig};
use meridian_exec::catalog_store::open_node;
use meridian_gateway::{Gateway, GatewayConfig};
use meridian_session::Sessions;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::member::{self, MemberOptions};
use crate::{Failure, certs, drain, failed, http};

/// How long sessions may take to end at shutdown before the store is closed under them. Half of it
/// cuts commits off on a slow disk; twice of it makes a rolling restart needlessly long.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Data directory.
    pub data: PathBuf,
    /// Address for Postgres clients; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address for health checks, if any.
    pub http: Option<SocketAddr>,
    /// No TLS, no passwords.
    pub insecure: bool,
    /// Certificates, when not in the data directory.
    pub certs: Option<PathBuf>,
    /// Sessions at once.
    pub connections_max: usize,
    /// Transactions that may be prepared at once, in the cluster; 64 if not given.
    pub prepared_max: Option<u32>,
    /// Memory for caches, bytes; a quarter of the machine's when not given.
    pub cache_bytes: Option<u64>,
    /// Print the first password and the address.
    pub announce: bool,
    /// How it is one of several; alone if not given.
    pub member: Option<MemberOptions>,
}

/// A node that serves.
pub struct RunningNode {
    store: Arc<Store>,
    gateway: Arc<Gateway>,
    stopping: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// Carries out that the node is drained.
    drainer: tokio::task::JoinHandle<()>,
    address: SocketAddr,
    /// The superuser's password, when this start made it.
    password: Option<String>,
    insecure: bool,
}

/// The runtime of sessions: one worker for each core.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("sql")
        .thread_stack_size(8 << 20)
        .enable_all()
        .build()
        .map_err(failed("cannot start threads"))
}

/// Runs a node until SIGTERM or SIGINT.
pub(crate) fn run(options: NodeOptions) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let node = RunningNode::start(options).await?;
        let fault = tokio::select! {
            () = termination() => None,
            fault = node.store.refused() => Some(fault),
        };
        if let Some(fault) = fault {
            // Nobody listens to it any more: there is nothing that could be handed over.
            tracing::error!("{fault}");
            return Err(Failure(fault));
        }
        tracing::info!("shutting down");
        node.stop().await;
        Ok(())
    })
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn termination() {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

impl RunningNode {
    /// Opens the data directory and starts to serve.
    pub async fn start(options: NodeOptions) -> Result<RunningNode, Failure> {
        if options.insecure && !options.listen.ip().is_loopback() {
            return Err(Failure(format!(
                "--insecure is refused on {}: it is for loopback addresses only",
                options.listen.ip()
            )));
        }
        // Ports first: a port in use must not cost the replay of a log.
        let listener = TcpListener::bind(options.listen)
            .await
            .map_err(failed(format!("cannot listen on {}", options.listen)))?;
        let address = listener.local_addr().map_err(failed("cannot listen"))?;
        let http_listener = match options.http {
            Some(http) => Some(
                TcpListener::bind(http)
                    .await
                    .map_err(failed(format!("cannot listen on {http} (--http)")))?,
            ),
            None => None,
        };
        let config = store_config(&options);
        let certs = options.certs.clone().unwrap_or_else(|| options.data.join("certs"));
        let (store, founder) = open_store(config, &options, address, &certs).await?;
        let tls = match (options.insecure, &options.member) {
            (true, _) => None,
            // Every node must trust the others: the certificates are made beforehand.
            (false, Some(_)) => Some(certs::load(&certs)?),
            (false, None) => Some(certs::load_or_make(&certs, options.listen.ip())?),
        };
        let node =
            open_node(Arc::clone(&store)).await.map_err(failed("cannot load the catalog"))?;
        let sessions = Sessions::new(node, options.prepared_max);
        sessions.drop_left_over().await.map_err(failed("cannot drop temporary tables"))?;
        let password = match options.insecure || !founder {
            true => None,
            false => first_password(&sessions).await?,
        };

        let gateway_config = GatewayConfig {
            tls,
            insecure: options.insecure,
            connections_max: options.connections_max,
        };
        let gateway = Gateway::new(gateway_config, sessions);
        let stopping = Arc::new(AtomicBool::new(false));
        let mut tasks = vec![tokio::spawn(Arc::clone(&gateway).run(listener))];
        if let Some(listener) = http_listener {
            let health =
                http::Health { store: Arc::clone(&store), stopping: Arc::clone(&stopping) };
            tasks.push(tokio::spawn(http::serve(listener, health)));
        }
        if options.member.is_some() {
            let remembering = member::remember_nodes(options.data.clone(), Arc::clone(&store));
            tasks.push(tokio::spawn(remembering));
        }
        let insecure = options.insecure;
        let drainer = tokio::spawn(drain::follow(Arc::clone(&store), Arc::clone(&gateway)));
        let running =
            RunningNode { store, gateway, stopping, tasks, drainer, address, password, insecure };
        if options.announce {
            running.announce();
        }
        Ok(running)
    }

    /// Shows the password once; it is never logged. Whoever started the node may have stopped
    /// listening, which is no reason to end.
    fn announce(&self) {
        use std::io::Write;
        let mut out = std::io::stdout();
        if let Some(password) = &self.password {
            let _ = writeln!(
                out,
                "The password of the superuser postgres, shown this once: {password}"
            );
            let _ = writeln!(out, "Connect with: psql '{}'", self.url());
        }
        tracing::info!(address = %self.address, "ready for connections");
    }

    /// A URL by which psql connects to this node.
    pub fn url(&self) -> String {
        self.url_as(self)
    }

    /// As [`RunningNode::url`], with the password that another node of the cluster has made.
    pub(crate) fn url_as(&self, first: &RunningNode) -> String {
        let password = first.password.as_ref().map(|p| format!(":{p}")).unwrap_or_default();
        let mode = if self.insecure { "disable" } else { "require" };
        format!("postgresql://postgres{password}@{}/postgres?sslmode={mode}", self.address)
    }

    /// Ends the sessions and closes the store. Where there are other nodes they get the leases first, while
    /// statements go on here, and transactions may end.
    pub async fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.drainer.abort();
        self.gateway.refuse(Some(drain::shutting_down()));
        if self.store.has_peers() {
            self.store.give_leases_away().await;
            drain::end_sessions(&self.gateway).await;
        }
        self.tasks.iter().for_each(|task| task.abort());
        self.gateway.registry().terminate_all();
        let drained = async {
            while !self.gateway.registry().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
        if let Err(error) = self.store.shutdown().await {
            tracing::error!(%error, "the store did not close well");
        }
    }
}

fn store_config(options: &NodeOptions) -> StoreConfig {
    let mut config = StoreConfig::at(&options.data);
    if let Some(bytes) = options.cache_bytes.or_else(quarter_of_memory) {
        // Two thirds for rows, one third for blocks: point reads gain more than scans.
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        (config.record_cache_bytes, config.block_cache_bytes) = (bytes / 3 * 2, bytes / 3);
    }
    config.locality = options.member.as_ref().map_or_else(String::new, |it| it.locality.clone());
    config
}

/// How long a starting node looks for somebody who leads, before it says that it can't serve.
const LEADER_LIMIT: Duration = Duration::from_secs(60);

/// Opens the store, alone or as one of several; and whether this node is the one whose word comes first.
async fn open_store(
    config: StoreConfig,
    options: &NodeOptions,
    address: SocketAddr,
    certs: &std::path::Path,
) -> Result<(Arc<Store>, bool), Failure> {
    let cannot = || failed(format!("cannot open {}", options.data.display()));
    let Some(member) = &options.member else {
        if member::is_member(&options.data) {
            return Err(Failure(format!(
                "{} belongs to a node of a cluster: start it with `meridian start`",
                options.data.display()
            )));
        }
        return Ok((Store::open(config).await.map_err(cannot())?, true));
    };
    if !member::is_member(&options.data) && options.data.join("engine").exists() {
        return Err(Failure(format!(
            "{} belongs to a node without others: start it with `meridian start-single-node`",
            options.data.display()
        )));
    }
    let tls = if options.insecure { None } else { Some(certs::for_nodes(certs)?) };
    let sql = address.to_string();
    let (membership, nodes) = member::take_part(&options.data, member, sql, tls).await?;
    let founder = membership.founder;
    let store = Store::open_member(config, membership, nodes).await.map_err(cannot())?;
    tokio::select! {
        found = store.await_leaseholder(LEADER_LIMIT) => found.map_err(cannot())?,
        fault = store.refused() => return Err(Failure(fault)),
    }
    Ok((store, founder))
}

/// A quarter of the machine's memory, in bytes, at most 8 GiB.
fn quarter_of_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some((kib * 1024 / 4).min(8 << 30))
}

/// Gives the superuser a random password when the database has just been made.
async fn first_password(sessions: &Arc<Sessions>) -> Result<Option<String>, Failure> {
    if !sessions.superuser_lacks_password() {
        return Ok(None);
    }
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; 24];
    os_bytes(&mut random);
    let password: String =
        random.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)])).collect();
    sessions
        .run_internal(&format!("ALTER ROLE postgres PASSWORD '{password}'"))
        .await
        .map_err(failed("cannot set the first password"))?;
    Ok(Some(password))
}
