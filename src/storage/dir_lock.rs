//! One process per data directory.
//!
//! An advisory lock (`flock`) on a file in the directory; the kernel releases it when the process ends, however it
//! ends. The owner writes its process id into the file so that the second process can say who is in the way.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::StorageError;

/// Held for as long as the directory is in use.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Locks a directory, creating it if missing.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when another process has it; I/O.
    pub fn acquire(dir: &Path) -> Result<Self, StorageError> {
        std::fs::create_dir_all(dir).map_err(|e| StorageError::file("create", dir, e))?;
        let path = dir.join("LOCK");
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|e| StorageError::file("open", &path, e))?;
        if flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(StorageError::Locked { path: dir.to_owned(), pid });
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|e| StorageError::file("write", &path, e))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_owner_learns_who_is_first() {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = DataDirLock::acquire(dir.path()).expect("free");
        let refused = DataDirLock::acquire(dir.path()).expect_err("taken").to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        DataDirLock::acquire(dir.path()).expect("free again");
    }
}
