//! Repair of fjall's journal after a power failure.
//!
//! The journal is not synced on the write path, so a power failure may leave holes in what was written
//! since the last checkpoint. Where a hole breaks the *structure*, fjall itself cuts the journal there; a
//! hole inside a value only breaks the batch's checksum, and fjall refuses to open. Here the journal is
//! read in the same format and cut after the last batch that checks.
//!
//! Cutting is safe only because everything after the last checkpoint is still in the raft log and will be
//! applied again; whether the cut went *below* the checkpoint is checked by whoever replays the log
//! (`durable_applied` against the recovered applied index). Only the newest journal may be cut: older ones
//! were synced when they were sealed, damage there is corruption.
//!
//! ```text
//! start 01 │ items:u32 │ seqno:u64
//! item  02 │ type │ compression │ keyspace:u64 │ key len:u16 │ value len:u32 │ stored len:u32 │ key │ value
//! clear 04 │ keyspace:u64
//! end   03 │ xxh3 of the items:u64 │ magic
//! ```

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::StorageError;

const START_BYTES: usize = 13;
const ITEM_HEADER_BYTES: usize = 21;
const CLEAR_BYTES: usize = 9;
const END_BYTES: usize = 9;

/// The journal files, oldest first.
pub(crate) fn files(dir: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| StorageError::file("list", dir, e))? {
        let path = entry.map_err(|e| StorageError::file("list", dir, e))?.path();
        if path.extension().is_some_and(|ext| ext == "jnl") {
            let id = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok());
            found.extend(id.map(|id| (id, path)));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Cuts the newest journal after its last whole batch.
pub(crate) fn repair(dir: &Path) -> Result<(), StorageError> {
    let files = files(dir)?;
    let Some((newest, sealed)) = files.split_last() else {
        return Err(StorageError::Corruption("the engine has no journal".into()));
    };
    for path in sealed {
        let bytes = std::fs::read(path).map_err(|e| StorageError::file("read", path, e))?;
        let (_, end) = whole_batches(&bytes);
        if end == End::Broken {
            let path = path.display();
            return Err(StorageError::Corruption(format!("the engine's sealed journal {path}")));
        }
    }
    let bytes = std::fs::read(newest).map_err(|e| StorageError::file("read", newest, e))?;
    let (keep, _) = whole_batches(&bytes);
    let cut = || {
        let file: File = OpenOptions::new().write(true).open(newest)?;
        file.set_len(keep as u64)?;
        file.sync_all()
    };
    cut().map_err(|e| StorageError::file("cut", newest, e))
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// At the end of the file or at the zeros behind the last batch.
    Clean,
    /// At a batch that does not check.
    Broken,
}

/// Bytes of the leading batches that check.
fn whole_batches(bytes: &[u8]) -> (usize, End) {
    let mut at = 0;
    while at < bytes.len() && bytes[at] != 0 {
        match batch_len(&bytes[at..]) {
            Some(len) => at += len,
            None => return (at, End::Broken),
        }
    }
    (at, End::Clean)
}

fn batch_len(bytes: &[u8]) -> Option<usize> {
    if *bytes.first()? != 1 {
        return None;
    }
    let items = u32::from_le_bytes(bytes.get(1..5)?.try_into().ok()?);
    let mut at = START_BYTES;
    for _ in 0..items {
        at += match *bytes.get(at)? {
            2 => item_len(bytes.get(at..)?)?,
            4 => CLEAR_BYTES,
            _ => return None,
        };
    }
    let sum = xxh3_64(bytes.get(START_BYTES..at)?);
    let end = bytes.get(at..at + END_BYTES)?;
    let magic: &[u8] = b"FJL\x03";
    let whole = end[0] == 3
        && end[1..] == sum.to_le_bytes()
        && bytes.get(at + END_BYTES..at + END_BYTES + magic.len())? == magic;
    whole.then_some(at + END_BYTES + magic.len())
}

fn item_len(item: &[u8]) -> Option<usize> {
    let compression_bytes = 1;
    let at = 2 + compression_bytes + 8;
    let key_len = u16::from_le_bytes(item.get(at..at + 2)?.try_into().ok()?) as usize;
    let stored_len = u32::from_le_bytes(item.get(at + 6..at + 10)?.try_into().ok()?) as usize;
    Some(ITEM_HEADER_BYTES + key_len + stored_len)
}
