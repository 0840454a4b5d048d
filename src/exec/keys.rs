//! Keys of rows: bytes that are equal exactly when PostgreSQL holds the values for equal.
//!
//! Grouping, DISTINCT, set operations, window partitions and ties all compare rows by such bytes.
//! Types whose Arrow form compares as PostgreSQL does go straight through Arrow's row format; the
//! others are first replaced by their sort key (the encoding that indexes use as well). NULLs are
//! equal to each other here, as GROUP BY wants it.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use meridian_types::{PgError, PgType};

use crate::error::from_arrow;
use crate::values;

/// Makes keys of some columns of batches.
pub(crate) struct Keyer {
    columns: Vec<(usize, PgType)>,
    converter: Option<RowConverter>,
}

/// The keys of one batch.
pub(crate) struct Keys(Option<Rows>);

impl Keys {
    /// The key of this row.
    pub(crate) fn get(&self, row: usize) -> &[u8] {
        self.0.as_ref().map_or(&[], |rows| rows.row(row).data())
    }
}

impl Keyer {
    pub(crate) fn new(columns: &[(usize, PgType)]) -> Result<Keyer, PgError> {
        let fields: Vec<SortField> = columns
            .iter()
            .map(|(_, ty)| {
                SortField::new(if values::is_native(*ty) {
                    values::data_type(*ty)
                } else {
                    DataType::Binary
                })
            })
            .collect();
        let converter = match fields.is_empty() {
            true => None,
            false => Some(RowConverter::new(fields).map_err(from_arrow)?),
        };
        Ok(Keyer { columns: columns.to_vec(), converter })
    }

    pub(crate) fn keys(&self, batch: &RecordBatch) -> Result<Keys, PgError> {
        let Some(converter) = &self.converter else { return Ok(Keys(None)) };
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (at, ty) in &self.columns {
            arrays.push(key_array(batch.column(*at), *ty)?);
        }
        Ok(Keys(Some(converter.convert_columns(&arrays).map_err(from_arrow)?)))
    }
}

/// The array itself, or its sort keys.
pub(crate) fn key_array(array: &ArrayRef, ty: PgType) -> Result<ArrayRef, PgError> {
    if values::is_native(ty) {
        return Ok(array.clone());
    }
    values::sort_key_array(array, ty)
}
