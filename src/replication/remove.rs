//! Removing a replica.
//!
//! First a tombstone is made durable that names the content, then the content goes, then the log forgets
//! the group. A start that finds a tombstone of a group that the log still knows finishes the work.
//!
//! ```text
//! cur   R ‖ range ‖ "destroyed"   → parts │ whatever the owner wants to know of it later
//! ```

use std::sync::Arc;

use bytes::Bytes;
use meridian_base::{RangeId, keys};
use meridian_storage::{Engine, Keyspace, LogWrite, RaftLog, StorageError, WriteBatch};

use crate::install;
use crate::node::Node;
use crate::open::write_through;
use crate::snapshot::{self, Part};
use crate::state_machine;

pub(crate) fn tombstone_key(group: RangeId) -> Vec<u8> {
    keys::range_state_key(group, b"destroyed")
}

fn read(engine: &dyn Engine, group: RangeId) -> Result<Option<(Vec<Part>, Bytes)>, StorageError> {
    let Some(mut value) = engine.get(Keyspace::Cur, &tombstone_key(group))? else {
        return Ok(None);
    };
    let damaged = || StorageError::Corruption(format!("the tombstone of {group}"));
    let parts = snapshot::take_parts(&mut value).ok_or_else(damaged)?;
    Ok(Some((parts, value)))
}

pub(crate) fn tombstone(
    engine: &dyn Engine,
    group: RangeId,
) -> Result<Option<Bytes>, StorageError> {
    Ok(read(engine, group)?.map(|(_, owner)| owner))
}

/// The range is to live here again.
pub(crate) async fn clear_tombstone(node: &Node, group: RangeId) -> Result<(), StorageError> {
    if read(node.engine.as_ref(), group)?.is_none() {
        return Ok(());
    }
    let mut batch = WriteBatch::default();
    batch.delete(Keyspace::Cur, tombstone_key(group));
    node.engine.apply(batch)?;
    // Before the log knows the group: otherwise the next start would remove it.
    let engine = Arc::clone(&node.engine);
    let persisted = node.runtime.spawn_blocking(move || engine.persist()).await;
    persisted.map_err(|e| StorageError::Stopped(e.to_string()))?
}

/// Removes what a tombstone names from the engine; to be made durable before the log forgets the group.
async fn sweep(engine: &dyn Engine, group: RangeId, parts: &[Part]) -> Result<(), StorageError> {
    install::remove_content(engine, group, parts).await?;
    install::drop_staged(engine, group).await?;
    let mut batch = WriteBatch::default();
    state_machine::delete_markers(group, &mut batch);
    batch.delete(Keyspace::Cur, install::flag_key(group));
    engine.apply(batch)
}

pub(crate) async fn remove(
    node: &Arc<Node>,
    id: RangeId,
    owner: Bytes,
) -> Result<(), StorageError> {
    let open = node.groups.write().remove(&id);
    let Some(group) = open else {
        return Err(StorageError::Stopped(format!("range {id} is not open")));
    };
    // A group that has failed is removed like any other.
    let _ = group.raft.shutdown().await;
    let parts = snapshot::parts_of(id, group.applier.content().unwrap_or_default());
    group.applier.leaving();
    let mut value = Vec::new();
    snapshot::put_parts(&mut value, &parts);
    value.extend_from_slice(&owner);
    let (engine, log) = (Arc::clone(&node.engine), Arc::clone(&node.log));
    let work = async move {
        let mut batch = WriteBatch::default();
        batch.put(Keyspace::Cur, tombstone_key(id), value);
        engine.apply(batch)?;
        install::persist(&engine).await?;
        sweep(engine.as_ref(), id, &parts).await?;
        install::persist(&engine).await?;
        write_through(log.as_ref(), id, vec![LogWrite::Forget]).await
    };
    let done = node.runtime.spawn(work).await;
    done.map_err(|e| StorageError::Stopped(e.to_string()))?
}

/// Finishes the removals that a crash interrupted. Blocks.
pub(crate) fn finish_removals(log: &dyn RaftLog, engine: &dyn Engine) -> Result<(), StorageError> {
    for group in log.groups() {
        if let Some((parts, _)) = read(engine, group)? {
            futures::executor::block_on(sweep(engine, group, &parts))?;
            engine.persist()?;
            let forget = vec![LogWrite::Forget];
            futures::executor::block_on(write_through(log, group, forget))?;
        }
    }
    Ok(())
}
