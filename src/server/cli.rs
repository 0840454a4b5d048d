//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use meridian_cluster::member::{JoinReply, JoinRequest};

use crate::member::MemberOptions;
use crate::start::NodeOptions;
use crate::{Failure, certs, demo, failed, logging, member, recover, shell, start};

/// A PostgreSQL wire-compatible, distributed SQL database.
#[derive(Parser, Debug)]
#[command(name = "meridian", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a throw-away database in this process, print its URL, and open a prompt on a terminal.
    Demo(DemoArgs),
    /// Run a database of one node on a data directory.
    StartSingleNode(StartArgs),
    /// Run one node of a cluster.
    Start(ClusterArgs),
    /// Found a cluster: once, at one of its nodes.
    Init(HostArgs),
    /// Ask about the nodes of a cluster, or have one leave.
    Node {
        #[command(subcommand)]
        action: NodeAction,
    },
    /// Go on with one node when a majority of the others is gone for good. The node must not be running.
    Recover {
        /// Its data directory.
        #[arg(long, env = "MERIDIAN_DATA")]
        data: PathBuf,
        /// Do it; without this, only say what would be done.
        #[arg(long)]
        accept_data_loss: bool,
    },
    /// Make certificates for a cluster.
    Cert {
        #[command(subcommand)]
        action: CertAction,
    },
    /// A small SQL shell (psql is the full one).
    Sql(SqlArgs),
    /// Print the version.
    Version,
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Coloured lines for people.
    Pretty,
    /// One JSON object a line.
    Json,
}

#[derive(Args, Debug)]
struct LogArgs {
    /// Form of log lines; pretty when standard error is a terminal.
    #[arg(long, env = "MERIDIAN_LOG_FORMAT", value_enum)]
    log_format: Option<LogFormat>,
    /// What is logged, for instance `info` or `meridian_cluster=debug`.
    #[arg(long, env = "MERIDIAN_LOG", default_value = "info")]
    log: String,
}

#[derive(Args, Debug)]
struct DemoArgs {
    /// Address for Postgres clients; a free port is taken when this one is in use.
    #[arg(long, env = "MERIDIAN_LISTEN", default_value = "127.0.0.1:5432")]
    listen: SocketAddr,
    /// Neither TLS nor passwords; loopback addresses only.
    #[arg(long)]
    insecure: bool,
    /// Do not open a prompt, even on a terminal.
    #[arg(long)]
    no_prompt: bool,
    /// Nodes, all in this process.
    #[arg(long, default_value_t = 1)]
    nodes: u16,
}

#[derive(Args, Debug)]
struct StartArgs {
    /// Directory of the database; it is made when it does not exist.
    #[arg(long, env = "MERIDIAN_DATA")]
    data: PathBuf,
    /// Address for Postgres clients.
    #[arg(long, env = "MERIDIAN_LISTEN", default_value = "127.0.0.1:5432")]
    listen: SocketAddr,
    /// Address for health checks.
    #[arg(long, env = "MERIDIAN_HTTP", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Neither TLS nor passwords; refused on any address but loopback.
    #[arg(long, env = "MERIDIAN_INSECURE")]
    insecure: bool,
    /// Directory with ca.crt, node.crt and node.key; DATA/certs, made at first start, if not given.
    #[arg(long, env = "MERIDIAN_CERTS")]
    certs: Option<PathBuf>,
    /// Sessions that may be open at once.
    #[arg(long, env = "MERIDIAN_MAX_CONNECTIONS", default_value_t = 10_000)]
    max_connections: usize,
    /// Transactions that may be prepared at once (PREPARE TRANSACTION), in the whole cluster; 64 if not given,
    /// 0 for none.
    #[arg(long, env = "MERIDIAN_MAX_PREPARED_TRANSACTIONS")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=262_143))]
    max_prepared_transactions: Option<u32>,
    /// Memory for caches, MiB; a quarter of the machine's memory if not given.
    #[arg(long, env = "MERIDIAN_CACHE_MIB")]
    cache_mib: Option<u64>,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Args, Debug)]
struct ClusterArgs {
    #[command(flatten)]
    node: StartArgs,
    /// Where other nodes reach this one: HOST:PORT.
    #[arg(long, env = "MERIDIAN_PEER", default_value = "127.0.0.1:7432")]
    peer: String,
    /// Nodes of the cluster to ask to be let in: HOST:PORT, separated by commas.
    #[arg(long, env = "MERIDIAN_JOIN", value_delimiter = ',')]
    join: Vec<String>,
    /// Where this node is, from the widest tier to the narrowest: region=eu,zone=a. Copies are spread.
    #[arg(long, env = "MERIDIAN_LOCALITY", default_value = "")]
    locality: String,
    /// Milliseconds by which the node's clock is to be wrong.
    #[arg(long, hide = true, default_value_t = 0, allow_hyphen_values = true)]
    test_clock_offset: i64,
}

