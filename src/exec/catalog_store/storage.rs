//! Storage that no descriptor names any more: of dropped tables and indexes, of tables that were
//! truncated or rewritten.
//!
//! It is declared dead to the store when the change of the catalog has committed, while the
//! transaction still holds its exclusive locks, so that nobody reads it. The store forgets this when
//! it stops; what is left over is then found by looking which storage the store has keys in and the
//! catalog doesn't know. No list has to be kept for that: ids of storage are never given out twice.

use bytes::Bytes;
use meridian_catalog::{Catalog, Descriptor, Overlay, Relation, TableDesc, key};
use meridian_cluster::{Span, Store, TxnOptions};
use meridian_types::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::kv;

/// Storage below this id is the system's own.
const FIRST_USER_STORAGE: u32 = 1000;

fn table_span(storage: u32) -> Span {
    let (start, end) = key::table_span(storage);
    Span { start: start.into(), end: end.into() }
}

fn index_span(storage: u32, index: u16) -> Span {
    Span::prefix(&key::index_prefix(storage, index))
}

/// What a transaction's changes of tables leave behind.
pub(super) fn left_behind(before: &Catalog, overlay: &Overlay) -> Vec<Span> {
    let mut dead = Vec::new();
    for (id, new) in overlay.changes() {
        let new = match new {
            Some(Descriptor::Table(new)) => Some(new),
            Some(_) => continue,
            None => None,
        };
        let Some(Relation::Table(old)) = before.relation(id.oid) else { continue };
        match new {
            Some(new) if new.storage_id == old.storage_id => {
                let gone = old.indexes.iter().filter(|i| new.index(i.index_id).is_none());
                dead.extend(gone.map(|i| index_span(old.storage_id, i.index_id)));
            }
            _ => dead.push(table_span(old.storage_id)),
        }
    }
    dead
}

/// Storage with keys in it that the catalog doesn't know: one look for each index there is.
pub(super) fn unknown(store: &Arc<Store>, catalog: &Catalog) -> Result<Vec<Span>> {
    let known: BTreeMap<u32, BTreeSet<u16>> = catalog
        .relations()
        .filter_map(|r| match r {
            Relation::Table(t) => Some((t.storage_id, index_ids(t))),
            _ => None,
        })
        .collect();
    let mut txn = store.begin(TxnOptions::default());
    let everything = table_span(u32::MAX).end;
    let mut at: Bytes = table_span(FIRST_USER_STORAGE).start;
    let mut dead = Vec::new();
    let mut rows = Vec::new();
    while at < everything {
        rows.clear();
        let rest = Span { start: at.clone(), end: everything.clone() };
        let mut scan = txn.scan(rest, false).map_err(kv)?;
        scan.next_batch(1, &mut rows).map_err(kv)?;
        let Some((storage, index)) = rows.first().and_then(|(key, _)| key::storage_of(key)) else {
            break;
        };
        let span = match known.get(&storage) {
            None => table_span(storage),
            Some(_) => index_span(storage, index),
        };
        at = span.end.clone();
        if known.get(&storage).is_none_or(|indexes| !indexes.contains(&index)) {
            dead.push(span);
        }
    }
    txn.rollback();
    Ok(dead)
}

fn index_ids(table: &TableDesc) -> BTreeSet<u16> {
    table.indexes.iter().map(|i| i.index_id).collect()
}
