//! Sizes of relations, estimated: the bytes of keys and values that a scan would read, in pages.
//!
//! The store keeps no sizes by relation. Up to [`SAMPLE_ROWS`] rows are measured; of larger
//! relations the rest is taken from the row count of the last ANALYZE. The primary index is the
//! table itself and counts as such.

use meridian_catalog::{Relation, TableDesc, key};
use meridian_cluster::Span;
use meridian_types::Result;

use super::CatalogHost;
use crate::catalog_store::kv;

/// Rows that are measured.
const SAMPLE_ROWS: usize = 20_000;
/// Sizes are told in PostgreSQL's pages.
const PAGE_BYTES: u64 = 8192;

impl CatalogHost {
    /// `pg_relation_size` and its kin, by the name of the kernel.
    pub(super) fn size(&self, prosrc: &str, relation: &Relation) -> Result<i64> {
        let bytes = match relation {
            Relation::Table(table) => {
                let own = || self.index_bytes(table, &table.primary().index_id);
                let others = || {
                    let rest = table.indexes.iter().skip(1);
                    rest.map(|i| self.index_bytes(table, &i.index_id)).sum::<Result<u64>>()
                };
                match prosrc {
                    "pg_total_relation_size" => own()? + others()?,
                    "pg_indexes_size" => others()?,
                    _ => own()?,
                }
            }
            Relation::Index(table, id) if *id != table.primary().index_id => {
                self.index_bytes(table, id)?
            }
            Relation::Sequence(_) => PAGE_BYTES,
            _ => 0,
        };
        Ok(i64::try_from(bytes).unwrap_or(i64::MAX))
    }

    fn index_bytes(&self, table: &TableDesc, index: &u16) -> Result<u64> {
        let span = Span::prefix(&key::index_prefix(table.storage_id, *index));
        let (rows, mut bytes, whole) = self.node.store().sample(&span, SAMPLE_ROWS).map_err(kv)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an estimate"
        )]
        if let Some(estimate) = table.row_estimate.filter(|n| !whole && *n > rows as f64) {
            bytes = (bytes as f64 / rows as f64 * estimate) as u64;
        }
        Ok(bytes.div_ceil(PAGE_BYTES) * PAGE_BYTES)
    }
}
