//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::start::NodeOptions;
use crate::{Failure, demo, failed, logging, shell, start};

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
    /// Memory for caches, MiB; a quarter of the machine's memory if not given.
    #[arg(long, env = "MERIDIAN_CACHE_MIB")]
    cache_mib: Option<u64>,
    #[command(flatten)]
    log: LogArgs,
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
            demo::run(args.listen, args.insecure, args.no_prompt)
        }
        Command::StartSingleNode(args) => {
            logging::start(&args.log.log, args.log.log_format);
            start::run(NodeOptions {
                data: args.data,
                listen: args.listen,
                http: Some(args.http),
                insecure: args.insecure,
                certs: args.certs,
                connections_max: args.max_connections,
                cache_bytes: args.cache_mib.map(|mib| mib << 20),
                announce: true,
            })
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
