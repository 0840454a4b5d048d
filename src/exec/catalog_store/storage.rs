//! Storage that no descriptor names any more: of dropped tables and indexes, of tables that were
//! truncated or rewritten.
//!
//! It is declared dead to the store when the change of the catalog has committed, while the
//! transaction still holds its exclusive locks, so that nobody reads it. The store forgets this when
//! it stops; what is left over is then found by looking which storage the store has keys in and the
//! catalog doesn't know. No list has to be kept for that: ids of storage are never given out twice.

use bytes::Bytes;
use meridian_catalog::{Catalog, Descriptor, Overlay, Relation, TableDesc, key};
use meridian_cluster::{Span, Store};
use meridian_types::Result;
use std::collections::{BTreeMap, BTreeSet};

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

/// All storage that this node's engine has keys in: one look for each index there is.
pub(super) fn present(store: &Store) -> Result<Vec<(u32, u16)>> {
    let everything = table_span(u32::MAX).end;
    let mut at: Bytes = table_span(FIRST_USER_STORAGE).start;
    let mut present = Vec::new();
    while at < everything {
        let rest = Span { start: at.clone(), end: everything.clone() };
        let first = store.first_key(&rest).map_err(kv)?;
        let Some((storage, index)) = first.and_then(|key| key::storage_of(&key)) else { break };
        present.push((storage, index));
        at = index_span(storage, index).end;
    }
    Ok(present)
}

/// What of it the catalog doesn't know, if the catalog was read later than the engine was looked at.
pub(super) fn unknown(present: &[(u32, u16)], catalog: &Catalog) -> Vec<Span> {
    let known: BTreeMap<u32, BTreeSet<u16>> = catalog
        .relations()
        .filter_map(|r| match r {
            Relation::Table(t) => Some((t.storage_id, index_ids(t))),
            _ => None,
        })
        .collect();
    let mut dead: Vec<Span> = Vec::new();
    for (storage, index) in present {
        match known.get(storage) {
            None => dead.push(table_span(*storage)),
            Some(indexes) if !indexes.contains(index) => dead.push(index_span(*storage, *index)),
            Some(_) => {}
        }
    }
    dead.dedup();
    dead
}

fn index_ids(table: &TableDesc) -> BTreeSet<u16> {
    table.indexes.iter().map(|i| i.index_id).collect()
}
