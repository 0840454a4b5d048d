//! Row codecs, made once for each version of a table.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_catalog::key::IndexCodec;
use meridian_catalog::row::TableCodec;
use meridian_catalog::{IndexDesc, TableDesc};
use meridian_types::{Datum, EvalContext, Result};

use crate::context::Node;
use crate::io;

/// A table with the codecs of its rows and index entries.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) desc: Arc<TableDesc>,
    pub(crate) codec: TableCodec,
    /// One for each of `desc.indexes`.
    pub(crate) indexes: Vec<IndexCodec>,
    /// Attnums of columns that a foreign key may refer to.
    key_columns: Vec<i16>,
}

/// The value with this attnum.
pub(crate) fn column(row: &[Datum], attnum: i16) -> &Datum {
    usize::try_from(attnum - 1).ok().and_then(|at| row.get(at)).unwrap_or(&Datum::Null)
}

/// Codecs by descriptor. A descriptor is immutable, so its address names it while it is held.
#[derive(Default, Debug)]
pub(crate) struct Codecs(HashMap<u32, Arc<Table>>);

/// Codecs kept at most; more tables than that are made anew in turn.
const KEPT_MAX: usize = 4096;

impl Table {
    pub(crate) fn new(desc: &Arc<TableDesc>) -> Result<Table> {
        let ctx = EvalContext::bare();
        let codec = TableCodec::new(desc, |ty, text| io::text_in(text, ty, &ctx))?;
        let indexes = desc.indexes.iter().map(|i| IndexCodec::new(desc, i)).collect();
        let is_key = |i: &&IndexDesc| {
            let plain = i.predicate.is_none() && i.columns.iter().all(|c| c.attnum.is_some());
            i.index_id == 1 || (i.unique && plain)
        };
        let keys = desc.indexes.iter().filter(is_key).flat_map(|i| &i.columns);
        let key_columns = keys.filter_map(|c| c.attnum).collect();
        Ok(Table { desc: desc.clone(), codec, indexes, key_columns })
    }

    /// Are two versions of a row the same for those who hold its key?
    pub(crate) fn same_key(&self, old: &[Datum], new: &[Datum]) -> bool {
        self.key_columns.iter().all(|a| column(old, *a) == column(new, *a))
    }
}

impl Node {
    /// The codecs of a table.
    pub(crate) fn table(&self, desc: &Arc<TableDesc>) -> Result<Arc<Table>> {
        let mut codecs = self.codecs().lock();
        if let Some(table) = codecs.0.get(&desc.oid)
            && (Arc::ptr_eq(&table.desc, desc) || *table.desc == **desc)
        {
            return Ok(table.clone());
        }
        let table = Arc::new(Table::new(desc)?);
        if codecs.0.len() >= KEPT_MAX {
            codecs.0.clear();
        }
        codecs.0.insert(desc.oid, table.clone());
        Ok(table)
    }
}
