//! `meridian demo`: a database in a temporary directory that is gone when the command ends.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meridian_base::rng::os_bytes;
use meridian_cluster::member::{JoinRequest, Tls};
use tokio::net::TcpListener;

use crate::cli::SqlArgs;
use crate::member::{self, MemberOptions};
use crate::start::{NodeOptions, RunningNode, runtime, termination};
use crate::{Failure, certs, failed, shell};

/// Runs the demo until its prompt is left or a signal comes.
pub(crate) fn run(
    listen: SocketAddr,
    insecure: bool,
    no_prompt: bool,
    count: u16,
) -> Result<(), Failure> {
    let dir = TempDir::make()?;
    runtime()?.block_on(async {
        let nodes = start_nodes(&dir.0, listen, insecure, count.max(1)).await?;
        say(&nodes, &dir.0, insecure);
        let outcome =
            if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !no_prompt {
                let args = SqlArgs { url: nodes[0].url(), ca: None, execute: vec![] };
                tokio::select! {
                    outcome = shell::run(&args) => outcome,
                    () = termination() => Ok(()),
                }
            } else {
                termination().await;
                Ok(())
            };
        for node in nodes {
            node.stop().await;
        }
        outcome
    })
}

/// Starts this many nodes, the first of which founds the cluster that the others join.
async fn start_nodes(
    dir: &Path,
    listen: SocketAddr,
    insecure: bool,
    count: u16,
) -> Result<Vec<RunningNode>, Failure> {
    let options = |number: u16, listen: SocketAddr| NodeOptions {
        data: if count == 1 { dir.to_owned() } else { dir.join(format!("node{number}")) },
        listen,
        http: None,
        insecure,
        certs: None,
        connections_max: 10_000,
        prepared_max: None,
        cache_bytes: None,
        announce: false,
        member: None,
    };
    let listen = free_address(listen).await;
    if count == 1 {
        return Ok(vec![RunningNode::start(options(1, listen)).await?]);
    }
    let certs = dir.join("certs");
    if !insecure {
        certs::make_ca(&certs)?;
        certs::make_node(&certs, &certs, Vec::new())?;
    }
    let tls = if insecure { None } else { Some(certs::for_nodes(&certs)?) };
    let first_peer = free_peer()?;
    let mut starting = Vec::new();
    for number in 1..=count {
        let peer = if number == 1 { first_peer.clone() } else { free_peer()? };
        let join = if number == 1 { Vec::new() } else { vec![first_peer.clone()] };
        let port = listen.port().checked_add(number - 1).filter(|_| listen.port() != 0);
        let at = SocketAddr::new(listen.ip(), port.unwrap_or(0));
        let mut node = options(number, free_address(at).await);
        node.certs = (!insecure).then(|| certs.clone());
        let locality = String::new();
        node.member = Some(MemberOptions { peer, join, locality, clock_offset: 0 });
        starting.push(tokio::spawn(RunningNode::start(node)));
        if number == 1 {
            found(&first_peer, tls.clone()).await?;
        }
    }
    let mut nodes = Vec::new();
    for node in starting {
        nodes.push(node.await.map_err(failed("a node could not start"))??);
    }
    Ok(nodes)
}

/// Has the first node found the cluster, as soon as it listens.
async fn found(peer: &str, tls: Option<Tls>) -> Result<(), Failure> {
    for _ in 0..500 {
        let request = JoinRequest { found: true, ..JoinRequest::default() };
        if member::operate(peer, tls.clone(), request).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(Failure("the first node does not answer".into()))
}

fn free_peer() -> Result<String, Failure> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    free.map(|address| address.to_string()).map_err(failed("there is no free port"))
}

/// The address asked for, or a free port beside it when that one is taken.
async fn free_address(listen: SocketAddr) -> SocketAddr {
    match TcpListener::bind(listen).await {
        Ok(_) => listen,
        Err(_) => SocketAddr::new(listen.ip(), 0),
    }
}

#[expect(clippy::print_stdout, reason = "what the command was asked for")]
fn say(nodes: &[RunningNode], dir: &Path, insecure: bool) {
    println!("Meridian is running. Connect with:\n");
    // The password is the first node's to tell; it is good on all of them.
    for node in nodes {
        println!("    psql '{}'", node.url_as(&nodes[0]));
    }
    println!();
    if !insecure {
        println!("Its certificate authority is {}", dir.join("certs/ca.crt").display());
    }
    println!("All data are gone when this command ends.");
}

/// A directory that is removed when this is dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn make() -> Result<TempDir, Failure> {
        let mut tail = [0; 4];
        os_bytes(&mut tail);
        let tail = u32::from_be_bytes(tail);
        let name = format!("meridian-demo-{}-{tail:x}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .map_err(failed(format!("cannot make {}", path.display())))?;
        Ok(TempDir(path))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
