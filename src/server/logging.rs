//! Log lines: to standard error, for people or for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Sets logging up for the process; a second call changes nothing.
pub(crate) fn start(filter: &str, format: Option<LogFormat>) {
    let filter = EnvFilter::try_new(format!(
        "openraft=warn,fjall=warn,lsm_tree=warn,sqlparser=warn,{filter}"
    ))
    .unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Pretty => builder.with_ansi(terminal).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