/// A node to talk to, as an operator.
#[derive(Args, Debug)]
struct HostArgs {
    /// Peer address of any node: HOST:PORT.
    #[arg(long, env = "MERIDIAN_HOST", default_value = "127.0.0.1:7432")]
    host: String,
    /// The cluster runs without certificates.
    #[arg(long, env = "MERIDIAN_INSECURE")]
    insecure: bool,
    /// Directory with ca.crt, node.crt and node.key.
    #[arg(long, env = "MERIDIAN_CERTS", required_unless_present = "insecure")]
    certs: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum NodeAction {
    /// Show the nodes.
    Status(HostArgs),
    /// Have a node lead nothing and take no connections, so that it can be worked on. A start ends that.
    Drain {
        /// The node's id, as `node status` shows it.
        node: u64,
        /// It is to be as before.
        #[arg(long)]
        cancel: bool,
        /// Seconds for which its sessions may go on.
        #[arg(long, default_value_t = 60, conflicts_with = "cancel")]
        sessions: u32,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Have a node give up its copies, so that it can be stopped for good.
    Decommission {
        /// The node's id, as `node status` shows it.
        node: u64,
        #[command(flatten)]
        host: HostArgs,
    },
}

#[derive(Subcommand, Debug)]
enum CertAction {
    /// Make a certificate authority.
    CreateCa {
        /// Where it is kept; keep `ca.key` safe.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Make a node's certificate and key.
    CreateNode {
        /// Directory of the certificate authority.
        #[arg(long)]
        ca: PathBuf,
        /// Where the node's files go.
        #[arg(long)]
        dir: PathBuf,
        /// Names and addresses by which the node is reached, beside localhost.
        hosts: Vec<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct SqlArgs {
    /// Where to connect, as a postgresql:// URL.
    #[arg(
        long,
        env = "MERIDIAN_URL",
        default_value = "postgresql://postgres@127.0.0.1:5432/postgres?sslmode=prefer"
    )]
    pub(crate) url: String,
    /// Certificate that the server's must be signed by; without it the server is not verified.
    #[arg(long, env = "MERIDIAN_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// Run these statements and end.
    #[arg(short = 'c', long = "execute")]
    pub(crate) execute: Vec<String>,
}

impl StartArgs {
    fn options(self, member: Option<MemberOptions>) -> NodeOptions {
        NodeOptions {
            data: self.data,
            listen: self.listen,
            http: Some(self.http),
            insecure: self.insecure,
            certs: self.certs,
            connections_max: self.max_connections,
            prepared_max: self.max_prepared_transactions,
            cache_bytes: self.cache_mib.map(|mib| mib << 20),
            announce: true,
            member,
        }
    }
}

impl HostArgs {
    fn ask(self, request: JoinRequest) -> Result<JoinReply, Failure> {
        let tls = match self.certs.filter(|_| !self.insecure) {
            Some(dir) => Some(certs::for_nodes(&dir)?),
            None => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed("cannot start"))?;
        runtime.block_on(member::operate(&self.host, tls, request))
    }
}

/// Runs the program: the whole of `main`.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            say_error(&message);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one line that a failed command leaves")]
fn say_error(message: &str) {
    eprintln!("meridian: {message}");
}

#[expect(clippy::print_stdout, reason = "what the command was asked for")]
fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => {
            logging::start("warn", None);
            demo::run(args.listen, args.insecure, args.no_prompt, args.nodes)
        }
        Command::StartSingleNode(args) => {
            logging::start(&args.log.log, args.log.log_format);
            start::run(args.options(None))
        }
        Command::Start(ClusterArgs { node, peer, join, locality, test_clock_offset }) => {
            logging::start(&node.log.log, node.log.log_format);
            let clock_offset = test_clock_offset;
            let member = MemberOptions { peer, join, locality, clock_offset };
            start::run(node.options(Some(member)))
        }
        Command::Init(host) => {
            let request = JoinRequest { found: true, ..JoinRequest::default() };
            let founded = host.ask(request)?;
            println!("Founded cluster {:032x}.", founded.cluster());
            Ok(())
        }
        Command::Node { action } => nodes(action),
        Command::Recover { data, accept_data_loss } => {
            println!("{}", recover::recover(&data, accept_data_loss)?);
            Ok(())
        }
        Command::Cert { action } => match action {
            CertAction::CreateCa { dir } => certs::make_ca(&dir),
            CertAction::CreateNode { ca, dir, hosts } => certs::make_node(&ca, &dir, hosts),
        },
        Command::Sql(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(failed("cannot start"))?;
            runtime.block_on(shell::run(&args))
        }
        Command::Version => {
            println!("meridian {}", env!("CARGO_PKG_VERSION"));
            println!("behaves as PostgreSQL {}", meridian_session::settings::SERVER_VERSION);
            Ok(())
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "meridian", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// Asks about nodes, or for one to leave or to rest, and shows them.
#[expect(clippy::print_stdout, reason = "what the command was asked for")]
fn nodes(action: NodeAction) -> Result<(), Failure> {
    let asked = |action: &str, node: u64, patience: u32| JoinRequest {
        action: action.to_owned(),
        node,
        patience,
        ..JoinRequest::default()
    };
    let (host, request) = match action {
        NodeAction::Status(host) => (host, asked("status", 0, 0)),
        NodeAction::Drain { node, cancel: true, host, .. } => (host, asked("undrain", node, 0)),
        NodeAction::Drain { node, sessions, host, .. } => (host, asked("drain", node, sessions)),
        NodeAction::Decommission { node, host } => (host, asked("decommission", node, 0)),
    };
    let answer = host.ask(request)?;
    println!(
        "{:>4}  {:<5}  {:<12}  {:>6}  {:<22}  {:<22}  locality",
        "id", "live", "role", "leases", "peer", "sql"
    );
    for node in answer.nodes {
        let live = if node.live { "yes" } else { "no" };
        let role = match (node.leaving, node.draining) {
            (true, _) => format!("{} (leaving)", node.role),
            (_, true) => format!("{} (draining)", node.role),
            (false, false) => node.role,
        };
        let (leases, peer, sql) = (node.leases, node.address, node.sql_address);
        let (id, place) = (node.id, node.locality);
        let line =
            format!("{id:>4}  {live:<5}  {role:<12}  {leases:>6}  {peer:<22}  {sql:<22}  {place}");
        println!("{}", line.trim_end());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
