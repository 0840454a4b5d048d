//! What is left of a cluster whose majority is gone for good: one node goes on alone.
//!
//! See [`meridian_replication::make_sole_voter`] for what is done to a range. Ranges of which this node has no
//! replica are lost; what their neighbours know of them stays, so that who asks for their rows hears that
//! nobody leads them, and not that there are none.

use std::path::Path;

use meridian_base::NodeId;
use meridian_replication::{Survivor, make_sole_voter, survivors};
use meridian_storage::engine::Engine;
use meridian_storage::{DataDirLock, FjallConfig, FjallEngine, GcHandle, LogConfig, SegLog};

use crate::StoreError;

/// The replicas in a data directory that nobody uses.
pub fn replicas_in(dir: &Path) -> Result<Vec<Survivor>, StoreError> {
    with(dir, |log, engine| survivors(log, engine))
}

/// Makes the node of this data directory the only voter of all ranges of which it has a replica.
pub fn go_on_alone(dir: &Path, me: NodeId) -> Result<Vec<Survivor>, StoreError> {
    with(dir, |log, engine| {
        let found = survivors(log, engine)?;
        for survivor in &found {
            make_sole_voter(log, engine, survivor.range, me)?;
        }
        Ok(found)
    })
}

fn with<T>(
    dir: &Path,
    what: impl FnOnce(&SegLog, &dyn Engine) -> Result<T, meridian_storage::StorageError>,
) -> Result<T, StoreError> {
    let _lock = DataDirLock::acquire(dir)?;
    let engine = FjallEngine::open(&FjallConfig::new(dir.join("engine")), &GcHandle::new())?;
    let log = SegLog::open(LogConfig::new(dir.join("log")))?;
    let done = what(&log, &engine);
    log.close();
    Ok(done?)
}
