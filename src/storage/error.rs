//! What can go wrong below the state machine, sorted by what the caller does about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error of the local store. None of them is an answer to a client's request: they are about this
/// node, and all but [`StorageError::Locked`] and [`StorageError::DiskFull`] mean that the node must
/// stop serving from this directory.
#[derive(Debug)]
pub enum StorageError {
    /// The operating system refused an operation (SQLSTATE 58030).
    Io {
        /// What was being done, in the present tense: "write log segment …".
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// No space left; reads go on, writes are refused (53100).
    DiskFull,
    /// Stored bytes are not what was written, or acknowledged data is missing (XX001). The store must not
    /// be opened for voting or serving.
    Corruption(String),
    /// Another process has the directory open.
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its process id, when it could be read.
        pid: Option<u32>,
    },
    /// The log or engine has been closed, or an earlier failure poisoned it.
    Stopped(String),
}

impl StorageError {
    /// Wraps an I/O error with what was being done; a full disk becomes [`StorageError::DiskFull`].
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { doing: doing.into(), source },
        }
    }

    /// Wraps an I/O error on a file.
    pub fn file(verb: &str, path: &Path, source: io::Error) -> Self {
        Self::io(format!("{verb} {}", path.display()), source)
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, source } => write!(f, "could not {doing}: {source}"),
            Self::DiskFull => f.write_str("no space left on the data directory's disk"),
            Self::Corruption(what) => write!(f, "stored data is damaged: {what}"),
            Self::Locked { path, pid: Some(pid) } => {
                write!(f, "data directory {} is in use by process {pid}", path.display())
            }
            Self::Locked { path, pid: None } => {
                write!(f, "data directory {} is in use by another process", path.display())
            }
            Self::Stopped(why) => write!(f, "the store has stopped: {why}"),
        }
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
