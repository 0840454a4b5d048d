//! The catalog's changes on their way to other nodes.
//!
//! A transaction that has changed the catalog tells every node before it gives its table locks back, and
//! before its client hears of the commit: whoever is told of it sees its tables, on any node. Tables that
//! existed before are locked everywhere meanwhile, so nobody uses an old form of them.
//!
//! A node that was out of reach reads the whole catalog again.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt;
use futures::future;
use meridian_catalog::{Catalog, Descriptor, DescriptorId, Overlay};
use meridian_cluster::Txn;
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result};
use serde::{Deserialize, Serialize};

use super::{load, publish};
use crate::context::Node;

/// One changed descriptor.
#[derive(Serialize, Deserialize)]
struct Change {
    class: u8,
    oid: Oid,
    /// Absent: dropped.
    now: Option<Descriptor>,
}

/// The changes as they are told to other nodes.
fn encode(overlay: &Overlay) -> Result<Bytes> {
    let changes: Vec<Change> = overlay
        .changes()
        .map(|(id, now)| Change { class: id.class, oid: id.oid, now: now.clone() })
        .collect();
    let json = serde_json::to_vec(&changes)
        .map_err(|e| PgError::internal(format!("a descriptor has no JSON form: {e}")))?;
    Ok(json.into())
}

/// Tells the other nodes on which the transaction has locked what it has changed: those that it hasn't read the
/// catalog before they use it.
pub async fn announce(node: &Node, overlay: &Overlay, txn: &Txn) -> Result<()> {
    if !overlay.is_empty() && node.store().has_peers() {
        node.store().announce(encode(overlay)?, Some(txn.locked_nodes())).await;
    }
    Ok(())
}

/// Has this node follow the changes that others announce.
pub(super) fn follow(node: &Arc<Node>) {
    let weak = Arc::downgrade(node);
    node.store().on_announcement(move |change| {
        let reading = || reload(Weak::clone(&weak)).boxed();
        let Some(node) = weak.upgrade() else { return future::ready(()).boxed() };
        if change.is_empty() {
            return reading();
        }
        match serde_json::from_slice::<Vec<Change>>(&change) {
            Ok(changes) => {
                apply(&node, changes);
                future::ready(()).boxed()
            }
            Err(error) => {
                tracing::error!(%error, "a change of the catalog cannot be read; reading all of it");
                reading()
            }
        }
    });
}

/// Nobody knows whether a change of the catalog was committed: every node reads it again.
pub async fn reread(node: &Arc<Node>) {
    reload(Arc::downgrade(node)).await;
    node.store().announce(Bytes::new(), None).await;
}

fn apply(node: &Node, changes: Vec<Change>) {
    let mut overlay = Overlay::new(node.catalog());
    for Change { class, oid, now } in changes {
        match now {
            Some(descriptor) => overlay.put(descriptor),
            None => overlay.remove(DescriptorId { class, oid }),
        }
    }
    publish(node, &overlay);
}

/// Reads the whole catalog again, as often as it changes meanwhile.
async fn reload(node: Weak<Node>) {
    loop {
        let Some(node) = node.upgrade() else { return };
        let before = node.catalog_epoch();
        let reading = async {
            // Whoever changed it may be gone while its commit is still on the way.
            node.store().settle().await.map_err(super::kv)?;
            load(node.store()).await
        };
        let loaded: Catalog = match reading.await {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::warn!(%error, "the catalog could not be read; trying again");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                continue;
            }
        };
        if node.catalog_epoch() == before {
            // Often somebody only had to make sure.
            if !node.catalog().same_as(&loaded) {
                node.update_catalog(|_| loaded.clone());
                node.store().catalog_was_old();
            }
            return;
        }
    }
}
