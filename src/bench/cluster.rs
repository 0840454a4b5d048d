//! Connections, spread over the nodes of a cluster.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::Target;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The nodes of one database; one for PostgreSQL.
pub struct Cluster {
    nodes: Vec<Config>,
    tls: MakeRustlsConnect,
}

impl Cluster {
    /// The nodes that the command line names; nothing is connected yet.
    pub fn new(target: &Target, application: &str) -> Result<Self> {
        let node = |url: &String| {
            let mut node = Config::from_str(url).with_context(|| format!("cannot read {url}"))?;
            node.application_name(application).connect_timeout(CONNECT_TIMEOUT);
            Ok(node)
        };
        let nodes = target.url.iter().map(node).collect::<Result<_>>()?;
        Ok(Self { nodes, tls: compat_tests::tls::connector()? })
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Connects to the node of the `number`-th connection, or to the next that answers.
    pub async fn connect(&self, number: usize) -> Result<Client> {
        let mut first = None;
        for attempt in 0..self.nodes.len() {
            let node = &self.nodes[(number + attempt) % self.nodes.len()];
            match node.connect(self.tls.clone()).await {
                Ok((client, connection)) => {
                    // Its end is seen by the client, whose next statement fails.
                    tokio::spawn(connection);
                    return Ok(client);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.context("no URL is given")?).context("cannot connect to any node")
    }
}
