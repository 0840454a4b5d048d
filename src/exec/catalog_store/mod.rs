//! Where descriptors live: rows of a system table, read whole when the node starts.
//!
//! The key of a descriptor is the system table's prefix, its class and its oid; the value is JSON.
//! DDL writes descriptors into the same transaction as everything else, so that it commits and rolls
//! back with it; the new catalog becomes the node's after the commit, while the transaction still
//! holds its table locks ([`publish`]).

mod announce;
mod past;
mod storage;
mod view;

use std::sync::Arc;

use bytes::Bytes;
use meridian_catalog::snapshot::initial_changes;
use meridian_catalog::{Catalog, Descriptor, DescriptorId, FIRST_NORMAL_OID, Overlay, key};
use meridian_cluster::{KvError, Span, Store, Txn, TxnOptions};
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result};

use crate::context::Node;
use crate::error::from_kv;

pub use announce::{announce, reread};
pub use past::same_form_then;
pub use view::{SessionCatalog, SessionIdentity, quote_ident};

/// Storage id of the system table of descriptors.
pub const DESCRIPTOR_STORAGE_ID: u32 = 1;
/// Durable counter of oids, counted from [`FIRST_NORMAL_OID`].
const OID_COUNTER: &[u8] = b"oid";

fn descriptor_key(id: DescriptorId) -> Bytes {
    let mut out = key::index_prefix(DESCRIPTOR_STORAGE_ID, 1).to_vec();
    out.push(id.class);
    out.extend_from_slice(&id.oid.to_be_bytes());
    out.into()
}

fn put(txn: &mut Txn, id: DescriptorId, descriptor: Option<&Descriptor>) -> Result<()> {
    let key = descriptor_key(id);
    match descriptor {
        Some(descriptor) => {
            let json = serde_json::to_vec(descriptor)
                .map_err(|e| PgError::internal(format!("a descriptor has no JSON form: {e}")))?;
            txn.put(key, json.into());
        }
        None => txn.delete(key),
    }
    Ok(())
}

/// Opens a node over a store: on the first start writes what every cluster begins with, then reads
/// all descriptors.
pub async fn open_node(store: Arc<Store>) -> Result<Arc<Node>> {
    let present = storage::present(&store)?;
    let mut catalog = load(&store).await?;
    if catalog.databases().next().is_none() {
        let mut txn = store.begin(TxnOptions::default());
        for (id, descriptor) in initial_changes() {
            put(&mut txn, id, descriptor.as_ref())?;
        }
        txn.commit().await.map_err(from_kv)?;
        txn.release_locks();
        catalog = Catalog::initial();
    }
    store.bury(storage::unknown(&present, &catalog));
    crate::rowid::set_node(store.node());
    let node = Node::new(store, Arc::new(catalog))?;
    announce::follow(&node);
    Ok(node)
}

async fn load(store: &Arc<Store>) -> Result<Catalog> {
    let mut txn = store.begin(TxnOptions::default());
    let span = Span::prefix(&key::index_prefix(DESCRIPTOR_STORAGE_ID, 1));
    let mut scan = txn.scan(span, false).await.map_err(from_kv)?;
    let mut catalog = Catalog::default();
    let mut rows = Vec::new();
    loop {
        rows.clear();
        let more = scan.next_batch(1024, &mut rows).await.map_err(from_kv)?;
        for (_, value) in &rows {
            let descriptor: Descriptor = serde_json::from_slice(value)
                .map_err(|e| PgError::internal(format!("a stored descriptor is malformed: {e}")))?;
            catalog.apply(&(descriptor.id(), Some(descriptor)));
        }
        if !more && rows.is_empty() {
            break;
        }
    }
    txn.rollback();
    Ok(catalog)
}

/// Takes `n` oids that follow each other; the answer is the first.
pub async fn take_oids(store: &Store, n: u32) -> Result<Oid> {
    let last = store.increment(OID_COUNTER, i64::from(n)).await.map_err(from_kv)?;
    let first = last + 1 - i64::from(n) + i64::from(FIRST_NORMAL_OID) - 1;
    u32::try_from(first).map_err(|_| PgError::internal("all oids have been given out"))
}

/// Writes all changes of a transaction's catalog into it, in place of what it wrote before.
pub fn write_changes(txn: &mut Txn, overlay: &Overlay) -> Result<()> {
    overlay.changes().try_for_each(|(id, descriptor)| put(txn, *id, descriptor.as_ref()))
}

/// Makes the changes of a committed transaction visible to new statements. To be called before the
/// transaction's table locks are released.
pub fn publish(node: &Node, overlay: &Overlay) {
    if !overlay.is_empty() {
        let dead = storage::left_behind(&node.catalog(), overlay);
        node.update_catalog(|catalog| catalog.with_changes(overlay));
        node.store().bury(dead);
    }
}

/// A failure of the KV layer as the client's error.
pub(crate) fn kv(e: KvError) -> PgError {
    from_kv(e)
}
