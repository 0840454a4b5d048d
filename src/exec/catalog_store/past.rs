//! What a table was at an earlier time.

use std::sync::Arc;

use meridian_catalog::{Descriptor, IndexDesc, TableDesc};
use meridian_cluster::Txn;
use meridian_types::{PgError, Result, SqlState};

use super::{descriptor_key, kv};

/// Fails unless the table had the form that it has now when the transaction, which reads the past, reads.
pub async fn same_form_then(txn: &mut Txn, table: &Arc<TableDesc>) -> Result<()> {
    let key = descriptor_key(Descriptor::Table(Arc::clone(table)).id());
    let stored = txn.get(&key).await.map_err(kv)?;
    let Some(stored) = stored else {
        let text = format!("relation \"{}\" did not exist at that time", table.name);
        return Err(PgError::new(SqlState::UNDEFINED_TABLE, text));
    };
    let then = serde_json::from_slice(&stored)
        .map_err(|e| PgError::internal(format!("a stored descriptor is malformed: {e}")))?;
    match then {
        Descriptor::Table(then) if form(&then, table) == form(table, table) => Ok(()),
        _ => {
            let text = format!("relation \"{}\" has been altered since that time", table.name);
            Err(PgError::unsupported(text)
                .detail("AS OF SYSTEM TIME reads tables only in the form that they have now."))
        }
    }
}

/// What of a table decides how its rows are found and read, and what a plan may take for granted. Indexes
/// that are gone are used by no plan.
fn form(table: &TableDesc, now: &TableDesc) -> TableDesc {
    let table = table.clone();
    let columns = table.columns.into_iter().map(|mut column| {
        (column.comment, column.default) = (None, column.default.filter(|_| column.generated));
        column
    });
    let kept = |index: &IndexDesc| now.index(index.index_id).is_some();
    let indexes = table.indexes.into_iter().filter(kept).map(|mut index| {
        (index.comment, index.name) = (None, String::new());
        index
    });
    TableDesc {
        database: 0,
        schema: 0,
        name: String::new(),
        owner: 0,
        columns: columns.collect(),
        indexes: indexes.collect(),
        next_index_id: 0,
        options: Vec::new(),
        comment: None,
        acl: Default::default(),
        row_estimate: None,
        ..table
    }
}
