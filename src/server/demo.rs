//! `meridian demo`: a database in a temporary directory that is gone when the command ends.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;

use meridian_base::rng::os_bytes;
use tokio::net::TcpListener;

use crate::cli::SqlArgs;
use crate::start::{NodeOptions, RunningNode, runtime, termination};
use crate::{Failure, failed, shell};

/// Runs the demo until its prompt is left or a signal comes.
pub(crate) fn run(listen: SocketAddr, insecure: bool, no_prompt: bool) -> Result<(), Failure> {
    let dir = TempDir::make()?;
    runtime()?.block_on(async {
        let options = NodeOptions {
            data: dir.0.clone(),
            listen: free_address(listen).await,
            http: None,
            insecure,
            certs: None,
            connections_max: 10_000,
            cache_bytes: None,
            announce: false,
        };
        let node = RunningNode::start(options).await?;
        let url = node.url();
        say(&url, &dir.0, insecure);
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !no_prompt {
            let args = SqlArgs { url, ca: None, execute: vec![] };
            let outcome = tokio::select! {
                outcome = shell::run(&args) => outcome,
                () = termination() => Ok(()),
            };
            node.stop().await;
            outcome
        } else {
            termination().await;
            node.stop().await;
            Ok(())
        }
    })
}

/// The address asked for, or a free port beside it when that one is taken.
async fn free_address(listen: SocketAddr) -> SocketAddr {
    match TcpListener::bind(listen).await {
        Ok(_) => listen,
        Err(_) => SocketAddr::new(listen.ip(), 0),
    }
}

#[expect(clippy::print_stdout, reason = "what the command was asked for")]
fn say(url: &str, dir: &std::path::Path, insecure: bool) {
    println!("Meridian is running. Connect with:\n\n    psql '{url}'\n");
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
